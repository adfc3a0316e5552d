//! Losses, metrics and optimizers by name, as configurations have them.

use serde::{Deserialize, Serialize};

use super::binary::BinaryCrossEntropy;
use super::classes::CrossEntropy;
use super::loss::Loss;
use super::metric::Metric;
use crate::error::{Error, Result};
use crate::optim::{
    Adadelta, Adagrad, Adam, AdamW, Adamax, Lamb, Lion, LossScale, NAdam, Optimizer, RmsProp,
    Schedule, Sgd,
};

/// A loss by name: `kind`, its settings, and what it looks at.
///
/// ```toml
/// [loss]
/// kind = "cross_entropy"
/// smoothing = 0.1
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LossSetting {
    /// `cross_entropy`, `binary_cross_entropy`, `mse`, `mae`, `huber`, `kl_divergence`, `hinge` or
    /// `triplet`.
    pub kind: String,
    /// Label smoothing of `cross_entropy`.
    #[serde(default)]
    pub smoothing: f64,
    /// What each class counts in `cross_entropy`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub weights: Vec<f64>,
    /// The class that counts nothing in `cross_entropy`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ignored: Option<u32>,
    /// Whether targets of `cross_entropy` are probabilities of the classes.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub probabilities: bool,
    /// What it weighs in `binary_cross_entropy` that something is there: a list of one number for all, or of one for each
    /// element of the last axis.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub positive_weights: Vec<f64>,
    /// δ of `huber`; 1 if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delta: Option<f64>,
    /// The margin of `triplet`; 1 if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub margin: Option<f64>,
    /// The outputs that it looks at; the model's first ones if not given.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub of: Vec<String>,
    /// The columns that it takes as targets; `target` if not given.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub against: Vec<String>,
    /// What it is multiplied by; 1 if not given.
    #[serde(default = "one")]
    pub factor: f64,
}

fn one() -> f64 {
    1.0
}

/// The losses that [`LossSetting`] knows.
const LOSSES: &[&str] = &[
    "cross_entropy",
    "binary_cross_entropy",
    "mse",
    "mae",
    "huber",
    "kl_divergence",
    "hinge",
    "triplet",
];

impl LossSetting {
    /// A loss by name alone.
    pub fn named(kind: &str) -> Self {
        Self {
            kind: kind.into(),
            smoothing: 0.0,
            weights: vec![],
            ignored: None,
            probabilities: false,
            positive_weights: vec![],
            delta: None,
            margin: None,
            of: vec![],
            against: vec![],
            factor: 1.0,
        }
    }

    /// The loss.
    ///
    /// # Errors
    /// [`Error::UnknownName`] with the nearest name, [`Error::Setting`] for a setting that this loss
    /// does not have or a factor that is not finite.
    pub fn build(&self) -> Result<Loss> {
        if !LOSSES.contains(&self.kind.as_str()) {
            return Err(Error::unknown("loss", &self.kind, LOSSES));
        }
        let classes = self.kind == "cross_entropy";
        let wrong = [
            ("smoothing", self.smoothing != 0.0 && !classes),
            ("weights", !self.weights.is_empty() && !classes),
            ("ignored", self.ignored.is_some() && !classes),
            ("probabilities", self.probabilities && !classes),
            (
                "positive_weights",
                !self.positive_weights.is_empty() && self.kind != "binary_cross_entropy",
            ),
            ("delta", self.delta.is_some() && self.kind != "huber"),
            ("margin", self.margin.is_some() && self.kind != "triplet"),
        ];
        if let Some((name, _)) = wrong.iter().find(|(_, wrong)| *wrong) {
            let wanted = "a setting that this loss has";
            return Err(Error::setting(format!("loss {}", self.kind), *name, wanted));
        }
        let positive = |name: &str, value: Option<f64>| match value.unwrap_or(1.0) {
            value if value > 0.0 && value.is_finite() => Ok(value),
            value => {
                let name = format!("{name} of {}", self.kind);
                Err(Error::setting(name, value, "a positive number"))
            }
        };
        let mut loss = match self.kind.as_str() {
            "cross_entropy" => Loss::of_criterion(CrossEntropy {
                smoothing: self.smoothing,
                weights: self.weights.clone(),
                ignored: self.ignored,
                probabilities: self.probabilities,
            }),
            "binary_cross_entropy" => Loss::of_criterion(BinaryCrossEntropy {
                positive_weights: self.positive_weights.clone(),
            }),
            "mse" => Loss::mse(),
            "mae" => Loss::mae(),
            "huber" => Loss::huber(positive("delta", self.delta)?),
            "kl_divergence" => Loss::kl_divergence(),
            "hinge" => Loss::hinge(),
            _ => Loss::triplet(positive("margin", self.margin)?),
        };
        if !self.factor.is_finite() {
            return Err(Error::setting(
                "factor of a loss",
                self.factor,
                "a finite number",
            ));
        }
        for output in &self.of {
            loss = loss.of(output);
        }
        for target in &self.against {
            loss = loss.against(target);
        }
        Ok(loss * self.factor)
    }
}

/// The metrics that configurations know.
const METRICS: &[&str] = &[
    "accuracy",
    "top-<k>",
    "binary_accuracy",
    "mae",
    "mse",
    "rmse",
    "r2",
    "confusion",
    "auc",
    "perplexity",
];

/// A metric by name.
///
/// # Errors
/// [`Error::UnknownName`] with the nearest name.
pub fn metric(name: &str) -> Result<Metric> {
    Ok(match name {
        "accuracy" => Metric::accuracy(),
        "binary_accuracy" => Metric::binary_accuracy(),
        "mae" => Metric::mae(),
        "mse" => Metric::mse(),
        "rmse" => Metric::rmse(),
        "r2" => Metric::r2(),
        "confusion" => Metric::confusion(),
        "auc" => Metric::auc(),
        "perplexity" => Metric::perplexity(),
        other => match other.strip_prefix("top-").and_then(|k| k.parse().ok()) {
            Some(k) if k > 0 => Metric::top(k),
            _ => return Err(Error::unknown("metric", other, METRICS)),
        },
    })
}

/// An optimizer by name: `kind`, its rate, and the settings of its rule, with PyTorch's defaults.
///
/// ```toml
/// [optimizer]
/// kind = "adamw"
/// rate = 0.001
/// decay = 0.01
/// clip_norm = 1.0
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OptimizerSetting {
    /// `sgd`, `adam`, `adamw`, `rmsprop`, `adagrad`, `adadelta`, `adamax`, `nadam`, `lion` or `lamb`.
    pub kind: String,
    /// The learning rate.
    pub rate: f64,
    /// μ of `sgd` and `rmsprop`.
    #[serde(default)]
    pub momentum: f64,
    /// Nesterov's form of `sgd`.
    #[serde(default)]
    pub nesterov: bool,
    /// Decay of the weights, in each rule's own form: L2 of `sgd` and `adam`, decoupled of `adamw`,
    /// `lion` and `lamb`. Of `adamw` 0.01 if not given, else 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decay: Option<f64>,
    /// L1 decay of `sgd`.
    #[serde(default)]
    pub l1: f64,
    /// β₁ and β₂ of the rules that have them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub betas: Option<[f64; 2]>,
    /// ε of the rules that have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epsilon: Option<f64>,
    /// The largest norm of all gradients together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clip_norm: Option<f64>,
    /// The largest size of each gradient's elements.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clip_value: Option<f64>,
    /// How the rate changes; it stays if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule: Option<ScheduleSetting>,
    /// d of the exponential moving average of the weights that is then evaluated and kept
    /// ([`Optimizer::average`]); there is none if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub average: Option<f64>,
}

/// A loss scale: `dynamic`, or a number that stays ([`LossScale`]).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(
    untagged,
    expecting = "a loss scale is \"dynamic\" or a power of two, such as 1024"
)]
pub enum LossScaleSetting {
    /// By name.
    Named(String),
    /// This number.
    Fixed(f64),
}

impl LossScaleSetting {
    /// The scale.
    ///
    /// # Errors
    /// [`Error::UnknownName`] with the nearest name.
    pub fn build(&self) -> Result<LossScale> {
        match self {
            Self::Named(name) if name == "dynamic" => Ok(LossScale::dynamic()),
            Self::Named(name) => Err(Error::unknown("loss scale", name, &["dynamic"])),
            Self::Fixed(scale) => Ok(LossScale::fixed(*scale)),
        }
    }
}

/// How a rate changes over a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum ScheduleSetting {
    /// Down to `end` by half a cosine over the whole run, after a warm-up.
    Cosine {
        /// Epochs of the warm-up.
        #[serde(default)]
        warm_up: f64,
        /// The factor at the end.
        #[serde(default)]
        end: f64,
    },
    /// One cycle over the whole run (Smith and Topin 2018).
    OneCycle,
    /// Times `factor` after each `every` epochs.
    Step {
        /// Epochs.
        every: f64,
        /// The factor.
        factor: f64,
    },
    /// Down to `end` by a power over the whole run; 1 is a line.
    Polynomial {
        /// The power.
        power: f64,
        /// The factor at the end.
        #[serde(default)]
        end: f64,
    },
}

impl ScheduleSetting {
    fn build(&self, epochs: usize, epoch_steps: usize) -> Result<Schedule> {
        let held = |name: &str, value: f64, from: f64| match value.is_finite() && value >= from {
            true => Ok(()),
            false => {
                let wanted = format!("a finite number from {from} on");
                let name = format!("{name} of the schedule");
                Err(Error::setting(name, value, wanted))
            }
        };
        match *self {
            Self::Cosine { warm_up, end } => {
                held("warm_up", warm_up, 0.0).and(held("end", end, 0.0))?;
            }
            Self::OneCycle => {}
            Self::Step { every, factor } => {
                held("every", every, 0.0).and(held("factor", factor, 0.0))?;
            }
            Self::Polynomial { power, end } => {
                held("power", power, 0.0).and(held("end", end, 0.0))?;
            }
        }
        let all = epochs.saturating_mul(epoch_steps) as u64;
        let steps = |epochs: f64| (epochs * epoch_steps as f64).round() as u64;
        if let Self::Step { every, .. } = *self
            && steps(every) == 0
        {
            let wanted = format!("epochs, at least one step of {epoch_steps} in an epoch");
            return Err(Error::setting("every of the schedule", every, wanted));
        }
        Ok(match *self {
            Self::Cosine { warm_up, end } => {
                let first = steps(warm_up).min(all.saturating_sub(1));
                Schedule::cosine(all - first).to(end).warm_up(first)
            }
            Self::OneCycle => Schedule::one_cycle(all),
            Self::Step { every, factor } => Schedule::step(steps(every), factor),
            Self::Polynomial { power, end } => Schedule::polynomial(all, power, end),
        })
    }
}

/// The rules that [`OptimizerSetting`] knows.
const RULES: &[&str] = &[
    "sgd", "adam", "adamw", "rmsprop", "adagrad", "adadelta", "adamax", "nadam", "lion", "lamb",
];

impl OptimizerSetting {
    /// The optimizer of a run of so many epochs and steps in each.
    ///
    /// # Errors
    /// [`Error::UnknownName`] with the nearest name, [`Error::Setting`] for a setting that this rule
    /// does not have.
    pub fn build(&self, epochs: usize, epoch_steps: usize) -> Result<Optimizer> {
        let kind = self.kind.as_str();
        let has = |kinds: &[&str]| kinds.contains(&kind);
        if !RULES.contains(&kind) {
            return Err(Error::unknown("optimizer", kind, RULES));
        }
        let betas = ["adam", "adamw", "adamax", "nadam", "lion", "lamb"];
        let wrong = [
            (
                "momentum",
                self.momentum != 0.0 && !has(&["sgd", "rmsprop"]),
            ),
            ("nesterov", self.nesterov && !has(&["sgd"])),
            ("l1", self.l1 != 0.0 && !has(&["sgd"])),
            ("betas", self.betas.is_some() && !has(&betas)),
            ("epsilon", self.epsilon.is_some() && has(&["sgd", "lion"])),
        ];
        if let Some((name, _)) = wrong.iter().find(|(_, wrong)| *wrong) {
            let wanted = "a setting that this optimizer has";
            return Err(Error::setting(format!("optimizer {kind}"), *name, wanted));
        }
        // A rule's defaults, with what is given in their stead.
        macro_rules! given {
            ($defaults:expr; $($field:ident),*) => {{
                let mut rule = $defaults;
                $(
                    if let Some(value) = self.$field {
                        rule.$field = value;
                    }
                )*
                rule
            }};
        }
        let mut optimizer = match kind {
            "adam" => Optimizer::new(given!(Adam::default(); betas, epsilon, decay), self.rate),
            "adamw" => {
                let rule = given!(AdamW::default().0; betas, epsilon, decay);
                Optimizer::new(AdamW(rule), self.rate)
            }
            "lamb" => {
                let rule = given!(Lamb::default().0; betas, epsilon, decay);
                Optimizer::new(Lamb(rule), self.rate)
            }
            "adamax" => Optimizer::new(given!(Adamax::default(); betas, epsilon, decay), self.rate),
            "nadam" => Optimizer::new(given!(NAdam::default(); betas, epsilon, decay), self.rate),
            "lion" => Optimizer::new(given!(Lion::default(); betas, decay), self.rate),
            "adagrad" => Optimizer::new(given!(Adagrad::default(); epsilon, decay), self.rate),
            "adadelta" => Optimizer::new(given!(Adadelta::default(); epsilon, decay), self.rate),
            "rmsprop" => {
                let mut rule = given!(RmsProp::default(); epsilon, decay);
                rule.momentum = self.momentum;
                Optimizer::new(rule, self.rate)
            }
            _ => {
                let rule = Sgd {
                    momentum: self.momentum,
                    nesterov: self.nesterov,
                    l2: self.decay.unwrap_or(0.0),
                    l1: self.l1,
                };
                Optimizer::new(rule, self.rate)
            }
        };
        if let Some(norm) = self.clip_norm {
            optimizer = optimizer.clip_norm(norm);
        }
        if let Some(value) = self.clip_value {
            optimizer = optimizer.clip_value(value);
        }
        if let Some(decay) = self.average {
            optimizer = optimizer.average(decay);
        }
        if let Some(schedule) = &self.schedule {
            optimizer = optimizer.schedule(schedule.build(epochs, epoch_steps)?);
        }
        Ok(optimizer)
    }
}

//! What a training run is told.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::nn::Recipe;
use crate::ops::distort::Distortion;
use crate::ops::gather::Expansion;

/// The parameter λ of weight decay, and what it is divided by.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Decay {
    /// λ/n, n the number of training examples (chapter 3).
    PerExample(f64),
    /// λ/m, m the number of mini-batches in an epoch (chapter 6's `network3.py`).
    PerBatch(f64),
}

impl Decay {
    /// No decay.
    pub const NONE: Self = Self::PerExample(0.0);

    /// What a weight is pulled with, given examples and mini-batches of an epoch.
    pub(super) fn coefficient(self, examples: usize, batches: usize) -> f64 {
        match self {
            Self::PerExample(lambda) => lambda / examples as f64,
            Self::PerBatch(lambda) => lambda / batches as f64,
        }
    }

    fn lambda(self) -> f64 {
        match self {
            Self::PerExample(lambda) | Self::PerBatch(lambda) => lambda,
        }
    }
}

/// What a training run is told. [`Default`] is plain SGD at mini-batch 10.
///
/// As JSON, names that are missing have their default.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Epochs.
    pub epochs: usize,
    /// Mini-batch. An epoch drops the examples left over by the last whole mini-batch
    /// (other ones each time, since every epoch is shuffled anew).
    pub batch: usize,
    /// Learning rate of each epoch; the last holds on.
    pub learning_rates: Vec<f64>,
    /// Momentum μ, 0 for none.
    pub momentum: f64,
    /// L2 decay of weights.
    pub l2: Decay,
    /// L1 decay of weights.
    pub l1: Decay,
    /// The seed: everything random follows from it, the replica and the place of use.
    pub seed: u64,
    /// Networks trained at once.
    pub replicas: usize,
    /// Identity of the first replica: with 3, this run's only replica is what the
    /// fourth of a larger run would be.
    pub first_replica: usize,
    /// Virtual expansion of the training images.
    pub expansion: Expansion,
    /// Random distortion of training images, anew in every step and after expansion.
    pub distortion: Distortion,
    /// The first epoch (counted from 1) whose final weights enter the running mean that is
    /// then evaluated and saved in place of the weights; `None` for no mean. Not together
    /// with `stop_after` or `halve_after`: the mean of a replica that has stopped would go on.
    pub average_from: Option<usize>,
    /// Images in one evaluation step.
    pub evaluation_batch: usize,
    /// Whether ops are fused.
    pub fuse: bool,
    /// Factors on the learning rates, one per replica; empty for 1 each. A sweep over
    /// rates is one plan.
    pub replica_rates: Vec<f64>,
    /// A replica stops after so many epochs in a row without a new best validation
    /// accuracy; its weights then stay as they are. See [`Standing`](super::Standing).
    pub stop_after: Option<usize>,
    /// A replica's learning rates are halved after so many epochs without a new best
    /// validation accuracy; the seventh halving, η/128, stops it.
    pub halve_after: Option<usize>,
    /// Whether the training images themselves are evaluated after each epoch
    /// ([`Epoch::set_cost`](super::Epoch::set_cost)); it costs a forward pass over them.
    pub measure_training: bool,
    /// Evaluate after every so many epochs, and after the first and the last. The epochs
    /// between repeat the evaluation before them. 1 under `stop_after` and `halve_after`,
    /// which count evaluations.
    pub evaluate_every: usize,
    /// Every so many steps one launch is computed again by the reference, and the run
    /// ends if they disagree; 0 for never.
    pub verify_every: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            epochs: 10,
            batch: 10,
            learning_rates: vec![0.1],
            momentum: 0.0,
            l2: Decay::NONE,
            l1: Decay::NONE,
            seed: 1,
            replicas: 1,
            first_replica: 0,
            expansion: Expansion::None,
            distortion: Distortion::NONE,
            average_from: None,
            evaluation_batch: 100,
            fuse: true,
            replica_rates: vec![],
            stop_after: None,
            halve_after: None,
            measure_training: false,
            evaluate_every: 1,
            verify_every: 0,
        }
    }
}

impl From<&Recipe> for Settings {
    fn from(recipe: &Recipe) -> Self {
        Self {
            epochs: recipe.epochs,
            learning_rates: vec![recipe.learning_rate],
            l2: if recipe.l2_per_batch > 0.0 {
                Decay::PerBatch(recipe.l2_per_batch)
            } else {
                Decay::PerExample(recipe.l2_per_example)
            },
            expansion: if recipe.expand {
                Expansion::Shifts
            } else {
                Expansion::None
            },
            ..Self::default()
        }
    }
}

impl Settings {
    /// Checks every setting against its range and the number of training images.
    ///
    /// # Errors
    /// [`Error::Setting`] naming the first that is out of range.
    pub fn check(&self, images: usize) -> Result<()> {
        let range = |name: &str, value: usize, low: usize, high: usize| {
            if (low..=high).contains(&value) {
                return Ok(());
            }
            Err(Error::setting(name, value, format!("{low} to {high}")))
        };
        range("epochs", self.epochs, 1, 1_000_000)?;
        range("batch", self.batch, 1, images * self.expansion.factor())?;
        range("replicas", self.replicas, 1, 4096)?;
        range("first replica", self.first_replica, 0, 1 << 30)?;
        self.distortion.check()?;
        if let Some(from) = self.average_from {
            range("first epoch averaged", from, 1, self.epochs)?;
        }
        range("evaluation batch", self.evaluation_batch, 1, 65_535)?;
        range("evaluate every", self.evaluate_every, 1, 1_000_000)?;
        let rules = [
            ("stop after", self.stop_after),
            ("halve after", self.halve_after),
        ];
        for (name, epochs) in rules {
            range(name, epochs.unwrap_or(1), 1, 1_000_000)?;
        }
        if self.has_rules() {
            // The mean of a replica that has stopped would still move with the others'
            // epochs, and be evaluated by the very rule.
            if let Some(from) = self.average_from {
                let wanted = "none where replicas stop or halve their rates by validation";
                return Err(Error::setting("first epoch averaged", from, wanted));
            }
            if self.evaluate_every > 1 {
                let wanted = "1 where replicas stop or halve their rates by validation";
                return Err(Error::setting(
                    "evaluate every",
                    self.evaluate_every,
                    wanted,
                ));
            }
        }
        let own = self.replica_rates.len();
        if own != 0 && own != self.replicas {
            let wanted = format!("none, or one for each of {} replicas", self.replicas);
            return Err(Error::setting("replica rates", own, wanted));
        }
        let finite = |name: &str, value: f64| {
            if value.is_finite() && value >= 0.0 {
                return Ok(());
            }
            Err(Error::setting(name, value, "a finite number, at least 0"))
        };
        if self.learning_rates.is_empty() {
            return Err(Error::setting("learning rates", "none", "at least one"));
        }
        for &rate in self.learning_rates.iter().chain(&self.replica_rates) {
            finite("learning rate", rate)?;
        }
        finite("l2", self.l2.lambda())?;
        finite("l1", self.l1.lambda())?;
        if !(0.0..1.0).contains(&self.momentum) {
            return Err(Error::setting("momentum", self.momentum, "0 to below 1"));
        }
        let steps = (images * self.expansion.factor() / self.batch) as u64 * self.epochs as u64;
        if steps > u64::from(u32::MAX) {
            return Err(Error::setting(
                "epochs",
                self.epochs,
                "at most 2^32 steps in all",
            ));
        }
        Ok(())
    }
}

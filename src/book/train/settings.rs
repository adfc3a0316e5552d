//! What a training run is told.

use serde::{Deserialize, Serialize};

use super::schedule::MOST_HALVINGS;
use crate::book::nn::Recipe;
use crate::error::{Error, Result};
use crate::ops::distort::Distortion;
use crate::ops::gather::Expansion;
use crate::tensor::{HELD, held};

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

    pub(super) fn lambda(self) -> f64 {
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
    /// What weights are pulled with, L2 and L1, given so many training images.
    pub(super) fn decay(&self, images: usize) -> [f64; 2] {
        let examples = images * self.expansion.factor();
        [self.l2, self.l1].map(|decay| decay.coefficient(examples, examples / self.batch))
    }

    /// Checks the numbers that devices compute with as they are there: in f32, rates with their
    /// replicas' factors and halvings, decays divided.
    fn check_narrow(&self, examples: usize) -> Result<()> {
        // Where rates are halved, also when that was done as often as it may be.
        let least = match self.halve_after {
            Some(_) => 0.5f64.powi(MOST_HALVINGS as i32 - 1),
            None => 1.0,
        };
        for &rate in &self.learning_rates {
            if !held(rate) {
                return Err(Error::setting("learning rate", rate, HELD));
            }
            for &own in &self.replica_rates {
                if !held(rate * own) {
                    let found = format!("{rate} times a replica rate of {own}");
                    return Err(Error::setting("learning rate", found, HELD));
                }
            }
            let owns = self.replica_rates.iter().copied().chain([1.0]);
            for halved in owns.map(|own| rate * own * least) {
                if !held(halved) {
                    let found = format!("{rate}, halved to {halved}");
                    return Err(Error::setting("learning rate", found, HELD));
                }
            }
        }
        if !held(self.momentum) || self.momentum as f32 >= 1.0 {
            let wanted = "0, or 1.2e-38 to 0.99999994 as 32-bit floats have it";
            return Err(Error::setting("momentum", self.momentum, wanted));
        }
        for (name, decay) in [("l2", self.l2), ("l1", self.l1)] {
            let divided = decay.coefficient(examples, examples / self.batch);
            if !held(divided) {
                let found = format!("{}, divided {divided}", decay.lambda());
                return Err(Error::setting(name, found, HELD));
            }
        }
        Ok(())
    }

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
        for &rate in &self.learning_rates {
            finite("learning rate", rate)?;
        }
        for &rate in &self.replica_rates {
            finite("replica rate", rate)?;
        }
        finite("l2", self.l2.lambda())?;
        finite("l1", self.l1.lambda())?;
        if !(0.0..1.0).contains(&self.momentum) {
            return Err(Error::setting("momentum", self.momentum, "0 to below 1"));
        }
        let examples = images * self.expansion.factor();
        self.check_narrow(examples)?;
        let steps = (examples / self.batch) as u64 * self.epochs as u64;
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

#[cfg(test)]
mod tests {
    use super::*;

    /// What f64 has and f32 lacks would train nothing, or something else, without a word.
    #[test]
    fn numbers_are_checked_as_devices_have_them() {
        let refused = |change: &dyn Fn(&mut Settings)| {
            let mut settings = Settings {
                replicas: 2,
                ..Settings::default()
            };
            change(&mut settings);
            settings.check(1000).err().map(|e| e.to_string())
        };
        for (change, start) in [
            (
                &(|s: &mut Settings| s.learning_rates = vec![0.1, 1e-50]) as &dyn Fn(&mut Settings),
                "learning rate: found 0.00000",
            ),
            (
                &|s| s.learning_rates = vec![1e39],
                "learning rate: found 1000",
            ),
            (
                &|s| (s.learning_rates, s.replica_rates) = (vec![1e-20], vec![1.0, 1e-20]),
                "learning rate: found 0.00000000000000000001 times a replica rate of",
            ),
            (
                &|s| (s.learning_rates, s.replica_rates) = (vec![1e20], vec![1.0, 1e20]),
                "learning rate: found 100000000000000000000 times a replica rate of",
            ),
            (
                &|s| (s.learning_rates, s.halve_after) = (vec![2e-38], Some(1)),
                "learning rate: found 0.00000000000000000000000000000000000002, halved to",
            ),
            (
                &|s| s.momentum = 0.99999999999,
                "momentum: found 0.99999999999",
            ),
            (&|s| s.momentum = 1e-50, "momentum: found 0.00000"),
            (&|s| s.l2 = Decay::PerExample(1e-36), "l2: found 0.00000"),
            (&|s| s.l1 = Decay::PerBatch(1e-37), "l1: found 0.00000"),
            (&|s| s.l1 = Decay::PerBatch(1e42), "l1: found 1000"),
            (
                &|s| s.distortion.rotation = 1e-40,
                "distortion rotation: found 0.00000",
            ),
            (
                &|s| s.distortion.scale = 0.99999999999,
                "distortion scale: found 0.99999999999",
            ),
            (
                &|s| s.distortion.scale = 1e-40,
                "distortion scale: found 0.00000",
            ),
            (
                &|s| s.distortion.shear = 1e-40,
                "distortion shear: found 0.00000",
            ),
            (
                &|s| s.distortion.shift = 1e-40,
                "distortion shift: found 0.00000",
            ),
            (
                &|s| s.distortion.alpha = 1e-40,
                "distortion alpha: found 0.00000",
            ),
        ] {
            let said = refused(change).unwrap_or_else(|| panic!("accepted: {start}"));
            assert!(said.starts_with(start), "{said}");
        }
        for change in [
            &(|s: &mut Settings| s.learning_rates = vec![0.0, 1e-30, 3e38])
                as &dyn Fn(&mut Settings),
            &|s| s.replica_rates = vec![0.0, 1e38],
            &|s| s.momentum = 0.9999999,
            &|s| s.l2 = Decay::PerExample(1e-30),
            &|s| (s.learning_rates, s.halve_after) = (vec![1e-36], Some(1)),
        ] {
            assert_eq!(refused(change), None);
        }
    }

    /// Names that are missing in JSON are as by default.
    #[test]
    fn settings_survive_json() {
        let settings = Settings {
            learning_rates: vec![0.1 + 0.2],
            l2: Decay::PerBatch(0.1),
            distortion: Distortion::elastic(),
            average_from: Some(3),
            ..Settings::default()
        };
        let text = serde_json::to_string(&settings).unwrap();
        assert_eq!(serde_json::from_str::<Settings>(&text).unwrap(), settings);
        let some: Settings = serde_json::from_str(r#"{"seed":7}"#).unwrap();
        assert_eq!(
            some,
            Settings {
                seed: 7,
                ..Settings::default()
            }
        );
    }
}

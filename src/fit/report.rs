//! What a run found, epoch by epoch.

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use crate::json::nullable;

/// Loss and metrics of a data set, of one replica.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Scores {
    /// The mean loss over all examples.
    #[serde(deserialize_with = "or_nan")]
    pub loss: f64,
    /// The metrics' values by name, in their order.
    #[serde(serialize_with = "as_map", deserialize_with = "from_map")]
    pub metrics: Vec<(String, f64)>,
}

fn as_map<S: serde::Serializer>(pairs: &[(String, f64)], to: S) -> Result<S::Ok, S::Error> {
    to.collect_map(pairs.iter().map(|(name, value)| (name, value)))
}

/// JSON has `null` for what is not finite.
fn or_nan<'de, D: Deserializer<'de>>(from: D) -> Result<f64, D::Error> {
    Ok(Option::<f64>::deserialize(from)?.unwrap_or(f64::NAN))
}

/// A map in its order.
fn from_map<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<(String, f64)>, D::Error> {
    struct Pairs;
    impl<'de> Visitor<'de> for Pairs {
        type Value = Vec<(String, f64)>;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("numbers by name")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut pairs = Vec::new();
            while let Some((name, value)) = map.next_entry::<String, Option<f64>>()? {
                pairs.push((name, value.unwrap_or(f64::NAN)));
            }
            Ok(pairs)
        }
    }
    from.deserialize_map(Pairs)
}

/// Whether a metric's number is of one class of [`Metric::confusion`](super::Metric::confusion), or a cell of its
/// table: `recall 3`, `confusion 0 2`. There are as many as classes or more, so that a line or a plot of all
/// numbers leaves them out.
pub fn is_of_one_class(name: &str) -> bool {
    let mut words = name.split(' ');
    let classes = match words.next() {
        Some("precision" | "recall" | "f1") => 1,
        Some("confusion") => 2,
        _ => return false,
    };
    let rest: Vec<&str> = words.collect();
    rest.len() == classes && rest.iter().all(|word| word.parse::<usize>().is_ok())
}

impl Scores {
    /// `loss`, or a metric by name.
    pub fn get(&self, name: &str) -> Option<f64> {
        match name {
            "loss" => Some(self.loss),
            name => {
                let found = self.metrics.iter().find(|(other, _)| other == name);
                found.map(|(_, value)| *value)
            }
        }
    }
}

/// The name of the mean loss of an epoch's steps.
const TRAINING_LOSS: &str = "training loss";
/// What names of numbers of evaluated data begin with.
pub(super) const TRAINING_SET: &str = "training set ";
pub(super) const VALIDATION: &str = "validation ";

/// A name of [`Epoch::get`] without the data that it is of.
pub fn bare_name(name: &str) -> &str {
    let mut stripped = [VALIDATION, TRAINING_SET].iter();
    let found = stripped.find_map(|set| name.strip_prefix(set));
    found.unwrap_or(name)
}

/// One epoch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Epoch {
    /// Its number, from 1.
    pub epoch: usize,
    /// Training steps so far.
    pub steps: u64,
    /// The mean loss of the epoch's steps, of each replica.
    #[serde(with = "nullable")]
    pub training_loss: Vec<f64>,
    /// The replicas of a sweep that are lost ([`Report::lost`]): they count in no mean.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lost: Vec<usize>,
    /// How many training steps each replica has skipped so far since its gradients were not finite, where the
    /// optimizer has a loss scale ([`Optimizer::loss_scale`](crate::optim::Optimizer::loss_scale)).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub skipped_steps: Vec<u64>,
    /// What each replica scores on the validation data, where there is some; nothing in an epoch after which it is not
    /// evaluated ([`Fit::evaluate_every`](super::Fit::evaluate_every)).
    pub validation: Vec<Scores>,
    /// What each replica scores on the training data as they are, where that is measured
    /// ([`Fit::measure_training`](super::Fit::measure_training)).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub training: Vec<Scores>,
    /// Seconds since the run began.
    pub seconds: f64,
}

impl Epoch {
    /// A number of this epoch, the mean over replicas: `training loss`, `validation loss`, `validation <metric>` and,
    /// where the training data are evaluated too, `training set loss`, `training set <metric>`.
    pub fn get(&self, name: &str) -> Option<f64> {
        if name == TRAINING_LOSS {
            let losses = self.training_loss.iter().copied();
            return Some(mean(&losses.collect::<Vec<f64>>(), &self.lost));
        }
        let (scores, name) = self.scores(name)?;
        mean_of(scores, name, &self.lost)
    }

    /// [`Epoch::get`] of one replica.
    pub fn get_of(&self, name: &str, replica: usize) -> Option<f64> {
        if name == TRAINING_LOSS {
            return self.training_loss.get(replica).copied();
        }
        let (scores, name) = self.scores(name)?;
        scores.get(replica)?.get(name)
    }

    /// The scores that a number is of, and its name there.
    fn scores<'n>(&self, name: &'n str) -> Option<(&[Scores], &'n str)> {
        if let Some(name) = name.strip_prefix(VALIDATION) {
            return Some((&self.validation, name));
        }
        let name = name.strip_prefix(TRAINING_SET)?;
        Some((&self.training, name))
    }

    /// Whether this epoch lacks a number since what it is of was not evaluated after it.
    pub(super) fn passes_over(&self, name: &str) -> bool {
        matches!(self.scores(name), Some(([], _)))
    }

    /// The names that [`Epoch::get`] knows.
    pub fn names(&self) -> Vec<String> {
        let mut names = vec![TRAINING_LOSS.to_string()];
        for (set, scores) in [
            (TRAINING_SET, &self.training),
            (VALIDATION, &self.validation),
        ] {
            if let Some(scores) = scores.first() {
                let metrics = scores.metrics.iter().map(|(name, _)| name.as_str());
                let all = std::iter::once("loss").chain(metrics);
                names.extend(all.map(|name| format!("{set}{name}")));
            }
        }
        names
    }
}

/// The mean over replicas, but for those that are lost.
fn mean(values: &[f64], lost: &[usize]) -> f64 {
    let counted = values.iter().enumerate().filter(|(r, _)| !lost.contains(r));
    let counted: Vec<f64> = counted.map(|(_, &value)| value).collect();
    counted.iter().sum::<f64>() / counted.len().max(1) as f64
}

fn mean_of(scores: &[Scores], name: &str, lost: &[usize]) -> Option<f64> {
    let values: Option<Vec<f64>> = scores.iter().map(|scores| scores.get(name)).collect();
    let values = values.filter(|values| !values.is_empty())?;
    Some(mean(&values, lost))
}

/// A replica of a sweep whose loss or weights have stopped being finite ([`Fit::sweep`](super::Fit::sweep)).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lost {
    /// Its number in the sweep, from 0.
    pub replica: usize,
    /// The epoch, from 1, in which it was seen.
    pub epoch: usize,
    /// The step, counted from 0, where the device has noted it.
    pub step: Option<u64>,
}

/// A whole run.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Report {
    /// The device.
    pub device: String,
    /// The loss that was minimised.
    pub loss: String,
    /// How many numbers are trained, in one replica.
    pub parameters: usize,
    /// The epochs.
    pub epochs: Vec<Epoch>,
    /// The epoch whose weights came of it, of each replica.
    pub chosen_epochs: Vec<usize>,
    /// The replicas of a sweep whose loss or weights have stopped being finite ([`Fit::sweep`](super::Fit::sweep)).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub lost: Vec<Lost>,
    /// What each replica scores on the test data, where there is some.
    pub test: Vec<Scores>,
}

impl Report {
    /// A number of the test data, the mean over replicas: `loss`, or a metric by name.
    pub fn test(&self, name: &str) -> Option<f64> {
        let lost: Vec<usize> = self.lost.iter().map(|lost| lost.replica).collect();
        mean_of(&self.test, name, &lost)
    }

    /// Notes a replica as lost, unless it is known to be.
    pub(super) fn lose(&mut self, lost: Lost) {
        if !self.is_lost(lost.replica) {
            self.lost.push(lost);
        }
    }

    /// Whether a replica is lost.
    pub fn is_lost(&self, replica: usize) -> bool {
        self.lost.iter().any(|lost| lost.replica == replica)
    }

    /// The epochs whose weights came of it, as text: one number, or that of each replica.
    pub fn chosen_text(&self) -> String {
        let mut all: Vec<String> = self.chosen_epochs.iter().map(usize::to_string).collect();
        all.dedup();
        match &all[..] {
            [one] => one.clone(),
            _ => self
                .chosen_epochs
                .iter()
                .map(usize::to_string)
                .collect::<Vec<_>>()
                .join(", "),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_single_classes_are_told_from_others() {
        for name in ["precision 0", "recall 17", "f1 3", "confusion 0 2"] {
            assert!(is_of_one_class(name), "{name}");
        }
        for name in [
            "recall",
            "recall at 5",
            "top 3",
            "loss",
            "confusion 1",
            "rmse 2",
            "",
        ] {
            assert!(!is_of_one_class(name), "{name}");
        }
    }
}

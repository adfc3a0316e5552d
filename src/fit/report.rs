//! What a run found, epoch by epoch.

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

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

/// One epoch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Epoch {
    /// Its number, from 1.
    pub epoch: usize,
    /// Training steps so far.
    pub steps: u64,
    /// The mean loss of the epoch's steps, of each replica.
    pub training_loss: Vec<f64>,
    /// How many training steps each replica has skipped so far since its gradients were not finite, where the
    /// optimizer has a loss scale ([`Optimizer::loss_scale`](crate::optim::Optimizer::loss_scale)).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub skipped_steps: Vec<u64>,
    /// What each replica scores on the validation data, where there is some.
    pub validation: Vec<Scores>,
    /// Seconds since the run began.
    pub seconds: f64,
}

impl Epoch {
    /// A number of this epoch, the mean over replicas: `training loss`, `validation loss`,
    /// `validation <metric>`.
    pub fn get(&self, name: &str) -> Option<f64> {
        if name == "training loss" {
            return Some(mean(self.training_loss.iter().copied()));
        }
        let name = name.strip_prefix("validation ")?;
        let values = self.validation.iter().map(|scores| scores.get(name));
        let values: Option<Vec<f64>> = values.collect();
        values
            .filter(|v| !v.is_empty())
            .map(|v| mean(v.into_iter()))
    }

    /// [`Epoch::get`] of one replica.
    pub fn get_of(&self, name: &str, replica: usize) -> Option<f64> {
        if name == "training loss" {
            return self.training_loss.get(replica).copied();
        }
        let name = name.strip_prefix("validation ")?;
        self.validation.get(replica)?.get(name)
    }

    /// The names that [`Epoch::get`] knows.
    pub fn names(&self) -> Vec<String> {
        let mut names = vec!["training loss".to_string()];
        if let Some(scores) = self.validation.first() {
            names.push("validation loss".into());
            let metrics = scores.metrics.iter();
            names.extend(metrics.map(|(name, _)| format!("validation {name}")));
        }
        names
    }
}

fn mean(values: impl ExactSizeIterator<Item = f64>) -> f64 {
    let n = values.len().max(1) as f64;
    values.sum::<f64>() / n
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
    /// The epoch whose weights came of it.
    pub chosen_epoch: usize,
    /// What each replica scores on the test data, where there is some.
    pub test: Vec<Scores>,
}

impl Report {
    /// A number of the test data, the mean over replicas: `loss`, or a metric by name.
    pub fn test(&self, name: &str) -> Option<f64> {
        let values: Option<Vec<f64>> = self.test.iter().map(|scores| scores.get(name)).collect();
        values
            .filter(|v| !v.is_empty())
            .map(|v| mean(v.into_iter()))
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

//! What a run tells: progress, the metrics of each epoch, the outcome.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::checkpoints::Line;
use crate::json::{nullable, nullable_one};
use crate::tensor::Values;

/// What a run tells while it goes on.
#[derive(Clone, Debug)]
pub enum Event<'a> {
    /// Steps handed to the device so far, of how many in all.
    Steps {
        /// The epoch, counted from 1.
        epoch: usize,
        /// Steps done.
        done: u64,
        /// Steps of the whole run.
        total: u64,
    },
    /// An epoch has ended.
    Epoch(&'a Epoch),
}

/// The metrics of an epoch, one entry per replica; accuracies from 0 to 1. In JSON, a value
/// that is not finite is `null`, and `null` reads as not a number.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Epoch {
    /// Counted from 1.
    pub epoch: usize,
    /// Mean cost over the epoch's mini-batches, each before its update; without the
    /// weight decay's term.
    #[serde(with = "nullable")]
    pub training_cost: Vec<f64>,
    /// Accuracy over the same mini-batches.
    #[serde(with = "nullable")]
    pub training_accuracy: Vec<f64>,
    /// Accuracy on the validation set after the epoch.
    #[serde(with = "nullable")]
    pub validation_accuracy: Vec<f64>,
    /// Accuracy on the test set after the epoch.
    #[serde(with = "nullable")]
    pub test_accuracy: Vec<f64>,
    /// Mean cost on the validation set after the epoch, without the decay's term.
    #[serde(default, with = "nullable")]
    pub validation_cost: Vec<f64>,
    /// Mean cost on the test set after the epoch, without the decay's term.
    #[serde(default, with = "nullable")]
    pub test_cost: Vec<f64>,
    /// Mean cost on the training images after the epoch, without the decay's term; empty
    /// unless [`Settings::measure_training`](super::Settings::measure_training) is set. It differs from `training_cost`,
    /// which is taken while the weights move.
    #[serde(default, with = "nullable")]
    pub set_cost: Vec<f64>,
    /// Accuracy on the training images after the epoch; empty like `set_cost`.
    #[serde(default, with = "nullable")]
    pub set_accuracy: Vec<f64>,
    /// The decay's term of the cost, λ₂/2 Σ w² + λ₁ Σ |w| with λ already divided, after the
    /// epoch; empty like `set_cost`.
    #[serde(default, with = "nullable")]
    pub penalty: Vec<f64>,
    /// Seconds of the epoch, evaluation included.
    #[serde(with = "nullable_one")]
    pub seconds: f64,
}

impl Line for Epoch {
    fn epoch(&self) -> usize {
        self.epoch
    }

    /// Whether each list has a value for each replica; those that are optional may be empty.
    fn fits(&self, replicas: usize) -> bool {
        let always = [
            &self.training_cost,
            &self.training_accuracy,
            &self.validation_accuracy,
            &self.test_accuracy,
            &self.validation_cost,
            &self.test_cost,
        ];
        let optional = [&self.set_cost, &self.set_accuracy, &self.penalty];
        always.iter().all(|list| list.len() == replicas)
            && (optional.iter()).all(|list| list.is_empty() || list.len() == replicas)
    }
}

/// The outcome of a run.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Every epoch.
    pub epochs: Vec<Epoch>,
    /// The last evaluation of the test set.
    pub test: Evaluation,
    /// Training steps per second, evaluation and resumed epochs not counted.
    pub steps_per_second: f64,
    /// Seconds since the run began or was resumed.
    pub seconds: f64,
}

impl Outcome {
    /// The epoch that chapter 6 reports of a replica: the one of the best validation
    /// accuracy, the last of equally good ones (`network3.py` compares by ≥). `None` of no
    /// epochs or replicas.
    pub fn best_epoch(&self, replica: usize) -> Option<&Epoch> {
        let accuracy = |e: &Epoch| e.validation_accuracy.get(replica).copied();
        let mut best: Option<&Epoch> = None;
        for epoch in &self.epochs {
            if accuracy(epoch)? >= best.and_then(accuracy).unwrap_or(f64::NEG_INFINITY) {
                best = Some(epoch);
            }
        }
        best
    }
}

/// What networks answer on a set, one entry per replica; accuracies from 0 to 1.
#[derive(Clone, Debug, PartialEq)]
pub struct Evaluation {
    /// Mean cost.
    pub cost: Vec<f64>,
    /// Share of images classified correctly.
    pub accuracy: Vec<f64>,
    /// The class answered for each image.
    pub predictions: Vec<Vec<u32>>,
}

impl Evaluation {
    /// Accuracy of the networks' plurality vote, from 0 to 1.
    pub fn ensemble_accuracy(&self, labels: &[u8]) -> f64 {
        accuracy(&plurality(&self.predictions), labels)
    }
}

/// The class most networks answer for each image; of classes with equally many votes,
/// the lowest.
pub fn plurality(predictions: &[Vec<u32>]) -> Vec<u32> {
    let images = predictions.first().map_or(0, Vec::len);
    (0..images)
        .map(|i| {
            let mut votes = BTreeMap::<u32, usize>::new();
            for p in predictions {
                *votes.entry(p[i]).or_default() += 1;
            }
            // The first of the largest: `max_by_key` would give the last.
            let most = votes.values().copied().max().unwrap_or(0);
            votes
                .iter()
                .find(|(_, n)| **n == most)
                .map_or(0, |(c, _)| *c)
        })
        .collect()
}

/// Share of predictions that equal the labels.
fn accuracy(predictions: &[u32], labels: &[u8]) -> f64 {
    let right = predictions
        .iter()
        .zip(labels)
        .filter(|(p, l)| **p == u32::from(**l));
    right.count() as f64 / labels.len() as f64
}

/// What a set's buffers say.
pub(super) fn evaluation(metrics: &[Metrics], predictions: &Values<u32>) -> Evaluation {
    Evaluation {
        cost: metrics.iter().map(|m| m.cost).collect(),
        accuracy: metrics.iter().map(|m| m.accuracy).collect(),
        predictions: predictions.replicas().map(<[u32]>::to_vec).collect(),
    }
}

/// One replica's metrics over a set.
pub(super) struct Metrics {
    pub cost: f64,
    pub accuracy: f64,
}

pub(super) fn metrics(values: &Values<f32>) -> Vec<Metrics> {
    values
        .replicas()
        .map(|m| Metrics {
            cost: f64::from(m[0]) / f64::from(m[2]),
            accuracy: f64::from(m[1]) / f64::from(m[2]),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_class_wins_a_tied_vote() {
        let votes = [vec![3, 9], vec![1, 9], vec![3, 2], vec![1, 2]];
        assert_eq!(plurality(&votes), [1, 2]);
        assert_eq!(accuracy(&[1, 2], &[1, 3]), 0.5);
    }
}

//! What can be read off a finished run.

use serde::Deserialize;

use crate::book::train::{Epoch, Model, Outcome, Standing};

/// A weight below this counts as none.
const SMALL: f32 = 0.005;
/// Points of accuracy below which a gain counts as none.
const FLAT: f64 = 0.1;

/// A number of a finished run, one for each seed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pick {
    /// Best test accuracy of all epochs.
    TestPeak,
    /// Test accuracy of the last epoch.
    TestLast,
    /// Test accuracy of the last epoch that reaches the best validation accuracy.
    TestAtBestValidation,
    /// Validation accuracy of the first epoch.
    ValidationFirst,
    /// Validation accuracy of the last epoch.
    ValidationLast,
    /// Best validation accuracy of all epochs.
    ValidationPeak,
    /// Accuracy on the training images after the last epoch.
    TrainingLast,
    /// Cost on the training images after the last epoch, without decay.
    TrainingCostLast,
    /// Training minus validation accuracy after the last epoch.
    Gap,
    /// The epoch of the lowest test cost.
    TestCostTurn,
    /// The first epoch within 0.1 points of the best test accuracy.
    TestFlat,
    /// The epoch after which the seed stopped; the last one if it did not.
    Stopped,
    /// Share of the first layer's weights that are nearly 0.
    SmallWeights,
}

/// A finished run.
pub(super) struct Finished {
    pub outcome: Outcome,
    pub model: Model,
    pub standings: Vec<Standing>,
}

impl Pick {
    /// `%`, or nothing for plain numbers.
    pub(super) fn unit(self) -> &'static str {
        match self {
            Self::TrainingCostLast | Self::TestCostTurn | Self::TestFlat | Self::Stopped => "",
            _ => "%",
        }
    }

    /// Whether the test set decides what is reported.
    pub(super) fn looks_at_test(self) -> bool {
        matches!(self, Self::TestPeak | Self::TestCostTurn | Self::TestFlat)
    }

    /// The number of replica `r`; `None` where it was not measured.
    pub(super) fn of(self, run: &Finished, r: usize) -> Option<f64> {
        let epochs = &run.outcome.epochs;
        let (first, last) = (epochs.first()?, epochs.last()?);
        let percent = |values: &[f64]| values.get(r).map(|v| 100.0 * v);
        let best = |of: fn(&Epoch) -> &[f64]| {
            let values = epochs.iter().filter_map(|e| percent(of(e)));
            values.reduce(f64::max)
        };
        match self {
            Self::TestPeak => best(|e| &e.test_accuracy),
            Self::TestLast => percent(&last.test_accuracy),
            Self::TestAtBestValidation => percent(&run.outcome.best_epoch(r)?.test_accuracy),
            Self::ValidationFirst => percent(&first.validation_accuracy),
            Self::ValidationLast => percent(&last.validation_accuracy),
            Self::ValidationPeak => best(|e| &e.validation_accuracy),
            Self::TrainingLast => percent(&last.set_accuracy),
            Self::TrainingCostLast => last.set_cost.get(r).copied(),
            Self::Gap => Some(percent(&last.set_accuracy)? - percent(&last.validation_accuracy)?),
            Self::TestCostTurn => {
                let costs = epochs
                    .iter()
                    .filter_map(|e| Some((*e.test_cost.get(r)?, e.epoch)));
                let lowest = costs.min_by(|a, b| a.0.total_cmp(&b.0))?;
                Some(lowest.1 as f64)
            }
            Self::TestFlat => {
                let reached = best(|e| &e.test_accuracy)? - FLAT;
                let epoch = epochs
                    .iter()
                    .find(|e| percent(&e.test_accuracy).is_some_and(|a| a >= reached));
                Some(epoch?.epoch as f64)
            }
            Self::Stopped => {
                let standing = run.standings.get(r)?;
                Some(standing.stopped.unwrap_or(last.epoch) as f64)
            }
            Self::SmallWeights => {
                let (_, weights) = run.model.replicas.get(r)?.first()?;
                let small = weights.iter().filter(|w| w.abs() < SMALL).count();
                Some(100.0 * small as f64 / weights.len() as f64)
            }
        }
    }
}

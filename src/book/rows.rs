//! What the experiments' records are put together of: names, curves, means.

use super::options::Options;
use super::{Experiment, Run};
use crate::book::train::Epoch;
use crate::data::Split;
use crate::report::record::{Plot, Record, Series};

/// How far from our mean the book's accuracies may lie at least, in points.
pub(super) const SLACK: f64 = 0.3;

/// The epochs of a run: its own or the experiment's, or those asked for.
pub(super) fn epochs(experiment: &Experiment, run: &Run, options: &Options<'_>) -> usize {
    let usual = run.epochs.or(experiment.epochs).unwrap_or(1);
    options.epochs.unwrap_or(usual)
}

/// Enters the data into the record.
pub(super) fn describe(record: &mut Record, data: &Split) {
    record.data.clone_from(&data.train.name);
    record.synthetic = data.synthetic;
}

/// A run's name in messages and legends.
pub(super) fn shown(run: &Run) -> &str {
    match run.name.as_str() {
        "" => "the network",
        name => name,
    }
}

/// `what` with the run's name before it, where it has one.
pub(super) fn named(run: &Run, what: &str) -> String {
    match run.name.as_str() {
        "" => what.into(),
        name => format!("{name}: {what}"),
    }
}

/// An empty plot over epochs.
pub(super) fn plot(title: &str, y_label: &str) -> Plot {
    Plot {
        title: title.into(),
        x_label: "epoch".into(),
        y_label: y_label.into(),
        ..Plot::default()
    }
}

/// A curve of means over the seeds.
pub(super) fn series(name: String, epochs: &[Epoch], of: impl Fn(&Epoch) -> f64) -> Series {
    Series {
        name,
        book: false,
        points: epochs.iter().map(|e| (e.epoch as f64, of(e))).collect(),
    }
}

/// The mean of some numbers; NaN of none.
pub(super) fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

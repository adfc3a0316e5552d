//! Many runs of one network: learning rates as replicas of one plan, and training sets of
//! several sizes.

use super::run::{Options, Tell};
use super::training::{SLACK, describe, epochs, plot, series, train};
use super::{Experiment, Run};
use crate::error::{Error, Result};
use crate::report::record::{Plot, Record, Row, Series};
use crate::train::Settings;

/// The rates that the book plots.
const SHOWN: [f64; 3] = [0.025, 0.25, 2.5];

pub(super) fn rates(
    experiment: &Experiment,
    options: &Options<'_>,
    tell: Tell<'_>,
    record: &mut Record,
) -> Result<()> {
    let wanted = "one network described";
    let run = (experiment.runs.first())
        .ok_or_else(|| Error::setting(&experiment.id, "no runs", wanted))?;
    let data = options.data(run.images)?;
    describe(record, &data);
    let epochs = epochs(experiment, run, options);
    let settings = Settings {
        replicas: run.rates.len(),
        replica_rates: run.rates.clone(),
        ..options.seeded(experiment, run.settings(epochs))
    };
    // Each rate is one replica, so there is one seed of each.
    record.seeds = vec![options.first_seed as u64];
    record.epochs = Some(epochs);
    record.setting = format!("{}; η times {:?}", run.describe(), run.rates);
    let finished = train(experiment, run, &data, &settings, options, tell)?;
    let history = &finished.outcome.epochs;
    let Some(last) = history.last() else {
        return Ok(());
    };
    for (r, rate) in run.rates.iter().enumerate() {
        record.rows.push(Row {
            what: format!("η = {rate}: validation accuracy of the last epoch"),
            unit: "%".into(),
            ours: vec![100.0 * last.validation_accuracy[r]],
            slack: SLACK,
            ..Row::default()
        });
    }
    let mut costs = plot("Training cost under the book's three rates", "cost");
    for (r, rate) in run.rates.iter().enumerate() {
        if SHOWN.contains(rate) {
            let curve = series(format!("η = {rate}"), history, |e| e.training_cost[r]);
            costs.series.push(curve);
        }
    }
    let accuracies = last.validation_accuracy.iter().map(|a| 100.0 * a);
    let all = Plot {
        title: "Validation accuracy of the last epoch".into(),
        x_label: "learning rate".into(),
        y_label: "accuracy in %".into(),
        log_x: true,
        series: vec![Series {
            name: format!("{} rates, one plan", run.rates.len()),
            book: false,
            points: run.rates.iter().copied().zip(accuracies).collect(),
        }],
        ..Plot::default()
    };
    record.plots = vec![costs, all];
    Ok(())
}

pub(super) fn sizes(
    experiment: &Experiment,
    options: &Options<'_>,
    tell: Tell<'_>,
    record: &mut Record,
) -> Result<()> {
    let wanted = "sizes described";
    let sizes = (experiment.sizes.as_ref())
        .ok_or_else(|| Error::setting(&experiment.id, "no sizes", wanted))?;
    let mut curve = Vec::new();
    let all = options.data(None)?;
    for (&size, &book) in sizes.sizes.iter().zip(&sizes.network) {
        let size = size.min(all.train.len());
        let name = format!("{size} images");
        let text = format!(
            "name = {name:?}\nnet = {:?}\ninit = \"large\"\neta = {}\nimages = {size}\n\
             per_example = {}",
            sizes.net,
            sizes.eta,
            size as f64 * sizes.lambda
        );
        let run = Run {
            cost: sizes.cost,
            init: sizes.init,
            ..toml::from_str(&text).map_err(|e| Error::setting("sizes", e, "a run"))?
        };
        let own = (sizes.examples / size).max(1);
        let epochs = options.epochs.unwrap_or(own).min(own);
        let data = options.data(Some(size))?;
        describe(record, &data);
        let settings = Settings {
            // Only the last epoch counts, and there are up to 15,000.
            evaluate_every: epochs,
            ..options.seeded(experiment, run.settings(epochs))
        };
        let finished = train(experiment, &run, &data, &settings, options, tell)?;
        record.epochs = Some(record.epochs.unwrap_or(0).max(epochs));
        let ours: Vec<f64> = (finished.outcome.epochs.last().into_iter())
            .flat_map(|e| e.validation_accuracy.iter().map(|a| 100.0 * a))
            .collect();
        curve.push((size as f64, super::training::mean(&ours)));
        record.rows.push(Row {
            what: format!("{name}: validation accuracy"),
            unit: "%".into(),
            book: Some(book),
            ours,
            slack: SLACK,
        });
        if epochs < own {
            let note = format!("{name}: {epochs} epochs instead of {own}.");
            record.notes.push(note);
        }
    }
    let line = |name: &str, book: bool, points: Vec<(f64, f64)>| Series {
        name: name.into(),
        book,
        points,
    };
    let of_book = |values: &[f64]| {
        let sizes = sizes.sizes.iter().map(|&n| n as f64);
        sizes.zip(values.iter().copied()).collect()
    };
    let plot = |title: &str, log_x: bool| Plot {
        title: title.into(),
        x_label: "training images".into(),
        y_label: "validation accuracy in %".into(),
        log_x,
        series: vec![
            line("ours", false, curve.clone()),
            line("book", true, of_book(&sizes.network)),
            line("book, support vector machine", true, of_book(&sizes.svm)),
        ],
        ..Plot::default()
    };
    record.plots = vec![
        plot("Accuracy and training-set size", false),
        plot("The same over the logarithm of the size", true),
    ];
    record.setting = format!(
        "{}; {:?} cost, start {:?}, η {}, {} examples in all, λ = {} × size",
        sizes.net, sizes.cost, sizes.init, sizes.eta, sizes.examples, sizes.lambda
    );
    Ok(())
}

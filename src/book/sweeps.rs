//! Many runs of one network: learning rates as replicas of one plan, and training sets of
//! several sizes.

use super::options::{Options, Tell};
use super::rows::{SLACK, describe, epochs, plot, series};
use super::survivors::train;
use super::{Experiment, Run};
use crate::book::train::{Epoch, Settings};
use crate::error::{Error, Result};
use crate::report::record::{Plot, Record, Row, Series};

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
        // The book's plot is of the cost on the training images, decay's term and all.
        measure_training: true,
        ..options.seeded(experiment, run.settings(epochs), &data)
    };
    // Each rate is one replica, so there is one seed of each.
    record.seeds = vec![options.first_seed as u64];
    record.epochs = Some(epochs);
    record.setting = format!("{}; η times {:?}", run.describe(), run.rates);
    let trained = train(experiment, run, &data, &settings, options, tell)?;
    record.notes.extend(trained.notes);
    for (k, e) in &trained.lost {
        let note = format!("η = {} does not train: {e}", run.rates[*k]);
        record.notes.push(note);
    }
    let history = trained.finished.map_or(vec![], |f| f.outcome.epochs);
    let place = |k: usize| trained.places.iter().position(|&p| p == k);
    let reached = |k: usize| Some(100.0 * history.last()?.validation_accuracy[place(k)?]);
    for (k, rate) in run.rates.iter().enumerate() {
        record.rows.push(Row {
            what: format!("η = {rate}: validation accuracy of the last epoch"),
            unit: "%".into(),
            ours: reached(k).into_iter().collect(),
            slack: SLACK,
            ..Row::default()
        });
    }
    let mut costs = plot(
        "Cost on the training images under the book's three rates",
        "cost with decay's term",
    );
    for (k, rate) in run.rates.iter().enumerate() {
        if SHOWN.contains(rate)
            && let Some(r) = place(k)
        {
            let cost = |e: &Epoch| e.set_cost[r] + e.penalty[r];
            let curve = series(format!("η = {rate}"), &history, cost);
            costs.series.push(curve);
        }
    }
    let points = run.rates.iter().enumerate();
    let points = points.filter_map(|(k, &rate)| Some((rate, reached(k)?)));
    let all = Plot {
        title: "Validation accuracy of the last epoch".into(),
        x_label: "learning rate".into(),
        y_label: "accuracy in %".into(),
        log_x: true,
        series: vec![Series {
            name: format!("{} rates, one plan", run.rates.len()),
            book: false,
            points: points.collect(),
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
            ..options.seeded(experiment, run.settings(epochs), &data)
        };
        let trained = train(experiment, &run, &data, &settings, options, tell)?;
        record.notes.extend(trained.notes);
        for (k, e) in &trained.lost {
            let seed = options.first_seed + k;
            let note = format!("{name} do not train under seed {seed}: {e}");
            record.notes.push(note);
        }
        let history = trained.finished.map_or(vec![], |f| f.outcome.epochs);
        record.epochs = Some(record.epochs.unwrap_or(0).max(epochs));
        let ours: Vec<f64> = (history.last().into_iter())
            .flat_map(|e| e.validation_accuracy.iter().map(|a| 100.0 * a))
            .collect();
        if !ours.is_empty() {
            curve.push((size as f64, super::rows::mean(&ours)));
        }
        record.rows.push(Row {
            what: format!("{name}: validation accuracy"),
            unit: "%".into(),
            book: Some(book),
            ours,
            slack: SLACK,
            ..Row::default()
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

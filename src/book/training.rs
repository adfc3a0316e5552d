//! Experiments that train networks and read numbers off the runs.

use super::options::{Options, Tell};
use super::picks::{Finished, Pick};
use super::rows::{SLACK, describe, epochs, mean, named, plot, series, shown};
use super::survivors::train;
use super::{Experiment, Run, norms, pictures};
use crate::book::train::Epoch;
use crate::error::Result;
use crate::report::record::{Plot, Record, Row};

pub(super) fn run(
    experiment: &Experiment,
    options: &Options<'_>,
    tell: Tell<'_>,
    record: &mut Record,
) -> Result<()> {
    let mut accuracies = plot("Accuracy after each epoch", "accuracy in %");
    let mut weights = pictures::histogram_plot();
    for run in &experiment.runs {
        let data = options.data(run.images)?;
        describe(record, &data);
        let epochs = epochs(experiment, run, options);
        let settings = options.seeded(experiment, run.settings(epochs), &data);
        let trained = train(experiment, run, &data, &settings, options, tell)?;
        record.notes.extend(trained.notes);
        // That a network of the book does not train is a result.
        for (k, e) in &trained.lost {
            let seed = options.first_seed + k;
            let note = format!("{} does not train under seed {seed}: {e}", shown(run));
            record.notes.push(note);
        }
        let Some(finished) = trained.finished else {
            record.rows.extend(rows(run, None));
            continue;
        };
        let done = finished.outcome.epochs.len();
        record.epochs = Some(record.epochs.unwrap_or(0).max(done));
        record.rows.extend(rows(run, Some(&finished)));
        curves(&mut accuracies, run, &finished.outcome.epochs);
        if run.measure {
            record.plots.extend(measured(run, &finished.outcome.epochs));
        }
        if run.histogram {
            weights
                .series
                .push(pictures::histogram(run, &finished.model));
        }
        if run.filters {
            record.pictures.extend(pictures::filters(&finished.model));
            let digit = data.test.first(1)?;
            let maps = pictures::feature_maps(&finished.model, &digit, options.device)?;
            record.pictures.extend(maps);
        }
        if run.diagnose {
            let sample = data.validation.first(100.min(data.validation.len()))?;
            let signs = pictures::diagnose(run, &finished.model, &sample, options.device)?;
            record.rows.extend(signs);
        }
    }
    if experiment.norms {
        for run in &experiment.runs {
            record
                .rows
                .extend(norms::at_start(experiment, run, options)?);
        }
    }
    record.plots.insert(0, accuracies);
    if !weights.series.is_empty() {
        record.plots.push(weights);
    }
    let picks = experiment.runs.iter().flat_map(|r| &r.report);
    if picks.clone().any(|r| r.pick.looks_at_test()) {
        let note = "The book looks at the test set to choose the epoch it reports, so the \
                    figure flatters; ours is read off in the same way.";
        record.notes.push(note.into());
    }
    if picks
        .clone()
        .any(|r| r.pick == Pick::ValidationPeak && r.book.is_some())
    {
        let note = "The best of many validation accuracies flatters: the set that chooses the \
                    epoch is the one that is reported.";
        record.notes.push(note.into());
    }
    Ok(())
}

/// The numbers of a run; none of ours where it did not finish.
fn rows(run: &Run, finished: Option<&Finished>) -> Vec<Row> {
    let rows = run.report.iter().map(|reported| {
        let ours = finished.map_or(vec![], |f| {
            let replicas = 0..f.model.replicas.len();
            replicas.filter_map(|r| reported.pick.of(f, r)).collect()
        });
        Row {
            what: named(run, &reported.what),
            unit: reported.pick.unit().into(),
            book: reported.book,
            ours,
            slack: reported.slack.unwrap_or(SLACK),
            ..Row::default()
        }
    });
    rows.collect()
}

/// Validation and test accuracy of a run.
fn curves(plot: &mut Plot, run: &Run, epochs: &[Epoch]) {
    let validation = named(run, "validation");
    let percent = |values: &[f64]| 100.0 * mean(values);
    let curve = series(validation, epochs, |e| percent(&e.validation_accuracy));
    plot.series.push(curve);
    let curve = series(named(run, "test"), epochs, |e| percent(&e.test_accuracy));
    plot.series.push(curve);
}

/// The book's four plots of overfitting: costs and accuracies, training and test.
fn measured(run: &Run, epochs: &[Epoch]) -> [Plot; 4] {
    let decayed = epochs.iter().any(|e| mean(&e.penalty) > 0.0);
    let cost = |what: &str, of: fn(&Epoch) -> &[f64]| {
        let mut plot = plot(&named(run, &format!("Cost on the {what} images")), "cost");
        let bare = series("without the decay's term".into(), epochs, |e| mean(of(e)));
        plot.series.push(bare);
        if decayed {
            let all = |e: &Epoch| mean(of(e)) + mean(&e.penalty);
            let curve = series("with the decay's term".into(), epochs, all);
            plot.series.push(curve);
        }
        plot
    };
    let accuracy = |what: &str, of: fn(&Epoch) -> &[f64]| {
        let title = named(run, &format!("Accuracy on the {what} images"));
        let mut plot = plot(&title, "accuracy in %");
        let curve = series(what.into(), epochs, |e| 100.0 * mean(of(e)));
        plot.series.push(curve);
        plot
    };
    [
        cost("training", |e| &e.set_cost),
        accuracy("test", |e| &e.test_accuracy),
        cost("test", |e| &e.test_cost),
        accuracy("training", |e| &e.set_accuracy),
    ]
}

//! Running one experiment: what is asked for, and the record's frame.

use super::options::{Options, Progress};
use super::{Experiment, Kind, ensemble, gradients, neuron, norms, softmax, sweeps, training};
use crate::clock::Stopwatch;
use crate::error::{Error, Result};
use crate::report::record::Record;

/// Runs an experiment.
///
/// # Errors
/// [`Error::File`] where images are needed and there are none; everything that can be wrong
/// with a run. That a seed's cost overflows is a result of [`Kind::Train`], [`Kind::Sweep`] and
/// [`Kind::Sizes`]: the record's notes name it, and its rows hold the others' numbers. An
/// ensemble that lacks a network, or a length of gradients that is not finite, is an error:
/// [`Error::NotFinite`].
pub fn run(
    experiment: &Experiment,
    options: &Options<'_>,
    tell: &mut dyn FnMut(&Progress<'_>),
) -> Result<Record> {
    let start = Stopwatch::start();
    let ranges = [
        ("seeds", options.seeds.unwrap_or(1), 1, 4096),
        // Each seed of an ensemble is several replicas, whose numbers end at 2^30.
        ("first seed", options.first_seed, 0, 1 << 28),
        ("epochs", options.epochs.unwrap_or(1), 1, 1_000_000),
    ];
    for (name, value, low, high) in ranges {
        if !(low..=high).contains(&value) {
            return Err(Error::setting(name, value, format!("{low} to {high}")));
        }
    }
    let mut record = Record {
        id: experiment.id.clone(),
        chapter: experiment.chapter,
        title: experiment.title.clone(),
        question: experiment.question.clone(),
        setting: (experiment.runs.iter().map(super::Run::describe))
            .collect::<Vec<_>>()
            .join("\n"),
        command: options.command.clone(),
        device: options.device.info().name.clone(),
        version: env!("CARGO_PKG_VERSION").into(),
        seeds: options.seeds(experiment),
        book_epochs: experiment.epochs,
        notes: experiment.notes.clone(),
        ..Record::default()
    };
    match experiment.kind {
        Kind::Train => training::run(experiment, options, tell, &mut record)?,
        Kind::Neuron => neuron::run(experiment, options, &mut record)?,
        Kind::Softmax => softmax::run(options, &mut record)?,
        Kind::GradientCheck => gradients::check(experiment, options, &mut record)?,
        Kind::Matrix => gradients::matrix(experiment, options, &mut record)?,
        Kind::Sweep => sweeps::rates(experiment, options, tell, &mut record)?,
        Kind::Sizes => sweeps::sizes(experiment, options, tell, &mut record)?,
        Kind::GradientNorms => norms::run(experiment, options, tell, &mut record)?,
        Kind::Exploding => norms::exploding(options, &mut record)?,
        Kind::Ensemble => ensemble::run(experiment, options, tell, &mut record)?,
    }
    if record.synthetic {
        let note = "The digits were drawn by a program: the book's numbers do not apply to them.";
        record.notes.push(note.into());
    }
    if let (Some(ours), Some(book)) = (record.epochs, record.book_epochs)
        && ours < book
    {
        record.notes.push(format!(
            "Shortened: {ours} epochs where the book runs {book}; its numbers need not be reached."
        ));
    }
    if let Some(n) = options.images {
        let note = format!("Tried out on at most {n} training images; the numbers mean nothing.");
        record.notes.push(note);
    }
    record.seconds = start.seconds();
    Ok(record)
}

//! Running one experiment: options, data, the record's frame.

use std::path::{Path, PathBuf};

use super::{Experiment, Kind, ensemble, gradients, neuron, norms, softmax, sweeps, training};
use crate::clock::Stopwatch;
use crate::data::{Images, Source, Split};
use crate::error::{Error, Result};
use crate::exec::Device;
use crate::report::record::Record;
use crate::train::{Event, Settings};

/// Seeds where none are given: a mean needs some, and replicas make them cheap.
const SEEDS: usize = 3;
/// Held-out images of a run that was limited, as a share of its training images.
const HELD_OUT: usize = 2;

/// The files that the book's experiments read.
pub const FILES_WANTED: &str = "MNIST's four files train-images-idx3-ubyte, \
    train-labels-idx1-ubyte, t10k-images-idx3-ubyte and t10k-labels-idx1-ubyte, plain or .gz";

/// What an experiment is run with.
#[derive(Debug)]
pub struct Options<'a> {
    /// The device.
    pub device: &'a Device,
    /// The images; not looked at by experiments that need none.
    pub data: Option<&'a Split>,
    /// How many seeds; 3 if not given, one ensemble of [`Kind::Ensemble`].
    pub seeds: Option<usize>,
    /// The first seed; seeds are the replicas' identities under [`Settings`]' seed.
    pub first_seed: usize,
    /// Epochs instead of the book's.
    pub epochs: Option<usize>,
    /// At most so many training images, and half as many held-out ones: for trying out.
    pub images: Option<usize>,
    /// Where checkpoints and models go.
    pub folder: &'a Path,
    /// What repeats the run, for the record.
    pub command: String,
}

/// What an experiment tells while it runs.
#[derive(Clone, Copy, Debug)]
pub struct Progress<'a> {
    /// Which of its runs.
    pub run: &'a str,
    /// What happened in it.
    pub event: &'a Event<'a>,
}

/// Where progress goes.
pub(super) type Tell<'t> = &'t mut dyn FnMut(&Progress<'_>);

impl Options<'_> {
    /// How many seeds an experiment runs.
    pub(super) fn count(&self, experiment: &Experiment) -> usize {
        let usual = match experiment.kind {
            Kind::Ensemble => 1,
            _ => SEEDS,
        };
        self.seeds.unwrap_or(usual)
    }

    /// The seeds.
    pub(super) fn seeds(&self, experiment: &Experiment) -> Vec<u64> {
        let first = self.first_seed as u64;
        (first..first + self.count(experiment) as u64).collect()
    }

    /// The images, limited where that was asked for, `images` of them at most.
    ///
    /// # Errors
    /// [`Error::File`] saying which files are missing, and what else can be done.
    pub(super) fn data(&self, images: Option<usize>) -> Result<Split> {
        let mut data = self.data.ok_or_else(missing)?.clone();
        let most = [images, self.images].into_iter().flatten().min();
        if let Some(n) = most {
            let n = n.min(data.train.len());
            data = data.training_first(n)?;
        }
        if let Some(n) = self.images {
            let part = |images: &Images| images.first(n.div_ceil(HELD_OUT).min(images.len()));
            data.validation = part(&data.validation)?;
            data.test = part(&data.test)?;
        }
        Ok(data)
    }

    /// Lays seeds over settings.
    pub(super) fn seeded(
        &self,
        experiment: &Experiment,
        settings: Settings,
        data: &Split,
    ) -> Settings {
        Settings {
            // Where only a few images are tried out, they are one mini-batch.
            batch: settings.batch.min(data.train.len()),
            replicas: self.count(experiment),
            first_replica: self.first_seed,
            evaluation_batch: if self.device.info().cpu { 100 } else { 500 },
            ..settings
        }
    }
}

/// The error for data that is not there: which files, where they may be put, what else can
/// be done.
pub fn missing() -> Error {
    Error::File {
        path: PathBuf::from("data").join("mnist"),
        found: "no such folder".into(),
        wanted: FILES_WANTED.into(),
        fix: "Put them there, or name their folder, by the environment variable MNIST_DIR for \
              instance; `synthetic` in its place runs the experiment on the embedded digits, \
              where the book's numbers do not apply."
            .into(),
    }
}

/// The images of the book: those of `--data`, of `MNIST_DIR` or of `data/mnist`; `None` if
/// there are none.
///
/// # Errors
/// [`Error::File`] or [`Error::Io`] for files that are missing, torn or do not fit.
pub fn load(named: Option<&str>) -> Result<Option<Split>> {
    let usual = Path::new("data").join("mnist");
    let environment = std::env::var_os("MNIST_DIR").filter(|d| !d.is_empty());
    match (named, environment) {
        (None, None) if !usual.is_dir() => Ok(None),
        (None, None) => Source::Idx(usual).load().map(Some),
        _ => Source::resolve(named)?.load().map(Some),
    }
}

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

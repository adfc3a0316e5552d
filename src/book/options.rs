//! What an experiment is run with, where its images come from, and what it tells.

use std::path::{Path, PathBuf};

use super::{Experiment, Kind};
use crate::book::train::{Event, Settings};
use crate::data::{Images, Source, Split};
use crate::error::{Error, Result};
use crate::exec::Device;

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

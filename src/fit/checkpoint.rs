//! What a [`Fit`](super::Fit) keeps of itself between two epochs, and how often.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::report::{Epoch, Lost};
use super::weights::{Chosen, Weights};
use crate::checkpoints::{Line, list};
use crate::data::{Dataset, Numbers};
use crate::error::{Error, Result};
use crate::files::hex;
use crate::model_file::Tensors;

/// What a tensor's name begins with: weights and statistics, what the optimizer keeps, the weights that
/// a callback has chosen (then the replica's number).
pub(super) const WEIGHTS: &str = "weights.";
pub(super) const STATES: &str = "states.";
const CHOSEN: &str = "chosen.";

/// A folder for the state of a run, so that one that was killed goes on ([`Fit::resume`](super::Fit::resume)).
///
/// ```
/// use wgrad::fit::Checkpoints;
///
/// // The last five, of every tenth epoch; a path alone keeps the last two, of every epoch.
/// let kept = Checkpoints::at("runs/houses").keep(5).every(10);
/// # let _ = kept;
/// ```
///
/// It is one run's. A checkpoint is `epoch-0000010.safetensors`, weights, what the optimizer keeps and what callbacks know,
/// written whole or not at all. The epochs' numbers stand in `epochs.jsonl`, a line of JSON for each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoints {
    folder: PathBuf,
    last: usize,
    every: usize,
}

impl Checkpoints {
    /// A folder, which is made where it is not there.
    pub fn at(folder: impl Into<PathBuf>) -> Self {
        Self {
            folder: folder.into(),
            last: 2,
            every: 1,
        }
    }

    /// How many are kept, the last ones: 2 if not said.
    #[must_use]
    pub fn keep(self, last: usize) -> Self {
        Self { last, ..self }
    }

    /// Writes one after every so many epochs and where the run ends, and not after each.
    #[must_use]
    pub fn every(self, epochs: usize) -> Self {
        Self {
            every: epochs,
            ..self
        }
    }

    /// Whether there is one to go on from, whole or not.
    pub fn are_there(&self) -> bool {
        list(&self.folder).is_ok_and(|all| !all.is_empty())
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(super) fn last(&self) -> usize {
        self.last
    }

    /// Whether one is written after an epoch that is not the last.
    pub(super) fn are_due(&self, epoch: usize) -> bool {
        epoch.is_multiple_of(self.every)
    }

    pub(super) fn check(&self) -> Result<()> {
        if self.folder.as_os_str().is_empty() {
            let wanted = "the path of one";
            return Err(Error::setting("folder of checkpoints", "no name", wanted));
        }
        match (self.last, self.every) {
            (0, _) => Err(Error::setting("checkpoints kept", 0, "at least 1")),
            (_, 0) => Err(Error::setting("epochs to a checkpoint", 0, "at least 1")),
            _ => Ok(()),
        }
    }
}

macro_rules! from_path {
    ($($path:ty),*) => {
        $(impl From<$path> for Checkpoints {
            fn from(folder: $path) -> Self {
                Self::at(folder)
            }
        })*
    };
}

from_path!(&str, String, &Path, PathBuf, &PathBuf);

/// The state of a run between two epochs, but for its tensors and the numbers of its epochs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct State {
    /// The step counter of each replica.
    pub step: Vec<u32>,
    /// Whether a callback has ended the run.
    pub stopped: bool,
    /// The epoch whose weights a callback has chosen, of each replica.
    pub chosen: Vec<Option<usize>>,
    /// The replicas of a sweep that are lost.
    pub lost: Vec<Lost>,
    /// What each callback knows that does more than look on.
    pub callbacks: Vec<serde_json::Value>,
    /// The learning rate of each replica, where callbacks set rates.
    pub rates: Vec<f64>,
    /// The last epoch with what was measured after it for the only reason that it is the last, and all replicas that are lost
    /// by that: a run that goes on has not measured it.
    pub last: Option<(Epoch, Vec<Lost>)>,
}

impl Line for Epoch {
    fn epoch(&self) -> usize {
        self.epoch
    }

    fn fits(&self, replicas: usize) -> bool {
        let scores = [&self.validation, &self.training];
        self.training_loss.len() == replicas
            && scores.iter().all(|s| s.is_empty() || s.len() == replicas)
            && (self.skipped_steps.is_empty() || self.skipped_steps.len() == replicas)
    }
}

/// Puts the weights that a callback has chosen among a checkpoint's tensors; the epochs that they are of.
pub(super) fn put_chosen(tensors: &mut Tensors, chosen: &Chosen) -> Vec<Option<usize>> {
    for (replica, chosen) in chosen.iter().enumerate() {
        let named = chosen.iter().flat_map(|(_, weights)| weights.tensors());
        tensors.extend(
            named.map(|(name, tensor)| (format!("{CHOSEN}{replica}.{name}"), tensor.clone())),
        );
    }
    let epochs = chosen.iter();
    epochs
        .map(|of| of.as_ref().map(|(epoch, _)| *epoch))
        .collect()
}

/// Takes them out again.
pub(super) fn take_chosen(tensors: &mut Tensors, epochs: &[Option<usize>]) -> Chosen {
    let all: Tensors = tensors
        .extract_if(.., |(name, _)| name.starts_with(CHOSEN))
        .collect();
    let of = |(replica, epoch): (usize, &Option<usize>)| {
        let prefix = format!("{CHOSEN}{replica}.");
        let own = all.iter().filter_map(|(name, tensor)| {
            Some((name.strip_prefix(&prefix)?.to_string(), tensor.clone()))
        });
        epoch.map(|epoch| (epoch, Weights::from_tensors(own.collect())))
    };
    epochs.iter().enumerate().map(of).collect()
}

/// What a data set is recognised by.
pub(super) fn fingerprint(data: &Dataset) -> String {
    let mut hash = Sha256::new();
    for column in data.columns() {
        let shape = (&column.name, &column.extents, column.stride, column.start);
        hash.update(format!("{shape:?} {:?}", data.rows()));
        match &column.numbers {
            Numbers::F32(all) => hash.update(bytemuck::cast_slice(all)),
            Numbers::U32(all) => hash.update(bytemuck::cast_slice(all)),
            Numbers::U8(all, scale) => {
                hash.update(all.as_slice());
                hash.update(scale.to_le_bytes());
            }
        }
    }
    hex(&hash.finalize())
}

//! Checkpoints: what a killed run needs to go on as if nothing had happened.
//!
//! Random numbers have no state but seed and step, so a checkpoint is the parameters, the
//! velocities and the running means, how many epochs they have had, and the epochs' numbers. It
//! is one safetensors file, written whole or not at all, with a hash of its content; the last
//! few are kept.
//!
//! The epochs' numbers stand in a file beside it, a line of JSON each, to which every epoch adds
//! its own: what an epoch writes does not grow with those before it. A checkpoint names how much
//! of that file is its history, by length and hash. The line is on the disk before the
//! checkpoint that counts it; a line that no checkpoint counts is overwritten.
//!
//! A checkpoint says of which run it is ([`Identity`]). The files' names begin with a hash of
//! that, so runs that share a folder never touch each other's.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use ndarray::{ArrayD, IxDyn};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::Epoch;
use crate::error::{Error, Result};
use crate::files::{create_folder, hex};
use crate::model_file::{ModelFile, weights_sha256};

mod identity;

pub(super) use identity::Identity;

/// Metadata key of what names the history: [`Extent`] as JSON.
pub(super) const HISTORY: &str = "wgrad.history";
/// Metadata key of the epochs that are done.
const EPOCHS: &str = "wgrad.epochs";
/// Metadata key of what trained them.
const ORIGINS: &str = "wgrad.origins";
/// Metadata key of the run: its [`Identity`] as JSON.
const RUN: &str = "wgrad.run";
/// Metadata key of the content's hash.
const SHA256: &str = "wgrad.sha256";

const FIX: &str = "It is skipped; an earlier checkpoint is used where there is one.";

/// Where a run keeps its checkpoints.
#[derive(Debug)]
pub(super) struct Keeper {
    folder: PathBuf,
    last: usize,
    replicas: usize,
    /// The run whose checkpoints these are.
    identity: Identity,
    /// What its files' names begin with.
    name: String,
    /// What of the run's history is on the disk; `None` where the run begins anew and has
    /// written nothing yet.
    log: Option<Log>,
}

/// What trained some of a run's epochs. The weights' last bits depend on both.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// The version of wgrad.
    pub version: String,
    /// Adapter, backend and driver, or the CPU.
    pub device: String,
}

/// A run's state between two epochs.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct State {
    /// Epochs that are done.
    pub epochs: usize,
    /// Who trained them, in order.
    pub origins: Vec<Origin>,
    /// Parameters, velocities and running means by name: the values of all replicas.
    pub buffers: Vec<(String, Vec<f32>)>,
}

/// What a checkpoint holds.
#[derive(Debug)]
pub(super) struct Checkpoint {
    /// The state.
    pub state: State,
    /// The epochs that were reported.
    pub history: Vec<Epoch>,
    log: Log,
}

/// The part of a history's file that was written so far.
#[derive(Clone, Debug, Default)]
struct Log {
    epochs: usize,
    bytes: u64,
    hash: Sha256,
}

/// [`Log`] as a checkpoint names it.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Extent {
    epochs: usize,
    bytes: u64,
    sha256: String,
}

impl Log {
    fn extent(&self) -> Extent {
        Extent {
            epochs: self.epochs,
            bytes: self.bytes,
            sha256: hex(&self.hash.clone().finalize()),
        }
    }
}

/// The epochs of a checkpoint by its file's name, whosever it is.
fn epochs_of(file: &str) -> Option<usize> {
    let (run, epochs) = file.strip_suffix(".safetensors")?.split_once('-')?;
    let plain = identity::is_name(run) && epochs.bytes().all(|b| b.is_ascii_digit());
    plain.then(|| epochs.parse().ok()).flatten()
}

/// What a checkpoint's file name begins with.
fn run_of(file: &str) -> &str {
    file.split('-').next().unwrap_or_default()
}

/// Whether a file is a history by its name, whosever it is.
fn is_history(file: &str) -> bool {
    file.strip_suffix(".history").is_some_and(identity::is_name)
}

impl Keeper {
    pub(super) fn new(
        folder: &Path,
        last: usize,
        identity: Identity,
        replicas: usize,
    ) -> Result<Self> {
        if last == 0 {
            return Err(Error::setting("checkpoints kept", 0, "at least 1"));
        }
        create_folder(folder)?;
        Ok(Self {
            folder: folder.into(),
            last,
            replicas,
            name: identity.name(),
            identity,
            log: None,
        })
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// From now on it keeps another run's checkpoints, which begins anew.
    pub(super) fn rename(&mut self, identity: Identity) {
        self.name = identity.name();
        self.identity = identity;
        self.log = None;
    }

    fn path(&self, epochs: usize) -> PathBuf {
        self.folder
            .join(format!("{}-{epochs:07}.safetensors", self.name))
    }

    fn history_path(&self) -> PathBuf {
        self.folder.join(format!("{}.history", self.name))
    }

    fn refused<'a>(action: &'static str, path: &'a Path) -> impl Fn(std::io::Error) -> Error + 'a {
        move |e| Error::io(action, path, e, "Check the folder's permissions.")
    }

    /// The names of the folder's files.
    fn names(&self) -> Result<Vec<String>> {
        let refused = Self::refused("read", &self.folder);
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.folder).map_err(&refused)? {
            let name = entry.map_err(&refused)?.file_name();
            names.extend(name.into_string());
        }
        Ok(names)
    }

    /// This run's checkpoints, newest first.
    pub(super) fn list(&self) -> Result<Vec<PathBuf>> {
        let prefix = format!("{}-", self.name);
        let names = self.names()?.into_iter();
        let mut found: Vec<(usize, String)> = names
            .filter(|name| name.starts_with(&prefix))
            .filter_map(|name| Some((epochs_of(&name)?, name)))
            .collect();
        found.sort();
        let newest_first = found.into_iter().rev();
        Ok(newest_first.map(|(_, n)| self.folder.join(n)).collect())
    }

    /// Removes a file; one that is gone already is as good.
    fn remove(path: &Path) -> Result<()> {
        match fs::remove_file(path) {
            Err(e) if e.kind() != ErrorKind::NotFound => Err(Self::refused("remove", path)(e)),
            _ => Ok(()),
        }
    }

    /// Removes all checkpoints, this run's and others'.
    pub(super) fn clear(&mut self) -> Result<()> {
        for name in self.names()? {
            if epochs_of(&name).is_some() || is_history(&name) {
                Self::remove(&self.folder.join(name))?;
            }
        }
        self.log = None;
        Ok(())
    }

    /// From now on it adds to what a checkpoint holds.
    pub(super) fn take_up(&mut self, checkpoint: &Checkpoint) {
        self.log = Some(checkpoint.log.clone());
    }

    /// Writes a checkpoint, of which `history` holds all epochs, then removes the oldest beyond
    /// those to be kept.
    pub(super) fn write(&mut self, state: &State, history: &[Epoch]) -> Result<()> {
        let log = match self.log.take() {
            Some(log) => log,
            None => {
                // An earlier run's later epochs would stand for this one's.
                for earlier in self.list()? {
                    Self::remove(&earlier)?;
                }
                Log::default()
            }
        };
        let log = self.append(log, history)?;
        let text = |what: &str, json: serde_json::Result<String>| {
            json.map_err(|e| Error::setting(what, e, "finite numbers"))
        };
        let mut extra = BTreeMap::from([
            (EPOCHS.into(), state.epochs.to_string()),
            (
                HISTORY.into(),
                text("history", serde_json::to_string(&log.extent()))?,
            ),
            (
                ORIGINS.into(),
                text("origins", serde_json::to_string(&state.origins))?,
            ),
            (
                RUN.into(),
                text("settings", serde_json::to_string(&self.identity))?,
            ),
        ]);
        let tensors = state
            .buffers
            .iter()
            .map(|(name, values)| {
                let array = ArrayD::from_shape_vec(IxDyn(&[values.len()]), values.clone())
                    .map_err(|e| Error::shape(name, e.to_string(), "a flat list"))?;
                Ok((name.clone(), array))
            })
            .collect::<Result<Vec<_>>>()?;
        extra.insert(SHA256.into(), hash(&tensors, &extra));
        let file = ModelFile {
            tensors,
            network_json: "{}".into(),
            extra,
        };
        file.save(&self.path(state.epochs))?;
        self.log = Some(log);
        for old in self.list()?.into_iter().skip(self.last) {
            Self::remove(&old)?;
        }
        Ok(())
    }

    /// Adds the epochs that the history's file lacks; what stands behind them there goes.
    fn append(&self, mut log: Log, history: &[Epoch]) -> Result<Log> {
        let path = self.history_path();
        let refused = Self::refused("write", &path);
        let mut options = OpenOptions::new();
        options.create(true).write(true).truncate(false);
        let mut file = options.open(&path).map_err(&refused)?;
        let there = file.metadata().map_err(&refused)?.len();
        if there < log.bytes || history.len() < log.epochs {
            // Somebody has shortened it; all of it is here.
            log = Log::default();
        }
        let mut lines = String::new();
        for epoch in &history[log.epochs..] {
            let line = serde_json::to_string(epoch);
            lines += &line.map_err(|e| Error::setting("history", e, "finite numbers"))?;
            lines.push('\n');
        }
        file.set_len(log.bytes).map_err(&refused)?;
        file.seek(SeekFrom::Start(log.bytes)).map_err(&refused)?;
        file.write_all(lines.as_bytes()).map_err(&refused)?;
        file.sync_data().map_err(&refused)?;
        log.epochs = history.len();
        log.bytes += lines.len() as u64;
        log.hash.update(&lines);
        Ok(log)
    }

    /// The checkpoint after so many epochs of this run, if it is kept and whole.
    pub(super) fn after(&self, epochs: usize) -> Option<Checkpoint> {
        // What lies there before this run has written is an earlier one's.
        self.log.as_ref()?;
        self.read(&self.path(epochs)).ok()
    }

    /// The newest whole checkpoint; torn ones are passed over with a warning.
    pub(super) fn newest(&self) -> Result<Option<Checkpoint>> {
        for path in self.list()? {
            match self.read(&path) {
                Ok(checkpoint) => return Ok(Some(checkpoint)),
                Err(e) => tracing::warn!("{e}"),
            }
        }
        Ok(None)
    }

    /// What speaks against this run where the folder holds no checkpoints under its name but
    /// others: the error that names the setting which differs. Those of an equal run under another
    /// name (a later version may call it otherwise) become its own.
    pub(super) fn stranger(&mut self) -> Result<Option<Error>> {
        let names = self.names()?.into_iter();
        let mut found: Vec<(usize, String)> = names
            .filter_map(|name| Some((epochs_of(&name)?, name)))
            .collect();
        found.sort();
        let mut refusal = None;
        for (_, name) in found.into_iter().rev() {
            let path = self.folder.join(&name);
            let (found, wanted) = match self.difference(&path) {
                Ok(Some(difference)) => (difference.theirs, difference.ours),
                Ok(None) => {
                    self.name = run_of(&name).into();
                    return Ok(None);
                }
                Err(e) => {
                    // One that can be read says more.
                    refusal.get_or_insert(e);
                    continue;
                }
            };
            let fix = "Give it the settings of that run, or begin anew elsewhere.";
            return Ok(Some(Error::file(
                &path,
                format!("a checkpoint of a run with {found}"),
                format!("{wanted}, as this run has it"),
                fix,
            )));
        }
        Ok(refusal)
    }

    /// How the run of a checkpoint differs from this one.
    fn difference(&self, path: &Path) -> Result<Option<identity::Difference>> {
        let wrong = |found: &str| {
            let fix = "Begin anew elsewhere, or with the version that wrote it.";
            Error::file(
                path,
                found,
                "a checkpoint that says of which run it is",
                fix,
            )
        };
        let file = ModelFile::load(path)?;
        let Some(run) = file.extra.get(RUN) else {
            return Err(wrong("one without; an earlier version of wgrad wrote it"));
        };
        let theirs: Identity = serde_json::from_str(run).map_err(|e| wrong(&e.to_string()))?;
        Ok(self.identity.difference(&theirs))
    }

    fn read(&self, path: &Path) -> Result<Checkpoint> {
        let file = ModelFile::load(path)?;
        let wrong = |found: &str| Error::file(path, found, "a whole checkpoint", FIX);
        let text = |key: &str| {
            file.extra
                .get(key)
                .ok_or_else(|| wrong(&format!("no {key}")))
        };
        let mut content = file.extra.clone();
        content.remove(SHA256);
        if *text(SHA256)? != hash(&file.tensors, &content) {
            return Err(wrong("content that does not match its hash"));
        }
        let torn = |e: serde_json::Error| wrong(&e.to_string());
        let run: Identity = serde_json::from_str(text(RUN)?).map_err(torn)?;
        if let Some(difference) = self.identity.difference(&run) {
            return Err(wrong(&format!("that of a run with {}", difference.theirs)));
        }
        let epochs = text(EPOCHS)?.parse::<usize>();
        let epochs = epochs.map_err(|e| wrong(&e.to_string()))?;
        let origins = serde_json::from_str(text(ORIGINS)?).map_err(torn)?;
        let extent: Extent = serde_json::from_str(text(HISTORY)?).map_err(torn)?;
        let (log, history) = self.history(&extent)?;
        let mut last = 0;
        for epoch in &history {
            if epoch.epoch <= last || epoch.epoch > epochs || !epoch.fits(self.replicas) {
                let found =
                    format!("an entry after epoch {last} of {epochs} that is none of theirs");
                return Err(wrong(&format!("{found}, of {} replicas", self.replicas)));
            }
            last = epoch.epoch;
        }
        let buffers = file
            .tensors
            .iter()
            .map(|(n, t)| (n.clone(), t.iter().copied().collect()));
        Ok(Checkpoint {
            state: State {
                epochs,
                origins,
                buffers: buffers.collect(),
            },
            history,
            log,
        })
    }

    /// The part of the history's file that a checkpoint names.
    fn history(&self, extent: &Extent) -> Result<(Log, Vec<Epoch>)> {
        let path = self.history_path();
        let wrong = |found: String| {
            let wanted = format!("the first {} epochs of the run", extent.epochs);
            Error::file(&path, found, wanted, FIX)
        };
        let refused = Self::refused("read", &path);
        let file = File::open(&path).map_err(&refused)?;
        let there = file.metadata().map_err(&refused)?.len();
        if there < extent.bytes {
            return Err(wrong(format!("{there} bytes")));
        }
        let mut bytes = Vec::new();
        let mut part = file.take(extent.bytes);
        part.read_to_end(&mut bytes).map_err(&refused)?;
        let log = Log {
            epochs: extent.epochs,
            bytes: bytes.len() as u64,
            hash: Sha256::new().chain_update(&bytes),
        };
        if log.extent() != *extent {
            return Err(wrong("content that does not match its hash".into()));
        }
        let lines = bytes.split(|&b| b == b'\n').filter(|line| !line.is_empty());
        let history: Vec<Epoch> = lines
            .map(serde_json::from_slice)
            .collect::<serde_json::Result<_>>()
            .map_err(|e| wrong(e.to_string()))?;
        if history.len() != extent.epochs {
            return Err(wrong(format!("{} epochs", history.len())));
        }
        Ok((log, history))
    }
}

/// The hash of a checkpoint's tensors and metadata.
fn hash(tensors: &[(String, ArrayD<f32>)], content: &BTreeMap<String, String>) -> String {
    let weights = weights_sha256(tensors.iter().map(|(n, t)| (n.as_str(), t)));
    let mut all = Sha256::new().chain_update(weights);
    for key in [EPOCHS, HISTORY, ORIGINS, RUN] {
        let text = content.get(key).map_or("", String::as_str);
        all.update((text.len() as u64).to_le_bytes());
        all.update(text);
    }
    hex(&all.finalize())
}

#[cfg(test)]
mod tests;

//! Checkpoints: what a killed run needs to go on as if nothing had happened.
//!
//! Random numbers follow from seed and step, so the state of a run between two epochs is some tensors and a few numbers
//! beside them. It is one safetensors file, written whole or not at all, with a hash of its content. A folder has the last
//! few of one run:
//!
//! ```text
//! epoch-0000011.safetensors   the state after eleven epochs
//! epoch-0000012.safetensors   the state after twelve
//! epochs.jsonl                the numbers of twelve epochs, a line of JSON for each
//! ```
//!
//! Every epoch adds its line to that file: what an epoch writes does not grow with those before it. A checkpoint names how
//! much of it is its history, by length and hash. The line is on the disk before the checkpoint that counts it; a line
//! that no checkpoint counts is overwritten.
//!
//! A checkpoint says of which run it is. One of another run is refused by what differs, and stays.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};
use crate::files::{create_folder, hex};
use crate::model_file::{ModelFile, Tensors, weights_sha256};

mod difference;
mod history;

#[cfg(feature = "book")]
pub(crate) use difference::canonical;
pub(crate) use difference::narrowed;
use history::{Extent, History};

/// Metadata keys of a checkpoint: the run, its state, the epochs that are done, what names their numbers, and the hash of
/// all that and of the tensors.
const RUN: &str = "wgrad.run";
const STATE: &str = "wgrad.state";
const EPOCHS: &str = "wgrad.epochs";
const HISTORY: &str = "wgrad.history";
const SHA256: &str = "wgrad.sha256";

/// What helps where one of several is broken, and where all are.
const SKIPPED: &str = "It is skipped; an earlier checkpoint is used where there is one.";
const ANEW: &str = "Begin the run anew, or name another folder.";

/// What a run is recognised by, and what is kept of it.
pub(crate) trait Run: Serialize + DeserializeOwned {
    /// What a checkpoint has beside its tensors.
    type State: Serialize + DeserializeOwned;
    /// The numbers of an epoch.
    type Epoch: Line;

    /// What speaks against going on with what another run has left, if it is another.
    fn refusal(&self, theirs: &Self) -> Option<Refusal>;
}

/// The numbers of an epoch, as a history has them.
pub(crate) trait Line: Serialize + DeserializeOwned {
    /// Counted from 1.
    fn epoch(&self) -> usize;
    /// Whether there are those of so many replicas: lists are indexed by replica later.
    fn fits(&self, replicas: usize) -> bool;
}

/// Why a checkpoint is not a run's: what was found, what is wanted, what to do.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub found: String,
    pub wanted: String,
    pub fix: String,
}

impl Refusal {
    fn of(self, path: &Path) -> Error {
        Error::file(path, self.found, self.wanted, self.fix)
    }
}

/// A run's state between two epochs.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Entry<S> {
    /// Epochs that are done.
    pub epochs: usize,
    pub state: S,
    pub tensors: Tensors,
}

/// A checkpoint that was read.
#[derive(Debug)]
pub(crate) struct Kept<R: Run> {
    path: PathBuf,
    run: R,
    pub entry: Entry<R::State>,
    /// The epochs that were reported.
    pub epochs: Vec<R::Epoch>,
    history: History,
}

/// The folder of a run's checkpoints.
#[derive(Debug)]
pub(crate) struct Store<R> {
    folder: PathBuf,
    /// How many are kept.
    last: usize,
    replicas: usize,
    /// The run whose checkpoints these are.
    run: R,
    /// What of the run's history is on the disk; `None` where the run begins anew and has written nothing yet.
    history: Option<History>,
}

/// The epochs of a checkpoint by its file's name.
fn epochs_of(file: &str) -> Option<usize> {
    let epochs = file.strip_prefix("epoch-")?.strip_suffix(".safetensors")?;
    let plain = !epochs.is_empty() && epochs.bytes().all(|b| b.is_ascii_digit());
    plain.then(|| epochs.parse().ok()).flatten()
}

/// A folder's checkpoints, newest first.
pub(crate) fn list(folder: &Path) -> Result<Vec<PathBuf>> {
    let refused = refused("read", folder);
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).map_err(&refused)? {
        let name = entry.map_err(&refused)?.file_name();
        let Ok(name) = name.into_string() else {
            continue;
        };
        found.extend(epochs_of(&name).map(|epochs| (epochs, name)));
    }
    found.sort();
    let newest_first = found.into_iter().rev();
    Ok(newest_first.map(|(_, name)| folder.join(name)).collect())
}

/// Refuses a file that is a checkpoint, whose it may be, where a model is wanted.
pub(crate) fn refuse(path: &Path, file: &ModelFile) -> Result<()> {
    match file.extra.contains_key(HISTORY) {
        false => Ok(()),
        true => Err(Error::file(
            path,
            "a checkpoint, the state of a run that may still go on",
            "a model",
            "Let the run that wrote it go on to its end, and use the model that comes of it.",
        )),
    }
}

fn refused<'a>(action: &'static str, path: &'a Path) -> impl Fn(std::io::Error) -> Error + 'a {
    move |e| Error::io(action, path, e, "Check the folder's permissions.")
}

/// Removes a file; one that is gone already is as good.
fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != ErrorKind::NotFound => Err(refused("remove", path)(e)),
        _ => Ok(()),
    }
}

fn to_json(what: &str, value: &impl Serialize) -> Result<String> {
    serde_json::to_string(value).map_err(|e| Error::setting(what, e, "what JSON can hold"))
}

impl<R: Run> Store<R> {
    /// A folder for the last few checkpoints of a run of so many replicas; it is made.
    ///
    /// # Errors
    /// [`Error::Setting`] if none is to be kept, [`Error::Io`] where the folder cannot be written to.
    pub fn open(folder: &Path, last: usize, replicas: usize, run: R) -> Result<Self> {
        if last == 0 {
            return Err(Error::setting("checkpoints kept", 0, "at least 1"));
        }
        create_folder(folder)?;
        Ok(Self {
            folder: folder.into(),
            last,
            replicas,
            run,
            history: None,
        })
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// From now on it keeps those of another run, which begins anew.
    #[cfg(any(feature = "book", test))]
    pub fn begin(&mut self, run: R) {
        self.run = run;
        self.history = None;
    }

    /// From now on it adds to what a checkpoint holds.
    pub fn take_up(&mut self, kept: &Kept<R>) {
        self.history = Some(kept.history.clone());
    }

    /// What the run is recognised by, where more of that becomes known.
    pub fn run_mut(&mut self) -> &mut R {
        &mut self.run
    }

    /// Refuses a checkpoint that was taken for this run's before all was known of it.
    pub fn check(&self, kept: &Kept<R>) -> Result<()> {
        match self.run.refusal(&kept.run) {
            None => Ok(()),
            Some(refusal) => Err(refusal.of(&kept.path)),
        }
    }

    fn path(&self, epochs: usize) -> PathBuf {
        self.folder.join(format!("epoch-{epochs:07}.safetensors"))
    }

    /// Removes all checkpoints, whose they may be.
    pub fn clear(&mut self) -> Result<()> {
        for path in list(&self.folder)? {
            remove(&path)?;
        }
        remove(&history::path(&self.folder))?;
        self.history = None;
        Ok(())
    }

    /// The newest whole checkpoint of this run; broken ones are passed over with a warning.
    ///
    /// # Errors
    /// [`Error::File`] for one of another run, by what differs, and where there are some and all are broken.
    pub fn newest(&self) -> Result<Option<Kept<R>>> {
        let mut broken = None;
        for path in list(&self.folder)? {
            match self.read(&path) {
                Ok(Ok(kept)) => return Ok(Some(kept)),
                Ok(Err(refusal)) => return Err(refusal.of(&path)),
                Err(e) => {
                    tracing::warn!("{e}");
                    broken.get_or_insert(e);
                }
            }
        }
        match broken {
            None => Ok(None),
            Some(Error::File {
                path,
                found,
                wanted,
                ..
            }) => Err(Error::file(&path, found, wanted, ANEW)),
            Some(other) => Err(other),
        }
    }

    /// The checkpoint after so many epochs of this run, if it is kept and whole.
    pub fn after(&self, epochs: usize) -> Option<Kept<R>> {
        // What lies there before this run has written is an earlier one's.
        self.history.as_ref()?;
        self.read(&self.path(epochs)).ok()?.ok()
    }

    /// Writes a checkpoint, of which `epochs` are all that were reported, then removes the oldest beyond those to be kept, and those
    /// of later epochs: were they whole, the run had gone on from them.
    ///
    /// # Errors
    /// [`Error::Io`] where something cannot be written.
    pub fn write(&mut self, entry: Entry<R::State>, epochs: &[R::Epoch]) -> Result<()> {
        let history = match self.history.take() {
            Some(history) => history,
            None => {
                // An earlier run's later epochs would stand for this one's.
                self.clear()?;
                History::default()
            }
        };
        let history = history.add(&self.folder, epochs)?;
        let mut extra = BTreeMap::from([
            (RUN.into(), to_json("settings", &self.run)?),
            (STATE.into(), to_json("state of a run", &entry.state)?),
            (EPOCHS.into(), entry.epochs.to_string()),
            (HISTORY.into(), to_json("history", &history.extent())?),
        ]);
        extra.insert(SHA256.into(), content(&entry.tensors, &extra));
        let file = ModelFile {
            tensors: entry.tensors,
            network_json: "{}".into(),
            extra,
        };
        file.save(&self.path(entry.epochs))?;
        self.history = Some(history);
        let written = self.path(entry.epochs);
        let all = list(&self.folder)?;
        let at = all.iter().position(|path| *path == written).unwrap_or(0);
        let (later, own) = all.split_at(at);
        for path in later.iter().chain(own.iter().skip(self.last)) {
            remove(path)?;
        }
        Ok(())
    }

    /// Reads a checkpoint, unless it is another run's.
    fn read(&self, path: &Path) -> Result<std::result::Result<Kept<R>, Refusal>> {
        let file = ModelFile::load(path)?;
        let wrong = |found: &str| Error::file(path, found, "a whole checkpoint", SKIPPED);
        let torn = |e: serde_json::Error| wrong(&e.to_string());
        let text = |key: &str| {
            let text = file.extra.get(key);
            text.ok_or_else(|| wrong(&format!("no {key}, as no checkpoint of this version lacks")))
        };
        // A file keeps its tensors in the order of their data, which is that of writing.
        if *text(SHA256)? != content(&file.tensors, &file.extra) {
            return Err(wrong("content that does not match its hash"));
        }
        let run: R = serde_json::from_str(text(RUN)?).map_err(torn)?;
        if let Some(refusal) = self.run.refusal(&run) {
            return Ok(Err(refusal));
        }
        let state = serde_json::from_str(text(STATE)?).map_err(torn)?;
        let epochs = text(EPOCHS)?.parse::<usize>();
        let epochs = epochs.map_err(|e| wrong(&e.to_string()))?;
        let extent: Extent = serde_json::from_str(text(HISTORY)?).map_err(torn)?;
        let (history, reported) = History::read::<R::Epoch>(&self.folder, &extent)?;
        let mut last = 0;
        for line in &reported {
            if line.epoch() <= last || line.epoch() > epochs || !line.fits(self.replicas) {
                let epoch = line.epoch();
                return Err(wrong(&format!(
                    "numbers of epoch {epoch} after those of {last}, of {epochs} epochs and {} replicas, which do not go together",
                    self.replicas
                )));
            }
            last = line.epoch();
        }
        let entry = Entry {
            epochs,
            state,
            tensors: file.tensors,
        };
        Ok(Ok(Kept {
            path: path.into(),
            run,
            entry,
            epochs: reported,
            history,
        }))
    }
}

/// The hash of a checkpoint's tensors and metadata.
fn content(tensors: &Tensors, extra: &BTreeMap<String, String>) -> String {
    let weights = weights_sha256(tensors.iter().map(|(n, t)| (n.as_str(), t)));
    let mut all = Sha256::new().chain_update(weights);
    for key in [RUN, STATE, EPOCHS, HISTORY] {
        let text = extra.get(key).map_or("", String::as_str);
        all.update((text.len() as u64).to_le_bytes());
        all.update(text);
    }
    hex(&all.finalize())
}

#[cfg(test)]
mod tests;

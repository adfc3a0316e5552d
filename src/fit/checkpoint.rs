//! Checkpoints of a [`Fit`](super::Fit): what a run that was killed needs to end as one that was not.
//!
//! Random numbers follow from seed and step, so the state of a run between two epochs is its weights,
//! what the optimizer keeps, the step counter, the numbers so far and what callbacks know. All of it
//! is one safetensors file, written whole or not at all, with a hash of its content.

use std::collections::BTreeMap;
use std::path::Path;

use ndarray::ArrayD;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::report::Epoch;
use super::weights::Weights;
use crate::data::{Dataset, Numbers};
use crate::error::{Error, Result};
use crate::files::hex;
use crate::model_file::{ModelFile, weights_sha256};

/// Metadata keys of the state and of the hash of state and tensors.
const STATE: &str = "wgrad.fit";
const SHA256: &str = "wgrad.sha256";

const FIX: &str = "Begin the run anew, or name the file of another run.";

/// What a tensor's name begins with: weights and statistics, what the optimizer keeps, the weights that
/// a callback has chosen (then the replica's number).
pub(super) const WEIGHTS: &str = "weights.";
pub(super) const STATES: &str = "states.";
const CHOSEN: &str = "chosen.";

/// The name of what a run's steps compute, and how it is validated.
pub(super) const STEP: &str = "what a step computes";

/// Tensors by name.
pub(super) type Tensors = Vec<(String, ArrayD<f32>)>;

/// The state of a run between two epochs, but for its tensors.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct State {
    /// The run's settings by name, as text: another run's checkpoint is refused by the first that differs.
    pub run: BTreeMap<String, String>,
    /// The epochs that are done.
    pub epochs: Vec<Epoch>,
    /// The step counter of each replica.
    pub step: Vec<u32>,
    /// Whether a callback has ended the run.
    pub stopped: bool,
    /// The epoch whose weights a callback has chosen.
    pub chosen: Option<usize>,
    /// What each callback knows that does more than look on.
    pub callbacks: Vec<serde_json::Value>,
    /// The learning rate of each replica, where callbacks set rates.
    #[serde(default)]
    pub rates: Vec<f64>,
}

/// A checkpoint.
#[derive(Debug, Default)]
pub(super) struct Checkpoint {
    pub state: State,
    /// Weights and what the optimizer keeps, of all replicas, by prefixed names.
    pub tensors: Tensors,
    /// The weights that a callback has chosen, of each replica.
    pub chosen: Vec<Weights>,
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

fn content(state: &str, tensors: &[(String, ArrayD<f32>)]) -> String {
    let mut hash = Sha256::new();
    hash.update(state);
    hash.update(weights_sha256(tensors.iter().map(|(n, t)| (n.as_str(), t))));
    hex(&hash.finalize())
}

impl Checkpoint {
    /// Writes it, whole or not at all.
    pub fn save(&self, path: &Path) -> Result<()> {
        let state = serde_json::to_string(&self.state)
            .map_err(|e| Error::setting("state of a run", e, "what JSON can hold"))?;
        let mut tensors = self.tensors.clone();
        for (replica, weights) in self.chosen.iter().enumerate() {
            let named = weights.tensors().iter();
            tensors.extend(
                named.map(|(name, tensor)| (format!("{CHOSEN}{replica}.{name}"), tensor.clone())),
            );
        }
        let sha256 = content(&state, &tensors);
        let file = ModelFile {
            tensors,
            network_json: "{}".into(),
            extra: BTreeMap::from([(STATE.into(), state), (SHA256.into(), sha256)]),
        };
        file.save(path)
    }

    /// Reads it; `None` where there is no file.
    pub fn load(path: &Path) -> Result<Option<Self>> {
        if !path.exists() {
            return Ok(None);
        }
        let mut file = ModelFile::load(path)?;
        let of = |key: &str| file.extra.get(key).cloned();
        let (Some(state), Some(sha256)) = (of(STATE), of(SHA256)) else {
            let wanted = "a checkpoint of a run";
            return Err(Error::file(path, "no state of a run", wanted, FIX));
        };
        // A file keeps its tensors in the order of their data, which is that of writing.
        if content(&state, &file.tensors) != sha256 {
            let found = "content of another hash than it says";
            return Err(Error::file(
                path,
                found,
                "a checkpoint as it was written",
                FIX,
            ));
        }
        let state: State = serde_json::from_str(&state).map_err(|e| {
            let found = format!("a state that cannot be read ({e})");
            Error::file(path, found, "a checkpoint of this version", FIX)
        })?;
        let replicas = state.step.len() / crate::kernel::COUNTER;
        let own = |name: &str| name.starts_with(WEIGHTS) || name.starts_with(STATES);
        let (tensors, rest): (Vec<_>, Vec<_>) =
            file.tensors.drain(..).partition(|(name, _)| own(name));
        let chosen = (0..replicas).map(|replica| {
            let prefix = format!("{CHOSEN}{replica}.");
            let tensors = rest.iter().filter_map(|(name, tensor)| {
                Some((name.strip_prefix(&prefix)?.to_string(), tensor.clone()))
            });
            Weights::from_tensors(tensors.collect())
        });
        let chosen = match state.chosen {
            Some(_) => chosen.collect(),
            None => vec![],
        };
        Ok(Some(Self {
            state,
            tensors,
            chosen,
        }))
    }

    /// Refuses a checkpoint of another run, by the first setting that differs.
    pub fn of_run(&self, path: &Path, run: &BTreeMap<String, String>) -> Result<()> {
        for (name, wanted) in run {
            let found = self.state.run.get(name);
            if found == Some(wanted) {
                continue;
            }
            if let Some((found, wanted)) = found.and_then(|found| schedules(name, found, wanted)) {
                return Err(Error::file(
                    path,
                    format!("a run with the schedule `{found}`"),
                    format!("a checkpoint of this run, with the schedule `{wanted}`"),
                    "A schedule that goes over the epochs of a run is another one where these are more or \
                     fewer, so the steps already done would have had other rates. Give the run the epochs \
                     and the schedule that it began with, or another file.",
                ));
            }
            if name == STEP && found.is_some() {
                return Err(Error::file(
                    path,
                    "a run whose steps, or whose validation, compute something else",
                    "a checkpoint of this run",
                    "Names and numbers of model, loss and optimizer are the same, so a function has changed that writes \
                     some of them: a loss, an expression, a metric, which parameters are in a group. Give the run those that it \
                     began with, or another file.",
                ));
            }
            let (found, wanted) = match found {
                None => ("nothing".into(), shown(wanted, "the one that goes on")),
                Some(found) => apart(found, wanted),
            };
            return Err(Error::file(
                path,
                format!("{name} {found}"),
                format!("a checkpoint of this run, with {name} {wanted}"),
                "Give the run the settings that it began with, or another file.",
            ));
        }
        Ok(())
    }
}

/// Most characters of a setting that are shown.
const SHOWN: usize = 60;

/// A text between ticks, or what is said in the stead of a long one.
fn shown(text: &str, long: &str) -> String {
    match text.chars().count() > SHOWN {
        true => long.into(),
        false => format!("`{text}`"),
    }
}

/// Two settings that differ: both, or of long ones the parts between commas and brackets that do.
fn apart(found: &str, wanted: &str) -> (String, String) {
    let whole = |text: &str| text.chars().count() <= SHOWN;
    if whole(found) && whole(wanted) {
        return (shown(found, ""), shown(wanted, ""));
    }
    let parts = |text: &str| -> Vec<String> {
        let parts = text.split([',', '{', '}', '[', ']']).map(str::trim);
        parts
            .filter(|part| !part.is_empty())
            .map(String::from)
            .collect()
    };
    let (all_found, all_wanted) = (parts(found), parts(wanted));
    let before = all_found
        .iter()
        .zip(&all_wanted)
        .take_while(|(a, b)| a == b)
        .count();
    let behind = all_found[before..]
        .iter()
        .rev()
        .zip(all_wanted[before..].iter().rev());
    let behind = behind.take_while(|(a, b)| a == b).count();
    let differing = |all: &[String]| all[before..all.len() - behind].join(", ");
    let differ = [&all_found, &all_wanted].map(|all| differing(all));
    if differ[0] == differ[1] || differ.iter().any(|part| part.is_empty()) {
        return (
            shown(found, "another one"),
            shown(wanted, "the one that goes on"),
        );
    }
    let [found, wanted] = differ;
    let part = |text: &str, long: &str| match whole(text) {
        true => format!("where it says `{text}`"),
        false => long.into(),
    };
    (
        part(&found, "another one"),
        part(&wanted, "the one that goes on"),
    )
}

/// The schedules of two optimizers, as text, that are the same but for these.
fn schedules<'a>(name: &str, found: &'a str, wanted: &'a str) -> Option<(&'a str, &'a str)> {
    fn parts(text: &str) -> Option<(&str, &str, &str)> {
        let (before, rest) = text.split_once(", schedule: ")?;
        let (schedule, behind) = rest.split_once(", groups: ")?;
        Some((before, schedule, behind))
    }
    let (found, wanted) = (parts(found)?, parts(wanted)?);
    let alike = name == "optimizer" && (found.0, found.2) == (wanted.0, wanted.2);
    alike.then_some((found.1, wanted.1))
}

//! Which run a checkpoint is of: everything that decides a run's weights, by name.
//!
//! A name that is missing stands for its default, so a checkpoint outlives settings that are
//! added after it; and two runs that differ can be told in which name.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::outcome::Epoch;
use super::{Model, Settings};
use crate::book::nn::Network;
use crate::checkpoints::{Refusal, Run, canonical, narrowed};
use crate::data::{Images, Split};
use crate::error::{Error, Result};
use crate::files::hex;

/// The form of [`Identity`]: counted up where a name changes its meaning or its default.
const VERSION: u32 = 2;
/// Bytes of the hash in a folder's name.
const NAME: usize = 8;

/// What trained some of a run's epochs. The weights' last bits depend on both.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// The version of wgrad.
    pub version: String,
    /// Adapter, backend and driver, or the CPU.
    pub device: String,
}

/// What a checkpoint says of a run beside its numbers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct State {
    /// Who trained it, in order.
    pub origins: Vec<Origin>,
}

/// What decides a run's weights, but for how long it goes on.
///
/// How long is not only `epochs`: a single network may be given another patience
/// (`stop_after`), which ends the run and changes nothing before. Among replicas it freezes
/// one while others learn, so there it counts. Under a rule the validation set decides too.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Identity {
    version: u32,
    parts: BTreeMap<String, Value>,
}

/// In what two runs differ: the name and each one's value.
#[derive(Debug)]
struct Difference {
    /// As this run has it.
    pub ours: String,
    /// As the other has it.
    pub theirs: String,
}

/// The settings that count, by name.
fn of_settings(settings: &Settings) -> Result<Map<String, Value>> {
    // Every field is named here, so that a new one cannot be forgotten.
    let Settings {
        batch,
        learning_rates,
        momentum,
        l2,
        l1,
        seed,
        replicas,
        first_replica,
        expansion,
        distortion,
        average_from,
        replica_rates,
        stop_after,
        halve_after,
        // These decide how long, how often and by which launches, not what is learned.
        epochs: _,
        evaluation_batch: _,
        fuse: _,
        measure_training: _,
        evaluate_every: _,
        verify_every: _,
    } = settings;
    // The last rate holds on, so its repetitions say nothing.
    let mut rates = &learning_rates[..];
    while let [before @ .., a, b] = rates
        && a == b
    {
        rates = &rates[..before.len() + 1];
    }
    let plain = replica_rates.iter().all(|&rate| rate == 1.0);
    let own = if plain { &[][..] } else { replica_rates };
    let parts = json!({
        "batch": batch,
        "learning rates": rates,
        "momentum": momentum,
        "l2": l2,
        "l1": l1,
        "seed": seed,
        "replicas": replicas,
        "first replica": first_replica,
        "expansion": expansion,
        "distortion": distortion,
        "average from": average_from,
        "replica rates": own,
        "stop after": stop_after.filter(|_| *replicas > 1),
        "halve after": halve_after,
    });
    match parts {
        Value::Object(parts) => Ok(parts),
        other => Err(Error::setting("settings", other, "named values")),
    }
}

/// The value of a name that is missing.
fn default_of(name: &str) -> Value {
    let settings = of_settings(&Settings::default()).unwrap_or_default();
    settings.get(name).cloned().unwrap_or(Value::Null)
}

/// Images by their number and a hash.
fn of_images(images: &Images) -> Value {
    let hash = Sha256::new()
        .chain_update(&images.pixels)
        .chain_update(&images.labels)
        .finalize();
    json!(format!("{} of sha256 {}", images.len(), hex(&hash)))
}

impl Identity {
    /// The identity of a run that draws its weights.
    pub(super) fn of(network: &Network, settings: &Settings, data: &Split) -> Result<Self> {
        let mut parts: BTreeMap<String, Value> = of_settings(settings)?.into_iter().collect();
        let network = serde_json::to_value(network);
        let network = network.map_err(|e| Error::setting("network", e, "finite numbers"))?;
        parts.insert("network".into(), network);
        parts.insert("training images".into(), of_images(&data.train));
        if settings.has_rules() {
            parts.insert("validation images".into(), of_images(&data.validation));
        }
        Ok(Self {
            version: VERSION,
            parts,
        })
    }

    /// The identity of a run that would be this one but starts from a model's weights.
    pub(super) fn given(mut self, model: &Model) -> Self {
        let hashes = json!(model.sha256());
        self.parts.insert("given weights".into(), hashes);
        self
    }

    fn part(&self, name: &str) -> Value {
        let Some(part) = self.parts.get(name) else {
            return default_of(name);
        };
        // What a description leaves out has its default there too.
        let network = (name == "network").then(|| Network::deserialize(part).ok());
        let whole = network.flatten().and_then(|n| serde_json::to_value(n).ok());
        whole.unwrap_or_else(|| part.clone())
    }

    /// What the run's folder is called among those of others: a hash of everything that is not as by default, so that
    /// a setting which is added later changes no name.
    pub(super) fn name(&self) -> String {
        let mut hash = Sha256::new().chain_update(self.version.to_le_bytes());
        for (name, value) in &self.parts {
            if *value != default_of(name) {
                let text = canonical(value);
                for part in [name, &text] {
                    hash.update((part.len() as u64).to_le_bytes());
                    hash.update(part);
                }
            }
        }
        hex(&hash.finalize()[..NAME])
    }

    /// The first name in which two runs differ; the network last, since what else differs is
    /// often a reason for it.
    fn difference(&self, theirs: &Self) -> Option<Difference> {
        if self.version != theirs.version {
            return Some(Difference {
                ours: format!("identity version {}", self.version),
                theirs: format!("identity version {}", theirs.version),
            });
        }
        let names = self.parts.keys().chain(theirs.parts.keys());
        let mut names: Vec<&String> = names.collect();
        names.sort_by_key(|name| (*name == "network", *name));
        let differ = |name: &&String| self.part(name) != theirs.part(name);
        let name = names.into_iter().find(differ)?;
        let (place, [ours, theirs]) = narrowed(name, &self.part(name), &theirs.part(name));
        Some(Difference {
            ours: format!("{place} {ours}"),
            theirs: format!("{place} {theirs}"),
        })
    }
}

impl Run for Identity {
    type State = State;
    type Epoch = Epoch;

    fn refusal(&self, theirs: &Self) -> Option<Refusal> {
        let Difference { ours, theirs } = self.difference(theirs)?;
        Some(Refusal {
            found: format!("a checkpoint of a run with {theirs}"),
            wanted: format!("{ours}, as this run has it"),
            fix: "Give it the settings of that run, or begin anew elsewhere.".into(),
        })
    }
}

#[cfg(test)]
mod tests;

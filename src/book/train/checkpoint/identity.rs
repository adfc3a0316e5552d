//! Which run a checkpoint is of: everything that decides a run's weights, by name.
//!
//! A name that is missing stands for its default, so a checkpoint outlives settings that are
//! added after it; and two runs that differ can be told in which name.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::hex;
use crate::book::nn::Network;
use crate::book::train::{Model, Settings};
use crate::data::{Images, Split};
use crate::error::{Error, Result};

/// The form of [`Identity`]: counted up where a name changes its meaning or its default.
const VERSION: u32 = 2;
/// Bytes of the hash in a file's name.
const NAME: usize = 8;
/// Most characters of a value in a message.
const SHOWN: usize = 160;

/// What decides a run's weights, but for how long it goes on.
///
/// How long is not only `epochs`: a single network may be given another patience
/// (`stop_after`), which ends the run and changes nothing before. Among replicas it freezes
/// one while others learn, so there it counts. Under a rule the validation set decides too.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(in crate::book::train) struct Identity {
    version: u32,
    parts: BTreeMap<String, Value>,
}

/// In what two runs differ: the name and each one's value.
#[derive(Debug)]
pub(super) struct Difference {
    /// As this run has it.
    pub ours: String,
    /// As the other has it.
    pub theirs: String,
}

/// Whether a file's name may begin with this.
pub(super) fn is_name(text: &str) -> bool {
    text.len() == 2 * NAME && text.bytes().all(|b| b.is_ascii_hexdigit())
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
    pub(in crate::book::train) fn of(
        network: &Network,
        settings: &Settings,
        data: &Split,
    ) -> Result<Self> {
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
    pub(in crate::book::train) fn given(mut self, model: &Model) -> Self {
        let hashes = json!(model.sha256());
        self.parts.insert("given weights".into(), hashes);
        self
    }

    /// The identity of a run that only has a name.
    #[cfg(test)]
    pub(super) fn called(name: &str) -> Self {
        Self {
            version: VERSION,
            parts: BTreeMap::from([("called".into(), json!(name))]),
        }
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

    /// What the run's files are called: a hash of everything that is not as by default, so that
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
    pub(super) fn difference(&self, theirs: &Self) -> Option<Difference> {
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
        let (place, ours, theirs) = narrowed(name.clone(), self.part(name), theirs.part(name));
        Some(Difference {
            ours: format!("{place} {}", shown(&ours)),
            theirs: format!("{place} {}", shown(&theirs)),
        })
    }
}

/// Two values that differ, as deep as it is one place in which they do.
fn narrowed(place: String, ours: Value, theirs: Value) -> (String, Value, Value) {
    match (&ours, &theirs) {
        (Value::Object(a), Value::Object(b)) if a.keys().eq(b.keys()) => {
            let mut apart = a.iter().filter(|(key, value)| b.get(*key) != Some(value));
            if let Some((key, value)) = apart.next() {
                let other = b.get(key).cloned().unwrap_or(Value::Null);
                return narrowed(format!("{place}, {key}"), value.clone(), other);
            }
        }
        // Lists of layers; of a list of numbers the whole says more.
        (Value::Array(a), Value::Array(b))
            if a.len() == b.len() && a.iter().all(Value::is_object) =>
        {
            if let Some(k) = (0..a.len()).find(|&k| a[k] != b[k]) {
                return narrowed(format!("{place} {k}"), a[k].clone(), b[k].clone());
            }
        }
        _ => {}
    }
    (place, ours, theirs)
}

/// A value for a message.
fn shown(value: &Value) -> String {
    let text = match value {
        Value::Null => "none".into(),
        Value::String(text) => text.clone(),
        other => canonical(other),
    };
    match text.char_indices().nth(SHOWN) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text,
    }
}

/// A value's JSON, names in order: whatever order a map keeps.
fn canonical(value: &Value) -> String {
    let list = |parts: Vec<String>| parts.join(",");
    match value {
        Value::Object(map) => {
            let sorted: BTreeMap<_, _> = map.iter().collect();
            let part = |(k, v): (&String, &Value)| format!("{}:{}", json!(k), canonical(v));
            format!("{{{}}}", list(sorted.into_iter().map(part).collect()))
        }
        Value::Array(values) => {
            format!("[{}]", list(values.iter().map(canonical).collect()))
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests;

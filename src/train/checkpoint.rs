//! Checkpoints: what a killed run needs to go on as if nothing had happened.
//!
//! Random numbers have no state but seed and step, so a checkpoint is the parameters, the
//! velocities, the running means and the history of epochs. It is one safetensors file,
//! written whole or not at all, with a hash of its content; the last few are kept. A file's
//! name begins with the *identity* of its run (a hash of network, settings, data and given
//! weights), so runs that share a folder never touch each other's.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use ndarray::{ArrayD, IxDyn};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{Epoch, Model, Settings};
use crate::data::Split;
use crate::error::{Error, Result};
use crate::files::create_folder;
use crate::model_file::{ModelFile, weights_sha256};
use crate::nn::Network;

/// Metadata key of the epochs' numbers.
pub(super) const HISTORY: &str = "wgrad.history";
/// Metadata key of what trained them.
const ORIGINS: &str = "wgrad.origins";
/// Metadata key of the content's hash.
const SHA256: &str = "wgrad.sha256";

const FIX: &str = "It is skipped; an earlier checkpoint is used where there is one.";

/// Where a run keeps its checkpoints.
#[derive(Debug)]
pub(super) struct Keeper {
    folder: PathBuf,
    last: usize,
    replicas: usize,
    /// The name of the run whose checkpoints these are.
    pub identity: String,
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
#[derive(Debug, PartialEq)]
pub(super) struct Checkpoint {
    /// The epochs that are done.
    pub history: Vec<Epoch>,
    /// Who trained them, in order.
    pub origins: Vec<Origin>,
    /// Parameters, velocities and running means by name: the values of all replicas.
    pub buffers: Vec<(String, Vec<f32>)>,
}

/// A hash of everything that decides a run's weights, but for how long it goes on.
///
/// How long is not only `epochs`: a single network may be given another patience
/// (`stop_after`), which ends the run and changes nothing before. Among replicas it freezes
/// one while others learn, so there it counts. Under a rule the validation set decides too.
pub(super) fn identity(network: &Network, settings: &Settings, data: &Split) -> Result<String> {
    let decisive = Settings {
        epochs: 0,
        evaluation_batch: 0,
        fuse: true,
        verify_every: 0,
        stop_after: settings.stop_after.filter(|_| settings.replicas > 1),
        measure_training: false,
        evaluate_every: 1,
        ..settings.clone()
    };
    let json = serde_json::to_string(&decisive)
        .map_err(|e| Error::setting("settings", e, "finite numbers"))?;
    let network = network.to_json()?;
    let (train, validation) = (&data.train, &data.validation);
    let mut parts: Vec<&[u8]> = vec![network.as_bytes(), json.as_bytes()];
    parts.extend([&train.pixels[..], &train.labels]);
    if settings.has_rules() {
        parts.extend([&validation.pixels[..], &validation.labels]);
    }
    Ok(short_hash(&parts))
}

/// The identity of a run that would be `identity` but starts from a model's weights.
pub(super) fn given(identity: &str, model: &Model) -> String {
    let hashes = model.sha256();
    let mut parts = vec![identity.as_bytes()];
    parts.extend(hashes.iter().map(String::as_bytes));
    short_hash(&parts)
}

/// Eight bytes of a hash of parts and their lengths.
fn short_hash(parts: &[&[u8]]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    let bytes = hash.finalize();
    bytes.iter().take(8).map(|b| format!("{b:02x}")).collect()
}

impl Keeper {
    pub(super) fn new(
        folder: &Path,
        last: usize,
        identity: String,
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
            identity,
        })
    }

    fn path(&self, epochs: usize) -> PathBuf {
        self.folder
            .join(format!("{}-{epochs:07}.safetensors", self.identity))
    }

    /// This run's checkpoints, newest first.
    fn list(&self) -> Result<Vec<PathBuf>> {
        let refused = |e| Error::io("read", &self.folder, e, "Check the folder's permissions.");
        let mut found = Vec::new();
        for entry in std::fs::read_dir(&self.folder).map_err(refused)? {
            let path = entry.map_err(refused)?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let ours = name
                .strip_prefix(&format!("{}-", self.identity))
                .and_then(|rest| rest.strip_suffix(".safetensors"))
                .is_some_and(|epochs| epochs.parse::<usize>().is_ok());
            if ours {
                found.push(path);
            }
        }
        found.sort();
        found.reverse();
        Ok(found)
    }

    /// Writes a checkpoint, then removes the oldest beyond those to be kept.
    pub(super) fn write(&self, checkpoint: &Checkpoint) -> Result<()> {
        let tensors = checkpoint
            .buffers
            .iter()
            .map(|(name, values)| {
                let array = ArrayD::from_shape_vec(IxDyn(&[values.len()]), values.clone())
                    .map_err(|e| Error::shape(name, e.to_string(), "a flat list"))?;
                Ok((name.clone(), array))
            })
            .collect::<Result<Vec<_>>>()?;
        let history = serde_json::to_string(&checkpoint.history)
            .map_err(|e| Error::setting("history", e, "finite numbers"))?;
        let origins = serde_json::to_string(&checkpoint.origins)
            .map_err(|e| Error::setting("origins", e, "text"))?;
        let extra = BTreeMap::from([
            (SHA256.into(), hash(&tensors, &history, &origins)),
            (HISTORY.into(), history),
            (ORIGINS.into(), origins),
        ]);
        let file = ModelFile {
            tensors,
            network_json: "{}".into(),
            extra,
        };
        file.save(&self.path(checkpoint.history.len()))?;
        for old in self.list()?.into_iter().skip(self.last) {
            let refused = |e| Error::io("remove", &old, e, "Check the folder's permissions.");
            std::fs::remove_file(&old).map_err(refused)?;
        }
        Ok(())
    }

    /// The checkpoint after so many epochs, if it is kept and whole.
    pub(super) fn after(&self, epochs: usize) -> Option<Checkpoint> {
        read(&self.path(epochs), self.replicas).ok()
    }

    /// The newest whole checkpoint; torn ones are passed over with a warning.
    pub(super) fn newest(&self) -> Result<Option<Checkpoint>> {
        for path in self.list()? {
            match read(&path, self.replicas) {
                Ok(checkpoint) => return Ok(Some(checkpoint)),
                Err(e) => tracing::warn!("{e}"),
            }
        }
        Ok(None)
    }
}

fn hash(tensors: &[(String, ArrayD<f32>)], history: &str, origins: &str) -> String {
    let weights = weights_sha256(tensors.iter().map(|(n, t)| (n.as_str(), t)));
    let all = Sha256::new()
        .chain_update(weights)
        .chain_update(history)
        .chain_update(origins)
        .finalize();
    all.iter().map(|b| format!("{b:02x}")).collect()
}

fn read(path: &Path, replicas: usize) -> Result<Checkpoint> {
    let file = ModelFile::load(path)?;
    let wrong = |found: &str| Error::file(path, found, "a whole checkpoint", FIX);
    let text = |key: &str| {
        file.extra
            .get(key)
            .ok_or_else(|| wrong(&format!("no {key}")))
    };
    let (history, origins) = (text(HISTORY)?, text(ORIGINS)?);
    if *text(SHA256)? != hash(&file.tensors, history, origins) {
        return Err(wrong("content that does not match its hash"));
    }
    let history: Vec<Epoch> = serde_json::from_str(history).map_err(|e| wrong(&e.to_string()))?;
    let origins = serde_json::from_str(origins).map_err(|e| wrong(&e.to_string()))?;
    for (k, epoch) in history.iter().enumerate() {
        if epoch.epoch != k + 1 || !epoch.fits(replicas) {
            let found = format!("an entry {} that is not epoch {0} of {replicas}", k + 1);
            return Err(wrong(&format!("{found} replicas")));
        }
    }
    let buffers = file
        .tensors
        .iter()
        .map(|(n, t)| (n.clone(), t.iter().copied().collect()));
    Ok(Checkpoint {
        history,
        origins,
        buffers: buffers.collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checkpoint(epochs: usize) -> Checkpoint {
        let epoch = |epoch| Epoch {
            epoch,
            training_cost: vec![0.1 + epoch as f64],
            training_accuracy: vec![0.5],
            validation_accuracy: vec![0.25],
            test_accuracy: vec![1.0 / 3.0],
            validation_cost: vec![2.0 / 3.0],
            test_cost: vec![0.7],
            set_cost: vec![],
            set_accuracy: vec![],
            penalty: vec![],
            seconds: 0.125,
        };
        Checkpoint {
            history: (1..=epochs).map(epoch).collect(),
            origins: vec![Origin {
                version: "0.1.0".into(),
                device: "the CPU".into(),
            }],
            buffers: vec![
                ("w".into(), vec![0.1, -2.0, epochs as f32]),
                ("v".into(), vec![3.0]),
            ],
        }
    }

    fn keeper(folder: &Path, identity: &str) -> Keeper {
        Keeper::new(folder, 2, identity.into(), 1).unwrap()
    }

    #[test]
    fn the_last_ones_are_kept_and_others_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let (a, b) = (keeper(folder.path(), "aa"), keeper(folder.path(), "bb"));
        assert_eq!(a.newest().unwrap(), None);
        b.write(&checkpoint(1)).unwrap();
        for epochs in [8, 9, 10, 11] {
            a.write(&checkpoint(epochs)).unwrap();
        }
        assert_eq!(a.list().unwrap(), [a.path(11), a.path(10)]);
        assert_eq!(a.newest().unwrap().unwrap(), checkpoint(11));
        assert_eq!(b.newest().unwrap().unwrap(), checkpoint(1));
    }

    #[test]
    fn every_torn_or_changed_file_gives_way_to_the_one_before() {
        let folder = tempfile::tempdir().unwrap();
        let keeper = keeper(folder.path(), "aa");
        keeper.write(&checkpoint(1)).unwrap();
        keeper.write(&checkpoint(2)).unwrap();
        let good = std::fs::read(keeper.path(2)).unwrap();
        for length in 0..good.len() {
            std::fs::write(keeper.path(2), &good[..length]).unwrap();
            assert_eq!(
                keeper.newest().unwrap().unwrap(),
                checkpoint(1),
                "cut at {length}"
            );
        }
        let mut passed_over = 0;
        for at in 0..good.len() {
            let mut changed = good.clone();
            changed[at] ^= 1;
            std::fs::write(keeper.path(2), &changed).unwrap();
            let newest = keeper.newest().unwrap().unwrap();
            // A changed byte in what is not content (the version, say) changes nothing.
            assert!(
                newest == checkpoint(1) || newest == checkpoint(2),
                "byte {at}"
            );
            passed_over += usize::from(newest == checkpoint(1));
        }
        assert!(
            passed_over * 10 > good.len() * 8,
            "{passed_over} of {}",
            good.len()
        );
    }

    /// Lists out of a file are indexed by replica later.
    #[test]
    fn a_history_of_other_replicas_gives_way_too() {
        let folder = tempfile::tempdir().unwrap();
        let keeper = keeper(folder.path(), "aa");
        keeper.write(&checkpoint(1)).unwrap();
        let changes: [fn(&mut Epoch); 4] = [
            |e| e.validation_accuracy.clear(),
            |e| e.test_cost.push(0.0),
            |e| e.penalty = vec![0.0; 2],
            |e| e.epoch = 1,
        ];
        for change in changes {
            let mut wrong = checkpoint(2);
            change(&mut wrong.history[1]);
            keeper.write(&wrong).unwrap();
            assert_eq!(keeper.newest().unwrap().unwrap(), checkpoint(1));
        }
        keeper.write(&checkpoint(2)).unwrap();
        assert_eq!(keeper.newest().unwrap().unwrap(), checkpoint(2));
    }

    /// A cost that is not finite is `null` in JSON, and no reason to call the file torn.
    #[test]
    fn what_is_not_finite_survives_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let keeper = keeper(folder.path(), "aa");
        let mut with = checkpoint(1);
        with.history[0].set_cost = vec![f64::INFINITY];
        with.history[0].test_cost[0] = f64::NAN;
        keeper.write(&with).unwrap();
        let back = keeper.newest().unwrap().unwrap().history.remove(0);
        assert!(back.set_cost[0].is_nan() && back.test_cost[0].is_nan());
        assert_eq!(back.validation_cost, with.history[0].validation_cost);
    }

    #[test]
    fn the_identity_follows_what_decides_the_weights() {
        let images = |seed, part| crate::data::digits::generate(seed, part, 3).unwrap();
        use crate::data::digits::Part;
        let data = |validation| Split {
            train: images(1, Part::Train),
            validation: images(validation, Part::Validation),
            test: images(1, Part::Test),
            synthetic: true,
        };
        let network = Network::new([1, 28, 28]).flatten().dense(10).softmax();
        let of = |replicas, stop_after, halve_after, validation| {
            let settings = Settings {
                replicas,
                stop_after,
                halve_after,
                ..Settings::default()
            };
            identity(&network, &settings, &data(validation)).unwrap()
        };
        assert_eq!(of(1, Some(3), None, 1), of(1, Some(4), None, 1));
        assert_ne!(of(2, Some(3), None, 1), of(2, Some(4), None, 1));
        assert_ne!(of(2, Some(3), None, 1), of(2, None, None, 1));
        assert_eq!(of(2, None, None, 1), of(2, None, None, 2));
        assert_ne!(of(2, Some(3), None, 1), of(2, Some(3), None, 2));
        assert_ne!(of(1, None, Some(3), 1), of(1, None, Some(3), 2));
    }
}

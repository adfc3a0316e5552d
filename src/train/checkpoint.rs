//! Checkpoints: what a killed run needs to go on as if nothing had happened.
//!
//! Random numbers have no state but seed and step, so a checkpoint is the parameters, the
//! velocities, the running means and the history of epochs. It is one safetensors file, written whole or not
//! at all, with a hash of its content; the last few are kept. A file's name begins with
//! the *identity* of its run (a hash of network, settings and training data), so runs
//! that share a folder never touch each other's.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use ndarray::{ArrayD, IxDyn};
use sha2::{Digest, Sha256};

use super::{Epoch, Settings};
use crate::data::Images;
use crate::error::{Error, Result};
use crate::files::create_folder;
use crate::model_file::{ModelFile, weights_sha256};
use crate::nn::Network;

const FIX: &str = "It is skipped; an earlier checkpoint is used where there is one.";

/// Where a run keeps its checkpoints.
#[derive(Debug)]
pub(super) struct Keeper {
    folder: PathBuf,
    last: usize,
    identity: String,
}

/// A run's state between two epochs.
#[derive(Debug, PartialEq)]
pub(super) struct Checkpoint {
    /// The epochs that are done.
    pub history: Vec<Epoch>,
    /// Parameters, velocities and running means by name: the values of all replicas.
    pub buffers: Vec<(String, Vec<f32>)>,
}

/// A hash of everything that decides a run's weights, but for how long it goes on.
pub(super) fn identity(network: &Network, settings: &Settings, train: &Images) -> Result<String> {
    let decisive = Settings {
        epochs: 0,
        evaluation_batch: 0,
        fuse: true,
        verify_every: 0,
        stop_after: None,
        measure_training: false,
        evaluate_every: 1,
        ..settings.clone()
    };
    let settings = serde_json::to_string(&decisive)
        .map_err(|e| Error::setting("settings", e, "finite numbers"))?;
    let mut hash = Sha256::new();
    for part in [
        network.to_json()?.as_bytes(),
        settings.as_bytes(),
        &train.pixels,
        &train.labels,
    ] {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    Ok(hash
        .finalize()
        .iter()
        .take(8)
        .map(|b| format!("{b:02x}"))
        .collect())
}

impl Keeper {
    pub(super) fn new(folder: &Path, last: usize, identity: String) -> Result<Self> {
        if last == 0 {
            return Err(Error::setting("checkpoints kept", 0, "at least 1"));
        }
        create_folder(folder)?;
        Ok(Self {
            folder: folder.into(),
            last,
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
        let extra = BTreeMap::from([
            ("wgrad.sha256".into(), hash(&tensors, &history)),
            ("wgrad.history".into(), history),
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
        read(&self.path(epochs)).ok()
    }

    /// The newest whole checkpoint; torn ones are passed over with a warning.
    pub(super) fn newest(&self) -> Result<Option<Checkpoint>> {
        for path in self.list()? {
            match read(&path) {
                Ok(checkpoint) => return Ok(Some(checkpoint)),
                Err(e) => tracing::warn!("{e}"),
            }
        }
        Ok(None)
    }
}

fn hash(tensors: &[(String, ArrayD<f32>)], history: &str) -> String {
    let weights = weights_sha256(tensors.iter().map(|(n, t)| (n.as_str(), t)));
    let all = Sha256::new()
        .chain_update(weights)
        .chain_update(history)
        .finalize();
    all.iter().map(|b| format!("{b:02x}")).collect()
}

fn read(path: &Path) -> Result<Checkpoint> {
    let file = ModelFile::load(path)?;
    let wrong = |found: &str| Error::file(path, found, "a whole checkpoint", FIX);
    let text = |key: &str| {
        file.extra
            .get(key)
            .ok_or_else(|| wrong(&format!("no {key}")))
    };
    let history = text("wgrad.history")?;
    if *text("wgrad.sha256")? != hash(&file.tensors, history) {
        return Err(wrong("content that does not match its hash"));
    }
    let history = serde_json::from_str(history).map_err(|e| wrong(&e.to_string()))?;
    let buffers = file
        .tensors
        .iter()
        .map(|(n, t)| (n.clone(), t.iter().copied().collect()));
    Ok(Checkpoint {
        history,
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
            buffers: vec![
                ("w".into(), vec![0.1, -2.0, epochs as f32]),
                ("v".into(), vec![3.0]),
            ],
        }
    }

    fn keeper(folder: &Path, identity: &str) -> Keeper {
        Keeper::new(folder, 2, identity.into()).unwrap()
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
}

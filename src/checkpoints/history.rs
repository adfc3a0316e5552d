//! The numbers of a run's epochs: a file of lines, to which each epoch adds its own.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{Line, SKIPPED, refused, to_json};
use crate::error::{Error, Result};
use crate::files::hex;

/// The part of a history's file that was written so far.
#[derive(Clone, Debug, Default)]
pub(super) struct History {
    epochs: usize,
    bytes: u64,
    hash: Sha256,
}

/// [`History`] as a checkpoint names it.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Extent {
    epochs: usize,
    bytes: u64,
    sha256: String,
}

/// Where a folder has it.
pub(super) fn path(folder: &Path) -> PathBuf {
    folder.join("epochs.jsonl")
}

impl History {
    pub fn extent(&self) -> Extent {
        Extent {
            epochs: self.epochs,
            bytes: self.bytes,
            sha256: hex(&self.hash.clone().finalize()),
        }
    }

    /// Adds the epochs that the file lacks; what stands behind them there goes.
    pub fn add(mut self, folder: &Path, epochs: &[impl Line]) -> Result<Self> {
        let path = path(folder);
        let refused = refused("write", &path);
        let mut options = OpenOptions::new();
        options.create(true).write(true).truncate(false);
        let mut file = options.open(&path).map_err(&refused)?;
        let there = file.metadata().map_err(&refused)?.len();
        if there < self.bytes || epochs.len() < self.epochs {
            // Somebody has shortened it; all of it is here.
            self = Self::default();
        }
        let mut lines = String::new();
        for epoch in &epochs[self.epochs..] {
            lines += &to_json("numbers of an epoch", epoch)?;
            lines.push('\n');
        }
        file.set_len(self.bytes).map_err(&refused)?;
        file.seek(SeekFrom::Start(self.bytes)).map_err(&refused)?;
        file.write_all(lines.as_bytes()).map_err(&refused)?;
        file.sync_data().map_err(&refused)?;
        self.epochs = epochs.len();
        self.bytes += lines.len() as u64;
        self.hash.update(&lines);
        Ok(self)
    }

    /// The part that a checkpoint names, and its epochs.
    pub fn read<L: Line>(folder: &Path, extent: &Extent) -> Result<(Self, Vec<L>)> {
        let path = path(folder);
        let wrong = |found: String| {
            let wanted = format!("the first {} epochs of the run", extent.epochs);
            Error::file(&path, found, wanted, SKIPPED)
        };
        let refused = refused("read", &path);
        let file = match File::open(&path) {
            Err(e) if e.kind() == ErrorKind::NotFound => return Err(wrong("no file".into())),
            file => file.map_err(&refused)?,
        };
        let there = file.metadata().map_err(&refused)?.len();
        if there < extent.bytes {
            return Err(wrong(format!("{there} bytes")));
        }
        let mut bytes = Vec::new();
        let mut part = file.take(extent.bytes);
        part.read_to_end(&mut bytes).map_err(&refused)?;
        let history = Self {
            epochs: extent.epochs,
            bytes: bytes.len() as u64,
            hash: Sha256::new().chain_update(&bytes),
        };
        if history.extent() != *extent {
            return Err(wrong("content that does not match its hash".into()));
        }
        let lines = bytes.split(|&b| b == b'\n').filter(|line| !line.is_empty());
        let epochs: Vec<L> = lines
            .map(serde_json::from_slice)
            .collect::<serde_json::Result<_>>()
            .map_err(|e| wrong(e.to_string()))?;
        if epochs.len() != extent.epochs {
            return Err(wrong(format!("{} epochs", epochs.len())));
        }
        Ok((history, epochs))
    }
}

//! How far a training step has come, and where epochs of resident data begin.

use crate::error::{Error, Result};

/// Steps taken, of epochs of so many.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    taken: u64,
    /// Steps since a loss was asked for.
    since: u64,
    epoch: Option<u64>,
    /// Whether steps are over shards, which come from elsewhere.
    shards: bool,
}

impl Pace {
    /// Of data without epochs: `None`.
    pub const fn new(epoch: Option<u64>) -> Self {
        Self {
            taken: 0,
            since: 0,
            epoch,
            shards: false,
        }
    }

    /// Of steps over shards.
    pub const fn over_shards() -> Self {
        Self {
            shards: true,
            ..Self::new(None)
        }
    }

    pub const fn taken(&self) -> u64 {
        self.taken
    }

    /// How many of `left` steps come before an epoch's end, and whether an epoch begins with them.
    pub fn next(&self, left: u64) -> Result<(u64, bool)> {
        if self.shards {
            let found = "a step over shards without them";
            let wanted = "`OverShards::run`, which reads and uploads them";
            return Err(Error::setting("run", found, wanted));
        }
        Ok(match self.epoch {
            None => (left, false),
            Some(epoch) => {
                let within = self.taken % epoch;
                (left.min(epoch - within), within == 0)
            }
        })
    }

    pub const fn took(&mut self, steps: u64) {
        self.taken += steps;
        self.since += steps;
    }

    /// The steps since this was asked last.
    pub fn asked(&mut self) -> Result<f64> {
        match std::mem::take(&mut self.since) {
            0 => Err(Error::setting("loss", "no step since", "a step before")),
            steps => Ok(steps as f64),
        }
    }
}

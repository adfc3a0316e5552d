//! A compiled training step beside data in shards.

use std::ops::{Deref, DerefMut};

use super::pace::Pace;
use super::shards::{Epochs, Take};
use crate::error::Result;
use crate::run::Session;

/// A [`TrainStep`](super::TrainStep) or a [`JointStep`](super::JointStep) over [`Shards`](crate::data::Shards) of rows
/// that are more than the device has room for: the step in everything but its `run`, beside the source of the rows,
/// which it borrows.
///
/// `run` trains on a shard while the next one is read, on another thread, and uploaded between steps. A step sees the
/// rows that it sees in a [`Fit`](super::Fit) of the same shards, seed and mini-batch. The thread ends with the
/// call: the first one in a shard waits until the next shard has been read, so calls of many steps hide more
/// of it than calls of one.
#[derive(Debug)]
pub struct OverShards<'a, S> {
    step: S,
    /// None where one shard holds all rows, which lie on the device as a whole then.
    epochs: Option<Epochs<'a>>,
}

impl<'a, S> OverShards<'a, S> {
    pub(super) const fn new(step: S, epochs: Option<Epochs<'a>>) -> Self {
        Self { step, epochs }
    }

    /// The step, and the way of its shards to the device.
    pub(super) const fn parts(&mut self) -> (&mut S, Option<&mut Epochs<'a>>) {
        (&mut self.step, self.epochs.as_mut())
    }
}

impl<S> Deref for OverShards<'_, S> {
    type Target = S;

    fn deref(&self) -> &S {
        &self.step
    }
}

impl<S> DerefMut for OverShards<'_, S> {
    fn deref_mut(&mut self) -> &mut S {
        &mut self.step
    }
}

/// Takes steps over shards, as many at once as there are until a shard's end, and counts them.
pub(super) fn take(
    epochs: &mut Epochs<'_>,
    session: &mut Session,
    pace: &mut Pace,
    steps: u64,
    by: Option<Take<'_>>,
) -> Result<()> {
    let first = pace.taken();
    let steps = first..first.saturating_add(steps);
    epochs.run(session, steps, true, by, &mut |taken| {
        pace.took(taken);
        Ok(u64::MAX)
    })
}

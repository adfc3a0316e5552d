//! How far an epoch is, and who wants to be told.

use crate::error::Result;
use crate::fit::callback::{Callback, StepsDone};

/// How far an epoch is.
pub(super) struct Within {
    at: StepsDone,
    end: u64,
    /// Steps since each callback was told.
    since: Vec<u64>,
}

impl Within {
    /// At the beginning of one of so many epochs of so many steps.
    pub fn new(epoch: usize, steps: u64, epochs: usize) -> Self {
        let done = (epoch as u64 - 1) * steps;
        let at = StepsDone {
            epoch,
            done,
            total: epochs as u64 * steps,
        };
        Self {
            at,
            end: done + steps,
            since: vec![],
        }
    }

    fn left(&self) -> u64 {
        self.end - self.at.done
    }

    /// Counts steps and tells those that want to be told now. How many are taken next: until somebody wants to be, or
    /// to the end.
    pub fn took(&mut self, steps: u64, callbacks: &mut [Box<dyn Callback + '_>]) -> Result<u64> {
        self.at.done += steps;
        self.since.resize(callbacks.len(), 0);
        let mut next = self.left();
        for (callback, since) in callbacks.iter_mut().zip(&mut self.since) {
            *since += steps;
            let Some(every) = callback.every() else {
                continue;
            };
            if steps > 0 && (*since >= every || self.at.done == self.end) {
                callback.steps(&self.at)?;
                *since = 0;
            }
            let every = callback.every().unwrap_or(u64::MAX).max(1);
            next = next.min(every.saturating_sub(*since).max(1));
        }
        Ok(next)
    }
}

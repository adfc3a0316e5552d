//! What is kept of a run between two epochs, and how it goes on from that.

use super::guard::On;
use super::identity::Settings;
use super::{Course, Fit};
use crate::checkpoints::{Kept, Store};
use crate::error::{Error, Result};
use crate::fit::checkpoint::{State, take_chosen};
use crate::fit::report::{Epoch, Lost};
use crate::fit::shards::Given;

/// What a run that goes on to more epochs would not know of its last one, since it would not have evaluated anything
/// after it.
#[derive(Debug, Default)]
pub(super) struct AtTheEnd {
    /// The epoch as it was measured, where it was for that reason alone.
    pub measured: Option<Epoch>,
    /// The replicas that were lost otherwise.
    pub lost: Vec<Lost>,
}

impl Fit<'_> {
    /// The folder of the run's checkpoints, where they are kept.
    pub(super) fn store(&self, data: &Given<'_>) -> Result<Option<Store<Settings>>> {
        let Some(checkpoints) = &self.checkpoints else {
            return Ok(None);
        };
        let (folder, last) = (checkpoints.folder(), checkpoints.last());
        Store::open(folder, last, self.replicas, self.settings(data)?).map(Some)
    }

    /// The checkpoint that it goes on from.
    pub(super) fn earlier(
        &self,
        store: Option<&Store<Settings>>,
    ) -> Result<Option<Kept<Settings>>> {
        let Some(store) = store.filter(|_| self.resume) else {
            return Ok(None);
        };
        let earlier = store.newest()?;
        let done = earlier.as_ref().map_or(0, |kept| kept.entry.epochs);
        if done > self.epochs {
            let folder = store.folder().display();
            let wanted = format!("at least the {done} that the checkpoint in {folder} has");
            return Err(Error::setting("epochs", self.epochs, wanted));
        }
        Ok(earlier)
    }

    /// Goes on from a checkpoint.
    pub(super) fn take_up(&mut self, course: &mut Course, earlier: Kept<Settings>) -> Result<()> {
        let Course {
            training, report, ..
        } = course;
        if let Some(store) = &mut course.store {
            store.take_up(&earlier);
        }
        let (state, mut tensors) = (earlier.entry.state, earlier.entry.tensors);
        course.chosen = take_chosen(&mut tensors, &state.chosen);
        training.restore(&state.step, &tensors)?;
        let done = earlier.entry.epochs * training.epoch_steps;
        training.train = training.train.from(done as u64);
        if !state.rates.is_empty() {
            training.set_rates(&state.rates)?;
        }
        let acting = self.callbacks.iter_mut().filter(|c| !c.observes());
        for (callback, known) in acting.zip(&state.callbacks) {
            callback.restore(known)?;
        }
        course.stopped = state.stopped;
        report.lost = state.lost;
        report.epochs = earlier.epochs;
        let over = course.stopped || report.epochs.len() >= self.epochs;
        if let (true, Some((measured, lost)), Some(last)) =
            (over, state.last, report.epochs.last_mut())
        {
            (*last, report.lost) = (measured, lost);
        }
        Ok(())
    }

    /// The last epoch of a run that is over and goes on from where a longer one was: that one has measured nothing after it.
    pub(super) fn unmeasured(&self, course: &Course) -> Option<Epoch> {
        let last = course.report.epochs.last()?;
        let measures = self.measure_training || self.validation.is_some();
        let measured = !(last.validation.is_empty() && last.training.is_empty());
        let over = course.stopped || last.epoch >= self.epochs;
        (measures && over && !measured).then(|| last.clone())
    }

    /// Writes a checkpoint after an epoch, where one is due.
    pub(super) fn keep(&self, course: &mut Course, end: &AtTheEnd, on: On<'_>) -> Result<()> {
        let epoch = course.report.epochs.len();
        let over = course.stopped || epoch == self.epochs;
        let due = |c: &super::Checkpoints| over || c.are_due(epoch);
        if !self.checkpoints.as_ref().is_some_and(due) {
            return Ok(());
        }
        let acting = self.callbacks.iter().filter(|c| !c.observes());
        let measured = end.measured.clone();
        let state = State {
            stopped: course.stopped,
            callbacks: acting.map(|c| c.state()).collect(),
            rates: course.training.rates().unwrap_or_default(),
            last: measured.map(|epoch| (epoch, course.report.lost.clone())),
            lost: end.lost.clone(),
            ..State::default()
        };
        let entry = course.training.checkpoint(epoch, state, &course.chosen)?;
        // The checkpoint before is what it would be looked for from.
        let on = on.with(&course.store);
        self.kept_finite(&entry, &course.report, &mut course.training, on)?;
        match &mut course.store {
            Some(store) => store.write(entry, &course.report.epochs),
            None => Ok(()),
        }
    }
}

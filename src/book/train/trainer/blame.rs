//! Which launch it was that made a value infinite.

use super::Trainer;
use crate::book::train::programs::{KEPT, Kept};
use crate::error::{Error, Result};
use crate::run::blame::first_not_finite;
use crate::tensor::Values;

/// What to do about an overflow.
const FIX: &str = "Lower the learning rate, or start from smaller weights.";

impl Trainer {
    /// The error for a loss that stopped being finite in `step`. Runs are repeatable, so
    /// the epoch is run again, and its last steps launch by launch, to see which layer
    /// and pass it was; where its start is not kept,
    /// or nothing is found, `otherwise` is named.
    pub(super) fn not_finite(
        &mut self,
        step: u64,
        replica: usize,
        otherwise: &str,
    ) -> Result<Error> {
        let epochs = self.epochs_before(step);
        let found = self.first_not_finite(epochs, step, replica)?;
        self.rewind(epochs)?;
        let (place, step) = found.unwrap_or_else(|| (otherwise.into(), step));
        Ok(self.overflow(epochs, &place, step, replica))
    }

    /// The error for what is kept of a replica, number `number`, and was not finite after an
    /// epoch: the epoch is run again up to the step that made it so, and that step launch by
    /// launch.
    pub(super) fn kept_not_finite(&mut self, replica: usize, number: usize) -> Result<Error> {
        let last = self.done - 1;
        let epochs = self.epochs_before(last);
        let name_of = |kept: &[Kept], number: usize| kept.get(number).map(|k| k.name.clone());
        let mut name = name_of(&self.handles.kept, number).unwrap_or_default();
        let mut at = last;
        if self.rewind(epochs)? {
            self.prepare()?;
            for step in self.done..=last {
                self.session.run(self.handles.train.program, 1)?;
                self.count(1)?;
                self.session.run(self.handles.check, 1)?;
                let guard = self.session.read(self.handles.train.guard)?;
                let word = guard.replica(replica).map_or(0, |words| words[KEPT]);
                let number = (word as usize).checked_sub(1);
                if let Some(kept) = number.and_then(|k| name_of(&self.handles.kept, k)) {
                    (name, at) = (kept, step);
                    break;
                }
            }
        }
        let found = self.first_not_finite(epochs, at, replica)?;
        self.rewind(epochs)?;
        let place = match found {
            Some((launch, step)) => {
                at = step;
                format!("{name}, first in {launch}")
            }
            None => name,
        };
        Ok(self.overflow(epochs, &place, at, replica))
    }

    /// Refuses values, each with its name, of which one is not finite.
    pub(super) fn check_finite<'a>(
        &self,
        values: impl Iterator<Item = (&'a str, &'a Values<f32>)>,
    ) -> Result<()> {
        for (name, values) in values {
            let Some(at) = values.iter().position(|x| !x.is_finite()) else {
                continue;
            };
            let replica = at / (values.len() / self.settings.replicas).max(1);
            let step = self.done.saturating_sub(1);
            return Err(self.overflow(self.epochs_before(step), name, step, replica));
        }
        Ok(())
    }

    fn overflow(&self, epochs: usize, place: &str, step: u64, replica: usize) -> Error {
        let kept = match &self.keeper {
            Some(_) if epochs > 0 => " The checkpoint of the epoch before is finite.",
            _ => "",
        };
        Error::NotFinite {
            place: format!("epoch {}, {place}", epochs + 1),
            step,
            replica,
            fix: format!("{FIX}{kept}"),
        }
    }

    /// Whole epochs before the one that a step belongs to.
    fn epochs_before(&self, step: u64) -> usize {
        (step / self.steps as u64) as usize
    }

    /// Goes back to where an epoch began, if that is the first or its checkpoint is there.
    fn rewind(&mut self, epochs: usize) -> Result<bool> {
        match self.keeper.as_ref().and_then(|k| k.after(epochs)) {
            Some(checkpoint) => self.restore(&checkpoint.state)?,
            None if epochs == 0 => {
                self.begin_at(0)?;
                self.session.run(self.handles.init, 1)?;
                if let Some(model) = &self.given {
                    model.write(&self.parameters, &self.handles.weights, &mut self.session)?;
                }
                self.average()?;
            }
            None => return Ok(false),
        }
        Ok(true)
    }

    fn first_not_finite(
        &mut self,
        epochs: usize,
        step: u64,
        replica: usize,
    ) -> Result<Option<(String, u64)>> {
        if !self.rewind(epochs)? {
            return Ok(None);
        }
        self.prepare()?;
        let first = self.done;
        // What made the loss infinite is in its own step, or in the backward pass and the
        // update of the step before.
        let from = step.saturating_sub(1).max(first);
        let train = self.handles.train.program;
        self.session.run(train, from - first)?;
        for step in from..=step {
            if let Some(place) = first_not_finite(&mut self.session, train, replica)? {
                return Ok(Some((place, step)));
            }
        }
        Ok(None)
    }
}

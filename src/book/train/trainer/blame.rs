//! Which launch it was that made a value infinite.

use super::Trainer;
use crate::error::{Error, Result};
use crate::fit::Weights;
use crate::ops::finite::KEPT;
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
        let mut name = self.kept_name(number).unwrap_or_default();
        let mut at = last;
        if self.rewind(epochs)? {
            self.prepare()?;
            for step in self.done..=last {
                self.training.run(1)?;
                self.count(1)?;
                if let Some(kept) = self.kept_lost(replica)? {
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

    /// The name of what is kept, number `number`.
    fn kept_name(&self, number: usize) -> Option<String> {
        self.training.kept.get(number).map(|(name, _)| name.clone())
    }

    /// What is kept of a replica and is not finite, if any is.
    fn kept_lost(&mut self, replica: usize) -> Result<Option<String>> {
        if let Some(check) = self.training.check {
            self.training.session.run(check, 1)?;
        }
        let guard = self.training.session.read(self.training.total.guard)?;
        let words = guard.as_ref().and_then(|guard| guard.replica(replica));
        let number = words.and_then(|words| (words[KEPT] as usize).checked_sub(1));
        Ok(number.and_then(|number| self.kept_name(number)))
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
        let kept = match &self.store {
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
        match self.store.as_ref().and_then(|store| store.after(epochs)) {
            Some(kept) => self.restore(&kept.entry)?,
            None if epochs == 0 => {
                let replicas = 0..self.settings.replicas as u32;
                let first = self.settings.first_replica as u32;
                let drawn = replicas
                    .map(|r| Weights::of_replica(&self.model, self.settings.seed, first + r));
                let drawn: Vec<Weights> = drawn.collect();
                self.training.begin(&drawn)?;
                self.begin_at(0)?;
                if let Some(model) = &self.given {
                    let weights = self.training.weights_handles();
                    model.write(&self.parameters, &weights, &mut self.training.session)?;
                }
                self.training.average()?;
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
        let train = self.training.train_program();
        self.training.session.run(train, from - first)?;
        for step in from..=step {
            if let Some(place) = first_not_finite(&mut self.training.session, train, replica)? {
                return Ok(Some((place, step)));
            }
        }
        Ok(None)
    }
}

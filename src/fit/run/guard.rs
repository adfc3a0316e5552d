//! Numbers that are not finite: which run is told of them, and where they came from.

use ndarray::ArrayD;

use super::{Fit, Outcome};
use crate::error::{Error, Result};
use crate::fit::checkpoint::Checkpoint;
use crate::fit::report::Report;
use crate::fit::resident::Need;
use crate::fit::shards::Given;
use crate::fit::training::Training;
use crate::fit::weights::Weights;
use crate::run::blame::first_not_finite;

/// What helps against them.
const FIX: &str = "Lower the learning rate, clip the gradients, or look at the data";

/// Where a run stopped being finite, as far as it knows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lost {
    /// Epochs that were done before.
    pub epochs: usize,
    /// The step, where the device has noted it.
    pub step: Option<u64>,
    pub replica: usize,
}

/// Where it was found to have stopped.
pub(super) struct Found {
    pub step: u64,
    /// The launch.
    pub launch: String,
}

impl Fit<'_> {
    /// The launch that a run stopped being finite in. Runs are repeatable, so the epoch is run again, and its last
    /// steps launch by launch. `None` where the epoch's start is not kept, where data come in shards, and where
    /// nothing is found.
    pub(super) fn blamed(
        &self,
        training: &mut Training,
        given: &Given<'_>,
        lost: Lost,
    ) -> Result<Option<Found>> {
        let Given::Whole(_) = given else {
            return Ok(None);
        };
        let first = (lost.epochs * training.epoch_steps) as u64;
        let last = first + training.epoch_steps as u64 - 1;
        let step = match lost.step {
            Some(step) => step,
            // Each step's loss is looked at by itself.
            None => {
                if !self.rewind(training, lost.epochs)? {
                    return Ok(None);
                }
                let mut step = first;
                loop {
                    training.run(1)?;
                    let loss = training.take_loss()?;
                    let finite = loss.get(lost.replica).is_none_or(|loss| loss.is_finite());
                    if !finite || step == last {
                        break step;
                    }
                    step += 1;
                }
            }
        };
        if !self.rewind(training, lost.epochs)? {
            return Ok(None);
        }
        // What made the loss infinite is in its own step, or in the backward pass and the update of the step before.
        // Gradients that a loss scale makes infinite are no fault.
        let back = u64::from(training.scale.is_none());
        let from = step.saturating_sub(back).max(first);
        training.run(from - first)?;
        for step in from..=step {
            let program = training.train_program();
            if let Some(launch) = first_not_finite(&mut training.session, program, lost.replica)? {
                return Ok(Some(Found { step, launch }));
            }
        }
        Ok(None)
    }

    /// Goes back to where an epoch began, its order drawn, if that is the first or its checkpoint is there.
    fn rewind(&self, training: &mut Training, epochs: usize) -> Result<bool> {
        if epochs == 0 {
            self.begin(training)?;
        } else {
            let kept = self.checkpoint.as_ref().map(|path| Checkpoint::load(path));
            let kept = kept.transpose()?.flatten();
            let Some(kept) = kept.filter(|kept| kept.state.epochs.len() == epochs) else {
                return Ok(false);
            };
            training.restore(&kept.state.step, &kept.tensors)?;
            if !kept.state.rates.is_empty() {
                training.set_rates(&kept.state.rates)?;
            }
            training.clear_loss()?;
        }
        training.shuffle()?;
        Ok(true)
    }

    /// Where a run begins: weights that were given, and drawn ones beside them.
    pub(super) fn begin(&self, training: &mut Training) -> Result<()> {
        let drawn = (0..self.replicas as u32)
            .map(|r| Weights::of_replica(self.model, self.seed, self.first_replica + r));
        let begun: Vec<Weights> = match self.initial {
            Some(initial) => drawn.map(|own| initial.over(&own)).collect(),
            None => drawn.collect(),
        };
        training.begin(&begun)
    }

    /// The error for a training loss that is not finite.
    pub(super) fn loss_not_finite(
        &self,
        training: &mut Training,
        (given, needs): (&Given<'_>, &[Need]),
        lost: Lost,
    ) -> Result<Error> {
        let last = ((lost.epochs + 1) * training.epoch_steps).saturating_sub(1) as u64;
        let noted = lost.step.unwrap_or(last);
        let fix = fix(given, needs)?;
        Ok(self.lost(
            training,
            given,
            ("training loss".into(), noted),
            (lost, fix),
        ))
    }

    /// Refuses weights that are not finite, of tensors that were: the last update is after the last loss.
    pub(super) fn finite(
        &self,
        outcome: &Outcome,
        training: &mut Training,
        given: &Given<'_>,
    ) -> Result<()> {
        let whole = |tensor: &ArrayD<f32>| tensor.iter().all(|x| x.is_finite());
        for (replica, weights) in outcome.weights.iter().enumerate() {
            let mut wrong = weights
                .tensors()
                .iter()
                .filter(|(_, tensor)| !whole(tensor));
            let begun = |name: &str| self.initial.and_then(|initial| initial.get(name).ok());
            let wrong = wrong.find(|(name, _)| begun(name).is_none_or(whole));
            if let (Some((name, _)), Some(last)) = (wrong, outcome.report.epochs.last()) {
                let step = last.steps.saturating_sub(1);
                let lost = Lost {
                    epochs: last.epoch - 1,
                    step: Some(step),
                    replica,
                };
                let noted = (format!("weight {name}"), step);
                return Err(self.lost(training, given, noted, (lost, format!("{FIX}."))));
            }
        }
        Ok(())
    }

    /// The error for what was noted of a step, with the launch in which it began where that is found.
    fn lost(
        &self,
        training: &mut Training,
        given: &Given<'_>,
        (noted, at): (String, u64),
        (lost, fix): (Lost, String),
    ) -> Error {
        // What keeps the search from its end is less than what it was for.
        let found = self.blamed(training, given, lost).ok().flatten();
        let (place, step) = match found {
            Some(Found { step, launch }) => (format!("{noted}, first in {launch}"), step),
            None => (noted, at),
        };
        Error::NotFinite {
            place,
            step,
            replica: lost.replica,
            fix,
        }
    }
}

/// Refuses a run of which a replica has taken no step: its weights are those that it began with.
pub(super) fn none_taken(report: &Report) -> Result<()> {
    let Some(last) = report.epochs.last() else {
        return Ok(());
    };
    let skipped = last.skipped_steps.iter();
    match skipped.clone().position(|&skipped| skipped == last.steps) {
        None => Ok(()),
        Some(replica) => Err(Error::NotFinite {
            place: "gradients of every step".into(),
            step: 0,
            replica,
            fix: "Begin with a smaller loss scale; where the loss is not large, a network without one shows what \
                  overflows."
                .into(),
        }),
    }
}

/// What to do about a loss that is not finite.
fn fix(data: &Given<'_>, needs: &[Need]) -> Result<String> {
    for need in needs.iter().filter(|need| !need.uncounted.is_empty()) {
        let rows = match data {
            Given::Whole(data) => match need.uncounted_rows(data)? {
                0 => continue,
                rows => format!("{rows} of {} rows have", data.rows()),
            },
            Given::Shards(..) => "some rows may have".into(),
        };
        return Ok(format!(
            "{FIX}: {rows} no label in column {} that counts, and a mini-batch of such rows alone has no \
             mean loss. Leave them out.",
            need.column
        ));
    }
    Ok(format!("{FIX}."))
}

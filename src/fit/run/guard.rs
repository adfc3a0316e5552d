//! Numbers that are not finite: which run is told of them, and where they came from.

use std::ops::RangeInclusive;

use ndarray::ArrayD;

use super::identity::Settings;
use super::{Course, Fit, Outcome};
use crate::checkpoints::{Entry, Store};
use crate::error::{Error, Result};
use crate::exec::Device;
use crate::fit::checkpoint::{State, WEIGHTS};
use crate::fit::report::{Epoch, Lost, Report, Scores};
use crate::fit::resident::Need;
use crate::fit::setup::{Setup, Wishes};
use crate::fit::shards::Given;
use crate::fit::training::Training;
use crate::fit::weights::Weights;
use crate::run::blame::first_not_finite;

/// What helps against them.
const FIX: &str = "Lower the learning rate, clip the gradients, or look at the data";

/// Where a run is made: what is needed to do some of it again.
#[derive(Clone, Copy)]
pub(super) struct On<'r> {
    pub given: &'r Given<'r>,
    pub needs: &'r [Need],
    pub device: &'r Device,
    /// Where checkpoints are kept, if they are.
    pub store: Option<&'r Store<Settings>>,
}

impl<'r> On<'r> {
    pub fn with(self, store: &'r Option<Store<Settings>>) -> Self {
        let store = store.as_ref();
        Self { store, ..self }
    }
}

/// Where a run stopped being finite, as far as it knows.
#[derive(Clone, Copy, Debug)]
struct Sought {
    /// Epochs that were done before.
    pub epochs: usize,
    /// The step, where the device has noted it.
    pub step: Option<u64>,
    pub replica: usize,
    /// Whether weights were seen that are not finite, and no loss.
    pub weights: bool,
}

/// What the run itself has noticed.
struct Noted {
    /// What is not finite.
    what: String,
    /// When that was noticed, where it is not known when it began.
    when: String,
    step: u64,
}

/// Where it was found to have stopped.
struct Found {
    step: u64,
    /// The launch.
    launch: String,
}

impl Fit<'_> {
    /// The launch that a run stopped being finite in. Runs are repeatable, so the epoch is run again, and its last
    /// steps launch by launch. `None` where the epoch's start is not kept, where data come in shards, and where
    /// nothing is found.
    fn blamed(&self, training: &mut Training, on: On<'_>, sought: Sought) -> Result<Option<Found>> {
        let Given::Whole(_) = on.given else {
            return Ok(None);
        };
        let first = (sought.epochs * training.epoch_steps) as u64;
        let last = first + training.epoch_steps as u64 - 1;
        let step = match sought.step {
            Some(step) => step,
            // Each step is looked at by itself.
            None => {
                if !self.rewind(training, on.store, sought.epochs)? {
                    return Ok(None);
                }
                let mut step = first;
                loop {
                    training.run(1)?;
                    if !still_finite(training, sought)? || step == last {
                        break step;
                    }
                    step += 1;
                }
            }
        };
        if !self.rewind(training, on.store, sought.epochs)? {
            return Ok(None);
        }
        // What made the loss infinite is in its own step, or in the backward pass and the update of the step before.
        // Gradients that a loss scale makes infinite are no fault.
        let back = u64::from(training.scale.is_none() && !sought.weights);
        let from = step.saturating_sub(back).max(first);
        training.run(from - first)?;
        let begun = training.checkpoint(sought.epochs, State::default(), &vec![])?;
        let Some(found) = searched(training, from..=step, sought.replica)? else {
            return Ok(None);
        };
        // A launch may be many layers' ops: each by itself says whose it was. Where there is no room for that, or
        // where it rounds otherwise, the launch is what is known.
        let alone = self.unfused(training, on, &begun);
        let alone = alone.and_then(|mut all| searched(&mut all, from..=found.step, sought.replica));
        Ok(alone.ok().flatten().or(Some(found)))
    }

    /// The run with each op a launch, in a state of `training`.
    fn unfused(&self, training: &Training, on: On<'_>, begun: &Entry<State>) -> Result<Training> {
        let setup = self.setup(Some(on.given), &[]);
        let wishes = Wishes {
            fuse: false,
            verify: 0,
            ..setup.wishes
        };
        let mut all = Setup { wishes, ..setup }.compile(on.device)?;
        all.restore(&begun.state.step, &begun.tensors)?;
        if let Ok(rates) = training.rates() {
            all.set_rates(&rates)?;
        }
        all.shuffle()?;
        Ok(all)
    }

    /// Goes back to where an epoch began, its order drawn, if that is the first or its checkpoint is there.
    fn rewind(
        &self,
        training: &mut Training,
        store: Option<&Store<Settings>>,
        epochs: usize,
    ) -> Result<bool> {
        if epochs == 0 {
            self.begin(training)?;
        } else {
            let kept = store.and_then(|store| store.after(epochs));
            let Some(kept) = kept.map(|kept| kept.entry) else {
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

    /// Refuses training losses of an epoch that are not finite. Replicas of a sweep are noted as lost instead, as long as others
    /// are left.
    pub(super) fn losses_finite(
        &self,
        losses: &[f64],
        course: &mut Course,
        on: On<'_>,
    ) -> Result<()> {
        let Course {
            training, report, ..
        } = course;
        let epochs = report.epochs.len();
        let known = |replica| report.is_lost(replica);
        let Some(first) = first_lost(losses, &training.overflowed, known) else {
            return Ok(());
        };
        let sought = Sought {
            epochs,
            step: training.overflowed[first],
            replica: first,
            weights: false,
        };
        for (replica, loss) in losses.iter().enumerate() {
            if !loss.is_finite() {
                report.lose(Lost {
                    replica,
                    epoch: epochs + 1,
                    step: training.overflowed[replica],
                });
            }
        }
        match self.goes_on(report) {
            true => Ok(()),
            false => Err(self.loss_not_finite(training, on.with(&course.store), sought)?),
        }
    }

    /// Refuses a run of which a replica has taken no step: its weights are those that it began with. In a sweep it is lost, as
    /// long as others are left.
    pub(super) fn some_taken(&self, report: &mut Report) -> Result<()> {
        let Some(last) = report.epochs.last() else {
            return Ok(());
        };
        let skipped = last.skipped_steps.iter().enumerate();
        let none = skipped.filter(|(r, skipped)| **skipped == last.steps && !report.is_lost(*r));
        let none: Vec<Lost> = none
            .map(|(replica, _)| Lost {
                replica,
                epoch: 1,
                step: Some(0),
            })
            .collect();
        let Some(&Lost { replica, .. }) = none.first() else {
            return Ok(());
        };
        report.lost.extend(none);
        match self.goes_on(report) {
            true => Ok(()),
            false => Err(Error::NotFinite {
                place: "gradients of every step".into(),
                step: 0,
                replica,
                fix: "Begin with a smaller loss scale; where the loss is not large, a network without one shows what \
                      overflows."
                    .into(),
            }),
        }
    }

    /// Whether lost replicas are no reason to end the run.
    fn goes_on(&self, report: &Report) -> bool {
        !self.sweep.is_empty() && report.lost.len() < self.replicas
    }

    /// The error for a training loss that is not finite.
    fn loss_not_finite(
        &self,
        training: &mut Training,
        on: On<'_>,
        sought: Sought,
    ) -> Result<Error> {
        let last = ((sought.epochs + 1) * training.epoch_steps).saturating_sub(1) as u64;
        let noted = Noted {
            what: "training loss".into(),
            when: match sought.step {
                Some(_) => String::new(),
                None => format!(", noted at the end of epoch {}", sought.epochs + 1),
            },
            step: sought.step.unwrap_or(last),
        };
        let fix = fix(on.given, on.needs)?;
        Ok(self.lost(training, on, noted, (sought, fix)))
    }

    /// Refuses to keep weights that are not finite, of tensors that were; but in a sweep, whose lost replicas are told by
    /// their losses.
    pub(super) fn kept_finite(
        &self,
        kept: &Entry<State>,
        report: &Report,
        training: &mut Training,
        on: On<'_>,
    ) -> Result<()> {
        let Some(last) = report.epochs.last().filter(|_| self.sweep.is_empty()) else {
            return Ok(());
        };
        for (name, tensor) in &kept.tensors {
            let wrong = tensor.iter().position(|x| !x.is_finite());
            let (Some(at), Some(name)) = (wrong, name.strip_prefix(WEIGHTS)) else {
                continue;
            };
            if self.began_whole(name) {
                let replica = at / (tensor.len() / self.replicas).max(1);
                let when = format!(", looked at when epoch {} was done", last.epoch);
                return Err(self.weight_lost(training, on, (name, when, replica), last));
            }
        }
        Ok(())
    }

    /// Whether a weight began with finite numbers alone, as far as it was given.
    fn began_whole(&self, name: &str) -> bool {
        let given = self.initial.and_then(|initial| initial.get(name).ok());
        given.is_none_or(|tensor| tensor.iter().all(|x| x.is_finite()))
    }

    /// The error for a weight of a replica after an epoch.
    fn weight_lost(
        &self,
        training: &mut Training,
        on: On<'_>,
        (name, when, replica): (&str, String, usize),
        last: &Epoch,
    ) -> Error {
        let noted = Noted {
            what: format!("weight {name}"),
            when,
            step: last.steps.saturating_sub(1),
        };
        let sought = Sought {
            epochs: last.epoch - 1,
            step: None,
            replica,
            weights: true,
        };
        self.lost(training, on, noted, (sought, format!("{FIX}.")))
    }

    /// Refuses weights that are not finite, of tensors that were: the last update is after the last loss.
    pub(super) fn finite(
        &self,
        outcome: &mut Outcome,
        training: &mut Training,
        on: On<'_>,
    ) -> Result<()> {
        let Some(last) = outcome.report.epochs.last().cloned() else {
            return Ok(());
        };
        let when = ", looked at when all was done";
        let (weights, report) = (&outcome.weights, &mut outcome.report);
        let test = std::mem::take(&mut report.test);
        self.note_lost(&test, last.epoch, report);
        report.test = test;
        self.weights_finite(weights, report, training, on, (&last, when))
    }

    /// Looks at losses of evaluated data that are not finite after an epoch. In a sweep a replica is lost whose loss is not where
    /// another's is; where none is, or where all were to be alike, the weights are looked at: the cause is told, and not that
    /// somebody has watched the loss.
    pub(super) fn scored_finite(
        &self,
        epoch: &Epoch,
        course: &mut Course,
        on: On<'_>,
    ) -> Result<()> {
        let Course {
            training, report, ..
        } = course;
        let sets = [&epoch.training, &epoch.validation];
        for scores in sets {
            self.note_lost(scores, epoch.epoch, report);
        }
        let lost = |scores: &[Scores]| {
            let mut scores = scores.iter().enumerate();
            scores.any(|(r, scores)| !scores.loss.is_finite() && !report.is_lost(r))
        };
        if !sets.into_iter().any(|scores| lost(scores)) {
            return Ok(());
        }
        let weights = training.weights()?;
        let when = format!(", looked at when epoch {} was done", epoch.epoch);
        let on = on.with(&course.store);
        self.weights_finite(&weights, report, training, on, (epoch, &when))
    }

    /// Notes replicas of a sweep as lost whose loss of a data set is not finite where another's is.
    fn note_lost(&self, scores: &[Scores], epoch: usize, report: &mut Report) {
        let of_sound = |r: usize| scores[r].loss.is_finite() && !report.is_lost(r);
        if self.sweep.is_empty() || !(0..scores.len()).any(of_sound) {
            return;
        }
        for (replica, scores) in scores.iter().enumerate() {
            if !scores.loss.is_finite() {
                report.lose(Lost {
                    replica,
                    epoch,
                    step: None,
                });
            }
        }
    }

    fn weights_finite(
        &self,
        weights: &[Weights],
        report: &mut Report,
        training: &mut Training,
        on: On<'_>,
        (last, when): (&Epoch, &str),
    ) -> Result<()> {
        let whole = |tensor: &ArrayD<f32>| tensor.iter().all(|x| x.is_finite());
        let mut first = None;
        for (replica, weights) in weights.iter().enumerate() {
            let mut wrong = weights
                .tensors()
                .iter()
                .filter(|(_, tensor)| !whole(tensor));
            let wrong = wrong.find(|(name, _)| self.began_whole(name));
            if let Some((name, _)) = wrong.filter(|_| !report.is_lost(replica)) {
                first.get_or_insert((name, replica));
                report.lose(Lost {
                    replica,
                    epoch: last.epoch,
                    step: None,
                });
            }
        }
        match first {
            Some((name, replica)) if !self.goes_on(report) => {
                Err(self.weight_lost(training, on, (name, when.into(), replica), last))
            }
            _ => Ok(()),
        }
    }

    /// The error for what was noted of a step, with the launch in which it began where that is found.
    fn lost(
        &self,
        training: &mut Training,
        on: On<'_>,
        noted: Noted,
        (sought, mut fix): (Sought, String),
    ) -> Error {
        // What keeps the search from its end is less than what it was for.
        let found = self.blamed(training, on, sought).ok().flatten();
        let (place, step) = match found {
            Some(Found { step, launch }) => (format!("{}, first in {launch}", noted.what), step),
            None => {
                if self.checkpoints.is_none() && matches!(on.given, Given::Whole(_)) {
                    fix += " A run that keeps checkpoints finds out where it began.";
                }
                (noted.what + &noted.when, noted.step)
            }
        };
        Error::NotFinite {
            place,
            step,
            replica: sought.replica,
            fix,
        }
    }
}

/// Whether a replica's loss of the step before is finite, or its weights after it.
fn still_finite(training: &mut Training, sought: Sought) -> Result<bool> {
    if !sought.weights {
        let loss = training.take_loss()?;
        return Ok(loss.get(sought.replica).is_none_or(|loss| loss.is_finite()));
    }
    let weights = training.weights()?;
    let mut tensors = weights[sought.replica].tensors().iter();
    Ok(tensors.all(|(_, tensor)| tensor.iter().all(|x| x.is_finite())))
}

/// The first of some steps, the first of which is the next one, that leaves a replica what is not finite.
fn searched(
    training: &mut Training,
    steps: RangeInclusive<u64>,
    replica: usize,
) -> Result<Option<Found>> {
    for step in steps {
        let program = training.train_program();
        if let Some(launch) = first_not_finite(&mut training.session, program, replica)? {
            return Ok(Some(Found { step, launch }));
        }
    }
    Ok(None)
}

/// Of losses that are not finite, the one that was lost first, as far as steps are known, but for those that are known.
fn first_lost(
    losses: &[f64],
    overflowed: &[Option<u64>],
    known: impl Fn(usize) -> bool,
) -> Option<usize> {
    let lost = (0..losses.len()).filter(|&replica| !losses[replica].is_finite() && !known(replica));
    lost.min_by_key(|&replica| overflowed[replica].unwrap_or(u64::MAX))
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

#[cfg(test)]
mod tests {
    use super::first_lost;

    #[test]
    fn the_replica_that_was_lost_first_is_told() {
        let nan = f64::NAN;
        let all = |losses: &[f64], steps: &[Option<u64>]| first_lost(losses, steps, |_| false);
        assert_eq!(all(&[1.0, 2.0], &[None, None]), None);
        let steps = [Some(8), None, Some(2)];
        assert_eq!(all(&[nan, 1.0, nan], &steps), Some(2));
        assert_eq!(first_lost(&[nan, 1.0, nan], &steps, |r| r == 2), Some(0));
        // Where no step is known, the first of them.
        assert_eq!(all(&[1.0, nan, nan], &[None; 3]), Some(1));
    }
}

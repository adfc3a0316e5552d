//! What is done after each epoch and between steps: stopping, whatever a program wants.

use std::fmt::Debug;

use serde::{Deserialize, Serialize};

use super::report::{Epoch, TRAINING_SET, bare_name};
use super::training::Training;
use super::weights::{Chosen, Weights};
use crate::error::{Error, Result};
use crate::json::Exact;

/// How far a run is between two steps: so many are handed to the device, which may be behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StepsDone {
    /// The epoch under way, counted from 1.
    pub epoch: usize,
    /// Steps of the run, those of a run that goes on included.
    pub done: u64,
    /// Steps that the run has if nothing ends it before.
    pub total: u64,
}

/// Called after each epoch of a run.
pub trait Callback: Debug {
    /// Looks at an epoch and may act on the run. An epoch after which nothing is evaluated has no scores
    /// ([`Fit::evaluate_every`](super::Fit::evaluate_every)). Callbacks that act are called first, then those that only
    /// look on ([`Callback::observes`]).
    ///
    /// # Errors
    /// Whatever ends the run.
    fn epoch(&mut self, epoch: &Epoch, control: &mut Control<'_>) -> Result<()>;

    /// Looks at how far the run is, within an epoch.
    ///
    /// # Errors
    /// Whatever ends the run.
    fn steps(&mut self, done: &StepsDone) -> Result<()> {
        let _ = done;
        Ok(())
    }

    /// After how many steps, at most, it wants to be told how far the run is ([`Callback::steps`]); asked anew each time.
    /// Never, if not said. What is trained stays the same.
    fn every(&self) -> Option<u64> {
        None
    }

    /// Holds its settings to the names of the numbers that an epoch of the run will have, before anything is
    /// computed.
    ///
    /// # Errors
    /// [`Error::UnknownName`] for a number that there will not be.
    fn check(&self, numbers: &[String]) -> Result<()> {
        let _ = numbers;
        Ok(())
    }

    /// Whether it sets learning rates ([`Control::set_rates`]). Hyperparameters then stand on the device, where they
    /// are otherwise compiled in.
    fn sets_rates(&self) -> bool {
        false
    }

    /// Whether it only looks on: it neither acts on the run nor learns anything that a run that goes on must know. A run
    /// with a checkpoint may then go on with it or without; [`Callback::settings`] and [`Callback::state`] are not asked.
    fn observes(&self) -> bool {
        false
    }

    /// What decides how it acts, as text: a checkpoint of a run with another is refused. Its type, if not said.
    fn settings(&self) -> String {
        std::any::type_name::<Self>().into()
    }

    /// What it has learnt from the epochs so far, for a checkpoint; nothing, if not said.
    fn state(&self) -> serde_json::Value {
        serde_json::Value::Null
    }

    /// Takes up what [`Callback::state`] gave when the checkpoint was written.
    ///
    /// # Errors
    /// What does not fit.
    fn restore(&mut self, state: &serde_json::Value) -> Result<()> {
        let _ = state;
        Ok(())
    }
}

/// What a callback may do with a run.
pub struct Control<'a> {
    training: &'a mut Training,
    pub(super) stop: bool,
    chosen: &'a mut Chosen,
}

impl<'a> Control<'a> {
    pub(super) fn of(training: &'a mut Training, chosen: &'a mut Chosen) -> Self {
        Self {
            training,
            stop: false,
            chosen,
        }
    }
}

impl Control<'_> {
    /// Ends the run after this epoch.
    pub fn stop(&mut self) {
        self.stop = true;
    }

    /// The weights of each replica as they were evaluated; it costs a readback.
    ///
    /// # Errors
    /// What the device says.
    pub fn weights(&mut self) -> Result<Vec<Weights>> {
        self.training.evaluated()
    }

    /// The learning rate of each replica, without what a schedule makes of it.
    ///
    /// # Errors
    /// [`Error::Setting`] in a run of which no callback says that it sets rates.
    pub fn rates(&self) -> Result<Vec<f64>> {
        self.training.rates()
    }

    /// Gives each replica a learning rate, from the next epoch on.
    ///
    /// # Errors
    /// As [`Control::rates`]; [`Error::Setting`] for another number of rates, or one out of range.
    pub fn set_rates(&mut self, rates: &[f64]) -> Result<()> {
        self.training.set_rates(rates)
    }

    /// The weights that the run ends with, in place of the last epoch's, one of each replica.
    pub fn choose(&mut self, epoch: usize, weights: Vec<Weights>) {
        for (replica, weights) in weights.into_iter().enumerate() {
            self.choose_of(replica, epoch, weights);
        }
    }

    /// The weights that a replica ends with, in place of its last epoch's; nothing for a number that no replica has.
    pub fn choose_of(&mut self, replica: usize, epoch: usize, weights: Weights) {
        if let Some(chosen) = self.chosen.get_mut(replica) {
            *chosen = Some((epoch, weights));
        }
    }
}

/// A number of epochs that is to become better.
#[derive(Clone, Debug)]
pub(super) struct Watched {
    number: String,
    /// Whether large numbers are the good ones.
    pub largest: bool,
    /// How much better a number must be to count.
    pub least: f64,
}

impl Watched {
    /// Losses and errors are to be small; accuracies, `r2`, `auc`, `precision`, `recall` and `f1` large.
    pub fn new(number: &str) -> Self {
        let large = ["accuracy", "top ", "r2", "auc", "precision", "recall", "f1"];
        let of = bare_name(number);
        Self {
            number: number.into(),
            largest: large.iter().any(|name| of.starts_with(name)),
            least: 0.0,
        }
    }

    /// What is watched, as text.
    pub fn told(&self) -> String {
        let good = if self.largest { "largest" } else { "least" };
        format!("{good} {} by {}", self.number, self.least)
    }

    /// [`Callback::check`].
    pub fn check(&self, numbers: &[String]) -> Result<()> {
        if !(self.least >= 0.0 && self.least.is_finite()) {
            let name = format!("how much better {} must be", self.number);
            return Err(Error::setting(name, self.least, "0 or more"));
        }
        if numbers.contains(&self.number) {
            return Ok(());
        }
        let known: Vec<&str> = numbers.iter().map(String::as_str).collect();
        Err(Error::unknown("number of an epoch", &self.number, &known))
    }

    /// Whether an epoch has the number: data are not evaluated after every epoch.
    pub fn is_in(&self, epoch: &Epoch) -> bool {
        !epoch.passes_over(&self.number)
    }

    /// The number in an epoch, the mean over replicas.
    pub fn of(&self, epoch: &Epoch) -> Result<f64> {
        self.known(epoch, epoch.get(&self.number))
    }

    /// The number in an epoch, of a replica.
    pub fn of_replica(&self, epoch: &Epoch, replica: usize) -> Result<f64> {
        self.known(epoch, epoch.get_of(&self.number, replica))
    }

    fn known(&self, epoch: &Epoch, number: Option<f64>) -> Result<f64> {
        let number = number.ok_or_else(|| {
            let names = epoch.names();
            let known: Vec<&str> = names.iter().map(String::as_str).collect();
            Error::unknown("number of an epoch", &self.number, &known)
        })?;
        if number.is_nan() {
            let of = match self.number.starts_with(TRAINING_SET) {
                true => "training",
                false => "validation",
            };
            let wanted = match bare_name(&self.number) {
                "loss" => format!("a number in every epoch: some {of} rows have no finite loss"),
                _ => format!(
                    "a number in every epoch: the {of} rows may lack a class, or their targets a spread"
                ),
            };
            return Err(Error::setting(&self.number, number, wanted));
        }
        Ok(number)
    }

    /// Whether a number is better than the best so far.
    pub fn is_better(&self, number: f64, best: Option<f64>) -> bool {
        match best {
            None => true,
            Some(best) if self.largest => number > best + self.least,
            Some(best) => number < best - self.least,
        }
    }
}

/// Ends a run whose number has not become better for some epochs, and keeps the weights of the best
/// one.
///
/// Of several replicas it watches their mean, and all have the weights of one epoch; with [`EarlyStop::each`] it is as if each
/// were trained alone.
#[derive(Clone, Debug)]
pub struct EarlyStop {
    watched: Watched,
    patience: usize,
    each: bool,
    standings: Vec<Standing>,
}

/// Where a replica stands, or all of them.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
struct Standing {
    /// The best number and its epoch.
    best: Option<(Exact, usize)>,
    over: bool,
}

impl EarlyStop {
    /// Looks at a number of [`Epoch::get`], such as `validation loss`. Losses and errors are to be
    /// small; accuracies, `r2`, `auc`, `precision`, `recall` and `f1` large.
    pub fn on(number: &str) -> Self {
        Self {
            watched: Watched::new(number),
            patience: 10,
            each: false,
            standings: vec![],
        }
    }

    /// Epochs without a better number that it waits for; 10 if not said. Where data are evaluated after every so many
    /// epochs alone ([`Fit::evaluate_every`](super::Fit::evaluate_every)), it stops at the first of these that is so late.
    #[must_use]
    pub fn patience(self, epochs: usize) -> Self {
        Self {
            patience: epochs,
            ..self
        }
    }

    /// How much better a number must be to count.
    #[must_use]
    pub fn by_at_least(mut self, least: f64) -> Self {
        self.watched.least = least;
        self
    }

    /// Large numbers are the good ones.
    #[must_use]
    pub fn largest(mut self) -> Self {
        self.watched.largest = true;
        self
    }

    /// Watches each replica by itself: it ends with the weights that it would have alone, those of its own best epoch, and the run
    /// ends when the last of them has waited long enough. What one finds later, while others are still trained, is nothing to it.
    #[must_use]
    pub fn each(self) -> Self {
        Self { each: true, ..self }
    }
}

impl Callback for EarlyStop {
    fn check(&self, numbers: &[String]) -> Result<()> {
        self.watched.check(numbers)
    }

    fn settings(&self) -> String {
        let of = if self.each { ", each replica" } else { "" };
        let watched = self.watched.told();
        format!("EarlyStop({watched}, patience {}{of})", self.patience)
    }

    fn state(&self) -> serde_json::Value {
        serde_json::json!(self.standings)
    }

    fn restore(&mut self, state: &serde_json::Value) -> Result<()> {
        self.standings = serde_json::from_value(state.clone())
            .map_err(|e| Error::setting("state of early stopping", e, "a number and its epoch"))?;
        Ok(())
    }

    fn epoch(&mut self, epoch: &Epoch, control: &mut Control<'_>) -> Result<()> {
        if !self.watched.is_in(epoch) {
            return Ok(());
        }
        let replicas = control.chosen.len();
        let watched = if self.each { replicas } else { 1 };
        self.standings.resize(watched, Standing::default());
        let mut better = Vec::new();
        for (k, standing) in self.standings.iter_mut().enumerate() {
            if self.each && epoch.lost.contains(&k) {
                standing.over = true;
            }
            if standing.over {
                continue;
            }
            let number = match self.each {
                true => self.watched.of_replica(epoch, k)?,
                false => self.watched.of(epoch)?,
            };
            match standing.best {
                best if self.watched.is_better(number, best.map(|(best, _)| best.0)) => {
                    standing.best = Some((Exact(number), epoch.epoch));
                    better.push(k);
                }
                Some((_, at)) => standing.over = epoch.epoch - at >= self.patience,
                None => {}
            }
        }
        if !better.is_empty() {
            let weights = control.weights()?.into_iter().enumerate();
            // Of one that is lost an earlier choice is better than none.
            let chosen = |k| !epoch.lost.contains(&k) && (!self.each || better.contains(&k));
            for (replica, weights) in weights.filter(|(replica, _)| chosen(*replica)) {
                control.choose_of(replica, epoch.epoch, weights);
            }
        }
        if self.standings.iter().all(|standing| standing.over) {
            control.stop();
        }
        Ok(())
    }
}

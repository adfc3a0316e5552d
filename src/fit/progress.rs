//! Callbacks that tell how far a run is.

use std::fmt::Debug;

use super::callback::{Callback, Control, StepsDone};
use super::report::Epoch;
use crate::clock::Stopwatch;
use crate::error::Result;

/// Calls a function with each epoch: a line on the terminal, a plot, a log.
pub struct Progress<F>(F);

impl<F: FnMut(&Epoch)> Progress<F> {
    /// A function of each epoch.
    pub fn new(function: F) -> Self {
        Self(function)
    }
}

impl<F> Debug for Progress<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Progress")
    }
}

impl<F: FnMut(&Epoch)> Callback for Progress<F> {
    fn observes(&self) -> bool {
        true
    }

    fn epoch(&mut self, epoch: &Epoch, _: &mut Control<'_>) -> Result<()> {
        (self.0)(epoch);
        Ok(())
    }
}

/// Calls a function after every so many steps, and where an epoch ends.
///
/// ```
/// # use wgrad::data::Dataset;
/// # use wgrad::exec::{Choice, Device};
/// # use wgrad::fit::{EverySteps, Fit, Loss};
/// # use wgrad::model::{Model, layers::*};
/// # use wgrad::optim::{Optimizer, Sgd};
/// # let data = Dataset::new().with("input", [1], vec![0.5f32; 80])?.with("target", [1], vec![1.0f32; 80])?;
/// # let model = Model::sequential([1]).then(Dense::new(1)).build()?;
/// let mut shares = Vec::new();
/// let fit = Fit::new(&model, Loss::mse(), Optimizer::new(Sgd::default(), 0.1)).batch(4).epochs(1);
/// fit.with(EverySteps::new(8, |run| shares.push(run.done as f64 / run.total as f64)))
///     .run(&data, &Device::open(Choice::Cpu)?)?;
/// assert_eq!(shares, [0.4, 0.8, 1.0]);
/// # Ok::<(), wgrad::Error>(())
/// ```
pub struct EverySteps<F> {
    steps: u64,
    function: F,
}

impl<F: FnMut(&StepsDone)> EverySteps<F> {
    /// A function of how far the run is; of 0 steps it is called after each.
    pub fn new(steps: u64, function: F) -> Self {
        Self { steps, function }
    }
}

impl<F> Debug for EverySteps<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "EverySteps({})", self.steps)
    }
}

impl<F: FnMut(&StepsDone)> Callback for EverySteps<F> {
    fn observes(&self) -> bool {
        true
    }

    fn epoch(&mut self, _: &Epoch, _: &mut Control<'_>) -> Result<()> {
        Ok(())
    }

    fn steps(&mut self, done: &StepsDone) -> Result<()> {
        (self.function)(done);
        Ok(())
    }

    fn every(&self) -> Option<u64> {
        Some(self.steps)
    }
}

/// What a run tells of itself.
#[derive(Clone, Copy, Debug)]
pub enum Told<'a> {
    /// How far it is.
    Steps(&'a StepsDone),
    /// An epoch has ended.
    Epoch(&'a Epoch),
}

/// Seconds from one sign of how far a run is to the next, at least and at most, as far as steps allow.
const SIGNS: [f64; 2] = [0.05, 0.2];
/// Most steps between two.
const MOST_STEPS: u64 = 1024;

/// Tells a function of both, of steps a few times a second.
pub(super) struct Teller<F> {
    function: F,
    every: u64,
    since: Stopwatch,
}

impl<F: FnMut(Told<'_>)> Teller<F> {
    pub fn new(function: F) -> Self {
        Self {
            function,
            every: 1,
            since: Stopwatch::start(),
        }
    }
}

impl<F> Debug for Teller<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Teller")
    }
}

impl<F: FnMut(Told<'_>)> Callback for Teller<F> {
    fn observes(&self) -> bool {
        true
    }

    fn epoch(&mut self, epoch: &Epoch, _: &mut Control<'_>) -> Result<()> {
        (self.function)(Told::Epoch(epoch));
        self.since = Stopwatch::start();
        Ok(())
    }

    fn steps(&mut self, done: &StepsDone) -> Result<()> {
        (self.function)(Told::Steps(done));
        let [least, most] = SIGNS;
        self.every = match self.since.seconds() {
            seconds if seconds < least => (2 * self.every).min(MOST_STEPS),
            seconds if seconds > most => (self.every / 2).max(1),
            _ => self.every,
        };
        self.since = Stopwatch::start();
        Ok(())
    }

    fn every(&self) -> Option<u64> {
        Some(self.every)
    }
}

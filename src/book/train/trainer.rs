//! The training loop: epochs of steps on the device, one readback each.
//!
//! A run is one row of steps, cut into epochs of [`Trainer::steps_per_epoch`]. However it is
//! trained, by [`Trainer::epoch`], by [`Trainer::steps`] or by both in turn, the step of a number
//! is the same step: order, learning rate and masks follow from the number, which the device
//! counts and the trainer beside it.

mod blame;
mod epoch;
mod resume;

use super::front::{Front, TEST, TRAINING, VALIDATION};
use super::identity::{Identity, Origin};
use super::model::Model;
use super::outcome::{Epoch, Evaluation, Event, Outcome, evaluation, metrics};
use super::schedule::Watch;
use super::{Settings, Standing};
use crate::book::nn::{Network, Parameter};
use crate::checkpoints::Store;
use crate::clock::Stopwatch;
use crate::data::Split;
use crate::error::{Error, Result};
use crate::exec::profile::Profile;
use crate::exec::{Device, DeviceInfo, Traffic};
use crate::fit::{Answered, Training};
use crate::graph::Handle;
use crate::model;
use crate::plan::Plan;

/// A network in training.
pub struct Trainer {
    network: Network,
    model: model::Model,
    parameters: Vec<Parameter>,
    training: Training,
    settings: Settings,
    /// Training steps in an epoch.
    steps: usize,
    /// Training steps done; every replica's counter on the device says the same.
    done: u64,
    /// The epoch, counted from 0, whose order the device holds.
    ordered: Option<u64>,
    /// Each replica's learning rate, and whether it has stopped, as the device has them.
    rates: (Vec<f64>, Vec<bool>),
    /// Seconds of the steps that the epoch under way has had by [`Trainer::steps`].
    under_way: f64,
    /// The epochs that were reported, in order.
    history: Vec<Epoch>,
    /// Where each replica stands after `history`.
    watches: Vec<Watch>,
    training_seconds: f64,
    /// What weights are pulled with: L2 and L1, divided already.
    decay: [f64; 2],
    /// Whether the held-out sets' buffers hold an evaluation of this run.
    evaluated: bool,
    /// The weights to start from, where they are not drawn.
    given: Option<Model>,
    /// What trained the epochs, this version and device last.
    origins: Vec<Origin>,
    /// What tells the run's checkpoints from others', but for given weights.
    identity: Identity,
    store: Option<Store<Identity>>,
}

impl Trainer {
    /// The plan that [`Trainer::new`] would run, without allocating anything.
    ///
    /// # Errors
    /// Everything that can be wrong with a network, its data or its settings.
    pub fn plan(
        network: &Network,
        data: &Split,
        settings: &Settings,
        device: &DeviceInfo,
    ) -> Result<Plan> {
        let front = Front::of_session(network, settings, data)?;
        front.setup().plan(device)
    }

    /// Compiles the session, uploads the data and draws the parameters.
    ///
    /// # Errors
    /// Everything that can be wrong with a network, its data or its settings, and what
    /// the device says.
    pub fn new(
        network: &Network,
        data: &Split,
        settings: &Settings,
        device: &Device,
    ) -> Result<Self> {
        let front = Front::of_session(network, settings, data)?;
        let training = front.setup().compile(device)?;
        let name = training.session.device().name.clone();
        let mut this = Self {
            network: network.clone(),
            parameters: network.parameters()?,
            model: front.model,
            settings: settings.clone(),
            steps: training.epoch_steps,
            training,
            done: 0,
            ordered: None,
            rates: (vec![], vec![]),
            under_way: 0.0,
            history: vec![],
            watches: vec![Watch::default(); settings.replicas],
            training_seconds: 0.0,
            decay: settings.decay(data.train.len()),
            evaluated: false,
            given: None,
            origins: vec![Origin {
                version: env!("CARGO_PKG_VERSION").into(),
                device: name,
            }],
            identity: Identity::of(network, settings, data)?,
            store: None,
        };
        this.set_rates(0)?;
        this.training.average()?;
        Ok(this)
    }

    /// The device it runs on.
    pub fn device(&self) -> &DeviceInfo {
        self.training.session.device()
    }

    /// The plan it runs.
    pub fn executed_plan(&self) -> &Plan {
        self.training.session.plan()
    }

    /// What the executor has moved and launched so far.
    pub fn traffic(&self) -> Traffic {
        self.training.session.traffic()
    }

    /// Training steps in an epoch.
    pub fn steps_per_epoch(&self) -> usize {
        self.steps
    }

    /// Training steps done.
    pub fn steps_done(&self) -> u64 {
        self.done
    }

    /// Whole epochs done.
    pub fn epochs_done(&self) -> usize {
        (self.done / self.steps as u64) as usize
    }

    /// Where each replica stands under the rules of [`Settings`]. Epochs that
    /// [`Trainer::steps`] has ended were not evaluated and do not count.
    pub fn standings(&self) -> Vec<Standing> {
        self.watches.iter().map(|w| w.standing).collect()
    }

    /// Takes an epoch into the history.
    fn record(&mut self, epoch: Epoch) {
        for (watch, &accuracy) in self.watches.iter_mut().zip(&epoch.validation_accuracy) {
            let (stop, halve) = (self.settings.stop_after, self.settings.halve_after);
            watch.see(epoch.epoch, accuracy, stop, halve);
        }
        self.history.push(epoch);
    }

    /// Gives each replica its learning rate in an epoch, counted from 0; nothing is uploaded where it has it.
    fn set_rates(&mut self, epoch: u64) -> Result<()> {
        let standings = self.watches.iter().map(|watch| watch.standing);
        let rates = standings.clone().enumerate();
        let rates = rates.map(|(r, standing)| self.settings.rate(r, epoch as usize, standing));
        let stopped = standings.map(|standing| standing.stopped.is_some());
        let wanted = (rates.collect::<Vec<f64>>(), stopped.collect::<Vec<bool>>());
        if wanted != self.rates {
            self.training.set_rates_of(&wanted.0, &wanted.1)?;
            self.rates = wanted;
        }
        Ok(())
    }

    /// Whether every replica has stopped.
    fn over(&self) -> bool {
        let stopped = |w: &Watch| w.standing.stopped.is_some();
        self.settings.has_rules() && self.watches.iter().all(stopped)
    }

    /// Trains to the last epoch, or until every replica has stopped by the rules of
    /// [`Settings`].
    ///
    /// # Errors
    /// [`Error::NotFinite`] when a loss overflowed, in training or in an evaluation, or a
    /// parameter, a velocity or a mean did; the trainer then stands where that epoch began, if it
    /// was the first or its checkpoint is there. [`Error::Disagrees`] when the sentinel found a
    /// wrong launch, [`Error::Device`] when the device failed, [`Error::Io`] when a checkpoint
    /// cannot be written.
    pub fn run(&mut self, tell: &mut dyn FnMut(&Event<'_>)) -> Result<Outcome> {
        let start = Stopwatch::start();
        let before = (self.done, self.training_seconds);
        let mut test = None;
        while self.epochs_done() < self.settings.epochs && !self.over() {
            let (epoch, evaluation) = self.epoch(tell)?;
            tell(&Event::Epoch(&epoch));
            test = Some(evaluation);
            self.keep()?;
        }
        let test = match test {
            Some(test) => test,
            None => self.evaluate()?,
        };
        let steps = (self.done - before.0) as f64;
        let training = self.training_seconds - before.1;
        Ok(Outcome {
            epochs: self.history.clone(),
            test,
            steps_per_second: steps / training.max(1e-9),
            seconds: start.seconds(),
        })
    }

    /// Draws the order of the epoch that the next step belongs to, unless it is drawn already, and sets its learning
    /// rates. [`Trainer::steps`] and [`Trainer::epoch`] do so by themselves; who measures does it before.
    ///
    /// # Errors
    /// [`Error::Device`] when the device failed.
    pub fn prepare(&mut self) -> Result<()> {
        let epoch = self.done / self.steps as u64;
        self.set_rates(epoch)?;
        if self.ordered != Some(epoch) {
            self.training.shuffle()?;
            self.ordered = Some(epoch);
        }
        Ok(())
    }

    /// Steps from here to the end of the epoch under way; a whole epoch's where one is to begin.
    fn left(&self) -> u64 {
        let steps = self.steps as u64;
        steps - self.done % steps
    }

    /// Whether the device can count so many more steps.
    fn check_room(&self, count: u64) -> Result<()> {
        let room = u64::from(u32::MAX) - self.done;
        if count <= room {
            return Ok(());
        }
        let wanted = format!("at most {room} more: the device counts them in 32 bits");
        Err(Error::setting("training steps", count, wanted))
    }

    /// Counts steps that were run, none beyond the end of their epoch. What follows an epoch's
    /// last step on the device follows it here.
    fn count(&mut self, steps: u64) -> Result<()> {
        self.done += steps;
        if self.done.is_multiple_of(self.steps as u64) {
            self.training.average()?;
        }
        Ok(())
    }

    /// Trains the run's next `count` steps and waits for them: no evaluation, no readback, no sentinel, no upload but of
    /// the learning rates of an epoch that has others. Where they enter an epoch, its order is drawn; where they end one,
    /// weights are averaged if [`Settings::average_from`] says so. That epoch is not evaluated:
    /// it is missing in [`Outcome::epochs`], no rule of [`Settings`] counts it, and no guard
    /// looks at it. For measurements, and for loops that evaluate when they choose.
    ///
    /// # Errors
    /// [`Error::Device`] when the device failed, [`Error::Setting`] for more than 2³² − 1 steps
    /// in all.
    pub fn steps(&mut self, count: u64) -> Result<()> {
        self.check_room(count)?;
        let mut begun = Stopwatch::start();
        let mut to_go = count;
        while to_go > 0 {
            let now = to_go.min(self.left());
            self.prepare()?;
            let train = self.training.train_program();
            self.training.session.run(train, now)?;
            self.training.train.pass(now);
            self.count(now)?;
            to_go -= now;
            if self.left() == self.steps as u64 {
                self.under_way = 0.0;
                begun = Stopwatch::start();
            }
        }
        self.training.session.wait()?;
        if self.left() < self.steps as u64 {
            self.under_way += begun.seconds();
        }
        Ok(())
    }

    /// Trains like [`Trainer::steps`] and tells where the time goes, over the launches of
    /// [`Trainer::executed_plan`]'s program `train`.
    ///
    /// # Errors
    /// As [`Trainer::steps`].
    pub fn profile(&mut self, steps: u64) -> Result<Profile> {
        let steps = steps.max(1);
        self.check_room(steps)?;
        let mut runs = self.training.measure(steps)?;
        let mut to_go = steps;
        while to_go > 0 {
            let now = to_go.min(self.left());
            self.prepare()?;
            self.training.run_measured(&mut runs, now)?;
            self.count(now)?;
            to_go -= now;
        }
        Ok(runs.profile())
    }

    /// Evaluates the test set with the networks that [`Trainer::model`] gives.
    ///
    /// # Errors
    /// [`Error::Device`] when the device failed.
    pub fn evaluate(&mut self) -> Result<Evaluation> {
        if !self.averaged() {
            self.training.average()?;
        }
        let test = self.evaluate_set(TEST)?;
        let asked = test.map(|test| (test.metrics, test.predictions));
        let back = self.training.session.read(asked)?;
        let (counted, predictions) = back.ok_or_else(|| no_set(TEST))?;
        Ok(evaluation(&metrics(&counted), &predictions))
    }

    /// What is kept of the examples of a set, where it is evaluated.
    fn answers(&self, set: &str) -> Option<Answered> {
        let mut sets = self.training.evaluations.iter();
        sets.find(|e| e.set == set)?.answers
    }

    /// Evaluates a set, where it is one of those that are.
    fn evaluate_set(&mut self, set: &str) -> Result<Option<Answered>> {
        let mut sets = self.training.evaluations.iter();
        let Some(of) = sets.find(|e| e.set == set) else {
            return Ok(None);
        };
        self.training.session.run(of.program, of.runs)?;
        Ok(of.answers)
    }

    /// Whether the running means are to be evaluated and saved in place of the weights.
    fn averaged(&self) -> bool {
        let from = self.settings.average_from;
        from.is_some_and(|from| self.epochs_done() >= from)
    }

    /// The networks as they are now, one per replica; with [`Settings::average_from`] their
    /// running means over the ends of epochs (until that epoch has ended, the weights
    /// themselves).
    ///
    /// # Errors
    /// [`Error::NotFinite`] naming the parameter where a weight is not finite,
    /// [`Error::Device`] when the device failed.
    pub fn model(&mut self) -> Result<Model> {
        let saved = match self.averaged() {
            true => &self.training.evaluated,
            false => &self.training.saved,
        };
        let handles: Vec<Handle<f32>> = saved.iter().map(|s| s.handle).collect();
        let weights = self.training.session.read(handles)?;
        let names = self.parameters.iter().map(|p| p.name.as_str());
        self.check_finite(names.zip(&weights))?;
        Model::from_values(&self.network, &self.parameters, &weights)
    }
}

/// A set that no session lacks.
fn no_set(set: &str) -> Error {
    Error::setting(set, "no evaluation", "one in every session")
}

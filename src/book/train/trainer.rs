//! The training loop: epochs of steps on the device, one readback each.
//!
//! A run is one row of steps, cut into epochs of [`Trainer::steps_per_epoch`]. However it is
//! trained, by [`Trainer::epoch`], by [`Trainer::steps`] or by both in turn, the step of a number
//! is the same step: order, learning rate and masks follow from the number, which the device
//! counts and the trainer beside it.

mod blame;
mod epoch;
mod resume;

use super::checkpoint::{Identity, Keeper, Origin};
use super::model::Model;
use super::outcome::{Epoch, Evaluation, Event, Outcome, evaluation, metrics};
use super::programs::{self, Handles, Programs};
use super::schedule::Watch;
use super::{Decay, Settings, Standing};
use crate::book::nn::{Network, Parameter};
use crate::clock::Stopwatch;
use crate::compile::{Options, compile};
use crate::data::Split;
use crate::error::{Error, Result};
use crate::exec::profile::Profile;
use crate::exec::{Device, DeviceInfo, Traffic};
use crate::plan::Plan;
use crate::rng::keys;
use crate::run::Session;

/// A network in training.
pub struct Trainer {
    network: Network,
    parameters: Vec<Parameter>,
    session: Session,
    handles: Handles,
    settings: Settings,
    /// Training steps in an epoch.
    steps: usize,
    /// Training steps done; every replica's counter on the device says the same.
    done: u64,
    /// The epoch, counted from 0, whose order the device holds.
    ordered: Option<u64>,
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
    keeper: Option<Keeper>,
}

/// A session's programs, and how they are compiled for a device.
fn programs_for(
    network: &Network,
    data: &Split,
    settings: &Settings,
    device: &DeviceInfo,
) -> Result<(Programs, Options)> {
    let programs = programs::build(network, settings, data)?;
    let options = Options {
        replicas: settings.replicas,
        fuse: settings.fuse,
        ..Options::on(device)
    };
    Ok((programs, options))
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
        let (programs, options) = programs_for(network, data, settings, device)?;
        compile(&programs.graph, &options)
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
        let (programs, options) = programs_for(network, data, settings, device.info())?;
        let session = Session::with(&programs.graph, device, &options)?;
        let handles = programs.handles;
        let name = session.device().name.clone();
        let steps = handles.train.steps;
        let examples = data.train.len() * settings.expansion.factor();
        let decay = |d: Decay| d.coefficient(examples, steps);
        let mut this = Self {
            network: network.clone(),
            parameters: programs.parameters,
            session,
            handles,
            settings: settings.clone(),
            steps,
            done: 0,
            ordered: None,
            under_way: 0.0,
            history: vec![],
            watches: vec![Watch::default(); settings.replicas],
            training_seconds: 0.0,
            decay: [decay(settings.l2), decay(settings.l1)],
            evaluated: false,
            given: None,
            origins: vec![Origin {
                version: env!("CARGO_PKG_VERSION").into(),
                device: name,
            }],
            identity: Identity::of(network, settings, data)?,
            keeper: None,
        };
        this.upload(data)?;
        this.session.run(this.handles.init, 1)?;
        this.average()?;
        Ok(this)
    }

    /// Uploads keys, rates and data, and begins every pass.
    fn upload(&mut self, data: &Split) -> Result<()> {
        let first = self.settings.first_replica as u32;
        let replicas = 0..self.settings.replicas as u32;
        let keys = replicas.flat_map(|r| keys(self.settings.seed, first + r));
        let keys: Vec<u32> = keys.collect();
        self.session.write(self.handles.keys, &keys)?;
        self.write_hyper()?;
        let (session, handles) = (&mut self.session, &self.handles);
        handles.images.write(session, &data.train)?;
        handles.train.begin(session)?;
        if let Some(training) = handles.training {
            training.begin(session)?;
        }
        for ((pixels, pass), images) in [
            (handles.validation, &data.validation),
            (handles.test, &data.test),
        ] {
            pixels.write(session, images)?;
            pass.begin(session)?;
        }
        Ok(())
    }

    /// Takes the weights into their running mean, where there is one.
    fn average(&mut self) -> Result<()> {
        match self.handles.average {
            Some(average) => self.session.run(average, 1),
            None => Ok(()),
        }
    }

    /// The device it runs on.
    pub fn device(&self) -> &DeviceInfo {
        self.session.device()
    }

    /// The plan it runs.
    pub fn executed_plan(&self) -> &Plan {
        self.session.plan()
    }

    /// What the executor has moved and launched so far.
    pub fn traffic(&self) -> Traffic {
        self.session.traffic()
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

    /// Takes an epoch into the history; returns whether a rule has changed anything.
    fn record(&mut self, epoch: Epoch) -> bool {
        let mut changed = false;
        for (watch, &accuracy) in self.watches.iter_mut().zip(&epoch.validation_accuracy) {
            let before = watch.standing;
            let (stop, halve) = (self.settings.stop_after, self.settings.halve_after);
            watch.see(epoch.epoch, accuracy, stop, halve);
            changed |= watch.standing != before;
        }
        self.history.push(epoch);
        changed
    }

    /// Uploads learning rates, momentum and decay of every replica as they stand.
    fn write_hyper(&mut self) -> Result<()> {
        let decay = self.decay.map(|d| d as f32);
        let watches = self.watches.iter().enumerate();
        let hyper = watches.flat_map(|(r, w)| self.settings.hyper(r, w.standing, decay));
        let hyper: Vec<f32> = hyper.collect();
        self.session.write(self.handles.hyper, &hyper)
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

    /// Draws the order of the epoch that the next step belongs to, unless it is drawn already.
    /// [`Trainer::steps`] and [`Trainer::epoch`] do so by themselves; who measures does it before.
    ///
    /// # Errors
    /// [`Error::Device`] when the device failed.
    pub fn prepare(&mut self) -> Result<()> {
        let epoch = self.done / self.steps as u64;
        if self.ordered != Some(epoch) {
            self.session.run(self.handles.shuffle, 1)?;
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
            self.average()?;
        }
        Ok(())
    }

    /// Trains the run's next `count` steps and waits for them: no evaluation, no upload, no
    /// readback, no sentinel. Where they enter an epoch, its order is drawn; where they end one,
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
            self.session.run(self.handles.train.program, now)?;
            self.count(now)?;
            to_go -= now;
            if self.left() == self.steps as u64 {
                self.under_way = 0.0;
                begun = Stopwatch::start();
            }
        }
        self.session.wait()?;
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
        let mut runs = self.session.measure(self.handles.train.program, steps)?;
        let mut to_go = steps;
        while to_go > 0 {
            let now = to_go.min(self.left());
            self.prepare()?;
            self.session.run_measured(&mut runs, now)?;
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
            self.average()?;
        }
        let (_, test) = self.handles.test;
        test.run(&mut self.session)?;
        let back = self.session.read((test.pass.metrics, test.predictions))?;
        Ok(evaluation(&metrics(&back.0), &back.1))
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
        let averaged = self.averaged();
        let means = self.handles.means.as_ref().filter(|_| averaged);
        let weights = self.session.read(means.unwrap_or(&self.handles.weights))?;
        let names = self.parameters.iter().map(|p| p.name.as_str());
        self.check_finite(names.zip(&weights))?;
        Model::from_values(&self.network, &self.parameters, &weights)
    }
}

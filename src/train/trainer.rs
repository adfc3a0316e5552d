//! The training loop: epochs of steps on the device, one readback each.

use std::path::Path;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::checkpoint::{self, Checkpoint, Keeper};
use super::model::{Evaluation, Model};
use super::programs::{self, GUARD, METRICS, TRAINING};
use super::{Decay, Settings, Standing};
use crate::compile::{Options, compile};
use crate::data::{Images, Split};
use crate::error::{Error, Result};
use crate::exec::{Device, DeviceInfo, Executor, Traffic, run_verified};
use crate::kernel::Access;
use crate::nn::{Network, Parameter};
use crate::ops::{COUNTER, NEXT};
use crate::plan::{Binding, Plan};
use crate::rng::{Stream, key, keys, streams};
use crate::shape::DType;
use crate::tensor::Host;

/// Steps between two progress events.
const PROGRESS: u64 = 100;

/// What a run tells while it goes on.
#[derive(Clone, Debug)]
pub enum Event<'a> {
    /// Steps handed to the device so far, of how many in all.
    Steps {
        /// The epoch, counted from 1.
        epoch: usize,
        /// Steps done.
        done: u64,
        /// Steps of the whole run.
        total: u64,
    },
    /// An epoch has ended.
    Epoch(&'a Epoch),
}

/// The metrics of an epoch, one entry per replica; accuracies from 0 to 1.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Epoch {
    /// Counted from 1.
    pub epoch: usize,
    /// Mean cost over the epoch's mini-batches, each before its update; without the
    /// weight decay's term.
    pub training_cost: Vec<f64>,
    /// Accuracy over the same mini-batches.
    pub training_accuracy: Vec<f64>,
    /// Accuracy on the validation set after the epoch.
    pub validation_accuracy: Vec<f64>,
    /// Accuracy on the test set after the epoch.
    pub test_accuracy: Vec<f64>,
    /// Mean cost on the validation set after the epoch, without the decay's term.
    #[serde(default)]
    pub validation_cost: Vec<f64>,
    /// Mean cost on the test set after the epoch, without the decay's term.
    #[serde(default)]
    pub test_cost: Vec<f64>,
    /// Mean cost on the training images after the epoch, without the decay's term; empty
    /// unless [`Settings::measure_training`] is set. It differs from `training_cost`,
    /// which is taken while the weights move.
    #[serde(default)]
    pub set_cost: Vec<f64>,
    /// Accuracy on the training images after the epoch; empty like `set_cost`.
    #[serde(default)]
    pub set_accuracy: Vec<f64>,
    /// The decay's term of the cost, λ₂/2 Σ w² + λ₁ Σ |w| with λ already divided, after the
    /// epoch; empty like `set_cost`.
    #[serde(default)]
    pub penalty: Vec<f64>,
    /// Seconds of the epoch, evaluation included.
    pub seconds: f64,
}

/// The outcome of a run.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Every epoch.
    pub epochs: Vec<Epoch>,
    /// The last evaluation of the test set.
    pub test: Evaluation,
    /// Training steps per second, evaluation and resumed epochs not counted.
    pub steps_per_second: f64,
    /// Seconds since the run began or was resumed.
    pub seconds: f64,
}

impl Outcome {
    /// The epoch that chapter 6 reports of a replica: the one of the best validation
    /// accuracy, the last of equally good ones (`network3.py` compares by ≥). `None` of no
    /// epochs or replicas.
    pub fn best_epoch(&self, replica: usize) -> Option<&Epoch> {
        let accuracy = |e: &Epoch| e.validation_accuracy.get(replica).copied();
        let mut best: Option<&Epoch> = None;
        for epoch in &self.epochs {
            if accuracy(epoch)? >= best.and_then(accuracy).unwrap_or(f64::NEG_INFINITY) {
                best = Some(epoch);
            }
        }
        best
    }
}

/// A network in training.
pub struct Trainer {
    network: Network,
    parameters: Vec<Parameter>,
    executor: Box<dyn Executor>,
    settings: Settings,
    steps: usize,
    history: Vec<Epoch>,
    sets: Vec<(&'static str, usize)>,
    training_seconds: f64,
    /// What weights are pulled with: L2 and L1, divided already.
    decay: [f64; 2],
    /// Whether the held-out sets' buffers hold an evaluation of this run.
    evaluated: bool,
    identity: String,
    keeper: Option<Keeper>,
}

/// The plan of a training session, to look at or to run.
///
/// # Errors
/// Everything that can be wrong with a network, its data or its settings.
pub(super) fn plan(
    network: &Network,
    data: &Split,
    settings: &Settings,
    device: &DeviceInfo,
) -> Result<(Plan, Vec<Parameter>, usize)> {
    let held_out = [("validation", &data.validation), ("test", &data.test)];
    let programs = programs::build(network, settings, &data.train, &held_out)?;
    let options = Options {
        replicas: settings.replicas,
        fuse: settings.fuse,
        limits: device.limits,
    };
    let plan = compile(&programs.graph, &options)?;
    Ok((plan, programs.parameters, programs.steps))
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
        Ok(plan(network, data, settings, device)?.0)
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
        let (plan, parameters, steps) = plan(network, data, settings, device.info())?;
        let mut this = Self {
            network: network.clone(),
            parameters,
            executor: device.executor(plan)?,
            settings: settings.clone(),
            steps,
            history: vec![],
            sets: vec![],
            training_seconds: 0.0,
            decay: [0.0; 2],
            evaluated: false,
            identity: checkpoint::identity(network, settings, &data.train)?,
            keeper: None,
        };
        let first = settings.first_replica as u32;
        let keys = (0..settings.replicas as u32).flat_map(|r| keys(settings.seed, first + r));
        this.write("keys", &Host::U32(keys.collect()))?;
        let examples = data.train.len() * settings.expansion.factor();
        let decay = |d: Decay| d.coefficient(examples, steps);
        this.decay = [decay(settings.l2), decay(settings.l1)];
        this.write_hyper()?;
        upload(this.executor.as_mut(), "train", &data.train)?;
        if settings.measure_training {
            let counters = counters(this.executor.plan(), 0);
            this.write(&format!("{TRAINING} step"), &counters)?;
            let batch = settings.evaluation_batch.min(data.train.len());
            this.sets.push((TRAINING, data.train.len().div_ceil(batch)));
        }
        for (name, images) in [("validation", &data.validation), ("test", &data.test)] {
            upload(this.executor.as_mut(), name, images)?;
            let batch = settings.evaluation_batch.min(images.len());
            this.sets.push((name, images.len().div_ceil(batch)));
        }
        this.executor.run("init", 1)?;
        this.average()?;
        Ok(this)
    }

    /// Takes the weights into their running mean, where there is one.
    fn average(&mut self) -> Result<()> {
        match self.settings.average_from {
            Some(_) => self.executor.run("average", 1),
            None => Ok(()),
        }
    }

    /// The device it runs on.
    pub fn device(&self) -> &DeviceInfo {
        self.executor.device()
    }

    /// The plan it runs.
    pub fn executed_plan(&self) -> &Plan {
        self.executor.plan()
    }

    /// What the executor has moved and launched so far.
    pub fn traffic(&self) -> Traffic {
        self.executor.traffic()
    }

    /// Training steps in an epoch.
    pub fn steps_per_epoch(&self) -> usize {
        self.steps
    }

    /// From now on, [`Trainer::run`] writes a checkpoint to `folder` after each epoch and
    /// keeps the `last` ones.
    ///
    /// # Errors
    /// [`Error::Io`] when the folder cannot be written to, [`Error::Setting`] if `last`
    /// is 0.
    pub fn keep_checkpoints(&mut self, folder: &Path, last: usize) -> Result<()> {
        self.keeper = Some(Keeper::new(folder, last, self.identity.clone())?);
        Ok(())
    }

    /// Goes on from the newest whole checkpoint of this very run (same network, settings
    /// and training data; the number of epochs may differ) in the folder given to
    /// [`Trainer::keep_checkpoints`]. Returns how many epochs are done: 0 if there is no
    /// checkpoint. On the device and driver that wrote it, the run ends with the weights
    /// of one that was never interrupted, bit for bit.
    ///
    /// # Errors
    /// [`Error::Io`] when the folder cannot be read, [`Error::Device`] when the device
    /// failed.
    pub fn resume(&mut self) -> Result<usize> {
        let newest = match &self.keeper {
            Some(keeper) => keeper.newest()?,
            None => None,
        };
        let Some(checkpoint) = newest else {
            return Ok(0);
        };
        self.restore(&checkpoint)?;
        self.history = checkpoint.history;
        self.write_hyper()?;
        Ok(self.history.len())
    }

    /// Starts from given weights instead of drawn ones: one set for each replica, or one
    /// for all. To be called before the first epoch.
    ///
    /// # Errors
    /// [`Error::Setting`] if the model is of another network or another number of
    /// replicas, or epochs have been run.
    pub fn set_weights(&mut self, model: &Model) -> Result<()> {
        if !self.history.is_empty() {
            let found = format!("{} epochs done", self.history.len());
            return Err(Error::setting("given weights", found, "no epoch done yet"));
        }
        model.write(&self.network, self.executor.as_mut())
    }

    /// Where each replica stands under the rules of [`Settings`].
    pub fn standings(&self) -> Vec<Standing> {
        (0..self.settings.replicas)
            .map(|r| {
                let accuracies: Vec<f64> = self
                    .history
                    .iter()
                    .map(|epoch| epoch.validation_accuracy[r])
                    .collect();
                let settings = &self.settings;
                Standing::after(&accuracies, settings.stop_after, settings.halve_after)
            })
            .collect()
    }

    /// Uploads learning rates, momentum and decay of every replica as they stand.
    fn write_hyper(&mut self) -> Result<()> {
        let decay = self.decay.map(|d| d as f32);
        let standings = self.standings().into_iter().enumerate();
        let hyper = standings.flat_map(|(r, standing)| self.settings.hyper(r, standing, decay));
        let hyper = hyper.collect();
        self.write("hyper", &Host::F32(hyper))
    }

    /// Whether every replica has stopped.
    fn over(&self) -> bool {
        self.settings.has_rules() && self.standings().iter().all(|s| s.stopped.is_some())
    }

    fn restore(&mut self, checkpoint: &Checkpoint) -> Result<()> {
        for (name, values) in &checkpoint.buffers {
            self.write(name, &Host::F32(values.clone()))?;
        }
        let step = (checkpoint.history.len() * self.steps) as u32;
        self.begin_at(step)
    }

    /// Sets the number of the next training step.
    fn begin_at(&mut self, step: u32) -> Result<()> {
        let counters = counters(self.executor.plan(), step);
        self.write("train step", &counters)
    }

    /// The error for a loss that stopped being finite in `step`. Runs are repeatable, so
    /// the epoch is run again, and its last steps launch by launch, to see which layer
    /// and pass it was; where its start is not kept the cost alone is named.
    fn not_finite(&mut self, step: u64, replica: usize) -> Result<Error> {
        let found = self.first_not_finite(step, replica)?;
        let (place, step) = found.unwrap_or_else(|| ("cost".into(), step));
        let number = self.history.len() + 1;
        Ok(Error::NotFinite {
            place: format!("epoch {number}, {place}"),
            step,
            replica,
            fix: "Lower the learning rate (--lr); the checkpoint of the epoch before is finite."
                .into(),
        })
    }

    fn first_not_finite(&mut self, step: u64, replica: usize) -> Result<Option<(String, u64)>> {
        let epochs = self.history.len();
        let first = (epochs * self.steps) as u64;
        match self.keeper.as_ref().and_then(|k| k.after(epochs)) {
            Some(checkpoint) => self.restore(&checkpoint)?,
            None if epochs == 0 => {
                self.begin_at(0)?;
                self.executor.run("init", 1)?;
            }
            None => return Ok(None),
        }
        self.executor.run("shuffle", 1)?;
        // What made the loss infinite is in its own step, or in the backward pass and the
        // update of the step before.
        let from = step.saturating_sub(1).max(first);
        self.executor.run("train", from - first)?;
        let launches = self.executor.plan().programs["train"].clone();
        for step in from..=step {
            for (i, launch) in launches.iter().enumerate() {
                self.executor.run_part("train", i..i + 1)?;
                let bindings = launch.bindings.iter().zip(launch.kernel.bindings);
                let written: Vec<_> = bindings
                    .filter(|(_, b)| b.access != Access::Read && b.dtype == DType::F32)
                    .collect();
                let bindings: Vec<Binding> = written.iter().map(|(b, _)| **b).collect();
                if bindings.is_empty() {
                    continue;
                }
                let hosts = self.executor.read_bindings(&bindings)?;
                for ((binding, _), host) in written.iter().zip(hosts) {
                    let values = host.floats().unwrap_or_default();
                    let own = values.chunks(binding.elements).nth(replica);
                    if own.is_some_and(|v| v.iter().any(|x| !x.is_finite())) {
                        let place = format!("{} ({})", launch.label, launch.kernel.name);
                        return Ok(Some((place, step)));
                    }
                }
            }
        }
        Ok(None)
    }

    fn checkpoint(&mut self) -> Result<Checkpoint> {
        let names: Vec<String> = self
            .parameters
            .iter()
            .flat_map(|p| {
                let (v, mean) = (programs::velocity(&p.name), programs::average(&p.name));
                [p.name.clone(), v, mean]
            })
            .filter(|name| self.executor.plan().state(name).is_some())
            .collect();
        let buffers: Vec<usize> = names.iter().map(|n| self.state(n)).collect::<Result<_>>()?;
        let hosts = self.executor.read_all(&buffers)?;
        let values = hosts.into_iter().map(|h| h.floats().unwrap_or_default());
        Ok(Checkpoint {
            history: self.history.clone(),
            buffers: names.into_iter().zip(values).collect(),
        })
    }

    /// Trains to the last epoch, or until every replica has stopped by the rules of
    /// [`Settings`].
    ///
    /// # Errors
    /// [`Error::NotFinite`] when a loss overflowed, [`Error::Disagrees`] when the sentinel
    /// found a wrong launch, [`Error::Device`] when the device failed, [`Error::Io`] when a checkpoint cannot be written.
    pub fn run(&mut self, tell: &mut dyn FnMut(&Event<'_>)) -> Result<Outcome> {
        let start = Instant::now();
        let before = self.history.len();
        let mut test = None;
        while self.history.len() < self.settings.epochs && !self.over() {
            let (epoch, evaluation) = self.epoch(tell)?;
            tell(&Event::Epoch(&epoch));
            test = Some(evaluation);
            if self.keeper.is_some() {
                let checkpoint = self.checkpoint()?;
                if let Some(keeper) = &self.keeper {
                    keeper.write(&checkpoint)?;
                }
            }
        }
        let test = match test {
            Some(test) => test,
            None => self.evaluate()?,
        };
        let steps = (self.steps * (self.history.len() - before)) as f64;
        Ok(Outcome {
            epochs: self.history.clone(),
            test,
            steps_per_second: steps / self.training_seconds.max(1e-9),
            seconds: start.elapsed().as_secs_f64(),
        })
    }

    /// Draws the order of the current epoch; [`Trainer::epoch`] does so by itself.
    ///
    /// # Errors
    /// [`Error::Device`] when the device failed.
    pub fn prepare(&mut self) -> Result<()> {
        self.executor.run("shuffle", 1)
    }

    /// Runs training steps and waits for them: no shuffling, no evaluation, no readback.
    /// For measurements.
    ///
    /// # Errors
    /// [`Error::Device`] when the device failed.
    pub fn steps(&mut self, count: u64) -> Result<()> {
        self.executor.run("train", count)?;
        self.executor.wait()
    }

    /// Runs training steps launch by launch, waiting after each, and returns the mean
    /// seconds of each launch of [`Trainer::executed_plan`]'s program `train`. On a GPU
    /// the wait itself is in every number.
    ///
    /// # Errors
    /// [`Error::Device`] when the device failed.
    pub fn profile(&mut self, steps: u64) -> Result<Vec<f64>> {
        let launches = self.executor.plan().programs["train"].len();
        let mut seconds = vec![0.0; launches];
        for _ in 0..steps {
            for (i, seconds) in seconds.iter_mut().enumerate() {
                let begun = Instant::now();
                self.executor.run_part("train", i..i + 1)?;
                self.executor.wait()?;
                *seconds += begun.elapsed().as_secs_f64() / steps as f64;
            }
        }
        Ok(seconds)
    }

    /// Step number `step`, with one launch of it held against the reference.
    fn verified_step(&mut self, step: u64) -> Result<()> {
        let launches = self.executor.plan().programs["train"].len();
        let stream = Stream {
            seed: key(self.settings.seed),
            replica: 0,
            stream: streams::SENTINEL,
        };
        let pick = stream.words(step as u32, 0)[0] as usize % launches;
        run_verified(self.executor.as_mut(), "train", pick)
    }

    /// Evaluates the test set with the networks that [`Trainer::model`] gives.
    ///
    /// # Errors
    /// [`Error::Device`] when the device failed.
    pub fn evaluate(&mut self) -> Result<Evaluation> {
        for (name, steps) in self.sets.iter().filter(|(name, _)| *name == "test") {
            self.executor
                .run(&format!("evaluate {name}"), *steps as u64)?;
        }
        let buffers = [self.state("test metrics")?, self.state("test predictions")?];
        let mut back = self.executor.read_all(&buffers)?.into_iter();
        let metrics = metrics(back.next());
        Ok(evaluation(&metrics, back.next(), self.settings.replicas))
    }

    /// Trains one epoch and evaluates after it; all results come back in one readback.
    ///
    /// # Errors
    /// As [`Trainer::run`].
    pub fn epoch(&mut self, tell: &mut dyn FnMut(&Event<'_>)) -> Result<(Epoch, Evaluation)> {
        let start = Instant::now();
        self.executor.run("shuffle", 1)?;
        let mut done = 0;
        while done < self.steps as u64 {
            let mut now = PROGRESS.min(self.steps as u64 - done);
            let before = (self.history.len() * self.steps) as u64 + done;
            match self.settings.verify_every {
                0 => self.executor.run("train", now)?,
                every if (before + 1).is_multiple_of(every) => {
                    now = 1;
                    self.verified_step(before)?;
                }
                every => {
                    now = now.min(every - 1 - before % every);
                    self.executor.run("train", now)?;
                }
            }
            done += now;
            tell(&Event::Steps {
                epoch: self.history.len() + 1,
                done: (self.history.len() * self.steps) as u64 + done,
                total: (self.settings.epochs * self.steps) as u64,
            });
        }
        self.executor.wait()?;
        self.training_seconds += start.elapsed().as_secs_f64();
        self.average()?;
        let number = self.history.len() + 1;
        let due = number.is_multiple_of(self.settings.evaluate_every)
            || number == self.settings.epochs
            || !self.evaluated;
        if due {
            for (name, steps) in &self.sets {
                self.executor
                    .run(&format!("evaluate {name}"), *steps as u64)?;
            }
            self.evaluated = true;
        }
        let mut names = vec![
            "train metrics".to_owned(),
            "train guard".into(),
            "validation metrics".into(),
            "test metrics".into(),
            "test predictions".into(),
        ];
        let measured = self.settings.measure_training;
        let decayed = measured && self.decay != [0.0; 2];
        if measured {
            names.push(format!("{TRAINING} metrics"));
        }
        if decayed {
            let weights = self.parameters.iter().filter(|p| p.decay);
            // The weights that were evaluated: their mean, where one is kept.
            names.extend(weights.map(|p| match self.settings.average_from {
                Some(_) => programs::average(&p.name),
                None => p.name.clone(),
            }));
        }
        let buffers: Vec<usize> = names.iter().map(|n| self.state(n)).collect::<Result<_>>()?;
        let mut back = self.executor.read_all(&buffers)?.into_iter();
        let train = metrics(back.next());
        let guard = back.next().and_then(Host::integers).unwrap_or_default();
        let [validation, test] = [metrics(back.next()), metrics(back.next())];
        let evaluation = evaluation(&test, back.next(), self.settings.replicas);
        let set = if measured {
            metrics(back.next())
        } else {
            vec![]
        };
        let penalty = match measured {
            true => penalty(self.decay, back, self.settings.replicas),
            false => vec![],
        };
        for (replica, guard) in guard.chunks(GUARD).enumerate() {
            if guard[0] > 0 {
                return Err(self.not_finite(u64::from(guard[0] - 1), replica)?);
            }
        }
        let epoch = Epoch {
            epoch: number,
            training_cost: train.iter().map(|m| m.cost).collect(),
            training_accuracy: train.iter().map(|m| m.accuracy).collect(),
            validation_accuracy: validation.iter().map(|m| m.accuracy).collect(),
            test_accuracy: test.iter().map(|m| m.accuracy).collect(),
            validation_cost: validation.iter().map(|m| m.cost).collect(),
            test_cost: test.iter().map(|m| m.cost).collect(),
            set_cost: set.iter().map(|m| m.cost).collect(),
            set_accuracy: set.iter().map(|m| m.accuracy).collect(),
            penalty,
            seconds: start.elapsed().as_secs_f64(),
        };
        let before = self.standings();
        self.history.push(epoch.clone());
        // Where no rule changes anything, nothing is uploaded.
        if self.standings() != before {
            self.write_hyper()?;
        }
        Ok((epoch, evaluation))
    }

    /// The networks as they are now, one per replica; with [`Settings::average_from`]
    /// their running means (until that epoch, the weights themselves).
    ///
    /// # Errors
    /// [`Error::Device`] when the device failed.
    pub fn model(&mut self) -> Result<Model> {
        let averaged = self.settings.average_from.is_some();
        let names = self.parameters.iter().map(|p| match averaged {
            true => self.state(&programs::average(&p.name)),
            false => self.state(&p.name),
        });
        let buffers: Vec<usize> = names.collect::<Result<_>>()?;
        let hosts = self.executor.read_all(&buffers)?;
        Model::from_buffers(
            &self.network,
            &self.parameters,
            hosts,
            self.settings.replicas,
        )
    }

    fn state(&self, name: &str) -> Result<usize> {
        state(self.executor.plan(), name)
    }

    fn write(&mut self, name: &str, data: &Host) -> Result<()> {
        let buffer = self.state(name)?;
        self.executor.write(buffer, data)
    }
}

/// The state buffer called `name`.
pub(super) fn state(plan: &Plan, name: &str) -> Result<usize> {
    plan.state(name)
        .ok_or_else(|| Error::setting("buffer", name, "a state buffer of the plan"))
}

/// Every replica's step counter where `next` is the step to come.
fn counters(plan: &Plan, next: u32) -> Host {
    let mut counter = [0; COUNTER];
    counter[NEXT] = next;
    Host::U32(counter.repeat(plan.replicas))
}

/// Uploads a data set and sets its step counter to 0.
pub(super) fn upload(executor: &mut dyn Executor, name: &str, images: &Images) -> Result<()> {
    let labels = images.labels.iter().map(|&l| u32::from(l)).collect();
    for (part, data) in [
        ("images", Host::pack(&images.pixels)),
        ("labels", Host::U32(labels)),
        ("step", counters(executor.plan(), 0)),
    ] {
        let buffer = state(executor.plan(), &format!("{name} {part}"))?;
        executor.write(buffer, &data)?;
    }
    Ok(())
}

/// The decay's term of the cost for each replica, from the buffers of decayed weights.
fn penalty([l2, l1]: [f64; 2], weights: impl Iterator<Item = Host>, replicas: usize) -> Vec<f64> {
    let mut terms = vec![0.0; replicas];
    for values in weights.filter_map(Host::floats) {
        for (term, values) in terms.iter_mut().zip(values.chunks(values.len() / replicas)) {
            let values = values.iter().map(|&w| f64::from(w));
            *term += values.map(|w| 0.5 * l2 * w * w + l1 * w.abs()).sum::<f64>();
        }
    }
    terms
}

/// What the test set's buffers say.
fn evaluation(metrics: &[Metrics], predictions: Option<Host>, replicas: usize) -> Evaluation {
    let predictions = predictions.and_then(Host::integers).unwrap_or_default();
    let count = (predictions.len() / replicas).max(1);
    Evaluation {
        cost: metrics.iter().map(|m| m.cost).collect(),
        accuracy: metrics.iter().map(|m| m.accuracy).collect(),
        predictions: predictions.chunks(count).map(<[u32]>::to_vec).collect(),
    }
}

/// One replica's metrics over a set.
pub(super) struct Metrics {
    pub cost: f64,
    pub accuracy: f64,
}

pub(super) fn metrics(host: Option<Host>) -> Vec<Metrics> {
    let values = host.and_then(Host::floats).unwrap_or_default();
    values
        .chunks(METRICS)
        .map(|m| Metrics {
            cost: f64::from(m[0]) / f64::from(m[2]),
            accuracy: f64::from(m[1]) / f64::from(m[2]),
        })
        .collect()
}

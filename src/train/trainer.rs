//! The training loop: epochs of steps on the device, one readback each.

use std::time::Instant;

use super::model::{Evaluation, Model, accuracy, plurality};
use super::programs::{self, GUARD, METRICS};
use super::{Decay, Settings};
use crate::compile::{Options, compile};
use crate::data::{Images, Split};
use crate::error::{Error, Result};
use crate::exec::{Device, DeviceInfo, Executor, Traffic};
use crate::nn::{Network, Parameter};
use crate::plan::Plan;
use crate::rng::key;
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
#[derive(Clone, Debug, PartialEq)]
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
    /// Training steps per second, evaluation not counted.
    pub steps_per_second: f64,
    /// Seconds of the whole run.
    pub seconds: f64,
}

impl Outcome {
    /// Accuracy of the replicas' plurality vote on the test set.
    pub fn ensemble_accuracy(&self, labels: &[u8]) -> f64 {
        let voted = plurality(&self.test.predictions);
        accuracy(&voted, labels)
    }
}

/// A network in training.
pub struct Trainer {
    network: Network,
    parameters: Vec<Parameter>,
    executor: Box<dyn Executor>,
    settings: Settings,
    steps: usize,
    epoch: usize,
    sets: Vec<(&'static str, usize, usize)>,
    training_seconds: f64,
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
    pub fn plan(network: &Network, data: &Split, settings: &Settings, device: &DeviceInfo) -> Result<Plan> {
        Ok(plan(network, data, settings, device)?.0)
    }

    /// Compiles the session, uploads the data and draws the parameters.
    ///
    /// # Errors
    /// Everything that can be wrong with a network, its data or its settings, and what
    /// the device says.
    pub fn new(network: &Network, data: &Split, settings: &Settings, device: &Device) -> Result<Self> {
        let (plan, parameters, steps) = plan(network, data, settings, device.info())?;
        let mut this = Self {
            network: network.clone(),
            parameters,
            executor: device.executor(plan)?,
            settings: settings.clone(),
            steps,
            epoch: 0,
            sets: vec![],
            training_seconds: 0.0,
        };
        let [k0, k1] = key(settings.seed);
        let first = settings.first_replica as u32;
        let keys = (0..settings.replicas as u32).flat_map(|r| [k0, k1, first + r, 0]);
        this.write("keys", &Host::U32(keys.collect()))?;
        let examples = data.train.len() * settings.expansion.factor();
        let decay = |d: Decay| d.coefficient(examples, steps) as f32;
        let mut hyper = vec![
            settings.momentum as f32,
            decay(settings.l2),
            decay(settings.l1),
            0.0,
        ];
        hyper.extend(settings.learning_rates.iter().map(|&r| r as f32));
        this.write("hyper", &Host::F32(hyper.repeat(settings.replicas)))?;
        upload(this.executor.as_mut(), "train", &data.train)?;
        for (name, images) in [("validation", &data.validation), ("test", &data.test)] {
            upload(this.executor.as_mut(), name, images)?;
            let batch = settings.evaluation_batch.min(images.len());
            this.sets.push((name, images.len(), images.len().div_ceil(batch)));
        }
        this.executor.run("init", 1)?;
        Ok(this)
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

    /// Trains to the last epoch.
    ///
    /// # Errors
    /// [`Error::NotFinite`] when a loss overflowed, [`Error::Device`] when the device
    /// failed.
    pub fn run(&mut self, tell: &mut dyn FnMut(&Event<'_>)) -> Result<Outcome> {
        let start = Instant::now();
        let mut epochs = Vec::new();
        let mut test = None;
        while self.epoch < self.settings.epochs {
            let (epoch, evaluation) = self.epoch(tell)?;
            tell(&Event::Epoch(&epoch));
            epochs.push(epoch);
            test = Some(evaluation);
        }
        let steps = (self.steps * epochs.len()) as f64;
        let test = test.ok_or_else(|| {
            Error::setting("epochs", self.settings.epochs, "more than are already done")
        })?;
        Ok(Outcome {
            epochs,
            test,
            steps_per_second: steps / self.training_seconds.max(1e-9),
            seconds: start.elapsed().as_secs_f64(),
        })
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
            let now = PROGRESS.min(self.steps as u64 - done);
            self.executor.run("train", now)?;
            done += now;
            tell(&Event::Steps {
                epoch: self.epoch + 1,
                done: (self.epoch * self.steps) as u64 + done,
                total: (self.settings.epochs * self.steps) as u64,
            });
        }
        self.executor.wait()?;
        self.training_seconds += start.elapsed().as_secs_f64();
        for (name, _, steps) in &self.sets {
            self.executor.run(&format!("evaluate {name}"), *steps as u64)?;
        }
        let names = [
            "train metrics",
            "train guard",
            "validation metrics",
            "test metrics",
            "test predictions",
        ];
        let buffers: Vec<usize> = names.iter().map(|n| self.state(n)).collect::<Result<_>>()?;
        let mut back = self.executor.read_all(&buffers)?.into_iter();
        let train = metrics(back.next());
        let guard = back.next().and_then(Host::integers).unwrap_or_default();
        let [validation, test] = [metrics(back.next()), metrics(back.next())];
        let predictions = back.next().and_then(Host::integers).unwrap_or_default();
        self.epoch += 1;
        for (replica, guard) in guard.chunks(GUARD).enumerate() {
            if guard[0] > 0 {
                return Err(Error::NotFinite {
                    place: format!("epoch {}, cost", self.epoch),
                    step: u64::from(guard[0] - 1),
                    replica,
                    fix: "Lower the learning rate (--lr); the weights of the epoch before \
                          are the last finite ones."
                        .into(),
                });
            }
        }
        let epoch = Epoch {
            epoch: self.epoch,
            training_cost: train.iter().map(|m| m.cost).collect(),
            training_accuracy: train.iter().map(|m| m.accuracy).collect(),
            validation_accuracy: validation.iter().map(|m| m.accuracy).collect(),
            test_accuracy: test.iter().map(|m| m.accuracy).collect(),
            seconds: start.elapsed().as_secs_f64(),
        };
        let count = predictions.len() / self.settings.replicas;
        let evaluation = Evaluation {
            cost: test.iter().map(|m| m.cost).collect(),
            accuracy: test.iter().map(|m| m.accuracy).collect(),
            predictions: predictions.chunks(count).map(<[u32]>::to_vec).collect(),
        };
        Ok((epoch, evaluation))
    }

    /// The networks as they are now, one per replica.
    ///
    /// # Errors
    /// [`Error::Device`] when the device failed.
    pub fn model(&mut self) -> Result<Model> {
        let names = self.parameters.iter().map(|p| self.state(&p.name));
        let buffers: Vec<usize> = names.collect::<Result<_>>()?;
        let hosts = self.executor.read_all(&buffers)?;
        Model::from_buffers(&self.network, &self.parameters, hosts, self.settings.replicas)
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

/// Uploads a data set and sets its step counter to 0.
pub(super) fn upload(executor: &mut dyn Executor, name: &str, images: &Images) -> Result<()> {
    let labels = images.labels.iter().map(|&l| u32::from(l)).collect();
    for (part, data) in [
        ("images", Host::pack(&images.pixels)),
        ("labels", Host::U32(labels)),
        ("step", Host::U32(vec![0])),
    ] {
        let buffer = state(executor.plan(), &format!("{name} {part}"))?;
        executor.write(buffer, &data)?;
    }
    Ok(())
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

//! One compiled training step, for loops of one's own.

use std::borrow::Cow;
use std::fmt;

use super::by_hand::none;
use super::loss::Loss;
use super::over::{self, OverShards};
use super::pace::Pace;
use super::resident::Need;
use super::saved::Seed;
use super::setup::{Setup, Wishes};
use super::shards::{Epochs, Given, Take};
use super::training::Training;
use super::weights::Weights;
use crate::data::{Dataset, Shards};
use crate::error::{Error, Result};
use crate::exec::profile::Profile;
use crate::exec::{Device, Traffic};
use crate::model::Model;
use crate::optim::Optimizer;
use crate::plan::Launch;
use crate::run::Session;
use crate::tensor::{Element, Host};

/// A training step: load a mini-batch, forward, gradients, update; compiled once.
///
/// ```
/// use wgrad::exec::{Choice, Device};
/// use wgrad::fit::{Loss, TrainStep};
/// use wgrad::model::{Input, Model, layers::*};
/// use wgrad::optim::{Optimizer, Sgd};
///
/// let model = Model::sequential(Input::f32([2])).then(Dense::new(8)).then(Tanh).then(Dense::new(1)).build()?;
/// let optimizer = Optimizer::new(Sgd { momentum: 0.9, ..Sgd::default() }, 0.1);
/// let device = Device::open(Choice::Cpu)?;
/// let mut step = TrainStep::builder(&model, &Loss::mse(), &optimizer).batch(4).compile(&device)?;
/// step.feed("input", &[0.0, 0.0, 0.0, 1.0, 1.0, 0.0, 1.0, 1.0])?;
/// step.feed("target", &[0.0, 1.0, 1.0, 0.0])?;
/// step.run(1)?;
/// let first = step.loss()?[0];
/// step.run(500)?;
/// assert!(step.loss()?[0] < first / 2.0);
/// let weights = step.weights()?.remove(0);
/// assert_eq!(weights.get("dense.weight")?.shape(), [8, 2]);
/// # Ok::<(), wgrad::Error>(())
/// ```
pub struct TrainStep {
    training: Training,
    /// What is wanted of the columns.
    needs: Vec<Need>,
    pace: Pace,
    /// Steps when their losses were asked for last.
    asked: u64,
}

/// What a [`TrainStep`] is made of.
#[derive(Clone, Debug)]
pub struct TrainStepBuilder<'a> {
    model: &'a Model,
    loss: &'a Loss,
    optimizer: &'a Optimizer,
    batch: usize,
    replicas: usize,
    seed: u64,
    wishes: Wishes,
}

impl<'a> TrainStepBuilder<'a> {
    /// Examples in a mini-batch; 32 if not said.
    #[must_use]
    pub fn batch(self, batch: usize) -> Self {
        Self { batch, ..self }
    }

    /// How many networks train at once, each from its own start; one if not said.
    #[must_use]
    pub fn replicas(self, replicas: usize) -> Self {
        Self { replicas, ..self }
    }

    /// What everything random follows from; 0 if not said.
    #[must_use]
    pub fn seed(self, seed: u64) -> Self {
        Self { seed, ..self }
    }

    /// The rate is set and parameters are frozen as training goes on, by [`TrainStep::set_rate`] and
    /// [`TrainStep::freeze`]. What follows from the rate is then read from a table on the device. Each
    /// update takes one binding more, so some take a launch of their own, and last bits may differ.
    #[must_use]
    pub fn by_hand(self) -> Self {
        let by_hand = true;
        let wishes = Wishes {
            by_hand,
            ..self.wishes
        };
        Self { wishes, ..self }
    }

    /// Gradients can be read, by [`TrainStep::gradients`]. An update is then no part of the launch that
    /// makes its gradient.
    #[must_use]
    pub fn keep_gradients(self) -> Self {
        let wishes = Wishes {
            gradients: true,
            ..self.wishes
        };
        Self { wishes, ..self }
    }

    /// The loss of each of the last `steps` steps stays on the device, for [`TrainStep::losses`]; a
    /// launch more.
    #[must_use]
    pub fn keep_losses(self, steps: usize) -> Self {
        let wishes = Wishes {
            losses: steps,
            ..self.wishes
        };
        Self { wishes, ..self }
    }

    /// Every so many steps one launch is computed again by the reference, as [`Fit::verify_every`](super::Fit::verify_every)
    /// has it; 0 for never.
    #[must_use]
    pub fn verify_every(self, steps: u64) -> Self {
        let wishes = Wishes {
            verify: steps,
            ..self.wishes
        };
        Self { wishes, ..self }
    }

    fn setup<'s>(&'s self, data: Option<&'s Given<'s>>) -> Setup<'s> {
        Setup {
            model: self.model,
            loss: self.loss,
            optimizer: self.optimizer,
            metrics: &[],
            batch: self.batch,
            replicas: self.replicas,
            first_replica: 0,
            seed: self.seed,
            sweep: &[],
            wishes: self.wishes,
            mixup: None,
            data,
            evaluated: &[],
        }
    }

    /// Compiles a step whose mini-batches are fed.
    ///
    /// # Errors
    /// What does not fit: [`Error::Shape`] or [`Error::Setting`]; what the device says.
    pub fn compile(&self, device: &Device) -> Result<TrainStep> {
        self.made(None, device)
    }

    /// Compiles a step over data that lies on the device, in another order each epoch; a step uploads
    /// nothing. What is left over at an epoch's end is left out.
    ///
    /// # Errors
    /// As [`TrainStepBuilder::compile`]; columns that are missing or do not fit, by name.
    pub fn compile_over(&self, data: &Dataset, device: &Device) -> Result<TrainStep> {
        let data = Given::Whole(Cow::Borrowed(data));
        self.made(Some(&data), device)
    }

    /// Compiles a step over rows that are more than the device has room for, on the mini-batches that
    /// [`Fit::run`](super::Fit::run) trains on.
    ///
    /// ```
    /// use wgrad::data::{Dataset, Shards};
    /// # use wgrad::exec::{Choice, Device};
    /// # use wgrad::fit::{Loss, TrainStep};
    /// # use wgrad::model::{Model, layers::*};
    /// # use wgrad::optim::{AdamW, Optimizer};
    ///
    /// # let x: Vec<f32> = (0..1000).map(|i| i as f32 / 1000.0).collect();
    /// # let model = Model::sequential([1]).then(Dense::new(1)).build()?;
    /// # let (loss, optimizer) = (Loss::mse(), Optimizer::new(AdamW::default(), 0.01));
    /// # let device = Device::open(Choice::Cpu)?;
    /// let data = Dataset::new().with("input", [1], x.clone())?.with("target", [1], x)?;
    /// let step = TrainStep::builder(&model, &loss, &optimizer).batch(10);
    /// let mut step = step.compile_over_shards(Shards::of(&data, 200), &device)?;
    /// step.run(50)?; // of the 100 steps of an epoch, in 5 shards or 6
    /// assert!(step.loss()?[0].is_finite());
    /// # Ok::<(), wgrad::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`TrainStepBuilder::compile_over`]; what keeps the first row from being read, or all of them where one shard
    /// holds them; [`Error::Setting`] for shards that hold no mini-batch.
    pub fn compile_over_shards<'d>(
        &self,
        shards: Shards<'d>,
        device: &Device,
    ) -> Result<OverShards<'d, TrainStep>> {
        let data = Given::open("training", shards.into())?;
        let mut step = self.made(Some(&data), device)?;
        let seed = Seed {
            seed: self.seed,
            first_replica: 0,
            replicas: self.replicas,
        };
        let programs = step.training.over_shards();
        let epochs = Epochs::of(&data, &step.needs, programs, seed, self.batch);
        if epochs.is_some() {
            step.pace = Pace::over_shards();
        }
        Ok(OverShards::new(step, epochs))
    }

    fn made(&self, data: Option<&Given<'_>>, device: &Device) -> Result<TrainStep> {
        let setup = self.setup(data);
        let (needs, training) = (setup.needs()?, setup.compile(device)?);
        let epoch = data.map(|_| training.epoch_steps as u64);
        Ok(TrainStep {
            training,
            needs,
            pace: Pace::new(epoch),
            asked: 0,
        })
    }
}

impl OverShards<'_, TrainStep> {
    /// Takes steps, on the mini-batches that come next. They may end within a shard, and go on there.
    ///
    /// # Errors
    /// As [`TrainStep::run`]; what keeps a shard from being read or does not fit in it, by shard and rows. The
    /// steps before that shard are taken then ([`TrainStep::steps`]), and the next call reads it anew.
    pub fn run(&mut self, steps: u64) -> Result<()> {
        match self.parts() {
            (step, None) => step.run(steps),
            (TrainStep { training, pace, .. }, Some(epochs)) => {
                over::take(epochs, &mut training.session, pace, steps, None)
            }
        }
    }

    /// Takes steps as [`OverShards::run`] does, at least one, and tells where the time goes, over
    /// [`TrainStep::launches`].
    ///
    /// # Errors
    /// As [`OverShards::run`].
    pub fn profile(&mut self, steps: u64) -> Result<Profile> {
        let steps = steps.max(1);
        let (TrainStep { training, pace, .. }, Some(epochs)) = self.parts() else {
            return TrainStep::profile(self, steps);
        };
        let mut runs = training.measure(steps)?;
        let mut measured = |session: &mut Session, now| session.run_measured(&mut runs, now);
        let by = Some(&mut measured as Take<'_>);
        over::take(epochs, &mut training.session, pace, steps, by)?;
        Ok(runs.profile())
    }
}

impl TrainStep {
    /// A step of a model, a loss and an optimizer.
    pub fn builder<'a>(
        model: &'a Model,
        loss: &'a Loss,
        optimizer: &'a Optimizer,
    ) -> TrainStepBuilder<'a> {
        TrainStepBuilder {
            model,
            loss,
            optimizer,
            batch: 32,
            replicas: 1,
            seed: 0,
            wishes: Wishes::default(),
        }
    }

    /// Writes a column of the mini-batch that the next steps train on, for every replica: an input or a
    /// target, example after example.
    ///
    /// # Errors
    /// [`Error::UnknownName`] for a name that is none of a column, [`Error::Setting`] for another number
    /// of elements or another type than it has, for a class that there is not, for a number without a row of an
    /// embedding, for labels of which none counts, whose mean loss would be 0/0, and for floats that a loss cannot
    /// take. What was fed before then stays.
    pub fn feed<T: Element>(&mut self, column: &str, values: &[T]) -> Result<()> {
        let host = match T::view(values) {
            crate::tensor::View::F32(values) => Host::F32(values.to_vec()),
            crate::tensor::View::U32(values) => Host::U32(values.to_vec()),
        };
        let mut needs = self.needs.iter().filter(|need| need.column == column);
        needs.try_for_each(|need| need.check_fed(&host))?;
        self.training.feed(column, &host)
    }

    /// Takes steps: on the mini-batch that was fed, or on those that come next of resident data.
    ///
    /// # Errors
    /// [`Error::Setting`] for a column that was never fed, [`Error::Disagrees`] for a launch that was found wrong
    /// ([`TrainStepBuilder::verify_every`]), [`Error::Device`] when the device fails.
    pub fn run(&mut self, steps: u64) -> Result<()> {
        self.taken_by(steps, Training::run)
    }

    /// Takes steps as [`TrainStep::run`] does, at least one, and tells where the time goes, over
    /// [`TrainStep::launches`].
    ///
    /// # Errors
    /// As [`TrainStep::run`].
    pub fn profile(&mut self, steps: u64) -> Result<Profile> {
        let steps = steps.max(1);
        let mut runs = self.training.measure(steps)?;
        self.taken_by(steps, |training, now| training.run_measured(&mut runs, now))?;
        Ok(runs.profile())
    }

    /// Takes steps, as many at once as there are until an epoch's end.
    fn taken_by(
        &mut self,
        steps: u64,
        mut take: impl FnMut(&mut Training, u64) -> Result<()>,
    ) -> Result<()> {
        let mut left = steps;
        while left > 0 {
            let (now, begins) = self.pace.next(left)?;
            if begins {
                self.training.shuffle()?;
            }
            take(&mut self.training, now)?;
            self.pace.took(now);
            left -= now;
        }
        Ok(())
    }

    /// The mean loss of the steps since it was asked last, of each replica: of one step, that step's. It
    /// waits for the device.
    ///
    /// # Errors
    /// [`Error::Setting`] if there was no step, [`Error::Device`] when the device fails.
    pub fn loss(&mut self) -> Result<Vec<f64>> {
        let steps = self.pace.asked()?;
        let sums = self.training.take_loss()?;
        Ok(sums.into_iter().map(|sum| sum / steps).collect())
    }

    /// The losses of the steps since this was asked last, of each replica, step by step, in one readback:
    /// at most as many as [`TrainStepBuilder::keep_losses`] said, and of the first 2²⁴ steps.
    ///
    /// # Errors
    /// [`Error::Setting`] for a step that keeps none, or more steps since than it keeps, whose losses are gone then;
    /// [`Error::Device`] when the device fails.
    pub fn losses(&mut self) -> Result<Vec<Vec<f64>>> {
        let Some(handle) = self.training.recorded else {
            let wanted = "a step that was compiled for it (`TrainStepBuilder::keep_losses`)";
            return Err(Error::setting("losses", "a step that keeps none", wanted));
        };
        let (taken, kept) = (self.pace.taken(), handle.elements() as u64);
        if taken - self.asked > kept {
            let found = format!(
                "{} steps since they were asked for last",
                taken - self.asked
            );
            // Those are gone, and must not stand in the way of the next ones.
            self.asked = taken;
            let wanted = format!("at most {kept}, as many as are kept");
            return Err(Error::setting("losses", found, wanted));
        }
        let values = self.training.session.read(handle)?;
        let steps = self.asked..taken;
        let of = |all: &[f32]| -> Vec<f64> {
            let loss = |step| f64::from(all[(step % kept) as usize]);
            steps.clone().map(loss).collect()
        };
        let losses = values.replicas().map(of).collect();
        self.asked = taken;
        Ok(losses)
    }

    /// The gradients of the last step by parameter, of each replica: those of the mean loss, before they
    /// are clipped, as `parameter.grad` in PyTorch after `backward`.
    ///
    /// # Errors
    /// [`Error::Setting`] for a step that was not compiled for it ([`TrainStepBuilder::keep_gradients`]),
    /// or before the first step; [`Error::Device`] when the device fails.
    pub fn gradients(&mut self) -> Result<Vec<Weights>> {
        if self.training.gradients.is_empty() {
            let wanted = "a step that was compiled for it (`TrainStepBuilder::keep_gradients`)";
            return Err(Error::setting(
                "gradients",
                "a step that keeps none",
                wanted,
            ));
        }
        self.training.read_gradients()
    }

    /// Trains with another learning rate from the next step on; the schedule's factor stays. A few
    /// numbers are uploaded, and nothing is compiled.
    ///
    /// # Errors
    /// [`Error::Setting`] for a rate out of its range, and for a step that was not compiled for it
    /// ([`TrainStepBuilder::by_hand`]).
    pub fn set_rate(&mut self, rate: f64) -> Result<()> {
        self.set_rates(&vec![rate; self.training.replicas])
    }

    /// [`TrainStep::set_rate`] with a rate for each replica.
    ///
    /// # Errors
    /// As [`TrainStep::set_rate`]; [`Error::Setting`] for another number of rates than of replicas.
    pub fn set_rates(&mut self, rates: &[f64]) -> Result<()> {
        let Training {
            by_hand, session, ..
        } = &mut self.training;
        let by_hand = by_hand.as_mut().ok_or_else(|| none("learning rate"))?;
        by_hand.set_rates(session, rates)
    }

    /// From the next step on the parameters that `frozen` picks by name stay as they are, with all that
    /// the optimizer keeps of them, and all others are trained: `|_| false` frees all. The statistics of
    /// a frozen normalization are kept up all the same, as in PyTorch.
    ///
    /// # Errors
    /// [`Error::Setting`] for a step that was not compiled for it ([`TrainStepBuilder::by_hand`]).
    pub fn freeze(&mut self, frozen: impl Fn(&str) -> bool) -> Result<()> {
        let Training {
            by_hand, session, ..
        } = &mut self.training;
        let by_hand = by_hand.as_mut().ok_or_else(|| none("frozen parameters"))?;
        by_hand.freeze(session, &frozen)
    }

    /// The scale of the loss in each replica's next step.
    ///
    /// # Errors
    /// [`Error::Setting`] for an optimizer without one ([`Optimizer::loss_scale`]); [`Error::Device`] when the device
    /// fails.
    pub fn loss_scale(&mut self) -> Result<Vec<f64>> {
        let told = self.training.read_scale()?.into_iter();
        Ok(told.map(|(scale, _)| scale).collect())
    }

    /// How many steps each replica has skipped so far, since its gradients were not finite.
    ///
    /// # Errors
    /// As [`TrainStep::loss_scale`].
    pub fn skipped_steps(&mut self) -> Result<Vec<u64>> {
        let told = self.training.read_scale()?.into_iter();
        Ok(told.map(|(_, skipped)| skipped).collect())
    }

    /// The weights and statistics of each replica.
    ///
    /// # Errors
    /// [`Error::Device`] when the device fails.
    pub fn weights(&mut self) -> Result<Vec<Weights>> {
        self.training.weights()
    }

    /// The weights and statistics of each replica with the averages that the optimizer keeps of parameters in their
    /// place ([`Optimizer::average`]).
    ///
    /// # Errors
    /// [`Error::Setting`] for an optimizer that keeps none; [`Error::Device`] when the device fails.
    pub fn averages(&mut self) -> Result<Vec<Weights>> {
        if !self.training.averages {
            let wanted = "an optimizer that keeps them (`Optimizer::average`)";
            return Err(Error::setting("averages of the weights", "none", wanted));
        }
        self.training.evaluated()
    }

    /// Gives every replica these weights, from which averages begin anew; what else the optimizer keeps stays.
    ///
    /// # Errors
    /// [`Error::UnknownName`] for a weight that is missing, [`Error::Shape`] for one of other extents.
    pub fn set_weights(&mut self, weights: &Weights) -> Result<()> {
        self.training.set_weights(weights)
    }

    /// What the optimizer keeps, by name, of all replicas one after the other.
    ///
    /// # Errors
    /// [`Error::Device`] when the device fails.
    pub fn optimizer_state(&mut self) -> Result<Vec<(String, Vec<f32>)>> {
        self.training.states()
    }

    /// Steps taken.
    pub fn steps(&self) -> u64 {
        self.pace.taken()
    }

    /// What has been moved and launched so far.
    pub fn traffic(&self) -> Traffic {
        self.training.session().traffic()
    }

    /// The launches of a step.
    pub fn launches(&self) -> &[Launch] {
        let session = self.training.session();
        session
            .launches(self.training.train_program())
            .unwrap_or_default()
    }
}

impl fmt::Debug for TrainStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TrainStep")
            .field("device", self.training.session().device())
            .field("taken", &self.pace.taken())
            .finish_non_exhaustive()
    }
}

//! One compiled training step of several models, each trained by losses and optimizers of its own:
//! adversarial networks, actor and critic, a student and its teacher.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;

use super::by_hand::{ByHand, none};
use super::over::{self, OverShards};
use super::pace::Pace;
use super::resident::{Columns, Need, Sharded, has_rows, of_set};
use super::saved::{self, Saved, Seed};
use super::setup::{host32, paired};
use super::shards::{Epochs, Given, Pair, Programs};
use super::training::{Host32, feed, skipped};
use super::weights::Weights;
use crate::compile::Options;
use crate::data::{Dataset, Shards};
use crate::error::{Error, Result};
use crate::exec::{Device, Traffic};
use crate::graph::{Graph, Handle, Program};
use crate::model::Pass;
use crate::ops::advance::Advance;
use crate::ops::gather::Expansion;
use crate::ops::shuffle::Shuffle;
use crate::ops::{COUNTER, Tape};
use crate::plan::Launch;
use crate::rng::KEYS;
use crate::run::Session;
use crate::run::sentinel::{Sentinel, Steps};
use crate::shape::Type;
use crate::tensor::{Element, Host, View};

mod noise;
mod scope;

pub use scope::{JointScope, Net, Objective};

/// A training step of several models: one program, compiled once.
///
/// A function describes the step from beginning to end: which columns it takes, what is drawn, which
/// models are applied to what, as often as wished, which losses are minimised, and when. A use of a
/// model shares its weights with all other uses. A loss trains the models that it is said to train and
/// no others, whatever it goes through.
///
/// **Order.** [`JointScope::minimise`] updates its models at its place in the description: what is
/// written behind it sees the new weights, as PyTorch's `optimizer.step()`. Losses that are to be
/// minimised from the same weights go into one [`JointScope::minimise_all`]: all gradients are taken
/// first, then all updates are done. A loss that was computed by weights which have been updated since
/// is refused, since its gradient would be that of neither.
///
/// ```
/// use wgrad::exec::{Choice, Device};
/// use wgrad::fit::{JointStep, Loss};
/// use wgrad::model::{Input, Model, layers::*};
/// use wgrad::optim::{Adam, Optimizer};
///
/// let generator = Model::sequential([2]).then(Dense::new(16)).then(Relu).then(Dense::new(1)).build()?;
/// let critic = Model::sequential([1]).then(Dense::new(16)).then(Relu).then(Dense::new(1)).build()?;
/// let adam = Optimizer::new(Adam { betas: [0.5, 0.999], ..Adam::default() }, 2e-3);
/// let device = Device::open(Choice::Cpu)?;
/// let mut gan = JointStep::builder().batch(32).seed(1).compile(&device, |s| {
///     let g = s.model("generator", &generator)?;
///     let d = s.model("discriminator", &critic)?;
///     let (real, noise) = (s.input("real", [1])?, s.normal([2])?);
///     let fake = s.call(g, &[noise])?;
///     let (yes, no) = (s.fill([1], 1.0)?, s.fill([1], 0.0)?);
///
///     let (of_real, of_fake) = (s.call(d, &[real])?, s.call(d, &[fake])?);
///     let right = s.loss(&Loss::binary_cross_entropy(), &[of_real], &[yes])?;
///     let wrong = s.loss(&Loss::binary_cross_entropy(), &[of_fake], &[no])?;
///     let both = s.sum(&[right, wrong])?;
///     s.minimise("discriminator", both, &[d], &adam)?;
///
///     let judged = s.call(d, &[fake])?; // by the weights after that update
///     let fooled = s.loss(&Loss::binary_cross_entropy(), &[judged], &[yes])?;
///     s.minimise("generator", fooled, &[g], &adam)
/// })?;
/// gan.feed("real", &[3.0; 32])?;
/// gan.run(20)?;
/// assert!(gan.numbers()?["discriminator"][0].is_finite());
/// let weights = gan.weights("generator")?.remove(0);
/// assert_eq!(weights.get("dense.weight")?.shape(), [16, 2]);
/// # Ok::<(), wgrad::Error>(())
/// ```
pub struct JointStep {
    session: Session,
    train: Steps,
    order: Option<Program>,
    /// The order of the rows that lie on the device.
    rows: Option<Handle<u32>>,
    /// The columns of data in shards.
    pairs: Vec<Pair>,
    fed: Vec<(String, Host32)>,
    /// What is wanted of what is fed, and of shards.
    needs: Vec<Need>,
    nets: Vec<(String, Vec<Saved>)>,
    numbers: Vec<(String, Handle<f32>)>,
    states: Vec<(String, Handle<f32>)>,
    /// Loss scales, by loss.
    scales: Vec<(String, Handle<f32>)>,
    by_hand: Vec<(String, ByHand)>,
    pace: Pace,
}

/// What a [`JointStep`] is made of.
#[derive(Clone, Copy, Debug)]
pub struct JointStepBuilder {
    batch: usize,
    replicas: usize,
    first_replica: u32,
    seed: u64,
    fused: bool,
    by_hand: bool,
    verify_every: u64,
}

impl JointStepBuilder {
    /// Examples in a mini-batch; 32 if not said.
    #[must_use]
    pub fn batch(self, batch: usize) -> Self {
        Self { batch, ..self }
    }

    /// How many sets of these models train at once, each from its own start; one if not said.
    #[must_use]
    pub fn replicas(self, replicas: usize) -> Self {
        Self { replicas, ..self }
    }

    /// The number of the first replica: one that is trained alone equals the one of that number among
    /// several.
    #[must_use]
    pub fn first_replica(self, first_replica: u32) -> Self {
        Self {
            first_replica,
            ..self
        }
    }

    /// What everything random follows from; 0 if not said.
    #[must_use]
    pub fn seed(self, seed: u64) -> Self {
        Self { seed, ..self }
    }

    /// Rates are set and parameters frozen as training goes on ([`JointStep::set_rate`],
    /// [`JointStep::freeze`]); see [`TrainStepBuilder::by_hand`](super::TrainStepBuilder::by_hand).
    #[must_use]
    pub fn by_hand(self) -> Self {
        Self {
            by_hand: true,
            ..self
        }
    }

    /// Every so many steps one launch is computed again by the reference, as [`Fit::verify_every`](super::Fit::verify_every)
    /// has it; 0, as it is if not said, for never.
    #[must_use]
    pub fn verify_every(self, steps: u64) -> Self {
        Self {
            verify_every: steps,
            ..self
        }
    }

    /// Launches every op on its own, to tell where a number comes from.
    #[must_use]
    pub fn without_fusion(self) -> Self {
        Self {
            fused: false,
            ..self
        }
    }

    /// Compiles a step whose inputs are fed.
    ///
    /// # Errors
    /// What the description says; [`Error::Setting`] for one that minimises nothing; what the device
    /// says.
    pub fn compile(
        &self,
        device: &Device,
        describe: impl FnOnce(&mut JointScope<'_>) -> Result<()>,
    ) -> Result<JointStep> {
        self.made(None, device, describe)
    }

    /// Compiles a step whose inputs are columns that lie on the device, in another order each epoch; a
    /// step uploads nothing. What is left over at an epoch's end is left out.
    ///
    /// # Errors
    /// As [`JointStepBuilder::compile`]; columns that are missing or do not fit, by name.
    pub fn compile_over(
        &self,
        data: &Dataset,
        device: &Device,
        describe: impl FnOnce(&mut JointScope<'_>) -> Result<()>,
    ) -> Result<JointStep> {
        let data = Given::Whole(Cow::Borrowed(data));
        self.made(Some(&data), device, describe)
    }

    /// Compiles a step whose inputs are columns of rows that are more than the device has room for.
    ///
    /// ```
    /// # use wgrad::data::{Dataset, Shards};
    /// # use wgrad::exec::{Choice, Device};
    /// # use wgrad::fit::{JointStep, Loss};
    /// # use wgrad::model::{Model, layers::*};
    /// # use wgrad::optim::{Adam, Optimizer};
    /// # let x: Vec<f32> = (0..300).map(|i| i as f32 / 300.0).collect();
    /// # let data = Dataset::new().with("x", [1], x)?;
    /// # let (encoder, decoder) = (Model::sequential([1]).then(Dense::new(3)), Model::sequential([3]).then(Dense::new(1)));
    /// # let (encoder, decoder) = (encoder.build()?, decoder.build()?);
    /// # let (device, adam) = (Device::open(Choice::Cpu)?, Optimizer::new(Adam::default(), 0.01));
    /// let step = JointStep::builder().batch(10);
    /// let mut step = step.compile_over_shards(Shards::of(&data, 100), &device, |s| {
    ///     let (e, d) = (s.model("encoder", &encoder)?, s.model("decoder", &decoder)?);
    ///     let x = s.input("x", [1])?;
    ///     let code = s.call(e, &[x])?;
    ///     let again = s.call(d, &[code])?;
    ///     let loss = s.loss(&Loss::mse(), &[again], &[x])?;
    ///     s.minimise("both", loss, &[e, d], &adam)
    /// })?;
    /// step.run(45)?; // an epoch and a half
    /// # Ok::<(), wgrad::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`JointStepBuilder::compile_over`]; what keeps the first row from being read, or all of them where one shard
    /// holds them; [`Error::Setting`] for shards that hold no mini-batch.
    pub fn compile_over_shards<'d>(
        &self,
        shards: Shards<'d>,
        device: &Device,
        describe: impl FnOnce(&mut JointScope<'_>) -> Result<()>,
    ) -> Result<OverShards<'d, JointStep>> {
        let data = Given::open("training", shards.into())?;
        let mut step = self.made(Some(&data), device, describe)?;
        let programs = Programs {
            shuffle: step.order,
            rows: step.rows,
            train: step.train,
            pairs: &step.pairs,
        };
        let epochs = Epochs::of(&data, &step.needs, programs, self.seeded(), self.batch);
        if epochs.is_some() {
            step.pace = Pace::over_shards();
        }
        Ok(OverShards::new(step, epochs))
    }

    fn seeded(&self) -> Seed {
        Seed {
            seed: self.seed,
            first_replica: self.first_replica,
            replicas: self.replicas,
        }
    }

    fn made(
        &self,
        data: Option<&Given<'_>>,
        device: &Device,
        describe: impl FnOnce(&mut JointScope<'_>) -> Result<()>,
    ) -> Result<JointStep> {
        if self.batch == 0 {
            return Err(Error::setting("mini-batch", 0, "at least 1"));
        }
        if let Some(data) = data {
            has_rows(data.columns()).map_err(|e| of_set(e, "training"))?;
            if data.rows() < self.batch {
                let wanted = format!("at most the {} rows of the training data", data.rows());
                return Err(Error::setting("mini-batch", self.batch, wanted));
            }
            data.has_batch(self.batch)?;
        }
        let mut graph = Graph::new();
        let step = graph.variable("step", Type::u32("step", &[COUNTER])?)?;
        let keys = graph.variable("keys", Type::u32("keys", &[KEYS])?)?;
        let (mut order, mut columns, mut epoch) = (None, None, None);
        if let Some(data) = data {
            // Of data in shards, what is an epoch here is a shard.
            let shard = data.shard(self.batch);
            let n = shard.unwrap_or(data.rows());
            let epoch_steps = n / self.batch;
            let value = graph.variable("order", Type::u32("order", &[n])?)?;
            order = Some((graph.begin("order"), value));
            graph.op(Arc::new(Shuffle { n, epoch_steps }), &[value, keys, step])?;
            epoch = Some(epoch_steps as u64);
            columns = Some(Columns {
                set: "training".into(),
                data: data.columns(),
                needed: vec![],
                batch: self.batch,
                epoch_steps,
                expansion: Expansion::None,
                order: Some(value),
                step,
                made: HashMap::new(),
                shards: shard.map(Sharded::of),
            });
        }
        let train = graph.begin("train");
        let pass = Pass::Training { keys, step };
        let by_hand = self.by_hand.then_some(self.replicas);
        let mut scope = JointScope::new(graph, pass, self.batch, columns, by_hand);
        describe(&mut scope)?;
        let mut written = scope.finish()?;
        let graph = &mut written.graph;
        graph.label("step");
        graph.op(Arc::new(Advance), &[step])?;
        let init = graph.begin("init");
        for update in &written.updates {
            update.init(graph)?;
        }
        let options = Options {
            replicas: self.replicas,
            fuse: self.fused,
            ..Options::on(device.info())
        };
        let mut session = Session::with(graph, device, &options)?;
        let seed = self.seeded();
        seed.write(&mut session, graph.handle(keys)?)?;
        written.resident.write(&mut session, graph)?;
        let (mut nets, mut number) = (Vec::new(), 0);
        for (name, variables) in &written.nets {
            let saved = saved::begin(&mut session, graph, variables, seed, &mut number)?;
            nets.push((name.clone(), saved));
        }
        saved::begin(&mut session, graph, &written.constants, seed, &mut number)?;
        let graph = &written.graph;
        let handle = |(name, value): (String, _)| Ok((name, graph.handle(value)?));
        let numbers: Vec<(String, Handle<f32>)> = written
            .numbers
            .into_iter()
            .map(handle)
            .collect::<Result<_>>()?;
        for (_, total) in &numbers {
            session.fill(*total, 0.0)?;
        }
        session.fill(graph.handle(step)?, 0)?;
        session.run(init, 1)?;
        let sentinel = Sentinel {
            every: self.verify_every,
            seed: self.seed,
        };
        let mut by_hand = Vec::new();
        for (name, table, optimizer) in written.tables {
            let own = ByHand::new(graph, table, vec![optimizer; self.replicas], true)?;
            own.write(&mut session)?;
            by_hand.push((name, own));
        }
        let states = written.updates.iter().flat_map(|update| update.states());
        let scales = written.scales.into_iter();
        let fed = written.fed.into_iter();
        Ok(JointStep {
            session,
            train: Steps::new(train, sentinel),
            order: order.map(|(program, _)| program),
            rows: order.map(|(_, rows)| graph.handle(rows)).transpose()?,
            pairs: paired(graph, written.shards)?,
            fed: fed
                .map(|(name, value)| Ok((name, host32(graph, value)?)))
                .collect::<Result<_>>()?,
            needs: written.needs,
            nets,
            numbers,
            states: states.map(handle).collect::<Result<_>>()?,
            scales: scales.map(handle).collect::<Result<_>>()?,
            by_hand,
            pace: Pace::new(epoch),
        })
    }
}

impl OverShards<'_, JointStep> {
    /// Takes steps, on the mini-batches that come next. They may end within a shard, and go on there.
    ///
    /// # Errors
    /// As [`JointStep::run`]; what keeps a shard from being read or does not fit in it, by shard and rows. The
    /// steps before that shard are taken then ([`JointStep::steps`]), and the next call reads it anew.
    pub fn run(&mut self, steps: u64) -> Result<()> {
        match self.parts() {
            (step, None) => step.run(steps),
            (JointStep { session, pace, .. }, Some(epochs)) => {
                over::take(epochs, session, pace, steps, None)
            }
        }
    }
}

impl JointStep {
    /// A step of several models.
    pub fn builder() -> JointStepBuilder {
        JointStepBuilder {
            batch: 32,
            replicas: 1,
            first_replica: 0,
            seed: 0,
            fused: true,
            by_hand: false,
            verify_every: 0,
        }
    }

    /// Writes an input of the steps to come, for every replica, example after example.
    ///
    /// # Errors
    /// [`Error::UnknownName`] for a name that is none of an input, [`Error::Setting`] for another number
    /// of elements or another type than it has. Where a loss or a model takes the input as it is, also for a class
    /// that there is not, for labels of which none counts, for floats that the loss cannot take, and for a number
    /// without a row of an embedding. What was fed before then stays.
    pub fn feed<T: Element>(&mut self, input: &str, values: &[T]) -> Result<()> {
        let host = match T::view(values) {
            View::F32(values) => Host::F32(values.to_vec()),
            View::U32(values) => Host::U32(values.to_vec()),
        };
        let mut needs = self.needs.iter().filter(|need| need.column == input);
        if !self.fed.is_empty() {
            needs.try_for_each(|need| need.check_fed(&host))?;
        }
        feed(&mut self.session, &self.fed, input, &host)
    }

    /// Takes steps: on what was fed, or on the mini-batches that come next of resident data.
    ///
    /// # Errors
    /// [`Error::Setting`] for an input that was never fed, [`Error::Disagrees`] for a launch that was found wrong
    /// ([`JointStepBuilder::verify_every`]), [`Error::Device`] when the device fails.
    pub fn run(&mut self, steps: u64) -> Result<()> {
        let mut left = steps;
        while left > 0 {
            let (now, begins) = self.pace.next(left)?;
            if let (true, Some(order)) = (begins, self.order) {
                self.session.run(order, 1)?;
            }
            self.train.run(&mut self.session, now)?;
            self.pace.took(now);
            left -= now;
        }
        Ok(())
    }

    /// The losses that are minimised and the numbers that are tracked, by name: of each replica the mean
    /// over the steps since they were asked for last. It waits for the device.
    ///
    /// # Errors
    /// [`Error::Setting`] if there was no step, [`Error::Device`] when the device fails.
    pub fn numbers(&mut self) -> Result<BTreeMap<String, Vec<f64>>> {
        let steps = self.pace.asked()?;
        let handles: Vec<Handle<f32>> = self.numbers.iter().map(|(_, h)| *h).collect();
        let sums = self.session.read(handles)?;
        let mut numbers = BTreeMap::new();
        for ((name, handle), sums) in self.numbers.iter().zip(sums) {
            self.session.fill(*handle, 0.0)?;
            let means = sums.iter().map(|&sum| f64::from(sum) / steps);
            numbers.insert(name.clone(), means.collect());
        }
        Ok(numbers)
    }

    fn net(&self, model: &str) -> Result<usize> {
        let found = self.nets.iter().position(|(name, _)| name == model);
        found.ok_or_else(|| {
            let known: Vec<&str> = self.nets.iter().map(|(name, _)| name.as_str()).collect();
            Error::unknown("model", model, &known)
        })
    }

    /// The weights and statistics of a model, of each replica.
    ///
    /// # Errors
    /// [`Error::UnknownName`] for a model that is not there, [`Error::Device`] when the device fails.
    pub fn weights(&mut self, model: &str) -> Result<Vec<Weights>> {
        let net = self.net(model)?;
        saved::read(&mut self.session, &self.nets[net].1)
    }

    /// The same with the averages of its parameters, in their place, that the optimizer of a loss keeps
    /// ([`Optimizer::average`](crate::optim::Optimizer::average)): the generator that is used in the end.
    ///
    /// # Errors
    /// [`Error::UnknownName`] for a model that is not there, [`Error::Setting`] where that loss has no averages of it,
    /// [`Error::Device`] when the device fails.
    pub fn averages(&mut self, loss: &str, model: &str) -> Result<Vec<Weights>> {
        let net = self.net(model)?;
        let average = |trained: &str| {
            let name = format!("{loss}: {model}.{trained} average");
            let found = self.states.iter().find(|(other, _)| *other == name);
            found.map(|(_, handle)| *handle)
        };
        let trained = &self.nets[net].1;
        let averages = saved::replaced(trained, average);
        if trained
            .iter()
            .all(|trained| average(&trained.name).is_none())
        {
            let name = format!("averages of {model}");
            let wanted = "a loss whose optimizer keeps them (`Optimizer::average`)";
            return Err(Error::setting(name, format!("none of {loss}"), wanted));
        }
        saved::read(&mut self.session, &averages)
    }

    /// Gives every replica of a model these weights, from which averages begin anew; what else optimizers keep stays.
    ///
    /// # Errors
    /// [`Error::UnknownName`] for a model or a weight that is missing, [`Error::Shape`] for one of other
    /// extents.
    pub fn set_weights(&mut self, model: &str, weights: &Weights) -> Result<()> {
        let net = self.net(model)?;
        saved::write(&mut self.session, &self.nets[net].1, weights)?;
        for trained in &self.nets[net].1 {
            let name = format!(": {model}.{} average", trained.name);
            for (_, handle) in self
                .states
                .iter()
                .filter(|(other, _)| other.ends_with(&name))
            {
                let values = weights.values(&trained.name, &trained.extents)?;
                self.session.write_each(*handle, values)?;
            }
        }
        Ok(())
    }

    /// Minimises a loss with another learning rate from the next step on; the schedule's factor stays.
    ///
    /// # Errors
    /// [`Error::UnknownName`] for a name that is none of a loss, [`Error::Setting`] for a rate out of its
    /// range and for a step that was not compiled for it ([`JointStepBuilder::by_hand`]).
    pub fn set_rate(&mut self, loss: &str, rate: f64) -> Result<()> {
        if self.by_hand.is_empty() {
            return Err(none("learning rate"));
        }
        let found = self.by_hand.iter().position(|(name, _)| name == loss);
        let found = found.ok_or_else(|| {
            let known: Vec<&str> = self.by_hand.iter().map(|(n, _)| n.as_str()).collect();
            Error::unknown("loss", loss, &known)
        })?;
        let rates = vec![rate; self.session.replicas()];
        self.by_hand[found].1.set_rates(&mut self.session, &rates)
    }

    /// From the next step on the parameters that `frozen` picks by name, `<model>.<layer>.<parameter>`,
    /// stay as they are, and all others are trained.
    ///
    /// # Errors
    /// [`Error::Setting`] for a step that was not compiled for it ([`JointStepBuilder::by_hand`]).
    pub fn freeze(&mut self, frozen: impl Fn(&str) -> bool) -> Result<()> {
        if self.by_hand.is_empty() {
            return Err(none("frozen parameters"));
        }
        for (_, own) in &mut self.by_hand {
            own.freeze(&mut self.session, &frozen)?;
        }
        Ok(())
    }

    /// What the optimizers keep, by loss, model and parameter, of all replicas one after the other.
    ///
    /// # Errors
    /// [`Error::Device`] when the device fails.
    pub fn optimizer_state(&mut self) -> Result<Vec<(String, Vec<f32>)>> {
        let handles: Vec<Handle<f32>> = self.states.iter().map(|(_, h)| *h).collect();
        let values = self.session.read(handles)?.into_iter();
        let names = self.states.iter().map(|(name, _)| name.clone());
        Ok(names.zip(values.map(|v| v.into_vec())).collect())
    }

    /// How many steps each replica has skipped so far for each loss whose optimizer has a loss scale
    /// ([`Optimizer::loss_scale`](crate::optim::Optimizer::loss_scale)).
    ///
    /// # Errors
    /// [`Error::Device`] when the device fails.
    pub fn skipped_steps(&mut self) -> Result<BTreeMap<String, Vec<u64>>> {
        let handles: Vec<Handle<f32>> = self.scales.iter().map(|(_, h)| *h).collect();
        let values = self.session.read(handles)?;
        let names = self.scales.iter().map(|(name, _)| name.clone());
        Ok(names.zip(values.iter().map(skipped)).collect())
    }

    /// Steps taken.
    pub fn steps(&self) -> u64 {
        self.pace.taken()
    }

    /// What has been moved and launched so far.
    pub fn traffic(&self) -> Traffic {
        self.session.traffic()
    }

    /// The launches of a step.
    pub fn launches(&self) -> &[Launch] {
        self.session
            .launches(self.train.program())
            .unwrap_or_default()
    }
}

impl fmt::Debug for JointStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.nets.iter().map(|(name, _)| name.as_str()).collect();
        f.debug_struct("JointStep")
            .field("models", &names)
            .field("device", self.session.device())
            .field("taken", &self.pace.taken())
            .finish_non_exhaustive()
    }
}

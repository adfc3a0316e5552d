//! The update as a stage of a training step: *load batch → forward → gradients → update*.
//!
//! A [`Rule`] says what becomes of a parameter, given its gradient, what is kept of it (its *state*)
//! and the learning rate, as expressions; so a rule is about a dozen lines, and runs on every device.
//! An [`Optimizer`] applies one rule to the parameters of a model: learning rate and [`Schedule`],
//! groups of parameters, clipping, an average of the weights.
//!
//! ```
//! use wgrad::graph::Graph;
//! use wgrad::ops::{COUNTER, Tape, advance::Advance, pointwise::pointwise};
//! use wgrad::optim::{AdamW, Optimizer, Schedule};
//! use wgrad::shape::Type;
//! use std::sync::Arc;
//!
//! // Minimises Σ (w − 3)² from the graph up.
//! let mut graph = Graph::new();
//! let w = graph.variable("w", Type::f32("w", &[8])?)?;
//! let one = graph.variable("one", Type::f32("one", &[8])?)?;
//! let step = graph.variable("step", Type::u32("step", &[COUNTER])?)?;
//! let optimizer = Optimizer::new(AdamW::default(), 0.1)
//!     .schedule(Schedule::cosine(200).warm_up(10))
//!     .clip_norm(1.0);
//! let update = optimizer.declare(&mut graph, &[("w", w)])?;
//! graph.begin("init");
//! update.init(&mut graph)?;
//! graph.begin("train");
//! let cost = pointwise(&mut graph, [w], |[w]| (w - 3.0).square())?;
//! let gradient = graph.gradients(cost, one, &[w])?;
//! update.apply(&mut graph, &gradient, step)?;
//! graph.op(Arc::new(Advance), &[step])?;
//! # Ok::<(), wgrad::Error>(())
//! ```

use std::fmt::Debug;
use std::sync::Arc;

use self::range::{positive, positive_or_0, share};
use crate::error::{Error, Result};
use crate::expr::{Expr, Plane};
use crate::ops::pointwise::Pointwise;
use crate::ops::{Tape, Value};

mod apply;
mod hyperparameters;
mod loss_scale;
mod norm;
mod range;
mod rules;
mod schedule;
mod table;
mod template;

pub use apply::Update;
pub(crate) use hyperparameters::{BySetting, Table};
pub use loss_scale::LossScale;
pub(crate) use loss_scale::told;
pub use rules::{Adadelta, Adagrad, Adam, AdamW, Adamax, Lamb, Lion, NAdam, RmsProp, Sgd};
pub use schedule::Schedule;
pub use table::{HYPER, TableSgd};

/// Something that a rule keeps of each element of a parameter between steps.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct State {
    /// Its name: the variable is `<parameter> <name>`.
    pub name: &'static str,
    /// Its value before the first step.
    pub initial: f64,
}

impl State {
    /// A state that begins at 0.
    pub const fn zero(name: &'static str) -> Self {
        Self { name, initial: 0.0 }
    }
}

/// What a rule computes with, for one element of a parameter.
#[derive(Clone, Debug)]
pub struct Terms {
    /// The parameter w.
    pub value: Expr,
    /// Its gradient g.
    pub gradient: Expr,
    /// What the rule has kept, in the order of [`Rule::states`].
    pub states: Vec<Expr>,
    /// The learning rate η of this step and group.
    pub rate: Expr,
    /// The number t of this update, from 1.
    pub step: Expr,
    /// Whether this parameter decays.
    pub decays: bool,
}

impl Terms {
    /// A coefficient of decay, 0 where this parameter does not decay.
    pub fn decay(&self, coefficient: f64) -> f64 {
        if self.decays { coefficient } else { 0.0 }
    }

    /// 1 − βᵗ, exact for a β near 1.
    pub fn bias_correction(&self, beta: f64) -> Expr {
        // The logarithm of 0 is no number of a plan.
        if beta == 0.0 {
            return Expr::constant(1.0);
        }
        -(&self.step * beta.ln()).expm1()
    }
}

/// What becomes of an element.
#[derive(Clone, Debug)]
pub struct Updated {
    /// The parameter.
    pub value: Expr,
    /// What is kept, in the order of [`Rule::states`].
    pub states: Vec<Expr>,
}

/// An update rule.
///
/// ```
/// use wgrad::optim::{Rule, State, Terms, Updated};
///
/// /// Gradient descent by the gradient's sign (Bernstein et al. 2018, signSGD with momentum).
/// #[derive(Debug)]
/// struct SignSgd {
///     momentum: f64,
/// }
///
/// impl Rule for SignSgd {
///     fn name(&self) -> &'static str {
///         "SignSgd"
///     }
///     fn states(&self) -> Vec<State> {
///         vec![State::zero("momentum")]
///     }
///     fn update(&self, t: &Terms) -> Updated {
///         let m = &t.states[0] * self.momentum + &t.gradient * (1.0 - self.momentum);
///         Updated {
///             value: &t.value - &t.rate * m.sign(),
///             states: vec![m],
///         }
///     }
/// }
/// ```
pub trait Rule: Debug + Send + Sync {
    /// Its name, for messages.
    fn name(&self) -> &'static str;

    /// What it keeps of each element of a parameter. All of it is one buffer.
    fn states(&self) -> Vec<State> {
        vec![]
    }

    /// What becomes of an element.
    fn update(&self, terms: &Terms) -> Updated;

    /// The scalars `[1]` that an update uses beside its terms, as expressions of
    /// [`Expr::input`] 0, 1, … in [`Rule::update_with`]: a rule may write graph here, such as norms of
    /// the parameter and of its update. By default none.
    ///
    /// # Errors
    /// What the shape rules of its ops say.
    fn scalars(&self, tape: &mut dyn Tape, place: &Place<'_>) -> Result<Vec<Value>> {
        let _ = (tape, place);
        Ok(vec![])
    }

    /// [`Rule::update`], given the rule's own scalars.
    fn update_with(&self, terms: &Terms, scalars: &[Expr]) -> Updated {
        let _ = scalars;
        self.update(terms)
    }

    /// Holds its settings to what they may be.
    ///
    /// # Errors
    /// [`Error::Setting`] naming the setting.
    fn check(&self) -> Result<()> {
        Ok(())
    }
}

/// One parameter's update while it is written into a graph.
#[derive(Debug)]
pub struct Place<'a> {
    /// The parameter's name.
    pub name: &'a str,
    /// The parameter itself.
    pub parameter: Value,
    bound: &'a [(Value, Plane)],
    terms: &'a Terms,
    step: Value,
}

impl Place<'_> {
    /// The value of an expression over the update's terms, as a value of the graph.
    ///
    /// # Errors
    /// What the op's shape rule says.
    pub fn value(
        &self,
        tape: &mut dyn Tape,
        expression: impl FnOnce(&Terms) -> Expr,
    ) -> Result<Value> {
        let extents = tape.ty(self.parameter)?.shape.extents().to_vec();
        let expression = Pointwise::new(&[expression(self.terms)]);
        let values = expression.write(tape, self.bound, &[self.step], &extents)?;
        Ok(values[0])
    }
}

/// Parameters that are treated alike.
#[derive(Clone, Debug, PartialEq)]
pub struct Group {
    /// What the learning rate is multiplied by.
    pub rate: f64,
    /// Whether they decay.
    pub decays: bool,
    /// Whether they stay as they are.
    pub frozen: bool,
}

impl Default for Group {
    fn default() -> Self {
        Self {
            rate: 1.0,
            decays: true,
            frozen: false,
        }
    }
}

/// Which parameters belong to a group.
type Belongs = Arc<dyn Fn(&str) -> bool + Send + Sync>;

/// A rule with all that goes with it.
#[derive(Clone)]
pub struct Optimizer {
    rule: Arc<dyn Rule>,
    rate: f64,
    schedule: Schedule,
    groups: Vec<(Belongs, Group)>,
    clip_value: Option<f64>,
    clip_norm: Option<f64>,
    average: Option<f64>,
    rate_variable: Option<String>,
    micro_batches: Option<u32>,
    loss_scale: Option<LossScale>,
}

impl Debug for Optimizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut all = f.debug_struct("Optimizer");
        all.field("rule", &self.rule)
            .field("rate", &self.rate)
            .field("schedule", &self.schedule)
            .field(
                "groups",
                &self.groups.iter().map(|(_, g)| g).collect::<Vec<_>>(),
            )
            .field("clip_value", &self.clip_value)
            .field("clip_norm", &self.clip_norm)
            .field("average", &self.average)
            .field("rate_variable", &self.rate_variable)
            .field("micro_batches", &self.micro_batches);
        // Checkpoints know a run by this text, those of runs without it too.
        if let Some(loss_scale) = &self.loss_scale {
            all.field("loss_scale", loss_scale);
        }
        all.finish()
    }
}

impl Optimizer {
    /// A rule with a learning rate that stays.
    pub fn new(rule: impl Rule + 'static, rate: f64) -> Self {
        Self {
            rule: Arc::new(rule),
            rate,
            schedule: Schedule::constant(),
            groups: vec![],
            clip_value: None,
            clip_norm: None,
            average: None,
            rate_variable: None,
            micro_batches: None,
            loss_scale: None,
        }
    }

    /// Whether it keeps averages of parameters.
    pub(crate) fn averages(&self) -> bool {
        self.average.is_some()
    }

    /// The learning rate, which a schedule multiplies.
    pub fn rate(&self) -> f64 {
        self.rate
    }

    /// The learning rate of each step is the rate times the schedule's factor.
    #[must_use]
    pub fn schedule(self, schedule: Schedule) -> Self {
        Self { schedule, ..self }
    }

    /// The parameters whose names `belongs` picks, and no group before has, are a group. Names are those of the weights,
    /// such as `dense.bias`; where several models are trained in one step they begin with the model's, `critic.dense.bias`.
    #[must_use]
    pub fn group(
        mut self,
        belongs: impl Fn(&str) -> bool + Send + Sync + 'static,
        group: Group,
    ) -> Self {
        self.groups.push((Arc::new(belongs), group));
        self
    }

    /// Each element of a gradient is held between −`bound` and `bound`.
    #[must_use]
    pub fn clip_value(self, bound: f64) -> Self {
        Self {
            clip_value: Some(bound),
            ..self
        }
    }

    /// All gradients are scaled by one factor so that the norm of them together is `norm` at most
    /// (Pascanu et al. 2013): min(1, norm/(‖g‖ + 10⁻⁶)), as `torch.nn.utils.clip_grad_norm_`.
    #[must_use]
    pub fn clip_norm(self, norm: f64) -> Self {
        Self {
            clip_norm: Some(norm),
            ..self
        }
    }

    /// Keeps an exponential moving average of each parameter, `<parameter> average`:
    /// a ← d a + (1 − d) w after each step, from a = w on (Polyak and Juditsky 1992; of weights given later, from these on).
    /// [`Fit`](crate::fit::Fit) evaluates the averages, and they are the weights that it leaves, beside the running
    /// statistics as they are; a [`TrainStep`](crate::fit::TrainStep) and a [`JointStep`](crate::fit::JointStep) give
    /// both. Of a parameter that is frozen the average stays, too.
    #[must_use]
    pub fn average(self, decay: f64) -> Self {
        Self {
            average: Some(decay),
            ..self
        }
    }

    /// Each replica has a learning rate of its own, in place of the common one: the variable `name`
    /// `[1]`, to be written before the first step. So one run tries several.
    #[must_use]
    pub fn rates_of_replicas(self, name: &str) -> Self {
        Self {
            rate_variable: Some(name.into()),
            ..self
        }
    }

    /// An update takes the mean of the gradients of `micro_batches` micro-batches, which are added up
    /// one after the other ([`Update::add`], [`Update::apply_sum`]): a mini-batch for whose values
    /// there is no room. The sums are the variables `<parameter> gradient sum`. For graphs of one's own: `Fit`, `TrainStep`
    /// and `JointStep`, whose every mini-batch is an update, refuse it.
    #[must_use]
    pub fn accumulate(self, micro_batches: u32) -> Self {
        Self {
            micro_batches: Some(micro_batches),
            ..self
        }
    }

    /// Gradients are taken of the loss times a scale, and divided by it before they are clipped and used; a step
    /// whose gradients are not finite is skipped, with all that is kept: see [`LossScale`]. The rule counts the steps
    /// that were taken, a schedule all of them. What a step has without it stays bit for bit, unless it is fused
    /// otherwise or something overflows or underflows. An update is then no part of the launch that makes its
    /// gradient.
    #[must_use]
    pub fn loss_scale(self, loss_scale: LossScale) -> Self {
        Self {
            loss_scale: Some(loss_scale),
            ..self
        }
    }

    /// The group of a parameter.
    pub fn group_of(&self, parameter: &str) -> Group {
        let found = self.groups.iter().find(|(belongs, _)| belongs(parameter));
        found.map_or_else(Group::default, |(_, group)| group.clone())
    }

    /// Holds its settings to what they may be.
    pub(crate) fn check(&self) -> Result<()> {
        positive_or_0("learning rate", self.rate)?;
        for (name, bound) in [
            ("bound of gradients' elements", self.clip_value),
            ("norm of gradients", self.clip_norm),
        ] {
            bound.map_or(Ok(()), |bound| positive(name, bound))?;
        }
        let average = self.average;
        average.map_or(Ok(()), |decay| share("decay of the average", decay))?;
        if self.micro_batches == Some(0) {
            return Err(Error::setting(
                "micro-batches of an update",
                0,
                "at least 1",
            ));
        }
        self.loss_scale.map_or(Ok(()), |scale| scale.check())?;
        for (_, group) in &self.groups {
            positive_or_0("rate of a group", group.rate)?;
        }
        self.schedule.check()?;
        self.rule.check()
    }
}

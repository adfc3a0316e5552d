//! Losses: functions that write graph. Gradient, fusion and devices come by themselves.

use std::fmt;
use std::ops::{Add, Mul};
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::expr::Expr;
use crate::model::{Input, Model, Scope};
use crate::ops::pointwise::pointwise;
use crate::ops::reduction::{Kind, Reduction};
use crate::ops::{Tape, Value};
use crate::tensor::{HELD, held};

/// The loss of each example of a mini-batch.
#[derive(Clone, Copy, Debug)]
pub struct Each {
    /// `[N]`: the sum of each example.
    pub sums: Value,
    /// `[N]`: how much of each example counts, where that is not 1. The mini-batch's loss is the
    /// quotient of both totals.
    pub counts: Option<Value>,
}

impl From<Value> for Each {
    fn from(sums: Value) -> Self {
        Self { sums, counts: None }
    }
}

/// How far the sum of probabilities may be from 1.
const SUM_WITHIN: f64 = 1e-3;

/// What the floats of a loss's targets must be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Floats {
    /// Any finite numbers.
    #[default]
    Any,
    /// Each from 0 to 1.
    Shares,
    /// Each −1 or 1.
    Signs,
    /// Each from 0 to 1, with a sum of 1 over the last axis, to within 0.001.
    Probabilities,
}

impl Floats {
    /// What is wrong with the numbers of a row, whose last axis has this extent: what was found, what was wanted.
    pub(super) fn wrong(self, row: &[f32], last: usize) -> Option<(String, &'static str)> {
        if self == Self::Any {
            return None;
        }
        if self == Self::Signs {
            let other = row.iter().find(|x| x.abs() != 1.0)?;
            return Some((other.to_string(), "−1 or 1"));
        }
        let probabilities = self == Self::Probabilities;
        if let Some(x) = row.iter().find(|x| !(0.0..=1.0).contains(*x)) {
            let wanted = match probabilities {
                true => "probabilities, each from 0 to 1",
                false => "numbers from 0 to 1",
            };
            return Some((x.to_string(), wanted));
        }
        let sum = |place: &[f32]| place.iter().map(|&x| f64::from(x)).sum::<f64>();
        let off = |place: &&[f32]| (sum(place) - 1.0).abs() > SUM_WITHIN;
        let place = row
            .chunks(last.max(1))
            .filter(|_| probabilities)
            .find(off)?;
        // A few tell enough.
        let mut texts: Vec<String> = place.iter().take(5).map(f32::to_string).collect();
        if place.len() > texts.len() {
            texts.push("…".into());
        }
        let found = format!("{}, whose sum is {:.4},", texts.join(", "), sum(place));
        let wanted = "probabilities whose sum over the last axis is 1, to within 0.001";
        Some((found, wanted))
    }
}

/// What a loss does. Own losses are made by [`Loss::each`] or [`Loss::new`]; this trait is for those
/// that want more: several outputs and targets, targets of another type, weights of examples.
pub trait Criterion: fmt::Debug + Send + Sync {
    /// Its name, for messages and reports.
    fn name(&self) -> &str;

    /// How many outputs it looks at.
    fn outputs(&self) -> usize {
        1
    }

    /// What one example of each target is, given the outputs.
    ///
    /// # Errors
    /// [`Error::Shape`] for outputs that it cannot work with.
    fn targets(&self, outputs: &[Input]) -> Result<Vec<Input>> {
        Ok(outputs.to_vec())
    }

    /// What integers of its targets must be below.
    fn classes(&self, outputs: &[Input]) -> Option<usize> {
        let _ = outputs;
        None
    }

    /// Integers of targets that need not be below [`Criterion::classes`].
    fn ignored(&self) -> Option<u32> {
        None
    }

    /// The classes that count nothing. A mini-batch whose labels are all of these has no mean loss.
    fn uncounted(&self) -> Vec<u32> {
        self.ignored().into_iter().collect()
    }

    /// What the floats of its targets must be. Data sets are held to it before a run.
    fn floats(&self, outputs: &[Input]) -> Floats {
        let _ = outputs;
        Floats::Any
    }

    /// The same loss for shares of classes, `[N, …, K]` floats, in place of classes, `[N, …]` integers, if
    /// there is one: mixed examples have such ([`Fit::mixup`](super::Fit::mixup)).
    fn of_shares(&self) -> Option<Arc<dyn Criterion>> {
        None
    }

    /// Writes the loss of each example.
    ///
    /// # Errors
    /// What the shape rules say.
    fn write(&self, scope: &mut Scope<'_>, outputs: &[Value], targets: &[Value]) -> Result<Each>;
}

/// One term of a loss.
#[derive(Clone, Debug)]
pub(crate) struct Term {
    pub criterion: Arc<dyn Criterion>,
    /// Names of outputs; none for the model's first ones.
    outputs: Vec<String>,
    /// Names of targets; none for `target`, or `target`, `target 2`, ….
    targets: Vec<String>,
    pub weight: f64,
}

/// What is minimised: one criterion, or a weighted sum of several.
///
/// ```
/// use wgrad::fit::Loss;
///
/// // Of the model's first output against the column `target`.
/// let plain = Loss::cross_entropy();
/// // Of several outputs.
/// let both = Loss::cross_entropy().of("class").against("digit")
///     + Loss::mse().of("angle").against("degrees") * 0.1;
/// // An own one: the mean over each example's elements.
/// let huber = Loss::each("huber", |y, t| {
///     let d = (y - t).abs();
///     d.lt(1.0).select(d.square() * 0.5, &d - 0.5)
/// });
/// # let _ = (plain, both, huber);
/// ```
#[derive(Clone, Debug)]
pub struct Loss {
    terms: Vec<Term>,
}

impl Loss {
    /// A loss by a criterion.
    pub fn of_criterion(criterion: impl Criterion + 'static) -> Self {
        let term = Term {
            criterion: Arc::new(criterion),
            outputs: vec![],
            targets: vec![],
            weight: 1.0,
        };
        Self { terms: vec![term] }
    }

    /// The mean of an expression of output y and target t over each example's elements.
    pub fn each(
        name: &str,
        expression: impl Fn(&Expr, &Expr) -> Expr + Send + Sync + 'static,
    ) -> Self {
        Self::of_criterion(ElementByElement {
            name: name.into(),
            expression: Arc::new(expression),
            mean: true,
            floats: |_| Floats::Any,
        })
    }

    /// A function of output and target, both `[N, …]`, that writes the loss `[N]` of each example.
    pub fn new(
        name: &str,
        write: impl Fn(&mut Scope<'_>, Value, Value) -> Result<Value> + Send + Sync + 'static,
    ) -> Self {
        Self::of_criterion(Own {
            name: name.into(),
            write: Arc::new(write),
        })
    }

    /// (y − t)².
    pub fn mse() -> Self {
        Self::each("mse", |y, t| (y - t).square())
    }

    /// |y − t|.
    pub fn mae() -> Self {
        Self::each("mae", |y, t| (y - t).abs())
    }

    /// ½ (y − t)², or δ (|y − t| − ½ δ) beyond δ (Huber 1964). A δ that is no positive number of f32 is refused
    /// when the loss is written.
    pub fn huber(delta: f64) -> Self {
        Self::new("huber", move |scope, y, t| {
            // Half of it stands in the expression.
            if !(delta > 0.0 && held(delta) && held(0.5 * delta)) {
                let wanted = "a positive number, 2.4e-38 to 3.4e38 as 32-bit floats have it";
                let found = format!("{delta:e}");
                return Err(Error::setting("δ of the Huber loss", found, wanted));
            }
            let each = pointwise(scope, [y, t], |[y, t]| {
                let d = (y - t).abs();
                let far = (&d - 0.5 * delta) * delta;
                d.le(delta).select(d.square() * 0.5, far)
            })?;
            over_example(scope, each, true)
        })
    }

    /// t (ln t − y) summed over each example's elements, for logarithms y and probabilities t
    /// (PyTorch's `batchmean`). Data sets whose targets are not from 0 to 1, or of one axis an example and do
    /// not add up to 1, are refused.
    pub fn kl_divergence() -> Self {
        Self::of_criterion(ElementByElement {
            name: "kl_divergence".into(),
            expression: Arc::new(|y, t| t.gt(0.0).select(t * (t.max(1e-30).log() - y), 0.0)),
            mean: false,
            // Over which of several axes their sum is 1 is not said.
            floats: |output| match output.extents.len() {
                1 => Floats::Probabilities,
                _ => Floats::Shares,
            },
        })
    }

    /// max(0, 1 − t y), for t of −1 and 1.
    pub fn hinge() -> Self {
        Self::of_criterion(ElementByElement {
            name: "hinge".into(),
            expression: Arc::new(|y, t| (1.0 - t * y).max(0.0)),
            mean: true,
            floats: |_| Floats::Signs,
        })
    }

    /// The triplet loss max(0, ‖a − p‖ − ‖a − n‖ + margin) of three outputs `[N, D]` (Schroff et al.
    /// 2015): anchor, positive, negative.
    pub fn triplet(margin: f64) -> Self {
        Self::of_criterion(Triplet { margin })
    }

    /// The same with names of the outputs that its terms look at; of several, one after the other.
    #[must_use]
    pub fn of(mut self, output: &str) -> Self {
        for term in &mut self.terms {
            term.outputs.push(output.into());
        }
        self
    }

    /// The same with names of the columns that its terms take as targets.
    #[must_use]
    pub fn against(mut self, target: &str) -> Self {
        for term in &mut self.terms {
            term.targets.push(target.into());
        }
        self
    }

    /// The names of its terms' criteria, for reports: `mse`, `mse + 0.1 mae`.
    pub fn name(&self) -> String {
        let names = self.terms.iter().map(|term| match term.weight {
            1.0 => term.criterion.name().to_string(),
            weight => format!("{weight} {}", term.criterion.name()),
        });
        names.collect::<Vec<_>>().join(" + ")
    }

    pub(crate) fn terms(&self) -> &[Term] {
        &self.terms
    }

    /// The class of a column that counts nothing, if any.
    pub(crate) fn ignored(&self, model: &Model, column: &str) -> Option<u32> {
        let against = |term: &&Term| {
            let targets = term.targets(model).unwrap_or_default();
            targets.iter().any(|(name, _)| name == column)
        };
        let mut terms = self.terms.iter().filter(against);
        terms.find_map(|term| term.criterion.ignored())
    }
}

impl Add for Loss {
    type Output = Self;

    fn add(mut self, other: Self) -> Self {
        self.terms.extend(other.terms);
        self
    }
}

impl Mul<f64> for Loss {
    type Output = Self;

    fn mul(mut self, factor: f64) -> Self {
        for term in &mut self.terms {
            term.weight *= factor;
        }
        self
    }
}

impl Term {
    /// Names, places and examples of its outputs.
    pub fn outputs(&self, model: &Model) -> Result<Vec<(usize, Input)>> {
        let (found, wanted) = (self.outputs.len(), self.criterion.outputs());
        let all: Vec<(&str, &Input)> = model.outputs().collect();
        if found != wanted && !(found == 0 && all.len() >= wanted) {
            let name = format!("outputs of {}", self.criterion.name());
            let given = if found == 0 { all.len() } else { found };
            return Err(Error::setting(name, given, wanted.to_string()));
        }
        let known: Vec<&str> = all.iter().map(|(name, _)| *name).collect();
        let place = |k: usize| match self.outputs.get(k) {
            None => Ok(k),
            Some(name) => known
                .iter()
                .position(|other| other == name)
                .ok_or_else(|| Error::unknown("output", name, &known)),
        };
        let example = |place: usize| (place, all[place].1.clone());
        (0..wanted).map(|k| place(k).map(example)).collect()
    }

    /// Holds its weight to what devices compute with.
    pub fn check(&self) -> Result<()> {
        match held(self.weight) {
            true => Ok(()),
            false => {
                let name = format!("weight of loss {}", self.criterion.name());
                Err(Error::setting(name, format!("{:e}", self.weight), HELD))
            }
        }
    }

    /// Names and examples of its targets, and what their integers must be below.
    pub fn targets(&self, model: &Model) -> Result<Vec<(String, Input)>> {
        self.check()?;
        let outputs: Vec<Input> = self.outputs(model)?.into_iter().map(|(_, o)| o).collect();
        let examples = self.criterion.targets(&outputs)?;
        let name = |k: usize| match (self.targets.get(k), k) {
            (Some(name), _) => name.clone(),
            (None, 0) => "target".into(),
            (None, k) => format!("target {}", k + 1),
        };
        if self.targets.len() > examples.len() {
            let found = format!("{} targets", self.targets.len());
            let place = format!("targets of {}", self.criterion.name());
            return Err(Error::setting(place, found, examples.len().to_string()));
        }
        Ok(examples
            .into_iter()
            .enumerate()
            .map(|(k, e)| (name(k), e))
            .collect())
    }

    /// [`Criterion::classes`] for a model.
    pub fn classes(&self, model: &Model) -> Result<Option<usize>> {
        let outputs: Vec<Input> = self.outputs(model)?.into_iter().map(|(_, o)| o).collect();
        Ok(self.criterion.classes(&outputs))
    }
}

/// The mean, or the sum, of `[N, …]` over each example: `[N]`.
pub(crate) fn over_example(scope: &mut Scope<'_>, x: Value, mean: bool) -> Result<Value> {
    let extents = scope.extents(x)?;
    let n = extents[0];
    let rest: usize = extents[1..].iter().product();
    if rest == 1 {
        return scope.reshape(x, &[n]);
    }
    let rows = scope.reshape(x, &[n, rest])?;
    let kind = if mean { Kind::Mean } else { Kind::Sum };
    scope.op1(Arc::new(Reduction::new(kind, &[1])), &[rows])
}

type Expression = Arc<dyn Fn(&Expr, &Expr) -> Expr + Send + Sync>;

struct ElementByElement {
    name: String,
    expression: Expression,
    mean: bool,
    /// What targets must be, given the output.
    floats: fn(&Input) -> Floats,
}

impl fmt::Debug for ElementByElement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl Criterion for ElementByElement {
    fn name(&self) -> &str {
        &self.name
    }

    fn floats(&self, outputs: &[Input]) -> Floats {
        outputs.first().map_or(Floats::Any, self.floats)
    }

    fn write(&self, scope: &mut Scope<'_>, outputs: &[Value], targets: &[Value]) -> Result<Each> {
        let (y, t) = (outputs[0], targets[0]);
        let each = pointwise(scope, [y, t], |[y, t]| (self.expression)(&y, &t))?;
        Ok(over_example(scope, each, self.mean)?.into())
    }
}

type Write = Arc<dyn Fn(&mut Scope<'_>, Value, Value) -> Result<Value> + Send + Sync>;

struct Own {
    name: String,
    write: Write,
}

impl fmt::Debug for Own {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl Criterion for Own {
    fn name(&self) -> &str {
        &self.name
    }

    fn write(&self, scope: &mut Scope<'_>, outputs: &[Value], targets: &[Value]) -> Result<Each> {
        let each = (self.write)(scope, outputs[0], targets[0])?;
        let n = scope.extents(outputs[0])?[0];
        match scope.extents(each)?.as_slice() {
            [examples] if *examples == n => Ok(each.into()),
            _ => {
                let wanted = format!(
                    "f32[{n}], the loss of each of {n} examples; the mean over them is taken of it"
                );
                let found = scope.ty(each)?.to_string();
                Err(Error::shape(format!("loss {}", self.name), found, wanted))
            }
        }
    }
}

/// [`Loss::triplet`].
#[derive(Clone, Copy, Debug)]
struct Triplet {
    margin: f64,
}

impl Criterion for Triplet {
    fn name(&self) -> &str {
        "triplet"
    }

    fn outputs(&self) -> usize {
        3
    }

    fn targets(&self, outputs: &[Input]) -> Result<Vec<Input>> {
        if !held(self.margin) {
            let found = format!("{:e}", self.margin);
            return Err(Error::setting("margin of triplet", found, HELD));
        }
        if outputs.iter().any(|o| *o != outputs[0]) {
            let wanted = "anchor, positive and negative of the same extents";
            return Err(Error::shape("triplet", format!("{outputs:?}"), wanted));
        }
        Ok(vec![])
    }

    fn write(&self, scope: &mut Scope<'_>, outputs: &[Value], _: &[Value]) -> Result<Each> {
        let mut distance = |other: Value| {
            // PyTorch's distance adds 10⁻⁶ to each difference.
            let square = |[a, b]: [Expr; 2]| (a - b + 1e-6).square();
            let each = pointwise(scope, [outputs[0], other], square)?;
            over_example(scope, each, false)
        };
        let (near, far) = (distance(outputs[1])?, distance(outputs[2])?);
        let loss = pointwise(scope, [near, far], |[near, far]| {
            (near.sqrt() - far.sqrt() + self.margin).max(0.0)
        })?;
        Ok(loss.into())
    }
}

//! Whatever computes element by element: `yₖ[i] = fₖ(x₀[i], x₁[i], …)`, given as expressions
//! ([`crate::expr`]) of which values, WGSL, gradient and tolerance are made.
//!
//! Inputs are broadcast as in NumPy: axes are counted from the last, and one of extent 1, or one
//! that is missing, is repeated. A bias along axis 1 of `[N, C, H, W]` is a `[C, 1, 1]`. An output is
//! a new value or is written over an input. Inputs may be floats or integers, each replica's own or
//! one for all; outputs are floats of each replica.
//!
//! Gradient: the derivative is an expression again, of the inputs or of the outputs, whichever needs
//! fewer values; a broadcast input's is summed over the axes along which it was repeated.

use std::sync::Arc;

use super::launch::SINGLE_ELEMENTS;
use super::reduction::{Kind, Reduction};
use super::reshape::Reshape;
use super::{
    Alternative, Backward, Case, ELEMENTWISE, Fill, Lowered, Lowering, Op, Operand, Tape, Value,
    counter, grid, key_words,
};
use crate::error::{Error, Result};
use crate::expr::{Condition, Expr, Form, Plane, Program};
use crate::kernel::Kernel;
use crate::shape::{DType, Type};
use crate::tensor::held;

mod backward;
mod blueprint;
mod broadcast;
mod compose;
mod demand;
mod ending;
mod merge;
mod onnx;
mod parts;

use backward::Derivatives;
pub use blueprint::MOST_BINDINGS;
use broadcast::{belongs_alike, common};
pub(crate) use ending::{Ended, ended_case, finished, wrapped_case};
pub use ending::{Ending, WithEnding};
pub(crate) use merge::{Link, Use, merged};
pub(crate) use parts::{Parts, Piece};

/// Inputs x₀, x₁, …, then keys `[4]` of the replica if something is drawn, then step `[2]` if
/// something is drawn or the step is read; outputs those that are not written over an input.
#[derive(Clone, Debug, PartialEq)]
pub struct Pointwise {
    program: Program,
    /// Where each input of the expressions comes from.
    sources: Vec<Source>,
    /// For each output, the expressions' input that it is written over.
    over: Vec<Option<usize>>,
    extents: Option<Vec<usize>>,
    /// Bindings that a launch of it may have.
    most: usize,
}

/// What an input of an expression is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Source {
    /// The op's input.
    value: usize,
    /// Its part of that.
    plane: Plane,
    /// The axes to put behind its own, each of extent 1.
    behind: usize,
}

/// More than any shape needs.
const MOST_AXES_BEHIND: usize = 16;

impl Source {
    const fn whole(value: usize) -> Self {
        Self {
            value,
            plane: Plane::WHOLE,
            behind: 0,
        }
    }
}

impl Pointwise {
    /// One output for each expression.
    pub fn new(outputs: &[Expr]) -> Self {
        let program = Program::of(outputs);
        let inputs = program.inputs().last().map_or(0, |&k| k as usize + 1);
        Self {
            sources: (0..inputs).map(Source::whole).collect(),
            over: vec![None; outputs.len()],
            program,
            extents: None,
            most: MOST_BINDINGS,
        }
    }

    /// The same with output `output` written over input `input`, which must have the extents of the
    /// results. It is no output of the op any more.
    #[must_use]
    pub fn updating(mut self, output: usize, input: usize) -> Self {
        for k in self.sources.len()..=input {
            self.sources.push(Source::whole(k));
        }
        if let Some(over) = self.over.get_mut(output) {
            *over = Some(input);
        }
        self
    }

    /// The same with the expressions' inputs `first` and after it, `count` of them, being one input of
    /// the op, `[count, …]` of the results' extents: its parts in order. So an update keeps whatever
    /// a rule remembers in one buffer. The inputs after these move up.
    #[must_use]
    pub fn with_planes(mut self, first: usize, count: usize) -> Self {
        let of = count.max(1);
        for (k, source) in self.sources.iter_mut().enumerate().skip(first) {
            if k < first + of {
                source.value = source.value.saturating_sub(k - first);
                source.plane = Plane {
                    number: k - first,
                    of,
                };
            } else {
                source.value = source.value.saturating_sub(of - 1);
            }
        }
        self
    }

    /// The same with input `input` read as if it had so many axes more, each of extent 1, behind its
    /// own: a bias `[C]` along axis 1 of `[N, C, H, W]` has two. At most 16.
    #[must_use]
    pub fn with_axes_behind(mut self, input: usize, axes: usize) -> Self {
        if let Some(source) = self.sources.get_mut(input) {
            source.behind = axes.min(MOST_AXES_BEHIND);
        }
        self
    }

    /// The same with results of these extents, to which the inputs are broadcast. Without, they
    /// follow from the inputs.
    #[must_use]
    pub fn with_extents(mut self, extents: &[usize]) -> Self {
        self.extents = Some(extents.to_vec());
        self
    }

    /// The number that it is everywhere, if it is the same one whatever stands at its inputs.
    pub(crate) fn number(&self) -> Option<f64> {
        match (self.program.number(), &self.over[..]) {
            (Some(value), [None]) => Some(value),
            _ => None,
        }
    }

    /// Whether its numbers are such as devices have, and no line of it is computed of numbers alone.
    pub(crate) fn is_folded(&self) -> bool {
        self.program.is_folded()
    }

    /// The inputs of the op that it changes.
    pub(crate) fn changes(&self) -> Vec<usize> {
        let over = self.over.iter().flatten();
        over.map(|&input| self.sources[input].value).collect()
    }

    /// The op of expressions whose inputs are these values or parts of values, and its inputs.
    pub(crate) fn over_values(outputs: &[Expr], read: &[(Value, Plane)]) -> (Self, Vec<Value>) {
        let mut bound: Vec<Value> = Vec::new();
        let mut sources = Vec::new();
        for &(value, plane) in read {
            let known = bound.iter().position(|v| *v == value);
            let value = known.unwrap_or_else(|| {
                bound.push(value);
                bound.len() - 1
            });
            sources.push(Source {
                plane,
                ..Source::whole(value)
            });
        }
        let op = Self {
            program: Program::of(outputs),
            sources,
            over: vec![None; outputs.len()],
            extents: None,
            most: MOST_BINDINGS,
        };
        (op, bound)
    }

    /// How many inputs there are before keys and step.
    pub fn inputs(&self) -> usize {
        let values = self.sources.iter().map(|source| source.value + 1);
        values.max().unwrap_or(0)
    }

    /// Whether keys follow the inputs.
    pub fn wants_keys(&self) -> bool {
        self.program.draws()
    }

    /// Whether the step counter is the last input.
    pub fn wants_step(&self) -> bool {
        self.program.reads_step()
    }

    /// Inputs that are read by an index, whatever their shape.
    fn tables(&self) -> Vec<bool> {
        let forms = self.program.forms();
        let table = |k: usize| {
            let mut forms = forms.iter();
            forms.any(|f| matches!(f, crate::expr::Form::At(input, _) if *input as usize == k))
        };
        (0..self.sources.len()).map(table).collect()
    }

    /// The extents of the results over inputs of these types.
    pub(crate) fn results(&self, inputs: &[Type]) -> Result<Vec<usize>> {
        let tables = self.tables();
        let plain = self
            .sources
            .iter()
            .zip(&tables)
            .filter(|(_, table)| !**table);
        let extents = plain.map(|(source, _)| source.extents(&inputs[source.value]));
        let extents = extents.collect::<Result<Vec<_>>>()?;
        common(extents.iter().map(Vec::as_slice), self.extents.as_deref())
    }

    /// Whether inputs of these types belong to results of extents `other` as they do to those of `one`, which are as many.
    pub(crate) fn belongs_alike(&self, inputs: &[Type], one: &[usize], other: &[usize]) -> bool {
        let tables = self.tables();
        let mut sources = self.sources.iter().zip(&tables);
        sources.all(|(source, table)| {
            let extents = source.extents(&inputs[source.value]);
            *table || extents.is_ok_and(|extents| belongs_alike(&extents, one, other))
        })
    }

    /// The sum of a gradient of the results' extents over the axes along which an input was
    /// repeated.
    fn gathered(tape: &mut dyn Tape, gradient: Value, input: Value) -> Result<Value> {
        let (from, to) = (tape.ty(gradient)?.clone(), tape.ty(input)?.clone());
        let extents = from.shape.extents();
        let missing = extents.len() - to.shape.rank().min(extents.len());
        let repeated = |&axis: &usize| {
            let own = axis
                .checked_sub(missing)
                .map(|axis| to.shape.extents()[axis]);
            extents[axis] > 1 && own.is_none_or(|own| own == 1)
        };
        let axes: Vec<usize> = (0..extents.len()).filter(repeated).collect();
        let mut sum = gradient;
        if !axes.is_empty() {
            sum = tape.op1(Arc::new(Reduction::new(Kind::Sum, &axes)), &[gradient])?;
        }
        if tape.ty(sum)?.shape == to.shape {
            return Ok(sum);
        }
        let extents = to.shape.extents().to_vec();
        tape.op1(Arc::new(Reshape { extents }), &[sum])
    }

    /// Adds the op to a tape. Its inputs are `values`, of which each is bound once and only if it is
    /// read; `tail` are keys and step, or what there is of them.
    pub(crate) fn write(
        &self,
        tape: &mut dyn Tape,
        values: &[(Value, Plane)],
        tail: &[Value],
        extents: &[usize],
    ) -> Result<Vec<Value>> {
        let mut read: Vec<(Value, Plane)> = Vec::new();
        let mut bound: Vec<Value> = Vec::new();
        for k in self.program.inputs() {
            let value = values[k as usize];
            if !read.contains(&value) {
                read.push(value);
            }
            if !bound.contains(&value.0) {
                bound.push(value.0);
            }
        }
        let place = |k: u32| {
            let found = read.iter().position(|v| *v == values[k as usize]);
            found.unwrap_or(0) as u32
        };
        let source = |&(value, plane): &(Value, Plane)| Source {
            plane,
            ..Source::whole(bound.iter().position(|v| *v == value).unwrap_or(0))
        };
        let program = self.program.renumbered(place);
        let op = Self {
            sources: read.iter().map(source).collect(),
            over: vec![None; program.outputs().len()],
            extents: Some(extents.to_vec()),
            program,
            most: MOST_BINDINGS,
        };
        if op.wants_keys() {
            bound.extend(tail);
        } else if op.wants_step() {
            bound.extend(tail.last());
        }
        tape.op(Arc::new(op), &bound)
    }
}

/// One value of an expression over values.
///
/// ```
/// # use wgrad::graph::Graph;
/// # use wgrad::ops::pointwise::pointwise;
/// # use wgrad::shape::Type;
/// # let mut graph = Graph::new();
/// let x = graph.variable("x", Type::f32("x", &[32, 10])?)?;
/// let scale = graph.variable("scale", Type::f32("scale", &[10])?)?;
/// graph.begin("forward");
/// let y = pointwise(&mut graph, [x, scale], |[x, scale]| (x * scale).tanh())?;
/// # Ok::<(), wgrad::Error>(())
/// ```
///
/// The last inputs may be such as the expression does not read; they do not count.
///
/// # Errors
/// What the op's shape rule says; for an expression that draws or reads the step, which needs more
/// inputs ([`Pointwise::wants_keys`]), too.
pub fn pointwise<const N: usize>(
    tape: &mut dyn Tape,
    inputs: [Value; N],
    expression: impl FnOnce([Expr; N]) -> Expr,
) -> Result<Value> {
    let of_inputs = expression(std::array::from_fn(Expr::input));
    let op = Pointwise::new(&[of_inputs]);
    let more = op.wants_keys() || op.wants_step();
    let read = if more { N } else { op.inputs().min(N) };
    tape.op1(Arc::new(op), &inputs[..read])
}

impl Source {
    /// The extents of this part of a value.
    fn extents(&self, ty: &Type) -> Result<Vec<usize>> {
        let own = match (self.plane.of, ty.shape.extents()) {
            (1, extents) => extents,
            (of, [first, rest @ ..]) if *first == of && !rest.is_empty() => rest,
            (of, _) => {
                let wanted = format!("[{of}, …], {of} parts of the results' extents");
                return Err(Error::shape("pointwise", ty.to_string(), wanted));
            }
        };
        Ok([own, &vec![1; self.behind]].concat())
    }
}

impl Op for Pointwise {
    fn name(&self) -> &'static str {
        "pointwise"
    }

    fn infer(&self, inputs: &[Type]) -> Result<Vec<Type>> {
        let extra = usize::from(self.wants_keys()) + usize::from(self.wants_step());
        if inputs.len() != self.inputs() + extra {
            let found = format!("{} inputs", inputs.len());
            let (keys, step) = (self.wants_keys(), self.wants_step());
            let then = match (keys, step) {
                (true, _) => ", then keys and step",
                (_, true) => ", then the step",
                _ => "",
            };
            let wanted = format!("{}{then}", self.inputs());
            return Err(Error::shape("pointwise", found, wanted));
        }
        let (own, rest) = inputs.split_at(self.inputs());
        if self.wants_keys() {
            key_words("pointwise", &rest[0])?;
        }
        if let (true, Some(step)) = (self.wants_step(), rest.last()) {
            counter("pointwise", step)?;
        }
        if self.over.is_empty() {
            return Err(Error::shape("pointwise", "no expression", "one or more"));
        }
        let read = self.program.inputs();
        let tables = self.tables();
        for (k, table) in tables.iter().enumerate() {
            let element = self.program.forms().contains(&Form::Input(k as u32));
            let updates = self.over.iter().filter(|over| **over == Some(k)).count();
            let wrong = match (table, element, updates) {
                (true, true, _) => "read by an index and element by element",
                (true, _, 1..) => "read by an index and written over",
                (_, _, 2..) => "written over by several outputs",
                (_, _, 0) if !read.contains(&(k as u32)) => "read by no expression",
                _ => continue,
            };
            let found = format!("input {k} {wrong}");
            return Err(Error::shape(
                "pointwise",
                found,
                "each input used in one way",
            ));
        }
        // What f32 does not have would be 0 or infinite on devices without a word.
        let numbers = self.program.forms().iter().filter_map(|form| match form {
            Form::Constant(bits) => Some(f64::from_bits(*bits)),
            _ => None,
        });
        if let Some(number) = numbers.filter(|n| n.is_finite()).find(|n| !held(*n)) {
            return Err(Error::setting(
                "number in an expression",
                format!("{number:e}"),
                "0, or 1.2e-38 to 3.4e38 of either sign, as 32-bit floats have it",
            ));
        }
        let extents = self.results(own)?;
        let ty = Type::f32("pointwise", &extents)?;
        for &k in self.over.iter().flatten() {
            let Source { value, plane, .. } = self.sources[k];
            let found = &own[value];
            let alike = (found.dtype, found.shared) == (ty.dtype, ty.shared);
            if !alike || self.sources[k].extents(found)? != extents {
                let wanted = format!("{ty}, as the results, since it is written over");
                return Err(Error::shape(
                    "pointwise",
                    format!("input {k} of {found}"),
                    wanted,
                ));
            }
            let parts = self.over.iter().flatten();
            let parts = parts.filter(|&&k| self.sources[k].value == value).count();
            if parts != plane.of {
                let found = format!("{parts} of {} parts written over", plane.of);
                return Err(Error::shape("pointwise", found, "all of them"));
            }
        }
        // Each input is read or written over.
        let new = self.over.iter().filter(|over| over.is_none()).count();
        let bound = inputs.len() + new;
        if bound > self.most {
            let found = format!("{bound} inputs, outputs, keys and step");
            let wanted = match self.most {
                MOST_BINDINGS => format!("at most {MOST_BINDINGS}, which every adapter binds"),
                most => format!("at most {most}"),
            };
            return Err(Error::shape("pointwise", found, wanted));
        }
        Ok(vec![ty; new])
    }

    fn lower(&self, inputs: &[Type], _: &[Type]) -> Result<Lowering> {
        let extents = self.results(&inputs[..self.inputs()])?;
        let n: usize = extents.iter().product();
        let width = if n.is_multiple_of(4) { 4 } else { 1 };
        let launch = compose::compose(self, inputs, &extents, width)?;
        let flops = self.program.forms().len() * n;
        let mut lowered = Lowered {
            kernel: launch.kernel,
            constants: launch.constants,
            operands: launch.operands,
            grid: grid(n / width, ELEMENTWISE),
            flops: flops as u64,
            alternatives: vec![],
        };
        if width > 1 && n <= SINGLE_ELEMENTS {
            // Where other kernels bind the same buffers, all do so by single elements.
            let ones = compose::compose(self, inputs, &extents, 1)?;
            lowered.alternatives.push(Alternative {
                constants: ones.constants,
                ..lowered.side_by_side(ones.kernel, n)
            });
        }
        Ok(Lowering::Launch(lowered))
    }

    fn expression(&self, _: &[Type]) -> Option<Self> {
        Some(self.clone())
    }

    fn gradients(&self, b: &mut Backward<'_>) -> Result<Vec<Option<Value>>> {
        let mut sources = self.sources.iter();
        let parts = sources.any(|source| source.plane.of > 1 || source.behind > 0);
        if parts || self.over.iter().any(Option::is_some) {
            let found = "an expression that is written over an input, or of an input's parts";
            return Err(Error::setting(
                "gradient",
                found,
                "expressions of whole inputs with new outputs",
            ));
        }
        let inputs = self.inputs();
        let upstream: Vec<(usize, Value)> = (0..b.upstreams.len())
            .filter_map(|k| Some((k, b.upstreams[k]?)))
            .collect();
        let float = |k: usize| -> Result<bool> { Ok(b.tape.ty(b.inputs[k])?.dtype == DType::F32) };
        let mut wanted = Vec::new();
        for k in 0..inputs {
            if b.wanted[k] && float(k)? {
                wanted.push(k as u32);
            }
        }
        let values = b.inputs[..inputs].iter().copied();
        let values = values.chain(upstream.iter().map(|(_, g)| *g));
        let derivatives = Derivatives {
            op: self,
            values: values
                .chain(b.outputs.iter().copied())
                .map(|value| (value, Plane::WHOLE))
                .collect(),
            of: upstream.iter().map(|(k, _)| *k).collect(),
            tail: &b.inputs[inputs..],
            extents: b.tape.ty(b.outputs[0])?.shape.extents().to_vec(),
        };
        let mut gradients = vec![None; b.inputs.len()];
        let shares = derivatives.write(b.tape, &wanted)?;
        for (k, share) in wanted.into_iter().zip(shares) {
            if let Some(share) = share {
                let input = b.inputs[k as usize];
                gradients[k as usize] = Some(Self::gathered(b.tape, share, input)?);
            }
        }
        Ok(gradients)
    }
}

/// A kernel is composed for each expression.
pub static KERNELS: &[&Kernel] = &[];

/// Every function, every way to broadcast, four elements a thread and one, outputs over inputs,
/// draws and tables.
pub fn cases() -> Vec<Case> {
    compose::cases::all()
}

#[cfg(test)]
mod tests;

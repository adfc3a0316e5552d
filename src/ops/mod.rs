//! One op, one room: `src/ops/<stem>.rs` beside `shaders/<stem>.wgsl`.
//!
//! An op states its shape rule, its gradient (as ops again, so that it is written once
//! for every device), its kernels with their CPU references, and how it is launched.
//! [`TABLE`] lists them all; three tests walk the table and hold every op to its word.
//!
//! What only puts these together is a function over a [`Tape`] with PyTorch's name and arguments:
//! [`cat`], [`stack`], [`split`](split()), [`conv1d`], [`conv3d`], the pools of rows, [`one_hot`], …

use std::any::Any;
use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::{Error, Result};
use crate::interchange::Site;
use crate::kernel::{Access, Kernel, Target};
use crate::shape::Type;

#[cfg(test)]
mod arithmetic_tests;
mod blocks;
mod case;
mod checks;
mod choice;
mod conv1d;
mod conv3d;
mod cost;
mod fragments;
#[cfg(test)]
mod function_tests;
mod gemm;
#[cfg(test)]
mod general_tests;
mod launch;
mod parts;
mod pools;
mod registers;
mod small_batch;
mod sums;
mod window;
pub use case::{Case, Fill, Given};
pub use checks::{COUNTER, NEXT, NOW, arity, floats, same};
pub(crate) use checks::{counter, epoch_steps, exactly, key_words, stream_number};
pub use choice::{one_hot, where_nonzero};
pub use concat::{cat, stack};
pub use conv1d::{Conv1d, ConvTranspose1d, conv_transpose1d, conv1d};
pub use conv3d::{Conv3d, conv3d};
pub use cost::{Cost, Loss, LossAndSlope, LossGrad};
pub(crate) use launch::ELEMENTWISE;
pub use launch::grid;
pub use pools::{
    Pool1d, adaptive_avg_pool1d, adaptive_max_pool1d, avg_pool1d, global_avg_pool, global_max_pool,
    max_pool1d,
};
pub use split::{chunk, split, unbind};
pub use window::Window;

/// Which graph a value belongs to: a number that no other graph of this process has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct GraphId(u64);

impl GraphId {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }

    /// The value that output `output` of this graph's node `node` is.
    pub(crate) fn value(self, node: usize, output: usize) -> Value {
        Value {
            graph: self,
            node,
            output,
        }
    }
}

/// A value of a graph: one output of one of its nodes. Only the graph that made it takes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Value {
    pub(crate) graph: GraphId,
    /// The node's index in the graph.
    pub(crate) node: usize,
    /// Which of its outputs.
    pub(crate) output: usize,
}

/// Where gradient rules write their ops.
pub trait Tape {
    /// Adds an op and returns its outputs.
    ///
    /// # Errors
    /// What the op's shape rule says.
    fn op(&mut self, op: Arc<dyn Op>, inputs: &[Value]) -> Result<Vec<Value>>;
    /// The type of a value.
    ///
    /// # Errors
    /// [`Error::Setting`] for a value of another graph.
    fn ty(&self, value: Value) -> Result<&Type>;
    /// Adds an op of one output and returns it.
    ///
    /// # Errors
    /// What the op's shape rule says, and [`Error::Shape`] for an op without outputs.
    fn op1(&mut self, op: Arc<dyn Op>, inputs: &[Value]) -> Result<Value> {
        let name = op.name();
        let outputs = self.op(op, inputs)?;
        let first = outputs.first().copied();
        first.ok_or_else(|| Error::shape(name, "no output", "an op with an output"))
    }
}

/// What a gradient rule is given.
pub struct Backward<'a> {
    /// Where the rule writes.
    pub tape: &'a mut dyn Tape,
    /// The op's inputs.
    pub inputs: &'a [Value],
    /// The op's outputs.
    pub outputs: &'a [Value],
    /// The gradient with respect to output 0; of an op with rules for several outputs, with respect
    /// to the first that has one.
    pub upstream: Value,
    /// The gradient with respect to each output that has one; see [`Op::gradients`].
    pub upstreams: &'a [Option<Value>],
    /// Which inputs a gradient is wanted for.
    pub wanted: &'a [bool],
}

/// How a kernel binding of a launch is filled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operand {
    /// The op's input, read (or updated in place, if the kernel declares so).
    In(usize),
    /// The op's output.
    Out(usize),
    /// What one launch of a [`Stages`] leaves to the next.
    Scratch(usize),
}

/// One launch of a kernel, in terms of the op's own inputs and outputs.
#[derive(Clone, Debug)]
pub struct Lowered {
    /// The kernel.
    pub kernel: &'static Kernel,
    /// A value for each of its constants.
    pub constants: Vec<(&'static str, f64)>,
    /// What stands at each of its bindings.
    pub operands: Vec<Operand>,
    /// Workgroups in x and y; z is the replica.
    pub grid: [u32; 2],
    /// Floating-point operations of one replica (a multiply-add counts two).
    pub flops: u64,
    /// Other kernels that do the same over the same operands as `kernel`, which is made for a
    /// GPU; of those for a kind of device, the best comes first.
    pub alternatives: Vec<Alternative>,
}

/// What a node becomes.
#[derive(Clone, Debug)]
pub enum Lowering {
    /// Nothing: its output is input 0 under another shape.
    View,
    /// A launch.
    Launch(Lowered),
    /// Several launches.
    Stages(Stages),
}

/// Launches one after the other, with buffers that live from the first to the last.
#[derive(Clone, Debug)]
pub struct Stages {
    /// The types of the buffers, by their number in [`Operand::Scratch`].
    pub scratch: Vec<Type>,
    /// The launches in order.
    pub launches: Vec<Lowered>,
}

impl Lowering {
    /// The op's inputs that its launches change.
    pub(crate) fn changes(&self) -> Vec<usize> {
        let launches = self.launches().iter();
        let bindings = launches.flat_map(|l| l.operands.iter().zip(l.kernel.bindings));
        let changed = bindings.filter_map(|(operand, bind)| match operand {
            Operand::In(k) if bind.access != Access::Read => Some(*k),
            _ => None,
        });
        changed.collect()
    }

    /// The launch, if it is one.
    pub fn launch(self) -> Option<Lowered> {
        match self {
            Self::Launch(lowered) => Some(lowered),
            Self::View | Self::Stages(_) => None,
        }
    }

    /// All launches in order.
    pub fn launches(&self) -> &[Lowered] {
        match self {
            Self::View => &[],
            Self::Launch(lowered) => std::slice::from_ref(lowered),
            Self::Stages(stages) => &stages.launches,
        }
    }
}

impl Lowered {
    /// The same launch by another kernel, which has the same constants.
    pub(crate) fn otherwise(
        &self,
        target: Target,
        kernel: &'static Kernel,
        grid: [u32; 2],
    ) -> Alternative {
        Alternative {
            target,
            kernel,
            constants: self.constants.clone(),
            grid,
        }
    }

    /// The same launch in the first of these variants, the others being its alternatives.
    pub(crate) fn by(self, variants: Vec<Alternative>) -> Self {
        let mut variants = variants.into_iter();
        let Some(first) = variants.next() else {
            return self;
        };
        Self {
            kernel: first.kernel,
            constants: first.constants,
            grid: first.grid,
            alternatives: variants.collect(),
            ..self
        }
    }
}

/// Another kernel for an op's launch.
#[derive(Clone, Debug)]
pub struct Alternative {
    /// The devices it is made for.
    pub target: Target,
    /// The kernel.
    pub kernel: &'static Kernel,
    /// A value for each of its constants.
    pub constants: Vec<(&'static str, f64)>,
    /// Workgroups in x and y; z is the replica.
    pub grid: [u32; 2],
}

/// A node of the graph: pure description, no device, no data.
pub trait Op: Any + Debug + Send + Sync {
    /// The stem of its files.
    fn name(&self) -> &'static str;

    /// The shape rule: output types from input types.
    ///
    /// # Errors
    /// [`Error::Shape`] naming the sizes and the relation that should hold.
    fn infer(&self, inputs: &[Type]) -> Result<Vec<Type>>;

    /// What the node becomes, given the types that [`Op::infer`] has passed and made. By default the
    /// launch of the expression that it is.
    ///
    /// # Errors
    /// What keeps the op from being launched at these sizes; compilation ends with it. By default
    /// [`Error::Setting`] for an op that is no expression.
    fn lower(&self, inputs: &[Type], outputs: &[Type]) -> Result<Lowering> {
        match self.expression(inputs) {
            Some(expression) => expression.lower(inputs, outputs),
            None => Err(Error::setting(
                "lowering",
                self.name(),
                "an op with a kernel, or one that is an expression",
            )),
        }
    }

    /// The gradient with respect to each input, as ops on the tape.
    ///
    /// # Errors
    /// By default [`Error::Setting`]: an op without a rule stops differentiation
    /// instead of passing a silent zero.
    fn gradient(&self, backward: &mut Backward<'_>) -> Result<Vec<Option<Value>>> {
        let _ = backward;
        Err(Error::setting(
            "gradient",
            self.name(),
            "an op with a gradient rule on every path from a parameter to the cost",
        ))
    }

    /// The gradient with respect to each input where several outputs may have one. By default that of
    /// output 0 alone, by [`Op::gradient`].
    ///
    /// # Errors
    /// By default [`Error::Setting`] where another output than the first has a gradient, instead of
    /// leaving it out.
    fn gradients(&self, backward: &mut Backward<'_>) -> Result<Vec<Option<Value>>> {
        match backward.upstreams {
            [Some(_), rest @ ..] if rest.iter().all(Option::is_none) => self.gradient(backward),
            upstreams => {
                let output = upstreams.iter().rposition(Option::is_some).unwrap_or(0);
                Err(Error::setting(
                    "gradient",
                    format!("output {output} of {} on a path to the cost", self.name()),
                    "output 0, the only one that the op has a gradient rule for",
                ))
            }
        }
    }

    /// What this op computes element by element, as an expression of its inputs of these types: then it
    /// can stand at the end of the kernel that makes one of them.
    fn expression(&self, inputs: &[Type]) -> Option<pointwise::Pointwise> {
        let _ = inputs;
        None
    }

    /// What every element of its only output is where every element of its only input is `value`, of an op that repeats
    /// its input's elements: then a constant stays one.
    fn of_constant(&self, value: f64) -> Option<f64> {
        let _ = value;
        None
    }

    /// Writes the op in ONNX's operators and returns the names of its outputs, empty for those that no
    /// operator makes. By default the operators of the expression that it is.
    ///
    /// # Errors
    /// [`Error::Setting`] for an op, or a form of one, that ONNX has no operator for; by default for an
    /// op that is no expression.
    fn onnx(&self, site: &mut Site<'_>) -> Result<Vec<String>> {
        match self.expression(site.types()) {
            Some(expression) => expression.operators(site),
            None => Err(site.refused("an op that does not say what it is there")),
        }
    }

    /// The expression that this op ends in, if it does.
    fn ending(&self) -> Option<&pointwise::Ending> {
        None
    }

    /// This op with an expression of its output 0 at its end, in place of the one that it has; the
    /// expression's further inputs follow the op's own. `None` where the op's kernels take none, or
    /// not so many bindings.
    fn with_ending(&self, ending: &pointwise::Ending) -> Option<Arc<dyn Op>> {
        let _ = ending;
        None
    }

    /// How many bindings the op's launch has, if all its kernels hand the elements of output 0 over at
    /// their only port: then any expression of these can stand at their end
    /// ([`pointwise::WithEnding`]). Of several launches it is the last that hands them over.
    fn port(&self) -> Option<usize> {
        None
    }
}

/// One row of the op table.
#[derive(Debug)]
pub struct Row {
    /// The stem of the op's Rust file and of its shader.
    pub stem: &'static str,
    /// Its kernels; empty for views.
    pub kernels: &'static [&'static Kernel],
    /// The cases that hurt it.
    pub cases: fn() -> Vec<Case>,
}

/// The table's rows: one line per op.
macro_rules! table {
    ($($stem:ident),* $(,)?) => {
        /// Every op of the crate.
        pub static TABLE: &[Row] = &[
            $(Row { stem: stringify!($stem), kernels: $stem::KERNELS, cases: $stem::cases }),*
        ];
    };
}

// Modules stand outside of the macro: rustfmt finds no file that a macro declares.
pub mod activation;
pub mod adaptive_avg_pool2d;
pub mod adaptive_max_pool2d;
pub mod add;
pub mod add_bias;
pub mod advance;
pub mod argmax;
pub mod attention;
pub mod augment;
pub mod average;
pub mod avg_pool2d;
pub mod bmm;
pub mod broadcast;
pub mod concat;
pub mod constant;
pub mod conv2d;
pub mod conv2d_pool;
pub mod conv_transpose2d;
pub mod cross_entropy;
pub mod cumsum;
pub mod dense_grad;
pub mod dense_loss;
pub mod detach;
pub mod distort;
pub mod dropout;
pub mod embedding;
pub mod epoch_metrics;
pub mod finite;
pub mod gather;
pub mod hadamard;
pub mod heads;
pub mod init;
pub mod log_likelihood;
pub mod log_softmax;
pub mod lrn;
pub mod matmul;
pub mod max_pool2d;
pub mod norm;
pub mod pad;
pub mod permute;
pub mod pointwise;
pub mod quadratic;
pub mod recurrent;
pub mod reduce;
pub mod reduction;
pub mod reshape;
pub mod rows;
pub mod rows_pair;
pub mod scale;
pub mod shuffle;
pub mod slice;
pub mod softmax;
pub mod split;
pub mod squares;
pub mod upsample;

table! {
    activation,
    adaptive_avg_pool2d,
    adaptive_max_pool2d,
    add,
    add_bias,
    advance,
    argmax,
    attention,
    augment,
    average,
    avg_pool2d,
    bmm,
    broadcast,
    concat,
    constant,
    conv2d,
    conv2d_pool,
    conv_transpose2d,
    cross_entropy,
    cumsum,
    dense_grad,
    dense_loss,
    detach,
    distort,
    dropout,
    embedding,
    epoch_metrics,
    finite,
    gather,
    hadamard,
    heads,
    init,
    log_likelihood,
    log_softmax,
    lrn,
    matmul,
    max_pool2d,
    norm,
    pad,
    permute,
    pointwise,
    quadratic,
    recurrent,
    reduce,
    reduction,
    reshape,
    rows,
    rows_pair,
    scale,
    shuffle,
    slice,
    softmax,
    split,
    squares,
    upsample,
}

//! Expressions: whatever computes element by element.
//!
//! An [`Expr`] is a small tree over the inputs of an op: arithmetic, comparisons, functions, the
//! step, random draws by place of use. It is written once, and everything else comes from it: the
//! WGSL (`wgsl`), the CPU function in f32 and f64 (`machine`), the derivative (`derivative`),
//! how far a device may be off (`error`).
//!
//! ```
//! use wgrad::expr::Expr;
//!
//! // Huber's loss of a difference (Huber 1964), with its corner at 1.
//! fn huber(d: &Expr) -> Expr {
//!     let size = d.abs();
//!     size.lt(1.0).select(d * d * 0.5, &size - 0.5)
//! }
//! let d = Expr::input(0) - Expr::input(1);
//! assert_eq!(huber(&d).value(&[3.0, 1.0])?, 1.5);
//! assert_eq!(huber(&d).value(&[0.5, 1.0])?, 0.125);
//! # Ok::<(), wgrad::Error>(())
//! ```
//!
//! Conventions, tested: `max` and `min` pass NaN on, and of equal numbers the gradient goes to the
//! first; `sign(0) = 0`; the slope of `abs` and of `relu` at 0 is 0; a comparison with NaN is false.

use std::sync::Arc;

pub mod activations;
mod derivative;
mod error;
mod issue;
mod machine;
mod operators;
mod program;
mod scalar;
mod wgsl;

pub(crate) use derivative::reverse;
pub(crate) use error::bounds;
pub(crate) use issue::{DRAW, instructions};
pub(crate) use machine::{Constants, Layout, Machine, Operand, Part, Plane};
pub(crate) use program::{Builder, Program};
pub(crate) use wgsl::{FUNCTIONS, Names, body};

use crate::error::{Error, Result};

/// A function of one number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Unary {
    Neg,
    Abs,
    Sign,
    Floor,
    Exp,
    Expm1,
    Log,
    Log1p,
    Sqrt,
    Rsqrt,
    Sin,
    Cos,
    Tanh,
    Sigmoid,
    Erf,
    Softplus,
    Relu,
}

/// A function of two numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Binary {
    Add,
    Sub,
    Mul,
    Div,
    Min,
    Max,
    Pow,
}

/// How two numbers compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Compare {
    Less,
    AtMost,
    Equal,
}

/// One node of an expression, over operands `T`: other nodes in a tree, numbers of earlier lines in
/// a [`Program`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Form<T> {
    /// A number, by the bits of its f64.
    Constant(u64),
    /// A number that a launch gives, where the text of a kernel is not to depend on it.
    Parameter(u32),
    /// This element of an input.
    Input(u32),
    /// An element of an input: the one that a number, rounded down, counts to, or the nearest there is.
    At(u32, T),
    /// The number of the step.
    Step,
    /// A uniform number of a stream.
    Uniform(u32),
    /// Whether a random word of a stream is at least a threshold (a number, or its place in a list).
    Chance(u32, u32),
    Unary(Unary, T),
    Binary(Binary, T, T),
    Compare(Compare, T, T),
    Not(T),
    And(T, T),
    Or(T, T),
    Select(T, T, T),
}

impl<T: Copy> Form<T> {
    /// The same over other operands, made in order.
    pub(crate) fn map<U>(self, mut f: impl FnMut(T) -> U) -> Form<U> {
        match self {
            Self::Constant(bits) => Form::Constant(bits),
            Self::Parameter(k) => Form::Parameter(k),
            Self::Input(k) => Form::Input(k),
            Self::At(k, a) => Form::At(k, f(a)),
            Self::Step => Form::Step,
            Self::Uniform(stream) => Form::Uniform(stream),
            Self::Chance(stream, threshold) => Form::Chance(stream, threshold),
            Self::Unary(op, a) => Form::Unary(op, f(a)),
            Self::Binary(op, a, b) => {
                let a = f(a);
                Form::Binary(op, a, f(b))
            }
            Self::Compare(op, a, b) => {
                let a = f(a);
                Form::Compare(op, a, f(b))
            }
            Self::Not(a) => Form::Not(f(a)),
            Self::And(a, b) => {
                let a = f(a);
                Form::And(a, f(b))
            }
            Self::Or(a, b) => {
                let a = f(a);
                Form::Or(a, f(b))
            }
            Self::Select(c, a, b) => {
                let c = f(c);
                let a = f(a);
                Form::Select(c, a, f(b))
            }
        }
    }

    /// Whether it is true or false.
    pub(crate) fn is_condition(&self) -> bool {
        matches!(
            self,
            Self::Compare(..) | Self::Not(_) | Self::And(..) | Self::Or(..) | Self::Chance(..)
        )
    }

    /// Its operands in order.
    pub(crate) fn operands(self) -> smallvec::SmallVec<[T; 3]> {
        let mut all = smallvec::SmallVec::new();
        self.map(|operand| all.push(operand));
        all
    }
}

/// A node of a tree; subtrees may be shared.
#[derive(Debug)]
pub(crate) struct Node(pub(crate) Form<u32>, pub(crate) Vec<Arc<Node>>);

impl Drop for Node {
    /// One by one: a tree as deep as a user's loop was long would overflow the stack.
    fn drop(&mut self) {
        let mut left = std::mem::take(&mut self.1);
        while let Some(operand) = left.pop() {
            if let Some(mut node) = Arc::into_inner(operand) {
                left.append(&mut node.1);
            }
        }
    }
}

/// A number per element.
#[derive(Clone, Debug)]
pub struct Expr(pub(crate) Arc<Node>);

/// True or false per element.
#[derive(Clone, Debug)]
pub struct Condition(pub(crate) Arc<Node>);

fn leaf(form: Form<u32>) -> Arc<Node> {
    Arc::new(Node(form, vec![]))
}

/// A node over these operands; the form's own are their places in the list.
fn node(form: Form<u32>, operands: &[&Arc<Node>]) -> Arc<Node> {
    let operands = operands.iter().map(|&operand| Arc::clone(operand));
    Arc::new(Node(form, operands.collect()))
}

impl Expr {
    /// The same number for every element.
    pub fn constant(value: f64) -> Self {
        Self(leaf(Form::Constant(value.to_bits())))
    }

    /// This element of input number `input`, counted from 0. An input that has fewer elements is
    /// broadcast.
    pub fn input(input: usize) -> Self {
        Self(leaf(Form::Input(input as u32)))
    }

    /// An element of input number `input`, whatever its shape: the one that `index`, rounded down,
    /// counts to in row-major order; below the first it is the first, past the last the last. A
    /// table of rates is read so. No gradient reaches the input or the index.
    pub fn at(input: usize, index: impl Into<Self>) -> Self {
        Self(node(Form::At(input as u32, 0), &[&index.into().0]))
    }

    /// The number of the step under way, from 0; exact up to 2²⁴.
    pub fn step() -> Self {
        Self(leaf(Form::Step))
    }

    /// A uniform number in `[0, 1)`, another one for each element, step, replica and stream.
    /// Streams from [`crate::rng::streams::USER`] on are nobody else's.
    pub fn uniform(stream: u32) -> Self {
        Self(leaf(Form::Uniform(stream)))
    }

    /// The value of the expression for one element with these inputs, in f64.
    ///
    /// # Errors
    /// [`Error::Setting`] for an input that is not given, and for an expression that needs more
    /// than its inputs: the step, a random draw, an element elsewhere.
    pub fn value(&self, inputs: &[f64]) -> Result<f64> {
        let program = Program::of(std::slice::from_ref(self));
        for form in program.forms() {
            let found = match *form {
                Form::Input(k) if k as usize >= inputs.len() => format!("input {k}"),
                Form::Step => "the step".into(),
                Form::Uniform(_) | Form::Chance(..) => "a random draw".into(),
                Form::At(..) => "an element elsewhere".into(),
                _ => continue,
            };
            let wanted = format!(
                "the {} inputs that are given, and nothing else",
                inputs.len()
            );
            return Err(Error::setting("expression", found, wanted));
        }
        Ok(error::values(&program, inputs)[0])
    }
}

impl Condition {
    /// True with probability `probability` for each element, step, replica and stream: by words of
    /// 32 bits, so exactly as often as ⌊probability · 2³² + ½⌋ / 2³².
    pub fn chance(stream: u32, probability: f64) -> Self {
        let words = 4_294_967_296.0;
        let threshold = ((1.0 - probability.clamp(0.0, 1.0)) * words).round();
        // No word is at least 2³²: never.
        if threshold >= words {
            return Expr::constant(1.0).lt(0.0);
        }
        Self::at_least(stream, threshold as u32)
    }

    /// Whether this element's word of a stream is at least this one.
    pub(crate) fn at_least(stream: u32, threshold: u32) -> Self {
        Self(leaf(Form::Chance(stream, threshold)))
    }
}

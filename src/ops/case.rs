//! The cases that an op lists to be tested on.

use std::fmt;
use std::sync::Arc;

use crate::shape::Type;

use super::Op;
use super::window::Window;

/// How the harness fills an input of a case.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fill {
    /// Uniform in `[low, high)`.
    Uniform(f64, f64),
    /// Uniform in ±[0.1, 1): no value near a kink at zero.
    AwayFromZero,
    /// All different, at least 1e-3 apart, in random order: no ties for a maximum.
    Distinct,
    /// Uniform in `[0.1, 0.9)`, one in three exactly 0: what dropout leaves.
    Sparse,
    /// Few different values, so that ties abound.
    Ties,
    /// Integers below the bound.
    Below(u32),
    /// For the argmax `[.., H_o, W_o]` of a pool: some place h · W + w of each one's window.
    Winner(Window, [usize; 2]),
    /// Random 32-bit words (packed bytes).
    Words,
    /// The replica's key: seed low, seed high, replica identity, 0.
    Keys,
    /// These integers in turn.
    Pair(u32, u32),
    /// This number in every element.
    Number(f64),
    /// From one number to another in equal steps, in order of place.
    Rising(f64, f64),
    /// Uniform in `[-1, 1)`, but for this number at this place in the last replica.
    Spoiled(usize, f64),
}

/// One input of a case.
#[derive(Clone, Debug)]
pub struct Given {
    /// Its type.
    pub ty: Type,
    /// How it is filled.
    pub fill: Fill,
    /// Whether the gradient test differentiates with respect to it.
    pub differentiate: bool,
}

/// An op with inputs: the harness compares GPU, CPU executor and reference on it, and
/// its gradient with central differences.
#[derive(Clone, Debug)]
pub struct Case {
    /// The op with its attributes.
    pub op: Arc<dyn Op>,
    /// The inputs.
    pub inputs: Vec<Given>,
    /// Terms added up for one output element; the tolerance grows with its root.
    pub terms: usize,
}

impl Case {
    /// A case of `op` whose outputs are sums of about `terms` products.
    pub fn new(op: impl Op + 'static, terms: usize) -> Self {
        Self {
            op: Arc::new(op),
            inputs: Vec::new(),
            terms,
        }
    }

    /// Adds a float input of each replica, differentiated in the gradient test.
    pub fn float(mut self, extents: &[usize], fill: Fill) -> Self {
        self.push(Type::f32("case", extents), fill, true);
        self
    }

    /// Adds a float input that no gradient is taken with respect to.
    pub fn fixed(mut self, extents: &[usize], fill: Fill) -> Self {
        self.push(Type::f32("case", extents), fill, false);
        self
    }

    /// Adds an integer input of each replica.
    pub fn u32(mut self, extents: &[usize], fill: Fill) -> Self {
        self.push(Type::u32("case", extents), fill, false);
        self
    }

    /// Adds a float input shared by all replicas, data and nothing that is differentiated.
    pub fn shared_float(mut self, extents: &[usize], fill: Fill) -> Self {
        self.push(Type::f32("case", extents).map(Type::shared), fill, false);
        self
    }

    /// Adds an integer input shared by all replicas.
    pub fn shared_u32(mut self, extents: &[usize], fill: Fill) -> Self {
        self.push(Type::u32("case", extents).map(Type::shared), fill, false);
        self
    }

    /// The case without gradient checks (ops that have none, or inputs at a kink).
    pub fn forward_only(mut self) -> Self {
        for given in &mut self.inputs {
            given.differentiate = false;
        }
        self
    }

    fn push(&mut self, ty: crate::error::Result<Type>, fill: Fill, differentiate: bool) {
        // A case with an impossible shape is left short of an input, which its op's
        // shape rule then refuses in the test.
        if let Ok(ty) = ty {
            self.inputs.push(Given {
                ty,
                fill,
                differentiate,
            });
        }
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let types: Vec<String> = self.inputs.iter().map(|g| g.ty.to_string()).collect();
        write!(f, "{:?} on {}", self.op, types.join(", "))
    }
}

//! Sum over all axes but one, or over all: `y[c] = f Σ x[…, c, …]`. With f = 1/count it is
//! a mean. The gradient is a [`Broadcast`] by the same factor; nothing is saved.
//!
//! A bias's gradient is such a sum (Nielsen, BP3, over a mini-batch); the kernel can end in an
//! expression of y, such as the update of the parameter whose gradient y is.
//!
//! One workgroup makes one element of y: its threads add up strided shares, then a tree
//! adds the shares, always in the same order.

use std::sync::Arc;

use super::broadcast::Broadcast;
use super::launch::{around, finite};
use super::pointwise::{Ended, Ending, ended_case, finished};
use super::{Backward, Case, Fill, Lowered, Lowering, Op, Operand, Value, floats, grid};
use crate::error::{Error, Result};
use crate::kernel::{Args, Bind, Kernel, Port};
use crate::shape::Type;
use crate::tensor::Real;

/// y = f Σ x: input x of any shape and what the ending asks for; output y `[C]` where an axis is
/// kept, else `[1]`, or the ending's.
#[derive(Clone, Debug)]
pub struct Reduce {
    /// The axis that is kept; `None` sums over all.
    pub axis: Option<usize>,
    /// The factor f.
    pub factor: f64,
    /// An expression of y.
    pub ending: Option<Ending>,
}

impl Reduce {
    /// A bare sum.
    pub fn new(axis: Option<usize>, factor: f64) -> Self {
        Self {
            axis,
            factor,
            ending: None,
        }
    }
}

impl Op for Reduce {
    fn name(&self) -> &'static str {
        "reduce"
    }

    fn infer(&self, inputs: &[Type]) -> Result<Vec<Type>> {
        let [x, rest @ ..] = inputs else {
            return Err(Error::shape("reduce", "no inputs", "x first"));
        };
        floats("reduce", "x", x)?;
        finite("reduce", self.factor)?;
        let [_, c, _] = around("reduce", x, self.axis)?;
        let y = Type::f32("reduce", &[c])?;
        match &self.ending {
            None if rest.is_empty() => Ok(vec![y]),
            None => {
                let found = format!("{} inputs", inputs.len());
                Err(Error::shape("reduce", found, "1: x"))
            }
            Some(ending) => ending.infer(&y, rest),
        }
    }

    fn lower(&self, inputs: &[Type], _: &[Type]) -> Result<Lowering> {
        let [outer, c, inner] = around("reduce", &inputs[0], self.axis)?;
        let constants = vec![
            ("OUTER", outer as f64),
            ("C", c as f64),
            ("INNER", inner as f64),
            ("FACTOR", self.factor),
        ];
        let sum = Lowered {
            kernel: &REDUCE,
            constants,
            operands: vec![Operand::In(0), Operand::Out(0)],
            grid: grid(c, 1),
            flops: inputs[0].elements() as u64,
            alternatives: vec![],
        };
        let ends = Ended::only(self.ending.as_ref(), 1, &[c]);
        Ok(Lowering::Launch(finished(sum, &ends, inputs)?))
    }

    fn gradient(&self, b: &mut Backward<'_>) -> Result<Vec<Option<Value>>> {
        let broadcast = Broadcast {
            extents: b.tape.ty(b.inputs[0])?.shape.extents().to_vec(),
            axis: self.axis,
            factor: self.factor,
        };
        Ok(vec![Some(b.tape.op1(Arc::new(broadcast), &[b.upstream])?)])
    }

    fn ending(&self) -> Option<&Ending> {
        self.ending.as_ref()
    }

    fn with_ending(&self, ending: &Ending) -> Option<Arc<dyn Op>> {
        let ending = ending.beside(REDUCE.bindings.len())?;
        Some(Arc::new(Self {
            ending: Some(ending),
            ..*self
        }))
    }
}

const SOURCE: &str = concat!(
    include_str!("../../shaders/shared/nan.wgsl"),
    include_str!("../../shaders/shared/tree.wgsl"),
    include_str!("../../shaders/reduce.wgsl"),
    crate::port!("finish"),
);

/// y = f Σ x.
pub static REDUCE: Kernel = Kernel {
    name: "reduce",
    turns: "OUTER * INNER / 256 + 32",
    stem: "reduce",
    source: SOURCE,
    bindings: &[
        Bind::read("x").of("OUTER * C * INNER"),
        Bind::write("y").of("C"),
    ],
    constants: &["OUTER", "C", "INNER", "FACTOR"],
    reference: crate::reference!(reduce),
    fast: None,
    trusted: true,
    ports: &[Port::finish(1, "1")],
    finishing: None,
};

/// The kernels of this file.
pub static KERNELS: &[&Kernel] = &[&REDUCE];

fn reduce<T: Real>(a: &mut Args<'_, T>) {
    let (c, inner, factor) = (a.size("C"), a.size("INNER"), T::of(a.number("FACTOR")));
    let (x, y) = (a.f(0), a.f_mut(1)); // [OUTER, C, INNER], [C]
    y.fill(T::ZERO);
    for (row, x) in x.chunks(inner).enumerate() {
        y[row % c] += x.iter().copied().sum();
    }
    for y in y {
        *y *= factor;
    }
}

/// First, middle, last and no axis; fewer, as many and more summands than threads; expressions at
/// the end.
pub fn cases() -> Vec<Case> {
    let uniform = Fill::Uniform(-1.0, 1.0);
    let case = |extents: &[usize], axis: Option<usize>, factor| {
        let kept = axis.map_or(1, |axis| extents[axis]);
        let terms = extents.iter().product::<usize>() / kept;
        Case::new(Reduce::new(axis, factor), terms).float(extents, uniform)
    };
    let mut cases = vec![
        case(&[1], None, 2.0),
        case(&[1], Some(0), 1.0),
        case(&[5, 7], Some(0), 0.2),
        case(&[5, 7], Some(1), -1.0),
        case(&[5, 7], None, 1.0 / 35.0),
        case(&[3, 5, 7, 2], Some(1), 1.0),
        case(&[3, 5, 7, 2], Some(2), 0.5),
        case(&[5, 7], Some(1), 0.0),
        case(&[256, 2], Some(1), 1.0).forward_only(),
        case(&[257, 3], Some(1), 1.0).forward_only(),
        case(&[10, 3, 23, 9], Some(1), 0.1).forward_only(),
        case(&[5003], None, 1.0).forward_only(),
    ];
    let shapes = [&[1usize, 1][..], &[13, 30], &[3, 5, 17, 11], &[257, 3]];
    for (turn, extents) in shapes.into_iter().enumerate() {
        let bare = case(extents, Some(1), 0.3);
        let ended = |ending| Reduce {
            ending: Some(ending),
            ..Reduce::new(Some(1), 0.3)
        };
        cases.push(ended_case(&bare, &extents[1..2], turn, |ending| {
            Arc::new(ended(ending))
        }));
    }
    cases
}

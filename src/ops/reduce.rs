//! Sum over all axes but one, or over all: `y[c] = f Σ x[…, c, …]`. With f = 1/count it is
//! a mean. The gradient is a [`Broadcast`] by the same factor; nothing is saved.
//!
//! A bias's gradient is such a sum (Nielsen, BP3, over a mini-batch), so the kernel can
//! end in the update of the parameter whose gradient y is.
//!
//! One workgroup makes one element of y: its threads add up strided shares, then a tree
//! adds the shares, always in the same order.

use std::sync::Arc;

use super::broadcast::Broadcast;
use super::launch::{around, finite};
use super::sgd::{self, Rates, Sgd};
use super::{Backward, Case, Epilogue, Fill, Lowered, Lowering, Op, Operand, Value, floats, grid};
use crate::error::{Error, Result};
use crate::kernel::{Args, Bind, Kernel};
use crate::shape::Type;
use crate::tensor::Real;

/// y = f Σ x: input x of any shape; output y `[C]` where an axis is kept, else `[1]`.
/// With an update, the inputs after x are those of [`Sgd`] and there is no output.
#[derive(Clone, Copy, Debug)]
pub struct Reduce {
    /// The axis that is kept; `None` sums over all.
    pub axis: Option<usize>,
    /// The factor f.
    pub factor: f64,
    /// y is the gradient of a parameter `[C]`, which is updated by it.
    pub update: Option<Sgd>,
}

impl Reduce {
    /// A bare sum.
    pub fn new(axis: Option<usize>, factor: f64) -> Self {
        Self {
            axis,
            factor,
            update: None,
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
        match &self.update {
            None if rest.is_empty() => Ok(vec![y]),
            None => {
                let found = format!("{} inputs", inputs.len());
                Err(Error::shape("reduce", found, "1: x"))
            }
            Some(_) if self.axis.is_none() => {
                let wanted = "an axis to keep, along which the parameter runs";
                Err(Error::setting(
                    "axis of reduce with an update",
                    "none",
                    wanted,
                ))
            }
            Some(sgd) => {
                sgd.check(&y, rest)?;
                Ok(vec![])
            }
        }
    }

    fn lower(&self, inputs: &[Type], _: &[Type]) -> Result<Lowering> {
        let [outer, c, inner] = around("reduce", &inputs[0], self.axis)?;
        let mut constants = vec![
            ("OUTER", outer as f64),
            ("C", c as f64),
            ("INNER", inner as f64),
            ("FACTOR", self.factor),
        ];
        let mut operands: Vec<_> = (0..inputs.len()).map(Operand::In).collect();
        let kernel = match &self.update {
            None => {
                operands.push(Operand::Out(0));
                &REDUCE
            }
            Some(sgd) => {
                constants.extend(sgd.constants());
                if sgd.momentum {
                    &REDUCE_SGD_MOMENTUM
                } else {
                    &REDUCE_SGD
                }
            }
        };
        Ok(Lowering::Launch(Lowered {
            kernel,
            constants,
            operands,
            grid: grid(c, 1),
            flops: inputs[0].elements() as u64,
            alternatives: vec![],
        }))
    }

    fn gradient(&self, b: &mut Backward<'_>) -> Result<Vec<Option<Value>>> {
        let broadcast = Broadcast {
            extents: b.tape.ty(b.inputs[0])?.shape.extents().to_vec(),
            axis: self.axis,
            factor: self.factor,
        };
        Ok(vec![Some(b.tape.op1(Arc::new(broadcast), &[b.upstream])?)])
    }

    fn with_epilogue(&self, epilogue: &Epilogue) -> Option<Arc<dyn Op>> {
        match (self.update, self.axis, epilogue) {
            (None, Some(_), Epilogue::Sgd(sgd)) => Some(Arc::new(Self {
                update: Some(*sgd),
                ..*self
            })),
            _ => None,
        }
    }
}

const SOURCE: &str = concat!(
    include_str!("../../shaders/shared/nan.wgsl"),
    include_str!("../../shaders/shared/tree.wgsl"),
    include_str!("../../shaders/shared/sgd.wgsl"),
    include_str!("../../shaders/reduce.wgsl"),
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
};

/// f Σ x is the gradient that updates w.
pub static REDUCE_SGD: Kernel = Kernel {
    name: "reduce_sgd",
    turns: "OUTER * INNER / 256 + 32",
    bindings: &[
        Bind::read("x").of("OUTER * C * INNER"),
        Bind::update("w").of("C"),
        Bind::read("hyper").of("4 + SCHEDULE"),
        Bind::read("step").u32().of("2"),
    ],
    constants: SGD_CONSTANTS,
    reference: crate::reference!(reduce_sgd),
    ..REDUCE
};

/// The same with momentum.
pub static REDUCE_SGD_MOMENTUM: Kernel = Kernel {
    name: "reduce_sgd_momentum",
    turns: "OUTER * INNER / 256 + 32",
    bindings: &[
        Bind::read("x").of("OUTER * C * INNER"),
        Bind::update("w").of("C"),
        Bind::read("hyper").of("4 + SCHEDULE"),
        Bind::read("step").u32().of("2"),
        Bind::update("v").of("C"),
    ],
    constants: SGD_CONSTANTS,
    reference: crate::reference!(reduce_sgd_momentum),
    ..REDUCE
};

const SGD_CONSTANTS: &[&str] = &[
    "OUTER",
    "C",
    "INNER",
    "FACTOR",
    "DECAY",
    "EPOCH_STEPS",
    "SCHEDULE",
];

/// The kernels of this file.
pub static KERNELS: &[&Kernel] = &[&REDUCE, &REDUCE_SGD, &REDUCE_SGD_MOMENTUM];

/// f Σ x of binding 0.
fn sums<T: Real>(a: &Args<'_, T>) -> Vec<T> {
    let (c, inner, factor) = (a.size("C"), a.size("INNER"), T::of(a.number("FACTOR")));
    let x = a.f(0); // [OUTER, C, INNER]
    let mut sums = vec![T::ZERO; c];
    for (row, x) in x.chunks(inner).enumerate() {
        sums[row % c] += x.iter().copied().sum();
    }
    for sum in &mut sums {
        *sum *= factor;
    }
    sums
}

fn reduce<T: Real>(a: &mut Args<'_, T>) {
    let y = a.f_mut(1); // [C]
    y.copy_from_slice(&sums(a));
}

fn reduce_sgd<T: Real>(a: &mut Args<'_, T>) {
    let rates = Rates::of(a, a.f(2), a.u(3));
    let w = a.f_mut(1); // [C]
    rates.update(w, None, &sums(a));
}

fn reduce_sgd_momentum<T: Real>(a: &mut Args<'_, T>) {
    let rates = Rates::of(a, a.f(2), a.u(3));
    let (w, v) = (a.f_mut(1), a.f_mut(4)); // [C], [C]
    rates.update(w, Some(v), &sums(a));
}

/// First, middle, last and no axis; fewer, as many and more summands than threads; the
/// updates.
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
    for momentum in [false, true] {
        let sgd = Sgd {
            decay: momentum,
            momentum,
            epoch_steps: 3,
            schedule: 2,
        };
        for extents in [&[1usize, 1][..], &[13, 30], &[3, 5, 17, 11]] {
            let op = Reduce {
                update: Some(sgd),
                ..Reduce::new(Some(1), 0.3)
            };
            let terms = extents.iter().product::<usize>() / extents[1];
            let case = Case::new(op, terms).fixed(extents, uniform);
            cases.push(sgd::case_inputs(case, sgd, &extents[1..2]));
        }
    }
    cases
}

//! Sum over all axes but one, or over all: `y[c] = f Σ x[…, c, …]`. With f = 1/count it is
//! a mean. The gradient is a [`Broadcast`] by the same factor; nothing is saved.
//!
//! A bias's gradient is such a sum (Nielsen, BP3, over a mini-batch); the kernel can end in an
//! expression of y, such as the update of the parameter whose gradient y is.
//!
//! One workgroup makes one element of y: its threads add up strided shares, then a tree
//! adds the shares, always in the same order. Where few elements of y have many summands each, there
//! are two launches, lest a few workgroups do all the work: one adds up runs of neighbours, a
//! workgroup for each, and the other these sums. Into how many runs follows from the sizes alone
//! (`runs`). Of a broad matrix's columns eight neighbours share a workgroup (`reduce_columns`).

use std::sync::Arc;

use super::broadcast::Broadcast;
use super::checks::{around, finite};
use super::launch::runs;
use super::pointwise::{Ended, Ending, ended_case, finished};
use super::{Backward, Case, Fill, Lowered, Lowering, Op, Operand, Stages, Value, floats, grid};
use crate::error::{Error, Result};
use crate::kernel::{Args, Bind, Demand, Kernel, Port, Target};
use crate::shape::Type;
use crate::tensor::Real;

mod optimized;

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
        let runs = runs(c, outer * inner);
        let whole = |outer: usize, inner: usize, from: Operand| Lowered {
            kernel: &REDUCE,
            constants: vec![
                ("OUTER", outer as f64),
                ("C", c as f64),
                ("INNER", inner as f64),
                ("FACTOR", self.factor),
            ],
            operands: vec![from, Operand::Out(0)],
            grid: grid(c, 1),
            flops: (outer * c * inner) as u64,
            alternatives: vec![],
        };
        let ends = Ended::only(self.ending.as_ref(), 1, &[c]);
        if runs == 1 {
            let mut sum = whole(outer, inner, Operand::In(0));
            if inner == 1 && c >= BROAD {
                let rows = sum.otherwise(Target::Gpu, &REDUCE, sum.grid);
                let columns = grid(c.div_ceil(COLUMNS), 1);
                let columns = sum.otherwise(Target::Gpu, &REDUCE_COLUMNS, columns);
                sum = sum.by(vec![columns, rows]);
            }
            if outer * inner <= SHORT {
                sum.alternatives.push(sum.side_by_side(&REDUCE_SHORT, c));
            }
            return Ok(Lowering::Launch(finished(sum, &ends, inputs)?));
        }
        let shares = Lowered {
            kernel: &REDUCE_SHARES,
            constants: vec![
                ("OUTER", outer as f64),
                ("C", c as f64),
                ("INNER", inner as f64),
                ("RUNS", runs as f64),
            ],
            operands: vec![Operand::In(0), Operand::Scratch(0)],
            grid: grid(c * runs, 1),
            flops: inputs[0].elements() as u64,
            alternatives: vec![],
        };
        let sum = whole(1, runs, Operand::Scratch(0));
        Ok(Lowering::Stages(Stages {
            scratch: vec![Type::f32("reduce", &[c, runs])?],
            launches: vec![shares, finished(sum, &ends, inputs)?],
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

/// Sums of a workgroup whose terms are neighbours in memory; `COLUMNS` of the shader.
const COLUMNS: usize = 8;
/// So many sums that what is loaded in vain of each sector takes longer than fewer workgroups' longer chains of loads.
const BROAD: usize = 128;

/// Terms up to which a thread makes a sum by itself within a launch of a whole program.
const SHORT: usize = 256;

const SOURCE: &str = concat!(
    include_str!("../../shaders/shared/grid.wgsl"),
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
    optimized: Some(optimized::reduce),
    // Memory gives whole sectors of eight words. What the ending loads is a round.
    demand: Demand {
        rounds: "OUTER * INNER / 1024 + 1",
        barriers: "10",
        issue: "OUTER * INNER / 256 * 16 + 120",
        words: "OUTER * (INNER / 8) * 8 + 1",
        ..Demand::UNSTATED
    },
    trusted: true,
    ports: &[Port::finish(1, "1")],
    finishing: None,
};

/// [`REDUCE`] over the rows of a matrix, a sector of columns a workgroup: each of theirs reads but a word of the eight
/// that memory gives. The sums have the same order, and the same bits.
pub static REDUCE_COLUMNS: Kernel = Kernel {
    name: "reduce_columns",
    turns: "OUTER / 256 + 8",
    demand: Demand {
        rounds: "OUTER / 256 + 1",
        barriers: "6",
        issue: "OUTER / 256 * 75 + 110",
        words: "OUTER * 8 + 8",
        ..Demand::UNSTATED
    },
    ..REDUCE
};

/// The sums of runs of neighbours, `[C, RUNS]`.
pub static REDUCE_SHARES: Kernel = Kernel {
    name: "reduce_shares",
    turns: "OUTER * INNER / RUNS / 256 + 32",
    demand: Demand {
        rounds: "OUTER * INNER / RUNS / 1024",
        barriers: "10",
        issue: "OUTER * INNER / RUNS / 256 * 16 + 120",
        words: "OUTER * (INNER / 8) * 8 / RUNS + 1",
        ..Demand::UNSTATED
    },
    bindings: &[
        Bind::read("x").of("OUTER * C * INNER"),
        Bind::write("shares").of("C * RUNS"),
    ],
    constants: &["OUTER", "C", "INNER", "RUNS"],
    reference: crate::reference!(shares),
    optimized: Some(optimized::shares),
    ports: &[],
    ..REDUCE
};

/// [`REDUCE`] of few terms each, a sum a thread.
pub static REDUCE_SHORT: Kernel = Kernel {
    name: "reduce_short",
    demand: Demand {
        rounds: "OUTER * INNER / 4 + 1",
        issue: "OUTER * INNER * 8 + 30",
        words: "OUTER * INNER * 64",
        ..Demand::UNSTATED
    },
    turns: "OUTER * INNER",
    ..REDUCE
};

/// The kernels of this file.
pub static KERNELS: &[&Kernel] = &[&REDUCE, &REDUCE_COLUMNS, &REDUCE_SHARES, &REDUCE_SHORT];

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

fn shares<T: Real>(a: &mut Args<'_, T>) {
    let (c, inner, runs) = (a.size("C"), a.size("INNER"), a.size("RUNS"));
    let terms = a.size("OUTER") * inner;
    let (x, y) = (a.f(0), a.f_mut(1)); // [OUTER, C, INNER], [C, RUNS]
    let run = terms.div_ceil(runs);
    for (share, y) in y.iter_mut().enumerate() {
        let (channel, first) = (share / runs, share % runs * run);
        let terms = first.min(terms)..(first + run).min(terms);
        let places = terms.map(|p| (p / inner * c + channel) * inner + p % inner);
        *y = places.map(|place| x[place]).sum();
    }
}

/// First, middle, last and no axis; fewer, as many and more summands than threads, and so many that
/// there are two launches; expressions at the end.
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
        // Columns, the last ones fewer than a workgroup has.
        case(&[1, 128], Some(1), 1.0),
        case(&[37, 133], Some(1), 1.0),
        case(&[1500, 129], Some(1), 1.0).forward_only(),
        // Blocks of rows, and several tasks, of the CPU.
        case(&[260, 131], Some(1), 0.5).forward_only(),
        case(&[3, 31, 6, 63], Some(1), 0.5).forward_only(),
        // In two launches, the last run shorter than the others.
        case(&[32_771], None, 0.5).forward_only(),
        case(&[7, 3, 4711], Some(1), 1.0).forward_only(),
        case(&[32_777, 3], Some(1), 1.0).forward_only(),
    ];
    let shapes = [
        &[1usize, 1][..],
        &[13, 30],
        &[3, 5, 17, 11],
        &[257, 3],
        &[8, 2, 4099],
        &[5, 131],
    ];
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

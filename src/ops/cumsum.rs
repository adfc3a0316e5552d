//! Cumulative sums along an axis: `y[k] = x[0] + … + x[k]` or, in reverse, `x[k] + … + x[K − 1]`.
//! The gradient is the cumulative sum the other way; nothing is saved.
//!
//! Short rows are a thread's, from one end to the other. A longer row is a workgroup's: each of
//! its threads adds up a run of neighbours, the sums of all runs before each are found by
//! adding what stands 1, 2, 4, … before (Hillis and Steele 1986), and each thread goes through its
//! run again from there.

use std::sync::Arc;

use super::checks::around;
use super::launch::{along_axis, lanes};
use super::softmax::rows;
use super::{Backward, Case, ELEMENTWISE, Fill, Lowered, Lowering, Op, Value, arity, floats, grid};
use crate::error::Result;
use crate::interchange::Site;
use crate::kernel::{Args, Bind, Demand, Kernel};
use crate::shape::Type;
use crate::tensor::Real;

/// y = the cumulative sums of x along an axis: input x of any shape, output y of the same.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cumsum {
    /// The axis, counted from 0.
    pub axis: usize,
    /// From the last element to the first.
    pub reverse: bool,
}

/// Elements up to which a thread makes a row by itself.
const SHORT: usize = 64;

impl Op for Cumsum {
    fn name(&self) -> &'static str {
        "cumsum"
    }

    fn onnx(&self, site: &mut Site<'_>) -> Result<Vec<String>> {
        let (x, axis) = (site.input(0), site.ints(&[self.axis as i64]));
        let reverse = ("reverse", i64::from(self.reverse).into());
        Ok(vec![site.op("CumSum", &[&x, &axis], &[reverse])])
    }

    fn infer(&self, inputs: &[Type]) -> Result<Vec<Type>> {
        let [x] = arity("cumsum", inputs, "x")?;
        floats("cumsum", "x", x)?;
        around("cumsum", x, Some(self.axis))?;
        Ok(vec![x.clone()])
    }

    fn lower(&self, inputs: &[Type], _: &[Type]) -> Result<Lowering> {
        let sizes = around("cumsum", &inputs[0], Some(self.axis))?;
        let [outer, k, inner] = sizes;
        let mut lowered = along_axis([&CUMSUM, &CUMSUM_SHORT], 1, sizes, 1);
        if k <= SHORT {
            lowered = Lowered {
                kernel: &CUMSUM_SHORT,
                grid: grid(outer * inner, ELEMENTWISE),
                ..lowered
            };
        }
        lowered
            .constants
            .extend([("REVERSE", f64::from(u8::from(self.reverse))), lanes(k)]);
        Ok(Lowering::Launch(lowered))
    }

    fn gradient(&self, b: &mut Backward<'_>) -> Result<Vec<Option<Value>>> {
        let back = Self {
            reverse: !self.reverse,
            ..*self
        };
        Ok(vec![Some(b.tape.op1(Arc::new(back), &[b.upstream])?)])
    }
}

/// y, a workgroup for each row.
pub static CUMSUM: Kernel = Kernel {
    name: "cumsum",
    turns: "2 * (K / LANES + 1) + 16",
    stem: "cumsum",
    source: concat!(
        include_str!("../../shaders/shared/grid.wgsl"),
        include_str!("../../shaders/cumsum.wgsl"),
    ),
    bindings: &[Bind::read("x").of("N * K"), Bind::write("y").of("N * K")],
    constants: &["N", "K", "INNER", "REVERSE", "LANES"],
    reference: crate::reference!(cumsum),
    optimized: None,
    // A store keeps the next turn's load back.
    demand: Demand {
        rounds: "K / LANES / 4 + K / LANES",
        barriers: "17",
        issue: "K / LANES * 35 + 200",
        words: "3 * K",
        ..Demand::UNSTATED
    },
    trusted: true,
    ports: &[],
    finishing: None,
};

/// y, a thread for each row.
pub static CUMSUM_SHORT: Kernel = Kernel {
    name: "cumsum_short",
    turns: "K + 8",
    demand: Demand {
        rounds: "K",
        issue: "K * 30 + 30",
        words: "128 * K",
        ..Demand::UNSTATED
    },
    ..CUMSUM
};

/// The kernels of this file.
pub static KERNELS: &[&Kernel] = &[&CUMSUM, &CUMSUM_SHORT];

fn cumsum<T: Real>(a: &mut Args<'_, T>) {
    let reverse = a.size("REVERSE") == 1;
    let (x, y) = (a.f(0), a.f_mut(1)); // [outer, K, INNER] twice
    for row in rows(a) {
        let mut places: Vec<_> = row.collect();
        if reverse {
            places.reverse();
        }
        let mut sum = T::ZERO;
        for at in places {
            sum += x[at];
            y[at] = sum;
        }
    }
}

/// One element, first, middle and last axes, as many elements as a thread takes by itself, one
/// more, as many as a workgroup has threads, one more, many.
pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for reverse in [false, true] {
        for (extents, axis) in [
            (&[1][..], 0),
            (&[5, 7], 1),
            (&[5, 7], 0),
            (&[2, 3, 2, 3], 1),
            (&[2, 67], 1),
            (&[67, 2], 0),
            (&[3, 64], 1),
            (&[3, 65], 1),
            (&[65, 3, 2], 0),
            (&[2, 256], 1),
            (&[2, 257, 2], 1),
            (&[129, 2], 0),
            (&[1, 1024], 1),
            (&[1, 1025], 1),
            (&[1, 1500], 1),
        ] {
            let op = Cumsum { axis, reverse };
            let case = Case::new(op, extents[axis]).float(extents, Fill::Uniform(-1.0, 1.0));
            let small = extents.iter().product::<usize>() < 100;
            cases.push(if small { case } else { case.forward_only() });
        }
    }
    cases
}

//! The axes of a value in another order: `y[i₀, i₁, …] = x[…]` with y's axis k being x's axis
//! `axes[k]`, as `numpy.transpose`. The gradient is the inverse permutation of the upstream
//! gradient; nothing is saved.
//!
//! Where no axis of more than one element passes another, the elements stay in their places and
//! y is a view of x.

use std::sync::Arc;

use super::launch::per_four;
use super::{Backward, Case, Fill, Lowered, Lowering, Op, Value, arity, floats};
use crate::error::{Error, Result};
use crate::interchange::Site;
use crate::kernel::{Args, Bind, Demand, Kernel};
use crate::shape::Type;
use crate::tensor::Real;

/// The most axes that are permuted: kernels have constants for so many.
pub const RANK: usize = 6;

/// y = x with its axes in another order: input x of up to [`RANK`] axes; output y, whose extent
/// k is x's extent `axes[k]`.
#[derive(Debug)]
pub struct Permute {
    /// For each axis of y, the axis of x that it is, counted from 0.
    pub axes: Vec<usize>,
}

impl Permute {
    /// The permutation back.
    fn inverse(&self) -> Self {
        let mut axes = vec![0; self.axes.len()];
        for (k, &axis) in self.axes.iter().enumerate() {
            axes[axis] = k;
        }
        Self { axes }
    }
}

impl Op for Permute {
    fn name(&self) -> &'static str {
        "permute"
    }

    fn onnx(&self, site: &mut Site<'_>) -> Result<Vec<String>> {
        let (x, axes) = (site.input(0), self.axes.iter().map(|&axis| axis as i64));
        let perm = ("perm", axes.collect::<Vec<_>>().into());
        Ok(vec![site.op("Transpose", &[&x], &[perm])])
    }

    fn infer(&self, inputs: &[Type]) -> Result<Vec<Type>> {
        let [x] = arity("permute", inputs, "x")?;
        floats("permute", "x", x)?;
        let rank = x.shape.rank();
        let mut sorted = self.axes.clone();
        sorted.sort_unstable();
        if rank > RANK || !sorted.iter().copied().eq(0..rank) {
            return Err(Error::shape(
                "permute",
                format!("axes {:?} of {x}", self.axes),
                format!("each of x's axes, counted from 0, once; {RANK} axes at most"),
            ));
        }
        let extents: Vec<_> = self.axes.iter().map(|&a| x.shape.extents()[a]).collect();
        Ok(vec![Type::f32("permute", &extents)?])
    }

    fn lower(&self, inputs: &[Type], outputs: &[Type]) -> Result<Lowering> {
        let extents = inputs[0].shape.extents();
        let moved: Vec<_> = self.axes.iter().filter(|&&a| extents[a] > 1).collect();
        if moved.is_sorted() {
            return Ok(Lowering::View);
        }
        // Axes of one element in front, up to the number that the kernel has.
        let mut sizes = [1; RANK];
        let mut strides = [0; RANK];
        let front = RANK - extents.len();
        for (k, &axis) in self.axes.iter().enumerate() {
            sizes[front + k] = extents[axis];
            strides[front + k] = extents[axis + 1..].iter().product();
        }
        let mut constants = Vec::new();
        for (name, &size) in EXTENTS.iter().zip(&sizes[1..]) {
            constants.push((*name, size as f64));
        }
        for (name, &stride) in STRIDES.iter().zip(&strides) {
            constants.push((*name, stride as f64));
        }
        Ok(Lowering::Launch(Lowered {
            flops: 0,
            ..per_four(&PERMUTE, 1, &outputs[0], &constants)
        }))
    }

    fn gradient(&self, b: &mut Backward<'_>) -> Result<Vec<Option<Value>>> {
        let back = Arc::new(self.inverse());
        Ok(vec![Some(b.tape.op1(back, &[b.upstream])?)])
    }
}

const EXTENTS: [&str; RANK - 1] = ["E1", "E2", "E3", "E4", "E5"];
const STRIDES: [&str; RANK] = ["S0", "S1", "S2", "S3", "S4", "S5"];

/// y = x with its axes in another order.
pub static PERMUTE: Kernel = Kernel {
    name: "permute",
    turns: "4",
    stem: "permute",
    source: concat!(
        include_str!("../../shaders/shared/grid.wgsl"),
        include_str!("../../shaders/permute.wgsl"),
    ),
    bindings: &[Bind::read("x").of("N"), Bind::write("y").of("N")],
    constants: &[
        "N", "E1", "E2", "E3", "E4", "E5", "S0", "S1", "S2", "S3", "S4", "S5",
    ],
    reference: crate::reference!(permute),
    optimized: None,
    // Neighbours that are S5 apart are of a sector of eight words as long as S5 is small.
    demand: Demand {
        rounds: "1",
        issue: "300",
        words: "256 + 256 * (8 * S5 / (S5 + 7))",
        ..Demand::UNSTATED
    },
    trusted: true,
    ports: &[],
    finishing: None,
};

/// The kernels of this file.
pub static KERNELS: &[&Kernel] = &[&PERMUTE];

fn permute<T: Real>(a: &mut Args<'_, T>) {
    let extents = EXTENTS.map(|name| a.size(name));
    let strides = STRIDES.map(|name| a.size(name));
    let (x, y) = (a.f(0), a.f_mut(1)); // [N], [N]
    let [.., inner] = extents;
    for (row, y) in y.chunks_mut(inner).enumerate() {
        let (mut rest, mut first) = (row, 0);
        for axis in (1..RANK - 1).rev() {
            first += rest % extents[axis - 1] * strides[axis];
            rest /= extents[axis - 1];
        }
        first += rest * strides[0];
        for (k, y) in y.iter_mut().enumerate() {
            *y = x[first + k * strides[RANK - 1]];
        }
    }
}

/// Two to six axes, turned round, in a circle, two of them swapped, left alone; several
/// workgroups.
pub fn cases() -> Vec<Case> {
    let case = |extents: &[usize], axes: &[usize]| {
        let axes = axes.to_vec();
        Case::new(Permute { axes }, 1).float(extents, Fill::Uniform(-1.0, 1.0))
    };
    vec![
        case(&[1], &[0]),
        case(&[3, 5], &[0, 1]),
        case(&[1, 7], &[1, 0]),
        case(&[5, 3], &[1, 0]),
        case(&[16, 17], &[1, 0]),
        case(&[2, 3, 5], &[2, 0, 1]),
        case(&[3, 1, 5, 7], &[0, 2, 3, 1]),
        case(&[2, 3, 4, 5], &[0, 2, 1, 3]),
        case(&[2, 3, 1, 5, 2], &[4, 2, 0, 3, 1]),
        case(&[2, 3, 2, 1, 3, 5], &[5, 4, 3, 2, 1, 0]),
        case(&[2, 1, 3, 2, 5, 2], &[3, 0, 5, 1, 4, 2]),
        case(&[67, 129], &[1, 0]).forward_only(),
    ]
}

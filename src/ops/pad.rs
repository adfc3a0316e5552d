//! Zeros around a value along an axis: the transpose of [`Slice`], and therefore its
//! gradient, as that one is this one's. Nothing is saved.

use std::sync::Arc;

use super::checks::{around, resized};
use super::launch::per_four;
use super::slice::{Slice, reaches};
use super::{Backward, Case, Fill, Lowered, Lowering, Op, Value, arity, floats};
use crate::error::{Error, Result};
use crate::interchange::Site;
use crate::kernel::{Args, Bind, Demand, Kernel};
use crate::shape::Type;
use crate::tensor::Real;

mod edges;

pub use edges::{Edge, PadEdges, PadEdgesGrad};

/// y = 0 but for `y[…, start .. start + part, …]`, which is x: input x, output y.
#[derive(Debug)]
pub struct Pad {
    /// The axis, counted from 0.
    pub axis: usize,
    /// Where x begins along it: how many zeros are before x.
    pub start: usize,
    /// The extent of y along it.
    pub extent: usize,
    /// How far the elements of x stand from each other in y, 1 at least; zeros stand between.
    pub step: usize,
}

/// Input 0 with elements before and after it along an axis.
fn padded(site: &mut Site<'_>, axis: usize, [before, after]: [usize; 2], mode: &str) -> String {
    let (x, rank) = (site.input(0), site.extents(0).len());
    let mut pads = vec![0; 2 * rank];
    (pads[axis], pads[rank + axis]) = (before as i64, after as i64);
    let pads = site.ints(&pads);
    site.op("Pad", &[&x, &pads], &[("mode", mode.into())])
}

impl Op for Pad {
    fn name(&self) -> &'static str {
        "pad"
    }

    fn onnx(&self, site: &mut Site<'_>) -> Result<Vec<String>> {
        let part = site.fixed(0, self.axis)?;
        if self.step != 1 {
            return Err(site.refused("with zeros between the elements"));
        }
        Ok(vec![padded(
            site,
            self.axis,
            [self.start, self.extent - self.start - part],
            "constant",
        )])
    }

    fn infer(&self, inputs: &[Type]) -> Result<Vec<Type>> {
        let [x] = arity("pad", inputs, "x")?;
        floats("pad", "x", x)?;
        let [_, part, _] = around("pad", x, Some(self.axis))?;
        if !reaches(self.start, self.step, part, self.extent) {
            return Err(Error::shape(
                "pad",
                format!(
                    "{x} at {} of {} in steps of {}",
                    self.start, self.extent, self.step
                ),
                format!("room for the {part} elements along axis {}", self.axis),
            ));
        }
        Ok(vec![resized("pad", x, self.axis, self.extent)?])
    }

    fn lower(&self, inputs: &[Type], outputs: &[Type]) -> Result<Lowering> {
        let [_, part, inner] = around("pad", &inputs[0], Some(self.axis))?;
        let run = |extent: usize| (extent * inner) as f64;
        let constants = [
            ("WHOLE", run(self.extent)),
            ("START", run(self.start)),
            ("PART", run(part)),
            ("INNER", inner as f64),
            ("STEP", self.step as f64),
        ];
        Ok(Lowering::Launch(Lowered {
            flops: 0,
            ..per_four(&PAD, 1, &outputs[0], &constants)
        }))
    }

    fn gradient(&self, b: &mut Backward<'_>) -> Result<Vec<Option<Value>>> {
        let [_, extent, _] = around("pad", b.tape.ty(b.inputs[0])?, Some(self.axis))?;
        let slice = Slice {
            axis: self.axis,
            start: self.start,
            extent,
            step: self.step,
        };
        Ok(vec![Some(b.tape.op1(Arc::new(slice), &[b.upstream])?)])
    }
}

/// y = x with zeros around and between its elements.
pub static PAD: Kernel = Kernel {
    name: "pad",
    turns: "4",
    stem: "pad",
    source: concat!(
        include_str!("../../shaders/shared/grid.wgsl"),
        include_str!("../../shaders/pad.wgsl"),
    ),
    bindings: &[
        Bind::read("x").of("N * PART / WHOLE"),
        Bind::write("y").of("N"),
    ],
    constants: &["N", "WHOLE", "START", "PART", "INNER", "STEP"],
    reference: crate::reference!(pad),
    optimized: None,
    demand: Demand {
        rounds: "1",
        issue: "180",
        words: "512",
        ..Demand::UNSTATED
    },
    trusted: true,
    ports: &[],
    finishing: None,
};

/// The kernels of this file.
pub static KERNELS: &[&Kernel] = &[&PAD, &edges::PAD_EDGES, &edges::PAD_EDGES_GRAD];

fn pad<T: Real>(a: &mut Args<'_, T>) {
    let (whole, start, part) = (a.size("WHOLE"), a.size("START"), a.size("PART"));
    let (x, y) = (a.f(0), a.f_mut(1)); // [outer, PART], [outer, WHOLE]
    let (inner, step) = (a.size("INNER"), a.size("STEP"));
    y.fill(T::ZERO);
    for (y, x) in y.chunks_mut(whole).zip(x.chunks(part)) {
        for (k, x) in x.chunks(inner).enumerate() {
            y[start + k * step * inner..][..inner].copy_from_slice(x);
        }
    }
}

/// Zeros before, after, between, on both sides and nowhere; several workgroups.
pub fn cases() -> Vec<Case> {
    let case = |extents: &[usize], axis, start, extent, step| {
        let op = Pad {
            axis,
            start,
            extent,
            step,
        };
        Case::new(op, 1).float(extents, Fill::Uniform(-1.0, 1.0))
    };
    let mut cases = vec![
        case(&[1], 0, 0, 1, 1),
        case(&[5, 7], 0, 0, 6, 1),
        case(&[5, 7], 1, 2, 9, 1),
        case(&[2, 3, 4, 5], 1, 1, 5, 1),
        case(&[2, 3, 4, 5], 3, 2, 8, 1),
        case(&[1], 0, 1, 3, 2),
        case(&[3, 5], 0, 1, 8, 3),
        case(&[2, 3, 4, 5], 1, 0, 5, 2),
        case(&[2, 3], 1, 2, 9, 2),
        case(&[3, 9, 26], 2, 2, 31, 1),
    ];
    cases.extend(edges::cases());
    cases
}

//! A part of a value along an axis, or every so-many-th element of one; its gradient is zero
//! around and between these: [`Pad`]. Nothing is saved.

use std::sync::Arc;

use super::checks::{around, resized};
use super::launch::per_four;
use super::pad::Pad;
use super::{Backward, Case, Fill, Lowered, Lowering, Op, Value, arity, floats};
use crate::error::{Error, Result};
use crate::interchange::Site;
use crate::kernel::{Args, Bind, Demand, Kernel};
use crate::shape::Type;
use crate::tensor::Real;

/// `y[…, k, …] = x[…, start + k step, …]` for k below `extent`: input x, output y.
#[derive(Debug)]
pub struct Slice {
    /// The axis, counted from 0.
    pub axis: usize,
    /// Where the part begins along it.
    pub start: usize,
    /// How many elements it has.
    pub extent: usize,
    /// How far its elements stand from each other in x, 1 at least.
    pub step: usize,
}

/// Checks that `count` elements, `step` apart from `start` on, are among the `whole` elements
/// along an axis of a value.
pub(super) fn reaches(start: usize, step: usize, count: usize, whole: usize) -> bool {
    let last = count.saturating_sub(1).saturating_mul(step);
    // Kernels have steps in 32 bits.
    let step_is_held = step > 0 && u32::try_from(step).is_ok();
    step_is_held && start <= whole && last.saturating_add(count.min(1)) <= whole - start
}

impl Op for Slice {
    fn name(&self) -> &'static str {
        "slice"
    }

    fn onnx(&self, site: &mut Site<'_>) -> Result<Vec<String>> {
        site.fixed(0, self.axis)?;
        let x = site.input(0);
        let end = self.start + (self.extent - 1) * self.step + 1;
        let [start, end, axis, step] =
            [self.start, end, self.axis, self.step].map(|number| site.ints(&[number as i64]));
        Ok(vec![site.op(
            "Slice",
            &[&x, &start, &end, &axis, &step],
            &[],
        )])
    }

    fn infer(&self, inputs: &[Type]) -> Result<Vec<Type>> {
        let [x] = arity("slice", inputs, "x")?;
        floats("slice", "x", x)?;
        let [_, whole, _] = around("slice", x, Some(self.axis))?;
        if !reaches(self.start, self.step, self.extent, whole) {
            return Err(Error::shape(
                "slice",
                format!(
                    "{} elements from {} on in steps of {} of {x}",
                    self.extent, self.start, self.step
                ),
                format!("a part of the {whole} elements along axis {}", self.axis),
            ));
        }
        Ok(vec![resized("slice", x, self.axis, self.extent)?])
    }

    fn lower(&self, inputs: &[Type], outputs: &[Type]) -> Result<Lowering> {
        let [_, whole, inner] = around("slice", &inputs[0], Some(self.axis))?;
        let run = |extent: usize| (extent * inner) as f64;
        let constants = [
            ("WHOLE", run(whole)),
            ("START", run(self.start)),
            ("PART", run(self.extent)),
            ("INNER", inner as f64),
            ("STEP", self.step as f64),
        ];
        Ok(Lowering::Launch(Lowered {
            flops: 0,
            ..per_four(&SLICE, 1, &outputs[0], &constants)
        }))
    }

    fn gradient(&self, b: &mut Backward<'_>) -> Result<Vec<Option<Value>>> {
        let [_, extent, _] = around("slice", b.tape.ty(b.inputs[0])?, Some(self.axis))?;
        let pad = Pad {
            axis: self.axis,
            start: self.start,
            extent,
            step: self.step,
        };
        Ok(vec![Some(b.tape.op1(Arc::new(pad), &[b.upstream])?)])
    }
}

/// y = a part of x.
pub static SLICE: Kernel = Kernel {
    name: "slice",
    turns: "4",
    stem: "slice",
    source: concat!(
        include_str!("../../shaders/shared/grid.wgsl"),
        include_str!("../../shaders/slice.wgsl"),
    ),
    bindings: &[
        Bind::read("x").of("N * WHOLE / PART"),
        Bind::write("y").of("N"),
    ],
    constants: &["N", "WHOLE", "START", "PART", "INNER", "STEP"],
    reference: crate::reference!(slice),
    optimized: None,
    demand: Demand {
        rounds: "1",
        issue: "160",
        words: "512",
        ..Demand::UNSTATED
    },
    trusted: true,
    ports: &[],
    finishing: None,
};

/// The kernels of this file.
pub static KERNELS: &[&Kernel] = &[&SLICE];

fn slice<T: Real>(a: &mut Args<'_, T>) {
    let (whole, start, part) = (a.size("WHOLE"), a.size("START"), a.size("PART"));
    let (x, y) = (a.f(0), a.f_mut(1)); // [outer, WHOLE], [outer, PART]
    let (inner, step) = (a.size("INNER"), a.size("STEP"));
    for (y, x) in y.chunks_mut(part).zip(x.chunks(whole)) {
        for (k, y) in y.chunks_mut(inner).enumerate() {
            y.copy_from_slice(&x[start + k * step * inner..][..inner]);
        }
    }
}

/// Begin, middle, end and all of an axis; steps that end at its last element and before it;
/// several workgroups.
pub fn cases() -> Vec<Case> {
    let case = |extents: &[usize], axis, start, extent, step| {
        let op = Slice {
            axis,
            start,
            extent,
            step,
        };
        Case::new(op, 1).float(extents, Fill::Uniform(-1.0, 1.0))
    };
    vec![
        case(&[1], 0, 0, 1, 1),
        case(&[5, 7], 0, 0, 2, 1),
        case(&[5, 7], 1, 6, 1, 1),
        case(&[2, 5, 3, 7], 1, 1, 3, 1),
        case(&[2, 5, 3, 7], 3, 2, 5, 1),
        case(&[5, 7], 0, 0, 5, 1),
        case(&[1], 0, 0, 1, 3),
        case(&[5, 7], 0, 0, 3, 2),
        case(&[5, 7], 1, 1, 2, 4),
        case(&[3, 9, 2, 5], 1, 1, 3, 3),
        case(&[3, 9, 31], 2, 2, 26, 1),
    ]
}

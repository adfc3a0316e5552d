//! A contiguous part of a value along an axis; its gradient is zero around the part:
//! [`Pad`]. Nothing is saved.

use std::sync::Arc;

use super::launch::{around, per_element, resized};
use super::pad::Pad;
use super::{Backward, Case, Fill, Lowered, Lowering, Op, Value, arity, floats};
use crate::error::{Error, Result};
use crate::kernel::{Args, Bind, Kernel};
use crate::shape::Type;
use crate::tensor::Real;

/// `y = x[…, start .. start + extent, …]`: input x, output y.
#[derive(Debug)]
pub struct Slice {
    /// The axis, counted from 0.
    pub axis: usize,
    /// Where the part begins along it.
    pub start: usize,
    /// How long it is.
    pub extent: usize,
}

impl Op for Slice {
    fn name(&self) -> &'static str {
        "slice"
    }

    fn infer(&self, inputs: &[Type]) -> Result<Vec<Type>> {
        let [x] = arity("slice", inputs, "x")?;
        floats("slice", "x", x)?;
        let [_, whole, _] = around("slice", x, Some(self.axis))?;
        if self.start > whole || self.extent > whole - self.start {
            return Err(Error::shape(
                "slice",
                format!("{} elements from {} on of {x}", self.extent, self.start),
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
        ];
        Ok(Lowering::Launch(Lowered {
            flops: 0,
            ..per_element(&SLICE, 1, &outputs[0], &constants)
        }))
    }

    fn gradient(&self, b: &mut Backward<'_>) -> Result<Vec<Option<Value>>> {
        let [_, extent, _] = around("slice", b.tape.ty(b.inputs[0])?, Some(self.axis))?;
        let pad = Pad {
            axis: self.axis,
            start: self.start,
            extent,
        };
        Ok(vec![Some(b.tape.op1(Arc::new(pad), &[b.upstream])?)])
    }
}

/// y = a part of x.
pub static SLICE: Kernel = Kernel {
    name: "slice",
    turns: "0",
    stem: "slice",
    source: concat!(
        include_str!("../../shaders/shared/grid.wgsl"),
        include_str!("../../shaders/slice.wgsl"),
    ),
    bindings: &[
        Bind::read("x").of("N * WHOLE / PART"),
        Bind::write("y").of("N"),
    ],
    constants: &["N", "WHOLE", "START", "PART"],
    reference: crate::reference!(slice),
    fast: None,
    trusted: true,
};

/// The kernels of this file.
pub static KERNELS: &[&Kernel] = &[&SLICE];

fn slice<T: Real>(a: &mut Args<'_, T>) {
    let (whole, start, part) = (a.size("WHOLE"), a.size("START"), a.size("PART"));
    let (x, y) = (a.f(0), a.f_mut(1)); // [outer, WHOLE], [outer, PART]
    for (y, x) in y.chunks_mut(part).zip(x.chunks(whole)) {
        y.copy_from_slice(&x[start..start + part]);
    }
}

/// Begin, middle, end and all of an axis; several workgroups.
pub fn cases() -> Vec<Case> {
    let case = |extents: &[usize], axis, start, extent| {
        let op = Slice {
            axis,
            start,
            extent,
        };
        Case::new(op, 1).float(extents, Fill::Uniform(-1.0, 1.0))
    };
    vec![
        case(&[1], 0, 0, 1),
        case(&[5, 7], 0, 0, 2),
        case(&[5, 7], 1, 6, 1),
        case(&[2, 5, 3, 7], 1, 1, 3),
        case(&[2, 5, 3, 7], 3, 2, 5),
        case(&[5, 7], 0, 0, 5),
    ]
}

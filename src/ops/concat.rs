//! Concatenation of two values along an axis; the gradient of each is its
//! [`Slice`] of the upstream gradient. Nothing is saved.

use std::sync::Arc;

use super::launch::{around, per_element, resized};
use super::slice::Slice;
use super::{Backward, Case, Fill, Lowered, Lowering, Op, Value, arity, floats};
use crate::error::{Error, Result};
use crate::kernel::{Args, Bind, Kernel};
use crate::shape::Type;
use crate::tensor::Real;

/// y = a, then b along an axis: inputs a and b, equal in all other extents; output y.
#[derive(Debug)]
pub struct Concat {
    /// The axis, counted from 0.
    pub axis: usize,
}

impl Op for Concat {
    fn name(&self) -> &'static str {
        "concat"
    }

    fn infer(&self, inputs: &[Type]) -> Result<Vec<Type>> {
        let [a, b] = arity("concat", inputs, "a, b")?;
        floats("concat", "a", a)?;
        floats("concat", "b", b)?;
        let [_, from_a, _] = around("concat", a, Some(self.axis))?;
        let [_, from_b, _] = around("concat", b, Some(self.axis))?;
        if *b != resized("concat", a, self.axis, from_b)? {
            return Err(Error::shape(
                "concat",
                format!("{a} and {b}"),
                format!("equal extents of a and b but for axis {}", self.axis),
            ));
        }
        Ok(vec![resized("concat", a, self.axis, from_a + from_b)?])
    }

    fn lower(&self, inputs: &[Type], outputs: &[Type]) -> Result<Lowering> {
        let run = |ty| {
            let [_, extent, inner] = around("concat", ty, Some(self.axis))?;
            Ok((extent * inner) as f64)
        };
        let constants = [("FROM_A", run(&inputs[0])?), ("FROM_B", run(&inputs[1])?)];
        Ok(Lowering::Launch(Lowered {
            flops: 0,
            ..per_element(&CONCAT, 2, &outputs[0], &constants)
        }))
    }

    fn gradient(&self, b: &mut Backward<'_>) -> Result<Vec<Option<Value>>> {
        let mut start = 0;
        let mut shares = Vec::new();
        for (&input, &wanted) in b.inputs.iter().zip(b.wanted) {
            let [_, extent, _] = around("concat", b.tape.ty(input)?, Some(self.axis))?;
            let slice = Slice {
                axis: self.axis,
                start,
                extent,
                step: 1,
            };
            start += extent;
            shares.push(match wanted {
                true => Some(b.tape.op1(Arc::new(slice), &[b.upstream])?),
                false => None,
            });
        }
        Ok(shares)
    }
}

/// y = a, then b.
pub static CONCAT: Kernel = Kernel {
    name: "concat",
    turns: "0",
    stem: "concat",
    source: concat!(
        include_str!("../../shaders/shared/grid.wgsl"),
        include_str!("../../shaders/concat.wgsl"),
    ),
    bindings: &[
        Bind::read("a").of("N * FROM_A / (FROM_A + FROM_B)"),
        Bind::read("b").of("N * FROM_B / (FROM_A + FROM_B)"),
        Bind::write("y").of("N"),
    ],
    constants: &["N", "FROM_A", "FROM_B"],
    reference: crate::reference!(concat),
    fast: None,
    trusted: true,
    ports: &[],
    finishing: None,
};

/// The kernels of this file.
pub static KERNELS: &[&Kernel] = &[&CONCAT];

fn concat<T: Real>(args: &mut Args<'_, T>) {
    let (from_a, from_b) = (args.size("FROM_A"), args.size("FROM_B"));
    let (a, b) = (args.f(0), args.f(1)); // [outer, FROM_A], [outer, FROM_B]
    let y = args.f_mut(2); // [outer, FROM_A + FROM_B]
    let runs = a.chunks(from_a).zip(b.chunks(from_b));
    for (y, (a, b)) in y.chunks_mut(from_a + from_b).zip(runs) {
        y[..from_a].copy_from_slice(a);
        y[from_a..].copy_from_slice(b);
    }
}

/// First, middle and last axis, unequal parts, several workgroups.
pub fn cases() -> Vec<Case> {
    let case = |extents: &[usize], axis: usize, other: usize| {
        let mut b = extents.to_vec();
        b[axis] = other;
        Case::new(Concat { axis }, 1)
            .float(extents, Fill::Uniform(-1.0, 1.0))
            .float(&b, Fill::Uniform(-1.0, 1.0))
    };
    vec![
        case(&[1], 0, 1),
        case(&[3, 5], 0, 2),
        case(&[3, 5], 1, 4),
        case(&[2, 3, 4, 5], 1, 1),
        case(&[2, 3, 4, 5], 3, 7),
    ]
}

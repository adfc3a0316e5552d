//! Hadamard product y = a ⊙ b, element by element.
//!
//! Gradients: ∂a = g ⊙ b and ∂b = g ⊙ a, by this op itself. Saved: a and b.

use std::sync::Arc;

use super::pointwise::Pointwise;
use super::{Backward, Case, Fill, Op, Value, arity, floats, same};
use crate::error::Result;
use crate::expr::Expr;
use crate::kernel::Kernel;
use crate::shape::Type;

/// y = a ⊙ b: inputs a and b, output y, all of one shape.
#[derive(Debug)]
pub struct Hadamard;

impl Op for Hadamard {
    fn name(&self) -> &'static str {
        "hadamard"
    }

    fn expression(&self, _: &[Type]) -> Option<Pointwise> {
        Some(Pointwise::new(&[Expr::input(0) * Expr::input(1)]))
    }

    fn infer(&self, inputs: &[Type]) -> Result<Vec<Type>> {
        let [a, b] = arity("hadamard", inputs, "a, b")?;
        floats("hadamard", "a", a)?;
        same("hadamard", "a and b", a, b)?;
        Ok(vec![a.clone()])
    }

    fn gradient(&self, b: &mut Backward<'_>) -> Result<Vec<Option<Value>>> {
        let mut product = |wanted: bool, other: Value| {
            wanted
                .then(|| b.tape.op1(Arc::new(Hadamard), &[b.upstream, other]))
                .transpose()
        };
        Ok(vec![
            product(b.wanted[0], b.inputs[1])?,
            product(b.wanted[1], b.inputs[0])?,
        ])
    }
}

/// It is composed as an expression.
pub static KERNELS: &[&Kernel] = &[];

/// One element, a partial workgroup, several workgroups.
pub fn cases() -> Vec<Case> {
    let case = |extents: &[usize]| {
        Case::new(Hadamard, 1)
            .float(extents, Fill::Uniform(-1.0, 1.0))
            .float(extents, Fill::Uniform(-1.0, 1.0))
    };
    vec![case(&[1]), case(&[7, 9]), case(&[3, 5, 2, 13])]
}

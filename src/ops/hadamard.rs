//! Hadamard product y = a ⊙ b, element by element.
//!
//! Gradients: ∂a = g ⊙ b and ∂b = g ⊙ a, by this op itself. Saved: a and b.

use std::sync::Arc;

use super::launch::per_element;
use super::pointwise::Pointwise;
use super::{Backward, Case, Fill, Lowering, Op, Value, arity, floats, same};
use crate::error::Result;
use crate::expr::Expr;
use crate::kernel::{Args, Bind, Kernel};
use crate::shape::Type;
use crate::tensor::Real;

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

    fn lower(&self, _: &[Type], outputs: &[Type]) -> Result<Lowering> {
        Ok(Lowering::Launch(per_element(
            &HADAMARD,
            2,
            &outputs[0],
            &[],
        )))
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

/// y = a ⊙ b.
pub static HADAMARD: Kernel = Kernel {
    name: "hadamard",
    turns: "0",
    stem: "hadamard",
    source: concat!(
        include_str!("../../shaders/shared/grid.wgsl"),
        include_str!("../../shaders/hadamard.wgsl"),
    ),
    bindings: &[
        Bind::read("a").of("N"),
        Bind::read("b").of("N"),
        Bind::write("y").of("N"),
    ],
    constants: &["N"],
    reference: crate::reference!(hadamard),
    fast: None,
    trusted: true,
    ports: &[],
    finishing: None,
};

/// The kernels of this file.
pub static KERNELS: &[&Kernel] = &[&HADAMARD];

fn hadamard<T: Real>(args: &mut Args<'_, T>) {
    let (a, b, y) = (args.f(0), args.f(1), args.f_mut(2)); // [N], [N], [N]
    for ((y, &a), &b) in y.iter_mut().zip(a).zip(b) {
        *y = a * b;
    }
}

/// One element, a partial workgroup, several workgroups.
pub fn cases() -> Vec<Case> {
    let case = |extents: &[usize]| {
        Case::new(Hadamard, 1)
            .float(extents, Fill::Uniform(-1.0, 1.0))
            .float(extents, Fill::Uniform(-1.0, 1.0))
    };
    vec![case(&[1]), case(&[7, 9]), case(&[3, 5, 2, 13])]
}

//! Sum y = a + b, element by element.
//!
//! The gradient with respect to either is the upstream gradient itself, so the rule adds
//! no op. Differentiation uses this op too: where a value is read twice, the shares of
//! its gradient add up.

use super::launch::per_element;
use super::pointwise::Pointwise;
use super::{Backward, Case, Fill, Lowering, Op, Value, arity, floats, same};
use crate::error::Result;
use crate::expr::Expr;
use crate::kernel::{Args, Bind, Kernel};
use crate::shape::Type;
use crate::tensor::Real;

/// y = a + b: inputs a and b, output y, all of one shape.
#[derive(Debug)]
pub struct Add;

impl Op for Add {
    fn name(&self) -> &'static str {
        "add"
    }

    fn expression(&self, _: &[Type]) -> Option<Pointwise> {
        Some(Pointwise::new(&[Expr::input(0) + Expr::input(1)]))
    }

    fn infer(&self, inputs: &[Type]) -> Result<Vec<Type>> {
        let [a, b] = arity("add", inputs, "a, b")?;
        floats("add", "a", a)?;
        same("add", "a and b", a, b)?;
        Ok(vec![a.clone()])
    }

    fn lower(&self, _: &[Type], outputs: &[Type]) -> Result<Lowering> {
        Ok(Lowering::Launch(per_element(&ADD, 2, &outputs[0], &[])))
    }

    fn gradient(&self, b: &mut Backward<'_>) -> Result<Vec<Option<Value>>> {
        Ok(vec![Some(b.upstream); 2])
    }
}

/// y = a + b.
pub static ADD: Kernel = Kernel {
    name: "add",
    turns: "0",
    stem: "add",
    source: concat!(
        include_str!("../../shaders/shared/grid.wgsl"),
        include_str!("../../shaders/add.wgsl"),
    ),
    bindings: &[
        Bind::read("a").of("N"),
        Bind::read("b").of("N"),
        Bind::write("y").of("N"),
    ],
    constants: &["N"],
    reference: crate::reference!(add),
    fast: None,
    trusted: true,
    ports: &[],
    finishing: None,
};

/// The kernels of this file.
pub static KERNELS: &[&Kernel] = &[&ADD];

fn add<T: Real>(args: &mut Args<'_, T>) {
    let (a, b, y) = (args.f(0), args.f(1), args.f_mut(2)); // [N], [N], [N]
    for ((y, &a), &b) in y.iter_mut().zip(a).zip(b) {
        *y = a + b;
    }
}

/// One element, a partial workgroup, several workgroups.
pub fn cases() -> Vec<Case> {
    let case = |extents: &[usize]| {
        Case::new(Add, 1)
            .float(extents, Fill::Uniform(-1.0, 1.0))
            .float(extents, Fill::Uniform(-1.0, 1.0))
    };
    vec![case(&[1]), case(&[7, 9]), case(&[3, 5, 2, 13])]
}

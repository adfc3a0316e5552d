//! Sum y = a + b, element by element.
//!
//! The gradient with respect to either is the upstream gradient itself, so the rule adds
//! no op. Differentiation uses this op too: where a value is read twice, the shares of
//! its gradient add up.

use super::pointwise::Pointwise;
use super::{Backward, Case, Fill, Op, Value, arity, floats, same};
use crate::error::Result;
use crate::expr::Expr;
use crate::kernel::Kernel;
use crate::shape::Type;

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

    fn gradient(&self, b: &mut Backward<'_>) -> Result<Vec<Option<Value>>> {
        Ok(vec![Some(b.upstream); 2])
    }
}

/// It is composed as an expression.
pub static KERNELS: &[&Kernel] = &[];

/// One element, a partial workgroup, several workgroups.
pub fn cases() -> Vec<Case> {
    let case = |extents: &[usize]| {
        Case::new(Add, 1)
            .float(extents, Fill::Uniform(-1.0, 1.0))
            .float(extents, Fill::Uniform(-1.0, 1.0))
    };
    vec![case(&[1]), case(&[7, 9]), case(&[3, 5, 2, 13])]
}

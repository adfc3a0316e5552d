//! Multiplication by a constant, y = c x; its gradient is c g.

use std::sync::Arc;

use super::checks::finite;
use super::pointwise::Pointwise;
use super::{Backward, Case, Fill, Op, Value, arity, floats};
use crate::error::Result;
use crate::expr::Expr;
use crate::kernel::Kernel;
use crate::shape::Type;

/// y = c x: input x of any shape, output y of the same.
#[derive(Debug)]
pub struct Scale(pub f64);

impl Op for Scale {
    fn name(&self) -> &'static str {
        "scale"
    }

    fn expression(&self, _: &[Type]) -> Option<Pointwise> {
        Some(Pointwise::new(&[Expr::input(0) * self.0]))
    }

    fn infer(&self, inputs: &[Type]) -> Result<Vec<Type>> {
        let [x] = arity("scale", inputs, "x")?;
        floats("scale", "x", x)?;
        finite("scale", self.0)?;
        Ok(vec![x.clone()])
    }

    fn gradient(&self, b: &mut Backward<'_>) -> Result<Vec<Option<Value>>> {
        Ok(vec![Some(
            b.tape.op1(Arc::new(Scale(self.0)), &[b.upstream])?,
        )])
    }
}

/// It is composed as an expression.
pub static KERNELS: &[&Kernel] = &[];

/// One element, a partial workgroup, several workgroups; zero and negative factors.
pub fn cases() -> Vec<Case> {
    let case = |factor, extents: &[usize]| {
        Case::new(Scale(factor), 1).float(extents, Fill::Uniform(-1.0, 1.0))
    };
    vec![
        case(0.5, &[1]),
        case(-1.0 / 3.0, &[7, 9]),
        case(0.1, &[3, 5, 2, 13]),
        case(0.0, &[2]),
    ]
}

//! The same value without a gradient: a view, no launch. What is minimised does not reach what is
//! before it (PyTorch's `detach`, TensorFlow's `stop_gradient`).

use std::sync::Arc;

use super::{Backward, Case, Fill, Lowering, Op, Tape, Value, arity};
use crate::error::Result;
use crate::interchange::Site;
use crate::kernel::Kernel;
use crate::shape::Type;

/// y = x: input x, floats or integers of any shape, output y of the same. The gradient of x is none.
#[derive(Debug)]
pub struct Detach;

/// The value without a gradient.
///
/// # Errors
/// As [`Tape::op`].
pub fn detach(tape: &mut dyn Tape, value: Value) -> Result<Value> {
    tape.op1(Arc::new(Detach), &[value])
}

impl Op for Detach {
    fn name(&self) -> &'static str {
        "detach"
    }

    fn onnx(&self, site: &mut Site<'_>) -> Result<Vec<String>> {
        let x = site.input(0);
        Ok(vec![site.op("Identity", &[&x], &[])])
    }

    fn infer(&self, inputs: &[Type]) -> Result<Vec<Type>> {
        let [x] = arity("detach", inputs, "x")?;
        Ok(vec![x.clone()])
    }

    fn lower(&self, _: &[Type], _: &[Type]) -> Result<Lowering> {
        Ok(Lowering::View)
    }

    fn gradient(&self, _: &mut Backward<'_>) -> Result<Vec<Option<Value>>> {
        Ok(vec![None])
    }
}

/// No kernels: a view moves nothing.
pub static KERNELS: &[&Kernel] = &[];

/// One element, several.
pub fn cases() -> Vec<Case> {
    let case = |extents: &[usize]| {
        let case = Case::new(Detach, 1).float(extents, Fill::Uniform(-1.0, 1.0));
        case.forward_only()
    };
    vec![case(&[1]), case(&[2, 3, 5])]
}

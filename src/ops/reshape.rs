//! Another shape over the same elements in the same order: a view, no launch. The
//! gradient is the view back.

use std::sync::Arc;

use super::{Backward, Case, Fill, Lowering, Op, Value, arity};
use crate::error::{Error, Result};
use crate::interchange::Site;
use crate::kernel::Kernel;
use crate::shape::{Shape, Type};

/// y = x in other extents: input x, floats or integers of any shape, output y of the given extents, whose
/// product must be the number of elements of x.
#[derive(Debug)]
pub struct Reshape {
    /// The extents of y.
    pub extents: Vec<usize>,
}

impl Op for Reshape {
    fn name(&self) -> &'static str {
        "reshape"
    }

    fn onnx(&self, site: &mut Site<'_>) -> Result<Vec<String>> {
        let (x, from, to) = (site.input(0), site.extents(0), site.made(0));
        Ok(vec![site.reshape(&x, &from, &to)?])
    }

    fn infer(&self, inputs: &[Type]) -> Result<Vec<Type>> {
        let [x] = arity("reshape", inputs, "x")?;
        let shape = Shape::new("reshape", &self.extents)?;
        let y = Type { shape, ..x.clone() };
        if x.elements() == y.elements() {
            return Ok(vec![y]);
        }
        Err(Error::shape(
            "reshape",
            format!(
                "{x} to {}, {} elements to {}",
                y.shape,
                x.elements(),
                y.elements()
            ),
            "as many elements after as before",
        ))
    }

    fn lower(&self, _: &[Type], _: &[Type]) -> Result<Lowering> {
        Ok(Lowering::View)
    }

    fn gradient(&self, b: &mut Backward<'_>) -> Result<Vec<Option<Value>>> {
        let extents = b.tape.ty(b.inputs[0])?.shape.extents().to_vec();
        let back = Arc::new(Reshape { extents });
        Ok(vec![Some(b.tape.op1(back, &[b.upstream])?)])
    }
}

/// No kernels: a view moves nothing.
pub static KERNELS: &[&Kernel] = &[];

/// More axes, fewer axes, one element.
pub fn cases() -> Vec<Case> {
    let case = |from: &[usize], to: &[usize]| {
        let extents = to.to_vec();
        Case::new(Reshape { extents }, 1).float(from, Fill::Uniform(-1.0, 1.0))
    };
    vec![
        case(&[1], &[1, 1]),
        case(&[2, 3, 5, 7], &[2, 105]),
        case(&[4, 9], &[4, 1, 3, 3]),
    ]
}

//! What is chosen element by element: by a mask, by a class. Expressions, no kernels of their own, so
//! that they go into the kernels of their neighbours.

use std::sync::Arc;

use super::constant::Constant;
use super::cumsum::Cumsum;
use super::pointwise::{Pointwise, pointwise};
use super::{Tape, Value};
use crate::error::{Error, Result};
use crate::expr::Expr;
use crate::shape::DType;

/// Classes up to which f32 counts them one by one.
const MOST: usize = 1 << 24;

/// `torch.where(condition, input, other)`: `input` where the condition is not 0, else `other`. All
/// three are broadcast as in NumPy, [`pointwise`]'s rule; the condition may be of integers. The
/// gradient of the one that is not chosen is 0, even where the other's is not finite.
///
/// # Errors
/// [`Error::Shape`] for shapes that cannot be broadcast to one.
pub fn where_nonzero(
    tape: &mut dyn Tape,
    condition: Value,
    input: Value,
    other: Value,
) -> Result<Value> {
    pointwise(tape, [condition, input, other], |[c, a, b]| {
        c.equals(0.0).select(b, a)
    })
}

/// `torch.nn.functional.one_hot(tensor, num_classes)` in floats: 1 at the place of the class, else
/// 0. Integers `[…]`; result `[…, num_classes]`. A class that there is not gives zeros.
///
/// # Errors
/// [`Error::Shape`] for classes that are no integers, [`Error::Setting`] for fewer than 1 and more
/// than 2^24 of them.
pub fn one_hot(tape: &mut dyn Tape, tensor: Value, num_classes: usize) -> Result<Value> {
    let ty = tape.ty(tensor)?;
    if ty.dtype != DType::U32 {
        return Err(Error::shape("one_hot", ty.to_string(), "classes of u32"));
    }
    if !(1..=MOST).contains(&num_classes) {
        let wanted = format!("1 to {MOST}");
        return Err(Error::setting(
            "num_classes of one_hot",
            num_classes,
            wanted,
        ));
    }
    let ones = Constant {
        extents: vec![num_classes],
        value: 1.0,
    };
    let ones = tape.op1(Arc::new(ones), &[])?;
    let cumsum = Cumsum {
        axis: 0,
        reverse: false,
    };
    let counted = tape.op1(Arc::new(cumsum), &[ones])?;
    let here = (Expr::input(0) + 1.0).equals(Expr::input(1));
    let op = Pointwise::new(&[here.select(1.0, 0.0)]).with_axes_behind(0, 1);
    tape.op1(Arc::new(op), &[tensor, counted])
}

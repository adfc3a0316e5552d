//! What the shape rules of ops check again and again.

use crate::error::{Error, Result};
pub use crate::kernel::{COUNTER, NEXT, NOW};
use crate::rng::KEYS;
use crate::shape::{DType, Type};
use crate::tensor::held;

/// Checks how many inputs an op was given.
///
/// # Errors
/// [`Error::Shape`] with the names of those that it takes.
pub fn arity<'a, const N: usize>(
    op: &str,
    inputs: &'a [Type],
    names: &str,
) -> Result<&'a [Type; N]> {
    inputs.try_into().map_err(|_| {
        Error::shape(
            op,
            format!("{} inputs", inputs.len()),
            format!("{N}: {names}"),
        )
    })
}

/// Checks that two values have the same type.
///
/// # Errors
/// [`Error::Shape`] with both types.
pub fn same(op: &str, names: &str, a: &Type, b: &Type) -> Result<()> {
    if a == b {
        return Ok(());
    }
    Err(Error::shape(
        op,
        format!("{a} and {b}"),
        format!("equal types of {names}"),
    ))
}

/// Checks that a value holds floats of each replica.
///
/// # Errors
/// [`Error::Shape`] with what it holds.
pub fn floats(op: &str, name: &str, ty: &Type) -> Result<()> {
    if ty.dtype == DType::F32 && !ty.shared {
        return Ok(());
    }
    Err(Error::shape(
        op,
        ty.to_string(),
        format!("{name} of f32, one per replica"),
    ))
}

/// Checks that a value has exactly the type `wanted`.
pub(crate) fn exactly(op: &str, name: &str, ty: &Type, wanted: &Type) -> Result<()> {
    if ty == wanted {
        return Ok(());
    }
    Err(Error::shape(
        op,
        ty.to_string(),
        format!("{name} of {wanted}"),
    ))
}

/// Checks a bias, a number for each channel.
pub(super) fn bias(op: &str, ty: &Type, channels: usize) -> Result<()> {
    let wanted = Type::f32(op, &[channels])?;
    exactly(op, "bias, a number for each channel", ty, &wanted)
}

/// Checks a step counter: `[2]`.
pub(crate) fn counter(op: &str, ty: &Type) -> Result<()> {
    exactly(op, "step", ty, &Type::u32(op, &[COUNTER])?)
}

/// Checks a replica's key words.
pub(crate) fn key_words(op: &str, ty: &Type) -> Result<()> {
    exactly(op, "keys", ty, &Type::u32(op, &[KEYS])?)
}

/// Checks a number of steps in an epoch: shaders count them in 32 bits.
pub(crate) fn epoch_steps(op: &str, steps: usize) -> Result<()> {
    if (1..=u32::MAX as usize).contains(&steps) {
        return Ok(());
    }
    let name = format!("steps in an epoch of {op}");
    Err(Error::setting(name, steps, "1 to 2^32 - 1"))
}

/// Checks a number that picks one of 65,536 random streams.
pub(crate) fn stream_number(name: &str, number: u32) -> Result<()> {
    if number < 1 << 16 {
        return Ok(());
    }
    Err(Error::setting(name, number, "below 65536"))
}

/// A shape seen from one axis: `[outer, extent, inner]`, the products of the extents
/// before, at and after it. From no axis, all is inner.
pub(super) fn around(op: &str, ty: &Type, axis: Option<usize>) -> Result<[usize; 3]> {
    let extents = ty.shape.extents();
    let Some(axis) = axis else {
        return Ok([1, 1, ty.elements()]);
    };
    match extents.get(axis) {
        Some(&extent) => Ok([
            extents[..axis].iter().product(),
            extent,
            extents[axis + 1..].iter().product(),
        ]),
        None => Err(Error::shape(
            op,
            ty.to_string(),
            format!("more than {axis} axes, because axis {axis} (counted from 0) is asked for"),
        )),
    }
}

/// The type `ty` with another extent at `axis`, which it must have.
pub(super) fn resized(op: &str, ty: &Type, axis: usize, extent: usize) -> Result<Type> {
    let mut extents = ty.shape.extents().to_vec();
    extents[axis] = extent;
    Type::f32(op, &extents)
}

/// Checks a factor: shaders get it as an f32, which must be finite, and 0 only if the factor is.
pub(super) fn finite(op: &str, factor: f64) -> Result<()> {
    if held(factor) {
        return Ok(());
    }
    let wanted = "a number that 32-bit floats have: finite, and 0 only if it is 0";
    Err(Error::setting(format!("factor of {op}"), factor, wanted))
}

//! How most ops are launched, and what their shape rules have in common.

use super::{ELEMENTWISE, Lowered, Operand, grid};
use crate::error::{Error, Result};
use crate::kernel::Kernel;
use crate::shape::Type;

/// A launch of one thread per element of output 0: the op's first `inputs` inputs, then
/// that output. The constant `N` is the number of elements.
pub(super) fn per_element(
    kernel: &'static Kernel,
    inputs: usize,
    output: &Type,
    constants: &[(&'static str, f64)],
) -> Lowered {
    let n = output.elements();
    Lowered {
        kernel,
        constants: [&[("N", n as f64)], constants].concat(),
        operands: operands(inputs),
        grid: grid(n, ELEMENTWISE),
        flops: n as u64,
        alternatives: vec![],
    }
}

/// A launch of one workgroup per row of a matrix `[N, K]`; `work` operations per element.
pub(super) fn per_row(
    kernel: &'static Kernel,
    inputs: usize,
    [n, k]: [usize; 2],
    work: usize,
) -> Lowered {
    Lowered {
        kernel,
        constants: vec![("N", n as f64), ("K", k as f64)],
        operands: operands(inputs),
        grid: grid(n, 1),
        flops: (n * k * work) as u64,
        alternatives: vec![],
    }
}

/// A launch over the rows along an axis, of sizes `[outer, K, inner]`: by `kernels[0]`, a
/// workgroup for each, or by `kernels[1]`, a thread for each, where rows are short and neighbours
/// in memory are of different rows.
pub(super) fn along_axis(
    kernels: [&'static Kernel; 2],
    inputs: usize,
    [outer, k, inner]: [usize; 3],
    work: usize,
) -> Lowered {
    let n = outer * inner;
    let across = inner > 1 && k <= ACROSS;
    Lowered {
        kernel: kernels[usize::from(across)],
        constants: vec![("N", n as f64), ("K", k as f64), ("INNER", inner as f64)],
        operands: operands(inputs),
        grid: grid(n, if across { ELEMENTWISE } else { 1 }),
        flops: (n * k * work) as u64,
        alternatives: vec![],
    }
}

/// Elements up to which a thread makes a row by itself, if neighbours are of different rows.
const ACROSS: usize = 128;

/// Threads of a workgroup that shares a sum of so many terms, for kernels with the constant
/// `LANES`: of few terms a long tree would take longer than the terms.
pub(super) fn lanes(terms: usize) -> (&'static str, f64) {
    ("LANES", if terms <= 1024 { 64.0 } else { 256.0 })
}

fn operands(inputs: usize) -> Vec<Operand> {
    let inputs = (0..inputs).map(Operand::In);
    inputs.chain([Operand::Out(0)]).collect()
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

/// Checks a factor: shaders get it as an f32, which must be finite.
pub(super) fn finite(op: &str, factor: f64) -> Result<()> {
    if (factor as f32).is_finite() {
        return Ok(());
    }
    Err(Error::setting(
        format!("factor of {op}"),
        factor,
        "a finite 32-bit float",
    ))
}

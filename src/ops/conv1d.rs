//! One-dimensional convolution and its transpose: those of images whose height is one. Two views, no
//! kernels of their own; biases are added at the end of the kernel. With as many groups as channels
//! they are depthwise.

use std::sync::Arc;

use super::add_bias::AddBias;
use super::conv_transpose2d::ConvTranspose2d;
use super::conv2d::{Conv2d, grouped};
use super::reshape::Reshape;
use super::{Op, Tape, Value, checks, floats};
use crate::error::Result;
use crate::shape::Type;

/// What `torch.nn.functional.conv1d` takes beside its tensors, with the same defaults.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conv1d {
    /// Step of the window; 1.
    pub stride: usize,
    /// Zeros at either end; 0.
    pub padding: usize,
    /// Distance between the window's taps; 1.
    pub dilation: usize,
    /// Groups of channels that do not see each other; 1.
    pub groups: usize,
}

impl Default for Conv1d {
    fn default() -> Self {
        Self {
            stride: 1,
            padding: 0,
            dilation: 1,
            groups: 1,
        }
    }
}

/// What `torch.nn.functional.conv_transpose1d` takes beside its tensors, with the same defaults.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConvTranspose1d {
    /// How far apart neighbours of x lay their windows; 1.
    pub stride: usize,
    /// What is cut off at either end of y; 0.
    pub padding: usize,
    /// What y has more at its end, less than the stride; 0.
    pub output_padding: usize,
    /// Groups of channels that do not see each other; 1.
    pub groups: usize,
    /// Distance between the window's taps; 1.
    pub dilation: usize,
}

impl Default for ConvTranspose1d {
    fn default() -> Self {
        Self {
            stride: 1,
            padding: 0,
            output_padding: 0,
            groups: 1,
            dilation: 1,
        }
    }
}

/// `torch.nn.functional.conv1d`: y\[n, f, i\] = Σ x\[n, c, i s + k d − p\] · w\[f, c, k\] + b\[f\].
/// x `[N, C, L]`, w `[F, C / groups, K]`, b `[F]`; y `[N, F, L_o]` with
/// L_o = ⌊(L + 2 padding − dilation (K − 1) − 1) / stride⌋ + 1.
///
/// # Errors
/// [`Error::Shape`](crate::Error::Shape) for other axes, for groups that do not divide the channels
/// and for a window longer than x; [`Error::Setting`](crate::Error::Setting) for zeros and sizes that
/// cannot be meant.
pub fn conv1d(
    tape: &mut dyn Tape,
    x: Value,
    weight: Value,
    bias: Option<Value>,
    settings: Conv1d,
) -> Result<Value> {
    let op = Conv2d {
        stride: [1, settings.stride],
        padding: [0, settings.padding],
        dilation: [1, settings.dilation],
        groups: settings.groups,
    };
    // All that could be wrong is found here, in words of rows: the images are nobody's but ours.
    let name = "conv1d";
    let [n, c, l] = rows(tape, name, x, "x [N, C, L]")?;
    let [f, per, k] = rows(tape, name, weight, FILTERS)?;
    grouped([name, "rows", FILTERS], [c, f, per], settings.groups)?;
    let length = op.window([1, k]).along(name, 1, "length", l)?;
    over_rows(tape, name, op, [x, weight], bias, [n, f, length])
}

/// `torch.nn.functional.conv_transpose1d`: the transpose of [`conv1d`].
/// x `[N, F, L]`, w `[F, C / groups, K]`, b `[C]`; y `[N, C, L_o]` with
/// L_o = (L − 1) stride − 2 padding + dilation (K − 1) + output_padding + 1.
///
/// # Errors
/// As [`conv1d`], and [`Error::Shape`](crate::Error::Shape) for padding that leaves nothing.
pub fn conv_transpose1d(
    tape: &mut dyn Tape,
    x: Value,
    weight: Value,
    bias: Option<Value>,
    settings: ConvTranspose1d,
) -> Result<Value> {
    let op = ConvTranspose2d {
        stride: [1, settings.stride],
        padding: [0, settings.padding],
        output_padding: [0, settings.output_padding],
        dilation: [1, settings.dilation],
        groups: settings.groups,
    };
    let name = "conv_transpose1d";
    let [n, f, l] = rows(tape, name, x, "x [N, F, L]")?;
    let [filters, per, k] = rows(tape, name, weight, FILTERS)?;
    let types = [tape.ty(x)?, tape.ty(weight)?];
    op.grouped([name, "rows"], types, [f, filters, per])?;
    let length = op.along(name, 1, "length", [l, k])?;
    let y = [n, per * settings.groups, length];
    over_rows(tape, name, op, [x, weight], bias, y)
}

const FILTERS: &str = "filters [F, C / groups, K]";

/// The extents of rows of floats.
pub(super) fn rows(tape: &dyn Tape, op: &str, x: Value, wanted: &str) -> Result<[usize; 3]> {
    let ty = tape.ty(x)?;
    let extents = ty.shape.axes(op, wanted)?;
    floats(op, wanted, ty)?;
    Ok(extents)
}

/// An op of images with a bias, over images and filters that lack the height; y's extents.
fn over_rows(
    tape: &mut dyn Tape,
    name: &str,
    op: impl Op + 'static,
    inputs: [Value; 2],
    bias: Option<Value>,
    y: [usize; 3],
) -> Result<Value> {
    Type::f32(name, &y)?;
    if let Some(bias) = bias {
        checks::bias(name, tape.ty(bias)?, y[1])?;
    }
    let mut images = Vec::new();
    for value in inputs {
        images.push(raised(tape, name, value, "[A, B, L]")?);
    }
    let mut y = tape.op1(Arc::new(op), &images)?;
    if let Some(bias) = bias {
        y = tape.op1(Arc::new(AddBias), &[y, bias])?;
    }
    lowered(tape, y)
}

/// `[A, B, L]` as `[A, B, 1, L]`.
pub(super) fn raised(tape: &mut dyn Tape, op: &str, x: Value, wanted: &str) -> Result<Value> {
    let [a, b, l] = tape.ty(x)?.shape.axes(op, wanted)?;
    let extents = vec![a, b, 1, l];
    tape.op1(Arc::new(Reshape { extents }), &[x])
}

/// `[A, B, 1, L]` as `[A, B, L]`.
pub(super) fn lowered(tape: &mut dyn Tape, x: Value) -> Result<Value> {
    let [a, b, _, l] = tape.ty(x)?.shape.axes("view", "[A, B, 1, L]")?;
    let extents = vec![a, b, l];
    tape.op1(Arc::new(Reshape { extents }), &[x])
}

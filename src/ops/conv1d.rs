//! One-dimensional convolution and its transpose: those of images whose height is one. Two views, no
//! kernels of their own; biases are added at the end of the kernel. With as many groups as channels
//! they are depthwise.

use std::sync::Arc;

use super::add_bias::AddBias;
use super::conv_transpose2d::ConvTranspose2d;
use super::conv2d::Conv2d;
use super::reshape::Reshape;
use super::{Op, Tape, Value};
use crate::error::Result;

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
    let filters = "filters [F, C / groups, K]";
    over_rows(
        tape,
        "conv1d",
        op,
        [(x, "x [N, C, L]"), (weight, filters)],
        bias,
    )
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
    let (x, filters) = ((x, "x [N, F, L]"), "filters [F, C / groups, K]");
    over_rows(tape, "conv_transpose1d", op, [x, (weight, filters)], bias)
}

/// An op of images with a bias, over images and filters that lack the height.
fn over_rows(
    tape: &mut dyn Tape,
    name: &str,
    op: impl Op + 'static,
    inputs: [(Value, &str); 2],
    bias: Option<Value>,
) -> Result<Value> {
    let mut images = Vec::new();
    for (value, wanted) in inputs {
        images.push(raised(tape, name, value, wanted)?);
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

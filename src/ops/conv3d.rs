//! Three-dimensional convolution, of volumes `[N, C, D, H, W]`. It has no kernel: the planes that a
//! window sees along the depth become channels, and the rest is one [`Conv2d`],
//!
//! y\[n, f, d, i, j\] = Σ w\[f, (c, t), k, l\] · X\[(n, d), (c, t), i s + k δ − p, …\] with
//! X\[(n, d), (c, t)\] = x\[n, c, d s + t δ − p\].
//!
//! That is one product however deep the window is, and costs what X has: K_d / s times the elements
//! of x, written and read once, and once more on the way back.

use std::sync::Arc;

use super::add_bias::AddBias;
use super::concat::stack;
use super::conv2d::{Conv2d, grouped};
use super::pad::Pad;
use super::permute::Permute;
use super::reshape::Reshape;
use super::slice::Slice;
use super::window::Window;
use super::{Tape, Value, checks, floats};
use crate::error::Result;
use crate::shape::Type;

/// What `torch.nn.functional.conv3d` takes beside its tensors, with the same defaults. Along
/// `[depth, height, width]` each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conv3d {
    /// Step of the window; 1.
    pub stride: [usize; 3],
    /// Zeros around the volume; 0.
    pub padding: [usize; 3],
    /// Distance between the window's taps; 1.
    pub dilation: [usize; 3],
    /// Groups of channels that do not see each other; 1.
    pub groups: usize,
}

impl Default for Conv3d {
    fn default() -> Self {
        Self {
            stride: [1; 3],
            padding: [0; 3],
            dilation: [1; 3],
            groups: 1,
        }
    }
}

/// `torch.nn.functional.conv3d`: x `[N, C, D, H, W]`, w `[F, C / groups, K_d, K_h, K_w]`, b `[F]`;
/// y `[N, F, D_o, H_o, W_o]` with
/// D_o = ⌊(D + 2 padding − dilation (K_d − 1) − 1) / stride⌋ + 1, H_o and W_o likewise.
///
/// # Errors
/// [`Error::Shape`](crate::Error::Shape) for other axes, for groups that do not divide the channels and for a window
/// larger than x; [`Error::Setting`](crate::Error::Setting) for zeros and sizes that cannot be meant.
pub fn conv3d(
    tape: &mut dyn Tape,
    x: Value,
    weight: Value,
    bias: Option<Value>,
    settings: Conv3d,
) -> Result<Value> {
    let (volume, filters) = (tape.ty(x)?.clone(), tape.ty(weight)?.clone());
    floats("conv3d", "volumes", &volume)?;
    floats("conv3d", "filters", &filters)?;
    let [n, c, d, h, w] = volume.shape.axes("conv3d", "volumes [N, C, D, H, W]")?;
    let wanted = "filters [F, C / groups, K_d, K_h, K_w]";
    let [f, per, kd, kh, kw] = filters.shape.axes("conv3d", wanted)?;
    // All that could be wrong is found here, in words of volumes: of channels times taps the convolution
    // would not say which does not fit.
    grouped(["conv3d", "volumes", wanted], [c, f, per], settings.groups)?;
    if let Some(bias) = bias {
        checks::bias("conv3d", tape.ty(bias)?, f)?;
    }
    let [stride, padding, dilation] = [settings.stride, settings.padding, settings.dilation];
    let along = Window {
        kernel: [kd, 1],
        stride: [stride[0], 1],
        padding: [padding[0], 0],
        dilation: [dilation[0], 1],
    };
    let depth = along.along("conv3d", 0, "depth", d)?;
    let plane = Window {
        kernel: [kh, kw],
        stride: [stride[1], stride[2]],
        padding: [padding[1], padding[2]],
        dilation: [dilation[1], dilation[2]],
    };
    let [ho, wo] = plane.output("conv3d", [h, w])?;
    Type::f32("conv3d", &[n, f, depth, ho, wo])?;
    // What the windows see, which is larger than the volumes where they overlap.
    Type::f32("conv3d", &[n, depth, c, kd, h, w])?;
    let mut planes = permuted(tape, x, &[0, 2, 1, 3, 4])?;
    if padding[0] > 0 {
        let pad = Pad {
            axis: 1,
            start: padding[0],
            extent: d + 2 * padding[0],
            step: 1,
        };
        planes = tape.op1(Arc::new(pad), &[planes])?;
    }
    let mut taps = Vec::new();
    for tap in 0..kd {
        let slice = Slice {
            axis: 1,
            start: tap * dilation[0],
            extent: depth,
            step: stride[0],
        };
        taps.push(tape.op1(Arc::new(slice), &[planes])?);
    }
    let seen = stack(tape, &taps, 3)?;
    let images = reshaped(tape, seen, &[n * depth, c * kd, h, w])?;
    let filters = reshaped(tape, weight, &[f, per * kd, kh, kw])?;
    let conv = Conv2d {
        stride: [stride[1], stride[2]],
        padding: [padding[1], padding[2]],
        dilation: [dilation[1], dilation[2]],
        groups: settings.groups,
    };
    let mut y = tape.op1(Arc::new(conv), &[images, filters])?;
    if let Some(bias) = bias {
        y = tape.op1(Arc::new(AddBias), &[y, bias])?;
    }
    let y = reshaped(tape, y, &[n, depth, f, ho, wo])?;
    permuted(tape, y, &[0, 2, 1, 3, 4])
}

fn permuted(tape: &mut dyn Tape, x: Value, axes: &[usize]) -> Result<Value> {
    let axes = axes.to_vec();
    tape.op1(Arc::new(Permute { axes }), &[x])
}

fn reshaped(tape: &mut dyn Tape, x: Value, extents: &[usize]) -> Result<Value> {
    let extents = extents.to_vec();
    tape.op1(Arc::new(Reshape { extents }), &[x])
}

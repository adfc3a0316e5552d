//! Pools of rows, which are those of images whose height is one, and pools of everything behind
//! the channels. Views and other rooms' kernels, none of their own.

use std::sync::Arc;

use super::adaptive_avg_pool2d::AdaptiveAvgPool2d;
use super::adaptive_max_pool2d::AdaptiveMaxPool2d;
use super::avg_pool2d::AvgPool2d;
use super::conv1d::{lowered, raised, rows};
use super::max_pool2d::MaxPool2d;
use super::reduction::{Kind, Reduction};
use super::window::{MOST, Window};
use super::{Op, Tape, Value};
use crate::error::{Error, Result};
use crate::shape::Type;

/// What PyTorch's pools of rows take beside their tensor, with the same defaults.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pool1d {
    /// The window.
    pub kernel_size: usize,
    /// Step of the window; `None`, the default, is the window's size.
    pub stride: Option<usize>,
    /// Padding at either end, at most half the window; 0.
    pub padding: usize,
}

impl Pool1d {
    /// Windows of a size, beside each other, without padding.
    pub fn new(kernel_size: usize) -> Self {
        Self {
            kernel_size,
            stride: None,
            padding: 0,
        }
    }

    /// The window over images of height 1, held to the rows in their own words.
    fn over(self, tape: &dyn Tape, name: &str, x: Value) -> Result<Window> {
        let [.., l] = rows(tape, name, x, ROWS)?;
        let (k, padding) = (self.kernel_size, self.padding);
        Window::at_most_half(name, "length", k, padding)?;
        let window = Window {
            kernel: [1, k],
            stride: [1, self.stride.unwrap_or(k)],
            padding: [0, padding],
            dilation: [1, 1],
        };
        window.along(name, 1, "length", l)?;
        Ok(window)
    }
}

/// `torch.nn.functional.max_pool1d`: x `[N, C, L]`; y `[N, C, L_o]` with
/// L_o = ⌊(L + 2 padding − kernel_size) / stride⌋ + 1. Padding never wins.
///
/// # Errors
/// [`Error::Shape`] for other axes, for padding of more than half the window and for a window that
/// does not fit; [`Error::Setting`] for zeros.
pub fn max_pool1d(tape: &mut dyn Tape, x: Value, pool: Pool1d) -> Result<Value> {
    let window = pool.over(tape, "max_pool1d", x)?;
    let op = MaxPool2d {
        kernel: window.kernel,
        stride: window.stride,
        padding: window.padding,
    };
    over_rows(tape, "max_pool1d", x, op)
}

/// `torch.nn.functional.avg_pool1d`: as [`max_pool1d`] the mean, padding counted in.
///
/// # Errors
/// As [`max_pool1d`].
pub fn avg_pool1d(tape: &mut dyn Tape, x: Value, pool: Pool1d) -> Result<Value> {
    let window = pool.over(tape, "avg_pool1d", x)?;
    let op = AvgPool2d {
        kernel: window.kernel,
        stride: window.stride,
        padding: window.padding,
    };
    over_rows(tape, "avg_pool1d", x, op)
}

/// `torch.nn.functional.adaptive_avg_pool1d`: x `[N, C, L]`; y `[N, C, output_size]`, the means from
/// ⌊i L / output_size⌋ to ⌈(i + 1) L / output_size⌉.
///
/// # Errors
/// [`Error::Shape`] for other axes, [`Error::Setting`] for sizes below 1 and above 32,768.
pub fn adaptive_avg_pool1d(tape: &mut dyn Tape, x: Value, output_size: usize) -> Result<Value> {
    let size = adapted(tape, "adaptive_avg_pool1d", x, output_size)?;
    over_rows(tape, "adaptive_avg_pool1d", x, AdaptiveAvgPool2d { size })
}

/// `torch.nn.functional.adaptive_max_pool1d`: as [`adaptive_avg_pool1d`] the largest.
///
/// # Errors
/// As [`adaptive_avg_pool1d`].
pub fn adaptive_max_pool1d(tape: &mut dyn Tape, x: Value, output_size: usize) -> Result<Value> {
    let size = adapted(tape, "adaptive_max_pool1d", x, output_size)?;
    over_rows(tape, "adaptive_max_pool1d", x, AdaptiveMaxPool2d { size })
}

/// The mean of each channel: x `[N, C, …]` of three to six axes; y `[N, C]`.
///
/// # Errors
/// [`Error::Shape`] for other axes.
pub fn global_avg_pool(tape: &mut dyn Tape, x: Value) -> Result<Value> {
    over_all(tape, "global_avg_pool", x, Kind::Mean)
}

/// The largest of each channel, the first of equals: x `[N, C, …]` of three to six axes; y `[N, C]`.
///
/// # Errors
/// [`Error::Shape`] for other axes.
pub fn global_max_pool(tape: &mut dyn Tape, x: Value) -> Result<Value> {
    over_all(tape, "global_max_pool", x, Kind::Max)
}

const ROWS: &str = "x [N, C, L]";

/// The size over images of height 1, held to the rows in their own words.
fn adapted(tape: &dyn Tape, name: &str, x: Value, output_size: usize) -> Result<[usize; 2]> {
    let [n, c, l] = rows(tape, name, x, ROWS)?;
    let mut sizes = [l, output_size].into_iter();
    if let Some(size) = sizes.find(|size| !(1..=MOST).contains(size)) {
        let name = format!("length of {name}");
        return Err(Error::setting(name, size, format!("1 to {MOST}")));
    }
    Type::f32(name, &[n, c, output_size])?;
    Ok([1, output_size])
}

fn over_rows(tape: &mut dyn Tape, name: &str, x: Value, op: impl Op + 'static) -> Result<Value> {
    let images = raised(tape, name, x, ROWS)?;
    let y = tape.op1(Arc::new(op), &[images])?;
    lowered(tape, y)
}

fn over_all(tape: &mut dyn Tape, name: &str, x: Value, kind: Kind) -> Result<Value> {
    let ty = tape.ty(x)?;
    let rank = ty.shape.rank();
    if rank < 3 {
        let wanted = "x [N, C, …] with an axis behind the channels";
        return Err(Error::shape(name, ty.to_string(), wanted));
    }
    let axes: Vec<_> = (2..rank).collect();
    tape.op1(Arc::new(Reduction::new(kind, &axes)), &[x])
}

//! Convolution, bias and max-pooling in one kernel, and what comes back through them:
//!
//! y\[n, f, p, q\] = max over the window (p, q) of (x ∗ w)\[n, f, i, j\] + bias\[f\]
//!
//! The image between convolution and pool never exists, and neither does its gradient:
//! it would be zero except at the winner of each window, so both gradients are sums over
//! pooled places. With (i, j) = argmax\[n, f, p, q\] and g the gradient of the pooled value:
//!
//! - weights: ∂w\[f, c, k, l\] = Σ g\[n, f, p, q\] · x\[n, c, i s + k d − p, j s + l d − p\], over
//!   n, p, q: for windows of 2 × 2 a quarter of the products of the convolution's own;
//! - bias: ∂bias\[f\] = Σ g\[n, f, p, q\];
//! - input: ∂x\[n, c, h, v\] = Σ g\[n, f, p, q\] · w\[f, c, k, l\] over those pooled places
//!   whose winner has a tap (k, l) on (h, v).
//!
//! This holds for any pool, overlapping windows too: a place that wins twice is counted
//! twice. A winner whose gradient is 0 is passed over, so it gives nothing where x or w is not
//! finite either.
//!
//! The order is that of the ops that are fused: the bias is added before the comparison,
//! and of equal maxima the first in row-major order wins. Saved for the gradients: x, w,
//! y and the argmax. These ops come into being when a graph is fused, after it was
//! differentiated; they have no gradient rules of their own. Each can end in any expression of what
//! it makes: an activation, a slope, the update of the filters.

use std::sync::Arc;

use super::conv2d::{Conv2d, FILTERS, IMAGES, Sizes};
use super::max_pool2d::{MaxPool2d, pool_window};
use super::pointwise::Ending;
use super::window::Window;
use super::{
    Alternative, Case, ELEMENTWISE, Fill, Lowered, Lowering, Op, Operand, exactly, floats, grid,
};
use crate::error::Result;
use crate::kernel::{Kernel, Port, Target};
use crate::shape::Type;

mod cases;
mod kernels;
mod lanes;
mod layout;
mod optimized;
mod reference;
mod scratch;
mod staged;
mod weight_grad;
mod wide;

pub use cases::cases;
pub use kernels::{
    CONV2D_POOL, CONV2D_POOL_INPUT_GRAD, CONV2D_POOL_PAIRS, CONV2D_POOL_WEIGHT_GRAD,
    CONV2D_POOL_WEIGHT_GRAD_BIAS,
};
pub use weight_grad::{Conv2dPoolWeightGrad, Update};
use wide::{STRIP, STRIP_KERNEL, WIDE};

/// A convolution and the pool over its output.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ConvPool {
    /// The convolution.
    pub conv: Conv2d,
    /// The pool.
    pub pool: MaxPool2d,
}

/// y = maxpool(x ∗ w + bias): inputs x `[N, C, H, W]`, w `[F, C / groups, K_h, K_w]`,
/// bias `[F]`; outputs y `[N, F, P_o, Q_o]` and the argmax of each window as an index
/// h · W_o + w into the convolution's plane (integers, of y's shape).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Conv2dPool(pub ConvPool);

/// ∂x: inputs g `[N, F, P_o, Q_o]`, the argmax and w; output `[N, C, H, W]`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Conv2dPoolInputGrad {
    /// The convolution and its pool.
    pub conv_pool: ConvPool,
    /// `[H, W]`.
    pub input: [usize; 2],
}

/// Filters that one thread of the forward kernel computes; `FILTERS` of the shader.
const THREAD_FILTERS: usize = 8;

/// Channels that one thread of the input gradient computes; `CHANNELS` of the shader.
const THREAD_CHANNELS: usize = 4;

fn four(name: &str, ty: &Type) -> Result<[usize; 4]> {
    floats("conv2d_pool", name, ty)?;
    ty.shape.axes("conv2d_pool", name)
}

impl ConvPool {
    fn window(&self) -> Result<Window> {
        pool_window(
            "conv2d_pool",
            self.pool.kernel,
            self.pool.stride,
            self.pool.padding,
        )
    }

    /// The convolution's sizes and the pool's output.
    fn sizes(&self, images: [usize; 4], filters: [usize; 4]) -> Result<(Sizes, [usize; 2])> {
        let s = self.conv.sizes(images, filters)?;
        Ok((s, self.window()?.output("conv2d_pool", s.output)?))
    }

    /// Checks a gradient `[n, f, P_o, Q_o]` and an argmax of the same shape.
    fn check_upstream(&self, g: &Type, argmax: &Type, pooled: [usize; 4]) -> Result<()> {
        let wanted = Type::f32("conv2d_pool", &pooled)?;
        exactly("conv2d_pool", "gradient [N, F, P_o, Q_o]", g, &wanted)?;
        let wanted = Type::u32("conv2d_pool", &pooled)?;
        exactly("conv2d_pool", "argmax [N, F, P_o, Q_o]", argmax, &wanted)
    }

    fn constants(
        &self,
        kernel: [usize; 2],
        s: &Sizes,
        pooled: [usize; 2],
    ) -> Vec<(&'static str, f64)> {
        let mut constants = self.conv.constants(kernel, s);
        let MaxPool2d {
            kernel,
            stride,
            padding,
            ..
        } = self.pool;
        let own = [
            ("PO", pooled[0]),
            ("QO", pooled[1]),
            ("PKH", kernel[0]),
            ("PKW", kernel[1]),
            ("PSH", stride[0]),
            ("PSW", stride[1]),
            ("PPH", padding[0]),
            ("PPW", padding[1]),
        ];
        constants.extend(own.map(|(name, v)| (name, v as f64)));
        constants
    }

    /// Whether taps of the four places of a window are neighbours in the image and none
    /// lies outside: then the kernel for pairs reads each of them once.
    fn pairs(&self) -> bool {
        self.plain() && (self.pool.kernel, self.pool.padding) == ([2, 2], [0, 0])
    }

    /// Whether neighbours in the convolution's output see neighbours in the image, and every tap is
    /// inside.
    fn plain(&self) -> bool {
        let conv = &self.conv;
        (conv.stride, conv.dilation, conv.padding) == ([1, 1], [1, 1], [0, 0])
    }

    /// Products of a sum over `places` places.
    fn flops(&self, kernel: [usize; 2], s: &Sizes, places: usize) -> u64 {
        2 * (s.n * s.f * places * (s.c / self.conv.groups) * kernel[0] * kernel[1]) as u64
    }
}

impl Op for Conv2dPool {
    fn name(&self) -> &'static str {
        "conv2d_pool"
    }

    fn infer(&self, inputs: &[Type]) -> Result<Vec<Type>> {
        let [x, w, bias] = super::arity("conv2d_pool", inputs, "images, filters, bias")?;
        let filters = four(FILTERS, w)?;
        let (s, [po, qo]) = self.0.sizes(four(IMAGES, x)?, filters)?;
        exactly(
            "conv2d_pool",
            "bias [F]",
            bias,
            &Type::f32("conv2d_pool", &[s.f])?,
        )?;
        // Indices into the convolution's output are 32 bits, though it does not exist.
        Type::f32(
            "conv2d_pool, before the pool",
            &[s.n, s.f, s.output[0], s.output[1]],
        )?;
        let extents = [s.n, s.f, po, qo];
        Ok(vec![
            Type::f32("conv2d_pool", &extents)?,
            Type::u32("conv2d_pool", &extents)?,
        ])
    }

    fn lower(&self, inputs: &[Type], _: &[Type]) -> Result<Lowering> {
        let filters = four(FILTERS, &inputs[1])?;
        let (s, pooled) = self.0.sizes(four(IMAGES, &inputs[0])?, filters)?;
        let kernel = [filters[2], filters[3]];
        let constants = self.0.constants(kernel, &s, pooled);
        let groups = self.0.conv.groups;
        let blocks = groups * (s.f / groups).div_ceil(THREAD_FILTERS);
        let tiles = (s.n * pooled[0] * pooled[1]).div_ceil(ELEMENTWISE);
        let mut lowered = Lowered {
            kernel: if self.0.pairs() {
                &CONV2D_POOL_PAIRS
            } else {
                &CONV2D_POOL
            },
            constants,
            operands: vec![
                Operand::In(0),
                Operand::In(1),
                Operand::In(2),
                Operand::Out(0),
                Operand::Out(1),
            ],
            grid: grid(tiles * blocks, 1),
            flops: self.0.flops(kernel, &s, s.output[0] * s.output[1]),
            alternatives: vec![],
        };
        lowered.alternatives = self.alternatives(&lowered, filters, (s, pooled));
        Ok(Lowering::Launch(lowered))
    }

    fn port(&self) -> Option<usize> {
        Some(CONV2D_POOL.bindings.len())
    }
}

impl Conv2dPool {
    /// Other variants of the usual launch.
    fn alternatives(
        &self,
        usual: &Lowered,
        filters: [usize; 4],
        (s, [po, qo]): (Sizes, [usize; 2]),
    ) -> Vec<Alternative> {
        let groups = self.0.conv.groups;
        let mut variants = Vec::new();
        if self.0.pairs() {
            variants = staged::forward(usual, filters, (s, [po, qo]), groups);
        }
        if !self.0.pairs() || self.0.pool.stride != [2, 2] || filters[3] > STRIP_KERNEL {
            return variants;
        }
        let blocks = groups * (s.f / groups).div_ceil(STRIP[1]);
        let tiles = (s.n * po).div_ceil(WIDE);
        let grid = grid(tiles * qo.div_ceil(STRIP[0]) * blocks, 1);
        if s.input[1].is_multiple_of(4) {
            variants.push(usual.otherwise(Target::Lanes, &wide::FORWARD_LANES, grid));
        }
        variants.push(usual.otherwise(Target::Processor, &wide::FORWARD, grid));
        variants
    }
}

impl Conv2dPoolInputGrad {
    fn sizes(&self, g: &Type, w: &Type) -> Result<(Sizes, [usize; 2])> {
        let [n, ..] = four("gradient [N, F, P_o, Q_o]", g)?;
        let filters = four(FILTERS, w)?;
        let channels = filters[1].saturating_mul(self.conv_pool.conv.groups);
        let [h, v] = self.input;
        self.conv_pool.sizes([n, channels, h, v], filters)
    }
}

impl Op for Conv2dPoolInputGrad {
    fn name(&self) -> &'static str {
        "conv2d_pool"
    }

    fn infer(&self, inputs: &[Type]) -> Result<Vec<Type>> {
        let names = "gradient, argmax, filters";
        let [g, argmax, w] = super::arity("conv2d_pool input gradient", inputs, names)?;
        let (s, [po, qo]) = self.sizes(g, w)?;
        self.conv_pool
            .check_upstream(g, argmax, [s.n, s.f, po, qo])?;
        let dx = [s.n, s.c, s.input[0], s.input[1]];
        Ok(vec![Type::f32("conv2d_pool", &dx)?])
    }

    fn lower(&self, inputs: &[Type], _: &[Type]) -> Result<Lowering> {
        let (s, pooled) = self.sizes(&inputs[0], &inputs[2])?;
        let [_, _, kh, kw] = four(FILTERS, &inputs[2])?;
        let groups = self.conv_pool.conv.groups;
        let blocks = groups * (s.c / groups).div_ceil(THREAD_CHANNELS);
        let mut lowered = Lowered {
            kernel: &CONV2D_POOL_INPUT_GRAD,
            constants: self.conv_pool.constants([kh, kw], &s, pooled),
            operands: [0, 1, 2]
                .map(Operand::In)
                .into_iter()
                .chain([Operand::Out(0)])
                .collect(),
            grid: grid(s.n * blocks * s.input[0] * s.input[1], ELEMENTWISE),
            flops: self.conv_pool.flops([kh, kw], &s, pooled[0] * pooled[1]),
            alternatives: vec![],
        };
        // Pairs of places cover the convolution's output, none twice.
        let covered = self.conv_pool.pool.stride == [2, 2] && s.output == pooled.map(|o| 2 * o);
        if self.conv_pool.pairs() && covered && kh <= STRIP_KERNEL && kw <= STRIP_KERNEL {
            let grid = grid(s.n * s.c, WIDE);
            let strips = lowered.otherwise(Target::Processor, &wide::INPUT_GRAD, grid);
            lowered.alternatives = vec![strips];
        }
        let pool = &self.conv_pool.pool;
        let apart = pool.stride[0] >= pool.kernel[0] && pool.stride[1] >= pool.kernel[1];
        if self.conv_pool.plain() && apart {
            let staged = staged::input_grad(&lowered, [kh, kw], &s, groups);
            lowered.alternatives.extend(staged);
        }
        Ok(Lowering::Launch(lowered))
    }

    fn port(&self) -> Option<usize> {
        Some(CONV2D_POOL_INPUT_GRAD.bindings.len())
    }
}

/// The kernels of this file.
pub static KERNELS: &[&Kernel] = &[
    &CONV2D_POOL,
    &CONV2D_POOL_PAIRS,
    &CONV2D_POOL_INPUT_GRAD,
    &CONV2D_POOL_WEIGHT_GRAD,
    &CONV2D_POOL_WEIGHT_GRAD_BIAS,
    &wide::FORWARD,
    &wide::FORWARD_LANES,
    &wide::INPUT_GRAD,
    &wide::WEIGHT_GRAD,
    &wide::WEIGHT_GRAD_BIAS,
    &staged::FORWARD,
    &staged::INPUT_GRAD,
    &staged::WEIGHT_GRAD,
    &staged::WEIGHT_GRAD_BIAS,
];

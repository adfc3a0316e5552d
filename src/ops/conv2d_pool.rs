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
use super::pointwise::{Ended, Ending, MOST_BINDINGS, finished};
use super::window::Window;
use super::{
    Alternative, Case, ELEMENTWISE, Fill, Lowered, Lowering, Op, Operand, exactly, floats, grid,
};
use crate::error::{Error, Result};
use crate::kernel::{Bind, Kernel, Port, Target};
use crate::shape::Type;

mod lanes;
mod layout;
mod optimized;
mod reference;
mod scratch;
mod wide;

use wide::{MOST_TAPS, STRIP, STRIP_KERNEL, WIDE};

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

/// What is done with ∂w.
#[derive(Clone, Debug, PartialEq)]
pub enum Update {
    /// It is the output `[F, C / groups, K_h, K_w]`.
    Store,
    /// An expression of ∂w, such as the update of the parameter whose gradient it is; its inputs
    /// follow.
    Weights(Ending),
    /// One of ∂w and one of ∂bias `[F]`, each with which of the op's inputs its inputs are: updates,
    /// so that there is no output.
    WeightsAndBias([(Ending, Vec<usize>); 2]),
}

/// ∂w: inputs x, g `[N, F, P_o, Q_o]`, the argmax and what the update asks for; output ∂w
/// `[F, C / groups, K_h, K_w]`, or none.
#[derive(Clone, Debug, PartialEq)]
pub struct Conv2dPoolWeightGrad {
    /// The convolution and its pool.
    pub conv_pool: ConvPool,
    /// `[K_h, K_w]`.
    pub kernel: [usize; 2],
    /// What is done with the gradient.
    pub update: Update,
}

/// Filters that one thread of the forward kernel computes; `FILTERS` of the shader.
const THREAD_FILTERS: usize = 8;

/// Channels that one thread of the input gradient computes; `CHANNELS` of the shader.
const THREAD_CHANNELS: usize = 4;

/// Threads of a workgroup of the weight gradient; `LANES` of the shader.
const LANES: usize = 256;

/// Pooled places that one thread of the weight gradient adds up before the sum is shared
/// out: above, a GPU would wait on few threads; below, it is the additions between
/// threads that would cost.
const SHARE: usize = 512;

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

impl Conv2dPoolWeightGrad {
    fn sizes(&self, x: &Type, g: &Type) -> Result<(Sizes, [usize; 2])> {
        let images = four(IMAGES, x)?;
        let [_, f, ..] = four("gradient [N, F, P_o, Q_o]", g)?;
        let per = images[1] / self.conv_pool.conv.groups.max(1);
        self.conv_pool
            .sizes(images, [f, per, self.kernel[0], self.kernel[1]])
    }
}

impl Op for Conv2dPoolWeightGrad {
    fn name(&self) -> &'static str {
        "conv2d_pool"
    }

    fn infer(&self, inputs: &[Type]) -> Result<Vec<Type>> {
        let op = "conv2d_pool weight gradient";
        let [x, g, argmax, rest @ ..] = inputs else {
            let found = format!("{} inputs", inputs.len());
            return Err(Error::shape(op, found, "images, gradient and argmax first"));
        };
        let (s, [po, qo]) = self.sizes(x, g)?;
        self.conv_pool
            .check_upstream(g, argmax, [s.n, s.f, po, qo])?;
        let per = s.c / self.conv_pool.conv.groups;
        let dw = Type::f32(op, &[s.f, per, self.kernel[0], self.kernel[1]])?;
        match (&self.update, rest) {
            (Update::Store, []) => Ok(vec![dw]),
            (Update::Store, _) => {
                let found = format!("{} inputs", inputs.len());
                Err(Error::shape(op, found, "3: images, gradient, argmax"))
            }
            (Update::Weights(ending), rest) => ending.infer(&dw, rest),
            (Update::WeightsAndBias(updates), _) => {
                let elements = [dw, Type::f32(op, &[s.f])?];
                for ((update, own), element) in updates.iter().zip(elements) {
                    let rest = own.iter().map(|&k| inputs.get(k).cloned());
                    let rest = rest.collect::<Option<Vec<Type>>>().unwrap_or_default();
                    update.infer(&element, &rest)?;
                    if !update.is_update() {
                        let found = "an expression with an output of its own";
                        let wanted = "the update of the weights, then that of the bias";
                        return Err(Error::shape(op, found, wanted));
                    }
                }
                Ok(vec![])
            }
        }
    }

    fn lower(&self, inputs: &[Type], _: &[Type]) -> Result<Lowering> {
        let (s, pooled) = self.sizes(&inputs[0], &inputs[1])?;
        let mut constants = self.conv_pool.constants(self.kernel, &s, pooled);
        let mut operands: Vec<_> = (0..3).map(Operand::In).collect();
        operands.push(Operand::Out(0));
        let per = s.c / self.conv_pool.conv.groups;
        let dw = [s.f, per, self.kernel[0], self.kernel[1]];
        // The bias is one more tap of each filter, over an image of ones.
        let mut sums = per * self.kernel[0] * self.kernel[1];
        let (kernel, ends) = match &self.update {
            Update::Store => (&CONV2D_POOL_WEIGHT_GRAD, vec![]),
            Update::Weights(ending) => {
                let ends = Ended::only(Some(ending), 3, &dw);
                (&CONV2D_POOL_WEIGHT_GRAD, ends)
            }
            Update::WeightsAndBias(updates) => {
                sums += 1;
                operands.push(Operand::Out(1));
                let ends = Ended::each(updates.iter().zip([&dw[..], &[s.f]]));
                (&CONV2D_POOL_WEIGHT_GRAD_BIAS, ends)
            }
        };
        let shares = shares(sums, s.n * pooled[0] * pooled[1]);
        constants.push(("SHARES", shares as f64));
        let mut lowered = Lowered {
            kernel,
            constants,
            operands,
            grid: grid(s.f * sums.div_ceil(LANES / shares), 1),
            flops: self.conv_pool.flops(self.kernel, &s, pooled[0] * pooled[1]),
            alternatives: vec![],
        };
        lowered.alternatives = self.alternatives(&lowered, &s, pooled[0] * pooled[1]);
        Ok(Lowering::Launch(finished(lowered, &ends, inputs)?))
    }

    fn ending(&self) -> Option<&Ending> {
        match &self.update {
            Update::Weights(ending) => Some(ending),
            _ => None,
        }
    }

    fn with_ending(&self, ending: &Ending) -> Option<Arc<dyn Op>> {
        if matches!(self.update, Update::WeightsAndBias(_)) {
            return None;
        }
        let ending = ending.beside(CONV2D_POOL_WEIGHT_GRAD.bindings.len())?;
        Some(Arc::new(Self {
            update: Update::Weights(ending),
            ..*self
        }))
    }
}

impl Conv2dPoolWeightGrad {
    /// Bindings of the launch without an expression at its end.
    pub(crate) const BINDINGS: usize = 4;

    /// The op that makes two updates of its own and another sum's, if their bindings are not too many.
    pub(crate) fn with_both(&self, updates: [(Ending, Vec<usize>); 2]) -> Option<Self> {
        let inputs = updates.iter().flat_map(|(_, inputs)| inputs).max()?;
        (*inputs < MOST_BINDINGS).then_some(Self {
            update: Update::WeightsAndBias(updates),
            ..*self
        })
    }

    /// Other variants of the usual launch.
    fn alternatives(&self, usual: &Lowered, s: &Sizes, places: usize) -> Vec<Alternative> {
        if !self.conv_pool.plain() {
            return vec![];
        }
        let (wide, staged) = match &self.update {
            Update::Store | Update::Weights(_) => (&wide::WEIGHT_GRAD, &staged::WEIGHT_GRAD),
            Update::WeightsAndBias(_) => (&wide::WEIGHT_GRAD_BIAS, &staged::WEIGHT_GRAD_BIAS),
        };
        let groups = self.conv_pool.conv.groups;
        let mut variants = staged::weight_grad(usual, staged, self.kernel, s, (groups, places));
        if self.kernel[0] * self.kernel[1] <= MOST_TAPS {
            let channels = s.c / groups;
            let width = channels.next_power_of_two().min(WIDE);
            let grid = grid(s.f * channels.div_ceil(width), 1);
            let mut variant = usual.otherwise(Target::Processor, wide, grid);
            if let Some(("SHARES", shares)) = variant.constants.last_mut() {
                *shares = (WIDE / width) as f64;
            }
            variants.push(variant);
        }
        variants
    }
}

/// How many threads share the sum over `places` for each of a filter's `sums` weights: a
/// power of two, so many that no thread of a workgroup is left without a weight and none
/// has more than [`SHARE`] places, and no more than there are places.
fn shares(sums: usize, places: usize) -> usize {
    let idle = LANES / sums.next_power_of_two().min(LANES);
    let long = places.div_ceil(SHARE).next_power_of_two();
    let most = if places.is_power_of_two() {
        places
    } else {
        places.next_power_of_two() / 2
    };
    idle.max(long).min(most).min(LANES / 8)
}

/// The module of every kernel here, then `more`.
macro_rules! source {
    ($($more:literal),*) => {
        concat!(
            include_str!("../../shaders/shared/grid.wgsl"),
            include_str!("../../shaders/shared/tree.wgsl"),
            include_str!("../../shaders/shared/window.wgsl"),
            include_str!("../../shaders/shared/nan.wgsl"),
            include_str!("../../shaders/conv2d_pool.wgsl"),
            include_str!("../../shaders/conv2d_pool/wide.wgsl"),
            $(include_str!($more),)*
            $crate::port!("finish"),
            $crate::port!("finish_bias"),
        )
    };
}

const SOURCE: &str = source!();
/// A module of its own: not every adapter compiles it.
const LANES_SOURCE: &str = source!(
    "../../shaders/shared/lanes.wgsl",
    "../../shaders/conv2d_pool/lanes.wgsl"
);

/// A module of its own: its memory is sized by constants that other kernels do not have.
const STAGED_SOURCE: &str = source!("../../shaders/conv2d_pool/staged.wgsl");

/// The constants of every kernel here, then `more`.
macro_rules! constants {
    ($($more:literal),*) => {
        &[
            "N", "C", "F", "GROUPS", "H", "W", "HO", "WO", "KH", "KW", "SH", "SW", "PH", "PW", "DH",
            "DW", "PO", "QO", "PKH", "PKW", "PSH", "PSW", "PPH", "PPW", $($more),*
        ]
    };
}

mod staged;

/// y = maxpool(x ∗ w + bias).
pub static CONV2D_POOL: Kernel = Kernel {
    name: "conv2d_pool",
    turns: "PKH * PKW * (C / GROUPS * (2 + KH * (KW + 2)) + 4) + 2 * PKH + 64",
    stem: "conv2d_pool",
    source: SOURCE,
    bindings: &[
        Bind::read("x").of("N * C * H * W"),
        Bind::read("w").of("F * C * KH * KW / GROUPS"),
        Bind::read("bias").of("F"),
        Bind::write("y").of("N * F * PO * QO"),
        Bind::write("argmax").u32().of("N * F * PO * QO"),
    ],
    constants: constants!(),
    reference: crate::reference!(reference::forward),
    optimized: Some(optimized::forward),
    trusted: true,
    ports: &[Port::finish(3, "16")],
    finishing: Some(optimized::finishing),
};

/// The same for windows of 2 × 2 over a convolution of stride 1 without padding.
pub static CONV2D_POOL_PAIRS: Kernel = Kernel {
    name: "conv2d_pool_pairs",
    turns: "(C / GROUPS + 1) * (2 + KH * (KW + 2)) + 64",
    ..CONV2D_POOL
};

/// ∂x.
pub static CONV2D_POOL_INPUT_GRAD: Kernel = Kernel {
    name: "conv2d_pool_input_grad",
    turns: "(F / GROUPS + 1) * (2 + ((DH * KH + PKH) / (SH * PSH) + 1) * ((DW * KW + PKW) / (SW * PSW) + 3)) + 16",
    bindings: &[
        Bind::read("g").of("N * F * PO * QO"),
        Bind::read("saved_argmax").u32().of("N * F * PO * QO"),
        Bind::read("filters").of("F * C * KH * KW / GROUPS"),
        Bind::write("dx").of("N * C * H * W"),
    ],
    reference: crate::reference!(reference::input_grad),
    optimized: Some(optimized::input_grad),
    ports: &[Port::finish(3, "4")],
    finishing: Some(optimized::input_grad_finishing),
    ..CONV2D_POOL
};

/// ∂w.
pub static CONV2D_POOL_WEIGHT_GRAD: Kernel = Kernel {
    name: "conv2d_pool_weight_grad",
    turns: "N * PO * QO / SHARES + SHARES + 32",
    bindings: &[
        Bind::read("x").of("N * C * H * W"),
        Bind::read("upstream").of("N * F * PO * QO"),
        Bind::read("winners").u32().of("N * F * PO * QO"),
        Bind::write("dw").of("F * C * KH * KW / GROUPS"),
    ],
    constants: constants!("SHARES"),
    reference: crate::reference!(reference::weight_grad),
    optimized: Some(optimized::weight_grad),
    finishing: None,
    ..CONV2D_POOL
};

/// ∂w and ∂bias.
pub static CONV2D_POOL_WEIGHT_GRAD_BIAS: Kernel = Kernel {
    name: "conv2d_pool_weight_grad_bias",
    bindings: &[
        Bind::read("x").of("N * C * H * W"),
        Bind::read("upstream").of("N * F * PO * QO"),
        Bind::read("winners").u32().of("N * F * PO * QO"),
        Bind::write("dw").of("F * C * KH * KW / GROUPS"),
        Bind::write("dbias").of("F"),
    ],
    reference: crate::reference!(reference::weight_grad_bias),
    optimized: Some(optimized::weight_grad_bias),
    ports: &[
        Port::finish(3, "16"),
        Port {
            name: "finish_bias",
            binding: 4,
            before: None,
            partial: false,
            elements: "1",
        },
    ],
    ..CONV2D_POOL_WEIGHT_GRAD
};

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

mod cases;
pub use cases::cases;

//! Two-dimensional convolution (cross-correlation, as everywhere in deep learning):
//!
//! y\[n, f, i, j\] = Σ x\[n, c, i s + k d − p, j s + l d − p\] · w\[f, c, k, l\], over the channels c of
//! f's group and the taps k, l; taps outside the image give nothing.
//!
//! Its gradients are two more correlations (LeCun et al. 1989; Dumoulin and Visin 2016):
//!
//! - input: ∂x\[n, c, h, v\] = Σ g\[n, f, i, j\] · w\[f, c, k, l\] over all f of c's group and all
//!   (i, k), (j, l) for which tap k of place i lies on row h and tap l of place j on
//!   column v: gathered per input, so nothing is added up in memory;
//! - weights: ∂w\[f, c, k, l\] = Σ g\[n, f, i, j\] · x\[n, c, i s + k d − p, …\] over all n, i, j.
//!
//! Saved for the gradient: x and w. The kernels can end in a bias and an activation, in
//! the backward Hadamard product, or in the update of the weights.

use std::sync::Arc;

use super::activation::Activation;
use super::sgd::{self, Sgd};
use super::window::Window;
use super::{
    Alternative, Backward, Case, ELEMENTWISE, Epilogue, Fill, Lowered, Op, Operand, Value, arity, exactly,
    floats, grid,
};
use crate::error::{Error, Result};
use crate::kernel::{Bind, Kernel};
use crate::shape::Type;

mod fast;
mod implicit;
mod reference;

use implicit::direct_cost;

/// What is done with an output before it is stored.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ConvEnd {
    /// Nothing.
    Store,
    /// σ(y + bias), bias `[F]` as input 2.
    Bias(Activation),
}

/// y = x ∗ w: inputs x `[N, C, H, W]`, w `[F, C / groups, K_h, K_w]` and what the end
/// asks for; output y `[N, F, H_o, W_o]`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Conv2d {
    /// Step of the window, `[height, width]`.
    pub stride: [usize; 2],
    /// Zeros around the image.
    pub padding: [usize; 2],
    /// Distance between the window's taps.
    pub dilation: [usize; 2],
    /// Groups of channels that do not see each other; they divide C and F.
    pub groups: usize,
    /// What is done with the result.
    pub end: ConvEnd,
}

/// ∂x: inputs g `[N, F, H_o, W_o]`, w and, with a slope, x's values as an activation's
/// outputs `[N, C, H, W]`; output `[N, C, H, W]`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Conv2dInputGrad {
    /// The convolution.
    pub conv: Conv2d,
    /// `[H, W]`.
    pub input: [usize; 2],
    /// Multiply by this activation's slope.
    pub slope: Option<Activation>,
}

/// ∂w: inputs x, g and, with an update, those of [`Sgd`] after its gradient; output ∂w
/// `[F, C / groups, K_h, K_w]`, or none.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Conv2dWeightGrad {
    /// The convolution.
    pub conv: Conv2d,
    /// `[K_h, K_w]`.
    pub kernel: [usize; 2],
    /// ∂w is the gradient that updates a parameter.
    pub update: Option<Sgd>,
}

/// Every size of one launch.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sizes {
    pub n: usize,
    pub c: usize,
    pub f: usize,
    pub input: [usize; 2],
    pub output: [usize; 2],
}

impl Conv2d {
    fn window(&self, kernel: [usize; 2]) -> Window {
        Window {
            kernel,
            stride: self.stride,
            padding: self.padding,
            dilation: self.dilation,
        }
    }

    /// The sizes for images `[n, c, h, w]` and filters `[f, c / groups, kh, kw]`.
    pub(super) fn sizes(&self, [n, c, h, w]: [usize; 4], [f, per, kh, kw]: [usize; 4]) -> Result<Sizes> {
        let groups = self.groups;
        if groups == 0 || !c.is_multiple_of(groups) || !f.is_multiple_of(groups) {
            return Err(Error::shape(
                "conv2d",
                format!("{c} channels and {f} filters in {groups} groups"),
                "groups that divide channels and filters",
            ));
        }
        if per != c / groups {
            return Err(Error::shape(
                "conv2d",
                format!("filters over {per} channels, images of {c} channels in {groups} groups"),
                "filters [F, C / groups, K_h, K_w]",
            ));
        }
        Ok(Sizes {
            n,
            c,
            f,
            input: [h, w],
            output: self.window([kh, kw]).output("conv2d", [h, w])?,
        })
    }

    pub(super) fn constants(&self, kernel: [usize; 2], s: &Sizes) -> Vec<(&'static str, f64)> {
        let own = [("N", s.n), ("C", s.c), ("F", s.f), ("GROUPS", self.groups)];
        let mut constants: Vec<_> = own.map(|(name, v)| (name, v as f64)).into();
        constants.extend(self.window(kernel).constants(s.input, s.output));
        constants
    }

    fn flops(&self, kernel: [usize; 2], s: &Sizes) -> u64 {
        let taps = s.c / self.groups * kernel[0] * kernel[1];
        2 * (s.n * s.f * s.output[0] * s.output[1] * taps) as u64
    }

    /// The direct kernel, and every way, the best for a GPU first.
    fn ways(&self, inputs: &[Type], outputs: &[Type]) -> Option<(Lowered, Vec<Alternative>)> {
        let filters = four(FILTERS, &inputs[1]).ok()?;
        let s = self.sizes(four(IMAGES, &inputs[0]).ok()?, filters).ok()?;
        let kernel = [filters[2], filters[3]];
        let mut constants = self.constants(kernel, &s);
        let mut operands: Vec<_> = (0..inputs.len()).map(Operand::In).collect();
        operands.push(Operand::Out(0));
        let (launched, blocks) = match self.end {
            ConvEnd::Store => (&CONV2D, &implicit::FORWARD),
            ConvEnd::Bias(act) => {
                constants.push(("ACTIVATION", act.constant()));
                (&CONV2D_BIAS, &implicit::FORWARD_BIAS)
            }
        };
        let direct = Lowered {
            kernel: launched,
            constants,
            operands,
            grid: grid(outputs[0].elements(), ELEMENTWISE),
            flops: self.flops(kernel, &s),
        };
        let taps = filters[1] * kernel[0] * kernel[1];
        let sizes = [s.f / self.groups, s.n * s.output[0] * s.output[1], taps];
        let cost = direct_cost(outputs[0].elements(), taps);
        let ways = implicit::ways(&direct, cost, blocks, sizes, self.groups);
        Some((direct, ways))
    }

    fn bare(&self) -> Self {
        Self {
            end: ConvEnd::Store,
            ..*self
        }
    }
}

/// Threads that share the sum of a weight's gradient; `LANES` of the shader.
const LANES: usize = 64;

pub(super) const IMAGES: &str = "images [N, C, H, W]";
pub(super) const FILTERS: &str = "filters [F, C / groups, K_h, K_w]";
const UPSTREAM: &str = "gradient [N, F, H_o, W_o]";

fn four(name: &str, ty: &Type) -> Result<[usize; 4]> {
    floats("conv2d", name, ty)?;
    ty.shape.axes("conv2d", name)
}

impl Op for Conv2d {
    fn name(&self) -> &'static str {
        "conv2d"
    }

    fn infer(&self, inputs: &[Type]) -> Result<Vec<Type>> {
        let (x, w) = match (self.end, inputs) {
            (ConvEnd::Store, [x, w]) => (x, w),
            (ConvEnd::Bias(_), [x, w, bias]) => {
                let [f, ..] = four(FILTERS, w)?;
                exactly("conv2d", "bias [F]", bias, &Type::f32("conv2d", &[f])?)?;
                (x, w)
            }
            _ => {
                let found = format!("{} inputs", inputs.len());
                return Err(Error::shape("conv2d", found, "images, filters and, at its end, a bias"));
            }
        };
        let s = self.sizes(four(IMAGES, x)?, four(FILTERS, w)?)?;
        Ok(vec![Type::f32("conv2d", &[s.n, s.f, s.output[0], s.output[1]])?])
    }

    fn lower(&self, inputs: &[Type], outputs: &[Type]) -> Option<Lowered> {
        let (direct, mut ways) = self.ways(inputs, outputs)?;
        Some(direct.done(ways.swap_remove(0)))
    }

    fn alternatives(&self, inputs: &[Type], outputs: &[Type]) -> Vec<Alternative> {
        let ways = self.ways(inputs, outputs);
        ways.map_or(vec![], |(_, mut ways)| ways.split_off(1))
    }

    fn gradient(&self, b: &mut Backward<'_>) -> Result<Vec<Option<Value>>> {
        let [_, _, h, w] = four(IMAGES, b.tape.ty(b.inputs[0]))?;
        let [_, _, kh, kw] = four(FILTERS, b.tape.ty(b.inputs[1]))?;
        let conv = self.bare();
        let input = Conv2dInputGrad {
            conv,
            input: [h, w],
            slope: None,
        };
        let weight = Conv2dWeightGrad {
            conv,
            kernel: [kh, kw],
            update: None,
        };
        let mut gradients = vec![None; b.inputs.len()];
        if b.wanted[0] {
            let inputs = [b.upstream, b.inputs[1]];
            gradients[0] = Some(b.tape.op1(Arc::new(input), &inputs)?);
        }
        if b.wanted[1] {
            let inputs = [b.inputs[0], b.upstream];
            gradients[1] = Some(b.tape.op1(Arc::new(weight), &inputs)?);
        }
        Ok(gradients)
    }

    fn with_epilogue(&self, epilogue: &Epilogue) -> Option<Arc<dyn Op>> {
        let end = match (self.end, epilogue) {
            (ConvEnd::Store, Epilogue::Bias) => ConvEnd::Bias(Activation::Linear),
            (ConvEnd::Bias(Activation::Linear), Epilogue::Activation(act)) => ConvEnd::Bias(*act),
            _ => return None,
        };
        Some(Arc::new(Self { end, ..*self }))
    }
}

impl Conv2dInputGrad {
    fn sizes(&self, g: &Type, w: &Type) -> Result<Sizes> {
        let ([n, gf, ho, wo], filters) = (four(UPSTREAM, g)?, four(FILTERS, w)?);
        let [f, per, ..] = filters;
        let channels = per.saturating_mul(self.conv.groups);
        let [h, w] = self.input;
        let s = self.conv.sizes([n, channels, h, w], filters)?;
        if [gf, ho, wo] != [f, s.output[0], s.output[1]] {
            let wanted = format!("[{n}, {f}, {}, {}]", s.output[0], s.output[1]);
            return Err(Error::shape("conv2d input gradient", g.to_string(), wanted));
        }
        Ok(s)
    }

    /// The direct kernel, and every way, the best for a GPU first.
    fn ways(&self, inputs: &[Type], outputs: &[Type]) -> Option<(Lowered, Vec<Alternative>)> {
        let s = self.sizes(&inputs[0], &inputs[1]).ok()?;
        let [_, per, kh, kw] = four(FILTERS, &inputs[1]).ok()?;
        let mut constants = self.conv.constants([kh, kw], &s);
        let mut operands: Vec<_> = (0..inputs.len()).map(Operand::In).collect();
        operands.push(Operand::Out(0));
        let (kernel, blocks) = match self.slope {
            None => (&CONV2D_INPUT_GRAD, &implicit::INPUT_GRAD),
            Some(act) => {
                constants.push(("ACTIVATION", act.constant()));
                (&CONV2D_INPUT_GRAD_SLOPE, &implicit::INPUT_GRAD_SLOPE)
            }
        };
        let direct = Lowered {
            kernel,
            constants,
            operands,
            grid: grid(outputs[0].elements(), ELEMENTWISE),
            flops: self.conv.flops([kh, kw], &s),
        };
        let groups = self.conv.groups;
        let taps = s.f / groups * kh * kw;
        let sizes = [per, s.n * s.input[0] * s.input[1], taps];
        let cost = direct_cost(outputs[0].elements(), taps);
        let ways = implicit::ways(&direct, cost, blocks, sizes, groups);
        Some((direct, ways))
    }
}

impl Op for Conv2dInputGrad {
    fn name(&self) -> &'static str {
        "conv2d"
    }

    fn infer(&self, inputs: &[Type]) -> Result<Vec<Type>> {
        let (g, w, y) = match (self.slope, inputs) {
            (None, [g, w]) => (g, w, None),
            (Some(_), [g, w, y]) => (g, w, Some(y)),
            _ => {
                let found = format!("{} inputs", inputs.len());
                let wanted = "gradient, filters and, with a slope, outputs";
                return Err(Error::shape("conv2d input gradient", found, wanted));
            }
        };
        let s = self.sizes(g, w)?;
        let dx = Type::f32("conv2d", &[s.n, s.c, s.input[0], s.input[1]])?;
        if let Some(y) = y {
            exactly("conv2d", "outputs [N, C, H, W]", y, &dx)?;
        }
        Ok(vec![dx])
    }

    fn lower(&self, inputs: &[Type], outputs: &[Type]) -> Option<Lowered> {
        let (direct, mut ways) = self.ways(inputs, outputs)?;
        Some(direct.done(ways.swap_remove(0)))
    }

    fn alternatives(&self, inputs: &[Type], outputs: &[Type]) -> Vec<Alternative> {
        let ways = self.ways(inputs, outputs);
        ways.map_or(vec![], |(_, mut ways)| ways.split_off(1))
    }

    fn with_epilogue(&self, epilogue: &Epilogue) -> Option<Arc<dyn Op>> {
        match (self.slope, epilogue) {
            (None, Epilogue::ActivationSlope(act)) => Some(Arc::new(Self {
                slope: Some(*act),
                ..*self
            })),
            _ => None,
        }
    }
}

impl Conv2dWeightGrad {
    fn sizes(&self, x: &Type, g: &Type) -> Result<Sizes> {
        let (images, [n, f, ho, wo]) = (four(IMAGES, x)?, four(UPSTREAM, g)?);
        let per = images[1] / self.conv.groups.max(1);
        let s = self.conv.sizes(images, [f, per, self.kernel[0], self.kernel[1]])?;
        if [n, ho, wo] != [s.n, s.output[0], s.output[1]] {
            let wanted = format!("[{}, {f}, {}, {}]", s.n, s.output[0], s.output[1]);
            return Err(Error::shape("conv2d weight gradient", g.to_string(), wanted));
        }
        Ok(s)
    }

    /// The direct kernel, and every way, the best for a GPU first.
    fn ways(&self, inputs: &[Type], _: &[Type]) -> Option<(Lowered, Vec<Alternative>)> {
        let s = self.sizes(&inputs[0], &inputs[1]).ok()?;
        let mut constants = self.conv.constants(self.kernel, &s);
        let mut operands: Vec<_> = (0..inputs.len()).map(Operand::In).collect();
        let (kernel, blocks) = match &self.update {
            None => {
                operands.push(Operand::Out(0));
                (&CONV2D_WEIGHT_GRAD, &implicit::WEIGHT_GRAD)
            }
            Some(sgd) => {
                constants.extend(sgd.constants());
                match sgd.momentum {
                    true => (
                        &CONV2D_WEIGHT_GRAD_SGD_MOMENTUM,
                        &implicit::WEIGHT_GRAD_SGD_MOMENTUM,
                    ),
                    false => (&CONV2D_WEIGHT_GRAD_SGD, &implicit::WEIGHT_GRAD_SGD),
                }
            }
        };
        let groups = self.conv.groups;
        let taps = s.c / groups * self.kernel[0] * self.kernel[1];
        let direct = Lowered {
            kernel,
            constants,
            operands,
            grid: grid(s.f * taps, 1),
            flops: self.conv.flops(self.kernel, &s),
        };
        let places = s.n * s.output[0] * s.output[1];
        let cost = direct_cost(s.f * taps * LANES, places.div_ceil(LANES));
        let ways = implicit::ways(&direct, cost, blocks, [s.f / groups, taps, places], groups);
        Some((direct, ways))
    }
}

impl Op for Conv2dWeightGrad {
    fn name(&self) -> &'static str {
        "conv2d"
    }

    fn infer(&self, inputs: &[Type]) -> Result<Vec<Type>> {
        let (x, g, rest) = match inputs {
            [x, g, rest @ ..] if self.update.is_some() || rest.is_empty() => (x, g, rest),
            _ => {
                arity::<2>("conv2d weight gradient", inputs, "images, gradient")?;
                return Ok(vec![]);
            }
        };
        let s = self.sizes(x, g)?;
        let per = s.c / self.conv.groups;
        let dw = Type::f32("conv2d", &[s.f, per, self.kernel[0], self.kernel[1]])?;
        match &self.update {
            None => Ok(vec![dw]),
            Some(sgd) => {
                sgd.check(&dw, rest)?;
                Ok(vec![])
            }
        }
    }

    fn lower(&self, inputs: &[Type], outputs: &[Type]) -> Option<Lowered> {
        let (direct, mut ways) = self.ways(inputs, outputs)?;
        Some(direct.done(ways.swap_remove(0)))
    }

    fn alternatives(&self, inputs: &[Type], outputs: &[Type]) -> Vec<Alternative> {
        let ways = self.ways(inputs, outputs);
        ways.map_or(vec![], |(_, mut ways)| ways.split_off(1))
    }

    fn with_epilogue(&self, epilogue: &Epilogue) -> Option<Arc<dyn Op>> {
        match (self.update, epilogue) {
            (None, Epilogue::Sgd(sgd)) => Some(Arc::new(Self {
                update: Some(*sgd),
                ..*self
            })),
            _ => None,
        }
    }
}

const SOURCE: &str = concat!(
    include_str!("../../shaders/shared/grid.wgsl"),
    include_str!("../../shaders/shared/tree.wgsl"),
    include_str!("../../shaders/shared/window.wgsl"),
    include_str!("../../shaders/shared/activation.wgsl"),
    include_str!("../../shaders/shared/sgd.wgsl"),
    include_str!("../../shaders/conv2d.wgsl"),
);

/// The constants of every kernel here, then `more`.
macro_rules! constants {
    ($($more:literal),*) => {
        &[
            "N", "C", "F", "GROUPS", "H", "W", "HO", "WO", "KH", "KW", "SH", "SW", "PH", "PW", "DH",
            "DW", $($more),*
        ]
    };
}

/// y = x ∗ w.
pub static CONV2D: Kernel = Kernel {
    name: "conv2d",
    stem: "conv2d",
    source: SOURCE,
    bindings: &[Bind::read("x"), Bind::read("w"), Bind::write("y")],
    constants: constants!(),
    reference: crate::reference!(reference::forward),
    fast: Some(fast::forward),
};

/// y = σ(x ∗ w + bias).
pub static CONV2D_BIAS: Kernel = Kernel {
    name: "conv2d_bias",
    bindings: &[Bind::read("x"), Bind::read("w"), Bind::read("bias"), Bind::write("biased")],
    constants: constants!("ACTIVATION"),
    reference: crate::reference!(reference::forward_bias),
    fast: Some(fast::forward_bias),
    ..CONV2D
};

/// ∂x.
pub static CONV2D_INPUT_GRAD: Kernel = Kernel {
    name: "conv2d_input_grad",
    bindings: &[Bind::read("g"), Bind::read("w"), Bind::write("dx")],
    reference: crate::reference!(reference::input_grad),
    fast: Some(fast::input_grad),
    ..CONV2D
};

/// ∂x ⊙ σ′(y).
pub static CONV2D_INPUT_GRAD_SLOPE: Kernel = Kernel {
    name: "conv2d_input_grad_slope",
    bindings: &[Bind::read("g"), Bind::read("w"), Bind::read("saved_x"), Bind::write("delta")],
    constants: constants!("ACTIVATION"),
    reference: crate::reference!(reference::input_grad_slope),
    fast: Some(fast::input_grad_slope),
    ..CONV2D
};

/// ∂w.
pub static CONV2D_WEIGHT_GRAD: Kernel = Kernel {
    name: "conv2d_weight_grad",
    bindings: &[Bind::read("x"), Bind::read("upstream"), Bind::write("dw")],
    reference: crate::reference!(reference::weight_grad),
    fast: Some(fast::weight_grad),
    ..CONV2D
};

/// ∂w is the gradient that updates `parameter`.
pub static CONV2D_WEIGHT_GRAD_SGD: Kernel = Kernel {
    name: "conv2d_weight_grad_sgd",
    bindings: &[
        Bind::read("x"),
        Bind::read("upstream"),
        Bind::update("parameter"),
        Bind::read("hyper"),
        Bind::read("step").u32(),
    ],
    constants: constants!("DECAY", "EPOCH_STEPS", "SCHEDULE"),
    reference: crate::reference!(reference::weight_grad_sgd),
    fast: Some(fast::weight_grad_sgd),
    ..CONV2D
};

/// The same with momentum.
pub static CONV2D_WEIGHT_GRAD_SGD_MOMENTUM: Kernel = Kernel {
    name: "conv2d_weight_grad_sgd_momentum",
    bindings: &[
        Bind::read("x"),
        Bind::read("upstream"),
        Bind::update("parameter"),
        Bind::read("hyper"),
        Bind::read("step").u32(),
        Bind::update("velocity"),
    ],
    constants: constants!("DECAY", "EPOCH_STEPS", "SCHEDULE"),
    reference: crate::reference!(reference::weight_grad_sgd_momentum),
    fast: Some(fast::weight_grad_sgd_momentum),
    ..CONV2D
};

/// The kernels of this file.
pub static KERNELS: &[&Kernel] = &[
    &CONV2D,
    &CONV2D_BIAS,
    &CONV2D_INPUT_GRAD,
    &CONV2D_INPUT_GRAD_SLOPE,
    &CONV2D_WEIGHT_GRAD,
    &CONV2D_WEIGHT_GRAD_SGD,
    &CONV2D_WEIGHT_GRAD_SGD_MOMENTUM,
    &implicit::FORWARD,
    &implicit::FORWARD_BIAS,
    &implicit::INPUT_GRAD,
    &implicit::INPUT_GRAD_SLOPE,
    &implicit::WEIGHT_GRAD,
    &implicit::WEIGHT_GRAD_SGD,
    &implicit::WEIGHT_GRAD_SGD_MOMENTUM,
];

/// One of each, primes, everything asymmetric, stride, padding, dilation, groups,
/// depthwise; places of the image that no window sees; channels enough for products in
/// blocks.
pub fn cases() -> Vec<Case> {
    let uniform = Fill::Uniform(-1.0, 1.0);
    let mut cases = Vec::new();
    for (x, w, stride, padding, dilation, groups) in [
        ([1, 1, 1, 1], [1, 1, 1, 1], [1, 1], [0, 0], [1, 1], 1),
        ([1, 1, 5, 7], [1, 1, 2, 3], [1, 1], [0, 0], [1, 1], 1),
        ([3, 2, 7, 5], [5, 2, 3, 2], [1, 1], [0, 0], [1, 1], 1),
        ([2, 3, 6, 6], [4, 3, 5, 5], [1, 1], [2, 1], [1, 1], 1),
        ([2, 1, 9, 8], [3, 1, 3, 3], [2, 3], [0, 1], [1, 1], 1),
        ([1, 2, 11, 9], [2, 2, 3, 2], [3, 2], [1, 0], [1, 2], 1),
        ([2, 4, 5, 6], [6, 2, 2, 3], [1, 2], [1, 1], [2, 1], 2),
        ([2, 3, 5, 5], [3, 1, 3, 3], [1, 1], [1, 1], [1, 1], 3),
        ([1, 2, 4, 4], [4, 1, 2, 2], [3, 3], [0, 0], [1, 1], 2),
        ([3, 1, 12, 13], [2, 1, 5, 4], [1, 1], [0, 0], [1, 1], 1),
        ([2, 9, 7, 8], [37, 9, 3, 2], [2, 1], [1, 1], [1, 2], 1),
        ([3, 16, 5, 6], [70, 8, 2, 3], [1, 1], [1, 0], [1, 1], 2),
    ] {
        let conv = Conv2d {
            stride,
            padding,
            dilation,
            groups,
            end: ConvEnd::Store,
        };
        let Ok(s) = conv.sizes(x, w) else { continue };
        let [n, f, ho, wo] = [s.n, s.f, s.output[0], s.output[1]];
        let taps = w[1] * w[2] * w[3];
        let bare = Case::new(conv, taps).float(&x, uniform).float(&w, uniform);
        // Central differences of many weights take long, and find nothing that few do not.
        cases.push(if f < 8 { bare } else { bare.forward_only() });
        let act = Activation::Sigmoid;
        let biased = Conv2d {
            end: ConvEnd::Bias(act),
            ..conv
        };
        let case = Case::new(biased, taps).fixed(&x, uniform).fixed(&w, uniform);
        cases.push(case.fixed(&[f], uniform));
        for slope in [None, Some(act)] {
            let grad = Conv2dInputGrad {
                conv,
                input: [x[2], x[3]],
                slope,
            };
            let case = Case::new(grad, f / groups * w[2] * w[3]);
            let case = case.fixed(&[n, f, ho, wo], uniform).fixed(&w, uniform);
            cases.push(if slope.is_some() { case.fixed(&x, uniform) } else { case });
        }
        let update = |momentum| Sgd {
            decay: true,
            momentum,
            epoch_steps: 3,
            schedule: 2,
        };
        for update in [None, Some(update(false)), Some(update(true))] {
            let grad = Conv2dWeightGrad {
                conv,
                kernel: [w[2], w[3]],
                update,
            };
            let case = Case::new(grad, n * ho * wo);
            let case = case.fixed(&x, uniform).fixed(&[n, f, ho, wo], uniform);
            cases.push(match update {
                None => case,
                Some(sgd) => sgd::case_inputs(case, sgd, &w),
            });
        }
    }
    cases
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_that_do_not_fit_are_named() {
        let conv = Conv2d {
            stride: [1, 1],
            padding: [0, 0],
            dilation: [1, 1],
            groups: 2,
            end: ConvEnd::Store,
        };
        let ty = |e: &[usize]| Type::f32("x", e).unwrap();
        let refused = |x: &[usize], w: &[usize]| {
            conv.infer(&[ty(x), ty(w)]).unwrap_err().to_string()
        };
        assert!(refused(&[1, 3, 5, 5], &[2, 1, 2, 2]).contains("3 channels and 2 filters in 2 groups"));
        assert!(refused(&[1, 4, 5, 5], &[3, 2, 2, 2]).contains("4 channels and 3 filters"));
        assert!(refused(&[1, 4, 5, 5], &[2, 4, 2, 2]).contains("filters over 4 channels"));
        assert!(refused(&[1, 4, 5, 5], &[2, 2, 6, 2]).contains("reaches over 6, height 5"));
        assert!(refused(&[1, 4, 25], &[2, 2, 2, 2]).contains("[1, 4, 25]"));
    }
}

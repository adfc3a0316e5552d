//! The gradients of a convolution; their equations stand at the head of `conv2d.rs`.

use super::implicit::direct_weight_cost;
use super::weight_parts::{PATCH, Parts, WEIGHT_PARTS, WEIGHT_SUM};
use super::*;
use crate::kernel::Demand;
use crate::ops::parts;

/// ∂x: inputs g `[N, F, H_o, W_o]` and w; output `[N, C, H, W]`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Conv2dInputGrad {
    /// The convolution.
    pub conv: Conv2d,
    /// `[H, W]`.
    pub input: [usize; 2],
}

/// ∂w: inputs x, g and what the ending asks for; output ∂w `[F, C / groups, K_h, K_w]`, or the
/// ending's.
#[derive(Clone, Debug, PartialEq)]
pub struct Conv2dWeightGrad {
    /// The convolution.
    pub conv: Conv2d,
    /// `[K_h, K_w]`.
    pub kernel: [usize; 2],
    /// An expression of ∂w, such as the update of the parameter whose gradient it is.
    pub ending: Option<Ending>,
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

    /// The direct kernel, and every variant, the best for a GPU first.
    fn variants(&self, inputs: &[Type], outputs: &[Type]) -> Result<(Lowered, Vec<Alternative>)> {
        let s = self.sizes(&inputs[0], &inputs[1])?;
        let [_, per, kh, kw] = four(FILTERS, &inputs[1])?;
        let direct = Lowered {
            kernel: &CONV2D_INPUT_GRAD,
            constants: self.conv.constants([kh, kw], &s),
            operands: vec![Operand::In(0), Operand::In(1), Operand::Out(0)],
            grid: grid(outputs[0].elements(), ELEMENTWISE),
            flops: self.conv.flops([kh, kw], &s),
            alternatives: vec![],
        };
        let groups = self.conv.groups;
        let taps = s.f / groups * kh * kw;
        let sizes = [per, s.n * s.input[0] * s.input[1], taps];
        let cost = direct_cost(outputs[0].elements(), taps);
        let mut variants = implicit::variants(&direct, cost, &implicit::INPUT_GRAD, sizes, groups);
        let [rows, columns, _] = sizes;
        let tiles = &tiled::INPUT_GRAD;
        variants.extend(tiled::variant(&direct, tiles, [rows, columns], groups));
        Ok((direct, variants))
    }
}

impl Op for Conv2dInputGrad {
    fn name(&self) -> &'static str {
        "conv2d"
    }

    fn infer(&self, inputs: &[Type]) -> Result<Vec<Type>> {
        let [g, w] = arity("conv2d input gradient", inputs, "gradient, filters")?;
        let s = self.sizes(g, w)?;
        Ok(vec![Type::f32(
            "conv2d",
            &[s.n, s.c, s.input[0], s.input[1]],
        )?])
    }

    fn lower(&self, inputs: &[Type], outputs: &[Type]) -> Result<Lowering> {
        let (direct, variants) = self.variants(inputs, outputs)?;
        Ok(Lowering::Launch(direct.by(variants)))
    }

    fn port(&self) -> Option<usize> {
        Some(CONV2D_INPUT_GRAD.bindings.len())
    }
}

impl Conv2dWeightGrad {
    fn sizes(&self, x: &Type, g: &Type) -> Result<Sizes> {
        let (images, [n, f, ho, wo]) = (four(IMAGES, x)?, four(UPSTREAM, g)?);
        let per = images[1] / self.conv.groups.max(1);
        let s = self
            .conv
            .sizes(images, [f, per, self.kernel[0], self.kernel[1]])?;
        if [n, ho, wo] != [s.n, s.output[0], s.output[1]] {
            let wanted = format!("[{}, {f}, {}, {}]", s.n, s.output[0], s.output[1]);
            return Err(Error::shape(
                "conv2d weight gradient",
                g.to_string(),
                wanted,
            ));
        }
        Ok(s)
    }

    /// The direct kernel, and every variant, the best for a GPU first.
    fn variants(&self, inputs: &[Type], _: &[Type]) -> Result<(Lowered, Vec<Alternative>)> {
        let s = self.sizes(&inputs[0], &inputs[1])?;
        let groups = self.conv.groups;
        let taps = s.c / groups * self.kernel[0] * self.kernel[1];
        let direct = Lowered {
            kernel: &CONV2D_WEIGHT_GRAD,
            constants: self.conv.constants(self.kernel, &s),
            operands: vec![Operand::In(0), Operand::In(1), Operand::Out(0)],
            grid: grid(s.f * taps, 1),
            flops: self.conv.flops(self.kernel, &s),
            alternatives: vec![],
        };
        let places = s.n * s.output[0] * s.output[1];
        let cost = direct_weight_cost(s.f * taps * LANES, places.div_ceil(LANES));
        let blocks = &implicit::WEIGHT_GRAD;
        let variants =
            implicit::variants(&direct, cost, blocks, [s.f / groups, taps, places], groups);
        Ok((direct, variants))
    }
}

impl Op for Conv2dWeightGrad {
    fn name(&self) -> &'static str {
        "conv2d"
    }

    fn infer(&self, inputs: &[Type]) -> Result<Vec<Type>> {
        let (x, g, rest) = match inputs {
            [x, g, rest @ ..] if self.ending.is_some() || rest.is_empty() => (x, g, rest),
            _ => {
                arity::<2>("conv2d weight gradient", inputs, "images, gradient")?;
                return Ok(vec![]);
            }
        };
        let s = self.sizes(x, g)?;
        let per = s.c / self.conv.groups;
        let dw = Type::f32("conv2d", &[s.f, per, self.kernel[0], self.kernel[1]])?;
        match &self.ending {
            None => Ok(vec![dw]),
            Some(ending) => ending.infer(&dw, rest),
        }
    }

    fn lower(&self, inputs: &[Type], outputs: &[Type]) -> Result<Lowering> {
        let (direct, variants) = self.variants(inputs, outputs)?;
        let s = self.sizes(&inputs[0], &inputs[1])?;
        let dw = [s.f, s.c / self.conv.groups, self.kernel[0], self.kernel[1]];
        let ends = Ended::only(self.ending.as_ref(), 2, &dw);
        let (groups, places) = (self.conv.groups, s.output[0] * s.output[1]);
        let [filters, taps] = [s.f / groups, dw[1] * dw[2] * dw[3]];
        if let Some(Parts { images, count }) = Parts::of([s.n, places], [filters, taps], groups) {
            let own = [("IMAGES", images as f64), ("PARTS", count as f64)];
            let constants = [&direct.constants[..], &own].concat();
            let products = (groups * count, [filters, taps, images * places]);
            let by = parts::variants(&WEIGHT_PARTS, &constants, products, PATCH);
            return parts::lowered(direct.by(by), &WEIGHT_SUM, (count, &dw), &ends, inputs);
        }
        Ok(Lowering::Launch(finished(
            direct.by(variants),
            &ends,
            inputs,
        )?))
    }

    fn ending(&self) -> Option<&Ending> {
        self.ending.as_ref()
    }

    fn with_ending(&self, ending: &Ending) -> Option<Arc<dyn Op>> {
        let ending = ending.beside(CONV2D_WEIGHT_GRAD.bindings.len())?;
        Some(Arc::new(Self {
            ending: Some(ending),
            ..*self
        }))
    }
}

/// ∂x.
pub static CONV2D_INPUT_GRAD: Kernel = Kernel {
    name: "conv2d_input_grad",
    demand: Demand {
        rounds: "F / GROUPS * KH * KW / 4 + 1",
        issue: "F / GROUPS * KH * KW * 15 + 30",
        words: "F / GROUPS * KH * KW * 16 + 64",
        ..Demand::UNSTATED
    },
    turns: "(F / GROUPS + 1) * (2 + KH * (KW + 2)) + 8",
    bindings: &[
        Bind::read("g").of("N * F * HO * WO"),
        Bind::read("w").of("F * C * KH * KW / GROUPS"),
        Bind::write("dx").of("N * C * H * W"),
    ],
    reference: crate::reference!(reference::input_grad),
    optimized: Some(optimized::input_grad),
    finishing: Some(optimized::input_grad_finishing),
    ..CONV2D
};

/// ∂w.
pub static CONV2D_WEIGHT_GRAD: Kernel = Kernel {
    name: "conv2d_weight_grad",
    demand: Demand {
        rounds: "N * HO * WO / 64 + 1",
        barriers: "7",
        issue: "N * HO * WO / 64 * 54 + 60",
        words: "N * HO * WO",
        ..Demand::UNSTATED
    },
    turns: "N * HO * WO / 64 + 32",
    bindings: &[
        Bind::read("x").of("N * C * H * W"),
        Bind::read("upstream").of("N * F * HO * WO"),
        Bind::write("dw").of("F * C * KH * KW / GROUPS"),
    ],
    reference: crate::reference!(reference::weight_grad),
    optimized: Some(optimized::weight_grad),
    ports: &[Port::finish(2, "64")],
    finishing: None,
    ..CONV2D
};

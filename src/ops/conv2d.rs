//! Two-dimensional convolution (cross-correlation, as everywhere in deep learning):
//!
//! y\[n, f, i, j\] = Σ x\[n, c, i s + k d − p, j s + l d − p\] · w\[f, c, k, l\], over the channels c of
//! f's group and the taps k, l; around the image stand zeros, as many as a window sees, and
//! they are multiplied as such: 0 times a weight that is not finite is NaN.
//!
//! Its gradients are two more correlations (LeCun et al. 1989; Dumoulin and Visin 2016):
//!
//! - input: ∂x\[n, c, h, v\] = Σ g\[n, f, i, j\] · w\[f, c, k, l\] over all f of c's group and all
//!   (i, k), (j, l) for which tap k of place i lies on row h and tap l of place j on
//!   column v: gathered per input, so nothing is added up in memory;
//! - weights: ∂w\[f, c, k, l\] = Σ g\[n, f, i, j\] · x\[n, c, i s + k d − p, …\] over all n, i, j.
//!
//! Saved for the gradient: x and w. The kernels can end in any expression of what they make: bias
//! and activation, the backward Hadamard product, the update of the weights.

use std::sync::Arc;

use super::pointwise::{Ended, Ending, ended_case, finished, wrapped_case};
use super::window::Window;
use super::{
    Alternative, Backward, Case, ELEMENTWISE, Fill, Lowered, Lowering, Op, Operand, Value, arity,
    floats, grid,
};
use crate::error::{Error, Result};
use crate::interchange::Site;
use crate::kernel::{Bind, Demand, Kernel, Port};
use crate::shape::Type;

/// The constants of every kernel here, then `more`.
macro_rules! constants {
    ($($more:literal),*) => {
        &[
            "N", "C", "F", "GROUPS", "H", "W", "HO", "WO", "KH", "KW", "SH", "SW", "PH", "PW", "DH",
            "DW", $($more),*
        ]
    };
}

mod correlation;
mod direct;
mod direct_input;
mod direct_weights;
mod grads;
mod im2col;
mod implicit;
mod optimized;
mod planes;
mod reference;
mod tiled;
mod weight_parts;

pub use grads::*;
use implicit::direct_cost;

/// y = x ∗ w: inputs x `[N, C, H, W]` and w `[F, C / groups, K_h, K_w]`; output y
/// `[N, F, H_o, W_o]`.
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
    pub(super) fn window(&self, kernel: [usize; 2]) -> Window {
        Window {
            kernel,
            stride: self.stride,
            padding: self.padding,
            dilation: self.dilation,
        }
    }

    /// The sizes for images `[n, c, h, w]` and filters `[f, c / groups, kh, kw]`.
    pub(super) fn sizes(
        &self,
        [n, c, h, w]: [usize; 4],
        [f, per, kh, kw]: [usize; 4],
    ) -> Result<Sizes> {
        grouped(["conv2d", "images", FILTERS], [c, f, per], self.groups)?;
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

    /// The direct kernel, and every variant, the best for a GPU first.
    fn variants(&self, inputs: &[Type], outputs: &[Type]) -> Result<(Lowered, Vec<Alternative>)> {
        let filters = four(FILTERS, &inputs[1])?;
        let s = self.sizes(four(IMAGES, &inputs[0])?, filters)?;
        let kernel = [filters[2], filters[3]];
        let direct = Lowered {
            kernel: &CONV2D,
            constants: self.constants(kernel, &s),
            operands: vec![Operand::In(0), Operand::In(1), Operand::Out(0)],
            grid: grid(outputs[0].elements(), ELEMENTWISE),
            flops: self.flops(kernel, &s),
            alternatives: vec![],
        };
        let taps = filters[1] * kernel[0] * kernel[1];
        let sizes = [s.f / self.groups, s.n * s.output[0] * s.output[1], taps];
        let cost = direct_cost(outputs[0].elements(), taps);
        let mut variants =
            implicit::variants(&direct, cost, &implicit::FORWARD, sizes, self.groups);
        let [rows, columns, _] = sizes;
        let (tiles, groups) = (&tiled::FORWARD, self.groups);
        variants.extend(tiled::variant(&direct, tiles, [rows, columns], groups));
        Ok((direct, variants))
    }
}

/// Threads that share the sum of a weight's gradient; `LANES` of the shader.
const LANES: usize = 64;

/// Holds channels, filters and the channels that a filter sees to the groups, for an op by name, with what
/// it calls its x and its filters.
pub(super) fn grouped(
    [op, x, filters]: [&str; 3],
    [c, f, per]: [usize; 3],
    groups: usize,
) -> Result<()> {
    if groups == 0 || !c.is_multiple_of(groups) || !f.is_multiple_of(groups) {
        return Err(Error::shape(
            op,
            format!("{c} channels and {f} filters in {groups} groups"),
            "groups that divide channels and filters",
        ));
    }
    if per != c / groups {
        return Err(Error::shape(
            op,
            format!("filters over {per} channels, {x} of {c} channels in {groups} groups"),
            filters,
        ));
    }
    Ok(())
}

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

    fn onnx(&self, site: &mut Site<'_>) -> Result<Vec<String>> {
        let (x, w) = (site.input(0), site.input(1));
        let kernel = [site.fixed(1, 2)?, site.fixed(1, 3)?];
        let mut attributes = self.window(kernel).attributes();
        attributes.push(("group", (self.groups as i64).into()));
        Ok(vec![site.op("Conv", &[&x, &w], &attributes)])
    }

    fn infer(&self, inputs: &[Type]) -> Result<Vec<Type>> {
        let [x, w] = arity("conv2d", inputs, "images, filters")?;
        let s = self.sizes(four(IMAGES, x)?, four(FILTERS, w)?)?;
        Ok(vec![Type::f32(
            "conv2d",
            &[s.n, s.f, s.output[0], s.output[1]],
        )?])
    }

    fn lower(&self, inputs: &[Type], outputs: &[Type]) -> Result<Lowering> {
        let (direct, variants) = self.variants(inputs, outputs)?;
        Ok(Lowering::Launch(direct.by(variants)))
    }

    fn gradient(&self, b: &mut Backward<'_>) -> Result<Vec<Option<Value>>> {
        let [_, _, h, w] = four(IMAGES, b.tape.ty(b.inputs[0])?)?;
        let [_, _, kh, kw] = four(FILTERS, b.tape.ty(b.inputs[1])?)?;
        let conv = *self;
        let input = Conv2dInputGrad {
            conv,
            input: [h, w],
        };
        let weight = Conv2dWeightGrad {
            conv,
            kernel: [kh, kw],
            ending: None,
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

    fn port(&self) -> Option<usize> {
        Some(CONV2D.bindings.len())
    }
}

const SOURCE: &str = concat!(
    include_str!("../../shaders/shared/grid.wgsl"),
    include_str!("../../shaders/shared/tree.wgsl"),
    include_str!("../../shaders/shared/window.wgsl"),
    include_str!("../../shaders/shared/nan.wgsl"),
    include_str!("../../shaders/conv2d.wgsl"),
    crate::port!("finish"),
);

/// y = x ∗ w.
pub static CONV2D: Kernel = Kernel {
    name: "conv2d",
    demand: Demand {
        rounds: "C / GROUPS * KH * KW / 4 + 1",
        issue: "C / GROUPS * KH * KW * 15 + 30",
        words: "C / GROUPS * KH * KW * 16 + 64",
        ..Demand::UNSTATED
    },
    turns: "(C / GROUPS + 1) * (2 + KH * (KW + 2)) + 8",
    stem: "conv2d",
    source: SOURCE,
    bindings: &[
        Bind::read("x").of("N * C * H * W"),
        Bind::read("w").of("F * C * KH * KW / GROUPS"),
        Bind::write("y").of("N * F * HO * WO"),
    ],
    constants: constants!(),
    reference: crate::reference!(reference::forward),
    optimized: Some(optimized::forward),
    trusted: true,
    ports: &[Port::finish(2, "1")],
    finishing: Some(optimized::finishing),
};

/// The kernels of this file.
pub static KERNELS: &[&Kernel] = &[
    &CONV2D,
    &CONV2D_INPUT_GRAD,
    &CONV2D_WEIGHT_GRAD,
    &implicit::FORWARD,
    &implicit::INPUT_GRAD,
    &implicit::WEIGHT_GRAD,
    &tiled::FORWARD,
    &tiled::INPUT_GRAD,
    &weight_parts::WEIGHT_PARTS,
    &weight_parts::WEIGHT_SUM,
];

/// One of each, primes, everything asymmetric, stride, padding, dilation, groups,
/// depthwise; places of the image that no window sees; channels enough for products in
/// blocks and for tiles of every height; windows that see little but padding, or nothing else;
/// mini-batches in parts.
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
        ([2, 1, 1, 1], [3, 1, 5, 5], [1, 1], [2, 2], [1, 1], 1),
        ([1, 4, 1, 6], [4, 2, 3, 3], [5, 7], [3, 1], [2, 1], 2),
        ([1, 1, 3, 2], [2, 1, 2, 2], [1, 1], [4, 3], [1, 2], 1),
        // Sums over more than a tile has weights for at a time, forward and back.
        ([1, 113, 4, 5], [3, 113, 3, 3], [1, 1], [1, 1], [1, 1], 1),
        ([1, 3, 4, 5], [127, 3, 3, 3], [1, 2], [1, 1], [1, 1], 1),
        // Tiles of eight rows and of sixteen, with one place more than a workgroup has.
        ([1, 66, 1, 257], [330, 1, 1, 2], [1, 1], [0, 1], [1, 2], 66),
        ([1, 66, 1, 257], [858, 1, 1, 1], [1, 1], [0, 0], [1, 1], 66),
        ([1, 858, 1, 257], [66, 13, 1, 1], [1, 1], [0, 0], [1, 1], 66),
    ] {
        let conv = Conv2d {
            stride,
            padding,
            dilation,
            groups,
        };
        let Ok(s) = conv.sizes(x, w) else { continue };
        let [n, f, ho, wo] = [s.n, s.f, s.output[0], s.output[1]];
        let taps = w[1] * w[2] * w[3];
        let bare = Case::new(conv, taps).float(&x, uniform).float(&w, uniform);
        let turn = cases.len() / 6;
        cases.push(wrapped_case(&bare, turn));
        // Central differences of many weights take long, and find nothing that few do not.
        cases.push(if f < 8 { bare } else { bare.forward_only() });
        let grad = Conv2dInputGrad {
            conv,
            input: [x[2], x[3]],
        };
        let bare = Case::new(grad, f / groups * w[2] * w[3]);
        let bare = bare.fixed(&[n, f, ho, wo], uniform).fixed(&w, uniform);
        cases.push(wrapped_case(&bare, turn + 1));
        cases.push(bare);
        cases.extend(weight_cases(conv, x, w, turn));
    }
    // Parts of a mini-batch; the last of the second has an image less.
    for (x, w, stride, groups) in [
        ([8, 1, 32, 32], [8, 1, 3, 3], [1, 1], 1),
        ([17, 4, 46, 23], [18, 2, 3, 2], [2, 1], 2),
    ] {
        let conv = Conv2d {
            stride,
            padding: [1, 1],
            dilation: [1, 1],
            groups,
        };
        cases.extend(weight_cases(conv, x, w, groups));
    }
    cases
}

/// The weight gradient of a convolution, with an ending and without.
fn weight_cases(conv: Conv2d, x: [usize; 4], w: [usize; 4], turn: usize) -> Vec<Case> {
    let uniform = Fill::Uniform(-1.0, 1.0);
    let Ok(s) = conv.sizes(x, w) else {
        return vec![];
    };
    let grad = |ending| Conv2dWeightGrad {
        conv,
        kernel: [w[2], w[3]],
        ending,
    };
    let [ho, wo] = s.output;
    let case = Case::new(grad(None), s.n * ho * wo);
    let case = case.fixed(&x, uniform);
    let case = case.fixed(&[s.n, s.f, ho, wo], uniform);
    let ended = ended_case(&case, &w, turn, |ending| Arc::new(grad(Some(ending))));
    vec![case, ended]
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
        };
        let ty = |e: &[usize]| Type::f32("x", e).unwrap();
        let refused =
            |x: &[usize], w: &[usize]| conv.infer(&[ty(x), ty(w)]).unwrap_err().to_string();
        assert!(
            refused(&[1, 3, 5, 5], &[2, 1, 2, 2]).contains("3 channels and 2 filters in 2 groups")
        );
        assert!(refused(&[1, 4, 5, 5], &[3, 2, 2, 2]).contains("4 channels and 3 filters"));
        assert!(refused(&[1, 4, 5, 5], &[2, 4, 2, 2]).contains("filters over 4 channels"));
        assert!(refused(&[1, 4, 5, 5], &[2, 2, 6, 2]).contains("reaches over 6, height 5"));
        assert!(refused(&[1, 4, 25], &[2, 2, 2, 2]).contains("[1, 4, 25]"));
    }
}

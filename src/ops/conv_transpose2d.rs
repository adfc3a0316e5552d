//! Transposed two-dimensional convolution, or deconvolution (Zeiler et al. 2010; Dumoulin and
//! Visin 2016, chapter 4): what is added up where a convolution's windows overlap if each place
//! of x lays its window, times itself, into y. It is the input gradient of a [`Conv2d`] that maps
//! y's images to x's, and runs on its kernels ([`Conv2dInputGrad`]).
//!
//! Its gradients are that convolution of the upstream gradient, and that convolution's weight
//! gradient with the upstream gradient for the images. Saved: x and w.

use std::sync::Arc;

use super::conv2d::{CONV2D_INPUT_GRAD, Conv2d, Conv2dInputGrad, Conv2dWeightGrad};
use super::window::Window;
use super::{Backward, Case, Fill, Lowering, Op, Value, arity, floats};
use crate::error::{Error, Result};
use crate::interchange::Site;
use crate::kernel::Kernel;
use crate::shape::Type;

/// y = the transpose of a convolution, of x: inputs x `[N, F, H, W]` and w
/// `[F, C / groups, K_h, K_w]`; output y `[N, C, H_o, W_o]` with
/// H_o = (H − 1) stride − 2 padding + dilation (K_h − 1) + output_padding + 1, W_o likewise.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ConvTranspose2d {
    /// How far apart neighbours of x lay their windows, `[height, width]`.
    pub stride: [usize; 2],
    /// What is cut off all around y.
    pub padding: [usize; 2],
    /// What y has more at its end, less than the stride: a convolution makes the same x of
    /// several sizes of y.
    pub output_padding: [usize; 2],
    /// Distance between the window's taps.
    pub dilation: [usize; 2],
    /// Groups of channels that do not see each other; they divide F and C.
    pub groups: usize,
}

/// Larger settings than this are a mistake.
const MOST: usize = 1 << 15;

impl ConvTranspose2d {
    /// The convolution that this one is the transpose of.
    fn conv(&self) -> Conv2d {
        Conv2d {
            stride: self.stride,
            padding: self.padding,
            dilation: self.dilation,
            groups: self.groups,
        }
    }

    /// y's `[H_o, W_o]` over x's `[H, W]`.
    fn output(&self, x: [usize; 2], kernel: [usize; 2]) -> Result<[usize; 2]> {
        let op = "conv_transpose2d";
        Ok([
            self.along(op, 0, "height", [x[0], kernel[0]])?,
            self.along(op, 1, "width", [x[1], kernel[1]])?,
        ])
    }

    /// y's size along an axis, which goes by this name in messages, over x's and the kernel's.
    pub(super) fn along(
        &self,
        op: &str,
        axis: usize,
        name: &str,
        [x, kernel]: [usize; 2],
    ) -> Result<usize> {
        let (stride, dilation) = (self.stride[axis], self.dilation[axis]);
        let (padding, more) = (self.padding[axis], self.output_padding[axis]);
        for (what, value, least, most) in [
            ("kernel", kernel, 1, MOST),
            ("stride", stride, 1, MOST),
            ("dilation", dilation, 1, MOST),
            ("padding", padding, 0, MOST),
            ("output_padding", more, 0, stride.saturating_sub(1)),
        ] {
            if !(least..=most).contains(&value) {
                let name = format!("{op}, {what} along {name}");
                return Err(Error::setting(name, value, format!("{least} to {most}")));
            }
        }
        let whole = (x - 1) * stride + dilation * (kernel - 1) + more + 1;
        let rest = whole.checked_sub(2 * padding).filter(|&rest| rest > 0);
        rest.ok_or_else(|| {
            Error::shape(
                op,
                format!("padding {padding} of {name} {whole}"),
                "padding that leaves something",
            )
        })
    }

    /// Holds x's channels and the filters to the groups, for an op by name, with what it calls its x.
    pub(super) fn grouped(
        &self,
        [op, named]: [&str; 2],
        [x, w]: [&Type; 2],
        [f, filters, per]: [usize; 3],
    ) -> Result<()> {
        let groups = self.groups;
        if groups == 0 || f != filters || !f.is_multiple_of(groups) {
            return Err(Error::shape(
                op,
                format!("{named} {x} and filters {w} in {groups} groups"),
                format!("a filter for each of the {named}' channels, and groups that divide them"),
            ));
        }
        // The product of extents is checked where they make a shape.
        per.checked_mul(groups)
            .ok_or_else(|| Error::setting(format!("groups of {op}"), groups, "fewer"))?;
        Ok(())
    }

    /// The input gradient that this op is.
    fn input_gradient(&self, x: &Type, w: &Type) -> Result<Conv2dInputGrad> {
        let op = "conv_transpose2d";
        floats(op, "images", x)?;
        floats(op, "filters", w)?;
        let [n, f, height, width] = x.shape.axes(op, "images [N, F, H, W]")?;
        let [filters, per, kh, kw] = w.shape.axes(op, "filters [F, C / groups, K_h, K_w]")?;
        self.grouped([op, "images"], [x, w], [f, filters, per])?;
        let input = self.output([height, width], [kh, kw])?;
        // The input gradient would tell of itself.
        Type::f32(op, &[n, per * self.groups, input[0], input[1]])?;
        let conv = self.conv();
        Ok(Conv2dInputGrad { conv, input })
    }
}

impl Op for ConvTranspose2d {
    fn name(&self) -> &'static str {
        "conv_transpose2d"
    }

    fn onnx(&self, site: &mut Site<'_>) -> Result<Vec<String>> {
        let (x, w) = (site.input(0), site.input(1));
        let window = Window {
            kernel: [site.fixed(1, 2)?, site.fixed(1, 3)?],
            stride: self.stride,
            padding: self.padding,
            dilation: self.dilation,
        };
        let mut attributes = window.attributes();
        let more = self.output_padding.map(|more| more as i64).to_vec();
        attributes.push(("output_padding", more.into()));
        attributes.push(("group", (self.groups as i64).into()));
        Ok(vec![site.op("ConvTranspose", &[&x, &w], &attributes)])
    }

    fn infer(&self, inputs: &[Type]) -> Result<Vec<Type>> {
        let [x, w] = arity("conv_transpose2d", inputs, "images, filters")?;
        self.input_gradient(x, w)?.infer(inputs)
    }

    fn lower(&self, inputs: &[Type], outputs: &[Type]) -> Result<Lowering> {
        let op = self.input_gradient(&inputs[0], &inputs[1])?;
        op.lower(inputs, outputs)
    }

    fn port(&self) -> Option<usize> {
        Some(CONV2D_INPUT_GRAD.bindings.len())
    }

    fn gradient(&self, b: &mut Backward<'_>) -> Result<Vec<Option<Value>>> {
        let (g, x, w) = (b.upstream, b.inputs[0], b.inputs[1]);
        let [.., kh, kw] = b
            .tape
            .ty(w)?
            .shape
            .axes::<4>("conv_transpose2d", "filters")?;
        let conv = self.conv();
        let weight = Conv2dWeightGrad {
            conv,
            kernel: [kh, kw],
            ending: None,
        };
        let mut gradients = vec![None; 2];
        if b.wanted[0] {
            gradients[0] = Some(b.tape.op1(Arc::new(conv), &[g, w])?);
        }
        if b.wanted[1] {
            gradients[1] = Some(b.tape.op1(Arc::new(weight), &[g, x])?);
        }
        Ok(gradients)
    }
}

/// No kernels of its own.
pub static KERNELS: &[&Kernel] = &[];

/// One of each, primes, stride with and without more at the end, padding, dilation, groups,
/// depthwise, channels enough for products in blocks.
pub fn cases() -> Vec<Case> {
    let uniform = Fill::Uniform(-1.0, 1.0);
    let mut cases = Vec::new();
    for (x, w, stride, padding, output_padding, dilation, groups) in [
        (
            [1, 1, 1, 1],
            [1, 1, 1, 1],
            [1, 1],
            [0, 0],
            [0, 0],
            [1, 1],
            1,
        ),
        (
            [2, 2, 3, 5],
            [2, 3, 2, 3],
            [1, 1],
            [0, 0],
            [0, 0],
            [1, 1],
            1,
        ),
        (
            [1, 2, 3, 2],
            [2, 2, 3, 3],
            [2, 3],
            [1, 0],
            [1, 0],
            [1, 1],
            1,
        ),
        (
            [2, 4, 2, 3],
            [4, 1, 3, 2],
            [3, 2],
            [1, 1],
            [0, 1],
            [1, 2],
            2,
        ),
        (
            [1, 3, 4, 4],
            [3, 1, 3, 3],
            [2, 2],
            [1, 1],
            [1, 1],
            [1, 1],
            3,
        ),
        (
            [3, 9, 5, 4],
            [9, 17, 2, 2],
            [2, 2],
            [0, 0],
            [0, 0],
            [1, 1],
            1,
        ),
    ] {
        let op = ConvTranspose2d {
            stride,
            padding,
            output_padding,
            dilation,
            groups,
        };
        let terms = w[0] / groups * w[2] * w[3];
        let case = Case::new(op, terms).float(&x, uniform).float(&w, uniform);
        cases.push(if x[1] < 9 { case } else { case.forward_only() });
    }
    cases
}

//! Max-pooling: y = the largest x under each window, and where it stands.
//!
//! Of equal maxima the first in row-major order wins. What is not a number counts as the
//! largest (so a window with one gives one). Padding never wins, and is at most
//! half a window, so that no window is empty. Windows may overlap or leave gaps.
//!
//! Saved for the gradient: the argmax. ∂x is gathered per input over the windows that
//! cover it, so every element is written once and nothing needs to be cleared. Both can end in any
//! expression of what they make, such as an activation or the backward Hadamard product.

use std::sync::Arc;

use super::pointwise::wrapped_case;
use super::window::{Placed, Window};
use super::{
    Backward, Case, ELEMENTWISE, Fill, Lowered, Lowering, Op, Operand, Value, arity, exactly,
    floats, grid,
};
use crate::error::Result;
use crate::interchange::Site;
use crate::kernel::{Args, Bind, Demand, Kernel, Port};
use crate::shape::Type;
use crate::tensor::Real;

/// Input x `[N, C, H, W]`; outputs y `[N, C, H_o, W_o]` and the argmax of each window as
/// an index h · W + w into its plane (integers, of y's shape).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MaxPool2d {
    /// Window, `[height, width]`.
    pub kernel: [usize; 2],
    /// Step of the window.
    pub stride: [usize; 2],
    /// Padding around the image, at most half the window.
    pub padding: [usize; 2],
}

/// ∂x: inputs g `[N, C, H_o, W_o]` and the argmax; output `[N, C, H, W]`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MaxPool2dGrad {
    /// The pool.
    pub pool: MaxPool2d,
    /// `[H, W]`.
    pub input: [usize; 2],
}

/// The window of a pool, after checking its padding.
pub(super) fn pool_window(
    op: &str,
    kernel: [usize; 2],
    stride: [usize; 2],
    padding: [usize; 2],
) -> Result<Window> {
    for (axis, name) in ["height", "width"].into_iter().enumerate() {
        Window::at_most_half(op, name, kernel[axis], padding[axis])?;
    }
    Ok(Window {
        kernel,
        stride,
        padding,
        dilation: [1, 1],
    })
}

/// The constants of a pool's kernels.
pub(super) fn pool_constants(
    window: &Window,
    planes: usize,
    input: [usize; 2],
    output: [usize; 2],
) -> Vec<(&'static str, f64)> {
    let mut constants = vec![("PLANES", planes as f64)];
    constants.extend(window.constants(input, output));
    constants
}

impl MaxPool2d {
    fn window(&self) -> Result<Window> {
        pool_window("max_pool2d", self.kernel, self.stride, self.padding)
    }
}

const IMAGES: &str = "images [N, C, H, W]";

impl Op for MaxPool2d {
    fn name(&self) -> &'static str {
        "max_pool2d"
    }

    fn onnx(&self, site: &mut Site<'_>) -> Result<Vec<String>> {
        let x = site.input(0);
        let y = site.op("MaxPool", &[&x], &self.window()?.attributes());
        Ok(vec![y, String::new()])
    }

    fn infer(&self, inputs: &[Type]) -> Result<Vec<Type>> {
        let [x] = arity("max_pool2d", inputs, "images")?;
        floats("max_pool2d", IMAGES, x)?;
        let [n, c, h, w] = x.shape.axes("max_pool2d", IMAGES)?;
        let [ho, wo] = self.window()?.output("max_pool2d", [h, w])?;
        let extents = [n, c, ho, wo];
        Ok(vec![
            Type::f32("max_pool2d", &extents)?,
            Type::u32("max_pool2d", &extents)?,
        ])
    }

    fn lower(&self, inputs: &[Type], outputs: &[Type]) -> Result<Lowering> {
        let [n, c, h, w] = inputs[0].shape.axes("max_pool2d", IMAGES)?;
        let [_, _, ho, wo] = outputs[0].shape.axes("max_pool2d", IMAGES)?;
        let constants = pool_constants(&self.window()?, n * c, [h, w], [ho, wo]);
        let places = outputs[0].elements();
        Ok(Lowering::Launch(Lowered {
            kernel: &MAX_POOL2D,
            constants,
            operands: vec![Operand::In(0), Operand::Out(0), Operand::Out(1)],
            grid: grid(places, ELEMENTWISE),
            flops: (places * self.kernel[0] * self.kernel[1]) as u64,
            alternatives: vec![],
        }))
    }

    fn gradient(&self, b: &mut Backward<'_>) -> Result<Vec<Option<Value>>> {
        let [_, _, h, w] = b.tape.ty(b.inputs[0])?.shape.axes("max_pool2d", IMAGES)?;
        let grad = MaxPool2dGrad {
            pool: *self,
            input: [h, w],
        };
        let inputs = [b.upstream, b.outputs[1]];
        Ok(vec![Some(b.tape.op1(Arc::new(grad), &inputs)?)])
    }

    fn port(&self) -> Option<usize> {
        Some(MAX_POOL2D.bindings.len())
    }
}

impl Op for MaxPool2dGrad {
    fn name(&self) -> &'static str {
        "max_pool2d"
    }

    fn infer(&self, inputs: &[Type]) -> Result<Vec<Type>> {
        let [g, argmax] = arity("max_pool2d gradient", inputs, "gradient, argmax")?;
        floats("max_pool2d", "gradient", g)?;
        let [n, c, ..] = g
            .shape
            .axes::<4>("max_pool2d", "gradient [N, C, H_o, W_o]")?;
        let [ho, wo] = self.pool.window()?.output("max_pool2d", self.input)?;
        let extents = [n, c, ho, wo];
        exactly(
            "max_pool2d",
            "gradient",
            g,
            &Type::f32("max_pool2d", &extents)?,
        )?;
        exactly(
            "max_pool2d",
            "argmax",
            argmax,
            &Type::u32("max_pool2d", &extents)?,
        )?;
        let [h, w] = self.input;
        Ok(vec![Type::f32("max_pool2d", &[n, c, h, w])?])
    }

    fn lower(&self, inputs: &[Type], outputs: &[Type]) -> Result<Lowering> {
        let [n, c, ho, wo] = inputs[0].shape.axes("max_pool2d", IMAGES)?;
        let window = self.pool.window()?;
        Ok(Lowering::Launch(Lowered {
            kernel: &MAX_POOL2D_GRAD,
            constants: pool_constants(&window, n * c, self.input, [ho, wo]),
            operands: vec![Operand::In(0), Operand::In(1), Operand::Out(0)],
            grid: grid(outputs[0].elements(), ELEMENTWISE),
            flops: outputs[0].elements() as u64,
            alternatives: vec![],
        }))
    }

    fn port(&self) -> Option<usize> {
        Some(MAX_POOL2D_GRAD.bindings.len())
    }
}

const SOURCE: &str = concat!(
    include_str!("../../shaders/shared/grid.wgsl"),
    include_str!("../../shaders/shared/window.wgsl"),
    include_str!("../../shaders/shared/nan.wgsl"),
    include_str!("../../shaders/max_pool2d.wgsl"),
    crate::port!("finish"),
);

/// y = max x.
pub static MAX_POOL2D: Kernel = Kernel {
    name: "max_pool2d",
    turns: "(KH + 1) * (KW + 2)",
    stem: "max_pool2d",
    source: SOURCE,
    bindings: &[
        Bind::read("x").of("PLANES * H * W"),
        Bind::write("y").of("PLANES * HO * WO"),
        Bind::write("argmax").u32().of("PLANES * HO * WO"),
    ],
    constants: &[
        "PLANES", "H", "W", "HO", "WO", "KH", "KW", "SH", "SW", "PH", "PW", "DH", "DW",
    ],
    reference: crate::reference!(max_pool2d),
    optimized: None,
    demand: Demand {
        rounds: "KH * KW / 4",
        issue: "KH * KW * 22 + 70",
        words: "KH * (64 * SW + KW) + 128",
        ..Demand::UNSTATED
    },
    trusted: true,
    ports: &[Port::finish(1, "1")],
    finishing: None,
};

/// ∂x.
pub static MAX_POOL2D_GRAD: Kernel = Kernel {
    name: "max_pool2d_grad",
    turns: "(KH + 1) * (KW + 2)",
    // A gradient is loaded once its window is known to have its maximum here.
    demand: Demand {
        rounds: "KH * KW / 4 + KH / SH * (KW / SW)",
        issue: "KH * KW * 22 + 70",
        words: "64 + 2 * (KH / SH * (64 / SW + KW))",
        ..Demand::UNSTATED
    },
    bindings: &[
        Bind::read("g").of("PLANES * HO * WO"),
        Bind::read("saved_argmax").u32().of("PLANES * HO * WO"),
        Bind::write("dx").of("PLANES * H * W"),
    ],
    reference: crate::reference!(max_pool2d_grad),
    optimized: Some(max_pool2d_grad_fast),
    ports: &[Port::finish(2, "1")],
    ..MAX_POOL2D
};

/// The kernels of this file.
pub static KERNELS: &[&Kernel] = &[&MAX_POOL2D, &MAX_POOL2D_GRAD];

fn max_pool2d<T: Real>(a: &mut Args<'_, T>) {
    let p = Placed::of(a);
    let ([h, w], [ho, wo], [kh, kw]) = (p.input, p.output, p.window.kernel);
    let (x, y, argmax) = (a.f(0), a.f_mut(1), a.u_mut(2)); // [planes, H, W], [planes, H_o, W_o] twice
    for (plane, x) in x.chunks(h * w).enumerate() {
        for i in 0..ho {
            for j in 0..wo {
                let mut best: Option<(usize, T)> = None;
                for row in (0..kh).filter_map(|k| p.place(0, i, k)) {
                    for col in (0..kw).filter_map(|l| p.place(1, j, l)) {
                        let candidate = x[row * w + col];
                        if best.is_none_or(|(_, largest)| candidate.outdoes(largest)) {
                            best = Some((row * w + col, candidate));
                        }
                    }
                }
                // The shape rule has made sure that no window is empty.
                let (index, largest) = best.unwrap_or((0, T::ZERO));
                let at = (plane * ho + i) * wo + j;
                y[at] = largest;
                argmax[at] = index as u32;
            }
        }
    }
}

fn max_pool2d_grad<T: Real>(a: &mut Args<'_, T>) {
    let p = Placed::of(a);
    let ([h, w], [ho, wo], [kh, kw]) = (p.input, p.output, p.window.kernel);
    let (g, argmax, dx) = (a.f(0), a.u(1), a.f_mut(2)); // [planes, H_o, W_o] twice, [planes, H, W]
    for (e, dx) in dx.iter_mut().enumerate() {
        let (plane, row, col) = (e / (h * w), e / w % h, e % w);
        let mut sum = T::ZERO;
        for i in (0..kh).filter_map(|k| p.seen_from(0, row, k)) {
            for j in (0..kw).filter_map(|l| p.seen_from(1, col, l)) {
                let at = (plane * ho + i) * wo + j;
                if argmax[at] as usize == row * w + col {
                    sum += g[at];
                }
            }
        }
        *dx = sum;
    }
}

/// On one thread nothing is lost by adding into place.
fn max_pool2d_grad_fast(a: &mut Args<'_, f32>) {
    let p = Placed::of(a);
    let ([h, w], [ho, wo], [kh, kw]) = (p.input, p.output, p.window.kernel);
    let ([sh, sw], [ph, pw]) = (p.window.stride, p.window.padding);
    let (g, argmax, dx) = (a.f(0), a.u(1), a.f_mut(2));
    dx.fill(0.0);
    let planes = g
        .chunks(ho * wo)
        .zip(argmax.chunks(ho * wo))
        .zip(dx.chunks_mut(h * w));
    for ((g, argmax), dx) in planes {
        for (e, (&g, &at)) in g.iter().zip(argmax).enumerate() {
            let at = at as usize;
            // An index outside its window gives nothing, as in the reference.
            let rows = (at / w + ph).wrapping_sub(e / wo * sh) < kh;
            let cols = (at % w + pw).wrapping_sub(e % wo * sw) < kw;
            if rows && cols && at < h * w {
                dx[at] += g;
            }
        }
    }
}

/// Images, window, stride, padding.
type Pooled = ([usize; 4], [usize; 2], [usize; 2], [usize; 2]);

/// Windows that touch, overlap, leave gaps and hang over the edge; one of each; ties.
pub(super) const WINDOWS: [Pooled; 7] = [
    ([1, 1, 1, 1], [1, 1], [1, 1], [0, 0]),
    ([2, 3, 6, 8], [2, 2], [2, 2], [0, 0]),
    ([1, 2, 7, 5], [3, 2], [2, 1], [1, 1]),
    ([2, 1, 9, 7], [2, 3], [3, 4], [0, 1]),
    ([1, 1, 5, 5], [5, 4], [1, 1], [2, 2]),
    ([3, 2, 5, 3], [2, 3], [1, 2], [0, 0]),
    ([1, 5, 3, 11], [3, 3], [3, 3], [1, 0]),
];

/// As `WINDOWS` says, forward and backward, with and without an end.
pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (turn, (x, kernel, stride, padding)) in WINDOWS.into_iter().enumerate() {
        let pool = MaxPool2d {
            kernel,
            stride,
            padding,
        };
        let Ok([ho, wo]) = pool.window().and_then(|w| w.output("case", [x[2], x[3]])) else {
            continue;
        };
        let forward = Case::new(pool, 1).float(&x, Fill::Distinct);
        cases.push(wrapped_case(&forward, turn));
        cases.push(forward);
        cases.push(Case::new(pool, 1).fixed(&x, Fill::Ties));
        let grad = MaxPool2dGrad {
            pool,
            input: [x[2], x[3]],
        };
        let y = [x[0], x[1], ho, wo];
        let back = Case::new(grad, kernel[0] * kernel[1])
            .fixed(&y, Fill::Uniform(-1.0, 1.0))
            .u32(&y, Fill::Below((x[2] * x[3]) as u32));
        cases.push(wrapped_case(&back, turn + 1));
        cases.push(back);
    }
    cases
}

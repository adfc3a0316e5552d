//! Average pooling: y = the mean of x under each window, padding zeros counted in (as
//! PyTorch's default).
//!
//! ∂x, gathered per input, is the sum of g over the windows that cover it, divided by the
//! window's size. Saved for the gradient: nothing.

use std::sync::Arc;

use super::max_pool2d::{WINDOWS, pool_constants, pool_window};
use super::window::{Placed, Window};
use super::{
    Backward, Case, ELEMENTWISE, Fill, Lowered, Lowering, Op, Operand, Value, arity, exactly,
    floats, grid,
};
use crate::error::Result;
use crate::interchange::Site;
use crate::kernel::{Args, Bind, Demand, Kernel};
use crate::shape::Type;
use crate::tensor::Real;

/// Input x `[N, C, H, W]`; output y `[N, C, H_o, W_o]`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AvgPool2d {
    /// Window, `[height, width]`.
    pub kernel: [usize; 2],
    /// Step of the window.
    pub stride: [usize; 2],
    /// Zeros around the image, at most half the window.
    pub padding: [usize; 2],
}

/// ∂x: input g `[N, C, H_o, W_o]`; output `[N, C, H, W]`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AvgPool2dGrad {
    /// The pool.
    pub pool: AvgPool2d,
    /// `[H, W]`.
    pub input: [usize; 2],
}

const IMAGES: &str = "images [N, C, H, W]";

impl AvgPool2d {
    fn window(&self) -> Result<Window> {
        pool_window("avg_pool2d", self.kernel, self.stride, self.padding)
    }

    fn lowered(
        &self,
        kernel: &'static Kernel,
        planes: usize,
        sizes: [[usize; 2]; 2],
        elements: usize,
    ) -> Result<Lowering> {
        Ok(Lowering::Launch(Lowered {
            kernel,
            constants: pool_constants(&self.window()?, planes, sizes[0], sizes[1]),
            operands: vec![Operand::In(0), Operand::Out(0)],
            grid: grid(elements, ELEMENTWISE),
            flops: (elements * self.kernel[0] * self.kernel[1]) as u64,
            alternatives: vec![],
        }))
    }
}

impl Op for AvgPool2d {
    fn name(&self) -> &'static str {
        "avg_pool2d"
    }

    fn onnx(&self, site: &mut Site<'_>) -> Result<Vec<String>> {
        let x = site.input(0);
        let mut attributes = self.window()?.attributes();
        attributes.push(("count_include_pad", 1.into()));
        Ok(vec![site.op("AveragePool", &[&x], &attributes)])
    }

    fn infer(&self, inputs: &[Type]) -> Result<Vec<Type>> {
        let [x] = arity("avg_pool2d", inputs, "images")?;
        floats("avg_pool2d", IMAGES, x)?;
        let [n, c, h, w] = x.shape.axes("avg_pool2d", IMAGES)?;
        let [ho, wo] = self.window()?.output("avg_pool2d", [h, w])?;
        Ok(vec![Type::f32("avg_pool2d", &[n, c, ho, wo])?])
    }

    fn lower(&self, inputs: &[Type], outputs: &[Type]) -> Result<Lowering> {
        let [n, c, h, w] = inputs[0].shape.axes("avg_pool2d", IMAGES)?;
        let [_, _, ho, wo] = outputs[0].shape.axes("avg_pool2d", IMAGES)?;
        self.lowered(
            &AVG_POOL2D,
            n * c,
            [[h, w], [ho, wo]],
            outputs[0].elements(),
        )
    }

    fn gradient(&self, b: &mut Backward<'_>) -> Result<Vec<Option<Value>>> {
        let [_, _, h, w] = b.tape.ty(b.inputs[0])?.shape.axes("avg_pool2d", IMAGES)?;
        let grad = AvgPool2dGrad {
            pool: *self,
            input: [h, w],
        };
        Ok(vec![Some(b.tape.op1(Arc::new(grad), &[b.upstream])?)])
    }
}

impl Op for AvgPool2dGrad {
    fn name(&self) -> &'static str {
        "avg_pool2d"
    }

    fn infer(&self, inputs: &[Type]) -> Result<Vec<Type>> {
        let [g] = arity("avg_pool2d gradient", inputs, "gradient")?;
        floats("avg_pool2d", "gradient", g)?;
        let [n, c, ..] = g
            .shape
            .axes::<4>("avg_pool2d", "gradient [N, C, H_o, W_o]")?;
        let [ho, wo] = self.pool.window()?.output("avg_pool2d", self.input)?;
        exactly(
            "avg_pool2d",
            "gradient",
            g,
            &Type::f32("avg_pool2d", &[n, c, ho, wo])?,
        )?;
        Ok(vec![Type::f32(
            "avg_pool2d",
            &[n, c, self.input[0], self.input[1]],
        )?])
    }

    fn lower(&self, inputs: &[Type], outputs: &[Type]) -> Result<Lowering> {
        let [n, c, ho, wo] = inputs[0].shape.axes("avg_pool2d", IMAGES)?;
        let sizes = [self.input, [ho, wo]];
        self.pool
            .lowered(&AVG_POOL2D_GRAD, n * c, sizes, outputs[0].elements())
    }
}

/// y = the mean of x.
pub static AVG_POOL2D: Kernel = Kernel {
    name: "avg_pool2d",
    turns: "(KH + 1) * (KW + 2)",
    stem: "avg_pool2d",
    source: concat!(
        include_str!("../../shaders/shared/grid.wgsl"),
        include_str!("../../shaders/shared/window.wgsl"),
        include_str!("../../shaders/avg_pool2d.wgsl"),
    ),
    bindings: &[
        Bind::read("x").of("PLANES * H * W"),
        Bind::write("y").of("PLANES * HO * WO"),
    ],
    constants: &[
        "PLANES", "H", "W", "HO", "WO", "KH", "KW", "SH", "SW", "PH", "PW", "DH", "DW",
    ],
    reference: crate::reference!(avg_pool2d),
    optimized: None,
    demand: Demand {
        rounds: "KH * KW / 4",
        issue: "KH * KW * 14 + 60",
        words: "KH * (64 * SW + KW) + 64",
        ..Demand::UNSTATED
    },
    trusted: true,
    ports: &[],
    finishing: None,
};

/// ∂x.
pub static AVG_POOL2D_GRAD: Kernel = Kernel {
    name: "avg_pool2d_grad",
    turns: "(KH + 1) * (KW + 2)",
    demand: Demand {
        rounds: "KH * KW / 4",
        issue: "KH * KW * 18 + 60",
        words: "64 + KH / SH * (64 / SW + KW)",
        ..Demand::UNSTATED
    },
    bindings: &[
        Bind::read("g").of("PLANES * HO * WO"),
        Bind::write("dx").of("PLANES * H * W"),
    ],
    reference: crate::reference!(avg_pool2d_grad),
    ..AVG_POOL2D
};

/// The kernels of this file.
pub static KERNELS: &[&Kernel] = &[&AVG_POOL2D, &AVG_POOL2D_GRAD];

fn avg_pool2d<T: Real>(a: &mut Args<'_, T>) {
    let p = Placed::of(a);
    let ([h, w], [ho, wo], [kh, kw]) = (p.input, p.output, p.window.kernel);
    let (x, y) = (a.f(0), a.f_mut(1)); // [planes, H, W], [planes, H_o, W_o]
    for (e, y) in y.iter_mut().enumerate() {
        let (plane, i, j) = (e / (ho * wo), e / wo % ho, e % wo);
        let mut sum = T::ZERO;
        for row in (0..kh).filter_map(|k| p.place(0, i, k)) {
            for col in (0..kw).filter_map(|l| p.place(1, j, l)) {
                sum += x[(plane * h + row) * w + col];
            }
        }
        *y = sum / T::of((kh * kw) as f64);
    }
}

fn avg_pool2d_grad<T: Real>(a: &mut Args<'_, T>) {
    let p = Placed::of(a);
    let ([h, w], [ho, wo], [kh, kw]) = (p.input, p.output, p.window.kernel);
    let (g, dx) = (a.f(0), a.f_mut(1)); // [planes, H_o, W_o], [planes, H, W]
    for (e, dx) in dx.iter_mut().enumerate() {
        let (plane, row, col) = (e / (h * w), e / w % h, e % w);
        let mut sum = T::ZERO;
        for i in (0..kh).filter_map(|k| p.seen_from(0, row, k)) {
            for j in (0..kw).filter_map(|l| p.seen_from(1, col, l)) {
                sum += g[(plane * ho + i) * wo + j];
            }
        }
        *dx = sum / T::of((kh * kw) as f64);
    }
}

/// The windows of max-pooling, forward and backward.
pub fn cases() -> Vec<Case> {
    let uniform = Fill::Uniform(-1.0, 1.0);
    let mut cases = Vec::new();
    for (x, kernel, stride, padding) in WINDOWS {
        let pool = AvgPool2d {
            kernel,
            stride,
            padding,
        };
        let Ok([ho, wo]) = pool.window().and_then(|w| w.output("case", [x[2], x[3]])) else {
            continue;
        };
        let terms = kernel[0] * kernel[1];
        cases.push(Case::new(pool, terms).float(&x, uniform));
        let grad = AvgPool2dGrad {
            pool,
            input: [x[2], x[3]],
        };
        cases.push(Case::new(grad, terms).fixed(&[x[0], x[1], ho, wo], uniform));
    }
    cases
}

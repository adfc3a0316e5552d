//! Average pooling to a size: place i of H_o is the mean of the rows from ⌊i H / H_o⌋ to
//! ⌈(i + 1) H / H_o⌉, which may share a row with their neighbours; columns likewise. To 1 x 1 it is
//! the global average.
//!
//! ∂x, gathered per input, is the sum over the windows that cover it of g over the window's size.
//! Nothing is saved. Small windows are a thread's; a large one is a workgroup's, whose threads add
//! up strided shares, a tree their sums.

use std::sync::Arc;

use super::window::Window;
use super::{
    Backward, Case, ELEMENTWISE, Fill, Lowered, Lowering, Op, Operand, Value, arity, exactly,
    floats, grid,
};
use crate::error::{Error, Result};
use crate::interchange::{Site, Tensor};
use crate::kernel::{Args, Bind, Demand, Kernel};
use crate::shape::Type;
use crate::tensor::Real;

/// Input x `[N, C, H, W]`; output y `[N, C, H_o, W_o]`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdaptiveAvgPool2d {
    /// `[H_o, W_o]`.
    pub size: [usize; 2],
}

/// ∂x: input g `[N, C, H_o, W_o]`; output `[N, C, H, W]`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdaptiveAvgPool2dGrad {
    /// The pool.
    pub pool: AdaptiveAvgPool2d,
    /// `[H, W]`.
    pub input: [usize; 2],
}

const OP: &str = "adaptive_avg_pool2d";
const IMAGES: &str = "images [N, C, H, W]";
/// Windows are computed in 32 bits.
pub(super) const MOST: usize = 1 << 15;
/// Elements of a window up to which it is a thread's.
pub(super) const SHORT: usize = 64;

/// From where to where a window reaches.
pub(super) fn window(i: usize, input: usize, output: usize) -> std::ops::Range<usize> {
    i * input / output..((i + 1) * input).div_ceil(output)
}

/// The most places that a window has.
pub(super) fn most(input: usize, output: usize) -> usize {
    input.div_ceil(output) + usize::from(!input.is_multiple_of(output))
}

impl AdaptiveAvgPool2d {
    fn output(&self, x: &Type) -> Result<Type> {
        floats(OP, IMAGES, x)?;
        let [n, c, h, w] = x.shape.axes(OP, IMAGES)?;
        let [ho, wo] = self.size;
        match [h, w, ho, wo]
            .iter()
            .find(|size| !(1..=MOST).contains(*size))
        {
            None => Type::f32(OP, &[n, c, ho, wo]),
            Some(size) => {
                let name = format!("height or width of {OP}");
                Err(Error::setting(name, size, format!("1 to {MOST}")))
            }
        }
    }

    fn lowered(
        &self,
        kernel: &'static Kernel,
        planes: usize,
        [h, w]: [usize; 2],
        grid: [u32; 2],
    ) -> Lowering {
        let [ho, wo] = self.size;
        let sizes = [
            ("PLANES", planes),
            ("H", h),
            ("W", w),
            ("HO", ho),
            ("WO", wo),
        ];
        Lowering::Launch(Lowered {
            kernel,
            constants: sizes.map(|(name, size)| (name, size as f64)).into(),
            operands: vec![Operand::In(0), Operand::Out(0)],
            grid,
            flops: (planes * h * w) as u64,
            alternatives: vec![],
        })
    }
}

impl Op for AdaptiveAvgPool2d {
    fn name(&self) -> &'static str {
        OP
    }

    fn onnx(&self, site: &mut Site<'_>) -> Result<Vec<String>> {
        let mut x = site.input(0);
        let (from, to) = ([site.fixed(0, 2)?, site.fixed(0, 3)?], self.size);
        if to == [1, 1] {
            return Ok(vec![site.op("GlobalAveragePool", &[&x], &[])]);
        }
        if let Some(window) = Window::even(from, to) {
            return Ok(vec![site.op("AveragePool", &[&x], &window.attributes())]);
        }
        // Windows of several sizes: rows and columns by a matrix of their shares each, y = A x Bᵀ.
        for (axis, rows) in [(1, false), (0, true)] {
            let (from, to) = (from[axis], to[axis]);
            let share = |(place, pixel): (usize, usize)| {
                let window = window(place, from, to);
                let share = (window.len() as f32).recip();
                if window.contains(&pixel) { share } else { 0.0 }
            };
            let places = (0..from * to).map(|i| match rows {
                true => share((i / from, i % from)),
                false => share((i % to, i / to)),
            });
            let extents = if rows { [to, from] } else { [from, to] };
            let shares = site.constant(Tensor::floats(&extents, places.collect()));
            let operands = if rows { [&shares, &x] } else { [&x, &shares] };
            x = site.op("MatMul", &operands.map(String::as_str), &[]);
        }
        Ok(vec![x])
    }

    fn infer(&self, inputs: &[Type]) -> Result<Vec<Type>> {
        let [x] = arity(OP, inputs, "images")?;
        Ok(vec![self.output(x)?])
    }

    fn lower(&self, inputs: &[Type], outputs: &[Type]) -> Result<Lowering> {
        let [n, c, h, w] = inputs[0].shape.axes(OP, IMAGES)?;
        let [ho, wo] = self.size;
        let places = outputs[0].elements();
        let large = most(h, ho) * most(w, wo) > SHORT;
        let (kernel, grid) = match large {
            true => (&ADAPTIVE_AVG_POOL2D, grid(places, 1)),
            false => (&ADAPTIVE_AVG_POOL2D_SHORT, grid(places, ELEMENTWISE)),
        };
        Ok(self.lowered(kernel, n * c, [h, w], grid))
    }

    fn gradient(&self, b: &mut Backward<'_>) -> Result<Vec<Option<Value>>> {
        let [_, _, h, w] = b.tape.ty(b.inputs[0])?.shape.axes(OP, IMAGES)?;
        let grad = AdaptiveAvgPool2dGrad {
            pool: *self,
            input: [h, w],
        };
        Ok(vec![Some(b.tape.op1(Arc::new(grad), &[b.upstream])?)])
    }
}

impl Op for AdaptiveAvgPool2dGrad {
    fn name(&self) -> &'static str {
        OP
    }

    fn infer(&self, inputs: &[Type]) -> Result<Vec<Type>> {
        let [g] = arity("adaptive_avg_pool2d gradient", inputs, "gradient")?;
        floats(OP, "gradient", g)?;
        let [n, c, ..] = g.shape.axes::<4>(OP, "gradient [N, C, H_o, W_o]")?;
        let dx = Type::f32(OP, &[n, c, self.input[0], self.input[1]])?;
        exactly(OP, "gradient", g, &self.pool.output(&dx)?)?;
        Ok(vec![dx])
    }

    fn lower(&self, inputs: &[Type], outputs: &[Type]) -> Result<Lowering> {
        let [n, c, ..] = inputs[0].shape.axes::<4>(OP, IMAGES)?;
        let grid = grid(outputs[0].elements(), ELEMENTWISE);
        let kernel = &ADAPTIVE_AVG_POOL2D_GRAD;
        Ok(self.pool.lowered(kernel, n * c, self.input, grid))
    }
}

/// y, a workgroup for each.
pub static ADAPTIVE_AVG_POOL2D: Kernel = Kernel {
    name: "adaptive_avg_pool2d",
    turns: "(H / HO + 1) * (W / WO + 1) / 64 + 32",
    stem: "adaptive_avg_pool2d",
    source: concat!(
        include_str!("../../shaders/shared/grid.wgsl"),
        include_str!("../../shaders/shared/nan.wgsl"),
        include_str!("../../shaders/shared/tree.wgsl"),
        include_str!("../../shaders/adaptive_avg_pool2d.wgsl"),
    ),
    bindings: &[
        Bind::read("x").of("PLANES * H * W"),
        Bind::write("y").of("PLANES * HO * WO"),
    ],
    constants: &["PLANES", "H", "W", "HO", "WO"],
    reference: crate::reference!(pool),
    optimized: None,
    demand: Demand {
        rounds: "H / HO * (W / WO) / 256",
        barriers: "8",
        issue: "H / HO * (W / WO) / 64 * 45 + 150",
        words: "H / HO * (W / WO) + 1",
        ..Demand::UNSTATED
    },
    trusted: true,
    ports: &[],
    finishing: None,
};

/// y, a thread for each.
pub static ADAPTIVE_AVG_POOL2D_SHORT: Kernel = Kernel {
    name: "adaptive_avg_pool2d_short",
    turns: "(H / HO + 1) * (W / WO + 1) + 8",
    demand: Demand {
        rounds: "H / HO * (W / WO) / 4",
        issue: "H / HO * (W / WO) * 45 + 100",
        words: "64 * (H / HO * (W / WO)) + 64",
        ..Demand::UNSTATED
    },
    ..ADAPTIVE_AVG_POOL2D
};

/// ∂x.
pub static ADAPTIVE_AVG_POOL2D_GRAD: Kernel = Kernel {
    name: "adaptive_avg_pool2d_grad",
    turns: "(HO / H + 3) * (WO / W + 3) + 8",
    demand: Demand {
        rounds: "HO / H * (WO / W) / 4",
        issue: "HO / H * (WO / W) * 60 + 80",
        words: "64 + 64 * WO / W",
        ..Demand::UNSTATED
    },
    bindings: &[
        Bind::read("g").of("PLANES * HO * WO"),
        Bind::write("dx").of("PLANES * H * W"),
    ],
    reference: crate::reference!(pool_grad),
    ..ADAPTIVE_AVG_POOL2D
};

/// The kernels of this file.
pub static KERNELS: &[&Kernel] = &[
    &ADAPTIVE_AVG_POOL2D,
    &ADAPTIVE_AVG_POOL2D_SHORT,
    &ADAPTIVE_AVG_POOL2D_GRAD,
];

/// Calls `each(place, pixels, number of these)` for every window.
pub(super) fn windows<T: Real>(a: &Args<'_, T>, mut each: impl FnMut(usize, &[usize], T)) {
    let [planes, h, w, ho, wo] = ["PLANES", "H", "W", "HO", "WO"].map(|name| a.size(name));
    for place in 0..planes * ho * wo {
        let (plane, row, col) = (place / (ho * wo), place / wo % ho, place % wo);
        let columns = || window(col, w, wo);
        let rows = window(row, h, ho);
        let pixels = rows.flat_map(|i| columns().map(move |j| (plane * h + i) * w + j));
        let pixels: Vec<_> = pixels.collect();
        each(place, &pixels, T::of(pixels.len() as f64));
    }
}

fn pool<T: Real>(a: &mut Args<'_, T>) {
    let (x, y) = (a.f(0), a.f_mut(1)); // [planes, H, W], [planes, H_o, W_o]
    windows(a, |place, pixels, count| {
        y[place] = pixels.iter().map(|&pixel| x[pixel]).sum::<T>() / count;
    });
}

fn pool_grad<T: Real>(a: &mut Args<'_, T>) {
    let (g, dx) = (a.f(0), a.f_mut(1)); // [planes, H_o, W_o], [planes, H, W]
    dx.fill(T::ZERO);
    windows(a, |place, pixels, count| {
        for &pixel in pixels {
            dx[pixel] += g[place] / count;
        }
    });
}

/// One pixel, windows beside each other, that overlap, of one pixel, smaller than a pixel; the
/// whole image, small, as large as a thread takes by itself, larger.
pub fn cases() -> Vec<Case> {
    let uniform = Fill::Uniform(-1.0, 1.0);
    let mut cases = Vec::new();
    for (x, size) in [
        ([1, 1, 1, 1], [1, 1]),
        ([2, 3, 6, 8], [3, 2]),
        ([1, 2, 7, 5], [3, 4]),
        ([2, 1, 3, 5], [3, 5]),
        ([1, 1, 3, 2], [7, 5]),
        ([2, 2, 5, 3], [1, 1]),
        ([1, 2, 7, 7], [1, 1]),
        ([1, 1, 8, 7], [1, 1]),
        ([1, 2, 23, 29], [1, 1]),
        ([1, 3, 31, 19], [3, 2]),
        ([3, 1, 13, 17], [2, 5]),
    ] {
        let [n, c, h, w]: [usize; 4] = x;
        let pool = AdaptiveAvgPool2d { size };
        let terms = (h.div_ceil(size[0]) + 1) * (w.div_ceil(size[1]) + 1);
        let case = Case::new(pool, terms).float(&x, uniform);
        let small = n * c * h * w < 200;
        cases.push(if small { case } else { case.forward_only() });
        let grad = AdaptiveAvgPool2dGrad {
            pool,
            input: [h, w],
        };
        let terms = (size[0].div_ceil(h) + 1) * (size[1].div_ceil(w) + 1);
        let case = Case::new(grad, terms);
        cases.push(case.fixed(&[n, c, size[0], size[1]], uniform));
    }
    cases
}

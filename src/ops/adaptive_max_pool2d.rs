//! Maximum pooling to a size: place i of H_o is the largest x of the rows from ⌊i H / H_o⌋ to
//! ⌈(i + 1) H / H_o⌉, which may share a row with their neighbours; columns likewise. To 1 x 1 it is
//! the global maximum.
//!
//! Of equal maxima the first in row-major order wins, and what is not a number counts as the
//! largest, as in [`MaxPool2d`](super::max_pool2d::MaxPool2d). Saved for the gradient: the argmax.
//! ∂x, gathered per input, is the sum of g over the windows that it has won. Small windows are a
//! thread's; a large one is a workgroup's, whose threads look through strided shares, a tree through
//! their winners.

use std::sync::Arc;

use super::adaptive_avg_pool2d::{MOST, SHORT, most, windows};
use super::window::Window;
use super::{
    Backward, Case, ELEMENTWISE, Fill, Lowered, Lowering, Op, Operand, Value, arity, exactly,
    floats, grid,
};
use crate::error::{Error, Result};
use crate::interchange::Site;
use crate::kernel::{Args, Bind, Demand, Kernel};
use crate::shape::Type;
use crate::tensor::Real;

/// Input x `[N, C, H, W]`; outputs y `[N, C, H_o, W_o]` and the argmax of each window as an index
/// h · W + w into its plane (integers, of y's shape).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdaptiveMaxPool2d {
    /// `[H_o, W_o]`.
    pub size: [usize; 2],
}

/// ∂x: inputs g `[N, C, H_o, W_o]` and the argmax; output `[N, C, H, W]`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdaptiveMaxPool2dGrad {
    /// The pool.
    pub pool: AdaptiveMaxPool2d,
    /// `[H, W]`.
    pub input: [usize; 2],
}

const OP: &str = "adaptive_max_pool2d";
const IMAGES: &str = "images [N, C, H, W]";

impl AdaptiveMaxPool2d {
    fn extents(&self, x: &Type) -> Result<[usize; 4]> {
        floats(OP, IMAGES, x)?;
        let [n, c, h, w] = x.shape.axes(OP, IMAGES)?;
        let [ho, wo] = self.size;
        let wrong = |size: &&usize| !(1..=MOST).contains(*size);
        match [h, w, ho, wo].iter().find(wrong) {
            None => Ok([n, c, ho, wo]),
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
        operands: [Operand; 3],
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
            operands: operands.into(),
            grid,
            flops: (planes * h * w) as u64,
            alternatives: vec![],
        })
    }
}

impl Op for AdaptiveMaxPool2d {
    fn name(&self) -> &'static str {
        OP
    }

    fn onnx(&self, site: &mut Site<'_>) -> Result<Vec<String>> {
        let x = site.input(0);
        let (from, to) = ([site.fixed(0, 2)?, site.fixed(0, 3)?], self.size);
        let y = match (to, Window::even(from, to)) {
            ([1, 1], _) => site.op("GlobalMaxPool", &[&x], &[]),
            (_, Some(window)) => site.op("MaxPool", &[&x], &window.attributes()),
            (_, None) => return Err(site.refused("to a size that does not divide the image's")),
        };
        Ok(vec![y, String::new()])
    }

    fn infer(&self, inputs: &[Type]) -> Result<Vec<Type>> {
        let [x] = arity(OP, inputs, "images")?;
        let extents = self.extents(x)?;
        Ok(vec![Type::f32(OP, &extents)?, Type::u32(OP, &extents)?])
    }

    fn lower(&self, inputs: &[Type], outputs: &[Type]) -> Result<Lowering> {
        let [n, c, h, w] = inputs[0].shape.axes(OP, IMAGES)?;
        let [ho, wo] = self.size;
        let places = outputs[0].elements();
        let large = most(h, ho) * most(w, wo) > SHORT;
        let (kernel, grid) = match large {
            true => (&ADAPTIVE_MAX_POOL2D, grid(places, 1)),
            false => (&ADAPTIVE_MAX_POOL2D_SHORT, grid(places, ELEMENTWISE)),
        };
        let operands = [Operand::In(0), Operand::Out(0), Operand::Out(1)];
        Ok(self.lowered(kernel, n * c, [h, w], operands, grid))
    }

    fn gradient(&self, b: &mut Backward<'_>) -> Result<Vec<Option<Value>>> {
        let [_, _, h, w] = b.tape.ty(b.inputs[0])?.shape.axes(OP, IMAGES)?;
        let grad = AdaptiveMaxPool2dGrad {
            pool: *self,
            input: [h, w],
        };
        let inputs = [b.upstream, b.outputs[1]];
        Ok(vec![Some(b.tape.op1(Arc::new(grad), &inputs)?)])
    }
}

impl Op for AdaptiveMaxPool2dGrad {
    fn name(&self) -> &'static str {
        OP
    }

    fn infer(&self, inputs: &[Type]) -> Result<Vec<Type>> {
        let [g, argmax] = arity("adaptive_max_pool2d gradient", inputs, "gradient, argmax")?;
        floats(OP, "gradient", g)?;
        let [n, c, ..] = g.shape.axes::<4>(OP, "gradient [N, C, H_o, W_o]")?;
        let dx = Type::f32(OP, &[n, c, self.input[0], self.input[1]])?;
        let extents = self.pool.extents(&dx)?;
        exactly(OP, "gradient", g, &Type::f32(OP, &extents)?)?;
        exactly(OP, "argmax", argmax, &Type::u32(OP, &extents)?)?;
        Ok(vec![dx])
    }

    fn lower(&self, inputs: &[Type], outputs: &[Type]) -> Result<Lowering> {
        let [n, c, ..] = inputs[0].shape.axes::<4>(OP, IMAGES)?;
        let grid = grid(outputs[0].elements(), ELEMENTWISE);
        let kernel = &ADAPTIVE_MAX_POOL2D_GRAD;
        let operands = [Operand::In(0), Operand::In(1), Operand::Out(0)];
        Ok(self.pool.lowered(kernel, n * c, self.input, operands, grid))
    }
}

/// y, a workgroup for each.
pub static ADAPTIVE_MAX_POOL2D: Kernel = Kernel {
    name: "adaptive_max_pool2d",
    turns: "(H / HO + 1) * (W / WO + 1) / 64 + 32",
    stem: "adaptive_max_pool2d",
    source: concat!(
        include_str!("../../shaders/shared/grid.wgsl"),
        include_str!("../../shaders/shared/nan.wgsl"),
        include_str!("../../shaders/shared/tree.wgsl"),
        include_str!("../../shaders/adaptive_max_pool2d.wgsl"),
    ),
    bindings: &[
        Bind::read("x").of("PLANES * H * W"),
        Bind::write("y").of("PLANES * HO * WO"),
        Bind::write("argmax").u32().of("PLANES * HO * WO"),
    ],
    constants: &["PLANES", "H", "W", "HO", "WO"],
    reference: crate::reference!(pool),
    optimized: None,
    demand: Demand {
        rounds: "H / HO * (W / WO) / 256 + 2",
        barriers: "7",
        issue: "H / HO * (W / WO) / 64 * 55 + 250",
        words: "H / HO * (W / WO) + 2",
        ..Demand::UNSTATED
    },
    trusted: true,
    ports: &[],
    finishing: None,
};

/// y, a thread for each.
pub static ADAPTIVE_MAX_POOL2D_SHORT: Kernel = Kernel {
    name: "adaptive_max_pool2d_short",
    turns: "(H / HO + 1) * (W / WO + 1) + 8",
    demand: Demand {
        rounds: "H / HO * (W / WO) / 4 + 1",
        issue: "H / HO * (W / WO) * 55 + 100",
        words: "64 * (H / HO * (W / WO)) + 128",
        ..Demand::UNSTATED
    },
    ..ADAPTIVE_MAX_POOL2D
};

/// ∂x.
pub static ADAPTIVE_MAX_POOL2D_GRAD: Kernel = Kernel {
    name: "adaptive_max_pool2d_grad",
    turns: "(HO / H + 3) * (WO / W + 3) + 8",
    demand: Demand {
        rounds: "HO / H * (WO / W) / 4 + 1",
        issue: "HO / H * (WO / W) * 30 + 70",
        words: "64 + 128 * WO / W",
        ..Demand::UNSTATED
    },
    bindings: &[
        Bind::read("g").of("PLANES * HO * WO"),
        Bind::read("saved_argmax").u32().of("PLANES * HO * WO"),
        Bind::write("dx").of("PLANES * H * W"),
    ],
    reference: crate::reference!(pool_grad),
    ..ADAPTIVE_MAX_POOL2D
};

/// The kernels of this file.
pub static KERNELS: &[&Kernel] = &[
    &ADAPTIVE_MAX_POOL2D,
    &ADAPTIVE_MAX_POOL2D_SHORT,
    &ADAPTIVE_MAX_POOL2D_GRAD,
];

fn pool<T: Real>(a: &mut Args<'_, T>) {
    let plane = a.size("H") * a.size("W");
    let (x, y, argmax) = (a.f(0), a.f_mut(1), a.u_mut(2)); // [planes, H, W], [planes, H_o, W_o] twice
    windows(a, |place, pixels, _| {
        let better = |best: usize, &pixel: &usize| match x[pixel].outdoes(x[best]) {
            true => pixel,
            false => best,
        };
        let best = pixels.iter().fold(pixels[0], better);
        y[place] = x[best];
        argmax[place] = (best % plane) as u32;
    });
}

fn pool_grad<T: Real>(a: &mut Args<'_, T>) {
    let plane = a.size("H") * a.size("W");
    let (g, argmax, dx) = (a.f(0), a.u(1), a.f_mut(2)); // [planes, H_o, W_o] twice, [planes, H, W]
    dx.fill(T::ZERO);
    windows(a, |place, pixels, _| {
        for &pixel in pixels {
            if argmax[place] as usize == pixel % plane {
                dx[pixel] += g[place];
            }
        }
    });
}

/// One pixel, windows beside each other, that overlap, of one pixel, smaller than a pixel; the
/// whole image, small, as large as a thread takes by itself, larger; ties.
pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (x, size) in [
        ([1, 1, 1, 1], [1, 1]),
        ([2, 3, 6, 8], [3, 2]),
        ([1, 2, 7, 5], [3, 4]),
        ([2, 1, 3, 5], [3, 5]),
        ([1, 1, 3, 2], [7, 5]),
        ([2, 2, 5, 3], [1, 1]),
        ([1, 1, 8, 7], [1, 1]),
        ([1, 2, 23, 29], [1, 1]),
        ([1, 3, 31, 19], [3, 2]),
        ([3, 1, 13, 17], [2, 5]),
    ] {
        let [n, c, h, w]: [usize; 4] = x;
        let pool = AdaptiveMaxPool2d { size };
        let case = Case::new(pool, 1).float(&x, Fill::Distinct);
        let small = n * c * h * w < 200;
        cases.push(if small { case } else { case.forward_only() });
        cases.push(Case::new(pool, 1).fixed(&x, Fill::Ties));
        let grad = AdaptiveMaxPool2dGrad {
            pool,
            input: [h, w],
        };
        let terms = (size[0].div_ceil(h) + 1) * (size[1].div_ceil(w) + 1);
        let y = [n, c, size[0], size[1]];
        let case = Case::new(grad, terms).fixed(&y, Fill::Uniform(-1.0, 1.0));
        cases.push(case.u32(&y, Fill::Below((h * w) as u32)));
    }
    cases
}

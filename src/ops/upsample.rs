//! Images in another size, larger as a rule, of H x W to H_o x W_o:
//!
//! - nearest: place o takes pixel ⌊o H / H_o⌋;
//! - bilinear: place o stands at s = (o + ½) H / H_o − ½, 0 at least, and mixes pixels ⌊s⌋ and the
//!   next one (the last is its own next) by s − ⌊s⌋; PyTorch's `align_corners=False`.
//!
//! Where a place stands is computed in whole numbers, so that no rounding moves it to another
//! pixel. ∂x is gathered per pixel over the places that see it, in order. Nothing is saved.

use std::sync::Arc;

use super::{
    Backward, Case, ELEMENTWISE, Fill, Lowered, Lowering, Op, Operand, Value, arity, floats, grid,
};
use crate::error::{Error, Result};
use crate::interchange::{Attribute, Site, Tensor};
use crate::kernel::{Args, Bind, Demand, Kernel};
use crate::shape::Type;
use crate::tensor::Real;

/// How pixels become places.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sampling {
    /// Each place takes one pixel.
    Nearest,
    /// Each place mixes the four pixels around it.
    Bilinear,
}

/// y = x in another size: input x `[N, C, H, W]`, output y `[N, C, H_o, W_o]`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Upsample {
    /// How.
    pub sampling: Sampling,
    /// `[H_o, W_o]`, 1 to 32,768 each.
    pub size: [usize; 2],
}

/// ∂x: input g `[N, C, H_o, W_o]`, output `[N, C, H, W]`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct UpsampleGrad {
    /// The op.
    pub upsample: Upsample,
    /// `[H, W]`.
    pub input: [usize; 2],
}

/// Places are computed in 32 bits.
const MOST: usize = 1 << 15;

fn fits(op: &str, sizes: [usize; 4]) -> Result<()> {
    match sizes.iter().find(|size| !(1..=MOST).contains(*size)) {
        None => Ok(()),
        Some(size) => Err(Error::setting(
            format!("height or width of {op}"),
            size,
            format!("1 to {MOST}"),
        )),
    }
}

impl Upsample {
    fn lowered(
        &self,
        kernel: &'static Kernel,
        planes: usize,
        [h, w]: [usize; 2],
        made: usize,
    ) -> Lowering {
        let [ho, wo] = self.size;
        let sizes = [
            ("PLANES", planes),
            ("H", h),
            ("W", w),
            ("HO", ho),
            ("WO", wo),
        ];
        let mut constants: Vec<_> = sizes.map(|(name, size)| (name, size as f64)).into();
        let bilinear = self.sampling == Sampling::Bilinear;
        constants.push(("BILINEAR", f64::from(u8::from(bilinear))));
        Lowering::Launch(Lowered {
            kernel,
            constants,
            operands: vec![Operand::In(0), Operand::Out(0)],
            grid: grid(made, ELEMENTWISE),
            flops: (8 * planes * ho * wo) as u64,
            alternatives: vec![],
        })
    }
}

const IMAGES: &str = "images [N, C, H, W]";

impl Op for Upsample {
    fn name(&self) -> &'static str {
        "upsample"
    }

    fn onnx(&self, site: &mut Site<'_>) -> Result<Vec<String>> {
        let x = site.input(0);
        let from = [site.fixed(0, 2)?, site.fixed(0, 3)?];
        let floors: &[(&str, Attribute)] = &[
            ("mode", "nearest".into()),
            ("coordinate_transformation_mode", "asymmetric".into()),
            ("nearest_mode", "floor".into()),
        ];
        let mixed: &[(&str, Attribute)] = &[
            ("mode", "linear".into()),
            ("coordinate_transformation_mode", "half_pixel".into()),
        ];
        let attributes = match self.sampling {
            Sampling::Nearest => floors,
            Sampling::Bilinear => mixed,
        };
        let factors = [0, 1].map(|axis| self.size[axis] / from[axis]);
        if [0, 1].map(|axis| factors[axis] * from[axis]) != self.size {
            return Err(site.refused("to a size that is no multiple of the image's"));
        }
        let [h, w] = factors.map(|factor| factor as f32);
        let scales = site.constant(Tensor::floats(&[4], vec![1.0, 1.0, h, w]));
        Ok(vec![site.op("Resize", &[&x, "", &scales], attributes)])
    }

    fn infer(&self, inputs: &[Type]) -> Result<Vec<Type>> {
        let [x] = arity("upsample", inputs, "images")?;
        floats("upsample", IMAGES, x)?;
        let [n, c, h, w] = x.shape.axes("upsample", IMAGES)?;
        let [ho, wo] = self.size;
        fits("upsample", [h, w, ho, wo])?;
        Ok(vec![Type::f32("upsample", &[n, c, ho, wo])?])
    }

    fn lower(&self, inputs: &[Type], outputs: &[Type]) -> Result<Lowering> {
        let [n, c, h, w] = inputs[0].shape.axes("upsample", IMAGES)?;
        Ok(self.lowered(&UPSAMPLE, n * c, [h, w], outputs[0].elements()))
    }

    fn gradient(&self, b: &mut Backward<'_>) -> Result<Vec<Option<Value>>> {
        let [_, _, h, w] = b.tape.ty(b.inputs[0])?.shape.axes("upsample", IMAGES)?;
        let grad = UpsampleGrad {
            upsample: *self,
            input: [h, w],
        };
        Ok(vec![Some(b.tape.op1(Arc::new(grad), &[b.upstream])?)])
    }
}

impl Op for UpsampleGrad {
    fn name(&self) -> &'static str {
        "upsample"
    }

    fn infer(&self, inputs: &[Type]) -> Result<Vec<Type>> {
        let op = "upsample gradient";
        let [g] = arity(op, inputs, "gradient")?;
        floats(op, "gradient", g)?;
        let [n, c, ho, wo] = g.shape.axes(op, "gradient [N, C, H_o, W_o]")?;
        let [h, w] = self.input;
        fits("upsample", [h, w, ho, wo])?;
        if [ho, wo] != self.upsample.size {
            let [ho, wo] = self.upsample.size;
            let wanted = format!("gradient [N, C, {ho}, {wo}]");
            return Err(Error::shape(op, g.to_string(), wanted));
        }
        Ok(vec![Type::f32(op, &[n, c, h, w])?])
    }

    fn lower(&self, inputs: &[Type], outputs: &[Type]) -> Result<Lowering> {
        let [n, c, ..] = inputs[0].shape.axes::<4>("upsample", IMAGES)?;
        let made = outputs[0].elements();
        Ok(self
            .upsample
            .lowered(&UPSAMPLE_GRAD, n * c, self.input, made))
    }
}

/// y.
pub static UPSAMPLE: Kernel = Kernel {
    name: "upsample",
    turns: "0",
    stem: "upsample",
    source: concat!(
        include_str!("../../shaders/shared/grid.wgsl"),
        include_str!("../../shaders/shared/nan.wgsl"),
        include_str!("../../shaders/upsample.wgsl"),
    ),
    bindings: &[
        Bind::read("x").of("PLANES * H * W"),
        Bind::write("y").of("PLANES * HO * WO"),
    ],
    constants: &["PLANES", "H", "W", "HO", "WO", "BILINEAR"],
    reference: crate::reference!(upsample),
    optimized: None,
    demand: Demand {
        rounds: "1",
        issue: "60 + 60 * BILINEAR",
        words: "64 + 64 * W / WO * (1 + BILINEAR)",
        ..Demand::UNSTATED
    },
    trusted: true,
    ports: &[],
    finishing: None,
};

/// ∂x.
pub static UPSAMPLE_GRAD: Kernel = Kernel {
    name: "upsample_grad",
    turns: "(3 * HO / H + 6) * (3 * WO / W + 7) + 8",
    demand: Demand {
        rounds: "HO / H * (WO / W) * (1 + 3 * BILINEAR) / 4",
        issue: "HO / H * (WO / W) * (1 + 3 * BILINEAR) * (12 + 50 * BILINEAR) + 80",
        words: "64 + 64 * WO / W * (HO / H) * (1 + BILINEAR)",
        ..Demand::UNSTATED
    },
    bindings: &[
        Bind::read("g").of("PLANES * HO * WO"),
        Bind::write("dx").of("PLANES * H * W"),
    ],
    reference: crate::reference!(upsample_grad),
    ..UPSAMPLE
};

/// The kernels of this file.
pub static KERNELS: &[&Kernel] = &[&UPSAMPLE, &UPSAMPLE_GRAD];

/// The pixels that place `o` of `to` mixes, of `from`, and their weights; of the nearest alone
/// there is one.
fn taps<T: Real>(bilinear: bool, o: usize, from: usize, to: usize) -> Vec<(usize, T)> {
    if !bilinear {
        return vec![(o * from / to, T::ONE)];
    }
    // The place over 2 `to`.
    let at = ((2 * o + 1) * from).saturating_sub(to);
    let first = at / (2 * to);
    let share = T::of((at % (2 * to)) as f64) / T::of((2 * to) as f64);
    let second = (first + 1).min(from - 1);
    vec![(first, T::ONE - share), (second, share)]
}

/// Calls `each(pixel, weights, place)` for all that meet, weights of rows and columns.
fn pairs<T: Real>(a: &Args<'_, T>, mut each: impl FnMut(usize, [T; 2], usize)) {
    let [planes, h, w, ho, wo] = ["PLANES", "H", "W", "HO", "WO"].map(|name| a.size(name));
    let bilinear = a.size("BILINEAR") == 1;
    let along = |from, to| (0..to).map(move |o| taps(bilinear, o, from, to)).collect();
    let (rows, columns): (Vec<Vec<_>>, Vec<Vec<_>>) = (along(h, ho), along(w, wo));
    let mut place = 0;
    for plane in 0..planes {
        for row in &rows {
            for column in &columns {
                for &(i, by_row) in row {
                    for &(j, by_col) in column {
                        each((plane * h + i) * w + j, [by_row, by_col], place);
                    }
                }
                place += 1;
            }
        }
    }
}

fn upsample<T: Real>(a: &mut Args<'_, T>) {
    let (x, y) = (a.f(0), a.f_mut(1)); // [planes, H, W], [planes, H_o, W_o]
    y.fill(T::ZERO);
    pairs(a, |pixel, [by_row, by_col], place| {
        y[place] += by_row * (by_col * x[pixel]);
    });
}

fn upsample_grad<T: Real>(a: &mut Args<'_, T>) {
    let (g, dx) = (a.f(0), a.f_mut(1)); // [planes, H_o, W_o], [planes, H, W]
    dx.fill(T::ZERO);
    pairs(a, |pixel, [by_row, by_col], place| {
        dx[pixel] += by_row * (by_col * g[place]);
    });
}

/// One pixel, whole and broken factors, the same size, smaller ones, several workgroups.
pub fn cases() -> Vec<Case> {
    let uniform = Fill::Uniform(-1.0, 1.0);
    let mut cases = Vec::new();
    for sampling in [Sampling::Nearest, Sampling::Bilinear] {
        for ([n, c, h, w], size) in [
            ([1, 1, 1, 1], [1, 1]),
            ([1, 2, 1, 1], [3, 5]),
            ([2, 1, 3, 4], [6, 8]),
            ([1, 3, 3, 2], [7, 3]),
            ([2, 2, 3, 5], [3, 5]),
            ([1, 1, 7, 11], [3, 4]),
            ([1, 2, 2, 9], [13, 2]),
            ([3, 1, 5, 4], [11, 19]),
        ] {
            let upsample = Upsample { sampling, size };
            cases.push(Case::new(upsample, 4).float(&[n, c, h, w], uniform));
            let input = [h, w];
            let grad = UpsampleGrad { upsample, input };
            let sees = |from: usize, to: usize| 2 * to.div_ceil(from) + 2;
            let case = Case::new(grad, sees(h, size[0]) * sees(w, size[1]));
            cases.push(case.fixed(&[n, c, size[0], size[1]], uniform));
        }
    }
    cases
}

//! Softmax of each row, yₖ = e^(xₖ − m) / Σⱼ e^(xⱼ − m) with m = maxⱼ xⱼ (Nielsen,
//! equation 78; subtracting m changes nothing but keeps the exponents from overflowing).
//!
//! Gradient: δ = y ⊙ (g − Σⱼ gⱼ yⱼ). Saved: the output y alone.

use std::sync::Arc;

use super::launch::per_row;
use super::{Backward, Case, Fill, Lowering, Op, Value, arity, floats, same};
use crate::error::Result;
use crate::kernel::{Args, Bind, Kernel};
use crate::shape::Type;
use crate::tensor::Real;

/// y = softmax x: input x `[N, K]`, output y of the same shape.
#[derive(Debug)]
pub struct Softmax;

/// δ = y ⊙ (g − Σ g y): inputs g and y `[N, K]`, output δ of the same shape.
#[derive(Debug)]
pub struct SoftmaxGrad;

impl Op for Softmax {
    fn name(&self) -> &'static str {
        "softmax"
    }

    fn infer(&self, inputs: &[Type]) -> Result<Vec<Type>> {
        let [x] = arity("softmax", inputs, "x")?;
        floats("softmax", "x", x)?;
        x.shape.axes::<2>("softmax", "x as [N, K]")?;
        Ok(vec![x.clone()])
    }

    fn lower(&self, inputs: &[Type], _: &[Type]) -> Result<Lowering> {
        let sizes = inputs[0].shape.axes("softmax", "x as [N, K]")?;
        Ok(Lowering::Launch(per_row(&SOFTMAX, 1, sizes, 5)))
    }

    fn gradient(&self, b: &mut Backward<'_>) -> Result<Vec<Option<Value>>> {
        let inputs = [b.upstream, b.outputs[0]];
        Ok(vec![Some(b.tape.op1(Arc::new(SoftmaxGrad), &inputs)?)])
    }
}

impl Op for SoftmaxGrad {
    fn name(&self) -> &'static str {
        "softmax"
    }

    fn infer(&self, inputs: &[Type]) -> Result<Vec<Type>> {
        let [g, y] = arity("softmax gradient", inputs, "gradient, output")?;
        floats("softmax gradient", "gradient", g)?;
        same("softmax gradient", "gradient and output", g, y)?;
        g.shape
            .axes::<2>("softmax gradient", "gradient as [N, K]")?;
        Ok(vec![g.clone()])
    }

    fn lower(&self, inputs: &[Type], _: &[Type]) -> Result<Lowering> {
        let sizes = inputs[0].shape.axes("softmax gradient", "[N, K]")?;
        Ok(Lowering::Launch(per_row(&SOFTMAX_GRAD, 2, sizes, 4)))
    }
}

const SOURCE: &str = concat!(
    include_str!("../../shaders/shared/nan.wgsl"),
    include_str!("../../shaders/shared/tree.wgsl"),
    include_str!("../../shaders/softmax.wgsl"),
);

/// y = softmax x, row by row.
pub static SOFTMAX: Kernel = Kernel {
    name: "softmax",
    turns: "3 * (K / 64 + 1) + 64",
    stem: "softmax",
    source: SOURCE,
    bindings: &[Bind::read("x").of("N * K"), Bind::write("y").of("N * K")],
    constants: &["N", "K"],
    reference: crate::reference!(softmax),
    fast: None,
    trusted: true,
};

/// δ = y ⊙ (g − Σ g y), row by row.
pub static SOFTMAX_GRAD: Kernel = Kernel {
    name: "softmax_grad",
    turns: "3 * (K / 64 + 1) + 64",
    bindings: &[
        Bind::read("g").of("N * K"),
        Bind::read("saved_y").of("N * K"),
        Bind::write("delta").of("N * K"),
    ],
    reference: crate::reference!(softmax_grad),
    ..SOFTMAX
};

/// The kernels of this file.
pub static KERNELS: &[&Kernel] = &[&SOFTMAX, &SOFTMAX_GRAD];

/// max x and Σ e^(x − max x) of a row.
pub(super) fn exponents<T: Real>(row: &[T]) -> (T, T) {
    let largest = row.iter().fold(row[0], |m, &x| m.max(x));
    (largest, row.iter().map(|&x| (x - largest).exp()).sum())
}

fn softmax<T: Real>(a: &mut Args<'_, T>) {
    let k = a.size("K");
    let (x, y) = (a.f(0), a.f_mut(1)); // [N, K], [N, K]
    for (y, x) in y.chunks_mut(k).zip(x.chunks(k)) {
        let (largest, sum) = exponents(x);
        for (y, &x) in y.iter_mut().zip(x) {
            *y = (x - largest).exp() / sum;
        }
    }
}

fn softmax_grad<T: Real>(a: &mut Args<'_, T>) {
    let k = a.size("K");
    let (g, y, delta) = (a.f(0), a.f(1), a.f_mut(2)); // [N, K], [N, K], [N, K]
    for ((delta, g), y) in delta.chunks_mut(k).zip(g.chunks(k)).zip(y.chunks(k)) {
        let sum: T = g.iter().zip(y).map(|(&g, &y)| g * y).sum();
        for ((delta, &g), &y) in delta.iter_mut().zip(g).zip(y) {
            *delta = y * (g - sum);
        }
    }
}

/// One column (y = 1), few and many, around the workgroup; far apart without overflow.
pub fn cases() -> Vec<Case> {
    let uniform = Fill::Uniform(-1.0, 1.0);
    let mut cases = Vec::new();
    for shape in [
        [1, 1],
        [3, 2],
        [5, 10],
        [2, 64],
        [3, 65],
        [2, 257],
        [1, 1000],
    ] {
        let [_, k] = shape;
        // The sum of K rounds in proportion to elements of about 1/K.
        cases.push(Case::new(Softmax, 8).float(&shape, uniform));
        let grad = Case::new(SoftmaxGrad, k);
        cases.push(grad.fixed(&shape, uniform).fixed(&shape, uniform));
    }
    let far = Case::new(Softmax, 10).float(&[70, 10], Fill::Uniform(-300.0, 300.0));
    let equal = Case::new(Softmax, 10).float(&[2, 10], Fill::Number(1e4));
    cases.extend([far.forward_only(), equal.forward_only()]);
    cases
}

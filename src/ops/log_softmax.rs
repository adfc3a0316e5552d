//! Logarithm of the softmax of each row, yₖ = xₖ − m − ln Σⱼ e^(xⱼ − m) with m = maxⱼ xⱼ:
//! finite where the softmax itself would round to zero.
//!
//! Gradient: δ = g − e^y Σⱼ gⱼ, as e^y is the softmax. Saved: the output y alone.

use std::sync::Arc;

use super::launch::per_row;
use super::softmax::exponents;
use super::{Backward, Case, Fill, Lowering, Op, Value, arity, floats, same};
use crate::error::Result;
use crate::kernel::{Args, Bind, Kernel};
use crate::shape::Type;
use crate::tensor::Real;

/// y = ln softmax x: input x `[N, K]`, output y of the same shape.
#[derive(Debug)]
pub struct LogSoftmax;

/// δ = g − e^y Σ g: inputs g and y `[N, K]`, output δ of the same shape.
#[derive(Debug)]
pub struct LogSoftmaxGrad;

impl Op for LogSoftmax {
    fn name(&self) -> &'static str {
        "log_softmax"
    }

    fn infer(&self, inputs: &[Type]) -> Result<Vec<Type>> {
        let [x] = arity("log_softmax", inputs, "x")?;
        floats("log_softmax", "x", x)?;
        x.shape.axes::<2>("log_softmax", "x as [N, K]")?;
        Ok(vec![x.clone()])
    }

    fn lower(&self, inputs: &[Type], _: &[Type]) -> Result<Lowering> {
        let sizes = inputs[0].shape.axes("log_softmax", "x as [N, K]")?;
        Ok(Lowering::Launch(per_row(&LOG_SOFTMAX, 1, sizes, 5)))
    }

    fn gradient(&self, b: &mut Backward<'_>) -> Result<Vec<Option<Value>>> {
        let inputs = [b.upstream, b.outputs[0]];
        Ok(vec![Some(b.tape.op1(Arc::new(LogSoftmaxGrad), &inputs)?)])
    }
}

impl Op for LogSoftmaxGrad {
    fn name(&self) -> &'static str {
        "log_softmax"
    }

    fn infer(&self, inputs: &[Type]) -> Result<Vec<Type>> {
        let [g, y] = arity("log_softmax gradient", inputs, "gradient, output")?;
        floats("log_softmax gradient", "gradient", g)?;
        same("log_softmax gradient", "gradient and output", g, y)?;
        g.shape
            .axes::<2>("log_softmax gradient", "gradient as [N, K]")?;
        Ok(vec![g.clone()])
    }

    fn lower(&self, inputs: &[Type], _: &[Type]) -> Result<Lowering> {
        let sizes = inputs[0].shape.axes("log_softmax gradient", "[N, K]")?;
        Ok(Lowering::Launch(per_row(&LOG_SOFTMAX_GRAD, 2, sizes, 4)))
    }
}

const SOURCE: &str = concat!(
    include_str!("../../shaders/shared/nan.wgsl"),
    include_str!("../../shaders/shared/tree.wgsl"),
    include_str!("../../shaders/log_softmax.wgsl"),
);

/// y = ln softmax x, row by row.
pub static LOG_SOFTMAX: Kernel = Kernel {
    name: "log_softmax",
    turns: "3 * (K / 64 + 1) + 64",
    stem: "log_softmax",
    source: SOURCE,
    bindings: &[Bind::read("x").of("N * K"), Bind::write("y").of("N * K")],
    constants: &["N", "K"],
    reference: crate::reference!(log_softmax),
    fast: None,
    trusted: true,
};

/// δ = g − e^y Σ g, row by row.
pub static LOG_SOFTMAX_GRAD: Kernel = Kernel {
    name: "log_softmax_grad",
    turns: "3 * (K / 64 + 1) + 64",
    bindings: &[
        Bind::read("g").of("N * K"),
        Bind::read("saved_y").of("N * K"),
        Bind::write("delta").of("N * K"),
    ],
    reference: crate::reference!(log_softmax_grad),
    ..LOG_SOFTMAX
};

/// The kernels of this file.
pub static KERNELS: &[&Kernel] = &[&LOG_SOFTMAX, &LOG_SOFTMAX_GRAD];

fn log_softmax<T: Real>(a: &mut Args<'_, T>) {
    let k = a.size("K");
    let (x, y) = (a.f(0), a.f_mut(1)); // [N, K], [N, K]
    for (y, x) in y.chunks_mut(k).zip(x.chunks(k)) {
        let (largest, sum) = exponents(x);
        for (y, &x) in y.iter_mut().zip(x) {
            *y = x - largest - sum.ln();
        }
    }
}

fn log_softmax_grad<T: Real>(a: &mut Args<'_, T>) {
    let k = a.size("K");
    let (g, y, delta) = (a.f(0), a.f(1), a.f_mut(2)); // [N, K], [N, K], [N, K]
    for ((delta, g), y) in delta.chunks_mut(k).zip(g.chunks(k)).zip(y.chunks(k)) {
        let sum: T = g.iter().copied().sum();
        for ((delta, &g), &y) in delta.iter_mut().zip(g).zip(y) {
            *delta = g - y.exp() * sum;
        }
    }
}

/// One column (y = 0), few and many, around the workgroup; far apart without overflow.
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
        cases.push(Case::new(LogSoftmax, k).float(&shape, uniform));
        let grad = Case::new(LogSoftmaxGrad, k);
        cases.push(grad.fixed(&shape, uniform).fixed(&shape, uniform));
    }
    let far = Case::new(LogSoftmax, 10).float(&[70, 10], Fill::Uniform(-300.0, 300.0));
    let equal = Case::new(LogSoftmax, 10).float(&[2, 10], Fill::Number(1e4));
    cases.extend([far.forward_only(), equal.forward_only()]);
    cases
}

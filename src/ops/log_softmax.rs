//! Logarithm of the softmax of each row, yₖ = xₖ − m − ln Σⱼ e^(xⱼ − m) with m = maxⱼ xⱼ:
//! finite where the softmax itself would round to zero.
//!
//! Gradient: δ = g − e^y Σⱼ gⱼ, as e^y is the softmax. Saved: the output y alone.

use std::sync::Arc;

use super::checks::around;
use super::launch::along_axis;
use super::softmax::{exponents, rows};
use super::{Backward, Case, Fill, Lowering, Op, Value, arity, floats, same};
use crate::error::Result;
use crate::interchange::Site;
use crate::kernel::{Args, Bind, Demand, Kernel};
use crate::shape::Type;
use crate::tensor::Real;

mod optimized;

/// y = ln softmax x: each along an axis; input x of any shape, output y of the same.
#[derive(Debug)]
pub struct LogSoftmax {
    /// The axis along which the rows run, counted from 0.
    pub axis: usize,
}

/// δ = g − e^y Σ g: inputs g and y of one shape, output δ of the same.
#[derive(Debug)]
pub struct LogSoftmaxGrad {
    /// The axis along which the rows run.
    pub axis: usize,
}

impl Op for LogSoftmax {
    fn name(&self) -> &'static str {
        "log_softmax"
    }

    fn onnx(&self, site: &mut Site<'_>) -> Result<Vec<String>> {
        let x = site.input(0);
        Ok(vec![site.op(
            "LogSoftmax",
            &[&x],
            &[("axis", (self.axis as i64).into())],
        )])
    }

    fn infer(&self, inputs: &[Type]) -> Result<Vec<Type>> {
        let [x] = arity("log_softmax", inputs, "x")?;
        floats("log_softmax", "x", x)?;
        around("log_softmax", x, Some(self.axis))?;
        Ok(vec![x.clone()])
    }

    fn lower(&self, inputs: &[Type], _: &[Type]) -> Result<Lowering> {
        let sizes = around("log_softmax", &inputs[0], Some(self.axis))?;
        let kernels = [&LOG_SOFTMAX, &LOG_SOFTMAX_ACROSS];
        Ok(Lowering::Launch(along_axis(kernels, 1, sizes, 5)))
    }

    fn gradient(&self, b: &mut Backward<'_>) -> Result<Vec<Option<Value>>> {
        let inputs = [b.upstream, b.outputs[0]];
        let grad = LogSoftmaxGrad { axis: self.axis };
        Ok(vec![Some(b.tape.op1(Arc::new(grad), &inputs)?)])
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
        around("log_softmax gradient", g, Some(self.axis))?;
        Ok(vec![g.clone()])
    }

    fn lower(&self, inputs: &[Type], _: &[Type]) -> Result<Lowering> {
        let sizes = around("log_softmax gradient", &inputs[0], Some(self.axis))?;
        let kernels = [&LOG_SOFTMAX_GRAD, &LOG_SOFTMAX_GRAD_ACROSS];
        Ok(Lowering::Launch(along_axis(kernels, 2, sizes, 4)))
    }
}

const SOURCE: &str = concat!(
    include_str!("../../shaders/shared/grid.wgsl"),
    include_str!("../../shaders/shared/nan.wgsl"),
    include_str!("../../shaders/shared/tree.wgsl"),
    include_str!("../../shaders/shared/softmax_rows.wgsl"),
    include_str!("../../shaders/log_softmax.wgsl"),
);

/// y = ln softmax x, row by row.
pub static LOG_SOFTMAX: Kernel = Kernel {
    name: "log_softmax",
    turns: "3 * (K / 64 + 1) + 64",
    stem: "log_softmax",
    source: SOURCE,
    bindings: &[Bind::read("x").of("N * K"), Bind::write("y").of("N * K")],
    constants: &["N", "K", "INNER"],
    reference: crate::reference!(log_softmax),
    optimized: Some(optimized::log_softmax),
    demand: Demand {
        rounds: "2 * (K / 64 / 4) + K / 64",
        barriers: "16",
        issue: "K / 64 * 55 + 190",
        words: "4 * K * (8 * INNER / (INNER + 7))",
        ..Demand::UNSTATED
    },
    trusted: true,
    ports: &[],
    finishing: None,
};

/// δ = g − e^y Σ g, row by row.
pub static LOG_SOFTMAX_GRAD: Kernel = Kernel {
    name: "log_softmax_grad",
    turns: "3 * (K / 64 + 1) + 64",
    demand: Demand {
        rounds: "K / 64 / 4 + K / 64",
        barriers: "8",
        issue: "K / 64 * 36 + 90",
        words: "4 * K * (8 * INNER / (INNER + 7))",
        ..Demand::UNSTATED
    },
    bindings: &[
        Bind::read("g").of("N * K"),
        Bind::read("saved_y").of("N * K"),
        Bind::write("delta").of("N * K"),
    ],
    reference: crate::reference!(log_softmax_grad),
    optimized: Some(optimized::log_softmax_grad),
    ..LOG_SOFTMAX
};

/// [`LOG_SOFTMAX`], a thread for each row.
pub static LOG_SOFTMAX_ACROSS: Kernel = Kernel {
    name: "log_softmax_across",
    turns: "3 * K + 8",
    demand: Demand {
        rounds: "2 * (K / 4) + K",
        issue: "K * 55 + 30",
        words: "256 * K",
        ..Demand::UNSTATED
    },
    ..LOG_SOFTMAX
};

/// [`LOG_SOFTMAX_GRAD`], a thread for each row.
pub static LOG_SOFTMAX_GRAD_ACROSS: Kernel = Kernel {
    name: "log_softmax_grad_across",
    turns: "3 * K + 8",
    demand: Demand {
        rounds: "K / 4 + K",
        issue: "K * 36 + 30",
        words: "256 * K",
        ..Demand::UNSTATED
    },
    ..LOG_SOFTMAX_GRAD
};

/// The kernels of this file.
pub static KERNELS: &[&Kernel] = &[
    &LOG_SOFTMAX,
    &LOG_SOFTMAX_ACROSS,
    &LOG_SOFTMAX_GRAD,
    &LOG_SOFTMAX_GRAD_ACROSS,
];

fn log_softmax<T: Real>(a: &mut Args<'_, T>) {
    let (x, y) = (a.f(0), a.f_mut(1)); // [outer, K, INNER] twice
    for row in rows(a) {
        let (largest, sum) = exponents(row.clone().map(|at| x[at]));
        for at in row {
            y[at] = x[at] - largest - sum.ln();
        }
    }
}

fn log_softmax_grad<T: Real>(a: &mut Args<'_, T>) {
    let (g, y, delta) = (a.f(0), a.f(1), a.f_mut(2)); // [outer, K, INNER] three times
    for row in rows(a) {
        let sum: T = row.clone().map(|at| g[at]).sum();
        for at in row {
            delta[at] = g[at] - y[at].exp() * sum;
        }
    }
}

/// One column (y = 0), few and many, around the workgroup; first and middle axes; far apart
/// without overflow.
pub fn cases() -> Vec<Case> {
    let uniform = Fill::Uniform(-1.0, 1.0);
    let mut cases = Vec::new();
    for (shape, axis) in [
        (&[1, 1][..], 1),
        (&[3, 2], 1),
        (&[5, 10], 1),
        (&[2, 64], 1),
        (&[3, 65], 1),
        (&[2, 257], 1),
        (&[1, 1000], 1),
        (&[7], 0),
        (&[5, 67], 0),
        (&[2, 3, 2, 5], 1),
        (&[3, 2, 4], 2),
        (&[2, 129, 3], 1),
    ] {
        let k = shape[axis];
        cases.push(Case::new(LogSoftmax { axis }, k).float(shape, uniform));
        let grad = Case::new(LogSoftmaxGrad { axis }, k);
        cases.push(grad.fixed(shape, uniform).fixed(shape, uniform));
    }
    let last = || LogSoftmax { axis: 1 };
    let far = Case::new(last(), 10).float(&[70, 10], Fill::Uniform(-300.0, 300.0));
    let equal = Case::new(last(), 10).float(&[2, 10], Fill::Number(1e4));
    cases.extend([far.forward_only(), equal.forward_only()]);
    cases
}

//! Softmax of each row, yₖ = e^(xₖ − m) / Σⱼ e^(xⱼ − m) with m = maxⱼ xⱼ (Nielsen,
//! equation 78; subtracting m changes nothing but keeps the exponents from overflowing).
//!
//! Gradient: δ = y ⊙ (g − Σⱼ gⱼ yⱼ). Saved: the output y alone.

use std::sync::Arc;

use super::checks::around;
use super::launch::along_axis;
use super::pointwise::wrapped_case;
use super::{Backward, Case, Fill, Lowered, Lowering, Op, Value, arity, floats, grid, same};
use crate::error::Result;
use crate::interchange::Site;
use crate::kernel::{Args, Bind, Demand, Kernel, Port, Target};
use crate::shape::Type;
use crate::tensor::Real;

pub(super) mod optimized;

/// y = softmax x: each along an axis; input x of any shape, output y of the same.
#[derive(Debug)]
pub struct Softmax {
    /// The axis along which the rows run, counted from 0.
    pub axis: usize,
}

/// δ = y ⊙ (g − Σ g y): inputs g and y of one shape, output δ of the same.
#[derive(Debug)]
pub struct SoftmaxGrad {
    /// The axis along which the rows run.
    pub axis: usize,
}

impl Op for Softmax {
    fn name(&self) -> &'static str {
        "softmax"
    }

    fn onnx(&self, site: &mut Site<'_>) -> Result<Vec<String>> {
        let x = site.input(0);
        Ok(vec![site.op(
            "Softmax",
            &[&x],
            &[("axis", (self.axis as i64).into())],
        )])
    }

    fn infer(&self, inputs: &[Type]) -> Result<Vec<Type>> {
        let [x] = arity("softmax", inputs, "x")?;
        floats("softmax", "x", x)?;
        around("softmax", x, Some(self.axis))?;
        Ok(vec![x.clone()])
    }

    fn lower(&self, inputs: &[Type], _: &[Type]) -> Result<Lowering> {
        let sizes = around("softmax", &inputs[0], Some(self.axis))?;
        let kernels = [&SOFTMAX, &SOFTMAX_ACROSS];
        let usual = along_axis(kernels, 1, sizes, 5);
        Ok(Lowering::Launch(with_teams(usual, &SOFTMAX_TEAMS, sizes)))
    }

    fn gradient(&self, b: &mut Backward<'_>) -> Result<Vec<Option<Value>>> {
        let inputs = [b.upstream, b.outputs[0]];
        let grad = SoftmaxGrad { axis: self.axis };
        Ok(vec![Some(b.tape.op1(Arc::new(grad), &inputs)?)])
    }

    fn port(&self) -> Option<usize> {
        Some(SOFTMAX.bindings.len())
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
        around("softmax gradient", g, Some(self.axis))?;
        Ok(vec![g.clone()])
    }

    fn lower(&self, inputs: &[Type], _: &[Type]) -> Result<Lowering> {
        let sizes = around("softmax gradient", &inputs[0], Some(self.axis))?;
        let kernels = [&SOFTMAX_GRAD, &SOFTMAX_GRAD_ACROSS];
        let usual = along_axis(kernels, 2, sizes, 4);
        Ok(Lowering::Launch(with_teams(
            usual,
            &SOFTMAX_GRAD_TEAMS,
            sizes,
        )))
    }

    fn port(&self) -> Option<usize> {
        Some(SOFTMAX_GRAD.bindings.len())
    }
}

/// Rows of a workgroup of teams; `TEAMS` of the shader.
const TEAMS: usize = 8;
/// Elements of a row that a team's lanes hold between them.
const MOST_OF_A_TEAM: usize = 128;

/// The launch with the variant of teams beside it, where rows are short and lie one behind the other.
fn with_teams(
    mut usual: Lowered,
    teams: &'static Kernel,
    [outer, k, inner]: [usize; 3],
) -> Lowered {
    if inner == 1 && k <= MOST_OF_A_TEAM {
        let other = usual.otherwise(Target::Gpu, teams, grid(outer, TEAMS));
        usual.alternatives.push(other);
    }
    usual
}

const SOURCE: &str = concat!(
    include_str!("../../shaders/shared/grid.wgsl"),
    include_str!("../../shaders/shared/nan.wgsl"),
    include_str!("../../shaders/shared/tree.wgsl"),
    include_str!("../../shaders/shared/softmax_rows.wgsl"),
    include_str!("../../shaders/softmax.wgsl"),
    crate::port!("finish"),
);

/// y = softmax x, row by row.
pub static SOFTMAX: Kernel = Kernel {
    name: "softmax",
    turns: "3 * (K / 64 + 1) + 64",
    stem: "softmax",
    source: SOURCE,
    bindings: &[Bind::read("x").of("N * K"), Bind::write("y").of("N * K")],
    constants: &["N", "K", "INNER"],
    reference: crate::reference!(softmax),
    optimized: Some(optimized::softmax),
    // Twice through the row, and once more with stores, which keep the next turn's load back. A sector is
    // eight words.
    demand: Demand {
        rounds: "2 * (K / 64 / 4) + K / 64",
        barriers: "16",
        issue: "K / 64 * 60 + 180",
        words: "4 * K * (8 * INNER / (INNER + 7))",
        ..Demand::UNSTATED
    },
    trusted: true,
    ports: &[Port::finish(1, "K / 64 + 1")],
    finishing: None,
};

/// δ = y ⊙ (g − Σ g y), row by row.
pub static SOFTMAX_GRAD: Kernel = Kernel {
    name: "softmax_grad",
    turns: "3 * (K / 64 + 1) + 64",
    demand: Demand {
        rounds: "K / 64 / 4 + K / 64",
        barriers: "8",
        issue: "K / 64 * 34 + 90",
        words: "5 * K * (8 * INNER / (INNER + 7))",
        ..Demand::UNSTATED
    },
    bindings: &[
        Bind::read("g").of("N * K"),
        Bind::read("saved_y").of("N * K"),
        Bind::write("delta").of("N * K"),
    ],
    reference: crate::reference!(softmax_grad),
    optimized: Some(optimized::softmax_grad),
    ports: &[Port::finish(2, "K / 64 + 1")],
    ..SOFTMAX
};

/// [`SOFTMAX`], a thread for each row.
pub static SOFTMAX_ACROSS: Kernel = Kernel {
    name: "softmax_across",
    turns: "3 * K + 8",
    demand: Demand {
        rounds: "2 * (K / 4) + K",
        issue: "K * 60 + 30",
        words: "256 * K",
        ..Demand::UNSTATED
    },
    ports: &[Port::finish(1, "K")],
    ..SOFTMAX
};

/// [`SOFTMAX_GRAD`], a thread for each row.
pub static SOFTMAX_GRAD_ACROSS: Kernel = Kernel {
    name: "softmax_grad_across",
    turns: "3 * K + 8",
    demand: Demand {
        rounds: "K / 4 + K",
        issue: "K * 34 + 30",
        words: "320 * K",
        ..Demand::UNSTATED
    },
    ports: &[Port::finish(2, "K")],
    ..SOFTMAX_GRAD
};

const TEAMS_SOURCE: &str = concat!(
    include_str!("../../shaders/shared/nan.wgsl"),
    include_str!("../../shaders/shared/softmax_rows.wgsl"),
    include_str!("../../shaders/softmax/teams.wgsl"),
    crate::port!("finish"),
);

/// [`SOFTMAX`] of short rows, several in a workgroup.
pub static SOFTMAX_TEAMS: Kernel = Kernel {
    name: "softmax_teams",
    turns: "20",
    source: TEAMS_SOURCE,
    demand: Demand {
        rounds: "1",
        barriers: "14",
        issue: "220",
        words: "16 * K",
        ..Demand::UNSTATED
    },
    ports: &[Port::finish(1, "4")],
    ..SOFTMAX
};

/// [`SOFTMAX_GRAD`] of short rows, several in a workgroup.
pub static SOFTMAX_GRAD_TEAMS: Kernel = Kernel {
    name: "softmax_grad_teams",
    turns: "16",
    source: TEAMS_SOURCE,
    demand: Demand {
        rounds: "1",
        barriers: "7",
        issue: "110",
        words: "24 * K",
        ..Demand::UNSTATED
    },
    ports: &[Port::finish(2, "4")],
    ..SOFTMAX_GRAD
};

/// The kernels of this file.
pub static KERNELS: &[&Kernel] = &[
    &SOFTMAX,
    &SOFTMAX_ACROSS,
    &SOFTMAX_TEAMS,
    &SOFTMAX_GRAD,
    &SOFTMAX_GRAD_ACROSS,
    &SOFTMAX_GRAD_TEAMS,
];

/// max x and Σ e^(x − max x) of a row.
pub(super) fn exponents<T: Real>(row: impl Iterator<Item = T> + Clone) -> (T, T) {
    let largest = row.clone().reduce(T::max).unwrap_or(T::ZERO);
    (largest, row.map(|x| (x - largest).exp()).sum())
}

/// Where the elements of each row of a launch along an axis stand.
pub(super) fn rows<T: Real>(
    a: &Args<'_, T>,
) -> impl Iterator<Item = impl Iterator<Item = usize> + Clone> {
    let (n, k, inner) = (a.size("N"), a.size("K"), a.size("INNER"));
    (0..n).map(move |row| {
        let first = row / inner * k * inner + row % inner;
        (0..k).map(move |k| first + k * inner)
    })
}

fn softmax<T: Real>(a: &mut Args<'_, T>) {
    let (x, y) = (a.f(0), a.f_mut(1)); // [outer, K, INNER] twice
    for row in rows(a) {
        let (largest, sum) = exponents(row.clone().map(|at| x[at]));
        for at in row {
            y[at] = (x[at] - largest).exp() / sum;
        }
    }
}

fn softmax_grad<T: Real>(a: &mut Args<'_, T>) {
    let (g, y, delta) = (a.f(0), a.f(1), a.f_mut(2)); // [outer, K, INNER] three times
    for row in rows(a) {
        let sum: T = row.clone().map(|at| g[at] * y[at]).sum();
        for at in row {
            delta[at] = y[at] * (g[at] - sum);
        }
    }
}

/// One column (y = 1), few and many, around the workgroup; first and middle axes; far apart
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
        (&[17, 33], 1),
        (&[9, 127], 1),
        (&[8, 128], 1),
        (&[7], 0),
        (&[5, 67], 0),
        (&[2, 3, 2, 5], 1),
        (&[3, 2, 4], 2),
        (&[2, 129, 3], 1),
    ] {
        let k = shape[axis];
        // The sum of K rounds in proportion to elements of about 1/K.
        cases.push(Case::new(Softmax { axis }, 8).float(shape, uniform));
        let grad = Case::new(SoftmaxGrad { axis }, k);
        cases.push(grad.fixed(shape, uniform).fixed(shape, uniform));
    }
    let last = || Softmax { axis: 1 };
    let far = Case::new(last(), 10).float(&[70, 10], Fill::Uniform(-300.0, 300.0));
    let equal = Case::new(last(), 10).float(&[2, 10], Fill::Number(1e4));
    let wide = Case::new(last(), 100).float(&[9, 100], Fill::Uniform(-3000.0, 3000.0));
    cases.extend([far, equal, wide].map(Case::forward_only));
    // With an ending of each kind: teams, a workgroup and a thread for each row.
    for (turn, shape) in [[9, 33], [3, 130], [5, 64], [11, 7]]
        .into_iter()
        .enumerate()
    {
        let soft = Case::new(last(), 8).float(&shape, uniform);
        let grad = Case::new(SoftmaxGrad { axis: 1 }, shape[1]);
        let grad = grad.fixed(&shape, uniform).fixed(&shape, uniform);
        let across = Case::new(Softmax { axis: 0 }, 8).float(&shape, uniform);
        let back = Case::new(SoftmaxGrad { axis: 0 }, shape[0]);
        let back = back.fixed(&shape, uniform).fixed(&shape, uniform);
        let all = [soft, grad, across, back];
        cases.extend(all.iter().map(|bare| wrapped_case(bare, turn)));
    }
    cases
}

//! What the costs have in common: a loss of each example, and its slope.
//!
//! A cost turns the scores z `[N, K]` of N examples and their labels `[N]` into losses
//! Lₙ `[N]`. Its gradient is δ = gₙ ∂Lₙ/∂z. The mean over a mini-batch is no part of it:
//! it enters through the upstream gradient, gₙ = 1/batch. Saved: scores and labels.
//!
//! A label below K names the class, and the target is 1 there and 0 elsewhere. With
//! K = 1 there is no class to name, and the target is the label itself as a number. A
//! label that is not below K > 1 names no class: the target is 0 everywhere.

use std::sync::Arc;

use super::launch::per_row;
use super::{Backward, Case, Fill, Lowering, Op, Value, arity, exactly, floats};
use crate::error::Result;
use crate::kernel::{Args, Bind, Demand, Kernel, Reference};
use crate::shape::Type;
use crate::tensor::Real;

/// A cost function: its two kernels.
#[derive(Debug)]
pub struct Cost {
    /// The stem of its files.
    pub name: &'static str,
    /// Scores, labels → losses.
    pub loss: &'static Kernel,
    /// Scores, labels, g → δ.
    pub slope: &'static Kernel,
}

/// Losses of each example: inputs scores `[N, K]` and integer labels `[N]`, output
/// losses `[N]`. There is no gradient with respect to labels.
#[derive(Clone, Copy, Debug)]
pub struct Loss(pub &'static Cost);

/// δ = gₙ ∂Lₙ/∂z: inputs scores `[N, K]`, integer labels `[N]` and g `[N]`, output δ
/// `[N, K]`.
#[derive(Clone, Copy, Debug)]
pub struct LossGrad(pub &'static Cost);

/// N and K of scores that stand with labels of the right type.
fn sizes(op: &str, scores: &Type, labels: &Type) -> Result<[usize; 2]> {
    floats(op, "scores", scores)?;
    let [n, k] = scores.shape.axes(op, "scores as [N, K]")?;
    exactly(op, "labels [N]", labels, &Type::u32(op, &[n])?)?;
    Ok([n, k])
}

impl Op for Loss {
    fn name(&self) -> &'static str {
        self.0.name
    }

    fn infer(&self, inputs: &[Type]) -> Result<Vec<Type>> {
        let [scores, labels] = arity(self.0.name, inputs, "scores, labels")?;
        let [n, _] = sizes(self.0.name, scores, labels)?;
        Ok(vec![Type::f32(self.0.name, &[n])?])
    }

    fn lower(&self, inputs: &[Type], _: &[Type]) -> Result<Lowering> {
        let sizes = sizes(self.0.name, &inputs[0], &inputs[1])?;
        Ok(Lowering::Launch(per_row(self.0.loss, 2, sizes, 5)))
    }

    fn gradient(&self, b: &mut Backward<'_>) -> Result<Vec<Option<Value>>> {
        let inputs = [b.inputs[0], b.inputs[1], b.upstream];
        Ok(vec![
            Some(b.tape.op1(Arc::new(LossGrad(self.0)), &inputs)?),
            None,
        ])
    }
}

impl Op for LossGrad {
    fn name(&self) -> &'static str {
        self.0.name
    }

    fn infer(&self, inputs: &[Type]) -> Result<Vec<Type>> {
        let [scores, labels, g] = arity(self.0.name, inputs, "scores, labels, gradient")?;
        let [n, _] = sizes(self.0.name, scores, labels)?;
        exactly(
            self.0.name,
            "gradient [N]",
            g,
            &Type::f32(self.0.name, &[n])?,
        )?;
        Ok(vec![scores.clone()])
    }

    fn lower(&self, inputs: &[Type], _: &[Type]) -> Result<Lowering> {
        let sizes = sizes(self.0.name, &inputs[0], &inputs[1])?;
        Ok(Lowering::Launch(per_row(self.0.slope, 3, sizes, 5)))
    }
}

const LOSS_BINDINGS: &[Bind] = &[
    Bind::read("scores").of("N * K"),
    Bind::read("labels").u32().of("N"),
    Bind::write("loss").of("N"),
];

const SLOPE_BINDINGS: &[Bind] = &[
    Bind::read("scores").of("N * K"),
    Bind::read("labels").u32().of("N"),
    Bind::read("g").of("N"),
    Bind::write("delta").of("N * K"),
];

/// The kernel that makes losses `[N]`.
pub(super) const fn loss_kernel(
    stem: &'static str,
    source: &'static str,
    reference: Reference,
    demand: Demand,
) -> Kernel {
    Kernel {
        name: stem,
        turns: "2 * (K / 64 + 1) + 64",
        stem,
        source,
        bindings: LOSS_BINDINGS,
        constants: &["N", "K"],
        reference,
        optimized: None,
        demand,
        trusted: true,
        ports: &[],
        finishing: None,
    }
}

/// The kernel that makes δ `[N, K]`.
pub(super) const fn slope_kernel(
    name: &'static str,
    stem: &'static str,
    source: &'static str,
    reference: Reference,
    demand: Demand,
) -> Kernel {
    Kernel {
        name,
        bindings: SLOPE_BINDINGS,
        ..loss_kernel(stem, source, reference, demand)
    }
}

/// The target of output k of K; twin of `target_of` in `shaders/shared/cost.wgsl`.
pub(super) fn target<T: Real>(outputs: usize, k: usize, label: u32) -> T {
    if outputs == 1 {
        T::of(f64::from(label))
    } else if k == label as usize {
        T::ONE
    } else {
        T::ZERO
    }
}

/// z times the target of output k of K; twin of `chosen_among` in `shaders/shared/terms.wgsl`.
/// Where the target is 0, nothing of z is left, not even of an infinity.
pub(super) fn chosen<T: Real>(outputs: usize, k: usize, label: u32, z: T) -> T {
    if outputs == 1 {
        z * T::of(f64::from(label))
    } else if k == label as usize {
        z
    } else {
        T::ZERO
    }
}

/// The reference of a loss kernel: `of(z, label)` is the loss of one example.
pub(super) fn losses<T: Real>(a: &mut Args<'_, T>, of: impl Fn(&[T], u32) -> T) {
    let k = a.size("K");
    let (scores, labels, loss) = (a.f(0), a.u(1), a.f_mut(2)); // [N, K], [N], [N]
    for ((loss, z), &label) in loss.iter_mut().zip(scores.chunks(k)).zip(labels) {
        *loss = of(z, label);
    }
}

/// The reference of a slope kernel: `of(z, label, slope)` writes ∂L/∂z of one example.
pub(super) fn slopes<T: Real>(a: &mut Args<'_, T>, of: impl Fn(&[T], u32, &mut [T])) {
    let k = a.size("K");
    let (scores, labels) = (a.f(0), a.u(1)); // [N, K], [N]
    let (g, delta) = (a.f(2), a.f_mut(3)); // [N], [N, K]
    let rows = delta.chunks_mut(k).zip(scores.chunks(k));
    for (((delta, z), &label), &g) in rows.zip(labels).zip(g) {
        of(z, label, delta);
        for delta in delta {
            *delta *= g;
        }
    }
}

/// One output and its number for a target, few and many, around the workgroup; scores
/// far out; labels that name no class.
pub(super) fn cases(cost: &'static Cost) -> Vec<Case> {
    let uniform = Fill::Uniform(-1.0, 1.0);
    let both = |n, k, scores, labels| {
        let shape = [n, k];
        let loss = Case::new(Loss(cost), k).float(&shape, scores);
        // A softmax's sum rounds in proportion to elements of about 1/K.
        let slope = Case::new(LossGrad(cost), 8).fixed(&shape, scores);
        [
            loss.u32(&[n], labels),
            slope.u32(&[n], labels).fixed(&[n], uniform),
        ]
    };
    let mut cases = Vec::new();
    for [n, k] in [
        [1, 1],
        [7, 1],
        [3, 2],
        [67, 10],
        [3, 65],
        [2, 257],
        [1, 1000],
    ] {
        cases.extend(both(n, k, uniform, Fill::Below(k.max(2) as u32)));
    }
    let far = Fill::Uniform(-300.0, 300.0);
    let hard = [
        both(70, 10, far, Fill::Below(10)),
        both(9, 1, far, Fill::Below(2)),
        both(5, 10, Fill::Number(0.0), Fill::Below(10)),
        both(33, 10, uniform, Fill::Below(21)),
        both(33, 10, uniform, Fill::Words),
    ];
    cases.extend(hard.into_iter().flatten().map(Case::forward_only));
    cases
}

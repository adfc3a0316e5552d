//! What the costs have in common: a loss of each example, and its slope.
//!
//! A cost turns the scores z `[N, K]` of N examples and their labels `[N]` into losses
//! Lₙ `[N]`. Its gradient is δ = gₙ ∂Lₙ/∂z. The mean over a mini-batch is no part of it:
//! it enters through the upstream gradient, gₙ = 1/batch. Saved: scores and labels.
//!
//! A label below K names the class, and the target is 1 there and 0 elsewhere. With
//! K = 1 there is no class to name, and the target is the label itself as a number. A
//! label that is not below K > 1 names no class: the target is 0 everywhere. With a smoothing ε
//! of K > 1 classes the targets t are (1 − ε) t + ε/K (Szegedy et al. 2016).

use std::sync::Arc;

use super::launch::{grid, per_row};
use super::pointwise::wrapped_case;
use super::{Backward, Case, Fill, Lowered, Lowering, Op, Operand, Value, arity, exactly, floats};
use crate::error::{Error, Result};
use crate::kernel::{Args, Bind, Demand, Kernel, Port, Reference};
use crate::shape::Type;
use crate::tensor::Real;

/// A cost function: its kernels.
#[derive(Debug)]
pub struct Cost {
    /// The stem of its files.
    pub name: &'static str,
    /// Scores, labels → losses.
    pub loss: &'static Kernel,
    /// Scores, labels, g → δ.
    pub slope: &'static Kernel,
    /// Scores, labels → ∂L/∂z and losses in one pass, with a port at the first: by a workgroup for each example, and by a
    /// thread where K is at most 32. None where they are only to be had apart.
    pub both: Option<[&'static Kernel; 2]>,
}

/// Losses of each example: inputs scores `[N, K]` and integer labels `[N]`, output
/// losses `[N]`. There is no gradient with respect to labels.
#[derive(Clone, Copy, Debug)]
pub struct Loss {
    /// The cost.
    pub cost: &'static Cost,
    /// ε, 0 to below 1, of a cost whose kernels have the constant `SMOOTHING`; 0 of others.
    pub smoothing: f64,
}

/// δ = gₙ ∂Lₙ/∂z: inputs scores `[N, K]`, integer labels `[N]` and g `[N]`, output δ
/// `[N, K]`.
#[derive(Clone, Copy, Debug)]
pub struct LossGrad(pub Loss);

/// Both at once: inputs scores `[N, K]` and integer labels `[N]`, outputs ∂L/∂z `[N, K]`, which may end in any
/// expression, and losses `[N]`. Comes into being when a graph is fused; it has no gradient rule of its own.
#[derive(Clone, Copy, Debug)]
pub struct LossAndSlope {
    loss: Loss,
    kernels: [&'static Kernel; 2],
}

/// The most scores of an example that one thread has by itself.
const SHORT: usize = 32;

impl Loss {
    /// Without smoothing.
    pub const fn of(cost: &'static Cost) -> Self {
        let smoothing = 0.0;
        Self { cost, smoothing }
    }

    /// Whether both are one cost with one smoothing.
    pub(crate) fn is(&self, other: &Self) -> bool {
        std::ptr::eq(self.cost, other.cost) && self.smoothing == other.smoothing
    }

    /// Both at once, of a cost that has kernels for that.
    pub fn and_slope(self) -> Option<LossAndSlope> {
        let kernels = self.cost.both?;
        Some(LossAndSlope {
            loss: self,
            kernels,
        })
    }

    /// N and K of scores that stand with labels of the right type.
    fn sizes(&self, scores: &Type, labels: &Type) -> Result<[usize; 2]> {
        let name = self.cost.name;
        floats(name, "scores", scores)?;
        let [n, k] = scores.shape.axes(name, "scores as [N, K]")?;
        exactly(name, "labels [N]", labels, &Type::u32(name, &[n])?)?;
        let known = self.cost.loss.constants.contains(&SMOOTHING);
        if self.smoothing != 0.0 && !(known && (0.0..1.0).contains(&self.smoothing)) {
            let wanted = match known {
                true => "0 to below 1",
                false => "0: the cost's kernels have no constant SMOOTHING",
            };
            let name = format!("smoothing of {name}");
            return Err(Error::setting(name, self.smoothing, wanted));
        }
        Ok([n, k])
    }

    /// A launch of a workgroup for each example.
    fn launch(
        &self,
        kernel: &'static Kernel,
        inputs: usize,
        sizes: [usize; 2],
        work: usize,
    ) -> Lowered {
        let mut lowered = per_row(kernel, inputs, sizes, work);
        if kernel.constants.contains(&SMOOTHING) {
            lowered.constants.push((SMOOTHING, self.smoothing));
        }
        lowered
    }
}

const SMOOTHING: &str = "SMOOTHING";

impl Op for Loss {
    fn name(&self) -> &'static str {
        self.cost.name
    }

    fn infer(&self, inputs: &[Type]) -> Result<Vec<Type>> {
        let [scores, labels] = arity(self.name(), inputs, "scores, labels")?;
        let [n, _] = self.sizes(scores, labels)?;
        Ok(vec![Type::f32(self.name(), &[n])?])
    }

    fn lower(&self, inputs: &[Type], _: &[Type]) -> Result<Lowering> {
        let sizes = self.sizes(&inputs[0], &inputs[1])?;
        Ok(Lowering::Launch(self.launch(self.cost.loss, 2, sizes, 5)))
    }

    fn gradient(&self, b: &mut Backward<'_>) -> Result<Vec<Option<Value>>> {
        let inputs = [b.inputs[0], b.inputs[1], b.upstream];
        Ok(vec![
            Some(b.tape.op1(Arc::new(LossGrad(*self)), &inputs)?),
            None,
        ])
    }
}

impl Op for LossGrad {
    fn name(&self) -> &'static str {
        self.0.name()
    }

    fn infer(&self, inputs: &[Type]) -> Result<Vec<Type>> {
        let name = self.name();
        let [scores, labels, g] = arity(name, inputs, "scores, labels, gradient")?;
        let [n, _] = self.0.sizes(scores, labels)?;
        exactly(name, "gradient [N]", g, &Type::f32(name, &[n])?)?;
        Ok(vec![scores.clone()])
    }

    fn lower(&self, inputs: &[Type], _: &[Type]) -> Result<Lowering> {
        let Self(loss) = self;
        let sizes = loss.sizes(&inputs[0], &inputs[1])?;
        Ok(Lowering::Launch(loss.launch(loss.cost.slope, 3, sizes, 5)))
    }
}

impl Op for LossAndSlope {
    fn name(&self) -> &'static str {
        self.loss.name()
    }

    fn infer(&self, inputs: &[Type]) -> Result<Vec<Type>> {
        let [scores, labels] = arity(self.name(), inputs, "scores, labels")?;
        let [n, _] = self.loss.sizes(scores, labels)?;
        Ok(vec![scores.clone(), Type::f32(self.name(), &[n])?])
    }

    fn lower(&self, inputs: &[Type], _: &[Type]) -> Result<Lowering> {
        let [n, k] = self.loss.sizes(&inputs[0], &inputs[1])?;
        let [whole, short] = self.kernels;
        let mut lowered = self.loss.launch(whole, 2, [n, k], 8);
        if k <= SHORT {
            lowered.kernel = short;
            lowered.grid = grid(n, LANES);
        }
        lowered.operands.push(Operand::Out(1));
        Ok(Lowering::Launch(lowered))
    }

    fn port(&self) -> Option<usize> {
        Some(BOTH_BINDINGS.len())
    }
}

/// Threads of a workgroup; `LANES` of `shaders/shared/cost.wgsl`.
const LANES: usize = 64;

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

const BOTH_BINDINGS: &[Bind] = &[
    Bind::read("scores").of("N * K"),
    Bind::read("labels").u32().of("N"),
    Bind::write("slopes").of("N * K"),
    Bind::write("losses").of("N"),
];

const BOTH_PORTS: &[Port] = &[Port::finish(2, "K / 64 + 1")];
const SHORT_PORTS: &[Port] = &[Port::finish(2, "K")];

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
        constants: &["N", "K", SMOOTHING],
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

/// The kernel that makes ∂L/∂z `[N, K]` and losses `[N]`.
pub(super) const fn both_kernel(
    name: &'static str,
    stem: &'static str,
    source: &'static str,
    reference: Reference,
    demand: Demand,
) -> Kernel {
    Kernel {
        name,
        turns: "3 * (K / 64 + 1) + 64",
        bindings: BOTH_BINDINGS,
        ports: BOTH_PORTS,
        ..loss_kernel(stem, source, reference, demand)
    }
}

/// The same of few scores, by a thread for each example.
pub(super) const fn short_kernel(
    name: &'static str,
    stem: &'static str,
    source: &'static str,
    reference: Reference,
    demand: Demand,
) -> Kernel {
    Kernel {
        turns: "3 * K",
        ports: SHORT_PORTS,
        ..both_kernel(name, stem, source, reference, demand)
    }
}

/// An example's label, and the smoothing of its target.
#[derive(Clone, Copy)]
pub(super) struct Label {
    pub class: u32,
    pub smoothing: f64,
}

impl Label {
    /// Without smoothing.
    pub fn of(class: u32) -> Self {
        let smoothing = 0.0;
        Self { class, smoothing }
    }

    /// Of K classes, the target of class k; twin of `smoothed` in `shaders/shared/cost.wgsl`.
    pub fn share<T: Real>(self, classes: usize, k: usize) -> T {
        let own = match k == self.class as usize {
            true => 1.0 - self.smoothing,
            false => 0.0,
        };
        T::of(own + self.smoothing / classes as f64)
    }

    /// The target of output k of K; twin of `target_of`.
    pub fn target<T: Real>(self, outputs: usize, k: usize) -> T {
        match outputs {
            1 => T::of(f64::from(self.class)),
            _ => self.share(outputs, k),
        }
    }

    /// z times the target of output k of K; twin of `chosen_of`. Where the target is 0, nothing of z is left, not even of
    /// an infinity.
    pub fn chosen<T: Real>(self, outputs: usize, k: usize, z: T) -> T {
        let target = self.target::<T>(outputs, k);
        match target == T::ZERO && outputs > 1 {
            true => T::ZERO,
            false => z * target,
        }
    }
}

/// The labels of a launch.
fn labels<'a, T: Real>(a: &Args<'a, T>) -> impl Iterator<Item = Label> + use<'a, T> {
    let smoothing = a.number(SMOOTHING);
    a.u(1).iter().map(move |&class| Label { class, smoothing })
}

/// The reference of a loss kernel: `of(z, label)` is the loss of one example.
pub(super) fn losses<T: Real>(a: &mut Args<'_, T>, of: impl Fn(&[T], Label) -> T) {
    let (k, labels) = (a.size("K"), labels(a));
    let (scores, loss) = (a.f(0), a.f_mut(2)); // [N, K], [N]
    for ((loss, z), label) in loss.iter_mut().zip(scores.chunks(k)).zip(labels) {
        *loss = of(z, label);
    }
}

/// The reference of a slope kernel: `of(z, label, slope)` writes ∂L/∂z of one example.
pub(super) fn slopes<T: Real>(a: &mut Args<'_, T>, of: impl Fn(&[T], Label, &mut [T])) {
    let (k, labels) = (a.size("K"), labels(a));
    let scores = a.f(0); // [N, K]
    let (g, delta) = (a.f(2), a.f_mut(3)); // [N], [N, K]
    let rows = delta.chunks_mut(k).zip(scores.chunks(k));
    for (((delta, z), label), &g) in rows.zip(labels).zip(g) {
        of(z, label, delta);
        for delta in delta {
            *delta *= g;
        }
    }
}

/// The reference of a kernel for both: `of(z, label, slope)` writes ∂L/∂z of one example and returns its loss.
pub(super) fn both<T: Real>(a: &mut Args<'_, T>, of: impl Fn(&[T], Label, &mut [T]) -> T) {
    let (k, labels) = (a.size("K"), labels(a));
    let scores = a.f(0); // [N, K]
    let (slopes, losses) = (a.f_mut(2), a.f_mut(3)); // [N, K], [N]
    let rows = slopes.chunks_mut(k).zip(scores.chunks(k)).zip(labels);
    for (((slopes, z), label), loss) in rows.zip(losses) {
        *loss = of(z, label, slopes);
    }
}

/// One output and its number for a target, few and many, around the workgroup; scores
/// far out; labels that name no class; smoothed.
pub(super) fn cases(cost: &'static Cost) -> Vec<Case> {
    let uniform = Fill::Uniform(-1.0, 1.0);
    let all = |smoothing, [n, k]: [usize; 2], scores, labels| {
        let op = Loss { cost, smoothing };
        let shape = [n, k];
        let loss = Case::new(op, k).float(&shape, scores);
        // A softmax's sum rounds in proportion to elements of about 1/K.
        let slope = Case::new(LossGrad(op), 8).fixed(&shape, scores);
        let both = op.and_slope().map(|both| {
            let bare = Case::new(both, k.max(8)).fixed(&shape, scores);
            let bare = bare.u32(&[n], labels).forward_only();
            [wrapped_case(&bare, n), bare]
        });
        let apart = [
            loss.u32(&[n], labels),
            slope.u32(&[n], labels).fixed(&[n], uniform),
        ];
        apart.into_iter().chain(both.into_iter().flatten())
    };
    let mut cases = Vec::new();
    for [n, k] in [
        [1, 1],
        [7, 1],
        [3, 2],
        [67, 10],
        [5, 32],
        [3, 65],
        [2, 257],
        [1, 1000],
    ] {
        cases.extend(all(0.0, [n, k], uniform, Fill::Below(k.max(2) as u32)));
    }
    for [n, k] in [[7, 1], [66, 3], [4, 67]] {
        cases.extend(all(0.1, [n, k], uniform, Fill::Below(k as u32 + 1)));
    }
    let far = Fill::Uniform(-300.0, 300.0);
    let hard = [
        all(0.0, [70, 10], far, Fill::Below(10)),
        all(0.2, [70, 10], far, Fill::Below(10)),
        all(0.0, [3, 40], far, Fill::Below(40)),
        all(0.0, [9, 1], far, Fill::Below(2)),
        all(0.0, [5, 10], Fill::Number(0.0), Fill::Below(10)),
        all(0.0, [33, 10], uniform, Fill::Below(21)),
        all(0.0, [33, 10], uniform, Fill::Words),
    ];
    cases.extend(hard.into_iter().flatten().map(Case::forward_only));
    cases
}

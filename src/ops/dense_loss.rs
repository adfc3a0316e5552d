//! The end of a training step's way forward and the start of its way back, in one launch:
//! the last dense layer, the cost, the epoch's metrics, the output error and the step counter.
//!
//! z = σ(a Wᵀ + b), then what the cost ([`Loss`](super::Loss), [`LossGrad`](super::LossGrad)),
//! [`epoch_metrics`](mod@super::epoch_metrics) and [`advance`](mod@super::advance) do, and
//! δ = s ∂L/∂z ⊙ σ′(z) with the upstream gradient s, 1/batch for a mean (Nielsen, BP1).
//!
//! All of it is a few thousand numbers, so one workgroup does it and nothing has to wait
//! for another launch. The counter's `next` can be counted up here already: after a step's
//! first launch everybody reads `now`.

use super::activation::Activation;
use super::cost::{Cost, Label};
use super::epoch_metrics::{self, Epoch, EpochMetrics};
use super::{
    Case, Fill, Lowered, Lowering, NEXT, NOW, Op, Operand, cross_entropy, exactly, floats,
    log_likelihood, quadratic, small_batch,
};
use crate::error::{Error, Result};
use crate::kernel::{Args, Bind, Demand, Kernel, Target};
use crate::shape::Type;
use crate::tensor::Real;

mod tiles;

/// The most scores N · K; they stand in workgroup memory.
pub const MOST_SCORES: usize = 1024;
/// The most examples.
pub const MOST_EXAMPLES: usize = 64;

/// Inputs a `[N, in]`, W `[K, in]`, b `[K]`, labels `[N]`, step, metrics and guard (as
/// [`EpochMetrics`] has them, updated all three). Output δ `[N, K]`.
#[derive(Clone, Copy, Debug)]
pub struct DenseLoss {
    /// σ, between the layer and the cost.
    pub activation: Activation,
    /// The cost.
    pub cost: &'static Cost,
    /// What δ is multiplied by.
    pub upstream: f64,
    /// What the step is added to, without predictions.
    pub metrics: EpochMetrics,
    /// Whether the step counter's `next` is counted up; else it stays.
    pub advance: bool,
}

/// The costs that this kernel knows; a cost's place is the constant `COST` of the shader.
static KNOWN: [&Cost; 3] = [
    &quadratic::COST,
    &cross_entropy::COST,
    &log_likelihood::COST,
];

/// The constant `COST` of a cost that this kernel knows. A cost is known by its identity: one
/// that merely looks like it, a user's own, computes something else.
pub fn constant_of(cost: &'static Cost) -> Option<usize> {
    KNOWN.iter().position(|known| std::ptr::eq(*known, cost))
}

fn known(cost: &'static Cost) -> Result<usize> {
    constant_of(cost).ok_or_else(|| {
        let known = KNOWN.map(|cost| cost.name).join(", ");
        Error::setting(
            "cost of dense_loss",
            cost.name,
            format!("one of wgrad's own: {known}"),
        )
    })
}

fn sizes(a: &Type, w: &Type) -> Result<[usize; 3]> {
    let [n, n_in] = a.shape.axes("dense_loss", "a [N, in]")?;
    let [k, _] = w.shape.axes("dense_loss", "W [K, in]")?;
    Ok([n, n_in, k])
}

impl Op for DenseLoss {
    fn name(&self) -> &'static str {
        "dense_loss"
    }

    fn infer(&self, inputs: &[Type]) -> Result<Vec<Type>> {
        let [a, w, b, labels, step, metrics, guard] = inputs else {
            let found = format!("{} inputs", inputs.len());
            let wanted = "7: a, W, b, labels, step, metrics, guard";
            return Err(Error::shape("dense_loss", found, wanted));
        };
        floats("dense_loss", "a", a)?;
        let [n, n_in, k] = sizes(a, w)?;
        let float = |extents: &[usize]| Type::f32("dense_loss", extents);
        exactly("dense_loss", "W [K, in]", w, &float(&[k, n_in])?)?;
        exactly("dense_loss", "b [K]", b, &float(&[k])?)?;
        if n > MOST_EXAMPLES || n * k > MOST_SCORES || self.metrics.predict {
            let found = format!(
                "{n} examples of {k} scores, predict {}",
                self.metrics.predict
            );
            let wanted = format!(
                "at most {MOST_EXAMPLES} examples, {MOST_SCORES} scores and no predictions"
            );
            return Err(Error::shape("dense_loss", found, wanted));
        }
        known(self.cost)?;
        let z = float(&[n, k])?;
        let losses = float(&[n])?;
        self.metrics
            .infer(&[&z, &losses, labels, step, metrics, guard].map(Clone::clone))?;
        Ok(vec![z])
    }

    fn lower(&self, inputs: &[Type], _: &[Type]) -> Result<Lowering> {
        let [n, n_in, k] = sizes(&inputs[0], &inputs[1])?;
        let mut operands: Vec<_> = (0..inputs.len()).map(Operand::In).collect();
        operands.push(Operand::Out(0));
        let mut lowered = Lowered {
            kernel: &DENSE_LOSS,
            constants: vec![
                ("N", n as f64),
                ("IN", n_in as f64),
                ("K", k as f64),
                ("ACTIVATION", self.activation.constant()),
                ("COST", known(self.cost)? as f64),
                ("UPSTREAM", self.upstream),
                ("COUNT", self.metrics.count as f64),
                ("EPOCH_STEPS", self.metrics.epoch_steps as f64),
                ("KEEPS", f64::from(u8::from(self.metrics.keeps))),
                ("ADVANCE", f64::from(u8::from(self.advance))),
            ],
            operands,
            grid: [1, 1],
            flops: (2 * n * n_in * k) as u64,
            alternatives: vec![],
        };
        let mut variants = vec![
            lowered.otherwise(Target::Lanes, &DENSE_LOSS_LANES, [1, 1]),
            lowered.otherwise(Target::Processor, &DENSE_LOSS_WIDE, [1, 1]),
        ];
        variants.extend(tiles::variants(&lowered, [n, n_in, k]));
        lowered.alternatives = variants;
        Ok(Lowering::Launch(lowered))
    }
}

/// Layer, cost, metrics, output error, step counter.
pub static DENSE_LOSS: Kernel = Kernel {
    name: "dense_loss",
    demand: Demand {
        rounds: "N * K / 16 * (IN / 128 + 2) + 6",
        barriers: "N * K / 16 * 2",
        issue: "N * K / 16 * (IN / 16 * 6 + 200)",
        words: "N * K * IN / 8 + IN * K",
        ..Demand::UNSTATED
    },
    turns: "(N * K / 16 + 1) * (IN / 16 + 20) + 4 * K + N + 128",
    stem: "dense_loss",
    source: concat!(
        include_str!("../../shaders/shared/nan.wgsl"),
        include_str!("../../shaders/shared/activation.wgsl"),
        include_str!("../../shaders/shared/terms.wgsl"),
        include_str!("../../shaders/shared/metrics.wgsl"),
        include_str!("../../shaders/dense_loss.wgsl"),
    ),
    bindings: &[
        Bind::read("a").of("N * IN"),
        Bind::read("w").of("IN * K"),
        Bind::read("b").of("K"),
        Bind::read("labels").u32().of("N"),
        Bind::update("step").u32().of("2"),
        Bind::update("metrics").of("4"),
        Bind::update("guard").u32().of("4"),
        Bind::write("delta").of("N * K"),
    ],
    constants: &[
        "N",
        "IN",
        "K",
        "ACTIVATION",
        "COST",
        "UPSTREAM",
        "COUNT",
        "EPOCH_STEPS",
        "KEEPS",
        "ADVANCE",
    ],
    reference: crate::reference!(dense_loss),
    optimized: Some(dense_loss_fast),
    trusted: true,
    ports: &[],
    finishing: None,
};

/// [`DENSE_LOSS`] with sums in registers.
pub static DENSE_LOSS_WIDE: Kernel = Kernel {
    name: "dense_loss_wide",
    demand: Demand {
        rounds: "IN / 8 * (K / 8) + 6",
        barriers: "4",
        issue: "IN / 8 * (K / 8) * 100",
        words: "IN * (N * (K / 8) + K)",
        ..Demand::UNSTATED
    },
    turns: "N / 16 * (K / 8) * ((IN / 8 + 1) * 27 + 512) + N / 8 * (4 * K + 8) + N + 128",
    ..DENSE_LOSS
};

/// [`DENSE_LOSS_WIDE`] by lanes of a subgroup, in a module that not every adapter compiles.
pub static DENSE_LOSS_LANES: Kernel = Kernel {
    name: "dense_loss_lanes",
    demand: Demand::UNSTATED,
    turns: "N / 16 * (K / 8) * ((IN / 8 + 1) * 27 + 512) + N / 8 * (4 * K + 8) + N + 128",
    source: concat!(
        include_str!("../../shaders/shared/nan.wgsl"),
        include_str!("../../shaders/shared/activation.wgsl"),
        include_str!("../../shaders/shared/terms.wgsl"),
        include_str!("../../shaders/shared/metrics.wgsl"),
        include_str!("../../shaders/dense_loss.wgsl"),
        include_str!("../../shaders/shared/lanes.wgsl"),
        include_str!("../../shaders/dense_loss/lanes.wgsl"),
    ),
    ..DENSE_LOSS
};

/// The kernels of this file.
pub static KERNELS: &[&Kernel] = &[
    &DENSE_LOSS,
    &DENSE_LOSS_WIDE,
    &DENSE_LOSS_LANES,
    &tiles::DENSE_LOSS_TILES,
    &tiles::DENSE_LOSS_TILES_ANY,
    &tiles::DENSE_LOSS_SINGLE,
];

fn dense_loss<T: Real>(args: &mut Args<'_, T>) {
    let (n, n_in, k) = (args.size("N"), args.size("IN"), args.size("K"));
    let (a, w) = (args.f(0), args.f(1)); // [N, in], [K, in]
    let mut z = vec![T::ZERO; n * k];
    for (i, z) in z.iter_mut().enumerate() {
        for j in 0..n_in {
            *z += a[i / k * n_in + j] * w[i % k * n_in + j];
        }
    }
    finish(args, &mut z);
}

fn dense_loss_fast(args: &mut Args<'_, f32>) {
    let (n, n_in, k) = (args.size("N"), args.size("IN"), args.size("K"));
    // cᵀ [K, N] of W and a is z of a and W.
    let (mut z, mut transposed) = ([0.0; MOST_SCORES], [0.0; MOST_SCORES]);
    let (z, transposed) = (&mut z[..n * k], &mut transposed[..n * k]);
    small_batch::times_transposed([n, k, n_in], args.f(0), args.f(1), transposed);
    for (i, z) in z.iter_mut().enumerate() {
        *z = transposed[i % k * n + i / k];
    }
    finish(args, z);
}

/// From the products z `[N, K]` on.
fn finish<T: Real>(args: &mut Args<'_, T>, z: &mut [T]) {
    let k = args.size("K");
    let act = Activation::of_constant(args.size("ACTIVATION"));
    let (b, labels, upstream) = (args.f(2), args.u(3), T::of(args.number("UPSTREAM"))); // [K], [N]
    let step = args.u_mut(4); // [2]
    let (metrics, guard, delta) = (args.f_mut(5), args.u_mut(6), args.f_mut(7)); // [4], [4], [N, K]
    for row in z.chunks_mut(k) {
        for (z, &b) in row.iter_mut().zip(b) {
            *z = act.apply(*z + b);
        }
    }
    type Functions<T> = (fn(&[T], Label) -> T, fn(&[T], Label, &mut [T]));
    let (loss, slope): Functions<T> = match args.size("COST") {
        0 => (quadratic::loss, quadratic::slope),
        1 => (cross_entropy::loss, cross_entropy::slope),
        _ => (log_likelihood::loss, log_likelihood::slope),
    };
    for ((delta, z), &label) in delta.chunks_mut(k).zip(z.chunks(k)).zip(labels) {
        slope(z, Label::of(label), delta);
        for (delta, &z) in delta.iter_mut().zip(z) {
            *delta = act.sloped(upstream * *delta, z);
        }
    }
    let epoch = Epoch {
        count: args.size("COUNT"),
        steps: args.size("EPOCH_STEPS"),
        step: step[NOW],
        batch: args.size("N"),
        keeps: args.size("KEEPS") == 1,
    };
    let rows = z.chunks(k).zip(labels);
    let rows =
        rows.map(|(z, &label)| (epoch_metrics::is_right(z, label), loss(z, Label::of(label))));
    epoch.join(rows, metrics, guard);
    if args.size("ADVANCE") == 1 {
        step[NEXT] = step[NOW].wrapping_add(1);
    }
}

/// Every cost; one of each, more scores than threads and as many, around a tile's edges, few inputs
/// and many; first, middle and last step of an epoch, a mini-batch past its end, one output.
pub fn cases() -> Vec<Case> {
    let uniform = Fill::Uniform(-1.0, 1.0);
    let mut cases = Vec::new();
    for (cost, activation) in [
        (&quadratic::COST, Activation::Sigmoid),
        (&cross_entropy::COST, Activation::Linear),
        (&log_likelihood::COST, Activation::Linear),
    ] {
        for ([n, n_in, k], count, steps, step) in [
            ([1, 1, 1], 5, 5, 0),
            ([10, 30, 10], 100, 10, 10),
            ([7, 129, 3], 20, 3, 2),
            ([64, 33, 16], 8192, 128, 191),
            ([3, 257, 67], 12, 4, 5),
            ([6, 516, 11], 60, 10, 3),
            ([16, 8, 16], 160, 10, 4),
            ([64, 71, 4], 640, 10, 9),
        ] {
            let op = DenseLoss {
                activation,
                cost,
                upstream: 0.1,
                metrics: EpochMetrics {
                    count,
                    epoch_steps: steps,
                    predict: false,
                    keeps: n == 1 || n == 7,
                },
                advance: n != 16,
            };
            cases.push(
                Case::new(op, n_in.max(n))
                    .fixed(&[n, n_in], uniform)
                    .fixed(&[k, n_in], uniform)
                    .fixed(&[k], uniform)
                    .u32(&[n], Fill::Below(k.max(2) as u32))
                    .u32(&[2], Fill::Pair(77, step))
                    .fixed(&[4], Fill::Number(3.0))
                    .u32(&[4], Fill::Number(0.0)),
            );
        }
    }
    cases
}

//! What an epoch adds up to, on the device: cost, correct answers, examples seen, the
//! first loss that was not finite and, where wanted, every answer.
//!
//! Where a step begins an epoch, metrics and guard start from zero; so nobody has to
//! clear them, and what they held before does not matter. With `keeps` they go on from epoch to
//! epoch instead, until somebody clears them; of epochs of one step, each joins the sum by itself. Losses are summed in blocks of
//! 64 steps that then join the epoch's sum: 5,000 steps in one f32 sum would round 5,000
//! times.
//!
//! The answer is the class of the largest score, the first of equal ones; with one score
//! it is 1 from ½ on, else 0. A score that is not a number is the largest, and its row does
//! not answer correctly, whatever its label.

use super::{
    Alternative, Case, Fill, Lowered, Lowering, NOW, Op, Operand, counter, epoch_steps, exactly,
    floats,
};
use crate::error::{Error, Result};
use crate::kernel::{Args, Bind, Demand, Kernel, Target};
use crate::shape::Type;
use crate::tensor::Real;

/// Inputs: scores `[N, K]`, losses `[N]`, labels `[N]`, step `[2]`, metrics
/// `[4]` (updated: sum of losses, correct, seen, the block's sum), guard `[4]` (updated:
/// 1 + the first step with a loss that was not finite, or 0; its row; two unused) and, with
/// `predict`, predictions `[count]` (updated). No outputs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct EpochMetrics {
    /// Examples in an epoch; rows of the last mini-batch past them do not count.
    pub count: usize,
    /// Steps in an epoch.
    pub epoch_steps: usize,
    /// Whether answers are kept.
    pub predict: bool,
    /// Whether totals go on from epoch to epoch, until somebody clears metrics and guard.
    pub keeps: bool,
}

/// Steps in a block; `BLOCK` in shaders/shared/metrics.wgsl.
const BLOCK: usize = 64;
/// Examples in an epoch, at most: counts beyond this are not exact in f32.
pub const MOST: usize = 1 << 24;

impl Op for EpochMetrics {
    fn name(&self) -> &'static str {
        "epoch_metrics"
    }

    fn infer(&self, inputs: &[Type]) -> Result<Vec<Type>> {
        let wanted = if self.predict { 7 } else { 6 };
        if inputs.len() != wanted {
            return Err(Error::shape(
                "epoch_metrics",
                format!("{} inputs", inputs.len()),
                format!(
                    "{wanted}: scores, losses, labels, step, metrics, guard and, to predict, predictions"
                ),
            ));
        }
        floats("epoch_metrics", "scores", &inputs[0])?;
        let [n, _] = inputs[0].shape.axes("epoch_metrics", "scores [N, K]")?;
        exactly(
            "epoch_metrics",
            "losses",
            &inputs[1],
            &Type::f32("epoch_metrics", &[n])?,
        )?;
        exactly(
            "epoch_metrics",
            "labels",
            &inputs[2],
            &Type::u32("epoch_metrics", &[n])?,
        )?;
        counter("epoch_metrics", &inputs[3])?;
        exactly(
            "epoch_metrics",
            "metrics",
            &inputs[4],
            &Type::f32("epoch_metrics", &[4])?,
        )?;
        exactly(
            "epoch_metrics",
            "guard",
            &inputs[5],
            &Type::u32("epoch_metrics", &[4])?,
        )?;
        if self.predict {
            exactly(
                "epoch_metrics",
                "predictions",
                &inputs[6],
                &Type::u32("epoch_metrics", &[self.count])?,
            )?;
        }
        if self.count == 0 || self.count > MOST {
            return Err(Error::setting(
                "examples in an epoch",
                self.count,
                format!("1 to {MOST}"),
            ));
        }
        epoch_steps("epoch_metrics", self.epoch_steps)?;
        Ok(vec![])
    }

    fn lower(&self, inputs: &[Type], _: &[Type]) -> Result<Lowering> {
        let [n, k] = inputs[0].shape.axes("epoch_metrics", "scores [N, K]")?;
        let kernel = match self.predict {
            true => &EPOCH_METRICS_PREDICT,
            false => &EPOCH_METRICS,
        };
        let mut lowered = Lowered {
            kernel,
            constants: vec![
                ("N", n as f64),
                ("K", k as f64),
                ("COUNT", self.count as f64),
                ("EPOCH_STEPS", self.epoch_steps as f64),
                ("KEEPS", f64::from(u8::from(self.keeps))),
                ("LANES", FEWEST as f64),
            ],
            operands: (0..inputs.len()).map(Operand::In).collect(),
            grid: [1, 1],
            flops: (n * (k + 2)) as u64,
            alternatives: vec![],
        };
        // As many as there are rows, if the device has so many; if not, as many as every device has.
        let most = n.next_power_of_two().min(1024);
        for lanes in [most, most.min(256)] {
            let threads = lanes as u32;
            let target = Target::Workgroup {
                threads,
                bytes: threads * 12,
            };
            let known = |other: &Alternative| other.target == target;
            if lanes > FEWEST && !lowered.alternatives.iter().any(known) {
                let mut other = lowered.otherwise(target, kernel, [1, 1]);
                other.constants.pop();
                other.constants.push(("LANES", lanes as f64));
                lowered.alternatives.push(other);
            }
        }
        Ok(Lowering::Launch(lowered))
    }
}

/// Threads of the usual workgroup.
const FEWEST: usize = 64;

/// Without predictions.
pub static EPOCH_METRICS: Kernel = Kernel {
    name: "epoch_metrics",
    turns: "(N / LANES + 1) * (2 * K + 6) + 32",
    stem: "epoch_metrics",
    source: concat!(
        include_str!("../../shaders/shared/nan.wgsl"),
        include_str!("../../shaders/shared/metrics.wgsl"),
        include_str!("../../shaders/epoch_metrics.wgsl"),
    ),
    bindings: &[
        Bind::read("scores").of("N * K"),
        Bind::read("losses").of("N"),
        Bind::read("labels").u32().of("N"),
        Bind::read("step").u32().of("2"),
        Bind::update("metrics").of("4"),
        Bind::update("guard").u32().of("4"),
    ],
    constants: &["N", "K", "COUNT", "EPOCH_STEPS", "KEEPS", "LANES"],
    reference: crate::reference!(epoch_metrics),
    optimized: None,
    demand: Demand {
        rounds: "N / LANES * (K / 4) + 1",
        barriers: "11",
        issue: "N / LANES * (K * 12 + 30) + 180",
        words: "N * (K + 2) + 16",
        ..Demand::UNSTATED
    },
    trusted: true,
    ports: &[],
    finishing: None,
};

/// With predictions.
pub static EPOCH_METRICS_PREDICT: Kernel = Kernel {
    name: "epoch_metrics_predict",
    turns: "(N / LANES + 1) * (2 * K + 6) + 32",
    demand: Demand {
        rounds: "2 * (N / LANES * (K / 4)) + 2",
        barriers: "11",
        issue: "N / LANES * (K * 24 + 45) + 200",
        words: "N * (2 * K + 3) + 16",
        ..Demand::UNSTATED
    },
    bindings: &[
        Bind::read("scores").of("N * K"),
        Bind::read("losses").of("N"),
        Bind::read("labels").u32().of("N"),
        Bind::read("step").u32().of("2"),
        Bind::update("metrics").of("4"),
        Bind::update("guard").u32().of("4"),
        Bind::update("predictions").u32().of("COUNT"),
    ],
    reference: crate::reference!(epoch_metrics_predict),
    ..EPOCH_METRICS
};

/// The kernels of this file.
pub static KERNELS: &[&Kernel] = &[&EPOCH_METRICS, &EPOCH_METRICS_PREDICT];

/// The class a row of scores answers.
pub(super) fn answer<T: Real>(scores: &[T]) -> u32 {
    if let [score] = scores {
        return u32::from(*score >= T::of(0.5));
    }
    largest(scores) as u32
}

/// Where a row is largest.
fn largest<T: Real>(scores: &[T]) -> usize {
    let larger = |best: usize, k: usize| match scores[k].outdoes(scores[best]) {
        true => k,
        false => best,
    };
    (1..scores.len()).fold(0, larger)
}

/// Whether a row answers its label. With a score that is not a number nobody does.
pub(super) fn is_right<T: Real>(scores: &[T], label: u32) -> bool {
    answer(scores) == label && !scores[largest(scores)].is_nan()
}

fn epoch_metrics<T: Real>(a: &mut Args<'_, T>) {
    add_up(a, |_, _| {});
}

fn epoch_metrics_predict<T: Real>(a: &mut Args<'_, T>) {
    let predictions = a.u_mut(6); // [count]
    add_up(a, |place, answer| predictions[place] = answer);
}

fn add_up<T: Real>(a: &mut Args<'_, T>, mut keep: impl FnMut(usize, u32)) {
    let (n, k, count) = (a.size("N"), a.size("K"), a.size("COUNT"));
    let (scores, losses, labels, step) = (a.f(0), a.f(1), a.u(2), a.u(3)[NOW]); // [N, K], [N], [N]
    let (metrics, guard) = (a.f_mut(4), a.u_mut(5)); // [4], [4]
    let epoch = Epoch {
        count,
        steps: a.size("EPOCH_STEPS"),
        step,
        batch: n,
        keeps: a.size("KEEPS") == 1,
    };
    let first = epoch.place() * n;
    let rows = scores.chunks(k).zip(losses).zip(labels).enumerate();
    let rows = rows.map(|(row, ((scores, &loss), &label))| {
        let answer = answer(scores);
        keep(first + row, answer);
        (is_right(scores, label), loss)
    });
    epoch.join(rows, metrics, guard);
}

/// Where a mini-batch stands in its epoch.
#[derive(Clone, Copy)]
pub(super) struct Epoch {
    /// Examples in an epoch.
    pub count: usize,
    /// Steps in an epoch.
    pub steps: usize,
    /// The step under way.
    pub step: u32,
    /// Examples in a mini-batch.
    pub batch: usize,
    /// Whether totals go on from epoch to epoch.
    pub keeps: bool,
}

impl Epoch {
    fn place(&self) -> usize {
        self.step as usize % self.steps
    }

    /// Rows of this mini-batch that count.
    fn seen(&self) -> usize {
        self.count
            .saturating_sub(self.place() * self.batch)
            .min(self.batch)
    }

    /// Adds a mini-batch's rows, (answered correctly, loss) each, to metrics and guard.
    pub(super) fn join<T: Real>(
        &self,
        rows: impl Iterator<Item = (bool, T)>,
        metrics: &mut [T],
        guard: &mut [u32],
    ) {
        let (place, seen) = (self.place(), self.seen());
        if place == 0 && !self.keeps {
            metrics.fill(T::ZERO);
            guard.fill(0);
        }
        let (mut loss, mut correct) = (T::ZERO, 0);
        for (row, (right, row_loss)) in rows.take(seen).enumerate() {
            correct += u32::from(right);
            loss += row_loss;
            if guard[0] == 0 && !row_loss.wide().is_finite() {
                guard[0] = self.step.wrapping_add(1);
                guard[1] = row as u32;
            }
        }
        metrics[1] += T::of(f64::from(correct));
        metrics[2] += T::of(seen as f64);
        metrics[3] += loss;
        if place % BLOCK == BLOCK - 1 || place == self.steps - 1 {
            metrics[0] += metrics[3];
            metrics[3] = T::ZERO;
        }
    }
}

/// First, middle and last step of an epoch, more rows than threads, one score, ties, a
/// mini-batch past the end, losses that are not finite.
pub fn cases() -> Vec<Case> {
    let uniform = Fill::Uniform(0.0, 1.0);
    let mut cases = Vec::new();
    for (n, k, count, epoch_steps, step) in [
        (1, 1, 1, 1, 0),
        (7, 10, 18, 3, 2),
        (7, 10, 21, 3, 3),
        (7, 10, 3, 3, 1),
        (70, 3, 1000, 100, 63),
        (130, 1, 1300, 10, 7),
        (1030, 10, 2000, 2, 1),
    ] {
        for scores in [uniform, Fill::Ties] {
            for losses in [uniform, Fill::Number(f64::INFINITY), Fill::Number(f64::NAN)] {
                for (predict, keeps) in [(false, false), (true, false), (false, true)] {
                    let op = EpochMetrics {
                        count,
                        epoch_steps,
                        predict,
                        keeps,
                    };
                    let mut case = Case::new(op, n)
                        .fixed(&[n, k], scores)
                        .fixed(&[n], losses)
                        .u32(&[n], Fill::Below(k.max(2) as u32))
                        .u32(&[2], Fill::Pair(99, step))
                        .fixed(&[4], uniform)
                        // Within an epoch an earlier step may have been noted already.
                        .u32(&[4], Fill::Number(if predict { 3.0 } else { 0.0 }));
                    if predict {
                        case = case.u32(&[count], Fill::Words);
                    }
                    cases.push(case);
                }
            }
        }
    }
    cases
}

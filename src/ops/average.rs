//! The running mean of a parameter over epochs (Polyak and Juditsky 1992; stochastic
//! weight averaging, Izmailov et al. 2018):
//!
//! a ← a + (w − a)/(k + 1),
//!
//! k the number of epochs that are in the mean already. It follows from the step: with
//! `from` the first epoch to be averaged (counted from 1) and e = ⌊step / epoch steps⌋
//! epochs done, k = e − from. Until then, and at k = 0, a ← w to the bit, whatever a was:
//! a is what is to be evaluated at any time. No gradient.

use super::{
    Case, ELEMENTWISE, Fill, Lowered, Lowering, NEXT, Op, Operand, arity, counter, epoch_steps,
    floats, grid, same,
};
use crate::error::{Error, Result};
use crate::kernel::{Args, Bind, Demand, Kernel};
use crate::shape::Type;
use crate::tensor::Real;

/// Inputs: mean a (updated), parameter w of the same shape, step `[2]`. No outputs. To be
/// launched once after each epoch.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Average {
    /// Steps in an epoch.
    pub epoch_steps: usize,
    /// The first epoch that is averaged, counted from 1.
    pub from: usize,
}

impl Op for Average {
    fn name(&self) -> &'static str {
        "average"
    }

    fn infer(&self, inputs: &[Type]) -> Result<Vec<Type>> {
        let [mean, parameter, step] = arity("average", inputs, "mean, parameter, step")?;
        floats("average", "mean", mean)?;
        same("average", "mean and parameter", mean, parameter)?;
        counter("average", step)?;
        epoch_steps("average", self.epoch_steps)?;
        if !(1..=u32::MAX as usize).contains(&self.from) {
            return Err(Error::setting(
                "first epoch averaged",
                self.from,
                "1 to 2^32 - 1",
            ));
        }
        Ok(vec![])
    }

    fn lower(&self, inputs: &[Type], _: &[Type]) -> Result<Lowering> {
        let n = inputs[0].elements();
        Ok(Lowering::Launch(Lowered {
            kernel: &AVERAGE,
            constants: vec![
                ("N", n as f64),
                ("EPOCH_STEPS", self.epoch_steps as f64),
                ("FROM", self.from as f64),
            ],
            operands: vec![Operand::In(0), Operand::In(1), Operand::In(2)],
            grid: grid(n, ELEMENTWISE),
            flops: 3 * n as u64,
            alternatives: vec![],
        }))
    }
}

/// a ← a + (w − a)/(k + 1).
pub static AVERAGE: Kernel = Kernel {
    name: "average",
    turns: "0",
    stem: "average",
    source: concat!(
        include_str!("../../shaders/shared/grid.wgsl"),
        include_str!("../../shaders/average.wgsl"),
    ),
    bindings: &[
        Bind::update("a").of("N"),
        Bind::read("w").of("N"),
        Bind::read("step").u32().of("2"),
    ],
    constants: &["N", "EPOCH_STEPS", "FROM"],
    reference: crate::reference!(average),
    optimized: None,
    demand: Demand {
        rounds: "2",
        issue: "40",
        words: "193",
        ..Demand::UNSTATED
    },
    trusted: true,
    ports: &[],
    finishing: None,
};

/// The kernels of this file.
pub static KERNELS: &[&Kernel] = &[&AVERAGE];

fn average<T: Real>(a: &mut Args<'_, T>) {
    let done = a.u(2)[NEXT] as usize / a.size("EPOCH_STEPS");
    let k = done.saturating_sub(a.size("FROM"));
    let count = T::of(k as f64 + 1.0);
    let (w, mean) = (a.f(1), a.f_mut(0)); // [N], [N]
    for (mean, &w) in mean.iter_mut().zip(w) {
        *mean = if k == 0 {
            w
        } else {
            *mean + (w - *mean) / count
        };
    }
}

/// Before the first epoch averaged, at it (over a mean that is not a number), and far
/// after it.
pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (step, garbage) in [
        (0, true),
        (11, true),
        (12, true),
        (16, false),
        (4_000_000, false),
    ] {
        for extents in [&[1usize][..], &[63], &[2, 5, 13]] {
            let average = Average {
                epoch_steps: 4,
                from: 3,
            };
            let mean = if garbage {
                Fill::Number(f64::NAN)
            } else {
                Fill::Uniform(-1.0, 1.0)
            };
            cases.push(
                Case::new(average, 1)
                    .fixed(extents, mean)
                    .fixed(extents, Fill::Uniform(-1.0, 1.0))
                    .u32(&[2], Fill::Pair(step, 99)),
            );
        }
    }
    cases
}

//! Two launches where few statistics are of many elements each: a workgroup for each statistic would be
//! few of them, whose threads load one element after the other.
//!
//! The elements of a statistic are cut into runs of neighbours. The first launch makes the mean mₛ and
//! Σ (x − mₛ)² of the Kₛ elements of each. The second joins them,
//!
//! > mean = Σ Kₛ mₛ / K, variance = Σ (Σ (x − mₛ)² + Kₛ (mₛ − mean)²) / K
//!
//! (Chan, Golub and LeVeque 1983), and writes y. It has a workgroup for each run again, and each joins all
//! runs of its statistic, some dozens of numbers, in the same order: that costs less than a third launch.

use super::super::{Lowered, Lowering, Operand, Stages, grid};
use super::{NORM, Norm, Over, View, optimized, reference};
use crate::error::Result;
use crate::kernel::{Bind, Demand, Kernel, Port};
use crate::shape::Type;

/// The elements that a run has at least: eight of each thread.
const RUN: usize = 2048;
/// Workgroups that keep any GPU busy.
const BUSY: usize = 1024;

impl Norm {
    /// Into how many runs what a statistic is of is cut; 1 where a second launch would take longer than it
    /// saves. So it is for RMS, which has a statistic for each place, and for a batch of rows, whose
    /// neighbours in memory are of different statistics.
    pub(super) fn runs(&self, view: &View) -> usize {
        if self.is_rms() || (self.over == Over::Batch && view.s == 1) {
            return 1;
        }
        match (view.terms() / RUN).min(BUSY / view.rows()) {
            0..4 => 1,
            many => many.min(128),
        }
    }

    /// A launch with a workgroup for each of so many runs.
    pub(super) fn by_runs(
        &self,
        view: &View,
        runs: usize,
        kernel: &'static Kernel,
        operands: &[Operand],
    ) -> Lowered {
        let mut constants = self.constants(view, view.terms() / runs);
        constants.push(("RUNS", runs as f64));
        Lowered {
            kernel,
            constants,
            operands: operands.to_vec(),
            grid: grid(view.rows() * runs, 1),
            flops: (4 * view.n * view.c * view.s) as u64,
            alternatives: vec![],
        }
    }

    /// Both launches: y, mean and rstd of x, γ and β.
    pub(super) fn in_runs(&self, view: &View, runs: usize) -> Result<Lowering> {
        let (x, made) = (Operand::In(0), Operand::Scratch(0));
        let [gamma, beta] = [1, 2].map(Operand::In);
        let [y, mean, rstd] = [0, 1, 2].map(Operand::Out);
        let joined = [x, gamma, beta, y, mean, rstd, made];
        Ok(Lowering::Stages(Stages {
            scratch: vec![Type::f32("norm", &[view.rows(), runs, 2])?],
            launches: vec![
                self.by_runs(view, runs, &NORM_RUNS, &[x, made]),
                self.by_runs(view, runs, &NORM_JOINED, &joined),
            ],
        }))
    }
}

const SOURCE: &str = concat!(
    include_str!("../../../shaders/shared/grid.wgsl"),
    include_str!("../../../shaders/shared/nan.wgsl"),
    include_str!("../../../shaders/shared/tree.wgsl"),
    include_str!("../../../shaders/norm.wgsl"),
    include_str!("../../../shaders/norm/runs.wgsl"),
    crate::port!("finish"),
);

/// The constants of kernels with a workgroup for each run.
pub(super) const CONSTANTS: &[&str] = &[
    "N", "C", "S", "GROUPS", "R", "BATCH", "EPSILON", "LANES", "RUNS",
];

/// Mean and Σ (x − mean)² of each run, `[R, RUNS, 2]`.
pub static NORM_RUNS: Kernel = Kernel {
    name: "norm_runs",
    turns: "2 * (N * C * S / R / RUNS / LANES + 1) + 32",
    source: SOURCE,
    bindings: &[
        Bind::read("x").of("N * C * S"),
        Bind::write("spreads").of("2 * R * RUNS"),
    ],
    constants: CONSTANTS,
    reference: crate::reference!(reference::runs),
    optimized: Some(optimized::runs),
    demand: Demand {
        rounds: "2 * (N * C * S / R / RUNS / LANES / 4)",
        barriers: "20",
        issue: "N * C * S / R / RUNS / LANES * 22 + 150",
        words: "2 * (N * C * S / R / RUNS)",
        ..Demand::UNSTATED
    },
    ports: &[],
    finishing: None,
    ..NORM
};

/// y, mean and rstd, of x and of what its runs come to.
pub static NORM_JOINED: Kernel = Kernel {
    name: "norm_joined",
    turns: "2 * (RUNS / LANES + 1) + N * C * S / R / RUNS / LANES + 32",
    source: SOURCE,
    bindings: &[
        Bind::read("x").of("N * C * S"),
        Bind::read("gamma").of("C"),
        Bind::read("beta").of("C"),
        Bind::write("y").of("N * C * S"),
        Bind::write("mean").of("R"),
        Bind::write("rstd").of("R"),
        Bind::read("made_spreads").of("2 * R * RUNS"),
    ],
    constants: CONSTANTS,
    reference: crate::reference!(reference::joined),
    optimized: Some(optimized::joined),
    ports: &[Port::finish(3, "N * C * S / R / RUNS / LANES + 1")],
    finishing: Some(optimized::joined_finishing),
    demand: Demand {
        rounds: "N * C * S / R / RUNS / LANES / 4 + 2",
        barriers: "20",
        issue: "N * C * S / R / RUNS / LANES * 20 + 220",
        words: "2 * (N * C * S / R / RUNS) + 4 * RUNS",
        ..Demand::UNSTATED
    },
    ..NORM
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_statistics_of_many_elements_are_cut() {
        let runs = |over, extents: &[usize]| {
            let norm = Norm { over, epsilon: 0.0 };
            let view = norm.view(&Type::f32("x", extents).unwrap()).unwrap();
            norm.runs(&view)
        };
        assert_eq!(runs(Over::Batch, &[128, 16, 32, 32]), 64);
        assert_eq!(runs(Over::Batch, &[128, 32, 16, 16]), 16);
        assert_eq!(runs(Over::Batch, &[128, 64, 8, 8]), 4);
        // Few elements, enough statistics, rows, 128 at most.
        assert_eq!(runs(Over::Batch, &[31, 64, 16, 16]), 1);
        assert_eq!(runs(Over::Batch, &[128, 512, 8, 8]), 1);
        assert_eq!(runs(Over::Batch, &[65_536, 16]), 1);
        assert_eq!(runs(Over::Batch, &[512, 1, 64, 64]), 128);
        assert_eq!(runs(Over::Layer(3), &[2, 3, 64, 64]), 6);
        assert_eq!(runs(Over::Rms(3), &[2, 3, 64, 64]), 1);
    }
}

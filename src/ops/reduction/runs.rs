//! Two launches for many elements of few results: what each run of neighbours comes to, then what
//! these come to together.
//!
//! | | of a run | of the runs |
//! |---|---|---|
//! | sum, mean, norm | Σ x or Σ x² | the sum |
//! | variance | mean mₛ and Σ (x − mₛ)² of its Kₛ elements | m = Σ Kₛ mₛ / K, Σ (x − mₛ)² + Kₛ (mₛ − m)² (Chan, Golub and LeVeque 1983) |
//! | log-sum-exp | largest mₛ and Σ e^(x − mₛ) | m = max mₛ, Σ e^(mₛ − m) of these |
//! | extremes | place of the first | the first of these |

use super::super::{Lowered, Lowering, Operand, Stages, grid};
use super::places::Places;
use super::{REDUCTION, REDUCTION_EXTREME, Reduction, reference};
use crate::error::Result;
use crate::kernel::{Bind, Demand, Kernel};
use crate::shape::Type;

/// The launches of a reduction that is cut into so many runs for each result.
pub(super) fn lowered(reduction: &Reduction, places: &Places, runs: usize) -> Result<Lowering> {
    let extents = [places.n(), runs];
    let mut constants = reduction.constants(places);
    constants.push(("RUNS", runs as f64));
    let launch = |kernel, operands: &[Operand], workgroups| Lowered {
        kernel,
        constants: constants.clone(),
        operands: operands.to_vec(),
        grid: grid(workgroups, 1),
        flops: (workgroups * places.k() / runs) as u64,
        alternatives: vec![],
    };
    let (x, y, made) = (Operand::In(0), Operand::Out(0), Operand::Scratch(0));
    let many = places.n() * runs;
    Ok(Lowering::Stages(if reduction.kind.is_extreme() {
        let joined = [x, made, y, Operand::Out(1)];
        Stages {
            scratch: vec![Type::u32("reduction", &extents)?],
            launches: vec![
                launch(&REDUCTION_EXTREME_RUNS, &[x, made], many),
                launch(&REDUCTION_EXTREME_JOINED, &joined, places.n()),
            ],
        }
    } else {
        let middles = Operand::Scratch(1);
        Stages {
            scratch: vec![Type::f32("reduction", &extents)?; 2],
            launches: vec![
                launch(&REDUCTION_RUNS, &[x, made, middles], many),
                launch(&REDUCTION_JOINED, &[made, middles, y], places.n()),
            ],
        }
    }))
}

const CONSTANTS: &[&str] = &[
    "N", "K", "N1", "N2", "NS0", "NS1", "NS2", "K1", "K2", "KS0", "KS1", "KS2", "ACROSS", "KIND",
    "LANES", "RUNS",
];

/// What each run of elements comes to.
pub static REDUCTION_RUNS: Kernel = Kernel {
    name: "reduction_runs",
    turns: "2 * (K / RUNS / LANES + 2) + 32",
    demand: Demand {
        rounds: "K / RUNS / LANES / 4",
        barriers: "10",
        issue: "K / RUNS / LANES * 32 + 160",
        words: "K / RUNS * (1 + 7 * ACROSS) + 2",
        ..Demand::UNSTATED
    },
    bindings: &[
        Bind::read("x").of("N * K"),
        Bind::write("sums").of("N * RUNS"),
        Bind::write("middles").of("N * RUNS"),
    ],
    constants: CONSTANTS,
    reference: crate::reference!(reference::runs),
    optimized: None,
    ..REDUCTION
};

/// y, of what the runs come to.
pub static REDUCTION_JOINED: Kernel = Kernel {
    name: "reduction_joined",
    turns: "2 * (RUNS / LANES + 1) + 32",
    demand: Demand {
        rounds: "RUNS / LANES / 4",
        barriers: "10",
        issue: "RUNS / LANES * 30 + 150",
        words: "2 * RUNS + 1",
        ..Demand::UNSTATED
    },
    bindings: &[
        Bind::read("made_sums").of("N * RUNS"),
        Bind::read("made_middles").of("N * RUNS"),
        Bind::write("joined").of("N"),
    ],
    constants: CONSTANTS,
    reference: crate::reference!(reference::joined),
    optimized: None,
    ..REDUCTION
};

/// The place of each run's first extreme.
pub static REDUCTION_EXTREME_RUNS: Kernel = Kernel {
    name: "reduction_extreme_runs",
    turns: "K / RUNS / LANES + 32",
    demand: Demand {
        rounds: "K / RUNS / LANES / 4 + 1",
        barriers: "9",
        issue: "K / RUNS / LANES * 40 + 250",
        words: "K / RUNS * (1 + 7 * ACROSS) + 1",
        ..Demand::UNSTATED
    },
    bindings: &[
        Bind::read("x").of("N * K"),
        Bind::write("found").u32().of("N * RUNS"),
    ],
    constants: CONSTANTS,
    reference: crate::reference!(reference::extreme_runs),
    optimized: None,
    ..REDUCTION_EXTREME
};

/// The extreme and its place, of those of the runs.
pub static REDUCTION_EXTREME_JOINED: Kernel = Kernel {
    name: "reduction_extreme_joined",
    turns: "RUNS / LANES + 32",
    demand: Demand {
        rounds: "RUNS / LANES * 2 + 2",
        barriers: "9",
        issue: "RUNS / LANES * 80 + 250",
        words: "9 * RUNS + 2",
        ..Demand::UNSTATED
    },
    bindings: &[
        Bind::read("x").of("N * K"),
        Bind::read("made_found").u32().of("N * RUNS"),
        Bind::write("best_x").of("N"),
        Bind::write("best_index").u32().of("N"),
    ],
    constants: CONSTANTS,
    reference: crate::reference!(reference::extreme_joined),
    optimized: None,
    ..REDUCTION_EXTREME
};

//! The variant for hardware, where a launch takes as long as its loads wait for each other: the kernels of
//! `shaders/dense_loss/tiles.wgsl`.

use super::DENSE_LOSS;
use crate::kernel::{Demand, Kernel, SHARED, Target};
use crate::ops::launch::SINGLE_WORK;
use crate::ops::{Alternative, Lowered};

/// Threads of a workgroup and the bytes that they share; `LIVE`, `shares` and `scores` in the
/// shader.
const TARGET: Target = Target::Workgroup {
    threads: 256,
    bytes: 16 << 10,
};
/// The most scores: each has a thread.
const MOST_SCORES: usize = 256;

/// The variants of a layer `[N, IN]` to `[N, K]`, if its scores are few: by itself, and as a part of a launch
/// of a whole program.
pub(super) fn variants(launch: &Lowered, [n, n_in, k]: [usize; 3]) -> Vec<Alternative> {
    if n * k > MOST_SCORES {
        return vec![];
    }
    let kernel = match n_in.is_multiple_of(4) {
        true => &DENSE_LOSS_TILES,
        false => &DENSE_LOSS_TILES_ANY,
    };
    let mut variants = vec![launch.otherwise(TARGET, kernel, [1, 1])];
    if n * n_in * k <= SINGLE_WORK {
        // `scores` beside what all such kernels share.
        let bytes = SHARED + 4 * MOST_SCORES as u32;
        variants.extend(launch.by_one_workgroup(&DENSE_LOSS_SINGLE, bytes));
    }
    variants
}

/// The module with the file that says what a piece of IN is.
macro_rules! source {
    ($($pieces:literal),*) => {
        concat!(
            include_str!("../../../shaders/shared/nan.wgsl"),
            include_str!("../../../shaders/shared/activation.wgsl"),
            include_str!("../../../shaders/shared/terms.wgsl"),
            include_str!("../../../shaders/shared/metrics.wgsl"),
            include_str!("../../../shaders/dense_loss/tiles.wgsl"),
            $(include_str!(concat!("../../../shaders/dense_loss/", $pieces, ".wgsl")),)*
        )
    };
}

/// [`DENSE_LOSS`] by tiles of 5 × 5, where IN is a multiple of 4.
pub static DENSE_LOSS_TILES: Kernel = Kernel {
    name: "dense_loss_tiles",
    demand: Demand {
        rounds: "N / 5 * (K / 5) / 4 * (IN / 256) + 4",
        barriers: "N / 5 * (K / 5) / 4 * 8 + 4",
        issue: "N / 5 * (K / 5) / 4 * (IN / 256 * 150 + 300) + K * 40",
        words: "N / 5 * (K / 5) * IN * 10",
        ..Demand::UNSTATED
    },
    turns: "N / 5 * (K / 5) / 4 * (IN / 256 + 48) + 4 * K + N + 64",
    source: source!("tiles_shares", "tiles_fours"),
    ..DENSE_LOSS
};

/// [`DENSE_LOSS_TILES`] for any IN.
pub static DENSE_LOSS_TILES_ANY: Kernel = Kernel {
    name: "dense_loss_tiles_any",
    demand: Demand {
        rounds: "N / 5 * (K / 5) / 4 * (IN / 64) + 4",
        barriers: "N / 5 * (K / 5) / 4 * 8 + 4",
        issue: "N / 5 * (K / 5) / 4 * (IN / 64 * 60 + 300) + K * 40",
        words: "N / 5 * (K / 5) * IN * 10",
        ..Demand::UNSTATED
    },
    turns: "N / 5 * (K / 5) / 4 * (IN / 64 + 48) + 4 * K + N + 64",
    source: source!("tiles_shares", "tiles_ones"),
    ..DENSE_LOSS
};

/// [`DENSE_LOSS_TILES_ANY`] as a part of a launch of a whole program, whose workgroup may be larger.
pub static DENSE_LOSS_SINGLE: Kernel = Kernel {
    name: "dense_loss_single",
    // Of a larger workgroup 256 threads work.
    demand: Demand {
        issue: "(N / 5 * (K / 5) / 4 * (IN / 64 * 60 + 300) + K * 40) * 256 / THREADS",
        ..DENSE_LOSS_TILES_ANY.demand
    },
    source: concat!(
        include_str!("../../../shaders/shared/single.wgsl"),
        source!("tiles_ones", "tiles_single"),
    ),
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
        "THREADS",
    ],
    ..DENSE_LOSS_TILES_ANY
};

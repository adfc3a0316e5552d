//! The variant of products of few rows or few columns for hardware, where a launch takes as long as its loads wait for each
//! other: the kernels of `shaders/matmul/slices.wgsl`, and how they cut a product.

use super::MATMUL;
use crate::kernel::{Demand, Kernel, Port, Target};
use crate::ops::Alternative;

/// Terms from which on sharing a sum is worth it.
const TERMS: usize = 128;
/// Workgroups that a GPU has room for at once: with fewer, each had better have one column.
const WORKGROUPS: usize = 100;
/// Rows that a workgroup has at most.
const HEIGHT: usize = 16;
/// Columns up to which a product of more rows than that is cut so: blocks of so few are mostly empty.
const NARROW: usize = 16;
/// Bytes that a workgroup shares; `shares` and `parts` in the shader.
const BYTES: u32 = 9 << 10;

/// The variant of a product A Bᵀ, `[M, K] · [K, N]` with M or N up to 16, if its sums are long and there may be
/// so many workgroups.
pub(super) fn variant(
    [m, n, k]: [usize; 3],
    constants: &[(&'static str, f64)],
) -> Option<Alternative> {
    let (kernel, pieces) = match k.is_multiple_of(4) {
        true => (&MATMUL_SLICES, k / 4),
        false => (&MATMUL_SLICES_ANY, k),
    };
    let below = m.div_ceil(HEIGHT);
    let (columns, most) = match below * n.div_ceil(4) >= WORKGROUPS {
        true => (4, 128),
        false => (1, 256),
    };
    let slices = pieces.next_power_of_two().clamp(32, most);
    let groups = n.div_ceil(columns);
    let more = [
        ("HEIGHT", m.min(HEIGHT) as f64),
        ("COLUMNS", columns as f64),
        ("SLICES", slices as f64),
    ];
    let few = m <= HEIGHT || n <= NARROW;
    (few && k >= TERMS && groups.max(below) <= 65_535).then(|| Alternative {
        target: Target::Workgroup {
            threads: slices as u32,
            bytes: BYTES,
        },
        kernel,
        constants: [constants, &more].concat(),
        grid: [groups as u32, below as u32],
    })
}

/// The module with the file that says what a piece of K is.
macro_rules! source {
    ($pieces:literal) => {
        concat!(
            include_str!("../../../shaders/matmul/slices.wgsl"),
            include_str!(concat!("../../../shaders/matmul/", $pieces, ".wgsl")),
            $crate::port!("finish"),
        )
    };
}

/// [`MATMUL`](super::MATMUL) of few rows of A with K in slices, where K is a multiple of 4.
pub static MATMUL_SLICES: Kernel = Kernel {
    name: "matmul_slices",
    demand: Demand {
        rounds: "K / (4 * SLICES) + 2",
        barriers: "2 * (HEIGHT * COLUMNS / 16)",
        issue: "K / (4 * SLICES) * (HEIGHT * (4 * COLUMNS + 4) + 40) + 200",
        words: "(K + 4) * (HEIGHT + COLUMNS)",
        ..Demand::UNSTATED
    },
    turns: "K / (4 * SLICES) + 192",
    source: source!("slices_fours"),
    constants: &[
        "M", "N", "K", "TRANS_A", "TRANS_B", "HEIGHT", "COLUMNS", "SLICES",
    ],
    ports: &[Port::finish(2, "4")],
    ..MATMUL
};

/// [`MATMUL_SLICES`] for any K.
pub static MATMUL_SLICES_ANY: Kernel = Kernel {
    name: "matmul_slices_any",
    demand: Demand {
        rounds: "K / SLICES + 2",
        barriers: "2 * (HEIGHT * COLUMNS / 16)",
        issue: "K / SLICES * (HEIGHT * (COLUMNS + 3) + 40) + 200",
        words: "(K + 4) * (HEIGHT + COLUMNS)",
        ..Demand::UNSTATED
    },
    turns: "K / SLICES + 192",
    source: source!("slices_ones"),
    ..MATMUL_SLICES
};

//! A product by one workgroup, as a part of a launch of a whole program: the kernel of
//! `shaders/matmul/single.wgsl`.

use super::MATMUL;
use crate::kernel::{Demand, Kernel, Port, SHARED, SINGLE, Target};
use crate::ops::Alternative;
use crate::ops::launch::SINGLE_WORK;

/// The variants of a product `[M, K] · [K, N]`, if it is small.
pub(super) fn variants(
    [m, n, k]: [usize; 3],
    constants: &[(&'static str, f64)],
) -> Vec<Alternative> {
    if m * n * k > SINGLE_WORK {
        return vec![];
    }
    let blocks = m.div_ceil(4) * n.div_ceil(4);
    let variant = |threads: u32| {
        // A thread has two terms of K or more, and less than four threads share no sum.
        let slices = match (threads as usize / blocks).min(k.div_ceil(2)) {
            0..4 => 1,
            slices => slices / 4 * 4,
        };
        let more = [("THREADS", f64::from(threads)), ("SLICES", slices as f64)];
        Alternative {
            target: Target::Single {
                threads,
                bytes: SHARED,
            },
            kernel: &MATMUL_SINGLE,
            constants: [constants, &more].concat(),
            grid: [1, 1],
        }
    };
    SINGLE.map(variant).into()
}

/// [`MATMUL`] by one workgroup.
pub static MATMUL_SINGLE: Kernel = Kernel {
    name: "matmul_single",
    demand: Demand {
        rounds: "M / 4 * (N / 4) * SLICES / THREADS * (K / SLICES / 4) + 1",
        barriers: "M / 4 * (N / 4) * SLICES / THREADS * 16",
        issue: "M / 4 * (N / 4) * SLICES / THREADS * (K / SLICES * 32 + 200) + 50",
        words: "K * (M + N) + M * N",
        ..Demand::UNSTATED
    },
    turns: "(M / 4 * (N / 4) * SLICES / THREADS + 1) * (K / SLICES + 4 * (5 + SLICES / 4))",
    source: concat!(
        include_str!("../../../shaders/shared/single.wgsl"),
        include_str!("../../../shaders/matmul/single.wgsl"),
        crate::port!("finish"),
    ),
    constants: &["M", "N", "K", "TRANS_A", "TRANS_B", "THREADS", "SLICES"],
    ports: &[Port::finish(
        2,
        "(M / 4 * (N / 4) * SLICES / THREADS + 1) * 16",
    )],
    ..MATMUL
};

//! C = Aᵀ B over many rows of A and B and with few elements, as a dense layer's weight gradient over a large mini-batch: a
//! product for each part of the rows, then their sum ([`parts`]).

use super::{MATMUL, Matmul};
use crate::error::Result;
use crate::kernel::{Args, Bind, Demand, Kernel};
use crate::ops::blocks::{WORKGROUPS, block_demand, cuts};
use crate::ops::fragments::{self, units};
use crate::ops::gemm::{Matrix, serial};
use crate::ops::launch::SINGLE_WORK;
use crate::ops::pointwise::Ended;
use crate::ops::{Lowered, Lowering, parts};
use crate::shape::Type;
use crate::tensor::Real;
use crate::threads::prelude::*;

/// Rows that a part has at least: each element of C is written once for as many products.
const ROWS: usize = 512;
/// Parts that are worth a second launch.
const FEWEST: usize = 4;

impl Matmul {
    /// Rows of each part of the product, and how many parts there are; none where one launch is about as fast.
    pub(super) fn parts(&self, [m, n, k]: [usize; 3]) -> Option<[usize; 2]> {
        if !self.trans_a || self.trans_b || m * n * k <= SINGLE_WORK {
            return None;
        }
        let one_launch = cuts(1, [m, n, k], 0).first()?.nanoseconds(1, [m, n, k], 0);
        let ways = (FEWEST..=k / ROWS).filter_map(|count| {
            // Whole steps of every block.
            let rows = k.div_ceil(count).next_multiple_of(32);
            let count = k.div_ceil(rows);
            let fits = count >= FEWEST && m.div_ceil(32) * count <= WORKGROUPS;
            let (_, time) = parts::fastest(count, [m, n, rows], 0).filter(|_| fits)?;
            Some(([rows, count], count, time))
        });
        parts::best(ways, [m * n, m.max(n) * k], one_launch)
    }

    /// Both launches.
    pub(super) fn in_parts(
        &self,
        [m, n, k]: [usize; 3],
        [rows, count]: [usize; 2],
        ends: &[Ended<'_>],
        inputs: &[Type],
    ) -> Result<Lowering> {
        let mut constants = self.constants([m, n, k]);
        constants.extend([("PARTS", count as f64), ("DEPTH", rows as f64)]);
        let sizes = (count, [m, n, rows]);
        let mut by = parts::variants(&MATMUL_PARTS, &constants, sizes, 0);
        let units = [&FRAGMENTS16, &FRAGMENTS8];
        by.extend(fragments::variants(units, &constants, sizes, true));
        let product = Lowered {
            kernel: &MATMUL_PARTS,
            constants,
            operands: vec![],
            grid: [0; 2],
            flops: 2 * (m * n * k) as u64,
            alternatives: vec![],
        };
        parts::lowered(
            product.by(by),
            &MATMUL_PARTS_SUM,
            (count, &[m, n]),
            ends,
            inputs,
        )
    }
}

/// Aᵀ B of each part.
pub static MATMUL_PARTS: Kernel = Kernel {
    name: "matmul_parts",
    demand: block_demand!("DEPTH", "200"),
    turns: "(DEPTH / (1024 / BLOCK) + 1) * (1024 / (BLOCK * SHARES) + 3) + 256",
    source: concat!(
        include_str!("../../../shaders/matmul.wgsl"),
        include_str!("../../../shaders/shared/blocks.wgsl"),
        include_str!("../../../shaders/matmul/parts.wgsl"),
        crate::port!("finish"),
    ),
    bindings: &[
        Bind::read("a").of("M * K"),
        Bind::read("b").of("N * K"),
        Bind::write("parts").of("PARTS * M * N"),
    ],
    constants: &[
        "M", "N", "K", "TRANS_A", "TRANS_B", "PARTS", "DEPTH", "BLOCK", "SHARES",
    ],
    reference: crate::reference!(reference),
    optimized: Some(optimized),
    ports: &[],
    finishing: None,
    ..MATMUL
};

/// [`MATMUL_PARTS`] by units of 16 × 16.
pub static FRAGMENTS16: Kernel = Kernel {
    name: "matmul_parts_fragments16",
    demand: Demand::UNSTATED,
    turns: "(DEPTH / 32 + 1) * 24 + 512",
    source: units!(
        "16",
        "matmul_parts_fragments16",
        "matmul",
        "matmul/parts_fragments"
    ),
    constants: &["M", "N", "K", "TRANS_A", "TRANS_B", "PARTS", "DEPTH"],
    ..MATMUL_PARTS
};

/// [`MATMUL_PARTS`] by units of 8 × 8.
pub static FRAGMENTS8: Kernel = Kernel {
    name: "matmul_parts_fragments8",
    demand: Demand::UNSTATED,
    source: units!(
        "8",
        "matmul_parts_fragments8",
        "matmul",
        "matmul/parts_fragments"
    ),
    ..FRAGMENTS16
};

/// C, the sum of the parts.
pub static MATMUL_PARTS_SUM: Kernel = Kernel {
    name: "matmul_parts_sum",
    stem: "matmul",
    source: concat!(
        include_str!("../../../shaders/shared/grid.wgsl"),
        include_str!("../../../shaders/shared/parts.wgsl"),
        include_str!("../../../shaders/matmul/parts_sum.wgsl"),
        crate::port!("finish"),
    ),
    ..parts::SUM
};

fn reference<T: Real>(args: &mut Args<'_, T>) {
    let (m, n, rows) = (args.size("M"), args.size("N"), args.size("DEPTH"));
    let (a, b, parts) = (args.f(0), args.f(1), args.f_mut(2)); // [K, M], [K, N], [PARTS, M, N]
    parts.fill(T::ZERO);
    for (k, (a, b)) in a.chunks(m).zip(b.chunks(n)).enumerate() {
        let part = &mut parts[k / rows * m * n..][..m * n];
        for (&a, c) in a.iter().zip(part.chunks_mut(n)) {
            for (&b, c) in b.iter().zip(c) {
                *c += a * b;
            }
        }
    }
}

fn optimized(args: &mut Args<'_, f32>) {
    let (m, n, rows) = (args.size("M"), args.size("N"), args.size("DEPTH"));
    let a = args.f(0).par_chunks(rows * m);
    let b = args.f(1).par_chunks(rows * n);
    let parts = args.f_mut(2).par_chunks_mut(m * n);
    a.zip(b).zip(parts).share(|((a, b), c)| {
        let k = a.len() / m;
        let (a, b) = (Matrix::of(a, m, true), Matrix::of(b, n, false));
        serial([m, n, k], a, b, c, false);
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_sums_of_few_elements_are_cut() {
        let weights = |sizes| Matmul::new(true, false).parts(sizes);
        for [m, n, k] in [[384, 96, 2048], [10, 1000, 4096], [96, 96, 2048]] {
            let [rows, count] = weights([m, n, k]).unwrap();
            assert!(rows >= ROWS && count >= FEWEST && rows * (count - 1) < k && k <= rows * count);
        }
        // Blocks enough; the book's mini-batches; a product that is no weight gradient.
        assert_eq!(weights([1024, 1024, 4096]), None);
        assert_eq!(weights([1000, 1000, 128]), None);
        assert_eq!(Matmul::new(false, true).parts([96, 96, 2048]), None);
    }
}

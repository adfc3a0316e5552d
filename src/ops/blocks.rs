//! How products are cut into blocks (`shaders/shared/blocks.wgsl`).
//!
//! A workgroup of 256 threads makes one block of C. The larger the block, the more often
//! what it loads is used (Volkov and Demmel 2008), but the fewer blocks there are to fill a
//! GPU with. Of few blocks and a long K, four teams of a workgroup take a quarter of K each
//! and add up in the end: split-K in one launch and a fixed order.
//!
//! Each variant's time is computed from what an NVIDIA H200 needed (`results/h200/kernels.txt`,
//! 44 products, each within a quarter of it): every step of K takes a chain of loads and
//! barriers ([`Cut::alone`]), which the other blocks of a multiprocessor hide, so each of
//! them only adds the time that it keeps its units busy ([`Cut::busy`]). Fewer blocks than
//! [`MULTIPROCESSORS`] leave some of those idle.

/// WebGPU's most workgroups in a dimension.
pub(super) const WORKGROUPS: usize = 65_535;
/// Of the GPU that was measured.
pub(super) const MULTIPROCESSORS: usize = 132;
/// Nanoseconds of a launch that waits for the one before.
pub(super) const LAUNCH: usize = 2_300;
/// Threads of a workgroup.
const THREADS: usize = 256;

/// A cut of a product. Times are in nanoseconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cut {
    /// Rows and columns of a block of C.
    pub block: usize,
    /// Teams that share K; none where a thread makes one element
    /// (`shaders/matmul.wgsl`).
    pub shares: usize,
    /// Elements of K in a step of one team.
    step: usize,
    /// The launch, the sum over the teams and the end.
    rest: usize,
    /// A step where a multiprocessor has one block.
    alone: usize,
    /// What each further block of a multiprocessor adds to a step.
    busy: usize,
    /// A step by counting, in multiply-adds of a subgroup: its own, 4 for each 128 bytes
    /// that are read of workgroup memory, 100 for barriers and loads.
    counted: usize,
}

const CUTS: [Cut; 4] = [
    Cut {
        block: 16,
        shares: 0,
        step: 16,
        rest: 5_200,
        alone: 370,
        busy: 135,
        counted: 16 * (1 + 4 * 2) + 100,
    },
    Cut {
        block: 32,
        shares: 4,
        step: 8,
        rest: 6_500,
        alone: 420,
        busy: 400,
        counted: 8 * (16 + 4 * 2) + 100,
    },
    Cut {
        block: 64,
        shares: 1,
        step: 16,
        rest: 8_000,
        alone: 640,
        busy: 540,
        counted: 16 * (16 + 4 * 3) + 100,
    },
    Cut {
        block: 128,
        shares: 1,
        step: 8,
        rest: 17_000,
        alone: 1_300,
        busy: 1_080,
        counted: 8 * (64 + 4 * 6) + 100,
    },
];

impl Cut {
    /// Workgroups in x and y.
    pub fn grid(&self, [m, n, _]: [usize; 3]) -> [usize; 2] {
        [n.div_ceil(self.block), m.div_ceil(self.block)]
    }

    /// Steps of a team.
    fn steps(&self, k: usize) -> usize {
        k.div_ceil(self.step * self.shares.max(1))
    }

    /// Nanoseconds of so many products `[M, K] · [K, N]` at once; `more` for each step and
    /// block if its loads take longer than a matrix's.
    pub fn nanoseconds(&self, products: usize, sizes: [usize; 3], more: usize) -> usize {
        let [x, y] = self.grid(sizes);
        let step = in_turns(products * x * y, self.alone + more, self.busy + more);
        self.rest + self.steps(sizes[2]) * step
    }

    /// The time by counting, up to a factor: what processors choose convolutions by, on which
    /// one cut was not timed against another.
    fn counted(&self, products: usize, sizes: [usize; 3]) -> usize {
        let [x, y] = self.grid(sizes);
        (products * x * y).max(100) * self.steps(sizes[2]) * self.counted
    }
}

/// Nanoseconds of a round of so many workgroups: `alone` for the first of a multiprocessor,
/// `busy` for each other.
fn in_turns(workgroups: usize, alone: usize, busy: usize) -> usize {
    alone + workgroups.saturating_sub(MULTIPROCESSORS) * busy / MULTIPROCESSORS
}

/// A kernel without blocks: a thread adds up products one by one. Times of a workgroup of 256
/// threads in nanoseconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Direct {
    /// A product where a multiprocessor has one workgroup.
    pub alone: usize,
    /// What each further workgroup of a multiprocessor adds.
    pub busy: usize,
}

impl Direct {
    /// Nanoseconds of so many threads, each of which adds up so many products.
    pub fn nanoseconds(&self, threads: usize, products: usize) -> usize {
        LAUNCH + products * in_turns(threads.div_ceil(THREADS), self.alone, self.busy)
    }
}

/// The [`Demand`](crate::kernel::Demand) of a kernel in blocks with sums of `$depth` terms: a step of K has its
/// loads under way while the one before is multiplied, six multiply-adds and loads for each of the block's
/// rows, and `$more` instructions for addresses and barriers; at the end most results wait for what their
/// neighbours have stored.
macro_rules! block_demand {
    ($depth:literal, $more:literal) => {
        $crate::kernel::Demand {
            rounds: "BLOCK * BLOCK * 3 / 1024 + 2",
            ahead: concat!($depth, " / (1024 / BLOCK)"),
            barriers: concat!($depth, " / (1024 / BLOCK) * 2 + 2 * SHARES"),
            issue: concat!(
                $depth,
                " / (1024 / BLOCK) * (6 * BLOCK + ",
                $more,
                ") + BLOCK * BLOCK / 16"
            ),
            words: concat!($depth, " / (1024 / BLOCK) * 2048 + BLOCK * BLOCK"),
        }
    };
}
pub(super) use block_demand;

/// The cuts of so many products `[M, K] · [K, N]` that a grid has room for, the fastest on a GPU
/// first; `more` as of [`Cut::nanoseconds`].
pub(super) fn cuts(products: usize, sizes: [usize; 3], more: usize) -> Vec<Cut> {
    sorted(sizes, |cut| cut.nanoseconds(products, sizes, more))
}

/// The same, the one first that counting says is fastest.
pub(super) fn counted(products: usize, sizes: [usize; 3]) -> Vec<Cut> {
    sorted(sizes, |cut| cut.counted(products, sizes))
}

/// The cuts that a grid has room for by their times; the largest blocks alone if it has room for
/// none, so that the plan's checker says so.
fn sorted(sizes: [usize; 3], time: impl Fn(&Cut) -> usize) -> Vec<Cut> {
    let fits = |cut: &Cut| cut.grid(sizes).into_iter().max() <= Some(WORKGROUPS);
    let mut cuts: Vec<_> = CUTS.into_iter().filter(fits).collect();
    if cuts.is_empty() {
        cuts.extend(CUTS.last());
    }
    cuts.sort_by_key(time);
    cuts
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A variant of a launch as it was measured on the GPU of the model.
    pub struct Row {
        /// The launch.
        pub label: &'static str,
        /// The numbers in its label after `conv2d`.
        pub sizes: Vec<usize>,
        /// The kernel.
        pub kernel: &'static str,
        /// The kernel's block, if it has one.
        pub block: Option<usize>,
        pub nanoseconds: f64,
    }

    /// Every variant of every launch that has several.
    pub fn measured() -> Vec<Row> {
        let row = |line: &'static str| {
            let (label, rest) = line.split_once(": ")?;
            let words: Vec<_> = rest.split_whitespace().collect();
            let block = words[1].parse().ok();
            let microseconds: f64 = words[1 + usize::from(block.is_some())].parse().ok()?;
            let sizes = label.trim_start_matches("conv2d");
            let sizes = sizes.split(|c: char| !c.is_ascii_digit());
            Some(Row {
                label,
                sizes: sizes.filter_map(|n| n.parse().ok()).collect(),
                kernel: words[0],
                block,
                nanoseconds: 1e3 * microseconds,
            })
        };
        let table = include_str!("../../results/h200/kernels.txt").lines();
        table.filter_map(row).collect()
    }

    /// A product's M, N, K, and the cut of this variant.
    fn product(row: &Row) -> Option<([usize; 3], Cut)> {
        let part = row.label.strip_prefix("matmul ")?.split(' ').next()?;
        let few = ["matmul_few", "matmul_wide", "matmul_slices"];
        if few.iter().any(|few| row.kernel.starts_with(few)) {
            return None;
        }
        let [a, b, c] = row.sizes[..] else {
            return None;
        };
        let sizes = match part {
            "dense" => [a, c, b],
            "weight" => [c, b, a],
            _ => [a, b, c],
        };
        let block = row.block.unwrap_or(16);
        let cut = CUTS.into_iter().find(|cut| cut.block == block)?;
        Some((sizes, cut))
    }

    #[test]
    fn products_take_as_long_as_computed() {
        let rows = measured();
        let products: Vec<_> = rows.iter().filter_map(|r| Some((r, product(r)?))).collect();
        assert_eq!(products.len(), 44);
        for (row, (sizes, cut)) in products {
            let computed = cut.nanoseconds(1, sizes, 0) as f64;
            let factor = row.nanoseconds / computed;
            let what = format!("{} in blocks of {}: {factor:.2}", row.label, cut.block);
            assert!((0.8..1.25).contains(&factor), "{what}");
        }
    }

    #[test]
    fn the_first_cut_is_the_fastest_that_was_measured() {
        let rows = measured();
        let products: Vec<_> = rows.iter().filter_map(|r| Some((r, product(r)?))).collect();
        for (row, (sizes, cut)) in &products {
            let times = products
                .iter()
                .filter(|(other, _)| other.label == row.label);
            let least = times
                .map(|(other, _)| other.nanoseconds)
                .fold(f64::MAX, f64::min);
            if row.nanoseconds == least {
                assert_eq!(best(*sizes), cut.block, "{}", row.label);
            }
        }
    }

    fn best(sizes: [usize; 3]) -> usize {
        cuts(1, sizes, 0)[0].block
    }

    #[test]
    fn blocks_are_as_large_as_fills_a_gpu() {
        assert_eq!(best([4096, 4096, 4096]), 64);
        assert_eq!(best([1024, 1024, 1024]), 64);
        assert_eq!(best([512, 512, 512]), 32);
    }

    #[test]
    fn teams_share_a_long_k() {
        // A weight gradient over a large mini-batch; a dense layer over a small one.
        assert_eq!(best([100, 80, 10_000]), 32);
        assert_eq!(best([128, 1000, 640]), 32);
        // Of a short K there is nothing to share.
        assert_eq!(best([30, 784, 10]), 16);
        assert_eq!(best([1000, 1000, 10]), 64);
    }

    #[test]
    fn what_counting_says_stays() {
        let first = |sizes| counted(1, sizes)[0].block;
        assert_eq!(first([4096, 4096, 4096]), 128);
        assert_eq!(first([1024, 1024, 1024]), 64);
        assert_eq!(first([512, 512, 512]), 32);
        assert_eq!(first([128, 1000, 640]), 32);
        assert_eq!(first([30, 784, 10]), 16);
    }
}

//! Products in blocks: the kernels of `shaders/matmul/blocks.wgsl`, and which way a product
//! takes.
//!
//! A workgroup of 256 threads makes one block of C. The larger the block, the more often
//! what it loads is used (Volkov and Demmel 2008), but the fewer blocks there are to fill a
//! GPU with. Of few blocks and a long K, four teams of a workgroup take a quarter of K each
//! and add up in the end: split-K in one launch and a fixed order.
//!
//! Each way's time is estimated by counting, for an NVIDIA multiprocessor: in one cycle it
//! does 128 multiply-adds, four subgroups', and reads 128 bytes of workgroup memory, one
//! subgroup's ([`READ`]). To them comes what every step waits for ([`WAIT`]). Fewer blocks
//! than [`MULTIPROCESSORS`] leave some of those idle.

use super::{End, MATMUL, MATMUL_BIAS, MATMUL_BIAS_DROPOUT, MATMUL_SGD};
use super::{MATMUL_SGD_MOMENTUM, MATMUL_SLOPE};
use crate::kernel::{Kernel, Suits};
use crate::ops::Alternative;

/// WebGPU's most workgroups in a dimension.
const WORKGROUPS: usize = 65_535;
/// Of the GPU that is to be filled.
const MULTIPROCESSORS: usize = 100;
/// Multiply-adds of a subgroup in the time of one read from workgroup memory.
const READ: usize = 4;
/// Multiply-adds of a subgroup in the time of a step's barriers and of its loads as far as
/// nothing hides them. A guess: the only number here that is not counted.
const WAIT: usize = 100;

/// A way to cut a product.
#[derive(Clone, Copy, Debug)]
struct Cut {
    /// Rows and columns of a block of C.
    block: usize,
    /// Teams that share K; none where a thread makes one element (`shaders/matmul.wgsl`).
    shares: usize,
    /// Elements of K in a step of one team.
    step: usize,
    /// A thread's multiply-adds for one element of K.
    work: usize,
    /// 128-byte reads of its subgroup for these.
    reads: usize,
}

const CUTS: [Cut; 4] = [
    Cut { block: 16, shares: 0, step: 16, work: 1, reads: 2 },
    Cut { block: 32, shares: 4, step: 8, work: 16, reads: 2 },
    Cut { block: 64, shares: 1, step: 16, work: 16, reads: 3 },
    Cut { block: 128, shares: 1, step: 8, work: 64, reads: 6 },
];

impl Cut {
    /// Workgroups in x and y.
    fn grid(&self, [m, n, _]: [usize; 3]) -> [usize; 2] {
        [n.div_ceil(self.block), m.div_ceil(self.block)]
    }

    /// The time that a product `[M, K] · [K, N]` takes, up to a factor.
    fn cost(&self, [m, n, k]: [usize; 3]) -> usize {
        let [x, y] = self.grid([m, n, k]);
        let steps = k.div_ceil(self.step * self.shares.max(1));
        let step = self.step * (self.work + READ * self.reads) + WAIT;
        (x * y).max(MULTIPROCESSORS) * steps * step
    }
}

/// Every way of a product `[M, K] · [K, N]`, the best for a GPU first.
pub(super) fn ways(
    end: &End,
    sizes: [usize; 3],
    constants: &[(&'static str, f64)],
) -> Vec<Alternative> {
    let (tile, block) = kernels(end);
    let beyond = |cut: &Cut| cut.grid(sizes).into_iter().max() > Some(WORKGROUPS);
    let mut cuts = CUTS.to_vec();
    cuts.sort_by_key(|cut| (beyond(cut), cut.cost(sizes)));
    // If none fits, the plan's checker says so of the first.
    let fitting = cuts.iter().filter(|cut| !beyond(cut)).count();
    cuts.truncate(fitting.max(1));
    // A processor has few cores to fill and loads dearly: the largest block that is not
    // mostly outside.
    let [m, n, _] = sizes;
    let reuse = m.min(n).next_power_of_two().clamp(32, 128);
    let way = |cut: Cut| {
        let more = [("BLOCK", cut.block as f64), ("SHARES", cut.shares as f64)];
        let (kernel, more) = if cut.shares == 0 { (tile, &more[..0]) } else { (block, &more[..]) };
        Alternative {
            suits: if cut.block == reuse { Suits::Processor } else { Suits::Gpu },
            kernel,
            constants: [constants, more].concat(),
            grid: cut.grid(sizes).map(|g| g as u32),
        }
    };
    cuts.into_iter().map(way).collect()
}

/// The kernels of an end: one element per thread, and blocks.
fn kernels(end: &End) -> (&'static Kernel, &'static Kernel) {
    match end {
        End::Store => (&MATMUL, &MATMUL_BLOCK),
        End::Bias(_) => (&MATMUL_BIAS, &MATMUL_BLOCK_BIAS),
        End::BiasDropout(..) => (&MATMUL_BIAS_DROPOUT, &MATMUL_BLOCK_BIAS_DROPOUT),
        End::Slope(_) => (&MATMUL_SLOPE, &MATMUL_BLOCK_SLOPE),
        End::Sgd(sgd) if sgd.momentum => (&MATMUL_SGD_MOMENTUM, &MATMUL_BLOCK_SGD_MOMENTUM),
        End::Sgd(_) => (&MATMUL_SGD, &MATMUL_BLOCK_SGD),
    }
}

/// A product's constants, `more`, and how it is cut.
macro_rules! constants {
    ($($more:literal),*) => {
        &["M", "N", "K", "TRANS_A", "TRANS_B", $($more,)* "BLOCK", "SHARES"]
    };
}

/// [`MATMUL`] in blocks.
pub static MATMUL_BLOCK: Kernel = Kernel {
    name: "matmul_block",
    constants: constants!(),
    ..MATMUL
};

/// [`MATMUL_BIAS`] in blocks.
pub static MATMUL_BLOCK_BIAS: Kernel = Kernel {
    name: "matmul_block_bias",
    constants: constants!("ACTIVATION"),
    ..MATMUL_BIAS
};

/// [`MATMUL_BIAS_DROPOUT`] in blocks.
pub static MATMUL_BLOCK_BIAS_DROPOUT: Kernel = Kernel {
    name: "matmul_block_bias_dropout",
    constants: constants!("ACTIVATION", "DROP", "STREAM", "MASK_SCALE"),
    ..MATMUL_BIAS_DROPOUT
};

/// [`MATMUL_SLOPE`] in blocks.
pub static MATMUL_BLOCK_SLOPE: Kernel = Kernel {
    name: "matmul_block_slope",
    constants: constants!("ACTIVATION"),
    ..MATMUL_SLOPE
};

/// [`MATMUL_SGD`] in blocks.
pub static MATMUL_BLOCK_SGD: Kernel = Kernel {
    name: "matmul_block_sgd",
    constants: constants!("DECAY", "EPOCH_STEPS", "SCHEDULE"),
    ..MATMUL_SGD
};

/// [`MATMUL_SGD_MOMENTUM`] in blocks.
pub static MATMUL_BLOCK_SGD_MOMENTUM: Kernel = Kernel {
    name: "matmul_block_sgd_momentum",
    constants: constants!("DECAY", "EPOCH_STEPS", "SCHEDULE"),
    ..MATMUL_SGD_MOMENTUM
};

#[cfg(test)]
mod tests {
    use super::*;

    fn best(sizes: [usize; 3]) -> usize {
        CUTS.into_iter().min_by_key(|cut| cut.cost(sizes)).unwrap().block
    }

    #[test]
    fn blocks_are_as_large_as_fills_a_gpu() {
        assert_eq!(best([4096, 4096, 4096]), 128);
        assert_eq!(best([2048, 2048, 2048]), 128);
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
    fn no_way_has_more_workgroups_than_there_may_be() {
        let blocks = |rows| {
            let ways = ways(&End::Store, [rows, 1, 1], &[]);
            ways.iter().map(|way| way.grid).collect::<Vec<_>>()
        };
        assert_eq!(blocks(65_535 * 16).len(), 4);
        assert_eq!(blocks(65_535 * 16 + 1).len(), 3);
        assert_eq!(blocks(65_535 * 64 + 1), [[1, 32_768]]);
        assert_eq!(blocks(65_535 * 128 + 1), [[1, 65_536]]);
    }
}

//! Products in blocks: the kernels of `shaders/matmul/blocks.wgsl`, and which way a product
//! takes.

use super::{End, MATMUL, MATMUL_BIAS, MATMUL_BIAS_DROPOUT, MATMUL_SGD};
use super::{MATMUL_SGD_MOMENTUM, MATMUL_SLOPE};
use crate::kernel::{Kernel, Suits};
use crate::ops::Alternative;
use crate::ops::blocks::{Cut, cuts};

/// Every way of a product `[M, K] · [K, N]`, the best for a GPU first.
pub(super) fn ways(
    end: &End,
    sizes: [usize; 3],
    constants: &[(&'static str, f64)],
) -> Vec<Alternative> {
    let (tile, block) = kernels(end);
    // A processor has few cores to fill and loads dearly: the largest block that is not
    // mostly outside.
    let [m, n, _] = sizes;
    let reuse = m.min(n).next_power_of_two().clamp(32, 128);
    let way = |cut: Cut| {
        let more = [("BLOCK", cut.block as f64), ("SHARES", cut.shares as f64)];
        let (kernel, more) = if cut.shares == 0 {
            (tile, &more[..0])
        } else {
            (block, &more[..])
        };
        Alternative {
            suits: if cut.block == reuse {
                Suits::Processor
            } else {
                Suits::Gpu
            },
            kernel,
            constants: [constants, more].concat(),
            grid: cut.grid(sizes).map(|g| g as u32),
        }
    };
    cuts(1, sizes, 0).into_iter().map(way).collect()
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
    turns: "(K / (1024 / BLOCK) + 1) * (1024 / (BLOCK * SHARES) + 3) + 256",
    constants: constants!(),
    ..MATMUL
};

/// [`MATMUL_BIAS`] in blocks.
pub static MATMUL_BLOCK_BIAS: Kernel = Kernel {
    name: "matmul_block_bias",
    turns: "(K / (1024 / BLOCK) + 1) * (1024 / (BLOCK * SHARES) + 3) + 256",
    constants: constants!("ACTIVATION"),
    ..MATMUL_BIAS
};

/// [`MATMUL_BIAS_DROPOUT`] in blocks.
pub static MATMUL_BLOCK_BIAS_DROPOUT: Kernel = Kernel {
    name: "matmul_block_bias_dropout",
    turns: "(K / (1024 / BLOCK) + 1) * (1024 / (BLOCK * SHARES) + 3) + 256",
    constants: constants!("ACTIVATION", "DROP", "STREAM", "MASK_SCALE"),
    ..MATMUL_BIAS_DROPOUT
};

/// [`MATMUL_SLOPE`] in blocks.
pub static MATMUL_BLOCK_SLOPE: Kernel = Kernel {
    name: "matmul_block_slope",
    turns: "(K / (1024 / BLOCK) + 1) * (1024 / (BLOCK * SHARES) + 3) + 256",
    constants: constants!("ACTIVATION"),
    ..MATMUL_SLOPE
};

/// [`MATMUL_SGD`] in blocks.
pub static MATMUL_BLOCK_SGD: Kernel = Kernel {
    name: "matmul_block_sgd",
    turns: "(K / (1024 / BLOCK) + 1) * (1024 / (BLOCK * SHARES) + 3) + 256",
    constants: constants!("DECAY", "EPOCH_STEPS", "SCHEDULE"),
    ..MATMUL_SGD
};

/// [`MATMUL_SGD_MOMENTUM`] in blocks.
pub static MATMUL_BLOCK_SGD_MOMENTUM: Kernel = Kernel {
    name: "matmul_block_sgd_momentum",
    turns: "(K / (1024 / BLOCK) + 1) * (1024 / (BLOCK * SHARES) + 3) + 256",
    constants: constants!("DECAY", "EPOCH_STEPS", "SCHEDULE"),
    ..MATMUL_SGD_MOMENTUM
};

#[cfg(test)]
mod tests {
    use super::*;

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

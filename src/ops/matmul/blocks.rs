//! Products in blocks: the kernels of `shaders/matmul/blocks.wgsl`, and which variant a product
//! takes.

use super::MATMUL;
use crate::kernel::{Kernel, Target};
use crate::ops::Alternative;
use crate::ops::blocks::{Cut, block_demand, cuts};

/// Every variant of a product `[M, K] · [K, N]`, the best for a GPU first.
pub(super) fn variants(sizes: [usize; 3], constants: &[(&'static str, f64)]) -> Vec<Alternative> {
    // A processor has few cores to fill and loads dearly: the largest block that is not
    // mostly outside.
    let [m, n, _] = sizes;
    let reuse = m.min(n).next_power_of_two().clamp(32, 128);
    let variant = |cut: Cut| {
        let more = [("BLOCK", cut.block as f64), ("SHARES", cut.shares as f64)];
        let (kernel, more) = if cut.shares == 0 {
            (&MATMUL, &more[..0])
        } else {
            (&MATMUL_BLOCK, &more[..])
        };
        Alternative {
            target: if cut.block == reuse {
                Target::Processor
            } else {
                Target::Gpu
            },
            kernel,
            constants: [constants, more].concat(),
            grid: cut.grid(sizes).map(|g| g as u32),
        }
    };
    cuts(1, sizes, 0).into_iter().map(variant).collect()
}

/// [`MATMUL`] in blocks.
pub static MATMUL_BLOCK: Kernel = Kernel {
    name: "matmul_block",
    demand: block_demand!("K", "200"),
    turns: "(K / (1024 / BLOCK) + 1) * (1024 / (BLOCK * SHARES) + 3) + 256",
    constants: &["M", "N", "K", "TRANS_A", "TRANS_B", "BLOCK", "SHARES"],
    ..MATMUL
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_way_has_more_workgroups_than_there_may_be() {
        let blocks = |rows| {
            let variants = variants([rows, 1, 1], &[]);
            variants
                .iter()
                .map(|variant| variant.grid)
                .collect::<Vec<_>>()
        };
        assert_eq!(blocks(65_535 * 16).len(), 4);
        assert_eq!(blocks(65_535 * 16 + 1).len(), 3);
        assert_eq!(blocks(65_535 * 64 + 1), [[1, 32_768]]);
        assert_eq!(blocks(65_535 * 128 + 1), [[1, 65_536]]);
    }
}

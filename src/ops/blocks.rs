//! How products are cut into blocks (`shaders/shared/blocks.wgsl`).
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

/// WebGPU's most workgroups in a dimension.
pub(super) const WORKGROUPS: usize = 65_535;
/// Of the GPU that is to be filled.
pub(super) const MULTIPROCESSORS: usize = 100;
/// Multiply-adds of a subgroup in the time of one read from workgroup memory.
pub(super) const READ: usize = 4;
/// Multiply-adds of a subgroup in the time of a step's barriers and of its loads as far as
/// nothing hides them. A guess: the only number here that is not counted.
const WAIT: usize = 100;

/// A way to cut a product.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cut {
    /// Rows and columns of a block of C.
    pub block: usize,
    /// Teams that share K; none where a thread makes one element
    /// (`shaders/matmul.wgsl`).
    pub shares: usize,
    /// Elements of K in a step of one team.
    step: usize,
    /// A thread's multiply-adds for one element of K.
    work: usize,
    /// 128-byte reads of its subgroup for these.
    reads: usize,
}

const CUTS: [Cut; 4] = [
    Cut {
        block: 16,
        shares: 0,
        step: 16,
        work: 1,
        reads: 2,
    },
    Cut {
        block: 32,
        shares: 4,
        step: 8,
        work: 16,
        reads: 2,
    },
    Cut {
        block: 64,
        shares: 1,
        step: 16,
        work: 16,
        reads: 3,
    },
    Cut {
        block: 128,
        shares: 1,
        step: 8,
        work: 64,
        reads: 6,
    },
];

impl Cut {
    /// Workgroups in x and y.
    pub fn grid(&self, [m, n, _]: [usize; 3]) -> [usize; 2] {
        [n.div_ceil(self.block), m.div_ceil(self.block)]
    }

    /// The time that so many products `[M, K] · [K, N]` at once take, up to a factor.
    pub fn cost(&self, products: usize, [m, n, k]: [usize; 3]) -> usize {
        let [x, y] = self.grid([m, n, k]);
        let steps = k.div_ceil(self.step * self.shares.max(1));
        let step = self.step * (self.work + READ * self.reads) + WAIT;
        (products * x * y).max(MULTIPROCESSORS) * steps * step
    }
}

/// The cuts of so many products `[M, K] · [K, N]` that a grid has room for, the fastest first;
/// the largest blocks alone if it has room for none, so that the plan's checker says so.
pub(super) fn cuts(products: usize, sizes: [usize; 3]) -> Vec<Cut> {
    let beyond = |cut: &Cut| cut.grid(sizes).into_iter().max() > Some(WORKGROUPS);
    let mut cuts = CUTS.to_vec();
    cuts.sort_by_key(|cut| (beyond(cut), cut.cost(products, sizes)));
    let fitting = cuts.iter().filter(|cut| !beyond(cut)).count();
    cuts.truncate(fitting.max(1));
    cuts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn best(sizes: [usize; 3]) -> usize {
        CUTS.into_iter()
            .min_by_key(|cut| cut.cost(1, sizes))
            .unwrap()
            .block
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
}

//! Convolutions as products in blocks (`shaders/conv2d/implicit.wgsl`), and when they take
//! the place of the direct kernels.
//!
//! | launch | rows | columns | k |
//! |---|---|---|---|
//! | forward | filters | places of all images | taps |
//! | input gradient | channels | pixels of all images | taps of all filters |
//! | weight gradient | filters | taps | places of all images |
//!
//! of each group. The matrix with a column for each place, the patch that it sees, is never
//! made (Chetlur et al. 2014, "cuDNN").

use super::{CONV2D, CONV2D_BIAS, CONV2D_INPUT_GRAD, CONV2D_INPUT_GRAD_SLOPE};
use super::{CONV2D_WEIGHT_GRAD, CONV2D_WEIGHT_GRAD_SGD, CONV2D_WEIGHT_GRAD_SGD_MOMENTUM};
use crate::kernel::{Kernel, Suits};
use crate::ops::blocks::{MULTIPROCESSORS, READ, WORKGROUPS, cuts};
use crate::ops::{Alternative, Lowered};

/// Fewer rows or columns than these leave even the smallest block mostly empty.
const LEAST: usize = 8;
/// A direct kernel's time for one product, in that of a multiply-add: itself, two reads and
/// about six instructions that find the place.
const DIRECT: usize = 1 + 2 * READ + 6;

/// The time of a direct kernel in the terms of [`Cut::cost`](crate::ops::blocks::Cut::cost):
/// so many threads, each of which adds up so many products.
pub(super) fn direct_cost(threads: usize, products: usize) -> usize {
    threads.div_ceil(256).max(MULTIPROCESSORS) * products * DIRECT
}

/// The ways of a launch, the best for a GPU first: `direct`, and by `kernel` the product of
/// `sizes` (rows, columns, k) for each of `groups`.
pub(super) fn ways(
    direct: &Lowered,
    direct_cost: usize,
    kernel: &'static Kernel,
    sizes: [usize; 3],
    groups: usize,
) -> Vec<Alternative> {
    let usual = direct
        .clone()
        .otherwise(Suits::Gpu, direct.kernel, direct.grid);
    let [rows, columns, _] = sizes;
    // Of several cuts one: they are one text, which the matrix product tests in all of them.
    let cut = cuts(groups, sizes).into_iter().find(|cut| cut.shares > 0);
    let Some(cut) = cut.filter(|_| rows.min(columns) >= LEAST) else {
        return vec![usual];
    };
    let [x, y] = cut.grid(sizes);
    // Where no cut fits, there is one all the same; the direct kernels use both axes.
    if x.max(y * groups) > WORKGROUPS {
        return vec![usual];
    }
    let more = [("BLOCK", cut.block as f64), ("SHARES", cut.shares as f64)];
    let blocks = Alternative {
        // It has few cores to fill, and what is loaded should be used often.
        suits: Suits::Processor,
        kernel,
        constants: [&direct.constants[..], &more].concat(),
        grid: [x as u32, (y * groups) as u32],
    };
    if cut.cost(groups, sizes) < direct_cost {
        vec![blocks, usual]
    } else {
        vec![usual, blocks]
    }
}

/// The modules: everything of the direct kernels, and what the product is made of.
macro_rules! source {
    ($product:literal) => {
        concat!(
            include_str!("../../../shaders/shared/grid.wgsl"),
            include_str!("../../../shaders/shared/tree.wgsl"),
            include_str!("../../../shaders/shared/window.wgsl"),
            include_str!("../../../shaders/shared/nan.wgsl"),
            include_str!("../../../shaders/shared/activation.wgsl"),
            include_str!("../../../shaders/shared/sgd.wgsl"),
            include_str!("../../../shaders/conv2d.wgsl"),
            include_str!("../../../shaders/shared/blocks.wgsl"),
            include_str!("../../../shaders/conv2d/implicit.wgsl"),
            include_str!(concat!("../../../shaders/conv2d/", $product, ".wgsl")),
        )
    };
}

/// A convolution's constants, `more`, and how the product is cut.
macro_rules! constants {
    ($($more:literal),*) => {
        &[
            "N", "C", "F", "GROUPS", "H", "W", "HO", "WO", "KH", "KW", "SH", "SW", "PH", "PW", "DH",
            "DW", $($more,)* "BLOCK", "SHARES"
        ]
    };
}

/// [`CONV2D`] in blocks.
pub static FORWARD: Kernel = Kernel {
    name: "conv2d_implicit",
    source: source!("forward"),
    constants: constants!(),
    ..CONV2D
};

/// [`CONV2D_BIAS`] in blocks.
pub static FORWARD_BIAS: Kernel = Kernel {
    name: "conv2d_implicit_bias",
    source: source!("forward"),
    constants: constants!("ACTIVATION"),
    ..CONV2D_BIAS
};

/// [`CONV2D_INPUT_GRAD`] in blocks.
pub static INPUT_GRAD: Kernel = Kernel {
    name: "conv2d_implicit_input_grad",
    source: source!("input_grad"),
    constants: constants!(),
    ..CONV2D_INPUT_GRAD
};

/// [`CONV2D_INPUT_GRAD_SLOPE`] in blocks.
pub static INPUT_GRAD_SLOPE: Kernel = Kernel {
    name: "conv2d_implicit_input_grad_slope",
    source: source!("input_grad"),
    constants: constants!("ACTIVATION"),
    ..CONV2D_INPUT_GRAD_SLOPE
};

/// [`CONV2D_WEIGHT_GRAD`] in blocks.
pub static WEIGHT_GRAD: Kernel = Kernel {
    name: "conv2d_implicit_weight_grad",
    source: source!("weight_grad"),
    constants: constants!(),
    ..CONV2D_WEIGHT_GRAD
};

/// [`CONV2D_WEIGHT_GRAD_SGD`] in blocks.
pub static WEIGHT_GRAD_SGD: Kernel = Kernel {
    name: "conv2d_implicit_weight_grad_sgd",
    source: source!("weight_grad"),
    constants: constants!("DECAY", "EPOCH_STEPS", "SCHEDULE"),
    ..CONV2D_WEIGHT_GRAD_SGD
};

/// [`CONV2D_WEIGHT_GRAD_SGD_MOMENTUM`] in blocks.
pub static WEIGHT_GRAD_SGD_MOMENTUM: Kernel = Kernel {
    name: "conv2d_implicit_weight_grad_sgd_momentum",
    source: source!("weight_grad"),
    constants: constants!("DECAY", "EPOCH_STEPS", "SCHEDULE"),
    ..CONV2D_WEIGHT_GRAD_SGD_MOMENTUM
};

#[cfg(test)]
mod tests {
    use super::super::{Conv2d, Conv2dWeightGrad, ConvEnd};
    use crate::ops::Op;
    use crate::shape::Type;

    /// The kernels for `[N, C, H, H]` to F filters of 3 × 3 in groups: the best forward one, the
    /// best weight gradient, and how many ways each has.
    fn kernels([n, c, h, f]: [usize; 4], groups: usize) -> [(&'static str, usize); 2] {
        let conv = Conv2d {
            stride: [1; 2],
            padding: [1; 2],
            dilation: [1; 2],
            groups,
            end: ConvEnd::Store,
        };
        let ty = |e: &[usize]| Type::f32("test", e).unwrap();
        let (x, y, w) = (
            ty(&[n, c, h, h]),
            ty(&[n, f, h, h]),
            ty(&[f, c / groups, 3, 3]),
        );
        let weights = Conv2dWeightGrad {
            conv,
            kernel: [3; 2],
            update: None,
        };
        let best = |op: &dyn Op, inputs: &[Type], output| {
            let outputs = [output];
            let kernel = op.lower(inputs, &outputs).unwrap().kernel.name;
            (kernel, 1 + op.alternatives(inputs, &outputs).len())
        };
        [
            best(&conv, &[x.clone(), w.clone()], y.clone()),
            best(&weights, &[x, y], w),
        ]
    }

    #[test]
    fn many_channels_are_a_product_in_blocks() {
        let implicit = [("conv2d_implicit", 2), ("conv2d_implicit_weight_grad", 2)];
        assert_eq!(kernels([32, 128, 28, 128], 1), implicit);
        assert_eq!(kernels([64, 64, 56, 64], 2), implicit);
    }

    #[test]
    fn more_places_than_a_grid_has_room_for_are_not() {
        // 65,536 blocks of 128 places; the weight gradient has places along k.
        let [forward, weights] = kernels([1 << 9, 8, 1 << 7, 8], 1);
        assert_eq!(forward, ("conv2d", 1));
        assert_eq!(weights.1, 2);
    }

    #[test]
    fn few_channels_are_not() {
        // Depthwise: a filter for each channel.
        let direct = [("conv2d", 1), ("conv2d_weight_grad", 1)];
        assert_eq!(kernels([32, 128, 28, 128], 128), direct);
        assert_eq!(kernels([10, 1, 28, 7], 1), direct);
        // A few blocks would leave most of a GPU idle.
        let [_, weights] = kernels([10, 32, 14, 32], 1);
        assert_eq!(weights, ("conv2d_weight_grad", 2));
    }
}

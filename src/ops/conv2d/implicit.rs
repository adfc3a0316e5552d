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

use super::{CONV2D, CONV2D_INPUT_GRAD, CONV2D_WEIGHT_GRAD};
use crate::kernel::{Kernel, Port, Target};
use crate::ops::blocks::{Cut, Direct, WORKGROUPS, block_demand, counted, cuts};
use crate::ops::{Alternative, Lowered};

/// Fewer rows or columns than these leave even the smallest block mostly empty.
pub(super) const LEAST: usize = 8;
/// Nanoseconds that a step of a product takes longer than a matrix's: finding the pixels.
pub(super) const PATCH: usize = 450;
/// A direct kernel with a thread for each element.
const ELEMENT: Direct = Direct {
    alone: 57,
    busy: 15,
};
/// The direct weight gradient, whose threads share the sum of a weight and read all over the
/// images for it.
const WEIGHT: Direct = Direct {
    alone: 288,
    busy: 55,
};

/// Nanoseconds of a direct kernel with a thread for each element, each of which adds up so many
/// products.
pub(super) fn direct_cost(threads: usize, products: usize) -> usize {
    ELEMENT.nanoseconds(threads, products)
}

/// The same of the direct weight gradient.
pub(super) fn direct_weight_cost(threads: usize, products: usize) -> usize {
    WEIGHT.nanoseconds(threads, products)
}

/// The variants of a launch, the best for a GPU first: `direct`, which takes `direct_cost`
/// nanoseconds, and by `kernel` the product of `sizes` (rows, columns, k) for each of `groups`.
pub(super) fn variants(
    direct: &Lowered,
    direct_cost: usize,
    kernel: &'static Kernel,
    sizes: [usize; 3],
    groups: usize,
) -> Vec<Alternative> {
    let mut variants = vec![direct.otherwise(Target::Gpu, direct.kernel, direct.grid)];
    let [rows, columns, _] = sizes;
    if rows.min(columns) < LEAST {
        return variants;
    }
    let blocks = |target, cut: Cut| {
        let [x, y] = cut.grid(sizes);
        let more = [("BLOCK", cut.block as f64), ("SHARES", cut.shares as f64)];
        Alternative {
            target,
            kernel,
            constants: [&direct.constants[..], &more].concat(),
            grid: [x as u32, (y * groups) as u32],
        }
    };
    // Of several cuts one: they are one shader, which the matrix product tests in all of them.
    // Where no cut fits, there is one all the same; the direct kernels use both axes.
    let first = |cuts: Vec<Cut>| {
        let cut = cuts.into_iter().find(|cut| cut.shares > 0)?;
        let [x, y] = cut.grid(sizes);
        (x.max(y * groups) <= WORKGROUPS).then_some(cut)
    };
    let for_gpu = first(cuts(groups, sizes, PATCH));
    // A processor has few cores to fill, and what is loaded should be used often: it takes the
    // product always.
    let for_processor = first(counted(groups, sizes));
    let one = for_gpu.map(|cut| cut.block) == for_processor.map(|cut| cut.block);
    if let Some(cut) = for_gpu {
        let at = usize::from(cut.nanoseconds(groups, sizes, PATCH) >= direct_cost);
        let target = if one { Target::Processor } else { Target::Gpu };
        variants.insert(at, blocks(target, cut));
    }
    if let Some(cut) = for_processor.filter(|_| !one) {
        variants.push(blocks(Target::Processor, cut));
    }
    variants
}

/// The modules: everything of the direct kernels, and what the product is made of.
macro_rules! source {
    ($product:literal) => {
        concat!(
            include_str!("../../../shaders/shared/grid.wgsl"),
            include_str!("../../../shaders/shared/tree.wgsl"),
            include_str!("../../../shaders/shared/window.wgsl"),
            include_str!("../../../shaders/shared/nan.wgsl"),
            include_str!("../../../shaders/conv2d.wgsl"),
            include_str!("../../../shaders/shared/blocks.wgsl"),
            include_str!("../../../shaders/shared/elements.wgsl"),
            include_str!("../../../shaders/conv2d/implicit.wgsl"),
            include_str!("../../../shaders/conv2d/finite_weights.wgsl"),
            include_str!(concat!("../../../shaders/conv2d/", $product, ".wgsl")),
            $crate::port!("finish"),
        )
    };
}

/// A convolution's constants, and how the product is cut.
const CONSTANTS: &[&str] = constants!("BLOCK", "SHARES");

/// Results of a thread, at most.
const PORTS: &[Port] = &[Port::finish(2, "64")];

/// [`CONV2D`] in blocks.
pub static FORWARD: Kernel = Kernel {
    name: "conv2d_implicit",
    demand: block_demand!("C / GROUPS * KH * KW", "645"),
    turns: "(C * KH * KW / GROUPS / (1024 / BLOCK) + 1) * (1024 / (BLOCK * SHARES) + 3) + 256",
    source: source!("forward"),
    constants: CONSTANTS,
    ports: PORTS,
    ..CONV2D
};

/// [`CONV2D_INPUT_GRAD`] in blocks.
pub static INPUT_GRAD: Kernel = Kernel {
    name: "conv2d_implicit_input_grad",
    demand: block_demand!("F / GROUPS * KH * KW", "645"),
    // A block that has met a weight which is not finite sums each of its results up again.
    turns: "(F * KH * KW / GROUPS / (1024 / BLOCK) + 1) * (1024 / (BLOCK * SHARES) + 3) + 256 \
            + BLOCK * BLOCK / 256 * ((F / GROUPS + 1) * (2 + KH * (KW + 2)) + 8)",
    source: source!("input_grad"),
    constants: CONSTANTS,
    ports: PORTS,
    ..CONV2D_INPUT_GRAD
};

/// [`CONV2D_WEIGHT_GRAD`] in blocks.
pub static WEIGHT_GRAD: Kernel = Kernel {
    name: "conv2d_implicit_weight_grad",
    demand: block_demand!("N * HO * WO", "645"),
    turns: "(N * HO * WO / (1024 / BLOCK) + 1) * (1024 / (BLOCK * SHARES) + 3) + 256",
    source: source!("weight_grad"),
    constants: CONSTANTS,
    ports: PORTS,
    ..CONV2D_WEIGHT_GRAD
};

#[cfg(test)]
mod tests {
    use super::super::{Conv2d, Conv2dWeightGrad};
    use super::*;
    use crate::ops::Op;
    use crate::ops::blocks::tests::measured;
    use crate::shape::Type;

    /// The kernels for `[N, C, H, H]` to F filters of 3 × 3 in groups: the best forward one, the
    /// best weight gradient, and how many variants each has.
    fn kernels([n, c, h, f]: [usize; 4], groups: usize) -> [(&'static str, usize); 2] {
        let conv = Conv2d {
            stride: [1; 2],
            padding: [1; 2],
            dilation: [1; 2],
            groups,
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
            ending: None,
        };
        let best = |op: &dyn Op, inputs: &[Type], output| {
            let outputs = [output];
            let lowered = op.lower(inputs, &outputs).unwrap();
            let first = &lowered.launches()[0];
            (first.kernel.name, 1 + first.alternatives.len())
        };
        [
            best(&conv, &[x.clone(), w.clone()], y.clone()),
            best(&weights, &[x, y], w),
        ]
    }

    #[test]
    fn many_channels_are_a_product_in_blocks() {
        // Beside the direct kernel and tiles; the weight gradient in parts of the mini-batch, or of filters enough.
        let in_parts = [("conv2d_implicit", 3), ("conv2d_weight_parts", 1)];
        assert_eq!(kernels([32, 128, 28, 128], 1), in_parts);
        let [_, weights] = kernels([64, 64, 56, 64], 2);
        assert_eq!(weights.0, "conv2d_weight_parts");
        let [_, weights] = kernels([32, 512, 7, 512], 1);
        assert_eq!(weights, ("conv2d_implicit_weight_grad", 2));
    }

    #[test]
    fn more_places_than_a_grid_has_room_for_are_not() {
        // 65,536 blocks of 128 places; the weight gradient has places along k.
        let [forward, weights] = kernels([1 << 9, 8, 1 << 7, 8], 1);
        assert_eq!(forward, ("conv2d", 2));
        assert_eq!(weights.0, "conv2d_weight_parts");
    }

    #[test]
    fn what_was_measured_takes_as_long_as_computed() {
        let rows = measured();
        let rows = rows.iter().filter(|row| row.label.starts_with("conv2d "));
        let mut count = 0;
        for row in rows {
            let [n, c, h, _] = row.sizes[..] else {
                panic!("{}", row.label)
            };
            let (places, taps) = (n * h * h, 9 * c);
            let weights = row.label.contains("weight");
            let computed = match row.block {
                Some(block) => {
                    let sizes = if weights {
                        [c, taps, places]
                    } else {
                        [c, places, taps]
                    };
                    let cuts = cuts(1, sizes, PATCH);
                    let cut = cuts.iter().find(|cut| cut.block == block).unwrap();
                    cut.nanoseconds(1, sizes, PATCH)
                }
                None if weights => direct_weight_cost(c * taps * 64, places.div_ceil(64)),
                None => direct_cost(places * c, taps),
            };
            let factor = row.nanoseconds / computed as f64;
            assert!(
                (0.77..1.3).contains(&factor),
                "{} {}: {factor:.2}",
                row.label,
                row.kernel
            );
            count += 1;
        }
        assert_eq!(count, 12);
    }

    #[test]
    fn a_processor_has_a_cut_of_its_own() {
        let conv = Conv2d {
            stride: [1; 2],
            padding: [1; 2],
            dilation: [1; 2],
            groups: 1,
        };
        let ty = |e: &[usize]| Type::f32("test", e).unwrap();
        let inputs = [ty(&[16, 64, 28, 28]), ty(&[128, 64, 3, 3])];
        let (_, variants) = conv.variants(&inputs, &[ty(&[16, 128, 28, 28])]).unwrap();
        let block = |variant: &Alternative| {
            let block = variant.constants.iter().find(|(name, _)| *name == "BLOCK");
            (variant.target, block.map(|(_, block)| *block))
        };
        let variants: Vec<_> = variants.iter().map(block).collect();
        let blocks = [(Target::Gpu, Some(64.0)), (Target::Processor, Some(128.0))];
        let plain = (Target::Gpu, None);
        // The direct kernel; tiles.
        assert_eq!(variants, [blocks[0], plain, blocks[1], plain]);
    }

    #[test]
    fn few_channels_are_not() {
        // Depthwise: a filter for each channel. Tiles may have few filters.
        let direct = |variants| [("conv2d", variants), ("conv2d_weight_grad", 1)];
        assert_eq!(kernels([32, 128, 28, 128], 128), direct(1));
        assert_eq!(kernels([10, 1, 28, 7], 1), direct(2));
        // A few blocks would leave most of a GPU idle.
        let [_, weights] = kernels([10, 32, 14, 32], 1);
        assert_eq!(weights, ("conv2d_weight_grad", 2));
    }
}

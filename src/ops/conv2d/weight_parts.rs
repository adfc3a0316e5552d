//! The weight gradient in two launches, where sums over all places are long and filters few: a product in blocks for each
//! part of the mini-batch, then the sum of the parts ([`parts`]). Sixteen filters of 144 taps are five blocks, which would
//! leave nearly all of a GPU idle for as long as one of them takes. Parts are whole images.

use super::implicit::{self, LEAST, direct_weight_cost};
use super::{CONV2D, CONV2D_WEIGHT_GRAD, LANES, optimized, reference};
use crate::kernel::{Bind, Kernel};
use crate::ops::blocks::{WORKGROUPS, block_demand};
use crate::ops::parts;

/// Parts that are worth a second launch; threads of a processor share them out too.
const FEWEST: usize = 8;
/// Places that a part has at least: the more if there are more, since a processor adds up the lanes of its vectors
/// once for each part.
const PLACES: std::ops::RangeInclusive<usize> = 1024..=2048;
/// Nanoseconds that a step of a block takes longer than a matrix's, where what addresses have in common is kept.
pub(super) const PATCH: usize = 120;

/// How the images of a mini-batch are cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Parts {
    /// Images of each but the last, which has what is left.
    pub images: usize,
    /// Their number.
    pub count: usize,
}

impl Parts {
    /// How so many images of so many places each are cut for the gradient of filters and taps of each of so many groups;
    /// none where one launch is about as fast.
    pub(super) fn of(
        [images, places]: [usize; 2],
        [filters, taps]: [usize; 2],
        groups: usize,
    ) -> Option<Self> {
        if filters.min(taps) < LEAST {
            return None;
        }
        let weights = groups * filters * taps;
        let all = images * places;
        let direct = direct_weight_cost(weights * LANES, all.div_ceil(LANES));
        let (_, whole) = parts::fastest(groups, [filters, taps, all], implicit::PATCH)?;
        let least = (all / FEWEST).clamp(*PLACES.start(), *PLACES.end());
        let most = images / FEWEST;
        // Mini-batches that eight does not divide have parts a little smaller.
        let least = least.div_ceil(places).min(most);
        let least = least.max(PLACES.start().div_ceil(places));
        let ways = (least..=most).filter_map(|each| {
            let count = images.div_ceil(each);
            let fits = filters.div_ceil(32) * groups * count <= WORKGROUPS;
            let sizes = [filters, taps, each * places];
            let (_, time) = parts::fastest(groups * count, sizes, PATCH).filter(|_| fits)?;
            let cut = Self {
                images: each,
                count,
            };
            Some((cut, count, time))
        });
        let slopes = all * filters * groups;
        parts::best(ways, [weights, slopes], direct.min(whole))
    }
}

/// ∂w of each part.
pub static WEIGHT_PARTS: Kernel = Kernel {
    name: "conv2d_weight_parts",
    demand: block_demand!("IMAGES * HO * WO", "200"),
    turns: "(IMAGES * HO * WO / (1024 / BLOCK) + 1) * (1024 / (BLOCK * SHARES) + 3) + 256",
    source: concat!(
        include_str!("../../../shaders/shared/grid.wgsl"),
        include_str!("../../../shaders/shared/tree.wgsl"),
        include_str!("../../../shaders/shared/window.wgsl"),
        include_str!("../../../shaders/shared/nan.wgsl"),
        include_str!("../../../shaders/conv2d.wgsl"),
        include_str!("../../../shaders/shared/blocks.wgsl"),
        include_str!("../../../shaders/conv2d/weight_parts.wgsl"),
        crate::port!("finish"),
    ),
    bindings: &[
        Bind::read("x").of("N * C * H * W"),
        Bind::read("upstream").of("N * F * HO * WO"),
        Bind::write("parts").of("PARTS * F * C * KH * KW / GROUPS"),
    ],
    constants: constants!("IMAGES", "PARTS", "BLOCK", "SHARES"),
    reference: crate::reference!(reference::weight_parts),
    optimized: Some(optimized::weight_parts),
    ports: &[],
    finishing: None,
    ..CONV2D_WEIGHT_GRAD
};

/// ∂w, the sum of the parts.
pub static WEIGHT_SUM: Kernel = Kernel {
    name: "conv2d_weight_sum",
    stem: CONV2D.stem,
    source: concat!(
        include_str!("../../../shaders/shared/grid.wgsl"),
        include_str!("../../../shaders/shared/parts.wgsl"),
        include_str!("../../../shaders/conv2d/weight_sum.wgsl"),
        crate::port!("finish"),
    ),
    ..parts::SUM
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_sums_of_few_filters_are_cut() {
        // A residual network's 3 × 3 convolutions at a mini-batch of 128.
        for (places, filters, taps) in [(1024, 16, 144), (256, 32, 288), (64, 64, 576)] {
            let parts = Parts::of([128, places], [filters, taps], 1).unwrap();
            assert!(PLACES.contains(&(parts.images * places)), "{parts:?}");
            assert!(parts.count >= FEWEST && parts.count * parts.images >= 128);
            assert!((parts.count - 1) * parts.images < 128);
        }
        // Eight does not divide it.
        assert_eq!(
            Parts::of([100, 144], [16, 144], 1).map(|p| p.images),
            Some(12)
        );
    }

    #[test]
    fn what_fills_a_gpu_is_not() {
        // Blocks enough; too few places; a filter for each channel; parts that would be larger than the images' slopes.
        assert_eq!(Parts::of([128, 64], [64, 64 * 49], 1), None);
        assert_eq!(Parts::of([32, 784], [512, 4608], 1), None);
        assert_eq!(Parts::of([10, 196], [32, 288], 1), None);
        assert_eq!(Parts::of([128, 1024], [1, 9], 32), None);
    }
}

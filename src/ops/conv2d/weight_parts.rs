//! The weight gradient in two launches, where sums over all places are long and filters few: a product in blocks
//! for each part of the mini-batch (`shaders/conv2d/weight_parts.wgsl`), then the sum of the parts
//! (`shaders/conv2d/weight_sum.wgsl`): a product with its K split over workgroups. Sixteen filters of 144 taps are five
//! blocks, which would leave nearly all of a GPU idle for as long as one of them takes.
//!
//! Parts are whole images. How many there are depends on sizes alone, so every device adds up in the same parts.

use super::implicit::{self, LEAST, direct_weight_cost};
use super::{CONV2D, CONV2D_WEIGHT_GRAD, LANES, optimized, reference};
use crate::error::Result;
use crate::kernel::{Bind, Demand, Kernel, Port, Target};
use crate::ops::blocks::{Cut, LAUNCH, WORKGROUPS, block_demand, counted, cuts};
use crate::ops::pointwise::{Ended, finished};
use crate::ops::{Alternative, ELEMENTWISE, Lowered, Lowering, Operand, Stages, grid};
use crate::shape::Type;

/// Parts that are worth a second launch; threads of a processor share them out too.
const FEWEST: usize = 8;
/// Places that a part has at least: the more if there are more, since a processor adds up the lanes of its vectors
/// once for each part.
const PLACES: std::ops::RangeInclusive<usize> = 1024..=2048;
/// Elements of all parts at most: 8 MiB.
const ELEMENTS: usize = 1 << 21;
/// Nanoseconds that a step of a block takes longer than a matrix's, where what addresses have in common is kept.
const PATCH: usize = 120;
/// The share of the time of one launch that two may take, in percent.
const WORTH: usize = 75;
/// Teams of the sum's workgroups; `TEAMS` of the shader.
const TEAMS: usize = 4;

/// How the images of a mini-batch are cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Parts {
    /// Images of each but the last, which has what is left.
    pub images: usize,
    /// Their number.
    pub count: usize,
}

/// The cut of a product that a GPU takes, and its nanoseconds.
fn fastest(products: usize, sizes: [usize; 3], more: usize) -> Option<(Cut, usize)> {
    let mut cuts = cuts(products, sizes, more).into_iter();
    let cut = cuts.find(|cut| cut.shares > 0)?;
    Some((cut, cut.nanoseconds(products, sizes, more)))
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
        let whole = fastest(groups, [filters, taps, all], implicit::PATCH)?;
        let one_launch = direct.min(whole.1);
        let least = (all / FEWEST).clamp(*PLACES.start(), *PLACES.end());
        let cuts = (least.div_ceil(places)..=images / FEWEST).map(|each| Self {
            images: each,
            count: images.div_ceil(each),
        });
        let cuts = cuts.filter(|cut| {
            let blocks = filters.div_ceil(32) * groups * cut.count;
            cut.count * weights <= ELEMENTS && blocks <= WORKGROUPS
        });
        let timed = cuts.filter_map(|cut| {
            let sizes = [filters, taps, cut.images * places];
            let (_, product) = fastest(groups * cut.count, sizes, PATCH)?;
            // Four loads of a team at a time; some terabytes a second.
            let loads = cut.count.div_ceil(4 * TEAMS) * 270;
            let sum = LAUNCH + loads + cut.count * weights / 700;
            Some((product + sum, cut))
        });
        let (time, cut) = timed.min_by_key(|(time, _)| *time)?;
        (100 * time <= WORTH * one_launch).then_some(cut)
    }

    /// Both launches; `direct` is the same gradient by [`CONV2D_WEIGHT_GRAD`], `dw` its extents, `ends` what ends the sum.
    pub(super) fn lowered(
        self,
        direct: &Lowered,
        sizes: [usize; 3],
        dw: [usize; 4],
        groups: usize,
        ends: &[Ended<'_>],
        inputs: &[Type],
    ) -> Result<Lowering> {
        let Self { images, count } = self;
        let weights = dw.iter().product::<usize>();
        let products = groups * count;
        let [filters, taps, places] = sizes;
        let sizes = [filters, taps, images * places];
        let by = |cut: Cut| {
            let [x, y] = cut.grid(sizes);
            let more = [
                ("IMAGES", images as f64),
                ("PARTS", count as f64),
                ("BLOCK", cut.block as f64),
                ("SHARES", cut.shares as f64),
            ];
            Alternative {
                target: Target::Gpu,
                kernel: &WEIGHT_PARTS,
                constants: [&direct.constants[..], &more].concat(),
                grid: [x as u32, (y * products) as u32],
            }
        };
        let for_gpu = fastest(products, sizes, PATCH).map(|(cut, _)| cut);
        let mut for_processor = counted(products, sizes).into_iter();
        let for_processor = for_processor.find(|cut| cut.shares > 0);
        let mut variants: Vec<_> = for_gpu.map(by).into_iter().collect();
        if for_processor.map(|cut| cut.block) != for_gpu.map(|cut| cut.block) {
            variants.extend(for_processor.map(by).map(|by| Alternative {
                target: Target::Processor,
                ..by
            }));
        }
        let product = Lowered {
            operands: vec![Operand::In(0), Operand::In(1), Operand::Scratch(0)],
            ..direct.clone()
        };
        let sum = Lowered {
            kernel: &WEIGHT_SUM,
            constants: vec![("PARTS", count as f64), ("SIZE", weights as f64)],
            operands: vec![Operand::Scratch(0), Operand::Out(0)],
            grid: grid(weights, ELEMENTWISE),
            flops: (count * weights) as u64,
            alternatives: vec![],
        };
        let [f, per, kh, kw] = dw;
        Ok(Lowering::Stages(Stages {
            scratch: vec![Type::f32("conv2d", &[count, f, per, kh, kw])?],
            launches: vec![product.by(variants), finished(sum, ends, inputs)?],
        }))
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
    demand: Demand {
        rounds: "PARTS / 16 + 2",
        barriers: "1",
        issue: "PARTS * 2 + 60",
        words: "PARTS * 64 + 64",
        ..Demand::UNSTATED
    },
    turns: "PARTS / 4 + 8",
    source: concat!(
        include_str!("../../../shaders/shared/grid.wgsl"),
        include_str!("../../../shaders/conv2d/weight_sum.wgsl"),
        crate::port!("finish"),
    ),
    bindings: &[
        Bind::read("parts").of("PARTS * SIZE"),
        Bind::write("dw").of("SIZE"),
    ],
    constants: &["PARTS", "SIZE"],
    reference: crate::reference!(reference::weight_sum),
    optimized: Some(optimized::weight_sum),
    ports: &[Port::finish(1, "1")],
    finishing: None,
    ..CONV2D
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
    }

    #[test]
    fn what_fills_a_gpu_is_not() {
        // Blocks enough; too few places; a filter for each channel.
        assert_eq!(Parts::of([32, 784], [512, 4608], 1), None);
        assert_eq!(Parts::of([10, 196], [32, 288], 1), None);
        assert_eq!(Parts::of([128, 1024], [1, 9], 32), None);
    }
}

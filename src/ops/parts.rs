//! Long sums with few results, in two launches: products in blocks of parts of what is summed over, then the sum of the
//! parts (`shaders/shared/parts.wgsl`). One launch has a workgroup for each block of results, which leaves most of a GPU
//! idle where they are few: a product with its K split over workgroups fills it.
//!
//! How many parts there are depends on sizes alone, so every device adds up in the same parts.

use super::blocks::{Cut, LAUNCH, counted, cuts};
use super::pointwise::{Ended, finished};
use super::{Alternative, ELEMENTWISE, Lowered, Lowering, Operand, Stages, grid};
use crate::error::Result;
use crate::kernel::{Args, Bind, Demand, Kernel, Port, Target};
use crate::shape::Type;
use crate::tensor::Real;

/// Elements of all parts at most: 8 MiB.
const ELEMENTS: usize = 1 << 21;
/// The share of the time of one launch that two may take, in percent.
const WORTH: usize = 75;
/// Teams of the sum's workgroups; `TEAMS` of the shader.
const TEAMS: usize = 4;

/// The cut of so many products that a GPU takes, and its nanoseconds; `more` as of [`Cut::nanoseconds`].
pub(super) fn fastest(products: usize, sizes: [usize; 3], more: usize) -> Option<(Cut, usize)> {
    let mut cuts = cuts(products, sizes, more).into_iter();
    let cut = cuts.find(|cut| cut.shares > 0)?;
    Some((cut, cut.nanoseconds(products, sizes, more)))
}

/// Nanoseconds of the sum of so many parts, by four loads of a team at a time and some terabytes a second.
fn sum(count: usize, results: usize) -> usize {
    LAUNCH + count.div_ceil(4 * TEAMS) * 270 + count * results / 700
}

/// Of several ways to cut (how many parts, the nanoseconds of their product) the fastest whose parts have no more elements
/// than an operand of so many has, if it is clearly faster than one launch of `one_launch` nanoseconds. So no launch binds
/// more for being cut.
pub(super) fn best<W>(
    ways: impl Iterator<Item = (W, usize, usize)>,
    [results, operand]: [usize; 2],
    one_launch: usize,
) -> Option<W> {
    let fits = |count: usize| count * results <= operand.min(ELEMENTS);
    let ways = ways.filter(|(_, count, _)| fits(*count));
    let timed = ways.map(|(way, count, product)| (product + sum(count, results), way));
    let (time, way) = timed.min_by_key(|(time, _)| *time)?;
    (100 * time <= WORTH * one_launch).then_some(way)
}

/// The variants of the products' launch: the cut for a GPU first, that for a processor if it is another.
pub(super) fn variants(
    kernel: &'static Kernel,
    constants: &[(&'static str, f64)],
    (products, sizes): (usize, [usize; 3]),
    more: usize,
) -> Vec<Alternative> {
    let by = |target, cut: Cut| {
        let [x, y] = cut.grid(sizes);
        let own = [("BLOCK", cut.block as f64), ("SHARES", cut.shares as f64)];
        Alternative {
            target,
            kernel,
            constants: [constants, &own].concat(),
            grid: [x as u32, (y * products) as u32],
        }
    };
    let for_gpu = fastest(products, sizes, more).map(|(cut, _)| cut);
    let mut for_processor = counted(products, sizes).into_iter();
    let for_processor = for_processor.find(|cut| cut.shares > 0);
    let other = for_processor.filter(|cut| Some(cut.block) != for_gpu.map(|cut| cut.block));
    let variants = [
        for_gpu.map(|cut| by(Target::Gpu, cut)),
        other.map(|cut| by(Target::Processor, cut)),
    ];
    variants.into_iter().flatten().collect()
}

/// Both launches: `product`, whose output is the parts, and by the kernel `sum` their sum of these extents, where `ends`
/// stand.
pub(super) fn lowered(
    product: Lowered,
    sum: &'static Kernel,
    (count, extents): (usize, &[usize]),
    ends: &[Ended<'_>],
    inputs: &[Type],
) -> Result<Lowering> {
    let results = extents.iter().product::<usize>();
    let product = Lowered {
        operands: vec![Operand::In(0), Operand::In(1), Operand::Scratch(0)],
        ..product
    };
    let sum = Lowered {
        kernel: sum,
        constants: vec![("PARTS", count as f64), ("SIZE", results as f64)],
        operands: vec![Operand::Scratch(0), Operand::Out(0)],
        grid: grid(results, ELEMENTWISE),
        flops: (count * results) as u64,
        alternatives: vec![],
    };
    Ok(Lowering::Stages(Stages {
        scratch: vec![Type::f32("parts of a sum", &[&[count], extents].concat())?],
        launches: vec![product, finished(sum, ends, inputs)?],
    }))
}

/// The sum of parts `[PARTS, SIZE]`; an op's own has a name, a stem and a text with an entry point of that name.
pub(super) const SUM: Kernel = Kernel {
    name: "",
    stem: "",
    source: "",
    demand: Demand {
        rounds: "PARTS / 16 + 2",
        barriers: "1",
        issue: "PARTS * 2 + 60",
        words: "PARTS * 64 + 64",
        ..Demand::UNSTATED
    },
    turns: "PARTS / 4 + 8",
    bindings: &[
        Bind::read("parts").of("PARTS * SIZE"),
        Bind::write("all").of("SIZE"),
    ],
    constants: &["PARTS", "SIZE"],
    reference: crate::reference!(reference),
    optimized: Some(reference::<f32>),
    trusted: true,
    ports: &[Port::finish(1, "1")],
    finishing: None,
};

fn reference<T: Real>(a: &mut Args<'_, T>) {
    let (parts, all) = (a.f(0), a.f_mut(1));
    let (first, others) = parts.split_at(all.len());
    all.copy_from_slice(first);
    for part in others.chunks(all.len()) {
        for (sum, &v) in all.iter_mut().zip(part) {
            *sum += v;
        }
    }
}

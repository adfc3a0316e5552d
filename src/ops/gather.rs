//! A mini-batch out of resident data: bytes become numbers when they are needed.
//!
//! Example n of step t stands at place q = (t mod epoch steps) · batch + n of the epoch,
//! which is example e = order\[q\] (or q, unshuffled). Of an expanded data set e names
//! image e mod images and view ⌊e / images⌋, so the book's 250,000 expanded images
//! (chapter 6, `expand_mnist.py`) are 50,000 images and an index. Nothing is
//! differentiated: data has no gradient.

use serde::{Deserialize, Serialize};

use super::launch::SINGLE_ELEMENTS;
use super::{
    Alternative, Case, ELEMENTWISE, Fill, Lowered, Lowering, NEXT, NOW, Op, Operand, counter,
    epoch_steps, exactly, grid,
};
use crate::error::{Error, Result};
use crate::kernel::{Args, Bind, Demand, Kernel, Target};
use crate::shape::Type;
use crate::tensor::Real;

/// Virtual expansion of the training images.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Expansion {
    /// The images as they are.
    #[default]
    None,
    /// Five views of each image: as it is, and moved by one pixel up, down, left, right.
    Shifts,
}

impl Expansion {
    /// Views of each image.
    pub fn factor(self) -> usize {
        match self {
            Self::None => 1,
            Self::Shifts => 5,
        }
    }
}

/// Inputs: images (bytes packed in fours, `[images C H W / 4]`, shared), labels
/// `[images]` (shared), step `[2]` (updated: it begins) and, if shuffled, order
/// `[images · factor]`.
/// Outputs: x `[batch, C, H, W]` and labels `[batch]`.
///
/// Places past the end of the data give the last example again.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Gather {
    /// Examples in a mini-batch.
    pub batch: usize,
    /// Images there are.
    pub images: usize,
    /// Shape of one image, `[C, H, W]`.
    pub shape: [usize; 3],
    /// Virtual expansion; only of shuffled data.
    pub expansion: Expansion,
    /// Steps in an epoch.
    pub epoch_steps: usize,
    /// What a byte is multiplied by: 1/255 for 0 to 1.
    pub scale: f64,
    /// Whether an order is given.
    pub shuffled: bool,
}

impl Op for Gather {
    fn name(&self) -> &'static str {
        "gather"
    }

    fn infer(&self, inputs: &[Type]) -> Result<Vec<Type>> {
        let wanted = if self.shuffled { 4 } else { 3 };
        if inputs.len() != wanted {
            return Err(Error::shape(
                "gather",
                format!("{} inputs", inputs.len()),
                format!("{wanted}: images, labels, step and, if shuffled, order"),
            ));
        }
        if self.expansion != Expansion::None && !self.shuffled {
            return Err(Error::setting(
                "expansion",
                "data in order",
                "shuffled data",
            ));
        }
        let [c, h, w] = self.shape;
        let x = Type::f32("gather", &[self.batch, c, h, w])?;
        let bytes = crate::shape::Shape::new("images", &[self.images, c, h, w])?.elements();
        let shared = |extents: &[usize]| Type::u32("gather", extents).map(Type::shared);
        exactly(
            "gather",
            "images",
            &inputs[0],
            &shared(&[bytes.div_ceil(4)])?,
        )?;
        exactly("gather", "labels", &inputs[1], &shared(&[self.images])?)?;
        counter("gather", &inputs[2])?;
        if self.shuffled {
            let examples = self.images.saturating_mul(self.expansion.factor());
            exactly(
                "gather",
                "order",
                &inputs[3],
                &Type::u32("order", &[examples])?,
            )?;
        }
        epoch_steps("gather", self.epoch_steps)?;
        Ok(vec![x, Type::u32("gather", &[self.batch])?])
    }

    fn lower(&self, _: &[Type], outputs: &[Type]) -> Result<Lowering> {
        let [c, h, w] = self.shape.map(|e| e as f64);
        let mut constants = vec![
            ("BATCH", self.batch as f64),
            ("IMAGES", self.images as f64),
            ("C", c),
            ("H", h),
            ("W", w),
            ("EPOCH_STEPS", self.epoch_steps as f64),
            ("SCALE", self.scale),
        ];
        let mut operands: Vec<Operand> = (0..3).map(Operand::In).collect();
        let kernel = if self.shuffled {
            constants.push(("EXPANSION", self.expansion.factor() as f64));
            operands.push(Operand::In(3));
            &GATHER_SHUFFLED
        } else {
            &GATHER
        };
        operands.extend([Operand::Out(0), Operand::Out(1)]);
        let mut lowered = Lowered {
            kernel,
            constants,
            operands,
            grid: grid(outputs[0].elements(), ELEMENTWISE),
            flops: outputs[0].elements() as u64,
            alternatives: vec![],
        };
        lowered.alternatives = self.alternatives(&lowered);
        Ok(Lowering::Launch(lowered))
    }
}

impl Gather {
    /// Other variants of the usual launch.
    fn alternatives(&self, usual: &Lowered) -> Vec<Alternative> {
        let size: usize = self.shape.iter().product();
        if !self.shuffled {
            return vec![];
        }
        let mut variants = match self.batch * size <= SINGLE_ELEMENTS {
            true => usual.by_one_workgroup(&GATHER_SHUFFLED_SINGLE, 0),
            false => vec![],
        };
        // These kernels count bytes in 31 bits.
        if self.images * size >= 1 << 31 {
            return variants;
        }
        if self.expansion.factor() == 1 && size.is_multiple_of(RUN) && self.batch <= 65_535 {
            let grid = [self.batch as u32, 1];
            variants.push(usual.otherwise(Target::Processor, &GATHER_SHUFFLED_RUNS, grid));
        }
        let grid = grid(self.batch * size.div_ceil(RUN), ELEMENTWISE);
        variants.push(usual.otherwise(Target::Processor, &GATHER_SHUFFLED_WIDE, grid));
        variants
    }
}

/// Pixels of one thread's run; `RUN` of the shader.
const RUN: usize = 16;

/// Examples in their own order.
pub static GATHER: Kernel = Kernel {
    name: "gather",
    turns: "0",
    stem: "gather",
    source: concat!(
        include_str!("../../shaders/shared/grid.wgsl"),
        include_str!("../../shaders/gather.wgsl"),
    ),
    bindings: &[
        Bind::read("images")
            .u32()
            .shared()
            .of("IMAGES * C * H * W / 4"),
        Bind::read("labels").u32().shared().of("IMAGES"),
        Bind::update("step").u32().of("2"),
        Bind::write("x").of("BATCH * C * H * W"),
        Bind::write("y").u32().of("BATCH"),
    ],
    constants: &["BATCH", "IMAGES", "C", "H", "W", "EPOCH_STEPS", "SCALE"],
    reference: crate::reference!(gather),
    optimized: Some(gather_fast),
    // Two thirds of the loads that `gather_shuffled` waits for.
    demand: Demand {
        rounds: "6",
        issue: "60",
        words: "192",
        ..Demand::UNSTATED
    },
    trusted: true,
    ports: &[],
    finishing: None,
};

/// Examples in the epoch's order, perhaps expanded.
pub static GATHER_SHUFFLED: Kernel = Kernel {
    name: "gather_shuffled",
    demand: Demand {
        rounds: "9",
        issue: "60",
        words: "192",
        ..Demand::UNSTATED
    },
    turns: "0",
    bindings: &[
        Bind::read("images")
            .u32()
            .shared()
            .of("IMAGES * C * H * W / 4"),
        Bind::read("labels").u32().shared().of("IMAGES"),
        Bind::update("step").u32().of("2"),
        Bind::read("order").u32().of("IMAGES * EXPANSION"),
        Bind::write("shuffled_x").of("BATCH * C * H * W"),
        Bind::write("shuffled_y").u32().of("BATCH"),
    ],
    constants: &[
        "BATCH",
        "IMAGES",
        "C",
        "H",
        "W",
        "EPOCH_STEPS",
        "SCALE",
        "EXPANSION",
    ],
    reference: crate::reference!(gather_shuffled),
    optimized: Some(gather_shuffled_fast),
    ..GATHER
};

/// [`GATHER_SHUFFLED`] by threads that each take a run of pixels.
pub static GATHER_SHUFFLED_WIDE: Kernel = Kernel {
    name: "gather_shuffled_wide",
    demand: Demand {
        rounds: "16",
        issue: "250",
        words: "1500",
        ..Demand::UNSTATED
    },
    turns: "32",
    ..GATHER_SHUFFLED
};

/// [`GATHER_SHUFFLED_WIDE`] of images that are not moved and whose pixels are whole runs.
pub static GATHER_SHUFFLED_RUNS: Kernel = Kernel {
    name: "gather_shuffled_runs",
    demand: Demand::UNSTATED,
    turns: "C * H * W / 128 + 2",
    ..GATHER_SHUFFLED
};

/// [`GATHER_SHUFFLED`] by one workgroup.
pub static GATHER_SHUFFLED_SINGLE: Kernel = Kernel {
    name: "gather_shuffled_single",
    // The rounds of `gather_shuffled` for each eight elements.
    demand: Demand {
        rounds: "BATCH * C * H * W / THREADS / 8 * 9 + 1",
        issue: "BATCH * C * H * W / THREADS * (8 + 7 * EXPANSION) + 50",
        words: "BATCH * C * H * W * 3 / 2 + BATCH",
        ..Demand::UNSTATED
    },
    turns: "BATCH * C * H * W / THREADS + BATCH / THREADS",
    source: concat!(
        include_str!("../../shaders/gather.wgsl"),
        include_str!("../../shaders/shared/grid.wgsl"),
        include_str!("../../shaders/shared/single.wgsl"),
        include_str!("../../shaders/gather/single.wgsl"),
    ),
    constants: &[
        "BATCH",
        "IMAGES",
        "C",
        "H",
        "W",
        "EPOCH_STEPS",
        "SCALE",
        "EXPANSION",
        "THREADS",
    ],
    ..GATHER_SHUFFLED
};

/// The kernels of this file.
pub static KERNELS: &[&Kernel] = &[
    &GATHER,
    &GATHER_SHUFFLED,
    &GATHER_SHUFFLED_WIDE,
    &GATHER_SHUFFLED_RUNS,
    &GATHER_SHUFFLED_SINGLE,
];

fn gather<T: Real>(a: &mut Args<'_, T>) {
    let last = a.size("IMAGES") - 1;
    let (first, x, y) = (begin(a), a.f_mut(3), a.u_mut(4));
    examples(a, first, x, y, |place| (place.min(last), 0));
}

fn gather_shuffled<T: Real>(a: &mut Args<'_, T>) {
    let (images, order) = (a.size("IMAGES"), a.u(3)); // [images · factor]
    let (first, x, y) = (begin(a), a.f_mut(4), a.u_mut(5));
    examples(a, first, x, y, |place| {
        let example = order[place.min(order.len() - 1)] as usize;
        (example % images, example / images)
    });
}

/// Begins the step: the next one is the one now under way. Returns its first place.
fn begin<T: Real>(a: &mut Args<'_, T>) -> usize {
    let step = a.u_mut(2); // [2]
    step[NOW] = step[NEXT];
    step[NOW] as usize % a.size("EPOCH_STEPS") * a.size("BATCH")
}

fn gather_fast(a: &mut Args<'_, f32>) {
    let last = a.size("IMAGES") - 1;
    let (first, x, y) = (begin(a), a.f_mut(3), a.u_mut(4));
    examples_fast(a, first, x, y, |place| (place.min(last), 0));
}

fn gather_shuffled_fast(a: &mut Args<'_, f32>) {
    let (images, order) = (a.size("IMAGES"), a.u(3)); // [images · factor]
    let (first, x, y) = (begin(a), a.f_mut(4), a.u_mut(5));
    examples_fast(a, first, x, y, |place| {
        let example = order[place.min(order.len() - 1)] as usize;
        (example % images, example / images)
    });
}

/// Row by row, where words in memory are bytes in order.
fn examples_fast(
    a: &Args<'_, f32>,
    first: usize,
    x: &mut [f32],
    y: &mut [u32],
    find: impl Fn(usize) -> (usize, usize),
) {
    if cfg!(target_endian = "big") {
        return examples(a, first, x, y, find);
    }
    let (h, w) = (a.size("H"), a.size("W"));
    let size = a.size("C") * h * w;
    let (bytes, labels) = (bytemuck::cast_slice::<u32, u8>(a.u(0)), a.u(1));
    let scale = a.number("SCALE") as f32;
    for (n, (x, y)) in x.chunks_mut(size).zip(y).enumerate() {
        let (image, view) = find(first + n);
        *y = labels[image];
        let bytes = &bytes[image * size..][..size];
        // Columns that are copied, and the column that the first comes from.
        let (columns, from) = match view {
            3 => (0..w - 1, 1),
            4 => (1..w, 0),
            _ => (0..w, 0),
        };
        pulp::Arch::new().dispatch(Rows {
            h,
            w,
            view,
            columns,
            from,
            scale,
            bytes,
            x,
        });
    }
}

/// One image, row by row.
struct Rows<'a> {
    h: usize,
    w: usize,
    /// Which of its views.
    view: usize,
    /// Columns that are copied.
    columns: std::ops::Range<usize>,
    /// The column that the first comes from.
    from: usize,
    scale: f32,
    bytes: &'a [u8],
    x: &'a mut [f32],
}

impl pulp::WithSimd for Rows<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: pulp::Simd>(self, _: S) {
        let (h, w, columns) = (self.h, self.w, self.columns);
        for (row, x) in self.x.chunks_exact_mut(w).enumerate() {
            let from_row = match self.view {
                1 => (row % h + 1 < h).then(|| row + 1),
                2 => (row % h > 0).then(|| row - 1),
                _ => Some(row),
            };
            let Some(from_row) = from_row else {
                x.fill(0.0);
                continue;
            };
            x[..columns.start].fill(0.0);
            x[columns.end..].fill(0.0);
            let bytes = &self.bytes[from_row * w + self.from..];
            for (x, &byte) in x[columns.clone()].iter_mut().zip(bytes) {
                *x = self.scale * f32::from(byte);
            }
        }
    }
}

/// Fills x `[batch, C, H, W]` and y `[batch]`, from place `first` on; `find` gives image and
/// view of a place.
fn examples<T: Real>(
    a: &Args<'_, T>,
    first: usize,
    x: &mut [T],
    y: &mut [u32],
    find: impl Fn(usize) -> (usize, usize),
) {
    let (c, h, w) = (a.size("C"), a.size("H"), a.size("W"));
    let (words, labels) = (a.u(0), a.u(1)); // [images C H W / 4], [images]
    let scale = T::of(a.number("SCALE"));
    for (n, (x, y)) in x.chunks_mut(c * h * w).zip(y).enumerate() {
        let (image, view) = find(first + n);
        *y = labels[image];
        // (row, column) that a pixel comes from.
        let (down, right): (isize, isize) = [(0, 0), (1, 0), (-1, 0), (0, 1), (0, -1)]
            .get(view)
            .copied()
            .unwrap_or((0, 0));
        for (e, x) in x.iter_mut().enumerate() {
            let row = (e / w % h).checked_add_signed(down).filter(|&r| r < h);
            let col = (e % w).checked_add_signed(right).filter(|&c| c < w);
            *x = match (row, col) {
                (Some(row), Some(col)) => {
                    let at = ((image * c + e / (w * h)) * h + row) * w + col;
                    let byte = words[at / 4] >> (8 * (at % 4)) & 255;
                    scale * T::of(f64::from(byte))
                }
                _ => T::ZERO,
            };
        }
    }
}

/// One pixel, odd sizes whose bytes straddle words, several channels, every view, the
/// middle of a later epoch, places past the end.
pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (batch, images, shape, step) in [
        (1, 1, [1, 1, 1], 0),
        (3, 7, [1, 5, 3], 1),
        (5, 9, [2, 3, 3], 3),
        (4, 6, [3, 7, 5], 5),
        (3, 5, [1, 4, 12], 1),
        (2, 3, [2, 12, 12], 3),
        (5, 6, [1, 21, 17], 1),
        (9, 4, [2, 12, 12], 3),
    ] {
        for expansion in [None, Some(Expansion::None), Some(Expansion::Shifts)] {
            let gather = Gather {
                batch,
                images,
                shape,
                expansion: expansion.unwrap_or_default(),
                epoch_steps: 2,
                scale: 1.0 / 255.0,
                shuffled: expansion.is_some(),
            };
            let words = (images * shape.iter().product::<usize>()).div_ceil(4);
            let mut case = Case::new(gather, 1)
                .shared_u32(&[words], Fill::Words)
                .shared_u32(&[images], Fill::Below(10))
                .u32(&[2], Fill::Pair(step, 77));
            if let Some(e) = expansion {
                let examples = images * e.factor();
                case = case.u32(&[examples], Fill::Below(examples as u32));
            }
            cases.push(case);
        }
    }
    cases
}

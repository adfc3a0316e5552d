//! Kernels for GPUs with many threads: a workgroup brings planes into its memory once and shares
//! every sum over them. They do what the kernels that they are named after do, for convolutions
//! of stride 1 without padding or dilation.
//!
//! A training step of a small mini-batch is bound by loads that wait for each other: measured on an
//! H200, `results/h200/designs.txt`. So each kernel has two rounds of loads and then works in
//! workgroup memory.

use super::kernels::{STAGED_SOURCE, constants};
use super::*;
use crate::kernel::Demand;

/// Threads and bytes that a workgroup may have: the best first, then every adapter's.
const SIZES: [Size; 2] = [Size::new(512, 32 << 10), Size::new(256, 16 << 10)];

/// Pooled places from which the weight gradient's sums are shared by more threads.
const MANY: usize = 8192;
const WIDEST: Size = Size::new(1024, 32 << 10);

/// The longest row of taps that the weight gradient has registers for; `MOST_COLUMNS` of the shader.
const MOST_COLUMNS: usize = 8;

/// Workgroups that fill a large GPU a few times over.
const GROUPS: usize = 512;

/// Workgroups of the weight gradient that are enough.
const ENOUGH: usize = 200;

/// Threads that add up parts of a sum.
const PARTS: usize = 16;

#[derive(Clone, Copy)]
struct Size {
    threads: usize,
    bytes: usize,
}

impl Size {
    const fn new(threads: usize, bytes: usize) -> Self {
        Self { threads, bytes }
    }

    fn target(self) -> Target {
        Target::Workgroup {
            threads: self.threads as u32,
            bytes: self.bytes as u32,
        }
    }
}

/// How the work of one image and 2 `pairs` filters or channels is laid out in a workgroup.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Layout {
    threads: usize,
    teams: usize,
    chunk: usize,
    pairs: usize,
    squares: usize,
    head: usize,
    memory: usize,
    weights: usize,
}

/// Bytes of a workgroup's memory that are not the planes' nor the weights'.
const SMALL: usize = 32;

impl Layout {
    /// The layout of sums over `planes` planes of an input of `[h, w]` for `squares` squares of places,
    /// with `head` zeros before them, if a workgroup of `size` has room for it.
    fn of(
        planes: usize,
        [h, w]: [usize; 2],
        kernel: [usize; 2],
        (squares, pairs, head): (usize, usize, usize),
        size: Size,
    ) -> Option<Self> {
        let plane = (h * w) | 1;
        let taps = kernel[0] * kernel[1];
        let share = 8 * pairs * squares;
        let room = size.bytes.checked_sub(SMALL)? / 4;
        // Words of a chunk of planes, its weights included.
        let around = head + w + 2;
        let words = |chunk: usize| around + chunk * (plane + 2 * pairs * taps);
        let most = room.checked_sub(around)? / (plane + 2 * pairs * taps);
        let chunk = most.min(planes);
        let most_teams = (size.threads / squares).min(chunk).min(room / 2 / share);
        if chunk == 0 || most_teams == 0 {
            return None;
        }
        // Equal turns of the teams, and of the chunks.
        let turns = chunk.div_ceil(most_teams);
        let teams = chunk.div_ceil(turns);
        let chunk = match planes > chunk {
            true => planes.div_ceil(planes.div_ceil(chunk)),
            false => chunk,
        };
        let memory = (around + chunk * plane).max(teams * share);
        let weights = chunk * taps * pairs;
        let fits = 4 * (memory + 2 * weights) + SMALL <= size.bytes && words(chunk) <= room;
        fits.then_some(Self {
            threads: teams * squares,
            teams,
            chunk,
            pairs,
            squares,
            head,
            memory,
            weights,
        })
    }

    fn constants(&self) -> [(&'static str, f64); 8] {
        [
            ("THREADS", self.threads as f64),
            ("TEAMS", self.teams as f64),
            ("CHUNK", self.chunk as f64),
            ("PAIRS", self.pairs as f64),
            ("SQUARES", self.squares as f64),
            ("HEAD", self.head as f64),
            ("MEMORY", self.memory as f64),
            ("WEIGHTS", self.weights as f64),
        ]
    }
}

/// The usual launch by another kernel that has more constants.
fn variant(
    usual: &Lowered,
    size: Size,
    kernel: &'static Kernel,
    constants: &[(&'static str, f64)],
    items: usize,
) -> Alternative {
    let mut variant = usual.otherwise(size.target(), kernel, grid(items, 1));
    variant.constants.extend(constants);
    variant
}

/// One variant for each size that has room, without a second that is the first.
fn variants<L: PartialEq>(
    layout: impl Fn(Size) -> Option<L>,
    make: impl Fn(Size, &L) -> Alternative,
) -> Vec<Alternative> {
    let fitting = SIZES
        .into_iter()
        .filter_map(|size| Some((size, layout(size)?)));
    let mut all: Vec<(Size, L)> = fitting.collect();
    // What fits everywhere need not ask for more.
    if let [(_, large), (_, small)] = &all[..]
        && large == small
    {
        all.remove(0);
    }
    all.iter()
        .map(|(size, layout)| make(*size, layout))
        .collect()
}

/// Variants of the forward launch.
pub(super) fn forward(
    usual: &Lowered,
    filters: [usize; 4],
    (s, [po, qo]): (Sizes, [usize; 2]),
    groups: usize,
) -> Vec<Alternative> {
    let blocks = groups * (s.f / groups).div_ceil(2);
    let layout = |size| {
        Layout::of(
            s.c / groups,
            s.input,
            [filters[2], filters[3]],
            (po * qo, 1, 0),
            size,
        )
    };
    variants(layout, |size, layout| {
        variant(usual, size, &FORWARD, &layout.constants(), s.n * blocks)
    })
}

/// Variants of the input gradient's launch, for windows that do not overlap.
pub(super) fn input_grad(
    usual: &Lowered,
    [kh, kw]: [usize; 2],
    s: &Sizes,
    groups: usize,
) -> Vec<Alternative> {
    let channels = s.c / groups;
    let [h, w] = s.input;
    let squares = h.div_ceil(2) * w.div_ceil(2);
    // Four channels at a time read the gradients less often, two make more workgroups.
    let pairs = if s.n * groups * channels.div_ceil(4) >= GROUPS {
        2
    } else {
        1
    };
    let head = (kh - 1) * w + kw - 1;
    let layout = |size| {
        Layout::of(
            s.f / groups,
            s.input,
            [kh, kw],
            (squares, pairs, head),
            size,
        )
    };
    let blocks = groups * channels.div_ceil(2 * pairs);
    variants(layout, |size, layout| {
        variant(usual, size, &INPUT_GRAD, &layout.constants(), s.n * blocks)
    })
}

/// Variants of the weight gradient's launch.
pub(super) fn weight_grad(
    usual: &Lowered,
    kernel: &'static Kernel,
    [kh, kw]: [usize; 2],
    s: &Sizes,
    (groups, places): (usize, usize),
) -> Vec<Alternative> {
    if kw > MOST_COLUMNS {
        return vec![];
    }
    let rows = s.c / groups * kh;
    let places = s.n * places;
    let layout = |size: Size| {
        let size = match size.threads > 256 && places >= MANY {
            true => WIDEST,
            false => size,
        };
        let own = (rows * s.f / ENOUGH).clamp(1, size.threads / 16).min(rows);
        let most = (size.threads / own).min(places.next_power_of_two());
        // The last power of two up to it.
        let shares = (most / 2 + 1).next_power_of_two();
        let memory = (own * kw + 1) * shares;
        let parts = if shares > PARTS { PARTS } else { 1 };
        let partial = (own * kw + 1) * parts;
        let fits = 4 * (memory + partial) + SMALL <= size.bytes;
        fits.then_some((size.threads, own, shares, memory, parts, partial))
    };
    variants(
        layout,
        |size, &(threads, own, shares, memory, parts, partial)| {
            let size = if threads > size.threads { WIDEST } else { size };
            let blocks = s.f * rows.div_ceil(own);
            let constants = [
                ("THREADS", (own * shares) as f64),
                ("MEMORY", memory as f64),
                ("WEIGHTS", partial as f64),
                ("ROWS", own as f64),
                ("PARTS", parts as f64),
            ];
            let mut variant = variant(usual, size, kernel, &constants, blocks);
            let share = variant
                .constants
                .iter_mut()
                .find(|(name, _)| *name == "SHARES");
            if let Some((_, value)) = share {
                *value = shares as f64;
            }
            variant
        },
    )
}

pub(super) static FORWARD: Kernel = Kernel {
    name: "conv2d_pool_staged",
    demand: Demand {
        rounds: "C / GROUPS * H * W / THREADS / 4 + 2",
        barriers: "4",
        issue: "C / GROUPS / TEAMS * KH * KW * (16 * PAIRS + 8) + C / GROUPS * H * W / THREADS * 12 + 150",
        words: "C / GROUPS * (H * W + 2 * KH * KW * PAIRS) + 4 * THREADS",
        ..Demand::UNSTATED
    },
    turns: "(C / GROUPS + CHUNK) * (2 + KH * (KW + 1)) + (C / GROUPS / CHUNK + 1) * (CHUNK * (H * W + KH \
            * KW * PAIRS) / THREADS + 4) + (2 * PAIRS * SQUARES / THREADS + 1) * (4 * TEAMS + 8)",
    source: STAGED_SOURCE,
    constants: constants!(
        "THREADS", "TEAMS", "CHUNK", "PAIRS", "SQUARES", "HEAD", "MEMORY", "WEIGHTS"
    ),
    ports: &[Port::finish(3, "2 * PAIRS * SQUARES / THREADS")],
    ..CONV2D_POOL
};

pub(super) static INPUT_GRAD: Kernel = Kernel {
    name: "conv2d_pool_input_grad_staged",
    demand: Demand {
        rounds: "F / GROUPS / CHUNK * 5 + 2",
        barriers: "F / GROUPS / CHUNK * 4 + 2",
        issue: "F / GROUPS / TEAMS * KH * KW * (16 * PAIRS + 8) + F / GROUPS * H * W / THREADS * 8 + 200",
        words: "F / GROUPS * (2 * PO * QO + 2 * KH * KW * PAIRS) + 4 * THREADS",
        ..Demand::UNSTATED
    },
    turns: "(F / GROUPS + CHUNK) * (2 + KH * (KW + 1)) + (F / GROUPS / CHUNK + 1) * (2 * MEMORY / THREADS + \
            (CHUNK * KH * KW * PAIRS + CHUNK * PO * QO) / THREADS + 16) + (2 * PAIRS * H * W / THREADS + 1) \
            * (TEAMS + 4 + (F / GROUPS + 1) * (2 + ((KH + PKH) / PSH + 1) * ((KW + PKW) / PSW + 3)))",
    source: STAGED_SOURCE,
    constants: FORWARD.constants,
    ports: &[Port::finish(3, "2 * PAIRS * H * W / THREADS")],
    ..CONV2D_POOL_INPUT_GRAD
};

const WEIGHT_TURNS: &str = "(N * PO * QO / (4 * SHARES) + 2) * (KW + 1) + ((ROWS * KW + 1) * PARTS / \
                            THREADS + 1) * (SHARES / PARTS + 2) + (ROWS * KW / THREADS + 2) * (PARTS + 2)";

pub(super) static WEIGHT_GRAD: Kernel = Kernel {
    name: "conv2d_pool_weight_grad_staged",
    demand: Demand {
        rounds: "N * PO * QO / (4 * SHARES) * 2 + 2",
        barriers: "2",
        issue: "N * PO * QO / (4 * SHARES) * (60 + KW * 16) + 200",
        words: "N * PO * QO * (2 + ROWS) + 4 * ROWS * KW",
        ..Demand::UNSTATED
    },
    turns: WEIGHT_TURNS,
    source: STAGED_SOURCE,
    constants: constants!("SHARES", "THREADS", "MEMORY", "WEIGHTS", "ROWS", "PARTS"),
    ..CONV2D_POOL_WEIGHT_GRAD
};

pub(super) static WEIGHT_GRAD_BIAS: Kernel = Kernel {
    name: "conv2d_pool_weight_grad_bias_staged",
    demand: WEIGHT_GRAD.demand,
    turns: WEIGHT_TURNS,
    source: STAGED_SOURCE,
    constants: WEIGHT_GRAD.constants,
    ..CONV2D_POOL_WEIGHT_GRAD_BIAS
};

#[cfg(test)]
mod tests {
    use super::*;

    /// Threads, teams, planes at a time of the book's layers in the large size and in every adapter's.
    #[test]
    fn layouts_of_the_books_layers() {
        let of = |planes, input, places, size| {
            let layout = Layout::of(planes, input, [5, 5], places, size);
            layout.map(|l| (l.threads, l.teams, l.chunk))
        };
        let [large, portable] = SIZES;
        let first = (144, 1, 0);
        assert_eq!(of(1, [28, 28], first, large), Some((144, 1, 1)));
        assert_eq!(of(1, [28, 28], first, portable), Some((144, 1, 1)));
        let second = (16, 1, 0);
        assert_eq!(of(20, [12, 12], second, large), Some((320, 20, 20)));
        assert_eq!(of(20, [12, 12], second, portable), Some((160, 10, 20)));
        let back = (36, 1, 52);
        assert_eq!(of(40, [12, 12], back, large), Some((504, 14, 40)));
        assert_eq!(of(40, [12, 12], back, portable), Some((252, 7, 20)));
        // An image whose windows are more than a workgroup's threads, and one that has no room.
        assert_eq!(of(1, [64, 64], (900, 1, 0), large), None);
        assert_eq!(of(1, [128, 128], (16, 1, 0), large), None);
    }
}

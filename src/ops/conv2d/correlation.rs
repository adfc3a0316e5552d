//! What the CPU's direct implementations of a convolution and of its input gradient share: vectors of positions, each
//! loaded tap by tap and multiplied by the weights of several filters, whose sums stay in registers.

use std::cell::RefCell;

use crate::threads::prelude::*;
use pulp::{Arch, Simd, WithSimd};

use super::planes::WIDEST;

thread_local! {
    /// A thread's planes, kept from launch to launch.
    static PLANES: RefCell<Vec<f32>> = const { RefCell::new(vec![]) };
    /// What it has made at all positions, likewise.
    static MADE: RefCell<Vec<f32>> = const { RefCell::new(vec![]) };
}

/// Whether vectors of positions are mostly places, not gaps between rows, and planes mostly pixels, not
/// zeros around them.
pub(super) fn pays(places: usize, positions: usize, [pixels, plane]: [usize; 2]) -> bool {
    let full = 5 * places >= 2 * positions.next_multiple_of(WIDEST / 2);
    full && plane <= 4 * (places + pixels)
}

/// Whether all are finite; a part at a time, so that each is one loop without a way out.
pub(super) fn finite(x: &[f32]) -> bool {
    let part = |part: &[f32]| part.iter().fold(true, |all, x| all & x.is_finite());
    x.chunks(4096).all(part)
}

/// Rows of a matrix in blocks, each with its rows side by side for every tap.
pub(super) struct Panels {
    rows: usize,
    taps: usize,
    data: Vec<f32>,
}

/// Rows of the next block.
fn next(rows: usize) -> usize {
    match rows {
        4.. => 4,
        2 | 3 => 2,
        _ => 1,
    }
}

impl Panels {
    /// Of the weight of row `r` and tap `t`.
    pub(super) fn new([rows, taps]: [usize; 2], weight: impl Fn(usize, usize) -> f32) -> Self {
        let mut data = Vec::with_capacity(rows * taps);
        let mut first = 0;
        while first < rows {
            let block = first..first + next(rows - first);
            for t in 0..taps {
                data.extend(block.clone().map(|r| weight(r, t)));
            }
            first = block.end;
        }
        Self { rows, taps, data }
    }
}

/// Σ over taps of weights times what the taps see, for all rows and positions.
#[derive(Clone, Copy)]
pub(super) struct Correlation<'a> {
    pub(super) planes: &'a [f32],
    pub(super) taps: &'a [usize],
    pub(super) panels: &'a Panels,
    pub(super) positions: usize,
    /// Whether few images leave threads idle, so that rows are shared out.
    pub(super) shared: bool,
}

/// Fewer images than these are not tasks enough.
pub(super) const FEW: usize = 4;
/// Rows of a task, whole blocks.
const TASK_ROWS: usize = 8;
/// Multiply-adds that are worth handing to several threads.
const WORTH_SHARING: usize = 1 << 18;

impl Correlation<'_> {
    /// Makes `[rows, positions]`, rows filled up to whole vectors.
    pub(super) fn run(self, made: &mut [f32]) {
        let apart = apart(self.positions);
        let made = &mut made[..self.panels.rows * apart];
        let task = |(task, made): (usize, &mut [f32])| {
            let (own, first) = (self, task * TASK_ROWS);
            Arch::new().dispatch(Rows { own, first, made });
        };
        let work = self.panels.rows * self.positions * self.taps.len();
        if self.shared && work >= WORTH_SHARING {
            let tasks = made.par_chunks_mut(TASK_ROWS * apart);
            tasks.enumerate().for_each(task);
        } else {
            let (own, first) = (self, 0);
            Arch::new().dispatch(Rows { own, first, made });
        }
    }
}

/// Some rows from `first` on, which begins a block.
struct Rows<'a> {
    own: Correlation<'a>,
    first: usize,
    made: &'a mut [f32],
}

/// Elements of a row of what is made.
pub(super) fn apart(positions: usize) -> usize {
    positions.next_multiple_of(WIDEST)
}

impl WithSimd for Rows<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { own, first, made } = self;
        let Correlation {
            planes,
            taps,
            panels,
            positions,
            ..
        } = own;
        let apart = apart(positions);
        let rows = made.len() / apart;
        let (mut row, mut weights) = (0, &panels.data[first * panels.taps..]);
        while row < rows {
            let block = next(panels.rows - first - row);
            let (w, rest) = weights.split_at(block * panels.taps);
            let made = &mut made[row * apart..][..block * apart];
            let sizes = [positions, apart];
            // As many sums as registers hold beside what is multiplied.
            match block {
                4 => block_of::<S, 4, 3>(simd, planes, taps, w, sizes, made),
                2 => block_of::<S, 2, 4>(simd, planes, taps, w, sizes, made),
                _ => block_of::<S, 1, 6>(simd, planes, taps, w, sizes, made),
            }
            (row, weights) = (row + block, rest);
        }
    }
}

/// `R` rows at all positions, `V` vectors at a time.
#[inline(always)]
fn block_of<S: Simd, const R: usize, const V: usize>(
    simd: S,
    planes: &[f32],
    taps: &[usize],
    w: &[f32],
    [positions, apart]: [usize; 2],
    made: &mut [f32],
) {
    let (w, _) = w.as_chunks::<R>();
    let mut at = 0;
    while at < positions {
        if at + (V - 1) * S::F32_LANES < positions {
            tile::<S, R, V>(simd, planes, taps, w, [at, apart], made);
            at += V * S::F32_LANES;
        } else {
            tile::<S, R, 1>(simd, planes, taps, w, [at, apart], made);
            at += S::F32_LANES;
        }
    }
}

#[inline(always)]
fn tile<S: Simd, const R: usize, const V: usize>(
    simd: S,
    planes: &[f32],
    taps: &[usize],
    w: &[[f32; R]],
    [at, apart]: [usize; 2],
    made: &mut [f32],
) {
    let zero = simd.splat_f32s(0.0);
    let mut sums = [[zero; V]; R];
    for (&tap, w) in taps.iter().zip(w) {
        let (x, _) = S::as_simd_f32s(&planes[tap + at..][..V * S::F32_LANES]);
        let Some(x) = x.first_chunk::<V>() else {
            continue;
        };
        for r in 0..R {
            let w = simd.splat_f32s(w[r]);
            for v in 0..V {
                sums[r][v] = simd.mul_add_e_f32s(w, x[v], sums[r][v]);
            }
        }
    }
    for r in 0..R {
        let (to, _) = S::as_mut_simd_f32s(&mut made[r * apart + at..][..V * S::F32_LANES]);
        for (to, sum) in to.iter_mut().zip(sums[r]) {
            *to = sum;
        }
    }
}

/// Lends a thread's planes and room for what is made, with at least so many elements.
pub(super) fn with_scratch(sizes: [usize; 2], work: impl FnOnce(&mut [f32], &mut [f32])) {
    let (mut planes, mut made) = (PLANES.take(), MADE.take());
    planes.resize(sizes[0].max(planes.len()), 0.0);
    made.resize(sizes[1].max(made.len()), 0.0);
    work(&mut planes[..sizes[0]], &mut made[..sizes[1]]);
    PLANES.set(planes);
    MADE.set(made);
}

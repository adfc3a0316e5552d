//! What the CPU's direct implementations of a convolution and of its input gradient share: vectors of positions, each
//! loaded tap by tap and multiplied by the weights of several filters, whose sums stay in registers.

use std::cell::RefCell;
use std::thread::LocalKey;

use pulp::{Arch, Simd, WithSimd};

use crate::threads::prelude::*;

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
    pub(super) rows: usize,
    pub(super) data: Vec<f32>,
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
        Self { rows, data }
    }

    /// Of rows that stand one below the other, a weight for each tap.
    pub(super) fn of(w: &[f32], taps: usize) -> Self {
        let rows = w.len() / taps;
        let mut data = vec![0.0; w.len()];
        let (mut first, mut to) = (0, &mut data[..]);
        while first < rows {
            let block = next(rows - first);
            let w = &w[first * taps..][..block * taps];
            let (now, rest) = to.split_at_mut(block * taps);
            match block {
                4 => side_by_side::<4>(w, now),
                2 => side_by_side::<2>(w, now),
                _ => now.copy_from_slice(w),
            }
            (first, to) = (first + block, rest);
        }
        Self { rows, data }
    }
}

fn side_by_side<const R: usize>(w: &[f32], to: &mut [f32]) {
    let (to, _) = to.as_chunks_mut::<R>();
    let mut rows: [&[f32]; R] = [&[]; R];
    for (row, w) in rows.iter_mut().zip(w.chunks_exact(to.len())) {
        *row = w;
    }
    for (t, to) in to.iter_mut().enumerate() {
        for r in 0..R {
            to[r] = rows[r][t];
        }
    }
}

/// Σ over taps of weights times what the taps see, for some rows and all positions.
#[derive(Clone, Copy)]
pub(super) struct Correlation<'a> {
    pub(super) planes: &'a [f32],
    pub(super) taps: &'a [usize],
    /// As [`Panels`] has them, of so many rows.
    pub(super) weights: &'a [f32],
    pub(super) rows: usize,
    pub(super) positions: usize,
}

/// Fewer images than these are not tasks enough: rows are shared out as well.
pub(super) const FEW: usize = 4;
/// Rows of a task, whole blocks.
pub(super) const TASK_ROWS: usize = 8;
/// Multiply-adds that are worth handing to several threads.
pub(super) const WORTH_SHARING: usize = 1 << 18;

impl Correlation<'_> {
    /// Makes some rows from `first` on, which begins a block: `[rows, positions]`, each filled up to whole vectors.
    pub(super) fn run(self, first: usize, made: &mut [f32]) {
        let own = self;
        Arch::new().dispatch(Rows { own, first, made });
    }

    /// Makes all rows, on several threads where that is worth it.
    pub(super) fn run_in_parallel(self, made: &mut [f32]) {
        let apart = apart(self.positions);
        let made = &mut made[..self.rows * apart];
        match self.rows * self.positions * self.taps.len() >= WORTH_SHARING {
            true => {
                let tasks = made.par_chunks_mut(TASK_ROWS * apart).enumerate();
                tasks.for_each(|(task, made)| self.run(task * TASK_ROWS, made));
            }
            false => self.run(0, made),
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
        let (taps, rows) = (own.taps.len(), own.rows);
        let apart = apart(own.positions);
        let end = first + made.len() / apart;
        let (mut row, mut made) = (first, made);
        while row < end {
            let block = next(rows - row);
            let weights = &own.weights[row * taps..][..block * taps];
            let (now, rest) = made.split_at_mut(block * apart);
            let here = Correlation { weights, ..own };
            self::block(simd, here, block, now);
            (row, made) = (row + block, rest);
        }
    }
}

/// A block of rows: all that the correlation has weights for.
#[inline(always)]
fn block<S: Simd>(simd: S, own: Correlation<'_>, rows: usize, made: &mut [f32]) {
    // As many sums as registers hold beside what is multiplied.
    match rows {
        4 => block_of::<S, 4, 3>(simd, own, made),
        2 => block_of::<S, 2, 4>(simd, own, made),
        _ => block_of::<S, 1, 6>(simd, own, made),
    }
}

/// `R` rows at all positions, `V` vectors at a time.
#[inline(always)]
fn block_of<S: Simd, const R: usize, const V: usize>(
    simd: S,
    own: Correlation<'_>,
    made: &mut [f32],
) {
    let (w, _) = own.weights.as_chunks::<R>();
    let mut left = own.positions.div_ceil(S::F32_LANES);
    let mut at = 0;
    while left > 0 {
        // One vector alone waits for its sums; two and two are as fast as three and none.
        let now = match left {
            _ if left == V + 1 && V == 3 => 2,
            2 => 2,
            _ if left >= V => V,
            _ => 1,
        };
        match now {
            1 => tile::<S, R, 1>(simd, own.planes, own.taps, w, at, made),
            2 => tile::<S, R, 2>(simd, own.planes, own.taps, w, at, made),
            _ => tile::<S, R, V>(simd, own.planes, own.taps, w, at, made),
        }
        (left, at) = (left - now, at + now * S::F32_LANES);
    }
}

#[inline(always)]
fn tile<S: Simd, const R: usize, const V: usize>(
    simd: S,
    planes: &[f32],
    taps: &[usize],
    w: &[[f32; R]],
    at: usize,
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
    let apart = made.len() / R;
    for r in 0..R {
        let (to, _) = S::as_mut_simd_f32s(&mut made[r * apart + at..][..V * S::F32_LANES]);
        for (to, sum) in to.iter_mut().zip(sums[r]) {
            *to = sum;
        }
    }
}

/// Lends a thread's planes, with at least so many elements.
pub(super) fn with_planes(size: usize, work: impl FnOnce(&mut [f32])) {
    lent(&PLANES, size, work);
}

/// Lends a thread's room for what is made, with at least so many elements.
pub(super) fn with_made(size: usize, work: impl FnOnce(&mut [f32])) {
    lent(&MADE, size, work);
}

/// What is lent out is gone meanwhile: a task that this thread takes up while it waits for others gets
/// room of its own.
fn lent(room: &'static LocalKey<RefCell<Vec<f32>>>, size: usize, work: impl FnOnce(&mut [f32])) {
    let mut lent = room.take();
    lent.resize(size.max(lent.len()), 0.0);
    work(&mut lent[..size]);
    room.set(lent);
}

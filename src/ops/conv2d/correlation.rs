//! What the CPU's direct implementations of a convolution and of its input gradient share: vectors of positions, each
//! loaded tap by tap and multiplied by the weights of several filters, whose sums stay in registers.

use std::cell::RefCell;
use std::ops::Range;
use std::thread::LocalKey;

use pulp::{Arch, Simd, WithSimd};

use super::planes::WIDEST;
use crate::ops::registers::Registers;
use crate::threads::prelude::*;

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
    data: Vec<f32>,
}

/// Rows with a weight for each tap.
#[derive(Clone, Copy)]
pub(super) struct Weights<'w> {
    pub(super) data: &'w [f32],
    /// Whether they stand as in [`Panels`], else one row below the other.
    packed: bool,
}

impl<'w> Weights<'w> {
    /// Of rows one below the other.
    pub(super) fn below(data: &'w [f32]) -> Self {
        Self {
            data,
            packed: false,
        }
    }

    /// Of some rows, each with so many taps, which begin a block.
    #[inline(always)]
    fn of(self, rows: Range<usize>, taps: usize) -> Self {
        Self {
            data: &self.data[rows.start * taps..rows.end * taps],
            ..self
        }
    }
}

/// Rows of the next block, which has `most` at most: 8 where registers are many, else 4.
fn next(rows: usize, most: usize) -> usize {
    match rows {
        8.. => most,
        4.. => 4,
        2 | 3 => 2,
        _ => 1,
    }
}

/// Rows of the largest block.
fn most(registers: Registers) -> usize {
    if registers.are_many() { 8 } else { 4 }
}

/// The places that results are made at, in rows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Places {
    /// Rows and columns.
    size: [usize; 2],
    /// How far a row is from the next one in the planes.
    columns: usize,
    lanes: usize,
}

impl Places {
    pub(super) fn new(size: [usize; 2], columns: usize) -> Self {
        let lanes = Registers::here().lanes;
        Self {
            size,
            columns,
            lanes,
        }
    }

    /// Whether rows are whole vectors. Then results stand as places do; else positions run on from row to row, and
    /// results have gaps between rows, and whole vectors in all.
    pub(super) fn are_dense(&self) -> bool {
        self.size[1].is_multiple_of(self.lanes)
    }

    /// From the first place to the last one, with the gaps.
    pub(super) fn positions(&self) -> usize {
        (self.size[0] - 1) * self.columns + self.size[1]
    }

    /// How many results a row of weights has, with what stands in gaps.
    pub(super) fn apart(&self) -> usize {
        match self.are_dense() {
            true => self.size[0] * self.size[1],
            false => self.positions().next_multiple_of(WIDEST),
        }
    }

    /// How far a row of results is from the next one.
    pub(super) fn step(&self) -> usize {
        match self.are_dense() {
            true => self.size[1],
            false => self.columns,
        }
    }

    /// How many vectors of results a row of weights has.
    #[inline(always)]
    pub(super) fn vectors(&self) -> usize {
        match self.are_dense() {
            true => self.apart() / self.lanes,
            false => self.positions().div_ceil(self.lanes),
        }
    }

    /// Where in a plane a vector of results begins to read.
    #[inline(always)]
    pub(super) fn of(&self, vector: usize) -> usize {
        let at = vector * self.lanes;
        match self.are_dense() {
            true => at / self.size[1] * self.columns + at % self.size[1],
            false => at,
        }
    }
}

impl Panels {
    pub(super) fn weights(&self) -> Weights<'_> {
        Weights {
            data: &self.data,
            packed: true,
        }
    }

    /// Of the weight of row `r` and tap `t`.
    pub(super) fn new([rows, taps]: [usize; 2], weight: impl Fn(usize, usize) -> f32) -> Self {
        let mut data = Vec::with_capacity(rows * taps);
        let (mut first, most) = (0, most(Registers::here()));
        while first < rows {
            let block = first..first + next(rows - first, most);
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
        let most = most(Registers::here());
        while first < rows {
            let block = next(rows - first, most);
            let w = &w[first * taps..][..block * taps];
            let (now, rest) = to.split_at_mut(block * taps);
            match block {
                8 => side_by_side::<8>(w, now),
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
    pub(super) weights: Weights<'a>,
    pub(super) rows: usize,
    pub(super) places: Places,
}

/// Fewer images than these are not tasks enough: parts of them are.
pub(super) const FEW: usize = 4;
/// Filters, or channels of an input gradient, of a task: whole blocks.
pub(super) const TASK_ROWS: usize = 8;
/// Multiply-adds that are worth handing to several threads.
pub(super) const WORTH_SHARING: usize = 1 << 16;

impl Correlation<'_> {
    /// Makes some rows from `first` on, which begins a block: `[rows, apart]` ([`Places::apart`]).
    pub(super) fn run(self, first: usize, made: &mut [f32]) {
        let own = self;
        Arch::new().dispatch(Rows { own, first, made });
    }

    /// Makes all rows, on several threads where that is worth it.
    pub(super) fn run_in_parallel(self, made: &mut [f32]) {
        let apart = self.places.apart();
        let made = &mut made[..self.rows * apart];
        match self.rows * apart * self.taps.len() >= WORTH_SHARING {
            true => {
                let tasks = made.par_chunks_mut(TASK_ROWS * apart).enumerate();
                tasks.share(|(task, made)| self.run(task * TASK_ROWS, made));
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

impl WithSimd for Rows<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { own, first, made } = self;
        let (taps, rows) = (own.taps.len(), own.rows);
        let apart = own.places.apart();
        let end = first + made.len() / apart;
        let (mut row, mut made) = (first, made);
        while row < end {
            let block = next(rows - row, most(Registers::of::<S>()));
            let weights = own.weights.of(row..row + block, taps);
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
        8 if own.weights.packed => block_of::<S, 8, 3, true>(simd, own, made),
        8 => block_of::<S, 8, 3, false>(simd, own, made),
        4 if own.weights.packed => block_of::<S, 4, 3, true>(simd, own, made),
        4 => block_of::<S, 4, 3, false>(simd, own, made),
        2 if own.weights.packed => block_of::<S, 2, 4, true>(simd, own, made),
        2 => block_of::<S, 2, 4, false>(simd, own, made),
        _ => block_of::<S, 1, 6, true>(simd, own, made),
    }
}

/// `R` rows at all places, `V` vectors at a time.
#[inline(always)]
fn block_of<S: Simd, const R: usize, const V: usize, const PACKED: bool>(
    simd: S,
    own: Correlation<'_>,
    made: &mut [f32],
) {
    let mut left = own.places.vectors();
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
            1 => tile::<S, R, 1, PACKED>(simd, own, at, made),
            2 => tile::<S, R, 2, PACKED>(simd, own, at, made),
            _ => tile::<S, R, V, PACKED>(simd, own, at, made),
        }
        (left, at) = (left - now, at + now);
    }
}

/// `R` rows at `V` vectors of places from number `at` on.
#[inline(always)]
fn tile<S: Simd, const R: usize, const V: usize, const PACKED: bool>(
    simd: S,
    own: Correlation<'_>,
    at: usize,
    made: &mut [f32],
) {
    let zero = simd.splat_f32s(0.0);
    let mut sums = [[zero; V]; R];
    let mut planes: [&[f32]; V] = [&[]; V];
    for (v, planes) in planes.iter_mut().enumerate() {
        *planes = &own.planes[own.places.of(at + v)..];
    }
    let count = own.taps.len();
    let (panel, _) = own.weights.data.as_chunks::<R>();
    let panel = &panel[..count];
    let mut below: [&[f32]; R] = [&[]; R];
    for (r, row) in below.iter_mut().enumerate() {
        *row = &own.weights.data[r * count..][..count];
    }
    for (t, &tap) in own.taps.iter().enumerate() {
        let mut x = [zero; V];
        for v in 0..V {
            x[v] = S::as_simd_f32s(&planes[v][tap..][..S::F32_LANES]).0[0];
        }
        for r in 0..R {
            let w = if PACKED { panel[t][r] } else { below[r][t] };
            let w = simd.splat_f32s(w);
            for v in 0..V {
                sums[r][v] = simd.mul_add_e_f32s(w, x[v], sums[r][v]);
            }
        }
    }
    let apart = made.len() / R;
    for (r, sums) in sums.into_iter().enumerate() {
        let from = r * apart + at * S::F32_LANES;
        let (to, _) = S::as_mut_simd_f32s(&mut made[from..][..V * S::F32_LANES]);
        for (to, sum) in to.iter_mut().zip(sums) {
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

/// Bytes of a line of the cache.
const LINE: usize = 64;

/// What is lent out is gone meanwhile: a task that this thread takes up while it waits for others gets
/// room of its own.
fn lent(room: &'static LocalKey<RefCell<Vec<f32>>>, size: usize, work: impl FnOnce(&mut [f32])) {
    let mut lent = room.take();
    lent.resize((size + WIDEST).max(lent.len()), 0.0);
    // From where a line of the cache begins, so that whole vectors are in one line each.
    let from = lent.as_ptr().align_offset(LINE).min(WIDEST);
    work(&mut lent[from..][..size]);
    room.set(lent);
}

//! The CPU executor's implementations: a result's runs of neighbours in running sums side by side; where
//! neighbours are of different results, rows below each other. Rows come in blocks, each with sums of
//! its own for all columns, which are added in order.

use pulp::{Arch, Simd, WithSimd};

use super::super::sums::{LANES, Sums, TASK};
use crate::kernel::Args;
use crate::threads::prelude::*;

/// Blocks of rows at most.
const BLOCKS: usize = 8;

pub(super) fn reduce(a: &mut Args<'_, f32>) {
    let (outer, c, inner) = (a.size("OUTER"), a.size("C"), a.size("INNER"));
    let factor = a.number("FACTOR") as f32;
    let (x, y) = (a.f(0), a.f_mut(1)); // [OUTER, C, INNER], [C]
    if inner < LANES {
        let columns = columns(x, c * inner);
        for (y, sums) in y.iter_mut().zip(columns.chunks_exact(inner)) {
            *y = sums.iter().sum::<f32>() * factor;
        }
        return;
    }
    let several = TASK.div_ceil(outer * inner);
    let tasks = y.par_chunks_mut(several).enumerate();
    tasks.share(|(task, y)| {
        for (i, y) in y.iter_mut().enumerate() {
            let channel = task * several + i;
            *y = run(x, [c, inner, channel], [0, outer * inner]) * factor;
        }
    });
}

pub(super) fn shares(a: &mut Args<'_, f32>) {
    let (c, inner, runs) = (a.size("C"), a.size("INNER"), a.size("RUNS"));
    let terms = a.size("OUTER") * inner;
    let (x, y) = (a.f(0), a.f_mut(1)); // [OUTER, C, INNER], [C, RUNS]
    let length = terms.div_ceil(runs);
    if inner == 1 {
        // Rows below each other: a run of every channel at once.
        let mut sums = vec![0.0; runs * c];
        let tasks = sums.par_chunks_mut(c).zip(x.par_chunks(length * c));
        tasks.share(|(sums, x)| Arch::new().dispatch(Rows { x, sums }));
        for (share, y) in y.iter_mut().enumerate() {
            *y = sums[share % runs * c + share / runs];
        }
        return;
    }
    let tasks = y.par_chunks_mut(1).enumerate();
    tasks.share(|(share, y)| {
        let (channel, first) = (share / runs, (share % runs * length).min(terms));
        y[0] = run(x, [c, inner, channel], [first, terms.min(first + length)]);
    });
}

/// The sum of some of a channel's terms, which are counted through all of `outer` and `inner`.
fn run(x: &[f32], sizes: [usize; 3], terms: [usize; 2]) -> f32 {
    Arch::new().dispatch(Run { x, sizes, terms })
}

struct Run<'a> {
    x: &'a [f32],
    /// C, inner, the channel.
    sizes: [usize; 3],
    /// The first and the one after the last.
    terms: [usize; 2],
}

impl WithSimd for Run<'_> {
    type Output = f32;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> f32 {
        let [c, inner, channel] = self.sizes;
        let [mut term, end] = self.terms;
        let mut sums = Sums::NONE;
        while term < end {
            let n = (inner - term % inner).min(end - term);
            let first = (term / inner * c + channel) * inner + term % inner;
            sums.add(n, &self.x[first..][..n]);
            term += n;
        }
        let [sum] = sums.totals();
        sum
    }
}

/// The sums of the columns of x.
fn columns(x: &[f32], width: usize) -> Vec<f32> {
    let rows = x.len() / width;
    let rows = rows.div_ceil(BLOCKS).max(TASK.div_ceil(width));
    let blocks = x.len().div_ceil(rows * width).max(1);
    let mut sums = vec![0.0; blocks * width];
    let tasks = sums.par_chunks_mut(width).zip(x.par_chunks(rows * width));
    tasks.share(|(sums, x)| Arch::new().dispatch(Rows { x, sums }));
    let (first, others) = sums.split_at_mut(width);
    for other in others.chunks_exact(width) {
        first.iter_mut().zip(other).for_each(|(sum, x)| *sum += x);
    }
    sums.truncate(width);
    sums
}

/// Adds rows below each other.
struct Rows<'a> {
    x: &'a [f32],
    sums: &'a mut [f32],
}

impl WithSimd for Rows<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let (width, sums) = (self.sums.len(), self.sums);
        // Four rows at a time: the sums are read and written a fourth as often.
        let mut fours = self.x.chunks_exact(4 * width);
        for rows in &mut fours {
            let (a, rest) = rows.split_at(width);
            let (b, rest) = rest.split_at(width);
            let (c, d) = rest.split_at(width);
            let (a, b, c, d) = (&a[..width], &b[..width], &c[..width], &d[..width]);
            for (i, sum) in sums.iter_mut().enumerate() {
                *sum += (a[i] + b[i]) + (c[i] + d[i]);
            }
        }
        for row in fours.remainder().chunks_exact(width) {
            for (sum, &x) in sums.iter_mut().zip(row) {
                *sum += x;
            }
        }
    }
}

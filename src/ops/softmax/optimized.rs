//! The CPU executor's implementations for rows of neighbours. Some rows at a time go through each step while they
//! are in the nearest cache; e^x is one loop over all of them, since rows may be short.

use pulp::{Arch, Simd, WithSimd};

use super::super::sums::{Sums, TASK, Terms, largest};
use crate::functions::exp;
use crate::kernel::Args;
use crate::threads::prelude::*;

/// Elements of a block of rows, about: those of x and y fit the nearest cache.
pub(in crate::ops) const BLOCK: usize = 2048;

pub(super) fn softmax(a: &mut Args<'_, f32>) {
    if a.size("INNER") > 1 {
        return super::softmax(a);
    }
    rows(a, |k, x, y| Arch::new().dispatch(Forward { k, x, y }));
}

pub(super) fn softmax_grad(a: &mut Args<'_, f32>) {
    if a.size("INNER") > 1 {
        return super::softmax_grad(a);
    }
    rows_back(a, TASK, |k, g, y, delta| {
        Arch::new().dispatch(Back { k, g, y, delta })
    });
}

/// Goes through the rows of K neighbours of x and y, some at a time on each thread: `each` has K, x and y.
pub(in crate::ops) fn rows(a: &mut Args<'_, f32>, each: impl Fn(usize, &[f32], &mut [f32]) + Sync) {
    let k = a.size("K");
    let (x, y) = (a.f(0), a.f_mut(1)); // [N, K] twice
    let several = (TASK / 4).div_ceil(k) * k;
    let tasks = y.par_chunks_mut(several).zip(x.par_chunks(several));
    tasks.share(|(y, x)| each(k, x, y));
}

/// The same of the gradient g, y and δ, about `task` elements at a time: `each` has K, g, y and δ.
pub(in crate::ops) fn rows_back(
    a: &mut Args<'_, f32>,
    task: usize,
    each: impl Fn(usize, &[f32], &[f32], &mut [f32]) + Sync,
) {
    let k = a.size("K");
    let (g, y, delta) = (a.f(0), a.f(1), a.f_mut(2)); // [N, K] three times
    let several = task.div_ceil(k) * k;
    let tasks = delta.par_chunks_mut(several).zip(g.par_chunks(several));
    let tasks = tasks.zip(y.par_chunks(several));
    tasks.share(|((delta, g), y)| each(k, g, y, delta));
}

/// e^(x − largest) of each row, and these.
#[inline(always)]
pub(in crate::ops) fn exponents(k: usize, x: &[f32], y: &mut [f32], most: &mut [f32]) {
    let rows = x.chunks_exact(k).zip(y.chunks_exact_mut(k));
    for ((x, y), most) in rows.zip(most) {
        *most = largest(x);
        for (y, &x) in y.iter_mut().zip(x) {
            *y = x - *most;
        }
    }
    for y in y {
        *y = exp(*y);
    }
}

struct Forward<'a> {
    k: usize,
    x: &'a [f32],
    y: &'a mut [f32],
}

impl WithSimd for Forward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let k = self.k;
        let block = BLOCK.div_ceil(k) * k;
        let mut largest = vec![0.0; block / k];
        for (x, y) in self.x.chunks(block).zip(self.y.chunks_mut(block)) {
            exponents(k, x, y, &mut largest);
            for y in y.chunks_exact_mut(k) {
                let mut sums = Sums::NONE;
                sums.add(k, &*y);
                let [sum] = sums.totals();
                for y in y {
                    *y /= sum;
                }
            }
        }
    }
}

struct Back<'a> {
    k: usize,
    g: &'a [f32],
    y: &'a [f32],
    delta: &'a mut [f32],
}

impl WithSimd for Back<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let k = self.k;
        let rows = self.g.chunks_exact(k).zip(self.y.chunks_exact(k));
        for ((g, y), delta) in rows.zip(self.delta.chunks_exact_mut(k)) {
            let mut sums = Sums::NONE;
            sums.add(k, Products { g, y });
            let [sum] = sums.totals();
            for ((delta, &g), &y) in delta.iter_mut().zip(g).zip(y) {
                *delta = y * (g - sum);
            }
        }
    }
}

/// g y.
#[derive(Clone, Copy)]
struct Products<'a> {
    g: &'a [f32],
    y: &'a [f32],
}

impl Terms<1> for Products<'_> {
    #[inline(always)]
    fn at(self, i: usize) -> [f32; 1] {
        [self.g[i] * self.y[i]]
    }

    #[inline(always)]
    fn part(self, from: usize, n: usize) -> Self {
        Self {
            g: &self.g[from..][..n],
            y: &self.y[from..][..n],
        }
    }
}

//! The CPU executor's implementations for rows of neighbours, some rows at a time as in softmax.

use pulp::{Arch, Simd, WithSimd};

use super::super::softmax::optimized::{BLOCK, exponents, rows, rows_back};
use super::super::sums::{Sums, TASK};
use crate::functions::{exp, ln};
use crate::kernel::Args;

pub(super) fn log_softmax(a: &mut Args<'_, f32>) {
    if a.size("INNER") > 1 {
        return super::log_softmax(a);
    }
    rows(a, |k, x, y| Arch::new().dispatch(Forward { k, x, y }));
}

pub(super) fn log_softmax_grad(a: &mut Args<'_, f32>) {
    if a.size("INNER") > 1 {
        return super::log_softmax_grad(a);
    }
    // An exponential each: smaller tasks are worth a thread.
    rows_back(a, TASK / 4, |k, g, y, delta| {
        Arch::new().dispatch(Back { k, g, y, delta })
    });
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
            let rows = x.chunks_exact(k).zip(y.chunks_exact_mut(k));
            for ((x, y), &largest) in rows.zip(&largest) {
                let mut sums = Sums::NONE;
                sums.add(k, &*y);
                let [sum] = sums.totals();
                let log = ln(sum);
                for (y, &x) in y.iter_mut().zip(x) {
                    *y = x - largest - log;
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
        for (delta, &y) in self.delta.iter_mut().zip(self.y) {
            *delta = exp(y);
        }
        let rows = self.g.chunks_exact(k).zip(self.delta.chunks_exact_mut(k));
        for (g, delta) in rows {
            let mut sums = Sums::NONE;
            sums.add(k, g);
            let [sum] = sums.totals();
            for (delta, &g) in delta.iter_mut().zip(g) {
                *delta = g - *delta * sum;
            }
        }
    }
}

//! The CPU executor's implementations: products by the GEMM crate or, of a small mini-batch, by our own.

use std::cell::RefCell;

use super::super::gemm::{Matrix, gemm};
use super::super::{dense_grad, small_batch};
use crate::kernel::{Args, Finish};
use crate::threads::prelude::*;

/// Examples of a mini-batch up to which our own implementation is faster: beyond, the GEMM's packing
/// pays. Measured with 784-30-10 and 784-500-500-10 on two cores with AVX-512: at 32 in 0.6
/// of the GEMM's time, at 64 in 0.75, at 100 in 0.9.
const SMALL_BATCH: usize = 100;

/// Additions of an ending that are worth a task of their own, and how many tasks there are at most.
const TASK: usize = 1 << 16;
const MOST_TASKS: usize = 16;

thread_local! {
    /// The transposed product, kept from launch to launch.
    static TRANSPOSED: RefCell<Vec<f32>> = const { RefCell::new(vec![]) };
    /// A product whose elements pass an expression, likewise.
    static PRODUCT: RefCell<Vec<f32>> = const { RefCell::new(vec![]) };
}

/// The product by the GEMM crate or, over a small mini-batch, by our own, into C.
fn product(a: &Args<'_, f32>, c: &mut [f32]) {
    let (m, n, k) = (a.size("M"), a.size("N"), a.size("K"));
    let (trans_a, trans_b) = (a.size("TRANS_A") == 1, a.size("TRANS_B") == 1);
    let left = Matrix::of(a.f(0), if trans_a { m } else { k }, trans_a);
    let right = Matrix::of(a.f(1), if trans_b { k } else { n }, trans_b);
    if m <= SMALL_BATCH && !trans_a && trans_b {
        // Taken and not borrowed: a task of another replica may run here meanwhile.
        let mut transposed = TRANSPOSED.take();
        transposed.resize((m * n).max(transposed.len()), 0.0);
        small_batch::times_transposed([m, n, k], a.f(0), a.f(1), &mut transposed[..m * n]);
        for (j, column) in transposed[..m * n].chunks(m).enumerate() {
            for (i, &value) in column.iter().enumerate() {
                c[i * n + j] = value;
            }
        }
        TRANSPOSED.set(transposed);
        return;
    }
    gemm([m, n, k], left, right, c, false);
}

pub(super) fn matmul(a: &mut Args<'_, f32>) {
    let c = a.f_mut(2);
    product(a, c);
}

/// The product, its elements finished row by row: those of few terms while they are near.
pub(super) fn finishing<'a>(a: &mut Args<'_, f32>, parts: Vec<Box<dyn Finish + 'a>>) {
    let (m, n, k) = (a.size("M"), a.size("N"), a.size("K"));
    let Some(c) = parts.into_iter().next() else {
        return;
    };
    if k <= SMALL_BATCH && a.size("TRANS_A") == 1 && a.size("TRANS_B") == 0 {
        return dense_grad::optimized::update([k, n, m], [a.f(1), a.f(0)], c);
    }
    let mut product_of = PRODUCT.take();
    product_of.resize((m * n).max(product_of.len()), 0.0);
    product(a, &mut product_of[..m * n]);
    let rows = m.div_ceil((c.work() / TASK).clamp(1, MOST_TASKS));
    let parts = c.split(rows * n).into_par_iter();
    let rows = product_of[..m * n].par_chunks(rows * n);
    parts.zip(rows).share(|(mut c, rows)| c.take(0, rows));
    PRODUCT.set(product_of);
}

//! The CPU executor's texts: products by the GEMM crate or, of a small mini-batch, by our own.

use std::cell::RefCell;

use super::super::activation::Activation;
use super::super::dropout;
use super::super::gemm::{Matrix, gemm};
use super::super::sgd::Rates;
use super::super::{dense_grad, small_batch};
use crate::kernel::Args;

/// Examples of a mini-batch up to which our own texts are faster: beyond, the GEMM's packing
/// pays. Measured with 784-30-10 and 784-500-500-10 on two cores with AVX-512: at 32 in 0.6
/// of the GEMM's time, at 64 in 0.75, at 100 in 0.9.
const SMALL_BATCH: usize = 100;

thread_local! {
    /// The transposed product, kept from launch to launch.
    static TRANSPOSED: RefCell<Vec<f32>> = const { RefCell::new(vec![]) };
    /// A gradient that updates a parameter, likewise.
    static GRADIENT: RefCell<Vec<f32>> = const { RefCell::new(vec![]) };
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

pub(super) fn matmul_bias(a: &mut Args<'_, f32>) {
    let c = a.f_mut(3);
    biased(a, c);
}

/// C = σ(op(A) op(B) + bias).
fn biased(a: &Args<'_, f32>, c: &mut [f32]) {
    let act = Activation::of_constant(a.size("ACTIVATION"));
    let (n, bias) = (a.size("N"), a.f(2));
    product(a, c);
    for row in c.chunks_mut(n) {
        for (c, &bias) in row.iter_mut().zip(bias) {
            *c = act.apply(*c + bias);
        }
    }
}

pub(super) fn matmul_bias_dropout(a: &mut Args<'_, f32>) {
    let c = a.f_mut(5);
    biased(a, c);
    dropout::mask_in_place(a, [3, 4], c);
}

pub(super) fn matmul_slope(a: &mut Args<'_, f32>) {
    let act = Activation::of_constant(a.size("ACTIVATION"));
    let (y, c) = (a.f(2), a.f_mut(3));
    product(a, c);
    for (c, &y) in c.iter_mut().zip(y) {
        *c = act.sloped(*c, y);
    }
}

/// Hands the product to `use_it`, as the gradient of what is updated.
fn gradient(a: &Args<'_, f32>, use_it: impl FnOnce(&[f32])) {
    let mut gradient = GRADIENT.take();
    let size = a.size("M") * a.size("N");
    gradient.resize(size.max(gradient.len()), 0.0);
    product(a, &mut gradient[..size]);
    use_it(&gradient[..size]);
    GRADIENT.set(gradient);
}

pub(super) fn matmul_sgd(a: &mut Args<'_, f32>) {
    let rates = Rates::of(a, a.f(3), a.u(4));
    let (m, n, k) = (a.size("M"), a.size("N"), a.size("K"));
    let w = a.f_mut(2);
    if k <= SMALL_BATCH && a.size("TRANS_A") == 1 && a.size("TRANS_B") == 0 {
        return dense_grad::fast::update([k, n, m], [a.f(1), a.f(0)], w, &rates);
    }
    gradient(a, |g| rates.update(w, None, g));
}

pub(super) fn matmul_sgd_momentum(a: &mut Args<'_, f32>) {
    let rates = Rates::of(a, a.f(3), a.u(4));
    let (w, v) = (a.f_mut(2), a.f_mut(5));
    gradient(a, |g| rates.update(w, Some(v), g));
}

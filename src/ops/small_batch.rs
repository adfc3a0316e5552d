//! A ᵀ-product for few rows: a dense layer over a small mini-batch on the CPU.
//!
//! A GEMM packs both matrices before it multiplies. With ten rows against a thousand the
//! packing is most of the work, so here the weights are read where they lie: a few of
//! their rows against a few examples at a time, every sum in a register. The width of the
//! registers is found when the program starts (the `pulp` crate).

use super::registers::Registers;
use crate::threads::prelude::*;
use pulp::{Arch, Simd, WithSimd};

/// The most examples that count as few.
pub(super) const FEW: usize = 16;
/// Multiply-adds of one task for the threads.
const TASK: usize = 1 << 20;

/// cᵀ = b aᵀ: a `[m, k]`, b `[n, k]`, cᵀ `[n, m]`. Every sum goes through k in the order
/// that the register's width asks for, whatever the number of threads.
pub(super) fn times_transposed([m, n, k]: [usize; 3], a: &[f32], b: &[f32], c: &mut [f32]) {
    let rows = (TASK / (m * k)).max(4).next_multiple_of(4);
    let work = |(c, b): (&mut [f32], &[f32])| {
        Arch::new().dispatch(Product { m, k, a, b, c });
    };
    if rows >= n {
        work((c, b));
    } else {
        c.par_chunks_mut(rows * m)
            .zip(b.par_chunks(rows * k))
            .share(work);
    }
}

/// cᵀ = b aᵀ on one thread.
struct Product<'a> {
    m: usize,
    k: usize,
    a: &'a [f32],
    b: &'a [f32],
    c: &'a mut [f32],
}

impl WithSimd for Product<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        // Five examples by four (or two) rows of sums leave room for what is multiplied.
        if Registers::of::<S>().are_many() {
            self.bands::<S, 4>(simd);
        } else {
            self.bands::<S, 2>(simd);
        }
    }
}

impl Product<'_> {
    #[inline(always)]
    fn bands<S: Simd, const R: usize>(self, simd: S) {
        let Self { m, k, a, b, c } = self;
        let mut bands = c.chunks_exact_mut(R * m);
        let mut rows = b.chunks_exact(R * k);
        for (c, b) in bands.by_ref().zip(rows.by_ref()) {
            examples::<S, R>(simd, [m, k], a, b, c);
        }
        let rest = rows.remainder().chunks_exact(k);
        for (c, b) in bands.into_remainder().chunks_exact_mut(m).zip(rest) {
            examples::<S, 1>(simd, [m, k], a, b, c);
        }
    }
}

/// `R` rows of b against all examples.
#[inline(always)]
fn examples<S: Simd, const R: usize>(
    simd: S,
    [m, k]: [usize; 2],
    a: &[f32],
    b: &[f32],
    c: &mut [f32],
) {
    let mut i = 0;
    while i < m {
        i += match m - i {
            1 => tile::<S, R, 1>(simd, [m, k, i], a, b, c),
            2 => tile::<S, R, 2>(simd, [m, k, i], a, b, c),
            3 => tile::<S, R, 3>(simd, [m, k, i], a, b, c),
            4 => tile::<S, R, 4>(simd, [m, k, i], a, b, c),
            _ => tile::<S, R, 5>(simd, [m, k, i], a, b, c),
        };
    }
}

/// `R` rows of b against the `E` examples from `first` on; returns `E`.
#[inline(always)]
fn tile<S: Simd, const R: usize, const E: usize>(
    simd: S,
    [m, k, first]: [usize; 3],
    a: &[f32],
    b: &[f32],
    c: &mut [f32],
) -> usize {
    let whole = k / S::F32_LANES;
    let a: [_; E] = std::array::from_fn(|e| S::as_simd_f32s(&a[(first + e) * k..][..k]));
    let b: [_; R] = std::array::from_fn(|r| S::as_simd_f32s(&b[r * k..][..k]));
    let heads_a = a.map(|(head, _)| &head[..whole]);
    let heads_b = b.map(|(head, _)| &head[..whole]);
    let zero = simd.splat_f32s(0.0);
    let mut sums = [[zero; E]; R];
    for p in 0..whole {
        let mut a = [zero; E];
        for e in 0..E {
            a[e] = heads_a[e][p];
        }
        for r in 0..R {
            let b = heads_b[r][p];
            for e in 0..E {
                sums[r][e] = simd.mul_add_e_f32s(a[e], b, sums[r][e]);
            }
        }
    }
    if k > whole * S::F32_LANES {
        let a = a.map(
            #[inline(always)]
            |(_, tail)| simd.partial_load_f32s(tail),
        );
        for r in 0..R {
            let b = simd.partial_load_f32s(b[r].1);
            for e in 0..E {
                sums[r][e] = simd.mul_add_e_f32s(a[e], b, sums[r][e]);
            }
        }
    }
    for r in 0..R {
        for e in 0..E {
            c[r * m + first + e] = simd.reduce_sum_f32s(sums[r][e]);
        }
    }
    E
}

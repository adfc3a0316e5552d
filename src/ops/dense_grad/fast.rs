//! The CPU executor's text: rows of W in blocks, each read, used for both products and
//! written once, in registers of the machine's own width (the `pulp` crate).
//!
//! Blocks of rows are tasks for the threads. Each adds to a ∂x of its own, and these are
//! added in order, so results do not depend on the number of threads.

use std::cell::RefCell;

use crate::threads::prelude::*;
use pulp::{Arch, Simd, WithSimd};

use super::super::activation::Activation;
use super::super::sgd::Rates;
use crate::kernel::Args;

/// Rows of W that share what is loaded of x, at most.
const MOST_ROWS: usize = 8;
/// Columns of a strip, whole registers of any width: with x and ∂x of ten examples 20 KiB.
const STRIP: usize = 256;
/// Multiply-adds of one task.
const TASK: usize = 1 << 20;
/// Tasks at most: each costs a ∂x.
const MOST_TASKS: usize = 8;

thread_local! {
    /// The tasks' ∂x, kept from launch to launch.
    static SHARES: RefCell<Vec<f32>> = const { RefCell::new(vec![]) };
}

pub(super) fn dense_grad(a: &mut Args<'_, f32>) {
    let (act, scale) = (
        Activation::of_constant(a.size("ACTIVATION")),
        a.number("SCALE") as f32,
    );
    let (x, dx) = (a.f(0), a.f_mut(6));
    // Taken and not borrowed: a task of another replica may run here meanwhile.
    let mut shares = SHARES.take();
    let tasks = back::<true>(a, &mut shares);
    let mut shares_of_tasks = shares.chunks(x.len()).take(tasks);
    if let Some(first) = shares_of_tasks.next() {
        dx.copy_from_slice(first);
    }
    for share in shares_of_tasks {
        for (dx, share) in dx.iter_mut().zip(share) {
            *dx += share;
        }
    }
    SHARES.set(shares);
    for (dx, &x) in dx.iter_mut().zip(x) {
        let y = x / scale;
        *dx = match act {
            Activation::Relu => act.sloped(*dx * scale, y),
            _ => *dx * (scale * act.slope(y)),
        };
    }
}

pub(super) fn dense_update(a: &mut Args<'_, f32>) {
    back::<false>(a, &mut vec![]);
}

/// Updates W and b; with `DX` leaves in `shares` the ∂x of as many tasks as it returns.
fn back<const DX: bool>(a: &mut Args<'_, f32>, shares: &mut Vec<f32>) -> usize {
    let (n, n_in, out) = (a.size("N"), a.size("IN"), a.size("OUT"));
    let rates = Rates::of(a, a.f(4), a.u(5));
    let (x, g, w, b) = (a.f(0), a.f(1), a.f_mut(2), a.f_mut(3));
    let plain = rates.without_decay();
    for (o, b) in b.iter_mut().enumerate() {
        let sum: f32 = (0..n).map(|n| g[n * out + o]).sum();
        *b += plain.velocity(*b, 0.0, sum);
    }
    weights::<DX>([n, n_in, out], [x, g], w, &rates, shares)
}

/// W ← W − η (gᵀ x + decay) without momentum: x `[N, in]`, g `[N, out]`, W `[out, in]`.
pub(in crate::ops) fn update(
    sizes: [usize; 3],
    x_g: [&[f32]; 2],
    w: &mut [f32],
    rates: &Rates<f32>,
) {
    weights::<false>(sizes, x_g, w, rates, &mut vec![]);
}

/// [`back`] without the biases.
fn weights<const DX: bool>(
    [n, n_in, out]: [usize; 3],
    [x, g]: [&[f32]; 2],
    w: &mut [f32],
    rates: &Rates<f32>,
    shares: &mut Vec<f32>,
) -> usize {
    let tasks = (n * n_in * out / TASK).clamp(1, MOST_TASKS);
    let rows = out.div_ceil(tasks).next_multiple_of(MOST_ROWS);
    let tasks = out.div_ceil(rows);
    let size = if DX { n * n_in } else { 0 };
    shares.resize((tasks * size).max(shares.len()), 0.0);
    let work = |(task, (w, dx)): (usize, (&mut [f32], &mut [f32]))| {
        dx.fill(0.0);
        Arch::new().dispatch(Rows::<DX> {
            sizes: [n, n_in, out],
            first: task * rows,
            x,
            g,
            w,
            dx,
            rates: (rates.coefficients(), rates.decays()),
        });
    };
    match (tasks, DX) {
        (1, _) => work((0, (w, &mut shares[..size]))),
        (_, true) => {
            let shares = shares.par_chunks_mut(size);
            w.par_chunks_mut(rows * n_in)
                .zip(shares)
                .enumerate()
                .for_each(work);
        }
        (_, false) => {
            let rows = w.par_chunks_mut(rows * n_in).enumerate();
            rows.for_each(|(task, w)| work((task, (w, &mut []))));
        }
    }
    tasks
}

/// Some rows of W.
struct Rows<'a, const DX: bool> {
    /// N, in, out.
    sizes: [usize; 3],
    /// The number of the first row.
    first: usize,
    x: &'a [f32],
    g: &'a [f32],
    w: &'a mut [f32],
    dx: &'a mut [f32],
    /// η, L2, L1, and whether these two act.
    rates: ([f32; 3], bool),
}

impl<const DX: bool> WithSimd for Rows<'_, DX> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        // More rows at a time read x less often, where their sums find room.
        if S::REGISTER_COUNT >= 32 {
            self.strips::<S, MOST_ROWS>(simd);
        } else {
            self.strips::<S, 4>(simd);
        }
    }
}

impl<const DX: bool> Rows<'_, DX> {
    /// Columns strip by strip, so that x and ∂x of a strip stay in the nearest cache while
    /// all rows go by.
    #[inline(always)]
    fn strips<S: Simd, const R: usize>(self, simd: S) {
        let Self {
            sizes: [n, n_in, out],
            first,
            x,
            g,
            w,
            dx,
            rates,
        } = self;
        let rates = (rates.0.map(|r| simd.splat_f32s(r)), rates.1);
        for from in (0..n_in).step_by(STRIP) {
            let strip = [from, n_in.min(from + STRIP)];
            let mut o = first;
            let mut rows = w.chunks_exact_mut(R * n_in);
            for w in rows.by_ref() {
                block::<S, DX, R>(simd, [n, n_in, out, o], strip, x, g, w, dx, rates);
                o += R;
            }
            for w in rows.into_remainder().chunks_exact_mut(n_in) {
                block::<S, DX, 1>(simd, [n, n_in, out, o], strip, x, g, w, dx, rates);
                o += 1;
            }
        }
    }
}

/// A strip of columns of `R` rows of W from number `o` on.
#[inline(always)]
#[expect(clippy::too_many_arguments, reason = "one flat inner loop")]
fn block<S: Simd, const DX: bool, const R: usize>(
    simd: S,
    sizes: [usize; 4],
    [from, to]: [usize; 2],
    x: &[f32],
    g: &[f32],
    w: &mut [f32],
    dx: &mut [f32],
    rates: ([S::f32s; 3], bool),
) {
    let lanes = S::F32_LANES;
    let mut at = from;
    while at + lanes <= to {
        columns::<S, DX, R>(simd, sizes, [at, lanes], x, g, w, dx, rates);
        at += lanes;
    }
    if at < to {
        columns::<S, DX, R>(simd, sizes, [at, to - at], x, g, w, dx, rates);
    }
}

/// A register from a slice of its width or less.
#[inline(always)]
fn load<S: Simd>(simd: S, slice: &[f32]) -> S::f32s {
    match S::as_simd_f32s(slice).0 {
        [whole, ..] => *whole,
        [] => simd.partial_load_f32s(slice),
    }
}

#[inline(always)]
fn store<S: Simd>(simd: S, slice: &mut [f32], value: S::f32s) {
    match S::as_mut_simd_f32s(slice).0 {
        [whole, ..] => *whole = value,
        [] => simd.partial_store_f32s(slice, value),
    }
}

/// The columns of those rows from `at` on, as many as a register holds or fewer.
#[inline(always)]
#[expect(clippy::too_many_arguments, reason = "one flat inner loop")]
fn columns<S: Simd, const DX: bool, const R: usize>(
    simd: S,
    [n, n_in, out, o]: [usize; 4],
    [at, len]: [usize; 2],
    x: &[f32],
    g: &[f32],
    w: &mut [f32],
    dx: &mut [f32],
    ([eta, l2, l1], decay): ([S::f32s; 3], bool),
) {
    let (zero, one) = (simd.splat_f32s(0.0), simd.splat_f32s(1.0));
    let old: [S::f32s; R] = std::array::from_fn(|r| load(simd, &w[r * n_in + at..][..len]));
    let mut slopes = [zero; R];
    for i in 0..n {
        let g = &g[i * out + o..][..R];
        let x = load(simd, &x[i * n_in + at..][..len]);
        let mut back = if DX {
            load(simd, &dx[i * n_in + at..][..len])
        } else {
            zero
        };
        for r in 0..R {
            let delta = simd.splat_f32s(g[r]);
            slopes[r] = simd.mul_add_e_f32s(delta, x, slopes[r]);
            if DX {
                back = simd.mul_add_e_f32s(delta, old[r], back);
            }
        }
        if DX {
            store(simd, &mut dx[i * n_in + at..][..len], back);
        }
    }
    for r in 0..R {
        let w_r = old[r];
        let below = simd.select_f32s(simd.less_than_f32s(w_r, zero), simd.neg_f32s(one), zero);
        let sign = simd.select_f32s(simd.less_than_f32s(zero, w_r), one, below);
        // Where nothing decays, an infinite weight must not meet the zero.
        let decayed = if decay { w_r } else { zero };
        let slope = simd.mul_add_e_f32s(l2, decayed, simd.mul_add_e_f32s(l1, sign, slopes[r]));
        let new = simd.sub_f32s(w_r, simd.mul_f32s(eta, slope));
        store(simd, &mut w[r * n_in + at..][..len], new);
    }
}

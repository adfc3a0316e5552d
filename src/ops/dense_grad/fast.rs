//! The CPU executor's text: rows of W in blocks, each read, used for both products and
//! written once, in registers of the machine's own width (the `pulp` crate).
//!
//! Blocks of rows are tasks for the threads. Each adds to a ∂x of its own, and these are
//! added in order, so results do not depend on the number of threads.

use std::cell::RefCell;

use crate::threads::prelude::*;
use pulp::{Arch, Simd, WithSimd};

use crate::kernel::{Args, Finish};

/// Rows of W that share what is loaded of x, at most.
const MOST_ROWS: usize = 8;
/// Columns of a strip, whole registers of any width: with x and ∂x of ten examples 40 KiB.
const STRIP: usize = 512;
/// Multiply-adds of one task.
const TASK: usize = 1 << 20;
/// Tasks at most: each costs a ∂x.
const MOST_TASKS: usize = 8;

thread_local! {
    /// The tasks' ∂x, kept from launch to launch.
    static SHARES: RefCell<Vec<f32>> = const { RefCell::new(vec![]) };
    /// ∂b, likewise.
    static BIASES: RefCell<Vec<f32>> = const { RefCell::new(vec![]) };
}

pub(super) fn dense_grad<'a>(a: &mut Args<'_, f32>, mut parts: Vec<Box<dyn Finish + 'a>>) {
    let size = a.f(0).len();
    let ended = parts.drain(2.min(parts.len())..).next();
    // Taken and not borrowed: a task of another replica may run here meanwhile.
    let mut shares = SHARES.take();
    let tasks = back::<true>(a, parts, &mut shares);
    let (dx, rest) = shares.split_at_mut(size);
    for share in rest.chunks(size).take(tasks.saturating_sub(1)) {
        for (dx, share) in dx.iter_mut().zip(share) {
            *dx += share;
        }
    }
    match ended {
        Some(mut ended) => ended.take(0, dx),
        None => a.f_mut(4).copy_from_slice(dx),
    }
    SHARES.set(shares);
}

pub(super) fn dense_update<'a>(a: &mut Args<'_, f32>, parts: Vec<Box<dyn Finish + 'a>>) {
    back::<false>(a, parts, &mut vec![]);
}

/// Hands over the gradients of W and b; with `DX` leaves in `shares` the ∂x of as many tasks as it
/// returns.
fn back<'a, const DX: bool>(
    a: &Args<'_, f32>,
    parts: Vec<Box<dyn Finish + 'a>>,
    shares: &mut Vec<f32>,
) -> usize {
    let (n, n_in, out) = (a.size("N"), a.size("IN"), a.size("OUT"));
    let (x, g) = (a.f(0), a.f(1));
    let mut parts = parts.into_iter();
    let (Some(w), Some(mut b)) = (parts.next(), parts.next()) else {
        return 0;
    };
    let mut sums = BIASES.take();
    sums.clear();
    sums.extend((0..out).map(|o| (0..n).map(|n| g[n * out + o]).sum::<f32>()));
    b.take(0, &sums);
    BIASES.set(sums);
    weights::<DX>([n, n_in, out], [x, g], w, shares)
}

/// Hands over gᵀ x: x `[N, in]`, g `[N, out]`, W `[out, in]`.
pub(in crate::ops) fn update<'a>(sizes: [usize; 3], x_g: [&[f32]; 2], w: Box<dyn Finish + 'a>) {
    weights::<false>(sizes, x_g, w, &mut vec![]);
}

/// [`back`] without the biases.
fn weights<'a, const DX: bool>(
    [n, n_in, out]: [usize; 3],
    [x, g]: [&[f32]; 2],
    w: Box<dyn Finish + 'a>,
    shares: &mut Vec<f32>,
) -> usize {
    let tasks = (n * n_in * out / TASK).clamp(1, MOST_TASKS);
    let rows = out.div_ceil(tasks).next_multiple_of(MOST_ROWS);
    let tasks = out.div_ceil(rows);
    let size = if DX { n * n_in } else { 0 };
    shares.resize((tasks * size).max(shares.len()), 0.0);
    let work = |(task, (w, dx)): (usize, (Box<dyn Finish + 'a>, &mut [f32]))| {
        dx.fill(0.0);
        Arch::new().dispatch(Rows::<DX> {
            sizes: [n, n_in, out],
            first: task * rows,
            rows: rows.min(out - task * rows),
            x,
            g,
            w,
            dx,
        });
    };
    match (tasks, DX) {
        (1, _) => work((0, (w, &mut shares[..size]))),
        (_, true) => {
            let shares = shares.par_chunks_mut(size);
            let parts = w.split(rows * n_in).into_par_iter();
            parts.zip(shares).enumerate().for_each(work);
        }
        (_, false) => {
            let rows = w.split(rows * n_in).into_par_iter().enumerate();
            rows.for_each(|(task, w)| work((task, (w, &mut []))));
        }
    }
    tasks
}

/// Some rows of W.
struct Rows<'a, const DX: bool> {
    /// N, in, out.
    sizes: [usize; 3],
    /// The number of the first row, and how many there are.
    first: usize,
    rows: usize,
    x: &'a [f32],
    g: &'a [f32],
    w: Box<dyn Finish + 'a>,
    dx: &'a mut [f32],
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
            rows,
            x,
            g,
            mut w,
            dx,
        } = self;
        // A strip's gradients, R rows of them, until they are handed over.
        let mut slopes = [[0.0; STRIP]; R];
        for from in (0..n_in).step_by(STRIP) {
            let strip = [from, n_in.min(from + STRIP)];
            for o in (0..rows - rows % R).step_by(R) {
                let sizes = [n, n_in, out, first + o, o];
                block::<S, DX, R>(simd, sizes, strip, x, g, &mut *w, dx, &mut slopes);
            }
            for o in rows - rows % R..rows {
                let sizes = [n, n_in, out, first + o, o];
                let slopes = slopes.first_chunk_mut::<1>();
                if let Some(slopes) = slopes {
                    block::<S, DX, 1>(simd, sizes, strip, x, g, &mut *w, dx, slopes);
                }
            }
        }
    }
}

/// A strip of columns of `R` rows of W from number `o` on, the part's row `own`.
#[inline(always)]
#[expect(clippy::too_many_arguments, reason = "one flat inner loop")]
fn block<S: Simd, const DX: bool, const R: usize>(
    simd: S,
    [n, n_in, out, o, own]: [usize; 5],
    [from, to]: [usize; 2],
    x: &[f32],
    g: &[f32],
    w: &mut dyn Finish,
    dx: &mut [f32],
    slopes: &mut [[f32; STRIP]; R],
) {
    let lanes = S::F32_LANES;
    let sizes = [n, n_in, out, o];
    let rows = &w.results()[own * n_in..][..R * n_in];
    let mut at = from;
    while at + lanes <= to {
        columns::<S, DX, R>(simd, sizes, [at, lanes, at - from], x, g, rows, dx, slopes);
        at += lanes;
    }
    if at < to {
        columns::<S, DX, R>(
            simd,
            sizes,
            [at, to - at, at - from],
            x,
            g,
            rows,
            dx,
            slopes,
        );
    }
    for (r, slopes) in slopes.iter().enumerate() {
        w.take((own + r) * n_in + from, &slopes[..to - from]);
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
    [at, len, place]: [usize; 3],
    x: &[f32],
    g: &[f32],
    w: &[f32],
    dx: &mut [f32],
    to: &mut [[f32; STRIP]; R],
) {
    let zero = simd.splat_f32s(0.0);
    // A loop, since `array::from_fn` may stay a call, and that one has the narrow instructions.
    let mut old = [zero; R];
    if DX {
        for r in 0..R {
            old[r] = load(simd, &w[r * n_in + at..][..len]);
        }
    }
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
        store(simd, &mut to[r][place..][..len], slopes[r]);
    }
}

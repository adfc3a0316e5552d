//! The CPU executor's implementation: rows of W in blocks, each read, used for both products and
//! written once, in registers of the machine's own width (the `pulp` crate).
//!
//! Blocks of rows are tasks for the threads. Each adds to a ∂x of its own, and these are
//! added in order, so results do not depend on the number of threads.

use std::cell::RefCell;

use crate::threads::prelude::*;
use pulp::{Arch, Simd, WithSimd};

use super::super::registers::Registers;
use crate::kernel::{Args, Finish};

/// Rows of W that share what is loaded of x, at most.
const MOST_ROWS: usize = 8;
/// Columns of a strip, whole registers of any width: with x and ∂x of ten examples 40 KiB.
const STRIP: usize = 512;
/// Gradients that are handed over at once where rows follow each other in memory: what an ending does once for all of
/// them then weighs little.
const AT_ONCE: usize = 512;
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
            parts.zip(shares).enumerate().share(work);
        }
        (_, false) => {
            let rows = w.split(rows * n_in).into_par_iter().enumerate();
            rows.share(|(task, w)| work((task, (w, &mut []))));
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
        if Registers::of::<S>().are_many() {
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
        let zero = simd.splat_f32s(0.0);
        let blocks = n_in.div_ceil(S::F32_LANES);
        let mut panels = Panels {
            x: panels(simd, [n, n_in], x),
            dx: vec![zero; if DX { blocks * n } else { 0 }],
            n,
        };
        let mut slopes = Slopes::<R>::new();
        let (mut several, mut single) = (vec![[0.0; R]; n], vec![[0.0; 1]; n]);
        for from in (0..n_in).step_by(STRIP) {
            let strip = [from, n_in.min(from + STRIP)];
            let whole = strip == [0, n_in];
            for o in (0..rows - rows % R).step_by(R) {
                take_rows([out, first + o], g, &mut several);
                let (g, own) = (&several[..], [o, n_in]);
                block::<S, DX, R>(
                    simd,
                    own,
                    strip,
                    g,
                    &mut *w,
                    &mut panels,
                    &mut slopes.strips,
                );
                slopes.hand_over::<R>(own, strip, &mut *w);
            }
            for o in rows - rows % R..rows {
                take_rows([out, first + o], g, &mut single);
                let (g, own) = (&single[..], [o, n_in]);
                if let Some(strips) = slopes.strips.first_chunk_mut() {
                    block::<S, DX, 1>(simd, own, strip, g, &mut *w, &mut panels, strips);
                }
                slopes.hand_over::<1>(own, strip, &mut *w);
            }
            if whole {
                slopes.finish(rows * n_in, &mut *w);
            }
        }
        for (i, dx) in dx.chunks_exact_mut(n_in).enumerate() {
            for (block, dx) in dx.chunks_mut(S::F32_LANES).enumerate() {
                store(simd, dx, panels.dx[block * n + i]);
            }
        }
    }
}

/// Gradients of a strip until they are handed over.
struct Slopes<const R: usize> {
    /// Those of `R` rows.
    strips: [[f32; STRIP]; R],
    /// Those of rows that follow each other, where a strip is a whole row.
    held: Vec<f32>,
}

impl<const R: usize> Slopes<R> {
    fn new() -> Self {
        Self {
            strips: [[0.0; STRIP]; R],
            held: Vec::with_capacity(AT_ONCE + R * STRIP),
        }
    }

    /// Hands over `N` rows' strips, the first of row `own`, or keeps them for later.
    #[inline(always)]
    fn hand_over<const N: usize>(
        &mut self,
        [own, n_in]: [usize; 2],
        [from, to]: [usize; 2],
        w: &mut dyn Finish,
    ) {
        let strips = self.strips.iter().take(N);
        if [from, to] == [0, n_in] {
            strips.for_each(|strip| self.held.extend_from_slice(&strip[..n_in]));
            if self.held.len() >= AT_ONCE {
                self.finish((own + N) * n_in, w);
            }
            return;
        }
        for (r, strip) in strips.enumerate() {
            w.take((own + r) * n_in + from, &strip[..to - from]);
        }
    }

    /// Hands over what is kept, which ends before element `end`.
    fn finish(&mut self, end: usize, w: &mut dyn Finish) {
        if !self.held.is_empty() {
            w.take(end - self.held.len(), &self.held);
            self.held.clear();
        }
    }
}

/// x and ∂x as the inner loop goes through them: a register of columns of all examples, then the next
/// register's.
struct Panels<V> {
    x: Vec<V>,
    dx: Vec<V>,
    /// Examples.
    n: usize,
}

/// Panels of x `[n, columns]`, filled up with zeros.
#[inline(always)]
fn panels<S: Simd>(simd: S, [n, columns]: [usize; 2], x: &[f32]) -> Vec<S::f32s> {
    let blocks = columns.div_ceil(S::F32_LANES);
    let mut panels = vec![simd.splat_f32s(0.0); blocks * n];
    for (i, row) in x.chunks_exact(columns).enumerate() {
        for (block, part) in row.chunks(S::F32_LANES).enumerate() {
            panels[block * n + i] = load(simd, part);
        }
    }
    panels
}

/// What g `[N, out]` has for the `R` rows of W from `o` on.
#[inline(always)]
fn take_rows<const R: usize>([out, o]: [usize; 2], g: &[f32], to: &mut [[f32; R]]) {
    for (to, g) in to.iter_mut().zip(g.chunks_exact(out)) {
        to.copy_from_slice(&g[o..][..R]);
    }
}

/// A strip of columns of `R` rows of W, the part's row `own` and those after it.
#[inline(always)]
fn block<S: Simd, const DX: bool, const R: usize>(
    simd: S,
    [own, n_in]: [usize; 2],
    [from, to]: [usize; 2],
    g: &[[f32; R]],
    w: &mut dyn Finish,
    panels: &mut Panels<S::f32s>,
    slopes: &mut [[f32; STRIP]; R],
) {
    let (lanes, n) = (S::F32_LANES, panels.n);
    let rows = &w.results()[own * n_in..][..R * n_in];
    for at in (from..to).step_by(lanes) {
        let len = lanes.min(to - at);
        // Loops over rows and not `array::from_fn`, which may stay a call into narrow instructions.
        let mut old = [simd.splat_f32s(0.0); R];
        if DX {
            for r in 0..R {
                old[r] = load(simd, &rows[r * n_in + at..][..len]);
            }
        }
        let examples = at / lanes * n..(at / lanes + 1) * n;
        let dx: &mut [S::f32s] = match DX {
            true => &mut panels.dx[examples.clone()],
            false => &mut [],
        };
        let sums = columns::<S, DX, R>(simd, old, g, &panels.x[examples], dx);
        for r in 0..R {
            store(simd, &mut slopes[r][at - from..][..len], sums[r]);
        }
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

/// The gradients of a register of columns in `R` rows of W, which are `old`; adds to ∂x.
#[inline(always)]
fn columns<S: Simd, const DX: bool, const R: usize>(
    simd: S,
    old: [S::f32s; R],
    g: &[[f32; R]],
    x: &[S::f32s],
    dx: &mut [S::f32s],
) -> [S::f32s; R] {
    let mut slopes = [simd.splat_f32s(0.0); R];
    if DX {
        for ((g, &x), dx) in g.iter().zip(x).zip(dx) {
            let mut back = *dx;
            for r in 0..R {
                let delta = simd.splat_f32s(g[r]);
                slopes[r] = simd.mul_add_e_f32s(delta, x, slopes[r]);
                back = simd.mul_add_e_f32s(delta, old[r], back);
            }
            *dx = back;
        }
    } else {
        for (g, &x) in g.iter().zip(x) {
            for r in 0..R {
                slopes[r] = simd.mul_add_e_f32s(simd.splat_f32s(g[r]), x, slopes[r]);
            }
        }
    }
    slopes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::Hand;

    /// What is handed over, and in which pieces.
    struct Noted<'a> {
        elements: &'a mut [f32],
        pieces: &'a mut Vec<usize>,
    }

    impl Finish for Noted<'_> {
        fn results(&mut self) -> &mut [f32] {
            self.elements
        }
        fn take(&mut self, from: usize, elements: &[f32]) {
            self.elements[from..][..elements.len()].copy_from_slice(elements);
            self.pieces.push(elements.len());
        }
        fn work(&self) -> usize {
            0
        }
        fn split<'a>(self: Box<Self>, _: usize) -> Vec<Box<dyn Finish + 'a>>
        where
            Self: 'a,
        {
            vec![self]
        }
        fn deal<'a>(self: Box<Self>, _: usize, _: usize) -> Vec<Hand<'a>>
        where
            Self: 'a,
        {
            vec![]
        }
    }

    /// An ending has numbers to find before its first element: rows of few columns go to it together.
    #[test]
    fn short_rows_are_handed_over_together() {
        for (n_in, out, most) in [
            (1, 3, 1),
            (16, 64, 2),
            (64, 64, 8),
            (64, 67, 9),
            (512, 5, 5),
            (700, 9, 18),
        ] {
            let x: Vec<f32> = (0..2 * n_in).map(|i| (i % 7) as f32).collect();
            let g: Vec<f32> = (0..2 * out).map(|i| (i % 5) as f32).collect();
            let (mut elements, mut pieces) = (vec![f32::NAN; n_in * out], vec![]);
            let noted = Noted {
                elements: &mut elements,
                pieces: &mut pieces,
            };
            update([2, n_in, out], [&x, &g], Box::new(noted));
            for (at, &element) in elements.iter().enumerate() {
                let (o, i) = (at / n_in, at % n_in);
                let wanted = g[o] * x[i] + g[out + o] * x[n_in + i];
                assert_eq!(element, wanted, "row {o}, column {i} of {out} by {n_in}");
            }
            assert_eq!(pieces.iter().sum::<usize>(), n_in * out);
            assert!(pieces.len() <= most, "{n_in} by {out}: {pieces:?}");
        }
    }
}

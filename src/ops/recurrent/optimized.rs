//! The CPU executor's implementations: a thread takes some examples through all steps, since examples do
//! not wait for each other. A step is the recurrent products of these examples, in registers over
//! panels of W that were put together once for all steps, and then the gates, row by row, in
//! loops over all units.

use pulp::{Arch, Simd, WithSimd};

use crate::functions::{sigmoid, tanh};
use crate::kernel::Args;
use crate::threads::{current_num_threads, prelude::*};

mod panels;

use panels::{Multiply, Panels, Rows, Side};

/// Multiply-adds of all steps below which a second thread is not worth waking.
const SPLIT: usize = 1 << 18;

/// Sizes of a launch, and in which order its steps come.
#[derive(Clone, Copy)]
struct Sizes {
    t: usize,
    h: usize,
    reverse: bool,
    /// Examples of a task.
    chunk: usize,
}

impl Sizes {
    fn of(a: &Args<'_, f32>, gates: usize) -> Self {
        let [n, t, h] = ["N", "T", "H"].map(|name| a.size(name));
        let threads = match n * t * gates * h * h {
            small if small < SPLIT => 1,
            _ => current_num_threads(),
        };
        Self {
            t,
            h,
            reverse: a.size("REVERSE") == 1,
            // No sum crosses examples, so the cut changes no bits.
            chunk: n.div_ceil(threads),
        }
    }

    /// The place of a step in `[T]`.
    fn place(&self, step: usize) -> usize {
        match self.reverse {
            false => step,
            true => self.t - 1 - step,
        }
    }
}

/// One example's values of one step: rows of some times H numbers.
struct Making<'a> {
    x: &'a [f32],
    b: &'a [f32],
    /// The recurrent products; what the loops make of them is theirs.
    a: &'a mut [f32],
    /// h before, and then h.
    state: &'a mut [f32],
    /// c before, and then c.
    cell: &'a mut [f32],
    saved: &'a mut [f32],
}

/// The same on the way back.
struct Back<'a> {
    /// The gradient of h.
    dh: &'a mut [f32],
    /// What goes past W to the step before: of h, of c.
    past: [&'a mut [f32]; 2],
    y: &'a [f32],
    y_before: &'a [f32],
    saved: &'a [f32],
    saved_before: &'a [f32],
    dx: &'a mut [f32],
    /// The gradient of the recurrent products, where it is not ∂x.
    da: &'a mut [f32],
}

/// What a cell computes row by row.
trait Loops: Copy + Send + Sync {
    const GATES: usize;
    const SAVED: usize;
    /// Whether ∂x is not the gradient of the recurrent products.
    const APART: bool = false;
    fn make(self, row: Making<'_>, h: usize);
    fn back(self, row: Back<'_>, h: usize);
}

#[inline(always)]
fn each(to: &mut [f32], f: impl Fn(f32) -> f32) {
    to.iter_mut().for_each(|to| *to = f(*to));
}

#[inline(always)]
fn with(to: &mut [f32], other: &[f32], f: impl Fn(f32, f32) -> f32) {
    to.iter_mut()
        .zip(other)
        .for_each(|(to, &x)| *to = f(*to, x));
}

#[inline(always)]
fn with_two(to: &mut [f32], one: &[f32], two: &[f32], f: impl Fn(f32, f32, f32) -> f32) {
    let others = one.iter().zip(two);
    to.iter_mut()
        .zip(others)
        .for_each(|(to, (&x, &y))| *to = f(*to, x, y));
}

/// The parts of a row that are H numbers each.
#[inline(always)]
fn parts<const N: usize>(row: &[f32], h: usize) -> [&[f32]; N] {
    std::array::from_fn(|part| &row[part * h..][..h])
}

#[derive(Clone, Copy)]
struct Lstm;

impl Loops for Lstm {
    const GATES: usize = 4;
    const SAVED: usize = 5;

    #[inline(always)]
    fn make(self, row: Making<'_>, h: usize) {
        let Making {
            x,
            b,
            a,
            state,
            cell,
            saved,
        } = row;
        with_two(a, x, b, |a, x, b| x + b + a);
        each(&mut a[..2 * h], sigmoid);
        each(&mut a[2 * h..3 * h], tanh);
        each(&mut a[3 * h..], sigmoid);
        let [i, f, g, o] = parts(a, h);
        with(cell, f, |c, f| f * c);
        with_two(cell, i, g, |c, i, g| c + i * g);
        with(state, cell, |_, c| tanh(c));
        with(state, o, |s, o| o * s);
        saved[..4 * h].copy_from_slice(a);
        saved[4 * h..].copy_from_slice(cell);
    }

    #[inline(always)]
    fn back(self, row: Back<'_>, h: usize) {
        let Back {
            dh,
            past: [left, dc],
            saved,
            saved_before,
            dx,
            ..
        } = row;
        let [i, f, g, o, c] = parts(saved, h);
        let c_before = &saved_before[4 * h..];
        // Nothing goes past W but by c; its row holds tanh c meanwhile.
        with(left, c, |_, c| tanh(c));
        let (di, rest) = dx.split_at_mut(h);
        let (df, rest) = rest.split_at_mut(h);
        let (dg, d_o) = rest.split_at_mut(h);
        with_two(d_o, dh, left, |_, dh, open| dh * open);
        with(d_o, o, |d, o| d * (o * (1.0 - o)));
        with(dh, o, |dh, o| dh * o);
        with_two(dc, dh, left, |dc, dh, open| dc + dh * (1.0 - open * open));
        with_two(di, dc, g, |_, dc, g| dc * g);
        with(di, i, |d, i| d * (i * (1.0 - i)));
        with_two(df, dc, c_before, |_, dc, c| dc * c);
        with(df, f, |d, f| d * (f * (1.0 - f)));
        with_two(dg, dc, i, |_, dc, i| dc * i);
        with(dg, g, |d, g| d * (1.0 - g * g));
        with(dc, f, |dc, f| dc * f);
        left.fill(0.0);
    }
}

#[derive(Clone, Copy)]
struct Gru;

impl Loops for Gru {
    const GATES: usize = 3;
    const SAVED: usize = 4;
    const APART: bool = true;

    #[inline(always)]
    fn make(self, row: Making<'_>, h: usize) {
        let Making {
            x,
            b,
            a,
            state,
            saved,
            ..
        } = row;
        with(a, b, |a, b| a + b);
        with(&mut a[..2 * h], &x[..2 * h], |a, x| x + a);
        each(&mut a[..2 * h], sigmoid);
        let (rz, q) = a.split_at(2 * h);
        let (r, z) = rz.split_at(h);
        saved[..2 * h].copy_from_slice(rz);
        let (n, kept_q) = saved[2 * h..].split_at_mut(h);
        kept_q.copy_from_slice(q);
        n.copy_from_slice(&x[2 * h..]);
        with_two(n, r, q, |x, r, q| x + r * q);
        each(n, tanh);
        with_two(state, n, z, |s, n, z| (1.0 - z) * n + z * s);
    }

    #[inline(always)]
    fn back(self, row: Back<'_>, h: usize) {
        let Back {
            dh,
            past: [left, _],
            y_before,
            saved,
            dx,
            da,
            ..
        } = row;
        let [r, z, n, q] = parts(saved, h);
        with_two(left, dh, z, |_, dh, z| dh * z);
        let (dr, rest) = dx.split_at_mut(h);
        let (dz, dn) = rest.split_at_mut(h);
        with_two(dz, y_before, n, |_, h, n| h - n);
        with_two(dz, dh, z, |d, dh, z| dh * d * (z * (1.0 - z)));
        with_two(dn, dh, z, |_, dh, z| dh * (1.0 - z));
        with(dn, n, |d, n| d * (1.0 - n * n));
        with_two(dr, dn, q, |_, dn, q| dn * q);
        with(dr, r, |d, r| d * (r * (1.0 - r)));
        da.copy_from_slice(dx);
        with(&mut da[2 * h..], r, |d, r| d * r);
    }
}

/// The plain recurrence; by max(0, x) if so.
#[derive(Clone, Copy)]
struct Plain(bool);

impl Loops for Plain {
    const GATES: usize = 1;
    const SAVED: usize = 0;

    #[inline(always)]
    fn make(self, row: Making<'_>, _: usize) {
        let Making { x, b, a, state, .. } = row;
        with_two(a, x, b, |a, x, b| x + b + a);
        match self.0 {
            // What is not a number stays.
            true => with(state, a, |_, x| if x <= 0.0 { 0.0 } else { x }),
            false => with(state, a, |_, x| tanh(x)),
        }
    }

    #[inline(always)]
    fn back(self, row: Back<'_>, _: usize) {
        let Back {
            dh,
            past: [left, _],
            y,
            dx,
            ..
        } = row;
        match self.0 {
            true => with_two(dx, dh, y, |_, dh, y| if y <= 0.0 { 0.0 } else { dh }),
            false => with_two(dx, dh, y, |_, dh, y| dh * (1.0 - y * y)),
        }
        left.fill(0.0);
    }
}

/// The products of a step. Their code is one for all cells, with vectors of its own.
fn multiply(panels: &Panels, n: usize, rows: Rows<'_>, results: &mut [f32]) {
    Arch::new().dispatch(Multiply {
        panels,
        n,
        rows,
        results,
    });
}

/// All steps of some examples, forward.
struct Forward<'a, L> {
    loops: L,
    sizes: Sizes,
    panels: &'a Panels,
    x: &'a [f32],
    b: &'a [f32],
    y: &'a mut [f32],
    saved: &'a mut [f32],
}

impl<L: Loops> WithSimd for Forward<'_, L> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Sizes { t, h, .. } = self.sizes;
        let n = self.y.len() / (t * h);
        let (width, kept) = (L::GATES * h, L::SAVED * h);
        let mut a = vec![0.0; n * width];
        let mut states = vec![0.0; n * h];
        let mut cells = vec![0.0; n * h];
        for step in 0..t {
            let place = self.sizes.place(step);
            let rows = Rows {
                data: &states,
                first: 0,
                apart: h,
            };
            multiply(self.panels, n, rows, &mut a);
            for e in 0..n {
                let at = e * t + place;
                let row = Making {
                    x: &self.x[at * width..][..width],
                    b: self.b,
                    a: &mut a[e * width..][..width],
                    state: &mut states[e * h..][..h],
                    cell: &mut cells[e * h..][..h],
                    saved: &mut self.saved[at * kept..][..kept],
                };
                self.loops.make(row, h);
                self.y[at * h..][..h].copy_from_slice(&states[e * h..][..h]);
            }
        }
    }
}

/// All steps of some examples, backward.
struct Backward<'a, L> {
    loops: L,
    sizes: Sizes,
    panels: &'a Panels,
    g: &'a [f32],
    y: &'a [f32],
    saved: &'a [f32],
    dx: &'a mut [f32],
    previous: &'a mut [f32],
    da: &'a mut [f32],
}

impl<L: Loops> WithSimd for Backward<'_, L> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Sizes { t, h, .. } = self.sizes;
        let n = self.y.len() / (t * h);
        let (width, kept) = (L::GATES * h, L::SAVED * h);
        let zeros = vec![0.0; h * L::SAVED.max(1)];
        let mut dh = vec![0.0; n * h];
        // What W carries to the step before, and what goes past it.
        let mut carried = vec![0.0; n * h];
        let mut left = vec![0.0; n * h];
        let mut cells = vec![0.0; n * h];
        for step in (0..t).rev() {
            let place = self.sizes.place(step);
            for e in 0..n {
                let at = e * t + place;
                let before = (step > 0).then(|| e * t + self.sizes.place(step - 1));
                let y_before = before.map_or(&zeros[..h], |at| &self.y[at * h..][..h]);
                let saved_before =
                    before.map_or(&zeros[..kept], |at| &self.saved[at * kept..][..kept]);
                self.previous[at * h..][..h].copy_from_slice(y_before);
                let here = e * h..(e + 1) * h;
                let dh = &mut dh[here.clone()];
                dh.copy_from_slice(&self.g[at * h..][..h]);
                with_two(
                    dh,
                    &carried[here.clone()],
                    &left[here.clone()],
                    |g, c, l| g + (c + l),
                );
                let apart = if L::APART {
                    at * width..(at + 1) * width
                } else {
                    0..0
                };
                let row = Back {
                    dh,
                    past: [&mut left[here.clone()], &mut cells[here]],
                    y: &self.y[at * h..][..h],
                    y_before,
                    saved: &self.saved[at * kept..][..kept],
                    saved_before,
                    dx: &mut self.dx[at * width..][..width],
                    da: &mut self.da[apart],
                };
                self.loops.back(row, h);
            }
            let slopes: &[f32] = if L::APART { self.da } else { self.dx };
            let rows = Rows {
                data: slopes,
                first: place * width,
                apart: t * width,
            };
            multiply(self.panels, n, rows, &mut carried);
        }
    }
}

/// x, W, b, and of a cell that saves anything h and what is saved.
fn forward<L: Loops>(args: &mut Args<'_, f32>, loops: L) {
    let sizes = Sizes::of(args, L::GATES);
    let Sizes { t, h, chunk, .. } = sizes;
    let (x, w, b, y) = (args.f(0), args.f(1), args.f(2), args.f_mut(3));
    let saved = if L::SAVED > 0 { args.f_mut(4) } else { &mut [] };
    let panels = Panels::new(w, h, L::GATES, Side::Rows);
    let work = |((x, y), saved): ((&[f32], &mut [f32]), &mut [f32])| {
        Arch::new().dispatch(Forward {
            loops,
            sizes,
            panels: &panels,
            x,
            b,
            y,
            saved,
        });
    };
    let examples = x.par_chunks(chunk * t * L::GATES * h);
    let examples = examples.zip(y.par_chunks_mut(chunk * t * h));
    match L::SAVED {
        0 => examples.share(|example| work((example, &mut []))),
        kept => examples
            .zip(saved.par_chunks_mut(chunk * t * kept * h))
            .share(work),
    }
}

/// The gradient of h, W, h and, of a cell that saves anything, that; ∂x, the states before and,
/// where it is apart, the gradient of the recurrent products.
fn backward<L: Loops>(args: &mut Args<'_, f32>, loops: L) {
    let sizes = Sizes::of(args, L::GATES);
    let Sizes { t, h, chunk, .. } = sizes;
    let (g, w, y) = (args.f(0), args.f(1), args.f(2));
    let saved = if L::SAVED > 0 { args.f(3) } else { &[] };
    let first = if L::SAVED > 0 { 4 } else { 3 };
    let (dx, previous) = (args.f_mut(first), args.f_mut(first + 1));
    let da = if L::APART {
        args.f_mut(first + 2)
    } else {
        &mut []
    };
    let panels = Panels::new(w, h, L::GATES, Side::Columns);
    let width = chunk * t * L::GATES * h;
    // The parts of a task are found by its number, since some have no elements.
    let mut das = da.chunks_mut(width);
    let rest = dx.chunks_mut(width).zip(previous.chunks_mut(chunk * t * h));
    let tasks = rest
        .zip(g.chunks(chunk * t * h))
        .zip(y.chunks(chunk * t * h))
        .enumerate();
    let tasks = tasks.map(|(task, (((dx, previous), g), y))| {
        let per = chunk * t * L::SAVED * h;
        let saved = &saved[(task * per).min(saved.len())..((task + 1) * per).min(saved.len())];
        let da = das.next().unwrap_or_default();
        Backward {
            loops,
            sizes,
            panels: &panels,
            g,
            y,
            saved,
            dx,
            previous,
            da,
        }
    });
    let tasks: Vec<_> = tasks.collect();
    tasks
        .into_par_iter()
        .share(|task| Arch::new().dispatch(task));
}

pub(super) fn lstm(args: &mut Args<'_, f32>) {
    forward(args, Lstm);
}

pub(super) fn lstm_grad(args: &mut Args<'_, f32>) {
    backward(args, Lstm);
}

pub(super) fn gru(args: &mut Args<'_, f32>) {
    forward(args, Gru);
}

pub(super) fn gru_grad(args: &mut Args<'_, f32>) {
    backward(args, Gru);
}

pub(super) fn rnn(args: &mut Args<'_, f32>) {
    let relu = args.size("RELU") == 1;
    forward(args, Plain(relu));
}

pub(super) fn rnn_grad(args: &mut Args<'_, f32>) {
    let relu = args.size("RELU") == 1;
    backward(args, Plain(relu));
}

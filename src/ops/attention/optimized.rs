//! The CPU executor's implementations: some queries of a head at a time against all keys that they see, as products of
//! matrices, while their scores are in the cache.

use pulp::{Arch, Simd, WithSimd};

use super::super::gemm::{Matrix, serial};
use super::super::sums::{Sums, largest};
use super::reference::{self, Head};
use crate::functions::{exp, ln};
use crate::kernel::Args;
use crate::threads::prelude::*;

/// Queries that go through together, and fewer where they would not be tasks enough.
const ROWS: usize = 64;
const FEW_ROWS: usize = 16;
/// Tasks that are enough.
const TASKS: usize = 16;

impl Head {
    /// How many keys come before the last one that queries before `end` may see.
    fn reach(&self, end: usize) -> usize {
        if self.causal { self.s.min(end) } else { self.s }
    }

    /// Keys, or values, as a matrix `[S, d]`.
    fn keys<'a>(&self, kv: &'a [f32], values: bool) -> Matrix<'a> {
        let first = self.key(0) + if values { self.width() } else { 0 };
        Matrix {
            data: &kv[first..],
            row: self.kv_row,
            col: 1,
        }
    }

    /// Queries from number `first` on, `[.., d]`.
    fn queries<'a>(&self, q: &'a [f32], first: usize) -> Matrix<'a> {
        Matrix {
            data: &q[self.query(first)..],
            row: self.q_row,
            col: 1,
        }
    }

    /// Rows of y, or of its gradient, from number `first` on, `[.., d]`.
    fn rows<'a>(&self, y: &'a [f32], first: usize) -> Matrix<'a> {
        Matrix {
            data: &y[self.row(first)..],
            row: self.width(),
            col: 1,
        }
    }

    /// The mask's row, empty without a mask.
    fn mask_of<'a>(&self, mask: &'a [f32]) -> &'a [f32] {
        match self.masked {
            true => &mask[self.example * self.mask_row..][..self.s],
            false => &[],
        }
    }
}

fn transposed(of: Matrix<'_>) -> Matrix<'_> {
    Matrix {
        row: of.col,
        col: of.row,
        ..of
    }
}

/// Whether these inputs are finite, so that 0 times what is hidden is 0.
fn finite(a: &Args<'_, f32>, inputs: &[usize]) -> bool {
    let part = |part: &[f32]| part.iter().fold(true, |all, x| all & x.is_finite());
    inputs.iter().all(|&k| a.f(k).chunks(4096).all(part))
}

pub(super) fn attention(a: &mut Args<'_, f32>) {
    if !finite(a, &[0, 1]) {
        return reference::attention(a);
    }
    let (q, kv, mask) = (a.f(0), a.f(1), a.f(2));
    let heads: Vec<Head> = Head::all(a).collect();
    let (y, levels) = (a.f_mut(3), a.f_mut(4));
    let Some(&Head { t, heads: h, d, .. }) = heads.first() else {
        return;
    };
    let many = heads.len() / h * t.div_ceil(ROWS) >= TASKS;
    let several = if many { ROWS } else { FEW_ROWS };
    let examples = y.chunks_mut(t * h * d).zip(levels.chunks_mut(t * h));
    let tasks = examples
        .zip(heads.chunks(h))
        .flat_map(|((y, levels), heads)| {
            let blocks = y
                .chunks_mut(several * h * d)
                .zip(levels.chunks_mut(several * h));
            blocks
                .enumerate()
                .map(move |(k, block)| (k * several, block, heads))
        });
    let tasks: Vec<_> = tasks.collect();
    tasks.into_par_iter().share(|(first, (y, levels), heads)| {
        let rows = levels.len() / h;
        for (number, head) in heads.iter().enumerate() {
            let seen = head.reach(first + rows);
            let mut shares = vec![0.0; rows * seen];
            let mut totals = vec![0.0; rows];
            let mut mixed = vec![0.0; rows * d];
            let keys = transposed(head.keys(kv, false));
            serial(
                [rows, seen, d],
                head.queries(q, first),
                keys,
                &mut shares,
                false,
            );
            Arch::new().dispatch(Shares {
                head,
                mask: head.mask_of(mask),
                first,
                shares: &mut shares,
                totals: &mut totals,
                levels: &mut levels[number..],
            });
            let shares = Matrix::of(&shares, seen, false);
            serial(
                [rows, d, seen],
                shares,
                head.keys(kv, true),
                &mut mixed,
                false,
            );
            let rows = y.chunks_exact_mut(h * d).zip(mixed.chunks_exact(d));
            for ((y, mixed), &total) in rows.zip(&totals) {
                for (y, &mixed) in y[number * d..].iter_mut().zip(mixed) {
                    // A row that sees nothing takes nothing.
                    *y = if total == 0.0 { 0.0 } else { mixed / total };
                }
            }
        }
    });
}

/// e^(score − largest) of each row of products, and the rows' sums and levels.
struct Shares<'a> {
    head: &'a Head,
    mask: &'a [f32],
    /// The first row's query.
    first: usize,
    /// `[rows, seen]`, products before.
    shares: &'a mut [f32],
    totals: &'a mut [f32],
    /// From this head's on, every H-th is of it.
    levels: &'a mut [f32],
}

impl WithSimd for Shares<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let (head, scale) = (self.head, self.head.scale as f32);
        let seen = self.shares.len() / self.totals.len();
        let levels = self.levels.iter_mut().step_by(head.heads);
        let rows = self.shares.chunks_exact_mut(seen).zip(levels);
        for (r, ((row, level), total)) in rows.zip(self.totals).enumerate() {
            let (row, hidden) = row.split_at_mut(seen.min(head.reach(self.first + r + 1)));
            hidden.fill(0.0);
            scored(row, self.mask, scale);
            let most = largest(row);
            for score in row.iter_mut() {
                let share = exp(*score - most);
                *score = if *score == HIDDEN { 0.0 } else { share };
            }
            let mut sums = Sums::NONE;
            sums.add(row.len(), &*row);
            [*total] = sums.totals();
            *level = if *total == 0.0 {
                0.0
            } else {
                most + ln(*total)
            };
        }
    }
}

/// What a hidden score is: the lowest number.
const HIDDEN: f32 = f32::MIN;

/// Scores of products, NaN where one is not finite.
#[inline(always)]
fn scored(row: &mut [f32], mask: &[f32], scale: f32) {
    for score in row.iter_mut() {
        let scaled = *score * scale;
        *score = if scaled.abs() < f32::INFINITY {
            scaled
        } else {
            f32::NAN
        };
    }
    for (score, &mask) in row.iter_mut().zip(mask) {
        *score = if mask > 0.0 { *score } else { HIDDEN };
    }
}

/// What a head's gradient is made in: `[T, d]`, `[S, d]` and `[S, d]` with respect to queries, keys and values.
fn of_head(head: &Head, a: [&[f32]; 6], made: &mut [f32]) {
    let [q, kv, mask, y, levels, g] = a;
    let (t, s, d) = (head.t, head.s, head.d);
    let (dq, rest) = made.split_at_mut(t * d);
    let (dk, dv) = rest.split_at_mut(s * d);
    let mut shares = vec![0.0; ROWS.min(t) * s];
    let mut slopes = shares.clone();
    for (block, dq) in dq.chunks_mut(ROWS * d).enumerate() {
        let (first, rows) = (block * ROWS, dq.len() / d);
        let seen = head.reach(first + rows);
        let (shares, slopes) = (&mut shares[..rows * seen], &mut slopes[..rows * seen]);
        let (queries, up) = (head.queries(q, first), head.rows(g, first));
        let (keys, values) = (head.keys(kv, false), head.keys(kv, true));
        serial([rows, seen, d], queries, transposed(keys), shares, false);
        serial([rows, seen, d], up, transposed(values), slopes, false);
        Arch::new().dispatch(Slopes {
            head,
            mask: head.mask_of(mask),
            first,
            y,
            levels,
            g,
            shares,
            slopes,
        });
        let [shares, slopes] = [&*shares, &*slopes].map(|x| Matrix::of(x, seen, false));
        let (dk, dv) = (&mut dk[..seen * d], &mut dv[..seen * d]);
        serial([rows, d, seen], slopes, keys, dq, false);
        serial([seen, d, rows], transposed(slopes), queries, dk, true);
        serial([seen, d, rows], transposed(shares), up, dv, true);
    }
}

/// The shares of some queries of products with keys, and the scores' slopes of products with values.
struct Slopes<'a> {
    head: &'a Head,
    mask: &'a [f32],
    first: usize,
    y: &'a [f32],
    levels: &'a [f32],
    g: &'a [f32],
    shares: &'a mut [f32],
    slopes: &'a mut [f32],
}

impl WithSimd for Slopes<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let (head, scale) = (self.head, self.head.scale as f32);
        let seen = head.reach(self.first + ROWS.min(head.t - self.first));
        let rows = self.shares.chunks_exact_mut(seen);
        for (r, (shares, slopes)) in rows.zip(self.slopes.chunks_exact_mut(seen)).enumerate() {
            let i = self.first + r;
            let [g, y] = [self.g, self.y].map(|of| &of[head.row(i)..][..head.d]);
            let mut delta = 0.0;
            for (&g, &y) in g.iter().zip(y) {
                delta += g * y;
            }
            let level = self.levels[head.level(i)];
            let sees = seen.min(head.reach(i + 1));
            let (shares, hidden) = shares.split_at_mut(sees);
            hidden.fill(0.0);
            slopes[sees..].fill(0.0);
            scored(shares, self.mask, scale);
            for (share, slope) in shares.iter_mut().zip(slopes) {
                let p = if *share == HIDDEN {
                    0.0
                } else {
                    exp(*share - level)
                };
                *slope = if *share == HIDDEN {
                    0.0
                } else {
                    p * (*slope - delta) * scale
                };
                *share = p;
            }
        }
    }
}

pub(super) fn attention_grad(a: &mut Args<'_, f32>) {
    if !finite(a, &[0, 1, 5]) {
        return reference::attention_grad(a);
    }
    let given: [&[f32]; 6] = std::array::from_fn(|k| a.f(k));
    let heads: Vec<Head> = Head::all(a).collect();
    let Some(&first) = heads.first() else {
        return;
    };
    let (t, s, h, d) = (first.t, first.s, first.heads, first.d);
    let size = (t + 2 * s) * d;
    let mut made = vec![0.0; heads.len() * size];
    let tasks = made.par_chunks_mut(size).zip(&heads);
    tasks.share(|(made, head)| of_head(head, given, made));
    // From heads one after the other to rows of all heads.
    let own = a.slots.len() == 7;
    let rows = if own { 3 } else { 1 };
    let others: &mut [f32] = if own { &mut [] } else { a.f_mut(7) };
    let examples = a.f_mut(6).par_chunks_mut(t * rows * h * d);
    examples.zip(made.par_chunks(h * size)).share(|(dq, made)| {
        for (head, made) in made.chunks_exact(size).enumerate() {
            if own {
                beside(dq, &made[..t * d], [3 * h, head, d]);
                beside(dq, &made[t * d..][..s * d], [3 * h, h + head, d]);
                beside(dq, &made[(t + s) * d..], [3 * h, 2 * h + head, d]);
            } else {
                beside(dq, &made[..t * d], [h, head, d]);
            }
        }
    });
    let examples = others.par_chunks_mut(s * 2 * h * d);
    examples
        .zip(made.par_chunks(h * size))
        .share(|(dkv, made)| {
            for (head, made) in made.chunks_exact(size).enumerate() {
                beside(dkv, &made[t * d..][..s * d], [2 * h, head, d]);
                beside(dkv, &made[(t + s) * d..], [2 * h, h + head, d]);
            }
        });
}

/// Writes rows of d numbers as number `at` of so many side by side.
fn beside(to: &mut [f32], from: &[f32], [many, at, d]: [usize; 3]) {
    for (to, from) in to.chunks_exact_mut(many * d).zip(from.chunks_exact(d)) {
        to[at * d..][..d].copy_from_slice(from);
    }
}

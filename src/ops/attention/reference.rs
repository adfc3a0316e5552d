//! The reference, query by query and key by key, and where in the buffers a head stands.

use super::super::softmax;
use crate::kernel::Args;
use crate::tensor::Real;

/// Where the rows of a head stand.
#[derive(Clone, Copy)]
pub(super) struct Head {
    pub(super) t: usize,
    pub(super) s: usize,
    pub(super) heads: usize,
    pub(super) d: usize,
    pub(super) q_row: usize,
    pub(super) kv_row: usize,
    pub(super) keys: usize,
    pub(super) mask_row: usize,
    pub(super) masked: bool,
    pub(super) causal: bool,
    pub(super) scale: f64,
    /// Which example and which head.
    pub(super) example: usize,
    pub(super) head: usize,
}

impl Head {
    /// All heads of all examples of a launch.
    pub(super) fn all<T: Real>(a: &Args<'_, T>) -> impl Iterator<Item = Self> + use<T> {
        let first = Self {
            t: a.size("T"),
            s: a.size("S"),
            heads: a.size("HEADS"),
            d: a.size("D"),
            q_row: a.size("Q_ROW"),
            kv_row: a.size("KV_ROW"),
            keys: a.size("KEYS"),
            mask_row: a.size("MASK_ROW"),
            masked: a.size("MASKED") == 1,
            causal: a.size("CAUSAL") == 1,
            scale: a.number("SCALE"),
            example: 0,
            head: 0,
        };
        let each = (0..a.size("N")).flat_map(move |n| (0..first.heads).map(move |h| (n, h)));
        each.map(move |(example, head)| Self {
            example,
            head,
            ..first
        })
    }

    pub(super) fn width(&self) -> usize {
        self.heads * self.d
    }

    /// Where query i begins.
    pub(super) fn query(&self, i: usize) -> usize {
        (self.example * self.t + i) * self.q_row + self.head * self.d
    }

    /// Where key j begins; its value is [`Head::width`] behind.
    pub(super) fn key(&self, j: usize) -> usize {
        (self.example * self.s + j) * self.kv_row + self.keys + self.head * self.d
    }

    /// Where row i of y begins.
    pub(super) fn row(&self, i: usize) -> usize {
        (self.example * self.t + i) * self.width() + self.head * self.d
    }

    /// Where the level of row i stands.
    pub(super) fn level(&self, i: usize) -> usize {
        (self.example * self.t + i) * self.heads + self.head
    }

    /// Whether query i sees key j.
    pub(super) fn sees<T: Real>(&self, mask: &[T], i: usize, j: usize) -> bool {
        let shown = || mask[self.example * self.mask_row + j].wide() > 0.0;
        !(self.causal && j > i) && (!self.masked || shown())
    }

    /// The score of each key that query i sees; NaN where it is not finite.
    pub(super) fn scores<T: Real>(
        &self,
        q: &[T],
        kv: &[T],
        mask: &[T],
        i: usize,
    ) -> Vec<(usize, T)> {
        let q = &q[self.query(i)..][..self.d];
        let seen = (0..self.s).filter(|&j| self.sees(mask, i, j));
        let scored = seen.map(|j| {
            let k = &kv[self.key(j)..][..self.d];
            let product: T = q.iter().zip(k).map(|(&q, &k)| q * k).sum();
            let score = product * T::of(self.scale);
            let finite = score.wide().is_finite();
            (j, if finite { score } else { T::of(f64::NAN) })
        });
        scored.collect()
    }
}

pub(super) fn attention<T: Real>(a: &mut Args<'_, T>) {
    let (q, kv, mask) = (a.f(0), a.f(1), a.f(2));
    let heads: Vec<Head> = Head::all(a).collect();
    let (y, levels) = (a.f_mut(3), a.f_mut(4)); // [N, T, H d], [N, T, H]
    for head in heads {
        for i in 0..head.t {
            let scores = head.scores(q, kv, mask, i);
            let y = &mut y[head.row(i)..][..head.d];
            let level = &mut levels[head.level(i)];
            y.fill(T::ZERO);
            let (largest, total) = softmax::exponents(scores.iter().map(|&(_, score)| score));
            *level = if scores.is_empty() {
                T::ZERO
            } else {
                largest + total.ln()
            };
            for (j, score) in scores {
                let share = (score - largest).exp() / total;
                let v = &kv[head.key(j) + head.width()..][..head.d];
                for (y, &v) in y.iter_mut().zip(v) {
                    *y += share * v;
                }
            }
        }
    }
}

pub(super) fn attention_grad<T: Real>(a: &mut Args<'_, T>) {
    let (q, kv, mask) = (a.f(0), a.f(1), a.f(2));
    let (y, levels, g) = (a.f(3), a.f(4), a.f(5));
    let heads: Vec<Head> = Head::all(a).collect();
    // One buffer as q and kv are, or two.
    let mut made: Vec<&mut [T]> = (6..a.slots.len()).map(|k| a.f_mut(k)).collect();
    made.iter_mut().for_each(|made| made.fill(T::ZERO));
    let of_kv = made.len() - 1;
    let dot = |a: &[T], b: &[T]| -> T { a.iter().zip(b).map(|(&a, &b)| a * b).sum() };
    for head in heads {
        let (d, width) = (head.d, head.width());
        for i in 0..head.t {
            let up = &g[head.row(i)..][..d];
            let delta = dot(up, &y[head.row(i)..][..d]);
            for (j, score) in head.scores(q, kv, mask, i) {
                let (query, key) = (head.query(i), head.key(j));
                let p = (score - levels[head.level(i)]).exp();
                let slope = p * (dot(up, &kv[key + width..][..d]) - delta) * T::of(head.scale);
                for e in 0..d {
                    made[0][query + e] += slope * kv[key + e];
                    made[of_kv][key + e] += slope * q[query + e];
                    made[of_kv][key + width + e] += p * up[e];
                }
            }
        }
    }
}

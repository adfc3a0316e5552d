//! Sums on the CPU in an order that follows from sizes alone, whatever the registers' width: sixteen
//! running sums side by side, which are one register or several, and a tree at the end.

/// Running sums of a [`Sums`].
pub(super) const LANES: usize = 16;

/// Elements of one task of the threads.
pub(super) const TASK: usize = 1 << 15;

/// What belongs to the elements of a run of neighbours: one number for all, or one for each.
pub(super) trait Along: Copy {
    /// Of element `i`.
    fn at(self, i: usize) -> f32;
    /// Of `n` elements from number `from` on.
    fn part(self, from: usize, n: usize) -> Self;
}

impl Along for f32 {
    #[inline(always)]
    fn at(self, _: usize) -> f32 {
        self
    }

    #[inline(always)]
    fn part(self, _: usize, _: usize) -> Self {
        self
    }
}

impl Along for &[f32] {
    #[inline(always)]
    fn at(self, i: usize) -> f32 {
        self[i]
    }

    #[inline(always)]
    fn part(self, from: usize, n: usize) -> Self {
        &self[from..][..n]
    }
}

/// What a run of neighbours adds to `K` sums.
///
/// A trait and no closure, which might stay a call with narrow instructions.
pub(super) trait Terms<const K: usize>: Copy {
    /// Of element `i`.
    fn at(self, i: usize) -> [f32; K];
    /// Of `n` elements from number `from` on.
    fn part(self, from: usize, n: usize) -> Self;
}

/// The elements themselves.
impl Terms<1> for &[f32] {
    #[inline(always)]
    fn at(self, i: usize) -> [f32; 1] {
        [self[i]]
    }

    #[inline(always)]
    fn part(self, from: usize, n: usize) -> Self {
        &self[from..][..n]
    }
}

/// `K` sums under way.
#[derive(Clone, Copy)]
pub(super) struct Sums<const K: usize>([[f32; LANES]; K]);

impl<const K: usize> Sums<K> {
    /// Sums of nothing.
    pub(super) const NONE: Self = Self([[0.0; LANES]; K]);

    /// Adds a run of `n` elements.
    // By number, in plain loops: the compiler then sees arrays of a known length and no calls.
    #[allow(clippy::needless_range_loop)]
    #[inline(always)]
    pub(super) fn add(&mut self, n: usize, run: impl Terms<K>) {
        // Apart from what is left over, whose places are not known to the compiler: these stay in
        // registers.
        let mut sums = self.0;
        for from in (0..n - n % LANES).step_by(LANES) {
            let run = run.part(from, LANES);
            for lane in 0..LANES {
                let terms = run.at(lane);
                for k in 0..K {
                    sums[k][lane] += terms[k];
                }
            }
        }
        let left = n % LANES;
        if left > 0 {
            let run = run.part(n - left, left);
            let mut last = [[0.0; LANES]; K];
            for lane in 0..left {
                let terms = run.at(lane);
                for k in 0..K {
                    last[k][lane] = terms[k];
                }
            }
            for k in 0..K {
                for lane in 0..LANES {
                    sums[k][lane] += last[k][lane];
                }
            }
        }
        self.0 = sums;
    }

    /// What they come to.
    #[inline(always)]
    pub(super) fn totals(self) -> [f32; K] {
        let mut totals = [0.0; K];
        for (total, mut sums) in totals.iter_mut().zip(self.0) {
            for half in [8, 4, 2, 1] {
                for lane in 0..half {
                    sums[lane] += sums[lane + half];
                }
            }
            *total = sums[0];
        }
        totals
    }
}

/// The largest of a row; NaN if there is one, and of no numbers −∞.
#[inline(always)]
pub(super) fn largest(row: &[f32]) -> f32 {
    let mut most = [f32::NEG_INFINITY; LANES];
    let mut parts = row.chunks_exact(LANES);
    for part in &mut parts {
        for lane in 0..LANES {
            let outdoes = (part[lane] > most[lane]) | part[lane].is_nan();
            most[lane] = if outdoes { part[lane] } else { most[lane] };
        }
    }
    let mut largest = f32::NEG_INFINITY;
    for &x in most.iter().chain(parts.remainder()) {
        largest = if (x > largest) | x.is_nan() {
            x
        } else {
            largest
        };
    }
    largest
}

//! The reference implementations.

use std::ops::Range;

use crate::kernel::Args;
use crate::tensor::Real;

/// x as `[N, C, S]`.
pub(super) struct Sizes {
    pub n: usize,
    pub c: usize,
    pub s: usize,
    pub groups: usize,
    pub batch: bool,
}

impl Sizes {
    pub(super) fn of<T: Real>(a: &Args<'_, T>) -> Self {
        Self {
            n: a.size("N"),
            c: a.size("C"),
            s: a.size("S"),
            groups: a.size("GROUPS"),
            batch: a.size("BATCH") == 1,
        }
    }

    /// The statistic that a channel of an example has.
    pub(super) fn statistic(&self, n: usize, c: usize) -> usize {
        match self.batch {
            true => c,
            false => n * self.groups + c / (self.c / self.groups),
        }
    }

    /// Elements of a statistic.
    pub(super) fn terms(&self) -> usize {
        match self.batch {
            true => self.n * self.s,
            false => self.c / self.groups * self.s,
        }
    }

    /// Where element k of statistic r stands.
    pub(super) fn place(&self, r: usize, k: usize) -> usize {
        match self.batch {
            true => (k / self.s * self.c + r) * self.s + k % self.s,
            false => r * self.terms() + k,
        }
    }

    /// The channel of element k of statistic r.
    fn channel(&self, r: usize, k: usize) -> usize {
        match self.batch {
            true => r,
            false => r % self.groups * (self.c / self.groups) + k / self.s,
        }
    }

    /// The elements of each run of a statistic.
    pub(super) fn runs(&self, runs: usize) -> Vec<Range<usize>> {
        let terms = self.terms();
        let run = terms.div_ceil(runs);
        let of = |i: usize| i * run..((i + 1) * run).min(terms);
        (0..runs).map(of).collect()
    }

    /// Calls `each` with every element in order, its c and its statistic.
    fn each(&self, mut each: impl FnMut(usize, usize, usize)) {
        let mut i = 0;
        for n in 0..self.n {
            for c in 0..self.c {
                let r = self.statistic(n, c);
                for _ in 0..self.s {
                    each(i, c, r);
                    i += 1;
                }
            }
        }
    }

    /// The mean of `term` over what every statistic is of.
    fn means<T: Real>(&self, count: usize, term: impl Fn(usize, usize, usize) -> T) -> Vec<T> {
        let mut sums = vec![T::ZERO; count];
        self.each(|i, c, r| sums[r] += term(i, c, r));
        let terms = T::of((self.n * self.c * self.s / count) as f64);
        sums.into_iter().map(|sum| sum / terms).collect()
    }
}

pub(super) fn norm<T: Real>(a: &mut Args<'_, T>) {
    let sizes = Sizes::of(a);
    let epsilon = T::of(a.number("EPSILON"));
    let (x, gamma, beta) = (a.f(0), a.f(1), a.f(2)); // [N, C, S], [C], [C]
    let (y, mean, rstd) = (a.f_mut(3), a.f_mut(4), a.f_mut(5)); // [N, C, S], [R], [R]
    mean.copy_from_slice(&sizes.means(mean.len(), |i, _, _| x[i]));
    let variances = sizes.means(mean.len(), |i, _, r| (x[i] - mean[r]) * (x[i] - mean[r]));
    for (rstd, &variance) in rstd.iter_mut().zip(&variances) {
        *rstd = T::ONE / (variance + epsilon).sqrt();
    }
    sizes.each(|i, c, r| {
        y[i] = (x[i] - mean[r]) * rstd[r] * gamma[c] + beta[c];
    });
}

/// Sums over the runs' numbers, so many of each run, by the number of elements in the run and these.
fn over_runs<T: Real>(runs: &[Range<usize>], made: &[T], each: impl Fn(T, &[T]) -> T) -> T {
    let numbers = made.chunks_exact(made.len() / runs.len());
    let all = runs.iter().zip(numbers);
    all.map(|(run, numbers)| each(T::of(run.len() as f64), numbers))
        .sum()
}

pub(super) fn runs<T: Real>(a: &mut Args<'_, T>) {
    let (sizes, runs) = (Sizes::of(a), a.size("RUNS"));
    let (x, made) = (a.f(0), a.f_mut(1)); // [N, C, S], [R, RUNS, 2]
    let cut = sizes.runs(runs);
    for (i, made) in made.chunks_exact_mut(2).enumerate() {
        let run = &cut[i % runs];
        let all = || run.clone().map(|k| x[sizes.place(i / runs, k)]);
        made[0] = all().sum::<T>() / T::of(run.len() as f64);
        made[1] = all().map(|x| (x - made[0]) * (x - made[0])).sum();
    }
}

pub(super) fn joined<T: Real>(a: &mut Args<'_, T>) {
    let sizes = Sizes::of(a);
    let epsilon = T::of(a.number("EPSILON"));
    let terms = T::of(sizes.terms() as f64);
    let runs = sizes.runs(a.size("RUNS"));
    let (x, gamma, beta) = (a.f(0), a.f(1), a.f(2)); // [N, C, S], [C], [C]
    let (y, mean, rstd) = (a.f_mut(3), a.f_mut(4), a.f_mut(5)); // [N, C, S], [R], [R]
    let made = a.f(6).chunks_exact(2 * runs.len()); // [R, RUNS, 2]
    for (r, made) in made.enumerate() {
        mean[r] = over_runs(&runs, made, |count, m| count * m[0]) / terms;
        let squares = over_runs(&runs, made, |count, m| {
            m[1] + count * (m[0] - mean[r]) * (m[0] - mean[r])
        });
        rstd[r] = T::ONE / (squares / terms + epsilon).sqrt();
        for k in 0..sizes.terms() {
            let (i, c) = (sizes.place(r, k), sizes.channel(r, k));
            y[i] = (x[i] - mean[r]) * rstd[r] * gamma[c] + beta[c];
        }
    }
}

pub(super) fn rms<T: Real>(a: &mut Args<'_, T>) {
    let sizes = Sizes::of(a);
    let epsilon = T::of(a.number("EPSILON"));
    let (x, gamma) = (a.f(0), a.f(1)); // [N, C, S], [C]
    let (y, rstd) = (a.f_mut(2), a.f_mut(3)); // [N, C, S], [R]
    let squares = sizes.means(rstd.len(), |i, _, _| x[i] * x[i]);
    for (rstd, &square) in rstd.iter_mut().zip(&squares) {
        *rstd = T::ONE / (square + epsilon).sqrt();
    }
    sizes.each(|i, c, r| {
        y[i] = x[i] * rstd[r] * gamma[c];
    });
}

pub(super) fn given<T: Real>(a: &mut Args<'_, T>) {
    let sizes = Sizes::of(a);
    let epsilon = T::of(a.number("EPSILON"));
    let (x, gamma, beta) = (a.f(0), a.f(1), a.f(2)); // [N, C, S], [C], [C]
    let (mean, variance, y) = (a.f(3), a.f(4), a.f_mut(5)); // [R], [R], [N, C, S]
    sizes.each(|i, c, r| {
        let rstd = T::ONE / (variance[r] + epsilon).sqrt();
        y[i] = (x[i] - mean[r]) * rstd * gamma[c] + beta[c];
    });
}

pub(super) fn given_grad<T: Real>(a: &mut Args<'_, T>) {
    let sizes = Sizes::of(a);
    let epsilon = T::of(a.number("EPSILON"));
    let (g, gamma, variance) = (a.f(0), a.f(1), a.f(2)); // [N, C, S], [C], [R]
    let dx = a.f_mut(3); // [N, C, S]
    sizes.each(|i, c, r| {
        dx[i] = T::ONE / (variance[r] + epsilon).sqrt() * gamma[c] * g[i];
    });
}

pub(super) fn grad<T: Real>(a: &mut Args<'_, T>) {
    let sizes = Sizes::of(a);
    let (g, x, gamma) = (a.f(0), a.f(1), a.f(2)); // [N, C, S], [N, C, S], [C]
    let (mean, rstd, dx) = (a.f(3), a.f(4), a.f_mut(5)); // [R], [R], [N, C, S]
    let hat = |i: usize, r: usize| (x[i] - mean[r]) * rstd[r];
    let plain = sizes.means(rstd.len(), |i, c, _| g[i] * gamma[c]);
    let along = sizes.means(rstd.len(), |i, c, r| g[i] * gamma[c] * hat(i, r));
    sizes.each(|i, c, r| {
        dx[i] = rstd[r] * (g[i] * gamma[c] - plain[r] - hat(i, r) * along[r]);
    });
}

pub(super) fn rms_grad<T: Real>(a: &mut Args<'_, T>) {
    let sizes = Sizes::of(a);
    let (g, x, gamma) = (a.f(0), a.f(1), a.f(2)); // [N, C, S], [N, C, S], [C]
    let (rstd, dx) = (a.f(3), a.f_mut(4)); // [R], [N, C, S]
    let hat = |i: usize, r: usize| x[i] * rstd[r];
    let along = sizes.means(rstd.len(), |i, c, r| g[i] * gamma[c] * hat(i, r));
    sizes.each(|i, c, r| {
        dx[i] = rstd[r] * (g[i] * gamma[c] - hat(i, r) * along[r]);
    });
}

pub(super) fn parameters<T: Real>(a: &mut Args<'_, T>) {
    let sizes = Sizes::of(a);
    let (g, x, mean, rstd) = (a.f(0), a.f(1), a.f(2), a.f(3)); // [N, C, S] twice, [R] twice
    let (dgamma, dbeta) = (a.f_mut(4), a.f_mut(5)); // [C], [C]
    dgamma.fill(T::ZERO);
    dbeta.fill(T::ZERO);
    sizes.each(|i, c, r| {
        dgamma[c] += g[i] * ((x[i] - mean[r]) * rstd[r]);
        dbeta[c] += g[i];
    });
}

pub(super) fn rms_parameters<T: Real>(a: &mut Args<'_, T>) {
    let sizes = Sizes::of(a);
    let (g, x, rstd) = (a.f(0), a.f(1), a.f(2)); // [N, C, S], [N, C, S], [R]
    let dgamma = a.f_mut(3); // [C]
    dgamma.fill(T::ZERO);
    sizes.each(|i, c, r| {
        dgamma[c] += g[i] * (x[i] * rstd[r]);
    });
}

/// ∂x of a batch, of the sums that are ∂β and ∂γ.
fn batch_slopes<T: Real>(
    sizes: &Sizes,
    [g, x, gamma, mean, rstd]: [&[T]; 5],
    [dx, dgamma, dbeta]: [&mut [T]; 3],
) {
    let terms = T::of(sizes.terms() as f64);
    sizes.each(|i, c, _| {
        let hat = (x[i] - mean[c]) * rstd[c];
        dx[i] = rstd[c] * gamma[c] * (g[i] - dbeta[c] / terms - hat * (dgamma[c] / terms));
    });
}

pub(super) fn batch_grad<T: Real>(a: &mut Args<'_, T>) {
    let sizes = Sizes::of(a);
    let (g, x, gamma, mean, rstd) = (a.f(0), a.f(1), a.f(2), a.f(3), a.f(4)); // [N, C, S] twice, [C]
    let (dx, dgamma, dbeta) = (a.f_mut(5), a.f_mut(6), a.f_mut(7)); // [N, C, S], [C], [C]
    dgamma.fill(T::ZERO);
    dbeta.fill(T::ZERO);
    sizes.each(|i, c, _| {
        dgamma[c] += g[i] * ((x[i] - mean[c]) * rstd[c]);
        dbeta[c] += g[i];
    });
    batch_slopes(&sizes, [g, x, gamma, mean, rstd], [dx, dgamma, dbeta]);
}

pub(super) fn batch_grad_runs<T: Real>(a: &mut Args<'_, T>) {
    let (sizes, runs) = (Sizes::of(a), a.size("RUNS"));
    let (g, x, mean, rstd) = (a.f(0), a.f(1), a.f(2), a.f(3)); // [N, C, S] twice, [C] twice
    let cut = sizes.runs(runs);
    let made = a.f_mut(4).chunks_exact_mut(4); // [C, RUNS, 4]
    for (i, made) in made.enumerate() {
        let (c, run) = (i / runs, &cut[i % runs]);
        let all = || run.clone().map(|k| sizes.place(c, k));
        made[0] = all().map(|i| g[i]).sum();
        made[1] = all().map(|i| g[i] * ((x[i] - mean[c]) * rstd[c])).sum();
        made[2] = mean[c];
        made[3] = rstd[c];
    }
}

pub(super) fn batch_grad_joined<T: Real>(a: &mut Args<'_, T>) {
    let sizes = Sizes::of(a);
    let runs = sizes.runs(a.size("RUNS"));
    let (g, x, gamma) = (a.f(0), a.f(1), a.f(2)); // [N, C, S], [N, C, S], [C]
    let (dx, dgamma, dbeta) = (a.f_mut(4), a.f_mut(5), a.f_mut(6)); // [N, C, S], [C], [C]
    let made = || a.f(3).chunks_exact(4 * runs.len()); // [C, RUNS, 4]
    for ((dgamma, dbeta), made) in dgamma.iter_mut().zip(&mut *dbeta).zip(made()) {
        *dbeta = over_runs(&runs, made, |_, m| m[0]);
        *dgamma = over_runs(&runs, made, |_, m| m[1]);
    }
    let mean: Vec<T> = made().map(|made| made[2]).collect();
    let rstd: Vec<T> = made().map(|made| made[3]).collect();
    batch_slopes(&sizes, [g, x, gamma, &mean, &rstd], [dx, dgamma, dbeta]);
}

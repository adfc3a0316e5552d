//! The reference implementations.

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

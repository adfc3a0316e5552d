//! Neighbours in x, what belongs to them, and what is computed of each.

use std::marker::PhantomData;

use crate::ops::sums::{Along, Terms};

/// What a launch gives; where it gives nothing, numbers that change nothing.
#[derive(Clone, Copy)]
pub(super) struct Given<'a> {
    // [N, C, S]
    pub x: &'a [f32],
    pub g: &'a [f32],
    // [C]
    pub gamma: &'a [f32],
    pub beta: &'a [f32],
    // [R]
    pub mean: &'a [f32],
    pub rstd: &'a [f32],
    /// The means of h = g γ and of h x̂; of a batch, those of g and of g x̂.
    pub plain: &'a [f32],
    pub along: &'a [f32],
}

/// Which statistic or parameter neighbours have: all the same, or each the next.
pub(super) trait Place: Copy {
    type Of<'a>: Along;
    fn of(self, all: &[f32], n: usize) -> Self::Of<'_>;
}

/// The same for all.
#[derive(Clone, Copy)]
pub(super) struct One(pub usize);

/// Of the first, and then counted on.
#[derive(Clone, Copy)]
pub(super) struct On(pub usize);

impl Place for One {
    type Of<'a> = f32;

    #[inline(always)]
    fn of(self, all: &[f32], _: usize) -> f32 {
        all[self.0]
    }
}

impl Place for On {
    type Of<'a> = &'a [f32];

    #[inline(always)]
    fn of(self, all: &[f32], n: usize) -> &[f32] {
        &all[self.0..][..n]
    }
}

/// Neighbours.
#[derive(Clone, Copy)]
pub(super) struct Run<'a, R, C> {
    x: &'a [f32],
    g: &'a [f32],
    gamma: C,
    beta: C,
    mean: R,
    rstd: R,
    plain: R,
    along: R,
}

impl<'a> Given<'a> {
    /// `n` neighbours, of these statistics and parameters.
    #[inline(always)]
    pub(super) fn run<R: Place, C: Place>(
        &self,
        first: usize,
        n: usize,
        r: R,
        c: C,
    ) -> Run<'a, R::Of<'a>, C::Of<'a>> {
        Run {
            x: &self.x[first..][..n],
            g: &self.g[first..][..n],
            gamma: c.of(self.gamma, n),
            beta: c.of(self.beta, n),
            mean: r.of(self.mean, n),
            rstd: r.of(self.rstd, n),
            plain: r.of(self.plain, n),
            along: r.of(self.along, n),
        }
    }
}

impl<R: Along, C: Along> Run<'_, R, C> {
    #[inline(always)]
    fn hat(&self, i: usize) -> f32 {
        (self.x[i] - self.mean.at(i)) * self.rstd.at(i)
    }

    #[inline(always)]
    fn part(&self, from: usize, n: usize) -> Self {
        Self {
            x: &self.x[from..][..n],
            g: &self.g[from..][..n],
            gamma: self.gamma.part(from, n),
            beta: self.beta.part(from, n),
            mean: self.mean.part(from, n),
            rstd: self.rstd.part(from, n),
            plain: self.plain.part(from, n),
            along: self.along.part(from, n),
        }
    }
}

/// What is added up of each element.
pub(super) trait Added<const K: usize>: Copy + Send + Sync {
    fn of<R: Along, C: Along>(run: &Run<'_, R, C>, i: usize) -> [f32; K];
}

/// x.
#[derive(Clone, Copy)]
pub(super) struct Elements;

/// (x − mean)².
#[derive(Clone, Copy)]
pub(super) struct Deviation;

/// h and h x̂.
#[derive(Clone, Copy)]
pub(super) struct Slopes;

impl Added<1> for Elements {
    #[inline(always)]
    fn of<R: Along, C: Along>(run: &Run<'_, R, C>, i: usize) -> [f32; 1] {
        [run.x[i]]
    }
}

impl Added<1> for Deviation {
    #[inline(always)]
    fn of<R: Along, C: Along>(run: &Run<'_, R, C>, i: usize) -> [f32; 1] {
        let apart = run.x[i] - run.mean.at(i);
        [apart * apart]
    }
}

impl Added<2> for Slopes {
    #[inline(always)]
    fn of<R: Along, C: Along>(run: &Run<'_, R, C>, i: usize) -> [f32; 2] {
        let h = run.g[i] * run.gamma.at(i);
        [h, h * run.hat(i)]
    }
}

/// A run of which `A` is added up.
#[derive(Clone, Copy)]
pub(super) struct Adds<'a, A, R, C>(pub PhantomData<A>, pub Run<'a, R, C>);

impl<const K: usize, A: Added<K>, R: Along, C: Along> Terms<K> for Adds<'_, A, R, C> {
    #[inline(always)]
    fn at(self, i: usize) -> [f32; K] {
        A::of(&self.1, i)
    }

    #[inline(always)]
    fn part(self, from: usize, n: usize) -> Self {
        Self(self.0, self.1.part(from, n))
    }
}

/// What is written in each element's place.
pub(super) trait Made: Copy + Send + Sync {
    fn of<R: Along, C: Along>(run: &Run<'_, R, C>, i: usize) -> f32;
}

/// x̂ γ + β.
#[derive(Clone, Copy)]
pub(super) struct Normalized;

/// rstd (h − mean h − x̂ mean(h x̂)).
#[derive(Clone, Copy)]
pub(super) struct Gradient;

/// rstd γ (g − mean g − x̂ mean(g x̂)).
#[derive(Clone, Copy)]
pub(super) struct BatchGradient;

/// rstd γ g.
#[derive(Clone, Copy)]
pub(super) struct Frozen;

impl Made for Normalized {
    #[inline(always)]
    fn of<R: Along, C: Along>(run: &Run<'_, R, C>, i: usize) -> f32 {
        run.hat(i) * run.gamma.at(i) + run.beta.at(i)
    }
}

impl Made for Gradient {
    #[inline(always)]
    fn of<R: Along, C: Along>(run: &Run<'_, R, C>, i: usize) -> f32 {
        let h = run.g[i] * run.gamma.at(i);
        run.rstd.at(i) * (h - run.plain.at(i) - run.hat(i) * run.along.at(i))
    }
}

impl Made for BatchGradient {
    #[inline(always)]
    fn of<R: Along, C: Along>(run: &Run<'_, R, C>, i: usize) -> f32 {
        let centered = run.g[i] - run.plain.at(i) - run.hat(i) * run.along.at(i);
        run.rstd.at(i) * run.gamma.at(i) * centered
    }
}

impl Made for Frozen {
    #[inline(always)]
    fn of<R: Along, C: Along>(run: &Run<'_, R, C>, i: usize) -> f32 {
        run.rstd.at(i) * run.gamma.at(i) * run.g[i]
    }
}

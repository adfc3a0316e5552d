//! The CPU executor's implementations. What an op adds up is neighbours (layers, groups), a channel's runs of all
//! examples (batches of pictures), or columns, where neighbours are of different sums (batches of rows;
//! the gradients of a layer's parameters). Then every element is written, in a pass of its own.
//! An RMS norm is one whose means and β are 0.

use crate::kernel::{Args, Finish};

mod cut;
mod passes;
mod run;

use super::reference::Sizes;
use cut::{Sloped, Spread, cut};
use passes::{By, To, made, sums, written};
use run::{BatchGradient, Deviation, Elements, Frozen, Given, Gradient, Normalized, Slopes};

/// Numbers that stand where a launch has none.
struct Rest {
    zeros: Vec<f32>,
    ones: Vec<f32>,
}

impl Rest {
    fn of(sizes: &Sizes) -> Self {
        let longest = sizes.c.max(sizes.statistics());
        Self {
            zeros: vec![0.0; longest],
            ones: vec![1.0; longest],
        }
    }

    /// A launch that gives x alone.
    fn around<'a>(&'a self, x: &'a [f32]) -> Given<'a> {
        Given {
            x,
            g: x,
            gamma: &self.ones,
            beta: &self.zeros,
            mean: &self.zeros,
            rstd: &self.ones,
            plain: &self.zeros,
            along: &self.zeros,
        }
    }
}

/// The means of `sums` over what a statistic is of.
fn means<const K: usize>(sizes: &Sizes, sums: &[[f32; K]], k: usize, to: &mut [f32]) {
    let terms = (sizes.n * sizes.c * sizes.s / to.len().max(1)) as f32;
    for (to, sums) in to.iter_mut().zip(sums) {
        *to = sums[k] / terms;
    }
}

/// 1 / √(variance + ε), in the variance's place.
fn invert(variances: &mut [f32], epsilon: f32) {
    for variance in variances {
        *variance = 1.0 / (*variance + epsilon).sqrt();
    }
}

/// What finishes parts of a launch.
type Parts<'a> = Vec<Box<dyn Finish + 'a>>;

pub(super) fn norm(a: &mut Args<'_, f32>) {
    let y = a.f_mut(3); // [N, C, S]
    norm_to(a, To::Memory(y));
}

pub(super) fn norm_finishing<'a>(a: &mut Args<'_, f32>, parts: Parts<'a>) {
    norm_to(a, To::Parts(parts));
}

fn norm_to(a: &mut Args<'_, f32>, y: To<'_>) {
    let sizes = Sizes::of(a);
    let rest = Rest::of(&sizes);
    let epsilon = a.number("EPSILON") as f32;
    let (x, gamma, beta) = (a.f(0), a.f(1), a.f(2)); // [N, C, S], [C], [C]
    let (mean, rstd) = (a.f_mut(4), a.f_mut(5)); // [R], [R]
    let given = rest.around(x);
    let totals = sums::<Elements, 1>(&given, &sizes, By::Statistic);
    means(&sizes, &totals, 0, mean);
    let given = Given { mean, ..given };
    let totals = sums::<Deviation, 1>(&given, &sizes, By::Statistic);
    means(&sizes, &totals, 0, rstd);
    invert(rstd, epsilon);
    let given = Given {
        gamma,
        beta,
        rstd,
        ..given
    };
    made::<Normalized>(&given, &sizes, y);
}

pub(super) fn runs(a: &mut Args<'_, f32>) {
    let sizes = Sizes::of(a);
    let rest = Rest::of(&sizes);
    let (given, runs) = (rest.around(a.f(0)), a.size("RUNS")); // [N, C, S]
    cut::<Spread, 2>(&given, &sizes, runs, a.f_mut(1)); // [R, RUNS, 2]
}

pub(super) fn joined(a: &mut Args<'_, f32>) {
    let y = a.f_mut(3); // [N, C, S]
    joined_to(a, To::Memory(y));
}

pub(super) fn joined_finishing<'a>(a: &mut Args<'_, f32>, parts: Parts<'a>) {
    joined_to(a, To::Parts(parts));
}

fn joined_to(a: &mut Args<'_, f32>, y: To<'_>) {
    let sizes = Sizes::of(a);
    let rest = Rest::of(&sizes);
    let epsilon = a.number("EPSILON") as f32;
    let (terms, runs) = (sizes.terms() as f32, sizes.runs(a.size("RUNS")));
    let (mean, rstd) = (a.f_mut(4), a.f_mut(5)); // [R], [R]
    let spreads = a.f(6).chunks_exact(2 * runs.len()); // [R, RUNS, 2]
    for ((mean, rstd), spreads) in mean.iter_mut().zip(&mut *rstd).zip(spreads) {
        let each = || {
            let counts = runs.iter().map(|run| run.len() as f32);
            counts.zip(spreads.chunks_exact(2))
        };
        *mean = each().map(|(count, own)| count * own[0]).sum::<f32>() / terms;
        let apart = |own: f32| (own - *mean) * (own - *mean);
        let squares = each().map(|(count, own)| own[1] + count * apart(own[0]));
        *rstd = squares.sum::<f32>() / terms;
    }
    invert(rstd, epsilon);
    let given = Given {
        gamma: a.f(1), // [C]
        beta: a.f(2),  // [C]
        mean,
        rstd,
        ..rest.around(a.f(0)) // [N, C, S]
    };
    made::<Normalized>(&given, &sizes, y);
}

pub(super) fn rms(a: &mut Args<'_, f32>) {
    let y = a.f_mut(2); // [N, C, S]
    rms_to(a, To::Memory(y));
}

pub(super) fn rms_finishing<'a>(a: &mut Args<'_, f32>, parts: Parts<'a>) {
    rms_to(a, To::Parts(parts));
}

fn rms_to(a: &mut Args<'_, f32>, y: To<'_>) {
    let sizes = Sizes::of(a);
    let rest = Rest::of(&sizes);
    let epsilon = a.number("EPSILON") as f32;
    let (x, gamma) = (a.f(0), a.f(1)); // [N, C, S], [C]
    let rstd = a.f_mut(3); // [R]
    let given = rest.around(x);
    let totals = sums::<Deviation, 1>(&given, &sizes, By::Statistic);
    means(&sizes, &totals, 0, rstd);
    invert(rstd, epsilon);
    let given = Given {
        gamma,
        rstd,
        ..given
    };
    made::<Normalized>(&given, &sizes, y);
}

pub(super) fn given(a: &mut Args<'_, f32>) {
    let y = a.f_mut(5); // [N, C, S]
    given_to(a, To::Memory(y));
}

pub(super) fn given_finishing<'a>(a: &mut Args<'_, f32>, parts: Parts<'a>) {
    given_to(a, To::Parts(parts));
}

fn given_to(a: &mut Args<'_, f32>, y: To<'_>) {
    let sizes = Sizes::of(a);
    let rest = Rest::of(&sizes);
    let epsilon = a.number("EPSILON") as f32;
    let mut rstd = a.f(4).to_vec(); // variances [R]
    invert(&mut rstd, epsilon);
    let given = Given {
        gamma: a.f(1), // [C]
        beta: a.f(2),  // [C]
        mean: a.f(3),  // [R]
        rstd: &rstd,
        ..rest.around(a.f(0)) // [N, C, S]
    };
    made::<Normalized>(&given, &sizes, y);
}

pub(super) fn given_grad(a: &mut Args<'_, f32>) {
    let sizes = Sizes::of(a);
    let rest = Rest::of(&sizes);
    let epsilon = a.number("EPSILON") as f32;
    let mut rstd = a.f(2).to_vec(); // variances [R]
    invert(&mut rstd, epsilon);
    let given = Given {
        gamma: a.f(1), // [C]
        rstd: &rstd,
        ..rest.around(a.f(0)) // g [N, C, S]
    };
    written::<Frozen>(&given, &sizes, a.f_mut(3)); // [N, C, S]
}

/// ∂x from what the launch gives.
fn slopes(sizes: &Sizes, given: Given<'_>, centered: bool, dx: &mut [f32]) {
    let totals = sums::<Slopes, 2>(&given, sizes, By::Statistic);
    let mut plain = vec![0.0; totals.len()];
    let mut along = vec![0.0; totals.len()];
    if centered {
        means(sizes, &totals, 0, &mut plain);
    }
    means(sizes, &totals, 1, &mut along);
    let given = Given {
        plain: &plain,
        along: &along,
        ..given
    };
    written::<Gradient>(&given, sizes, dx);
}

pub(super) fn grad(a: &mut Args<'_, f32>) {
    let sizes = Sizes::of(a);
    let rest = Rest::of(&sizes);
    let given = Given {
        g: a.f(0),     // [N, C, S]
        gamma: a.f(2), // [C]
        mean: a.f(3),  // [R]
        rstd: a.f(4),  // [R]
        ..rest.around(a.f(1))
    };
    slopes(&sizes, given, true, a.f_mut(5)); // [N, C, S]
}

pub(super) fn rms_grad(a: &mut Args<'_, f32>) {
    let sizes = Sizes::of(a);
    let rest = Rest::of(&sizes);
    let given = Given {
        g: a.f(0),     // [N, C, S]
        gamma: a.f(2), // [C]
        rstd: a.f(3),  // [R]
        ..rest.around(a.f(1))
    };
    slopes(&sizes, given, false, a.f_mut(4)); // [N, C, S]
}

pub(super) fn parameters(a: &mut Args<'_, f32>) {
    let sizes = Sizes::of(a);
    let rest = Rest::of(&sizes);
    let given = Given {
        g: a.f(0),    // [N, C, S]
        mean: a.f(2), // [R]
        rstd: a.f(3), // [R]
        ..rest.around(a.f(1))
    };
    let (dgamma, dbeta) = (a.f_mut(4), a.f_mut(5)); // [C], [C]
    let totals = sums::<Slopes, 2>(&given, &sizes, By::Parameter);
    for ((dgamma, dbeta), totals) in dgamma.iter_mut().zip(dbeta).zip(totals) {
        [*dbeta, *dgamma] = totals;
    }
}

pub(super) fn rms_parameters(a: &mut Args<'_, f32>) {
    let sizes = Sizes::of(a);
    let rest = Rest::of(&sizes);
    let given = Given {
        g: a.f(0),    // [N, C, S]
        rstd: a.f(2), // [R]
        ..rest.around(a.f(1))
    };
    let totals = sums::<Slopes, 2>(&given, &sizes, By::Parameter);
    for (dgamma, [_, along]) in a.f_mut(3).iter_mut().zip(totals) {
        *dgamma = along;
    }
}

/// ∂x of a batch from what the launch gives and the sums that are ∂β and ∂γ.
fn batch_slopes(
    sizes: &Sizes,
    given: Given<'_>,
    [dx, dgamma, dbeta]: [&mut [f32]; 3],
    sums: impl Iterator<Item = [f32; 2]>,
) {
    for ((dgamma, dbeta), sums) in dgamma.iter_mut().zip(&mut *dbeta).zip(sums) {
        [*dbeta, *dgamma] = sums;
    }
    let terms = sizes.terms() as f32;
    let means = |sums: &[f32]| sums.iter().map(|sum| sum / terms).collect::<Vec<_>>();
    let given = Given {
        plain: &means(dbeta),
        along: &means(dgamma),
        ..given
    };
    written::<BatchGradient>(&given, sizes, dx);
}

pub(super) fn batch_grad(a: &mut Args<'_, f32>) {
    let sizes = Sizes::of(a);
    let rest = Rest::of(&sizes);
    let given = Given {
        g: a.f(0),    // [N, C, S]
        mean: a.f(3), // [C]
        rstd: a.f(4), // [C]
        ..rest.around(a.f(1))
    };
    let totals = sums::<Slopes, 2>(&given, &sizes, By::Statistic);
    let given = Given {
        gamma: a.f(2), // [C]
        ..given
    };
    let made = [5, 6, 7].map(|i| a.f_mut(i)); // [N, C, S], [C], [C]
    batch_slopes(&sizes, given, made, totals.into_iter());
}

pub(super) fn batch_grad_runs(a: &mut Args<'_, f32>) {
    let sizes = Sizes::of(a);
    let rest = Rest::of(&sizes);
    let given = Given {
        g: a.f(0),    // [N, C, S]
        mean: a.f(2), // [C]
        rstd: a.f(3), // [C]
        ..rest.around(a.f(1))
    };
    let runs = a.size("RUNS");
    cut::<Sloped, 4>(&given, &sizes, runs, a.f_mut(4)); // [C, RUNS, 4]
}

pub(super) fn batch_grad_joined(a: &mut Args<'_, f32>) {
    let sizes = Sizes::of(a);
    let rest = Rest::of(&sizes);
    let runs = a.size("RUNS");
    let slopes = || a.f(3).chunks_exact(4 * runs); // [C, RUNS, 4]
    let kept = |k: usize| slopes().map(|runs| runs[k]).collect::<Vec<_>>();
    let (mean, rstd) = (kept(2), kept(3));
    let all = |runs: &[f32], k: usize| runs.chunks_exact(4).map(|run| run[k]).sum::<f32>();
    let sums: Vec<_> = slopes().map(|runs| [0, 1].map(|k| all(runs, k))).collect();
    let given = Given {
        g: a.f(0),     // [N, C, S]
        gamma: a.f(2), // [C]
        mean: &mean,
        rstd: &rstd,
        ..rest.around(a.f(1))
    };
    let made = [4, 5, 6].map(|i| a.f_mut(i)); // [N, C, S], [C], [C]
    batch_slopes(&sizes, given, made, sums.into_iter());
}

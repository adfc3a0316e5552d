//! Log-likelihood cost of a softmax, from the scores z before it (Nielsen, equation 80,
//! one example with label y):
//!
//! L = −ln softmax(z)_y = ln Σⱼ e^(zⱼ − m) + m − z_y,  m = maxⱼ zⱼ
//!
//! Softmax and logarithm in one take no logarithm of a rounded 0. ∂L/∂zₖ = softmax(z)ₖ −
//! 1ₖ₌y. Smoothed targets tₖ stand in the place of 1ₖ₌y and Σ tₖ zₖ in that of z_y: where the targets add up to 1, L is
//! −Σₖ tₖ ln softmax(z)ₖ.
//! See [`cost`](super::Loss) for labels that name no class, for smoothing and for the mini-batch.

use super::Case;
use super::cost::{self, Cost, Label, both_kernel, loss_kernel, short_kernel, slope_kernel};
use super::softmax::exponents;
use crate::kernel::{Args, Demand, Kernel};
use crate::tensor::Real;

const SOURCE: &str = concat!(
    include_str!("../../shaders/shared/tree.wgsl"),
    include_str!("../../shaders/shared/nan.wgsl"),
    include_str!("../../shaders/shared/terms.wgsl"),
    include_str!("../../shaders/shared/cost.wgsl"),
    include_str!("../../shaders/log_likelihood.wgsl"),
    crate::port!("finish"),
);

/// L = ln Σ e^z − z_y.
pub static LOG_LIKELIHOOD: Kernel = loss_kernel(
    "log_likelihood",
    SOURCE,
    crate::reference!(log_likelihood),
    Demand {
        rounds: "2 * (K / 64 / 4) + 2",
        barriers: "16",
        issue: "K / 64 * 30 + 200",
        words: "3 * K",
        ..Demand::UNSTATED
    },
);

/// δ = g (softmax(z) − 1ₖ₌y).
pub static LOG_LIKELIHOOD_GRAD: Kernel = slope_kernel(
    "log_likelihood_grad",
    "log_likelihood",
    SOURCE,
    crate::reference!(log_likelihood_grad),
    Demand {
        rounds: "2 * (K / 64 / 4) + K / 64",
        barriers: "16",
        issue: "K / 64 * 65 + 180",
        words: "4 * K + 2",
        ..Demand::UNSTATED
    },
);

/// softmax(z) − 1ₖ₌y, and L.
pub static LOG_LIKELIHOOD_BOTH: Kernel = both_kernel(
    "log_likelihood_both",
    "log_likelihood",
    SOURCE,
    crate::reference!(log_likelihood_both),
    Demand {
        rounds: "2 * (K / 64 / 4) + K / 64 + 2",
        barriers: "16",
        issue: "K / 64 * 65 + 220",
        words: "4 * K + 3",
        ..Demand::UNSTATED
    },
);

/// The same by a thread for each example.
pub static LOG_LIKELIHOOD_SHORT: Kernel = short_kernel(
    "log_likelihood_short",
    "log_likelihood",
    SOURCE,
    crate::reference!(log_likelihood_both),
    Demand {
        rounds: "K / 4 + 1",
        issue: "K * 90 + 60",
        words: "64 * (2 * K + 2)",
        ..Demand::UNSTATED
    },
);

/// The cost.
pub static COST: Cost = Cost {
    name: "log_likelihood",
    loss: &LOG_LIKELIHOOD,
    slope: &LOG_LIKELIHOOD_GRAD,
    both: Some([&LOG_LIKELIHOOD_BOTH, &LOG_LIKELIHOOD_SHORT]),
};

/// The kernels of this file.
pub static KERNELS: &[&Kernel] = &[
    &LOG_LIKELIHOOD,
    &LOG_LIKELIHOOD_GRAD,
    &LOG_LIKELIHOOD_BOTH,
    &LOG_LIKELIHOOD_SHORT,
];

/// L of one example.
pub(super) fn loss<T: Real>(z: &[T], label: Label) -> T {
    let (largest, sum) = exponents(z.iter().copied());
    sum.ln() + (largest - right(z, label))
}

/// Σ tₖ zₖ.
fn right<T: Real>(z: &[T], label: Label) -> T {
    match label.smoothing {
        0.0 => z.get(label.class as usize).copied().unwrap_or(T::ZERO),
        _ => (0..z.len()).map(|k| z[k] * label.share(z.len(), k)).sum(),
    }
}

/// ∂L/∂z of one example.
pub(super) fn slope<T: Real>(z: &[T], label: Label, slope: &mut [T]) {
    let (largest, sum) = exponents(z.iter().copied());
    for (k, (slope, &x)) in slope.iter_mut().zip(z).enumerate() {
        *slope = (x - largest).exp() / sum - label.share(z.len(), k);
    }
}

/// Both of one example, each exponential once.
fn loss_and_slope<T: Real>(z: &[T], label: Label, slope: &mut [T]) -> T {
    let largest = z.iter().copied().reduce(T::max).unwrap_or(T::ZERO);
    for (slope, &x) in slope.iter_mut().zip(z) {
        *slope = (x - largest).exp();
    }
    let sum: T = slope.iter().copied().sum();
    for (k, slope) in slope.iter_mut().enumerate() {
        *slope = *slope / sum - label.share(z.len(), k);
    }
    sum.ln() + (largest - right(z, label))
}

fn log_likelihood<T: Real>(args: &mut Args<'_, T>) {
    cost::losses(args, loss);
}

fn log_likelihood_grad<T: Real>(args: &mut Args<'_, T>) {
    cost::slopes(args, slope);
}

fn log_likelihood_both<T: Real>(args: &mut Args<'_, T>) {
    cost::both(args, loss_and_slope);
}

/// The cases of every cost.
pub fn cases() -> Vec<Case> {
    cost::cases(&COST)
}

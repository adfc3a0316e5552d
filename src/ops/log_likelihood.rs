//! Log-likelihood cost of a softmax, from the scores z before it (Nielsen, equation 80,
//! one example with label y):
//!
//! L = −ln softmax(z)_y = ln Σⱼ e^(zⱼ − m) + m − z_y,  m = maxⱼ zⱼ
//!
//! Softmax and logarithm in one take no logarithm of a rounded 0. ∂L/∂zₖ = softmax(z)ₖ −
//! 1ₖ₌y. See [`cost`](super::Loss) for labels that name no class and for the mini-batch.

use super::Case;
use super::cost::{self, Cost, loss_kernel, slope_kernel};
use super::softmax::exponents;
use crate::kernel::{Args, Demand, Kernel};
use crate::tensor::Real;

const SOURCE: &str = concat!(
    include_str!("../../shaders/shared/tree.wgsl"),
    include_str!("../../shaders/shared/nan.wgsl"),
    include_str!("../../shaders/shared/terms.wgsl"),
    include_str!("../../shaders/shared/cost.wgsl"),
    include_str!("../../shaders/log_likelihood.wgsl"),
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

/// The cost.
pub static COST: Cost = Cost {
    name: "log_likelihood",
    loss: &LOG_LIKELIHOOD,
    slope: &LOG_LIKELIHOOD_GRAD,
};

/// The kernels of this file.
pub static KERNELS: &[&Kernel] = &[&LOG_LIKELIHOOD, &LOG_LIKELIHOOD_GRAD];

/// L of one example.
pub(super) fn loss<T: Real>(z: &[T], label: u32) -> T {
    let (largest, sum) = exponents(z.iter().copied());
    let right = z.get(label as usize).copied().unwrap_or(T::ZERO);
    sum.ln() + (largest - right)
}

/// ∂L/∂z of one example.
pub(super) fn slope<T: Real>(z: &[T], label: u32, slope: &mut [T]) {
    let (largest, sum) = exponents(z.iter().copied());
    for (slope, &z) in slope.iter_mut().zip(z) {
        *slope = (z - largest).exp() / sum;
    }
    if let Some(right) = slope.get_mut(label as usize) {
        *right -= T::ONE;
    }
}

fn log_likelihood<T: Real>(args: &mut Args<'_, T>) {
    cost::losses(args, loss);
}

fn log_likelihood_grad<T: Real>(args: &mut Args<'_, T>) {
    cost::slopes(args, slope);
}

/// The cases of every cost.
pub fn cases() -> Vec<Case> {
    cost::cases(&COST)
}

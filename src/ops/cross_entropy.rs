//! Cross-entropy of sigmoids, from the scores z before the sigmoids σ (Nielsen,
//! equation 63, one example):
//!
//! L = −Σₖ [yₖ ln σ(zₖ) + (1 − yₖ) ln(1 − σ(zₖ))] = Σₖ [max(zₖ, 0) − zₖ yₖ + ln(1 + e^−|zₖ|)]
//!
//! The second form takes no logarithm of a rounded 0 and no exponential that overflows.
//! ∂L/∂z = σ(z) − y. See [`cost`](super::Loss) for targets and for the mini-batch.

use super::Case;
use super::activation::Activation;
use super::cost::{self, Cost, Label, both_kernel, loss_kernel, short_kernel, slope_kernel};
use crate::kernel::{Args, Demand, Kernel};
use crate::tensor::Real;

const SOURCE: &str = concat!(
    include_str!("../../shaders/shared/tree.wgsl"),
    include_str!("../../shaders/shared/nan.wgsl"),
    include_str!("../../shaders/shared/terms.wgsl"),
    include_str!("../../shaders/shared/cost.wgsl"),
    include_str!("../../shaders/cross_entropy.wgsl"),
    crate::port!("finish"),
);

/// L = Σ [max(z, 0) − z y + ln(1 + e^−|z|)].
pub static CROSS_ENTROPY: Kernel = loss_kernel(
    "cross_entropy",
    SOURCE,
    crate::reference!(cross_entropy),
    Demand {
        rounds: "K / 64 / 4",
        barriers: "8",
        issue: "K / 64 * 30 + 80",
        words: "K + 2",
        ..Demand::UNSTATED
    },
);

/// δ = g (σ(z) − y).
pub static CROSS_ENTROPY_GRAD: Kernel = slope_kernel(
    "cross_entropy_grad",
    "cross_entropy",
    SOURCE,
    crate::reference!(cross_entropy_grad),
    Demand {
        rounds: "K / 64",
        issue: "K / 64 * 45 + 20",
        words: "2 * K + 2",
        ..Demand::UNSTATED
    },
);

/// σ(z) − y, and L.
pub static CROSS_ENTROPY_BOTH: Kernel = both_kernel(
    "cross_entropy_both",
    "cross_entropy",
    SOURCE,
    crate::reference!(cross_entropy_both),
    Demand {
        rounds: "K / 64 / 4 + K / 64",
        barriers: "8",
        issue: "K / 64 * 75 + 100",
        words: "3 * K + 2",
        ..Demand::UNSTATED
    },
);

/// The same by a thread for each example.
pub static CROSS_ENTROPY_SHORT: Kernel = short_kernel(
    "cross_entropy_short",
    "cross_entropy",
    SOURCE,
    crate::reference!(cross_entropy_both),
    Demand {
        rounds: "K / 4 + 1",
        issue: "K * 75 + 60",
        words: "64 * (2 * K + 2)",
        ..Demand::UNSTATED
    },
);

/// The cost.
pub static COST: Cost = Cost {
    name: "cross_entropy",
    loss: &CROSS_ENTROPY,
    slope: &CROSS_ENTROPY_GRAD,
    both: Some([&CROSS_ENTROPY_BOTH, &CROSS_ENTROPY_SHORT]),
};

/// The kernels of this file.
pub static KERNELS: &[&Kernel] = &[
    &CROSS_ENTROPY,
    &CROSS_ENTROPY_GRAD,
    &CROSS_ENTROPY_BOTH,
    &CROSS_ENTROPY_SHORT,
];

/// L of one example.
pub(super) fn loss<T: Real>(z: &[T], label: Label) -> T {
    let term = |k: usize| {
        let chosen = label.chosen(z.len(), k, z[k]);
        z[k].max(T::ZERO) - chosen + (-z[k].abs()).exp().ln_1p()
    };
    (0..z.len()).map(term).sum()
}

/// ∂L/∂z of one example.
pub(super) fn slope<T: Real>(z: &[T], label: Label, slope: &mut [T]) {
    for (k, slope) in slope.iter_mut().enumerate() {
        *slope = Activation::Sigmoid.apply(z[k]) - label.target(z.len(), k);
    }
}

fn cross_entropy<T: Real>(args: &mut Args<'_, T>) {
    cost::losses(args, loss);
}

fn cross_entropy_grad<T: Real>(args: &mut Args<'_, T>) {
    cost::slopes(args, slope);
}

fn cross_entropy_both<T: Real>(args: &mut Args<'_, T>) {
    cost::both(args, |z, label, slopes| {
        slope(z, label, slopes);
        loss(z, label)
    });
}

/// The cases of every cost.
pub fn cases() -> Vec<Case> {
    cost::cases(&COST)
}

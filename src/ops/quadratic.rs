//! Quadratic cost L = ½ ‖a − y‖² of outputs a and targets y (Nielsen, equation 6, one
//! example); ∂L/∂a = a − y. See [`cost`](super::Loss) for targets and for the mini-batch.

use super::Case;
use super::cost::{self, Cost, Label, both_kernel, loss_kernel, short_kernel, slope_kernel};
use crate::kernel::{Args, Demand, Kernel};
use crate::tensor::Real;

const SOURCE: &str = concat!(
    include_str!("../../shaders/shared/tree.wgsl"),
    include_str!("../../shaders/shared/nan.wgsl"),
    include_str!("../../shaders/shared/terms.wgsl"),
    include_str!("../../shaders/shared/cost.wgsl"),
    include_str!("../../shaders/quadratic.wgsl"),
    crate::port!("finish"),
);

/// L = ½ ‖a − y‖².
pub static QUADRATIC: Kernel = loss_kernel(
    "quadratic",
    SOURCE,
    crate::reference!(quadratic),
    Demand {
        rounds: "K / 64 / 4",
        barriers: "8",
        issue: "K / 64 * 14 + 80",
        words: "K + 2",
        ..Demand::UNSTATED
    },
);

/// δ = g (a − y).
pub static QUADRATIC_GRAD: Kernel = slope_kernel(
    "quadratic_grad",
    "quadratic",
    SOURCE,
    crate::reference!(quadratic_grad),
    Demand {
        rounds: "K / 64",
        issue: "K / 64 * 20 + 20",
        words: "2 * K + 2",
        ..Demand::UNSTATED
    },
);

/// a − y, and L.
pub static QUADRATIC_BOTH: Kernel = both_kernel(
    "quadratic_both",
    "quadratic",
    SOURCE,
    crate::reference!(quadratic_both),
    Demand {
        rounds: "K / 64 / 4 + K / 64",
        barriers: "8",
        issue: "K / 64 * 34 + 100",
        words: "3 * K + 2",
        ..Demand::UNSTATED
    },
);

/// The same by a thread for each example.
pub static QUADRATIC_SHORT: Kernel = short_kernel(
    "quadratic_short",
    "quadratic",
    SOURCE,
    crate::reference!(quadratic_both),
    Demand {
        rounds: "K / 4 + 1",
        issue: "K * 34 + 60",
        words: "64 * (2 * K + 2)",
        ..Demand::UNSTATED
    },
);

/// The cost.
pub static COST: Cost = Cost {
    name: "quadratic",
    loss: &QUADRATIC,
    slope: &QUADRATIC_GRAD,
    both: Some([&QUADRATIC_BOTH, &QUADRATIC_SHORT]),
};

/// The kernels of this file.
pub static KERNELS: &[&Kernel] = &[
    &QUADRATIC,
    &QUADRATIC_GRAD,
    &QUADRATIC_BOTH,
    &QUADRATIC_SHORT,
];

/// L of one example.
pub(super) fn loss<T: Real>(a: &[T], label: Label) -> T {
    let squares = (0..a.len()).map(|k| {
        let off = a[k] - label.target(a.len(), k);
        off * off
    });
    T::of(0.5) * squares.sum()
}

/// ∂L/∂a of one example.
pub(super) fn slope<T: Real>(a: &[T], label: Label, slope: &mut [T]) {
    for (k, slope) in slope.iter_mut().enumerate() {
        *slope = a[k] - label.target(a.len(), k);
    }
}

fn quadratic<T: Real>(args: &mut Args<'_, T>) {
    cost::losses(args, loss);
}

fn quadratic_grad<T: Real>(args: &mut Args<'_, T>) {
    cost::slopes(args, slope);
}

fn quadratic_both<T: Real>(args: &mut Args<'_, T>) {
    cost::both(args, |z, label, slopes| {
        slope(z, label, slopes);
        loss(z, label)
    });
}

/// The cases of every cost.
pub fn cases() -> Vec<Case> {
    cost::cases(&COST)
}

//! Quadratic cost L = ½ ‖a − y‖² of outputs a and targets y (Nielsen, equation 6, one
//! example); ∂L/∂a = a − y. See [`cost`](super::Loss) for targets and for the mini-batch.

use super::Case;
use super::cost::{self, Cost, loss_kernel, slope_kernel, target};
use crate::kernel::{Args, Demand, Kernel};
use crate::tensor::Real;

const SOURCE: &str = concat!(
    include_str!("../../shaders/shared/tree.wgsl"),
    include_str!("../../shaders/shared/nan.wgsl"),
    include_str!("../../shaders/shared/terms.wgsl"),
    include_str!("../../shaders/shared/cost.wgsl"),
    include_str!("../../shaders/quadratic.wgsl"),
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

/// The cost.
pub static COST: Cost = Cost {
    name: "quadratic",
    loss: &QUADRATIC,
    slope: &QUADRATIC_GRAD,
};

/// The kernels of this file.
pub static KERNELS: &[&Kernel] = &[&QUADRATIC, &QUADRATIC_GRAD];

/// L of one example.
pub(super) fn loss<T: Real>(a: &[T], label: u32) -> T {
    let squares = (0..a.len()).map(|k| {
        let off = a[k] - target(a.len(), k, label);
        off * off
    });
    T::of(0.5) * squares.sum()
}

/// ∂L/∂a of one example.
pub(super) fn slope<T: Real>(a: &[T], label: u32, slope: &mut [T]) {
    for (k, slope) in slope.iter_mut().enumerate() {
        *slope = a[k] - target(a.len(), k, label);
    }
}

fn quadratic<T: Real>(args: &mut Args<'_, T>) {
    cost::losses(args, loss);
}

fn quadratic_grad<T: Real>(args: &mut Args<'_, T>) {
    cost::slopes(args, slope);
}

/// The cases of every cost.
pub fn cases() -> Vec<Case> {
    cost::cases(&COST)
}

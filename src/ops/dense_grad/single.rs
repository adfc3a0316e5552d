//! A dense layer's way back by one workgroup, as a part of a launch of a whole program: the kernels of
//! `shaders/dense_grad/single.wgsl`.

use super::{DENSE_GRAD, DENSE_UPDATE, PORTS};
use crate::kernel::{Demand, Kernel, Port};
use crate::ops::launch::SINGLE_WORK;
use crate::ops::{Alternative, Lowered};

/// The variants of a layer, if it is small; with ∂x where that is wanted.
pub(super) fn variants(launch: &Lowered, wanted: bool) -> Vec<Alternative> {
    let work: f64 = launch.constants.iter().map(|(_, extent)| extent).product();
    if work > SINGLE_WORK as f64 {
        return vec![];
    }
    let kernel = match wanted {
        true => &DENSE_GRAD_SINGLE,
        false => &DENSE_UPDATE_SINGLE,
    };
    launch.by_one_workgroup(kernel, 0)
}

const SINGLE_PORTS: [Port; 3] = [
    Port {
        elements: "4 * (OUT * IN / 4 / THREADS + OUT + 1)",
        ..PORTS[0]
    },
    Port {
        elements: "OUT / THREADS",
        ..PORTS[1]
    },
    Port {
        elements: "N * IN / THREADS",
        ..PORTS[2]
    },
];

const SOURCE: &str = concat!(
    include_str!("../../../shaders/shared/single.wgsl"),
    include_str!("../../../shaders/dense_grad/rows.wgsl"),
    include_str!("../../../shaders/dense_grad/ones.wgsl"),
    include_str!("../../../shaders/dense_grad/single.wgsl"),
    crate::port!("finish_weight", before),
    crate::port!("finish_bias", before),
    crate::port!("finish_input", before),
);

/// [`DENSE_GRAD`] by one workgroup.
pub static DENSE_GRAD_SINGLE: Kernel = Kernel {
    name: "dense_grad_single",
    // Instructions on average: threads without an element wait.
    demand: Demand {
        rounds: "N * IN / THREADS * (OUT / 8 + 1) + IN / 4 * OUT / THREADS / 2 + IN / 4 / THREADS + 3",
        barriers: "1",
        issue: "(N * IN * (OUT * 5 + 20) + IN / 4 * OUT * (N * 5 + 30)) / THREADS + IN / 4 / THREADS * 8 * N + 100",
        words: "N * IN * OUT / 8 + OUT * (2 * IN + N) + 2 * N * IN",
        ..Demand::UNSTATED
    },
    turns: "N * IN / THREADS * (OUT + 1) + IN / 4 * OUT / THREADS + IN / 4 / THREADS * 2 + OUT / THREADS * (N + 1) + \
            OUT",
    source: SOURCE,
    constants: &["N", "IN", "OUT", "THREADS"],
    ports: &SINGLE_PORTS,
    ..DENSE_GRAD
};

/// [`DENSE_UPDATE`] by one workgroup.
pub static DENSE_UPDATE_SINGLE: Kernel = Kernel {
    name: "dense_update_single",
    demand: Demand {
        rounds: "IN / 4 * OUT / THREADS / 2 + IN / 4 / THREADS + 2",
        issue: "IN / 4 * OUT * (N * 5 + 30) / THREADS + IN / 4 / THREADS * 8 * N + 100",
        words: "OUT * (2 * IN + N) + N * IN",
        ..Demand::UNSTATED
    },
    turns: DENSE_GRAD_SINGLE.turns,
    source: SOURCE,
    constants: DENSE_GRAD_SINGLE.constants,
    ports: SINGLE_PORTS.first_chunk::<2>().unwrap().as_slice(),
    ..DENSE_UPDATE
};

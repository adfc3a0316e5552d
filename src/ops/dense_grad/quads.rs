//! The variant for hardware, where a launch takes as long as its loads wait for each other: the kernels of
//! `shaders/dense_grad/quads.wgsl`, and which of them a layer takes.

use super::{DENSE_GRAD, DENSE_UPDATE, PORTS};
use crate::kernel::{Demand, Kernel, Port, Target};
use crate::ops::{Alternative, Lowered};

/// Threads of a workgroup and the bytes that they share; `THREADS` and `shares` in the shader.
const TARGET: Target = Target::Workgroup {
    threads: 256,
    bytes: 16 << 10,
};
/// Workgroups that a GPU has room for at once, about half of a large one's: with fewer, each had
/// better own fewer columns.
const WORKGROUPS: usize = 64;

/// The variant of a layer with `n_in` columns of W, if there may be so many workgroups; with ∂x where
/// that is wanted.
pub(super) fn variant(launch: &Lowered, n_in: usize, wanted: bool) -> Option<Alternative> {
    let fours = n_in.div_ceil(4);
    // Two fours are what memory hands over at once.
    let quads = if fours / 2 >= WORKGROUPS { 2 } else { 1 };
    // The last workgroup has the biases.
    let groups = fours.div_ceil(quads) + 1;
    let kernel = match (n_in.is_multiple_of(4), wanted) {
        (true, true) => &DENSE_GRAD_QUADS,
        (true, false) => &DENSE_UPDATE_QUADS,
        (false, true) => &DENSE_GRAD_QUADS_ANY,
        (false, false) => &DENSE_UPDATE_QUADS_ANY,
    };
    let mut variant = launch.otherwise(TARGET, kernel, [groups as u32, 1]);
    variant.constants.push(("QUADS", quads as f64));
    (groups <= 65_535).then_some(variant)
}

const QUADS_PORTS: [Port; 3] = [
    Port {
        elements: "4 * (OUT * QUADS / 256 + 1)",
        ..PORTS[0]
    },
    Port {
        elements: "OUT / 256 + 1",
        ..PORTS[1]
    },
    Port {
        elements: "4",
        ..PORTS[2]
    },
];

/// The module with the file that says how four neighbours are loaded and stored.
macro_rules! source {
    ($($neighbours:literal),*) => {
        concat!(
            include_str!("../../../shaders/dense_grad/rows.wgsl"),
            include_str!("../../../shaders/dense_grad/quads.wgsl"),
            $(include_str!(concat!(
                "../../../shaders/dense_grad/",
                $neighbours,
                ".wgsl"
            )),)*
            $crate::port!("finish_weight", before),
            $crate::port!("finish_bias", before),
            $crate::port!("finish_input", before),
        )
    };
}

/// [`DENSE_GRAD`] by fours of columns, where IN is a multiple of 4.
pub static DENSE_GRAD_QUADS: Kernel = Kernel {
    name: "dense_grad_quads",
    demand: Demand {
        rounds: "OUT * QUADS / 512 + 3",
        barriers: "4 * (N / 4)",
        issue: "OUT * QUADS / 512 * (2 * N * 10 + 60) + 300",
        words: "OUT * (8 * QUADS + N) + 8 * QUADS * N",
        ..Demand::UNSTATED
    },
    turns: "(OUT / 256 + 1) * (N + 2) + OUT * QUADS / 512 + 160",
    source: source!("quads_fours"),
    constants: &["N", "IN", "OUT", "QUADS"],
    ports: &QUADS_PORTS,
    ..DENSE_GRAD
};

/// [`DENSE_UPDATE`] likewise.
pub static DENSE_UPDATE_QUADS: Kernel = Kernel {
    name: "dense_update_quads",
    demand: Demand {
        rounds: "OUT * QUADS / 512 + 2",
        issue: "OUT * QUADS / 512 * (2 * N * 5 + 60) + 100",
        words: "OUT * (8 * QUADS + N) + 4 * QUADS * N",
        ..Demand::UNSTATED
    },
    turns: DENSE_GRAD_QUADS.turns,
    source: DENSE_GRAD_QUADS.source,
    constants: DENSE_GRAD_QUADS.constants,
    ports: QUADS_PORTS.first_chunk::<2>().unwrap().as_slice(),
    ..DENSE_UPDATE
};

/// [`DENSE_GRAD_QUADS`] for any IN.
pub static DENSE_GRAD_QUADS_ANY: Kernel = Kernel {
    name: "dense_grad_quads_any",
    demand: DENSE_GRAD_QUADS.demand,
    source: source!("ones", "quads_ones"),
    ..DENSE_GRAD_QUADS
};

/// [`DENSE_UPDATE_QUADS`] for any IN.
pub static DENSE_UPDATE_QUADS_ANY: Kernel = Kernel {
    name: "dense_update_quads_any",
    demand: DENSE_UPDATE_QUADS.demand,
    source: DENSE_GRAD_QUADS_ANY.source,
    ..DENSE_UPDATE_QUADS
};

//! Products by an adapter's matrix units: factors rounded to f16, sums in f32
//! (`shaders/shared/fragments.wgsl`).
//!
//! Forward products alone: their factors, activations and weights, lie where f16 is fine.
//! Many gradients are smaller than what f16 holds (Micikevicius et al. 2018, fig. 2b), and
//! without their loss scaling would be lost; these stay in f32.

use super::MATMUL;
use crate::kernel::{Demand, Kernel, Port, Target};
use crate::ops::Alternative;

/// Rows and columns of a workgroup's block; `SPAN` of the shader.
const SPAN: usize = 64;
/// Of fewer rows, columns or terms, a unit would mostly multiply zeros.
const LEAST: usize = 16;

/// The module of a unit: its file must come first, since it enables what it uses.
macro_rules! source {
    ($unit:literal) => {
        concat!(
            include_str!(concat!("../../../shaders/matmul/", $unit, ".wgsl")),
            include_str!("../../../shaders/matmul.wgsl"),
            include_str!("../../../shaders/shared/fragments.wgsl"),
            include_str!("../../../shaders/matmul/fragments.wgsl"),
            $crate::port!("finish"),
        )
    };
}

/// [`MATMUL`] by units of 16 × 16.
pub static MATMUL_FRAGMENTS16: Kernel = Kernel {
    name: "matmul_fragments16",
    demand: Demand::UNSTATED,
    turns: "(K / 32 + 1) * 24 + 512",
    source: source!("fragments16"),
    ports: &[Port::finish(2, "32")],
    ..MATMUL
};

/// [`MATMUL`] by units of 8 × 8.
pub static MATMUL_FRAGMENTS8: Kernel = Kernel {
    name: "matmul_fragments8",
    demand: Demand::UNSTATED,
    source: source!("fragments8"),
    ..MATMUL_FRAGMENTS16
};

/// The variants of a product `[M, K] · [K, N]` by matrix units.
pub(super) fn variants(
    [m, n, k]: [usize; 3],
    constants: &[(&'static str, f64)],
) -> Vec<Alternative> {
    if m.min(n).min(k) < LEAST {
        return vec![];
    }
    let variant = |(kernel, edge)| Alternative {
        target: Target::MatrixUnits { edge },
        kernel,
        constants: constants.to_vec(),
        grid: [n.div_ceil(SPAN) as u32, m.div_ceil(SPAN) as u32],
    };
    let units = [(&MATMUL_FRAGMENTS16, 16), (&MATMUL_FRAGMENTS8, 8)];
    units.into_iter().map(variant).collect()
}

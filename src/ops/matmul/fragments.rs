//! Products by an adapter's matrix units: factors rounded to f16, sums in f32
//! (`shaders/shared/fragments.wgsl`).
//!
//! Forward products alone: their factors, activations and weights, lie where f16 is fine.
//! Many gradients are smaller than what f16 holds (Micikevicius et al. 2018, fig. 2b), and
//! without their loss scaling would be lost; these stay in f32.

use super::{End, MATMUL_BIAS, MATMUL_BIAS_DROPOUT};
use crate::kernel::{Kernel, Suits};
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
            include_str!("../../../shaders/shared/nan.wgsl"),
            include_str!("../../../shaders/shared/activation.wgsl"),
            include_str!("../../../shaders/shared/rng.wgsl"),
            include_str!("../../../shaders/shared/sgd.wgsl"),
            include_str!("../../../shaders/matmul.wgsl"),
            include_str!("../../../shaders/shared/fragments.wgsl"),
            include_str!("../../../shaders/matmul/fragments.wgsl"),
        )
    };
}

/// [`MATMUL_BIAS`] by units of 16 × 16.
pub static MATMUL_FRAGMENTS16_BIAS: Kernel = Kernel {
    name: "matmul_fragments16_bias",
    turns: "(K / 32 + 1) * 24 + 512",
    source: source!("fragments16"),
    ..MATMUL_BIAS
};

/// [`MATMUL_BIAS_DROPOUT`] by units of 16 × 16.
pub static MATMUL_FRAGMENTS16_BIAS_DROPOUT: Kernel = Kernel {
    name: "matmul_fragments16_bias_dropout",
    turns: "(K / 32 + 1) * 24 + 512",
    source: source!("fragments16"),
    ..MATMUL_BIAS_DROPOUT
};

/// [`MATMUL_BIAS`] by units of 8 × 8.
pub static MATMUL_FRAGMENTS8_BIAS: Kernel = Kernel {
    name: "matmul_fragments8_bias",
    turns: "(K / 32 + 1) * 24 + 512",
    source: source!("fragments8"),
    ..MATMUL_BIAS
};

/// [`MATMUL_BIAS_DROPOUT`] by units of 8 × 8.
pub static MATMUL_FRAGMENTS8_BIAS_DROPOUT: Kernel = Kernel {
    name: "matmul_fragments8_bias_dropout",
    turns: "(K / 32 + 1) * 24 + 512",
    source: source!("fragments8"),
    ..MATMUL_BIAS_DROPOUT
};

/// The ways of a product `[M, K] · [K, N]` by matrix units.
pub(super) fn ways(
    end: &End,
    [m, n, k]: [usize; 3],
    constants: &[(&'static str, f64)],
) -> Vec<Alternative> {
    let units = match end {
        _ if m.min(n).min(k) < LEAST => return vec![],
        End::Bias(_) => [&MATMUL_FRAGMENTS16_BIAS, &MATMUL_FRAGMENTS8_BIAS],
        End::BiasDropout(..) => [
            &MATMUL_FRAGMENTS16_BIAS_DROPOUT,
            &MATMUL_FRAGMENTS8_BIAS_DROPOUT,
        ],
        End::Store | End::Slope(_) | End::Sgd(_) => return vec![],
    };
    let way = |(kernel, edge)| Alternative {
        suits: Suits::MatrixUnits { edge },
        kernel,
        constants: constants.to_vec(),
        grid: [n.div_ceil(SPAN) as u32, m.div_ceil(SPAN) as u32],
    };
    units.into_iter().zip([16, 8]).map(way).collect()
}

//! Matrix products by matrix units ([`crate::ops::fragments`]).

use super::MATMUL;
use crate::kernel::{Demand, Kernel, Port};
use crate::ops::Alternative;
use crate::ops::fragments::{self, units};

/// [`MATMUL`] by units of 16 × 16.
pub static MATMUL_FRAGMENTS16: Kernel = Kernel {
    name: "matmul_fragments16",
    demand: Demand::UNSTATED,
    turns: "(K / 32 + 1) * 24 + 512",
    source: units!("16", "matmul_fragments16", "matmul", "matmul/fragments"),
    ports: &[Port::finish(2, "32")],
    ..MATMUL
};

/// [`MATMUL`] by units of 8 × 8.
pub static MATMUL_FRAGMENTS8: Kernel = Kernel {
    name: "matmul_fragments8",
    demand: Demand::UNSTATED,
    source: units!("8", "matmul_fragments8", "matmul", "matmul/fragments"),
    ..MATMUL_FRAGMENTS16
};

/// The variants of a product `[M, K] · [K, N]`. One that ends in a bias is a forward one, whose factors, activations and
/// weights, lie where f16 is fine.
pub(super) fn variants(
    sizes: [usize; 3],
    constants: &[(&'static str, f64)],
    biased: bool,
) -> Vec<Alternative> {
    let kernels = [&MATMUL_FRAGMENTS16, &MATMUL_FRAGMENTS8];
    fragments::variants(kernels, constants, (1, sizes), !biased)
}

//! Products by an adapter's matrix units: factors rounded to f16, sums in f32
//! (`shaders/shared/fragments.wgsl`).
//!
//! Many gradients are smaller than what f16 holds (Micikevicius et al. 2018, fig. 2b) and would be lost without a loss
//! scale. So the products that may be a gradient's ask for one: they are there where every update of the graph has
//! one ([`Target::MatrixUnits`]).

use super::Alternative;
use crate::kernel::{Kernel, Target};

/// Rows and columns of a workgroup's block; `SPAN` of the shader.
pub(super) const SPAN: usize = 64;
/// Of fewer rows, columns or terms, a unit would mostly multiply zeros.
const LEAST: usize = 16;

/// The module of a unit of `$edge` rows and columns: the shaders `$file`, and the entry point `$entry`.
macro_rules! units {
    ($edge:literal, $entry:literal, $($file:literal),+) => {
        concat!(
            // First, since it enables what it uses.
            include_str!(concat!("../../../shaders/shared/units", $edge, ".wgsl")),
            $(include_str!(concat!("../../../shaders/", $file, ".wgsl")),)+
            include_str!("../../../shaders/shared/fragments.wgsl"),
            "
@compute @workgroup_size(THREADS)
fn ",
            $entry,
            "(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
    @builtin(subgroup_id) subgroup: u32,
) {
    crew = subgroup;
    store(group, thread);
}
",
            $crate::port!("finish"),
        )
    };
}
pub(super) use units;

/// The variants of `products` products `[M, K] · [K, N]`, whose blocks stand below each other, by a kernel for units of
/// 16 and one for units of 8.
pub(super) fn variants(
    [by_16, by_8]: [&'static Kernel; 2],
    constants: &[(&'static str, f64)],
    (products, [m, n, k]): (usize, [usize; 3]),
    scaled: bool,
) -> Vec<Alternative> {
    let grid = [n.div_ceil(SPAN), products * m.div_ceil(SPAN)];
    if m.min(n).min(k) < LEAST
        || grid
            .into_iter()
            .any(|side| side > super::blocks::WORKGROUPS)
    {
        return vec![];
    }
    let variant = |(kernel, edge)| Alternative {
        target: Target::MatrixUnits { edge, scaled },
        kernel,
        constants: constants.to_vec(),
        grid: grid.map(|side| side as u32),
    };
    let units = [(by_16, 16), (by_8, 8)];
    units.into_iter().map(variant).collect()
}

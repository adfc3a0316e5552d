//! Convolutions and their input gradients by tiles of registers (`shaders/conv2d/tiled.wgsl`): a thread makes up to
//! sixteen filters (channels back) at four places.
//!
//! The direct kernels load a pixel and a weight for every product. Here a pixel serves as many products as a
//! tile has rows, and a weight four, out of workgroup memory. A product in blocks (`implicit.rs`) has more use of both,
//! but needs blocks of 32 rows at least and two barriers for some tens of steps; here a workgroup's barriers are those around
//! each thousand of weights.

use super::{CONV2D, CONV2D_INPUT_GRAD};
use crate::kernel::{Demand, Kernel, Port, Target};
use crate::ops::blocks::{MULTIPROCESSORS, WORKGROUPS};
use crate::ops::{Alternative, Lowered};

/// Places of a workgroup; four times `THREADS` of the shader.
const PLACES: usize = 256;

/// The variant of `direct` by `kernel`, for so many rows (filters or channels of a group) and columns (places or pixels
/// of all images); none where a tile would have a single row, or a grid no room.
pub(super) fn variant(
    direct: &Lowered,
    kernel: &'static Kernel,
    [rows, columns]: [usize; 2],
    groups: usize,
) -> Option<Alternative> {
    let columns = columns.div_ceil(PLACES);
    let workgroups = |fours: usize| columns * rows.div_ceil(4 * fours) * groups;
    let mut fours = match rows {
        0 | 1 => return None,
        2..5 => 1,
        5..9 => 2,
        _ => 4,
    };
    // Rather two workgroups with half of the rows than a multiprocessor with none.
    while fours > 1 && workgroups(fours) < MULTIPROCESSORS {
        fours /= 2;
    }
    let grid = [columns, rows.div_ceil(4 * fours) * groups];
    let fits = grid.into_iter().all(|side| side <= WORKGROUPS);
    fits.then(|| {
        let grid = grid.map(|side| side as u32);
        let mut variant = direct.otherwise(Target::Gpu, kernel, grid);
        variant.constants.push(("FOURS", fours as f64));
        variant
    })
}

/// The modules: everything of the direct kernels, and what a tile is made of.
macro_rules! source {
    ($rows:literal) => {
        concat!(
            include_str!("../../../shaders/shared/grid.wgsl"),
            include_str!("../../../shaders/shared/tree.wgsl"),
            include_str!("../../../shaders/shared/window.wgsl"),
            include_str!("../../../shaders/shared/nan.wgsl"),
            include_str!("../../../shaders/conv2d.wgsl"),
            include_str!("../../../shaders/conv2d/finite_weights.wgsl"),
            include_str!("../../../shaders/conv2d/tiled.wgsl"),
            include_str!(concat!("../../../shaders/conv2d/", $rows, ".wgsl")),
            $crate::port!("finish"),
        )
    };
}

const CONSTANTS: &[&str] = constants!("FOURS");

/// Turns of the loops over a sum of `$depth` terms: those over chunks of weights, with that which brings them
/// into memory and that which multiplies; and the end.
macro_rules! turns {
    ($depth:literal) => {
        concat!(
            "(",
            $depth,
            " * FOURS / 1008 + 1) * (252 / FOURS + 19) + 20 * FOURS"
        )
    };
}

/// What a tile asks for whose sums have `$depth` terms: loads of four terms are under way while the four before are
/// multiplied; a term is finding four pixels (`$find` instructions), loading them, four multiply-adds and a weight for each
/// row of the tile. Neighbouring taps see the same pixels, a quarter of which is new.
macro_rules! tile_demand {
    ($depth:literal, $find:literal) => {
        Demand {
            rounds: concat!($depth, " * FOURS / 256 + 4 * FOURS + 2"),
            ahead: concat!($depth, " / 4 + 1"),
            barriers: concat!("2 * (", $depth, " * FOURS / 1008 + 1)"),
            issue: concat!(
                $depth,
                " * (17 * FOURS + ",
                $find,
                ") + ",
                $depth,
                " * FOURS / 2 + 200 * FOURS + 100"
            ),
            words: concat!($depth, " * (64 + 4 * FOURS) + 1024 * FOURS"),
        }
    };
}

/// Results of a thread, at most.
const PORTS: &[Port] = &[Port::finish(2, "64")];

/// [`CONV2D`] by tiles.
pub static FORWARD: Kernel = Kernel {
    name: "conv2d_tiled",
    demand: tile_demand!("C / GROUPS * KH * KW", "38"),
    turns: turns!("C / GROUPS * KH * KW"),
    source: source!("tiled_forward"),
    constants: CONSTANTS,
    ports: PORTS,
    ..CONV2D
};

/// [`CONV2D_INPUT_GRAD`] by tiles.
pub static INPUT_GRAD: Kernel = Kernel {
    name: "conv2d_tiled_input_grad",
    demand: tile_demand!("F / GROUPS * KH * KW", "46"),
    turns: concat!(
        turns!("F / GROUPS * KH * KW"),
        " + 16 * FOURS * ((F / GROUPS + 1) * (2 + KH * (KW + 2)) + 8)"
    ),
    source: source!("tiled_input_grad"),
    constants: CONSTANTS,
    ports: PORTS,
    ..CONV2D_INPUT_GRAD
};

//! Kernels for adapters that are programs on a processor, where a load costs more
//! than arithmetic: few threads, whose sums stand in registers. They do what the kernels
//! that they are named after do.

use super::kernels::LANES_SOURCE;
use super::*;
use crate::kernel::Demand;

/// Threads of a workgroup; `WIDE` of the shader.
pub(super) const WIDE: usize = 8;

/// Most taps of a channel that a thread keeps the sums of; `MOST_TAPS` of the shader.
pub(super) const MOST_TAPS: usize = 32;

/// Pooled places beside each other that a thread has at a time, and filters of the forward
/// kernel; `STRIP` and `STRIP_FILTERS` of the shader.
pub(super) const STRIP: [usize; 2] = [4, 4];

/// The largest edge of a kernel that a thread's strip has room for.
pub(super) const STRIP_KERNEL: usize = 5;

macro_rules! wide {
    ($($name:ident $entry:literal of $usual:ident, turns $turns:expr, demand $demand:expr;)*) => {
        $(pub(super) static $name: Kernel = Kernel {
            name: $entry,
            turns: $turns,
            demand: $demand,
            ..$usual
        };)*
    };
}

const FORWARD_TURNS: &str = "(C / GROUPS + 1) * (20 + 20 * KH) + 128";
const INPUT_TURNS: &str = "(QO / 4 + 1) * (PO + KH / 2 + 1) * (F / GROUPS + 4) + 64";
const WEIGHT_TURNS: &str = "N * PO * QO / SHARES + 4 * SHARES * KH * KW + 64";

const FORWARD_DEMAND: Demand = Demand {
    rounds: "C / GROUPS * (KH + 1) + 4",
    issue: "C / GROUPS * KH * (KW * 100 + 100) + 200",
    words: "C / GROUPS * KH * (KW * 32 + 96)",
    ..Demand::UNSTATED
};
const WEIGHT_DEMAND: Demand = Demand {
    rounds: "N * PO * QO / SHARES * 4 / 3",
    barriers: "1",
    issue: "N * PO * QO / SHARES * 60",
    words: "N * PO * QO / SHARES * 48",
    ..Demand::UNSTATED
};

wide! {
    FORWARD "conv2d_pool_strip" of CONV2D_POOL, turns FORWARD_TURNS, demand FORWARD_DEMAND;
    WEIGHT_GRAD "conv2d_pool_weight_grad_wide" of CONV2D_POOL_WEIGHT_GRAD, turns WEIGHT_TURNS, demand WEIGHT_DEMAND;
    WEIGHT_GRAD_BIAS "conv2d_pool_weight_grad_bias_wide"
        of CONV2D_POOL_WEIGHT_GRAD_BIAS, turns WEIGHT_TURNS, demand WEIGHT_DEMAND;
}

/// A pixel is finished once, or twice where a weight was not finite.
pub(super) static INPUT_GRAD: Kernel = Kernel {
    name: "conv2d_pool_input_grad_strip",
    demand: Demand {
        rounds: "F / GROUPS * PO",
        issue: "F / GROUPS * PO * QO * 150",
        words: "F / GROUPS * PO * QO * 16",
        ..Demand::UNSTATED
    },
    turns: INPUT_TURNS,
    ports: &[Port {
        partial: true,
        ..Port::finish(3, "2 * H * W")
    }],
    ..CONV2D_POOL_INPUT_GRAD
};

/// [`FORWARD`] by lanes of a subgroup, for rows of whole fours.
pub(super) static FORWARD_LANES: Kernel = Kernel {
    name: "conv2d_pool_lanes",
    demand: Demand::UNSTATED,
    turns: "(C / GROUPS + 1) * (20 + 20 * KH) + 128",
    source: LANES_SOURCE,
    ..CONV2D_POOL
};

//! The declarations of the kernels for GPUs; [`wide`](super::wide) and [`staged`](super::staged) declare their own
//! variants of them.

use super::{optimized, reference};
use crate::kernel::{Bind, Demand, Kernel, Port};

/// The module of every kernel here, then `more`.
macro_rules! source {
    ($($more:literal),*) => {
        concat!(
            include_str!("../../../shaders/shared/grid.wgsl"),
            include_str!("../../../shaders/shared/tree.wgsl"),
            include_str!("../../../shaders/shared/window.wgsl"),
            include_str!("../../../shaders/shared/nan.wgsl"),
            include_str!("../../../shaders/conv2d_pool.wgsl"),
            include_str!("../../../shaders/conv2d_pool/wide.wgsl"),
            $(include_str!($more),)*
            $crate::port!("finish"),
            $crate::port!("finish_bias"),
        )
    };
}

const SOURCE: &str = source!();
/// A module of its own: not every adapter compiles it.
pub(super) const LANES_SOURCE: &str = source!(
    "../../../shaders/shared/lanes.wgsl",
    "../../../shaders/conv2d_pool/lanes.wgsl"
);

/// A module of its own: its memory is sized by constants that other kernels do not have.
pub(super) const STAGED_SOURCE: &str = source!("../../../shaders/conv2d_pool/staged.wgsl");

/// The constants of every kernel here, then `more`.
macro_rules! constants {
    ($($more:literal),*) => {
        &[
            "N", "C", "F", "GROUPS", "H", "W", "HO", "WO", "KH", "KW", "SH", "SW", "PH", "PW", "DH",
            "DW", "PO", "QO", "PKH", "PKW", "PSH", "PSW", "PPH", "PPW", $($more),*
        ]
    };
}

pub(super) use constants;

/// y = maxpool(x ∗ w + bias).
pub static CONV2D_POOL: Kernel = Kernel {
    name: "conv2d_pool",
    turns: "PKH * PKW * (C / GROUPS * (2 + KH * (KW + 2)) + 4) + 2 * PKH + 64",
    stem: "conv2d_pool",
    source: SOURCE,
    bindings: &[
        Bind::read("x").of("N * C * H * W"),
        Bind::read("w").of("F * C * KH * KW / GROUPS"),
        Bind::read("bias").of("F"),
        Bind::write("y").of("N * F * PO * QO"),
        Bind::write("argmax").u32().of("N * F * PO * QO"),
    ],
    constants: constants!(),
    reference: crate::reference!(reference::forward),
    optimized: Some(optimized::forward),
    demand: Demand {
        rounds: "PKH * PKW * (C / GROUPS * KH * KW / 2) + 4",
        issue: "PKH * PKW * (C / GROUPS * KH * KW * 55 + 60) + 250",
        words: "C / GROUPS * (64 * PSH * PSW * SH * SW + 8 * KH * KW) + 1152",
        ..Demand::UNSTATED
    },
    trusted: true,
    ports: &[Port::finish(3, "16")],
    finishing: Some(optimized::finishing),
};

/// The same for windows of 2 × 2 over a convolution of stride 1 without padding.
pub static CONV2D_POOL_PAIRS: Kernel = Kernel {
    name: "conv2d_pool_pairs",
    demand: Demand {
        rounds: "C / GROUPS * KH * KW / 2 + 4",
        issue: "C / GROUPS * KH * KW * 60 + 200",
        words: "C / GROUPS * KH * KW * 32 + 1152",
        ..Demand::UNSTATED
    },
    turns: "(C / GROUPS + 1) * (2 + KH * (KW + 2)) + 64",
    ..CONV2D_POOL
};

/// A winner that there may be: its window's first place.
fn first_of_window(size: &dyn Fn(&str) -> usize, i: usize) -> u32 {
    let (p, q) = (i / size("QO") % size("PO"), i % size("QO"));
    let row = (p * size("PSH")).saturating_sub(size("PPH"));
    let column = (q * size("PSW")).saturating_sub(size("PPW"));
    (row * size("WO") + column) as u32
}

/// ∂x.
pub static CONV2D_POOL_INPUT_GRAD: Kernel = Kernel {
    name: "conv2d_pool_input_grad",
    demand: Demand {
        rounds: "F / GROUPS * ((KH + 1) / 2) * ((KW + 1) / 2) + 2",
        issue: "F / GROUPS * ((KH + 1) / 2) * ((KW + 1) / 2) * 35",
        words: "F / GROUPS * 576",
        ..Demand::UNSTATED
    },
    turns: "(F / GROUPS + 1) * (2 + ((DH * KH + PKH) / (SH * PSH) + 1) * ((DW * KW + PKW) / (SW * PSW) + 3)) + 16",
    bindings: &[
        Bind::read("g").of("N * F * PO * QO"),
        Bind::read("saved_argmax")
            .u32()
            .of("N * F * PO * QO")
            .sampled(first_of_window),
        Bind::read("filters").of("F * C * KH * KW / GROUPS"),
        Bind::write("dx").of("N * C * H * W"),
    ],
    reference: crate::reference!(reference::input_grad),
    optimized: Some(optimized::input_grad),
    ports: &[Port::finish(3, "4")],
    finishing: Some(optimized::input_grad_finishing),
    ..CONV2D_POOL
};

/// ∂w.
pub static CONV2D_POOL_WEIGHT_GRAD: Kernel = Kernel {
    name: "conv2d_pool_weight_grad",
    demand: Demand {
        rounds: "N * PO * QO / SHARES + 2",
        barriers: "1",
        issue: "N * PO * QO / SHARES * 40",
        words: "N * PO * QO / SHARES * 512",
        ..Demand::UNSTATED
    },
    turns: "N * PO * QO / SHARES + SHARES + 32",
    bindings: &[
        Bind::read("x").of("N * C * H * W"),
        Bind::read("upstream").of("N * F * PO * QO"),
        Bind::read("winners")
            .u32()
            .of("N * F * PO * QO")
            .sampled(first_of_window),
        Bind::write("dw").of("F * C * KH * KW / GROUPS"),
    ],
    constants: constants!("SHARES"),
    reference: crate::reference!(reference::weight_grad),
    optimized: Some(optimized::weight_grad),
    finishing: None,
    ..CONV2D_POOL
};

/// ∂w and ∂bias.
pub static CONV2D_POOL_WEIGHT_GRAD_BIAS: Kernel = Kernel {
    name: "conv2d_pool_weight_grad_bias",
    demand: CONV2D_POOL_WEIGHT_GRAD.demand,
    bindings: &[
        Bind::read("x").of("N * C * H * W"),
        Bind::read("upstream").of("N * F * PO * QO"),
        Bind::read("winners")
            .u32()
            .of("N * F * PO * QO")
            .sampled(first_of_window),
        Bind::write("dw").of("F * C * KH * KW / GROUPS"),
        Bind::write("dbias").of("F"),
    ],
    reference: crate::reference!(reference::weight_grad_bias),
    optimized: Some(optimized::weight_grad_bias),
    ports: &[
        Port::finish(3, "16"),
        Port {
            name: "finish_bias",
            binding: 4,
            before: None,
            partial: false,
            elements: "1",
        },
    ],
    ..CONV2D_POOL_WEIGHT_GRAD
};

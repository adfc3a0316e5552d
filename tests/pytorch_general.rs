//! Literal fixtures from PyTorch for the ops of general networks, written by
//! `tests/fixtures/pytorch_general.py`: functions with their gradients.

mod common;

use std::collections::BTreeSet;
use std::sync::Arc;

use common::fixtures::{hold_op, inputs_of, load};
use wgrad::ops::Op;
use wgrad::ops::adaptive_avg_pool2d::AdaptiveAvgPool2d;
use wgrad::ops::bmm::Bmm;
use wgrad::ops::conv_transpose2d::ConvTranspose2d;
use wgrad::ops::cumsum::Cumsum;
use wgrad::ops::embedding::Embedding;
use wgrad::ops::log_softmax::LogSoftmax;
use wgrad::ops::lrn::Lrn;
use wgrad::ops::norm::{Norm, NormGiven, Over};
use wgrad::ops::pad::{Edge, Pad, PadEdges};
use wgrad::ops::permute::Permute;
use wgrad::ops::reduction::{Kind, Reduction};
use wgrad::ops::slice::Slice;
use wgrad::ops::softmax::Softmax;
use wgrad::ops::upsample::{Sampling, Upsample};

type Named = (String, Arc<dyn Op>);

fn named(name: &str, op: impl Op + 'static) -> Named {
    (name.into(), Arc::new(op))
}

fn shapes() -> Vec<Named> {
    let permute = |name, axes: &[usize]| {
        named(
            name,
            Permute {
                axes: axes.to_vec(),
            },
        )
    };
    let cumsum = |name, axis, reverse| named(name, Cumsum { axis, reverse });
    let part = Slice {
        axis: 1,
        start: 1,
        extent: 3,
        step: 3,
    };
    let pad = Pad {
        axis: 1,
        start: 1,
        extent: 8,
        step: 3,
    };
    let edges = |name, edge| {
        let op = PadEdges {
            axis: 2,
            before: 2,
            after: 1,
            edge,
        };
        named(name, op)
    };
    vec![
        permute("permute.two", &[1, 0]),
        permute("permute.four", &[0, 2, 3, 1]),
        permute("permute.six", &[3, 0, 5, 1, 4, 2]),
        named("slice.step", part),
        named("pad.step", pad),
        edges("pad.reflect", Edge::Reflect),
        edges("pad.replicate", Edge::Replicate),
        cumsum("cumsum.inner", 2, false),
        cumsum("cumsum.outer", 1, false),
        cumsum("cumsum.reverse", 1, true),
    ]
}

fn reductions() -> Vec<Named> {
    let reduction = |kind, axes: &[usize], keep| Reduction {
        keep,
        ..Reduction::new(kind, axes)
    };
    let mut all = vec![
        named("reduction.max.inner", reduction(Kind::Max, &[1], false)),
        named("reduction.min.outer", reduction(Kind::Min, &[0], true)),
        named("reduction.max.long", reduction(Kind::Max, &[1], false)),
        named("reduction.max.ties", reduction(Kind::Max, &[1], false)),
        named("reduction.min.ties", reduction(Kind::Min, &[1], false)),
    ];
    for (kind, what) in [
        (Kind::Sum, "sum"),
        (Kind::Mean, "mean"),
        (Kind::Variance, "variance"),
        (Kind::LogSumExp, "log_sum_exp"),
        (Kind::Norm, "norm"),
    ] {
        for (name, axes, keep) in [
            ("inner", &[1][..], false),
            ("outer", &[0], true),
            ("mixed", &[1, 3], false),
            ("long", &[0, 2], false),
        ] {
            let name = format!("reduction.{what}.{name}");
            all.push(named(&name, reduction(kind, axes, keep)));
        }
    }
    all
}

fn products() -> Vec<Named> {
    let product = |name, trans_a, trans_b| named(name, Bmm { trans_a, trans_b });
    vec![
        named("embedding", Embedding),
        product("bmm.nn", false, false),
        product("bmm.nt", false, true),
        product("bmm.tn", true, false),
        product("bmm.tt", true, true),
    ]
}

fn normalizations() -> Vec<Named> {
    let epsilon = 1e-3;
    let norm = |name, over| named(name, Norm { over, epsilon });
    let over = Over::Batch;
    vec![
        norm("norm.layer", Over::Layer(2)),
        norm("norm.group", Over::Group(2)),
        norm("norm.instance", Over::Instance),
        norm("norm.batch", over),
        norm("norm.batch_rows", over),
        norm("norm.rms", Over::Rms(1)),
        named("norm.given", NormGiven(Norm { over, epsilon })),
        named("softmax.first", Softmax { axis: 0 }),
        named("softmax.channels", Softmax { axis: 1 }),
        named("log_softmax.channels", LogSoftmax { axis: 1 }),
    ]
}

fn images() -> Vec<Named> {
    let plain = ConvTranspose2d {
        stride: [1, 1],
        padding: [0, 0],
        output_padding: [0, 0],
        dilation: [1, 1],
        groups: 1,
    };
    let everything = ConvTranspose2d {
        stride: [2, 3],
        padding: [1, 0],
        output_padding: [1, 2],
        dilation: [2, 1],
        groups: 2,
    };
    let upsample = |name, sampling, size| named(name, Upsample { sampling, size });
    let pool = |name, size| named(name, AdaptiveAvgPool2d { size });
    let lrn = |name, size| {
        let op = Lrn {
            size,
            alpha: 0.7,
            beta: 0.75,
            k: 2.0,
        };
        named(name, op)
    };
    let (nearest, bilinear) = (Sampling::Nearest, Sampling::Bilinear);
    vec![
        named("conv_transpose2d.plain", plain),
        named("conv_transpose2d.everything", everything),
        upsample("upsample.nearest.double", nearest, [6, 8]),
        upsample("upsample.nearest.other", nearest, [13, 3]),
        upsample("upsample.bilinear.double", bilinear, [6, 8]),
        upsample("upsample.bilinear.other", bilinear, [13, 3]),
        pool("adaptive_avg_pool2d.overlap", [3, 4]),
        pool("adaptive_avg_pool2d.global", [1, 1]),
        pool("adaptive_avg_pool2d.larger", [5, 3]),
        lrn("lrn.odd", 3),
        lrn("lrn.even", 4),
    ]
}

#[test]
fn general_ops_equal_pytorch() {
    let fixtures = load("general");
    let (mut compared, mut names) = (0, BTreeSet::new());
    let all = [
        shapes(),
        reductions(),
        products(),
        normalizations(),
        images(),
    ];
    for (name, op) in all.concat() {
        compared += hold_op(&fixtures, &name, op, &inputs_of(&fixtures, &name));
        names.insert(name);
    }
    println!("{compared} tensors compared with PyTorch's");
    for key in fixtures.keys() {
        let (name, _) = key.split_once('/').unwrap();
        assert!(names.contains(name), "{name} is compared with nothing");
    }
}

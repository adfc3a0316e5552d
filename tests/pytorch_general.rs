//! Literal fixtures from PyTorch for the ops of general networks, written by
//! `tests/fixtures/pytorch_general.py`: functions with their gradients.

mod common;

use std::collections::BTreeSet;
use std::sync::Arc;

use common::fixtures::{hold_graph, hold_op, inputs_of, load};
use wgrad::graph::Graph;
use wgrad::ops::adaptive_avg_pool2d::AdaptiveAvgPool2d;
use wgrad::ops::adaptive_max_pool2d::AdaptiveMaxPool2d;
use wgrad::ops::add::Add;
use wgrad::ops::attention::Attention;
use wgrad::ops::bmm::Bmm;
use wgrad::ops::concat::Concat;
use wgrad::ops::conv_transpose2d::ConvTranspose2d;
use wgrad::ops::conv2d::Conv2d;
use wgrad::ops::cumsum::Cumsum;
use wgrad::ops::embedding::Embedding;
use wgrad::ops::heads::{JoinHeads, SplitHeads};
use wgrad::ops::log_softmax::LogSoftmax;
use wgrad::ops::lrn::Lrn;
use wgrad::ops::norm::{Norm, NormGiven, Over};
use wgrad::ops::pad::{Edge, Pad, PadEdges};
use wgrad::ops::permute::Permute;
use wgrad::ops::pointwise::pointwise;
use wgrad::ops::reduction::{Kind, Reduction};
use wgrad::ops::reshape::Reshape;
use wgrad::ops::scale::Scale;
use wgrad::ops::slice::Slice;
use wgrad::ops::softmax::Softmax;
use wgrad::ops::upsample::{Sampling, Upsample};
use wgrad::ops::{
    Conv1d, Conv3d, ConvTranspose1d, Op, Pool1d, Tape, Value, adaptive_avg_pool1d,
    adaptive_max_pool1d, avg_pool1d, cat, chunk, conv_transpose1d, conv1d, conv3d, global_avg_pool,
    global_max_pool, max_pool1d, one_hot, split, stack, unbind, where_nonzero,
};

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
    let most = |name, size| named(name, AdaptiveMaxPool2d { size });
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
        most("adaptive_max_pool2d.overlap", [3, 4]),
        most("adaptive_max_pool2d.global", [1, 1]),
        most("adaptive_max_pool2d.larger", [5, 3]),
        most("adaptive_max_pool2d.ties", [2, 3]),
        lrn("lrn.odd", 3),
        lrn("lrn.even", 4),
    ]
}

/// Adds a block over its inputs and returns its outputs.
type Build = fn(&mut Graph, &[Value]) -> Vec<Value>;

fn add(graph: &mut Graph, op: impl Op + 'static, inputs: &[Value]) -> Value {
    graph.op(Arc::new(op), inputs).unwrap()[0]
}

/// Two heads over five places of six numbers, in a residual wire under a layer normalization.
fn attend(graph: &mut Graph, inputs: &[Value], causal: bool) -> Vec<Value> {
    let attention = Attention {
        heads: 2,
        causal,
        masked: false,
    };
    vec![graph.op(Arc::new(attention), inputs).unwrap()[0]]
}

fn attention(graph: &mut Graph, inputs: &[Value]) -> Vec<Value> {
    let [x, q, k, v, o, gamma, beta] = *inputs else {
        panic!("{} inputs", inputs.len())
    };
    let product = Bmm {
        trans_a: false,
        trans_b: false,
    };
    let reshape = |extents: &[usize]| Reshape {
        extents: extents.to_vec(),
    };
    let swap = || Permute {
        axes: vec![0, 2, 1, 3],
    };
    let [q, k, v] = [q, k, v].map(|w| {
        let all = add(graph, product, &[x, w]);
        let heads = add(graph, reshape(&[2, 5, 2, 3]), &[all]);
        add(graph, swap(), &[heads])
    });
    let across = Bmm {
        trans_b: true,
        ..product
    };
    let scores = add(graph, across, &[q, k]);
    let scaled = add(graph, Scale(1.0 / 3.0f64.sqrt()), &[scores]);
    let weights = add(graph, Softmax { axis: 3 }, &[scaled]);
    let mixed = add(graph, product, &[weights, v]);
    let places = add(graph, swap(), &[mixed]);
    let joined = add(graph, reshape(&[2, 5, 6]), &[places]);
    let out = add(graph, product, &[joined, o]);
    let sum = add(graph, Add, &[x, out]);
    let norm = Norm {
        over: Over::Layer(1),
        epsilon: 1e-3,
    };
    vec![add(graph, norm, &[sum, gamma, beta])]
}

/// Twice the size, another branch beside it, a convolution over reflected edges, a group
/// normalization, the mean of each plane.
fn up(graph: &mut Graph, inputs: &[Value]) -> Vec<Value> {
    let [x, skip, w, gamma, beta] = *inputs else {
        panic!("{} inputs", inputs.len())
    };
    let upsample = Upsample {
        sampling: Sampling::Bilinear,
        size: [6, 8],
    };
    let large = add(graph, upsample, &[x]);
    let mut y = add(graph, Concat { axis: 1 }, &[large, skip]);
    for axis in [2, 3] {
        let edges = PadEdges {
            axis,
            before: 1,
            after: 1,
            edge: Edge::Reflect,
        };
        y = add(graph, edges, &[y]);
    }
    let conv = Conv2d {
        stride: [1, 1],
        padding: [0, 0],
        dilation: [1, 1],
        groups: 1,
    };
    let y = add(graph, conv, &[y, w]);
    let norm = Norm {
        over: Over::Group(2),
        epsilon: 1e-3,
    };
    let y = add(graph, norm, &[y, gamma, beta]);
    vec![add(graph, Reduction::new(Kind::Mean, &[2, 3]), &[y])]
}

/// What a function of one value makes of the first input.
macro_rules! of_first {
    ($f:expr) => {
        (|graph, v| vec![$f(graph, v[0]).unwrap()]) as Build
    };
}

/// The same of three inputs, the last of which there may not be.
macro_rules! with_bias {
    ($f:ident, $settings:expr) => {
        (|graph, v| {
            let bias = v.get(2).copied();
            vec![$f(graph, v[0], v[1], bias, $settings).unwrap()]
        }) as Build
    };
}

const POOL: Pool1d = Pool1d {
    kernel_size: 4,
    stride: Some(3),
    padding: 2,
};

fn rows() -> Vec<(&'static str, Build)> {
    vec![
        ("conv1d.plain", with_bias!(conv1d, Conv1d::default())),
        (
            "conv1d.everything",
            with_bias!(
                conv1d,
                Conv1d {
                    stride: 2,
                    padding: 3,
                    dilation: 2,
                    groups: 2
                }
            ),
        ),
        (
            "conv1d.depthwise",
            with_bias!(
                conv1d,
                Conv1d {
                    groups: 3,
                    padding: 1,
                    ..Conv1d::default()
                }
            ),
        ),
        (
            "conv_transpose1d.plain",
            with_bias!(conv_transpose1d, ConvTranspose1d::default()),
        ),
        (
            "conv_transpose1d.everything",
            with_bias!(
                conv_transpose1d,
                ConvTranspose1d {
                    stride: 3,
                    padding: 1,
                    output_padding: 2,
                    groups: 2,
                    dilation: 2
                }
            ),
        ),
        (
            "max_pool1d.plain",
            of_first!(|g, x| max_pool1d(g, x, Pool1d::new(3))),
        ),
        (
            "max_pool1d.overlap",
            of_first!(|g, x| max_pool1d(g, x, POOL)),
        ),
        (
            "avg_pool1d.plain",
            of_first!(|g, x| avg_pool1d(g, x, Pool1d::new(2))),
        ),
        (
            "avg_pool1d.overlap",
            of_first!(|g, x| avg_pool1d(
                g,
                x,
                Pool1d {
                    stride: Some(1),
                    ..POOL
                }
            )),
        ),
        (
            "adaptive_avg_pool1d",
            of_first!(|g, x| adaptive_avg_pool1d(g, x, 4)),
        ),
        (
            "adaptive_max_pool1d",
            of_first!(|g, x| adaptive_max_pool1d(g, x, 4)),
        ),
        ("global_avg_pool.rows", of_first!(global_avg_pool)),
        ("global_avg_pool.volumes", of_first!(global_avg_pool)),
        ("global_max_pool.rows", of_first!(global_max_pool)),
        ("global_max_pool.images", of_first!(global_max_pool)),
        ("conv3d.plain", with_bias!(conv3d, Conv3d::default())),
        (
            "conv3d.everything",
            with_bias!(
                conv3d,
                Conv3d {
                    stride: [2, 1, 2],
                    padding: [2, 1, 0],
                    dilation: [1, 2, 1],
                    groups: 2
                }
            ),
        ),
        (
            "conv3d.tall",
            with_bias!(
                conv3d,
                Conv3d {
                    stride: [3, 1, 1],
                    dilation: [2, 1, 1],
                    ..Conv3d::default()
                }
            ),
        ),
    ]
}

fn product(graph: &mut Graph, a: Value, b: Value) -> Value {
    pointwise(graph, [a, b], |[a, b]| a * b).unwrap()
}

fn parts() -> Vec<(&'static str, Build)> {
    vec![
        ("cat.nine", |graph, v| vec![cat(graph, v, 1).unwrap()]),
        ("stack.first", |graph, v| vec![stack(graph, v, 0).unwrap()]),
        ("stack.last", |graph, v| vec![stack(graph, v, 2).unwrap()]),
        ("attention.own", |graph, v| attend(graph, v, false)),
        ("attention.causal", |graph, v| attend(graph, v, true)),
        ("attention.cross", |graph, v| attend(graph, v, false)),
        ("attention.cross_causal", |graph, v| attend(graph, v, true)),
        ("heads.two", |graph, v| {
            let split = SplitHeads { parts: 2, heads: 3 };
            let parts = graph.op(Arc::new(split), v).unwrap();
            vec![product(graph, parts[0], parts[1])]
        }),
        ("heads.three", |graph, v| {
            let split = SplitHeads { parts: 3, heads: 2 };
            let parts = graph.op(Arc::new(split), v).unwrap();
            let first = product(graph, parts[0], parts[1]);
            vec![add(graph, Add, &[first, parts[2]])]
        }),
        ("heads.unused", |graph, v| {
            let split = SplitHeads { parts: 3, heads: 2 };
            let parts = graph.op(Arc::new(split), v).unwrap();
            vec![product(graph, parts[0], parts[2])]
        }),
        ("heads.join", |graph, v| vec![add(graph, JoinHeads, v)]),
        ("split.all", |graph, v| {
            let parts = split(graph, v[0], &[2, 3, 2], 1).unwrap();
            let first = product(graph, parts[2], parts[0]);
            vec![cat(graph, &[first, parts[1], parts[0]], 1).unwrap()]
        }),
        ("split.two", |graph, v| {
            let parts = split(graph, v[0], &[2, 3, 1, 2], 1).unwrap();
            vec![product(graph, parts[0], parts[3])]
        }),
        ("split.nine", |graph, v| {
            let parts = split(graph, v[0], &[2; 9], 1).unwrap();
            let mut sum = add(graph, Scale(0.0), &parts[..1]);
            for (k, &part) in parts.iter().enumerate().skip(1) {
                let times = add(graph, Scale(k as f64), &[part]);
                sum = add(graph, Add, &[sum, times]);
            }
            vec![sum]
        }),
        ("chunk", |graph, v| {
            let parts = chunk(graph, v[0], 3, 0).unwrap();
            vec![product(graph, parts[0], parts[1]), parts[2]]
        }),
        ("unbind", |graph, v| {
            let parts = unbind(graph, v[0], 1).unwrap();
            vec![product(graph, parts[0], parts[1])]
        }),
        ("where", |graph, v| {
            vec![where_nonzero(graph, v[0], v[1], v[2]).unwrap()]
        }),
        ("one_hot", of_first!(|g, x| one_hot(g, x, 5))),
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
    let blocks = vec![
        ("block.attention", attention as Build),
        ("block.up", up as Build),
    ];
    for (name, build) in [rows(), parts(), blocks].concat() {
        compared += hold_graph(&fixtures, name, &inputs_of(&fixtures, name), build);
        names.insert(name.into());
    }
    println!("{compared} tensors compared with PyTorch's");
    common::note("PyTorch, general ops", compared);
    for key in fixtures.keys() {
        let (name, _) = key.split_once('/').unwrap();
        assert!(names.contains(name), "{name} is compared with nothing");
    }
}

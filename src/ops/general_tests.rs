//! What the table's tests cannot see of the ops of general networks: refusals, views, and the
//! launches that gradients take.

use std::sync::Arc;

use super::adaptive_avg_pool2d::{AdaptiveAvgPool2d, AdaptiveAvgPool2dGrad};
use super::bmm::Bmm;
use super::conv_transpose2d::ConvTranspose2d;
use super::cumsum::Cumsum;
use super::embedding::{Embedding, EmbeddingGrad};
use super::lrn::{Lrn, LrnGrad};
use super::norm::{BatchNormGrad, Norm, NormGiven, NormGrad, Over};
use super::pad::{Edge, Pad, PadEdges, PadEdgesGrad};
use super::permute::Permute;
use super::reduction::{Kind, Reduction, ReductionGrad, Spread};
use super::slice::Slice;
use super::softmax::Softmax;
use super::upsample::{Sampling, Upsample, UpsampleGrad};
use super::{Op, Tape};
use crate::compile::{Options, compile};
use crate::graph::Graph;
use crate::plan::Limits;
use crate::shape::Type;

fn f32(extents: &[usize]) -> Type {
    Type::f32("test", extents).unwrap()
}

fn u32(extents: &[usize]) -> Type {
    Type::u32("test", extents).unwrap()
}

/// Each op, its inputs and what its refusal says.
type Refused = Vec<(Box<dyn Op>, Vec<Type>, &'static str)>;

fn hold(refused: Refused) {
    for (op, inputs, why) in refused {
        let error = op.infer(&inputs).unwrap_err().to_string();
        assert!(error.contains(why), "{op:?}: {error}");
    }
}

/// The kernels of an op and of the gradients with respect to its float inputs.
fn kernels(op: impl Op + 'static, inputs: &[Type]) -> Vec<&'static str> {
    let mut graph = Graph::new();
    let values: Vec<_> = (0..)
        .zip(inputs)
        .map(|(i, ty)| graph.variable(&format!("{i}"), ty.clone()).unwrap())
        .collect();
    let y = op.infer(inputs).unwrap().swap_remove(0);
    let upstream = graph.variable("upstream", y).unwrap();
    graph.begin("run");
    let outputs = graph.op(Arc::new(op), &values).unwrap();
    graph.result("y", outputs[0]).unwrap();
    let gradients = graph.gradients(outputs[0], upstream, &values).unwrap();
    for (i, g) in gradients.into_iter().enumerate() {
        if let Some(g) = g {
            graph.result(&format!("gradient {i}"), g).unwrap();
        }
    }
    let options = Options {
        replicas: 1,
        fuse: true,
        limits: Limits::default(),
    };
    let plan = compile(&graph, &options).unwrap();
    let launches = plan.programs["run"].iter();
    launches.map(|launch| launch.kernel.name).collect()
}

#[test]
fn axes_that_are_not_there_are_refused() {
    let permute = |axes: &[usize]| {
        Box::new(Permute {
            axes: axes.to_vec(),
        })
    };
    let reduction = |axes: &[usize]| Box::new(Reduction::new(Kind::Mean, axes));
    let grad = |kind| ReductionGrad {
        reduction: Reduction::new(kind, &[1]),
        extents: vec![2, 3],
    };
    let spread = |kind| Spread {
        reduction: Reduction::new(kind, &[1]),
        extents: vec![2, 3],
    };
    hold(vec![
        (permute(&[0]), vec![f32(&[2, 3])], "each of x's axes"),
        (permute(&[0, 0]), vec![f32(&[2, 3])], "axes [0, 0] of f32"),
        (permute(&[0, 2]), vec![f32(&[2, 3])], "each of x's axes"),
        (permute(&[0, 1]), vec![u32(&[2, 3])], "x of f32"),
        (
            permute(&[6, 5, 4, 3, 2, 1, 0]),
            vec![f32(&[1; 7])],
            "6 axes at most",
        ),
        (reduction(&[]), vec![f32(&[2, 3])], "one or more"),
        (reduction(&[2]), vec![f32(&[2, 3])], "axes [2] of f32"),
        (reduction(&[1, 1]), vec![f32(&[2, 3])], "each once"),
        (reduction(&[0]), vec![f32(&[1; 7])], "6 axes at most"),
        (reduction(&[0]), vec![u32(&[2])], "x of f32"),
        (Box::new(grad(Kind::Sum)), vec![f32(&[2])], "another kind"),
        (Box::new(grad(Kind::Max)), vec![f32(&[2])], "1 inputs"),
        (
            Box::new(grad(Kind::Max)),
            vec![f32(&[2]), f32(&[2])],
            "places of u32[2]",
        ),
        (
            Box::new(grad(Kind::Norm)),
            vec![f32(&[2]), f32(&[2]), f32(&[2])],
            "x of f32[2, 3]",
        ),
        (
            Box::new(spread(Kind::Max)),
            vec![f32(&[2])],
            "a sum or a mean",
        ),
        (Box::new(spread(Kind::Sum)), vec![f32(&[3])], "x of f32[2]"),
        (
            Box::new(Softmax { axis: 2 }),
            vec![f32(&[3, 2])],
            "than 2 axes",
        ),
    ]);
}

#[test]
fn parts_that_are_not_there_are_refused() {
    let part = |start, extent, step| {
        Box::new(Slice {
            axis: 0,
            start,
            extent,
            step,
        })
    };
    let pad = |start, extent, step| {
        Box::new(Pad {
            axis: 0,
            start,
            extent,
            step,
        })
    };
    let edges = |before, edge| PadEdges {
        axis: 1,
        before,
        after: 0,
        edge,
    };
    let (reflect, replicate) = (Edge::Reflect, Edge::Replicate);
    let grad = PadEdgesGrad(edges(3, replicate));
    hold(vec![
        (part(0, 3, 0), vec![f32(&[5])], "in steps of 0"),
        (part(0, 3, 3), vec![f32(&[5])], "a part of the 5"),
        (part(1, 2, usize::MAX), vec![f32(&[5])], "a part of the 5"),
        (pad(0, 4, 2), vec![f32(&[3])], "room for the 3"),
        (pad(0, 4, 0), vec![f32(&[3])], "in steps of 0"),
        (
            Box::new(edges(3, reflect)),
            vec![f32(&[2, 3])],
            "fewer reflected elements",
        ),
        (
            Box::new(edges(usize::MAX, replicate)),
            vec![f32(&[2, 3])],
            "before and 0 after axis 1",
        ),
        (Box::new(edges(1, reflect)), vec![f32(&[3])], "than 1 axes"),
        (Box::new(grad), vec![f32(&[2, 3])], "more than 3 elements"),
    ]);
}

#[test]
fn statistics_of_nothing_are_refused() {
    let norm = |over| {
        Box::new(Norm {
            over,
            epsilon: 1e-5,
        })
    };
    let minus = Norm {
        over: Over::Batch,
        epsilon: -1.0,
    };
    let x = || f32(&[2, 6, 5]);
    let six = || f32(&[6]);
    hold(vec![
        (norm(Over::Layer(1)), vec![x()], "3: x, gamma, beta"),
        (norm(Over::Rms(1)), vec![x(); 3], "2: x, gamma"),
        (norm(Over::Layer(0)), vec![x(); 3], "1 at least"),
        (norm(Over::Layer(4)), vec![x(); 3], "4 last axes"),
        (
            norm(Over::Layer(1)),
            vec![x(), six(), six()],
            "gamma of f32[5]",
        ),
        (
            norm(Over::Group(4)),
            vec![x(), six(), six()],
            "6 channels in 4",
        ),
        (norm(Over::Group(0)), vec![x(), six(), six()], "in 0 groups"),
        (norm(Over::Batch), vec![six(), six(), six()], "[N, C, ..]"),
        (
            norm(Over::Batch),
            vec![x(), six(), f32(&[5])],
            "beta of f32[6]",
        ),
        (Box::new(minus), vec![x(), six(), six()], "epsilon of norm"),
        (
            Box::new(NormGrad(*norm(Over::Batch))),
            vec![x(), x(), six(), six(), f32(&[2])],
            "rstd of f32[6]",
        ),
        (
            Box::new(BatchNormGrad(*norm(Over::Batch))),
            vec![x(), x(), f32(&[5]), six(), six()],
            "gamma of f32[6]",
        ),
        (
            Box::new(BatchNormGrad(*norm(Over::Instance))),
            vec![x(), x(), six(), six(), six()],
            "found Instance; wanted Batch",
        ),
    ]);
}

#[test]
fn images_that_do_not_fit_are_refused() {
    let plain = ConvTranspose2d {
        stride: [2, 2],
        padding: [0, 0],
        output_padding: [0, 0],
        dilation: [1, 1],
        groups: 1,
    };
    let transposed = |change: fn(&mut ConvTranspose2d)| {
        let mut op = plain;
        change(&mut op);
        Box::new(op)
    };
    let (x, w) = (|| f32(&[1, 4, 3, 3]), || f32(&[4, 2, 2, 2]));
    let upsample = |ho| Upsample {
        sampling: Sampling::Nearest,
        size: [ho, 4],
    };
    let back = UpsampleGrad {
        upsample: upsample(4),
        input: [2, 2],
    };
    let pool = |ho| AdaptiveAvgPool2d { size: [ho, 1] };
    let pool_back = AdaptiveAvgPool2dGrad {
        pool: pool(2),
        input: [3, 3],
    };
    let lrn = |size, k| Lrn {
        size,
        alpha: 1.0,
        beta: 0.5,
        k,
    };
    hold(vec![
        (transposed(|_| ()), vec![x()], "1 inputs"),
        (
            transposed(|_| ()),
            vec![x(), f32(&[3, 2, 2, 2])],
            "a filter for each",
        ),
        (
            transposed(|op| op.groups = 0),
            vec![x(), w()],
            "in 0 groups",
        ),
        (
            transposed(|op| op.groups = 3),
            vec![x(), w()],
            "in 3 groups",
        ),
        (
            transposed(|op| op.stride[0] = 0),
            vec![x(), w()],
            "stride along height",
        ),
        (
            transposed(|op| op.output_padding[1] = 2),
            vec![x(), w()],
            "output_padding along width: found 2; wanted 0 to 1",
        ),
        (
            transposed(|op| op.padding[0] = 3),
            vec![x(), w()],
            "leaves something",
        ),
        (Box::new(upsample(0)), vec![x()], "1 to 32768"),
        (Box::new(upsample(1 << 16)), vec![x()], "found 65536"),
        (Box::new(upsample(4)), vec![f32(&[3, 3])], "[N, C, H, W]"),
        (Box::new(back), vec![f32(&[1, 1, 4, 5])], "[N, C, 4, 4]"),
        (Box::new(pool(0)), vec![x()], "1 to 32768"),
        (
            Box::new(pool_back),
            vec![f32(&[1, 1, 3, 1])],
            "[1, 1, 2, 1]",
        ),
        (Box::new(lrn(0, 1.0)), vec![x()], "size of lrn"),
        (
            Box::new(lrn(3, 0.0)),
            vec![x()],
            "k of lrn: found 0; wanted above 0",
        ),
        (Box::new(lrn(3, f64::NAN)), vec![x()], "k of lrn"),
        (Box::new(lrn(3, 1.0)), vec![f32(&[3])], "than 1 axes"),
        (
            Box::new(LrnGrad(lrn(3, 1.0))),
            vec![x(), w(), x()],
            "gradient and x",
        ),
        (
            Box::new(Cumsum {
                axis: 4,
                reverse: false,
            }),
            vec![x()],
            "than 4 axes",
        ),
    ]);
}

#[test]
fn operands_that_do_not_fit_are_refused() {
    let bmm = || {
        Box::new(Bmm {
            trans_a: false,
            trans_b: true,
        })
    };
    hold(vec![
        (bmm(), vec![f32(&[2, 3, 4])], "1 inputs"),
        (bmm(), vec![f32(&[4]), f32(&[4])], "2 to 6"),
        (bmm(), vec![f32(&[2, 3, 4]), f32(&[5, 4])], "equally many"),
        (bmm(), vec![f32(&[2, 3, 4]), f32(&[3, 5, 4])], "equal or 1"),
        (bmm(), vec![f32(&[2, 3, 4]), f32(&[2, 4, 5])], "the same K"),
        (bmm(), vec![f32(&[1; 7]), f32(&[1; 7])], "2 to 6"),
        (bmm(), vec![f32(&[3, 4]), u32(&[5, 4])], "B of f32"),
        (
            Box::new(Embedding),
            vec![f32(&[3, 4]), f32(&[5])],
            "indices of u32",
        ),
        (
            Box::new(Embedding),
            vec![f32(&[3, 4]), u32(&[5]).shared()],
            "indices of u32",
        ),
        (
            Box::new(Embedding),
            vec![f32(&[3, 4, 1]), u32(&[5])],
            "a table [V, D]",
        ),
        (
            Box::new(EmbeddingGrad { rows: 3 }),
            vec![f32(&[4, 2]), u32(&[5])],
            "f32[5, 2]",
        ),
    ]);
}

#[test]
fn gradients_take_the_launches_they_should() {
    let axes = vec![1, 0, 2];
    let unmoved = Permute { axes: axes.clone() };
    // Nothing moves, but the result needs a buffer: no launch of this op in it.
    assert!(
        unmoved
            .lower(&[f32(&[1, 2, 3])], &[])
            .unwrap()
            .launch()
            .is_none()
    );
    assert_eq!(
        kernels(Permute { axes }, &[f32(&[2, 3, 4])]),
        ["permute", "permute"]
    );
    let variance = Reduction::new(Kind::Variance, &[0]);
    assert_eq!(
        kernels(variance, &[f32(&[65, 2])]),
        ["reduction", "reduction", "reduction_grad"]
    );
    let embedding = [f32(&[3, 2]), u32(&[5])];
    assert_eq!(
        kernels(Embedding, &embedding),
        ["embedding", "embedding_grad"]
    );
    let bmm = Bmm {
        trans_a: false,
        trans_b: false,
    };
    let norm = Norm {
        over: Over::Layer(1),
        epsilon: 1e-5,
    };
    let names = kernels(norm, &[f32(&[2, 3]), f32(&[3]), f32(&[3])]);
    assert_eq!(names, ["norm", "norm_grad", "norm_parameters"]);
    // All gradients of a batch are one launch, or two where it is cut into runs.
    let over = Over::Batch;
    let of = |extents: &[usize]| {
        let parameters = f32(&[extents[1]]);
        let inputs = [f32(extents), parameters.clone(), parameters];
        kernels(Norm { over, ..norm }, &inputs)
    };
    assert_eq!(of(&[2, 3]), ["norm", "norm_batch_grad"]);
    let runs = [
        "norm_runs",
        "norm_joined",
        "norm_batch_grad_runs",
        "norm_batch_grad_joined",
    ];
    assert_eq!(of(&[2, 3, 64, 64]), runs);
    // With statistics that are given, x alone has a gradient.
    let frozen = NormGiven(norm);
    let mut graph = Graph::new();
    let mut value = |name: &str, ty| graph.variable(name, ty).unwrap();
    let x = value("x", f32(&[2, 3]));
    let [gamma, beta] = ["gamma", "beta"].map(|name| value(name, f32(&[3])));
    let [mean, variance] = ["mean", "variance"].map(|name| value(name, f32(&[2])));
    let upstream = value("upstream", f32(&[2, 3]));
    graph.begin("run");
    let inputs = [x, gamma, beta, mean, variance];
    let y = graph.op1(Arc::new(frozen), &inputs).unwrap();
    assert!(graph.gradients(y, upstream, &[x]).unwrap()[0].is_some());
    let refused = graph.gradients(y, upstream, &[x, gamma]).unwrap_err();
    assert!(refused.to_string().contains("x alone"), "{refused}");
    let transposed = ConvTranspose2d {
        stride: [1, 1],
        padding: [0, 0],
        output_padding: [0, 0],
        dilation: [1, 1],
        groups: 1,
    };
    let names = kernels(transposed, &[f32(&[1, 2, 3, 3]), f32(&[2, 1, 2, 2])]);
    assert_eq!(names, ["conv2d_input_grad", "conv2d", "conv2d_weight_grad"]);
    // The second operand's matrix goes with five of the first.
    let names = kernels(bmm, &[f32(&[5, 2, 3]), f32(&[1, 3, 4])]);
    assert_eq!(names, ["bmm", "bmm", "bmm", "reduction_short"]);
}

#[test]
fn many_elements_of_few_results_take_two_launches() {
    let sum = |axis| super::reduce::Reduce::new(axis, 1.0);
    let names = kernels(sum(None), &[f32(&[32_767])]);
    assert_eq!(names, ["reduce", "broadcast"]);
    let names = kernels(sum(None), &[f32(&[32_768])]);
    assert_eq!(names, ["reduce_shares", "reduce", "broadcast"]);
    // Many results are work enough for one launch.
    let names = kernels(sum(Some(1)), &[f32(&[32_768, 65])]);
    assert_eq!(names, ["reduce", "broadcast"]);
    let names = kernels(Reduction::new(Kind::Max, &[1]), &[f32(&[2, 40_000])]);
    let runs = ["reduction_extreme_runs", "reduction_extreme_joined"];
    assert_eq!(names, [runs[0], runs[1], "reduction_extreme_grad"]);
    // What is done with a sum is done at the end of the second launch.
    let (mut graph, ty) = (Graph::new(), f32(&[33_000]));
    let x = graph.variable("x", ty).unwrap();
    graph.begin("run");
    let y = graph.op1(Arc::new(sum(None)), &[x]).unwrap();
    let root = super::pointwise::pointwise(&mut graph, [y], |[y]| y.sqrt()).unwrap();
    graph.result("root", root).unwrap();
    let options = Options {
        replicas: 1,
        fuse: true,
        limits: Limits::default(),
    };
    let plan = compile(&graph, &options).unwrap();
    assert_eq!(plan.programs["run"].len(), 2);
    assert_eq!(plan.buffers.len(), 3);
}

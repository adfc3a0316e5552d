//! What the table's tests cannot see of the arithmetic ops: refusals, fusion, and costs
//! against numbers worked out by hand.

use std::sync::Arc;

use super::add::Add;
use super::add_bias::AddBias;
use super::argmax::Argmax;
use super::broadcast::Broadcast;
use super::concat::Concat;
use super::hadamard::Hadamard;
use super::pad::Pad;
use super::reduce::Reduce;
use super::reshape::Reshape;
use super::scale::Scale;
use super::slice::Slice;
use super::softmax::Softmax;
use super::{COUNTER, Cost, Loss, LossGrad, Op, Tape, cross_entropy, log_likelihood, quadratic};
use crate::compile::{Compiled, Options};
use crate::exec::cpu::{Cpu, Implementation};
use crate::graph::Graph;
use crate::optim::{HYPER, TableSgd};
use crate::plan::Limits;
use crate::run::Session;
use crate::shape::Type;

fn f32(extents: &[usize]) -> Type {
    Type::f32("test", extents).unwrap()
}

fn u32(extents: &[usize]) -> Type {
    Type::u32("test", extents).unwrap()
}

fn compiled(graph: &Graph) -> Compiled {
    let options = Options {
        replicas: 1,
        fuse: true,
        limits: Limits::default(),
    };
    Compiled::new(graph, &options).unwrap()
}

#[test]
fn impossible_shapes_are_refused_in_words() {
    let sgd = TableSgd {
        l2: false,
        l1: false,
        momentum: false,
        epoch_steps: 1,
    };
    let broadcast = |extents: &[usize], axis| Broadcast {
        extents: extents.to_vec(),
        axis,
        factor: 1.0,
    };
    let part = |axis, start, extent| Slice {
        axis,
        start,
        extent,
        step: 1,
    };
    let pad = |axis, start, extent| Pad {
        axis,
        start,
        extent,
        step: 1,
    };
    let updating = Reduce {
        ending: Some(sgd.ending()),
        ..Reduce::new(None, 1.0)
    };
    let loss = Loss::of(&quadratic::COST);
    let refused: Vec<(Box<dyn Op>, Vec<Type>, &str)> = vec![
        (Box::new(Add), vec![f32(&[2])], "1 inputs"),
        (Box::new(Add), vec![f32(&[2]), f32(&[3])], "equal types"),
        (Box::new(Add), vec![u32(&[2]), u32(&[2])], "a of f32"),
        (Box::new(Hadamard), vec![f32(&[2]), f32(&[1, 2])], "equal"),
        (Box::new(AddBias), vec![f32(&[2]), f32(&[2])], "than 1 axes"),
        (Box::new(AddBias), vec![f32(&[2, 3]), f32(&[2])], "[C]"),
        (Box::new(Scale(1e39)), vec![f32(&[2])], "finite"),
        (Box::new(Scale(f64::NAN)), vec![f32(&[2])], "finite"),
        (
            Box::new(Reduce::new(Some(2), 1.0)),
            vec![f32(&[2, 3])],
            "axes",
        ),
        (Box::new(Reduce::new(None, 1.0)), vec![f32(&[2]); 2], "1: x"),
        (Box::new(Reduce::new(None, 1.0)), vec![], "no inputs"),
        (
            Box::new(updating),
            vec![f32(&[2])],
            "3 inputs of the expression",
        ),
        (
            Box::new(broadcast(&[2, 3], Some(1))),
            vec![f32(&[2])],
            "[3]",
        ),
        (Box::new(broadcast(&[2, 3], None)), vec![f32(&[2])], "[1]"),
        (
            Box::new(broadcast(&[2, 0], None)),
            vec![f32(&[1])],
            "at least 1",
        ),
        (
            Box::new(Reshape { extents: vec![4] }),
            vec![f32(&[5])],
            "as many",
        ),
        (
            Box::new(Concat { axis: 1 }),
            vec![f32(&[2, 3]), f32(&[3, 3])],
            "but for axis 1",
        ),
        (
            Box::new(Concat { axis: 1 }),
            vec![f32(&[2, 3]), f32(&[2])],
            "more than 1 axes",
        ),
        (Box::new(part(0, 2, 2)), vec![f32(&[3])], "a part of the 3"),
        (Box::new(part(0, 4, 1)), vec![f32(&[3])], "a part of the 3"),
        (
            Box::new(part(0, 1, usize::MAX)),
            vec![f32(&[3])],
            "a part of the 3",
        ),
        (Box::new(part(0, 1, 0)), vec![f32(&[3])], "at least 1"),
        (Box::new(pad(0, 2, 4)), vec![f32(&[3])], "room for the 3"),
        (
            Box::new(pad(0, 0, usize::MAX)),
            vec![f32(&[3])],
            "at most 2^30",
        ),
        (
            Box::new(Softmax { axis: 1 }),
            vec![f32(&[3])],
            "than 1 axes",
        ),
        (Box::new(Argmax), vec![f32(&[3, 1, 1])], "[N, K]"),
        (Box::new(loss), vec![f32(&[3]), u32(&[3])], "[N, K]"),
        (Box::new(loss), vec![f32(&[3, 2]), u32(&[2])], "labels [N]"),
        (Box::new(loss), vec![f32(&[3, 2]), f32(&[3])], "labels [N]"),
        (
            Box::new(loss),
            vec![f32(&[3, 2]), u32(&[3]).shared()],
            "labels [N]",
        ),
    ];
    for (op, inputs, why) in refused {
        let error = op.infer(&inputs).unwrap_err().to_string();
        assert!(error.contains(why), "{op:?}: {error}");
    }
    let grad = [f32(&[3, 2]), u32(&[3]), f32(&[2])];
    let error = LossGrad(Loss::of(&quadratic::COST))
        .infer(&grad)
        .unwrap_err();
    assert!(error.to_string().contains("gradient [N]"), "{error}");
    let scores = [f32(&[3, 2]), u32(&[3])];
    for smoothing in [-0.1, 1.0, f64::NAN] {
        let cost = &log_likelihood::COST;
        let error = Loss { cost, smoothing }.infer(&scores).unwrap_err();
        assert!(error.to_string().contains("0 to below 1"), "{error}");
    }
}

/// A bias's gradient is reduced and applied in one launch.
#[test]
fn reduction_and_update_become_one() {
    let mut graph = Graph::new();
    let x = graph.variable("x", f32(&[4, 3, 2, 2])).unwrap();
    let b = graph.variable("b", f32(&[3])).unwrap();
    let upstream = graph.variable("upstream", f32(&[4, 3, 2, 2])).unwrap();
    let hyper = graph.variable("hyper", f32(&[HYPER + 1])).unwrap();
    let step = graph.variable("step", u32(&[COUNTER])).unwrap();
    graph.begin("run");
    let y = graph.op1(Arc::new(AddBias), &[x, b]).unwrap();
    let gradient = graph.gradients(y, upstream, &[b]).unwrap()[0].unwrap();
    let sgd = TableSgd {
        l2: false,
        l1: false,
        momentum: false,
        epoch_steps: 1,
    };
    let updated = graph.op(Arc::new(sgd.update()), &[gradient, b, hyper, step]);
    assert!(updated.unwrap().is_empty());
    let launches: Vec<_> = compiled(&graph).plan().programs["run"]
        .iter()
        .map(|launch| launch.kernel.name)
        .collect();
    assert_eq!(launches, ["reduce"]);
}

/// The losses of one example and ∂L/∂z under g = 1, by the reference in f64.
fn evaluate(cost: &'static Cost, z: &[f32], label: u32) -> (f64, Vec<f64>) {
    evaluate_smoothed(Loss::of(cost), z, label)
}

fn evaluate_smoothed(loss: Loss, z: &[f32], label: u32) -> (f64, Vec<f64>) {
    let mut graph = Graph::new();
    let scores = graph.input::<f32>("scores", f32(&[1, z.len()])).unwrap();
    let labels = graph.input::<u32>("labels", u32(&[1])).unwrap();
    let upstream = graph.input::<f32>("upstream", f32(&[1])).unwrap();
    let run = graph.begin("run");
    let inputs = [scores.value(), labels.value()];
    let loss = graph.op1(Arc::new(loss), &inputs).unwrap();
    let slopes = graph.gradients(loss, upstream.value(), &[scores.value()]);
    let loss = graph.output::<f32>("loss", loss).unwrap();
    let slope = slopes.unwrap()[0].unwrap();
    let slope = graph.output::<f32>("slope", slope).unwrap();
    let compiled = compiled(&graph);
    let cpu = Cpu::<f64>::new(compiled.plan().clone(), Implementation::Reference).unwrap();
    let mut session = Session::of(&compiled, Box::new(cpu)).unwrap();
    session.write(scores, z).unwrap();
    session.write(labels, &[label]).unwrap();
    session.write(upstream, &[1.0]).unwrap();
    session.run(run, 1).unwrap();
    let values = |handle| session.values(0, handle).unwrap().to_vec();
    (values(loss)[0], values(slope))
}

fn close(found: (f64, Vec<f64>), loss: f64, slope: &[f64]) {
    assert_eq!(found.1.len(), slope.len());
    let off = found.1.iter().zip(slope).map(|(f, w)| (f - w).abs());
    let off = off.fold((found.0 - loss).abs(), f64::max);
    assert!(off < 1e-12, "{found:?} for {loss} and {slope:?}");
}

#[test]
fn costs_worked_out_by_hand() {
    let ln2 = std::f64::consts::LN_2;
    close(
        evaluate(&quadratic::COST, &[0.5, 0.25], 1),
        0.40625,
        &[0.5, -0.75],
    );
    close(evaluate(&quadratic::COST, &[3.0], 1), 2.0, &[2.0]);
    close(
        evaluate(&cross_entropy::COST, &[0.0, 0.0], 0),
        2.0 * ln2,
        &[-0.5, 0.5],
    );
    close(evaluate(&cross_entropy::COST, &[0.0], 0), ln2, &[0.5]);
    // Confidently wrong: the loss grows with the score and stays finite.
    close(evaluate(&cross_entropy::COST, &[1e4], 0), 1e4, &[1.0]);
    close(evaluate(&cross_entropy::COST, &[-1e4], 1), 1e4, &[-1.0]);
    let quarter = [0.25, 0.25, -0.75, 0.25];
    close(
        evaluate(&log_likelihood::COST, &[7.0; 4], 2),
        2.0 * ln2,
        &quarter,
    );
    close(
        evaluate(&log_likelihood::COST, &[0.0, 1e4], 0),
        1e4,
        &[-1.0, 1.0],
    );
    // ε = 0.2 of two classes: targets 0.9 and 0.1, and the loss is their entropy where the scores are their logarithms.
    let targets = [0.9f64, 0.1].map(|t| t.ln() as f32);
    let smoothed = Loss {
        smoothing: 0.2,
        ..Loss::of(&log_likelihood::COST)
    };
    let (loss, slope) = evaluate_smoothed(smoothed, &targets, 0);
    let entropy = -(0.9 * 0.9f64.ln() + 0.1 * 0.1f64.ln());
    assert!((loss - entropy).abs() < 1e-7, "{loss} for {entropy}");
    assert!(slope.iter().all(|s| s.abs() < 1e-7), "{slope:?}");
    // A label that names no class pulls no score up.
    close(
        evaluate(&log_likelihood::COST, &[0.0, 0.0], 9),
        ln2,
        &[0.5, 0.5],
    );
}

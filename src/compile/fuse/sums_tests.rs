//! Gradients that come together: of shared weights, of residual wires. Where a kernel that makes one
//! of them takes an ending, the sum is that ending and costs no launch.

use std::sync::Arc;

use super::fused;
use crate::graph::Graph;
use crate::ops::activation::{Activate, Activation};
use crate::ops::add::Add;
use crate::ops::add_bias::AddBias;
use crate::ops::conv2d::Conv2d;
use crate::ops::matmul::Matmul;
use crate::ops::{Tape, Value};
use crate::optim::{Optimizer, Sgd};
use crate::shape::Type;

const PRODUCT: Matmul = Matmul {
    trans_a: false,
    trans_b: true,
    ending: None,
};

fn variable(graph: &mut Graph, name: &str, extents: &[usize]) -> Value {
    let ty = Type::f32("test", extents).unwrap();
    graph.variable(name, ty).unwrap()
}

fn product(graph: &mut Graph, x: Value, w: Value) -> Value {
    graph.op1(Arc::new(PRODUCT), &[x, w]).unwrap()
}

fn activated(graph: &mut Graph, x: Value) -> Value {
    let op = Arc::new(Activate(Activation::Tanh));
    graph.op1(op, &[x]).unwrap()
}

/// The kernels of the gradients' program, by their stems.
fn launches(graph: &Graph) -> Vec<&'static str> {
    let plan = fused(graph);
    let launches = plan.programs["run"].iter();
    launches.map(|launch| launch.kernel.stem).collect()
}

/// The gradients of `y` with respect to these, kept.
fn keep(graph: &mut Graph, y: Value, upstream: Value, by: &[Value]) {
    let gradients = graph.gradients(y, upstream, by).unwrap();
    for (i, g) in gradients.into_iter().enumerate() {
        graph.result(&format!("gradient {i}"), g.unwrap()).unwrap();
    }
}

#[test]
fn a_shared_weights_gradients_are_added_by_the_second_product() {
    let mut graph = Graph::new();
    let x = variable(&mut graph, "x", &[3, 5]);
    let w = variable(&mut graph, "w", &[5, 5]);
    let upstream = variable(&mut graph, "upstream", &[3, 5]);
    graph.begin("run");
    let y = product(&mut graph, x, w);
    let y = activated(&mut graph, y);
    let y = product(&mut graph, y, w);
    keep(&mut graph, y, upstream, &[w]);
    // Forth once (nobody reads the second product); ∂w; ∂y with the slope; ∂w with what was there.
    assert_eq!(launches(&graph), ["matmul"; 4]);
}

#[test]
fn a_shared_weights_gradients_are_added_by_the_product_that_updates_it() {
    let mut graph = Graph::new();
    let x = variable(&mut graph, "x", &[3, 5]);
    let w = variable(&mut graph, "w", &[5, 5]);
    let upstream = variable(&mut graph, "upstream", &[3, 5]);
    let step = Type::u32("test", &[crate::ops::COUNTER]).unwrap();
    let step = graph.variable("step", step).unwrap();
    let update = Optimizer::new(Sgd::default(), 0.1);
    let update = update.declare(&mut graph, &[("w", w)]).unwrap();
    graph.begin("run");
    let y = product(&mut graph, x, w);
    let y = activated(&mut graph, y);
    let y = product(&mut graph, y, w);
    let gradients = graph.gradients(y, upstream, &[w]).unwrap();
    update.apply(&mut graph, &gradients, step).unwrap();
    assert_eq!(launches(&graph), ["matmul"; 4]);
}

#[test]
fn a_residual_wires_gradients_are_added_by_the_product_beside_it() {
    let mut graph = Graph::new();
    let x = variable(&mut graph, "x", &[3, 5]);
    let [w, v] = ["w", "v"].map(|name| variable(&mut graph, name, &[5, 5]));
    let b = variable(&mut graph, "b", &[5]);
    let upstream = variable(&mut graph, "upstream", &[3, 5]);
    graph.begin("run");
    let y = product(&mut graph, x, w);
    let y = graph.op1(Arc::new(AddBias), &[y, b]).unwrap();
    let y = activated(&mut graph, y);
    let y = product(&mut graph, y, v);
    let y = graph.op1(Arc::new(Add), &[x, y]).unwrap();
    keep(&mut graph, y, upstream, &[x]);
    // Forth as far as the slope needs it; back through v with the slope; through w with the wire.
    assert_eq!(launches(&graph), ["matmul"; 3]);
}

#[test]
fn a_shared_filters_gradients_are_added_by_the_second_convolution() {
    let mut graph = Graph::new();
    let x = variable(&mut graph, "x", &[2, 3, 6, 6]);
    let w = variable(&mut graph, "w", &[3, 3, 3, 3]);
    let upstream = variable(&mut graph, "upstream", &[2, 3, 6, 6]);
    let conv = Conv2d {
        stride: [1, 1],
        padding: [1, 1],
        dilation: [1, 1],
        groups: 1,
    };
    graph.begin("run");
    let mut y = x;
    for _ in 0..2 {
        y = graph.op1(Arc::new(conv), &[y, w]).unwrap();
    }
    keep(&mut graph, y, upstream, &[w]);
    // Forth, ∂w, ∂y, ∂w with what was there.
    assert_eq!(launches(&graph), ["conv2d"; 4]);
}

//! Who may become one node, and who may not.

use super::*;
use crate::ops::add::Add;
use crate::ops::scale::Scale;
use crate::ops::{COUNTER, Tape};
use crate::optim::{HYPER, TableSgd};
use crate::plan::Limits;

/// A graph with a program `run` and variables x and w `[4]`.
fn graph() -> (Graph, Value, Value) {
    let mut graph = Graph::new();
    let ty = Type::f32("test", &[4]).unwrap();
    let x = graph.variable("x", ty.clone()).unwrap();
    let w = graph.variable("w", ty).unwrap();
    (graph, x, w)
}

fn scale(graph: &mut Graph, x: Value) -> Value {
    graph.op1(Arc::new(Scale(2.0)), &[x]).unwrap()
}

/// Whether the nodes of `outputs` may become one node at the place of `at`.
fn joins(graph: &Graph, outputs: &[Value], at: Value, inputs: &[Value]) -> bool {
    let members: Vec<usize> = outputs.iter().map(|v| v.node).collect();
    let mut nodes = Nodes::of(graph, &Limits::default()).unwrap();
    let join = Join {
        at: at.node,
        named: at.node,
        members,
        op: Arc::new(Scale(4.0)),
        inputs: inputs.to_vec(),
        outputs: outputs.to_vec(),
        unseen: None,
    };
    nodes.join(join).unwrap()
}

#[test]
fn nobody_moves_past_a_change_of_what_it_reads() {
    let (mut graph, x, w) = graph();
    let hyper = Type::f32("test", &[HYPER + 1]).unwrap();
    let hyper = graph.variable("hyper", hyper).unwrap();
    let step = Type::u32("test", &[COUNTER]).unwrap();
    let step = graph.variable("step", step).unwrap();
    graph.begin("run");
    let read = scale(&mut graph, w);
    let update = TableSgd {
        l2: false,
        l1: false,
        momentum: false,
        epoch_steps: 1,
    };
    let update = Arc::new(update.update());
    graph.op(update, &[x, w, hyper, step]).unwrap();
    let last = scale(&mut graph, read);
    assert!(!joins(&graph, &[read, last], last, &[w]));
    assert!(joins(&graph, &[read, last], read, &[w]));
}

#[test]
fn nobody_moves_past_a_reader_of_what_it_makes() {
    let (mut graph, x, _) = graph();
    graph.begin("run");
    let made = scale(&mut graph, x);
    scale(&mut graph, made);
    let last = scale(&mut graph, made);
    assert!(!joins(&graph, &[made, last], last, &[x]));
    assert!(joins(&graph, &[made, last], made, &[x]));
}

#[test]
fn nobody_moves_before_what_makes_its_input() {
    let (mut graph, x, w) = graph();
    graph.begin("run");
    let first = scale(&mut graph, x);
    let other = scale(&mut graph, w);
    let sum = graph.op1(Arc::new(Add), &[first, other]).unwrap();
    assert!(!joins(&graph, &[first, sum], first, &[x, other]));
    assert!(joins(&graph, &[first, sum], sum, &[x, other]));
}

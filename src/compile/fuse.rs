//! Fusion: a rule over the graph, not a list of special cases.
//!
//! An op that says it can be an [`Epilogue`](crate::ops::Epilogue) of the kernel that
//! makes its first input is handed to that kernel's op. If that one takes it, and
//! nobody else reads the value in between, the two nodes become one at the later place.

use std::collections::HashMap;

use crate::graph::{Graph, Kind, Node};
use crate::kernel::Access;
use crate::ops::{Operand, Value};
use crate::shape::Type;

/// The graph's nodes after fusion; `None` where a node was merged into a later one.
pub(super) fn fuse(graph: &Graph) -> Vec<Option<Node>> {
    let mut nodes: Vec<Option<Node>> = graph.nodes().iter().cloned().map(Some).collect();
    let mut uses: HashMap<Value, usize> = HashMap::new();
    for node in graph.nodes() {
        for &v in &node.inputs {
            *uses.entry(v).or_default() += 1;
        }
    }
    // A kept value has a reader outside the graph.
    for (_, v) in graph.results() {
        *uses.entry(*v).or_default() += 1;
    }
    for i in 0..nodes.len() {
        let Some(merged) = merge(&nodes, &uses, i) else {
            continue;
        };
        let Some(producer) = nodes[i].as_ref().map(|n| n.inputs[0].node) else {
            continue;
        };
        // Further outputs of the producer (an argmax, say) now come from here.
        for node in nodes.iter_mut().skip(i + 1).flatten() {
            for v in &mut node.inputs {
                if v.node == producer {
                    v.node = i;
                }
            }
        }
        let moved: Vec<_> = uses
            .iter()
            .filter(|(v, _)| v.node == producer && v.output > 0)
            .map(|(v, &n)| (*v, n))
            .collect();
        for (v, n) in moved {
            uses.insert(Value { node: i, ..v }, n);
        }
        nodes[i] = Some(merged);
        nodes[producer] = None;
    }
    nodes
}

/// Node `i` merged with the producer of its first input, if that is possible.
fn merge(nodes: &[Option<Node>], uses: &HashMap<Value, usize>, i: usize) -> Option<Node> {
    let node = nodes[i].as_ref()?;
    let Kind::Op(op) = &node.kind else {
        return None;
    };
    let epilogue = op.epilogue()?;
    let first = *node.inputs.first()?;
    let producer = nodes[first.node].as_ref()?;
    let Kind::Op(maker) = &producer.kind else {
        return None;
    };
    if first.output != 0 || producer.program != node.program || uses.get(&first) != Some(&1) {
        return None;
    }
    let fused = maker.with_epilogue(&epilogue)?;
    // The producer moves to a later place: nothing between the two may read its other
    // outputs, or update what it reads.
    let between = || nodes[first.node + 1..i].iter().flatten();
    if between().any(|n| n.inputs.iter().any(|v| v.node == first.node)) {
        return None;
    }
    if between()
        .flat_map(|n| updated(nodes, n))
        .any(|v| producer.inputs.contains(&v))
    {
        return None;
    }
    let mut outputs = producer.outputs.clone();
    match node.outputs.first() {
        Some(ty) => outputs[0] = ty.clone(),
        None => outputs.clear(),
    }
    Some(Node {
        kind: Kind::Op(fused),
        inputs: [&producer.inputs[..], &node.inputs[1..]].concat(),
        outputs,
        label: producer.label.clone(),
        program: node.program,
    })
}

/// The inputs that a node changes in place.
fn updated(nodes: &[Option<Node>], node: &Node) -> Vec<Value> {
    let Kind::Op(op) = &node.kind else {
        return vec![];
    };
    let types: Option<Vec<Type>> = node
        .inputs
        .iter()
        .map(|v| nodes[v.node].as_ref()?.outputs.get(v.output).cloned())
        .collect();
    let Some(lowered) = types.and_then(|types| op.lower(&types, &node.outputs)) else {
        return vec![];
    };
    let bindings = lowered.operands.iter().zip(lowered.kernel.bindings);
    bindings
        .filter_map(|(operand, bind)| match operand {
            Operand::In(k) if bind.access != Access::Read => node.inputs.get(*k).copied(),
            _ => None,
        })
        .collect()
}

//! Reverse-mode differentiation: the chain rule, from the cost back, as graph ops.

use super::{Arc, Backward, Error, Graph, HashMap, Kind, Result, Tape, Value};
use crate::ops::add::Add;

pub(super) fn gradients(
    graph: &mut Graph,
    cost: Value,
    upstream: Value,
    with_respect_to: &[Value],
) -> Result<Vec<Option<Value>>> {
    let (cost_ty, upstream_ty) = (graph.ty(cost)?, graph.ty(upstream)?);
    if cost_ty != upstream_ty {
        return Err(Error::shape(
            "gradients",
            format!("cost {cost_ty} with an upstream gradient {upstream_ty}"),
            "an upstream gradient of the cost's type",
        ));
    }
    for &value in with_respect_to {
        graph.ty(value)?;
    }
    let depends = dependants(graph, with_respect_to);
    let label = std::mem::take(&mut graph.label);
    let mut upstream: HashMap<Value, Value> = HashMap::from([(cost, upstream)]);
    // Nodes are in topological order, so by the time a node is reached going back, all
    // uses of its output have added their share.
    for index in (0..=cost.node).rev() {
        let node = graph.nodes[index].clone();
        let (Kind::Op(op), true) = (&node.kind, depends[index]) else {
            continue;
        };
        let id = graph.id;
        let value = |output| id.value(index, output);
        let upstreams: Vec<Option<Value>> = (0..node.outputs.len())
            .map(|output| upstream.get(&value(output)).copied())
            .collect();
        let Some(up) = upstreams.iter().copied().flatten().next() else {
            continue;
        };
        let wanted: Vec<bool> = node.inputs.iter().map(|v| depends[v.node]).collect();
        graph.label = node.label.replace("forward", "backward");
        let outputs: Vec<Value> = (0..node.outputs.len()).map(value).collect();
        let shares = op.gradients(&mut Backward {
            tape: graph,
            inputs: &node.inputs,
            outputs: &outputs,
            upstream: up,
            upstreams: &upstreams,
            wanted: &wanted,
        })?;
        if shares.len() != node.inputs.len() {
            let found = format!("{} gradients of {}", shares.len(), op.name());
            let wanted = format!("one, or None, for each of its {} inputs", node.inputs.len());
            return Err(Error::setting("gradient", found, wanted));
        }
        for ((&input, share), wanted) in node.inputs.iter().zip(shares).zip(wanted) {
            let Some(share) = share.filter(|_| wanted) else {
                continue;
            };
            let sum = match upstream.get(&input) {
                Some(&before) => graph.op1(Arc::new(Add), &[before, share])?,
                None => share,
            };
            upstream.insert(input, sum);
        }
    }
    graph.label = label;
    Ok(with_respect_to
        .iter()
        .map(|v| upstream.get(v).copied())
        .collect())
}

/// Which nodes depend on any of `roots` (roots included).
fn dependants(graph: &Graph, roots: &[Value]) -> Vec<bool> {
    let mut depends = vec![false; graph.nodes.len()];
    for root in roots {
        depends[root.node] = true;
    }
    for (i, node) in graph.nodes.iter().enumerate() {
        if node.inputs.iter().any(|v| depends[v.node]) {
            depends[i] = true;
        }
    }
    depends
}

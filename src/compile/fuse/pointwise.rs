//! Chains and trees of expressions: an op that computes element by element what another one reads
//! element by element becomes a part of it, so that the value between is never stored.
//!
//! A value that several read stays: computing it twice would save nothing but its own store.

use std::sync::Arc;

use super::nodes::{Join, Nodes};
use crate::error::Result;
use crate::ops::Value;
use crate::ops::pointwise::{Link, MOST_BINDINGS, Pointwise, Use, merged};

pub(super) fn fuse(nodes: &mut Nodes) -> Result<()> {
    for i in nodes.indices() {
        // What has been taken in brings inputs of its own.
        while takes_in(nodes, i)? {}
    }
    Ok(())
}

/// Whether expression `i` has taken in one that it reads.
fn takes_in(nodes: &mut Nodes, i: usize) -> Result<bool> {
    for between in nodes.inputs(i).to_vec() {
        if let Some(join) = recognise(nodes, between, i)
            && nodes.join(join)?
        {
            return Ok(true);
        }
    }
    Ok(false)
}

/// What node `i` computes element by element.
fn expression(nodes: &Nodes, i: usize) -> Option<Pointwise> {
    nodes.dyn_op(i)?.expression(&nodes.types(i)?)
}

/// `i` reads `between` of another expression and nobody else does.
fn recognise(nodes: &Nodes, between: Value, i: usize) -> Option<Join> {
    let (op, first) = (&expression(nodes, i)?, &expression(nodes, between.node)?);
    let inputs = nodes.inputs(i);
    let types = nodes.types(i)?;
    let extents = op.results(&types[..op.inputs()]).ok()?;
    let alike = nodes.ty(between)?.shape.extents() == extents;
    if !alike || nodes.sole_reader(between) != Some(i) {
        return None;
    }
    let before = Use {
        op: first,
        inputs: nodes.inputs(between.node),
    };
    let after = Use { op, inputs };
    let read = Link {
        output: between.output,
        value: between,
        keeps: false,
    };
    let (op, inputs) = merged(before, Some(read), after, &extents, MOST_BINDINGS)?;
    let others = nodes.outputs(between.node).into_iter();
    let others = others.filter(|&v| v != between);
    Some(Join {
        outputs: others.chain(nodes.outputs(i)).collect(),
        members: vec![between.node, i],
        at: i,
        named: i,
        op: Arc::new(op),
        inputs,
        unseen: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compile::fuse::fused;
    use crate::expr::{Condition, Expr};
    use crate::graph::Graph;
    use crate::ops::pointwise::pointwise;
    use crate::ops::{COUNTER, Tape};
    use crate::rng::streams::USER;
    use crate::shape::Type;

    fn f32(extents: &[usize]) -> Type {
        Type::f32("test", extents).unwrap()
    }

    fn launches(graph: &Graph) -> usize {
        fused(graph).programs["run"].len()
    }

    /// A graph with variables a `[4, 3]`, b `[4, 3]`, c `[3]`, and a program `run`.
    fn graph() -> (Graph, [Value; 3]) {
        let mut graph = Graph::new();
        let a = graph.variable("a", f32(&[4, 3])).unwrap();
        let b = graph.variable("b", f32(&[4, 3])).unwrap();
        let c = graph.variable("c", f32(&[3])).unwrap();
        graph.begin("run");
        (graph, [a, b, c])
    }

    #[test]
    fn a_tree_is_one_launch() {
        let (mut graph, [a, b, c]) = graph();
        let left = pointwise(&mut graph, [a, c], |[a, c]| a * c).unwrap();
        let right = pointwise(&mut graph, [b], |[b]| b.exp()).unwrap();
        let sum = pointwise(&mut graph, [left, right], |[l, r]| l + r).unwrap();
        let y = pointwise(&mut graph, [sum, a], |[s, a]| s.relu() - a).unwrap();
        graph.result("y", y).unwrap();
        let plan = fused(&graph);
        let [launch] = &plan.programs["run"][..] else {
            panic!("{} launches", plan.programs["run"].len());
        };
        // a, c and b once each, and y.
        assert_eq!(launch.bindings.len(), 4);
    }

    #[test]
    fn what_several_read_or_somebody_keeps_stays() {
        let (mut graph, [a, b, _]) = graph();
        let x = pointwise(&mut graph, [a], |[a]| a.exp()).unwrap();
        let y = pointwise(&mut graph, [x], |[x]| x * 2.0).unwrap();
        let z = pointwise(&mut graph, [x, b], |[x, b]| x * b).unwrap();
        graph.result("y", y).unwrap();
        graph.result("z", z).unwrap();
        assert_eq!(launches(&graph), 3);
        let (mut graph, [a, ..]) = self::graph();
        let x = pointwise(&mut graph, [a], |[a]| a.exp()).unwrap();
        let y = pointwise(&mut graph, [x], |[x]| x * 2.0).unwrap();
        graph.result("x", x).unwrap();
        graph.result("y", y).unwrap();
        assert_eq!(launches(&graph), 2);
    }

    #[test]
    fn what_is_broadcast_is_not_computed_again_for_each() {
        let (mut graph, [a, _, c]) = graph();
        let scale = pointwise(&mut graph, [c], |[c]| c.exp()).unwrap();
        let y = pointwise(&mut graph, [a, scale], |[a, scale]| a * scale).unwrap();
        graph.result("y", y).unwrap();
        assert_eq!(launches(&graph), 2);
    }

    #[test]
    fn nobody_reads_what_is_not_written_yet() {
        // The second reads the new a; in one launch it would read the old one.
        let (mut graph, [a, b, _]) = graph();
        let both = Pointwise::new(&[Expr::input(0) * 2.0, Expr::input(0) + 1.0]).updating(0, 0);
        let sum = graph.op1(Arc::new(both), &[a]).unwrap();
        let y = pointwise(&mut graph, [sum, a], |[s, a]| s * a).unwrap();
        graph.result("y", y).unwrap();
        assert_eq!(launches(&graph), 2);
        // The first reads the old b: so it does in one launch.
        let (mut graph, [a, b2, _]) = self::graph();
        let sum = pointwise(&mut graph, [a, b2], |[a, b]| a + b).unwrap();
        let update = Pointwise::new(&[Expr::input(0) * Expr::input(1)]).updating(0, 1);
        graph.op(Arc::new(update), &[sum, b2]).unwrap();
        assert_eq!(launches(&graph), 1);
        let _ = b;
    }

    #[test]
    fn draws_by_different_keys_stay_apart() {
        for same in [true, false] {
            let (mut graph, [a, ..]) = graph();
            let u32 = |n| Type::u32("test", &[n]).unwrap();
            let keys = graph.variable("keys", u32(4)).unwrap();
            let others = graph.variable("others", u32(4)).unwrap();
            let step = graph.variable("step", u32(COUNTER)).unwrap();
            let mask = || Condition::chance(USER, 0.5).select(Expr::input(0), 0.0);
            let first = graph.op1(Arc::new(Pointwise::new(&[mask()])), &[a, keys, step]);
            let second = [first.unwrap(), if same { keys } else { others }, step];
            let y = graph
                .op1(Arc::new(Pointwise::new(&[mask()])), &second)
                .unwrap();
            graph.result("y", y).unwrap();
            assert_eq!(launches(&graph), if same { 1 } else { 2 });
        }
    }

    #[test]
    fn no_launch_binds_more_than_every_adapter_does() {
        let mut graph = Graph::new();
        let many: Vec<Value> = (0..20)
            .map(|k| graph.variable(&format!("x{k}"), f32(&[5])).unwrap())
            .collect();
        graph.begin("run");
        let mut sum = many[0];
        for &x in &many[1..] {
            sum = pointwise(&mut graph, [sum, x], |[s, x]| s + x).unwrap();
        }
        graph.result("sum", sum).unwrap();
        // Seven inputs and one output each, one of the inputs the sum so far.
        assert_eq!(launches(&graph), 4);
    }
}

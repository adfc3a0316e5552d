//! Updates side by side: expressions that are nothing but written over what they read, of results of the same extents,
//! are one launch, as far as the buffers reach that a device binds in one. Those of a norm's scale and shift are such,
//! of the biases of layers of one width, of running statistics. Each is too small to keep a device busy, and a launch
//! costs more than it does.
//!
//! What is computed is the same, line by line. An update moves down to the one that comes later, past nothing that
//! reads what it writes.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::nodes::{Join, Nodes};
use crate::error::Result;
use crate::ops::pointwise::{MOST_BINDINGS, Pointwise, Use, merged};

/// Buffers of a launch, at most, whatever a device offers: a text grows with them, and its compilation.
const MOST_BESIDE: usize = 32;

pub(super) fn fuse(nodes: &mut Nodes) -> Result<()> {
    // The last update of each program and of each extents that may take in another one.
    let mut open: BTreeMap<(Option<usize>, Vec<usize>), usize> = BTreeMap::new();
    for i in nodes.indices() {
        let Some(extents) = updates(nodes, i) else {
            continue;
        };
        let before = open.insert((nodes.program(i), extents.clone()), i);
        if let Some(join) = before.and_then(|before| recognise(nodes, before, i, &extents)) {
            let label = join
                .members
                .iter()
                .map(|&m| nodes.label(m))
                .collect::<Vec<_>>()
                .join(", ");
            if nodes.join(join)? {
                nodes.relabel(i, label);
            }
        }
    }
    Ok(())
}

/// The extents of what node `i` writes, if it is an expression all of whose results are written over its inputs.
fn updates(nodes: &Nodes, i: usize) -> Option<Vec<usize>> {
    let op = nodes.op::<Pointwise>(i)?;
    if !nodes.outputs(i).is_empty() {
        return None;
    }
    op.results(&nodes.types(i)?[..op.inputs()]).ok()
}

fn recognise(nodes: &Nodes, first: usize, second: usize, extents: &[usize]) -> Option<Join> {
    let used = |i: usize| {
        Some(Use {
            op: nodes.op::<Pointwise>(i)?,
            inputs: nodes.inputs(i),
        })
    };
    let most = nodes.bindings.clamp(MOST_BINDINGS, MOST_BESIDE);
    let (op, inputs) = merged(used(first)?, None, used(second)?, extents, most)?;
    Some(Join {
        outputs: vec![],
        members: vec![first, second],
        at: second,
        named: second,
        op: Arc::new(op),
        inputs,
        unseen: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compile::fuse::fused;
    use crate::expr::Expr;
    use crate::graph::Graph;
    use crate::ops::pointwise::pointwise;
    use crate::ops::{Tape, Value};
    use crate::shape::Type;

    /// A graph with variables of these extents and a program `run`.
    fn graph(extents: &[&[usize]]) -> (Graph, Vec<Value>) {
        let mut graph = Graph::new();
        let variable = |(k, extents): (usize, &&[usize])| {
            let name = format!("v{k}");
            graph
                .variable(&name, Type::f32(&name, extents).unwrap())
                .unwrap()
        };
        let all = extents.iter().enumerate().map(variable).collect();
        graph.begin("run");
        (graph, all)
    }

    /// w ← w − g/2, and what it is called.
    fn update(graph: &mut Graph, w: Value, g: Value, label: &str) {
        let op = Pointwise::new(&[Expr::input(0) - Expr::input(1) * 0.5]).updating(0, 0);
        graph.label(label);
        graph.op(Arc::new(op), &[w, g]).unwrap();
    }

    /// Labels and buffers of the launches.
    fn launches(graph: &Graph) -> Vec<(String, usize)> {
        let plan = fused(graph);
        let launches = plan.programs["run"].iter();
        launches
            .map(|l| (l.label.clone(), l.bindings.len()))
            .collect()
    }

    #[test]
    fn updates_of_the_same_extents_are_one_launch_as_far_as_buffers_reach() {
        let (mut graph, v) = graph(&[&[5usize][..]; 12]);
        for k in 0..6 {
            update(&mut graph, v[2 * k], v[2 * k + 1], &format!("u{k}"));
        }
        let found = launches(&graph);
        assert_eq!(found, [("u0, u1, u2, u3".into(), 8), ("u4, u5".into(), 4)]);
    }

    /// A device that binds more has fewer launches; a text does not grow without end.
    #[test]
    fn a_device_that_binds_more_has_fewer_launches() {
        let (mut graph, v) = graph(&[&[5usize][..]; 40]);
        for k in 0..20 {
            update(&mut graph, v[2 * k], v[2 * k + 1], &format!("u{k}"));
        }
        let buffers = |bindings| {
            let limits = crate::plan::Limits {
                bindings,
                ..crate::plan::Limits::default()
            };
            let options = crate::compile::Options {
                replicas: 1,
                fuse: true,
                limits,
            };
            let plan = crate::compile::compile(&graph, &options).unwrap();
            let launches = plan.programs["run"].iter();
            launches.map(|l| l.bindings.len()).collect::<Vec<_>>()
        };
        assert_eq!(buffers(8), [8; 5]);
        assert_eq!(buffers(11), [10; 4]);
        assert_eq!(buffers(usize::MAX), [32, 8]);
    }

    #[test]
    fn other_extents_stay_apart_and_do_not_keep_others_from_it() {
        let (mut graph, v) = graph(&[&[5], &[5], &[6], &[6], &[5], &[5], &[5, 1], &[5, 1]]);
        for k in 0..4 {
            update(&mut graph, v[2 * k], v[2 * k + 1], &format!("u{k}"));
        }
        let found: Vec<String> = launches(&graph)
            .into_iter()
            .map(|(label, _)| label)
            .collect();
        assert_eq!(found, ["u1", "u0, u2", "u3"]);
    }

    #[test]
    fn what_reads_an_update_comes_after_it() {
        // y is made of the new v0, and what is made of y is v2's gradient.
        let (mut graph, v) = graph(&[&[5usize][..]; 4]);
        update(&mut graph, v[0], v[1], "first");
        graph.label("between");
        let y = pointwise(&mut graph, [v[0]], |[x]| x.exp()).unwrap();
        graph.result("y", y).unwrap();
        update(&mut graph, v[2], v[3], "second");
        let found: Vec<String> = launches(&graph)
            .into_iter()
            .map(|(label, _)| label)
            .collect();
        assert_eq!(found, ["first", "between", "second"]);
        // The second update reads what the first has written.
        let (mut graph, v) = self::graph(&[&[5usize][..]; 3]);
        update(&mut graph, v[0], v[1], "first");
        update(&mut graph, v[2], v[0], "second");
        assert_eq!(launches(&graph).len(), 2);
        // And the other way round: the first reads what the second has not written yet.
        let (mut graph, v) = self::graph(&[&[5usize][..]; 3]);
        update(&mut graph, v[2], v[0], "first");
        update(&mut graph, v[0], v[1], "second");
        assert_eq!(launches(&graph), [("first, second".into(), 3)]);
        // One variable, twice.
        let (mut graph, v) = self::graph(&[&[5usize][..]; 3]);
        update(&mut graph, v[0], v[1], "first");
        update(&mut graph, v[0], v[2], "second");
        assert_eq!(launches(&graph).len(), 2);
    }
}

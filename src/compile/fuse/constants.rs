//! The same number everywhere is a number of the expressions that read it, and repeated it is one again: what a mean over
//! the mini-batch hands to the gradients of its examples, and of their places, costs no launch and no binding there.

use std::sync::Arc;

use super::nodes::Nodes;
use crate::error::Result;
use crate::expr::Expr;
use crate::ops::constant::Constant;
use crate::ops::pointwise::{Link, MOST_BINDINGS, Pointwise, Use, merged};
use crate::ops::{Op, Value};
use crate::tensor::held;

pub(super) fn fuse(nodes: &mut Nodes) -> Result<()> {
    for i in nodes.indices() {
        // An expression that has become a number is one for those that read it.
        while let Some((op, inputs)) = replaced(nodes, i) {
            nodes.rewrite(i, op, inputs)?;
        }
    }
    Ok(())
}

/// Another op for node `i`, with its inputs, if it reads a constant that it can do without.
fn replaced(nodes: &Nodes, i: usize) -> Option<(Arc<dyn Op>, Vec<Value>)> {
    let same_number = |value: f64| -> Option<(Arc<dyn Op>, Vec<Value>)> {
        // What devices have no number for is computed where it stood.
        if !held(value) {
            return None;
        }
        let extents = nodes.ty(nodes.first(i))?.shape.extents().to_vec();
        Some((Arc::new(Constant { extents, value }), vec![]))
    };
    if let &[read] = nodes.inputs(i)
        && let Some(value) = number(nodes, read)
        && let Some(value) = nodes.dyn_op(i)?.of_constant(value)
    {
        return same_number(value);
    }
    let mut read = nodes.inputs(i).iter();
    let (op, inputs) = read.find_map(|&read| filled(nodes, read, i))?;
    match op.number() {
        Some(value) => same_number(value),
        None => Some((Arc::new(op), inputs)),
    }
}

/// The number that a value, or what it is a view of, is everywhere and stays.
pub(super) fn number(nodes: &Nodes, value: Value) -> Option<f64> {
    let made = nodes.viewed(value);
    let constant = nodes.op::<Constant>(made.node)?;
    (!nodes.is_changed(made)).then_some(constant.value)
}

/// Expression `i`, which reads a constant, or a view of one, as one of its elements, with its number in place of it.
fn filled(nodes: &Nodes, read: Value, i: usize) -> Option<(Pointwise, Vec<Value>)> {
    let value = number(nodes, read)?;
    let types = nodes.types(i)?;
    let expression = &nodes.dyn_op(i)?.expression(&types)?;
    let extents = expression.results(&types[..expression.inputs()]).ok()?;
    let number = Use {
        op: &Pointwise::new(&[Expr::constant(value)]),
        inputs: &[],
    };
    let after = Use {
        op: expression,
        inputs: nodes.inputs(i),
    };
    let link = Link {
        output: 0,
        value: read,
        keeps: false,
    };
    // Numbers that devices do not have are computed there, from elements, which a compiler does not see.
    merged(number, Some(link), after, &extents, MOST_BINDINGS).filter(|(op, _)| op.is_folded())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compile::fuse::fused;
    use crate::graph::Graph;
    use crate::ops::Tape;
    use crate::ops::broadcast::Broadcast;
    use crate::ops::pointwise::pointwise;
    use crate::ops::reduce::Reduce;
    use crate::ops::reduction::{Kind, Reduction, Spread};
    use crate::ops::reshape::Reshape;
    use crate::shape::Type;

    /// A variable `[4]` and a constant `[4]` in a program `run`.
    fn graph() -> (Graph, [Value; 2]) {
        let mut graph = Graph::new();
        let x = graph.variable("x", Type::f32("x", &[4]).unwrap()).unwrap();
        graph.begin("run");
        let constant = Constant {
            extents: vec![4],
            value: 0.3,
        };
        let c = graph.op1(Arc::new(constant), &[]).unwrap();
        (graph, [x, c])
    }

    /// Kernels and how many buffers each binds.
    fn launches(graph: &Graph) -> Vec<(&'static str, usize)> {
        let plan = fused(graph);
        let launches = plan.programs["run"].iter();
        launches
            .map(|launch| (launch.kernel.name, launch.bindings.len()))
            .collect()
    }

    #[test]
    fn numbers_stand_in_the_expressions_that_read_them() {
        // In two; through an expression of nothing else and a view; beside an element of a table.
        let (mut graph, [x, c]) = graph();
        let more = pointwise(&mut graph, [c], |[c]| c.exp() * 2.0).unwrap();
        let extents = vec![2, 2];
        let view = |graph: &mut Graph, v| {
            let extents = extents.clone();
            graph.op1(Arc::new(Reshape { extents }), &[v]).unwrap()
        };
        let (square, more) = (view(&mut graph, x), view(&mut graph, more));
        let y = pointwise(&mut graph, [square, more], |[x, m]| x * m).unwrap();
        let table = graph
            .variable("table", Type::f32("table", &[3]).unwrap())
            .unwrap();
        let z = pointwise(&mut graph, [x, c, table], |[x, c, _]| {
            x - c * Expr::at(2, 1.0)
        })
        .unwrap();
        graph.result("y", y).unwrap();
        graph.result("z", z).unwrap();
        assert_eq!(launches(&graph), [("pointwise", 2), ("pointwise", 3)]);
    }

    #[test]
    fn a_number_repeated_is_a_number() {
        let (mut graph, [x, c]) = graph();
        let y = graph
            .variable("y", Type::f32("y", &[4, 5, 2]).unwrap())
            .unwrap();
        let mean = Reduction::new(Kind::Mean, &[1, 2]);
        let spread = Spread {
            reduction: mean,
            extents: vec![4, 5, 2],
        };
        let spread = graph.op1(Arc::new(spread), &[c]).unwrap();
        let y = pointwise(&mut graph, [y, spread], |[y, s]| y * s).unwrap();
        let repeated = Broadcast {
            extents: vec![4],
            axis: Some(0),
            factor: 2.0,
        };
        let repeated = graph.op1(Arc::new(repeated), &[c]).unwrap();
        let x = pointwise(&mut graph, [x, repeated], |[x, r]| x * r).unwrap();
        for (name, value) in [("x", x), ("y", y)] {
            graph.result(name, value).unwrap();
        }
        let plan = fused(&graph);
        let mut numbers = Vec::new();
        for launch in &plan.programs["run"] {
            assert_eq!(
                (launch.kernel.name, launch.bindings.len()),
                ("pointwise", 2)
            );
            numbers.extend(launch.constants.iter().map(|(_, value)| *value));
        }
        for wanted in [0.3 / 10.0, 0.6] {
            assert!(numbers.contains(&wanted), "{numbers:?}");
        }
    }

    /// A constant that something is added to is none.
    #[test]
    fn what_is_written_over_is_read_as_it_is() {
        for through_a_view in [false, true] {
            let (mut graph, [x, c]) = graph();
            let sum = match through_a_view {
                false => c,
                true => {
                    let extents = vec![4];
                    graph.op1(Arc::new(Reshape { extents }), &[c]).unwrap()
                }
            };
            let add = Pointwise::new(&[Expr::input(0) + Expr::input(1)]).updating(0, 0);
            graph.op(Arc::new(add), &[sum, x]).unwrap();
            let y = pointwise(&mut graph, [sum], |[s]| s * 2.0).unwrap();
            graph.result("y", y).unwrap();
            let found = launches(&graph);
            assert_eq!(found[0].0, "constant", "{found:?}");
            assert_eq!(found.last(), Some(&("pointwise", 2)), "{found:?}");
        }
    }

    /// A result that is no number on a device stays what is computed there.
    #[test]
    fn what_is_no_number_stays_an_expression() {
        let (mut graph, [x, c]) = graph();
        let large = pointwise(&mut graph, [c], |[c]| (c * 1e4).exp()).unwrap();
        let larger = pointwise(&mut graph, [c], |[c]| c * 1e30 * 1e30).unwrap();
        let large = pointwise(&mut graph, [large, larger], |[a, b]| a + b).unwrap();
        let repeated = Broadcast {
            extents: vec![4],
            axis: Some(0),
            factor: 1.2e-38,
        };
        let small = graph.op1(Arc::new(repeated), &[c]).unwrap();
        let y = pointwise(&mut graph, [x, large, small], |[x, l, s]| x * l * s).unwrap();
        graph.result("y", y).unwrap();
        let found = launches(&graph);
        assert_eq!(
            found.iter().map(|(name, _)| *name).collect::<Vec<_>>(),
            ["constant", "broadcast", "pointwise"]
        );
    }

    #[test]
    fn who_needs_them_as_elements_has_them() {
        // An op that is no expression, an index, and somebody outside.
        let (mut graph, [x, c]) = graph();
        let sum = graph.op1(Arc::new(Reduce::new(None, 1.0)), &[c]).unwrap();
        let at = pointwise(&mut graph, [x, c], |[x, _]| Expr::at(1, x)).unwrap();
        graph.result("sum", sum).unwrap();
        graph.result("at", at).unwrap();
        graph.result("c", c).unwrap();
        let wanted = [("constant", 1), ("reduce", 2), ("pointwise", 3)];
        assert_eq!(launches(&graph), wanted);
    }
}

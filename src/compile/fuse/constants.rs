//! The same number everywhere is a number of the expressions that read it: what a mean over the mini-batch hands to the
//! gradients of its examples costs no launch and no binding there.

use std::sync::Arc;

use super::nodes::Nodes;
use crate::error::Result;
use crate::expr::Expr;
use crate::ops::constant::Constant;
use crate::ops::pointwise::{Link, Pointwise, Use, merged};
use crate::ops::{Op, Value};

pub(super) fn fuse(nodes: &mut Nodes) -> Result<()> {
    for i in nodes.indices() {
        // An expression that has become a number is one for those that read it.
        while let Some((op, inputs)) = nodes
            .inputs(i)
            .to_vec()
            .into_iter()
            .find_map(|read| filled(nodes, read, i))
        {
            let op: Arc<dyn Op> = match op.number() {
                Some(value) => Arc::new(Constant {
                    extents: nodes.known(nodes.first(i))?.shape.extents().to_vec(),
                    value,
                }),
                None => Arc::new(op),
            };
            nodes.rewrite(i, op, inputs)?;
        }
    }
    Ok(())
}

/// Expression `i`, which reads a constant, or a view of one, as one of its elements, with its number in place of it.
fn filled(nodes: &Nodes, read: Value, i: usize) -> Option<(Pointwise, Vec<Value>)> {
    let value = nodes.op::<Constant>(nodes.viewed(read).node)?.value;
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
    merged(number, Some(link), after, &extents)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compile::fuse::fused;
    use crate::graph::Graph;
    use crate::ops::Tape;
    use crate::ops::pointwise::pointwise;
    use crate::ops::reduce::Reduce;
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
        // In two; through an expression of nothing else and a view.
        let (mut graph, [x, c]) = graph();
        let more = pointwise(&mut graph, [c], |[c]| c.exp() * 2.0).unwrap();
        let extents = vec![2, 2];
        let view = |graph: &mut Graph, v| {
            let extents = extents.clone();
            graph.op1(Arc::new(Reshape { extents }), &[v]).unwrap()
        };
        let (square, more) = (view(&mut graph, x), view(&mut graph, more));
        let y = pointwise(&mut graph, [square, more], |[x, m]| x * m).unwrap();
        let z = pointwise(&mut graph, [x, c], |[x, c]| x - c).unwrap();
        graph.result("y", y).unwrap();
        graph.result("z", z).unwrap();
        assert_eq!(launches(&graph), [("pointwise", 2), ("pointwise", 2)]);
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

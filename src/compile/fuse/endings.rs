//! What a kernel can do at its end.
//!
//! An expression of what one op makes goes to the end of that op's kernel, where the kernel has a
//! port for it ([`Op::with_ending`]): biases, masks, slopes, the updates of parameters.

use std::sync::Arc;

use super::nodes::{Join, Nodes};
use crate::error::Result;
use crate::expr::Expr;
use crate::ops::pointwise::{Ending, Pointwise, Use, WithEnding, merged};
use crate::ops::{Op, Value};

/// Which values may stand between an op and the expression at its end.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Between {
    /// One that nobody else reads, and that is stored no more.
    Alone,
    /// One that others read too: it is stored beside what the expression makes of it.
    Shared,
}

pub(super) fn fuse(nodes: &mut Nodes, which: Between) -> Result<()> {
    for i in nodes.indices() {
        for between in nodes.inputs(i).to_vec() {
            // In the expression's place; in the core's where others read what it makes beside its elements,
            // such as statistics, before that.
            let mut joined = false;
            for at in [i, between.node] {
                if !joined && let Some(join) = ended(nodes, between, i, which) {
                    joined = nodes.join(Join { at, ..join })?;
                }
            }
            if joined {
                break;
            }
        }
    }
    Ok(())
}

/// Expression `i` at the end of the op that makes `between`.
fn ended(nodes: &Nodes, between: Value, i: usize, which: Between) -> Option<Join> {
    let core: &Arc<dyn Op> = nodes.dyn_op(between.node)?;
    if between.output >= core.ending().map_or(1, Ending::outputs) {
        return None;
    }
    let alone = nodes.sole_reader(between) == Some(i);
    if nodes.op::<Pointwise>(between.node).is_some() || alone != (which == Between::Alone) {
        return None;
    }
    let inputs = nodes.inputs(i);
    let types: Option<Vec<_>> = inputs.iter().map(|&v| nodes.ty(v).cloned()).collect();
    let types = types?;
    let expression = &nodes.dyn_op(i)?.expression(&types)?;
    let extents = expression.results(&types[..expression.inputs()]).ok()?;
    if nodes.ty(between)?.shape.extents() != extents {
        return None;
    }
    // What the core makes has no value any more once it passes an expression.
    let element = nodes.value(usize::MAX, 0);
    let passed = Pointwise::new(&[Expr::input(0)]);
    let before = core.ending().map_or(&passed, Ending::expression);
    let all = nodes.inputs(between.node);
    let (own, rest) = all.split_at(all.len() - core.ending().map_or(0, Ending::inputs));
    let before = Use {
        op: before,
        inputs: &[&[element], rest].concat(),
    };
    let after = Use {
        op: expression,
        inputs,
    };
    let (op, inputs) = merged(before, between.output, between, after, &extents, !alone)?;
    let ending = Ending::new(op);
    // A core's threads read all over its inputs while others update.
    let changes = ending.changes();
    if inputs.first() != Some(&element) || changes.iter().any(|&k| own.contains(&inputs[k + 1])) {
        return None;
    }
    // What the ending has made so far, without the value between; then what the core makes beside.
    let mut outputs = nodes.outputs(between.node);
    let further = outputs.split_off(core.ending().map_or(1, Ending::outputs).min(outputs.len()));
    outputs.retain(|&v| v != between || !alone);
    outputs.extend(nodes.outputs(i).into_iter().chain(further));
    let op = core.with_ending(&ending).or_else(|| {
        let op = WithEnding::of(core, &ending)?;
        Some(Arc::new(op))
    });
    Some(Join {
        outputs,
        op: op?,
        inputs: [own, &inputs[1..]].concat(),
        members: vec![between.node, i],
        at: i,
        named: between.node,
        unseen: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compile::{Options, compile};
    use crate::graph::Graph;
    use crate::ops::add::Add;
    use crate::ops::add_bias::AddBias;
    use crate::ops::conv_transpose2d::ConvTranspose2d;
    use crate::ops::conv2d::Conv2d;
    use crate::ops::dropout::Dropout;
    use crate::ops::max_pool2d::MaxPool2d;
    use crate::ops::norm::{Norm, Over};
    use crate::ops::pointwise::pointwise;
    use crate::ops::{COUNTER, Tape};
    use crate::plan::Limits;
    use crate::shape::Type;

    /// The kernels of a program `run`.
    fn kernels(graph: &Graph) -> Vec<&'static str> {
        let options = Options {
            replicas: 1,
            fuse: true,
            limits: Limits::default(),
        };
        let plan = compile(graph, &options).unwrap();
        let launches = plan.programs["run"].iter();
        launches.map(|launch| launch.kernel.name).collect()
    }

    fn conv(padding: usize) -> Conv2d {
        Conv2d {
            stride: [1; 2],
            padding: [padding; 2],
            dilation: [1; 2],
            groups: 1,
        }
    }

    /// Images `[2, 3, 8, 8]`, filters `[3, 3, 3, 3]` and a bias.
    fn graph() -> (Graph, [Value; 3]) {
        let mut graph = Graph::new();
        let mut variable = |name: &str, extents: &[usize]| {
            let ty = Type::f32(name, extents).unwrap();
            graph.variable(name, ty).unwrap()
        };
        let x = variable("x", &[2, 3, 8, 8]);
        let w = variable("w", &[3, 3, 3, 3]);
        let bias = variable("bias", &[3]);
        (graph, [x, w, bias])
    }

    #[test]
    fn any_activation_and_a_residual_stand_at_a_convolutions_end() {
        for transposed in [false, true] {
            let (mut graph, [x, w, bias]) = graph();
            graph.begin("run");
            let op: Arc<dyn Op> = match transposed {
                false => Arc::new(conv(1)),
                true => Arc::new(ConvTranspose2d {
                    stride: [1; 2],
                    padding: [1; 2],
                    output_padding: [0; 2],
                    dilation: [1; 2],
                    groups: 1,
                }),
            };
            let y = graph.op1(op, &[x, w]).unwrap();
            let y = graph.op1(Arc::new(AddBias), &[y, bias]).unwrap();
            let y = pointwise(&mut graph, [y], |[y]| &y * y.softplus().tanh()).unwrap();
            let y = graph.op1(Arc::new(Add), &[y, x]).unwrap();
            graph.result("y", y).unwrap();
            let wanted = ["conv2d", "conv2d_input_grad"][usize::from(transposed)];
            assert_eq!(kernels(&graph), [wanted]);
        }
    }

    #[test]
    fn what_follows_a_pooled_convolution_stands_at_its_end_and_leaves_the_argmax() {
        let (mut graph, [x, w, bias]) = graph();
        let words = |n| Type::u32("words", &[n]).unwrap();
        let keys = graph.variable("keys", words(4)).unwrap();
        let step = graph.variable("step", words(COUNTER)).unwrap();
        graph.begin("run");
        let y = graph.op1(Arc::new(conv(0)), &[x, w]).unwrap();
        let y = graph.op1(Arc::new(AddBias), &[y, bias]).unwrap();
        let pool = MaxPool2d {
            kernel: [2; 2],
            stride: [2; 2],
            padding: [0; 2],
        };
        let pooled = graph.op(Arc::new(pool), &[y]).unwrap();
        let y = pointwise(&mut graph, [pooled[0]], |[y]| &y * y.sigmoid()).unwrap();
        let mask = Dropout {
            p: 0.5,
            layer: 0,
            rescale: true,
        };
        let y = graph.op1(Arc::new(mask), &[y, keys, step]).unwrap();
        graph.result("y", y).unwrap();
        graph.result("argmax", pooled[1]).unwrap();
        assert_eq!(kernels(&graph), ["conv2d_pool_pairs"]);
    }

    /// Of one launch and of two, whose last makes the elements; statistics stay what they are.
    #[test]
    fn a_residual_and_an_activation_stand_at_a_norms_end() {
        let wanted = [
            (8, &["norm", "pointwise"][..]),
            (64, &["norm_runs", "norm_joined", "pointwise"]),
        ];
        for (edge, wanted) in wanted {
            let mut graph = Graph::new();
            let mut variable = |name: &str, extents: &[usize]| {
                let ty = Type::f32(name, extents).unwrap();
                graph.variable(name, ty).unwrap()
            };
            let x = variable("x", &[2, 3, edge, edge]);
            let [gamma, beta] = ["gamma", "beta"].map(|name| variable(name, &[3]));
            graph.begin("run");
            let norm = Norm {
                over: Over::Batch,
                epsilon: 1e-5,
            };
            let made = graph.op(Arc::new(norm), &[x, gamma, beta]).unwrap();
            // Reads a statistic before the elements are all that they will be.
            let half = pointwise(&mut graph, [made[1]], |[mean]| mean * 0.5).unwrap();
            let y = graph.op1(Arc::new(Add), &[made[0], x]).unwrap();
            let y = pointwise(&mut graph, [y], |[y]| &y * y.sigmoid()).unwrap();
            for (name, value) in [("y", y), ("half", half), ("rstd", made[2])] {
                graph.result(name, value).unwrap();
            }
            assert_eq!(kernels(&graph), wanted);
        }
    }

    /// An integer that an expression reads is no element of the core's.
    #[test]
    fn an_expression_of_an_argmax_stands_alone() {
        let (mut graph, [x, ..]) = graph();
        graph.begin("run");
        let pool = MaxPool2d {
            kernel: [2; 2],
            stride: [2; 2],
            padding: [0; 2],
        };
        let pooled = graph.op(Arc::new(pool), &[x]).unwrap();
        let y = pointwise(&mut graph, [pooled[1]], |[place]| place * 0.5).unwrap();
        graph.result("y", y).unwrap();
        assert_eq!(kernels(&graph), ["max_pool2d", "pointwise"]);
    }
}

//! What a kernel can do at its end.
//!
//! An expression of what one op makes goes to the end of that op's kernel, where the kernel has a
//! port for it ([`Op::with_ending`]): biases, masks, slopes, the updates of parameters.

use std::sync::Arc;

use super::nodes::{Join, Nodes};
use crate::error::Result;
use crate::expr::Expr;
use crate::ops::matmul::Matmul;
use crate::ops::pointwise::{Ending, Link, MOST_BINDINGS, Pointwise, Use, WithEnding, merged};
use crate::ops::{Op, Value};

/// Which values may stand between an op and the expression at its end, more from one to the next.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd)]
pub(super) enum Between {
    /// What nobody else reads, and that is stored no more.
    Alone,
    /// Views of that too, of a product.
    Viewed,
    /// What others read too: it is stored beside what the expression makes of it.
    Shared,
}

pub(super) fn fuse(nodes: &mut Nodes, which: Between) -> Result<()> {
    for i in nodes.indices() {
        for read in nodes.inputs(i).to_vec() {
            // In the expression's place; in the core's where others read what it makes beside its elements,
            // such as statistics, before that.
            let mut joined = false;
            for before in [false, true] {
                if !joined && let Some(join) = ended(nodes, read, i, which) {
                    let at = if before { join.named } else { i };
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

/// What an expression reads, `read`, as what a core makes, `made`: the same or a view of it.
struct Way {
    made: Value,
    views: Vec<usize>,
    /// Whether nobody else reads any of it.
    alone: bool,
}

fn way(nodes: &Nodes, read: Value, i: usize, which: Between) -> Option<Way> {
    let mut way = Way {
        made: read,
        views: vec![],
        alone: nodes.sole_reader(read) == Some(i),
    };
    while which > Between::Alone
        && let Some(of) = nodes.view_of(way.made)
    {
        way.views.push(way.made.node);
        way.alone &= nodes.sole_reader(of) == Some(way.made.node);
        way.made = of;
    }
    let fits = way.alone == (which != Between::Shared);
    (fits && nodes.op::<Pointwise>(way.made.node).is_none()).then_some(way)
}

/// The extents in which the core that makes a value hands its elements over: of a product those of its rows and columns,
/// whatever has become of them.
fn handed_over(nodes: &Nodes, made: Value) -> Option<Vec<usize>> {
    match (nodes.op::<Matmul>(made.node), nodes.inputs(made.node)) {
        (Some(product), [a, b, ..]) => {
            let extents = product.product(nodes.ty(*a)?, nodes.ty(*b)?).ok()?;
            Some(extents.to_vec())
        }
        _ => Some(nodes.ty(made)?.shape.extents().to_vec()),
    }
}

/// Expression `i` at the end of the op that makes what it reads, `named` in the join.
fn ended(nodes: &Nodes, read: Value, i: usize, which: Between) -> Option<Join> {
    let Way { made, views, alone } = way(nodes, read, i, which)?;
    let core: &Arc<dyn Op> = nodes.dyn_op(made.node)?;
    if made.output >= core.ending().map_or(1, Ending::outputs) {
        return None;
    }
    let inputs = nodes.inputs(i);
    let types: Option<Vec<_>> = inputs.iter().map(|&v| nodes.ty(v).cloned()).collect();
    let types = types?;
    let expression = &nodes.dyn_op(i)?.expression(&types)?;
    let extents = expression.results(&types[..expression.inputs()]).ok()?;
    if nodes.ty(read)?.shape.extents() != extents {
        return None;
    }
    let own_extents = handed_over(nodes, made)?;
    let viewed = own_extents != extents;
    if viewed
        && (which == Between::Alone
            || nodes.op::<Matmul>(made.node).is_none()
            || !expression.changes().is_empty()
            || !expression.belongs_alike(&types, &extents, &own_extents))
    {
        return None;
    }
    let inputs: Vec<Value> = inputs
        .iter()
        .map(|&v| if v == read { made } else { v })
        .collect();
    // What the core makes has no value any more once it passes an expression.
    let element = nodes.value(usize::MAX, 0);
    let passed = Pointwise::new(&[Expr::input(0)]);
    let before = core.ending().map_or(&passed, Ending::expression);
    let all = nodes.inputs(made.node);
    let (own, rest) = all.split_at(all.len() - core.ending().map_or(0, Ending::inputs));
    let before = Use {
        op: before,
        inputs: &[&[element], rest].concat(),
    };
    let after = Use {
        op: expression,
        inputs: &inputs,
    };
    let read = Link {
        output: made.output,
        value: made,
        keeps: !alone,
    };
    let (op, inputs) = merged(before, Some(read), after, &own_extents, MOST_BINDINGS)?;
    let ending = Ending::new(op);
    // A core's threads read all over its inputs while others update.
    let changes = ending.changes();
    if inputs.first() != Some(&element) || changes.iter().any(|&k| own.contains(&inputs[k + 1])) {
        return None;
    }
    // What the ending has made so far, without the value between if it is gone; then what the core makes beside.
    let mut outputs = nodes.outputs(made.node);
    let further = outputs.split_off(core.ending().map_or(1, Ending::outputs).min(outputs.len()));
    outputs.retain(|&v| v != made || !alone);
    outputs.extend(nodes.outputs(i).into_iter().chain(further));
    let op = core.with_ending(&ending).or_else(|| {
        let op = WithEnding::of(core, &ending)?;
        Some(Arc::new(op))
    });
    // A view of what is still stored is still one.
    let gone = views.into_iter().filter(|_| alone);
    Some(Join {
        outputs,
        op: op?,
        inputs: [own, &inputs[1..]].concat(),
        members: [made.node, i].into_iter().chain(gone).collect(),
        at: i,
        named: made.node,
        unseen: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compile::fuse::fused;
    use crate::graph::Graph;
    use crate::ops::add::Add;
    use crate::ops::add_bias::AddBias;
    use crate::ops::conv_transpose2d::ConvTranspose2d;
    use crate::ops::conv2d::Conv2d;
    use crate::ops::dropout::Dropout;
    use crate::ops::max_pool2d::MaxPool2d;
    use crate::ops::norm::{Norm, Over};
    use crate::ops::pointwise::pointwise;
    use crate::ops::reduce::Reduce;
    use crate::ops::reshape::Reshape;
    use crate::ops::{COUNTER, Tape};
    use crate::shape::Type;

    /// The kernels of a program `run`.
    fn kernels(graph: &Graph) -> Vec<&'static str> {
        let plan = fused(graph);
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

    /// a `[6, 4]`, b `[4, 5]`, their product, and floats of these extents.
    fn product<const N: usize>(further: [&[usize]; N]) -> (Graph, Value, [Value; N]) {
        let mut graph = Graph::new();
        let mut variable = |name: &str, extents: &[usize]| {
            let ty = Type::f32(name, extents).unwrap();
            graph.variable(name, ty).unwrap()
        };
        let [a, b] = [variable("a", &[6, 4]), variable("b", &[4, 5])];
        let mut names = ["x", "y", "z"].into_iter();
        let further = further.map(|extents| variable(names.next().unwrap(), extents));
        graph.begin("run");
        let product = Arc::new(Matmul::new(false, false));
        let made = graph.op1(product, &[a, b]).unwrap();
        (graph, made, further)
    }

    #[test]
    fn what_others_read_is_stored_beside_what_is_made_of_it() {
        let (mut graph, y, []) = product([]);
        let half = pointwise(&mut graph, [y], |[y]| y * 0.5).unwrap();
        let bent = pointwise(&mut graph, [half], |[y]| y.tanh()).unwrap();
        let more = pointwise(&mut graph, [bent], |[bent]| bent.exp()).unwrap();
        for (name, value) in [("half", half), ("bent", bent), ("more", more)] {
            graph.result(name, value).unwrap();
        }
        assert_eq!(kernels(&graph), ["matmul"]);
        // What is summed over cannot stand there, and what is made of the sum comes too late.
        let (mut graph, y, []) = product([]);
        let sum = graph.op1(Arc::new(Reduce::new(Some(1), 1.0)), &[y]);
        let over = pointwise(&mut graph, [y, sum.unwrap()], |[y, sum]| y / sum).unwrap();
        graph.result("over", over).unwrap();
        assert_eq!(kernels(&graph), ["matmul", "reduce", "pointwise"]);
    }

    #[test]
    fn a_view_of_a_product_is_no_hindrance() {
        let wanted: [(&[usize], &[&str]); 4] = [
            (&[2, 3, 5], &["matmul"]),
            (&[5], &["matmul"]),
            (&[1, 1, 1], &["matmul"]),
            // Rows of a product know of no sequences.
            (&[3, 5], &["matmul", "pointwise"]),
        ];
        for (extents, wanted) in wanted {
            let (mut graph, y, [x]) = product([extents]);
            let view = Reshape {
                extents: vec![2, 3, 5],
            };
            let y = graph.op1(Arc::new(view), &[y]).unwrap();
            let y = pointwise(&mut graph, [y, x], |[y, x]| (y + x).tanh()).unwrap();
            let y = pointwise(&mut graph, [y], |[y]| &y * y.sigmoid()).unwrap();
            graph.result("y", y).unwrap();
            assert_eq!(kernels(&graph), wanted, "{extents:?}");
        }
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

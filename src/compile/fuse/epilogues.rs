//! What a kernel can do at its end.
//!
//! An expression of what one op makes goes to the end of that op's kernel, where the kernel has a
//! port for it ([`Op::with_ending`]): biases, masks, slopes, the updates of parameters.
//!
//! An op that says it can be an [`Epilogue`](crate::ops::Epilogue) of the kernel that
//! makes its first input is handed to that kernel's op. If that one takes it, and nobody
//! else reads the value in between, the two become one at the later place.

use std::sync::Arc;

use super::nodes::{Join, Nodes};
use crate::error::Result;
use crate::expr::Expr;
use crate::ops::pointwise::{Ending, Pointwise, Use, WithEnding, merged};
use crate::ops::{Op, Value};

pub(super) fn fuse(nodes: &mut Nodes) -> Result<()> {
    for i in nodes.indices() {
        if let Some(join) = merge(nodes, i) {
            nodes.join(join)?;
        }
        for between in nodes.inputs(i).to_vec() {
            if let Some(join) = ended(nodes, between, i)
                && nodes.join(join)?
            {
                break;
            }
        }
    }
    Ok(())
}

/// Expression `i` at the end of the op that makes `between`, which nobody else reads.
fn ended(nodes: &Nodes, between: Value, i: usize) -> Option<Join> {
    let core: &Arc<dyn Op> = nodes.dyn_op(between.node)?;
    if between.output >= core.ending().map_or(1, Ending::outputs) {
        return None;
    }
    if nodes.op::<Pointwise>(between.node).is_some() || nodes.sole_reader(between) != Some(i) {
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
    let (op, inputs) = merged(before, between.output, between, after, &extents)?;
    let ending = Ending::new(op);
    // A core's threads read all over its inputs while others update.
    let changes = ending.changes();
    if inputs.first() != Some(&element) || changes.iter().any(|&k| own.contains(&inputs[k + 1])) {
        return None;
    }
    // What the ending has made so far, without the value between; then what the core makes beside.
    let mut outputs = nodes.outputs(between.node);
    let further = outputs.split_off(core.ending().map_or(1, Ending::outputs).min(outputs.len()));
    outputs.retain(|&v| v != between);
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

/// Node `i` merged with the producer of its first input, if the two ops agree.
fn merge(nodes: &Nodes, i: usize) -> Option<Join> {
    let epilogue = nodes.dyn_op(i)?.epilogue()?;
    let first = *nodes.inputs(i).first()?;
    if first.output != 0 || nodes.sole_reader(first) != Some(i) {
        return None;
    }
    let producer = first.node;
    let op = nodes.dyn_op(producer)?.with_epilogue(&epilogue)?;
    let count = |i: usize| nodes.nodes[i].as_ref().map_or(0, |n| n.outputs.len());
    // Further outputs of the producer (an argmax, say) go with it.
    let further = (1..count(producer)).map(|output| nodes.value(producer, output));
    let result = (count(i) > 0).then(|| nodes.first(i));
    Some(Join {
        members: vec![producer, i],
        at: i,
        named: producer,
        op,
        inputs: [nodes.inputs(producer), &nodes.inputs(i)[1..]].concat(),
        outputs: result.into_iter().chain(further).collect(),
        unseen: None,
    })
}

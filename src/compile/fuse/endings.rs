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

pub(super) fn fuse(nodes: &mut Nodes) -> Result<()> {
    for i in nodes.indices() {
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

//! The mini-batches of two columns become one [`RowsPair`], with which a program begins its step.

use std::collections::HashSet;
use std::sync::Arc;

use super::nodes::{Join, Nodes};
use crate::error::Result;
use crate::ops::rows::Rows;
use crate::ops::rows_pair::RowsPair;

pub(super) fn fuse(nodes: &mut Nodes) -> Result<()> {
    let mut begun = HashSet::new();
    for i in nodes.indices() {
        // A step begins once, with the program's first mini-batch.
        let program = nodes.nodes[i].as_ref().and_then(|n| n.program);
        if nodes.op::<Rows>(i).is_some()
            && begun.insert(program)
            && let Some(join) = recognise(nodes, i)
        {
            nodes.join(join)?;
        }
    }
    Ok(())
}

/// `i` is the first of a program's mini-batches.
fn recognise(nodes: &Nodes, i: usize) -> Option<Join> {
    let program = |i: usize| nodes.nodes[i].as_ref().and_then(|n| n.program);
    let first = nodes.op::<Rows>(i)?;
    let &[column, order, step] = nodes.inputs(i) else {
        return None;
    };
    // Nobody has asked for the step's number before it begins.
    let mut readers = nodes.readers(step).iter().copied();
    if readers.any(|r| r < i && program(r) == program(i)) {
        return None;
    }
    let mut readers = nodes.readers(step).iter().copied();
    let j = readers.find(|&r| {
        r > i && program(r) == program(i) && nodes.inputs(r)[1..] == [order, step] && {
            let second = nodes.op::<Rows>(r);
            second.is_some_and(|second| RowsPair::fits(first, second))
        }
    })?;
    let op = RowsPair {
        first: first.clone(),
        second: nodes.op::<Rows>(j)?.clone(),
    };
    Some(Join {
        members: vec![i, j],
        at: i,
        named: i,
        op: Arc::new(op),
        inputs: vec![column, nodes.inputs(j)[0], order, step],
        outputs: vec![nodes.first(i), nodes.first(j)],
        // Where it begins the step, `now` becomes what it is.
        unseen: Some(step),
    })
}

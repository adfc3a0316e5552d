//! An op that says it can be an [`Epilogue`](crate::ops::Epilogue) of the kernel that
//! makes its first input is handed to that kernel's op. If that one takes it, and nobody
//! else reads the value in between, the two become one at the later place.

use super::nodes::{Join, Nodes};
use crate::error::Result;

pub(super) fn fuse(nodes: &mut Nodes) -> Result<()> {
    for i in nodes.indices() {
        if let Some(join) = merge(nodes, i) {
            nodes.join(join)?;
        }
    }
    Ok(())
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

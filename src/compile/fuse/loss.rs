//! The last dense layer, the cost, the tally, the output error and the step counter
//! become one [`DenseLoss`](crate::ops::dense_loss::DenseLoss), where the scores fit into a
//! workgroup's memory and are few enough for one workgroup to be quicker than the launches
//! it spares.

use std::sync::Arc;

use super::nodes::{Join, Nodes};
use crate::ops::activation::{Activation, ActivationSlope};
use crate::ops::advance::Advance;
use crate::ops::constant::Constant;
use crate::ops::dense_loss::{DenseLoss, MOST_EXAMPLES, MOST_SCORES};
use crate::ops::gather::Gather;
use crate::ops::matmul::{End, Matmul};
use crate::ops::shuffle::Shuffle;
use crate::ops::tally::Tally;
use crate::ops::{Loss, LossGrad, Value};

/// Multiply-adds that one workgroup may do by itself.
const MOST_WORK: usize = 1 << 18;

pub(super) fn fuse(nodes: &mut Nodes) {
    for i in nodes.indices() {
        if let Some(join) = recognise(nodes, i) {
            nodes.join(join);
        }
    }
}

/// `i` is the tally.
fn recognise(nodes: &Nodes, i: usize) -> Option<Join> {
    let tally = *nodes.op::<Tally>(i)?;
    let &[scores, losses, labels, step, metrics, guard] = nodes.inputs(i) else {
        return None;
    };
    let layer = scores.node;
    let &Matmul {
        trans_a: false,
        trans_b: true,
        end: End::Bias(activation),
    } = nodes.op::<Matmul>(layer)?
    else {
        return None;
    };
    let &[a, w, b] = nodes.inputs(layer) else {
        return None;
    };
    let (outputs, inputs) = (nodes.ty(scores)?.shape.extents(), nodes.ty(a)?.elements());
    if outputs[0] > MOST_EXAMPLES
        || outputs[0] * outputs[1] > MOST_SCORES
        || inputs * outputs[1] > MOST_WORK
    {
        return None;
    }
    let loss = losses.node;
    let &Loss(cost) = nodes.op::<Loss>(loss)?;
    if nodes.inputs(loss) != [scores, labels] || nodes.sole_reader(losses) != Some(i) {
        return None;
    }
    let readers = nodes.readers(scores);
    let grad = readers.into_iter().find(|&r| {
        nodes
            .op::<LossGrad>(r)
            .is_some_and(|grad| grad.0.number == cost.number)
            && nodes.inputs(r)[..2] == [scores, labels]
    })?;
    let seed = nodes.inputs(grad)[2].node;
    let value = nodes.op::<Constant>(seed)?.value;
    let mut members = vec![layer, loss, i, seed, grad];
    let mut last = grad;
    if activation != Activation::Linear {
        last = nodes.sole_reader(Nodes::first(grad))?;
        let slope = nodes.op::<ActivationSlope>(last)?;
        if slope.0 != activation || nodes.inputs(last)[1] != scores {
            return None;
        }
        members.push(last);
    }
    members.push(advance(nodes, last, step)?);
    let op = DenseLoss {
        activation,
        cost,
        seed: value,
        tally,
    };
    Some(Join {
        members,
        at: last,
        named: layer,
        op: Arc::new(op),
        inputs: vec![a, w, b, labels, step, metrics, guard],
        outputs: vec![Nodes::first(last)],
        // Who reads `now` does not see `next` change, and nobody else reads `next`: that is
        // what `advance` makes sure of.
        unseen: Some(step),
    })
}

/// The node that counts the step, if nobody after node `last` asks for the step to come.
fn advance(nodes: &Nodes, last: usize, step: Value) -> Option<usize> {
    let program = nodes.nodes[last].as_ref()?.program;
    let mut readers = nodes.readers(step);
    readers.retain(|&r| {
        r > last
            && nodes.nodes[r]
                .as_ref()
                .is_some_and(|n| n.program == program)
    });
    let next = |r: usize| nodes.op::<Gather>(r).is_some() || nodes.op::<Shuffle>(r).is_some();
    if readers.iter().any(|&r| next(r)) {
        return None;
    }
    readers
        .into_iter()
        .find(|&r| nodes.op::<Advance>(r).is_some())
}

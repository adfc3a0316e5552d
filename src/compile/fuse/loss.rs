//! The last dense layer, the cost, the epoch's metrics, the output error and the step counter
//! become one [`DenseLoss`](crate::ops::dense_loss::DenseLoss), where the scores fit into a
//! workgroup's memory and are few enough for one workgroup to be quicker than the launches
//! it spares.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::nodes::{Join, Nodes};
use crate::error::Result;
use crate::ops::activation::{Activation, ActivationSlope};
use crate::ops::advance::Advance;
use crate::ops::average::Average;
use crate::ops::constant::Constant;
use crate::ops::dense_loss::{DenseLoss, MOST_EXAMPLES, MOST_SCORES, constant_of};
use crate::ops::epoch_metrics::EpochMetrics;
use crate::ops::gather::Gather;
use crate::ops::matmul::{Matmul, biased};
use crate::ops::rows_pair::RowsPair;
use crate::ops::shuffle::Shuffle;
use crate::ops::{Loss, LossGrad, Value};

/// Multiply-adds that one workgroup may do by itself.
const MOST_WORK: usize = 1 << 18;

pub(super) fn fuse(nodes: &mut Nodes) -> Result<()> {
    for i in nodes.indices() {
        if let Some(join) = recognise(nodes, i) {
            nodes.join(join)?;
        }
    }
    Ok(())
}

/// `i` is the op of the epoch's metrics.
fn recognise(nodes: &Nodes, i: usize) -> Option<Join> {
    let measures = *nodes.op::<EpochMetrics>(i)?;
    let &[scores, losses, labels, step, metrics, guard] = nodes.inputs(i) else {
        return None;
    };
    let layer = scores.node;
    let Matmul {
        trans_a: false,
        trans_b: true,
        ending: Some(ending),
    } = nodes.op::<Matmul>(layer)?
    else {
        return None;
    };
    let activation = Activation::ALL
        .into_iter()
        .find(|act| ending.is(&biased(*act)))?;
    let &[a, w, b] = nodes.inputs(layer) else {
        return None;
    };
    let (outputs, inputs) = (nodes.ty(scores)?.shape.extents(), nodes.ty(a)?.elements());
    // The same ending adds a value of every score.
    if nodes.ty(b)?.shape.extents() != &outputs[1..] {
        return None;
    }
    if outputs[0] > MOST_EXAMPLES
        || outputs[0] * outputs[1] > MOST_SCORES
        || inputs * outputs[1] > MOST_WORK
    {
        return None;
    }
    let loss = losses.node;
    let own = nodes.op::<Loss>(loss)?;
    let &Loss { cost, smoothing } = own;
    constant_of(cost).filter(|_| smoothing == 0.0)?;
    if nodes.inputs(loss) != [scores, labels] || nodes.sole_reader(losses) != Some(i) {
        return None;
    }
    let mut readers = nodes.readers(scores).iter().copied();
    let grad = readers.find(|&r| {
        nodes.op::<LossGrad>(r).is_some_and(|grad| grad.0.is(own))
            && nodes.inputs(r)[..2] == [scores, labels]
    })?;
    let upstream = nodes.inputs(grad)[2].node;
    let value = nodes.op::<Constant>(upstream)?.value;
    let mut members = vec![layer, loss, i, upstream, grad];
    let mut last = grad;
    if activation != Activation::Linear {
        last = nodes.sole_reader(nodes.first(grad))?;
        let slope = nodes.op::<ActivationSlope>(last)?;
        if slope.0 != activation || nodes.inputs(last)[1] != scores {
            return None;
        }
        members.push(last);
    }
    let counter = advance(nodes, last, step);
    members.extend(counter);
    let op = DenseLoss {
        activation,
        cost,
        upstream: value,
        metrics: measures,
        advance: counter.is_some(),
    };
    Some(Join {
        members,
        at: last,
        named: layer,
        op: Arc::new(op),
        inputs: vec![a, w, b, labels, step, metrics, guard],
        outputs: vec![nodes.first(last)],
        // Who reads `now` does not see `next` change, and nobody else reads `next`: that is
        // what `advance` makes sure of. Where it does not count, nothing changes.
        unseen: Some(step),
    })
}

/// The node that counts the step, if it may do so right behind node `last`.
///
/// [`Advance`] gives both words of the counter the number of the step to come, the fused kernel
/// only `next`; [`Gather`] and [`RowsPair`] then make up for `now`. So every program that reads the counter's
/// `now` must begin with one of these, and until the counter was to be counted nobody may ask for
/// `next`: wgrad's own ops say which word they read, others may read both.
fn advance(nodes: &Nodes, last: usize, step: Value) -> Option<usize> {
    let program = |r: usize| nodes.nodes[r].as_ref().and_then(|n| n.program);
    let gathers = |r: usize| nodes.op::<Gather>(r).is_some() || nodes.op::<RowsPair>(r).is_some();
    let next_only = |r: usize| nodes.op::<Shuffle>(r).is_some() || nodes.op::<Average>(r).is_some();
    // In the order of the graph.
    let readers = nodes.readers(step).to_vec();
    let mut first = BTreeMap::new();
    for &r in readers.iter().filter(|&&r| !next_only(r)) {
        first.entry(program(r)).or_insert(r);
    }
    let here: Vec<usize> = (readers.into_iter())
        .filter(|&r| program(r) == program(last))
        .collect();
    let counts = |r: &usize| nodes.op::<Advance>(*r).is_some();
    let advance = here.iter().copied().find(counts)?;
    let begun = first.into_values().all(gathers);
    let sees_now = |r: usize| r < advance && nodes.is_own(r) && !gathers(r) && !next_only(r);
    let mut between = here.into_iter().filter(|&r| r > last && r != advance);
    (advance > last && begun && between.all(sees_now)).then_some(advance)
}

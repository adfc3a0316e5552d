//! Convolution and pool: the way there becomes one
//! [`Conv2dPool`](crate::ops::conv2d_pool::Conv2dPool), and on the way back the image
//! between the two, zero but at the winners, is never made: who reads the pool's input
//! gradient reads the pool's own gradient and the argmax instead.

use std::sync::Arc;

use super::nodes::{Join, Nodes};
use crate::error::Result;
use crate::ops::Op;
use crate::ops::add_bias;
use crate::ops::conv2d::{Conv2d, Conv2dInputGrad, Conv2dWeightGrad};
use crate::ops::conv2d_pool::{
    Conv2dPool, Conv2dPoolInputGrad, Conv2dPoolWeightGrad, ConvPool, Update,
};
use crate::ops::max_pool2d::{MaxPool2d, MaxPool2dGrad};
use crate::ops::pointwise::{Ending, WithEnding};
use crate::ops::reduce::Reduce;

pub(super) fn fuse(nodes: &mut Nodes) -> Result<()> {
    for i in nodes.indices() {
        if let Some(join) = forward(nodes, i) {
            nodes.join(join)?;
        }
        backward(nodes, i)?;
    }
    for i in nodes.indices() {
        if let Some(join) = weights_and_bias(nodes, i) {
            nodes.join(join)?;
        }
    }
    Ok(())
}

/// The op with an ending, if there is one and it can have it.
fn with(op: impl Op, ending: Option<&Ending>) -> Option<Arc<dyn Op>> {
    let op: Arc<dyn Op> = Arc::new(op);
    match ending {
        Some(ending) => Some(Arc::new(WithEnding::of(&op, ending)?)),
        None => Some(op),
    }
}

/// `i` is the pool of a biased convolution.
fn forward(nodes: &Nodes, i: usize) -> Option<Join> {
    let (&pool, ending) = nodes.core::<MaxPool2d>(i)?;
    let (&before, rest) = nodes.inputs(i).split_first()?;
    let (&conv, bias) = nodes.core::<Conv2d>(before.node)?;
    if !bias?.is(&add_bias::expression(4)) || nodes.sole_reader(before) != Some(i) {
        return None;
    }
    Some(Join {
        members: vec![before.node, i],
        at: i,
        named: before.node,
        op: with(Conv2dPool(ConvPool { conv, pool }), ending)?,
        inputs: [nodes.inputs(before.node), rest].concat(),
        outputs: nodes.outputs(i),
        unseen: None,
    })
}

/// `i` is a pool's input gradient: its readers are given what it is made of.
fn backward(nodes: &mut Nodes, i: usize) -> Result<()> {
    let Some(&MaxPool2dGrad { pool, .. }) = nodes.op::<MaxPool2dGrad>(i) else {
        return Ok(());
    };
    let &[g, argmax] = nodes.inputs(i) else {
        return Ok(());
    };
    for reader in nodes.readers(nodes.first(i)).to_vec() {
        let inputs = nodes.inputs(reader).to_vec();
        if let Some((&Conv2dInputGrad { conv, input }, ending)) = nodes.core(reader) {
            let op = Conv2dPoolInputGrad {
                conv_pool: ConvPool { conv, pool },
                input,
            };
            if let Some(op) = with(op, ending) {
                nodes.rewrite(reader, op, [&[g, argmax], &inputs[1..]].concat())?;
            }
        } else if let Some(Conv2dWeightGrad {
            conv,
            kernel,
            ending,
        }) = nodes.op(reader)
        {
            let (conv, kernel) = (*conv, *kernel);
            let Some(ending) = ending.as_ref().map_or(Some(None), |ending| {
                ending.beside(Conv2dPoolWeightGrad::BINDINGS).map(Some)
            }) else {
                continue;
            };
            let op = Conv2dPoolWeightGrad {
                conv_pool: ConvPool { conv, pool },
                kernel,
                update: ending.map_or(Update::Store, Update::Weights),
            };
            let inputs = [&[inputs[0], g, argmax], &inputs[2..]].concat();
            nodes.rewrite(reader, Arc::new(op), inputs)?;
        } else if let Some(reduce) = nodes.op::<Reduce>(reader)
            && reduce.axis == Some(1)
        {
            let reduce = reduce.clone();
            // Zeros between the winners add nothing.
            nodes.rewrite(reader, Arc::new(reduce), [&[g], &inputs[1..]].concat())?;
        }
    }
    Ok(())
}

/// `i` updates the filters, and another node the bias from the same gradient.
fn weights_and_bias(nodes: &Nodes, i: usize) -> Option<Join> {
    let weights = nodes.op::<Conv2dPoolWeightGrad>(i)?;
    let Update::Weights(ending) = &weights.update else {
        return None;
    };
    let [x, g, argmax, own @ ..] = nodes.inputs(i) else {
        return None;
    };
    let (bias, sum) = nodes.bias_update(*g)?;
    let mut inputs = vec![*x, *g, *argmax];
    let updates = [(ending, own), (sum, &nodes.inputs(bias)[1..])];
    let updates = nodes.both(&mut inputs, updates)?;
    Some(Join {
        members: vec![i, bias],
        at: i,
        named: i,
        op: Arc::new(weights.with_both(updates)?),
        inputs,
        outputs: vec![],
        unseen: None,
    })
}

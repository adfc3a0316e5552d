//! A dense layer's way back: ∂W and ∂b with their updates and, where it is wanted, ∂x
//! with the mask and the slope behind it, become one
//! [`DenseGrad`](crate::ops::dense_grad::DenseGrad).

use std::sync::Arc;

use super::nodes::{Join, Nodes};
use crate::error::Result;
use crate::ops::Value;
use crate::ops::activation::{Activation, ActivationSlope};
use crate::ops::dense_grad::{DenseGrad, MOST_COLUMNS, MOST_EXAMPLES};
use crate::ops::dropout::Dropout;
use crate::ops::matmul::{End, Matmul};
use crate::ops::reduce::Reduce;
use crate::ops::reshape::Reshape;
use crate::ops::sgd::Sgd;

pub(super) fn fuse(nodes: &mut Nodes) -> Result<()> {
    for i in nodes.indices() {
        if let Some(join) = recognise(nodes, i) {
            nodes.join(join)?;
        }
    }
    Ok(())
}

/// The way from ∂x = g W to the gradient before the activation that made x.
struct Back {
    members: Vec<usize>,
    activation: Activation,
    scale: f64,
}

fn recognise(nodes: &Nodes, i: usize) -> Option<Join> {
    let &Matmul {
        trans_a: true,
        trans_b: false,
        end: End::Sgd(sgd),
    } = nodes.op::<Matmul>(i)?
    else {
        return None;
    };
    let &[g, x, w, hyper, step] = nodes.inputs(i) else {
        return None;
    };
    let columns = nodes.ty(x)?.shape.extents()[1];
    if sgd.momentum || nodes.ty(g)?.shape.extents()[0] > MOST_EXAMPLES || columns > MOST_COLUMNS {
        return None;
    }
    let readers = nodes.readers(g);
    let bias_update = Sgd {
        decay: false,
        ..sgd
    };
    let bias = readers.iter().copied().find(|&r| {
        nodes.op::<Reduce>(r).is_some_and(|reduce| {
            reduce.axis == Some(1) && reduce.factor == 1.0 && reduce.update == Some(bias_update)
        }) && matches!(nodes.inputs(r), [_, _, h, s] if [*h, *s] == [hyper, step])
    })?;
    let b = nodes.inputs(bias)[1];
    // ∂x is made of the weights before their update.
    let before = readers.iter().filter(|&&r| r < i);
    let back = before.into_iter().find_map(|&r| follow(nodes, r, x, w));
    let (activation, scale) = back
        .as_ref()
        .map_or((Activation::Linear, 1.0), |b| (b.activation, b.scale));
    let last = back.as_ref().and_then(|b| b.members.last().copied());
    let mut members = vec![i, bias];
    let input_gradient = back.is_some();
    members.extend(back.into_iter().flat_map(|b| b.members));
    let op = DenseGrad {
        activation,
        scale,
        input_gradient,
        sgd,
    };
    Some(Join {
        members,
        at: last.unwrap_or(i),
        named: i,
        op: Arc::new(op),
        inputs: vec![x, g, w, b, hyper, step],
        outputs: last.map(|last| nodes.first(last)).into_iter().collect(),
        unseen: None,
    })
}

/// If node `r` is ∂x = g W: it and what follows it, as far as that can be computed from x.
fn follow(nodes: &Nodes, r: usize, x: Value, w: Value) -> Option<Back> {
    let product = nodes.op::<Matmul>(r)?;
    if product.trans_a || product.trans_b || nodes.inputs(r)[1] != w {
        return None;
    }
    let bare = Back {
        members: vec![r],
        activation: Activation::Linear,
        scale: 1.0,
    };
    match product.end {
        End::Store => Some(through_mask(nodes, r, x).unwrap_or(bare)),
        End::Slope(activation) if nodes.viewed(nodes.inputs(r)[2]) == nodes.viewed(x) => {
            Some(Back { activation, ..bare })
        }
        _ => None,
    }
}

/// From ∂x through mask and views to the slope of the activation that made x.
fn through_mask(nodes: &Nodes, r: usize, x: Value) -> Option<Back> {
    let mut members = vec![r];
    let mut next = nodes.sole_reader(nodes.first(r))?;
    let mut made = nodes.viewed(x);
    let mut scale = 1.0;
    let mut masked = false;
    while nodes.op::<Reshape>(next).is_some() {
        members.push(next);
        next = nodes.sole_reader(nodes.first(next))?;
    }
    if let Some(mask) = nodes.op::<Dropout>(next) {
        // The same mask as on the way there, over what the activation gave.
        if nodes.op::<Dropout>(made.node) != Some(mask)
            || nodes.inputs(made.node)[1..] != nodes.inputs(next)[1..]
        {
            return None;
        }
        masked = true;
        if mask.rescale {
            scale = 1.0 / (1.0 - mask.p);
        }
        made = nodes.viewed(nodes.inputs(made.node)[0]);
        members.push(next);
        next = nodes.sole_reader(nodes.first(next))?;
    }
    while nodes.op::<Reshape>(next).is_some() {
        members.push(next);
        next = nodes.sole_reader(nodes.first(next))?;
    }
    let &ActivationSlope(activation) = nodes.op::<ActivationSlope>(next)?;
    let zero_slope_at_zero = matches!(activation, Activation::Relu | Activation::Sigmoid);
    if nodes.viewed(nodes.inputs(next)[1]) != made || (masked && !zero_slope_at_zero) {
        return None;
    }
    members.push(next);
    Some(Back {
        members,
        activation,
        scale,
    })
}

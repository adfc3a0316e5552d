//! A dense layer's way back: ∂W and ∂b with their updates and, where it is wanted, ∂x
//! with the mask and the slope behind it, become one
//! [`DenseGrad`](crate::ops::dense_grad::DenseGrad).

use std::sync::Arc;

use super::nodes::{Join, Nodes};
use crate::error::Result;
use crate::expr::Expr;
use crate::ops::Value;
use crate::ops::activation::{Activation, ActivationSlope};
use crate::ops::dense_grad::{DenseGrad, MOST_COLUMNS, MOST_EXAMPLES};
use crate::ops::dropout::Dropout;
use crate::ops::matmul::Matmul;
use crate::ops::pointwise::MOST_BINDINGS;
use crate::ops::pointwise::Pointwise;
use crate::ops::reshape::Reshape;

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
    let Matmul {
        trans_a: true,
        trans_b: false,
        ending: Some(ending),
    } = nodes.op::<Matmul>(i)?
    else {
        return None;
    };
    let [g, x, own @ ..] = nodes.inputs(i) else {
        return None;
    };
    let (g, x) = (*g, *x);
    let columns = nodes.ty(x)?.shape.extents()[1];
    if nodes.ty(g)?.shape.extents()[0] > MOST_EXAMPLES || columns > MOST_COLUMNS {
        return None;
    }
    let w = own[ending.updates().filter(|_| ending.is_update())?];
    let (bias, sum) = nodes.bias_update(g)?;
    let of_bias = &nodes.inputs(bias)[1..];
    let mut inputs = vec![x, g, w, of_bias[sum.updates()?]];
    let updates = nodes.both(&mut inputs, [(ending, own), (sum, of_bias)])?;
    // ∂x is made of the weights before their update.
    let mut before = nodes.readers(g).iter().filter(|&&r| r < i);
    let back = before.find_map(|&r| follow(nodes, r, x, w));
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
        updates,
    };
    if op.bindings() > MOST_BINDINGS {
        return None;
    }
    Some(Join {
        members,
        at: last.unwrap_or(i),
        named: i,
        op: Arc::new(op),
        inputs,
        outputs: last.map(|last| nodes.first(last)).into_iter().collect(),
        unseen: None,
    })
}

/// If node `r` is ∂x = g W: it and what follows it, as far as that can be computed from x.
fn follow(nodes: &Nodes, r: usize, x: Value, w: Value) -> Option<Back> {
    let product = nodes.op::<Matmul>(r)?;
    let &[_, factor, ref rest @ ..] = nodes.inputs(r) else {
        return None;
    };
    if product.trans_a || product.trans_b || factor != w {
        return None;
    }
    let bare = Back {
        members: vec![r],
        activation: Activation::Linear,
        scale: 1.0,
    };
    let Some(ending) = &product.ending else {
        return Some(through_mask(nodes, r, x, None).unwrap_or(bare));
    };
    let (g, y) = (Expr::input(0), Expr::input(1));
    let is = |expression: &Expr| ending.is(&Pointwise::new(std::slice::from_ref(expression)));
    let curved = || Activation::ALL.into_iter().skip(1);
    if let Some(activation) = curved().find(|act| is(&act.sloped_of(&g, &y))) {
        let own = nodes.viewed(rest[0]) == nodes.viewed(x);
        return own.then_some(Back { activation, ..bare });
    }
    let made = nodes.viewed(x).node;
    let mask = nodes.op::<Dropout>(made)?;
    let masked = mask.of(&g);
    if is(&masked) && rest == &nodes.inputs(made)[1..] {
        return through_mask(nodes, r, x, Some(mask));
    }
    let activation = curved().find(|act| is(&act.sloped_of(&masked, &y)))?;
    let [y, draws @ ..] = rest else {
        return None;
    };
    let own = nodes.viewed(*y) == nodes.viewed(nodes.inputs(made)[0]);
    let fits = own && draws == &nodes.inputs(made)[1..] && is_flat_at_zero(activation);
    fits.then_some(Back {
        activation,
        scale: mask.scale(),
        ..bare
    })
}

/// Whether an activation has slope 0 where its output is 0: then what a mask has left of the outputs
/// says where gradients pass.
fn is_flat_at_zero(activation: Activation) -> bool {
    matches!(activation, Activation::Relu | Activation::Sigmoid)
}

/// From ∂x through mask and views to the slope of the activation that made x; `mask` is one that the
/// product ends in already.
fn through_mask(nodes: &Nodes, r: usize, x: Value, mask: Option<&Dropout>) -> Option<Back> {
    let mut members = vec![r];
    let mut next = nodes.sole_reader(nodes.first(r))?;
    let mut made = nodes.viewed(x);
    let mut scale = 1.0;
    if let Some(mask) = mask {
        scale = mask.scale();
        made = nodes.viewed(nodes.inputs(made.node)[0]);
    }
    while nodes.op::<Reshape>(next).is_some() {
        members.push(next);
        next = nodes.sole_reader(nodes.first(next))?;
    }
    let &ActivationSlope(activation) = nodes.op::<ActivationSlope>(next)?;
    let masked = mask.is_some();
    if nodes.viewed(nodes.inputs(next)[1]) != made || (masked && !is_flat_at_zero(activation)) {
        return None;
    }
    members.push(next);
    Some(Back {
        members,
        activation,
        scale,
    })
}

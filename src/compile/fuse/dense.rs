//! A dense layer's way back: ∂W and ∂b with their updates and, where it is wanted, ∂x
//! with what stands at its end or the mask and the slope behind it, become one
//! [`DenseGrad`](crate::ops::dense_grad::DenseGrad).

use std::sync::Arc;

use super::nodes::{Join, Nodes};
use crate::error::Result;
use crate::expr::Expr;
use crate::ops::Value;
use crate::ops::activation::{Activation, ActivationSlope};
use crate::ops::dense_grad::{DenseGrad, InputGradient, MOST_COLUMNS, MOST_EXAMPLES};
use crate::ops::dropout::Dropout;
use crate::ops::matmul::Matmul;
use crate::ops::pointwise::{Ending, MOST_BINDINGS, Pointwise};
use crate::ops::reshape::Reshape;

pub(super) fn fuse(nodes: &mut Nodes) -> Result<()> {
    for i in nodes.indices() {
        if let Some(join) = recognise(nodes, i) {
            nodes.join(join)?;
        }
    }
    Ok(())
}

/// The way from ∂x = g W to what an expression makes of it.
struct Back {
    members: Vec<usize>,
    way: Way,
}

/// What stands at the end of ∂x.
enum Way {
    /// The slope of the activation that made x, behind dropout that has multiplied by a factor.
    Sloped(Activation, f64),
    /// Any expression, and what its inputs are.
    Any(Ending, Vec<Value>),
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
    let changed = |one: &Ending, own: &[Value]| -> Vec<Value> {
        one.changes().into_iter().map(|k| own[k]).collect()
    };
    let changed = [changed(ending, own), changed(sum, of_bias)].concat();
    let updates = nodes.both(&mut inputs, [(ending, own), (sum, of_bias)])?;
    // ∂x is made of the weights before their update.
    let before = nodes.readers(g).iter().copied().filter(|&r| r < i);
    let back = before.into_iter().find_map(|r| follow(nodes, r, x, w));
    let mut members = vec![i, bias];
    let mut op = DenseGrad {
        input_gradient: InputGradient::Unwanted,
        updates,
    };
    let mut last = None;
    if let Some(back) = back {
        let own = inputs.len();
        op.input_gradient = match back.way {
            Way::Sloped(activation, scale) => InputGradient::sloped(activation, scale),
            Way::Any(ending, values) => {
                let place = |v: Value| {
                    let known = inputs.iter().position(|other| *other == v);
                    known.unwrap_or_else(|| {
                        inputs.push(v);
                        inputs.len() - 1
                    })
                };
                let alone = values.iter().all(|v| !changed.contains(v));
                let places = values.into_iter().map(place).collect();
                match alone {
                    true => InputGradient::Ended(ending, places),
                    false => InputGradient::Unwanted,
                }
            }
        };
        if op.bindings() > MOST_BINDINGS || op.input_gradient == InputGradient::Unwanted {
            op.input_gradient = InputGradient::Unwanted;
            inputs.truncate(own);
        } else {
            last = back.members.last().copied();
            members.extend(back.members);
        }
    }
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
    let sloped = |activation, scale| Back {
        members: vec![r],
        way: Way::Sloped(activation, scale),
    };
    let Some(ending) = &product.ending else {
        let bare = sloped(Activation::Linear, 1.0);
        return Some(through_mask(nodes, r, x, None).unwrap_or(bare));
    };
    let (g, y) = (Expr::input(0), Expr::input(1));
    let is = |expression: &Expr| ending.is(&Pointwise::new(std::slice::from_ref(expression)));
    let mut curved = Activation::ALL.into_iter().skip(1);
    let own = |y: Value, of: Value| nodes.viewed(y) == nodes.viewed(of);
    if let Some(activation) = curved.clone().find(|act| is(&act.sloped_of(&g, &y)))
        && own(rest[0], x)
    {
        return Some(sloped(activation, 1.0));
    }
    let made = nodes.viewed(x).node;
    if let Some(mask) = nodes.op::<Dropout>(made) {
        let masked = mask.of(&g);
        let draws = &nodes.inputs(made)[1..];
        let back = if is(&masked) && rest == draws {
            through_mask(nodes, r, x, Some(mask))
        } else {
            let activation = curved.find(|act| is(&act.sloped_of(&masked, &y)));
            let fits = |act: &Activation| {
                let before = nodes.inputs(made)[0];
                is_flat_at_zero(*act) && own(rest[0], before) && &rest[1..] == draws
            };
            activation.filter(fits).map(|act| sloped(act, mask.scale()))
        };
        if back.is_some() {
            return back;
        }
    }
    let ends_here = !ending.is_update() && ending.changes().is_empty() && ending.outputs() == 1;
    ends_here.then(|| Back {
        members: vec![r],
        way: Way::Any(ending.clone(), rest.to_vec()),
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
        way: Way::Sloped(activation, scale),
    })
}

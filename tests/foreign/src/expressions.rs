//! Expressions: an activation, the gate of a recurrence and a loss. Values in f32 and f64, WGSL,
//! gradient and tolerance come from the tree.

use std::sync::Arc;

use wgrad::Result;
use wgrad::expr::Expr;
use wgrad::ops::pointwise::{Pointwise, pointwise};
use wgrad::ops::reduce::Reduce;
use wgrad::ops::{Case, Fill, Row, Tape, Value};

/// x · erf(ln(1 + eˣ)) (Nag et al. 2021).
pub fn serf(x: &Expr) -> Expr {
    x * x.softplus().erf()
}

/// [`serf`] of a value.
///
/// # Errors
/// As [`pointwise`].
pub fn serf_of(tape: &mut dyn Tape, x: Value) -> Result<Value> {
    pointwise(tape, [x], |[x]| serf(&x))
}

/// What a minGRU (Feng et al. 2024) makes of two products of its input and their biases: with
/// z = σ(gate), the factors 1 − z of a recurrence and its terms z ⊙ serf(candidate).
fn gated_parts() -> [Expr; 2] {
    let gate = Expr::input(0) + Expr::input(1);
    let candidate = Expr::input(2) + Expr::input(3);
    let z = gate.sigmoid();
    [1.0 - &z, &z * serf(&candidate)]
}

/// A minGRU's factors and terms of gate, its bias, candidate and its bias: two outputs of one
/// kernel, which computes z once.
pub fn gated() -> Pointwise {
    Pointwise::new(&gated_parts())
}

/// Huber's loss of a difference (Huber 1964): half its square near 0, and from `corner` on as steep
/// as there.
pub fn huber(difference: &Expr, corner: f64) -> Expr {
    let size = difference.abs();
    let near = size.le(corner);
    near.select(difference.square() * 0.5, (&size - 0.5 * corner) * corner)
}

/// The mean of [`huber`] over all elements: a `[1]`, where gradients begin.
///
/// # Errors
/// What is said of two shapes that do not fit together.
pub fn huber_loss(tape: &mut dyn Tape, found: Value, wanted: Value, corner: f64) -> Result<Value> {
    let each = pointwise(tape, [found, wanted], |[found, wanted]| {
        huber(&(found - wanted), corner)
    })?;
    let mean = 1.0 / tape.ty(each)?.elements() as f64;
    tape.op1(Arc::new(Reduce::new(None, mean)), &[each])
}

fn cases() -> Vec<Case> {
    let wide = Fill::Uniform(-6.0, 6.0);
    let x = Expr::input(0);
    let mut cases = Vec::new();
    for extents in [&[1][..], &[7, 9], &[4, 4, 8]] {
        let serf = Pointwise::new(&[serf(&x)]);
        cases.push(Case::new(serf, 1).float(extents, wide));
        let huber = Pointwise::new(&[huber(&(&x - Expr::input(1)), 1.0)]);
        cases.push(
            Case::new(huber, 1)
                .float(extents, wide)
                .float(extents, wide),
        );
    }
    // Gradients are checked through the first output: each is it once.
    let [factors, terms] = gated_parts();
    for gated in [gated(), Pointwise::new(&[terms, factors])] {
        let case = Case::new(gated, 1).float(&[5, 3], wide).float(&[3], wide);
        cases.push(case.float(&[5, 3], wide).float(&[3], wide));
    }
    cases
}

/// What the harness needs to prove them.
pub static ROW: Row = Row {
    stem: "expressions",
    kernels: &[],
    cases,
};

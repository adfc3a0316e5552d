//! The endings that every core is tested with.

use std::sync::Arc;

use super::{Ending, WithEnding};
use crate::expr::{Condition, Expr};
use crate::ops::pointwise::Pointwise;
use crate::ops::{Case, Fill, Op};
use crate::rng::streams::USER;

/// Makes an expression for elements of these extents, and adds its inputs to a case.
type Make = fn(Case, &[usize]) -> (Pointwise, Case);

/// A case of a core, whose bare case is given, with an expression at its end: `element` are the
/// extents of what it makes. There are four expressions, one for each `turn`, so that a core's shapes
/// meet all.
pub(crate) fn ended_case(
    bare: &Case,
    element: &[usize],
    turn: usize,
    with: impl Fn(Ending) -> Arc<dyn Op>,
) -> Case {
    let all: [Make; 4] = [activated, updated, masked, remembered];
    let (expression, mut case) = all[turn % 4](bare.clone().forward_only(), element);
    case.op = with(Ending::new(expression));
    case
}

/// The same of a core that has a port of its own ([`Op::port`]).
pub(crate) fn wrapped_case(bare: &Case, turn: usize) -> Case {
    let types: Vec<_> = bare.inputs.iter().map(|given| given.ty.clone()).collect();
    let made = bare.op.infer(&types).unwrap_or_default();
    let element = made.first().map_or(&[][..], |ty| ty.shape.extents());
    ended_case(bare, element, turn, |ending| {
        match WithEnding::of(&bare.op, &ending) {
            Some(op) => Arc::new(op),
            // With inputs that it does not have: no test passes it.
            None => bare.op.clone(),
        }
    })
}

const UNIFORM: Fill = Fill::Uniform(-1.0, 1.0);

fn input(k: usize) -> Expr {
    Expr::input(k)
}

/// A broadcast bias, an activation that wants more than arithmetic, a second output beside.
fn activated(case: Case, element: &[usize]) -> (Pointwise, Case) {
    let x = input(0) + input(1);
    let sloped = x.gt(0.0).select(input(2), input(2) * 0.25);
    let expression = Pointwise::new(&[x.sigmoid(), sloped]);
    let bias = [element[element.len() - 1]];
    (
        expression,
        case.fixed(&bias, UNIFORM).fixed(element, UNIFORM),
    )
}

/// A random mask by place of use.
fn masked(case: Case, _: &[usize]) -> (Pointwise, Case) {
    let kept = Condition::chance(USER + 3, 0.7).select(input(0) / 0.7, 0.0);
    let case = case.u32(&[4], Fill::Keys).u32(&[2], Fill::Pair(9, 4));
    (Pointwise::new(&[kept]), case)
}

/// The update of a parameter: decay, and a rate from a table by the step.
fn updated(case: Case, element: &[usize]) -> (Pointwise, Case) {
    let (gradient, parameter) = (input(0), input(1));
    let rate = Expr::at(2, Expr::step() / 3.0 + 1.0);
    let slope = gradient + &parameter * Expr::at(2, 0.0) + parameter.sign() * 0.125;
    let expression = Pointwise::new(&[parameter - rate * slope]).updating(0, 1);
    let case = case.fixed(element, UNIFORM);
    // Past the end of the table, so that the last rate must hold on.
    let case = case.fixed(&[4], Fill::Uniform(0.0, 1.0));
    (expression, case.u32(&[2], Fill::Pair(1, 17)))
}

/// The update of a parameter by what is remembered of its gradients, twice in one buffer.
fn remembered(case: Case, element: &[usize]) -> (Pointwise, Case) {
    let (gradient, parameter) = (input(0), input(1));
    let mean = input(2) * 0.75 + &gradient * 0.25;
    let square = input(3) * 0.5 + gradient.square() * 0.5;
    let corrected = &mean / -((Expr::step() + 1.0) * 0.75f64.ln()).expm1();
    let value = parameter - corrected * 0.1 / (square.sqrt() + 0.5);
    let expression = Pointwise::new(&[value, mean, square]);
    let expression = (0..3).fold(expression, |e, k| e.updating(k, k + 1));
    let states = [&[2][..], element].concat();
    let case = case.fixed(element, UNIFORM);
    let case = case.fixed(&states, Fill::Uniform(0.0, 1.0));
    (
        expression.with_planes(2, 2),
        case.u32(&[2], Fill::Pair(1, 2)),
    )
}

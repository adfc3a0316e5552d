//! The loss of a mini-batch in a graph, its gradients, and what is kept and added up to be read.

use std::any::Any;
use std::sync::Arc;

use super::loss::Each;
use crate::error::{Error, Result};
use crate::expr::Expr;
use crate::graph::{self, Graph, Handle};
use crate::model::{Pass, Scope, Variables};
use crate::ops::dense_loss::{MOST_EXAMPLES, MOST_SCORES};
use crate::ops::pointwise::{Pointwise, pointwise};
use crate::ops::reduce::Reduce;
use crate::ops::reduction::{Kind, Reduction};
use crate::ops::{Loss as ClassLoss, Tape, Value};
use crate::optim::Update;
use crate::shape::Type;

/// Streams of losses and metrics begin behind those of layers.
pub(super) const LOSS_STREAMS: u32 = 1 << 15;

/// The loss of a mini-batch of `n` examples, and its gradient with respect to `wrt`, as an update takes it.
pub(super) struct Cost {
    /// `[1]`.
    pub mean: Value,
    pub gradients: Vec<Option<Value>>,
}

pub(super) fn cost(
    graph: &mut Graph,
    terms: &[(f64, Each)],
    n: usize,
    wrt: &[Value],
    update: &Update,
) -> Result<Cost> {
    graph.label("loss forward");
    if let Some(each) = uncounted(graph, terms)? {
        let mean = graph.op1(Arc::new(Reduce::new(None, 1.0 / n as f64)), &[each])?;
        graph.label("loss backward");
        let seed = update.seed(graph, &[n], 1.0 / n as f64)?;
        let gradients = graph.gradients(each, seed, wrt)?;
        return Ok(Cost { mean, gradients });
    }
    let mean = mean_of_terms(graph, terms, n)?;
    graph.label("loss backward");
    let seed = update.seed(graph, &[1], 1.0)?;
    let gradients = graph.gradients(mean, seed, wrt)?;
    Ok(Cost { mean, gradients })
}

/// A weighted sum.
pub(super) fn weighted(
    graph: &mut Graph,
    parts: impl Iterator<Item = (f64, Value)>,
) -> Result<Value> {
    let mut total = None;
    for (weight, value) in parts {
        total = Some(match total {
            None if weight == 1.0 => value,
            None => pointwise(graph, [value], |[x]| x * weight)?,
            Some(total) => pointwise(graph, [total, value], |[t, x]| t + x * weight)?,
        });
    }
    total.ok_or_else(|| Error::setting("loss", "no term", "one or more"))
}

/// Scores `[N, K]`, losses `[N]` and labels `[N]` of a loss that is a cost of classes and nothing else.
pub(super) fn of_classes(graph: &Graph, terms: &[(f64, Each)]) -> Result<Option<[Value; 3]>> {
    let &[(1.0, Each { sums, counts: None })] = terms else {
        return Ok(None);
    };
    let node = &graph.nodes()[sums.node];
    let graph::Kind::Op(op) = &node.kind else {
        return Ok(None);
    };
    let op: &dyn Any = &**op;
    let plain = |loss: &ClassLoss| loss.smoothing == 0.0;
    let (true, &[scores, labels]) = (op.downcast_ref().is_some_and(plain), &node.inputs[..]) else {
        return Ok(None);
    };
    Ok(Some([scores, sums, labels]))
}

/// Whether scores are few enough for one workgroup to look through.
pub(super) fn are_few(graph: &Graph, scores: Value) -> Result<bool> {
    let [n, k] = graph.ty(scores)?.shape.axes("scores", "[N, K]")?;
    Ok(n <= MOST_EXAMPLES && n * k <= MOST_SCORES)
}

/// The loss `[N]` of each example, where every example counts 1.
fn uncounted(graph: &mut Graph, terms: &[(f64, Each)]) -> Result<Option<Value>> {
    if terms.iter().any(|(_, each)| each.counts.is_some()) {
        return Ok(None);
    }
    weighted(graph, terms.iter().map(|(w, each)| (*w, each.sums))).map(Some)
}

/// The mean loss `[1]` of a mini-batch of `n` examples.
pub(super) fn mean_of_terms(graph: &mut Graph, terms: &[(f64, Each)], n: usize) -> Result<Value> {
    if let Some(each) = uncounted(graph, terms)? {
        return graph.op1(Arc::new(Reduce::new(None, 1.0 / n as f64)), &[each]);
    }
    let mut means = Vec::new();
    for (weight, each) in terms {
        let total = graph.op1(Arc::new(Reduce::new(None, 1.0)), &[each.sums])?;
        let mean = match each.counts {
            None => pointwise(graph, [total], |[t]| t * (1.0 / n as f64))?,
            Some(counts) => {
                let counts = graph.op1(Arc::new(Reduce::new(None, 1.0)), &[counts])?;
                pointwise(graph, [total, counts], |[t, c]| t / c)?
            }
        };
        means.push((*weight, mean));
    }
    weighted(graph, means.into_iter())
}

/// Keeps a value to be read; one that is a variable or kept already is copied to be one of its own.
pub(super) fn output(graph: &mut Graph, name: &str, value: Value) -> Result<Handle<f32>> {
    if let Ok(handle) = graph.output::<f32>(name, value) {
        return Ok(handle);
    }
    let copy = pointwise(graph, [value], |[x]| x * 1.0)?;
    graph.output(name, copy)
}

/// Keeps the losses of the last `n` steps: a variable `[n]` in which a step's stands at its number
/// modulo n.
pub(super) fn record(
    graph: &mut Graph,
    variables: &mut Variables,
    n: usize,
    mean: Value,
    step: Value,
) -> Result<Value> {
    graph.label("losses");
    let losses = graph.variable("losses", Type::f32("losses", &[n])?)?;
    let mut streams = LOSS_STREAMS;
    let mut scope = Scope::new(graph, variables, Pass::Evaluation, &mut streams);
    let places = scope.constant(&[n], (0..n).map(|k| k as f32).collect())?;
    let now = Expr::step() - Expr::step().quotient(n as f64) * n as f64;
    let kept = Expr::input(1)
        .equals(now)
        .select(Expr::input(2), Expr::input(0));
    let op = Pointwise::new(&[kept]).updating(0, 0);
    graph.op(Arc::new(op), &[losses, places, mean, step])?;
    Ok(losses)
}

/// Adds the numbers of a mini-batch's examples, `[N]` or `[N, S]`, times 1 or 0 for each, to totals
/// `[S]`.
pub(super) fn add_up(
    scope: &mut Scope<'_>,
    each: Value,
    counted: Value,
    totals: Value,
) -> Result<()> {
    let extents = scope.extents(each)?;
    let (n, s) = (extents[0], extents[1..].iter().product::<usize>());
    let each = scope.reshape(each, &[n, s])?;
    let counted = scope.reshape(counted, &[n, 1])?;
    // What does not count may be anything, also NaN.
    let each = pointwise(scope, [each, counted], |[x, c]| c.gt(0.5).select(x, 0.0))?;
    let sums = scope.op1(Arc::new(Reduction::new(Kind::Sum, &[0])), &[each])?;
    let add = Pointwise::new(&[Expr::input(0) + Expr::input(1)]).updating(0, 0);
    scope.op(Arc::new(add), &[totals, sums])?;
    Ok(())
}

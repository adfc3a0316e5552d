//! The norm of all gradients together, by which updates are clipped and steps with a loss scale judged.

use std::sync::Arc;

use crate::error::{Error, Result};
use crate::expr::{Condition, Expr};
use crate::graph::Graph;
use crate::ops::pointwise::pointwise;
use crate::ops::reduction::{Kind, Reduction};
use crate::ops::slice::Slice;
use crate::ops::split::MOST_PARTS;
use crate::ops::squares::Squares;
use crate::ops::{Tape, Value, cat};

/// Entries of a table of hyperparameters that say what is held: 1 where it is, else 0. A parameter has one; the norm of
/// all gradients reads one for each sum of squares that it is made of ([`Squares`]), `from` being the first.
#[derive(Clone, Copy, Debug)]
pub(super) struct Held {
    pub table: Value,
    /// The entry, or the first of several.
    pub from: usize,
}

impl Held {
    /// Whether the parameter is held, with the table as input `table`.
    pub fn is(self, table: usize) -> Condition {
        Expr::at(table, self.from as f64).gt(0.5)
    }
}

/// The norm `[1]` of all gradients together, without what is held.
pub(super) fn norm(graph: &mut Graph, gradients: &[Value], held: Option<Held>) -> Result<Value> {
    graph.label("gradient norm");
    let sums = gradients.chunks(MOST_PARTS);
    let sums: Vec<Value> = sums
        .map(|some| graph.op1(Arc::new(Squares), some))
        .collect::<Result<_>>()?;
    if sums.is_empty() {
        let found = "no gradient";
        return Err(Error::setting("clipping by norm", found, "one or more"));
    }
    let mut all = cat(graph, &sums, 0)?;
    if let Some(Held { table, from }) = held {
        let held = Slice {
            axis: 0,
            start: from,
            extent: graph.ty(all)?.elements(),
            step: 1,
        };
        let held = graph.op1(Arc::new(held), &[table])?;
        // What is infinite and held counts nothing, either.
        all = pointwise(graph, [all, held], |[sum, held]| {
            held.gt(0.5).select(0.0, sum)
        })?;
    }
    let sum = match graph.ty(all)?.elements() {
        1 => all,
        _ => graph.op1(Arc::new(Reduction::new(Kind::Sum, &[0])), &[all])?,
    };
    pointwise(graph, [sum], |[sum]| sum.sqrt())
}

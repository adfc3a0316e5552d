//! Derivatives of expressions, in as few launches as an adapter's bindings allow.

use super::{MOST_BINDINGS, Pointwise, Source};
use crate::error::Result;
use crate::expr::{Form, Plane, reverse};
use crate::ops::{Tape, Value};

/// What the derivatives of an op are computed from.
pub(super) struct Derivatives<'a> {
    pub(super) op: &'a Pointwise,
    /// The op's inputs, the gradients that came back, its outputs.
    pub(super) values: Vec<(Value, Plane)>,
    /// The outputs that gradients came back for.
    pub(super) of: Vec<usize>,
    /// The op's keys and step, or what there is of them.
    pub(super) tail: &'a [Value],
    /// The results' extents.
    pub(super) extents: Vec<usize>,
}

impl Derivatives<'_> {
    /// The gradient with respect to each of the inputs `wanted`, of the results' extents. Inputs with
    /// the same one, as the terms of a sum have, share it; one that is a gradient that came back is no launch. What one
    /// launch cannot bind is done in two.
    pub(super) fn write(&self, tape: &mut dyn Tape, wanted: &[u32]) -> Result<Vec<Option<Value>>> {
        let (program, there) = reverse(&self.op.program, self.op.inputs(), &self.of, wanted);
        let (program, places) = program.distinct();
        if places.is_empty() {
            return Ok(vec![None; wanted.len()]);
        }
        let outputs = program.outputs().iter();
        let passed: Vec<Option<Value>> = outputs
            .map(|&line| self.passed(tape, program.forms()[line as usize]))
            .collect::<Result<_>>()?;
        let program = program.only(|place| passed[place].is_none());
        let derivative = Pointwise {
            sources: (0..self.values.len()).map(Source::whole).collect(),
            over: vec![None; program.outputs().len()],
            extents: None,
            program,
            most: MOST_BINDINGS,
        };
        if derivative.bindings(&self.values) > MOST_BINDINGS && wanted.len() > 1 {
            let (first, rest) = wanted.split_at(wanted.len() / 2);
            let mut gradients = self.write(tape, first)?;
            gradients.extend(self.write(tape, rest)?);
            return Ok(gradients);
        }
        let made = match passed.iter().all(Option::is_some) {
            true => vec![],
            false => derivative.write(tape, &self.values, self.tail, &self.extents)?,
        };
        let mut made = made.into_iter();
        let all: Vec<Option<Value>> = passed
            .into_iter()
            .map(|v| v.or_else(|| made.next()))
            .collect();
        let mut places = places.into_iter();
        let gradient = |there: bool| there.then(|| places.next()).flatten().and_then(|k| all[k]);
        Ok(there.into_iter().map(gradient).collect())
    }

    /// The value that a derivative is, where it is one as it stands.
    fn passed(&self, tape: &dyn Tape, form: Form<u32>) -> Result<Option<Value>> {
        let Form::Input(k) = form else {
            return Ok(None);
        };
        let (value, plane) = self.values[k as usize];
        let whole = plane == Plane::WHOLE && tape.ty(value)?.shape.extents() == self.extents;
        Ok(whole.then_some(value))
    }
}

impl Pointwise {
    /// What [`Pointwise::write`] binds of these values and beside them.
    fn bindings(&self, values: &[(Value, Plane)]) -> usize {
        let read = self.program.inputs().into_iter();
        let mut read: Vec<Value> = read.map(|k| values[k as usize].0).collect();
        read.sort_unstable();
        read.dedup();
        let extra = usize::from(self.wants_keys()) + usize::from(self.wants_step());
        read.len() + self.over.len() + extra
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::expr::Expr;
    use crate::graph::{Graph, Kind};
    use crate::shape::Type;

    /// Launches and values of the gradient of an expression of `inputs` inputs with respect to all
    /// of them.
    fn launches(inputs: usize, f: impl Fn(Expr, Expr) -> Expr) -> (usize, usize) {
        let mut graph = Graph::new();
        let variable = |k: usize| graph.variable(&format!("x{k}"), Type::f32("x", &[5])?);
        let values: Vec<Value> = (0..inputs).map(variable).collect::<Result<_>>().unwrap();
        let upstream = graph.variable("upstream", Type::f32("upstream", &[5]).unwrap());
        graph.begin("run");
        let expression = (1..inputs).map(Expr::input).fold(Expr::input(0), f);
        let op = Arc::new(Pointwise::new(&[expression]));
        let y = graph.op1(op, &values).unwrap();
        let gradients = graph.gradients(y, upstream.unwrap(), &values).unwrap();
        let mut values: Vec<Value> = gradients.into_iter().map(Option::unwrap).collect();
        values.dedup();
        let ops = graph.nodes().iter();
        let ops = ops.filter(|node| matches!(node.kind, Kind::Op(_)));
        (ops.count() - 1, values.len())
    }

    #[test]
    fn a_gradient_takes_as_many_launches_as_bindings_want() {
        // All terms have the same one, which is what came back.
        assert_eq!(launches(7, |a, b| a + b), (0, 1));
        assert_eq!(launches(7, |a, b| a - b), (1, 2));
        // Three factors, what comes back and three gradients.
        assert_eq!(launches(3, |a, b| a * b), (1, 3));
        assert_eq!(launches(4, |a, b| a * b), (2, 4));
        assert_eq!(launches(6, |a, b| a * b), (6, 6));
    }

    #[test]
    fn a_gradient_that_no_launch_can_bind_is_refused() {
        let mut graph = Graph::new();
        let variable = |k: usize| graph.variable(&format!("x{k}"), Type::f32("x", &[5])?);
        let mut values: Vec<Value> = (0..8).map(variable).collect::<Result<_>>().unwrap();
        let upstream = values.pop().unwrap();
        graph.begin("run");
        let product = (1..7).map(Expr::input).fold(Expr::input(0), |a, b| a * b);
        let product = Arc::new(Pointwise::new(&[product.sin()]));
        let y = graph.op1(product, &values).unwrap();
        let refused = graph.gradients(y, upstream, &values).unwrap_err();
        assert!(refused.to_string().contains("at most 8"), "{refused}");
    }
}

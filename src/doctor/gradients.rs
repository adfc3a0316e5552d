//! Gradient rules against central differences.

use std::sync::Arc;

use super::Comparison;
use super::harness::{fill, words};
use crate::compile::{Options, compile};
use crate::error::{Error, Result};
use crate::exec::Executor;
use crate::exec::cpu::{Cpu, Implementation};
use crate::graph::Graph;
use crate::ops::activation::{Activate, Activation};
use crate::ops::{Case, Row, Tape, Value};
use crate::plan::Limits;
use crate::rng::uniform;

/// How far an element is moved to either side.
const STEP: f64 = 1e-5;

/// What a slope may be off by, over 1 + its size. Truncation is of order h² times a third
/// derivative, cancellation of order 1e-16/h: both near 1e-10.
const ALLOWED: f64 = 1e-7;

/// Holds the gradient rule of an op against central differences, on every case with an input that
/// is differentiated ([`Case::float`]): each element of each such input, in f64.
///
/// The op stands mid-graph, so that nothing it gets or gives is special: such inputs come out of a
/// tanh, output 0 goes into a sigmoid, and the gradient that comes back is random. Its other
/// outputs have no part in it.
///
/// A rule that is wrong is no error but a [`Comparison`] that fails: its buffers are the inputs
/// that were differentiated. There are none where no case has any, so hold their number too.
///
/// ```
/// use wgrad::doctor::gradients;
/// use wgrad::ops::pointwise::Pointwise;
/// use wgrad::ops::{Case, Fill, Row};
/// use wgrad::expr::Expr;
///
/// fn cases() -> Vec<Case> {
///     let ratio = Expr::input(0) / (Expr::input(1).square() + 1.0);
///     let x = Fill::Uniform(-1.0, 1.0);
///     vec![Case::new(Pointwise::new(&[ratio]), 1).float(&[3, 5], x).float(&[5], x)]
/// }
/// let found = gradients(&Row { stem: "ratio", kernels: &[], cases })?;
/// assert_eq!((found.buffers, found.failure), (2, None));
/// # Ok::<(), wgrad::Error>(())
/// ```
///
/// # Errors
/// What the op says of its inputs, and [`Error::Setting`] for an op without a gradient rule.
pub fn gradients(row: &Row) -> Result<Comparison> {
    let mut all = Comparison::default();
    for case in (row.cases)() {
        if case.inputs.iter().any(|given| given.differentiate) {
            all.merge(Middle::new(&case)?.compared(&case)?);
        }
    }
    Ok(all)
}

/// A case mid-graph.
struct Middle {
    cpu: Cpu<f64>,
    /// Inputs that are differentiated, and whether they have a gradient.
    variables: Vec<(usize, bool)>,
    upstream: Vec<f64>,
}

impl Middle {
    fn new(case: &Case) -> Result<Self> {
        let mut graph = Graph::new();
        let given = case.inputs.iter().enumerate();
        let inputs = given.map(|(i, g)| graph.variable(&input(i), g.ty.clone()));
        let inputs: Vec<Value> = inputs.collect::<Result<_>>()?;
        let types: Vec<_> = case.inputs.iter().map(|g| g.ty.clone()).collect();
        let name = case.op.name();
        let Some(output) = case.op.infer(&types)?.into_iter().next() else {
            let wanted = "an op with an output, or a case that is forward_only";
            return Err(Error::shape(name, "no output", wanted));
        };
        let upstream = graph.variable("upstream", output)?;
        graph.begin("run");
        let (mut before, mut wanted, mut variables) = (Vec::new(), Vec::new(), Vec::new());
        for (i, (&value, given)) in inputs.iter().zip(&case.inputs).enumerate() {
            if given.differentiate {
                variables.push((i, true));
                wanted.push(value);
                let tanh = Arc::new(Activate(Activation::Tanh));
                before.push(graph.op1(tanh, &[value])?);
            } else {
                before.push(value);
            }
        }
        let y = graph.op1(Arc::clone(&case.op), &before)?;
        let cost = graph.op1(Arc::new(Activate(Activation::Sigmoid)), &[y])?;
        graph.result("cost", cost)?;
        let found = graph.gradients(cost, upstream, &wanted)?;
        for ((i, there), gradient) in variables.iter_mut().zip(found) {
            match gradient {
                Some(gradient) => graph.result(&format!("gradient {i}"), gradient)?,
                None => *there = false,
            }
        }
        let options = Options {
            replicas: 1,
            fuse: true,
            limits: Limits::default(),
        };
        let mut cpu = Cpu::new(compile(&graph, &options)?, Implementation::Reference)?;
        for i in 0..inputs.len() {
            cpu.write(at(&cpu, &input(i))?, &fill(case, i, 1))?;
        }
        let place = at(&cpu, "upstream")?;
        let words = words(99, cpu.plan().buffers[place].elements).into_iter();
        let upstream: Vec<f64> = words.map(|w| f64::from(uniform(w)) * 2.0 - 1.0).collect();
        floats(&mut cpu, place)?.copy_from_slice(&upstream);
        Ok(Self {
            cpu,
            variables,
            upstream,
        })
    }

    /// The cost: what the upstream gradient is the slope of.
    fn cost(&mut self) -> Result<f64> {
        self.cpu.run("run", 1)?;
        let cost = at(&self.cpu, "cost")?;
        let cost = floats(&mut self.cpu, cost)?;
        Ok(cost.iter().zip(&self.upstream).map(|(c, u)| c * u).sum())
    }

    fn compared(mut self, case: &Case) -> Result<Comparison> {
        let mut all = Comparison::default();
        for (variable, there) in self.variables.clone() {
            // The run before this one was beside the point.
            self.cost()?;
            let x = at(&self.cpu, &input(variable))?;
            let elements = self.cpu.plan().buffers[x].elements;
            // No gradient says that nothing depends on the input.
            let gradient = match there {
                true => {
                    let gradient = at(&self.cpu, &format!("gradient {variable}"))?;
                    floats(&mut self.cpu, gradient)?.to_vec()
                }
                false => vec![0.0; elements],
            };
            let mut one = Comparison {
                buffers: 1,
                ..Comparison::default()
            };
            let (mut off2, mut norm2) = (0.0, 0.0);
            for (i, found) in gradient.into_iter().enumerate() {
                let slope = self.slope(x, i)?;
                let off = (slope - found).abs();
                let ratio = match off.is_nan() {
                    true => f64::INFINITY,
                    false => off / (ALLOWED * (1.0 + slope.abs())),
                };
                one.worst = one.worst.max(ratio);
                if ratio > 1.0 && one.failure.is_none() {
                    let found = match there {
                        true => found.to_string(),
                        false => "missing".into(),
                    };
                    one.failure = Some(format!(
                        "the gradient of input {variable}[{i}] is {found}, the central \
                         difference {slope}; {case}"
                    ));
                }
                off2 += off * off;
                norm2 += slope * slope;
            }
            if norm2 > 0.0 {
                one.norm = (off2 / norm2).sqrt();
            }
            all.merge(one);
        }
        Ok(all)
    }

    /// The central difference of the cost along one element.
    fn slope(&mut self, buffer: usize, i: usize) -> Result<f64> {
        let x = floats(&mut self.cpu, buffer)?[i];
        let mut costs = [x + STEP, x - STEP];
        for cost in &mut costs {
            floats(&mut self.cpu, buffer)?[i] = *cost;
            *cost = self.cost()?;
        }
        floats(&mut self.cpu, buffer)?[i] = x;
        Ok((costs[0] - costs[1]) / (2.0 * STEP))
    }
}

fn input(i: usize) -> String {
    format!("input {i}")
}

/// The buffer of that name.
fn at(cpu: &Cpu<f64>, name: &str) -> Result<usize> {
    let found = cpu.plan().state(name);
    found.ok_or_else(|| Error::setting("gradients", name, "a variable of the plan"))
}

/// What a buffer holds.
fn floats(cpu: &mut Cpu<f64>, buffer: usize) -> Result<&mut [f64]> {
    let found = cpu.values_mut(0, buffer);
    found.ok_or_else(|| Error::setting("gradients", buffer, "a buffer of floats of a replica"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::scale::Scale;
    use crate::ops::{Backward, Fill, Lowering, Op};
    use crate::shape::Type;

    /// The same under the same shape, with a rule that gives so many times the gradient that comes
    /// back: one is right, `None` is a rule that says nothing.
    #[derive(Debug)]
    struct Same {
        times: Option<f64>,
        outputs: usize,
    }

    impl Op for Same {
        fn name(&self) -> &'static str {
            "same"
        }

        fn infer(&self, inputs: &[Type]) -> Result<Vec<Type>> {
            Ok(vec![inputs[0].clone(); self.outputs])
        }

        fn lower(&self, _: &[Type], _: &[Type]) -> Result<Lowering> {
            Ok(Lowering::View)
        }

        fn gradient(&self, b: &mut Backward<'_>) -> Result<Vec<Option<Value>>> {
            let scaled = |times| b.tape.op1(Arc::new(Scale(times)), &[b.upstream]);
            Ok(vec![self.times.map(scaled).transpose()?])
        }
    }

    fn case(times: Option<f64>, outputs: usize) -> Case {
        let x = Fill::Uniform(-1.0, 1.0);
        Case::new(Same { times, outputs }, 1).float(&[3], x)
    }

    fn row(cases: fn() -> Vec<Case>) -> Row {
        Row {
            stem: "same",
            kernels: &[],
            cases,
        }
    }

    fn failure(cases: fn() -> Vec<Case>) -> Comparison {
        let found = gradients(&row(cases)).unwrap();
        assert!(found.worst > 1.0);
        found
    }

    #[test]
    fn a_rule_that_is_right_passes() {
        let cases = || vec![case(Some(1.0), 1), case(Some(7.0), 1).forward_only()];
        let found = gradients(&row(cases)).unwrap();
        assert_eq!((found.buffers, found.failure), (1, None));
        assert!(found.worst < 0.1 && found.norm < 1e-8, "{}", found.worst);
    }

    #[test]
    fn a_rule_that_is_wrong_fails_in_words() {
        let wrong = failure(|| vec![case(Some(1.0), 1), case(Some(1.001), 1)]);
        assert_eq!(wrong.buffers, 2);
        assert!((wrong.norm - 1e-3).abs() < 1e-6, "{}", wrong.norm);
        let said = wrong.failure.unwrap();
        assert!(said.starts_with("the gradient of input 0[0] is "), "{said}");
        assert!(said.ends_with("outputs: 1 } on f32[3]"), "{said}");
        failure(|| vec![case(Some(f64::from(f32::MAX)), 1)]);
    }

    #[test]
    fn a_rule_that_leaves_an_input_out_fails() {
        let said = failure(|| vec![case(None, 1)]).failure.unwrap();
        assert!(said.contains("input 0[0] is missing, the"), "{said}");
    }

    #[test]
    fn an_op_without_an_output_or_a_rule_is_an_error() {
        let refused = |cases| gradients(&row(cases)).unwrap_err().to_string();
        let said = refused(|| vec![case(Some(1.0), 0)]);
        assert!(said.starts_with("same: found no output"), "{said}");
        // Argmax gives integers and has no rule.
        let said = refused(|| {
            let x = Fill::Distinct;
            vec![Case::new(crate::ops::argmax::Argmax, 1).float(&[2, 3], x)]
        });
        assert!(said.contains("u32"), "{said}");
    }
}

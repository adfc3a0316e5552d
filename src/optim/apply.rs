//! An optimizer's variables and ops in a graph.

use std::sync::Arc;

use super::rules::norm;
use super::{Group, Optimizer, Place, Terms, Updated};
use crate::error::{Error, Result};
use crate::expr::{Expr, Plane};
use crate::graph::Graph;
use crate::ops::pointwise::{MOST_BINDINGS, Pointwise, pointwise};
use crate::ops::{Tape, Value};
use crate::shape::Type;

/// Where an update's inputs stand: gradient, parameter, states, average, clipping factor, the
/// rule's scalars.
const GRADIENT: usize = 0;
const VALUE: usize = 1;
const STATES: usize = 2;

/// One parameter and what is kept of it.
#[derive(Debug)]
struct Slot {
    name: String,
    value: Value,
    /// All that the rule keeps, one after the other.
    state: Option<Value>,
    average: Option<Value>,
    sum: Option<Value>,
    group: Group,
}

impl Slot {
    /// Each of `count` states.
    fn states(&self, count: usize) -> impl Iterator<Item = (Value, Plane)> {
        let part = move |value| (0..count).map(move |number| (value, Plane { number, of: count }));
        self.state.into_iter().flat_map(part)
    }

    fn sum(&self) -> Result<Value> {
        self.sum.ok_or_else(|| {
            let found = "an optimizer that does not accumulate";
            Error::setting(&self.name, found, "Optimizer::accumulate before")
        })
    }
}

/// An [`Optimizer`] in a graph: its variables are declared, its ops are to be written.
#[derive(Debug)]
pub struct Update {
    optimizer: Optimizer,
    slots: Vec<Slot>,
    /// Each replica's own rate.
    rate: Option<Value>,
}

impl Optimizer {
    /// Declares what is kept of each parameter: of several states one variable
    /// `<parameter> <state>, <state>, …` `[states, …]`, of one the variable `<parameter> <state>` of the
    /// parameter's extents; and `<parameter> average`.
    ///
    /// # Errors
    /// [`Error::Setting`] for a setting out of its range, a parameter given twice, a rule that keeps
    /// more than an update can bind.
    pub fn declare(&self, graph: &mut Graph, parameters: &[(&str, Value)]) -> Result<Update> {
        self.declare_under(graph, "", parameters)
    }

    /// [`Optimizer::declare`] with variables whose names begin with `under`, where several optimizers
    /// update one parameter.
    pub(crate) fn declare_under(
        &self,
        graph: &mut Graph,
        under: &str,
        parameters: &[(&str, Value)],
    ) -> Result<Update> {
        self.check()?;
        let mut slots = Vec::new();
        for &(name, value) in parameters {
            let ty: Type = graph.ty(value)?.clone();
            let group = self.group_of(name);
            let name = &*format!("{under}{name}");
            let (mut state, mut average, mut sum) = (None, None, None);
            let names: Vec<&str> = self.rule.states().iter().map(|s| s.name).collect();
            if !group.frozen && !names.is_empty() {
                let mut extents = ty.shape.extents().to_vec();
                if names.len() > 1 {
                    extents.insert(0, names.len());
                }
                let name = format!("{name} {}", names.join(", "));
                state = Some(graph.variable(&name, Type::f32(&name, &extents)?)?);
            }
            if self.micro_batches.is_some() && !group.frozen {
                sum = Some(graph.variable(&format!("{name} gradient sum"), ty.clone())?);
            }
            if self.average.is_some() {
                average = Some(graph.variable(&format!("{name} average"), ty)?);
            }
            slots.push(Slot {
                name: name.into(),
                value,
                state,
                average,
                sum,
                group,
            });
        }
        let rate = match &self.rate_variable {
            Some(name) => Some(graph.variable(name, Type::f32(name, &[1])?)?),
            None => None,
        };
        let optimizer = self.clone();
        Ok(Update {
            optimizer,
            slots,
            rate,
        })
    }
}

impl Update {
    /// What is kept beside the parameters: names and variables.
    pub fn states(&self) -> Vec<(String, Value)> {
        let names = self.optimizer.rule.states();
        let names: Vec<&str> = names.iter().map(|state| state.name).collect();
        let names = names.join(", ");
        let of = |slot: &Slot| -> Vec<(String, Value)> {
            let named = |what: &str, v: Value| (format!("{} {what}", slot.name), v);
            let state = slot.state.map(|v| named(&names, v));
            let average = slot.average.map(|v| named("average", v));
            state.into_iter().chain(average).collect()
        };
        self.slots.iter().flat_map(of).collect()
    }

    /// Writes the ops that give every state its first value, into the program under way; the
    /// average's is the parameter's, which must have been made before.
    ///
    /// # Errors
    /// What the shape rules say.
    pub fn init(&self, graph: &mut Graph) -> Result<()> {
        for slot in &self.slots {
            if let Some(variable) = slot.state {
                let states = self.optimizer.rule.states();
                graph.label(format!("{} state init", slot.name));
                let initial = states.iter().map(|state| Expr::constant(state.initial));
                let fill = Pointwise::new(&initial.collect::<Vec<_>>());
                let fill = (0..states.len()).fold(fill, |fill, k| fill.updating(k, k));
                let fill = fill.with_planes(0, states.len());
                graph.op(Arc::new(fill), &[variable])?;
            }
            if let Some(sum) = slot.sum {
                graph.label(format!("{} gradient sum init", slot.name));
                clear(graph, sum)?;
            }
            if let Some(average) = slot.average {
                graph.label(format!("{} average init", slot.name));
                let copy = Pointwise::new(&[Expr::input(0)]).updating(0, 1);
                graph.op(Arc::new(copy), &[slot.value, average])?;
            }
        }
        Ok(())
    }

    /// Writes the update of every parameter, given its gradient in the order of the declaration,
    /// into the program under way; `step` is the step counter that the program counts up at its end.
    ///
    /// # Errors
    /// [`Error::Setting`] for a parameter without a gradient, what the shape rules say.
    pub fn apply(&self, graph: &mut Graph, gradients: &[Option<Value>], step: Value) -> Result<()> {
        let moving = self.moving(gradients)?;
        self.update(graph, moving, step)
    }

    /// Writes the ops that add a micro-batch's gradients to the sums, given in the order of the
    /// declaration, into the program under way.
    ///
    /// # Errors
    /// As [`Update::apply`]; [`Error::Setting`] for an optimizer that does not accumulate.
    pub fn add(&self, graph: &mut Graph, gradients: &[Option<Value>]) -> Result<()> {
        for (slot, gradient) in self.moving(gradients)? {
            graph.label(format!("{} gradient sum", slot.name));
            let sum = Pointwise::new(&[Expr::input(0) + Expr::input(1)]).updating(0, 0);
            graph.op(Arc::new(sum), &[slot.sum()?, gradient])?;
        }
        Ok(())
    }

    /// [`Update::apply`] by the mean of the gradients that have been added up; the sums begin anew.
    ///
    /// # Errors
    /// As [`Update::add`].
    pub fn apply_sum(&self, graph: &mut Graph, step: Value) -> Result<()> {
        let moving = self.slots.iter().filter(|slot| !slot.group.frozen);
        let moving = moving.map(|slot| Ok((slot, slot.sum()?)));
        let moving = moving.collect::<Result<_>>()?;
        self.update(graph, moving, step)
    }

    /// The parameters that are updated, with their gradients.
    fn moving(&self, gradients: &[Option<Value>]) -> Result<Vec<(&Slot, Value)>> {
        if gradients.len() != self.slots.len() {
            let found = format!("{} gradients", gradients.len());
            let wanted = format!("one for each of {} parameters", self.slots.len());
            return Err(Error::setting("update", found, wanted));
        }
        let mut moving = Vec::new();
        for (slot, gradient) in self.slots.iter().zip(gradients) {
            if slot.group.frozen {
                continue;
            }
            let gradient = gradient.ok_or_else(|| {
                Error::setting(
                    &slot.name,
                    "no influence on the cost",
                    "parameters with a gradient, or a frozen group",
                )
            })?;
            moving.push((slot, gradient));
        }
        Ok(moving)
    }

    /// What a sum of gradients is multiplied by.
    fn share(&self) -> f64 {
        1.0 / f64::from(self.optimizer.micro_batches.unwrap_or(1))
    }

    fn update(&self, graph: &mut Graph, moving: Vec<(&Slot, Value)>, step: Value) -> Result<()> {
        let factor = match self.optimizer.clip_norm {
            Some(bound) => Some(clipping(graph, &moving, bound, self.share())?),
            None => None,
        };
        for (slot, gradient) in moving {
            graph.label(format!("{} update", slot.name));
            self.write(graph, slot, gradient, factor, step)?;
        }
        Ok(())
    }

    fn write(
        &self,
        graph: &mut Graph,
        slot: &Slot,
        mut gradient: Value,
        mut factor: Option<Value>,
        step: Value,
    ) -> Result<()> {
        let optimizer = &self.optimizer;
        // What one launch cannot bind is done in another: first the average, then the clipping.
        let sums = slot.sum == Some(gradient);
        let own = 3 + usize::from(slot.state.is_some()) + usize::from(self.rate.is_some());
        let apart = own + usize::from(factor.is_some()) + usize::from(slot.average.is_some());
        let (apart, scaled) = (
            apart > MOST_BINDINGS,
            own + usize::from(factor.is_some()) > MOST_BINDINGS,
        );
        if let (true, Some(by)) = (scaled, factor.take_if(|_| scaled)) {
            gradient = pointwise(graph, [gradient, by], |[g, by]| g * by)?;
        }
        let in_place = slot.sum == Some(gradient);
        let whole = |value| (value, Plane::WHOLE);
        let mut bound = vec![whole(gradient), whole(slot.value)];
        let part = |bound: &mut Vec<(Value, Plane)>, value| {
            bound.push(value);
            Expr::input(bound.len() - 1)
        };
        let input = |bound: &mut Vec<(Value, Plane)>, value| part(bound, whole(value));
        let count = optimizer.rule.states().len();
        let states: Vec<Expr> = slot.states(count).map(|s| part(&mut bound, s)).collect();
        let average = slot
            .average
            .filter(|_| !apart)
            .map(|a| input(&mut bound, a));
        let mut g = Expr::input(GRADIENT);
        if let Some(factor) = factor {
            g = g * input(&mut bound, factor);
        }
        if sums {
            g = g * self.share();
        }
        if let Some(most) = optimizer.clip_value {
            g = g.clamp(-most, most);
        }
        let base = match self.rate {
            Some(rates) => input(&mut bound, rates) * slot.group.rate,
            None => Expr::constant(optimizer.rate * slot.group.rate),
        };
        let terms = Terms {
            value: Expr::input(VALUE),
            gradient: g,
            states,
            rate: optimizer.schedule.factor(&Expr::step()) * base,
            step: Expr::step() + 1.0,
            decays: slot.group.decays,
        };
        let place = Place {
            name: &slot.name,
            parameter: slot.value,
            bound: &bound.clone(),
            terms: &terms,
            step,
        };
        let scalars = optimizer.rule.scalars(graph, &place)?;
        let scalars: Vec<Expr> = scalars.into_iter().map(|s| input(&mut bound, s)).collect();
        let Updated { value, states } = optimizer.rule.update_with(&terms, &scalars);
        if states.len() != count {
            let found = format!("{} states after an update", states.len());
            let wanted = format!("the {count} that the rule keeps");
            return Err(Error::setting(optimizer.rule.name(), found, wanted));
        }
        let decay = optimizer.average.unwrap_or(0.0);
        let averaged = |a: &Expr, w: Expr| a * decay + w * (1.0 - decay);
        let mut outputs = vec![value.clone()];
        outputs.extend(states);
        outputs.extend(average.map(|a| averaged(&a, value)));
        if in_place {
            outputs.push(Expr::constant(0.0));
        }
        let over = |output: usize| match output {
            0 => VALUE,
            last if in_place && last + 1 == outputs.len() => GRADIENT,
            state => STATES + state - 1,
        };
        let (op, mut bound) = Pointwise::over_values(&outputs, &bound);
        let op = (0..outputs.len()).fold(op, |op, output| op.updating(output, over(output)));
        if op.wants_step() {
            bound.push(step);
        }
        graph.op(Arc::new(op), &bound)?;
        if let (true, false, Some(sum)) = (sums, in_place, slot.sum) {
            clear(graph, sum)?;
        }
        if let (true, Some(a)) = (apart, slot.average) {
            let average = Pointwise::new(&[averaged(&Expr::input(0), Expr::input(1))]);
            graph.op(Arc::new(average.updating(0, 0)), &[a, slot.value])?;
        }
        Ok(())
    }
}

/// Makes a variable 0.
fn clear(graph: &mut Graph, variable: Value) -> Result<()> {
    let zero = Pointwise::new(&[Expr::constant(0.0)]).updating(0, 0);
    graph.op(Arc::new(zero), &[variable])?;
    Ok(())
}

/// What every gradient, `share` of a sum, is multiplied by so that the norm of all is `most` at
/// most: a value `[1]`.
fn clipping(graph: &mut Graph, moving: &[(&Slot, Value)], most: f64, share: f64) -> Result<Value> {
    graph.label("gradient norm");
    let norms: Vec<Value> = moving
        .iter()
        .map(|(_, g)| norm(graph, *g))
        .collect::<Result<_>>()?;
    let Some((&first, rest)) = norms.split_first() else {
        let found = "no gradient";
        return Err(Error::setting("clipping by norm", found, "one or more"));
    };
    // Squares add up one after the other; fusion makes as few launches of it as bindings want.
    let mut sum = pointwise(graph, [first], |[n]| n.square())?;
    for &norm in rest {
        sum = pointwise(graph, [sum, norm], |[sum, n]| sum + n.square())?;
    }
    let all = pointwise(graph, [sum], |[sum]| sum.sqrt())?;
    let factor = (most / (Expr::input(0) * share + 1e-6)).min(1.0);
    graph.op1(Arc::new(Pointwise::new(&[factor])), &[all])
}

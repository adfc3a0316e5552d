//! An optimizer's variables and ops in a graph.

use std::sync::Arc;

use super::loss_scale::{Scaling, inverse, skipped, taken};
use super::norm::{Held, norm};
use super::{Group, Optimizer, Place, Terms, Updated};
use crate::error::{Error, Result};
use crate::expr::{Expr, Plane};
use crate::graph::Graph;
use crate::ops::constant::Constant;
use crate::ops::pointwise::{MOST_BINDINGS, Pointwise, pointwise};
use crate::ops::{Tape, Value};
use crate::shape::Type;

/// Where an update's inputs stand: gradient, parameter, states, average, clipping factor, rates of
/// replicas, loss scale, the rule's scalars.
const GRADIENT: usize = 0;
const VALUE: usize = 1;
const STATES: usize = 2;

/// One parameter and what is kept of it.
#[derive(Clone, Debug)]
pub(super) struct Slot {
    pub name: String,
    value: Value,
    /// All that the rule keeps, one after the other.
    state: Option<Value>,
    average: Option<Value>,
    sum: Option<Value>,
    group: Group,
}

/// Where the inputs of a parameter's update stand.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layout {
    /// Whether the gradient is a sum over micro-batches.
    sums: bool,
    /// Whether that sum is cleared by the update.
    in_place: bool,
    /// Whether the gradient is scaled before the update.
    scaled: bool,
    pub average: Option<usize>,
    factor: Option<usize>,
    rate: Option<usize>,
    scale: Option<usize>,
    /// The first of the rule's scalars.
    scalars: usize,
}

/// What an update writes if its numbers stand in a table: given its layout and the place of the table
/// among its inputs, the outputs, and the table if they read it.
pub(super) type FromTable<'a> = &'a dyn Fn(&Layout, usize) -> (Vec<Expr>, Option<Value>);

/// How a parameter is updated by numbers of a table.
#[derive(Clone, Copy)]
pub(super) struct Tabled<'a> {
    pub outputs: FromTable<'a>,
    /// What says whether the parameter stays as it is, where it may.
    pub held: Option<Held>,
}

impl Layout {
    /// The inputs that an update's outputs are written over: parameter, states, average.
    pub fn before(&self, outputs: usize) -> impl Iterator<Item = usize> {
        let average = self.average;
        (0..outputs).map(move |k| match (k, average) {
            (0, _) => VALUE,
            (k, Some(average)) if k + 1 == outputs => average,
            (k, _) => STATES + k - 1,
        })
    }
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
#[derive(Clone, Debug)]
pub struct Update {
    pub(super) optimizer: Optimizer,
    slots: Vec<Slot>,
    /// Each replica's own rate.
    rate: Option<Value>,
    scaling: Option<Scaling>,
    /// Optimizers whose numbers stand in a table, where there is one.
    pub(super) variants: Vec<Optimizer>,
    /// Whether parameters can be frozen while they are trained.
    pub(super) holds: bool,
    pub(super) under: String,
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
        let name = format!("{under}loss scale");
        let scaling = self.loss_scale;
        let scaling = scaling.map(|setting| Scaling::declare(graph, &name, setting));
        graph.note_update(scaling.is_some());
        let optimizer = self.clone();
        Ok(Update {
            optimizer,
            slots,
            rate,
            scaling: scaling.transpose()?,
            variants: vec![],
            holds: false,
            under: under.into(),
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
        let scale = self
            .scale()
            .map(|v| (format!("{}loss scale", self.under), v));
        self.slots.iter().flat_map(of).chain(scale).collect()
    }

    /// The parameters of which an average is kept, by name, and their averages.
    pub(crate) fn averages(&self) -> Vec<(String, Value)> {
        let own = |slot: &Slot| Some((slot.name.clone(), slot.average?));
        self.slots.iter().filter_map(own).collect()
    }

    /// The variable of the loss scale, of which [`told`](super::told) tells.
    pub(crate) fn scale(&self) -> Option<Value> {
        self.scaling.map(|scaling| scaling.variable)
    }

    /// What enters the backward pass ([`Graph::gradients`]): `value` in every element, times the loss scale
    /// where there is one.
    ///
    /// # Errors
    /// What the shape rules say.
    pub fn seed(&self, tape: &mut dyn Tape, extents: &[usize], value: f64) -> Result<Value> {
        match &self.scaling {
            Some(scaling) => scaling.seed(tape, extents, value),
            None => {
                let extents = extents.to_vec();
                tape.op1(Arc::new(Constant { extents, value }), &[])
            }
        }
    }

    /// A gradient without the loss scale, behind [`Update::apply`].
    pub(crate) fn unscaled(&self, tape: &mut dyn Tape, gradient: Value) -> Result<Value> {
        match &self.scaling {
            Some(scaling) => scaling.unscaled(tape, gradient),
            None => Ok(gradient),
        }
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
        match &self.scaling {
            Some(scaling) => scaling.init(graph),
            None => Ok(()),
        }
    }

    /// Writes the update of every parameter, given its gradient in the order of the declaration,
    /// into the program under way; `step` is the step counter that the program counts up at its end.
    /// With a loss scale, gradients are those of [`Update::seed`].
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
    pub(super) fn moving(&self, gradients: &[Option<Value>]) -> Result<Vec<(&Slot, Value)>> {
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
        let sums = moving.iter().all(|(slot, value)| slot.sum == Some(*value));
        let share = if sums { self.share() } else { 1.0 };
        let factor = self.judged(graph, &moving, None)?.map(|norm| {
            let factor = self.factor(&self.optimizer, share);
            graph.op1(Arc::new(Pointwise::new(&[factor])), &[norm])
        });
        let factor = factor.transpose()?;
        for (slot, gradient) in moving {
            graph.label(format!("{} update", slot.name));
            self.write(graph, slot, gradient, factor, step, None)?;
        }
        Ok(())
    }

    /// Whether steps are judged by the norm of all gradients: clipped or, with a loss scale, left out.
    pub(super) fn judges(&self) -> bool {
        self.optimizer.clip_norm.is_some() || self.scaling.is_some()
    }

    /// The norm of all gradients for clipping, where there is some, without those of parameters that are held; a loss
    /// scale has judged the step by it.
    pub(super) fn judged(
        &self,
        graph: &mut Graph,
        moving: &[(&Slot, Value)],
        held: Option<Held>,
    ) -> Result<Option<Value>> {
        let clips = self.optimizer.clip_norm.is_some();
        let scaling = self.scaling.filter(|_| !moving.is_empty());
        if !clips && scaling.is_none() {
            return Ok(None);
        }
        let gradients: Vec<Value> = moving.iter().map(|(_, g)| *g).collect();
        let mut norm = norm(graph, &gradients, held)?;
        if let Some(scaling) = scaling {
            scaling.judge(graph, norm)?;
            if clips {
                norm = scaling.unscaled(graph, norm)?;
            }
        }
        Ok(clips.then_some(norm))
    }

    /// A parameter's name, as it was declared.
    pub(super) fn own_name<'a>(&self, slot: &'a Slot) -> &'a str {
        &slot.name[self.under.len()..]
    }

    /// What gradients are multiplied by, given the norm of all; of sums of gradients their `share` is the gradient.
    pub(super) fn factor(&self, optimizer: &Optimizer, share: f64) -> Expr {
        let most = optimizer.clip_norm.unwrap_or(f64::INFINITY);
        (most / (Expr::input(0) * share + 1e-6)).min(1.0)
    }

    /// Where the inputs of an update stand.
    pub(super) fn layout(&self, slot: &Slot, gradient: Value, clips: bool) -> Layout {
        // What one launch cannot bind is done in another: first the average, then the clipping.
        let table = usize::from(!self.variants.is_empty());
        let (state, factor) = (usize::from(slot.state.is_some()), usize::from(clips));
        // The rule may bind two scalars.
        let scale = if self.scaling.is_some() { 1 + 2 } else { 0 };
        let own = 3 + state + table + usize::from(self.rate.is_some()) + scale;
        let sums = slot.sum == Some(gradient);
        let scaled = own + factor > MOST_BINDINGS;
        let apart = own + factor + usize::from(slot.average.is_some()) > MOST_BINDINGS;
        let mut next = STATES + self.optimizer.rule.states().len();
        let mut take = |there: bool| {
            next += usize::from(there);
            there.then_some(next - 1)
        };
        Layout {
            sums,
            in_place: sums && !(scaled && clips),
            scaled: scaled && clips,
            average: take(slot.average.is_some() && !apart),
            factor: take(clips && !scaled),
            rate: take(self.rate.is_some()),
            scale: take(self.scaling.is_some()),
            scalars: next,
        }
    }

    fn terms(&self, optimizer: &Optimizer, slot: &Slot, layout: &Layout) -> Terms {
        let mut g = Expr::input(GRADIENT);
        let mut number = Expr::step() + 1.0;
        if let Some(scale) = layout.scale {
            g = g * inverse(scale);
            number = number - skipped(scale);
        }
        if let Some(factor) = layout.factor {
            g = g * Expr::input(factor);
        }
        if layout.sums {
            g = g * self.share();
        }
        if let Some(most) = optimizer.clip_value {
            g = g.clamp(-most, most);
        }
        let group = optimizer.group_of(self.own_name(slot));
        let base = match layout.rate {
            Some(rates) => Expr::input(rates) * group.rate,
            None => Expr::constant(optimizer.rate * group.rate),
        };
        let states = STATES..STATES + optimizer.rule.states().len();
        Terms {
            value: Expr::input(VALUE),
            gradient: g,
            states: states.map(Expr::input).collect(),
            rate: optimizer.schedule.factor(&Expr::step()) * base,
            step: number,
            decays: group.decays,
        }
    }

    /// What is written over the parameter, its states and its average.
    pub(super) fn outputs(
        &self,
        optimizer: &Optimizer,
        slot: &Slot,
        layout: &Layout,
        scalars: &[Expr],
    ) -> Result<Vec<Expr>> {
        let terms = self.terms(optimizer, slot, layout);
        let count = terms.states.len();
        let Updated { value, states } = optimizer.rule.update_with(&terms, scalars);
        if states.len() != count {
            let found = format!("{} states after an update", states.len());
            let wanted = format!("the {count} that the rule keeps");
            return Err(Error::setting(optimizer.rule.name(), found, wanted));
        }
        let mut outputs = vec![value.clone()];
        outputs.extend(states);
        outputs.extend(
            layout
                .average
                .map(|a| self.averaged(&Expr::input(a), value)),
        );
        if let Some(scale) = layout.scale {
            for (before, output) in layout.before(outputs.len()).zip(&mut outputs) {
                *output = taken(scale).select(&*output, Expr::input(before));
            }
        }
        Ok(outputs)
    }

    fn averaged(&self, a: &Expr, w: Expr) -> Expr {
        let decay = self.optimizer.average.unwrap_or(0.0);
        a * decay + w * (1.0 - decay)
    }

    pub(super) fn write(
        &self,
        graph: &mut Graph,
        slot: &Slot,
        mut gradient: Value,
        factor: Option<Value>,
        step: Value,
        tabled: Option<Tabled<'_>>,
    ) -> Result<()> {
        let optimizer = &self.optimizer;
        let layout = self.layout(slot, gradient, factor.is_some());
        if let (true, Some(by)) = (layout.scaled, factor) {
            gradient = pointwise(graph, [gradient, by], |[g, by]| g * by)?;
        }
        let whole = |value| (value, Plane::WHOLE);
        let mut bound = vec![whole(gradient), whole(slot.value)];
        bound.extend(slot.states(optimizer.rule.states().len()));
        bound.extend(slot.average.filter(|_| layout.average.is_some()).map(whole));
        bound.extend(factor.filter(|_| layout.factor.is_some()).map(whole));
        bound.extend(self.rate.map(whole));
        bound.extend(self.scale().map(whole));
        let terms = self.terms(optimizer, slot, &layout);
        let place = Place {
            name: &slot.name,
            parameter: slot.value,
            bound: &bound.clone(),
            terms: &terms,
            step,
        };
        let scalars = optimizer.rule.scalars(graph, &place)?;
        let mut outputs = match tabled {
            None => {
                let places = layout.scalars..layout.scalars + scalars.len();
                let places: Vec<Expr> = places.map(Expr::input).collect();
                self.outputs(optimizer, slot, &layout, &places)?
            }
            Some(_) if !scalars.is_empty() => {
                let found = format!("{}, whose update writes graph", optimizer.rule.name());
                let wanted = "a rule that is an expression of its terms alone";
                return Err(Error::setting("table of numbers", found, wanted));
            }
            Some(tabled) => {
                let (outputs, table) = (tabled.outputs)(&layout, bound.len());
                bound.extend(table.map(whole));
                outputs
            }
        };
        bound.extend(scalars.into_iter().map(whole));
        if layout.in_place {
            outputs.push(Expr::constant(0.0));
        }
        let over = |output: usize| match output {
            0 => VALUE,
            last if layout.in_place && last + 1 == outputs.len() => GRADIENT,
            state => STATES + state - 1,
        };
        let (op, mut bound) = Pointwise::over_values(&outputs, &bound);
        let op = (0..outputs.len()).fold(op, |op, output| op.updating(output, over(output)));
        if op.wants_step() {
            bound.push(step);
        }
        graph.op(Arc::new(op), &bound)?;
        if let (true, false, Some(sum)) = (layout.sums, layout.in_place, slot.sum) {
            clear(graph, sum)?;
        }
        match (layout.average, slot.average) {
            (None, Some(average)) => {
                let held = tabled.and_then(|tabled| tabled.held);
                self.write_average(graph, [average, slot.value], held)
            }
            _ => Ok(()),
        }
    }

    /// The average of a parameter in a launch of its own, behind the parameter's update.
    fn write_average(
        &self,
        graph: &mut Graph,
        [average, value]: [Value; 2],
        held: Option<Held>,
    ) -> Result<()> {
        let (before, after) = (Expr::input(0), Expr::input(1));
        let mut read = vec![average, value];
        let mut next = self.averaged(&before, after);
        if let Some(scale) = self.scale() {
            next = taken(read.len()).select(next, &before);
            read.push(scale);
        }
        if let Some(held) = held {
            next = held.is(read.len()).select(&before, next);
            read.push(held.table);
        }
        let next = Pointwise::new(&[next]).updating(0, 0);
        graph.op(Arc::new(next), &read)?;
        Ok(())
    }
}

/// Makes a variable 0.
fn clear(graph: &mut Graph, variable: Value) -> Result<()> {
    let zero = Pointwise::new(&[Expr::constant(0.0)]).updating(0, 0);
    graph.op(Arc::new(zero), &[variable])?;
    Ok(())
}

//! Hyperparameters that stand in a table on the device: other ones for each replica, or other ones as
//! training goes on.

use std::collections::HashMap;
use std::sync::Arc;

use super::Optimizer;
use super::apply::{Layout, Slot, Tabled, Update};
use super::norm::Held;
use super::template::Template;
use crate::error::{Error, Result};
use crate::expr::{Expr, Plane};
use crate::graph::Graph;
use crate::ops::pointwise::Pointwise;
use crate::ops::squares::runs;
use crate::ops::{Tape, Value};
use crate::shape::Type;

/// What is set while training goes on.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct BySetting {
    /// Learning rates.
    pub rates: bool,
    /// Which parameters stay as they are.
    pub holds: bool,
}

impl BySetting {
    /// All that can be.
    pub const ALL: Self = Self {
        rates: true,
        holds: true,
    };
}

impl Optimizer {
    /// [`Optimizer::declare`] for replicas that are each trained by an optimizer of its own, the first of
    /// which is this one, or by the same one. They may differ in numbers, which stand in a table on the
    /// device, and with them what is to be set while training goes on.
    pub(crate) fn declare_table(
        &self,
        graph: &mut Graph,
        under: &str,
        each: &[Self],
        set: BySetting,
        parameters: &[(&str, Value)],
    ) -> Result<Update> {
        let mut update = self.declare_under(graph, under, parameters)?;
        self.check_table()?;
        for (replica, other) in each.iter().enumerate() {
            other.check()?;
            if !other.is_alike(self, parameters) {
                return Err(differs(replica));
            }
        }
        update.variants = each.to_vec();
        if set.rates {
            // Numbers that follow from the rate are those that differ where the rate does.
            let other = |factor: f64, more: f64| self.with_rate(self.rate * factor + more);
            update.variants.push(self.clone());
            update.variants.push(other(1.7, 0.013));
            update.variants.push(other(0.31, 0.0071));
        }
        update.holds = set.holds;
        Ok(update)
    }

    /// Refuses what a training step whose every mini-batch is an update does not do.
    pub(crate) fn check_step(&self) -> Result<()> {
        self.check()?;
        match self.micro_batches {
            None => Ok(()),
            Some(_) => Err(Error::setting(
                "optimizer",
                "micro-batches (`Optimizer::accumulate`)",
                "an update for each mini-batch; in a graph of your own `Update::add` adds gradients up",
            )),
        }
    }

    /// Refuses what a table cannot hold.
    pub(crate) fn check_table(&self) -> Result<()> {
        if self.rate_variable.is_none() {
            return Ok(());
        }
        let found = "rates of replicas (`Optimizer::rates_of_replicas`)";
        let wanted = "none of these where optimizers differ from replica to replica, or rates are set while training goes \
                      on (sweeps, `by_hand`, callbacks that set rates such as `Plateau`)";
        Err(Error::setting("optimizer", found, wanted))
    }

    /// The same with another learning rate.
    #[must_use]
    pub fn with_rate(&self, rate: f64) -> Self {
        Self {
            rate,
            ..self.clone()
        }
    }

    /// Whether an optimizer has the variables of another one.
    fn is_alike(&self, other: &Self, parameters: &[(&str, Value)]) -> bool {
        let same = |name: &str| {
            let (a, b) = (self.group_of(name), other.group_of(name));
            (a.frozen, a.decays) == (b.frozen, b.decays)
        };
        self.rule.name() == other.rule.name()
            && self.rule.states() == other.rule.states()
            && self.clip_norm.is_some() == other.clip_norm.is_some()
            && self.average == other.average
            && self.rate_variable == other.rate_variable
            && self.micro_batches == other.micro_batches
            && self.loss_scale == other.loss_scale
            && parameters.iter().all(|(name, _)| same(name))
    }
}

/// Optimizers that differ in more than numbers.
fn differs(replica: usize) -> Error {
    Error::setting(
        format!("optimizer of replica {replica}"),
        "one that differs from that of replica 0 in more than numbers",
        "the same rule, states, groups, clipping, averages and loss scale: a momentum of 0, for one, keeps no velocity",
    )
}

impl Update {
    /// [`Update::apply`] by numbers that stand in a table, which it declares.
    pub(crate) fn apply_table(
        &self,
        graph: &mut Graph,
        gradients: &[Option<Value>],
        step: Value,
    ) -> Result<Table> {
        let moving = self.moving(gradients)?;
        let clips = self.optimizer.clip_norm.is_some();
        let mut table = Numbers::default();
        if clips {
            table.add(&self.variants, |optimizer| {
                Ok(vec![self.factor(optimizer, 1.0)])
            })?;
        }
        for (slot, gradient) in &moving {
            let layout = self.layout(slot, *gradient, clips);
            table.add(&self.variants, |optimizer| {
                self.outputs(optimizer, slot, &layout, &[])
            })?;
        }
        let first_hold = table.entries();
        let holds = if self.holds { moving.len() } else { 0 };
        // Of each sum of squares that the norm is made of, likewise.
        let runs: Vec<usize> = match self.holds && self.judges() {
            true => moving
                .iter()
                .map(|(_, gradient)| Ok(runs(graph.ty(*gradient)?.elements())))
                .collect::<Result<_>>()?,
            false => vec![],
        };
        let length = (first_hold + holds + runs.iter().sum::<usize>()).max(1);
        let name = format!("{}hyperparameters", self.under);
        let variable = graph.variable(&name, Type::f32(&name, &[length])?)?;
        let held = |entry: usize| Held {
            table: variable,
            from: first_hold + entry,
        };
        let of_runs = (!runs.is_empty()).then(|| held(moving.len()));
        let norm = self.judged(graph, &moving, of_runs)?;
        let factor = match norm {
            None => None,
            Some(norm) => {
                let (op, bound) = over_read(&table.outputs(0, 1), [norm, variable], table.reads(0));
                Some(graph.op1(Arc::new(op), &bound)?)
            }
        };
        for (k, (slot, gradient)) in moving.iter().enumerate() {
            graph.label(format!("{} update", slot.name));
            let known = Known {
                numbers: &table,
                expressions: usize::from(clips) + k,
                variable,
                hold: self.holds.then(|| held(k)),
            };
            let written = |layout: &Layout, place| known.outputs(layout, place);
            let tabled = Tabled {
                outputs: &written,
                held: known.hold,
            };
            self.write(graph, slot, *gradient, factor, step, Some(tabled))?;
        }
        let laid = |(slot, gradient): &(&Slot, Value)| {
            ((*slot).clone(), self.layout(slot, *gradient, clips))
        };
        Ok(Table {
            variable,
            moving: moving.iter().map(laid).collect(),
            update: self.clone(),
            numbers: table,
            clips,
            holds: self.holds,
            runs,
        })
    }
}

/// Expressions of an update whose numbers are not the same for all optimizers.
#[derive(Clone, Debug, Default)]
pub(super) struct Numbers {
    expressions: Vec<Expression>,
    /// The numbers of each entry of the table, by optimizer.
    columns: Vec<Vec<u64>>,
}

#[derive(Clone, Debug)]
struct Expression {
    template: Template,
    /// The first optimizer's numbers by their places.
    first: Vec<f64>,
    /// Entries of the table by places.
    entries: HashMap<usize, usize>,
}

impl Numbers {
    /// Entries of the table so far.
    pub fn entries(&self) -> usize {
        self.columns.len()
    }

    /// Whether expressions number `number` read the table.
    pub fn reads(&self, number: usize) -> bool {
        !self.expressions[number].entries.is_empty()
    }

    /// Adds what each optimizer makes of some expressions.
    pub fn add(
        &mut self,
        optimizers: &[Optimizer],
        outputs: impl Fn(&Optimizer) -> Result<Vec<Expr>>,
    ) -> Result<()> {
        let all: Vec<Vec<Expr>> = optimizers.iter().map(outputs).collect::<Result<_>>()?;
        let Some((template, values)) = Template::of(&all) else {
            let apart =
                |other: &Vec<Expr>| Template::of(&[all[0].clone(), other.clone()]).is_none();
            return Err(differs(all.iter().position(apart).unwrap_or(0)));
        };
        let mut entries = HashMap::new();
        for place in 0..values[0].len() {
            let column: Vec<u64> = values.iter().map(|v| v[place].to_bits()).collect();
            if column.iter().all(|bits| *bits == column[0]) {
                continue;
            }
            let known = self.columns.iter().position(|other| *other == column);
            let entry = known.unwrap_or_else(|| {
                self.columns.push(column);
                self.columns.len() - 1
            });
            entries.insert(place, entry);
        }
        self.expressions.push(Expression {
            template,
            first: values.into_iter().next().unwrap_or_default(),
            entries,
        });
        Ok(())
    }

    /// Expressions number `number`, with the table as input `table`.
    pub fn outputs(&self, number: usize, table: usize) -> Vec<Expr> {
        let Expression {
            template, entries, ..
        } = &self.expressions[number];
        template.over(table, &|place| entries.get(&place).copied())
    }

    /// The table's entries for an optimizer; `None` if it differs from those before in what has no entry.
    fn entries_of(&self, outputs: &[Vec<Expr>]) -> Option<Vec<f32>> {
        let mut table: Vec<Option<f32>> = vec![None; self.columns.len()];
        for (expression, outputs) in self.expressions.iter().zip(outputs) {
            let values = expression.template.values(outputs)?;
            for (place, (&value, &first)) in values.iter().zip(&expression.first).enumerate() {
                let (value, first) = (value as f32, first as f32);
                let known = match expression.entries.get(&place) {
                    Some(&entry) => *table[entry].get_or_insert(value),
                    None => first,
                };
                if known.to_bits() != value.to_bits() {
                    return None;
                }
            }
        }
        Some(table.into_iter().map(Option::unwrap_or_default).collect())
    }
}

/// What an update reads of a table.
struct Known<'a> {
    pub numbers: &'a Numbers,
    /// Which expressions.
    pub expressions: usize,
    pub variable: Value,
    /// What says whether the parameter stays as it is.
    pub hold: Option<Held>,
}

impl Known<'_> {
    /// What is written over parameter, states and average, with the table as input `table`; and the table
    /// if it is read.
    pub fn outputs(&self, layout: &Layout, table: usize) -> (Vec<Expr>, Option<Value>) {
        let mut outputs = self.numbers.outputs(self.expressions, table);
        if let Some(hold) = self.hold {
            let held = hold.is(table);
            for (before, output) in layout.before(outputs.len()).zip(&mut outputs) {
                *output = held.select(Expr::input(before), &*output);
            }
        }
        let reads = self.hold.is_some() || self.numbers.reads(self.expressions);
        (outputs, reads.then_some(self.variable))
    }
}

/// An expression of input 0 and the table, input 1, as an op and its inputs.
fn over_read(outputs: &[Expr], values: [Value; 2], reads: bool) -> (Pointwise, Vec<Value>) {
    let whole = values.map(|value| (value, Plane::WHOLE));
    Pointwise::over_values(outputs, &whole[..1 + usize::from(reads)])
}

/// A table of hyperparameters, `[entries]` of each replica.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    /// The variable.
    pub variable: Value,
    pub(super) update: Update,
    pub(super) numbers: Numbers,
    /// The parameters that move and how their updates are laid out.
    pub(super) moving: Vec<(Slot, Layout)>,
    pub(super) clips: bool,
    /// Whether the entries behind the numbers say which parameters stay as they are.
    pub(super) holds: bool,
    /// How many sums of squares each gradient has in the norm of all, where what is held is left out of it.
    runs: Vec<usize>,
}

impl Table {
    /// What stands in the table of each replica, given its optimizer and which parameters of which replica stay as
    /// they are.
    pub fn values(
        &self,
        each: &[Optimizer],
        held: &dyn Fn(usize, &str) -> bool,
    ) -> Result<Vec<f32>> {
        let mut values = Vec::new();
        for (replica, optimizer) in each.iter().enumerate() {
            optimizer.check()?;
            let mut all = Vec::new();
            if self.clips {
                all.push(vec![self.update.factor(optimizer, 1.0)]);
            }
            for (slot, layout) in &self.moving {
                all.push(self.update.outputs(optimizer, slot, layout, &[])?);
            }
            let entries = self
                .numbers
                .entries_of(&all)
                .ok_or_else(|| differs(replica))?;
            values.extend(entries);
            if self.holds {
                let names = self
                    .moving
                    .iter()
                    .map(|(slot, _)| self.update.own_name(slot));
                let holds = names.map(|name| f32::from(u8::from(held(replica, name))));
                let holds: Vec<f32> = holds.collect();
                let of_runs = holds.iter().zip(&self.runs);
                let of_runs = of_runs.flat_map(|(&hold, &runs)| std::iter::repeat_n(hold, runs));
                let of_runs: Vec<f32> = of_runs.collect();
                values.extend(holds.into_iter().chain(of_runs));
            } else if self.numbers.entries() == 0 {
                values.push(0.0);
            }
        }
        Ok(values)
    }

    /// The names of the parameters that can be frozen.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.moving
            .iter()
            .map(|(slot, _)| self.update.own_name(slot))
    }
}

//! Hyperparameters that stand in a table on the device: other ones for each replica, or other ones as
//! training goes on.

use std::collections::HashMap;

use super::Optimizer;
use super::apply::{Layout, STATES, Slot, Update, VALUE, differs};
use super::template::Template;
use crate::error::Result;
use crate::expr::{Expr, Plane};
use crate::ops::Value;
use crate::ops::pointwise::Pointwise;

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
pub(super) struct Known<'a> {
    pub numbers: &'a Numbers,
    /// Which expressions.
    pub expressions: usize,
    pub variable: Value,
    /// The entry that says whether the parameter stays as it is.
    pub hold: Option<usize>,
}

impl Known<'_> {
    /// What is written over parameter, states and average, with the table as input `table`; and whether
    /// it is read.
    pub fn outputs(&self, layout: &Layout, table: usize) -> (Vec<Expr>, bool) {
        let mut outputs = self.numbers.outputs(self.expressions, table);
        if let Some(hold) = self.hold {
            let held = Expr::at(table, hold as f64).gt(0.5);
            let last = outputs.len() - 1;
            for (k, output) in outputs.iter_mut().enumerate() {
                let before = match (k, layout.average) {
                    (0, _) => VALUE,
                    (k, Some(average)) if k == last => average,
                    (k, _) => STATES + k - 1,
                };
                *output = held.select(Expr::input(before), &*output);
            }
        }
        (
            outputs,
            self.hold.is_some() || self.numbers.reads(self.expressions),
        )
    }
}

/// An expression of input 0 and the table, input 1, as an op and its inputs.
pub(super) fn over_read(
    outputs: &[Expr],
    values: [Value; 2],
    reads: bool,
) -> (Pointwise, Vec<Value>) {
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
}

impl Table {
    /// What stands in the table of each replica, given its optimizer and the parameters that stay as they
    /// are.
    pub fn values(&self, each: &[Optimizer], held: &dyn Fn(&str) -> bool) -> Result<Vec<f32>> {
        let mut values = Vec::new();
        for (replica, optimizer) in each.iter().enumerate() {
            optimizer.check()?;
            let mut all = Vec::new();
            if self.clips {
                all.push(vec![self.update.factor(optimizer)]);
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
                values.extend(names.map(|name| f32::from(u8::from(held(name)))));
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

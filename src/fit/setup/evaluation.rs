//! The graph of an evaluation.

use std::collections::HashMap;
use std::sync::Arc;

use super::writing::Writing;
use super::{Setup, Wanted, paired};
use crate::error::Result;
use crate::expr::Expr;
use crate::fit::cost::{LOSS_STREAMS, add_up};
use crate::fit::resident::{Columns, Sharded};
use crate::fit::shards::{Evaluated, Given};
use crate::fit::training::Evaluation;
use crate::graph::{Graph, Handle};
use crate::model::{Pass, Scope, Variables};
use crate::ops::advance::Advance;
use crate::ops::pointwise::Pointwise;
use crate::ops::{COUNTER, Tape, Value};
use crate::shape::Type;
use crate::tensor::Host;

/// Examples that an evaluation takes at once, at least.
const EVALUATION_BATCH: usize = 256;

impl Setup<'_> {
    /// A program that evaluates a mini-batch of a data set.
    pub(super) fn evaluation(
        &self,
        set: &str,
        data: &Given<'_>,
        wanted: &Wanted,
        writing: &mut Writing,
    ) -> Result<Evaluation> {
        let Writing {
            graph,
            variables,
            resident,
            ..
        } = writing;
        let most = data.shard(1).unwrap_or(data.rows());
        let batch = self.batch.max(EVALUATION_BATCH).min(most);
        // Of data in shards, what lies on the device is a shard.
        let shard = data.shard(batch);
        let rows = shard.unwrap_or(data.rows());
        let runs = rows.div_ceil(batch);
        let counter = format!("{set} step");
        let counter = graph.variable(&counter, Type::u32(&counter, &[COUNTER])?)?;
        // In the data's own order, which every replica reads from one copy of its own.
        let own: Vec<u32> = (0..rows as u32).collect();
        let name = format!("{set} order");
        let order = graph.variable(&name, Type::u32(&name, &[rows])?)?;
        resident.uploads.push((order, Host::U32(own)));
        let program = graph.begin(&format!("evaluate {set}"));
        graph.label("mini-batch");
        let mut columns = Columns {
            set: set.into(),
            data: data.columns(),
            batch,
            epoch_steps: runs,
            order,
            step: counter,
            made: HashMap::new(),
            shards: shard.map(Sharded::of),
        };
        let mut inputs = Vec::new();
        for (name, _) in &wanted.inputs {
            inputs.push(columns.batch(graph, resident, name)?);
        }
        let mut targets = HashMap::new();
        let of_metrics = self.metrics.iter().map(|m| m.target().to_string());
        let named = wanted
            .targets
            .iter()
            .flatten()
            .map(|(name, _)| name.clone());
        for name in named.chain(of_metrics) {
            let value = columns.batch(graph, resident, &name)?;
            targets.insert(name, value);
        }
        let pairs = paired(graph, columns.shards)?;
        let mut bound = |name: &str| {
            let name = format!("{set} {name}");
            graph.variable(&name, Type::f32(&name, &[1])?)
        };
        let bounds = match shard {
            None => None,
            Some(_) => Some((bound("full mini-batches")?, bound("last rows")?)),
        };
        let outputs = self
            .model
            .write(graph, variables, &inputs, Pass::Evaluation)?;
        graph.label("evaluation");
        let mut streams = LOSS_STREAMS;
        let mut scope = Scope::new(graph, variables, Pass::Evaluation, &mut streams);
        // Which places of the last mini-batch are examples.
        let places = scope.constant(&[batch], (0..batch).map(|k| k as f32).collect())?;
        let counted = match bounds {
            None => {
                let last = (rows - (runs - 1) * batch) as f64;
                let full = Expr::step().lt((runs - 1) as f64);
                let counted = full.or(&Expr::input(0).lt(last)).select(1.0, 0.0);
                scope.op1(Arc::new(Pointwise::new(&[counted])), &[places, counter])?
            }
            // What is a shard's last mini-batch is another one in the last shard.
            Some((full, last)) => {
                let (place, last_rows) = (Expr::input(0), Expr::input(2));
                let full_one = Expr::step().lt(Expr::input(1));
                let counted = full_one.or(&place.lt(last_rows)).select(1.0, 0.0);
                let counted = Pointwise::new(&[counted]);
                scope.op1(Arc::new(counted), &[places, full, last, counter])?
            }
        };
        let find = |_: &mut Scope<'_>, name: &str| Ok(targets[name]);
        let each = self.terms(&mut scope, &outputs, find, wanted, false)?;
        let mut written = Vec::new();
        for (weight, each) in each {
            written.push((weight, each.sums, each.counts));
        }
        let mut measured = Vec::new();
        for metric in self.metrics {
            let (place, _) = self.metric_output(metric)?;
            let target = targets[metric.target()];
            let first = data.columns().column(metric.target())?.row(0);
            let about = first.first().map(|&first| f64::from(first));
            let about = about.and_then(|first| metric.measure().about(first));
            let measure = about.as_deref().unwrap_or(metric.measure());
            let value = measure.write(&mut scope, outputs[place], target);
            let value = value.map_err(|e| e.within(&format!("metric {}", metric.name())))?;
            let extents = scope.extents(value)?;
            measured.push((metric, value, extents[1..].iter().product::<usize>()));
        }
        let mut number = 0;
        let mut totals = |graph: &mut Graph,
                          variables: &mut Variables,
                          each: Value,
                          size: usize|
         -> Result<Handle<f32>> {
            let name = format!("{set} total {number}");
            number += 1;
            let total = graph.variable(&name, Type::f32(&name, &[size])?)?;
            let mut streams = LOSS_STREAMS;
            let mut scope = Scope::new(graph, variables, Pass::Evaluation, &mut streams);
            add_up(&mut scope, each, counted, total)?;
            graph.handle(total)
        };
        let mut terms = Vec::new();
        for (weight, sums, counts) in written {
            let sums = totals(graph, variables, sums, 1)?;
            let counts = counts.map(|c| totals(graph, variables, c, 1)).transpose()?;
            terms.push((weight, sums, counts));
        }
        let mut metrics = Vec::new();
        for (metric, value, size) in measured {
            metrics.push((metric.clone(), totals(graph, variables, value, size)?));
        }
        graph.op(Arc::new(Advance), &[counter])?;
        let counter = graph.handle(counter)?;
        let shards = match shard.zip(bounds) {
            None => None,
            Some((shard, (full, last))) => Some(Evaluated {
                program,
                counter,
                batch,
                shard,
                full: graph.handle(full)?,
                last: graph.handle(last)?,
            }),
        };
        Ok(Evaluation {
            set: set.into(),
            program,
            rows: data.rows(),
            runs: runs as u64,
            counter,
            terms,
            metrics,
            shards,
            pairs,
        })
    }
}

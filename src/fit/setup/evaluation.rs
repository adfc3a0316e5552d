//! The graph of an evaluation.

use std::collections::HashMap;
use std::sync::Arc;

use super::writing::Writing;
use super::{Setup, Wanted, paired};
use crate::error::{Error, Result};
use crate::expr::Expr;
use crate::fit::cost::{LOSS_STREAMS, add_up, of_classes, output as kept};
use crate::fit::loss::Each;
use crate::fit::resident::{Columns, Sharded};
use crate::fit::shards::{Evaluated, Given};
use crate::fit::training::{Answered, Evaluation};
use crate::graph::{Graph, Handle};
use crate::model::{Pass, Scope, Variables};
use crate::ops::advance::Advance;
use crate::ops::epoch_metrics::EpochMetrics;
use crate::ops::gather::Expansion;
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
        let usual = self.batch.max(EVALUATION_BATCH);
        let batch = self.wishes.evaluation_batch.unwrap_or(usual).min(most);
        // Of data in shards, what lies on the device is a shard.
        let shard = data.shard(batch);
        let rows = shard.unwrap_or(data.rows());
        let runs = rows.div_ceil(batch);
        let counter = format!("{set} step");
        let counter = graph.variable(&counter, Type::u32(&counter, &[COUNTER])?)?;
        let program = graph.begin(&format!("evaluate {set}"));
        graph.label("mini-batch");
        let mut columns = Columns {
            set: set.into(),
            data: data.columns(),
            needed: vec![],
            batch,
            epoch_steps: runs,
            expansion: Expansion::None,
            order: None,
            step: counter,
            made: HashMap::new(),
            shards: shard.map(Sharded::of),
        };
        let of_inputs = wanted.inputs.iter().map(|(name, _)| name.clone());
        let of_inputs: Vec<String> = of_inputs.collect();
        let of_terms = wanted.targets.iter().flatten();
        let of_terms = of_terms.map(|(name, _)| name.clone());
        let of_metrics = self.metrics.iter().map(|m| m.target().to_string());
        let of_targets: Vec<String> = of_terms.chain(of_metrics).collect();
        columns.needed = of_inputs.iter().chain(&of_targets).cloned().collect();
        let mut needed = columns.needed.iter();
        if needed.any(|name| columns.pictures(name).is_none()) {
            // In the data's own order, which every replica reads from one copy of its own.
            let own: Vec<u32> = (0..rows as u32).collect();
            let name = format!("{set} order");
            let order = graph.variable(&name, Type::u32(&name, &[rows])?)?;
            resident.uploads.push((order, Host::U32(own)));
            columns.order = Some(order);
        }
        let mut inputs = Vec::new();
        for name in &of_inputs {
            inputs.push(columns.batch(graph, resident, name)?);
        }
        let mut targets = HashMap::new();
        for name in of_targets {
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
        let find = |_: &mut Scope<'_>, name: &str| Ok(targets[name]);
        if self.wishes.answers {
            let each = self.terms(&mut scope, &outputs, find, wanted, false)?;
            let answers = answers(
                writing,
                set,
                (outputs[0], &each, counter),
                [data.rows(), runs],
            )?;
            return Ok(Evaluation {
                set: set.into(),
                program,
                rows: data.rows(),
                runs: runs as u64,
                counter: writing.graph.handle(counter)?,
                terms: vec![],
                metrics: vec![],
                answers: Some(answers),
                shards: None,
                pairs,
            });
        }
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
            answers: None,
            shards,
            pairs,
        })
    }
}

/// Adds up losses and right answers of the examples of a set of `rows` in so many runs, and keeps each answer: the
/// largest of `output` `[N, K]`.
fn answers(
    w: &mut Writing,
    set: &str,
    (output, each, counter): (Value, &[(f64, Each)], Value),
    [rows, runs]: [usize; 2],
) -> Result<Answered> {
    let Some([_, losses, labels]) = of_classes(&w.graph, each)? else {
        let wanted = "a cost of classes alone, without smoothing";
        return Err(Error::setting("loss", "another one", wanted));
    };
    let name = |what: &str| format!("{set} {what}");
    let (metrics, guard) = (name("evaluation metrics"), name("evaluation guard"));
    let metrics = w.graph.variable(&metrics, Type::f32(&metrics, &[4])?)?;
    let guard = w.graph.variable(&guard, Type::u32(&guard, &[4])?)?;
    let predictions = name("predictions");
    let predictions = w
        .graph
        .variable(&predictions, Type::u32(&predictions, &[rows])?)?;
    let add = EpochMetrics {
        count: rows,
        epoch_steps: runs,
        predict: true,
        keeps: false,
    };
    let inputs = [output, losses, labels, counter, metrics, guard, predictions];
    w.graph.op(Arc::new(add), &inputs)?;
    let output = kept(&mut w.graph, &name("output"), output)?;
    w.graph.op(Arc::new(Advance), &[counter])?;
    // A pass begins anew by itself, but finds something.
    let zeros = [
        (counter, Host::U32(vec![0; COUNTER])),
        (metrics, Host::F32(vec![0.0; 4])),
        (guard, Host::U32(vec![0; 4])),
        (predictions, Host::U32(vec![0; rows])),
    ];
    w.resident.uploads.extend(zeros);
    Ok(Answered {
        metrics: w.graph.handle(metrics)?,
        predictions: w.graph.handle(predictions)?,
        output,
    })
}

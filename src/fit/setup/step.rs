//! The graph of a training step.

use std::collections::HashMap;
use std::sync::Arc;

use super::writing::Writing;
use super::{Setup, Wanted, paired};
use crate::error::Result;
use crate::expr::Expr;
use crate::fit::cost::{Cost, LOSS_STREAMS, are_few, cost, of_classes, output, record};
use crate::fit::resident::{Columns, Sharded};
use crate::fit::shards::{Given, Pair};
use crate::fit::training::Losses;
use crate::graph::{Graph, Handle, Program};
use crate::model::{Input, Pass, Role, Scope};
use crate::ops::advance::Advance;
use crate::ops::epoch_metrics::{self, EpochMetrics};
use crate::ops::pointwise::{Pointwise, pointwise};
use crate::ops::shuffle::Shuffle;
use crate::ops::slice::Slice;
use crate::ops::{Tape, Value};
use crate::optim::{Table, Update};
use crate::shape::Type;
use crate::tensor::Host;

/// What a training step is run, fed and read by.
pub(super) struct Step {
    /// The program that draws an epoch's order, and the order.
    pub order: Option<(Program, Value)>,
    /// One step; nothing where nothing is trained.
    pub train: Program,
    /// Columns that are fed, by name.
    pub fed: Vec<(String, Value)>,
    /// Columns of data in shards.
    pub pairs: Vec<Pair>,
    pub update: Option<Update>,
    pub table: Option<Table>,
    pub gradients: Vec<(String, Handle<f32>)>,
    /// The losses of the last steps.
    pub recorded: Option<Value>,
    pub losses: Losses,
}

/// The mini-batch of a step.
struct Batch {
    inputs: Vec<Value>,
    targets: HashMap<String, Value>,
    fed: Vec<(String, Value)>,
    pairs: Vec<Pair>,
}

impl Setup<'_> {
    /// The programs `order` and `train`.
    pub(super) fn step(&self, w: &mut Writing, wanted: &Wanted) -> Result<Step> {
        let order = self.order(w)?;
        let train = w.graph.begin("train");
        if !self.wishes.trains {
            return Ok(Step {
                order,
                train,
                fed: vec![],
                pairs: vec![],
                update: None,
                table: None,
                gradients: vec![],
                recorded: None,
                losses: self.one_total(w)?,
            });
        }
        let pass = Pass::Training {
            keys: w.key,
            step: w.step,
        };
        let Batch {
            mut inputs,
            mut targets,
            fed,
            pairs,
        } = self.batch(w, wanted, order.map(|(_, rows)| rows))?;
        if let Some(alpha) = self.mixup {
            w.graph.label("mixup");
            let mut streams = LOSS_STREAMS;
            let mut scope = Scope::new(&mut w.graph, &mut w.variables, pass, &mut streams);
            self.mix(&mut scope, alpha, &mut inputs, &mut targets, wanted)?;
        }
        let outputs = self
            .model
            .write(&mut w.graph, &mut w.variables, &inputs, pass)?;
        let mut streams = LOSS_STREAMS;
        w.graph.label("loss forward");
        let mut scope = Scope::new(&mut w.graph, &mut w.variables, pass, &mut streams);
        let find = |_: &mut Scope<'_>, name: &str| Ok(targets[name]);
        let terms = self.terms(&mut scope, &outputs, find, wanted, self.mixup.is_some())?;
        let totals = match of_classes(&w.graph, &terms)? {
            Some([scores, losses, labels]) if self.counts(&w.graph, scores)? => {
                let scores = self.scores(&w.graph, scores, &outputs)?;
                Some(self.totals(w, [scores, losses, labels])?)
            }
            _ => None,
        };
        let parameters: Vec<(String, Value)> = w
            .variables
            .of(Role::Parameter)
            .map(|v| (v.name.clone(), v.value))
            .collect();
        let values: Vec<Value> = parameters.iter().map(|(_, v)| *v).collect();
        let update = self.update(w, &parameters)?;
        let Cost { mean, gradients } = cost(&mut w.graph, &terms, self.batch, &values, &update)?;
        let table = match self.has_table() {
            true => Some(update.apply_table(&mut w.graph, &gradients, w.step)?),
            false => {
                update.apply(&mut w.graph, &gradients, w.step)?;
                None
            }
        };
        let mut kept = Vec::new();
        if self.wishes.gradients {
            for ((name, _), gradient) in parameters.iter().zip(&gradients) {
                let Some(gradient) = *gradient else { continue };
                let result = format!("{name} gradient");
                let gradient = update.unscaled(&mut w.graph, gradient)?;
                kept.push((name.clone(), output(&mut w.graph, &result, gradient)?));
            }
        }
        let mean = match totals {
            Some((totals, _)) if !self.adds_up() => self.mean_of(w, totals)?,
            _ => mean,
        };
        let recorded = match self.wishes.losses {
            0 => None,
            n => Some(record(&mut w.graph, &mut w.variables, n, mean, w.step)?),
        };
        let losses = match totals {
            Some((totals, guard)) if self.adds_up() => Losses::OfExamples { totals, guard },
            _ => {
                let losses = self.one_total(w)?;
                w.graph.label("loss total");
                let add = Pointwise::new(&[Expr::input(0) + Expr::input(1)]).updating(0, 0);
                w.graph.op(Arc::new(add), &[losses.total(), mean])?;
                losses
            }
        };
        w.graph.label("step");
        w.graph.op(Arc::new(Advance), &[w.step])?;
        Ok(Step {
            order,
            train,
            fed,
            pairs,
            update: Some(update),
            table,
            gradients: kept,
            recorded,
            losses,
        })
    }

    /// Whether the losses of examples are added up from step to step; where the loss of each step is asked for, they
    /// are of one step.
    fn adds_up(&self) -> bool {
        self.wishes.losses == 0
    }

    /// Whether losses are added up by the op that also counts right answers.
    fn counts(&self, graph: &Graph, scores: Value) -> Result<bool> {
        Ok(self.wishes.answers || are_few(graph, scores)?)
    }

    /// What answers are read from: the scores of the loss, whose largest is that of the output. A single one says
    /// nothing by itself.
    fn scores(&self, graph: &Graph, scores: Value, outputs: &[Value]) -> Result<Value> {
        let [_, k] = graph.ty(scores)?.shape.axes("scores", "[N, K]")?;
        Ok(match self.wishes.answers && k == 1 {
            true => outputs[0],
            false => scores,
        })
    }

    /// Adds up the losses of a mini-batch of classes, in totals `[4]` beside a guard `[4]`, as an op that goes into
    /// the launch of the last layer.
    fn totals(
        &self,
        w: &mut Writing,
        [scores, losses, labels]: [Value; 3],
    ) -> Result<(Value, Value)> {
        w.graph.label("loss total");
        let name = match self.adds_up() {
            true => "training loss",
            false => "training loss of a step",
        };
        let totals = w.graph.variable(name, Type::f32(name, &[4])?)?;
        let guard = Type::u32("training guard", &[4])?;
        let guard = w.graph.variable("training guard", guard)?;
        // By blocks of an epoch's steps, where they are known: one sum of many would round as often.
        let examples = match self.data {
            Some(data @ Given::Whole(_)) if self.adds_up() => Some(self.examples(data)),
            _ => None,
        };
        // An epoch that begins anew by itself has no other way, and is refused where it is too long.
        let examples = examples.filter(|&n| self.wishes.answers || n <= epoch_metrics::MOST);
        let epoch_steps = examples.map_or(1, |examples| examples / self.batch);
        let add = EpochMetrics {
            count: epoch_steps * self.batch,
            epoch_steps,
            predict: false,
            // An epoch of a run whose answers are counted begins anew by itself.
            keeps: self.adds_up() && !self.wishes.answers,
        };
        let inputs = [scores, losses, labels, w.step, totals, guard];
        w.graph.op(Arc::new(add), &inputs)?;
        if !self.adds_up() {
            // Each step begins anew, but finds something.
            let zeros = [
                (totals, Host::F32(vec![0.0; 4])),
                (guard, Host::U32(vec![0; 4])),
            ];
            w.resident.uploads.extend(zeros);
        }
        Ok((totals, guard))
    }

    /// The mean `[1]` of a step's losses, from totals that are of one step.
    fn mean_of(&self, w: &mut Writing, totals: Value) -> Result<Value> {
        w.graph.label("loss forward");
        let first = Slice {
            axis: 0,
            start: 0,
            extent: 1,
            step: 1,
        };
        let sum = w.graph.op1(Arc::new(first), &[totals])?;
        pointwise(&mut w.graph, [sum], |[sum]| sum * (1.0 / self.batch as f64))
    }

    /// A total of the means of mini-batches.
    fn one_total(&self, w: &mut Writing) -> Result<Losses> {
        let total = Type::f32("training loss", &[1])?;
        Ok(Losses::OfSteps(w.graph.variable("training loss", total)?))
    }

    /// The program that draws an epoch's order, and the order.
    fn order(&self, w: &mut Writing) -> Result<Option<(Program, Value)>> {
        let Some(data) = self.data else {
            return Ok(None);
        };
        // Of data in shards, what is an epoch here is a shard.
        let n = self.examples(data);
        let rows = w.graph.variable("order", Type::u32("order", &[n])?)?;
        let program = w.graph.begin("order");
        let shuffle = Shuffle {
            n,
            epoch_steps: n / self.batch,
        };
        w.graph.op(Arc::new(shuffle), &[rows, w.key, w.step])?;
        Ok(Some((program, rows)))
    }

    /// Gathers a mini-batch of the columns that model and loss take, or declares what is fed.
    fn batch(&self, w: &mut Writing, wanted: &Wanted, order: Option<Value>) -> Result<Batch> {
        let mut columns = self.data.zip(order).map(|(data, order)| Columns {
            set: "training".into(),
            data: data.columns(),
            needed: wanted.columns(),
            batch: self.batch,
            epoch_steps: self.examples(data) / self.batch,
            expansion: self.wishes.expansion,
            order: Some(order),
            step: w.step,
            made: HashMap::new(),
            shards: data.shard(self.batch).map(Sharded::of),
        });
        w.graph.label("mini-batch");
        let mut fed: Vec<(String, Value)> = Vec::new();
        let mut value = |w: &mut Writing, name: &String, example: &Input| {
            if let Some(columns) = &mut columns {
                return columns.batch(&mut w.graph, &mut w.resident, name);
            }
            if let Some((_, value)) = fed.iter().find(|(other, _)| other == name) {
                return Ok(*value);
            }
            // Not by its bare name, which may be that of a variable of ours.
            let of_batch = example.of_batch(name, self.batch)?;
            let value = w.graph.variable(&format!("column {name}"), of_batch)?;
            fed.push((name.clone(), value));
            Ok(value)
        };
        let mut inputs = Vec::new();
        for (name, example) in &wanted.inputs {
            inputs.push(value(w, name, example)?);
        }
        let mut targets = HashMap::new();
        for (name, example) in wanted.targets.iter().flatten() {
            targets.insert(name.clone(), value(w, name, example)?);
        }
        let shards = columns.and_then(|columns| columns.shards);
        Ok(Batch {
            inputs,
            targets,
            fed,
            pairs: paired(&w.graph, shards)?,
        })
    }

    /// The update of the parameters, to be written; with a table where hyperparameters stand on the device.
    fn update(&self, w: &mut Writing, parameters: &[(String, Value)]) -> Result<Update> {
        let named: Vec<(&str, Value)> = parameters.iter().map(|(n, v)| (n.as_str(), *v)).collect();
        let (optimizer, graph) = (self.optimizer, &mut w.graph);
        match self.has_table() {
            false => optimizer.declare(graph, &named),
            true => optimizer.declare_table(graph, "", &self.each(), self.by_setting(), &named),
        }
    }
}

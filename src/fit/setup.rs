//! From a model, a loss, an optimizer and data to the graph of a training run.
//!
//! Programs: `init` makes the optimizer's state, `order` draws an epoch's order, `train` is one step,
//! `evaluate <set>` one mini-batch of an evaluation. A step uploads nothing and reads nothing back;
//! losses and metrics are added up on the device.

use std::collections::HashMap;
use std::sync::Arc;

use super::by_hand::ByHand;
use super::cost::{Cost, LOSS_STREAMS, cost, output, record};
use super::loss::{Each, Loss};
use super::metric::Metric;
use super::mixup::of_shares;
use super::resident::{Columns, Need, Resident, Sharded, of_set};
use super::saved::{self, Seed};
use super::shards::{Given, Pair};
use super::training::{Host32, Training};
use crate::compile::Options;
use crate::data::words;
use crate::error::{Error, Result};
use crate::exec::Device;
use crate::expr::Expr;
use crate::graph::{Graph, Handle};
use crate::model::{Input, Model, Pass, Role, Scope, Variables};
use crate::ops::advance::Advance;
use crate::ops::pointwise::Pointwise;
use crate::ops::shuffle::Shuffle;
use crate::ops::{COUNTER, Tape, Value};
use crate::optim::Optimizer;
use crate::rng::KEYS;
use crate::run::Session;
use crate::shape::{DType, Type};

mod evaluation;
mod mixed;

/// A grid's longest side, along which replicas stand.
const MOST_REPLICAS: usize = 65_535;

/// What a training graph is made of.
pub(super) struct Setup<'a> {
    pub model: &'a Model,
    pub loss: &'a Loss,
    pub optimizer: &'a Optimizer,
    pub metrics: &'a [Metric],
    pub batch: usize,
    pub replicas: usize,
    pub first_replica: u32,
    pub seed: u64,
    /// An optimizer for each replica, of which `optimizer` is the first; none where it trains all.
    pub sweep: &'a [Optimizer],
    /// What a loop of one's own may do.
    pub wishes: Wishes,
    /// α of mixed examples.
    pub mixup: Option<f64>,
    /// Training data; none is fed.
    pub data: Option<&'a Given<'a>>,
    /// Data that is evaluated, by name.
    pub evaluated: &'a [(&'a str, Given<'a>)],
}
/// What a loop of one's own may do with a step.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Wishes {
    /// Set rates and freeze parameters.
    pub by_hand: bool,
    /// Read gradients.
    pub gradients: bool,
    /// Read the loss of each of so many steps.
    pub losses: usize,
}

/// The columns that a model and its loss take: name, example, classes, and the ignored one.
pub(super) struct Wanted {
    inputs: Vec<(String, Input)>,
    targets: Vec<Vec<(String, Input)>>,
}

impl Setup<'_> {
    fn wanted(&self) -> Result<Wanted> {
        let inputs = self.model.inputs().map(|(n, i)| (n.into(), i.clone()));
        let terms = self.loss.terms().iter();
        Ok(Wanted {
            inputs: inputs.collect(),
            targets: terms
                .map(|t| t.targets(self.model))
                .collect::<Result<_>>()?,
        })
    }

    /// What is wanted of each column of a data set.
    pub fn needs(&self) -> Result<Vec<Need>> {
        let wanted = self.wanted()?;
        let mut needs = self.inputs(&wanted)?;
        for (term, targets) in self.loss.terms().iter().zip(&wanted.targets) {
            needs.extend(Need::of_targets(term, targets, self.model)?);
        }
        for metric in self.metrics {
            let (_, output) = self.metric_output(metric)?;
            let target = metric.measure().target(&output)?;
            needs.push(Need {
                metric: Some(metric.name().into()),
                classes: metric.measure().classes(&output),
                ignored: metric.measure().ignored(),
                ..Need::of(metric.target(), &target)
            });
        }
        Ok(needs)
    }

    /// What is wanted of the model's inputs; what their integers number is known when the model is written.
    fn inputs(&self, wanted: &Wanted) -> Result<Vec<Need>> {
        let (mut graph, mut variables) = (Graph::new(), Variables::default());
        let mut values = Vec::new();
        for (name, input) in &wanted.inputs {
            values.push(graph.variable(&format!("column {name}"), input.of_batch(name, 2)?)?);
        }
        if wanted
            .inputs
            .iter()
            .any(|(_, input)| input.dtype == DType::U32)
        {
            graph.begin("trial");
            self.model
                .write(&mut graph, &mut variables, &values, Pass::Evaluation)?;
        }
        let inputs = wanted.inputs.iter().zip(values);
        let needs = inputs.map(|((name, input), value)| Need {
            numbered: variables.numbered(value),
            ..Need::of(name, input)
        });
        Ok(needs.collect())
    }

    /// The names of the metrics' values, which are all different.
    pub fn metric_names(&self) -> Result<Vec<String>> {
        let (mut graph, mut variables) = (Graph::new(), Variables::default());
        graph.begin("trial");
        let mut names: Vec<String> = Vec::new();
        for (k, metric) in self.metrics.iter().enumerate() {
            let (_, output) = self.metric_output(metric)?;
            let target = metric.measure().target(&output)?;
            let mut given = |what: &str, of: &Input| {
                let name = format!("{what} {k}");
                graph.variable(&name, of.of_batch(&name, 2)?)
            };
            let (output, target) = (given("output", &output)?, given("target", &target)?);
            let mut streams = LOSS_STREAMS;
            let mut scope = Scope::new(&mut graph, &mut variables, Pass::Evaluation, &mut streams);
            let value = metric.measure().write(&mut scope, output, target);
            let value = value.map_err(|e| e.within(&format!("metric {}", metric.name())))?;
            let totals = scope.extents(value)?[1..].iter().product();
            for (name, _) in metric.finish(&vec![1.0; totals], 2) {
                if names.contains(&name) {
                    let found = format!("two numbers named `{name}`");
                    let wanted = "metrics of different names; `Metric::named` gives one";
                    return Err(Error::setting("metrics", found, wanted));
                }
                names.push(name);
            }
        }
        Ok(names)
    }

    fn metric_output(&self, metric: &Metric) -> Result<(usize, Input)> {
        let all: Vec<(&str, &Input)> = self.model.outputs().collect();
        let place = match metric.output() {
            None => 0,
            Some(name) => {
                let known: Vec<&str> = all.iter().map(|(n, _)| *n).collect();
                let found = known.iter().position(|other| *other == name);
                found.ok_or_else(|| Error::unknown("output", name, &known))?
            }
        };
        Ok((place, all[place].1.clone()))
    }

    fn terms(
        &self,
        scope: &mut Scope<'_>,
        outputs: &[Value],
        mut target: impl FnMut(&mut Scope<'_>, &str) -> Result<Value>,
        wanted: &Wanted,
        mixed: bool,
    ) -> Result<Vec<(f64, Each)>> {
        let mut each = Vec::new();
        for (term, targets) in self.loss.terms().iter().zip(&wanted.targets) {
            let of_classes = targets.iter().any(|(_, t)| t.dtype == DType::U32);
            let criterion = match mixed && of_classes {
                true => of_shares(&term.criterion)?,
                false => term.criterion.clone(),
            };
            let places = term.outputs(self.model)?;
            let outputs: Vec<Value> = places.iter().map(|(place, _)| outputs[*place]).collect();
            let targets = targets.iter().map(|(name, _)| target(scope, name));
            let targets = targets.collect::<Result<Vec<_>>>()?;
            let written = criterion.write(scope, &outputs, &targets);
            let written = written.map_err(|e| e.within(&format!("loss {}", criterion.name())))?;
            each.push((term.weight, written));
        }
        Ok(each)
    }

    /// Holds every data set and the mini-batch to what the model and the loss take.
    pub fn checked(&self) -> Result<Wanted> {
        if self.batch == 0 {
            return Err(Error::setting("mini-batch", 0, "at least 1"));
        }
        if !(1..=MOST_REPLICAS).contains(&self.replicas) {
            let wanted = format!("1 to {MOST_REPLICAS}");
            return Err(Error::setting("replicas", self.replicas, wanted));
        }
        let last = self.first_replica.checked_add(self.replicas as u32 - 1);
        if last.is_none() {
            let found = format!("{} and {} replicas", self.first_replica, self.replicas);
            let wanted = format!("numbers of replicas up to {}", u32::MAX);
            return Err(Error::setting("first replica", found, wanted));
        }
        self.optimizer.check()?;
        if !self.sweep.is_empty() && self.sweep.len() != self.replicas {
            let found = format!("{} optimizers", self.sweep.len());
            let wanted = format!("one for each of {} replicas", self.replicas);
            return Err(Error::setting("sweep", found, wanted));
        }
        let (wanted, needs) = (self.wanted()?, self.needs()?);
        self.can_mix(&wanted)?;
        let check = |data: &Given<'_>| {
            needs.iter().try_for_each(|need| {
                need.check(data.columns())?;
                match data {
                    Given::Whole(data) => need.counts(data),
                    // The one row that is known says nothing of the others.
                    Given::Shards(..) => Ok(()),
                }
            })
        };
        if let Some(data) = self.data {
            check(data).map_err(|e| of_set(e, "training"))?;
            if data.rows() < self.batch {
                let wanted = format!("at most the {} rows of the training data", data.rows());
                return Err(Error::setting("mini-batch", self.batch, wanted));
            }
            if let (Given::Shards(shards, _), Some(0)) = (data, data.shard(self.batch)) {
                let wanted = format!("at least the {} of a mini-batch", self.batch);
                return Err(Error::setting(
                    "rows of a shard of training data",
                    shards.shard_rows(),
                    wanted,
                ));
            }
        }
        for (set, data) in self.evaluated {
            check(data).map_err(|e| of_set(e, set))?;
            if data.shard(1) == Some(0) {
                let name = format!("rows of a shard of {set} data");
                return Err(Error::setting(name, 0, "at least 1"));
            }
        }
        Ok(wanted)
    }

    /// Refuses data that lie on the device as a whole and do not fit into one of its buffers.
    fn fits(&self, device: &Device) -> Result<()> {
        let (most, needs) = (device.info().limits.binding_bytes, self.needs()?);
        let training = self.data.map(|data| ("training", data));
        let evaluated = self.evaluated.iter().map(|(set, data)| (*set, data));
        for (set, data) in training.into_iter().chain(evaluated) {
            let (rows, of) = match data {
                Given::Whole(data) => (data.rows(), "data"),
                Given::Shards(shards, _) => (shards.shard_rows(), "data, of a shard"),
            };
            for need in &needs {
                let column = data.columns().column(&need.column)?;
                let bytes = 4 * words(column, rows) as u64;
                if bytes > most {
                    let few = (rows as u64).saturating_mul(most) / bytes;
                    return Err(Error::Adapter {
                        found: format!("a limit of {most} bytes for one buffer"),
                        wanted: format!("{bytes} bytes for column {} of {set} {of}", column.name),
                        fix: match data {
                            Given::Whole(_) => {
                                "Give the data as `data::Shards`, which take turns on the device."
                                    .into()
                            }
                            Given::Shards(..) => format!("Take shards of {few} rows or fewer."),
                        },
                    });
                }
            }
        }
        Ok(())
    }

    /// Writes the graph, compiles it and gives every variable its first value.
    pub fn compile(&self, device: &Device) -> Result<Training> {
        let wanted = self.checked()?;
        self.fits(device)?;
        let mut graph = Graph::new();
        let mut variables = Variables::default();
        let mut resident = Resident {
            buffers: HashMap::new(),
            uploads: vec![],
        };
        let step = graph.variable("step", Type::u32("step", &[COUNTER])?)?;
        let key = graph.variable("keys", Type::u32("keys", &[KEYS])?)?;
        let total = graph.variable("training loss", Type::f32("training loss", &[1])?)?;
        let (mut order, mut order_program, mut epoch_steps) = (None, None, 1);
        if let Some(data) = self.data {
            // Of data in shards, what is an epoch here is a shard.
            let n = data.shard(self.batch).unwrap_or(data.rows());
            epoch_steps = n / self.batch;
            let value = graph.variable("order", Type::u32("order", &[n])?)?;
            order_program = Some(graph.begin("order"));
            graph.op(Arc::new(Shuffle { n, epoch_steps }), &[value, key, step])?;
            order = Some(value);
        }
        let train = graph.begin("train");
        let mut fed: Vec<(String, Value)> = Vec::new();
        let mut columns = self.data.zip(order).map(|(data, order)| Columns {
            set: "training".into(),
            data: data.columns(),
            batch: self.batch,
            epoch_steps,
            order,
            step,
            made: HashMap::new(),
            shards: data.shard(self.batch).map(Sharded::of),
        });
        graph.label("mini-batch");
        let mut inputs = Vec::new();
        let mut targets: HashMap<String, Value> = HashMap::new();
        let named = wanted.targets.iter().flatten();
        for (is_target, (name, example)) in
            (wanted.inputs.iter().map(|c| (false, c))).chain(named.map(|c| (true, c)))
        {
            let value = match &mut columns {
                Some(columns) => columns.batch(&mut graph, &mut resident, name)?,
                None => match fed.iter().find(|(other, _)| other == name) {
                    Some((_, value)) => *value,
                    None => {
                        // Not by its bare name, which may be that of a variable of ours.
                        let of_batch = example.of_batch(name, self.batch)?;
                        let value = graph.variable(&format!("column {name}"), of_batch)?;
                        fed.push((name.clone(), value));
                        value
                    }
                },
            };
            match is_target {
                false => inputs.push(value),
                true => drop(targets.insert(name.clone(), value)),
            }
        }
        let shards = columns.and_then(|columns| columns.shards);
        let pairs = paired(&graph, shards)?;
        let pass = Pass::Training { keys: key, step };
        if let Some(alpha) = self.mixup {
            graph.label("mixup");
            let mut streams = LOSS_STREAMS;
            let mut scope = Scope::new(&mut graph, &mut variables, pass, &mut streams);
            self.mix(&mut scope, alpha, &mut inputs, &mut targets, &wanted)?;
        }
        let outputs = self
            .model
            .write(&mut graph, &mut variables, &inputs, pass)?;
        let mut streams = LOSS_STREAMS;
        graph.label("loss forward");
        let mut scope = Scope::new(&mut graph, &mut variables, pass, &mut streams);
        let find = |_: &mut Scope<'_>, name: &str| Ok(targets[name]);
        let terms = self.terms(&mut scope, &outputs, find, &wanted, self.mixup.is_some())?;
        let parameters: Vec<(String, Value)> = variables
            .of(Role::Parameter)
            .map(|v| (v.name.clone(), v.value))
            .collect();
        let values: Vec<Value> = parameters.iter().map(|(_, v)| *v).collect();
        let Cost { mean, gradients } = cost(&mut graph, &terms, self.batch, &values)?;
        let named: Vec<(&str, Value)> = parameters.iter().map(|(n, v)| (n.as_str(), *v)).collect();
        let each = match self.sweep {
            [] => vec![self.optimizer.clone(); self.replicas],
            sweep => sweep.to_vec(),
        };
        let by_hand = self.wishes.by_hand;
        let (update, table) = match by_hand || !self.sweep.is_empty() {
            false => {
                let update = self.optimizer.declare(&mut graph, &named)?;
                update.apply(&mut graph, &gradients, step)?;
                (update, None)
            }
            true => {
                let optimizer = self.optimizer;
                let update = optimizer.declare_table(&mut graph, "", &each, by_hand, &named)?;
                let table = update.apply_table(&mut graph, &gradients, step)?;
                (update, Some(table))
            }
        };
        let mut kept = Vec::new();
        if self.wishes.gradients {
            for ((name, _), gradient) in parameters.iter().zip(&gradients) {
                let Some(gradient) = *gradient else { continue };
                let result = format!("{name} gradient");
                kept.push((name.clone(), output(&mut graph, &result, gradient)?));
            }
        }
        let recorded = match self.wishes.losses {
            0 => None,
            n => Some(record(&mut graph, &mut variables, n, mean, step)?),
        };
        graph.label("loss total");
        let add = Pointwise::new(&[Expr::input(0) + Expr::input(1)]).updating(0, 0);
        graph.op(Arc::new(add), &[total, mean])?;
        graph.label("step");
        graph.op(Arc::new(Advance), &[step])?;
        let mut evaluations = Vec::new();
        for (set, data) in self.evaluated {
            let written = self.evaluation(
                set,
                data,
                &wanted,
                &mut graph,
                &mut variables,
                &mut resident,
            )?;
            evaluations.push(written);
        }
        let init = graph.begin("init");
        update.init(&mut graph)?;
        let options = Options {
            replicas: self.replicas,
            ..Options::on(device.info())
        };
        let mut session = Session::with(&graph, device, &options)?;
        let seed = Seed {
            seed: self.seed,
            first_replica: self.first_replica,
            replicas: self.replicas,
        };
        seed.write(&mut session, graph.handle(key)?)?;
        let table = match table {
            None => None,
            Some(table) => Some(ByHand::new(&graph, table, each)?),
        };
        let recorded: Option<Handle<f32>> = recorded.map(|v| graph.handle(v)).transpose()?;
        if let Some(recorded) = recorded {
            session.fill(recorded, 0.0)?;
        }
        resident.write(&mut session, &graph)?;
        let mut training = Training {
            order: order_program,
            train,
            fed: fed
                .iter()
                .map(|(name, value)| Ok((name.clone(), host32(&graph, *value)?)))
                .collect::<Result<_>>()?,
            saved: saved::begin(&mut session, &graph, &variables, seed, &mut 0)?,
            states: update
                .states()
                .into_iter()
                .map(|(name, value)| Ok((name, graph.handle(value)?)))
                .collect::<Result<_>>()?,
            step: graph.handle(step)?,
            loss: graph.handle(total)?,
            by_hand: table,
            gradients: kept,
            recorded,
            evaluations,
            epoch_steps: self.data.map_or(1, |data| data.rows() / self.batch),
            rows: order.map(|order| graph.handle(order)).transpose()?,
            pairs,
            replicas: self.replicas,
            session,
        };
        if let Some(by_hand) = &training.by_hand {
            by_hand.write(&mut training.session)?;
        }
        training.session.fill(training.step, 0)?;
        training.session.fill(training.loss, 0.0)?;
        training.session.run(init, 1)?;
        Ok(training)
    }
}

/// The two variables of each column of data in shards.
fn paired(graph: &Graph, shards: Option<Sharded>) -> Result<Vec<Pair>> {
    let all = shards.into_iter().flat_map(|shards| shards.pairs);
    all.map(|(column, present, next)| {
        Ok(Pair {
            column,
            present: graph.handle(present)?,
            next: graph.handle(next)?,
        })
    })
    .collect()
}

pub(super) fn host32(graph: &Graph, value: Value) -> Result<Host32> {
    Ok(match graph.ty(value)?.dtype {
        DType::F32 => Host32::F32(graph.handle(value)?),
        DType::U32 => Host32::U32(graph.handle(value)?),
    })
}

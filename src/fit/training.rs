//! The graph of a training run and its session: what [`TrainStep`](super::TrainStep) and
//! [`Fit`](super::Fit) have in common.
//!
//! Programs: `init` makes the optimizer's state, `order` draws an epoch's order, `train` is one step,
//! `evaluate <set>` one mini-batch of an evaluation. A step uploads nothing and reads nothing back;
//! losses and metrics are added up on the device.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use ndarray::{ArrayD, IxDyn};

use super::loss::{Each, Loss};
use super::metric::{Metric, add_up};
use super::weights::Weights;
use crate::compile::Options;
use crate::data::{Column, Dataset, Numbers};
use crate::error::{Error, Result};
use crate::exec::Device;
use crate::expr::Expr;
use crate::graph::{Graph, Handle, Program};
use crate::model::{Input, Model, Pass, Role, Scope, Variables};
use crate::ops::advance::Advance;
use crate::ops::constant::Constant;
use crate::ops::pointwise::{Pointwise, pointwise};
use crate::ops::reduce::Reduce;
use crate::ops::rows::Rows;
use crate::ops::shuffle::Shuffle;
use crate::ops::{COUNTER, Tape, Value};
use crate::optim::Optimizer;
use crate::rng::{KEYS, keys};
use crate::run::Session;
use crate::shape::{DType, Type};
use crate::tensor::{Host, pack};

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
    /// Resident training data; none is fed.
    pub data: Option<&'a Dataset>,
    /// Data that is evaluated, by name.
    pub evaluated: &'a [(&'a str, &'a Dataset)],
}

/// A variable of the model that is saved.
struct Saved {
    name: String,
    extents: Vec<usize>,
    handle: Handle<f32>,
    initial: Vec<f32>,
}

/// A data set that is evaluated.
struct Evaluation {
    program: Program,
    rows: usize,
    runs: u64,
    counter: Handle<u32>,
    /// Totals of each term of the loss, and what they are divided by where that is not the rows.
    terms: Vec<(f64, Handle<f32>, Option<Handle<f32>>)>,
    metrics: Vec<(Metric, Handle<f32>)>,
}

/// What an evaluation finds, of each replica: its loss and the metrics' values by name.
pub(super) type Evaluated = Vec<(f64, Vec<(String, f64)>)>;

/// A compiled training run.
pub(super) struct Training {
    session: Session,
    order: Option<Program>,
    train: Program,
    fed: Vec<(String, Host32)>,
    saved: Vec<Saved>,
    states: Vec<(String, Handle<f32>)>,
    loss: Handle<f32>,
    evaluations: Vec<Evaluation>,
    /// Steps in an epoch of resident data.
    pub epoch_steps: usize,
    replicas: usize,
}

/// A column that is fed.
#[derive(Clone, Copy)]
enum Host32 {
    F32(Handle<f32>),
    U32(Handle<u32>),
}

/// Columns on the device: numbers that several columns share stand there once.
struct Resident {
    buffers: HashMap<(usize, DType), Value>,
    uploads: Vec<(Value, Host)>,
}

impl Resident {
    fn buffer(&mut self, graph: &mut Graph, name: &str, numbers: &Numbers) -> Result<Value> {
        let (address, host) = match numbers {
            Numbers::F32(all) => (Arc::as_ptr(all) as usize, Host::F32(all.to_vec())),
            Numbers::U32(all) => (Arc::as_ptr(all) as usize, Host::U32(all.to_vec())),
            Numbers::U8(all, _) => (Arc::as_ptr(all) as usize, Host::U32(pack(all))),
        };
        if let Some(&known) = self.buffers.get(&(address, host.dtype())) {
            return Ok(known);
        }
        let ty = match host.dtype() {
            DType::F32 => Type::f32(name, &[host.len()])?,
            DType::U32 => Type::u32(name, &[host.len()])?,
        };
        let value = graph.variable(name, ty.shared())?;
        self.buffers.insert((address, host.dtype()), value);
        self.uploads.push((value, host));
        Ok(value)
    }
}

/// Holds a column to what the model or the loss takes.
fn fits(
    column: &Column,
    wanted: &Input,
    classes: Option<usize>,
    ignored: Option<u32>,
) -> Result<()> {
    let place = || format!("column {}", column.name);
    if column.extents != wanted.extents || column.numbers.dtype() != wanted.dtype {
        let text = |extents: &[usize], dtype| match dtype {
            DType::F32 => format!("floats {extents:?} a row"),
            DType::U32 => format!("integers {extents:?} a row"),
        };
        let found = text(&column.extents, column.numbers.dtype());
        return Err(Error::shape(
            place(),
            found,
            text(&wanted.extents, wanted.dtype),
        ));
    }
    if let (Some(classes), Numbers::U32(all)) = (classes, &column.numbers)
        && let Some(&wrong) = all
            .iter()
            .find(|&&c| c as usize >= classes && Some(c) != ignored)
    {
        let wanted = format!("classes from 0 to {}", classes.saturating_sub(1));
        return Err(Error::setting(place(), wrong, wanted));
    }
    Ok(())
}

/// A mini-batch of each column that a graph needs.
struct Columns<'a> {
    set: String,
    data: &'a Dataset,
    batch: usize,
    epoch_steps: usize,
    order: Value,
    step: Value,
    made: HashMap<String, Value>,
}

impl Columns<'_> {
    fn batch(&mut self, graph: &mut Graph, resident: &mut Resident, name: &str) -> Result<Value> {
        if let Some(&made) = self.made.get(name) {
            return Ok(made);
        }
        let column = self.data.column(name)?;
        let buffer = format!("{} {name}", self.set);
        let values = resident.buffer(graph, &buffer, &column.numbers)?;
        let rows = Rows {
            batch: self.batch,
            rows: self.data.rows(),
            extents: column.extents.clone(),
            stride: column.stride,
            start: column.start,
            epoch_steps: self.epoch_steps,
            bytes: match column.numbers {
                Numbers::U8(_, scale) => Some(scale),
                _ => None,
            },
        };
        let made = graph.op1(Arc::new(rows), &[values, self.order, self.step])?;
        self.made.insert(name.into(), made);
        Ok(made)
    }
}

/// The loss of a mini-batch of `n` examples, and its gradient with respect to `parameters`.
struct Cost {
    /// `[1]`.
    mean: Value,
    gradients: Vec<Option<Value>>,
}

fn cost(graph: &mut Graph, terms: &[(f64, Each)], n: usize, wrt: &[Value]) -> Result<Cost> {
    graph.label("loss forward");
    let sum = |graph: &mut Graph, parts: Vec<(f64, Value)>| {
        let mut total = None;
        for (weight, value) in parts {
            total = Some(match total {
                None if weight == 1.0 => value,
                None => pointwise(graph, [value], |[x]| x * weight)?,
                Some(total) => pointwise(graph, [total, value], |[t, x]| t + x * weight)?,
            });
        }
        total.ok_or_else(|| Error::setting("loss", "no term", "one or more"))
    };
    let one = |graph: &mut Graph, extents: &[usize], value: f64| {
        let extents = extents.to_vec();
        graph.op1(Arc::new(Constant { extents, value }), &[])
    };
    if terms.iter().all(|(_, each)| each.counts.is_none()) {
        let each = sum(
            graph,
            terms.iter().map(|(w, each)| (*w, each.sums)).collect(),
        )?;
        let mean = graph.op1(Arc::new(Reduce::new(None, 1.0 / n as f64)), &[each])?;
        graph.label("loss backward");
        let seed = one(graph, &[n], 1.0 / n as f64)?;
        let gradients = graph.gradients(each, seed, wrt)?;
        return Ok(Cost { mean, gradients });
    }
    let mut means = Vec::new();
    for (weight, each) in terms {
        let total = graph.op1(Arc::new(Reduce::new(None, 1.0)), &[each.sums])?;
        let mean = match each.counts {
            None => pointwise(graph, [total], |[t]| t * (1.0 / n as f64))?,
            Some(counts) => {
                let counts = graph.op1(Arc::new(Reduce::new(None, 1.0)), &[counts])?;
                pointwise(graph, [total, counts], |[t, c]| t / c)?
            }
        };
        means.push((*weight, mean));
    }
    let mean = sum(graph, means)?;
    graph.label("loss backward");
    let seed = one(graph, &[1], 1.0)?;
    let gradients = graph.gradients(mean, seed, wrt)?;
    Ok(Cost { mean, gradients })
}

/// The columns that a model and its loss take: name, example, classes, and the ignored one.
struct Wanted {
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

    /// Holds a data set's columns to what is wanted of them.
    fn check(&self, data: &Dataset, wanted: &Wanted) -> Result<()> {
        for (name, input) in &wanted.inputs {
            fits(data.column(name)?, input, None, None)?;
        }
        for (term, targets) in self.loss.terms().iter().zip(&wanted.targets) {
            let classes = term.classes(self.model)?;
            for (name, target) in targets {
                fits(
                    data.column(name)?,
                    target,
                    classes,
                    term.criterion.ignored(),
                )?;
            }
        }
        for metric in self.metrics {
            let (_, output) = self.metric_output(metric)?;
            let target = metric.measure().target(&output)?;
            fits(data.column(metric.target())?, &target, None, None)?;
        }
        Ok(())
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
    ) -> Result<Vec<(f64, Each)>> {
        let mut each = Vec::new();
        for (term, targets) in self.loss.terms().iter().zip(&wanted.targets) {
            let places = term.outputs(self.model)?;
            let outputs: Vec<Value> = places.iter().map(|(place, _)| outputs[*place]).collect();
            let targets = targets.iter().map(|(name, _)| target(scope, name));
            let targets = targets.collect::<Result<Vec<_>>>()?;
            let written = term.criterion.write(scope, &outputs, &targets);
            let written =
                written.map_err(|e| e.within(&format!("loss {}", term.criterion.name())))?;
            each.push((term.weight, written));
        }
        Ok(each)
    }

    /// Writes the graph, compiles it and gives every variable its first value.
    pub fn compile(&self, device: &Device) -> Result<Training> {
        if self.batch == 0 {
            return Err(Error::setting("mini-batch", 0, "at least 1"));
        }
        let wanted = self.wanted()?;
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
            self.check(data, &wanted)
                .map_err(|e| of_set(e, "training"))?;
            epoch_steps = data.rows() / self.batch;
            if epoch_steps == 0 {
                let wanted = format!("at most the {} rows of the training data", data.rows());
                return Err(Error::setting("mini-batch", self.batch, wanted));
            }
            let value = graph.variable("order", Type::u32("order", &[data.rows()])?)?;
            order_program = Some(graph.begin("order"));
            let n = data.rows();
            graph.op(Arc::new(Shuffle { n, epoch_steps }), &[value, key, step])?;
            order = Some(value);
        }
        let train = graph.begin("train");
        let mut fed: Vec<(String, Value)> = Vec::new();
        let mut columns = self.data.zip(order).map(|(data, order)| Columns {
            set: "training".into(),
            data,
            batch: self.batch,
            epoch_steps,
            order,
            step,
            made: HashMap::new(),
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
                        let value = graph.variable(name, example.of_batch(name, self.batch)?)?;
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
        let pass = Pass::Training { keys: key, step };
        let outputs = self
            .model
            .write(&mut graph, &mut variables, &inputs, pass)?;
        let mut streams = LOSS_STREAMS;
        graph.label("loss forward");
        let mut scope = Scope::new(&mut graph, &mut variables, pass, &mut streams);
        let find = |_: &mut Scope<'_>, name: &str| Ok(targets[name]);
        let terms = self.terms(&mut scope, &outputs, find, &wanted)?;
        let parameters: Vec<(String, Value)> = variables
            .of(Role::Parameter)
            .map(|v| (v.name.clone(), v.value))
            .collect();
        let values: Vec<Value> = parameters.iter().map(|(_, v)| *v).collect();
        let Cost { mean, gradients } = cost(&mut graph, &terms, self.batch, &values)?;
        let named: Vec<(&str, Value)> = parameters.iter().map(|(n, v)| (n.as_str(), *v)).collect();
        let update = self.optimizer.declare(&mut graph, &named)?;
        update.apply(&mut graph, &gradients, step)?;
        graph.label("loss total");
        let add = Pointwise::new(&[Expr::input(0) + Expr::input(1)]).updating(0, 0);
        graph.op(Arc::new(add), &[total, mean])?;
        graph.label("step");
        graph.op(Arc::new(Advance), &[step])?;
        let mut evaluations = Vec::new();
        for (set, data) in self.evaluated {
            self.check(data, &wanted).map_err(|e| of_set(e, set))?;
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
        self.write(&mut session, &graph, key, resident)?;
        let mut training = Training {
            order: order_program,
            train,
            fed: fed
                .iter()
                .map(|(name, value)| Ok((name.clone(), host32(&graph, *value)?)))
                .collect::<Result<_>>()?,
            saved: self.saved(&mut session, &graph, &variables)?,
            states: update
                .states()
                .into_iter()
                .map(|(name, value)| Ok((name, graph.handle(value)?)))
                .collect::<Result<_>>()?,
            loss: graph.handle(total)?,
            evaluations,
            epoch_steps,
            replicas: self.replicas,
            session,
        };
        training.session.fill(graph.handle::<u32>(step)?, 0)?;
        training.session.fill(training.loss, 0.0)?;
        training.session.run(init, 1)?;
        Ok(training)
    }

    fn evaluation(
        &self,
        set: &str,
        data: &Dataset,
        wanted: &Wanted,
        graph: &mut Graph,
        variables: &mut Variables,
        resident: &mut Resident,
    ) -> Result<Evaluation> {
        let rows = data.rows();
        let batch = self.batch.max(EVALUATION_BATCH).min(rows);
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
            data,
            batch,
            epoch_steps: runs,
            order,
            step: counter,
            made: HashMap::new(),
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
        let outputs = self
            .model
            .write(graph, variables, &inputs, Pass::Evaluation)?;
        graph.label("evaluation");
        let mut streams = LOSS_STREAMS;
        let mut scope = Scope::new(graph, variables, Pass::Evaluation, &mut streams);
        // Which places of the last mini-batch are examples.
        let places = scope.constant(&[batch], (0..batch).map(|k| k as f32).collect())?;
        let last = (rows - (runs - 1) * batch) as f64;
        let full = Expr::step().lt((runs - 1) as f64);
        let counted = full.or(&Expr::input(0).lt(last)).select(1.0, 0.0);
        let counted = scope.op1(Arc::new(Pointwise::new(&[counted])), &[places, counter])?;
        let find = |_: &mut Scope<'_>, name: &str| Ok(targets[name]);
        let each = self.terms(&mut scope, &outputs, find, wanted)?;
        let mut written = Vec::new();
        for (weight, each) in each {
            written.push((weight, each.sums, each.counts));
        }
        let mut measured = Vec::new();
        for metric in self.metrics {
            let (place, _) = self.metric_output(metric)?;
            let target = targets[metric.target()];
            let value = metric.measure().write(&mut scope, outputs[place], target);
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
        Ok(Evaluation {
            program,
            rows,
            runs: runs as u64,
            counter: graph.handle(counter)?,
            terms,
            metrics,
        })
    }

    /// Writes keys and resident columns.
    fn write(
        &self,
        session: &mut Session,
        graph: &Graph,
        key: Value,
        resident: Resident,
    ) -> Result<()> {
        let replicas = self.replicas as u32;
        let own = (0..replicas).flat_map(|r| keys(self.seed, self.first_replica + r));
        session.write(graph.handle::<u32>(key)?, &own.collect::<Vec<u32>>())?;
        for (value, host) in resident.uploads {
            let handle = graph.handle::<Host>(value)?;
            let copies = session.elements(handle)? / host.len();
            let host = match host {
                host if copies == 1 => host,
                Host::F32(values) => Host::F32(values.repeat(copies)),
                Host::U32(values) => Host::U32(values.repeat(copies)),
            };
            session.write(handle, &host)?;
        }
        Ok(())
    }

    /// Gives the model's variables their first values.
    fn saved(
        &self,
        session: &mut Session,
        graph: &Graph,
        variables: &Variables,
    ) -> Result<Vec<Saved>> {
        let mut saved = Vec::new();
        let mut number = 0;
        for variable in variables.all() {
            let handle: Handle<f32> = graph.handle(variable.value)?;
            let mut initial = Vec::new();
            for replica in 0..self.replicas as u32 {
                initial.extend(variable.draw(self.seed, self.first_replica + replica, number));
            }
            session.write(handle, &initial)?;
            if variable.role == Role::Parameter {
                number += 1;
            }
            if variable.role != Role::Constant {
                saved.push(Saved {
                    name: variable.name.clone(),
                    extents: variable.ty.shape.extents().to_vec(),
                    handle,
                    initial,
                });
            }
        }
        Ok(saved)
    }
}

/// Streams of losses and metrics begin behind those of layers.
const LOSS_STREAMS: u32 = 1 << 15;

/// Examples that an evaluation takes at once, at least.
const EVALUATION_BATCH: usize = 256;

fn host32(graph: &Graph, value: Value) -> Result<Host32> {
    Ok(match graph.ty(value)?.dtype {
        DType::F32 => Host32::F32(graph.handle(value)?),
        DType::U32 => Host32::U32(graph.handle(value)?),
    })
}

/// The error with the data set's name before it.
fn of_set(error: Error, set: &str) -> Error {
    match error {
        Error::Setting {
            name,
            found,
            wanted,
        } => Error::setting(format!("{set} data, {name}"), found, wanted),
        other => other.within(&format!("{set} data")),
    }
}

impl Training {
    pub fn session(&self) -> &Session {
        &self.session
    }

    pub fn train_program(&self) -> Program {
        self.train
    }

    /// Writes a fed column: the same for every replica.
    pub fn feed(&mut self, name: &str, host: &Host) -> Result<()> {
        let Some((_, handle)) = self.fed.iter().find(|(other, _)| other == name) else {
            let known: Vec<&str> = self.fed.iter().map(|(n, _)| n.as_str()).collect();
            return Err(Error::unknown("column", name, &known));
        };
        let wrong = |found: &str, wanted: &str| {
            let name = format!("column {name}");
            Error::setting(name, found, wanted)
        };
        match (*handle, host) {
            (Host32::F32(handle), Host::F32(values)) => self.session.write_each(handle, values),
            (Host32::U32(handle), Host::U32(values)) => self.session.write_each(handle, values),
            (Host32::F32(_), _) => Err(wrong("integers", "floats")),
            (Host32::U32(_), _) => Err(wrong("floats", "integers")),
        }
    }

    /// Draws the order of the epoch that the next step belongs to.
    pub fn shuffle(&mut self) -> Result<()> {
        match self.order {
            Some(order) => self.session.run(order, 1),
            None => Ok(()),
        }
    }

    pub fn run(&mut self, steps: u64) -> Result<()> {
        self.session.run(self.train, steps)
    }

    /// The sum of the losses since it was asked last, of each replica.
    pub fn take_loss(&mut self) -> Result<Vec<f64>> {
        let sums = self.session.read(self.loss)?;
        self.session.fill(self.loss, 0.0)?;
        Ok(sums.iter().map(|&x| f64::from(x)).collect())
    }

    /// Evaluates some of the sets; with the losses since they were asked last, in one readback.
    pub fn evaluate(&mut self, sets: Range<usize>) -> Result<(Vec<f64>, Vec<Evaluated>)> {
        let sets = &self.evaluations[sets];
        for set in sets {
            self.session.fill(set.counter, 0)?;
            for (_, sums, counts) in &set.terms {
                self.session.fill(*sums, 0.0)?;
                if let Some(counts) = counts {
                    self.session.fill(*counts, 0.0)?;
                }
            }
            for (_, totals) in &set.metrics {
                self.session.fill(*totals, 0.0)?;
            }
            self.session.run(set.program, set.runs)?;
        }
        let totals = sets.iter().flat_map(|set| {
            let terms = set.terms.iter().flat_map(|(_, s, c)| [Some(*s), *c]);
            terms.flatten().chain(set.metrics.iter().map(|(_, t)| *t))
        });
        let handles: Vec<Handle<f32>> = totals.collect();
        let (losses, totals) = self.session.read((self.loss, handles))?;
        self.session.fill(self.loss, 0.0)?;
        let mut totals = totals.into_iter();
        // The next total, of each replica.
        let mut next = || -> Vec<Vec<f64>> {
            let wide = |part: &[f32]| part.iter().map(|&x| f64::from(x)).collect();
            let values = totals.next();
            values.map_or_else(Vec::new, |v| v.replicas().map(wide).collect())
        };
        let mut evaluated = Vec::new();
        for set in sets {
            let mut results: Evaluated = vec![(0.0, vec![]); self.replicas];
            for (weight, _, counts) in &set.terms {
                let sums = next();
                let counts = counts.map(|_| next());
                for (replica, result) in results.iter_mut().enumerate() {
                    let rows = set.rows as f64;
                    let count = counts.as_ref().map_or(rows, |counts| counts[replica][0]);
                    result.0 += weight * sums[replica][0] / count;
                }
            }
            for (metric, _) in &set.metrics {
                let totals = next();
                for (totals, result) in totals.iter().zip(&mut results) {
                    result.1.extend(metric.measure().finish(totals, set.rows));
                }
            }
            evaluated.push(results);
        }
        Ok((losses.iter().map(|&x| f64::from(x)).collect(), evaluated))
    }

    /// The model's weights and statistics of each replica.
    pub fn weights(&mut self) -> Result<Vec<Weights>> {
        let handles: Vec<Handle<f32>> = self.saved.iter().map(|s| s.handle).collect();
        let values = self.session.read(handles)?;
        let mut all = Vec::new();
        for replica in 0..self.replicas {
            let tensors = self.saved.iter().zip(&values).map(|(saved, values)| {
                let part = values.replica(replica).unwrap_or_default().to_vec();
                Ok((saved.name.clone(), array(&saved.extents, part)?))
            });
            all.push(Weights::from_tensors(tensors.collect::<Result<Vec<_>>>()?));
        }
        Ok(all)
    }

    /// Gives every replica these weights.
    pub fn set_weights(&mut self, weights: &Weights) -> Result<()> {
        for saved in &self.saved {
            let values = weights.values(&saved.name, &saved.extents)?;
            self.session.write_each(saved.handle, values)?;
        }
        Ok(())
    }

    /// Each replica's weights, one after the other.
    pub fn set_each(&mut self, weights: &[Weights]) -> Result<()> {
        for saved in &self.saved {
            let mut all = Vec::with_capacity(saved.initial.len());
            for weights in weights {
                all.extend_from_slice(weights.values(&saved.name, &saved.extents)?);
            }
            self.session.write(saved.handle, &all)?;
        }
        Ok(())
    }

    /// What the optimizer keeps, by name, of all replicas.
    pub fn states(&mut self) -> Result<Vec<(String, Vec<f32>)>> {
        let handles: Vec<Handle<f32>> = self.states.iter().map(|(_, h)| *h).collect();
        let values = self.session.read(handles)?;
        let names = self.states.iter().map(|(name, _)| name.clone());
        Ok(names
            .zip(values.into_iter().map(|v| v.into_vec()))
            .collect())
    }
}

fn array(extents: &[usize], values: Vec<f32>) -> Result<ArrayD<f32>> {
    let found = values.len();
    ArrayD::from_shape_vec(IxDyn(extents), values)
        .map_err(|_| Error::shape("weights", format!("{found} values"), format!("{extents:?}")))
}

//! What a step of several models is described with.

use std::collections::HashMap;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::expr::Expr;
use crate::fit::cost::mean_of_terms;
use crate::fit::loss::Loss;
use crate::fit::resident::{Columns, Need, Resident, Sharded, Who, of_set};
use crate::graph::{Graph, Kind};
use crate::model::{Input, Model, Pass, Role, Scope, Variables};
use crate::ops::constant::Constant;
use crate::ops::pointwise::{Pointwise, pointwise};
use crate::ops::reduce::Reduce;
use crate::ops::{Op, Tape, Value};
use crate::optim::{BySetting, Optimizer, Table, Update};
use crate::shape::Type;

/// A model of a [`JointStep`](super::JointStep), by which it is called and trained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Net {
    graph: crate::ops::GraphId,
    number: usize,
}

/// A loss, what it trains and how.
#[derive(Clone, Copy, Debug)]
pub struct Objective<'a> {
    /// The loss's name in [`JointStep::numbers`](super::JointStep::numbers).
    pub name: &'a str,
    /// What is minimised, `[1]`.
    pub loss: Value,
    /// The models whose parameters it trains.
    pub nets: &'a [Net],
    /// How. Its groups see parameters by the names `<model>.<layer>.<parameter>`.
    pub optimizer: &'a Optimizer,
}

/// What a step of several models is described with. It is a [`Tape`], so ops and functions over tapes,
/// such as [`pointwise`], take it; values are `[N, …]` with N the mini-batch, losses `[1]`.
pub struct JointScope<'a> {
    pub(super) graph: Graph,
    pub(super) pass: Pass,
    pub(super) batch: usize,
    models: Vec<Model>,
    nets: Vec<(String, Variables)>,
    /// What losses declare: classes' weights and the like.
    pub(super) constants: Variables,
    pub(super) streams: u32,
    columns: Option<Columns<'a>>,
    resident: Resident,
    inputs: Vec<(String, Input, Value)>,
    /// What is wanted of inputs.
    needs: Vec<Need>,
    numbers: Vec<(String, Value)>,
    updates: Vec<Update>,
    /// Loss scales, by loss.
    scales: Vec<(String, Value)>,
    /// The replicas whose rates are set by hand.
    by_hand: Option<usize>,
    tables: Vec<(String, Table, Optimizer)>,
    /// Parameters and statistics that have been updated, and how many nodes there were afterwards.
    updated: HashMap<Value, usize>,
}

/// A step that is described.
pub(super) struct Written {
    pub graph: Graph,
    pub nets: Vec<(String, Variables)>,
    pub constants: Variables,
    pub resident: Resident,
    /// Columns of data in shards.
    pub shards: Option<Sharded>,
    pub fed: Vec<(String, Value)>,
    /// What is wanted of what is fed, and of shards.
    pub needs: Vec<Need>,
    pub numbers: Vec<(String, Value)>,
    pub updates: Vec<Update>,
    pub scales: Vec<(String, Value)>,
    pub tables: Vec<(String, Table, Optimizer)>,
}

impl<'a> JointScope<'a> {
    pub(super) fn new(
        graph: Graph,
        pass: Pass,
        batch: usize,
        columns: Option<Columns<'a>>,
        by_hand: Option<usize>,
    ) -> Self {
        Self {
            graph,
            pass,
            batch,
            models: vec![],
            nets: vec![],
            constants: Variables::of_model("loss"),
            streams: 0,
            columns,
            resident: Resident::default(),
            by_hand,
            tables: vec![],
            inputs: vec![],
            needs: vec![],
            numbers: vec![],
            updates: vec![],
            scales: vec![],
            updated: HashMap::new(),
        }
    }

    pub(super) fn finish(self) -> Result<Written> {
        if self.updates.is_empty() {
            let wanted = "a loss that is minimised, at least";
            return Err(Error::setting("joint step", "none", wanted));
        }
        let fed = self
            .inputs
            .into_iter()
            .map(|(name, _, value)| (name, value));
        let (fed, shards) = match self.columns {
            Some(columns) => (vec![], columns.shards),
            None => (fed.collect(), None),
        };
        Ok(Written {
            graph: self.graph,
            nets: self.nets,
            constants: self.constants,
            resident: self.resident,
            shards,
            fed,
            needs: self.needs,
            numbers: self.numbers,
            updates: self.updates,
            scales: self.scales,
            tables: self.tables,
        })
    }

    /// Examples in a mini-batch.
    pub fn batch(&self) -> usize {
        self.batch
    }

    /// A model under a name. Its parameters are drawn when the step is compiled, those of the first model
    /// as [`Weights::initial`](crate::fit::Weights::initial) draws them.
    ///
    /// # Errors
    /// [`Error::Setting`] for a name that is taken or empty.
    pub fn model(&mut self, name: &str, model: &Model) -> Result<Net> {
        if name.is_empty() || self.nets.iter().any(|(other, _)| other == name) {
            let wanted = "a name of its own for each model";
            return Err(Error::setting("model", format!("`{name}`"), wanted));
        }
        self.models.push(model.clone());
        self.nets.push((name.into(), Variables::of_model(name)));
        Ok(Net {
            graph: self.graph.id(),
            number: self.nets.len() - 1,
        })
    }

    /// An input by name, of floats where only extents are given, `[N, …]`: fed before a step, or a column
    /// of the resident data. The same name is the same value.
    ///
    /// # Errors
    /// [`Error::Shape`] where it was of other extents before, or the column does not fit;
    /// [`Error::UnknownName`] for a column that is missing.
    pub fn input(&mut self, name: &str, input: impl Into<Input>) -> Result<Value> {
        let input = input.into();
        if let Some((_, known, value)) = self.inputs.iter().find(|(other, ..)| other == name) {
            if *known == input {
                return Ok(*value);
            }
            let place = format!("input {name}");
            let (found, wanted) = (format!("{:?}", input.extents), &known.extents);
            let wanted = format!("{wanted:?}, as where it was asked for first");
            return Err(Error::shape(place, found, wanted));
        }
        self.graph.label("mini-batch");
        let value = match &mut self.columns {
            Some(columns) => {
                let need = Need {
                    who: Who::Step,
                    ..Need::of(name, &input)
                };
                need.check(columns.data)
                    .map_err(|e| of_set(e, "training"))?;
                columns.batch(&mut self.graph, &mut self.resident, name)?
            }
            None => {
                let ty = input.of_batch(name, self.batch)?;
                self.graph.variable(&format!("column {name}"), ty)?
            }
        };
        self.inputs.push((name.into(), input, value));
        Ok(value)
    }

    /// The same number everywhere, `[N, …]`.
    ///
    /// # Errors
    /// [`Error::Shape`] for extents that no value can have, [`Error::Setting`] for a number that is not
    /// finite.
    pub fn fill(&mut self, extents: impl AsRef<[usize]>, value: f64) -> Result<Value> {
        self.graph.label("number");
        let extents = [&[self.batch][..], extents.as_ref()].concat();
        self.graph.op1(Arc::new(Constant { extents, value }), &[])
    }

    /// The first output of a model that trains: masks are drawn, statistics are those of the mini-batch
    /// and kept up. Its weights are those of all its uses.
    ///
    /// # Errors
    /// What a layer's shape rule says, with the names of model and layer; [`Error::Setting`] for a column of the data
    /// with numbers for which an embedding has no row.
    pub fn call(&mut self, net: Net, inputs: &[Value]) -> Result<Value> {
        self.written(net, inputs, self.pass).map(|all| all[0])
    }

    /// All outputs of a model that trains, in the order of [`Model::outputs`].
    ///
    /// # Errors
    /// As [`JointScope::call`].
    pub fn call_all(&mut self, net: Net, inputs: &[Value]) -> Result<Vec<Value>> {
        self.written(net, inputs, self.pass)
    }

    /// The first output of a model that does not train, such as a teacher: nothing is random and no
    /// statistic changes. Gradients pass.
    ///
    /// # Errors
    /// As [`JointScope::call`].
    pub fn evaluate(&mut self, net: Net, inputs: &[Value]) -> Result<Value> {
        let all = self.written(net, inputs, Pass::Evaluation)?;
        Ok(all[0])
    }

    /// All outputs of a model that does not train.
    ///
    /// # Errors
    /// As [`JointScope::call`].
    pub fn evaluate_all(&mut self, net: Net, inputs: &[Value]) -> Result<Vec<Value>> {
        self.written(net, inputs, Pass::Evaluation)
    }

    fn written(&mut self, net: Net, inputs: &[Value], pass: Pass) -> Result<Vec<Value>> {
        let number = self.own(net)?;
        let (name, variables) = &mut self.nets[number];
        let model = &self.models[number];
        let all = inputs.iter().zip(model.inputs());
        for (value, (input, wanted)) in all {
            let (found, wanted) = (self.graph.ty(*value)?, wanted.of_batch(input, self.batch)?);
            if (found.dtype, &found.shape) != (wanted.dtype, &wanted.shape) {
                let place = format!("model {name}, input {input}");
                return Err(Error::shape(place, found.to_string(), wanted.to_string()));
            }
        }
        let made = model.write_from(&mut self.graph, variables, inputs, pass, &mut self.streams);
        let made = made.map_err(|e| e.within(&format!("model {name}")))?;
        // A use that trains moves the model's statistics, which an evaluation before it has read.
        if matches!(pass, Pass::Training { .. }) {
            let now = self.graph.nodes().len();
            let statistics = variables.of(Role::Statistic);
            self.updated.extend(statistics.map(|v| (v.value, now)));
        }
        for &value in inputs {
            let numbered = self.nets[number].1.numbered(value);
            self.hold(value, |name, input| Need {
                numbered,
                ..Need::of(name, input)
            })?;
        }
        Ok(made)
    }

    /// The place of a model of this step.
    fn own(&self, net: Net) -> Result<usize> {
        match net.graph == self.graph.id() {
            true => Ok(net.number),
            false => {
                let wanted = "those that this step has made";
                Err(Error::setting("model", "one of another step", wanted))
            }
        }
    }

    /// The mean loss of the mini-batch, `[1]`: of a loss of one term, over these outputs and targets.
    ///
    /// # Errors
    /// [`Error::Setting`] for a loss of several terms or another number of outputs or targets;
    /// [`Error::Shape`] for targets that do not fit the outputs; for a column of the data, labels that are no
    /// class and targets that are no probabilities, by row; what the shape rules say.
    pub fn loss(&mut self, loss: &Loss, outputs: &[Value], targets: &[Value]) -> Result<Value> {
        let [term] = loss.terms() else {
            let wanted = "a loss of one term; values are added by `JointScope::sum`";
            return Err(Error::setting("loss", loss.name(), wanted));
        };
        term.check()?;
        let place = format!("loss {}", term.criterion.name());
        let example = |graph: &Graph, v: Value| Ok::<_, Error>(Input::of_type(graph.ty(v)?));
        let outputs_of: Vec<Input> = outputs
            .iter()
            .map(|&v| example(&self.graph, v))
            .collect::<Result<_>>()?;
        if outputs.len() != term.criterion.outputs() {
            let found = format!("{} outputs", outputs.len());
            return Err(Error::setting(
                place,
                found,
                term.criterion.outputs().to_string(),
            ));
        }
        let wanted = term.criterion.targets(&outputs_of)?;
        if targets.len() != wanted.len() {
            let found = format!("{} targets", targets.len());
            return Err(Error::setting(place, found, wanted.len().to_string()));
        }
        for (&target, wanted) in targets.iter().zip(&wanted) {
            let found = self.graph.ty(target)?;
            let wanted = wanted.of_batch("target", self.batch)?;
            if (found.dtype, &found.shape) != (wanted.dtype, &wanted.shape) {
                let name = format!("{place}, target");
                return Err(Error::shape(name, found.to_string(), wanted.to_string()));
            }
            self.hold(target, |name, input| {
                Need::of_target(&*term.criterion, &outputs_of, name, input)
            })?;
        }
        self.graph.label("loss forward");
        let (graph, variables) = (&mut self.graph, &mut self.constants);
        let mut scope = Scope::new(graph, variables, self.pass, &mut self.streams);
        let each = term.criterion.write(&mut scope, outputs, targets);
        let each = each.map_err(|e| e.within(&place))?;
        mean_of_terms(&mut self.graph, &[(term.weight, each)], self.batch)
    }

    /// Holds what a value gets to a need, where it is an input: columns of the data here and now, what is fed when it
    /// is ([`JointStep::feed`](super::JointStep::feed)).
    fn hold(&mut self, value: Value, need: impl FnOnce(&str, &Input) -> Need) -> Result<()> {
        let mut inputs = self.inputs.iter();
        let Some((name, input, _)) = inputs.find(|(_, _, own)| *own == value) else {
            return Ok(());
        };
        let need = need(name, input);
        if self.needs.contains(&need) {
            return Ok(());
        }
        if let Some(Columns { data, shards, .. }) = &self.columns {
            let held = need.check(data).and_then(|()| match shards {
                None => need.counts(data),
                // The one row that is known says nothing of the others.
                Some(_) => Ok(()),
            });
            held.map_err(|e| of_set(e, "training"))?;
        }
        self.needs.push(need);
        Ok(())
    }

    /// The mean over all elements, `[1]`.
    ///
    /// # Errors
    /// As [`Tape::op`].
    pub fn mean(&mut self, value: Value) -> Result<Value> {
        let n = self.graph.ty(value)?.elements();
        self.graph
            .op1(Arc::new(Reduce::new(None, 1.0 / n as f64)), &[value])
    }

    /// The sum of values of the same extents, such as losses.
    ///
    /// # Errors
    /// [`Error::Setting`] for none, [`Error::Shape`] for extents that differ.
    pub fn sum(&mut self, values: &[Value]) -> Result<Value> {
        let Some((&first, rest)) = values.split_first() else {
            return Err(Error::setting("sum", "nothing", "at least one value"));
        };
        rest.iter().try_fold(first, |sum, &value| {
            pointwise(&mut self.graph, [sum, value], |[a, b]| a + b)
        })
    }

    /// The value, which no gradient passes.
    ///
    /// # Errors
    /// As [`Tape::op`].
    pub fn detach(&mut self, value: Value) -> Result<Value> {
        crate::ops::detach::detach(&mut self.graph, value)
    }

    /// Keeps account of a number `[1]` of each step, for
    /// [`JointStep::numbers`](super::JointStep::numbers).
    ///
    /// # Errors
    /// [`Error::Setting`] for a name that is taken, [`Error::Shape`] for more than one element.
    pub fn track(&mut self, name: &str, value: Value) -> Result<()> {
        let place = format!("number {name}");
        self.number(&place, value)?;
        if name.is_empty() || self.numbers.iter().any(|(other, _)| other == name) {
            let wanted = "a name of its own for each loss and number";
            return Err(Error::setting("number", format!("`{name}`"), wanted));
        }
        self.graph.label(format!("{name} total"));
        let ty = Type::f32(name, &[1])?;
        let total = self.graph.variable(&format!("{name} total"), ty)?;
        let add = Pointwise::new(&[Expr::input(0) + Expr::input(1)]).updating(0, 0);
        self.graph.op(Arc::new(add), &[total, value])?;
        self.numbers.push((name.into(), total));
        Ok(())
    }

    /// Holds a value to be one float.
    fn number(&self, place: &str, value: Value) -> Result<()> {
        let (found, wanted) = (self.graph.ty(value)?, Type::f32(place, &[1])?);
        match *found == wanted {
            true => Ok(()),
            false => {
                let wanted = format!("{wanted}, as `JointScope::loss` and `mean` make it");
                Err(Error::shape(place, found.to_string(), wanted))
            }
        }
    }

    /// Minimises a loss `[1]` over the parameters of some models, here and now: what is written behind
    /// this sees the new weights. To the optimizer's groups a parameter is called `<model>.<layer>.<parameter>`.
    ///
    /// # Errors
    /// As [`JointScope::minimise_all`].
    pub fn minimise(
        &mut self,
        name: &str,
        loss: Value,
        nets: &[Net],
        optimizer: &Optimizer,
    ) -> Result<()> {
        self.minimise_all(&[Objective {
            name,
            loss,
            nets,
            optimizer,
        }])
    }

    /// Minimises several losses from the same weights: takes the gradients of all of them, then does the
    /// updates in their order.
    ///
    /// # Errors
    /// [`Error::Setting`] for a name that is taken, a parameter that the loss does not depend on, a loss
    /// that was computed by weights which have been updated since; [`Error::Shape`] for a loss of more
    /// than one element.
    pub fn minimise_all(&mut self, objectives: &[Objective<'_>]) -> Result<()> {
        for objective in objectives {
            objective.optimizer.check_step()?;
        }
        let mut updates = Vec::new();
        for objective in objectives {
            let place = format!("loss {}", objective.name);
            self.number(&place, objective.loss)?;
            let mut parameters: Vec<(String, Value)> = Vec::new();
            for (k, &net) in objective.nets.iter().enumerate() {
                if objective.nets[..k].contains(&net) {
                    let (model, _) = &self.nets[self.own(net)?];
                    let found = format!("model {model} twice");
                    return Err(Error::setting(place, found, "each model once"));
                }
                let (model, variables) = &self.nets[self.own(net)?];
                let of = variables.of(Role::Parameter);
                parameters.extend(of.map(|v| (format!("{model}.{}", v.name), v.value)));
            }
            if parameters.is_empty() {
                let wanted = "models with parameters that have been called";
                return Err(Error::setting(place, "nothing to train", wanted));
            }
            let values: Vec<Value> = parameters.iter().map(|(_, v)| *v).collect();
            self.fresh(&place, objective.loss, &values)?;
            self.graph.label(format!("{} backward", objective.name));
            let named = parameters.iter().map(|(n, v)| (n.as_str(), *v));
            let named: Vec<(&str, Value)> = named.collect();
            let under = format!("{}: ", objective.name);
            let (graph, optimizer) = (&mut self.graph, objective.optimizer);
            let update = match self.by_hand {
                None => optimizer.declare_under(graph, &under, &named),
                Some(replicas) => {
                    let each = vec![optimizer.clone(); replicas];
                    optimizer.declare_table(graph, &under, &each, BySetting::ALL, &named)
                }
            };
            let update = update.map_err(|e| e.within(&place))?;
            let seed = update.seed(&mut self.graph, &[1], 1.0)?;
            let gradients = self.graph.gradients(objective.loss, seed, &values)?;
            self.scales
                .extend(update.scale().map(|v| (objective.name.to_string(), v)));
            updates.push((update, gradients, values));
            self.track(objective.name, objective.loss)?;
        }
        let Pass::Training { step, .. } = self.pass else {
            return Err(Error::setting("update", "no step", "a training pass"));
        };
        for ((update, gradients, values), objective) in updates.into_iter().zip(objectives) {
            let place = format!("loss {}", objective.name);
            if self.by_hand.is_some() {
                let table = update.apply_table(&mut self.graph, &gradients, step);
                let table = table.map_err(|e| e.within(&place))?;
                let name = objective.name.to_string();
                self.tables.push((name, table, objective.optimizer.clone()));
            } else {
                let applied = update.apply(&mut self.graph, &gradients, step);
                applied.map_err(|e| e.within(&place))?;
            }
            let now = self.graph.nodes().len();
            self.updated.extend(values.into_iter().map(|v| (v, now)));
            self.updates.push(update);
        }
        Ok(())
    }

    /// Refuses a loss whose gradient with respect to `parameters` would read weights that have been
    /// updated since they were used.
    fn fresh(&self, place: &str, loss: Value, parameters: &[Value]) -> Result<()> {
        let nodes = self.graph.nodes();
        let mut depends = vec![false; nodes.len()];
        for parameter in parameters {
            depends[parameter.node] = true;
        }
        for (i, node) in nodes.iter().enumerate() {
            depends[i] |= node.inputs.iter().any(|v| depends[v.node]);
        }
        let mut reached = vec![false; nodes.len()];
        reached[loss.node] = true;
        for (i, node) in nodes.iter().enumerate().rev() {
            let Kind::Op(op) = &node.kind else { continue };
            if !reached[i] || !depends[i] || op.name() == "detach" {
                continue;
            }
            for input in &node.inputs {
                reached[input.node] = true;
                if self.updated.get(input).is_some_and(|&updated| updated > i) {
                    let Kind::Variable(name) = &nodes[input.node].kind else {
                        continue;
                    };
                    let found = format!("a value by {name} as it was before its update");
                    let wanted = "models that are called after the update, or losses that are \
                                  minimised together (`JointScope::minimise_all`)";
                    return Err(Error::setting(place, found, wanted));
                }
            }
        }
        Ok(())
    }
}

impl Tape for JointScope<'_> {
    fn op(&mut self, op: Arc<dyn Op>, inputs: &[Value]) -> Result<Vec<Value>> {
        self.graph.op(op, inputs)
    }

    fn ty(&self, value: Value) -> Result<&Type> {
        self.graph.ty(value)
    }
}

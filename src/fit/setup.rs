//! From a model, a loss, an optimizer and data to the graph of a training run.
//!
//! Programs: `init` makes the optimizer's state, `order` draws an epoch's order, `train` is one step,
//! `evaluate <set>` one mini-batch of an evaluation. A step uploads nothing and reads nothing back;
//! losses and metrics are added up on the device.

use super::cost::LOSS_STREAMS;
use super::loss::{Each, Loss};
use super::metric::Metric;
use super::mixup::of_shares;
use super::resident::{Need, Sharded, Who, has_rows, of_set};
use super::shards::{Given, Pair};
use super::training::Host32;
use crate::data::words;
use crate::error::{Error, Result};
use crate::exec::Device;
use crate::graph::Graph;
use crate::model::{Input, Model, Pass, Scope, Variables};
use crate::ops::gather::Expansion;
use crate::ops::{Tape, Value};
use crate::optim::{BySetting, Optimizer};
use crate::shape::DType;

mod compiled;
mod evaluation;
mod mixed;
mod step;
mod writing;

/// A grid's longest side, along which replicas stand.
const MOST_REPLICAS: usize = 65_535;

/// What a training graph is made of.
pub(crate) struct Setup<'a> {
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
    /// What is to be done with a step.
    pub wishes: Wishes,
    /// α of mixed examples.
    pub mixup: Option<f64>,
    /// Training data; none is fed.
    pub data: Option<&'a Given<'a>>,
    /// Data that is evaluated, by name.
    pub evaluated: &'a [(&'a str, Given<'a>)],
}
/// What is to be done with a step.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wishes {
    /// Train. Where weights are only evaluated, there is no step.
    pub trains: bool,
    /// Set rates and freeze parameters.
    pub by_hand: bool,
    /// Set rates alone.
    pub rates: bool,
    /// Read gradients.
    pub gradients: bool,
    /// Read the loss of each of so many steps.
    pub losses: usize,
    /// Hold a launch of every so many-th step to the reference.
    pub verify: u64,
    /// Join ops to launches.
    pub fuse: bool,
    /// Know the run again by what it computes.
    pub fingerprint: bool,
    /// Leave replicas as they are while others train.
    pub stops: bool,
    /// Keep the class that the first output answers for each evaluated example; loss and accuracy are added up by the
    /// same op.
    pub answers: bool,
    /// Keep the mean of the weights at the ends of epochs, from this one on, counted from 1.
    pub mean_from: Option<usize>,
    /// Look for numbers that are not finite in what is kept between epochs.
    pub watches: bool,
    /// Views of each picture of the training data.
    pub expansion: Expansion,
    /// Examples that an evaluation takes at once; the mini-batch or 256, if not said.
    pub evaluation_batch: Option<usize>,
}

impl Default for Wishes {
    fn default() -> Self {
        Self {
            trains: true,
            by_hand: false,
            rates: false,
            gradients: false,
            losses: 0,
            verify: 0,
            fuse: true,
            fingerprint: false,
            stops: false,
            answers: false,
            mean_from: None,
            watches: false,
            expansion: Expansion::None,
            evaluation_batch: None,
        }
    }
}

/// The columns that a model and its loss take: name, example, classes, and the ignored one.
pub(super) struct Wanted {
    inputs: Vec<(String, Input)>,
    targets: Vec<Vec<(String, Input)>>,
}

impl Wanted {
    /// The names of all columns.
    fn columns(&self) -> Vec<String> {
        let all = self.inputs.iter().chain(self.targets.iter().flatten());
        all.map(|(name, _)| name.clone()).collect()
    }
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

    /// What of the optimizer is set while training goes on.
    fn by_setting(&self) -> BySetting {
        BySetting {
            rates: self.wishes.by_hand || self.wishes.rates,
            holds: self.wishes.by_hand || self.wishes.stops,
        }
    }

    /// Whether hyperparameters stand in a table on the device.
    fn has_table(&self) -> bool {
        self.by_setting().rates || !self.sweep.is_empty()
    }

    /// What is wanted of each column of a data set.
    pub(super) fn needs(&self) -> Result<Vec<Need>> {
        let wanted = self.wanted()?;
        let mut needs = self.inputs(&wanted)?;
        for (term, targets) in self.loss.terms().iter().zip(&wanted.targets) {
            needs.extend(Need::of_targets(term, targets, self.model)?);
        }
        for metric in self.metrics {
            let (_, output) = self.metric_output(metric)?;
            let target = metric.measure().target(&output)?;
            needs.push(Need {
                who: Who::Metric(metric.name().into()),
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

    /// Examples of an epoch: of data in shards those of one, of expanded data every view.
    fn examples(&self, data: &Given<'_>) -> usize {
        let rows = data.shard(self.batch).unwrap_or(data.rows());
        rows * self.wishes.expansion.factor()
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
    pub(super) fn checked(&self) -> Result<Wanted> {
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
        self.optimizer.check_step()?;
        if self.wishes.mean_from.is_some() && self.optimizer.averages() {
            let wanted = "none where the mean over the ends of epochs is taken (`average_from`)";
            return Err(Error::setting("average over steps", "one", wanted));
        }
        if self.has_table() {
            self.optimizer.check_table()?;
        }
        if !self.sweep.is_empty() && self.sweep.len() != self.replicas {
            let found = format!("{} optimizers", self.sweep.len());
            let wanted = format!("one for each of {} replicas", self.replicas);
            return Err(Error::setting("sweep", found, wanted));
        }
        let (wanted, needs) = (self.wanted()?, self.needs()?);
        self.can_mix(&wanted)?;
        let check = |data: &Given<'_>| {
            has_rows(data.columns())?;
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
            let examples = data.rows() * self.wishes.expansion.factor();
            if examples < self.batch {
                let wanted = match examples == data.rows() {
                    true => format!("at most the {examples} rows of the training data"),
                    false => format!("at most the {examples} views of the training data"),
                };
                return Err(Error::setting("mini-batch", self.batch, wanted));
            }
            data.has_batch(self.batch)?;
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
}

/// The two variables of each column of data in shards.
pub(super) fn paired(graph: &Graph, shards: Option<Sharded>) -> Result<Vec<Pair>> {
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

//! What a run is recognised by.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::Fit;
use crate::checkpoints::{Refusal, Run, narrowed};
use crate::data::{DataRef, Shards};
use crate::error::Result;
use crate::fit::checkpoint::{State, fingerprint};
use crate::fit::metric::Metric;
use crate::fit::report::Epoch;
use crate::fit::shards::Given;
use crate::fit::weights::Weights;
use crate::graph::without_addresses;

/// The name of what a run's steps compute, and how it is validated.
const STEP: &str = "what a step computes";
/// What helps against most differences.
const FIX: &str = "Give the run the settings that it began with, or another folder.";

/// A run's settings by name: a checkpoint of a run with others is refused by the first that differs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub(in crate::fit) struct Settings(BTreeMap<String, Value>);

impl Settings {
    /// Adds what the run's steps compute, which functions write that have no name.
    pub(super) fn compiled(&mut self, fingerprint: &str) {
        self.0.insert(STEP.into(), json!(fingerprint));
    }
}

impl Run for Settings {
    type State = State;
    type Epoch = Epoch;

    fn refusal(&self, theirs: &Self) -> Option<Refusal> {
        // What else differs is often the reason for those that come last.
        let late = |name: &str| match name {
            STEP => 2,
            "model" | "optimizer" => 1,
            _ => 0,
        };
        let differs = |(name, ours): &(&String, &Value)| theirs.0.get(*name) != Some(*ours);
        let differing = self.0.iter().filter(differs);
        let (name, ours) = differing.min_by_key(|(name, _)| late(name))?;
        let refusal = |found: String, wanted: String, fix: &str| Refusal {
            found: format!("a run {found}"),
            wanted: format!("a checkpoint of this run, {wanted}"),
            fix: fix.into(),
        };
        let Some(other) = theirs.0.get(name) else {
            let found = format!("that says nothing of {name}");
            return Some(refusal(found, "which does".into(), FIX));
        };
        if let Some((found, wanted)) = schedules(name, other, ours) {
            return Some(refusal(
                format!("with the schedule {found}"),
                format!("with the schedule {wanted}"),
                "A schedule that goes over the epochs of a run is another one where these are more or fewer, so the \
                 steps already done would have had other rates. Give the run the epochs and the schedule that it began \
                 with, or another folder.",
            ));
        }
        if name == STEP {
            return Some(Refusal {
                found: "a run whose steps, or whose validation, compute something else".into(),
                wanted: "a checkpoint of this run".into(),
                fix: "Names and numbers of model, loss and optimizer are the same, so a function has changed that writes \
                      some of them: a loss, an expression, a metric, which parameters are in a group. Give the run those \
                      that it began with, or another folder."
                    .into(),
            });
        }
        let (place, [ours, theirs]) = narrowed(name, ours, other);
        Some(refusal(
            format!("with {place} {theirs}"),
            format!("with {place} {ours}"),
            FIX,
        ))
    }
}

/// The schedules of two optimizers, as text, that are the same but for these.
fn schedules<'a>(name: &str, found: &'a Value, wanted: &'a Value) -> Option<(&'a str, &'a str)> {
    fn parts(text: &str) -> Option<(&str, &str, &str)> {
        let (before, rest) = text.split_once(", schedule: ")?;
        let (schedule, behind) = rest.split_once(", groups: ")?;
        Some((before, schedule, behind))
    }
    let (found, wanted) = (parts(found.as_str()?)?, parts(wanted.as_str()?)?);
    let alike = name == "optimizer" && (found.0, found.2) == (wanted.0, wanted.2);
    alike.then_some((found.1, wanted.1))
}

impl Fit<'_> {
    /// What a run is recognised by before it is compiled.
    pub(super) fn settings(&self, data: &Given<'_>) -> Result<Settings> {
        let shapes = || {
            let all = self.model.variables().iter();
            let all = all.map(|v| format!("{} {:?}", v.name, v.ty.shape.extents()));
            all.collect::<Vec<_>>().join(", ")
        };
        let model = self.model.to_json().ok();
        let model = model.and_then(|text| serde_json::from_str(&text).ok());
        let names = |all: &[Metric]| {
            let all: Vec<String> = all.iter().map(|m| m.name().to_string()).collect();
            all.join(", ")
        };
        let in_shards = |shards: &Shards<'_>| {
            let identity = shards.identity()?;
            Ok(format!("{identity} in shards of {}", shards.shard_rows()))
        };
        let training = match data {
            Given::Whole(data) => fingerprint(data),
            Given::Shards(shards, _) => in_shards(shards)?,
        };
        let validation = match self.validation {
            None => "none".into(),
            Some(DataRef::Whole(data)) => fingerprint(data),
            Some(DataRef::Shards(shards)) => in_shards(&shards)?,
        };
        let initial = self.initial.map_or("drawn".into(), Weights::sha256);
        let optimizer = match &self.sweep[..] {
            [] => format!("{:?}", self.optimizer),
            sweep => format!("{sweep:?}"),
        };
        let callbacks = self.callbacks.iter().filter(|c| !c.observes());
        let callbacks: Vec<String> = callbacks.map(|c| c.settings()).collect();
        let all = [
            ("version", json!(env!("CARGO_PKG_VERSION"))),
            ("model", model.unwrap_or_else(|| json!(shapes()))),
            (
                "loss",
                json!(without_addresses(&format!("{:?}", self.loss))),
            ),
            ("optimizer", json!(optimizer)),
            ("metrics", json!(names(&self.metrics))),
            ("mini-batch", json!(self.batch)),
            ("replicas", json!(self.replicas)),
            ("first replica", json!(self.first_replica)),
            ("seed", json!(self.seed)),
            ("initial weights", json!(initial)),
            ("mixup", json!(self.mixup)),
            ("first epoch of the mean", json!(self.mean_from)),
            ("epochs to an evaluation", json!(self.evaluate_every)),
            ("training data measured", json!(self.measure_training)),
            ("training data", json!(training)),
            ("validation data", json!(validation)),
            ("callbacks", json!(callbacks.join(", "))),
        ];
        Ok(Settings(
            all.map(|(name, value)| (name.to_string(), value)).into(),
        ))
    }
}

//! What a run is recognised by, and the checkpoint that it goes on from.

use std::collections::BTreeMap;

use super::Fit;
use crate::data::DataRef;
use crate::error::Result;
use crate::fit::checkpoint::{Checkpoint, STEP, fingerprint};
use crate::fit::metric::Metric;
use crate::fit::shards::Given;
use crate::fit::training::Training;
use crate::fit::weights::Weights;
use crate::graph::without_addresses;

impl Fit<'_> {
    /// What a run is recognised by.
    pub(super) fn settings(&self, data: &Given<'_>) -> Result<BTreeMap<String, String>> {
        let shapes = || {
            let all = self.model.variables().iter();
            let all = all.map(|v| format!("{} {:?}", v.name, v.ty.shape.extents()));
            all.collect::<Vec<_>>().join(", ")
        };
        let names = |all: &[Metric]| {
            let all: Vec<String> = all.iter().map(|m| m.name().to_string()).collect();
            all.join(", ")
        };
        let training = match data {
            Given::Whole(data) => fingerprint(data),
            Given::Shards(shards, _) => {
                let identity = shards.identity()?;
                format!("{identity} in shards of {}", shards.shard_rows())
            }
        };
        let validation = match self.validation {
            None => "none".into(),
            Some(DataRef::Whole(data)) => fingerprint(data),
            Some(DataRef::Shards(shards)) => shards.identity()?,
        };
        let initial = self.initial.map_or("drawn".into(), Weights::sha256);
        let optimizer = match &self.sweep[..] {
            [] => format!("{:?}", self.optimizer),
            sweep => format!("{sweep:?}"),
        };
        let callbacks = self.callbacks.iter().filter(|c| !c.observes());
        let callbacks: Vec<String> = callbacks.map(|c| c.settings()).collect();
        let all = [
            ("version", env!("CARGO_PKG_VERSION").to_string()),
            ("model", self.model.to_json().unwrap_or_else(|_| shapes())),
            ("loss", without_addresses(&format!("{:?}", self.loss))),
            ("optimizer", optimizer),
            ("metrics", names(&self.metrics)),
            ("mini-batch", self.batch.to_string()),
            ("replicas", self.replicas.to_string()),
            ("first replica", self.first_replica.to_string()),
            ("seed", self.seed.to_string()),
            ("initial weights", initial),
            ("mixup", format!("{:?}", self.mixup)),
            ("first epoch of the mean", format!("{:?}", self.mean_from)),
            ("epochs to an evaluation", self.evaluate_every.to_string()),
            ("training data measured", self.measure_training.to_string()),
            ("training data", training),
            ("validation data", validation),
            ("callbacks", callbacks.join(", ")),
        ];
        Ok(all.map(|(name, value)| (name.to_string(), value)).into())
    }

    /// The checkpoint to go on from.
    pub(super) fn earlier(&self, run: &BTreeMap<String, String>) -> Result<Option<Checkpoint>> {
        let Some(path) = self.checkpoint.as_ref().filter(|_| self.resume) else {
            return Ok(None);
        };
        let earlier = Checkpoint::load(path)?;
        if let Some(earlier) = &earlier {
            earlier.of_run(path, run)?;
        }
        Ok(earlier)
    }

    /// Adds to what a run is recognised by what its steps compute, which functions write that have no name.
    pub(super) fn recognised(
        &self,
        run: &mut BTreeMap<String, String>,
        training: &Training,
        earlier: Option<&Checkpoint>,
    ) -> Result<()> {
        run.insert(STEP.into(), training.fingerprint.clone());
        match (earlier, &self.checkpoint) {
            (Some(earlier), Some(path)) => earlier.of_run(path, run),
            _ => Ok(()),
        }
    }
}

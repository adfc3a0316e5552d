//! What a run starts from: checkpoints and given weights.

use std::path::Path;

use super::{Trainer, counters};
use crate::error::{Error, Result};
use crate::tensor::Host;
use crate::train::Model;
use crate::train::checkpoint::{self, Checkpoint, Keeper, Origin};
use crate::train::programs;

impl Trainer {
    /// From now on, [`Trainer::run`] writes a checkpoint to `folder` after each epoch and
    /// keeps the `last` ones.
    ///
    /// # Errors
    /// [`Error::Io`] when the folder cannot be written to, [`Error::Setting`] if `last`
    /// is 0.
    pub fn keep_checkpoints(&mut self, folder: &Path, last: usize) -> Result<()> {
        let identity = self.run_identity();
        self.keeper = Some(Keeper::new(folder, last, identity, self.settings.replicas)?);
        Ok(())
    }

    /// The name of this run's checkpoints.
    fn run_identity(&self) -> String {
        match &self.given {
            Some(model) => checkpoint::given(&self.identity, model),
            None => self.identity.clone(),
        }
    }

    /// Goes on from the newest whole checkpoint of this very run (same network, settings,
    /// training data and given weights; under rules the same validation data as well; the
    /// number of epochs may differ, and a single network's `stop_after`) in the folder given to
    /// [`Trainer::keep_checkpoints`]. Returns how many epochs are done: 0 if there is no
    /// checkpoint. On the device and driver that wrote it, the run ends with the weights
    /// of one that was never interrupted, bit for bit; [`Trainer::origins`] says what wrote it.
    ///
    /// # Errors
    /// [`Error::Io`] when the folder cannot be read, [`Error::Device`] when the device
    /// failed.
    pub fn resume(&mut self) -> Result<usize> {
        let newest = match &self.keeper {
            Some(keeper) => keeper.newest()?,
            None => None,
        };
        let Some(checkpoint) = newest else {
            return Ok(0);
        };
        self.restore(&checkpoint)?;
        self.history = checkpoint.history;
        let own = self.origins.pop();
        self.origins = checkpoint.origins;
        if self.origins.last() != own.as_ref() {
            self.origins.extend(own);
        }
        // The buffers hold evaluations of nothing; the history holds the last one's numbers.
        self.evaluated = false;
        self.write_hyper()?;
        Ok(self.history.len())
    }

    /// Starts from given weights instead of drawn ones: one set for each replica, or one
    /// for all. To be called before the first epoch.
    ///
    /// # Errors
    /// [`Error::Setting`] if the model is of another network or another number of
    /// replicas, or epochs have been run.
    pub fn set_weights(&mut self, model: &Model) -> Result<()> {
        if !self.history.is_empty() {
            let found = format!("{} epochs done", self.history.len());
            return Err(Error::setting("given weights", found, "no epoch done yet"));
        }
        model.write(&self.network, self.executor.as_mut())?;
        // Before the first epoch the mean is the weights.
        self.average()?;
        self.given = Some(model.clone());
        let identity = self.run_identity();
        if let Some(keeper) = &mut self.keeper {
            keeper.identity = identity;
        }
        Ok(())
    }

    /// What trained this run's epochs: the origins of the checkpoint it went on from, then
    /// this version and device.
    pub fn origins(&self) -> &[Origin] {
        &self.origins
    }

    pub(super) fn restore(&mut self, checkpoint: &Checkpoint) -> Result<()> {
        for (name, values) in &checkpoint.buffers {
            self.write(name, &Host::F32(values.clone()))?;
        }
        let step = (checkpoint.history.len() * self.steps) as u32;
        self.begin_at(step)
    }

    /// Sets the number of the next training step.
    pub(super) fn begin_at(&mut self, step: u32) -> Result<()> {
        let counters = counters(self.executor.plan(), step);
        self.write("train step", &counters)
    }

    pub(super) fn checkpoint(&mut self) -> Result<Checkpoint> {
        let names: Vec<String> = self
            .parameters
            .iter()
            .flat_map(|p| {
                let (v, mean) = (programs::velocity(&p.name), programs::average(&p.name));
                [p.name.clone(), v, mean]
            })
            .filter(|name| self.executor.plan().state(name).is_some())
            .collect();
        let buffers: Vec<usize> = names.iter().map(|n| self.state(n)).collect::<Result<_>>()?;
        let hosts = self.executor.read_all(&buffers)?;
        let values = hosts.into_iter().map(|h| h.floats().unwrap_or_default());
        Ok(Checkpoint {
            history: self.history.clone(),
            origins: self.origins.clone(),
            buffers: names.into_iter().zip(values).collect(),
        })
    }
}

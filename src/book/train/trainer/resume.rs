//! What a run starts from: checkpoints and given weights.

use std::path::Path;

use super::{Trainer, Watch};
use crate::book::train::Model;
use crate::book::train::checkpoint::{Checkpoint, Identity, Keeper, Origin, State};
use crate::error::{Error, Result};
use crate::graph::Handle;
use crate::tensor::Values;

impl Trainer {
    /// From now on, [`Trainer::run`] writes a checkpoint to `folder` after each epoch and
    /// keeps the `last` ones. Runs that differ may share a folder.
    ///
    /// A run that was not resumed puts its checkpoints in the place of those that an earlier run
    /// of the same settings has left.
    ///
    /// # Errors
    /// [`Error::Io`] when the folder cannot be written to, [`Error::Setting`] if `last`
    /// is 0.
    pub fn keep_checkpoints(&mut self, folder: &Path, last: usize) -> Result<()> {
        let identity = self.run_identity();
        self.keeper = Some(Keeper::new(folder, last, identity, self.settings.replicas)?);
        Ok(())
    }

    /// What tells this run's checkpoints from others'.
    fn run_identity(&self) -> Identity {
        match &self.given {
            Some(model) => self.identity.clone().given(model),
            None => self.identity.clone(),
        }
    }

    /// Goes on from the newest whole checkpoint of this very run (same network, settings,
    /// training data and given weights; under rules the same validation data as well; the
    /// number of epochs may be larger, and a single network's `stop_after` another) in the folder
    /// given to [`Trainer::keep_checkpoints`]. Returns how many epochs are done: 0 if there is no
    /// checkpoint. On the device and driver that wrote it, the run ends with the weights
    /// of one that was never interrupted, bit for bit; [`Trainer::origins`] says what wrote it.
    ///
    /// # Errors
    /// [`Error::Setting`] where the checkpoint has more epochs than are wanted,
    /// [`Error::Io`] when the folder cannot be read, [`Error::Device`] when the device
    /// failed.
    pub fn resume(&mut self) -> Result<usize> {
        let Some(keeper) = &mut self.keeper else {
            return Ok(0);
        };
        let Some(checkpoint) = keeper.newest()? else {
            return Ok(0);
        };
        if checkpoint.state.epochs > self.settings.epochs {
            let folder = keeper.folder().display();
            let done = checkpoint.state.epochs;
            let wanted = format!(
                "at least the {done} that the checkpoint in {folder} has, or other settings"
            );
            return Err(Error::setting("epochs", self.settings.epochs, wanted));
        }
        keeper.take_up(&checkpoint);
        self.take_up(checkpoint)?;
        Ok(self.epochs_done())
    }

    /// [`Trainer::resume`] in a folder that holds the checkpoints of one run: those of another
    /// are refused, by the name of what differs.
    ///
    /// # Errors
    /// [`Error::File`] naming the checkpoint, the setting that differs and its two values; else
    /// as [`Trainer::resume`].
    pub fn resume_sole(&mut self) -> Result<usize> {
        let others = match &mut self.keeper {
            Some(keeper) if keeper.list()?.is_empty() => keeper.stranger()?,
            _ => None,
        };
        match others {
            Some(refusal) => Err(refusal),
            None => self.resume(),
        }
    }

    /// Removes every checkpoint from the folder given to [`Trainer::keep_checkpoints`], this
    /// run's and others': a run that begins anew in a folder of its own leaves none behind that a
    /// later one could take for its own.
    ///
    /// # Errors
    /// [`Error::Io`] when the folder cannot be read or a file not be removed.
    pub fn clear_checkpoints(&mut self) -> Result<()> {
        match &mut self.keeper {
            Some(keeper) => keeper.clear(),
            None => Ok(()),
        }
    }

    fn take_up(&mut self, checkpoint: Checkpoint) -> Result<()> {
        self.restore(&checkpoint.state)?;
        self.history.clear();
        self.watches.fill(Watch::default());
        for epoch in checkpoint.history {
            self.record(epoch);
        }
        let own = self.origins.pop();
        self.origins = checkpoint.state.origins;
        if self.origins.last() != own.as_ref() {
            self.origins.extend(own);
        }
        // The buffers hold evaluations of nothing; the history holds the last one's numbers.
        self.evaluated = false;
        Ok(())
    }

    /// Starts from given weights instead of drawn ones: one set for each replica, or one
    /// for all. To be called before the first step.
    ///
    /// # Errors
    /// [`Error::Setting`] if the model is of another network or another number of
    /// replicas, a weight is not finite, or steps have been trained.
    pub fn set_weights(&mut self, model: &Model) -> Result<()> {
        if self.done > 0 {
            let found = format!("{} training steps done", self.done);
            return Err(Error::setting("given weights", found, "no step done yet"));
        }
        let weights = self.training.weights_handles();
        model.write(&self.parameters, &weights, &mut self.training.session)?;
        // Before the first epoch the mean is the weights.
        self.training.average()?;
        self.given = Some(model.clone());
        let identity = self.run_identity();
        if let Some(keeper) = &mut self.keeper {
            keeper.rename(identity);
        }
        Ok(())
    }

    /// What trained this run's epochs: the origins of the checkpoint it went on from, then
    /// this version and device.
    pub fn origins(&self) -> &[Origin] {
        &self.origins
    }

    pub(super) fn restore(&mut self, state: &State) -> Result<()> {
        for (name, values) in &state.buffers {
            let known = self.training.kept.iter().find(|(known, _)| known == name);
            let (_, handle) = known.ok_or_else(|| {
                let found = "a buffer that this run does not keep";
                Error::setting(format!("checkpoint's {name}"), found, "those that it keeps")
            })?;
            self.training.session.write(*handle, values)?;
        }
        self.begin_at((state.epochs * self.steps) as u32)
    }

    /// Sets the number of the next training step.
    pub(super) fn begin_at(&mut self, step: u32) -> Result<()> {
        self.training.begin_at(step)?;
        self.done = u64::from(step);
        self.under_way = 0.0;
        Ok(())
    }

    /// Writes a checkpoint, where some are kept.
    pub(super) fn keep(&mut self) -> Result<()> {
        if self.keeper.is_none() {
            return Ok(());
        }
        let state = self.kept_state()?;
        match &mut self.keeper {
            Some(keeper) => keeper.write(&state, &self.history),
            None => Ok(()),
        }
    }

    fn kept_state(&mut self) -> Result<State> {
        let handles = self.training.kept.iter().map(|(_, handle)| *handle);
        let handles: Vec<Handle<f32>> = handles.collect();
        let values = self.training.session.read(handles)?;
        let names = self.training.kept.iter().map(|(name, _)| name.clone());
        let names: Vec<String> = names.collect();
        self.check_finite(names.iter().map(String::as_str).zip(&values))?;
        let values = values.into_iter().map(Values::into_vec);
        let buffers = names.into_iter().zip(values);
        Ok(State {
            epochs: self.epochs_done(),
            origins: self.origins.clone(),
            buffers: buffers.collect(),
        })
    }
}

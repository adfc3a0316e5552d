//! What a run starts from: checkpoints and given weights.

use std::path::Path;

use ndarray::{ArrayD, IxDyn};

use super::{Trainer, Watch};
use crate::book::train::Model;
use crate::book::train::identity::{Identity, Origin, State};
use crate::checkpoints::{Entry, Kept, Store};
use crate::error::{Error, Result};
use crate::graph::Handle;
use crate::tensor::Values;

impl Trainer {
    /// From now on, [`Trainer::run`] writes a checkpoint to `folder` after each epoch and
    /// keeps the `last` ones. The folder is this run's.
    ///
    /// A run that was not resumed puts its checkpoints in the place of those that an earlier run has left.
    ///
    /// # Errors
    /// [`Error::Io`] when the folder cannot be written to, [`Error::Setting`] if `last`
    /// is 0.
    pub fn keep_checkpoints(&mut self, folder: &Path, last: usize) -> Result<()> {
        let replicas = self.settings.replicas;
        self.store = Some(Store::open(folder, last, replicas, self.run_identity())?);
        Ok(())
    }

    /// [`Trainer::keep_checkpoints`] in a folder of this run within one that runs share. Its name follows from the run's
    /// settings, data and weights given so far ([`Trainer::set_weights`] comes before), so runs that differ never meet there.
    ///
    /// # Errors
    /// As [`Trainer::keep_checkpoints`].
    pub fn keep_checkpoints_among(&mut self, folder: &Path, last: usize) -> Result<()> {
        let name = self.run_identity().name();
        self.keep_checkpoints(&folder.join(name), last)
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
    /// [`Error::File`] for a checkpoint of another run, naming the setting that differs and its two values, and where all
    /// are broken; [`Error::Setting`] where the checkpoint has more epochs than are wanted,
    /// [`Error::Io`] when the folder cannot be read, [`Error::Device`] when the device
    /// failed.
    pub fn resume(&mut self) -> Result<usize> {
        let Some(store) = &mut self.store else {
            return Ok(0);
        };
        let Some(kept) = store.newest()? else {
            return Ok(0);
        };
        if kept.entry.epochs > self.settings.epochs {
            let folder = store.folder().display();
            let done = kept.entry.epochs;
            let wanted = format!(
                "at least the {done} that the checkpoint in {folder} has, or other settings"
            );
            return Err(Error::setting("epochs", self.settings.epochs, wanted));
        }
        store.take_up(&kept);
        self.take_up(kept)?;
        Ok(self.epochs_done())
    }

    /// Removes every checkpoint from the folder given to [`Trainer::keep_checkpoints`], this
    /// run's and others': a run that begins anew leaves none behind that a
    /// later one could take for its own.
    ///
    /// # Errors
    /// [`Error::Io`] when the folder cannot be read or a file not be removed.
    pub fn clear_checkpoints(&mut self) -> Result<()> {
        match &mut self.store {
            Some(store) => store.clear(),
            None => Ok(()),
        }
    }

    fn take_up(&mut self, kept: Kept<Identity>) -> Result<()> {
        self.restore(&kept.entry)?;
        self.history.clear();
        self.watches.fill(Watch::default());
        for epoch in kept.epochs {
            self.record(epoch);
        }
        let own = self.origins.pop();
        self.origins = kept.entry.state.origins;
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
        if let Some(store) = &mut self.store {
            store.begin(identity);
        }
        Ok(())
    }

    /// What trained this run's epochs: the origins of the checkpoint it went on from, then
    /// this version and device.
    pub fn origins(&self) -> &[Origin] {
        &self.origins
    }

    pub(super) fn restore(&mut self, entry: &Entry<State>) -> Result<()> {
        for (name, values) in &entry.tensors {
            let known = self.training.kept.iter().find(|(known, _)| known == name);
            let (_, handle) = known.ok_or_else(|| {
                let found = "a buffer that this run does not keep";
                Error::setting(format!("checkpoint's {name}"), found, "those that it keeps")
            })?;
            let values: Vec<f32> = values.iter().copied().collect();
            self.training.session.write(*handle, &values)?;
        }
        self.begin_at((entry.epochs * self.steps) as u32)
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
        if self.store.is_none() {
            return Ok(());
        }
        let entry = self.entry()?;
        match &mut self.store {
            Some(store) => store.write(entry, &self.history),
            None => Ok(()),
        }
    }

    fn entry(&mut self) -> Result<Entry<State>> {
        let handles = self.training.kept.iter().map(|(_, handle)| *handle);
        let handles: Vec<Handle<f32>> = handles.collect();
        let values = self.training.session.read(handles)?;
        let names = self.training.kept.iter().map(|(name, _)| name.clone());
        let names: Vec<String> = names.collect();
        self.check_finite(names.iter().map(String::as_str).zip(&values))?;
        let tensors = names
            .into_iter()
            .zip(values.into_iter().map(Values::into_vec));
        let tensors = tensors.map(|(name, values)| {
            let array = ArrayD::from_shape_vec(IxDyn(&[values.len()]), values)
                .map_err(|e| Error::shape(&name, e.to_string(), "a flat list"))?;
            Ok((name, array))
        });
        Ok(Entry {
            epochs: self.epochs_done(),
            state: State {
                origins: self.origins.clone(),
            },
            tensors: tensors.collect::<Result<_>>()?,
        })
    }
}

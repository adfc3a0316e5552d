//! Runs over data in shards.

use super::Fit;
use crate::data::DataRef;
use crate::error::Result;
use crate::exec::Device;
use crate::fit::resident::Need;
use crate::fit::saved::Seed;
use crate::fit::shards::{Epochs, Given, Uploads};
use crate::fit::training::Training;

impl Fit<'_> {
    /// What an epoch of training data in shards uploads; `None` where they lie on the device as a whole,
    /// since then it uploads nothing. Evaluations of data in shards upload these, and are not counted.
    ///
    /// # Errors
    /// As [`Fit::check`].
    pub fn uploads<'d>(
        &self,
        data: impl Into<DataRef<'d>>,
        device: &Device,
    ) -> Result<Option<Uploads>> {
        let given = Given::open("training", data.into())?;
        let sets = self.sets_beside(&given)?;
        self.held(&given, &sets)?;
        let setup = self.setup(Some(&given), &sets);
        let (needs, training) = (setup.needs()?, setup.compile(device)?);
        let epochs = self.epochs_over(&given, &training, &needs);
        epochs.map(|epochs| epochs.uploads(0)).transpose()
    }

    /// Training alone, for tests that look at it step by step.
    #[cfg(test)]
    pub(in crate::fit) fn compiled(
        &self,
        data: &Given<'_>,
        device: &Device,
    ) -> Result<(Vec<Need>, Training)> {
        let setup = self.setup(Some(data), &[]);
        Ok((setup.needs()?, setup.compile(device)?))
    }

    /// Training over data in shards.
    pub(in crate::fit) fn epochs_over<'s>(
        &self,
        data: &Given<'s>,
        training: &Training,
        needs: &[Need],
    ) -> Option<Epochs<'s>> {
        let seed = Seed {
            seed: self.seed,
            first_replica: self.first_replica,
            replicas: self.replicas,
        };
        Epochs::of(data, needs, training.over_shards(), seed, self.batch)
    }
}

//! Which launch it was that made a value infinite.

use super::Trainer;
use crate::error::{Error, Result};
use crate::kernel::Access;
use crate::plan::Binding;
use crate::shape::DType;

impl Trainer {
    /// The error for a loss that stopped being finite in `step`. Runs are repeatable, so
    /// the epoch is run again, and its last steps launch by launch, to see which layer
    /// and pass it was; where its start is not kept,
    /// or nothing is found, `otherwise` is named.
    pub(super) fn not_finite(
        &mut self,
        step: u64,
        replica: usize,
        otherwise: &str,
    ) -> Result<Error> {
        let found = self.first_not_finite(step, replica)?;
        let (place, step) = found.unwrap_or_else(|| (otherwise.into(), step));
        let epochs = self.history.len();
        let kept = self.keeper.as_ref().and_then(|k| k.after(epochs));
        let fix = match kept {
            Some(_) => "Lower the learning rate; the checkpoint of the epoch before is finite.",
            None => "Lower the learning rate.",
        };
        Ok(Error::NotFinite {
            place: format!("epoch {}, {place}", epochs + 1),
            step,
            replica,
            fix: fix.into(),
        })
    }

    fn first_not_finite(&mut self, step: u64, replica: usize) -> Result<Option<(String, u64)>> {
        let epochs = self.history.len();
        let first = (epochs * self.steps) as u64;
        match self.keeper.as_ref().and_then(|k| k.after(epochs)) {
            Some(checkpoint) => self.restore(&checkpoint)?,
            None if epochs == 0 => {
                self.begin_at(0)?;
                self.executor.run("init", 1)?;
                if let Some(model) = &self.given {
                    model.write(&self.network, self.executor.as_mut())?;
                }
            }
            None => return Ok(None),
        }
        self.executor.run("shuffle", 1)?;
        // What made the loss infinite is in its own step, or in the backward pass and the
        // update of the step before.
        let from = step.saturating_sub(1).max(first);
        self.executor.run("train", from - first)?;
        let launches = self.executor.plan().programs["train"].clone();
        for step in from..=step {
            for (i, launch) in launches.iter().enumerate() {
                self.executor.run_part("train", i..i + 1)?;
                let bindings = launch.bindings.iter().zip(launch.kernel.bindings);
                let written: Vec<_> = bindings
                    .filter(|(_, b)| b.access != Access::Read && b.dtype == DType::F32)
                    .collect();
                let bindings: Vec<Binding> = written.iter().map(|(b, _)| **b).collect();
                if bindings.is_empty() {
                    continue;
                }
                let hosts = self.executor.read_bindings(&bindings)?;
                for ((binding, _), host) in written.iter().zip(hosts) {
                    let values = host.floats().unwrap_or_default();
                    let own = values.chunks(binding.elements).nth(replica);
                    if own.is_some_and(|v| v.iter().any(|x| !x.is_finite())) {
                        let place = format!("{} ({})", launch.label, launch.kernel.name);
                        return Ok(Some((place, step)));
                    }
                }
            }
        }
        Ok(None)
    }
}

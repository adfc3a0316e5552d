//! What is done after each epoch: progress, stopping, whatever a program wants.

use std::fmt::Debug;

use super::report::Epoch;
use super::training::Training;
use super::weights::Weights;
use crate::error::{Error, Result};

/// Called after each epoch of a run.
pub trait Callback: Debug {
    /// Looks at an epoch and may act on the run.
    ///
    /// # Errors
    /// Whatever ends the run.
    fn epoch(&mut self, epoch: &Epoch, control: &mut Control<'_>) -> Result<()>;

    /// Holds its settings to the names of the numbers that an epoch of the run will have, before anything is
    /// computed.
    ///
    /// # Errors
    /// [`Error::UnknownName`] for a number that there will not be.
    fn check(&self, numbers: &[String]) -> Result<()> {
        let _ = numbers;
        Ok(())
    }

    /// What it has learnt from the epochs so far, for a checkpoint; nothing, if not said.
    fn state(&self) -> serde_json::Value {
        serde_json::Value::Null
    }

    /// Takes up what [`Callback::state`] gave when the checkpoint was written.
    ///
    /// # Errors
    /// What does not fit.
    fn restore(&mut self, state: &serde_json::Value) -> Result<()> {
        let _ = state;
        Ok(())
    }
}

/// What a callback may do with a run.
pub struct Control<'a> {
    pub(super) training: &'a mut Training,
    pub(super) stop: bool,
    pub(super) chosen: Option<(usize, Vec<Weights>)>,
}

impl Control<'_> {
    /// Ends the run after this epoch.
    pub fn stop(&mut self) {
        self.stop = true;
    }

    /// The weights of each replica; it costs a readback.
    ///
    /// # Errors
    /// What the device says.
    pub fn weights(&mut self) -> Result<Vec<Weights>> {
        self.training.weights()
    }

    /// The weights that the run ends with, in place of the last epoch's.
    pub fn choose(&mut self, epoch: usize, weights: Vec<Weights>) {
        self.chosen = Some((epoch, weights));
    }
}

/// Calls a function with each epoch: a line on the terminal, a plot, a log.
pub struct Progress<F>(F);

impl<F: FnMut(&Epoch)> Progress<F> {
    /// A function of each epoch.
    pub fn new(function: F) -> Self {
        Self(function)
    }
}

impl<F> Debug for Progress<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Progress")
    }
}

impl<F: FnMut(&Epoch)> Callback for Progress<F> {
    fn epoch(&mut self, epoch: &Epoch, _: &mut Control<'_>) -> Result<()> {
        (self.0)(epoch);
        Ok(())
    }
}

/// Ends a run whose number has not become better for some epochs, and keeps the weights of the best
/// one.
#[derive(Clone, Debug)]
pub struct EarlyStop {
    number: String,
    largest: bool,
    patience: usize,
    least: f64,
    best: Option<(f64, usize)>,
}

impl EarlyStop {
    /// Looks at a number of [`Epoch::get`], such as `validation loss`. Losses and errors are to be
    /// small; accuracies, `r2`, `auc`, `precision`, `recall` and `f1` large.
    pub fn on(number: &str) -> Self {
        let large = ["accuracy", "top ", "r2", "auc", "precision", "recall", "f1"];
        let of = number.strip_prefix("validation ").unwrap_or(number);
        Self {
            number: number.into(),
            largest: large.iter().any(|name| of.starts_with(name)),
            patience: 10,
            least: 0.0,
            best: None,
        }
    }

    /// Epochs without a better number that it waits for; 10 if not said.
    #[must_use]
    pub fn patience(self, epochs: usize) -> Self {
        Self {
            patience: epochs,
            ..self
        }
    }

    /// How much better a number must be to count.
    #[must_use]
    pub fn by_at_least(self, least: f64) -> Self {
        Self { least, ..self }
    }

    /// Large numbers are the good ones.
    #[must_use]
    pub fn largest(self) -> Self {
        Self {
            largest: true,
            ..self
        }
    }
}

impl Callback for EarlyStop {
    fn check(&self, numbers: &[String]) -> Result<()> {
        if numbers.contains(&self.number) {
            return Ok(());
        }
        let known: Vec<&str> = numbers.iter().map(String::as_str).collect();
        Err(Error::unknown("number of an epoch", &self.number, &known))
    }

    fn state(&self) -> serde_json::Value {
        serde_json::json!({ "best": self.best })
    }

    fn restore(&mut self, state: &serde_json::Value) -> Result<()> {
        self.best = serde_json::from_value(state["best"].clone())
            .map_err(|e| Error::setting("state of early stopping", e, "a number and its epoch"))?;
        Ok(())
    }

    fn epoch(&mut self, epoch: &Epoch, control: &mut Control<'_>) -> Result<()> {
        let number = epoch.get(&self.number).ok_or_else(|| {
            let names = epoch.names();
            let known: Vec<&str> = names.iter().map(String::as_str).collect();
            Error::unknown("number of an epoch", &self.number, &known)
        })?;
        if number.is_nan() {
            let wanted = "a number in every epoch: the validation rows may lack a class";
            return Err(Error::setting(&self.number, number, wanted));
        }
        let better = match self.best {
            None => true,
            Some((best, _)) if self.largest => number > best + self.least,
            Some((best, _)) => number < best - self.least,
        };
        match self.best {
            _ if better => {
                self.best = Some((number, epoch.epoch));
                let weights = control.weights()?;
                control.choose(epoch.epoch, weights);
            }
            Some((_, at)) if epoch.epoch - at >= self.patience => control.stop(),
            _ => {}
        }
        Ok(())
    }
}

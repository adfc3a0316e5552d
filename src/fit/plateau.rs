//! Learning rates that fall where a number no longer becomes better.

use serde::{Deserialize, Serialize};

use super::callback::{Callback, Control, Watched};
use super::report::Epoch;
use crate::error::{Error, Result};
use crate::json::Exact;
use crate::tensor::{HELD, held};

/// Multiplies a replica's learning rate where its number has not become better for some epochs (Nielsen, chapter 3,
/// halves it; PyTorch's `ReduceLROnPlateau`, whose `patience` is one less). Schedules go on beside it.
///
/// ```
/// # use wgrad::data::Dataset;
/// # use wgrad::exec::{Choice, Device};
/// # use wgrad::fit::{Fit, Loss, Plateau};
/// # use wgrad::model::{Model, layers::*};
/// # use wgrad::optim::{AdamW, Optimizer};
/// # let data = Dataset::new().with("input", [1], vec![0.5f32; 8])?.with("target", [1], vec![1.0f32; 8])?;
/// # let model = Model::sequential([1]).then(Dense::new(1)).build()?;
/// let fit = Fit::new(&model, Loss::mse(), Optimizer::new(AdamW::default(), 0.1));
/// let fit = fit.batch(4).epochs(30).validation(&data);
/// let fit = fit.with(Plateau::on("validation loss").patience(2).factor(0.5).least_rate(1e-4));
/// let outcome = fit.run(&data, &Device::open(Choice::Cpu)?)?;
/// assert_eq!(outcome.report.epochs.len(), 30);
/// # Ok::<(), wgrad::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Plateau {
    watched: Watched,
    factor: f64,
    patience: usize,
    least_rate: f64,
    replicas: Vec<Standing>,
}

/// Where a replica stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Standing {
    best: Option<Exact>,
    /// Epochs without a better number.
    waited: usize,
}

impl Plateau {
    /// Looks at a number of [`Epoch::get`], such as `validation loss`, of each replica by itself. Whether small or
    /// large numbers are the good ones is as [`EarlyStop`](super::EarlyStop) has it.
    pub fn on(number: &str) -> Self {
        Self {
            watched: Watched::new(number),
            factor: 0.1,
            patience: 10,
            least_rate: 0.0,
            replicas: vec![],
        }
    }

    /// Epochs without a better number that it waits for, of those after which data are evaluated; 10 if not said.
    #[must_use]
    pub fn patience(self, epochs: usize) -> Self {
        Self {
            patience: epochs,
            ..self
        }
    }

    /// What a rate is multiplied by, between 0 and 1; 0.1 if not said.
    #[must_use]
    pub fn factor(self, factor: f64) -> Self {
        Self { factor, ..self }
    }

    /// The rate below which it does not go; 0 if not said.
    #[must_use]
    pub fn least_rate(self, rate: f64) -> Self {
        Self {
            least_rate: rate,
            ..self
        }
    }

    /// How much better a number must be to count.
    #[must_use]
    pub fn by_at_least(mut self, least: f64) -> Self {
        self.watched.least = least;
        self
    }

    /// Large numbers are the good ones.
    #[must_use]
    pub fn largest(mut self) -> Self {
        self.watched.largest = true;
        self
    }
}

impl Callback for Plateau {
    fn sets_rates(&self) -> bool {
        true
    }

    fn check(&self, numbers: &[String]) -> Result<()> {
        if !(self.factor > 0.0 && self.factor < 1.0) {
            let wanted = "a number between 0 and 1";
            return Err(Error::setting("factor of a plateau", self.factor, wanted));
        }
        if self.patience == 0 {
            return Err(Error::setting("patience of a plateau", 0, "at least 1"));
        }
        if !(self.least_rate >= 0.0 && held(self.least_rate)) {
            let name = "least rate of a plateau";
            return Err(Error::setting(name, self.least_rate, HELD));
        }
        self.watched.check(numbers)
    }

    fn settings(&self) -> String {
        let (watched, patience) = (self.watched.told(), self.patience);
        let (factor, least) = (self.factor, self.least_rate);
        format!("Plateau({watched}, patience {patience}, factor {factor}, least rate {least})")
    }

    fn state(&self) -> serde_json::Value {
        serde_json::json!(self.replicas)
    }

    fn restore(&mut self, state: &serde_json::Value) -> Result<()> {
        self.replicas = serde_json::from_value(state.clone())
            .map_err(|e| Error::setting("state of a plateau", e, "a standing of each replica"))?;
        Ok(())
    }

    fn epoch(&mut self, epoch: &Epoch, control: &mut Control<'_>) -> Result<()> {
        if !self.watched.is_in(epoch) {
            return Ok(());
        }
        let mut rates = control.rates()?;
        self.replicas.resize(rates.len(), Standing::default());
        let mut fell = false;
        for (replica, (standing, rate)) in self.replicas.iter_mut().zip(&mut rates).enumerate() {
            if epoch.lost.contains(&replica) {
                continue;
            }
            let number = self.watched.of_replica(epoch, replica)?;
            if self
                .watched
                .is_better(number, standing.best.map(|best| best.0))
            {
                *standing = Standing {
                    best: Some(Exact(number)),
                    waited: 0,
                };
                continue;
            }
            standing.waited += 1;
            if standing.waited >= self.patience {
                standing.waited = 0;
                let lower = (*rate * self.factor).max(self.least_rate);
                // What devices do not have any more is no rate.
                let lower = if held(lower) { lower } else { 0.0 };
                fell |= lower < *rate;
                *rate = rate.min(lower);
            }
        }
        match fell {
            true => control.set_rates(&rates),
            false => Ok(()),
        }
    }
}

//! What a run would do, and what weights score, without training.

use super::{Fit, feeds, scores};
use crate::data::DataRef;
use crate::error::{Error, Result};
use crate::exec::Device;
use crate::fit::report::Scores;
use crate::fit::setup::{Setup, Wishes};
use crate::fit::shards::Given;
use crate::fit::weights::Weights;
use crate::plan::Plan;

impl Fit<'_> {
    /// What [`Fit::run`] launches and what it holds: the programs `order` (an epoch's order), `train` (a
    /// step), `evaluate …` (a mini-batch of an evaluation) and `init`. Everything is allocated for it and
    /// let go again.
    ///
    /// # Errors
    /// As [`Fit::run`] before it trains.
    pub fn plan<'d>(&self, data: impl Into<DataRef<'d>>, device: &Device) -> Result<Plan> {
        let given = Given::open("training", data.into())?;
        let sets = self.sets_beside(&given)?;
        self.held(&given, &sets)?;
        let training = self.setup(Some(&given), &sets).compile(device)?;
        Ok(training.session().plan().clone())
    }

    /// What weights score on the data of [`Fit::validation`] and of [`Fit::test`], by these names, in this
    /// order: the loss and the metrics of the run, which is not begun.
    ///
    /// ```
    /// # use wgrad::data::Dataset;
    /// # use wgrad::exec::{Choice, Device};
    /// # use wgrad::fit::{Fit, Loss, Metric, Weights};
    /// # use wgrad::model::{Model, layers::*};
    /// # use wgrad::optim::{Optimizer, Sgd};
    /// # let data = Dataset::new().with("input", [1], vec![0.5f32; 8])?.with("target", [1], vec![1.0f32; 8])?;
    /// # let model = Model::sequential([1]).then(Dense::new(1)).build()?;
    /// let weights = Weights::initial(&model, 7);
    /// let fit = Fit::new(&model, Loss::mse(), Optimizer::new(Sgd::default(), 0.1)).metric(Metric::mae());
    /// let scores = fit.test(&data).evaluate(&weights, &Device::open(Choice::Cpu)?)?;
    /// assert_eq!(scores[0].0, "test");
    /// assert!(scores[0].1.get("mae").is_some());
    /// # Ok::<(), wgrad::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Setting`] where there is neither; columns that do not fit, by name; weights that are missing or of
    /// other extents; what the device says.
    pub fn evaluate(
        &self,
        weights: &Weights,
        device: &Device,
    ) -> Result<Vec<(&'static str, Scores)>> {
        let sets = self.sets()?;
        if sets.is_empty() {
            let wanted = "validation or test data";
            return Err(Error::setting("evaluation", "no data", wanted));
        }
        let setup = Setup {
            mixup: None,
            wishes: Wishes {
                trains: false,
                ..Wishes::default()
            },
            replicas: 1,
            sweep: &[],
            ..self.setup(None, &sets)
        };
        setup.checked()?;
        setup.metric_names()?;
        weights.check_whole(self.model)?;
        let (needs, mut training) = (setup.needs()?, setup.compile(device)?);
        let feeds = feeds(&sets, &training, &needs);
        training.set_each(std::slice::from_ref(weights))?;
        let (_, found) = training.evaluate(0..sets.len(), &feeds)?;
        let found = found.into_iter().map(scores);
        let named = sets.iter().map(|(set, _)| *set).zip(found);
        Ok(named
            .filter_map(|(set, mut all)| Some((set, all.pop()?)))
            .collect())
    }
}

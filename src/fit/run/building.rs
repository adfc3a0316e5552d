//! The settings of a run.

use super::Fit;
use crate::data::DataRef;
use crate::fit::callback::Callback;
use crate::fit::checkpoint::Checkpoints;
use crate::fit::loss::Loss;
use crate::fit::metric::Metric;
use crate::fit::weights::Weights;
use crate::model::Model;
use crate::optim::Optimizer;

impl<'a> Fit<'a> {
    /// Mini-batches of 32, 10 epochs, one replica, seed 0.
    pub fn new(model: &'a Model, loss: Loss, optimizer: Optimizer) -> Self {
        Self {
            model,
            loss,
            optimizer,
            sweep: vec![],
            metrics: vec![],
            batch: 32,
            epochs: 10,
            replicas: 1,
            first_replica: 0,
            seed: 0,
            validation: None,
            test: None,
            callbacks: vec![],
            mixup: None,
            initial: None,
            checkpoints: None,
            resume: false,
            verify_every: 0,
            mean_from: None,
            evaluate_every: 1,
            measure_training: false,
        }
    }

    /// Examples in a mini-batch.
    #[must_use]
    pub fn batch(self, batch: usize) -> Self {
        Self { batch, ..self }
    }

    /// Epochs.
    #[must_use]
    pub fn epochs(self, epochs: usize) -> Self {
        Self { epochs, ..self }
    }

    /// How many networks train at once on the same data, each from its own start and in its own order.
    #[must_use]
    pub fn replicas(self, replicas: usize) -> Self {
        Self { replicas, ..self }
    }

    /// Trains a replica with each of these optimizers, in place of the one that was given: one compiled
    /// plan, whose replicas have other numbers. They may differ in learning rate, decays, momenta, betas,
    /// bounds of clipping, schedules' numbers, whatever is a number of the rule; not in what the rule
    /// keeps. The report has the numbers of each replica, in this order.
    ///
    /// Replica r is the run alone with its optimizer and [`Fit::first_replica`]`(r)`, by the same
    /// arithmetic: the same bits, unless an update that reads its numbers from a table is fused
    /// otherwise, or a GPU's compiler reassociates numbers that are compiled in; then last bits differ.
    ///
    /// One whose loss or weights stop being finite is lost, and the others go on: [`Report::lost`](crate::fit::Report::lost) says when, and its
    /// numbers count in no mean from then on. The loss is that of training, or of evaluated data on which another replica's is finite. Where all are lost, that is an error.
    /// [`EarlyStop::each`](crate::fit::EarlyStop::each) stops each of them by itself.
    ///
    /// ```
    /// # use wgrad::data::Dataset;
    /// # use wgrad::exec::{Choice, Device};
    /// # use wgrad::fit::{Fit, Loss};
    /// # use wgrad::model::{Model, layers::*};
    /// use wgrad::optim::{AdamW, Optimizer};
    ///
    /// # let data = Dataset::new().with("input", [1], vec![0.5f32; 8])?.with("target", [1], vec![1.0f32; 8])?;
    /// # let model = Model::sequential([1]).then(Dense::new(1)).build()?;
    /// # let device = Device::open(Choice::Cpu)?;
    /// let settings = [(1e-3, 0.0), (1e-2, 0.0), (1e-2, 0.1)];
    /// let optimizers = settings.map(|(rate, decay)| Optimizer::new(AdamW::with_decay(decay), rate));
    /// let fit = Fit::new(&model, Loss::mse(), optimizers[0].clone()).sweep(optimizers);
    /// let outcome = fit.batch(4).validation(&data).run(&data, &device)?;
    /// let last = &outcome.report.epochs[9];
    /// assert_eq!(last.validation.len(), 3); // one of each setting
    /// # Ok::<(), wgrad::Error>(())
    /// ```
    #[must_use]
    pub fn sweep(self, optimizers: impl IntoIterator<Item = Optimizer>) -> Self {
        let sweep: Vec<Optimizer> = optimizers.into_iter().collect();
        Self {
            optimizer: sweep.first().unwrap_or(&self.optimizer).clone(),
            replicas: if sweep.is_empty() {
                self.replicas
            } else {
                sweep.len()
            },
            sweep,
            ..self
        }
    }

    /// The number of the first replica: one that is trained alone equals the one of that number among
    /// several.
    #[must_use]
    pub fn first_replica(self, first_replica: u32) -> Self {
        Self {
            first_replica,
            ..self
        }
    }

    /// What everything random follows from.
    #[must_use]
    pub fn seed(self, seed: u64) -> Self {
        Self { seed, ..self }
    }

    /// Measures this too, on validation and test data. Places of a class that the loss against the same column
    /// ignores count in no metric.
    #[must_use]
    pub fn metric(mut self, metric: Metric) -> Self {
        let ignored = self.loss.ignored(self.model, metric.target());
        self.metrics.push(match ignored {
            Some(class) => metric.ignoring(class),
            None => metric,
        });
        self
    }

    /// Data that is evaluated after each epoch: a [`Dataset`](crate::data::Dataset), or
    /// [`Shards`](crate::data::Shards) of rows that are more than the device has room for.
    #[must_use]
    pub fn validation(self, data: impl Into<DataRef<'a>>) -> Self {
        Self {
            validation: Some(data.into()),
            ..self
        }
    }

    /// Data that is evaluated once, at the end.
    #[must_use]
    pub fn test(self, data: impl Into<DataRef<'a>>) -> Self {
        Self {
            test: Some(data.into()),
            ..self
        }
    }

    /// Evaluates after every so many epochs and where the run ends, and not after each. The epochs between have no
    /// scores, and callbacks that watch some pass them over. Callbacks that act are not told the scores of a last epoch
    /// that is no multiple, which a run of more epochs would not have; those that only look on are.
    #[must_use]
    pub fn evaluate_every(self, epochs: usize) -> Self {
        Self {
            evaluate_every: epochs,
            ..self
        }
    }

    /// Evaluates the training data too, as they are and with the metrics, when the validation data are: `training set
    /// loss` and `training set <metric>` of [`Epoch::get`](crate::fit::Epoch::get), in [`Epoch::training`](crate::fit::Epoch::training).
    /// The `training loss` is taken while the weights move, of examples that dropout, noise and mixing have changed;
    /// these numbers show how far a model fits what it has seen. It costs a forward pass over them.
    ///
    /// ```
    /// # use wgrad::data::Dataset;
    /// # use wgrad::exec::{Choice, Device};
    /// # use wgrad::fit::{Fit, Loss, Metric};
    /// # use wgrad::model::{Model, layers::*};
    /// # use wgrad::optim::{AdamW, Optimizer};
    /// # let data = Dataset::new().with("input", [1], vec![0.5f32; 8])?.with("target", [], vec![1u32; 8])?;
    /// # let model = Model::sequential([1]).then(Dense::new(2)).build()?;
    /// let fit = Fit::new(&model, Loss::cross_entropy(), Optimizer::new(AdamW::default(), 0.1)).batch(4);
    /// let fit = fit.metric(Metric::accuracy()).measure_training().evaluate_every(5);
    /// let outcome = fit.run(&data, &Device::open(Choice::Cpu)?)?;
    /// assert_eq!(outcome.report.epochs[3].get("training set accuracy"), None);
    /// assert_eq!(outcome.report.epochs[4].get("training set accuracy"), Some(1.0));
    /// # Ok::<(), wgrad::Error>(())
    /// ```
    #[must_use]
    pub fn measure_training(self) -> Self {
        Self {
            measure_training: true,
            ..self
        }
    }

    /// Evaluates, and leaves, in place of the weights their mean over the ends of epochs, from this one on, counted
    /// from 1 (stochastic weight averaging, Izmailov et al. 2018; PyTorch's `AveragedModel`); until then the weights.
    /// [`Optimizer::average`] keeps another mean, over steps. Running statistics, as
    /// [`BatchNorm`](crate::model::layers::BatchNorm)'s, are the last epoch's.
    ///
    /// ```
    /// # use wgrad::data::Dataset;
    /// # use wgrad::exec::{Choice, Device};
    /// # use wgrad::fit::{Fit, Loss};
    /// # use wgrad::model::{Model, layers::*};
    /// # use wgrad::optim::{Optimizer, Sgd};
    /// # let data = Dataset::new().with("input", [1], vec![0.5f32; 8])?.with("target", [1], vec![1.0f32; 8])?;
    /// # let model = Model::sequential([1]).then(Dense::new(1)).build()?;
    /// let fit = Fit::new(&model, Loss::mse(), Optimizer::new(Sgd::default(), 0.5)).batch(4);
    /// fit.epochs(20).average_from(15).run(&data, &Device::open(Choice::Cpu)?)?;
    /// # Ok::<(), wgrad::Error>(())
    /// ```
    #[must_use]
    pub fn average_from(self, epoch: usize) -> Self {
        Self {
            mean_from: Some(epoch),
            ..self
        }
    }

    /// Mixes examples while training: each gives way to λ times itself and 1 − λ times the next of its
    /// mini-batch, and so do their targets, with a λ out of Beta(α, α) that is drawn on the device for each
    /// example and step, the same bits on every device (Zhang et al. 2018). Classes become shares of
    /// classes, and [`CrossEntropy`](crate::fit::CrossEntropy) that of probabilities. The training loss is that
    /// of mixed examples; evaluations mix nothing. α is usually 0.1 to 1, and 16 at most.
    ///
    /// ```
    /// # use wgrad::data::Dataset;
    /// # use wgrad::exec::{Choice, Device};
    /// # use wgrad::fit::{Fit, Loss};
    /// # use wgrad::model::{Model, layers::*};
    /// # use wgrad::optim::{AdamW, Optimizer};
    /// # let data = Dataset::new().with("input", [1], vec![0.5f32; 8])?.with("target", [], vec![1u32; 8])?;
    /// # let model = Model::sequential([1]).then(Dense::new(2)).build()?;
    /// let fit = Fit::new(&model, Loss::cross_entropy(), Optimizer::new(AdamW::default(), 1e-3));
    /// fit.batch(4).mixup(0.2).run(&data, &Device::open(Choice::Cpu)?)?;
    /// # Ok::<(), wgrad::Error>(())
    /// ```
    #[must_use]
    pub fn mixup(self, alpha: f64) -> Self {
        Self {
            mixup: Some(alpha),
            ..self
        }
    }

    /// Calls this after each epoch; several in the order in which they are given, those that only look on
    /// ([`Callback::observes`]) after those that act.
    #[must_use]
    pub fn with(mut self, callback: impl Callback + 'a) -> Self {
        self.callbacks.push(Box::new(callback));
        self
    }

    /// Begins from these weights; what they lack is drawn. Weights of which none is the model's are refused.
    #[must_use]
    pub fn from(self, weights: &'a Weights) -> Self {
        Self {
            initial: Some(weights),
            ..self
        }
    }

    /// Keeps the whole state of the run in a folder after each epoch, so that [`Fit::resume`] can go on from it: a path, or
    /// [`Checkpoints`] that say more. A run that begins anew puts its own in the place of those that it finds there.
    ///
    /// ```
    /// # use wgrad::data::Dataset;
    /// # use wgrad::exec::{Choice, Device};
    /// # use wgrad::fit::{Checkpoints, Fit, Loss};
    /// # use wgrad::model::{Model, layers::*};
    /// # use wgrad::optim::{AdamW, Optimizer};
    /// # let folder = tempfile::tempdir().unwrap();
    /// # let folder = folder.path().join("houses");
    /// # let data = Dataset::new().with("input", [1], vec![0.5f32; 8])?.with("target", [1], vec![1.0f32; 8])?;
    /// # let model = Model::sequential([1]).then(Dense::new(1)).build()?;
    /// # let device = Device::open(Choice::Cpu)?;
    /// let fit = || Fit::new(&model, Loss::mse(), Optimizer::new(AdamW::default(), 0.1)).batch(4);
    /// fit().epochs(5).checkpoints(&folder).run(&data, &device)?;
    /// // Later: the very weights of a run of 20 epochs that was never interrupted.
    /// let outcome = fit().epochs(20).checkpoints(Checkpoints::at(&folder).keep(3)).resume().run(&data, &device)?;
    /// assert_eq!(outcome.report.epochs.len(), 20);
    /// # Ok::<(), wgrad::Error>(())
    /// ```
    #[must_use]
    pub fn checkpoints(self, folder: impl Into<Checkpoints>) -> Self {
        Self {
            checkpoints: Some(folder.into()),
            ..self
        }
    }

    /// Goes on from the newest checkpoint, if there is one: the run ends with the very weights of one that
    /// was never interrupted, on the same device. One that is broken gives way to the one before it; one of a run with other
    /// settings or data is refused by the setting's name; more epochs are trained.
    #[must_use]
    pub fn resume(self) -> Self {
        Self {
            resume: true,
            ..self
        }
    }

    /// Every so many steps one launch, which seed and step choose, is computed again by the reference on the processor,
    /// and the run ends if they disagree ([`Error::Disagrees`](crate::Error::Disagrees)); 0, as it is if not said, for never. A GPU, a driver or
    /// a kernel of one's own that computes something wrong now and then is so found out while it trains. What a step
    /// computes stays as it is. A verified step waits for the device, and its launch takes as long as a plain loop does.
    ///
    /// ```
    /// # use wgrad::data::Dataset;
    /// # use wgrad::exec::{Choice, Device};
    /// # use wgrad::fit::{Fit, Loss};
    /// # use wgrad::model::{Model, layers::*};
    /// # use wgrad::optim::{AdamW, Optimizer};
    /// # let data = Dataset::new().with("input", [1], vec![0.5f32; 8])?.with("target", [], vec![1u32; 8])?;
    /// # let model = Model::sequential([1]).then(Dense::new(2)).build()?;
    /// let fit = Fit::new(&model, Loss::cross_entropy(), Optimizer::new(AdamW::default(), 1e-3));
    /// fit.batch(4).verify_every(1000).run(&data, &Device::open(Choice::Cpu)?)?;
    /// # Ok::<(), wgrad::Error>(())
    /// ```
    #[must_use]
    pub fn verify_every(self, steps: u64) -> Self {
        Self {
            verify_every: steps,
            ..self
        }
    }
}

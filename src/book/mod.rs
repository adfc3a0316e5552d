//! The experiments of "Neural Networks and Deep Learning" (M. Nielsen), each one command.
//!
//! An [`Experiment`] is data (`experiments.toml`): what is asked, what is trained, what is
//! read off a finished run and what the book reports. [`run()`] turns one into a
//! [`Record`]: our numbers over several seeds beside the book's, plots, pictures and notes.
//! Seeds are replicas of one plan. Nothing here prints.
//!
//! ```
//! let depth = wgrad::book::find("ch5-depth")?;
//! assert_eq!((depth.chapter, depth.runs.len()), (5, 4));
//! let unknown = wgrad::book::find("ch5-deth").unwrap_err();
//! assert!(unknown.to_string().contains("did you mean `ch5-depth`"));
//! # Ok::<(), wgrad::Error>(())
//! ```

use std::sync::LazyLock;

use serde::Deserialize;

use crate::book::nn::{Cost, Init, Network};
use crate::book::train::{Decay, Settings};
use crate::error::{Error, Result};
use crate::ops::distort::Distortion;
use crate::ops::gather::Expansion;

pub mod certificate;
mod ensemble;
mod gradients;
mod net;
mod neuron;
pub mod nn;
mod norms;
mod options;
mod picks;
mod pictures;
mod rows;
mod run;
mod softmax;
mod survivors;
mod sweeps;
pub mod train;
mod training;

pub use options::{FILES_WANTED, Options, Progress, load, missing};
pub use picks::Pick;
pub use run::run;

#[cfg(doc)]
use crate::report::record::Record;

/// What kind of experiment it is, and so what runs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Trains networks and reads numbers off the runs.
    Train,
    /// One neuron on one input.
    Neuron,
    /// Softmax of given weighted inputs.
    Softmax,
    /// Numerical gradient beside backpropagation.
    GradientCheck,
    /// A mini-batch at once beside example by example.
    Matrix,
    /// Learning rates as replicas of one plan.
    Sweep,
    /// One network on training sets of several sizes.
    Sizes,
    /// Lengths of gradients per layer.
    GradientNorms,
    /// A chain of neurons whose gradients grow.
    Exploding,
    /// Networks that vote.
    Ensemble,
}

/// One experiment of the book.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Experiment {
    /// Its id: chapter and name.
    pub id: String,
    /// The book's chapter.
    pub chapter: u32,
    /// What it is called.
    pub title: String,
    /// What it asks.
    pub question: String,
    /// What runs it.
    pub kind: Kind,
    /// Epochs of the book, where it has one number for all runs.
    pub epochs: Option<usize>,
    /// What a reader should know.
    #[serde(default)]
    pub notes: Vec<String>,
    /// The networks that are trained.
    #[serde(default)]
    pub runs: Vec<Run>,
    /// Whether the gradients' lengths at the start are reported for each run.
    #[serde(default)]
    pub norms: bool,
    /// Of a single neuron.
    pub neuron: Option<Neuron>,
    /// Of several training-set sizes.
    pub sizes: Option<Sizes>,
    /// Of gradients' lengths.
    pub lengths: Option<Norms>,
    /// Of an ensemble.
    pub vote: Option<Vote>,
}

/// A network and how it is trained.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Run {
    /// Its name beside the experiment's other runs; empty where it is alone.
    #[serde(default)]
    pub name: String,
    /// The layers in words: `conv 20 5 pool 2 relu dense 10 softmax`.
    pub net: String,
    /// The cost; log-likelihood if none is given.
    #[serde(default = "log_likelihood")]
    pub cost: Cost,
    /// How parameters start.
    pub init: Init,
    /// Learning rate.
    #[serde(default)]
    pub eta: f64,
    /// Momentum.
    #[serde(default)]
    pub momentum: f64,
    /// Mini-batch.
    #[serde(default = "ten")]
    pub batch: usize,
    /// Epochs, where the experiment has no number for all runs.
    pub epochs: Option<usize>,
    /// Training images, the first ones; all if not given.
    pub images: Option<usize>,
    /// λ of L2 divided by the number of examples.
    #[serde(default)]
    pub per_example: f64,
    /// λ of L2 divided by the number of mini-batches.
    #[serde(default)]
    pub per_batch: f64,
    /// λ of L1 divided by the number of examples.
    #[serde(default)]
    pub l1: f64,
    /// Virtual expansion of the training images.
    #[serde(default)]
    pub expansion: Expansion,
    /// Random distortion of the training images.
    #[serde(default)]
    pub distortion: Bend,
    /// Learning rate of the last epoch, where it falls geometrically from the first on.
    pub eta_last: Option<f64>,
    /// Share of the epochs, the last ones, whose weights are averaged.
    pub average: Option<f64>,
    /// See [`Settings::stop_after`].
    pub stop_after: Option<usize>,
    /// See [`Settings::halve_after`].
    pub halve_after: Option<usize>,
    /// Learning rates of a sweep.
    #[serde(default)]
    pub rates: Vec<f64>,
    /// See [`Settings::measure_training`].
    #[serde(default)]
    pub measure: bool,
    /// Whether the first layer's weights are counted in a histogram.
    #[serde(default)]
    pub histogram: bool,
    /// Whether filters and feature maps are shown.
    #[serde(default)]
    pub filters: bool,
    /// Whether weights and activations of each layer are reported.
    #[serde(default)]
    pub diagnose: bool,
    /// The numbers that are read off.
    #[serde(default)]
    pub report: Vec<Reported>,
}

/// How training images are bent, anew in every step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Bend {
    /// Not at all.
    #[default]
    None,
    /// Turned by the angle of [`Distortion::affine`].
    Rotation,
    /// Turned, stretched, sheared and moved: [`Distortion::affine`].
    Affine,
    /// By smooth random fields (Simard 2003): [`Distortion::elastic`].
    Elastic,
    /// Both.
    AffineElastic,
}

impl Bend {
    fn distortion(self) -> Distortion {
        match self {
            Self::None => Distortion::NONE,
            Self::Rotation => Distortion {
                rotation: Distortion::affine().rotation,
                ..Distortion::NONE
            },
            Self::Affine => Distortion::affine(),
            Self::Elastic => Distortion::elastic(),
            Self::AffineElastic => Distortion {
                alpha: Distortion::elastic().alpha,
                ..Distortion::affine()
            },
        }
    }
}

fn log_likelihood() -> Cost {
    Cost::LogLikelihood
}

fn ten() -> usize {
    10
}

/// A number that is read off a finished run.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reported {
    /// What it is, for people.
    pub what: String,
    /// Which it is.
    pub pick: Pick,
    /// What the book reports.
    pub book: Option<f64>,
    /// How far apart counts as agreeing; 0.3 if not given.
    pub slack: Option<f64>,
}

/// One neuron, input 1, target 0.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Neuron {
    /// Its weight at the start.
    pub w: f32,
    /// Its bias at the start.
    pub b: f32,
    /// The cost.
    pub cost: Cost,
    /// Learning rate.
    pub eta: f64,
    /// The book's output before the first epoch.
    pub output_first: f64,
    /// The book's output after the last epoch.
    pub output_last: Option<f64>,
    /// For how many epochs the book sees next to no learning.
    pub slow_start: Option<f64>,
}

/// One network on training sets of several sizes.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sizes {
    /// The layers in words.
    pub net: String,
    /// The cost.
    pub cost: Cost,
    /// How parameters start.
    pub init: Init,
    /// Learning rate.
    pub eta: f64,
    /// Examples seen by each: epochs are these over the size.
    pub examples: usize,
    /// λ of L2 for each training image.
    pub lambda: f64,
    /// Numbers of training images.
    pub sizes: Vec<usize>,
    /// The book's accuracies of the network.
    pub network: Vec<f64>,
    /// The book's accuracies of a support vector machine.
    pub svm: Vec<f64>,
}

/// Lengths of gradients in networks with hidden layers of 30 sigmoids.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Norms {
    /// Training images they are averaged over, and descended on.
    pub images: usize,
    /// Learning rate of the descent.
    pub eta: f64,
    /// λ of the descent.
    pub lambda: f64,
    /// The networks.
    pub hidden: Vec<Hidden>,
}

/// A number of hidden layers and the book's lengths for them.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hidden {
    /// How many.
    pub layers: usize,
    /// ‖δˡ‖ of each in the book.
    pub book: Vec<f64>,
}

/// Networks that vote.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Vote {
    /// How many.
    pub networks: usize,
    /// The book's accuracy of their vote in percent, where it has one.
    pub accuracy: Option<f64>,
    /// The digits they misread together in the book.
    pub errors: Option<f64>,
}

impl Run {
    /// The network, for digits.
    ///
    /// # Errors
    /// [`Error::Setting`] for words that name no layer.
    pub fn network(&self, input: [usize; 3]) -> Result<Network> {
        net::network(&self.net, input, self.cost, self.init)
    }

    /// What the training is told, but for seeds.
    pub fn settings(&self, epochs: usize) -> Settings {
        Settings {
            epochs,
            batch: self.batch,
            learning_rates: self.rates_of(epochs),
            momentum: self.momentum,
            l2: if self.per_batch > 0.0 {
                Decay::PerBatch(self.per_batch)
            } else {
                Decay::PerExample(self.per_example)
            },
            l1: Decay::PerExample(self.l1),
            expansion: self.expansion,
            distortion: self.distortion.distortion(),
            average_from: self.average.map(|share| {
                let kept = (share * epochs as f64).ceil() as usize;
                1 + epochs.saturating_sub(kept.max(1))
            }),
            stop_after: self.stop_after,
            halve_after: self.halve_after,
            measure_training: self.measure,
            ..Settings::default()
        }
    }

    /// The learning rate of each epoch; one for all where it does not fall.
    fn rates_of(&self, epochs: usize) -> Vec<f64> {
        let Some(last) = self.eta_last else {
            return vec![self.eta];
        };
        let steps = epochs.saturating_sub(1).max(1) as f64;
        let rate = |epoch| self.eta * (last / self.eta).powf(epoch as f64 / steps);
        (0..epochs).map(rate).collect()
    }

    /// Network, cost, start and schedule in words.
    pub fn describe(&self) -> String {
        let mut text = self.net.clone();
        text += match self.cost {
            Cost::Quadratic => "; quadratic cost",
            Cost::CrossEntropy => "; cross-entropy",
            Cost::LogLikelihood => "; log-likelihood",
        };
        text += &format!("; start {:?}; η {}", self.init, self.eta).to_lowercase();
        text += &format!(", mini-batch {}", self.batch);
        let decays = [
            (self.momentum, "momentum", ""),
            (self.per_example, "L2 λ", " per example"),
            (self.per_batch, "L2 λ", " per mini-batch of an epoch"),
            (self.l1, "L1 λ", " per example"),
        ];
        for (value, name, what) in decays.into_iter().filter(|d| d.0 != 0.0) {
            text += &format!(", {name} {value}{what}");
        }
        if let Some(n) = self.images {
            text += &format!(", first {n} training images");
        }
        if self.expansion == Expansion::Shifts {
            text += ", expanded by one-pixel shifts";
        }
        if self.distortion != Bend::None {
            text += &format!(", distorted in every step: {:?}", self.distortion);
        }
        if let Some(last) = self.eta_last {
            text += &format!(", η falling to {last}");
        }
        if let Some(share) = self.average {
            text += &format!(
                ", weights of the last {} % of epochs averaged",
                100.0 * share
            );
        }
        if self.name.is_empty() {
            return text;
        }
        format!("{}: {text}", self.name)
    }
}

#[derive(Deserialize)]
struct Catalogue {
    experiment: Vec<Experiment>,
}

/// The text is part of the crate; `tests/book.rs` reads all of it.
static CATALOGUE: LazyLock<Result<Vec<Experiment>, String>> = LazyLock::new(|| {
    toml::from_str::<Catalogue>(include_str!("experiments.toml"))
        .map(|c| c.experiment)
        .map_err(|e| e.to_string())
});

/// Every experiment, in the book's order.
///
/// # Errors
/// [`Error::Setting`] if the crate's own description does not parse.
pub fn catalogue() -> Result<&'static [Experiment]> {
    match &*CATALOGUE {
        Ok(experiments) => Ok(experiments),
        Err(e) => Err(Error::setting("experiments", e, "the documented form")),
    }
}

/// The experiment called `id`.
///
/// # Errors
/// [`Error::UnknownName`] with the nearest known id.
pub fn find(id: &str) -> Result<&'static Experiment> {
    let all = catalogue()?;
    let known: Vec<&str> = all.iter().map(|e| e.id.as_str()).collect();
    all.iter()
        .find(|e| e.id == id)
        .ok_or_else(|| Error::unknown("experiment", id, &known))
}

/// The experiments that names stand for: ids, chapters (`ch3`) or `all`, each once.
///
/// # Errors
/// [`Error::UnknownName`] with the nearest known id.
pub fn select(names: &[String]) -> Result<Vec<&'static Experiment>> {
    let mut chosen: Vec<&Experiment> = Vec::new();
    for name in names {
        let chapter = name.strip_prefix("ch").and_then(|n| n.parse::<u32>().ok());
        let found: Vec<&Experiment> = match chapter {
            _ if name == "all" => catalogue()?.iter().collect(),
            Some(n) if catalogue()?.iter().any(|e| e.chapter == n) => {
                catalogue()?.iter().filter(|e| e.chapter == n).collect()
            }
            _ => vec![find(name)?],
        };
        for experiment in found {
            if !chosen.iter().any(|e| e.id == experiment.id) {
                chosen.push(experiment);
            }
        }
    }
    Ok(chosen)
}

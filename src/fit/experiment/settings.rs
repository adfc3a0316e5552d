//! What an experiment's file says of its data and of how it is trained.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::data::{ArraySchema, Colour, PictureSchema, Schema};
use crate::fit::config::LossScaleSetting;

/// The column of pictures.
pub(super) const IMAGE: &str = "image";

/// How pictures are changed while training, anew in each step: the layers [`Augment`](crate::model::layers::Augment),
/// [`ColourJitter`](crate::model::layers::ColourJitter) and, behind the standardisation,
/// [`Cutout`](crate::model::layers::Cutout).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AugmentSetting {
    /// Half of the pictures are mirrored, left to right.
    pub flip: bool,
    /// The largest shift, in pixels.
    pub crop: usize,
    /// The side of a square that is cut out, in pixels; 0 cuts none.
    pub cutout: usize,
    /// How far the brightness' factor may be from 1.
    pub brightness: f64,
    /// How far that of the contrast may be.
    pub contrast: f64,
    /// How far that of the saturation may be.
    pub saturation: f64,
}

/// Where data come from, and what is what in them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataSetting {
    /// The file or the folder of pictures, from the configuration's folder on.
    #[serde(default)]
    pub path: Option<PathBuf>,
    /// `csv`, a table; `text`, whose characters are to be foretold; `images`, a folder of pictures;
    /// `arrays`, NumPy's or safetensors'.
    #[serde(default)]
    pub format: Format,
    /// Columns that are arrays: of each its name, an input of the model or a target, and that of the array,
    /// whose first axis are the rows. If none are named, every array of the file is a column of its own
    /// name.
    #[serde(default)]
    pub columns: BTreeMap<String, String>,
    /// The columns that the model sees; all but the targets if none are named.
    #[serde(default)]
    pub inputs: Vec<String>,
    /// The columns that it is to find.
    #[serde(default)]
    pub targets: Vec<String>,
    /// Columns of words although most of their cells are numbers.
    #[serde(default)]
    pub words: Vec<String>,
    /// The target is a class also where it is a number.
    #[serde(default)]
    pub classes: bool,
    /// Numbers are moved and scaled to mean 0 and deviation 1, by the training rows; of pictures, each
    /// channel.
    #[serde(default = "yes")]
    pub standardise: bool,
    /// The mean of each channel of pictures between 0 and 1; that of the training rows if not given.
    #[serde(default)]
    pub mean: Vec<f64>,
    /// The deviation of each channel, given together with the mean.
    #[serde(default)]
    pub deviation: Vec<f64>,
    /// What is seen of pictures, `grey` or `rgb`; colours if the first picture has some.
    #[serde(default)]
    pub colour: Option<Colour>,
    /// Height and width to which pictures are brought; all must be of one size if not given.
    #[serde(default)]
    pub size: Option<[usize; 2]>,
    /// How pictures are changed at random while training; they are not if it is not given.
    #[serde(default)]
    pub augment: Option<AugmentSetting>,
    /// Shares of training, validation and test rows. Where a folder of pictures has `valid` or `test`,
    /// these are taken as they are, and their shares are not looked at.
    #[serde(default = "shares")]
    pub split: Vec<f64>,
    /// Each part has its share of every class.
    #[serde(default)]
    pub stratified: bool,
    /// The split's seed: it is not the run's, so that runs compare.
    #[serde(default)]
    pub seed: u64,
    /// Characters that a model of text sees at once.
    #[serde(default = "window")]
    pub window: usize,
    /// Characters from the beginning of one training window to that of the next; the window if not
    /// given.
    #[serde(default)]
    pub apart: Option<usize>,
}

/// What a file of data is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// A table.
    #[default]
    Csv,
    /// A text of characters; a file that ends in `.gz` is unpacked.
    Text,
    /// A folder of pictures, as [`ImageFolder`](crate::data::ImageFolder) has it, or of pictures packed into CIFAR's
    /// binaries or IDX files ([`Pictures`](crate::data::Pictures)).
    Images,
    /// A file of arrays, as [`Arrays`](crate::data::Arrays) reads them. Their numbers are taken as they are.
    Arrays,
}

/// How a model is trained.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TrainingSetting {
    /// Epochs.
    pub epochs: usize,
    /// Examples in a mini-batch.
    pub batch: usize,
    /// Networks that train at once.
    pub replicas: usize,
    /// What everything random follows from.
    pub seed: u64,
    /// Metrics, as [`metric`](crate::fit::metric) knows them.
    pub metrics: Vec<String>,
    /// When to stop.
    pub early_stop: Option<EarlyStopSetting>,
    /// When learning rates fall.
    pub plateau: Option<PlateauSetting>,
    /// A file of weights to begin from, from the configuration's folder on: what it has by the model's names is taken,
    /// the rest is drawn ([`Fit::from`](crate::fit::Fit::from)). Any safetensors file, also a model that was trained here.
    pub from: Option<PathBuf>,
    /// Parameters that stay as they are: those whose names begin so, such as `conv2d.` or `transformer_block`.
    pub freeze: Vec<String>,
    /// α of mixed examples, as [`Fit::mixup`](crate::fit::Fit::mixup) has it; nothing is mixed if not given.
    pub mixup: Option<f64>,
    /// `"dynamic"` or a power of two that stays: gradients are taken of the loss times that, and steps whose gradients
    /// are not finite are skipped ([`LossScale`](crate::optim::LossScale)). There is none if not given.
    pub loss_scale: Option<LossScaleSetting>,
    /// Rows of each part that lie on the device at once, of data that are larger than it: they are trained on and
    /// evaluated shard by shard ([`Shards`](crate::data::Shards)). All of them if not given.
    pub shard_rows: Option<usize>,
    /// Evaluates after every so many epochs and where the run ends ([`Fit::evaluate_every`](crate::fit::Fit::evaluate_every)).
    pub evaluate_every: usize,
    /// Evaluates the training rows too ([`Fit::measure_training`](crate::fit::Fit::measure_training)).
    pub measure_training: bool,
    /// The first epoch whose weights at its end enter the mean that is evaluated and kept
    /// ([`Fit::average_from`](crate::fit::Fit::average_from)); there is none if not given.
    pub average_from: Option<usize>,
    /// Every so many steps one launch is computed again by the reference, and the run ends if they disagree
    /// ([`Fit::verify_every`](crate::fit::Fit::verify_every)); never if not given.
    pub verify_every: u64,
}

impl Default for TrainingSetting {
    fn default() -> Self {
        Self {
            epochs: 10,
            batch: 32,
            replicas: 1,
            seed: 0,
            metrics: vec![],
            early_stop: None,
            plateau: None,
            from: None,
            freeze: vec![],
            mixup: None,
            loss_scale: None,
            shard_rows: None,
            evaluate_every: 1,
            measure_training: false,
            average_from: None,
            verify_every: 0,
        }
    }
}

/// When a run stops before its last epoch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EarlyStopSetting {
    /// The number that is to become better: `validation loss`, `validation <metric>`.
    pub on: String,
    /// Epochs without a better one.
    #[serde(default = "patience")]
    pub patience: usize,
    /// Whether each replica is watched by itself ([`EarlyStop::each`](crate::fit::EarlyStop::each)).
    #[serde(default)]
    pub each: bool,
}

/// When learning rates fall, as [`Plateau`](crate::fit::Plateau) has it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlateauSetting {
    /// The number that is to become better: `validation loss`, `validation <metric>`.
    pub on: String,
    /// Epochs without a better one.
    #[serde(default = "patience")]
    pub patience: usize,
    /// What rates are multiplied by.
    #[serde(default = "tenth")]
    pub factor: f64,
    /// The rate below which they do not fall.
    #[serde(default)]
    pub least_rate: f64,
}

fn tenth() -> f64 {
    0.1
}

fn yes() -> bool {
    true
}

fn shares() -> Vec<f64> {
    vec![0.7, 0.15, 0.15]
}

pub(super) fn window() -> usize {
    64
}

fn patience() -> usize {
    10
}

/// What is found in data beside their numbers; it is kept with the model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reading {
    /// How a table's columns become numbers.
    Table(Schema),
    /// The characters of a text: a character's place is its number.
    Text(Vec<char>),
    /// How pictures become numbers, and what their classes are called.
    Pictures(PictureSchema),
    /// Which arrays are columns.
    Arrays(ArraySchema),
}

impl Reading {
    /// The column that a model without inputs of its own sees.
    pub(super) fn input(&self) -> &'static str {
        match self {
            Self::Pictures(_) => IMAGE,
            _ => "input",
        }
    }

    /// The names of the classes, where the target is one of classes that have names.
    pub fn classes(&self) -> Option<&[String]> {
        match self {
            Self::Table(schema) => schema.classes(),
            Self::Pictures(schema) => Some(&schema.classes),
            Self::Text(_) => None,
            Self::Arrays(schema) => schema.classes.as_deref(),
        }
    }
}

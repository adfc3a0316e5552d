//! A whole experiment as a TOML file: data, model, loss, optimizer, how it is trained.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::callback::{EarlyStop, Progress};
use super::config::{LossSetting, OptimizerSetting, metric};
use super::loss::Loss;
use super::metric::Metric;
use super::report::{Epoch, Report};
use super::run::{Fit, Outcome};
use crate::data::{
    Colour, Dataset, PictureSchema, Roles, Schema, Table, split_rows, split_rows_of_classes,
};
use crate::error::{Error, Result};
use crate::exec::Device;
use crate::files::read_limited;
use crate::model::{Description, InputDescription, Model, OutputDescription, Registry};

mod pictures;

pub use pictures::AugmentSetting;

/// Longest configuration that is read.
const MAX_BYTES: u64 = 1 << 20;

/// Longest text that is read.
const MAX_TEXT: u64 = 1 << 30;

/// An experiment: everything that a run follows from, but for the device.
///
/// ```toml
/// name = "houses"
///
/// [data]
/// path = "houses.csv"          # beside this file
/// targets = ["price"]          # inputs: all other columns
///
/// [[model.layers]]
/// kind = "dense"
/// units = 32
/// [[model.layers]]
/// kind = "relu"
/// [[model.layers]]
/// kind = "dense"
/// units = 1
///
/// [loss]
/// kind = "mse"
///
/// [optimizer]
/// kind = "adamw"
/// rate = 0.01
///
/// [training]
/// epochs = 100
/// metrics = ["rmse", "r2"]
/// early_stop = { on = "validation loss", patience = 20 }
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Experiment {
    /// What the run is called; the file's stem if not given.
    #[serde(default)]
    pub name: String,
    /// The data.
    pub data: DataSetting,
    /// The model. Without inputs it has one, `input`, of the data's extents.
    pub model: Description,
    /// The loss.
    pub loss: LossSetting,
    /// The optimizer.
    pub optimizer: OptimizerSetting,
    /// How it is trained.
    #[serde(default)]
    pub training: TrainingSetting,
    /// The folder that the data's path begins from.
    #[serde(skip)]
    folder: PathBuf,
}

/// Where data come from, and what is what in them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataSetting {
    /// The file or the folder of pictures, from the configuration's folder on.
    #[serde(default)]
    pub path: Option<PathBuf>,
    /// `csv`, a table; `text`, whose characters are to be foretold; `images`, a folder of pictures.
    #[serde(default)]
    pub format: Format,
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
    /// Metrics, as [`metric`] knows them.
    pub metrics: Vec<String>,
    /// When to stop.
    pub early_stop: Option<EarlyStopSetting>,
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
}

fn yes() -> bool {
    true
}

fn shares() -> Vec<f64> {
    vec![0.7, 0.15, 0.15]
}

fn window() -> usize {
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
}

impl Reading {
    /// The column that a model without inputs of its own sees.
    fn input(&self) -> &'static str {
        match self {
            Self::Pictures(_) => pictures::IMAGE,
            _ => "input",
        }
    }

    /// The names of the classes, where the target is one of classes that have names.
    pub fn classes(&self) -> Option<&[String]> {
        match self {
            Self::Table(schema) => schema.classes(),
            Self::Pictures(schema) => Some(&schema.classes),
            Self::Text(_) => None,
        }
    }
}

/// An experiment with its data read and its model built: all that can be wrong in a file is not.
#[derive(Clone, Debug)]
pub struct Prepared {
    /// What the run is called.
    pub name: String,
    /// The model.
    pub model: Model,
    /// Rows that are trained on.
    pub training: Dataset,
    /// Rows that are evaluated after each epoch.
    pub validation: Dataset,
    /// Rows that are evaluated at the end.
    pub test: Dataset,
    /// How the data were read.
    pub reading: Reading,
    loss: Loss,
    metrics: Vec<Metric>,
    optimizer: OptimizerSetting,
    setting: TrainingSetting,
}

impl Experiment {
    /// Reads an experiment.
    ///
    /// # Errors
    /// [`Error::Io`], and [`Error::File`] saying where the text departs from the form.
    pub fn load(path: &Path) -> Result<Self> {
        let bytes = read_limited(path, MAX_BYTES)?;
        let fail = |found: String| {
            let wanted = "an experiment: data, model, loss, optimizer, training";
            Error::file(path, found, wanted, "Mend the file.")
        };
        let text = String::from_utf8(bytes).map_err(|e| fail(e.to_string()))?;
        let mut experiment: Self = toml::from_str(&text).map_err(|e| fail(e.to_string()))?;
        experiment.folder = path.parent().unwrap_or(Path::new("")).into();
        if experiment.name.is_empty() {
            let stem = path.file_stem().unwrap_or_default();
            experiment.name = stem.to_string_lossy().into_owned();
        }
        let plain = |c: char| c.is_alphanumeric() || "-_.".contains(c);
        if !experiment.name.chars().all(plain) || experiment.name.starts_with('.') {
            let found = format!("the name `{}`", experiment.name);
            let wanted = "letters, digits, `-`, `_` and `.`, no `.` first: it names a folder";
            return Err(Error::file(
                path,
                found,
                wanted,
                "Give the experiment another name.",
            ));
        }
        Ok(experiment)
    }

    /// Whether a TOML text is one of an experiment, and not of a session of the book.
    pub fn is(text: &str) -> bool {
        match toml::from_str::<toml::Table>(text) {
            Ok(table) => table.contains_key("model") || table.contains_key("data"),
            // Whoever reads it says what is wrong with it.
            Err(_) => text
                .lines()
                .any(|l| l.starts_with("[data]") || l.starts_with("[[model.")),
        }
    }

    /// Reads the data, from another path if one is given, and builds the model.
    ///
    /// # Errors
    /// Whatever does not fit, before anything is computed.
    pub fn prepare(&self, data: Option<&Path>, registry: &Registry) -> Result<Prepared> {
        let path = match (data, &self.data.path) {
            (Some(path), _) => path.to_path_buf(),
            (None, Some(path)) => self.folder.join(path),
            (None, None) => {
                let wanted = "`path` in the data of the configuration, or a file beside it";
                return Err(Error::setting("data", "no file", wanted));
            }
        };
        if self.data.split.len() != 3 {
            let found = format!("{:?}", self.data.split);
            let wanted = "three shares: training, validation, test";
            return Err(Error::setting("split", found, wanted));
        }
        self.check_format()?;
        let (parts, reading) = match self.data.format {
            Format::Csv => self.table(&path)?,
            Format::Text => self.text(&path)?,
            Format::Images => self.pictures(&path)?,
        };
        let [training, validation, test] = <[Dataset; 3]>::try_from(parts)
            .map_err(|_| Error::setting("split", "other parts", "three"))?;
        let (model, regression) = self.model(&training, &reading, registry)?;
        let labelled = matches!(reading, Reading::Pictures(_));
        let mut loss = self.loss.clone();
        if labelled && loss.against.is_empty() {
            loss.against.push(pictures::LABEL.into());
        }
        let mut metrics = Vec::new();
        for name in &self.training.metrics {
            let metric = metric(name)?;
            metrics.push(match regression {
                // The same value, and no digits lost to the targets' distance from 0.
                true if name == "r2" => match self.loss.of.first() {
                    Some(output) => metric.of(output),
                    None => metric,
                },
                true => metric.of(PREDICTION).against(AS_IT_IS),
                false if labelled => metric.against(pictures::LABEL),
                false => metric,
            });
        }
        let prepared = Prepared {
            name: self.name.clone(),
            model,
            training,
            validation,
            test,
            reading,
            loss: loss.build()?,
            metrics,
            optimizer: self.optimizer.clone(),
            setting: self.training.clone(),
        };
        prepared.with_callbacks(|_| {})?.check(&prepared.training)?;
        Ok(prepared)
    }

    fn table(&self, path: &Path) -> Result<(Vec<Dataset>, Reading)> {
        let setting = &self.data;
        let table = Table::csv(path)?;
        let roles = Roles {
            inputs: setting.inputs.clone(),
            targets: setting.targets.clone(),
            words: setting.words.clone(),
            classes: setting.classes,
            standardise: setting.standardise,
            // Losses of probabilities and signs want targets as they are.
            standardise_targets: ["mse", "mae", "huber"].contains(&self.loss.kind.as_str()),
        };
        // Words are those of all rows: a rare one may be in no training row.
        let all = Schema::of(&table, &roles)?;
        let rows = match setting.stratified {
            false => split_rows(table.rows(), &setting.split, setting.seed)?,
            true => {
                let data = all.dataset(&table)?;
                let target = data.column("target")?;
                let crate::data::Numbers::U32(classes) = &target.numbers else {
                    let wanted = "a target of classes";
                    return Err(Error::setting("stratified", "a target of numbers", wanted));
                };
                split_rows_of_classes(classes, &setting.split, setting.seed)?
            }
        };
        let schema = Schema::of(&table.select(&rows[0])?, &roles)?.with_words_of(&all);
        let parts = rows.iter().map(|rows| schema.dataset(&table.select(rows)?));
        Ok((parts.collect::<Result<_>>()?, Reading::Table(schema)))
    }

    fn text(&self, path: &Path) -> Result<(Vec<Dataset>, Reading)> {
        let mut bytes = read_limited(path, MAX_TEXT)?;
        if path.extension().is_some_and(|e| e == "gz") {
            use std::io::Read;
            let mut plain = Vec::new();
            let unpacked = flate2::read::MultiGzDecoder::new(bytes.as_slice());
            let read = unpacked.take(MAX_TEXT + 1).read_to_end(&mut plain);
            read.map_err(|e| Error::io("unpack", path, e, "Check that it is a gzip file."))?;
            if plain.len() as u64 > MAX_TEXT {
                let wanted = format!("at most {MAX_TEXT} bytes");
                return Err(Error::file(
                    path,
                    "a longer text",
                    wanted,
                    "Take a part of it.",
                ));
            }
            bytes = plain;
        }
        let text = String::from_utf8(bytes).map_err(|e| {
            let fix = "Save the text as UTF-8.";
            Error::file(path, e.to_string(), "text in UTF-8", fix)
        })?;
        let mut characters: Vec<char> = text.chars().collect();
        let all = characters.clone();
        characters.sort_unstable();
        characters.dedup();
        let number = |c: &char| characters.binary_search(c).unwrap_or(0) as u32;
        let numbers: Vec<u32> = all.iter().map(number).collect();
        if self
            .data
            .split
            .iter()
            .any(|share| !(*share > 0.0 && share.is_finite()))
        {
            let found = format!("{:?}", self.data.split);
            return Err(Error::setting("split", found, "positive numbers"));
        }
        let apart = self.data.apart.unwrap_or(self.data.window);
        for (name, value) in [("window", self.data.window), ("apart", apart)] {
            if value == 0 {
                return Err(Error::setting(name, 0, "at least 1"));
            }
        }
        let total: f64 = self.data.split.iter().sum();
        let (mut from, mut sum, mut parts) = (0, 0.0, Vec::new());
        for (k, share) in self.data.split.iter().enumerate() {
            sum += share;
            let to = (numbers.len() as f64 * sum / total).round() as usize;
            let part = numbers.get(from..to.min(numbers.len())).unwrap_or_default();
            let apart = match k {
                0 => self.data.apart.unwrap_or(self.data.window),
                _ => self.data.window,
            };
            parts.push(Dataset::windows_apart(
                part.to_vec(),
                self.data.window,
                apart,
            )?);
            from = to;
        }
        Ok((parts, Reading::Text(characters)))
    }

    /// The model, and whether it finds numbers that were standardised.
    fn model(
        &self,
        data: &Dataset,
        reading: &Reading,
        registry: &Registry,
    ) -> Result<(Model, bool)> {
        let mut description = self.model.clone();
        if description.inputs.is_empty() {
            let column = data.column(reading.input())?;
            description.inputs.push(InputDescription {
                name: reading.input().into(),
                extents: column.extents.clone(),
                elements: match reading {
                    Reading::Table(_) | Reading::Pictures(_) => "f32".into(),
                    Reading::Text(_) => "u32".into(),
                },
            });
        }
        let scales = match reading {
            Reading::Table(schema) => schema.scales(),
            Reading::Text(characters) => {
                enough_rows(&description, characters.len())?;
                None
            }
            Reading::Pictures(schema) => {
                let model = description.build(registry)?;
                scores_for(&model, schema.classes.len())?;
                let description = self.with_first_layers(model.describe()?, data)?;
                return Ok((description.build(registry)?, false));
            }
        };
        let Some(scales) = scales else {
            let model = description.build(registry)?;
            if let Reading::Table(schema) = reading {
                scores_for(&model, schema.outputs())?;
            }
            return Ok((model, false));
        };
        // A first model tells the last layer's name.
        let plain = description.build(registry)?.describe()?;
        description.outputs = plain.outputs;
        description.layers = plain.layers;
        let named = self.loss.of.first();
        let outputs = description.outputs.iter();
        let found = outputs
            .clone()
            .find(|o| named.is_none_or(|name| o.name == *name));
        let last = found
            .or(description.outputs.first())
            .map(|o| o.from.clone());
        let affine = serde_json::json!({
            "kind": "affine",
            "name": PREDICTION,
            "inputs": [last],
            "scale": scales.iter().map(|s| s.1).collect::<Vec<_>>(),
            "shift": scales.iter().map(|s| s.0).collect::<Vec<_>>(),
        });
        description.layers.extend(affine.as_object().cloned());
        description.outputs.push(OutputDescription {
            name: PREDICTION.into(),
            from: PREDICTION.into(),
        });
        Ok((description.build(registry)?, true))
    }
}

/// Holds embeddings of a text to its characters: a number of no row would be passed over in silence.
fn enough_rows(description: &Description, characters: usize) -> Result<()> {
    for (number, layer) in description.layers.iter().enumerate() {
        let rows = layer.get("rows").and_then(serde_json::Value::as_u64);
        let named = layer.get("inputs").and_then(|inputs| inputs.get(0));
        let of_text = number == 0 || named.is_some_and(|name| name == "input");
        let embeds = layer.get("kind").is_some_and(|kind| kind == "embedding");
        if let (true, true, Some(rows)) = (embeds, of_text, rows)
            && rows < characters as u64
        {
            let wanted = format!("at least the {characters} different characters of the text");
            return Err(Error::setting(
                format!("rows of layer {number}"),
                rows,
                wanted,
            ));
        }
    }
    Ok(())
}

/// Holds a model of classes to a score of each.
fn scores_for(model: &Model, classes: usize) -> Result<()> {
    let scores = model
        .outputs()
        .next()
        .and_then(|(_, o)| o.extents.last().copied());
    match scores {
        Some(found) if found != classes => {
            let wanted = format!("{classes}, one of each class");
            Err(Error::setting("scores of the model", found, wanted))
        }
        _ => Ok(()),
    }
}

/// The output that has targets in their own units.
const PREDICTION: &str = "prediction";
/// The column of targets in their own units.
const AS_IT_IS: &str = "target as it is";

impl Prepared {
    /// Trains; `progress` sees each epoch.
    ///
    /// # Errors
    /// As [`Fit::run`].
    pub fn run(&self, device: &Device, progress: impl FnMut(&Epoch)) -> Result<Outcome> {
        self.with_callbacks(progress)?.run(&self.training, device)
    }

    /// Trains with a checkpoint in this file after each epoch, from the one that is there if it is to
    /// resume; see [`Fit::resume`].
    ///
    /// # Errors
    /// As [`Fit::run`].
    pub fn run_kept(
        &self,
        device: &Device,
        (file, resume): (&Path, bool),
        progress: impl FnMut(&Epoch),
    ) -> Result<Outcome> {
        let fit = self.with_callbacks(progress)?.checkpoint(file);
        let fit = if resume { fit.resume() } else { fit };
        fit.run(&self.training, device)
    }

    fn with_callbacks<'a>(&'a self, progress: impl FnMut(&Epoch) + 'a) -> Result<Fit<'a>> {
        let fit = self.fit()?.with(Progress::new(progress));
        Ok(match &self.setting.early_stop {
            Some(stop) => fit.with(EarlyStop::on(&stop.on).patience(stop.patience)),
            None => fit,
        })
    }

    /// The run without its callbacks.
    fn fit(&self) -> Result<Fit<'_>> {
        let setting = &self.setting;
        let steps = self.training.rows() / setting.batch.max(1);
        let optimizer = self.optimizer.build(setting.epochs, steps.max(1))?;
        let mut fit = Fit::new(&self.model, self.loss.clone(), optimizer)
            .batch(setting.batch)
            .epochs(setting.epochs)
            .replicas(setting.replicas)
            .seed(setting.seed)
            .validation(&self.validation)
            .test(&self.test);
        for metric in &self.metrics {
            fit = fit.metric(metric.clone());
        }
        Ok(fit)
    }

    /// A report as JSON: the numbers of [`Report`], of the test data the means over replicas by name,
    /// and the names of classes.
    ///
    /// # Errors
    /// [`Error::Setting`] where a number cannot be written.
    pub fn report(&self, report: &Report) -> Result<serde_json::Value> {
        let fail = |e: serde_json::Error| Error::setting("report", e, "numbers that JSON has");
        let mut json = serde_json::to_value(report).map_err(fail)?;
        let first = report.test.first();
        let names = first.map(|s| s.metrics.iter().map(|(n, _)| n.as_str()));
        let names = std::iter::once("loss").chain(names.into_iter().flatten());
        let test: serde_json::Map<String, serde_json::Value> = names
            .filter_map(|name| Some((name.to_string(), report.test(name)?.into())))
            .collect();
        if let Some(json) = json.as_object_mut() {
            let replicas = json.remove("test").unwrap_or_default();
            json.insert("test".into(), test.into());
            json.insert("test_replicas".into(), replicas);
            json.insert("name".into(), self.name.clone().into());
            let rows = [&self.training, &self.validation, &self.test].map(|d| d.rows());
            json.insert("rows".into(), rows.to_vec().into());
            if let Some(classes) = self.reading.classes() {
                json.insert("classes".into(), classes.to_vec().into());
            }
        }
        Ok(json)
    }

    /// What is to be trained on, in words: rows, columns and their coding.
    pub fn schema_text(&self) -> String {
        use std::fmt::Write as _;
        let [a, b, c] = [&self.training, &self.validation, &self.test].map(|d| d.rows());
        let mut text = format!("{a} rows for training, {b} for validation, {c} for the test\n");
        match &self.reading {
            Reading::Text(characters) => {
                let _ = writeln!(text, "a text of {} different characters", characters.len());
            }
            Reading::Pictures(schema) => text += &pictures::words(schema, &self.model),
            Reading::Table(schema) => {
                let columns = schema.inputs.iter().map(|c| ("input", c));
                let columns = columns.chain(schema.targets.iter().map(|c| ("target", c)));
                for (role, coded) in columns {
                    let _ = writeln!(text, "  {role:<6} {:<24} {}", coded.name, coded.coding);
                }
            }
        }
        text
    }
}

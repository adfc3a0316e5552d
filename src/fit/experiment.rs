//! A whole experiment as a TOML file: data, model, loss, optimizer, how it is trained.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::config::{LossSetting, OptimizerSetting, metric};
use super::weights::Weights;
use crate::data::{Dataset, Roles, Schema, Table, split_rows, split_rows_of_classes};
use crate::error::{Error, Result};
#[cfg(feature = "toml")]
use crate::files::read_limited;
use crate::model::{Description, InputDescription, Model, OutputDescription, Registry};
use crate::shape::DType;

mod arrays;
pub(super) mod difference;
mod pictures;
mod prepared;
mod settings;
mod text;

pub use prepared::Prepared;
pub use settings::{
    AugmentSetting, DataSetting, EarlyStopSetting, Format, PlateauSetting, Reading, TrainingSetting,
};
use text::enough_rows;

/// Longest configuration that is read.
#[cfg(feature = "toml")]
const MAX_BYTES: u64 = 1 << 20;

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
/// plateau = { on = "validation loss", patience = 5, factor = 0.5 }
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

#[cfg(feature = "toml")]
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
}

impl Experiment {
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
        let (parts, mut reading) = match self.data.format {
            Format::Csv => self.table(&path)?,
            Format::Text => self.text(&path)?,
            Format::Images => self.pictures(&path)?,
            Format::Arrays => self.arrays(&path)?,
        };
        let [training, validation, test] = <[Dataset; 3]>::try_from(parts)
            .map_err(|_| Error::setting("split", "other parts", "three"))?;
        // Shards are neighbours, and files often lie sorted by class; the windows of a text overlap where they lie.
        let shards = self.training.shard_rows;
        let training = match shards.is_some_and(|rows| rows < training.rows()) {
            true if self.data.format != Format::Text => training.shuffled(self.training.seed)?,
            _ => training,
        };
        let (model, regression) = self.model(&training, &reading, registry)?;
        if let Reading::Arrays(schema) = &mut reading {
            let inputs: Vec<&str> = model.inputs().map(|(name, _)| name).collect();
            // Scores of a row as a whole, and not of each of its places.
            let scored = self.loss.kind == "cross_entropy";
            let output = model.outputs().next().filter(|_| scored);
            let classes = output.and_then(|(_, example)| match example.extents[..] {
                [classes] => Some(classes),
                _ => None,
            });
            schema.settle(&inputs, classes);
            // Bytes would be divided by 255 without a word.
            let mut against = self.loss.against.clone();
            if against.is_empty() {
                against.push("target".into());
            }
            let mut targets = schema.targets.iter();
            let bytes = targets.find(|c| c.kind == "bytes" && against.contains(&c.name));
            if let Some(column) = bytes {
                let found = format!("bytes {:?} a row", column.extents);
                let wanted = "targets of integers of more than 8 bits, or floats: bytes become \
                              floats from 0 to 1";
                return Err(Error::setting(
                    format!("array {}", column.array),
                    found,
                    wanted,
                ));
            }
        }
        let labelled = matches!(reading, Reading::Pictures(_));
        let mut loss = self.loss.clone();
        if labelled && loss.against.is_empty() {
            loss.against.push(pictures::LABEL.into());
        }
        let mut metrics = Vec::new();
        for name in &self.training.metrics {
            let metric = metric(name)?;
            // What the loss looks at is what is measured.
            let metric = match self.loss.of.first() {
                Some(output) => metric.of(output),
                None => metric,
            };
            metrics.push(match regression {
                // The same value, and no digits lost to the targets' distance from 0.
                true if name == "r2" => metric,
                true => metric.of(PREDICTION).against(AS_IT_IS),
                false if labelled => metric.against(pictures::LABEL),
                false => metric,
            });
        }
        let mut prepared = Prepared {
            name: self.name.clone(),
            model,
            training,
            validation,
            test,
            reading,
            loss: loss.build()?,
            output: self.loss.of.first().cloned(),
            metrics,
            optimizer: self.optimizer.clone(),
            initial: self.initial()?,
            setting: self.training.clone(),
        };
        prepared.check_frozen()?;
        prepared.integers_as_floats()?;
        let training = prepared.given(&prepared.training);
        prepared.with_callbacks(|_| {})?.check(training)?;
        Ok(prepared)
    }

    /// The weights to begin from.
    fn initial(&self) -> Result<Option<Weights>> {
        let path = self.training.from.as_ref();
        path.map(|path| Weights::load(self.folder.join(path)))
            .transpose()
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

    /// The model, and whether it finds numbers that were standardised.
    fn model(
        &self,
        data: &Dataset,
        reading: &Reading,
        registry: &Registry,
    ) -> Result<(Model, bool)> {
        let mut description = self.model.clone();
        if description.inputs.is_empty() {
            let column = data.column(reading.input());
            let column = column.map_err(|e| e.within("model input"))?;
            let input = |elements: &str| InputDescription {
                name: reading.input().into(),
                extents: column.extents.clone(),
                elements: elements.into(),
            };
            let (own, other) = match column.numbers.dtype() {
                DType::F32 => ("f32", "u32"),
                DType::U32 => ("u32", "f32"),
            };
            description.inputs.push(input(own));
            // What an array's integers are, words or numbers, the layers tell that take them.
            let integers = own == "u32" || column.negative(data.rows()).is_some();
            if matches!(reading, Reading::Arrays(_))
                && integers
                && description.build(registry).is_err()
            {
                let mut otherwise = description.clone();
                otherwise.inputs = vec![input(other)];
                if otherwise.build(registry).is_ok() {
                    description = otherwise;
                }
            }
        }
        let scales = match reading {
            Reading::Table(schema) => schema.scales(),
            Reading::Arrays(_) => None,
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

/// The output that has targets in their own units, and the layer that makes it of them.
pub(super) const PREDICTION: &str = "prediction";
/// The column of targets in their own units.
const AS_IT_IS: &str = "target as it is";

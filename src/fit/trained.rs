//! A trained model with what is known of its data: it answers rows of a table and pictures as they stand
//! in files.

use std::collections::BTreeMap;
use std::path::Path;

use ndarray::{ArrayD, ArrayViewD};

use super::experiment::{PREDICTION, Prepared, Reading, difference};
use super::inference::{Inference, Outputs};
use super::report::Scores;
use super::weights::Weights;
use crate::data::{Arrays, SCALE, Table};
use crate::error::{Error, Result};
use crate::exec::Device;
use crate::model::{Model, Registry};
use crate::model_file::ModelFile;

/// Metadata keys of how the data were read, and of the output that answers.
const READING: &str = "wgrad.reading";
const OUTPUT: &str = "wgrad.output";

/// A model, its weights, and how its data were read.
#[derive(Clone, Debug)]
pub struct Trained {
    /// The model.
    pub model: Model,
    /// Its weights.
    pub weights: Weights,
    /// How its data were read.
    pub reading: Reading,
    /// The output that answers, if it is not the first that has as many numbers as the data ask for.
    pub output: Option<String>,
}

/// What a model says of the rows of a table.
#[derive(Clone, Debug, PartialEq)]
pub enum Answers {
    /// Of each row, its most probable class and that one's probability; of equal ones the first.
    Classes(Vec<(String, f64)>),
    /// Of each row, a number of each target, in the targets' own units.
    Numbers {
        /// The targets.
        names: Vec<String>,
        /// The rows.
        rows: Vec<Vec<f64>>,
    },
}

impl Prepared {
    /// The experiment's model with these weights, such as [`Outcome::weights`](super::Outcome::weights) has them.
    pub fn trained(&self, weights: Weights) -> Trained {
        Trained {
            model: self.model.clone(),
            weights,
            reading: self.reading.clone(),
            output: self.output.clone(),
        }
    }
}

impl Trained {
    /// Writes everything as safetensors, whole or not at all.
    ///
    /// # Errors
    /// As [`Weights::save`].
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        let reading = serde_json::to_string(&self.reading)
            .map_err(|e| Error::setting("reading of data", e, "finite numbers"))?;
        let output = self.output.iter();
        let output = output.map(|output| (OUTPUT.to_string(), output.clone()));
        let reading = (READING.to_string(), reading);
        let extra: BTreeMap<_, _> = output.chain([reading]).collect();
        self.weights.save_with(&self.model, &extra, path)
    }

    /// Whether a model file is one of these.
    pub fn is(file: &ModelFile) -> bool {
        file.extra.contains_key(READING)
    }

    /// Reads what [`Trained::save`] has written.
    ///
    /// # Errors
    /// As [`ModelFile::load`] and [`Model::from_json`]; [`Error::File`] for a file that says nothing of
    /// its data.
    pub fn load(path: impl AsRef<Path>, registry: &Registry) -> Result<Self> {
        let path = path.as_ref();
        let file = ModelFile::load(path)?;
        let reading = file
            .extra
            .get(READING)
            .map(|text| serde_json::from_str(text));
        let reading = reading.and_then(|read| read.ok()).ok_or_else(|| {
            let wanted = "a model that says how its data were read";
            let fix = "Train it from a configuration again.";
            Error::file(path, "nothing of that", wanted, fix)
        })?;
        Ok(Self {
            model: Model::from_json(&file.network_json, registry)?,
            weights: Weights::from_tensors(file.tensors),
            reading,
            output: file.extra.get(OUTPUT).cloned(),
        })
    }

    /// What the model scores on the validation and on the test rows of the experiment that it was trained
    /// by: its loss and its metrics; see [`Fit::evaluate`](super::Fit::evaluate).
    ///
    /// # Errors
    /// [`Error::Setting`] for an experiment of another model, or whose data are coded otherwise than those
    /// that the model was trained on, since its numbers would mean something else; what the device says.
    pub fn evaluate(
        &self,
        experiment: &Prepared,
        device: &Device,
    ) -> Result<Vec<(&'static str, Scores)>> {
        let data = difference::of_readings(&experiment.reading, &self.reading);
        let (own, wanted) = (self.model.describe()?, experiment.model.describe()?);
        // That layer's numbers follow from the data, which then are what differs.
        let of_data = data.is_some().then_some(PREDICTION);
        if let Some((found, wanted)) = difference::of_models(&own, &wanted, of_data) {
            let found = format!("another model than the experiment's: {found}");
            return Err(Error::setting("model", found, wanted));
        }
        if let Some((found, wanted)) = data {
            let found = format!("another coding: {found}");
            let wanted = format!("that of the data that the model was trained on: {wanted}");
            return Err(Error::setting("evaluated data", found, wanted));
        }
        experiment.fit()?.evaluate(&self.weights, device)
    }

    /// What the model says of every row of a table, which needs the columns of its inputs alone. Of several outputs that
    /// one counts which is named ([`Trained::output`]), or the first that has a score for each class, or a number for each target; of numbers that were
    /// standardised it tells what they were before.
    ///
    /// # Errors
    /// [`Error::Setting`] for a model of other data, [`Error::Shape`] for one without such an output; for the table as [`Schema::inputs`]; what the device
    /// says.
    ///
    /// [`Schema::inputs`]: crate::data::Schema::inputs
    pub fn answer(&self, table: &Table, device: &Device) -> Result<Answers> {
        let Reading::Table(schema) = &self.reading else {
            let found = "one of a text, of pictures or of arrays";
            return Err(Error::setting("model", found, "a model of a table"));
        };
        let input = schema.inputs(table)?;
        let most = table.rows().clamp(1, MOST_AT_ONCE);
        let net = Inference::new(&self.model, &self.weights, most, device)?;
        let outputs = net.run(&[("input", input.as_slice().into())])?;
        if let Some(classes) = schema.classes() {
            let scores = self.output_of(&outputs, classes.len())?;
            return Ok(Answers::Classes(most_probable(finite(scores)?, classes)));
        }
        let names: Vec<String> = schema.targets.iter().map(|t| t.name.clone()).collect();
        // The models of experiments say it in the targets' own units beside what they learn by.
        let (values, scales) = match outputs.get(PREDICTION) {
            Some(values) => (values, None),
            None => (self.output_of(&outputs, names.len())?, schema.scales()),
        };
        let own = |(k, &x): (usize, &f32)| match scales.as_ref().and_then(|all| all.get(k)) {
            Some((mean, deviation)) => f64::from(x) * deviation + mean,
            None => f64::from(x),
        };
        let rows = finite(values)?.outer_iter();
        let rows = rows.map(|row| row.iter().enumerate().map(own).collect());
        Ok(Answers::Numbers {
            names,
            rows: rows.collect(),
        })
    }

    /// The output that answers, of so many numbers an example: the one that is named, or the model's first such.
    fn output_of<'o>(&self, outputs: &'o Outputs, numbers: usize) -> Result<&'o ArrayD<f32>> {
        let named = |name: &str| self.output.as_ref().is_none_or(|own| own == name);
        let mut all = self.model.outputs().filter(|(name, _)| named(name));
        let found = all.find(|(_, output)| output.extents.iter().product::<usize>() == numbers);
        found
            .and_then(|(name, _)| outputs.get(name))
            .ok_or_else(|| {
                let all: Vec<String> = self
                    .model
                    .outputs()
                    .map(|(n, o)| format!("{n} {:?}", o.extents))
                    .collect();
                let wanted =
                    format!("one of {numbers}, as many as the data have classes or targets");
                Error::shape("outputs of the model", all.join(", "), wanted)
            })
    }

    /// What the model says of every row of arrays, those of its inputs alone; see
    /// [`ArraySchema::inputs`](crate::data::ArraySchema::inputs). Of a model that is not one of classes these are
    /// the numbers of that output, or its first one, `output` or `output 0`, `output 1`, ….
    ///
    /// # Errors
    /// [`Error::Setting`] for a model of other data; for the arrays as `ArraySchema::inputs`; what the
    /// device says.
    pub fn answer_arrays(&self, arrays: &Arrays, device: &Device) -> Result<Answers> {
        let Reading::Arrays(schema) = &self.reading else {
            let found = "one of a table, a text or pictures";
            return Err(Error::setting("model", found, "a model of arrays"));
        };
        let data = schema.inputs(arrays)?;
        let most = data.rows().clamp(1, MOST_AT_ONCE);
        let net = Inference::new(&self.model, &self.weights, most, device)?;
        let outputs = net.run_on(&data)?;
        if let Some(classes) = &schema.classes {
            let scores = self.output_of(&outputs, classes.len())?;
            return Ok(Answers::Classes(most_probable(finite(scores)?, classes)));
        }
        let first = self.model.outputs().next().map(|(name, _)| name);
        let named = self.output.as_deref().or(first);
        let found = named.and_then(|name| Some((name, outputs.get(name)?)));
        let (name, values) = found.ok_or_else(|| Error::setting("model", "no output", "one"))?;
        let wide = |row: ArrayViewD<'_, f32>| row.iter().map(|&x| f64::from(x)).collect();
        let rows: Vec<Vec<f64>> = finite(values)?.outer_iter().map(wide).collect();
        let names = match rows.first().map_or(0, Vec::len) {
            1 => vec![name.to_string()],
            several => (0..several).map(|k| format!("{name} {k}")).collect(),
        };
        Ok(Answers::Numbers { names, rows })
    }

    /// What the model says of pictures: of each its most probable class and that one's probability, or
    /// why it cannot be read, which costs no other its answer.
    ///
    /// # Errors
    /// [`Error::Setting`] for a model of other data; what the device says.
    pub fn answer_pictures(
        &self,
        paths: &[impl AsRef<Path>],
        device: &Device,
    ) -> Result<Vec<Result<(String, f64)>>> {
        let Reading::Pictures(schema) = &self.reading else {
            let found = "one of a table, of a text or of arrays";
            return Err(Error::setting("model", found, "a model of pictures"));
        };
        let mut net = None;
        let mut answers = Vec::with_capacity(paths.len());
        for paths in paths.chunks(MOST_PICTURES) {
            let read: Vec<_> = paths.iter().map(|path| schema.read(path)).collect();
            let pixels = read.iter().flatten().flatten();
            let pixels: Vec<f32> = pixels.map(|&x| f32::from(x) * SCALE as f32).collect();
            let mut told = Vec::new().into_iter();
            if !pixels.is_empty() {
                let net = match &net {
                    Some(net) => net,
                    None => net.insert(Inference::new(
                        &self.model,
                        &self.weights,
                        paths.len(),
                        device,
                    )?),
                };
                let outputs = net.run(&[("image", pixels.as_slice().into())])?;
                let scores = self.output_of(&outputs, schema.classes.len())?;
                let rows = scores.outer_iter().map(wrong);
                let rows = rows.zip(most_probable(scores, &schema.classes));
                told = rows.collect::<Vec<_>>().into_iter();
            }
            for (path, read) in paths.iter().zip(read) {
                let answer = read.and_then(|_| match told.next().unwrap_or_default() {
                    (None, answer) => Ok(answer),
                    (Some(x), _) => Err(not_finite(&path.as_ref().display().to_string(), x)),
                });
                answers.push(answer);
            }
        }
        Ok(answers)
    }
}

/// Holds what a model says to numbers: what is none is no answer.
fn finite(values: &ArrayD<f32>) -> Result<&ArrayD<f32>> {
    let mut rows = values.outer_iter().map(wrong).enumerate();
    match rows.find_map(|(row, x)| Some((row, x?))) {
        None => Ok(values),
        Some((row, x)) => Err(not_finite(&format!("row {}", row + 1), x)),
    }
}

/// The first number of a row that is none.
fn wrong(row: ArrayViewD<'_, f32>) -> Option<f32> {
    row.iter().copied().find(|x| !x.is_finite())
}

fn not_finite(of: &str, found: f32) -> Error {
    let wanted = "finite numbers: weights, or what the model is asked about, are too large";
    Error::setting(format!("what the model says of {of}"), found, wanted)
}

/// Of each row of scores, the most probable class and its probability; of equal ones the first.
fn most_probable(scores: &ArrayD<f32>, classes: &[String]) -> Vec<(String, f64)> {
    let rows = scores.outer_iter().map(|row| {
        let row: Vec<f64> = row.iter().map(|&x| f64::from(x)).collect();
        let largest = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let total: f64 = row.iter().map(|x| (x - largest).exp()).sum();
        let best = row.iter().position(|&x| x == largest).unwrap_or(0);
        let name = classes.get(best).cloned().unwrap_or_default();
        (name, 1.0 / total)
    });
    rows.collect()
}

/// Rows that go through a model at once, at most.
const MOST_AT_ONCE: usize = 1024;

/// Pictures that are held at once, at most.
const MOST_PICTURES: usize = 64;

//! An experiment whose data are read and whose model is built, and its run.

use std::path::Path;

use super::pictures;
use super::settings::{Reading, TrainingSetting};
use crate::data::{DataRef, Dataset, Shards};
use crate::error::{Error, Result};
use crate::exec::Device;
use crate::fit::callback::EarlyStop;
use crate::fit::config::OptimizerSetting;
use crate::fit::loss::Loss;
use crate::fit::metric::Metric;
use crate::fit::plateau::Plateau;
use crate::fit::progress::{Teller, Told};
use crate::fit::report::{Epoch, Report};
use crate::fit::resident::of_set;
use crate::fit::run::{Fit, Outcome};
use crate::fit::weights::Weights;
use crate::model::{Model, Role};
use crate::optim::Group;
use crate::plan::Plan;
use crate::shape::DType;

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
    /// The output that the loss looks at, and that answers, where the experiment says which.
    pub output: Option<String>,
    pub(super) loss: Loss,
    pub(super) metrics: Vec<Metric>,
    pub(super) optimizer: OptimizerSetting,
    /// The weights to begin from.
    pub(super) initial: Option<Weights>,
    pub(super) setting: TrainingSetting,
}

/// Whether a name begins as one of some does.
fn begins(name: &str, prefixes: &[String]) -> bool {
    prefixes
        .iter()
        .any(|prefix| name.starts_with(prefix.as_str()))
}

impl Prepared {
    /// Trains; `progress` sees each epoch.
    ///
    /// # Errors
    /// As [`Fit::run`].
    pub fn run(&self, device: &Device, progress: impl FnMut(&Epoch)) -> Result<Outcome> {
        let mut progress = progress;
        let told = move |told: Told<'_>| {
            if let Told::Epoch(epoch) = told {
                progress(epoch);
            }
        };
        self.with_callbacks(told)?
            .run(self.given(&self.training), device)
    }

    /// Trains with checkpoints in this folder after each epoch, from the newest that is there if it is to
    /// resume; see [`Fit::resume`]. `progress` sees each epoch, and a few times a second how far the run is.
    ///
    /// # Errors
    /// As [`Fit::run`].
    pub fn run_kept(
        &self,
        device: &Device,
        (folder, resume): (&Path, bool),
        progress: impl FnMut(Told<'_>),
    ) -> Result<Outcome> {
        let fit = self.with_callbacks(progress)?.checkpoints(folder);
        let fit = if resume { fit.resume() } else { fit };
        fit.run(self.given(&self.training), device)
    }

    /// What a run launches and holds; see [`Fit::plan`].
    ///
    /// # Errors
    /// As [`Fit::plan`].
    pub fn plan(&self, device: &Device) -> Result<Plan> {
        // Callbacks that set rates change what is compiled.
        self.with_callbacks(|_| {})?
            .plan(self.given(&self.training), device)
    }

    /// Rows as they lie on a device: all at once, or in shards.
    pub(super) fn given<'a>(&self, data: &'a Dataset) -> DataRef<'a> {
        match self.setting.shard_rows {
            Some(rows) => Shards::of(data, rows).into(),
            None => data.into(),
        }
    }

    pub(super) fn with_callbacks<'a>(
        &'a self,
        progress: impl FnMut(Told<'_>) + 'a,
    ) -> Result<Fit<'a>> {
        let fit = self.fit()?.with(Teller::new(progress));
        let fit = match &self.setting.plateau {
            Some(plateau) => fit.with(
                Plateau::on(&plateau.on)
                    .patience(plateau.patience)
                    .factor(plateau.factor)
                    .least_rate(plateau.least_rate),
            ),
            None => fit,
        };
        Ok(match &self.setting.early_stop {
            Some(setting) => {
                let stop = EarlyStop::on(&setting.on).patience(setting.patience);
                fit.with(if setting.each { stop.each() } else { stop })
            }
            None => fit,
        })
    }

    /// The run without its callbacks.
    pub(in crate::fit) fn fit(&self) -> Result<Fit<'_>> {
        let setting = &self.setting;
        let steps = self.training.rows() / setting.batch.max(1);
        let mut optimizer = self.optimizer.build(setting.epochs, steps.max(1))?;
        if let Some(scale) = &setting.loss_scale {
            optimizer = optimizer.loss_scale(scale.build()?);
        }
        if !setting.freeze.is_empty() {
            let frozen = setting.freeze.clone();
            let group = Group {
                frozen: true,
                ..Group::default()
            };
            optimizer = optimizer.group(move |name| begins(name, &frozen), group);
        }
        let mut fit = Fit::new(&self.model, self.loss.clone(), optimizer)
            .batch(setting.batch)
            .epochs(setting.epochs)
            .replicas(setting.replicas)
            .seed(setting.seed)
            .verify_every(setting.verify_every)
            .evaluate_every(setting.evaluate_every)
            .validation(self.given(&self.validation))
            .test(self.given(&self.test));
        for metric in &self.metrics {
            fit = fit.metric(metric.clone());
        }
        if let Some(initial) = &self.initial {
            fit = fit.from(initial);
        }
        if setting.measure_training {
            fit = fit.measure_training();
        }
        if let Some(from) = setting.average_from {
            fit = fit.average_from(from);
        }
        if let Some(alpha) = setting.mixup {
            fit = fit.mixup(alpha);
        }
        Ok(fit)
    }

    /// Refuses to freeze what there is not, and everything.
    pub(super) fn check_frozen(&self) -> Result<()> {
        let parameters = self.model.variables().iter();
        let parameters = parameters.filter(|v| v.role == Role::Parameter);
        let names: Vec<&str> = parameters.map(|v| v.name.as_str()).collect();
        let frozen = &self.setting.freeze;
        for prefix in frozen {
            if !names.iter().any(|name| name.starts_with(prefix.as_str())) {
                return Err(Error::unknown("parameter to freeze", prefix, &names));
            }
        }
        if !names.is_empty() && names.iter().all(|name| begins(name, frozen)) {
            let wanted = "parameters that are left to train";
            return Err(Error::setting("freeze", frozen.join(", "), wanted));
        }
        Ok(())
    }

    /// Takes integers of arrays as floats where model, loss and metrics want nothing but floats: a file's
    /// integers are words, classes or numbers, and only who takes them knows.
    pub(super) fn integers_as_floats(&mut self) -> Result<()> {
        let Reading::Arrays(_) = &self.reading else {
            return Ok(());
        };
        let needs = self.fit()?.needs()?;
        let mut names: Vec<String> = needs.iter().map(|need| need.column.clone()).collect();
        names.retain(|name| {
            let mut own = needs.iter().filter(|need| need.column == *name);
            own.all(|need| need.input.dtype == DType::F32)
        });
        names.sort();
        names.dedup();
        for (set, data) in [
            ("training", &mut self.training),
            ("validation", &mut self.validation),
            ("test", &mut self.test),
        ] {
            for name in &names {
                // A column that is missing is told of when data and model are held to each other.
                if data.column(name).is_ok() {
                    let floats = std::mem::take(data).as_floats(name);
                    *data = floats.map_err(|e| of_set(e, set))?;
                }
            }
        }
        if let Reading::Arrays(schema) = &mut self.reading {
            let columns = schema.inputs.iter_mut().chain(&mut schema.targets);
            for column in columns.filter(|column| names.contains(&column.name)) {
                column.as_floats();
            }
        }
        Ok(())
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
            Reading::Arrays(schema) => {
                // A file may have more arrays than a model and its loss take.
                let needs = self.fit().and_then(|fit| fit.needs()).unwrap_or_default();
                let taken = |name: &str| needs.iter().any(|need| need.column == name);
                let role = |name: &str| if taken(name) { "target" } else { "unused" };
                let columns = schema.inputs.iter().map(|c| ("input", c));
                let others = schema.targets.iter().map(|c| (role(&c.name), c));
                for (role, column) in columns.chain(others) {
                    let _ = writeln!(text, "  {role:<6} {:<24} {column}", column.name);
                }
            }
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

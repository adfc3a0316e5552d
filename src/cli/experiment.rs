//! `wgrad train --config FILE` of a whole experiment: data, model, loss, optimizer.

use std::path::{Path, PathBuf};

use indicatif::ProgressStyle;
use wgrad::data::{Arrays, Table};
use wgrad::exec::Device;
use wgrad::files::write_whole;
use wgrad::fit::{
    Answers, Checkpoints, Epoch, Experiment, Outcome, Prepared, Reading, Told, Trained, bare_name,
    is_of_one_class,
};
use wgrad::model::Registry;
use wgrad::report::training::{Page, training_html};
use wgrad::{Error, Result};

use super::session::RunFolder;
use super::{all_told, bar, interrupt, percent, print, say};

/// The trained model's file in a run's folder.
const MODEL: &str = "model.safetensors";

/// Most epochs that are told of; more are told of by parts.
const LINES: usize = 40;

/// Trains and writes report and models to a folder.
pub fn run(
    experiment: &Experiment,
    data: Option<&Path>,
    (out, resume): (Option<&Path>, bool),
    device: &Device,
) -> Result<()> {
    let prepared = experiment.prepare(data, &Registry::standard())?;
    let held = RunFolder::take(out, &prepared.name)?;
    let folder = &held.path;
    let checkpoints = held.checkpoints();
    let model = folder.join(MODEL);
    if resume && model.exists() && !Checkpoints::at(&checkpoints).are_there() {
        let found = "a finished run without a checkpoint";
        let fix = "Begin anew without --resume, or in another folder (--out).";
        return Err(Error::file(&model, found, "one to go on from", fix));
    }
    interrupt::watch();
    let mut told = print(&format!(
        "{} on {}, output in {}\n{}{}",
        prepared.name,
        device.info().name,
        folder.display(),
        prepared.schema_text(),
        prepared.model.summary(),
    ));
    let outcome = watch(
        &prepared,
        experiment.training.epochs,
        (&held, resume),
        device,
    )?;
    write(&prepared, &outcome, folder)?;
    let report = &outcome.report;
    let test = prepared.report(report)?;
    let numbers = test["test"].as_object().into_iter().flatten();
    // Of a confusion matrix, the cells are for the report.
    let numbers = numbers.filter(|(name, _)| !is_of_one_class(name));
    let numbers: Vec<String> = numbers
        .map(|(name, value)| format!("{name} {:.4}", value.as_f64().unwrap_or(f64::NAN)))
        .collect();
    told = told.and(print(&format!(
        "test: {} (weights of epoch {} of {})\nwrote report.html, report.json and model.safetensors to {}\n",
        numbers.join(", "),
        report.chosen_text(),
        report.epochs.len(),
        folder.display(),
    )));
    told
}

/// Trains with a bar on the terminal and a line for each epoch.
fn watch(
    prepared: &Prepared,
    epochs: usize,
    (held, resume): (&RunFolder, bool),
    device: &Device,
) -> Result<Outcome> {
    let style = ProgressStyle::with_template("{wide_bar} {percent:>3}%  left {eta}  {msg}");
    // A template that does not parse leaves the default style.
    let bar = bar(0, style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    let every = epochs.div_ceil(LINES).max(1);
    let mut first = resume;
    let checkpoints = held.checkpoints();
    let outcome = prepared.run_kept(device, (&checkpoints, resume), |told| {
        let epoch = match told {
            Told::Steps(steps) => steps.epoch,
            Told::Epoch(epoch) => epoch.epoch,
        };
        if std::mem::take(&mut first) && epoch > 1 {
            bar.suspend(|| say(&format!("resumed after epoch {}\n", epoch - 1)));
        }
        // The checkpoint of this epoch comes after its callbacks.
        if interrupt::asked() {
            bar.finish_and_clear();
            interrupt::stop(&interrupt::of_training(epoch, &held.path));
        }
        match told {
            Told::Steps(steps) => {
                bar.set_length(steps.total);
                bar.set_position(steps.done);
                bar.set_message(format!("epoch {epoch} of {epochs}"));
            }
            Told::Epoch(of) if epoch == 1 || epoch % every == 0 || epoch == epochs => {
                bar.suspend(|| say(&line(of, epochs)));
            }
            Told::Epoch(_) => {}
        }
    });
    bar.finish_and_clear();
    outcome
}

/// Prints what a model says of files: of each row of some tables or arrays, as CSV; of each picture, a line.
pub fn predict(model: &Path, files: &[PathBuf], device: &Device) -> Result<()> {
    let trained = Trained::load(model, &Registry::standard())?;
    if let Reading::Pictures(_) = &trained.reading {
        let (mut text, mut refused) = (String::new(), Vec::new());
        let answers = trained.answer_pictures(files, device)?;
        for (path, answer) in files.iter().zip(answers) {
            match answer {
                Ok((class, sure)) => {
                    text += &format!("{}: {class} ({})\n", path.display(), percent(sure));
                }
                Err(e) => refused.push(e),
            }
        }
        print(&text)?;
        return all_told(refused);
    }
    if let Reading::Text(_) = &trained.reading {
        let wanted = "`--after TEXT`, which such a model goes on with";
        return Err(Error::setting("model", "a model of a text", wanted));
    }
    for path in files {
        let answers = match &trained.reading {
            Reading::Arrays(_) => trained.answer_arrays(&Arrays::read(path)?, device)?,
            _ => trained.answer(&Table::csv(path)?, device)?,
        };
        let mut text = String::new();
        match answers {
            Answers::Classes(rows) => {
                text += "row,class,probability\n";
                for (row, (class, probability)) in rows.iter().enumerate() {
                    text += &format!("{},{},{probability:.4}\n", row + 1, cell(class));
                }
            }
            Answers::Numbers { names, rows } => {
                let names: Vec<String> = names.iter().map(|name| cell(name)).collect();
                text += &format!("row,{}\n", names.join(","));
                for (row, numbers) in rows.iter().enumerate() {
                    let numbers: Vec<String> = numbers.iter().map(|x| format!("{x}")).collect();
                    text += &format!("{},{}\n", row + 1, numbers.join(","));
                }
            }
        }
        print(&text)?;
    }
    Ok(())
}

/// Prints what a model scores on the validation and test rows of its experiment.
pub fn eval(model: &Path, config: &Path, data: Option<&str>, device: &Device) -> Result<()> {
    let experiment = Experiment::load(config)?;
    let trained = Trained::load(model, &Registry::standard())?;
    let prepared = experiment.prepare(data.map(Path::new), &Registry::standard());
    let prepared = prepared.map_err(of_evaluation)?;
    let mut text = format!("{} on {}\n", prepared.name, device.info().name);
    for (set, scores) in trained.evaluate(&prepared, device)? {
        let rows = match set {
            "test" => prepared.test.rows(),
            _ => prepared.validation.rows(),
        };
        let mut numbers = vec![format!("loss {:.4}", scores.loss)];
        let metrics = scores
            .metrics
            .iter()
            .filter(|(name, _)| !is_of_one_class(name));
        numbers.extend(metrics.map(|(name, value)| format!("{name} {value:.4}")));
        text += &format!("{set}, {rows} rows: {}\n", numbers.join(", "));
    }
    print(&text)
}

/// Nothing is trained on where a model is evaluated: what an experiment calls its training data are data that
/// are evaluated.
fn of_evaluation(error: Error) -> Error {
    let named = |name: String| match name.strip_prefix("training data") {
        Some(rest) => format!("evaluated data{rest}"),
        None => name,
    };
    match error {
        Error::Setting {
            name,
            found,
            wanted,
        } => Error::setting(named(name), found, wanted),
        Error::Shape {
            place,
            found,
            wanted,
        } => Error::shape(named(place), found, wanted),
        other => other,
    }
}

/// A cell of a CSV file, between quotes where it must be.
fn cell(text: &str) -> String {
    match text.contains([',', '"', '\n', '\r']) {
        true => format!("\"{}\"", text.replace('"', "\"\"")),
        false => text.into(),
    }
}

/// `epoch 3 of 50: training loss 0.4213, validation loss 0.4377, validation accuracy 0.8600`.
fn line(epoch: &Epoch, of: usize) -> String {
    let names = epoch.names().into_iter();
    // Numbers of single classes would fill the screen.
    let names = names.filter(|name| !is_of_one_class(bare_name(name)));
    let numbers = names.map(|name| {
        let value = epoch.get(&name).unwrap_or(f64::NAN);
        format!("{name} {value:.4}")
    });
    let skipped: u64 = epoch.skipped_steps.iter().sum();
    let skipped = (skipped > 0).then(|| format!("steps skipped so far {skipped}"));
    let numbers = numbers.chain(skipped).collect::<Vec<_>>().join(", ");
    format!("epoch {} of {of}: {numbers}\n", epoch.epoch)
}

fn write(prepared: &Prepared, outcome: &Outcome, folder: &Path) -> Result<()> {
    let fail = |e: serde_json::Error| Error::setting("report", e, "numbers that JSON has");
    for (replica, weights) in outcome.weights.iter().enumerate() {
        let name: String = match replica {
            0 => "model.safetensors".into(),
            replica => format!("model-{replica}.safetensors"),
        };
        let trained = prepared.trained(weights.clone());
        trained.save(folder.join(name))?;
    }
    // Of an earlier run with more replicas.
    for replica in outcome.weights.len().max(1).. {
        let stale = folder.join(format!("model-{replica}.safetensors"));
        if !stale.exists() {
            break;
        }
        let removed = std::fs::remove_file(&stale);
        removed
            .map_err(|e| Error::io("remove", &stale, e, "Remove it, or name another folder."))?;
    }
    let report = prepared.report(&outcome.report)?;
    let mut text = serde_json::to_vec_pretty(&report).map_err(fail)?;
    text.push(b'\n');
    let rows = [&prepared.training, &prepared.validation, &prepared.test].map(|data| data.rows());
    let page = training_html(&Page {
        name: &prepared.name,
        report: &outcome.report,
        model: &prepared.model,
        rows,
        classes: prepared.reading.classes().unwrap_or_default(),
    })?;
    write_whole(&folder.join("report.html"), page.as_bytes())?;
    write_whole(&folder.join("report.json"), &text)
}

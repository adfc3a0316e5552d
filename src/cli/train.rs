//! `wgrad train`.

use std::path::{Path, PathBuf};
use std::time::Instant;

use indicatif::ProgressStyle;
use wgrad::book::train::{Epoch, Event, Outcome, Trainer, plurality};
use wgrad::data::Images;
use wgrad::files::write_whole;
use wgrad::report::curves::curves_svg;
use wgrad::report::misses::{Miss, misses_html};
use wgrad::report::{Counts, EpochReport, Report};
use wgrad::{Error, Result};

use super::session::{RunFolder, Session, SessionArgs, counts, warnings};
use super::{bar, interrupt, percent, print, say};

/// Flags of `wgrad train`.
#[derive(clap::Args, Default)]
pub struct Args {
    #[command(flatten)]
    session: SessionArgs,
    /// Where to write; files of an earlier run there are replaced [default: runs/<net>]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Go on from the last checkpoint of this very run in --out
    #[arg(long, requires = "out")]
    resume: bool,
    #[command(flatten)]
    variants: super::Variants,
}

/// The trained model's file.
const MODEL: &str = "model.safetensors";
/// Checkpoints kept in a run's folder.
const CHECKPOINTS: usize = 2;

/// Trains and writes what came of it.
pub fn run(args: Args) -> Result<()> {
    let start = Instant::now();
    if let Some(named) = args.session.experiment()? {
        let device = args.variants.open(named.device)?;
        let out = (args.out.as_deref(), args.resume);
        return super::experiment::run(&named.experiment, named.data.as_deref(), out, &device);
    }
    let session = args.session.resolve()?;
    let device = args.variants.open(session.device)?;
    let info = device.info();
    let plan = Trainer::plan(&session.network, &session.data, &session.settings, info)?;
    let launches = plan.account().programs["train"].launches as u64;
    let held = RunFolder::take(args.out.as_deref(), &session.net)?;
    let folder = &held.path;
    interrupt::watch();
    // Output that cannot be written is an error in the end, and no end of the work.
    let mut told = print(&format!(
        "{} on {}: {}\ndevice: {}\n{} launches per step, seed {}, output in {}\n",
        session.net,
        session.data.train.name,
        counts(&session.data),
        info.name,
        launches,
        session.settings.seed,
        folder.display(),
    ));
    say(&warnings(&session.data, session.held_back_last));
    let mut trainer = Trainer::new(&session.network, &session.data, &session.settings, &device)?;
    trainer.keep_checkpoints(&held.checkpoints(), CHECKPOINTS)?;
    if args.resume {
        told = told.and(resume(&mut trainer, folder)?);
    } else {
        // Else a later --resume could take an earlier run's for this one's.
        trainer.clear_checkpoints()?;
    }
    let outcome = watch(&mut trainer, session.settings.epochs, folder)?;
    let model = trainer.model()?;
    model.save(&folder.join(MODEL))?;
    let report = report(
        &session,
        &trainer,
        launches,
        &outcome,
        model.sha256(),
        start,
    )?;
    report.write_json(&folder.join("report.json"))?;
    let svg = curves_svg(&report)?;
    write_whole(&folder.join("curves.svg"), svg.as_bytes())?;
    let predictions = plurality(&outcome.test.predictions);
    let misread = misread(folder, &report, &session.data.test, &predictions)?;
    let mut text = format!("test accuracy on {}:", session.data.test.name);
    for accuracy in &outcome.test.accuracy {
        text += &format!(" {}", percent(*accuracy));
    }
    if let Some(vote) = report.ensemble_accuracy {
        text += &format!("; the {} together {vote:.2} %", report.replicas);
    }
    text += &format!(
        " ({misread} of {} misread)\n{:.1} s in all, {:.0} steps/s; wrote report.json, \
         model.safetensors, curves.svg and misread.html to {}\n",
        session.data.test.len(),
        report.wall_seconds,
        report.steps_per_second,
        folder.display()
    );
    told.and(print(&text))
}

/// Goes on where an earlier run in the folder was; never begins anew where that would replace
/// something. The inner result is whether it could be told.
fn resume(trainer: &mut Trainer, folder: &Path) -> Result<Result<()>> {
    let anew = "--resume goes on with the very same settings; begin anew without it, or in another \
                folder (--out)";
    let done = trainer.resume().map_err(|e| match e {
        Error::File {
            path,
            found,
            wanted,
            ..
        } => Error::file(&path, found, wanted, anew),
        other => other,
    })?;
    let model = folder.join(MODEL);
    if done == 0 && model.exists() {
        let found = "a finished run without a checkpoint";
        return Err(Error::file(&model, found, "one to go on from", anew));
    }
    Ok(print(&match done {
        0 => "no checkpoint of this run: starting at the beginning\n".into(),
        n => format!("resumed after epoch {n}\n"),
    }))
}

/// Runs with a bar on the terminal and a line for each epoch.
fn watch(trainer: &mut Trainer, epochs: usize, folder: &Path) -> Result<Outcome> {
    let style = "{wide_bar} {percent:>3}%  {per_sec}  left {eta}  {msg}";
    // A template that does not parse leaves the default style.
    let style =
        ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar());
    let steps = |state: &indicatif::ProgressState, w: &mut dyn std::fmt::Write| {
        let _ = write!(w, "{:.0} steps/s", state.per_sec());
    };
    let steps_in_all = (trainer.steps_per_epoch() * epochs) as u64;
    let bar = bar(steps_in_all, style.with_key("per_sec", steps));
    let outcome = trainer.run(&mut |event| match event {
        Event::Steps { epoch, .. } if interrupt::asked() => {
            // Checkpoints are written after an epoch, before its successor's first steps.
            bar.finish_and_clear();
            interrupt::stop(&interrupt::of_training(*epoch, folder));
        }
        Event::Steps { done, .. } => bar.set_position(*done),
        Event::Epoch(epoch) => {
            bar.set_message(format!(
                "cost {:.4}, validation {}",
                mean(&epoch.training_cost),
                percent(mean(&epoch.validation_accuracy))
            ));
            // A closed pipe must not end the training.
            bar.suspend(|| print(&line(epoch, epochs)).ok());
        }
    });
    bar.finish_and_clear();
    outcome
}

fn line(epoch: &Epoch, of: usize) -> String {
    let mean_of = if epoch.training_cost.len() > 1 {
        " (means)"
    } else {
        ""
    };
    format!(
        "epoch {:>2}/{of}: cost {:.4}, validation {}, test {}{mean_of}, {:.1} s\n",
        epoch.epoch,
        mean(&epoch.training_cost),
        percent(mean(&epoch.validation_accuracy)),
        percent(mean(&epoch.test_accuracy)),
        epoch.seconds
    )
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

fn report(
    session: &Session,
    trainer: &Trainer,
    launches_per_step: u64,
    outcome: &Outcome,
    weights_sha256: Vec<String>,
    start: Instant,
) -> Result<Report> {
    let percents = |shares: &[f64]| shares.iter().map(|s| 100.0 * s).collect::<Vec<_>>();
    let settings = &session.settings;
    let vote = (settings.replicas > 1)
        .then(|| 100.0 * outcome.test.ensemble_accuracy(&session.data.test.labels));
    let data = &session.data;
    let unwritable = |e: serde_json::Error| Error::setting("report", e, "finite numbers");
    let origins = trainer.origins().iter();
    Ok(Report {
        version: env!("CARGO_PKG_VERSION").into(),
        device: trainer.device().name.clone(),
        origins: origins
            .map(|o| format!("{} on {}", o.version, o.device))
            .collect(),
        command: command_line(std::env::args_os().skip(1)),
        net: session.net.clone(),
        network: serde_json::to_value(&session.network).map_err(unwritable)?,
        settings: serde_json::to_value(settings).map_err(unwritable)?,
        images: Counts {
            training: data.train.len(),
            validation: data.validation.len(),
            test: data.test.len(),
        },
        data: session.data.train.name.clone(),
        synthetic: session.data.synthetic,
        seed: settings.seed,
        replicas: settings.replicas,
        batch: settings.batch,
        learning_rate: settings.learning_rates[0],
        epochs: outcome
            .epochs
            .iter()
            .map(|e| EpochReport {
                epoch: e.epoch,
                training_cost: e.training_cost.clone(),
                validation_accuracy: percents(&e.validation_accuracy),
                test_accuracy: percents(&e.test_accuracy),
                seconds: e.seconds,
            })
            .collect(),
        test_accuracy: percents(&outcome.test.accuracy),
        ensemble_accuracy: vote,
        steps_per_second: outcome.steps_per_second,
        wall_seconds: start.elapsed().as_secs_f64(),
        weights_sha256,
        launches_per_step,
    })
}

/// The command line that repeats the run, quoted for a shell.
fn command_line(args: impl Iterator<Item = std::ffi::OsString>) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,+".contains(c);
    let quoted = |arg: std::ffi::OsString| {
        let arg = arg.to_string_lossy().into_owned();
        match !arg.is_empty() && arg.chars().all(plain) {
            true => format!(" {arg}"),
            false => format!(" '{}'", arg.replace('\'', "'\\''")),
        }
    };
    args.map(quoted)
        .fold("wgrad".into(), |line, arg| line + &arg)
}

/// Writes the page of misread digits; returns how many there are.
fn misread(folder: &Path, report: &Report, test: &Images, predictions: &[u32]) -> Result<usize> {
    let misses: Vec<Miss> = predictions
        .iter()
        .zip(&test.labels)
        .enumerate()
        .filter(|(_, (p, l))| **p != u32::from(**l))
        .map(|(index, (&prediction, &label))| Miss {
            index,
            pixels: test.image(index),
            label,
            prediction: prediction as u8,
            probability: None,
        })
        .collect();
    let title = format!("{} on {}: misread digits", report.net, report.data_title());
    let page = misses_html(&title, test.len(), test.height, test.width, &misses)?;
    write_whole(&folder.join("misread.html"), page.as_bytes())?;
    Ok(misses.len())
}

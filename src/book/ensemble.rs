//! Chapter 6's ensemble: networks that vote, resumable, with a certificate beside them.

use super::Experiment;
use super::certificate::{self, Certificate};
use super::options::{Options, Progress, Tell};
use super::pictures;
use super::rows::{SLACK, describe, epochs, mean, plot, series};
use super::survivors::went_on;
use crate::book::train::{Settings, Trainer, plurality};
use crate::error::{Error, Result};
use crate::files::create_folder;
use crate::report::record::{Record, Row};

/// Checkpoints kept.
const CHECKPOINTS: usize = 2;

pub(super) fn run(
    experiment: &Experiment,
    options: &Options<'_>,
    tell: Tell<'_>,
    record: &mut Record,
) -> Result<()> {
    let wanted = "a network and a vote described";
    let (run, vote) = (experiment.runs.first().zip(experiment.vote.as_ref()))
        .ok_or_else(|| Error::setting(&experiment.id, "nothing to vote", wanted))?;
    let data = options.data(run.images)?;
    describe(record, &data);
    create_folder(options.folder)?;
    let epochs = epochs(experiment, run, options);
    let network = run.network([1, data.train.height, data.train.width])?;
    let (mut together, mut errors, mut alone) = (vec![], vec![], vec![]);
    for (k, seed) in record.seeds.clone().into_iter().enumerate() {
        // Ensembles share no network: ensemble s has replicas n·s to n·s + n − 1.
        let settings = Settings {
            replicas: vote.networks,
            first_replica: seed as usize * vote.networks,
            ..options.seeded(experiment, run.settings(epochs), &data)
        };
        let mut trainer = Trainer::new(&network, &data, &settings, options.device)?;
        trainer.keep_checkpoints_among(&options.folder.join("checkpoints"), CHECKPOINTS)?;
        let done = trainer.resume()?;
        let note = went_on(&format!("Seed {seed}"), done, trainer.origins());
        record.notes.extend(note);
        let outcome = trainer.run(&mut |event| {
            tell(&Progress {
                run: &run.name,
                event,
            });
        })?;
        let model = trainer.model()?;
        let file = match k {
            0 => "model.safetensors".to_owned(),
            _ => format!("model-{seed}.safetensors"),
        };
        model.save(&options.folder.join(&file))?;
        let certificate = Certificate::of(&certificate::Run {
            experiment: &experiment.id,
            model: &model,
            model_file: &file,
            settings: &Settings {
                epochs: outcome.epochs.len(),
                ..settings.clone()
            },
            test: &data.test,
            synthetic: data.synthetic,
            evaluation: &outcome.test,
            seconds: outcome.epochs.iter().map(|e| e.seconds).sum(),
            origins: trainer.origins(),
        })?;
        let name = match k {
            0 => "certificate.json".to_owned(),
            _ => format!("certificate-{seed}.json"),
        };
        certificate.write(&options.folder.join(name))?;
        let answers = plurality(&outcome.test.predictions);
        let misread = pictures::misread(&data.test, &answers);
        together.push(100.0 * outcome.test.ensemble_accuracy(&data.test.labels));
        errors.push(misread.len() as f64);
        alone.extend(outcome.test.accuracy.iter().map(|a| 100.0 * a));
        record.epochs = Some(outcome.epochs.len());
        if k == 0 {
            let mut curves = plot("Test accuracy of each network", "accuracy in %");
            for r in 0..vote.networks {
                let name = format!("network {}", r + 1);
                let of = |e: &crate::book::train::Epoch| 100.0 * e.test_accuracy[r];
                curves.series.push(series(name, &outcome.epochs, of));
            }
            record.plots.push(curves);
            record
                .pictures
                .push(pictures::errors_page(&data.test, &answers, &misread));
            record.pictures.extend(pictures::filters(&model));
        }
    }
    let gain = mean(&together) - mean(&alone);
    record.notes.push(format!(
        "The vote gains {gain:.2} points over the mean of its networks."
    ));
    let row = |what: &str, unit: &str, book: Option<f64>, ours: Vec<f64>, slack: f64| Row {
        what: what.into(),
        unit: unit.into(),
        book,
        ours,
        slack,
        ..Row::default()
    };
    record.rows = vec![
        row(
            "test accuracy of the vote",
            "%",
            vote.accuracy,
            together,
            SLACK,
        ),
        row(
            "test digits misread by the vote",
            "",
            vote.errors,
            errors,
            30.0,
        ),
        Row {
            each: "network".into(),
            ..row("test accuracy of each network", "%", None, alone, SLACK)
        },
    ];
    Ok(())
}

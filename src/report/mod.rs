//! What a finished run leaves behind: its numbers as JSON, its learning curves as SVG and
//! the digits it misread as a page; and of the book's experiments, plots, pictures and pages.

mod axes;
mod bitmap;
pub mod book;
pub mod curves;
mod html;
pub mod misses;
pub mod plot;
pub mod record;
mod style;
pub mod training;

use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::{Error, Result};
use crate::files::write_whole;
use crate::json::{nullable, nullable_one, nullable_points};

/// A finished run in numbers. In JSON, a value that is not finite is `null`, and `null`
/// reads as not a number.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The version of wgrad that ran.
    pub version: String,
    /// The device it ran on, as people call it.
    pub device: String,
    /// What trained the epochs of a run that was resumed: version and device of each part, in
    /// order, the last ones last.
    #[serde(default)]
    pub origins: Vec<String>,
    /// The command line that ran it.
    #[serde(default)]
    pub command: String,
    /// The network's name.
    pub net: String,
    /// The network's description, as it stands in model files.
    #[serde(default)]
    pub network: Value,
    /// Every setting of the training by name.
    #[serde(default)]
    pub settings: Value,
    /// How many images there were.
    #[serde(default)]
    pub images: Counts,
    /// The data set's name.
    pub data: String,
    /// Whether the data set was generated and shows no real handwriting.
    pub synthetic: bool,
    /// The seed of all random numbers.
    pub seed: u64,
    /// How many copies of the network were trained.
    pub replicas: usize,
    /// Images per mini-batch.
    pub batch: usize,
    /// The learning rate at the start.
    #[serde(with = "nullable_one")]
    pub learning_rate: f64,
    /// One entry per epoch, in order.
    pub epochs: Vec<EpochReport>,
    /// Test accuracy at the end in percent, one per replica.
    #[serde(with = "nullable")]
    pub test_accuracy: Vec<f64>,
    /// Test accuracy of the replicas' vote in percent, where there are several.
    pub ensemble_accuracy: Option<f64>,
    /// Training steps per second; a step of all replicas together counts once.
    #[serde(with = "nullable_one")]
    pub steps_per_second: f64,
    /// Seconds from start to end, all told.
    #[serde(with = "nullable_one")]
    pub wall_seconds: f64,
    /// The SHA-256 of each replica's weights, see [`crate::model_file::weights_sha256`].
    pub weights_sha256: Vec<String>,
    /// Kernel launches in one training step.
    pub launches_per_step: u64,
}

/// Numbers of images.
#[derive(Debug, Default, Clone, PartialEq, Serialize, Deserialize)]
pub struct Counts {
    /// To learn from, before any expansion.
    pub training: usize,
    /// To choose by.
    pub validation: usize,
    /// To be judged by.
    pub test: usize,
}

/// One epoch of a [`Report`]. Each list has one value per replica, or none if it was not
/// measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EpochReport {
    /// The epoch's number, counted from 1.
    pub epoch: usize,
    /// Mean training cost per image.
    #[serde(with = "nullable")]
    pub training_cost: Vec<f64>,
    /// Accuracy on the validation images in percent.
    #[serde(with = "nullable")]
    pub validation_accuracy: Vec<f64>,
    /// Accuracy on the test images in percent.
    #[serde(with = "nullable")]
    pub test_accuracy: Vec<f64>,
    /// Seconds the epoch took.
    #[serde(with = "nullable_one")]
    pub seconds: f64,
}

impl Report {
    /// Writes the report as indented JSON, whole or not at all.
    ///
    /// # Errors
    /// Those of [`write_whole`].
    pub fn write_json(&self, path: &Path) -> Result<()> {
        let mut text = serde_json::to_string_pretty(self)
            .map_err(|e| Error::setting("report", e, "values that JSON can hold"))?;
        text.push('\n');
        write_whole(path, text.as_bytes())
    }

    /// The data set's name, with the word "synthetic" if it is.
    pub fn data_title(&self) -> String {
        if self.synthetic && !self.data.to_lowercase().contains("synthetic") {
            format!("{} (synthetic)", self.data)
        } else {
            self.data.clone()
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A plausible run of `epochs` epochs with `replicas` replicas.
    pub(crate) fn run(epochs: usize, replicas: usize) -> Report {
        let wobble = |e: usize, r: usize| ((e * 37 + r * 101) % 17) as f64 / 17.0 - 0.5;
        let list = |f: &dyn Fn(usize) -> f64| (0..replicas).map(f).collect::<Vec<_>>();
        Report {
            version: "0.1.0".into(),
            device: "cpu, 2 threads".into(),
            origins: vec!["0.1.0 on cpu, 2 threads".into()],
            command: "wgrad train".into(),
            net: "conv-relu".into(),
            network: serde_json::json!({ "input": [1, 28, 28] }),
            settings: serde_json::json!({ "momentum": 0.5 }),
            images: Counts {
                training: 50,
                validation: 10,
                test: 20,
            },
            data: "digits".into(),
            synthetic: true,
            seed: 7,
            replicas,
            batch: 10,
            learning_rate: 0.03,
            epochs: (1..=epochs)
                .map(|e| {
                    let left = 1.0 / (e as f64).powf(0.9);
                    EpochReport {
                        epoch: e,
                        training_cost: list(&|r| 0.42 * left * (1.0 + 0.2 * wobble(e, r))),
                        validation_accuracy: list(&|r| 98.6 - 4.0 * left + 0.5 * wobble(e, r)),
                        test_accuracy: list(&|r| 98.2 - 4.6 * left + 0.5 * wobble(e, r + 5)),
                        seconds: 11.5,
                    }
                })
                .collect(),
            test_accuracy: list(&|r| 98.1 + 0.3 * wobble(1, r)),
            ensemble_accuracy: (replicas > 1).then_some(98.9),
            steps_per_second: 431.7,
            wall_seconds: 71.25,
            weights_sha256: vec!["ab".repeat(32); replicas],
            launches_per_step: 21,
        }
    }

    #[test]
    fn a_report_survives_the_disk() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("report.json");
        let report = run(3, 2);
        report.write_json(&path).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(serde_json::from_str::<Report>(&text).unwrap(), report);
        let json: serde_json::Value = serde_json::from_str(&text).unwrap();
        for key in [
            "command",
            "network",
            "settings",
            "images",
            "device",
            "net",
            "seed",
            "epochs",
            "test_accuracy",
            "ensemble_accuracy",
            "steps_per_second",
            "wall_seconds",
            "weights_sha256",
            "launches_per_step",
        ] {
            assert!(json.get(key).is_some(), "{key}");
        }
        let nowhere = report.write_json(&dir.path().join("no/report.json"));
        assert!(matches!(nowhere, Err(Error::Io { .. })));
    }

    /// A report of an earlier version lacks what was added since.
    #[test]
    fn an_earlier_report_is_read() {
        let mut json = serde_json::to_value(run(1, 1)).unwrap();
        for added in ["origins", "command", "network", "settings", "images"] {
            json.as_object_mut().unwrap().remove(added).unwrap();
        }
        let report: Report = serde_json::from_value(json).unwrap();
        assert_eq!(
            (report.command, report.images),
            (String::new(), Counts::default())
        );
    }

    #[test]
    fn values_that_are_not_finite_become_null() {
        let mut report = run(1, 3);
        report.epochs[0].training_cost[1] = f64::INFINITY;
        report.test_accuracy[0] = f64::NAN;
        report.steps_per_second = f64::INFINITY;
        let text = serde_json::to_string(&report).unwrap();
        let back: Report = serde_json::from_str(&text).unwrap();
        assert!(back.epochs[0].training_cost[1].is_nan());
        assert!(back.test_accuracy[0].is_nan() && back.steps_per_second.is_nan());
        assert_eq!(back.test_accuracy[1..], report.test_accuracy[1..]);
    }

    #[test]
    fn synthetic_data_is_called_so_once() {
        let mut report = run(1, 1);
        assert_eq!(report.data_title(), "digits (synthetic)");
        report.data = "Synthetic digits".into();
        assert_eq!(report.data_title(), "Synthetic digits");
        (report.data, report.synthetic) = ("MNIST".into(), false);
        assert_eq!(report.data_title(), "MNIST");
    }
}

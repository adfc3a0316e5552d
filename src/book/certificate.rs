//! What an ensemble's run claims, in one file that anybody can check.
//!
//! A certificate lies beside the saved networks and says what they are (hashes of the
//! weights), what they were tested on (hashes of images and labels), how many images each
//! network and their vote misread, and which. [`verify`] trains nothing: it loads the
//! networks, hashes and evaluates them again and holds every claim against what it finds.
//!
//! Claims about the past (when, how long, on which device) leave no trace in the weights;
//! they are reported as stated, neither confirmed nor refused. Evaluation on another device
//! may round differently, but an answer changes only where two classes lie within rounding
//! of each other; if that ever happens, the claim about the vote names the image.

mod verify;

pub use verify::{Claim, confirmed, verify};

use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::book::nn::Network;
use crate::book::train::{Evaluation, Model, Origin, Settings, plurality};
use crate::data::Images;
use crate::error::{Error, Result};
use crate::files::{hex, read_limited, write_whole};

/// What a file must call itself; the number changes when the form does.
const FORM: &str = "wgrad certificate 1";
/// How the networks vote, see [`plurality`].
const VOTE_RULE: &str = "plurality: the class that most networks answer; of classes with equally \
    many votes, the lowest";
/// Longest certificate that is read: a list of a million images is shorter.
const MAX_BYTES: u64 = 16 << 20;
/// Most networks of an ensemble, as in [`Settings::check`].
const MAX_MEMBERS: usize = 4096;
/// Most images that a message lists.
const MOST_LISTED: usize = 12;

const FIX: &str = "Make the certificate again with the run, or name another file.";

/// The certificate of an ensemble.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Certificate {
    /// The file's form and its version.
    pub form: String,
    /// The version of wgrad that ran; where a run was gone on with by another, each in order.
    pub version: String,
    /// The experiment's id.
    pub experiment: String,
    /// When it was made, in UTC.
    pub date: String,
    /// The description that all members share.
    pub network: Network,
    /// The name of the file with the weights; it lies in the certificate's folder.
    pub model: String,
    /// The networks, in the model's order.
    pub members: Vec<Member>,
    /// Their vote.
    pub vote: Vote,
    /// What they were tested on.
    pub data: TestData,
    /// Epochs that were trained.
    pub epochs: usize,
    /// All that the training was told.
    pub settings: Value,
    /// Seconds of all epochs, evaluation included, those before a resume too.
    pub seconds: f64,
    /// Adapter, backend and driver that trained, or the CPU; where a run was gone on with
    /// elsewhere, each in order.
    pub device: String,
}

/// One network of the ensemble.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Member {
    /// The seed of its random numbers.
    pub seed: u64,
    /// Its replica number; with the seed it decides everything random.
    pub replica: usize,
    /// SHA-256 of its weights, see [`crate::model_file::weights_sha256`].
    pub weights_sha256: String,
    /// Share of test images that it reads correctly, from 0 to 1.
    pub accuracy: f64,
    /// How many it misreads.
    pub misread: usize,
}

/// What the networks answer together.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Vote {
    /// How votes are counted, and what breaks a tie.
    pub rule: String,
    /// Share of test images read correctly, from 0 to 1.
    pub accuracy: f64,
    /// The indices of the misread test images, ascending.
    pub misread: Vec<usize>,
}

/// The test set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TestData {
    /// What people call it.
    pub name: String,
    /// Whether a program drew it.
    pub synthetic: bool,
    /// How many images there are.
    pub images: usize,
    /// Rows of an image.
    pub height: usize,
    /// Columns of an image.
    pub width: usize,
    /// SHA-256 of the pixels `[N, H, W]`, a byte each.
    pub images_sha256: String,
    /// SHA-256 of the labels `[N]`, a byte each.
    pub labels_sha256: String,
}

/// A finished run of an ensemble, to be certified.
#[derive(Clone, Copy, Debug)]
pub struct Run<'a> {
    /// The experiment's id.
    pub experiment: &'a str,
    /// The trained networks.
    pub model: &'a Model,
    /// The name of the file that holds them, in the folder where the certificate will lie.
    pub model_file: &'a str,
    /// What the training was told.
    pub settings: &'a Settings,
    /// The test set.
    pub test: &'a Images,
    /// Whether a program drew it.
    pub synthetic: bool,
    /// What the networks answer on it.
    pub evaluation: &'a Evaluation,
    /// Seconds of all epochs.
    pub seconds: f64,
    /// What trained them, see [`Trainer::origins`](crate::book::train::Trainer::origins).
    pub origins: &'a [Origin],
}

impl Certificate {
    /// The certificate of a run.
    ///
    /// # Errors
    /// [`Error::Setting`] if the parts do not belong together: another number of networks,
    /// replicas or answers, a time that is not finite, a model file outside the folder.
    pub fn of(run: &Run) -> Result<Self> {
        let (networks, images) = (run.model.replicas.len(), run.test.len());
        let answers = &run.evaluation.predictions;
        let fits = run.settings.replicas == networks
            && answers.len() == networks
            && answers.iter().all(|a| a.len() == images);
        if !fits {
            return Err(Error::setting(
                "certificate",
                format!(
                    "{networks} networks, {} replicas, answers of {}",
                    run.settings.replicas,
                    answers.len()
                ),
                format!("as many of each, and {images} answers of each network"),
            ));
        }
        let misread: Vec<usize> = answers.iter().map(|a| misread(a, run.test).len()).collect();
        let together = wrong_by_vote(answers, run.test);
        let members = run.model.sha256().into_iter().zip(misread).enumerate();
        let settings = serde_json::to_value(run.settings)
            .map_err(|e| Error::setting("settings", e, "finite numbers"))?;
        let certificate = Self {
            form: FORM.into(),
            version: in_order(run.origins.iter().map(|o| &o.version)),
            experiment: run.experiment.into(),
            date: now(),
            network: run.model.network.clone(),
            model: run.model_file.into(),
            members: members
                .map(|(k, (weights_sha256, misread))| Member {
                    seed: run.settings.seed,
                    replica: run.settings.first_replica + k,
                    weights_sha256,
                    accuracy: share_read(misread, images),
                    misread,
                })
                .collect(),
            vote: Vote {
                rule: VOTE_RULE.into(),
                accuracy: share_read(together.len(), images),
                misread: together,
            },
            data: TestData {
                name: run.test.name.clone(),
                synthetic: run.synthetic,
                images,
                height: run.test.height,
                width: run.test.width,
                images_sha256: sha256(&run.test.pixels),
                labels_sha256: sha256(&run.test.labels),
            },
            epochs: run.settings.epochs,
            settings,
            seconds: run.seconds,
            device: in_order(run.origins.iter().map(|o| &o.device)),
        };
        certificate
            .check()
            .map_err(|(found, wanted)| Error::setting("certificate", found, wanted))?;
        Ok(certificate)
    }

    /// Writes it as indented JSON, whole or not at all.
    ///
    /// # Errors
    /// Those of [`write_whole`].
    pub fn write(&self, path: &Path) -> Result<()> {
        let mut text = serde_json::to_string_pretty(self)
            .map_err(|e| Error::setting("certificate", e, "values that JSON can hold"))?;
        text.push('\n');
        write_whole(path, text.as_bytes())
    }

    /// Reads what [`Certificate::write`] wrote, of at most 16 MiB.
    ///
    /// # Errors
    /// [`Error::Io`] if there is no file, [`Error::File`] if it is torn, something else, or
    /// says what cannot be.
    pub fn read(path: &Path) -> Result<Self> {
        let bytes = read_limited(path, MAX_BYTES)?;
        let wrong = |found: String, wanted: &str| Error::file(path, found, wanted, FIX);
        let certificate: Self = serde_json::from_slice(&bytes)
            .map_err(|e| wrong(format!("no certificate ({e})"), "a whole certificate"))?;
        certificate
            .check()
            .map_err(|(found, wanted)| wrong(found, wanted))?;
        Ok(certificate)
    }

    /// What a certificate may say at all; if not, what was found and what was wanted.
    fn check(&self) -> Result<(), (String, &'static str)> {
        if self.form != FORM {
            return Err((format!("form `{}`", short(&self.form)), FORM));
        }
        // It comes out of a file: it must not lead out of the folder.
        let name = Path::new(&self.model).file_name();
        if name.is_none_or(|n| n != self.model.as_str()) || self.model.contains('\\') {
            let found = format!("model file `{}`", short(&self.model));
            return Err((found, "the name of a file in the same folder"));
        }
        if !(1..=MAX_MEMBERS).contains(&self.members.len()) {
            return Err((format!("{} networks", self.members.len()), "1 to 4096"));
        }
        let images = self.data.images;
        if self.members.iter().any(|m| m.misread > images) || images == 0 {
            return Err((format!("{images} test images"), "more than are misread"));
        }
        let list = &self.vote.misread;
        if !list.is_sorted_by(|a, b| a < b) || list.last().is_some_and(|i| *i >= images) {
            return Err((
                format!("misread images {}", listed(list)),
                "indices of test images, ascending",
            ));
        }
        let shares = self.members.iter().map(|m| m.accuracy);
        for share in shares.chain([self.vote.accuracy]) {
            if !(0.0..=1.0).contains(&share) {
                return Err((format!("accuracy {share}"), "a share from 0 to 1"));
            }
        }
        if !(self.seconds.is_finite() && self.seconds >= 0.0) {
            return Err((format!("{} seconds", self.seconds), "a finite time"));
        }
        let hashes = self.members.iter().map(|m| &m.weights_sha256);
        for hash in hashes.chain([&self.data.images_sha256, &self.data.labels_sha256]) {
            if hash.len() != 64 || !hash.bytes().all(|b| b.is_ascii_hexdigit()) {
                return Err((format!("hash `{}`", short(hash)), "64 hexadecimal digits"));
            }
        }
        Ok(())
    }
}

/// Names one after another, neighbours that are the same once.
fn in_order<'a>(names: impl Iterator<Item = &'a String>) -> String {
    let mut names: Vec<&str> = names.map(String::as_str).collect();
    names.dedup();
    names.join(", then ")
}

/// The indices of images that are answered wrongly, ascending.
fn misread(answers: &[u32], test: &Images) -> Vec<usize> {
    let pairs = answers.iter().zip(&test.labels).enumerate();
    let wrong = pairs.filter(|(_, (answer, label))| **answer != u32::from(**label));
    wrong.map(|(i, _)| i).collect()
}

fn wrong_by_vote(answers: &[Vec<u32>], test: &Images) -> Vec<usize> {
    misread(&plurality(answers), test)
}

fn share_read(misread: usize, images: usize) -> f64 {
    (images - misread.min(images)) as f64 / images as f64
}

fn sha256(bytes: &[u8]) -> String {
    let hash = Sha256::digest(bytes);
    hex(&hash)
}

/// A list for a message: how many, and the first of them.
fn listed(images: &[usize]) -> String {
    let shown = &images[..images.len().min(MOST_LISTED)];
    let more = if images.len() > MOST_LISTED {
        ", …"
    } else {
        ""
    };
    let words: Vec<String> = shown.iter().map(usize::to_string).collect();
    format!("{} ({}{more})", images.len(), words.join(", "))
}

/// Text out of a file for a message.
fn short(text: &str) -> String {
    text.chars().take(80).flat_map(char::escape_debug).collect()
}

/// The time in UTC, `2026-01-31T12:00:00Z`.
fn now() -> String {
    date(crate::clock::unix_seconds())
}

/// Seconds since 1970 as a date, by counting years and months.
fn date(seconds: u64) -> String {
    let leap = |y: u64| y.is_multiple_of(4) && (!y.is_multiple_of(100) || y.is_multiple_of(400));
    let (mut days, rest) = (seconds / 86_400, seconds % 86_400);
    let mut year = 1970;
    while days >= 365 + u64::from(leap(year)) {
        days -= 365 + u64::from(leap(year));
        year += 1;
    }
    let february = 28 + u64::from(leap(year));
    let mut month = 1;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30] {
        if days < length {
            break;
        }
        days -= length;
        month += 1;
    }
    format!(
        "{year:04}-{month:02}-{:02}T{:02}:{:02}:{:02}Z",
        days + 1,
        rest / 3600,
        rest / 60 % 60,
        rest % 60
    )
}

#[cfg(test)]
mod tests;

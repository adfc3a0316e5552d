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
//! of each other; if that ever happens, the claim that fails names the image.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::data::Images;
use crate::error::{Error, Result};
use crate::exec::{Device, DeviceInfo};
use crate::files::{read_limited, write_whole};
use crate::nn::Network;
use crate::train::{Evaluation, Model, Predictor, Settings, plurality};

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
    /// The version of wgrad that ran.
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
    /// Seconds from start to end.
    pub seconds: f64,
    /// Adapter, backend and driver that trained, or the CPU.
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
    /// Seconds from start to end.
    pub seconds: f64,
    /// What trained.
    pub device: &'a DeviceInfo,
}

/// One claim of a certificate, and what was found.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Claim {
    /// What it is about, for example `network 2, weights`.
    pub what: String,
    /// What the certificate says.
    pub claimed: String,
    /// What is the case.
    pub found: String,
    /// Whether both are the same; `None` where nothing is left to check it against.
    pub holds: Option<bool>,
}

impl Claim {
    fn checked(what: impl Into<String>, claimed: String, found: String, holds: bool) -> Self {
        Self {
            what: what.into(),
            claimed,
            found,
            holds: Some(holds),
        }
    }

    /// A claim whose texts say all that there is to compare.
    fn compared(what: impl Into<String>, claimed: String, found: String) -> Self {
        let holds = claimed == found;
        Self::checked(what, claimed, found, holds)
    }

    fn stated(what: &str, claimed: String) -> Self {
        Self {
            what: what.into(),
            claimed,
            found: "stated; nothing is left to check it against".into(),
            holds: None,
        }
    }
}

/// Whether no claim was refuted.
pub fn confirmed(claims: &[Claim]) -> bool {
    claims.iter().all(|c| c.holds != Some(false))
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
            version: env!("CARGO_PKG_VERSION").into(),
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
            device: run.device.name.clone(),
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

/// Reads the certificate at `path`, loads the networks beside it, evaluates them on `test`
/// and holds every claim against what it finds. A model file that is missing, damaged or
/// does not fit is a claim that does not hold, and so is everything that depends on it.
///
/// # Errors
/// Those of [`Certificate::read`].
pub fn verify(path: &Path, test: &Images, device: &Device) -> Result<Vec<Claim>> {
    let certificate = Certificate::read(path)?;
    let mut claims = vec![Claim::compared(
        "vote, rule",
        certificate.vote.rule.clone(),
        VOTE_RULE.into(),
    )];
    claims.extend(data_claims(&certificate.data, test));
    claims.extend(settings_claims(&certificate));

    let file = path.with_file_name(&certificate.model);
    let loaded = Model::load(&file);
    claims.push(Claim::checked(
        "model file",
        format!(
            "{} with {} networks",
            certificate.model,
            certificate.members.len()
        ),
        match &loaded {
            Ok(model) => format!("{} networks", model.replicas.len()),
            Err(e) => e.to_string(),
        },
        loaded
            .as_ref()
            .is_ok_and(|m| m.replicas.len() == certificate.members.len()),
    ));
    let hashes = match &loaded {
        Ok(model) => {
            let (claimed, found) = (certificate.network.to_json()?, model.network.to_json()?);
            claims.push(Claim::compared("network, description", claimed, found));
            model.sha256()
        }
        Err(_) => vec![],
    };
    // What the networks answer, or why they cannot be asked.
    let answers = loaded
        .map_err(|_| "no networks to evaluate".to_string())
        .and_then(|model| {
            let mut predictor = Predictor::new(&model, test, device).map_err(|e| e.to_string())?;
            let evaluation = predictor.evaluate().map_err(|e| e.to_string())?;
            Ok(evaluation.predictions)
        });
    claims.extend(member_claims(&certificate, &hashes, &answers, test));
    claims.extend(vote_claims(&certificate, &answers, test));
    claims.extend([
        Claim::stated("version of wgrad", certificate.version),
        Claim::stated("experiment", certificate.experiment),
        Claim::stated("date", certificate.date),
        Claim::stated("wall time", format!("{:.1} s", certificate.seconds)),
        Claim::stated("device", certificate.device),
    ]);
    Ok(claims)
}

fn data_claims(data: &TestData, test: &Images) -> [Claim; 4] {
    let size = |n: usize, h: usize, w: usize| format!("{n} of {h} × {w} pixels");
    [
        Claim::compared("test set, name", data.name.clone(), test.name.clone()),
        Claim::compared(
            "test set, size",
            size(data.images, data.height, data.width),
            size(test.len(), test.height, test.width),
        ),
        Claim::compared(
            "test set, images",
            data.images_sha256.clone(),
            sha256(&test.pixels),
        ),
        Claim::compared(
            "test set, labels",
            data.labels_sha256.clone(),
            sha256(&test.labels),
        ),
    ]
}

/// Seeds, replicas and epochs stand twice in a certificate and must say the same.
fn settings_claims(certificate: &Certificate) -> [Claim; 3] {
    let told = |key: &str| certificate.settings.get(key).and_then(Value::as_u64);
    let members = &certificate.members;
    let seeds: Vec<u64> = members.iter().map(|m| m.seed).collect();
    let replicas: Vec<u64> = members.iter().map(|m| m.replica as u64).collect();
    let wanted_seeds = told("seed").map(|s| vec![s; members.len()]);
    let wanted_replicas = told("first_replica")
        .zip(told("replicas"))
        .filter(|(first, n)| *n == members.len() as u64 && first.checked_add(*n).is_some())
        .map(|(first, n)| (first..first + n).collect::<Vec<_>>());
    let text = |found: &Option<Vec<u64>>| match found {
        Some(list) => format!("{list:?} in the settings"),
        None => "settings that do not say so".into(),
    };
    [
        Claim::checked(
            "seeds",
            format!("{seeds:?}"),
            text(&wanted_seeds),
            wanted_seeds.as_ref() == Some(&seeds),
        ),
        Claim::checked(
            "replicas",
            format!("{replicas:?}"),
            text(&wanted_replicas),
            wanted_replicas.as_ref() == Some(&replicas),
        ),
        Claim::checked(
            "epochs",
            certificate.epochs.to_string(),
            text(&told("epochs").map(|e| vec![e])),
            told("epochs") == Some(certificate.epochs as u64),
        ),
    ]
}

type Answers = std::result::Result<Vec<Vec<u32>>, String>;

fn member_claims(
    certificate: &Certificate,
    hashes: &[String],
    answers: &Answers,
    test: &Images,
) -> Vec<Claim> {
    let mut claims = Vec::new();
    for (k, member) in certificate.members.iter().enumerate() {
        let found = hashes.get(k).cloned().unwrap_or("no such network".into());
        claims.push(Claim::compared(
            format!("network {k}, weights"),
            member.weights_sha256.clone(),
            found,
        ));
        let wrong = answers.as_ref().map_err(Clone::clone).and_then(|all| {
            let answers = all.get(k).ok_or("no such network")?;
            Ok(misread(answers, test).len())
        });
        claims.push(count_claim(
            format!("network {k}, misread images"),
            member.misread,
            &wrong,
        ));
        claims.push(accuracy_claim(
            format!("network {k}, accuracy"),
            member.accuracy,
            &wrong,
            test.len(),
        ));
    }
    claims
}

fn vote_claims(certificate: &Certificate, answers: &Answers, test: &Images) -> [Claim; 2] {
    let vote = &certificate.vote;
    let found = answers.as_ref().map(|all| wrong_by_vote(all, test));
    let listing = Claim::checked(
        "vote, misread images",
        listed(&vote.misread),
        match &found {
            Ok(list) => difference(&vote.misread, list),
            Err(why) => why.to_string(),
        },
        found.as_ref().is_ok_and(|list| *list == vote.misread),
    );
    let wrong = found.map(|list| list.len()).map_err(Clone::clone);
    let accuracy = accuracy_claim("vote, accuracy".into(), vote.accuracy, &wrong, test.len());
    [listing, accuracy]
}

fn count_claim(what: String, claimed: usize, found: &std::result::Result<usize, String>) -> Claim {
    let text = match found {
        Ok(n) => n.to_string(),
        Err(why) => why.clone(),
    };
    Claim::compared(what, claimed.to_string(), text)
}

fn accuracy_claim(
    what: String,
    claimed: f64,
    wrong: &std::result::Result<usize, String>,
    images: usize,
) -> Claim {
    let percent = |share: f64| format!("{:.4} %", 100.0 * share);
    let found = wrong.as_ref().map(|n| share_read(*n, images));
    Claim::checked(
        what,
        percent(claimed),
        match found {
            Ok(share) => percent(share),
            Err(why) => why.clone(),
        },
        // Shares of a million images lie further apart.
        found.is_ok_and(|share| (share - claimed).abs() < 1e-9),
    )
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
    hash.iter().map(|b| format!("{b:02x}")).collect()
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

/// How two ascending lists differ.
fn difference(claimed: &[usize], found: &[usize]) -> String {
    let only = |a: &[usize], b: &[usize]| {
        let left: Vec<usize> = a
            .iter()
            .filter(|i| b.binary_search(i).is_err())
            .copied()
            .collect();
        listed(&left)
    };
    if claimed == found {
        return listed(found);
    }
    format!(
        "{}; claimed alone: {}; found alone: {}",
        listed(found),
        only(claimed, found),
        only(found, claimed)
    )
}

/// Text out of a file for a message.
fn short(text: &str) -> String {
    text.chars().take(80).flat_map(char::escape_debug).collect()
}

/// The time in UTC, `2026-01-31T12:00:00Z`.
fn now() -> String {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    date(since.map_or(0, |d| d.as_secs()))
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

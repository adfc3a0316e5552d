//! A certificate's claims held against the saved networks and the test set.

use std::path::Path;

use serde::Serialize;
use serde_json::Value;

use super::{Certificate, TestData, VOTE_RULE, listed, misread, sha256, share_read, wrong_by_vote};
use crate::book::train::{Model, Predictor};
use crate::data::Images;
use crate::error::Result;
use crate::exec::Device;

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
        Claim::stated(
            "digits drawn by a program",
            if certificate.data.synthetic {
                "yes"
            } else {
                "no"
            }
            .into(),
        ),
        // Seeds, replicas and epochs are held against the networks above; what else the
        // training was told has left no trace that could be looked at.
        Claim::stated("settings", certificate.settings.to_string()),
        Claim::stated("version of wgrad", certificate.version),
        Claim::stated("experiment", certificate.experiment),
        Claim::stated("date", certificate.date),
        Claim::stated("seconds of training", format!("{:.1}", certificate.seconds)),
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

use std::path::PathBuf;

use super::*;
use crate::book::train::Trainer;
use crate::data::digits::{Part, generate};
use crate::data::{Images, Split};
use crate::exec::{Choice, Device};

/// A trained ensemble of three small networks with its certificate, on disk.
struct Trained {
    folder: tempfile::TempDir,
    certificate: Certificate,
    model: Model,
    test: Images,
    device: Device,
}

impl Trained {
    fn new() -> Self {
        let part = |part, n| generate(5, part, n).unwrap();
        let data = Split {
            train: part(Part::Train, 300),
            validation: part(Part::Validation, 20),
            test: part(Part::Test, 150),
            synthetic: true,
        };
        let network = Network::new([1, 28, 28])
            .flatten()
            .dense(12)
            .sigmoid()
            .dense(10)
            .softmax();
        let settings = Settings {
            epochs: 2,
            replicas: 3,
            first_replica: 4,
            learning_rates: vec![0.3],
            seed: 9,
            ..Settings::default()
        };
        let device = Device::open(Choice::Cpu).unwrap();
        let mut trainer = Trainer::new(&network, &data, &settings, &device).unwrap();
        let outcome = trainer.run(&mut |_| {}).unwrap();
        let model = trainer.model().unwrap();
        let folder = tempfile::tempdir().unwrap();
        model
            .save(&folder.path().join("model.safetensors"))
            .unwrap();
        let certificate = Certificate::of(&Run {
            experiment: "ch6-ensemble",
            model: &model,
            model_file: "model.safetensors",
            settings: &settings,
            test: &data.test,
            synthetic: true,
            evaluation: &outcome.test,
            seconds: outcome.seconds,
            origins: trainer.origins(),
        })
        .unwrap();
        Self {
            folder,
            certificate,
            model,
            test: data.test,
            device,
        }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("certificate.json")
    }

    /// The claims that do not hold, after `change` of the certificate.
    fn refuted(&self, change: impl FnOnce(&mut Certificate)) -> Vec<String> {
        let mut certificate = self.certificate.clone();
        change(&mut certificate);
        certificate.write(&self.path()).unwrap();
        let claims = verify(&self.path(), &self.test, &self.device).unwrap();
        let refuted = claims.iter().filter(|c| c.holds == Some(false));
        let names: Vec<String> = refuted.map(|c| c.what.clone()).collect();
        assert_eq!(confirmed(&claims), names.is_empty());
        names
    }
}

#[test]
fn a_true_certificate_holds_and_each_false_claim_is_named() {
    let t = Trained::new();
    let misread = &t.certificate.vote.misread;
    assert!(misread.len() > 3 && misread.len() < 140, "{misread:?}");
    assert_eq!(t.certificate.members[2].replica, 6);
    assert_eq!(t.refuted(|_| {}), [""; 0]);

    type Change = fn(&mut Certificate);
    let changes: [(&str, Change); 15] = [
        ("network 1, accuracy", |c| {
            c.members[1].accuracy += 1.0 / 150.0
        }),
        ("network 2, misread images", |c| c.members[2].misread -= 1),
        ("network 0, weights", |c| {
            c.members[0].weights_sha256 = "0".repeat(64)
        }),
        ("vote, accuracy", |c| c.vote.accuracy = 1.0),
        ("vote, misread images", |c| {
            c.vote.misread.remove(1);
        }),
        ("vote, rule", |c| {
            c.vote.rule = "the highest class wins".into()
        }),
        ("test set, name", |c| c.data.name = "MNIST".into()),
        ("test set, size", |c| c.data.images += 1),
        ("test set, images", |c| {
            c.data.images_sha256 = "a".repeat(64)
        }),
        ("test set, labels", |c| {
            c.data.labels_sha256 = "b".repeat(64)
        }),
        ("seeds", |c| c.members[1].seed = 10),
        ("replicas", |c| c.members[1].replica = 4),
        ("epochs", |c| c.epochs = 60),
        ("network, description", |c| {
            c.network = Network::new([1, 28, 28]).flatten().dense(10).softmax();
        }),
        ("replicas", |c| c.settings = Value::Null),
    ];
    for (name, change) in changes {
        let refuted = t.refuted(change);
        match name {
            // Without settings, three claims have nothing to stand on.
            "replicas" if refuted.len() > 1 => assert_eq!(refuted, ["seeds", "replicas", "epochs"]),
            _ => assert_eq!(refuted, [name]),
        }
    }
    // One index for another: the number stays, the list does not.
    let other = (0..150).find(|i| !misread.contains(i)).unwrap();
    let refuted = t.refuted(|c| {
        c.vote.misread[0] = other;
        c.vote.misread.sort_unstable();
    });
    assert_eq!(refuted, ["vote, misread images"]);
    let claims = verify(&t.path(), &t.test, &t.device).unwrap();
    let claim = claims
        .iter()
        .find(|c| c.what == "vote, misread images")
        .unwrap();
    let lost = format!(
        "claimed alone: 1 ({other}); found alone: 1 ({})",
        misread[0]
    );
    assert!(claim.found.ends_with(&lost), "{}", claim.found);
    let stated = claims.iter().filter(|c| c.holds.is_none());
    let stated: Vec<&str> = stated.map(|c| c.what.as_str()).collect();
    let wanted = [
        "digits drawn by a program",
        "settings",
        "version of wgrad",
        "experiment",
        "date",
        "seconds of training",
        "device",
    ];
    assert_eq!(stated, wanted);
}

#[test]
fn devices_are_named_in_order() {
    let names = ["a GPU", "a GPU", "the CPU", "a GPU"].map(String::from);
    assert_eq!(in_order(names.iter()), "a GPU, then the CPU, then a GPU");
}

#[test]
fn changed_and_missing_networks_and_other_images_are_named() {
    let t = Trained::new();
    let file = t.folder.path().join("model.safetensors");
    let mut model = t.model.clone();
    // The last bit of one weight: no answer changes, the hash does.
    for weight in model.replicas[1][0].1.iter_mut().take(1) {
        *weight = f32::from_bits(weight.to_bits() ^ 1);
    }
    model.save(&file).unwrap();
    assert_eq!(t.refuted(|_| {}), ["network 1, weights"]);
    // Another network altogether: its answers change as well.
    model = t.model.clone();
    model.replicas[1] = model.replicas[0].clone();
    for (_, values) in &mut model.replicas[1] {
        values.mapv_inplace(|v| -v);
    }
    model.save(&file).unwrap();
    let refuted = t.refuted(|_| {});
    for name in [
        "network 1, weights",
        "network 1, misread images",
        "network 1, accuracy",
    ] {
        assert!(refuted.iter().any(|r| r == name), "{name} in {refuted:?}");
    }
    assert!(
        !refuted.iter().any(|r| r.contains("network 0")),
        "{refuted:?}"
    );

    model = t.model.clone();
    model.replicas.pop();
    model.save(&file).unwrap();
    let refuted = t.refuted(|_| {});
    for name in ["model file", "network 2, weights", "network 2, accuracy"] {
        assert!(refuted.iter().any(|r| r == name), "{name} in {refuted:?}");
    }

    std::fs::write(&file, b"torn").unwrap();
    assert!(t.refuted(|_| {}).contains(&"model file".to_string()));
    std::fs::remove_file(&file).unwrap();
    let refuted = t.refuted(|_| {});
    // The file, three claims of each network, two of the vote.
    assert_eq!(refuted.len(), 1 + 3 * 3 + 2, "{refuted:?}");
    let claims = verify(&t.path(), &t.test, &t.device).unwrap();
    let missing = claims.iter().find(|c| c.what == "model file").unwrap();
    assert!(
        missing.found.contains("model.safetensors"),
        "{}",
        missing.found
    );

    t.model.save(&file).unwrap();
    let mut other = t.test.clone();
    other.labels[3] = (other.labels[3] + 1) % 10;
    let claims = verify(&t.path(), &other, &t.device).unwrap();
    let labels = claims
        .iter()
        .find(|c| c.what == "test set, labels")
        .unwrap();
    assert_eq!(labels.holds, Some(false));
    let small = Images::new("x", 2, 2, 10, vec![0; 4], vec![1]).unwrap();
    assert!(!confirmed(&verify(&t.path(), &small, &t.device).unwrap()));
}

#[test]
fn torn_and_foreign_files_are_errors() {
    let t = Trained::new();
    t.certificate.write(&t.path()).unwrap();
    assert_eq!(Certificate::read(&t.path()).unwrap(), t.certificate);
    let whole = std::fs::read(t.path()).unwrap();
    for length in (0..whole.len() - 2).step_by(37) {
        std::fs::write(t.path(), &whole[..length]).unwrap();
        let e = Certificate::read(&t.path()).unwrap_err();
        assert!(matches!(e, Error::File { .. }), "{length}: {e}");
    }
    let refused = |change: fn(&mut Certificate), words: &str| {
        let mut certificate = t.certificate.clone();
        change(&mut certificate);
        certificate.write(&t.path()).unwrap();
        let e = Certificate::read(&t.path()).unwrap_err();
        assert!(matches!(e, Error::File { .. }), "{e}");
        assert!(e.to_string().contains(words), "{words}: {e}");
    };
    refused(|c| c.form = "x".into(), "wgrad certificate 1");
    for name in [
        "../model.safetensors",
        "/etc/passwd",
        "",
        "..",
        "a\\b",
        "a/",
    ] {
        let mut certificate = t.certificate.clone();
        certificate.model = name.into();
        certificate.write(&t.path()).unwrap();
        let e = Certificate::read(&t.path()).unwrap_err().to_string();
        assert!(e.contains("model file"), "{name}: {e}");
    }
    refused(|c| c.members.clear(), "0 networks");
    refused(|c| c.members[0].misread = 1000, "150 test images");
    refused(|c| c.vote.misread.reverse(), "ascending");
    refused(|c| c.vote.misread = vec![150], "ascending");
    refused(|c| c.vote.accuracy = 1.5, "from 0 to 1");
    refused(|c| c.seconds = -1.0, "finite time");
    refused(
        |c| c.members[0].weights_sha256 = "zz".into(),
        "64 hexadecimal",
    );
    let long = vec![b' '; MAX_BYTES as usize + 1];
    std::fs::write(t.path(), long).unwrap();
    assert!(matches!(
        Certificate::read(&t.path()),
        Err(Error::File { .. })
    ));
    std::fs::remove_file(t.path()).unwrap();
    assert!(matches!(
        Certificate::read(&t.path()),
        Err(Error::Io { .. })
    ));
}

#[test]
fn dates_are_right() {
    for (seconds, text) in [
        (0, "1970-01-01T00:00:00Z"),
        (951_782_399, "2000-02-28T23:59:59Z"),
        (951_782_400, "2000-02-29T00:00:00Z"),
        (1_709_251_199, "2024-02-29T23:59:59Z"),
        (1_735_689_599, "2024-12-31T23:59:59Z"),
        (4_107_542_400, "2100-03-01T00:00:00Z"),
    ] {
        assert_eq!(date(seconds), text);
    }
}

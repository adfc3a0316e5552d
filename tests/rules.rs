//! What a run starts from and goes on by: given weights, checkpoints under rules, epochs
//! that are passed over, and combinations of settings that have no meaning.

mod common;

use std::path::Path;

use wgrad::book::nn::Network;
use wgrad::book::train::{Decay, Epoch, Model, Settings, Standing, Trainer};
use wgrad::data::Split;
use wgrad::data::digits::{Part, generate};
use wgrad::exec::{Choice, Device};
use wgrad::{Error, Result};

fn digits() -> Split {
    let part = |part, n| generate(5, part, n).unwrap();
    Split {
        train: part(Part::Train, 60),
        validation: part(Part::Validation, 20),
        test: part(Part::Test, 20),
        synthetic: true,
    }
}

fn network() -> Network {
    Network::new([1, 28, 28])
        .flatten()
        .dense(12)
        .relu()
        .dense(10)
        .softmax()
}

fn trainer(settings: &Settings) -> Trainer {
    let cpu = Device::open(Choice::Cpu).unwrap();
    Trainer::new(&network(), &digits(), settings, &cpu).unwrap()
}

/// A run with checkpoints in `folder`: the epochs done before it, its history without times
/// and its weights.
fn run(settings: &Settings, folder: &Path) -> (usize, Vec<Epoch>, Vec<String>, Vec<Standing>) {
    let mut trainer = trainer(settings);
    trainer.keep_checkpoints(folder, 100).unwrap();
    let done = trainer.resume().unwrap();
    let mut epochs = trainer.run(&mut |_| {}).unwrap().epochs;
    epochs.iter_mut().for_each(|e| e.seconds = 0.0);
    let weights = trainer.model().unwrap().sha256();
    (done, epochs, weights, trainer.standings())
}

/// Runs to the end, then again from each checkpoint alone: always the same.
fn resumed_anywhere(settings: &Settings) -> Vec<Standing> {
    let folder = tempfile::tempdir().unwrap();
    let (_, epochs, weights, standings) = run(settings, folder.path());
    let mut files: Vec<_> = std::fs::read_dir(folder.path())
        .unwrap()
        .map(|e| e.unwrap().path())
        .collect();
    files.sort();
    // All checkpoints share one history.
    let history = files
        .iter()
        .position(|f| f.extension().is_some_and(|e| e == "jsonl"));
    let history = files.remove(history.unwrap());
    assert_eq!(files.len(), epochs.len());
    for (k, file) in files.iter().enumerate() {
        let alone = tempfile::tempdir().unwrap();
        for file in [file, &history] {
            std::fs::copy(file, alone.path().join(file.file_name().unwrap())).unwrap();
        }
        let again = run(settings, alone.path());
        assert_eq!(again.0, k + 1);
        assert_eq!(again.1, epochs, "after epoch {}", k + 1);
        assert_eq!(again.2, weights, "after epoch {}", k + 1);
        assert_eq!(again.3, standings);
    }
    standings
}

#[test]
fn halving_goes_on_where_it_was() {
    let settings = Settings {
        epochs: 6,
        replicas: 2,
        // The second does not learn, so each epoch but the first halves its rate.
        replica_rates: vec![1.0, 0.0],
        learning_rates: vec![0.05],
        momentum: 0.5,
        halve_after: Some(1),
        ..Settings::default()
    };
    let standings = resumed_anywhere(&settings);
    assert_eq!(standings[1].halvings, 5);
    assert!(standings[0].halvings > 0, "{standings:?}");
    // A rule that was not applied again after a resume would leave other weights.
    let folder = tempfile::tempdir().unwrap();
    let without = Settings {
        halve_after: None,
        ..settings.clone()
    };
    let with = run(&settings, &folder.path().join("with"));
    assert_ne!(
        with.2[0],
        run(&without, &folder.path().join("without")).2[0]
    );
}

#[test]
fn epochs_passed_over_are_the_same_after_a_resume() {
    let settings = Settings {
        epochs: 7,
        evaluate_every: 3,
        measure_training: true,
        ..Settings::default()
    };
    resumed_anywhere(&settings);
}

#[test]
fn rules_with_means_or_gaps_are_refused() {
    let rules = [(Some(3), None), (None, Some(3))];
    for (stop_after, halve_after) in rules {
        let rule = Settings {
            stop_after,
            halve_after,
            ..Settings::default()
        };
        rule.check(60).unwrap();
        let mean = Settings {
            average_from: Some(2),
            ..rule.clone()
        };
        let gaps = Settings {
            evaluate_every: 2,
            ..rule
        };
        for (settings, name) in [(mean, "first epoch averaged"), (gaps, "evaluate every")] {
            let e = settings.check(60).unwrap_err().to_string();
            assert!(e.starts_with(&format!("{name}: found 2")), "{e}");
        }
    }
}

/// The weights of a network trained under another seed.
fn other() -> Model {
    let mut other = trainer(&Settings {
        seed: 9,
        ..Settings::default()
    });
    other.model().unwrap()
}

#[test]
fn given_weights_reach_the_mean() {
    let settings = Settings {
        average_from: Some(2),
        ..Settings::default()
    };
    let mut trainer = trainer(&settings);
    trainer.set_weights(&other()).unwrap();
    assert_eq!(trainer.model().unwrap(), other());
}

#[test]
fn given_weights_have_checkpoints_of_their_own() {
    let settings = Settings {
        epochs: 1,
        ..Settings::default()
    };
    let folder = tempfile::tempdir().unwrap();
    let start = |given: bool, first: bool| -> Result<Trainer> {
        let mut trainer = trainer(&settings);
        if first && given {
            trainer.set_weights(&other())?;
        }
        trainer.keep_checkpoints(folder.path(), 2)?;
        if !first && given {
            trainer.set_weights(&other())?;
        }
        Ok(trainer)
    };
    start(true, true).unwrap().run(&mut |_| {}).unwrap();
    let refused = start(false, true).unwrap().resume().unwrap_err();
    assert!(refused.to_string().contains("given weights"), "{refused}");
    for first in [true, false] {
        assert_eq!(start(true, first).unwrap().resume().unwrap(), 1);
    }
}

#[test]
fn given_weights_that_overflow_are_blamed() {
    let mut given = other();
    given.replicas[0][0].1.fill(f32::MAX);
    let mut trainer = trainer(&Settings::default());
    trainer.set_weights(&given).unwrap();
    match trainer.run(&mut |_| {}).unwrap_err() {
        Error::NotFinite { place, step: 0, .. } => {
            assert!(place.contains("dense"), "{place}");
        }
        e => panic!("{e}"),
    }
}

/// The guard sees losses before each update: what the epoch's last update breaks only shows
/// in the evaluation after it.
#[test]
fn an_overflow_in_the_last_update_is_an_error() {
    let settings = Settings {
        epochs: 1,
        batch: 60,
        replicas: 2,
        replica_rates: vec![0.0, 1e38],
        learning_rates: vec![1.0],
        ..Settings::default()
    };
    match trainer(&settings).run(&mut |_| {}).unwrap_err() {
        Error::NotFinite {
            place,
            step: 0,
            replica: 1,
            ..
        } => assert!(place.starts_with("epoch 1, "), "{place}"),
        e => panic!("{e}"),
    }
}

/// The advice names the checkpoint of the epoch before where there is one, and only there.
#[test]
fn an_overflow_is_sent_back_to_a_checkpoint_that_exists() {
    let overflow = |rates: Vec<f64>, folder: Option<&Path>| {
        let settings = Settings {
            epochs: 2,
            learning_rates: rates,
            ..Settings::default()
        };
        let mut trainer = trainer(&settings);
        if let Some(folder) = folder {
            trainer.keep_checkpoints(folder, 1).unwrap();
        }
        match trainer.run(&mut |_| {}).unwrap_err() {
            Error::NotFinite { fix, .. } => fix,
            e => panic!("{e}"),
        }
    };
    let folder = tempfile::tempdir().unwrap();
    let lower = "Lower the learning rate, or start from smaller weights.";
    assert_eq!(overflow(vec![1e38], None), lower);
    assert_eq!(overflow(vec![1e38], Some(folder.path())), lower);
    assert_eq!(overflow(vec![0.05, 1e38], None), lower);
    assert_eq!(
        overflow(vec![0.05, 1e38], Some(folder.path())),
        format!("{lower} The checkpoint of the epoch before is finite.")
    );
}

/// Weights that are lost in an epoch's last update, where no loss follows it.
#[test]
fn a_lost_parameter_is_named_though_no_loss_sees_it() {
    let devices = std::iter::once(Device::open(Choice::Cpu).unwrap()).chain(common::gpu());
    for device in devices {
        for kept in [false, true] {
            let settings = Settings {
                epochs: 4,
                batch: 60,
                replicas: 2,
                replica_rates: vec![0.0, 1.0],
                learning_rates: vec![0.0, 1e30],
                // The loss does not see the decay that overflows.
                l2: Decay::PerExample(60.0 * 1e30),
                // The second epoch is not evaluated.
                evaluate_every: 4,
                momentum: 0.5,
                ..Settings::default()
            };
            let folder = tempfile::tempdir().unwrap();
            let mut trainer = Trainer::new(&network(), &digits(), &settings, &device).unwrap();
            if kept {
                trainer.keep_checkpoints(folder.path(), 2).unwrap();
            }
            match trainer.run(&mut |_| {}).unwrap_err() {
                Error::NotFinite {
                    place,
                    step: 1,
                    replica: 1,
                    fix,
                } => {
                    let lost = [
                        "epoch 2, 1.dense.weight",
                        "epoch 2, 1.dense.weight velocity",
                    ];
                    let named = lost.iter().any(|lost| place.starts_with(lost));
                    assert!(named, "{place} on {}", device.info().name);
                    assert_eq!(place.contains(", first in "), kept, "{place}");
                    assert_eq!(fix.contains("checkpoint"), kept, "{fix}");
                }
                e => panic!("{e}"),
            }
            // Where the epoch's beginning is kept, it is back there; else nothing is given out.
            match trainer.model() {
                Ok(model) if kept => {
                    let values = model.replicas.iter().flatten().flat_map(|(_, t)| t);
                    assert!(values.into_iter().all(|w| w.is_finite()));
                    assert_eq!(trainer.epochs_done(), 1);
                }
                Err(Error::NotFinite { place, .. }) if !kept => {
                    assert!(place.contains("1.dense.weight"), "{place}");
                }
                other => panic!("{other:?}"),
            }
        }
    }
}

/// Given or about to be saved.
#[test]
fn weights_that_are_not_finite_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    for lost in [f32::NAN, f32::INFINITY] {
        let mut model = other();
        model.replicas[0][1].1[[3]] = lost;
        let given = trainer(&Settings::default()).set_weights(&model);
        let saved = model.save(&folder.path().join("model.safetensors"));
        for refused in [given, saved] {
            let e = refused.unwrap_err().to_string();
            assert!(e.starts_with("1.dense.bias of replica 0: found "), "{e}");
        }
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

/// A run of more epochs does not stand for one of fewer.
#[test]
fn a_checkpoint_beyond_the_end_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let settings = |epochs| Settings {
        epochs,
        ..Settings::default()
    };
    run(&settings(3), folder.path());
    let mut fewer = trainer(&settings(2));
    fewer.keep_checkpoints(folder.path(), 2).unwrap();
    let e = fewer.resume().unwrap_err().to_string();
    assert!(
        e.starts_with("epochs: found 2; wanted at least the 3"),
        "{e}"
    );
    // It may begin anew, and then what lies there is its own.
    let outcome = fewer.run(&mut |_| {}).unwrap();
    assert_eq!(outcome.epochs.len(), 2);
    assert_eq!(run(&settings(2), folder.path()).0, 2);
    assert_eq!(run(&settings(4), folder.path()).0, 2);
    // What it has gone on from stays beside what it adds.
    let names = std::fs::read_dir(folder.path()).unwrap();
    let names = names.map(|e| e.unwrap().file_name().into_string().unwrap());
    assert_eq!(names.filter(|name| name.starts_with("epoch-")).count(), 4);
}

/// In a folder of one run another's checkpoint is named; where runs share a folder, each has its own within.
#[test]
fn a_changed_setting_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let settings = Settings {
        epochs: 1,
        ..Settings::default()
    };
    run(&settings, folder.path());
    let other = Settings {
        learning_rates: vec![0.25],
        ..settings.clone()
    };
    let mut changed = trainer(&other);
    changed.keep_checkpoints(folder.path(), 2).unwrap();
    let e = changed.resume().unwrap_err().to_string();
    assert!(
        e.contains("learning rates [0.1]") && e.contains("learning rates [0.25]"),
        "{e}"
    );
    changed.clear_checkpoints().unwrap();
    assert_eq!(changed.resume().unwrap(), 0);

    let shared = tempfile::tempdir().unwrap();
    for (settings, done) in [(&settings, 0), (&other, 0), (&settings, 1), (&other, 1)] {
        let mut trainer = trainer(settings);
        trainer.keep_checkpoints_among(shared.path(), 2).unwrap();
        assert_eq!(trainer.resume().unwrap(), done);
        trainer.run(&mut |_| {}).unwrap();
    }
    assert_eq!(std::fs::read_dir(shared.path()).unwrap().count(), 2);
}

/// A checkpoint says which version and device wrote it.
#[test]
fn origins_are_kept() {
    let settings = Settings {
        epochs: 1,
        ..Settings::default()
    };
    let folder = tempfile::tempdir().unwrap();
    run(&settings, folder.path());
    let mut trainer = trainer(&settings);
    trainer.keep_checkpoints(folder.path(), 2).unwrap();
    assert_eq!(trainer.resume().unwrap(), 1);
    let [origin] = trainer.origins() else {
        panic!("{:?}", trainer.origins());
    };
    assert_eq!(origin.version, env!("CARGO_PKG_VERSION"));
    assert_eq!(origin.device, trainer.device().name);
}

use super::*;
use crate::book::train::Decay;
use crate::data::digits::{Part, generate};
use crate::ops::distort::Distortion;
use crate::ops::gather::Expansion;

fn data(training: u64, validation: u64) -> Split {
    let images = |seed, part| generate(seed, part, 3).unwrap();
    Split {
        train: images(training, Part::Train),
        validation: images(validation, Part::Validation),
        test: images(1, Part::Test),
        synthetic: true,
    }
}

fn network(units: usize) -> Network {
    Network::new([1, 28, 28])
        .flatten()
        .dense(units)
        .relu()
        .dense(10)
        .softmax()
}

fn of(settings: &Settings) -> Identity {
    Identity::of(&network(7), settings, &data(1, 1)).unwrap()
}

/// Equal where they agree in name and content.
fn same(a: &Identity, b: &Identity) -> bool {
    let same = a.difference(b).is_none();
    assert_eq!(same, b.difference(a).is_none());
    assert_eq!(same, a.name() == b.name(), "{a:?} {b:?}");
    same
}

#[test]
fn it_follows_what_decides_the_weights() {
    let under = |replicas, stop_after, halve_after, validation| {
        let settings = Settings {
            replicas,
            stop_after,
            halve_after,
            ..Settings::default()
        };
        Identity::of(&network(7), &settings, &data(1, validation)).unwrap()
    };
    let equal = [
        (under(1, Some(3), None, 1), under(1, Some(4), None, 1)),
        (under(2, None, None, 1), under(2, None, None, 2)),
    ];
    assert!(equal.iter().all(|(a, b)| same(a, b)));
    let apart = [
        (under(2, Some(3), None, 1), under(2, Some(4), None, 1)),
        (under(2, Some(3), None, 1), under(2, None, None, 1)),
        (under(2, Some(3), None, 1), under(2, Some(3), None, 2)),
        (under(1, None, Some(3), 1), under(1, None, Some(3), 2)),
    ];
    assert!(apart.iter().all(|(a, b)| !same(a, b)));
}

/// Each setting that counts is named with both values; the others are passed over.
#[test]
fn what_differs_is_named() {
    let plain = of(&Settings::default());
    let named = |change: &dyn Fn(&mut Settings)| {
        let mut settings = Settings {
            replicas: 2,
            ..Settings::default()
        };
        let base = of(&settings);
        change(&mut settings);
        let other = of(&settings);
        assert_eq!(same(&base, &other), base == other);
        let difference = base.difference(&other);
        difference.map(|d| format!("{} / {}", d.ours, d.theirs))
    };
    for (change, wanted) in [
        (
            &(|s: &mut Settings| s.batch = 5) as &dyn Fn(&mut Settings),
            "batch 10 / batch 5",
        ),
        (
            &|s| s.learning_rates = vec![0.5, 0.25],
            "learning rates [0.1] / learning rates [0.5,0.25]",
        ),
        (&|s| s.momentum = 0.5, "momentum 0.0 / momentum 0.5"),
        (
            &|s| s.l2 = Decay::PerExample(5.0),
            "l2, per_example 0.0 / l2, per_example 5.0",
        ),
        (
            &|s| s.l1 = Decay::PerBatch(0.0),
            "l1 {\"per_example\":0.0} / l1 {\"per_batch\":0.0}",
        ),
        (&|s| s.seed = 7, "seed 1 / seed 7"),
        (&|s| s.replicas = 3, "replicas 2 / replicas 3"),
        (
            &|s| s.first_replica = 3,
            "first replica 0 / first replica 3",
        ),
        (
            &|s| s.expansion = Expansion::Shifts,
            "expansion none / expansion shifts",
        ),
        (
            &|s| s.distortion = Distortion::elastic(),
            "distortion, alpha 0.0 / distortion, alpha 34.0",
        ),
        (
            &|s| s.average_from = Some(2),
            "average from none / average from 2",
        ),
        (
            &|s| s.replica_rates = vec![1.0, 2.0],
            "replica rates [] / replica rates [1.0,2.0]",
        ),
        (
            &|s| s.halve_after = Some(2),
            "halve after none / halve after 2",
        ),
        (
            &|s| s.stop_after = Some(2),
            "stop after none / stop after 2",
        ),
    ] {
        assert_eq!(named(change).as_deref(), Some(wanted));
    }
    for change in [
        &(|s: &mut Settings| s.epochs = 99) as &dyn Fn(&mut Settings),
        &|s| s.evaluation_batch = 1,
        &|s| s.fuse = false,
        &|s| s.measure_training = true,
        &|s| s.evaluate_every = 3,
        &|s| s.verify_every = 3,
        // The same said otherwise.
        &|s| s.learning_rates = vec![0.1; 3],
        &|s| s.replica_rates = vec![1.0; 2],
    ] {
        assert_eq!(named(change), None);
    }
    let other = Identity::of(&network(9), &Settings::default(), &data(1, 1)).unwrap();
    let difference = plain.difference(&other).unwrap();
    assert_eq!(difference.ours, "network, layers 1, units 7");
    assert_eq!(difference.theirs, "network, layers 1, units 9");
    let other = Identity::of(&network(7), &Settings::default(), &data(2, 1)).unwrap();
    let difference = plain.difference(&other).unwrap();
    assert!(difference.ours.starts_with("training images 3 of sha256 "));
}

/// A setting that a later version adds is missing in what an earlier one wrote.
#[test]
fn a_missing_name_is_its_default() {
    let plain = of(&Settings::default());
    for name in ["momentum", "distortion", "halve after", "replica rates"] {
        let mut earlier = plain.clone();
        earlier.parts.remove(name).unwrap();
        assert!(same(&plain, &earlier), "{name}");
    }
    // The same within a network's description.
    let convolved = Network::new([1, 28, 28])
        .conv2d(2, 5)
        .flatten()
        .dense(10)
        .softmax();
    let plain_network = Identity::of(&convolved, &Settings::default(), &data(1, 1)).unwrap();
    let mut earlier = plain_network.clone();
    let layer = &mut earlier.parts.get_mut("network").unwrap()["layers"][0];
    layer.as_object_mut().unwrap().remove("padding").unwrap();
    assert!(plain_network.difference(&earlier).is_none());
    let with = of(&Settings {
        momentum: 0.5,
        ..Settings::default()
    });
    let mut earlier = plain.clone();
    earlier.parts.remove("momentum").unwrap();
    assert!(!same(&with, &earlier));
    // One that only a later version knows counts, whatever it says.
    let mut later = plain.clone();
    later.parts.insert("label smoothing".into(), json!(0.1));
    assert!(!same(&plain, &later));
    // It survives the file.
    let text = serde_json::to_string(&with).unwrap();
    assert_eq!(serde_json::from_str::<Identity>(&text).unwrap(), with);
}

/// The name is that of the folders on people's disks: it may not change by accident.
#[test]
fn the_name_is_pinned() {
    let name = of(&Settings::default()).name();
    assert_eq!(name, "ef96b771395cd129");
}

//! The book's experiments: all there, each runs end to end, seeds are replicas, rules that
//! watch the validation accuracy act, and what is missing is said.

use wgrad::book::nn::{Cost, Init, Network};
use wgrad::book::train::{Settings, Standing, Trainer};
use wgrad::book::{self, Experiment, Options};
use wgrad::data::Split;
use wgrad::data::digits::{Part, generate};
use wgrad::exec::{Choice, Device};
use wgrad::report::record::Record;

/// The ids of the reference that the catalogue reproduces.
const REFERENCE: [&str; 31] = [
    "ch1-sigmoid-30",
    "ch1-sigmoid-100",
    "ch3-neuron-quadratic-easy",
    "ch3-neuron-quadratic-saturated",
    "ch3-neuron-cross-entropy-saturated",
    "ch3-softmax-slider",
    "ch3-cross-entropy-30",
    "ch3-cross-entropy-100",
    "ch3-overfit-1000",
    "ch3-overfit-1000-l2",
    "ch3-full-no-l2",
    "ch3-full-l2",
    "ch3-100-l2",
    "ch3-100-l2-60",
    "ch3-init-30",
    "ch3-init-100",
    "ch3-more-data",
    "ch3-l1",
    "ch3-simard-elastic",
    "ch3-dropout-mlp",
    "ch5-depth",
    "ch5-gradient-norms",
    "ch5-exploding",
    "ch6-shallow",
    "ch6-conv",
    "ch6-conv-conv",
    "ch6-relu",
    "ch6-expanded",
    "ch6-two-fc",
    "ch6-dropout",
    "ch6-ensemble",
];

fn digits(train: usize, held_out: usize) -> Split {
    let part = |part, n| generate(5, part, n).unwrap();
    Split {
        train: part(Part::Train, train),
        validation: part(Part::Validation, held_out),
        test: part(Part::Test, held_out),
        synthetic: true,
    }
}

fn cpu() -> Device {
    Device::open(Choice::Cpu).unwrap()
}

fn options<'a>(
    device: &'a Device,
    data: Option<&'a Split>,
    folder: &'a std::path::Path,
) -> Options<'a> {
    Options {
        device,
        data,
        seeds: Some(2),
        first_seed: 0,
        epochs: Some(1),
        images: Some(20),
        folder,
        command: "wgrad book run".into(),
    }
}

fn run(id: &str, options: &Options<'_>) -> Record {
    book::run(book::find(id).unwrap(), options, &mut |_| {}).unwrap()
}

#[test]
fn the_reference_is_in_the_catalogue() {
    let ids: Vec<&str> = book::catalogue()
        .unwrap()
        .iter()
        .map(|e| e.id.as_str())
        .collect();
    for id in REFERENCE {
        assert!(ids.contains(&id), "{id}");
    }
    let chapter = |e: &&Experiment| e.id.starts_with(&format!("ch{}-", e.chapter));
    assert!(book::catalogue().unwrap().iter().all(|e| chapter(&e)));
    let select = |names: &[&str]| -> Vec<&str> {
        let names: Vec<String> = names.iter().map(|n| n.to_string()).collect();
        book::select(&names)
            .unwrap()
            .iter()
            .map(|e| e.id.as_str())
            .collect()
    };
    assert_eq!(select(&["ch1"]), ["ch1-sigmoid-30", "ch1-sigmoid-100"]);
    assert_eq!(select(&["ch6-conv", "ch6-conv"]), ["ch6-conv"]);
    assert_eq!(select(&["all"]), ids);
    let message = book::find("ch6-esemble").unwrap_err().to_string();
    assert!(message.contains("did you mean `ch6-ensemble`"), "{message}");
}

#[test]
fn every_experiment_runs_end_to_end() {
    let (device, data) = (cpu(), digits(20, 12));
    let folder = tempfile::tempdir().unwrap();
    for experiment in book::catalogue().unwrap() {
        let out = folder.path().join(&experiment.id);
        let seeds = if experiment.vote.is_some() { 1 } else { 2 };
        let options = Options {
            seeds: Some(seeds),
            ..options(&device, Some(&data), &out)
        };
        let record = run(&experiment.id, &options);
        assert!(!record.rows.is_empty(), "{}", record.id);
        let reported: usize = experiment.runs.iter().map(|r| r.report.len()).sum();
        assert!(record.rows.len() >= reported, "{}", record.id);
        for row in &record.rows {
            assert!(!row.ours.is_empty(), "{}: {}", record.id, row.what);
            let finite = row.ours.iter().all(|x| x.is_finite());
            assert!(finite, "{}: {} {:?}", record.id, row.what, row.ours);
        }
        for run in &experiment.runs {
            for (k, reported) in run.report.iter().enumerate() {
                let what = match run.name.as_str() {
                    "" => reported.what.clone(),
                    name => format!("{name}: {}", reported.what),
                };
                let ours = record.rows.iter().find(|r| r.what == what);
                assert_eq!(ours.unwrap().ours.len(), seeds, "{} {k} {what}", record.id);
            }
        }
    }
    let ensemble = folder.path().join("ch6-ensemble");
    assert!(ensemble.join("model.safetensors").exists());
    let claims = book::certificate::verify(
        &ensemble.join("certificate.json"),
        &data.test.first(10).unwrap(),
        &device,
    )
    .unwrap();
    assert!(book::certificate::confirmed(&claims), "{claims:?}");
}

/// The book's own numbers where nothing is random and no data is needed.
#[test]
fn what_needs_no_data_agrees_with_the_book() {
    let device = cpu();
    let folder = tempfile::tempdir().unwrap();
    for id in [
        "ch3-neuron-quadratic-easy",
        "ch3-neuron-quadratic-saturated",
        "ch3-neuron-cross-entropy-saturated",
        "ch3-softmax-slider",
        "ch5-exploding",
    ] {
        let options = Options {
            epochs: None,
            images: None,
            ..options(&device, None, folder.path())
        };
        let record = run(id, &options);
        let compared = record.rows.iter().filter_map(|r| Some((r, r.agrees()?)));
        let mut count = 0;
        for (row, agrees) in compared {
            assert!(
                agrees,
                "{id}: {} {:?} book {:?}",
                row.what, row.ours, row.book
            );
            count += 1;
        }
        assert!(count > 0, "{id}");
    }
}

#[test]
fn a_seed_alone_is_the_seed_in_a_larger_run() {
    let (device, data) = (cpu(), digits(40, 20));
    let folder = tempfile::tempdir().unwrap();
    let rows = |seeds, first_seed| {
        let options = Options {
            seeds: Some(seeds),
            first_seed,
            epochs: Some(2),
            images: None,
            ..options(&device, Some(&data), folder.path())
        };
        run("ch3-full-l2", &options).rows
    };
    let (three, second) = (rows(3, 0), rows(1, 1));
    for (all, one) in three.iter().zip(&second) {
        assert_eq!(all.ours.len(), 3);
        assert_eq!(all.ours[1], one.ours[0], "{}", all.what);
    }
    assert!(three.iter().any(|row| row.ours[0] != row.ours[1]));
}

#[test]
fn missing_data_says_what_to_do() {
    let device = cpu();
    let folder = tempfile::tempdir().unwrap();
    let experiment = book::find("ch1-sigmoid-30").unwrap();
    let options = options(&device, None, folder.path());
    let message = book::run(experiment, &options, &mut |_| {})
        .unwrap_err()
        .to_string();
    for part in [
        "train-images-idx3-ubyte",
        "t10k-labels-idx1-ubyte",
        "data/mnist",
        "MNIST_DIR",
        "`synthetic` in its place",
    ] {
        assert!(message.contains(part), "{part} in {message}");
    }
}

/// An ensemble that was stopped goes on where it was, and ends as if it never had been.
#[test]
fn an_ensemble_is_resumed() {
    let (device, data) = (cpu(), digits(20, 12));
    let run_in = |folder: &std::path::Path, epochs| {
        let options = Options {
            seeds: None,
            epochs: Some(epochs),
            ..options(&device, Some(&data), folder)
        };
        let record = run("ch6-ensemble", &options);
        let model = std::fs::read(folder.join("model.safetensors")).unwrap();
        (model, record)
    };
    let note = |record: &Record| {
        let mut notes = record.notes.iter();
        notes.any(|n| n.contains("went on after epoch 1 of an earlier run; the seconds"))
    };
    let (stopped, whole) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (first, record) = run_in(stopped.path(), 1);
    assert!(!note(&record), "{:?}", record.notes);
    let (resumed, record) = run_in(stopped.path(), 2);
    assert!(note(&record), "{:?}", record.notes);
    assert_ne!(first, resumed);
    assert_eq!(resumed, run_in(whole.path(), 2).0);
    let each: Vec<&str> = record.rows.iter().map(|r| r.each.as_str()).collect();
    assert_eq!(each, ["", "", "network"]);
    // Two epochs, of which the second run trained one.
    let path = stopped.path().join("certificate.json");
    let certificate = book::certificate::Certificate::read(&path).unwrap();
    assert!(certificate.seconds > 0.0);
    assert_eq!(certificate.device, device.info().name);
}

/// The same of networks that are trained for their numbers.
#[test]
fn a_long_run_says_that_it_went_on() {
    let (device, data) = (cpu(), digits(20, 12));
    let folder = tempfile::tempdir().unwrap();
    let notes = |epochs| {
        let options = Options {
            epochs: Some(epochs),
            ..options(&device, Some(&data), folder.path())
        };
        run("ch6-shallow", &options).notes.join(" ")
    };
    assert!(!notes(1).contains("went on"));
    assert!(notes(2).contains("the network: went on after epoch 1 of an earlier run;"));
}

/// A replica whose cost overflows does not take the others along.
#[test]
fn survivors_have_the_numbers_that_they_would_have_had() {
    let (device, data) = (cpu(), digits(20, 12));
    let folder = tempfile::tempdir().unwrap();
    let options = Options {
        epochs: Some(2),
        ..options(&device, Some(&data), folder.path())
    };
    let sweep = |rates: [f64; 4]| {
        let mut experiment = book::find("ch3-learning-rates").unwrap().clone();
        experiment.runs[0].rates = rates.to_vec();
        book::run(&experiment, &options, &mut |_| {}).unwrap()
    };
    let sound = sweep([0.025, 0.25, 0.5, 2.5]);
    let two_lost = sweep([0.025, 1e35, 1e36, 2.5]);
    let ours = |record: &Record| -> Vec<Vec<f64>> {
        record.rows.iter().map(|row| row.ours.clone()).collect()
    };
    let (all, left) = (ours(&sound), ours(&two_lost));
    assert_eq!(left, [all[0].clone(), vec![], vec![], all[3].clone()]);
    let told = |note: &&String| note.contains("does not train: epoch 1, ");
    assert_eq!(two_lost.notes.iter().filter(told).count(), 2);
    assert_eq!(two_lost.plots[0].series[0], sound.plots[0].series[0]);
    assert_eq!(two_lost.plots[1].series[0].points.len(), 2);

    let mut none = book::find("ch1-sigmoid-30").unwrap().clone();
    (none.runs[0].eta, none.runs[0].per_example) = (1e35, 5.0);
    let record = book::run(&none, &options, &mut |_| {}).unwrap();
    assert!(record.rows.iter().all(|row| row.ours.is_empty()));
    for seed in 0..2 {
        let told = format!("the network does not train under seed {seed}: epoch 1, ");
        assert!(
            record.notes.iter().any(|n| n.starts_with(&told)),
            "{:?}",
            record.notes
        );
    }
}

/// The sweep plots what the book's `multiple_eta.py` does: the cost on the training images
/// after each epoch, with the decay's term.
#[test]
fn the_sweep_plots_the_cost_on_the_training_images() {
    let (device, data) = (cpu(), digits(20, 12));
    let folder = tempfile::tempdir().unwrap();
    let options = Options {
        epochs: Some(2),
        ..options(&device, Some(&data), folder.path())
    };
    let record = run("ch3-learning-rates", &options);
    let described = &book::find("ch3-learning-rates").unwrap().runs[0];
    let place = described.rates.iter().position(|r| *r == 0.25).unwrap();
    let settings = Settings {
        replica_rates: vec![0.25],
        first_replica: place,
        measure_training: true,
        ..described.settings(2)
    };
    let data = options.data.unwrap();
    // Options of these tests hold out half as many as they train on.
    let held_out = Split {
        validation: data.validation.first(10).unwrap(),
        test: data.test.first(10).unwrap(),
        ..data.clone()
    };
    let network = described.network([1, 28, 28]).unwrap();
    let mut trainer = Trainer::new(&network, &held_out, &settings, &device).unwrap();
    let epochs = trainer.run(&mut |_| {}).unwrap().epochs;
    let wanted: Vec<(f64, f64)> = epochs
        .iter()
        .map(|e| (e.epoch as f64, e.set_cost[0] + e.penalty[0]))
        .collect();
    assert!(epochs[0].penalty[0] > 0.0);
    let curves = &record.plots[0].series;
    let curve = curves.iter().find(|s| s.name == "η = 0.25").unwrap();
    assert_eq!(curve.points, wanted);
}

#[test]
fn numbers_out_of_range_are_refused() {
    let (device, data) = (cpu(), digits(20, 12));
    let folder = tempfile::tempdir().unwrap();
    let usual = || options(&device, Some(&data), folder.path());
    for id in ["ch1-sigmoid-30", "ch6-ensemble", "ch5-gradient-norms"] {
        for huge in [usize::MAX, 0] {
            let refused = |options: Options<'_>| {
                let run = book::run(book::find(id).unwrap(), &options, &mut |_| {});
                run.unwrap_err().to_string()
            };
            let seeds = Options {
                seeds: Some(huge),
                ..usual()
            };
            assert!(refused(seeds).starts_with(&format!("seeds: found {huge}")));
            let epochs = Options {
                epochs: Some(huge),
                ..usual()
            };
            assert!(refused(epochs).starts_with(&format!("epochs: found {huge}")));
        }
        let first = Options {
            first_seed: usize::MAX,
            ..usual()
        };
        let run = book::run(book::find(id).unwrap(), &first, &mut |_| {});
        assert!(
            run.unwrap_err()
                .to_string()
                .starts_with("first seed: found")
        );
    }
}

/// Fewer images than a mini-batch are one mini-batch.
#[test]
fn few_images_are_one_batch() {
    let (device, data) = (cpu(), digits(20, 12));
    let folder = tempfile::tempdir().unwrap();
    for id in [
        "ch5-relu",
        "ch3-learning-rates",
        "ch2-gradient-check",
        "ch2-matrix",
    ] {
        let options = Options {
            images: Some(5),
            ..options(&device, Some(&data), folder.path())
        };
        assert!(!run(id, &options).rows.is_empty());
    }
}

#[test]
fn what_is_not_in_the_book_has_no_value_of_it() {
    let vote = |id| book::find(id).unwrap().vote.clone().unwrap();
    assert_eq!(vote("ch6-ensemble").accuracy, Some(99.67));
    let modern = vote("ch6-modern");
    assert_eq!((modern.accuracy, modern.errors), (None, None));
}

fn small() -> Network {
    Network::new([1, 28, 28])
        .flatten()
        .dense(8)
        .sigmoid()
        .dense(10)
        .sigmoid()
        .cost(Cost::CrossEntropy)
        .init(Init::Scaled)
}

/// Measures after an epoch, with one readback, and the decay's term from the weights.
#[test]
fn the_training_set_is_measured() {
    let data = digits(40, 20);
    let settings = Settings {
        epochs: 2,
        batch: 5,
        l2: wgrad::book::train::Decay::PerExample(4.0),
        measure_training: true,
        ..Settings::default()
    };
    let mut trainer = Trainer::new(&small(), &data, &settings, &cpu()).unwrap();
    let before = trainer.traffic().readbacks;
    let (epoch, _) = trainer.epoch(&mut |_| {}).unwrap();
    assert_eq!(trainer.traffic().readbacks, before + 1);
    let model = trainer.model().unwrap();
    let mut predictor = wgrad::book::train::Predictor::new(&model, &data.train, &cpu()).unwrap();
    let wanted = predictor.evaluate().unwrap();
    assert!((epoch.set_cost[0] - wanted.cost[0]).abs() < 1e-6);
    assert_eq!(epoch.set_accuracy, wanted.accuracy);
    let weights = model.replicas[0]
        .iter()
        .filter(|(n, _)| n.ends_with("weight"));
    let squares: f64 = weights
        .flat_map(|(_, t)| t)
        .map(|&w| f64::from(w).powi(2))
        .sum();
    let penalty = 0.5 * 4.0 / 40.0 * squares;
    assert!((epoch.penalty[0] - penalty).abs() < 1e-9 * penalty);
}

/// A replica that has stopped keeps its weights, the others learn on, and the run ends
/// when all have stopped.
#[test]
fn replicas_stop_by_themselves() {
    let data = digits(40, 20);
    let settings = Settings {
        epochs: 60,
        batch: 5,
        // The second replica does not learn at all, so it never improves.
        replica_rates: vec![1.0, 0.0],
        replicas: 2,
        learning_rates: vec![0.5],
        stop_after: Some(3),
        momentum: 0.5,
        ..Settings::default()
    };
    let mut trainer = Trainer::new(&small(), &data, &settings, &cpu()).unwrap();
    let start = trainer.model().unwrap();
    let outcome = trainer.run(&mut |_| {}).unwrap();
    let standings = trainer.standings();
    assert_eq!(standings[1].stopped, Some(4));
    let own: Vec<f64> = outcome
        .epochs
        .iter()
        .map(|e| e.validation_accuracy[0])
        .collect();
    assert_eq!(standings[0], Standing::after(&own, Some(3), None));
    let end = standings[0].stopped.unwrap();
    assert!(end > 4, "{own:?}");
    assert_eq!(outcome.epochs.len(), end);
    let model = trainer.model().unwrap();
    assert_eq!(model.replicas[1], start.replicas[1]);
    assert_ne!(model.replicas[0], start.replicas[0]);
}

/// A replica's rate is a factor on the run's, so each equals a run at that rate alone.
#[test]
fn a_sweep_is_one_plan() {
    let data = digits(40, 20);
    let settings = |rates: Vec<f64>, rate, first_replica| Settings {
        epochs: 2,
        replicas: rates.len().max(1),
        replica_rates: rates,
        learning_rates: vec![rate],
        first_replica,
        ..Settings::default()
    };
    let weights = |settings: &Settings| {
        let mut trainer = Trainer::new(&small(), &data, settings, &cpu()).unwrap();
        trainer.run(&mut |_| {}).unwrap();
        trainer.model().unwrap().sha256()
    };
    let sweep = weights(&settings(vec![0.25, 2.0], 0.5, 0));
    assert_eq!(sweep[0], weights(&settings(vec![], 0.125, 0))[0]);
    assert_eq!(sweep[1], weights(&settings(vec![], 1.0, 1))[0]);
}

//! What a run measures after which epochs, of which data and of which weights: the training data too, now and then
//! alone, the mean of weights over epochs.

mod common;

use common::gpu;
use wgrad::data::{Dataset, Shards};
use wgrad::exec::{Choice, Device};
use wgrad::fit::{
    Callback, Control, EarlyStop, Epoch, Fit, Loss, Metric, Outcome, Plateau, Progress, Weights,
};
use wgrad::model::{Model, layers::*};
use wgrad::optim::{Optimizer, Sgd};
use wgrad::{Error, Result};

fn cpu() -> Device {
    Device::open(Choice::Cpu).unwrap()
}

fn devices() -> Vec<Device> {
    std::iter::once(cpu()).chain(gpu()).collect()
}

/// With statistics, and with what training alone does.
fn model() -> Model {
    let model = Model::sequential([4]).then(Dense::new(6)).then(Tanh);
    let model = model.then(BatchNorm::new()).then(Dropout::new(0.3));
    model.then(Dense::new(3)).build().unwrap()
}

fn data(rows: usize, phase: f32) -> Dataset {
    let x = (0..rows * 4).map(|i| (i as f32 * 0.7 + phase).sin());
    let y = (0..rows as u32).map(|i| (i * 7 + i / 3) % 3);
    let data = Dataset::new().with("input", [4], x.collect::<Vec<_>>());
    let data = data.unwrap().with("target", [], y.collect::<Vec<_>>());
    data.unwrap()
}

fn fit<'a>(model: &'a Model, validation: &'a Dataset, epochs: usize) -> Fit<'a> {
    let sgd = Sgd {
        momentum: 0.5,
        ..Sgd::default()
    };
    let fit = Fit::new(model, Loss::cross_entropy(), Optimizer::new(sgd, 0.3));
    let fit = fit.metric(Metric::accuracy()).metric(Metric::top(2));
    fit.batch(6)
        .epochs(epochs)
        .replicas(2)
        .validation(validation)
}

/// The weights of each epoch, as they are evaluated.
#[derive(Debug, Default)]
struct Seen(Vec<Vec<Weights>>);

impl Callback for &mut Seen {
    fn epoch(&mut self, _: &Epoch, control: &mut Control<'_>) -> Result<()> {
        self.0.push(control.weights()?);
        Ok(())
    }

    fn observes(&self) -> bool {
        true
    }
}

/// The numbers of the training data are those that the same weights have where the data are validated; a run is what
/// it is without them. Data in shards have the same.
#[test]
fn training_data_are_measured_as_they_are() {
    let (model, train, other) = (model(), data(40, 0.0), data(27, 0.4));
    for device in devices() {
        let plain = fit(&model, &other, 3).run(&train, &device).unwrap();
        let mut seen = Seen::default();
        let measured = fit(&model, &other, 3).measure_training();
        let measured = measured.with(&mut seen).run(&train, &device).unwrap();
        assert_eq!(measured.weights, plain.weights);
        let epochs = measured.report.epochs.iter().zip(&plain.report.epochs);
        for ((epoch, plain), weights) in epochs.zip(&seen.0) {
            assert_eq!(epoch.validation, plain.validation);
            assert_eq!(epoch.training_loss, plain.training_loss);
            assert!(plain.training.is_empty());
            assert_eq!(epoch.training.len(), 2);
            for (scores, weights) in epoch.training.iter().zip(weights) {
                let found = fit(&model, &train, 1).evaluate(weights, &device).unwrap();
                assert_eq!(found[0].1, *scores);
            }
            let mean = (epoch.training[0].loss + epoch.training[1].loss) / 2.0;
            assert_eq!(epoch.get("training set loss"), Some(mean));
            let names = epoch.names();
            let own = [
                "training set loss",
                "training set accuracy",
                "training set top 2",
            ];
            assert_eq!(names[1..4], own);
        }
        let sharded = fit(&model, &other, 3).measure_training();
        let sharded = sharded.run(Shards::of(&train, 17), &device).unwrap();
        let last = &sharded.report.epochs[2];
        let found = fit(&model, &train, 1).evaluate(&sharded.weights[1], &device);
        let found = &found.unwrap()[0].1;
        assert!((found.loss - last.training[1].loss).abs() < 1e-5 * found.loss);
        assert_eq!(found.get("accuracy"), last.training[1].get("accuracy"));
    }
}

/// What the epochs have that are evaluated.
fn evaluated(outcome: &Outcome) -> Vec<usize> {
    let epochs = outcome.report.epochs.iter();
    let some = epochs.filter(|epoch| !epoch.validation.is_empty());
    some.map(|epoch| epoch.epoch).collect()
}

#[test]
fn some_epochs_alone_are_evaluated_and_watched() {
    let (model, train, other) = (model(), data(40, 0.0), data(27, 0.4));
    let device = cpu();
    let begun = || fit(&model, &other, 8).measure_training();
    let plain = begun().run(&train, &device).unwrap();
    let some = begun().evaluate_every(3).run(&train, &device).unwrap();
    assert_eq!(evaluated(&plain), [1, 2, 3, 4, 5, 6, 7, 8]);
    assert_eq!(evaluated(&some), [3, 6, 8]);
    assert_eq!(some.weights, plain.weights);
    for (epoch, plain) in some.report.epochs.iter().zip(&plain.report.epochs) {
        assert_eq!(epoch.training_loss, plain.training_loss);
        if !epoch.validation.is_empty() {
            assert_eq!(epoch.validation, plain.validation);
            assert_eq!(epoch.training, plain.training);
        }
    }
    // Nothing gets better than the first number that is seen, so that the second one ends the run.
    let stop = EarlyStop::on("training set accuracy")
        .patience(2)
        .by_at_least(1.0);
    let stopped = begun()
        .evaluate_every(3)
        .with(stop)
        .run(&train, &device)
        .unwrap();
    assert_eq!(
        (stopped.report.epochs.len(), stopped.report.chosen_epochs[0]),
        (6, 3)
    );
    // Rates fall after the second number, which is the last but one, and not after epochs without.
    let plateau = || {
        Plateau::on("validation accuracy")
            .patience(1)
            .by_at_least(1.0)
    };
    let lowered = begun()
        .evaluate_every(3)
        .with(plateau())
        .run(&train, &device)
        .unwrap();
    let losses = |outcome: &Outcome| {
        let epochs = outcome.report.epochs.iter();
        epochs
            .map(|epoch| epoch.training_loss.clone())
            .collect::<Vec<_>>()
    };
    let (lowered, plain) = (losses(&lowered), losses(&plain));
    let near =
        |(a, b): &(&Vec<f64>, &Vec<f64>)| a.iter().zip(*b).all(|(a, b)| (a - b).abs() < 1e-4);
    assert_eq!(lowered.iter().zip(&plain).take_while(near).count(), 6);
    for (fit, wanted) in [
        (
            begun().evaluate_every(0),
            "evaluate every: found 0; wanted at least 1",
        ),
        (
            begun().evaluate_every(9).with(plateau()),
            "evaluate every: found 9; wanted at most the 8 epochs",
        ),
        (
            fit(&model, &other, 2).with(EarlyStop::on("training set loss")),
            "unknown number of an epoch `training set loss`",
        ),
    ] {
        let refused = fit.check(&train).unwrap_err().to_string();
        assert!(refused.starts_with(wanted), "{refused}");
    }
    // What every epoch has is acted on without an evaluation.
    let stop = EarlyStop::on("training loss");
    let fit = begun().evaluate_every(9).with(stop);
    fit.check(&train).unwrap();
}

/// A run that goes on to more epochs is the one that was never interrupted, though its first part ended with an evaluation
/// that the whole does not have; and a run that a callback ends has the scores of its end.
#[test]
fn the_last_evaluation_acts_on_nothing() {
    let (model, train, other) = (model(), data(40, 0.0), data(27, 0.4));
    let (device, folder) = (cpu(), tempfile::tempdir().unwrap());
    let file = folder.path().join("run");
    let begun = |epochs| {
        let fit = fit(&model, &other, epochs).evaluate_every(3);
        let plateau = Plateau::on("validation loss").patience(1).by_at_least(10.0);
        fit.measure_training().with(plateau)
    };
    let whole = begun(9).run(&train, &device).unwrap();
    let first = begun(4).checkpoints(&file).run(&train, &device).unwrap();
    assert_eq!(evaluated(&first), [3, 4]);
    let again = begun(4).checkpoints(&file).resume();
    assert_eq!(again.run(&train, &device).unwrap().report, first.report);
    let resumed = begun(9).checkpoints(&file).resume();
    let resumed = resumed.run(&train, &device).unwrap();
    assert_eq!(evaluated(&resumed), [3, 6, 9]);
    assert_eq!(resumed.weights, whole.weights);
    // A run that is over stays as it was.
    let over = begun(9).checkpoints(&file).resume().run(&train, &device);
    assert_eq!(evaluated(&over.unwrap()), [3, 6, 9]);
    let plateau = Plateau::on("validation loss").patience(1).by_at_least(10.0);
    let without = fit(&model, &other, 12).evaluate_every(3).with(plateau);
    let refused = without.checkpoints(&file).resume().run(&train, &device);
    let refused = refused.unwrap_err().to_string();
    assert!(refused.contains("training data measured"), "{refused}");
    let stop = EarlyStop::on("training loss").patience(1).by_at_least(5.0);
    let stops = || fit(&model, &other, 9).evaluate_every(3).with(stop.clone());
    let kept = folder.path().join("stopped");
    let stopped = stops().checkpoints(&kept).run(&train, &device).unwrap();
    let again = stops().checkpoints(&kept).resume();
    assert_eq!(again.run(&train, &device).unwrap().report, stopped.report);
    assert_eq!(
        (stopped.report.epochs.len(), evaluated(&stopped)),
        (2, vec![2])
    );
    // Whoever looks on is shown the scores of the epoch after which the run was stopped.
    let mut shown = Vec::new();
    let stop = EarlyStop::on("training loss").patience(1).by_at_least(5.0);
    let run = fit(&model, &other, 9).evaluate_every(3);
    let run = run.with(Progress::new(|epoch: &Epoch| {
        shown.push(epoch.validation.len());
    }));
    run.with(stop).run(&train, &device).unwrap();
    assert_eq!(shown, [0, 2]);
}

/// What has overflowed is told as without a watcher, and what a metric lacks by the data that lack it.
#[test]
fn a_watched_number_that_is_none_is_told_by_its_cause() {
    let (model, train, other) = (model(), data(40, 0.0), data(27, 0.4));
    let sgd = Sgd {
        l2: 1.0,
        ..Sgd::default()
    };
    let fit = Fit::new(&model, Loss::cross_entropy(), Optimizer::new(sgd, 3e38));
    let fit = fit
        .batch(40)
        .epochs(2)
        .validation(&other)
        .measure_training();
    let lost = fit
        .with(EarlyStop::on("training set loss"))
        .run(&train, &cpu());
    let lost = lost.unwrap_err();
    assert!(matches!(lost, Error::NotFinite { .. }), "{lost}");
    assert!(lost.to_string().contains("dense.weight"), "{lost}");
    let one = Model::sequential([4]).then(Dense::new(1)).build().unwrap();
    let same = Dataset::new()
        .with("input", [4], vec![0.5f32; 160])
        .unwrap();
    let same = same.with("target", [1], vec![1.0f32; 40]).unwrap();
    let fit = Fit::new(&one, Loss::mse(), Optimizer::new(Sgd::default(), 0.1));
    let fit = fit
        .batch(8)
        .epochs(2)
        .metric(Metric::r2())
        .measure_training();
    let none = fit
        .with(EarlyStop::on("training set r2"))
        .run(&same, &cpu());
    let none = none.unwrap_err().to_string();
    assert!(none.contains("the training rows may lack"), "{none}");
}

/// Columns may be called what they like.
#[test]
fn columns_have_names_of_their_own() {
    let names = [
        "step",
        "order",
        "total 0",
        "guard",
        "loss",
        "keys",
        "set target",
    ];
    for name in names {
        let x: Vec<f32> = (0..80).map(|i| (i as f32 * 0.3).sin()).collect();
        let y: Vec<f32> = (0..40).map(|i| (i as f32 * 0.7).cos()).collect();
        let all = Dataset::new().with(name, [2], x).unwrap();
        let all = all.with("target", [1], y.clone()).unwrap();
        let all = all.with("training", [1], y).unwrap();
        let model = Model::build(|m| {
            let x = m.input(name, [2]);
            m.output("y", x.layer("dense", Dense::new(1)));
        });
        let model = model.unwrap();
        let both = Loss::mse() + Loss::mae().against("training") * 0.1;
        let fit = || {
            let fit = Fit::new(&model, both.clone(), Optimizer::new(Sgd::default(), 0.1));
            fit.batch(8).epochs(1).validation(&all).measure_training()
        };
        fit()
            .run(&all, &cpu())
            .unwrap_or_else(|e| panic!("{name}: {e}"));
        let sharded = fit().run(Shards::of(&all, 16), &cpu());
        sharded.unwrap_or_else(|e| panic!("{name}, in shards: {e}"));
    }
}

/// Of each tensor the mean over some epochs' weights, added up here; statistics are the last ones.
fn mean(epochs: &[Vec<Weights>], replica: usize) -> Vec<(String, Vec<f64>)> {
    let last = epochs.last().unwrap()[replica].tensors().iter();
    let of = |(name, tensor): &(String, ndarray::ArrayD<f32>)| {
        let share = 1.0 / epochs.len() as f64;
        let mut sums = vec![0.0; tensor.len()];
        for epoch in epochs {
            let own = epoch[replica].get(name).unwrap();
            for (sum, &w) in sums.iter_mut().zip(own) {
                *sum += share * f64::from(w);
            }
        }
        if name.contains("running") {
            sums = tensor.iter().map(|&x| f64::from(x)).collect();
        }
        (name.clone(), sums)
    };
    last.map(of).collect()
}

#[test]
fn the_mean_over_epochs_is_evaluated_and_left() {
    let (model, train, other) = (model(), data(40, 0.0), data(27, 0.4));
    for device in devices() {
        let mut plain = Seen::default();
        let run = fit(&model, &other, 6).with(&mut plain);
        let run = run.run(&train, &device).unwrap();
        let mut means = Seen::default();
        let averaged = fit(&model, &other, 6).average_from(3).test(&other);
        let averaged = averaged.with(&mut means).run(&train, &device).unwrap();
        for epoch in 1..=6usize {
            let from = if epoch < 3 { epoch } else { 3 };
            for replica in 0..2 {
                let wanted = mean(&plain.0[from - 1..epoch], replica);
                let found = &means.0[epoch - 1][replica];
                for ((name, wanted), (_, found)) in wanted.iter().zip(found.tensors()) {
                    for (wanted, &found) in wanted.iter().zip(found) {
                        let off = (wanted - f64::from(found)).abs();
                        assert!(off < 1e-6, "epoch {epoch}, {name}: {found}, not {wanted}");
                    }
                }
                let scores = &averaged.report.epochs[epoch - 1].validation[replica];
                let of = fit(&model, &other, 1).evaluate(found, &device).unwrap();
                assert_eq!(of[0].1, *scores, "epoch {epoch}");
            }
        }
        let trained = |outcome: &Outcome| {
            let epochs = outcome.report.epochs.iter();
            epochs.map(|e| e.training_loss.clone()).collect::<Vec<_>>()
        };
        assert_eq!(trained(&averaged), trained(&run));
        assert_eq!(averaged.weights, means.0[5]);
        assert_eq!(averaged.report.test, averaged.report.epochs[5].validation);
    }
}

/// A run that goes on has the mean of one that was never interrupted, also over data in shards; a checkpoint of a run
/// with another mean is refused.
#[test]
fn a_mean_goes_on() {
    let (model, train, other) = (model(), data(40, 0.0), data(27, 0.4));
    let (device, folder) = (cpu(), tempfile::tempdir().unwrap());
    for (k, shard) in [40, 17].into_iter().enumerate() {
        let file = folder.path().join(k.to_string());
        let given = || Shards::of(&train, shard);
        let begun = |epochs| fit(&model, &other, epochs).evaluate_every(2);
        let whole = begun(6).average_from(2).run(given(), &device).unwrap();
        let first = begun(4).average_from(2).checkpoints(&file);
        first.run(given(), &device).unwrap();
        let refused = begun(6).average_from(3).checkpoints(&file).resume();
        let refused = refused.run(given(), &device).unwrap_err().to_string();
        assert!(refused.contains("first epoch of the mean"), "{refused}");
        let refused = fit(&model, &other, 6)
            .average_from(2)
            .checkpoints(&file)
            .resume();
        let refused = refused.run(given(), &device).unwrap_err().to_string();
        assert!(refused.contains("epochs to an evaluation"), "{refused}");
        let resumed = begun(6).average_from(2).checkpoints(&file).resume();
        let resumed = resumed.run(given(), &device).unwrap();
        assert_eq!(resumed.weights, whole.weights);
        // Not a mean over fewer epochs.
        let later = begun(6).average_from(4).run(given(), &device).unwrap();
        assert_ne!(later.weights, whole.weights);
    }
}

#[test]
fn a_mean_is_over_epochs_that_there_are() {
    let (model, train, other) = (model(), data(40, 0.0), data(27, 0.4));
    for (from, wanted) in [(0, "1 to 4, the last epoch"), (5, "1 to 4, the last epoch")] {
        let refused = fit(&model, &other, 4).average_from(from).check(&train);
        match refused.unwrap_err() {
            Error::Setting {
                name, wanted: w, ..
            } => {
                assert_eq!((&*name, &*w), ("first epoch of the mean", wanted));
            }
            other => panic!("{other}"),
        }
    }
    let both = Optimizer::new(Sgd::default(), 0.1).average(0.9);
    let both = Fit::new(&model, Loss::cross_entropy(), both).average_from(1);
    let refused = both.check(&train).unwrap_err().to_string();
    assert!(
        refused.starts_with("average over steps: found one"),
        "{refused}"
    );
}

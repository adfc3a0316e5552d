//! Averages of the weights at the front door: what they are, that they are what is evaluated and left, and where they
//! begin.

mod common;

use common::gpu;
use wgrad::data::Dataset;
use wgrad::exec::{Choice, Device};
use wgrad::fit::{
    Callback, Control, EarlyStop, Epoch, Fit, JointStep, Loss, Metric, TrainStep, Weights,
};
use wgrad::model::{Model, layers::*};
use wgrad::optim::{Adam, Group, Optimizer, Sgd};
use wgrad::{Error, Result};

fn devices() -> Vec<Device> {
    let cpu = Device::open(Choice::Cpu).unwrap();
    std::iter::once(cpu).chain(gpu()).collect()
}

/// A network with statistics, which have no average.
fn model() -> Model {
    let model = Model::sequential([4]).then(Dense::new(6));
    let model = model.then(BatchNorm::new()).then(Tanh).then(Dense::new(1));
    model.build().unwrap()
}

fn data(rows: usize) -> Dataset {
    let x = (0..rows * 4)
        .map(|i| (i as f32 * 0.7).sin())
        .collect::<Vec<_>>();
    let y = (0..rows)
        .map(|i| (i as f32 * 0.3).cos())
        .collect::<Vec<_>>();
    let data = Dataset::new().with("input", [4], x).unwrap();
    data.with("target", [1], y).unwrap()
}

const DECAY: f64 = 0.8;

fn adam() -> Optimizer {
    Optimizer::new(Adam::default(), 0.02)
}

fn close(found: &Weights, wanted: &[(String, Vec<f64>)], what: &str) {
    assert_eq!(found.tensors().len(), wanted.len());
    for ((name, found), (_, wanted)) in found.tensors().iter().zip(wanted) {
        for (found, wanted) in found.iter().zip(wanted) {
            let off = (f64::from(*found) - wanted).abs();
            assert!(off < 1e-6, "{what}, {name}: {found}, not {wanted}");
        }
    }
}

fn wide(weights: &Weights) -> Vec<(String, Vec<f64>)> {
    let tensors = weights.tensors().iter();
    let wide = tensors.map(|(name, tensor)| {
        let values = tensor.iter().map(|&x| f64::from(x));
        (name.clone(), values.collect())
    });
    wide.collect()
}

/// a ← d a + (1 − d) w of parameters, and statistics as they are, added up here from the weights of each step.
fn next(averages: &mut [(String, Vec<f64>)], weights: &Weights) {
    for ((name, averages), (_, weights)) in averages.iter_mut().zip(wide(weights)) {
        let share = if name.contains("running") {
            1.0
        } else {
            1.0 - DECAY
        };
        for (a, w) in averages.iter_mut().zip(weights) {
            *a += share * (w - *a);
        }
    }
}

/// A step's averages are those of its weights, from the first weights or from such as are given later on.
#[test]
fn a_step_gives_the_averages_of_its_weights() {
    let (model, loss, optimizer) = (model(), Loss::mse(), adam().average(DECAY));
    for device in devices() {
        let name = &device.info().name;
        let step = TrainStep::builder(&model, &loss, &optimizer).batch(8);
        let mut step = step.compile_over(&data(40), &device).unwrap();
        let mut wanted = wide(&step.weights().unwrap()[0]);
        close(&step.averages().unwrap()[0], &wanted, name);
        for _ in 0..7 {
            step.run(1).unwrap();
            next(&mut wanted, &step.weights().unwrap()[0]);
        }
        close(&step.averages().unwrap()[0], &wanted, name);
        let given = Weights::initial(&model, 9);
        step.set_weights(&given).unwrap();
        let mut wanted = wide(&given);
        close(&step.averages().unwrap()[0], &wanted, name);
        step.run(1).unwrap();
        next(&mut wanted, &step.weights().unwrap()[0]);
        close(&step.averages().unwrap()[0], &wanted, name);
        let none = adam();
        let without = TrainStep::builder(&model, &loss, &none).compile(&device);
        let error = without.unwrap().averages().unwrap_err().to_string();
        assert!(
            error.starts_with("averages of the weights: found none"),
            "{error}"
        );
    }
}

/// What callbacks see of each epoch.
#[derive(Debug, Default)]
struct Seen(Vec<Vec<Weights>>);

impl Callback for &mut Seen {
    fn epoch(&mut self, _: &Epoch, control: &mut Control<'_>) -> Result<()> {
        self.0.push(control.weights()?);
        Ok(())
    }
}

/// A run evaluates the averages, shows them to callbacks and leaves them; what a replica has is its own, and given
/// weights are where they begin.
#[test]
fn a_run_evaluates_and_leaves_the_averages() {
    let (model, train, other) = (model(), data(40), data(27));
    let given = Weights::initial(&model, 9);
    for device in devices() {
        for from in [None, Some(&given)] {
            let fit = |optimizer: Optimizer| {
                let fit = Fit::new(&model, Loss::mse(), optimizer).metric(Metric::mae());
                let fit = fit
                    .batch(8)
                    .epochs(3)
                    .replicas(2)
                    .validation(&other)
                    .test(&other);
                match from {
                    Some(weights) => fit.from(weights),
                    None => fit,
                }
            };
            let mut seen = Seen::default();
            let averaged = fit(adam().average(DECAY))
                .with(&mut seen)
                .run(&train, &device);
            let averaged = averaged.unwrap();
            assert_eq!(seen.0[2], averaged.weights);
            // The steps are those of a run without, up to the rounding of updates that are fused otherwise.
            let plain = fit(adam()).run(&train, &device).unwrap();
            for (a, b) in averaged.report.epochs.iter().zip(&plain.report.epochs) {
                for (a, b) in a.training_loss.iter().zip(&b.training_loss) {
                    assert!((a - b).abs() < 1e-5, "{a} {b}");
                }
            }
            assert_ne!(averaged.weights, plain.weights);
            // The numbers are those of these weights.
            for (epoch, weights) in averaged.report.epochs.iter().zip(&seen.0) {
                for (scores, weights) in epoch.validation.iter().zip(weights) {
                    let found = fit(adam()).evaluate(weights, &device).unwrap();
                    assert_eq!(found[0].1.loss, scores.loss);
                    assert_eq!(found[0].1.get("mae"), scores.get("mae"));
                }
            }
            let last = fit(adam()).evaluate(&averaged.weights[1], &device).unwrap();
            assert_eq!(last[1].1.loss, averaged.report.test[1].loss);
            // By a step of one's own, whose order of rows and weights are those of the first replica.
            if let Some(weights) = from {
                let (loss, optimizer) = (Loss::mse(), adam().average(DECAY));
                let step = TrainStep::builder(&model, &loss, &optimizer).batch(8);
                let mut step = step.compile_over(&train, &device).unwrap();
                step.set_weights(weights).unwrap();
                step.run(15).unwrap();
                close(
                    &averaged.weights[0],
                    &wide(&step.averages().unwrap()[0]),
                    "a step",
                );
            }
        }
    }
}

/// The weights of an earlier epoch are its averages, and their test is of them; a run that goes on has the same.
#[test]
fn the_best_epochs_averages_are_chosen_and_kept() {
    let (model, train, other) = (model(), data(40), data(27));
    let device = Device::open(Choice::Cpu).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("run");
    // A rate that does not settle.
    let optimizer = || Optimizer::new(Sgd::default(), 0.2).average(DECAY);
    let fit = |epochs: usize| {
        let fit = Fit::new(&model, Loss::mse(), optimizer())
            .batch(8)
            .epochs(epochs);
        let fit = fit.validation(&other).test(&other).seed(3);
        fit.with(EarlyStop::on("validation loss").patience(50))
    };
    let whole = fit(12).run(&train, &device).unwrap();
    let chosen = whole.report.chosen_epochs[0];
    assert!(chosen < 12, "{chosen}");
    let score = &whole.report.epochs[chosen - 1].validation[0];
    assert_eq!(score.loss, whole.report.test[0].loss);
    fit(5).checkpoints(&file).run(&train, &device).unwrap();
    let resumed = fit(12)
        .checkpoints(&file)
        .resume()
        .run(&train, &device)
        .unwrap();
    assert_eq!(resumed.weights, whole.weights);
}

/// What stays as it is, is its own average, also where it was given.
#[test]
fn a_frozen_parameter_is_its_own_average() {
    let (model, train) = (model(), data(40));
    let given = Weights::initial(&model, 9);
    let frozen = Group {
        frozen: true,
        ..Group::default()
    };
    for device in devices() {
        let optimizer = adam().average(DECAY);
        let optimizer = optimizer.group(|name| name == "dense.weight", frozen.clone());
        let fit = Fit::new(&model, Loss::mse(), optimizer)
            .batch(8)
            .epochs(2)
            .from(&given);
        let outcome = fit.run(&train, &device).unwrap();
        let of = |weights: &Weights, name: &str| weights.get(name).unwrap().clone();
        let left = &outcome.weights[0];
        assert_eq!(of(left, "dense.weight"), of(&given, "dense.weight"));
        assert_ne!(of(left, "dense.bias"), of(&given, "dense.bias"));
    }
}

/// A decay out of its range is told before anything runs.
#[test]
fn a_decay_is_a_share() {
    let (model, train) = (model(), data(40));
    let fit = Fit::new(&model, Loss::mse(), adam().average(1.5)).batch(8);
    let error = fit
        .run(&train, &Device::open(Choice::Cpu).unwrap())
        .unwrap_err();
    assert!(matches!(error, Error::Setting { .. }), "{error}");
    assert!(
        error.to_string().starts_with("decay of the average"),
        "{error}"
    );
}

/// Of several models in one step, each loss keeps the averages of what it trains.
#[test]
fn a_joint_step_gives_the_averages_of_a_model() {
    let (model, optimizer) = (model(), adam().average(DECAY));
    let given = Weights::initial(&model, 9);
    for device in devices() {
        let step = JointStep::builder().batch(8).seed(3);
        let mut step = step
            .compile_over(&data(40), &device, |s| {
                let net = s.model("net", &model)?;
                let (x, y) = (s.input("input", [4])?, s.input("target", [1])?);
                let answer = s.call(net, &[x])?;
                let loss = s.loss(&Loss::mse(), &[answer], &[y])?;
                s.minimise("fit", loss, &[net], &optimizer)
            })
            .unwrap();
        let mut wanted = wide(&step.weights("net").unwrap()[0]);
        for turn in 0..2 {
            for _ in 0..4 {
                step.run(1).unwrap();
                next(&mut wanted, &step.weights("net").unwrap()[0]);
            }
            close(&step.averages("fit", "net").unwrap()[0], &wanted, "joint");
            if turn == 0 {
                step.set_weights("net", &given).unwrap();
                wanted = wide(&given);
            }
        }
        let error = step.averages("other", "net").unwrap_err().to_string();
        assert!(
            error.starts_with("averages of net: found none of other"),
            "{error}"
        );
        assert!(step.averages("fit", "nett").is_err());
    }
}

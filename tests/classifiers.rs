//! Classifiers at the front door: a step takes as few launches as one of the book's, and what is added up on the way
//! is what the losses of each step say.

mod common;

use common::gpu;
use wgrad::book::nn::recipe;
use wgrad::data::Dataset;
use wgrad::data::digits::{Part, generate};
use wgrad::exec::{Choice, Device};
use wgrad::fit::{CrossEntropy, Fit, Inference, Loss, Outcome, TrainStep, Weights};
use wgrad::model::{Model, layers::*};
use wgrad::ops::{Cost, cross_entropy, log_likelihood, quadratic};
use wgrad::optim::{Adam, Optimizer, Sgd};
use wgrad::{Error, Result};

fn cpu() -> Device {
    Device::open(Choice::Cpu).unwrap()
}

fn devices() -> Vec<Device> {
    [Some(cpu()), gpu()].into_iter().flatten().collect()
}

/// The kernels of a training step.
fn kernels(fit: &Fit<'_>, data: &Dataset) -> Vec<&'static str> {
    let plan = fit.plan(data, &cpu()).unwrap();
    plan.programs["train"]
        .iter()
        .map(|l| l.kernel.name)
        .collect()
}

#[test]
fn a_step_takes_as_few_launches_as_the_books() {
    let data = generate(3, Part::Train, 40).unwrap().dataset().unwrap();
    let sgd = || Optimizer::new(Sgd::default(), 0.1);
    let network = recipe("mlp-30", [1, 28, 28], 10).unwrap().network;
    let model = network.model().unwrap();
    let fit = Fit::new(&model, Loss::cross_entropy().of("scores"), sgd()).batch(10);
    let five = [
        "gather_shuffled",
        "matmul_few",
        "dense_loss",
        "dense_grad",
        "dense_update",
    ];
    assert_eq!(kernels(&fit, &data), five);
    // What is no cost of classes alone is added up by itself.
    let smoothed = Loss::of_criterion(CrossEntropy {
        smoothing: 0.1,
        ..CrossEntropy::default()
    });
    let fit = Fit::new(&model, smoothed.of("scores"), sgd()).batch(10);
    assert!(!kernels(&fit, &data).contains(&"dense_loss"));
    let fit = Fit::new(&model, Loss::cross_entropy().of("scores"), sgd()).batch(40);
    assert!(kernels(&fit, &data).contains(&"dense_loss"));
    // A mini-batch that one workgroup has no room for.
    let many = generate(3, Part::Train, 70).unwrap().dataset().unwrap();
    let fit = Fit::new(&model, Loss::cross_entropy().of("scores"), sgd()).batch(70);
    assert!(!kernels(&fit, &many).contains(&"dense_loss"));
}

fn data(rows: usize) -> Dataset {
    let x: Vec<f32> = (0..rows * 3).map(|i| (i as f32 * 0.37).sin()).collect();
    let t: Vec<u32> = (0..rows).map(|i| (i * 7 % 4) as u32).collect();
    let data = Dataset::new().with("input", [3], x).unwrap();
    data.with("target", [], t).unwrap()
}

fn network() -> Model {
    let model = Model::sequential([3]).then(Dense::new(5)).then(Tanh);
    model.then(Dense::new(4)).build().unwrap()
}

/// Fed by hand, gathered, with and without the losses of each step: the same steps.
#[test]
fn sums_on_the_way_are_those_of_the_steps() {
    let (model, loss, data) = (network(), Loss::cross_entropy(), data(30));
    let optimizer = Optimizer::new(Adam::default(), 0.02);
    let builder = |kept: usize| {
        let step = TrainStep::builder(&model, &loss, &optimizer);
        let step = step.batch(6).replicas(2).seed(4);
        match kept {
            0 => step,
            kept => step.keep_losses(kept),
        }
    };
    for device in devices() {
        let place = &device.info().name;
        let mut each = builder(12).compile_over(&data, &device).unwrap();
        let mut sums = builder(0).compile_over(&data, &device).unwrap();
        let mut apart = builder(12).compile(&device).unwrap();
        let mut fed = builder(0).compile(&device).unwrap();
        let names = |step: &TrainStep| -> Vec<&str> {
            step.launches().iter().map(|l| l.kernel.name).collect()
        };
        assert!(
            names(&sums)
                .iter()
                .any(|name| name.starts_with("dense_loss"))
        );
        assert!(!names(&sums).contains(&"advance"), "{:?}", names(&sums));
        assert!(
            names(&fed)
                .iter()
                .any(|name| name.starts_with("dense_loss"))
        );
        assert!(names(&fed).contains(&"advance"), "{:?}", names(&fed));
        for (steps, feeding) in [(5, false), (1, false), (4, true), (2, true)] {
            let (one, other) = match feeding {
                false => (&mut each, &mut sums),
                true => (&mut apart, &mut fed),
            };
            if feeding {
                let x: Vec<f32> = (0..18)
                    .map(|i| (i as f32 * 0.7 + steps as f32).cos())
                    .collect();
                for step in [&mut *one, &mut *other] {
                    step.feed("input", &x).unwrap();
                    step.feed("target", &[0, 1, 2, 3, 3, 1]).unwrap();
                }
            }
            let run = |step: &mut TrainStep| -> Result<Vec<f64>> {
                step.run(steps)?;
                step.loss()
            };
            let (wanted, found) = (run(one).unwrap(), run(other).unwrap());
            for (wanted, found) in wanted.iter().zip(&found) {
                assert!(
                    (wanted / found - 1.0).abs() < 1e-6,
                    "{place}: {wanted} {found}"
                );
            }
            assert_ne!(found[0], found[1]);
            let kept = one.losses().unwrap();
            let last: f64 = kept[1][kept[1].len() - steps as usize..].iter().sum();
            assert!(
                (last / steps as f64 / found[1] - 1.0).abs() < 1e-6,
                "{place}"
            );
            assert_eq!(one.steps(), other.steps());
        }
        for (one, other) in [(&mut each, &mut sums), (&mut apart, &mut fed)] {
            let (wanted, found) = (one.weights().unwrap(), other.weights().unwrap());
            assert_eq!(wanted, found, "{place}");
        }
    }
}

/// The first step whose loss is not finite is named, and what it is of.
#[test]
fn a_loss_that_is_not_finite_is_named_by_its_step() {
    for device in devices() {
        let (model, data) = (network(), data(30));
        let fit = Fit::new(
            &model,
            Loss::cross_entropy(),
            Optimizer::new(Sgd::default(), 3e38),
        );
        let error = fit.batch(6).epochs(3).run(&data, &device).unwrap_err();
        let Error::NotFinite { place, step, .. } = error else {
            panic!("{error}");
        };
        assert!(place.starts_with("training loss, first in "), "{place}");
        // The first step's loss is finite, and the epoch has five.
        assert!((0..4).contains(&step), "{step}");
    }
}

/// The loss of scores and a class.
type Formula = fn(&[f64], usize) -> f64;

/// The book's costs by their formulas, in as few launches.
#[test]
fn the_books_costs_are_losses() {
    let data = data(30);
    let formulas: [(&'static Cost, Formula); 3] = [
        (&quadratic::COST, |y, t| {
            let off = |k: usize| y[k] - f64::from(u8::from(k == t));
            (0..y.len()).map(|k| off(k).powi(2) / 2.0).sum()
        }),
        (&cross_entropy::COST, |y, t| {
            let sigmoid = |y: f64| 1.0 / (1.0 + (-y).exp());
            let of = |k: usize| match k == t {
                true => -sigmoid(y[k]).ln(),
                false => -(1.0 - sigmoid(y[k])).ln(),
            };
            (0..y.len()).map(of).sum()
        }),
        (&log_likelihood::COST, |y, t| {
            y.iter().map(|y| y.exp()).sum::<f64>().ln() - y[t]
        }),
    ];
    let model = network();
    let weights = Weights::initial(&model, 9);
    let net = Inference::new(&model, &weights, 30, &cpu()).unwrap();
    let scores = net.run_on(&data).unwrap()["output"].mapv(f64::from);
    for (cost, formula) in formulas {
        let fit = || {
            let fit = Fit::new(
                &model,
                Loss::of_cost(cost),
                Optimizer::new(Sgd::default(), 0.5),
            );
            fit.batch(6).epochs(40).from(&weights).test(&data)
        };
        let rows = scores.outer_iter().enumerate();
        let losses = rows.map(|(row, y)| formula(y.as_slice().unwrap(), row * 7 % 4));
        let wanted = losses.sum::<f64>() / 30.0;
        let found = fit().evaluate(&weights, &cpu()).unwrap()[0].1.loss;
        assert!(
            (found / wanted - 1.0).abs() < 1e-6,
            "{}: {found}, {wanted}",
            cost.name
        );
        assert!(
            kernels(&fit(), &data).contains(&"dense_loss"),
            "{}",
            cost.name
        );
        let trained = fit().run(&data, &cpu()).unwrap().report.test[0].loss;
        assert!(
            trained < 0.99 * found,
            "{}: {trained} after {found}",
            cost.name
        );
    }
    // Of one score there are two classes, and of a sequence of scores none.
    let one = Model::sequential([3]).then(Dense::new(1)).build().unwrap();
    let fit = Fit::new(
        &one,
        Loss::of_cost(&quadratic::COST),
        Optimizer::new(Sgd::default(), 0.5),
    );
    let said = fit.check(&data).unwrap_err().to_string();
    assert!(said.contains("classes from 0 to 1"), "{said}");
    let several = Model::sequential([3, 3])
        .then(Dense::new(4))
        .build()
        .unwrap();
    let loss = Loss::of_cost(&quadratic::COST);
    let said = Fit::new(&several, loss, Optimizer::new(Sgd::default(), 0.5));
    let said = said.check(&data).unwrap_err().to_string();
    assert!(said.contains("wanted scores [N, K]"), "{said}");
}

/// A run that was killed and goes on ends with the very bits of one that was not.
#[test]
fn a_classifier_goes_on_where_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let (model, data) = (network(), data(31));
    for (k, device) in devices().iter().enumerate() {
        let file = folder.path().join(k.to_string());
        let fit = |epochs: usize| {
            let optimizer = Optimizer::new(Adam::default(), 0.03);
            let fit = Fit::new(&model, Loss::cross_entropy(), optimizer).batch(4);
            fit.epochs(epochs).replicas(2).validation(&data)
        };
        let whole = fit(5).run(&data, device).unwrap();
        fit(2).checkpoints(&file).run(&data, device).unwrap();
        let rest = fit(5)
            .checkpoints(&file)
            .resume()
            .run(&data, device)
            .unwrap();
        assert_eq!(rest.weights, whole.weights, "{}", device.info().name);
        let losses = |outcome: &Outcome| -> Vec<Vec<f64>> {
            let epochs = outcome.report.epochs.iter();
            epochs.map(|e| e.training_loss.clone()).collect()
        };
        assert_eq!(losses(&rest), losses(&whole), "{}", device.info().name);
    }
}

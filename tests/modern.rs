//! Distortion and averaged weights in whole runs.

mod common;

use std::sync::Arc;

use common::gpu;
use wgrad::book::nn::{Init, Network};
use wgrad::book::train::{Model, Settings, Trainer};
use wgrad::data::Split;
use wgrad::data::digits::{Part, generate};
use wgrad::exec::{Choice, Device};
use wgrad::graph::Graph;
use wgrad::ops::distort::{Distort, Distortion, Draw};
use wgrad::ops::gather::Expansion;
use wgrad::ops::{COUNTER, Tape};
use wgrad::rng::{keys, streams, uniform};
use wgrad::run::Session;
use wgrad::shape::Type;

fn devices() -> Vec<Device> {
    let cpu = Device::open(Choice::Cpu).unwrap();
    std::iter::once(cpu).chain(gpu()).collect()
}

/// Draws and distorts on a device: what went in, and what came out.
fn distorted(device: &Device, distortion: Distortion, step: u32) -> [Vec<f32>; 2] {
    let shape = [3, 2, 28, 23];
    let mut graph = Graph::new();
    let ty = Type::f32("x", &shape).unwrap();
    let x = graph.input::<f32>("x", ty).unwrap();
    let ty = Type::u32("keys", &[4]).unwrap();
    let k = graph.input::<u32>("keys", ty).unwrap();
    let ty = Type::u32("step", &[COUNTER]).unwrap();
    let s = graph.input::<u32>("step", ty).unwrap();
    let run = graph.begin("run");
    let draw = Draw {
        distortion,
        batch: 3,
        size: [28, 23],
        stream: streams::DISTORT,
    };
    let maps = graph.op1(Arc::new(draw), &[k.value(), s.value()]);
    let maps = maps.unwrap();
    let y = graph
        .op1(Arc::new(Distort(distortion)), &[x.value(), maps])
        .unwrap();
    let y = graph.output::<f32>("y", y).unwrap();
    let words = common::words(3, 3 * 2 * 28 * 23);
    let given: Vec<f32> = words.into_iter().map(uniform).collect();
    let mut session = Session::new(&graph, device).unwrap();
    session.write(x, &given).unwrap();
    session.write(k, &keys(11, 2)).unwrap();
    session.write(s, &[0, step]).unwrap();
    session.run(run, 1).unwrap();
    [given, session.read(y).unwrap().into_vec()]
}

#[test]
fn no_distortion_gives_the_image_to_the_bit() {
    for device in devices() {
        let [given, found] = distorted(&device, Distortion::NONE, 5);
        assert_eq!(given, found, "{}", device.info().name);
    }
}

#[test]
fn devices_distort_alike_and_steps_do_not() {
    let all = Distortion {
        alpha: 34.0,
        ..Distortion::affine()
    };
    let devices = devices();
    let [_, cpu] = distorted(&devices[0], all, 5);
    assert_ne!(cpu, distorted(&devices[0], all, 6)[1]);
    for device in &devices[1..] {
        let [_, gpu] = distorted(device, all, 5);
        // Coordinates below 64 are off by some ε of that, values by 4 times as much:
        // 4 · 64 · 10 ε.
        let allowed = 2560.0 * f32::EPSILON;
        for (c, g) in cpu.iter().zip(&gpu) {
            assert!((c - g).abs() <= allowed, "{c} on the CPU, {g} on the GPU");
        }
    }
}

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
    let new = Network::new([1, 28, 28]).conv2d(3, 5).max_pool2d(2).relu();
    let new = new.flatten().dropout(0.3).dense(10).softmax();
    new.init(Init::He)
}

fn settings() -> Settings {
    Settings {
        epochs: 4,
        learning_rates: vec![0.05],
        momentum: 0.9,
        replicas: 2,
        expansion: Expansion::Shifts,
        distortion: Distortion {
            alpha: 34.0,
            ..Distortion::affine()
        },
        ..Settings::default()
    }
}

fn trainer(settings: &Settings, device: &Device) -> Trainer {
    Trainer::new(&network(), &digits(), settings, device).unwrap()
}

fn weights(model: &Model) -> Vec<f32> {
    let tensors = model.replicas.iter().flatten();
    tensors.flat_map(|(_, t)| t.iter().copied()).collect()
}

#[test]
fn distortion_costs_two_launches_and_none_costs_none() {
    let device = &devices()[0];
    let launches = |distortion| {
        let settings = Settings {
            distortion,
            ..settings()
        };
        let plan = Trainer::plan(&network(), &digits(), &settings, device.info()).unwrap();
        plan.programs["train"].len()
    };
    let none = launches(Distortion::NONE);
    assert_eq!(launches(Distortion::affine()), none + 2);
    assert_eq!(launches(Distortion::elastic()), none + 2);
}

/// The mean of epochs 2 to 4 is that of the three models, and the run beside it is the
/// run without.
#[test]
fn the_average_is_the_mean_of_the_epochs() {
    for device in devices() {
        let averaged = Settings {
            average_from: Some(2),
            ..settings()
        };
        let (mut plain, mut mean) = (trainer(&settings(), &device), trainer(&averaged, &device));
        let first = weights(&plain.model().unwrap());
        assert_eq!(weights(&mean.model().unwrap()), first);
        let mut sum = vec![0.0f64; first.len()];
        for epoch in 1..=4 {
            let (p, _) = plain.epoch(&mut |_| {}).unwrap();
            let (m, _) = mean.epoch(&mut |_| {}).unwrap();
            assert_eq!(p.training_cost, m.training_cost);
            let (p, m) = (
                weights(&plain.model().unwrap()),
                weights(&mean.model().unwrap()),
            );
            if epoch <= 2 {
                assert_eq!(p, m, "epoch {epoch}");
            }
            if epoch < 2 {
                continue;
            }
            for ((sum, p), m) in sum.iter_mut().zip(p).zip(m) {
                *sum += f64::from(p);
                let wanted = *sum / (epoch - 1) as f64;
                // Subtraction, division (2.5 ulp) and addition, twice, of numbers below 2.
                assert!((f64::from(m) - wanted).abs() < 2e-6, "{m}, wanted {wanted}");
            }
        }
        // What is evaluated is what is saved.
        let model = mean.model().unwrap();
        let mut predictor =
            wgrad::book::train::Predictor::new(&model, &digits().test, &device).unwrap();
        let (found, wanted) = (mean.evaluate().unwrap(), predictor.evaluate().unwrap());
        assert_eq!(found.predictions, wanted.predictions);
        assert_eq!(found.cost, wanted.cost);
        assert_ne!(found.cost, plain.evaluate().unwrap().cost);
    }
}

#[test]
fn a_resumed_average_is_the_uninterrupted_one() {
    for device in devices() {
        let run = |epochs, folder: &std::path::Path| {
            let settings = Settings {
                epochs,
                average_from: Some(2),
                ..settings()
            };
            let mut trainer = trainer(&settings, &device);
            trainer.keep_checkpoints(folder, 1).unwrap();
            let done = trainer.resume().unwrap();
            trainer.run(&mut |_| {}).unwrap();
            (done, trainer.model().unwrap().sha256())
        };
        let [one, two] = [(); 2].map(|()| tempfile::tempdir().unwrap());
        let whole = run(4, one.path());
        assert_eq!((whole.0, run(3, two.path()).0), (0, 0));
        assert_eq!(run(4, two.path()), (3, whole.1));
    }
}

#[test]
fn averages_out_of_range_are_refused() {
    for from in [0, 5] {
        let settings = Settings {
            average_from: Some(from),
            ..settings()
        };
        let e = settings.check(60).unwrap_err().to_string();
        assert!(
            e.starts_with(&format!("first epoch averaged: found {from}")),
            "{e}"
        );
    }
}

//! Numbers that are not finite in a run of `Fit`: which step and which launch they come from, and that none gets by.

mod common;

use common::gpu;
use wgrad::data::Dataset;
use wgrad::exec::{Choice, Device};
use wgrad::fit::{Checkpoints, Fit, Loss, TrainStep, Weights};
use wgrad::model::{Model, Sequential, layers::*};
use wgrad::optim::{Optimizer, Sgd};
use wgrad::{Error, Result};

fn devices() -> Vec<Device> {
    let cpu = Device::open(Choice::Cpu).unwrap();
    std::iter::once(cpu).chain(gpu()).collect()
}

fn sgd(rate: f64) -> Optimizer {
    Optimizer::new(Sgd::default(), rate)
}

/// Where a run ended: place, step and replica.
fn lost(result: Result<wgrad::fit::Outcome>) -> (String, u64, usize) {
    match result {
        Err(Error::NotFinite {
            place,
            step,
            replica,
            ..
        }) => (place, step, replica),
        other => panic!("{:?}", other.map(|outcome| outcome.report)),
    }
}

/// A row that one layer makes infinite, whatever the weights are: that layer is named, and the step that has the row.
#[test]
fn the_layer_and_the_step_are_named() {
    let model = Model::build(|m| {
        let x = m.input("input", [3]);
        let h = x.layer("first", Dense::new(5)).tanh();
        let grown = x.layer("grow", Map::new(|x| (x * 1e30).square()));
        m.output(
            "y",
            (h + grown.layer("second", Dense::new(5))).layer("last", Dense::new(1)),
        );
    });
    let model = model.unwrap();
    let mut x = vec![1e-32f32; 40 * 3];
    x[3 * 17] = 1.0;
    let data = Dataset::new().with("input", [3], x).unwrap();
    let data = data.with("target", [1], vec![0.5; 40]).unwrap();
    for device in devices() {
        // By a loop of one's own, which looks at each step.
        let (loss, optimizer) = (Loss::mse(), sgd(1e-3));
        let step = TrainStep::builder(&model, &loss, &optimizer)
            .batch(4)
            .seed(5);
        let mut step = step.compile_over(&data, &device).unwrap();
        let wanted = (0..10).find(|_| {
            step.run(1).unwrap();
            !step.loss().unwrap()[0].is_finite()
        });
        let fit = Fit::new(&model, loss, sgd(1e-3)).batch(4).epochs(1).seed(5);
        let (place, step, replica) = lost(fit.replicas(2).run(&data, &device));
        assert!(
            place.starts_with("training loss, first in grow forward"),
            "{place}"
        );
        assert_eq!((step, replica), (wanted.unwrap(), 0));
    }
}

/// A layer that grows beyond what floats have is named, whatever launch its op has gone into; so is a loss.
#[test]
fn what_was_joined_is_told_apart() {
    let boom = || Map::new(|x| (x.square() * 1e10 + 200.0).exp());
    type Before = fn(Sequential) -> Sequential;
    let befores: [(&str, Before); 5] = [
        ("dense", |m| m.then(Dense::new(8))),
        ("tanh", |m| m.then(Dense::new(8)).then(Tanh)),
        ("dropout", |m| m.then(Dense::new(8)).then(Dropout::new(0.5))),
        ("norm", |m| m.then(Dense::new(8)).then(BatchNorm::new())),
        ("rows", |m| m.then(Dense::new(8)).then(LayerNorm::new())),
    ];
    let x = (0..160).map(|i| (i as f32 * 0.7).sin()).collect::<Vec<_>>();
    let data = Dataset::new().with("input", [4], x).unwrap();
    let data = data.with("target", [1], vec![0.5; 40]).unwrap();
    for device in devices() {
        for (what, before) in befores {
            let model = before(Model::sequential([4])).layer("boom", boom());
            let model = model.layer("head", Dense::new(1)).build().unwrap();
            let fit = Fit::new(&model, Loss::mse(), sgd(0.1)).batch(8).epochs(2);
            let (place, step, _) = lost(fit.run(&data, &device));
            assert!(
                place.starts_with("training loss, first in boom forward"),
                "{what}: {place}"
            );
            assert_eq!(step, 0, "{what}");
        }
        let model = Model::sequential([4])
            .layer("fc", Dense::new(1))
            .build()
            .unwrap();
        let own = Loss::each("own", |y, t| (y - t).square() * 1e30 * 1e30);
        let (place, ..) = lost(Fit::new(&model, own, sgd(0.1)).batch(8).run(&data, &device));
        assert!(
            place.starts_with("training loss, first in loss forward"),
            "{place}"
        );
    }
}

/// A run that diverges, in an epoch whose start is kept or is not, from weights that were drawn or given.
#[test]
fn an_epoch_whose_start_is_kept_is_searched() {
    let model = Model::sequential([4])
        .then(Dense::new(6))
        .then(Dense::new(1))
        .build()
        .unwrap();
    let x = (0..160).map(|i| (i as f32 * 0.7).sin()).collect::<Vec<_>>();
    let y = (0..40).map(|i| (i as f32 * 0.3).cos()).collect::<Vec<_>>();
    let data = Dataset::new().with("input", [4], x).unwrap();
    let data = data.with("target", [1], y).unwrap();
    let given = Weights::initial(&model, 7);
    let folder = tempfile::tempdir().unwrap();
    for (number, device) in devices().into_iter().enumerate() {
        for from in [None, Some(&given)] {
            let fit = |rate: f64| {
                let fit = Fit::new(&model, Loss::mse(), sgd(rate))
                    .batch(8)
                    .epochs(200);
                match from {
                    Some(weights) => fit.from(weights),
                    None => fit,
                }
            };
            // Within the first epoch, of five steps.
            let (place, step, _) = lost(fit(1e12).run(&data, &device));
            assert!(place.starts_with("training loss, first in "), "{place}");
            assert!(step < 5, "{step}");
            // Later.
            let (place, last, _) = lost(fit(1.5).run(&data, &device));
            assert_eq!(
                place,
                format!("training loss, noted at the end of epoch {}", last / 5 + 1)
            );
            assert!(last > 5 && last % 5 == 4, "{last}");
            let file = folder.path().join(format!("{number} {}", from.is_some()));
            let (place, step, _) = lost(fit(1.5).checkpoints(&file).run(&data, &device));
            assert!(place.starts_with("training loss, first in "), "{place}");
            assert!((last - 4..=last).contains(&step), "{step} {last}");
        }
    }
}

/// The last update comes after the last loss: nothing else would look at what it leaves.
#[test]
fn a_last_update_that_overflows_is_told() {
    let model = Model::sequential([1]).then(Dense::new(1)).build().unwrap();
    let column = |x: f32| vec![x; 8];
    let data = Dataset::new().with("input", [1], column(1.0)).unwrap();
    let data = data.with("target", [1], column(1e4)).unwrap();
    for device in devices() {
        let fit = |rate: f64| Fit::new(&model, Loss::mse(), sgd(rate)).batch(8).epochs(1);
        let (place, step, _) = lost(fit(3e38).run(&data, &device));
        assert!(
            place.starts_with("weight dense.weight, first in dense.weight update"),
            "{place}"
        );
        assert_eq!(step, 0);
        assert!(fit(0.1).run(&data, &device).is_ok());
    }
}

/// What a checkpoint would keep is looked at before it is kept: the one before stays, and it is searched from there.
#[test]
fn no_checkpoint_keeps_what_is_not_finite() {
    // Statistics beyond f32, which no evaluation of a loss while training sees.
    let model = Model::sequential([4])
        .then(Map::new(|x| x * 1e25))
        .then(BatchNorm::new());
    let model = model.then(Dense::new(1)).build().unwrap();
    let x = (0..160).map(|i| (i as f32 * 0.7).sin()).collect::<Vec<_>>();
    let data = Dataset::new().with("input", [4], x).unwrap();
    let data = data.with("target", [1], vec![0.5; 40]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    for (number, device) in devices().into_iter().enumerate() {
        let file = folder.path().join(number.to_string());
        let fit = Fit::new(&model, Loss::mse(), sgd(1e-3)).batch(8).epochs(3);
        let (place, step, _) = lost(fit.checkpoints(&file).run(&data, &device));
        assert!(
            place.starts_with("weight batch_norm.running_var, first in "),
            "{place}"
        );
        assert_eq!(step, 0);
        assert!(!Checkpoints::at(&file).are_there());
    }
}

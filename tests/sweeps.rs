//! Replicas that go ways of their own: one diverges and the others go on, each stops when it would alone.

mod common;

use std::path::Path;

use common::{Kill, gpu};
use wgrad::Error;
use wgrad::data::Dataset;
use wgrad::exec::{Choice, Device};
use wgrad::fit::{EarlyStop, Epoch, Experiment, Fit, Loss, Lost, Metric, Outcome, Plateau, Report};
use wgrad::model::{Model, layers::*};
use wgrad::optim::{AdamW, Optimizer, Sgd};

fn devices() -> Vec<Device> {
    let cpu = Device::open(Choice::Cpu).unwrap();
    [Some(cpu), gpu()].into_iter().flatten().collect()
}

fn curve(from: usize) -> Dataset {
    let x: Vec<f32> = (from..from + 120)
        .map(|i| (i * 37 % 101) as f32 / 50.0 - 1.0)
        .collect();
    let y: Vec<f32> = x.chunks(3).map(|x| (2.0 * x[0] - x[1]).sin()).collect();
    let data = Dataset::new().with("input", [3], x).unwrap();
    data.with("target", [1], y).unwrap()
}

fn model() -> Model {
    let model = Model::sequential([3]).then(Dense::new(6)).then(Relu);
    model.then(Dense::new(1)).build().unwrap()
}

fn sgd(rate: f64) -> Optimizer {
    Optimizer::new(Sgd::default(), rate)
}

/// One whose decay makes weights 10⁶ times its rate as large with each step.
fn growing(rate: f64) -> Optimizer {
    let rule = Sgd {
        l2: 1e6,
        ..Sgd::default()
    };
    Optimizer::new(rule, rate)
}

/// A run with a validation and a test set, whose replicas have these optimizers.
fn fit<'a>(model: &'a Model, held_out: &'a Dataset, optimizers: &[Optimizer]) -> Fit<'a> {
    let fit = Fit::new(model, Loss::mse(), optimizers[0].clone()).sweep(optimizers.to_vec());
    let fit = fit.batch(8).epochs(6).metric(Metric::mae()).seed(4);
    fit.validation(held_out).test(held_out)
}

/// The numbers of a report but for seconds, as text: not a number equals itself there.
fn numbers(report: &Report) -> String {
    let of = |epoch: &Epoch| {
        let Epoch {
            epoch,
            steps,
            training_loss,
            lost,
            validation,
            ..
        } = epoch;
        format!("{epoch} {steps} {training_loss:?} {lost:?} {validation:?}")
    };
    let epochs: Vec<String> = report.epochs.iter().map(of).collect();
    format!(
        "{epochs:?} {:?} {:?} {:?}",
        report.lost, report.chosen_epochs, report.test
    )
}

#[test]
fn a_replica_that_diverges_is_lost_and_the_others_go_on() {
    let (model, data, held_out) = (model(), curve(0), curve(500));
    for device in devices() {
        let run = |rates: &[f64]| {
            let optimizers: Vec<Optimizer> = rates.iter().map(|&rate| sgd(rate)).collect();
            let fit = fit(&model, &held_out, &optimizers);
            fit.run(&data, &device).unwrap()
        };
        let (all, sound) = (run(&[0.01, 1e20, 0.05]), run(&[0.01, 0.02, 0.05]));
        let report = &all.report;
        assert!(
            matches!(
                report.lost[..],
                [Lost {
                    replica: 1,
                    epoch: 1,
                    ..
                }]
            ),
            "{:?}",
            report.lost
        );
        assert!(report.is_lost(1) && !report.is_lost(0));
        assert_eq!(report.epochs.len(), 6);
        for (k, epoch) in report.epochs.iter().enumerate() {
            assert_eq!(epoch.lost, [1]);
            assert!(!epoch.training_loss[1].is_finite());
            let others = &sound.report.epochs[k];
            for r in [0, 2] {
                assert_eq!(epoch.training_loss[r], others.training_loss[r]);
                assert_eq!(epoch.validation[r], others.validation[r]);
            }
            // A mean is that of the others.
            for name in ["training loss", "validation loss", "validation mae"] {
                let [a, b] = [0, 2].map(|r| epoch.get_of(name, r).unwrap());
                assert_eq!(epoch.get(name), Some((a + b) / 2.0), "{name}");
            }
        }
        let [a, b] = [0, 2].map(|r| report.test[r].loss);
        assert_eq!(report.test("loss"), Some((a + b) / 2.0));
        for r in [0, 2] {
            assert_eq!(all.weights[r], sound.weights[r]);
        }
        let values = all.weights[1].tensors();
        assert!(values.iter().any(|(_, t)| t.iter().any(|x| !x.is_finite())));
    }
}

/// One that the last update of all breaks is seen in its weights; with nobody left the run is an error, and so is a lost
/// replica where all were to be alike.
#[test]
fn a_run_of_which_none_is_left_is_an_error() {
    let (model, data, held_out) = (model(), curve(0), curve(500));
    let optimizers = [1e-8, 1e36, 1e-7].map(growing);
    for device in devices() {
        for scored in [true, false] {
            let run = |optimizers: &[Optimizer]| {
                let fit = match scored {
                    true => fit(&model, &held_out, optimizers),
                    false => {
                        let fit = Fit::new(&model, Loss::mse(), optimizers[0].clone());
                        fit.sweep(optimizers.to_vec()).seed(4)
                    }
                };
                fit.batch(40).epochs(1).run(&data, &device)
            };
            // One step: its loss is finite, what it leaves is not.
            let outcome = run(&optimizers).unwrap();
            let wanted = Lost {
                replica: 1,
                epoch: 1,
                step: None,
            };
            assert_eq!(outcome.report.lost, [wanted]);
            for few in [&optimizers[1..2], &[1e36, 1e37].map(growing)] {
                match run(few).unwrap_err() {
                    Error::NotFinite { replica, .. } => assert!(replica < few.len()),
                    e => panic!("{e}"),
                }
            }
        }
        let several = fit(&model, &held_out, &[1e20, 1e21].map(sgd)).run(&data, &device);
        assert!(matches!(several, Err(Error::NotFinite { .. })));
        let alike = Fit::new(&model, Loss::mse(), sgd(1e20))
            .batch(8)
            .replicas(2);
        let refused = alike.run(&data, &device).unwrap_err();
        assert!(matches!(refused, Error::NotFinite { .. }), "{refused}");
    }
}

/// Weights that are too large for a finite loss, and finite themselves: the replica is lost, and nobody blames the data.
#[test]
fn one_whose_scores_are_no_numbers_is_lost() {
    let model = Model::sequential([3]).then(Dense::new(6)).then(Relu);
    let model = model.then(Dense::new(6)).then(Relu).then(Dense::new(1));
    let (model, data, held_out) = (model.build().unwrap(), curve(0), curve(500));
    let stop = || EarlyStop::on("validation loss").patience(2);
    for device in devices() {
        let sound = fit(&model, &held_out, &[0.01, 0.02].map(sgd)).batch(40);
        let sound = sound.run(&data, &device).unwrap();
        for rate in [1e7, 1e9, 1e21] {
            let swept = || fit(&model, &held_out, &[0.01, rate].map(sgd)).batch(40);
            let plateau = Plateau::on("validation loss").patience(9);
            for fit in [
                swept(),
                swept().with(stop()),
                swept().with(stop().each()),
                swept().with(plateau),
            ] {
                let found = fit.run(&data, &device).unwrap();
                assert!(
                    found.report.is_lost(1) && !found.report.is_lost(0),
                    "{rate}"
                );
                assert_eq!(found.weights[0], sound.weights[0]);
            }
            // Seen on the test data alone, after the one step that there is.
            let once = Fit::new(&model, Loss::mse(), sgd(0.01)).sweep([0.01, rate].map(sgd));
            let once = once.batch(40).epochs(1).seed(4).test(&held_out);
            let report = once.run(&data, &device).unwrap().report;
            assert_eq!(
                report.is_lost(1),
                !report.test[1].loss.is_finite(),
                "{rate}"
            );
            assert!(report.is_lost(1) || rate == 1e7);
        }
        // Data that no replica has a finite loss on lose nobody.
        let mut target: Vec<f32> = vec![0.5; 40];
        target[7] = 1e30;
        let x = (0..120).map(|i| (i as f32).sin()).collect::<Vec<_>>();
        let odd = Dataset::new().with("input", [3], x).unwrap();
        let odd = odd.with("target", [1], target).unwrap();
        let report = fit(&model, &odd, &[0.01, 0.02].map(sgd)).run(&data, &device);
        assert_eq!(report.unwrap().report.lost, []);
    }
}

/// Watched together, one that is lost keeps what was chosen for it before.
#[test]
fn a_lost_replica_keeps_an_earlier_choice() {
    let model = Model::sequential([3]).then(Dense::new(1)).build().unwrap();
    let data = curve(0);
    let device = Device::open(Choice::Cpu).unwrap();
    let optimizers = [growing(1e-9), growing(1e6)];
    let fit = Fit::new(&model, Loss::mae(), optimizers[0].clone()).sweep(optimizers);
    let fit = fit.batch(40).epochs(8).with(EarlyStop::on("training loss"));
    let outcome = fit.run(&data, &device).unwrap();
    let (lost, chosen) = (&outcome.report.lost, &outcome.report.chosen_epochs);
    assert!(lost[0].epoch > 1 && chosen[0] >= lost[0].epoch && chosen[1] < lost[0].epoch);
    let tensors = outcome.weights[1].tensors();
    assert!(tensors.iter().all(|(_, t)| t.iter().all(|x| x.is_finite())));
}

/// What a callback knows is read back as it was, numbers that are not finite too.
#[test]
fn an_infinite_number_is_known_after_a_resume() {
    let (model, data) = (model(), curve(0));
    let device = Device::open(Choice::Cpu).unwrap();
    // Beyond f32 at first; with small weights it stays there.
    let mut target: Vec<f32> = vec![0.5; 40];
    target[7] = 1e30;
    let x = (0..120).map(|i| (i as f32).sin()).collect::<Vec<_>>();
    let odd = Dataset::new().with("input", [3], x).unwrap();
    let odd = odd.with("target", [1], target).unwrap();
    type With = for<'a> fn(Fit<'a>) -> Fit<'a>;
    let stops: With = |fit| fit.with(EarlyStop::on("validation loss").patience(4));
    let each: With = |fit| fit.with(EarlyStop::on("validation loss").patience(4).each());
    let falls: With = |fit| fit.with(Plateau::on("validation loss").patience(3));
    for with in [stops, each, falls] {
        let folder = tempfile::tempdir().unwrap();
        let fit = || with(fit(&model, &odd, &[0.1, 0.2].map(sgd)).epochs(12));
        let whole = fit().run(&data, &device).unwrap();
        for epochs in [2, 3, 12] {
            let part = fit().epochs(epochs).checkpoints(folder.path()).resume();
            let part = part.run(&data, &device).unwrap();
            if epochs == 12 {
                assert_eq!(part.weights, whole.weights);
                assert_eq!(part.report.chosen_epochs, whole.report.chosen_epochs);
            }
        }
    }
}

/// Replicas that were to be alike: one that is lost ends the run, as it would not in a sweep over the same settings.
#[test]
fn of_several_alike_none_may_be_lost() {
    // A logarithm of a weight, which some replicas draw above 0 and some below.
    let model = Model::sequential([1])
        .then(Dense::new(1))
        .then(Map::new(|x| x.log()));
    let model = model.build().unwrap();
    let data = Dataset::new().with("input", [1], vec![1.0f32; 8]).unwrap();
    let data = data.with("target", [1], vec![0.5f32; 8]).unwrap();
    let device = Device::open(Choice::Cpu).unwrap();
    let mut some_lost = 0;
    for seed in 0..4 {
        let fit = || {
            Fit::new(&model, Loss::mse(), sgd(1e-6))
                .batch(4)
                .epochs(2)
                .seed(seed)
        };
        let Ok(swept) = fit().sweep([1e-6; 4].map(sgd)).run(&data, &device) else {
            continue;
        };
        let lost = swept.report.lost.len();
        let alike = fit().replicas(4).run(&data, &device);
        assert_eq!(alike.is_err(), lost > 0);
        some_lost += lost;
    }
    assert!(some_lost > 0);
}

/// Optimizers of which one diverges, two wait on different epochs for something better.
fn unlike() -> [Optimizer; 4] {
    [0.3, 1e20, 0.0002, 0.9].map(sgd)
}

fn stop() -> EarlyStop {
    let stop = EarlyStop::on("validation loss").patience(2);
    stop.by_at_least(1e-2)
}

/// The same replica ends with the same weights, alone and beside others that stop earlier, later, or diverge.
#[test]
fn each_stops_as_it_would_alone() {
    let (model, data, held_out) = (model(), curve(0), curve(500));
    for device in devices() {
        let all = fit(&model, &held_out, &unlike()).epochs(40);
        let all = all.with(stop().each()).run(&data, &device).unwrap();
        let mut chosen = vec![];
        for (r, optimizer) in unlike().into_iter().enumerate().filter(|(r, _)| *r != 1) {
            let alone = fit(&model, &held_out, std::slice::from_ref(&optimizer)).epochs(40);
            let alone = alone.first_replica(r as u32).with(stop());
            let alone = alone.run(&data, &device).unwrap();
            assert_eq!(alone.weights[0], all.weights[r], "replica {r}");
            assert_eq!(alone.report.chosen_epochs[0], all.report.chosen_epochs[r]);
            assert_eq!(alone.report.test[0], all.report.test[r]);
            chosen.push(all.report.chosen_epochs[r]);
            assert!(alone.report.epochs.len() <= all.report.epochs.len());
        }
        chosen.sort_unstable();
        chosen.dedup();
        assert!(
            chosen.len() > 1,
            "they stop at different epochs: {chosen:?}"
        );
        assert!(all.report.epochs.len() < 40);
        // Watched together, all have the weights of one epoch.
        let together = fit(&model, &held_out, &unlike()).epochs(40);
        let together = together.with(stop()).run(&data, &device).unwrap();
        let epochs = &together.report.chosen_epochs;
        assert!([2, 3].iter().all(|r| epochs[*r] == epochs[0]));
        assert_eq!(all.report.chosen_text().split(", ").count(), 4);
    }
}

fn kept(device: &Device, folder: &Path, kill: usize) -> wgrad::Result<Outcome> {
    let (model, data, held_out) = (model(), curve(0), curve(500));
    let fit = fit(&model, &held_out, &unlike()).epochs(40);
    let plateau = Plateau::on("validation loss").patience(1).factor(0.5);
    let fit = fit.with(stop().each()).with(plateau).with(Kill(kill));
    fit.checkpoints(folder).resume().run(&data, device)
}

#[test]
fn who_is_lost_and_who_has_stopped_is_known_after_a_resume() {
    for device in devices() {
        let folder = tempfile::tempdir().unwrap();
        let (one, other) = (folder.path().join("one"), folder.path().join("other"));
        let whole = kept(&device, &one, 0).unwrap();
        assert_eq!(whole.report.lost.len(), 1);
        let epochs = whole.report.epochs.len();
        for kill in 2..=epochs {
            let refused = kept(&device, &other, kill).unwrap_err().to_string();
            assert!(refused.contains("power"), "{refused}");
        }
        let resumed = kept(&device, &other, 0).unwrap();
        assert_eq!(numbers(&resumed.report), numbers(&whole.report));
        for r in [0, 2, 3] {
            assert_eq!(resumed.weights[r], whole.weights[r]);
        }
        assert_eq!(
            numbers(&kept(&device, &other, 0).unwrap().report),
            numbers(&whole.report)
        );
    }
}

/// One whose weights are lost with the last update is seen by an evaluation that a longer run would not have made there.
#[test]
fn the_last_evaluation_loses_nobody_for_a_longer_run() {
    let model = Model::sequential([3]).then(Dense::new(1)).build().unwrap();
    let (data, held_out) = (curve(0), curve(500));
    // A step of all rows an epoch; its decay makes weights 10¹² times as large, beyond f32 with the fourth.
    let optimizers = [growing(1e-9), growing(1e6)];
    for device in devices() {
        for each in [true, false] {
            let folder = tempfile::tempdir().unwrap();
            let fit = |epochs| {
                let fit = Fit::new(&model, Loss::mae(), optimizers[0].clone());
                let fit = fit.sweep(optimizers.clone()).batch(40).epochs(epochs);
                let fit = fit.validation(&held_out).evaluate_every(3);
                match each {
                    true => fit.with(EarlyStop::on("validation loss").patience(30).each()),
                    false => fit,
                }
            };
            let kept = |epochs| {
                let fit = fit(epochs).checkpoints(folder.path()).resume();
                fit.run(&data, &device).unwrap().report
            };
            let whole = fit(7).run(&data, &device).unwrap().report;
            let first = kept(4);
            assert_eq!((first.lost[0].epoch, whole.lost[0].epoch), (4, 5));
            assert_eq!(numbers(&kept(4)), numbers(&first));
            assert_eq!(numbers(&kept(7)), numbers(&whole));
        }
    }
}

/// Standings of each replica are none of all together.
#[test]
fn another_way_of_stopping_is_another_run() {
    let (model, data, held_out) = (model(), curve(0), curve(500));
    let device = Device::open(Choice::Cpu).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let run = |stop: EarlyStop| {
        let fit = fit(&model, &held_out, &[0.1, 0.2].map(sgd)).with(stop);
        let fit = fit.checkpoints(folder.path()).resume();
        fit.run(&data, &device)
    };
    run(stop().each()).unwrap();
    let refused = run(stop()).unwrap_err().to_string();
    assert!(refused.contains("each replica"), "{refused}");
    let three = fit(&model, &held_out, &[0.1, 0.2, 0.3].map(sgd)).with(stop().each());
    let refused = three
        .checkpoints(folder.path())
        .resume()
        .run(&data, &device);
    let refused = refused.unwrap_err().to_string();
    assert!(
        refused.contains("replicas 2") && refused.contains("replicas 3"),
        "{refused}"
    );
}

/// What a rate on a plateau is follows from a replica's own numbers, whoever is lost beside it.
#[test]
fn a_lost_replica_has_no_plateau() {
    let (model, data, held_out) = (model(), curve(0), curve(500));
    let device = Device::open(Choice::Cpu).unwrap();
    let adam = |rate| Optimizer::new(AdamW::default(), rate);
    let run = |optimizers: &[Optimizer]| {
        let plateau = Plateau::on("validation mae").patience(1).factor(0.5);
        let fit = fit(&model, &held_out, optimizers).epochs(8);
        fit.with(plateau).run(&data, &device).unwrap()
    };
    let (beside, alone) = (run(&[adam(0.3), adam(1e30)]), run(&[adam(0.3), adam(0.1)]));
    assert_eq!(beside.report.lost.len(), 1);
    assert_eq!(beside.weights[0], alone.weights[0]);
}

#[test]
fn a_configuration_says_it_too() {
    let text = include_str!("../examples/configs/diabetes.toml");
    let each = text.replace("patience = 30 }", "patience = 30, each = true }");
    assert_ne!(text, each);
    let folder = tempfile::tempdir().unwrap();
    let setting = |text: &str| {
        let file = folder.path().join("run.toml");
        std::fs::write(&file, text).unwrap();
        Experiment::load(&file).unwrap().training.early_stop
    };
    assert!(!setting(text).unwrap().each && setting(&each).unwrap().each);
}

//! Training steps in loops of one's own, and sweeps: gradients that are read beside PyTorch's, rates set
//! and parameters frozen by hand, losses of each step, replicas with optimizers of their own.
//! `tests/fixtures/pytorch_joint.py` makes the fixtures.

mod common;

use common::fixtures::load;
use common::weights::{devices, floats, hold, integers, under};
use wgrad::data::Dataset;
use wgrad::exec::{Choice, Device};
use wgrad::fit::{CrossEntropy, Fit, Loss, TrainStep, TrainStepBuilder, Weights};
use wgrad::model::{Input, Model, layers::*};
use wgrad::optim::{
    Adadelta, Adagrad, Adam, AdamW, Adamax, Group, Lamb, Lion, LossScale, NAdam, Optimizer,
    RmsProp, Schedule, Sgd,
};

fn cpu() -> Device {
    Device::open(Choice::Cpu).unwrap()
}

fn network() -> Model {
    let model = Model::sequential([3]).then(Dense::new(5)).then(Tanh);
    model.then(Dense::new(4)).build().unwrap()
}

fn data(rows: usize) -> Dataset {
    let x: Vec<f32> = (0..rows * 3).map(|i| (i as f32 * 0.37).sin()).collect();
    let t: Vec<u32> = (0..rows).map(|i| (i * 7 % 4) as u32).collect();
    let data = Dataset::new().with("input", [3], x).unwrap();
    data.with("target", [], t).unwrap()
}

#[test]
fn gradients_that_are_read_are_pytorchs() {
    let fixtures = load("joint");
    let (model, loss) = (network(), Loss::cross_entropy());
    // Clipping comes behind what is read.
    for (clip, frozen) in [(false, false), (true, true)] {
        let mut optimizer = Optimizer::new(Adam::default(), 0.03);
        if clip {
            optimizer = optimizer.clip_norm(1e9);
        }
        if frozen {
            let group = Group {
                frozen: true,
                ..Group::default()
            };
            optimizer = optimizer.group(|name| name == "nothing", group);
        }
        for device in devices() {
            let step = TrainStep::builder(&model, &loss, &optimizer).batch(6);
            let mut step = step.keep_gradients().compile(&device).unwrap();
            assert!(step.gradients().is_err(), "before the first step");
            step.set_weights(&under(&fixtures, "read/before")).unwrap();
            for k in 0..3 {
                let x = &floats(&fixtures, "read/input")[k * 18..][..18];
                step.feed("input", x).unwrap();
                let t = &integers(&fixtures, "read/target")[k * 6..][..6];
                step.feed("target", t).unwrap();
                step.run(1).unwrap();
                let found = step.gradients().unwrap().remove(0);
                let wanted = under(&fixtures, &format!("read/gradients {k}"));
                assert_eq!(found.tensors().len(), 4);
                hold(
                    &found,
                    &wanted,
                    &format!("{}, step {k}", device.info().name),
                );
            }
        }
    }
}

fn compiled(
    optimizer: &Optimizer,
    device: &Device,
    how: fn(TrainStepBuilder<'_>) -> TrainStepBuilder<'_>,
) -> TrainStep {
    let (model, loss) = (network(), Loss::cross_entropy());
    let step = TrainStep::builder(&model, &loss, optimizer)
        .batch(6)
        .seed(2)
        .replicas(2);
    how(step).compile_over(&data(40), device).unwrap()
}

/// Every rule with everything that its numbers may go into.
fn optimizers(rate: f64) -> Vec<Optimizer> {
    let sgd = Sgd {
        momentum: 0.9,
        nesterov: true,
        l2: 1e-3,
        l1: 1e-4,
    };
    let rms = RmsProp {
        momentum: 0.5,
        centered: true,
        decay: 1e-3,
        ..RmsProp::default()
    };
    vec![
        Optimizer::new(Sgd::default(), rate),
        Optimizer::new(sgd, rate).schedule(Schedule::cosine(20).warm_up(3)),
        Optimizer::new(Adam::default(), rate).clip_norm(0.5),
        Optimizer::new(AdamW::default(), rate)
            .average(0.9)
            .clip_value(0.1),
        Optimizer::new(AdamW::default(), rate).group(
            |name| name.ends_with("bias"),
            Group {
                rate: 2.0,
                decays: false,
                ..Group::default()
            },
        ),
        Optimizer::new(rms, rate),
        Optimizer::new(Adagrad::default(), rate),
        Optimizer::new(Adadelta::default(), rate),
        Optimizer::new(Adamax::default(), rate),
        Optimizer::new(NAdam::default(), rate),
        Optimizer::new(
            Lion {
                decay: 0.1,
                ..Lion::default()
            },
            rate,
        ),
    ]
}

/// A rate that is set has the bits of one that is compiled in, 0 and 1 too, which are simplified away
/// there; setting it costs no launch and no upload of any step.
#[test]
fn a_rate_set_by_hand_is_the_rate_compiled_in() {
    for device in devices() {
        // A pipeline for each text takes its time.
        let rates = match device.info().cpu {
            true => &[0.01, 1.0, 0.0, 0.5][..],
            false => &[1.0],
        };
        for &rate in rates {
            for (optimizer, wanted) in optimizers(0.003).iter().zip(optimizers(rate)) {
                let mut step = compiled(optimizer, &device, |how| how.by_hand());
                step.set_rate(rate).unwrap();
                let before = step.traffic();
                step.run(9).unwrap();
                assert_eq!(step.traffic().uploaded, before.uploaded);
                let mut plain = compiled(&wanted, &device, |how| how);
                plain.run(9).unwrap();
                let what = format!("{rate}, {wanted:?}, {}", device.info().name);
                assert_eq!(step.weights().unwrap(), plain.weights().unwrap(), "{what}");
                let states = step.optimizer_state().unwrap();
                assert_eq!(states, plain.optimizer_state().unwrap(), "{what}");
            }
        }
    }
}

#[test]
fn rates_of_replicas_and_what_is_refused() {
    let optimizer = Optimizer::new(AdamW::default(), 0.01);
    let mut step = compiled(&optimizer, &cpu(), |how| how.by_hand());
    step.run(2).unwrap();
    let before = step.weights().unwrap();
    step.set_rates(&[0.0, 0.02]).unwrap();
    step.run(2).unwrap();
    let after = step.weights().unwrap();
    assert_eq!(before[0], after[0]);
    assert_ne!(before[1], after[1]);
    for wrong in [&[0.1][..], &[0.1, -1.0], &[f64::NAN, 0.1]] {
        assert!(step.set_rates(wrong).is_err());
    }
    step.run(2).unwrap();
    assert_eq!(
        step.weights().unwrap()[0],
        after[0],
        "what was refused changed nothing"
    );
    let mut plain = compiled(&optimizer, &cpu(), |how| how);
    for error in [
        plain.set_rate(0.1).unwrap_err(),
        plain.freeze(|_| true).unwrap_err(),
    ] {
        assert!(error.to_string().contains("by_hand"), "{error}");
    }
    assert!(plain.gradients().is_err() && plain.losses().is_err());
    let lamb = Optimizer::new(Lamb::default(), 0.01);
    let (model, loss) = (network(), Loss::cross_entropy());
    let lamb = TrainStep::builder(&model, &loss, &lamb).by_hand();
    let error = lamb.compile(&cpu()).unwrap_err().to_string();
    assert!(error.contains("Lamb"), "{error}");
}

/// What is frozen keeps its bits, and so does what the optimizer keeps of it; freed, it goes on as if
/// there had been no steps meanwhile.
#[test]
fn frozen_parameters_and_their_states_stay_until_they_are_freed() {
    let adam = || Optimizer::new(AdamW::default(), 0.02).average(0.9);
    let optimizers = [
        adam(),
        // Averages that are launches of their own.
        adam().loss_scale(LossScale::dynamic()),
        adam().clip_norm(0.5).loss_scale(LossScale::dynamic()),
    ];
    for (device, optimizer) in devices()
        .iter()
        .flat_map(|d| optimizers.iter().map(move |o| (d, o)))
    {
        let mut step = compiled(optimizer, device, |how| how.by_hand());
        step.run(3).unwrap();
        let all = |step: &mut TrainStep| {
            let weights = step.weights().unwrap();
            let of = |name: &str| {
                weights
                    .iter()
                    .map(|w| w.get(name).unwrap().clone())
                    .collect()
            };
            let (first, last): (Vec<_>, Vec<_>) = (of("dense.weight"), of("dense_2.bias"));
            let states = step.optimizer_state().unwrap();
            let states = states
                .into_iter()
                .partition::<Vec<_>, _>(|(n, _)| n.starts_with("dense."));
            ((first, states.0), (last, states.1))
        };
        let before = all(&mut step);
        step.freeze(|name| name.starts_with("dense.")).unwrap();
        step.run(4).unwrap();
        let frozen = all(&mut step);
        assert_eq!(frozen.0, before.0);
        assert_ne!(frozen.1, before.1);
        step.freeze(|_| false).unwrap();
        step.run(1).unwrap();
        assert_ne!(all(&mut step).0, before.0);
    }
}

/// The norm that clips is that of the gradients that are used: parameters frozen by hand count as little as those of a
/// frozen group.
#[test]
fn gradients_of_frozen_parameters_do_not_clip_others() {
    let sgd = || Optimizer::new(Sgd::default(), 0.5).clip_norm(0.05);
    for device in devices() {
        for optimizer in [sgd(), sgd().loss_scale(LossScale::dynamic())] {
            let group = Group {
                frozen: true,
                ..Group::default()
            };
            let grouped = optimizer
                .clone()
                .group(|name| name.starts_with("dense."), group);
            let mut wanted = compiled(&grouped, &device, |how| how);
            let mut step = compiled(&optimizer, &device, |how| how.by_hand());
            step.freeze(|name| name.starts_with("dense.")).unwrap();
            let mut free = compiled(&optimizer, &device, |how| how.by_hand());
            for step in [&mut wanted, &mut step, &mut free] {
                step.run(8).unwrap();
            }
            let weights = |step: &mut TrainStep| -> Vec<f32> {
                let all = step.weights().unwrap();
                let of = |w: &Weights| {
                    w.get("dense_2.weight")
                        .unwrap()
                        .iter()
                        .copied()
                        .collect::<Vec<_>>()
                };
                all.iter().flat_map(of).collect()
            };
            let [wanted, found, free] = [&mut wanted, &mut step, &mut free].map(weights);
            let apart = |a: &[f32], b: &[f32]| {
                a.iter()
                    .zip(b)
                    .map(|(a, b)| (a - b).abs())
                    .fold(0.0, f32::max)
            };
            assert!(apart(&wanted, &found) < 1e-5, "{}", apart(&wanted, &found));
            assert!(apart(&wanted, &free) > 1e-3, "{}", apart(&wanted, &free));
        }
    }
}

#[test]
fn losses_that_are_gone_do_not_keep_others_back() {
    let optimizer = Optimizer::new(Adam::default(), 0.01);
    let mut step = compiled(&optimizer, &cpu(), |how| how.keep_losses(3));
    step.run(4).unwrap();
    let gone = step.losses().unwrap_err().to_string();
    assert!(gone.contains("4 steps since"), "{gone}");
    assert_eq!(step.losses().unwrap(), [vec![], vec![]] as [Vec<f64>; 2]);
    step.run(2).unwrap();
    assert_eq!(step.losses().unwrap()[0].len(), 2);
}

#[test]
fn the_loss_of_each_step_and_few_submits() {
    for device in devices() {
        let optimizer = Optimizer::new(Adam::default(), 0.01);
        let mut step = compiled(&optimizer, &device, |how| how.keep_losses(7));
        let mut one = compiled(&optimizer, &device, |how| how);
        let mut each = |count: u64| -> Vec<Vec<f64>> {
            let mut all = vec![vec![]; 2];
            for _ in 0..count {
                one.run(1).unwrap();
                for (all, loss) in all.iter_mut().zip(one.loss().unwrap()) {
                    all.push(loss);
                }
            }
            all
        };
        for count in [5, 7, 1, 6] {
            step.run(count).unwrap();
            let (kept, each) = (step.losses().unwrap(), each(count));
            assert_eq!(kept.len(), each.len());
            for (kept, each) in kept.iter().flatten().zip(each.iter().flatten()) {
                // One of them is divided in 32 bits.
                assert!((kept / each - 1.0).abs() < 3e-7, "{kept} {each}");
            }
        }
        // Whether losses are kept changes nothing.
        assert_eq!(step.weights().unwrap(), one.weights().unwrap());
        assert_eq!(step.losses().unwrap(), vec![Vec::<f64>::new(); 2]);
        step.run(8).unwrap();
        let error = step.losses().unwrap_err().to_string();
        assert!(
            error.contains("8 steps since") && error.contains("at most 7"),
            "{error}"
        );
        let before = step.traffic();
        step.run(60).unwrap();
        let after = step.traffic();
        // Sixty steps of ten epochs, whose orders are runs of their own.
        assert!(
            after.submits - before.submits <= 2 * 10 + 10,
            "{:?}",
            after.submits - before.submits
        );
        assert_eq!(after.uploaded, before.uploaded);
    }
}

/// Replica r of a sweep is the run alone with its optimizer, bit for bit, in weights and in report.
#[test]
fn replicas_of_a_sweep_are_runs_alone() {
    let (model, train) = (network(), data(40));
    let fit = |optimizer: Optimizer| {
        let fit = Fit::new(&model, Loss::cross_entropy(), optimizer);
        fit.batch(6).epochs(3).seed(4).validation(&train)
    };
    let adamw = |rate, decay: f64, norm| {
        Optimizer::new(AdamW::with_decay(decay), rate)
            .clip_norm(norm)
            .schedule(Schedule::cosine(18).warm_up(4))
    };
    let sgd = |rate, l2, momentum| {
        let rule = Sgd {
            momentum,
            l2,
            ..Sgd::default()
        };
        Optimizer::new(rule, rate)
    };
    // Without Nesterov's form it is with it, times 1 and less 0.
    let nesterov = |nesterov| {
        let rule = Sgd {
            momentum: 0.9,
            nesterov,
            ..Sgd::default()
        };
        Optimizer::new(rule, 0.1)
    };
    let adam = |betas, epsilon| {
        let rule = Adam {
            betas,
            epsilon,
            ..Adam::default()
        };
        Optimizer::new(rule, 0.01)
    };
    let sweeps = [
        vec![
            adamw(0.01, 0.1, 1.0),
            adamw(0.01, 0.0, 0.3),
            adamw(1.0, 0.5, 1e9),
            adamw(0.0, 1.0, 1.0),
        ],
        vec![
            sgd(0.1, 0.0, 0.9),
            sgd(0.1, 0.1, 0.9),
            sgd(1.0, 1.0, 0.5),
            sgd(0.5, 0.0, 0.25),
        ],
        vec![
            adam([0.9, 0.999], 1e-8),
            adam([0.5, 0.5], 1e-3),
            adam([0.25, 0.9], 0.5),
        ],
        vec![nesterov(true), nesterov(false)],
        // A rate that stays is a cosine from it to itself.
        vec![
            sgd(0.1, 0.0, 0.9).schedule(Schedule::cosine(9)),
            sgd(0.1, 0.0, 0.9),
        ],
    ];
    for device in devices() {
        for (k, optimizers) in sweeps.iter().enumerate() {
            // Mesa's compiler reassociates numbers that are compiled in, betas among them.
            let exact = k != 2;
            let first = optimizers[0].clone();
            let all = fit(first)
                .sweep(optimizers.clone())
                .run(&train, &device)
                .unwrap();
            assert_eq!(all.weights.len(), optimizers.len());
            for (r, optimizer) in optimizers.iter().enumerate() {
                let alone = fit(optimizer.clone()).first_replica(r as u32);
                let alone = alone.run(&train, &device).unwrap();
                let what = format!("replica {r}, {optimizer:?} on {}", device.info().name);
                if !exact && !device.info().cpu {
                    hold(&all.weights[r], &alone.weights[0], &what);
                    continue;
                }
                assert_eq!(alone.weights[0], all.weights[r], "{what}");
                for (epoch, of_all) in alone.report.epochs.iter().zip(&all.report.epochs) {
                    assert_eq!(epoch.training_loss[0], of_all.training_loss[r], "{what}");
                    assert_eq!(epoch.validation[0], of_all.validation[r], "{what}");
                }
            }
        }
    }
}

#[test]
fn a_sweep_over_more_than_numbers_is_refused_by_its_replica() {
    let (model, train) = (network(), data(40));
    let sgd = |momentum| {
        let rule = Sgd {
            momentum,
            ..Sgd::default()
        };
        Optimizer::new(rule, 0.1)
    };
    let refused = [
        vec![sgd(0.9), sgd(0.5), sgd(0.0)],
        vec![sgd(0.9), sgd(0.5), sgd(0.9).clip_norm(1.0)],
        vec![sgd(0.9), sgd(0.5), sgd(0.9).clip_value(1.0)],
        vec![sgd(0.9), sgd(0.5), Optimizer::new(AdamW::default(), 0.1)],
        vec![sgd(0.9), sgd(0.5), sgd(0.9).average(0.9)],
    ];
    for optimizers in refused {
        let fit = Fit::new(&model, Loss::cross_entropy(), sgd(0.9)).sweep(optimizers.clone());
        let what = format!("{:?}", optimizers[2]);
        let error = fit.run(&train, &cpu()).expect_err(&what).to_string();
        assert!(error.contains("replica 2"), "{error}, {what}");
    }
    let few = Fit::new(&model, Loss::cross_entropy(), sgd(0.9)).sweep([sgd(0.9), sgd(0.1)]);
    let error = few.replicas(3).run(&train, &cpu()).unwrap_err().to_string();
    assert!(error.contains("one for each of 3"), "{error}");
}

/// What is fed is held to the loss like a data set, and what was fed before stays.
#[test]
fn what_is_fed_is_held_to_the_loss() {
    let sgd = Optimizer::new(Sgd::default(), 0.1);
    let compiled = |model: &Model, loss: &Loss| {
        let step = TrainStep::builder(model, loss, &sgd).batch(2);
        step.compile(&cpu()).unwrap()
    };
    let mut step = compiled(&network(), &Loss::cross_entropy());
    step.feed("input", &[0.5; 6]).unwrap();
    step.feed("target", &[3u32, 0]).unwrap();
    let said = step.feed("target", &[3u32, 4]).unwrap_err().to_string();
    assert_eq!(
        said,
        "column target: found 4 in row 1; wanted classes from 0 to 3"
    );
    step.run(1).unwrap();
    assert!(step.loss().unwrap()[0] > 0.0);
    // Another number of elements, or another type, is told of in its own words.
    let said = step.feed("target", &[3u32]).unwrap_err().to_string();
    assert!(said.contains("1 elements"), "{said}");
    assert!(step.feed("target", &[3.0, 0.0]).is_err());
    let ignoring = Loss::of_criterion(CrossEntropy {
        ignored: Some(9),
        ..CrossEntropy::default()
    });
    let mut step = compiled(&network(), &ignoring);
    step.feed("target", &[9u32, 1]).unwrap();
    assert!(step.feed("target", &[8u32, 1]).is_err());
    let one = Model::sequential([3]).then(Dense::new(1)).build().unwrap();
    let mut step = compiled(&one, &Loss::binary_cross_entropy());
    step.feed("target", &[1.0, 0.25]).unwrap();
    let said = step.feed("target", &[1.0, 1.25]).unwrap_err().to_string();
    assert!(
        said.contains("1.25 in row 1") && said.contains("from 0 to 1"),
        "{said}"
    );
    let words = Model::sequential(Input::u32([2]))
        .then(Embedding::new(7, 3))
        .then(Flatten);
    let words = words.then(Dense::new(1)).build().unwrap();
    let mut step = compiled(&words, &Loss::mse());
    step.feed("input", &[0u32, 6, 1, 2]).unwrap();
    let said = step
        .feed("input", &[0u32, 6, 7, 2])
        .unwrap_err()
        .to_string();
    assert!(
        said.contains("7 in row 1") && said.contains("rows of an embedding"),
        "{said}"
    );
}

/// δ, slopes and margins that devices would take for 0 or infinity.
#[test]
fn numbers_of_losses_and_layers_that_f32_lacks_are_refused() {
    let sgd = Optimizer::new(Sgd::default(), 0.1);
    let model = |slope| {
        let leaky = LeakyRelu { slope };
        let model = Model::sequential([3]).then(Dense::new(2)).then(leaky);
        model.build()
    };
    let refused = |loss: Loss| {
        let model = model(0.01).unwrap();
        let step = TrainStep::builder(&model, &loss, &sgd).batch(6);
        step.compile(&cpu()).map(|_| ()).unwrap_err().to_string()
    };
    for delta in [0.0, -1.0, 1e-300, 2e-38, f64::NAN] {
        let told = refused(Loss::huber(delta));
        assert!(told.contains("δ of the Huber loss"), "{told}");
    }
    let own = Loss::each("own", |y, t| (y - t).abs() * 1e-300);
    assert!(refused(own).contains("1e-300"));
    let told = model(1e-300).unwrap_err().to_string();
    assert!(
        told.contains("1e-300") && told.contains("leaky_relu"),
        "{told}"
    );
}

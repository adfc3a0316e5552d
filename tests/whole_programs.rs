//! Programs that are one launch on a GPU: their bits are those of the launches apart, however many runs a launch does,
//! and replicas are what they are alone.

mod common;

use common::gpu;
use wgrad::book::nn::{Cost, Network};
use wgrad::book::train::{self, Settings, Trainer};
use wgrad::data::digits::{Part, generate};
use wgrad::data::{Dataset, Shards, Split};
use wgrad::exec::{Choice, Device, WholePrograms};
use wgrad::fit::{CrossEntropy, Fit, Loss, TrainStep};
use wgrad::model::{Model, layers::*};
use wgrad::optim::{AdamW, Optimizer, Schedule, Sgd};
use wgrad::plan::{Card, Plan};

/// A GPU whose programs are one launch each, wherever they can be.
fn whole() -> Option<Device> {
    gpu().map(|gpu| gpu.with_whole_programs(WholePrograms::Always))
}

fn cpu() -> Device {
    Device::open(Choice::Cpu).unwrap()
}

fn digits() -> Split {
    Split {
        train: generate(5, Part::Train, 130).unwrap(),
        validation: generate(5, Part::Validation, 33).unwrap(),
        test: generate(5, Part::Test, 21).unwrap(),
        synthetic: true,
    }
}

/// Small networks of the book's layers, by name.
fn networks() -> Vec<(&'static str, Network)> {
    let from = || Network::new([1, 28, 28]).flatten();
    let sigmoid = from().dense(30).sigmoid().dense(10).sigmoid();
    let quadratic = from().dense(7).sigmoid().dense(10).sigmoid();
    let deep = from().dense(33).relu().dense(16).tanh().dense(10).softmax();
    let dropout = from().dense(20).sigmoid().dropout(0.4).dense(10).softmax();
    vec![
        ("30 sigmoid", sigmoid.cost(Cost::CrossEntropy)),
        ("quadratic", quadratic.cost(Cost::Quadratic)),
        ("deep", deep.cost(Cost::LogLikelihood)),
        ("dropout", dropout.cost(Cost::LogLikelihood)),
    ]
}

fn settings(batch: usize, replicas: usize) -> Settings {
    Settings {
        epochs: 2,
        batch,
        replicas,
        learning_rates: vec![0.02, 0.01],
        seed: 11,
        ..Settings::default()
    }
}

fn trained(
    network: &Network,
    settings: &Settings,
    device: &Device,
) -> (Vec<train::Epoch>, train::Model) {
    let mut trainer = Trainer::new(network, &digits(), settings, device).unwrap();
    let outcome = trainer.run(&mut |_| {}).unwrap();
    (outcome.epochs, trainer.model().unwrap())
}

#[test]
fn a_step_of_the_books_networks_has_the_bits_of_its_launches() {
    let Some(device) = whole() else { return };
    for (k, (name, network)) in networks().iter().enumerate() {
        let batch = [10, 16, 1, 10][k];
        let plain = settings(batch, 3);
        let (epochs, model) = trained(network, &plain, &device);
        // The sentinel runs each step launch by launch and holds one of them to the reference.
        let watched = Settings {
            verify_every: 1,
            ..plain
        };
        let (apart, watched) = trained(network, &watched, &device);
        assert!(model.replicas == watched.replicas, "{name}");
        for (one, other) in epochs.iter().zip(apart) {
            assert_eq!(one.training_cost, other.training_cost, "{name}");
            assert_eq!(one.test_cost, other.test_cost, "{name}");
        }
        // The second replica of three is the one that is trained alone.
        let alone = Settings {
            first_replica: 1,
            ..settings(batch, 1)
        };
        let (_, alone) = trained(network, &alone, &device);
        assert!(model.replicas[1] == alone.replicas[0], "{name}");
        // The CPU's differ by rounding.
        let (on_cpu, _) = trained(network, &settings(batch, 3), &cpu());
        for (one, other) in epochs.iter().zip(on_cpu) {
            for (a, b) in one.training_cost.iter().zip(other.training_cost) {
                assert!(
                    (a - b).abs() < 1e-4 * b.abs(),
                    "{name}: {a}, {b} on the CPU"
                );
            }
        }
    }
}

#[test]
fn many_steps_are_one_launch_and_where_it_ends_changes_nothing() {
    let Some(device) = whole() else { return };
    let (_, network) = networks().remove(0);
    let trained = |parts: &[u64]| {
        let mut trainer = Trainer::new(&network, &digits(), &settings(1, 2), &device).unwrap();
        trainer.prepare().unwrap();
        let before = trainer.traffic();
        for &steps in parts {
            trainer.steps(steps).unwrap();
        }
        let after = trainer.traffic();
        assert_eq!(after.uploaded, before.uploaded);
        let launches = after.launches - before.launches;
        (launches, trainer.model().unwrap().replicas)
    };
    let (launches, at_once) = trained(&[130]);
    // Twice 64 steps and two alone.
    assert_eq!(launches, 2 + 2);
    let (launches, in_parts) = trained(&[5, 60, 64, 1]);
    assert_eq!(launches, 5 + 60 + 1 + 1);
    assert!(at_once == in_parts);
}

/// Points with a number and a class each.
fn table() -> Dataset {
    let x: Vec<f32> = (0..160 * 6).map(|i| (i as f32 * 0.37).sin()).collect();
    let y: Vec<f32> = (0..160).map(|i| (i as f32 * 0.7).sin()).collect();
    let classes: Vec<u32> = (0..160).map(|i| i * 7 % 3).collect();
    let data = Dataset::new().with("input", [6], x).unwrap();
    let data = data.with("target", [1], y).unwrap();
    data.with("class", [], classes).unwrap()
}

fn jobs() -> Vec<(&'static str, Model, Loss, Optimizer, usize)> {
    let regression = Model::sequential([6]).then(Dense::new(33)).then(Relu);
    let regression = regression
        .then(Dense::new(16))
        .then(Tanh)
        .then(Dense::new(1));
    let classes = Model::sequential([6])
        .then(Dense::new(24))
        .then(Gelu)
        .then(Dropout::new(0.3));
    let adamw = Optimizer::new(AdamW::with_decay(0.1), 0.01);
    let cosine = adamw.clone().schedule(Schedule::cosine(200));
    let sgd = Sgd {
        momentum: 0.9,
        ..Sgd::default()
    };
    let sgd = Optimizer::new(sgd, 0.05).clip_value(0.5);
    let of_classes = || Loss::cross_entropy().against("class");
    let smoothed = CrossEntropy {
        smoothing: 0.1,
        ..CrossEntropy::default()
    };
    let many = Model::sequential([6]).then(Dense::new(20)).then(Relu);
    vec![
        (
            "smoothed classes",
            many.then(Dense::new(3)).build().unwrap(),
            Loss::of_criterion(smoothed).against("class"),
            adamw.clone(),
            20,
        ),
        (
            "regression",
            regression.build().unwrap(),
            Loss::mse(),
            cosine,
            32,
        ),
        (
            "classes",
            classes.then(Dense::new(3)).build().unwrap(),
            of_classes(),
            sgd,
            8,
        ),
    ]
}

#[test]
fn a_step_of_any_small_network_has_the_bits_of_its_launches() {
    let Some(device) = whole() else { return };
    let data = table();
    for (name, model, loss, optimizer, batch) in jobs() {
        let step = |device: &Device| {
            let step = TrainStep::builder(&model, &loss, &optimizer).batch(batch);
            step.replicas(3)
                .seed(4)
                .compile_over(&data, device)
                .unwrap()
        };
        let (mut together, mut apart, mut on_cpu) = (step(&device), step(&device), step(&cpu()));
        let before = together.traffic().launches;
        together.run(90).unwrap();
        let launches = together.traffic().launches - before;
        assert!(launches < 90 + 20, "{name}: {launches} launches");
        apart.profile(90).unwrap();
        on_cpu.run(90).unwrap();
        let weights = together.weights().unwrap();
        assert!(weights == apart.weights().unwrap(), "{name}");
        assert!(weights[0] != weights[1], "{name}: one network thrice");
        let states = together.optimizer_state().unwrap();
        assert_eq!(states, apart.optimizer_state().unwrap(), "{name}");
        let losses = together
            .loss()
            .unwrap()
            .into_iter()
            .zip(on_cpu.loss().unwrap());
        for (a, b) in losses {
            assert!(
                (a - b).abs() < 1e-4 * b.abs(),
                "{name}: {a}, {b} on the CPU"
            );
        }
    }
}

/// An adapter binds so many buffers and no more: a step that would need more stays in its launches.
#[test]
fn however_many_buffers_a_step_has_it_runs() {
    let Some(device) = whole() else { return };
    let data = table();
    let mut counts = Vec::new();
    for hidden in [2, 3, 4, 8] {
        for momentum in [0.0, 0.9] {
            let mut model = Model::sequential([6]);
            for _ in 0..hidden {
                model = model.then(Dense::new(7)).then(Tanh);
            }
            let model = model.then(Dense::new(1)).build().unwrap();
            let sgd = Sgd {
                momentum,
                ..Sgd::default()
            };
            let optimizer = Optimizer::new(sgd, 0.01);
            let fit = Fit::new(&model, Loss::mse(), optimizer.clone()).batch(8);
            let plan = fit.plan(&data, &cpu()).unwrap();
            let found = plan.persistent("train", 256, &Card::H200).unwrap();
            counts.push(found.bindings.len());
            let loss = Loss::mse();
            let losses = [&device, &cpu()].map(|device| {
                let step = TrainStep::builder(&model, &loss, &optimizer).batch(8);
                let mut step = step.compile_over(&data, device).unwrap();
                step.run(5).unwrap();
                step.loss().unwrap()[0]
            });
            assert!(
                (losses[0] - losses[1]).abs() < 1e-4 * losses[1],
                "{losses:?}"
            );
        }
    }
    // wgpu alone has three limits in this range.
    assert!(counts.iter().any(|n| (29..32).contains(n)), "{counts:?}");
    assert!(counts.iter().any(|n| *n > 40), "{counts:?}");
}

/// Columns change places between shards: the launch must read the one that is there.
#[test]
fn shards_reach_a_whole_program() {
    let Some(device) = whole() else { return };
    let (data, (_, model, loss, optimizer, _)) = (table(), jobs().remove(0));
    let losses = |device: &Device| {
        let fit = Fit::new(&model, loss.clone(), optimizer.clone())
            .batch(8)
            .epochs(3);
        let outcome = fit.run(Shards::of(&data, 40), device).unwrap();
        let epochs = outcome.report.epochs.iter();
        epochs.map(|e| e.training_loss[0]).collect::<Vec<_>>()
    };
    for (a, b) in losses(&device).into_iter().zip(losses(&cpu())) {
        assert!((a - b).abs() < 1e-4 * b, "{a}, {b} on the CPU");
    }
}

/// The plan of a network in training, with all variants.
fn plan(name: &str, replicas: usize) -> Plan {
    let recipe = wgrad::book::nn::recipe(name, [1, 28, 28], 10).unwrap();
    let settings = Settings {
        replicas,
        ..Settings::from(&recipe)
    };
    Trainer::plan(&recipe.network, &digits(), &settings, cpu().info()).unwrap()
}

#[test]
fn a_small_network_pays_and_a_large_one_does_not() {
    let card = &Card::H200;
    let pays = |name: &str, replicas| {
        let plan = plan(name, replicas);
        let found = plan.persistent("train", 1024, card);
        found.is_some_and(|p| p.pays(&plan, "train", card))
    };
    // Whatever number of replicas: a replica has the bits that it has alone.
    assert!(pays("mlp-30", 1) && pays("mlp-30", 64));
    assert!(!pays("conv-dropout", 1) && !pays("conv-dropout", 64));
    // One launch is one already.
    assert!(plan("mlp-30", 1).persistent("order", 1024, card).is_none());
    assert!(
        plan("mlp-30", 1)
            .persistent("missing", 1024, card)
            .is_none()
    );
}

#[test]
fn a_launch_ends_in_time_and_has_one_number_of_threads() {
    let plan = plan("mlp-30", 1);
    for threads in [1024, 256] {
        let whole = plan.persistent("train", threads, &Card::H200).unwrap();
        let turns = whole.turns.unwrap();
        assert_eq!((whole.runs(turns), whole.runs(turns + 1)), (0, 1));
        assert_eq!(whole.runs(u64::MAX), 64);
        let slow = Card {
            gigahertz: 0.001,
            ..Card::H200
        };
        let slow = plan.persistent("train", threads, &slow).unwrap();
        assert!(
            (1..64).contains(&slow.runs(u64::MAX)),
            "{}",
            slow.microseconds
        );
        for (launch, &variant) in plan.programs["train"].iter().zip(&whole.variants) {
            let done = launch.done(variant);
            let counts = done.constants.iter().find(|(name, _)| *name == "THREADS");
            assert!(
                counts.is_none_or(|(_, own)| *own == f64::from(threads)),
                "{}",
                done.kernel.name
            );
        }
    }
}

/// Replicas are at different places of a program: where one is writing a value, another may still read the one that
/// had this place in its buffer before.
#[test]
fn values_of_different_sizes_take_no_turns_in_a_buffer() {
    let data = table();
    let mut turns = 0;
    for (name, model, loss, optimizer, batch) in jobs() {
        let fit = Fit::new(&model, loss, optimizer).batch(batch).replicas(3);
        let plan = fit.plan(&data, &cpu()).unwrap();
        let whole = plan.persistent("train", 1024, &Card::H200).unwrap();
        let mut sizes = std::collections::BTreeMap::new();
        for bound in plan.programs["train"].iter().flat_map(|l| &l.bindings) {
            sizes
                .entry(bound.buffer)
                .or_insert_with(Vec::new)
                .push(bound.elements);
        }
        for sizes in sizes.values_mut() {
            sizes.sort();
            sizes.dedup();
            turns += sizes.len() - 1;
        }
        let more: usize = sizes.values().map(|sizes| sizes.len() - 1).sum();
        assert_eq!(whole.apart.len(), more, "{name}");
        let mut buffers: Vec<usize> = whole.bindings.iter().map(|b| b.binding.buffer).collect();
        buffers.sort();
        buffers.dedup();
        assert_eq!(buffers.len(), whole.bindings.len(), "{name}: bound twice");
    }
    assert!(turns > 0, "no buffer had values of two sizes");
}

#[test]
fn a_device_that_was_told_says_so() {
    let Some(plain) = gpu() else { return };
    let name = plain.info().name.clone();
    let told = |when| gpu().unwrap().with_whole_programs(when).info().name.clone();
    assert_eq!(told(WholePrograms::Never), name);
    assert_eq!(
        told(WholePrograms::Always),
        format!("{name}, whole programs")
    );
    for when in ["never", "predicted", "always"] {
        assert_eq!(when.parse::<WholePrograms>().unwrap().to_string(), when);
    }
    let wrong = "sometimes".parse::<WholePrograms>().unwrap_err();
    assert!(
        wrong.to_string().contains("never, predicted, always"),
        "{wrong}"
    );
    // Unasked, and on a tuned device, launches stay apart.
    let (_, network) = networks().remove(0);
    for device in [gpu().unwrap(), whole().unwrap().tuned()] {
        let mut trainer = Trainer::new(&network, &digits(), &settings(10, 1), &device).unwrap();
        trainer.prepare().unwrap();
        let before = trainer.traffic().launches;
        trainer.steps(3).unwrap();
        assert_eq!(trainer.traffic().launches - before, 15);
    }
}

//! Fused = unfused, over networks drawn at random: three steps in f64, where nothing but
//! an error of the rules can move a parameter.

mod common;
#[path = "fusion/losses.rs"]
mod losses;

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::sync::Arc;

use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use wgrad::book::nn::{Cost, Init, Layer, Network};
use wgrad::book::train::{Decay, Settings, Trainer};
use wgrad::compile::{Compiled, Options};
use wgrad::data::digits::Part;
use wgrad::data::{Images, Split};
use wgrad::exec::Executor;
use wgrad::exec::cpu::{Cpu, Implementation};
use wgrad::exec::{Choice, Device};
use wgrad::graph::{Graph, Handle};
use wgrad::kernel::{Access, Kernel};
use wgrad::ops::matmul::Matmul;
use wgrad::ops::reduce::Reduce;
use wgrad::ops::scale::Scale;
use wgrad::ops::{COUNTER, Tape};
use wgrad::optim::{HYPER, TableSgd};
use wgrad::plan::{Buffer, Limits, Plan, Role};
use wgrad::rng::keys;
use wgrad::run::Session;
use wgrad::shape::Type;
use wgrad::tensor::Host;

/// Images in the training set.
const IMAGES: usize = 48;
const CLASSES: usize = 3;
const STEPS: u64 = 3;

fn images(part: Part, count: usize, [h, w]: [usize; 2]) -> Images {
    let digits = wgrad::data::digits::generate(3, part, count).unwrap();
    // The middle of each digit, so that networks stay small.
    let crop = |i: usize| {
        let image = digits.image(i);
        (0..h * w).map(move |e| image[(e / w + 9) * 28 + e % w + 9])
    };
    Images {
        name: "crops".into(),
        height: h,
        width: w,
        classes: CLASSES,
        pixels: (0..count).flat_map(crop).collect(),
        labels: digits.labels.iter().map(|l| l % CLASSES as u8).collect(),
    }
}

fn split(size: [usize; 2]) -> Split {
    Split {
        train: images(Part::Train, IMAGES, size),
        validation: images(Part::Validation, 8, size),
        test: images(Part::Test, 8, size),
        synthetic: true,
    }
}

fn activation() -> impl Strategy<Value = Option<Layer>> {
    prop_oneof![
        4 => Just(None),
        1 => Just(Some(Layer::Sigmoid)),
        1 => Just(Some(Layer::Tanh)),
        2 => Just(Some(Layer::Relu)),
    ]
}

fn dropout() -> impl Strategy<Value = Option<Layer>> {
    let some = any::<bool>().prop_map(|rescale| Some(Layer::Dropout { p: 0.4, rescale }));
    prop_oneof![2 => Just(None), 1 => some]
}

/// Convolution, pooling, activation and mask in any order and number.
fn block() -> impl Strategy<Value = Vec<Layer>> {
    let conv = (
        1..4usize,
        [1..4usize, 1..4],
        prop_oneof![2 => Just([1, 1]), 1 => [1..3usize, 1..3]],
        0..2usize,
    )
        .prop_map(|(filters, kernel, stride, padding)| Layer::Conv2d {
            filters,
            kernel,
            stride,
            padding: [padding; 2],
            dilation: [1; 2],
            groups: 1,
        });
    let pool = (1..4usize, 1..3usize, any::<bool>()).prop_map(|(kernel, stride, max)| {
        let (kernel, stride) = ([kernel, 2], Some([stride, 2]));
        let padding = [0; 2];
        if max {
            Layer::MaxPool2d {
                kernel,
                stride,
                padding,
            }
        } else {
            Layer::AvgPool2d {
                kernel,
                stride,
                padding,
            }
        }
    });
    let parts = (
        proptest::option::of(conv),
        activation(),
        proptest::option::of(pool),
        activation(),
        dropout(),
    );
    parts.prop_map(|(a, b, c, d, e)| [a, b, c, d, e].into_iter().flatten().collect())
}

fn dense() -> impl Strategy<Value = Vec<Layer>> {
    let dense = (1..9usize).prop_map(|units| Layer::Dense { units });
    (dense, activation(), dropout()).prop_map(|(dense, act, drop)| {
        let mut layers = vec![dense];
        layers.extend(act);
        layers.extend(drop);
        layers
    })
}

fn network() -> impl Strategy<Value = Network> {
    let cost = prop_oneof![
        Just(Cost::Quadratic),
        Just(Cost::CrossEntropy),
        Just(Cost::LogLikelihood)
    ];
    let sizes = [5..10usize, 5..10];
    let blocks = proptest::collection::vec(block(), 0..3);
    let rows = proptest::collection::vec(dense(), 0..3);
    (sizes, blocks, rows, activation(), cost).prop_map(|([h, w], blocks, rows, end, cost)| {
        let mut network = Network::new([1, h, w]).cost(cost).init(Init::Glorot);
        network.layers.extend(blocks.into_iter().flatten());
        network.layers.push(Layer::Flatten);
        network.layers.extend(rows.into_iter().flatten());
        network.layers.push(Layer::Dense { units: CLASSES });
        match cost {
            Cost::Quadratic => network.layers.extend(end),
            Cost::CrossEntropy => network.layers.push(Layer::Sigmoid),
            Cost::LogLikelihood => network.layers.push(Layer::Softmax),
        }
        network
    })
}

/// Parameters and metrics of each replica after three steps of the plan in f64. A trainer's plan
/// has names and no handles: it is for looking at.
fn three_steps(plan: &Plan, data: &Split, settings: &Settings) -> Vec<(String, Vec<f64>)> {
    let mut cpu = Cpu::<f64>::new(plan.clone(), Implementation::Reference).unwrap();
    let replicas = settings.replicas;
    let mut write = |name: &str, host: Host| cpu.write(plan.state(name).unwrap(), &host).unwrap();
    write(
        "keys",
        Host::U32((0..replicas as u32).flat_map(|r| keys(5, r)).collect()),
    );
    // The learning rate is the one number that is not a part of the program.
    let rates = plan.buffers[plan.state("hyperparameters").unwrap()].elements;
    write("hyperparameters", Host::F32(vec![0.3; rates * replicas]));
    write(
        "column input of training data",
        Host::pack(&data.train.pixels),
    );
    let labels = data.train.labels.iter().map(|&l| u32::from(l));
    write(
        "column target of training data",
        Host::U32(labels.collect()),
    );
    write("step", Host::U32(vec![0; COUNTER * replicas]));
    write("training loss", Host::F32(vec![0.0; 4 * replicas]));
    write("training guard", Host::U32(vec![0; 4 * replicas]));
    let of_parameter = |b: &&Buffer| b.name.contains(".weight") || b.name.contains(".bias");
    let weights = plan.buffers.iter().filter(|b| b.role == Role::State);
    for (number, buffer) in weights.filter(of_parameter).enumerate() {
        let words = common::words(number as u32, buffer.elements * replicas);
        let values = words.iter().map(|&w| (w % 2001) as f32 / 2000.0 - 0.5);
        write(&buffer.name, Host::F32(values.collect()));
    }
    for program in ["init", "order"] {
        cpu.run(program, 1).unwrap();
    }
    cpu.run("train", STEPS).unwrap();
    let names = plan.buffers.iter();
    let names = names.filter(|b| b.name == "training loss" || of_parameter(b));
    names
        .flat_map(|b| (0..replicas).map(move |r| (b.name.clone(), r)))
        .map(|(name, r)| {
            let values = cpu.values(r, plan.state(&name).unwrap()).unwrap();
            (format!("{name} of replica {r}"), values.to_vec())
        })
        .collect()
}

#[test]
fn fused_equals_unfused_over_random_networks() {
    let config = Config {
        cases: 800,
        failure_persistence: None,
        ..Config::default()
    };
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[9; 32]);
    let device = Device::open(Choice::Cpu).unwrap();
    let (spared, launches) = (Cell::new(0), Cell::new(0));
    let held = Cell::new(0);
    let seen = RefCell::new(BTreeSet::new());
    let drawn = (network(), 1..21usize, any::<bool>(), 1..3usize);
    let mut runner = TestRunner::new_with_rng(config, rng);
    let result = runner.run(&drawn, |(network, batch, momentum, replicas)| {
        if network.check().is_err() {
            return Err(TestCaseError::reject("sizes that do not fit"));
        }
        let data = split([network.input[1], network.input[2]]);
        let settings = Settings {
            batch,
            replicas,
            momentum: if momentum { 0.5 } else { 0.0 },
            l2: Decay::PerExample(0.1),
            ..Settings::default()
        };
        let plan = |fuse| {
            let settings = Settings {
                fuse,
                ..settings.clone()
            };
            Trainer::plan(&network, &data, &settings, device.info()).unwrap()
        };
        let (fused, plain) = (plan(true), plan(false));
        let count = |plan: &Plan| plan.programs["train"].len();
        launches.set(launches.get() + count(&plain));
        spared.set(spared.get() + count(&plain) - count(&fused));
        for launch in &fused.programs["train"] {
            let scaled = launch
                .constants
                .iter()
                .any(|(name, v)| name.starts_with("FINISH_INPUT_P") && *v > 1.0);
            for variant in 0..launch.variants() {
                let kernel = launch.done(variant).kernel;
                seen.borrow_mut().insert((described(kernel), scaled));
            }
        }
        let found = three_steps(&fused, &data, &settings);
        let wanted = three_steps(&plain, &data, &settings);
        prop_assert_eq!(found.len(), wanted.len());
        held.set(held.get() + found.len());
        for ((name, found), (_, wanted)) in found.iter().zip(&wanted) {
            for (i, (f, w)) in found.iter().zip(wanted).enumerate() {
                prop_assert!(w.is_finite());
                let near = (f - w).abs() <= 1e-11 * (1.0 + w.abs());
                prop_assert!(near, "{}[{}]: {} fused, {} unfused", name, i, f, w);
            }
        }
        Ok(())
    });
    if let Err(e) = result {
        panic!("{e}");
    }
    let (spared, launches) = (spared.get(), launches.get());
    println!("{spared} of {launches} launches spared");
    common::note("random networks, fused", held.get());
    // A rule that never matched would be proved by nothing.
    let seen = seen.into_inner();
    for (kernel, scaled) in [
        ("conv2d, ending", false),
        ("conv2d_input_grad, ending", false),
        ("conv2d_pool, ending", false),
        ("conv2d_pool_pairs, ending", false),
        ("max_pool2d, ending", false),
        ("conv2d_pool_input_grad", false),
        ("conv2d_pool_input_grad, ending", false),
        ("conv2d_pool_weight_grad_bias, updating", false),
        (
            "conv2d_pool_weight_grad_bias, updating, step by step",
            false,
        ),
        ("dense_grad, updating", false),
        ("dense_grad, updating", true),
        ("dense_loss", false),
        ("dense_update, updating", false),
        ("matmul, ending", false),
        ("matmul_few, ending", false),
        ("matmul_few, ending, drawing", false),
        ("matmul, updating, step by step", false),
    ] {
        let kernel = (kernel.to_string(), scaled);
        assert!(seen.contains(&kernel), "{kernel:?} never arose: {seen:?}");
    }
    assert!(spared * 2 > launches, "{spared} of {launches}");
}

/// A kernel and what its ending does: whether it updates a parameter, by how many values that it
/// keeps from step to step, and whether it draws.
fn described(kernel: &Kernel) -> String {
    let mut text = kernel.name.to_string();
    let own: Vec<_> = kernel.bindings.iter().map(|bind| bind.access).collect();
    let changed = own.iter().filter(|access| **access == Access::ReadWrite);
    let changed = changed.count();
    let ends = kernel
        .constants
        .iter()
        .any(|name| name.starts_with("FINISH_"));
    text += match (ends, changed) {
        (false, _) => "",
        (true, 0) => ", ending",
        _ => ", updating",
    };
    // A velocity beside its parameter.
    let parameters = if kernel.name.contains("bias") { 2 } else { 1 };
    if ends && changed > parameters && kernel.name.starts_with(['c', 'm']) {
        text += ", step by step";
    }
    if ends && kernel.bindings.iter().any(|bind| bind.name == "keys") {
        text += ", drawing";
    }
    text
}

/// A reader of the weights between a layer's input gradient and its update sees the old
/// weights, fused or not.
#[test]
fn an_update_does_not_overtake_a_reader() {
    readers_see_the_weights_of_their_place(true);
}

/// An input gradient that is asked for after the update alone is made of the new weights.
#[test]
fn a_late_input_gradient_is_of_the_new_weights() {
    readers_see_the_weights_of_their_place(false);
}

/// Products g W after a dense layer's update and, with `early`, before it too.
fn readers_see_the_weights_of_their_place(early: bool) {
    let mut graph = Graph::new();
    let mut float = |name: &str, extents: &[usize]| {
        let ty = Type::f32(name, extents).unwrap();
        graph.input::<f32>(name, ty).unwrap()
    };
    let [x, g] = [float("x", &[2, 3]), float("g", &[2, 4])];
    let [w, b] = [float("w", &[4, 3]), float("b", &[4])];
    let hyper = float("hyper", &[HYPER + 1]);
    let floats = [x, g, w, b, hyper];
    let step = Type::u32("step", &[COUNTER]).unwrap();
    let step = graph.input::<u32>("step", step).unwrap();
    let update = |decay| TableSgd {
        l2: decay,
        l1: decay,
        momentum: false,
        epoch_steps: 1,
    };
    let run = graph.begin("run");
    let [x, g, w, b, hyper] = floats.map(Handle::value);
    let product = Matmul::new(false, false);
    let mut seen = None;
    if early {
        let dx = graph.op1(Arc::new(product.clone()), &[g, w]).unwrap();
        let dx = graph.output::<f32>("dx", dx).unwrap();
        let twice = graph.op1(Arc::new(Scale(2.0)), &[w]).unwrap();
        seen = Some((dx, graph.output::<f32>("seen", twice).unwrap()));
    }
    let dw = Matmul::new(true, false);
    let dw = graph.op1(Arc::new(dw), &[g, x]).unwrap();
    let db = Reduce::new(Some(1), 1.0);
    let db = graph.op1(Arc::new(db), &[g]).unwrap();
    let updates = [(true, dw, w), (false, db, b)];
    for (decay, gradient, parameter) in updates {
        let inputs = [gradient, parameter, hyper, step.value()];
        graph.op(Arc::new(update(decay).update()), &inputs).unwrap();
    }
    let late = graph.op1(Arc::new(product), &[g, w]).unwrap();
    let late = graph.output::<f32>("late", late).unwrap();
    for fuse in [false, true] {
        let options = Options {
            replicas: 1,
            fuse,
            limits: Limits::default(),
        };
        let compiled = Compiled::new(&graph, &options).unwrap();
        let cpu = Cpu::<f64>::new(compiled.plan().clone(), Implementation::Reference).unwrap();
        let mut session = Session::of(&compiled, Box::new(cpu)).unwrap();
        for handle in floats {
            session.fill(handle, 0.5).unwrap();
        }
        session.fill(step, 0).unwrap();
        session.run(run, 1).unwrap();
        let values = |handle| session.values(0, handle).unwrap();
        if let Some((dx, seen)) = seen {
            assert_eq!(values(seen), [1.0; 12], "fused: {fuse}");
            assert_eq!(values(dx), [1.0; 6], "fused: {fuse}");
        }
        assert_ne!(values(floats[2]), [0.5; 12], "fused: {fuse}");
        // What is asked after the update sees the new weights.
        assert_ne!(values(late), [1.0; 6], "fused: {fuse}");
    }
}

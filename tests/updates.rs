//! Any update rule in a training step of the book's networks: what it costs in launches, and that
//! what is woven into the kernels of the gradients does what launches of its own do.

mod common;

use std::sync::Arc;

use common::gpu;
use wgrad::book::nn::{Cost, Network, recipe};
use wgrad::compile::{Compiled, Options};
use wgrad::exec::Executor;
use wgrad::exec::cpu::{Cpu, Implementation};
use wgrad::expr::Expr;
use wgrad::graph::{Graph, Handle, Program};
use wgrad::model::{Pass, Variables};
use wgrad::ops::advance::Advance;
use wgrad::ops::constant::Constant;
use wgrad::ops::epoch_metrics::EpochMetrics;
use wgrad::ops::gather::{Expansion, Gather};
use wgrad::ops::matmul::Matmul;
use wgrad::ops::pointwise::Pointwise;
use wgrad::ops::{COUNTER, Tape, Value};
use wgrad::optim::{Adagrad, Adam, AdamW, Group, Lamb, Lion, Optimizer, RmsProp, Schedule, Sgd};
use wgrad::plan::Limits;
use wgrad::rng::keys;
use wgrad::run::Session;
use wgrad::shape::Type;

const IMAGES: usize = 40;
const BATCH: usize = 10;

/// A training step over images that lie on the device, as a session of the book has it, but with any
/// optimizer.
struct Step {
    graph: Graph,
    step: Handle<u32>,
    keys: Handle<u32>,
    images: Handle<u32>,
    labels: Handle<u32>,
    order: Handle<u32>,
    metrics: Handle<f32>,
    guard: Handle<u32>,
    weights: Vec<Handle<f32>>,
    kept: Vec<Handle<f32>>,
    init: Program,
    train: Program,
}

fn step_of(network: &Network, optimizer: &Optimizer) -> Step {
    let mut graph = Graph::new();
    let words = |extents: &[usize]| Type::u32("words", extents).unwrap();
    let floats = |extents: &[usize]| Type::f32("floats", extents).unwrap();
    let pixels: usize = network.input.iter().product();
    let images = words(&[IMAGES * pixels / 4]).shared();
    let images = graph.input::<u32>("images", images).unwrap();
    let labels = words(&[IMAGES]).shared();
    let labels = graph.input::<u32>("labels", labels).unwrap();
    let order = graph.input::<u32>("order", words(&[IMAGES])).unwrap();
    let keys = graph.input::<u32>("keys", words(&[4])).unwrap();
    let step = graph.input::<u32>("step", words(&[COUNTER])).unwrap();
    let metrics = graph.input::<f32>("metrics", floats(&[4])).unwrap();
    let guard = graph.input::<u32>("guard", words(&[4])).unwrap();
    let parameters = network.parameters().unwrap();
    let mut variables = Variables::default();
    let mut weights = vec![];
    for p in &parameters {
        let w = graph.input::<f32>(&p.name, p.ty.clone()).unwrap();
        variables.bind(&p.name, p.ty.clone(), w.value());
        weights.push(w);
    }
    let named: Vec<(&str, Value)> = parameters
        .iter()
        .zip(&weights)
        .map(|(p, w)| (p.name.as_str(), w.value()))
        .collect();
    let update = optimizer.declare(&mut graph, &named).unwrap();
    let init = graph.begin("init");
    update.init(&mut graph).unwrap();
    let train = graph.begin("train");
    let gather = Gather {
        batch: BATCH,
        images: IMAGES,
        shape: network.input,
        expansion: Expansion::None,
        epoch_steps: IMAGES / BATCH,
        scale: 1.0 / 255.0,
        shuffled: true,
    };
    let set = [images, labels, step, order].map(|v| v.value());
    let xy = graph.op(Arc::new(gather), &set).unwrap();
    let pass = Pass::Training {
        keys: keys.value(),
        step: step.value(),
    };
    let forward = network.forward(&mut graph, &mut variables, xy[0], pass);
    let scores = forward.unwrap().scores;
    let losses = network.losses(&mut graph, scores, xy[1]).unwrap();
    let op = EpochMetrics {
        count: IMAGES,
        epoch_steps: IMAGES / BATCH,
        predict: false,
        keeps: false,
    };
    let counted = [step.value(), metrics.value(), guard.value()];
    let inputs = [&[scores, losses, xy[1]][..], &counted].concat();
    graph.op(Arc::new(op), &inputs).unwrap();
    let mean = Constant {
        extents: vec![BATCH],
        value: 1.0 / BATCH as f64,
    };
    let seed = graph.op1(Arc::new(mean), &[]).unwrap();
    let values: Vec<Value> = weights.iter().map(|w| w.value()).collect();
    let gradients = graph.gradients(losses, seed, &values).unwrap();
    update.apply(&mut graph, &gradients, step.value()).unwrap();
    graph.op(Arc::new(Advance), &[step.value()]).unwrap();
    let kept = update.states().into_iter();
    let kept = kept.map(|(_, v)| graph.handle(v).unwrap()).collect();
    Step {
        graph,
        step,
        keys,
        images,
        labels,
        order,
        metrics,
        guard,
        weights,
        kept,
        init,
        train,
    }
}

fn compiled(step: &Step, replicas: usize, fuse: bool) -> Compiled {
    let options = Options {
        replicas,
        fuse,
        limits: Limits::default(),
    };
    Compiled::new(&step.graph, &options).unwrap()
}

/// Launches of a step of workload A (13 with the session's SGD) by rule. A step that clips by the
/// norm of all gradients reads them twice: they have launches of their own.
#[test]
fn launches_of_the_books_network_by_rule() {
    let network = recipe("conv-dropout", [1, 28, 28], 10).unwrap().network;
    let adamw = || Optimizer::new(AdamW::default(), 1e-3);
    let momentum = Sgd {
        momentum: 0.9,
        ..Sgd::default()
    };
    for (what, optimizer, wanted) in [
        ("SGD", Optimizer::new(Sgd::default(), 0.1), 13),
        ("momentum", Optimizer::new(momentum, 0.1), 13),
        ("AdamW", adamw(), 13),
        (
            "AdamW, cosine",
            adamw().schedule(Schedule::cosine(100).warm_up(5)),
            13,
        ),
        ("AdamW, by value", adamw().clip_value(1.0), 13),
        ("Lion", Optimizer::new(Lion::default(), 1e-4), 13),
        (
            "AdamW, rates of replicas",
            adamw().rates_of_replicas("rates"),
            18,
        ),
        ("AdamW, average", adamw().average(0.99), 21),
        ("AdamW, by norm", adamw().clip_norm(1.0), 35),
    ] {
        let step = step_of(&network, &optimizer);
        let plan = compiled(&step, 1, true).into_plan();
        let launches = plan.programs["train"].len();
        println!("{what}: {launches} launches");
        for launch in &plan.programs["train"] {
            assert!(launch.bindings.len() <= 8, "{}", launch.label);
        }
        assert_eq!(launches, wanted, "{what}");
    }
}

/// The book's last network with fewer of everything.
fn small() -> Network {
    let network = Network::new([1, 12, 12]).conv2d(3, 3).max_pool2d(2).relu();
    let network = network.conv2d(4, 3).relu().flatten().dropout(0.5).dense(9);
    let network = network.relu().dropout(0.5).dense(7).sigmoid().dense(4);
    network.softmax().cost(Cost::LogLikelihood)
}

/// Weights and what the rule keeps of them after three steps.
fn three_steps<E: Executor + ?Sized>(step: &Step, session: &mut Session<E>) -> Vec<Vec<f32>> {
    let words = |n: usize, f: fn(usize) -> u32| (0..n).map(f).collect::<Vec<u32>>();
    let pixels = IMAGES * 12 * 12 / 4;
    let noise = |i: usize| (i as u32).wrapping_mul(2_654_435_761) & 0x3F3F_3F3F;
    session.write(step.images, &words(pixels, noise)).unwrap();
    session
        .write(step.labels, &words(IMAGES, |i| i as u32 % 4))
        .unwrap();
    session
        .write_each(
            step.order,
            &words(IMAGES, |i| (i as u32 * 7) % IMAGES as u32),
        )
        .unwrap();
    session.write_each(step.keys, &keys(3, 0)).unwrap();
    session.fill(step.step, 0).unwrap();
    session.fill(step.metrics, 0.0).unwrap();
    session.fill(step.guard, 0).unwrap();
    for (k, &w) in step.weights.iter().enumerate() {
        let n = session.elements(w).unwrap() / session.replicas();
        let spread = |i: usize| ((i * 37 + k * 11) % 64) as f32 / 128.0 - 0.25;
        let values: Vec<f32> = (0..n).map(spread).collect();
        session.write_each(w, &values).unwrap();
    }
    session.run(step.init, 1).unwrap();
    session.run(step.train, 3).unwrap();
    let all = step.weights.iter().chain(&step.kept);
    all.map(|&v| session.read(v).unwrap().to_vec()).collect()
}

/// Every rule, woven in and in launches of its own, on the CPU in f32 and f64 and on a GPU.
#[test]
fn woven_in_is_apart() {
    let adam = |amsgrad| Adam {
        amsgrad,
        ..Adam::default()
    };
    let decayed = Sgd {
        momentum: 0.9,
        nesterov: true,
        l2: 0.01,
        l1: 0.001,
    };
    let frozen = Group {
        frozen: true,
        ..Group::default()
    };
    let still = |name: &str| name.starts_with("0.");
    for (what, optimizer) in [
        ("SGD", Optimizer::new(Sgd::default(), 0.1)),
        ("momentum", Optimizer::new(decayed, 0.05)),
        ("AdamW", Optimizer::new(AdamW::default(), 1e-2)),
        ("AMSGrad", Optimizer::new(adam(true), 1e-2).clip_value(0.01)),
        ("RMSprop", Optimizer::new(RmsProp::default(), 1e-3)),
        ("Adagrad", Optimizer::new(Adagrad::default(), 1e-2)),
        ("Lion", Optimizer::new(Lion::default(), 1e-3)),
        ("LAMB", Optimizer::new(Lamb::default(), 1e-2)),
        (
            "averaged",
            Optimizer::new(AdamW::default(), 1e-2)
                .average(0.9)
                .clip_norm(1.0),
        ),
        (
            "frozen",
            Optimizer::new(adam(false), 1e-2)
                .group(still, frozen)
                .schedule(Schedule::cosine(3).warm_up(1)),
        ),
    ] {
        let step = step_of(&small(), &optimizer);
        let [fused, apart] = [true, false].map(|fuse| compiled(&step, 2, fuse));
        let count = |compiled: &Compiled| compiled.plan().programs["train"].len();
        assert!(count(&fused) + 10 < count(&apart), "{what}");
        let wide = |compiled: &Compiled| {
            let cpu = Cpu::<f64>::new(compiled.plan().clone(), Implementation::Reference).unwrap();
            three_steps(&step, &mut Session::of(compiled, Box::new(cpu)).unwrap())
        };
        let wanted = wide(&apart);
        let close = |found: Vec<Vec<f32>>, where_: &str, tolerance: f32| {
            for (k, (found, wanted)) in found.iter().zip(&wanted).enumerate() {
                for (f, w) in found.iter().zip(wanted) {
                    let near = (f - w).abs() <= tolerance * (1.0 + w.abs());
                    assert!(near, "{what}, {where_}, {k}: {f}, wanted {w}");
                }
            }
        };
        // What is read is rounded to f32.
        close(wide(&fused), "f64", 1e-6);
        let narrow = Cpu::<f32>::new(fused.plan().clone(), Implementation::Optimized).unwrap();
        let mut session = Session::of(&fused, Box::new(narrow)).unwrap();
        let found = three_steps(&step, &mut session);
        // A sign may turn where a gradient is near 0: Lion's steps are all of one size.
        let tolerance = if what == "Lion" { 1e-2 } else { 2e-4 };
        close(found.clone(), "CPU", tolerance);
        assert_eq!(found, three_steps(&step, &mut session), "{what}: again");
        // One rule for each shape of text.
        let on_gpu = ["momentum", "AdamW", "LAMB", "averaged"].contains(&what);
        if let Some(gpu) = gpu().filter(|_| on_gpu) {
            let executor = gpu.executor(fused.plan().clone()).unwrap();
            let mut session = Session::of(&fused, executor).unwrap();
            close(three_steps(&step, &mut session), "GPU", tolerance);
        }
    }
}

/// A product that reads a parameter does not end in the parameter's update: its threads would read
/// what others have written already. W ← 1.5 W − 0.5 W Wᵀ W, a step towards orthogonal rows.
#[test]
fn an_update_waits_for_a_product_of_its_own_parameter() {
    let mut graph = Graph::new();
    let n = 24;
    let ty = Type::f32("w", &[n, n]).unwrap();
    let w = graph.input::<f32>("w", ty).unwrap();
    let run = graph.begin("run");
    let square = Arc::new(Matmul::new(false, true));
    let square = graph.op1(square, &[w.value(); 2]).unwrap();
    let cube = Arc::new(Matmul::new(false, false));
    let cube = graph.op1(cube, &[square, w.value()]).unwrap();
    let next = Expr::input(1) * 1.5 - Expr::input(0) * 0.5;
    let update = Pointwise::new(&[next]).updating(0, 1);
    graph.op(Arc::new(update), &[cube, w.value()]).unwrap();
    let values: Vec<f32> = (0..n * n).map(|i| ((i * 37) % 64) as f32 / 400.0).collect();
    let mut all = vec![];
    for fuse in [false, true] {
        let options = Options {
            replicas: 1,
            fuse,
            limits: Limits::default(),
        };
        let compiled = Compiled::new(&graph, &options).unwrap();
        assert_eq!(compiled.plan().programs["run"].len(), 3, "fused: {fuse}");
        let mut executors: Vec<Box<dyn Executor>> = vec![];
        let plan = || compiled.plan().clone();
        executors.push(Box::new(
            Cpu::<f32>::new(plan(), Implementation::Optimized).unwrap(),
        ));
        executors.extend(gpu().map(|gpu| gpu.executor(plan()).unwrap()));
        for executor in executors {
            let mut session = Session::of(&compiled, executor).unwrap();
            session.write(w, &values).unwrap();
            session.run(run, 1).unwrap();
            all.push(session.read(w).unwrap().to_vec());
        }
    }
    for found in &all[1..] {
        for (f, w) in found.iter().zip(&all[0]) {
            assert!((f - w).abs() <= 1e-5, "{f}, wanted {w}");
        }
    }
}

/// A mini-batch that is no sum of others is clipped as it is, whatever the optimizer may add up elsewhere.
#[test]
fn gradients_that_are_no_sums_are_clipped_by_their_own_norm() {
    let network = small();
    let clipped = || Optimizer::new(Sgd::default(), 0.5).clip_norm(0.01);
    let weights = |optimizer: &Optimizer| {
        let step = step_of(&network, optimizer);
        let compiled = compiled(&step, 1, true);
        let plan = compiled.plan().clone();
        let cpu = Cpu::<f32>::new(plan, Implementation::Optimized).unwrap();
        let mut session = Session::of(&compiled, Box::new(cpu)).unwrap();
        three_steps(&step, &mut session)[..step.weights.len()].to_vec()
    };
    let (plain, other) = (weights(&clipped()), weights(&clipped().accumulate(3)));
    assert_eq!(plain, other);
    assert_ne!(plain, weights(&Optimizer::new(Sgd::default(), 0.5)));
}

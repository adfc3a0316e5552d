//! Update rules and schedules against PyTorch's trajectories over 20 steps
//! (`tests/fixtures/optim.py`), and what an optimizer does beside its rule.

mod common;

use std::sync::Arc;

use common::fixtures::{Tensor, load};
use common::gpu;
use wgrad::compile::{Options, compile};
use wgrad::exec::Executor;
use wgrad::exec::cpu::{Cpu, Implementation};
use wgrad::graph::Graph;
use wgrad::ops::advance::Advance;
use wgrad::ops::{COUNTER, Tape, Value};
use wgrad::optim::{
    Adadelta, Adagrad, Adam, AdamW, Adamax, Group, Lamb, Lion, NAdam, Optimizer, RmsProp, Rule,
    Schedule, Sgd,
};
use wgrad::plan::{Limits, Plan};
use wgrad::shape::Type;
use wgrad::tensor::Host;

/// Parameters, their gradients as variables, and an update of them by an optimizer.
fn plan(optimizer: &Optimizer, parameters: &[(&str, usize)], replicas: usize) -> Plan {
    let mut graph = Graph::new();
    let f32 = |n: usize| Type::f32("test", &[n]).unwrap();
    let mut values: Vec<(&str, Value)> = vec![];
    let mut gradients = vec![];
    for &(name, n) in parameters {
        values.push((name, graph.variable(name, f32(n)).unwrap()));
        let gradient = graph.variable(&format!("{name} gradient"), f32(n)).unwrap();
        gradients.push(Some(gradient));
    }
    let step = Type::u32("step", &[COUNTER]).unwrap();
    let step = graph.variable("step", step).unwrap();
    let update = optimizer.declare(&mut graph, &values).unwrap();
    graph.begin("init");
    update.init(&mut graph).unwrap();
    graph.begin("train");
    update.apply(&mut graph, &gradients, step).unwrap();
    graph.op(Arc::new(Advance), &[step]).unwrap();
    let options = Options {
        replicas,
        fuse: true,
        limits: Limits::default(),
    };
    compile(&graph, &options).unwrap()
}

fn write(executor: &mut dyn Executor, name: &str, host: Host) {
    let buffer = executor.plan().state(name).unwrap();
    executor.write(buffer, &host).unwrap();
}

fn read(executor: &mut dyn Executor, name: &str) -> Vec<f32> {
    let buffer = executor.plan().state(name).unwrap();
    executor.read(buffer).unwrap().floats().unwrap()
}

fn executors(plan: &Plan) -> Vec<(&'static str, Box<dyn Executor>)> {
    let cpu = Cpu::<f32>::new(plan.clone(), Implementation::Optimized).unwrap();
    let mut all: Vec<(_, Box<dyn Executor>)> = vec![("CPU", Box::new(cpu))];
    if let Some(gpu) = gpu() {
        all.push(("GPU", gpu.executor(plan.clone()).unwrap()));
    }
    all
}

fn begin(executor: &mut dyn Executor, weights: &[(&str, &[f32])]) {
    let counters = COUNTER * executor.plan().replicas;
    write(executor, "step", Host::U32(vec![0; counters]));
    for (name, w) in weights {
        write(executor, name, Host::F32(w.to_vec()));
    }
    executor.run("init", 1).unwrap();
}

fn floats(tensor: &Tensor) -> Vec<f32> {
    tensor.host.clone().floats().unwrap()
}

fn new(rule: impl Rule + 'static, rate: f64) -> Optimizer {
    Optimizer::new(rule, rate)
}

#[test]
fn trajectories_are_pytorchs() {
    let fixtures = load("optim");
    let w = floats(&fixtures["w"]);
    let g = floats(&fixtures["g"]);
    let adam = Adam::default();
    let momentum = Sgd {
        momentum: 0.9,
        ..Sgd::default()
    };
    let sgd = || Optimizer::new(Sgd::default(), 0.1);
    let cases: Vec<(&str, Optimizer)> = vec![
        ("sgd", sgd()),
        (
            "sgd decay",
            new(
                Sgd {
                    l2: 0.05,
                    ..Sgd::default()
                },
                0.1,
            ),
        ),
        (
            "sgd momentum",
            new(
                Sgd {
                    l2: 0.05,
                    ..momentum
                },
                0.1,
            ),
        ),
        (
            "sgd nesterov",
            new(
                Sgd {
                    nesterov: true,
                    ..momentum
                },
                0.1,
            ),
        ),
        ("adam", new(adam, 0.01)),
        (
            "adam decay",
            new(
                Adam {
                    betas: [0.8, 0.99],
                    decay: 0.1,
                    ..adam
                },
                0.01,
            ),
        ),
        (
            "adam amsgrad",
            new(
                Adam {
                    amsgrad: true,
                    ..adam
                },
                0.01,
            ),
        ),
        ("adamw", new(AdamW::with_decay(0.1), 0.01)),
        ("rmsprop", new(RmsProp::default(), 0.01)),
        (
            "rmsprop centered",
            new(
                RmsProp {
                    alpha: 0.9,
                    centered: true,
                    momentum: 0.9,
                    decay: 0.01,
                    ..RmsProp::default()
                },
                0.01,
            ),
        ),
        (
            "adagrad",
            new(
                Adagrad {
                    rate_decay: 0.02,
                    initial: 0.1,
                    decay: 0.01,
                    ..Adagrad::default()
                },
                0.1,
            ),
        ),
        (
            "adadelta",
            new(
                Adadelta {
                    decay: 0.01,
                    ..Adadelta::default()
                },
                1.0,
            ),
        ),
        (
            "adamax",
            new(
                Adamax {
                    decay: 0.01,
                    ..Adamax::default()
                },
                0.02,
            ),
        ),
        (
            "nadam",
            new(
                NAdam {
                    decay: 0.01,
                    ..NAdam::default()
                },
                0.01,
            ),
        ),
        (
            "lion",
            new(
                Lion {
                    decay: 0.1,
                    ..Lion::default()
                },
                0.01,
            ),
        ),
        ("lamb", new(Lamb::default(), 0.01)),
        (
            "adam cosine",
            new(adam, 0.01).schedule(Schedule::cosine(30)),
        ),
        (
            "adam restarts",
            new(adam, 0.01).schedule(Schedule::cosine_with_restarts(3, 2)),
        ),
        ("sgd steps", sgd().schedule(Schedule::step(7, 0.5))),
        (
            "sgd exponential",
            sgd().schedule(Schedule::exponential(0.9)),
        ),
        (
            "sgd polynomial",
            sgd().schedule(Schedule::polynomial(15, 2.0, 0.0)),
        ),
        ("sgd one cycle", sgd().schedule(Schedule::one_cycle(20))),
        ("sgd clip norm", sgd().clip_norm(2.0)),
        ("sgd clip value", sgd().clip_value(0.5)),
    ];
    // Each trajectory of the file is held.
    assert_eq!(cases.len() + 2, fixtures.len());
    for (name, optimizer) in cases {
        let wanted = floats(&fixtures[name]);
        let plan = plan(&optimizer, &[("w", w.len())], 1);
        for (device, mut executor) in executors(&plan) {
            let executor = executor.as_mut();
            begin(executor, &[("w", &w)]);
            for (step, (g, wanted)) in g.chunks(w.len()).zip(wanted.chunks(w.len())).enumerate() {
                write(executor, "w gradient", Host::F32(g.to_vec()));
                executor.run("train", 1).unwrap();
                let found = read(executor, "w");
                for (i, (f, wanted)) in found.iter().zip(wanted).enumerate() {
                    // A step adds a dozen roundings of numbers around 1; Adadelta's quotient of small
                    // numbers, more of them.
                    let off = (f - wanted).abs();
                    assert!(
                        off <= 2e-6,
                        "{name} on {device}, step {step}: w[{i}] = {f}, PyTorch {wanted}, off {off:e}"
                    );
                }
            }
        }
    }
}

/// Two parameters are clipped by the norm of both; a group has its rate, does not decay, or stays.
#[test]
fn groups_and_clipping() {
    let optimizer = Optimizer::new(
        Sgd {
            l2: 0.5,
            ..Sgd::default()
        },
        0.1,
    )
    .group(
        |name| name == "bias",
        Group {
            rate: 2.0,
            decays: false,
            ..Group::default()
        },
    )
    .group(
        |name| name.starts_with("still"),
        Group {
            frozen: true,
            ..Group::default()
        },
    )
    .clip_norm(1.0);
    let plan = plan(&optimizer, &[("weight", 3), ("bias", 2), ("still", 4)], 1);
    // Two norms, the factor of both, two updates, the counter.
    assert_eq!(plan.programs["train"].len(), 6);
    assert_eq!(plan.programs["init"].len(), 0);
    for (device, mut executor) in executors(&plan) {
        let executor = executor.as_mut();
        begin(
            executor,
            &[
                ("weight", &[1.0; 3]),
                ("bias", &[1.0; 2]),
                ("still", &[1.0; 4]),
            ],
        );
        write(executor, "weight gradient", Host::F32(vec![4.0, 0.0, 0.0]));
        write(executor, "bias gradient", Host::F32(vec![0.0, 3.0]));
        write(executor, "still gradient", Host::F32(vec![9.0; 4]));
        executor.run("train", 1).unwrap();
        // ‖(4, 3)‖ = 5, so a fifth of each; decay takes ½ · 0.1.
        let close = |found: &[f32], wanted: &[f32]| {
            let off = found.iter().zip(wanted).map(|(f, w)| (f - w).abs());
            assert!(
                off.fold(0.0, f32::max) < 1e-6,
                "{device}: {found:?}, wanted {wanted:?}"
            );
        };
        close(&read(executor, "weight"), &[0.87, 0.95, 0.95]);
        close(&read(executor, "bias"), &[1.0, 0.88]);
        close(&read(executor, "still"), &[1.0; 4]);
    }
}

/// Replicas have rates of their own, the average follows, and what does not fit into one launch
/// takes more of them.
#[test]
fn rates_of_replicas_and_averages() {
    for (amsgrad, clip, launches) in [(false, false, 2), (true, false, 2), (true, true, 4)] {
        let rule = Adam {
            amsgrad,
            ..Adam::default()
        };
        let mut optimizer = Optimizer::new(rule, 1.0)
            .average(0.75)
            .rates_of_replicas("rates");
        if clip {
            optimizer = optimizer.clip_norm(1e6);
        }
        let plan = plan(&optimizer, &[("w", 5)], 2);
        assert_eq!(plan.programs["train"].len(), launches, "{amsgrad} {clip}");
        for (device, mut executor) in executors(&plan) {
            let executor = executor.as_mut();
            begin(executor, &[("w", &[2.0; 10])]);
            write(executor, "rates", Host::F32(vec![0.5, 0.25]));
            write(executor, "w gradient", Host::F32(vec![3.0; 10]));
            executor.run("train", 2).unwrap();
            // With a gradient that stays, each of Adam's steps is the rate.
            for (name, wanted) in [("w", [1.0, 1.5]), ("w average", [1.65625, 1.828125])] {
                let found = read(executor, name);
                for (i, f) in found.iter().enumerate() {
                    let off = (f - wanted[i / 5]).abs();
                    assert!(off < 1e-5, "{device}: {name} {found:?}, wanted {wanted:?}");
                }
            }
        }
    }
}

/// The norm of many parameters, of which one launch cannot bind all.
#[test]
fn many_parameters_are_clipped_together() {
    let names: Vec<String> = (0..20).map(|k| format!("w{k}")).collect();
    let parameters: Vec<(&str, usize)> = names.iter().map(|name| (name.as_str(), 1)).collect();
    for count in [3, 20] {
        let optimizer = Optimizer::new(Sgd::default(), 1.0).clip_norm(1.0);
        let plan = plan(&optimizer, &parameters[..count], 1);
        for (device, mut executor) in executors(&plan) {
            let executor = executor.as_mut();
            let zeros: Vec<(&str, &[f32])> = names[..count]
                .iter()
                .map(|n| (n.as_str(), &[0.0][..]))
                .collect();
            begin(executor, &zeros);
            for name in &names[..count] {
                write(executor, &format!("{name} gradient"), Host::F32(vec![2.0]));
            }
            executor.run("train", 1).unwrap();
            let wanted = -1.0 / (count as f32).sqrt();
            for name in &names[..count] {
                let found = read(executor, name)[0];
                assert!(
                    (found - wanted).abs() < 1e-6,
                    "{device}: {name} {found}, wanted {wanted}"
                );
            }
        }
    }
}

/// Gradients of micro-batches add up, and are gone after the update.
#[test]
fn micro_batches_add_up() {
    for clip in [false, true] {
        let mut optimizer = Optimizer::new(Adam::default(), 0.1).accumulate(2);
        if clip {
            optimizer = optimizer.clip_norm(5.0).average(0.5);
        }
        let mut graph = Graph::new();
        let ty = Type::f32("w", &[3]).unwrap();
        let w = graph.variable("w", ty.clone()).unwrap();
        let gradient = graph.variable("gradient", ty).unwrap();
        let step = Type::u32("step", &[COUNTER]).unwrap();
        let step = graph.variable("step", step).unwrap();
        let update = optimizer.declare(&mut graph, &[("w", w)]).unwrap();
        graph.begin("init");
        update.init(&mut graph).unwrap();
        graph.begin("micro-batch");
        update.add(&mut graph, &[Some(gradient)]).unwrap();
        graph.begin("train");
        update.apply_sum(&mut graph, step).unwrap();
        graph.op(Arc::new(Advance), &[step]).unwrap();
        let options = Options {
            replicas: 1,
            fuse: true,
            limits: Limits::default(),
        };
        let plan = compile(&graph, &options).unwrap();
        let whole = plan_of_one(&if clip {
            Optimizer::new(Adam::default(), 0.1)
                .clip_norm(5.0)
                .average(0.5)
        } else {
            Optimizer::new(Adam::default(), 0.1)
        });
        for ((device, mut sums), (_, mut whole)) in
            executors(&plan).into_iter().zip(executors(&whole))
        {
            let weights: &[f32] = &[1.0, -2.0, 0.5];
            begin(sums.as_mut(), &[("w", weights)]);
            begin(whole.as_mut(), &[("w", weights)]);
            for round in 0..3 {
                let halves = [[1.0, 8.0, -4.0], [3.0 + round as f32, 2.0, -2.0]];
                let mean = (0..3)
                    .map(|i| (halves[0][i] + halves[1][i]) / 2.0)
                    .collect();
                for half in halves {
                    write(sums.as_mut(), "gradient", Host::F32(half.to_vec()));
                    sums.run("micro-batch", 1).unwrap();
                }
                sums.run("train", 1).unwrap();
                write(whole.as_mut(), "w gradient", Host::F32(mean));
                whole.run("train", 1).unwrap();
                // Halves of small integers are exact.
                assert_eq!(
                    read(sums.as_mut(), "w"),
                    read(whole.as_mut(), "w"),
                    "{device}"
                );
                assert_eq!(read(sums.as_mut(), "w gradient sum"), [0.0; 3], "{device}");
            }
        }
    }
}

fn plan_of_one(optimizer: &Optimizer) -> Plan {
    plan(optimizer, &[("w", 3)], 1)
}

#[test]
fn impossible_settings_are_refused() {
    let sgd = || Optimizer::new(Sgd::default(), 0.1);
    let adam = |adam: Adam| Optimizer::new(adam, 0.1);
    let d = Adam::default();
    for (optimizer, why) in [
        (Optimizer::new(Sgd::default(), -1.0), "learning rate"),
        (Optimizer::new(Sgd::default(), f64::NAN), "learning rate"),
        (sgd().clip_norm(0.0), "norm of gradients"),
        (sgd().clip_value(f64::INFINITY), "bound of gradients"),
        (sgd().average(1.0), "decay of the average"),
        (sgd().accumulate(0), "micro-batches"),
        (sgd().schedule(Schedule::cosine(0)), "steps of a schedule"),
        (
            sgd().group(
                |_| true,
                Group {
                    rate: -1.0,
                    ..Group::default()
                },
            ),
            "rate of a group",
        ),
        (
            adam(Adam {
                betas: [1.0, 0.9],
                ..d
            }),
            "β₁ of Adam",
        ),
        (adam(Adam { epsilon: -1.0, ..d }), "ε of Adam"),
        (
            Optimizer::new(
                Sgd {
                    nesterov: true,
                    ..Sgd::default()
                },
                0.1,
            ),
            "Nesterov",
        ),
        (
            Optimizer::new(
                Sgd {
                    momentum: 1.5,
                    ..Sgd::default()
                },
                0.1,
            ),
            "momentum of Sgd",
        ),
    ] {
        let mut graph = Graph::new();
        let w = graph.variable("w", Type::f32("w", &[3]).unwrap()).unwrap();
        let error = optimizer
            .declare(&mut graph, &[("w", w)])
            .unwrap_err()
            .to_string();
        assert!(error.contains(why), "{optimizer:?}: {error}");
    }
    // A parameter that no gradient reaches is named.
    let mut graph = Graph::new();
    let w = graph.variable("w", Type::f32("w", &[3]).unwrap()).unwrap();
    let step = graph
        .variable("step", Type::u32("step", &[COUNTER]).unwrap())
        .unwrap();
    let update = sgd().declare(&mut graph, &[("w", w)]).unwrap();
    graph.begin("train");
    let error = update
        .apply(&mut graph, &[None], step)
        .unwrap_err()
        .to_string();
    assert!(error.starts_with("w: found no influence"), "{error}");
    let error = update.apply(&mut graph, &[], step).unwrap_err().to_string();
    assert!(error.contains("one for each of 1"), "{error}");
}

/// Without a first moment, as some adversarial networks are trained: the rule by hand.
#[test]
fn adam_without_a_first_moment_divides_by_the_second() {
    let rule = Adam {
        betas: [0.0, 0.9],
        ..Adam::default()
    };
    let plan = plan(&Optimizer::new(rule, 0.1), &[("w", 2)], 1);
    let gradient = [0.5f32, -2.0];
    let (mut w, mut v) = ([1.0f64, 3.0], [0.0f64; 2]);
    for step in 1..=3 {
        for k in 0..2 {
            let g = f64::from(gradient[k]);
            v[k] = 0.9 * v[k] + 0.1 * g * g;
            let corrected = v[k] / (1.0 - 0.9f64.powi(step));
            w[k] -= 0.1 * g / (corrected.sqrt() + 1e-8);
        }
    }
    for (device, mut executor) in executors(&plan) {
        begin(&mut *executor, &[("w", &[1.0, 3.0])]);
        write(&mut *executor, "w gradient", Host::F32(gradient.to_vec()));
        executor.run("train", 3).unwrap();
        for (found, wanted) in read(&mut *executor, "w").into_iter().zip(w) {
            let off = (f64::from(found) - wanted).abs();
            assert!(off < 1e-6, "{device}: {found} for {wanted}");
        }
    }
}

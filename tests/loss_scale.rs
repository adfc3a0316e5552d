//! Losses that are scaled while gradients are taken: beside PyTorch's `GradScaler`, bit for bit beside training
//! without, steps that are skipped with all that is kept, each replica by itself, resumed.
//! `tests/fixtures/loss_scale.py` makes the fixture.

mod common;

use std::sync::Arc;

use common::fixtures::load;
use common::mixed_gpu;
use common::weights::{devices, floats, hold, integers, under};
use wgrad::Error;
use wgrad::compile::Options;
use wgrad::data::Dataset;
use wgrad::exec::{Choice, Device};
use wgrad::fit::{Experiment, Fit, JointStep, Loss, TrainStep, Weights};
use wgrad::graph::{Graph, Handle};
use wgrad::model::{Input, Model, Registry, layers::*};
use wgrad::ops::{COUNTER, Tape, advance::Advance};
use wgrad::optim::{
    Adadelta, Adagrad, Adam, AdamW, Adamax, Lamb, Lion, LossScale, NAdam, Optimizer, RmsProp,
    Schedule, Sgd,
};
use wgrad::run::Session;
use wgrad::shape::Type;

fn cpu() -> Device {
    Device::open(Choice::Cpu).unwrap()
}

fn network() -> Model {
    let model = Model::sequential([3]).then(Dense::new(5)).then(Tanh);
    model.then(Dense::new(4)).build().unwrap()
}

fn momentum(rate: f64) -> Optimizer {
    let rule = Sgd {
        momentum: 0.9,
        ..Sgd::default()
    };
    Optimizer::new(rule, rate)
}

/// Every rule, with everything that gradients go through.
fn optimizers() -> Vec<Optimizer> {
    let rms = RmsProp {
        momentum: 0.5,
        centered: true,
        ..RmsProp::default()
    };
    vec![
        Optimizer::new(Sgd::default(), 0.1),
        momentum(0.1).schedule(Schedule::cosine(20).warm_up(3)),
        Optimizer::new(Adam::default(), 0.03).clip_norm(0.3),
        Optimizer::new(AdamW::default(), 0.03)
            .average(0.9)
            .clip_value(0.05)
            .clip_norm(0.3),
        Optimizer::new(rms, 0.01),
        Optimizer::new(Adagrad::default(), 0.1),
        Optimizer::new(Adadelta::default(), 1.0),
        Optimizer::new(Adamax::default(), 0.03),
        Optimizer::new(NAdam::default(), 0.03),
        Optimizer::new(Lion::default(), 0.01),
        Optimizer::new(Lamb::default(), 0.01)
            .clip_norm(0.3)
            .average(0.9),
    ]
}

fn step(optimizer: &Optimizer, device: &Device) -> TrainStep {
    let (model, loss) = (network(), Loss::cross_entropy());
    let step = TrainStep::builder(&model, &loss, optimizer).batch(6);
    step.seed(2).compile(device).unwrap()
}

/// Mini-batch number `k`, whose inputs are infinite if it is spoiled.
fn feed(step: &mut TrainStep, k: usize, spoiled: bool) {
    let mut x: Vec<f32> = (0..18)
        .map(|i| ((k * 18 + i) as f32 * 0.37).sin())
        .collect();
    if spoiled {
        x[5] = f32::INFINITY;
    }
    let t: Vec<u32> = (0..6).map(|i| ((k * 6 + i) * 7 % 4) as u32).collect();
    step.feed("input", &x).unwrap();
    step.feed("target", &t).unwrap();
}

/// What the optimizer keeps, but for its scale.
fn kept(step: &mut TrainStep) -> Vec<(String, Vec<u32>)> {
    let bits = |values: Vec<f32>| values.into_iter().map(f32::to_bits).collect();
    let all = step.optimizer_state().unwrap().into_iter();
    all.filter(|(name, _)| name != "loss scale")
        .map(|(name, values)| (name, bits(values)))
        .collect()
}

#[test]
fn steps_are_those_of_pytorchs_grad_scaler() {
    let fixtures = load("loss_scale");
    let epsilon = 1e-3;
    let adam = Adam {
        epsilon,
        ..Adam::default()
    };
    let adamw = AdamW(Adam {
        epsilon,
        ..AdamW::default().0
    });
    let scale = LossScale::dynamic().from(1024.0).growth_interval(3);
    for (name, optimizer) in [
        ("sgd", momentum(0.3)),
        ("adam", Optimizer::new(adam, 0.05)),
        ("adamw clipped", Optimizer::new(adamw, 0.05).clip_norm(0.2)),
    ] {
        for device in devices() {
            let what = format!("{name}, {}", device.info().name);
            let mut step = step(&optimizer.clone().loss_scale(scale), &device);
            step.set_weights(&under(&fixtures, "before")).unwrap();
            let (mut scales, mut skipped) = (vec![], vec![]);
            for k in 0..14 {
                let x = &floats(&fixtures, "input")[k * 18..][..18];
                step.feed("input", x).unwrap();
                let t = &integers(&fixtures, "target")[k * 6..][..6];
                step.feed("target", t).unwrap();
                step.run(1).unwrap();
                scales.push(step.loss_scale().unwrap()[0] as f32);
                skipped.push(step.skipped_steps().unwrap()[0]);
                if k == 3 || k == 13 {
                    let wanted = under(&fixtures, &format!("{name}/after {k}"));
                    let found = step.weights().unwrap().remove(0);
                    hold(&found, &wanted, &format!("{what}, step {k}"));
                }
            }
            let wanted = floats(&fixtures, &format!("{name}/scales"));
            assert_eq!(scales, wanted, "{what}");
            assert_eq!(
                skipped,
                [1, 1, 1, 1, 2, 3, 3, 3, 3, 3, 4, 4, 4, 4],
                "{what}"
            );
        }
    }
}

/// Powers of two move no bits, whatever the scale does meanwhile, and rates that are set by hand move none
/// either.
#[test]
fn a_scale_changes_no_bits() {
    let growing = LossScale::dynamic().growth_interval(2);
    let scales = [
        None,
        Some(LossScale::fixed(1.0)),
        Some(LossScale::fixed(1024.0)),
        Some(LossScale::fixed(2f64.powi(-10))),
        Some(LossScale::dynamic()),
        Some(growing),
    ];
    for optimizer in optimizers() {
        for device in devices() {
            let mut first: Option<(Vec<Weights>, _)> = None;
            for scale in scales {
                // A GPU's compiler may add up otherwise in kernels that are fused otherwise.
                if scale.is_none() && !device.info().cpu {
                    continue;
                }
                let scaled = match scale {
                    Some(scale) => optimizer.clone().loss_scale(scale),
                    None => optimizer.clone(),
                };
                let (model, loss) = (network(), Loss::cross_entropy());
                let step = TrainStep::builder(&model, &loss, &scaled).batch(6).seed(2);
                // Where gradients are read, updates are launches of their own without a scale, too.
                let mut step = step.keep_gradients().compile(&device).unwrap();
                for k in 0..20 {
                    feed(&mut step, k, false);
                    step.run(1).unwrap();
                }
                if scale == Some(growing) {
                    assert_eq!(step.loss_scale().unwrap(), [65_536.0 * 1024.0]);
                }
                if scale.is_some() {
                    assert_eq!(step.skipped_steps().unwrap(), [0]);
                }
                let found = (step.weights().unwrap(), kept(&mut step));
                let wanted = first.get_or_insert_with(|| found.clone());
                assert!(found == *wanted, "{scaled:?}, {}", device.info().name);
            }
        }
    }
}

/// A mini-batch whose gradients are not finite leaves everything as it was: what follows is what would have
/// followed without it, the number of the update in corrections of the bias too.
#[test]
fn a_step_that_is_skipped_was_never_taken() {
    for optimizer in optimizers() {
        // A schedule counts every step.
        let optimizer = optimizer.schedule(Schedule::constant());
        for scale in [LossScale::dynamic(), LossScale::fixed(64.0)] {
            let optimizer = optimizer.clone().loss_scale(scale);
            for device in devices() {
                let what = format!("{optimizer:?}, {}", device.info().name);
                let (mut with, mut without) =
                    (step(&optimizer, &device), step(&optimizer, &device));
                for k in 0..9 {
                    for spoiled in [true, false] {
                        let skips = spoiled && [0, 4, 5].contains(&k);
                        if spoiled && !skips {
                            continue;
                        }
                        let before = (with.weights().unwrap(), kept(&mut with));
                        feed(&mut with, k, skips);
                        with.run(1).unwrap();
                        let after = (with.weights().unwrap(), kept(&mut with));
                        assert_eq!(before == after, skips, "{what}, step {k}");
                    }
                    feed(&mut without, k, false);
                    without.run(1).unwrap();
                    assert_eq!(
                        with.weights().unwrap(),
                        without.weights().unwrap(),
                        "{what}, {k}"
                    );
                    assert_eq!(kept(&mut with), kept(&mut without), "{what}, step {k}");
                }
                assert_eq!(with.skipped_steps().unwrap(), [3], "{what}");
                let wanted = if scale == LossScale::dynamic() {
                    8192.0
                } else {
                    64.0
                };
                assert_eq!(with.loss_scale().unwrap(), [wanted], "{what}");
            }
        }
    }
}

/// Of a scale that is too large, gradients overflow until it fits; then it grows until they overflow again.
#[test]
fn a_scale_finds_its_size() {
    let scale = LossScale::dynamic().from(2f64.powi(126)).growth_interval(4);
    let optimizer = momentum(0.1).loss_scale(scale);
    for device in devices() {
        let mut step = step(&optimizer, &device);
        let start = step.weights().unwrap();
        let mut scales = vec![];
        for k in 0..100 {
            feed(&mut step, 0, false);
            step.run(1).unwrap();
            scales.push(step.loss_scale().unwrap()[0].log2());
            let down = (126 - k - 1) as f64;
            if scales[k] > 70.0 {
                assert_eq!((scales[k], &step.weights().unwrap()), (down, &start));
            }
        }
        let skipped = step.skipped_steps().unwrap()[0];
        // Norms fit below 2^64.
        assert!((60..=80).contains(&skipped), "{skipped}");
        let last = &scales[80..];
        let (least, most) = last
            .iter()
            .fold((f64::MAX, 0f64), |(a, b), &x| (a.min(x), b.max(x)));
        assert_eq!(most - least, 1.0, "{scales:?}");
        assert_ne!(step.weights().unwrap(), start);
    }
}

/// 40 rows, of which one has gradients that a scale makes infinite.
fn data() -> Dataset {
    let x: Vec<f32> = (0..120).map(|i| (i as f32 * 0.37).sin()).collect();
    let mut y: Vec<f32> = (0..40).map(|i| (i as f32 * 0.91).cos()).collect();
    y[17] = 1e6;
    let data = Dataset::new().with("input", [3], x).unwrap();
    data.with("target", [1], y).unwrap()
}

fn regression() -> Model {
    let model = Model::sequential(Input::f32([3])).then(Dense::new(5));
    let model = model.then(BatchNorm::default()).then(Tanh);
    model.then(Dense::new(1)).build().unwrap()
}

/// Replicas skip the steps that they meet that row in, each by itself, and are the replicas trained alone.
#[test]
fn replicas_skip_by_themselves_and_reports_count_it() {
    let (model, data) = (regression(), data());
    let scale = LossScale::fixed(2f64.powi(50));
    let optimizer = Optimizer::new(Adam::default(), 0.01).loss_scale(scale);
    for device in devices() {
        let fit = || {
            let fit = Fit::new(&model, Loss::mse(), optimizer.clone());
            fit.batch(6).epochs(6)
        };
        let all = fit().replicas(3).run(&data, &device).unwrap();
        let counted = |epoch: usize| all.report.epochs[epoch].skipped_steps.clone();
        // An epoch has a row once, or leaves it out with four others of 40.
        assert!((0..6).all(|e| counted(e).iter().all(|&n| n <= e as u64 + 1)));
        assert!(counted(5).iter().all(|&n| n >= 3), "{:?}", counted(5));
        for replica in 0..3 {
            let alone = fit().first_replica(replica).run(&data, &device).unwrap();
            let replica = replica as usize;
            assert_eq!(alone.weights[0], all.weights[replica]);
            for (a, b) in alone.report.epochs.iter().zip(&all.report.epochs) {
                assert_eq!(a.skipped_steps[0], b.skipped_steps[replica]);
            }
        }
    }
    let plain = Fit::new(&model, Loss::mse(), Optimizer::new(Adam::default(), 0.01));
    let plain = plain.batch(6).run(&data, &cpu()).unwrap();
    let json = serde_json::to_string(&plain.report.epochs[0]).unwrap();
    assert!(!json.contains("skipped"), "{json}");
}

#[test]
fn a_run_that_goes_on_knows_its_scale() {
    let (model, data) = (regression(), data());
    let scale = LossScale::dynamic().from(2f64.powi(50)).growth_interval(5);
    let optimizer = Optimizer::new(AdamW::default(), 0.01).average(0.9);
    let optimizer = optimizer.loss_scale(scale);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("run");
    let run = |epochs: usize, kept: bool| {
        let fit = Fit::new(&model, Loss::mse(), optimizer.clone());
        let fit = fit.batch(6).epochs(epochs).replicas(2).seed(5);
        let fit = if kept {
            fit.checkpoints(&file).resume()
        } else {
            fit
        };
        fit.run(&data, &cpu()).unwrap()
    };
    let whole = run(8, false);
    run(3, true);
    let resumed = run(8, true);
    assert_eq!(resumed.weights, whole.weights);
    let skipped = |o: &wgrad::fit::Outcome| -> Vec<Vec<u64>> {
        let epochs = o.report.epochs.iter();
        epochs.map(|e| e.skipped_steps.clone()).collect()
    };
    assert_eq!(skipped(&resumed), skipped(&whole));
    assert!(skipped(&whole)[2][0] > 0);
    // Another scale is another run.
    let other = optimizer.clone().loss_scale(LossScale::dynamic());
    let fit = Fit::new(&model, Loss::mse(), other).batch(6).epochs(8);
    let fit = fit.replicas(2).seed(5).checkpoints(&file).resume();
    let refused = fit.run(&data, &cpu()).unwrap_err().to_string();
    assert!(
        refused.contains("optimizer where it says `first: 1125899906842624.0, "),
        "{refused}"
    );
    assert!(
        refused.contains("with optimizer where it says `first: 65536.0, "),
        "{refused}"
    );
}

/// A replica that has skipped every step is not trained, and says so; one step that was taken is a beginning.
#[test]
fn a_run_without_a_step_is_no_run() {
    let (model, data) = (regression(), data());
    for device in devices() {
        let run = |scale: f64| {
            let optimizer = Optimizer::new(Adam::default(), 0.01);
            let optimizer = optimizer.loss_scale(LossScale::fixed(scale));
            let fit = Fit::new(&model, Loss::mse(), optimizer).batch(6).epochs(2);
            fit.replicas(2).run(&data, &device)
        };
        let error = run(2f64.powi(126)).map(|_| ()).unwrap_err();
        let Error::NotFinite { place, fix, .. } = &error else {
            panic!("{error}");
        };
        assert_eq!(place, "gradients of every step");
        assert!(fix.contains("smaller loss scale"), "{fix}");
        assert!(run(1024.0).is_ok());
    }
}

/// Nothing is uploaded and read back; sweeps, rates by hand and gradients that are read know of it.
#[test]
fn all_of_it_stays_on_the_device() {
    for device in devices() {
        let optimizer = Optimizer::new(AdamW::default(), 0.02).clip_norm(0.3);
        let scaled = optimizer.clone().loss_scale(LossScale::dynamic());
        let (model, loss) = (network(), Loss::cross_entropy());
        let made = |optimizer: &Optimizer, by_hand: bool| {
            let step = TrainStep::builder(&model, &loss, optimizer)
                .batch(6)
                .seed(2);
            let step = step.keep_gradients();
            let step = if by_hand { step.by_hand() } else { step };
            step.compile(&device).unwrap()
        };
        let (mut plain, mut by_hand) = (made(&scaled, false), made(&scaled, true));
        let mut without = made(&optimizer, false);
        for k in 0..5 {
            for step in [&mut plain, &mut by_hand, &mut without] {
                feed(step, k, false);
                let before = step.traffic();
                step.run(1).unwrap();
                let after = step.traffic();
                assert_eq!(before.uploaded, after.uploaded);
                assert_eq!(before.readbacks, after.readbacks);
            }
            let gradients = plain.gradients().unwrap();
            assert_eq!(gradients, by_hand.gradients().unwrap());
            if device.info().cpu {
                assert_eq!(gradients, without.gradients().unwrap());
                assert_eq!(plain.weights().unwrap(), by_hand.weights().unwrap());
            }
        }
        feed(&mut by_hand, 0, true);
        let before = (by_hand.weights().unwrap(), kept(&mut by_hand));
        by_hand.run(1).unwrap();
        assert_eq!(before, (by_hand.weights().unwrap(), kept(&mut by_hand)));
        assert!(without.loss_scale().is_err() && without.skipped_steps().is_err());
    }
}

#[test]
fn several_losses_have_a_scale_each() {
    let optimizer = momentum(0.1).loss_scale(LossScale::dynamic());
    let plain = Optimizer::new(Adam::default(), 0.1);
    for device in devices() {
        let step = JointStep::builder().batch(4);
        let mut step = step
            .compile(&device, |s| {
                let (x, t) = (
                    s.input("x", Input::f32([3]))?,
                    s.input("t", Input::f32([1]))?,
                );
                for (name, optimizer) in [
                    ("scaled", &optimizer),
                    ("other", &optimizer),
                    ("plain", &plain),
                ] {
                    let net = s.model(name, &regression())?;
                    let y = s.call(net, &[x])?;
                    let loss = s.loss(&Loss::mse(), &[y], &[t])?;
                    let loss = match name {
                        // Of one, gradients overflow.
                        "scaled" => wgrad::ops::pointwise::pointwise(s, [loss], |[l]| l * 1e18)?,
                        _ => loss,
                    };
                    s.minimise(name, loss, &[net], optimizer)?;
                }
                Ok(())
            })
            .unwrap();
        let x: Vec<f32> = (0..12).map(|i| (i as f32 * 0.37).sin()).collect();
        step.feed("x", &x).unwrap();
        step.feed("t", &[1.0f32, 2.0, -3.0, 0.5]).unwrap();
        step.run(3).unwrap();
        let skipped = step.skipped_steps().unwrap();
        let of = |name: &str| skipped.get(name).cloned();
        assert_eq!(of("scaled"), Some(vec![3]));
        assert_eq!(of("other"), Some(vec![0]));
        assert_eq!(of("plain"), None);
    }
}

/// Sums of micro-batches are judged as one, and begin anew behind a step that is skipped.
#[test]
fn micro_batches_are_skipped_together() {
    let rule = Optimizer::new(Sgd::default(), 0.5)
        .accumulate(2)
        .clip_norm(100.0);
    let optimizer = rule.loss_scale(LossScale::dynamic().from(4.0));
    for device in devices() {
        let mut graph = Graph::new();
        let ty = Type::f32("w", &[2]).unwrap();
        let w = graph.variable("w", ty.clone()).unwrap();
        let factor = graph.variable("factor", ty).unwrap();
        let step = Type::u32("step", &[COUNTER]).unwrap();
        let step = graph.variable("step", step).unwrap();
        let update = optimizer.declare(&mut graph, &[("w", w)]).unwrap();
        let init = graph.begin("init");
        update.init(&mut graph).unwrap();
        let add = graph.begin("micro-batch");
        let seed = update.seed(&mut graph, &[2], 1.0).unwrap();
        let product = wgrad::ops::pointwise::pointwise(&mut graph, [w, factor], |[w, f]| w * f);
        let gradients = graph.gradients(product.unwrap(), seed, &[w]).unwrap();
        update.add(&mut graph, &gradients).unwrap();
        let train = graph.begin("train");
        update.apply_sum(&mut graph, step).unwrap();
        graph.op(Arc::new(Advance), &[step]).unwrap();
        let mut session = Session::with(&graph, &device, &Options::on(device.info())).unwrap();
        let w: Handle<f32> = graph.handle(w).unwrap();
        let factor: Handle<f32> = graph.handle(factor).unwrap();
        session.write(w, &[1.0f32, 2.0]).unwrap();
        session.fill(graph.handle::<u32>(step).unwrap(), 0).unwrap();
        session.run(init, 1).unwrap();
        for (pair, wanted) in [
            ([[1.0, 2.0], [3.0, 2.0]], [0.0, 1.0]),
            ([[1.0, f32::INFINITY], [3.0, 2.0]], [0.0, 1.0]),
            ([[1.0, 2.0], [3.0, -2.0]], [-1.0, 1.0]),
        ] {
            for factors in pair {
                session.write(factor, &factors[..]).unwrap();
                session.run(add, 1).unwrap();
            }
            session.run(train, 1).unwrap();
            assert_eq!(session.read(w).unwrap().into_vec(), wanted);
        }
    }
}

#[test]
fn scales_that_are_none_are_refused() {
    let (model, loss) = (network(), Loss::cross_entropy());
    for (scale, name) in [
        (LossScale::fixed(0.0), "loss scale"),
        (LossScale::fixed(-2.0), "loss scale"),
        (LossScale::fixed(1000.0), "loss scale"),
        (LossScale::fixed(f64::NAN), "loss scale"),
        (LossScale::fixed(f64::INFINITY), "loss scale"),
        (LossScale::fixed(2f64.powi(127)), "loss scale"),
        (LossScale::dynamic().growth_interval(0), "growth interval"),
        (
            LossScale::dynamic().growth_interval(1 << 25),
            "growth interval",
        ),
    ] {
        let optimizer = momentum(0.1).loss_scale(scale);
        let step = TrainStep::builder(&model, &loss, &optimizer).compile(&cpu());
        let told = step.unwrap_err().to_string();
        assert!(told.starts_with(name), "{told}");
    }
    let [a, b] = [LossScale::dynamic(), LossScale::fixed(1.0)].map(|s| momentum(0.1).loss_scale(s));
    let regression = regression();
    let sweep = Fit::new(&regression, Loss::mse(), a.clone())
        .sweep([a, b])
        .batch(4);
    assert!(sweep.run(&data(), &cpu()).is_err());
    // From a file.
    let folder = tempfile::tempdir().unwrap();
    let rows: String = (0..20).map(|i| format!("{i},{}\n", 2 * i)).collect();
    std::fs::write(folder.path().join("data.csv"), format!("x,y\n{rows}")).unwrap();
    let file = folder.path().join("experiment.toml");
    let run = |scale: &str| {
        let text = format!(
            "name = \"scaled\"\n[data]\npath = \"data.csv\"\ntargets = [\"y\"]\n\
             [loss]\nkind = \"mse\"\n[optimizer]\nkind = \"adam\"\nrate = 0.01\n\
             [training]\nepochs = 2\nbatch = 4\nloss_scale = {scale}\n\
             [[model.layers]]\nkind = \"dense\"\nunits = 1\n"
        );
        std::fs::write(&file, text).unwrap();
        let prepared = Experiment::load(&file)?.prepare(None, &Registry::standard())?;
        prepared.run(&cpu(), |_| {})
    };
    for scale in ["\"dynamic\"", "1024", "0.5"] {
        let report = run(scale).unwrap().report;
        assert_eq!(report.epochs[1].skipped_steps, [0], "{scale}");
    }
    for scale in ["0", "-1", "nan", "inf", "1000.0", "\"dynamc\""] {
        let told = run(scale).unwrap_err().to_string();
        assert!(told.contains("loss scale"), "{scale}: {told}");
    }
    let told = run("\"dynamc\"").unwrap_err().to_string();
    assert!(told.contains("did you mean `dynamic`"), "{told}");
}

/// Input and weight gradients of dense layers.
fn wide() -> Model {
    let model = Model::sequential([70]).then(Dense::new(40)).then(Tanh);
    let model = model.then(Dense::new(33)).then(Tanh);
    model.then(Dense::new(16)).build().unwrap()
}

/// More than a dense layer's way back in one launch takes.
const MANY: usize = 130;

fn fed(optimizer: &Optimizer, factor: f64, device: &Device) -> TrainStep {
    let (model, loss) = (wide(), Loss::mse() * factor);
    let step = TrainStep::builder(&model, &loss, optimizer).batch(MANY);
    let mut step = step.seed(3).keep_gradients().compile(device).unwrap();
    let x: Vec<f32> = (0..MANY * 70).map(|i| (i as f32 * 0.37).sin()).collect();
    let t: Vec<f32> = (0..MANY * 16).map(|i| (i as f32 * 0.91).cos()).collect();
    step.feed("input", &x).unwrap();
    step.feed("target", &t).unwrap();
    step
}

/// How far gradients are apart, in the largest of each parameter's; the worst of all.
fn apart(found: &Weights, wanted: &Weights) -> f32 {
    let gaps = wanted.tensors().iter().map(|(name, wanted)| {
        let most = wanted.iter().fold(0f32, |m, x| m.max(x.abs()));
        let pairs = found.get(name).unwrap().iter().zip(wanted);
        pairs.fold(0f32, |m, (a, b)| m.max((a - b).abs())) / most
    });
    gaps.fold(0.0, f32::max)
}

/// Matrix units take gradients where losses are scaled: what would be too small for f16 is kept, and what is too large
/// is noticed. Without a scale they take none.
#[test]
fn gradients_by_matrix_units_want_a_scale() {
    let Some(mixed) = mixed_gpu() else { return };
    let plain = momentum(0.1);
    let units = |step: &TrainStep| {
        let by_units = |launch: &&wgrad::plan::Launch| launch.kernel.name.contains("fragments");
        let all: Vec<&str> = step
            .launches()
            .iter()
            .filter(by_units)
            .map(|l| &*l.label)
            .collect();
        let backward = all
            .iter()
            .filter(|label| label.contains("backward"))
            .count();
        [all.len() - backward, backward]
    };
    let gradients = |step: &mut TrainStep| {
        step.run(1).unwrap();
        step.gradients().unwrap().remove(0)
    };
    // Gradients of 10^-9, where the least number of f16 is 6 * 10^-8.
    let wanted = gradients(&mut fed(&plain, 1e-6, &cpu()));
    let mut without = fed(&plain, 1e-6, &mixed);
    assert_eq!(units(&without), [3, 0]);
    // Forward products round to 11 bits.
    let gap = apart(&gradients(&mut without), &wanted);
    assert!(gap < 0.01, "{gap}");
    let mut scaled = fed(
        &plain.clone().loss_scale(LossScale::dynamic()),
        1e-6,
        &mixed,
    );
    // The weights of three layers, and the inputs of two.
    assert_eq!(units(&scaled), [3, 5]);
    let gap = apart(&gradients(&mut scaled), &wanted);
    assert!(gap < 0.01, "{gap}");
    let mut lost = fed(
        &plain.clone().loss_scale(LossScale::fixed(1.0)),
        1e-6,
        &mixed,
    );
    let gap = apart(&gradients(&mut lost), &wanted);
    assert!(gap > 0.5, "{gap}");
    let large = plain.clone().loss_scale(LossScale::fixed(2f64.powi(40)));
    let mut large = fed(&large, 1.0, &mixed);
    let before = large.weights().unwrap();
    large.run(3).unwrap();
    assert_eq!(large.skipped_steps().unwrap(), [3]);
    assert_eq!(large.weights().unwrap(), before);
    let large = plain.loss_scale(LossScale::dynamic().from(2f64.powi(40)));
    let mut large = fed(&large, 1.0, &mixed);
    large.run(60).unwrap();
    let skipped = large.skipped_steps().unwrap()[0];
    assert!((10..=45).contains(&skipped), "{skipped}");
    assert_ne!(large.weights().unwrap(), before);
}

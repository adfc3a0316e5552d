//! Launches that are held to the reference while a network trains: `verify_every` of `Fit`, `TrainStep` and `JointStep`.

mod common;

use std::sync::Arc;

use common::gpu;
use wgrad::data::{Dataset, Shards};
use wgrad::exec::{Choice, Device};
use wgrad::fit::{Fit, JointStep, Loss, TrainStep, Weights};
use wgrad::kernel::{Args, Bind, Kernel};
use wgrad::model::{Initializer, Input, Model, layers::*};
use wgrad::ops::{Lowered, Lowering, Op, Operand, Tape};
use wgrad::optim::{Adagrad, Adam, AdamW, Lamb, LossScale, Optimizer, RmsProp, Sgd};
use wgrad::shape::Type;
use wgrad::tensor::Real;
use wgrad::{Error, Result};

fn devices() -> Vec<Device> {
    let cpu = Device::open(Choice::Cpu).unwrap();
    std::iter::once(cpu).chain(gpu()).collect()
}

/// y = 2x.
fn doubled<R: Real>(args: &mut Args<'_, R>) {
    let y = args.f_mut(1);
    for (y, &x) in y.iter_mut().zip(args.f(0)) {
        *y = x + x;
    }
}

/// What a processor is to take for it, which forgets an element.
fn doubled_but_one(args: &mut Args<'_, f32>) {
    let y = args.f_mut(1);
    for (i, (y, &x)) in y.iter_mut().zip(args.f(0)).enumerate() {
        *y = if i == 3 { 0.0 } else { x + x };
    }
}

/// It forgets the same element on a GPU.
static FORGETFUL: Kernel = Kernel::new(
    "forgetful",
    "override N: u32 = 1u;
     @group(0) @binding(0) var<storage, read> x: array<f32>;
     @group(0) @binding(1) var<storage, read_write> y: array<f32>;
     @compute @workgroup_size(64)
     fn forgetful(@builtin(global_invocation_id) id: vec3<u32>) {
         if id.x < N { y[id.x] = select(2.0 * x[id.x], 0.0, id.x == 3u); }
     }",
    &[Bind::read("x").of("N"), Bind::write("y").of("N")],
    &["N"],
    wgrad::reference!(doubled),
)
.with_optimized(doubled_but_one);

#[derive(Debug)]
struct Forgetful;

impl Op for Forgetful {
    fn name(&self) -> &'static str {
        "forgetful"
    }

    fn infer(&self, inputs: &[Type]) -> Result<Vec<Type>> {
        Ok(vec![inputs[0].clone()])
    }

    fn lower(&self, inputs: &[Type], _: &[Type]) -> Result<Lowering> {
        let n = inputs[0].shape.elements();
        Ok(Lowering::Launch(Lowered {
            kernel: &FORGETFUL,
            constants: vec![("N", n as f64)],
            operands: vec![Operand::In(0), Operand::Out(0)],
            grid: [n.div_ceil(64) as u32, 1],
            flops: n as u64,
            alternatives: vec![],
        }))
    }
}

/// A network that begins with what forgets, or does not.
fn model(forgetful: bool) -> Model {
    let model = Model::sequential([5]);
    let model = match forgetful {
        true => model.then(Function::new("forgetful", |scope, inputs| {
            scope.op1(Arc::new(Forgetful), inputs)
        })),
        false => model.then(Tanh),
    };
    let model = model.then(Dense::new(7)).then(Tanh).then(Dense::new(1));
    model.build().unwrap()
}

fn data() -> Dataset {
    let x = (0..60 * 5)
        .map(|i| (i as f32 * 0.7).sin())
        .collect::<Vec<_>>();
    let y = (0..60).map(|i| (i as f32 * 0.3).cos()).collect::<Vec<_>>();
    let data = Dataset::new().with("input", [5], x).unwrap();
    data.with("target", [1], y).unwrap()
}

fn adam() -> Optimizer {
    Optimizer::new(Adam::default(), 0.01)
}

/// The run of five epochs of ten steps, in shards if these are said.
fn fitted(forgetful: bool, device: &Device, every: u64, shard: Option<usize>) -> Result<Weights> {
    let (model, data) = (model(forgetful), data());
    let fit = Fit::new(&model, Loss::mse(), adam()).batch(6).epochs(5);
    let fit = fit.verify_every(every);
    let mut outcome = match shard {
        Some(rows) => fit.run(Shards::of(&data, rows), device)?,
        None => fit.run(&data, device)?,
    };
    Ok(outcome.weights.remove(0))
}

fn stepped(forgetful: bool, device: &Device, every: u64) -> Result<(Weights, u64)> {
    let (model, loss, optimizer) = (model(forgetful), Loss::mse(), adam());
    let step = TrainStep::builder(&model, &loss, &optimizer)
        .batch(6)
        .verify_every(every);
    let mut step = step.compile_over(&data(), device)?;
    // Of epochs of ten steps.
    step.run(13)?;
    step.profile(4)?;
    step.run(40)?;
    let readbacks = step.traffic().readbacks;
    Ok((step.weights()?.remove(0), readbacks))
}

fn jointly(forgetful: bool, device: &Device, every: u64) -> Result<(Weights, u64)> {
    let model = model(forgetful);
    let step = JointStep::builder().batch(6).verify_every(every);
    let mut step = step.compile_over(&data(), device, |s| {
        let net = s.model("net", &model)?;
        let (x, y) = (s.input("input", [5])?, s.input("target", [1])?);
        let answer = s.call(net, &[x])?;
        let loss = s.loss(&Loss::mse(), &[answer], &[y])?;
        s.minimise("loss", loss, &[net], &Optimizer::new(Sgd::default(), 0.01))
    })?;
    step.run(57)?;
    let readbacks = step.traffic().readbacks;
    Ok((step.weights("net")?.remove(0), readbacks))
}

/// A launch that computes something else than its reference ends whatever trains with it, by name.
#[test]
fn a_wrong_launch_ends_the_run() {
    for device in devices() {
        let told = |what: &str, result: Result<()>| match result {
            Err(Error::Disagrees { launch, .. }) => {
                assert!(launch.contains("forgetful"), "{what}: {launch}");
            }
            other => panic!("{what} on {}: {other:?}", device.info().name),
        };
        told("fit", fitted(true, &device, 1, None).map(drop));
        told("shards", fitted(true, &device, 1, Some(20)).map(drop));
        told("step", stepped(true, &device, 1).map(drop));
        told("joint", jointly(true, &device, 1).map(drop));
        // Nobody looks.
        assert!(fitted(true, &device, 0, None).is_ok());
        assert!(fitted(true, &device, 0, Some(20)).is_ok());
        assert!(stepped(true, &device, 0).is_ok());
        assert!(jointly(true, &device, 0).is_ok());
    }
}

/// Steps of which one is verified are the steps that they were, and as many are as was said: each reads what its
/// launch has read and what it has written.
#[test]
fn verified_steps_are_the_same_steps() {
    for device in devices() {
        let name = &device.info().name;
        for shard in [None, Some(20)] {
            let plain = fitted(false, &device, 0, shard).unwrap();
            for every in [1, 3, 1000] {
                assert_eq!(
                    fitted(false, &device, every, shard).unwrap(),
                    plain,
                    "{name}, {every}"
                );
            }
        }
        let (plain, none) = stepped(false, &device, 0).unwrap();
        let (joint, of_joint) = jointly(false, &device, 0).unwrap();
        for every in [1u64, 3, 57, 58] {
            let (weights, readbacks) = stepped(false, &device, every).unwrap();
            assert_eq!(weights, plain, "{name}, {every}");
            // Those of a profile are measured.
            let measured = (14..=17).filter(|step| step % every == 0).count() as u64;
            // One for each that has read nothing, else two.
            let of = |steps: u64| steps..=2 * steps;
            let found = readbacks - none;
            assert!(
                of(57 / every - measured).contains(&found),
                "{name}, {every}: {found}"
            );
            let (weights, readbacks) = jointly(false, &device, every).unwrap();
            assert_eq!(weights, joint, "{name}, {every}");
            let found = readbacks - of_joint;
            assert!(of(57 / every).contains(&found), "{name}, {every}: {found}");
        }
    }
}

/// What is 0 throughout, such as the moments of a dead unit or of a row that no word asks for, is no disagreement:
/// of a root at 0 it is known how far it may be off, and no element is held to the bounds of others.
#[test]
fn zeros_are_no_disagreement() {
    type Made = fn() -> Model;
    let models: [(&str, Made); 3] = [
        ("a head of zeros", || {
            let head = Dense::new(1).weight_start(Initializer::Constant(0.0));
            let model = Model::sequential([5]).then(Dense::new(7)).then(Tanh);
            model.then(head).build().unwrap()
        }),
        ("dead units", || {
            let dead = Dense::new(7).bias_start(Initializer::Constant(-5.0));
            let model = Model::sequential([5]).then(dead).then(Relu);
            model.then(Dense::new(1)).build().unwrap()
        }),
        ("words", || {
            let words = Input::u32([5]);
            let model = Model::sequential(words).then(Embedding::new(50, 6));
            model.then(Flatten).then(Dense::new(1)).build().unwrap()
        }),
    ];
    let optimizers = [
        Optimizer::new(AdamW::default(), 0.05),
        Optimizer::new(AdamW::default(), 0.05).clip_norm(1.0),
        Optimizer::new(AdamW::default(), 0.05).loss_scale(LossScale::dynamic()),
        Optimizer::new(Lamb::default(), 0.05),
        Optimizer::new(Lamb::default(), 0.05).clip_norm(1.0),
        Optimizer::new(RmsProp::default(), 0.05).clip_norm(1.0),
        Optimizer::new(Adagrad::default(), 0.05).clip_norm(1.0),
    ];
    for device in devices() {
        for (what, made) in models {
            let model = made();
            let data = match what {
                "words" => {
                    let words = (0..300u32).map(|i| i * 7 % 5).collect::<Vec<_>>();
                    let data = Dataset::new().with("input", [5], words).unwrap();
                    data.with("target", [1], vec![0.3; 60]).unwrap()
                }
                _ => data(),
            };
            for optimizer in &optimizers {
                for seed in 0..3 {
                    let fit = Fit::new(&model, Loss::mse(), optimizer.clone())
                        .batch(6)
                        .epochs(1);
                    let run = fit.seed(seed).verify_every(1).run(&data, &device);
                    let place = format!("{what}, {optimizer:?}, {seed} on {}", device.info().name);
                    assert!(run.is_ok(), "{place}: {}", run.map(drop).unwrap_err());
                }
            }
        }
    }
}

/// What is only written need not have been there before.
#[test]
fn results_that_are_kept_are_verified_in_the_first_step() {
    let (model, loss, optimizer) = (
        model(false),
        Loss::mse(),
        Optimizer::new(Sgd::default(), 0.1),
    );
    for device in devices() {
        for seed in 0..6 {
            let step = TrainStep::builder(&model, &loss, &optimizer)
                .batch(6)
                .seed(seed);
            let step = step.keep_gradients().keep_losses(9).verify_every(1);
            let mut step = step.compile_over(&data(), &device).unwrap();
            step.run(3).unwrap();
        }
    }
}

/// A network that diverges is told as such; the device that computes it, in f32, is not blamed for what f64 would have had.
#[test]
fn numbers_beyond_f32_are_nobodys_fault() {
    let model = Model::sequential([3])
        .then(Dense::new(6))
        .then(BatchNorm::new())
        .then(Relu);
    let model = model.then(Dense::new(1)).build().unwrap();
    let x: Vec<f32> = (0..120).map(|i| (i as f32 * 0.7).sin()).collect();
    let y: Vec<f32> = x.chunks(3).map(|x| (2.0 * x[0] - x[1]).sin()).collect();
    let data = Dataset::new().with("input", [3], x).unwrap();
    let data = data.with("target", [1], y).unwrap();
    for device in devices() {
        for rate in [1e3, 1e5, 1e9] {
            let optimizers = [0.01, rate, 0.02].map(|rate| Optimizer::new(Sgd::default(), rate));
            let fit = Fit::new(&model, Loss::mse(), optimizers[0].clone()).sweep(optimizers);
            let fit = fit.batch(8).epochs(6).seed(4).verify_every(1);
            let outcome = fit.run(&data, &device).unwrap();
            assert!(outcome.report.is_lost(1) || rate == 1e3, "{rate}");
            assert!(!outcome.report.is_lost(0) && !outcome.report.is_lost(2));
        }
    }
}

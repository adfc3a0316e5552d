//! A regression from the graph up: own network, own loss, AdamW with a schedule, three networks at
//! once, on whatever device there is.
//!
//!     cargo run --release --example regression

use std::sync::Arc;

use wgrad::Result;
use wgrad::compile::Options;
use wgrad::exec::{Choice, Device};
use wgrad::expr::activations::gelu;
use wgrad::graph::Graph;
use wgrad::ops::advance::Advance;
use wgrad::ops::init::{Distribution, Init};
use wgrad::ops::matmul::Matmul;
use wgrad::ops::pointwise::pointwise;
use wgrad::ops::reduction::{Kind, Reduction};
use wgrad::ops::{COUNTER, Tape, Value};
use wgrad::optim::{AdamW, Optimizer, Schedule};
use wgrad::rng::{KEYS, keys};
use wgrad::run::Session;
use wgrad::shape::Type;

/// Points, and units of a hidden layer.
const N: usize = 128;
const H: usize = 32;
const STEPS: u64 = 1000;

fn main() -> Result<()> {
    let mut graph = Graph::new();
    let points = |name: &str| Type::f32(name, &[N, 1]);
    let x = graph.input::<f32>("x", points("x")?)?;
    let t = graph.input::<f32>("t", points("t")?)?;
    let one = graph.input::<f32>("one", Type::f32("one", &[1])?)?;
    let keys_of = graph.input::<u32>("keys", Type::u32("keys", &[KEYS])?)?;
    let step = graph.input::<u32>("step", Type::u32("step", &[COUNTER])?)?;

    // Weights [to, from] and biases [to] of three layers.
    let mut parameters: Vec<(String, Value)> = vec![];
    for (layer, [from, to]) in [[1, H], [H, H], [H, 1]].into_iter().enumerate() {
        for (what, extents) in [("weight", vec![to, from]), ("bias", vec![to])] {
            let name = format!("{layer}.{what}");
            let ty = Type::f32(&name, &extents)?;
            parameters.push((name.clone(), graph.variable(&name, ty)?));
        }
    }
    let named: Vec<(&str, Value)> = parameters.iter().map(|(n, v)| (n.as_str(), *v)).collect();
    let optimizer = Optimizer::new(AdamW::with_decay(1e-4), 0.01)
        .schedule(Schedule::cosine(STEPS).warm_up(50))
        .clip_norm(1.0);
    let update = optimizer.declare(&mut graph, &named)?;
    let values: Vec<Value> = parameters.iter().map(|(_, value)| *value).collect();

    let init = graph.begin("init");
    for (number, &value) in values.iter().enumerate() {
        let distribution = Distribution::Uniform { limit: 0.5 };
        let init = Init {
            distribution,
            parameter: number as u32,
        };
        graph.op(Arc::new(init), &[value, keys_of.value()])?;
    }
    update.init(&mut graph)?;

    let train = graph.begin("train");
    let mut y = x.value();
    for (layer, wb) in values.chunks(2).enumerate() {
        let z = graph.op1(Arc::new(Matmul::new(false, true)), &[y, wb[0]])?;
        // Bias and activation are one expression.
        y = match layer {
            2 => pointwise(&mut graph, [z, wb[1]], |[z, b]| z + b)?,
            _ => pointwise(&mut graph, [z, wb[1]], |[z, b]| gelu(&(z + b)))?,
        };
    }
    let squares = pointwise(&mut graph, [y, t.value()], |[y, t]| (y - t).square())?;
    let cost = graph.op1(Arc::new(Reduction::new(Kind::Mean, &[0, 1])), &[squares])?;
    let gradients = graph.gradients(cost, one.value(), &values)?;
    update.apply(&mut graph, &gradients, step.value())?;
    graph.op(Arc::new(Advance), &[step.value()])?;
    let cost = graph.output::<f32>("cost", cost)?;

    let device = Device::open(Choice::Auto)?;
    let options = Options {
        replicas: 3,
        fuse: true,
        limits: device.info().limits,
    };
    let mut session = Session::with(&graph, &device, &options)?;
    let inputs: Vec<f32> = (0..N).map(|i| 2.0 * i as f32 / N as f32 - 1.0).collect();
    let targets: Vec<f32> = inputs.iter().map(|x| (4.0 * x).sin() * 0.8).collect();
    session.write_each(x, &inputs)?;
    session.write_each(t, &targets)?;
    session.fill(one, 1.0)?;
    session.fill(step, 0)?;
    let keys: Vec<u32> = (0..3).flat_map(|replica| keys(7, replica)).collect();
    session.write(keys_of, &keys)?;
    session.run(init, 1)?;
    for round in 0..5 {
        session.run(train, if round == 0 { 1 } else { STEPS / 4 })?;
        println!(
            "mean squared error of three networks: {:?}",
            &session.read(cost)?[..]
        );
    }
    Ok(())
}

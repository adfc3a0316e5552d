//! How long a training step of an LSTM takes: 128 -> 256, 64 steps of time, mini-batch 32, a number
//! from the last state. `cargo run --release --example lstm -- [DEVICE] [STEPS]`; its twin for
//! PyTorch is benches/compare/lstm.py.

use std::collections::BTreeMap;
use std::time::Instant;

use wgrad::exec::{Choice, Device};
use wgrad::fit::{Loss, TrainStep};
use wgrad::model::{Model, layers::*};
use wgrad::optim::{Optimizer, Sgd};

const T: usize = 64;
const D: usize = 128;
const H: usize = 256;
const BATCH: usize = 32;

fn main() -> wgrad::Result<()> {
    let mut args = std::env::args().skip(1);
    let device = Device::open(args.next().as_deref().unwrap_or("cpu").parse::<Choice>()?)?;
    let steps = args.next().and_then(|n| n.parse().ok()).unwrap_or(20);
    let model = Model::sequential([T, D]).then(Lstm::new(H).last());
    let model = model.then(Dense::new(1)).build()?;
    let (loss, optimizer) = (Loss::mse(), Optimizer::new(Sgd::default(), 0.01));
    let step = TrainStep::builder(&model, &loss, &optimizer).batch(BATCH);
    let mut step = step.compile(&device)?;
    let wave = |i: usize| (i as f32 * 0.37).sin();
    step.feed("input", &(0..BATCH * T * D).map(wave).collect::<Vec<f32>>())?;
    step.feed("target", &(0..BATCH).map(wave).collect::<Vec<f32>>())?;
    let mut kernels: BTreeMap<&str, usize> = BTreeMap::new();
    for launch in step.launches() {
        *kernels.entry(launch.kernel.name).or_default() += 1;
    }
    println!("{} launches: {kernels:?}", step.launches().len());
    step.run(3)?;
    step.loss()?;
    let mut best = f64::INFINITY;
    for _ in 0..steps {
        let start = Instant::now();
        step.run(1)?;
        let loss = step.loss()?;
        let took = start.elapsed().as_secs_f64() * 1e3;
        best = best.min(took);
        println!("{took:.2} ms, loss {:.5}", loss[0]);
    }
    println!("best {best:.2} ms on {}", device.info().name);
    Ok(())
}

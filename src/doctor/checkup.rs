//! The whole examination of a device: what `wgrad doctor` prints.

use std::sync::Arc;

use serde::Serialize;

use super::{Comparison, examine, tolerance::Side};
use crate::clock::Stopwatch;
use crate::data::digits::{Part, generate};
use crate::error::Result;
use crate::exec::{Choice, Device};
use crate::fit::{Fit, Loss};
use crate::graph::Graph;
use crate::model::{Model, layers::*};
use crate::ops::{COUNTER, TABLE, Tape, advance::Advance};
use crate::optim::{Optimizer, Sgd};
use crate::run::Session;
use crate::shape::Type;

/// Launches timed for the cost of one.
const LAUNCHES: u64 = 2_000;

/// One op's result.
#[derive(Clone, Debug, Serialize)]
pub struct OpResult {
    /// The op's stem.
    pub op: &'static str,
    /// Its kernels.
    pub kernels: usize,
    /// Its cases.
    pub cases: usize,
    /// How it compares.
    #[serde(flatten)]
    pub comparison: Comparison,
    /// Seconds it took.
    pub seconds: f64,
}

/// How far an examination is.
#[derive(Clone, Copy, Debug)]
pub enum Stage<'a> {
    /// What is being done now: the time of a launch, a case of an op, the training run. A
    /// driver that has compiled none of it before may take long.
    Begun {
        /// An op's stem, or what it is in words.
        what: &'a str,
        /// Which of so many parts, counted from 1.
        part: usize,
        /// How many parts there are.
        of: usize,
    },
    /// An op is done.
    Done(&'a OpResult),
}

/// A short training run on the device beside the CPU.
#[derive(Clone, Debug, Serialize)]
pub struct TrainingResult {
    /// Cost of each epoch on the CPU executor.
    pub cpu_cost: Vec<f64>,
    /// Cost of each epoch on the device.
    pub cost: Vec<f64>,
    /// The largest relative difference.
    pub worst: f64,
}

/// How far the costs of the training run may lie apart, relative. Roundings differ from
/// the first step, and 150 steps at a small learning rate multiply them by some
/// thousands: 1e-7 becomes 1e-4. A wrong kernel is off in the first digit.
pub const TRAINING_ALLOWED: f64 = 0.01;

/// The examination of a device.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// wgrad's version.
    pub version: &'static str,
    /// The device: adapter, backend, driver.
    pub device: String,
    /// Whether it is a program that stands in for a GPU.
    pub software: bool,
    /// The largest binding it allows, in bytes.
    pub binding_bytes: u64,
    /// Microseconds per launch that depends on the one before.
    pub microseconds_per_launch: f64,
    /// Every op of the table.
    pub ops: Vec<OpResult>,
    /// The short training run.
    pub training: TrainingResult,
    /// Comparisons in all.
    pub comparisons: usize,
    /// Whether everything is as it should be.
    pub healthy: bool,
    /// Seconds it took.
    pub seconds: f64,
}

/// How many replicas each case is examined with.
const REPLICAS: [usize; 2] = [1, 3];

/// Examines a device; `tell` hears what is begun, and of each op when it is done.
///
/// # Errors
/// What the device says when it fails. A kernel that computes something wrong is no error
/// but stands in the report.
pub fn checkup(device: &Device, tell: &mut dyn FnMut(Stage<'_>)) -> Result<Report> {
    let start = Stopwatch::start();
    let info = device.info();
    let side = if info.cpu { Side::Cpu } else { Side::Gpu };
    let alone = |what| Stage::Begun {
        what,
        part: 1,
        of: 1,
    };
    tell(alone("time of a launch"));
    let microseconds_per_launch = launch_cost(device)?;
    let mut ops = Vec::new();
    for row in TABLE {
        let begun = Stopwatch::start();
        let cases = (row.cases)().len();
        let mut part = 0;
        let comparison = examine(row, &REPLICAS, side, &mut |plan| {
            part += 1;
            tell(Stage::Begun {
                what: row.stem,
                part,
                of: cases * REPLICAS.len(),
            });
            let variants = device.variants(plan).into_iter();
            variants.map(|plan| device.executor(plan)).collect()
        })?;
        let result = OpResult {
            op: row.stem,
            kernels: row.kernels.len(),
            cases,
            comparison,
            seconds: begun.seconds(),
        };
        tell(Stage::Done(&result));
        ops.push(result);
    }
    tell(alone("training"));
    let training = training(device)?;
    let healthy =
        ops.iter().all(|o| o.comparison.failure.is_none()) && training.worst <= TRAINING_ALLOWED;
    Ok(Report {
        version: env!("CARGO_PKG_VERSION"),
        device: info.name.clone(),
        software: info.software,
        binding_bytes: info.limits.binding_bytes,
        microseconds_per_launch,
        comparisons: ops.iter().map(|o| o.comparison.buffers).sum(),
        ops,
        training,
        healthy,
        seconds: start.seconds(),
    })
}

/// Microseconds of a launch among many, each waiting for the one before.
fn launch_cost(device: &Device) -> Result<f64> {
    let mut graph = Graph::new();
    let step = graph.input("step", Type::u32("step", &[COUNTER])?)?;
    let program = graph.begin("run");
    graph.op(Arc::new(Advance), &[step.value()])?;
    let mut session = Session::new(&graph, device)?;
    session.fill(step, 0)?;
    session.run(program, 100)?;
    session.wait()?;
    let start = Stopwatch::start();
    session.run(program, LAUNCHES)?;
    session.wait()?;
    Ok(start.seconds() * 1e6 / LAUNCHES as f64)
}

fn training(device: &Device) -> Result<TrainingResult> {
    let digits = generate(5, Part::Train, 500)?.dataset()?;
    let model = Model::sequential([1, 28, 28])
        .then(Conv2d::new(6, 5))
        .then(MaxPool2d::new(2))
        .then(Relu)
        .then(Flatten)
        .then(Dropout::new(0.5))
        .then(Dense::new(10))
        .build()?;
    let costs = |device: &Device| -> Result<Vec<f64>> {
        let sgd = Optimizer::new(Sgd::default(), 0.01);
        let fit = Fit::new(&model, Loss::cross_entropy(), sgd);
        let outcome = fit.batch(10).epochs(3).run(&digits, device)?;
        let epochs = outcome.report.epochs.iter();
        Ok(epochs.map(|epoch| epoch.training_loss[0]).collect())
    };
    let cpu_cost = costs(&Device::open(Choice::Cpu)?)?;
    let cost = costs(device)?;
    let off = cpu_cost.iter().zip(&cost).map(|(c, g)| ((c - g) / c).abs());
    Ok(TrainingResult {
        worst: off.fold(0.0, f64::max),
        cpu_cost,
        cost,
    })
}

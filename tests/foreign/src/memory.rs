//! A network that learns to remember, by nothing but what this crate adds: a minGRU over sequences
//! of numbers of which some are marked, which is to say at each step the last marked number.

use std::sync::Arc;

use wgrad::Result;
use wgrad::compile::{Options, compile};
use wgrad::exec::{Device, Executor};
use wgrad::graph::Graph;
use wgrad::ops::advance::Advance;
use wgrad::ops::constant::Constant;
use wgrad::ops::init::{Distribution, Init};
use wgrad::ops::matmul::Matmul;
use wgrad::ops::pointwise::pointwise;
use wgrad::ops::reshape::Reshape;
use wgrad::ops::{COUNTER, Tape, Value};
use wgrad::optim::Optimizer;
use wgrad::rng::{KEYS, Stream, key, keys, streams, uniform};
use wgrad::shape::Type;
use wgrad::tensor::Host;

use crate::belief::AdaBelief;
use crate::expressions::{gated, huber_loss};
use crate::scan::Scan;

/// Sequences.
const N: usize = 24;
/// Steps of each.
const T: usize = 12;
/// Units of the network.
const C: usize = 8;

/// Its parameters with their shapes.
const PARAMETERS: [(&str, &[usize]); 6] = [
    ("gate.weight", &[C, 2]),
    ("gate.bias", &[C]),
    ("candidate.weight", &[C, 2]),
    ("candidate.bias", &[C]),
    ("readout.weight", &[1, C]),
    ("readout.bias", &[1]),
];

/// Two programs: `init` draws the parameters, `train` is a step over all sequences.
fn graph() -> Result<Graph> {
    let mut graph = Graph::new();
    let x = graph.variable("x", Type::f32("x", &[N * T, 2])?)?;
    let wanted = graph.variable("wanted", Type::f32("wanted", &[N * T, 1])?)?;
    let keys = graph.variable("keys", Type::u32("keys", &[KEYS])?)?;
    let step = graph.variable("step", Type::u32("step", &[COUNTER])?)?;
    let mut parameters = Vec::new();
    for (name, extents) in PARAMETERS {
        parameters.push((name, graph.variable(name, Type::f32(name, extents)?)?));
    }
    let optimizer = Optimizer::new(AdaBelief::default(), 0.05);
    let update = optimizer.declare(&mut graph, &parameters)?;
    let parameters: Vec<Value> = parameters.into_iter().map(|(_, value)| value).collect();

    graph.begin("init");
    for (parameter, &value) in (0..).zip(&parameters) {
        let distribution = Distribution::Uniform { limit: 0.5 };
        let init = Init {
            distribution,
            parameter,
        };
        graph.op(Arc::new(init), &[value, keys])?;
    }
    update.init(&mut graph)?;

    graph.begin("train");
    let loss = forward(&mut graph, x, wanted, &parameters)?;
    graph.result("loss", loss)?;
    let one = Constant {
        extents: vec![1],
        value: 1.0,
    };
    let one = graph.op1(Arc::new(one), &[])?;
    let gradients = graph.gradients(loss, one, &parameters)?;
    update.apply(&mut graph, &gradients, step)?;
    graph.op(Arc::new(Advance), &[step])?;
    Ok(graph)
}

/// The loss of what the network says of x `[N T, 2]`.
fn forward(graph: &mut Graph, x: Value, wanted: Value, parameters: &[Value]) -> Result<Value> {
    let [gate, gate_bias, candidate, candidate_bias, readout, bias] = parameters else {
        let found = format!("{} parameters", parameters.len());
        return Err(wgrad::Error::setting("memory", found, "6"));
    };
    let by_row = |graph: &mut Graph, x: Value, w: &Value| {
        graph.op1(Arc::new(Matmul::new(false, true)), &[x, *w])
    };
    let seen_as = |graph: &mut Graph, x: Value, extents: &[usize]| {
        let extents = extents.to_vec();
        graph.op1(Arc::new(Reshape { extents }), &[x])
    };
    let gate = by_row(graph, x, gate)?;
    let candidate = by_row(graph, x, candidate)?;
    let inputs = [gate, *gate_bias, candidate, *candidate_bias];
    let gated = graph.op(Arc::new(gated()), &inputs)?;
    let a = seen_as(graph, gated[0], &[N, T, C])?;
    let b = seen_as(graph, gated[1], &[N, T, C])?;
    let h = graph.op1(Arc::new(Scan), &[a, b])?;
    let h = seen_as(graph, h, &[N * T, C])?;
    let y = by_row(graph, h, readout)?;
    let y = pointwise(graph, [y, *bias], |[y, bias]| y + bias)?;
    huber_loss(graph, y, wanted, 0.5)
}

/// Numbers in [-1, 1) and their marks, one in four, `[N T, 2]`; and the last marked number at each
/// step, 0 before the first.
fn examples() -> (Vec<f32>, Vec<f32>) {
    let stream = Stream {
        seed: key(3),
        replica: 0,
        stream: streams::USER,
    };
    let (mut x, mut wanted) = (Vec::new(), Vec::new());
    for n in 0..N {
        let mut last = 0.0;
        for t in 0..T {
            let [number, mark, ..] = stream.words(0, (n * T + t) as u32);
            let number = 2.0 * uniform(number) - 1.0;
            let marked = mark % 4 == 0;
            if marked {
                last = number;
            }
            x.extend([number, f32::from(marked)]);
            wanted.push(last);
        }
    }
    (x, wanted)
}

/// What a run comes to.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// The loss before the first update.
    pub before: f32,
    /// The loss before the last update.
    pub after: f32,
    /// The parameters after it.
    pub parameters: Vec<Vec<f32>>,
}

/// Trains the network from what `seed` draws, `steps` steps.
///
/// # Errors
/// What the device says.
pub fn train(device: &Device, seed: u64, steps: u64) -> Result<Outcome> {
    let options = Options {
        replicas: 1,
        fuse: true,
        limits: device.info().limits,
    };
    let mut run = Run(device.executor(compile(&graph()?, &options)?)?);
    let (x, wanted) = examples();
    run.write("x", Host::F32(x))?;
    run.write("wanted", Host::F32(wanted))?;
    run.write("keys", Host::U32(keys(seed, 0).to_vec()))?;
    run.write("step", Host::U32(vec![0; COUNTER]))?;
    run.0.run("init", 1)?;
    run.0.run("train", 1)?;
    let before = run.floats("loss")?[0];
    run.0.run("train", steps.saturating_sub(1))?;
    let after = run.floats("loss")?[0];
    let parameters = PARAMETERS.iter().map(|(name, _)| run.floats(name));
    Ok(Outcome {
        before,
        after,
        parameters: parameters.collect::<Result<_>>()?,
    })
}

/// An executor whose buffers go by their names.
struct Run(Box<dyn Executor>);

impl Run {
    fn buffer(&self, name: &str) -> Result<usize> {
        let found = self.0.plan().state(name);
        found.ok_or_else(|| wgrad::Error::setting("variable", name, "one of the plan's"))
    }

    fn write(&mut self, name: &str, values: Host) -> Result<()> {
        self.0.write(self.buffer(name)?, &values)
    }

    fn floats(&mut self, name: &str) -> Result<Vec<f32>> {
        let values = self.0.read(self.buffer(name)?)?.floats();
        values.ok_or_else(|| wgrad::Error::setting("variable", name, "one of floats"))
    }
}

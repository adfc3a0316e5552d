//! What the integration tests share: devices and filled inputs.
#![allow(dead_code)]

use std::sync::Arc;

use wgrad::exec::{Choice, Device, Executor};
use wgrad::graph::Graph;
use wgrad::ops::{Case, Fill, Tape, Value};
use wgrad::plan::Role;
use wgrad::rng::{Stream, key, uniform};
use wgrad::shape::DType;
use wgrad::tensor::Host;

/// The GPU to test on. Without one the GPU half of the tests is skipped, unless
/// `WGRAD_REQUIRE_GPU` is set: then its absence is a failure.
pub fn gpu() -> Option<Device> {
    match Device::open(Choice::Gpu) {
        Ok(device) => Some(device),
        Err(e) if std::env::var_os("WGRAD_REQUIRE_GPU").is_some() => {
            panic!("WGRAD_REQUIRE_GPU is set and no adapter opens: {e}")
        }
        Err(_) => None,
    }
}

/// Random words of a test, by what they are for.
pub fn words(purpose: u32, count: usize) -> Vec<u32> {
    let stream = Stream {
        seed: key(0x5EED),
        replica: 0,
        stream: purpose,
    };
    (0..count.div_ceil(4) as u32)
        .flat_map(|i| stream.words(0, i))
        .take(count)
        .collect()
}

/// The values of an input over `replicas` replicas.
pub fn fill(case: &Case, input: usize, replicas: usize) -> Host {
    let given = &case.inputs[input];
    let each = given.ty.elements();
    let copies = if given.ty.shared { 1 } else { replicas };
    let words = words(input as u32 + 1, each * copies);
    let floats = |f: &dyn Fn(u32) -> f64| words.iter().map(|&w| f(w) as f32).collect();
    let integer = given.ty.dtype == DType::U32;
    match given.fill {
        Fill::Uniform(low, high) => {
            Host::F32(floats(&|w| low + (high - low) * f64::from(uniform(w))))
        }
        Fill::AwayFromZero => Host::F32(floats(&|w| {
            let size = 0.1 + 0.9 * f64::from(uniform(w));
            if w & 1 == 1 { size } else { -size }
        })),
        Fill::Distinct => {
            // Ranks of random words, spread over [-1, 1].
            let mut order: Vec<usize> = (0..words.len()).collect();
            order.sort_by_key(|&i| words[i]);
            let mut values = vec![0.0; words.len()];
            let gap = 2.0 / words.len() as f32;
            for (rank, i) in order.into_iter().enumerate() {
                values[i] = rank as f32 * gap - 1.0;
            }
            Host::F32(values)
        }
        Fill::Ties => Host::F32(floats(&|w| f64::from(w % 3) - 1.0)),
        Fill::Below(n) => Host::U32(words.iter().map(|w| w % n).collect()),
        Fill::Words => Host::U32(words),
        Fill::Keys => Host::U32(
            (0..copies as u32)
                .flat_map(|r| [0xDEAD_BEEF, 0x8000_0001, r, 0])
                .collect(),
        ),
        Fill::Number(x) if integer => Host::U32(vec![x as u32; words.len()]),
        Fill::Number(x) => Host::F32(vec![x as f32; words.len()]),
    }
}

/// A graph with one variable per input of the case (`input <i>`), a program `run` that
/// applies the op, and its outputs kept as `output <i>`.
pub fn graph_of(case: &Case) -> Graph {
    let mut graph = Graph::new();
    let inputs: Vec<Value> = case
        .inputs
        .iter()
        .enumerate()
        .map(|(i, g)| graph.variable(&format!("input {i}"), g.ty.clone()).unwrap())
        .collect();
    graph.begin("run");
    let outputs = graph
        .op(Arc::clone(&case.op), &inputs)
        .unwrap_or_else(|e| panic!("{:?}: {e}", case.op));
    for (i, &value) in outputs.iter().enumerate() {
        // A view of an input is no buffer of its own.
        let _ = graph.result(&format!("output {i}"), value);
    }
    graph
}

/// Fills every buffer with garbage, then the inputs with `inputs`, runs `run` once and
/// returns all state buffers, inputs included (some ops update them).
pub fn run(executor: &mut dyn Executor, inputs: &[Host]) -> Vec<(String, Host)> {
    let (buffers, replicas) = (executor.plan().buffers.clone(), executor.plan().replicas);
    for (i, b) in buffers.iter().enumerate() {
        let garbage = match b.dtype {
            DType::F32 => Host::F32(vec![f32::NAN; b.total(replicas)]),
            DType::U32 => Host::U32(vec![u32::MAX; b.total(replicas)]),
        };
        executor.write(i, &garbage).unwrap();
    }
    for (i, host) in inputs.iter().enumerate() {
        let buffer = executor.plan().state(&format!("input {i}")).unwrap();
        executor.write(buffer, host).unwrap();
    }
    executor.run("run", 1).unwrap();
    let states = buffers
        .iter()
        .enumerate()
        .filter(|(_, b)| b.role == Role::State);
    states
        .map(|(i, b)| (b.name.clone(), executor.read(i).unwrap()))
        .collect()
}

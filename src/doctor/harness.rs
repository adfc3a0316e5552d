//! One case of one op, made runnable: its inputs, its graph, its result on any executor.

use std::collections::BTreeMap;
use std::sync::Arc;

use half::f16;

use crate::compile::{Options, compile};
use crate::error::Result;
use crate::exec::Executor;
use crate::graph::Graph;
use crate::ops::{Case, Fill, Tape, Value};
use crate::plan::{Limits, Plan, Role};
use crate::rng::{Stream, key, uniform};
use crate::shape::DType;
use crate::tensor::Host;

/// Random words, by what they are for.
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

/// The values of input number `input` of a case, over `replicas` replicas.
pub fn fill(case: &Case, input: usize, replicas: usize) -> Host {
    let given = &case.inputs[input];
    let copies = if given.ty.shared { 1 } else { replicas };
    let words = words(input as u32 + 1, given.ty.elements() * copies);
    let floats = |f: &dyn Fn(u32) -> f64| words.iter().map(|&w| f(w) as f32).collect();
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
        Fill::Sparse => Host::F32(floats(&|w| {
            if w % 3 == 0 {
                0.0
            } else {
                0.1 + 0.8 * f64::from(uniform(w))
            }
        })),
        Fill::Ties => Host::F32(floats(&|w| f64::from(w % 3) - 1.0)),
        Fill::Below(n) => Host::U32(words.iter().map(|w| w % n).collect()),
        Fill::Winner(window, [h, w]) => {
            let [.., ho, wo] = *given.ty.shape.extents() else {
                return Host::U32(words);
            };
            let place = |axis: usize, o: usize, extent: usize, word: u32| {
                let first = o * window.stride[axis];
                let end = (first + window.kernel[axis] - window.padding[axis]).min(extent);
                let first = first.saturating_sub(window.padding[axis]);
                first + word as usize % (end - first)
            };
            let of = |(e, word): (usize, u32)| {
                let row = place(0, e / wo % ho, h, word >> 16);
                (row * w + place(1, e % wo, w, word & 0xFFFF)) as u32
            };
            Host::U32(words.into_iter().enumerate().map(of).collect())
        }
        Fill::Words => Host::U32(words),
        Fill::Keys => Host::U32(
            (0..copies as u32)
                .flat_map(|r| [0xDEAD_BEEF, 0x8000_0001, r, 0])
                .collect(),
        ),
        Fill::Pair(a, b) => Host::U32(
            (0..words.len())
                .map(|i| if i % 2 == 0 { a } else { b })
                .collect(),
        ),
        Fill::Spoiled(place, x) => {
            let mut values: Vec<f32> = floats(&|w| 2.0 * f64::from(uniform(w)) - 1.0);
            let last = values.len() - given.ty.elements();
            values[last + place] = x as f32;
            Host::F32(values)
        }
        Fill::Number(x) => match given.ty.dtype {
            DType::U32 => Host::U32(vec![x as u32; words.len()]),
            DType::F32 => Host::F32(vec![x as f32; words.len()]),
        },
    }
}

/// Every input of a case.
pub fn inputs(case: &Case, replicas: usize) -> Vec<Host> {
    (0..case.inputs.len())
        .map(|i| fill(case, i, replicas))
        .collect()
}

/// The floats that f16 has for these.
pub fn in_f16(host: &Host) -> Host {
    match host {
        Host::F32(values) => Host::F32(values.iter().map(|&x| f16::from_f32(x).to_f32()).collect()),
        integers @ Host::U32(_) => integers.clone(),
    }
}

/// A graph with one variable per input of the case (`input <i>`), a program `run` that
/// applies the op, and its outputs kept as `output <i>`.
///
/// # Errors
/// What the op's shape rule says.
pub fn graph_of(case: &Case) -> Result<Graph> {
    let mut graph = Graph::new();
    let inputs: Vec<Value> = case
        .inputs
        .iter()
        .enumerate()
        .map(|(i, g)| graph.variable(&format!("input {i}"), g.ty.clone()))
        .collect::<Result<_>>()?;
    graph.begin("run");
    let outputs = graph.op(Arc::clone(&case.op), &inputs)?;
    for (i, &value) in outputs.iter().enumerate() {
        // A view of an input is no buffer of its own.
        let _ = graph.result(&format!("output {i}"), value);
    }
    Ok(graph)
}

/// The plan of a case.
///
/// # Errors
/// What the op's shape rule or the plan's checker says.
pub fn plan_of(case: &Case, replicas: usize) -> Result<Plan> {
    let options = Options {
        replicas,
        fuse: true,
        limits: Limits::default(),
    };
    compile(&graph_of(case)?, &options)
}

/// Fills every buffer with garbage, then the inputs, runs `run` once and returns all
/// state buffers by name, inputs included (some ops update them).
///
/// # Errors
/// What the executor says.
pub fn run(executor: &mut dyn Executor, inputs: &[Host]) -> Result<BTreeMap<String, Host>> {
    let (buffers, replicas) = (executor.plan().buffers.clone(), executor.plan().replicas);
    for (i, b) in buffers.iter().enumerate() {
        let garbage = match b.dtype {
            DType::F32 => Host::F32(vec![f32::NAN; b.total(replicas)]),
            DType::U32 => Host::U32(vec![u32::MAX; b.total(replicas)]),
        };
        executor.write(i, &garbage)?;
    }
    for (i, host) in inputs.iter().enumerate() {
        if let Some(buffer) = executor.plan().state(&format!("input {i}")) {
            executor.write(buffer, host)?;
        }
    }
    executor.run("run", 1)?;
    let states: Vec<usize> = (0..buffers.len())
        .filter(|&i| buffers[i].role == Role::State)
        .collect();
    let hosts = executor.read_all(&states)?;
    Ok(states
        .into_iter()
        .map(|i| buffers[i].name.clone())
        .zip(hosts)
        .collect())
}

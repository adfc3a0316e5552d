//! One case of one op, made runnable: its inputs, its graph, its result on any executor.

use std::collections::BTreeMap;
use std::sync::Arc;

use half::f16;

use crate::compile::{Compiled, Options};
use crate::error::Result;
use crate::exec::Executor;
use crate::graph::{Graph, Handle, Program};
use crate::ops::{Case, Fill, Tape, Value};
use crate::plan::{Limits, Plan};
use crate::rng::{Stream, key, uniform};
use crate::run::Session;
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
        Fill::Rising(low, high) => {
            let elements = given.ty.elements();
            let step = (high - low) / elements as f64;
            let places = (0..words.len()).map(|i| (i % elements) as f64);
            Host::F32(places.map(|i| (low + step * i) as f32).collect())
        }
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

/// A case compiled: one variable per input (`input <i>`), a program `run` that applies the op, its
/// outputs kept as `output <i>`.
#[derive(Clone, Debug)]
pub struct Prepared {
    /// The plan, and where its handles lead.
    pub compiled: Compiled,
    /// The case's inputs, in order.
    pub inputs: Vec<Handle<Host>>,
    /// The op's outputs, in order, but those that are views of an input.
    pub outputs: Vec<Handle<Host>>,
    /// The program that applies the op.
    pub program: Program,
}

impl Prepared {
    /// A case for some replicas, on any device.
    ///
    /// # Errors
    /// What the op's shape rule or the plan's checker says.
    pub fn new(case: &Case, replicas: usize) -> Result<Self> {
        let options = Options {
            replicas,
            fuse: true,
            limits: Limits::default(),
        };
        Self::with(case, &options)
    }

    /// A case with options.
    ///
    /// # Errors
    /// As [`Prepared::new`].
    pub fn with(case: &Case, options: &Options) -> Result<Self> {
        let mut graph = Graph::new();
        // Every variant is held to the reference.
        graph.note_update(true);
        let given = case.inputs.iter().enumerate();
        let inputs = given.map(|(i, g)| graph.input(&format!("input {i}"), g.ty.clone()));
        let inputs: Vec<Handle<Host>> = inputs.collect::<Result<_>>()?;
        let values: Vec<Value> = inputs.iter().map(|input| input.value()).collect();
        let program = graph.begin("run");
        let values = graph.op(Arc::clone(&case.op), &values)?;
        // A view of an input is no buffer of its own.
        let outputs = values.iter().enumerate();
        let outputs = outputs.filter_map(|(i, &v)| graph.output(&format!("output {i}"), v).ok());
        let outputs = outputs.collect();
        Ok(Self {
            compiled: Compiled::new(&graph, options)?,
            inputs,
            outputs,
            program,
        })
    }

    /// The plan.
    pub fn plan(&self) -> &Plan {
        self.compiled.plan()
    }

    /// The case on an executor of its plan, which may take other variants or be broken on purpose.
    ///
    /// # Errors
    /// As [`Session::of`].
    pub fn session<E: Executor + ?Sized>(&self, executor: Box<E>) -> Result<Session<E>> {
        Session::of(&self.compiled, executor)
    }

    /// Writes the inputs.
    ///
    /// # Errors
    /// What the executor says.
    pub fn write<E: Executor + ?Sized>(
        &self,
        session: &mut Session<E>,
        inputs: &[Host],
    ) -> Result<()> {
        let mut each = self.inputs.iter().zip(inputs);
        each.try_for_each(|(&input, host)| session.write(input, host))
    }

    /// Fills every buffer with garbage, then the inputs, runs the op once and returns everything
    /// that lasts by name, inputs included (some ops update them).
    ///
    /// # Errors
    /// What the executor says.
    pub fn run<E: Executor + ?Sized>(
        &self,
        session: &mut Session<E>,
        inputs: &[Host],
    ) -> Result<BTreeMap<String, Host>> {
        session.spoil()?;
        self.write(session, inputs)?;
        session.run(self.program, 1)?;
        session.state()
    }
}

/// The plan of a case.
///
/// # Errors
/// As [`Prepared::new`].
pub fn plan_of(case: &Case, replicas: usize) -> Result<Plan> {
    Ok(Prepared::new(case, replicas)?.compiled.into_plan())
}

//! Literal fixtures from PyTorch: how they are read, run and compared.

use std::collections::BTreeMap;
use std::sync::Arc;

use safetensors::{Dtype, SafeTensors};
use wgrad::compile::{Compiled, Options};
use wgrad::exec::Executor;
use wgrad::exec::cpu::{Cpu, Implementation};
use wgrad::graph::{Graph, Handle, Program};
use wgrad::ops::activation::{Activate, Activation};
use wgrad::ops::{Op, Tape, Value};
use wgrad::plan::Limits;
use wgrad::run::Session;
use wgrad::shape::Type;
use wgrad::tensor::Host;

use super::gpu;

/// A tensor of a fixture file.
#[derive(Clone, Debug)]
pub struct Tensor {
    pub shape: Vec<usize>,
    pub host: Host,
    /// The values where the file has them in double precision.
    pub wide: Vec<f64>,
}

pub fn load(name: &str) -> BTreeMap<String, Tensor> {
    let path = format!(
        "{}/tests/fixtures/{name}.safetensors",
        env!("CARGO_MANIFEST_DIR")
    );
    let bytes = std::fs::read(path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    file.iter()
        .map(|(name, view)| {
            let words = view.data().chunks(4).map(|c| c.try_into().unwrap());
            let mut wide = vec![];
            let host = match view.dtype() {
                Dtype::F32 => Host::F32(words.map(f32::from_le_bytes).collect()),
                Dtype::U32 => Host::U32(words.map(u32::from_le_bytes).collect()),
                Dtype::F64 => {
                    let words = view.data().chunks(8).map(|c| c.try_into().unwrap());
                    wide = words.map(f64::from_le_bytes).collect();
                    Host::F32(wide.iter().map(|&w| w as f32).collect())
                }
                other => panic!("{name}: {other:?}"),
            };
            let shape = view.shape().to_vec();
            (name.to_string(), Tensor { shape, host, wide })
        })
        .collect()
}

impl Tensor {
    pub fn f32(shape: &[usize], values: Vec<f32>) -> Self {
        Self {
            shape: shape.to_vec(),
            host: Host::F32(values),
            wide: vec![],
        }
    }

    pub fn u32(shape: &[usize], values: Vec<u32>) -> Self {
        Self {
            shape: shape.to_vec(),
            host: Host::U32(values),
            wide: vec![],
        }
    }

    pub fn ty(&self) -> Type {
        match self.host {
            Host::F32(_) => Type::f32("fixture", &self.shape),
            Host::U32(_) => Type::u32("fixture", &self.shape),
        }
        .unwrap()
    }

    pub fn floats(&self) -> Vec<f32> {
        self.host.clone().floats().unwrap()
    }
}

pub fn compiled(graph: &Graph) -> Compiled {
    let options = Options {
        replicas: 1,
        fuse: true,
        limits: Limits::default(),
    };
    Compiled::new(graph, &options).unwrap()
}

/// Reference, CPU executor and, where there is one, the GPU.
pub fn sessions(graph: &Graph) -> Vec<(&'static str, Session)> {
    let compiled = compiled(graph);
    let plan = compiled.plan();
    let cpu = |implementation| Box::new(Cpu::<f32>::new(plan.clone(), implementation).unwrap());
    let mut all: Vec<(&'static str, Box<dyn Executor>)> = vec![
        ("reference", cpu(Implementation::Reference)),
        ("CPU", cpu(Implementation::Optimized)),
    ];
    if let Some(gpu) = gpu() {
        all.push(("GPU", gpu.executor(plan.clone()).unwrap()));
    }
    let session = |(name, executor)| (name, Session::of(&compiled, executor).unwrap());
    all.into_iter().map(session).collect()
}

/// Holds a result against its fixture: integers exactly, floats within 2e-6 of the largest
/// (sums of at most 60 terms and a handful of roundings; tanh as WGSL states it).
pub fn close(what: &str, found: &Host, wanted: &Tensor) {
    let allowed = if what.contains("tanh") { 1e-5 } else { 2e-6 };
    within(what, found, wanted, allowed);
}

/// The same with another share of the largest.
pub fn within(what: &str, found: &Host, wanted: &Tensor, share: f32) {
    match (found, &wanted.host) {
        (Host::U32(f), Host::U32(w)) => assert_eq!(f, w, "{what}"),
        (Host::F32(f), Host::F32(w)) => {
            assert_eq!(f.len(), w.len(), "{what}");
            let scale = w.iter().fold(1.0f32, |s, x| s.max(x.abs()));
            let allowed = share * scale;
            for (i, (f, w)) in f.iter().zip(w).enumerate() {
                assert!((f - w).abs() <= allowed, "{what}[{i}] = {f}, PyTorch {w}");
            }
        }
        _ => panic!("{what}: another element type"),
    }
}

/// The inputs of a case, with their types.
pub fn inputs_of(fixtures: &BTreeMap<String, Tensor>, name: &str) -> Vec<(Tensor, Type)> {
    let inputs: Vec<_> = (0..)
        .map_while(|i| fixtures.get(&format!("{name}/in{i}")).cloned())
        .map(|t| {
            let ty = t.ty();
            (t, ty)
        })
        .collect();
    assert!(!inputs.is_empty(), "no fixture {name}");
    inputs
}

/// Holds an op and its gradients against their fixture, on every executor; how many tensors were
/// compared.
pub fn hold_op(
    fixtures: &BTreeMap<String, Tensor>,
    name: &str,
    op: Arc<dyn Op>,
    inputs: &[(Tensor, Type)],
) -> usize {
    hold_graph(fixtures, name, inputs, |graph, values| {
        // A view of a variable has no buffer of its own: one op before it gives it one.
        let first = if name == "reshape" {
            graph
                .op1(Arc::new(Activate(Activation::Linear)), &values[..1])
                .unwrap()
        } else {
            values[0]
        };
        let through = [&[first], &values[1..]].concat();
        graph.op(op, &through).unwrap()
    })
}

/// The same of several ops, which `build` adds over the inputs and whose outputs it returns.
pub fn hold_graph(
    fixtures: &BTreeMap<String, Tensor>,
    name: &str,
    inputs: &[(Tensor, Type)],
    build: impl FnOnce(&mut Graph, &[Value]) -> Vec<Value>,
) -> usize {
    let get = |part: &str| fixtures.get(&format!("{name}/{part}")).cloned();
    let mut compared = 0;
    let mut graph = Graph::new();
    let mut given: Vec<(Handle<Host>, Tensor)> = vec![];
    for (i, (t, ty)) in inputs.iter().enumerate() {
        let handle = graph.input(&format!("in{i}"), ty.clone()).unwrap();
        given.push((handle, t.clone()));
    }
    let values: Vec<Value> = given.iter().map(|(handle, _)| handle.value()).collect();
    let mut seed = None;
    if let Some(u) = get("upstream") {
        let handle = graph.input("upstream", u.ty()).unwrap();
        seed = Some(handle.value());
        given.push((handle, u));
    }
    let run = graph.begin("run");
    let outputs = build(&mut graph, &values);
    let mut wanted: Vec<(Handle<Host>, String, Tensor)> = vec![];
    for (i, &y) in outputs.iter().enumerate() {
        let part = format!("out{i}");
        let handle = graph.output(&part, y).unwrap();
        let tensor = get(&part).unwrap();
        wanted.push((handle, part, tensor));
    }
    if let Some(seed) = seed {
        let by: Vec<usize> = (0..values.len())
            .filter(|i| get(&format!("grad{i}")).is_some())
            .collect();
        let by_values: Vec<Value> = by.iter().map(|&i| values[i]).collect();
        let gradients = graph.gradients(outputs[0], seed, &by_values).unwrap();
        for (k, (&i, g)) in by.iter().zip(gradients).enumerate() {
            // The upstream gradient itself, as a copy that can be kept.
            let g = graph
                .op1(Arc::new(Activate(Activation::Linear)), &[g.unwrap()])
                .unwrap();
            let part = format!("gradient {k}");
            let handle = graph.output(&part, g).unwrap();
            wanted.push((handle, part, get(&format!("grad{i}")).unwrap()));
        }
    }
    let handles: Vec<_> = wanted.iter().map(|(handle, ..)| *handle).collect();
    for (device, mut session) in sessions(&graph) {
        for (handle, tensor) in &given {
            session.write(*handle, &tensor.host).unwrap();
        }
        session.run(run, 1).unwrap();
        let found = session.read(&handles).unwrap();
        for ((_, part, tensor), found) in wanted.iter().zip(found) {
            close(&format!("{name} {part} on {device}"), &found, tensor);
            compared += 1;
        }
    }
    compared
}

/// One op over named inputs, which it may update; its outputs are called `out0`, `out1`, …
pub struct Single {
    what: String,
    named: BTreeMap<String, Handle<Host>>,
    program: Program,
    sessions: Vec<(&'static str, Session)>,
    share: f32,
}

impl Single {
    pub fn new(what: &str, op: impl Op + 'static, inputs: &[(&str, &Tensor)]) -> Self {
        let mut graph = Graph::new();
        let mut named = BTreeMap::new();
        let mut values: Vec<Value> = vec![];
        for (name, t) in inputs {
            let handle = graph.input(name, t.ty()).unwrap();
            named.insert(name.to_string(), handle);
            values.push(handle.value());
        }
        let program = graph.begin("run");
        let outputs = graph.op(Arc::new(op), &values).unwrap();
        for (i, &y) in outputs.iter().enumerate() {
            let name = format!("out{i}");
            let handle = graph.output(&name, y).unwrap();
            named.insert(name, handle);
        }
        let mut single = Self {
            what: what.into(),
            named,
            program,
            sessions: sessions(&graph),
            share: 2e-6,
        };
        single.write(inputs);
        single
    }

    /// Compares within this share of the largest number instead of [`close`]'s.
    pub fn share(mut self, share: f64) -> Self {
        self.share = share as f32;
        self
    }

    pub fn write(&mut self, inputs: &[(&str, &Tensor)]) {
        for (_, session) in &mut self.sessions {
            for (name, t) in inputs {
                session.write(self.named[*name], &t.host).unwrap();
            }
        }
    }

    /// Runs the op `times` times everywhere and holds what it has left in the named buffers.
    pub fn run(&mut self, times: u64, wanted: &[(&str, &Tensor)]) {
        let handles: Vec<_> = wanted.iter().map(|(name, _)| self.named[*name]).collect();
        for (device, session) in &mut self.sessions {
            session.run(self.program, times).unwrap();
            let found = session.read(&handles).unwrap();
            for ((name, t), found) in wanted.iter().zip(found) {
                let what = format!("{} {name} on {device}", self.what);
                within(&what, &found, t, self.share);
            }
        }
    }
}

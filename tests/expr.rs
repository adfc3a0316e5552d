//! Expressions drawn at random: fused and unfused are the same, gradients included, and every launch
//! of a GPU lies within the error bounds that follow from its expression.

mod common;

use std::sync::Arc;

use common::{gpu, words};
use wgrad::compile::{Options, compile};
use wgrad::exec::cpu::{Cpu, Implementation};
use wgrad::exec::{Executor, run_verified};
use wgrad::expr::Expr;
use wgrad::graph::Graph;
use wgrad::ops::pointwise::Pointwise;
use wgrad::ops::{COUNTER, Tape, Value};
use wgrad::plan::{Limits, Plan, Role};
use wgrad::rng::streams::USER;
use wgrad::rng::uniform;
use wgrad::shape::{DType, Type};
use wgrad::tensor::Host;

/// Numbers drawn one after the other.
struct Draws(Vec<u32>, usize);

impl Draws {
    fn below(&mut self, n: usize) -> usize {
        self.1 += 1;
        self.0[self.1 % self.0.len()] as usize % n
    }
}

/// A function of up to three numbers, bounded so that chains of it stay in range.
fn function(draws: &mut Draws, x: &[Expr]) -> Expr {
    let [a, b, c] = [&x[0], &x[1 % x.len()], &x[2 % x.len()]];
    match draws.below(12) {
        0 => a + b * 0.5,
        1 => a * b.tanh(),
        2 => (a - b).sigmoid() * c,
        3 => a.relu() - b,
        4 => a.max(b) * 0.9 + c,
        5 => a.lt(b).select(a * 0.5, c),
        6 => a / (b.square() + 1.5),
        7 => (a.abs() + 1.0).log() - b,
        8 => (a.square() + 0.5).sqrt() + c * 0.1,
        9 => (-(a.square())).exp() + b,
        10 => a * (Expr::uniform(USER + 1) + 0.5) + c,
        _ => a.sin() * (Expr::step() * 0.1 + 1.0) + b,
    }
}

/// A graph of expressions over variables of several shapes, some of which it updates.
fn graph(seed: u32) -> Graph {
    let mut draws = Draws(words(1000 + seed, 512), 0);
    let mut graph = Graph::new();
    let f32 = |extents: &[usize]| Type::f32("test", extents).unwrap();
    let u32 = |n| Type::u32("test", &[n]).unwrap();
    let inner = [3, 4, 8][draws.below(3)];
    let shapes: [&[usize]; 5] = [&[4, inner], &[4, inner], &[inner], &[4, 1], &[1]];
    let variables: Vec<Value> = shapes
        .iter()
        .enumerate()
        .map(|(k, extents)| graph.variable(&format!("v{k}"), f32(extents)).unwrap())
        .collect();
    let keys = graph.variable("keys", u32(4)).unwrap();
    let step = graph.variable("step", u32(COUNTER)).unwrap();
    let upstream = graph.variable("upstream", f32(shapes[0])).unwrap();
    graph.begin("run");
    let mut values = variables.clone();
    let differentiable = draws.below(2) == 0;
    for _ in 0..4 + draws.below(8) {
        let count = 1 + draws.below(3);
        let mut inputs: Vec<Value> = vec![];
        for _ in 0..count {
            let one = values[draws.below(values.len())];
            if !inputs.contains(&one) {
                inputs.push(one);
            }
        }
        let x: Vec<Expr> = (0..inputs.len()).map(Expr::input).collect();
        // Every input is used.
        let all = x.iter().skip(1).fold(x[0].clone(), |sum, x| sum + x * 0.25);
        let mut outputs = vec![function(&mut draws, &x) + all];
        if draws.below(3) == 0 {
            outputs.push(function(&mut draws, &x) * 0.5);
        }
        let mut op = Pointwise::new(&outputs).with_extents(shapes[0]);
        // What was of full size may be written over, if it is a variable.
        let full = |v: &Value| variables[..2].contains(v);
        if let (false, Some(k)) = (
            differentiable || draws.below(2) == 0,
            inputs.iter().position(full),
        ) {
            op = op.updating(0, k);
        }
        if op.wants_keys() {
            inputs.push(keys);
        }
        if op.wants_step() {
            inputs.push(step);
        }
        values.extend(graph.op(Arc::new(op), &inputs).unwrap());
    }
    let made = values[variables.len()..].to_vec();
    let Some(&last) = made.last() else {
        return graph;
    };
    graph.result("last", last).unwrap();
    if differentiable {
        let gradients = graph.gradients(last, upstream, &variables).unwrap();
        for (k, g) in gradients.into_iter().enumerate() {
            let Some(g) = g.filter(|g| *g != upstream) else {
                continue;
            };
            // Of two variables that one value is the gradient of, the first names it.
            let _ = graph.result(&format!("gradient {k}"), g);
        }
    }
    graph
}

fn plan(graph: &Graph, fuse: bool, replicas: usize) -> Plan {
    let options = Options {
        replicas,
        fuse,
        limits: Limits::default(),
    };
    compile(graph, &options).unwrap()
}

fn begin(executor: &mut dyn Executor) {
    let (plan, replicas) = (executor.plan().clone(), executor.plan().replicas);
    for (i, buffer) in plan.buffers.iter().enumerate() {
        if buffer.role != Role::State {
            continue;
        }
        let n = buffer.total(replicas);
        let name: u32 = buffer.name.bytes().map(u32::from).sum();
        let host = match buffer.dtype {
            DType::F32 => Host::F32(
                words(name, n)
                    .iter()
                    .map(|&w| 2.0 * uniform(w) - 1.0)
                    .collect(),
            ),
            DType::U32 => Host::U32(words(name, n).iter().map(|&w| w % 50).collect()),
        };
        executor.write(i, &host).unwrap();
    }
}

#[test]
fn fused_is_unfused() {
    let (mut saved, mut updates, mut held) = (0, 0, 0);
    for seed in 0..400 {
        let graph = graph(seed);
        let plans = [plan(&graph, true, 2), plan(&graph, false, 2)];
        let launches = plans.each_ref().map(|plan| plan.programs["run"].len());
        assert!(launches[0] <= launches[1]);
        saved += launches[1] - launches[0];
        let names: Vec<String> = plans[0].buffers.iter().map(|b| b.name.clone()).collect();
        let [fused, unfused] = plans.map(|plan| {
            let mut cpu = Cpu::<f64>::new(plan, Implementation::Reference).unwrap();
            begin(&mut cpu);
            let before = cpu.values(0, 0).unwrap().to_vec();
            cpu.run("run", 2).unwrap();
            updates += usize::from(before != cpu.values(0, 0).unwrap());
            cpu
        });
        for (i, name) in names.iter().enumerate() {
            let Some(j) = unfused.plan().state(name) else {
                continue;
            };
            for replica in 0..2 {
                held += 1;
                let (a, b) = (fused.values(replica, i), unfused.values(replica, j));
                let close = |(a, b): (&f64, &f64)| (a - b).abs() <= 1e-12 * (1.0 + b.abs());
                let same = a.iter().zip(&b).all(|(a, b)| a.iter().zip(*b).all(close));
                assert!(
                    same,
                    "graph {seed}: {name} is {a:?} fused and {b:?} unfused"
                );
            }
        }
    }
    // Something was fused, and some graphs do write over their variables.
    assert!(saved > 500, "{saved} launches saved");
    assert!(updates > 100, "{updates} runs updated v0");
    println!("400 graphs, {saved} launches saved");
    common::note("random expressions, fused", held);
}

#[test]
fn launches_lie_within_their_bounds() {
    let Some(gpu) = gpu() else { return };
    let mut held = 0;
    for seed in 0..40 {
        let graph = graph(seed);
        for fuse in [true, false] {
            let mut executor = gpu.executor(plan(&graph, fuse, 3)).unwrap();
            begin(executor.as_mut());
            for index in 0..executor.plan().programs["run"].len() {
                run_verified(executor.as_mut(), "run", index).unwrap();
                held += 1;
            }
        }
    }
    println!("{held} launches held");
    common::note("random expressions, bounds", held);
}

/// Values and gradients of activation functions are PyTorch's (`tests/fixtures/activations.py`).
#[test]
fn activations_are_pytorchs() {
    use wgrad::expr::activations as f;
    let fixtures = common::fixtures::load("activations");
    let floats = |name: &str| fixtures[name].host.clone().floats().unwrap();
    type Function = Box<dyn Fn(&Expr) -> Expr>;
    let functions: Vec<(&str, Function)> = vec![
        ("relu", Box::new(f::relu)),
        ("leaky_relu", Box::new(|x| f::leaky_relu(x, 0.1))),
        ("relu6", Box::new(f::relu6)),
        ("elu", Box::new(|x| f::elu(x, 1.3))),
        ("selu", Box::new(f::selu)),
        ("gelu", Box::new(f::gelu)),
        ("gelu_tanh", Box::new(f::gelu_tanh)),
        ("silu", Box::new(f::silu)),
        ("mish", Box::new(f::mish)),
        ("softplus", Box::new(f::softplus)),
        ("softsign", Box::new(f::softsign)),
        ("tanh", Box::new(f::tanh)),
        ("sigmoid", Box::new(f::sigmoid)),
        ("log_sigmoid", Box::new(f::log_sigmoid)),
        ("hard_tanh", Box::new(f::hard_tanh)),
        ("hard_sigmoid", Box::new(f::hard_sigmoid)),
        ("hard_swish", Box::new(f::hard_swish)),
        ("erf", Box::new(Expr::erf)),
        ("exp", Box::new(|x| (x * 0.25).exp())),
        ("expm1", Box::new(|x| (x * 0.25).expm1())),
        ("log1p", Box::new(|x| x.abs().log1p())),
        ("sin", Box::new(Expr::sin)),
        ("cos", Box::new(Expr::cos)),
        ("pow", Box::new(|x| x.abs().pow(1.7))),
        ("rsqrt", Box::new(|x| (x.square() + 1.0).rsqrt())),
    ];
    assert_eq!(2 + 2 * functions.len(), fixtures.len());
    let (x, g) = (floats("x"), floats("g"));
    for (name, f) in functions {
        let mut graph = Graph::new();
        let ty = Type::f32(name, &[x.len()]).unwrap();
        let v = graph.variable("x", ty.clone()).unwrap();
        let upstream = graph.variable("g", ty).unwrap();
        graph.begin("run");
        let op = Pointwise::new(&[f(&Expr::input(0))]);
        let y = graph.op1(Arc::new(op), &[v]).unwrap();
        let gradient = graph.gradients(y, upstream, &[v]).unwrap()[0].unwrap();
        graph.result("y", y).unwrap();
        graph.result("gradient", gradient).unwrap();
        let plan = plan(&graph, true, 1);
        let cpu = Cpu::<f32>::new(plan.clone(), Implementation::Optimized).unwrap();
        let mut all: Vec<(_, Box<dyn Executor>)> = vec![("CPU", Box::new(cpu))];
        if let Some(gpu) = gpu() {
            all.push(("GPU", gpu.executor(plan).unwrap()));
        }
        for (device, mut executor) in all {
            for (name, values) in [("x", &x), ("g", &g)] {
                let buffer = executor.plan().state(name).unwrap();
                executor.write(buffer, &Host::F32(values.clone())).unwrap();
            }
            executor.run("run", 1).unwrap();
            for (what, wanted) in [
                ("y", name.to_string()),
                ("gradient", format!("{name} gradient")),
            ] {
                let buffer = executor.plan().state(what).unwrap();
                let found = executor.read(buffer).unwrap().floats().unwrap();
                for ((x, f), w) in x.iter().zip(found).zip(floats(&wanted)) {
                    // Cancellation of terms near 1, and functions off by some ulp there.
                    let off = (f - w).abs();
                    assert!(
                        off <= 2e-6 * (1.0 + w.abs()),
                        "{wanted} of {x} on {device} is {f}, PyTorch {w}"
                    );
                }
            }
        }
    }
}

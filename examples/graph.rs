//! One floor down: a graph of ops, its gradient, its plan.
//!
//!     cargo run --release --example graph

use std::sync::Arc;

use wgrad::compile::{Options, compile};
use wgrad::exec::{Choice, Device};
use wgrad::graph::Graph;
use wgrad::ops::Tape;
use wgrad::ops::activation::{Activate, Activation};
use wgrad::ops::matmul::Matmul;
use wgrad::shape::Type;
use wgrad::tensor::Host;

fn main() -> wgrad::Result<()> {
    // y = tanh(x Wᵀ), and d(sum y)/dW.
    let mut graph = Graph::new();
    let x = graph.variable("x", Type::f32("x", &[2, 3])?)?;
    let w = graph.variable("w", Type::f32("w", &[4, 3])?)?;
    let ones = graph.variable("ones", Type::f32("ones", &[2, 4])?)?;
    graph.begin("step");
    let z = graph.op1(Arc::new(Matmul::new(false, true)), &[x, w])?;
    let y = graph.op1(Arc::new(Activate(Activation::Tanh)), &[z])?;
    graph.result("y", y)?;
    if let Some(dw) = graph.gradients(y, ones, &[w])?[0] {
        graph.result("dw", dw)?;
    }

    let device = Device::open(Choice::Auto)?;
    let options = Options {
        replicas: 1,
        fuse: true,
        limits: device.info().limits,
    };
    let plan = compile(&graph, &options)?;
    for launch in &plan.programs["step"] {
        println!("{} on a grid of {:?}", launch.kernel.name, launch.grid);
    }
    let mut executor = device.executor(plan)?;
    for (name, values) in [
        ("x", vec![0.5; 6]),
        ("w", vec![0.1; 12]),
        ("ones", vec![1.0; 8]),
    ] {
        if let Some(buffer) = executor.plan().state(name) {
            executor.write(buffer, &Host::F32(values))?;
        }
    }
    executor.run("step", 1)?;
    if let Some(dw) = executor.plan().state("dw") {
        println!("dW = {:?}", executor.read(dw)?);
    }
    Ok(())
}

//! One floor down: a graph of ops, its gradient, its plan.
//!
//!     cargo run --release --example graph

use std::sync::Arc;

use wgrad::exec::{Choice, Device};
use wgrad::graph::Graph;
use wgrad::ops::Tape;
use wgrad::ops::activation::{Activate, Activation};
use wgrad::ops::matmul::Matmul;
use wgrad::run::Session;
use wgrad::shape::Type;

fn main() -> wgrad::Result<()> {
    // y = tanh(x Wᵀ), and d(sum y)/dW.
    let mut graph = Graph::new();
    let x = graph.input::<f32>("x", Type::f32("x", &[2, 3])?)?;
    let w = graph.input::<f32>("w", Type::f32("w", &[4, 3])?)?;
    let ones = graph.input::<f32>("ones", Type::f32("ones", &[2, 4])?)?;
    let step = graph.begin("step");
    let product = Arc::new(Matmul::new(false, true));
    let z = graph.op1(product, &[x.value(), w.value()])?;
    let z = graph.op1(Arc::new(Activate(Activation::Tanh)), &[z])?;
    let y = graph.output::<f32>("y", z)?;
    let gradients = graph.gradients(z, ones.value(), &[w.value()])?;
    let dw = gradients.into_iter().flatten();
    let dw: Vec<_> = dw
        .map(|dw| graph.output::<f32>("dw", dw))
        .collect::<wgrad::Result<_>>()?;

    let mut session = Session::new(&graph, &Device::open(Choice::Auto)?)?;
    for launch in session.launches(step)? {
        println!("{} on a grid of {:?}", launch.kernel.name, launch.grid);
    }
    session.write(x, &[0.5; 6])?;
    session.write(w, &[0.1; 12])?;
    session.write(ones, &[1.0; 8])?;
    session.run(step, 1)?;
    let (y, dw) = session.read((y, dw))?;
    println!("y = {:?}\ndW = {:?}", &y[..], &dw[0][..]);
    Ok(())
}

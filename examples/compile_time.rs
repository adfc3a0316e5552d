//! How long a graph takes to become a plan, without pipelines: training steps of residual networks of
//! several depths, by AdamW.
//!
//!     cargo run --example compile_time -- [REPETITIONS]

use std::sync::Arc;
use std::time::Instant;

use wgrad::compile::{Compiled, Options};
use wgrad::expr::activations::gelu;
use wgrad::graph::Graph;
use wgrad::ops::add::Add;
use wgrad::ops::add_bias::AddBias;
use wgrad::ops::advance::Advance;
use wgrad::ops::constant::Constant;
use wgrad::ops::matmul::Matmul;
use wgrad::ops::norm::{Norm, Over};
use wgrad::ops::pointwise::pointwise;
use wgrad::ops::reduce::Reduce;
use wgrad::ops::{COUNTER, Tape, Value};
use wgrad::optim::{AdamW, Optimizer};
use wgrad::plan::Limits;
use wgrad::shape::Type;

const BATCH: usize = 32;
const WIDTH: usize = 64;

/// A step of so many blocks: normalization, a layer with GELU, a layer, the wire past both.
fn step(blocks: usize) -> wgrad::Result<Graph> {
    let mut graph = Graph::new();
    let f32 = |extents: &[usize]| Type::f32("example", extents);
    let x = graph.variable("x", f32(&[BATCH, WIDTH])?)?;
    let wanted = graph.variable("wanted", f32(&[BATCH, WIDTH])?)?;
    let step = graph.variable("step", Type::u32("example", &[COUNTER])?)?;
    let (mut parameters, mut names) = (Vec::new(), Vec::new());
    for block in 0..blocks {
        for (name, extents) in [
            ("gamma", &[WIDTH][..]),
            ("beta", &[WIDTH]),
            ("w", &[WIDTH, WIDTH]),
            ("b", &[WIDTH]),
            ("v", &[WIDTH, WIDTH]),
            ("c", &[WIDTH]),
        ] {
            let name = format!("{block}.{name}");
            parameters.push(graph.variable(&name, f32(extents)?)?);
            names.push(name);
        }
    }
    let named = names
        .iter()
        .map(String::as_str)
        .zip(parameters.iter().copied());
    let named: Vec<_> = named.collect();
    let update = Optimizer::new(AdamW::default(), 0.001).declare(&mut graph, &named)?;
    graph.begin("train");
    let mut y = x;
    for own in parameters.chunks(6) {
        let norm = Norm {
            over: Over::Layer(1),
            epsilon: 1e-5,
        };
        let z = graph.op(Arc::new(norm), &[y, own[0], own[1]])?[0];
        let z = layer(&mut graph, z, own[2], own[3])?;
        let z = pointwise(&mut graph, [z], |[z]| gelu(&z))?;
        let z = layer(&mut graph, z, own[4], own[5])?;
        y = graph.op1(Arc::new(Add), &[y, z])?;
    }
    let each = pointwise(&mut graph, [y, wanted], |[y, t]| (y - t).square())?;
    let mean = 1.0 / (BATCH * WIDTH) as f64;
    let loss = graph.op1(Arc::new(Reduce::new(None, mean)), &[each])?;
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

fn layer(graph: &mut Graph, x: Value, w: Value, b: Value) -> wgrad::Result<Value> {
    let product = Matmul {
        trans_a: false,
        trans_b: true,
        ending: None,
    };
    let y = graph.op1(Arc::new(product), &[x, w])?;
    graph.op1(Arc::new(AddBias), &[y, b])
}

/// The median time in milliseconds, and what was made last.
fn timed<T>(times: usize, mut f: impl FnMut() -> wgrad::Result<T>) -> wgrad::Result<(f64, T)> {
    let mut all = Vec::new();
    loop {
        let start = Instant::now();
        let made = f()?;
        all.push(start.elapsed().as_secs_f64() * 1e3);
        if all.len() >= times {
            all.sort_by(f64::total_cmp);
            return Ok((all[all.len() / 2], made));
        }
    }
}

fn main() -> wgrad::Result<()> {
    let times = match std::env::args().nth(1) {
        None => 5,
        Some(text) => match text.parse() {
            Ok(times) if times > 0 => times,
            _ => return Err(wgrad::Error::setting("times", text, "a number from 1 on")),
        },
    };
    println!("ops | graph ms | plan ms | launches | unfused ms | launches");
    for blocks in [7, 14, 29, 58, 116] {
        let (described, graph) = timed(times, || step(blocks))?;
        let variables = graph.nodes().iter().filter(|n| n.program.is_none()).count();
        let mut line = format!("{} | {described:.1}", graph.nodes().len() - variables);
        for fuse in [true, false] {
            let options = Options {
                replicas: 1,
                fuse,
                limits: Limits::default(),
            };
            let (took, compiled) = timed(times, || Compiled::new(&graph, &options))?;
            let launches = compiled.plan().programs["train"].len();
            line += &format!(" | {took:.1} | {launches}");
        }
        println!("{line}");
    }
    Ok(())
}

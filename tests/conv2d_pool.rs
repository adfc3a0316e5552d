//! The fused convolution and pool is the convolution, then the pool: values, winners and
//! gradients, on small whole numbers, where every sum is exact and ties abound.

mod common;

use std::sync::Arc;

use common::{gpu, words};
use wgrad::compile::{Compiled, Options};
use wgrad::exec::Executor;
use wgrad::exec::cpu::{Cpu, Implementation};
use wgrad::graph::{Graph, Handle, Program};
use wgrad::ops::add_bias::AddBias;
use wgrad::ops::conv2d::{Conv2d, Conv2dInputGrad, Conv2dWeightGrad};
use wgrad::ops::conv2d_pool::{
    Conv2dPool, Conv2dPoolInputGrad, Conv2dPoolWeightGrad, ConvPool, Update,
};
use wgrad::ops::max_pool2d::{MaxPool2d, MaxPool2dGrad};
use wgrad::ops::{Op, Tape, Value};
use wgrad::plan::Limits;
use wgrad::run::Session;
use wgrad::shape::Type;
use wgrad::tensor::Host;

/// Images, filters, what the convolution and the pool are.
type Network = ([usize; 4], [usize; 4], ConvPool);

/// Variables, a program, and each result twice: by the fused op and by its parts.
struct Both {
    graph: Graph,
    inputs: [Handle<f32>; 4],
    program: Program,
    results: Vec<(&'static str, [Handle<Host>; 2])>,
}

fn graph_of((x, w, conv_pool): Network) -> wgrad::Result<Both> {
    let ConvPool { conv, pool } = conv_pool;
    let mut graph = Graph::new();
    let mut input = |name: &str, extents: &[usize]| graph.input(name, Type::f32(name, extents)?);
    let [x_, w_, b_] = [input("x", &x)?, input("w", &w)?, input("bias", &w[..1])?];
    let [images, filters, bias] = [x_, w_, b_].map(Handle::value);
    let ins = [images, filters, bias].map(|v| graph.ty(v).unwrap().clone());
    let pooled = Conv2dPool(conv_pool).infer(&ins)?.swap_remove(0);
    let g_ = graph.input("g", pooled)?;
    let g = g_.value();
    let program = graph.begin("run");
    let mut results = vec![];
    let mut both = |graph: &mut Graph, name: &'static str, fused: Value, apart: Value| {
        let fused = graph.output(&format!("{name} fused"), fused)?;
        let apart = graph.output(&format!("{name} apart"), apart)?;
        results.push((name, [fused, apart]));
        wgrad::Result::Ok(())
    };
    let z = graph.op1(Arc::new(conv), &[images, filters])?;
    let z = graph.op1(Arc::new(AddBias), &[z, bias])?;
    let apart = graph.op(Arc::new(pool), &[z])?;
    let fused = graph.op(Arc::new(Conv2dPool(conv_pool)), &[images, filters, bias])?;
    both(&mut graph, "y", fused[0], apart[0])?;
    both(&mut graph, "argmax", fused[1], apart[1])?;
    let [_, _, ho, wo] = graph.ty(z)?.shape.axes("z", "four")?;
    let pool_grad = MaxPool2dGrad {
        pool,
        input: [ho, wo],
    };
    let dz = graph.op1(Arc::new(pool_grad), &[g, apart[1]])?;
    let (input, kernel) = ([x[2], x[3]], [w[2], w[3]]);
    let input_grad = Conv2dInputGrad { conv, input };
    let apart_dx = graph.op1(Arc::new(input_grad), &[dz, filters])?;
    let input_grad = Conv2dPoolInputGrad { conv_pool, input };
    let fused_dx = graph.op1(Arc::new(input_grad), &[g, fused[1], filters])?;
    both(&mut graph, "dx", fused_dx, apart_dx)?;
    let weight_grad = Conv2dWeightGrad {
        conv,
        kernel,
        ending: None,
    };
    let apart_dw = graph.op1(Arc::new(weight_grad), &[images, dz])?;
    let weight_grad = Conv2dPoolWeightGrad {
        conv_pool,
        kernel,
        update: Update::Store,
    };
    let fused_dw = graph.op1(Arc::new(weight_grad), &[images, g, fused[1]])?;
    both(&mut graph, "dw", fused_dw, apart_dw)?;
    Ok(Both {
        graph,
        inputs: [x_, w_, b_, g_],
        program,
        results,
    })
}

fn networks() -> Vec<Network> {
    let make = |stride, padding, dilation, groups, kernel, step, padded| ConvPool {
        conv: Conv2d {
            stride,
            padding,
            dilation,
            groups,
        },
        pool: MaxPool2d {
            kernel,
            stride: step,
            padding: padded,
        },
    };
    let halves = make([1, 1], [0, 0], [1, 1], 1, [2, 2], [2, 2], [0, 0]);
    let overlap = make([1, 1], [2, 1], [1, 1], 1, [3, 3], [2, 1], [1, 1]);
    let gaps = make([2, 1], [1, 0], [1, 2], 2, [2, 1], [3, 2], [1, 0]);
    vec![
        ([3, 1, 28, 28], [20, 1, 5, 5], halves),
        ([2, 20, 12, 12], [40, 20, 5, 5], halves),
        ([2, 3, 9, 8], [11, 3, 3, 2], overlap),
        ([3, 4, 13, 11], [6, 2, 3, 2], gaps),
    ]
}

#[test]
fn fused_is_apart() {
    let gpu = gpu();
    for network in networks() {
        let options = Options {
            replicas: 2,
            fuse: false,
            limits: Limits::default(),
        };
        let both = graph_of(network).unwrap();
        let compiled = Compiled::new(&both.graph, &options).unwrap();
        let plan = compiled.plan().clone();
        let mut executors: Vec<(&str, Box<dyn Executor>)> = vec![
            (
                "reference",
                Box::new(Cpu::<f32>::new(plan.clone(), Implementation::Reference).unwrap()),
            ),
            (
                "optimized",
                Box::new(Cpu::<f32>::new(plan.clone(), Implementation::Optimized).unwrap()),
            ),
        ];
        if let Some(gpu) = &gpu {
            executors.push(("GPU", gpu.executor(plan).unwrap()));
        }
        let mut first = None;
        for (name, executor) in executors {
            let mut session = Session::of(&compiled, executor).unwrap();
            for (i, &input) in both.inputs.iter().enumerate() {
                let values = words(i as u32, session.elements(input).unwrap());
                let values: Vec<f32> = values.iter().map(|w| (w % 3) as f32 - 1.0).collect();
                session.write(input, &values).unwrap();
            }
            session.run(both.program, 1).unwrap();
            let mut all = Vec::new();
            for (result, handles) in &both.results {
                let found = session.read(&handles[..]).unwrap();
                assert_eq!(found[0], found[1], "{result} on {name}, {network:?}");
                all.push(found);
            }
            assert_eq!(
                first.get_or_insert_with(|| all.clone()),
                &all,
                "{name}, {network:?}"
            );
        }
    }
}

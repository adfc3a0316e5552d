//! The fused convolution and pool is the convolution, then the pool: values, winners and
//! gradients, on small whole numbers, where every sum is exact and ties abound.

mod common;

use std::sync::Arc;

use common::{gpu, words};
use wgrad::compile::{Options, compile};
use wgrad::exec::Executor;
use wgrad::exec::cpu::{Cpu, Text};
use wgrad::graph::Graph;
use wgrad::ops::activation::Activation;
use wgrad::ops::conv2d::{Conv2d, Conv2dInputGrad, Conv2dWeightGrad, ConvEnd};
use wgrad::ops::conv2d_pool::{
    Conv2dPool, Conv2dPoolInputGrad, Conv2dPoolWeightGrad, ConvPool, Update,
};
use wgrad::ops::max_pool2d::{MaxPool2d, MaxPool2dGrad};
use wgrad::ops::{Op, Tape, Value};
use wgrad::plan::{Limits, Role};
use wgrad::shape::{DType, Type};
use wgrad::tensor::Host;

/// Images, filters, what the convolution and the pool are.
type Network = ([usize; 4], [usize; 4], ConvPool);

/// Keeps each result twice: `<name> fused` and `<name> apart`.
fn graph_of((x, w, conv_pool): Network) -> wgrad::Result<Graph> {
    let ConvPool { conv, pool } = conv_pool;
    let mut graph = Graph::new();
    let images = graph.variable("x", Type::f32("x", &x)?)?;
    let filters = graph.variable("w", Type::f32("w", &w)?)?;
    let bias = graph.variable("bias", Type::f32("bias", &[w[0]])?)?;
    let ins = [images, filters, bias].map(|v| graph.ty(v).unwrap().clone());
    let pooled = Conv2dPool(conv_pool).infer(&ins)?.swap_remove(0);
    let g = graph.variable("g", pooled)?;
    graph.begin("run");
    let both = |graph: &mut Graph, name: &str, fused: Value, apart: Value| {
        graph.result(&format!("{name} fused"), fused)?;
        graph.result(&format!("{name} apart"), apart)
    };
    let biased = Conv2d {
        end: ConvEnd::Bias(Activation::Linear),
        ..conv
    };
    let z = graph.op1(Arc::new(biased), &[images, filters, bias])?;
    let apart = graph.op(Arc::new(pool), &[z])?;
    let fused = graph.op(Arc::new(Conv2dPool(conv_pool)), &[images, filters, bias])?;
    both(&mut graph, "y", fused[0], apart[0])?;
    both(&mut graph, "argmax", fused[1], apart[1])?;
    let [_, _, ho, wo] = graph.ty(z)?.shape.axes("z", "four")?;
    let pool_grad = MaxPool2dGrad {
        pool,
        input: [ho, wo],
        slope: None,
    };
    let dz = graph.op1(Arc::new(pool_grad), &[g, apart[1]])?;
    let (input, kernel) = ([x[2], x[3]], [w[2], w[3]]);
    let input_grad = Conv2dInputGrad {
        conv,
        input,
        slope: None,
    };
    let apart_dx = graph.op1(Arc::new(input_grad), &[dz, filters])?;
    let input_grad = Conv2dPoolInputGrad {
        conv_pool,
        input,
        slope: None,
    };
    let fused_dx = graph.op1(Arc::new(input_grad), &[g, fused[1], filters])?;
    both(&mut graph, "dx", fused_dx, apart_dx)?;
    let weight_grad = Conv2dWeightGrad {
        conv,
        kernel,
        update: None,
    };
    let apart_dw = graph.op1(Arc::new(weight_grad), &[images, dz])?;
    let weight_grad = Conv2dPoolWeightGrad {
        conv_pool,
        kernel,
        update: Update::Store,
    };
    let fused_dw = graph.op1(Arc::new(weight_grad), &[images, g, fused[1]])?;
    both(&mut graph, "dw", fused_dw, apart_dw)?;
    Ok(graph)
}

fn networks() -> Vec<Network> {
    let make = |stride, padding, dilation, groups, kernel, step, ground| ConvPool {
        conv: Conv2d {
            stride,
            padding,
            dilation,
            groups,
            end: ConvEnd::Store,
        },
        pool: MaxPool2d {
            kernel,
            stride: step,
            padding: ground,
            activation: Activation::Relu,
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
        let plan = compile(&graph_of(network).unwrap(), &options).unwrap();
        let mut executors: Vec<(&str, Box<dyn Executor>)> = vec![
            (
                "reference",
                Box::new(Cpu::<f32>::new(plan.clone(), Text::Reference).unwrap()),
            ),
            (
                "fast",
                Box::new(Cpu::<f32>::new(plan.clone(), Text::Fast).unwrap()),
            ),
        ];
        if let Some(gpu) = &gpu {
            executors.push(("GPU", gpu.executor(plan).unwrap()));
        }
        let mut first = None;
        for (name, mut executor) in executors {
            let buffers = executor.plan().buffers.clone();
            for (i, b) in buffers.iter().enumerate() {
                if b.role == Role::State && b.dtype == DType::F32 {
                    let values = words(i as u32, b.total(2)).into_iter();
                    let values = values.map(|w| (w % 3) as f32 - 1.0).collect();
                    executor.write(i, &Host::F32(values)).unwrap();
                }
            }
            executor.run("run", 1).unwrap();
            let mut all = Vec::new();
            for result in ["y", "argmax", "dx", "dw"] {
                let [fused, apart] = ["fused", "apart"].map(|how| {
                    let at = executor.plan().state(&format!("{result} {how}")).unwrap();
                    executor.read_all(&[at]).unwrap().swap_remove(0)
                });
                assert_eq!(fused, apart, "{result} on {name}, {network:?}");
                all.push(fused);
            }
            assert_eq!(
                first.get_or_insert_with(|| all.clone()),
                &all,
                "{name}, {network:?}"
            );
        }
    }
}

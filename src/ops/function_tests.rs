//! What functions over several ops refuse, and the launches that they and their gradients take.

use std::sync::Arc;

use super::adaptive_max_pool2d::{AdaptiveMaxPool2d, AdaptiveMaxPool2dGrad};
use super::constant::Constant;
use super::pointwise::pointwise;
use super::{
    Conv1d, Conv3d, ConvTranspose1d, Op, Pool1d, Tape, Value, adaptive_max_pool1d, avg_pool1d, cat,
    conv_transpose1d, conv1d, conv3d, global_max_pool, max_pool1d, one_hot, split,
};
use crate::compile::{Options, compile};
use crate::error::Result;
use crate::graph::Graph;
use crate::plan::Limits;
use crate::shape::Type;

fn f32(extents: &[usize]) -> Type {
    Type::f32("test", extents).unwrap()
}

fn u32(extents: &[usize]) -> Type {
    Type::u32("test", extents).unwrap()
}

/// The kernels of what a function adds over variables of these types, and of the gradients with
/// respect to those of floats; or what it says.
fn of_function(
    inputs: &[Type],
    build: impl FnOnce(&mut Graph, &[Value]) -> Result<Value>,
) -> Result<Vec<&'static str>> {
    let mut graph = Graph::new();
    let values: Vec<_> = (0..)
        .zip(inputs)
        .map(|(i, ty)| graph.variable(&format!("{i}"), ty.clone()).unwrap())
        .collect();
    graph.begin("run");
    let y = build(&mut graph, &values)?;
    graph.result("y", y)?;
    let upstream = Arc::new(Constant {
        extents: graph.ty(y)?.shape.extents().to_vec(),
        value: 1.0,
    });
    let upstream = graph.op1(upstream, &[])?;
    let gradients = graph.gradients(y, upstream, &values)?;
    for (i, g) in gradients.into_iter().enumerate() {
        if let Some(g) = g {
            graph.result(&format!("gradient {i}"), g)?;
        }
    }
    let options = Options {
        replicas: 1,
        fuse: true,
        limits: Limits::default(),
    };
    let plan = compile(&graph, &options)?;
    let launches = plan.programs["run"].iter();
    Ok(launches.map(|launch| launch.kernel.name).collect())
}

#[test]
fn a_convolution_of_rows_is_one_of_images_with_its_bias() {
    let inputs = [f32(&[2, 3, 9]), f32(&[4, 3, 2]), f32(&[4])];
    let names = of_function(&inputs, |graph, v| {
        conv1d(graph, v[0], v[1], Some(v[2]), Conv1d::default())
    });
    let names = names.unwrap();
    // The bias is added at the convolution's end.
    assert_eq!(names[..3], ["conv2d", "constant", "reduce"], "{names:?}");
    assert_eq!(names[3..], ["conv2d_input_grad", "conv2d_weight_grad"]);
    // Parts come together again in one launch.
    let names = of_function(&[f32(&[2, 9])], |graph, v| {
        let parts = split(graph, v[0], &[2, 3, 4], 1)?;
        let exp = pointwise(graph, [parts[0]], |[x]| x.exp())?;
        cat(graph, &[parts[2], exp, parts[1]], 1)
    });
    let back = names.unwrap().split_off(4);
    assert_eq!(back[0], "split_3");
    assert_eq!(back.last(), Some(&"concat_3"));
}

#[test]
fn functions_say_which_sizes_do_not_fit() {
    let refused = |inputs: &[Type], why: &str, build: fn(&mut Graph, &[Value]) -> Result<Value>| {
        let error = of_function(inputs, build).unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
        // Whoever has rows, or volumes, knows nothing of images.
        assert!(!error.contains("2d") && !error.contains("image"), "{error}");
    };
    let (rows, filters) = (f32(&[2, 3, 9]), f32(&[4, 3, 2]));
    let alone = [rows.clone()];
    refused(
        &[f32(&[2, 9]), filters.clone()],
        "conv1d: found [2, 9]",
        |g, v| conv1d(g, v[0], v[1], None, Conv1d::default()),
    );
    refused(&[rows.clone(), f32(&[4, 2, 2])], "C / groups", |g, v| {
        conv1d(g, v[0], v[1], None, Conv1d::default())
    });
    refused(&[rows.clone(), filters, f32(&[3])], "conv1d", |g, v| {
        conv1d(g, v[0], v[1], Some(v[2]), Conv1d::default())
    });
    refused(
        &[rows.clone(), f32(&[2, 3, 2])],
        "for each of the rows'",
        |g, v| conv_transpose1d(g, v[0], v[1], None, ConvTranspose1d::default()),
    );
    refused(&alone, "at most half the window", |g, v| {
        let pool = Pool1d {
            padding: 2,
            ..Pool1d::new(3)
        };
        max_pool1d(g, v[0], pool)
    });
    refused(&alone, "avg_pool1d, kernel along length", |g, v| {
        avg_pool1d(g, v[0], Pool1d::new(0))
    });
    refused(
        &alone,
        "max_pool1d, kernel along length: found 0",
        |g, v| {
            let pool = Pool1d {
                padding: 1,
                ..Pool1d::new(0)
            };
            max_pool1d(g, v[0], pool)
        },
    );
    let longest = [f32(&[1, 1, 2]), f32(&[1, 1, 40_000])];
    refused(
        &longest,
        "conv_transpose1d, kernel along length: found 40000",
        |g, v| conv_transpose1d(g, v[0], v[1], None, ConvTranspose1d::default()),
    );
    // More than a value can have.
    let many = [f32(&[1, 1, 9]), f32(&[1 << 20, 1, 1])];
    refused(&many, "conv1d: found [1, 1048576, 2009]", |g, v| {
        let settings = Conv1d {
            padding: 1000,
            ..Conv1d::default()
        };
        conv1d(g, v[0], v[1], None, settings)
    });
    let many = [f32(&[1, 1, 9]), f32(&[1, 1 << 20, 1])];
    refused(
        &many,
        "conv_transpose1d: found [1, 1048576, 8001]",
        |g, v| {
            let settings = ConvTranspose1d {
                stride: 1000,
                ..ConvTranspose1d::default()
            };
            conv_transpose1d(g, v[0], v[1], None, settings)
        },
    );
    let many = [f32(&[1, 1 << 16, 9])];
    refused(
        &many,
        "adaptive_max_pool1d: found [1, 65536, 20000]",
        |g, v| adaptive_max_pool1d(g, v[0], 20_000),
    );
    let zero = "length of adaptive_max_pool1d: found 0";
    refused(&alone, zero, |g, v| adaptive_max_pool1d(g, v[0], 0));
    let far = [rows.clone(), f32(&[4, 3, 12])];
    refused(
        &far,
        "conv1d: found a window that reaches over 12, length 9",
        |g, v| conv1d(g, v[0], v[1], None, Conv1d::default()),
    );
    refused(
        &[rows.clone(), f32(&[3, 4, 2])],
        "padding 8 of length 10",
        |g, v| {
            let settings = ConvTranspose1d {
                padding: 8,
                ..ConvTranspose1d::default()
            };
            conv_transpose1d(g, v[0], v[1], None, settings)
        },
    );
    refused(
        &alone,
        "max_pool1d: found a window that reaches over 10, length 9",
        |g, v| max_pool1d(g, v[0], Pool1d::new(10)),
    );
    refused(
        &[f32(&[2, 3])],
        "global_max_pool: found f32[2, 3]",
        |g, v| global_max_pool(g, v[0]),
    );
    let volumes = f32(&[1, 4, 3, 3, 3]);
    refused(
        &[volumes.clone(), f32(&[2, 4, 1, 1, 1])],
        "3 groups",
        |g, v| {
            let settings = Conv3d {
                groups: 3,
                ..Conv3d::default()
            };
            conv3d(g, v[0], v[1], None, settings)
        },
    );
    refused(
        &[volumes.clone(), f32(&[2, 4, 4, 1, 1])],
        "reaches over 4",
        |g, v| conv3d(g, v[0], v[1], None, Conv3d::default()),
    );
    refused(
        &[volumes.clone(), f32(&[2, 4, 1, 1, 4])],
        "conv3d: found a window that reaches over 4, width 3",
        |g, v| conv3d(g, v[0], v[1], None, Conv3d::default()),
    );
    let filters = f32(&[2, 4, 1, 1, 1]);
    refused(&[volumes.clone(), filters, f32(&[3])], "conv3d", |g, v| {
        conv3d(g, v[0], v[1], Some(v[2]), Conv3d::default())
    });
    refused(&[volumes, f32(&[2, 4, 1, 1])], "K_d, K_h, K_w", |g, v| {
        conv3d(g, v[0], v[1], None, Conv3d::default())
    });
    refused(&alone, "classes of u32", |g, v| one_hot(g, v[0], 3));
    refused(&[u32(&[2])], "num_classes of one_hot", |g, v| {
        one_hot(g, v[0], 0)
    });
}

#[test]
fn adaptive_pools_refuse_what_does_not_fit() {
    let refused = |op: &dyn Op, inputs: &[Type], why: &str| {
        let error = op.infer(inputs).unwrap_err().to_string();
        assert!(error.contains(why), "{op:?}: {error}");
    };
    let pool = |size| AdaptiveMaxPool2d { size };
    refused(&pool([0, 1]), &[f32(&[1, 1, 2, 2])], "found 0");
    refused(&pool([1, 1]), &[f32(&[1, 2, 2])], "images [N, C, H, W]");
    let grad = AdaptiveMaxPool2dGrad {
        pool: pool([1, 2]),
        input: [2, 2],
    };
    let inputs = [f32(&[1, 1, 1, 2]), u32(&[1, 1, 2, 1])];
    refused(&grad, &inputs, "argmax of u32[1, 1, 1, 2]");
}

//! Models of ops that no model of the other fixtures has: layers of outsiders write them.

use std::sync::Arc;

use wgrad::expr::Expr;
use wgrad::fit::Weights;
use wgrad::model::layers::*;
use wgrad::model::{Input, Model, Scope, Start};
use wgrad::ops::adaptive_max_pool2d::AdaptiveMaxPool2d as AdaptiveMax;
use wgrad::ops::argmax::Argmax;
use wgrad::ops::bmm::Bmm;
use wgrad::ops::broadcast::Broadcast;
use wgrad::ops::cumsum::Cumsum;
use wgrad::ops::pad::{Edge, Pad, PadEdges};
use wgrad::ops::permute::Permute;
use wgrad::ops::pointwise::pointwise;
use wgrad::ops::recurrent::{Cell, Recurrent};
use wgrad::ops::reduction::{Kind, Reduction};
use wgrad::ops::slice::Slice;
use wgrad::ops::{Pool1d, Tape, Value, max_pool1d, one_hot, split};
use wgrad::tensor::Host;

use super::Example;

const ROWS: usize = 5;

fn example(name: &str, model: wgrad::Result<Model>) -> Example {
    let model = model.unwrap_or_else(|e| panic!("{name}: {e}"));
    let inputs = model.inputs().map(|(name, input)| {
        let count = ROWS * input.extents.iter().product::<usize>();
        let host = match input.dtype {
            wgrad::shape::DType::F32 => Host::F32(
                (0..count)
                    .map(|i| (i * 7919 % 401) as f32 / 200.0 - 1.0)
                    .collect(),
            ),
            wgrad::shape::DType::U32 => Host::U32((0..count).map(|i| (i * 7 % 4) as u32).collect()),
        };
        (name.to_string(), host)
    });
    let inputs = inputs.collect();
    let weights = Weights::initial(&model, 1);
    Example {
        name: name.into(),
        model,
        weights,
        inputs,
        rows: ROWS,
        allowed: 1e-5,
    }
}

type Write = fn(&mut Scope<'_>, Value) -> wgrad::Result<Value>;

/// A model of one input and an output for each function.
fn over(name: &str, input: impl Into<Input>, functions: &[Write]) -> Example {
    let input = input.into();
    let model = Model::build(|m| {
        let x = m.input("x", input);
        for (number, &write) in functions.iter().enumerate() {
            let layer = Function::new("own", move |scope, x| write(scope, x[0]));
            m.output(
                &format!("y{number}"),
                x.layer(&format!("own{number}"), layer),
            );
        }
    });
    example(name, model)
}

fn reduced(
    scope: &mut Scope<'_>,
    x: Value,
    kind: Kind,
    axes: &[usize],
    keep: bool,
) -> wgrad::Result<Value> {
    let axes = axes.to_vec();
    Ok(scope.op(Arc::new(Reduction { kind, axes, keep }), &[x])?[0])
}

pub fn examples() -> Vec<Example> {
    vec![
        over(
            "own reductions",
            [3, 4],
            &[
                |s, x| reduced(s, x, Kind::Sum, &[2], false),
                |s, x| reduced(s, x, Kind::Mean, &[1], true),
                |s, x| reduced(s, x, Kind::Max, &[1, 2], false),
                |s, x| reduced(s, x, Kind::Min, &[2], true),
                |s, x| reduced(s, x, Kind::Variance, &[1, 2], true),
                |s, x| reduced(s, x, Kind::LogSumExp, &[2], false),
                |s, x| reduced(s, x, Kind::Norm, &[1], false),
            ],
        ),
        over(
            "own moves",
            [6, 5],
            &[
                |s, x| {
                    s.op1(
                        Arc::new(Permute {
                            axes: vec![0, 2, 1],
                        }),
                        &[x],
                    )
                },
                |s, x| {
                    let (axis, start, extent, step) = (1, 1, 3, 2);
                    s.op1(
                        Arc::new(Slice {
                            axis,
                            start,
                            extent,
                            step,
                        }),
                        &[x],
                    )
                },
                |s, x| {
                    let (axis, start, extent, step) = (2, 1, 8, 1);
                    s.op1(
                        Arc::new(Pad {
                            axis,
                            start,
                            extent,
                            step,
                        }),
                        &[x],
                    )
                },
                |s, x| {
                    let (axis, before, after, edge) = (2, 2, 3, Edge::Reflect);
                    s.op1(
                        Arc::new(PadEdges {
                            axis,
                            before,
                            after,
                            edge,
                        }),
                        &[x],
                    )
                },
                |s, x| {
                    let (axis, before, after, edge) = (1, 0, 2, Edge::Replicate);
                    s.op1(
                        Arc::new(PadEdges {
                            axis,
                            before,
                            after,
                            edge,
                        }),
                        &[x],
                    )
                },
                |s, x| {
                    let parts = split(s, x, &[1, 3, 2], 1)?;
                    reduced(s, parts[1], Kind::Sum, &[1], false)
                },
                |s, x| {
                    s.op1(
                        Arc::new(Cumsum {
                            axis: 2,
                            reverse: true,
                        }),
                        &[x],
                    )
                },
                |s, x| {
                    s.op1(
                        Arc::new(Cumsum {
                            axis: 1,
                            reverse: false,
                        }),
                        &[x],
                    )
                },
                |s, x| max_pool1d(s, x, Pool1d::new(2)),
            ],
        ),
        over(
            "own expressions",
            [3, 7],
            &[
                |s, x| pointwise(s, [x], |[x]| (&x * 3.0).floor() + x.sign() * 0.5),
                |s, x| pointwise(s, [x], |[x]| x.sin() * x.cos() + x.exp()),
                |s, x| pointwise(s, [x], |[x]| x.expm1() - x.abs().log1p()),
                |s, x| {
                    pointwise(s, [x], |[x]| {
                        (x.square() + 1.0).rsqrt() + (x.abs() + 0.5).log()
                    })
                },
                |s, x| {
                    pointwise(s, [x], |[x]| {
                        (x.abs() + 0.1).pow(1.7) / (x.abs().sqrt() + 1.0)
                    })
                },
                |s, x| pointwise(s, [x], |[x]| x.min(0.3).max(-0.7) - (-&x)),
                |s, x| {
                    pointwise(s, [x], |[x]| {
                        let inside = x.lt(0.5).and(&x.ge(-0.5));
                        let either = inside.or(&x.equals(1.0));
                        either.select(&x * 2.0, Expr::constant(0.25))
                    })
                },
                |s, x| {
                    let scale = s.parameter("scale", &[3, 1], Start::constant(0.7))?;
                    let whole = s.constant(&[7], (0..7).map(|i| i as f32).collect())?;
                    pointwise(s, [x, scale, whole], |[x, a, b]| x * a + b)
                },
            ],
        ),
        over(
            "own images",
            [4, 6, 8],
            &[
                |s, x| Ok(s.op(Arc::new(AdaptiveMax { size: [3, 2] }), &[x])?[0]),
                |s, x| Ok(s.op(Arc::new(AdaptiveMax { size: [1, 1] }), &[x])?[0]),
                |s, x| s.layer("a", &AdaptiveAvgPool2d { size: [4, 3] }, &[x]),
                |s, x| s.layer("b", &AdaptiveAvgPool2d { size: [2, 4] }, &[x]),
                |s, x| s.layer("c", &MaxPool2d::new(3).stride(2).padding(1), &[x]),
                |s, x| s.layer("d", &AvgPool2d::new(3).stride(2).padding(1), &[x]),
                |s, x| s.layer("e", &Upsample::bilinear(3), &[x]),
                |s, x| s.layer("f", &LocalResponseNorm::new(5), &[x]),
                |s, x| {
                    s.layer(
                        "g",
                        &ConvTranspose2d::new(4, 3)
                            .stride(2)
                            .padding(1)
                            .output_padding(1)
                            .groups(2),
                        &[x],
                    )
                },
            ],
        ),
        over(
            "own products",
            [2, 3, 4],
            &[
                |s, x| {
                    let w = s.parameter("w", &[1, 2, 3, 5], Start::constant(0.3))?;
                    s.op1(
                        Arc::new(Bmm {
                            trans_a: true,
                            trans_b: false,
                        }),
                        &[x, w],
                    )
                },
                |s, x| {
                    s.op1(
                        Arc::new(Bmm {
                            trans_a: false,
                            trans_b: true,
                        }),
                        &[x, x],
                    )
                },
            ],
        ),
        over(
            "own recurrences",
            [5, 12],
            &[
                |s, x| recurrent(s, x, Cell::Gru, true, 4),
                |s, x| recurrent(s, x, Cell::Lstm, false, 3),
                |s, x| recurrent(s, x, Cell::Plain { relu: true }, false, 12),
            ],
        ),
        over(
            "own words",
            Input::u32([3]),
            &[
                |s, x| one_hot(s, x, 5),
                |s, x| pointwise(s, [x], |[x]| x.equals(2.0).select(1.0, x * 0.5)),
            ],
        ),
        over(
            "own classes",
            [6],
            &[
                |s, x| {
                    let place = s.op1(Arc::new(Argmax), &[x])?;
                    pointwise(s, [place], |[k]| k * 0.5)
                },
                |s, x| s.layer("norm", &GroupNorm::new(2), &[x]),
                |s, x| {
                    let w = s.parameter("w", &[6], Start::constant(0.3))?;
                    let (extents, axis, factor) = (vec![3, 6], Some(1), 2.0);
                    let w = s.op1(
                        Arc::new(Broadcast {
                            extents,
                            axis,
                            factor,
                        }),
                        &[w],
                    )?;
                    let n = s.extents(x)?[0];
                    let x = s.reshape(x, &[n, 1, 6])?;
                    pointwise(s, [x, w], |[x, w]| x * w)
                },
            ],
        ),
        example(
            "own names",
            Model::build(|m| {
                let x = m.input("x", [3]);
                let y = x.layer("fc", Dense::new(3));
                m.output("same", x);
                m.output("y", y);
                m.output("y again", y);
                m.output("sum", y + x);
            }),
        ),
    ]
}

fn recurrent(
    scope: &mut Scope<'_>,
    x: Value,
    cell: Cell,
    reverse: bool,
    units: usize,
) -> wgrad::Result<Value> {
    let rows = cell.gates() * units;
    let start = wgrad::model::Initializer::Uniform(0.5).with_fans(units, units);
    let w = scope.parameter("w", &[rows, units], start)?;
    let b = scope.parameter("b", &[rows], start)?;
    Ok(scope.op(Arc::new(Recurrent { cell, reverse }), &[x, w, b])?[0])
}

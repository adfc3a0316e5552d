//! Ops that a training step is fused into, and distortion.

use proptest::prelude::*;
use wgrad::expr::Expr;
use wgrad::ops::activation::Activation;
use wgrad::ops::conv2d_pool::{
    Conv2dPool, Conv2dPoolInputGrad, Conv2dPoolWeightGrad, ConvPool, Update,
};
use wgrad::ops::dense_grad::{DenseGrad, InputGradient};
use wgrad::ops::dense_loss::{DenseLoss, MOST_SCORES};
use wgrad::ops::distort::{self, Distortion, Draw};
use wgrad::ops::epoch_metrics::EpochMetrics;
use wgrad::ops::max_pool2d::MaxPool2d;
use wgrad::ops::pointwise::Pointwise;
use wgrad::ops::{Case, Cost, Fill, Window, cross_entropy, log_likelihood, quadratic};

use super::{UNIFORM, convolutions, draw, ended, output, sgd, slope, updated};

/// Images, filters, a convolution and a pool over it; half of them such as have a kernel
/// of their own.
fn conv_pools() -> impl Strategy<Value = ([usize; 4], [usize; 4], ConvPool)> {
    let step = || prop_oneof![1..4usize, 1..16usize];
    let pool = ([1..4usize, 1..4], [step(), step()], [0..2usize, 0..2]);
    let pairs = (any::<bool>(), any::<bool>(), 0..3usize);
    (convolutions(11), pool, pairs).prop_map(
        |((mut x, w, mut conv), (mut kernel, mut stride, mut padding), pairs)| {
            let (pairs, halves, fours) = pairs;
            if pairs {
                (conv.stride, conv.padding, conv.dilation) = ([1, 1], [0, 0], [1, 1]);
                (kernel, padding) = ([2, 2], [0, 0]);
                if halves {
                    stride = [2, 2];
                }
                // Room for the filter and one place beside it.
                for axis in [2, 3] {
                    x[axis] = x[axis].max(w[axis] + 1);
                }
                if fours == 0 {
                    x[3] = x[3].next_multiple_of(4);
                }
            }
            // A window no larger than what it moves over.
            if let Some(places) = output(x, w, &conv) {
                for axis in [0, 1] {
                    kernel[axis] = kernel[axis].min(places[axis]);
                    padding[axis] = padding[axis].min(kernel[axis] / 2);
                }
            }
            let pool = MaxPool2d {
                kernel,
                stride,
                padding,
            };
            (x, w, ConvPool { conv, pool })
        },
    )
}

/// What a convolution's output is pooled to, and how a case fills its argmax, if both
/// windows fit.
fn pooled(x: [usize; 4], w: [usize; 4], conv_pool: &ConvPool) -> Option<([usize; 4], Fill)> {
    let output = output(x, w, &conv_pool.conv)?;
    let pool = &conv_pool.pool;
    let along = |axis: usize| {
        let room = output[axis] + 2 * pool.padding[axis];
        let fits = pool.padding[axis] <= pool.kernel[axis] / 2 && room >= pool.kernel[axis];
        fits.then(|| (room - pool.kernel[axis]) / pool.stride[axis] + 1)
    };
    let window = Window {
        kernel: pool.kernel,
        stride: pool.stride,
        padding: pool.padding,
        dilation: [1, 1],
    };
    let shape = [x[0], w[0], along(0)?, along(1)?];
    Some((shape, Fill::Winner(window, output)))
}

#[test]
fn conv2d_pool() {
    let strategy = (conv_pools(), any::<bool>());
    draw("conv2d_pool", strategy, |((x, w, conv_pool), sigmoid)| {
        pooled(x, w, &conv_pool)?;
        let op = Conv2dPool(conv_pool);
        let case = Case::new(op, w[1] * w[2] * w[3]);
        let case = case.fixed(&x, UNIFORM).fixed(&w, UNIFORM);
        let case = case.fixed(&[w[0]], UNIFORM);
        let activated = Pointwise::new(&[Expr::input(0).sigmoid()]);
        Some(match sigmoid {
            true => ended(case, op, activated),
            false => case,
        })
    });
}

#[test]
fn conv2d_pool_input_gradient() {
    draw(
        "conv2d_pool's input gradient",
        (conv_pools(), any::<bool>()),
        |((x, w, conv_pool), sloped)| {
            let (y, winner) = pooled(x, w, &conv_pool)?;
            let grad = Conv2dPoolInputGrad {
                conv_pool,
                input: [x[2], x[3]],
            };
            // A place of the convolution may win in every window it stands in.
            let ConvPool { conv, pool } = conv_pool;
            let wins = |axis: usize| pool.kernel[axis].div_ceil(pool.stride[axis]);
            let taps = w[0] / conv.groups * w[2] * w[3];
            let case = Case::new(grad, taps * wins(0) * wins(1));
            let case = case.fixed(&y, UNIFORM).u32(&y, winner).fixed(&w, UNIFORM);
            Some(match sloped {
                true => ended(case, grad, slope()).fixed(&x, Fill::Uniform(0.0, 1.0)),
                false => case,
            })
        },
    );
}

#[test]
fn conv2d_pool_weight_gradient() {
    let strategy = (conv_pools(), 0..4u8);
    draw(
        "conv2d_pool's weight gradient",
        strategy,
        |((x, w, conv_pool), update)| {
            let (y, winner) = pooled(x, w, &conv_pool)?;
            let sgd = sgd(update == 2);
            let kind = match update {
                0 => Update::Store,
                1 | 2 => Update::Weights(sgd.ending()),
                _ => Update::WeightsAndBias([
                    (sgd.ending(), vec![3, 4, 5]),
                    (sgd.ending(), vec![6, 4, 5]),
                ]),
            };
            let grad = Conv2dPoolWeightGrad {
                conv_pool,
                kernel: [w[2], w[3]],
                update: kind,
            };
            let case = Case::new(grad, y[0] * y[2] * y[3]);
            let case = case.fixed(&x, UNIFORM).fixed(&y, UNIFORM).u32(&y, winner);
            Some(match update {
                0 => case,
                3 => updated(sgd, case, &w).fixed(&[w[0]], UNIFORM),
                _ => updated(sgd, case, &w),
            })
        },
    );
}

#[test]
fn dense_grad() {
    let activations = vec![
        (Activation::Linear, 1.0, UNIFORM),
        (Activation::Tanh, 1.0, UNIFORM),
        (Activation::Sigmoid, 1.25, Fill::Sparse),
        (Activation::Relu, 2.0, Fill::Sparse),
    ];
    let (few, many) = (
        prop_oneof![1..9usize, 1..200usize],
        prop_oneof![1..9usize, 1..600usize],
    );
    let sizes = (1..17usize, few, many);
    let before = prop::sample::select(activations);
    draw(
        "dense_grad",
        (sizes, before, any::<bool>()),
        |((n, n_in, out), (activation, scale, fill), input_gradient)| {
            let sgd = sgd(false);
            let grad = DenseGrad {
                input_gradient: match input_gradient {
                    true => InputGradient::sloped(activation, scale),
                    false => InputGradient::Unwanted,
                },
                updates: [(sgd.ending(), vec![2, 4, 5]), (sgd.ending(), vec![3, 4, 5])],
            };
            let case = Case::new(grad, out.max(n))
                .fixed(&[n, n_in], fill)
                .fixed(&[n, out], UNIFORM);
            let mut case = updated(sgd, case, &[out, n_in]);
            // The bias stands behind its weights.
            let bias = case.clone().fixed(&[out], UNIFORM).inputs.pop();
            case.inputs.splice(3..3, bias);
            Some(case)
        },
    );
}

#[test]
fn dense_loss() {
    let costs: Vec<(&'static Cost, Activation)> = vec![
        (&quadratic::COST, Activation::Sigmoid),
        (&cross_entropy::COST, Activation::Linear),
        (&log_likelihood::COST, Activation::Linear),
    ];
    let sizes = [1..65usize, 1..200, 1..40];
    let epoch = (1..5usize, 0..20u32, 0.0..1.0f64);
    draw(
        "dense_loss",
        (sizes, prop::sample::select(costs), epoch),
        |([n, n_in, k], (cost, activation), (epoch_steps, step, part))| {
            if n * k > MOST_SCORES {
                return None;
            }
            let all = (epoch_steps * n) as f64;
            let loss = DenseLoss {
                activation,
                cost,
                upstream: 1.0 / n as f64,
                metrics: EpochMetrics {
                    count: (all * part).ceil().max(1.0) as usize,
                    epoch_steps,
                    predict: false,
                    keeps: false,
                },
                advance: true,
            };
            let case = Case::new(loss, n_in.max(n))
                .fixed(&[n, n_in], UNIFORM)
                .fixed(&[k, n_in], UNIFORM)
                .fixed(&[k], UNIFORM)
                .u32(&[n], Fill::Below(k.max(2) as u32))
                .u32(&[2], Fill::Pair(77, step));
            let case = case.fixed(&[4], Fill::Number(3.0));
            Some(case.u32(&[4], Fill::Number(0.0)))
        },
    );
}

#[test]
fn distort() {
    let limits = [0.0..180.0, 0.0..0.99, 0.0..1.0, 0.0..3.0];
    let elastic = (any::<bool>(), 0.0..40.0, 1.0..8.0);
    let shape = [1..4usize, 1..4, 1..20, 1..20];
    draw(
        "distort",
        (shape, limits, elastic, any::<bool>()),
        |(shape, [rotation, scale, shear, shift], (bends, alpha, sigma), draws)| {
            let distortion = Distortion {
                rotation,
                scale,
                shear,
                shift,
                alpha: if bends { alpha } else { 0.0 },
                sigma,
            };
            if !draws {
                return Some(distort::case(distortion, shape));
            }
            let [batch, _, height, width] = shape;
            let draw = Draw {
                distortion,
                batch,
                size: [height, width],
                stream: wgrad::rng::streams::DISTORT,
            };
            // As many terms as in the op's own cases, which say why.
            let case = Case::new(draw, 80).u32(&[4], Fill::Keys);
            Some(case.u32(&[2], Fill::Pair(99, 7)))
        },
    );
}

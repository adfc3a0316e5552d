//! Shapes beyond the lists: ops with sizes drawn at random, CPU executor and GPU against
//! the reference in f64. What fails is shrunk to the smallest shape that still does.

mod common;
#[path = "random/steps.rs"]
mod steps;

use common::gpu;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use wgrad::doctor::harness::{inputs, plan_of, run};
use wgrad::doctor::tolerance::{Side, allowed};
use wgrad::doctor::{compare, truth};
use wgrad::exec::cpu::{Cpu, Text};
use wgrad::exec::{Device, Executor};
use wgrad::ops::activation::Activation;
use wgrad::ops::avg_pool2d::AvgPool2d;
use wgrad::ops::conv2d::{Conv2d, Conv2dInputGrad, Conv2dWeightGrad, ConvEnd};
use wgrad::ops::dropout::Dropout;
use wgrad::ops::gather::{Expansion, Gather};
use wgrad::ops::matmul::{End, Matmul};
use wgrad::ops::max_pool2d::MaxPool2d;
use wgrad::ops::reduce::Reduce;
use wgrad::ops::softmax::Softmax;
use wgrad::ops::{Case, Fill, Loss, log_likelihood};

const UNIFORM: Fill = Fill::Uniform(-1.0, 1.0);

/// Holds a case on every device; the error says what disagrees.
fn hold(case: &Case, replicas: usize, gpu: &Option<Device>) -> Result<(), TestCaseError> {
    let fail = |e: wgrad::Error| TestCaseError::fail(e.to_string());
    let plan = plan_of(case, replicas).map_err(fail)?;
    let given = inputs(case, replicas);
    let wanted = truth(&plan, &given).map_err(fail)?;
    let cpu = Cpu::<f32>::new(plan.clone(), Text::Fast).map_err(fail)?;
    let mut executors: Vec<(Side, Box<dyn Executor>)> = vec![(Side::Cpu, Box::new(cpu))];
    if let Some(gpu) = gpu {
        executors.push((Side::Gpu, gpu.executor(plan).map_err(fail)?));
    }
    for (side, mut executor) in executors {
        let found = run(executor.as_mut(), &given).map_err(fail)?;
        let comparison = compare(case, &found, &wanted, allowed(case, side));
        if let Some(failure) = comparison.failure {
            return Err(TestCaseError::fail(format!(
                "{side:?}, R = {replicas}: {failure}"
            )));
        }
    }
    Ok(())
}

/// Draws `count` cases, the same ones every time.
fn draw<S: Strategy>(count: u32, strategy: S, case: impl Fn(S::Value) -> Option<Case>) {
    let gpu = gpu();
    let config = Config {
        cases: count,
        failure_persistence: None,
        ..Config::default()
    };
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[7; 32]);
    let mut runner = TestRunner::new_with_rng(config, rng);
    let result = runner.run(&(strategy, 1..4usize), |(drawn, replicas)| {
        match case(drawn) {
            Some(case) => hold(&case, replicas, &gpu),
            None => Err(TestCaseError::reject("sizes that do not fit")),
        }
    });
    if let Err(e) = result {
        panic!("{e}");
    }
}

#[test]
fn matmul() {
    let sizes = ([1..40usize, 1..40, 1..80], any::<(bool, bool)>(), 0..3u8);
    draw(48, sizes, |([m, n, k], (trans_a, trans_b), end)| {
        let bare = Matmul::new(trans_a, trans_b);
        let a = if trans_a { [k, m] } else { [m, k] };
        let b = if trans_b { [n, k] } else { [k, n] };
        let case = |end| {
            let case = Case::new(Matmul { end, ..bare }, k);
            case.fixed(&a, UNIFORM).fixed(&b, UNIFORM)
        };
        Some(match end {
            0 => case(End::Store),
            1 => case(End::Bias(Activation::Relu)).fixed(&[n], UNIFORM),
            _ => case(End::Slope(Activation::Sigmoid)).fixed(&[m, n], UNIFORM),
        })
    });
}

/// Few rows have a kernel of their own; beyond them the tiled one.
#[test]
fn matmul_of_few_rows() {
    let sizes = [1..24usize, 1..70, 1..150];
    let end = (0.0..0.9, 0..3u32, any::<(bool, bool)>());
    draw(
        48,
        (sizes, end),
        |([m, n, k], (p, layer, (drops, rescale)))| {
            let (act, bare) = (Activation::Relu, Matmul::new(false, true));
            let case = |end| {
                let case = Case::new(Matmul { end, ..bare }, k);
                case.fixed(&[m, k], UNIFORM)
                    .fixed(&[n, k], UNIFORM)
                    .fixed(&[n], UNIFORM)
            };
            if !drops {
                return Some(case(End::Bias(act)));
            }
            let dropout = Dropout { p, layer, rescale };
            let case = case(End::BiasDropout(act, dropout)).u32(&[4], Fill::Keys);
            Some(case.u32(&[2], Fill::Pair(9, 4)))
        },
    );
}

/// Images, filters, at most as many in a group, and a convolution over them.
fn convolutions(most: usize) -> impl Strategy<Value = ([usize; 4], [usize; 4], Conv2d)> {
    let image = (1..4usize, 1..3usize, [1..12usize, 1..12]);
    let filters = (1..=most, [1..5usize, 1..5], 1..4usize);
    let moves = ([1..4usize, 1..4], [0..3usize, 0..3], [1..3usize, 1..3]);
    (image, filters, moves).prop_map(
        |((n, per, [h, w]), (f, [kh, kw], groups), (stride, padding, dilation))| {
            let conv = Conv2d {
                stride,
                padding,
                dilation,
                groups,
                end: ConvEnd::Store,
            };
            ([n, per * groups, h, w], [f * groups, per, kh, kw], conv)
        },
    )
}

/// Output sizes, if the window fits.
fn output(x: [usize; 4], w: [usize; 4], conv: &Conv2d) -> Option<[usize; 2]> {
    let along = |axis: usize| {
        let reach = conv.dilation[axis] * (w[2 + axis] - 1) + 1;
        let room = x[2 + axis] + 2 * conv.padding[axis];
        (room >= reach).then(|| (room - reach) / conv.stride[axis] + 1)
    };
    Some([along(0)?, along(1)?])
}

#[test]
fn conv2d() {
    draw(48, convolutions(3), |(x, w, conv)| {
        output(x, w, &conv)?;
        let case = Case::new(conv, w[1] * w[2] * w[3]);
        Some(case.fixed(&x, UNIFORM).fixed(&w, UNIFORM))
    });
}

#[test]
fn conv2d_input_gradient() {
    draw(48, convolutions(3), |(x, w, conv)| {
        let [ho, wo] = output(x, w, &conv)?;
        let grad = Conv2dInputGrad {
            conv,
            input: [x[2], x[3]],
            slope: None,
        };
        let case = Case::new(grad, w[0] / conv.groups * w[2] * w[3]);
        Some(
            case.fixed(&[x[0], w[0], ho, wo], UNIFORM)
                .fixed(&w, UNIFORM),
        )
    });
}

#[test]
fn conv2d_weight_gradient() {
    draw(48, convolutions(3), |(x, w, conv)| {
        let [ho, wo] = output(x, w, &conv)?;
        let grad = Conv2dWeightGrad {
            conv,
            kernel: [w[2], w[3]],
            update: None,
        };
        let case = Case::new(grad, x[0] * ho * wo);
        Some(
            case.fixed(&x, UNIFORM)
                .fixed(&[x[0], w[0], ho, wo], UNIFORM),
        )
    });
}

#[test]
fn pools() {
    let sizes = (
        [1..3usize, 1..4, 1..12, 1..12],
        [1..5usize, 1..5],
        [1..5usize, 1..5],
        [0..3usize, 0..3],
        any::<bool>(),
    );
    draw(48, sizes, |(x, kernel, stride, padding, largest)| {
        let fits = |axis: usize| {
            padding[axis] <= kernel[axis] / 2 && x[2 + axis] + 2 * padding[axis] >= kernel[axis]
        };
        if !fits(0) || !fits(1) {
            return None;
        }
        Some(if largest {
            let pool = MaxPool2d {
                kernel,
                stride,
                padding,
                activation: Activation::Linear,
            };
            Case::new(pool, 1).fixed(&x, Fill::Ties)
        } else {
            let pool = AvgPool2d {
                kernel,
                stride,
                padding,
            };
            Case::new(pool, kernel[0] * kernel[1]).fixed(&x, UNIFORM)
        })
    });
}

#[test]
fn rows_and_sums() {
    draw(32, ([1..20usize, 1..300], 0..3u8), |([n, k], op)| {
        Some(match op {
            0 => Case::new(Softmax, k).fixed(&[n, k], Fill::Uniform(-9.0, 9.0)),
            1 => Case::new(Loss(&log_likelihood::COST), k)
                .fixed(&[n, k], Fill::Uniform(-9.0, 9.0))
                .u32(&[n], Fill::Below(k as u32)),
            _ => Case::new(Reduce::new(Some(1), 0.5), n).fixed(&[n, k], UNIFORM),
        })
    });
}

#[test]
fn gather() {
    let sizes = (
        1..9usize,
        1..30usize,
        [1..4usize, 1..9, 1..9],
        0..9u32,
        any::<bool>(),
    );
    draw(32, sizes, |(batch, images, shape, step, expand)| {
        let expansion = if expand {
            Expansion::Shifts
        } else {
            Expansion::None
        };
        let gather = Gather {
            batch,
            images,
            shape,
            expansion,
            epoch_steps: 4,
            scale: 1.0 / 255.0,
            shuffled: true,
        };
        let bytes = images * shape.iter().product::<usize>();
        let examples = images * expansion.factor();
        let case = Case::new(gather, 1)
            .shared_u32(&[bytes.div_ceil(4)], Fill::Words)
            .shared_u32(&[images], Fill::Below(10))
            .u32(&[2], Fill::Pair(step, 0));
        Some(case.u32(&[examples], Fill::Below(examples as u32)))
    });
}

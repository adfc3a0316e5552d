//! Shapes beyond the lists: ops with sizes drawn at random, CPU executor and every variant of the
//! GPU against the reference in f64. What fails is shrunk to the smallest shape that still does.
//!
//! `WGRAD_RANDOM_CASES=1000 cargo test --test random` draws so many for each test, and
//! `WGRAD_RANDOM_SEED=8` others.

mod common;
#[path = "random/general.rs"]
mod general;
#[path = "random/steps.rs"]
mod steps;

use std::cell::Cell;
use std::sync::Arc;

use common::gpu;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use wgrad::doctor::harness::{Prepared, inputs};
use wgrad::doctor::tolerance::{Side, allowed};
use wgrad::doctor::{compare, truth};
use wgrad::exec::cpu::{Cpu, Implementation};
use wgrad::exec::{Device, Executor};
use wgrad::expr::Expr;
use wgrad::ops::activation::Activation;
use wgrad::ops::avg_pool2d::{AvgPool2d, AvgPool2dGrad};
use wgrad::ops::conv2d::{Conv2d, Conv2dInputGrad, Conv2dWeightGrad};
use wgrad::ops::dropout::Dropout;
use wgrad::ops::gather::{Expansion, Gather};
use wgrad::ops::matmul::Matmul;
use wgrad::ops::max_pool2d::{MaxPool2d, MaxPool2dGrad};
use wgrad::ops::pointwise::{Pointwise, WithEnding};
use wgrad::ops::reduce::Reduce;
use wgrad::ops::softmax::Softmax;
use wgrad::ops::{Case, Fill, Loss, Op, Window, log_likelihood};
use wgrad::optim::{HYPER, TableSgd};

const UNIFORM: Fill = Fill::Uniform(-1.0, 1.0);

/// Cases of each test, unless `WGRAD_RANDOM_CASES` says how many.
const CASES: u32 = 40;

/// Holds a case on every device and variant, as many as it counts; the error says what disagrees.
fn hold(
    case: &Case,
    replicas: usize,
    gpu: &Option<Device>,
    variants: &Cell<usize>,
) -> Result<(), TestCaseError> {
    let fail = |e: wgrad::Error| TestCaseError::fail(e.to_string());
    let prepared = Prepared::new(case, replicas).map_err(fail)?;
    let plan = prepared.plan().clone();
    let given = inputs(case, replicas);
    let wanted = truth(&prepared, &given).map_err(fail)?;
    let hold = |side, executor: wgrad::Result<Box<dyn Executor>>| {
        let session = executor.and_then(|executor| prepared.session(executor));
        let found = prepared.run(&mut session.map_err(fail)?, &given);
        let found = found.map_err(fail)?;
        let comparison = compare(case, &found, &wanted, allowed(case, side));
        match comparison.failure {
            Some(failure) => {
                let what = format!("{side:?}, R = {replicas}: {failure}");
                Err(TestCaseError::fail(what))
            }
            None => {
                variants.set(variants.get() + 1);
                Ok(())
            }
        }
    };
    let cpu = Cpu::<f32>::new(plan.clone(), Implementation::Optimized);
    hold(Side::Cpu, cpu.map(|cpu| Box::new(cpu) as _))?;
    let Some(gpu) = gpu else { return Ok(()) };
    for variant in gpu.variants(plan) {
        hold(Side::Gpu, gpu.executor(variant))?;
    }
    Ok(())
}

fn number(name: &str, usual: u32) -> u32 {
    let given = std::env::var(name).ok();
    given.map_or(usual, |n| {
        n.parse().unwrap_or_else(|e| panic!("{name}={n}: {e}"))
    })
}

/// Draws cases, the same ones every time.
fn draw<S: Strategy>(what: &str, strategy: S, case: impl Fn(S::Value) -> Option<Case>) {
    let gpu = gpu();
    let (count, seed) = (
        number("WGRAD_RANDOM_CASES", CASES),
        number("WGRAD_RANDOM_SEED", 7),
    );
    let config = Config {
        cases: count,
        max_global_rejects: 20 * count,
        failure_persistence: None,
        ..Config::default()
    };
    let mut bytes = [7; 32];
    bytes[..4].copy_from_slice(&seed.to_le_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let mut runner = TestRunner::new_with_rng(config, rng);
    let variants = Cell::new(0);
    let result = runner.run(&(strategy, 1..4usize), |(drawn, replicas)| {
        match case(drawn) {
            Some(case) => hold(&case, replicas, &gpu, &variants),
            None => Err(TestCaseError::reject("sizes that do not fit")),
        }
    });
    if let Err(e) = result {
        panic!("{what}: {e}");
    }
    println!(
        "{what}: {count} shapes, each on every device and variant: {} runs",
        variants.get()
    );
    common::note(&format!("random shapes, {what}"), variants.get());
}

/// A window along one axis: image, taps, stride, padding, dilation. One pixel is as likely as
/// many; strides reach past the image; padding is anything up to what the window reaches over,
/// so that windows may see nothing else.
fn axis() -> impl Strategy<Value = [usize; 5]> {
    let image = prop_oneof![Just(1usize), 1..4usize, 1..12usize];
    let padding = prop_oneof![Just(0.0f64), 0.0..1.0f64, Just(1.0)];
    let taps = (1..6usize, 1..4usize, prop_oneof![1..4usize, 1..16usize]);
    (image, taps, padding).prop_map(|(image, (kernel, dilation, stride), padding)| {
        let reach = dilation * (kernel - 1) + 1;
        let least = reach.saturating_sub(image).div_ceil(2);
        let padding = least.max((padding * reach as f64) as usize);
        [image, kernel, stride, padding, dilation]
    })
}

/// The same for a pool, whose padding is at most half a window.
fn pool_axis() -> impl Strategy<Value = [usize; 4]> {
    let image = prop_oneof![Just(1usize), 1..4usize, 1..12usize];
    let step = prop_oneof![1..4usize, 1..16usize];
    (image, 1..6usize, step, 0..3usize).prop_map(|(image, kernel, stride, padding)| {
        let padding = padding.min(kernel / 2);
        let least = kernel.saturating_sub(2 * padding).max(1);
        [image.max(least), kernel, stride, padding]
    })
}

#[test]
fn matmul() {
    let sizes = ([1..40usize, 1..40, 1..80], any::<(bool, bool)>(), 0..5u8);
    draw("matmul", sizes, |([m, n, k], (trans_a, trans_b), end)| {
        let bare = Matmul::new(trans_a, trans_b);
        let a = if trans_a { [k, m] } else { [m, k] };
        let b = if trans_b { [n, k] } else { [k, n] };
        let case = |op| {
            let case = Case::new(op, k);
            case.fixed(&a, UNIFORM).fixed(&b, UNIFORM)
        };
        let with = |expression: Expr| case(bare.clone().with(Pointwise::new(&[expression])));
        let (x, y) = (Expr::input(0), Expr::input(1));
        let update = sgd(end == 4);
        Some(match end {
            0 => case(bare),
            1 => with((x + y).relu()).fixed(&[n], UNIFORM),
            2 => with(x * (&y * (1.0 - &y))).fixed(&[m, n], UNIFORM),
            _ => updated(update, case(bare.with(update.update())), &[m, n]),
        })
    });
}

/// Few rows have a kernel of their own; beyond them the tiled one.
#[test]
fn matmul_of_few_rows() {
    let sizes = [1..24usize, 1..70, 1..150];
    let end = (0.0..0.9, 0..3u32, any::<(bool, bool)>());
    draw(
        "matmul of few rows",
        (sizes, end),
        |([m, n, k], (p, layer, (drops, rescale)))| {
            let biased = (Expr::input(0) + Expr::input(1)).relu();
            let case = |end| {
                let op = Matmul::new(false, true).with(Pointwise::new(&[end]));
                let case = Case::new(op, k);
                case.fixed(&[m, k], UNIFORM)
                    .fixed(&[n, k], UNIFORM)
                    .fixed(&[n], UNIFORM)
            };
            if !drops {
                return Some(case(biased));
            }
            let dropout = Dropout { p, layer, rescale };
            let case = case(dropout.of(&biased)).u32(&[4], Fill::Keys);
            Some(case.u32(&[2], Fill::Pair(9, 4)))
        },
    );
}

/// Images, filters, at most as many in a group, and a convolution over them.
fn convolutions(most: usize) -> impl Strategy<Value = ([usize; 4], [usize; 4], Conv2d)> {
    let sizes = (1..4usize, 1..3usize, 1..=most, 1..4usize);
    (sizes, axis(), axis()).prop_map(|((n, per, f, groups), down, across)| {
        let [h, kh, sh, ph, dh] = down;
        let [w, kw, sw, pw, dw] = across;
        let conv = Conv2d {
            stride: [sh, sw],
            padding: [ph, pw],
            dilation: [dh, dw],
            groups,
        };
        ([n, per * groups, h, w], [f * groups, per, kh, kw], conv)
    })
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

/// A case with the inputs that its update asks for after the gradient.
fn updated(sgd: TableSgd, case: Case, parameter: &[usize]) -> Case {
    let case = case
        .fixed(parameter, UNIFORM)
        .fixed(&[HYPER + 2], Fill::Uniform(0.0, 1.0));
    let case = match sgd.momentum {
        true => case.fixed(parameter, UNIFORM),
        false => case,
    };
    case.u32(&[2], Fill::Pair(1, 7))
}

fn sgd(momentum: bool) -> TableSgd {
    TableSgd {
        l2: true,
        l1: true,
        momentum,
        epoch_steps: 3,
    }
}

/// A case of a core with an expression at its end.
fn ended(case: Case, core: impl Op, expression: Pointwise) -> Case {
    let op = WithEnding::new(core, expression).unwrap();
    Case {
        op: Arc::new(op),
        ..case
    }
}

/// The backward Hadamard product behind a sigmoid.
fn slope() -> Pointwise {
    let [g, y] = [0, 1].map(Expr::input);
    Pointwise::new(&[Activation::Sigmoid.sloped_of(&g, &y)])
}

#[test]
fn conv2d() {
    let strategy = (convolutions(11), any::<bool>());
    draw("conv2d", strategy, |((x, w, conv), bias)| {
        output(x, w, &conv)?;
        let case = Case::new(conv, w[1] * w[2] * w[3]);
        let case = case.fixed(&x, UNIFORM).fixed(&w, UNIFORM);
        let sum = Expr::input(0) + Expr::input(1);
        let biased = Pointwise::new(&[sum.sigmoid()]).with_axes_behind(1, 2);
        Some(match bias {
            true => ended(case, conv, biased).fixed(&[w[0]], UNIFORM),
            false => case,
        })
    });
}

#[test]
fn conv2d_input_gradient() {
    let strategy = (convolutions(11), any::<bool>());
    draw(
        "conv2d's input gradient",
        strategy,
        |((x, w, conv), sloped)| {
            let [ho, wo] = output(x, w, &conv)?;
            let grad = Conv2dInputGrad {
                conv,
                input: [x[2], x[3]],
            };
            let case = Case::new(grad, w[0] / conv.groups * w[2] * w[3]);
            let g = [x[0], w[0], ho, wo];
            let case = case.fixed(&g, UNIFORM).fixed(&w, UNIFORM);
            Some(match sloped {
                true => ended(case, grad, slope()).fixed(&x, UNIFORM),
                false => case,
            })
        },
    );
}

#[test]
fn conv2d_weight_gradient() {
    let strategy = (convolutions(11), 0..3u8);
    draw(
        "conv2d's weight gradient",
        strategy,
        |((x, w, conv), update)| {
            let [ho, wo] = output(x, w, &conv)?;
            let update = (update > 0).then(|| sgd(update == 2));
            let grad = Conv2dWeightGrad {
                conv,
                kernel: [w[2], w[3]],
                ending: update.map(|sgd| sgd.ending()),
            };
            let case = Case::new(grad, x[0] * ho * wo);
            let g = [x[0], w[0], ho, wo];
            let case = case.fixed(&x, UNIFORM).fixed(&g, UNIFORM);
            Some(match update {
                Some(sgd) => updated(sgd, case, &w),
                None => case,
            })
        },
    );
}

#[test]
fn pools() {
    let sizes = ([1..3usize, 1..4], pool_axis(), pool_axis(), 0..3u8);
    draw("pools", sizes, |([n, c], down, across, what)| {
        let [h, kh, sh, ph] = down;
        let [w, kw, sw, pw] = across;
        let (kernel, stride, padding) = ([kh, kw], [sh, sw], [ph, pw]);
        let x = [n, c, h, w];
        if what == 2 {
            let pool = AvgPool2d {
                kernel,
                stride,
                padding,
            };
            return Some(Case::new(pool, kh * kw).fixed(&x, UNIFORM));
        }
        let pool = MaxPool2d {
            kernel,
            stride,
            padding,
        };
        let case = Case::new(pool, 1).fixed(&x, Fill::Ties);
        let relu = Pointwise::new(&[Expr::input(0).relu()]);
        Some(match what {
            0 => case,
            _ => ended(case, pool, relu),
        })
    });
}

#[test]
fn pools_gradients() {
    let sizes = ([1..3usize, 1..4], pool_axis(), pool_axis(), 0..3u8);
    draw("pools' gradients", sizes, |([n, c], down, across, what)| {
        let [h, kh, sh, ph] = down;
        let [w, kw, sw, pw] = across;
        let (kernel, stride, padding) = ([kh, kw], [sh, sw], [ph, pw]);
        let out = |image, kernel, stride, padding| (image + 2 * padding - kernel) / stride + 1;
        let y = [n, c, out(h, kh, sh, ph), out(w, kw, sw, pw)];
        let input = [h, w];
        if what == 2 {
            let pool = AvgPool2d {
                kernel,
                stride,
                padding,
            };
            let grad = AvgPool2dGrad { pool, input };
            return Some(Case::new(grad, kh * kw).fixed(&y, UNIFORM));
        }
        let pool = MaxPool2d {
            kernel,
            stride,
            padding,
        };
        let window = Window {
            kernel,
            stride,
            padding,
            dilation: [1, 1],
        };
        let grad = MaxPool2dGrad { pool, input };
        let case = Case::new(grad, kh * kw).fixed(&y, UNIFORM);
        let case = case.u32(&y, Fill::Winner(window, input));
        Some(match what {
            1 => ended(case, grad, slope()).fixed(&[n, c, h, w], UNIFORM),
            _ => case,
        })
    });
}

#[test]
fn rows_and_sums() {
    let sizes = ([1..20usize, 1..300], 0..3u8);
    draw("rows and sums", sizes, |([n, k], op)| {
        Some(match op {
            0 => Case::new(Softmax { axis: 1 }, k).fixed(&[n, k], Fill::Uniform(-9.0, 9.0)),
            1 => Case::new(Loss::of(&log_likelihood::COST), k)
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
    draw("gather", sizes, |(batch, images, shape, step, expand)| {
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

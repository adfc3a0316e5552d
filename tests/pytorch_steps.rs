//! Literal fixtures from PyTorch for what a training step launches besides plain
//! functions: updates in place, ops that are fused, means over epochs, distortion.

mod common;

use std::collections::BTreeMap;

use common::fixtures::{Single, Tensor, load};
use wgrad::doctor::tolerance::{Side, allowed};
use wgrad::expr::Expr;
use wgrad::ops::activation::Activation;
use wgrad::ops::average::Average;
use wgrad::ops::constant::Constant;
use wgrad::ops::conv2d::Conv2d;
use wgrad::ops::conv2d_pool::{
    Conv2dPool, Conv2dPoolInputGrad, Conv2dPoolWeightGrad, ConvPool, Update,
};
use wgrad::ops::dense_grad::{DenseGrad, InputGradient};
use wgrad::ops::dense_loss::DenseLoss;
use wgrad::ops::distort::{Distort, Distortion, Draw, case};
use wgrad::ops::epoch_metrics::EpochMetrics;
use wgrad::ops::max_pool2d::MaxPool2d;
use wgrad::ops::pointwise::{Pointwise, WithEnding};
use wgrad::ops::{COUNTER, Case, Cost, cross_entropy, log_likelihood, quadratic};
use wgrad::optim::TableSgd;

/// What a buffer holds that a launch is to overwrite.
fn garbage(shape: &[usize]) -> Tensor {
    Tensor::f32(shape, vec![f32::NAN; shape.iter().product()])
}

/// A step counter: the number of the step to come, of the one under way.
fn counter(next: u32, now: u32) -> Tensor {
    Tensor::u32(&[COUNTER], vec![next, now])
}

/// `hyper` of the fixtures' updates: μ, λ₂, λ₁, unused, η.
fn hyper() -> Tensor {
    Tensor::f32(&[5], vec![0.9, 0.05, 0.02, 0.0, 0.1])
}

fn sgd(momentum: bool) -> TableSgd {
    TableSgd {
        l2: true,
        l1: true,
        momentum,
        epoch_steps: 1,
    }
}

/// The tensors of one case, by part.
struct Parts {
    name: String,
    all: BTreeMap<String, Tensor>,
}

impl Parts {
    fn of(name: &str) -> Self {
        Self {
            name: name.into(),
            all: load("ops"),
        }
    }

    fn get(&self, part: &str) -> &Tensor {
        &self.all[&format!("{}/{part}", self.name)]
    }
}

#[test]
fn sgd_equals_pytorch() {
    let parts = Parts::of("sgd");
    let (w, still) = (parts.get("w"), vec![0.0; parts.get("w").floats().len()]);
    let inputs = [
        ("g", w),
        ("w", w),
        ("hyper", &Tensor::f32(&[5], vec![0.9, 0.05, 0.0, 0.0, 0.1])),
        ("v", &Tensor::f32(&w.shape, still)),
        ("step", &counter(0, 0)),
    ];
    let mut single = Single::new("sgd", sgd(true).update(), &inputs);
    for i in 0..3 {
        single.write(&[("g", parts.get(&format!("g{i}")))]);
        single.run(1, &[("w", parts.get(&format!("w{i}")))]);
    }
}

#[test]
fn epoch_metrics_equal_pytorch() {
    let parts = Parts::of("epoch_metrics");
    let op = EpochMetrics {
        count: 6,
        epoch_steps: 1,
        predict: true,
        keeps: false,
    };
    let inputs = [
        ("scores", parts.get("scores")),
        ("losses", parts.get("losses")),
        ("labels", parts.get("labels")),
        ("step", &counter(0, 0)),
        ("metrics", &garbage(&[4])),
        ("guard", &Tensor::u32(&[4], vec![7; 4])),
        ("predictions", &Tensor::u32(&[6], vec![7; 6])),
    ];
    let mut metrics = parts.get("metrics").floats();
    metrics.push(0.0);
    Single::new("epoch_metrics", op, &inputs).run(
        1,
        &[
            ("metrics", &Tensor::f32(&[4], metrics)),
            ("predictions", parts.get("predictions")),
        ],
    );
}

/// Four epochs, averaged from the second on.
#[test]
fn average_equals_pytorch() {
    let parts = Parts::of("average");
    let average = Average {
        epoch_steps: 3,
        from: 2,
    };
    let w = parts.get("w1");
    let inputs = [
        ("mean", &garbage(&w.shape)),
        ("w", w),
        ("step", &counter(0, 0)),
    ];
    let mut single = Single::new("average", average, &inputs);
    for epoch in 1..5 {
        let w = parts.get(&format!("w{epoch}"));
        single.write(&[("w", w), ("step", &counter(3 * epoch, 3 * epoch - 1))]);
        single.run(1, &[("mean", parts.get(&format!("mean{epoch}")))]);
    }
}

#[test]
fn constant_equals_pytorch() {
    let parts = Parts::of("constant");
    let constant = Constant {
        extents: vec![7, 11],
        value: 0.1,
    };
    Single::new("constant", constant, &[]).run(1, &[("out0", parts.get("y"))]);
}

/// Each geometry of the fixtures, with the activation that made x and the one after the
/// pool.
fn conv_pools() -> Vec<(&'static str, [Activation; 2], ConvPool)> {
    use Activation::{Linear, Relu, Sigmoid, Tanh};
    let of = |name, before, [stride, padding, dilation]: [_; 3], groups, pool, after| {
        let conv = Conv2d {
            stride,
            padding,
            dilation,
            groups,
        };
        let [kernel, stride, padding] = pool;
        let pool = MaxPool2d {
            kernel,
            stride,
            padding,
        };
        (name, [before, after], ConvPool { conv, pool })
    };
    let plain = [[1, 1], [0, 0], [1, 1]];
    let halves = [[2, 2], [2, 2], [0, 0]];
    let (everything, overlap) = ([[2, 1], [1, 2], [2, 1]], [[3, 2], [2, 1], [1, 1]]);
    vec![
        of("plain", Sigmoid, plain, 1, halves, Sigmoid),
        of("everything", Tanh, everything, 2, overlap, Linear),
        of("ties", Relu, plain, 1, halves, Relu),
    ]
}

#[test]
fn conv2d_pool_equals_pytorch() {
    for (name, [_, after], conv_pool) in conv_pools() {
        let parts = Parts::of(&format!("conv2d_pool.{name}"));
        let inputs = ["x", "w", "b"].map(|part| (part, parts.get(part)));
        let activated = Pointwise::new(&[after.of(&Expr::input(0))]);
        let op = WithEnding::new(Conv2dPool(conv_pool), activated).unwrap();
        let mut single = Single::new(&parts.name, op, &inputs);
        single.run(
            1,
            &[("out0", parts.get("y")), ("out1", parts.get("argmax"))],
        );
    }
}

#[test]
fn input_gradients_of_conv2d_pool_equal_pytorch() {
    for (name, [before, _], conv_pool) in conv_pools() {
        let parts = Parts::of(&format!("conv2d_pool.{name}"));
        let x = &parts.get("x").shape;
        let grad = Conv2dPoolInputGrad {
            conv_pool,
            input: [x[2], x[3]],
        };
        let mut inputs = ["g", "argmax", "w"].map(|p| (p, parts.get(p))).to_vec();
        let mut single = Single::new(&format!("{} dx", parts.name), grad, &inputs);
        single.run(1, &[("out0", parts.get("dx"))]);
        inputs.push(("x", parts.get("x")));
        let slope = before.sloped_of(&Expr::input(0), &Expr::input(1));
        let sloped = WithEnding::new(grad, Pointwise::new(&[slope])).unwrap();
        let mut single = Single::new(&format!("{} du", parts.name), sloped, &inputs);
        single.run(1, &[("out0", parts.get("du"))]);
    }
}

#[test]
fn weight_gradients_of_conv2d_pool_equal_pytorch() {
    for (name, _, conv_pool) in conv_pools() {
        let parts = Parts::of(&format!("conv2d_pool.{name}"));
        let w = parts.get("w");
        let op = |update| Conv2dPoolWeightGrad {
            conv_pool,
            kernel: [w.shape[2], w.shape[3]],
            update,
        };
        let inputs = ["x", "g", "argmax"].map(|part| (part, parts.get(part)));
        let mut single = Single::new(&parts.name, op(Update::Store), &inputs);
        single.run(1, &[("out0", parts.get("dw"))]);

        let (hyper, step) = (hyper(), counter(1, 0));
        let bare = inputs;
        let update = [("w", w), ("hyper", &hyper), ("step", &step)];
        let inputs = [&bare[..], &update].concat();
        let mut single = Single::new(
            &parts.name,
            op(Update::Weights(sgd(false).ending())),
            &inputs,
        );
        single.run(1, &[("w", parts.get("stepped"))]);

        // Two steps by the same gradient: the second has a velocity.
        let still = Tensor::f32(&w.shape, vec![0.0; w.floats().len()]);
        let update = [("w", w), ("hyper", &hyper), ("v", &still), ("step", &step)];
        let with = [&bare[..], &update].concat();
        let mut single = Single::new(&parts.name, op(Update::Weights(sgd(true).ending())), &with);
        single.run(2, &[("w", parts.get("momentum"))]);

        let with = [&inputs[..], &[("b", parts.get("b"))]].concat();
        let plain = TableSgd {
            l2: false,
            l1: false,
            ..sgd(false)
        };
        let both = op(Update::WeightsAndBias([
            (sgd(false).ending(), vec![3, 4, 5]),
            (plain.ending(), vec![6, 4, 5]),
        ]));
        let mut single = Single::new(&parts.name, both, &with);
        let wanted = [("w", parts.get("stepped")), ("b", parts.get("stepped_b"))];
        single.run(1, &wanted);
    }
}

#[test]
fn dense_grad_equals_pytorch() {
    for (name, activation, scale) in [
        ("rescale", Activation::Relu, 1.0 / 0.7),
        ("book", Activation::Sigmoid, 1.0),
        ("plain", Activation::Tanh, 1.0),
    ] {
        let parts = Parts::of(&format!("dense_grad.{name}"));
        let (hyper, step) = (hyper(), counter(1, 0));
        let mut inputs = ["x", "g", "w", "b"].map(|p| (p, parts.get(p))).to_vec();
        inputs.extend([("hyper", &hyper), ("step", &step)]);
        let plain = TableSgd {
            l2: false,
            l1: false,
            ..sgd(false)
        };
        for input_gradient in [true, false] {
            let grad = DenseGrad {
                input_gradient: match input_gradient {
                    true => InputGradient::sloped(activation, scale),
                    false => InputGradient::Unwanted,
                },
                updates: [
                    (sgd(false).ending(), vec![2, 4, 5]),
                    (plain.ending(), vec![3, 4, 5]),
                ],
            };
            let mut wanted = vec![("w", parts.get("stepped")), ("b", parts.get("stepped_b"))];
            if input_gradient {
                wanted.push(("out0", parts.get("dz")));
            }
            Single::new(&parts.name, grad, &inputs).run(1, &wanted);
        }
    }
}

/// An epoch of ten examples in two mini-batches of six.
#[test]
fn dense_loss_equals_pytorch() {
    let costs: [(&Cost, Activation); 3] = [
        (&quadratic::COST, Activation::Sigmoid),
        (&cross_entropy::COST, Activation::Linear),
        (&log_likelihood::COST, Activation::Linear),
    ];
    for (cost, activation) in costs {
        let parts = Parts::of(&format!("dense_loss.{}", cost.name));
        let op = DenseLoss {
            activation,
            cost,
            upstream: 1.0 / 6.0,
            metrics: EpochMetrics {
                count: 10,
                epoch_steps: 2,
                predict: false,
                keeps: false,
            },
            advance: true,
        };
        let inputs = [
            ("a", parts.get("a0")),
            ("w", parts.get("w")),
            ("b", parts.get("b")),
            ("labels", parts.get("labels0")),
            // The first mini-batch of the fourth epoch.
            ("step", &counter(99, 6)),
            ("metrics", &garbage(&[4])),
            ("guard", &Tensor::u32(&[4], vec![7; 4])),
        ];
        let mut single = Single::new(&parts.name, op, &inputs);
        single.run(
            1,
            &[("out0", parts.get("delta0")), ("step", &counter(7, 6))],
        );
        single.write(&[
            ("a", parts.get("a1")),
            ("labels", parts.get("labels1")),
            ("step", &counter(99, 7)),
        ]);
        single.run(
            1,
            &[
                ("out0", parts.get("delta1")),
                ("step", &counter(8, 7)),
                ("metrics", parts.get("metrics")),
                ("guard", &Tensor::u32(&[4], vec![0; 4])),
            ],
        );
    }
}

/// What is drawn against NumPy's drawing of it, and images that are distorted by NumPy's
/// maps against PyTorch's `grid_sample`; tolerances as [`case`] and [`Draw`]'s cases have
/// them.
#[test]
fn distort_equals_pytorch() {
    let all = load("ops");
    let (keys, now) = (&all["distort/keys"], all["distort/step"].host.clone());
    let step = counter(77, now.integers().unwrap()[0]);
    for (name, [rotation, scale, shear, shift], alpha, sigma) in [
        ("affine", [180.0, 0.5, 0.3, 2.0], 0.0, 4.0),
        ("elastic", [0.0; 4], 34.0, 4.0),
        ("both", [30.0, 0.2, 0.3, 1.5], 12.0, 2.5),
    ] {
        let parts = Parts::of(&format!("distort.{name}"));
        let (x, maps) = (parts.get("x"), parts.get("maps"));
        let shape: [usize; 4] = x.shape.clone().try_into().unwrap();
        let distortion = Distortion {
            rotation,
            scale,
            shear,
            shift,
            alpha,
            sigma,
        };
        let draw = Draw {
            distortion,
            batch: shape[0],
            size: [shape[2], shape[3]],
            stream: wgrad::rng::streams::DISTORT,
        };
        let share = allowed(&Case::new(draw, 80), Side::Cpu);
        let inputs = [("keys", keys), ("step", &step)];
        let mut single = Single::new(&parts.name, draw, &inputs).share(share);
        single.run(1, &[("out0", maps)]);

        // Of the largest number that enters or leaves; `within` scales by what leaves.
        let sampling = case(distortion, shape);
        let largest = maps.floats().iter().fold(1.0f32, |m, v| m.max(v.abs()));
        let share = allowed(&sampling, Side::Gpu) * f64::from(largest);
        let inputs = [("x", x), ("maps", maps)];
        let mut single = Single::new(&parts.name, Distort(distortion), &inputs).share(share);
        single.run(1, &[("out0", parts.get("y"))]);
    }
}

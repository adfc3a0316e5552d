//! What is timed: the shapes of workload A, and squares.

use wgrad::expr::Expr;
use wgrad::ops::activation::Activation;
use wgrad::ops::conv2d::{Conv2d, Conv2dInputGrad, Conv2dWeightGrad};
use wgrad::ops::conv2d_pool::{
    Conv2dPool, Conv2dPoolInputGrad, Conv2dPoolWeightGrad, ConvPool, Update,
};
use wgrad::ops::dense_grad::{DenseGrad, InputGradient};
use wgrad::ops::dense_loss::{DenseLoss, MOST_EXAMPLES};
use wgrad::ops::dropout::Dropout;
use wgrad::ops::epoch_metrics::EpochMetrics;
use wgrad::ops::gather::{Expansion, Gather};
use wgrad::ops::matmul::Matmul;
use wgrad::ops::max_pool2d::MaxPool2d;
use wgrad::ops::pointwise::{Pointwise, WithEnding};
use wgrad::ops::scale::Scale;
use wgrad::ops::{Case, Fill, Window, log_likelihood};
use wgrad::optim::{HYPER, TableSgd};
use wgrad::plan::Launch;

/// What a variant of a launch goes by: its kernel, a block's edge, and how its workgroups are laid out.
pub fn name(launch: &Launch) -> String {
    let value = |wanted| {
        let mut constants = launch.constants.iter();
        constants.find(|(name, _)| *name == wanted).map(|(_, v)| *v)
    };
    let block = value("BLOCK").map_or(String::new(), |block| format!(" {block}"));
    let shown = [
        "THREADS", "TEAMS", "CHUNK", "PAIRS", "ROWS", "QUADS", "LANES", "DEPTH", "COLUMNS",
        "SLICES",
    ];
    let own = value("THREADS").map(|_| {
        let shown = shown
            .iter()
            .filter_map(|name| Some(format!(" {name}={}", value(name)?)));
        shown.collect::<String>()
    });
    format!("{}{block}{}", launch.kernel.name, own.unwrap_or_default())
}

const UNIFORM: Fill = Fill::Uniform(-1.0, 1.0);
/// Of the updates that end a gradient.
const SGD: TableSgd = TableSgd {
    l2: true,
    l1: false,
    momentum: false,
    epoch_steps: 5000,
};

/// The pool's window.
const PAIRS: Window = Window {
    kernel: [2; 2],
    stride: [2; 2],
    padding: [0; 2],
    dilation: [1; 2],
};
/// A mask as the networks have them.
const DROPOUT: Dropout = Dropout {
    p: 0.5,
    layer: 1,
    rescale: false,
};

/// A product of two square matrices.
pub fn matmul(side: usize) -> (String, Case) {
    let product = Case::new(Matmul::new(false, false), side)
        .fixed(&[side, side], UNIFORM)
        .fixed(&[side, side], UNIFORM);
    (format!("matmul {side}x{side}x{side}"), product)
}

/// One multiplication for each eight bytes.
pub fn scale(elements: usize) -> Case {
    Case::new(Scale(0.5), 1).fixed(&[elements], UNIFORM)
}

/// The kernels of workload A's training step; also a first layer's input gradient, which
/// only a layer further in needs, and dropout by itself.
pub fn workload_a(batch: usize) -> Vec<(String, Case)> {
    let mut cases = convolution(batch, [1, 28, 20]);
    cases.extend(convolution(batch, [20, 12, 40]));
    cases.extend(dense(batch, [640, 1000]));
    cases.extend(dense(batch, [1000, 1000]));
    cases.extend(rest(batch));
    cases
}

/// Convolutions without a pool, `[N, C, H, H]` to as many channels, by filters of 3 × 3 that
/// keep the image's size: forward and both gradients.
pub fn convolutions(trial: bool) -> Vec<(String, Case)> {
    let sizes: &[[usize; 3]] = if trial {
        &[[1, 8, 5]]
    } else {
        &[[10, 32, 14], [32, 128, 28]]
    };
    let of = |&[n, c, h]: &[usize; 3]| {
        let conv = Conv2d {
            stride: [1; 2],
            padding: [1; 2],
            dilation: [1; 2],
            groups: 1,
        };
        let (images, filters) = ([n, c, h, h], [c, c, 3, 3]);
        let input = Conv2dInputGrad {
            conv,
            input: [h; 2],
        };
        let weights = Conv2dWeightGrad {
            conv,
            kernel: [3; 2],
            ending: None,
        };
        let forward = Case::new(conv, 9 * c).fixed(&images, UNIFORM);
        let input = Case::new(input, 9 * c).fixed(&images, UNIFORM);
        let weights = Case::new(weights, n * h * h).fixed(&images, UNIFORM);
        let label = |part| format!("conv2d {part} {n}x{c}x{h}x{h}");
        [
            (label("forward"), forward.fixed(&filters, UNIFORM)),
            (label("input gradient"), input.fixed(&filters, UNIFORM)),
            (label("weight gradient"), weights.fixed(&images, UNIFORM)),
        ]
    };
    sizes.iter().flat_map(of).collect()
}

/// A case with the inputs of an update of `parameter`; the rate is 0, so that no number
/// grows however often it runs.
fn updated(case: Case, parameter: &[usize]) -> Case {
    case.fixed(parameter, UNIFORM)
        .fixed(&[HYPER + 1], Fill::Number(0.0))
        .u32(&[2], Fill::Pair(8, 7))
}

/// A convolution layer `[C, H]` to `F` filters of 5 × 5, pooled by 2: forward and back.
fn convolution(batch: usize, [c, h, f]: [usize; 3]) -> Vec<(String, Case)> {
    let conv_pool = ConvPool {
        conv: Conv2d {
            stride: [1; 2],
            padding: [0; 2],
            dilation: [1; 2],
            groups: 1,
        },
        pool: MaxPool2d {
            kernel: PAIRS.kernel,
            stride: PAIRS.stride,
            padding: PAIRS.padding,
        },
    };
    let (out, taps) = (h - 4, c * 25);
    let (images, filters) = ([batch, c, h, h], [f, c, 5, 5]);
    let pooled = [batch, f, out / 2, out / 2];
    let winner = Fill::Winner(PAIRS, [out; 2]);
    let relu = Pointwise::new(&[Expr::input(0).relu()]);
    let forward = WithEnding::new(Conv2dPool(conv_pool), relu).expect("a port");
    let forward = Case::new(forward, taps)
        .fixed(&images, UNIFORM)
        .fixed(&filters, UNIFORM)
        .fixed(&[f], UNIFORM);
    let input = Conv2dPoolInputGrad {
        conv_pool,
        input: [h; 2],
    };
    let slope = Activation::Relu.sloped_of(&Expr::input(0), &Expr::input(1));
    let input = WithEnding::new(input, Pointwise::new(&[slope])).expect("a port");
    let input = Case::new(input, f * 25)
        .fixed(&pooled, UNIFORM)
        .u32(&pooled, winner)
        .fixed(&filters, UNIFORM)
        .fixed(&images, Fill::Sparse);
    let weights = Conv2dPoolWeightGrad {
        conv_pool,
        kernel: [5; 2],
        update: Update::WeightsAndBias([
            (SGD.ending(), vec![3, 4, 5]),
            (SGD.ending(), vec![6, 4, 5]),
        ]),
    };
    let weights = Case::new(weights, batch * out * out)
        .fixed(&images, UNIFORM)
        .fixed(&pooled, UNIFORM)
        .u32(&pooled, winner);
    let weights = updated(weights, &filters).fixed(&[f], UNIFORM);
    let label = |part| format!("conv2d_pool {part} {batch}x{c}x{h}x{h} to {f}");
    vec![
        (label("forward"), forward),
        (label("input grad"), input),
        (label("weight grad"), weights),
    ]
}

/// A dense layer forward with bias, ReLU and dropout, and its way back: one kernel at small
/// mini-batches, products above.
fn dense(batch: usize, [n_in, out]: [usize; 2]) -> Vec<(String, Case)> {
    let (x, y) = (Expr::input(0), Expr::input(1));
    let masked = DROPOUT.of(&(&x + &y).relu());
    let forward = Matmul::new(false, true).with(Pointwise::new(&[masked]));
    let forward = Case::new(forward, n_in)
        .fixed(&[batch, n_in], Fill::Sparse)
        .fixed(&[out, n_in], UNIFORM)
        .fixed(&[out], UNIFORM)
        .u32(&[4], Fill::Keys)
        .u32(&[2], Fill::Pair(8, 7));
    let label = |part| format!("{part} {batch}x{n_in} to {out}");
    let mut cases = vec![(label("matmul dense"), forward)];
    if batch <= 16 {
        let grad = DenseGrad {
            input_gradient: InputGradient::sloped(Activation::Relu, 1.0),
            updates: [(SGD.ending(), vec![2, 4, 5]), (SGD.ending(), vec![3, 4, 5])],
        };
        let grad = Case::new(grad, out)
            .fixed(&[batch, n_in], Fill::Sparse)
            .fixed(&[batch, out], UNIFORM);
        let mut grad = updated(grad, &[out, n_in]);
        // The bias stands behind the weights.
        let bias = Case::new(SGD.update(), 1)
            .fixed(&[out], UNIFORM)
            .inputs
            .remove(0);
        grad.inputs.insert(3, bias);
        cases.push((label("dense_grad"), grad));
    } else {
        let slope = Pointwise::new(&[Activation::Relu.sloped_of(&x, &y)]);
        let input = Matmul::new(false, false).with(slope);
        let input = Case::new(input, out)
            .fixed(&[batch, out], UNIFORM)
            .fixed(&[out, n_in], UNIFORM)
            .fixed(&[batch, n_in], Fill::Sparse);
        let weights = Matmul::new(true, false).with(SGD.update());
        let weights = Case::new(weights, batch)
            .fixed(&[batch, out], UNIFORM)
            .fixed(&[batch, n_in], Fill::Sparse);
        cases.push((label("matmul input grad"), input));
        cases.push((label("matmul weight grad"), updated(weights, &[out, n_in])));
    }
    cases
}

/// What begins, ends and thins out a training step of workload A.
fn rest(batch: usize) -> Vec<(String, Case)> {
    let (images, examples) = (50_000, 250_000);
    let loss = DenseLoss {
        activation: Activation::Linear,
        cost: &log_likelihood::COST,
        upstream: 1.0 / batch as f64,
        metrics: EpochMetrics {
            count: examples,
            epoch_steps: examples / batch,
            predict: false,
            keeps: false,
        },
        advance: true,
    };
    let loss = Case::new(loss, 1000)
        .fixed(&[batch, 1000], Fill::Sparse)
        .fixed(&[10, 1000], UNIFORM)
        .fixed(&[10], UNIFORM)
        .u32(&[batch], Fill::Below(10))
        .u32(&[2], Fill::Pair(8, 7))
        .fixed(&[4], Fill::Number(0.0))
        .u32(&[4], Fill::Number(0.0));
    let dropout = Case::new(DROPOUT, 1)
        .fixed(&[batch, 640], UNIFORM)
        .u32(&[4], Fill::Keys)
        .u32(&[2], Fill::Pair(8, 7));
    let gather = Gather {
        batch,
        images,
        shape: [1, 28, 28],
        expansion: Expansion::Shifts,
        epoch_steps: examples / batch,
        scale: 1.0 / 255.0,
        shuffled: true,
    };
    let gather = Case::new(gather, 1)
        .shared_u32(&[images * 784 / 4], Fill::Words)
        .shared_u32(&[images], Fill::Below(10))
        .u32(&[2], Fill::Pair(8, 7))
        .u32(&[examples], Fill::Below(examples as u32));
    let mut cases = vec![
        (format!("dropout {batch}x640"), dropout),
        (format!("gather {batch} of {examples}"), gather),
    ];
    // Larger mini-batches run its parts.
    if batch <= MOST_EXAMPLES {
        cases.push((format!("dense_loss {batch}x1000 to 10"), loss));
    }
    cases
}

//! The most turns that the checker lets a thread's loops take are turns that the device takes:
//! each kernel with a loop over a size, at the largest size that is let through, against the
//! reference. Mesa's llvmpipe ends a thread's loops after 65,535 turns without a word.

mod common;

use std::collections::{BTreeMap, BTreeSet};

use common::gpu;
use wgrad::compile::Options;
use wgrad::doctor::harness::{Prepared, inputs};
use wgrad::exec::cpu::{Cpu, Implementation};
use wgrad::kernel::Kernel;
use wgrad::ops::activation::Activation;
use wgrad::ops::adaptive_avg_pool2d::{AdaptiveAvgPool2d, AdaptiveAvgPool2dGrad};
use wgrad::ops::argmax::Argmax;
use wgrad::ops::attention::{Attention, AttentionGrad};
use wgrad::ops::avg_pool2d::AvgPool2d;
use wgrad::ops::bmm::Bmm;
use wgrad::ops::conv2d::{Conv2d, Conv2dInputGrad, Conv2dWeightGrad};
use wgrad::ops::conv2d_pool::{
    Conv2dPool, Conv2dPoolInputGrad, Conv2dPoolWeightGrad, ConvPool, Update,
};
use wgrad::ops::cumsum::Cumsum;
use wgrad::ops::dense_grad::{DenseGrad, InputGradient};
use wgrad::ops::dense_loss::DenseLoss;
use wgrad::ops::embedding::EmbeddingGrad;
use wgrad::ops::epoch_metrics::EpochMetrics;
use wgrad::ops::finite::Finite;
use wgrad::ops::gather::{Expansion, Gather};
use wgrad::ops::lrn::Lrn;
use wgrad::ops::matmul::Matmul;
use wgrad::ops::max_pool2d::{MaxPool2d, MaxPool2dGrad};
use wgrad::ops::norm::{Norm, Over};
use wgrad::ops::pad::{Edge, PadEdges, PadEdgesGrad};
use wgrad::ops::recurrent::{Cell, Recurrent, RecurrentGrad};
use wgrad::ops::reduce::Reduce;
use wgrad::ops::reduction::{Kind, Reduction};
use wgrad::ops::softmax::Softmax;
use wgrad::ops::upsample::{Sampling, Upsample, UpsampleGrad};
use wgrad::ops::{Case, Fill, TABLE, quadratic};
use wgrad::optim::{HYPER, TableSgd};
use wgrad::plan::{Limits, Plan};
use wgrad::tensor::Host;

/// A case of a size.
type Family = fn(usize) -> Case;

const ONE: Fill = Fill::Number(1.0);
const SMALL: Fill = Fill::Number(0.0078125);

const CONV: Conv2d = Conv2d {
    stride: [1, 1],
    padding: [0, 0],
    dilation: [1, 1],
    groups: 1,
};

/// A convolution under windows of `edge` x `edge` beside each other.
const fn pooled(edge: usize) -> ConvPool {
    ConvPool {
        conv: CONV,
        pool: MaxPool2d {
            kernel: [edge, edge],
            stride: [edge, edge],
            padding: [0, 0],
        },
    }
}

const SGD: TableSgd = TableSgd {
    l2: false,
    l1: false,
    momentum: false,
    epoch_steps: 1,
};

const STEP: Fill = Fill::Pair(7, 0);

const LSTM: Recurrent = Recurrent {
    cell: Cell::Lstm,
    reverse: true,
};

fn updated(case: Case) -> Case {
    case.fixed(&[HYPER + 1], SMALL).u32(&[2], STEP)
}

fn product(n: usize, m: usize) -> Case {
    Case::new(Matmul::new(false, true), n)
        .fixed(&[m, n], ONE)
        .fixed(&[3, n], ONE)
}

fn dense(n: usize, examples: usize, input_gradient: bool) -> Case {
    let op = DenseGrad {
        input_gradient: match input_gradient {
            true => InputGradient::Plain,
            false => InputGradient::Unwanted,
        },
        updates: [(SGD.ending(), vec![2, 4, 5]), (SGD.ending(), vec![3, 4, 5])],
    };
    let case = Case::new(op, n)
        .fixed(&[examples, 8], ONE)
        .fixed(&[examples, n], ONE)
        .fixed(&[n, 8], ONE)
        .fixed(&[n], ONE);
    updated(case)
}

fn loss(n: usize, examples: usize) -> Case {
    let metrics = EpochMetrics {
        count: examples,
        epoch_steps: 1,
        predict: false,
        keeps: false,
    };
    let op = DenseLoss {
        activation: Activation::Linear,
        cost: &quadratic::COST,
        upstream: 1.0,
        metrics,
        advance: true,
    };
    // Scores near 1, so that the losses stay small numbers.
    Case::new(op, n)
        .fixed(&[examples, n], ONE)
        .fixed(&[9, n], SMALL)
        .fixed(&[9], SMALL)
        .u32(&[examples], Fill::Below(9))
        .u32(&[2], STEP)
        .fixed(&[4], Fill::Number(0.0))
        .u32(&[4], Fill::Number(0.0))
}

/// Filters `[F, C, 3, 3]` over images of 5 x 5, or 8 x 8 under a pool.
fn channels(n: usize, pool: Option<ConvPool>) -> Case {
    let filters = [9, n, 3, 3];
    match pool {
        None => Case::new(CONV, n)
            .fixed(&[1, n, 5, 5], ONE)
            .fixed(&filters, ONE),
        Some(pool) => {
            let case = Case::new(Conv2dPool(pool), n).fixed(&[1, n, 8, 8], ONE);
            case.fixed(&filters, ONE).fixed(&[9], ONE)
        }
    }
}

fn gather(n: usize) -> Case {
    let op = Gather {
        batch: 1,
        images: 1,
        shape: [1, 16, n],
        expansion: Expansion::None,
        epoch_steps: 1,
        scale: 1.0,
        shuffled: true,
    };
    Case::new(op, 1)
        .shared_u32(&[4 * n], Fill::Words)
        .shared_u32(&[1], Fill::Below(9))
        .u32(&[2], STEP)
        .u32(&[1], Fill::Number(0.0))
}

fn epoch_metrics(n: usize, predict: bool) -> Case {
    let op = EpochMetrics {
        count: 65,
        epoch_steps: 1,
        predict,
        keeps: false,
    };
    let case = Case::new(op, n)
        .fixed(&[65, n], Fill::Distinct)
        .fixed(&[65], ONE)
        .u32(&[65], Fill::Below(9))
        .u32(&[2], STEP)
        .fixed(&[4], Fill::Number(0.0))
        .u32(&[4], Fill::Number(0.0));
    match predict {
        true => case.u32(&[65], Fill::Words),
        false => case,
    }
}

/// Every loop over a size; the biggest sizes come out of the search.
const FAMILIES: &[(&str, Family)] = &[
    ("product", |n| product(16 * n, 17)),
    ("product of few rows", |n| product(64 * n, 1)),
    ("product of 16 rows", |n| product(64 * n, 16)),
    ("dense way back", |n| dense(8 * n, 10, true)),
    ("dense way back, 16 examples", |n| dense(8 * n, 16, true)),
    ("dense update", |n| dense(8 * n, 10, false)),
    ("dense loss", |n| loss(8 * n, 10)),
    ("dense loss, 64 examples", |n| loss(8 * n, 64)),
    ("convolution", |n| channels(n, None)),
    ("pooled convolution", |n| channels(n, Some(pooled(2)))),
    ("convolution, pooled by thirds", |n| {
        channels(n, Some(pooled(3)))
    }),
    ("convolution input gradient", |n| {
        let op = Conv2dInputGrad {
            conv: CONV,
            input: [5, 5],
        };
        let case = Case::new(op, n).fixed(&[1, n, 3, 3], ONE);
        case.fixed(&[n, 9, 3, 3], ONE)
    }),
    ("convolution weight gradient", |n| {
        let op = Conv2dWeightGrad {
            conv: CONV,
            kernel: [3, 3],
            ending: None,
        };
        let case = Case::new(op, n).fixed(&[1, 1, 66, n + 2], ONE);
        case.fixed(&[1, 9, 64, n], ONE)
    }),
    ("convolution weight gradient of one filter", |n| {
        let op = Conv2dWeightGrad {
            conv: CONV,
            kernel: [3, 3],
            ending: None,
        };
        let case = Case::new(op, n).fixed(&[1, 1, 66, n + 2], ONE);
        case.fixed(&[1, 1, 64, n], ONE)
    }),
    ("pooled convolution input gradient", |n| {
        let op = Conv2dPoolInputGrad {
            conv_pool: pooled(2),
            input: [10, 10],
        };
        let window = wgrad::ops::Window {
            kernel: [2, 2],
            stride: [2, 2],
            padding: [0, 0],
            dilation: [1, 1],
        };
        Case::new(op, n)
            .fixed(&[1, n, 4, 4], ONE)
            .u32(&[1, n, 4, 4], Fill::Winner(window, [8, 8]))
            .fixed(&[n, 1, 3, 3], ONE)
    }),
    ("pooled convolution weight gradient", |n| {
        let op = Conv2dPoolWeightGrad {
            conv_pool: pooled(2),
            kernel: [1, 1],
            update: Update::Store,
        };
        let window = wgrad::ops::Window {
            kernel: [2, 2],
            stride: [2, 2],
            padding: [0, 0],
            dilation: [1, 1],
        };
        Case::new(op, n)
            .fixed(&[1, 1, 16, 2 * n], ONE)
            .fixed(&[1, 1, 8, n], ONE)
            .u32(&[1, 1, 8, n], Fill::Winner(window, [16, 2 * n]))
    }),
    ("maximum of a window", |n| {
        let op = MaxPool2d {
            kernel: [n, n],
            stride: [n, n],
            padding: [0, 0],
        };
        Case::new(op, 1).fixed(&[1, 2, n, n], Fill::Distinct)
    }),
    ("gradient of a window's maximum", |n| {
        let pool = MaxPool2d {
            kernel: [n, n],
            stride: [1, 1],
            padding: [0, 0],
        };
        let op = MaxPool2dGrad {
            pool,
            input: [n, n],
        };
        let place = Fill::Number((n * n - 1) as f64);
        Case::new(op, 1)
            .fixed(&[1, 1, 1, 1], ONE)
            .u32(&[1, 1, 1, 1], place)
    }),
    ("mean of a window", |n| {
        let op = AvgPool2d {
            kernel: [n, n],
            stride: [n, n],
            padding: [0, 0],
        };
        Case::new(op, n * n).fixed(&[1, 1, n, n], ONE)
    }),
    ("sum", |n| {
        Case::new(Reduce::new(None, 1.0), n).fixed(&[8, 32 * n], ONE)
    }),
    ("logarithm of summed exponents", |n| {
        let op = Reduction::new(Kind::LogSumExp, &[0]);
        Case::new(op, 1).fixed(&[256 * n], ONE)
    }),
    // So many results that a thread makes each.
    ("logarithm of a few summed exponents", |n| {
        let op = Reduction::new(Kind::LogSumExp, &[1]);
        Case::new(op, 1).fixed(&[7200, n], ONE)
    }),
    ("maximum of a row", |n| {
        let op = Reduction::new(Kind::Max, &[0]);
        Case::new(op, 1).fixed(&[256 * n], Fill::Spoiled(256 * n - 1, 9.0))
    }),
    ("maximum of a short row", |n| {
        let op = Reduction::new(Kind::Max, &[1]);
        Case::new(op, 1).fixed(&[7200, n], Fill::Distinct)
    }),
    ("products of many matrices", |n| {
        let op = Bmm {
            trans_a: false,
            trans_b: true,
        };
        let case = Case::new(op, n).fixed(&[2, 3, 8 * n], ONE);
        case.fixed(&[2, 5, 8 * n], ONE)
    }),
    ("readers of a row", |n| {
        let op = EmbeddingGrad { rows: 1 };
        let case = Case::new(op, n).fixed(&[n, 1], ONE);
        case.u32(&[n], Fill::Number(0.0))
    }),
    ("normalization", |n| {
        let op = Norm {
            over: Over::Batch,
            epsilon: 1e-3,
        };
        // Rows, which are not cut into runs.
        let case = Case::new(op, 1).fixed(&[256 * n, 1], ONE);
        case.fixed(&[1], ONE).fixed(&[1], ONE)
    }),
    ("cumulative sum", |n| {
        let op = Cumsum {
            axis: 0,
            reverse: true,
        };
        Case::new(op, 1).fixed(&[256 * n], ONE)
    }),
    ("cumulative sum of a few", |n| {
        let op = Cumsum {
            axis: 1,
            reverse: false,
        };
        Case::new(op, 1).fixed(&[3, n], ONE)
    }),
    ("gradient of a repeated edge", |n| {
        let op = PadEdges {
            axis: 0,
            before: n,
            after: 1,
            edge: Edge::Replicate,
        };
        Case::new(PadEdgesGrad(op), n).fixed(&[n + 3], ONE)
    }),
    ("mean of a plane", |n| {
        let op = AdaptiveAvgPool2d { size: [1, 1] };
        Case::new(op, n).fixed(&[1, 1, 1024, n], ONE)
    }),
    ("mean of a small window", |n| {
        let op = AdaptiveAvgPool2d { size: [1, 1] };
        Case::new(op, n).fixed(&[1, 2, 1, n], ONE)
    }),
    ("gradient of a pixel's windows", |n| {
        let pool = AdaptiveAvgPool2d { size: [n, n] };
        let input = [1, 1];
        let op = AdaptiveAvgPool2dGrad { pool, input };
        Case::new(op, n).fixed(&[1, 1, n, n], ONE)
    }),
    ("channels around one", |n| {
        let op = Lrn {
            size: n,
            alpha: 1.0,
            beta: 0.5,
            k: 1.0,
        };
        Case::new(op, n).fixed(&[1, n], ONE)
    }),
    ("gradient of a pixel's places", |n| {
        let upsample = Upsample {
            sampling: Sampling::Nearest,
            size: [n, n],
        };
        let input = [1, 1];
        let op = UpsampleGrad { upsample, input };
        Case::new(op, n).fixed(&[1, 1, n, n], ONE)
    }),
    ("steps of a recurrence", |n| {
        let case = Case::new(LSTM, n).fixed(&[1, n, 4 * 9], ONE);
        case.fixed(&[4 * 9, 9], SMALL).fixed(&[4 * 9], SMALL)
    }),
    ("gradient of steps", |n| {
        let case = Case::new(RecurrentGrad(LSTM), n).fixed(&[1, n, 9], SMALL);
        let case = case.fixed(&[4 * 9, 9], SMALL).fixed(&[1, n, 9], ONE);
        case.fixed(&[1, n, 5 * 9], Fill::Number(0.5))
    }),
    ("softmax", |n| {
        Case::new(Softmax { axis: 1 }, 1).fixed(&[1, 64 * n], Fill::Distinct)
    }),
    ("attention", |n| {
        Case::new(ATTENTION, 1)
            .fixed(&[1, 1, 1], Fill::Uniform(-1.0, 1.0))
            .fixed(&[1, n, 2], Fill::Uniform(-1.0, 1.0))
    }),
    ("attention gradient", |n| {
        Case::new(AttentionGrad(ATTENTION), 1)
            .fixed(&[1, 1, 1], Fill::Uniform(-1.0, 1.0))
            .fixed(&[1, n, 2], Fill::Uniform(-1.0, 1.0))
            .fixed(&[1, 1, 1], Fill::Uniform(-1.0, 1.0))
            .fixed(&[1, 1, 1], Fill::Number(10.0))
            .fixed(&[1, 1, 1], Fill::Uniform(-1.0, 1.0))
    }),
    ("largest of a row", |n| {
        Case::new(Argmax, 1).fixed(&[2, n], Fill::Distinct)
    }),
    ("epoch_metrics", |n| epoch_metrics(n, false)),
    ("epoch_metrics with answers", |n| epoch_metrics(n, true)),
    ("images out of bytes", gather),
    ("numbers that are finite", |n| {
        let op = Finite { number: 0 };
        Case::new(op, 1)
            .fixed(&[256 * n], Fill::Spoiled(256 * n - 1, f64::NAN))
            .u32(&[4], ONE)
    }),
];

/// What a kernel does besides its sum: the loop is that of the kernel without it, which a family
/// reaches.
const ENDS: &[&str] = &["_slope", "_bias", "_self"];

const ATTENTION: Attention = Attention {
    heads: 1,
    causal: false,
    masked: false,
};

/// Further kernels with a loop over a size that no family reaches, by what their names begin
/// with, and why that is no gap.
const ALIKE: &[(&str, &str)] = &[
    (
        "conv2d_weight_parts",
        "the loops of conv2d_implicit_weight_grad",
    ),
    ("conv2d_weight_sum", "65,535 parts at most, four teams"),
    ("matmul_fragments", "needs matrix units"),
    (
        "matmul_parts",
        "the loops of matmul_block; 65,535 parts at most",
    ),
    ("matmul_slices_any", "the loops of matmul_slices"),
    ("dense_grad_quads_any", "the loops of dense_grad_quads"),
    ("dense_update_quads_any", "the loops of dense_update_quads"),
    ("dense_loss_tiles_any", "the loops of dense_loss_tiles"),
    ("softmax_across", "128 elements at most"),
    ("softmax_teams", "trees over 32 lanes"),
    ("softmax_grad_teams", "a tree over 32 lanes"),
    ("softmax_grad", "a loop less than softmax"),
    ("log_softmax", "the loops of softmax, or one less"),
    ("cross_entropy", "a loop less than softmax"),
    ("log_likelihood", "a loop less than softmax"),
    ("quadratic", "a loop less than softmax"),
    ("lrn_grad", "the loop of lrn"),
    ("norm_grad", "a loop less than norm"),
    ("norm_rms", "a loop less than norm"),
    ("norm_parameters", "two loops less than norm"),
    ("norm_batch_grad", "a loop less than norm"),
    ("norm_runs", "32,768 turns: a run has 2^22 elements at most"),
    ("norm_joined", "half the turns of norm_runs"),
    ("avg_pool2d_grad", "the loops of max_pool2d_grad"),
    ("adaptive_max_pool2d", "the loops of adaptive_avg_pool2d"),
    ("lstm_step", "1024 units at most"),
    ("gru_step", "1024 units at most"),
    ("rnn_step", "1024 units at most"),
    ("reduce_columns", "a turn has 128 KiB of terms at least"),
    ("reduce_shares", "8192 turns: a run has 2^21 terms at most"),
    ("reduction_runs", "twice the turns of reduce_shares"),
    ("reduction_extreme_runs", "the turns of reduce_shares"),
    ("reduction_joined", "256 runs at most"),
    ("reduction_extreme_joined", "256 runs at most"),
    ("matmul_single", "2^20 multiply-adds at most by 256 threads"),
    (
        "dense_grad_single",
        "2^20 multiply-adds at most by 256 threads",
    ),
    (
        "dense_update_single",
        "2^20 multiply-adds at most by 256 threads",
    ),
    ("dense_loss_single", "the loops of dense_loss_tiles"),
    (
        "gather_shuffled_single",
        "2^16 elements at most by 256 threads",
    ),
    (
        "rows_bytes_integers_single",
        "2^16 elements at most by 256 threads",
    ),
    ("reduce_short", "256 terms at most"),
    ("gru", "the loops of lstm"),
    ("rnn", "the loops of lstm"),
    ("distort", "a loop over channels, of which images have few"),
];

/// A case with every variant, however long its loops.
fn prepared(case: &Case) -> Prepared {
    Prepared::with(case, &options(Limits::CPU)).unwrap()
}

fn options(limits: Limits) -> Options {
    Options {
        replicas: 1,
        fuse: true,
        limits,
    }
}

/// The plan with its launch done by the way called `kernel`, where it has that.
fn by(plan: Plan, kernel: &str) -> Option<Plan> {
    let launch = &plan.programs["run"][0];
    let variant =
        (0..launch.variants()).find(|&variant| launch.done(variant).kernel.name == kernel)?;
    Some(plan.choose(|_| variant))
}

/// The largest size at which the plan's checker lets `kernel` run.
fn largest(family: Family, kernel: &str) -> usize {
    let fits = |n: usize| {
        let plan = by(prepared(&family(n)).plan().clone(), kernel);
        plan.is_some_and(|plan| plan.check(&Limits::default()).is_ok())
    };
    let (mut low, mut high) = (8, 16);
    assert!(fits(low), "{kernel}");
    while fits(high) {
        (low, high) = (high, 2 * high);
    }
    while high - low > 1 {
        let middle = low.midpoint(high);
        if fits(middle) {
            low = middle;
        } else {
            high = middle;
        }
    }
    low
}

#[test]
fn loops_as_long_as_the_checker_allows_are_taken_whole() {
    let Some(device) = gpu() else { return };
    let mut reached = BTreeSet::new();
    for (name, family) in FAMILIES {
        let sized = |k: &&Kernel| k.turns.contains(|c: char| c.is_ascii_uppercase());
        // Lanes and matrix units are not everywhere.
        let variants = device.variants(prepared(&family(64)).plan().clone());
        let kernels = variants.iter().map(|plan| plan.programs["run"][0].kernel);
        let kernels: BTreeSet<_> = kernels.filter(sized).map(|k| k.name).collect();
        for kernel in kernels {
            let n = largest(*family, kernel);
            let case = family(n);
            let prepared = prepared(&case);
            let plan = by(prepared.plan().clone(), kernel).unwrap();
            let launch = &plan.programs["run"][0];
            let turns = launch.kernel.turns_by(&launch.constants).unwrap();
            let given = inputs(&case, 1);
            let cpu = Cpu::<f32>::new(plan.clone(), Implementation::Reference).unwrap();
            let mut cpu = prepared.session(Box::new(cpu)).unwrap();
            let wanted = prepared.run(&mut cpu, &given).unwrap();
            let mut session = prepared.session(device.executor(plan).unwrap()).unwrap();
            let found = prepared.run(&mut session, &given).unwrap();
            println!("{name}: {kernel} at {n}, {turns} turns at most");
            // A softmax adds up what is not exact.
            let allowed = match *name {
                "softmax" | "attention" | "attention gradient" => 1e-3,
                _ => 1e-5,
            };
            same(
                &format!("{name}: {kernel} at {n}"),
                allowed,
                &found,
                &wanted,
            );
            reached.insert(kernel);
        }
    }
    for kernel in TABLE.iter().flat_map(|row| row.kernels) {
        let sized = kernel.turns.contains(|c: char| c.is_ascii_uppercase());
        let bare = |end: &str| {
            let without = kernel.name.replacen(end, "", 1);
            without != kernel.name && reached.contains(&*without)
        };
        let named = |(name, _): &(&str, &str)| kernel.name.starts_with(name);
        assert!(
            !sized
                || reached.contains(kernel.name)
                || ENDS.iter().any(|end| bare(end))
                || ALIKE.iter().any(named),
            "{} has loops and was not reached",
            kernel.name
        );
    }
}

/// Ones and powers of two are added up exactly, so any turn that is missing shows.
fn same(what: &str, allowed: f32, found: &BTreeMap<String, Host>, wanted: &BTreeMap<String, Host>) {
    for (name, wanted) in wanted {
        match (&found[name], wanted) {
            (Host::F32(found), Host::F32(wanted)) => {
                for (i, (f, w)) in found.iter().zip(wanted).enumerate() {
                    let near = (f - w).abs() <= allowed * w.abs();
                    assert!(
                        near || f.to_bits() == w.to_bits(),
                        "{what}: {name}[{i}] {f} for {w}"
                    );
                }
            }
            (found, wanted) => assert_eq!(found, wanted, "{what}: {name}"),
        }
    }
}

#[test]
fn longer_loops_are_another_way_or_refused() {
    // Windows have one variant.
    let (_, window) = FAMILIES
        .iter()
        .find(|(name, _)| *name == "mean of a window")
        .unwrap();
    let refused = Prepared::with(&window(300), &options(Limits::default()))
        .unwrap_err()
        .to_string();
    assert!(
        refused.contains("turns of a thread's loops in avg_pool2d"),
        "{refused}"
    );
    Prepared::with(&window(300), &options(Limits::CPU)).unwrap();
    // Products have several: the longest goes first.
    let long = FAMILIES[1].1(2000);
    let names = |limits| {
        let prepared = Prepared::with(&long, &options(limits)).unwrap();
        let launch = prepared.plan().programs["run"][0].clone();
        let names = (0..launch.variants()).map(|variant| launch.done(variant).kernel.name);
        names.collect::<Vec<_>>()
    };
    assert!(names(Limits::CPU).contains(&"matmul_wide"));
    let left = names(Limits::default());
    assert!(!left.contains(&"matmul_wide") && left.len() > 1, "{left:?}");
}

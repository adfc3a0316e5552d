//! What is not finite goes on: NaN and infinities at several places of each input of each case
//! come out where the reference in f64 has them, and nowhere else, on every device and variant.

use std::sync::atomic::{AtomicUsize, Ordering};

use wgrad::doctor::harness::{Prepared, in_f16, inputs};
use wgrad::doctor::tolerance::{Side, allowed};
use wgrad::doctor::{compare, truth};
use wgrad::exec::cpu::{Cpu, Implementation};
use wgrad::exec::{Device, Executor};
use wgrad::ops::activation::{Activate, Activation, ActivationSlope};
use wgrad::ops::argmax::Argmax;
use wgrad::ops::attention::Attention;
use wgrad::ops::conv2d::Conv2d;
use wgrad::ops::conv2d_pool::{Conv2dPool, ConvPool};
use wgrad::ops::epoch_metrics::EpochMetrics;
use wgrad::ops::max_pool2d::MaxPool2d;
use wgrad::ops::reduction::{Kind, Reduction, ReductionGrad};
use wgrad::ops::{Case, Fill, Row, TABLE};
use wgrad::run::Session;
use wgrad::tensor::Host;

use super::common::nonfinite::{given_of, without_tiny};
use super::common::{gpu, mixed_gpu, note};
use super::{MIXED, rows};

/// A case on every executor: where it computes, what it is called.
fn sessions(prepared: &Prepared, gpus: &[(&str, &Option<Device>)]) -> Vec<(Side, String, Session)> {
    let plan = prepared.plan();
    let mut all: Vec<(Side, String, Box<dyn Executor>)> = Vec::new();
    for text in [Implementation::Reference, Implementation::Optimized] {
        let cpu = Cpu::<f32>::new(plan.clone(), text).unwrap();
        all.push((Side::Cpu, format!("{text:?}"), Box::new(cpu)));
    }
    for (name, gpu) in gpus {
        let Some(gpu) = gpu else { continue };
        let variants = gpu.variants(plan.clone()).into_iter();
        for plan in variants.filter(|plan| *name != MIXED || plan.rounds_factors()) {
            let kernels = plan.programs["run"].iter().map(|l| l.kernel.name);
            let kernels = kernels.collect::<Vec<_>>().join(", ");
            all.push((
                Side::Gpu,
                format!("{name}: {kernels}"),
                gpu.executor(plan).unwrap(),
            ));
        }
    }
    let session = |(side, name, executor)| (side, name, prepared.session(executor).unwrap());
    all.into_iter().map(session).collect()
}

/// Cases of an op above which each of them gets some of the poisons, every next one others: together
/// they get all of them at many shapes, and a kernel's pipelines and launches take the time.
const MANY: usize = 24;

/// Failures of one op, and how many results were compared.
fn hold(row: &Row, gpus: &[(&str, &Option<Device>)]) -> (Vec<String>, usize) {
    let (mut failures, mut count) = (Vec::new(), 0);
    let cases = (row.cases)();
    let turns = cases.len().div_ceil(MANY).min(4);
    for (turn, case) in cases.iter().enumerate() {
        let prepared = Prepared::new(case, 2).unwrap();
        let all = given_of(row, case, &prepared, 2).into_iter();
        let all: Vec<_> = all
            .skip(turn % turns)
            .step_by(turns)
            .map(|given| (truth(&prepared, &given).unwrap(), given))
            .collect();
        if all.is_empty() {
            continue;
        }
        for (side, name, mut session) in sessions(&prepared, gpus) {
            for (wanted, given) in &all {
                let rounded = session.plan().rounds_factors().then(|| {
                    let halves: Vec<_> = given.iter().map(in_f16).collect();
                    (truth(&prepared, &halves).unwrap(), halves)
                });
                let (wanted, given) = rounded.as_ref().map_or((wanted, given), |(w, g)| (w, g));
                let found = without_tiny(prepared.run(&mut session, given).unwrap());
                let compared = compare(case, &found, wanted, allowed(case, side));
                count += compared.buffers;
                if let Some(failure) = compared.failure {
                    failures.push(format!("{} on {name}: {failure}", row.stem));
                    break;
                }
            }
        }
    }
    (failures, count)
}

#[test]
fn what_is_not_finite_goes_on() {
    let (gpu, mixed) = (gpu(), mixed_gpu());
    let gpus = [("GPU", &gpu), (MIXED, &mixed)];
    let rows = rows();
    let next = AtomicUsize::new(0);
    let work = || {
        let (mut failures, mut count) = (Vec::new(), 0);
        while let Some(row) = rows.get(next.fetch_add(1, Ordering::Relaxed)) {
            let start = std::time::Instant::now();
            let (more, compared) = hold(row, &gpus);
            println!(
                "{:<16} {compared:>6} results, {:.1} s",
                row.stem,
                start.elapsed().as_secs_f64()
            );
            failures.extend(more);
            count += compared;
        }
        (failures, count)
    };
    let workers = std::thread::available_parallelism().map_or(1, |n| n.get().min(4));
    let (mut failures, mut count) = (Vec::new(), 0);
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
        for thread in threads {
            let (more, compared) = thread.join().unwrap();
            failures.extend(more);
            count += compared;
        }
    });
    assert!(
        failures.is_empty(),
        "{} failures\n{}",
        failures.len(),
        failures.join("\n")
    );
    println!("{count} results compared");
    if rows.len() == TABLE.len() {
        note("not finite", count);
    }
}

/// Holds one input and its results, by their buffers' names, on every executor.
fn rule(case: Case, given: Vec<Host>, wanted: &[(&str, Host)]) {
    let gpu = gpu();
    let prepared = Prepared::new(&case, 1).unwrap();
    let same = |found: &Host, wanted: &Host| match (found, wanted) {
        (Host::F32(f), Host::F32(w)) => {
            let same = |(f, w): (&f32, &f32)| f == w || (f.is_nan() && w.is_nan());
            f.len() == w.len() && f.iter().zip(w).all(same)
        }
        (found, wanted) => found == wanted,
    };
    for (_, name, mut session) in sessions(&prepared, &[("GPU", &gpu)]) {
        let found = without_tiny(prepared.run(&mut session, &given).unwrap());
        for (buffer, wanted) in wanted {
            assert!(
                same(&found[*buffer], wanted),
                "{:?} on {name}: {buffer} is {:?}, wanted {wanted:?}",
                case.op,
                found[*buffer]
            );
        }
    }
}

const NAN: f32 = f32::NAN;
const INF: f32 = f32::INFINITY;

fn floats(values: &[f32]) -> Host {
    Host::F32(values.to_vec())
}

fn integers(values: &[u32]) -> Host {
    Host::U32(values.to_vec())
}

/// The rules themselves, which the reference could break for all.
#[test]
fn not_a_number_is_the_largest_and_stays() {
    let any = Fill::Number(0.0);
    for (activation, x, y) in [
        (
            Activation::Relu,
            [NAN, -NAN, INF, -INF, -0.0, -1.0, 2.0],
            [NAN, NAN, INF, 0.0, 0.0, 0.0, 2.0],
        ),
        (
            Activation::Sigmoid,
            [NAN, -NAN, INF, -INF, 0.0, 0.0, 0.0],
            [NAN, NAN, 1.0, 0.0, 0.5, 0.5, 0.5],
        ),
        (
            Activation::Tanh,
            [NAN, -NAN, INF, -INF, 0.0, 0.0, 0.0],
            [NAN, NAN, 1.0, -1.0, 0.0, 0.0, 0.0],
        ),
    ] {
        let case = Case::new(Activate(activation), 1).fixed(&[7], any);
        rule(case, vec![floats(&x)], &[("output 0", floats(&y))]);
    }
    // What ReLU has held back comes back as 0, whatever it is.
    let case = Case::new(ActivationSlope(Activation::Relu), 1);
    let (g, y) = ([1.0, 1.0, INF, NAN, 3.0], [NAN, -NAN, 0.0, -0.0, -1.0]);
    rule(
        case.fixed(&[5], any).fixed(&[5], any),
        vec![floats(&g), floats(&y)],
        &[("output 0", floats(&[1.0, 1.0, 0.0, 0.0, 0.0]))],
    );
    let rows = [
        1.0, NAN, 3.0, -NAN, -INF, -INF, INF, 0.0, -NAN, NAN, INF, 1.0,
    ];
    rule(
        Case::new(Argmax, 1).fixed(&[3, 4], any),
        vec![floats(&rows)],
        &[("output 0", integers(&[1, 2, 0]))],
    );
    for (kind, y, index) in [
        (Kind::Max, [NAN, NAN, INF], Some([1, 2, 0])),
        (Kind::Min, [NAN, NAN, 0.0], Some([1, 2, 1])),
        (Kind::Sum, [NAN, NAN, INF], None),
        (Kind::Norm, [NAN, NAN, INF], None),
        (Kind::Variance, [NAN, NAN, NAN], None),
    ] {
        // Rows of three are a thread's, and of 99 a workgroup's.
        for k in [3, 99] {
            let mut x = vec![0.0; 3 * k];
            x[1] = NAN;
            (x[k + 1], x[k + 2]) = (INF, -NAN);
            x[2 * k] = INF;
            let case = Case::new(Reduction::new(kind, &[1]), 1).fixed(&[3, k], any);
            let mut wanted = vec![("output 0", floats(&y))];
            wanted.extend(index.map(|index| ("output 1", integers(&index))));
            rule(case, vec![floats(&x)], &wanted);
        }
    }
    // An infinite log-sum-exp is what PyTorch makes of it, with its gradients.
    let reduction = Reduction::new(Kind::LogSumExp, &[1]);
    let x = [0.0, INF, 2.0, -INF, -INF, -INF, -INF, NAN, INF];
    rule(
        Case::new(reduction.clone(), 1).fixed(&[3, 3], any),
        vec![floats(&x)],
        &[("output 0", floats(&[INF, -INF, NAN]))],
    );
    let extents = vec![3, 3];
    let case = Case::new(ReductionGrad { reduction, extents }, 1).fixed(&[3], any);
    let slopes = [0.0, NAN, 0.0, NAN, NAN, NAN, NAN, NAN, NAN];
    rule(
        case.fixed(&[3, 3], any).fixed(&[3], any),
        vec![floats(&[1.0; 3]), floats(&x), floats(&[INF, -INF, NAN])],
        &[("output 0", floats(&slopes))],
    );
    let pool = MaxPool2d {
        kernel: [2, 2],
        stride: [2, 2],
        padding: [0, 0],
    };
    let plane = [1.0, 5.0, NAN, 0.0, -INF, INF, 8.0, -8.0];
    let below = [-NAN, 2.0, -NAN, 9.0, -INF, -INF, -INF, -NAN];
    let plane = floats(&[plane, below].concat());
    let wanted = [
        ("output 0", floats(&[NAN, NAN, INF, NAN])),
        ("output 1", integers(&[8, 2, 5, 15])),
    ];
    let x = [1, 1, 2, 8];
    rule(
        Case::new(pool, 1).fixed(&x, any),
        vec![plane.clone()],
        &wanted,
    );
    let conv = Conv2d {
        stride: [1, 1],
        padding: [0, 0],
        dilation: [1, 1],
        groups: 1,
    };
    let case = Case::new(Conv2dPool(ConvPool { conv, pool }), 1);
    rule(
        case.fixed(&x, any)
            .fixed(&[1, 1, 1, 1], any)
            .fixed(&[1], any),
        vec![plane, floats(&[1.0]), floats(&[0.0])],
        &wanted,
    );
}

/// No example with a score that is not a number is answered correctly, and its loss arrives.
#[test]
fn metrics_notice_what_is_not_a_number() {
    let any = Fill::Number(0.0);
    let op = |n: usize| EpochMetrics {
        count: 10 * n,
        epoch_steps: 10,
        predict: false,
        keeps: false,
    };
    let hold =
        |k: usize, scores: &[f32], losses: &[f32], labels: &[u32], metrics: [f32; 4], bad: u32| {
            let n = labels.len();
            let case = Case::new(op(n), 1).fixed(&[n, k], any).fixed(&[n], any);
            let case = case.u32(&[n], any).u32(&[2], any);
            rule(
                case.fixed(&[4], any).u32(&[4], any),
                vec![
                    floats(scores),
                    floats(losses),
                    integers(labels),
                    integers(&[5, 5]),
                    floats(&[0.0; 4]),
                    integers(&[0; 4]),
                ],
                &[
                    ("input 4", floats(&metrics)),
                    ("input 5", integers(&[6, bad, 0, 0])),
                ],
            );
        };
    let scores = [0.0, 1.0, 0.0, NAN, -NAN, 1.0];
    let counted = [0.0, 1.0, 3.0, NAN];
    hold(2, &scores, &[0.5, NAN, 1.0], &[1, 1, 0], counted, 1);
    let counted = [0.0, 1.0, 3.0, INF];
    hold(
        1,
        &[NAN, 0.7, NAN],
        &[0.5, 1.0, INF],
        &[0, 1, 1],
        counted,
        2,
    );
}

/// Between tiles of keys scores fall and rise by more than e^x has room for: what a row keeps is scaled by the largest so
/// far, not by that of the last tile. No case of the table, since of shares that f32 has no room for nothing is infinite.
#[test]
fn scores_far_apart_stay_finite() {
    let gpu = gpu();
    let attention = Attention {
        heads: 1,
        causal: false,
        masked: false,
    };
    let case = Case::new(attention, 70).float(&[1, 70, 12], Fill::Rising(-12.0, 12.0));
    let case = case.forward_only();
    let prepared = Prepared::new(&case, 2).unwrap();
    let given = inputs(&case, 2);
    let wanted = truth(&prepared, &given).unwrap();
    for (side, name, mut session) in sessions(&prepared, &[("GPU", &gpu)]) {
        let found = prepared.run(&mut session, &given).unwrap();
        let compared = compare(&case, &found, &wanted, allowed(&case, side));
        assert_eq!(compared.failure, None, "{name}");
    }
}

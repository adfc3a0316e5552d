//! Proves every row by wgrad's own harness, and holds values to numbers worked out by hand: that the
//! devices agree says nothing of a formula that is wrong.

mod common;

use std::sync::Arc;

use common::devices;
use foreign::belief::AdaBelief;
use foreign::expressions::{gated, huber, huber_loss, serf, serf_of};
use foreign::scan::Scan;
use foreign::{belief, expressions, scan};
use wgrad::compile::{Options, compile};
use wgrad::doctor::{examine, gradients, tolerance::Side};
use wgrad::exec::Device;
use wgrad::exec::cpu::{Cpu, Implementation};
use wgrad::expr::Expr;
use wgrad::graph::Graph;
use wgrad::kernel::Target;
use wgrad::ops::constant::Constant;
use wgrad::ops::pointwise::pointwise;
use wgrad::ops::{Op, Row, Tape, Value};
use wgrad::optim::{Rule, Terms};
use wgrad::plan::Limits;
use wgrad::shape::Type;
use wgrad::tensor::Host;

const ROWS: [(&Row, usize); 3] = [(&scan::ROW, 10), (&expressions::ROW, 17), (&belief::ROW, 0)];

/// Values on every executor and in every variant against the reference in f64, for one replica and
/// for three.
#[test]
fn every_device_computes_what_the_reference_does() {
    for (row, _) in ROWS {
        for text in [Implementation::Reference, Implementation::Optimized] {
            let found = examine(row, &[1, 3], Side::Cpu, &mut |plan| {
                Ok(vec![Box::new(Cpu::<f32>::new(plan, text)?)])
            });
            let found = found.unwrap();
            assert_eq!(found.failure, None);
            assert!(found.buffers >= 2 * (row.cases)().len(), "{}", row.stem);
        }
        for device in devices() {
            let side = match device.info().cpu {
                true => Side::Cpu,
                false => Side::Gpu,
            };
            let mut variants = 0;
            let found = examine(row, &[1, 3], side, &mut |plan| {
                // Parts of whole programs come by themselves where an op is an expression.
                let own = plan
                    .clone()
                    .with_variants(|t| !matches!(t, Target::Single { .. }));
                variants = variants.max(device.variants(own).len());
                let plans = device.variants(plan);
                plans.into_iter().map(|p| device.executor(p)).collect()
            });
            let found = found.unwrap();
            assert_eq!(found.failure, None, "{}", device.info().name);
            // The scan has a second variant for adapters that are programs, and only there.
            let two = row.stem == "scan" && device.info().software;
            assert_eq!(variants, if two { 2 } else { 1 }, "{}", row.stem);
        }
    }
}

/// Gradient rules against central differences, mid-graph.
#[test]
fn gradients_are_the_slopes() {
    for (row, inputs) in ROWS {
        let found = gradients(row).unwrap();
        assert_eq!(
            (found.failure, found.buffers),
            (None, inputs),
            "{}",
            row.stem
        );
    }
}

/// An expression of the scan's result, and its mask, cost no launch.
#[test]
fn what_follows_the_scan_stands_at_its_end() {
    let mut graph = Graph::new();
    let ty = Type::f32("x", &[2, 3, 5]).unwrap();
    let [a, b, c] = ["a", "b", "c"].map(|name| graph.variable(name, ty.clone()).unwrap());
    graph.begin("run");
    let h = graph.op1(Arc::new(Scan), &[a, b]).unwrap();
    let serf = serf_of(&mut graph, h).unwrap();
    let y = pointwise(&mut graph, [serf, c], |[serf, c]| serf * c).unwrap();
    graph.result("y", y).unwrap();
    let options = Options {
        replicas: 1,
        fuse: true,
        limits: Limits::default(),
    };
    let plan = compile(&graph, &options).unwrap();
    let [launch] = &plan.programs["run"][..] else {
        panic!("{} launches", plan.programs["run"].len());
    };
    assert_eq!(launch.kernel.name, "scan");
    assert!(!launch.kernel.trusted());
}

/// What a graph over variables gives, by the names of its results.
fn run(
    device: &Device,
    inputs: &[(&[usize], &[f32])],
    results: impl Fn(&mut Graph, &[Value]) -> Vec<Value>,
) -> Vec<Vec<f32>> {
    let mut graph = Graph::new();
    let variable = |(i, (extents, _)): (usize, &(&[usize], &[f32]))| {
        let name = format!("x{i}");
        graph.variable(&name, Type::f32(&name, extents).unwrap())
    };
    let variables = inputs.iter().enumerate().map(variable);
    let variables: Vec<Value> = variables.collect::<wgrad::Result<_>>().unwrap();
    graph.begin("run");
    let results = results(&mut graph, &variables);
    for (i, &result) in results.iter().enumerate() {
        graph.result(&format!("y{i}"), result).unwrap();
    }
    let options = Options {
        replicas: 1,
        fuse: true,
        limits: device.info().limits,
    };
    let plan = compile(&graph, &options).unwrap();
    let mut executor = device.executor(plan).unwrap();
    for (i, (_, values)) in inputs.iter().enumerate() {
        let buffer = executor.plan().state(&format!("x{i}")).unwrap();
        executor.write(buffer, &Host::F32(values.to_vec())).unwrap();
    }
    executor.run("run", 1).unwrap();
    let read = |i| {
        let buffer = executor.plan().state(&format!("y{i}")).unwrap();
        executor.read(buffer).unwrap().floats().unwrap()
    };
    (0..results.len()).map(read).collect()
}

#[test]
fn a_scan_halves_and_adds() {
    for device in devices() {
        // Two sequences of three steps and one channel; of each, the gradient of its last state.
        let a = [0.5, 0.5, 0.5, 9.0, 2.0, 3.0];
        let b = [1.0, 1.0, 1.0, 1.0, 0.0, 5.0];
        let last = [0.0, 0.0, 1.0, 0.0, 0.0, 1.0];
        let shape = &[2, 3, 1][..];
        let inputs = [(shape, &a[..]), (shape, &b), (shape, &last)];
        let found = run(&device, &inputs, |graph, x| {
            let h = graph.op1(Arc::new(Scan), &x[..2]).unwrap();
            let gradients = graph.gradients(h, x[2], &x[..2]).unwrap();
            [h].into_iter()
                .chain(gradients.into_iter().flatten())
                .collect()
        });
        assert_eq!(found[0], [1.0, 1.5, 1.75, 1.0, 2.0, 11.0]);
        assert_eq!(found[1], [0.0, 0.5, 1.5, 0.0, 3.0, 2.0]);
        assert_eq!(found[2], [0.25, 0.5, 1.0, 6.0, 3.0, 1.0]);
    }
}

#[test]
fn a_scan_refuses_what_it_cannot_do_in_words() {
    let ty = |extents: &[usize]| Type::f32("test", extents).unwrap();
    let whole = Type::u32("test", &[2, 3, 4]).unwrap();
    for (inputs, why) in [
        (vec![ty(&[2, 3, 4])], "found 1 inputs; wanted 2: a, b"),
        (vec![whole.clone(), whole], "wanted a of f32"),
        (vec![ty(&[2, 3]), ty(&[2, 3])], "wanted a as [N, T, C]"),
        (
            vec![ty(&[2, 3, 4]), ty(&[2, 4, 3])],
            "equal types of a and b",
        ),
    ] {
        let said = Scan.infer(&inputs).unwrap_err().to_string();
        assert!(said.starts_with("scan: ") && said.contains(why), "{said}");
    }
}

fn near(found: f64, wanted: f64) {
    assert!((found - wanted).abs() < 1e-12, "{found}, wanted {wanted}");
}

/// x and Python's `x * math.erf(math.log1p(math.exp(x)))`.
const SERF: [(f64, f64); 2] = [(-1.0, -0.3422479553893385), (0.5, 0.41582931148205904)];

#[test]
fn expressions_are_their_formulas() {
    let serf = serf(&Expr::input(0));
    for (x, wanted) in SERF {
        near(serf.value(&[x]).unwrap(), wanted);
    }
    let huber = huber(&Expr::input(0), 0.5);
    for (x, wanted) in [
        (0.0, 0.0),
        (-0.2, 0.02),
        (0.5, 0.125),
        (3.0, 1.375),
        (-3.0, 1.375),
    ] {
        near(huber.value(&[x]).unwrap(), wanted);
    }
}

/// On the devices: one kernel for two outputs, and the mean of a loss with its gradient.
#[test]
fn expressions_stand_in_graphs() {
    for device in devices() {
        let one = &[1][..];
        let inputs = [
            (one, &[0.75][..]),
            (one, &[0.25]),
            (one, &[0.5]),
            (one, &[-1.5]),
        ];
        let found = run(&device, &inputs, |graph, x| {
            let mut both = graph.op(Arc::new(gated()), x).unwrap();
            both.push(serf_of(graph, x[2]).unwrap());
            both
        });
        let z = 1.0 / (1.0 + (-1.0f64).exp());
        let [(_, candidate), (_, alone)] = SERF;
        let wanted = [1.0 - z, z * candidate, alone];
        for (found, wanted) in found.iter().zip(wanted) {
            assert!((f64::from(found[0]) - wanted).abs() < 1e-5, "{found:?}");
        }

        let (found, wanted) = ([0.25, 2.0, 1.0, -1.0], [0.0, 0.0, 1.0, 0.0]);
        let inputs = [(&[2, 2][..], &found[..]), (&[2, 2], &wanted)];
        let found = run(&device, &inputs, |graph, x| {
            let loss = huber_loss(graph, x[0], x[1], 1.0).unwrap();
            let one = Constant {
                extents: vec![1],
                value: 1.0,
            };
            let one = graph.op1(Arc::new(one), &[]).unwrap();
            let gradient = graph.gradients(loss, one, &x[..1]).unwrap()[0];
            vec![loss, gradient.unwrap()]
        });
        assert_eq!(found[0], [(0.03125 + 1.5 + 0.0 + 0.5) / 4.0]);
        assert_eq!(found[1], [0.0625, 0.25, 0.0, -0.25]);
    }
}

/// Three steps beside the paper's lines in f64.
#[test]
fn a_rule_is_its_algorithm() {
    let [gradient, value, mean, surprise, step] = std::array::from_fn(Expr::input);
    let updated = AdaBelief::default().update(&Terms {
        gradient,
        value,
        states: vec![mean, surprise],
        rate: Expr::constant(0.1),
        step,
        decays: false,
    });
    let (mut w, mut m, mut s) = (1.0, 0.0, 0.0);
    for (t, g) in [(1, 0.5), (2, -2.0), (3, 0.25)] {
        let inputs = [g, w, m, s, f64::from(t)];
        m = 0.9 * m + 0.1 * g;
        s = 0.999 * s + 0.001 * (g - m) * (g - m) + 1e-8;
        let corrected = m / (1.0 - 0.9f64.powi(t));
        w -= 0.1 * corrected / ((s / (1.0 - 0.999f64.powi(t))).sqrt() + 1e-8);
        near(updated.value.value(&inputs).unwrap(), w);
        near(updated.states[0].value(&inputs).unwrap(), m);
        near(updated.states[1].value(&inputs).unwrap(), s);
    }
    let wrong = AdaBelief {
        betas: [0.9, 1.0],
        ..AdaBelief::default()
    };
    let said = wrong.check().unwrap_err().to_string();
    assert!(said.contains("found 1; wanted 0 to below 1"), "{said}");
}

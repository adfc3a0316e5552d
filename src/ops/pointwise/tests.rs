//! What the table's tests cannot see of expressions as ops.

use super::*;
use crate::expr::{Form, reverse};
use crate::graph::Graph;
use crate::ops::COUNTER;
use crate::rng::streams::USER;

fn f32(extents: &[usize]) -> Type {
    Type::f32("test", extents).unwrap()
}

fn x(k: usize) -> Expr {
    Expr::input(k)
}

/// The names of what the gradient of an activation of `x` reads.
fn reads(f: impl Fn(&Expr) -> Expr) -> Vec<&'static str> {
    let op = Pointwise::new(&[f(&x(0))]);
    let (program, there) = reverse(&op.program, 1, &[0], &[0]);
    assert_eq!(there, [true]);
    let name = |k: u32| ["x", "upstream", "y"][k as usize];
    program.inputs().into_iter().map(name).collect()
}

#[test]
fn a_slope_comes_from_what_costs_least() {
    assert_eq!(reads(Expr::relu), ["upstream", "y"]);
    assert_eq!(reads(Expr::sigmoid), ["upstream", "y"]);
    assert_eq!(reads(Expr::tanh), ["upstream", "y"]);
    assert_eq!(reads(Expr::exp), ["upstream", "y"]);
    assert_eq!(reads(|x| x * x.sigmoid()), ["x", "upstream"]);
    assert_eq!(reads(|x| x * 3.0), ["upstream"]);
}

#[test]
fn what_two_expressions_need_is_one_line() {
    let e = (x(0) * x(1)).exp();
    let op = Pointwise::new(&[&e + 1.0, &e * (x(1) * x(0)).exp()]);
    let exps = op
        .program
        .forms()
        .iter()
        .filter(|f| matches!(f, Form::Unary(..)));
    assert_eq!(exps.count(), 1);
    // Numbers are computed once, here.
    let folded = Pointwise::new(&[x(0) * (Expr::constant(2.0).log() / 2.0) * 1.0 + 0.0]);
    assert_eq!(folded.program.forms().len(), 3);
}

#[test]
fn a_deep_expression_needs_no_deep_stack() {
    let mut e = x(0);
    for k in 0..100_000 {
        e = e * 0.999 + f64::from(k);
    }
    assert_eq!(Pointwise::new(&[e]).program.inputs(), [0]);
}

/// Sizes and numbers make no new kernel; another expression does.
#[test]
fn kernels_are_kept_by_what_their_text_depends_on() {
    let kernel = |f: Expr, extents: &[usize]| {
        let op = Pointwise::new(&[f]);
        let ty = op.infer(&[f32(extents)]).unwrap();
        op.lower(&[f32(extents)], &ty).unwrap().launch().unwrap()
    };
    let f = |number: f64| (x(0) * number).sin() + 3.25;
    let one = kernel(f(0.7), &[8, 4]);
    let before = compose::kernels();
    for n in 1..100 {
        let other = kernel(f(n as f64 * 0.37), &[n, 4]);
        assert!(std::ptr::eq(one.kernel, other.kernel));
    }
    // Other tests may make some at the same time, but not a hundred.
    assert!(compose::kernels() < before + 90);
    assert!(!std::ptr::eq(one.kernel, kernel(f(0.7), &[3, 3]).kernel));
    assert!(!std::ptr::eq(
        one.kernel,
        kernel(f(0.7).exp(), &[8, 4]).kernel
    ));
}

#[test]
fn impossible_inputs_are_refused_in_words() {
    let (a, u) = (f32(&[2, 3]), Type::u32("test", &[2, 3]).unwrap());
    let step = Type::u32("test", &[COUNTER]).unwrap();
    let keys = Type::u32("test", &[4]).unwrap();
    let many: Vec<Expr> = (0..9).map(x).collect();
    let sum = many.iter().skip(1).fold(x(0), |sum, e| sum + e);
    let refused: Vec<(Pointwise, Vec<Type>, &str)> = vec![
        (
            Pointwise::new(&[x(0) + x(1)]),
            vec![a.clone()],
            "found 1 inputs",
        ),
        (
            Pointwise::new(&[x(0) + x(1)]),
            vec![a.clone(), f32(&[2])],
            "equal or 1",
        ),
        (
            Pointwise::new(&[x(1)]),
            vec![a.clone(); 2],
            "input 0 read by no expression",
        ),
        (Pointwise::new(&[]), vec![], "no expression"),
        (
            Pointwise::new(&[x(0) * Expr::step()]),
            vec![a.clone()],
            "then the step",
        ),
        (
            Pointwise::new(&[x(0) * Expr::step()]),
            vec![a.clone(), keys.clone()],
            "step of u32[2]",
        ),
        (
            Pointwise::new(&[x(0) * Expr::uniform(USER)]),
            vec![a.clone(), step.clone(), keys],
            "keys of u32[4]",
        ),
        (
            Pointwise::new(&[x(0) + Expr::at(0, 1.0)]),
            vec![a.clone()],
            "by an index and element",
        ),
        (
            Pointwise::new(&[x(0), x(0)]).updating(0, 0).updating(1, 0),
            vec![a.clone()],
            "written over by several",
        ),
        (
            Pointwise::new(&[x(0) + 1.0]).updating(0, 0),
            vec![u],
            "written over",
        ),
        (
            Pointwise::new(&[x(0) + x(1)]).updating(0, 0),
            vec![f32(&[3]), a.clone()],
            "written over",
        ),
        (
            Pointwise::new(&[x(0)]).with_extents(&[3]),
            vec![a.clone()],
            "equal or 1",
        ),
        (Pointwise::new(&[sum]), vec![a; 9], "at most 8"),
    ];
    for (op, inputs, why) in refused {
        let error = op.infer(&inputs).unwrap_err().to_string();
        assert!(error.contains(why), "{op:?}: {error}");
    }
}

#[test]
fn gradients_of_several_outputs_add_up() {
    use crate::exec::Executor;
    use crate::exec::cpu::{Cpu, Implementation};
    use crate::tensor::Host;
    let mut graph = Graph::new();
    let v = graph.variable("v", f32(&[5])).unwrap();
    let upstream = graph.variable("upstream", f32(&[5])).unwrap();
    graph.begin("run");
    let two = Pointwise::new(&[x(0) * 2.0, x(0) * x(0)]);
    let two = graph.op(Arc::new(two), &[v]).unwrap();
    let y = pointwise(&mut graph, [two[0], two[1]], |[a, b]| a + b * 3.0).unwrap();
    let gradient = graph.gradients(y, upstream, &[v]).unwrap()[0].unwrap();
    graph.result("gradient", gradient).unwrap();
    let options = crate::compile::Options {
        replicas: 1,
        fuse: false,
        limits: crate::plan::Limits::default(),
    };
    let plan = crate::compile::compile(&graph, &options).unwrap();
    let mut cpu = Cpu::<f32>::new(plan, Implementation::Optimized).unwrap();
    for (name, value) in [("v", 0.5), ("upstream", 1.0)] {
        let buffer = cpu.plan().state(name).unwrap();
        cpu.write(buffer, &Host::F32(vec![value; 5])).unwrap();
    }
    cpu.run("run", 1).unwrap();
    let buffer = cpu.plan().state("gradient").unwrap();
    // 2 + 3 · 2 · ½.
    assert_eq!(cpu.read(buffer).unwrap(), Host::F32(vec![5.0; 5]));
}

#[test]
fn numbers_that_f32_lacks_are_refused() {
    let told = |e: Expr| Pointwise::new(&[e]).infer(&[f32(&[3])]);
    for number in [1e-300, -1e300] {
        let told = told(x(0) * number).unwrap_err().to_string();
        assert!(told.contains(&format!("{number:e}")), "{told}");
    }
    // An infinite one is meant: what a mask puts in.
    told(x(0).max(f64::NEG_INFINITY)).unwrap();
}

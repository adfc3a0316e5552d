//! What is the same for the places of a channel is computed once for them, and what commonly stands behind a convolution
//! is one loop: the same bits as op by op. Images are cut by rows where they are few.

use std::sync::Arc;

use wgrad::compile::{Compiled, Options};
use wgrad::exec::Executor;
use wgrad::exec::cpu::{Cpu, Implementation};
use wgrad::expr::Expr;
use wgrad::graph::Graph;
use wgrad::ops::conv2d::Conv2d;
use wgrad::ops::norm::{Norm, NormGiven, Over};
use wgrad::ops::pointwise::Pointwise;
use wgrad::ops::{Tape, Value};
use wgrad::plan::Limits;
use wgrad::shape::Type;
use wgrad::tensor::View;

fn wave(n: usize, step: f32) -> Vec<f32> {
    (0..n)
        .map(|i| ((i * i % 10_007) as f32 * step).sin())
        .collect()
}

/// Variables that stand for inputs.
struct Inputs {
    graph: Graph,
    written: Vec<(Value, Vec<f32>)>,
    /// Which result is asked for.
    result: usize,
}

impl Inputs {
    fn new() -> Self {
        Self {
            graph: Graph::new(),
            written: vec![],
            result: 0,
        }
    }

    fn add(&mut self, extents: &[usize], values: Vec<f32>) -> Value {
        let name = format!("input {}", self.written.len());
        let ty = Type::f32(&name, extents).unwrap();
        let value = self.graph.variable(&name, ty).unwrap();
        self.written.push((value, values));
        value
    }

    /// What a result of the program `run` is, and of which kernels.
    fn run(&self, fuse: bool, implementation: Implementation) -> (Vec<f32>, Vec<&'static str>) {
        let options = Options {
            replicas: 1,
            fuse,
            limits: Limits::default(),
        };
        let compiled = Compiled::new(&self.graph, &options).unwrap();
        let (_, y) = self.graph.results()[self.result].clone();
        let y = self.graph.handle::<f32>(y).unwrap();
        let mut cpu = Cpu::<f32>::new(compiled.plan().clone(), implementation).unwrap();
        for (value, values) in &self.written {
            let handle = self.graph.handle::<f32>(*value).unwrap();
            let buffer = compiled.buffer(handle).unwrap();
            cpu.upload(buffer, View::F32(values)).unwrap();
        }
        cpu.run("run", 1).unwrap();
        let values = cpu.values(0, compiled.buffer(y).unwrap()).unwrap().to_vec();
        let launches = compiled.plan().programs["run"].iter();
        (values, launches.map(|l| l.kernel.name).collect())
    }
}

fn bits(values: &[f32]) -> Vec<u32> {
    // Which NaN it is, nobody says.
    let one = |x: &f32| if x.is_nan() { f32::NAN } else { *x };
    values.iter().map(|x| one(x).to_bits()).collect()
}

/// What is not like other numbers, in some places.
fn odd(mut values: Vec<f32>) -> Vec<f32> {
    let odd = [
        f32::NAN,
        f32::INFINITY,
        f32::NEG_INFINITY,
        -0.0,
        0.0,
        1e-40,
        f32::MAX,
    ];
    for (i, value) in odd.into_iter().enumerate() {
        let at = (i * 37 + 5) % values.len();
        values[at] = value;
    }
    values
}

/// An expression of x and of further inputs.
type Write = fn(&[Expr]) -> Expr;

/// Expressions of x `[N, C, H, W]` and of numbers of a channel, of a row, of an example, of all, and the latter's extents.
fn expressions([n, c, h, w]: [usize; 4]) -> Vec<(&'static str, Write, Vec<Vec<usize>>)> {
    let channel = vec![c, 1, 1];
    vec![
        ("bias", |e| &e[0] + &e[1], vec![channel.clone()]),
        ("relu", |e| (&e[0] + &e[1]).relu(), vec![channel.clone()]),
        ("relu alone", |e| e[0].relu(), vec![]),
        ("factor", |e| &e[1] * &e[0], vec![channel.clone()]),
        (
            "norm",
            |e| (&e[0] - &e[1]) * (&e[2] * (e[3].square() + 1e-5).rsqrt()) + &e[4],
            vec![channel.clone(); 4],
        ),
        (
            "norm, residual and relu",
            |e| {
                let scale = &e[2] * (e[3].square() + 1e-5).rsqrt();
                (&e[0] * &scale + (&e[4] - &e[1] * &scale) + &e[5]).relu()
            },
            [vec![channel.clone(); 4], vec![vec![n, c, h, w]]].concat(),
        ),
        (
            "residual without relu",
            |e| &e[2] + (&e[0] * &e[1]),
            vec![channel.clone(), vec![n, c, h, w]],
        ),
        (
            "of a row",
            |e| (&e[0] * &e[1] + &e[2]).relu(),
            vec![vec![c, h, 1], channel.clone()],
        ),
        (
            "of an example",
            |e| &e[0] * &e[1] - &e[2],
            vec![vec![n, c, 1, 1], vec![n, 1, 1, 1]],
        ),
        (
            "of a column",
            |e| (&e[0] + &e[1] * &e[2]).relu(),
            vec![vec![w], channel.clone()],
        ),
        (
            "of all",
            |e| (&e[0] * &e[1] + &e[2]).relu(),
            vec![vec![1], channel.clone()],
        ),
        (
            "residual as a factor",
            |e| (&e[0] * &e[1] + &e[2]) * &e[3],
            vec![channel.clone(), channel.clone(), vec![n, c, h, w]],
        ),
        (
            "a channel's choice",
            |e| &e[0] + e[1].lt(&e[2]).select(&e[1], e[2].exp()),
            vec![channel.clone(); 2],
        ),
        (
            "a choice by channel",
            |e| e[1].lt(&e[2]).select(&e[0] * &e[1], e[2].exp()),
            vec![channel.clone(), channel],
        ),
    ]
}

/// As it is, and with each channel's number written out for all its places.
#[test]
fn by_channel_is_the_same_bits_as_by_element() {
    for x in [
        [2, 3, 8, 8],
        [1, 2, 5, 6],
        [3, 2, 4, 8],
        [2, 5, 7, 7],
        [1, 3, 33, 31],
        [1, 2, 1, 31],
        [2, 2, 1, 32],
    ] {
        for (name, write, extents) in expressions(x) {
            for behind_a_core in [false, true] {
                let size: usize = x.iter().product();
                let made = |spread: bool| {
                    let mut inputs = Inputs::new();
                    let first = match behind_a_core {
                        // One filter of one for each channel: what a core hands over is x.
                        true => {
                            let images = inputs.add(&x, odd(wave(size, 0.3)));
                            let w = inputs.add(&[x[1], 1, 1, 1], vec![1.0; x[1]]);
                            (images, Some(w))
                        }
                        false => (inputs.add(&x, odd(wave(size, 0.3))), None),
                    };
                    let mut values = vec![];
                    for (k, extents) in extents.iter().enumerate() {
                        let own: usize = extents.iter().product();
                        let numbers = odd(wave(own, 0.7 + k as f32 * 0.11));
                        values.push(match spread {
                            false => inputs.add(extents, numbers),
                            true => inputs.add(&x, written_out(&numbers, extents, x)),
                        });
                    }
                    inputs.graph.begin("run");
                    let (images, w) = first;
                    let element = match w {
                        Some(w) => {
                            let conv = Conv2d {
                                stride: [1; 2],
                                padding: [0; 2],
                                dilation: [1; 2],
                                groups: x[1],
                            };
                            inputs.graph.op1(Arc::new(conv), &[images, w]).unwrap()
                        }
                        None => images,
                    };
                    let given: Vec<Expr> = (0..=extents.len()).map(Expr::input).collect();
                    let op = Pointwise::new(&[write(&given)]).with_extents(&x);
                    let read = [vec![element], values].concat();
                    let y = inputs.graph.op1(Arc::new(op), &read).unwrap();
                    inputs.graph.result("y", y).unwrap();
                    inputs
                };
                let (own, spread) = (made(false), made(true));
                let what = format!("{name} of {x:?}, behind a core: {behind_a_core}");
                let (wanted, launches) = spread.run(false, Implementation::Reference);
                assert_eq!(launches.len(), 1 + usize::from(behind_a_core), "{what}");
                let (found, launches) = own.run(true, Implementation::Optimized);
                assert_eq!(launches.len(), 1, "{what}");
                assert_eq!(bits(&found), bits(&wanted), "{what}");
            }
        }
    }
}

/// A normalization by given statistics as an expression, at an op's end or within another one, is what its kernel computes.
#[test]
fn a_norm_by_given_statistics_is_an_expression() {
    for x in [
        vec![5, 3],
        vec![2, 3, 40],
        vec![2, 3, 4, 5],
        vec![2, 3, 7, 9],
        vec![1, 3, 2, 3, 6],
    ] {
        let size: usize = x.iter().product();
        let mut inputs = Inputs::new();
        let element = inputs.add(&x, wave(size, 0.3));
        let mut read = vec![];
        for (k, shift) in [0.5, 0.1, -0.3, 1.5].into_iter().enumerate() {
            let numbers = wave(3, 0.7 + k as f32).iter().map(|v| v + shift).collect();
            read.push(inputs.add(&[3], numbers));
        }
        inputs.graph.begin("run");
        let before = Pointwise::new(&[Expr::input(0) * 0.5 + 0.25]);
        let y = inputs.graph.op1(Arc::new(before), &[element]).unwrap();
        let norm = NormGiven(Norm {
            over: Over::Batch,
            epsilon: 1e-3,
        });
        let y = inputs.graph.op1(Arc::new(norm), &[vec![y], read].concat());
        inputs.graph.result("y", y.unwrap()).unwrap();
        let (wanted, launches) = inputs.run(false, Implementation::Reference);
        assert_eq!(launches, ["pointwise", "norm_given"]);
        let (found, launches) = inputs.run(true, Implementation::Optimized);
        assert_eq!(launches.len(), 1, "{x:?}");
        for (i, (found, wanted)) in found.iter().zip(&wanted).enumerate() {
            let close = (found - wanted).abs() <= 2e-6 * wanted.abs().max(1.0);
            assert!(close, "{x:?}, element {i}: {found}, not {wanted}");
        }
    }
}

/// What is by channel and a result all the same, written over a state.
#[test]
fn a_result_by_channel_is_written_for_each_element() {
    let x = [2, 3, 6, 7];
    let size: usize = x.iter().product();
    let made = |spread: bool| {
        let mut inputs = Inputs::new();
        let element = inputs.add(&x, wave(size, 0.3));
        let numbers = wave(3, 0.7);
        let channel = match spread {
            false => inputs.add(&[3, 1, 1], numbers),
            true => inputs.add(&x, written_out(&numbers, &[3, 1, 1], x)),
        };
        let state = inputs.add(&x, wave(size, 0.9));
        inputs.graph.begin("run");
        let [x, a, was] = std::array::from_fn(Expr::input);
        let op = Pointwise::new(&[x * (a.exp() + 1.0) + was, a.exp()]).updating(1, 2);
        let y = inputs.graph.op(Arc::new(op), &[element, channel, state]);
        inputs.graph.result("y", y.unwrap()[0]).unwrap();
        // The state stands behind y.
        let copied = Pointwise::new(&[Expr::input(0) * 1.5]);
        let after = inputs.graph.op1(Arc::new(copied), &[state]).unwrap();
        inputs.graph.result("after", after).unwrap();
        inputs
    };
    for result in [0, 1] {
        let [own, spread] = [false, true].map(|spread| {
            let mut inputs = made(spread);
            inputs.result = result;
            inputs.run(spread, Implementation::Optimized).0
        });
        assert_eq!(bits(&own), bits(&spread), "result {result}");
    }
}

/// Numbers of these extents, repeated for all elements of `to`.
fn written_out(numbers: &[f32], extents: &[usize], to: [usize; 4]) -> Vec<f32> {
    let size: usize = to.iter().product();
    let number = |i: usize| {
        let (mut rest, mut at, mut stride) = (i, 0, 1);
        for axis in (0..4).rev() {
            let place = rest % to[axis];
            rest /= to[axis];
            let own = (axis + extents.len())
                .checked_sub(4)
                .map_or(1, |k| extents[k]);
            at += place % own * stride;
            stride *= own;
        }
        numbers[at]
    };
    (0..size).map(number).collect()
}

/// By rows, by filters and image by image, with something at the end and without: what the reference says.
#[test]
fn few_images_are_cut_into_tasks() {
    for (images, [c, h, w], [f, kernel], stride, padding, groups) in [
        (1, [16, 32, 32], [16, 3], 1, 1, 1),
        (2, [16, 32, 32], [32, 3], 2, 1, 1),
        (3, [8, 24, 40], [12, 5], 1, 2, 1),
        (1, [16, 32, 32], [32, 1], 2, 0, 1),
        (1, [8, 25, 20], [24, 3], 1, 0, 1),
        (1, [12, 26, 19], [20, 3], 3, 2, 1),
        // More filters than pixels; groups; rows that nothing divides.
        (1, [64, 8, 8], [64, 3], 1, 1, 1),
        (2, [16, 20, 20], [32, 3], 1, 1, 2),
        (1, [16, 23, 23], [16, 3], 1, 1, 1),
    ] {
        // Nothing at the end, something, and what was there before beside it.
        for ending in [0, 1, 2] {
            let mut inputs = Inputs::new();
            let x = inputs.add(&[images, c, h, w], wave(images * c * h * w, 0.37));
            let filters = [f, c / groups, kernel, kernel];
            let weights = wave(filters.iter().product(), 0.21);
            let weights = inputs.add(&filters, weights);
            let bias = inputs.add(&[f, 1, 1], wave(f, 0.5));
            let conv = Conv2d {
                stride: [stride; 2],
                padding: [padding; 2],
                dilation: [1; 2],
                groups,
            };
            inputs.graph.begin("run");
            let made = inputs.graph.op1(Arc::new(conv), &[x, weights]).unwrap();
            let mut y = made;
            if ending > 0 {
                let op = Pointwise::new(&[(Expr::input(0) * 0.5 + Expr::input(1)).tanh()]);
                y = inputs.graph.op1(Arc::new(op), &[y, bias]).unwrap();
            }
            inputs.graph.result("y", y).unwrap();
            if ending > 1 {
                inputs.graph.result("made", made).unwrap();
            }
            let what = format!("{images} × {c} × {h} × {w}, {filters:?}, ending: {ending}");
            for result in 0..inputs.graph.results().len() {
                inputs.result = result;
                let (wanted, _) = inputs.run(true, Implementation::Reference);
                let (found, launches) = inputs.run(true, Implementation::Optimized);
                assert_eq!(launches.len(), 1, "{what}");
                let terms = (c / groups * kernel * kernel) as f32;
                for (i, (found, wanted)) in found.iter().zip(&wanted).enumerate() {
                    let bound = f32::EPSILON * terms.sqrt() * 8.0 * wanted.abs().max(1.0);
                    let close = (found - wanted).abs() < bound;
                    assert!(close, "{what}, result {result}, {i}: {found}, not {wanted}");
                }
            }
        }
    }
}

//! Literal fixtures from PyTorch, written by `tests/fixtures/pytorch.py`: functions with
//! their gradients, and whole networks after three steps of SGD. Ops that update in place,
//! are fused or draw are in `pytorch_steps.rs`.

mod common;

use std::collections::HashSet;
use std::sync::Arc;

use common::fixtures::{Tensor, compiled, hold_op, inputs_of, load};
use common::gpu;
use wgrad::book::nn::Network;
use wgrad::exec::cpu::{Cpu, Implementation};
use wgrad::exec::{Choice, Device, Executor};
use wgrad::graph::{Graph, Handle, Program};
use wgrad::model::{Pass, Variables};
use wgrad::ops::activation::{Activate, Activation};
use wgrad::ops::gather::{Expansion, Gather};
use wgrad::ops::matmul::Matmul;
use wgrad::ops::{COUNTER, NEXT, NOW, Op, TABLE, Tape, Value};
use wgrad::optim::TableSgd;
use wgrad::rng::{Stream, uniform};
use wgrad::run::Session;
use wgrad::shape::Type;

/// A step counter that holds the fixture's step at `word`.
fn counter(step: &Tensor, word: usize) -> (Tensor, Type) {
    let mut words = vec![0; COUNTER];
    words[word] = step.host.clone().integers().unwrap()[0];
    let counter = Tensor::u32(&[COUNTER], words);
    let ty = counter.ty();
    (counter, ty)
}

/// The op of each case.
fn ops() -> Vec<(&'static str, Arc<dyn Op>)> {
    use wgrad::ops::{
        Loss, add::Add, add_bias::AddBias, argmax::Argmax, avg_pool2d::AvgPool2d,
        broadcast::Broadcast, concat::Concat, conv2d::Conv2d, cross_entropy, dropout::Dropout,
        hadamard::Hadamard, log_likelihood, log_softmax::LogSoftmax, max_pool2d::MaxPool2d,
        pad::Pad, quadratic, reduce::Reduce, reshape::Reshape, scale::Scale, slice::Slice,
        softmax::Softmax,
    };
    let conv = |stride, padding, dilation, groups| -> Arc<dyn Op> {
        Arc::new(Conv2d {
            stride,
            padding,
            dilation,
            groups,
        })
    };
    let max = |kernel, stride, padding| -> Arc<dyn Op> {
        Arc::new(MaxPool2d {
            kernel,
            stride,
            padding,
        })
    };
    let mean = |kernel, stride, padding| -> Arc<dyn Op> {
        Arc::new(AvgPool2d {
            kernel,
            stride,
            padding,
        })
    };
    let dropout = |rescale| -> Arc<dyn Op> {
        Arc::new(Dropout {
            p: 0.3,
            layer: 5,
            rescale,
        })
    };
    let gather = Gather {
        batch: 6,
        images: 7,
        shape: [1, 5, 5],
        expansion: Expansion::Shifts,
        epoch_steps: 5,
        scale: 1.0 / 255.0,
        shuffled: true,
    };
    vec![
        ("activation.linear", Arc::new(Activate(Activation::Linear))),
        (
            "activation.sigmoid",
            Arc::new(Activate(Activation::Sigmoid)),
        ),
        ("activation.tanh", Arc::new(Activate(Activation::Tanh))),
        ("activation.relu", Arc::new(Activate(Activation::Relu))),
        ("add", Arc::new(Add)),
        ("add_bias.rows", Arc::new(AddBias)),
        ("add_bias.images", Arc::new(AddBias)),
        ("hadamard", Arc::new(Hadamard)),
        ("scale", Arc::new(Scale(0.3))),
        ("reduce.axis0", Arc::new(Reduce::new(Some(0), 1.0))),
        ("reduce.axis1", Arc::new(Reduce::new(Some(1), 0.5))),
        ("reduce.all", Arc::new(Reduce::new(None, 1.0))),
        (
            "broadcast",
            Arc::new(Broadcast {
                extents: vec![4, 3, 5],
                axis: Some(1),
                factor: 0.5,
            }),
        ),
        (
            "reshape",
            Arc::new(Reshape {
                extents: vec![2, 60],
            }),
        ),
        ("concat.axis0", Arc::new(Concat { axis: 0 })),
        ("concat.axis1", Arc::new(Concat { axis: 1 })),
        (
            "slice",
            Arc::new(Slice {
                axis: 1,
                start: 1,
                extent: 2,
                step: 1,
            }),
        ),
        (
            "pad",
            Arc::new(Pad {
                axis: 1,
                start: 1,
                extent: 5,
                step: 1,
            }),
        ),
        ("softmax", Arc::new(Softmax { axis: 1 })),
        ("log_softmax", Arc::new(LogSoftmax { axis: 1 })),
        ("argmax", Arc::new(Argmax)),
        ("log_likelihood", Arc::new(Loss::of(&log_likelihood::COST))),
        ("cross_entropy", Arc::new(Loss::of(&cross_entropy::COST))),
        ("quadratic", Arc::new(Loss::of(&quadratic::COST))),
        ("matmul.nn", Arc::new(Matmul::new(false, false))),
        ("matmul.nt", Arc::new(Matmul::new(false, true))),
        ("matmul.tn", Arc::new(Matmul::new(true, false))),
        ("matmul.tt", Arc::new(Matmul::new(true, true))),
        ("conv2d.plain", conv([1, 1], [0, 0], [1, 1], 1)),
        ("conv2d.stride", conv([2, 3], [0, 0], [1, 1], 1)),
        ("conv2d.padding", conv([1, 1], [2, 1], [1, 1], 1)),
        ("conv2d.dilation", conv([1, 1], [0, 0], [1, 2], 1)),
        ("conv2d.everything", conv([2, 1], [1, 2], [2, 1], 2)),
        ("conv2d.depthwise", conv([1, 1], [0, 0], [1, 1], 3)),
        ("max_pool2d.plain", max([2, 2], [2, 2], [0, 0])),
        ("max_pool2d.overlap", max([3, 2], [2, 1], [1, 1])),
        ("max_pool2d.ties", max([3, 3], [2, 2], [0, 0])),
        ("avg_pool2d.plain", mean([2, 2], [2, 2], [0, 0])),
        ("avg_pool2d.overlap", mean([3, 2], [2, 1], [1, 1])),
        ("dropout.book", dropout(false)),
        ("dropout.rescale", dropout(true)),
        ("gather", Arc::new(gather)),
    ]
}

#[test]
fn ops_equal_pytorch() {
    let fixtures = load("ops");
    let mut compared = 0;
    for (name, op) in ops() {
        let mut inputs = inputs_of(&fixtures, name);
        if name.starts_with("dropout") {
            let (keys, step) = (&fixtures["dropout.keys"], &fixtures["dropout.step"]);
            inputs.push((keys.clone(), keys.ty()));
            inputs.push(counter(step, NOW));
        }
        if name == "gather" {
            for (_, ty) in &mut inputs[..2] {
                *ty = ty.clone().shared();
            }
            inputs[2] = counter(&inputs[2].0, NEXT);
        }
        compared += hold_op(&fixtures, name, op, &inputs);
    }
    println!("{compared} tensors compared with PyTorch's");
    common::note("PyTorch", compared);
}

/// Every op of the table has a fixture, or there is nothing in PyTorch to hold it to.
#[test]
fn every_op_has_a_fixture() {
    let (fixtures, general) = (load("ops"), load("general"));
    let recurrent = load("recurrent");
    // Expressions are held by tests/expr.rs.
    let expressions = load("activations");
    let pointwise = expressions.contains_key("gelu").then_some("pointwise");
    let covered: HashSet<&str> = fixtures
        .keys()
        .chain(general.keys())
        .chain(recurrent.keys())
        .map(|k| k.split(['/', '.']).next().unwrap())
        .chain(pointwise)
        .collect();
    // Flips and crops that are drawn; a counter; rows that a counter picks; a generator and a permutation of wgrad's own (bits are held to a third
    // implementation by the dropout fixtures, and to each other by tests/epoch.rs).
    // What is detached is held as a model (tests/pytorch_models.rs), and squares by what clips (tests/optim.rs).
    let apart = [
        "advance",
        "augment",
        "detach",
        "finite",
        "init",
        "rows",
        "rows_pair",
        "shuffle",
        "squares",
    ];
    for row in TABLE {
        assert!(
            covered.contains(row.stem) != apart.contains(&row.stem),
            "{} has no fixture from PyTorch",
            row.stem
        );
    }
}

/// `count` numbers as `pytorch.py` makes them: uniform in [-1, 1).
fn numbers(stream: u32, count: usize) -> Vec<f32> {
    raw(stream, count)
        .into_iter()
        .map(|w| 2.0 * uniform(w) - 1.0)
        .collect()
}

fn raw(stream: u32, count: usize) -> Vec<u32> {
    let stream = Stream {
        seed: [2023, 0],
        replica: 0,
        stream,
    };
    let blocks = (0..count.div_ceil(4) as u32).flat_map(|i| stream.words(0, i));
    blocks.take(count).collect()
}

/// The book's networks without dropout.
fn networks() -> Vec<(&'static str, f32, Network)> {
    let conv = || {
        let network = Network::new([1, 28, 28]).conv2d(20, 5).max_pool2d(2).relu();
        network.conv2d(40, 5).max_pool2d(2).relu().flatten()
    };
    let a = conv()
        .dense(1000)
        .relu()
        .dense(1000)
        .relu()
        .dense(10)
        .softmax();
    let b = conv().dense(100).relu().dense(10).softmax();
    let d = Network::new([1, 28, 28])
        .flatten()
        .dense(30)
        .sigmoid()
        .dense(10)
        .sigmoid();
    let d = d.cost(wgrad::book::nn::Cost::CrossEntropy);
    vec![("a", 0.03, a), ("b", 0.03, b), ("d", 0.5, d)]
}

/// What three steps gave: the losses of each and the parameters after the last.
struct Steps {
    losses: Vec<f64>,
    parameters: Vec<Vec<f64>>,
}

/// What a training step is written, run and read by.
struct Step {
    x: Handle<f32>,
    y: Handle<u32>,
    seed: Handle<f32>,
    hyper: Handle<f32>,
    counter: Handle<u32>,
    train: Program,
    losses: Handle<f32>,
    weights: Vec<Handle<f32>>,
}

/// Three steps of SGD from the weights and over the images of `pytorch.py`.
fn three_steps<E: Executor + ?Sized>(
    network: &Network,
    (rate, draw): (f32, u32),
    step: &Step,
    session: &mut Session<E>,
    read: impl Fn(&mut Session<E>, Handle<f32>) -> Vec<f64>,
) -> Steps {
    session
        .write(step.hyper, &[0.0, 0.0, 0.0, 0.0, rate])
        .unwrap();
    session.fill(step.counter, 0).unwrap();
    session.fill(step.seed, 0.1).unwrap();
    let parameters = network.parameters().unwrap();
    let mut fan = 1;
    for (k, (p, &handle)) in parameters.iter().zip(&step.weights).enumerate() {
        let extents = p.ty.shape.extents();
        if extents.len() > 1 {
            fan = extents[1..].iter().product();
        }
        let scale = (1.0 / (fan as f64).sqrt()) as f32;
        let mut start = numbers(1000 + k as u32, p.ty.elements());
        start.iter_mut().for_each(|u| *u *= scale);
        session.write(handle, &start).unwrap();
    }
    let mut losses = Vec::new();
    for t in 0..3u32 {
        let mut images = numbers(2000 + draw + t, BATCH * 784);
        images.iter_mut().for_each(|u| *u = (*u + 1.0) / 2.0);
        let mut labels = raw(3000 + draw + t, BATCH);
        labels.iter_mut().for_each(|w| *w %= 10);
        session.write(step.x, &images).unwrap();
        session.write(step.y, &labels).unwrap();
        session.run(step.train, 1).unwrap();
        let each = read(session, step.losses);
        losses.push(each.iter().sum::<f64>() / BATCH as f64);
    }
    let mut parameters = Vec::new();
    for &handle in &step.weights {
        parameters.push(read(session, handle));
    }
    Steps { losses, parameters }
}

/// Holds three steps against PyTorch's: no parameter as a whole is off by more than
/// `tolerance` of its norm.
fn hold(name: &str, place: &str, steps: &Steps, tolerance: f64) {
    let fixtures = load("networks");
    for (t, loss) in steps.losses.iter().enumerate() {
        let wanted = f64::from(fixtures[&format!("{name}/loss{t}")].floats()[0]);
        let off = (loss - wanted).abs();
        assert!(
            off <= tolerance.max(1e-7) * wanted,
            "{place}: loss {loss}, PyTorch {wanted}"
        );
    }
    for (k, found) in steps.parameters.iter().enumerate() {
        let get = |part: &str| &fixtures[&format!("{name}/{k}/{part}")];
        let at = get("at").host.clone().integers().unwrap();
        let sample: Vec<f64> = get("sample")
            .floats()
            .iter()
            .map(|&w| f64::from(w))
            .collect();
        let off: f64 = at
            .iter()
            .zip(&sample)
            .map(|(&i, w)| (found[i as usize] - w).powi(2))
            .sum();
        let norm: f64 = sample.iter().map(|w| w * w).sum();
        // The sample is stored in f32.
        let allowed = tolerance.max(1e-7) * norm.sqrt();
        assert!(
            off.sqrt() <= allowed,
            "{place}, parameter {k}: sample off by {}",
            off.sqrt()
        );
        let signs = raw(4000 + k as u32, found.len());
        let signed = found
            .iter()
            .zip(&signs)
            .map(|(v, s)| if s & 1 == 1 { *v } else { -v });
        let norm = found.iter().map(|v| v * v).sum::<f64>().sqrt();
        let sums = [found.iter().sum::<f64>(), signed.sum(), norm];
        // A sum of n elements is off by √n times that at most (Cauchy and Schwarz).
        let root = (found.len() as f64).sqrt();
        for ((s, w), reach) in sums.iter().zip(&get("sums").wide).zip([root, root, 1.0]) {
            let allowed = tolerance * reach * norm;
            assert!(
                (s - w).abs() <= allowed,
                "{place}, parameter {k}: {s}, PyTorch {w} ± {allowed:e}"
            );
        }
    }
}

const BATCH: usize = 10;

/// Parameters equal PyTorch's to 1e-5 in f32, on every device, and to 1e-7 in f64 (the
/// learning rate itself is an f32).
#[test]
fn networks_equal_pytorch_after_three_steps() {
    for (name, rate, network) in networks() {
        let mut graph = Graph::new();
        let mut variables = Variables::default();
        let floats = |extents: &[usize]| Type::f32("case", extents).unwrap();
        let integers = |extents: &[usize]| Type::u32("case", extents).unwrap();
        let x = graph.input("x", floats(&[BATCH, 1, 28, 28])).unwrap();
        let y = graph.input("y", integers(&[BATCH])).unwrap();
        let seed = graph.input("seed", floats(&[BATCH])).unwrap();
        let hyper = graph.input("hyper", floats(&[5])).unwrap();
        let counter = graph.input("step", integers(&[COUNTER])).unwrap();
        let train = graph.begin("train");
        let forward = network
            .forward(&mut graph, &mut variables, x.value(), Pass::Evaluation)
            .unwrap();
        let losses = network
            .losses(&mut graph, forward.scores, y.value())
            .unwrap();
        let kept = graph.output("losses", losses).unwrap();
        let parameters = network.parameters().unwrap();
        let values = parameters.iter().map(|p| variables.value(&p.name).unwrap());
        let values: Vec<Value> = values.collect();
        let gradients = graph.gradients(losses, seed.value(), &values).unwrap();
        for (&w, g) in values.iter().zip(gradients) {
            let sgd = TableSgd {
                l2: false,
                l1: false,
                momentum: false,
                epoch_steps: 1,
            };
            let inputs = [g.unwrap(), w, hyper.value(), counter.value()];
            graph.op(Arc::new(sgd.update()), &inputs).unwrap();
        }
        let step = Step {
            x,
            y,
            seed,
            hyper,
            counter,
            train,
            losses: kept,
            weights: values.iter().map(|&w| graph.handle(w).unwrap()).collect(),
        };
        let compiled = compiled(&graph);
        let draw = load("networks")[&format!("{name}/draw")]
            .host
            .clone()
            .integers()
            .unwrap()[0];
        let wide = Cpu::<f64>::new(compiled.plan().clone(), Implementation::Reference).unwrap();
        let mut wide = Session::of(&compiled, Box::new(wide)).unwrap();
        let drawn = (rate, draw);
        let steps = three_steps(&network, drawn, &step, &mut wide, |session, handle| {
            session.values(0, handle).unwrap().to_vec()
        });
        hold(name, &format!("{name} in f64"), &steps, 1e-7);
        let mut devices = vec![Device::open(Choice::Cpu).unwrap()];
        devices.extend(gpu());
        for device in devices {
            let mut session = Session::open(&compiled, &device).unwrap();
            let steps = three_steps(&network, drawn, &step, &mut session, |session, handle| {
                let values = session.read(handle).unwrap();
                values.iter().copied().map(f64::from).collect()
            });
            hold(
                name,
                &format!("{name} on {}", device.info().name),
                &steps,
                1e-5,
            );
        }
    }
}

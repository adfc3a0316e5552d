//! The graph of a training session: its variables and the programs over them.
//!
//! | program | what it does |
//! |---|---|
//! | `init` | draws parameters, clears velocities and running means |
//! | `shuffle` | writes the epoch's permutation |
//! | `train` | one step: gather, distort, forward, cost, tally, backward, update, count |
//! | `average` | where asked for, after an epoch: takes the weights into their running mean |
//! | `check` | after an epoch: notes in the guard which of the buffers that are kept is not finite |
//! | `evaluate <set>` | one step over a set, held out or `training`: gather, forward, tally, count |

use std::collections::HashMap;
use std::sync::Arc;

use super::Settings;
use crate::data::Images;
use crate::error::{Error, Result};
use crate::graph::Graph;
use crate::nn::{Mode, Network, Parameter};
use crate::ops::advance::Advance;
use crate::ops::average::Average;
use crate::ops::constant::Constant;
use crate::ops::distort::distort;
use crate::ops::finite::Finite;
pub(super) use crate::ops::finite::KEPT;
use crate::ops::gather::{Expansion, Gather};
use crate::ops::init::{Distribution, Init};
use crate::ops::sgd::{HYPER, Sgd};
use crate::ops::shuffle::Shuffle;
use crate::ops::tally::Tally;
use crate::ops::{COUNTER, Tape, Value};
use crate::shape::Type;

/// Floats in a set's metrics: sum of losses, correct, seen, sum of the block under way (see
/// [`Tally`]).
pub(super) const METRICS: usize = 4;
/// Words in a set's guard: 1 + step of the first loss that was not finite, its row, 1 + number
/// of the first buffer of [`kept`] that was not (at [`KEPT`]), unused.
pub(super) const GUARD: usize = 4;

/// The name of the pass that evaluates the training images.
pub(super) const TRAINING: &str = "training";

/// The name of a parameter's velocity.
pub(super) fn velocity(parameter: &str) -> String {
    format!("{parameter} velocity")
}

/// The name of a parameter's running mean.
pub(super) fn average(parameter: &str) -> String {
    format!("{parameter} average")
}

/// The buffers that are kept of a session between epochs: each parameter, its velocity where
/// there is momentum, its mean where one is taken.
pub(super) fn kept(parameters: &[Parameter], settings: &Settings) -> Vec<String> {
    let each = parameters.iter().flat_map(|p| {
        let velocity = (settings.momentum > 0.0).then(|| velocity(&p.name));
        let mean = settings.average_from.map(|_| average(&p.name));
        [Some(p.name.clone()), velocity, mean]
    });
    each.flatten().collect()
}

/// A session's graph and the facts that go with it.
pub(super) struct Programs {
    pub graph: Graph,
    pub parameters: Vec<Parameter>,
    /// Training steps in an epoch.
    pub steps: usize,
}

/// A data set's variables in the graph.
struct Set {
    images: Value,
    labels: Value,
    step: Value,
    metrics: Value,
    guard: Value,
}

/// The buffers of images, `<name> images` and `<name> labels`.
pub(super) fn pixels(graph: &mut Graph, name: &str, images: &Images) -> Result<[Value; 2]> {
    let words = images.pixels.len().div_ceil(4);
    let shared = |extents: &[usize]| Type::u32(name, extents).map(Type::shared);
    Ok([
        graph.variable(&format!("{name} images"), shared(&[words])?)?,
        graph.variable(&format!("{name} labels"), shared(&[images.len()])?)?,
    ])
}

/// Adds the variables of a pass called `name` over images that are there.
fn set(graph: &mut Graph, name: &str, [images, labels]: [Value; 2]) -> Result<Set> {
    Ok(Set {
        images,
        labels,
        step: graph.variable(&format!("{name} step"), Type::u32(name, &[COUNTER])?)?,
        metrics: graph.variable(&format!("{name} metrics"), Type::f32(name, &[METRICS])?)?,
        guard: graph.variable(&format!("{name} guard"), Type::u32(name, &[GUARD])?)?,
    })
}

pub(super) fn gather(
    network: &Network,
    images: &Images,
    batch: usize,
    expansion: Expansion,
    steps: usize,
    shuffled: bool,
) -> Gather {
    Gather {
        batch,
        images: images.len(),
        shape: network.input,
        expansion,
        epoch_steps: steps,
        scale: 1.0 / 255.0,
        shuffled,
    }
}

/// The network must take the images it is given, and have one output for each of their classes.
pub(super) fn check_images(network: &Network, images: &Images) -> Result<()> {
    check_size(network, images)?;
    let outputs = network.outputs()?;
    if outputs != images.classes && !(outputs == 1 && images.classes <= 2) {
        return Err(wrong_outputs(outputs, images));
    }
    Ok(())
}

/// The network must take the images it is given, and have an output for each of their classes;
/// images that it is only asked about need not have all the classes that it knows.
pub(super) fn check_asked(network: &Network, images: &Images) -> Result<()> {
    check_size(network, images)?;
    let outputs = network.outputs()?;
    if outputs < images.classes && !(outputs == 1 && images.classes <= 2) {
        return Err(wrong_outputs(outputs, images));
    }
    Ok(())
}

fn wrong_outputs(outputs: usize, images: &Images) -> Error {
    let (classes, name) = (images.classes, &images.name);
    Error::shape(
        "output",
        format!("{outputs} outputs for the {classes} classes of {name}"),
        format!(
            "one output for each class, labels being 0 to {}",
            classes - 1
        ),
    )
}

fn check_size(network: &Network, images: &Images) -> Result<()> {
    let found = [1, images.height, images.width];
    if network.input != found {
        return Err(Error::shape(
            "input",
            format!("images {found:?} from {}", images.name),
            format!("{:?} as the network was described", network.input),
        ));
    }
    Ok(())
}

/// Adds the program that evaluates `images` under `name`; returns its steps.
pub(super) fn evaluation(
    graph: &mut Graph,
    network: &Network,
    variables: &mut HashMap<String, Value>,
    name: &str,
    images: &Images,
    batch: usize,
) -> Result<usize> {
    let buffers = pixels(graph, name, images)?;
    evaluation_of(graph, network, variables, (name, images, buffers), batch)
}

/// [`evaluation`] of images whose buffers are there.
fn evaluation_of(
    graph: &mut Graph,
    network: &Network,
    variables: &mut HashMap<String, Value>,
    (name, images, buffers): (&str, &Images, [Value; 2]),
    batch: usize,
) -> Result<usize> {
    let batch = batch.min(images.len());
    let steps = images.len().div_ceil(batch);
    let set = set(graph, name, buffers)?;
    let ty = Type::u32(name, &[images.len()])?;
    let predictions = graph.variable(&format!("{name} predictions"), ty)?;
    graph.begin(&format!("evaluate {name}"));
    graph.label("gather");
    let gather = gather(network, images, batch, Expansion::None, steps, false);
    let xy = graph.op(Arc::new(gather), &[set.images, set.labels, set.step])?;
    let forward = network.forward(graph, variables, xy[0], Mode::Evaluate)?;
    let losses = network.losses(graph, forward.scores, xy[1])?;
    graph.label("tally");
    let tally = Tally {
        count: images.len(),
        epoch_steps: steps,
        predict: true,
    };
    let inputs = [
        forward.output,
        losses,
        xy[1],
        set.step,
        set.metrics,
        set.guard,
        predictions,
    ];
    graph.op(Arc::new(tally), &inputs)?;
    graph.result(&format!("{name} output"), forward.output)?;
    graph.label("step");
    graph.op(Arc::new(Advance), &[set.step])?;
    Ok(steps)
}

/// Builds the session's graph.
pub(super) fn build(
    network: &Network,
    settings: &Settings,
    train: &Images,
    held_out: &[(&str, &Images)],
) -> Result<Programs> {
    let parameters = network.parameters()?;
    check_images(network, train)?;
    settings.check(train.len())?;
    let count = train.len() * settings.expansion.factor();
    let steps = count / settings.batch;
    let mut graph = Graph::new();
    let mut variables = HashMap::new();

    let keys = graph.variable("keys", Type::u32("keys", &[4])?)?;
    let schedule = settings.learning_rates.len();
    let hyper = graph.variable("hyper", Type::f32("hyper", &[HYPER + schedule])?)?;
    let order = graph.variable("order", Type::u32("order", &[count])?)?;
    let buffers = pixels(&mut graph, "train", train)?;
    let set = set(&mut graph, "train", buffers)?;

    graph.begin("train");
    graph.label("gather");
    let gather = gather(
        network,
        train,
        settings.batch,
        settings.expansion,
        steps,
        true,
    );
    let xy = graph.op(Arc::new(gather), &[set.images, set.labels, set.step, order])?;
    graph.label("distort");
    let x = distort(&mut graph, settings.distortion, xy[0], [keys, set.step])?;
    let mode = Mode::Train {
        keys,
        step: set.step,
    };
    let forward = network.forward(&mut graph, &mut variables, x, mode)?;
    let losses = network.losses(&mut graph, forward.scores, xy[1])?;
    graph.label("tally");
    let tally = Tally {
        count,
        epoch_steps: steps,
        predict: false,
    };
    // With one output the decision is at ½ of the activation; else any monotonic
    // function of the activations has the same maximum, and the last one is spared.
    let scores = if network.outputs()? == 1 {
        forward.output
    } else {
        forward.scores
    };
    graph.op(
        Arc::new(tally),
        &[scores, losses, xy[1], set.step, set.metrics, set.guard],
    )?;
    let values: Vec<Value> = parameters.iter().map(|p| variables[&p.name]).collect();
    // The cost is the mean of the losses.
    let mean = Constant {
        extents: vec![settings.batch],
        value: 1.0 / settings.batch as f64,
    };
    graph.label("cost backward");
    let seed = graph.op1(Arc::new(mean), &[])?;
    let gradients = graph.gradients(losses, seed, &values)?;
    let mut velocities = Vec::new();
    for ((p, &w), g) in parameters.iter().zip(&values).zip(gradients) {
        let g = g.ok_or_else(|| {
            Error::setting(&p.name, "no influence on the cost", "every parameter used")
        })?;
        graph.label(format!("{} update", p.name));
        let sgd = Sgd {
            decay: p.decay,
            momentum: settings.momentum > 0.0,
            epoch_steps: steps,
            schedule,
        };
        let mut inputs = vec![g, w, hyper, set.step];
        if sgd.momentum {
            let v = graph.variable(&velocity(&p.name), p.ty.clone())?;
            velocities.push((p, v));
            inputs.push(v);
        }
        graph.op(Arc::new(sgd), &inputs)?;
    }
    graph.label("step");
    graph.op(Arc::new(Advance), &[set.step])?;

    graph.begin("shuffle");
    graph.label("shuffle");
    let shuffle = Shuffle {
        n: count,
        epoch_steps: steps,
    };
    graph.op(Arc::new(shuffle), &[order, keys, set.step])?;

    let mut means = Vec::new();
    if settings.average_from.is_some() {
        for p in &parameters {
            let mean = graph.variable(&average(&p.name), p.ty.clone())?;
            means.push((p, mean));
        }
    }

    graph.begin("init");
    let constant = |value| Distribution::Constant { value };
    let starts = parameters
        .iter()
        .zip(&values)
        .map(|(p, &w)| (p.name.as_str(), w, p.distribution));
    let zeros = velocities
        .iter()
        .map(|(p, v)| (p.name.as_str(), *v, constant(0.0)));
    let cleared = means
        .iter()
        .map(|(p, v)| (p.name.as_str(), *v, constant(0.0)));
    for (number, (name, value, distribution)) in starts.chain(zeros).chain(cleared).enumerate() {
        graph.label(format!("{name} init"));
        let init = Init {
            distribution,
            parameter: number as u32,
        };
        graph.op(Arc::new(init), &[value, keys])?;
    }

    let mut named: HashMap<String, Value> = variables.clone();
    named.extend(velocities.iter().map(|(p, v)| (velocity(&p.name), *v)));
    if let Some(from) = settings.average_from {
        graph.begin("average");
        for (&(p, mean), &w) in means.iter().zip(&values) {
            graph.label(format!("{} average", p.name));
            let op = Average {
                epoch_steps: steps,
                from,
            };
            graph.op(Arc::new(op), &[mean, w, set.step])?;
            named.insert(average(&p.name), mean);
            // What is evaluated from here on is the mean.
            variables.insert(p.name.clone(), mean);
        }
    }

    graph.begin("check");
    for (number, name) in kept(&parameters, settings).into_iter().enumerate() {
        graph.label(format!("{name} check"));
        let finite = Finite {
            number: number as u32,
        };
        graph.op(Arc::new(finite), &[named[&name], set.guard])?;
    }

    if settings.measure_training {
        evaluation_of(
            &mut graph,
            network,
            &mut variables,
            (TRAINING, train, buffers),
            settings.evaluation_batch,
        )?;
    }
    for (name, images) in held_out {
        check_images(network, images)?;
        evaluation(
            &mut graph,
            network,
            &mut variables,
            name,
            images,
            settings.evaluation_batch,
        )?;
    }
    Ok(Programs {
        graph,
        parameters,
        steps,
    })
}

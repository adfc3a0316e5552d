//! The graph of a training session: its variables and the programs over them.
//!
//! | program | what it does |
//! |---|---|
//! | `init` | draws parameters, clears velocities and running means |
//! | `shuffle` | writes the epoch's permutation |
//! | `train` | one step: gather, distort, forward, cost, metrics, backward, update, count |
//! | `average` | where asked for, after an epoch: takes the weights into their running mean |
//! | `check` | after an epoch: notes in the guard which of the buffers that are kept is not finite |
//! | `evaluate <set>` | one step over a set, held out or `training`: gather, forward, metrics, count |

use std::sync::Arc;

use super::Settings;
use crate::book::nn::{Network, Parameter};
use crate::data::{Images, Split};
use crate::error::{Error, Result};
use crate::graph::{Graph, Handle, Program};
use crate::model::{Pass, Variables};
use crate::ops::advance::Advance;
use crate::ops::average::Average;
use crate::ops::constant::Constant;
use crate::ops::distort::distort;
use crate::ops::epoch_metrics::EpochMetrics;
use crate::ops::finite::Finite;
pub(super) use crate::ops::finite::KEPT;
use crate::ops::gather::{Expansion, Gather};
use crate::ops::init::{Distribution, Init};
use crate::ops::shuffle::Shuffle;
use crate::ops::{COUNTER, NEXT, Tape, Value};
use crate::optim::TableSgd;
use crate::rng::streams;
use crate::run::Session;
use crate::shape::Type;
use crate::tensor::pack;

/// Floats in a set's metrics: sum of losses, correct, seen, sum of the block under way (see
/// [`EpochMetrics`]).
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

/// A buffer that is kept of a session between epochs.
#[derive(Clone, Debug)]
pub(super) struct Kept {
    /// What it is called in messages and in checkpoints.
    pub name: String,
    pub handle: Handle<f32>,
}

/// A session's graph and the facts that go with it.
pub(super) struct Programs {
    pub graph: Graph,
    pub parameters: Vec<Parameter>,
    pub handles: Handles,
}

/// What a session is run, written and read by.
#[derive(Clone, Debug)]
pub(super) struct Handles {
    pub keys: Handle<u32>,
    pub hyper: Handle<f32>,
    pub images: Pixels,
    pub train: Round,
    pub shuffle: Program,
    pub init: Program,
    pub average: Option<Program>,
    pub check: Program,
    /// Each parameter, its velocity where there is momentum, its mean where one is taken.
    pub kept: Vec<Kept>,
    /// Each parameter.
    pub weights: Vec<Handle<f32>>,
    /// The running mean of each, where one is taken.
    pub means: Option<Vec<Handle<f32>>>,
    /// The pass that evaluates the training images, where they are measured.
    pub training: Option<Evaluating>,
    pub validation: (Pixels, Evaluating),
    pub test: (Pixels, Evaluating),
}

/// The buffers of a set of images, which all replicas share.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pixels {
    pub images: Handle<u32>,
    pub labels: Handle<u32>,
}

impl Pixels {
    /// The buffers `<name> images` and `<name> labels`.
    pub(super) fn of(graph: &mut Graph, name: &str, images: &Images) -> Result<Self> {
        let words = images.pixels.len().div_ceil(4);
        let shared = |extents: &[usize]| Type::u32(name, extents).map(Type::shared);
        Ok(Self {
            images: graph.input(&format!("{name} images"), shared(&[words])?)?,
            labels: graph.input(&format!("{name} labels"), shared(&[images.len()])?)?,
        })
    }

    /// Uploads the set.
    pub(super) fn write(self, session: &mut Session, images: &Images) -> Result<()> {
        session.write(self.images, &pack(&images.pixels))?;
        let labels: Vec<u32> = images.labels.iter().map(|&l| u32::from(l)).collect();
        session.write(self.labels, &labels)
    }
}

/// A round over images: the program of one step, and what its steps count and add to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Round {
    pub program: Program,
    /// Steps of the whole pass.
    pub steps: usize,
    pub step: Handle<u32>,
    pub metrics: Handle<f32>,
    pub guard: Handle<u32>,
}

impl Round {
    /// Sets the step counter to 0 and clears what steps add to.
    pub(super) fn begin(self, session: &mut Session) -> Result<()> {
        self.count_from(session, 0)?;
        session.fill(self.metrics, 0.0)?;
        session.fill(self.guard, 0)
    }

    /// Sets every replica's counter to where `next` is the step to come.
    pub(super) fn count_from(self, session: &mut Session, next: u32) -> Result<()> {
        let mut counter = [0; COUNTER];
        counter[NEXT] = next;
        session.write_each(self.step, &counter)
    }
}

/// A pass that answers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Evaluating {
    pub pass: Round,
    pub predictions: Handle<u32>,
    /// The last layer's activations.
    pub output: Handle<f32>,
}

impl Evaluating {
    /// [`Round::begin`].
    pub(super) fn begin(self, session: &mut Session) -> Result<()> {
        self.pass.begin(session)?;
        session.fill(self.predictions, 0)
    }

    /// Runs the whole pass.
    pub(super) fn run(self, session: &mut Session) -> Result<()> {
        session.run(self.pass.program, self.pass.steps as u64)
    }
}

/// The variables of a pass that is called `name`.
struct Counts {
    step: Handle<u32>,
    metrics: Handle<f32>,
    guard: Handle<u32>,
}

impl Counts {
    fn of(graph: &mut Graph, name: &str) -> Result<Self> {
        Ok(Self {
            step: graph.input(&format!("{name} step"), Type::u32(name, &[COUNTER])?)?,
            metrics: graph.input(&format!("{name} metrics"), Type::f32(name, &[METRICS])?)?,
            guard: graph.input(&format!("{name} guard"), Type::u32(name, &[GUARD])?)?,
        })
    }

    fn pass(self, program: Program, steps: usize) -> Round {
        Round {
            program,
            steps,
            step: self.step,
            metrics: self.metrics,
            guard: self.guard,
        }
    }
}

/// Each parameter's handle, from the values that a forward pass has noted by name.
pub(super) fn weights(
    graph: &Graph,
    parameters: &[Parameter],
    variables: &Variables,
) -> Result<Vec<Handle<f32>>> {
    let each = parameters
        .iter()
        .map(|p| graph.handle(variables.value(&p.name)?));
    each.collect()
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

/// Adds the program `evaluate <name>` over images whose buffers are there.
pub(super) fn evaluation(
    graph: &mut Graph,
    network: &Network,
    variables: &mut Variables,
    (name, images, pixels): (&str, &Images, Pixels),
    batch: usize,
) -> Result<Evaluating> {
    let batch = batch.min(images.len());
    let steps = images.len().div_ceil(batch);
    let counts = Counts::of(graph, name)?;
    let ty = Type::u32(name, &[images.len()])?;
    let predictions = graph.input(&format!("{name} predictions"), ty)?;
    let program = graph.begin(&format!("evaluate {name}"));
    graph.label("gather");
    let gather = gather(network, images, batch, Expansion::None, steps, false);
    let set = [pixels.images, pixels.labels, counts.step].map(Handle::value);
    let xy = graph.op(Arc::new(gather), &set)?;
    let forward = network.forward(graph, variables, xy[0], Pass::Evaluation)?;
    let losses = network.losses(graph, forward.scores, xy[1])?;
    graph.label("metrics");
    let op = EpochMetrics {
        count: images.len(),
        epoch_steps: steps,
        predict: true,
        keeps: false,
    };
    let inputs = [
        forward.output,
        losses,
        xy[1],
        counts.step.value(),
        counts.metrics.value(),
        counts.guard.value(),
        predictions.value(),
    ];
    graph.op(Arc::new(op), &inputs)?;
    let output = graph.output(&format!("{name} output"), forward.output)?;
    graph.label("step");
    graph.op(Arc::new(Advance), &[counts.step.value()])?;
    Ok(Evaluating {
        pass: counts.pass(program, steps),
        predictions,
        output,
    })
}

/// Builds the session's graph.
pub(super) fn build(network: &Network, settings: &Settings, data: &Split) -> Result<Programs> {
    let train = &data.train;
    let parameters = network.parameters()?;
    check_images(network, train)?;
    settings.check(train.len())?;
    let count = train.len() * settings.expansion.factor();
    let steps = count / settings.batch;
    let mut graph = Graph::new();
    let mut variables = Variables::default();

    let keys = graph.input("keys", Type::u32("keys", &[4])?)?;
    let schedule = settings.learning_rates.len();
    let hyper = graph.input("hyper", TableSgd::table(schedule)?)?;
    let order = graph.variable("order", Type::u32("order", &[count])?)?;
    let images = Pixels::of(&mut graph, "train", train)?;
    let counts = Counts::of(&mut graph, "train")?;
    let (key, step) = (keys.value(), counts.step.value());

    let program = graph.begin("train");
    graph.label("gather");
    let gather = gather(
        network,
        train,
        settings.batch,
        settings.expansion,
        steps,
        true,
    );
    let set = [images.images.value(), images.labels.value(), step, order];
    let xy = graph.op(Arc::new(gather), &set)?;
    graph.label("distort");
    let distortion = settings.distortion;
    let x = distort(&mut graph, distortion, streams::DISTORT, xy[0], [key, step])?;
    let pass = Pass::Training { keys: key, step };
    let forward = network.forward(&mut graph, &mut variables, x, pass)?;
    let losses = network.losses(&mut graph, forward.scores, xy[1])?;
    graph.label("metrics");
    let op = EpochMetrics {
        count,
        epoch_steps: steps,
        predict: false,
        keeps: false,
    };
    // With one output the decision is at ½ of the activation; else any monotonic
    // function of the activations has the same maximum, and the last one is spared.
    let scores = if network.outputs()? == 1 {
        forward.output
    } else {
        forward.scores
    };
    let (metrics, guard) = (counts.metrics.value(), counts.guard.value());
    let inputs = [scores, losses, xy[1], step, metrics, guard];
    graph.op(Arc::new(op), &inputs)?;
    let values: Vec<Value> = (parameters.iter())
        .map(|p| variables.value(&p.name))
        .collect::<Result<_>>()?;
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
        let sgd = TableSgd {
            l2: p.decay && settings.l2.lambda() != 0.0,
            l1: p.decay && settings.l1.lambda() != 0.0,
            momentum: settings.momentum > 0.0,
            epoch_steps: steps,
        };
        let mut inputs = vec![g, w, hyper.value()];
        if sgd.momentum {
            let v = graph.variable(&velocity(&p.name), p.ty.clone())?;
            velocities.push((p, v));
            inputs.push(v);
        }
        inputs.push(step);
        graph.op(Arc::new(sgd.update()), &inputs)?;
    }
    graph.label("step");
    graph.op(Arc::new(Advance), &[step])?;
    let pass = counts.pass(program, steps);

    let shuffled = graph.begin("shuffle");
    graph.label("shuffle");
    let shuffle = Shuffle {
        n: count,
        epoch_steps: steps,
    };
    graph.op(Arc::new(shuffle), &[order, key, step])?;

    let mut means = Vec::new();
    if settings.average_from.is_some() {
        for p in &parameters {
            let mean = graph.variable(&average(&p.name), p.ty.clone())?;
            means.push((p, mean));
        }
    }

    let init = graph.begin("init");
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
        let draw = Init {
            distribution,
            parameter: number as u32,
        };
        graph.op(Arc::new(draw), &[value, key])?;
    }

    let weights = weights(&graph, &parameters, &variables)?;
    let mut taken = None;
    if let Some(from) = settings.average_from {
        taken = Some(graph.begin("average"));
        for (&(p, mean), &w) in means.iter().zip(&values) {
            graph.label(format!("{} average", p.name));
            let op = Average {
                epoch_steps: steps,
                from,
            };
            graph.op(Arc::new(op), &[mean, w, step])?;
            // What is evaluated from here on is the mean.
            variables.bind(&p.name, p.ty.clone(), mean);
        }
    }

    let check = graph.begin("check");
    let mut kept = Vec::new();
    for (k, p) in parameters.iter().enumerate() {
        let velocity = velocities.get(k).map(|(_, v)| (velocity(&p.name), *v));
        let mean = means.get(k).map(|(_, v)| (average(&p.name), *v));
        let weight = Some((p.name.clone(), values[k]));
        for (name, value) in [weight, velocity, mean].into_iter().flatten() {
            graph.label(format!("{name} check"));
            let finite = Finite {
                number: kept.len() as u32,
            };
            graph.op(Arc::new(finite), &[value, guard])?;
            let handle = graph.handle(value)?;
            kept.push(Kept { name, handle });
        }
    }
    let means = means.iter().map(|(_, v)| graph.handle(*v));
    let means: Vec<Handle<f32>> = means.collect::<Result<_>>()?;

    let batch = settings.evaluation_batch;
    let mut training = None;
    if settings.measure_training {
        let set = (TRAINING, train, images);
        training = Some(evaluation(&mut graph, network, &mut variables, set, batch)?);
    }
    let mut held_out = |name: &str, images: &Images| {
        check_images(network, images)?;
        let pixels = Pixels::of(&mut graph, name, images)?;
        let set = (name, images, pixels);
        let evaluation = evaluation(&mut graph, network, &mut variables, set, batch)?;
        Ok::<_, Error>((pixels, evaluation))
    };
    let handles = Handles {
        validation: held_out("validation", &data.validation)?,
        test: held_out("test", &data.test)?,
        keys,
        hyper,
        images,
        train: pass,
        shuffle: shuffled,
        init,
        average: taken,
        check,
        kept,
        weights,
        means: settings.average_from.map(|_| means),
        training,
    };
    Ok(Programs {
        graph,
        parameters,
        handles,
    })
}

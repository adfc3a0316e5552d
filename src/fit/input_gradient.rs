//! Gradients with respect to a model's inputs: what an output or a loss depends on, and how to change an
//! example so that it becomes another number.

use std::sync::Arc;

use super::cost::{LOSS_STREAMS, weighted};
use super::inference::{Extra, Inference, Outputs};
use super::loss::Loss;
use super::resident::Need;
use super::weights::Weights;
use crate::data::{Dataset, Numbers};
use crate::error::{Error, Result};
use crate::exec::Device;
use crate::graph::Graph;
use crate::model::{Input, Model, Pass, Scope, Variables};
use crate::ops::constant::{Constant, zeros_like};
use crate::ops::{Tape, Value};
use crate::shape::DType;
use crate::tensor::View;

/// The column of the upstream gradient of an output.
const UPSTREAM: &str = "upstream";

/// Gradients with respect to the inputs of a model with weights, compiled for mini-batches up to a size:
/// saliency, adversarial examples, style transfer. The model evaluates: nothing is random, and every
/// example is for itself, however many there are.
///
/// ```
/// use wgrad::exec::{Choice, Device};
/// use wgrad::fit::{InputGradient, Loss, Weights};
/// use wgrad::model::{Input, Model, layers::*};
///
/// let model = Model::sequential(Input::f32([4])).then(Dense::new(8)).then(Tanh).then(Dense::new(3)).build()?;
/// let (weights, device) = (Weights::initial(&model, 1), Device::open(Choice::Cpu)?);
/// let image = [0.3f32, -0.2, 0.9, 0.1];
///
/// // What the score of class 2 depends on.
/// let saliency = InputGradient::of_output(&model, &weights, "output", 1, &device)?;
/// let found = saliency.run(&[("input", (&image[..]).into()), ("upstream", (&[0.0f32, 0.0, 1.0][..]).into())])?;
/// assert_eq!(found.gradients["input"].shape(), [1, 4]);
///
/// // A step along the sign of the loss's gradient makes the loss larger (Goodfellow et al. 2015).
/// let attack = InputGradient::of_loss(&model, &weights, &Loss::cross_entropy(), 1, &device)?;
/// let run = |x: &[f32]| attack.run(&[("input", x.into()), ("target", (&[1u32][..]).into())]);
/// let before = run(&image)?;
/// let slopes = before.gradients["input"].iter();
/// let moved: Vec<f32> = image.iter().zip(slopes).map(|(x, slope)| x + 0.1 * slope.signum()).collect();
/// assert!(run(&moved)?.losses[0] > before.losses[0]);
/// # Ok::<(), wgrad::Error>(())
/// ```
#[derive(Debug)]
pub struct InputGradient {
    net: Inference,
    outputs: Vec<String>,
    gradients: Vec<String>,
    /// What is wanted of the loss's targets.
    targets: Vec<Need>,
}

/// What [`InputGradient::run`] finds.
#[derive(Clone, Debug)]
pub struct Gradients {
    /// The model's outputs by name, `[N, …]`.
    pub outputs: Outputs,
    /// The loss of each example; none for the gradient of an output.
    pub losses: Vec<f32>,
    /// The gradient of each input of floats by name, of the input's extents `[N, …]`.
    pub gradients: Outputs,
}

/// The name that a gradient goes by among outputs.
fn gradient_of(input: &str) -> String {
    format!("gradient of {input}")
}

/// The name that the losses go by among outputs.
const LOSSES: &str = "loss of each example";

impl InputGradient {
    /// Of an output, times an upstream gradient that [`InputGradient::run`] is given as `upstream`, of the
    /// output's extents: Σₖ upstreamₖ ∂yₖ/∂x, as `torch.autograd.grad(y, x, upstream)`. With 1 for one
    /// element and 0 for all others, it is the gradient of that element.
    ///
    /// # Errors
    /// As [`Inference::new`]; [`Error::UnknownName`] for an output that the model lacks,
    /// [`Error::Setting`] for a model without an input of floats, or with one named `upstream`.
    pub fn of_output(
        model: &Model,
        weights: &Weights,
        output: &str,
        batch: usize,
        device: &Device,
    ) -> Result<Self> {
        let example = model.output(output)?.clone();
        if model.inputs().any(|(name, _)| name == UPSTREAM) {
            let wanted = "inputs by other names than the upstream gradient's";
            return Err(Error::setting("input", UPSTREAM, wanted));
        }
        let place = model.outputs().position(|(name, _)| name == output);
        let net = Inference::with(
            model,
            weights,
            batch,
            device,
            |graph, _, inputs, outputs| {
                let seed = graph.variable(UPSTREAM, example.of_batch(UPSTREAM, batch)?)?;
                let gradients = gradients(graph, outputs[place.unwrap_or(0)], seed, inputs)?;
                Ok(Extra {
                    inputs: vec![(UPSTREAM.into(), example, seed)],
                    outputs: gradients,
                })
            },
        )?;
        Self::made(net, model, vec![])
    }

    /// Of the loss of each example with respect to that example; [`InputGradient::run`] is given the
    /// loss's targets as well, by the names of their columns. PyTorch's gradient of the mean loss is this
    /// divided by the number of examples. Weights of classes count, and nothing is divided by them.
    ///
    /// # Errors
    /// As [`Inference::new`]; what of the loss does not fit the model; [`Error::Setting`] for a model
    /// without an input of floats.
    pub fn of_loss(
        model: &Model,
        weights: &Weights,
        loss: &Loss,
        batch: usize,
        device: &Device,
    ) -> Result<Self> {
        let mut targets = Vec::new();
        for term in loss.terms() {
            targets.extend(Need::of_targets(term, &term.targets(model)?, model)?);
        }
        let net = Inference::with(
            model,
            weights,
            batch,
            device,
            |graph, variables, inputs, outputs| {
                let mut targets: Vec<(String, Input, Value)> = Vec::new();
                let each = of_examples(
                    graph,
                    variables,
                    model,
                    loss,
                    outputs,
                    &mut |graph, name, input| {
                        let known = inputs
                            .iter()
                            .chain(&targets)
                            .find(|(other, ..)| other == name);
                        if let Some((_, known, value)) = known {
                            if known == input {
                                return Ok(*value);
                            }
                            let place = format!("column {name}");
                            let (found, wanted) = (format!("{known:?}"), format!("{input:?}"));
                            return Err(Error::shape(place, found, wanted));
                        }
                        let ty = input.of_batch(name, batch)?;
                        let value = graph.variable(&format!("column {name}"), ty)?;
                        targets.push((name.into(), input.clone(), value));
                        Ok(value)
                    },
                )?;
                let one = Constant {
                    extents: vec![batch],
                    value: 1.0,
                };
                let seed = graph.op1(Arc::new(one), &[])?;
                let mut gradients = gradients(graph, each, seed, inputs)?;
                gradients.push((LOSSES.into(), Input::f32([]), each));
                Ok(Extra {
                    inputs: targets,
                    outputs: gradients,
                })
            },
        )?;
        Self::made(net, model, targets)
    }

    fn made(net: Inference, model: &Model, targets: Vec<Need>) -> Result<Self> {
        let floats = model
            .inputs()
            .filter(|(_, input)| input.dtype == DType::F32);
        Ok(Self {
            net,
            outputs: model.outputs().map(|(name, _)| name.into()).collect(),
            gradients: floats.map(|(name, _)| name.into()).collect(),
            targets,
        })
    }

    /// Outputs, losses and gradients of any number of examples, given every input by name and beside them
    /// `upstream` or the loss's targets, example after example.
    ///
    /// # Errors
    /// As [`Inference::run`]; [`Error::Setting`] for a class that there is not and for targets that are not
    /// what the loss wants ([`Criterion::floats`](super::Criterion::floats)).
    pub fn run(&self, columns: &[(&str, View<'_>)]) -> Result<Gradients> {
        for need in &self.targets {
            let found = columns.iter().find(|(other, _)| *other == need.column);
            let numbers: Numbers = match found {
                Some((_, View::U32(all))) if need.input.dtype == DType::U32 => (*all).into(),
                Some((_, View::F32(all))) if need.input.dtype == DType::F32 => (*all).into(),
                // What is missing, of another type or no whole number of examples is refused below.
                _ => continue,
            };
            match Dataset::new().with(&need.column, &need.input.extents, numbers) {
                Ok(data) => need.check(&data)?,
                // Numbers that are not finite.
                Err(e @ Error::Setting { .. }) => return Err(e),
                Err(_) => {}
            }
        }
        self.taken(self.net.run(columns)?)
    }

    /// [`InputGradient::run`] of every row of a data set that has all these as columns.
    ///
    /// # Errors
    /// As [`InputGradient::run`].
    pub fn run_on(&self, data: &Dataset) -> Result<Gradients> {
        let columns = self.net.columns(data)?;
        let views: Vec<(&str, View<'_>)> = columns.iter().map(|(n, h)| (*n, h.view())).collect();
        self.run(&views)
    }

    fn taken(&self, mut all: Outputs) -> Result<Gradients> {
        let mut named = |names: &[String], of: &dyn Fn(&str) -> String| {
            let found = names.iter();
            let found = found.filter_map(|name| Some((name.clone(), all.remove(&of(name))?)));
            found.collect::<Outputs>()
        };
        Ok(Gradients {
            outputs: named(&self.outputs, &str::to_string),
            gradients: named(&self.gradients, &gradient_of),
            losses: all
                .remove(LOSSES)
                .map(|losses| losses.into_iter().collect())
                .unwrap_or_default(),
        })
    }
}

/// The gradients with respect to all inputs of floats, as outputs.
fn gradients(
    graph: &mut Graph,
    cost: Value,
    seed: Value,
    inputs: &[(String, Input, Value)],
) -> Result<Vec<(String, Input, Value)>> {
    let floats = inputs.iter().filter(|(_, i, _)| i.dtype == DType::F32);
    let floats: Vec<&(String, Input, Value)> = floats.collect();
    if floats.is_empty() {
        let wanted = "an input of floats, which alone has a gradient";
        return Err(Error::setting("inputs of the model", "integers", wanted));
    }
    let values: Vec<Value> = floats.iter().map(|(_, _, value)| *value).collect();
    let found = graph.gradients(cost, seed, &values)?;
    let mut made = Vec::new();
    for ((name, input, value), gradient) in floats.into_iter().zip(found) {
        let gradient = match gradient {
            Some(gradient) => gradient,
            None => zeros_like(graph, *value)?,
        };
        made.push((gradient_of(name), input.clone(), gradient));
    }
    Ok(made)
}

/// Where a loss finds its targets.
type Find<'a> = &'a mut dyn FnMut(&mut Graph, &str, &Input) -> Result<Value>;

/// The loss `[N]` of each example.
fn of_examples(
    graph: &mut Graph,
    variables: &mut Variables,
    model: &Model,
    loss: &Loss,
    outputs: &[Value],
    find: Find<'_>,
) -> Result<Value> {
    let mut terms = Vec::new();
    for term in loss.terms() {
        let targets = term.targets(model)?;
        let targets = targets.iter().map(|(name, input)| find(graph, name, input));
        let targets: Vec<Value> = targets.collect::<Result<_>>()?;
        let places = term.outputs(model)?;
        let outputs: Vec<Value> = places.iter().map(|(place, _)| outputs[*place]).collect();
        graph.label("loss forward");
        let mut streams = LOSS_STREAMS;
        let mut scope = Scope::new(graph, variables, Pass::Evaluation, &mut streams);
        let each = term.criterion.write(&mut scope, &outputs, &targets);
        let each = each.map_err(|e| e.within(&format!("loss {}", term.criterion.name())))?;
        terms.push((term.weight, each.sums));
    }
    graph.label("loss forward");
    weighted(graph, terms.into_iter())
}

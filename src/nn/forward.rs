//! From layers to ops: the one walk over a network's layers.

use std::collections::HashMap;
use std::sync::Arc;

use super::init::Fans;
use super::{Cost, Layer, Network, Parameter, place};
use crate::error::{Error, Result};
use crate::graph::Graph;
use crate::ops::activation::{Activate, Activation};
use crate::ops::add_bias::AddBias;
use crate::ops::avg_pool2d::AvgPool2d;
use crate::ops::conv2d::Conv2d;
use crate::ops::dropout::{self, Dropout};
use crate::ops::matmul::Matmul;
use crate::ops::max_pool2d::MaxPool2d;
use crate::ops::reshape::Reshape;
use crate::ops::scale::Scale;
use crate::ops::softmax::Softmax;
use crate::ops::{Loss, Tape, Value, cross_entropy, log_likelihood, quadratic};
use crate::shape::Type;

/// What the forward pass is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Training: dropout masks are drawn from these keys `[4]` at this step `[2]`.
    Train {
        /// The replica's key.
        keys: Value,
        /// The step counter.
        step: Value,
    },
    /// Evaluation: dropout scales, nothing is random.
    Evaluate,
}

/// The values of a forward pass.
#[derive(Clone, Copy, Debug)]
pub struct Forward {
    /// What the network answers, `[N, classes]`: softmax or last activation.
    pub output: Value,
    /// What the cost is computed from: the last layer before softmax or, for
    /// cross-entropy, before its sigmoid; for the quadratic cost the output.
    pub scores: Value,
}

/// Where a walk gets its parameters from.
struct Walk<'a> {
    network: &'a Network,
    graph: &'a mut Graph,
    parameters: Vec<Parameter>,
    variables: &'a mut HashMap<String, Value>,
    mode: Mode,
}

impl Network {
    /// Adds the forward pass over `x` `[N, C, H, W]` to the program begun last.
    /// Parameters are variables of the graph, added to `variables` by name where they
    /// are not there yet.
    ///
    /// # Errors
    /// As [`Network::check`].
    pub fn forward(
        &self,
        graph: &mut Graph,
        variables: &mut HashMap<String, Value>,
        x: Value,
        mode: Mode,
    ) -> Result<Forward> {
        let mut walk = Walk {
            network: self,
            graph,
            parameters: vec![],
            variables,
            mode,
        };
        walk.run(x)
    }

    /// Adds the per-example losses `[N]` of `scores` under `labels` `[N]`.
    ///
    /// # Errors
    /// What the cost's shape rule says.
    pub fn losses(&self, graph: &mut Graph, scores: Value, labels: Value) -> Result<Value> {
        graph.label("cost forward");
        let cost = match self.cost {
            Cost::Quadratic => &quadratic::COST,
            Cost::CrossEntropy => &cross_entropy::COST,
            Cost::LogLikelihood => &log_likelihood::COST,
        };
        graph.op1(Arc::new(Loss(cost)), &[scores, labels])
    }
}

/// A walk at batch size 1, for sizes alone.
fn dry(network: &Network) -> Result<(Vec<Parameter>, usize)> {
    let [c, h, w] = network.input;
    let mut graph = Graph::new();
    let ty = Type::f32("input [C, H, W]", &[1, c, h, w])?;
    let x = graph.variable("input", ty)?;
    graph.begin("check");
    let mut variables = HashMap::new();
    let mut walk = Walk {
        network,
        graph: &mut graph,
        parameters: vec![],
        variables: &mut variables,
        mode: Mode::Evaluate,
    };
    let forward = walk.run(x)?;
    let parameters = walk.parameters;
    let [_, classes] = graph
        .ty(forward.output)?
        .shape
        .axes("output", "[N, classes]")?;
    Ok((parameters, classes))
}

pub(super) fn parameters(network: &Network) -> Result<Vec<Parameter>> {
    Ok(dry(network)?.0)
}

pub(super) fn outputs(network: &Network) -> Result<usize> {
    Ok(dry(network)?.1)
}

impl Walk<'_> {
    fn run(&mut self, x: Value) -> Result<Forward> {
        let layers = &self.network.layers;
        let Some(last) = layers.last() else {
            return Err(Error::setting("network", "no layers", "at least one layer"));
        };
        let (mut x, mut before) = (x, x);
        for (index, layer) in layers.iter().enumerate() {
            let at = place(index, layer);
            self.graph
                .label(format!("{index}.{} forward", layer.name()));
            if *layer == Layer::Softmax && index + 1 != layers.len() {
                return Err(Error::setting(at, "more layers after it", "softmax last"));
            }
            before = x;
            x = self.layer(index, layer, x).map_err(|e| at_layer(e, &at))?;
        }
        let at = place(layers.len() - 1, last);
        let shape = &self.graph.ty(x)?.shape;
        if shape.rank() != 2 {
            let wanted = "[N, classes]: end in flatten, dense or softmax";
            return Err(Error::shape(at, shape.to_string(), wanted));
        }
        let scores = match (self.network.cost, last) {
            (Cost::LogLikelihood, Layer::Softmax) | (Cost::CrossEntropy, Layer::Sigmoid) => before,
            (Cost::Quadratic, layer) if *layer != Layer::Softmax => x,
            (cost, _) => {
                return Err(Error::setting(
                    at,
                    format!("this as last layer under the cost {cost:?}"),
                    "softmax under log_likelihood, sigmoid under cross_entropy, \
                     anything but softmax under quadratic",
                ));
            }
        };
        Ok(Forward { output: x, scores })
    }

    fn layer(&mut self, index: usize, layer: &Layer, x: Value) -> Result<Value> {
        match *layer {
            Layer::Conv2d {
                filters,
                kernel,
                stride,
                padding,
                dilation,
                groups,
            } => {
                let wanted = "[N, C, H, W] images";
                let [_, c, ..] = self.graph.ty(x)?.shape.axes::<4>("conv2d", wanted)?;
                if groups == 0 || !c.is_multiple_of(groups) {
                    let found = format!("{c} input channels in {groups} groups");
                    return Err(Error::shape(
                        "conv2d",
                        found,
                        "groups that divide the channels",
                    ));
                }
                let extents = [filters, c / groups, kernel[0], kernel[1]];
                let fans = Fans::conv2d(self.network, index, c, filters, kernel, groups);
                let [w, b] = self.parameters(index, &extents, &fans)?;
                let conv = Conv2d {
                    stride,
                    padding,
                    dilation,
                    groups,
                };
                let y = self.graph.op1(Arc::new(conv), &[x, w])?;
                self.graph.op1(Arc::new(AddBias), &[y, b])
            }
            Layer::Dense { units } => {
                let wanted = "[N, in] rows (put a flatten layer before it)";
                let [_, n_in] = self.graph.ty(x)?.shape.axes::<2>("dense", wanted)?;
                let fans = Fans::dense(n_in, units);
                let [w, b] = self.parameters(index, &[units, n_in], &fans)?;
                let y = self
                    .graph
                    .op1(Arc::new(Matmul::new(false, true)), &[x, w])?;
                self.graph.op1(Arc::new(AddBias), &[y, b])
            }
            Layer::MaxPool2d {
                kernel,
                stride,
                padding,
            } => {
                let pool = MaxPool2d {
                    kernel,
                    stride: stride.unwrap_or(kernel),
                    padding,
                };
                self.graph.op1(Arc::new(pool), &[x])
            }
            Layer::AvgPool2d {
                kernel,
                stride,
                padding,
            } => {
                let pool = AvgPool2d {
                    kernel,
                    stride: stride.unwrap_or(kernel),
                    padding,
                };
                self.graph.op1(Arc::new(pool), &[x])
            }
            Layer::Sigmoid => self.activate(Activation::Sigmoid, x),
            Layer::Tanh => self.activate(Activation::Tanh, x),
            Layer::Relu => self.activate(Activation::Relu, x),
            Layer::Dropout { p, rescale } => {
                dropout::check("p", p)?;
                match self.mode {
                    Mode::Train { keys, step } => {
                        let layer = index as u32;
                        let dropout = Dropout { p, layer, rescale };
                        self.graph.op1(Arc::new(dropout), &[x, keys, step])
                    }
                    Mode::Evaluate if rescale => Ok(x),
                    Mode::Evaluate => self.graph.op1(Arc::new(Scale(1.0 - p)), &[x]),
                }
            }
            Layer::Flatten => {
                let shape = &self.graph.ty(x)?.shape;
                let n = shape.extents()[0];
                let extents = vec![n, shape.elements() / n];
                self.graph.op1(Arc::new(Reshape { extents }), &[x])
            }
            Layer::Softmax => self.graph.op1(Arc::new(Softmax { axis: 1 }), &[x]),
        }
    }

    fn activate(&mut self, activation: Activation, x: Value) -> Result<Value> {
        self.graph.op1(Arc::new(Activate(activation)), &[x])
    }

    /// Weight and bias of a layer; the bias has the weight's first extent.
    fn parameters(&mut self, index: usize, weight: &[usize], fans: &Fans) -> Result<[Value; 2]> {
        let layers = &self.network.layers;
        let before_softmax = layers.get(index + 1) == Some(&Layer::Softmax);
        let [of_weight, of_bias] = self.network.init.of(fans, before_softmax);
        let mut parameter = |kind, extents: &[usize], distribution| {
            let name = format!("{index}.{}.{kind}", layers[index].name());
            let ty = Type::f32(kind, extents)?;
            let value = match self.variables.get(&name) {
                Some(&v) => v,
                None => self.graph.variable(&name, ty.clone())?,
            };
            self.variables.insert(name.clone(), value);
            self.parameters.push(Parameter {
                name,
                ty,
                distribution,
                decay: kind == "weight",
            });
            Ok(value)
        };
        Ok([
            parameter("weight", weight, of_weight)?,
            parameter("bias", &weight[..1], of_bias)?,
        ])
    }
}

/// The error with the layer named at its head.
fn at_layer(error: Error, layer: &str) -> Error {
    match error {
        Error::Shape {
            place,
            found,
            wanted,
        } => {
            // The graph has put its own label before the op's name.
            let op = place.rsplit(", ").next().unwrap_or_default();
            Error::shape(format!("{layer}, {op}"), found, wanted)
        }
        Error::Setting {
            name,
            found,
            wanted,
        } => Error::setting(format!("{layer}, {name}"), found, wanted),
        other => other,
    }
}

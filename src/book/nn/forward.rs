//! A network as layers of [`model`](crate::model): what a [`Layer`] of a description stands for, the
//! walk over them, and the [`Model`] that they are.

use std::sync::Arc;

use super::{Cost, Layer, Network, Parameter, place};
use crate::error::{Error, Result};
use crate::graph::Graph;
use crate::model::{
    Input, Layer as ModelLayer, Model, Pass, Registry, Role, Scope, Variables, at_layer, layers,
};
use crate::ops::distort::Distortion;
use crate::ops::{Loss, Tape, Value, cross_entropy, log_likelihood, quadratic};
use crate::shape::Type;

/// The values of a forward pass.
#[derive(Clone, Copy, Debug)]
pub struct Forward {
    /// What the network answers, `[N, classes]`: softmax or last activation.
    pub output: Value,
    /// What the cost is computed from: the last layer before softmax or, for
    /// cross-entropy, before its sigmoid; for the quadratic cost the output.
    pub scores: Value,
}

/// Which value scores are.
enum Scores {
    /// The last layer's.
    Output,
    /// The one that the last layer is given.
    BeforeLast,
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
        variables: &mut Variables,
        x: Value,
        pass: Pass,
    ) -> Result<Forward> {
        let values = self.values(graph, variables, x, pass)?;
        let (Some(last), [.., before, output]) = (self.layers.last(), &values[..]) else {
            return Err(Error::setting("network", "no layers", "at least one layer"));
        };
        let shape = &graph.ty(*output)?.shape;
        if shape.rank() != 2 {
            let at = place(self.layers.len() - 1, last);
            let wanted = "[N, classes]: end in flatten, dense or softmax";
            return Err(Error::shape(at, shape.to_string(), wanted));
        }
        let scores = match self.scores_from(last)? {
            Scores::Output => output,
            Scores::BeforeLast => before,
        };
        Ok(Forward {
            output: *output,
            scores: *scores,
        })
    }

    /// [`Network::forward`] of layers that need not end a network: `x` and what each of them makes of it.
    pub(crate) fn values(
        &self,
        graph: &mut Graph,
        variables: &mut Variables,
        x: Value,
        pass: Pass,
    ) -> Result<Vec<Value>> {
        let (mut x, mut values) = (x, vec![x]);
        for (index, layer) in self.layers.iter().enumerate() {
            let at = place(index, layer);
            if *layer == Layer::Softmax && index + 1 != self.layers.len() {
                return Err(Error::setting(at, "more layers after it", "softmax last"));
            }
            let shape = &graph.ty(x)?.shape;
            if matches!(layer, Layer::Dense { .. }) && shape.rank() != 2 {
                let wanted = "[N, in] rows (put a flatten layer before it)";
                return Err(Error::shape(
                    format!("{at}, dense"),
                    shape.to_string(),
                    wanted,
                ));
            }
            // A layer draws from the stream of its own number.
            let mut stream = index as u32;
            let mut scope = Scope::new(graph, variables, pass, &mut stream);
            let (name, layer) = (self.name(index), self.layer_of_model(index));
            let written = scope.layer(&name, layer.as_ref(), &[x]);
            x = written.map_err(|e| at_layer(e, &at))?;
            values.push(x);
        }
        Ok(values)
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
        graph.op1(Arc::new(Loss::of(cost)), &[scores, labels])
    }

    /// What a layer's weights are named by: `3.conv2d`.
    fn name(&self, index: usize) -> String {
        format!("{index}.{}", self.layers[index].name())
    }

    /// The layer that a description's stands for, with the starts of the network's scheme.
    fn layer_of_model(&self, index: usize) -> Arc<dyn ModelLayer> {
        let [weight, bias] = self.init.of(&self.layers[index..]);
        match self.layers[index] {
            Layer::Conv2d {
                filters,
                kernel,
                stride,
                padding,
                dilation,
                groups,
            } => Arc::new(layers::Conv2d {
                stride,
                padding,
                dilation,
                groups,
                kernel,
                ..layers::Conv2d::new(filters, 1)
                    .weight_start(weight)
                    .bias_start(bias)
            }),
            Layer::Dense { units } => Arc::new(
                layers::Dense::new(units)
                    .weight_start(weight)
                    .bias_start(bias),
            ),
            Layer::MaxPool2d {
                kernel,
                stride,
                padding,
            } => Arc::new(layers::MaxPool2d {
                kernel,
                stride,
                padding,
            }),
            Layer::AvgPool2d {
                kernel,
                stride,
                padding,
            } => Arc::new(layers::AvgPool2d {
                kernel,
                stride,
                padding,
            }),
            Layer::Sigmoid => Arc::new(layers::Sigmoid),
            Layer::Tanh => Arc::new(layers::Tanh),
            Layer::Relu => Arc::new(layers::Relu),
            Layer::Dropout { p, rescale } => Arc::new(layers::Dropout { p, book: !rescale }),
            Layer::Flatten => Arc::new(layers::Flatten),
            Layer::Softmax => Arc::new(layers::Softmax),
        }
    }

    /// The network as a model with an input `input` `[C, H, W]`, an output `output` and, where a cost is
    /// computed from other values ([`Forward::scores`]), an output `scores`: so what was trained here is
    /// asked, exported and trained further like any model. Weights have the names that they have here.
    ///
    /// ```
    /// use wgrad::book::nn::{Init, Network};
    /// let network = Network::new([1, 28, 28]).flatten().dense(30).sigmoid().dense(10).softmax();
    /// let model = network.init(Init::Scaled).model()?;
    /// assert_eq!(model.output("scores")?.extents, [10]);
    /// assert_eq!(model.variables()[0].name, "1.dense.weight");
    /// # Ok::<(), wgrad::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Network::check`].
    pub fn model(&self) -> Result<Model> {
        self.distorted(Distortion::NONE)
    }

    /// [`Network::model`] with images that are distorted while it is trained.
    pub(crate) fn distorted(&self, distortion: Distortion) -> Result<Model> {
        self.check()?;
        let scores_from = self.layers.last().map(|last| self.scores_from(last));
        Model::build(|m| {
            let mut wire = m.input("input", Input::f32(self.input));
            if distortion != Distortion::NONE {
                wire = wire.layer("distort", layers::Distort(distortion));
            }
            let mut before = wire;
            for index in 0..self.layers.len() {
                before = wire;
                wire = wire.layer(&self.name(index), self.layer_of_model(index));
            }
            m.output("output", wire);
            if let Some(Ok(Scores::BeforeLast)) = scores_from {
                m.output("scores", before);
            }
        })
    }

    /// A registry that also knows descriptions of the book's networks, as `wgrad train` writes them into model files: they
    /// are read as the models that they are ([`Network::model`]).
    ///
    /// ```no_run
    /// use wgrad::book::nn::Network;
    /// use wgrad::prelude::*;
    /// let registry = Network::known_to(Registry::standard());
    /// let (model, weights) = Weights::load_model("digits.safetensors", &registry)?;
    /// # Ok::<(), wgrad::Error>(())
    /// ```
    pub fn known_to(registry: Registry) -> Registry {
        // A cost is a part of the book's networks, and of no model.
        registry.with_form("cost", |text| Self::from_json(text)?.model())
    }

    /// Where a cost finds what it is computed from.
    fn scores_from(&self, last: &Layer) -> Result<Scores> {
        match (self.cost, last) {
            (Cost::LogLikelihood, Layer::Softmax) | (Cost::CrossEntropy, Layer::Sigmoid) => {
                Ok(Scores::BeforeLast)
            }
            (Cost::Quadratic, layer) if *layer != Layer::Softmax => Ok(Scores::Output),
            (cost, _) => Err(Error::setting(
                place(self.layers.len() - 1, last),
                format!("this as last layer under the cost {cost:?}"),
                "softmax under log_likelihood, sigmoid under cross_entropy, \
                 anything but softmax under quadratic",
            )),
        }
    }
}

/// A walk at batch size 1, for sizes alone: the parameters, and how many outputs there are.
pub(super) fn dry(network: &Network) -> Result<(Vec<Parameter>, usize)> {
    let [c, h, w] = network.input;
    let mut graph = Graph::new();
    let ty = Type::f32("input [C, H, W]", &[1, c, h, w])?;
    let x = graph.variable("input", ty)?;
    graph.begin("check");
    let mut variables = Variables::default();
    let forward = network.forward(&mut graph, &mut variables, x, Pass::Evaluation)?;
    let parameters = variables.of(Role::Parameter).map(|v| {
        let distribution = v.start.distribution().ok_or_else(|| {
            let wanted = "one that devices draw: constant, uniform, normal";
            Error::setting(
                format!("start of {}", v.name),
                format!("{:?}", v.start),
                wanted,
            )
        })?;
        Ok(Parameter {
            name: v.name.clone(),
            ty: v.ty.clone(),
            distribution,
            decay: v.name.ends_with(".weight"),
        })
    });
    let parameters = parameters.collect::<Result<_>>()?;
    let [_, classes] = graph
        .ty(forward.output)?
        .shape
        .axes("output", "[N, classes]")?;
    Ok((parameters, classes))
}

//! Models: networks of any wiring, out of layers that are values.
//!
//! A chain is [`Model::sequential`]; anything else is [`Model::build`], in which wires are values too.
//! Sizes are checked while the model is described. A wire needs no `?`: a layer that does not fit spoils
//! its wire, and `build` reports the first such place with the layer's name, the sizes and the caller's
//! file and line.
//!
//! ```
//! use wgrad::model::{Input, Model, layers::*};
//!
//! let digits = Model::sequential(Input::f32([1, 28, 28]))
//!     .then(Conv2d::new(20, 5)).then(BatchNorm::new()).then(Relu).then(MaxPool2d::new(2))
//!     .then(Flatten).then(Dropout::new(0.5)).then(Dense::new(10))
//!     .build()?;
//! assert_eq!(digits.output("output")?.extents, [10]);
//!
//! let residual = Model::build(|m| {
//!     let x = m.input("image", [3, 32, 32]);
//!     let h = x.layer("stem", Conv2d::new(8, 3).padding(1)).relu();
//!     let r = h.layer("conv1", Conv2d::new(8, 3).padding(1)).relu();
//!     m.output("logits", (h + r).global_mean().layer("head", Dense::new(10)));
//! })?;
//! assert_eq!(residual.parameters(), 3 * 8 * 9 + 8 + 8 * 8 * 9 + 8 + 8 * 10 + 10);
//!
//! let wrong = Model::sequential(Input::f32([1, 28, 28])).then(Conv2d::new(20, 29)).build();
//! assert!(wrong.unwrap_err().to_string().starts_with("layer conv2d (conv2d, "));
//! # Ok::<(), wgrad::Error>(())
//! ```

use std::fmt::Write as _;
use std::panic::Location;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::graph::Graph;
use crate::ops::{Tape, Value};
use crate::shape::{DType, Type};

mod describe;
mod drawing;
mod initializer;
mod layer;
pub mod layers;
mod registry;
mod scope;
mod wire;

pub use describe::{Description, InputDescription, OutputDescription};
pub use initializer::{Initializer, Start};
pub use layer::{Described, Layer, arity};
pub use registry::Registry;
pub use scope::{Pass, Role, Scope, Variable, Variables};
pub use wire::{Builder, Sequential, Shared, Wire};

/// The mini-batch with which sizes are checked: not 1, so that a layer that loses the axis shows.
const TRIAL: usize = 2;

/// What one example of an input is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Input {
    /// Extents of one example, without the mini-batch: none for a number.
    pub extents: Vec<usize>,
    /// Floats, or integers such as classes and words.
    pub dtype: DType,
}

impl Input {
    /// Floats of these extents an example.
    pub fn f32(extents: impl AsRef<[usize]>) -> Self {
        Self {
            extents: extents.as_ref().to_vec(),
            dtype: DType::F32,
        }
    }

    /// Integers of these extents an example.
    pub fn u32(extents: impl AsRef<[usize]>) -> Self {
        Self {
            extents: extents.as_ref().to_vec(),
            dtype: DType::U32,
        }
    }

    /// The type of a mini-batch of so many examples.
    ///
    /// # Errors
    /// [`Error::Shape`] for an extent of 0, or more elements than can be counted.
    pub fn of_batch(&self, place: &str, batch: usize) -> Result<Type> {
        let extents = [&[batch][..], &self.extents].concat();
        match self.dtype {
            DType::F32 => Type::f32(place, &extents),
            DType::U32 => Type::u32(place, &extents),
        }
    }

    pub(crate) fn of_type(ty: &Type) -> Self {
        Self {
            extents: ty.shape.extents().get(1..).unwrap_or_default().to_vec(),
            dtype: ty.dtype,
        }
    }
}

impl<const N: usize> From<[usize; N]> for Input {
    fn from(extents: [usize; N]) -> Self {
        Self::f32(extents)
    }
}

/// A node of a model.
#[derive(Clone, Debug)]
struct Node {
    name: String,
    kind: Kind,
    /// What one example of it is.
    example: Input,
}

#[derive(Clone, Debug)]
enum Kind {
    Input,
    Layer {
        layer: Arc<dyn Layer>,
        /// The name that its weights go by: its own, or that of the layer that shares them.
        weights: String,
        inputs: Vec<usize>,
    },
}

/// A network: inputs, layers, outputs, all checked. It holds no weights; compiled, it has some.
#[derive(Clone, Debug)]
pub struct Model {
    nodes: Vec<Node>,
    outputs: Vec<(String, usize)>,
    variables: Vec<Variable>,
}

impl Model {
    /// A chain of layers over one input named `input`; its output is named `output`.
    pub fn sequential(input: impl Into<Input>) -> Sequential {
        Sequential::new(input.into())
    }

    /// A model out of wires.
    ///
    /// # Errors
    /// The first thing that did not fit: [`Error::Shape`] or [`Error::Setting`] naming the layer and
    /// the caller's file and line.
    pub fn build(describe: impl FnOnce(&Builder)) -> Result<Self> {
        let builder = Builder::default();
        describe(&builder);
        builder.finish()
    }

    /// Names and kinds of its inputs, in the order of their declaration.
    pub fn inputs(&self) -> impl Iterator<Item = (&str, &Input)> {
        let inputs = self.nodes.iter().filter(|n| matches!(n.kind, Kind::Input));
        inputs.map(|n| (n.name.as_str(), &n.example))
    }

    /// Names of its outputs and what one example of each is.
    pub fn outputs(&self) -> impl Iterator<Item = (&str, &Input)> {
        let outputs = self.outputs.iter();
        outputs.map(|(name, node)| (name.as_str(), &self.nodes[*node].example))
    }

    /// What one example of an output is.
    ///
    /// # Errors
    /// [`Error::UnknownName`] for a name that is none of an output.
    pub fn output(&self, name: &str) -> Result<&Input> {
        let (_, node) = self.named_output(name)?;
        Ok(&self.nodes[node].example)
    }

    /// Place among the outputs, and node.
    fn named_output(&self, name: &str) -> Result<(usize, usize)> {
        let place = self.outputs.iter().position(|(other, _)| other == name);
        let place = place.ok_or_else(|| {
            let known: Vec<&str> = self.outputs.iter().map(|(n, _)| n.as_str()).collect();
            Error::unknown("output", name, &known)
        })?;
        Ok((place, self.outputs[place].1))
    }

    /// Its variables, in the order in which layers ask for them. Their values belong to no graph that
    /// is run.
    pub fn variables(&self) -> &[Variable] {
        &self.variables
    }

    /// How many layers it has; one that is used twice counts twice.
    pub fn layers(&self) -> usize {
        let layers = self.nodes.iter();
        layers.filter(|n| !matches!(n.kind, Kind::Input)).count()
    }

    /// How many numbers are trained.
    pub fn parameters(&self) -> usize {
        let trained = self.variables.iter().filter(|v| v.role == Role::Parameter);
        trained.map(|v| v.ty.elements()).sum()
    }

    /// Writes the model into the program begun last: `inputs` are mini-batches in the order of
    /// [`Model::inputs`], variables are declared in `variables` or found there, and the values of the
    /// outputs come back in their order.
    ///
    /// # Errors
    /// What a layer's shape rule says, with the layer's name.
    pub fn write(
        &self,
        graph: &mut Graph,
        variables: &mut Variables,
        inputs: &[Value],
        pass: Pass,
    ) -> Result<Vec<Value>> {
        self.write_from(graph, variables, inputs, pass, &mut 0)
    }

    /// [`Model::write`] with random streams from `streams` on, which counts those that it takes: so that
    /// models of one program, or uses of one model, do not draw the same.
    ///
    /// # Errors
    /// As [`Model::write`].
    pub fn write_from(
        &self,
        graph: &mut Graph,
        variables: &mut Variables,
        inputs: &[Value],
        pass: Pass,
        streams: &mut u32,
    ) -> Result<Vec<Value>> {
        let wanted = self.inputs().count();
        if inputs.len() != wanted {
            let found = format!("{} inputs", inputs.len());
            return Err(Error::shape("model", found, wanted.to_string()));
        }
        let mut given = inputs.iter();
        let mut values: Vec<Value> = Vec::with_capacity(self.nodes.len());
        for node in &self.nodes {
            let value = match &node.kind {
                Kind::Input => *given.next().unwrap_or(&inputs[0]),
                Kind::Layer {
                    layer,
                    weights,
                    inputs,
                } => {
                    let inputs: Vec<Value> = inputs.iter().map(|&i| values[i]).collect();
                    let mut scope = Scope::new(graph, variables, pass, streams);
                    let made = scope.layer(weights, layer.as_ref(), &inputs);
                    let made =
                        made.map_err(|e| at_layer(e, &place(&node.name, layer.as_ref(), None)))?;
                    keeps_batch(graph, values.first(), made)
                        .map_err(|e| at_layer(e, &place(&node.name, layer.as_ref(), None)))?;
                    made
                }
            };
            values.push(value);
        }
        Ok(self.outputs.iter().map(|&(_, node)| values[node]).collect())
    }

    /// A table of the model: each layer, what one example of its output is, its trained numbers.
    pub fn summary(&self) -> String {
        let mut rows = vec![[
            "layer".into(),
            "kind".into(),
            "output".into(),
            "parameters".into(),
        ]];
        let mut counted: Vec<&str> = Vec::new();
        for node in &self.nodes {
            let (kind, count) = match &node.kind {
                Kind::Input => ("input", String::new()),
                Kind::Layer { layer, weights, .. } if !counted.contains(&weights.as_str()) => {
                    counted.push(weights);
                    (layer.kind(), self.of_layer(weights).to_string())
                }
                Kind::Layer { layer, weights, .. } => (layer.kind(), format!("those of {weights}")),
            };
            let output = format!("{:?}", node.example.extents);
            rows.push([node.name.clone(), kind.into(), output, count]);
        }
        let width = |k: usize| {
            rows.iter()
                .map(|row| row[k].chars().count())
                .max()
                .unwrap_or(0)
        };
        let widths = [width(0), width(1), width(2), width(3)];
        let mut text = String::new();
        for [name, kind, output, count] in &rows {
            let [a, b, c, d] = widths;
            let line = format!("{name:<a$}  {kind:<b$}  {output:<c$}  {count:>d$}");
            let _ = writeln!(text, "{}", line.trim_end());
        }
        let _ = writeln!(text, "{} parameters", self.parameters());
        text
    }

    fn of_layer(&self, weights: &str) -> usize {
        let own = |v: &&Variable| {
            v.role == Role::Parameter
                && v.name
                    .strip_prefix(weights)
                    .is_some_and(|rest| rest.starts_with('.'))
        };
        self.variables
            .iter()
            .filter(own)
            .map(|v| v.ty.elements())
            .sum()
    }
}

/// `layer stem (conv2d)`, or `layer stem (conv2d, src/main.rs:12)`.
fn place(name: &str, layer: &dyn Layer, caller: Option<&Location<'_>>) -> String {
    match caller {
        Some(at) => format!(
            "layer {name} ({}, {}:{})",
            layer.kind(),
            at.file(),
            at.line()
        ),
        None => format!("layer {name} ({})", layer.kind()),
    }
}

/// The error with the layer's place before it, in the stead of the graph's label.
pub(crate) fn at_layer(error: Error, layer: &str) -> Error {
    match error {
        Error::Shape {
            place,
            found,
            wanted,
        } => {
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

/// Refuses a layer's output that has lost the mini-batch.
fn keeps_batch(graph: &Graph, of: Option<&Value>, made: Value) -> Result<()> {
    let Some(&of) = of else { return Ok(()) };
    let batch = |v| Ok::<_, Error>(graph.ty(v)?.shape.extents()[0]);
    if batch(of)? == batch(made)? {
        return Ok(());
    }
    let (ty, n) = (graph.ty(made)?.to_string(), batch(of)?);
    let wanted = format!("an output of {n} examples, as its input has");
    Err(Error::shape("output", ty, wanted))
}

#[cfg(test)]
mod tests;

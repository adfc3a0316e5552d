//! The layers of this crate. Their defaults and the names of their weights are PyTorch's, so weights
//! go over by name.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::layer::{Layer, arity};
use super::registry::Registry;
use super::scope::Scope;
use crate::error::{Error, Result};
use crate::expr::Expr;
use crate::ops::pointwise::Pointwise;
use crate::ops::{Tape, Value};

mod activation;
mod attention;
mod augment;
mod axes;
mod convolution;
mod dense;
mod norm;
mod pool;
mod recurrent;
mod shape;

pub use activation::*;
pub use attention::*;
pub use augment::*;
pub use axes::*;
pub use convolution::*;
pub use dense::*;
pub use norm::*;
pub use pool::*;
pub use recurrent::*;
pub use shape::*;

/// A layer whose settings are its fields.
macro_rules! layer {
    ($name:ident, $kind:literal, |$layer:ident, $scope:ident, $inputs:ident| $body:expr) => {
        impl $crate::model::Layer for $name {
            fn kind(&self) -> &'static str {
                $kind
            }

            fn forward(
                &self,
                $scope: &mut $crate::model::Scope<'_>,
                $inputs: &[$crate::ops::Value],
            ) -> $crate::error::Result<$crate::ops::Value> {
                let $layer = self;
                $body
            }

            fn settings(&self) -> $crate::error::Result<serde_json::Value> {
                $crate::model::layer::described(self)
            }
        }

        impl $crate::model::Described for $name {
            const KIND: &'static str = $kind;
        }
    };
}
use layer;

impl Registry {
    /// The layers of this crate.
    pub fn standard() -> Self {
        register(Self::empty())
    }
}

/// Adds this crate's layers to a registry.
fn register(registry: Registry) -> Registry {
    let registry = activation::register(registry);
    let registry = registry
        .with::<Dense>()
        .with::<Embedding>()
        .with::<Conv2d>()
        .with::<ConvTranspose2d>()
        .with::<Conv1d>()
        .with::<ConvTranspose1d>()
        .with::<MaxPool2d>()
        .with::<AvgPool2d>()
        .with::<AdaptiveAvgPool2d>()
        .with::<MaxPool1d>()
        .with::<AvgPool1d>()
        .with::<AdaptiveAvgPool1d>()
        .with::<GlobalMean>()
        .with::<GlobalMax>()
        .with::<Upsample>();
    let registry = registry
        .with::<BatchNorm>()
        .with::<LayerNorm>()
        .with::<RmsNorm>()
        .with::<GroupNorm>()
        .with::<InstanceNorm>()
        .with::<LocalResponseNorm>();
    let registry = registry
        .with::<MultiHeadAttention>()
        .with::<TransformerBlock>()
        .with::<PositionalEncoding>()
        .with::<LearnedPositions>();
    let registry = registry.with::<Lstm>().with::<Gru>().with::<Rnn>();
    registry
        .with::<Dropout>()
        .with::<Flatten>()
        .with::<Detach>()
        .with::<Reshape>()
        .with::<Concat>()
        .with::<Affine>()
        .with::<Augment>()
        .with::<Distort>()
        .with::<Cutout>()
        .with::<ColourJitter>()
        .with::<Sum>()
        .with::<Difference>()
        .with::<Product>()
        .with::<Permute>()
        .with::<Slice>()
        .with::<Select>()
        .with::<Reduce>()
        .with::<Matmul>()
        .with::<Stack>()
}

/// The layer's input, which is to be floats: in the layer's name, since the ops that it is of have others.
fn of_floats(scope: &Scope<'_>, kind: &str, x: Value) -> Result<()> {
    crate::ops::floats(kind, "x", scope.ty(x)?)
}

fn yes() -> bool {
    true
}

fn is_yes(value: &bool) -> bool {
    *value
}

/// An expression of each element of one input. A function of the program that builds the model, so
/// files cannot describe it; a layer of your own can be ([`Described`](crate::model::Described)).
#[derive(Clone)]
pub struct Map(Arc<dyn Fn(&Expr) -> Expr + Send + Sync>);

impl Map {
    /// An expression of each element.
    pub fn new(expression: impl Fn(&Expr) -> Expr + Send + Sync + 'static) -> Self {
        Self(Arc::new(expression))
    }
}

impl fmt::Debug for Map {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Map")
    }
}

impl Layer for Map {
    fn kind(&self) -> &'static str {
        "map"
    }

    fn forward(&self, scope: &mut Scope<'_>, inputs: &[Value]) -> Result<Value> {
        let [x] = arity("map", inputs)?;
        let op = Pointwise::new(&[(self.0)(&Expr::input(0))]);
        scope.op1(Arc::new(op), &[x])
    }
}

/// Any function of values that writes graph: the way from an op to a layer in one line. Files cannot
/// describe it.
pub struct Function<F> {
    kind: &'static str,
    write: F,
}

impl<F> Function<F>
where
    F: Fn(&mut Scope<'_>, &[Value]) -> Result<Value> + Send + Sync + 'static,
{
    /// A layer named `kind` in messages.
    pub fn new(kind: &'static str, write: F) -> Self {
        Self { kind, write }
    }
}

impl<F> fmt::Debug for Function<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind)
    }
}

impl<F> Layer for Function<F>
where
    F: Fn(&mut Scope<'_>, &[Value]) -> Result<Value> + Send + Sync + 'static,
{
    fn kind(&self) -> &'static str {
        self.kind
    }

    fn forward(&self, scope: &mut Scope<'_>, inputs: &[Value]) -> Result<Value> {
        (self.write)(scope, inputs)
    }
}

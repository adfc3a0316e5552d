//! What a layer is.

use std::any::Any;
use std::fmt::Debug;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value as Json;

use super::scope::Scope;
use crate::error::{Error, Result};
use crate::ops::Value;

/// A layer: a function of values that may have variables. It is a value itself, so whoever builds a
/// model hands it over; it has no weights before a model is compiled.
///
/// ```
/// use wgrad::model::{Initializer, Layer, Scope, Start};
/// use wgrad::ops::{Value, pointwise::pointwise};
///
/// /// y = s x with one trained number s.
/// #[derive(Debug)]
/// struct Gain;
///
/// impl Layer for Gain {
///     fn kind(&self) -> &'static str {
///         "gain"
///     }
///     fn forward(&self, scope: &mut Scope<'_>, inputs: &[Value]) -> wgrad::Result<Value> {
///         let [x] = wgrad::model::arity("gain", inputs)?;
///         let s = scope.parameter("scale", &[1], Start::constant(1.0))?;
///         pointwise(scope, [x, s], |[x, s]| x * s)
///     }
/// }
/// ```
pub trait Layer: Any + Debug + Send + Sync {
    /// What it is called in messages and files, in snake case.
    fn kind(&self) -> &'static str;

    /// Writes the layer over values whose first axis is the mini-batch, and returns one such value.
    ///
    /// # Errors
    /// [`Error::Shape`] naming the sizes and the relation that should hold.
    fn forward(&self, scope: &mut Scope<'_>, inputs: &[Value]) -> Result<Value>;

    /// Its settings as a JSON object, from which a [`Registry`](super::Registry) makes it again.
    ///
    /// # Errors
    /// By default [`Error::Setting`]: such a layer works, but its model cannot be described in a file.
    fn settings(&self) -> Result<Json> {
        Err(Error::setting(
            format!("description of layer {}", self.kind()),
            "a layer without settings",
            "`Layer::settings`, for a model that is rebuilt from its file",
        ))
    }
}

/// One that was chosen while the program runs.
impl Layer for Arc<dyn Layer> {
    fn kind(&self) -> &'static str {
        (**self).kind()
    }

    fn forward(&self, scope: &mut Scope<'_>, inputs: &[Value]) -> Result<Value> {
        (**self).forward(scope, inputs)
    }

    fn settings(&self) -> Result<Json> {
        (**self).settings()
    }
}

impl Scope<'_> {
    /// Writes another layer inside this one: its variables are `<layer>.<name>.…`.
    ///
    /// # Errors
    /// What that layer says.
    pub fn layer(&mut self, name: &str, layer: &dyn Layer, inputs: &[Value]) -> Result<Value> {
        self.within(name, |scope| layer.forward(scope, inputs))
    }
}

/// The inputs of a layer that takes so many.
///
/// # Errors
/// [`Error::Shape`] for another number.
pub fn arity<const N: usize>(kind: &str, inputs: &[Value]) -> Result<[Value; N]> {
    <[Value; N]>::try_from(inputs).map_err(|_| {
        let found = format!("{} inputs", inputs.len());
        Error::shape(kind, found, N.to_string())
    })
}

/// A layer that is made from its settings.
pub trait Described: Layer + Serialize + DeserializeOwned {
    /// [`Layer::kind`].
    const KIND: &'static str;
}

/// The settings of a layer as JSON.
pub(crate) fn described<L: Described>(layer: &L) -> Result<Json> {
    serde_json::to_value(layer)
        .map_err(|e| Error::setting(format!("settings of {}", L::KIND), e, "finite numbers"))
}

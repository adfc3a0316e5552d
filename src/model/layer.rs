//! What a layer is, and the layers that files can name.

use std::any::Any;
use std::collections::BTreeMap;
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

    /// Its settings as a JSON object, from which [`Registry`] makes it again.
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

type Make = fn(Json) -> std::result::Result<Arc<dyn Layer>, serde_json::Error>;

/// The layers that files can name: this crate's, and those that are added.
#[derive(Clone, Debug)]
pub struct Registry {
    kinds: BTreeMap<&'static str, Make>,
}

impl Default for Registry {
    fn default() -> Self {
        Self::standard()
    }
}

impl Registry {
    /// The layers of this crate.
    pub fn standard() -> Self {
        let empty = Self {
            kinds: BTreeMap::new(),
        };
        super::layers::register(empty)
    }

    /// The same with one kind of layer more, or one replaced.
    #[must_use]
    pub fn with<L: Described>(mut self) -> Self {
        self.kinds.insert(L::KIND, |settings| {
            // A layer without settings is a unit, which JSON has as null.
            let none = settings.as_object().is_some_and(|map| map.is_empty());
            let layer = match serde_json::from_value::<L>(settings) {
                Err(_) if none => serde_json::from_value::<L>(Json::Null)?,
                other => other?,
            };
            Ok(Arc::new(layer))
        });
        self
    }

    /// Their names.
    pub fn kinds(&self) -> impl Iterator<Item = &'static str> {
        self.kinds.keys().copied()
    }

    /// A layer from its kind and settings.
    ///
    /// # Errors
    /// [`Error::UnknownName`] for a kind that is not there, [`Error::Setting`] for settings that do
    /// not fit it.
    pub fn make(&self, kind: &str, settings: Json) -> Result<Arc<dyn Layer>> {
        let Some(make) = self.kinds.get(kind) else {
            let known: Vec<&str> = self.kinds().collect();
            return Err(Error::unknown("layer", kind, &known));
        };
        make(settings).map_err(|e| {
            let name = format!("settings of {kind}");
            Error::setting(name, e, "the settings that this layer has")
        })
    }
}

/// The settings of a layer as JSON.
pub(crate) fn described<L: Described>(layer: &L) -> Result<Json> {
    serde_json::to_value(layer)
        .map_err(|e| Error::setting(format!("settings of {}", L::KIND), e, "finite numbers"))
}

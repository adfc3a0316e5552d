//! The layers that files can name.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value as Json;

use super::Model;
use super::layer::{Described, Layer};
use crate::error::{Error, Result};

type Make = fn(Json) -> std::result::Result<Arc<dyn Layer>, serde_json::Error>;

/// Makes a model of a text in a form of its own.
type Read = fn(&str) -> Result<Model>;

/// The layers that files can name: this crate's, and those that are added; and descriptions of models in other forms
/// than [`Description`](super::Description).
#[derive(Clone, Debug)]
pub struct Registry {
    kinds: BTreeMap<&'static str, Make>,
    forms: BTreeMap<&'static str, Read>,
}

impl Default for Registry {
    fn default() -> Self {
        Self::standard()
    }
}

impl Registry {
    /// No layer at all.
    pub(super) fn empty() -> Self {
        Self {
            kinds: BTreeMap::new(),
            forms: BTreeMap::new(),
        }
    }

    /// The same that also knows descriptions of another form: JSON objects that have this key, which no
    /// [`Description`](super::Description) has. [`Model::from_json`], and so whatever reads model files, asks `read` for
    /// the model then.
    #[must_use]
    pub fn with_form(mut self, key: &'static str, read: fn(&str) -> Result<Model>) -> Self {
        self.forms.insert(key, read);
        self
    }

    /// The model of a description in another form, if it is in one that was added.
    pub(super) fn read(&self, text: &str) -> Option<Result<Model>> {
        let description: Json = serde_json::from_str(text).ok()?;
        let keys = description.as_object()?;
        let (_, read) = self
            .forms
            .iter()
            .find(|(key, _)| keys.contains_key(**key))?;
        Some(read(text))
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

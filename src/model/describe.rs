//! Models as text: what a model file holds, and what a configuration names.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json};

use super::wire::Builder;
use super::{Input, Kind, Model, Registry};
use crate::error::{Error, Result};
use crate::shape::DType;

/// A model as text.
///
/// ```toml
/// [[inputs]]
/// name = "image"
/// extents = [3, 32, 32]
///
/// [[layers]]
/// kind = "conv2d"      # inputs: the layer before, or the first input
/// filters = 64         # everything else is the layer's settings
/// kernel = [3, 3]
///
/// [[layers]]
/// kind = "relu"
/// name = "out"
///
/// [[outputs]]          # without any: `output`, the last layer
/// name = "features"
/// from = "out"
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Description {
    /// The inputs.
    #[serde(default)]
    pub inputs: Vec<InputDescription>,
    /// The layers, each a table of its kind, perhaps `name`, `inputs` and `weights` (the layer whose
    /// weights it shares), and its settings.
    #[serde(default)]
    pub layers: Vec<Map<String, Json>>,
    /// The outputs.
    #[serde(default)]
    pub outputs: Vec<OutputDescription>,
}

/// An input as text.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InputDescription {
    /// Its name.
    #[serde(default = "input_name")]
    pub name: String,
    /// The extents of one example.
    pub extents: Vec<usize>,
    /// `f32`, or `u32` for classes and words.
    #[serde(default = "floats")]
    pub elements: String,
}

/// An output as text.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OutputDescription {
    /// Its name.
    pub name: String,
    /// The layer or input that it is.
    pub from: String,
}

fn input_name() -> String {
    "input".into()
}

fn floats() -> String {
    "f32".into()
}

impl Description {
    /// The model that this describes.
    ///
    /// # Errors
    /// What does not fit, with the layer's name: an unknown kind or setting, a name that is none of an
    /// earlier layer, sizes.
    pub fn build(&self, registry: &Registry) -> Result<Model> {
        let mut builder = Builder::default();
        let mut last = None;
        for input in &self.inputs {
            let dtype = match input.elements.as_str() {
                "f32" => DType::F32,
                "u32" => DType::U32,
                other => return Err(Error::unknown("elements", other, &["f32", "u32"])),
            };
            let extents = input.extents.clone();
            let node = builder.add_input(&input.name, Input { extents, dtype })?;
            last.get_or_insert(node);
        }
        for (number, layer) in self.layers.iter().enumerate() {
            let mut settings = layer.clone();
            let mut text = |key: &str| match settings.remove(key) {
                None => Ok(None),
                Some(Json::String(text)) => Ok(Some(text)),
                Some(other) => {
                    let place = format!("{key} of layer {number}");
                    Err(Error::setting(place, other, "text"))
                }
            };
            let (kind, name, weights) = (text("kind")?, text("name")?, text("weights")?);
            let kind = kind.ok_or_else(|| {
                Error::setting(format!("layer {number}"), "no kind", "`kind` in each layer")
            })?;
            let shown = name.clone().unwrap_or_else(|| format!("{number}"));
            let inputs = match settings.remove("inputs") {
                None => vec![last.ok_or_else(|| {
                    Error::setting("model", "no input", "at least one input before the layers")
                })?],
                Some(names) => inputs(&builder, &shown, names)?,
            };
            let made = registry.make(&kind, Json::Object(settings));
            let layer = made.map_err(|e| super::at_layer(e, &format!("layer {shown}")))?;
            let node = builder.add_layer(name.as_deref(), weights.as_deref(), layer, inputs)?;
            last = Some(node);
        }
        for output in &self.outputs {
            let node = known(&builder, &output.name, &output.from)?;
            builder.add_output(&output.name, node);
        }
        if let (true, Some(last)) = (self.outputs.is_empty(), last) {
            builder.add_output("output", last);
        }
        builder.finish()
    }
}

fn known(builder: &Builder, whose: &str, name: &str) -> Result<usize> {
    builder.node(name).ok_or_else(|| {
        let wanted = "an input or a layer that comes before";
        Error::setting(format!("input of {whose}"), format!("`{name}`"), wanted)
    })
}

fn inputs(builder: &Builder, layer: &str, names: Json) -> Result<Vec<usize>> {
    let list: Vec<String> = serde_json::from_value(names).map_err(|e| {
        let place = format!("inputs of layer {layer}");
        Error::setting(place, e, "a list of names")
    })?;
    list.iter()
        .map(|name| known(builder, layer, name))
        .collect()
}

impl Model {
    /// The model as text.
    ///
    /// # Errors
    /// [`Error::Setting`] for a layer that has no description.
    pub fn describe(&self) -> Result<Description> {
        let mut description = Description::default();
        for node in &self.nodes {
            match &node.kind {
                Kind::Input => description.inputs.push(InputDescription {
                    name: node.name.clone(),
                    extents: node.example.extents.clone(),
                    elements: match node.example.dtype {
                        DType::F32 => "f32".into(),
                        DType::U32 => "u32".into(),
                    },
                }),
                Kind::Layer {
                    layer,
                    weights,
                    inputs,
                } => {
                    let settings = layer.settings()?;
                    let mut map = match settings {
                        Json::Object(map) => map,
                        _ => Map::new(),
                    };
                    map.insert("kind".into(), layer.kind().into());
                    map.insert("name".into(), node.name.clone().into());
                    if *weights != node.name {
                        map.insert("weights".into(), weights.clone().into());
                    }
                    let names = inputs.iter().map(|&i| self.nodes[i].name.clone());
                    map.insert("inputs".into(), names.collect::<Vec<_>>().into());
                    description.layers.push(map);
                }
            }
        }
        for (name, node) in &self.outputs {
            description.outputs.push(OutputDescription {
                name: name.clone(),
                from: self.nodes[*node].name.clone(),
            });
        }
        Ok(description)
    }

    /// [`Model::describe`] as JSON.
    ///
    /// # Errors
    /// As [`Model::describe`].
    pub fn to_json(&self) -> Result<String> {
        let description = self.describe()?;
        serde_json::to_string(&description)
            .map_err(|e| Error::setting("description of a model", e, "finite numbers"))
    }

    /// A model from JSON, of the layers that a registry knows, or in a form that it knows ([`Registry::with_form`]).
    ///
    /// # Errors
    /// [`Error::Setting`] saying where the text departs from the form, as [`Description::build`], and what a form of its
    /// own says.
    pub fn from_json(text: &str, registry: &Registry) -> Result<Self> {
        if let Some(model) = registry.read(text) {
            return model;
        }
        let description: Description = serde_json::from_str(text).map_err(|e| {
            let wanted = "JSON as `Model::to_json` writes it, or a form that the registry knows \
                          (`Registry::with_form`; for the book's networks `book::nn::Network::known_to`)";
            Error::setting("description of a model", e, wanted)
        })?;
        description.build(registry)
    }
}

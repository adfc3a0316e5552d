//! In what two experiments differ first: their models, and how their data become numbers.

use serde_json::{Map, Value as Json};

use super::settings::Reading;
use crate::data::{ArraySchema, PictureSchema, Schema};
use crate::model::Description;

/// What one has and what the other has in its place.
pub(in crate::fit) type Difference = (String, String);

/// Longest text of a setting that is shown.
const MOST: usize = 80;

/// The first difference of two lists, each entry told by its own text; where these are alike, by all of it.
fn of_lists<T: PartialEq + std::fmt::Debug>(
    found: &[T],
    wanted: &[T],
    text: impl Fn(&T) -> String,
    none: &str,
) -> Option<Difference> {
    let count = found.len().max(wanted.len());
    let at = (0..count).find(|&k| found.get(k) != wanted.get(k))?;
    let of = |list: &[T]| list.get(at).map_or(none.to_string(), &text);
    let (a, b) = (of(found), of(wanted));
    if a != b {
        return Some((a, b));
    }
    // Numbers may differ behind the digits that are shown.
    let of = |list: &[T]| list.get(at).map_or(none.to_string(), |x| format!("{x:?}"));
    Some((of(found), of(wanted)))
}

fn short(value: Option<&Json>) -> String {
    let text = value.map_or("not set".into(), Json::to_string);
    match text.chars().count() > MOST {
        true => text.chars().take(MOST).chain(['…']).collect(),
        false => text,
    }
}

/// A layer's kind and name: `dense hidden`.
fn layer(layer: &Map<String, Json>) -> String {
    let part = |key: &str| layer.get(key).and_then(Json::as_str).unwrap_or_default();
    format!("the layer {} ({})", part("name"), part("kind"))
}

/// The first difference of two models. What is left out is no difference: the layer of this name.
pub(in crate::fit) fn of_models(
    found: &Description,
    wanted: &Description,
    left_out: Option<&str>,
) -> Option<Difference> {
    let input = |input: &crate::model::InputDescription| {
        let (name, extents) = (&input.name, &input.extents);
        format!("the input {name} {extents:?} of {}", input.elements)
    };
    let inputs = of_lists(&found.inputs, &wanted.inputs, input, "no further input");
    let own = |model: &Description| -> Vec<Map<String, Json>> {
        let layers = model.layers.iter();
        let own = |layer: &&Map<String, Json>| {
            left_out.is_none_or(|name| layer.get("name").and_then(Json::as_str) != Some(name))
        };
        layers.filter(own).cloned().collect()
    };
    let (a, b) = (own(found), own(wanted));
    let layers = || {
        let at = (0..a.len().min(b.len())).find(|&k| a[k] != b[k]);
        if let Some(at) = at
            && layer(&a[at]) == layer(&b[at])
        {
            // The first setting.
            let keys = a[at].keys().chain(b[at].keys());
            let key = keys.clone().find(|&key| a[at].get(key) != b[at].get(key))?;
            let of = |all: &Map<String, Json>| {
                format!("{} with {key} {}", layer(all), short(all.get(key)))
            };
            return Some((of(&a[at]), of(&b[at])));
        }
        of_lists(&a, &b, layer, "no further layer")
    };
    let output = |output: &crate::model::OutputDescription| {
        format!("the output {} of {}", output.name, output.from)
    };
    let outputs = || of_lists(&found.outputs, &wanted.outputs, output, "no further output");
    inputs.or_else(layers).or_else(outputs)
}

/// The first difference in how data become numbers.
pub(in crate::fit) fn of_readings(found: &Reading, wanted: &Reading) -> Option<Difference> {
    match (found, wanted) {
        (Reading::Table(found), Reading::Table(wanted)) => of_tables(found, wanted),
        (Reading::Text(found), Reading::Text(wanted)) => {
            let text = |character: &char| format!("the character {character:?}");
            of_lists(found, wanted, text, "no further character")
        }
        (Reading::Pictures(found), Reading::Pictures(wanted)) => of_pictures(found, wanted),
        (Reading::Arrays(found), Reading::Arrays(wanted)) => of_arrays(found, wanted),
        _ => {
            let kind = |reading: &Reading| match reading {
                Reading::Table(_) => "a table",
                Reading::Text(_) => "a text",
                Reading::Pictures(_) => "pictures",
                Reading::Arrays(_) => "arrays",
            };
            let (found, wanted) = (kind(found), kind(wanted));
            (found != wanted).then(|| (found.into(), wanted.into()))
        }
    }
}

fn of_tables(found: &Schema, wanted: &Schema) -> Option<Difference> {
    let column =
        |column: &crate::data::Coded| format!("the column {}, {}", column.name, column.coding);
    let none = "no further column";
    let inputs = of_lists(&found.inputs, &wanted.inputs, column, none);
    inputs.or_else(|| of_lists(&found.targets, &wanted.targets, column, none))
}

fn of_pictures(found: &PictureSchema, wanted: &PictureSchema) -> Option<Difference> {
    let class = |class: &String| format!("the class {class}");
    let classes = of_lists(&found.classes, &wanted.classes, class, "no further class");
    let form = |schema: &PictureSchema| {
        let (colour, [height, width]) = (schema.colour, schema.size);
        let resized = if schema.resize { ", resized" } else { "" };
        format!("pictures of {height} × {width}, {colour:?}{resized}")
    };
    let (a, b) = (form(found), form(wanted));
    classes.or_else(|| (a != b).then_some((a, b)))
}

fn of_arrays(found: &ArraySchema, wanted: &ArraySchema) -> Option<Difference> {
    let column = |column: &crate::data::ArrayColumn| format!("{}: {column}", column.name);
    let none = "no further array";
    let inputs = of_lists(&found.inputs, &wanted.inputs, column, none);
    let targets = || of_lists(&found.targets, &wanted.targets, column, none);
    let classes = || {
        let count = |schema: &ArraySchema| match &schema.classes {
            Some(classes) => format!("{} classes", classes.len()),
            None => "no classes".into(),
        };
        let (a, b) = (count(found), count(wanted));
        (a != b).then_some((a, b))
    };
    inputs.or_else(targets).or_else(classes)
}

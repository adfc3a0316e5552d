//! Where two values differ that are a run's setting, as short as a message wants it.

use std::collections::BTreeMap;

use serde_json::{Value, json};

/// Most characters of a value in a message.
const SHOWN: usize = 160;

/// Two values that differ: the name of the place where they do, as deep as it is one, and what stands there as text.
pub(crate) fn narrowed(place: &str, ours: &Value, theirs: &Value) -> (String, [String; 2]) {
    match (ours, theirs) {
        (Value::Object(a), Value::Object(b)) if a.keys().eq(b.keys()) => {
            let mut apart = a.iter().filter(|(key, value)| b.get(*key) != Some(value));
            if let Some((key, value)) = apart.next() {
                let other = b.get(key).unwrap_or(&Value::Null);
                return narrowed(&format!("{place}, {key}"), value, other);
            }
        }
        // Lists of layers; of a list of numbers the whole says more.
        (Value::Array(a), Value::Array(b))
            if a.len() == b.len() && a.iter().all(Value::is_object) =>
        {
            if let Some(k) = (0..a.len()).find(|&k| a[k] != b[k]) {
                return narrowed(&format!("{place} {k}"), &a[k], &b[k]);
            }
        }
        (Value::String(a), Value::String(b)) => return (place.into(), apart(a, b)),
        _ => {}
    }
    (place.into(), [ours, theirs].map(shown))
}

/// A value for a message.
fn shown(value: &Value) -> String {
    match value {
        Value::Null => "none".into(),
        Value::String(text) => short(text),
        other => short(&canonical(other)),
    }
}

fn short(text: &str) -> String {
    match text.char_indices().nth(SHOWN) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.into(),
    }
}

/// Two texts that differ: both, or of long ones the parts between commas and brackets that do.
fn apart(ours: &str, theirs: &str) -> [String; 2] {
    let long = |text: &str| text.chars().count() > SHOWN;
    if !long(ours) && !long(theirs) {
        return [ours.into(), theirs.into()];
    }
    let parts = |text: &str| -> Vec<String> {
        let parts = text.split([',', '{', '}', '[', ']']).map(str::trim);
        let parts = parts.filter(|part| !part.is_empty());
        parts.map(String::from).collect()
    };
    let (a, b) = (parts(ours), parts(theirs));
    let before = a.iter().zip(&b).take_while(|(a, b)| a == b).count();
    let behind = a[before..].iter().rev().zip(b[before..].iter().rev());
    let behind = behind.take_while(|(a, b)| a == b).count();
    let differing = |all: &[String]| all[before..all.len() - behind].join(", ");
    let differ = [differing(&a), differing(&b)];
    if differ[0] == differ[1] {
        return [ours, theirs].map(short);
    }
    differ.map(|part| match part.is_empty() {
        true => "where it says no more".into(),
        false => format!("where it says `{}`", short(&part)),
    })
}

/// A value's JSON, names in order: whatever order a map keeps.
pub(crate) fn canonical(value: &Value) -> String {
    let list = |parts: Vec<String>| parts.join(",");
    match value {
        Value::Object(map) => {
            let sorted: BTreeMap<_, _> = map.iter().collect();
            let part = |(k, v): (&String, &Value)| format!("{}:{}", json!(k), canonical(v));
            format!("{{{}}}", list(sorted.into_iter().map(part).collect()))
        }
        Value::Array(values) => {
            format!("[{}]", list(values.iter().map(canonical).collect()))
        }
        other => other.to_string(),
    }
}

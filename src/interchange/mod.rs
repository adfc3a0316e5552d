//! Networks in ONNX's operators (opset 17), as plain data: what ops write themselves as, and what files
//! hold. Nothing here knows a file's bytes; the room `onnx` does, with the feature of that name.
//!
//! Names of operators, of their attributes and the order of their inputs are those of
//! <https://onnx.ai/onnx/operators/>. The first axis of every model's inputs and outputs is the
//! mini-batch, whose extent a [`Network`] leaves open.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

mod site;

pub use site::{Extent, Site, Term};
#[cfg(feature = "onnx")]
pub(crate) use site::{Sheet, TRIALS, extents_of};

/// The version of ONNX's operator set that networks are in.
pub const OPSET: i64 = 17;

/// Numbers of a tensor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Numbers {
    /// Floats of 32 bits.
    F32(#[serde(with = "floats")] Vec<f32>),
    /// Integers.
    I64(Vec<i64>),
}

impl Numbers {
    /// How many there are.
    pub fn len(&self) -> usize {
        match self {
            Self::F32(numbers) => numbers.len(),
            Self::I64(numbers) => numbers.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A tensor of known numbers, row-major.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tensor {
    /// Its extents; none of a single number.
    pub extents: Vec<usize>,
    /// As many numbers as the extents have places.
    pub numbers: Numbers,
}

impl Tensor {
    /// Whether there are as many numbers as the extents have places.
    #[cfg(feature = "onnx")]
    pub(crate) fn is_whole(&self) -> bool {
        let mut extents = self.extents.iter();
        let places = extents.try_fold(1usize, |n, &extent| n.checked_mul(extent));
        places == Some(self.numbers.len())
    }

    /// A list of integers.
    pub fn ints(numbers: &[i64]) -> Self {
        Self {
            extents: vec![numbers.len()],
            numbers: Numbers::I64(numbers.to_vec()),
        }
    }

    /// One float, without an axis.
    pub fn float(number: f64) -> Self {
        Self {
            extents: vec![],
            numbers: Numbers::F32(vec![number as f32]),
        }
    }

    /// Floats of these extents.
    pub fn floats(extents: &[usize], numbers: Vec<f32>) -> Self {
        Self {
            extents: extents.to_vec(),
            numbers: Numbers::F32(numbers),
        }
    }
}

/// A setting of an operator.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Attribute {
    /// An integer.
    Int(i64),
    /// A float.
    Float(f32),
    /// Integers.
    Ints(Vec<i64>),
    /// Floats.
    Floats(Vec<f32>),
    /// Text.
    Text(String),
    /// Texts.
    Texts(Vec<String>),
    /// A tensor.
    Tensor(Tensor),
}

impl From<i64> for Attribute {
    fn from(value: i64) -> Self {
        Self::Int(value)
    }
}

impl From<f64> for Attribute {
    fn from(value: f64) -> Self {
        Self::Float(value as f32)
    }
}

impl From<&str> for Attribute {
    fn from(value: &str) -> Self {
        Self::Text(value.into())
    }
}

impl From<Vec<i64>> for Attribute {
    fn from(value: Vec<i64>) -> Self {
        Self::Ints(value)
    }
}

impl From<Tensor> for Attribute {
    fn from(value: Tensor) -> Self {
        Self::Tensor(value)
    }
}

/// One operator of a network: a node of the file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Operator {
    /// ONNX's name of it: `Conv`.
    pub kind: String,
    /// Its name in the file; may be empty.
    pub name: String,
    /// The values that it reads; an empty name is an optional one that is not given.
    pub inputs: Vec<String>,
    /// The values that it makes; an empty name is one that nobody wants.
    pub outputs: Vec<String>,
    /// Its settings.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub attributes: BTreeMap<String, Attribute>,
}

/// An input or an output of a network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// Its name.
    pub name: String,
    /// Whether its elements are integers (`INT64`) instead of floats.
    pub integers: bool,
    /// The extents of one example; the mini-batch's axis stands before them.
    pub extents: Vec<usize>,
}

/// A network.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Network {
    /// What it is given.
    pub inputs: Vec<Port>,
    /// What it makes.
    pub outputs: Vec<Port>,
    /// Weights by name: floats.
    pub weights: Vec<(String, Tensor)>,
    /// The operators, each after those whose values it reads.
    pub operators: Vec<Operator>,
}

/// Floats in JSON, which has none that is not finite: such a one is text.
mod floats {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Serialize, Deserialize)]
    #[serde(untagged)]
    enum Float {
        Finite(f32),
        Other(String),
    }

    pub fn serialize<S: Serializer>(values: &[f32], serializer: S) -> Result<S::Ok, S::Error> {
        let float = |&value: &f32| match value.is_finite() {
            true => Float::Finite(value),
            false => Float::Other(value.to_string()),
        };
        serializer.collect_seq(values.iter().map(float))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<f32>, D::Error> {
        let values = Vec::<Float>::deserialize(deserializer)?;
        let float = |value| match value {
            Float::Finite(value) => Ok(value),
            Float::Other(text) => text.parse().map_err(serde::de::Error::custom),
        };
        values.into_iter().map(float).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tensors_go_through_json_bit_for_bit() {
        let values = vec![
            0.1,
            -0.0,
            f32::INFINITY,
            f32::NEG_INFINITY,
            f32::MIN_POSITIVE,
        ];
        let tensor = Tensor::floats(&[5], values.clone());
        let text = serde_json::to_string(&tensor).unwrap();
        let Numbers::F32(found) = serde_json::from_str::<Tensor>(&text).unwrap().numbers else {
            panic!("{text}");
        };
        let bits = |values: &[f32]| values.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&found), bits(&values));
    }
}

//! A layer that is a part of a network in ONNX's operators.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::operators::{Held, Values, Weight, write};
use crate::error::{Error, Result};
use crate::interchange::Operator;
use crate::model::{Described, Layer, Scope};
use crate::ops::Value;

/// Operators of an imported model that no other layer is: their inputs are the layer's, their weights are
/// variables by the names that the file has for them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Operators {
    /// The values that the layer's inputs are, in order.
    pub(super) values: Vec<String>,
    /// The value that is its output.
    pub(super) output: String,
    /// The operators, in order.
    pub(super) operators: Vec<Operator>,
    /// The weights that they read.
    pub(super) variables: Vec<Weight>,
}

impl Layer for Operators {
    fn kind(&self) -> &'static str {
        Self::KIND
    }

    fn forward(&self, scope: &mut Scope<'_>, inputs: &[Value]) -> Result<Value> {
        if inputs.len() != self.values.len() {
            let found = format!("{} inputs", inputs.len());
            return Err(Error::shape(
                Self::KIND,
                found,
                self.values.len().to_string(),
            ));
        }
        let given = self
            .values
            .iter()
            .cloned()
            .zip(inputs.iter().copied().map(Held::Value));
        let mut values: Values = given.collect();
        let weights: HashMap<&str, &Weight> = self
            .variables
            .iter()
            .map(|weight| (weight.name.as_str(), weight))
            .collect();
        for operator in &self.operators {
            write(operator, &mut values, &weights, scope)?;
        }
        match values.get(&self.output) {
            Some(Held::Value(value)) => Ok(*value),
            _ => {
                let wanted = "a value that depends on the layer's inputs";
                Err(Error::setting(
                    format!("output {}", self.output),
                    "none",
                    wanted,
                ))
            }
        }
    }

    fn settings(&self) -> Result<serde_json::Value> {
        serde_json::to_value(self)
            .map_err(|e| Error::setting("settings of operators", e, "operators as text"))
    }
}

impl Described for Operators {
    const KIND: &'static str = "operators";
}

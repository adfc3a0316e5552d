//! Layers that are one product, or the lookup that replaces one.

use super::*;
use crate::model::Initializer;
use crate::ops::add_bias::AddBias;
use crate::ops::matmul::Matmul;
use crate::ops::pointwise::pointwise;

/// y = x Wᵀ + b over the last axis: `[N, …, in]` → `[N, …, units]`. Weights `weight [units, in]`,
/// `bias [units]`, both uniform within ±1/√in at first.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dense {
    /// Outputs.
    pub units: usize,
    /// Whether there is a bias.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    pub bias: bool,
    /// How the weight starts.
    #[serde(default = "fan_in", skip_serializing_if = "is_fan_in")]
    pub weight_start: Initializer,
    /// How the bias starts.
    #[serde(default = "fan_in", skip_serializing_if = "is_fan_in")]
    pub bias_start: Initializer,
}

/// PyTorch's name of [`Dense`].
pub type Linear = Dense;

pub(super) fn fan_in() -> Initializer {
    Initializer::FanIn
}

pub(super) fn is_fan_in(initializer: &Initializer) -> bool {
    *initializer == Initializer::FanIn
}

/// The methods by which layers with weight and bias are set up.
macro_rules! weight_and_bias {
    ($name:ident) => {
        impl $name {
            /// The same without a bias.
            #[must_use]
            pub fn without_bias(self) -> Self {
                Self {
                    bias: false,
                    ..self
                }
            }

            /// The same with weights that start so.
            #[must_use]
            pub fn weight_start(self, initializer: $crate::model::Initializer) -> Self {
                Self {
                    weight_start: initializer,
                    ..self
                }
            }

            /// The same with biases that start so.
            #[must_use]
            pub fn bias_start(self, initializer: $crate::model::Initializer) -> Self {
                Self {
                    bias_start: initializer,
                    ..self
                }
            }
        }
    };
}
pub(super) use weight_and_bias;

impl Dense {
    /// A layer of so many units, with a bias.
    pub fn new(units: usize) -> Self {
        Self {
            units,
            bias: true,
            weight_start: Initializer::FanIn,
            bias_start: Initializer::FanIn,
        }
    }
}
weight_and_bias!(Dense);

layer!(Dense, "dense", |layer, scope, inputs| {
    let [x] = arity("dense", inputs)?;
    let extents = scope.extents(x)?;
    let (Some((&n_in, rows)), true) = (extents.split_last(), extents.len() > 1) else {
        let wanted = "x as [N, …, in]";
        return Err(Error::shape("dense", scope.ty(x)?.to_string(), wanted));
    };
    of_floats(scope, "dense", x)?;
    let units = layer.units;
    let start = layer.weight_start.with_fans(n_in, units);
    let w = scope.parameter("weight", &[units, n_in], start)?;
    let flat = scope.reshape(x, &[rows.iter().product(), n_in])?;
    let mut y = scope.op1(Arc::new(Matmul::new(false, true)), &[flat, w])?;
    if layer.bias {
        let start = layer.bias_start.with_fans(n_in, units);
        let b = scope.parameter("bias", &[units], start)?;
        y = scope.op1(Arc::new(AddBias), &[y, b])?;
    }
    scope.reshape(y, &[rows, &[units]].concat())
});

/// Rows of a table by number: integers `[N, …]` → `[N, …, width]`. Weight `weight [rows, width]`,
/// N(0, 1) at first. Where an input of the model is looked up, data with other numbers are refused; a number
/// that the model computes and that no row has gives zeros.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Embedding {
    /// How many there are: numbers from 0 to below it.
    pub rows: usize,
    /// Extent of each.
    pub width: usize,
    /// How the table starts.
    #[serde(default = "normal", skip_serializing_if = "is_normal")]
    pub weight_start: Initializer,
    /// The number that stands for nothing, as behind the end of a sequence (`padding_idx`): it gives zeros, whatever its
    /// row holds, and its row has no gradient. An optimizer with a decay makes the row smaller all the same, to no effect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub padding: Option<u32>,
}

fn normal() -> Initializer {
    Initializer::Normal(1.0)
}

fn is_normal(initializer: &Initializer) -> bool {
    *initializer == normal()
}

impl Embedding {
    /// A table of so many rows.
    pub fn new(rows: usize, width: usize) -> Self {
        Self {
            rows,
            width,
            weight_start: normal(),
            padding: None,
        }
    }

    /// The same with a number that stands for nothing.
    #[must_use]
    pub fn padding(self, number: u32) -> Self {
        Self {
            padding: Some(number),
            ..self
        }
    }

    /// The same with a table that starts so.
    #[must_use]
    pub fn weight_start(self, initializer: Initializer) -> Self {
        Self {
            weight_start: initializer,
            ..self
        }
    }
}

layer!(Embedding, "embedding", |layer, scope, inputs| {
    let [x] = arity("embedding", inputs)?;
    let start = layer.weight_start.with_fans(layer.rows, layer.width);
    let table = scope.parameter("weight", &[layer.rows, layer.width], start)?;
    scope.number(x, layer.rows);
    let rows = scope.op1(Arc::new(crate::ops::embedding::Embedding), &[table, x])?;
    let Some(padding) = layer.padding else {
        return Ok(rows);
    };
    if padding as usize >= layer.rows {
        let wanted = format!("0 to {}, one of the rows", layer.rows.saturating_sub(1));
        return Err(Error::setting("padding", padding, wanted));
    }
    let beside = [scope.extents(x)?, vec![1]].concat();
    let numbers = scope.reshape(x, &beside)?;
    pointwise(scope, [rows, numbers], |[row, number]| {
        number.equals(f64::from(padding)).select(0.0, row)
    })
});

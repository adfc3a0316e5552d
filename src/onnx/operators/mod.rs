//! ONNX's operators as ops of a graph: how each that is read is computed.
//!
//! A shape, an axis or a padding is a value of the network as well, made by operators of its own; what is
//! known when the graph is written is computed on the host, so that an op gets its settings.

use std::collections::HashMap;
use std::sync::Arc;

use super::file::described;
use crate::error::{Error, Result};
use crate::interchange::{Attribute, Numbers, Operator, Tensor};
use crate::model::{Initializer, Scope};
use crate::ops::constant::Constant;
use crate::ops::{Op, Tape, Value};
use crate::shape::DType;

mod elementwise;
mod known;
mod layers;
mod moves;
mod pools;
mod recurrent;
mod reduce;

/// Integers that are known on the host, at most: shapes and axes are few.
const MOST_KNOWN: usize = 1 << 12;

/// The operators that are read.
pub const READ: &[&str] = &[
    "Abs",
    "Add",
    "And",
    "ArgMax",
    "AveragePool",
    "BatchNormalization",
    "Cast",
    "Clip",
    "Concat",
    "Constant",
    "ConstantOfShape",
    "Conv",
    "ConvTranspose",
    "Cos",
    "CumSum",
    "Div",
    "Dropout",
    "Elu",
    "Equal",
    "Erf",
    "Exp",
    "Expand",
    "Flatten",
    "Floor",
    "GRU",
    "Gather",
    "Gemm",
    "GlobalAveragePool",
    "GlobalMaxPool",
    "Greater",
    "GreaterOrEqual",
    "HardSigmoid",
    "HardSwish",
    "Identity",
    "InstanceNormalization",
    "LRN",
    "LSTM",
    "LayerNormalization",
    "LeakyRelu",
    "Less",
    "LessOrEqual",
    "Log",
    "LogSoftmax",
    "MatMul",
    "Max",
    "MaxPool",
    "Min",
    "Mod",
    "Mul",
    "Neg",
    "Not",
    "Or",
    "PRelu",
    "Pad",
    "Pow",
    "RNN",
    "Reciprocal",
    "ReduceL1",
    "ReduceL2",
    "ReduceLogSumExp",
    "ReduceMax",
    "ReduceMean",
    "ReduceMin",
    "ReduceProd",
    "ReduceSum",
    "ReduceSumSquare",
    "Relu",
    "Reshape",
    "Resize",
    "Selu",
    "Shape",
    "Sigmoid",
    "Sign",
    "Sin",
    "Slice",
    "Softmax",
    "Softplus",
    "Softsign",
    "Split",
    "Sqrt",
    "Squeeze",
    "Sub",
    "Sum",
    "Tanh",
    "Transpose",
    "Trilu",
    "Unsqueeze",
    "Where",
];

/// A weight of the network.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Weight {
    /// Its name in the file.
    pub name: String,
    /// Its extents.
    pub extents: Vec<usize>,
    /// Whether it is no parameter but a statistic.
    #[serde(default)]
    pub statistic: bool,
}

/// What a value of the network is while the graph is written.
#[derive(Clone, Debug)]
pub(super) enum Held {
    /// A value of the graph; what is true or false is 1 or 0.
    Value(Value),
    /// Numbers that are known.
    Known(Tensor),
    /// The same float everywhere.
    Filled(Vec<usize>, f32),
}

/// The values of a network, by name.
pub(super) type Values = HashMap<String, Held>;

/// One operator that is to become ops.
struct Call<'a, 'g> {
    operator: &'a Operator,
    inputs: Vec<Option<Held>>,
    scope: &'a mut Scope<'g>,
}

/// Writes an operator whose inputs are among the values, and adds what it makes to them. A weight becomes
/// a variable when it is read first.
pub(super) fn write(
    operator: &Operator,
    values: &mut Values,
    weights: &HashMap<&str, &Weight>,
    scope: &mut Scope<'_>,
) -> Result<()> {
    let place = described(operator);
    let mut inputs = Vec::new();
    for name in &operator.inputs {
        if let (Some(weight), false) = (weights.get(name.as_str()), values.contains_key(name)) {
            values.insert(name.clone(), Held::Value(variable(weight, scope)?));
        }
        inputs.push(match (name.as_str(), values.get(name)) {
            ("", _) => None,
            (_, Some(held)) => Some(held.clone()),
            (_, None) => {
                let found = format!("input `{name}`");
                let wanted = "an output that is supported of the operator that makes it";
                return Err(Error::setting(place, found, wanted));
            }
        });
    }
    let mut call = Call {
        operator,
        inputs,
        scope,
    };
    let made = call.made().map_err(|e| match e {
        Error::Setting {
            name,
            found,
            wanted,
        } if !name.starts_with("node ") => {
            Error::setting(format!("{place}, {name}"), found, wanted)
        }
        other => other.within(&place),
    })?;
    for (name, held) in operator.outputs.iter().zip(made) {
        if let (Some(held), false) = (held, name.is_empty()) {
            values.insert(name.clone(), held);
        }
    }
    Ok(())
}

/// The variable of a weight, whose name is that of the file.
pub(super) fn variable(weight: &Weight, scope: &mut Scope<'_>) -> Result<Value> {
    let (name, extents) = (weight.name.as_str(), weight.extents.as_slice());
    if weight.statistic {
        return scope.statistic(name, extents, 0.0);
    }
    // Where training begins without the file's numbers: as a product or a convolution starts.
    let (first, rest) = extents.split_first().map_or((1, 1), |(&first, rest)| {
        let rest = rest.iter().fold(1usize, |n, &e| n.saturating_mul(e));
        (first, rest)
    });
    let fan_in = if rest == 1 { first } else { rest };
    scope.parameter(name, extents, Initializer::FanIn.with_fans(fan_in, first))
}

impl Call<'_, '_> {
    fn made(&mut self) -> Result<Vec<Option<Held>>> {
        let one = |held: Result<Held>| held.map(|held| vec![Some(held)]);
        let of = |value: Result<Value>| value.map(|value| vec![Some(Held::Value(value))]);
        if let Some(done) = self.elementwise() {
            return one(done);
        }
        match self.operator.kind.as_str() {
            "Constant" => one(self.constant()),
            "Mod" => one(self.modulo()),
            "ReduceProd" => one(self.product()),
            "ConstantOfShape" => one(self.constant_of_shape()),
            "Identity" => one(self.identity(&[])),
            "Dropout" => one(self.identity(&["seed"])),
            "Cast" => one(self.cast()),
            "Shape" => one(self.shape()),
            "Reshape" => one(self.reshape()),
            "Flatten" => of(self.flatten()),
            "Squeeze" => one(self.squeeze()),
            "Unsqueeze" => one(self.unsqueeze()),
            "Transpose" => one(self.transpose()),
            "Concat" => one(self.concat()),
            "Split" => self.split(),
            "Slice" => one(self.slice()),
            "Pad" => of(self.pad()),
            "Gather" => one(self.gather()),
            "Expand" => one(self.expand()),
            "Trilu" => of(self.trilu()),
            "Resize" => of(self.resize()),
            "Gemm" => of(self.gemm()),
            "MatMul" => of(self.matmul()),
            "Conv" => of(self.conv()),
            "ConvTranspose" => of(self.conv_transpose()),
            "MaxPool" => of(self.max_pool()),
            "AveragePool" => of(self.average_pool()),
            "GlobalAveragePool" => of(self.global_pool(true)),
            "GlobalMaxPool" => of(self.global_pool(false)),
            "BatchNormalization" => of(self.batch_norm()),
            "LayerNormalization" => of(self.layer_norm()),
            "InstanceNormalization" => of(self.instance_norm()),
            "LRN" => of(self.lrn()),
            "Softmax" | "LogSoftmax" => of(self.softmax()),
            "CumSum" => of(self.cumsum()),
            "ArgMax" => of(self.argmax()),
            "LSTM" | "GRU" | "RNN" => self.recurrent(),
            kind if READ.contains(&kind) && kind.starts_with("Reduce") => of(self.reduce()),
            kind => {
                let wanted = format!("one of {}", READ.join(", "));
                Err(self.refused(format!("operator {kind}"), &wanted))
            }
        }
    }

    /// The error of this node.
    fn refused(&self, found: impl Into<String>, wanted: &str) -> Error {
        Error::setting(described(self.operator), found.into(), wanted)
    }

    /// Refuses attributes that are not among these.
    fn allow(&self, known: &[&str]) -> Result<()> {
        let mut names = self.operator.attributes.keys();
        match names.find(|name| !known.contains(&name.as_str())) {
            None => Ok(()),
            Some(name) => {
                let wanted = match known {
                    [] => "no attributes".into(),
                    known => format!("{} alone", known.join(", ")),
                };
                Err(self.refused(format!("attribute {name}"), &wanted))
            }
        }
    }

    fn wrong(&self, name: &str, wanted: &str) -> Error {
        let found = match self.operator.attributes.get(name) {
            None => format!("no attribute {name}"),
            Some(Attribute::Int(value)) => format!("attribute {name} = {value}"),
            Some(Attribute::Float(value)) => format!("attribute {name} = {value}"),
            Some(Attribute::Ints(values)) => format!("attribute {name} = {values:?}"),
            Some(Attribute::Floats(values)) => format!("attribute {name} = {values:?}"),
            Some(Attribute::Text(text)) => format!("attribute {name} = {text}"),
            Some(Attribute::Texts(texts)) => format!("attribute {name} = {}", texts.join(", ")),
            Some(Attribute::Tensor(tensor)) => {
                let (extents, count) = (&tensor.extents, tensor.numbers.len());
                format!("attribute {name}, {count} numbers of extents {extents:?}")
            }
        };
        self.refused(found, wanted)
    }

    fn int(&self, name: &str, default: i64) -> Result<i64> {
        match self.operator.attributes.get(name) {
            None => Ok(default),
            Some(Attribute::Int(value)) => Ok(*value),
            Some(_) => Err(self.wrong(name, "an integer")),
        }
    }

    fn float(&self, name: &str, default: f64) -> Result<f64> {
        match self.operator.attributes.get(name) {
            None => Ok(default),
            Some(Attribute::Float(value)) if value.is_finite() => Ok(f64::from(*value)),
            Some(_) => Err(self.wrong(name, "a finite float")),
        }
    }

    fn text(&self, name: &str, default: &'static str) -> Result<&str> {
        match self.operator.attributes.get(name) {
            None => Ok(default),
            Some(Attribute::Text(value)) => Ok(value),
            Some(_) => Err(self.wrong(name, "text")),
        }
    }

    fn ints(&self, name: &str) -> Result<Option<Vec<i64>>> {
        match self.operator.attributes.get(name) {
            None => Ok(None),
            Some(Attribute::Ints(values)) => Ok(Some(values.clone())),
            Some(_) => Err(self.wrong(name, "integers")),
        }
    }

    /// Refuses an integer attribute that has another value than this one, which is the default too.
    fn only(&self, name: &str, value: i64) -> Result<()> {
        match self.int(name, value)? == value {
            true => Ok(()),
            false => Err(self.wrong(name, &value.to_string())),
        }
    }

    fn held(&self, input: usize) -> Result<&Held> {
        let held = self.inputs.get(input).and_then(Option::as_ref);
        held.ok_or_else(|| self.refused("nothing", &format!("input {input}")))
    }

    fn has(&self, input: usize) -> bool {
        self.inputs.get(input).is_some_and(Option::is_some)
    }

    /// Integers that are known.
    fn known_ints(&self, input: usize) -> Result<Vec<i64>> {
        match self.held(input)? {
            Held::Known(Tensor {
                numbers: Numbers::I64(numbers),
                ..
            }) => Ok(numbers.clone()),
            _ => {
                let wanted =
                    "integers that are known before it runs, but for the mini-batch's extent";
                Err(self.refused(format!("input {input} that is computed"), wanted))
            }
        }
    }

    /// Integers of an attribute or, as in later operator sets, of an input.
    fn ints_of(&self, name: &str, input: usize) -> Result<Option<Vec<i64>>> {
        match self.has(input) {
            true => Ok(Some(self.known_ints(input)?)),
            false => self.ints(name),
        }
    }

    /// An input as a value of the graph.
    fn value(&mut self, input: usize) -> Result<Value> {
        let held = self.held(input)?.clone();
        match held {
            Held::Value(value) => Ok(value),
            Held::Known(Tensor {
                extents,
                numbers: Numbers::F32(numbers),
            }) => self.scope.constant(&extents, numbers),
            Held::Filled(extents, value) => {
                let value = f64::from(value);
                self.scope.op1(Arc::new(Constant { extents, value }), &[])
            }
            Held::Known(_) => {
                let wanted = "floats, or integers that are an input of the model";
                Err(self.refused(format!("integers as input {input}"), wanted))
            }
        }
    }

    /// The extents of an input.
    fn extents(&self, input: usize) -> Result<Vec<usize>> {
        match self.held(input)? {
            Held::Value(value) => self.scope.extents(*value),
            Held::Known(tensor) => Ok(tensor.extents.clone()),
            Held::Filled(extents, _) => Ok(extents.clone()),
        }
    }

    /// Whether an input is integers of the graph.
    fn is_integers(&self, value: Value) -> Result<bool> {
        Ok(self.scope.ty(value)?.dtype == DType::U32)
    }

    fn op(&mut self, op: impl Op, inputs: &[Value]) -> Result<Value> {
        self.scope.op1(Arc::new(op), inputs)
    }

    /// An axis that may be counted from behind, of so many.
    fn axis(&self, axis: i64, rank: usize) -> Result<usize> {
        let counted = if axis < 0 { axis + rank as i64 } else { axis };
        let found = usize::try_from(counted).ok().filter(|&axis| axis < rank);
        found.ok_or_else(|| self.refused(format!("axis {axis} of {rank}"), "an axis that is there"))
    }

    fn axes(&self, axes: &[i64], rank: usize) -> Result<Vec<usize>> {
        axes.iter().map(|&axis| self.axis(axis, rank)).collect()
    }

    /// Known integers of these extents, if they are not too many.
    fn few(&self, extents: Vec<usize>, numbers: Numbers) -> Result<Held> {
        match numbers.len() <= MOST_KNOWN {
            true => Ok(Held::Known(Tensor { extents, numbers })),
            false => Err(self.refused(
                format!("{} numbers that are no weights", numbers.len()),
                "at most 4,096",
            )),
        }
    }
}

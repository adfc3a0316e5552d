//! Where an op writes itself as operators.

use std::collections::{HashMap, HashSet};

use super::{Attribute, Network, Operator, Tensor};
use crate::error::{Error, Result};
use crate::shape::{DType, Type};

/// An extent of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// The same for every mini-batch.
    Fixed(usize),
    /// So many times the examples of the mini-batch.
    Batch(usize),
}

/// The mini-batches of two examples and of three, which tell what of a value's extents is the batch's.
#[cfg(feature = "onnx")]
pub(crate) const TRIALS: [usize; 2] = [2, 3];

/// What the extents of a value are for any mini-batch, by those for [`TRIALS`]; `None` where they do not
/// follow from it.
#[cfg(feature = "onnx")]
pub(crate) fn extents_of(types: [&Type; 2]) -> Option<Vec<Extent>> {
    let [a, b] = types.map(|ty| ty.shape.extents());
    let [two, three] = TRIALS;
    let extent = |(&a, &b): (&usize, &usize)| match (a == b, a / two == b / three) {
        (true, _) => Some(Extent::Fixed(a)),
        (_, true) if a % two == 0 && b % three == 0 => Some(Extent::Batch(a / two)),
        _ => None,
    };
    match a.len() == b.len() {
        true => a.iter().zip(b).map(extent).collect(),
        false => None,
    }
}

/// A value of the network.
#[derive(Clone, Debug, PartialEq)]
pub struct Term {
    /// Its name; empty where no operator makes it.
    pub name: String,
    /// Its extents.
    pub extents: Vec<Extent>,
    /// Floats, or integers (`INT64`).
    pub dtype: DType,
}

/// The network under way.
#[derive(Debug, Default)]
pub(crate) struct Sheet {
    pub network: Network,
    /// Names that are taken.
    pub taken: HashSet<String>,
    /// Which operator makes a value.
    makers: HashMap<String, usize>,
    /// What is known of values.
    terms: HashMap<String, Term>,
    /// Constants that are there, by what they hold.
    constants: HashMap<String, String>,
}

impl Sheet {
    /// Makes known what a value is.
    #[cfg(feature = "onnx")]
    pub fn know(&mut self, term: &Term) {
        self.terms.insert(term.name.clone(), term.clone());
    }

    /// `conv/Conv`, and from the second on `conv/Conv_2`.
    fn free_name(&mut self, place: &str, kind: &str) -> String {
        let stem = match place {
            "" => kind.to_string(),
            place => format!("{place}/{kind}"),
        };
        let mut name = stem.clone();
        let mut number = 1;
        while !self.taken.insert(name.clone()) {
            number += 1;
            name = format!("{stem}_{number}");
        }
        name
    }

    fn push(&mut self, operator: Operator) {
        for output in &operator.outputs {
            self.makers
                .insert(output.clone(), self.network.operators.len());
        }
        self.network.operators.push(operator);
    }
}

/// A node of the graph that is to become operators: its op's inputs and outputs, and where to write.
#[derive(Debug)]
pub struct Site<'a> {
    pub(crate) sheet: &'a mut Sheet,
    /// The layer.
    pub(crate) place: String,
    /// The op.
    pub(crate) op: &'static str,
    pub(crate) inputs: Vec<Term>,
    pub(crate) outputs: Vec<Term>,
    /// The types of the inputs for a mini-batch of a few examples.
    pub(crate) types: Vec<Type>,
}

impl Site<'_> {
    /// The op's inputs.
    pub fn inputs(&self) -> &[Term] {
        &self.inputs
    }

    /// The op's outputs, which have no names yet.
    pub fn outputs(&self) -> &[Term] {
        &self.outputs
    }

    /// The types of the inputs, for a mini-batch of a few examples.
    pub fn types(&self) -> &[Type] {
        &self.types
    }

    /// The name of an input; empty for one that the op lacks.
    pub fn input(&self, input: usize) -> String {
        self.inputs
            .get(input)
            .map_or_else(String::new, |term| term.name.clone())
    }

    /// The extents of an input.
    pub fn extents(&self, input: usize) -> Vec<Extent> {
        self.inputs
            .get(input)
            .map_or_else(Vec::new, |term| term.extents.clone())
    }

    /// The extents of an output.
    pub fn made(&self, output: usize) -> Vec<Extent> {
        self.outputs
            .get(output)
            .map_or_else(Vec::new, |term| term.extents.clone())
    }

    /// An extent of an input that no mini-batch changes.
    ///
    /// # Errors
    /// [`Error::Setting`] where it does, or where there is no such axis.
    pub fn fixed(&self, input: usize, axis: usize) -> Result<usize> {
        match self.extents(input).get(axis) {
            Some(Extent::Fixed(extent)) => Ok(*extent),
            _ => Err(self.refused(&format!(
                "along axis {axis}, which depends on the mini-batch"
            ))),
        }
    }

    /// Writes an operator of one output and returns its name.
    pub fn op(&mut self, kind: &str, inputs: &[&str], attributes: &[(&str, Attribute)]) -> String {
        self.ops(kind, inputs, attributes, 1).swap_remove(0)
    }

    /// Writes an operator of several outputs and returns their names.
    pub fn ops(
        &mut self,
        kind: &str,
        inputs: &[&str],
        attributes: &[(&str, Attribute)],
        outputs: usize,
    ) -> Vec<String> {
        let name = self.sheet.free_name(&self.place, kind);
        let mut made = vec![name.clone()];
        for _ in 1..outputs {
            made.push(self.sheet.free_name(&self.place, kind));
        }
        let inputs: Vec<String> = inputs.iter().map(|&input| input.into()).collect();
        let attributes = attributes.iter().cloned();
        self.sheet.push(Operator {
            kind: kind.into(),
            name,
            inputs,
            outputs: made.clone(),
            attributes: attributes.map(|(name, a)| (name.into(), a)).collect(),
        });
        made
    }

    /// A constant; the same one is written once.
    pub fn constant(&mut self, tensor: Tensor) -> String {
        let key = format!("{tensor:?}");
        if let Some(name) = self.sheet.constants.get(&key) {
            return name.clone();
        }
        let name = self.op("Constant", &[], &[("value", tensor.into())]);
        self.sheet.constants.insert(key, name.clone());
        name
    }

    /// A list of integers, as operators take sizes and axes.
    pub fn ints(&mut self, numbers: &[i64]) -> String {
        self.constant(Tensor::ints(numbers))
    }

    /// The operator that makes a value.
    pub fn maker(&self, value: &str) -> Option<&Operator> {
        let maker = self.sheet.makers.get(value)?;
        self.sheet.network.operators.get(*maker)
    }

    /// What is known of a value that some op has made, of a weight or of an input.
    pub fn term(&self, value: &str) -> Option<&Term> {
        self.sheet.terms.get(value)
    }

    /// A value in other extents, of which one at most follows from the others.
    ///
    /// # Errors
    /// [`Error::Setting`] for extents that ONNX's `Reshape` cannot say for every mini-batch.
    pub fn reshape(&mut self, value: &str, from: &[Extent], to: &[Extent]) -> Result<String> {
        let open = |extent: &&Extent| matches!(extent, Extent::Batch(_));
        let alone = to.iter().filter(open).count() == 1;
        let mut shape = Vec::new();
        let mut left = 1;
        for (axis, extent) in to.iter().enumerate() {
            shape.push(match extent {
                Extent::Fixed(extent) => *extent as i64,
                // 0 stands for the extent that the axis had, -1 for what is left.
                Extent::Batch(_) if !alone && from.get(axis) == Some(extent) => 0,
                Extent::Batch(_) if left == 0 => {
                    return Err(
                        self.refused("to extents of which several depend on the mini-batch")
                    );
                }
                Extent::Batch(_) => {
                    left = 0;
                    -1
                }
            });
        }
        let shape = self.ints(&shape);
        Ok(self.op("Reshape", &[value, &shape], &[]))
    }

    /// The error of an op that these operators do not have in this form.
    pub fn refused(&self, form: &str) -> Error {
        let name = match self.place.as_str() {
            "" => format!("op {}", self.op),
            place => format!("layer {place}, op {}", self.op),
        };
        Error::setting(
            format!("ONNX, {name}"),
            form,
            "what ONNX has an operator for (opset 17)",
        )
    }
}

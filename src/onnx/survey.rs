//! What is found out about a network before it becomes layers: weights, extents, who makes and who reads a value.

use std::collections::{HashMap, HashSet};

use super::file::described;
use super::operators::{Held, Values, Weight, write};
use crate::error::{Error, Result};
use crate::graph::Graph;
use crate::interchange::{
    Attribute, Extent, Network, Numbers, Operator, TRIALS, Tensor, extents_of,
};
use crate::model::{Input, Pass, Scope, Variables};
use crate::ops::Tape;
use crate::shape::{DType, Type};

/// What is known of a value of the network.
pub(super) enum Known {
    /// Numbers.
    Numbers(Tensor),
    /// A value of the graph, whose extents depend on the mini-batch as these do.
    Value(Vec<Extent>, DType),
    /// Anything else.
    Other,
}

/// A network with what is found out about it.
pub(super) struct Survey<'a> {
    pub network: &'a Network,
    pub weights: HashMap<&'a str, (&'a Tensor, Weight)>,
    pub(super) known: HashMap<String, Known>,
    /// The operator that makes a value.
    pub(super) makers: HashMap<&'a str, usize>,
    /// The operators that read a value, and how many outputs it is.
    pub(super) readers: HashMap<&'a str, (Vec<usize>, usize)>,
}

impl<'a> Survey<'a> {
    pub(super) fn new(network: &'a Network) -> Result<Self> {
        let mut survey = Self {
            network,
            weights: HashMap::new(),
            known: HashMap::new(),
            makers: HashMap::new(),
            readers: HashMap::new(),
        };
        let norms = network
            .operators
            .iter()
            .filter(|o| o.kind == "BatchNormalization");
        let statistics = norms.flat_map(|o| o.inputs.iter().skip(3).map(String::as_str));
        let statistics: HashSet<&str> = statistics.collect();
        for (name, tensor) in &network.weights {
            let weight = Weight {
                name: name.clone(),
                extents: tensor.extents.clone(),
                statistic: statistics.contains(name.as_str()),
            };
            survey.weights.insert(name, (tensor, weight));
        }
        for (name, tensor) in &network.weights {
            if !tensor.is_whole() {
                let found = format!("{} numbers", tensor.numbers.len());
                let wanted = format!("as many as extents {:?} have places", tensor.extents);
                return Err(Error::setting(format!("initializer {name}"), found, wanted));
            }
        }
        for (number, operator) in network.operators.iter().enumerate() {
            for name in &operator.inputs {
                survey.readers.entry(name).or_default().0.push(number);
            }
            for name in &operator.outputs {
                survey.makers.insert(name, number);
            }
        }
        for port in &network.outputs {
            survey.readers.entry(&port.name).or_default().1 += 1;
        }
        survey.look()?;
        Ok(survey)
    }

    /// Writes the network for two mini-batches.
    fn look(&mut self) -> Result<()> {
        let mut all: Vec<HashMap<String, Option<Type>>> = Vec::new();
        let mut numbers: Values = Values::new();
        for batch in TRIALS {
            let mut graph = Graph::new();
            let mut values = Values::new();
            for port in &self.network.inputs {
                let dtype = if port.integers {
                    DType::U32
                } else {
                    DType::F32
                };
                let extents = port.extents.clone();
                let ty =
                    Input { extents, dtype }.of_batch(&format!("input {}", port.name), batch)?;
                let value = graph.variable(&format!("input {}", port.name), ty)?;
                values.insert(port.name.clone(), Held::Value(value));
            }
            graph.begin("forward");
            let (mut variables, mut streams) = (Variables::default(), 0);
            let weights: HashMap<&str, &Weight> = self
                .weights
                .iter()
                .map(|(name, (_, weight))| (*name, weight))
                .collect();
            let mut scope = Scope::new(&mut graph, &mut variables, Pass::Evaluation, &mut streams);
            for operator in &self.network.operators {
                write(operator, &mut values, &weights, &mut scope)?;
            }
            let mut types = HashMap::new();
            for (name, held) in &values {
                types.insert(
                    name.clone(),
                    match held {
                        Held::Value(value) => Some(graph.ty(*value)?.clone()),
                        Held::Known(_) | Held::Filled(..) => None,
                    },
                );
            }
            all.push(types);
            numbers = values;
        }
        for (name, a) in &all[0] {
            let b = all[1].get(name).and_then(Option::as_ref);
            let known = match (a, b, numbers.remove(name)) {
                (Some(a), Some(b), _) => match extents_of([a, b]) {
                    Some(extents) => Known::Value(extents, a.dtype),
                    None => Known::Other,
                },
                (None, None, Some(Held::Known(tensor))) => Known::Numbers(tensor),
                _ => Known::Other,
            };
            self.known.insert(name.clone(), known);
        }
        let mut operators = self.network.operators.iter();
        operators.try_for_each(|operator| self.apart(operator))
    }

    /// Refuses an operator along the mini-batch: an example's numbers are its own, however many others there are.
    fn apart(&self, operator: &Operator) -> Result<()> {
        let kind = operator.kind.as_str();
        let last = |default| match operator.attributes.get("axis") {
            Some(Attribute::Int(axis)) => vec![*axis],
            _ => vec![default],
        };
        let of_input = || {
            let tensor = operator.inputs.get(1).and_then(|name| self.numbers(name));
            tensor.and_then(|tensor| match &tensor.numbers {
                Numbers::I64(axes) => Some(axes.clone()),
                Numbers::F32(_) => None,
            })
        };
        let axes = match kind {
            "Softmax" | "LogSoftmax" => Some(last(-1)),
            "CumSum" => of_input(),
            _ if kind.starts_with("Reduce") => match operator.attributes.get("axes") {
                Some(Attribute::Ints(axes)) => Some(axes.clone()),
                _ => of_input(),
            },
            _ => return Ok(()),
        };
        let Some(Known::Value(extents, _)) =
            operator.inputs.first().and_then(|x| self.known.get(x))
        else {
            return Ok(());
        };
        let rank = extents.len() as i64;
        let all = axes.as_ref().is_none_or(|axes| axes.is_empty());
        let axes = match all {
            true => (0..rank).collect(),
            false => axes.unwrap_or_default(),
        };
        let of_batch = |axis: &&i64| {
            let axis = usize::try_from(if **axis < 0 { **axis + rank } else { **axis });
            let extent = axis.ok().and_then(|axis| extents.get(axis));
            matches!(extent, Some(Extent::Batch(_)))
        };
        match axes.iter().find(of_batch) {
            Some(axis) => {
                let found = format!("axis {axis}, which depends on the mini-batch");
                Err(Error::setting(
                    described(operator),
                    found,
                    "axes of an example",
                ))
            }
            None => Ok(()),
        }
    }

    /// The extents of an example of a value that begins with the mini-batch.
    pub fn example(&self, name: &str, dtype: DType) -> Option<Vec<usize>> {
        if self.weights.contains_key(name) {
            return None;
        }
        match self.known.get(name) {
            Some(Known::Value(extents, found)) if *found == dtype => match extents.as_slice() {
                [Extent::Batch(1), rest @ ..] => rest
                    .iter()
                    .map(|extent| match extent {
                        Extent::Fixed(extent) => Some(*extent),
                        Extent::Batch(_) => None,
                    })
                    .collect(),
                _ => None,
            },
            _ => None,
        }
    }

    /// Whether a value can go from layer to layer.
    pub(super) fn is_wire(&self, name: &str) -> bool {
        self.example(name, DType::F32)
            .or_else(|| self.example(name, DType::U32))
            .is_some()
    }

    /// Known numbers.
    pub fn numbers(&self, name: &str) -> Option<&Tensor> {
        match self.known.get(name) {
            Some(Known::Numbers(tensor)) => Some(tensor),
            _ => None,
        }
    }

    /// A weight.
    pub fn weight(&self, name: &str) -> Option<&'a Tensor> {
        self.weights.get(name).map(|(tensor, _)| *tensor)
    }

    /// Whether only one operator reads a value.
    pub fn is_alone(&self, name: &str) -> bool {
        self.readers
            .get(name)
            .is_some_and(|(readers, outputs)| readers.len() + outputs == 1)
    }

    /// The operator that alone reads a value.
    pub fn reader(&self, name: &str) -> Option<(usize, &'a Operator)> {
        let (readers, outputs) = self.readers.get(name)?;
        match (readers.as_slice(), outputs) {
            ([reader], 0) => Some((*reader, &self.network.operators[*reader])),
            _ => None,
        }
    }
}

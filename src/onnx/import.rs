//! Networks of ONNX's operators as models.
//!
//! The whole network is written as a graph for two mini-batches first, which finds what is not supported
//! and every value's extents. Then operators become this crate's layers where they are such layers
//! (`standard.rs`). What is left between these is gathered into [`Operators`], a part of the network each.

use std::collections::{BTreeSet, HashMap, HashSet};

use ndarray::{ArrayD, IxDyn};
use serde_json::{Map, Value as Json};

use super::file::described;
use super::layer::Operators;
use super::standard::{Standard, standard};
use super::survey::Survey;
use crate::error::{Error, Result};
use crate::fit::Weights;
use crate::interchange::{Attribute, Network, Numbers, Operator};
use crate::model::{Description, InputDescription, Model, OutputDescription, Registry};

/// The description under way.
struct Draft<'a> {
    survey: &'a Survey<'a>,
    description: Description,
    /// The node that a value is.
    wires: HashMap<String, String>,
    names: HashSet<String>,
    /// What weights are called in the model, and whether their axes are swapped.
    renamed: HashMap<String, (String, bool)>,
    /// Operators that a layer has taken in.
    done: HashSet<usize>,
    /// How much may still be copied into layers: operators, and numbers of their constants.
    room: usize,
}

/// An operator and the numbers of its constants.
fn size(operator: &Operator) -> usize {
    let held = |attribute: &Attribute| match attribute {
        Attribute::Tensor(tensor) => tensor.numbers.len(),
        Attribute::Ints(numbers) => numbers.len(),
        Attribute::Floats(numbers) => numbers.len(),
        _ => 1,
    };
    1 + operator.attributes.values().map(held).sum::<usize>()
}

/// How often a network may be copied into layers: what several of them need is in each.
const COPIES: usize = 16;

/// Numbers that may be copied from any file.
const FEW_NUMBERS: usize = 1 << 20;

/// Makes weights of the operators that only hand on another weight. PyTorch's exporter writes parameters of equal numbers
/// once, as all ones and zeros before training are, and the others as its `Identity`; they are parameters of their own, under
/// the names that they have. What modules share is one initializer that several operators read, and stays shared.
fn untie(network: &mut Network) -> Result<()> {
    let (weights, operators) = (&mut network.weights, &mut network.operators);
    // A small file must not become a large model.
    let all: usize = weights.iter().map(|(_, tensor)| tensor.numbers.len()).sum();
    let most = FEW_NUMBERS + COPIES * all;
    let mut copied = 0usize;
    let mut places: HashMap<String, usize> = (weights.iter().enumerate())
        .map(|(place, (name, _))| (name.clone(), place))
        .collect();
    operators.retain(|operator| {
        let (of, [name]) = (operator.inputs.first(), operator.outputs.as_slice()) else {
            return true;
        };
        let known = of.filter(|_| operator.kind == "Identity");
        let Some(&place) = known.and_then(|weight| places.get(weight)) else {
            return true;
        };
        copied = copied.saturating_add(weights[place].1.numbers.len());
        if copied <= most {
            places.insert(name.clone(), weights.len());
            weights.push((name.clone(), weights[place].1.clone()));
        }
        false
    });
    match copied <= most {
        true => Ok(()),
        false => {
            let found = format!("{copied} numbers in weights that are equal to others");
            let wanted = format!("{most} at most, {COPIES} times as many as the file has");
            Err(Error::setting("weights", found, wanted))
        }
    }
}

/// The model of a network, and its weights.
pub(super) fn model(network: &Network, registry: &Registry) -> Result<(Model, Weights)> {
    let mut network = network.clone();
    super::export::prune(&mut network);
    untie(&mut network)?;
    let survey = Survey::new(&network)?;
    let mut draft = Draft {
        survey: &survey,
        description: Description::default(),
        wires: HashMap::new(),
        names: HashSet::new(),
        renamed: HashMap::new(),
        done: HashSet::new(),
        room: 4096 + COPIES * network.operators.iter().map(size).sum::<usize>(),
    };
    for port in &network.inputs {
        let name = draft.free_name(&port.name);
        draft.wires.insert(port.name.clone(), name.clone());
        draft.description.inputs.push(InputDescription {
            name,
            extents: port.extents.clone(),
            elements: if port.integers {
                "u32".into()
            } else {
                "f32".into()
            },
        });
    }
    for (number, operator) in network.operators.iter().enumerate() {
        if !draft.done.contains(&number) {
            draft.operator(operator)?;
        }
    }
    for port in &network.outputs {
        if !survey.is_wire(&port.name) {
            let wanted = "a value whose first axis is the mini-batch, as the input's";
            return Err(Error::setting("output", &port.name, wanted));
        }
        let from = draft.wire(&port.name)?;
        let name = port.name.clone();
        draft
            .description
            .outputs
            .push(OutputDescription { name, from });
    }
    let model = draft.description.build(registry)?;
    let mut tensors: HashMap<String, ArrayD<f32>> = HashMap::new();
    for (name, tensor) in &network.weights {
        let Numbers::F32(numbers) = &tensor.numbers else {
            continue;
        };
        let array = ArrayD::from_shape_vec(IxDyn(&tensor.extents), numbers.clone())
            .map_err(|e| Error::setting(format!("initializer {name}"), e, "its extents"))?;
        match draft.renamed.get(name) {
            Some((name, true)) => {
                let turned = array.t().as_standard_layout().into_owned();
                tensors.insert(name.clone(), turned)
            }
            Some((name, false)) => tensors.insert(name.clone(), array),
            None => tensors.insert(name.clone(), array),
        };
    }
    let mut list = Vec::new();
    for variable in model.variables() {
        if let Some(tensor) = tensors.remove(&variable.name) {
            list.push((variable.name.clone(), tensor));
        }
    }
    Ok((model, Weights::from_tensors(list)))
}

/// The letters of a name that layers may have.
fn plain(name: &str) -> String {
    let letter = |c: char| {
        if c.is_alphanumeric() || "_- ".contains(c) {
            c
        } else {
            '_'
        }
    };
    name.chars()
        .map(letter)
        .collect::<String>()
        .trim_matches('_')
        .into()
}

/// The module that a node stands in, as PyTorch and this crate name nodes: `/layer1/layer1.0/conv1/Conv` is
/// `layer1.0.conv1`'s.
fn module(operator: &Operator) -> String {
    let parts: Vec<&str> = operator
        .name
        .split('/')
        .filter(|part| !part.is_empty())
        .collect();
    let Some((_, path)) = parts.split_last().filter(|(_, path)| !path.is_empty()) else {
        return operator.kind.to_lowercase();
    };
    let mut name = String::new();
    for part in path {
        match part.strip_prefix(name.as_str()) {
            Some(rest) if rest.starts_with('.') => name = (*part).into(),
            _ if name.is_empty() => name = (*part).into(),
            _ => name = format!("{name}.{part}"),
        }
    }
    name
}

impl Draft<'_> {
    /// `conv1`, and from the second on `conv1_2`.
    fn free_name(&mut self, name: &str) -> String {
        let stem = match plain(name) {
            stem if stem.is_empty() => "layer".to_string(),
            stem => stem,
        };
        let mut name = stem.clone();
        let mut number = 1;
        while !self.names.insert(name.clone()) {
            number += 1;
            name = format!("{stem}_{number}");
        }
        name
    }

    fn operator(&mut self, operator: &Operator) -> Result<()> {
        let passes = ["Identity", "Dropout"].contains(&operator.kind.as_str());
        if let (true, Some(wire)) = (
            passes,
            operator.inputs.first().and_then(|x| self.wires.get(x)),
        ) {
            let wire = wire.clone();
            self.wires.insert(operator.outputs[0].clone(), wire);
            return Ok(());
        }
        if let Some(found) = standard(self.survey, operator)
            && let Some(prefix) = self.prefix(operator, &found)
        {
            let mut inputs = Vec::new();
            for input in &found.inputs {
                inputs.push(Json::from(self.wire(input)?));
            }
            let name = self.free_name(prefix.as_deref().unwrap_or(&module(operator)));
            let mut layer = found.settings;
            layer.insert("kind".into(), found.kind.into());
            layer.insert("name".into(), name.clone().into());
            layer.insert("inputs".into(), inputs.into());
            if let Some(prefix) = prefix.filter(|prefix| *prefix != name) {
                layer.insert("weights".into(), prefix.into());
            }
            self.description.layers.push(layer);
            self.wires.insert(found.output, name);
            self.done.extend(found.also);
            return Ok(());
        }
        for output in &operator.outputs {
            // What several read is computed once.
            if !output.is_empty() && self.survey.is_wire(output) && !self.survey.is_alone(output) {
                self.wire(output)?;
            }
        }
        Ok(())
    }

    /// What the names of a layer's weights begin with: what those begin with that the file calls as the layer
    /// does, else a name of the layer's own. `Some(None)` of a layer without weights, `None` where weights
    /// that others read would have to be changed.
    fn prefix(&mut self, operator: &Operator, found: &Standard) -> Option<Option<String>> {
        if found.weights.is_empty() {
            return Some(None);
        }
        let stems = found.weights.iter().filter_map(|(name, suffix, _)| {
            let stem = name.strip_suffix(suffix)?.strip_suffix('.')?;
            (!stem.is_empty()).then(|| stem.to_string())
        });
        let own = module(operator);
        let numbered = (2..100).map(|number| format!("{own}_{number}"));
        let fits = |prefix: &String| {
            found.weights.iter().all(|(name, suffix, turned)| {
                let target = format!("{prefix}.{suffix}");
                let alone = self.survey.is_alone(name);
                let free = !self.survey.weights.contains_key(target.as_str())
                    && self
                        .renamed
                        .iter()
                        .all(|(other, (to, _))| other == name || *to != target);
                match target == *name {
                    true => alone || !turned,
                    false => alone && free,
                }
            })
        };
        let prefix = stems.chain([own.clone()]).chain(numbered).find(fits)?;
        for (name, suffix, turned) in &found.weights {
            let renamed = (format!("{prefix}.{suffix}"), *turned);
            self.renamed.insert(name.clone(), renamed);
        }
        Some(Some(prefix))
    }

    /// The node that a value is; what makes it becomes a layer if it is none yet.
    fn wire(&mut self, value: &str) -> Result<String> {
        if let Some(wire) = self.wires.get(value) {
            return Ok(wire.clone());
        }
        let operators = &self.survey.network.operators;
        let (mut inputs, mut weights) = (BTreeSet::new(), BTreeSet::new());
        let mut cone = BTreeSet::new();
        let mut open = vec![value];
        while let Some(name) = open.pop() {
            if self.wires.contains_key(name) {
                inputs.insert(name);
            } else if self.survey.weights.contains_key(name) {
                weights.insert(name);
            } else if let Some(&maker) = self.survey.makers.get(name)
                && cone.insert(maker)
            {
                let names = operators[maker]
                    .inputs
                    .iter()
                    .filter(|name| !name.is_empty());
                open.extend(names.map(String::as_str));
            }
        }
        let Some(&maker) = self.survey.makers.get(value) else {
            return Err(Error::setting("value", value, "one that a node makes"));
        };
        let maker = &operators[maker];
        if inputs.is_empty() {
            let wanted = "values that depend on the model's inputs";
            return Err(Error::setting(described(maker), "none of them", wanted));
        }
        let size = cone.iter().map(|&number| size(&operators[number])).sum();
        let left = self.room.checked_sub(size).ok_or_else(|| {
            let wanted =
                "operators that fewer others need, of which none begins with the mini-batch";
            Error::setting(described(maker), "a part of many layers", wanted)
        })?;
        self.room = left;
        let layer = Operators {
            values: inputs.iter().map(|name| (*name).into()).collect(),
            output: value.into(),
            operators: cone
                .iter()
                .map(|&number| operators[number].clone())
                .collect(),
            variables: weights
                .iter()
                .map(|name| self.survey.weights[name].1.clone())
                .collect(),
        };
        let wires: Vec<Json> = inputs
            .iter()
            .map(|name| self.wires[*name].clone().into())
            .collect();
        let mut settings = match serde_json::to_value(&layer) {
            Ok(Json::Object(settings)) => settings,
            _ => Map::new(),
        };
        let name = self.free_name(&module(maker));
        // Variables go by the file's own names, with nothing before them.
        settings.insert("kind".into(), "operators".into());
        settings.insert("name".into(), name.clone().into());
        settings.insert("inputs".into(), wires.into());
        settings.insert("weights".into(), String::new().into());
        self.description.layers.push(settings);
        self.wires.insert(value.into(), name.clone());
        Ok(name)
    }
}

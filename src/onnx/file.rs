//! Networks as the bytes of ONNX files.

use std::collections::{BTreeMap, HashSet};

use prost::Message;

use super::messages::{self as proto, kinds, types};
use crate::error::{Error, Result};
use crate::interchange::{Attribute, Network, Numbers, OPSET, Operator, Port, Tensor};

/// The name of the mini-batch's extent.
const BATCH: &str = "N";
/// The version of the format that has opset 17.
const IR_VERSION: i64 = 8;
/// The oldest operator set whose operators are those of opset 17, as far as this room reads them.
const OLDEST: i64 = 13;
/// More operators than any network has; what is made of each is looked at again and again.
const MOST_OPERATORS: usize = 1 << 16;

/// A file's bytes.
pub(super) fn to_bytes(network: &Network) -> Vec<u8> {
    let node = |operator: &Operator| proto::Node {
        input: operator.inputs.clone(),
        output: operator.outputs.clone(),
        name: Some(operator.name.clone()),
        op_type: Some(operator.kind.clone()),
        attribute: operator.attributes.iter().map(attribute).collect(),
        domain: None,
    };
    let weights = network.weights.iter();
    let graph = proto::Graph {
        node: network.operators.iter().map(node).collect(),
        name: Some("wgrad".into()),
        initializer: weights
            .map(|(name, weight)| tensor(weight, Some(name)))
            .collect(),
        input: network.inputs.iter().map(port).collect(),
        output: network.outputs.iter().map(port).collect(),
        sparse_initializer: vec![],
    };
    let model = proto::Model {
        ir_version: Some(IR_VERSION),
        producer_name: Some("wgrad".into()),
        producer_version: Some(env!("CARGO_PKG_VERSION").into()),
        graph: Some(graph),
        opset_import: vec![proto::OperatorSet {
            domain: Some(String::new()),
            version: Some(OPSET),
        }],
    };
    model.encode_to_vec()
}

fn port(port: &Port) -> proto::ValueInfo {
    let batch = proto::Dimension {
        dim_value: None,
        dim_param: Some(BATCH.into()),
    };
    let fixed = port.extents.iter().map(|&extent| proto::Dimension {
        dim_value: Some(extent as i64),
        dim_param: None,
    });
    let shape = proto::Shape {
        dim: std::iter::once(batch).chain(fixed).collect(),
    };
    let tensor = proto::TensorType {
        elem_type: Some(if port.integers {
            types::INT64
        } else {
            types::FLOAT
        }),
        shape: Some(shape),
    };
    proto::ValueInfo {
        name: Some(port.name.clone()),
        ty: Some(proto::Type {
            tensor_type: Some(tensor),
        }),
    }
}

fn tensor(tensor: &Tensor, name: Option<&String>) -> proto::Tensor {
    let (data_type, raw) = match &tensor.numbers {
        Numbers::F32(numbers) => (
            types::FLOAT,
            numbers.iter().flat_map(|x| x.to_le_bytes()).collect(),
        ),
        Numbers::I64(numbers) => (
            types::INT64,
            numbers.iter().flat_map(|x| x.to_le_bytes()).collect(),
        ),
    };
    proto::Tensor {
        dims: tensor.extents.iter().map(|&extent| extent as i64).collect(),
        data_type: Some(data_type),
        name: name.cloned(),
        raw_data: Some(raw),
        ..proto::Tensor::default()
    }
}

fn attribute((name, value): (&String, &Attribute)) -> proto::Attribute {
    let mut made = proto::Attribute {
        name: Some(name.clone()),
        ..proto::Attribute::default()
    };
    let kind = match value {
        Attribute::Int(value) => {
            made.i = Some(*value);
            kinds::INT
        }
        Attribute::Float(value) => {
            made.f = Some(*value);
            kinds::FLOAT
        }
        Attribute::Ints(values) => {
            made.ints.clone_from(values);
            kinds::INTS
        }
        Attribute::Floats(values) => {
            made.floats.clone_from(values);
            kinds::FLOATS
        }
        Attribute::Text(value) => {
            made.s = Some(value.clone().into_bytes());
            kinds::STRING
        }
        Attribute::Texts(values) => {
            made.strings = values
                .iter()
                .map(|value| value.clone().into_bytes())
                .collect();
            kinds::STRINGS
        }
        Attribute::Tensor(value) => {
            made.t = Some(tensor(value, None));
            kinds::TENSOR
        }
    };
    made.kind = Some(kind);
    made
}

/// The network in a file's bytes. Of outputs, the extents stay unknown.
pub(super) fn of_bytes(bytes: &[u8]) -> Result<Network> {
    let refused = |found: String, wanted: &str| Err(Error::setting("ONNX file", found, wanted));
    let model = match proto::Model::decode(bytes) {
        Ok(model) => model,
        Err(e) => return refused(e.to_string(), "the bytes of a whole ONNX model"),
    };
    let Some(graph) = model.graph else {
        return refused("no graph".into(), "an ONNX model with its graph");
    };
    let mut opset = None;
    for set in &model.opset_import {
        if is_standard(set.domain.as_deref()) {
            opset = set.version;
        }
    }
    if !opset.is_some_and(|version| (OLDEST..=OPSET).contains(&version)) {
        let found = opset.map_or("no operator set".into(), |version| {
            format!("opset {version}")
        });
        return refused(found, "opset 13 to 17 of ONNX's own operators");
    }
    if graph.node.len() > MOST_OPERATORS {
        let found = format!("{} nodes", graph.node.len());
        return refused(found, "at most 65,536");
    }
    if !graph.sparse_initializer.is_empty() {
        return refused("sparse initializers".into(), "dense ones");
    }
    let mut network = Network::default();
    let mut known: HashSet<String> = HashSet::new();
    let mut know = |name: &str, place: &str| match known.insert(name.into()) {
        true => Ok(()),
        false => Err(Error::setting(
            place,
            format!("`{name}` again"),
            "values that are made once",
        )),
    };
    let settings = settings_of(&graph.node);
    let initializers = graph.initializer.iter();
    let initialized: HashSet<String> = initializers
        .filter_map(|tensor| tensor.name.clone())
        .collect();
    for weight in graph.initializer {
        let name = weight.name.clone().unwrap_or_default();
        let place = format!("initializer {name}");
        know(&name, &place)?;
        let held = numbers(&place, weight)?;
        match held.numbers {
            // A number without an axis, and what an operator reads as a setting, is nothing to be trained.
            Numbers::F32(_) if held.extents.is_empty() || settings.contains(&name) => {
                network.operators.push(constant(name, held));
            }
            Numbers::F32(_) => network.weights.push((name, held)),
            Numbers::I64(_) => network.operators.push(constant(name, held)),
        }
    }
    for input in graph.input {
        let name = input.name.clone().unwrap_or_default();
        // Old files have weights among the inputs.
        if initialized.contains(&name) {
            continue;
        }
        know(&name, &format!("input {name}"))?;
        network.inputs.push(read_port(name, input)?);
    }
    for (number, node) in graph.node.into_iter().enumerate() {
        let operator = operator(number, node)?;
        let place = described(&operator);
        for output in operator.outputs.iter().filter(|name| !name.is_empty()) {
            know(output, &place)?;
        }
        network.operators.push(operator);
    }
    in_order(&network)?;
    for output in graph.output {
        let name = output.name.unwrap_or_default();
        if !known.contains(&name) {
            let wanted = "a value that a node makes";
            return Err(Error::setting("output", format!("`{name}`"), wanted));
        }
        network.outputs.push(Port {
            name,
            integers: false,
            extents: vec![],
        });
    }
    Ok(network)
}

/// Inputs that are settings: of which operator, and at which places.
const SETTINGS: [(&str, &[usize]); 6] = [
    ("Clip", &[1, 2]),
    ("Pad", &[2]),
    ("Resize", &[1, 2]),
    ("LSTM", &[5, 6]),
    ("GRU", &[5]),
    ("RNN", &[5]),
];

/// The names that operators read as settings alone.
fn settings_of(nodes: &[proto::Node]) -> HashSet<String> {
    let (mut settings, mut others) = (HashSet::new(), HashSet::new());
    for node in nodes {
        let kind = node.op_type.as_deref().unwrap_or_default();
        let own = SETTINGS.iter().find(|(name, _)| *name == kind);
        let places = own.map_or(&[][..], |(_, places)| places);
        for (place, name) in node.input.iter().enumerate() {
            match places.contains(&place) {
                true => settings.insert(name.clone()),
                false => others.insert(name.clone()),
            };
        }
    }
    settings.retain(|name| !others.contains(name));
    settings
}

fn is_standard(domain: Option<&str>) -> bool {
    matches!(domain.unwrap_or_default(), "" | "ai.onnx")
}

/// `node conv1 (Conv)`.
pub(super) fn described(operator: &Operator) -> String {
    let name = match (operator.name.as_str(), operator.outputs.first()) {
        ("", Some(output)) => output,
        (name, _) => name,
    };
    format!("node {name} ({})", operator.kind)
}

/// Refuses a node that reads what no node before it makes: it stands at the wrong place or reads what
/// comes of itself.
fn in_order(network: &Network) -> Result<()> {
    let weights = network.weights.iter().map(|(name, _)| name.as_str());
    let inputs = network.inputs.iter().map(|port| port.name.as_str());
    let mut made: HashSet<&str> = weights.chain(inputs).collect();
    for operator in &network.operators {
        let missing = |name: &&String| !name.is_empty() && !made.contains(name.as_str());
        if let Some(name) = operator.inputs.iter().find(missing) {
            let found = format!("input `{name}`");
            let wanted = "an input of the model, an initializer or what a node before it makes";
            return Err(Error::setting(described(operator), found, wanted));
        }
        made.extend(operator.outputs.iter().map(String::as_str));
    }
    Ok(())
}

fn constant(name: String, tensor: Tensor) -> Operator {
    Operator {
        kind: "Constant".into(),
        name: String::new(),
        inputs: vec![],
        outputs: vec![name],
        attributes: BTreeMap::from([("value".into(), tensor.into())]),
    }
}

fn read_port(name: String, info: proto::ValueInfo) -> Result<Port> {
    let place = format!("input {name}");
    let tensor = info.ty.and_then(|ty| ty.tensor_type).unwrap_or_default();
    let integers = match tensor.elem_type {
        Some(types::FLOAT) => false,
        Some(types::INT64 | types::INT32) => true,
        other => {
            let found = types::name(other.unwrap_or(0));
            return Err(Error::setting(place, found, "FLOAT, INT64 or INT32"));
        }
    };
    let dims = tensor.shape.unwrap_or_default().dim;
    let Some((_, example)) = dims.split_first() else {
        let wanted = "axes, the mini-batch's first";
        return Err(Error::setting(place, "no extents", wanted));
    };
    let mut extents = Vec::new();
    for (axis, dim) in example.iter().enumerate() {
        match (dim.dim_value.map(usize::try_from), &dim.dim_param) {
            (Some(Ok(extent)), _) if extent > 0 => extents.push(extent),
            (value, name) => {
                let name = name.clone().unwrap_or_else(|| match value {
                    None => "nothing".into(),
                    Some(_) => format!("{}", dim.dim_value.unwrap_or_default()),
                });
                let found = format!("{name} for axis {}", axis + 1);
                let wanted = "a fixed extent of at least 1; the mini-batch's alone may be open";
                return Err(Error::setting(place, found, wanted));
            }
        }
    }
    Ok(Port {
        name,
        integers,
        extents,
    })
}

fn operator(number: usize, node: proto::Node) -> Result<Operator> {
    let kind = node.op_type.unwrap_or_default();
    let mut operator = Operator {
        name: node.name.unwrap_or_default(),
        inputs: node.input,
        outputs: node.output,
        attributes: BTreeMap::new(),
        kind,
    };
    if operator.outputs.iter().all(String::is_empty) {
        let place = format!("node {number} ({})", operator.kind);
        return Err(Error::setting(place, "no output", "at least one"));
    }
    let place = described(&operator);
    if !is_standard(node.domain.as_deref()) {
        let found = format!("domain {}", node.domain.unwrap_or_default());
        return Err(Error::setting(place, found, "ONNX's own operators"));
    }
    for attribute in node.attribute {
        let name = attribute.name.clone().unwrap_or_default();
        let value = read_attribute(&place, attribute)?;
        operator.attributes.insert(name, value);
    }
    Ok(operator)
}

fn read_attribute(place: &str, attribute: proto::Attribute) -> Result<Attribute> {
    let name = attribute.name.unwrap_or_default();
    let refused = |found: String, wanted: &str| {
        let place = format!("{place}, attribute {name}");
        Err(Error::setting(place, found, wanted))
    };
    let text = |bytes: Vec<u8>| String::from_utf8(bytes);
    Ok(match attribute.kind.unwrap_or(0) {
        kinds::INT => Attribute::Int(attribute.i.unwrap_or_default()),
        kinds::FLOAT => Attribute::Float(attribute.f.unwrap_or_default()),
        kinds::INTS => Attribute::Ints(attribute.ints),
        kinds::FLOATS => Attribute::Floats(attribute.floats),
        kinds::TENSOR => {
            let place = format!("{place}, attribute {name}");
            Attribute::Tensor(numbers(&place, attribute.t.unwrap_or_default())?)
        }
        kinds::STRING => match text(attribute.s.unwrap_or_default()) {
            Ok(text) => Attribute::Text(text),
            Err(_) => return refused("bytes".into(), "text"),
        },
        kinds::STRINGS => {
            let texts: Result<Vec<String>, _> = attribute.strings.into_iter().map(text).collect();
            match texts {
                Ok(texts) => Attribute::Texts(texts),
                Err(_) => return refused("bytes".into(), "text"),
            }
        }
        other => {
            let wanted = "numbers, text or a tensor";
            return refused(format!("a value of type {other}"), wanted);
        }
    })
}

/// The numbers of a tensor: as many as its extents have places, which the file itself has to hold.
fn numbers(place: &str, tensor: proto::Tensor) -> Result<Tensor> {
    let mut extents = Vec::new();
    let mut count = Some(1usize);
    for &dim in &tensor.dims {
        let extent = usize::try_from(dim).ok();
        count = count
            .zip(extent)
            .and_then(|(n, extent)| n.checked_mul(extent));
        extents.push(extent.unwrap_or_default());
    }
    let Some(count) = count else {
        let found = format!("extents {:?}", tensor.dims);
        return Err(Error::setting(
            place,
            found,
            "extents whose product can be counted",
        ));
    };
    if tensor.data_location.unwrap_or_default() != 0 {
        let wanted = "numbers in the file itself";
        return Err(Error::setting(place, "numbers in another file", wanted));
    }
    let data_type = tensor.data_type.unwrap_or_default();
    // Bytes of the raw form must be whole numbers of so many.
    fn words<const N: usize, T>(raw: &[u8], of: impl Fn([u8; N]) -> T) -> Option<Vec<T>> {
        let (words, rest) = raw.as_chunks::<N>();
        rest.is_empty()
            .then(|| words.iter().map(|word| of(*word)).collect())
    }
    let wide = |numbers: &[i32]| numbers.iter().map(|&x| i64::from(x)).collect::<Vec<_>>();
    let numbers = match (data_type, &tensor.raw_data) {
        (types::FLOAT, Some(raw)) => words(raw, f32::from_le_bytes).map(Numbers::F32),
        (types::FLOAT, None) => Some(Numbers::F32(tensor.float_data)),
        (types::INT64, Some(raw)) => words(raw, i64::from_le_bytes).map(Numbers::I64),
        (types::INT64, None) => Some(Numbers::I64(tensor.int64_data)),
        (types::INT32, Some(raw)) => {
            words(raw, |word| i64::from(i32::from_le_bytes(word))).map(Numbers::I64)
        }
        (types::BOOL, Some(raw)) => words(raw, |[byte]| i64::from(byte)).map(Numbers::I64),
        (types::INT32 | types::BOOL, None) => Some(Numbers::I64(wide(&tensor.int32_data))),
        (other, _) => {
            let found = format!("elements of {}", types::name(other));
            return Err(Error::setting(place, found, "FLOAT, INT64, INT32 or BOOL"));
        }
    };
    match numbers {
        Some(numbers) if numbers.len() == count => Ok(Tensor { extents, numbers }),
        numbers => {
            let found = match numbers {
                Some(numbers) => format!("{} numbers", numbers.len()),
                None => "a part of a number".into(),
            };
            let wanted = format!("{count}, as of extents {extents:?}");
            Err(Error::setting(place, found, wanted))
        }
    }
}

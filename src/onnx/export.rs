//! Models as networks of ONNX's operators: the graph of an evaluation, op by op.

use std::collections::{HashMap, HashSet};

use crate::error::{Error, Result};
use crate::fit::Weights;
use crate::graph::{Graph, Kind};
use crate::interchange::{Network, Port, Sheet, Site, TRIALS, Tensor, Term, extents_of};
use crate::model::{Model, Pass, Role, Variables};
use crate::ops::{Op, Tape, Value};
use crate::shape::DType;

/// A model's evaluation for a mini-batch.
struct Written {
    graph: Graph,
    inputs: Vec<Value>,
    outputs: Vec<Value>,
    variables: Variables,
}

impl Written {
    fn of(model: &Model, batch: usize) -> Result<Self> {
        let mut graph = Graph::new();
        let mut inputs = Vec::new();
        for (name, input) in model.inputs() {
            let ty = input.of_batch(name, batch)?;
            inputs.push(graph.variable(&format!("input {name}"), ty)?);
        }
        graph.begin("forward");
        let mut variables = Variables::default();
        let outputs = model.write(&mut graph, &mut variables, &inputs, Pass::Evaluation)?;
        Ok(Self {
            graph,
            inputs,
            outputs,
            variables,
        })
    }
}

/// The network of a model with weights.
///
/// Evaluations of two and of three examples are written. What differs between them is the mini-batch's
/// extent; an op in which anything else does is refused.
pub(super) fn network(model: &Model, weights: &Weights) -> Result<Network> {
    let [two, three] = TRIALS;
    let pair = [Written::of(model, two)?, Written::of(model, three)?];
    let nodes = pair.each_ref().map(|written| written.graph.nodes());
    let kind = |kind: &Kind| match kind {
        Kind::Variable(name) => name.clone(),
        Kind::Op(op) => op.name().into(),
    };
    let same = |(a, b): (&crate::graph::Node, &crate::graph::Node)| {
        let wiring = |node: &crate::graph::Node| -> Vec<[usize; 2]> {
            node.inputs.iter().map(|v| [v.node, v.output]).collect()
        };
        kind(&a.kind) == kind(&b.kind)
            && wiring(a) == wiring(b)
            && a.outputs.len() == b.outputs.len()
    };
    if nodes[0].len() != nodes[1].len() || !nodes[0].iter().zip(nodes[1]).all(same) {
        let found = "other ops for another mini-batch";
        return Err(Error::setting(
            "ONNX, model",
            found,
            "one graph for every mini-batch",
        ));
    }
    let terms = terms(model, &pair)?;
    let mut first = written(model, weights, &pair, &terms, 0)?;
    let other = written(model, weights, &pair, &terms, 1)?;
    let twins = first.operators.iter().zip(&other.operators);
    if let Some((operator, _)) = twins.into_iter().find(|(a, b)| a != b) {
        let name = format!("ONNX, {}", super::file::described(operator));
        let found = "settings that depend on the mini-batch";
        return Err(Error::setting(name, found, "the same for every mini-batch"));
    }
    prune(&mut first);
    Ok(first)
}

/// What every value of both graphs is for any mini-batch.
fn terms(model: &Model, pair: &[Written; 2]) -> Result<HashMap<[usize; 2], Term>> {
    let mut terms = HashMap::new();
    let nodes = pair.each_ref().map(|written| written.graph.nodes());
    for (number, (a, b)) in nodes[0].iter().zip(nodes[1]).enumerate() {
        for (output, types) in a.outputs.iter().zip(&b.outputs).enumerate() {
            let extents = extents_of([types.0, types.1]).ok_or_else(|| {
                let found = format!("{} of 2 examples and {} of 3", types.0, types.1);
                let wanted = "extents that are fixed or a multiple of the mini-batch's";
                Error::setting(format!("ONNX, {}", a.label), found, wanted)
            })?;
            let term = Term {
                name: String::new(),
                extents,
                dtype: types.0.dtype,
            };
            terms.insert([number, output], term);
        }
    }
    for ((name, _), value) in model.inputs().zip(&pair[0].inputs) {
        if let Some(term) = terms.get_mut(&[value.node, value.output]) {
            term.name = name.into();
        }
    }
    for variable in pair[0].variables.all() {
        if let Some(term) = terms.get_mut(&[variable.value.node, variable.value.output]) {
            term.name.clone_from(&variable.name);
        }
    }
    Ok(terms)
}

/// The operators of one of the two graphs.
fn written(
    model: &Model,
    weights: &Weights,
    pair: &[Written; 2],
    terms: &HashMap<[usize; 2], Term>,
    which: usize,
) -> Result<Network> {
    let written = &pair[which];
    let mut terms = terms.clone();
    let mut sheet = Sheet::default();
    let outputs = model.outputs().map(|(name, _)| name);
    for name in model.inputs().map(|(name, _)| name).chain(outputs) {
        if !sheet.taken.insert(name.into()) {
            let wanted = "names of inputs and outputs that differ, as values of ONNX have one";
            return Err(Error::setting("ONNX, output", name, wanted));
        }
    }
    for (name, input) in model.inputs() {
        sheet.network.inputs.push(Port {
            name: name.into(),
            integers: input.dtype == DType::U32,
            extents: input.extents.clone(),
        });
    }
    for variable in written.variables.all() {
        let key = [variable.value.node, variable.value.output];
        let extents = variable.ty.shape.extents();
        let name = match variable.role {
            Role::Constant => {
                let tensor = Tensor::floats(extents, variable.draw(0, 0, 0));
                site(&mut sheet, "", "constant").constant(tensor)
            }
            Role::Parameter | Role::Statistic => {
                let values = weights.values(&variable.name, extents)?;
                let tensor = Tensor::floats(extents, values.to_vec());
                sheet.taken.insert(variable.name.clone());
                sheet.network.weights.push((variable.name.clone(), tensor));
                variable.name.clone()
            }
        };
        if let Some(term) = terms.get_mut(&key) {
            term.name = name;
        }
    }
    for term in terms.values().filter(|term| !term.name.is_empty()) {
        sheet.know(term);
    }
    for (number, node) in written.graph.nodes().iter().enumerate() {
        let Kind::Op(op) = &node.kind else { continue };
        write(
            &mut sheet,
            &mut terms,
            &written.graph,
            (number, node),
            op.as_ref(),
        )?;
    }
    for ((name, example), value) in model.outputs().zip(&written.outputs) {
        let term = &terms[&[value.node, value.output]];
        let identity = crate::interchange::Operator {
            kind: "Identity".into(),
            name: name.into(),
            inputs: vec![term.name.clone()],
            outputs: vec![name.into()],
            attributes: Default::default(),
        };
        // What makes the value alone gets the output's name.
        let inputs_and_weights = sheet.network.inputs.iter().map(|port| &port.name);
        let fixed = inputs_and_weights.chain(sheet.network.weights.iter().map(|(name, _)| name));
        let outputs = sheet.network.outputs.iter().map(|port| &port.name);
        match fixed.chain(outputs).any(|other| *other == term.name) {
            true => sheet.network.operators.push(identity),
            false => rename(&mut sheet.network, &term.name.clone(), name, &mut terms),
        }
        sheet.network.outputs.push(Port {
            name: name.into(),
            integers: example.dtype == DType::U32,
            extents: example.extents.clone(),
        });
    }
    Ok(sheet.network)
}

fn rename(network: &mut Network, from: &str, to: &str, terms: &mut HashMap<[usize; 2], Term>) {
    for operator in &mut network.operators {
        let names = operator.inputs.iter_mut().chain(&mut operator.outputs);
        for name in names.filter(|name| *name == from) {
            *name = to.into();
        }
    }
    for term in terms.values_mut().filter(|term| term.name == from) {
        term.name = to.into();
    }
}

fn site<'a>(sheet: &'a mut Sheet, place: &str, op: &'static str) -> Site<'a> {
    Site {
        sheet,
        place: place.into(),
        op,
        inputs: vec![],
        outputs: vec![],
        types: vec![],
    }
}

/// One op.
fn write(
    sheet: &mut Sheet,
    terms: &mut HashMap<[usize; 2], Term>,
    graph: &Graph,
    (number, node): (usize, &crate::graph::Node),
    op: &dyn Op,
) -> Result<()> {
    let place = node.label.trim_end_matches(" forward");
    let mut site = site(sheet, place, op.name());
    for value in &node.inputs {
        site.inputs.push(terms[&[value.node, value.output]].clone());
        site.types.push(graph.ty(*value)?.clone());
    }
    for output in 0..node.outputs.len() {
        site.outputs.push(terms[&[number, output]].clone());
    }
    if let Some(lacking) = site.inputs.iter().position(|term| term.name.is_empty()) {
        return Err(site.refused(&format!("over input {lacking}, which no operator makes")));
    }
    let names = op.onnx(&mut site)?;
    if names.len() != node.outputs.len() {
        let found = format!("{} names for {} outputs", names.len(), node.outputs.len());
        return Err(Error::setting(
            format!("ONNX, op {}", op.name()),
            found,
            "one for each",
        ));
    }
    for (output, name) in names.into_iter().enumerate() {
        if let Some(term) = terms.get_mut(&[number, output]) {
            term.name = name;
            sheet.know(term);
        }
    }
    Ok(())
}

/// Leaves out what no output needs.
pub(super) fn prune(network: &mut Network) {
    let outputs = network.outputs.iter().map(|port| port.name.clone());
    let mut needed: HashSet<String> = outputs.collect();
    let mut kept = Vec::new();
    while let Some(operator) = network.operators.pop() {
        if operator.outputs.iter().any(|name| needed.contains(name)) {
            needed.extend(operator.inputs.iter().cloned());
            kept.push(operator);
        }
    }
    kept.reverse();
    network.operators = kept;
    network.weights.retain(|(name, _)| needed.contains(name));
}

//! The layer graph: nodes, their wiring, shape inference and reverse-mode gradients.
//!
//! A graph holds *variables* (named buffers that live as long as the plan) and
//! *programs* (lists of ops in order). A value made in one program is not seen by
//! another; they meet in variables alone. Gradients are ops of the same graph, so
//! whatever compiles and runs a forward pass compiles and runs a backward pass.

use std::collections::HashMap;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::ops::{Backward, GraphId, Lowering, Op, Tape, Value};
use crate::shape::Type;
use crate::tensor::Content;

mod backward;
mod fingerprint;
mod handle;
mod prepare;

pub(crate) use fingerprint::without_addresses;
pub use handle::{Handle, Program};

/// What a node is.
#[derive(Clone, Debug)]
pub enum Kind {
    /// A named buffer that lives as long as the plan.
    Variable(String),
    /// An op on earlier values.
    Op(Arc<dyn Op>),
}

/// A node of the graph.
#[derive(Clone, Debug)]
pub struct Node {
    /// What it is.
    pub kind: Kind,
    /// Its inputs.
    pub inputs: Vec<Value>,
    /// The types of its outputs.
    pub outputs: Vec<Type>,
    /// Layer and pass, for messages.
    pub label: String,
    /// The program it belongs to; `None` for variables.
    pub program: Option<usize>,
}

/// The layer graph.
#[derive(Debug)]
pub struct Graph {
    id: GraphId,
    nodes: Vec<Node>,
    programs: Vec<String>,
    results: Vec<(String, Value)>,
    label: String,
    /// Whether all updates so far have a loss scale; nothing where there are none.
    scaled: Option<bool>,
}

impl Default for Graph {
    fn default() -> Self {
        Self::new()
    }
}

impl Graph {
    /// An empty graph.
    pub fn new() -> Self {
        Self {
            id: GraphId::new(),
            nodes: vec![],
            programs: vec![],
            results: vec![],
            label: String::new(),
            scaled: None,
        }
    }

    /// Notes an update and whether its gradients are those of a scaled loss.
    pub(crate) fn note_update(&mut self, scaled: bool) {
        self.scaled = Some(scaled && self.scaled != Some(false));
    }

    /// Whether all gradients by which something is updated are those of scaled losses.
    pub(crate) fn is_scaled(&self) -> bool {
        self.scaled == Some(true)
    }

    /// What values of this graph are marked with.
    pub(crate) fn id(&self) -> GraphId {
        self.id
    }

    /// The node that makes a value, which must be one of this graph.
    fn maker(&self, value: Value) -> Result<&Node> {
        match self.nodes.get(value.node) {
            Some(node) if value.graph == self.id => Ok(node),
            _ => Err(Error::setting(
                "graph",
                "a value of another graph",
                "values that this graph has made",
            )
            .within(&self.label)),
        }
    }

    /// Adds a variable.
    ///
    /// # Errors
    /// [`Error::Setting`] if the name is taken.
    pub fn variable(&mut self, name: &str, ty: Type) -> Result<Value> {
        let taken = |n: &Node| matches!(&n.kind, Kind::Variable(other) if other == name);
        if self.nodes.iter().any(taken) {
            return Err(Error::setting("variable", name, "a name not yet taken"));
        }
        self.nodes.push(Node {
            kind: Kind::Variable(name.into()),
            inputs: vec![],
            outputs: vec![ty],
            label: name.into(),
            program: None,
        });
        Ok(self.last(0))
    }

    /// Starts a program: ops added from now on belong to it. The handle is what it is run by.
    pub fn begin(&mut self, program: &str) -> Program {
        self.programs.push(program.into());
        self.label.clear();
        Program {
            graph: self.id,
            index: self.programs.len() - 1,
        }
    }

    /// Names what the next ops are part of: `0.conv2d forward`.
    pub fn label(&mut self, label: impl Into<String>) {
        self.label = label.into();
    }

    /// Keeps a value: it gets a named buffer of its own that can be read after a run.
    ///
    /// # Errors
    /// [`Error::Setting`] if the name is taken, or the value is a variable (which can be
    /// read as it is) or one of another graph.
    pub fn result(&mut self, name: &str, value: Value) -> Result<()> {
        let source = self.source(value)?;
        let taken = self.results.iter().any(|(n, v)| n == name || *v == source);
        if taken || matches!(self.nodes[source.node].kind, Kind::Variable(_)) {
            return Err(Error::setting(
                "result",
                name,
                "a new name for a value made by an op",
            ));
        }
        self.results.push((name.into(), source));
        Ok(())
    }

    /// [`Graph::result`] and its handle.
    ///
    /// # Errors
    /// As [`Graph::result`] and [`Graph::handle`].
    pub fn output<T: Content>(&mut self, name: &str, value: Value) -> Result<Handle<T>> {
        self.result(name, value)?;
        self.handle(value)
    }

    /// [`Graph::variable`] and its handle.
    ///
    /// # Errors
    /// As [`Graph::variable`] and [`Graph::handle`].
    pub fn input<T: Content>(&mut self, name: &str, ty: Type) -> Result<Handle<T>> {
        let value = self.variable(name, ty)?;
        self.handle(value)
    }

    /// What a variable or a result is written and read by, once the graph is compiled.
    ///
    /// # Errors
    /// [`Error::Setting`] if the value is neither, has other elements than `T` or is of another
    /// graph.
    pub fn handle<T: Content>(&self, value: Value) -> Result<Handle<T>> {
        let ty = self.ty(value)?;
        let source = self.source(value)?;
        let node = &self.nodes[source.node];
        let result = self.results.iter().find(|(_, v)| *v == source);
        let name = match (&node.kind, result) {
            (Kind::Variable(name), _) => name,
            (_, Some((name, _))) => name,
            (Kind::Op(op), None) => {
                return Err(Error::setting(
                    "handle",
                    format!("a value that {} makes", op.name()),
                    "a variable, or a value that `Graph::result` keeps",
                )
                .within(&node.label));
            }
        };
        if !T::holds(ty.dtype) {
            let wanted = format!("elements of {}", T::WANTED);
            return Err(Error::setting(format!("handle of {name}"), ty, wanted));
        }
        Ok(Handle::new(source, ty.elements()))
    }

    /// The value in whose buffer this one lives: what a view looks at, else the value itself.
    fn source(&self, value: Value) -> Result<Value> {
        let mut source = value;
        loop {
            let node = self.maker(source)?;
            let Kind::Op(op) = &node.kind else { break };
            let types = self.types(&node.inputs)?;
            match (op.lower(&types, &node.outputs)?, node.inputs.first()) {
                (Lowering::View, Some(&of)) => source = of,
                _ => break,
            }
        }
        Ok(source)
    }

    /// The kept values with their names.
    pub fn results(&self) -> &[(String, Value)] {
        &self.results
    }

    /// All nodes in order.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The values that are variables.
    pub(crate) fn variables(&self) -> impl Iterator<Item = Value> {
        let nodes = self.nodes.iter().enumerate();
        let variables = nodes.filter(|(_, node)| matches!(node.kind, Kind::Variable(_)));
        variables.map(|(i, _)| self.id.value(i, 0))
    }

    /// The programs' names in order.
    pub fn programs(&self) -> &[String] {
        &self.programs
    }

    fn types(&self, values: &[Value]) -> Result<Vec<Type>> {
        values.iter().map(|&v| self.ty(v).cloned()).collect()
    }

    fn last(&self, output: usize) -> Value {
        self.id.value(self.nodes.len() - 1, output)
    }

    /// Adds the ops that compute the gradient of a value with respect to others.
    ///
    /// `upstream` is the gradient of whatever is minimised with respect to `cost`: a value
    /// of the same type. The gradient of a value that `cost` does not depend on is
    /// `None`. What has the same gradient may have one value for it; as a term of a sum has that of the sum, it may
    /// be `upstream` itself.
    ///
    /// # Errors
    /// [`Error::Shape`] if the upstream gradient's type is not the cost's; [`Error::Setting`] if an
    /// op on the way has no gradient rule, or a value is of another graph.
    pub fn gradients(
        &mut self,
        cost: Value,
        upstream: Value,
        with_respect_to: &[Value],
    ) -> Result<Vec<Option<Value>>> {
        backward::gradients(self, cost, upstream, with_respect_to)
    }
}

impl Tape for Graph {
    fn op(&mut self, op: Arc<dyn Op>, inputs: &[Value]) -> Result<Vec<Value>> {
        let program = match self.programs.len() {
            0 => return Err(Error::setting("graph", "an op", "a program begun before")),
            n => n - 1,
        };
        let types = self.types(inputs)?;
        let outputs = op.infer(&types).map_err(|e| e.within(&self.label))?;
        for &v in inputs {
            if self.nodes[v.node].program.is_some_and(|p| p != program) {
                return Err(Error::setting(
                    "graph",
                    format!(
                        "a value of program {}",
                        self.programs[self.nodes[v.node].program.unwrap_or(0)]
                    ),
                    "values of the same program, or variables",
                ));
            }
        }
        let count = outputs.len();
        self.nodes.push(Node {
            kind: Kind::Op(op),
            inputs: inputs.to_vec(),
            outputs,
            label: self.label.clone(),
            program: Some(program),
        });
        Ok((0..count).map(|output| self.last(output)).collect())
    }

    fn ty(&self, value: Value) -> Result<&Type> {
        // Values are made with an output that their node has.
        Ok(&self.maker(value)?.outputs[value.output])
    }
}

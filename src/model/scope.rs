//! What a layer writes its part of a graph with.

use std::collections::HashMap;
use std::sync::Arc;

use super::initializer::Start;
use crate::error::{Error, Result};
use crate::graph::Graph;
use crate::ops::{Op, Tape, Value};
use crate::shape::Type;

/// What a variable of a model is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Trained: it has a gradient and an update.
    Parameter,
    /// Kept up while training and saved with the model, but without a gradient: a running mean.
    Statistic,
    /// Written once and never changed: a table of positions, weights of classes. Not saved.
    Constant,
}

/// A variable of a model.
#[derive(Clone, Debug)]
pub struct Variable {
    /// `<layer>.<name>`.
    pub name: String,
    /// Its value in the graph.
    pub value: Value,
    /// Its type.
    pub ty: Type,
    /// What it is for.
    pub role: Role,
    /// What it is before training.
    pub start: Start,
    /// The values of a constant.
    given: Option<Arc<Vec<f32>>>,
}

impl Variable {
    /// Its values before training, for a replica; `number` tells variables apart.
    pub(crate) fn draw(&self, seed: u64, replica: u32, number: u32) -> Vec<f32> {
        match &self.given {
            Some(values) => values.to_vec(),
            None => {
                let extents = self.ty.shape.extents();
                self.start.draw(extents, seed, replica, number)
            }
        }
    }
}

/// The variables of a model in a graph, in the order in which layers ask for them.
#[derive(Debug, Default)]
pub struct Variables {
    /// What their names in the graph begin with, where several models share it.
    prefix: String,
    list: Vec<Variable>,
    by_name: HashMap<String, usize>,
    /// Values of integers that number so many things.
    numbered: Vec<(Value, usize)>,
}

impl Variables {
    /// Those of one of several models of a graph: there, their names begin with that of the model.
    pub fn of_model(model: &str) -> Self {
        Self {
            prefix: format!("{model}."),
            ..Self::default()
        }
    }

    /// All of them.
    pub fn all(&self) -> &[Variable] {
        &self.list
    }

    /// Those of a role.
    pub fn of(&self, role: Role) -> impl Iterator<Item = &Variable> {
        self.list.iter().filter(move |v| v.role == role)
    }

    /// Lets layers find this value under a name, in place of a variable of their own: a variable that was
    /// declared elsewhere, a running mean in the stead of a weight.
    pub fn bind(&mut self, name: &str, ty: Type, value: Value) {
        if let Some(&known) = self.by_name.get(name) {
            self.list[known].value = value;
            return;
        }
        self.by_name.insert(name.into(), self.list.len());
        self.list.push(Variable {
            name: name.into(),
            value,
            ty,
            role: Role::Parameter,
            start: Start::constant(0.0),
            given: None,
        });
    }

    /// [`Variables::bind`] of several that are there; gives what they were, to be bound again.
    pub(crate) fn bind_each(&mut self, values: &[(String, Value)]) -> Vec<(String, Value)> {
        let mut before = Vec::new();
        for (name, value) in values {
            if let Some(&known) = self.by_name.get(name) {
                let was = std::mem::replace(&mut self.list[known].value, *value);
                before.push((name.clone(), was));
            }
        }
        before
    }

    /// The value of a name.
    ///
    /// # Errors
    /// [`Error::UnknownName`] with the nearest one.
    pub fn value(&self, name: &str) -> Result<Value> {
        let known = self.by_name.get(name).map(|&k| self.list[k].value);
        known.ok_or_else(|| {
            let known: Vec<&str> = self.list.iter().map(|v| v.name.as_str()).collect();
            Error::unknown("variable", name, &known)
        })
    }

    /// How many things the integers of a value number, as [`Scope::number`] was told; of several layers the fewest.
    pub(crate) fn numbered(&self, value: Value) -> Option<usize> {
        let own = self.numbered.iter().filter(|(other, _)| *other == value);
        own.map(|(_, count)| *count).min()
    }

    /// The numbers of constants, by node.
    pub(crate) fn constants(&self) -> HashMap<usize, &[f32]> {
        let mut constants = HashMap::new();
        for variable in &self.list {
            let given = variable.given.as_ref();
            constants.extend(given.map(|given| (variable.value.node, given.as_slice())));
        }
        constants
    }

    /// The constant of these values, declared where it is not there yet.
    fn constant(&mut self, graph: &mut Graph, ty: Type, values: Vec<f32>) -> Result<Value> {
        // By bits: what is not a number equals itself here, and the two zeros are two.
        let same = |given: &[f32]| {
            given
                .iter()
                .zip(&values)
                .all(|(a, b)| a.to_bits() == b.to_bits())
        };
        let alike =
            |v: &&Variable| v.ty == ty && v.given.as_deref().is_some_and(|given| same(given));
        if let Some(known) = self.list.iter().find(alike) {
            return Ok(known.value);
        }
        let name = format!("constant {}", self.of(Role::Constant).count());
        let value = graph.variable(&format!("{}{name}", self.prefix), ty.clone())?;
        self.list.push(Variable {
            name,
            value,
            ty,
            role: Role::Constant,
            start: Start::constant(0.0),
            given: Some(Arc::new(values)),
        });
        Ok(value)
    }

    fn find_or_declare(
        &mut self,
        graph: &mut Graph,
        name: String,
        ty: Type,
        role: Role,
        start: Start,
    ) -> Result<Value> {
        if let Some(&known) = self.by_name.get(&name) {
            let known = &self.list[known];
            if known.ty != ty || known.role != role {
                let wanted = format!("{}, as where the layer was used first", known.ty);
                return Err(Error::shape(name, ty.to_string(), wanted));
            }
            return Ok(known.value);
        }
        start.check()?;
        let value = graph.variable(&format!("{}{name}", self.prefix), ty.clone())?;
        self.by_name.insert(name.clone(), self.list.len());
        self.list.push(Variable {
            name,
            value,
            ty,
            role,
            start,
            given: None,
        });
        Ok(value)
    }
}

/// Which pass is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pass {
    /// Training: masks are drawn, statistics are those of the mini-batch and kept up.
    Training {
        /// The replica's keys `[4]`.
        keys: Value,
        /// The step counter `[2]`.
        step: Value,
    },
    /// Evaluation: nothing is random, nothing changes.
    Evaluation,
}

/// What a layer is given to write with: the graph, a place for its variables, the pass. It is a
/// [`Tape`], so ops and the functions over them take it.
pub struct Scope<'a> {
    graph: &'a mut Graph,
    variables: &'a mut Variables,
    pass: Pass,
    /// The layer's name, which its variables' names begin with.
    path: String,
    /// Random streams that have been given out.
    streams: &'a mut u32,
}

impl<'a> Scope<'a> {
    pub(crate) fn new(
        graph: &'a mut Graph,
        variables: &'a mut Variables,
        pass: Pass,
        streams: &'a mut u32,
    ) -> Self {
        Self {
            graph,
            variables,
            pass,
            path: String::new(),
            streams,
        }
    }

    /// Whether this is a training pass.
    pub fn is_training(&self) -> bool {
        self.pass != Pass::Evaluation
    }

    /// The pass.
    pub fn pass(&self) -> Pass {
        self.pass
    }

    /// A trained variable `<layer>.<name>` of these extents.
    ///
    /// # Errors
    /// [`Error::Shape`] where the layer is used twice with sizes that do not fit one set of weights,
    /// [`Error::Setting`] for a start that is no finite number.
    pub fn parameter(&mut self, name: &str, extents: &[usize], start: Start) -> Result<Value> {
        self.variable(name, extents, start, Role::Parameter)
    }

    /// A variable `<layer>.<name>` without gradient that is saved with the model.
    ///
    /// # Errors
    /// As [`Scope::parameter`].
    pub fn statistic(&mut self, name: &str, extents: &[usize], start: f64) -> Result<Value> {
        self.variable(name, extents, Start::constant(start), Role::Statistic)
    }

    /// Says that the integers of a value are numbers of so many things, from 0 on. Where the value is an input of the
    /// model, data with others are refused before they are looked up.
    pub fn number(&mut self, value: Value, count: usize) {
        self.variables.numbered.push((value, count));
    }

    /// Numbers that stay as they are, as a value of these extents. The same numbers are one value.
    ///
    /// # Errors
    /// [`Error::Shape`] for another number of elements than the extents have.
    pub fn constant(&mut self, extents: &[usize], values: Vec<f32>) -> Result<Value> {
        let ty = Type::f32("constant", extents)?;
        if ty.elements() != values.len() {
            let found = format!("{} values", values.len());
            return Err(Error::shape("constant", found, ty.to_string()));
        }
        self.variables.constant(self.graph, ty, values)
    }

    fn variable(
        &mut self,
        name: &str,
        extents: &[usize],
        start: Start,
        role: Role,
    ) -> Result<Value> {
        let name = join(&self.path, name);
        let ty = Type::f32(&name, extents)?;
        self.variables
            .find_or_declare(self.graph, name, ty, role, start)
    }

    /// A number of a random stream that no other place of the model has, below 65,536.
    ///
    /// # Errors
    /// [`Error::Setting`] when all are given out.
    pub fn stream(&mut self) -> Result<u32> {
        let stream = *self.streams;
        if stream >= 1 << 16 {
            let wanted = "65,536 places that draw at most";
            return Err(Error::setting("random streams of a model", stream, wanted));
        }
        *self.streams += 1;
        Ok(stream)
    }

    /// Writes under a layer's name, which stands behind that of the layer around it.
    pub(super) fn within<R>(&mut self, name: &str, write: impl FnOnce(&mut Self) -> R) -> R {
        let outer = std::mem::take(&mut self.path);
        self.path = join(&outer, name);
        let prefix = &self.variables.prefix;
        self.graph.label(format!("{prefix}{} forward", self.path));
        let result = write(self);
        if !outer.is_empty() {
            let prefix = &self.variables.prefix;
            self.graph.label(format!("{prefix}{outer} forward"));
        }
        self.path = outer;
        result
    }

    /// The extents of a value.
    ///
    /// # Errors
    /// As [`Tape::ty`].
    pub fn extents(&self, value: Value) -> Result<Vec<usize>> {
        Ok(self.graph.ty(value)?.shape.extents().to_vec())
    }

    /// The value with other extents, of as many elements.
    ///
    /// # Errors
    /// [`Error::Shape`] for another number of elements.
    pub fn reshape(&mut self, value: Value, extents: &[usize]) -> Result<Value> {
        if self.graph.ty(value)?.shape.extents() == extents {
            return Ok(value);
        }
        let extents = extents.to_vec();
        self.op1(Arc::new(crate::ops::reshape::Reshape { extents }), &[value])
    }
}

fn join(path: &str, name: &str) -> String {
    match path {
        "" => name.into(),
        path => format!("{path}.{name}"),
    }
}

impl Tape for Scope<'_> {
    fn op(&mut self, op: Arc<dyn Op>, inputs: &[Value]) -> Result<Vec<Value>> {
        self.graph.op(op, inputs)
    }

    fn ty(&self, value: Value) -> Result<&Type> {
        self.graph.ty(value)
    }
}

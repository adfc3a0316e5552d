//! Describing a model: wires are values, and a layer that does not fit spoils its wire.

use std::cell::RefCell;
use std::ops::{Add, Mul, Sub};
use std::panic::Location;
use std::sync::Arc;

use super::layers::{self, Map};
use super::{
    Input, Kind, Layer, Model, Node, Pass, Scope, TRIAL, Variables, at_layer, keeps_batch, place,
};
use crate::error::{Error, Result};
use crate::expr::Expr;
use crate::graph::Graph;
use crate::ops::{Tape, Value};

/// A model under way; [`Model::build`] hands one out.
#[derive(Debug, Default)]
pub struct Builder {
    state: RefCell<State>,
}

/// The model so far, and a trial graph that sizes are checked in.
#[derive(Debug)]
struct State {
    graph: Graph,
    variables: Variables,
    streams: u32,
    nodes: Vec<Node>,
    values: Vec<Value>,
    outputs: Vec<(String, usize)>,
    error: Option<Error>,
}

impl Default for State {
    fn default() -> Self {
        let mut graph = Graph::new();
        graph.begin("trial");
        Self {
            graph,
            variables: Variables::default(),
            streams: 0,
            nodes: vec![],
            values: vec![],
            outputs: vec![],
            error: None,
        }
    }
}

/// A value of a model under way: the output of a layer, or an input. A copy is the same value.
#[derive(Clone, Copy, Debug)]
pub struct Wire<'m> {
    builder: &'m Builder,
    /// Its node; none if something before it did not fit.
    node: Option<usize>,
}

/// A layer that is used in several places with the same weights; [`Builder::shared`] makes one.
#[derive(Clone, Debug)]
pub struct Shared {
    name: String,
    layer: Arc<dyn Layer>,
}

impl Builder {
    /// An input by name, of floats where only extents are given.
    #[track_caller]
    pub fn input(&self, name: &str, input: impl Into<Input>) -> Wire<'_> {
        let caller = Location::caller();
        let node = self.state.borrow_mut().input(name, input.into());
        let whole = |e: Error| {
            at_layer(
                e,
                &format!("input {name} ({}:{})", caller.file(), caller.line()),
            )
        };
        self.wire(node.map_err(whole))
    }

    /// Names a wire as an output.
    #[track_caller]
    pub fn output(&self, name: &str, wire: Wire<'_>) {
        let Some(node) = self.own(wire, Location::caller()) else {
            return;
        };
        let mut state = self.state.borrow_mut();
        match state.outputs.iter().any(|(other, _)| other == name) {
            true => state.fail(Error::setting("output", name, "names that are used once")),
            false => state.outputs.push((name.into(), node)),
        }
    }

    /// A layer under this name whose weights all its uses share ([`Wire::shared`]).
    pub fn shared(&self, name: &str, layer: impl Layer) -> Shared {
        Shared {
            name: name.into(),
            layer: Arc::new(layer),
        }
    }

    /// A layer of several inputs.
    #[track_caller]
    pub fn join(&self, name: &str, layer: impl Layer, inputs: &[Wire<'_>]) -> Wire<'_> {
        let layer: Arc<dyn Layer> = Arc::new(layer);
        self.apply(Some(name), None, layer, inputs, Location::caller())
    }

    pub(super) fn apply(
        &self,
        name: Option<&str>,
        weights: Option<&str>,
        layer: Arc<dyn Layer>,
        inputs: &[Wire<'_>],
        caller: &Location<'_>,
    ) -> Wire<'_> {
        let nodes: Option<Vec<usize>> = inputs.iter().map(|&w| self.own(w, caller)).collect();
        let Some(nodes) = nodes else {
            return Wire {
                builder: self,
                node: None,
            };
        };
        let mut state = self.state.borrow_mut();
        let made = state.layer(name, weights, layer, nodes, Some(caller));
        drop(state);
        self.wire(made)
    }

    /// The node of a wire, which must be this builder's.
    fn own(&self, wire: Wire<'_>, caller: &Location<'_>) -> Option<usize> {
        if !std::ptr::eq(wire.builder, self) {
            let name = format!("model at {}:{}", caller.file(), caller.line());
            let found = "a wire of another model";
            let error = Error::setting(name, found, "wires of the model that is built");
            self.state.borrow_mut().fail(error);
            return None;
        }
        wire.node
    }

    fn wire(&self, made: Result<usize>) -> Wire<'_> {
        let node = made.map_err(|e| self.state.borrow_mut().fail(e)).ok();
        Wire {
            builder: self,
            node,
        }
    }

    pub(super) fn finish(self) -> Result<Model> {
        let state = self.state.into_inner();
        if let Some(error) = state.error {
            return Err(error);
        }
        if state.outputs.is_empty() {
            let wanted = "at least one wire named as output";
            return Err(Error::setting("model", "no output", wanted));
        }
        if state.values.is_empty() {
            return Err(Error::setting("model", "no input", "at least one input"));
        }
        Ok(Model {
            nodes: state.nodes,
            outputs: state.outputs,
            variables: state.variables.all().to_vec(),
        })
    }

    /// [`Builder::input`] and the like where a caller's line says nothing: a description in a file.
    pub(super) fn add_input(&mut self, name: &str, input: Input) -> Result<usize> {
        let state = self.state.get_mut();
        state
            .input(name, input)
            .map_err(|e| at_layer(e, &format!("input {name}")))
    }

    pub(super) fn add_layer(
        &mut self,
        name: Option<&str>,
        weights: Option<&str>,
        layer: Arc<dyn Layer>,
        inputs: Vec<usize>,
    ) -> Result<usize> {
        self.state
            .get_mut()
            .layer(name, weights, layer, inputs, None)
    }

    pub(super) fn add_output(&mut self, name: &str, node: usize) {
        self.state.get_mut().outputs.push((name.into(), node));
    }

    pub(super) fn node(&self, name: &str) -> Option<usize> {
        self.state
            .borrow()
            .nodes
            .iter()
            .position(|n| n.name == name)
    }
}

impl State {
    fn fail(&mut self, error: Error) {
        self.error.get_or_insert(error);
    }

    fn taken(&self, name: &str) -> bool {
        self.nodes.iter().any(|n| n.name == name)
    }

    /// A layer among whose weights a layer of this name would have its own, or the other way round: those of `a.b`
    /// stand among those that layers inside `a` have.
    fn clash(&self, name: &str) -> Option<&str> {
        let inside = |outer: &str, inner: &str| {
            let rest = inner.strip_prefix(outer);
            rest.is_some_and(|rest| rest.starts_with('.'))
        };
        let has_weights = |other: &str| self.variables.all().iter().any(|v| inside(other, &v.name));
        let mut others = self.nodes.iter().map(|n| n.name.as_str());
        others.find(|other| (inside(other, name) || inside(name, other)) && has_weights(other))
    }

    fn check_name(&self, name: &str) -> Result<()> {
        let plain = |c: char| c.is_alphanumeric() || "_- ".contains(c);
        let part = |part: &str| !part.is_empty() && part.chars().all(plain);
        if !name.split('.').all(part) {
            let wanted = "letters, digits, `_`, `-` and spaces, in parts with dots between them";
            return Err(Error::setting("name", format!("`{name}`"), wanted));
        }
        if self.taken(name) {
            let wanted = "a name of its own; layers share weights by `Builder::shared`";
            return Err(Error::setting("name", format!("`{name}` again"), wanted));
        }
        if let Some(other) = self.clash(name) {
            let found = format!("`{name}` beside `{other}`");
            let wanted = "names of which none is the other's beginning up to a dot";
            return Err(Error::setting("name", found, wanted));
        }
        Ok(())
    }

    /// `conv2d`, and from the second on `conv2d_2`.
    fn free_name(&self, kind: &str) -> String {
        let names = (1..).map(|k| match k {
            1 => kind.to_string(),
            k => format!("{kind}_{k}"),
        });
        let mut free = names.filter(|name| !self.taken(name) && self.clash(name).is_none());
        free.next().unwrap_or_default()
    }

    fn push(&mut self, name: &str, kind: Kind, value: Value) -> Result<usize> {
        self.nodes.push(Node {
            name: name.into(),
            kind,
            example: Input::of_type(self.graph.ty(value)?),
        });
        self.values.push(value);
        Ok(self.nodes.len() - 1)
    }

    fn input(&mut self, name: &str, input: Input) -> Result<usize> {
        self.check_name(name)?;
        let ty = input.of_batch(name, TRIAL)?;
        let value = self.graph.variable(name, ty)?;
        self.push(name, Kind::Input, value)
    }

    fn layer(
        &mut self,
        name: Option<&str>,
        weights: Option<&str>,
        layer: Arc<dyn Layer>,
        inputs: Vec<usize>,
        caller: Option<&Location<'_>>,
    ) -> Result<usize> {
        let name = match name {
            Some(name) => name.to_string(),
            None => self.free_name(weights.unwrap_or(layer.kind())),
        };
        let place = place(&name, layer.as_ref(), caller);
        self.check_name(&name).map_err(|e| at_layer(e, &place))?;
        let weights = weights.unwrap_or(&name).to_string();
        let values: Vec<Value> = inputs.iter().map(|&node| self.values[node]).collect();
        let first = values.first().copied();
        let mut scope = Scope::new(
            &mut self.graph,
            &mut self.variables,
            Pass::Evaluation,
            &mut self.streams,
        );
        let made = scope.layer(&weights, layer.as_ref(), &values);
        let made = made.and_then(|value| {
            keeps_batch(&self.graph, first.as_ref(), value)?;
            Ok(value)
        });
        let value = made.map_err(|e| at_layer(e, &place))?;
        let kind = Kind::Layer {
            layer,
            weights,
            inputs,
        };
        self.push(&name, kind, value)
    }
}

impl<'m> Wire<'m> {
    /// A layer under a name of its own, which its weights' names begin with.
    #[track_caller]
    pub fn layer(self, name: &str, layer: impl Layer) -> Self {
        let layer = Arc::new(layer);
        let caller = Location::caller();
        self.builder.apply(Some(name), None, layer, &[self], caller)
    }

    /// A layer named by its kind: `conv2d`, `conv2d_2`, ….
    #[track_caller]
    pub fn then(self, layer: impl Layer) -> Self {
        let layer = Arc::new(layer);
        let caller = Location::caller();
        self.builder.apply(None, None, layer, &[self], caller)
    }

    /// A layer whose weights are those of its other uses.
    #[track_caller]
    pub fn shared(self, layer: &Shared) -> Self {
        let (name, caller) = (layer.name.as_str(), Location::caller());
        let layer = layer.layer.clone();
        self.builder.apply(None, Some(name), layer, &[self], caller)
    }

    /// An expression of each element.
    #[track_caller]
    pub fn map(self, expression: impl Fn(&Expr) -> Expr + Send + Sync + 'static) -> Self {
        let layer = Arc::new(Map::new(expression));
        let caller = Location::caller();
        self.builder.apply(None, None, layer, &[self], caller)
    }

    #[track_caller]
    fn with(self, other: Self, layer: impl Layer) -> Self {
        let layer = Arc::new(layer);
        let caller = Location::caller();
        self.builder
            .apply(None, None, layer, &[self, other], caller)
    }

    /// This wire's elements, then another's, along an axis of an example, counted from 0.
    #[track_caller]
    pub fn concat(self, other: Self, axis: usize) -> Self {
        self.with(other, layers::Concat { axis })
    }

    /// What one example of it is; `None` after something that did not fit.
    pub fn example(self) -> Option<Input> {
        let state = self.builder.state.borrow();
        self.node.map(|node| state.nodes[node].example.clone())
    }
}

macro_rules! shortcuts {
    ($($(#[$doc:meta])* $name:ident => $layer:expr),* $(,)?) => {
        impl Wire<'_> {
            $(
                $(#[$doc])*
                #[track_caller]
                pub fn $name(self) -> Self {
                    self.then($layer)
                }
            )*
        }
    };
}
shortcuts! {
    /// max(0, x).
    relu => layers::Relu,
    /// x Φ(x).
    gelu => layers::Gelu,
    /// x σ(x).
    silu => layers::Silu,
    /// 1/(1 + e⁻ˣ).
    sigmoid => layers::Sigmoid,
    /// Hyperbolic tangent.
    tanh => layers::Tanh,
    /// `[N, …]` as `[N, product of the rest]`.
    flatten => layers::Flatten,
    /// The mean of each channel: `[N, C, …]` as `[N, C]`.
    global_mean => layers::GlobalMean,
    /// The same value, which no gradient passes.
    detach => layers::Detach,
}

macro_rules! operators {
    ($($trait:ident $method:ident $layer:ident)*) => {
        $(
            /// Element by element, broadcast as in NumPy.
            impl<'m> $trait for Wire<'m> {
                type Output = Self;
                #[track_caller]
                fn $method(self, other: Self) -> Self {
                    self.with(other, layers::$layer)
                }
            }
        )*
    };
}
operators! {
    Add add Sum
    Sub sub Difference
    Mul mul Product
}

/// A chain of layers under way.
#[derive(Debug)]
pub struct Sequential {
    builder: Builder,
    last: Option<usize>,
}

impl Sequential {
    pub(super) fn new(input: Input) -> Self {
        let mut builder = Builder::default();
        let last = builder.add_input("input", input);
        let last = last.map_err(|e| builder.state.get_mut().fail(e)).ok();
        Self { builder, last }
    }

    /// Adds a layer named by its kind: `conv2d`, `conv2d_2`, ….
    #[must_use]
    #[track_caller]
    pub fn then(self, layer: impl Layer) -> Self {
        self.add(None, Arc::new(layer), Location::caller())
    }

    /// Adds a layer under a name of its own.
    #[must_use]
    #[track_caller]
    pub fn layer(self, name: &str, layer: impl Layer) -> Self {
        self.add(Some(name), Arc::new(layer), Location::caller())
    }

    fn add(mut self, name: Option<&str>, layer: Arc<dyn Layer>, caller: &Location<'_>) -> Self {
        if let Some(last) = self.last {
            let state = self.builder.state.get_mut();
            let made = state.layer(name, None, layer, vec![last], Some(caller));
            self.last = made.map_err(|e| state.fail(e)).ok();
        }
        self
    }

    /// The model.
    ///
    /// # Errors
    /// The first layer that did not fit, with its name, the sizes and the caller's file and line.
    pub fn build(mut self) -> Result<Model> {
        if let Some(last) = self.last {
            self.builder.add_output("output", last);
        }
        self.builder.finish()
    }
}

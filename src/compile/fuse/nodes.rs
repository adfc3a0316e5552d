//! The graph while it is rewritten: several nodes become one where nobody can tell.

use std::any::Any;
use std::collections::HashMap;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::graph::{Graph, Kind, Node};
use crate::ops::pointwise::{Ending, Pointwise, WithEnding};
use crate::ops::reduce::Reduce;
use crate::ops::{GraphId, Lowering, Op, Value};
use crate::plan::Limits;
use crate::shape::Type;

/// The nodes of a graph (`None` where one was merged into another) and the values that
/// are kept.
///
/// What rules ask for again and again is kept up to date beside the nodes, so that a rule costs what
/// it changes and not what the graph has.
pub(crate) struct Nodes {
    pub(crate) graph: GraphId,
    pub(crate) nodes: Vec<Option<Node>>,
    pub(crate) kept: Vec<(String, Value)>,
    /// Storage buffers that the device binds in one launch.
    pub(super) bindings: usize,
    /// What ops become. An op is lowered once: when it enters, or, where it is an expression or ends
    /// in one, whose text is costly and would be made again for each that it takes in, by
    /// [`Nodes::finish`].
    lowerings: Vec<Option<Lowering>>,
    /// The inputs that each node changes in place.
    updated: Vec<Vec<Value>>,
    /// The nodes that read each output of each node, in order, once for each time.
    readers: Vec<Vec<Vec<usize>>>,
    /// Which values are kept, by their place in `kept`.
    places: HashMap<Value, usize>,
}

/// One node in place of several.
pub(super) struct Join {
    /// The nodes that vanish. The new one stands at the place of `at`.
    pub members: Vec<usize>,
    /// One of the members.
    pub at: usize,
    /// The member whose label the new node takes.
    pub named: usize,
    /// What is computed.
    pub op: Arc<dyn Op>,
    /// From what.
    pub inputs: Vec<Value>,
    /// The members' values that the new node's outputs stand for, in order.
    pub outputs: Vec<Value>,
    /// A value that a member updates without any node in between being able to tell.
    pub unseen: Option<Value>,
}

impl Nodes {
    /// # Errors
    /// What an op's lowering says.
    pub(crate) fn of(graph: &Graph, limits: &Limits) -> Result<Self> {
        let nodes = graph.nodes().iter().cloned().map(Some);
        let kept = graph.results().to_vec();
        let mut this = Self {
            graph: graph.id(),
            bindings: limits.bindings,
            nodes: nodes.collect(),
            places: (0..).zip(&kept).map(|(k, (_, v))| (*v, k)).collect(),
            kept,
            lowerings: vec![],
            updated: vec![],
            readers: vec![],
        };
        for node in graph.nodes() {
            let (lowering, updated) = match &node.kind {
                Kind::Op(op) => this.lower(op, &node.inputs, &node.outputs, &node.label)?,
                Kind::Variable(_) => (None, vec![]),
            };
            this.lowerings.push(lowering);
            this.updated.push(updated);
        }
        this.read_again();
        Ok(this)
    }

    /// What an op becomes, if that is to be known now, and the inputs that it changes in place.
    fn lower(
        &self,
        op: &Arc<dyn Op>,
        inputs: &[Value],
        outputs: &[Type],
        label: &str,
    ) -> Result<(Option<Lowering>, Vec<Value>)> {
        let as_any: &dyn Any = &**op;
        let changed = match (as_any.downcast_ref::<Pointwise>(), op.ending()) {
            (Some(expression), _) => Some(expression.changes()),
            (None, Some(ending)) => {
                let own = inputs.len().saturating_sub(ending.inputs());
                Some(ending.changes().into_iter().map(|k| own + k).collect())
            }
            (None, None) => None,
        };
        if let Some(changed) = changed {
            let changed = changed.into_iter();
            let values = changed.filter_map(|k| inputs.get(k).copied());
            return Ok((None, values.collect()));
        }
        let lowering = self.lowered(op, inputs, outputs, label)?;
        let changed = changed_by(&lowering, inputs);
        Ok((Some(lowering), changed))
    }

    fn lowered(
        &self,
        op: &Arc<dyn Op>,
        inputs: &[Value],
        outputs: &[Type],
        label: &str,
    ) -> Result<Lowering> {
        let types = inputs.iter().map(|&v| self.known(v).cloned());
        let types = types.collect::<Result<Vec<Type>>>()?;
        op.lower(&types, outputs).map_err(|e| e.within(label))
    }

    /// What each node becomes once nothing is fused any more.
    ///
    /// # Errors
    /// What an op's lowering says.
    pub(crate) fn finish(&mut self) -> Result<Vec<Option<Lowering>>> {
        let mut lowerings = std::mem::take(&mut self.lowerings);
        for (node, lowering) in self.nodes.iter().zip(&mut lowerings) {
            if let (Some(node), None) = (node, &lowering)
                && let Kind::Op(op) = &node.kind
            {
                let made = self.lowered(op, &node.inputs, &node.outputs, &node.label)?;
                *lowering = Some(made);
            }
        }
        debug_assert!(self.is_up_to_date(&lowerings));
        Ok(lowerings)
    }

    /// Whether what is kept beside the nodes is what they say.
    fn is_up_to_date(&mut self, lowerings: &[Option<Lowering>]) -> bool {
        let readers = self.readers.clone();
        self.read_again();
        let mut updated = lowerings.iter().zip(&self.updated).enumerate();
        let kept = self.kept.iter().map(|(_, v)| *v);
        readers == self.readers
            && kept.eq((0..self.kept.len()).filter_map(|k| {
                let mut places = self.places.iter();
                places.find(|(_, place)| **place == k).map(|(v, _)| *v)
            }))
            && updated.all(|(i, (lowering, updated))| {
                let changed = lowering.as_ref().map(|l| changed_by(l, self.inputs(i)));
                let changed = changed.unwrap_or_default();
                // Several parts of a value may be changed.
                let within = |a: &[Value], b: &[Value]| a.iter().all(|v| b.contains(v));
                within(&changed, updated) && within(updated, &changed)
            })
    }

    /// Finds out who reads what.
    fn read_again(&mut self) {
        let count = |node: &Option<Node>| node.as_ref().map_or(0, |n| n.outputs.len());
        let nodes = self.nodes.iter();
        self.readers = nodes.map(|node| vec![vec![]; count(node)]).collect();
        for (i, node) in self.nodes.iter().enumerate() {
            for v in node.iter().flat_map(|n| &n.inputs) {
                if let Some(readers) = readers_of(&mut self.readers, *v) {
                    readers.push(i);
                }
            }
        }
    }

    /// The type of a value whose node must still be there.
    pub(crate) fn known(&self, value: Value) -> Result<&Type> {
        self.ty(value).ok_or_else(|| Error::Plan {
            launch: value.node,
            label: "compile".into(),
            found: "a value of a node that fusion removed".into(),
            wanted: "every use of a removed node rewritten".into(),
        })
    }

    /// Drops ops whose outputs nobody reads and that update nothing.
    pub(crate) fn drop_dead(&mut self) {
        let mut used = vec![false; self.nodes.len()];
        for (_, v) in &self.kept {
            used[v.node] = true;
        }
        for i in (0..self.nodes.len()).rev() {
            if !used[i] && self.dyn_op(i).is_some() && self.updated[i].is_empty() {
                self.forget(i);
            }
            for v in self.inputs(i) {
                used[v.node] = true;
            }
        }
        self.read_again();
    }

    fn forget(&mut self, i: usize) {
        self.nodes[i] = None;
        self.lowerings[i] = None;
        self.updated[i].clear();
    }

    /// The nodes that are still there.
    pub(super) fn indices(&self) -> Vec<usize> {
        let there = |&i: &usize| self.nodes[i].is_some();
        (0..self.nodes.len()).filter(there).collect()
    }

    pub(super) fn inputs(&self, i: usize) -> &[Value] {
        self.nodes[i].as_ref().map_or(&[], |n| &n.inputs)
    }

    pub(super) fn dyn_op(&self, i: usize) -> Option<&Arc<dyn Op>> {
        match &self.nodes[i].as_ref()?.kind {
            Kind::Op(op) => Some(op),
            Kind::Variable(_) => None,
        }
    }

    /// Node `i` if it is an op of type `T`.
    pub(super) fn op<T: Op>(&self, i: usize) -> Option<&T> {
        let op: &dyn Any = &**self.dyn_op(i)?;
        op.downcast_ref()
    }

    /// Node `i` if it is an op of type `T`, with or without an ending.
    pub(super) fn core<T: Op>(&self, i: usize) -> Option<(&T, Option<&Ending>)> {
        let core: &dyn Any = match self.op::<WithEnding>(i) {
            Some(op) => &**op.core(),
            None => &**self.dyn_op(i)?,
        };
        let ending = self.op::<WithEnding>(i).and_then(Op::ending);
        Some((core.downcast_ref()?, ending))
    }

    pub(super) fn ty(&self, value: Value) -> Option<&Type> {
        self.nodes[value.node].as_ref()?.outputs.get(value.output)
    }

    /// The nodes that read a value in the order of the graph, once for each time.
    pub(super) fn readers(&self, value: Value) -> &[usize] {
        let outputs = self.readers.get(value.node);
        let readers = outputs.and_then(|outputs| outputs.get(value.output));
        readers.map_or(&[], Vec::as_slice)
    }

    /// The one node that reads a value, if nobody else does.
    pub(super) fn sole_reader(&self, value: Value) -> Option<usize> {
        match *self.readers(value) {
            [one] if !self.places.contains_key(&value) => Some(one),
            _ => None,
        }
    }

    /// Whether node `i` is launched by this crate's own kernels alone.
    pub(super) fn is_own(&self, i: usize) -> bool {
        let Some(node) = &self.nodes[i] else {
            return false;
        };
        let own = |lowering: &Lowering| {
            let launches = lowering.launches();
            !launches.is_empty() && launches.iter().all(|l| l.kernel.trusted())
        };
        match (&self.lowerings[i], &node.kind) {
            (Some(lowering), _) => own(lowering),
            (None, Kind::Op(op)) if self.op::<Pointwise>(i).is_none() => {
                let made = self.lowered(op, &node.inputs, &node.outputs, &node.label);
                made.is_ok_and(|lowering| own(&lowering))
            }
            (None, Kind::Op(_)) => true,
            (None, Kind::Variable(_)) => false,
        }
    }

    /// An output of a node.
    pub(crate) fn value(&self, node: usize, output: usize) -> Value {
        self.graph.value(node, output)
    }

    /// The outputs of a node.
    pub(super) fn outputs(&self, i: usize) -> Vec<Value> {
        let count = self.nodes[i].as_ref().map_or(0, |node| node.outputs.len());
        (0..count).map(|output| self.value(i, output)).collect()
    }

    /// The types of a node's inputs.
    pub(super) fn types(&self, i: usize) -> Option<Vec<Type>> {
        let inputs = self.inputs(i).iter();
        inputs.map(|&v| self.ty(v).cloned()).collect()
    }

    /// The program that a node belongs to.
    pub(super) fn program(&self, i: usize) -> Option<usize> {
        self.nodes[i].as_ref().and_then(|node| node.program)
    }

    /// What a node is called.
    pub(super) fn label(&self, i: usize) -> &str {
        self.nodes[i].as_ref().map_or("", |node| &node.label)
    }

    /// Calls a node otherwise.
    pub(super) fn relabel(&mut self, i: usize, label: String) {
        if let Some(node) = &mut self.nodes[i] {
            node.label = label;
        }
    }

    /// Output 0 of a node.
    pub(super) fn first(&self, i: usize) -> Value {
        self.value(i, 0)
    }

    /// The node that updates a bias by the sum of `g` over all axes but axis 1, and how.
    pub(super) fn bias_update(&self, g: Value) -> Option<(usize, &Ending)> {
        self.readers(g).iter().find_map(|&r| {
            let sum = self.op::<Reduce>(r)?;
            let ending = sum.ending.as_ref()?;
            let fits = sum.axis == Some(1) && sum.factor == 1.0 && ending.is_update();
            fits.then_some((r, ending))
        })
    }

    /// Two endings of one op with which of its inputs are theirs: those that it lacks are added.
    /// `None` where one changes what the other uses.
    pub(super) fn both(
        &self,
        inputs: &mut Vec<Value>,
        endings: [(&Ending, &[Value]); 2],
    ) -> Option<[(Ending, Vec<usize>); 2]> {
        let [first, second] = endings;
        let apart = |(one, own): (&Ending, &[Value]), other: &[Value]| {
            let changed = one.changes().into_iter().map(|k| own[k]);
            changed.into_iter().all(|v| !other.contains(&v))
        };
        if !apart(first, second.1) || !apart(second, first.1) {
            return None;
        }
        Some(endings.map(|(ending, own)| {
            let place = |v: &Value| {
                let known = inputs.iter().position(|other| other == v);
                known.unwrap_or_else(|| {
                    inputs.push(*v);
                    inputs.len() - 1
                })
            };
            (ending.clone(), own.iter().map(place).collect())
        }))
    }

    /// What a value is a view of, if it is one.
    pub(super) fn view_of(&self, value: Value) -> Option<Value> {
        match self.lowerings.get(value.node)? {
            Some(Lowering::View) => self.inputs(value.node).first().copied(),
            _ => None,
        }
    }

    /// What a value is a view of, in the end.
    pub(super) fn viewed(&self, mut value: Value) -> Value {
        while let Some(of) = self.view_of(value) {
            value = of;
        }
        value
    }

    /// Whether an op writes over a value, or over a view of it.
    pub(super) fn is_changed(&self, value: Value) -> bool {
        let mut changed = self.updated.iter().flatten();
        changed.any(|&v| self.viewed(v) == value)
    }

    /// Whether node `m` may move from its place to where `join` has it, past node `i`.
    fn passes(&self, m: usize, join: &Join, i: usize) -> bool {
        let (at, unseen) = (join.at, join.unseen);
        if (m < i) == (at < i) {
            return true;
        }
        let (moved, stays) = (self.inputs(m), self.inputs(i));
        // What is not read any more, such as a number that the new op knows, holds nobody back.
        let moved: Vec<&Value> = moved.iter().filter(|v| join.inputs.contains(v)).collect();
        let own = &self.updated[m];
        let changes_input = self.updated[i].iter().any(|v| moved.contains(&v));
        let sees_update = own.iter().any(|v| Some(*v) != unseen && stays.contains(v));
        let reads_output = m < i && stays.iter().any(|v| v.node == m);
        let makes_input = m > i && moved.iter().any(|v| v.node == i);
        !(changes_input || sees_update || reads_output || makes_input)
    }

    /// Gives a node another op and other inputs; what it makes or updates is the same.
    pub(super) fn rewrite(&mut self, i: usize, op: Arc<dyn Op>, inputs: Vec<Value>) -> Result<()> {
        let Some(mut node) = self.nodes[i].clone() else {
            return Ok(());
        };
        let lowered = self.lower(&op, &inputs, &node.outputs, &node.label)?;
        (self.lowerings[i], self.updated[i]) = lowered;
        node.kind = Kind::Op(op);
        self.stops_reading(i);
        node.inputs = inputs;
        self.nodes[i] = Some(node);
        self.starts_reading(i);
        Ok(())
    }

    /// Strikes node `i` from the readers of its inputs.
    fn stops_reading(&mut self, i: usize) {
        for v in self.nodes[i].iter().flat_map(|n| &n.inputs) {
            if let Some(readers) = readers_of(&mut self.readers, *v) {
                readers.retain(|r| *r != i);
            }
        }
    }

    /// Notes node `i` among the readers of its inputs.
    fn starts_reading(&mut self, i: usize) {
        for v in self.nodes[i].iter().flat_map(|n| &n.inputs) {
            if let Some(readers) = readers_of(&mut self.readers, *v) {
                let place = readers.partition_point(|r| *r <= i);
                readers.insert(place, i);
            }
        }
    }

    /// Replaces nodes by one, unless somebody could tell: a value would be read before it
    /// is made or after it is changed, or a value that others read would be gone.
    ///
    /// # Errors
    /// What the new op's lowering says.
    pub(super) fn join(&mut self, join: Join) -> Result<bool> {
        let (members, at, outputs) = (&join.members, join.at, &join.outputs);
        let program = self.nodes[at].as_ref().and_then(|n| n.program);
        let inside = |i: usize| members.contains(&i);
        let same_program = |i: usize| self.nodes[i].as_ref().and_then(|n| n.program) == program;
        if !members.iter().all(|&m| same_program(m)) || join.inputs.iter().any(|v| inside(v.node)) {
            return Ok(false);
        }
        let vanishing = members.iter().flat_map(|&m| self.outputs(m));
        let mut vanishing = vanishing.filter(|v| !outputs.contains(v));
        let lost = vanishing
            .any(|v| self.places.contains_key(&v) || self.readers(v).iter().any(|&r| !inside(r)));
        // Nobody moves past a node that does not stand between.
        let ends = || members.iter().copied().chain([at]);
        let between = ends().min().unwrap_or(at)..=ends().max().unwrap_or(at);
        let mut others = between.filter(|&i| self.nodes[i].is_some() && !inside(i));
        let passes = |i: usize| members.iter().all(|&m| self.passes(m, &join, i));
        if lost || !others.all(|i| !same_program(i) || passes(i)) {
            return Ok(false);
        }
        let Join {
            members,
            named,
            op,
            inputs,
            outputs,
            ..
        } = join;
        let types: Option<Vec<Type>> = outputs.iter().map(|&v| self.ty(v).cloned()).collect();
        let (Some(outputs_ty), Some(node)) = (types, self.nodes[named].clone()) else {
            return Ok(false);
        };
        let (lowering, updated) = self.lower(&op, &inputs, &outputs_ty, &node.label)?;
        let new = |k: usize| self.value(at, k);
        let map: HashMap<Value, Value> = (0..).zip(&outputs).map(|(k, v)| (*v, new(k))).collect();
        for &m in &members {
            self.stops_reading(m);
        }
        let readers: Vec<Vec<usize>> = outputs.iter().map(|&v| self.readers(v).to_vec()).collect();
        for &m in &members {
            self.forget(m);
            self.readers[m].clear();
        }
        let mut reading: Vec<usize> = readers.concat();
        reading.sort_unstable();
        reading.dedup();
        for r in reading {
            for v in self.nodes[r].iter_mut().flat_map(|node| &mut node.inputs) {
                *v = map.get(v).copied().unwrap_or(*v);
            }
        }
        let kept: Vec<_> = outputs.iter().map(|v| self.places.remove(v)).collect();
        for (v, place) in outputs.iter().zip(kept) {
            if let Some(place) = place {
                self.kept[place].1 = map[v];
                self.places.insert(map[v], place);
            }
        }
        self.readers[at] = readers;
        self.lowerings[at] = lowering;
        self.updated[at] = updated;
        self.nodes[at] = Some(Node {
            kind: Kind::Op(op),
            inputs,
            outputs: outputs_ty,
            ..node
        });
        self.starts_reading(at);
        Ok(true)
    }
}

/// The inputs that are changed in place.
fn changed_by(lowering: &Lowering, inputs: &[Value]) -> Vec<Value> {
    let changes = lowering.changes().into_iter();
    changes.filter_map(|k| inputs.get(k).copied()).collect()
}

/// The readers of a value.
fn readers_of(readers: &mut [Vec<Vec<usize>>], value: Value) -> Option<&mut Vec<usize>> {
    readers.get_mut(value.node)?.get_mut(value.output)
}

#[cfg(test)]
mod tests;

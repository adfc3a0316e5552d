//! The graph while it is rewritten: several nodes become one where nobody can tell.

use std::any::Any;
use std::collections::HashMap;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::graph::{Graph, Kind, Node};
use crate::kernel::Access;
use crate::ops::pointwise::{Ending, WithEnding};
use crate::ops::reduce::Reduce;
use crate::ops::{GraphId, Lowering, Op, Operand, Value};
use crate::shape::Type;

/// The nodes of a graph (`None` where one was merged into another) and the values that
/// are kept.
pub(crate) struct Nodes {
    pub(crate) graph: GraphId,
    pub(crate) nodes: Vec<Option<Node>>,
    /// What each op becomes; an op is lowered once, when it enters.
    pub(crate) lowerings: Vec<Option<Lowering>>,
    pub(crate) kept: Vec<(String, Value)>,
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
    pub(crate) fn of(graph: &Graph) -> Result<Self> {
        let mut this = Self {
            graph: graph.id(),
            nodes: graph.nodes().iter().cloned().map(Some).collect(),
            lowerings: vec![],
            kept: graph.results().to_vec(),
        };
        for node in graph.nodes() {
            let lowering = match &node.kind {
                Kind::Op(op) => Some(this.lower(op, &node.inputs, &node.outputs, &node.label)?),
                Kind::Variable(_) => None,
            };
            this.lowerings.push(lowering);
        }
        Ok(this)
    }

    fn lower(
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
            if !used[i] && self.dyn_op(i).is_some() && self.updated(i).is_empty() {
                self.nodes[i] = None;
                self.lowerings[i] = None;
            }
            for v in self.inputs(i).to_vec() {
                used[v.node] = true;
            }
        }
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

    /// The nodes that read a value, once for each time.
    pub(super) fn readers(&self, value: Value) -> Vec<usize> {
        let times = |(i, node): (usize, &Option<Node>)| {
            let inputs = node.as_ref().map_or(&[][..], |n| &n.inputs);
            std::iter::repeat_n(i, inputs.iter().filter(|v| **v == value).count())
        };
        self.nodes.iter().enumerate().flat_map(times).collect()
    }

    /// The one node that reads a value, if nobody else does.
    pub(super) fn sole_reader(&self, value: Value) -> Option<usize> {
        match self.readers(value)[..] {
            [one] if self.kept.iter().all(|(_, v)| *v != value) => Some(one),
            _ => None,
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

    /// Output 0 of a node.
    pub(super) fn first(&self, i: usize) -> Value {
        self.value(i, 0)
    }

    /// The node that updates a bias by the sum of `g` over all axes but axis 1, and how.
    pub(super) fn bias_update(&self, g: Value) -> Option<(usize, &Ending)> {
        self.readers(g).into_iter().find_map(|r| {
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

    /// What a value is a view of, in the end.
    pub(super) fn viewed(&self, mut value: Value) -> Value {
        while let (Some(Lowering::View), Some(&of)) =
            (&self.lowerings[value.node], self.inputs(value.node).first())
        {
            value = of;
        }
        value
    }

    /// The inputs that a node changes in place.
    fn updated(&self, i: usize) -> Vec<Value> {
        let (Some(node), Some(Lowering::Launch(lowered))) = (&self.nodes[i], &self.lowerings[i])
        else {
            return vec![];
        };
        let bindings = lowered.operands.iter().zip(lowered.kernel.bindings);
        bindings
            .filter_map(|(operand, bind)| match operand {
                Operand::In(k) if bind.access != Access::Read => node.inputs.get(*k).copied(),
                _ => None,
            })
            .collect()
    }

    /// Whether node `m` may move from its place to the place of `at`, past node `i`.
    fn passes(&self, m: usize, at: usize, i: usize, unseen: Option<Value>) -> bool {
        if (m < i) == (at < i) {
            return true;
        }
        let (moved, stays) = (self.inputs(m), self.inputs(i));
        let own = self.updated(m);
        let changes_input = self.updated(i).iter().any(|v| moved.contains(v));
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
        self.lowerings[i] = Some(self.lower(&op, &inputs, &node.outputs, &node.label)?);
        node.kind = Kind::Op(op);
        node.inputs = inputs;
        self.nodes[i] = Some(node);
        Ok(())
    }

    /// Replaces nodes by one, unless somebody could tell: a value would be read before it
    /// is made or after it is changed, or a value that others read would be gone.
    ///
    /// # Errors
    /// What the new op's lowering says.
    pub(super) fn join(&mut self, join: Join) -> Result<bool> {
        let Join {
            members,
            at,
            named,
            op,
            inputs,
            outputs,
            unseen,
        } = join;
        let program = self.nodes[at].as_ref().and_then(|n| n.program);
        let inside = |i: usize| members.contains(&i);
        let mut others = self.indices();
        others.retain(|&i| !inside(i));
        let same_program = |&i: &usize| self.nodes[i].as_ref().and_then(|n| n.program) == program;
        if !members.iter().all(same_program) || inputs.iter().any(|v| inside(v.node)) {
            return Ok(false);
        }
        let passes = |&i: &usize| members.iter().all(|&m| self.passes(m, at, i, unseen));
        let vanishes = |v: &Value| inside(v.node) && !outputs.contains(v);
        let lost = others.iter().any(|&i| self.inputs(i).iter().any(vanishes))
            || self.kept.iter().any(|(_, v)| vanishes(v));
        if lost || !others.iter().filter(|i| same_program(i)).all(passes) {
            return Ok(false);
        }
        let types: Option<Vec<Type>> = outputs.iter().map(|&v| self.ty(v).cloned()).collect();
        let (Some(outputs_ty), Some(node)) = (types, self.nodes[named].clone()) else {
            return Ok(false);
        };
        let lowering = self.lower(&op, &inputs, &outputs_ty, &node.label)?;
        let map: HashMap<Value, Value> = outputs
            .iter()
            .enumerate()
            .map(|(k, &v)| (v, self.value(at, k)))
            .collect();
        for &m in &members {
            self.nodes[m] = None;
            self.lowerings[m] = None;
        }
        self.lowerings[at] = Some(lowering);
        let read = self.nodes.iter_mut().flatten().flat_map(|n| &mut n.inputs);
        let kept = self.kept.iter_mut().map(|(_, v)| v);
        for v in read.chain(kept) {
            if let Some(&new) = map.get(v) {
                *v = new;
            }
        }
        self.nodes[at] = Some(Node {
            kind: Kind::Op(op),
            inputs,
            outputs: outputs_ty,
            ..node
        });
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::add::Add;
    use crate::ops::scale::Scale;
    use crate::ops::{COUNTER, Tape};
    use crate::optim::{HYPER, TableSgd};

    /// A graph with a program `run` and variables x and w `[4]`.
    fn graph() -> (Graph, Value, Value) {
        let mut graph = Graph::new();
        let ty = Type::f32("test", &[4]).unwrap();
        let x = graph.variable("x", ty.clone()).unwrap();
        let w = graph.variable("w", ty).unwrap();
        (graph, x, w)
    }

    fn scale(graph: &mut Graph, x: Value) -> Value {
        graph.op1(Arc::new(Scale(2.0)), &[x]).unwrap()
    }

    /// Whether the nodes of `outputs` may become one node at the place of `at`.
    fn joins(graph: &Graph, outputs: &[Value], at: Value, inputs: &[Value]) -> bool {
        let members: Vec<usize> = outputs.iter().map(|v| v.node).collect();
        let mut nodes = Nodes::of(graph).unwrap();
        let join = Join {
            at: at.node,
            named: at.node,
            members,
            op: Arc::new(Scale(4.0)),
            inputs: inputs.to_vec(),
            outputs: outputs.to_vec(),
            unseen: None,
        };
        nodes.join(join).unwrap()
    }

    #[test]
    fn nobody_moves_past_a_change_of_what_it_reads() {
        let (mut graph, x, w) = graph();
        let hyper = Type::f32("test", &[HYPER + 1]).unwrap();
        let hyper = graph.variable("hyper", hyper).unwrap();
        let step = Type::u32("test", &[COUNTER]).unwrap();
        let step = graph.variable("step", step).unwrap();
        graph.begin("run");
        let read = scale(&mut graph, w);
        let update = TableSgd {
            l2: false,
            l1: false,
            momentum: false,
            epoch_steps: 1,
        };
        let update = Arc::new(update.update());
        graph.op(update, &[x, w, hyper, step]).unwrap();
        let last = scale(&mut graph, read);
        assert!(!joins(&graph, &[read, last], last, &[w]));
        assert!(joins(&graph, &[read, last], read, &[w]));
    }

    #[test]
    fn nobody_moves_past_a_reader_of_what_it_makes() {
        let (mut graph, x, _) = graph();
        graph.begin("run");
        let made = scale(&mut graph, x);
        scale(&mut graph, made);
        let last = scale(&mut graph, made);
        assert!(!joins(&graph, &[made, last], last, &[x]));
        assert!(joins(&graph, &[made, last], made, &[x]));
    }

    #[test]
    fn nobody_moves_before_what_makes_its_input() {
        let (mut graph, x, w) = graph();
        graph.begin("run");
        let first = scale(&mut graph, x);
        let other = scale(&mut graph, w);
        let sum = graph.op1(Arc::new(Add), &[first, other]).unwrap();
        assert!(!joins(&graph, &[first, sum], first, &[x, other]));
        assert!(joins(&graph, &[first, sum], sum, &[x, other]));
    }
}

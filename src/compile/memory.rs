//! Which buffer a value lives in, by liveness.

use std::collections::HashMap;

use super::fuse::Nodes;
use super::variable;
use crate::graph::{Kind, Node};
use crate::ops::{GraphId, Value};
use crate::plan::{Buffer, Role};
use crate::shape::Type;

/// Assigns buffers while programs are lowered in order.
pub(super) struct Allocation {
    graph: GraphId,
    buffers: Vec<Buffer>,
    place: HashMap<Value, usize>,
    /// How many launches still read a temporary's buffer.
    readers: HashMap<usize, usize>,
    /// Values not yet read by all their users, views counted at their source.
    uses: HashMap<Value, usize>,
    free: Vec<usize>,
    /// Inputs of the launch being lowered.
    current: Vec<Value>,
}

impl Allocation {
    pub(super) fn new(graph: &Nodes) -> Self {
        let nodes = &graph.nodes;
        let mut this = Self {
            graph: graph.graph,
            buffers: vec![],
            place: HashMap::new(),
            readers: HashMap::new(),
            uses: HashMap::new(),
            free: vec![],
            current: vec![],
        };
        for (name, value) in &graph.kept {
            if let Some(node) = &nodes[value.node] {
                this.place.insert(*value, this.buffers.len());
                this.buffers
                    .push(variable(name, &node.outputs[value.output]));
            }
        }
        for (i, node) in nodes.iter().enumerate() {
            let Some(node) = node else { continue };
            if let Kind::Variable(name) = &node.kind {
                let value = graph.value(i, 0);
                this.place.insert(value, this.buffers.len());
                this.buffers.push(variable(name, &node.outputs[0]));
            }
            for &v in &node.inputs {
                *this.uses.entry(v).or_default() += 1;
            }
        }
        this
    }

    /// Node `i` is a view of `of`: the same buffer under another name.
    pub(super) fn alias(&mut self, i: usize, of: Value) {
        let view = self.graph.value(i, 0);
        let buffer = self.place[&of];
        self.place.insert(view, buffer);
        let uses = self.uses.get(&view).copied().unwrap_or(0);
        if let Some(readers) = self.readers.get_mut(&buffer) {
            // The view's own use of the buffer is replaced by the uses of the view.
            *readers = *readers + uses - 1;
        }
        self.release(buffer);
    }

    /// Gives node `i`'s outputs their buffers.
    pub(super) fn enter(&mut self, i: usize, node: &Node) {
        self.current.clone_from(&node.inputs);
        for (output, ty) in node.outputs.iter().enumerate() {
            let value = self.graph.value(i, output);
            if self.place.contains_key(&value) {
                continue;
            }
            let buffer = self.take(ty);
            let uses = self.uses.get(&value).copied().unwrap_or(0);
            self.readers.insert(buffer, uses);
            self.place.insert(value, buffer);
        }
    }

    /// A buffer for what a launch leaves to the next one of its node.
    pub(super) fn scratch(&mut self, ty: &Type) -> usize {
        self.take(ty)
    }

    /// Gives such a buffer back.
    pub(super) fn discard(&mut self, buffer: usize) {
        self.free.push(buffer);
    }

    /// Where a value lives.
    pub(super) fn buffer(&self, value: Value) -> usize {
        self.place[&value]
    }

    /// The buffer of a value that has one for good.
    pub(super) fn lasting(&self, value: Value) -> Option<usize> {
        self.place.get(&value).copied()
    }

    /// Node `i` has been launched: its inputs have one reader less.
    pub(super) fn leave(&mut self, i: usize) {
        for value in std::mem::take(&mut self.current) {
            let buffer = self.place[&value];
            if let Some(readers) = self.readers.get_mut(&buffer) {
                *readers -= 1;
            }
            self.release(buffer);
        }
        // Outputs that nobody reads are free at once.
        let mut output = 0;
        while let Some(&buffer) = self.place.get(&self.graph.value(i, output)) {
            self.release(buffer);
            output += 1;
        }
    }

    /// Programs do not overlap: the next one may use every temporary.
    pub(super) fn end_program(&mut self) {
        self.readers.clear();
        self.free = (0..self.buffers.len())
            .filter(|&b| self.buffers[b].role == Role::Temporary)
            .collect();
    }

    pub(super) fn into_buffers(self) -> Vec<Buffer> {
        self.buffers
    }

    fn release(&mut self, buffer: usize) {
        if self.readers.get(&buffer) == Some(&0) {
            self.readers.remove(&buffer);
            self.free.push(buffer);
        }
    }

    /// The free buffer that fits best (the smallest large enough, else the largest,
    /// which then grows), or a new one.
    fn take(&mut self, ty: &Type) -> usize {
        let (dtype, elements, shared) = (ty.dtype, ty.elements(), ty.shared);
        let fit = |&(_, &b): &(usize, &usize)| {
            let have = self.buffers[b].elements;
            (have < elements, have.abs_diff(elements))
        };
        let best = self
            .free
            .iter()
            .enumerate()
            .filter(|&(_, &b)| self.buffers[b].dtype == dtype && self.buffers[b].shared == shared)
            .min_by_key(fit)
            .map(|(at, _)| at);
        if let Some(at) = best {
            let b = self.free.swap_remove(at);
            let buffer = &mut self.buffers[b];
            buffer.elements = buffer.elements.max(elements);
            return b;
        }
        self.buffers.push(Buffer {
            name: format!("temporary {}", self.buffers.len()),
            dtype,
            elements,
            shared,
            role: Role::Temporary,
        });
        self.buffers.len() - 1
    }
}

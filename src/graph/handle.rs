//! What programs are run by and buffers written and read by, in place of their names.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::marker::PhantomData;

use crate::ops::{GraphId, Value};

/// A variable or a kept result of a graph, by which it is written and read once the graph is
/// compiled. `T` is what its elements are: `f32`, `u32`, or [`Host`](crate::tensor::Host) where
/// only the graph knows. [`Graph::handle`](super::Graph::handle) makes one.
///
/// A handle is for the graph that made it and for everything compiled from that graph, no other.
pub struct Handle<T> {
    value: Value,
    elements: usize,
    content: PhantomData<fn() -> T>,
}

impl<T> Handle<T> {
    pub(super) fn new(value: Value, elements: usize) -> Self {
        Self {
            value,
            elements,
            content: PhantomData,
        }
    }

    /// The value, as ops take it; of a result that is a view, what it looks at.
    pub fn value(self) -> Value {
        self.value
    }

    /// Elements of one replica.
    pub fn elements(self) -> usize {
        self.elements
    }
}

// Derived, these would ask the same of `T`.
impl<T> Clone for Handle<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Handle<T> {}

impl<T> PartialEq for Handle<T> {
    fn eq(&self, other: &Self) -> bool {
        self.value == other.value
    }
}

impl<T> Eq for Handle<T> {}

impl<T> Hash for Handle<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.value.hash(state);
    }
}

impl<T> fmt::Debug for Handle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let content = std::any::type_name::<T>();
        write!(f, "Handle<{content}>({:?})", self.value)
    }
}

impl<T> From<Handle<T>> for Value {
    fn from(handle: Handle<T>) -> Self {
        handle.value
    }
}

/// A program of a graph, by which it is run once the graph is compiled.
/// [`Graph::begin`](super::Graph::begin) gives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Program {
    pub(crate) graph: GraphId,
    pub(crate) index: usize,
}

//! What the programs of a run are written into.

use crate::error::Result;
use crate::fit::resident::Resident;
use crate::graph::Graph;
use crate::model::Variables;
use crate::ops::{COUNTER, Value};
use crate::rng::KEYS;
use crate::shape::Type;

/// A graph that programs are written into, and what goes with it.
pub(super) struct Writing {
    pub graph: Graph,
    pub variables: Variables,
    pub resident: Resident,
    /// The counter of training steps.
    pub step: Value,
    pub key: Value,
}

impl Writing {
    pub fn new() -> Result<Self> {
        let mut graph = Graph::new();
        let step = graph.variable("step", Type::u32("step", &[COUNTER])?)?;
        let key = graph.variable("keys", Type::u32("keys", &[KEYS])?)?;
        Ok(Self {
            graph,
            variables: Variables::default(),
            resident: Resident::default(),
            step,
            key,
        })
    }
}

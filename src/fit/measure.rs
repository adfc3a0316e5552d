//! What a metric is made of.

use std::fmt;
use std::sync::Arc;

use crate::error::Result;
use crate::model::{Input, Scope};
use crate::ops::Value;

/// What a metric does: it writes some numbers of each example, which are added up over all examples,
/// each exactly once, and makes its value of the totals.
pub trait Measure: fmt::Debug + Send + Sync {
    /// Its name in reports.
    fn name(&self) -> &str;

    /// Writes the numbers of each example, `[N]` or `[N, S]`, of an output and its target.
    ///
    /// # Errors
    /// What the shape rules say.
    fn write(&self, scope: &mut Scope<'_>, output: Value, target: Value) -> Result<Value>;

    /// The values of the metric with their names, from the totals over so many examples. Most have one,
    /// of their own name.
    fn finish(&self, totals: &[f64], examples: usize) -> Vec<(String, f64)>;

    /// What one example of the target is, given that of the output.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) for an output that it cannot work with.
    fn target(&self, output: &Input) -> Result<Input> {
        Ok(output.clone())
    }

    /// The same metric with totals of differences from `target`, which is one of the targets: totals of 32-bit floats lose
    /// the digits of what is far from 0. `None` where totals are of no such kind.
    fn about(&self, _target: f64) -> Option<Arc<dyn Measure>> {
        None
    }

    /// How many classes targets may be of, given the output; none where they are no classes.
    fn classes(&self, _output: &Input) -> Option<usize> {
        None
    }

    /// The class that is left out, which need not be one of them.
    fn ignored(&self) -> Option<u32> {
        None
    }

    /// The same over all places but those of a class; none where targets are no classes.
    fn ignoring(&self, _class: u32) -> Option<Arc<dyn Measure>> {
        None
    }
}

/// A value by its name.
pub(super) fn one(name: &str, value: f64) -> Vec<(String, f64)> {
    vec![(name.into(), value)]
}

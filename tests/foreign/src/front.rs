//! What a crate of its own adds to models and runs: a layer, a metric, a callback, a source of data.

use std::ops::Range;

use serde::{Deserialize, Serialize};
use wgrad::data::{DataSource, Dataset};
use wgrad::fit::{Callback, Control, Epoch, Measure};
use wgrad::model::{Described, Initializer, Layer, Scope, arity};
use wgrad::ops::matmul::Matmul;
use wgrad::ops::pointwise::pointwise;
use wgrad::ops::reduction::{Kind, Reduction};
use wgrad::ops::{Tape, Value};
use wgrad::{Error, Result};

/// A gated linear unit (Dauphin et al. 2017), `[N, in]` → `[N, units]`: (x W) ⊙ σ(x V).
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gated {
    /// Outputs.
    pub units: usize,
}

impl Layer for Gated {
    fn kind(&self) -> &'static str {
        Self::KIND
    }

    fn forward(&self, scope: &mut Scope<'_>, inputs: &[Value]) -> Result<Value> {
        let [x] = arity(Self::KIND, inputs)?;
        let [_, n_in] = scope.ty(x)?.shape.axes(Self::KIND, "x as [N, in]")?;
        let start = Initializer::GlorotUniform.with_fans(n_in, self.units);
        let mut product = |name: &str| {
            let w = scope.parameter(name, &[n_in, self.units], start)?;
            scope.op1(std::sync::Arc::new(Matmul::new(false, false)), &[x, w])
        };
        let (y, gate) = (product("weight")?, product("gate")?);
        pointwise(scope, [y, gate], |[y, gate]| y * gate.sigmoid())
    }

    fn settings(&self) -> Result<serde_json::Value> {
        serde_json::to_value(self).map_err(|e| Error::setting("gated", e, "a number of units"))
    }
}

impl Described for Gated {
    const KIND: &'static str = "gated";
}

/// The largest error of all elements of all examples, as a bound of it: the mean over examples of each
/// one's largest.
#[derive(Debug)]
pub struct MeanLargest;

impl Measure for MeanLargest {
    fn name(&self) -> &str {
        "mean largest error"
    }

    fn write(&self, scope: &mut Scope<'_>, output: Value, target: Value) -> Result<Value> {
        let error = pointwise(scope, [output, target], |[y, t]| (y - t).abs())?;
        let largest = scope.op(
            std::sync::Arc::new(Reduction::new(Kind::Max, &[1])),
            &[error],
        )?;
        Ok(largest[0])
    }

    fn finish(&self, totals: &[f64], examples: usize) -> Vec<(String, f64)> {
        vec![(self.name().into(), totals[0] / examples as f64)]
    }
}

/// Ends a run whose training loss is small enough.
#[derive(Debug)]
pub struct GoodEnough(pub f64);

impl Callback for GoodEnough {
    fn epoch(&mut self, epoch: &Epoch, control: &mut Control<'_>) -> Result<()> {
        if epoch.get("training loss").is_some_and(|loss| loss < self.0) {
            control.stop();
        }
        Ok(())
    }
}

/// Points of a curve: what takes other data in makes columns of it.
///
/// # Errors
/// As [`Dataset::with`].
pub fn curve(points: usize) -> Result<Dataset> {
    Points(points).read(0..points)
}

/// The same points, each made when it is asked for; as many as one likes.
#[derive(Debug)]
pub struct Points(pub usize);

impl DataSource for Points {
    fn rows(&self) -> usize {
        self.0
    }

    fn read(&self, rows: Range<usize>) -> Result<Dataset> {
        let x = rows.map(|i| i as f32 / self.0 as f32 * 4.0 - 2.0);
        let x: Vec<f32> = x.collect();
        let y: Vec<f32> = x.iter().flat_map(|x| [x.sin(), x * x / 4.0]).collect();
        Dataset::new().with("input", [1], x)?.with("target", [2], y)
    }
}

//! Cross-entropy of events that each happen or do not.

use super::loss::{Criterion, Each, Floats, Loss, over_example};
use crate::error::{Error, Result};
use crate::expr::Expr;
use crate::model::{Input, Scope};
use crate::ops::Value;
use crate::ops::pointwise::pointwise;
use crate::tensor::{HELD, held};

impl Loss {
    /// ln(1 + eʸ) − t y: the cross-entropy of 1/(1 + e⁻ʸ), for t between 0 and 1; data sets with other
    /// targets are refused. [`BinaryCrossEntropy`] has settings.
    pub fn binary_cross_entropy() -> Self {
        Self::of_criterion(BinaryCrossEntropy::default())
    }
}

/// Cross-entropy of probabilities 1/(1 + e⁻ʸ), given their scores y `[N, …]`, for targets t `[N, …]` from 0 to 1, as
/// PyTorch's `BCEWithLogitsLoss`: the mean over an example's elements of
///
/// p t ln(1 + e⁻ʸ) + (1 − t) ln(1 + eʸ).
///
/// ```
/// use wgrad::fit::{BinaryCrossEntropy, Loss};
/// // One example in four has what is looked for.
/// let loss = Loss::of_criterion(BinaryCrossEntropy { positive_weights: vec![3.0] });
/// # assert_eq!(loss.name(), "binary_cross_entropy");
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BinaryCrossEntropy {
    /// p: what it weighs that something is there (`pos_weight`), one number for all or one for each element of the last
    /// axis of an example; 1 if there are none. With the share of examples without over that of those with, rare ones count as much.
    pub positive_weights: Vec<f64>,
}

impl Criterion for BinaryCrossEntropy {
    fn name(&self) -> &str {
        "binary_cross_entropy"
    }

    fn targets(&self, outputs: &[Input]) -> Result<Vec<Input>> {
        let last = outputs.first().and_then(|output| output.extents.last());
        self.check(last.copied().unwrap_or(1))?;
        Ok(outputs.to_vec())
    }

    fn floats(&self, _: &[Input]) -> Floats {
        Floats::Shares
    }

    fn write(&self, scope: &mut Scope<'_>, outputs: &[Value], targets: &[Value]) -> Result<Each> {
        let (y, t) = (outputs[0], targets[0]);
        let weighted =
            |y: &Expr, t: &Expr, p: &Expr| (1.0 - t) * y.softplus() + p * t * (-y).softplus();
        let each = match &self.positive_weights[..] {
            [] => pointwise(scope, [y, t], |[y, t]| y.softplus() - t * y)?,
            weights => {
                // Of a number an example, the first axis is the mini-batch.
                let last = scope.extents(y)?[1..].last().copied().unwrap_or(1);
                self.check(last)?;
                match weights {
                    &[p] => {
                        pointwise(scope, [y, t], |[y, t]| weighted(&y, &t, &Expr::constant(p)))?
                    }
                    weights => {
                        let weights = weights.iter().map(|&p| p as f32).collect();
                        let p = scope.constant(&[last], weights)?;
                        pointwise(scope, [y, t, p], |[y, t, p]| weighted(&y, &t, &p))?
                    }
                }
            }
        };
        Ok(over_example(scope, each, true)?.into())
    }
}

impl BinaryCrossEntropy {
    /// Holds the weights to so many elements of the last axis.
    fn check(&self, last: usize) -> Result<()> {
        let weights = &self.positive_weights;
        if !weights.is_empty() && weights.len() != 1 && weights.len() != last {
            let found = format!("{} of them", weights.len());
            let wanted = format!("1, or one for each of {last} scores");
            return Err(Error::setting("positive weights", found, wanted));
        }
        match weights.iter().find(|&&p| !(p >= 0.0 && held(p))) {
            Some(p) => Err(Error::setting("positive weights", p, HELD)),
            None => Ok(()),
        }
    }
}

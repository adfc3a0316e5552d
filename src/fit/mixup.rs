//! Mixed examples (Zhang et al. 2018, "mixup: Beyond Empirical Risk Minimization"): while training, each
//! example n of a mini-batch gives way to λ xₙ + (1 − λ) xₙ₊₁, the last one's partner being the first, and
//! so do their targets. λ is drawn for each example and step out of Beta(α, α). Rows are shuffled, so the
//! neighbour in a mini-batch is any row.
//!
//! λ is looked up: the distribution's quantiles (k + ½)/4096 stand in a table, and a uniform number of
//! Philox picks one. So λ is the same bits on every device, and no draw is ever rejected.

use std::sync::Arc;

use super::loss::Criterion;
use crate::error::{Error, Result};
use crate::expr::Expr;
use crate::model::{Pass, Scope};
use crate::ops::concat::Concat;
use crate::ops::pointwise::{Pointwise, pointwise};
use crate::ops::slice::Slice;
use crate::ops::{Tape, Value, one_hot};
use crate::rng::streams;

/// Quantiles in the table.
const QUANTILES: usize = 4096;

/// Beyond it the series of the quantiles loses digits; λ is then near ½ anyway.
const MOST: f64 = 16.0;

/// Holds α to what there are quantiles for.
pub(super) fn check(alpha: f64) -> Result<()> {
    match alpha > 0.0 && alpha <= MOST {
        true => Ok(()),
        false => {
            let wanted = format!("above 0 to {MOST}");
            Err(Error::setting(
                "alpha of mixup",
                format!("{alpha:e}"),
                wanted,
            ))
        }
    }
}

/// A criterion of classes as one of shares of classes.
pub(super) fn of_shares(criterion: &Arc<dyn Criterion>) -> Result<Arc<dyn Criterion>> {
    criterion.of_shares().ok_or_else(|| {
        let found = format!("classes in the targets of {}", criterion.name());
        let wanted = "numbers, or a cross_entropy without an ignored class";
        Error::setting("mixup", found, wanted)
    })
}

/// The draws of a mini-batch.
pub(super) struct Mixup {
    /// λ, `[N]`.
    share: Value,
    n: usize,
}

impl Mixup {
    /// Draws λ for each of n examples; `None` in an evaluation.
    pub fn drawn(scope: &mut Scope<'_>, alpha: f64, n: usize) -> Result<Option<Self>> {
        check(alpha)?;
        let Pass::Training { keys, step } = scope.pass() else {
            return Ok(None);
        };
        let table = scope.constant(&[QUANTILES], quantiles(alpha, QUANTILES))?;
        let place = Expr::uniform(streams::MIXUP) * QUANTILES as f64;
        let op = Pointwise::new(&[Expr::at(0, place)]).with_extents(&[n]);
        let share = scope.op1(Arc::new(op), &[table, keys, step])?;
        Ok(Some(Self { share, n }))
    }

    /// Floats `[N, …]`, mixed.
    pub fn floats(&self, scope: &mut Scope<'_>, x: Value) -> Result<Value> {
        if self.n == 1 {
            return Ok(x);
        }
        let mut part = |start: usize, extent: usize| {
            let slice = Slice {
                axis: 0,
                start,
                extent,
                step: 1,
            };
            scope.op1(Arc::new(slice), &[x])
        };
        let (rest, first) = (part(1, self.n - 1)?, part(0, 1)?);
        let partner = scope.op1(Arc::new(Concat { axis: 0 }), &[rest, first])?;
        let mut extents = vec![1; scope.extents(x)?.len()];
        extents[0] = self.n;
        let share = scope.reshape(self.share, &extents)?;
        pointwise(scope, [x, partner, share], |[x, other, share]| {
            &other + share * (x - &other)
        })
    }

    /// Shares of `k` classes `[N, …, k]` out of classes `[N, …]`.
    pub fn classes(&self, scope: &mut Scope<'_>, labels: Value, k: usize) -> Result<Value> {
        let shares = one_hot(scope, labels, k)?;
        self.floats(scope, shares)
    }
}

/// The quantiles (k + ½)/n of Beta(α, α).
fn quantiles(alpha: f64, n: usize) -> Vec<f32> {
    let whole = integral(alpha, 0.5);
    let quantile = |u: f64| {
        // The distribution is symmetric, and half of it lies below ½.
        let (mut low, mut high) = (0.0, 0.5);
        for _ in 0..100 {
            let middle = 0.5 * (low + high);
            match 0.5 * integral(alpha, middle) / whole < u {
                true => low = middle,
                false => high = middle,
            }
        }
        0.5 * (low + high)
    };
    let lower = (0..n).map(|k| (k as f64 + 0.5) / n as f64);
    lower
        .map(|u| match u < 0.5 {
            true => quantile(u),
            false => 1.0 - quantile(1.0 - u),
        })
        .map(|x| x as f32)
        .collect()
}

/// ∫₀ˣ (t (1 − t))^(α − 1) dt for x up to ½: x^α Σ (1 − α)ₖ xᵏ / (k! (α + k)).
fn integral(alpha: f64, x: f64) -> f64 {
    let (mut sum, mut factor) = (0.0, 1.0);
    for k in 0..200 {
        let k = f64::from(k);
        sum += factor / (alpha + k);
        factor *= (1.0 - alpha + k) * x / (k + 1.0);
        if factor.abs() < 1e-18 {
            break;
        }
    }
    x.powf(alpha) * sum
}

#[cfg(test)]
mod tests;

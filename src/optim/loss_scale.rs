//! A loss that is scaled while gradients are taken, so that what is kept in 16 bits on the way back does not vanish
//! (Micikevicius et al. 2018, §3.2).
//!
//! The gradient that enters the backward pass is multiplied by S, a power of two, and each parameter's gradient by
//! 1/S before it is clipped and used; so no bit changes but where something would leave the range of its format. A
//! step whose gradients are not finite is not taken: parameters and all that the optimizer keeps stay. S is then
//! halved, and doubled after so many steps in a row that were taken, as PyTorch's `GradScaler` does it.
//!
//! All of it stands in one variable of each replica, so a step reads nothing back. Whether gradients are finite is
//! told by the norm of all of them together, which clipping wants too: one launch for each gradient. A norm is not
//! finite either where gradients are finite and beyond 1.8·10¹⁹, the root of what f32 holds; S should be smaller
//! there, too. Of scaled gradients below 10⁻¹⁹ squares are lost, so that clipping by the norm takes it for smaller than
//! it is: an S below 1 is for gradients that are too large, and no smaller than these ask for.

use std::sync::Arc;

use crate::error::{Error, Result};
use crate::expr::{Condition, Expr, Plane};
use crate::graph::Graph;
use crate::ops::pointwise::{Pointwise, pointwise};
use crate::ops::{Tape, Value};
use crate::shape::Type;

/// The least and the largest scale, as powers of two: 1/S has all its bits, too.
const POWERS: std::ops::RangeInclusive<i32> = -126..=126;

/// How the loss is scaled while gradients are taken.
///
/// ```
/// use wgrad::optim::{AdamW, LossScale, Optimizer};
///
/// let optimizer = Optimizer::new(AdamW::default(), 1e-3).loss_scale(LossScale::dynamic());
/// # let _ = optimizer;
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LossScale {
    first: f64,
    /// Steps after which it is doubled; of one that stays none.
    interval: Option<u32>,
}

impl LossScale {
    /// A scale that begins at 65536, is halved by each step whose gradients are not finite, and doubled after 2000
    /// others in a row.
    pub const fn dynamic() -> Self {
        Self {
            first: 65_536.0,
            interval: Some(2000),
        }
    }

    /// A scale that stays. Steps whose gradients are not finite are skipped all the same. Clipping by the norm wants
    /// scaled gradients above 10⁻¹⁹, whose squares f32 still holds.
    pub const fn fixed(scale: f64) -> Self {
        Self {
            first: scale,
            interval: None,
        }
    }

    /// The same from another scale on.
    #[must_use]
    pub const fn from(self, scale: f64) -> Self {
        Self {
            first: scale,
            ..self
        }
    }

    /// The same, doubled after so many steps in a row whose gradients are finite.
    #[must_use]
    pub const fn growth_interval(self, steps: u32) -> Self {
        Self {
            interval: Some(steps),
            ..self
        }
    }

    /// Holds it to what it may be.
    pub(super) fn check(&self) -> Result<()> {
        let powers = POWERS.map(|power| 2f64.powi(power));
        if !powers.into_iter().any(|power| power == self.first) {
            let wanted =
                "a power of two from 2^-126 to 2^126, such as 1024, which changes no other bits";
            return Err(Error::setting("loss scale", self.first, wanted));
        }
        // Steps in a row are counted in floats.
        if self.interval.is_some_and(|n| n == 0 || n > 1 << 24) {
            let found = self.interval.unwrap_or(0);
            let wanted = "1 to 16777216 steps";
            return Err(Error::setting(
                "growth interval of the loss scale",
                found,
                wanted,
            ));
        }
        Ok(())
    }
}

/// What the variable of a scale holds: S of the next step, 1/S of the next step, 1/S of the gradients that there are,
/// whether their step is taken (1 or 0), how many in a row were taken, how many were skipped.
const ENTRIES: usize = 6;
const SCALE: usize = 0;
const NOW: usize = 2;
const TAKEN: usize = 3;
const SKIPPED: usize = 5;

fn entry(entry: usize, input: usize) -> Expr {
    Expr::at(input, entry as f64)
}

/// What gradients are multiplied by, by the scale that is input `input`.
pub(super) fn inverse(input: usize) -> Expr {
    entry(NOW, input)
}

/// Whether the step is taken.
pub(super) fn taken(input: usize) -> Condition {
    entry(TAKEN, input).gt(0.5)
}

/// How many steps were skipped before.
pub(super) fn skipped(input: usize) -> Expr {
    entry(SKIPPED, input)
}

/// What a replica's variable says: the scale of its next step, and how many steps it has skipped.
pub(crate) fn told(values: &[f32]) -> (f64, u64) {
    let of = |entry: usize| values.get(entry).copied().unwrap_or(f32::NAN);
    (f64::from(of(SCALE)), of(SKIPPED) as u64)
}

/// A scale in a graph.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scaling {
    setting: LossScale,
    pub variable: Value,
}

impl Scaling {
    /// Declares the variable `name`.
    pub fn declare(graph: &mut Graph, name: &str, setting: LossScale) -> Result<Self> {
        let ty = Type::f32(name, &[ENTRIES, 1])?;
        let variable = graph.variable(name, ty)?;
        Ok(Self { setting, variable })
    }

    /// Writes the op that gives it its first value.
    pub fn init(&self, graph: &mut Graph) -> Result<()> {
        graph.label("loss scale init");
        let (scale, inverse) = (self.setting.first, 1.0 / self.setting.first);
        let first = [scale, inverse, inverse, 1.0, 0.0, 0.0].map(Expr::constant);
        self.write(graph, &first, None)
    }

    fn write(&self, graph: &mut Graph, entries: &[Expr], norm: Option<Value>) -> Result<()> {
        let op = Pointwise::new(entries);
        let op = (0..ENTRIES).fold(op, |op, k| op.updating(k, k));
        let op = op.with_planes(0, ENTRIES);
        let inputs: Vec<Value> = std::iter::once(self.variable).chain(norm).collect();
        graph.op(Arc::new(op), &inputs)?;
        Ok(())
    }

    /// `value` in every element, times S.
    pub fn seed(&self, tape: &mut dyn Tape, extents: &[usize], value: f64) -> Result<Value> {
        let bound = [(self.variable, Plane::WHOLE)];
        let (op, bound) = Pointwise::over_values(&[entry(SCALE, 0) * value], &bound);
        tape.op1(Arc::new(op.with_extents(extents)), &bound)
    }

    /// Writes the op that judges a step by the norm `[1]` of all its gradients, as they are.
    pub fn judge(&self, graph: &mut Graph, norm: Value) -> Result<()> {
        graph.label("loss scale");
        let [scale, inverse, _, _, row, skipped] = std::array::from_fn(Expr::input);
        let fits = Expr::input(ENTRIES).le(f64::from(f32::MAX));
        let longer = fits.select(&row + 1.0, 0.0);
        let (next, inverse_next, row) = match self.setting.interval {
            None => (scale, inverse.clone(), longer),
            Some(interval) => {
                let grows = longer.ge(f64::from(interval));
                let (least, most) = (2f64.powi(*POWERS.start()), 2f64.powi(*POWERS.end()));
                let moved = |x: &Expr, up: f64, down: f64| {
                    let by = fits.select(grows.select(up, 1.0), down);
                    (x * by).clamp(least, most)
                };
                (
                    moved(&scale, 2.0, 0.5),
                    moved(&inverse, 0.5, 2.0),
                    grows.select(0.0, longer),
                )
            }
        };
        let entries = [
            next,
            inverse_next,
            inverse,
            fits.select(1.0, 0.0),
            row,
            &skipped + fits.select(0.0, 1.0),
        ];
        self.write(graph, &entries, Some(norm))
    }

    /// A gradient, or a norm of some, without S.
    pub fn unscaled(&self, tape: &mut dyn Tape, scaled: Value) -> Result<Value> {
        pointwise(tape, [scaled, self.variable], |[g, _]| g * inverse(1))
    }
}

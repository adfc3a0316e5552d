//! Learning rates of each step, computed on the device from the step's number.

use std::f64::consts::PI;
use std::fmt::Debug;
use std::sync::Arc;

use super::range::{positive, positive_or_0};
use crate::error::{Error, Result};
use crate::expr::Expr;

/// An own factor by the step's number.
type Own = Arc<dyn Fn(&Expr) -> Expr + Send + Sync>;

#[derive(Clone)]
enum Shape {
    Constant,
    Step {
        every: u64,
        factor: f64,
    },
    Exponential {
        factor: f64,
    },
    Polynomial {
        steps: u64,
        power: f64,
        end: f64,
    },
    Cosine {
        steps: u64,
        end: f64,
    },
    Restarts {
        first: u64,
        multiple: u64,
        end: f64,
    },
    OneCycle {
        steps: u64,
        rise: f64,
        start: f64,
        end: f64,
    },
    Table {
        every: u64,
        factors: Vec<f64>,
    },
    Own(Own),
}

/// What the learning rate is multiplied by in each step, counted from 0.
#[derive(Clone)]
pub struct Schedule {
    shape: Shape,
    warm_up: u64,
}

impl Debug for Schedule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let shape = match &self.shape {
            Shape::Constant => "constant".into(),
            Shape::Step { every, factor } => format!("times {factor} every {every} steps"),
            Shape::Exponential { factor } => format!("times {factor} each step"),
            Shape::Polynomial { steps, power, end } => {
                format!("to {end} over {steps} steps by power {power}")
            }
            Shape::Cosine { steps, end } => format!("to {end} over {steps} steps by a cosine"),
            Shape::Restarts {
                first,
                multiple,
                end,
            } => {
                format!(
                    "to {end} by a cosine, again after {first} steps, each time {multiple} times as long"
                )
            }
            Shape::OneCycle {
                steps,
                rise,
                start,
                end,
            } => {
                format!(
                    "one cycle of {steps} steps from {start}, up to {rise} of it, down to {end}"
                )
            }
            Shape::Table { every, factors } => format!("{factors:?}, each for {every} steps"),
            Shape::Own(_) => "own function of the step".into(),
        };
        write!(f, "{shape}, warm-up of {} steps", self.warm_up)
    }
}

impl Schedule {
    fn of(shape: Shape) -> Self {
        Self { shape, warm_up: 0 }
    }

    /// Always 1.
    pub fn constant() -> Self {
        Self::of(Shape::Constant)
    }

    /// Times `factor` after each `every` steps.
    pub fn step(every: u64, factor: f64) -> Self {
        Self::of(Shape::Step { every, factor })
    }

    /// Times `factor` after each step.
    pub fn exponential(factor: f64) -> Self {
        Self::of(Shape::Exponential { factor })
    }

    /// From 1 to `end` over `steps` steps: end + (1 − end) (1 − step/steps)^power; `end` from then on.
    pub fn polynomial(steps: u64, power: f64, end: f64) -> Self {
        Self::of(Shape::Polynomial { steps, power, end })
    }

    /// From 1 to 0 over `steps` steps by half a cosine (Loshchilov and Hutter 2017):
    /// ½ (1 + cos(π step/steps)); 0 from then on.
    pub fn cosine(steps: u64) -> Self {
        Self::of(Shape::Cosine { steps, end: 0.0 })
    }

    /// A cosine that begins again: after `first` steps, and then after each time `multiple` times
    /// as many.
    pub fn cosine_with_restarts(first: u64, multiple: u64) -> Self {
        Self::of(Shape::Restarts {
            first,
            multiple,
            end: 0.0,
        })
    }

    /// The same ending at `end` instead of 0 (cosines, with or without restarts; polynomials).
    #[must_use]
    pub fn to(mut self, to: f64) -> Self {
        match &mut self.shape {
            Shape::Polynomial { end, .. }
            | Shape::Cosine { end, .. }
            | Shape::Restarts { end, .. }
            | Shape::OneCycle { end, .. } => *end = to,
            _ => {}
        }
        self
    }

    /// One cycle (Smith and Topin 2018), as PyTorch's by cosines: from 1/25 to 1 over the first
    /// three tenths of `steps` steps, then down to 1/250,000.
    pub fn one_cycle(steps: u64) -> Self {
        let start = 1.0 / 25.0;
        Self::of(Shape::OneCycle {
            steps,
            rise: 0.3,
            start,
            end: start / 1e4,
        })
    }

    /// `factors[⌊step/every⌋]`, the last one from then on.
    pub fn table(every: u64, factors: &[f64]) -> Self {
        let factors = factors.to_vec();
        Self::of(Shape::Table { every, factors })
    }

    /// The table that `factor` gives for `entries` times `every` steps.
    pub fn function(every: u64, entries: usize, factor: impl Fn(u64) -> f64) -> Self {
        let factors = (0..entries as u64).map(|k| factor(k * every)).collect();
        Self::of(Shape::Table { every, factors })
    }

    /// An own expression of the step's number.
    pub fn expression(factor: impl Fn(&Expr) -> Expr + Send + Sync + 'static) -> Self {
        Self::of(Shape::Own(Arc::new(factor)))
    }

    /// Before it, over `steps` steps from 1/steps up to 1 by equal parts; the schedule's own steps
    /// count from then on.
    #[must_use]
    pub fn warm_up(self, steps: u64) -> Self {
        Self {
            warm_up: steps,
            ..self
        }
    }

    /// The factor of a step, as an expression of the step's number.
    pub fn factor(&self, step: &Expr) -> Expr {
        if self.warm_up == 0 {
            return self.own(step);
        }
        let rest = (step - self.warm_up as f64).max(0.0);
        let rising = (step + 1.0) / self.warm_up as f64;
        step.lt(self.warm_up as f64).select(rising, self.own(&rest))
    }

    fn own(&self, step: &Expr) -> Expr {
        // Half a cosine from `from` to `to` as x goes from 0 to 1.
        let arc = |x: Expr, from: f64, to: f64| {
            (x.clamp(0.0, 1.0) * PI).cos() * ((from - to) / 2.0) + (from + to) / 2.0
        };
        match &self.shape {
            Shape::Constant => Expr::constant(1.0),
            Shape::Step { every, factor } => (quotient(step, *every as f64) * factor.ln()).exp(),
            Shape::Exponential { factor } => (step * factor.ln()).exp(),
            Shape::Polynomial { steps, power, end } => {
                let left = (1.0 - step / *steps as f64).max(0.0);
                left.pow(*power) * (1.0 - end) + *end
            }
            Shape::Cosine { steps, end } => arc(step / *steps as f64, 1.0, *end),
            Shape::Restarts {
                first,
                multiple,
                end,
            } => {
                let (first, multiple) = (*first as f64, *multiple as f64);
                let (since, length) = if multiple == 1.0 {
                    (step - quotient(step, first) * first, Expr::constant(first))
                } else {
                    // Round k begins at first (multiple^k − 1)/(multiple − 1); a thousandth of a step
                    // is on top so that rounding does not put a step before its round.
                    let rounds = (step + 1e-3) * ((multiple - 1.0) / first) + 1.0;
                    let k = (rounds.log() / multiple.ln()).floor();
                    let power = (k * multiple.ln()).exp();
                    let begin = ((&power - 1.0) * (first / (multiple - 1.0)) + 0.5).floor();
                    (step - begin, power * first)
                };
                arc(since / length, 1.0, *end)
            }
            Shape::OneCycle {
                steps,
                rise,
                start,
                end,
            } => {
                let last = *steps as f64 - 1.0;
                let peak = rise * *steps as f64 - 1.0;
                let up = arc(step / peak, *start, 1.0);
                let down = arc((step - peak) / (last - peak), 1.0, *end);
                step.le(peak).select(up, down)
            }
            Shape::Table { every, factors } => {
                let place = quotient(step, *every as f64);
                let (last, rest) = match factors.split_last() {
                    Some((last, rest)) => (*last, rest),
                    None => (1.0, &[][..]),
                };
                let rest = rest.iter().enumerate().rev();
                rest.fold(Expr::constant(last), |after, (k, factor)| {
                    place.le(k as f64).select(*factor, after)
                })
            }
            Shape::Own(factor) => factor(step),
        }
    }

    /// Holds its numbers to what they may be.
    pub(super) fn check(&self) -> Result<()> {
        let steps = |found: u64| match found {
            0 => Err(Error::setting("steps of a schedule", found, "at least 1")),
            _ => Ok(()),
        };
        let factor = |found: f64| positive_or_0("factor of a schedule", found);
        match &self.shape {
            Shape::Constant | Shape::Own(_) => Ok(()),
            Shape::Step { every, factor } => steps(*every).and(above(*factor)),
            Shape::Exponential { factor } => above(*factor),
            Shape::Polynomial {
                steps: n,
                power,
                end,
            } => steps(*n).and(factor(*power)).and(factor(*end)),
            Shape::Cosine { steps: n, end } => steps(*n).and(factor(*end)),
            Shape::Restarts {
                first,
                multiple,
                end,
            } => steps(*first).and(steps(*multiple)).and(factor(*end)),
            Shape::OneCycle { steps: n, .. } => match *n {
                0..10 => Err(Error::setting("steps of one cycle", n, "at least 10")),
                _ => Ok(()),
            },
            Shape::Table { every, factors } => {
                if !(1..=MOST_FACTORS).contains(&factors.len()) {
                    let wanted = format!("1 to {MOST_FACTORS}; an expression has no such limit");
                    return Err(Error::setting(
                        "factors of a schedule",
                        factors.len(),
                        wanted,
                    ));
                }
                factors
                    .iter()
                    .try_for_each(|&f| factor(f))
                    .and(steps(*every))
            }
        }
    }
}

/// Entries of a table: each is a line of the kernel.
const MOST_FACTORS: usize = 256;

fn above(factor: f64) -> Result<()> {
    positive("factor of a schedule", factor)
}

/// ⌊step/every⌋, exact for whole numbers that f32 holds: a half keeps rounding away from the edge.
fn quotient(step: &Expr, every: f64) -> Expr {
    ((step + 0.5) / every).floor()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(schedule: &Schedule, step: u64) -> f64 {
        let factor = schedule.factor(&Expr::input(0));
        factor.value(&[step as f64]).unwrap()
    }

    #[track_caller]
    fn holds(schedule: &Schedule, wanted: &[(u64, f64)]) {
        schedule.check().unwrap();
        for &(step, wanted) in wanted {
            let found = at(schedule, step);
            assert!(
                (found - wanted).abs() < 1e-9,
                "step {step}: {found}, wanted {wanted}"
            );
        }
    }

    #[test]
    fn schedules_by_hand() {
        holds(&Schedule::constant(), &[(0, 1.0), (1_000_000, 1.0)]);
        holds(
            &Schedule::step(3, 0.5),
            &[(0, 1.0), (2, 1.0), (3, 0.5), (5, 0.5), (6, 0.25)],
        );
        holds(&Schedule::exponential(0.9), &[(0, 1.0), (2, 0.81)]);
        holds(
            &Schedule::polynomial(10, 2.0, 0.1),
            &[(0, 1.0), (5, 0.325), (10, 0.1), (99, 0.1)],
        );
        holds(
            &Schedule::cosine(10),
            &[(0, 1.0), (5, 0.5), (10, 0.0), (50, 0.0)],
        );
        holds(
            &Schedule::cosine(10).to(0.2),
            &[(0, 1.0), (5, 0.6), (10, 0.2)],
        );
        let warm = Schedule::cosine(10).warm_up(4);
        holds(
            &warm,
            &[(0, 0.25), (1, 0.5), (3, 1.0), (4, 1.0), (9, 0.5), (14, 0.0)],
        );
        let again = Schedule::cosine_with_restarts(4, 1);
        holds(
            &again,
            &[(0, 1.0), (2, 0.5), (4, 1.0), (6, 0.5), (4000, 1.0)],
        );
        let longer = Schedule::cosine_with_restarts(4, 2);
        // Rounds begin at 0, 4, 12, 28, 60.
        holds(
            &longer,
            &[
                (0, 1.0),
                (2, 0.5),
                (4, 1.0),
                (8, 0.5),
                (12, 1.0),
                (20, 0.5),
                (28, 1.0),
                (60, 1.0),
            ],
        );
        let table = Schedule::table(2, &[1.0, 0.3, 0.7]);
        holds(
            &table,
            &[(0, 1.0), (1, 1.0), (2, 0.3), (4, 0.7), (100, 0.7)],
        );
        let own = Schedule::function(1, 5, |step| 1.0 / (1.0 + step as f64));
        holds(&own, &[(0, 1.0), (3, 0.25), (4, 0.2), (9, 0.2)]);
    }

    /// `torch.optim.lr_scheduler.OneCycleLR(max_lr = 1, total_steps = 20)`, PyTorch 2.
    #[test]
    fn one_cycle_is_pytorchs() {
        let cycle = Schedule::one_cycle(20);
        holds(&cycle, &[(0, 0.04), (5, 1.0), (19, 4e-6)]);
        let half_way = (4e-6 + 1.0) / 2.0;
        holds(&cycle, &[(12, half_way)]);
    }

    #[test]
    fn impossible_schedules_are_refused() {
        for (schedule, why) in [
            (Schedule::step(0, 0.5), "at least 1"),
            (Schedule::step(3, 0.0), "positive"),
            (Schedule::exponential(f64::NAN), "positive"),
            (Schedule::cosine(0), "at least 1"),
            (Schedule::cosine(5).to(-1.0), "0 or a positive"),
            (Schedule::cosine_with_restarts(5, 0), "at least 1"),
            (Schedule::one_cycle(3), "at least 10"),
            (Schedule::table(1, &[]), "1 to 256"),
            (Schedule::table(1, &[1.0; 257]), "1 to 256"),
            (Schedule::table(1, &[f64::INFINITY]), "0 or a positive"),
        ] {
            let error = schedule.check().unwrap_err().to_string();
            assert!(error.contains(why), "{schedule:?}: {error}");
        }
    }
}

//! Gradient descent whose rates stand in a table on the device, one for each epoch: an update for graphs of one's own.

use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::expr::Expr;
use crate::ops::pointwise::{Ending, Pointwise};
use crate::shape::Type;

/// Entries of a table of rates before the learning rates.
pub const HYPER: usize = 4;

/// Stochastic gradient descent with momentum and weight decay, in place:
///
/// v ← μ v − η (g + λ₂ w + λ₁ sgn w),  w ← w + v,  sgn 0 = 0
///
/// (Nielsen, equations 93, 95 and 107–108; here λ₂ = λ/n and λ₁ = λ/n are already divided.)
/// Coefficients and rates stand in a table `hyper` `[4 + schedule]` of each replica: μ, λ₂, λ₁,
/// unused, η₀, η₁, …, one rate for each epoch, the last one holding on; so a schedule costs no
/// upload, and replicas may have their own.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct TableSgd {
    /// Whether λ₂ acts on this parameter (biases are not decayed).
    pub l2: bool,
    /// Whether λ₁ does.
    pub l1: bool,
    /// Whether there is a velocity.
    pub momentum: bool,
    /// Steps of an epoch.
    pub epoch_steps: usize,
}

impl TableSgd {
    /// The type of the table with so many learning rates.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] for more than a shape may have.
    pub fn table(schedule: usize) -> Result<Type> {
        Type::f32("hyper", &[HYPER + schedule])
    }

    /// [`TableSgd::update`] at the end of the kernel that makes the gradient.
    pub fn ending(&self) -> Ending {
        Ending::new(self.update())
    }

    /// The update: inputs gradient g, parameter w (updated), `hyper`, with momentum the velocity v
    /// (updated), and the step counter `[2]`. No outputs.
    pub fn update(&self) -> Pointwise {
        let (g, w) = (Expr::input(0), Expr::input(1));
        let entry = |k: usize| Expr::at(2, k as f64);
        let decay = match (self.l2, self.l1) {
            (true, true) => Some(entry(1) * &w + entry(2) * w.sign()),
            (true, false) => Some(entry(1) * &w),
            (false, true) => Some(entry(2) * w.sign()),
            (false, false) => None,
        };
        let slope = match decay {
            Some(decay) => g + decay,
            None => g,
        };
        let epoch = Expr::step().quotient(self.epoch_steps as f64);
        let rate = Expr::at(2, epoch + HYPER as f64);
        if self.momentum {
            let v = entry(0) * Expr::input(3) - rate * slope;
            let both = Pointwise::new(&[w + &v, v]);
            return both.updating(0, 1).updating(1, 3);
        }
        Pointwise::new(&[w - rate * slope]).updating(0, 1)
    }
}

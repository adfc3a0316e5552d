//! An update rule: AdaBelief (Zhuang et al. 2020), which takes long steps where gradients are what
//! was expected of them.
//!
//! With g the gradient and t the number of the update from 1: m ← β₁ m + (1 − β₁) g,
//! s ← β₂ s + (1 − β₂)(g − m)² + ε, w ← w − η m̂/(√ŝ + ε) with m̂ = m/(1 − β₁ᵗ), ŝ = s/(1 − β₂ᵗ).

use wgrad::expr::Expr;
use wgrad::ops::pointwise::Pointwise;
use wgrad::ops::{COUNTER, Case, Fill, Row};
use wgrad::optim::{Rule, State, Terms, Updated};
use wgrad::{Error, Result};

/// The rule with its coefficients.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdaBelief {
    /// β₁ and β₂.
    pub betas: [f64; 2],
    /// ε.
    pub epsilon: f64,
}

impl Default for AdaBelief {
    fn default() -> Self {
        Self {
            betas: [0.9, 0.999],
            epsilon: 1e-8,
        }
    }
}

impl Rule for AdaBelief {
    fn name(&self) -> &'static str {
        "AdaBelief"
    }

    fn states(&self) -> Vec<State> {
        vec![State::zero("mean"), State::zero("surprise")]
    }

    fn update(&self, t: &Terms) -> Updated {
        let [b1, b2] = self.betas;
        let mean = &t.states[0] * b1 + &t.gradient * (1.0 - b1);
        let off = (&t.gradient - &mean).square();
        let surprise = &t.states[1] * b2 + off * (1.0 - b2) + self.epsilon;
        let root = (&surprise / t.bias_correction(b2)).sqrt() + self.epsilon;
        Updated {
            value: &t.value - &t.rate * (&mean / t.bias_correction(b1)) / root,
            states: vec![mean, surprise],
        }
    }

    fn check(&self) -> Result<()> {
        for beta in self.betas {
            if !(0.0..1.0).contains(&beta) {
                return Err(Error::setting("beta of AdaBelief", beta, "0 to below 1"));
            }
        }
        Ok(())
    }
}

/// The rule as an optimizer launches it: over gradient, parameter, states and step.
fn cases() -> Vec<Case> {
    let updated = AdaBelief::default().update(&Terms {
        gradient: Expr::input(0),
        value: Expr::input(1),
        states: vec![Expr::input(2), Expr::input(3)],
        rate: Expr::constant(0.01),
        step: Expr::step() + 1.0,
        decays: true,
    });
    let outputs = [&[updated.value], &updated.states[..]].concat();
    let update = (0..3).fold(Pointwise::new(&outputs), |op, k| op.updating(k, k + 1));
    let uniform = Fill::Uniform(-1.0, 1.0);
    let mut cases = Vec::new();
    for step in [0, 1, 5000] {
        for extents in [&[1][..], &[7, 9], &[4, 16]] {
            let case = Case::new(update.clone(), 1).fixed(extents, uniform);
            let case = case.fixed(extents, uniform).fixed(extents, uniform);
            let case = case.fixed(extents, Fill::Uniform(0.1, 1.0));
            cases.push(case.u32(&[COUNTER], Fill::Pair(99, step)));
        }
    }
    cases
}

/// What the harness needs to prove it.
pub static ROW: Row = Row {
    stem: "belief",
    kernels: &[],
    cases,
};

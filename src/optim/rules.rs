//! The rules. With w the parameter, g its gradient, η the rate, t the number of the update from 1.

use super::range::{positive, positive_or_0, share};
use super::{Place, Rule, State, Terms, Updated};
use crate::error::{Error, Result};
use crate::expr::Expr;
use crate::ops::reduction::{Kind, Reduction};
use crate::ops::{Tape, Value};

/// Holds a coefficient to `[0, 1)`.
fn below_one(rule: &str, name: &str, value: f64) -> Result<()> {
    share(&format!("{name} of {rule}"), value)
}

/// Holds a coefficient to 0 or more.
fn not_negative(rule: &str, name: &str, value: f64) -> Result<()> {
    positive_or_0(&format!("{name} of {rule}"), value)
}

/// a moving average: β a + (1 − β) x.
fn moving(a: &Expr, beta: f64, x: impl Into<Expr>) -> Expr {
    a * beta + x.into() * (1.0 - beta)
}

/// Stochastic gradient descent, with decay in the book's form (Nielsen, equations 93, 95 and
/// 107–108): s = g + λ₂ w + λ₁ sgn w, v ← μ v − η s, w ← w + v; with Nesterov's momentum
/// w ← w + μ v − η s. As long as η stays, it is PyTorch's.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Sgd {
    /// μ; 0 keeps no velocity.
    pub momentum: f64,
    /// Whether the gradient step is taken from where the momentum leads (Sutskever et al. 2013).
    pub nesterov: bool,
    /// λ₂.
    pub l2: f64,
    /// λ₁.
    pub l1: f64,
}

impl Rule for Sgd {
    fn name(&self) -> &'static str {
        "Sgd"
    }
    fn states(&self) -> Vec<State> {
        match self.momentum == 0.0 {
            true => vec![],
            false => vec![State::zero("velocity")],
        }
    }
    fn update(&self, t: &Terms) -> Updated {
        let mut slope = t.gradient.clone();
        if t.decay(self.l2) != 0.0 {
            slope = slope + &t.value * self.l2;
        }
        if t.decay(self.l1) != 0.0 {
            slope = slope + t.value.sign() * self.l1;
        }
        let step = &t.rate * slope;
        let Some(v) = t.states.first() else {
            return Updated {
                value: &t.value - step,
                states: vec![],
            };
        };
        let v = v * self.momentum - &step;
        let value = match self.nesterov {
            true => &t.value + &v * self.momentum - step,
            false => &t.value + &v,
        };
        Updated {
            value,
            states: vec![v],
        }
    }
    fn check(&self) -> Result<()> {
        below_one("Sgd", "momentum", self.momentum)?;
        not_negative("Sgd", "L2 decay", self.l2)?;
        not_negative("Sgd", "L1 decay", self.l1)?;
        if self.nesterov && self.momentum == 0.0 {
            return Err(Error::setting(
                "momentum of Sgd",
                0.0,
                "above 0 with Nesterov's form",
            ));
        }
        Ok(())
    }
}

/// Adam (Kingma and Ba 2015), decay as a part of the gradient: g ← g + λ w; m ← β₁ m + (1 − β₁) g,
/// v ← β₂ v + (1 − β₂) g²; w ← w − η m̂/(√v̂ + ε) with m̂ = m/(1 − β₁ᵗ), v̂ = v/(1 − β₂ᵗ).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Adam {
    /// β₁ and β₂.
    pub betas: [f64; 2],
    /// ε.
    pub epsilon: f64,
    /// λ.
    pub decay: f64,
    /// Whether v̂ is the largest there was (AMSGrad, Reddi et al. 2018).
    pub amsgrad: bool,
}

impl Default for Adam {
    fn default() -> Self {
        Self {
            betas: [0.9, 0.999],
            epsilon: 1e-8,
            decay: 0.0,
            amsgrad: false,
        }
    }
}

impl Adam {
    /// The update by gradient `g` from w, its decay done.
    fn step(&self, t: &Terms, value: &Expr, g: &Expr) -> Updated {
        let [b1, b2] = self.betas;
        let m = moving(&t.states[0], b1, g);
        let v = moving(&t.states[1], b2, g.square());
        let mut states = vec![m.clone(), v.clone()];
        let largest = if self.amsgrad { v.max(&t.states[2]) } else { v };
        if self.amsgrad {
            states.push(largest.clone());
        }
        let root = largest.sqrt() / t.bias_correction(b2).sqrt() + self.epsilon;
        let value = value - &t.rate / t.bias_correction(b1) * m / root;
        Updated { value, states }
    }
}

impl Rule for Adam {
    fn name(&self) -> &'static str {
        "Adam"
    }
    fn states(&self) -> Vec<State> {
        let mut states = vec![State::zero("first moment"), State::zero("second moment")];
        if self.amsgrad {
            states.push(State::zero("largest second moment"));
        }
        states
    }
    fn update(&self, t: &Terms) -> Updated {
        let g = match t.decay(self.decay) {
            0.0 => t.gradient.clone(),
            decay => &t.gradient + &t.value * decay,
        };
        self.step(t, &t.value, &g)
    }
    fn check(&self) -> Result<()> {
        below_one("Adam", "β₁", self.betas[0])?;
        below_one("Adam", "β₂", self.betas[1])?;
        not_negative("Adam", "ε", self.epsilon)?;
        not_negative("Adam", "decay", self.decay)
    }
}

/// Adam with decay of its own (Loshchilov and Hutter 2019): w ← w − η λ w, then Adam's step by g
/// alone.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamW(pub Adam);

impl Default for AdamW {
    fn default() -> Self {
        Self(Adam {
            decay: 0.01,
            ..Adam::default()
        })
    }
}

impl AdamW {
    /// The usual coefficients with another λ.
    pub fn with_decay(decay: f64) -> Self {
        Self(Adam {
            decay,
            ..Adam::default()
        })
    }
}

impl Rule for AdamW {
    fn name(&self) -> &'static str {
        "AdamW"
    }
    fn states(&self) -> Vec<State> {
        self.0.states()
    }
    fn update(&self, t: &Terms) -> Updated {
        let value = match t.decay(self.0.decay) {
            0.0 => t.value.clone(),
            decay => &t.value * (1.0 - &t.rate * decay),
        };
        self.0.step(t, &value, &t.gradient)
    }
    fn check(&self) -> Result<()> {
        self.0.check()
    }
}

/// RMSprop (Tieleman and Hinton 2012), as PyTorch's: s ← α s + (1 − α) g²; centred, what is under
/// the root is s − a² with a ← α a + (1 − α) g; b ← μ b + g/(√s + ε); w ← w − η b.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RmsProp {
    /// α.
    pub alpha: f64,
    /// ε.
    pub epsilon: f64,
    /// μ; 0 keeps no momentum.
    pub momentum: f64,
    /// Whether the mean gradient is taken off.
    pub centered: bool,
    /// λ of g ← g + λ w.
    pub decay: f64,
}

impl Default for RmsProp {
    fn default() -> Self {
        Self {
            alpha: 0.99,
            epsilon: 1e-8,
            momentum: 0.0,
            centered: false,
            decay: 0.0,
        }
    }
}

impl Rule for RmsProp {
    fn name(&self) -> &'static str {
        "RmsProp"
    }
    fn states(&self) -> Vec<State> {
        let mut states = vec![State::zero("mean square")];
        if self.momentum != 0.0 {
            states.push(State::zero("momentum"));
        }
        if self.centered {
            states.push(State::zero("mean gradient"));
        }
        states
    }
    fn update(&self, t: &Terms) -> Updated {
        let g = &t.gradient + &t.value * t.decay(self.decay);
        let square = moving(&t.states[0], self.alpha, g.square());
        let mut states = vec![square.clone()];
        let mean = self
            .centered
            .then(|| moving(&t.states[t.states.len() - 1], self.alpha, &g));
        let variance = match &mean {
            Some(mean) => square - mean.square(),
            None => square,
        };
        let mut step = g / (variance.sqrt() + self.epsilon);
        if self.momentum != 0.0 {
            step = &t.states[1] * self.momentum + step;
            states.push(step.clone());
        }
        states.extend(mean);
        Updated {
            value: &t.value - &t.rate * step,
            states,
        }
    }
    fn check(&self) -> Result<()> {
        below_one("RmsProp", "α", self.alpha)?;
        below_one("RmsProp", "momentum", self.momentum)?;
        not_negative("RmsProp", "ε", self.epsilon)?;
        not_negative("RmsProp", "decay", self.decay)
    }
}

/// Adagrad (Duchi et al. 2011): s ← s + g², w ← w − η/(1 + (t − 1) δ) g/(√s + ε).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Adagrad {
    /// δ.
    pub rate_decay: f64,
    /// s before the first step.
    pub initial: f64,
    /// ε.
    pub epsilon: f64,
    /// λ of g ← g + λ w.
    pub decay: f64,
}

impl Default for Adagrad {
    fn default() -> Self {
        Self {
            rate_decay: 0.0,
            initial: 0.0,
            epsilon: 1e-10,
            decay: 0.0,
        }
    }
}

impl Rule for Adagrad {
    fn name(&self) -> &'static str {
        "Adagrad"
    }
    fn states(&self) -> Vec<State> {
        vec![State {
            name: "sum of squares",
            initial: self.initial,
        }]
    }
    fn update(&self, t: &Terms) -> Updated {
        let g = &t.gradient + &t.value * t.decay(self.decay);
        let sum = &t.states[0] + g.square();
        let rate = &t.rate / ((&t.step - 1.0) * self.rate_decay + 1.0);
        Updated {
            value: &t.value - rate * g / (sum.sqrt() + self.epsilon),
            states: vec![sum],
        }
    }
    fn check(&self) -> Result<()> {
        not_negative("Adagrad", "decay of the rate", self.rate_decay)?;
        not_negative("Adagrad", "first sum of squares", self.initial)?;
        not_negative("Adagrad", "ε", self.epsilon)?;
        not_negative("Adagrad", "decay", self.decay)
    }
}

/// Adadelta (Zeiler 2012): s ← ρ s + (1 − ρ) g², d = √(a + ε)/√(s + ε) g, a ← ρ a + (1 − ρ) d²,
/// w ← w − η d.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Adadelta {
    /// ρ.
    pub rho: f64,
    /// ε.
    pub epsilon: f64,
    /// λ of g ← g + λ w.
    pub decay: f64,
}

impl Default for Adadelta {
    fn default() -> Self {
        Self {
            rho: 0.9,
            epsilon: 1e-6,
            decay: 0.0,
        }
    }
}

impl Rule for Adadelta {
    fn name(&self) -> &'static str {
        "Adadelta"
    }
    fn states(&self) -> Vec<State> {
        vec![State::zero("mean square"), State::zero("mean square step")]
    }
    fn update(&self, t: &Terms) -> Updated {
        let g = &t.gradient + &t.value * t.decay(self.decay);
        let square = moving(&t.states[0], self.rho, g.square());
        let root = |x: &Expr| (x + self.epsilon).sqrt();
        let step = root(&t.states[1]) / root(&square) * g;
        let steps = moving(&t.states[1], self.rho, step.square());
        Updated {
            value: &t.value - &t.rate * step,
            states: vec![square, steps],
        }
    }
    fn check(&self) -> Result<()> {
        below_one("Adadelta", "ρ", self.rho)?;
        not_negative("Adadelta", "ε", self.epsilon)?;
        not_negative("Adadelta", "decay", self.decay)
    }
}

/// Adamax (Kingma and Ba 2015, §7.1): m ← β₁ m + (1 − β₁) g, u ← max(β₂ u, |g| + ε),
/// w ← w − η/(1 − β₁ᵗ) m/u.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Adamax {
    /// β₁ and β₂.
    pub betas: [f64; 2],
    /// ε.
    pub epsilon: f64,
    /// λ of g ← g + λ w.
    pub decay: f64,
}

impl Default for Adamax {
    fn default() -> Self {
        Self {
            betas: [0.9, 0.999],
            epsilon: 1e-8,
            decay: 0.0,
        }
    }
}

impl Rule for Adamax {
    fn name(&self) -> &'static str {
        "Adamax"
    }
    fn states(&self) -> Vec<State> {
        vec![State::zero("first moment"), State::zero("infinity norm")]
    }
    fn update(&self, t: &Terms) -> Updated {
        let [b1, b2] = self.betas;
        let g = &t.gradient + &t.value * t.decay(self.decay);
        let m = moving(&t.states[0], b1, &g);
        let u = (&t.states[1] * b2).max(g.abs() + self.epsilon);
        Updated {
            value: &t.value - &t.rate / t.bias_correction(b1) * &m / &u,
            states: vec![m, u],
        }
    }
    fn check(&self) -> Result<()> {
        below_one("Adamax", "β₁", self.betas[0])?;
        below_one("Adamax", "β₂", self.betas[1])?;
        positive("ε of Adamax", self.epsilon)?;
        not_negative("Adamax", "decay", self.decay)
    }
}

/// Adam with Nesterov's momentum (Dozat 2016), as PyTorch's: μₜ = β₁ (1 − ½ 0.96^(t ψ)),
/// w ← w − η ((1 − μₜ)/(1 − Πμ) g + μₜ₊₁/(1 − Πμ μₜ₊₁) m)/(√v̂ + ε).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NAdam {
    /// β₁ and β₂.
    pub betas: [f64; 2],
    /// ε.
    pub epsilon: f64,
    /// λ of g ← g + λ w.
    pub decay: f64,
    /// ψ.
    pub momentum_decay: f64,
}

impl Default for NAdam {
    fn default() -> Self {
        Self {
            betas: [0.9, 0.999],
            epsilon: 1e-8,
            decay: 0.0,
            momentum_decay: 0.004,
        }
    }
}

impl Rule for NAdam {
    fn name(&self) -> &'static str {
        "NAdam"
    }
    fn states(&self) -> Vec<State> {
        let product = State {
            name: "momentum product",
            initial: 1.0,
        };
        vec![
            State::zero("first moment"),
            State::zero("second moment"),
            product,
        ]
    }
    fn update(&self, t: &Terms) -> Updated {
        let [b1, b2] = self.betas;
        let g = &t.gradient + &t.value * t.decay(self.decay);
        let m = moving(&t.states[0], b1, &g);
        let v = moving(&t.states[1], b2, g.square());
        let momentum = |step: Expr| {
            let power = (step * (self.momentum_decay * 0.96f64.ln())).exp();
            b1 * (1.0 - power * 0.5)
        };
        let (now, next) = (momentum(t.step.clone()), momentum(&t.step + 1.0));
        let product = &t.states[2] * &now;
        let root = v.sqrt() / t.bias_correction(b2).sqrt() + self.epsilon;
        let by_gradient = (1.0 - now) / (1.0 - &product) * g;
        let by_moment = &next / (1.0 - &product * &next) * &m;
        Updated {
            value: &t.value - &t.rate * (by_gradient + by_moment) / root,
            states: vec![m, v, product],
        }
    }
    fn check(&self) -> Result<()> {
        below_one("NAdam", "β₁", self.betas[0])?;
        below_one("NAdam", "β₂", self.betas[1])?;
        not_negative("NAdam", "ε", self.epsilon)?;
        not_negative("NAdam", "decay", self.decay)?;
        not_negative("NAdam", "decay of momentum", self.momentum_decay)
    }
}

/// Lion (Chen et al. 2023): w ← w − η (sgn(β₁ m + (1 − β₁) g) + λ w), m ← β₂ m + (1 − β₂) g.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Lion {
    /// β₁ and β₂.
    pub betas: [f64; 2],
    /// λ.
    pub decay: f64,
}

impl Default for Lion {
    fn default() -> Self {
        Self {
            betas: [0.9, 0.99],
            decay: 0.0,
        }
    }
}

impl Rule for Lion {
    fn name(&self) -> &'static str {
        "Lion"
    }
    fn states(&self) -> Vec<State> {
        vec![State::zero("momentum")]
    }
    fn update(&self, t: &Terms) -> Updated {
        let [b1, b2] = self.betas;
        let (m, g) = (&t.states[0], &t.gradient);
        let step = moving(m, b1, g).sign() + &t.value * t.decay(self.decay);
        Updated {
            value: &t.value - &t.rate * step,
            states: vec![moving(m, b2, g)],
        }
    }
    fn check(&self) -> Result<()> {
        below_one("Lion", "β₁", self.betas[0])?;
        below_one("Lion", "β₂", self.betas[1])?;
        not_negative("Lion", "decay", self.decay)
    }
}

/// LAMB (You et al. 2020): with u = m̂/(√v̂ + ε) + λ w as in [`AdamW`], w ← w − η ‖w‖/‖u‖ u, the
/// quotient being 1 where one of the norms is 0.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Lamb(pub Adam);

impl Default for Lamb {
    fn default() -> Self {
        Self(Adam {
            decay: 0.01,
            epsilon: 1e-6,
            ..Adam::default()
        })
    }
}

impl Lamb {
    fn direction(&self, t: &Terms) -> (Expr, Vec<Expr>) {
        let [b1, b2] = self.0.betas;
        let m = moving(&t.states[0], b1, &t.gradient);
        let v = moving(&t.states[1], b2, t.gradient.square());
        let root = (&v / t.bias_correction(b2)).sqrt() + self.0.epsilon;
        let u = &m / t.bias_correction(b1) / root + &t.value * t.decay(self.0.decay);
        (u, vec![m, v])
    }
}

impl Rule for Lamb {
    fn name(&self) -> &'static str {
        "Lamb"
    }
    fn states(&self) -> Vec<State> {
        vec![State::zero("first moment"), State::zero("second moment")]
    }
    fn scalars(&self, tape: &mut dyn Tape, place: &Place<'_>) -> Result<Vec<Value>> {
        let u = place.value(tape, |t| self.direction(t).0)?;
        [place.parameter, u]
            .map(|x| norm(tape, x))
            .into_iter()
            .collect()
    }
    fn update(&self, t: &Terms) -> Updated {
        self.update_with(t, &[Expr::constant(1.0), Expr::constant(1.0)])
    }
    fn update_with(&self, t: &Terms, scalars: &[Expr]) -> Updated {
        let (u, states) = self.direction(t);
        let [w_norm, u_norm] = scalars else {
            return Updated {
                value: &t.value - &t.rate * u,
                states,
            };
        };
        let both = w_norm.gt(0.0).and(&u_norm.gt(0.0));
        let trust = both.select(w_norm / u_norm, 1.0);
        Updated {
            value: &t.value - &t.rate * trust * u,
            states,
        }
    }
    fn check(&self) -> Result<()> {
        self.0.check()
    }
}

/// ‖x‖ as a value `[1]`.
pub(super) fn norm(tape: &mut dyn Tape, x: Value) -> Result<Value> {
    let axes: Vec<usize> = (0..tape.ty(x)?.shape.rank()).collect();
    let reduction = Reduction {
        kind: Kind::Norm,
        axes,
        keep: false,
    };
    tape.op1(std::sync::Arc::new(reduction), &[x])
}

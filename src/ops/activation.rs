//! Activations y = σ(x), element by element, and the backward Hadamard product
//! δ = g ⊙ σ′(x) (Nielsen, equation BP2).
//!
//! | kind | y | σ′ from y |
//! |---|---|---|
//! | linear | x | 1 |
//! | sigmoid | 1/(1 + e⁻ˣ) | y (1 − y) |
//! | tanh | tanh x | 1 − y² |
//! | ReLU | max(0, x) | 1 where y > 0, else 0 (so the slope at 0 is 0) |
//!
//! Saved for the gradient: the output y alone. Because every slope follows from y, the
//! pre-activation need not exist, and the activation can be fused into the kernel that
//! makes x.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::pointwise::Pointwise;
use super::{Backward, Case, ELEMENTWISE, Fill, Lowering, Op, Value, arity, floats, same};
use crate::error::Result;
use crate::expr::Expr;
use crate::kernel::Kernel;
use crate::shape::Type;
use crate::tensor::Real;

/// Which activation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// y = x.
    Linear,
    /// y = 1/(1 + e⁻ˣ).
    Sigmoid,
    /// y = tanh x.
    Tanh,
    /// y = max(0, x), slope 0 at 0.
    Relu,
}

impl Activation {
    /// The constant `ACTIVATION` of the shaders (`shaders/shared/activation.wgsl`).
    pub(crate) fn constant(self) -> f64 {
        f64::from(self as u32)
    }

    /// The kind that a launch's constant stands for.
    pub(crate) fn of_constant(number: usize) -> Self {
        match number {
            1 => Self::Sigmoid,
            2 => Self::Tanh,
            3 => Self::Relu,
            _ => Self::Linear,
        }
    }

    /// Every one.
    pub const ALL: [Self; 4] = [Self::Linear, Self::Sigmoid, Self::Tanh, Self::Relu];

    /// y = σ(x) as an expression.
    pub fn of(self, x: &Expr) -> Expr {
        match self {
            Self::Linear => x.clone(),
            Self::Sigmoid => x.sigmoid(),
            Self::Tanh => x.tanh(),
            Self::Relu => x.relu(),
        }
    }

    /// g σ′ from y = σ(x) as an expression; see [`Activation::sloped`].
    pub fn sloped_of(self, g: &Expr, y: &Expr) -> Expr {
        match self {
            Self::Linear => g.clone(),
            Self::Sigmoid => g * (y * (1.0 - y)),
            Self::Tanh => g * (1.0 - y * y),
            Self::Relu => y.le(0.0).select(0.0, g),
        }
    }

    /// y = σ(x).
    pub fn apply<T: Real>(self, x: T) -> T {
        match self {
            Self::Linear => x,
            // e⁻ˣ may become infinite; the quotient is then 0, as it should be.
            Self::Sigmoid => T::ONE / (T::ONE + (-x).exp()),
            Self::Tanh => x.tanh(),
            // What is not a number stays.
            Self::Relu => {
                if x <= T::ZERO {
                    T::ZERO
                } else {
                    x
                }
            }
        }
    }

    /// σ′ from y = σ(x).
    pub fn slope<T: Real>(self, y: T) -> T {
        match self {
            Self::Linear => T::ONE,
            Self::Sigmoid => y * (T::ONE - y),
            Self::Tanh => T::ONE - y * y,
            Self::Relu => {
                if y <= T::ZERO {
                    T::ZERO
                } else {
                    T::ONE
                }
            }
        }
    }

    /// g σ′ from y = σ(x), as the backward Hadamard product has it: ReLU lets g pass or gives
    /// 0, which no g changes, be it infinite.
    pub fn sloped<T: Real>(self, g: T, y: T) -> T {
        match self {
            Self::Relu if y <= T::ZERO => T::ZERO,
            Self::Linear | Self::Relu => g,
            Self::Sigmoid | Self::Tanh => g * self.slope(y),
        }
    }
}

/// y = σ(x): input x, output y of the same shape.
#[derive(Debug)]
pub struct Activate(pub Activation);

/// δ = g ⊙ σ′: inputs g and y = σ(x), output δ, all of one shape.
#[derive(Debug)]
pub struct ActivationSlope(pub Activation);

impl Op for Activate {
    fn name(&self) -> &'static str {
        "activation"
    }

    fn expression(&self, _: &[Type]) -> Option<Pointwise> {
        Some(Pointwise::new(&[self.0.of(&Expr::input(0))]))
    }

    fn infer(&self, inputs: &[Type]) -> Result<Vec<Type>> {
        let [x] = arity("activation", inputs, "x")?;
        floats("activation", "x", x)?;
        Ok(vec![x.clone()])
    }

    fn gradient(&self, b: &mut Backward<'_>) -> Result<Vec<Option<Value>>> {
        let slope = Arc::new(ActivationSlope(self.0));
        Ok(vec![Some(b.tape.op1(slope, &[b.upstream, b.outputs[0]])?)])
    }
}

impl Op for ActivationSlope {
    fn name(&self) -> &'static str {
        "activation"
    }

    fn expression(&self, _: &[Type]) -> Option<Pointwise> {
        let sloped = self.0.sloped_of(&Expr::input(0), &Expr::input(1));
        // A linear slope does not read y: it is g itself.
        (self.0 != Activation::Linear).then(|| Pointwise::new(&[sloped]))
    }

    fn infer(&self, inputs: &[Type]) -> Result<Vec<Type>> {
        let [g, y] = arity("activation slope", inputs, "gradient, output")?;
        floats("activation slope", "gradient", g)?;
        same("activation slope", "gradient and output", g, y)?;
        Ok(vec![g.clone()])
    }

    fn lower(&self, inputs: &[Type], outputs: &[Type]) -> Result<Lowering> {
        match self.expression(inputs) {
            Some(expression) => expression.lower(inputs, outputs),
            None => Ok(Lowering::View),
        }
    }
}

/// It is composed as an expression.
pub static KERNELS: &[&Kernel] = &[];

/// One element, a partial workgroup, several workgroups; values on the kink.
pub fn cases() -> Vec<Case> {
    use Activation::*;
    let mut cases = Vec::new();
    for kind in [Linear, Sigmoid, Tanh, Relu] {
        for shape in [&[1usize][..], &[7, 9], &[3, 5, 2, 13]] {
            cases.push(Case::new(Activate(kind), 1).float(shape, Fill::AwayFromZero));
            cases.push(
                Case::new(ActivationSlope(kind), 1)
                    .fixed(shape, Fill::Uniform(-1.0, 1.0))
                    .fixed(shape, Fill::Uniform(-1.0, 1.0)),
            );
        }
        // More workgroups than one dimension holds.
        if kind == Relu {
            let many = 65_535 * ELEMENTWISE + 7;
            cases.push(Case::new(Activate(kind), 1).fixed(&[many], Fill::Uniform(-1.0, 1.0)));
        }
        // Outputs of exactly 0, where ReLU's slope is 0.
        cases.push(
            Case::new(ActivationSlope(kind), 1)
                .fixed(&[31], Fill::Uniform(-1.0, 1.0))
                .fixed(&[31], Fill::Ties),
        );
        // Saturated far out: no overflow, no NaN.
        cases.push(
            Case::new(Activate(kind), 1)
                .float(&[65], Fill::Uniform(-200.0, 200.0))
                .forward_only(),
        );
        cases.push(
            Case::new(Activate(kind), 1)
                .float(&[5], Fill::Number(0.0))
                .forward_only(),
        );
    }
    cases
}

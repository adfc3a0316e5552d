//! The gradients of a normalization; their equations stand at the head of `norm.rs`.

use super::super::{ELEMENTWISE, Lowering, Op, grid};
use super::{NORM, Norm, named, optimized, reference};
use crate::error::Result;
use crate::kernel::{Bind, Demand, Kernel};
use crate::shape::Type;

/// ∂x: inputs g, x, γ, mean and rstd (RMS: without the mean); output of x's type.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NormGrad(pub Norm);

/// ∂γ and ∂β: inputs g, x, mean and rstd (RMS: without the mean); outputs of γ's type (RMS: ∂γ
/// alone).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NormParameters(pub Norm);

impl Op for NormGrad {
    fn name(&self) -> &'static str {
        "norm"
    }

    fn infer(&self, inputs: &[Type]) -> Result<Vec<Type>> {
        let names: &[&str] = match self.0.is_rms() {
            true => &["gradient", "x", "gamma", "rstd"],
            false => &["gradient", "x", "gamma", "mean", "rstd"],
        };
        let given = named("norm gradient", names, inputs)?;
        self.0.check("norm gradient", &given)?;
        Ok(vec![inputs[1].clone()])
    }

    fn lower(&self, inputs: &[Type], _: &[Type]) -> Result<Lowering> {
        let view = self.0.view(&inputs[1])?;
        let kernel = match self.0.is_rms() {
            true => &NORM_RMS_GRAD,
            false => &NORM_GRAD,
        };
        let grid = grid(view.rows(), 1);
        Ok(self.0.launch(kernel, &view, inputs.len(), 1, grid))
    }
}

impl Op for NormParameters {
    fn name(&self) -> &'static str {
        "norm"
    }

    fn infer(&self, inputs: &[Type]) -> Result<Vec<Type>> {
        let names: &[&str] = match self.0.is_rms() {
            true => &["gradient", "x", "rstd"],
            false => &["gradient", "x", "mean", "rstd"],
        };
        let given = named("norm gradient", names, inputs)?;
        let view = self.0.check("norm gradient", &given)?;
        let parameters = Type::f32("norm", &view.parameters)?;
        Ok(vec![parameters; names.len() - 2])
    }

    fn lower(&self, inputs: &[Type], outputs: &[Type]) -> Result<Lowering> {
        let view = self.0.view(&inputs[1])?;
        let kernel = match self.0.is_rms() {
            true => &NORM_RMS_PARAMETERS,
            false => &NORM_PARAMETERS,
        };
        let grid = grid(view.c, 1);
        Ok(self
            .0
            .launch(kernel, &view, inputs.len(), outputs.len(), grid))
    }
}

/// ∂x of [`NormGiven`](super::NormGiven), g γ / √(variance + ε): inputs g, γ and the variance;
/// output of g's type.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NormGivenGrad(pub Norm);

impl Op for NormGivenGrad {
    fn name(&self) -> &'static str {
        "norm"
    }

    fn infer(&self, inputs: &[Type]) -> Result<Vec<Type>> {
        // g is of x's type.
        let given = named("norm gradient", &["x", "gamma", "variance"], inputs)?;
        self.0.check("norm gradient", &given)?;
        Ok(vec![inputs[0].clone()])
    }

    fn lower(&self, inputs: &[Type], _: &[Type]) -> Result<Lowering> {
        let view = self.0.view(&inputs[0])?;
        let grid = grid(inputs[0].elements(), ELEMENTWISE);
        Ok(self.0.launch(&NORM_GIVEN_GRAD, &view, 3, 1, grid))
    }
}

/// ∂x with statistics that are given.
pub static NORM_GIVEN_GRAD: Kernel = Kernel {
    name: "norm_given_grad",
    turns: "0",
    bindings: &[
        Bind::read("g").of("N * C * S"),
        Bind::read("frozen_gamma").of("C"),
        Bind::read("frozen_variance").of("R"),
        Bind::write("frozen_dx").of("N * C * S"),
    ],
    reference: crate::reference!(reference::given_grad),
    optimized: Some(optimized::given_grad),
    demand: Demand {
        rounds: "1",
        issue: "50",
        words: "2 * 64",
        ..Demand::UNSTATED
    },
    ports: &[],
    finishing: None,
    ..NORM
};

/// ∂x.
pub static NORM_GRAD: Kernel = Kernel {
    name: "norm_grad",
    turns: "2 * (N * C * S / R / LANES + 1) + 64",
    bindings: &[
        Bind::read("g").of("N * C * S"),
        Bind::read("saved_x").of("N * C * S"),
        Bind::read("saved_gamma").of("C"),
        Bind::read("saved_mean").of("R"),
        Bind::read("saved_rstd").of("R"),
        Bind::write("dx").of("N * C * S"),
    ],
    reference: crate::reference!(reference::grad),
    optimized: Some(optimized::grad),
    demand: Demand {
        rounds: "2 * (N * C * S / R / LANES / 4) + 1",
        barriers: "20",
        issue: "N * C * S / R / LANES * 44 + 180",
        words: "5 * (N * C * S / R)",
        ..Demand::UNSTATED
    },
    ports: &[],
    finishing: None,
    ..NORM
};

/// ∂x of RMS.
pub static NORM_RMS_GRAD: Kernel = Kernel {
    name: "norm_rms_grad",
    bindings: &[
        Bind::read("g").of("N * C * S"),
        Bind::read("saved_x").of("N * C * S"),
        Bind::read("saved_gamma").of("C"),
        Bind::read("saved_rms").of("R"),
        Bind::write("rms_dx").of("N * C * S"),
    ],
    reference: crate::reference!(reference::rms_grad),
    optimized: Some(optimized::rms_grad),
    demand: Demand {
        barriers: "10",
        ..NORM_GRAD.demand
    },
    ..NORM_GRAD
};

/// ∂γ and ∂β.
pub static NORM_PARAMETERS: Kernel = Kernel {
    name: "norm_parameters",
    turns: "N * S / LANES + 64",
    bindings: &[
        Bind::read("g").of("N * C * S"),
        Bind::read("saved_x").of("N * C * S"),
        Bind::read("kept_mean").of("R"),
        Bind::read("kept_rstd").of("R"),
        Bind::write("dgamma").of("C"),
        Bind::write("dbeta").of("C"),
    ],
    reference: crate::reference!(reference::parameters),
    optimized: Some(optimized::parameters),
    demand: Demand {
        rounds: "N * S / LANES / 4 + 1",
        barriers: "20",
        issue: "N * S / LANES * 24 + 150",
        words: "2 * N * S",
        ..Demand::UNSTATED
    },
    ports: &[],
    finishing: None,
    ..NORM
};

/// ∂γ of RMS.
pub static NORM_RMS_PARAMETERS: Kernel = Kernel {
    name: "norm_rms_parameters",
    bindings: &[
        Bind::read("g").of("N * C * S"),
        Bind::read("saved_x").of("N * C * S"),
        Bind::read("kept_rms").of("R"),
        Bind::write("rms_dgamma").of("C"),
    ],
    reference: crate::reference!(reference::rms_parameters),
    optimized: Some(optimized::rms_parameters),
    ..NORM_PARAMETERS
};

//! Stochastic gradient descent with momentum and weight decay, in place:
//!
//! v ← μ v − η (g + λ₂ w + λ₁ sgn w),  w ← w + v,  sgn 0 = 0
//!
//! (Nielsen, equations 93, 95 and 107–108; here λ₂ = λ/n and λ₁ = λ/n are already
//! divided.) Biases are not decayed. η comes from a table on the device, one entry per
//! epoch, the last one holding on; so a schedule costs no upload.
//!
//! Inputs: gradient g, parameter w (updated), `hyper` `[4 + schedule]` of each replica
//! (μ, λ₂, λ₁, unused, η₀, η₁, …), the step counter `[2]`, and with momentum the
//! velocity v (updated). No outputs.

use serde::{Deserialize, Serialize};

use super::{
    Case, ELEMENTWISE, Epilogue, Fill, Lowered, Lowering, NOW, Op, Operand, counter, exactly,
    floats, grid, same,
};
use crate::error::{Error, Result};
use crate::kernel::{Args, Bind, Kernel};
use crate::shape::Type;
use crate::tensor::Real;

/// Entries of `hyper` before the table of learning rates.
pub const HYPER: usize = 4;

/// The update of one parameter.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sgd {
    /// Whether this parameter is decayed (weights are, biases are not).
    pub decay: bool,
    /// Whether there is a velocity.
    pub momentum: bool,
    /// Steps per epoch: `step / epoch_steps` picks the learning rate.
    pub epoch_steps: usize,
    /// Entries in the table of learning rates.
    pub schedule: usize,
}

impl Sgd {
    /// The constants of `shaders/shared/sgd.wgsl`.
    pub(crate) fn constants(&self) -> [(&'static str, f64); 3] {
        [
            ("DECAY", f64::from(u8::from(self.decay))),
            ("EPOCH_STEPS", self.epoch_steps as f64),
            ("SCHEDULE", self.schedule as f64),
        ]
    }

    /// The shape rule of the inputs after the gradient: w, hyper, step and, with
    /// momentum, v; the gradient has type `gradient`.
    pub(crate) fn check(&self, gradient: &Type, rest: &[Type]) -> Result<()> {
        let wanted = if self.momentum { 4 } else { 3 };
        if rest.len() != wanted {
            return Err(Error::shape(
                "sgd",
                format!("{} inputs after the gradient", rest.len()),
                format!("{wanted}: parameter, hyper, step and, with momentum, velocity"),
            ));
        }
        floats("sgd", "gradient", gradient)?;
        same("sgd", "gradient and parameter", gradient, &rest[0])?;
        exactly(
            "sgd",
            "hyper",
            &rest[1],
            &Type::f32("sgd", &[HYPER + self.schedule])?,
        )?;
        counter("sgd", &rest[2])?;
        if self.momentum {
            same("sgd", "parameter and velocity", &rest[0], &rest[3])?;
        }
        Ok(())
    }
}

/// What one replica's update of a step needs, read once for all its elements.
#[derive(Clone, Copy)]
pub(crate) struct Rates<T> {
    momentum: T,
    l2: T,
    l1: T,
    eta: T,
    decay: bool,
}

impl<T: Real> Rates<T> {
    /// From a launch's constants, its `hyper` and its step counter.
    pub(crate) fn of(a: &Args<'_, T>, hyper: &[T], step: &[u32]) -> Self {
        let epoch = step[NOW] as usize / a.size("EPOCH_STEPS");
        Self {
            momentum: hyper[0],
            l2: hyper[1],
            l1: hyper[2],
            eta: hyper[HYPER + epoch.min(a.size("SCHEDULE") - 1)],
            decay: a.size("DECAY") == 1,
        }
    }

    /// η, and the coefficients of L2 and L1 decay as they act on these parameters.
    pub(crate) fn coefficients(&self) -> [T; 3] {
        if self.decay {
            [self.eta, self.l2, self.l1]
        } else {
            [self.eta, T::ZERO, T::ZERO]
        }
    }

    /// Whether these parameters decay.
    pub(crate) fn decays(&self) -> bool {
        self.decay
    }

    /// The same for parameters that are not decayed.
    pub(crate) fn without_decay(self) -> Self {
        Self {
            decay: false,
            ..self
        }
    }

    /// The new velocity.
    pub(crate) fn velocity(&self, w: T, v: T, g: T) -> T {
        let mut slope = g;
        if self.decay {
            let sign = if w > T::ZERO {
                T::ONE
            } else if w < T::ZERO {
                -T::ONE
            } else {
                T::ZERO
            };
            slope += self.l2 * w + self.l1 * sign;
        }
        self.momentum * v - self.eta * slope
    }

    /// Updates parameters (and velocities, where there are some) by gradients.
    pub(crate) fn update(&self, w: &mut [T], v: Option<&mut [T]>, g: &[T]) {
        match v {
            Some(v) => {
                for ((w, v), &g) in w.iter_mut().zip(v).zip(g) {
                    *v = self.velocity(*w, *v, g);
                    *w += *v;
                }
            }
            None => {
                for (w, &g) in w.iter_mut().zip(g) {
                    *w += self.velocity(*w, T::ZERO, g);
                }
            }
        }
    }
}

impl Op for Sgd {
    fn name(&self) -> &'static str {
        "sgd"
    }

    fn infer(&self, inputs: &[Type]) -> Result<Vec<Type>> {
        let (gradient, rest) = inputs
            .split_first()
            .ok_or_else(|| Error::shape("sgd", "no inputs", "a gradient first"))?;
        self.check(gradient, rest)?;
        Ok(vec![])
    }

    fn lower(&self, inputs: &[Type], _: &[Type]) -> Result<Lowering> {
        let n = inputs[0].elements();
        let mut constants = vec![("N", n as f64)];
        constants.extend(self.constants());
        Ok(Lowering::Launch(Lowered {
            kernel: if self.momentum { &SGD_MOMENTUM } else { &SGD },
            constants,
            operands: (0..inputs.len()).map(Operand::In).collect(),
            grid: grid(n, ELEMENTWISE),
            flops: 4 * n as u64,
            alternatives: vec![],
        }))
    }

    fn epilogue(&self) -> Option<Epilogue> {
        Some(Epilogue::Sgd(*self))
    }
}

const SOURCE: &str = concat!(
    include_str!("../../shaders/shared/grid.wgsl"),
    include_str!("../../shaders/shared/sgd.wgsl"),
    include_str!("../../shaders/sgd.wgsl"),
);

/// Without momentum.
pub static SGD: Kernel = Kernel {
    name: "sgd",
    turns: "0",
    stem: "sgd",
    source: SOURCE,
    bindings: &[
        Bind::read("g").of("N"),
        Bind::update("w").of("N"),
        Bind::read("hyper").of("4 + SCHEDULE"),
        Bind::read("step").u32().of("2"),
    ],
    constants: &["N", "DECAY", "EPOCH_STEPS", "SCHEDULE"],
    reference: crate::reference!(sgd),
    fast: None,
    trusted: true,
};

/// With momentum.
pub static SGD_MOMENTUM: Kernel = Kernel {
    name: "sgd_momentum",
    turns: "0",
    bindings: &[
        Bind::read("g").of("N"),
        Bind::update("w").of("N"),
        Bind::read("hyper").of("4 + SCHEDULE"),
        Bind::read("step").u32().of("2"),
        Bind::update("v").of("N"),
    ],
    reference: crate::reference!(sgd_momentum),
    ..SGD
};

/// The kernels of this file.
pub static KERNELS: &[&Kernel] = &[&SGD, &SGD_MOMENTUM];

fn sgd<T: Real>(a: &mut Args<'_, T>) {
    let rates = Rates::of(a, a.f(2), a.u(3));
    rates.update(a.f_mut(1), None, a.f(0));
}

fn sgd_momentum<T: Real>(a: &mut Args<'_, T>) {
    let rates = Rates::of(a, a.f(2), a.u(3));
    rates.update(a.f_mut(1), Some(a.f_mut(4)), a.f(0));
}

/// Appends the inputs of an update to a case whose op ends in one.
pub(crate) fn case_inputs(case: Case, sgd: Sgd, parameter: &[usize]) -> Case {
    let uniform = Fill::Uniform(-1.0, 1.0);
    let case = case
        .fixed(parameter, uniform)
        .fixed(&[HYPER + sgd.schedule], Fill::Uniform(0.0, 1.0))
        // Past the end of the table, so that the last rate must hold on.
        .u32(&[2], Fill::Pair(1, 7));
    if sgd.momentum {
        case.fixed(parameter, uniform)
    } else {
        case
    }
}

/// Decay on and off, momentum on and off, schedule shorter and longer than the run.
pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (decay, momentum, schedule) in [
        (false, false, 1),
        (true, false, 2),
        (true, true, 9),
        (false, true, 3),
    ] {
        let sgd = Sgd {
            decay,
            momentum,
            epoch_steps: 2,
            schedule,
        };
        for n in [1, 63, 130] {
            let case = Case::new(sgd, 4).fixed(&[n], Fill::Uniform(-1.0, 1.0));
            cases.push(case_inputs(case, sgd, &[n]));
        }
        // sgn 0 = 0.
        cases.push(
            Case::new(sgd, 4)
                .fixed(&[3], Fill::Number(0.0))
                .fixed(&[3], Fill::Number(0.0))
                .fixed(&[HYPER + schedule], Fill::Uniform(0.0, 1.0))
                .u32(&[2], Fill::Pair(1, 0)),
        );
        if momentum && let Some(case) = cases.last_mut() {
            *case = case.clone().fixed(&[3], Fill::Number(0.0));
        }
    }
    cases
}

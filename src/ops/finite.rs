//! Whether a buffer holds finite numbers alone.
//!
//! A loss that is not finite stops a run, but a parameter can be lost without the loss: a unit
//! whose weights are infinite may be switched off, and the last update of an epoch is followed
//! by no loss at all. So what is kept of a run is looked at itself, on the device, a launch for
//! each buffer: one word comes back, not the buffers. No gradient.
//!
//! A number is not finite if all bits of its exponent are set; a shader may not compare NaN.

use super::{Case, Fill, Lowered, Lowering, Op, Operand, arity, exactly, floats};
use crate::error::Result;
use crate::kernel::{Args, Bind, Demand, Kernel};
use crate::shape::Type;
use crate::tensor::Real;

/// Where a guard says which buffer it was: 1 + its number, or 0.
pub const KEPT: usize = 2;

/// Inputs: values x, guard `[4]` (updated: word [`KEPT`]). No outputs. Of buffers looked at in
/// turn, from number 0 on, the first that is not finite is noted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Finite {
    /// The buffer's number; number 0 forgets what was noted before.
    pub number: u32,
}

/// Threads of the workgroup; `LANES` in the shader.
const LANES: usize = 256;

impl Op for Finite {
    fn name(&self) -> &'static str {
        "finite"
    }

    fn infer(&self, inputs: &[Type]) -> Result<Vec<Type>> {
        let [x, guard] = arity("finite", inputs, "values, guard")?;
        floats("finite", "values", x)?;
        exactly("finite", "guard", guard, &Type::u32("finite", &[4])?)?;
        Ok(vec![])
    }

    fn lower(&self, inputs: &[Type], _: &[Type]) -> Result<Lowering> {
        Ok(Lowering::Launch(Lowered {
            kernel: &FINITE,
            constants: vec![
                ("N", inputs[0].elements() as f64),
                ("NUMBER", f64::from(self.number)),
            ],
            operands: vec![Operand::In(0), Operand::In(1)],
            grid: [1, 1],
            flops: 0,
            alternatives: vec![],
        }))
    }
}

/// The first buffer that is not finite.
pub static FINITE: Kernel = Kernel {
    name: "finite",
    turns: "N / 256 + 272",
    stem: "finite",
    source: include_str!("../../shaders/finite.wgsl"),
    bindings: &[Bind::read("x").of("N"), Bind::update("guard").u32().of("4")],
    constants: &["N", "NUMBER"],
    reference: crate::reference!(finite),
    optimized: None,
    demand: Demand {
        rounds: "N / 1024 + 1",
        barriers: "1",
        issue: "N / 256 * 10 + 800",
        words: "N + 2",
        ..Demand::UNSTATED
    },
    trusted: true,
    ports: &[],
    finishing: None,
};

/// The kernels of this file.
pub static KERNELS: &[&Kernel] = &[&FINITE];

fn finite<T: Real>(a: &mut Args<'_, T>) {
    let number = a.size("NUMBER") as u32;
    let (x, guard) = (a.f(0), a.u_mut(1)); // [N], [4]
    if number == 0 {
        guard[KEPT] = 0;
    }
    if guard[KEPT] == 0 && x.iter().any(|x| !x.wide().is_finite()) {
        guard[KEPT] = number + 1;
    }
}

/// All finite, all not, one that is not at either end and in a later round of the threads;
/// first in turn or later, with something noted before or nothing.
pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    let largest = f64::from(f32::MAX);
    for (n, spoiled) in [
        (1, Fill::Number(largest)),
        (1, Fill::Number(f64::NAN)),
        (130, Fill::Uniform(-1.0, 1.0)),
        (130, Fill::Spoiled(0, f64::INFINITY)),
        (130, Fill::Spoiled(129, f64::NAN)),
        (LANES + 1, Fill::Spoiled(LANES, f64::NEG_INFINITY)),
        (3 * LANES, Fill::Spoiled(2 * LANES - 1, f64::NAN)),
    ] {
        for (number, noted) in [(0, 0.0), (0, 9.0), (3, 0.0), (3, 2.0)] {
            cases.push(
                Case::new(Finite { number }, 1)
                    .fixed(&[n], spoiled)
                    .u32(&[4], Fill::Number(noted)),
            );
        }
    }
    cases
}

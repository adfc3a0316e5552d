//! step ← step + 1, on the device: a training step needs nothing from the host, not even
//! its own number.

use super::{Case, Fill, Lowered, Op, Operand, arity, counter};
use crate::error::Result;
use crate::kernel::{Args, Bind, Kernel};
use crate::shape::Type;
use crate::tensor::Real;

/// Input: the step counter `[1]`, shared by all replicas, updated. No outputs.
#[derive(Debug)]
pub struct Advance;

impl Op for Advance {
    fn name(&self) -> &'static str {
        "advance"
    }

    fn infer(&self, inputs: &[Type]) -> Result<Vec<Type>> {
        let [step] = arity("advance", inputs, "step")?;
        counter("advance", step)?;
        Ok(vec![])
    }

    fn lower(&self, _: &[Type], _: &[Type]) -> Option<Lowered> {
        Some(Lowered {
            kernel: &ADVANCE,
            constants: vec![],
            operands: vec![Operand::In(0)],
            grid: [1, 1],
            flops: 0,
        })
    }
}

/// step ← step + 1.
pub static ADVANCE: Kernel = Kernel {
    name: "advance",
    stem: "advance",
    source: include_str!("../../shaders/advance.wgsl"),
    bindings: &[Bind::update("step").u32().shared()],
    constants: &[],
    reference: crate::reference!(advance),
    fast: None,
};

/// The kernels of this file.
pub static KERNELS: &[&Kernel] = &[&ADVANCE];

fn advance<T: Real>(a: &mut Args<'_, T>) {
    let step = a.u_mut(0); // [1]
    step[0] = step[0].wrapping_add(1);
}

/// Zero, and a count far along.
pub fn cases() -> Vec<Case> {
    let from = |n| Case::new(Advance, 1).shared_u32(&[1], Fill::Number(n));
    vec![from(0.0), from(4_000_000_000.0)]
}

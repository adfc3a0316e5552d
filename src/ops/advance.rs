//! now, next ← now + 1, on the device: a training step needs nothing from the host, not even
//! its own number.
//!
//! A replica's counter holds two words, [`NEXT`](super::NEXT) and [`NOW`](super::NOW), and
//! whoever asks for the number of the step under way reads the second. This op ends a step:
//! afterwards both words hold the number of the step to come. Where a step begins with
//! [`gather`](super::gather), which copies the first word into the second, a fused kernel may
//! count `next` up in the middle of the step and leave `now` alone.

use super::{Case, Fill, Lowered, Lowering, Op, Operand, arity, counter};
use crate::error::Result;
use crate::kernel::{Args, Bind, Demand, Kernel};
use crate::shape::Type;
use crate::tensor::Real;

/// Input: the replica's step counter `[2]`, updated. No outputs. Stands after every op that
/// asks for the number of the step.
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

    fn lower(&self, _: &[Type], _: &[Type]) -> Result<Lowering> {
        Ok(Lowering::Launch(Lowered {
            kernel: &ADVANCE,
            constants: vec![],
            operands: vec![Operand::In(0)],
            grid: [1, 1],
            flops: 0,
            alternatives: vec![],
        }))
    }
}

/// now, next ← now + 1.
pub static ADVANCE: Kernel = Kernel {
    name: "advance",
    turns: "0",
    stem: "advance",
    source: include_str!("../../shaders/advance.wgsl"),
    bindings: &[Bind::update("step").u32().of("2")],
    constants: &[],
    reference: crate::reference!(advance),
    optimized: None,
    demand: Demand {
        rounds: "1",
        issue: "15",
        words: "3",
        ..Demand::UNSTATED
    },
    trusted: true,
    ports: &[],
    finishing: None,
};

/// The kernels of this file.
pub static KERNELS: &[&Kernel] = &[&ADVANCE];

fn advance<T: Real>(a: &mut Args<'_, T>) {
    let step = a.u_mut(0); // [2]
    step[super::NEXT] = step[super::NOW].wrapping_add(1);
    step[super::NOW] = step[super::NEXT];
}

/// Zero, and a count far along.
pub fn cases() -> Vec<Case> {
    let from = |n| Case::new(Advance, 1).u32(&[2], Fill::Pair(7, n));
    vec![from(0), from(4_000_000_000)]
}

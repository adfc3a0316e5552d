//! The same number everywhere: y = c. What a mean over the mini-batch hands to the
//! gradients of its examples is such a value, 1/batch.

use std::sync::Arc;

use super::checks::finite;
use super::launch::per_element;
use super::{Case, Lowered, Lowering, Op, Tape, Value, arity};
use crate::error::Result;
use crate::interchange::{Extent, Site, Tensor};
use crate::kernel::{Args, Bind, Demand, Kernel};
use crate::shape::Type;
use crate::tensor::Real;

/// No inputs; output y of shape `extents`.
#[derive(Clone, Debug, PartialEq)]
pub struct Constant {
    /// The shape of y.
    pub extents: Vec<usize>,
    /// The number c.
    pub value: f64,
}

/// Zeros of the extents of `value`: the gradient of what no gradient comes back through, where a rule must name one.
///
/// # Errors
/// What the tape says of `value`.
pub fn zeros_like(tape: &mut dyn Tape, value: Value) -> Result<Value> {
    let extents = tape.ty(value)?.shape.extents().to_vec();
    let value = 0.0;
    tape.op1(Arc::new(Constant { extents, value }), &[])
}

impl Op for Constant {
    fn name(&self) -> &'static str {
        "constant"
    }

    fn onnx(&self, site: &mut Site<'_>) -> Result<Vec<String>> {
        let mut extents = Vec::new();
        for extent in site.made(0) {
            match extent {
                Extent::Fixed(extent) => extents.push(extent as i64),
                Extent::Batch(_) => return Err(site.refused("of the mini-batch's extent")),
            }
        }
        let extents = site.ints(&extents);
        let value = (
            "value",
            Tensor::floats(&[1], vec![self.value as f32]).into(),
        );
        Ok(vec![site.op("ConstantOfShape", &[&extents], &[value])])
    }

    fn infer(&self, inputs: &[Type]) -> Result<Vec<Type>> {
        arity::<0>("constant", inputs, "none")?;
        finite("constant", self.value)?;
        Ok(vec![Type::f32("constant", &self.extents)?])
    }

    fn lower(&self, _: &[Type], outputs: &[Type]) -> Result<Lowering> {
        let value = [("VALUE", self.value)];
        let lowered = per_element(&CONSTANT, 0, &outputs[0], &value);
        Ok(Lowering::Launch(Lowered {
            flops: 0,
            ..lowered
        }))
    }
}

/// y = c.
pub static CONSTANT: Kernel = Kernel {
    name: "constant",
    turns: "0",
    stem: "constant",
    source: concat!(
        include_str!("../../shaders/shared/grid.wgsl"),
        include_str!("../../shaders/constant.wgsl"),
    ),
    bindings: &[Bind::write("y").of("N")],
    constants: &["N", "VALUE"],
    reference: crate::reference!(constant),
    optimized: None,
    demand: Demand {
        rounds: "0",
        issue: "15",
        words: "64",
        ..Demand::UNSTATED
    },
    trusted: true,
    ports: &[],
    finishing: None,
};

/// The kernels of this file.
pub static KERNELS: &[&Kernel] = &[&CONSTANT];

fn constant<T: Real>(a: &mut Args<'_, T>) {
    let value = T::of(a.number("VALUE"));
    a.f_mut(0).fill(value); // [N]
}

/// One element, several workgroups.
pub fn cases() -> Vec<Case> {
    let case = |extents: &[usize], value| {
        let extents = extents.to_vec();
        Case::new(Constant { extents, value }, 1)
    };
    vec![case(&[1], 0.1), case(&[7, 11], -2.0), case(&[130], 0.0)]
}

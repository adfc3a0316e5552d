//! Multiplication by a constant, y = c x; its gradient is c g.

use std::sync::Arc;

use super::launch::{finite, per_element};
use super::{Backward, Case, Fill, Lowering, Op, Value, arity, floats};
use crate::error::Result;
use crate::kernel::{Args, Bind, Kernel};
use crate::shape::Type;
use crate::tensor::Real;

/// y = c x: input x of any shape, output y of the same.
#[derive(Debug)]
pub struct Scale(pub f64);

impl Op for Scale {
    fn name(&self) -> &'static str {
        "scale"
    }

    fn infer(&self, inputs: &[Type]) -> Result<Vec<Type>> {
        let [x] = arity("scale", inputs, "x")?;
        floats("scale", "x", x)?;
        finite("scale", self.0)?;
        Ok(vec![x.clone()])
    }

    fn lower(&self, _: &[Type], outputs: &[Type]) -> Result<Lowering> {
        Ok(Lowering::Launch(per_element(
            &SCALE,
            1,
            &outputs[0],
            &[("FACTOR", self.0)],
        )))
    }

    fn gradient(&self, b: &mut Backward<'_>) -> Result<Vec<Option<Value>>> {
        Ok(vec![Some(
            b.tape.op1(Arc::new(Scale(self.0)), &[b.upstream])?,
        )])
    }
}

/// y = c x.
pub static SCALE: Kernel = Kernel {
    name: "scale",
    turns: "0",
    stem: "scale",
    source: concat!(
        include_str!("../../shaders/shared/grid.wgsl"),
        include_str!("../../shaders/shared/nan.wgsl"),
        include_str!("../../shaders/scale.wgsl"),
    ),
    bindings: &[Bind::read("x").of("N"), Bind::write("y").of("N")],
    constants: &["N", "FACTOR"],
    reference: crate::reference!(scale),
    fast: None,
    trusted: true,
    ports: &[],
    finishing: None,
};

/// The kernels of this file.
pub static KERNELS: &[&Kernel] = &[&SCALE];

fn scale<T: Real>(a: &mut Args<'_, T>) {
    let factor = T::of(a.number("FACTOR"));
    let (x, y) = (a.f(0), a.f_mut(1)); // [N], [N]
    for (y, &x) in y.iter_mut().zip(x) {
        *y = factor * x;
    }
}

/// One element, a partial workgroup, several workgroups; zero and negative factors.
pub fn cases() -> Vec<Case> {
    let case = |factor, extents: &[usize]| {
        Case::new(Scale(factor), 1).float(extents, Fill::Uniform(-1.0, 1.0))
    };
    vec![
        case(0.5, &[1]),
        case(-1.0 / 3.0, &[7, 9]),
        case(0.1, &[3, 5, 2, 13]),
        case(0.0, &[2]),
    ]
}

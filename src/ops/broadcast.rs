//! Repetition along all axes but one: `y[…, c, …] = f x[c]`, the transpose of
//! [`Reduce`], and therefore its gradient, as that one is this one's.

use std::sync::Arc;

use super::checks::{around, finite};
use super::launch::per_element;
use super::reduce::Reduce;
use super::{Backward, Case, Fill, Lowering, Op, Value, arity, exactly, floats};
use crate::error::Result;
use crate::interchange::{Extent, Site, Tensor};
use crate::kernel::{Args, Bind, Demand, Kernel};
use crate::shape::Type;
use crate::tensor::Real;

/// y = f x, repeated: input x `[C]`, or `[1]` where no axis is named; output y of the
/// given extents.
#[derive(Debug)]
pub struct Broadcast {
    /// The extents of y.
    pub extents: Vec<usize>,
    /// The axis of y that x runs along; `None` repeats a single number everywhere.
    pub axis: Option<usize>,
    /// The factor f.
    pub factor: f64,
}

impl Op for Broadcast {
    fn name(&self) -> &'static str {
        "broadcast"
    }

    fn onnx(&self, site: &mut Site<'_>) -> Result<Vec<String>> {
        let mut extents = Vec::new();
        for extent in site.made(0) {
            match extent {
                Extent::Fixed(extent) => extents.push(extent as i64),
                Extent::Batch(_) => return Err(site.refused("to extents of the mini-batch")),
            }
        }
        let mut x = site.input(0);
        if let Some(axis) = self.axis {
            let behind: Vec<i64> = (1..(extents.len() - axis) as i64).collect();
            let behind = site.ints(&behind);
            x = site.op("Unsqueeze", &[&x, &behind], &[]);
        }
        let extents = site.ints(&extents);
        x = site.op("Expand", &[&x, &extents], &[]);
        if self.factor != 1.0 {
            let factor = site.constant(Tensor::float(self.factor));
            x = site.op("Mul", &[&x, &factor], &[]);
        }
        Ok(vec![x])
    }

    fn of_constant(&self, value: f64) -> Option<f64> {
        Some(self.factor * value)
    }

    fn infer(&self, inputs: &[Type]) -> Result<Vec<Type>> {
        let [x] = arity("broadcast", inputs, "x")?;
        floats("broadcast", "x", x)?;
        finite("broadcast", self.factor)?;
        let y = Type::f32("broadcast", &self.extents)?;
        let [_, c, _] = around("broadcast", &y, self.axis)?;
        exactly("broadcast", "x", x, &Type::f32("broadcast", &[c])?)?;
        Ok(vec![y])
    }

    fn lower(&self, _: &[Type], outputs: &[Type]) -> Result<Lowering> {
        let [_, c, inner] = around("broadcast", &outputs[0], self.axis)?;
        let constants = [
            ("C", c as f64),
            ("INNER", inner as f64),
            ("FACTOR", self.factor),
        ];
        Ok(Lowering::Launch(per_element(
            &BROADCAST,
            1,
            &outputs[0],
            &constants,
        )))
    }

    fn gradient(&self, b: &mut Backward<'_>) -> Result<Vec<Option<Value>>> {
        let reduce = Arc::new(Reduce::new(self.axis, self.factor));
        Ok(vec![Some(b.tape.op1(reduce, &[b.upstream])?)])
    }
}

/// y = f x, repeated.
pub static BROADCAST: Kernel = Kernel {
    name: "broadcast",
    turns: "0",
    stem: "broadcast",
    source: concat!(
        include_str!("../../shaders/shared/grid.wgsl"),
        include_str!("../../shaders/shared/nan.wgsl"),
        include_str!("../../shaders/broadcast.wgsl"),
    ),
    bindings: &[Bind::read("x").of("C"), Bind::write("y").of("N")],
    constants: &["N", "C", "INNER", "FACTOR"],
    reference: crate::reference!(broadcast),
    optimized: None,
    demand: Demand {
        rounds: "1",
        issue: "35",
        words: "65 + 64 / INNER",
        ..Demand::UNSTATED
    },
    trusted: true,
    ports: &[],
    finishing: None,
};

/// The kernels of this file.
pub static KERNELS: &[&Kernel] = &[&BROADCAST];

fn broadcast<T: Real>(a: &mut Args<'_, T>) {
    let (c, inner, factor) = (a.size("C"), a.size("INNER"), T::of(a.number("FACTOR")));
    let (x, y) = (a.f(0), a.f_mut(1)); // [C], [outer, C, INNER]
    for (row, y) in y.chunks_mut(inner).enumerate() {
        y.fill(factor * x[row % c]);
    }
}

/// First, middle, last and no axis; one element; several workgroups.
pub fn cases() -> Vec<Case> {
    let case = |extents: &[usize], axis: Option<usize>, factor| {
        let c = axis.map_or(1, |axis| extents[axis]);
        let op = Broadcast {
            extents: extents.to_vec(),
            axis,
            factor,
        };
        Case::new(op, 1).float(&[c], Fill::Uniform(-1.0, 1.0))
    };
    vec![
        case(&[1], None, 2.0),
        case(&[1], Some(0), 1.0),
        case(&[5, 7], Some(0), 0.2),
        case(&[5, 7], Some(1), -1.0),
        case(&[5, 7], None, 1.0 / 35.0),
        case(&[3, 5, 7, 2], Some(1), 1.0),
        case(&[3, 5, 7, 2], Some(2), 0.5),
        case(&[5, 7], Some(1), 0.0),
    ]
}

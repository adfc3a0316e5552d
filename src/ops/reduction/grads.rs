//! The gradients of reductions; their equations stand at the head of `reduction.rs`.

use std::sync::Arc;

use super::super::{
    Backward, Case, ELEMENTWISE, Fill, Lowered, Lowering, Op, Operand, Value, arity, exactly, grid,
};
use super::{Kind, REDUCTION, Reduction, reference};
use crate::error::{Error, Result};
use crate::kernel::{Bind, Demand, Kernel};
use crate::shape::Type;

/// Repetition along axes, the transpose of a sum or mean: y = x at every place along the reduced
/// axes, over K for a mean. Input x of the type that the reduction makes of `extents`; output y
/// of these.
#[derive(Clone, Debug, PartialEq)]
pub struct Spread {
    /// The sum or mean; as a broadcast, the sum along the new axes.
    pub reduction: Reduction,
    /// The extents of y.
    pub extents: Vec<usize>,
}

/// ∂x of another reduction: input g of y's type, then x and y (of the variance: x and the mean),
/// or the places of the extremes; output of the given extents.
#[derive(Clone, Debug, PartialEq)]
pub struct ReductionGrad {
    /// The reduction, of x.
    pub reduction: Reduction,
    /// The extents of x.
    pub extents: Vec<usize>,
}

fn lowered(
    kernel: &'static Kernel,
    reduction: &Reduction,
    inputs: &[Type],
    dx: &Type,
) -> Result<Lowering> {
    let mut operands: Vec<_> = (0..inputs.len()).map(Operand::In).collect();
    operands.push(Operand::Out(0));
    Ok(Lowering::Launch(Lowered {
        kernel,
        constants: reduction.constants(&reduction.places(dx)?),
        operands,
        grid: grid(dx.elements(), ELEMENTWISE),
        flops: dx.elements() as u64,
        alternatives: vec![],
    }))
}

impl Op for Spread {
    fn name(&self) -> &'static str {
        "reduction"
    }

    fn infer(&self, inputs: &[Type]) -> Result<Vec<Type>> {
        let [x] = arity("spread", inputs, "x")?;
        if !matches!(self.reduction.kind, Kind::Sum | Kind::Mean) {
            let wanted = "a sum or a mean; others have a ReductionGrad";
            return Err(Error::setting(
                "reduction of spread",
                format!("{:?}", self.reduction.kind),
                wanted,
            ));
        }
        let y = Type::f32("spread", &self.extents)?;
        let reduced = self.reduction.infer(std::slice::from_ref(&y))?;
        exactly("spread", "x", x, &reduced[0])?;
        Ok(vec![y])
    }

    fn lower(&self, inputs: &[Type], outputs: &[Type]) -> Result<Lowering> {
        lowered(&REDUCTION_SPREAD, &self.reduction, inputs, &outputs[0])
    }

    fn of_constant(&self, value: f64) -> Option<f64> {
        let axes = self.reduction.axes.iter();
        let places = axes.filter_map(|&axis| self.extents.get(axis));
        match self.reduction.kind {
            Kind::Mean => Some(value / places.product::<usize>() as f64),
            _ => Some(value),
        }
    }

    fn gradient(&self, b: &mut Backward<'_>) -> Result<Vec<Option<Value>>> {
        let reduction = Arc::new(self.reduction.clone());
        Ok(vec![Some(b.tape.op1(reduction, &[b.upstream])?)])
    }
}

impl Op for ReductionGrad {
    fn name(&self) -> &'static str {
        "reduction"
    }

    fn infer(&self, inputs: &[Type]) -> Result<Vec<Type>> {
        let op = "reduction gradient";
        let dx = Type::f32(op, &self.extents)?;
        let made = self.reduction.infer(std::slice::from_ref(&dx))?;
        match self.reduction.kind {
            Kind::Sum | Kind::Mean => {
                let wanted = "another kind; a sum's or mean's gradient is a Spread";
                return Err(Error::setting(op, "a sum or a mean", wanted));
            }
            Kind::Max | Kind::Min => {
                let [g, index] = arity(op, inputs, "gradient, places")?;
                exactly(op, "gradient", g, &made[0])?;
                exactly(op, "places", index, &made[1])?;
            }
            Kind::Variance | Kind::LogSumExp | Kind::Norm => {
                let [g, x, y] = arity(op, inputs, "gradient, x, y (of the variance: the mean)")?;
                exactly(op, "gradient", g, &made[0])?;
                exactly(op, "x", x, &dx)?;
                exactly(op, "y", y, &made[0])?;
            }
        }
        Ok(vec![dx])
    }

    fn lower(&self, inputs: &[Type], outputs: &[Type]) -> Result<Lowering> {
        let kernel = match self.reduction.kind.is_extreme() {
            true => &REDUCTION_EXTREME_GRAD,
            false => &REDUCTION_GRAD,
        };
        lowered(kernel, &self.reduction, inputs, &outputs[0])
    }
}

/// ∂x of a sum or mean.
pub static REDUCTION_SPREAD: Kernel = Kernel {
    name: "reduction_spread",
    turns: "0",
    demand: Demand {
        rounds: "1",
        issue: "70",
        words: "128",
        ..Demand::UNSTATED
    },
    bindings: &[Bind::read("g").of("N"), Bind::write("spread").of("N * K")],
    reference: crate::reference!(reference::spread),
    optimized: None,
    ..REDUCTION
};

/// ∂x of variance, log-sum-exp or norm.
pub static REDUCTION_GRAD: Kernel = Kernel {
    name: "reduction_grad",
    turns: "0",
    demand: Demand {
        rounds: "1",
        issue: "95",
        words: "256",
        ..Demand::UNSTATED
    },
    bindings: &[
        Bind::read("g").of("N"),
        Bind::read("saved_x").of("N * K"),
        Bind::read("saved_y").of("N"),
        Bind::write("dx").of("N * K"),
    ],
    reference: crate::reference!(reference::grad),
    optimized: None,
    ..REDUCTION
};

/// ∂x of a maximum or minimum.
pub static REDUCTION_EXTREME_GRAD: Kernel = Kernel {
    name: "reduction_extreme_grad",
    turns: "0",
    demand: Demand {
        rounds: "1",
        issue: "75",
        words: "192",
        ..Demand::UNSTATED
    },
    bindings: &[
        Bind::read("g").of("N"),
        Bind::read("saved_index").u32().of("N"),
        Bind::write("returned").of("N * K"),
    ],
    reference: crate::reference!(reference::extreme_grad),
    optimized: None,
    ..REDUCTION
};

/// A case of a reduction's gradient alone.
pub(super) fn case(reduction: Reduction, extents: &[usize]) -> Option<Case> {
    let x = Type::f32("case", extents).ok()?;
    let y = reduction.extents(&x).ok()?;
    let k = reduction.places(&x).ok()?.k() as u32;
    let uniform = Fill::Uniform(-1.0, 1.0);
    let kind = reduction.kind;
    let extents = x.shape.extents().to_vec();
    if matches!(kind, Kind::Sum | Kind::Mean) {
        return Some(Case::new(Spread { reduction, extents }, 1).float(&y, uniform));
    }
    let grad = ReductionGrad { reduction, extents };
    let case = Case::new(grad, 1).fixed(&y, uniform);
    let x = x.shape.extents();
    Some(match kind.is_extreme() {
        true => case.u32(&y, Fill::Below(k)),
        // Far enough from 0 to be divided by.
        false => case.fixed(x, uniform).fixed(&y, Fill::AwayFromZero),
    })
}

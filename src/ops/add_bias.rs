//! Bias along axis 1: `y[n, c, …] = x[n, c, …] + b[c]`.
//!
//! Gradients: ∂x = g, and `∂b[c] = Σ g[n, c, …]` over all axes but 1 (Nielsen, BP3, summed
//! over the mini-batch), by [`Reduce`]. Nothing is saved. Behind a product or a
//! convolution the bias is added at the end of that kernel instead.

use std::sync::Arc;

use super::checks::around;
use super::pointwise::Pointwise;
use super::reduce::Reduce;
use super::{Backward, Case, Fill, Op, Value, arity, exactly, floats};
use crate::error::Result;
use crate::expr::Expr;
use crate::interchange::Site;
use crate::kernel::Kernel;
use crate::shape::Type;

/// x + b as an expression, x of so many axes.
pub(crate) fn expression(rank: usize) -> Pointwise {
    let sum = Pointwise::new(&[Expr::input(0) + Expr::input(1)]);
    sum.with_axes_behind(1, rank.saturating_sub(2))
}

/// y = x + b: inputs x `[N, C, …]` of two axes or more and b `[C]`, output y like x.
#[derive(Debug)]
pub struct AddBias;

impl Op for AddBias {
    fn name(&self) -> &'static str {
        "add_bias"
    }

    fn onnx(&self, site: &mut Site<'_>) -> Result<Vec<String>> {
        let (x, bias) = (site.input(0), site.input(1));
        // Products and convolutions take a bias themselves.
        if let Some(core) = site.maker(&x).cloned()
            && core.inputs.len() == 2
            && matches!(core.kind.as_str(), "Gemm" | "Conv" | "ConvTranspose")
        {
            let attributes: Vec<_> = core
                .attributes
                .iter()
                .map(|(n, a)| (n.as_str(), a.clone()))
                .collect();
            let inputs = [&core.inputs[0], &core.inputs[1], &bias].map(String::as_str);
            return Ok(vec![site.op(&core.kind, &inputs, &attributes)]);
        }
        expression(site.extents(0).len()).operators(site)
    }

    fn expression(&self, inputs: &[Type]) -> Option<Pointwise> {
        Some(expression(inputs.first()?.shape.rank()))
    }

    fn infer(&self, inputs: &[Type]) -> Result<Vec<Type>> {
        let [x, b] = arity("add_bias", inputs, "x, bias")?;
        floats("add_bias", "x", x)?;
        let [_, c, _] = around("add_bias", x, Some(1))?;
        exactly("add_bias", "bias [C]", b, &Type::f32("add_bias", &[c])?)?;
        Ok(vec![x.clone()])
    }

    fn gradient(&self, b: &mut Backward<'_>) -> Result<Vec<Option<Value>>> {
        let bias = match b.wanted[1] {
            true => Some(
                b.tape
                    .op1(Arc::new(Reduce::new(Some(1), 1.0)), &[b.upstream])?,
            ),
            false => None,
        };
        Ok(vec![Some(b.upstream), bias])
    }
}

/// It is composed as an expression.
pub static KERNELS: &[&Kernel] = &[];

/// Dense rows and images, one channel, one pixel, several workgroups.
pub fn cases() -> Vec<Case> {
    let case = |extents: &[usize]| {
        Case::new(AddBias, 1)
            .float(extents, Fill::Uniform(-1.0, 1.0))
            .float(&extents[1..2], Fill::Uniform(-1.0, 1.0))
    };
    vec![
        case(&[1, 1]),
        case(&[5, 7]),
        case(&[11, 30]),
        case(&[3, 5, 2, 7]),
        case(&[2, 3, 1, 1]),
        case(&[4, 1, 3]),
    ]
}

//! Where a row is largest; of equal largest elements the first. Not differentiable, so
//! without a gradient.

use super::launch::per_element;
use super::{Case, Fill, Lowered, Lowering, Op, arity, floats};
use crate::error::Result;
use crate::interchange::Site;
use crate::kernel::{Args, Bind, Demand, Kernel};
use crate::shape::Type;
use crate::tensor::Real;

/// `index[n] = argmaxₖ x[n, k]`: input x `[N, K]`, output integers `[N]`.
#[derive(Debug)]
pub struct Argmax;

impl Op for Argmax {
    fn name(&self) -> &'static str {
        "argmax"
    }

    fn onnx(&self, site: &mut Site<'_>) -> Result<Vec<String>> {
        let x = site.input(0);
        let attributes = [("axis", 1.into()), ("keepdims", 0.into())];
        Ok(vec![site.op("ArgMax", &[&x], &attributes)])
    }

    fn infer(&self, inputs: &[Type]) -> Result<Vec<Type>> {
        let [x] = arity("argmax", inputs, "x")?;
        floats("argmax", "x", x)?;
        let [n, _] = x.shape.axes("argmax", "x as [N, K]")?;
        Ok(vec![Type::u32("argmax", &[n])?])
    }

    fn lower(&self, inputs: &[Type], outputs: &[Type]) -> Result<Lowering> {
        let k = inputs[0].elements() / outputs[0].elements();
        Ok(Lowering::Launch(Lowered {
            flops: inputs[0].elements() as u64,
            ..per_element(&ARGMAX, 1, &outputs[0], &[("K", k as f64)])
        }))
    }
}

/// index = argmax x, row by row.
pub static ARGMAX: Kernel = Kernel {
    name: "argmax",
    turns: "K + 8",
    stem: "argmax",
    source: concat!(
        include_str!("../../shaders/shared/grid.wgsl"),
        include_str!("../../shaders/shared/nan.wgsl"),
        include_str!("../../shaders/argmax.wgsl"),
    ),
    bindings: &[
        Bind::read("x").of("N * K"),
        Bind::write("index").u32().of("N"),
    ],
    constants: &["N", "K"],
    reference: crate::reference!(argmax),
    optimized: None,
    demand: Demand {
        rounds: "K / 4",
        issue: "K * 16 + 20",
        words: "64 * K + 64",
        ..Demand::UNSTATED
    },
    trusted: true,
    ports: &[],
    finishing: None,
};

/// The kernels of this file.
pub static KERNELS: &[&Kernel] = &[&ARGMAX];

fn argmax<T: Real>(a: &mut Args<'_, T>) {
    let k = a.size("K");
    let (x, index) = (a.f(0), a.u_mut(1)); // [N, K], [N]
    for (index, row) in index.iter_mut().zip(x.chunks(k)) {
        let mut best = 0;
        for (k, &x) in row.iter().enumerate() {
            if x.outdoes(row[best]) {
                best = k;
            }
        }
        *index = best as u32;
    }
}

/// One column, ties, all equal, many columns, several workgroups.
pub fn cases() -> Vec<Case> {
    let case = |n, k, fill| Case::new(Argmax, 1).fixed(&[n, k], fill);
    vec![
        case(1, 1, Fill::Distinct),
        case(3, 2, Fill::Distinct),
        case(67, 10, Fill::Distinct),
        case(130, 10, Fill::Ties),
        case(5, 10, Fill::Number(-1.5)),
        case(2, 1000, Fill::Distinct),
    ]
}

//! Rows of a table by their numbers: `y[…, :] = w[index[…], :]`, the embedding of words and other
//! classes. An index of no row gives zeros, and no row gets a gradient from it.
//!
//! ∂w is the transpose: each row of it is the sum of the upstream gradients of all places that
//! have read it, in the order of these places. A workgroup makes a row: its threads look through
//! all indices for the row's number, 32 each at a time, and then add up together what was found,
//! a thread for four columns. So nothing is added up in memory, and the order is always the same.
//! Saved for the gradient: the indices.

use std::sync::Arc;

use super::launch::per_element;
use super::{
    Backward, Case, Fill, Lowered, Lowering, Op, Operand, Value, arity, exactly, floats, grid,
};
use crate::error::{Error, Result};
use crate::interchange::Site;
use crate::kernel::{Args, Bind, Demand, Kernel};
use crate::shape::{DType, Type};
use crate::tensor::Real;

/// y = the rows of w: inputs w `[V, D]` and integers `[…]`; output y `[…, D]`.
#[derive(Debug)]
pub struct Embedding;

/// ∂w: inputs g `[…, D]` and the integers `[…]`; output ∂w `[V, D]`.
#[derive(Debug)]
pub struct EmbeddingGrad {
    /// V.
    pub rows: usize,
}

/// Columns of ∂w that a workgroup makes; `COLUMNS` of the shader.
const COLUMNS: usize = 256;

fn indices(op: &str, ty: &Type) -> Result<()> {
    if ty.dtype == DType::U32 && !ty.shared {
        return Ok(());
    }
    Err(Error::shape(
        op,
        ty.to_string(),
        "indices of u32, one per replica",
    ))
}

impl Op for Embedding {
    fn name(&self) -> &'static str {
        "embedding"
    }

    fn onnx(&self, site: &mut Site<'_>) -> Result<Vec<String>> {
        let (w, index) = (site.input(0), site.input(1));
        Ok(vec![site.op(
            "Gather",
            &[&w, &index],
            &[("axis", 0.into())],
        )])
    }

    fn infer(&self, inputs: &[Type]) -> Result<Vec<Type>> {
        let [w, index] = arity("embedding", inputs, "table, indices")?;
        floats("embedding", "table", w)?;
        indices("embedding", index)?;
        let [_, d] = w.shape.axes("embedding", "a table [V, D]")?;
        let extents = [index.shape.extents(), &[d]].concat();
        Ok(vec![Type::f32("embedding", &extents)?])
    }

    fn lower(&self, inputs: &[Type], outputs: &[Type]) -> Result<Lowering> {
        let [v, d] = inputs[0].shape.axes("embedding", "a table [V, D]")?;
        let constants = [("V", v as f64), ("D", d as f64)];
        Ok(Lowering::Launch(Lowered {
            flops: 0,
            ..per_element(&EMBEDDING, 2, &outputs[0], &constants)
        }))
    }

    fn gradient(&self, b: &mut Backward<'_>) -> Result<Vec<Option<Value>>> {
        let table = b.tape.ty(b.inputs[0])?;
        let [rows, _] = table.shape.axes("embedding", "a table [V, D]")?;
        let grad = Arc::new(EmbeddingGrad { rows });
        let dw = b.tape.op1(grad, &[b.upstream, b.inputs[1]])?;
        Ok(vec![Some(dw), None])
    }
}

impl Op for EmbeddingGrad {
    fn name(&self) -> &'static str {
        "embedding"
    }

    fn infer(&self, inputs: &[Type]) -> Result<Vec<Type>> {
        let op = "embedding gradient";
        let [g, index] = arity(op, inputs, "gradient, indices")?;
        indices(op, index)?;
        let Some(&d) = g.shape.extents().last() else {
            return Err(Error::shape(op, g.to_string(), "gradient [.., D]"));
        };
        let extents = [index.shape.extents(), &[d]].concat();
        exactly(op, "gradient", g, &Type::f32(op, &extents)?)?;
        Ok(vec![Type::f32(op, &[self.rows, d])?])
    }

    fn lower(&self, inputs: &[Type], outputs: &[Type]) -> Result<Lowering> {
        let [v, d] = outputs[0].shape.axes("embedding", "a table [V, D]")?;
        let n = inputs[1].elements();
        Ok(Lowering::Launch(Lowered {
            kernel: &EMBEDDING_GRAD,
            constants: vec![("N", n as f64), ("V", v as f64), ("D", d as f64)],
            operands: vec![Operand::In(0), Operand::In(1), Operand::Out(0)],
            grid: grid(v * d.div_ceil(COLUMNS), 1),
            flops: (n * d) as u64,
            alternatives: vec![],
        }))
    }
}

/// y = the rows of w.
pub static EMBEDDING: Kernel = Kernel {
    name: "embedding",
    turns: "0",
    stem: "embedding",
    source: concat!(
        include_str!("../../shaders/shared/grid.wgsl"),
        include_str!("../../shaders/embedding.wgsl"),
    ),
    bindings: &[
        Bind::read("w").of("V * D"),
        Bind::read("index").u32().of("N / D"),
        Bind::write("y").of("N"),
    ],
    constants: &["N", "V", "D"],
    reference: crate::reference!(embedding),
    optimized: None,
    demand: Demand {
        rounds: "2",
        issue: "45",
        words: "128 + 64 / D",
        ..Demand::UNSTATED
    },
    trusted: true,
    ports: &[],
    finishing: None,
};

/// ∂w.
pub static EMBEDDING_GRAD: Kernel = Kernel {
    name: "embedding_grad",
    turns: "(N / 2048 + 1) * 168 + N + 8",
    // Every row is taken to be read as often as the others.
    demand: Demand {
        rounds: "N / 2048 * 8 + N / V",
        barriers: "N / 2048 * 2 + 1",
        issue: "N / 2048 * 450 + N / V * 50 + 60",
        words: "N + N / V * D + D",
        ..Demand::UNSTATED
    },
    bindings: &[
        Bind::read("g").of("N * D"),
        Bind::read("read_index").u32().of("N"),
        Bind::write("dw").of("V * D"),
    ],
    reference: crate::reference!(embedding_grad),
    ..EMBEDDING
};

/// The kernels of this file.
pub static KERNELS: &[&Kernel] = &[&EMBEDDING, &EMBEDDING_GRAD];

fn embedding<T: Real>(a: &mut Args<'_, T>) {
    let (v, d) = (a.size("V"), a.size("D"));
    let (w, index, y) = (a.f(0), a.u(1), a.f_mut(2)); // [V, D], [N / D], [N]
    for (y, &index) in y.chunks_mut(d).zip(index) {
        match index as usize {
            row if row < v => y.copy_from_slice(&w[row * d..][..d]),
            _ => y.fill(T::ZERO),
        }
    }
}

fn embedding_grad<T: Real>(a: &mut Args<'_, T>) {
    let (v, d) = (a.size("V"), a.size("D"));
    let (g, index, dw) = (a.f(0), a.u(1), a.f_mut(2)); // [N, D], [N], [V, D]
    dw.fill(T::ZERO);
    for (g, &index) in g.chunks(d).zip(index) {
        let row = index as usize;
        if row < v {
            for (dw, &g) in dw[row * d..][..d].iter_mut().zip(g) {
                *dw += g;
            }
        }
    }
}

/// One row, rows that nobody and that everybody reads, indices of no row, more indices than a
/// workgroup looks through at a time, more columns than one makes.
pub fn cases() -> Vec<Case> {
    let uniform = Fill::Uniform(-1.0, 1.0);
    let mut cases = Vec::new();
    for (v, d, places, bound) in [
        (1, 1, &[1][..], 1),
        (5, 3, &[2, 7], 5),
        (3, 1, &[65], 5),
        (7, 67, &[2, 1, 3], 4),
        (2, 5, &[31], 9),
        (13, 3, &[5, 421], 15),
        (3, 259, &[33], 3),
        (1, 2, &[2049], 1),
        (300, 2, &[4, 17], 300),
    ] {
        let n: usize = places.iter().product();
        let small = v * d < 100 && n < 100;
        let case = Case::new(Embedding, 1).float(&[v, d], uniform);
        let case = case.u32(places, Fill::Below(bound));
        cases.push(if small { case } else { case.forward_only() });
        let grad = Case::new(EmbeddingGrad { rows: v }, n);
        let grad = grad.fixed(&[places, &[d]].concat(), uniform);
        cases.push(grad.u32(places, Fill::Below(bound)));
    }
    cases
}

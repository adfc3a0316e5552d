//! Rows of several parts as heads of each part, as attention takes them where its shares are written out. In x `[N, T, P · H · D]` queries, keys and values
//! stand side by side; it becomes P values `[N, H, T, D]` in one launch, and back. Each op is the other's gradient; nothing
//! is saved. Of a part that no gradient comes back through, the gradient is 0.
//!
//! One part is a permutation ([`permute`](super::permute)).

use std::sync::Arc;

use super::constant::zeros_like;
use super::{
    Backward, Case, ELEMENTWISE, Fill, Lowered, Lowering, Op, Operand, Value, arity, floats, grid,
};
use crate::error::{Error, Result};
use crate::interchange::{Extent, Site};
use crate::kernel::{Args, Bind, Demand, Kernel, Reference};
use crate::shape::Type;
use crate::tensor::Real;
use crate::threads::prelude::*;

/// yₚ = part p of x by heads: input x `[N, T, P · H · D]`, outputs P values `[N, H, T, D]`, two or three.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SplitHeads {
    /// P.
    pub parts: usize,
    /// H.
    pub heads: usize,
}

/// y = the parts side by side: inputs P values `[N, H, T, D]`, two or three, output y `[N, T, P · H · D]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JoinHeads;

/// N, T, H and D.
type Sizes = [usize; 4];

fn lowered(kernel: &'static Kernel, [n, t, h, d]: Sizes, operands: Vec<Operand>) -> Lowered {
    let size = n * t * h * d;
    Lowered {
        kernel,
        constants: vec![
            ("SIZE", size as f64),
            ("T", t as f64),
            ("HEADS", h as f64),
            ("D", d as f64),
        ],
        operands,
        grid: grid(size, 4 * ELEMENTWISE),
        flops: 0,
        alternatives: vec![],
    }
}

fn two_or_three(parts: usize) -> Result<()> {
    match (2..=3).contains(&parts) {
        true => Ok(()),
        false => Err(Error::shape("heads", format!("{parts} parts"), "2 or 3")),
    }
}

impl SplitHeads {
    fn sizes(&self, x: &Type) -> Result<Sizes> {
        floats("heads", "x", x)?;
        let [n, t, c] = x.shape.axes("heads", "x [N, T, parts · heads · D]")?;
        let rows = self.parts.saturating_mul(self.heads);
        if rows == 0 || !c.is_multiple_of(rows) {
            let found = format!("{c} numbers a row");
            let wanted = format!("{} parts of {} heads of equal size", self.parts, self.heads);
            return Err(Error::shape("heads", found, wanted));
        }
        Ok([n, t, self.heads, c / rows])
    }
}

impl Op for SplitHeads {
    fn name(&self) -> &'static str {
        "heads"
    }

    fn onnx(&self, site: &mut Site<'_>) -> Result<Vec<String>> {
        let (x, from) = (site.input(0), site.extents(0));
        let each = site.fixed(0, 2)? / self.parts;
        let sizes = site.ints(&vec![each as i64; self.parts]);
        let parts = site.ops("Split", &[&x, &sizes], &[("axis", 2.into())], self.parts);
        let [n, t] = [from[0], from[1]];
        let apart = [
            n,
            t,
            Extent::Fixed(self.heads),
            Extent::Fixed(each / self.heads),
        ];
        let flat = [n, t, Extent::Fixed(each)];
        let parts = parts.iter();
        parts
            .map(|part| {
                let part = site.reshape(part, &flat, &apart)?;
                Ok(site.op("Transpose", &[&part], &[("perm", vec![0, 2, 1, 3].into())]))
            })
            .collect()
    }

    fn infer(&self, inputs: &[Type]) -> Result<Vec<Type>> {
        let [x] = arity("heads", inputs, "x")?;
        two_or_three(self.parts)?;
        let [n, t, h, d] = self.sizes(x)?;
        Ok(vec![Type::f32("heads", &[n, h, t, d])?; self.parts])
    }

    fn lower(&self, inputs: &[Type], _: &[Type]) -> Result<Lowering> {
        let outputs = (0..self.parts).map(Operand::Out);
        let operands = [Operand::In(0)].into_iter().chain(outputs).collect();
        let kernel = [&HEADS_2, &HEADS_3][self.parts - 2];
        Ok(Lowering::Launch(lowered(
            kernel,
            self.sizes(&inputs[0])?,
            operands,
        )))
    }

    fn gradients(&self, b: &mut Backward<'_>) -> Result<Vec<Option<Value>>> {
        let given = b.outputs.iter().zip(b.upstreams);
        let all = given.map(|(&y, up)| up.map_or_else(|| zeros_like(b.tape, y), Ok));
        let all = all.collect::<Result<Vec<_>>>()?;
        Ok(vec![Some(b.tape.op1(Arc::new(JoinHeads), &all)?)])
    }
}

impl Op for JoinHeads {
    fn name(&self) -> &'static str {
        "heads"
    }

    fn onnx(&self, site: &mut Site<'_>) -> Result<Vec<String>> {
        let mut parts = Vec::new();
        for k in 0..site.inputs().len() {
            let (x, from) = (site.input(k), site.extents(k));
            let (h, d) = (site.fixed(k, 1)?, site.fixed(k, 3)?);
            let turned = site.op("Transpose", &[&x], &[("perm", vec![0, 2, 1, 3].into())]);
            let [n, t] = [from[0], from[2]];
            let apart = [n, t, Extent::Fixed(h), Extent::Fixed(d)];
            parts.push(site.reshape(&turned, &apart, &[n, t, Extent::Fixed(h * d)])?);
        }
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        Ok(vec![site.op("Concat", &parts, &[("axis", 2.into())])])
    }

    fn infer(&self, inputs: &[Type]) -> Result<Vec<Type>> {
        two_or_three(inputs.len())?;
        for x in inputs {
            floats("heads", "part", x)?;
            if x.shape != inputs[0].shape {
                let found = format!("{} and {}", inputs[0].shape, x.shape);
                return Err(Error::shape("heads", found, "parts of the same extents"));
            }
        }
        let [n, h, t, d] = inputs[0].shape.axes("heads", "parts [N, H, T, D]")?;
        let all = inputs.len().saturating_mul(h).saturating_mul(d);
        Ok(vec![Type::f32("heads", &[n, t, all])?])
    }

    fn lower(&self, inputs: &[Type], _: &[Type]) -> Result<Lowering> {
        let [n, h, t, d] = inputs[0].shape.axes("heads", "parts [N, H, T, D]")?;
        let parts = (0..inputs.len()).map(Operand::In);
        let operands = parts.chain([Operand::Out(0)]).collect();
        let kernel = [&BACK_2, &BACK_3][inputs.len() - 2];
        Ok(Lowering::Launch(lowered(kernel, [n, t, h, d], operands)))
    }

    fn gradient(&self, b: &mut Backward<'_>) -> Result<Vec<Option<Value>>> {
        let [_, heads, ..] = b
            .tape
            .ty(b.inputs[0])?
            .shape
            .axes::<4>("heads", "[N, H, T, D]")?;
        let split = SplitHeads {
            parts: b.inputs.len(),
            heads,
        };
        let parts = b.tape.op(Arc::new(split), &[b.upstream])?;
        Ok(parts.into_iter().map(Some).collect())
    }
}

/// A kernel over so many parts: its name, what a thread issues and a workgroup moves, bindings, CPU functions.
const fn kernel(
    name: &'static str,
    [issue, words]: [&'static str; 2],
    bindings: &'static [Bind],
    reference: Reference,
    optimized: fn(&mut Args<'_, f32>),
) -> Kernel {
    Kernel {
        name,
        turns: "4",
        stem: "heads",
        source: concat!(
            include_str!("../../shaders/shared/grid.wgsl"),
            include_str!("../../shaders/heads.wgsl"),
        ),
        bindings,
        constants: &["SIZE", "T", "HEADS", "D"],
        reference,
        optimized: Some(optimized),
        demand: Demand {
            rounds: "1",
            issue,
            words,
            ..Demand::UNSTATED
        },
        trusted: true,
        ports: &[],
        finishing: None,
    }
}

/// [`Demand`] of two parts and of three: instructions, words.
const TWO: [&str; 2] = ["290", "1024"];
const THREE: [&str; 2] = ["420", "1536"];

/// Two parts of x.
pub static HEADS_2: Kernel = kernel(
    "heads_2",
    TWO,
    &[
        Bind::read("x").of("2 * SIZE"),
        Bind::write("y0").of("SIZE"),
        Bind::write("y1").of("SIZE"),
    ],
    Reference::of(apart::<f32, 2>, apart::<f64, 2>),
    apart_fast::<2>,
);

/// Three parts of x.
pub static HEADS_3: Kernel = kernel(
    "heads_3",
    THREE,
    &[
        Bind::read("x").of("3 * SIZE"),
        Bind::write("y0").of("SIZE"),
        Bind::write("y1").of("SIZE"),
        Bind::write("y2").of("SIZE"),
    ],
    Reference::of(apart::<f32, 3>, apart::<f64, 3>),
    apart_fast::<3>,
);

/// Two parts side by side.
pub static BACK_2: Kernel = kernel(
    "heads_back_2",
    TWO,
    &[
        Bind::read("x0").of("SIZE"),
        Bind::read("x1").of("SIZE"),
        Bind::write("of_two").of("2 * SIZE"),
    ],
    Reference::of(together::<f32, 2>, together::<f64, 2>),
    together_fast::<2>,
);

/// Three parts side by side.
pub static BACK_3: Kernel = kernel(
    "heads_back_3",
    THREE,
    &[
        Bind::read("x0").of("SIZE"),
        Bind::read("x1").of("SIZE"),
        Bind::read("x2").of("SIZE"),
        Bind::write("of_three").of("3 * SIZE"),
    ],
    Reference::of(together::<f32, 3>, together::<f64, 3>),
    together_fast::<3>,
);

/// The kernels of this file.
pub static KERNELS: &[&Kernel] = &[&HEADS_2, &HEADS_3, &BACK_2, &BACK_3];

/// How one example is laid out.
#[derive(Clone, Copy)]
struct Example {
    t: usize,
    heads: usize,
    d: usize,
    parts: usize,
}

impl Example {
    fn of<T: Real>(a: &Args<'_, T>, parts: usize) -> Self {
        Self {
            t: a.size("T"),
            heads: a.size("HEADS"),
            d: a.size("D"),
            parts,
        }
    }

    /// Elements of a part.
    fn size(&self) -> usize {
        self.t * self.heads * self.d
    }

    /// Hands `each` the runs of D elements of a part: where one begins in the part and where in the row of all.
    fn runs(&self, part: usize, mut each: impl FnMut(usize, usize)) {
        for h in 0..self.heads {
            for t in 0..self.t {
                let row = (t * self.parts + part) * self.heads + h;
                each((h * self.t + t) * self.d, row * self.d);
            }
        }
    }

    fn apart<T: Real>(&self, part: usize, x: &[T], y: &mut [T]) {
        self.runs(part, |own, of_all| {
            y[own..][..self.d].copy_from_slice(&x[of_all..][..self.d]);
        });
    }

    fn together<T: Real>(&self, part: usize, x: &[T], y: &mut [T]) {
        self.runs(part, |own, of_all| {
            y[of_all..][..self.d].copy_from_slice(&x[own..][..self.d]);
        });
    }
}

fn apart<T: Real, const P: usize>(a: &mut Args<'_, T>) {
    let example = Example::of(a, P);
    let x = a.f(0); // [N, T, P · H · D]
    for part in 0..P {
        let y = a.f_mut(part + 1); // [N, H, T, D]
        let examples = y.chunks_mut(example.size());
        for (y, x) in examples.zip(x.chunks(P * example.size())) {
            example.apart(part, x, y);
        }
    }
}

fn together<T: Real, const P: usize>(a: &mut Args<'_, T>) {
    let example = Example::of(a, P);
    let y = a.f_mut(P); // [N, T, P · H · D]
    for part in 0..P {
        let x = a.f(part); // [N, H, T, D]
        let examples = x.chunks(example.size());
        for (x, y) in examples.zip(y.chunks_mut(P * example.size())) {
            example.together(part, x, y);
        }
    }
}

fn apart_fast<const P: usize>(a: &mut Args<'_, f32>) {
    let example = Example::of(a, P);
    let x = a.f(0);
    for part in 0..P {
        let examples = a.f_mut(part + 1).par_chunks_mut(example.size());
        let examples = examples.zip(x.par_chunks(P * example.size()));
        examples.share(|(y, x)| example.apart(part, x, y));
    }
}

fn together_fast<const P: usize>(a: &mut Args<'_, f32>) {
    let example = Example::of(a, P);
    let parts: [&[f32]; P] = std::array::from_fn(|part| a.f(part));
    let examples = a.f_mut(P).par_chunks_mut(P * example.size()).enumerate();
    examples.share(|(n, y)| {
        for (part, x) in parts.iter().enumerate() {
            example.together(part, &x[n * example.size()..][..example.size()], y);
        }
    });
}

/// One example and several, one head, one step of time, one number a head, primes, several workgroups; two parts and
/// three. Where a part is not used, `tests/pytorch_general.rs` holds the gradient.
pub fn cases() -> Vec<Case> {
    let uniform = Fill::Uniform(-1.0, 1.0);
    let mut cases = Vec::new();
    for ([n, t, heads, d], parts) in [
        ([1, 1, 1, 1], 2),
        ([1, 1, 1, 1], 3),
        ([2, 3, 5, 7], 2),
        ([3, 5, 2, 3], 3),
        ([1, 7, 3, 1], 3),
        ([2, 1, 3, 4], 2),
        ([5, 4, 1, 2], 3),
    ] {
        let split = SplitHeads { parts, heads };
        cases.push(Case::new(split, 1).float(&[n, t, parts * heads * d], uniform));
        let join = Case::new(JoinHeads, 1);
        let all = (0..parts).fold(join, |case, _| case.float(&[n, heads, t, d], uniform));
        cases.push(all);
    }
    for parts in [2, 3] {
        let [n, t, heads, d] = [3, 17, 4, 9];
        let split = SplitHeads { parts, heads };
        let many = Case::new(split, 1).float(&[n, t, parts * heads * d], uniform);
        cases.push(many.forward_only());
        let join = Case::new(JoinHeads, 1);
        let all = (0..parts).fold(join, |case, _| case.float(&[n, heads, t, d], uniform));
        cases.push(all.forward_only());
    }
    cases
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::Graph;
    use crate::ops::Tape;

    #[test]
    fn what_does_not_fit_is_refused() {
        let mut graph = Graph::new();
        let ty = Type::f32("x", &[2, 3, 12]).unwrap();
        let x = graph.variable("x", ty).unwrap();
        graph.begin("run");
        let mut refused = |parts, heads| {
            let split = SplitHeads { parts, heads };
            graph.op(Arc::new(split), &[x]).unwrap_err().to_string()
        };
        assert!(refused(3, 5).contains("12 numbers a row"));
        assert!(refused(3, 0).contains("12 numbers a row"));
        assert!(refused(4, 1).contains("4 parts"));
        assert!(refused(1, 1).contains("1 parts"));
    }
}

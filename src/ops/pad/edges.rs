//! Padding by what is at the edges: x reflected at its first and last elements, or these repeated.
//! ∂x adds up, in order, the upstream gradient of all places that repeat an element.

use std::sync::Arc;

use super::super::checks::{around, resized};
use super::super::launch::per_element;
use super::super::{Backward, Case, Fill, Lowered, Lowering, Op, Value, arity, floats};
use super::{PAD, padded};
use crate::error::{Error, Result};
use crate::interchange::Site;
use crate::kernel::{Args, Bind, Demand, Kernel};
use crate::shape::Type;
use crate::tensor::Real;

/// What stands around x.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Edge {
    /// x mirrored at its first and last elements, which are not repeated: `c b [a b c] b a`.
    Reflect,
    /// The first and last elements: `a a [a b c] c c`.
    Replicate,
}

/// y = x with what is at its edges around it, along an axis: input x, output y, larger by
/// `before` and `after`; several axes are padded one after the other.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PadEdges {
    /// The axis, counted from 0.
    pub axis: usize,
    /// Elements before x; reflected, fewer than x has.
    pub before: usize,
    /// Elements after x, likewise.
    pub after: usize,
    /// What they are.
    pub edge: Edge,
}

/// ∂x: input g of y's type; output of x's.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PadEdgesGrad(pub PadEdges);

impl PadEdges {
    /// y's extent where x has `length` elements.
    fn extent(&self, x: &Type, length: usize) -> Result<usize> {
        let sum = length
            .checked_add(self.before)
            .and_then(|sum| sum.checked_add(self.after));
        let enough = self.edge == Edge::Replicate || self.before.max(self.after) < length;
        sum.filter(|_| enough).ok_or_else(|| {
            let (before, after) = (self.before, self.after);
            Error::shape(
                "pad",
                format!(
                    "{before} before and {after} after axis {} of {x}",
                    self.axis
                ),
                "fewer reflected elements than the axis has",
            )
        })
    }

    fn lowered(&self, kernel: &'static Kernel, x: &Type, made: &Type) -> Result<Lowering> {
        let [_, length, inner] = around("pad", x, Some(self.axis))?;
        let constants = [
            ("LENGTH", length as f64),
            ("BEFORE", self.before as f64),
            ("AFTER", self.after as f64),
            ("INNER", inner as f64),
            ("REFLECT", f64::from(u8::from(self.edge == Edge::Reflect))),
        ];
        Ok(Lowering::Launch(Lowered {
            flops: 0,
            ..per_element(kernel, 1, made, &constants)
        }))
    }
}

impl Op for PadEdges {
    fn name(&self) -> &'static str {
        "pad"
    }

    fn onnx(&self, site: &mut Site<'_>) -> Result<Vec<String>> {
        site.fixed(0, self.axis)?;
        let mode = match self.edge {
            Edge::Reflect => "reflect",
            Edge::Replicate => "edge",
        };
        Ok(vec![padded(
            site,
            self.axis,
            [self.before, self.after],
            mode,
        )])
    }

    fn infer(&self, inputs: &[Type]) -> Result<Vec<Type>> {
        let [x] = arity("pad", inputs, "x")?;
        floats("pad", "x", x)?;
        let [_, length, _] = around("pad", x, Some(self.axis))?;
        let extent = self.extent(x, length)?;
        Ok(vec![resized("pad", x, self.axis, extent)?])
    }

    fn lower(&self, inputs: &[Type], outputs: &[Type]) -> Result<Lowering> {
        self.lowered(&PAD_EDGES, &inputs[0], &outputs[0])
    }

    fn gradient(&self, b: &mut Backward<'_>) -> Result<Vec<Option<Value>>> {
        let grad = Arc::new(PadEdgesGrad(*self));
        Ok(vec![Some(b.tape.op1(grad, &[b.upstream])?)])
    }
}

impl Op for PadEdgesGrad {
    fn name(&self) -> &'static str {
        "pad"
    }

    fn infer(&self, inputs: &[Type]) -> Result<Vec<Type>> {
        let [g] = arity("pad gradient", inputs, "gradient")?;
        floats("pad gradient", "gradient", g)?;
        let [_, whole, _] = around("pad gradient", g, Some(self.0.axis))?;
        let around = self.0.before.saturating_add(self.0.after);
        let length = whole.saturating_sub(around);
        if length == 0 {
            let wanted = format!("a gradient of more than {around} elements along the axis");
            return Err(Error::shape("pad gradient", g.to_string(), wanted));
        }
        self.0.extent(g, length)?;
        Ok(vec![resized("pad gradient", g, self.0.axis, length)?])
    }

    fn lower(&self, _: &[Type], outputs: &[Type]) -> Result<Lowering> {
        self.0.lowered(&PAD_EDGES_GRAD, &outputs[0], &outputs[0])
    }
}

/// y = x with its edges around it.
pub static PAD_EDGES: Kernel = Kernel {
    name: "pad_edges",
    demand: Demand {
        rounds: "1",
        issue: "60",
        words: "128",
        ..Demand::UNSTATED
    },
    bindings: &[
        Bind::read("x").of("N * LENGTH / (BEFORE + LENGTH + AFTER)"),
        Bind::write("y").of("N"),
    ],
    constants: &["N", "LENGTH", "BEFORE", "AFTER", "INNER", "REFLECT"],
    reference: crate::reference!(edges),
    ..PAD
};

/// ∂x.
pub static PAD_EDGES_GRAD: Kernel = Kernel {
    name: "pad_edges_grad",
    turns: "BEFORE + AFTER + 8",
    demand: Demand {
        rounds: "(BEFORE + AFTER) / 4 + 1",
        issue: "8 * (BEFORE + AFTER) + 80",
        words: "192",
        ..Demand::UNSTATED
    },
    bindings: &[
        Bind::read("g").of("N * (BEFORE + LENGTH + AFTER) / LENGTH"),
        Bind::write("dx").of("N"),
    ],
    reference: crate::reference!(edges_grad),
    ..PAD_EDGES
};

/// The place of x that each place of y along the axis repeats.
fn origins<T: Real>(a: &Args<'_, T>) -> Vec<usize> {
    let (before, after) = (a.size("BEFORE"), a.size("AFTER"));
    let (last, reflect) = (a.size("LENGTH") - 1, a.size("REFLECT") == 1);
    let origin = |p: usize| match p.checked_sub(before) {
        None if reflect => before - p,
        None => 0,
        Some(at) if at <= last => at,
        Some(at) if reflect => 2 * last - at,
        Some(_) => last,
    };
    (0..before + last + 1 + after).map(origin).collect()
}

fn edges<T: Real>(a: &mut Args<'_, T>) {
    let (origins, length, inner) = (origins(a), a.size("LENGTH"), a.size("INNER"));
    let (x, y) = (a.f(0), a.f_mut(1)); // [outer, LENGTH, INNER], [outer, whole, INNER]
    let outer = y
        .chunks_mut(origins.len() * inner)
        .zip(x.chunks(length * inner));
    for (y, x) in outer {
        for (y, origin) in y.chunks_mut(inner).zip(&origins) {
            y.copy_from_slice(&x[origin * inner..][..inner]);
        }
    }
}

fn edges_grad<T: Real>(a: &mut Args<'_, T>) {
    let (origins, length, inner) = (origins(a), a.size("LENGTH"), a.size("INNER"));
    let (g, dx) = (a.f(0), a.f_mut(1)); // [outer, whole, INNER], [outer, LENGTH, INNER]
    dx.fill(T::ZERO);
    let outer = dx
        .chunks_mut(length * inner)
        .zip(g.chunks(origins.len() * inner));
    for (dx, g) in outer {
        for (g, origin) in g.chunks(inner).zip(&origins) {
            for (dx, &g) in dx[origin * inner..][..inner].iter_mut().zip(g) {
                *dx += g;
            }
        }
    }
}

/// One element, nothing around, one side, both, as far as reflection goes; several workgroups.
pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (extents, axis, before, after, edge) in [
        (&[1][..], 0, 0, 0, Edge::Reflect),
        (&[1], 0, 2, 3, Edge::Replicate),
        (&[5, 3], 0, 4, 0, Edge::Reflect),
        (&[5, 3], 1, 1, 2, Edge::Reflect),
        (&[5, 3], 1, 7, 2, Edge::Replicate),
        (&[2, 3, 4, 5], 1, 2, 1, Edge::Reflect),
        (&[2, 3, 4, 5], 2, 0, 3, Edge::Replicate),
        (&[3, 11, 7], 1, 10, 10, Edge::Reflect),
    ] {
        let pad = PadEdges {
            axis,
            before,
            after,
            edge,
        };
        let uniform = Fill::Uniform(-1.0, 1.0);
        cases.push(Case::new(pad, 1).float(extents, uniform));
        let mut g = extents.to_vec();
        g[axis] += before + after;
        let terms = before + after + 1;
        cases.push(Case::new(PadEdgesGrad(pad), terms).fixed(&g, uniform));
    }
    cases
}

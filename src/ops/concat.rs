//! Concatenation of values along an axis; the gradient is the [`Split`] of the upstream gradient, or,
//! of parts that nobody wants all of, its [`Slice`]s. Nothing is saved.
//!
//! Two to seven values are one launch: with the output, these are the eight buffers that every
//! adapter binds. [`cat`] and [`stack`] take as many as there are, by a tree of such launches.

use std::sync::Arc;

use super::checks::{around, resized};
use super::launch::per_four;
use super::reshape::Reshape;
use super::slice::Slice;
use super::split::{MOST_PARTS, Split};
use super::{Backward, Case, Fill, Lowered, Lowering, Op, Tape, Value, floats};
use crate::error::{Error, Result};
use crate::interchange::Site;
use crate::kernel::{Args, Bind, Demand, Kernel, Reference};
use crate::shape::Type;
use crate::tensor::Real;

/// y = a, then b, then … along an axis: two to seven inputs, equal in all other extents; output y.
#[derive(Debug)]
pub struct Concat {
    /// The axis, counted from 0.
    pub axis: usize,
}

/// `torch.cat(tensors, dim)`: the values one after the other along axis `dim`, which may differ in
/// that extent alone. `[.., Aₖ, ..]` each; result `[.., A₁ + A₂ + …, ..]`. One value is itself.
///
/// # Errors
/// [`Error::Shape`] for no values, for an axis that they do not have, and for other extents that
/// differ.
pub fn cat(tape: &mut dyn Tape, tensors: &[Value], dim: usize) -> Result<Value> {
    let mut left = tensors.to_vec();
    while left.len() > 1 {
        let mut joined = Vec::new();
        for some in left.chunks(MOST_PARTS) {
            joined.push(match some {
                [one] => *one,
                some => tape.op1(Arc::new(Concat { axis: dim }), some)?,
            });
        }
        left = joined;
    }
    let Some(&all) = left.first() else {
        return Err(Error::shape("cat", "no values", "one or more"));
    };
    around("cat", tape.ty(all)?, Some(dim))?;
    Ok(all)
}

/// `torch.stack(tensors, dim)`: values of one shape along a new axis, which stands before axis `dim`
/// of theirs, or behind the last. `[A, B]` each; result `[A, K, B]` for `dim` 1 and K values.
///
/// # Errors
/// [`Error::Shape`] for no values, for shapes that differ, and for `dim` beyond the rank.
pub fn stack(tape: &mut dyn Tape, tensors: &[Value], dim: usize) -> Result<Value> {
    let mut raised = Vec::new();
    let mut first: Option<Type> = None;
    for &value in tensors {
        let ty = tape.ty(value)?.clone();
        let like = first.get_or_insert_with(|| ty.clone());
        super::same("stack", "all values", like, &ty)?;
        let mut extents = ty.shape.extents().to_vec();
        if dim > extents.len() {
            let wanted = format!("at least {dim} axes, because the new one is axis {dim}");
            return Err(Error::shape("stack", ty.to_string(), wanted));
        }
        extents.insert(dim, 1);
        raised.push(tape.op1(Arc::new(Reshape { extents }), &[value])?);
    }
    match raised.is_empty() {
        true => Err(Error::shape("stack", "no values", "one or more")),
        false => cat(tape, &raised, dim),
    }
}

/// The constants `N`, `RUN` and `SIZE_k` of the parts of a whole along an axis: a run is what stands
/// between two elements of the outer axes.
pub(super) fn parts_of(
    op: &str,
    axis: usize,
    whole: &Type,
    parts: &[Type],
) -> Result<Vec<(&'static str, f64)>> {
    let run = |ty| {
        let [_, extent, inner] = around(op, ty, Some(axis))?;
        Ok((extent * inner) as f64)
    };
    let mut constants = vec![("RUN", run(whole)?)];
    for (name, part) in SIZES.into_iter().zip(parts) {
        constants.push((name, run(part)?));
    }
    Ok(constants)
}

/// Names of the constants of each part.
pub(super) const SIZES: [&str; MOST_PARTS] = [
    "SIZE_0", "SIZE_1", "SIZE_2", "SIZE_3", "SIZE_4", "SIZE_5", "SIZE_6",
];

impl Op for Concat {
    fn name(&self) -> &'static str {
        "concat"
    }

    fn onnx(&self, site: &mut Site<'_>) -> Result<Vec<String>> {
        let names: Vec<String> = (0..site.inputs().len()).map(|k| site.input(k)).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        Ok(vec![site.op(
            "Concat",
            &names,
            &[("axis", (self.axis as i64).into())],
        )])
    }

    fn infer(&self, inputs: &[Type]) -> Result<Vec<Type>> {
        if !(2..=MOST_PARTS).contains(&inputs.len()) {
            let found = format!("{} inputs", inputs.len());
            return Err(Error::shape("concat", found, format!("2 to {MOST_PARTS}")));
        }
        let first = &inputs[0];
        let mut whole = 0;
        for (k, ty) in inputs.iter().enumerate() {
            floats("concat", &format!("input {k}"), ty)?;
            let [_, extent, _] = around("concat", ty, Some(self.axis))?;
            around("concat", first, Some(self.axis))?;
            if *ty != resized("concat", first, self.axis, extent)? {
                return Err(Error::shape(
                    "concat",
                    format!("{first} and {ty}"),
                    format!("equal extents of all inputs but for axis {}", self.axis),
                ));
            }
            whole += extent;
        }
        Ok(vec![resized("concat", first, self.axis, whole)?])
    }

    fn lower(&self, inputs: &[Type], outputs: &[Type]) -> Result<Lowering> {
        let constants = parts_of("concat", self.axis, &outputs[0], inputs)?;
        let kernel = KERNELS[inputs.len() - 2];
        Ok(Lowering::Launch(Lowered {
            flops: 0,
            ..per_four(kernel, inputs.len(), &outputs[0], &constants)
        }))
    }

    fn gradient(&self, b: &mut Backward<'_>) -> Result<Vec<Option<Value>>> {
        let mut sizes = Vec::new();
        for &input in b.inputs {
            let [_, extent, _] = around("concat", b.tape.ty(input)?, Some(self.axis))?;
            sizes.push(extent);
        }
        if b.wanted.iter().all(|&wanted| wanted) {
            let split = Split {
                axis: self.axis,
                sizes,
            };
            let shares = b.tape.op(Arc::new(split), &[b.upstream])?;
            return Ok(shares.into_iter().map(Some).collect());
        }
        let mut start = 0;
        let mut shares = Vec::new();
        for (extent, &wanted) in sizes.into_iter().zip(b.wanted) {
            let slice = Slice {
                axis: self.axis,
                start,
                extent,
                step: 1,
            };
            start += extent;
            shares.push(match wanted {
                true => Some(b.tape.op1(Arc::new(slice), &[b.upstream])?),
                false => None,
            });
        }
        Ok(shares)
    }
}

macro_rules! kernel {
    ($of:literal, $kernel:ident, $name:literal, $y:literal, $($x:literal $size:literal),*) => {
        /// y = its inputs, one after the other.
        pub static $kernel: Kernel = Kernel {
            name: $name,
            turns: "4",
            stem: "concat",
            source: concat!(
                include_str!("../../shaders/shared/grid.wgsl"),
                include_str!("../../shaders/concat.wgsl"),
            ),
            bindings: &[
                $(Bind::read($x).of(concat!("N * ", $size, " / RUN")),)*
                Bind::write($y).of("N"),
            ],
            constants: &["N", "RUN", $($size),*],
            reference: Reference::of(concat::<f32, $of>, concat::<f64, $of>),
            optimized: None,
            demand: Demand {
                rounds: "1",
                issue: concat!("100 + 24 * ", $of),
                words: "512",
                ..Demand::UNSTATED
            },
            trusted: true,
            ports: &[],
            finishing: None,
        };
    };
}

kernel!(2, CONCAT, "concat", "y2", "x0" "SIZE_0", "x1" "SIZE_1");
kernel!(3, CONCAT_3, "concat_3", "y3", "x0" "SIZE_0", "x1" "SIZE_1", "x2" "SIZE_2");
kernel!(4, CONCAT_4, "concat_4", "y4", "x0" "SIZE_0", "x1" "SIZE_1", "x2" "SIZE_2", "x3" "SIZE_3");
kernel!(5, CONCAT_5, "concat_5", "y5", "x0" "SIZE_0", "x1" "SIZE_1", "x2" "SIZE_2", "x3" "SIZE_3", "x4" "SIZE_4");
kernel!(6, CONCAT_6, "concat_6", "y6", "x0" "SIZE_0", "x1" "SIZE_1", "x2" "SIZE_2", "x3" "SIZE_3", "x4" "SIZE_4", "x5" "SIZE_5");
kernel!(7, CONCAT_7, "concat_7", "y7", "x0" "SIZE_0", "x1" "SIZE_1", "x2" "SIZE_2", "x3" "SIZE_3", "x4" "SIZE_4", "x5" "SIZE_5", "x6" "SIZE_6");

/// The kernels of this file, by the number of values less two.
pub static KERNELS: &[&Kernel] = &[
    &CONCAT, &CONCAT_3, &CONCAT_4, &CONCAT_5, &CONCAT_6, &CONCAT_7,
];

fn concat<T: Real, const K: usize>(args: &mut Args<'_, T>) {
    let run = args.size("RUN");
    let y = args.f_mut(K); // [outer, RUN]
    let mut start = 0;
    for (k, name) in SIZES.into_iter().enumerate().take(K) {
        let size = args.size(name);
        let x = args.f(k); // [outer, SIZE_k]
        for (y, x) in y.chunks_mut(run).zip(x.chunks(size)) {
            y[start..][..size].copy_from_slice(x);
        }
        start += size;
    }
}

/// First, middle and last axis, unequal parts, two to seven of them, several workgroups.
pub fn cases() -> Vec<Case> {
    let case = |extents: &[usize], axis: usize, parts: &[usize]| {
        let mut case = Case::new(Concat { axis }, 1);
        for &part in parts {
            let mut part_of = extents.to_vec();
            part_of[axis] = part;
            case = case.float(&part_of, Fill::Uniform(-1.0, 1.0));
        }
        case
    };
    let mut cases = vec![
        case(&[1], 0, &[1, 1]),
        case(&[3, 5], 0, &[3, 2]),
        case(&[3, 5], 1, &[5, 4]),
        case(&[2, 3, 4, 5], 1, &[3, 1]),
        case(&[2, 3, 4, 5], 3, &[5, 7]),
        case(&[2, 0, 3], 1, &[1, 4, 2]),
        case(&[0, 7], 0, &[3, 1, 2, 5]),
        case(&[3, 0], 1, &[2, 9, 1, 1, 4]),
        case(&[2, 0, 5], 1, &[3, 1, 2, 4, 1, 2]),
        case(&[5, 0, 3], 1, &[1, 2, 3, 1, 5, 1, 2]),
    ];
    // Several workgroups of each kernel.
    cases.extend((2..=MOST_PARTS).map(|count| {
        let sizes: Vec<usize> = (1..=count).collect();
        case(&[131, 0], 1, &sizes).forward_only()
    }));
    cases
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::Graph;

    /// A graph with variables of these extents.
    fn graph(all: &[&[usize]]) -> (Graph, Vec<Value>) {
        let mut graph = Graph::new();
        let named = all.iter().enumerate();
        let values = named.map(|(i, extents)| {
            let ty = Type::f32("test", extents).unwrap();
            graph.variable(&format!("{i}"), ty).unwrap()
        });
        let values = values.collect();
        graph.begin("run");
        (graph, values)
    }

    #[test]
    fn many_are_a_tree_of_launches() {
        for (count, launches) in [(1, 0), (2, 1), (7, 1), (8, 2), (14, 3), (49, 8), (50, 9)] {
            let (mut graph, values) = graph(&vec![&[2usize, 3][..]; count]);
            let nodes = graph.nodes().len();
            let y = cat(&mut graph, &values, 1).unwrap();
            assert_eq!(graph.nodes().len() - nodes, launches, "{count}");
            assert_eq!(graph.ty(y).unwrap().shape.extents(), [2, 3 * count]);
        }
    }

    #[test]
    fn a_new_axis_stands_where_it_is_asked_for() {
        let (mut graph, values) = graph(&[&[2, 3], &[2, 3]]);
        for (dim, extents) in [(0, [2, 2, 3]), (1, [2, 2, 3]), (2, [2, 3, 2])] {
            let y = stack(&mut graph, &values, dim).unwrap();
            assert_eq!(graph.ty(y).unwrap().shape.extents(), extents);
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let (mut graph, v) = graph(&[&[2, 3], &[2, 4], &[3, 4]]);
        let mut refused = |f: fn(&mut dyn Tape, &[Value], usize) -> Result<Value>, values, dim| {
            f(&mut graph, values, dim).unwrap_err().to_string()
        };
        assert!(refused(cat, &[], 0).contains("no values"));
        assert!(refused(cat, &v[..1], 2).contains("axis 2"));
        assert!(refused(cat, &v[..2], 2).contains("axis 2"));
        assert!(refused(cat, &v, 1).contains("equal extents of all inputs"));
        assert!(refused(stack, &[], 0).contains("no values"));
        assert!(refused(stack, &v[..2], 0).contains("equal types of all values"));
        assert!(refused(stack, &v[..1], 3).contains("at least 3 axes"));
    }
}

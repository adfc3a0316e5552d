//! A value in parts along an axis, one launch for two to seven of them: the transpose of [`Concat`],
//! and therefore its gradient, as that one is this one's. Nothing is saved. Of a part that no
//! gradient comes back through, the gradient is 0.

use std::sync::Arc;

use super::checks::{around, resized};
use super::concat::{Concat, SIZES, parts_of};
use super::constant::zeros_like;
use super::launch::per_four;
use super::pad::Pad;
use super::reshape::Reshape;
use super::{Backward, Case, Fill, Lowered, Lowering, Op, Operand, Tape, Value, arity, floats};
use crate::error::{Error, Result};
use crate::interchange::Site;
use crate::kernel::{Args, Bind, Demand, Kernel, Reference};
use crate::shape::Type;
use crate::tensor::Real;

/// The most parts of one launch.
pub const MOST_PARTS: usize = 7;

/// yₖ = part k of x along an axis: input x, outputs y₀, y₁, …, two to seven.
#[derive(Clone, Debug, PartialEq)]
pub struct Split {
    /// The axis, counted from 0.
    pub axis: usize,
    /// The extent of each part along it, in order; together all of x's.
    pub sizes: Vec<usize>,
}

/// `torch.split(tensor, split_sizes, dim)`: parts of x of these extents along axis `dim`, in order;
/// together they must be x. More than seven parts are split by a tree of launches.
///
/// # Errors
/// [`Error::Shape`] for an axis that x does not have, an extent of 0, and extents that do not add up
/// to x's.
pub fn split(tape: &mut dyn Tape, x: Value, sizes: &[usize], dim: usize) -> Result<Vec<Value>> {
    let op = Split {
        axis: dim,
        sizes: sizes.to_vec(),
    };
    op.parts(tape.ty(x)?)?;
    if sizes.len() == 1 {
        return Ok(vec![x]);
    }
    if sizes.len() <= MOST_PARTS {
        return tape.op(Arc::new(op), &[x]);
    }
    // As few launches as there can be: each part of the first is split again.
    let mut each = MOST_PARTS;
    while sizes.len().div_ceil(each) > MOST_PARTS {
        each *= MOST_PARTS;
    }
    let sums: Vec<usize> = sizes.chunks(each).map(|some| some.iter().sum()).collect();
    let mut parts = Vec::new();
    for (part, sizes) in split(tape, x, &sums, dim)?
        .into_iter()
        .zip(sizes.chunks(each))
    {
        parts.extend(split(tape, part, sizes, dim)?);
    }
    Ok(parts)
}

/// `torch.chunk(input, chunks, dim)`: at most so many parts of equal extents along axis `dim`, the
/// last of which may be smaller.
///
/// # Errors
/// [`Error::Setting`] for no chunks, and as [`split`].
pub fn chunk(tape: &mut dyn Tape, x: Value, chunks: usize, dim: usize) -> Result<Vec<Value>> {
    let [_, whole, _] = around("chunk", tape.ty(x)?, Some(dim))?;
    if chunks == 0 {
        return Err(Error::setting("chunks", chunks, "1 or more"));
    }
    let each = whole.div_ceil(chunks);
    let mut sizes = vec![each; whole / each];
    if !whole.is_multiple_of(each) {
        sizes.push(whole % each);
    }
    split(tape, x, &sizes, dim)
}

/// `torch.unbind(input, dim)`: what stands at each place of axis `dim`, without that axis.
/// x `[A, K, B]`; K results `[A, B]` for `dim` 1. Of one axis, each is `[1]`.
///
/// # Errors
/// As [`split`].
pub fn unbind(tape: &mut dyn Tape, x: Value, dim: usize) -> Result<Vec<Value>> {
    let ty = tape.ty(x)?.clone();
    let [_, whole, _] = around("unbind", &ty, Some(dim))?;
    let mut extents = ty.shape.extents().to_vec();
    extents.remove(dim);
    if extents.is_empty() {
        extents.push(1);
    }
    let mut parts = split(tape, x, &vec![1; whole], dim)?;
    for part in &mut parts {
        let extents = extents.clone();
        *part = tape.op1(Arc::new(Reshape { extents }), &[*part])?;
    }
    Ok(parts)
}

impl Split {
    /// The parts of x.
    fn parts(&self, x: &Type) -> Result<Vec<Type>> {
        floats("split", "x", x)?;
        let [_, whole, _] = around("split", x, Some(self.axis))?;
        let sum = self
            .sizes
            .iter()
            .try_fold(0usize, |sum, &s| sum.checked_add(s));
        if sum != Some(whole) || self.sizes.contains(&0) {
            return Err(Error::shape(
                "split",
                format!("parts {:?} of {x}", self.sizes),
                format!(
                    "parts of the {whole} elements along axis {}, all of them",
                    self.axis
                ),
            ));
        }
        let parts = self.sizes.iter();
        parts
            .map(|&size| resized("split", x, self.axis, size))
            .collect()
    }
}

impl Op for Split {
    fn name(&self) -> &'static str {
        "split"
    }

    fn onnx(&self, site: &mut Site<'_>) -> Result<Vec<String>> {
        site.fixed(0, self.axis)?;
        let (x, sizes) = (site.input(0), self.sizes.iter().map(|&size| size as i64));
        let sizes = site.ints(&sizes.collect::<Vec<_>>());
        let axis = ("axis", (self.axis as i64).into());
        Ok(site.ops("Split", &[&x, &sizes], &[axis], self.sizes.len()))
    }

    fn infer(&self, inputs: &[Type]) -> Result<Vec<Type>> {
        let [x] = arity("split", inputs, "x")?;
        if !(2..=MOST_PARTS).contains(&self.sizes.len()) {
            let found = format!("{} parts", self.sizes.len());
            return Err(Error::shape("split", found, format!("2 to {MOST_PARTS}")));
        }
        self.parts(x)
    }

    fn lower(&self, inputs: &[Type], outputs: &[Type]) -> Result<Lowering> {
        let constants = parts_of("split", self.axis, &inputs[0], outputs)?;
        let kernel = KERNELS[outputs.len() - 2];
        let outputs = (0..outputs.len()).map(Operand::Out);
        Ok(Lowering::Launch(Lowered {
            operands: [Operand::In(0)].into_iter().chain(outputs).collect(),
            flops: 0,
            ..per_four(kernel, 1, &inputs[0], &constants)
        }))
    }

    fn gradients(&self, b: &mut Backward<'_>) -> Result<Vec<Option<Value>>> {
        let given: Vec<_> = (0..)
            .zip(b.upstreams)
            .filter_map(|(k, up)| Some((k, (*up)?)))
            .collect();
        if let [(k, up)] = given[..] {
            let pad = Pad {
                axis: self.axis,
                start: self.sizes[..k].iter().sum(),
                extent: self.sizes.iter().sum(),
                step: 1,
            };
            return Ok(vec![Some(b.tape.op1(Arc::new(pad), &[up])?)]);
        }
        let given = b.outputs.iter().zip(b.upstreams);
        let all = given.map(|(&y, up)| up.map_or_else(|| zeros_like(b.tape, y), Ok));
        let all = all.collect::<Result<Vec<_>>>()?;
        let concat = Arc::new(Concat { axis: self.axis });
        Ok(vec![Some(b.tape.op1(concat, &all)?)])
    }
}

macro_rules! kernel {
    ($of:literal, $kernel:ident, $name:literal, $($y:literal $size:literal),*) => {
        /// The parts of x.
        pub static $kernel: Kernel = Kernel {
            name: $name,
            turns: "4",
            stem: "split",
            source: concat!(
                include_str!("../../shaders/shared/grid.wgsl"),
                include_str!("../../shaders/split.wgsl"),
            ),
            bindings: &[
                Bind::read("x").of("N"),
                $(Bind::write($y).of(concat!("N * ", $size, " / RUN"))),*
            ],
            constants: &["N", "RUN", $($size),*],
            reference: Reference::of(parts::<f32, $of>, parts::<f64, $of>),
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

kernel!(2, SPLIT_2, "split_2", "y0" "SIZE_0", "y1" "SIZE_1");
kernel!(3, SPLIT_3, "split_3", "y0" "SIZE_0", "y1" "SIZE_1", "y2" "SIZE_2");
kernel!(4, SPLIT_4, "split_4", "y0" "SIZE_0", "y1" "SIZE_1", "y2" "SIZE_2", "y3" "SIZE_3");
kernel!(5, SPLIT_5, "split_5", "y0" "SIZE_0", "y1" "SIZE_1", "y2" "SIZE_2", "y3" "SIZE_3", "y4" "SIZE_4");
kernel!(6, SPLIT_6, "split_6", "y0" "SIZE_0", "y1" "SIZE_1", "y2" "SIZE_2", "y3" "SIZE_3", "y4" "SIZE_4", "y5" "SIZE_5");
kernel!(7, SPLIT_7, "split_7", "y0" "SIZE_0", "y1" "SIZE_1", "y2" "SIZE_2", "y3" "SIZE_3", "y4" "SIZE_4", "y5" "SIZE_5", "y6" "SIZE_6");

/// The kernels of this file, by the number of parts less two.
pub static KERNELS: &[&Kernel] = &[&SPLIT_2, &SPLIT_3, &SPLIT_4, &SPLIT_5, &SPLIT_6, &SPLIT_7];

fn parts<T: Real, const K: usize>(args: &mut Args<'_, T>) {
    let (run, x) = (args.size("RUN"), args.f(0)); // x [outer, RUN]
    let mut start = 0;
    for (k, name) in SIZES.into_iter().enumerate().take(K) {
        let size = args.size(name);
        let y = args.f_mut(k + 1); // [outer, SIZE_k]
        for (y, x) in y.chunks_mut(size).zip(x.chunks(run)) {
            y.copy_from_slice(&x[start..][..size]);
        }
        start += size;
    }
}

/// First, middle and last axis, unequal parts, two to seven of them, several workgroups.
pub fn cases() -> Vec<Case> {
    let case = |extents: &[usize], axis: usize, sizes: &[usize]| {
        let op = Split {
            axis,
            sizes: sizes.to_vec(),
        };
        Case::new(op, 1).float(extents, Fill::Uniform(-1.0, 1.0))
    };
    let mut cases = vec![
        case(&[2], 0, &[1, 1]),
        case(&[5, 7], 1, &[3, 4]),
        case(&[7, 3], 0, &[1, 4, 2]),
        case(&[3, 11, 5], 1, &[3, 1, 2, 5]),
        case(&[3, 17], 1, &[2, 9, 1, 1, 4]),
        case(&[2, 13, 5], 1, &[3, 1, 2, 4, 1, 2]),
        case(&[5, 15, 3], 1, &[1, 2, 3, 1, 5, 1, 2]),
    ];
    // Several workgroups of each kernel.
    cases.extend((2..=MOST_PARTS).map(|count| {
        let sizes: Vec<usize> = (1..=count).collect();
        case(&[131, sizes.iter().sum()], 1, &sizes).forward_only()
    }));
    cases
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::Graph;

    fn x(extents: &[usize]) -> (Graph, Value) {
        let mut graph = Graph::new();
        let ty = Type::f32("test", extents).unwrap();
        let x = graph.variable("x", ty).unwrap();
        graph.begin("run");
        (graph, x)
    }

    fn extents(graph: &Graph, values: &[Value]) -> Vec<Vec<usize>> {
        let each = values.iter().map(|&v| graph.ty(v).unwrap());
        each.map(|ty| ty.shape.extents().to_vec()).collect()
    }

    #[test]
    fn many_are_a_tree_of_launches() {
        for (count, launches) in [(1, 0), (2, 1), (7, 1), (8, 2), (9, 3), (49, 8), (50, 9)] {
            let (mut graph, x) = x(&[2, count]);
            let nodes = graph.nodes().len();
            let parts = split(&mut graph, x, &vec![1; count], 1).unwrap();
            assert_eq!(extents(&graph, &parts), vec![vec![2, 1]; count]);
            assert_eq!(graph.nodes().len() - nodes, launches, "{count}");
        }
    }

    #[test]
    fn chunks_and_places_have_pytorchs_shapes() {
        let (mut graph, x) = x(&[2, 7]);
        let parts = chunk(&mut graph, x, 3, 1).unwrap();
        assert_eq!(extents(&graph, &parts), [[2, 3], [2, 3], [2, 1]]);
        // 7 over 4 are 2 each: so there are four, but 7 over 5 are 2 each as well.
        assert_eq!(chunk(&mut graph, x, 5, 1).unwrap().len(), 4);
        let parts = unbind(&mut graph, x, 0).unwrap();
        assert_eq!(extents(&graph, &parts), [[7], [7]]);
        assert_eq!(unbind(&mut graph, parts[0], 0).unwrap().len(), 7);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let (mut graph, x) = x(&[2, 7]);
        let mut refused =
            |sizes: &[usize], dim| split(&mut graph, x, sizes, dim).unwrap_err().to_string();
        assert!(refused(&[3, 3], 1).contains("all of them"));
        assert!(refused(&[], 1).contains("all of them"));
        assert!(refused(&[7, 0], 1).contains("all of them"));
        assert!(refused(&[usize::MAX, 8], 1).contains("all of them"));
        assert!(refused(&[2], 2).contains("axis 2"));
        assert!(chunk(&mut graph, x, 0, 1).is_err());
        assert!(chunk(&mut graph, x, 1, 2).is_err());
        assert!(unbind(&mut graph, x, 2).is_err());
    }
}

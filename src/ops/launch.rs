//! How ops are launched: workgroups, and what most launches have in common.

use super::{Alternative, Lowered, Operand};
use crate::kernel::{Kernel, SINGLE, Target};
use crate::shape::Type;

/// Workgroups in x and y for `items` work items, `workgroup` of them in each, no dimension above
/// WebGPU's 65,535. The item of a thread is `(group.y * groups.x + group.x) * workgroup + lane`,
/// by `workgroup_id`, `num_workgroups` and `local_invocation_index`; the last may lie past the end.
pub fn grid(items: usize, workgroup: usize) -> [u32; 2] {
    let groups = items.div_ceil(workgroup);
    let y = groups.div_ceil(65_535);
    [groups.div_ceil(y) as u32, y as u32]
}

/// Threads in a workgroup of an elementwise kernel (`@workgroup_size(64)`).
pub(crate) const ELEMENTWISE: usize = 64;

/// A launch of one thread per element of output 0: the op's first `inputs` inputs, then
/// that output. The constant `N` is the number of elements.
pub(super) fn per_element(
    kernel: &'static Kernel,
    inputs: usize,
    output: &Type,
    constants: &[(&'static str, f64)],
) -> Lowered {
    let n = output.elements();
    Lowered {
        kernel,
        constants: [&[("N", n as f64)], constants].concat(),
        operands: operands(inputs),
        grid: grid(n, ELEMENTWISE),
        flops: n as u64,
        alternatives: vec![],
    }
}

/// The same of kernels whose threads have four elements each: more workgroups than a GPU has room for start one after
/// the other, which takes longer than what they copy.
pub(super) fn per_four(
    kernel: &'static Kernel,
    inputs: usize,
    output: &Type,
    constants: &[(&'static str, f64)],
) -> Lowered {
    Lowered {
        grid: grid(output.elements(), 4 * ELEMENTWISE),
        ..per_element(kernel, inputs, output, constants)
    }
}

/// A launch of one workgroup per row of a matrix `[N, K]`; `work` operations per element.
pub(super) fn per_row(
    kernel: &'static Kernel,
    inputs: usize,
    [n, k]: [usize; 2],
    work: usize,
) -> Lowered {
    Lowered {
        kernel,
        constants: vec![("N", n as f64), ("K", k as f64)],
        operands: operands(inputs),
        grid: grid(n, 1),
        flops: (n * k * work) as u64,
        alternatives: vec![],
    }
}

/// A launch over the rows along an axis, of sizes `[outer, K, inner]`: by `kernels[0]`, a
/// workgroup for each, or by `kernels[1]`, a thread for each, where rows are short and neighbours
/// in memory are of different rows.
pub(super) fn along_axis(
    kernels: [&'static Kernel; 2],
    inputs: usize,
    [outer, k, inner]: [usize; 3],
    work: usize,
) -> Lowered {
    let n = outer * inner;
    let across = inner > 1 && k <= ACROSS;
    Lowered {
        kernel: kernels[usize::from(across)],
        constants: vec![("N", n as f64), ("K", k as f64), ("INNER", inner as f64)],
        operands: operands(inputs),
        grid: grid(n, if across { ELEMENTWISE } else { 1 }),
        flops: (n * k * work) as u64,
        alternatives: vec![],
    }
}

/// Elements up to which a thread makes a row by itself, if neighbours are of different rows.
const ACROSS: usize = 128;

/// Threads of a workgroup that shares a sum of so many terms, for kernels with the constant
/// `LANES`: of few terms a long tree would take longer than the terms.
pub(super) fn lanes(terms: usize) -> (&'static str, f64) {
    ("LANES", if terms <= 1024 { 64.0 } else { 256.0 })
}

fn operands(inputs: usize) -> Vec<Operand> {
    let inputs = (0..inputs).map(Operand::In);
    inputs.chain([Operand::Out(0)]).collect()
}

/// The elements that a run has at least.
const RUN: usize = 4096;
/// Workgroups that keep any GPU busy.
const BUSY: usize = 512;

/// Into how many runs each of `results` sums of `terms` terms is cut, to be added up by a launch of
/// its own; 1 where a second launch would take longer than it saves.
pub(super) fn runs(results: usize, terms: usize) -> usize {
    match (terms / RUN).min(BUSY / results) {
        0..8 => 1,
        many => many.min(256),
    }
}

/// Multiply-adds up to which one workgroup may do a launch: some tens of microseconds.
pub(super) const SINGLE_WORK: usize = 1 << 20;
/// Elements that it may copy, likewise.
pub(super) const SINGLE_ELEMENTS: usize = 1 << 16;

impl Lowered {
    /// The variants of the launch by one workgroup, whose threads share `bytes`: the constant `THREADS` is how many
    /// they are.
    pub(super) fn by_one_workgroup(&self, kernel: &'static Kernel, bytes: u32) -> Vec<Alternative> {
        let variant = |threads| {
            let mut variant = self.otherwise(Target::Single { threads, bytes }, kernel, [1, 1]);
            variant.constants.push(("THREADS", f64::from(threads)));
            variant
        };
        SINGLE.map(variant).into()
    }

    /// The variant of the launch by threads that share nothing, one for each of `items`.
    pub(super) fn side_by_side(&self, kernel: &'static Kernel, items: usize) -> Alternative {
        let target = Target::Single {
            threads: ELEMENTWISE as u32,
            bytes: 0,
        };
        self.otherwise(target, kernel, grid(items, ELEMENTWISE))
    }
}

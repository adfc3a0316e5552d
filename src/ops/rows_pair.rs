//! The mini-batches of two columns in one launch, which begins the step: [`rows`](super::rows) of inputs and of
//! targets.
//!
//! As [`gather`](super::gather) it copies the step counter's `next` into `now`, so a fused kernel may have counted
//! `next` up in the middle of the step before.

use super::launch::SINGLE_ELEMENTS;
use super::rows::Rows;
use super::{
    Case, ELEMENTWISE, Fill, Lowered, Lowering, NEXT, NOW, Op, Operand, arity, counter, grid,
};
use crate::error::{Error, Result};
use crate::kernel::{Args, Bind, Demand, Kernel};
use crate::shape::{DType, Type};
use crate::tensor::Real;

/// Inputs: two columns (shared), order `[rows]`, step `[2]` (updated: it begins); outputs
/// `[batch, extents…]` of each column, as [`Rows`] gives them.
#[derive(Clone, Debug, PartialEq)]
pub struct RowsPair {
    /// Of the first column.
    pub first: Rows,
    /// Of the second, which is not of bytes.
    pub second: Rows,
}

impl RowsPair {
    /// Whether one launch can do both.
    pub fn fits(first: &Rows, second: &Rows) -> bool {
        let same = |rows: &Rows| (rows.batch, rows.rows, rows.epoch_steps);
        same(first) == same(second) && second.bytes.is_none()
    }
}

impl Op for RowsPair {
    fn name(&self) -> &'static str {
        "rows_pair"
    }

    fn infer(&self, inputs: &[Type]) -> Result<Vec<Type>> {
        let wanted = "column, column, order, step";
        let [first, second, order, step] = arity("rows_pair", inputs, wanted)?;
        counter("rows_pair", step)?;
        if !Self::fits(&self.first, &self.second) {
            let found = format!("{:?} and {:?}", self.first, self.second);
            let wanted = "two columns of as many rows, the second not of bytes";
            return Err(Error::shape("rows_pair", found, wanted));
        }
        let of = |rows: &Rows, column: &Type| rows.infer(&[column, order, step].map(Clone::clone));
        Ok([of(&self.first, first)?, of(&self.second, second)?].concat())
    }

    fn lower(&self, inputs: &[Type], outputs: &[Type]) -> Result<Lowering> {
        let kernel = match (self.first.bytes, inputs[0].dtype, inputs[1].dtype) {
            (Some(_), _, DType::U32) => &BYTES_INTEGERS,
            (Some(_), _, DType::F32) => &BYTES_FLOATS,
            (None, DType::F32, DType::U32) => &FLOATS_INTEGERS,
            (None, DType::F32, DType::F32) => &FLOATS_FLOATS,
            (None, DType::U32, DType::U32) => &INTEGERS_INTEGERS,
            (None, DType::U32, DType::F32) => &INTEGERS_FLOATS,
        };
        let (first, second) = (&self.first, &self.second);
        let words = inputs[0].elements();
        let length = match first.bytes {
            Some(_) => words * 4,
            None => words,
        };
        let mut lowered = Lowered {
            kernel,
            constants: vec![
                ("BATCH", first.batch as f64),
                ("ROWS", first.rows as f64),
                ("EPOCH_STEPS", first.epoch_steps as f64),
                ("SCALE", first.bytes.unwrap_or(1.0)),
                ("SIZE", first.size() as f64),
                ("STRIDE", first.stride as f64),
                ("START", first.start as f64),
                ("LENGTH", length as f64),
                ("SIZE_2", second.size() as f64),
                ("STRIDE_2", second.stride as f64),
                ("START_2", second.start as f64),
                ("LENGTH_2", inputs[1].elements() as f64),
            ],
            operands: vec![
                Operand::In(0),
                Operand::In(1),
                Operand::In(2),
                Operand::In(3),
                Operand::Out(0),
                Operand::Out(1),
            ],
            grid: grid(outputs[0].elements() + outputs[1].elements(), ELEMENTWISE),
            flops: 0,
            alternatives: vec![],
        };
        if std::ptr::eq(kernel, &BYTES_INTEGERS) && first.batch * first.size() <= SINGLE_ELEMENTS {
            lowered.alternatives = lowered.by_one_workgroup(&BYTES_INTEGERS_SINGLE, 0);
        }
        Ok(Lowering::Launch(lowered))
    }
}

/// Bindings of a pair: how a column is bound, and what is made of it.
macro_rules! bindings {
    ($first:expr, $second:expr, $x:expr, $y:expr) => {
        &[
            $first,
            $second.shared().of("LENGTH_2"),
            Bind::read("order").u32().of("ROWS"),
            Bind::update("step").u32().of("2"),
            $x.of("BATCH * SIZE"),
            $y.of("BATCH * SIZE_2"),
        ]
    };
}

/// Floats and integers.
pub static FLOATS_INTEGERS: Kernel = Kernel {
    name: "rows_floats_integers",
    // As of `gather_shuffled`, whose loads wait for each other alike.
    demand: Demand {
        rounds: "9",
        issue: "60",
        words: "192",
        ..Demand::UNSTATED
    },
    turns: "0",
    stem: "rows_pair",
    source: concat!(
        include_str!("../../shaders/shared/grid.wgsl"),
        include_str!("../../shaders/rows_pair.wgsl"),
    ),
    bindings: bindings!(
        Bind::read("floats").shared().of("LENGTH"),
        Bind::read("second_integers").u32(),
        Bind::write("x"),
        Bind::write("y_integers").u32()
    ),
    constants: &[
        "BATCH",
        "ROWS",
        "EPOCH_STEPS",
        "SCALE",
        "SIZE",
        "STRIDE",
        "START",
        "LENGTH",
        "SIZE_2",
        "STRIDE_2",
        "START_2",
        "LENGTH_2",
    ],
    reference: crate::reference!(floats_integers),
    optimized: None,
    trusted: true,
    ports: &[],
    finishing: None,
};

/// Floats twice.
pub static FLOATS_FLOATS: Kernel = Kernel {
    name: "rows_floats_floats",
    bindings: bindings!(
        Bind::read("floats").shared().of("LENGTH"),
        Bind::read("second_floats"),
        Bind::write("x"),
        Bind::write("y")
    ),
    reference: crate::reference!(floats_floats),
    ..FLOATS_INTEGERS
};

/// Integers twice.
pub static INTEGERS_INTEGERS: Kernel = Kernel {
    name: "rows_integers_integers",
    bindings: bindings!(
        Bind::read("integers").u32().shared().of("LENGTH"),
        Bind::read("second_integers").u32(),
        Bind::write("x_integers").u32(),
        Bind::write("y_integers").u32()
    ),
    reference: crate::reference!(integers_integers),
    ..FLOATS_INTEGERS
};

/// Integers and floats.
pub static INTEGERS_FLOATS: Kernel = Kernel {
    name: "rows_integers_floats",
    bindings: bindings!(
        Bind::read("integers").u32().shared().of("LENGTH"),
        Bind::read("second_floats"),
        Bind::write("x_integers").u32(),
        Bind::write("y")
    ),
    reference: crate::reference!(integers_floats),
    ..FLOATS_INTEGERS
};

/// Bytes, scaled, and integers.
pub static BYTES_INTEGERS: Kernel = Kernel {
    name: "rows_bytes_integers",
    bindings: bindings!(
        Bind::read("integers").u32().shared().of("LENGTH / 4"),
        Bind::read("second_integers").u32(),
        Bind::write("x"),
        Bind::write("y_integers").u32()
    ),
    reference: crate::reference!(bytes_integers),
    ..FLOATS_INTEGERS
};

/// [`BYTES_INTEGERS`] by one workgroup.
pub static BYTES_INTEGERS_SINGLE: Kernel = Kernel {
    name: "rows_bytes_integers_single",
    // As of `gather_shuffled_single`.
    demand: Demand {
        rounds: "BATCH * SIZE / THREADS / 8 * 9 + 1",
        issue: "BATCH * SIZE / THREADS * 25 + 50",
        words: "BATCH * SIZE * 3 / 2 + BATCH",
        ..Demand::UNSTATED
    },
    turns: "BATCH * SIZE / THREADS + BATCH * SIZE_2 / THREADS",
    source: concat!(
        include_str!("../../shaders/rows_pair.wgsl"),
        include_str!("../../shaders/shared/grid.wgsl"),
        include_str!("../../shaders/shared/single.wgsl"),
        include_str!("../../shaders/rows_pair/single.wgsl"),
    ),
    constants: &[
        "BATCH",
        "ROWS",
        "EPOCH_STEPS",
        "SCALE",
        "SIZE",
        "STRIDE",
        "START",
        "LENGTH",
        "SIZE_2",
        "STRIDE_2",
        "START_2",
        "LENGTH_2",
        "THREADS",
    ],
    ..BYTES_INTEGERS
};

/// Bytes, scaled, and floats.
pub static BYTES_FLOATS: Kernel = Kernel {
    name: "rows_bytes_floats",
    bindings: bindings!(
        Bind::read("integers").u32().shared().of("LENGTH / 4"),
        Bind::read("second_floats"),
        Bind::write("x"),
        Bind::write("y")
    ),
    reference: crate::reference!(bytes_floats),
    ..FLOATS_INTEGERS
};

/// The kernels of this file.
pub static KERNELS: &[&Kernel] = &[
    &FLOATS_INTEGERS,
    &FLOATS_FLOATS,
    &INTEGERS_INTEGERS,
    &INTEGERS_FLOATS,
    &BYTES_INTEGERS,
    &BYTES_INTEGERS_SINGLE,
    &BYTES_FLOATS,
];

/// Where the rows of one column stand, at a step.
struct Part {
    step: u32,
    size: usize,
    stride: usize,
    start: usize,
}

impl Part {
    fn first<T: Real>(a: &Args<'_, T>, step: u32) -> Self {
        Self {
            step,
            size: a.size("SIZE"),
            stride: a.size("STRIDE"),
            start: a.size("START"),
        }
    }

    fn second<T: Real>(a: &Args<'_, T>, step: u32) -> Self {
        Self {
            step,
            size: a.size("SIZE_2"),
            stride: a.size("STRIDE_2"),
            start: a.size("START_2"),
        }
    }

    /// Hands `write` where each example goes, and where its row begins.
    fn each<T: Real>(&self, a: &Args<'_, T>, mut write: impl FnMut(usize, usize)) {
        let (batch, rows) = (a.size("BATCH"), a.size("ROWS"));
        let now = self.step as usize % a.size("EPOCH_STEPS");
        for n in 0..batch {
            let position = (now * batch + n).min(rows - 1);
            let row = (a.u(2)[position] as usize).min(rows - 1);
            write(n * self.size, row * self.stride + self.start);
        }
    }

    fn copy<T: Real, E: Copy>(&self, a: &Args<'_, T>, column: &[E], made: &mut [E]) {
        self.each(a, |to, from| {
            made[to..][..self.size].copy_from_slice(&column[from..][..self.size]);
        });
    }
}

/// Begins the step, which has this number.
fn begin<T: Real>(a: &mut Args<'_, T>) -> u32 {
    let step = a.u_mut(3); // [2]
    step[NOW] = step[NEXT];
    step[NOW]
}

fn first_floats<T: Real>(a: &mut Args<'_, T>, step: u32) {
    let (column, x) = (a.f(0), a.f_mut(4)); // [LENGTH], [BATCH, SIZE]
    Part::first(a, step).copy(a, column, x);
}

fn first_integers<T: Real>(a: &mut Args<'_, T>, step: u32) {
    let (column, x) = (a.u(0), a.u_mut(4)); // [LENGTH], [BATCH, SIZE]
    Part::first(a, step).copy(a, column, x);
}

fn first_bytes<T: Real>(a: &mut Args<'_, T>, step: u32) {
    let scale = T::of(a.number("SCALE"));
    let (words, x) = (a.u(0), a.f_mut(4)); // [LENGTH / 4], [BATCH, SIZE]
    let part = Part::first(a, step);
    part.each(a, |to, from| {
        for (x, at) in x[to..][..part.size].iter_mut().zip(from..) {
            let byte = words[at / 4] >> (8 * (at % 4)) & 255;
            *x = scale * T::of(f64::from(byte));
        }
    });
}

fn second_floats<T: Real>(a: &mut Args<'_, T>, step: u32) {
    let (column, y) = (a.f(1), a.f_mut(5)); // [LENGTH_2], [BATCH, SIZE_2]
    Part::second(a, step).copy(a, column, y);
}

fn second_integers<T: Real>(a: &mut Args<'_, T>, step: u32) {
    let (column, y) = (a.u(1), a.u_mut(5)); // [LENGTH_2], [BATCH, SIZE_2]
    Part::second(a, step).copy(a, column, y);
}

/// The reference of a pair.
macro_rules! pair {
    ($($name:ident: $first:ident, $second:ident;)*) => {
        $(fn $name<T: Real>(a: &mut Args<'_, T>) {
            let step = begin(a);
            $first(a, step);
            $second(a, step);
        })*
    };
}
pair! {
    floats_integers: first_floats, second_integers;
    floats_floats: first_floats, second_floats;
    integers_integers: first_integers, second_integers;
    integers_floats: first_integers, second_floats;
    bytes_integers: first_bytes, second_integers;
    bytes_floats: first_bytes, second_floats;
}

/// Every pair of types; one element, rows that straddle words and workgroups, windows that overlap, the middle of a
/// later epoch, places past the end.
pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (batch, rows, [size, other], stride, start, step) in [
        (1, 1, [1, 1], 1, 0, 0),
        (3, 7, [5, 1], 5, 0, 1),
        (4, 9, [3, 70], 4, 2, 3),
        (5, 11, [7, 7], 1, 1, 5),
        (2, 3, [300, 2], 300, 0, 4),
        (67, 130, [1, 3], 1, 0, 3),
        (3, 5, [700, 2], 700, 0, 1),
    ] {
        let of = |size: usize, stride: usize, start: usize, bytes: Option<f64>| Rows {
            batch,
            rows,
            extents: vec![size],
            stride,
            start,
            epoch_steps: 2,
            bytes,
        };
        let length = |of: &Rows| (rows - 1) * of.stride + of.start + of.size();
        let column = |case: Case, of: &Rows, floats: bool| match (of.bytes, floats) {
            (Some(_), _) => case.shared_u32(&[length(of).div_ceil(4)], Fill::Words),
            (None, true) => case.shared_float(&[length(of)], Fill::Uniform(-1.0, 1.0)),
            (None, false) => case.shared_u32(&[length(of)], Fill::Below(1000)),
        };
        let scale = Some(1.0 / 255.0);
        for (bytes, first_floats) in [(None, true), (None, false), (scale, true)] {
            for second_floats in [true, false] {
                let first = of(size, stride, start, bytes);
                let second = of(other, other, 0, None);
                let case = Case::new(
                    RowsPair {
                        first: first.clone(),
                        second: second.clone(),
                    },
                    1,
                );
                let case = column(case, &first, first_floats);
                let case = column(case, &second, second_floats);
                let case = case.u32(&[rows], Fill::Below(rows as u32));
                cases.push(case.u32(&[2], Fill::Pair(step, 77)));
            }
        }
    }
    cases
}

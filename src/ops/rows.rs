//! A mini-batch of rows of a column that lies on the device: the general form of
//! [`gather`](super::gather), for data of any extents.
//!
//! Example n of step t stands at place q = (t mod epoch steps) · batch + n of the epoch, which is row
//! r = order\[q\] of the column. Row r begins at element r · stride + start; where rows overlap, as the
//! windows of a text do, the column holds each element once. Nothing is differentiated: data has no
//! gradient.

use super::{
    Case, ELEMENTWISE, Fill, Lowered, Lowering, NOW, Op, Operand, arity, counter, epoch_steps,
    exactly, grid,
};
use crate::error::{Error, Result};
use crate::kernel::{Args, Bind, Demand, Kernel};
use crate::shape::{DType, Type};
use crate::tensor::{Real, held};

/// Inputs: the column (shared), order `[rows]`, step `[2]`, both of whose words hold the step's number where a program
/// begins (fused to a [`RowsPair`](super::rows_pair::RowsPair), the first of them is read); output `[batch, extents…]`. A column of
/// floats or integers gives such; packed bytes, four to a word, give floats.
///
/// Places past the end of the data give the last row again.
#[derive(Clone, Debug, PartialEq)]
pub struct Rows {
    /// Examples in a mini-batch.
    pub batch: usize,
    /// Rows that there are.
    pub rows: usize,
    /// Extents of one row.
    pub extents: Vec<usize>,
    /// Elements from the beginning of a row to that of the next.
    pub stride: usize,
    /// Elements before row 0.
    pub start: usize,
    /// Steps in an epoch.
    pub epoch_steps: usize,
    /// What a byte is multiplied by; `None` for a column of whole words.
    pub bytes: Option<f64>,
}

impl Rows {
    /// Elements of a row.
    pub(super) fn size(&self) -> usize {
        self.extents.iter().product()
    }

    /// The elements that the column must have.
    fn length(&self) -> Option<usize> {
        let last = self.rows.checked_sub(1)?.checked_mul(self.stride)?;
        last.checked_add(self.start)?.checked_add(self.size())
    }
}

impl Op for Rows {
    fn name(&self) -> &'static str {
        "rows"
    }

    fn infer(&self, inputs: &[Type]) -> Result<Vec<Type>> {
        let [column, order, step] = arity("rows", inputs, "column, order, step")?;
        let extents = [&[self.batch][..], &self.extents].concat();
        let y = Type {
            dtype: match self.bytes {
                Some(_) => DType::F32,
                None => column.dtype,
            },
            ..Type::f32("rows", &extents)?
        };
        let words = match self.bytes {
            Some(_) => column.elements() * 4,
            None => column.elements(),
        };
        let integers = self.bytes.is_none() || column.dtype == DType::U32;
        let enough = self.length().is_some_and(|length| length <= words);
        if !(column.shared && integers && enough) {
            let (rows, stride, start) = (self.rows, self.stride, self.start);
            return Err(Error::shape(
                "rows",
                column.to_string(),
                format!(
                    "a shared column of {rows} rows {:?}, {stride} elements apart from {start} on",
                    self.extents
                ),
            ));
        }
        exactly("rows", "order", order, &Type::u32("rows", &[self.rows])?)?;
        counter("rows", step)?;
        epoch_steps("rows", self.epoch_steps)?;
        if let Some(scale) = self.bytes.filter(|scale| !held(*scale)) {
            return Err(Error::setting(
                "scale of rows",
                scale,
                "a number of 32 bits",
            ));
        }
        Ok(vec![y])
    }

    fn lower(&self, inputs: &[Type], outputs: &[Type]) -> Result<Lowering> {
        let words = inputs[0].elements();
        let length = if self.bytes.is_some() {
            words * 4
        } else {
            words
        };
        let kernel = match (self.bytes, inputs[0].dtype) {
            (Some(_), _) => &ROWS_BYTES,
            (None, DType::F32) => &ROWS,
            (None, DType::U32) => &ROWS_INTEGERS,
        };
        Ok(Lowering::Launch(Lowered {
            kernel,
            constants: vec![
                ("BATCH", self.batch as f64),
                ("ROWS", self.rows as f64),
                ("SIZE", self.size() as f64),
                ("STRIDE", self.stride as f64),
                ("START", self.start as f64),
                ("LENGTH", length as f64),
                ("EPOCH_STEPS", self.epoch_steps as f64),
                ("SCALE", self.bytes.unwrap_or(1.0)),
            ],
            operands: vec![
                Operand::In(0),
                Operand::In(1),
                Operand::In(2),
                Operand::Out(0),
            ],
            grid: grid(outputs[0].elements(), ELEMENTWISE),
            flops: 0,
            alternatives: vec![],
        }))
    }
}

/// x = rows of floats.
pub static ROWS: Kernel = Kernel {
    name: "rows",
    turns: "0",
    stem: "rows",
    source: concat!(
        include_str!("../../shaders/shared/grid.wgsl"),
        include_str!("../../shaders/rows.wgsl"),
    ),
    bindings: &[
        Bind::read("floats").shared().of("LENGTH"),
        Bind::read("order").u32().of("ROWS"),
        Bind::read("step").u32().of("2"),
        Bind::write("x").of("BATCH * SIZE"),
    ],
    constants: &[
        "BATCH",
        "ROWS",
        "SIZE",
        "STRIDE",
        "START",
        "LENGTH",
        "EPOCH_STEPS",
        "SCALE",
    ],
    reference: crate::reference!(rows),
    optimized: None,
    // As of `gather_shuffled`, whose loads wait for each other alike.
    demand: Demand {
        rounds: "9",
        issue: "50",
        words: "192",
        ..Demand::UNSTATED
    },
    trusted: true,
    ports: &[],
    finishing: None,
};

/// y = rows of integers.
pub static ROWS_INTEGERS: Kernel = Kernel {
    name: "rows_integers",
    bindings: &[
        Bind::read("integers").u32().shared().of("LENGTH"),
        Bind::read("order").u32().of("ROWS"),
        Bind::read("step").u32().of("2"),
        Bind::write("y").u32().of("BATCH * SIZE"),
    ],
    reference: crate::reference!(rows_integers),
    ..ROWS
};

/// x = rows of bytes, scaled.
pub static ROWS_BYTES: Kernel = Kernel {
    name: "rows_bytes",
    bindings: &[
        Bind::read("integers").u32().shared().of("LENGTH / 4"),
        Bind::read("order").u32().of("ROWS"),
        Bind::read("step").u32().of("2"),
        Bind::write("x").of("BATCH * SIZE"),
    ],
    reference: crate::reference!(rows_bytes),
    ..ROWS
};

/// The kernels of this file.
pub static KERNELS: &[&Kernel] = &[&ROWS, &ROWS_INTEGERS, &ROWS_BYTES];

/// Hands `write` each example's number and where its row begins.
fn each<T: Real>(a: &Args<'_, T>, mut write: impl FnMut(usize, usize)) {
    let (batch, rows) = (a.size("BATCH"), a.size("ROWS"));
    let now = a.u(2)[NOW] as usize % a.size("EPOCH_STEPS");
    for n in 0..batch {
        let position = (now * batch + n).min(rows - 1);
        let row = (a.u(1)[position] as usize).min(rows - 1);
        write(n, row * a.size("STRIDE") + a.size("START"));
    }
}

fn rows<T: Real>(a: &mut Args<'_, T>) {
    let size = a.size("SIZE");
    let (column, x) = (a.f(0), a.f_mut(3)); // [LENGTH], [BATCH, SIZE]
    each(a, |n, at| {
        x[n * size..][..size].copy_from_slice(&column[at..][..size]);
    });
}

fn rows_integers<T: Real>(a: &mut Args<'_, T>) {
    let size = a.size("SIZE");
    let (column, y) = (a.u(0), a.u_mut(3)); // [LENGTH], [BATCH, SIZE]
    each(a, |n, at| {
        y[n * size..][..size].copy_from_slice(&column[at..][..size]);
    });
}

fn rows_bytes<T: Real>(a: &mut Args<'_, T>) {
    let size = a.size("SIZE");
    let scale = T::of(a.number("SCALE"));
    let (words, x) = (a.u(0), a.f_mut(3)); // [LENGTH / 4], [BATCH, SIZE]
    each(a, |n, at| {
        for (x, at) in x[n * size..][..size].iter_mut().zip(at..) {
            let byte = words[at / 4] >> (8 * (at % 4)) & 255;
            *x = scale * T::of(f64::from(byte));
        }
    });
}

/// One element, rows that straddle words and workgroups, windows that overlap, the middle of a
/// later epoch, places past the end.
pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (batch, rows, size, stride, start, step) in [
        (1, 1, 1, 1, 0, 0),
        (3, 7, 5, 5, 0, 1),
        (4, 9, 3, 4, 2, 3),
        (5, 11, 7, 1, 1, 5),
        (2, 3, 300, 300, 0, 4),
        (67, 130, 1, 1, 0, 3),
    ] {
        for bytes in [None, Some(1.0 / 255.0)] {
            let op = Rows {
                batch,
                rows,
                extents: vec![size],
                stride,
                start,
                epoch_steps: 2,
                bytes,
            };
            let length = (rows - 1) * stride + start + size;
            let finish = |case: Case| {
                let case = case.u32(&[rows], Fill::Below(rows as u32));
                case.u32(&[2], Fill::Pair(77, step))
            };
            let new = || Case::new(op.clone(), 1);
            if bytes.is_some() {
                let words = length.div_ceil(4);
                cases.push(finish(new().shared_u32(&[words], Fill::Words)));
            } else {
                let floats = new().shared_float(&[length], Fill::Uniform(-1.0, 1.0));
                cases.push(finish(floats));
                cases.push(finish(new().shared_u32(&[length], Fill::Below(1000))));
            }
        }
    }
    cases
}

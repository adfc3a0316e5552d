//! The one door to the GEMM crate: the only `unsafe` of the kernels. (`threads/crew.rs` lends work to threads.)

#![allow(unsafe_code)]

use crate::threads::prelude::*;

/// A matrix over a slice: element (i, j) stands at `i * row + j * col`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Matrix<'a> {
    /// The elements.
    pub data: &'a [f32],
    /// Distance between rows.
    pub row: usize,
    /// Distance between columns.
    pub col: usize,
}

impl<'a> Matrix<'a> {
    /// A row-major matrix of `cols` columns; `transposed` reads it the other way round.
    pub(crate) fn of(data: &'a [f32], cols: usize, transposed: bool) -> Self {
        let (row, col) = if transposed { (1, cols) } else { (cols, 1) };
        Self { data, row, col }
    }

    fn reaches(&self, rows: usize, cols: usize) -> bool {
        rows > 0 && cols > 0 && (rows - 1) * self.row + (cols - 1) * self.col < self.data.len()
    }
}

/// Multiply-adds below which a product is not worth a second thread.
const SPLIT: usize = 1 << 18;

/// C = A B (+ C with `accumulate`), C row-major `[m, n]`, A `[m, k]`, B `[k, n]`.
///
/// Large products are cut into bands of rows or columns for several threads; the cut
/// depends on the sizes alone, so results do not depend on the number of threads.
pub(crate) fn gemm(
    [m, n, k]: [usize; 3],
    a: Matrix<'_>,
    b: Matrix<'_>,
    c: &mut [f32],
    accumulate: bool,
) {
    assert!(a.reaches(m, k) && b.reaches(k, n) && c.len() == m * n);
    let pieces = (m * n * k / SPLIT).clamp(1, 4);
    if pieces == 1 {
        return block([m, n, k], a, b, c, n, accumulate);
    }
    if m >= 2 * pieces {
        let band = m.div_ceil(pieces);
        c.par_chunks_mut(band * n).enumerate().share(|(i, c)| {
            let a = Matrix {
                data: &a.data[i * band * a.row..],
                ..a
            };
            block([c.len() / n, n, k], a, b, c, n, accumulate);
        });
    } else {
        // Few rows: cut the columns. Bands interleave in memory, so each thread
        // computes its own and they are put in place afterwards.
        let band = n.div_ceil(pieces);
        let width = |i: usize| band.min(n - i * band);
        let parts = (0..n.div_ceil(band)).map(|i| vec![0.0; m * width(i)]);
        let mut parts: Vec<Vec<f32>> = parts.collect();
        parts.par_chunks_mut(1).enumerate().share(|(i, part)| {
            let b = Matrix {
                data: &b.data[i * band * b.col..],
                ..b
            };
            block([m, width(i), k], a, b, &mut part[0], width(i), false);
        });
        for (i, part) in parts.iter().enumerate() {
            let width = part.len() / m;
            for (row, values) in part.chunks(width).enumerate() {
                let c = &mut c[row * n + i * band..][..width];
                for (c, &v) in c.iter_mut().zip(values) {
                    *c = if accumulate { *c + v } else { v };
                }
            }
        }
    }
}

/// [`gemm`] on this thread alone.
pub(crate) fn serial(
    [m, n, k]: [usize; 3],
    a: Matrix<'_>,
    b: Matrix<'_>,
    c: &mut [f32],
    accumulate: bool,
) {
    block([m, n, k], a, b, c, n, accumulate);
}

fn block(
    [m, n, k]: [usize; 3],
    a: Matrix<'_>,
    b: Matrix<'_>,
    c: &mut [f32],
    c_row: usize,
    accumulate: bool,
) {
    assert!(a.reaches(m, k) && b.reaches(k, n) && (m - 1) * c_row + n <= c.len());
    // SAFETY: the assertion above bounds every element that the strides reach.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            c.as_mut_ptr(),
            1,
            c_row as isize,
            accumulate,
            a.data.as_ptr(),
            a.col as isize,
            a.row as isize,
            b.data.as_ptr(),
            b.col as isize,
            b.row as isize,
            1.0f32,
            1.0f32,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}

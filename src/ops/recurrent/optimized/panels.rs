//! Products of a few examples with the recurrent weights, which stay the same for all steps: W is
//! put together once in panels, as a register's lanes stand beside each other, and each panel is
//! then gone through by a few examples at a time, every sum in a register.

use pulp::{Simd, WithSimd};

use crate::ops::registers::Registers;
use crate::threads::prelude::*;

/// Which side of W `[G H, H]` an example's row meets.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Side {
    /// Rows of W, as the state does: results `[G H]`.
    Rows,
    /// Columns of W, as the gates' gradients do: results `[H]`.
    Columns,
}

/// W in panels. A panel makes `lanes` units of each gate or, of columns, [`BESIDE`] times `lanes`
/// neighbours; its numbers are `[terms, registers, lanes]`, with zeros where there is no unit.
pub(super) struct Panels {
    data: Vec<f32>,
    side: Side,
    h: usize,
    terms: usize,
    registers: usize,
    lanes: usize,
}

/// Registers of neighbouring columns that share what is loaded of an example.
const BESIDE: usize = 4;

impl Panels {
    pub(super) fn new(w: &[f32], h: usize, gates: usize, side: Side) -> Self {
        let lanes = Registers::here().lanes;
        let (terms, registers) = match side {
            Side::Rows => (h, gates),
            Side::Columns => (gates * h, BESIDE),
        };
        let mut panels = Self {
            data: vec![],
            side,
            h,
            terms,
            registers,
            lanes,
        };
        let count = match side {
            Side::Rows => h.div_ceil(lanes),
            Side::Columns => h.div_ceil(BESIDE * lanes),
        };
        let size = terms * registers * lanes;
        let mut data = vec![0.0; count * size];
        data.par_chunks_mut(size)
            .enumerate()
            .share(|(panel, data)| {
                for register in 0..registers {
                    let (first, width) = panels.place(panel, register);
                    for lane in 0..width {
                        let column = data[register * lanes + lane..].iter_mut();
                        let column = column.step_by(registers * lanes);
                        match side {
                            Side::Rows => {
                                let row = &w[(first + lane) * h..][..h];
                                column.zip(row).for_each(|(to, &w)| *to = w);
                            }
                            Side::Columns => {
                                let down = w[first + lane..].iter().step_by(h);
                                column.zip(down).for_each(|(to, &w)| *to = w);
                            }
                        }
                    }
                }
            });
        panels.data = data;
        panels
    }

    /// Where among an example's results a register of a panel begins, and how many of its lanes
    /// are results.
    #[inline(always)]
    fn place(&self, panel: usize, register: usize) -> (usize, usize) {
        let (unit, row) = match self.side {
            Side::Rows => (panel * self.lanes, register * self.h),
            Side::Columns => ((panel * self.registers + register) * self.lanes, 0),
        };
        let unit = unit.min(self.h);
        (row + unit, (self.h - unit).min(self.lanes))
    }

    /// How many results an example has.
    fn width(&self) -> usize {
        match self.side {
            Side::Rows => self.registers * self.h,
            Side::Columns => self.h,
        }
    }
}

/// The rows of some examples: that of example e begins at `first + e * apart`.
#[derive(Clone, Copy)]
pub(super) struct Rows<'a> {
    pub data: &'a [f32],
    pub first: usize,
    pub apart: usize,
}

/// Results of `n` examples, one row of them after the other.
pub(super) struct Multiply<'a> {
    pub panels: &'a Panels,
    pub n: usize,
    pub rows: Rows<'a>,
    pub results: &'a mut [f32],
}

impl WithSimd for Multiply<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        match self.panels.registers {
            1 => self.each::<S, 1>(simd),
            3 => self.each::<S, 3>(simd),
            _ => self.each::<S, 4>(simd),
        }
    }
}

impl Multiply<'_> {
    #[inline(always)]
    fn each<S: Simd, const V: usize>(&mut self, simd: S) {
        // As many sums as leave room for what is multiplied, shared out evenly.
        let most = if Registers::of::<S>().are_many() {
            6
        } else {
            3
        };
        let groups = self.n.div_ceil(most);
        let panels = self.panels;
        let size = panels.terms * V * panels.lanes;
        for (panel, data) in panels.data.chunks_exact(size).enumerate() {
            let data = S::as_simd_f32s(data).0;
            let mut first = 0;
            for group in 0..groups {
                let examples = (self.n - first).div_ceil(groups - group);
                match examples {
                    1 => self.tile::<S, 1, V>(simd, panel, data, first),
                    2 => self.tile::<S, 2, V>(simd, panel, data, first),
                    3 => self.tile::<S, 3, V>(simd, panel, data, first),
                    4 => self.tile::<S, 4, V>(simd, panel, data, first),
                    5 => self.tile::<S, 5, V>(simd, panel, data, first),
                    _ => self.tile::<S, 6, V>(simd, panel, data, first),
                }
                first += examples;
            }
        }
    }

    /// A panel and the `E` examples from `first` on.
    #[inline(always)]
    fn tile<S: Simd, const E: usize, const V: usize>(
        &mut self,
        simd: S,
        panel: usize,
        data: &[S::f32s],
        first: usize,
    ) {
        let (panels, rows) = (self.panels, self.rows);
        let begins = |e: usize| rows.first + (first + e) * rows.apart;
        let rows: [&[f32]; E] = std::array::from_fn(|e| &rows.data[begins(e)..][..panels.terms]);
        let mut sums = [[simd.splat_f32s(0.0); V]; E];
        for (term, weights) in data.chunks_exact(V).enumerate().take(panels.terms) {
            let factors: [S::f32s; E] = std::array::from_fn(|e| simd.splat_f32s(rows[e][term]));
            for v in 0..V {
                for e in 0..E {
                    sums[e][v] = simd.mul_add_e_f32s(factors[e], weights[v], sums[e][v]);
                }
            }
        }
        for e in 0..E {
            for v in 0..V {
                let (at, lanes) = panels.place(panel, v);
                let sums: &[f32] = bytemuck::cast_slice(std::slice::from_ref(&sums[e][v]));
                let to = (first + e) * panels.width() + at;
                self.results[to..to + lanes].copy_from_slice(&sums[..lanes]);
            }
        }
    }
}

//! The CPU's implementations by a matrix of windows: each image is laid out with a column for each place, and
//! the convolution is a product of matrices (im2col, Chellapilla et al. 2006).

use std::cell::RefCell;

use super::super::gemm::{Matrix, serial};
use super::reference::Launched;

thread_local! {
    /// A thread's window matrix, kept from launch to launch.
    static COLUMNS: RefCell<Vec<f32>> = const { RefCell::new(vec![]) };
}

/// Lends a thread's scratch space. `work` must not wait for other tasks: a task that ran
/// meanwhile on this thread would find the space lent out.
fn with_columns<R>(size: usize, work: impl FnOnce(&mut [f32]) -> R) -> R {
    COLUMNS.with_borrow_mut(|columns| {
        if columns.len() < size {
            columns.resize(size, 0.0);
        }
        work(&mut columns[..size])
    })
}

impl Launched {
    /// Elements of one image, of its output, of one group's filters.
    pub(super) fn image(&self) -> usize {
        self.c * self.at.input[0] * self.at.input[1]
    }

    pub(super) fn places(&self) -> usize {
        self.at.output[0] * self.at.output[1]
    }

    /// Rows of a group's window matrix: channels times taps.
    pub(super) fn taps(&self) -> usize {
        self.c / self.groups * self.at.window.kernel[0] * self.at.window.kernel[1]
    }

    /// Calls `each(row start in the window matrix, image row, k, l, i)` for every row of
    /// output places of a group's windows: `None` where the tap lies above or below.
    fn rows(&self, group: usize, mut each: impl FnMut(usize, Option<usize>, usize)) {
        let ([h, w], [ho, wo], [kh, kw]) = (self.at.input, self.at.output, self.at.window.kernel);
        let channels = self.c / self.groups;
        let mut start = 0;
        for c in group * channels..(group + 1) * channels {
            for k in 0..kh {
                for l in 0..kw {
                    for i in 0..ho {
                        let row = self.at.place(0, i, k).map(|row| (c * h + row) * w);
                        each(start, row, l);
                        start += wo;
                    }
                }
            }
        }
    }

    /// The first and the end of the output columns whose tap `l` lies inside the image,
    /// and the image column of the first. There may be none; then that column is nowhere.
    fn inside(&self, l: usize) -> (usize, usize, usize) {
        let (s, p) = (self.at.window.stride[1], self.at.window.padding[1]);
        let tap = l * self.at.window.dilation[1];
        let first = p.saturating_sub(tap).div_ceil(s);
        // j s + tap − p < W
        let end = (self.at.input[1] + p).saturating_sub(tap).div_ceil(s);
        let end = end.min(self.at.output[1]);
        let first = first.min(end);
        (first, end, (first * s + tap).saturating_sub(p))
    }

    /// Lays out a group's windows of one image: `[channels K_h K_w, H_o W_o]`.
    fn unfold(&self, x: &[f32], group: usize, columns: &mut [f32]) {
        let (wo, s) = (self.at.output[1], self.at.window.stride[1]);
        self.rows(group, |start, row, l| {
            let to = &mut columns[start..start + wo];
            let Some(row) = row else {
                to.fill(0.0);
                return;
            };
            let (first, end, col) = self.inside(l);
            if first == end {
                to.fill(0.0);
                return;
            }
            to[..first].fill(0.0);
            to[end..].fill(0.0);
            let from = &x[row + col..];
            if s == 1 {
                to[first..end].copy_from_slice(&from[..end - first]);
            } else {
                for (to, from) in to[first..end].iter_mut().zip(from.iter().step_by(s)) {
                    *to = *from;
                }
            }
        });
    }

    /// Adds a group's windows back into an image's gradient.
    fn fold(&self, columns: &[f32], group: usize, dx: &mut [f32]) {
        let (wo, s) = (self.at.output[1], self.at.window.stride[1]);
        self.rows(group, |start, row, l| {
            let Some(row) = row else { return };
            let (first, end, col) = self.inside(l);
            if first == end {
                return;
            }
            let from = &columns[start..start + wo][first..end];
            let to = &mut dx[row + col..];
            if s == 1 {
                for (to, from) in to.iter_mut().zip(from) {
                    *to += from;
                }
            } else {
                for (to, from) in to.iter_mut().step_by(s).zip(from) {
                    *to += from;
                }
            }
        });
    }

    /// y `[F, H_o, W_o]` of an image x, by filters w.
    pub(super) fn convolve(&self, x: &[f32], w: &[f32], y: &mut [f32]) {
        let (taps, places, filters) = (self.taps(), self.places(), self.f / self.groups);
        for (group, y) in y.chunks_mut(filters * places).enumerate() {
            with_columns(taps * places, |columns| {
                self.unfold(x, group, columns);
                let w = &w[group * filters * taps..][..filters * taps];
                let (w, columns) = (
                    Matrix::of(w, taps, false),
                    Matrix::of(columns, places, false),
                );
                serial([filters, places, taps], w, columns, y, false);
            });
        }
    }

    /// An image's ∂x `[C, H, W]` from its g `[F, H_o, W_o]`.
    pub(super) fn input_gradient(&self, g: &[f32], w: &[f32], dx: &mut [f32]) {
        let (taps, places, filters) = (self.taps(), self.places(), self.f / self.groups);
        dx.fill(0.0);
        for (group, g) in g.chunks(filters * places).enumerate() {
            with_columns(taps * places, |columns| {
                let w = &w[group * filters * taps..][..filters * taps];
                let (w, g) = (Matrix::of(w, taps, true), Matrix::of(g, places, false));
                serial([taps, places, filters], w, g, columns, false);
                self.fold(columns, group, dx);
            });
        }
    }

    /// ∂w `[F, C / groups, K_h, K_w]` of some images.
    pub(super) fn weight_gradient(&self, x: &[f32], g: &[f32], dw: &mut [f32]) {
        let (taps, places, filters) = (self.taps(), self.places(), self.f / self.groups);
        let images = x.chunks(self.image()).zip(g.chunks(self.f * places));
        for (image, (x, g)) in images.enumerate() {
            for (group, dw) in dw.chunks_mut(filters * taps).enumerate() {
                with_columns(taps * places, |columns| {
                    self.unfold(x, group, columns);
                    let g = &g[group * filters * places..][..filters * places];
                    let g = Matrix::of(g, places, false);
                    let columns = Matrix::of(columns, places, true);
                    serial([filters, taps, places], g, columns, dw, image > 0);
                });
            }
        }
    }
}

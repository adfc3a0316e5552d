//! Images channels last, with their padding.
//!
//! Image `[C, H, W]` becomes, group by group, `[H + 2 p, W + 2 p, C / groups]`. A filter
//! then sees K_h runs of K_w · C / groups contiguous floats (or, with dilation along the
//! width, K_h · K_w runs of C / groups); where it stands only moves all of them by the
//! same distance. A filter's weights in the order of these runs are its *taps*.
//!
//! For the gradients, each run is cut into *blocks* of [`LANES`] floats. The last one of a
//! run may reach beyond its end: it then reads, or adds zero to, what stands there.

use super::lanes::{LANES, WIDE, is_wide};
use super::reference::Launched;
use super::scratch::{Lent, lend};

/// The layout of one launch.
pub(super) struct Layout {
    channels: usize,
    groups: usize,
    /// Of the image.
    extents: [usize; 2],
    padding: [usize; 2],
    /// Of the filter.
    kernel: [usize; 2],
    /// Floats of a run.
    pub run: usize,
    /// Where each run begins, seen from the filter's corner.
    pub runs: Lent<u32>,
    /// Where each block begins, likewise.
    pub blocks: Lent<u32>,
    /// Where each place of the convolution's output has the filter's corner.
    pub starts: Lent<u32>,
}

impl Layout {
    /// Whether there would be far more padding than there is anything else: not worth the
    /// memory. What does not sprawl has places that fit 32 bits.
    pub(super) fn sprawls(s: &Launched) -> bool {
        let (p, [h, w], [ho, wo]) = (s.conv.window.padding, s.conv.input, s.conv.output);
        let laid = (h + 2 * p[0]) * (w + 2 * p[1]);
        laid > (1 << 16) + 8 * (h * w + ho * wo) || laid * s.c > 1 << 31
    }

    pub(super) fn of(s: &Launched) -> Self {
        let window = &s.conv.window;
        let (channels, [kh, kw], [dh, dw]) = (s.c / s.groups, window.kernel, window.dilation);
        let line = (s.conv.input[1] + 2 * window.padding[1]) * channels;
        let (run, across) = if dw == 1 {
            (kw * channels, 1)
        } else {
            (channels, kw)
        };
        let mut runs = lend(kh * across);
        for (r, at) in runs.iter_mut().enumerate() {
            *at = (r / across * dh * line + r % across * dw * channels) as u32;
        }
        let per_run = run.div_ceil(LANES);
        let mut blocks = lend(runs.len() * per_run);
        for (b, at) in blocks.iter_mut().enumerate() {
            *at = runs[b / per_run] + (b % per_run * LANES) as u32;
        }
        let ([ho, wo], [sh, sw]) = (s.conv.output, window.stride);
        let mut starts = lend(ho * wo);
        for (place, at) in starts.iter_mut().enumerate() {
            *at = (place / wo * sh * line + place % wo * sw * channels) as u32;
        }
        Self {
            channels,
            groups: s.groups,
            extents: s.conv.input,
            padding: window.padding,
            kernel: window.kernel,
            run,
            runs,
            blocks,
            starts,
        }
    }

    /// Places of the convolution's output.
    pub(super) fn places(&self) -> usize {
        self.starts.len()
    }

    /// Weights of one filter.
    pub(super) fn taps(&self) -> usize {
        self.run * self.runs.len()
    }

    /// Floats of an image as it is.
    pub(super) fn image(&self) -> usize {
        self.groups * self.channels * self.extents[0] * self.extents[1]
    }

    fn line(&self) -> usize {
        (self.extents[1] + 2 * self.padding[1]) * self.channels
    }

    /// Floats of one group of an image, laid out.
    pub(super) fn group(&self) -> usize {
        (self.extents[0] + 2 * self.padding[0]) * self.line()
    }

    /// Floats of an image, laid out.
    pub(super) fn size(&self) -> usize {
        self.groups * self.group()
    }

    /// The same, and room for the last block.
    pub(super) fn laid(&self) -> usize {
        self.size() + LANES
    }

    /// Floats of a filter's sums: its blocks, and a lane in front for its bias.
    pub(super) fn sums(&self) -> usize {
        (1 + self.blocks.len()) * LANES
    }

    /// What the winners see; `None` for an index outside the plane.
    #[inline(always)]
    pub(super) fn seen(&self, argmax: &[u32]) -> impl Iterator<Item = Option<u32>> {
        argmax
            .iter()
            .map(|&at| self.starts.get(at as usize).copied())
    }

    /// Calls `each(row of the image, where the same row begins in the layout)`, a row
    /// being W floats of one channel.
    fn image_rows(&self, mut each: impl FnMut(usize, usize)) {
        let [h, w] = self.extents;
        for channel in 0..self.groups * self.channels {
            let corner = channel / self.channels * self.group()
                + self.padding[0] * self.line()
                + self.padding[1] * self.channels
                + channel % self.channels;
            for row in 0..h {
                each((channel * h + row) * w, corner + row * self.line());
            }
        }
    }

    /// Lays an image out.
    pub(super) fn lay(&self, x: &[f32], laid: &mut [f32]) {
        let (w, step) = (self.extents[1], self.channels);
        if self.padding != [0, 0] {
            laid.fill(0.0);
        } else {
            laid[self.size()..].fill(0.0);
        }
        self.image_rows(|from, to| {
            for (to, &x) in laid[to..].iter_mut().step_by(step).zip(&x[from..from + w]) {
                *to = x;
            }
        });
    }

    /// The image that was laid out, without its padding.
    pub(super) fn take(&self, laid: &[f32], x: &mut [f32]) {
        let (w, step) = (self.extents[1], self.channels);
        self.image_rows(|to, from| {
            for (x, &laid) in x[to..to + w]
                .iter_mut()
                .zip(laid[from..].iter().step_by(step))
            {
                *x = laid;
            }
        });
    }

    /// Calls `each(index in a filter as it is, run, place in the run)` for every tap.
    fn each_tap(&self, mut each: impl FnMut(usize, usize, usize)) {
        let [kh, kw] = self.kernel;
        let across = self.runs.len() / kh;
        for c in 0..self.channels {
            for k in 0..kh {
                for l in 0..kw {
                    let at = (c * kh + k) * kw + l;
                    if across == 1 {
                        each(at, k, l * self.channels + c);
                    } else {
                        each(at, k * across + l, c);
                    }
                }
            }
        }
    }

    /// Filters side by side: `[blocks of a group's filters, taps, LANES]`, zero where a
    /// block has fewer filters. Where the machine is wide, two blocks are one of [`WIDE`], as long as there are two.
    pub(super) fn columns(&self, w: &[f32], groups: usize, filters: usize) -> Lent<f32> {
        let (taps, blocks) = (self.taps(), filters.div_ceil(LANES));
        let wide = is_wide();
        let mut columns = lend(groups * blocks * taps * LANES);
        columns.fill(0.0);
        let all = columns.chunks_mut(blocks * taps * LANES);
        for (mut to, mut w) in all.zip(w.chunks(filters * taps)) {
            while !w.is_empty() {
                let lanes = match wide && to.len() > taps * LANES {
                    true => WIDE,
                    false => LANES,
                };
                let (block, left) = to.split_at_mut(taps * lanes);
                let (some, others) = w.split_at(w.len().min(lanes * taps));
                match lanes {
                    WIDE => self.side_by_side::<WIDE>(some, block),
                    _ => self.side_by_side::<LANES>(some, block),
                }
                (to, w) = (left, others);
            }
        }
        columns
    }

    /// At most `N` filters: `[taps, N]`.
    fn side_by_side<const N: usize>(&self, w: &[f32], to: &mut [f32]) {
        let (taps, (to, _)) = (self.taps(), to.as_chunks_mut::<N>());
        let mut rows: [&[f32]; N] = [&[]; N];
        for (row, w) in rows.iter_mut().zip(w.chunks_exact(taps)) {
            *row = w;
        }
        let rows = &rows[..w.len() / taps];
        self.each_tap(|at, run, place| {
            for (to, row) in to[run * self.run + place].iter_mut().zip(rows) {
                *to = row[at];
            }
        });
    }

    /// Filters in blocks: `[F, blocks, LANES]`, zero beyond a run's end.
    pub(super) fn rows(&self, w: &[f32], filters: usize) -> Lent<f32> {
        let (taps, row) = (self.taps(), self.blocks.len() * LANES);
        let mut rows = lend(filters * row);
        rows.fill(0.0);
        let stride = row / self.runs.len();
        for (row, w) in rows.chunks_mut(row).zip(w.chunks(taps)) {
            self.each_tap(|at, run, place| row[run * stride + place] = w[at]);
        }
        rows
    }

    /// Adds `g` times a filter in blocks to what it sees, and to nothing else: beyond a run's end
    /// it has zeros, which would make NaN of a `g` that is not finite.
    pub(super) fn add_filter(&self, row: &[f32], g: f32, seen: &mut [f32]) {
        let stride = self.run.next_multiple_of(LANES);
        for (&at, row) in self.runs.iter().zip(row.chunks(stride)) {
            for (seen, w) in seen[at as usize..][..self.run].iter_mut().zip(row) {
                *seen += g * w;
            }
        }
    }

    /// A filter as it is, from its blocks.
    pub(super) fn filter(&self, row: &[f32], w: &mut [f32]) {
        let stride = self.run.next_multiple_of(LANES);
        self.each_tap(|at, run, place| w[at] = row[run * stride + place]);
    }
}

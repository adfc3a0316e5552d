//! Images as the CPU's direct implementations read them: with the zeros around them in place and, where
//! windows step over pixels, cut into phases.
//!
//! Rows and columns whose numbers leave the same rest when they are divided by the stride are a phase:
//! of neighbouring windows, a tap sees neighbours in one phase. So tap `t` of the window at
//! *position* `i · columns + j` stands at `taps[t] + i · columns + j`, for every t, and vectors of
//! positions are loaded as they lie. Positions run over the plane's gaps too; what is made there is
//! dropped. Zeros behind a row are those before the next one, as far as there are such: the gaps are
//! as narrow as windows allow.

use std::collections::BTreeMap;

use pulp::{Arch, Simd, WithSimd};

use super::reference::Launched;

/// The widest vector, in elements: what is read or written beyond the last position.
pub(super) const WIDEST: usize = 16;

/// A launch's images in phases.
#[derive(Clone, Debug)]
pub(super) struct Planes {
    /// Rows of a phase.
    rows: usize,
    /// How far a row of a phase is from the next one.
    columns: usize,
    /// Zeros that windows at the end of a row see of the next row, and behind the last one.
    shared: usize,
    /// The rests of row and column of each phase that a tap sees.
    phases: Vec<[usize; 2]>,
    /// Where each tap of a channel's window stands in the channel's phases.
    taps: Vec<usize>,
}

impl Planes {
    /// What the windows of a launch see.
    pub(super) fn of(s: &Launched) -> Self {
        let window = &s.at.window;
        let reach = |axis: usize| {
            let last = (s.at.output[axis] - 1) * window.stride[axis];
            let reach = last + (window.kernel[axis] - 1) * window.dilation[axis] + 1;
            reach.div_ceil(window.stride[axis])
        };
        let (mut phases, mut places) = (Vec::new(), Vec::new());
        let mut numbers = BTreeMap::new();
        for k in 0..window.kernel[0] {
            for l in 0..window.kernel[1] {
                let at = [k * window.dilation[0], l * window.dilation[1]];
                let phase = [at[0] % window.stride[0], at[1] % window.stride[1]];
                let number = *numbers.entry(phase).or_insert_with(|| {
                    phases.push(phase);
                    phases.len() - 1
                });
                let [row, column] = [at[0] / window.stride[0], at[1] / window.stride[1]];
                places.push([number, row, column]);
            }
        }
        let (rows, seen) = (reach(0), reach(1));
        let zeros = phases.iter().map(|[_, column]| {
            let (step, padding) = (window.stride[1], window.padding[1]);
            let (before, inside) = along([step, padding, *column], s.at.input[1], seen);
            before.min(seen - before - inside)
        });
        let shared = shared(zeros, seen, s.at.output[1]);
        let mut this = Self {
            rows,
            columns: seen - shared,
            shared,
            phases,
            taps: vec![],
        };
        let stands =
            |[number, row, column]: [usize; 3]| number * this.phase() + row * this.columns + column;
        this.taps = places.into_iter().map(stands).collect();
        this
    }

    /// Elements of a phase.
    fn phase(&self) -> usize {
        self.rows * self.columns + self.shared
    }

    /// Elements of a channel.
    pub(super) fn channel(&self) -> usize {
        self.phases.len() * self.phase()
    }

    /// Columns of a plane: how far a position is from the one below it.
    pub(super) fn columns(&self) -> usize {
        self.columns
    }

    /// Where each tap of a window over so many channels stands.
    pub(super) fn taps(&self, channels: usize) -> Vec<usize> {
        let channels = (0..channels).map(|c| c * self.channel());
        let taps = channels.flat_map(|start| self.taps.iter().map(move |tap| start + tap));
        taps.collect()
    }

    /// Lays out channels of an image, `[channels, H, W]`: what windows in rows from `first` on see.
    pub(super) fn lay(&self, s: &Launched, x: &[f32], first: usize, planes: &mut [f32]) {
        // By wide instructions: rows are few vectors.
        Arch::new().dispatch(Lay {
            own: self,
            s,
            x,
            first,
            planes,
        });
    }

    #[inline(always)]
    fn lay_rows(&self, s: &Launched, x: &[f32], first: usize, planes: &mut [f32]) {
        let ([h, w], window) = (s.at.input, &s.at.window);
        let (step, padding) = (window.stride[1], window.padding[1]);
        for (number, &[row, column]) in self.phases.iter().enumerate() {
            let (before, inside) = along([step, padding, column], w, self.columns);
            let from = (column + before * step).saturating_sub(padding).min(w);
            let row = row + first * window.stride[0];
            let (above, rows) = along([window.stride[0], window.padding[0], row], h, self.rows);
            let channels = planes.chunks_exact_mut(self.channel());
            for (x, planes) in x.chunks_exact(h * w).zip(channels) {
                let plane = &mut planes[number * self.phase()..][..self.phase()];
                let (zeros, rest) = plane.split_at_mut(above * self.columns);
                zeros.fill(0.0);
                let (plane, zeros) = rest.split_at_mut(rows * self.columns);
                zeros.fill(0.0);
                for (i, to) in plane.chunks_exact_mut(self.columns).enumerate() {
                    let at = (above + i) * window.stride[0] + row - window.padding[0];
                    let x = &x[at * w + from..(at + 1) * w];
                    let (zeros, to) = to.split_at_mut(before);
                    zeros.fill(0.0);
                    let (to, zeros) = to.split_at_mut(inside);
                    zeros.fill(0.0);
                    match step {
                        1 => copy(to, &x[..inside]),
                        2 => every_second(to, x),
                        _ => {
                            for (to, &x) in to.iter_mut().zip(x.iter().step_by(step)) {
                                *to = x;
                            }
                        }
                    }
                }
            }
        }
    }
}

struct Lay<'a> {
    own: &'a Planes,
    s: &'a Launched,
    x: &'a [f32],
    first: usize,
    planes: &'a mut [f32],
}

impl WithSimd for Lay<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        self.own.lay_rows(self.s, self.x, self.first, self.planes);
    }
}

/// Copies elements 0, 2, 4, …: by pairs, of which vector code can be made.
#[inline(always)]
fn every_second(to: &mut [f32], from: &[f32]) {
    let (pairs, last) = from.as_chunks::<2>();
    for (to, [x, _]) in to.iter_mut().zip(pairs) {
        *to = *x;
    }
    if let ([x], Some(to)) = (last, to.get_mut(pairs.len())) {
        *to = *x;
    }
}

/// Copies a row. Rows of few vectors are moved at once: a call would take as long as they do.
#[inline(always)]
pub(super) fn copy(to: &mut [f32], from: &[f32]) {
    #[inline(always)]
    fn some<const N: usize>(to: &mut [f32], from: &[f32]) {
        if let (Some(to), Some(from)) = (to.first_chunk_mut::<N>(), from.first_chunk()) {
            *to = *from;
        }
    }
    match from.len() {
        8 => some::<8>(to, from),
        16 => some::<16>(to, from),
        32 => some::<32>(to, from),
        n => to[..n].copy_from_slice(from),
    }
}

/// How many zeros rows can share, each of which has `zeros` at either end of what windows see of it: no more than
/// leave neighbouring rows of `places` positions apart.
pub(super) fn shared(zeros: impl Iterator<Item = usize>, seen: usize, places: usize) -> usize {
    zeros.min().unwrap_or(0).min(seen - places)
}

/// Of a row of `pixels` with `padding` zeros before it, every `step`th element from `first` on, `seen` of them: the
/// zeros before the first pixel, and the pixels.
fn along([step, padding, first]: [usize; 3], pixels: usize, seen: usize) -> (usize, usize) {
    // The first place inside is the least j with first + j step >= padding.
    let before = padding.saturating_sub(first).div_ceil(step).min(seen);
    let from = (first + before * step).saturating_sub(padding).min(pixels);
    (before, (pixels - from).div_ceil(step).min(seen - before))
}

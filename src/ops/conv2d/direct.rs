//! The CPU's direct implementations of a convolution and its input gradient: vectors of positions, each loaded
//! tap by tap and multiplied by the weights of several filters, whose sums stay in registers.
//!
//! An input gradient is such a convolution too, of the gradients with zeros around them, one for each
//! phase of the image: the taps whose distance from the window's corner leaves the same rest as the
//! pixel (Dumoulin and Visin 2016, section 4). Zeros that stand for windows that do not exist must meet
//! nothing but numbers, so weights that are not finite are left to `im2col.rs`.

use std::cell::RefCell;
use std::collections::BTreeMap;

use crate::threads::prelude::*;
use pulp::{Arch, Simd, WithSimd};

use super::optimized::finite;
use super::planes::{Planes, WIDEST};
use super::reference::Launched;

thread_local! {
    /// A thread's planes, kept from launch to launch.
    static PLANES: RefCell<Vec<f32>> = const { RefCell::new(vec![]) };
    /// What it has made at all positions, likewise.
    static MADE: RefCell<Vec<f32>> = const { RefCell::new(vec![]) };
}

/// Whether vectors of positions are mostly places, not gaps between rows, and planes mostly pixels, not
/// zeros around them.
pub(super) fn pays(places: usize, positions: usize, [pixels, plane]: [usize; 2]) -> bool {
    let full = 5 * places >= 2 * positions.next_multiple_of(WIDEST / 2);
    full && plane <= 4 * (places + pixels)
}

/// Rows of a matrix in blocks, each with its rows side by side for every tap.
struct Panels {
    rows: usize,
    taps: usize,
    data: Vec<f32>,
}

/// Rows of the next block.
fn next(rows: usize) -> usize {
    match rows {
        4.. => 4,
        2 | 3 => 2,
        _ => 1,
    }
}

impl Panels {
    /// Of the weight of row `r` and tap `t`.
    fn new([rows, taps]: [usize; 2], weight: impl Fn(usize, usize) -> f32) -> Self {
        let mut data = Vec::with_capacity(rows * taps);
        let mut first = 0;
        while first < rows {
            let block = first..first + next(rows - first);
            for t in 0..taps {
                data.extend(block.clone().map(|r| weight(r, t)));
            }
            first = block.end;
        }
        Self { rows, taps, data }
    }
}

/// Σ over taps of weights times what the taps see, for all rows and positions.
#[derive(Clone, Copy)]
struct Correlation<'a> {
    planes: &'a [f32],
    taps: &'a [usize],
    panels: &'a Panels,
    positions: usize,
    /// Whether few images leave threads idle, so that rows are shared out.
    shared: bool,
}

/// Fewer images than these are not tasks enough.
const FEW: usize = 4;
/// Rows of a task, whole blocks.
const TASK_ROWS: usize = 8;
/// Multiply-adds that are worth handing to several threads.
const WORTH_SHARING: usize = 1 << 18;

impl Correlation<'_> {
    /// Makes `[rows, positions]`, rows filled up to whole vectors.
    fn run(self, made: &mut [f32]) {
        let apart = apart(self.positions);
        let made = &mut made[..self.panels.rows * apart];
        let task = |(task, made): (usize, &mut [f32])| {
            let (own, first) = (self, task * TASK_ROWS);
            Arch::new().dispatch(Rows { own, first, made });
        };
        let work = self.panels.rows * self.positions * self.taps.len();
        if self.shared && work >= WORTH_SHARING {
            let tasks = made.par_chunks_mut(TASK_ROWS * apart);
            tasks.enumerate().for_each(task);
        } else {
            let (own, first) = (self, 0);
            Arch::new().dispatch(Rows { own, first, made });
        }
    }
}

/// Some rows from `first` on, which begins a block.
struct Rows<'a> {
    own: Correlation<'a>,
    first: usize,
    made: &'a mut [f32],
}

/// Elements of a row of what is made.
fn apart(positions: usize) -> usize {
    positions.next_multiple_of(WIDEST)
}

impl WithSimd for Rows<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { own, first, made } = self;
        let Correlation {
            planes,
            taps,
            panels,
            positions,
            ..
        } = own;
        let apart = apart(positions);
        let rows = made.len() / apart;
        let (mut row, mut weights) = (0, &panels.data[first * panels.taps..]);
        while row < rows {
            let block = next(panels.rows - first - row);
            let (w, rest) = weights.split_at(block * panels.taps);
            let made = &mut made[row * apart..][..block * apart];
            let sizes = [positions, apart];
            // As many sums as registers hold beside what is multiplied.
            match block {
                4 => block_of::<S, 4, 3>(simd, planes, taps, w, sizes, made),
                2 => block_of::<S, 2, 4>(simd, planes, taps, w, sizes, made),
                _ => block_of::<S, 1, 6>(simd, planes, taps, w, sizes, made),
            }
            (row, weights) = (row + block, rest);
        }
    }
}

/// `R` rows at all positions, `V` vectors at a time.
#[inline(always)]
fn block_of<S: Simd, const R: usize, const V: usize>(
    simd: S,
    planes: &[f32],
    taps: &[usize],
    w: &[f32],
    [positions, apart]: [usize; 2],
    made: &mut [f32],
) {
    let (w, _) = w.as_chunks::<R>();
    let mut at = 0;
    while at < positions {
        if at + (V - 1) * S::F32_LANES < positions {
            tile::<S, R, V>(simd, planes, taps, w, [at, apart], made);
            at += V * S::F32_LANES;
        } else {
            tile::<S, R, 1>(simd, planes, taps, w, [at, apart], made);
            at += S::F32_LANES;
        }
    }
}

#[inline(always)]
fn tile<S: Simd, const R: usize, const V: usize>(
    simd: S,
    planes: &[f32],
    taps: &[usize],
    w: &[[f32; R]],
    [at, apart]: [usize; 2],
    made: &mut [f32],
) {
    let zero = simd.splat_f32s(0.0);
    let mut sums = [[zero; V]; R];
    for (&tap, w) in taps.iter().zip(w) {
        let (x, _) = S::as_simd_f32s(&planes[tap + at..][..V * S::F32_LANES]);
        let Some(x) = x.first_chunk::<V>() else {
            continue;
        };
        for r in 0..R {
            let w = simd.splat_f32s(w[r]);
            for v in 0..V {
                sums[r][v] = simd.mul_add_e_f32s(w, x[v], sums[r][v]);
            }
        }
    }
    for r in 0..R {
        let (to, _) = S::as_mut_simd_f32s(&mut made[r * apart + at..][..V * S::F32_LANES]);
        for (to, sum) in to.iter_mut().zip(sums[r]) {
            *to = sum;
        }
    }
}

/// Lends a thread's planes and room for what is made, with at least so many elements.
fn with_scratch(sizes: [usize; 2], work: impl FnOnce(&mut [f32], &mut [f32])) {
    let (mut planes, mut made) = (PLANES.take(), MADE.take());
    planes.resize(sizes[0].max(planes.len()), 0.0);
    made.resize(sizes[1].max(made.len()), 0.0);
    work(&mut planes[..sizes[0]], &mut made[..sizes[1]]);
    PLANES.set(planes);
    MADE.set(made);
}

/// A convolution made ready.
pub(super) struct Forward {
    planes: Planes,
    taps: Vec<usize>,
    /// Of each group.
    panels: Vec<Panels>,
    positions: usize,
}

impl Forward {
    /// By filters w, if it pays.
    pub(super) fn new(s: &Launched, w: &[f32]) -> Option<Self> {
        let planes = Planes::of(s);
        let [ho, wo] = s.at.output;
        let positions = (ho - 1) * planes.columns() + wo;
        let pixels = s.at.input[0] * s.at.input[1];
        if !pays(ho * wo, positions, [pixels, planes.channel()]) {
            return None;
        }
        let (channels, filters) = (s.c / s.groups, s.f / s.groups);
        let taps = planes.taps(channels);
        let groups = w.chunks_exact(filters * taps.len());
        let panels =
            groups.map(|w| Panels::new([filters, taps.len()], |f, t| w[f * taps.len() + t]));
        Some(Self {
            panels: panels.collect(),
            planes,
            taps,
            positions,
        })
    }

    /// y `[F, H_o, W_o]` of an image x.
    pub(super) fn run(&self, s: &Launched, x: &[f32], y: &mut [f32]) {
        let [ho, wo] = s.at.output;
        let (channels, filters) = (s.c / s.groups, s.f / s.groups);
        let (pixels, apart) = (s.at.input[0] * s.at.input[1], apart(self.positions));
        let sizes = [channels * self.planes.channel() + WIDEST, filters * apart];
        with_scratch(sizes, |planes, made| {
            let groups = x.chunks_exact(channels * pixels).zip(&self.panels);
            for ((x, panels), y) in groups.zip(y.chunks_exact_mut(filters * ho * wo)) {
                self.planes.lay(s, x, planes);
                let correlation = Correlation {
                    planes,
                    taps: &self.taps,
                    panels,
                    positions: self.positions,
                    shared: s.n < FEW,
                };
                correlation.run(made);
                let filters = y.chunks_exact_mut(ho * wo).zip(made.chunks_exact(apart));
                for (y, made) in filters {
                    let rows = made.chunks(self.planes.columns());
                    for (y, made) in y.chunks_exact_mut(wo).zip(rows) {
                        y.copy_from_slice(&made[..wo]);
                    }
                }
            }
        });
    }
}

/// The pixels of one phase of an image.
struct Phase {
    /// The rests of row and column.
    rest: [usize; 2],
    taps: Vec<usize>,
    /// Of each group: a row for each channel.
    panels: Vec<Panels>,
}

/// An input gradient made ready.
pub(super) struct InputGradient {
    /// Rows and columns of gradients with zeros around them.
    extents: [usize; 2],
    /// Zeros before the first gradient that is seen.
    before: [usize; 2],
    /// The first gradient that is seen.
    first: [usize; 2],
    /// Rows and columns of a phase that are wholly padding, which nobody asks for.
    skipped: [usize; 2],
    /// Rows and columns of a phase behind those.
    pixels: [usize; 2],
    phases: Vec<Phase>,
}

impl InputGradient {
    /// By filters w, if it pays and they are finite.
    pub(super) fn new(s: &Launched, w: &[f32]) -> Option<Self> {
        let window = &s.at.window;
        let per_axis = |of: &dyn Fn(usize) -> usize| [of(0), of(1)];
        let shift = |axis: usize, k: usize| k * window.dilation[axis] / window.stride[axis];
        let reach = per_axis(&|axis| shift(axis, window.kernel[axis] - 1));
        let skipped = per_axis(&|axis| window.padding[axis] / window.stride[axis]);
        let pixels = per_axis(&|axis| {
            let all = (s.at.input[axis] + window.padding[axis]).div_ceil(window.stride[axis]);
            all - skipped[axis]
        });
        let extents = per_axis(&|axis| pixels[axis] + reach[axis]);
        let positions = (pixels[0] - 1) * extents[1] + pixels[1];
        let places =
            s.at.input[0].div_ceil(window.stride[0]) * s.at.input[1].div_ceil(window.stride[1]);
        let sizes = [s.at.output[0] * s.at.output[1], extents[0] * extents[1]];
        if !pays(places, positions, sizes) || !finite(w) {
            return None;
        }
        let (channels, filters) = (s.c / s.groups, s.f / s.groups);
        let [kh, kw] = window.kernel;
        let mut phases: BTreeMap<[usize; 2], Vec<[usize; 2]>> = BTreeMap::new();
        for (k, l) in (0..kh).flat_map(|k| (0..kw).map(move |l| (k, l))) {
            let rest = [
                k * window.dilation[0] % window.stride[0],
                l * window.dilation[1] % window.stride[1],
            ];
            phases.entry(rest).or_default().push([k, l]);
        }
        let phase = |(rest, own): (_, Vec<[usize; 2]>)| {
            let stands = |&[k, l]: &[usize; 2]| {
                (reach[0] - shift(0, k)) * extents[1] + reach[1] - shift(1, l)
            };
            let plane = extents[0] * extents[1];
            let taps: Vec<usize> = (0..filters)
                .flat_map(|f| own.iter().map(move |tap| f * plane + stands(tap)))
                .collect();
            let panels = w.chunks_exact(filters * channels * kh * kw).map(|w| {
                Panels::new([channels, taps.len()], |c, t| {
                    let (f, [k, l]) = (t / own.len(), own[t % own.len()]);
                    w[((f * channels + c) * kh + k) * kw + l]
                })
            });
            Phase {
                rest,
                panels: panels.collect(),
                taps,
            }
        };
        Some(Self {
            phases: phases.into_iter().map(phase).collect(),
            extents,
            before: per_axis(&|axis| reach[axis].saturating_sub(skipped[axis])),
            first: per_axis(&|axis| skipped[axis].saturating_sub(reach[axis])),
            skipped,
            pixels,
        })
    }

    /// An image's ∂x `[C, H, W]` from its g `[F, H_o, W_o]`.
    pub(super) fn run(&self, s: &Launched, g: &[f32], dx: &mut [f32]) {
        let ([h, w], [ho, wo]) = (s.at.input, s.at.output);
        let (channels, filters) = (s.c / s.groups, s.f / s.groups);
        let positions = (self.pixels[0] - 1) * self.extents[1] + self.pixels[1];
        let (plane, apart) = (self.extents[0] * self.extents[1], apart(positions));
        if self.phases.len() < s.at.window.stride[0] * s.at.window.stride[1] {
            // Some pixels are no window's.
            dx.fill(0.0);
        }
        with_scratch(
            [filters * plane + WIDEST, channels * apart],
            |planes, made| {
                let groups = g.chunks_exact(filters * ho * wo).enumerate();
                for ((group, g), dx) in groups.zip(dx.chunks_exact_mut(channels * h * w)) {
                    planes.fill(0.0);
                    let filters = g.chunks_exact(ho * wo).zip(planes.chunks_exact_mut(plane));
                    for (g, plane) in filters {
                        let rows = plane.chunks_exact_mut(self.extents[1]).skip(self.before[0]);
                        for (to, g) in rows.zip(g.chunks_exact(wo).skip(self.first[0])) {
                            let (to, g) = (&mut to[self.before[1]..], g.get(self.first[1]..));
                            for (to, &g) in to.iter_mut().zip(g.unwrap_or(&[])) {
                                *to = g;
                            }
                        }
                    }
                    for phase in &self.phases {
                        let correlation = Correlation {
                            planes,
                            taps: &phase.taps,
                            panels: &phase.panels[group],
                            positions,
                            shared: s.n < FEW,
                        };
                        correlation.run(made);
                        let channels = dx.chunks_exact_mut(h * w).zip(made.chunks_exact(apart));
                        for (dx, made) in channels {
                            self.spread(s, phase.rest, made, dx);
                        }
                    }
                }
            },
        );
    }

    /// Puts a phase's pixels where they stand in a channel's ∂x.
    fn spread(&self, s: &Launched, rest: [usize; 2], made: &[f32], dx: &mut [f32]) {
        let ([h, w], window) = (s.at.input, &s.at.window);
        for (i, made) in made
            .chunks(self.extents[1])
            .take(self.pixels[0])
            .enumerate()
        {
            let row = (self.skipped[0] + i) * window.stride[0] + rest[0];
            let row = row.checked_sub(window.padding[0]);
            let Some(row) = row.filter(|&row| row < h) else {
                continue;
            };
            let dx = &mut dx[row * w..][..w];
            let (step, padding) = (window.stride[1], window.padding[1]);
            let begin = self.skipped[1] * step + rest[1];
            let outside = padding.saturating_sub(begin).div_ceil(step);
            let first = (begin + outside * step).saturating_sub(padding);
            let Some(made) = made[..self.pixels[1].min(made.len())].get(outside..) else {
                continue;
            };
            match step {
                1 => {
                    let n = made.len().min(w);
                    dx[..n].copy_from_slice(&made[..n]);
                }
                _ => {
                    let to = dx.iter_mut().skip(first).step_by(step);
                    to.zip(made).for_each(|(dx, &made)| *dx = made);
                }
            }
        }
    }
}

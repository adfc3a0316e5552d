//! The CPU's direct implementation of a convolution's input gradient: a [`Correlation`] of the gradients with zeros around
//! them, one for each phase of the image. To a phase belong the taps whose distance from the window's corner leaves the
//! same rest, divided by the stride, as the pixel does (Dumoulin and Visin 2016, section 4). Zeros that stand for windows
//! that do not exist must meet nothing but numbers, so weights that are not finite are left to `im2col.rs`.

use std::collections::BTreeMap;

use super::correlation::{Correlation, FEW, Panels, Places, finite, pays, with_made, with_planes};
use super::planes::{WIDEST, copy, shared};
use super::reference::Launched;

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
    /// Rows of gradients with zeros around them.
    rows: usize,
    /// How far a row is from the next one: zeros behind one are those before the other, as in [`Planes`](super::planes::Planes).
    columns: usize,
    /// Zeros that they share, and that stand behind the last one.
    shared: usize,
    /// Zeros before the first gradient that is seen.
    before: [usize; 2],
    /// The first gradient that is seen.
    first: [usize; 2],
    /// Rows and columns of a phase that are wholly padding, which nobody asks for.
    skipped: [usize; 2],
    /// Rows and columns of a phase behind those.
    pixels: [usize; 2],
    /// The places of those pixels.
    places: Places,
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
        let before = per_axis(&|axis| reach[axis].saturating_sub(skipped[axis]));
        let first = per_axis(&|axis| skipped[axis].saturating_sub(reach[axis]));
        let [rows, seen] = per_axis(&|axis| pixels[axis] + reach[axis]);
        let behind = (seen - before[1]).saturating_sub(s.at.output[1].saturating_sub(first[1]));
        let shared = shared([before[1].min(behind)].into_iter(), seen, pixels[1]);
        let columns = seen - shared;
        let plane = rows * columns + shared;
        let places = Places::new(pixels, columns);
        let wanted =
            s.at.input[0].div_ceil(window.stride[0]) * s.at.input[1].div_ceil(window.stride[1]);
        let sizes = [s.at.output[0] * s.at.output[1], plane];
        if !pays(wanted, places.positions(), sizes) || !finite(w) {
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
            let stands =
                |&[k, l]: &[usize; 2]| (reach[0] - shift(0, k)) * columns + reach[1] - shift(1, l);
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
            rows,
            columns,
            shared,
            before,
            first,
            skipped,
            pixels,
            places,
        })
    }

    /// Elements of a filter's gradients with zeros around them.
    fn plane(&self) -> usize {
        self.rows * self.columns + self.shared
    }

    /// An image's ∂x `[C, H, W]` from its g `[F, H_o, W_o]`.
    pub(super) fn run(&self, s: &Launched, g: &[f32], dx: &mut [f32]) {
        let ([h, w], [ho, wo]) = (s.at.input, s.at.output);
        let (channels, filters) = (s.c / s.groups, s.f / s.groups);
        let places = self.places;
        let (plane, apart) = (self.plane(), places.apart());
        // Without strides there is one phase, whose pixels are the image's.
        let as_pixels = places.are_dense() && s.at.window.stride == [1, 1];
        if self.phases.len() < s.at.window.stride[0] * s.at.window.stride[1] {
            // Some pixels are no window's.
            dx.fill(0.0);
        }
        let made = channels * apart;
        with_planes(filters * plane + WIDEST, |planes| {
            let groups = g.chunks_exact(filters * ho * wo).enumerate();
            for ((group, g), dx) in groups.zip(dx.chunks_exact_mut(channels * h * w)) {
                self.lay(s, g, planes);
                for phase in &self.phases {
                    let correlation = Correlation {
                        planes,
                        taps: &phase.taps,
                        weights: phase.panels[group].weights(),
                        rows: phase.panels[group].rows,
                        places,
                    };
                    let run = |made: &mut [f32]| match s.n < FEW {
                        true => correlation.run_in_parallel(made),
                        false => correlation.run(0, made),
                    };
                    if as_pixels {
                        run(dx);
                        continue;
                    }
                    with_made(made, |made| {
                        run(made);
                        let channels = dx.chunks_exact_mut(h * w).zip(made.chunks_exact(apart));
                        for (dx, made) in channels {
                            self.spread(s, phase.rest, (made, places.step()), dx);
                        }
                    });
                }
            }
        });
    }

    /// Lays out gradients of a group's filters, `[filters, H_o, W_o]`, with zeros around them.
    fn lay(&self, s: &Launched, g: &[f32], planes: &mut [f32]) {
        let [ho, wo] = s.at.output;
        planes.fill(0.0);
        let planes = planes.chunks_exact_mut(self.plane());
        for (g, plane) in g.chunks_exact(ho * wo).zip(planes) {
            let rows = plane.chunks_exact_mut(self.columns).take(self.rows);
            let rows = rows.skip(self.before[0]);
            for (to, g) in rows.zip(g.chunks_exact(wo).skip(self.first[0])) {
                let to = &mut to[self.before[1]..];
                let g = g.get(self.first[1]..).unwrap_or(&[]);
                copy(to, &g[..g.len().min(to.len())]);
            }
        }
    }

    /// Puts a phase's pixels where they stand in a channel's ∂x.
    fn spread(
        &self,
        s: &Launched,
        rest: [usize; 2],
        (made, step): (&[f32], usize),
        dx: &mut [f32],
    ) {
        let ([h, w], window) = (s.at.input, &s.at.window);
        let rows = made.chunks(step).take(self.pixels[0]);
        for (i, made) in rows.enumerate() {
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
                    copy(dx, &made[..made.len().min(w)]);
                }
                _ => {
                    let to = dx.iter_mut().skip(first).step_by(step);
                    to.zip(made).for_each(|(dx, &made)| *dx = made);
                }
            }
        }
    }
}

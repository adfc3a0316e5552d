//! The CPU's direct implementation of a convolution, a [`Correlation`] of each image.

use super::correlation::{Correlation, FEW, Panels, apart, pays, with_scratch};
use super::planes::{Planes, WIDEST};
use super::reference::Launched;

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

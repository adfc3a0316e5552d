//! The CPU's direct implementation of a convolution, a [`Correlation`] of each image.

use std::sync::OnceLock;

use super::correlation::{
    Correlation, FEW, Panels, Places, TASK_ROWS, WORTH_SHARING, pays, with_made, with_planes,
};
use super::planes::{Planes, WIDEST, copy};
use super::reference::Launched;
use crate::threads::prelude::*;

/// A convolution made ready.
pub(super) struct Forward<'w> {
    w: &'w [f32],
    /// Of each group; tasks of a few filters make their own.
    panels: OnceLock<Vec<Panels>>,
    planes: Planes,
    taps: Vec<usize>,
    places: Places,
}

impl<'w> Forward<'w> {
    /// By filters w, if it pays.
    pub(super) fn new(s: &Launched, w: &'w [f32]) -> Option<Self> {
        let planes = Planes::of(s);
        let [ho, wo] = s.at.output;
        let places = Places::new([ho, wo], planes.columns());
        let pixels = s.at.input[0] * s.at.input[1];
        if !pays(ho * wo, places.positions(), [pixels, planes.channel()]) {
            return None;
        }
        let taps = planes.taps(s.c / s.groups);
        Some(Self {
            w,
            panels: OnceLock::new(),
            planes,
            taps,
            places,
        })
    }

    fn panels(&self, s: &Launched) -> &[Panels] {
        self.panels.get_or_init(|| {
            let taps = self.taps.len();
            let groups = self.w.chunks_exact(s.f / s.groups * taps);
            groups.map(|w| Panels::of(w, taps)).collect()
        })
    }

    /// y `[F, H_o, W_o]` of an image x.
    pub(super) fn run(&self, s: &Launched, x: &[f32], y: &mut [f32]) {
        let (channels, filters) = (s.c / s.groups, s.f / s.groups);
        let (pixels, planes) = (s.at.input[0] * s.at.input[1], self.planes.channel());
        with_planes(channels * planes + WIDEST, |planes| {
            let groups = x.chunks_exact(channels * pixels).zip(self.panels(s));
            for ((x, panels), y) in groups.zip(y.chunks_exact_mut(filters * s.places())) {
                self.planes.lay(s, x, planes);
                self.filters(s, planes, panels, y);
            }
        });
    }

    /// How many filters of one image are a task for a thread, where images alone are not tasks enough.
    pub(super) fn task(&self, s: &Launched) -> Option<usize> {
        let work = s.f * self.places.positions() * self.taps.len();
        let task = match s.groups {
            1 => TASK_ROWS,
            groups => s.f / groups,
        };
        (s.n < FEW && work >= WORTH_SHARING && task < s.f).then_some(task)
    }

    /// Lays out all channels of an image on several threads, and lends them.
    pub(super) fn laid(&self, s: &Launched, x: &[f32], work: impl FnOnce(&[f32])) {
        let (pixels, planes) = (s.at.input[0] * s.at.input[1], self.planes.channel());
        // Some channels are a task, as many as are worth one.
        let some = (WORTH_LAYING / planes).clamp(1, s.c);
        with_planes(s.c * planes + WIDEST, |all| {
            let (channels, _) = all.split_at_mut(s.c * planes);
            let channels = channels.par_chunks_mut(some * planes);
            let channels = channels.zip(x.par_chunks(some * pixels));
            channels.share(|(planes, x)| self.planes.lay(s, x, planes));
            work(all);
        });
    }

    /// y of a task's filters, from number `first` on, of an image that [`Forward::laid`] lends.
    pub(super) fn task_of(&self, s: &Launched, laid: &[f32], first: usize, y: &mut [f32]) {
        let group = first / (s.f / s.groups);
        let channels = group * (s.c / s.groups);
        let (filters, taps) = (y.len() / s.places(), self.taps.len());
        let panels = Panels::of(&self.w[first * taps..][..filters * taps], taps);
        self.filters(s, &laid[channels * self.planes.channel()..], &panels, y);
    }

    /// y of the filters of panels, by planes of their group's channels.
    fn filters(&self, s: &Launched, planes: &[f32], panels: &Panels, y: &mut [f32]) {
        let correlation = Correlation {
            planes,
            taps: &self.taps,
            weights: &panels.data,
            rows: panels.rows,
            places: self.places,
        };
        if self.places.are_dense() {
            return correlation.run(0, y);
        }
        let ([ho, wo], apart) = (s.at.output, self.places.apart());
        with_made(panels.rows * apart, |made| {
            correlation.run(0, made);
            let filters = y.chunks_exact_mut(ho * wo).zip(made.chunks_exact(apart));
            for (y, made) in filters {
                let rows = made.chunks(self.places.step());
                for (y, made) in y.chunks_exact_mut(wo).zip(rows) {
                    copy(y, &made[..wo]);
                }
            }
        });
    }
}

/// Elements of planes that are worth a task of their own.
const WORTH_LAYING: usize = 1 << 13;

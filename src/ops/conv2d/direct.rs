//! The CPU's direct implementation of a convolution, a [`Correlation`] of each image.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

use super::correlation::{
    Correlation, FEW, Panels, Places, TASK_ROWS, WORTH_SHARING, Weights, pays, with_made,
    with_planes,
};
use super::planes::{Planes, WIDEST, copy};
use super::reference::Launched;
use crate::threads::prelude::*;
use crate::threads::{are_several, current_num_threads};

/// What follows from a launch's sizes.
#[derive(Debug)]
struct Geometry {
    planes: Planes,
    /// Where what a window's taps see stands in a group's planes.
    taps: Vec<usize>,
    places: Places,
}

/// As many as large networks have shapes.
const KNOWN: usize = 256;

impl Geometry {
    /// Of a launch: each thread keeps its own from launch to launch, so that it is made once, and no other cache has it.
    fn of(s: &Launched) -> Arc<Self> {
        thread_local! {
            static GEOMETRIES: RefCell<HashMap<Launched, Arc<Geometry>>> = RefCell::default();
        }
        GEOMETRIES.with_borrow_mut(|known| {
            if let Some(geometry) = known.get(s) {
                return Arc::clone(geometry);
            }
            if known.len() == KNOWN {
                known.clear();
            }
            let planes = Planes::of(s);
            let geometry = Arc::new(Self {
                taps: planes.taps(s.c / s.groups),
                places: Places::new(s.at.output, planes.columns()),
                planes,
            });
            known.insert(s.clone(), Arc::clone(&geometry));
            geometry
        })
    }

    /// y of filters w of a group, by planes of its channels; places of `size`.
    fn filters(&self, size: [usize; 2], planes: &[f32], weights: Weights<'_>, y: &mut [f32]) {
        let rows = weights.data.len() / self.taps.len();
        let correlation = Correlation {
            planes,
            taps: &self.taps,
            weights,
            rows,
            places: self.places,
        };
        if self.places.are_dense() {
            return correlation.run(0, y);
        }
        let ([ho, wo], apart) = (size, self.places.apart());
        with_made(rows * apart, |made| {
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

/// A convolution made ready.
pub(super) struct Forward<'w> {
    w: &'w [f32],
    /// Of each group, where there are images enough that it pays to lay filters out.
    panels: Vec<Panels>,
    own: Arc<Geometry>,
}

/// What is a task for a thread where images alone are not tasks enough.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cut {
    /// So many rows of an image, of all filters.
    Rows(usize),
    /// So many filters of an image.
    Filters(usize),
}

impl<'w> Forward<'w> {
    /// By filters w, if it pays.
    pub(super) fn new(s: &Launched, w: &'w [f32]) -> Option<Self> {
        let own = Geometry::of(s);
        let [ho, wo] = s.at.output;
        let pixels = s.at.input[0] * s.at.input[1];
        let sizes = [pixels, own.planes.channel()];
        if !pays(ho * wo, own.places.positions(), sizes) {
            return None;
        }
        let taps = own.taps.len();
        let groups = w.chunks_exact(s.f / s.groups * taps);
        let panels = match s.n < FEW {
            true => vec![],
            false => groups.map(|w| Panels::of(w, taps)).collect(),
        };
        Some(Self { w, panels, own })
    }

    /// y `[F, H_o, W_o]` of an image x.
    pub(super) fn run(&self, s: &Launched, x: &[f32], y: &mut [f32]) {
        let (channels, filters) = (s.c / s.groups, s.f / s.groups);
        let (pixels, planes) = (s.at.input[0] * s.at.input[1], self.own.planes.channel());
        with_planes(channels * planes + WIDEST, |planes| {
            let groups = self.w.chunks_exact(filters * self.own.taps.len());
            let groups = x.chunks_exact(channels * pixels).zip(groups);
            let groups = groups.zip(y.chunks_exact_mut(filters * s.places()));
            for (group, ((x, w), y)) in groups.enumerate() {
                self.own.planes.lay(s, x, 0, planes);
                match self.panels.get(group) {
                    Some(panels) => self.own.filters(s.at.output, planes, panels.weights(), y),
                    None => self.own.filters(s.at.output, planes, Weights::below(w), y),
                }
            }
        });
    }

    /// What is a task, where images alone are not tasks enough.
    pub(super) fn cut(&self, s: &Launched) -> Option<Cut> {
        let work = s.f * self.own.places.positions() * self.own.taps.len();
        if s.n >= FEW || work < WORTH_SHARING || !are_several() {
            return None;
        }
        // What threads make of an image, each others' caches have to bring: by rows all of the filters, and of images no
        // more than a row; by filters as many of them, and all of the image.
        let by_rows = s.groups == 1 && self.w.len() <= 2 * s.image();
        if let Some(rows) = Some(s.at.output[0]).filter(|_| by_rows).and_then(some_rows) {
            return Some(Cut::Rows(rows));
        }
        let filters = match s.groups {
            1 => TASK_ROWS,
            groups => s.f / groups,
        };
        (filters < s.f).then_some(Cut::Filters(filters))
    }

    /// Lays out all channels of an image on several threads, and lends them.
    pub(super) fn laid(&self, s: &Launched, x: &[f32], work: impl FnOnce(&[f32])) {
        let (pixels, planes) = (s.at.input[0] * s.at.input[1], self.own.planes.channel());
        // Some channels are a task, as many as are worth one.
        let some = (WORTH_LAYING / planes).clamp(1, s.c);
        with_planes(s.c * planes + WIDEST, |all| {
            let (channels, _) = all.split_at_mut(s.c * planes);
            let channels = channels.par_chunks_mut(some * planes);
            let channels = channels.zip(x.par_chunks(some * pixels));
            channels.share(|(planes, x)| self.own.planes.lay(s, x, 0, planes));
            work(all);
        });
    }

    /// y of a task's filters, from number `first` on, of an image that [`Forward::laid`] lends.
    pub(super) fn task_of(&self, s: &Launched, laid: &[f32], first: usize, y: &mut [f32]) {
        let group = first / (s.f / s.groups);
        let channels = group * (s.c / s.groups);
        let own = Geometry::of(s);
        let (filters, taps) = (y.len() / s.places(), own.taps.len());
        let w = &self.w[first * taps..][..filters * taps];
        let planes = &laid[channels * own.planes.channel()..];
        own.filters(s.at.output, planes, Weights::below(w), y);
    }
}

/// How many rows of `all` are a task: a divisor, and so that each thread has one, if that leaves it two.
fn some_rows(all: usize) -> Option<usize> {
    let rows = (2..all).rev();
    let mut divisors = rows.filter(|rows| all.is_multiple_of(*rows));
    divisors.find(|rows| all / rows >= current_num_threads())
}

/// A convolution some rows at a time, all filters of each. A thread keeps its rows' pixels and what it makes of them.
pub(super) struct ByRows<'w> {
    /// The sizes of a task.
    part: Launched,
    w: &'w [f32],
}

impl<'w> ByRows<'w> {
    pub(super) fn new(s: &Launched, rows: usize, w: &'w [f32]) -> Self {
        let mut part = s.clone();
        part.at.output[0] = rows;
        Self { part, w }
    }

    /// Elements of a task's filter.
    pub(super) fn size(&self) -> usize {
        self.part.places()
    }

    /// y `[F, rows, W_o]` of task `number` of an image x.
    pub(super) fn run(&self, x: &[f32], number: usize, y: &mut [f32]) {
        let part = &self.part;
        let own = Geometry::of(part);
        with_planes(part.c * own.planes.channel() + WIDEST, |planes| {
            let first = number * part.at.output[0];
            own.planes.lay(part, x, first, planes);
            own.filters(part.at.output, planes, Weights::below(self.w), y);
        });
    }
}

/// Elements of planes that are worth a task of their own.
const WORTH_LAYING: usize = 1 << 13;

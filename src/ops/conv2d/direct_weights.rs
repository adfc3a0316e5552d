//! The CPU's direct implementation of a convolution's weight gradient: ∂w of some filters and taps stays in
//! registers, one sum a lane, while the positions of several images go by.
//!
//! g stands in the planes' rows, with zeros in the gaps between them. These must meet nothing but
//! numbers, so images that are not finite are left to `im2col.rs`.

use pulp::{Arch, Simd, WithSimd};

use super::correlation::{Places, pays, with_made, with_planes};
use super::planes::{Planes, WIDEST};
use super::reference::Launched;
use crate::ops::registers::Registers;

/// Filters that make a block of sums; registers hold one block or, where there are 32, two.
const FILTERS: usize = 4;
/// Taps of a block.
const TAPS: usize = 3;
/// Elements of images and gradients that go by before the next filters' turn: half of a near cache.
const NEAR: usize = 1 << 16;

/// A weight gradient made ready.
pub(super) struct WeightGradient {
    planes: Planes,
    taps: Vec<usize>,
    places: Places,
}

impl WeightGradient {
    /// If it pays.
    pub(super) fn new(s: &Launched) -> Option<Self> {
        let planes = Planes::of(s);
        let [ho, wo] = s.at.output;
        let places = Places::new([ho, wo], planes.columns());
        let depthwise = s.c == s.groups;
        let pixels = s.at.input[0] * s.at.input[1];
        let pays = pays(ho * wo, places.positions(), [pixels, planes.channel()]);
        (pays && !depthwise).then(|| Self {
            taps: planes.taps(s.c / s.groups),
            planes,
            places,
        })
    }

    /// ∂w `[F, C / groups, K_h, K_w]` of some images, which are finite.
    pub(super) fn run(&self, s: &Launched, x: &[f32], g: &[f32], dw: &mut [f32]) {
        let (channels, filters) = (s.c / s.groups, s.f / s.groups);
        let (pixels, places) = (
            s.at.input[0] * s.at.input[1],
            s.at.output[0] * s.at.output[1],
        );
        for (group, dw) in dw.chunks_exact_mut(filters * self.taps.len()).enumerate() {
            let images = x
                .chunks_exact(s.c * pixels)
                .zip(g.chunks_exact(s.f * places));
            let images = images.map(|(x, g)| {
                let x = &x[group * channels * pixels..][..channels * pixels];
                (x, &g[group * filters * places..][..filters * places])
            });
            let images: Vec<_> = images.collect();
            let size = channels * self.planes.channel();
            // Whole blocks of filters and, on registers of any width, whole vectors.
            let packed = filters.next_multiple_of(FILTERS) * self.places.apart();
            let together = (NEAR / (size + packed)).clamp(1, images.len().max(1));
            with_planes(together * size + WIDEST, |planes| {
                with_made(together * packed, |gradients| {
                    // Behind the last image stand zeros, which the last vectors read, and so they do between the rows
                    // of gradients and for filters that are not there.
                    planes[together * size..].fill(0.0);
                    gradients.fill(0.0);
                    Arch::new().dispatch(Sums {
                        own: self,
                        s,
                        images,
                        together,
                        planes,
                        gradients,
                        dw,
                    });
                });
            });
        }
    }

    /// Puts an image's g `[filters, H_o, W_o]` together as sums are made of it: of `at_once` blocks of filters, or of those
    /// that are left, vector by vector, one filter's after the other's.
    #[inline(always)]
    fn pack<S: Simd>(&self, s: &Launched, g: &[f32], at_once: usize, packed: &mut [f32]) {
        let ([ho, wo], apart) = (s.at.output, self.places.apart());
        let most = at_once * FILTERS;
        let all = g
            .chunks(most * ho * wo)
            .zip(packed.chunks_mut(most * apart));
        for (g, packed) in all {
            let filters = packed.len() / apart;
            for (f, g) in g.chunks_exact(ho * wo).enumerate() {
                for (i, mut row) in g.chunks_exact(wo).enumerate() {
                    let mut at = i * self.places.step();
                    while !row.is_empty() {
                        let (vector, lane) = (at / S::F32_LANES, at % S::F32_LANES);
                        let n = (S::F32_LANES - lane).min(row.len());
                        let to = &mut packed[(vector * filters + f) * S::F32_LANES + lane..][..n];
                        // A whole one is a load and a store.
                        match (S::as_mut_simd_f32s(to), S::as_simd_f32s(&row[..n])) {
                            (([to], _), ([from], _)) => *to = *from,
                            ((_, to), (_, from)) => to.copy_from_slice(from),
                        }
                        (at, row) = (at + n, &row[n..]);
                    }
                }
            }
        }
    }
}

/// The sums of one group.
struct Sums<'a> {
    own: &'a WeightGradient,
    s: &'a Launched,
    images: Vec<(&'a [f32], &'a [f32])>,
    /// Images that are laid out at once, in `planes` and `gradients`.
    together: usize,
    planes: &'a mut [f32],
    gradients: &'a mut [f32],
    dw: &'a mut [f32],
}

impl WithSimd for Sums<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self {
            own, s, images, dw, ..
        } = self;
        let (together, planes, gradients) = (self.together, self.planes, self.gradients);
        let (channels, filters) = (s.c / s.groups, s.f / s.groups);
        let (places, taps) = (own.places, own.taps.len());
        let offsets: Vec<usize> = (0..places.vectors()).map(|v| places.of(v)).collect();
        let blocks = filters.div_ceil(FILTERS);
        let portion = Portion {
            taps: &own.taps,
            size: channels * own.planes.channel(),
            packed: blocks * FILTERS * places.apart(),
            offsets: &offsets,
        };
        // A row of blocks for some filters, a column for some taps.
        let width = taps.div_ceil(TAPS);
        let mut sums = vec![[[simd.splat_f32s(0.0); TAPS]; FILTERS]; blocks * width];
        let at_once = if Registers::of::<S>().are_many() {
            2
        } else {
            1
        };
        for images in images.chunks(together) {
            let rooms = planes.chunks_exact_mut(portion.size);
            let rooms = rooms.zip(gradients.chunks_exact_mut(portion.packed));
            for ((x, g), (planes, gradients)) in images.iter().zip(rooms) {
                own.planes.lay(s, x, planes);
                own.pack::<S>(s, g, at_once, gradients);
            }
            for (number, rows) in sums.chunks_mut(at_once * width).enumerate() {
                let from = number * at_once * FILTERS * places.apart();
                let laid = [&*planes, &gradients[from..]];
                match rows.split_at_mut(width) {
                    (row, []) => portion.add(simd, images.len(), laid, [row]),
                    (row, next) => portion.add(simd, images.len(), laid, [row, next]),
                }
            }
        }
        for (block, sums) in sums.iter().enumerate() {
            let (filter, tap) = (block / width * FILTERS, block % width * TAPS);
            for f in 0..FILTERS.min(filters - filter) {
                for t in 0..TAPS.min(taps - tap) {
                    dw[(filter + f) * taps + tap + t] = simd.reduce_sum_f32s(sums[f][t]);
                }
            }
        }
    }
}

/// Some images as they are laid out.
#[derive(Clone, Copy)]
struct Portion<'a> {
    taps: &'a [usize],
    /// Elements of an image's planes, and of its gradients.
    size: usize,
    packed: usize,
    /// Where in a plane the vectors of places begin.
    offsets: &'a [usize],
}

/// The sums of some filters and taps.
type Block<V> = [[V; TAPS]; FILTERS];

impl Portion<'_> {
    /// Adds what the images give to `B` rows of blocks, whose gradients begin where those given do.
    #[inline(always)]
    fn add<S: Simd, const B: usize>(
        &self,
        simd: S,
        images: usize,
        [planes, gradients]: [&[f32]; 2],
        rows: [&mut [Block<S::f32s>]; B],
    ) {
        for (block, own) in self.taps.chunks(TAPS).enumerate() {
            // Where fewer are left, the last one stands in for those that are not there.
            let mut taps = [0; TAPS];
            for (t, tap) in taps.iter_mut().enumerate() {
                *tap = own[t.min(own.len() - 1)];
            }
            let mut kept = [[[simd.splat_f32s(0.0); TAPS]; FILTERS]; B];
            for b in 0..B {
                kept[b] = rows[b][block];
            }
            for i in 0..images {
                let (planes, gradients) = (&planes[i * self.size..], &gradients[i * self.packed..]);
                self.image::<S, B>(simd, [planes, gradients], taps, &mut kept);
            }
            for b in 0..B {
                rows[b][block] = kept[b];
            }
        }
    }

    /// Adds what one image gives.
    #[inline(always)]
    fn image<S: Simd, const B: usize>(
        &self,
        simd: S,
        [planes, gradients]: [&[f32]; 2],
        taps: [usize; TAPS],
        sums: &mut [Block<S::f32s>; B],
    ) {
        // Of one length, which is looked at once for all.
        let length = planes.len() - taps.iter().max().unwrap_or(&0);
        let mut x: [&[f32]; TAPS] = [&[]; TAPS];
        for t in 0..TAPS {
            x[t] = &planes[taps[t]..][..length];
        }
        let (gradients, _) = S::as_simd_f32s(gradients);
        let (gradients, _) = gradients.as_chunks::<FILTERS>();
        for (&offset, g) in self.offsets.iter().zip(gradients.chunks_exact(B)) {
            // The taps, one filter and the sums are as many registers as there are.
            let mut seen = [simd.splat_f32s(0.0); TAPS];
            for t in 0..TAPS {
                seen[t] = S::as_simd_f32s(&x[t][offset..][..S::F32_LANES]).0[0];
            }
            for b in 0..B {
                for f in 0..FILTERS {
                    for t in 0..TAPS {
                        sums[b][f][t] = simd.mul_add_e_f32s(g[b][f], seen[t], sums[b][f][t]);
                    }
                }
            }
        }
    }
}

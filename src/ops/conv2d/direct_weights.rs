//! The CPU's direct implementation of a convolution's weight gradient: ∂w of some filters and taps stays in
//! registers, one sum a lane, while the positions of several images go by.
//!
//! g stands in the planes' rows, with zeros in the gaps between them. These must meet nothing but
//! numbers, so images that are not finite are left to `im2col.rs`.

use pulp::{Arch, Simd, WithSimd};

use super::correlation::{Places, pays, with_made, with_planes};
use super::planes::{Planes, WIDEST, copy};
use super::reference::Launched;
use crate::ops::registers::Registers;

/// Filters that make a block of sums; registers hold one block or, where there are 32, two.
const FILTERS: usize = 4;
/// Taps of a block.
const TAPS: usize = 3;
/// Elements of images and gradients that go by before the next filters' turn: half of a near cache.
const NEAR: usize = 1 << 16;
/// Elements of gradients that stay in the nearest cache while taps go by.
const NEAREST: usize = 3 << 11;

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
            // All at once, if that is near enough: then no sum has to be kept from one portion to the next.
            let all = images.len().max(1);
            let whole = all * (size + packed) <= 2 * NEAR
                && all * 2 * FILTERS * self.places.apart() <= NEAREST;
            let together = match whole {
                true => all,
                false => (NEAR / (size + packed)).clamp(1, all),
            };
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

    /// Packs g `[filters, H_o, W_o]` of image `i` of `count` into `[blocks, images, vectors, filters, lanes]`, as sums are
    /// made of it. A block has `at_once` times [`FILTERS`] filters, the last one those that are left, filled up by zeros.
    #[inline(always)]
    fn pack<S: Simd>(
        &self,
        s: &Launched,
        g: &[f32],
        at_once: usize,
        [i, count]: [usize; 2],
        packed: &mut [f32],
    ) {
        let ([ho, wo], apart) = (s.at.output, self.places.apart());
        let most = at_once * FILTERS;
        let blocks = packed.chunks_mut(most * apart * count);
        for (g, packed) in g.chunks(most * ho * wo).zip(blocks) {
            let filters = packed.len() / (apart * count);
            let packed = &mut packed[i * filters * apart..][..filters * apart];
            for (f, g) in g.chunks_exact(ho * wo).enumerate() {
                for (row, mut g) in g.chunks_exact(wo).enumerate() {
                    let mut at = row * self.places.step();
                    while !g.is_empty() {
                        let (vector, lane) = (at / S::F32_LANES, at % S::F32_LANES);
                        let n = (S::F32_LANES - lane).min(g.len());
                        let to = &mut packed[(vector * filters + f) * S::F32_LANES + lane..][..n];
                        // A whole one is a load and a store.
                        match (S::as_mut_simd_f32s(to), S::as_simd_f32s(&g[..n])) {
                            (([to], _), ([from], _)) => *to = *from,
                            ((_, to), (_, from)) => copy(to, from),
                        }
                        (at, g) = (at + n, &g[n..]);
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
        let blocks = filters.div_ceil(FILTERS);
        let size = channels * own.planes.channel();
        let packed = blocks * FILTERS * places.apart();
        // Where the vectors of places begin in the planes of all images.
        let vectors = places.vectors();
        let of_image = |i: usize| (0..vectors).map(move |v| i * size + places.of(v));
        let offsets: Vec<usize> = (0..together).flat_map(of_image).collect();
        // A row of blocks for some filters, a column for some taps; kept where there are several portions.
        let width = taps.div_ceil(TAPS);
        let kept = if images.len() > together {
            blocks * width
        } else {
            0
        };
        let mut sums = vec![[[simd.splat_f32s(0.0); TAPS]; FILTERS]; kept];
        let at_once = if Registers::of::<S>().are_many() {
            2
        } else {
            1
        };
        for images in images.chunks(together) {
            let count = images.len();
            let gradients = &mut gradients[..count * packed];
            if count < together {
                // Gaps stand elsewhere.
                gradients.fill(0.0);
            }
            let rooms = planes.chunks_exact_mut(size).enumerate();
            for ((x, g), (i, planes)) in images.iter().zip(rooms) {
                own.planes.lay(s, x, 0, planes);
                own.pack::<S>(s, g, at_once, [i, count], gradients);
            }
            let portion = Portion {
                taps: &own.taps,
                planes,
                offsets: &offsets[..count * vectors],
            };
            let of_block = FILTERS * places.apart() * count;
            let parts = gradients.chunks(at_once * of_block);
            if sums.is_empty() {
                let filters = dw.chunks_mut(at_once * FILTERS * taps);
                for (gradients, dw) in parts.zip(filters) {
                    match gradients.len() > of_block {
                        true => portion.whole::<S, 2>(simd, gradients, dw),
                        false => portion.whole::<S, 1>(simd, gradients, dw),
                    }
                }
                return;
            }
            for (rows, gradients) in sums.chunks_mut(at_once * width).zip(parts) {
                match rows.split_at_mut(width) {
                    (row, []) => portion.add(simd, gradients, [row]),
                    (row, next) => portion.add(simd, gradients, [row, next]),
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
    /// Of one image after the other.
    planes: &'a [f32],
    /// Where in the planes vectors of places begin, those of all images.
    offsets: &'a [usize],
}

/// The sums of some filters and taps.
type Block<V> = [[V; TAPS]; FILTERS];

impl Portion<'_> {
    /// Adds what the images give to `B` rows of blocks, whose gradients these are.
    #[inline(always)]
    fn add<S: Simd, const B: usize>(
        &self,
        simd: S,
        gradients: &[f32],
        mut rows: [&mut [Block<S::f32s>]; B],
    ) {
        let blocks = self.taps.len().div_ceil(TAPS);
        for block in 0..blocks {
            let mut kept = [[[simd.splat_f32s(0.0); TAPS]; FILTERS]; B];
            for (kept, row) in kept.iter_mut().zip(&rows) {
                *kept = row[block];
            }
            self.images::<S, B>(simd, gradients, self.taps_of(block), &mut kept);
            for (kept, row) in kept.iter().zip(&mut rows) {
                row[block] = *kept;
            }
        }
    }

    /// ∂w of `B` blocks of filters, where these are all images there are.
    #[inline(always)]
    fn whole<S: Simd, const B: usize>(&self, simd: S, gradients: &[f32], dw: &mut [f32]) {
        let taps = self.taps.len();
        for block in 0..taps.div_ceil(TAPS) {
            let mut sums = [[[simd.splat_f32s(0.0); TAPS]; FILTERS]; B];
            self.images::<S, B>(simd, gradients, self.taps_of(block), &mut sums);
            for (f, dw) in dw.chunks_exact_mut(taps).enumerate() {
                for (t, dw) in dw[block * TAPS..].iter_mut().take(TAPS).enumerate() {
                    *dw = simd.reduce_sum_f32s(sums[f / FILTERS][f % FILTERS][t]);
                }
            }
        }
    }

    /// The taps of a block. Where fewer are left, the last one stands in for those that are not there.
    #[inline(always)]
    fn taps_of(&self, block: usize) -> [usize; TAPS] {
        let mut taps = [0; TAPS];
        for (t, tap) in taps.iter_mut().enumerate() {
            *tap = self.taps[(block * TAPS + t).min(self.taps.len() - 1)];
        }
        taps
    }

    /// Adds what they give to one block of each row.
    #[inline(always)]
    fn images<S: Simd, const B: usize>(
        &self,
        simd: S,
        gradients: &[f32],
        taps: [usize; TAPS],
        sums: &mut [Block<S::f32s>; B],
    ) {
        // Of one length, which is looked at once for all.
        let length = self.planes.len() - taps.iter().max().unwrap_or(&0);
        let mut x: [&[f32]; TAPS] = [&[]; TAPS];
        for t in 0..TAPS {
            x[t] = &self.planes[taps[t]..][..length];
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

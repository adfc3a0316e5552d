//! The CPU's direct implementation of a convolution's weight gradient: ∂w of some filters and taps stays in
//! registers, one sum a lane, while the positions of several images go by.
//!
//! g stands in the planes' rows, with zeros in the gaps between them. These must meet nothing but
//! numbers, so images that are not finite are left to `im2col.rs`.

use pulp::{Arch, Simd, WithSimd};

use super::correlation::{pays, with_made, with_planes};
use super::planes::{Planes, WIDEST};
use super::reference::Launched;

/// Filters whose sums are in registers at once.
const FILTERS: usize = 4;
/// Taps likewise.
const TAPS: usize = 3;
/// Elements of images and gradients that go by before the next filters' turn: half of a near cache.
const NEAR: usize = 1 << 16;

/// A weight gradient made ready.
pub(super) struct WeightGradient {
    planes: Planes,
    taps: Vec<usize>,
    positions: usize,
}

impl WeightGradient {
    /// If it pays.
    pub(super) fn new(s: &Launched) -> Option<Self> {
        let planes = Planes::of(s);
        let [ho, wo] = s.at.output;
        let positions = (ho - 1) * planes.columns() + wo;
        let depthwise = s.c == s.groups;
        let pixels = s.at.input[0] * s.at.input[1];
        let pays = pays(ho * wo, positions, [pixels, planes.channel()]);
        (pays && !depthwise).then(|| Self {
            taps: planes.taps(s.c / s.groups),
            planes,
            positions,
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
            let apart = self.positions.next_multiple_of(WIDEST);
            let together = (NEAR / (size + filters * apart)).clamp(1, images.len().max(1));
            with_planes(together * size + WIDEST, |planes| {
                with_made(together * filters * apart, |upstream| {
                    // Behind the last image stand zeros, which the last vectors read, and so they do between the rows
                    // of gradients.
                    planes[together * size..].fill(0.0);
                    upstream.fill(0.0);
                    Arch::new().dispatch(Sums {
                        own: self,
                        s,
                        images,
                        together,
                        planes,
                        upstream,
                        dw,
                    });
                });
            });
        }
    }
}

/// The sums of one group.
struct Sums<'a> {
    own: &'a WeightGradient,
    s: &'a Launched,
    images: Vec<(&'a [f32], &'a [f32])>,
    /// Images that are laid out at once, in `planes` and `upstream`.
    together: usize,
    planes: &'a mut [f32],
    upstream: &'a mut [f32],
    dw: &'a mut [f32],
}

impl WithSimd for Sums<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self {
            own, s, images, dw, ..
        } = self;
        let (together, planes, upstream) = (self.together, self.planes, self.upstream);
        let (channels, filters) = (s.c / s.groups, s.f / s.groups);
        let [ho, wo] = s.at.output;
        let (columns, taps) = (own.planes.columns(), own.taps.len());
        let size = channels * own.planes.channel();
        let apart = own.positions.next_multiple_of(WIDEST);
        let zero = simd.splat_f32s(0.0);
        let blocks = [filters.div_ceil(FILTERS), taps.div_ceil(TAPS)];
        let mut sums = vec![[[zero; TAPS]; FILTERS]; blocks[0] * blocks[1]];
        for images in images.chunks(together) {
            for (i, (x, g)) in images.iter().enumerate() {
                own.planes.lay(s, x, &mut planes[i * size..][..size]);
                let upstream = &mut upstream[i * filters * apart..][..filters * apart];
                for (g, to) in g
                    .chunks_exact(ho * wo)
                    .zip(upstream.chunks_exact_mut(apart))
                {
                    for (g, to) in g.chunks_exact(wo).zip(to.chunks_mut(columns)) {
                        to[..wo].copy_from_slice(g);
                    }
                }
            }
            for (block, sums) in sums.iter_mut().enumerate() {
                // Where fewer are left, the last one stands in for those that are not there.
                let (filter, tap) = (block / blocks[1] * FILTERS, block % blocks[1] * TAPS);
                let (mut at_g, mut at_x) = ([0; FILTERS], [0; TAPS]);
                for (f, at) in at_g.iter_mut().enumerate() {
                    *at = (filter + f).min(filters - 1) * apart;
                }
                for (t, at) in at_x.iter_mut().enumerate() {
                    *at = own.taps[(tap + t).min(taps - 1)];
                }
                let mut kept = *sums;
                for i in 0..images.len() {
                    let g = &upstream[i * filters * apart..][..filters * apart];
                    image::<S>(
                        simd,
                        apart,
                        [&planes[i * size..], g],
                        [&at_x, &at_g],
                        &mut kept,
                    );
                }
                *sums = kept;
            }
        }
        for (block, sums) in sums.iter().enumerate() {
            let (filter, tap) = (block / blocks[1] * FILTERS, block % blocks[1] * TAPS);
            for f in 0..FILTERS.min(filters - filter) {
                for t in 0..TAPS.min(taps - tap) {
                    dw[(filter + f) * taps + tap + t] = simd.reduce_sum_f32s(sums[f][t]);
                }
            }
        }
    }
}

/// Adds what one image gives.
#[inline(always)]
fn image<S: Simd>(
    simd: S,
    positions: usize,
    [planes, upstream]: [&[f32]; 2],
    [at_x, at_g]: [&[usize]; 2],
    sums: &mut [[S::f32s; TAPS]; FILTERS],
) {
    let vectors = positions / S::F32_LANES;
    let mut x: [&[S::f32s]; TAPS] = [&[]; TAPS];
    let mut g: [&[S::f32s]; FILTERS] = [&[]; FILTERS];
    for t in 0..TAPS {
        x[t] = &S::as_simd_f32s(&planes[at_x[t]..][..positions]).0[..vectors];
    }
    for f in 0..FILTERS {
        g[f] = &S::as_simd_f32s(&upstream[at_g[f]..][..positions]).0[..vectors];
    }
    for p in 0..vectors {
        // Three taps, one filter and twelve sums are as many registers as there are.
        let mut seen = [simd.splat_f32s(0.0); TAPS];
        for t in 0..TAPS {
            seen[t] = x[t][p];
        }
        for f in 0..FILTERS {
            let g = g[f][p];
            for t in 0..TAPS {
                sums[f][t] = simd.mul_add_e_f32s(g, seen[t], sums[f][t]);
            }
        }
    }
}

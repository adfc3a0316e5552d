//! The CPU executor's implementations.
//!
//! Images are laid out channels last with their padding (see [`Layout`]), so that what a
//! filter sees of an image is a few runs of contiguous floats, wherever it stands. Then
//! nothing has to be copied per place:
//!
//! - forward: eight filters, or sixteen, over eight places at a time, the sums in registers; bias and pool
//!   follow while a block's plane is in the cache, what stands at the end while an image is;
//! - weight gradient: per filter, a sum of what the winners see, a block of the filter in
//!   registers while the winners of an image pass;
//! - input gradient: per image, the filter is added at each winner.
//!
//! Both gradients pass over winners whose gradient is zero, as a ReLU leaves them.
//! Threads take images or filters, and every sum has its order within one of them: it
//! does not depend on the number of threads.

use crate::threads::prelude::*;

use super::lanes::{LANES, Lanes, Vector, WIDE, Work, widest};
use super::layout::Layout;
use super::reference::{self, Launched};
use super::scratch::{Lent, lend};
use crate::kernel::{Args, Finish, Slot};

/// Multiply-adds below which a launch is not worth a second thread.
const SPLIT: usize = 1 << 16;

/// Runs `each` on all items, on several threads if there is enough `work`.
fn spread<I: IndexedParallelIterator>(work: usize, many: I, each: impl Fn(I::Item) + Send + Sync)
where
    I::Item: Send,
{
    let least = if work < SPLIT { many.len() } else { 1 };
    many.with_min_len(least.max(1)).share(each);
}

/// Places whose sums are in registers at once.
const PLACES: usize = 8;

/// Blocks of filters over one image.
struct Forward<'a> {
    s: &'a Launched,
    layout: &'a Layout,
    /// Of the whole image, laid out.
    image: &'a [f32],
    /// Filters in blocks as [`Layout::columns`] has them.
    w: &'a [f32],
    bias: &'a [f32],
    /// Room for one block's plane `[places, LANES]`, or twice as much.
    plane: &'a mut [f32],
    /// One image's `[F, P_o, Q_o]`.
    y: &'a mut [f32],
    argmax: &'a mut [u32],
}

impl Forward<'_> {
    /// The convolution of one block of filters with one group of the image.
    #[inline(always)]
    fn convolve<const N: usize, V: Vector<N>>(&mut self, lanes: V, group: &[f32], w: &[f32]) {
        let (starts, run) = (&self.layout.starts[..], self.layout.run);
        let (plane, _) = self.plane.as_chunks_mut::<N>();
        for (tile, out) in plane[..starts.len()].chunks_mut(PLACES).enumerate() {
            // The last place stands in for those that are not there.
            let at: [usize; PLACES] = std::array::from_fn(
                #[inline(always)]
                |q| starts[(tile * PLACES + q).min(starts.len() - 1)] as usize,
            );
            let mut sums = [lanes.splat(0.0); PLACES];
            for (&begin, w) in self.layout.runs.iter().zip(w.chunks_exact(run * N)) {
                let rows: [&[f32]; PLACES] = std::array::from_fn(
                    #[inline(always)]
                    |q| &group[at[q] + begin as usize..][..run],
                );
                for (j, w) in w.as_chunks::<N>().0.iter().enumerate() {
                    let w = lanes.load(w);
                    for q in 0..PLACES {
                        sums[q] = lanes.add_scaled(sums[q], w, lanes.splat(rows[q][j]));
                    }
                }
            }
            for (out, sum) in out.iter_mut().zip(sums) {
                *out = lanes.store(sum);
            }
        }
    }

    /// Bias, maximum and its place, for `filters` filters from the block's plane.
    #[inline(always)]
    fn pool<const N: usize, V: Vector<N>>(&mut self, lanes: V, first: usize, filters: usize) {
        let pool = &self.s.pool;
        let ([po, qo], wo) = (pool.output, pool.input[1]);
        let (plane, _) = self.plane.as_chunks::<N>();
        let mut bias = [0.0; N];
        bias[..filters].copy_from_slice(&self.bias[first..first + filters]);
        let bias = lanes.load(&bias);
        for i in 0..po {
            let (top, bottom) = pool.inside(0, i);
            for j in 0..qo {
                let (left, right) = pool.inside(1, j);
                let corner = top * wo + left;
                let mut best = lanes.add(lanes.load(&plane[corner]), bias);
                let mut at = lanes.place(corner as u32);
                let mut total = lanes.splat(0.0);
                for row in top..bottom {
                    let places = &plane[row * wo + left..row * wo + right];
                    for (place, here) in places.iter().enumerate() {
                        let candidate = lanes.add(lanes.load(here), bias);
                        let place = lanes.place((row * wo + left + place) as u32);
                        (best, at) = lanes.larger((best, at), (candidate, place));
                        total = lanes.add(total, candidate);
                    }
                }
                let (mut best, mut at) = (lanes.store(best), lanes.store_places(at));
                // A sum is NaN if a summand is, and seldom else: one look at a whole window.
                if lanes.store(total).iter().any(|total| total.is_nan()) {
                    let bias = lanes.store(bias);
                    for row in (top..bottom).rev() {
                        for place in (row * wo + left..row * wo + right).rev() {
                            for e in 0..N {
                                let candidate = plane[place][e] + bias[e];
                                if candidate.is_nan() {
                                    (best[e], at[e]) = (candidate, place as u32);
                                }
                            }
                        }
                    }
                }
                let to = (first * po + i) * qo + j;
                for e in 0..filters {
                    self.y[to + e * po * qo] = best[e];
                    self.argmax[to + e * po * qo] = at[e];
                }
            }
        }
    }

    /// A block of a group's filters, from number `first` of all on.
    #[inline(always)]
    fn block<const N: usize, V: Vector<N>>(
        &mut self,
        lanes: V,
        channels: &[f32],
        w: &[f32],
        [first, filters]: [usize; 2],
    ) {
        self.convolve(lanes, channels, w);
        self.pool(lanes, first, filters.min(N));
    }
}

impl Work for Forward<'_> {
    #[inline(always)]
    fn run<L: Lanes>(mut self, lanes: L) {
        let (filters, taps) = (self.s.f / self.s.groups, self.layout.taps());
        let (image, mut w) = (self.image, self.w);
        for group in 0..self.s.groups {
            let channels = &image[group * self.layout.group()..];
            let mut done = 0;
            while done < filters {
                let (first, left) = (group * filters + done, filters - done);
                let wide = lanes.wide().filter(|_| left > LANES);
                let (now, rest) = w.split_at(taps * if wide.is_some() { WIDE } else { LANES });
                match wide {
                    Some(wide) => self.block::<WIDE, _>(wide, channels, now, [first, left]),
                    None => self.block::<LANES, _>(lanes, channels, now, [first, left]),
                }
                (w, done) = (rest, done + now.len() / taps);
            }
        }
    }
}

/// What all images of a launch have in common.
struct Images<'a> {
    s: Launched,
    layout: Layout,
    /// Filters, laid out.
    w: Lent<f32>,
    bias: &'a [f32],
}

impl<'a> Images<'a> {
    fn of(s: Launched, a: &Args<'a, f32>) -> Self {
        let layout = Layout::of(&s);
        let w = layout.columns(a.f(1), s.groups, s.f / s.groups);
        let bias = a.f(2);
        Self { s, layout, w, bias }
    }

    /// Pooled places of one image.
    fn pooled(&self) -> usize {
        self.s.f * self.s.pool.output[0] * self.s.pool.output[1]
    }

    fn work(&self) -> usize {
        self.s.n * self.s.f * self.layout.places() * self.layout.taps()
    }

    fn forward(&self, x: &[f32], y: &mut [f32], argmax: &mut [u32]) {
        let mut image = lend(self.layout.laid());
        let mut plane = lend(self.layout.places() * WIDE);
        self.layout.lay(x, &mut image);
        widest(Forward {
            s: &self.s,
            layout: &self.layout,
            image: &image,
            w: &self.w,
            bias: self.bias,
            plane: &mut plane,
            y,
            argmax,
        });
    }
}

pub(super) fn forward(a: &mut Args<'_, f32>) {
    let s = Launched::of(a);
    if Layout::sprawls(&s) {
        return reference::forward(a);
    }
    let all = Images::of(s, a);
    let (x, y, argmax) = (a.f(0), a.f_mut(3), a.u_mut(4));
    let images = y.par_chunks_mut(all.pooled());
    let images = images.zip(argmax.par_chunks_mut(all.pooled()));
    let images = images.zip(x.par_chunks(all.layout.image()));
    spread(all.work(), images, |((y, argmax), x)| {
        all.forward(x, y, argmax);
    });
}

/// The same, an image's elements finished while they are near.
pub(super) fn finishing<'f>(a: &mut Args<'_, f32>, parts: Vec<Box<dyn Finish + 'f>>) {
    let s = Launched::of(a);
    let Some(mut y) = parts.into_iter().next() else {
        return;
    };
    let (x, argmax) = (a.f(0), a.u_mut(4));
    if Layout::sprawls(&s) {
        let mut made = lend(argmax.len());
        let [x, w, bias] = [x, a.f(1), a.f(2)].map(Slot::F);
        let slots = [x, w, bias, Slot::FMut(&mut made), Slot::UMut(argmax)];
        reference::forward(&mut Args {
            constants: a.constants,
            slots: slots.into_iter().collect(),
        });
        return y.take(0, &made);
    }
    let all = Images::of(s, a);
    let images = y.split(all.pooled()).into_par_iter();
    let images = images.zip(argmax.par_chunks_mut(all.pooled()));
    let images = images.zip(x.par_chunks(all.layout.image()));
    spread(all.work(), images, |((mut y, argmax), x)| {
        let mut made = lend(all.pooled());
        all.forward(x, &mut made, argmax);
        y.take(0, &made);
    });
}

/// The filters, scaled by gradients, added at the winners of one image.
struct InputGradient<'a> {
    s: &'a Launched,
    layout: &'a Layout,
    /// `[F, blocks, LANES]`.
    w: &'a [f32],
    /// One image's `[F, P_o, Q_o]`.
    g: &'a [f32],
    argmax: &'a [u32],
    /// Laid out.
    dx: &'a mut [f32],
}

impl Work for InputGradient<'_> {
    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        let (blocks, filters) = (&self.layout.blocks[..], self.s.f / self.s.groups);
        let pooled = self.s.pool.output[0] * self.s.pool.output[1];
        let planes = self.g.chunks(pooled).zip(self.argmax.chunks(pooled));
        for (f, ((g, argmax), w)) in planes.zip(self.w.chunks(blocks.len() * LANES)).enumerate() {
            let dx = &mut self.dx[f / filters * self.layout.group()..];
            for (&g, start) in g.iter().zip(self.layout.seen(argmax)) {
                let Some(start) = start else { continue };
                if g == 0.0 {
                    continue;
                }
                let dx = &mut dx[start as usize..];
                if !g.is_finite() {
                    self.layout.add_filter(w, g, dx);
                    continue;
                }
                let g = lanes.splat(g);
                for (&at, w) in blocks.iter().zip(w.as_chunks::<LANES>().0) {
                    if let Some(dx) = dx[at as usize..].first_chunk_mut() {
                        let sum = lanes.add_scaled(lanes.load(dx), lanes.load(w), g);
                        *dx = lanes.store(sum);
                    }
                }
            }
        }
    }
}

/// Makes ∂x of each image, given the place of `places` for it and what writes it into a slice.
fn input_gradient<P: Send>(
    s: &Launched,
    a: &Args<'_, f32>,
    places: impl IndexedParallelIterator<Item = P>,
    each: impl Fn(P, &Layout, &[f32]) + Sync + Send,
) {
    let (g, argmax, w) = (a.f(0), a.u(1), a.f(2));
    let layout = Layout::of(s);
    let w = layout.rows(w, s.f);
    let pooled = s.f * s.pool.output[0] * s.pool.output[1];
    let upstream = g.par_chunks(pooled).zip(argmax.par_chunks(pooled));
    let images = places.zip(upstream);
    let work = s.n * pooled * layout.taps();
    spread(work, images, |(place, (g, argmax))| {
        let mut laid = lend(layout.laid());
        laid.fill(0.0);
        widest(InputGradient {
            s,
            layout: &layout,
            w: &w,
            g,
            argmax,
            dx: &mut laid,
        });
        each(place, &layout, &laid);
    });
}

pub(super) fn input_grad(a: &mut Args<'_, f32>) {
    let s = Launched::of(a);
    if Layout::sprawls(&s) {
        return reference::input_grad(a);
    }
    let dx = a.f_mut(3);
    let images = dx.par_chunks_mut(dx.len() / s.n);
    input_gradient(&s, a, images, |dx, layout, laid| layout.take(laid, dx));
}

/// The same, an image's elements finished while they are near.
pub(super) fn input_grad_finishing<'f>(a: &mut Args<'_, f32>, parts: Vec<Box<dyn Finish + 'f>>) {
    let s = Launched::of(a);
    let Some(mut dx) = parts.into_iter().next() else {
        return;
    };
    let image = s.c * s.conv.input[0] * s.conv.input[1];
    if Layout::sprawls(&s) {
        let mut made = lend(s.n * image);
        let [g, w] = [a.f(0), a.f(2)].map(Slot::F);
        let slots = [g, Slot::U(a.u(1)), w, Slot::FMut(&mut made)];
        reference::input_grad(&mut Args {
            constants: a.constants,
            slots: slots.into_iter().collect(),
        });
        return dx.take(0, &made);
    }
    let images = dx.split(image).into_par_iter();
    input_gradient(&s, a, images, |mut dx, layout, laid| {
        let mut made = lend(image);
        layout.take(laid, &mut made);
        dx.take(0, &made);
    });
}

/// What the winners of some filters see, summed over all images.
struct WeightGradient<'a> {
    s: &'a Launched,
    layout: &'a Layout,
    /// All images, laid out.
    images: &'a [f32],
    g: &'a [f32],
    argmax: &'a [u32],
    /// The first of the filters.
    first: usize,
    /// Room for the winners of one filter over one image.
    starts: &'a mut [u32],
    slopes: &'a mut [f32],
    /// `[filters, 1 + blocks, LANES]`; the first lane is the sum of the gradients.
    sums: &'a mut [f32],
}

impl Work for WeightGradient<'_> {
    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        /// Blocks that stay in registers at once: as many as a filter of 5 × 5 over one
        /// channel has. Eight were slower there and no faster over twenty channels.
        const KEPT: usize = 5;
        let (layout, filters) = (self.layout, self.s.f / self.s.groups);
        let pooled = self.s.pool.output[0] * self.s.pool.output[1];
        self.sums.fill(0.0);
        for n in 0..self.s.n {
            let image = &self.images[n * layout.size()..];
            for (f, sums) in self.sums.chunks_mut(layout.sums()).enumerate() {
                let f = self.first + f;
                let group = &image[f / filters * layout.group()..];
                let at = (n * self.s.f + f) * pooled;
                let winners = layout.seen(&self.argmax[at..at + pooled]);
                let mut count = 0;
                for (&g, start) in self.g[at..at + pooled].iter().zip(winners) {
                    sums[0] += g;
                    // Written always, counted if it counts: no branch to guess wrong.
                    self.starts[count] = start.unwrap_or(0);
                    self.slopes[count] = g;
                    count += usize::from(g != 0.0 && start.is_some());
                }
                let (starts, slopes) = (&self.starts[..count], &self.slopes[..count]);
                let (sums, _) = sums[LANES..].as_chunks_mut::<LANES>();
                for (sums, blocks) in sums.chunks_mut(KEPT).zip(layout.blocks.chunks(KEPT)) {
                    // Where fewer are left, the last block stands in for those that are
                    // not there.
                    let last = blocks.len() - 1;
                    let blocks: [usize; KEPT] = std::array::from_fn(
                        #[inline(always)]
                        |b| blocks[b.min(last)] as usize,
                    );
                    let mut kept: [<L as Vector<LANES>>::Floats; KEPT] = std::array::from_fn(
                        #[inline(always)]
                        |b| lanes.load(&sums[b.min(last)]),
                    );
                    for (&start, &g) in starts.iter().zip(slopes) {
                        let (seen, g) = (&group[start as usize..], lanes.splat(g));
                        for b in 0..KEPT {
                            if let Some(x) = seen[blocks[b]..].first_chunk() {
                                kept[b] = lanes.add_scaled(kept[b], lanes.load(x), g);
                            }
                        }
                    }
                    for (sum, kept) in sums.iter_mut().zip(kept) {
                        *sum = lanes.store(kept);
                    }
                }
            }
        }
    }
}

/// ∂w `[F, C / groups, K_h, K_w]` and ∂bias `[F]`.
fn weight_gradient(a: &Args<'_, f32>) -> (Lent<f32>, Lent<f32>) {
    let s = Launched::of(a);
    let (x, g, argmax) = (a.f(0), a.f(1), a.u(2));
    if Layout::sprawls(&s) {
        let (mut dw, mut dbias) = (lend(s.weights()), lend(s.f));
        reference::weight_gradient(a, &mut dw);
        reference::bias_gradient(a, &mut dbias);
        return (dw, dbias);
    }
    let layout = Layout::of(&s);
    let pooled = s.pool.output[0] * s.pool.output[1];
    let work = s.n * s.f * pooled * layout.taps();
    let mut images = lend(s.n * layout.size() + LANES);
    images[s.n * layout.size()..].fill(0.0);
    let all = images[..s.n * layout.size()].par_chunks_mut(layout.size());
    spread(
        x.len(),
        all.zip(x.par_chunks(layout.image())),
        |(laid, x)| layout.lay(x, laid),
    );
    let mut sums = lend(s.f * layout.sums());
    // Sums are within a filter: how many of them a thread takes changes nothing.
    let band = s.f.div_ceil(4 * crate::threads::current_num_threads());
    let bands = sums.par_chunks_mut(band * layout.sums()).enumerate();
    spread(work, bands, |(i, sums)| {
        widest(WeightGradient {
            s: &s,
            layout: &layout,
            images: &images,
            g,
            argmax,
            first: i * band,
            starts: &mut lend(pooled),
            slopes: &mut lend(pooled),
            sums,
        });
    });
    let (mut dw, mut dbias) = (lend(s.f * layout.taps()), lend(s.f));
    for (f, sums) in sums.chunks(layout.sums()).enumerate() {
        dbias[f] = sums[0];
        layout.filter(
            &sums[LANES..],
            &mut dw[f * layout.taps()..][..layout.taps()],
        );
    }
    (dw, dbias)
}

pub(super) fn weight_grad(a: &mut Args<'_, f32>) {
    let (dw, _) = weight_gradient(a);
    a.f_mut(3).copy_from_slice(&dw);
}

pub(super) fn weight_grad_bias(a: &mut Args<'_, f32>) {
    let (dw, dbias) = weight_gradient(a);
    a.f_mut(3).copy_from_slice(&dw);
    a.f_mut(4).copy_from_slice(&dbias);
}

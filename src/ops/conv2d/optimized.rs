//! The CPU executor's implementations: directly (`direct*.rs`) where rows of places fill
//! vectors, else by each image laid out as a matrix of its windows (im2col, Chellapilla et al. 2006;
//! `im2col.rs`) and products of matrices.
//!
//! Images are independent tasks for the threads. The weight gradient is summed over
//! images in a number of parts that depends on the sizes alone, so results do not depend
//! on the number of threads.

use std::cell::RefCell;

use crate::threads::prelude::*;

use super::correlation::finite;
use super::direct::Forward;
use super::direct_input::InputGradient;
use super::direct_weights::WeightGradient;
use super::reference::Launched;
use crate::kernel::{Args, Finish};

thread_local! {
    /// What a thread has made of an image and not finished yet, kept from launch to launch.
    static MADE: RefCell<Vec<f32>> = const { RefCell::new(vec![]) };
}

/// Makes `size` elements of each image and hands them over.
fn image_by_image<'a, 'x>(
    parts: Vec<Box<dyn Finish + 'a>>,
    size: usize,
    images: impl IndexedParallelIterator<Item = &'x [f32]>,
    make: impl Fn(&[f32], &mut [f32]) + Sync,
) {
    let Some(all) = parts.into_iter().next() else {
        return;
    };
    let parts = all.split(size).into_par_iter();
    parts.zip(images).for_each(|(mut part, image)| {
        let mut made = MADE.take();
        made.resize(size.max(made.len()), 0.0);
        make(image, &mut made[..size]);
        part.take(0, &made[..size]);
        MADE.set(made);
    });
}

/// Parts that the weight gradient's sum over images is cut into, at most.
const PARTS: usize = 8;

/// How each image's y is made of its x.
fn convolution<'a>(s: &'a Launched, w: &'a [f32]) -> impl Fn(&[f32], &mut [f32]) + Sync + 'a {
    let direct = Forward::new(s, w);
    move |x, y| match &direct {
        Some(direct) => direct.run(s, x, y),
        None => s.convolve(x, w, y),
    }
}

pub(super) fn forward(a: &mut Args<'_, f32>) {
    let s = Launched::of(a);
    let (x, w, y) = (a.f(0), a.f(1), a.f_mut(2));
    let convolve = convolution(&s, w);
    let images = y.par_chunks_mut(s.f * s.places());
    let images = images.zip(x.par_chunks(s.image()));
    images.for_each(|(y, x)| convolve(x, y));
}

/// The convolution, an image's elements finished while they are near.
pub(super) fn finishing<'a>(a: &mut Args<'_, f32>, parts: Vec<Box<dyn Finish + 'a>>) {
    let s = Launched::of(a);
    let (x, w) = (a.f(0), a.f(1));
    let images = x.par_chunks(s.image());
    image_by_image(parts, s.f * s.places(), images, convolution(&s, w));
}

/// How each image's ∂x is made of its g.
fn input_gradient<'a>(s: &'a Launched, w: &'a [f32]) -> impl Fn(&[f32], &mut [f32]) + Sync + 'a {
    let direct = InputGradient::new(s, w);
    move |g, dx| match &direct {
        Some(direct) => direct.run(s, g, dx),
        None => s.input_gradient(g, w, dx),
    }
}

pub(super) fn input_grad(a: &mut Args<'_, f32>) {
    let s = Launched::of(a);
    let (g, w, dx) = (a.f(0), a.f(1), a.f_mut(2));
    let back = input_gradient(&s, w);
    let images = dx.par_chunks_mut(s.image());
    let images = images.zip(g.par_chunks(s.f * s.places()));
    images.for_each(|(dx, g)| back(g, dx));
}

/// The input gradient likewise.
pub(super) fn input_grad_finishing<'a>(a: &mut Args<'_, f32>, parts: Vec<Box<dyn Finish + 'a>>) {
    let s = Launched::of(a);
    let (g, w) = (a.f(0), a.f(1));
    let images = g.par_chunks(s.f * s.places());
    image_by_image(parts, s.image(), images, input_gradient(&s, w));
}

fn weight_gradient(a: &Args<'_, f32>) -> Vec<f32> {
    let s = Launched::of(a);
    let (x, g) = (a.f(0), a.f(1));
    let direct = WeightGradient::new(&s);
    let part = s.n.div_ceil(PARTS);
    let images = x
        .par_chunks(part * s.image())
        .zip(g.par_chunks(part * s.f * s.places()));
    let parts: Vec<Vec<f32>> = images
        .map(|(x, g)| {
            let mut dw = vec![0.0; s.f * s.taps()];
            match &direct {
                Some(direct) if finite(x) => direct.run(&s, x, g, &mut dw),
                _ => s.weight_gradient(x, g, &mut dw),
            }
            dw
        })
        .collect();
    let mut parts = parts.into_iter();
    let mut sum = parts.next().unwrap_or_default();
    for part in parts {
        for (sum, v) in sum.iter_mut().zip(part) {
            *sum += v;
        }
    }
    sum
}

pub(super) fn weight_grad(a: &mut Args<'_, f32>) {
    let dw = weight_gradient(a);
    a.f_mut(2).copy_from_slice(&dw);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::window::{Placed, Window};

    fn wave(n: usize, step: f32) -> Vec<f32> {
        (0..n).map(|i| (i as f32 * step).sin()).collect()
    }

    fn close(what: &str, found: &[f32], wanted: &[f32], terms: usize) {
        let bound = 1e-6 * (terms as f32).sqrt().max(4.0);
        for (i, (found, wanted)) in found.iter().zip(wanted).enumerate() {
            let off = (found - wanted).abs();
            assert!(off < bound, "{what}, element {i}: {found}, not {wanted}");
        }
    }

    /// Many vectors and few, rows left over, strides that do not divide, more than one portion of images.
    #[test]
    fn direct_is_by_a_matrix_of_windows() {
        for (n, [c, h, w], [f, kh, kw], stride, padding, dilation, groups) in [
            (2, [2, 9, 9], [1, 3, 3], [1, 1], [0, 0], [1, 1], 1),
            (3, [16, 40, 40], [24, 3, 3], [1, 1], [1, 1], [1, 1], 1),
            (2, [6, 17, 33], [7, 2, 3], [1, 1], [0, 1], [2, 3], 1),
            (2, [5, 19, 16], [11, 3, 3], [2, 2], [1, 1], [1, 1], 1),
            (2, [4, 23, 19], [6, 5, 1], [3, 2], [2, 0], [1, 1], 2),
            (1, [3, 30, 31], [3, 3, 4], [1, 1], [3, 5], [1, 2], 3),
            (4, [8, 16, 16], [9, 1, 1], [2, 2], [0, 0], [1, 1], 1),
            (2, [2, 1, 50], [5, 1, 7], [1, 3], [0, 4], [1, 2], 1),
        ] {
            let window = Window {
                kernel: [kh, kw],
                stride,
                padding,
                dilation,
            };
            let output = window.output("test", [h, w]).unwrap();
            let s = Launched {
                n,
                c,
                f,
                groups,
                at: Placed {
                    window,
                    input: [h, w],
                    output,
                },
            };
            let places = output[0] * output[1];
            let weights = wave(f * c / groups * kh * kw, 0.7);
            let (x, g) = (wave(n * c * h * w, 0.37), wave(n * f * places, 0.61));
            let direct = Forward::new(&s, &weights).unwrap();
            let back = InputGradient::new(&s, &weights).unwrap();
            for (x, g) in x.chunks(c * h * w).zip(g.chunks(f * places)) {
                let (mut found, mut wanted) = (vec![f32::NAN; f * places], vec![0.0; f * places]);
                direct.run(&s, x, &mut found);
                s.convolve(x, &weights, &mut wanted);
                close("y", &found, &wanted, s.taps());
                let (mut found, mut wanted) = (vec![f32::NAN; c * h * w], vec![0.0; c * h * w]);
                back.run(&s, g, &mut found);
                s.input_gradient(g, &weights, &mut wanted);
                close("input gradient", &found, &wanted, f * kh * kw);
            }
            let (mut found, mut wanted) = (vec![f32::NAN; weights.len()], vec![0.0; weights.len()]);
            if let Some(direct) = WeightGradient::new(&s) {
                direct.run(&s, &x, &g, &mut found);
                s.weight_gradient(&x, &g, &mut wanted);
                close("weight gradient", &found, &wanted, n * places);
            } else {
                assert_eq!(groups, c);
            }
        }
    }
}

//! The CPU executor's implementations: directly (`direct*.rs`) where rows of places fill
//! vectors, else by each image laid out as a matrix of its windows (im2col, Chellapilla et al. 2006;
//! `im2col.rs`) and products of matrices.
//!
//! Images are independent tasks for the threads, and parts of them where they are few. The weight gradient is summed over
//! images in a number of parts that depends on the sizes alone, so results do not depend
//! on the number of threads.

use std::cell::RefCell;

use super::correlation::finite;
use super::direct::{ByRows, Cut, Forward};
use super::direct_input::InputGradient;
use super::direct_weights::WeightGradient;
use super::reference::Launched;
use crate::kernel::{Args, Finish, Hand};
use crate::threads::prelude::*;

thread_local! {
    /// What a thread has made of an image and not finished yet, kept from launch to launch.
    static MADE: RefCell<Vec<f32>> = const { RefCell::new(vec![]) };
}

/// Makes `size` elements of each image by `make` and hands them over.
fn image_by_image<'x>(
    parts: Parts<'_>,
    size: usize,
    images: impl IndexedParallelIterator<Item = &'x [f32]>,
    make: impl Fn(&[f32], &mut [f32]) + Sync,
) {
    let parts = split(parts, size).into_par_iter();
    parts.zip(images).share(|(mut part, image)| {
        made(&mut *part, size, |y| make(image, y));
    });
}

/// Makes the elements of a part.
fn made(part: &mut dyn Finish, size: usize, make: impl FnOnce(&mut [f32])) {
    match part.plain() {
        Some(y) => make(y),
        None => with_made(size, |made| {
            make(made);
            part.take(0, made);
        }),
    }
}

/// What finishes parts of a launch.
type Parts<'a> = Vec<Box<dyn Finish + 'a>>;

/// Lends a thread's room for what it makes and finishes.
fn with_made(size: usize, work: impl FnOnce(&mut [f32])) {
    let mut made = MADE.take();
    made.resize(size.max(made.len()), 0.0);
    work(&mut made[..size]);
    MADE.set(made);
}

/// Parts of elements of an image each, of a kernel with one port.
fn split(parts: Parts<'_>, size: usize) -> Parts<'_> {
    let all = parts.into_iter().next();
    all.map_or_else(Vec::new, |all| all.split(size))
}

/// What nothing finishes.
struct Plain<'a>(&'a mut [f32]);

impl Finish for Plain<'_> {
    fn results(&mut self) -> &mut [f32] {
        self.0
    }

    fn plain(&mut self) -> Option<&mut [f32]> {
        Some(self.0)
    }

    fn take(&mut self, from: usize, elements: &[f32]) {
        self.0[from..from + elements.len()].copy_from_slice(elements);
    }

    fn work(&self) -> usize {
        self.0.len()
    }

    fn split<'a>(self: Box<Self>, elements: usize) -> Vec<Box<dyn Finish + 'a>>
    where
        Self: 'a,
    {
        let parts = self.0.chunks_mut(elements);
        parts
            .map(|part| Box::new(Plain(part)) as Box<dyn Finish + 'a>)
            .collect()
    }

    fn deal<'a>(self: Box<Self>, elements: usize, hands: usize) -> Vec<Hand<'a>>
    where
        Self: 'a,
    {
        let mut dealt: Vec<Vec<&'a mut [f32]>> = (0..hands).map(|_| vec![]).collect();
        for (part, own) in self.0.chunks_mut(elements).enumerate() {
            dealt[part % hands].push(own);
        }
        let hand = |mut own: Vec<&'a mut [f32]>| -> Hand<'a> {
            Box::new(move |part, elements| own[part].copy_from_slice(elements))
        };
        dealt.into_iter().map(hand).collect()
    }
}

pub(super) fn forward(a: &mut Args<'_, f32>) {
    let y = a.f_mut(2);
    finishing(a, vec![Box::new(Plain(y))]);
}

/// The convolution, elements of an image or of some filters finished while they are near.
pub(super) fn finishing<'a>(a: &mut Args<'_, f32>, parts: Parts<'a>) {
    let s = Launched::of(a);
    let (x, w, size) = (a.f(0), a.f(1), s.f * s.places());
    let images = x.par_chunks(s.image());
    let Some(direct) = Forward::new(&s, w) else {
        return image_by_image(parts, size, images, |x, y| s.convolve(x, w, y));
    };
    match direct.cut(&s) {
        None => image_by_image(parts, size, images, |x, y| direct.run(&s, x, y)),
        Some(Cut::Rows(rows)) => {
            let by_rows = ByRows::new(&s, rows, w);
            let (each, of_image) = (by_rows.size(), s.at.output[0] / rows);
            for (image, x) in split(parts, size).into_iter().zip(x.chunks(s.image())) {
                // Hands stay this thread's, which has made them: to free another's memory costs both.
                let mut hands = image.deal(each, of_image);
                let tasks = hands.par_chunks_mut(1).enumerate();
                tasks.share(|(number, take)| {
                    with_made(s.f * each, |made| {
                        by_rows.run(x, number, made);
                        for (filter, made) in made.chunks_exact(each).enumerate() {
                            take[0](filter, made);
                        }
                    });
                });
            }
        }
        Some(Cut::Filters(task)) => {
            let task_size = task * s.places();
            for (part, x) in split(parts, size).into_iter().zip(x.chunks(s.image())) {
                let tasks = part.split(task_size).into_par_iter().enumerate();
                direct.laid(&s, x, |laid| {
                    tasks.share(|(number, mut part)| {
                        let size = part.results().len();
                        made(&mut *part, size, |y| {
                            direct.task_of(&s, laid, number * task, y);
                        });
                    });
                });
            }
        }
    }
}

pub(super) fn input_grad(a: &mut Args<'_, f32>) {
    let dx = a.f_mut(2);
    input_grad_finishing(a, vec![Box::new(Plain(dx))]);
}

/// The input gradient likewise.
pub(super) fn input_grad_finishing<'a>(a: &mut Args<'_, f32>, parts: Parts<'a>) {
    let s = Launched::of(a);
    let (g, w) = (a.f(0), a.f(1));
    let images = g.par_chunks(s.f * s.places());
    let direct = InputGradient::new(&s, w);
    image_by_image(parts, s.image(), images, |g, dx| match &direct {
        Some(direct) => direct.run(&s, g, dx),
        None => s.input_gradient(g, w, dx),
    });
}

/// Parts that the weight gradient's sum over images is cut into, at most, where one launch makes it.
const PARTS: usize = 8;

/// Makes the weight gradient of each part of so many images.
fn part_by_part<'w>(
    a: &Args<'_, f32>,
    s: &Launched,
    images: usize,
    parts: impl IndexedParallelIterator<Item = &'w mut [f32]>,
) {
    let direct = WeightGradient::new(s);
    let x = a.f(0).par_chunks(images * s.image());
    let g = a.f(1).par_chunks(images * s.f * s.places());
    x.zip(g).zip(parts).share(|((x, g), dw)| match &direct {
        Some(direct) if finite(x) => direct.run(s, x, g, dw),
        _ => s.weight_gradient(x, g, dw),
    });
}

fn add_up<'x>(sum: &mut [f32], parts: impl Iterator<Item = &'x [f32]>) {
    for part in parts {
        for (sum, v) in sum.iter_mut().zip(part) {
            *sum += v;
        }
    }
}

pub(super) fn weight_grad(a: &mut Args<'_, f32>) {
    let (s, dw) = (Launched::of(a), a.f_mut(2));
    let images = s.n.div_ceil(PARTS);
    let mut parts = vec![0.0; s.n.div_ceil(images) * dw.len()];
    part_by_part(a, &s, images, parts.par_chunks_mut(dw.len()));
    let (first, others) = parts.split_at(dw.len());
    dw.copy_from_slice(first);
    add_up(dw, others.chunks(dw.len()));
}

pub(super) fn weight_parts(a: &mut Args<'_, f32>) {
    let (s, parts) = (Launched::of(a), a.f_mut(2));
    let weights = s.f * s.taps();
    part_by_part(a, &s, a.size("IMAGES"), parts.par_chunks_mut(weights));
}

#[cfg(test)]
mod tests {
    use super::super::correlation::TASK_ROWS;
    use super::*;
    use crate::ops::window::{Placed, Window};

    fn wave(n: usize, step: f32) -> Vec<f32> {
        // Faster and faster: two of one pitch each would add up to large partial sums.
        let phase = |i: usize| (i * i % 10_007) as f32 * step;
        (0..n).map(|i| phase(i).sin()).collect()
    }

    fn close(what: &str, found: &[f32], wanted: &[f32], terms: usize) {
        for (i, (found, wanted)) in found.iter().zip(wanted).enumerate() {
            // Every partial sum is rounded, and they are as large as the sum.
            let bound = f32::EPSILON * (terms as f32).sqrt().max(4.0) * wanted.abs().max(8.0);
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
            (1, [6, 20, 20], [22, 3, 3], [1, 1], [1, 1], [1, 1], 2),
            (2, [2, 1, 50], [5, 1, 7], [1, 3], [0, 4], [1, 2], 1),
            (1, [4, 16, 18], [6, 1, 1], [1, 1], [2, 3], [1, 1], 1),
            (2, [4, 21, 34], [6, 3, 5], [1, 2], [1, 3], [1, 1], 1),
            // Rows of whole vectors, of one and of several; filters that fill blocks of 8, 4, 2 and 1.
            (2, [5, 9, 32], [15, 3, 3], [1, 1], [1, 1], [1, 1], 1),
            (3, [4, 16, 16], [20, 5, 5], [1, 1], [2, 2], [1, 1], 1),
            (2, [6, 31, 32], [18, 3, 3], [2, 2], [1, 1], [1, 1], 2),
            (2, [3, 5, 50], [9, 2, 3], [1, 1], [0, 0], [1, 1], 1),
            (1, [4, 12, 16], [10, 1, 3], [1, 1], [0, 3], [1, 3], 1),
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
                // Filters in tasks are the same bits.
                let task = if groups == 1 { TASK_ROWS } else { f / groups };
                let mut by_tasks = vec![f32::NAN; f * places];
                direct.laid(&s, x, |laid| {
                    for (number, y) in by_tasks.chunks_mut(task * places).enumerate() {
                        direct.task_of(&s, laid, number * task, y);
                    }
                });
                assert_eq!(by_tasks, found);
                // So are rows, and filters laid out side by side or not.
                for rows in
                    (1..=output[0]).filter(|rows| output[0].is_multiple_of(*rows) && groups == 1)
                {
                    let (by_rows, size) = (ByRows::new(&s, rows, &weights), rows * output[1]);
                    let mut made = vec![f32::NAN; f * size];
                    for number in 0..output[0] / rows {
                        by_rows.run(x, number, &mut made);
                        for (filter, made) in made.chunks(size).enumerate() {
                            let wanted = &found[filter * places + number * size..][..size];
                            assert_eq!(made, wanted, "{rows} rows");
                        }
                    }
                }
                for n in [1, 9] {
                    let s = Launched { n, ..s.clone() };
                    let mut other = vec![f32::NAN; f * places];
                    Forward::new(&s, &weights).unwrap().run(&s, x, &mut other);
                    assert_eq!(other, found, "as one of {n}");
                }
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

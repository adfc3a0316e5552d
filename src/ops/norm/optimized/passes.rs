//! The passes over x: what sums and elements are made of, task by task.

use std::cell::RefCell;
use std::marker::PhantomData;

use pulp::{Arch, Simd, WithSimd};

use super::super::reference::Sizes;
use super::run::{Added, Adds, Given, Made, On, One, Run};
use crate::kernel::Finish;
use crate::ops::sums::{Along, Sums, TASK};
use crate::threads::prelude::*;

/// Blocks of rows at most: each has sums of its own for all columns.
const BLOCKS: usize = 8;

impl Sizes {
    /// How many statistics there are.
    pub(super) fn statistics(&self) -> usize {
        match self.batch {
            true => self.c,
            false => self.n * self.groups,
        }
    }

    /// Neighbours that have one statistic and one parameter, or one statistic, or each its own.
    fn run(&self) -> usize {
        match (self.s, self.batch) {
            (1, true) => self.c,
            (1, false) => self.c / self.groups,
            (s, _) => s,
        }
    }
}

/// What sums are of.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum By {
    Statistic,
    Parameter,
}

/// The sums for every statistic or parameter.
pub(super) fn sums<A: Added<K>, const K: usize>(
    given: &Given<'_>,
    sizes: &Sizes,
    by: By,
) -> Vec<[f32; K]> {
    let channels = sizes.batch || by == By::Parameter;
    if channels && sizes.s == 1 {
        return columns::<A, K>(given, sizes);
    }
    let count = if channels {
        sizes.c
    } else {
        sizes.statistics()
    };
    let mut totals = vec![[0.0; K]; count];
    let terms = sizes.n * sizes.c * sizes.s / count;
    let several = TASK.div_ceil(terms.max(1));
    let tasks = totals.par_chunks_mut(several).enumerate();
    tasks.share(|(task, totals)| {
        Arch::new().dispatch(Totals::<A, K> {
            added: PhantomData,
            given,
            sizes,
            channels,
            first: task * several,
            totals,
        });
    });
    totals
}

/// Some sums.
struct Totals<'a, A, const K: usize> {
    added: PhantomData<A>,
    given: &'a Given<'a>,
    sizes: &'a Sizes,
    channels: bool,
    /// The number of the first.
    first: usize,
    totals: &'a mut [[f32; K]],
}

impl<A: Added<K>, const K: usize> WithSimd for Totals<'_, A, K> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let (given, added) = (*self.given, self.added);
        let Sizes {
            n, c, s, groups, ..
        } = *self.sizes;
        let wide = c / groups;
        for (i, totals) in self.totals.iter_mut().enumerate() {
            let number = self.first + i;
            let mut sums = Sums::NONE;
            if self.channels {
                for example in 0..n {
                    let r = self.sizes.statistic(example, number);
                    let first = (example * c + number) * s;
                    sums.add(s, Adds(added, given.run(first, s, One(r), One(number))));
                }
            } else if s == 1 {
                let own = On(number % groups * wide);
                let run = given.run(number * wide, wide, One(number), own);
                sums.add(wide, Adds(added, run));
            } else {
                for channel in 0..wide {
                    let own = One(number % groups * wide + channel);
                    let first = (number * wide + channel) * s;
                    sums.add(s, Adds(added, given.run(first, s, One(number), own)));
                }
            }
            *totals = sums.totals();
        }
    }
}

/// The sums of the columns of x `[N, C]`: blocks of rows, as many as sizes say, and these in order.
fn columns<A: Added<K>, const K: usize>(given: &Given<'_>, sizes: &Sizes) -> Vec<[f32; K]> {
    let (n, c) = (sizes.n, sizes.c);
    let rows = n.div_ceil(BLOCKS).max(TASK.div_ceil(c));
    let mut blocks = vec![0.0; n.div_ceil(rows) * K * c];
    let tasks = blocks.par_chunks_mut(K * c).enumerate();
    tasks.share(|(block, sums)| {
        Arch::new().dispatch(Columns::<A, K> {
            added: PhantomData,
            given,
            sizes,
            rows: block * rows..n.min((block + 1) * rows),
            sums,
        });
    });
    let (first, others) = blocks.split_at_mut(K * c);
    for other in others.chunks_exact(K * c) {
        first.iter_mut().zip(other).for_each(|(sum, x)| *sum += x);
    }
    let of = |column: usize| std::array::from_fn(|k| first[k * c + column]);
    (0..c).map(of).collect()
}

/// The columns' sums over some rows.
struct Columns<'a, A, const K: usize> {
    added: PhantomData<A>,
    given: &'a Given<'a>,
    sizes: &'a Sizes,
    rows: std::ops::Range<usize>,
    /// `[K, C]`.
    sums: &'a mut [f32],
}

impl<A: Added<K>, const K: usize> WithSimd for Columns<'_, A, K> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let given = *self.given;
        let Sizes {
            c, groups, batch, ..
        } = *self.sizes;
        let wide = c / groups;
        for row in self.rows {
            if batch {
                below::<A, _, _, K>(given.run(row * c, c, On(0), On(0)), c, 0..c, self.sums);
                continue;
            }
            for group in 0..groups {
                let (r, first) = (row * groups + group, group * wide);
                let run = given.run(row * c + first, wide, One(r), On(first));
                below::<A, _, _, K>(run, c, first..first + wide, self.sums);
            }
        }
    }
}

/// Adds a run to the sums of its columns.
#[inline(always)]
fn below<A: Added<K>, R: Along, C: Along, const K: usize>(
    run: Run<'_, R, C>,
    c: usize,
    columns: std::ops::Range<usize>,
    sums: &mut [f32],
) {
    for (k, sums) in sums.chunks_exact_mut(c).enumerate() {
        for (i, sum) in sums[columns.clone()].iter_mut().enumerate() {
            *sum += A::of(&run, i)[k];
        }
    }
}

/// Where elements go.
pub(super) enum To<'a> {
    /// To memory.
    Memory(&'a mut [f32]),
    /// To what finishes them, of a kernel with one port.
    Parts(Vec<Box<dyn Finish + 'a>>),
}

thread_local! {
    /// What a thread has made and not finished yet, kept from launch to launch.
    static MADE: RefCell<Vec<f32>> = const { RefCell::new(vec![]) };
}

/// Makes every element.
pub(super) fn made<M: Made>(given: &Given<'_>, sizes: &Sizes, to: To<'_>) {
    let length = sizes.run();
    let several = TASK.div_ceil(length);
    let task = |task: usize, y: &mut [f32]| {
        Arch::new().dispatch(Written::<M> {
            made: PhantomData,
            given,
            sizes,
            first: task * several,
            y,
        });
    };
    match to {
        To::Memory(y) => {
            let tasks = y.par_chunks_mut(several * length).enumerate();
            tasks.share(|(number, y)| task(number, y));
        }
        To::Parts(parts) => {
            let all = parts.into_iter().next();
            let parts = all.map_or_else(Vec::new, |all| all.split(several * length));
            let tasks = parts.into_par_iter().enumerate();
            tasks.share(|(number, mut part)| {
                let size = part.results().len();
                let mut made = MADE.take();
                made.resize(size.max(made.len()), 0.0);
                task(number, &mut made[..size]);
                part.take(0, &made[..size]);
                MADE.set(made);
            });
        }
    }
}

/// Writes every element.
pub(super) fn written<M: Made>(given: &Given<'_>, sizes: &Sizes, y: &mut [f32]) {
    made::<M>(given, sizes, To::Memory(y));
}

/// Some runs' elements.
struct Written<'a, M> {
    made: PhantomData<M>,
    given: &'a Given<'a>,
    sizes: &'a Sizes,
    /// The number of the first run.
    first: usize,
    y: &'a mut [f32],
}

impl<M: Made> WithSimd for Written<'_, M> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let given = *self.given;
        let length = self.sizes.run();
        let Sizes {
            c,
            s,
            groups,
            batch,
            ..
        } = *self.sizes;
        for (i, y) in self.y.chunks_exact_mut(length).enumerate() {
            let number = self.first + i;
            let first = number * length;
            if s > 1 {
                let channel = number % c;
                let r = self.sizes.statistic(number / c, channel);
                write::<M, _, _>(given.run(first, length, One(r), One(channel)), y);
            } else if batch {
                write::<M, _, _>(given.run(first, length, On(0), On(0)), y);
            } else {
                let own = On(number % groups * length);
                write::<M, _, _>(given.run(first, length, One(number), own), y);
            }
        }
    }
}

#[inline(always)]
fn write<M: Made, R: Along, C: Along>(run: Run<'_, R, C>, y: &mut [f32]) {
    for (i, y) in y.iter_mut().enumerate() {
        *y = M::of(&run, i);
    }
}

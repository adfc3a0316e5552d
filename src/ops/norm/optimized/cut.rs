//! What each run comes to that a statistic's elements are cut into. A task of the threads has some runs;
//! what is read of a run a second time is in the cache.

use std::marker::PhantomData;
use std::ops::Range;
use std::slice::from_ref;

use pulp::{Arch, Simd, WithSimd};

use super::super::reference::Sizes;
use super::run::{Added, Adds, Deviation, Elements, Given, One, Slopes};
use crate::ops::sums::{Sums, TASK};
use crate::threads::prelude::*;

/// What a run comes to, in `K` numbers.
pub(super) trait Comes<const K: usize>: Send + Sync {
    fn of(given: &Given<'_>, sizes: &Sizes, r: usize, run: Range<usize>) -> [f32; K];
}

/// Its mean and Σ (x − mean)².
pub(super) struct Spread;

/// Σ g and Σ g x̂ of a batch, mean and rstd of the statistic.
pub(super) struct Sloped;

impl Comes<2> for Spread {
    #[inline(always)]
    fn of(given: &Given<'_>, sizes: &Sizes, r: usize, run: Range<usize>) -> [f32; 2] {
        let [sum] = added::<Elements, 1>(given, sizes, r, run.clone());
        let mean = sum / run.len() as f32;
        let own = Given {
            mean: from_ref(&mean),
            ..*given
        };
        let [squares] = added::<Deviation, 1>(&own, sizes, r, run);
        [mean, squares]
    }
}

impl Comes<4> for Sloped {
    #[inline(always)]
    fn of(given: &Given<'_>, sizes: &Sizes, r: usize, run: Range<usize>) -> [f32; 4] {
        let (mean, rstd) = (given.mean[r], given.rstd[r]);
        let own = Given {
            mean: from_ref(&mean),
            rstd: from_ref(&rstd),
            ..*given
        };
        let [plain, along] = added::<Slopes, 2>(&own, sizes, r, run);
        [plain, along, mean, rstd]
    }
}

/// The sums of a run of statistic `r`, whose numbers stand first in `given`.
#[inline(always)]
fn added<A: Added<K>, const K: usize>(
    given: &Given<'_>,
    sizes: &Sizes,
    r: usize,
    run: Range<usize>,
) -> [f32; K] {
    let mut sums = Sums::NONE;
    // Neighbours in memory end with a channel's places in an example of a batch. From the second example on
    // they begin with them; where the first begin is counted once, since divisions are slow.
    let Sizes { c, s, batch, .. } = *sizes;
    let (mut first, mut length) = match batch {
        true => (sizes.place(r, run.start), s - run.start % s),
        false => (sizes.place(r, run.start), run.len()),
    };
    let mut left = run.len();
    while left > 0 {
        length = length.min(left);
        let neighbours = given.run(first, length, One(0), One(0));
        sums.add(length, Adds(PhantomData::<A>, neighbours));
        first += length + (c - 1) * s;
        left -= length;
        length = s;
    }
    totals(sums)
}

/// What the sums come to. A call: within the loop's function the compiler would keep running sums in the
/// order in which they are added up here, and gather each register's elements one by one.
#[inline(never)]
fn totals<const K: usize>(sums: Sums<K>) -> [f32; K] {
    sums.totals()
}

/// Writes what every run comes to, `[R, RUNS, K]`.
pub(super) fn cut<C: Comes<K>, const K: usize>(
    given: &Given<'_>,
    sizes: &Sizes,
    runs: usize,
    made: &mut [f32],
) {
    let several = TASK.div_ceil(sizes.terms().div_ceil(runs));
    let tasks = made.par_chunks_mut(several * K).enumerate();
    tasks.share(|(task, made)| {
        Arch::new().dispatch(Cut::<C, K> {
            comes: PhantomData,
            given,
            sizes,
            runs: &sizes.runs(runs),
            first: task * several,
            made,
        });
    });
}

/// Some runs.
struct Cut<'a, C, const K: usize> {
    comes: PhantomData<C>,
    given: &'a Given<'a>,
    sizes: &'a Sizes,
    runs: &'a [Range<usize>],
    /// The number of the first.
    first: usize,
    made: &'a mut [f32],
}

impl<C: Comes<K>, const K: usize> WithSimd for Cut<'_, C, K> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        for (i, made) in self.made.chunks_exact_mut(K).enumerate() {
            let number = self.first + i;
            let run = self.runs[number % self.runs.len()].clone();
            let r = number / self.runs.len();
            made.copy_from_slice(&C::of(self.given, self.sizes, r, run));
        }
    }
}

//! The CPU executor's implementation: sums and means of neighbours in running sums side by side. Others by the reference.

use pulp::{Arch, Simd, WithSimd};

use super::super::sums::{Sums, TASK};
use super::places::Places;
use super::reference;
use crate::kernel::Args;
use crate::threads::prelude::*;

pub(super) fn reduction(a: &mut Args<'_, f32>) {
    let (kind, k) = (a.size("KIND"), a.size("K"));
    let places = Places::launched(a);
    if ![reference::SUM, reference::MEAN].contains(&kind) || !places.are_neighbours() {
        return reference::reduction(a);
    }
    let count = if kind == reference::MEAN {
        k as f32
    } else {
        1.0
    };
    let (x, y) = (a.f(0), a.f_mut(1)); // [N K], [N]
    let several = TASK.div_ceil(k);
    let tasks = y.par_chunks_mut(several).zip(x.par_chunks(several * k));
    tasks.share(|(y, x)| Arch::new().dispatch(Means { x, y, count }));
}

/// Sums of as many neighbours as there are of x for each of y, divided by a number.
struct Means<'a> {
    x: &'a [f32],
    y: &'a mut [f32],
    count: f32,
}

impl WithSimd for Means<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let k = self.x.len() / self.y.len();
        for (y, x) in self.y.iter_mut().zip(self.x.chunks_exact(k)) {
            let mut sums = Sums::NONE;
            sums.add(k, x);
            let [sum] = sums.totals();
            *y = sum / self.count;
        }
    }
}

//! The reference implementations.

use std::ops::Range;

use super::places::Places;
use crate::kernel::Args;
use crate::tensor::Real;

// `KIND` of the kernels.
pub(super) const SUM: usize = 0;
pub(super) const MEAN: usize = 1;
const VARIANCE: usize = 2;
const LOG_SUM_EXP: usize = 3;
const NORM: usize = 4;
const MIN: usize = 1;

pub(super) fn reduction<T: Real>(a: &mut Args<'_, T>) {
    let (places, kind) = (Places::launched(a), a.size("KIND"));
    let (offsets, count) = (places.offsets(), T::of(a.size("K") as f64));
    let (x, y) = (a.f(0), a.f_mut(1)); // [N K], [N]
    for (y, first) in y.iter_mut().zip(places.firsts()) {
        let all = || offsets.iter().map(|offset| x[first + offset]);
        *y = match kind {
            MEAN => all().sum::<T>() / count,
            VARIANCE => {
                let mean = all().sum::<T>() / count;
                all().map(|x| (x - mean) * (x - mean)).sum::<T>() / count
            }
            LOG_SUM_EXP => {
                let largest = all().fold(x[first], |m, x| m.max(x));
                match largest.wide().is_finite() {
                    true => all().map(|x| (x - largest).exp()).sum::<T>().ln() + largest,
                    false => largest,
                }
            }
            NORM => all().map(|x| x * x).sum::<T>().sqrt(),
            _ => all().sum(),
        };
    }
}

pub(super) fn extreme<T: Real>(a: &mut Args<'_, T>) {
    let (places, kind) = (Places::launched(a), a.size("KIND"));
    let offsets = places.offsets();
    let (x, y, index) = (a.f(0), a.f_mut(1), a.u_mut(2)); // [N K], [N], [N]
    for ((y, index), first) in y.iter_mut().zip(index).zip(places.firsts()) {
        let best = (0..offsets.len()).fold(0, better(kind, x, first, &offsets));
        *y = x[first + offsets[best]];
        *index = best as u32;
    }
}

/// The runs of a result's elements, in order.
fn runs_of<T: Real>(a: &Args<'_, T>) -> Vec<Range<usize>> {
    let (k, runs) = (a.size("K"), a.size("RUNS"));
    let run = k.div_ceil(runs);
    (0..runs).map(|r| r * run..((r + 1) * run).min(k)).collect()
}

pub(super) fn runs<T: Real>(a: &mut Args<'_, T>) {
    let (places, kind) = (Places::launched(a), a.size("KIND"));
    let (offsets, runs) = (places.offsets(), runs_of(a));
    let (x, sums, middles) = (a.f(0), a.f_mut(1), a.f_mut(2)); // [N K], [N, RUNS] twice
    let each = places
        .firsts()
        .flat_map(|first| runs.iter().map(move |run| (first, run)));
    for ((first, run), (sum, middle)) in each.zip(sums.iter_mut().zip(middles)) {
        let all = || offsets[run.clone()].iter().map(|offset| x[first + offset]);
        (*sum, *middle) = match kind {
            VARIANCE => {
                let mean = all().sum::<T>() / T::of(run.len() as f64);
                (all().map(|x| (x - mean) * (x - mean)).sum(), mean)
            }
            LOG_SUM_EXP => {
                let largest = all().fold(x[first + offsets[run.start]], |m, x| m.max(x));
                (all().map(|x| (x - largest).exp()).sum(), largest)
            }
            NORM => (all().map(|x| x * x).sum(), T::ZERO),
            _ => (all().sum(), T::ZERO),
        };
    }
}

pub(super) fn joined<T: Real>(a: &mut Args<'_, T>) {
    let (kind, runs, k) = (a.size("KIND"), runs_of(a), T::of(a.size("K") as f64));
    let (sums, middles, y) = (a.f(0), a.f(1), a.f_mut(2)); // [N, RUNS] twice, [N]
    let each = sums.chunks(runs.len()).zip(middles.chunks(runs.len()));
    for (y, (sums, middles)) in y.iter_mut().zip(each) {
        let sum = sums.iter().copied().sum::<T>();
        *y = match kind {
            MEAN => sum / k,
            VARIANCE => {
                let counted = || runs.iter().map(|run| T::of(run.len() as f64)).zip(middles);
                let mean = counted().map(|(count, &m)| count * m).sum::<T>() / k;
                let between = counted().map(|(count, &m)| count * (m - mean) * (m - mean));
                (sum + between.sum::<T>()) / k
            }
            LOG_SUM_EXP => {
                let largest = middles.iter().fold(middles[0], |m, &x| m.max(x));
                let finite = |(_, m): &(&T, &T)| m.wide().is_finite();
                let each = sums.iter().zip(middles).filter(finite);
                match largest.wide().is_finite() {
                    true => each.map(|(&s, &m)| s * (m - largest).exp()).sum::<T>().ln() + largest,
                    false => largest,
                }
            }
            NORM => sum.sqrt(),
            _ => sum,
        };
    }
}

/// The better of two elements' places, the first of equals.
fn better<T: Real>(
    kind: usize,
    x: &[T],
    first: usize,
    offsets: &[usize],
) -> impl Fn(usize, usize) -> usize {
    move |best, k| {
        let (candidate, leader) = (x[first + offsets[k]], x[first + offsets[best]]);
        let outdoes = match kind {
            MIN => (-candidate).outdoes(-leader),
            _ => candidate.outdoes(leader),
        };
        if outdoes { k } else { best }
    }
}

pub(super) fn extreme_runs<T: Real>(a: &mut Args<'_, T>) {
    let (places, kind) = (Places::launched(a), a.size("KIND"));
    let (offsets, runs) = (places.offsets(), runs_of(a));
    let (x, found) = (a.f(0), a.u_mut(1)); // [N K], [N, RUNS]
    for (found, first) in found.chunks_mut(runs.len()).zip(places.firsts()) {
        for (found, run) in found.iter_mut().zip(&runs) {
            *found = run
                .clone()
                .fold(run.start, better(kind, x, first, &offsets)) as u32;
        }
    }
}

pub(super) fn extreme_joined<T: Real>(a: &mut Args<'_, T>) {
    let (places, kind) = (Places::launched(a), a.size("KIND"));
    let (offsets, runs) = (places.offsets(), a.size("RUNS"));
    let (x, found, y, index) = (a.f(0), a.u(1), a.f_mut(2), a.u_mut(3)); // [N K], [N, RUNS], [N], [N]
    let results = y.iter_mut().zip(index).zip(found.chunks(runs));
    for (((y, index), found), first) in results.zip(places.firsts()) {
        let found = found.iter().map(|&k| k as usize);
        let best = found.clone().fold(
            found.clone().next().unwrap_or(0),
            better(kind, x, first, &offsets),
        );
        *y = x[first + offsets[best]];
        *index = best as u32;
    }
}

pub(super) fn spread<T: Real>(a: &mut Args<'_, T>) {
    let (places, kind) = (Places::launched(a), a.size("KIND"));
    let (offsets, count) = (places.offsets(), T::of(a.size("K") as f64));
    let (g, dx) = (a.f(0), a.f_mut(1)); // [N], [N K]
    for (&g, first) in g.iter().zip(places.firsts()) {
        for offset in &offsets {
            dx[first + offset] = if kind == MEAN { g / count } else { g };
        }
    }
}

pub(super) fn grad<T: Real>(a: &mut Args<'_, T>) {
    let (places, kind) = (Places::launched(a), a.size("KIND"));
    let (offsets, count) = (places.offsets(), T::of(a.size("K") as f64));
    let (g, x, y, dx) = (a.f(0), a.f(1), a.f(2), a.f_mut(3)); // [N], [N K], [N], [N K]
    for ((&g, &y), first) in g.iter().zip(y).zip(places.firsts()) {
        for offset in &offsets {
            let x = x[first + offset];
            dx[first + offset] = match kind {
                VARIANCE => T::of(2.0) * g * (x - y) / count,
                LOG_SUM_EXP => g * (x - y).exp(),
                _ if y == T::ZERO => T::ZERO,
                _ => x * (g / y),
            };
        }
    }
}

pub(super) fn extreme_grad<T: Real>(a: &mut Args<'_, T>) {
    let places = Places::launched(a);
    let offsets = places.offsets();
    let (g, index, dx) = (a.f(0), a.u(1), a.f_mut(2)); // [N], [N], [N K]
    for ((&g, &index), first) in g.iter().zip(index).zip(places.firsts()) {
        for (k, offset) in offsets.iter().enumerate() {
            dx[first + offset] = if k == index as usize { g } else { T::ZERO };
        }
    }
}

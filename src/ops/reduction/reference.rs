//! The readable texts.

use super::places::Places;
use crate::kernel::Args;
use crate::tensor::Real;

// `KIND` of the kernels.
const MEAN: usize = 1;
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
        let mut best = 0;
        for (k, offset) in offsets.iter().enumerate() {
            let (candidate, leader) = (x[first + offset], x[first + offsets[best]]);
            let better = match kind {
                MIN => (-candidate).outdoes(-leader),
                _ => candidate.outdoes(leader),
            };
            if better {
                best = k;
            }
        }
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

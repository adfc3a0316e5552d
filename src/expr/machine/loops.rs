//! The loops over a chunk's elements, one for each function, which the compiler can make vector code of.

use crate::expr::{Binary, Compare, Unary, scalar};
use crate::tensor::Real;

/// The values of a line: one for each element of a chunk, or one for all.
pub(super) enum Values<'a, T> {
    Many(&'a [T]),
    One(T),
}

/// A condition as a number.
pub(super) fn truth<T: Real>(holds: bool) -> T {
    if holds { T::ONE } else { T::ZERO }
}

#[inline(always)]
pub(super) fn each<T: Real>(a: Values<'_, T>, to: &mut [T], f: impl Fn(T) -> T) {
    match a {
        Values::Many(a) => to.iter_mut().zip(a).for_each(|(to, &a)| *to = f(a)),
        Values::One(a) => to.fill(f(a)),
    }
}

#[inline(always)]
pub(super) fn both<T: Real>(
    a: Values<'_, T>,
    b: Values<'_, T>,
    to: &mut [T],
    f: impl Fn(T, T) -> T,
) {
    match (a, b) {
        (Values::Many(a), Values::Many(b)) => {
            for ((to, &a), &b) in to.iter_mut().zip(a).zip(b) {
                *to = f(a, b);
            }
        }
        (Values::Many(a), Values::One(b)) => {
            to.iter_mut().zip(a).for_each(|(to, &a)| *to = f(a, b))
        }
        (Values::One(a), Values::Many(b)) => {
            to.iter_mut().zip(b).for_each(|(to, &b)| *to = f(a, b))
        }
        (Values::One(a), Values::One(b)) => to.fill(f(a, b)),
    }
}

pub(super) fn unary<T: Real>(op: Unary, a: Values<'_, T>, to: &mut [T]) {
    macro_rules! loops {
        ($($op:ident),*) => {
            match op { $(Unary::$op => each(a, to, |x| scalar::unary(Unary::$op, x)),)* }
        };
    }
    loops!(
        Neg, Abs, Sign, Floor, Exp, Expm1, Log, Log1p, Sqrt, Rsqrt, Sin, Cos, Tanh, Sigmoid, Erf,
        Softplus, Relu
    );
}

pub(super) fn binary<T: Real>(op: Binary, a: Values<'_, T>, b: Values<'_, T>, to: &mut [T]) {
    macro_rules! loops {
        ($($op:ident),*) => {
            match op { $(Binary::$op => both(a, b, to, |a, b| scalar::binary(Binary::$op, a, b)),)* }
        };
    }
    loops!(Add, Sub, Mul, Div, Min, Max, Pow);
}

pub(super) fn compare<T: Real>(op: Compare, a: Values<'_, T>, b: Values<'_, T>, to: &mut [T]) {
    macro_rules! loops {
        ($($op:ident),*) => {
            match op { $(
                Compare::$op => both(a, b, to, |a, b| truth(scalar::compare(Compare::$op, a, b))),
            )* }
        };
    }
    loops!(Less, AtMost, Equal);
}

pub(super) fn select<T: Real>(c: Values<'_, T>, a: Values<'_, T>, b: Values<'_, T>, to: &mut [T]) {
    let value = |values: &Values<'_, T>, i: usize| match values {
        Values::Many(v) => v[i],
        Values::One(x) => *x,
    };
    match (c, a, b) {
        (Values::One(c), a, b) => each(if c == T::ZERO { b } else { a }, to, |x| x),
        (Values::Many(c), Values::Many(a), Values::Many(b)) => {
            for (((to, &c), &a), &b) in to.iter_mut().zip(c).zip(a).zip(b) {
                *to = if c == T::ZERO { b } else { a };
            }
        }
        (Values::Many(c), Values::Many(a), Values::One(b)) => {
            for ((to, &c), &a) in to.iter_mut().zip(c).zip(a) {
                *to = if c == T::ZERO { b } else { a };
            }
        }
        (Values::Many(c), a, b) => {
            for (i, (to, &c)) in to.iter_mut().zip(c).enumerate() {
                *to = if c == T::ZERO {
                    value(&b, i)
                } else {
                    value(&a, i)
                };
            }
        }
    }
}

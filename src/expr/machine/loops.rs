//! The loops over a chunk's elements, one for each function, which the compiler can make vector code of.

use crate::expr::{Binary, Compare, Unary, scalar};
use crate::tensor::Real;

/// The values of a line: one for each element of a chunk, or one for all.
pub(super) enum Values<'a, T> {
    Many(&'a [T]),
    One(T),
    /// Those that stand where the results go.
    Old,
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
        Values::Old => to.iter_mut().for_each(|to| *to = f(*to)),
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
        (Values::Old, Values::Many(b)) => to.iter_mut().zip(b).for_each(|(to, &b)| *to = f(*to, b)),
        (Values::Many(a), Values::Old) => to.iter_mut().zip(a).for_each(|(to, &a)| *to = f(a, *to)),
        (Values::Old, Values::One(b)) => to.iter_mut().for_each(|to| *to = f(*to, b)),
        (Values::One(a), Values::Old) => to.iter_mut().for_each(|to| *to = f(a, *to)),
        (Values::Old, Values::Old) => to.iter_mut().for_each(|to| *to = f(*to, *to)),
    }
}

#[inline(always)]
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

#[inline(always)]
pub(super) fn binary<T: Real>(op: Binary, a: Values<'_, T>, b: Values<'_, T>, to: &mut [T]) {
    macro_rules! loops {
        ($($op:ident),*) => {
            match op { $(Binary::$op => both(a, b, to, |a, b| scalar::binary(Binary::$op, a, b)),)* }
        };
    }
    loops!(Add, Sub, Mul, Div, Min, Max, Pow);
}

#[inline(always)]
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

#[inline(always)]
pub(super) fn select<T: Real>(c: Values<'_, T>, a: Values<'_, T>, b: Values<'_, T>, to: &mut [T]) {
    let value = |values: &Values<'_, T>, i: usize| match values {
        Values::Many(v) => v[i],
        Values::One(x) => *x,
        Values::Old => T::ZERO,
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
        // No choice is computed over an old value.
        (Values::Old, ..) => {}
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

/// The sum or difference of a and the product of b and c; `last` if the product is the second operand.
#[inline(always)]
pub(super) fn summed<T: Real>(op: Binary, [a, b, c]: [Values<'_, T>; 3], last: bool, to: &mut [T]) {
    // b c is c b.
    let (b, c) = match (b, c) {
        (b @ Values::Many(_), c @ Values::One(_)) => (c, b),
        other => other,
    };
    match (op, last) {
        (Binary::Sub, true) => three(a, b, c, to, |a, p| a - p),
        (Binary::Sub, false) => three(a, b, c, to, |a, p| p - a),
        _ => three(a, b, c, to, |a, p| a + p),
    }
}

#[inline(always)]
fn three<T: Real>(
    a: Values<'_, T>,
    b: Values<'_, T>,
    c: Values<'_, T>,
    to: &mut [T],
    f: impl Fn(T, T) -> T,
) {
    use Values::{Many, Old, One};
    match (a, b, c) {
        (Old, One(b), Many(c)) => {
            to.iter_mut()
                .zip(c)
                .for_each(|(to, &c)| *to = f(*to, b * c));
        }
        (Old, Many(b), Many(c)) => {
            for ((to, &b), &c) in to.iter_mut().zip(b).zip(c) {
                *to = f(*to, b * c);
            }
        }
        (Old, One(b), One(c)) => to.iter_mut().for_each(|to| *to = f(*to, b * c)),
        (Many(a), One(b), Many(c)) => {
            for ((to, &a), &c) in to.iter_mut().zip(a).zip(c) {
                *to = f(a, b * c);
            }
        }
        (Many(a), Many(b), Many(c)) => {
            for (((to, &a), &b), &c) in to.iter_mut().zip(a).zip(b).zip(c) {
                *to = f(a, b * c);
            }
        }
        (One(a), One(b), Many(c)) => {
            to.iter_mut().zip(c).for_each(|(to, &c)| *to = f(a, b * c));
        }
        (One(a), Many(b), Many(c)) => {
            for ((to, &b), &c) in to.iter_mut().zip(b).zip(c) {
                *to = f(a, b * c);
            }
        }
        (Many(a), One(b), One(c)) => {
            to.iter_mut().zip(a).for_each(|(to, &a)| *to = f(a, b * c));
        }
        (One(a), One(b), One(c)) => to.fill(f(a, b * c)),
        // The factor that is one for all stands first, and no factor is an old value.
        (_, Many(_) | Old, One(_)) | (_, Old, _) | (_, _, Old) => {}
    }
}

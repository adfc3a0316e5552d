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
    // Loops written out: a function of many instructions inside a closure would stay a call.
    macro_rules! loops {
        ($($op:ident),*) => {
            match (op, a) { $(
                (Unary::$op, Values::Many(a)) => {
                    for (to, &a) in to.iter_mut().zip(a) {
                        *to = scalar::unary(Unary::$op, a);
                    }
                }
                (Unary::$op, Values::One(a)) => to.fill(scalar::unary(Unary::$op, a)),
                (Unary::$op, Values::Old) => {
                    for to in to {
                        *to = scalar::unary(Unary::$op, *to);
                    }
                }
            )* }
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
    use Values::{Many, Old, One};
    let n = to.len();
    match (c, a, b) {
        (One(c), a, b) => each(if c == T::ZERO { b } else { a }, to, |x| x),
        (Many(c), Many(a), Many(b)) => choose(c, &a[..n], &b[..n], to, |a, i| a[i], |b, i| b[i]),
        (Many(c), Many(a), One(b)) => choose(c, &a[..n], b, to, |a, i| a[i], |b, _| b),
        (Many(c), One(a), Many(b)) => choose(c, a, &b[..n], to, |a, _| a, |b, i| b[i]),
        (Many(c), One(a), One(b)) => choose(c, a, b, to, |a, _| a, |b, _| b),
        // No choice is computed over an old value.
        (Old, ..) | (_, Old, _) | (_, _, Old) => {}
    }
}

/// Both values are read before one is chosen: a choice without a branch, which no processor could
/// guess where a mask is drawn at random.
#[inline(always)]
fn choose<T: Real, A: Copy, B: Copy>(
    c: &[T],
    a: A,
    b: B,
    to: &mut [T],
    of_a: impl Fn(A, usize) -> T,
    of_b: impl Fn(B, usize) -> T,
) {
    let c = &c[..to.len()];
    for (i, to) in to.iter_mut().enumerate() {
        let (a, b) = (of_a(a, i), of_b(b, i));
        *to = if c[i] == T::ZERO { b } else { a };
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

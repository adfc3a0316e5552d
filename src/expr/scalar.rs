//! The functions of expressions on one number, as every CPU path computes them.

use super::{Binary, Compare, Unary};
use crate::tensor::Real;

#[inline(always)]
pub(super) fn sign<T: Real>(x: T) -> T {
    if x > T::ZERO {
        T::ONE
    } else if x < T::ZERO {
        -T::ONE
    } else {
        // 0, and NaN, which stays.
        x + T::ZERO
    }
}

#[inline(always)]
pub(super) fn sigmoid<T: Real>(x: T) -> T {
    // e⁻ˣ may become infinite; the quotient is then 0, as it should be.
    T::ONE / (T::ONE + (-x).exp())
}

#[inline(always)]
pub(super) fn softplus<T: Real>(x: T) -> T {
    (-x.abs()).exp().ln_1p() + relu(x)
}

#[inline(always)]
pub(super) fn relu<T: Real>(x: T) -> T {
    if x <= T::ZERO { T::ZERO } else { x }
}

pub(super) fn min<T: Real>(a: T, b: T) -> T {
    if (b < a) | (b.is_nan() & !a.is_nan()) {
        b
    } else {
        a
    }
}

#[inline(always)]
pub(super) fn unary<T: Real>(op: Unary, x: T) -> T {
    match op {
        Unary::Neg => -x,
        Unary::Abs => x.abs(),
        Unary::Sign => sign(x),
        Unary::Floor => x.floor(),
        Unary::Exp => x.exp(),
        Unary::Expm1 => x.exp_m1(),
        Unary::Log => x.ln(),
        Unary::Log1p => x.ln_1p(),
        Unary::Sqrt => x.sqrt(),
        Unary::Rsqrt => T::ONE / x.sqrt(),
        Unary::Sin => x.sin(),
        Unary::Cos => x.cos(),
        Unary::Tanh => x.tanh(),
        Unary::Sigmoid => sigmoid(x),
        Unary::Erf => x.erf(),
        Unary::Softplus => softplus(x),
        Unary::Relu => relu(x),
    }
}

pub(super) fn binary<T: Real>(op: Binary, a: T, b: T) -> T {
    match op {
        Binary::Add => a + b,
        Binary::Sub => a - b,
        Binary::Mul => a * b,
        Binary::Div => a / b,
        Binary::Min => min(a, b),
        Binary::Max => Real::max(a, b),
        Binary::Pow => a.powf(b),
    }
}

pub(super) fn compare<T: Real>(op: Compare, a: T, b: T) -> bool {
    match op {
        Compare::Less => a < b,
        Compare::AtMost => a <= b,
        Compare::Equal => a == b,
    }
}

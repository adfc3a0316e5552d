//! Values on the host: what goes up once before a run and comes back after it.

use crate::functions;
use crate::shape::DType;

mod values;
pub use values::{Content, Element, Values};

/// The scalar arithmetic that references are written in, so that one text serves the
/// `f32` executor and the `f64` check of gradients.
pub trait Real:
    Copy
    + Send
    + Sync
    + PartialOrd
    + std::fmt::Debug
    + std::iter::Sum
    + std::ops::Add<Output = Self>
    + std::ops::Sub<Output = Self>
    + std::ops::Mul<Output = Self>
    + std::ops::Div<Output = Self>
    + std::ops::Neg<Output = Self>
    + std::ops::AddAssign
    + std::ops::SubAssign
    + std::ops::MulAssign
    + 'static
{
    /// Zero.
    const ZERO: Self;
    /// One.
    const ONE: Self;
    /// Nearest value of this type.
    fn of(x: f64) -> Self;
    /// Widened.
    fn wide(self) -> f64;
    /// eˣ.
    fn exp(self) -> Self;
    /// Natural logarithm.
    fn ln(self) -> Self;
    /// ln(1 + x), exact near zero.
    fn ln_1p(self) -> Self;
    /// Hyperbolic tangent.
    fn tanh(self) -> Self;
    /// Square root.
    fn sqrt(self) -> Self;
    /// Absolute value.
    fn abs(self) -> Self;
    /// eˣ − 1, exact near zero.
    fn exp_m1(self) -> Self;
    /// Sine of an angle in radians.
    fn sin(self) -> Self;
    /// Cosine of an angle in radians.
    fn cos(self) -> Self;
    /// The error function.
    fn erf(self) -> Self;
    /// x to a power.
    fn powf(self, exponent: Self) -> Self;
    /// The largest integer that is not above it.
    fn floor(self) -> Self;
    /// True if it is not a number.
    fn is_nan(self) -> bool;
    /// The larger of two; NaN if one of them is.
    fn max(self, other: Self) -> Self {
        if other.outdoes(self) { other } else { self }
    }
    /// Whether it takes the place of the largest so far: of equal ones the first stays. NaN
    /// counts as the largest number, the first of several, so that it goes on.
    fn outdoes(self, largest: Self) -> bool {
        ((self > largest) | self.is_nan()) & !largest.is_nan()
    }
}

macro_rules! real {
    ($t:ty, $exp:path, $ln:path, $ln_1p:path, $tanh:path, $exp_m1:path, $erf:path) => {
        impl Real for $t {
            const ZERO: Self = 0.0;
            const ONE: Self = 1.0;
            fn of(x: f64) -> Self {
                x as Self
            }
            fn wide(self) -> f64 {
                self as f64
            }
            #[inline(always)]
            fn exp(self) -> Self {
                $exp(self)
            }
            #[inline(always)]
            fn ln(self) -> Self {
                $ln(self)
            }
            #[inline(always)]
            fn ln_1p(self) -> Self {
                $ln_1p(self)
            }
            #[inline(always)]
            fn tanh(self) -> Self {
                $tanh(self)
            }
            fn sqrt(self) -> Self {
                self.sqrt()
            }
            fn abs(self) -> Self {
                self.abs()
            }
            #[inline(always)]
            fn exp_m1(self) -> Self {
                $exp_m1(self)
            }
            fn sin(self) -> Self {
                self.sin()
            }
            fn cos(self) -> Self {
                self.cos()
            }
            #[inline(always)]
            fn erf(self) -> Self {
                $erf(self)
            }
            fn powf(self, exponent: Self) -> Self {
                self.powf(exponent)
            }
            fn floor(self) -> Self {
                self.floor()
            }
            fn is_nan(self) -> bool {
                self.is_nan()
            }
        }
    };
}
real!(
    f32,
    functions::exp,
    functions::ln,
    functions::ln_1p,
    functions::tanh,
    functions::exp_m1,
    functions::erf
);
real!(
    f64,
    f64::exp,
    f64::ln,
    f64::ln_1p,
    f64::tanh,
    f64::exp_m1,
    libm::erf
);

/// Whether a number is one for devices, which compute in f32: finite there, and 0 only if it is
/// 0. What lies below the normal numbers is 0 on some devices.
pub(crate) fn held(value: f64) -> bool {
    value == 0.0 || (value as f32).is_normal()
}

/// What [`held`] wants of a number that may not be negative.
pub(crate) const HELD: &str = "0, or 1.2e-38 to 3.4e38 as 32-bit floats have it";

/// A view of the content of one buffer on the host.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum View<'a> {
    /// Floats.
    F32(&'a [f32]),
    /// Integers.
    U32(&'a [u32]),
}

impl<'a> From<&'a [f32]> for View<'a> {
    fn from(values: &'a [f32]) -> Self {
        Self::F32(values)
    }
}

impl<'a> From<&'a [u32]> for View<'a> {
    fn from(values: &'a [u32]) -> Self {
        Self::U32(values)
    }
}

impl<'a> View<'a> {
    /// How many elements.
    pub fn len(self) -> usize {
        match self {
            Self::F32(v) => v.len(),
            Self::U32(v) => v.len(),
        }
    }

    /// True if there are none.
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// Some neighbouring elements.
    ///
    /// # Panics
    /// For elements that are not there, as slices do.
    pub(crate) fn part(self, range: std::ops::Range<usize>) -> Self {
        match self {
            Self::F32(v) => Self::F32(&v[range]),
            Self::U32(v) => Self::U32(&v[range]),
        }
    }

    /// What the elements are.
    pub fn dtype(self) -> DType {
        match self {
            Self::F32(_) => DType::F32,
            Self::U32(_) => DType::U32,
        }
    }

    /// The bytes as the device sees them.
    pub fn bytes(self) -> &'a [u8] {
        match self {
            Self::F32(v) => bytemuck::cast_slice(v),
            Self::U32(v) => bytemuck::cast_slice(v),
        }
    }
}

/// The content of one buffer on the host.
#[derive(Clone, Debug, PartialEq)]
pub enum Host {
    /// Floats.
    F32(Vec<f32>),
    /// Integers, or bytes packed in fours, lowest first.
    U32(Vec<u32>),
}

impl Host {
    /// A view of it.
    pub fn view(&self) -> View<'_> {
        match self {
            Self::F32(v) => View::F32(v),
            Self::U32(v) => View::U32(v),
        }
    }

    /// How many elements.
    pub fn len(&self) -> usize {
        self.view().len()
    }

    /// True if there are none.
    pub fn is_empty(&self) -> bool {
        self.view().is_empty()
    }

    /// What the elements are.
    pub fn dtype(&self) -> DType {
        self.view().dtype()
    }

    /// The bytes as the device sees them.
    pub fn bytes(&self) -> &[u8] {
        self.view().bytes()
    }

    /// The floats, if it holds floats.
    pub fn floats(self) -> Option<Vec<f32>> {
        match self {
            Self::F32(v) => Some(v),
            Self::U32(_) => None,
        }
    }

    /// The integers, if it holds integers.
    pub fn integers(self) -> Option<Vec<u32>> {
        match self {
            Self::U32(v) => Some(v),
            Self::F32(_) => None,
        }
    }

    /// [`pack`], as the content of a buffer.
    pub fn pack(bytes: &[u8]) -> Self {
        Self::U32(pack(bytes))
    }
}

/// Bytes packed into words, lowest first; a last word is filled with zeros.
pub fn pack(bytes: &[u8]) -> Vec<u32> {
    let word = |c: &[u8]| {
        c.iter()
            .enumerate()
            .fold(0u32, |w, (i, &b)| w | u32::from(b) << (8 * i))
    };
    bytes.chunks(4).map(word).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_f32_lacks() {
        let (least, most) = (f64::from(f32::MIN_POSITIVE), f64::from(f32::MAX));
        for x in [0.0, 1.0, -0.1, least, most, -most, 4_294_967_295.0] {
            assert!(held(x), "{x:e}");
        }
        for x in [1e-50, least / 2.0, 1e39, -1e39, f64::INFINITY, f64::NAN] {
            assert!(!held(x), "{x:e}");
        }
    }

    #[test]
    fn bytes_pack_lowest_first() {
        assert_eq!(
            Host::pack(&[1, 2, 3, 4, 5]),
            Host::U32(vec![0x0403_0201, 5])
        );
    }
}

//! Sizes and element types of values, checked arithmetic on them.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// What one element of a value is on the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DType {
    /// 32-bit float (the CPU path can stand in `f64` for it, to check gradients).
    F32,
    /// 32-bit unsigned integer; also four packed bytes.
    U32,
}

/// A list of extents, outermost first, as in `[N, C, H, W]`. Never holds a zero.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Shape(Vec<usize>);

/// More elements than this in one value is refused: indices in shaders are 32 bits.
pub const MAX_ELEMENTS: usize = 1 << 30;

impl Shape {
    /// A checked shape.
    ///
    /// # Errors
    /// [`Error::Shape`] when an extent is zero or the product exceeds [`MAX_ELEMENTS`].
    pub fn new(place: &str, extents: &[usize]) -> Result<Self> {
        let elements = extents
            .iter()
            .try_fold(1usize, |product, &e| product.checked_mul(e));
        match elements {
            Some(n) if n > 0 && n <= MAX_ELEMENTS => Ok(Self(extents.to_vec())),
            _ => Err(Error::shape(
                place,
                format!("{extents:?}"),
                "extents of at least 1 whose product is at most 2^30",
            )),
        }
    }

    /// The extents.
    pub fn extents(&self) -> &[usize] {
        &self.0
    }

    /// How many axes.
    pub fn rank(&self) -> usize {
        self.0.len()
    }

    /// The product of all extents.
    pub fn elements(&self) -> usize {
        self.0.iter().product()
    }

    /// The extents as an array, if there are exactly `N`.
    ///
    /// # Errors
    /// [`Error::Shape`] naming `place` and the axes wanted.
    pub fn axes<const N: usize>(&self, place: &str, wanted: &str) -> Result<[usize; N]> {
        self.0
            .as_slice()
            .try_into()
            .map_err(|_| Error::shape(place, self.to_string(), wanted))
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

/// The type of a value in the graph: one replica's shape and what its elements are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Type {
    /// The shape within one replica.
    pub shape: Shape,
    /// The element type.
    pub dtype: DType,
    /// True where all replicas read one copy (the data set, the step counter).
    pub shared: bool,
}

impl Type {
    /// A float value that every replica has its own of.
    ///
    /// # Errors
    /// As [`Shape::new`].
    pub fn f32(place: &str, extents: &[usize]) -> Result<Self> {
        Ok(Self {
            shape: Shape::new(place, extents)?,
            dtype: DType::F32,
            shared: false,
        })
    }

    /// An integer value that every replica has its own of.
    ///
    /// # Errors
    /// As [`Shape::new`].
    pub fn u32(place: &str, extents: &[usize]) -> Result<Self> {
        Ok(Self {
            dtype: DType::U32,
            ..Self::f32(place, extents)?
        })
    }

    /// The same type, one copy for all replicas.
    pub fn shared(mut self) -> Self {
        self.shared = true;
        self
    }

    /// Elements within one replica.
    pub fn elements(&self) -> usize {
        self.shape.elements()
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let dtype = match self.dtype {
            DType::F32 => "f32",
            DType::U32 => "u32",
        };
        let shared = if self.shared { " shared" } else { "" };
        write!(f, "{dtype}{}{shared}", self.shape)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_and_overflow_are_refused() {
        for bad in [&[0usize, 3][..], &[usize::MAX, 2], &[1 << 20, 1 << 20]] {
            let e = Shape::new("layer 1", bad).unwrap_err().to_string();
            assert!(e.starts_with("layer 1: found"), "{e}");
        }
        assert_eq!(Shape::new("x", &[2, 3]).unwrap().elements(), 6);
    }
}

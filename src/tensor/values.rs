//! What a buffer's handle says about its content: elements of one type, or of either.

use std::fmt::Debug;
use std::ops::Deref;

use super::{Host, View};
use crate::shape::DType;

/// The elements that a buffer may have.
pub trait Element: bytemuck::Pod + PartialEq + Debug + Send + Sync {
    /// What they are on the device.
    const DTYPE: DType;
    /// A view of such elements.
    fn view(values: &[Self]) -> View<'_>;
    /// The elements, if these are such.
    fn of(host: Host) -> Option<Vec<Self>>;
}

impl Element for f32 {
    const DTYPE: DType = DType::F32;

    fn view(values: &[Self]) -> View<'_> {
        View::F32(values)
    }

    fn of(host: Host) -> Option<Vec<Self>> {
        host.floats()
    }
}

impl Element for u32 {
    const DTYPE: DType = DType::U32;

    fn view(values: &[Self]) -> View<'_> {
        View::U32(values)
    }

    fn of(host: Host) -> Option<Vec<Self>> {
        host.integers()
    }
}

/// How the content of a buffer is written and read: `f32` and `u32`, where its element type is
/// known to whoever writes the program; [`Host`], where only the graph knows it.
pub trait Content {
    /// What is written.
    type Data: ?Sized;
    /// What is read back.
    type Read;
    /// For messages: the element type that a buffer must have.
    const WANTED: &'static str;
    /// Whether a buffer of such elements has this content.
    fn holds(dtype: DType) -> bool;
    /// A view of what is written.
    fn view(data: &Self::Data) -> View<'_>;
    /// What came back, with the elements of one replica; `None` for elements of another type.
    fn read(host: Host, elements: usize) -> Option<Self::Read>;
}

macro_rules! content {
    ($t:ty, $wanted:literal) => {
        impl Content for $t {
            type Data = [$t];
            type Read = Values<$t>;
            const WANTED: &'static str = $wanted;

            fn holds(dtype: DType) -> bool {
                dtype == <$t as Element>::DTYPE
            }

            fn view(data: &[$t]) -> View<'_> {
                Element::view(data)
            }

            fn read(host: Host, elements: usize) -> Option<Values<$t>> {
                let values = <$t as Element>::of(host)?;
                Some(Values { values, elements })
            }
        }
    };
}
content!(f32, "f32");
content!(u32, "u32");

impl Content for Host {
    type Data = Host;
    type Read = Host;
    const WANTED: &'static str = "f32 or u32";

    fn holds(_: DType) -> bool {
        true
    }

    fn view(data: &Host) -> View<'_> {
        data.view()
    }

    fn read(host: Host, _: usize) -> Option<Host> {
        Some(host)
    }
}

/// What was read back of a buffer: the elements of each replica in order, or the one copy that
/// all replicas share. It is a slice of them all, and [`Values::replicas`] takes it apart.
#[derive(Clone, Debug, PartialEq)]
pub struct Values<T> {
    values: Vec<T>,
    /// Elements of one replica.
    elements: usize,
}

impl<T> Values<T> {
    /// The elements of each replica; of a shared buffer, the one copy.
    pub fn replicas(&self) -> std::slice::ChunksExact<'_, T> {
        self.values.chunks_exact(self.elements)
    }

    /// The elements of one replica; `None` where there is no such replica.
    pub fn replica(&self, replica: usize) -> Option<&[T]> {
        self.replicas().nth(replica)
    }

    /// The elements of all replicas.
    pub fn into_vec(self) -> Vec<T> {
        self.values
    }
}

impl<T> Deref for Values<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.values
    }
}

impl<T: PartialEq, const N: usize> PartialEq<[T; N]> for Values<T> {
    fn eq(&self, other: &[T; N]) -> bool {
        self.values == *other
    }
}

impl<T: PartialEq> PartialEq<Vec<T>> for Values<T> {
    fn eq(&self, other: &Vec<T>) -> bool {
        self.values == *other
    }
}

//! Layers that move elements, and sums of wires.

use super::*;
use crate::ops::concat::Concat as Join;
use crate::ops::pointwise::pointwise;

/// `[N, …]` → `[N, product of the rest]`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Flatten;

layer!(Flatten, "flatten", |_layer, scope, inputs| {
    let [x] = arity("flatten", inputs)?;
    let ty = scope.ty(x)?;
    let n = ty.shape.extents()[0];
    let extents = [n, ty.elements() / n];
    scope.reshape(x, &extents)
});

/// `[N, …]` → `[N, extents…]`, of as many elements.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reshape {
    /// The extents of one example.
    pub extents: Vec<usize>,
}

impl Reshape {
    /// Examples of these extents.
    pub fn new(extents: impl AsRef<[usize]>) -> Self {
        Self {
            extents: extents.as_ref().to_vec(),
        }
    }
}

layer!(Reshape, "reshape", |layer, scope, inputs| {
    let [x] = arity("reshape", inputs)?;
    let n = scope.extents(x)?[0];
    scope.reshape(x, &[&[n][..], &layer.extents].concat())
});

/// Two or more inputs one after the other along an axis of an example, counted from 0: 0 joins channels.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Concat {
    /// The axis of an example.
    #[serde(default)]
    pub axis: usize,
}

layer!(Concat, "concat", |layer, scope, inputs| {
    let Some((&first, rest)) = inputs.split_first() else {
        return Err(Error::shape("concat", "no inputs", "at least one"));
    };
    let axis = layer.axis.saturating_add(1);
    rest.iter().try_fold(first, |joined, &next| {
        scope.op1(Arc::new(Join { axis }), &[joined, next])
    })
});

/// Element by element over two inputs, broadcast as in NumPy.
macro_rules! arithmetic {
    ($($(#[$doc:meta])* $name:ident $kind:literal $op:tt)*) => {
        $(
            $(#[$doc])*
            #[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
            pub struct $name;

            layer!($name, $kind, |_layer, scope, inputs| {
                let [a, b] = arity($kind, inputs)?;
                pointwise(scope, [a, b], |[a, b]| a $op b)
            });
        )*
    };
}
arithmetic! {
    /// a + b.
    Sum "sum" +
    /// a − b.
    Difference "difference" -
    /// a · b.
    Product "product" *
}

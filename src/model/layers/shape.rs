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

/// The same value, which no gradient passes: what is before it is not trained by what is behind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Detach;

layer!(Detach, "detach", |_layer, scope, inputs| {
    let [x] = arity("detach", inputs)?;
    crate::ops::detach::detach(scope, x)
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

/// Two values whose examples broadcast as in NumPy: behind the mini-batch the one that has fewer axes gets some of 1, so
/// that no axis of an example meets the mini-batch.
pub(super) fn by_example(scope: &mut Scope<'_>, mut values: [Value; 2]) -> Result<[Value; 2]> {
    let ranks = values.map(|value| scope.extents(value).map_or(0, |all| all.len()));
    for (value, rank) in values.iter_mut().zip(ranks) {
        let missing = ranks[0].max(ranks[1]) - rank;
        let extents = scope.extents(*value)?;
        if let (Some((&n, rest)), 1..) = (extents.split_first(), missing) {
            let extents = [&[n][..], &vec![1; missing], rest].concat();
            *value = scope.reshape(*value, &extents)?;
        }
    }
    Ok(values)
}

/// Element by element over two inputs, whose examples are broadcast as in NumPy.
macro_rules! arithmetic {
    ($($(#[$doc:meta])* $name:ident $kind:literal $op:tt)*) => {
        $(
            $(#[$doc])*
            #[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
            pub struct $name;

            layer!($name, $kind, |_layer, scope, inputs| {
                let values = arity($kind, inputs)?;
                let values = by_example(scope, values)?;
                pointwise(scope, values, |[a, b]| a $op b)
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

/// a · scale + shift along an axis, by numbers that stay as they are: targets that were standardised
/// back in their own units, or each channel of a picture standardised.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Affine {
    /// What each place of the axis is multiplied by; one number is for all.
    pub scale: Vec<f64>,
    /// What is added then.
    pub shift: Vec<f64>,
    /// The axis of an example, counted from 0: 0 is that of channels. The last if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub axis: Option<usize>,
}

layer!(Affine, "affine", |layer, scope, inputs| {
    let [x] = arity("affine", inputs)?;
    let extents = scope.extents(x)?;
    let axis = match layer.axis {
        Some(axis) => axis.saturating_add(1),
        None => extents.len().saturating_sub(1),
    };
    let Some(&places) = extents.get(axis) else {
        let found = format!("axis {} of {}", axis - 1, scope.ty(x)?);
        return Err(Error::shape("affine", found, "an axis of an example"));
    };
    let mut constant = |name: &str, numbers: &[f64]| {
        let values: Vec<f32> = numbers.iter().map(|&x| x as f32).collect();
        // Files may have numbers so small that some devices take them for 0; these are no mistake.
        let has = |&x: &f64| (x as f32).is_finite() && (x == 0.0) == (x as f32 == 0.0);
        let count = values.len();
        if !(count == 1 || count == places) || !numbers.iter().all(has) {
            let found = format!("{count} numbers {numbers:?}");
            let wanted =
                format!("one number that 32-bit floats have, or one for each of {places} places");
            return Err(Error::setting(format!("{name} of affine"), found, wanted));
        }
        let behind = vec![1; extents.len() - axis - 1];
        scope.constant(&[&[count][..], &behind].concat(), values)
    };
    let (scale, shift) = (
        constant("scale", &layer.scale)?,
        constant("shift", &layer.shift)?,
    );
    pointwise(scope, [x, scale, shift], |[x, a, b]| x * a + b)
});

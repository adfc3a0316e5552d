//! Layers over the axes of an example, which are counted from 0: 0 is behind the mini-batch.

use super::shape::by_example;
use super::*;
use crate::ops::bmm::Bmm;
use crate::ops::permute::Permute as Reorder;
use crate::ops::reduction::{Kind, Reduction};
use crate::ops::slice::Slice as Part;

/// The extents of a value with the mini-batch, and the number of an example's axis among them.
fn axis_of(scope: &Scope<'_>, kind: &str, x: Value, axis: usize) -> Result<(Vec<usize>, usize)> {
    let extents = scope.extents(x)?;
    match axis.checked_add(1).filter(|&at| at < extents.len()) {
        Some(at) => Ok((extents, at)),
        None => {
            let found = format!(
                "axis {axis} of examples {:?}",
                &extents[1.min(extents.len())..]
            );
            Err(Error::shape(
                kind,
                found,
                "an axis of an example, counted from 0",
            ))
        }
    }
}

/// A place along an axis, counted from its end where it is negative.
fn place(at: i64, extent: usize) -> Option<usize> {
    match usize::try_from(at) {
        Ok(at) => Some(at),
        Err(_) => extent.checked_sub(usize::try_from(at.unsigned_abs()).ok()?),
    }
}

/// The axes of an example in another order, as `x.permute(0, …)` in PyTorch: axis k becomes what axis `axes[k]` was.
///
/// ```
/// use wgrad::model::{Model, layers::*};
///
/// // Channels of a signal as steps of time: [8, 100] → [100, 8].
/// let model = Model::sequential([1, 100]).then(Conv1d::new(8, 5).padding(2))
///     .then(Permute::new([1, 0])).then(Lstm::new(16).last()).then(Dense::new(2)).build()?;
/// # Ok::<(), wgrad::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Permute {
    /// Each axis of an example once.
    pub axes: Vec<usize>,
}

impl Permute {
    /// In this order.
    pub fn new(axes: impl AsRef<[usize]>) -> Self {
        Self {
            axes: axes.as_ref().to_vec(),
        }
    }
}

layer!(Permute, "permute", |layer, scope, inputs| {
    let [x] = arity("permute", inputs)?;
    let extents = scope.extents(x)?;
    let mut sorted = layer.axes.clone();
    sorted.sort_unstable();
    if !sorted.iter().copied().eq(0..extents.len() - 1) {
        let found = format!("axes {:?} of examples {:?}", layer.axes, &extents[1..]);
        let wanted = "each axis of an example once, counted from 0";
        return Err(Error::shape("permute", found, wanted));
    }
    let axes = layer.axes.iter().map(|axis| axis + 1);
    let axes = std::iter::once(0).chain(axes).collect();
    scope.op1(Arc::new(Reorder { axes }), &[x])
});

/// A part along an axis of an example, as `x[:, start:end:step]` in PyTorch.
///
/// ```
/// # use wgrad::model::{Model, layers::*};
/// // The last ten of a hundred steps.
/// let model = Model::sequential([100, 3]).then(Slice::new(0).from(-10)).build()?;
/// assert_eq!(model.output("output")?.extents, [10, 3]);
/// # Ok::<(), wgrad::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Slice {
    /// The axis of an example.
    pub axis: usize,
    /// The first place, from the end where it is negative.
    #[serde(default)]
    pub start: i64,
    /// Where it ends, that place not included, from the end where it is negative: with the axis if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<i64>,
    /// How far places are apart.
    #[serde(default = "one")]
    pub step: usize,
}

impl Slice {
    /// All along an axis.
    pub fn new(axis: usize) -> Self {
        Self {
            axis,
            start: 0,
            end: None,
            step: 1,
        }
    }

    /// From this place on, counted from the end where it is negative.
    #[must_use]
    pub fn from(self, start: i64) -> Self {
        Self { start, ..self }
    }

    /// Up to this place, which is not included, counted from the end where it is negative.
    #[must_use]
    pub fn to(self, end: i64) -> Self {
        Self {
            end: Some(end),
            ..self
        }
    }

    /// Every so manieth place.
    #[must_use]
    pub fn step(self, step: usize) -> Self {
        Self { step, ..self }
    }
}

layer!(Slice, "slice", |layer, scope, inputs| {
    let [x] = arity("slice", inputs)?;
    let (extents, axis) = axis_of(scope, "slice", x, layer.axis)?;
    let extent = extents[axis];
    let end = layer.end.map_or(Some(extent), |end| place(end, extent));
    let part = place(layer.start, extent).zip(end);
    let part = part.filter(|&(start, end)| start < end && end <= extent && layer.step > 0);
    let Some((start, end)) = part else {
        let end = layer.end.map_or(String::new(), |end| end.to_string());
        let found = format!("{}:{end} in steps of {}", layer.start, layer.step);
        let wanted = format!(
            "a part that is not empty of the {extent} places of axis {}",
            layer.axis
        );
        return Err(Error::shape("slice", found, wanted));
    };
    let part = Part {
        axis,
        start,
        extent: (end - start).div_ceil(layer.step),
        // Of one place a longer step says nothing more.
        step: layer.step.min(extent),
    };
    scope.op1(Arc::new(part), &[x])
});

/// One place along an axis of an example, which is gone then, as `x[:, index]` in PyTorch.
///
/// ```
/// # use wgrad::model::{Model, layers::*};
/// // What a transformer makes of the first place.
/// let block = TransformerBlock::new(2, 32);
/// let model = Model::sequential([9, 16]).then(block).then(Select::new(0, 0)).then(Dense::new(3)).build()?;
/// assert_eq!(model.output("output")?.extents, [3]);
/// # Ok::<(), wgrad::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Select {
    /// The axis of an example.
    pub axis: usize,
    /// The place, from the end where it is negative: −1 is the last.
    pub index: i64,
}

impl Select {
    /// That place of that axis.
    pub fn new(axis: usize, index: i64) -> Self {
        Self { axis, index }
    }
}

layer!(Select, "select", |layer, scope, inputs| {
    let [x] = arity("select", inputs)?;
    let (mut extents, axis) = axis_of(scope, "select", x, layer.axis)?;
    let start = place(layer.index, extents[axis]).filter(|&at| at < extents[axis]);
    let Some(start) = start else {
        let wanted = format!("one of the {} places of axis {}", extents[axis], layer.axis);
        return Err(Error::shape(
            "select",
            format!("place {}", layer.index),
            wanted,
        ));
    };
    let part = Part {
        axis,
        start,
        extent: 1,
        step: 1,
    };
    let part = scope.op1(Arc::new(part), &[x])?;
    extents.remove(axis);
    scope.reshape(part, &extents)
});

/// One number of all along some axes of an example, which are gone then, as `x.mean(1)` and `x.max(1).values` in PyTorch. Of
/// several largest or smallest elements the first alone has the gradient.
///
/// ```
/// # use wgrad::model::{Model, layers::*};
/// // The mean over the steps of a sequence, [9, 16] → [16].
/// let model = Model::sequential([9, 16]).then(Reduce::mean([0])).then(Dense::new(3)).build()?;
/// # Ok::<(), wgrad::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reduce {
    /// What is made of the elements.
    pub to: Kind,
    /// The axes of an example.
    pub axes: Vec<usize>,
    /// They stay, with extent 1.
    #[serde(default)]
    pub keep: bool,
}

impl Reduce {
    /// This of these axes.
    pub fn new(to: Kind, axes: impl AsRef<[usize]>) -> Self {
        Self {
            to,
            axes: axes.as_ref().to_vec(),
            keep: false,
        }
    }

    /// The sum over these axes.
    pub fn sum(axes: impl AsRef<[usize]>) -> Self {
        Self::new(Kind::Sum, axes)
    }

    /// The mean over these axes.
    pub fn mean(axes: impl AsRef<[usize]>) -> Self {
        Self::new(Kind::Mean, axes)
    }

    /// The largest element over these axes.
    pub fn max(axes: impl AsRef<[usize]>) -> Self {
        Self::new(Kind::Max, axes)
    }

    /// The axes stay, with extent 1: then the result can be joined with what it is of.
    #[must_use]
    pub fn keep(self) -> Self {
        Self { keep: true, ..self }
    }
}

layer!(Reduce, "reduce", |layer, scope, inputs| {
    let [x] = arity("reduce", inputs)?;
    let mut axes = Vec::new();
    for (k, &axis) in layer.axes.iter().enumerate() {
        if layer.axes[..k].contains(&axis) {
            let found = format!("axis {axis} twice");
            return Err(Error::shape("reduce", found, "each axis once"));
        }
        axes.push(axis_of(scope, "reduce", x, axis)?.1);
    }
    let reduction = Reduction {
        keep: layer.keep,
        ..Reduction::new(layer.to, &axes)
    };
    Ok(scope.op(Arc::new(reduction), &[x])?[0])
});

/// Products of two inputs' matrices, `[…, M, K]` and `[…, K, N]` → `[…, M, N]`, as `a @ b` in PyTorch; what is before
/// the matrices is broadcast.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Matmul {
    /// The first input's matrices stand transposed, `[…, K, M]`.
    pub transpose_a: bool,
    /// The second one's do, `[…, N, K]`.
    pub transpose_b: bool,
}

layer!(Matmul, "matmul", |layer, scope, inputs| {
    let values = arity("matmul", inputs)?;
    for value in values {
        if scope.extents(value)?.len() < 3 {
            let found = scope.ty(value)?.to_string();
            return Err(Error::shape(
                "matmul",
                found,
                "inputs [N, …, M, K] and [N, …, K, N]",
            ));
        }
    }
    let values = by_example(scope, values)?;
    let product = Bmm {
        trans_a: layer.transpose_a,
        trans_b: layer.transpose_b,
    };
    scope.op1(Arc::new(product), &values)
});

/// Inputs of one shape along a new axis of an example, as `torch.stack`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stack {
    /// The number of the new axis.
    #[serde(default)]
    pub axis: usize,
}

layer!(Stack, "stack", |layer, scope, inputs| {
    if inputs.is_empty() {
        return Err(Error::shape("stack", "no inputs", "at least one"));
    }
    crate::ops::stack(scope, inputs, layer.axis.saturating_add(1))
});

fn one() -> usize {
    1
}

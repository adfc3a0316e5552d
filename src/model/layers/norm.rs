//! Normalization.

use super::*;
use crate::expr::Expr;
use crate::model::{Pass, Start};
use crate::ops::lrn::Lrn;
use crate::ops::norm::{Norm, NormGiven, Over};
use crate::ops::pointwise::Pointwise;

fn epsilon() -> f64 {
    1e-5
}

fn momentum() -> f64 {
    0.1
}

/// Batch normalization of `[N, C]` or `[N, C, …]` (Ioffe and Szegedy 2015): each channel over all
/// examples of the mini-batch while training, by running statistics when it evaluates. Weights
/// `weight [C]`, `bias [C]`; statistics `running_mean [C]` and `running_var [C]`, of which each step
/// takes `momentum`, the variance that of a sample.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BatchNorm {
    /// ε, added to the variance.
    pub epsilon: f64,
    /// The share of the mini-batch in the running statistics.
    pub momentum: f64,
}

impl Default for BatchNorm {
    fn default() -> Self {
        Self {
            epsilon: epsilon(),
            momentum: momentum(),
        }
    }
}

impl BatchNorm {
    /// ε 10⁻⁵, momentum 0.1.
    pub fn new() -> Self {
        Self::default()
    }
}

layer!(BatchNorm, "batch_norm", |layer, scope, inputs| {
    let [x] = arity("batch_norm", inputs)?;
    if !(0.0..=1.0).contains(&layer.momentum) {
        return Err(Error::setting("momentum", layer.momentum, "0 to 1"));
    }
    let extents = scope.extents(x)?;
    let [n, c, rest @ ..] = extents.as_slice() else {
        let found = scope.ty(x)?.to_string();
        return Err(Error::shape("batch_norm", found, "x as [N, C, …]"));
    };
    of_floats(scope, "batch_norm", x)?;
    let weight = scope.parameter("weight", &[*c], Start::constant(1.0))?;
    let bias = scope.parameter("bias", &[*c], Start::constant(0.0))?;
    let mean = scope.statistic("running_mean", &[*c], 0.0)?;
    let variance = scope.statistic("running_var", &[*c], 1.0)?;
    let norm = Norm {
        over: Over::Batch,
        epsilon: layer.epsilon,
    };
    let Pass::Training { .. } = scope.pass() else {
        let inputs = [x, weight, bias, mean, variance];
        return scope.op1(Arc::new(NormGiven(norm)), &inputs);
    };
    let count = n * rest.iter().product::<usize>();
    if count < 2 {
        let found = format!("{count} value of a channel");
        let wanted = "two or more in a mini-batch, to have a variance";
        return Err(Error::shape("batch_norm", found, wanted));
    }
    let made = scope.op(Arc::new(norm), &[x, weight, bias])?;
    // A sample's variance, as PyTorch keeps it; the population's is 1/rstd² − ε.
    let sample = count as f64 / (count - 1) as f64;
    let share = layer.momentum;
    let [mean_now, rstd, mean_was, variance_was] = std::array::from_fn(Expr::input);
    let variance_now = (1.0 / rstd.square() - layer.epsilon).max(0.0) * sample;
    let moved = |was: Expr, now: Expr| was * (1.0 - share) + now * share;
    let statistics =
        Pointwise::new(&[moved(mean_was, mean_now), moved(variance_was, variance_now)]);
    let statistics = statistics.updating(0, 2).updating(1, 3);
    scope.op(Arc::new(statistics), &[made[1], made[2], mean, variance])?;
    Ok(made[0])
});

/// Layer normalization over the last axes of each place (Ba et al. 2016). Weights `weight` and `bias`
/// of these axes' extents.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LayerNorm {
    /// How many of the last axes.
    pub axes: usize,
    /// ε, added to the variance.
    pub epsilon: f64,
}

impl Default for LayerNorm {
    fn default() -> Self {
        Self {
            axes: 1,
            epsilon: epsilon(),
        }
    }
}

impl LayerNorm {
    /// Over the last axis.
    pub fn new() -> Self {
        Self::default()
    }

    /// Over so many of the last axes.
    pub fn over(axes: usize) -> Self {
        Self {
            axes,
            ..Self::default()
        }
    }
}

/// The extents of the last `axes` axes of x, the mini-batch left out.
fn last(scope: &Scope<'_>, kind: &str, x: Value, axes: usize) -> Result<Vec<usize>> {
    let extents = scope.extents(x)?;
    if axes == 0 || axes >= extents.len() {
        let found = format!("{axes} last axes of {}", scope.ty(x)?);
        return Err(Error::shape(
            kind,
            found,
            "1 or more, the mini-batch not among them",
        ));
    }
    of_floats(scope, kind, x)?;
    Ok(extents[extents.len() - axes..].to_vec())
}

layer!(LayerNorm, "layer_norm", |layer, scope, inputs| {
    let [x] = arity("layer_norm", inputs)?;
    let extents = last(scope, "layer_norm", x, layer.axes)?;
    let norm = Norm {
        over: Over::Layer(layer.axes),
        epsilon: layer.epsilon,
    };
    normed(scope, norm, x, &extents)
});

/// A normalization with weight and bias of these extents.
fn normed(scope: &mut Scope<'_>, norm: Norm, x: Value, extents: &[usize]) -> Result<Value> {
    let weight = scope.parameter("weight", extents, Start::constant(1.0))?;
    let bias = scope.parameter("bias", extents, Start::constant(0.0))?;
    scope.op1(Arc::new(norm), &[x, weight, bias])
}

/// Normalization by the root of the mean square over the last axis (Zhang and Sennrich 2019). Weight
/// `weight` of that axis' extent.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RmsNorm {
    /// ε, added to the mean square.
    pub epsilon: f64,
}

impl Default for RmsNorm {
    fn default() -> Self {
        Self { epsilon: epsilon() }
    }
}

layer!(RmsNorm, "rms_norm", |layer, scope, inputs| {
    let [x] = arity("rms_norm", inputs)?;
    let extents = last(scope, "rms_norm", x, 1)?;
    let weight = scope.parameter("weight", &extents, Start::constant(1.0))?;
    let norm = Norm {
        over: Over::Rms(1),
        epsilon: layer.epsilon,
    };
    scope.op1(Arc::new(norm), &[x, weight])
});

/// The channels of `[N, C, …]`, for which there is a weight each.
fn channels(scope: &Scope<'_>, kind: &str, x: Value) -> Result<usize> {
    match scope.extents(x)?.as_slice() {
        [_, c, ..] => {
            of_floats(scope, kind, x)?;
            Ok(*c)
        }
        _ => {
            let found = scope.ty(x)?.to_string();
            Err(Error::shape(kind, found, "x as [N, C, …]"))
        }
    }
}

/// Normalization of groups of channels of each example (Wu and He 2018). Weights `weight [C]`,
/// `bias [C]`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GroupNorm {
    /// How many groups; they divide the channels.
    pub groups: usize,
    /// ε, added to the variance.
    #[serde(default = "epsilon")]
    pub epsilon: f64,
}

impl GroupNorm {
    /// So many groups.
    pub fn new(groups: usize) -> Self {
        Self {
            groups,
            epsilon: epsilon(),
        }
    }
}

layer!(GroupNorm, "group_norm", |layer, scope, inputs| {
    let [x] = arity("group_norm", inputs)?;
    let c = channels(scope, "group_norm", x)?;
    if layer.groups == 0 || !c.is_multiple_of(layer.groups) {
        let found = format!("{c} channels in {} groups", layer.groups);
        let wanted = "groups that divide the channels";
        return Err(Error::shape("group_norm", found, wanted));
    }
    let norm = Norm {
        over: Over::Group(layer.groups),
        epsilon: layer.epsilon,
    };
    normed(scope, norm, x, &[c])
});

/// Normalization of each channel of each example (Ulyanov et al. 2016), with weights `weight [C]` and
/// `bias [C]` as PyTorch's `affine=True`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct InstanceNorm {
    /// ε, added to the variance.
    pub epsilon: f64,
}

impl Default for InstanceNorm {
    fn default() -> Self {
        Self { epsilon: epsilon() }
    }
}

layer!(InstanceNorm, "instance_norm", |layer, scope, inputs| {
    let [x] = arity("instance_norm", inputs)?;
    let c = channels(scope, "instance_norm", x)?;
    let norm = Norm {
        over: Over::Instance,
        epsilon: layer.epsilon,
    };
    normed(scope, norm, x, &[c])
});

/// Local response normalization over neighbouring channels (Krizhevsky et al. 2012), with PyTorch's
/// defaults.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LocalResponseNorm {
    /// Channels that are summed over.
    pub size: usize,
    /// α.
    #[serde(default = "LocalResponseNorm::alpha")]
    pub alpha: f64,
    /// β.
    #[serde(default = "LocalResponseNorm::beta")]
    pub beta: f64,
    /// k.
    #[serde(default = "LocalResponseNorm::k")]
    pub k: f64,
}

impl LocalResponseNorm {
    /// Over so many channels.
    pub fn new(size: usize) -> Self {
        Self {
            size,
            alpha: Self::alpha(),
            beta: Self::beta(),
            k: Self::k(),
        }
    }

    fn alpha() -> f64 {
        1e-4
    }

    fn beta() -> f64 {
        0.75
    }

    fn k() -> f64 {
        1.0
    }
}

layer!(
    LocalResponseNorm,
    "local_response_norm",
    |layer, scope, inputs| {
        let [x] = arity("local_response_norm", inputs)?;
        let lrn = Lrn {
            size: layer.size,
            alpha: layer.alpha,
            beta: layer.beta,
            k: layer.k,
        };
        scope.op1(Arc::new(lrn), &[x])
    }
);

//! Convolutions of images and of rows.

use super::dense::{fan_in, is_fan_in, weight_and_bias};
use super::*;
use crate::model::Initializer;
use crate::ops::add_bias::AddBias;
use crate::ops::conv_transpose2d::ConvTranspose2d as Transpose;
use crate::ops::conv2d::Conv2d as Convolution;
use crate::ops::{self, conv_transpose1d, conv1d};

pub(super) fn ones() -> [usize; 2] {
    [1, 1]
}

fn one() -> usize {
    1
}

/// Two-dimensional cross-correlation: `[N, C, H, W]` → `[N, filters, H_o, W_o]`. Weights
/// `weight [filters, C / groups, K_h, K_w]`, `bias [filters]`, uniform within ±1/√n_in at first.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Conv2d {
    /// Output channels.
    pub filters: usize,
    /// Window, `[height, width]`.
    pub kernel: [usize; 2],
    /// Step of the window.
    #[serde(default = "ones")]
    pub stride: [usize; 2],
    /// Zeros around the image.
    #[serde(default)]
    pub padding: [usize; 2],
    /// Distance between the window's taps.
    #[serde(default = "ones")]
    pub dilation: [usize; 2],
    /// Groups of channels that do not see each other; as many as channels is depthwise.
    #[serde(default = "one")]
    pub groups: usize,
    /// Whether there is a bias.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    pub bias: bool,
    /// How the weight starts.
    #[serde(default = "fan_in", skip_serializing_if = "is_fan_in")]
    pub weight_start: Initializer,
    /// How the bias starts.
    #[serde(default = "fan_in", skip_serializing_if = "is_fan_in")]
    pub bias_start: Initializer,
}
weight_and_bias!(Conv2d);

/// The methods that all convolutions have; of images with square arguments, since most windows are.
macro_rules! window {
    ($name:ident, |$along:ident| $value:expr) => {
        impl $name {
            /// The same with this step of the window.
            #[must_use]
            pub fn stride(self, $along: usize) -> Self {
                Self {
                    stride: $value,
                    ..self
                }
            }

            /// The same with this padding.
            #[must_use]
            pub fn padding(self, $along: usize) -> Self {
                Self {
                    padding: $value,
                    ..self
                }
            }

            /// The same with taps so far apart.
            #[must_use]
            pub fn dilation(self, $along: usize) -> Self {
                Self {
                    dilation: $value,
                    ..self
                }
            }

            /// The same in groups of channels that do not see each other.
            #[must_use]
            pub fn groups(self, groups: usize) -> Self {
                Self { groups, ..self }
            }
        }
    };
}
window!(Conv2d, |along| [along; 2]);

impl Conv2d {
    /// A convolution with a square window, stride 1, no padding and a bias.
    pub fn new(filters: usize, kernel: usize) -> Self {
        Self {
            filters,
            kernel: [kernel; 2],
            stride: ones(),
            padding: [0; 2],
            dilation: ones(),
            groups: 1,
            bias: true,
            weight_start: Initializer::FanIn,
            bias_start: Initializer::FanIn,
        }
    }
}

/// The bias of a layer, `[filters]`, if it has one.
fn bias(
    scope: &mut Scope<'_>,
    initializer: Option<Initializer>,
    filters: usize,
    fan_in: usize,
) -> Result<Option<Value>> {
    let start = initializer.map(|initializer| initializer.with_fans(fan_in, filters));
    let bias = start.map(|start| scope.parameter("bias", &[filters], start));
    bias.transpose()
}

/// Adds the bias of a layer along axis 1.
fn biased(
    scope: &mut Scope<'_>,
    y: Value,
    initializer: Option<Initializer>,
    filters: usize,
    fan_in: usize,
) -> Result<Value> {
    match bias(scope, initializer, filters, fan_in)? {
        None => Ok(y),
        Some(b) => scope.op1(Arc::new(AddBias), &[y, b]),
    }
}

layer!(Conv2d, "conv2d", |layer, scope, inputs| {
    let [x] = arity("conv2d", inputs)?;
    let wanted = "x as [N, C, H, W]";
    let [_, c, ..] = scope.ty(x)?.shape.axes::<4>("conv2d", wanted)?;
    let (per, filters) = (c / layer.groups.max(1), layer.filters);
    let [kh, kw] = layer.kernel;
    let taps = kh.saturating_mul(kw);
    let connections = per.saturating_mul(taps);
    let out = (filters / layer.groups.max(1)).saturating_mul(taps);
    let start = layer.weight_start.with_fans(connections, out);
    let w = scope.parameter("weight", &[filters, per, kh, kw], start)?;
    let convolution = Convolution {
        stride: layer.stride,
        padding: layer.padding,
        dilation: layer.dilation,
        groups: layer.groups,
    };
    let y = scope.op1(Arc::new(convolution), &[x, w])?;
    let bias = layer.bias.then_some(layer.bias_start);
    biased(scope, y, bias, filters, connections)
});

/// The transpose of a convolution: `[N, C, H, W]` → `[N, filters, H_o, W_o]` with
/// H_o = (H − 1) stride − 2 padding + dilation (K_h − 1) + output padding + 1. Weights
/// `weight [C, filters / groups, K_h, K_w]`, `bias [filters]`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConvTranspose2d {
    /// Output channels.
    pub filters: usize,
    /// Window, `[height, width]`.
    pub kernel: [usize; 2],
    /// How far apart neighbours of x lay their windows.
    #[serde(default = "ones")]
    pub stride: [usize; 2],
    /// What is cut off all around y.
    #[serde(default)]
    pub padding: [usize; 2],
    /// What y has more at its end, less than the stride.
    #[serde(default)]
    pub output_padding: [usize; 2],
    /// Distance between the window's taps.
    #[serde(default = "ones")]
    pub dilation: [usize; 2],
    /// Groups of channels that do not see each other.
    #[serde(default = "one")]
    pub groups: usize,
    /// Whether there is a bias.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    pub bias: bool,
    /// How the weight starts.
    #[serde(default = "fan_in", skip_serializing_if = "is_fan_in")]
    pub weight_start: Initializer,
    /// How the bias starts.
    #[serde(default = "fan_in", skip_serializing_if = "is_fan_in")]
    pub bias_start: Initializer,
}
weight_and_bias!(ConvTranspose2d);
window!(ConvTranspose2d, |along| [along; 2]);

impl ConvTranspose2d {
    /// A square window, stride 1, no padding, a bias.
    pub fn new(filters: usize, kernel: usize) -> Self {
        Self {
            filters,
            kernel: [kernel; 2],
            stride: ones(),
            padding: [0; 2],
            output_padding: [0; 2],
            dilation: ones(),
            groups: 1,
            bias: true,
            weight_start: Initializer::FanIn,
            bias_start: Initializer::FanIn,
        }
    }

    /// The same with so much more at y's end.
    #[must_use]
    pub fn output_padding(self, output_padding: usize) -> Self {
        Self {
            output_padding: [output_padding; 2],
            ..self
        }
    }
}

layer!(
    ConvTranspose2d,
    "conv_transpose2d",
    |layer, scope, inputs| {
        let [x] = arity("conv_transpose2d", inputs)?;
        let wanted = "x as [N, C, H, W]";
        let [_, c, ..] = scope.ty(x)?.shape.axes::<4>("conv_transpose2d", wanted)?;
        let per = layer.filters / layer.groups.max(1);
        let [kh, kw] = layer.kernel;
        // PyTorch counts the connections of the weight's second axis.
        let taps = kh.saturating_mul(kw);
        let connections = per.saturating_mul(taps);
        let start = layer
            .weight_start
            .with_fans(connections, c.saturating_mul(taps));
        let w = scope.parameter("weight", &[c, per, kh, kw], start)?;
        let transpose = Transpose {
            stride: layer.stride,
            padding: layer.padding,
            output_padding: layer.output_padding,
            dilation: layer.dilation,
            groups: layer.groups,
        };
        let y = scope.op1(Arc::new(transpose), &[x, w])?;
        let bias = layer.bias.then_some(layer.bias_start);
        biased(scope, y, bias, layer.filters, connections)
    }
);

/// One-dimensional cross-correlation, of signals and sequences: `[N, C, L]` → `[N, filters, L_o]` with
/// L_o = ⌊(L + 2 padding − dilation (K − 1) − 1) / stride⌋ + 1. Weights `weight [filters, C / groups, K]`,
/// `bias [filters]`, uniform within ±1/√n_in at first.
///
/// ```
/// use wgrad::model::{Input, Model, layers::*};
///
/// // Two channels of 100 samples each.
/// let model = Model::sequential(Input::f32([2, 100]))
///     .then(Conv1d::new(8, 5).padding(2)).then(Relu).then(MaxPool1d::new(2))
///     .then(GlobalMean).then(Dense::new(3)).build()?;
/// assert_eq!(model.parameters(), 8 * 2 * 5 + 8 + 3 * 8 + 3);
/// # Ok::<(), wgrad::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Conv1d {
    /// Output channels.
    pub filters: usize,
    /// K, the window.
    pub kernel: usize,
    /// Step of the window.
    #[serde(default = "one")]
    pub stride: usize,
    /// Zeros at either end.
    #[serde(default)]
    pub padding: usize,
    /// Distance between the window's taps.
    #[serde(default = "one")]
    pub dilation: usize,
    /// Groups of channels that do not see each other; as many as channels is depthwise.
    #[serde(default = "one")]
    pub groups: usize,
    /// Whether there is a bias.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    pub bias: bool,
    /// How the weight starts.
    #[serde(default = "fan_in", skip_serializing_if = "is_fan_in")]
    pub weight_start: Initializer,
    /// How the bias starts.
    #[serde(default = "fan_in", skip_serializing_if = "is_fan_in")]
    pub bias_start: Initializer,
}
weight_and_bias!(Conv1d);
window!(Conv1d, |along| along);

impl Conv1d {
    /// Stride 1, no padding, a bias.
    pub fn new(filters: usize, kernel: usize) -> Self {
        Self {
            filters,
            kernel,
            stride: 1,
            padding: 0,
            dilation: 1,
            groups: 1,
            bias: true,
            weight_start: Initializer::FanIn,
            bias_start: Initializer::FanIn,
        }
    }
}

layer!(Conv1d, "conv1d", |layer, scope, inputs| {
    let [x] = arity("conv1d", inputs)?;
    let [_, c, _] = scope.ty(x)?.shape.axes("conv1d", "x as [N, C, L]")?;
    let (per, filters) = (c / layer.groups.max(1), layer.filters);
    let connections = per.saturating_mul(layer.kernel);
    let out = (filters / layer.groups.max(1)).saturating_mul(layer.kernel);
    let start = layer.weight_start.with_fans(connections, out);
    let w = scope.parameter("weight", &[filters, per, layer.kernel], start)?;
    let start = layer.bias.then_some(layer.bias_start);
    let b = bias(scope, start, filters, connections)?;
    let settings = ops::Conv1d {
        stride: layer.stride,
        padding: layer.padding,
        dilation: layer.dilation,
        groups: layer.groups,
    };
    conv1d(scope, x, w, b, settings)
});

/// The transpose of [`Conv1d`]: `[N, C, L]` → `[N, filters, L_o]` with
/// L_o = (L − 1) stride − 2 padding + dilation (K − 1) + output padding + 1. Weights
/// `weight [C, filters / groups, K]`, `bias [filters]`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConvTranspose1d {
    /// Output channels.
    pub filters: usize,
    /// K, the window.
    pub kernel: usize,
    /// How far apart neighbours of x lay their windows.
    #[serde(default = "one")]
    pub stride: usize,
    /// What is cut off at either end of y.
    #[serde(default)]
    pub padding: usize,
    /// What y has more at its end, less than the stride.
    #[serde(default)]
    pub output_padding: usize,
    /// Distance between the window's taps.
    #[serde(default = "one")]
    pub dilation: usize,
    /// Groups of channels that do not see each other.
    #[serde(default = "one")]
    pub groups: usize,
    /// Whether there is a bias.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    pub bias: bool,
    /// How the weight starts.
    #[serde(default = "fan_in", skip_serializing_if = "is_fan_in")]
    pub weight_start: Initializer,
    /// How the bias starts.
    #[serde(default = "fan_in", skip_serializing_if = "is_fan_in")]
    pub bias_start: Initializer,
}
weight_and_bias!(ConvTranspose1d);
window!(ConvTranspose1d, |along| along);

impl ConvTranspose1d {
    /// Stride 1, no padding, a bias.
    pub fn new(filters: usize, kernel: usize) -> Self {
        Self {
            filters,
            kernel,
            stride: 1,
            padding: 0,
            output_padding: 0,
            dilation: 1,
            groups: 1,
            bias: true,
            weight_start: Initializer::FanIn,
            bias_start: Initializer::FanIn,
        }
    }

    /// The same with so much more at y's end.
    #[must_use]
    pub fn output_padding(self, output_padding: usize) -> Self {
        Self {
            output_padding,
            ..self
        }
    }
}

layer!(
    ConvTranspose1d,
    "conv_transpose1d",
    |layer, scope, inputs| {
        let [x] = arity("conv_transpose1d", inputs)?;
        let wanted = "x as [N, C, L]";
        let [_, c, _] = scope.ty(x)?.shape.axes("conv_transpose1d", wanted)?;
        let per = layer.filters / layer.groups.max(1);
        // PyTorch counts the connections of the weight's second axis.
        let connections = per.saturating_mul(layer.kernel);
        let out = c.saturating_mul(layer.kernel);
        let start = layer.weight_start.with_fans(connections, out);
        let w = scope.parameter("weight", &[c, per, layer.kernel], start)?;
        let start = layer.bias.then_some(layer.bias_start);
        let b = bias(scope, start, layer.filters, connections)?;
        let settings = ops::ConvTranspose1d {
            stride: layer.stride,
            padding: layer.padding,
            output_padding: layer.output_padding,
            groups: layer.groups,
            dilation: layer.dilation,
        };
        conv_transpose1d(scope, x, w, b, settings)
    }
);

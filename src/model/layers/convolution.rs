//! Convolutions.

use super::dense::{fan_in, is_fan_in, weight_and_bias};
use super::*;
use crate::model::Initializer;
use crate::ops::add_bias::AddBias;
use crate::ops::conv_transpose2d::ConvTranspose2d as Transpose;
use crate::ops::conv2d::Conv2d as Convolution;

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

/// The methods that both convolutions have; square arguments, since most windows are.
macro_rules! window {
    ($name:ident) => {
        impl $name {
            /// The same with this step of the window.
            #[must_use]
            pub fn stride(self, stride: usize) -> Self {
                Self {
                    stride: [stride; 2],
                    ..self
                }
            }

            /// The same with this padding.
            #[must_use]
            pub fn padding(self, padding: usize) -> Self {
                Self {
                    padding: [padding; 2],
                    ..self
                }
            }

            /// The same with taps so far apart.
            #[must_use]
            pub fn dilation(self, dilation: usize) -> Self {
                Self {
                    dilation: [dilation; 2],
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
window!(Conv2d);

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

/// Adds the bias of a layer, `[filters]` along axis 1.
fn biased(
    scope: &mut Scope<'_>,
    y: Value,
    initializer: Option<Initializer>,
    filters: usize,
    fan_in: usize,
) -> Result<Value> {
    let Some(initializer) = initializer else {
        return Ok(y);
    };
    let start = initializer.with_fans(fan_in, filters);
    let b = scope.parameter("bias", &[filters], start)?;
    scope.op1(Arc::new(AddBias), &[y, b])
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
window!(ConvTranspose2d);

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

//! Pools of images and of rows, and images in other sizes.

use super::*;
use crate::ops::adaptive_avg_pool2d::AdaptiveAvgPool2d as Adaptive;
use crate::ops::avg_pool2d::AvgPool2d as Average;
use crate::ops::max_pool2d::MaxPool2d as Max;
use crate::ops::reduction::{Kind, Reduction};
use crate::ops::upsample::{Sampling, Upsample as Resize};
use crate::ops::{Pool1d, adaptive_avg_pool1d, avg_pool1d, max_pool1d};

/// A pool over windows.
macro_rules! pool {
    ($(#[$doc:meta])* $name:ident, $kind:literal, |$layer:ident, $stride:ident| $op:expr) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(deny_unknown_fields)]
        pub struct $name {
            /// Window, `[height, width]`.
            pub kernel: [usize; 2],
            /// Step of the window; the window itself if not given.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub stride: Option<[usize; 2]>,
            /// How far windows reach beyond the image, at most half of themselves.
            #[serde(default)]
            pub padding: [usize; 2],
        }

        impl $name {
            /// A square window that does not overlap.
            pub fn new(kernel: usize) -> Self {
                Self {
                    kernel: [kernel; 2],
                    stride: None,
                    padding: [0; 2],
                }
            }

            /// The same with this step.
            #[must_use]
            pub fn stride(self, stride: usize) -> Self {
                Self {
                    stride: Some([stride; 2]),
                    ..self
                }
            }

            /// The same with windows that reach so far beyond the image.
            #[must_use]
            pub fn padding(self, padding: usize) -> Self {
                Self {
                    padding: [padding; 2],
                    ..self
                }
            }
        }

        layer!($name, $kind, |$layer, scope, inputs| {
            let [x] = arity($kind, inputs)?;
            let $stride = $layer.stride.unwrap_or($layer.kernel);
            scope.op1(Arc::new($op), &[x])
        });
    };
}
pool! {
    /// The largest value under a window: `[N, C, H, W]` → `[N, C, H_o, W_o]`.
    MaxPool2d, "max_pool2d", |layer, stride| Max {
        kernel: layer.kernel,
        stride,
        padding: layer.padding,
    }
}
pool! {
    /// The mean under a window, padding zeros counted in.
    AvgPool2d, "avg_pool2d", |layer, stride| Average {
        kernel: layer.kernel,
        stride,
        padding: layer.padding,
    }
}

/// The mean of each of `size` parts of an image: `[N, C, H, W]` → `[N, C, H_o, W_o]`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdaptiveAvgPool2d {
    /// `[H_o, W_o]`.
    pub size: [usize; 2],
}

layer!(
    AdaptiveAvgPool2d,
    "adaptive_avg_pool2d",
    |layer, scope, inputs| {
        let [x] = arity("adaptive_avg_pool2d", inputs)?;
        scope.op1(Arc::new(Adaptive { size: layer.size }), &[x])
    }
);

/// A pool over windows of rows.
macro_rules! pool1d {
    ($(#[$doc:meta])* $name:ident, $kind:literal, $function:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(deny_unknown_fields)]
        pub struct $name {
            /// The window.
            pub kernel: usize,
            /// Step of the window; the window itself if not given.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub stride: Option<usize>,
            /// How far windows reach beyond either end, at most half of themselves.
            #[serde(default)]
            pub padding: usize,
        }

        impl $name {
            /// Windows that do not overlap.
            pub fn new(kernel: usize) -> Self {
                Self {
                    kernel,
                    stride: None,
                    padding: 0,
                }
            }

            /// The same with this step.
            #[must_use]
            pub fn stride(self, stride: usize) -> Self {
                Self {
                    stride: Some(stride),
                    ..self
                }
            }

            /// The same with windows that reach so far beyond either end.
            #[must_use]
            pub fn padding(self, padding: usize) -> Self {
                Self { padding, ..self }
            }
        }

        layer!($name, $kind, |layer, scope, inputs| {
            let [x] = arity($kind, inputs)?;
            let pool = Pool1d {
                kernel_size: layer.kernel,
                stride: layer.stride,
                padding: layer.padding,
            };
            $function(scope, x, pool)
        });
    };
}
pool1d! {
    /// The largest value under a window: `[N, C, L]` → `[N, C, L_o]` with
    /// L_o = ⌊(L + 2 padding − kernel) / stride⌋ + 1.
    MaxPool1d, "max_pool1d", max_pool1d
}
pool1d! {
    /// The mean under a window, padding zeros counted in: `[N, C, L]` → `[N, C, L_o]`.
    AvgPool1d, "avg_pool1d", avg_pool1d
}

/// The mean of each of `size` parts of a row: `[N, C, L]` → `[N, C, size]`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdaptiveAvgPool1d {
    /// L_o.
    pub size: usize,
}

layer!(
    AdaptiveAvgPool1d,
    "adaptive_avg_pool1d",
    |layer, scope, inputs| {
        let [x] = arity("adaptive_avg_pool1d", inputs)?;
        adaptive_avg_pool1d(scope, x, layer.size)
    }
);

/// The mean of each channel: `[N, C, …]` → `[N, C]`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct GlobalMean;

layer!(GlobalMean, "global_mean", |_layer, scope, inputs| {
    of_channels(scope, "global_mean", inputs, Kind::Mean)
});

/// The largest of each channel: `[N, C, …]` → `[N, C]`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct GlobalMax;

layer!(GlobalMax, "global_max", |_layer, scope, inputs| {
    of_channels(scope, "global_max", inputs, Kind::Max)
});

/// One number of each channel.
fn of_channels(scope: &mut Scope<'_>, name: &str, inputs: &[Value], kind: Kind) -> Result<Value> {
    let [x] = arity(name, inputs)?;
    let rank = scope.ty(x)?.shape.rank();
    if rank < 3 {
        let found = scope.ty(x)?.to_string();
        return Err(Error::shape(name, found, "x as [N, C, …]"));
    }
    of_floats(scope, name, x)?;
    let axes: Vec<usize> = (2..rank).collect();
    Ok(scope.op(Arc::new(Reduction::new(kind, &axes)), &[x])?[0])
}

/// An image in another size, a multiple of its own: `[N, C, H, W]` → `[N, C, f H, f W]`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Upsample {
    /// f.
    pub factor: usize,
    /// Mixes the four nearest pixels instead of taking one.
    #[serde(default)]
    pub bilinear: bool,
}

impl Upsample {
    /// Each pixel becomes a square.
    pub fn nearest(factor: usize) -> Self {
        Self {
            factor,
            bilinear: false,
        }
    }

    /// Pixels are mixed, corners not aligned.
    pub fn bilinear(factor: usize) -> Self {
        Self {
            factor,
            bilinear: true,
        }
    }
}

layer!(Upsample, "upsample", |layer, scope, inputs| {
    let [x] = arity("upsample", inputs)?;
    let wanted = "x as [N, C, H, W]";
    let [.., h, w] = scope.ty(x)?.shape.axes::<4>("upsample", wanted)?;
    let resize = Resize {
        sampling: match layer.bilinear {
            true => Sampling::Bilinear,
            false => Sampling::Nearest,
        },
        size: [h, w].map(|extent| extent.saturating_mul(layer.factor)),
    };
    scope.op1(Arc::new(resize), &[x])
});

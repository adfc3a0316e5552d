//! Describing networks: layers, cost, initial parameters.
//!
//! ```
//! use wgrad::book::nn::{Cost, Init, Network};
//! // The convolutional network of Nielsen's chapter 6.
//! let network = Network::new([1, 28, 28])
//!     .conv2d(20, 5).max_pool2d(2).relu()
//!     .conv2d(40, 5).max_pool2d(2).relu()
//!     .flatten()
//!     .dense(100).relu()
//!     .dense(10).softmax()
//!     .cost(Cost::LogLikelihood)
//!     .init(Init::Network3);
//! network.check()?;
//! // Sizes that do not fit are found here, and the message names the layer.
//! let wrong = Network::new([1, 28, 28]).conv2d(20, 29).check().unwrap_err();
//! assert!(wrong.to_string().starts_with("layer 0 (conv2d)"));
//! # Ok::<(), wgrad::Error>(())
//! ```

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::ops::init::Distribution;
use crate::shape::Type;

mod forward;
mod init;
mod named;

pub use forward::Forward;
pub use init::Init;
pub use named::{NAMES, Recipe, recipe};

/// One layer. Sizes of images are `[height, width]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum Layer {
    /// Two-dimensional cross-correlation with a bias: `[N, C, H, W]` → `[N, filters, …]`.
    Conv2d {
        /// Output channels.
        filters: usize,
        /// Window.
        kernel: [usize; 2],
        /// Step of the window.
        #[serde(default = "ones")]
        stride: [usize; 2],
        /// Zeros around the image.
        #[serde(default)]
        padding: [usize; 2],
        /// Distance between the window's taps.
        #[serde(default = "ones")]
        dilation: [usize; 2],
        /// Groups of channels that do not see each other.
        #[serde(default = "one")]
        groups: usize,
    },
    /// The largest value under a window.
    MaxPool2d {
        /// Window.
        kernel: [usize; 2],
        /// Step of the window; the window itself if not given.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        stride: Option<[usize; 2]>,
        /// Padding around the image that never wins.
        #[serde(default)]
        padding: [usize; 2],
    },
    /// The mean under a window, padding zeros counted in.
    AvgPool2d {
        /// Window.
        kernel: [usize; 2],
        /// Step of the window; the window itself if not given.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        stride: Option<[usize; 2]>,
        /// Zeros around the image.
        #[serde(default)]
        padding: [usize; 2],
    },
    /// Fully connected, with a bias: `[N, in]` → `[N, units]`.
    Dense {
        /// Outputs.
        units: usize,
    },
    /// 1/(1 + e⁻ˣ).
    Sigmoid,
    /// Hyperbolic tangent.
    Tanh,
    /// max(0, x).
    Relu,
    /// Drops each input of the following layer with probability p while training. In
    /// the book's meaning kept values stay as they are and evaluation scales by 1 − p;
    /// with `rescale`, training scales by 1/(1 − p) and evaluation does nothing.
    Dropout {
        /// Probability of dropping a value.
        p: f64,
        /// Scale while training instead of when evaluating.
        #[serde(default)]
        rescale: bool,
    },
    /// `[N, …]` → `[N, product of the rest]`.
    Flatten,
    /// Softmax over the classes; last, under the log-likelihood cost.
    Softmax,
}

fn one() -> usize {
    1
}

fn ones() -> [usize; 2] {
    [1, 1]
}

impl Layer {
    /// The layer's name in messages, files and configurations.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Conv2d { .. } => "conv2d",
            Self::MaxPool2d { .. } => "max_pool2d",
            Self::AvgPool2d { .. } => "avg_pool2d",
            Self::Dense { .. } => "dense",
            Self::Sigmoid => "sigmoid",
            Self::Tanh => "tanh",
            Self::Relu => "relu",
            Self::Dropout { .. } => "dropout",
            Self::Flatten => "flatten",
            Self::Softmax => "softmax",
        }
    }
}

/// What is minimised, per example; the mini-batch takes the mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cost {
    /// ½‖a − y‖² (Nielsen, equation 6), on any last layer but softmax.
    Quadratic,
    /// −Σ \[y ln a + (1 − y) ln(1 − a)\] (equation 63), on a last layer of sigmoids.
    CrossEntropy,
    /// −ln a_y (equation 80), on a last layer of softmax.
    LogLikelihood,
}

/// A network: input, layers, cost, initial parameters. Pure description.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Network {
    /// Shape of one example, `[C, H, W]`.
    pub input: [usize; 3],
    /// The layers in order.
    pub layers: Vec<Layer>,
    /// The cost.
    pub cost: Cost,
    /// How parameters start.
    pub init: Init,
}

/// A parameter of a network.
#[derive(Clone, Debug, PartialEq)]
pub struct Parameter {
    /// `<layer index>.<layer name>.weight` or `.bias`.
    pub name: String,
    /// Its type; PyTorch's layouts: dense `[out, in]`, convolution
    /// `[C_out, C_in / groups, K_h, K_w]`, bias `[out]`.
    pub ty: Type,
    /// How it starts.
    pub distribution: Distribution,
    /// Whether weight decay acts on it.
    pub decay: bool,
}

impl Network {
    /// A network without layers, for examples of shape `[C, H, W]`.
    pub fn new(input: [usize; 3]) -> Self {
        Self {
            input,
            layers: vec![],
            cost: Cost::LogLikelihood,
            init: Init::Scaled,
        }
    }

    /// Adds a layer.
    pub fn layer(mut self, layer: Layer) -> Self {
        self.layers.push(layer);
        self
    }

    /// Adds a convolution with a square window, stride 1 and no padding.
    pub fn conv2d(self, filters: usize, kernel: usize) -> Self {
        self.layer(Layer::Conv2d {
            filters,
            kernel: [kernel; 2],
            stride: ones(),
            padding: [0; 2],
            dilation: ones(),
            groups: 1,
        })
    }

    /// Adds max-pooling over a square window that does not overlap.
    pub fn max_pool2d(self, kernel: usize) -> Self {
        self.layer(Layer::MaxPool2d {
            kernel: [kernel; 2],
            stride: None,
            padding: [0; 2],
        })
    }

    /// Adds average pooling over a square window that does not overlap.
    pub fn avg_pool2d(self, kernel: usize) -> Self {
        self.layer(Layer::AvgPool2d {
            kernel: [kernel; 2],
            stride: None,
            padding: [0; 2],
        })
    }

    /// Adds a fully-connected layer.
    pub fn dense(self, units: usize) -> Self {
        self.layer(Layer::Dense { units })
    }

    /// Adds sigmoids.
    pub fn sigmoid(self) -> Self {
        self.layer(Layer::Sigmoid)
    }

    /// Adds hyperbolic tangents.
    pub fn tanh(self) -> Self {
        self.layer(Layer::Tanh)
    }

    /// Adds rectified linear units.
    pub fn relu(self) -> Self {
        self.layer(Layer::Relu)
    }

    /// Adds dropout in the book's meaning.
    pub fn dropout(self, p: f64) -> Self {
        self.layer(Layer::Dropout { p, rescale: false })
    }

    /// Flattens images to rows.
    pub fn flatten(self) -> Self {
        self.layer(Layer::Flatten)
    }

    /// Adds the final softmax.
    pub fn softmax(self) -> Self {
        self.layer(Layer::Softmax)
    }

    /// Sets the cost.
    pub fn cost(mut self, cost: Cost) -> Self {
        self.cost = cost;
        self
    }

    /// Sets how parameters start.
    pub fn init(mut self, init: Init) -> Self {
        self.init = init;
        self
    }

    /// Checks every size and the match of last layer and cost.
    ///
    /// # Errors
    /// [`Error::Shape`] or [`Error::Setting`], naming the layer.
    pub fn check(&self) -> Result<()> {
        self.parameters().map(|_| ())
    }

    /// The parameters in order of layers, weight before bias.
    ///
    /// # Errors
    /// As [`Network::check`].
    pub fn parameters(&self) -> Result<Vec<Parameter>> {
        Ok(forward::dry(self)?.0)
    }

    /// How many classes the last layer tells apart.
    ///
    /// # Errors
    /// As [`Network::check`].
    pub fn outputs(&self) -> Result<usize> {
        Ok(forward::dry(self)?.1)
    }

    /// The description as JSON, as it stands in model files.
    ///
    /// # Errors
    /// [`Error::Setting`] if a number is not finite.
    pub fn to_json(&self) -> Result<String> {
        serde_json::to_string(self).map_err(|e| Error::setting("network", e, "finite numbers"))
    }

    /// A description from JSON.
    ///
    /// # Errors
    /// [`Error::Setting`] saying where the text departs from the form.
    pub fn from_json(text: &str) -> Result<Self> {
        serde_json::from_str(text).map_err(|e| {
            Error::setting("network description", e, "JSON as `wgrad train` writes it")
        })
    }
}

/// `layer 3 (conv2d)`.
pub(crate) fn place(index: usize, layer: &Layer) -> String {
    format!("layer {index} ({})", layer.name())
}

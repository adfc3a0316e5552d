//! How parameters start: the book's schemes and those that came after.

use serde::{Deserialize, Serialize};

use super::{Layer, Network};
use crate::ops::init::Distribution;

/// A scheme for initial parameters. n_in and n_out count a unit's connections; for a
/// convolution n_in = (C_in / groups) K_h K_w.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Init {
    /// Weights and biases N(0, 1) (Nielsen, chapter 1).
    Large,
    /// Weights N(0, 1/n_in), biases N(0, 1) (chapter 3).
    Scaled,
    /// Weights N(0, 1/n_out), biases N(0, 1), the layer before softmax all zero
    /// (chapter 6's `network3.py`); for a convolution with pooling
    /// n_out = filters K_h K_w / (pool_h pool_w).
    Network3,
    /// Weights uniform within ±√(6/(n_in + n_out)), biases 0 (Glorot and Bengio 2010).
    Glorot,
    /// Weights N(0, 2/n_in), biases 0 (He et al. 2015).
    He,
}

/// Connections of the layer whose parameters start.
pub(super) struct Fans {
    /// Into one unit.
    pub fan_in: f64,
    /// Out of one unit, as Glorot counts.
    pub fan_out: f64,
    /// As `network3.py` counts.
    pub network3: f64,
}

impl Fans {
    /// Of a convolution, layer `index` of `network`, with `c_in` input channels.
    pub(super) fn conv2d(
        network: &Network,
        index: usize,
        c_in: usize,
        filters: usize,
        kernel: [usize; 2],
        groups: usize,
    ) -> Self {
        // In floats: sizes are not checked yet, and absurd ones must not overflow.
        let taps = kernel[0] as f64 * kernel[1] as f64;
        // Pooling may follow at once or after an activation.
        let pool = network.layers[index + 1..]
            .iter()
            .take(2)
            .find_map(|layer| match layer {
                Layer::MaxPool2d { kernel, .. } | Layer::AvgPool2d { kernel, .. } => {
                    Some(kernel[0] as f64 * kernel[1] as f64)
                }
                _ => None,
            })
            .unwrap_or(1.0);
        Self {
            fan_in: (c_in / groups) as f64 * taps,
            fan_out: (filters / groups) as f64 * taps,
            network3: filters as f64 * taps / pool,
        }
    }

    /// Of a fully-connected layer.
    pub(super) fn dense(n_in: usize, units: usize) -> Self {
        Self {
            fan_in: n_in as f64,
            fan_out: units as f64,
            network3: units as f64,
        }
    }
}

impl Init {
    /// The distributions of weight and bias.
    pub(super) fn of(self, fans: &Fans, before_softmax: bool) -> [Distribution; 2] {
        let normal = |variance: f64| Distribution::Normal {
            std: variance.sqrt(),
        };
        let zero = Distribution::Constant { value: 0.0 };
        let (n_in, n_out) = (fans.fan_in, fans.fan_out);
        match self {
            Self::Large => [normal(1.0), normal(1.0)],
            Self::Scaled => [normal(1.0 / n_in), normal(1.0)],
            Self::Network3 if before_softmax => [zero, zero],
            Self::Network3 => [normal(1.0 / fans.network3), normal(1.0)],
            Self::Glorot => {
                let limit = (6.0 / (n_in + n_out)).sqrt();
                [Distribution::Uniform { limit }, zero]
            }
            Self::He => [normal(2.0 / n_in), zero],
        }
    }
}

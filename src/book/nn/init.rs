//! How parameters start: the book's schemes and those that came after.

use serde::{Deserialize, Serialize};

use super::Layer;
use crate::model::Initializer;

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

impl Init {
    /// What weight and bias of the first of some layers start from; the others are those behind it.
    pub(super) fn of(self, layers: &[Layer]) -> [Initializer; 2] {
        let (one, zero) = (Initializer::Normal(1.0), Initializer::Constant(0.0));
        match self {
            Self::Large => [one, one],
            Self::Scaled => [Initializer::LecunNormal, one],
            Self::Network3 if layers.get(1) == Some(&Layer::Softmax) => [zero, zero],
            Self::Network3 => [Initializer::Normal((1.0 / outputs(layers)).sqrt()), one],
            Self::Glorot => [Initializer::GlorotUniform, zero],
            Self::He => [Initializer::HeNormal, zero],
        }
    }
}

/// n_out as `network3.py` counts it.
fn outputs(layers: &[Layer]) -> f64 {
    // In floats: sizes are not checked yet, and absurd ones must not overflow.
    let area = |kernel: &[usize; 2]| kernel[0] as f64 * kernel[1] as f64;
    match layers.first() {
        Some(Layer::Conv2d {
            filters, kernel, ..
        }) => {
            // Pooling may follow at once or after an activation.
            let pool = layers[1..].iter().take(2).find_map(|layer| match layer {
                Layer::MaxPool2d { kernel, .. } | Layer::AvgPool2d { kernel, .. } => {
                    Some(area(kernel))
                }
                _ => None,
            });
            *filters as f64 * area(kernel) / pool.unwrap_or(1.0)
        }
        Some(Layer::Dense { units }) => *units as f64,
        _ => 1.0,
    }
}

//! The networks that the command knows by name, each with the settings the book
//! trains it with; those of rectified units start by He's scheme and not by the book's.

use super::{Cost, Init, Layer, Network};
use crate::error::{Error, Result};

/// A named network and how it is trained.
#[derive(Clone, Debug, PartialEq)]
pub struct Recipe {
    /// The network.
    pub network: Network,
    /// Learning rate η.
    pub learning_rate: f64,
    /// λ of the L2 term, divided by the number of examples.
    pub l2_per_example: f64,
    /// λ of the L2 term, divided by the number of mini-batches (chapter 6's way).
    pub l2_per_batch: f64,
    /// Whether the training images are expanded by their four one-pixel shifts.
    pub expand: bool,
    /// Epochs.
    pub epochs: usize,
}

/// The names that [`recipe`] knows.
pub const NAMES: &[&str] = &[
    "mlp-30",
    "mlp-100",
    "conv",
    "conv-conv",
    "conv-relu",
    "conv-dropout",
];

/// A network by name, for examples of shape `input` in `classes` classes.
///
/// # Errors
/// [`Error::UnknownName`] with the nearest known name.
pub fn recipe(name: &str, input: [usize; 3], classes: usize) -> Result<Recipe> {
    let new = || Network::new(input);
    let mlp = |hidden| Recipe {
        network: new()
            .flatten()
            .dense(hidden)
            .sigmoid()
            .dense(classes)
            .sigmoid()
            .cost(Cost::CrossEntropy)
            .init(Init::Scaled),
        learning_rate: 0.5,
        l2_per_example: 5.0,
        l2_per_batch: 0.0,
        expand: false,
        epochs: 30,
    };
    // The book's scheme is made for sigmoids: N(0, 1) biases leave a rectified network many
    // units that are dead or saturated, which costs it some epochs.
    let conv = |network: Network, init, learning_rate, l2_per_batch| Recipe {
        network: network.softmax().cost(Cost::LogLikelihood).init(init),
        learning_rate,
        l2_per_example: 0.0,
        l2_per_batch,
        expand: false,
        epochs: 60,
    };
    let block = |network: Network, filters, activation: Layer| {
        network.conv2d(filters, 5).max_pool2d(2).layer(activation)
    };
    let two = |activation: Layer| {
        let network = block(new(), 20, activation.clone());
        block(network, 40, activation).flatten()
    };
    Ok(match name {
        "mlp-30" => mlp(30),
        "mlp-100" => mlp(100),
        "conv" => {
            let network = block(new(), 20, Layer::Sigmoid).flatten();
            conv(
                network.dense(100).sigmoid().dense(classes),
                Init::Network3,
                0.1,
                0.0,
            )
        }
        "conv-conv" => {
            let network = two(Layer::Sigmoid).dense(100).sigmoid();
            conv(network.dense(classes), Init::Network3, 0.1, 0.0)
        }
        "conv-relu" => {
            let network = two(Layer::Relu).dense(100).relu();
            // At the book's 0.03 this start is chaotic: a learning rate one ulp larger moves
            // the cost by 3 % within three epochs, at half of it by 0.1 %.
            conv(network.dense(classes), Init::He, 0.015, 0.1)
        }
        "conv-dropout" => {
            let network = two(Layer::Relu).dropout(0.5).dense(1000).relu();
            let network = network.dropout(0.5).dense(1000).relu().dropout(0.5);
            Recipe {
                expand: true,
                epochs: 40,
                ..conv(network.dense(classes), Init::He, 0.03, 0.0)
            }
        }
        other => return Err(Error::unknown("network", other, NAMES)),
    })
}

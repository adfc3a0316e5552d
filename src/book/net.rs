//! Networks in words: `conv 20 5 pool 2 relu dense 100 relu dropout 0.5 dense 10 softmax`.

use crate::book::nn::{Cost, Init, Layer, Network};
use crate::error::{Error, Result};

/// The words.
const WANTED: &str = "conv FILTERS WINDOW, pool WINDOW, dense UNITS, dropout P, sigmoid, tanh, \
    relu, softmax";

/// The network that `words` describe. Images are flattened before the first dense layer
/// or, where one stands there, before its dropout.
///
/// # Errors
/// [`Error::Setting`] for a word that names no layer, or one without its numbers.
pub(super) fn network(words: &str, input: [usize; 3], cost: Cost, init: Init) -> Result<Network> {
    let mut network = Network::new(input).cost(cost).init(init);
    let mut list = words.split_whitespace();
    let mut flat = false;
    while let Some(word) = list.next() {
        let wrong = || Error::setting("layers", format!("`{word}` in `{words}`"), WANTED);
        let mut size = || list.next().and_then(|n| n.parse().ok()).ok_or_else(wrong);
        if matches!(word, "dense" | "dropout") && !flat {
            network = network.flatten();
            flat = true;
        }
        network = match word {
            "conv" => network.conv2d(size()?, size()?),
            "pool" => network.max_pool2d(size()?),
            "dense" => network.dense(size()?),
            "dropout" => {
                let p = list.next().and_then(|p| p.parse().ok()).ok_or_else(wrong)?;
                network.dropout(p)
            }
            "sigmoid" => network.layer(Layer::Sigmoid),
            "tanh" => network.layer(Layer::Tanh),
            "relu" => network.layer(Layer::Relu),
            "softmax" => network.softmax(),
            _ => return Err(wrong()),
        };
    }
    network.check()?;
    Ok(network)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_become_layers() {
        let of = |words| network(words, [1, 28, 28], Cost::LogLikelihood, Init::He);
        let wanted = Network::new([1, 28, 28])
            .conv2d(20, 5)
            .max_pool2d(2)
            .relu()
            .flatten()
            .dropout(0.5)
            .dense(10)
            .softmax()
            .init(Init::He);
        assert_eq!(
            of("conv 20 5 pool 2 relu dropout 0.5 dense 10 softmax").unwrap(),
            wanted
        );
        for (words, named) in [
            ("dens 10", "`dens`"),
            ("conv 20", "`conv`"),
            ("dense x", "`dense`"),
        ] {
            let message = of(words).unwrap_err().to_string();
            assert!(message.contains(named), "{message}");
        }
    }
}

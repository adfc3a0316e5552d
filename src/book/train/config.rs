//! A network and its settings as a TOML file. The form stands at [`Config`].

use std::path::Path;

use serde::Deserialize;

use super::{Decay, Settings};
use crate::book::nn::Network;
use crate::error::{Error, Result};
use crate::files::read_limited;
use crate::ops::distort::Distortion;
use crate::ops::gather::Expansion;

/// Longest configuration that is read.
const MAX_BYTES: u64 = 1 << 20;

/// A network with a name and the settings to train it with, as a TOML file says them.
///
/// ```
/// let config = wgrad::book::train::Config::parse(
///     r#"
///     name = "tiny"
///
///     [network]
///     input = [1, 28, 28]
///     cost = "log_likelihood"
///     init = "he"
///     layers = [
///         { type = "conv2d", filters = 8, kernel = [5, 5] },
///         { type = "max_pool2d", kernel = [2, 2] },
///         { type = "relu" },
///         { type = "flatten" },
///         { type = "dropout", p = 0.5 },
///         { type = "dense", units = 10 },
///         { type = "softmax" },
///     ]
///
///     [train]
///     epochs = 3
///     learning_rate = 0.1
///     l2 = { per_example = 5.0 }
///     "#,
/// )?;
/// assert_eq!(config.network.layers.len(), 7);
/// assert_eq!(config.settings.epochs, 3);
/// # Ok::<(), wgrad::Error>(())
/// ```
///
/// `name` is what the run is called: letters, digits, `-`, `_`, `.`; without it, the file's stem.
/// A key that stands nowhere below is refused by name.
///
/// # `[network]`
/// As [`Network`](crate::book::nn::Network) is in JSON: `input` is `[channels, height, width]`, `cost` one of
/// [`Cost`](crate::book::nn::Cost) and `init` one of [`Init`](crate::book::nn::Init), both in snake case. A layer of
/// `layers` is a table with its `type` and what else [`Layer`](crate::book::nn::Layer) says:
///
/// | `type` | needs | may have |
/// |---|---|---|
/// | `conv2d` | `filters`, `kernel` | `stride`, `padding`, `dilation`, `groups` |
/// | `max_pool2d`, `avg_pool2d` | `kernel` | `stride`, `padding` |
/// | `dense` | `units` | |
/// | `dropout` | `p` | `rescale` |
/// | `flatten`, `sigmoid`, `tanh`, `relu`, `softmax` | | |
///
/// # `[train]`
/// May be missing, as each of its keys may; then [`Settings`]' defaults hold.
///
/// | key | form |
/// |---|---|
/// | `epochs`, `batch`, `replicas`, `seed` | a whole number |
/// | `learning_rate` | a number, or in its place |
/// | `learning_rates` | a list, one of each epoch; the last holds on |
/// | `momentum` | a number |
/// | `l2`, `l1` | `{ per_example = λ }` or `{ per_batch = λ }`, see [`Decay`] |
/// | `expansion` | `"none"` or `"shifts"` |
/// | `distortion` | a table of limits, see [`Distortion`] |
/// | `average_from`, `stop_after`, `halve_after` | a number of epochs, see [`Settings`] |
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// What the run is called.
    pub name: String,
    /// The network.
    pub network: Network,
    /// The settings.
    pub settings: Settings,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    name: Option<String>,
    network: Network,
    #[serde(default)]
    train: Train,
}

/// The table `[train]`; what is missing keeps the default of [`Settings`].
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Train {
    epochs: Option<usize>,
    batch: Option<usize>,
    learning_rate: Option<f64>,
    learning_rates: Option<Vec<f64>>,
    momentum: Option<f64>,
    l2: Option<Decay>,
    l1: Option<Decay>,
    seed: Option<u64>,
    replicas: Option<usize>,
    expansion: Option<Expansion>,
    distortion: Option<Distortion>,
    average_from: Option<usize>,
    stop_after: Option<usize>,
    halve_after: Option<usize>,
}

impl Config {
    /// Reads a configuration file.
    ///
    /// # Errors
    /// [`Error::Io`] if it cannot be read, [`Error::File`] saying what in it is wrong.
    pub fn load(path: &Path) -> Result<Self> {
        let fix = "The documentation of wgrad::book::train::Config shows the form.";
        let bytes = read_limited(path, MAX_BYTES)?;
        let text = String::from_utf8(bytes)
            .map_err(|e| Error::file(path, e.to_string(), "UTF-8 text", fix))?;
        let mut config = Self::parse(&text).map_err(|e| match e {
            Error::Setting { found, wanted, .. } => Error::file(path, found, wanted, fix),
            Error::Shape { .. } => {
                Error::file(path, e.to_string(), "a network whose sizes fit", fix)
            }
            other => other,
        })?;
        if config.name.is_empty() {
            let stem = path.file_stem().map(|s| s.to_string_lossy().into_owned());
            config.name = stem.unwrap_or_else(|| "config".into());
        }
        Ok(config)
    }

    /// A configuration from its text; a missing name is left empty.
    ///
    /// # Errors
    /// [`Error::Setting`] saying where the text departs from the form, and what
    /// [`Network::check`] finds.
    pub fn parse(text: &str) -> Result<Self> {
        let wrong = |found: String| Error::setting("configuration", found, "the documented form");
        let file: File =
            toml::from_str(text).map_err(|e| wrong(e.to_string().trim_end().into()))?;
        let name = file.name.unwrap_or_default();
        // The name becomes a folder's name.
        if name
            .chars()
            .any(|c| !(c.is_alphanumeric() || "-_.".contains(c)))
            || name.starts_with('.')
        {
            let wanted = "letters, digits, `-`, `_` and `.`, no `.` first";
            return Err(Error::setting("name", name, wanted));
        }
        let t = file.train;
        let rates = match (t.learning_rate, t.learning_rates) {
            (Some(_), Some(_)) => {
                return Err(wrong("both learning_rate and learning_rates".into()));
            }
            (Some(rate), None) => Some(vec![rate]),
            (None, rates) => rates,
        };
        let d = Settings::default();
        let settings = Settings {
            epochs: t.epochs.unwrap_or(d.epochs),
            batch: t.batch.unwrap_or(d.batch),
            learning_rates: rates.unwrap_or(d.learning_rates),
            momentum: t.momentum.unwrap_or(d.momentum),
            l2: t.l2.unwrap_or(d.l2),
            l1: t.l1.unwrap_or(d.l1),
            seed: t.seed.unwrap_or(d.seed),
            replicas: t.replicas.unwrap_or(d.replicas),
            expansion: t.expansion.unwrap_or(d.expansion),
            distortion: t.distortion.unwrap_or(d.distortion),
            average_from: t.average_from.or(d.average_from),
            stop_after: t.stop_after.or(d.stop_after),
            halve_after: t.halve_after.or(d.halve_after),
            ..d
        };
        file.network.check()?;
        Ok(Self {
            name,
            network: file.network,
            settings,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NETWORK: &str = r#"
        [network]
        input = [1, 2, 2]
        cost = "quadratic"
        init = "large"
        layers = [{ type = "flatten" }, { type = "dense", units = 3 }, { type = "sigmoid" }]
    "#;

    #[test]
    fn every_setting_is_read() {
        let text = format!(
            "name = \"n\"\n{NETWORK}\n[train]\nepochs = 2\nbatch = 3\nlearning_rates = [1.0, 0.5]\n\
             momentum = 0.9\nl2 = {{ per_batch = 0.1 }}\nl1 = {{ per_example = 2.0 }}\nseed = 7\n\
             replicas = 4\nexpansion = \"shifts\"\naverage_from = 2\n\
             distortion = {{ rotation = 5.0, alpha = 34.0 }}\n"
        );
        let s = Config::parse(&text).unwrap().settings;
        assert_eq!((s.epochs, s.batch, s.seed, s.replicas), (2, 3, 7, 4));
        assert_eq!((s.learning_rates, s.momentum), (vec![1.0, 0.5], 0.9));
        assert_eq!((s.l2, s.l1), (Decay::PerBatch(0.1), Decay::PerExample(2.0)));
        assert_eq!(s.expansion, Expansion::Shifts);
        assert_eq!(s.average_from, Some(2));
        let elastic = Distortion::elastic();
        let distortion = Distortion {
            rotation: 5.0,
            ..elastic
        };
        assert_eq!(s.distortion, distortion);
    }

    #[test]
    fn every_key_stands_in_the_documentation() {
        let text = include_str!("config.rs");
        let lines = text.lines().filter_map(|line| line.strip_prefix("///"));
        let documented = lines.collect::<String>();
        // The parser's message lists what it knows in back quotes.
        let mut known = 0;
        for departure in [
            format!("{NETWORK}\n[train]\nno_such = 1"),
            format!("no_such = 1\n{NETWORK}"),
            NETWORK.replace("cost =", "no_such = 1\ncost ="),
            NETWORK.replace("\"sigmoid\"", "\"no_such\""),
            NETWORK.replace("units = 3", "no_such = 3"),
            NETWORK.replace("\"flatten\"", "\"conv2d\", no_such = 1"),
            NETWORK.replace("\"flatten\"", "\"max_pool2d\", no_such = 1"),
            NETWORK.replace("\"flatten\"", "\"avg_pool2d\", no_such = 1"),
            NETWORK.replace("\"flatten\"", "\"dropout\", no_such = 1"),
        ] {
            let message = Config::parse(&departure).unwrap_err().to_string();
            let (_, expected) = message.split_once("expected").expect(&message);
            for key in expected.split('`').skip(1).step_by(2) {
                let named = ["`[", "`"].map(|open| format!("{open}{key}"));
                assert!(
                    named.iter().any(|n| documented.contains(n.as_str())),
                    "{key}"
                );
                known += 1;
            }
        }
        assert!(known > 30, "{known}");
    }

    #[test]
    fn departures_from_the_form_are_named() {
        let refused = |text: &str| Config::parse(text).unwrap_err().to_string();
        assert!(refused("[network").contains("line 1"));
        assert!(refused(&format!("{NETWORK}\n[train]\nepoch = 2")).contains("epoch"));
        assert!(refused(&format!("name = \"a/b\"\n{NETWORK}")).contains("a/b"));
        assert!(refused(&NETWORK.replace("dense", "dens")).contains("dens"));
        assert!(refused(&NETWORK.replace("units = 3", "units = 0")).contains("layer 1 (dense)"));
        let rules = format!("{NETWORK}\n[train]\nstop_after = 3\nhalve_after = 2");
        let s = Config::parse(&rules).unwrap().settings;
        assert_eq!((s.stop_after, s.halve_after), (Some(3), Some(2)));
        let both = format!("{NETWORK}\n[train]\nlearning_rate = 1.0\nlearning_rates = [1.0]");
        assert!(refused(&both).contains("both"));
    }
}

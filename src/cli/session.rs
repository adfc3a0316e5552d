//! The flags that describe a training session, shared by `train` and `plan`.

use std::path::{Path, PathBuf};

use clap::Args;
use wgrad::data::{Source, Split};
use wgrad::exec::Choice;
use wgrad::files::{FolderLock, create_folder, create_new_folder};
use wgrad::nn::{Network, recipe};
use wgrad::ops::distort::Distortion;
use wgrad::train::{Config, Settings};
use wgrad::{Error, Result};

/// The network that is trained where none is named.
const DEFAULT_NET: &str = "conv-relu";
/// Epochs on the synthetic digits where none are named, the last ones at a tenth of the
/// learning rate: over in half a minute on two cores.
const SYNTHETIC_EPOCHS: usize = 6;
/// Epochs of those at the full rate.
const SYNTHETIC_FULL: usize = 4;

/// What to train, on what, how.
#[derive(Args, Default)]
pub struct SessionArgs {
    /// A network by name: mlp-30, mlp-100, conv, conv-conv, conv-relu, conv-dropout
    #[arg(long, value_name = "NAME", conflicts_with = "config")]
    net: Option<String>,
    /// A network and its settings from a TOML file
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// A folder with MNIST's four IDX files, or `synthetic` [default: MNIST_DIR, else synthetic]
    #[arg(long, value_name = "DIR")]
    data: Option<String>,
    /// Train on the first N training images only
    #[arg(long, value_name = "N")]
    train_images: Option<usize>,
    /// Epochs [default: the network's own; 6 on synthetic digits]
    #[arg(long, value_name = "N")]
    epochs: Option<usize>,
    /// Images in a mini-batch [default: 10]
    #[arg(long, value_name = "N")]
    batch: Option<usize>,
    /// Learning rate of every epoch [default: the network's own; on synthetic digits a tenth
    /// of it from the fifth epoch on]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    lr: Option<f64>,
    /// Momentum [default: 0]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    momentum: Option<f64>,
    /// Distort training images at random in every step: none, affine or elastic [default: none]
    #[arg(long, value_name = "NAME")]
    distort: Option<String>,
    /// Evaluate and save the mean of the weights after each epoch from the Nth on
    #[arg(long, value_name = "N")]
    average_from: Option<usize>,
    /// Stop after N epochs in a row without a new best validation accuracy
    #[arg(long, value_name = "N", conflicts_with = "average_from")]
    stop_after: Option<usize>,
    /// Halve the learning rate after N epochs in a row without a new best validation
    /// accuracy; the seventh halving ends the run
    #[arg(long, value_name = "N", conflicts_with = "average_from")]
    halve_after: Option<usize>,
    /// Seed of everything random [default: 1]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Train N networks at once, each with random numbers of its own [default: 1]
    #[arg(long, value_name = "N")]
    replicas: Option<usize>,
    /// Identity of the first replica: `--first-replica 3` trains alone what
    /// `--replicas 5` has as its member 3 [default: 0]
    #[arg(long, value_name = "N")]
    first_replica: Option<usize>,
    /// auto (a hardware GPU, else the CPU), cpu, gpu, or an index of `wgrad devices`
    #[arg(long, default_value = "auto")]
    device: String,
    /// Launch every op on its own
    #[arg(long)]
    no_fuse: bool,
    /// Every N steps, compute one launch again on the reference and stop if they disagree
    #[arg(long, value_name = "N")]
    verify_every: Option<u64>,
}

/// A session described in full.
pub struct Session {
    /// The network's name.
    pub net: String,
    /// The network.
    pub network: Network,
    /// The data.
    pub data: Split,
    /// The settings, checked against network and data when the plan is made.
    pub settings: Settings,
    /// The device.
    pub device: Choice,
}

impl SessionArgs {
    /// The device that was asked for; the flag's default does not hold where the whole
    /// command was left out.
    fn choice(&self) -> Result<Choice> {
        if self.device.is_empty() {
            return Ok(Choice::Auto);
        }
        self.device.parse()
    }

    /// Finds network, data and settings.
    pub fn resolve(&self) -> Result<Session> {
        let device = self.choice()?;
        let named = self.net.as_deref().unwrap_or(DEFAULT_NET);
        // A name is checked before the data is read: the shapes come later.
        let shape = [1, 28, 28];
        let mut settings = Settings::from(&recipe(named, shape, 10)?);
        let from_file = match &self.config {
            Some(path) => Some(Config::load(path)?),
            None => None,
        };
        let mut data = Source::resolve(self.data.as_deref())?.load()?;
        if let Some(n) = self.train_images {
            data = data
                .training_first(n)
                .map_err(|e| flag(e, "--train-images"))?;
        }
        let (net, network) = match from_file {
            Some(config) => {
                settings = config.settings;
                (config.name, config.network)
            }
            None => {
                let input = [1, data.train.height, data.train.width];
                let network = recipe(named, input, data.train.classes)?.network;
                if data.synthetic {
                    settings.epochs = SYNTHETIC_EPOCHS;
                    let full = settings.learning_rates[0];
                    settings.learning_rates = vec![full; SYNTHETIC_FULL];
                    settings.learning_rates.push(full / 10.0);
                }
                (named.into(), network)
            }
        };
        self.over(&mut settings)?;
        Ok(Session {
            net,
            network,
            data,
            settings,
            device,
        })
    }

    /// Lays the flags over the settings.
    fn over(&self, settings: &mut Settings) -> Result<()> {
        let set = |to: &mut usize, from: Option<usize>| *to = from.unwrap_or(*to);
        set(&mut settings.epochs, self.epochs);
        set(&mut settings.batch, self.batch);
        set(&mut settings.replicas, self.replicas);
        set(&mut settings.first_replica, self.first_replica);
        settings.seed = self.seed.unwrap_or(settings.seed);
        settings.verify_every = self.verify_every.unwrap_or(settings.verify_every);
        settings.momentum = self.momentum.unwrap_or(settings.momentum);
        if let Some(lr) = self.lr {
            settings.learning_rates = vec![lr];
        }
        if let Some(name) = &self.distort {
            settings.distortion = Distortion::named(name)?;
        }
        settings.average_from = self.average_from.or(settings.average_from);
        settings.stop_after = self.stop_after.or(settings.stop_after);
        settings.halve_after = self.halve_after.or(settings.halve_after);
        if self.no_fuse {
            settings.fuse = false;
        }
        Ok(())
    }
}

/// The error with the flag as its place.
fn flag(error: Error, name: &str) -> Error {
    match error {
        Error::Setting { found, wanted, .. } => Error::setting(name, found, wanted),
        other => other,
    }
}

/// The folder that a run writes to, held for as long as this value lives.
pub struct RunFolder {
    /// Where it is.
    pub path: PathBuf,
    lock: FolderLock,
}

impl RunFolder {
    /// The folder named, or a new `runs/<net>`, numbered if taken.
    pub fn take(out: Option<&Path>, net: &str) -> Result<Self> {
        let path = match out {
            Some(folder) => {
                create_folder(folder)?;
                folder.to_path_buf()
            }
            None => {
                let numbered = (2..).map(|k| format!("{net}-{k}"));
                let names = std::iter::once(net.to_owned()).chain(numbered);
                create_new_folder(Path::new("runs"), names)?
            }
        };
        let lock = FolderLock::take(&path)?;
        let folder = Self { path, lock };
        folder.lock.tidy(&folder.path)?;
        folder.lock.tidy(&folder.checkpoints())?;
        Ok(folder)
    }

    /// Where its checkpoints go.
    pub fn checkpoints(&self) -> PathBuf {
        self.path.join("checkpoints")
    }
}

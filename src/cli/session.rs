//! The flags that describe a training session, shared by `train` and `plan`.

use std::path::{Path, PathBuf};

use clap::Args;
use wgrad::book::nn::{Network, recipe};
use wgrad::book::train::{Config, Settings};
use wgrad::data::{Source, Split};
use wgrad::exec::Choice;
use wgrad::files::{FolderLock, create_folder, create_new_folder, read_limited};
use wgrad::fit::Experiment;
use wgrad::ops::distort::Distortion;
use wgrad::{Error, Result};

/// The network that is trained where none is named.
const DEFAULT_NET: &str = "conv-relu";
/// Epochs on the synthetic digits where none are named, the last ones at a tenth of the
/// learning rate: over in half a minute on two cores.
const SYNTHETIC_EPOCHS: usize = 6;
/// Epochs of those at the full rate.
const SYNTHETIC_FULL: usize = 4;

/// What `--validation` can be told.
const CHOICES: [&str; 2] = ["last", "random"];
/// What images are drawn by for validation. It is no flag: validation images that change with
/// the seed of a run would not compare its networks.
const SPLIT_SEED: u64 = 1;

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
    /// Which images are for validation: `last`, the last sixth of the training file as in the
    /// book, or `random`, as many drawn from all of it, always the same [default: last]
    #[arg(long, value_name = "NAME")]
    validation: Option<String>,
    /// Classes that the images are sorted into [default: the largest label and one]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    classes: Option<usize>,
    /// Train on the first N training images only
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    train_images: Option<usize>,
    /// Epochs [default: the network's own; 6 on synthetic digits]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    epochs: Option<usize>,
    /// Images in a mini-batch [default: 10]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
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
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    average_from: Option<usize>,
    /// Stop after N epochs in a row without a new best validation accuracy
    #[arg(
        long,
        value_name = "N",
        allow_negative_numbers = true,
        conflicts_with = "average_from"
    )]
    stop_after: Option<usize>,
    /// Halve the learning rate after N epochs in a row without a new best validation
    /// accuracy; the seventh halving ends the run
    #[arg(
        long,
        value_name = "N",
        allow_negative_numbers = true,
        conflicts_with = "average_from"
    )]
    halve_after: Option<usize>,
    /// Seed of everything random [default: 1]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    seed: Option<u64>,
    /// Train N networks at once, each with random numbers of its own [default: 1]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    replicas: Option<usize>,
    /// Identity of the first replica: `--first-replica 3` trains alone what
    /// `--replicas 5` has as its member 3 [default: 0]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    first_replica: Option<usize>,
    /// auto (a hardware GPU, else the CPU), cpu, gpu, or an index of `wgrad devices`
    #[arg(long, default_value = "auto")]
    device: String,
    /// Launch every op on its own
    #[arg(long)]
    no_fuse: bool,
    /// Every N steps, compute one launch again on the reference and stop if they disagree
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    verify_every: Option<u64>,
}

/// Longest configuration that is read.
const MAX_CONFIG: u64 = 1 << 20;

/// An experiment with what the flags add.
pub struct Named {
    /// The experiment.
    pub experiment: Experiment,
    /// The data, in the stead of the file's.
    pub data: Option<PathBuf>,
    /// The device.
    pub device: Choice,
}

/// A session described in full.
pub struct Session {
    /// The network's name.
    pub net: String,
    /// The network.
    pub network: Network,
    /// The data.
    pub data: Split,
    /// Whether the validation images are the last ones of a training file.
    pub held_back_last: bool,
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

    /// The experiment that `--config` names, if it is one, with what flags say in the file's stead.
    pub fn experiment(&self) -> Result<Option<Named>> {
        let Some(path) = &self.config else {
            return Ok(None);
        };
        let text = String::from_utf8_lossy(&read_limited(path, MAX_CONFIG)?).into_owned();
        if !Experiment::is(&text) {
            return Ok(None);
        }
        let mut experiment = Experiment::load(path)?;
        let of_book = [
            ("--validation", self.validation.is_some()),
            ("--classes", self.classes.is_some()),
            ("--train-images", self.train_images.is_some()),
            ("--momentum", self.momentum.is_some()),
            ("--distort", self.distort.is_some()),
            ("--average-from", self.average_from.is_some()),
            ("--stop-after", self.stop_after.is_some()),
            ("--halve-after", self.halve_after.is_some()),
            ("--first-replica", self.first_replica.is_some()),
            ("--no-fuse", self.no_fuse),
        ];
        if let Some((flag, _)) = of_book.iter().find(|(_, given)| *given) {
            let wanted = "a flag that an experiment has: --data, --epochs, --batch, --lr, --seed, \
                          --replicas, --verify-every, --device, --out, --resume, --tune, --mixed-precision, --whole-programs";
            return Err(Error::setting(path.display().to_string(), *flag, wanted));
        }
        let training = &mut experiment.training;
        training.epochs = self.epochs.unwrap_or(training.epochs);
        training.batch = self.batch.unwrap_or(training.batch);
        training.seed = self.seed.unwrap_or(training.seed);
        training.replicas = self.replicas.unwrap_or(training.replicas);
        training.verify_every = self.verify_every.unwrap_or(training.verify_every);
        experiment.optimizer.rate = self.lr.unwrap_or(experiment.optimizer.rate);
        Ok(Some(Named {
            experiment,
            data: self.data.as_ref().map(PathBuf::from),
            device: self.choice()?,
        }))
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
        let random = match self.validation.as_deref() {
            None | Some("last") => false,
            Some("random") => true,
            Some(name) => {
                let error = Error::unknown("choice of validation images", name, &CHOICES);
                return Err(error);
            }
        };
        let mut data = Source::resolve(self.data.as_deref())?.load()?;
        if random {
            data = data.redrawn(SPLIT_SEED);
        }
        if let Some(classes) = self.classes {
            data = data.with_classes(classes)?;
        }
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
                let network = fitting(named, input, data.train.classes)?;
                if data.synthetic {
                    settings.epochs = SYNTHETIC_EPOCHS;
                    let full = settings.learning_rates[0];
                    settings.learning_rates = vec![full; SYNTHETIC_FULL];
                    settings.learning_rates.push(full / 10.0);
                }
                (named.into(), network)
            }
        };
        // Fewer images than the usual mini-batch are one mini-batch, if nobody asked for more.
        if self.config.is_none() {
            settings.batch = settings
                .batch
                .min(data.train.len() * settings.expansion.factor());
        }
        self.over(&mut settings)?;
        Ok(Session {
            net,
            network,
            held_back_last: !random && !data.synthetic,
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

/// A network by name for images of this size; some have layers that small images do not
/// fill, and the user knows nothing of these.
fn fitting(name: &str, input: [usize; 3], classes: usize) -> Result<Network> {
    let of = |input| recipe(name, input, classes).map(|r| r.network);
    let network = of(input)?;
    let Err(Error::Shape { .. }) = network.check() else {
        return Ok(network);
    };
    let [channels, height, width] = input;
    let enough = |side: &usize| of([channels, *side, *side]).is_ok_and(|n| n.check().is_ok());
    let wanted = match (1..=64).find(enough) {
        Some(side) => format!("{side} x {side} at least; mlp-30 and mlp-100 take any"),
        None => "larger ones; mlp-30 and mlp-100 take any".into(),
    };
    let found = format!("{height} x {width} pixels");
    Err(Error::setting(format!("images for {name}"), found, wanted))
}

/// How many images there are for what.
pub fn counts(data: &Split) -> String {
    format!(
        "{} training, {} validation and {} test images{}",
        data.train.len(),
        data.validation.len(),
        data.test.len(),
        match data.synthetic {
            true => " (drawn by a program, no real handwriting)",
            false => "",
        }
    )
}

/// A line for each part of the data that lacks classes which another part has;
/// `held_back_last` says whether another choice of validation images may help.
pub fn warnings(data: &Split, held_back_last: bool) -> String {
    let mut text = String::new();
    for (part, absent) in data.absent_classes() {
        let shown: Vec<String> = absent.iter().take(10).map(u8::to_string).collect();
        let more = match absent.len() - shown.len() {
            0 => String::new(),
            n => format!(" and {n} more"),
        };
        let what = match part {
            "training" => "a network cannot learn them",
            "validation" => "validation says nothing of them",
            _ => "the test says nothing of them",
        };
        let help = match held_back_last && part != "test" {
            true => {
                "; the validation images are the last of the training file, and `--validation \
                 random` draws them from all of it"
            }
            false => "",
        };
        let classes = shown.join(", ");
        text += &format!("warning: no {part} images of classes {classes}{more}: {what}{help}\n");
    }
    text
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

//! A session of the book as a run of the front ([`fit`](crate::fit)): its model, loss, optimizer and data.

use std::borrow::Cow;

use super::{Settings, Standing};
use crate::book::nn::{Cost, Network};
use crate::data::{Images, Split};
use crate::error::{Error, Result};
use crate::fit::{Given, Loss, Setup, Wishes};
use crate::model::Model;
use crate::ops::{cross_entropy, log_likelihood, quadratic};
use crate::optim::{Group, Optimizer, Sgd};

/// The names of the sets that are evaluated.
pub(super) const TRAINING: &str = "training";
pub(super) const VALIDATION: &str = "validation";
pub(super) const TEST: &str = "test";

/// What a run of the front is made of.
pub(super) struct Front {
    pub model: Model,
    loss: Loss,
    optimizer: Optimizer,
    train: Option<Given<'static>>,
    sets: Vec<(&'static str, Given<'static>)>,
    batch: usize,
    replicas: usize,
    first_replica: u32,
    seed: u64,
    wishes: Wishes,
}

impl Front {
    /// The run of a session.
    ///
    /// # Errors
    /// Everything that can be wrong with a network, its data or its settings.
    pub fn of_session(network: &Network, settings: &Settings, data: &Split) -> Result<Self> {
        network.check()?;
        check_images(network, &data.train)?;
        settings.check(data.train.len())?;
        check_images(network, &data.validation)?;
        check_images(network, &data.test)?;
        let train = data.train.dataset()?;
        let mut sets = Vec::new();
        if settings.measure_training {
            // The same numbers, which lie on the device once.
            sets.push((TRAINING, Given::Whole(Cow::Owned(train.clone()))));
        }
        for (name, images) in [(VALIDATION, &data.validation), (TEST, &data.test)] {
            sets.push((name, Given::Whole(Cow::Owned(images.dataset()?))));
        }
        let decay = settings.decay(data.train.len());
        Ok(Self {
            model: network.distorted(settings.distortion)?,
            loss: loss(network),
            optimizer: optimizer(settings, decay),
            train: Some(Given::Whole(Cow::Owned(train))),
            sets,
            batch: settings.batch,
            replicas: settings.replicas,
            first_replica: settings.first_replica as u32,
            seed: settings.seed,
            wishes: Wishes {
                rates: true,
                stops: settings.has_rules(),
                verify: settings.verify_every,
                fuse: settings.fuse,
                answers: true,
                mean_from: settings.average_from,
                watches: true,
                expansion: settings.expansion,
                evaluation_batch: Some(settings.evaluation_batch),
                ..Wishes::default()
            },
        })
    }

    /// Networks that are asked about images and learn nothing, `batch` images at once.
    ///
    /// # Errors
    /// [`Error::Shape`] if the images do not fit the network.
    pub fn of_question(
        network: &Network,
        images: &Images,
        replicas: usize,
        batch: usize,
    ) -> Result<Self> {
        network.check()?;
        check_asked(network, images)?;
        Ok(Self {
            model: network.model()?,
            loss: loss(network),
            optimizer: Optimizer::new(Sgd::default(), 0.0),
            train: None,
            sets: vec![("images", Given::Whole(Cow::Owned(images.dataset()?)))],
            batch,
            replicas,
            first_replica: 0,
            seed: 0,
            wishes: Wishes {
                trains: false,
                answers: true,
                evaluation_batch: Some(batch),
                ..Wishes::default()
            },
        })
    }

    pub fn setup(&self) -> Setup<'_> {
        Setup {
            model: &self.model,
            loss: &self.loss,
            optimizer: &self.optimizer,
            metrics: &[],
            batch: self.batch,
            replicas: self.replicas,
            first_replica: self.first_replica,
            seed: self.seed,
            sweep: &[],
            wishes: self.wishes,
            mixup: None,
            data: self.train.as_ref(),
            evaluated: &self.sets,
        }
    }
}

/// The network's cost, of the output that it is computed from.
fn loss(network: &Network) -> Loss {
    let (cost, output) = match network.cost {
        Cost::Quadratic => (&quadratic::COST, "output"),
        Cost::CrossEntropy => (&cross_entropy::COST, "scores"),
        Cost::LogLikelihood => (&log_likelihood::COST, "scores"),
    };
    Loss::of_cost(cost).of(output)
}

/// Gradient descent with momentum, whose decays act on weights and not on biases.
fn optimizer(settings: &Settings, [l2, l1]: [f64; 2]) -> Optimizer {
    let sgd = Sgd {
        momentum: settings.momentum,
        nesterov: false,
        l2,
        l1,
    };
    let biases = Group {
        decays: false,
        ..Group::default()
    };
    let rate = settings.rate(0, 0, Standing::default());
    Optimizer::new(sgd, rate).group(|name| !name.ends_with(".weight"), biases)
}

/// The network must take the images it is given, and have one output for each of their classes.
pub(super) fn check_images(network: &Network, images: &Images) -> Result<()> {
    check_size(network, images)?;
    let outputs = network.outputs()?;
    if outputs != images.classes && !(outputs == 1 && images.classes <= 2) {
        return Err(wrong_outputs(outputs, images));
    }
    Ok(())
}

/// The network must take the images it is given, and have an output for each of their classes;
/// images that it is only asked about need not have all the classes that it knows.
fn check_asked(network: &Network, images: &Images) -> Result<()> {
    check_size(network, images)?;
    let outputs = network.outputs()?;
    if outputs < images.classes && !(outputs == 1 && images.classes <= 2) {
        return Err(wrong_outputs(outputs, images));
    }
    Ok(())
}

fn wrong_outputs(outputs: usize, images: &Images) -> Error {
    let (classes, name) = (images.classes, &images.name);
    Error::shape(
        "output",
        format!("{outputs} outputs for the {classes} classes of {name}"),
        format!(
            "one output for each class, labels being 0 to {}",
            classes - 1
        ),
    )
}

fn check_size(network: &Network, images: &Images) -> Result<()> {
    let found = [1, images.height, images.width];
    if network.input != found {
        return Err(Error::shape(
            "input",
            format!("images {found:?} from {}", images.name),
            format!("{:?} as the network was described", network.input),
        ));
    }
    Ok(())
}

//! Trained networks: their weights, on disk and off, and what they answer.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use ndarray::{ArrayD, IxDyn};

use super::front::Front;
use super::outcome::{Evaluation, evaluation, metrics};
use crate::book::nn::{Network, Parameter};
use crate::checkpoints;
use crate::data::Images;
use crate::error::{Error, Result};
use crate::exec::Device;
use crate::fit::{Answered, Training};
use crate::graph::{Handle, Program};
use crate::model_file::{ModelFile, REPLICAS, Tensors, shown, weights_sha256};
use crate::run::Session;
use crate::tensor::Values;

/// Images that a [`Predictor`] answers in one step.
const BATCH: usize = 100;

/// One replica's weights by name, in the network's order.
pub type Weights = Tensors;

/// A network with the weights of one or more replicas.
#[derive(Clone, Debug, PartialEq)]
pub struct Model {
    /// The description.
    pub network: Network,
    /// The weights of each replica.
    pub replicas: Vec<Weights>,
}

impl Model {
    /// From the parameters' values as they are read back.
    pub(super) fn from_values(
        network: &Network,
        parameters: &[Parameter],
        values: &[Values<f32>],
    ) -> Result<Self> {
        let replicas = values.first().map_or(0, |v| v.replicas().len());
        let mut all = vec![Weights::new(); replicas];
        for (p, values) in parameters.iter().zip(values) {
            for (weights, values) in all.iter_mut().zip(values.replicas()) {
                let shape = IxDyn(p.ty.shape.extents());
                let array = ArrayD::from_shape_vec(shape, values.to_vec())
                    .map_err(|e| Error::shape(&p.name, e.to_string(), p.ty.to_string()))?;
                weights.push((p.name.clone(), array));
            }
        }
        Ok(Self {
            network: network.clone(),
            replicas: all,
        })
    }

    /// Uploads the weights of `parameters`, each with its handle: those of each of a session's
    /// replicas, or one replica's to all of them.
    pub(super) fn write(
        &self,
        parameters: &[Parameter],
        handles: &[Handle<f32>],
        session: &mut Session,
    ) -> Result<()> {
        let replicas = session.replicas();
        if self.replicas.len() != replicas && self.replicas.len() != 1 {
            let found = format!("{} replicas", self.replicas.len());
            return Err(Error::setting(
                "given weights",
                found,
                format!("1 or {replicas}"),
            ));
        }
        self.check_finite()?;
        for (k, (p, &handle)) in parameters.iter().zip(handles).enumerate() {
            let each = self.replicas.iter().map(|weights| {
                let tensor = weights
                    .get(k)
                    .filter(|(name, t)| *name == p.name && t.shape() == p.ty.shape.extents());
                let (_, tensor) = tensor.ok_or_else(|| {
                    Error::setting("given weights", "those of another network", &p.name)
                })?;
                Ok(tensor.iter().copied().collect::<Vec<f32>>())
            });
            let values = each.collect::<Result<Vec<_>>>()?.concat();
            match self.replicas.len() {
                1 => session.write_each(handle, &values)?,
                _ => session.write(handle, &values)?,
            }
        }
        Ok(())
    }

    /// SHA-256 of each replica's weights; equal weights, equal hash.
    pub fn sha256(&self) -> Vec<String> {
        let hash = |w: &Weights| weights_sha256(w.iter().map(|(n, t)| (n.as_str(), t)));
        self.replicas.iter().map(hash).collect()
    }

    /// Refuses weights that are not finite.
    pub(super) fn check_finite(&self) -> Result<()> {
        for (replica, weights) in self.replicas.iter().enumerate() {
            for (name, tensor) in weights {
                if let Some(x) = tensor.iter().find(|x| !x.is_finite()) {
                    let place = format!("{name} of replica {replica}");
                    return Err(Error::setting(place, x, "finite weights"));
                }
            }
        }
        Ok(())
    }

    /// Writes a safetensors file with the network's description in its header; the file
    /// appears whole or not at all.
    ///
    /// # Errors
    /// [`Error::Setting`] naming a tensor that is not finite, [`Error::Io`] when the file cannot
    /// be written.
    pub fn save(&self, path: &Path) -> Result<()> {
        self.check_finite()?;
        let several = self.replicas.len() > 1;
        let tensors = self
            .replicas
            .iter()
            .enumerate()
            .flat_map(|(r, weights)| {
                weights.iter().map(move |(name, tensor)| {
                    let prefix = if several {
                        format!("r{r}.")
                    } else {
                        String::new()
                    };
                    (format!("{prefix}{name}"), tensor.clone())
                })
            })
            .collect();
        ModelFile {
            tensors,
            network_json: self.network.to_json()?,
            extra: BTreeMap::from([(REPLICAS.into(), self.replicas.len().to_string())]),
        }
        .save(path)
    }

    /// Reads a file that [`Model::save`] wrote, and holds every tensor against the
    /// network in its header. A weight that is infinite or not a number is an error: such a
    /// network answers nothing. [`ModelFile`] reads it all the same.
    ///
    /// # Errors
    /// [`Error::Io`] and [`Error::File`] saying what is wrong with the file.
    pub fn load(path: &Path) -> Result<Self> {
        Self::from_file(path, ModelFile::load(path)?)
    }

    /// [`Model::load`] from the bytes of a file; `path` only appears in messages.
    ///
    /// # Errors
    /// As [`Model::load`].
    pub fn from_bytes(path: &Path, bytes: &[u8]) -> Result<Self> {
        Self::from_file(path, ModelFile::from_bytes(path, bytes)?)
    }

    fn from_file(path: &Path, file: ModelFile) -> Result<Self> {
        let fix = "Use a model.safetensors that `wgrad train` wrote.";
        let wrong = |found: String, wanted: String| Error::file(path, found, wanted, fix);
        checkpoints::refuse(path, &file)?;
        if let Some((name, index, value)) = file.first_non_finite() {
            return Err(Error::file(
                path,
                format!("{value} at index {index} of tensor {}", shown(name)),
                "weights that are finite numbers",
                "Use another model; one whose training diverged wants a lower learning rate.",
            ));
        }
        let network = Network::from_json(&file.network_json)
            .map_err(|e| wrong(e.to_string(), "a network description in the header".into()))?;
        let parameters = network
            .parameters()
            .map_err(|e| wrong(e.to_string(), "a network whose sizes fit".into()))?;
        let networks = file.networks(path)?;
        let several = networks.len() > 1;
        let mut replicas = Vec::with_capacity(networks.len());
        for (r, tensors) in networks.into_iter().enumerate() {
            let mut tensors: HashMap<String, ArrayD<f32>> = tensors.into_iter().collect();
            let named = |name: &str| match several {
                true => format!("r{r}.{name}"),
                false => name.to_string(),
            };
            let mut weights = Weights::new();
            for p in &parameters {
                let tensor = tensors.remove(&p.name).ok_or_else(|| {
                    wrong(format!("no tensor {}", named(&p.name)), p.ty.to_string())
                })?;
                if tensor.shape() != p.ty.shape.extents() {
                    let found = format!("{} of shape {:?}", named(&p.name), tensor.shape());
                    return Err(wrong(found, p.ty.shape.to_string()));
                }
                weights.push((p.name.clone(), tensor));
            }
            if let Some(name) = tensors.keys().min() {
                return Err(wrong(
                    format!("a tensor {}", shown(&named(name))),
                    "only those of the network".into(),
                ));
            }
            replicas.push(weights);
        }
        Ok(Self { network, replicas })
    }
}

/// A trained model made ready to answer on a set of images.
pub struct Predictor {
    training: Training,
    images: usize,
    classes: usize,
}

impl Predictor {
    /// Compiles the forward pass and uploads weights and images.
    ///
    /// # Errors
    /// [`Error::Shape`] if the images do not fit the network; what the device says.
    pub fn new(model: &Model, images: &Images, device: &Device) -> Result<Self> {
        let network = &model.network;
        let front = Front::of_question(network, images, model.replicas.len(), BATCH)?;
        let mut training = front.setup().compile(device)?;
        let weights = training.weights_handles();
        model.write(&network.parameters()?, &weights, &mut training.session)?;
        Ok(Self {
            training,
            images: images.len(),
            classes: network.outputs()?,
        })
    }

    /// The program of a step, how many steps there are, and what they keep.
    fn pass(&self) -> Result<(Program, u64, Answered)> {
        let pass = self.training.evaluations.first();
        let pass = pass.and_then(|of| Some((of.program, of.runs, of.answers?)));
        pass.ok_or_else(|| Error::setting("images", "no evaluation", "one"))
    }

    /// Answers every image.
    ///
    /// # Errors
    /// [`Error::Device`] when the device failed.
    pub fn evaluate(&mut self) -> Result<Evaluation> {
        let (program, runs, answers) = self.pass()?;
        let session = &mut self.training.session;
        session.run(program, runs)?;
        let (counted, predictions) = session.read((answers.metrics, answers.predictions))?;
        Ok(evaluation(&metrics(&counted), &predictions))
    }

    /// The last layer's activations, `[image][class]` of each replica: probabilities
    /// under softmax.
    ///
    /// # Errors
    /// [`Error::Device`] when the device failed.
    pub fn outputs(&mut self) -> Result<Vec<Vec<Vec<f32>>>> {
        let (program, runs, answers) = self.pass()?;
        let session = &mut self.training.session;
        let mut all = vec![Vec::with_capacity(self.images); session.replicas()];
        for _ in 0..runs {
            session.run(program, 1)?;
            let output = session.read(answers.output)?;
            for (all, values) in all.iter_mut().zip(output.replicas()) {
                // The last step has rows past the last image.
                let rows = values.chunks(self.classes).take(self.images - all.len());
                all.extend(rows.map(<[f32]>::to_vec));
            }
        }
        Ok(all)
    }
}

//! Trained networks: their weights, on disk and off, and what they answer.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use ndarray::{ArrayD, IxDyn};

use super::trainer::{metrics, state, upload};
use super::{checkpoint, programs};
use crate::compile::{Options, compile};
use crate::data::Images;
use crate::error::{Error, Result};
use crate::exec::{Device, Executor};
use crate::graph::Graph;
use crate::model_file::{ModelFile, shown, weights_sha256};
use crate::nn::{Network, Parameter};
use crate::tensor::Host;

/// One replica's weights by name, in the network's order.
pub type Weights = Vec<(String, ArrayD<f32>)>;

/// A network with the weights of one or more replicas.
#[derive(Clone, Debug, PartialEq)]
pub struct Model {
    /// The description.
    pub network: Network,
    /// The weights of each replica.
    pub replicas: Vec<Weights>,
}

impl Model {
    /// From the parameters' buffers as an executor gives them.
    pub(super) fn from_buffers(
        network: &Network,
        parameters: &[Parameter],
        buffers: Vec<Host>,
        replicas: usize,
    ) -> Result<Self> {
        let mut all = vec![Weights::new(); replicas];
        for (p, host) in parameters.iter().zip(buffers) {
            let values = host.floats().unwrap_or_default();
            let each = p.ty.elements();
            for (weights, values) in all.iter_mut().zip(values.chunks(each)) {
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

    /// Uploads the weights to a plan of `network`: those of each of its replicas, or one
    /// replica's to all of them.
    pub(super) fn write(&self, network: &Network, executor: &mut dyn Executor) -> Result<()> {
        let replicas = executor.plan().replicas;
        if self.replicas.len() != replicas && self.replicas.len() != 1 {
            let found = format!("{} replicas", self.replicas.len());
            return Err(Error::setting(
                "given weights",
                found,
                format!("1 or {replicas}"),
            ));
        }
        self.check_finite()?;
        for (k, p) in network.parameters()?.iter().enumerate() {
            let each = self.replicas.iter().map(|weights| {
                let tensor = weights
                    .get(k)
                    .filter(|(name, t)| *name == p.name && t.shape() == p.ty.shape.extents());
                let (_, tensor) = tensor.ok_or_else(|| {
                    Error::setting("given weights", "those of another network", &p.name)
                })?;
                Ok(tensor.iter().copied().collect::<Vec<f32>>())
            });
            let mut values = each.collect::<Result<Vec<_>>>()?.concat();
            if self.replicas.len() == 1 {
                values = values.repeat(replicas);
            }
            let buffer = state(executor.plan(), &p.name)?;
            executor.write(buffer, &Host::F32(values))?;
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
            extra: BTreeMap::from([("wgrad.replicas".into(), self.replicas.len().to_string())]),
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
        if file.extra.contains_key(checkpoint::HISTORY) {
            return Err(Error::file(
                path,
                "a checkpoint, the state of a run that may still go on",
                "a model",
                "Let the run that wrote it go on to its end: then it writes a model.safetensors.",
            ));
        }
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
        let count = match file.extra.get("wgrad.replicas") {
            None => 1,
            Some(n) => n
                .parse()
                .ok()
                .filter(|n| (1..=4096).contains(n))
                .ok_or_else(|| wrong(format!("{n} replicas"), "1 to 4096".into()))?,
        };
        let mut tensors: HashMap<String, ArrayD<f32>> = file.tensors.into_iter().collect();
        let mut replicas = Vec::with_capacity(count);
        for r in 0..count {
            let mut weights = Weights::new();
            for p in &parameters {
                let prefix = if count > 1 {
                    format!("r{r}.")
                } else {
                    String::new()
                };
                let name = format!("{prefix}{}", p.name);
                let tensor = tensors
                    .remove(&name)
                    .ok_or_else(|| wrong(format!("no tensor {name}"), p.ty.to_string()))?;
                if tensor.shape() != p.ty.shape.extents() {
                    let found = format!("{name} of shape {:?}", tensor.shape());
                    return Err(wrong(found, p.ty.shape.to_string()));
                }
                weights.push((p.name.clone(), tensor));
            }
            replicas.push(weights);
        }
        if let Some(name) = tensors.keys().min() {
            return Err(wrong(
                format!("a tensor {}", shown(name)),
                "only those of the network".into(),
            ));
        }
        Ok(Self { network, replicas })
    }
}

/// What networks answer on a set, one entry per replica; accuracies from 0 to 1.
#[derive(Clone, Debug, PartialEq)]
pub struct Evaluation {
    /// Mean cost.
    pub cost: Vec<f64>,
    /// Share of images classified correctly.
    pub accuracy: Vec<f64>,
    /// The class answered for each image.
    pub predictions: Vec<Vec<u32>>,
}

impl Evaluation {
    /// Accuracy of the networks' plurality vote, from 0 to 1.
    pub fn ensemble_accuracy(&self, labels: &[u8]) -> f64 {
        accuracy(&plurality(&self.predictions), labels)
    }
}

/// The class most networks answer for each image; of classes with equally many votes,
/// the lowest.
pub fn plurality(predictions: &[Vec<u32>]) -> Vec<u32> {
    let images = predictions.first().map_or(0, Vec::len);
    (0..images)
        .map(|i| {
            let mut votes = BTreeMap::<u32, usize>::new();
            for p in predictions {
                *votes.entry(p[i]).or_default() += 1;
            }
            // The first of the largest: `max_by_key` would give the last.
            let most = votes.values().copied().max().unwrap_or(0);
            votes
                .iter()
                .find(|(_, n)| **n == most)
                .map_or(0, |(c, _)| *c)
        })
        .collect()
}

/// Share of predictions that equal the labels.
fn accuracy(predictions: &[u32], labels: &[u8]) -> f64 {
    let right = predictions
        .iter()
        .zip(labels)
        .filter(|(p, l)| **p == u32::from(**l));
    right.count() as f64 / labels.len() as f64
}

/// A trained model made ready to answer on a set of images.
pub struct Predictor {
    executor: Box<dyn Executor>,
    steps: usize,
    images: usize,
    classes: usize,
    batch: usize,
    replicas: usize,
}

impl Predictor {
    /// Compiles the forward pass and uploads weights and images.
    ///
    /// # Errors
    /// [`Error::Shape`] if the images do not fit the network; what the device says.
    pub fn new(model: &Model, images: &Images, device: &Device) -> Result<Self> {
        programs::check_asked(&model.network, images)?;
        let batch = images.len().min(100);
        let mut graph = Graph::new();
        let mut variables = HashMap::new();
        let steps = programs::evaluation(
            &mut graph,
            &model.network,
            &mut variables,
            "images",
            images,
            batch,
        )?;
        let options = Options {
            replicas: model.replicas.len(),
            fuse: true,
            limits: device.info().limits,
        };
        let mut executor = device.executor(compile(&graph, &options)?)?;
        model.write(&model.network, executor.as_mut())?;
        upload(executor.as_mut(), "images", images)?;
        Ok(Self {
            executor,
            steps,
            images: images.len(),
            classes: model.network.outputs()?,
            batch,
            replicas: model.replicas.len(),
        })
    }

    /// Answers every image.
    ///
    /// # Errors
    /// [`Error::Device`] when the device failed.
    pub fn evaluate(&mut self) -> Result<Evaluation> {
        self.executor.run("evaluate images", self.steps as u64)?;
        let plan = self.executor.plan();
        let buffers = [
            state(plan, "images metrics")?,
            state(plan, "images predictions")?,
        ];
        let mut back = self.executor.read_all(&buffers)?.into_iter();
        let metrics = metrics(back.next());
        let predictions = back.next().and_then(Host::integers).unwrap_or_default();
        Ok(Evaluation {
            cost: metrics.iter().map(|m| m.cost).collect(),
            accuracy: metrics.iter().map(|m| m.accuracy).collect(),
            predictions: predictions
                .chunks(self.images)
                .map(<[u32]>::to_vec)
                .collect(),
        })
    }

    /// The last layer's activations, `[image][class]` of each replica: probabilities
    /// under softmax.
    ///
    /// # Errors
    /// [`Error::Device`] when the device failed.
    pub fn outputs(&mut self) -> Result<Vec<Vec<Vec<f32>>>> {
        let mut all = vec![Vec::with_capacity(self.images); self.replicas];
        let output = state(self.executor.plan(), "images output")?;
        for step in 0..self.steps {
            self.executor.run("evaluate images", 1)?;
            let values = self.executor.read(output)?.floats().unwrap_or_default();
            let left = self.images - step * self.batch;
            for (all, values) in all.iter_mut().zip(values.chunks(self.batch * self.classes)) {
                let rows = values.chunks(self.classes).take(left);
                all.extend(rows.map(<[f32]>::to_vec));
            }
        }
        Ok(all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_class_wins_a_tied_vote() {
        let votes = [vec![3, 9], vec![1, 9], vec![3, 2], vec![1, 2]];
        assert_eq!(plurality(&votes), [1, 2]);
        assert_eq!(accuracy(&[1, 2], &[1, 3]), 0.5);
    }
}

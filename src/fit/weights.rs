//! A model's weights on the host, and in files.

use std::collections::BTreeMap;
use std::path::Path;

use ndarray::ArrayD;

use crate::checkpoints;
use crate::error::{Error, Result};
use crate::model::{Model, Registry, Role};
use crate::model_file::{ModelFile, Tensors, tensors, weights_sha256};

/// The weights and statistics of a model, by name: `conv2d.weight`, `batch_norm.running_mean`.
#[derive(Clone, Debug, PartialEq)]
pub struct Weights {
    tensors: Tensors,
}

/// The epoch and the weights that were chosen, of each replica for which some were.
pub(super) type Chosen = Vec<Option<(usize, Weights)>>;

impl Weights {
    /// Tensors by name.
    pub fn from_tensors(tensors: Tensors) -> Self {
        Self { tensors }
    }

    /// What a model has before any training, as replica 0 of a run with this seed begins.
    pub fn initial(model: &Model, seed: u64) -> Self {
        Self::of_replica(model, seed, 0)
    }

    /// What a replica of a run with this seed begins with.
    pub(crate) fn of_replica(model: &Model, seed: u64, replica: u32) -> Self {
        let mut number = 0;
        let mut tensors = Vec::new();
        for variable in model.variables() {
            if variable.role == Role::Constant {
                continue;
            }
            let values = variable.draw(seed, replica, number);
            number += u32::from(variable.role == Role::Parameter);
            let extents = variable.ty.shape.extents();
            if let Ok(array) = ArrayD::from_shape_vec(extents, values) {
                tensors.push((variable.name.clone(), array));
            }
        }
        Self { tensors }
    }

    /// All of them, in the model's order.
    pub fn tensors(&self) -> &[(String, ArrayD<f32>)] {
        &self.tensors
    }

    /// One by name.
    ///
    /// # Errors
    /// [`Error::UnknownName`] with the nearest name.
    pub fn get(&self, name: &str) -> Result<&ArrayD<f32>> {
        let found = self.tensors.iter().find(|(other, _)| other == name);
        found.map(|(_, tensor)| tensor).ok_or_else(|| {
            let known: Vec<&str> = self.tensors.iter().map(|(n, _)| n.as_str()).collect();
            Error::unknown("weight", name, &known)
        })
    }

    /// The same with every name given by a function, which drops those that it has no name for: how
    /// another framework's weights become this model's.
    #[must_use]
    pub fn renamed(&self, name: impl Fn(&str) -> Option<String>) -> Self {
        let tensors = self.tensors.iter();
        Self {
            tensors: tensors
                .filter_map(|(old, tensor)| Some((name(old)?, tensor.clone())))
                .collect(),
        }
    }

    /// These weights, and of those that they lack the other ones: a trained trunk under a new head.
    #[must_use]
    pub fn over(&self, others: &Self) -> Self {
        let mut tensors = self.tensors.clone();
        for (name, tensor) in &others.tensors {
            if !tensors.iter().any(|(own, _)| own == name) {
                tensors.push((name.clone(), tensor.clone()));
            }
        }
        Self { tensors }
    }

    /// The SHA-256 of all values, in hexadecimal.
    pub fn sha256(&self) -> String {
        weights_sha256(self.tensors.iter().map(|(n, t)| (n.as_str(), t)))
    }

    /// The values of a weight of these extents.
    pub(crate) fn values(&self, name: &str, extents: &[usize]) -> Result<&[f32]> {
        let tensor = self.get(name)?;
        match tensor.as_slice() {
            Some(values) if tensor.shape() == extents => Ok(values),
            _ => {
                let (found, wanted) = (format!("{:?}", tensor.shape()), format!("{extents:?}"));
                Err(Error::shape(format!("weight {name}"), found, wanted))
            }
        }
    }

    /// Refuses to be less than a model's.
    pub(crate) fn check_whole(&self, model: &Model) -> Result<()> {
        let kept = model
            .variables()
            .iter()
            .filter(|v| v.role != Role::Constant);
        let mut all = kept.map(|v| self.values(&v.name, v.ty.shape.extents()));
        all.try_for_each(|values| values.map(drop))
    }

    /// Refuses to have nothing of a model's.
    pub(crate) fn check_some(&self, model: &Model) -> Result<()> {
        let names = || {
            model
                .variables()
                .iter()
                .filter(|v| v.role != Role::Constant)
        };
        let has = |name: &str| self.tensors.iter().any(|(own, _)| own == name);
        match (names().next(), self.tensors.first()) {
            (Some(wanted), Some((found, _))) if !names().any(|v| has(&v.name)) => {
                let found = format!("none of the model's names, but such as `{found}`");
                let wanted = format!("names such as `{}` (`Weights::renamed`)", wanted.name);
                Err(Error::setting("weights to begin from", found, wanted))
            }
            _ => Ok(()),
        }
    }

    /// Writes them with the model's description as safetensors, whole or not at all.
    ///
    /// # Errors
    /// [`Error::UnknownName`] and [`Error::Shape`] for a weight of the model that is missing or of other extents; as
    /// [`ModelFile::save`], and [`Model::to_json`] for a layer that has no description.
    pub fn save(&self, model: &Model, path: impl AsRef<Path>) -> Result<()> {
        self.save_with(model, &BTreeMap::new(), path)
    }

    /// [`Weights::save`] with further metadata, by any keys but `wgrad.network` and `wgrad.version`.
    ///
    /// # Errors
    /// As [`Weights::save`].
    pub fn save_with(
        &self,
        model: &Model,
        extra: &BTreeMap<String, String>,
        path: impl AsRef<Path>,
    ) -> Result<()> {
        self.check_whole(model)?;
        let file = ModelFile {
            tensors: self.tensors.clone(),
            network_json: model.to_json()?,
            extra: extra.clone(),
        };
        file.save(path.as_ref())
    }

    /// Reads the float tensors of a safetensors file, whoever wrote it ([`tensors`]).
    ///
    /// # Errors
    /// As [`tensors`].
    pub fn load(path: impl AsRef<Path>) -> Result<Self> {
        let tensors = tensors(path.as_ref())?;
        Ok(Self { tensors })
    }

    /// Reads a model and its weights: what [`Weights::save`] has written, or a description in a form that the registry
    /// knows ([`Registry::with_form`]), such as one of the book's networks.
    ///
    /// # Errors
    /// As [`ModelFile::load`] and [`Model::from_json`]; [`Error::File`] for a file of several networks, which
    /// [`Weights::load_networks`] reads.
    pub fn load_model(path: impl AsRef<Path>, registry: &Registry) -> Result<(Model, Self)> {
        let path = path.as_ref();
        let (model, mut all) = Self::load_networks(path, registry)?;
        match (all.pop(), all.len()) {
            (Some(weights), 0) => Ok((model, weights)),
            (_, others) => Err(Error::file(
                path,
                format!("{} networks", others + 1),
                "one network",
                "Read all of them (`Weights::load_networks`) and choose one.",
            )),
        }
    }

    /// Reads a model and the weights of each network that the file has of it: an ensemble of the book's.
    ///
    /// # Errors
    /// As [`ModelFile::load`], [`Model::from_json`] and [`ModelFile::networks`]; [`Error::File`] for a checkpoint.
    pub fn load_networks(
        path: impl AsRef<Path>,
        registry: &Registry,
    ) -> Result<(Model, Vec<Self>)> {
        let path = path.as_ref();
        let file = ModelFile::load(path)?;
        checkpoints::refuse(path, &file)?;
        let model = Model::from_json(&file.network_json, registry)?;
        let networks = file.networks(path)?.into_iter();
        Ok((model, networks.map(Self::from_tensors).collect()))
    }
}

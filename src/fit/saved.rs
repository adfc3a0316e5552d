//! The variables of a model that are saved, on the device.

use ndarray::{ArrayD, IxDyn};

use super::weights::Weights;
use crate::error::{Error, Result};
use crate::graph::{Graph, Handle};
use crate::model::{Role, Variables};
use crate::rng::keys;
use crate::run::Session;

/// A variable of a model that is saved.
#[derive(Clone)]
pub(crate) struct Saved {
    pub name: String,
    pub extents: Vec<usize>,
    pub handle: Handle<f32>,
}

/// The same with other variables in the place of those for which there is one of their name.
pub(super) fn replaced(saved: &[Saved], by: impl Fn(&str) -> Option<Handle<f32>>) -> Vec<Saved> {
    let other = |saved: &Saved| Saved {
        handle: by(&saved.name).unwrap_or(saved.handle),
        ..saved.clone()
    };
    saved.iter().map(other).collect()
}

/// What everything random follows from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seed {
    pub seed: u64,
    pub first_replica: u32,
    pub replicas: usize,
}

impl Seed {
    /// Writes each replica's keys.
    pub fn write(&self, session: &mut Session, handle: Handle<u32>) -> Result<()> {
        let replicas = 0..self.replicas as u32;
        let own = replicas.flat_map(|r| keys(self.seed, self.first_replica + r));
        session.write(handle, &own.collect::<Vec<u32>>())
    }
}

/// Gives a model's variables their first values; `number` tells the parameters of all models of a graph
/// apart and is that of the first one.
pub(super) fn begin(
    session: &mut Session,
    graph: &Graph,
    variables: &Variables,
    seed: Seed,
    number: &mut u32,
) -> Result<Vec<Saved>> {
    let mut saved = Vec::new();
    for variable in variables.all() {
        let handle: Handle<f32> = graph.handle(variable.value)?;
        let mut initial = Vec::new();
        for replica in 0..seed.replicas as u32 {
            initial.extend(variable.draw(seed.seed, seed.first_replica + replica, *number));
        }
        session.write(handle, &initial)?;
        if variable.role == Role::Parameter {
            *number += 1;
        }
        if variable.role != Role::Constant {
            saved.push(Saved {
                name: variable.name.clone(),
                extents: variable.ty.shape.extents().to_vec(),
                handle,
            });
        }
    }
    Ok(saved)
}

/// Weights and statistics of each replica, in one readback.
pub(super) fn read(session: &mut Session, saved: &[Saved]) -> Result<Vec<Weights>> {
    let handles: Vec<Handle<f32>> = saved.iter().map(|s| s.handle).collect();
    let values = session.read(handles)?;
    let mut all = Vec::new();
    for replica in 0..session.replicas() {
        let tensors = saved.iter().zip(&values).map(|(saved, values)| {
            let part = values.replica(replica).unwrap_or_default().to_vec();
            Ok((saved.name.clone(), array(&saved.extents, part)?))
        });
        all.push(Weights::from_tensors(tensors.collect::<Result<Vec<_>>>()?));
    }
    Ok(all)
}

/// Gives every replica these weights.
pub(super) fn write(session: &mut Session, saved: &[Saved], weights: &Weights) -> Result<()> {
    for saved in saved {
        let values = weights.values(&saved.name, &saved.extents)?;
        session.write_each(saved.handle, values)?;
    }
    Ok(())
}

/// Each replica's weights, one after the other.
pub(super) fn write_each(
    session: &mut Session,
    saved: &[Saved],
    weights: &[Weights],
) -> Result<()> {
    for saved in saved {
        let mut all = Vec::new();
        for weights in weights {
            all.extend_from_slice(weights.values(&saved.name, &saved.extents)?);
        }
        session.write(saved.handle, &all)?;
    }
    Ok(())
}

pub(super) fn array(extents: &[usize], values: Vec<f32>) -> Result<ArrayD<f32>> {
    let found = values.len();
    ArrayD::from_shape_vec(IxDyn(extents), values)
        .map_err(|_| Error::shape("weights", format!("{found} values"), format!("{extents:?}")))
}

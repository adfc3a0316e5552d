//! Models as ONNX files (opset 17), with the feature `onnx`.
//!
//! [`export`] writes what a model computes when it evaluates, op by op, so whatever is written in ops is
//! exported, layers of other crates too. Weights keep their names, and so do inputs and outputs; the
//! mini-batch's extent stays open.
//!
//! [`import`] reads a file as a model of this crate's layers, which is trained, saved and described like any
//! other. What no layer is becomes [`Operators`], a layer that [`registry`] knows. A node, an attribute or a
//! type of elements that is not supported is refused by its name.
//!
//! ```
//! use wgrad::fit::Weights;
//! use wgrad::model::{Model, layers::*};
//! use wgrad::onnx;
//!
//! let model = Model::sequential([4]).then(Dense::new(3)).then(Softmax).build()?;
//! let weights = Weights::initial(&model, 1);
//! let bytes = onnx::to_bytes(&onnx::network(&model, &weights)?);
//! let (again, same) = onnx::model(&onnx::of_bytes(&bytes)?)?;
//! assert_eq!(same.get("dense.weight")?, weights.get("dense.weight")?);
//! assert_eq!(again.output("output")?, model.output("output")?);
//! # Ok::<(), wgrad::Error>(())
//! ```

mod export;
mod file;
mod import;
mod layer;
mod messages;
mod operators;
mod standard;
mod survey;

pub use layer::Operators;
pub use operators::READ;

use std::path::Path;

use crate::error::{Error, Result};
use crate::files::{read_limited, write_whole};
use crate::fit::Weights;
pub use crate::interchange::{Network, Port};
use crate::model::{Model, Registry};

/// A model with weights in ONNX's operators.
///
/// # Errors
/// [`Error::Setting`] naming the layer and the op that opset 17 does not have, [`Error::UnknownName`] or
/// [`Error::Shape`] for a weight.
pub fn network(model: &Model, weights: &Weights) -> Result<Network> {
    export::network(model, weights)
}

/// The bytes of an ONNX file.
pub fn to_bytes(network: &Network) -> Vec<u8> {
    file::to_bytes(network)
}

/// Writes a model with weights as an ONNX file, whole or not at all.
///
/// # Errors
/// As [`network`], and what the file system says.
pub fn export(model: &Model, weights: &Weights, path: impl AsRef<Path>) -> Result<()> {
    write_whole(path.as_ref(), &to_bytes(&network(model, weights)?))
}

/// Larger files than protobuf's messages may be are refused before they are read.
const MOST_BYTES: u64 = 1 << 31;

/// This crate's layers and [`Operators`]: what a description of an imported model needs to be read.
pub fn registry() -> Registry {
    Registry::standard().with::<Operators>()
}

/// The network in an ONNX file's bytes. Of its outputs, the extents stay unknown.
///
/// # Errors
/// [`Error::Setting`] for bytes that are no ONNX model of opset 13 to 17, for a value
/// that is read before it is made, for a tensor that has not the numbers that its extents say.
pub fn of_bytes(bytes: &[u8]) -> Result<Network> {
    file::of_bytes(bytes)
}

/// The model and the weights that a network is. Every first axis is the mini-batch's; weights are trained,
/// but for the statistics of batch normalizations. A weight keeps its name where it ends as the layer's own
/// does (`.weight`, `.bias`) or no layer is made of its node; a letter that names of inputs cannot have
/// becomes `_`. Integer inputs hold numbers from 0.
///
/// # Errors
/// [`Error::Setting`] or [`Error::Shape`] naming the node that is not supported.
pub fn model(network: &Network) -> Result<(Model, Weights)> {
    import::model(network, &registry())
}

/// Reads an ONNX file.
///
/// # Errors
/// [`Error::File`] saying what [`of_bytes`] or [`model`] do, and what the file system says.
pub fn import(path: impl AsRef<Path>) -> Result<(Model, Weights)> {
    let path = path.as_ref();
    let bytes = read_limited(path, MOST_BYTES)?;
    let read = of_bytes(&bytes).and_then(|network| model(&network));
    read.map_err(|e| match e {
        Error::Setting {
            name,
            found,
            wanted,
        } => named(path, (name, found), wanted),
        Error::Shape {
            place,
            found,
            wanted,
        } => named(path, (place, found), wanted),
        other => other,
    })
}

/// The error of a place in a file.
fn named(path: &Path, (place, found): (String, String), wanted: String) -> Error {
    let fix = "Change the model where it is exported, or what it is exported to.";
    Error::file(path, format!("{place}: {found}"), wanted, fix)
}

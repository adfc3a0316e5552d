//! wgrad: gradients on every GPU.
#![deny(missing_docs)]
#![deny(unsafe_code)]

pub mod compile;
pub mod data;
pub mod error;
pub mod exec;
pub mod files;
pub mod graph;
pub mod kernel;
pub mod model_file;
// pub mod nn;
pub mod ops;
pub mod plan;
pub mod report;
pub mod rng;
pub mod shape;
pub mod tensor;
// pub mod train;

pub use error::{Error, Result};

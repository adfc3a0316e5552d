//! wgrad: gradients on every GPU.
#![deny(missing_docs)]
#![deny(unsafe_code)]

pub mod error;
pub mod kernel;
pub mod ops;
pub mod rng;
pub mod shape;
pub mod tensor;

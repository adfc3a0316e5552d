//! wgrad: gradients on every GPU.
//!
//! A [`model`] of layers is written as a graph of ops ([`graph`], [`ops`]), differentiated, compiled
//! once ([`compile`]) into a flat list of kernel launches ([`plan`]), and run thousands of times by an
//! executor ([`exec`]), on a GPU through wgpu or on the CPU. [`fit`] does all of that for any data set
//! of named columns ([`data`]).
//!
//! ```
//! use wgrad::prelude::*;
//!
//! // Two numbers, and whether they have the same sign.
//! let x: Vec<f32> = (0..400).map(|i| ((i * 7919 % 401) as f32 - 200.0) / 200.0).collect();
//! let same: Vec<u32> = x.chunks(2).map(|x| u32::from(x[0] * x[1] > 0.0)).collect();
//! let data = Dataset::new().with("input", [2], x)?.with("target", [], same)?;
//! let parts = data.split(&[0.8, 0.2], 1)?;
//!
//! let model = Model::sequential([2]).then(Dense::new(24)).then(Gelu).then(Dense::new(2)).build()?;
//! let outcome = Fit::new(&model, Loss::cross_entropy(), Optimizer::new(AdamW::default(), 0.02))
//!     .batch(16).epochs(60).metric(Metric::accuracy()).test(&parts[1])
//!     .run(&parts[0], &Device::open(Choice::Auto)?)?;
//! assert!(outcome.report.test("accuracy").unwrap_or(0.0) > 0.85);
//! # Ok::<(), wgrad::Error>(())
//! ```
//!
//! # In a project
//! ```toml
//! [dependencies]
//! wgrad = { path = "../wgrad", default-features = false, features = ["gpu", "threads"] }
//!
//! # `cargo run` without `--release` is 10 to 50 times as fast with these: kernels of the CPU are Rust.
//! [profile.dev]
//! opt-level = 1
//! [profile.dev.package."*"]
//! opt-level = 1
//! ```
//!
//! It is not on crates.io. Rust 1.89 or later. Features, all on by default: `gpu`, the wgpu
//! executor, without which only the CPU executor is built; `threads`, several of them for the CPU
//! executor and for compiling pipelines; `toml`, experiments in files ([`fit::Experiment`]); `onnx`, models as ONNX
//! files; `plots`, curves and pages of finished runs; `book`, the book's networks, sessions and experiments; `cli`, the command `wgrad`, which
//! a library does without. With `gpu` and `threads` it stands on some 130 crates, half of which are wgpu's.
//!
//! With `gpu` alone it compiles for `wasm32-unknown-unknown`. A page in a browser may not stop and
//! wait: there a [`run::Session`] is opened, run and read by its functions on `_async`, and what
//! would stop is an error. Files and clocks do not exist there either: what reads or writes files
//! says so, and what tells seconds says 0.
//!
//! # Where to begin
//! - *Pictures to classes*: [`data::ImageFolder`] (whose columns are `image` and `label`: a model has an input `image`, loss
//!   and metric are `.against("label")`), or [`data::Dataset`] with [`data::Numbers::bytes`]; a
//!   [`model::Model`] of convolutions, [`fit::Loss::cross_entropy`], [`fit::Fit`].
//! - *Rows of a table*: [`data::Table`] and [`data::Schema`], which standardises; or a file for the command,
//!   [`fit::Experiment`].
//! - *Sequences*: [`data::Dataset::windows`], [`model::layers::Embedding`],
//!   [`model::layers::TransformerBlock`]; [`fit::Sample`] goes on with a text.
//! - *A trained model that is used again*: [`fit::Trained`] keeps model, weights and how the data were read in one file and
//!   answers rows of other tables and pictures; [`fit::Weights::save`] keeps model and weights, for [`fit::Inference`].
//! - *Data larger than the device*: [`data::Shards`] of a [`data::DataSource`], in place of a data set; in a loop of your
//!   own, [`fit::TrainStepBuilder::compile_over_shards`].
//! - *A loop of your own*: [`fit::TrainStep`], fed or over resident data; [`fit::Inference`]. Several models that train
//!   each other: [`fit::JointStep`]. Gradients with respect to inputs: [`fit::InputGradient`]. Hyperparameters side by
//!   side: [`fit::Fit::sweep`].
//! - *A layer, a loss, a metric of your own*: [`model::Layer`], [`fit::Loss::each`],
//!   [`fit::Metric::each`]; from PyTorch, `docs/from-pytorch.md`.
//! - [`book::train::Trainer`] and [`book::nn::Network`]: the networks of the book, with its checkpoints and reports.
//! - [`graph::Graph`] with the ops of [`ops`]: the floor below, where everything is wired by hand.
//! - [`expr::Expr`] and [`ops::pointwise`]: whatever computes element by element, of your own.
//! - [`doctor::examine`] and [`doctor::gradients`]: an op of your own with a WGSL kernel, and the proof
//!   that it computes what its reference does and that its gradient is one. The page
//!   `docs/extending.md` goes through all of it.
//!
//! # What is promised
//! - On one device and driver the same seed gives the same weights, bit for bit; a run that
//!   was killed and resumed equals one that was not; a replica equals the network trained
//!   alone.
//! - Random numbers (masks, permutations) are the same bits on every device. Sums and
//!   functions are not: WGSL leaves their rounding open. [`doctor::tolerance`] states how
//!   far results may lie apart and why.
//! - Library code returns [`Error`]s and does not panic on user input, and prints nothing.
//!
//! # What it does not do
//! - Shapes are fixed when a plan is compiled; no graph is recorded while a program runs.
//! - Numbers are f32; f16 stands only in factors of products ([`exec::Device::open_mixed`]).
//! - One device for a run.
//! - Models are safetensors ([`fit::Weights`]); PyTorch's are read by name. [`onnx`] writes and
//!   reads ONNX files of opset 17 as far as that has the ops, for f32 alone.
#![deny(missing_docs)]
#![deny(unsafe_code)]

#[cfg(feature = "book")]
pub mod book;
mod checkpoints;
mod clock;
pub mod compile;
pub mod data;
pub mod doctor;
pub mod error;
pub mod exec;
pub mod expr;
pub mod files;
pub mod fit;
mod functions;
pub mod graph;
pub mod interchange;
mod json;
pub mod kernel;
mod markup;
pub mod model;
pub mod model_file;
#[cfg(feature = "onnx")]
pub mod onnx;
pub mod ops;
pub mod optim;
pub mod plan;
#[cfg(feature = "plots")]
pub mod report;
pub mod rng;
pub mod run;
pub mod shape;
pub mod tensor;
mod threads;

pub use error::{Error, Result};

/// What most programs begin with: `use wgrad::prelude::*`.
pub mod prelude {
    pub use crate::data::{
        ArrayFiles, Arrays, DataSource, Dataset, ImageFolder, Numbers, Schema, Shards, Table,
    };
    pub use crate::error::{Error, Result};
    pub use crate::exec::{Choice, Device};
    pub use crate::expr::Expr;
    pub use crate::fit::{
        Callback, Control, CrossEntropy, EarlyStop, Epoch, EverySteps, Fit, Inference,
        InputGradient, JointStep, Loss, Metric, Plateau, Progress, StepsDone, TrainStep, Weights,
    };
    pub use crate::model::layers::*;
    pub use crate::model::{Initializer, Input, Layer, Model, Registry, Scope, Wire};
    pub use crate::ops::distort::Distortion;
    pub use crate::optim::{
        Adadelta, Adagrad, Adam, AdamW, Adamax, Group, Lamb, Lion, LossScale, NAdam, Optimizer,
        RmsProp, Schedule, Sgd,
    };
}

/// The code of the README, run as tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

//! wgrad: gradients on every GPU.
//!
//! A network is described once ([`nn`]) as a graph of ops ([`graph`], [`ops`]), compiled
//! once ([`compile`]) into a flat list of kernel launches ([`plan`]), and run thousands
//! of times by an executor ([`exec`]), on a GPU through wgpu or on the CPU. [`train`] does
//! all of that for a data set ([`data`]).
//!
//! ```
//! use wgrad::data::Source;
//! use wgrad::exec::{Choice, Device};
//! use wgrad::nn::{Init, Network};
//! use wgrad::train::{Settings, Trainer};
//!
//! let network = Network::new([1, 28, 28])
//!     .conv2d(2, 5).max_pool2d(4).relu()
//!     .flatten()
//!     .dense(10).softmax()
//!     .init(Init::He);
//! let data = Source::resolve(Some("synthetic"))?.load()?.training_first(100)?;
//! let settings = Settings { epochs: 1, learning_rates: vec![0.05], ..Settings::default() };
//! let device = Device::open(Choice::Cpu)?;
//! let mut trainer = Trainer::new(&network, &data, &settings, &device)?;
//! let outcome = trainer.run(&mut |_| {})?;
//! assert!(outcome.test.accuracy[0] > 0.0);
//! # Ok::<(), wgrad::Error>(())
//! ```
//!
//! # In a project
//! ```toml
//! [dependencies]
//! wgrad = { path = "../wgrad", default-features = false, features = ["gpu", "threads"] }
//! ```
//!
//! It is not on crates.io. Rust 1.89 or later. Features, all on by default: `gpu`, the wgpu
//! executor, without which only the CPU executor is built; `threads`, several of them for the CPU
//! executor and for compiling pipelines; `cli`, the command `wgrad`, which a library does without.
//!
//! With `gpu` alone it compiles for `wasm32-unknown-unknown`. A page in a browser may not stop and
//! wait: there a [`run::Session`] is opened, run and read by its functions on `_async`, and what
//! would stop is an error. Files and clocks do not exist there either: what reads or writes files
//! says so, and what tells seconds says 0.
//!
//! # Where to begin
//! - [`train::Trainer`]: a network, data, settings, weights. [`train::Config`] reads the first and
//!   the last from a TOML file.
//! - [`graph::Graph`] with the ops of [`ops`], where a chain of layers is not enough.
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
//! - A [`nn::Network`] is a chain of the layers of [`nn::Layer`]: no normalisation, residual wires,
//!   recurrence or attention. A [`graph::Graph`] takes any wiring of the ops in [`ops`].
//! - [`data::Images`] are grey bytes with one class each, all of them on the device.
//! - The optimiser is SGD with momentum, L2 and L1, at learning rates per epoch.
//! - Numbers are f32; f16 stands only in factors of forward products
//!   ([`exec::Device::open_mixed`]).
//! - One device for a run.
//! - Models are safetensors of its own ([`model_file`]); no other framework's are read.
#![deny(missing_docs)]
#![deny(unsafe_code)]

pub mod book;
mod clock;
pub mod compile;
pub mod data;
pub mod doctor;
pub mod error;
pub mod exec;
pub mod expr;
pub mod files;
pub mod fit;
pub mod graph;
mod json;
pub mod kernel;
pub mod model;
pub mod model_file;
pub mod nn;
pub mod ops;
pub mod optim;
pub mod plan;
pub mod report;
pub mod rng;
pub mod run;
pub mod shape;
pub mod tensor;
mod threads;
pub mod train;

pub use error::{Error, Result};

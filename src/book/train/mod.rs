//! Sessions of the book: settings, the loop, evaluation, models on disk. Prints nothing.
//!
//! ```
//! use wgrad::data::Source;
//! use wgrad::exec::{Choice, Device};
//! use wgrad::book::nn::recipe;
//! use wgrad::book::train::{Settings, Trainer};
//!
//! let data = Source::resolve(Some("synthetic"))?.load()?.training_first(200)?;
//! let recipe = recipe("mlp-30", [1, 28, 28], 10)?;
//! let settings = Settings { epochs: 2, ..Settings::from(&recipe) };
//! let device = Device::open(Choice::Cpu)?;
//! let mut trainer = Trainer::new(&recipe.network, &data, &settings, &device)?;
//! let outcome = trainer.run(&mut |_| {})?;
//! assert_eq!(outcome.epochs.len(), 2);
//! # Ok::<(), wgrad::Error>(())
//! ```

mod config;
mod front;
mod identity;
mod model;
mod outcome;
mod probe;
mod schedule;
mod settings;
mod trainer;

pub use config::Config;
pub use identity::Origin;
pub use model::{Model, Predictor};
pub use outcome::{Epoch, Evaluation, Event, Outcome, plurality};
pub use probe::{Activations, Probe};
pub use schedule::{MOST_HALVINGS, Standing};
pub use settings::{Decay, Settings};
pub use trainer::Trainer;

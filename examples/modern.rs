//! The modern recipe: five convolutional networks with dropout, every image distorted
//! anew in every step, momentum, a decaying learning rate and averaged weights.
//!
//!     cargo run --release --example modern

use wgrad::book::nn::recipe;
use wgrad::book::train::{Event, Settings, Trainer};
use wgrad::data::Source;
use wgrad::exec::{Choice, Device};
use wgrad::ops::distort::Distortion;

/// Epochs; the weights of the last quarter are averaged.
const EPOCHS: usize = 40;
/// Learning rate of the first epoch and of the last.
const RATES: [f64; 2] = [0.01, 0.0003];

fn main() -> wgrad::Result<()> {
    let data = Source::resolve(None)?.load()?;
    let recipe = recipe("conv-dropout", [1, 28, 28], 10)?;
    // Geometric: the same factor from each epoch to the next.
    let last = (EPOCHS - 1).max(1) as f64;
    let rate = |epoch: usize| RATES[0] * (RATES[1] / RATES[0]).powf(epoch as f64 / last);
    let settings = Settings {
        epochs: EPOCHS,
        replicas: 5,
        momentum: 0.9,
        learning_rates: (0..EPOCHS).map(rate).collect(),
        distortion: Distortion {
            alpha: Distortion::elastic().alpha,
            ..Distortion::affine()
        },
        average_from: Some(1 + EPOCHS * 3 / 4),
        ..Settings::from(&recipe)
    };
    let device = Device::open(Choice::Auto)?;
    let mut trainer = Trainer::new(&recipe.network, &data, &settings, &device)?;
    let outcome = trainer.run(&mut |event| {
        if let Event::Epoch(e) = event {
            println!("epoch {}: {:.4?}", e.epoch, e.test_accuracy);
        }
    })?;
    let vote = outcome.test.ensemble_accuracy(&data.test.labels);
    println!("together: {:.2} % on {}", 100.0 * vote, data.test.name);
    Ok(())
}

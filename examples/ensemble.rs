//! Five networks trained as one plan, and their vote (the book's chapter 6).
//!
//!     cargo run --release --example ensemble

use wgrad::data::Source;
use wgrad::exec::{Choice, Device};
use wgrad::nn::recipe;
use wgrad::train::{Settings, Trainer};

fn main() -> wgrad::Result<()> {
    let data = Source::resolve(None)?.load()?;
    let recipe = recipe("mlp-30", [1, 28, 28], 10)?;
    let settings = Settings {
        epochs: 10,
        replicas: 5,
        ..Settings::from(&recipe)
    };
    let device = Device::open(Choice::Auto)?;
    let mut trainer = Trainer::new(&recipe.network, &data, &settings, &device)?;
    let outcome = trainer.run(&mut |_| {})?;
    for (k, accuracy) in outcome.test.accuracy.iter().enumerate() {
        println!("network {k}: {:.2} %", 100.0 * accuracy);
    }
    let vote = outcome.test.ensemble_accuracy(&data.test.labels);
    println!("together:  {:.2} % on {}", 100.0 * vote, data.test.name);
    Ok(())
}

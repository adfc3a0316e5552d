//! Describe a network, train it, keep it, ask it.
//!
//!     cargo run --release --example quickstart

use wgrad::book::nn::{Init, Network};
use wgrad::book::train::{Event, Model, Predictor, Settings, Trainer};
use wgrad::data::Source;
use wgrad::exec::{Choice, Device};

fn main() -> wgrad::Result<()> {
    // MNIST where MNIST_DIR names a folder with its four files, else synthetic digits.
    let data = Source::resolve(None)?.load()?;

    let network = Network::new([1, 28, 28])
        .conv2d(8, 5)
        .max_pool2d(2)
        .relu()
        .flatten()
        .dense(32)
        .relu()
        .dense(10)
        .softmax()
        .init(Init::He);

    let settings = Settings {
        epochs: 3,
        learning_rates: vec![0.03],
        ..Settings::default()
    };
    let device = Device::open(Choice::Auto)?;
    let mut trainer = Trainer::new(&network, &data, &settings, &device)?;
    trainer.run(&mut |event| {
        if let Event::Epoch(e) = event {
            println!("epoch {}: cost {:.4}", e.epoch, e.training_cost[0]);
        }
    })?;

    let file = std::env::temp_dir().join("quickstart.safetensors");
    trainer.model()?.save(&file)?;

    let model = Model::load(&file)?;
    let mut predictor = Predictor::new(&model, &data.test, &device)?;
    let answers = predictor.evaluate()?;
    println!(
        "{}: {:.2} % right",
        data.test.name,
        100.0 * answers.accuracy[0]
    );
    println!(
        "the first digit: {} (label {})",
        answers.predictions[0][0], data.test.labels[0]
    );
    Ok(())
}

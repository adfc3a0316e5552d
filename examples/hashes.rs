//! What a redesign is held to: the weights' SHA-256 of `wgrad bench`'s workloads after some
//! steps. `cargo run --example hashes -- [DEVICE] [STEPS] [WORKLOADS]`, before and after, on
//! one machine; WORKLOADS are letters, such as `AD`.

use wgrad::book::nn::recipe;
use wgrad::book::train::{Settings, Trainer};
use wgrad::data::Source;
use wgrad::exec::Device;

fn main() -> wgrad::Result<()> {
    let mut words = std::env::args().skip(1);
    let device = words.next().unwrap_or_else(|| "cpu".into());
    let steps = match words.next() {
        None => None,
        Some(word) => match word.parse() {
            Ok(steps) => Some(steps),
            Err(_) => return Err(wgrad::Error::setting("steps", word, "a whole number")),
        },
    };
    let only = words.next();
    let device = Device::open(device.parse()?)?;
    println!("{}", device.info().name);
    let data = Source::resolve(Some("synthetic"))?.load()?;
    let workloads = [
        ("A", "conv-dropout", 10),
        ("B", "conv-relu", 10),
        ("C", "conv-dropout", 128),
        ("D", "mlp-30", 10),
    ];
    for (workload, network, batch) in workloads {
        if only.as_ref().is_some_and(|only| !only.contains(workload)) {
            continue;
        }
        let recipe = recipe(network, [1, data.train.height, data.train.width], 10)?;
        let settings = Settings {
            batch,
            ..Settings::from(&recipe)
        };
        let mut trainer = Trainer::new(&recipe.network, &data, &settings, &device)?;
        trainer.prepare()?;
        trainer.steps(steps.unwrap_or(100))?;
        println!("{workload} {}", trainer.model()?.sha256()[0]);
    }
    Ok(())
}

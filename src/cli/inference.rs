//! `wgrad bench --inference`: how long a model takes to answer.

use std::path::Path;

use wgrad::Result;
use wgrad::book::nn::Network;
use wgrad::exec::Device;
use wgrad::fit::{Inference, Weights};
use wgrad::model::Registry;
use wgrad::shape::DType;
use wgrad::tensor::Host;

use super::print;
use super::rounds::measure;

/// Examples at a time.
const BATCHES: [usize; 4] = [1, 8, 32, 128];

/// Prints microseconds from inputs in memory to outputs in memory, of zeros: what a model computes
/// takes as long for any numbers.
pub fn run(device: &Device, seconds: f64, path: &Path) -> Result<()> {
    // Networks of an ensemble take as long as each other.
    let (model, networks) = Weights::load_networks(path, &Network::known_to(Registry::standard()))?;
    let Some(weights) = networks.first() else {
        return Ok(());
    };
    print(&format!(
        "{} on {}\n\n{:>8} {:>12} {:>25} {:>12}\n",
        path.display(),
        device.info().name,
        "examples",
        "µs",
        "(fastest to slowest)",
        "examples/s"
    ))?;
    for batch in BATCHES {
        let net = Inference::new(&model, weights, batch, device)?;
        let zeros = model.inputs().map(|(name, input)| {
            let elements = batch * input.extents.iter().product::<usize>();
            let host = match input.dtype {
                DType::F32 => Host::F32(vec![0.0; elements]),
                DType::U32 => Host::U32(vec![0; elements]),
            };
            (name, host)
        });
        let zeros: Vec<(&str, Host)> = zeros.collect();
        let inputs: Vec<_> = zeros
            .iter()
            .map(|(name, host)| (*name, host.view()))
            .collect();
        let share = seconds / BATCHES.len() as f64;
        let rounds = measure(share, 1, |times| {
            (0..times).try_for_each(|_| net.run(&inputs).map(drop))
        })?;
        let spread = format!("({:.0} to {:.0})", rounds.fastest, rounds.slowest);
        let median = rounds.median;
        let rate = batch as f64 * 1e6 / median;
        print(&format!(
            "{batch:>8} {median:>12.1} {spread:>25} {rate:>12.0}\n"
        ))?;
    }
    Ok(())
}

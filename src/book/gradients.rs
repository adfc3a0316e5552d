//! Chapter 2: the numerical gradient of equation 46 beside backpropagation, and a
//! mini-batch as one matrix beside example by example.

use ndarray::ArrayD;

use super::options::Options;
use super::{Experiment, Run, rows};
use crate::book::train::{Model, Probe, Trainer};
use crate::clock::Stopwatch;
use crate::error::{Error, Result};
use crate::report::record::{Record, Row};

/// Examples of the mini-batch.
const BATCH: usize = 10;
/// ε of equation 46. Costs come in f32, so the quotient is wrong by about 1e-8/ε, and by
/// ε/2 times the cost's curvature: this is near the least of their sum.
const EPSILON: f32 = 1.0 / 512.0;
/// Parameters that are nudged in a run that tries things out.
const FEW: usize = 300;
/// Passes of backpropagation that are timed together.
const PASSES: usize = 50;
/// Steps that are timed together.
const STEPS: u64 = 300;

fn only(experiment: &Experiment) -> Result<&Run> {
    let wanted = "one network described";
    (experiment.runs.first()).ok_or_else(|| Error::setting(&experiment.id, "no runs", wanted))
}

pub(super) fn check(
    experiment: &Experiment,
    options: &Options<'_>,
    record: &mut Record,
) -> Result<()> {
    let run = only(experiment)?;
    let data = options.data(None)?;
    rows::describe(record, &data);
    let images = data.train.first(BATCH.min(data.train.len()))?;
    let network = run.network([1, images.height, images.width])?;
    record.epochs = None;
    let mut probe = Probe::new(&network, &images, 1, options.device)?;
    let (mut apart, mut speed, mut passes_made) = (vec![], vec![], 0);
    let (mut numerical_seconds, mut backward_seconds) = (vec![], vec![]);
    for seed in record.seeds.clone() {
        let settings = crate::book::train::Settings {
            first_replica: seed as usize,
            batch: run.batch.min(data.train.len()),
            ..run.settings(1)
        };
        let start = Trainer::new(&network, &data, &settings, options.device)?.model()?;
        probe.set_weights(&start)?;
        let backward = probe.gradients()?.remove(0);
        let timer = Stopwatch::start();
        for _ in 0..PASSES {
            // The numerical gradient uploads what it nudges and reads costs back, so this
            // uploads the weights and reads the gradients back.
            probe.set_weights(&start)?;
            probe.gradients()?;
        }
        let one = timer.seconds() / PASSES as f64;
        let timer = Stopwatch::start();
        let most = if options.images.is_some() {
            FEW
        } else {
            usize::MAX
        };
        let numerical = nudge(&mut probe, &start, most)?;
        let seconds = timer.seconds();
        passes_made = numerical.len() + 1;
        let pairs = numerical.iter().map(|&(k, i, slope)| {
            let exact = backward[k].1.iter().nth(i).copied().unwrap_or_default();
            (slope, f64::from(exact))
        });
        let (mut off, mut length) = (0.0, 0.0);
        for (a, b) in pairs {
            off += (a - b).powi(2);
            length += b.powi(2);
        }
        apart.push((off / length).sqrt());
        numerical_seconds.push(1e3 * seconds);
        backward_seconds.push(1e3 * one);
        speed.push(seconds / one);
    }
    let row = |what: &str, unit: &str, ours: Vec<f64>| Row {
        what: what.into(),
        unit: unit.into(),
        ours,
        ..Row::default()
    };
    record.rows = vec![
        row(
            "forward passes of the numerical gradient",
            "",
            vec![passes_made as f64],
        ),
        row("time of the numerical gradient", "ms", numerical_seconds),
        row(
            "time of a forward and a backward pass",
            "ms",
            backward_seconds,
        ),
        row("backpropagation is faster by the factor", "", speed),
        row(
            "distance of the two gradients over the length of one",
            "",
            apart,
        ),
    ];
    record.notes.push(format!(
        "One mini-batch of {} images; ε = {EPSILON}. Backpropagation needs one forward and one \
         backward pass for all {} parameters, equation 46 a forward pass for each and one more. \
         Both times include uploads and readbacks: of all weights and the whole gradient once, \
         of one tensor and the costs for each parameter.",
        images.len(),
        network
            .parameters()?
            .iter()
            .map(|p| p.ty.elements())
            .sum::<usize>()
    ));
    Ok(())
}

/// Equation 46, (C(w + ε eⱼ) − C(w)) / ε, for at most `most` parameters spread evenly over
/// all: parameter tensor, index and slope.
fn nudge(probe: &mut Probe, start: &Model, most: usize) -> Result<Vec<(usize, usize, f64)>> {
    let weights = &start.replicas[0];
    let total: usize = weights.iter().map(|(_, t)| t.len()).sum();
    let stride = total.div_ceil(most);
    let before = probe.costs()?[0];
    let (mut slopes, mut number) = (Vec::new(), 0usize);
    for (k, (name, tensor)) in weights.iter().enumerate() {
        let mut values = flat(tensor);
        for i in 0..values.len() {
            number += 1;
            if !(number - 1).is_multiple_of(stride) {
                continue;
            }
            let kept = values[i];
            values[i] = kept + EPSILON;
            // What f32 made of w + ε is what was tried.
            let epsilon = f64::from(values[i]) - f64::from(kept);
            probe.set_parameter(name, &values)?;
            slopes.push((k, i, (probe.costs()?[0] - before) / epsilon));
            values[i] = kept;
        }
        probe.set_parameter(name, &values)?;
    }
    Ok(slopes)
}

fn flat(tensor: &ArrayD<f32>) -> Vec<f32> {
    tensor.iter().copied().collect()
}

pub(super) fn matrix(
    experiment: &Experiment,
    options: &Options<'_>,
    record: &mut Record,
) -> Result<()> {
    let run = only(experiment)?;
    let data = options.data(None)?;
    rows::describe(record, &data);
    let network = run.network([1, data.train.height, data.train.width])?;
    let seconds = |batch: usize, steps: u64| -> Result<f64> {
        let settings = crate::book::train::Settings {
            batch: batch.min(data.train.len()),
            // Timed is the arithmetic, and ten updates of a tenth are one.
            learning_rates: vec![run.eta * batch as f64 / BATCH as f64],
            ..run.settings(1)
        };
        let mut trainer = Trainer::new(&network, &data, &settings, options.device)?;
        trainer.prepare()?;
        trainer.steps(steps.div_ceil(10))?;
        let timer = Stopwatch::start();
        trainer.steps(steps)?;
        Ok(timer.seconds() / steps as f64)
    };
    let (mut together, mut alone) = (vec![], vec![]);
    let steps = if options.images.is_some() { 10 } else { STEPS };
    for _ in &record.seeds {
        together.push(1e6 * seconds(BATCH, steps)?);
        alone.push(1e6 * BATCH as f64 * seconds(1, BATCH as u64 * steps)?);
    }
    let ratio = alone.iter().zip(&together).map(|(a, t)| a / t).collect();
    let row = |what: &str, unit: &str, ours: Vec<f64>| Row {
        what: what.into(),
        unit: unit.into(),
        ours,
        ..Row::default()
    };
    record.rows = vec![
        row("ten examples as one matrix", "µs", together),
        row("ten examples one after another", "µs", alone),
        row("one matrix is faster by the factor", "", ratio),
    ];
    Ok(())
}

//! Chapter 3's single neuron: input 1, wanted output 0, weight and bias given.

use ndarray::{ArrayD, IxDyn};

use super::options::Options;
use super::{Experiment, Neuron};
use crate::book::nn::{Cost, Network};
use crate::book::train::{Model, Predictor, Settings, Trainer};
use crate::data::{Images, Split};
use crate::error::{Error, Result};
use crate::report::record::{Plot, Record, Row, Series};

/// How far the book's outputs may lie from ours: they are printed with two digits.
const SLACK: f64 = 0.006;
/// Share of the cost that counts as "has begun to learn".
const BEGUN: f64 = 0.1;
/// The book's "150 or so" epochs.
const SLOW_SLACK: f64 = 25.0;

pub(super) fn run(
    experiment: &Experiment,
    options: &Options<'_>,
    record: &mut Record,
) -> Result<()> {
    let wanted = "a single neuron described";
    let neuron = (experiment.neuron.as_ref())
        .ok_or_else(|| Error::setting(&experiment.id, "no neuron", wanted))?;
    let epochs = options.epochs.or(experiment.epochs).unwrap_or(1);
    record.setting = format!(
        "one sigmoid neuron, input 1, target 0, w = {}, b = {}; {:?} cost, η {}",
        neuron.w, neuron.b, neuron.cost, neuron.eta
    );
    // Nothing is random, so one seed says all.
    record.seeds.clear();
    record.epochs = Some(epochs);
    let (costs, outputs) = learn(neuron, epochs, options)?;
    let row = |what: &str, book, ours: f64, slack| Row {
        what: what.into(),
        book,
        ours: vec![ours],
        slack,
        ..Row::default()
    };
    let [first, last] = outputs;
    let begun = costs.iter().position(|c| *c < (1.0 - BEGUN) * costs[0]);
    record.rows = vec![
        row(
            "output at the start",
            Some(neuron.output_first),
            first,
            SLACK,
        ),
        row("output at the end", neuron.output_last, last, SLACK),
    ];
    if let Some(begun) = begun {
        let what = "epochs until a tenth of the cost is gone";
        record
            .rows
            .push(row(what, neuron.slow_start, begun as f64, SLOW_SLACK));
    }
    record.plots = vec![Plot {
        title: "Cost".into(),
        x_label: "epoch".into(),
        y_label: "cost".into(),
        series: vec![Series {
            name: "cost".into(),
            book: false,
            points: (0..).map(f64::from).zip(costs).collect(),
        }],
        ..Plot::default()
    }];
    Ok(())
}

/// The cost before each epoch and after the last; the output before and after all.
fn learn(neuron: &Neuron, epochs: usize, options: &Options<'_>) -> Result<(Vec<f64>, [f64; 2])> {
    // A pixel of full ink is the number 1.
    let image = Images::new("the input 1", 1, 1, 1, vec![255], vec![0])?;
    let data = Split {
        train: image.clone(),
        validation: image.clone(),
        test: image.clone(),
        synthetic: false,
    };
    let network = Network::new([1, 1, 1])
        .flatten()
        .dense(1)
        .sigmoid()
        .cost(neuron.cost);
    let settings = Settings {
        epochs,
        batch: 1,
        learning_rates: vec![neuron.eta],
        ..Settings::default()
    };
    let start = chain(&network, &[(neuron.w, neuron.b)])?;
    let output = |model: &Model| -> Result<f64> {
        let outputs = Predictor::new(model, &image, options.device)?.outputs()?;
        Ok(f64::from(outputs[0][0][0]))
    };
    let mut trainer = Trainer::new(&network, &data, &settings, options.device)?;
    trainer.set_weights(&start)?;
    let outcome = trainer.run(&mut |_| {})?;
    let before = outcome.epochs.iter().map(|e| e.training_cost[0]);
    let costs = before.chain(outcome.test.cost).collect();
    Ok((costs, [output(&start)?, output(&trainer.model()?)?]))
}

/// A chain of single neurons with these weights and biases.
pub(super) fn chain(network: &Network, values: &[(f32, f32)]) -> Result<Model> {
    let flat = values.iter().flat_map(|&(w, b)| [w, b]);
    let weights = network.parameters()?.into_iter().zip(flat).map(|(p, v)| {
        let array = ArrayD::from_elem(IxDyn(p.ty.shape.extents()), v);
        (p.name, array)
    });
    Ok(Model {
        network: network.clone(),
        replicas: vec![weights.collect()],
    })
}

/// Four sigmoid neurons in a row under the quadratic cost.
pub(super) fn four() -> Network {
    let mut network = Network::new([1, 1, 1]).flatten();
    for _ in 0..4 {
        network = network.dense(1).sigmoid();
    }
    network.cost(Cost::Quadratic)
}

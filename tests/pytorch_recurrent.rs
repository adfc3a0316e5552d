//! Recurrences and recurrent networks against PyTorch's, from the fixtures that
//! `tests/fixtures/pytorch_recurrent.py` writes.

mod common;

use std::collections::BTreeMap;
use std::sync::Arc;

use common::fixtures::{Tensor, close, hold_graph, inputs_of, load};
use common::gpu;
use ndarray::ArrayD;
use wgrad::exec::{Choice, Device};
use wgrad::fit::{Loss, TrainStep, Weights};
use wgrad::model::{Model, layers::*};
use wgrad::ops::Tape;
use wgrad::ops::recurrent::{Cell, Recurrent};
use wgrad::optim::{Optimizer, Sgd};
use wgrad::tensor::Host;

#[test]
fn recurrences_equal_pytorch() {
    let fixtures = load("recurrent");
    for (name, cell) in [
        ("lstm", Cell::Lstm),
        ("gru", Cell::Gru),
        ("tanh", Cell::Plain { relu: false }),
        ("relu", Cell::Plain { relu: true }),
    ] {
        for (direction, reverse) in [("forward", false), ("reverse", true)] {
            let name = format!("recurrent.{name}.{direction}");
            let op = Arc::new(Recurrent { cell, reverse });
            let compared = hold_graph(
                &fixtures,
                &name,
                &inputs_of(&fixtures, &name),
                |graph, x| graph.op(op, x).unwrap()[..1].to_vec(),
            );
            // h and three gradients on the reference, the CPU and perhaps a GPU.
            assert!(compared >= 8, "{name}: {compared}");
        }
    }
}

/// A network's weights before or after its steps.
fn weights(fixtures: &BTreeMap<String, Tensor>, network: &str, when: &str) -> Weights {
    let prefix = format!("{network}/{when}.");
    let tensors = fixtures.iter().filter_map(|(key, tensor)| {
        let name = key.strip_prefix(&prefix)?.to_string();
        let values = ArrayD::from_shape_vec(tensor.shape.as_slice(), tensor.floats());
        Some((name, values.unwrap()))
    });
    Weights::from_tensors(tensors.collect())
}

#[test]
fn networks_are_pytorchs_after_three_steps() {
    let fixtures = load("recurrent");
    let over = |layer: &str| {
        let x = Model::sequential([6, 5]);
        let net = match layer {
            "lstm" => x.layer("net", Lstm::new(4).layers(2).bidirectional()),
            "gru" => x.layer("net", Gru::new(4).layers(2).bidirectional().last()),
            "rnn" => x.layer("net", Rnn::new(4).layers(2).last()),
            _ => x.layer("net", Rnn::new(4).bidirectional().relu().without_bias()),
        };
        net.then(Flatten)
            .layer("head", Dense::new(2))
            .build()
            .unwrap()
    };
    let devices = [Some(Device::open(Choice::Cpu).unwrap()), gpu()];
    let (loss, optimizer) = (Loss::mse(), Optimizer::new(Sgd::default(), 0.5));
    for device in devices.iter().flatten() {
        for layer in ["lstm", "gru", "rnn", "relu"] {
            let name = format!("network.{layer}");
            let model = over(layer);
            let step = TrainStep::builder(&model, &loss, &optimizer).batch(3);
            let mut step = step.compile(device).unwrap();
            step.set_weights(&weights(&fixtures, &name, "before"))
                .unwrap();
            for (column, part) in [("input", "x"), ("target", "target")] {
                step.feed(column, &fixtures[&format!("{name}/{part}")].floats())
                    .unwrap();
            }
            let losses = (0..3).map(|_| {
                step.run(1).unwrap();
                step.loss().unwrap()[0] as f32
            });
            let what = format!("{name} on {}", device.info().name);
            let losses = Host::F32(losses.collect());
            close(
                &format!("{what}: losses"),
                &losses,
                &fixtures[&format!("{name}/losses")],
            );
            let after = weights(&fixtures, &name, "after");
            let found = step.weights().unwrap().remove(0);
            assert_eq!(found.tensors().len(), after.tensors().len(), "{what}");
            for (weight, values) in found.tensors() {
                let wanted = &fixtures[&format!("{name}/after.{weight}")];
                let values = Host::F32(values.iter().copied().collect());
                close(&format!("{what}: {weight}"), &values, wanted);
            }
        }
    }
}

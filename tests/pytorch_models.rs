//! Whole models against PyTorch: from given weights and mini-batches, some training steps of every
//! layer, loss and optimizer that configurations know, then an evaluation.
//! `tests/fixtures/pytorch_models.py` makes the fixtures.

mod common;

use std::path::Path;

use common::gpu;
use ndarray::{ArrayD, IxDyn};
use safetensors::SafeTensors;
use safetensors::tensor::TensorView;
use serde::Deserialize;
use wgrad::data::Dataset;
use wgrad::exec::{Choice, Device};
use wgrad::fit::{Inference, Loss, LossSetting, OptimizerSetting, TrainStep, Weights};
use wgrad::model::{Model, Registry};

#[derive(Deserialize)]
struct Case {
    name: String,
    model: serde_json::Value,
    losses: Vec<LossSetting>,
    optimizer: OptimizerSetting,
    batch: usize,
    steps: usize,
}

struct Fixtures<'a>(SafeTensors<'a>);

impl Fixtures<'_> {
    fn floats(&self, name: &str) -> (Vec<usize>, Vec<f32>) {
        let view = self
            .0
            .tensor(name)
            .unwrap_or_else(|e| panic!("{name}: {e}"));
        (view.shape().to_vec(), floats(&view))
    }

    /// Tensors under `<prefix>/`, by the rest of their names.
    fn under(&self, prefix: &str) -> Vec<(String, ArrayD<f32>)> {
        let mut found = Vec::new();
        for (name, view) in self.0.tensors() {
            if let Some(rest) = name.strip_prefix(prefix).and_then(|r| r.strip_prefix('/')) {
                let array = ArrayD::from_shape_vec(IxDyn(view.shape()), floats(&view)).unwrap();
                found.push((rest.to_string(), array));
            }
        }
        found.sort_by(|a, b| a.0.cmp(&b.0));
        found
    }
}

fn words(view: &TensorView<'_>) -> Vec<u32> {
    let bytes = view.data().chunks_exact(4);
    bytes
        .map(|b| u32::from_le_bytes(b.try_into().unwrap()))
        .collect()
}

fn floats(view: &TensorView<'_>) -> Vec<f32> {
    words(view).into_iter().map(f32::from_bits).collect()
}

/// The largest difference, as a part of the largest value.
fn apart(found: &[f32], wanted: &[f32]) -> f64 {
    assert_eq!(found.len(), wanted.len());
    let pairs = found.iter().zip(wanted);
    let most = wanted
        .iter()
        .fold(0.0f64, |m, &x| m.max(f64::from(x.abs())));
    let gap = pairs.fold(0.0f64, |m, (&a, &b)| m.max(f64::from((a - b).abs())));
    assert!(found.iter().all(|x| x.is_finite()));
    gap / most.max(1e-3)
}

/// How far a model may be from PyTorch's, which computes in f64: 1e-5, attention and recurrence 1e-4.
fn allowed(case: &Case) -> f64 {
    let text = case.model.to_string();
    let long = ["attention", "transformer", "lstm", "gru", "rnn"];
    match long.iter().any(|kind| text.contains(kind)) {
        true => 1e-4,
        false => 1e-5,
    }
}

fn hold(case: &Case, fixtures: &Fixtures<'_>, device: &Device) -> f64 {
    let name = &case.name;
    let model = Model::from_json(&case.model.to_string(), &Registry::standard());
    let model = model.unwrap_or_else(|e| panic!("{name}: {e}"));
    let losses = case.losses.iter().map(|l| l.build().unwrap());
    let loss: Loss = losses.reduce(|a, b| a + b).unwrap();
    let optimizer = case.optimizer.build(case.steps, 1).unwrap();
    let step = TrainStep::builder(&model, &loss, &optimizer).batch(case.batch);
    let mut step = step
        .compile(device)
        .unwrap_or_else(|e| panic!("{name}: {e}"));
    let before = Weights::from_tensors(fixtures.under(&format!("{name}/before")));
    step.set_weights(&before)
        .unwrap_or_else(|e| panic!("{name}: {e}"));
    assert_eq!(
        before.tensors().len(),
        step.weights().unwrap()[0].tensors().len(),
        "{name}"
    );
    let (_, wanted) = fixtures.floats(&format!("{name}/losses"));
    let mut worst = 0.0f64;
    let columns: Vec<String> = {
        let prefix = format!("{name}/column/");
        let names = fixtures.0.names().into_iter();
        names
            .filter_map(|n| n.strip_prefix(&prefix).map(Into::into))
            .collect()
    };
    let mut first = Dataset::new();
    for (k, wanted) in wanted.iter().enumerate() {
        for column in &columns {
            let view = fixtures
                .0
                .tensor(&format!("{name}/column/{column}"))
                .unwrap();
            let size: usize = view.shape()[1..].iter().product();
            let part = k * size..(k + 1) * size;
            let extents = &view.shape()[2..];
            let fed = match view.dtype() {
                safetensors::Dtype::U32 => {
                    let values = words(&view)[part].to_vec();
                    first = if k == 0 {
                        first.with(column, extents, values.clone()).unwrap()
                    } else {
                        first
                    };
                    step.feed(column, &values)
                }
                _ => {
                    let values = floats(&view)[part].to_vec();
                    first = if k == 0 {
                        first.with(column, extents, values.clone()).unwrap()
                    } else {
                        first
                    };
                    step.feed(column, &values)
                }
            };
            fed.unwrap_or_else(|e| panic!("{name}: {e}"));
        }
        step.run(1).unwrap();
        let found = step.loss().unwrap()[0] as f32;
        let gap = apart(&[found], &[*wanted]);
        assert!(
            gap < allowed(case),
            "{name}, loss of step {k}: {found}, not {wanted}"
        );
        worst = worst.max(gap / allowed(case));
    }
    let after = step.weights().unwrap().remove(0);
    for (weight, wanted) in fixtures.under(&format!("{name}/after")) {
        let found = after.get(&weight).unwrap();
        let gap = apart(found.as_slice().unwrap(), wanted.as_slice().unwrap());
        assert!(gap < allowed(case), "{name}, {weight}: {gap:e} apart");
        worst = worst.max(gap / allowed(case));
    }
    let net = Inference::new(&model, &after, 4, device).unwrap();
    let outputs = net.run_on(&first).unwrap();
    for (output, wanted) in fixtures.under(&format!("{name}/evaluated")) {
        let gap = apart(
            outputs[&output].as_slice().unwrap(),
            wanted.as_slice().unwrap(),
        );
        assert!(
            gap < 2.0 * allowed(case),
            "{name}, output {output}: {gap:e} apart"
        );
    }
    worst
}

#[test]
fn models_train_as_pytorchs_do() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/models.safetensors");
    let bytes = std::fs::read(path).unwrap();
    let (_, metadata) = SafeTensors::read_metadata(&bytes).unwrap();
    let models = &metadata.metadata().as_ref().unwrap()["models"];
    let cases: Vec<Case> = serde_json::from_str(models).unwrap();
    let fixtures = Fixtures(SafeTensors::deserialize(&bytes).unwrap());
    assert!(cases.len() >= 70, "{} models", cases.len());
    let cpu = Device::open(Choice::Cpu).unwrap();
    for device in [Some(cpu), gpu()].into_iter().flatten() {
        let wanted = std::env::var("WGRAD_MODELS").unwrap_or_default();
        let mut worst = (0.0, "");
        let mut failed = Vec::new();
        for case in cases.iter().filter(|c| c.name.contains(&wanted)) {
            let held = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                hold(case, &fixtures, &device)
            }));
            match held {
                Ok(gap) if gap > worst.0 => worst = (gap, case.name.as_str()),
                Ok(_) => {}
                Err(_) => failed.push(case.name.as_str()),
            }
        }
        assert!(failed.is_empty(), "{}: {failed:?}", device.info().name);
        let (gap, name) = worst;
        println!(
            "{}: worst {gap:.3} of what is allowed, {name}",
            device.info().name
        );
    }
}

/// Every layer that files can name is in one of the models.
#[test]
fn every_kind_of_layer_is_held() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/models.safetensors");
    let bytes = std::fs::read(path).unwrap();
    let (_, metadata) = SafeTensors::read_metadata(&bytes).unwrap();
    let models = &metadata.metadata().as_ref().unwrap()["models"];
    for kind in Registry::standard().kinds() {
        // Masks, flips, crops, distortions, squares and colours are drawn by wgrad's own numbers, and held by tests of ops
        // and layers.
        let drawn = ["dropout", "augment", "distort", "cutout", "colour_jitter"];
        if !drawn.contains(&kind) {
            assert!(
                models.contains(&format!("\"{kind}\"")),
                "{kind} is in no model"
            );
        }
    }
}

//! Training steps of mini-batches so large that sums over them are cut into parts, beside PyTorch: weight gradients
//! of convolutions and dense layers, batch norms in runs, what ends them. `tests/fixtures/pytorch_large.py` makes the
//! fixtures.

mod common;

use common::fixtures::load;
use common::weights::{devices, hold, under};
use wgrad::data::Dataset;
use wgrad::fit::{Fit, Loss, TrainStep};
use wgrad::model::{Model, layers::*};
use wgrad::optim::{Optimizer, Sgd};

const STEPS: u64 = 3;

fn sines(count: u32, step: f64) -> Vec<f32> {
    let each = |i| 0.25 + (step * f64::from(i)).sin();
    (0..count).map(|i| each(i) as f32).collect()
}

fn residual() -> Model {
    Model::build(|m| {
        let convolution = || Conv2d::new(8, 3).padding(1).without_bias();
        let x = m.input("image", [4, 32, 32]).then(convolution());
        let x = x.then(BatchNorm::new()).then(Tanh);
        let around = x.then(convolution()).then(BatchNorm::new());
        let x = (x + around).then(Tanh);
        m.output("logits", x.global_mean().then(Dense::new(5)));
    })
    .unwrap()
}

fn tokens() -> Model {
    let model = Model::sequential([128, 12]).then(Dense::new(24)).then(Tanh);
    model.then(Dense::new(16)).build().unwrap()
}

/// Trains on every device, each time on all of `data`; `cut` are kernels that the step must have for this to be a test
/// of them.
fn train(name: &str, model: &Model, loss: &Loss, data: &Dataset, cut: &[&str]) {
    let fixtures = load("large");
    let sgd = Sgd {
        momentum: 0.9,
        ..Sgd::default()
    };
    let sgd = Optimizer::new(sgd, 0.05);
    let batch = data.rows();
    for device in devices() {
        let fit = Fit::new(model, loss.clone(), sgd.clone()).batch(batch);
        let plan = fit.plan(data, &device).unwrap();
        let launches = plan.programs["train"].iter();
        let kernels: Vec<_> = launches.map(|launch| launch.kernel.name).collect();
        for wanted in cut {
            let found = kernels.iter().any(|kernel| kernel.starts_with(wanted));
            assert!(found, "{wanted} is not among {kernels:?}");
        }
        let step = TrainStep::builder(model, loss, &sgd).batch(batch);
        let mut step = step.compile_over(data, &device).unwrap();
        let before = under(&fixtures, &format!("{name}/before"));
        step.set_weights(&before).unwrap();
        // The data set is one mini-batch, in whatever order.
        step.run(STEPS).unwrap();
        let after = under(&fixtures, &format!("{name}/after"));
        let found = step.weights().unwrap().remove(0);
        hold(&found, &after, &device.info().name);
    }
}

#[test]
fn a_residual_networks_steps_are_pytorchs() {
    let classes: Vec<u32> = (0..16).map(|i| i * 7 % 5).collect();
    let data = Dataset::new().with("image", [4, 32, 32], sines(16 * 4 * 32 * 32, 0.37));
    let data = data.unwrap().with("target", [], classes).unwrap();
    let cut = [
        "conv2d_weight_parts",
        "conv2d_weight_sum",
        "norm_runs",
        "norm_joined",
        "norm_batch_grad_runs",
        "norm_batch_grad_joined",
    ];
    let loss = Loss::cross_entropy();
    train("residual", &residual(), &loss, &data, &cut);
}

#[test]
fn steps_over_many_tokens_are_pytorchs() {
    let data = Dataset::new().with("input", [128, 12], sines(32 * 128 * 12, 0.37));
    let data = data.unwrap();
    let data = data.with("target", [128, 16], sines(32 * 128 * 16, 0.53));
    let cut = ["matmul_parts", "matmul_parts_sum"];
    train("tokens", &tokens(), &Loss::mse(), &data.unwrap(), &cut);
}

//! A layer, a metric, a callback and data of this crate in a run of wgrad's, saved and read again.

mod common;

use foreign::front::{Gated, GoodEnough, MeanLargest, Points, curve};
use wgrad::data::Shards;
use wgrad::fit::{Fit, Inference, Loss, Metric, TrainStep, Weights};
use wgrad::model::{Model, Registry, layers::*};
use wgrad::optim::{AdamW, Optimizer};

#[test]
fn a_layer_a_metric_and_a_callback_of_this_crate_train_and_are_read_again() {
    let data = curve(200).unwrap();
    let model = Model::sequential([1])
        .then(Dense::new(16))
        .then(Gated { units: 16 });
    let model = model.then(Dense::new(2)).build().unwrap();
    for device in common::devices() {
        let optimizer = Optimizer::new(AdamW::default(), 0.02);
        let outcome = Fit::new(&model, Loss::mse(), optimizer)
            .batch(20)
            .epochs(200)
            .metric(Metric::new(MeanLargest))
            .test(&data)
            .with(GoodEnough(0.01))
            .run(&data, &device)
            .unwrap();
        let epochs = outcome.report.epochs.len();
        assert!(epochs < 200, "never good enough");
        assert!(outcome.report.test("mean largest error").unwrap() < 0.3);

        let path = std::env::temp_dir().join(format!("foreign-front-{}", std::process::id()));
        outcome.weights[0].save(&model, &path).unwrap();
        let registry = Registry::standard().with::<Gated>();
        let (again, weights) = Weights::load_model(&path, &registry).unwrap();
        std::fs::remove_file(&path).unwrap();
        let run = |model: &Model, weights: &Weights| {
            let net = Inference::new(model, weights, 32, &device).unwrap();
            net.run_on(&data).unwrap()
        };
        assert_eq!(run(&model, &outcome.weights[0]), run(&again, &weights));
    }
}

#[test]
fn a_source_of_this_crate_is_read_shard_by_shard() {
    let (source, data) = (Points(200), curve(200).unwrap());
    let model = Model::sequential([1]).then(Dense::new(16)).then(Tanh);
    let model = model.then(Dense::new(2)).build().unwrap();
    for device in common::devices() {
        let fit = || {
            let optimizer = Optimizer::new(AdamW::default(), 0.02);
            Fit::new(&model, Loss::mse(), optimizer)
                .batch(20)
                .epochs(60)
        };
        let outcome = fit()
            .test(Shards::of(&source, 70))
            .run(Shards::of(&source, 60), &device)
            .unwrap();
        assert!(outcome.report.test("loss").unwrap() < 0.02);
        // As the same rows in memory.
        let again = fit().run(Shards::of(&data, 60), &device).unwrap();
        assert_eq!(again.weights, outcome.weights);
        // And in a loop of one's own.
        let (loss, optimizer) = (Loss::mse(), Optimizer::new(AdamW::default(), 0.02));
        let step = TrainStep::builder(&model, &loss, &optimizer).batch(20);
        let mut step = step
            .compile_over_shards(Shards::of(&source, 60), &device)
            .unwrap();
        while step.steps() < 600 {
            step.run(50).unwrap();
        }
        assert_eq!(step.weights().unwrap(), outcome.weights);
    }
}

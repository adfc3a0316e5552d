//! Mixed examples.

mod common;

use common::gpu;
use wgrad::data::Dataset;
use wgrad::exec::{Choice, Device};
use wgrad::fit::{CrossEntropy, Fit, Loss, Outcome};
use wgrad::model::{Initializer, Input, Model, layers::*};
use wgrad::optim::{Optimizer, Sgd};

fn cpu() -> Device {
    Device::open(Choice::Cpu).unwrap()
}

/// Row r has a 1 in place r and is of class r, so what a linear model learns in a step shows how inputs and
/// targets were mixed.
#[test]
fn examples_and_their_classes_are_mixed_alike() {
    const N: usize = 8;
    let mut ones = vec![0.0f32; N * N];
    (0..N).for_each(|r| ones[r * N + r] = 1.0);
    let data = Dataset::new().with("input", [N], ones).unwrap();
    let data = data
        .with("target", [], (0..N as u32).collect::<Vec<_>>())
        .unwrap();
    let layer = Dense::new(N)
        .without_bias()
        .weight_start(Initializer::Constant(0.0));
    let model = Model::sequential([N]).then(layer).build().unwrap();
    let fit = |loss: Loss| {
        let sgd = Optimizer::new(Sgd::default(), N as f64);
        Fit::new(&model, loss, sgd).batch(N).epochs(1).seed(4)
    };
    let mut found = Vec::new();
    for device in std::iter::once(cpu()).chain(gpu()) {
        let plain = fit(Loss::cross_entropy())
            .validation(&data)
            .run(&data, &device)
            .unwrap();
        let mixed = fit(Loss::cross_entropy())
            .mixup(1.0)
            .validation(&data)
            .run(&data, &device)
            .unwrap();
        // All scores are 0 at first, so the losses are ln N, mixed or not.
        for outcome in [&plain, &mixed] {
            let loss = outcome.report.epochs[0].training_loss[0];
            assert!((loss - (N as f64).ln()).abs() < 1e-5, "{loss}");
        }
        let weights = |outcome: &Outcome| -> Vec<f32> {
            let w = outcome.weights[0].get("dense.weight").unwrap();
            w.iter().copied().collect()
        };
        // Without mixing, 1 − 1/N for the own class and −1/N for the others.
        for (k, w) in weights(&plain).iter().enumerate() {
            let wanted = f32::from(u8::from(k % (N + 1) == 0)) - 1.0 / N as f32;
            assert!((w - wanted).abs() < 1e-6, "{w} for {wanted}");
        }
        // Mixed: w[k, r] = Σ tₙ[k] xₙ[r] − Σ xₙ[r] / N, where x and t have the same shares.
        let w = weights(&mixed);
        let sums: Vec<f32> = (0..N)
            .map(|r| -(0..N).map(|k| w[k * N + r]).fold(0.0f32, f32::min) * N as f32)
            .collect();
        let total: f32 = sums.iter().sum();
        assert!((total - N as f32).abs() < 1e-4, "{sums:?}");
        let shared = |k: usize, r: usize| w[k * N + r] + sums[r] / N as f32;
        let mut pairs = 0;
        for k in 0..N {
            for r in 0..N {
                assert!((shared(k, r) - shared(r, k)).abs() < 1e-5, "{k}, {r}");
                pairs += usize::from(k != r && shared(k, r) > 1e-4);
            }
            assert!(shared(k, k) < 2.0 && (shared(k, k) - 1.0).abs() > 1e-4);
        }
        // Each with one partner before and one behind it.
        assert_eq!(pairs, 2 * N);
        found.push(w);
    }
    for (a, b) in found.iter().flat_map(|w| w.iter().zip(&found[0])) {
        assert!((a - b).abs() < 1e-5);
    }
    let told = |fit: Fit<'_>| fit.check(&data).unwrap_err().to_string();
    let ignoring = CrossEntropy {
        ignored: Some(2),
        ..CrossEntropy::default()
    };
    let ignoring = told(fit(Loss::of_criterion(ignoring)).mixup(0.2));
    assert!(
        ignoring.contains("mixup: found classes in the targets of cross_entropy"),
        "{ignoring}"
    );
    let alpha = told(fit(Loss::cross_entropy()).mixup(0.0));
    assert!(alpha.contains("alpha of mixup: found 0"), "{alpha}");
    let alone = told(fit(Loss::cross_entropy()).mixup(0.2).batch(1));
    assert!(alone.contains("mini-batch of mixup: found 1"), "{alone}");
    // No device is asked, and nothing is allocated.
    let many = told(fit(Loss::cross_entropy()).replicas(1 << 40));
    assert!(many.contains("wanted 1 to 65535"), "{many}");
    let none = told(fit(Loss::cross_entropy()).replicas(0));
    assert!(none.contains("wanted 1 to 65535"), "{none}");
    let last = told(
        fit(Loss::cross_entropy())
            .replicas(2)
            .first_replica(u32::MAX),
    );
    assert!(
        last.contains("first replica: found 4294967295 and 2 replicas"),
        "{last}"
    );
    let words = Dataset::windows(vec![1, 2, 3, 0, 1, 2, 3, 0, 1, 2], 4).unwrap();
    let model = Model::sequential(Input::u32([4]))
        .then(Embedding::new(4, 3))
        .then(Dense::new(4));
    let model = model.build().unwrap();
    let of_words = Fit::new(
        &model,
        Loss::cross_entropy(),
        Optimizer::new(Sgd::default(), 0.01),
    )
    .batch(2)
    .mixup(0.2);
    let of_words = of_words.check(&words).unwrap_err().to_string();
    assert!(
        of_words.contains("mixup: found integers in input input"),
        "{of_words}"
    );
}

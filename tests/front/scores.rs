//! What losses, metrics and trained models say where numbers are hard to tell, and what they refuse.

use super::*;
use wgrad::ops::Tape;
use wgrad::ops::reduction::{Kind, Reduction};

#[test]
fn what_a_metric_cannot_tell_is_no_number() {
    // Untrained, so that scores are what is given.
    let model = Model::sequential([1])
        .layer("score", Dense::new(1))
        .build()
        .unwrap();
    let tensors = [
        ("score.weight", ndarray::arr2(&[[1.0f32]]).into_dyn()),
        ("score.bias", ndarray::arr1(&[0.0]).into_dyn()),
    ];
    let tensors = tensors
        .map(|(name, values)| (name.to_string(), values))
        .to_vec();
    let weights = Weights::from_tensors(tensors);
    let told = |metric: Metric, y: &[f32], t: &[f32]| {
        let data = Dataset::new().with("input", [1], y.to_vec()).unwrap();
        let data = data.with("target", [1], t.to_vec()).unwrap();
        let fit = Fit::new(&model, Loss::mse(), adam(0.1))
            .metric(metric)
            .test(&data);
        let (_, scores) = fit.evaluate(&weights, &cpu()).unwrap().remove(0);
        scores.metrics[0].1
    };
    // Targets without a spread, one row alone among them, have no R².
    for t in [0.7, 0.1, 1e6, 0.0] {
        assert!(told(Metric::r2(), &[0.5; 40], &[t; 40]).is_nan(), "{t}");
        assert!(told(Metric::r2(), &[0.5], &[t]).is_nan(), "{t}");
    }
    // Nor has a long column, whose sums are rounded many times; far from 0 digits stay.
    assert!(told(Metric::r2(), &[0.5; 20_000], &[0.1; 20_000]).is_nan());
    let years: Vec<f32> = (0..400).map(|i| 2000.0 + (i % 20) as f32).collect();
    let r2 = told(
        Metric::r2(),
        &years.iter().map(|t| t + 1.0).collect::<Vec<_>>(),
        &years,
    );
    assert!((r2 - (1.0 - 1.0 / 33.25)).abs() < 1e-5, "{r2}");
    let r2 = told(Metric::r2(), &[1.0, 2.0, 3.0], &[1.0, 2.0, 4.0]);
    assert!((r2 - (1.0 - 1.0 / (14.0 / 3.0))).abs() < 1e-5, "{r2}");
    // However far from 0 scores are, their order counts.
    for from in [-60.0f32, -6.0, 0.0, 30.0, 1000.0] {
        let width = 1.0f32.max(from.abs() / 10.0);
        let y: Vec<f32> = (0..4).map(|k| from + k as f32 * width).collect();
        assert_eq!(
            told(Metric::auc(), &y, &[0.0, 0.0, 1.0, 1.0]),
            1.0,
            "{from}"
        );
        assert_eq!(
            told(Metric::auc(), &y, &[0.0, 1.0, 0.0, 1.0]),
            0.75,
            "{from}"
        );
    }
    let beyond = [f32::MIN, f32::MAX, 1e5, -1e5];
    assert_eq!(told(Metric::auc(), &beyond, &[0.0, 1.0, 1.0, 0.0]), 1.0);
}

#[test]
fn losses_of_signs_and_losses_that_look_at_no_target() {
    let model = Model::sequential([1]).then(Dense::new(1)).build().unwrap();
    let x: Vec<f32> = (0..16).map(|i| i as f32 / 8.0 - 1.0).collect();
    let signs = |no: f32| {
        x.iter()
            .map(|&x| if x > 0.0 { 1.0 } else { no })
            .collect::<Vec<f32>>()
    };
    let data = |no: f32| {
        let data = Dataset::new().with("input", [1], x.clone()).unwrap();
        data.with("target", [1], signs(no)).unwrap()
    };
    let fit = |loss: Loss, data: &Dataset| {
        Fit::new(&model, loss, adam(0.1))
            .batch(16)
            .epochs(3)
            .run(data, &cpu())
    };
    let refused = fit(Loss::hinge(), &data(0.0)).unwrap_err().to_string();
    assert!(
        refused.contains("target") && refused.contains("−1 or 1"),
        "{refused}"
    );
    fit(Loss::hinge(), &data(-1.0)).unwrap();
    let critic = Loss::each("critic", |y, _| y.clone());
    let outcome = fit(critic, &data(0.0)).unwrap();
    let losses: Vec<f64> = outcome
        .report
        .epochs
        .iter()
        .map(|e| e.training_loss[0])
        .collect();
    assert!(losses[2] < losses[1] && losses[1] < losses[0], "{losses:?}");
}

#[test]
fn losses_of_other_shapes_and_of_other_classes_are_named() {
    let model = Model::build(|m| {
        let x = m.input("input", [3]);
        m.output("few", x.layer("a", Dense::new(3)));
        m.output("many", x.layer("b", Dense::new(8)));
    })
    .unwrap();
    let data = Dataset::new().with("input", [3], vec![0.5; 48]).unwrap();
    let data = data
        .with("target", [], (0..16u32).map(|i| i % 3).collect::<Vec<_>>())
        .unwrap();
    let fit = |loss: Loss| Fit::new(&model, loss, adam(0.1)).batch(8).epochs(1);
    // PyTorch's losses give the mean; a mean of what is one already would be of one example.
    let mean = Loss::new("mine", |scope, y, _| {
        scope.op1(Arc::new(Reduction::new(Kind::Mean, &[0, 1])), &[y])
    });
    let numbers = Dataset::new().with("input", [3], vec![0.5; 48]).unwrap();
    let numbers = numbers.with("target", [3], vec![0.5f32; 48]).unwrap();
    let refused = fit(mean.of("few").against("target")).run(&numbers, &cpu());
    let refused = refused.unwrap_err().to_string();
    assert!(
        refused.contains("loss mine") && refused.contains("each of 8 examples"),
        "{refused}"
    );
    let both = || {
        let of = |output: &str| Loss::cross_entropy().of(output).against("target");
        of("few") + of("many")
    };
    fit(both()).run(&data, &cpu()).unwrap();
    let refused = fit(both())
        .mixup(0.2)
        .run(&data, &cpu())
        .unwrap_err()
        .to_string();
    assert!(
        refused.contains("of 3 and of 8 classes against column target"),
        "{refused}"
    );
}

#[test]
fn what_a_model_says_is_a_number_or_an_error() {
    let text = "x,kind\n0,a\n1,b\n2,a\n3,b\n";
    let table = Table::parse(Path::new("rows.csv"), text.as_bytes()).unwrap();
    let roles = Roles {
        inputs: vec!["x".into()],
        targets: vec!["kind".into()],
        ..Roles::default()
    };
    let schema = Schema::of(&table, &roles).unwrap();
    let model = Model::sequential([1])
        .layer("score", Dense::new(2))
        .build()
        .unwrap();
    let weights = Weights::from_tensors(vec![
        (
            "score.weight".into(),
            ndarray::arr2(&[[3e38f32], [1.0]]).into_dyn(),
        ),
        (
            "score.bias".into(),
            ndarray::arr1(&[0.0f32, 0.0]).into_dyn(),
        ),
    ]);
    let trained = Trained {
        model,
        weights,
        reading: Reading::Table(schema),
        output: None,
    };
    let large = Table::parse(Path::new("large.csv"), b"x\n1.5\n900\n").unwrap();
    let refused = trained.answer(&large, &cpu()).unwrap_err().to_string();
    assert!(
        refused.contains("row 2") && refused.contains("finite"),
        "{refused}"
    );
    let short = Table::parse(Path::new("short.csv"), b"y\n1\n").unwrap();
    let refused = trained.answer(&short, &cpu()).unwrap_err().to_string();
    assert!(
        refused.contains("short.csv") && refused.contains("`x`"),
        "{refused}"
    );
}

/// Weights of what is there are held to the output before anything runs; of a number an example there is one.
#[test]
fn positive_weights_are_one_or_one_of_each() {
    let data = |extents: &[usize], rows: usize| {
        let size: usize = extents.iter().product();
        let x = (0..rows * 3).map(|i| (i as f32).sin()).collect::<Vec<_>>();
        let y = (0..rows * size).map(|i| (i % 2) as f32).collect::<Vec<_>>();
        let data = Dataset::new().with("input", [3], x).unwrap();
        data.with("target", extents, y).unwrap()
    };
    let loss = |weights: &[f64]| {
        Loss::of_criterion(BinaryCrossEntropy {
            positive_weights: weights.to_vec(),
        })
    };
    let three = Model::sequential([3]).then(Dense::new(3)).build().unwrap();
    let number = Model::sequential([3])
        .then(Dense::new(1))
        .then(Reshape::new([]));
    let number = number.build().unwrap();
    let checked = |model: &Model, data: &Dataset, weights: &[f64]| {
        let fit = Fit::new(model, loss(weights), Optimizer::new(Sgd::default(), 0.1));
        fit.batch(6).check(data).map_err(|e| e.to_string())
    };
    let (of_three, of_one) = (data(&[3], 12), data(&[], 12));
    for weights in [&[2.0][..], &[0.0, 1.0, 4.0], &[]] {
        assert_eq!(checked(&three, &of_three, weights), Ok(()));
    }
    assert_eq!(checked(&number, &of_one, &[2.0]), Ok(()));
    for (model, data, weights, wanted) in [
        (
            &three,
            &of_three,
            &[1.0, 2.0][..],
            "found 2 of them; wanted 1, or one for each of 3 scores",
        ),
        (
            &number,
            &of_one,
            &[1.0; 6],
            "found 6 of them; wanted 1, or one for each of 1 scores",
        ),
        (&three, &of_three, &[-1.0], "found -1"),
        (&three, &of_three, &[f64::NAN], "found NaN"),
        (&three, &of_three, &[1e39], "found 1000"),
    ] {
        let said = checked(model, data, weights).unwrap_err();
        assert!(said.contains(wanted), "{said}");
    }
}

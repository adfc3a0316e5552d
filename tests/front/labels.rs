//! What targets and words may be, and which of them count in losses and metrics.

use super::*;

/// A data set of rows of three numbers and of targets of these extents.
fn with_targets(rows: usize, extents: &[usize], target: Vec<f32>) -> Dataset {
    let x = (0..rows * 3)
        .map(|i| (i % 7) as f32 / 7.0)
        .collect::<Vec<_>>();
    let data = Dataset::new().with("input", [3], x).unwrap();
    data.with("target", extents, target).unwrap()
}

#[test]
fn class_metrics_are_those_of_a_count_by_hand() {
    let scores: Vec<f32> = vec![
        2.0, 1.0, 0.0, // 0
        0.0, 1.0, 1.0, // 1: of equal scores the first
        0.5, 0.2, 0.9, // 2
        0.1, 0.3, 0.2, // 1
        0.0, 0.0, 0.0, // 0
    ];
    let labels: Vec<u32> = vec![0, 2, 2, 0, 1];
    let data = Dataset::new()
        .with("input", [3], scores)
        .unwrap()
        .with("target", [], labels)
        .unwrap();
    // One weight that changes nothing: a rate of 0.
    let model = Model::sequential([3]).then(BatchNorm::new()).build();
    assert!(model.is_ok());
    let same = Model::build(|m| {
        let x = m.input("input", [3]);
        let gate = x.layer(
            "gate",
            Dense::new(3)
                .weight_start(wgrad::model::Initializer::Constant(0.0))
                .without_bias(),
        );
        m.output("logits", x + gate);
    });
    let same = same.unwrap();
    let fit = Fit::new(
        &same,
        Loss::cross_entropy(),
        Optimizer::new(Sgd::default(), 0.0),
    )
    .batch(5)
    .epochs(1);
    let fit = fit
        .metric(Metric::accuracy())
        .metric(Metric::top(2))
        .metric(Metric::top(1))
        .metric(Metric::confusion());
    let report = fit
        .metric(Metric::perplexity())
        .test(&data)
        .run(&data, &cpu())
        .unwrap()
        .report;
    let value = |name: &str| report.test(name).unwrap();
    assert_eq!(value("accuracy"), 0.4);
    // Second best is right for rows 1 (2), 4 (1); row 3's class 0 is the last.
    assert!((value("top 2") - 0.8).abs() < 1e-6);
    // Of equal scores the first counts, here too.
    assert_eq!(value("top 1"), value("accuracy"));
    assert_eq!(
        (
            value("confusion 0 0"),
            value("confusion 2 1"),
            value("confusion 1 0")
        ),
        (1.0, 1.0, 1.0)
    );
    assert_eq!(
        (value("precision 0"), value("recall 0"), value("recall 2")),
        (0.5, 0.5, 0.5)
    );
    assert!((value("perplexity") - value("loss").exp()).abs() < 1e-5);
}

#[test]
fn targets_that_are_no_probabilities_are_refused_before_training() {
    let scores = |k: usize| {
        let model = Model::sequential(Input::f32([3]));
        model.then(Dense::new(k)).build().unwrap()
    };
    let of_shares = || {
        Loss::of_criterion(CrossEntropy {
            probabilities: true,
            ..CrossEntropy::default()
        })
    };
    let told = |model: &Model, loss: Loss, data: &Dataset| {
        let fit = Fit::new(model, loss, adam(0.01)).batch(4);
        let refused = fit.check(data).map_err(|e| e.to_string());
        let sharded = fit.epochs(1).run(Shards::of(data, 4), &cpu());
        (refused, sharded.map(|_| ()).map_err(|e| e.to_string()))
    };
    // One row of eight is another.
    let shares = |k: usize, row: &[f32]| {
        let mut all = vec![1.0 / k as f32; 8 * k];
        all[5 * k..6 * k].copy_from_slice(row);
        with_targets(8, &[k], all)
    };
    let two = scores(2);
    for (loss, name) in [
        (of_shares(), "cross_entropy"),
        (Loss::kl_divergence(), "kl_divergence"),
    ] {
        for (row, what) in [
            ([0.7, 0.7], "found 0.7, 0.7, whose sum is 1.4000, in row "),
            ([0.2, 0.5], "found 0.2, 0.5, whose sum is 0.7000, in row "),
            ([-0.5, 1.5], "found -0.5 in row "),
        ] {
            let (whole, sharded) = told(&two, loss.clone(), &shares(2, &row));
            let (whole, sharded) = (whole.unwrap_err(), sharded.unwrap_err());
            assert!(
                whole.contains(&format!(
                    "training data, column target: {what}5; wanted prob"
                )),
                "{name}: {whole}"
            );
            assert!(sharded.contains(what), "{name}: {sharded}");
        }
        // Rounding is no fault.
        let (whole, sharded) = told(&two, loss, &shares(2, &[0.3333, 0.6666]));
        assert_eq!((whole, sharded), (Ok(()), Ok(())), "{name}");
    }
    let many = told(&scores(9), of_shares(), &shares(9, &[0.5; 9]))
        .0
        .unwrap_err();
    assert!(
        many.contains("0.5, 0.5, 0.5, 0.5, 0.5, …, whose sum is 4.5000, in row 5"),
        "{many}"
    );
    // Of a truth value only the range is known.
    let binary = told(&two, Loss::binary_cross_entropy(), &shares(2, &[1.0, 2.0]));
    let binary = binary.0.unwrap_err();
    assert!(
        binary.contains("column target: found 2 in row 5; wanted numbers from 0 to 1"),
        "{binary}"
    );
    let both = told(&two, Loss::binary_cross_entropy(), &shares(2, &[1.0, 1.0]));
    assert_eq!(both.0, Ok(()));
    // Data that are evaluated are held as well, and by their own name.
    let (good, bad) = (shares(2, &[1.0, 0.0]), shares(2, &[1.0, 1.0]));
    let fit = Fit::new(&two, of_shares(), adam(0.01)).batch(4);
    let bad = fit.validation(&bad).check(&good).unwrap_err().to_string();
    assert!(
        bad.starts_with("validation data, column target: found 1, 1,"),
        "{bad}"
    );
}

#[test]
fn a_metric_that_does_not_fit_the_targets_is_named() {
    let model = Model::sequential(Input::f32([3]));
    let model = model.then(Dense::new(2)).build().unwrap();
    let loss = Loss::of_criterion(CrossEntropy {
        probabilities: true,
        ..CrossEntropy::default()
    });
    let data = with_targets(8, &[2], vec![0.5; 16]);
    let told = |metric: Metric| {
        let fit = Fit::new(&model, loss.clone(), adam(0.01)).batch(4);
        fit.metric(metric).check(&data).map_err(|e| e.to_string())
    };
    let refused = told(Metric::accuracy()).unwrap_err();
    assert!(
        refused.contains(
            "training data, metric accuracy, column target: found floats [2] a row; wanted \
             integers [] a row (`mae`, `mse`, `rmse` and `r2` are metrics of floats)"
        ),
        "{refused}"
    );
    for metric in [Metric::mae(), Metric::mse(), Metric::rmse(), Metric::r2()] {
        assert_eq!(told(metric), Ok(()));
    }
}

#[test]
fn labels_of_which_none_counts_are_told_of() {
    let model = Model::sequential(Input::f32([3]));
    let model = model.then(Dense::new(2)).build().unwrap();
    let labelled = |labels: Vec<u32>| {
        let x = vec![0.5f32; 3 * labels.len()];
        let data = Dataset::new().with("input", [3], x).unwrap();
        data.with("target", [], labels).unwrap()
    };
    let of = |ignored: Option<u32>, weights: Vec<f64>| {
        Loss::of_criterion(CrossEntropy {
            ignored,
            weights,
            ..CrossEntropy::default()
        })
    };
    let good = labelled(vec![0, 1, 9, 0]);
    for (loss, labels) in [
        (of(Some(9), vec![]), vec![9; 4]),
        (of(Some(9), vec![0.0, 1.0]), vec![9, 0, 0, 9]),
    ] {
        let bad = labelled(labels);
        let fit = || {
            Fit::new(&model, loss.clone(), adam(0.01))
                .batch(4)
                .epochs(1)
        };
        fit().validation(&good).check(&good).unwrap();
        let whole = fit().validation(&bad).check(&good).unwrap_err().to_string();
        assert!(
            whole.starts_with("validation data, column target: found no label but of classes that count nothing (9"),
            "{whole}"
        );
        let trained = fit().check(&bad).unwrap_err().to_string();
        assert!(
            trained.starts_with("training data, column target: found no label"),
            "{trained}"
        );
        // Of shards that is known when they have been read.
        let sharded = fit().validation(Shards::of(&bad, 2)).run(&good, &cpu());
        let sharded = sharded.unwrap_err().to_string();
        assert!(
            sharded.contains("validation data: found no label of a class that counts"),
            "{sharded}"
        );
        let weights = Weights::initial(&model, 1);
        let evaluated = fit().test(&bad).evaluate(&weights, &cpu()).unwrap_err();
        assert!(
            evaluated
                .to_string()
                .starts_with("test data, column target: found no label")
        );
    }
    // A mini-batch of such rows alone is met while training.
    let some = labelled(vec![9, 9, 9, 0]);
    let fit = Fit::new(&model, of(Some(9), vec![]), adam(0.01)).batch(1);
    let refused = fit.epochs(1).run(&some, &cpu()).unwrap_err().to_string();
    assert!(
        refused.contains("3 of 4 rows have no label in column target that counts"),
        "{refused}"
    );
}

/// Metrics of classes leave out the places of the class that the loss ignores: what fills up sentences is neither
/// right nor wrong.
#[test]
fn what_the_loss_ignores_counts_in_no_metric() {
    const NONE: u32 = 9;
    let labels = vec![
        0, 3, NONE, 2, NONE, NONE, 1, 1, 2, NONE, NONE, NONE, 3, 0, 2,
    ];
    for places in [1, 3] {
        let (model, extents) = match places {
            1 => (Model::sequential([4]), vec![4]),
            _ => (Model::sequential([3, 4]), vec![3, 4]),
        };
        let model = model.then(Dense::new(4)).build().unwrap();
        let x: Vec<f32> = (0..4 * labels.len())
            .map(|i| (i as f32 * 0.71).sin())
            .collect();
        let data = Dataset::new().with("input", extents, x).unwrap();
        let target = if places == 1 { vec![] } else { vec![places] };
        let data = data.with("target", target, labels.clone()).unwrap();
        let weights = Weights::initial(&model, 4);
        let net = Inference::new(&model, &weights, 4, &cpu()).unwrap();
        let scores = net.run_on(&data).unwrap().remove("output").unwrap();
        let scores: Vec<f32> = scores.iter().copied().collect();
        let (mut count, mut right, mut second, mut cost) = (0.0, 0.0, 0.0, 0.0);
        let mut cells = [[0.0; 4]; 4];
        for (&label, scores) in labels.iter().zip(scores.chunks(4)) {
            if label == NONE {
                continue;
            }
            let own = scores[label as usize];
            let above = scores.iter().filter(|s| **s > own).count();
            let best = (0..4)
                .max_by(|a, b| scores[*a].total_cmp(&scores[*b]))
                .unwrap();
            let sum: f64 = scores.iter().map(|s| f64::from(*s).exp()).sum();
            count += 1.0;
            right += f64::from(above == 0);
            second += f64::from(above < 2);
            cost += sum.ln() - f64::from(own);
            cells[label as usize][best] += 1.0;
        }
        let loss = Loss::of_criterion(CrossEntropy {
            ignored: Some(NONE),
            ..CrossEntropy::default()
        });
        let fit = Fit::new(&model, loss, adam(0.01)).batch(2).test(&data);
        let fit = fit.metric(Metric::accuracy()).metric(Metric::top(2));
        let mut fit = fit.metric(Metric::perplexity());
        if places == 1 {
            fit = fit.metric(Metric::confusion());
        }
        let found = fit.evaluate(&weights, &cpu()).unwrap();
        let found = &found[0].1;
        let value = |name: &str| match name {
            "loss" => found.loss,
            _ => {
                let mut named = found.metrics.iter().filter(|(other, _)| other == name);
                named.next().unwrap_or_else(|| panic!("{name}")).1
            }
        };
        let near = |name: &str, wanted: f64| {
            let found = value(name);
            assert!(
                (found - wanted).abs() < 1e-5 * wanted,
                "{name}: {found}, not {wanted}"
            );
        };
        near("accuracy", right / count);
        near("top 2", second / count);
        near("perplexity", (cost / count).exp());
        near("loss", cost / count);
        if places == 1 {
            for (t, cells) in cells.iter().enumerate() {
                for (y, cell) in cells.iter().enumerate() {
                    assert_eq!(value(&format!("confusion {t} {y}")), *cell);
                }
            }
        }
    }
}

/// An embedding has no row for such a word; it must not become zeros without a word.
#[test]
fn words_without_a_row_are_refused() {
    let model = Model::sequential(Input::u32([3]));
    let model = model
        .then(Embedding::new(5, 4))
        .then(Flatten)
        .then(Dense::new(2));
    let model = model.build().unwrap();
    let of = |words: Vec<u32>| {
        let data = Dataset::new().with("input", [3], words).unwrap();
        data.with("target", [], vec![0u32, 1]).unwrap()
    };
    let (good, bad) = (of(vec![0, 1, 2, 3, 4, 0]), of(vec![0, 1, 2, 3, 5, 0]));
    let fit = || {
        Fit::new(&model, Loss::cross_entropy(), adam(0.01))
            .batch(2)
            .epochs(1)
    };
    fit().validation(&good).run(&good, &cpu()).unwrap();
    let wanted = "found 5 in row 1; wanted integers from 0 to 4, the rows of an embedding";
    for refused in [
        fit().run(&bad, &cpu()),
        fit().validation(&bad).run(&good, &cpu()),
        fit().run(Shards::of(&bad, 2), &cpu()),
    ] {
        let error = refused.unwrap_err().to_string();
        assert!(error.contains(wanted), "{error}");
    }
    let weights = Weights::initial(&model, 1);
    let net = Inference::new(&model, &weights, 2, &cpu()).unwrap();
    net.run_on(&good).unwrap();
    let error = net.run_on(&bad).unwrap_err().to_string();
    assert!(
        error.contains(&wanted.replace("row 1", "example 1")),
        "{error}"
    );
    let loss = Loss::cross_entropy();
    let step = TrainStep::builder(&model, &loss, &adam(0.01))
        .batch(2)
        .compile_over(&bad, &cpu());
    assert!(step.map(drop).unwrap_err().to_string().contains(wanted));
}

/// A class beyond the scores would be right among the best two of two.
#[test]
fn metrics_take_no_class_that_there_is_not() {
    let model = Model::sequential([3]).then(Dense::new(2)).build().unwrap();
    let data = Dataset::new().with("input", [3], vec![0.5f32; 6]).unwrap();
    let data = data.with("target", [], vec![0u32, 1]).unwrap();
    let data = data.with("kind", [], vec![1u32, 7]).unwrap();
    for metric in [
        Metric::accuracy(),
        Metric::top(2),
        Metric::confusion(),
        Metric::perplexity(),
    ] {
        let fit = Fit::new(&model, Loss::cross_entropy(), adam(0.01))
            .batch(2)
            .epochs(1);
        let error = fit
            .metric(metric.clone().against("kind"))
            .check(&data)
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("column kind: found 7 in row 1; wanted classes from 0 to 1"),
            "{error}"
        );
        let fit = Fit::new(&model, Loss::cross_entropy(), adam(0.01))
            .batch(2)
            .epochs(1);
        fit.metric(metric.against("kind").ignoring(7))
            .check(&data)
            .unwrap();
    }
}

/// A weight of 1e-300 is 0 on every device, and its class would count nothing without a word.
#[test]
fn numbers_of_losses_that_f32_lacks_are_refused() {
    let model = Model::sequential([3]).then(Dense::new(2)).build().unwrap();
    let x = (0..12).map(|i| i as f32 / 12.0).collect::<Vec<_>>();
    let data = Dataset::new().with("input", [3], x).unwrap();
    let data = data.with("target", [], vec![0u32, 1, 0, 1]).unwrap();
    let told = |loss: Loss| {
        let fit = Fit::new(&model, loss, adam(0.01)).batch(4);
        fit.check(&data).map_err(|e| e.to_string())
    };
    let weighted = |weights: Vec<f64>| {
        Loss::of_criterion(CrossEntropy {
            weights,
            ..CrossEntropy::default()
        })
    };
    let smoothed = |smoothing| {
        Loss::of_criterion(CrossEntropy {
            smoothing,
            ..CrossEntropy::default()
        })
    };
    for (loss, name) in [
        (weighted(vec![1.0, 1e-300]), "weights of cross_entropy"),
        (weighted(vec![1.0, 1e300]), "weights of cross_entropy"),
        (smoothed(1e-300), "smoothing of cross_entropy"),
        (
            Loss::cross_entropy() * 1e-300,
            "weight of loss cross_entropy",
        ),
        (
            Loss::cross_entropy() * f64::NAN,
            "weight of loss cross_entropy",
        ),
    ] {
        let told = told(loss).unwrap_err();
        assert!(
            told.starts_with(name) && told.contains("32-bit floats"),
            "{told}"
        );
    }
    assert_eq!(told(weighted(vec![0.0, 1e-30])), Ok(()));
    assert_eq!(told(Loss::cross_entropy() * 0.0), Ok(()));
    let start = |x| Dense::new(2).weight_start(wgrad::model::Initializer::Normal(x));
    let built = |x| Model::sequential([3]).then(start(x)).build();
    assert!(built(1e-30).is_ok());
    let told = built(1e-300).unwrap_err().to_string();
    assert!(told.contains("standard deviation of a start"), "{told}");
}

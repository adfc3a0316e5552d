//! Settings of layers over sequences: states that are dropped between layers, numbers that stand for nothing.

use super::*;

fn devices() -> impl Iterator<Item = Device> {
    std::iter::once(cpu()).chain(gpu())
}

fn sines(rows: usize) -> Dataset {
    let x = (0..rows * 5 * 3).map(|i| (i as f32 * 0.37).sin());
    let y = (0..rows * 2).map(|i| (i as f32 * 0.9).cos());
    let data = Dataset::new().with("input", [5, 3], x.collect::<Vec<_>>());
    let data = data.unwrap().with("target", [2], y.collect::<Vec<_>>());
    data.unwrap()
}

/// Two layers with dropout between them train as two layers of one with a layer of dropout between; in an evaluation
/// nothing is dropped.
#[test]
fn states_are_dropped_between_layers() {
    let stacked = |p: f64| {
        let lstm = Lstm::new(6).layers(2).bidirectional().dropout(p).last();
        let model = Model::sequential([5, 3]).then(lstm).then(Dense::new(2));
        model.build().unwrap()
    };
    let apart = Model::sequential([5, 3])
        .then(Lstm::new(6).bidirectional())
        .then(Dropout::new(0.4))
        .then(Lstm::new(6).bidirectional().last())
        .then(Dense::new(2));
    let apart = apart.build().unwrap();
    let data = sines(24);
    // `lstm.weight_ih_l1_reverse` is `lstm_2.weight_ih_l0_reverse` there.
    let begun = Weights::initial(&stacked(0.4), 3);
    let renamed = begun.renamed(|name| {
        Some(match name.contains("_l1") {
            true => name.replace("_l1", "_l0").replace("lstm.", "lstm_2."),
            false => name.into(),
        })
    });
    for device in devices() {
        let run = |model: &Model, from: &Weights| {
            let fit = Fit::new(model, Loss::mse(), Optimizer::new(Sgd::default(), 0.1));
            let fit = fit.batch(8).epochs(2).validation(&data).from(from);
            fit.run(&data, &device).unwrap().report.epochs
        };
        let (one, other) = (run(&stacked(0.4), &begun), run(&apart, &renamed));
        for (one, other) in one.iter().zip(&other) {
            assert_eq!(one.training_loss, other.training_loss);
            assert_eq!(one.validation, other.validation);
        }
        let plain = run(&stacked(0.0), &begun);
        assert_ne!(one[0].training_loss, plain[0].training_loss);
        // Evaluated before anything is trained, both are the same.
        let evaluated = |model: &Model| {
            let fit = Fit::new(model, Loss::mse(), Optimizer::new(Sgd::default(), 0.1));
            fit.validation(&data).evaluate(&begun, &device).unwrap()
        };
        assert_eq!(evaluated(&stacked(0.4)), evaluated(&stacked(0.0)));
    }
    for (lstm, wanted) in [
        (
            Lstm::new(6).dropout(0.2),
            "dropout of lstm: found 0.2; wanted 0 for one layer",
        ),
        (Lstm::new(6).layers(2).dropout(1.0), "p: found 1; wanted"),
        (
            Lstm::new(6).layers(2).dropout(f64::NAN),
            "p: found NaN; wanted",
        ),
    ] {
        let refused = Model::sequential([5, 3]).then(lstm).build().unwrap_err();
        assert!(refused.to_string().contains(wanted), "{refused}");
    }
}

/// What stands for nothing gives zeros, also where its row was given other numbers, and these stay.
#[test]
fn padding_gives_zeros_and_learns_nothing() {
    let model = Model::sequential(Input::u32([4])).then(Embedding::new(6, 3).padding(2));
    let model = model.then(Flatten).then(Dense::new(2)).build().unwrap();
    let words = (0..64u32).map(|i| i * i % 6).collect::<Vec<_>>();
    let targets = (0..32).map(|i| (i as f32 * 0.9).cos()).collect::<Vec<_>>();
    let data = Dataset::new().with("input", [4], words).unwrap();
    let data = data.with("target", [2], targets).unwrap();
    let begun = Weights::initial(&model, 5);
    let row = |weights: &Weights, row: usize| {
        let table = weights.get("embedding.weight").unwrap();
        table.index_axis(ndarray::Axis(0), row).to_owned()
    };
    assert!(row(&begun, 2).iter().all(|x| *x != 0.0));
    for device in devices() {
        let fit = Fit::new(&model, Loss::mse(), Optimizer::new(Sgd::default(), 0.3));
        let trained = fit.batch(4).epochs(3).from(&begun).run(&data, &device);
        let trained = &trained.unwrap().weights[0];
        assert_eq!(row(trained, 2), row(&begun, 2));
        assert_ne!(row(trained, 3), row(&begun, 3));
        let nothing = Dataset::new().with("input", [4], vec![2u32; 4]).unwrap();
        let net = Inference::new(&model, trained, 1, &device).unwrap();
        let answer = &net.run_on(&nothing).unwrap()["output"];
        let bias = trained.get("dense.bias").unwrap();
        assert_eq!(
            answer.iter().collect::<Vec<_>>(),
            bias.iter().collect::<Vec<_>>()
        );
    }
    let refused = Model::sequential(Input::u32([4])).then(Embedding::new(6, 3).padding(6));
    let refused = refused.build().unwrap_err().to_string();
    assert!(
        refused.contains("padding: found 6; wanted 0 to 5"),
        "{refused}"
    );
}

/// Shares that are written out, as where some are dropped, mix what tiles do, also where a place sees nothing: 2⁻³² drops
/// none.
#[test]
fn shares_written_out_are_those_in_tiles() {
    let model = |p: f64, causal: bool| {
        let attention = MultiHeadAttention {
            causal,
            ..MultiHeadAttention::new(3).masked().dropout(p)
        };
        let built = Model::build(|m| {
            let x = m.input("input", [5, 6]);
            let mask = m.input("mask", [5]);
            let y = m.join("attention", attention, &[x, mask]);
            m.output("output", y);
        });
        built.unwrap()
    };
    let rows = 8;
    let x: Vec<f32> = (0..rows * 30).map(|i| (i as f32 * 0.37).sin()).collect();
    // Of the first example all is hidden, of the second one nothing.
    let mask = (0..rows * 5).map(|i| f32::from(u8::from(i / 5 != 0 && i % 7 != 3 || i / 5 == 1)));
    let y: Vec<f32> = (0..rows * 30).map(|i| (i as f32 * 0.9).cos()).collect();
    let data = Dataset::new().with("input", [5, 6], x).unwrap();
    let data = data.with("mask", [5], mask.collect::<Vec<_>>()).unwrap();
    let data = data.with("target", [5, 6], y).unwrap();
    for device in devices() {
        for causal in [false, true] {
            let run = |p| {
                let (model, loss) = (model(p, causal), Loss::mse());
                let optimizer = Optimizer::new(Sgd::default(), 0.1);
                let fit = Fit::new(&model, loss, optimizer).batch(4).epochs(2);
                let outcome = fit.run(&data, &device).unwrap();
                outcome.weights[0].tensors().to_vec()
            };
            for ((name, one), (_, other)) in run(0.0).iter().zip(&run(0.5f64.powi(32))) {
                for (one, other) in one.iter().zip(other) {
                    assert!((one - other).abs() < 2e-6, "{name}: {one} and {other}");
                }
            }
        }
    }
}

/// No launch of a step over 256 places sees as many elements as these have scores, but where shares are dropped.
#[test]
fn attention_writes_no_scores() {
    let largest = |dropout: f64| {
        let block = TransformerBlock::new(2, 16).causal().dropout(dropout);
        let model = Model::sequential([256, 8]).then(block).build().unwrap();
        let (loss, optimizer) = (Loss::mse(), Optimizer::new(Sgd::default(), 0.1));
        let step = TrainStep::builder(&model, &loss, &optimizer).batch(1);
        let step = step.compile(&cpu()).unwrap();
        let bindings = step.launches().iter().flat_map(|launch| &launch.bindings);
        bindings.map(|binding| binding.elements).max().unwrap()
    };
    // Three projections side by side are most there is.
    assert_eq!(largest(0.0), 256 * 24);
    assert_eq!(largest(0.1), 2 * 256 * 256);
}

#[test]
fn attention_tells_of_masks_and_of_dropout() {
    let refused = |attention: MultiHeadAttention, extents: Option<usize>, memory: bool| {
        let built = Model::build(|m| {
            let mut inputs = vec![m.input("input", [3, 4])];
            if memory {
                inputs.push(m.input("memory", [5, 4]));
            }
            inputs.extend(extents.map(|places| m.input("mask", [places])));
            let y = m.join("attention", attention, &inputs);
            m.output("output", y);
        });
        built.unwrap_err().to_string()
    };
    let two = || MultiHeadAttention::new(2);
    for (told, wanted) in [
        (
            refused(two().masked(), Some(3), true),
            "mask: found [2, 3]; wanted [2, 5]",
        ),
        (
            refused(
                MultiHeadAttention { heads: 1, ..two() }.masked(),
                Some(4),
                false,
            ),
            "mask: found [2, 4]; wanted [2, 3]",
        ),
        (
            refused(two(), Some(3), false),
            "a mask goes with `masked` alone",
        ),
        (
            refused(two(), Some(5), true),
            "found 3 inputs; wanted x and perhaps a memory; a mask goes with",
        ),
        (
            refused(two().masked(), None, false),
            "found 1 inputs; wanted x and perhaps a memory, and then a mask",
        ),
        (refused(two().dropout(7.0), None, false), "p: found 7"),
    ] {
        assert!(told.contains(wanted), "{told}");
    }
}

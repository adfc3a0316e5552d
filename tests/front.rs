//! The front door as a user meets it: models, data, losses, whole runs.

mod common;
#[path = "front/labels.rs"]
mod labels;
#[path = "front/scores.rs"]
mod scores;
#[path = "front/sequences.rs"]
mod sequences;

use std::path::Path;
use std::sync::Arc;

use common::gpu;
use wgrad::data::{Dataset, Numbers, Roles, Schema, Shards, Table};
use wgrad::exec::{Choice, Device};
use wgrad::fit::{
    Answers, BinaryCrossEntropy, CrossEntropy, EarlyStop, Fit, Inference, Loss, Metric, Outcome,
    Progress, Reading, TrainStep, Trained, Weights,
};
use wgrad::model::{Input, Layer, Model, Registry, Sequential, layers::*};
use wgrad::optim::{AdamW, Optimizer, Sgd};

fn cpu() -> Device {
    Device::open(Choice::Cpu).unwrap()
}

/// y = sin of a sum, with noise that the seed does not change.
fn curve(rows: usize) -> Dataset {
    let x: Vec<f32> = (0..rows * 3)
        .map(|i| ((i * 37 % 101) as f32 / 50.0) - 1.0)
        .collect();
    let y: Vec<f32> = x
        .chunks(3)
        .map(|x| (2.0 * x[0] - x[1] + 0.5 * x[2]).sin())
        .collect();
    Dataset::new()
        .with("input", [3], x)
        .unwrap()
        .with("target", [1], y)
        .unwrap()
}

fn regression() -> Model {
    let model = Model::sequential(Input::f32([3]));
    model
        .then(Dense::new(16))
        .then(Gelu)
        .then(Dense::new(1))
        .build()
        .unwrap()
}

fn adam(rate: f64) -> Optimizer {
    Optimizer::new(AdamW::default(), rate)
}

fn fitted(device: &Device, replicas: usize, first: u32) -> Outcome {
    let (model, data) = (regression(), curve(103));
    let parts = data.split(&[0.7, 0.3], 5).unwrap();
    Fit::new(&model, Loss::mse(), adam(0.02))
        .batch(16)
        .epochs(8)
        .seed(11)
        .replicas(replicas)
        .first_replica(first)
        .metric(Metric::mae())
        .metric(Metric::r2())
        .validation(&parts[1])
        .test(&parts[1])
        .run(&parts[0], device)
        .unwrap()
}

#[test]
fn a_run_learns_repeats_itself_and_a_replica_is_the_network_alone() {
    let three = fitted(&cpu(), 3, 0);
    let again = fitted(&cpu(), 3, 0);
    assert_eq!(three.weights, again.weights);
    let second = fitted(&cpu(), 1, 1);
    assert_eq!(second.weights[0], three.weights[1]);
    assert_eq!(second.report.test[0], three.report.test[1]);
    let (first, last) = (&three.report.epochs[0], &three.report.epochs[7]);
    for replica in 0..3 {
        assert!(last.training_loss[replica] < first.training_loss[replica] / 2.0);
        let scores = &last.validation[replica];
        assert!(scores.get("r2").unwrap() > first.validation[replica].get("r2").unwrap());
    }
    assert_eq!(
        last.validation, three.report.test,
        "the test data are the validation data"
    );
    assert_ne!(three.weights[0], three.weights[1]);
}

/// Every number of an evaluation, computed again on the host from the outputs: so every example counts
/// once, also in the last mini-batch.
#[test]
fn evaluation_counts_every_example_once() {
    let (model, data) = (regression(), curve(301));
    let outcome = Fit::new(&model, Loss::mse(), adam(0.01))
        .epochs(1)
        .test(&data)
        .metric(Metric::mae());
    let outcome = outcome
        .metric(Metric::rmse())
        .metric(Metric::r2())
        .run(&data, &cpu())
        .unwrap();
    let net = Inference::new(&model, &outcome.weights[0], 64, &cpu()).unwrap();
    let found = net.run_on(&data).unwrap().remove("output").unwrap();
    let targets: Vec<f64> = (0..301)
        .map(|r| f64::from(data.column("target").unwrap().row(r)[0]))
        .collect();
    let pairs: Vec<(f64, f64)> = found.iter().map(|&y| f64::from(y)).zip(targets).collect();
    let mean =
        |f: &dyn Fn(f64, f64) -> f64| pairs.iter().map(|&(y, t)| f(y, t)).sum::<f64>() / 301.0;
    let mse = mean(&|y, t| (y - t).powi(2));
    let centre = mean(&|_, t| t);
    let wanted = [
        ("loss", mse),
        ("mae", mean(&|y, t| (y - t).abs())),
        ("rmse", mse.sqrt()),
        ("r2", 1.0 - mse / mean(&|_, t| (t - centre).powi(2))),
    ];
    for (name, wanted) in wanted {
        let found = outcome.report.test(name).unwrap();
        assert!(
            (found / wanted - 1.0).abs() < 1e-5,
            "{name}: {found}, not {wanted}"
        );
    }
}

#[test]
fn early_stopping_keeps_the_best_epochs_weights() {
    let (model, data) = (regression(), curve(80));
    let mut seen = Vec::new();
    let outcome = Fit::new(&model, Loss::mse(), adam(0.05))
        .epochs(60)
        .validation(&data)
        .test(&data)
        .with(
            EarlyStop::on("validation loss")
                .patience(3)
                .by_at_least(0.002),
        )
        .with(Progress::new(|epoch| {
            seen.push(epoch.get("validation loss").unwrap())
        }))
        .run(&data, &cpu())
        .unwrap();
    let chosen = outcome.report.chosen_epochs[0];
    assert_eq!(seen.len(), chosen + 3);
    assert!(seen.len() < 60, "it never stopped");
    assert_eq!(outcome.report.test[0].loss, seen[chosen - 1]);
    let unknown = Fit::new(&model, Loss::mse(), adam(0.05)).with(EarlyStop::on("validation loss"));
    let error = unknown.run(&data, &cpu()).unwrap_err().to_string();
    assert!(error.contains("training loss"), "{error}");
}

/// They would be asked for and never be.
#[test]
fn micro_batches_are_refused_where_every_mini_batch_is_an_update() {
    let (model, data, loss) = (regression(), curve(40), Loss::mse());
    let optimizer = adam(0.05).accumulate(3);
    let fit = Fit::new(&model, loss.clone(), optimizer.clone()).check(&data);
    let step = TrainStep::builder(&model, &loss, &optimizer).compile(&cpu());
    for error in [fit.unwrap_err(), step.map(|_| ()).unwrap_err()] {
        let told = error.to_string();
        assert!(told.contains("`Optimizer::accumulate`"), "{told}");
    }
}

/// Before anything is computed, without a device: a number that no epoch will have, two of one name.
#[test]
fn numbers_that_are_not_there_or_twice_are_refused_before_training() {
    let (model, data) = (regression(), curve(40));
    let fit = || {
        let fit = Fit::new(&model, Loss::mse(), adam(0.05)).validation(&data);
        fit.metric(Metric::mae())
    };
    let stop = |number: &str| fit().with(EarlyStop::on(number)).check(&data);
    assert!(stop("validation mae").is_ok() && stop("training loss").is_ok());
    let error = stop("validation mea").unwrap_err().to_string();
    assert!(error.contains("validation mae"), "{error}");
    let error = stop("accuracy").unwrap_err().to_string();
    assert!(error.contains("training loss"), "{error}");
    let twice = |metric: Metric| fit().metric(metric).check(&data);
    let error = twice(Metric::mae()).unwrap_err().to_string();
    assert!(error.contains("two numbers named `mae`"), "{error}");
    let named = fit().metric(Metric::mae().named("mae again")).test(&data);
    let outcome = named.epochs(1).run(&data, &cpu()).unwrap();
    let scores = &outcome.report.test[0];
    assert_eq!(scores.get("mae"), scores.get("mae again"));
    assert!(scores.get("mae").is_some());
}

#[test]
fn a_step_uploads_nothing_and_reads_nothing_back() {
    let (model, data) = (regression(), curve(100));
    let (loss, optimizer) = (Loss::mse(), adam(0.01));
    let step = TrainStep::builder(&model, &loss, &optimizer).batch(10);
    let mut step = step.compile_over(&data, &cpu()).unwrap();
    step.run(1).unwrap();
    let before = step.traffic();
    step.run(100).unwrap();
    let after = step.traffic();
    assert_eq!(before.uploaded, after.uploaded);
    assert_eq!(before.read_back, after.read_back);
    assert_eq!(step.steps(), 101);
}

#[test]
fn weights_are_saved_with_their_model() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    let (model, data) = (regression(), curve(64));
    let outcome = Fit::new(&model, Loss::mse(), adam(0.01))
        .run(&data, &cpu())
        .unwrap();
    outcome.weights[0].save(&model, &path).unwrap();
    let (again, weights) = Weights::load_model(&path, &Registry::standard()).unwrap();
    assert_eq!(weights, outcome.weights[0]);
    let run = |model: &Model, weights: &Weights, batch| {
        let net = Inference::new(model, weights, batch, &cpu()).unwrap();
        net.run_on(&data).unwrap()
    };
    assert_eq!(
        run(&model, &outcome.weights[0], 64),
        run(&again, &weights, 64)
    );
    // Begun from them, a run goes on from there.
    let more = Fit::new(&again, Loss::mse(), adam(0.0))
        .epochs(1)
        .from(&weights);
    assert_eq!(more.run(&data, &cpu()).unwrap().weights[0], weights);
}

#[test]
fn what_does_not_fit_is_said_before_anything_runs() {
    let (model, data) = (regression(), curve(20));
    let told = |fit: Fit<'_>, data: &Dataset| fit.run(data, &cpu()).unwrap_err().to_string();
    let fit = || Fit::new(&model, Loss::mse(), adam(0.01));
    let large = told(fit().batch(21), &data);
    assert!(large.contains("at most the 20 rows"), "{large}");
    let without = Dataset::new()
        .with("inputs", [3], vec![0.0f32; 60])
        .unwrap();
    let missing = told(fit(), &without);
    assert!(missing.contains("did you mean `inputs`"), "{missing}");
    let wide = Dataset::new().with("input", [4], vec![0.0f32; 80]).unwrap();
    let wide = told(fit(), &wide);
    assert!(
        wide.contains("training data, column input: found floats [4] a row; wanted floats [3]"),
        "{wide}"
    );
    let flat = Dataset::new().with("input", [3], vec![0.0f32; 96]).unwrap();
    let flat = flat.with("target", [], vec![0.0f32; 32]).unwrap();
    assert!(told(fit(), &flat).contains("column target"));
    let classes = Fit::new(&model, Loss::cross_entropy(), adam(0.01));
    let one = Dataset::new().with("input", [3], vec![0.0f32; 96]).unwrap();
    let one = one.with("target", [], vec![1u32; 32]).unwrap();
    let label = told(classes, &one);
    assert!(
        label.contains("column target: found 1 in row 0; wanted classes from 0 to 0"),
        "{label}"
    );
    // Files have integers below 0, which columns have as floats.
    let below = |target: Vec<f32>| {
        let data = Dataset::new().with("input", [3], vec![0.0f32; 96]).unwrap();
        let data = data.with("target", [], target).unwrap();
        let classes = Fit::new(&model, Loss::cross_entropy(), adam(0.01));
        let split = data.split_stratified("target", &[1.0, 1.0], 3);
        (told(classes, &data), split.unwrap_err().to_string())
    };
    let mut labels = vec![0.0f32; 32];
    labels[7] = -1.0;
    let (trained, split) = below(labels.clone());
    assert!(
        trained.contains("column target: found -1 in row 7; wanted classes from 0 to 0"),
        "{trained}"
    );
    assert!(
        split.contains("column target: found -1 in row 7; wanted classes"),
        "{split}"
    );
    labels[9] = 0.5;
    let (trained, split) = below(labels);
    assert!(
        trained.contains("found floats [] a row") && split.contains("found floats"),
        "{trained}\n{split}"
    );
    let output = told(
        Fit::new(&model, Loss::mse().of("logits"), adam(0.01)),
        &data,
    );
    assert!(output.contains("unknown output `logits`"), "{output}");
    assert!(told(fit().epochs(0), &data).contains("epochs"));
    let five = wide_of(&data);
    let validation = fit().batch(4).validation(&five);
    assert!(
        told(validation, &data).starts_with("validation data, column"),
        "validation"
    );
    let diverged = Fit::new(&model, Loss::mse(), Optimizer::new(Sgd::default(), 1e30));
    let diverged = told(diverged.batch(4), &data);
    assert!(diverged.contains("stopped being finite"), "{diverged}");
}

/// A file has many columns, and a model, a loss and a metric may each want another.
#[test]
fn who_wants_a_column_is_said_and_which_set_has_no_rows() {
    let (model, data) = (regression(), curve(20));
    let fit = || Fit::new(&model, Loss::mse(), adam(0.01)).batch(4);
    let told = |fit: Fit<'_>, data: &Dataset| fit.check(data).unwrap_err().to_string();
    let only = |name: &str, width: usize| {
        let numbers = vec![0.5f32; 20 * width];
        Dataset::new().with(name, [width], numbers).unwrap()
    };
    let cases = [
        (
            told(fit(), &only("target", 1)),
            "training data, model input: unknown column `input`; known: target",
        ),
        (
            told(fit(), &only("input", 3)),
            "training data, loss mse: unknown column `target`; known: input",
        ),
        (
            told(fit().metric(Metric::mae().against("price")), &data),
            "training data, metric mae: unknown column `price`; known: input, target",
        ),
        (
            told(fit().validation(&only("input", 3)), &data),
            "validation data, loss mse: unknown column `target`; known: input",
        ),
    ];
    for (told, wanted) in cases {
        assert_eq!(told, wanted);
    }
    let none = Dataset::new();
    let mut empty = vec![
        ("training", told(fit(), &none)),
        ("validation", told(fit().validation(&none), &data)),
        ("test", told(fit().test(&none), &data)),
    ];
    let (loss, rate) = (Loss::mse(), adam(0.01));
    let step = TrainStep::builder(&model, &loss, &rate).compile_over(&none, &cpu());
    empty.push(("training", step.unwrap_err().to_string()));
    for (set, told) in empty {
        let wanted = format!("{set} data, rows: found none; wanted at least one row");
        assert_eq!(told, wanted);
    }
    let weights = Weights::initial(&model, 1);
    let net = Inference::new(&model, &weights, 4, &cpu()).unwrap();
    let told = |data| net.run_on(data).unwrap_err().to_string();
    assert_eq!(told(&none), "rows: found none; wanted at least one row");
    assert_eq!(
        told(&only("x", 3)),
        "input: unknown column `input`; known: x"
    );
}

fn wide_of(data: &Dataset) -> Dataset {
    let rows = data.rows();
    Dataset::new()
        .with("input", [5], vec![0.0f32; 5 * rows])
        .unwrap()
}

#[test]
fn bytes_are_the_floats_that_they_stand_for() {
    let bytes: Vec<u8> = (0..64 * 16).map(|i| (i * 7 % 256) as u8).collect();
    let floats: Vec<f32> = bytes
        .iter()
        .map(|&b| f32::from(b) * (1.0 / 255.0f64) as f32)
        .collect();
    let labels: Vec<u32> = (0..64).map(|i| i % 2).collect();
    let data = |numbers: Numbers| {
        let data = Dataset::new().with("input", [1, 4, 4], numbers).unwrap();
        data.with("target", [], labels.clone()).unwrap()
    };
    let model = Model::sequential([1, 4, 4])
        .then(Conv2d::new(3, 3))
        .then(BatchNorm::new());
    let model = model
        .then(Relu)
        .then(Flatten)
        .then(Dropout::new(0.2))
        .then(Dense::new(2))
        .build()
        .unwrap();
    let run = |data: Dataset| {
        let fit = Fit::new(&model, Loss::cross_entropy(), adam(0.01))
            .batch(8)
            .epochs(3)
            .test(&data);
        fit.metric(Metric::accuracy()).run(&data, &cpu()).unwrap()
    };
    let (a, b) = (run(data(Numbers::bytes(bytes))), run(data(floats.into())));
    assert_eq!(a.weights, b.weights);
    assert_eq!(a.report.test, b.report.test);
}

#[test]
fn several_outputs_have_losses_of_their_own() {
    let model = Model::build(|m| {
        let x = m.input("input", [3]);
        let h = x.then(Dense::new(12)).tanh();
        m.output("value", h.layer("value", Dense::new(1)));
        m.output("sign", h.layer("sign", Dense::new(2)));
    });
    let (model, data) = (model.unwrap(), curve(128));
    let signs: Vec<u32> = (0..128)
        .map(|r| u32::from(data.column("target").unwrap().row(r)[0] > 0.0))
        .collect();
    let data = data.with("above", [], signs).unwrap();
    let loss = Loss::mse().of("value") + Loss::cross_entropy().of("sign").against("above") * 0.5;
    assert_eq!(loss.name(), "mse + 0.5 cross_entropy");
    let fit = Fit::new(&model, loss, adam(0.02)).epochs(30).test(&data);
    let fit = fit
        .metric(Metric::accuracy().of("sign").against("above"))
        .metric(Metric::r2().of("value"));
    let report = fit.run(&data, &cpu()).unwrap().report;
    assert!(report.test("accuracy").unwrap() > 0.9, "{:?}", report.test);
    assert!(report.test("r2").unwrap() > 0.8, "{:?}", report.test);
}

#[test]
fn the_gpu_trains_as_the_cpu_does() {
    let Some(gpu) = gpu() else { return };
    let (on_cpu, on_gpu) = (fitted(&cpu(), 2, 0), fitted(&gpu, 2, 0));
    for (a, b) in on_cpu.report.epochs.iter().zip(&on_gpu.report.epochs) {
        for (a, b) in a.training_loss.iter().zip(&b.training_loss) {
            assert!((a / b - 1.0).abs() < 1e-4, "{a} and {b}");
        }
    }
    for (a, b) in on_cpu.report.test.iter().zip(&on_gpu.report.test) {
        assert!((a.loss / b.loss - 1.0).abs() < 1e-3, "{a:?} and {b:?}");
    }
}

/// A sequence is one launch forward and one back, however long it is.
#[test]
fn a_sequence_takes_few_launches_and_is_learnt() {
    let launches = |steps: usize| {
        let model = Model::sequential([steps, 128]).then(Lstm::new(256).last());
        let model = model.then(Dense::new(1)).build().unwrap();
        let (loss, optimizer) = (Loss::mse(), adam(0.01));
        let step = TrainStep::builder(&model, &loss, &optimizer).batch(32);
        step.compile(&cpu()).unwrap().launches().len()
    };
    assert_eq!((launches(64), launches(3)), (LAUNCHES, LAUNCHES));
    // Whether the first of eight numbers is above 0: what a state has to carry to the end.
    let (rows, length) = (256, 8);
    let x: Vec<f32> = (0..rows * length)
        .map(|i| ((i * 37 % 101) as f32 / 50.0) - 1.0)
        .collect();
    let y: Vec<u32> = x.chunks(length).map(|x| u32::from(x[0] > 0.0)).collect();
    let data = Dataset::new().with("input", [length, 1], x).unwrap();
    let data = data.with("target", [], y).unwrap();
    let model = Model::sequential([length, 1]).then(Gru::new(16).bidirectional().last());
    let model = model.then(Dense::new(2)).build().unwrap();
    let fit = Fit::new(&model, Loss::cross_entropy(), adam(0.02))
        .epochs(30)
        .test(&data);
    let report = fit
        .metric(Metric::accuracy())
        .run(&data, &cpu())
        .unwrap()
        .report;
    assert!(report.test("accuracy").unwrap() > 0.95, "{:?}", report.test);
}

/// A training step of an LSTM under a dense layer.
const LAUNCHES: usize = 16;

#[test]
fn layers_of_rows_speak_of_rows() {
    let told = |layers: fn(Sequential) -> Sequential| {
        let model = layers(Model::sequential(Input::f32([3, 9])));
        model.build().unwrap_err().to_string()
    };
    for (error, wanted) in [
        (
            told(|m| m.then(Conv1d::new(4, 12))),
            "conv1d: found a window that reaches over 12, length 9",
        ),
        (
            told(|m| m.then(Conv1d::new(4, 3).groups(2))),
            "conv1d: found 3 channels and 4 filters in 2 groups",
        ),
        (
            told(|m| m.then(ConvTranspose1d::new(4, 2).padding(9))),
            "conv_transpose1d: found padding 9 of length 10",
        ),
        (
            told(|m| m.then(MaxPool1d::new(12))),
            "max_pool1d: found a window that reaches over 12, length 9",
        ),
        (
            told(|m| m.then(AvgPool1d::new(3).stride(0))),
            "avg_pool1d, stride along length: found 0",
        ),
        (
            told(|m| m.then(AdaptiveAvgPool1d { size: 0 })),
            "length of adaptive_avg_pool1d: found 0",
        ),
    ] {
        assert!(error.contains(wanted), "{error}");
        assert!(!error.contains("2d"), "{error}");
    }
}

/// Targets that were standardised are told in their own units; of several outputs the one with a score for each
/// class counts, whatever their names.
#[test]
fn trained_models_answer_in_the_words_of_their_table() {
    let text = "a,b,kind\n1,10,x\n2,30,y\n3,20,x\n4,40,y\n";
    let table = Table::parse(Path::new("kinds.csv"), text.as_bytes()).unwrap();
    let roles = |targets: &[&str]| Roles {
        inputs: vec!["a".into()],
        targets: targets.iter().map(|t| (*t).into()).collect(),
        ..Roles::default()
    };
    let schema = Schema::of(&table, &roles(&["b"])).unwrap();
    let model = Model::sequential([1]).then(Dense::new(1)).build().unwrap();
    let weights = Weights::initial(&model, 1);
    let net = Inference::new(&model, &weights, 4, &cpu()).unwrap();
    let inputs = schema.inputs(&table).unwrap();
    let plain = net.run(&[("input", inputs.as_slice().into())]).unwrap();
    let plain: Vec<f64> = plain["output"].iter().map(|&x| f64::from(x)).collect();
    let (mean, deviation) = schema.scales().unwrap()[0];
    assert_eq!(mean, 25.0);
    let reading = Reading::Table(schema);
    let trained = Trained {
        output: None,
        model,
        weights,
        reading,
    };
    let Answers::Numbers { names, rows } = trained.answer(&table, &cpu()).unwrap() else {
        panic!("classes");
    };
    assert_eq!(names, ["b"]);
    for (row, plain) in rows.iter().zip(plain) {
        let wanted = mean + plain * deviation;
        assert!((row[0] - wanted).abs() < 1e-4, "{row:?}, not {wanted}");
    }

    let schema = Schema::of(&table, &roles(&["kind"])).unwrap();
    let model = Model::build(|m| {
        let h = m.input("input", [1]).then(Dense::new(3)).relu();
        m.output("kind", h.then(Dense::new(2)));
        m.output("features", h);
    })
    .unwrap();
    let weights = Weights::initial(&model, 1);
    let reading = Reading::Table(schema);
    let trained = Trained {
        output: None,
        model,
        weights,
        reading,
    };
    let Answers::Classes(rows) = trained.answer(&table, &cpu()).unwrap() else {
        panic!("numbers");
    };
    assert!(
        rows.iter()
            .all(|(class, p)| ["x", "y"].contains(&class.as_str()) && *p >= 0.5)
    );
    // None has as many.
    let model = Model::sequential([1]).then(Dense::new(3)).build().unwrap();
    let weights = Weights::initial(&model, 1);
    let trained = Trained {
        output: None,
        model,
        weights,
        ..trained
    };
    let error = trained.answer(&table, &cpu()).unwrap_err().to_string();
    assert!(
        error.contains("outputs of the model: found output [3]; wanted one of 2"),
        "{error}"
    );
}

/// A layer is made of ops, and whoever has taken a layer knows nothing of them.
#[test]
fn layers_tell_of_misfits_by_their_own_names() {
    let layers: Vec<(Input, Arc<dyn Layer>)> = vec![
        (Input::u32([3]), Arc::new(Dense::new(4))),
        (Input::u32([3]), Arc::new(BatchNorm::new())),
        (Input::u32([3]), Arc::new(LayerNorm::new())),
        (Input::u32([3]), Arc::new(RmsNorm::default())),
        (Input::u32([4]), Arc::new(GroupNorm::new(2))),
        (Input::f32([4]), Arc::new(GroupNorm::new(0))),
        (Input::f32([4]), Arc::new(GroupNorm::new(3))),
        (Input::u32([3, 9]), Arc::new(InstanceNorm::default())),
        (Input::u32([3, 9]), Arc::new(GlobalMean)),
        (Input::u32([3, 9]), Arc::new(MultiHeadAttention::new(3))),
        (Input::u32([3, 9]), Arc::new(Lstm::new(4))),
        (Input::u32([3, 9]), Arc::new(Gru::new(4))),
        (
            Input::f32([3, 9, 9]),
            Arc::new(ConvTranspose2d {
                kernel: [1, 40_000],
                ..ConvTranspose2d::new(2, 2)
            }),
        ),
        (
            Input::f32([3, 9, 9]),
            Arc::new(ConvTranspose2d::new(2, 2).stride(32_768)),
        ),
        (
            Input::f32([3, 9]),
            Arc::new(ConvTranspose1d::new(4, 40_000)),
        ),
        (
            Input::f32([3, 9]),
            Arc::new(Conv1d::new(1 << 28, 1).padding(32_768)),
        ),
    ];
    for (input, layer) in layers {
        let kind = layer.kind();
        let told = Model::sequential(input).then(layer).build();
        let told = told.unwrap_err().to_string();
        let (_, told) = told.split_once("), ").unwrap();
        let place = told.split(": found").next().unwrap();
        let own = place == kind || place.starts_with(&format!("{kind}, "));
        assert!(own, "{kind}: {told}");
    }
    // A window of nothing is a setting, whatever the padding.
    for layer in [
        Arc::new(MaxPool2d::new(0).padding(1)) as Arc<dyn Layer>,
        Arc::new(AvgPool2d::new(0).padding(1)),
    ] {
        let told = Model::sequential([3, 9, 9]).then(layer).build();
        let told = told.unwrap_err();
        assert!(matches!(told, wgrad::Error::Setting { .. }), "{told}");
        assert!(told.to_string().contains("kernel along height"), "{told}");
    }
}

/// Sums, differences and products of wires broadcast examples; no example meets another one.
#[test]
fn wires_of_other_ranks_broadcast_by_example() {
    for (a, b, wanted) in [
        (&[][..], &[1][..], &[1][..]),
        (&[5], &[1, 5], &[1, 5]),
        (&[2], &[1, 2], &[1, 2]),
        (&[1], &[4, 1, 4], &[4, 1, 4]),
        (&[2], &[2, 2], &[2, 2]),
        (&[], &[3], &[3]),
    ] {
        let model = Model::build(|m| {
            let (x, y) = (m.input("a", Input::f32(a)), m.input("b", Input::f32(b)));
            m.output("sum", x + y);
            m.output("difference", y - x);
            m.output("product", x * y);
        })
        .unwrap();
        assert_eq!(model.output("sum").unwrap().extents, wanted);
        let net = Inference::new(&model, &Weights::initial(&model, 1), 5, &cpu()).unwrap();
        let [own, other] = [a, b].map(|extents| extents.iter().product::<usize>());
        let wave = |n: usize, step: f32| {
            (0..n)
                .map(|i| (i as f32 * step).sin())
                .collect::<Vec<f32>>()
        };
        let (x, y) = (wave(5 * own, 0.7), wave(5 * other, 1.3));
        let run = |from: usize, n: usize| {
            let (x, y) = (&x[from * own..][..n * own], &y[from * other..][..n * other]);
            net.run(&[("a", x.into()), ("b", y.into())]).unwrap()
        };
        let together = run(0, 5);
        for name in ["sum", "difference", "product"] {
            let all = together.get(name).unwrap();
            assert_eq!(all.shape()[1..], *wanted);
            for example in 0..5 {
                let alone = run(example, 1);
                let alone = alone.get(name).unwrap().index_axis(ndarray::Axis(0), 0);
                assert_eq!(
                    alone,
                    all.index_axis(ndarray::Axis(0), example),
                    "{name} of {a:?} and {b:?}"
                );
            }
        }
        let array = |extents: &[usize], values: &[f32]| {
            ndarray::ArrayD::from_shape_vec(extents, values.to_vec()).unwrap()
        };
        let [first, second] = [array(a, &x[..own]), array(b, &y[..other])];
        assert_eq!(
            together.get("sum").unwrap().index_axis(ndarray::Axis(0), 0),
            first + second
        );
    }
}

//! Experiments from files: what the configurations beside the examples say, trained, and what is said
//! of those that are wrong.

use std::path::{Path, PathBuf};

use wgrad::exec::{Choice, Device};
use wgrad::fit::{Experiment, Prepared};
use wgrad::model::Registry;

fn configs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/configs")
}

fn cpu() -> Device {
    Device::open(Choice::Cpu).unwrap()
}

fn prepared(name: &str, change: impl FnOnce(&mut Experiment)) -> Prepared {
    let mut experiment = Experiment::load(&configs().join(name)).unwrap();
    change(&mut experiment);
    experiment.prepare(None, &Registry::standard()).unwrap()
}

#[test]
fn the_diabetes_table_is_learned_in_its_own_units() {
    let run = prepared("diabetes.toml", |e| e.training.epochs = 60);
    assert_eq!(
        [run.training.rows(), run.validation.rows(), run.test.rows()],
        [309, 67, 66]
    );
    let mut epochs = 0;
    let outcome = run.run(&cpu(), |_| epochs += 1).unwrap();
    assert_eq!(epochs, outcome.report.epochs.len());
    let json = run.report(&outcome.report).unwrap();
    let value = |name: &str| {
        json["test"][name]
            .as_f64()
            .unwrap_or_else(|| panic!("{name}: {json}"))
    };
    // Progression goes from 25 to 346 with a deviation of 77; linear regression leaves some 55.
    assert!((40.0..70.0).contains(&value("rmse")), "{}", value("rmse"));
    assert!(
        (0.3..0.7).contains(&value("r2")) && value("mae") < value("rmse"),
        "{json}"
    );
    assert!(value("loss") < 1.0, "in deviations");
    assert_eq!(json["test_replicas"].as_array().unwrap().len(), 5);
    assert_eq!(json["name"], "diabetes");
}

#[test]
fn wines_are_told_apart_and_classes_have_names() {
    let run = prepared("wine.toml", |e| e.training.epochs = 30);
    let text = run.schema_text();
    assert!(
        text.contains("one of 3 classes: first, second, third"),
        "{text}"
    );
    let outcome = run.run(&cpu(), |_| {}).unwrap();
    assert!(
        outcome.report.test("accuracy").unwrap() > 0.9,
        "{:?}",
        outcome.report.test
    );
    assert!(outcome.report.test("f1").unwrap() > 0.9);
}

#[test]
fn a_text_is_foretold() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("text.txt");
    std::fs::write(&path, "the cat sat on the mat. ".repeat(120)).unwrap();
    let mut experiment = Experiment::load(&configs().join("char-transformer.toml")).unwrap();
    experiment.data.window = 16;
    experiment.data.apart = Some(4);
    experiment.training.epochs = 2;
    let run = experiment
        .prepare(Some(&path), &Registry::standard())
        .unwrap();
    let outcome = run.run(&cpu(), |_| {}).unwrap();
    let perplexity = outcome.report.test("perplexity").unwrap();
    assert!((1.0..6.0).contains(&perplexity), "{perplexity}");
}

/// A changed copy of a configuration, beside a changed copy of its table.
fn told_of_wine(toml: &[(&str, &str)], csv: &[(&str, &str)]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let changed = |name: &str, changes: &[(&str, &str)]| {
        let mut text = std::fs::read_to_string(configs().join(name)).unwrap();
        for (from, to) in changes {
            assert!(text.contains(from), "{name} has no {from}");
            text = text.replacen(from, to, 1);
        }
        std::fs::write(folder.path().join(name), text).unwrap();
    };
    changed("wine.toml", toml);
    changed("wine.csv", csv);
    let loaded = Experiment::load(&folder.path().join("wine.toml"));
    let run = loaded.and_then(|e| e.prepare(None, &Registry::standard()));
    let run = run.and_then(|r| r.run(&cpu(), |_| {}));
    run.map(|_| ()).unwrap_err().to_string()
}

#[test]
fn what_is_wrong_in_a_file_is_said_with_its_place() {
    for (change, wanted) in [
        (("units = 24", "unit = 24"), "layer 0, settings of dense"),
        (
            ("kind = \"gelu\"", "kind = \"gleu\""),
            "did you mean `gelu`",
        ),
        (("\"grower\"", "\"growers\""), "did you mean `grower`"),
        (("path = \"wine.csv\"", "path = \"wines.csv\""), "wines.csv"),
        (
            ("cross_entropy", "crossentropy"),
            "did you mean `cross_entropy`",
        ),
        (("\"adamw\"", "\"addamw\""), "did you mean `adamw`"),
        (("batch = 16", "batch = 1000"), "mini-batch: found 1000"),
        (("batch = 16", "batches = 16"), "unknown field `batches`"),
        (
            ("\"confusion\"", "\"confusions\""),
            "did you mean `confusion`",
        ),
        (("[0.6, 0.2, 0.2]", "[0.6, 0.4]"), "three shares"),
        (
            ("[0.6, 0.2, 0.2]", "[0.999, 0.0005, 0.0005]"),
            "a part without rows",
        ),
        (
            (
                "kind = \"cross_entropy\"",
                "kind = \"cross_entropy\"\ndelta = 2.0",
            ),
            "loss cross_entropy: found delta",
        ),
        (
            ("rate = 0.01", "rate = 0.01\nmomentum = 0.9"),
            "optimizer adamw: found momentum",
        ),
        (("epochs = 60", "epochs = 0"), "epochs: found 0"),
        (
            ("warm_up = 2", "warm_up = -1"),
            "warm_up of the schedule: found -1",
        ),
        (
            (
                "epochs = 60",
                "epochs = 60\nearly_stop = { on = \"accuracy\" }",
            ),
            "validation accuracy",
        ),
    ] {
        let error = told_of_wine(&[change], &[]);
        assert!(error.contains(wanted), "{change:?}: {error}");
    }
    let ragged = told_of_wine(&[], &[("14.23,", "14.23,1,")]);
    assert!(
        ragged.contains("wine.csv") && ragged.contains("fields"),
        "{ragged}"
    );
    let empty = told_of_wine(&[], &[("14.23,", ",")]);
    assert!(
        empty.contains("nothing in row 1, column `alcohol`"),
        "{empty}"
    );
    let nan = told_of_wine(&[], &[("14.23,", "NaN,")]);
    assert!(nan.contains("NaN in row 1, column `alcohol`"), "{nan}");
}

/// A table whose target is a line of x, and a model of one layer; `change` edits the configuration.
fn line(offset: f64, change: &[(&str, &str)]) -> wgrad::Result<(Prepared, tempfile::TempDir)> {
    let folder = tempfile::tempdir().unwrap();
    let rows = (0..120).map(|i| {
        let x = f64::from(i * 37 % 101) / 50.0 - 1.0;
        format!("{x},{},{}\n", offset + 3.0 * x, u8::from(x > 0.0))
    });
    let csv = String::from("x,y,sign\n") + &rows.collect::<String>();
    std::fs::write(folder.path().join("line.csv"), csv).unwrap();
    let mut toml = String::from(
        "[data]\npath = \"line.csv\"\ninputs = [\"x\"]\ntargets = [\"y\"]\n\
         [[model.layers]]\nkind = \"dense\"\nunits = 1\nname = \"head\"\n\
         [loss]\nkind = \"mse\"\n[optimizer]\nkind = \"adamw\"\nrate = 0.05\n\
         [training]\nepochs = 60\nbatch = 8\nmetrics = [\"r2\", \"rmse\"]\n",
    );
    for (from, to) in change {
        assert!(toml.contains(from), "{from}");
        toml = toml.replacen(from, to, 1);
    }
    let path = folder.path().join("line.toml");
    std::fs::write(&path, toml).unwrap();
    let run = Experiment::load(&path)?.prepare(None, &Registry::standard())?;
    Ok((run, folder))
}

#[test]
fn targets_far_from_zero_keep_their_digits_and_their_units() {
    let outputs = "units = 1\nname = \"head\"\n[[model.outputs]]\nname = \"z\"\nfrom = \"head\"\n";
    for change in [&[][..], &[("units = 1\nname = \"head\"\n", outputs)][..]] {
        let (run, _folder) = line(1e6, change).unwrap();
        let outcome = run.run(&cpu(), |_| {}).unwrap();
        let value = |name: &str| outcome.report.test(name).unwrap();
        assert!((0.99..=1.0).contains(&value("r2")), "{}", value("r2"));
        assert!(value("rmse") < 0.3, "{}", value("rmse"));
    }
}

#[test]
fn probabilities_are_learned_from_targets_as_they_are() {
    let change = [
        ("targets = [\"y\"]", "targets = [\"sign\"]"),
        ("\"mse\"", "\"binary_cross_entropy\""),
        ("[\"r2\", \"rmse\"]", "[\"binary_accuracy\", \"auc\"]"),
    ];
    let (run, _folder) = line(0.0, &change).unwrap();
    let outcome = run.run(&cpu(), |_| {}).unwrap();
    let loss = outcome.report.epochs.last().unwrap().training_loss[0];
    assert!((0.0..0.5).contains(&loss), "{loss}");
    assert!(outcome.report.test("accuracy").unwrap() > 0.9);
    assert!(outcome.report.test("auc").unwrap() > 0.95);
}

#[test]
fn what_would_be_passed_over_in_silence_is_refused() {
    let told = |change: &[(&str, &str)]| line(0.0, change).map(|_| ()).unwrap_err().to_string();
    let named = told(&[("[data]", "name = \"../up\"\n[data]")]);
    assert!(named.contains("it names a folder"), "{named}");
    let rate = told(&[("rate = 0.05", "rate = -1.0")]);
    assert!(rate.contains("learning rate: found -1"), "{rate}");
    let folder = tempfile::tempdir().unwrap();
    let text = folder.path().join("text.txt");
    std::fs::write(&text, "every letter counts. ".repeat(200)).unwrap();
    let mut experiment = Experiment::load(&configs().join("char-transformer.toml")).unwrap();
    experiment.model.layers[0].insert("rows".into(), 5.into());
    let error = experiment.prepare(Some(&text), &Registry::standard());
    let error = error.map(|_| ()).unwrap_err().to_string();
    assert!(error.contains("rows of layer 0: found 5"), "{error}");
    let wide = told_of_wine(&[("units = 3", "units = 9")], &[]);
    assert!(
        wide.contains("scores of the model: found 9; wanted 3"),
        "{wide}"
    );
}

#[test]
fn an_experiment_goes_on_from_its_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("checkpoint.safetensors");
    let run = prepared("wine.toml", |e| e.training.epochs = 4);
    let whole = run.run(&cpu(), |_| {}).unwrap();
    let kept = run.run_kept(&cpu(), (&file, false), |_| {}).unwrap();
    assert_eq!(kept.weights, whole.weights);
    let again = run.run_kept(&cpu(), (&file, true), |_| panic!("done already"));
    assert_eq!(again.unwrap().weights, whole.weights);
    // As a table that was changed meanwhile, or another split of it.
    let other = prepared("wine.toml", |e| {
        e.training.epochs = 4;
        e.training.seed += 1;
    });
    let refused = other.run_kept(&cpu(), (&file, true), |_| {}).unwrap_err();
    let text = refused.to_string();
    assert!(text.contains("seed") || text.contains("data"), "{text}");
}

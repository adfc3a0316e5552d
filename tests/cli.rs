//! The command as people use it: what it writes, and what it says to bad input.

mod common;

use std::fs;
use std::path::Path;

use assert_cmd::Command;
use serde_json::Value;
use wgrad::data::digits::{Part, generate};
use wgrad::data::idx::write_idx;
use wgrad::data::picture::write_png_grey;

fn wgrad() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_wgrad"));
    command.env_remove("MNIST_DIR").env_remove("RUST_LOG");
    command.env("WGRAD_CACHE", "");
    command
}

/// The four files of a small data set.
fn data(folder: &Path) {
    let train = generate(1, Part::Train, 120).unwrap();
    let test = generate(1, Part::Test, 30).unwrap();
    let at = |name: &str| folder.join(name);
    write_idx(
        &train,
        &at("train-images-idx3-ubyte"),
        &at("train-labels-idx1-ubyte"),
    )
    .unwrap();
    write_idx(
        &test,
        &at("t10k-images-idx3-ubyte"),
        &at("t10k-labels-idx1-ubyte"),
    )
    .unwrap();
}

/// What stands on standard error when the command must refuse.
fn refused(args: &[&str], folder: &Path) -> String {
    let output = wgrad().args(args).current_dir(folder).output().unwrap();
    let message = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{args:?}: {message}");
    assert!(!message.contains("panicked"), "{message}");
    assert!(
        !folder.join("runs").exists(),
        "{args:?} left something behind"
    );
    message
}

fn report(folder: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(folder.join("report.json")).unwrap()).unwrap()
}

#[test]
fn a_run_leaves_everything_it_promises() {
    let home = tempfile::tempdir().unwrap();
    data(home.path());
    let train = |out: &str, more: &[&str]| {
        wgrad()
            .current_dir(home.path())
            .args([
                "train", "--net", "mlp-30", "--data", ".", "--epochs", "2", "--device", "cpu",
            ])
            .args(["--seed", "9", "--out", out])
            .args(more)
            .assert()
            .success();
        report(&home.path().join(out))
    };
    let first = train("one", &[]);
    for key in [
        "device",
        "net",
        "seed",
        "epochs",
        "test_accuracy",
        "ensemble_accuracy",
        "steps_per_second",
        "wall_seconds",
        "weights_sha256",
        "launches_per_step",
    ] {
        assert!(first.get(key).is_some(), "report.json lacks {key}");
    }
    assert_eq!(first["seed"], 9);
    assert_eq!(first["epochs"].as_array().unwrap().len(), 2);
    for file in ["model.safetensors", "curves.svg", "misread.html"] {
        let length = fs::metadata(home.path().join("one").join(file))
            .unwrap()
            .len();
        assert!(length > 500, "{file}: {length} bytes");
    }
    // The same command again: the same weights. Another seed: others.
    assert_eq!(train("two", &[])["weights_sha256"], first["weights_sha256"]);
    let five = train("five", &["--replicas", "5"]);
    let member = train("member", &["--first-replica", "3"]);
    assert_eq!(five["weights_sha256"][3], member["weights_sha256"][0]);
    assert_eq!(five["weights_sha256"][0], first["weights_sha256"][0]);
    assert!(five["ensemble_accuracy"].is_number());

    // The model answers as it did while it was trained.
    let eval = wgrad()
        .current_dir(home.path())
        .args([
            "eval",
            "--model",
            "one/model.safetensors",
            "--data",
            ".",
            "--device",
            "cpu",
        ])
        .output()
        .unwrap();
    let said = String::from_utf8(eval.stdout).unwrap();
    let accuracy = first["test_accuracy"][0].as_f64().unwrap();
    assert!(
        said.contains(&format!("{accuracy:.2} %")),
        "{said} for {accuracy}"
    );

    // Any picture of a digit can be read.
    let digit = generate(1, Part::Test, 1).unwrap();
    write_png_grey(&home.path().join("digit.png"), 28, 28, digit.image(0)).unwrap();
    let predict = wgrad()
        .current_dir(home.path())
        .args([
            "predict",
            "--model",
            "one/model.safetensors",
            "digit.png",
            "--device",
            "cpu",
        ])
        .output()
        .unwrap();
    assert!(predict.status.success());
    let said = String::from_utf8(predict.stdout).unwrap();
    assert!(
        said.starts_with("digit.png: ") && said.contains('%'),
        "{said}"
    );
}

#[test]
fn a_configuration_file_trains() {
    let home = tempfile::tempdir().unwrap();
    data(home.path());
    let text = r#"
        [network]
        input = [1, 28, 28]
        cost = "quadratic"
        init = "scaled"
        layers = [{ type = "flatten" }, { type = "dense", units = 10 }, { type = "sigmoid" }]
        [train]
        epochs = 1
        learning_rate = 1.0
    "#;
    fs::write(home.path().join("tiny.toml"), text).unwrap();
    wgrad()
        .current_dir(home.path())
        .args([
            "train",
            "--config",
            "tiny.toml",
            "--data",
            ".",
            "--device",
            "cpu",
        ])
        .assert()
        .success();
    let report = report(&home.path().join("runs/tiny"));
    assert_eq!(
        (&report["net"], &report["synthetic"]),
        (&"tiny".into(), &false.into())
    );
}

#[test]
fn the_plan_is_shown_before_it_runs() {
    let home = tempfile::tempdir().unwrap();
    let plan = |args: &[&str]| {
        let output = wgrad()
            .current_dir(home.path())
            .args(["plan", "--net", "conv-dropout", "--device", "cpu"])
            .args(args)
            .output()
            .unwrap();
        assert!(output.status.success());
        String::from_utf8(output.stdout).unwrap()
    };
    let table = plan(&[]);
    assert!(
        table.contains("0.conv2d forward") && table.contains("read back"),
        "{table}"
    );
    let json: Value = serde_json::from_str(&plan(&["--json"])).unwrap();
    let fused = json["programs"]["train"].as_array().unwrap().len();
    let json: Value = serde_json::from_str(&plan(&["--json", "--no-fuse"])).unwrap();
    assert!(fused < json["programs"]["train"].as_array().unwrap().len());
}

#[test]
fn devices_are_listed() {
    let output = wgrad().arg("devices").output().unwrap();
    assert!(output.status.success());
    assert!(String::from_utf8(output.stdout).unwrap().starts_with("cpu"));
}

#[test]
fn the_doctor_examines_every_op() {
    let output = wgrad()
        .args(["doctor", "--device", "cpu", "--json"])
        .output()
        .unwrap();
    assert!(output.status.success());
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["healthy"], true);
    let ops = report["ops"].as_array().unwrap();
    assert_eq!(ops.len(), wgrad::ops::TABLE.len());
    assert!(ops.iter().all(|op| op["failure"].is_null()));
    assert!(report["training"]["worst"].as_f64().unwrap() == 0.0);
}

#[test]
fn bad_words_are_refused() {
    let home = tempfile::tempdir().unwrap();
    let says = |args: &[&str], parts: &[&str]| {
        let message = refused(args, home.path());
        for part in parts {
            assert!(message.contains(part), "{args:?} says: {message}");
        }
    };
    says(
        &["train", "--net", "mpl-30"],
        &["mpl-30", "did you mean `mlp-30`"],
    );
    says(&["train", "--device", "tpu"], &["tpu", "auto, cpu, gpu"]);
    says(&["train", "--device", "97"], &["adapter 97"]);
    says(&["train", "--epochs", "0"], &["epochs: found 0"]);
    says(&["train", "--batch", "0"], &["batch: found 0"]);
    says(
        &["train", "--batch", "10001"],
        &["batch: found 10001", "1 to 10000"],
    );
    says(&["train", "--lr", "nan"], &["learning rate: found NaN"]);
    says(&["train", "--lr", "-1"], &["learning rate: found -1"]);
    says(&["train", "--replicas", "0"], &["replicas: found 0"]);
    says(
        &["train", "--replicas", "99999"],
        &["replicas: found 99999"],
    );
    says(&["train", "--epochs", "99999999999999999999"], &["epochs"]);
    says(
        &["train", "--train-images", "0"],
        &["--train-images: found 0"],
    );
    says(&["train", "--train-images", "10001"], &["1 to 10000"]);
    says(
        &["train", "--data", "sinthetic"],
        &["did you mean `synthetic`"],
    );
    says(&["train", "--data", "nowhere"], &["nowhere"]);
    says(&["train", "--config", "none.toml"], &["none.toml"]);
    says(
        &["eval", "--model", "none.safetensors"],
        &["none.safetensors"],
    );
    says(&["frobnicate"], &["frobnicate"]);
}

#[test]
fn bad_files_are_refused() {
    let home = tempfile::tempdir().unwrap();
    let path = |name: &str| home.path().join(name);
    let says = |args: &[&str], parts: &[&str]| {
        let message = refused(args, home.path());
        for part in parts {
            assert!(message.contains(part), "{args:?} says: {message}");
        }
    };
    // An output folder that cannot be one.
    fs::write(path("file"), "x").unwrap();
    says(
        &["train", "--out", "file/run", "--device", "cpu"],
        &["file/run", "create the folder"],
    );
    // Truncated data.
    data(home.path());
    let images = fs::read(path("t10k-images-idx3-ubyte")).unwrap();
    fs::write(path("t10k-images-idx3-ubyte"), &images[..images.len() - 1]).unwrap();
    says(
        &["train", "--data", "."],
        &["t10k-images-idx3-ubyte", "bytes"],
    );
    fs::write(path("t10k-images-idx3-ubyte"), &images[1..]).unwrap();
    says(&["train", "--data", "."], &["t10k-images-idx3-ubyte"]);
    fs::write(path("t10k-images-idx3-ubyte"), &images).unwrap();
    // Models that are none.
    fs::write(path("model"), "not a model").unwrap();
    says(&["eval", "--model", "model"], &["model"]);
    fs::write(
        path("huge"),
        [u64::MAX.to_le_bytes().as_slice(), b"{}"].concat(),
    )
    .unwrap();
    says(&["eval", "--model", "huge"], &["huge"]);
    // A configuration that is none, and one whose sizes do not fit.
    fs::write(path("bad.toml"), "network = 3").unwrap();
    says(&["train", "--config", "bad.toml"], &["bad.toml"]);
    let layers = r#"layers = [{ type = "conv2d", filters = 3, kernel = [30, 3] }]"#;
    let text =
        format!("[network]\ninput = [1, 28, 28]\ncost = \"quadratic\"\ninit = \"he\"\n{layers}");
    fs::write(path("shape.toml"), text).unwrap();
    says(&["train", "--config", "shape.toml"], &["layer 0 (conv2d)"]);
    // A model for other images; pictures that are none.
    let text = "[network]\ninput = [1, 4, 4]\ncost = \"quadratic\"\ninit = \"he\"\n\
                layers = [{ type = \"flatten\" }, { type = \"dense\", units = 10 }]";
    fs::write(path("small.toml"), text).unwrap();
    says(
        &["train", "--config", "small.toml", "--data", "."],
        &["[1, 28, 28]", "[1, 4, 4]"],
    );
    wgrad()
        .current_dir(home.path())
        .args([
            "train", "--net", "mlp-30", "--data", ".", "--epochs", "1", "--device", "cpu",
        ])
        .args(["--out", "good"])
        .assert()
        .success();
    let model = "good/model.safetensors";
    fs::write(path("picture.png"), "no picture").unwrap();
    says(
        &["predict", "--model", model, "picture.png"],
        &["picture.png"],
    );
    write_png_grey(&path("blank.png"), 50, 40, &[7; 2000]).unwrap();
    says(
        &["predict", "--model", model, "blank.png"],
        &["blank.png", "contrast"],
    );
    let good = fs::read(path(model)).unwrap();
    fs::write(path("torn"), &good[..good.len() / 2]).unwrap();
    says(&["eval", "--model", "torn", "--data", "."], &["torn"]);
}

/// A run that is refused leaves an earlier one's files as they were.
#[test]
fn earlier_results_stay() {
    let home = tempfile::tempdir().unwrap();
    data(home.path());
    let train = |lr: &str| {
        wgrad()
            .current_dir(home.path())
            .args([
                "train", "--net", "mlp-30", "--data", ".", "--epochs", "1", "--device", "cpu",
            ])
            .args(["--lr", lr, "--out", "run"])
            .output()
            .unwrap()
    };
    assert!(train("0.5").status.success());
    let before = fs::read(home.path().join("run/model.safetensors")).unwrap();
    let exploded = train("1e38");
    assert_eq!(exploded.status.code(), Some(2));
    let message = String::from_utf8(exploded.stderr).unwrap();
    assert!(message.contains("stopped being finite"), "{message}");
    assert_eq!(
        fs::read(home.path().join("run/model.safetensors")).unwrap(),
        before
    );
}

/// A network that does not learn never improves on its first epoch.
#[test]
fn rules_end_a_run() {
    let home = tempfile::tempdir().unwrap();
    let epochs = |out: &str, rule: [&str; 2]| {
        wgrad()
            .current_dir(home.path())
            .args([
                "train",
                "--net",
                "mlp-30",
                "--data",
                "synthetic",
                "--device",
                "cpu",
            ])
            .args([
                "--train-images",
                "20",
                "--epochs",
                "9",
                "--lr",
                "0",
                "--out",
                out,
            ])
            .args(rule)
            .assert()
            .success();
        report(&home.path().join(out))["epochs"]
            .as_array()
            .unwrap()
            .len()
    };
    assert_eq!(epochs("stop", ["--stop-after", "2"]), 3);
    assert_eq!(epochs("halve", ["--halve-after", "1"]), 8);
    let args = ["plan", "--halve-after", "1", "--average-from", "2"];
    assert!(refused(&args, home.path()).contains("--average-from"));
}

#[test]
fn mixed_precision_wants_matrix_units() {
    let home = tempfile::tempdir().unwrap();
    for command in ["train", "bench", "doctor"] {
        let text = refused(
            &[command, "--device", "cpu", "--mixed-precision"],
            home.path(),
        );
        assert!(text.contains("matrix units"), "{text}");
    }
    assert!(!home.path().join("runs").exists());
}

#[test]
fn a_bench_tells_where_the_time_goes_and_can_tune() {
    let home = tempfile::tempdir().unwrap();
    let cache = home.path().join("cache");
    let bench = |device: &str, more: &[&str]| {
        let output = wgrad()
            .current_dir(home.path())
            .env("WGRAD_CACHE", &cache)
            .args(["bench", "--workloads", "D", "--replicas", "1"])
            .args(["--seconds", "0.01", "--profile", "--tune"])
            .args(["--device", device])
            .args(more)
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let json =
        |device: &str| -> Value { serde_json::from_str(&bench(device, &["--json"])).unwrap() };
    let launches = |report: &Value| {
        let profile = &report["timings"][0]["profile"];
        assert!(profile["step"].as_f64().unwrap() > 0.0, "{profile}");
        profile["launches"].as_array().unwrap().len()
    };
    let report = json("cpu");
    assert_eq!(launches(&report), 5);
    assert_eq!(report["timings"][0]["profile"]["clock"], "host");
    assert!(!report["device"].as_str().unwrap().contains("tuned"));
    assert!(bench("cpu", &[]).contains("each launch alone"));
    assert!(!cache.exists(), "the CPU keeps nothing");
    if common::gpu().is_none() {
        return;
    }
    let report = json("gpu");
    assert_eq!(launches(&report), 5);
    assert!(report["device"].as_str().unwrap().ends_with(", tuned"));
}

//! The command as people use it: what it writes, and what it says to bad input.

mod common;

use std::fs;
use std::path::Path;

use assert_cmd::Command;
use serde_json::Value;
use wgrad::data::Images;
use wgrad::data::digits::{Part, generate};
use wgrad::data::idx::write_idx;
use wgrad::data::picture::write_png_grey;
use wgrad::model_file::ModelFile;
use wgrad::train::Model;

fn wgrad() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_wgrad"));
    command.env_remove("MNIST_DIR").env_remove("RUST_LOG");
    command.env("WGRAD_CACHE", "");
    command
}

/// The four files of a small data set.
fn data(folder: &Path) {
    let part = |part, n| generate(1, part, n).unwrap();
    four(folder, &part(Part::Train, 120), &part(Part::Test, 30));
}

/// Four files of training and test images.
fn four(folder: &Path, train: &Images, test: &Images) {
    let at = |name: &str| folder.join(name);
    write_idx(
        train,
        &at("train-images-idx3-ubyte"),
        &at("train-labels-idx1-ubyte"),
    )
    .unwrap();
    write_idx(
        test,
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

/// A driver may compile for long: what is being done is told before it is done.
#[test]
fn the_doctor_says_what_it_is_at() {
    use wgrad::doctor::{Stage, checkup};
    let cpu = wgrad::exec::Device::open(wgrad::exec::Choice::Cpu).unwrap();
    let (mut begun, mut done, mut ops) = (vec![], 0, 0);
    checkup(&cpu, &mut |stage| match stage {
        Stage::Begun { what, part, of } => {
            done = if begun.last().is_some_and(|b| b == what) {
                done + 1
            } else {
                begun.push(what.to_owned());
                1
            };
            assert!(part == done && part <= of, "{what}: {part} of {of}");
        }
        Stage::Done(op) => {
            assert_eq!(begun.last().unwrap(), op.op);
            assert_eq!(done, 2 * op.cases, "{}", op.op);
            ops += 1;
        }
    })
    .unwrap();
    assert_eq!(ops, wgrad::ops::TABLE.len());
    assert_eq!(begun.first().unwrap(), "time of a launch");
    assert_eq!(begun.last().unwrap(), "training");
    assert_eq!(begun.len(), ops + 2);
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
    says(
        &["train", "--device", "97"],
        &["adapter 97", "--device cpu", "`wgrad devices`"],
    );
    says(
        &["train", "--validation", "randon"],
        &["did you mean `random`"],
    );
    says(
        &["train", "--classes", "9"],
        &["classes: found 9", "10 to 256"],
    );
    says(
        &["train", "--epochs", "0"],
        &["epochs: found 0", "\nhint: --epochs sets it\n"],
    );
    says(
        &["train", "--epochs", "-1"],
        &["invalid value '-1' for '--epochs"],
    );
    says(
        &["train", "--seed", "-1"],
        &["invalid value '-1' for '--seed"],
    );
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
    says(
        &["train", "--data", "nowhere"],
        &["nowhere", "hint: --data DIR, --data synthetic"],
    );
    says(
        &["book", "verify", "none.json"],
        &["MNIST_DIR", "hint: --data DIR, --data synthetic"],
    );
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

/// Small, quick and on the CPU.
fn train(folder: &Path, args: &[&str]) -> std::process::Output {
    wgrad()
        .current_dir(folder)
        .args(["train", "--device", "cpu", "--epochs", "1"])
        .args(args)
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// What cannot be read is said, and costs the others no answer.
#[test]
fn one_bad_picture_costs_no_other_its_answer() {
    let home = tempfile::tempdir().unwrap();
    data(home.path());
    let done = train(
        home.path(),
        &["--net", "mlp-30", "--data", ".", "--out", "run"],
    );
    assert!(done.status.success(), "{done:?}");
    let digits = generate(1, Part::Test, 2).unwrap();
    for (name, i) in [("one.png", 0), ("two.png", 1)] {
        write_png_grey(&home.path().join(name), 28, 28, digits.image(i)).unwrap();
    }
    fs::write(home.path().join("bad.png"), "no picture").unwrap();
    let predict = |pictures: &[&str]| {
        let output = wgrad()
            .current_dir(home.path())
            .args([
                "predict",
                "--device",
                "cpu",
                "--model",
                "run/model.safetensors",
            ])
            .args(pictures)
            .output()
            .unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (
            output.status.code(),
            text(output.stdout),
            text(output.stderr),
        )
    };
    let (code, answers, _) = predict(&["one.png", "two.png"]);
    assert_eq!(code, Some(0));
    let (code, some, errors) = predict(&["one.png", "bad.png", "gone.png", "two.png"]);
    assert_eq!((code, some), (Some(2), answers), "{errors}");
    assert!(
        errors.contains("bad.png") && errors.contains("gone.png"),
        "{errors}"
    );
    let (code, none, errors) = predict(&["bad.png"]);
    assert_eq!((code, none.as_str()), (Some(2), ""), "{errors}");
}

#[test]
fn a_model_that_is_not_finite_and_a_checkpoint_are_no_models() {
    let home = tempfile::tempdir().unwrap();
    data(home.path());
    let done = train(
        home.path(),
        &["--net", "mlp-30", "--data", ".", "--out", "run"],
    );
    assert!(done.status.success(), "{done:?}");
    let path = home.path().join("broken");
    // wgrad saves no such model; the file is another program's.
    let mut file = ModelFile::load(&home.path().join("run/model.safetensors")).unwrap();
    file.tensors[2].1.fill(f32::NAN);
    let name = file.tensors[2].0.clone();
    file.save(&path).unwrap();
    let digit = generate(1, Part::Test, 1).unwrap();
    write_png_grey(&home.path().join("digit.png"), 28, 28, digit.image(0)).unwrap();
    let asked = |model: &str| {
        [
            refused(&["eval", "--data", ".", "--model", model], home.path()),
            refused(&["predict", "--model", model, "digit.png"], home.path()),
        ]
    };
    for message in asked("broken") {
        let wanted = format!("NaN at index 0 of tensor `{name}`");
        assert!(message.contains(&wanted), "{message}");
    }
    let checkpoint = fs::read_dir(home.path().join("run/checkpoints")).unwrap();
    let files = checkpoint.map(|e| e.unwrap().path());
    let mut files = files.filter(|p| p.extension().is_some_and(|e| e == "safetensors"));
    let checkpoint = files.next().unwrap();
    for message in asked(checkpoint.to_str().unwrap()) {
        assert!(message.contains("found a checkpoint"), "{message}");
        assert!(
            message.contains("it writes a model.safetensors"),
            "{message}"
        );
    }
}

/// Images of `side` × `side` pixels, each marked by its label.
fn marked(side: usize, labels: Vec<u8>) -> Images {
    let size = side * side;
    let mut pixels = vec![0; labels.len() * size];
    for (image, &label) in pixels.chunks_exact_mut(size).zip(&labels) {
        image[usize::from(label) % size] = 255;
    }
    Images::new("", side, side, 256, pixels, labels).unwrap()
}

#[test]
fn a_sorted_file_is_warned_of_and_can_be_divided_by_chance() {
    let home = tempfile::tempdir().unwrap();
    let labels = |n: u8| (0..120u8).map(move |i| i / n).collect();
    four(home.path(), &marked(8, labels(12)), &marked(8, labels(12)));
    let run = |args: &[&str]| {
        let more = [&["--net", "mlp-30", "--data", "."], args].concat();
        let done = train(home.path(), &more);
        assert!(done.status.success(), "{done:?}");
        (text(&done.stdout), text(&done.stderr))
    };
    let counts = "100 training, 20 validation and 20 test images";
    let counts = counts.replace("20 test", "120 test");
    let (out, err) = run(&[]);
    assert!(out.contains(&counts), "{out}");
    let training = "warning: no training images of classes 9: a network cannot learn them";
    assert!(err.contains(training), "{err}");
    let validation = "warning: no validation images of classes 0, 1, 2, 3, 4, 5, 6, 7:";
    assert!(err.contains(validation), "{err}");
    assert!(err.contains("`--validation random`"), "{err}");
    let (out, err) = run(&["--validation", "random"]);
    assert!(out.contains(&counts), "{out}");
    assert!(!err.contains("no training images"), "{err}");
    // The book's digits are in no order.
    let (out, err) = {
        let done = train(home.path(), &["--net", "mlp-30", "--train-images", "100"]);
        (text(&done.stdout), text(&done.stderr))
    };
    let counts = "100 training, 2000 validation and 2000 test images (drawn by a program";
    assert!(out.contains(counts), "{out}");
    assert!(!err.contains("warning"), "{err}");
}

#[test]
fn outputs_follow_the_labels() {
    let home = tempfile::tempdir().unwrap();
    let letters: Vec<u8> = (0..104).map(|i| 1 + i % 26).collect();
    four(
        home.path(),
        &marked(28, letters.clone()),
        &marked(28, letters),
    );
    let done = train(
        home.path(),
        &["--net", "mlp-30", "--data", ".", "--out", "letters"],
    );
    assert!(done.status.success(), "{done:?}");
    let model = Model::load(&home.path().join("letters/model.safetensors")).unwrap();
    assert_eq!(model.network.outputs().unwrap(), 27);
    // A network of its own that knows ten digits.
    let config = |units: usize| {
        let text = format!(
            "[network]\ninput = [1, 28, 28]\ncost = \"quadratic\"\ninit = \"he\"\n\
             layers = [{{ type = \"flatten\" }}, {{ type = \"dense\", units = {units} }}, \
             {{ type = \"sigmoid\" }}]"
        );
        fs::write(home.path().join("own.toml"), text).unwrap();
    };
    let args = [
        "train", "--config", "own.toml", "--data", ".", "--device", "cpu",
    ];
    config(10);
    let message = refused(&args, home.path());
    assert!(
        message.contains("found 10 outputs for the 27 classes of IDX files"),
        "{message}"
    );
    assert!(message.contains("labels being 0 to 26"), "{message}");
    config(47);
    let message = refused(&args, home.path());
    assert!(
        message.contains("hint: --classes gives the data more classes"),
        "{message}"
    );
    let done = train(
        home.path(),
        &[
            "--config",
            "own.toml",
            "--data",
            ".",
            "--classes",
            "47",
            "--out",
            "own",
        ],
    );
    assert!(done.status.success(), "{done:?}");
    // And is asked about data that show fewer.
    let eval = [
        "eval",
        "--model",
        "own/model.safetensors",
        "--data",
        ".",
        "--device",
        "cpu",
    ];
    wgrad()
        .current_dir(home.path())
        .args(eval)
        .assert()
        .success();
}

/// What the user did not choose is not what they are told of.
#[test]
fn few_and_small_images_are_spoken_of_as_such() {
    let home = tempfile::tempdir().unwrap();
    let done = train(
        home.path(),
        &["--net", "mlp-30", "--train-images", "5", "--out", "five"],
    );
    assert!(done.status.success(), "{done:?}");
    assert_eq!(report(&home.path().join("five"))["batch"], 5);
    let args = ["train", "--train-images", "5", "--batch", "6"];
    let message = refused(&args, home.path());
    assert!(
        message.contains("batch: found 6; wanted 1 to 5"),
        "{message}"
    );

    let labels: Vec<u8> = (0..60).map(|i| i % 10).collect();
    four(home.path(), &marked(8, labels.clone()), &marked(8, labels));
    let message = refused(&["train", "--data", "."], home.path());
    assert!(
        message.contains(
            "images for conv-relu: found 8 x 8 pixels; wanted 16 x 16 at least; mlp-30 and \
             mlp-100 take any"
        ),
        "{message}"
    );
}

/// Words that begin with two dashes are for the command; the library is used without it.
#[test]
fn the_library_names_no_flags() {
    fn files(folder: &Path, found: &mut Vec<std::path::PathBuf>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true if path.ends_with("src/cli") => {}
                true => files(&path, found),
                false if path.extension().is_some_and(|e| e == "rs") => found.push(path),
                false => {}
            }
        }
    }
    let mut found = Vec::new();
    files(
        &Path::new(env!("CARGO_MANIFEST_DIR")).join("src"),
        &mut found,
    );
    assert!(found.len() > 100, "{}", found.len());
    for path in found {
        let code = fs::read_to_string(&path).unwrap();
        for (number, line) in code.lines().enumerate() {
            let is_flag = |at: usize| {
                let after = line[at + 2..].starts_with(|c: char| c.is_ascii_lowercase());
                let before = line[..at].ends_with([' ', '`', '(', '"']);
                // Variables of style sheets look the same.
                after && before && !line[..at].ends_with("var(") && !line[at..].contains(": ")
            };
            let comment = line.trim_start().starts_with("//");
            let flag = line.match_indices("--").any(|(at, _)| is_flag(at));
            assert!(
                comment || !flag,
                "{}:{}: {line}",
                path.display(),
                number + 1
            );
        }
    }
}

/// A program that runs without a desktop's environment is not told that this is an error.
#[test]
fn a_bare_environment_is_no_error() {
    let home = tempfile::tempdir().unwrap();
    let bare = |args: &[&str]| {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_wgrad"))
            .args(args)
            .current_dir(home.path())
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", home.path())
            .output()
            .unwrap();
        let err = text(&output.stderr);
        assert!(output.status.success(), "{args:?}: {err}");
        assert!(
            !err.lines().any(|l| l.starts_with("error")),
            "{args:?}: {err}"
        );
    };
    bare(&["devices"]);
    bare(&[
        "train",
        "--net",
        "mlp-30",
        "--train-images",
        "20",
        "--epochs",
        "1",
        "--out",
        "run",
    ]);
    bare(&["eval", "--model", "run/model.safetensors"]);
    let digit = generate(1, Part::Test, 1).unwrap();
    write_png_grey(&home.path().join("digit.png"), 28, 28, digit.image(0)).unwrap();
    bare(&["predict", "--model", "run/model.safetensors", "digit.png"]);
}

#[test]
fn a_backend_that_is_misspelt_is_named_and_an_empty_name_is_none() {
    let devices = |backend: Option<&str>| {
        let mut command = wgrad();
        match backend {
            Some(name) => command.env("WGPU_BACKEND", name),
            None => command.env_remove("WGPU_BACKEND"),
        };
        command.arg("devices").output().unwrap()
    };
    assert_eq!(devices(Some("")).stdout, devices(None).stdout);
    let wrong = devices(Some("vlukan"));
    assert_eq!(wrong.status.code(), Some(2));
    let message = text(&wrong.stderr);
    assert!(
        message.contains("`vlukan` (did you mean `vulkan`?)"),
        "{message}"
    );
    // Nor is the CPU taken instead.
    let home = tempfile::tempdir().unwrap();
    let args = ["train", "--net", "mlp-30", "--train-images", "20"];
    let mut command = wgrad();
    command
        .env("WGPU_BACKEND", "vlukan")
        .current_dir(home.path());
    command.args(args).assert().code(2);
}

/// The outputs of a command into a file of the system's that is always full.
#[cfg(target_os = "linux")]
fn full(folder: &Path, args: &[&str], out: bool, err: bool) -> std::process::Output {
    let full = || {
        fs::OpenOptions::new()
            .write(true)
            .open("/dev/full")
            .unwrap()
    };
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_wgrad"));
    command
        .args(args)
        .current_dir(folder)
        .env("WGRAD_CACHE", "")
        .env("RUST_LOG", "trace");
    if out {
        command.stdout(full());
    }
    if err {
        command.stderr(full());
    }
    let pipe = std::process::Stdio::piped;
    if !out {
        command.stdout(pipe());
    }
    if !err {
        command.stderr(pipe());
    }
    command.spawn().unwrap().wait_with_output().unwrap()
}

#[test]
#[cfg(target_os = "linux")]
fn output_that_cannot_be_written_ends_no_training() {
    let home = tempfile::tempdir().unwrap();
    let train = |out: &'static str| {
        [
            "train",
            "--net",
            "mlp-30",
            "--train-images",
            "20",
            "--epochs",
            "1",
            "--out",
            out,
        ]
    };
    let done = full(home.path(), &train("out"), true, false);
    assert_eq!(done.status.code(), Some(2));
    let message = text(&done.stderr);
    assert!(
        message.contains("cannot write standard output"),
        "{message}"
    );
    let done = full(home.path(), &train("err"), false, true);
    assert!(done.status.success(), "{done:?}");
    for folder in ["out", "err"] {
        let folder = home.path().join(folder);
        assert_eq!(report(&folder)["epochs"].as_array().unwrap().len(), 1);
        assert!(folder.join("misread.html").exists());
    }
    for refused in [
        &["eval", "--model", "none"][..],
        &["train", "--epochs", "0"],
        &["devices", "--frobnicate"],
    ] {
        let code = full(home.path(), refused, false, true).status.code();
        assert_eq!(code, Some(2), "{refused:?}");
    }
}

#[test]
#[cfg(unix)]
fn a_run_that_is_interrupted_says_how_to_go_on() {
    use std::io::{BufRead, BufReader, Read};
    use std::process::{Command, Stdio};

    let home = tempfile::tempdir().unwrap();
    let start = |args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_wgrad"));
        command
            .args(args)
            .current_dir(home.path())
            .env_remove("MNIST_DIR");
        command
            .env("WGRAD_CACHE", "")
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command.spawn().unwrap()
    };
    let interrupt = |child: &std::process::Child| {
        let id = child.id().to_string();
        let sent = Command::new("kill").args(["-INT", &id]).status().unwrap();
        assert!(sent.success());
    };
    let epochs = [
        "train",
        "--net",
        "mlp-30",
        "--train-images",
        "100",
        "--epochs",
        "100000",
        "--device",
        "cpu",
        "--out",
        "run",
    ];
    let mut child = start(&epochs);
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.any(|l| l.unwrap().starts_with("epoch  2/")));
    interrupt(&child);
    // Nobody reads the pipe any more, which ends nothing.
    drop(lines);
    let done = child.wait_with_output().unwrap();
    let err = text(&done.stderr);
    assert_eq!(done.status.code(), Some(130), "{err}");
    let command = format!("`wgrad {} --resume` goes on after epoch ", epochs.join(" "));
    assert!(err.contains(&command), "{err}");
    let told = err.split(&command).nth(1).unwrap().trim();
    // No half file is left, and the run goes on where it said.
    for entry in fs::read_dir(home.path().join("run/checkpoints")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(!name.ends_with(".part"), "{name}");
    }
    let mut child = start(&[&epochs[..], &["--resume"]].concat());
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let resumed = format!("resumed after epoch {told}");
    assert!(lines.any(|l| l.unwrap() == resumed), "{resumed}");
    interrupt(&child);
    assert_eq!(child.wait_with_output().unwrap().status.code(), Some(130));

    // Steps that take long: the first Ctrl-C waits for them, the second does not.
    let mut child = start(&[
        "train",
        "--net",
        "conv-dropout",
        "--batch",
        "5000",
        "--device",
        "cpu",
        "--out",
        "slow",
    ]);
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.any(|l| l.unwrap().contains("launches per step")));
    interrupt(&child);
    let mut err = child.stderr.take().unwrap();
    let mut said = String::new();
    let mut byte = [0];
    while !said.contains("at once") {
        err.read_exact(&mut byte).unwrap();
        said.push(char::from(byte[0]));
    }
    interrupt(&child);
    assert_eq!(child.wait().unwrap().code(), Some(130));
}

/// What Rust prints of an error that `main` returns.
#[test]
fn an_error_that_main_returns_is_its_message() {
    const ASKED: &str = "WGRAD_TEST_FAILS";
    let name = "an_error_that_main_returns_is_its_message";
    if std::env::var_os(ASKED).is_some() {
        let error = wgrad::train::Settings {
            epochs: 0,
            ..Default::default()
        };
        let main = || -> wgrad::Result<()> { error.check(10) };
        let code = std::process::Termination::report(main());
        assert_eq!(
            format!("{code:?}"),
            format!("{:?}", std::process::ExitCode::FAILURE)
        );
        return;
    }
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture"])
        .env(ASKED, "1")
        .output()
        .unwrap();
    let said = text(&output.stderr);
    let wanted = "Error: epochs: found 0; wanted 1 to 1000000\n";
    assert!(said.contains(wanted), "{said}");
}

/// Two wines without their growers.
const WINES: &str = "\
alcohol,malic_acid,ash,alcalinity_of_ash,magnesium,total_phenols,flavanoids,nonflavanoid_phenols,\
proanthocyanins,color_intensity,hue,od280_od315,proline
14.23,1.71,2.43,15.6,127,2.8,3.06,0.28,2.29,5.64,1.04,3.92,1065
13.71,5.65,2.45,20.5,95,1.68,0.61,0.52,1.06,7.7,0.64,1.74,740
";

/// A whole experiment from a file, with its table beside it.
#[test]
fn an_experiment_trains_from_its_file_alone() {
    let folder = tempfile::tempdir().unwrap();
    let config = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/configs/wine.toml");
    let config = config.to_str().unwrap();
    let out = folder.path().join("wine");
    let run = |arguments: &[&str]| {
        let all = [&["train", "--config", config, "--device", "cpu"], arguments].concat();
        wgrad()
            .args(all)
            .current_dir(folder.path())
            .output()
            .unwrap()
    };
    let output = run(&["--epochs", "12", "--replicas", "2", "--out", "wine"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    for wanted in [
        "107 rows for training",
        "target grower",
        "411 parameters",
        "test: accuracy 0.",
    ] {
        assert!(text.contains(wanted), "{wanted}: {text}");
    }
    let report: Value =
        serde_json::from_slice(&fs::read(out.join("report.json")).unwrap()).unwrap();
    assert!(report["test"]["accuracy"].as_f64().unwrap() > 0.8);
    assert_eq!(report["test_replicas"].as_array().unwrap().len(), 2);
    let model = ModelFile::load(&out.join("model-1.safetensors")).unwrap();
    assert!(model.extra["wgrad.reading"].contains("alcohol"));
    // The model answers the rows of a table that has its inputs alone.
    fs::write(folder.path().join("new.csv"), WINES).unwrap();
    let model = out.join("model.safetensors");
    let asked = [
        "predict",
        "--device",
        "cpu",
        "--model",
        model.to_str().unwrap(),
        "new.csv",
    ];
    let output = wgrad()
        .args(asked)
        .current_dir(folder.path())
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let rows: Vec<&str> = text.lines().collect();
    assert_eq!(rows.len(), 3, "{text}");
    assert!(
        rows[1].starts_with("1,first,0.") && rows[2].starts_with("2,third,0."),
        "{text}"
    );
    fs::write(folder.path().join("short.csv"), "alcohol,ash\n13,2\n").unwrap();
    let model = model.to_str().unwrap();
    let asked = ["predict", "--device", "cpu", "--model", model, "short.csv"];
    let short = wgrad()
        .args(asked)
        .current_dir(folder.path())
        .output()
        .unwrap();
    assert!(String::from_utf8_lossy(&short.stderr).contains("unknown column `malic_acid`"));
    // The same seed, the same weights.
    assert!(
        run(&["--epochs", "12", "--replicas", "2", "--out", "again"])
            .status
            .success()
    );
    let again = fs::read(folder.path().join("again/model.safetensors")).unwrap();
    assert_eq!(again, fs::read(out.join("model.safetensors")).unwrap());
    // What is done is not done again; with another setting it is refused, and without a checkpoint.
    let resumed = [
        "--epochs",
        "12",
        "--replicas",
        "2",
        "--out",
        "again",
        "--resume",
    ];
    assert!(run(&resumed).status.success());
    let model = folder.path().join("again/model.safetensors");
    assert_eq!(again, fs::read(&model).unwrap());
    let text = |output: std::process::Output| String::from_utf8(output.stderr).unwrap();
    let other = text(run(&[&resumed[..], &["--batch", "20"]].concat()));
    assert!(other.contains("mini-batch `20`"), "{other}");
    fs::remove_file(folder.path().join("again/checkpoint.safetensors")).unwrap();
    let none = text(run(&resumed));
    assert!(none.contains("a checkpoint to go on from"), "{none}");
    assert_eq!(again, fs::read(&model).unwrap());

    let elsewhere = tempfile::tempdir().unwrap();
    let refuse = |arguments: &[&str]| {
        let all = [&["train", "--config", config][..], arguments].concat();
        refused(&all, elsewhere.path())
    };
    assert!(refuse(&["--distort", "affine"]).contains("--distort"));
    assert!(refuse(&["--batch", "1000"]).contains("at most the 107 rows"));
    assert!(refuse(&["--data", "nowhere.csv"]).contains("nowhere.csv"));
}

/// An experiment on a folder of pictures: names of classes from folders to answers.
#[test]
fn pictures_of_a_folder_train_and_are_answered_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let picture = |name: &str, value: u8, side: usize| {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let pixels: Vec<u8> = (0..side * side)
            .map(|i| value + (i * 37 % 50) as u8)
            .collect();
        wgrad::data::picture::write_png_grey(&path, side, side, &pixels).unwrap();
    };
    for (class, value) in [("day", 200), ("night", 0)] {
        for i in 0..20 {
            picture(&format!("sky/{class}/{i}.png"), value + i % 5, 4);
        }
    }
    let toml = "[data]\nformat = \"images\"\nstratified = true\nsplit = [0.6, 0.2, 0.2]\n\
        [model]\nlayers = [{ kind = \"flatten\" }, { kind = \"dense\", units = 2 }]\n\
        [loss]\nkind = \"cross_entropy\"\n[optimizer]\nkind = \"sgd\"\nrate = 0.1\n\
        [training]\nepochs = 5\nbatch = 4\nmetrics = [\"accuracy\"]\n";
    fs::write(folder.path().join("sky.toml"), toml).unwrap();
    let run = |arguments: &[&str]| {
        let all = [arguments, &["--device", "cpu"]].concat();
        let output = wgrad().args(all).current_dir(folder.path()).output();
        output.unwrap()
    };
    let output = run(&[
        "train", "--config", "sky.toml", "--data", "sky", "--out", "out",
    ]);
    let text = String::from_utf8(output.stdout).unwrap();
    let wanted = [
        "1 × 4 × 4 bytes",
        "one of 2 classes: day, night",
        "test: accuracy 1.0000",
    ];
    assert!(wanted.iter().all(|wanted| text.contains(wanted)), "{text}");
    let report: Value =
        serde_json::from_slice(&fs::read(folder.path().join("out/report.json")).unwrap()).unwrap();
    assert_eq!(report["classes"], serde_json::json!(["day", "night"]));
    picture("new.png", 201, 4);
    picture("wide.png", 201, 5);
    picture("dark.png", 1, 4);
    let model = "out/model.safetensors";
    let output = run(&[
        "predict", "--model", model, "new.png", "wide.png", "dark.png",
    ]);
    let text = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert!(
        lines.len() == 2
            && lines[0].starts_with("new.png: day (")
            && lines[1].starts_with("dark.png: night ("),
        "{text}"
    );
    let refused = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && refused.contains("wide.png: found a picture of 5 × 5"));
}

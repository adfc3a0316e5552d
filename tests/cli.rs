//! The command as people use it: what it writes, and what it says to bad input.

mod common;

#[path = "cli/devices.rs"]
mod devices;
#[path = "cli/experiments.rs"]
mod experiments;
#[path = "cli/refusals.rs"]
mod refusals;

use std::fs;
use std::path::Path;

use assert_cmd::Command;
use serde_json::Value;
use wgrad::book::nn::Network;
use wgrad::book::train::Model;
use wgrad::data::Images;
use wgrad::data::digits::{Part, generate};
use wgrad::data::idx::write_idx;
use wgrad::data::picture::write_png_grey;
use wgrad::fit::Weights;
use wgrad::model::Registry;
use wgrad::model_file::ModelFile;

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

/// What the book's commands have trained is timed and leaves like any model; of an ensemble one is chosen.
#[test]
fn the_books_models_are_exported_and_timed() {
    let folder = tempfile::tempdir().unwrap();
    data(folder.path());
    let flags = ["--data", ".", "--net", "mlp-30"];
    let output = train(
        folder.path(),
        &[&flags[..], &["--replicas", "2", "--out", "two"]].concat(),
    );
    assert!(output.status.success(), "{}", text(&output.stderr));
    let model = "two/model.safetensors";
    let ask = |arguments: &[&str]| {
        let output = wgrad()
            .args(arguments)
            .current_dir(folder.path())
            .output()
            .unwrap();
        (
            output.status.success(),
            text(&output.stdout) + &text(&output.stderr),
        )
    };
    let (well, said) = ask(&[
        "bench",
        "--seconds",
        "0.02",
        "--device",
        "cpu",
        "--inference",
        model,
    ]);
    assert!(well && said.contains("examples/s"), "{said}");
    let export = ["export", "--model", model, "--onnx", "one.onnx"];
    for (network, wanted) in [
        (None, "--network: found none"),
        (Some("3"), "--network: found 3"),
    ] {
        let chosen = network.map_or(vec![], |network| vec!["--network", network]);
        let (well, said) = ask(&[&export[..], &chosen].concat());
        assert!(
            !well && said.contains(wanted) && said.contains("1 to 2"),
            "{said}"
        );
        assert!(!folder.path().join("one.onnx").exists());
    }
    let (well, said) = ask(&[&export[..], &["--network", "2"]].concat());
    assert!(
        well && said.contains("input [N, 1, 28, 28] -> output [N, 10], scores [N, 10]"),
        "{said}"
    );
    let known = Network::known_to(Registry::standard());
    let (_, networks) = Weights::load_networks(folder.path().join(model), &known).unwrap();
    let (_, loaded) = wgrad::onnx::import(folder.path().join("one.onnx")).unwrap();
    let first =
        |weights: &Weights, k: usize| weights.tensors()[k].1.iter().copied().collect::<Vec<f32>>();
    let all: Vec<Vec<f32>> = (0..loaded.tensors().len())
        .map(|k| first(&loaded, k))
        .collect();
    assert!(all.contains(&first(&networks[1], 0)) && !all.contains(&first(&networks[0], 0)));
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

//! A run that is killed again and again ends with the weights of one that never was.
//!
//! `WGRAD_KILLS=200 cargo test --test resume` kills more often than the default 20.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use wgrad::doctor::harness::words;

fn train(home: &Path, out: &str, more: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_wgrad"));
    command
        .current_dir(home)
        .env_remove("MNIST_DIR")
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .args([
            "train",
            "--net",
            "mlp-30",
            "--data",
            "synthetic",
            "--train-images",
            "1000",
        ])
        .args([
            "--epochs",
            "60",
            "--momentum",
            "0.3",
            "--replicas",
            "2",
            "--device",
            "cpu",
        ])
        .args(["--out", out])
        .args(more);
    command
}

/// A run on synthetic digits.
fn command(home: &Path, flags: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_wgrad"));
    command.current_dir(home).env_remove("MNIST_DIR");
    command.args(["train", "--data", "synthetic", "--device", "cpu"]);
    command.args(flags).stdout(Stdio::null());
    command
}

/// What a run in the folder `run` said, and whether it was done.
fn said(home: &Path, flags: &[&str]) -> (bool, String) {
    let mut command = command(home, flags);
    let command = command.args(["--out", "run"]).stdout(Stdio::piped());
    let output = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    let said = text(output.stdout) + &text(output.stderr);
    (output.status.success(), said)
}

/// The same of a short run of `mlp-30`.
fn short(home: &Path, more: &[&str]) -> (bool, String) {
    said(home, &[&["--net", "mlp-30"], more].concat())
}

fn report(home: &Path, out: &str) -> Value {
    let text = std::fs::read_to_string(home.join(out).join("report.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn checkpoints(home: &Path) -> Vec<String> {
    let Ok(folder) = std::fs::read_dir(home.join("killed/checkpoints")) else {
        return vec![];
    };
    let names = folder.map(|e| e.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.filter(|n| n.ends_with(".safetensors")).collect();
    names.sort();
    names
}

#[test]
fn killed_and_resumed_equals_never_killed() {
    let home = tempfile::tempdir().unwrap();
    let timed = |more: &[&str]| {
        let begun = std::time::Instant::now();
        assert!(
            train(home.path(), "whole", more)
                .status()
                .unwrap()
                .success()
        );
        begun.elapsed()
    };
    let whole = timed(&[]);
    // Resumed when all is done: what every start costs.
    let start = timed(&["--resume"]);
    let kills: usize = std::env::var("WGRAD_KILLS").map_or(20, |n| n.parse().unwrap());
    // Some die while they start, the others after a few epochs; in all they get about as
    // far as a whole run.
    let longest = start + whole.saturating_sub(start) * 2 / kills as u32;
    let (mut killed, mut torn) = (0, 0);
    for word in words(1, kills) {
        let mut child = train(home.path(), "killed", &["--resume"]).spawn().unwrap();
        std::thread::sleep(Duration::from_secs_f64(
            longest.as_secs_f64() * f64::from(word) / f64::from(u32::MAX),
        ));
        killed += usize::from(child.try_wait().unwrap().is_none());
        child.kill().unwrap();
        child.wait().unwrap();
        // Now and then the newest checkpoint is torn as well: the one before must do.
        let names = checkpoints(home.path());
        if word % 4 == 0 && names.len() == 2 {
            let path = home.path().join("killed/checkpoints").join(&names[1]);
            let bytes = std::fs::read(&path).unwrap();
            std::fs::write(&path, &bytes[..bytes.len() * (word as usize % 97) / 97]).unwrap();
            torn += 1;
        }
    }
    assert!(
        killed * 2 > kills,
        "only {killed} of {kills} died before they were done"
    );
    let last = train(home.path(), "killed", &["--resume"])
        .output()
        .unwrap();
    assert!(
        last.status.success(),
        "{}",
        String::from_utf8_lossy(&last.stderr)
    );
    let (whole, resumed) = (report(home.path(), "whole"), report(home.path(), "killed"));
    assert_eq!(whole["weights_sha256"], resumed["weights_sha256"]);
    assert_eq!(whole["test_accuracy"], resumed["test_accuracy"]);
    let costs = |r: &Value| -> Vec<Value> {
        r["epochs"]
            .as_array()
            .unwrap()
            .iter()
            .map(|e| e["training_cost"].clone())
            .collect()
    };
    assert_eq!(costs(&whole), costs(&resumed));
    println!("{killed} kills, {torn} checkpoints torn");
}

#[test]
fn a_torn_checkpoint_is_passed_over_with_a_warning() {
    let home = tempfile::tempdir().unwrap();
    let run = |more: &[&str]| train(home.path(), "killed", more).output().unwrap();
    assert!(run(&[]).status.success());
    let names = checkpoints(home.path());
    assert_eq!(names.len(), 2, "{names:?}");
    let path = home.path().join("killed/checkpoints").join(&names[1]);
    let bytes = std::fs::read(&path).unwrap();
    std::fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
    let before = report(home.path(), "killed");
    let resumed = run(&["--resume"]);
    let said = String::from_utf8(resumed.stderr).unwrap();
    assert!(resumed.status.success(), "{said}");
    assert!(said.contains("WARN") && said.contains(&names[1]), "{said}");
    assert_eq!(
        report(home.path(), "killed")["weights_sha256"],
        before["weights_sha256"]
    );
}

/// What a changed setting would replace stays, and the setting is named with both values.
#[test]
fn a_changed_setting_is_refused_by_name() {
    let home = tempfile::tempdir().unwrap();
    let few = ["--train-images", "200", "--epochs", "4"];
    let with = |more: &[&str]| short(home.path(), &[&few[..], more].concat());
    assert!(with(&[]).0);
    let before = report(home.path(), "run");
    std::fs::write(home.path().join("other.toml"), OTHER).unwrap();
    let (net, images) = (["--net", "mlp-30"], ["--train-images", "200"]);
    let same = [&net[..], &images].concat();
    for (others, changed, ours, theirs) in [
        (
            &same,
            ["--lr", "0.25"],
            "learning rates [0.25]",
            "learning rates [",
        ),
        (&same, ["--seed", "2"], "seed 2", "seed 1"),
        (&same, ["--momentum", "0.5"], "momentum 0.5", "momentum 0.0"),
        (&same, ["--batch", "20"], "batch 20", "batch 10"),
        (&same, ["--replicas", "2"], "replicas 2", "replicas 1"),
        (
            &same,
            ["--average-from", "2"],
            "average from 2",
            "average from none",
        ),
        (
            &same,
            ["--distort", "affine"],
            "distortion, rotation 10.0",
            "distortion, rotation 0.0",
        ),
        (
            &images.to_vec(),
            ["--config", "other.toml"],
            "units 100",
            "units 30",
        ),
        (
            &net.to_vec(),
            ["--train-images", "199"],
            "images 199 of",
            "images 200 of",
        ),
    ] {
        let flags = [&others[..], &changed, &["--epochs", "4", "--resume"]].concat();
        let (done, said) = said(home.path(), &flags);
        assert!(!done, "{flags:?}");
        let both = said.contains(ours) && said.contains(theirs);
        assert!(
            both && said.contains("run/checkpoints"),
            "{flags:?}: {said}"
        );
        assert_eq!(report(home.path(), "run"), before, "{flags:?}");
    }
    // Fewer epochs than it has had; more are gone on to.
    let (done, said) = short(
        home.path(),
        &["--train-images", "200", "--epochs", "2", "--resume"],
    );
    assert!(!done && said.contains("epochs: found 2"), "{said}");
    assert_eq!(report(home.path(), "run"), before);
    let (done, said) = short(
        home.path(),
        &["--train-images", "200", "--epochs", "6", "--resume"],
    );
    assert!(done && said.contains("resumed after epoch 4"), "{said}");
    let epochs = report(home.path(), "run")["epochs"]
        .as_array()
        .unwrap()
        .len();
    assert_eq!(epochs, 6);
    // A finished run whose checkpoints are gone is not replaced either.
    std::fs::remove_dir_all(home.path().join("run/checkpoints")).unwrap();
    let before = report(home.path(), "run");
    let (done, said) = with(&["--resume"]);
    assert!(!done && said.contains("without a checkpoint"), "{said}");
    assert_eq!(report(home.path(), "run"), before);
}

/// `mlp-30` of other units, with its settings.
const OTHER: &str = r#"
    [network]
    input = [1, 28, 28]
    cost = "cross_entropy"
    init = "scaled"
    layers = [
        { type = "flatten" },
        { type = "dense", units = 100 }, { type = "sigmoid" },
        { type = "dense", units = 10 }, { type = "sigmoid" },
    ]
    [train]
    learning_rates = [0.5, 0.5, 0.5, 0.5, 0.05]
    l2 = { per_example = 5.0 }
"#;

/// A run that begins anew in the folder of an earlier one is what a later `--resume` finds.
#[test]
fn a_fresh_run_is_not_answered_for_by_an_earlier_one() {
    let home = tempfile::tempdir().unwrap();
    let few = |epochs, more: &[&'static str]| {
        let flags = ["--train-images", "200", "--epochs", epochs];
        let (done, said) = short(home.path(), &[&flags[..], more].concat());
        assert!(done, "{said}");
        (report(home.path(), "run")["weights_sha256"].clone(), said)
    };
    let six = few("6", &[]).0;
    let two = few("2", &[]).0;
    assert_ne!(six, two);
    let (again, said) = few("2", &["--resume"]);
    assert!(said.contains("resumed after epoch 2"), "{said}");
    assert_eq!(again, two);
    // Nor by one of other settings.
    let other = few("2", &["--seed", "5"]).0;
    let (again, said) = few("2", &["--seed", "5", "--resume"]);
    assert!(said.contains("resumed after epoch 2"), "{said}");
    assert_eq!(again, other);
}

/// The second of two runs in one folder is refused; the first goes on, and when it has died the
/// folder is free and what it left half written goes.
#[test]
fn a_folder_is_one_runs() {
    let home = tempfile::tempdir().unwrap();
    let long = ["--net", "mlp-30", "--epochs", "100000", "--out", "run"];
    let mut first = command(home.path(), &long).spawn().unwrap();
    let checkpoints = home.path().join("run/checkpoints");
    let begun = std::time::Instant::now();
    while std::fs::read_dir(&checkpoints).map_or(0, Iterator::count) < 2 {
        assert!(begun.elapsed() < Duration::from_secs(120));
        std::thread::sleep(Duration::from_millis(20));
    }
    for seed in ["1", "2"] {
        for resume in [&[][..], &["--resume"]] {
            let (done, said) = short(home.path(), &[&["--seed", seed][..], resume].concat());
            assert!(!done && said.contains("run: found another run"), "{said}");
        }
    }
    assert!(first.try_wait().unwrap().is_none(), "the first goes on");
    first.kill().unwrap();
    first.wait().unwrap();
    let parts = [&checkpoints, &home.path().join("run")];
    for folder in parts {
        std::fs::write(folder.join(".wgrad-aB3xY9.part"), "half").unwrap();
    }
    let (done, said) = short(home.path(), &["--train-images", "200", "--epochs", "1"]);
    assert!(done, "{said}");
    for folder in parts {
        let names = std::fs::read_dir(folder).unwrap();
        let mut names = names.map(|e| e.unwrap().file_name().into_string().unwrap());
        assert!(names.all(|name| !name.ends_with(".part")));
    }
}

/// Several runs at once that name no folder each get one of their own.
#[test]
fn runs_that_name_no_folder_do_not_meet() {
    let home = tempfile::tempdir().unwrap();
    let flags = ["--net", "mlp-30", "--train-images", "50", "--epochs", "1"];
    let start = || command(home.path(), &flags).spawn().unwrap();
    let runs: Vec<_> = (0..4).map(|_| start()).collect();
    for mut run in runs {
        assert!(run.wait().unwrap().success());
    }
    for name in ["mlp-30", "mlp-30-2", "mlp-30-3", "mlp-30-4"] {
        let report = home.path().join("runs").join(name).join("report.json");
        assert!(report.exists(), "{name}");
    }
}

/// A run again from what its report says of it: by the command line, and by network, settings
/// and numbers of images.
#[test]
fn a_report_says_how_the_run_is_repeated() {
    use wgrad::book::nn::Network;
    use wgrad::book::train::{Settings, Trainer};
    use wgrad::data::Source;
    use wgrad::exec::{Choice, Device};
    let home = tempfile::tempdir().unwrap();
    let (done, text) = short(
        home.path(),
        &[
            "--train-images",
            "150",
            "--epochs",
            "3",
            "--batch",
            "7",
            "--lr",
            "0.3",
            "--momentum",
            "0.3",
            "--seed",
            "9",
            "--replicas",
            "2",
            "--first-replica",
            "3",
            "--distort",
            "affine",
            "--average-from",
            "2",
        ],
    );
    assert!(done, "{text}");
    let first = report(home.path(), "run");
    let command = first["command"].as_str().unwrap();
    let mut words = command.split(' ');
    assert_eq!(words.next(), Some("wgrad"));
    let other = tempfile::tempdir().unwrap();
    let mut again = Command::new(env!("CARGO_BIN_EXE_wgrad"));
    again.current_dir(other.path()).stdout(Stdio::null());
    assert!(again.args(words).status().unwrap().success(), "{command}");
    let second = report(other.path(), "run");
    assert_eq!(second["weights_sha256"], first["weights_sha256"]);

    let network = Network::from_json(&first["network"].to_string()).unwrap();
    let settings: Settings = serde_json::from_value(first["settings"].clone()).unwrap();
    let images = first["images"]["training"].as_u64().unwrap() as usize;
    assert_eq!((images, settings.momentum, settings.seed), (150, 0.3, 9));
    let data = Source::resolve(Some("synthetic")).unwrap().load().unwrap();
    let data = data.training_first(images).unwrap();
    assert_eq!(first["images"]["validation"], data.validation.len());
    assert_eq!(first["images"]["test"], data.test.len());
    let cpu = Device::open(Choice::Cpu).unwrap();
    let mut trainer = Trainer::new(&network, &data, &settings, &cpu).unwrap();
    trainer.run(&mut |_| {}).unwrap();
    let weights = trainer.model().unwrap().sha256();
    assert_eq!(first["weights_sha256"], serde_json::json!(weights));
    let by = format!("{} on {}", env!("CARGO_PKG_VERSION"), cpu.info().name);
    assert_eq!(first["origins"], serde_json::json!([by]));
}

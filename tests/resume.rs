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

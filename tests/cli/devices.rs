//! Plans, devices, the doctor, benchmarks.

use super::*;

#[test]
fn the_plan_is_shown_before_it_runs() {
    let home = tempfile::tempdir().unwrap();
    let plan_of = |net: &str, args: &[&str]| {
        let output = wgrad()
            .current_dir(home.path())
            .args(["plan", "--net", net, "--device", "cpu"])
            .args(args)
            .output()
            .unwrap();
        assert!(output.status.success());
        String::from_utf8(output.stdout).unwrap()
    };
    let plan = |args: &[&str]| plan_of("conv-dropout", args);
    let table = plan(&[]);
    assert!(
        table.contains("0.conv2d forward") && table.contains("read back"),
        "{table}"
    );
    assert!(table.contains("predicted for some GPU, which nobody has measured: "));
    // On a processor a plan has other kernels first; the card's are shown.
    let table = plan(&["--card", "h200"]);
    let launch = table.lines().find(|line| line.contains("8.dense forward"));
    let launch = launch.unwrap();
    assert!(launch.contains("matmul_slices"), "{launch}");
    let (_, total) = table.split_once("predicted for an H200: ").unwrap();
    let total: f64 = total.split(' ').next().unwrap().parse().unwrap();
    // 84 µs were measured.
    assert!((60.0..120.0).contains(&total), "{total}");
    // It is no single workgroup's; a small network is.
    let apart = "--whole-programs changes nothing: no single workgroup does ";
    assert!(table.contains(apart), "{table}");
    let small = plan_of("mlp-30", &["--card", "h200"]);
    let whole = "with --whole-programs: 12.4 µs a step in launches of 64 steps, 1024 threads a network, 16 buffers";
    assert!(small.contains(whole), "{small}");
    let told = ["bench", "--tune", "--whole-programs", "always"];
    assert!(refused(&told, home.path()).contains("--tune"));
    let said = refused(&["plan", "--card", "H2000"], home.path());
    assert!(
        said.contains("did you mean `H200`") && said.contains("generic"),
        "{said}"
    );
    let json: Value = serde_json::from_str(&plan(&["--json"])).unwrap();
    let fused = json["programs"]["train"].as_array().unwrap().len();
    let json: Value = serde_json::from_str(&plan(&["--json", "--no-fuse"])).unwrap();
    assert!(fused < json["programs"]["train"].as_array().unwrap().len());
}

/// A launch that is dispatched for each step of time counts as often in the account as in the list above it.
#[test]
fn dispatches_are_counted_for_the_card_that_is_asked_for() {
    let home = tempfile::tempdir().unwrap();
    let config = include_str!("../../examples/configs/char-lstm.toml");
    std::fs::write(home.path().join("lstm.toml"), config).unwrap();
    let text = "To be, or not to be, that is the question. ".repeat(200);
    std::fs::write(home.path().join("text"), text).unwrap();
    let output = wgrad()
        .current_dir(home.path())
        .args([
            "plan",
            "--config",
            "lstm.toml",
            "--data",
            "text",
            "--card",
            "h200",
        ])
        .output()
        .unwrap();
    let table = String::from_utf8(output.stdout).unwrap();
    let by_steps = |line: &&str| line.contains("lstm_step") && line.contains(" 64 x 32x4x1 ");
    assert_eq!(table.lines().filter(by_steps).count(), 2, "{table}");
    let first = |line: &str| line.split_whitespace().next().map(str::to_string);
    let listed = table
        .lines()
        .filter(|line| first(line).is_some_and(|n| n.parse::<u32>().is_ok()));
    let train = table
        .lines()
        .find(|line| line.starts_with("train "))
        .unwrap();
    let counted: usize = train.split_whitespace().nth(1).unwrap().parse().unwrap();
    assert_eq!(counted, listed.count() + 2 * 63, "{table}");
    assert!(
        table.starts_with("char-lstm, mini-batch 32, 1 replica(s), for H200"),
        "{table}"
    );
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

//! What is refused, by which words, and what a refusal leaves alone.

use super::*;

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
            message.contains("use the model that comes of it"),
            "{message}"
        );
    }
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

/// What Rust prints of an error that `main` returns.
#[test]
fn an_error_that_main_returns_is_its_message() {
    const ASKED: &str = "WGRAD_TEST_FAILS";
    let name = "refusals::an_error_that_main_returns_is_its_message";
    if std::env::var_os(ASKED).is_some() {
        let error = wgrad::book::train::Settings {
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

//! Experiments from files: tables and pictures.

use super::*;

/// Two wines without their growers.
const WINES: &str = "\
alcohol,malic_acid,ash,alcalinity_of_ash,magnesium,total_phenols,flavanoids,nonflavanoid_phenols,\
proanthocyanins,color_intensity,hue,od280_od315,proline
14.23,1.71,2.43,15.6,127,2.8,3.06,0.28,2.29,5.64,1.04,3.92,1065
13.71,5.65,2.45,20.5,95,1.68,0.61,0.52,1.06,7.7,0.64,1.74,740
";

/// What is asked of a model of the wine experiment: its numbers again, its plan, its speed.
fn asked_of_a_model(config: &str, out: &Path, found: &Value) {
    let model = out.join("model.safetensors");
    let model = model.to_str().unwrap();
    let ask = |arguments: &[&str]| {
        let all = [arguments, &["--device", "cpu"]].concat();
        let output = wgrad().args(all).current_dir(out).output().unwrap();
        let text = [output.stdout, output.stderr].map(|t| String::from_utf8(t).unwrap());
        (output.status.success(), text.concat())
    };
    let (well, text) = ask(&["eval", "--config", config, "--model", model]);
    let number = |name: &str, value: &Value| format!("{name} {:.4}", value.as_f64().unwrap());
    let loss = number("loss", &found["loss"]);
    let accuracy = number("accuracy", &found["metrics"]["accuracy"]);
    let test = text.lines().find(|line| line.starts_with("test, "));
    let test = test.unwrap_or_else(|| panic!("{text}"));
    assert!(
        well && test.contains(&loss) && test.contains(&accuracy),
        "{text}"
    );
    assert!(
        text.contains("validation, ") && !text.contains("confusion"),
        "{text}"
    );
    // Another model, or none that says how its data were read, is refused.
    let other = config.replace("wine", "diabetes");
    let (well, text) = ask(&["eval", "--config", &other, "--model", model]);
    assert!(!well && text.contains("another model than the experiment's: the input input [13] of f32; wanted the input input ["), "{text}");
    let (well, text) = ask(&["eval", "--model", model]);
    assert!(!well && text.contains("--config FILE"), "{text}");
    let table = config.replace("wine.toml", "wine.csv");
    let few: Vec<String> = fs::read_to_string(table)
        .unwrap()
        .lines()
        .map(String::from)
        .collect();
    fs::write(out.join("few.csv"), few[..150].join("\n")).unwrap();
    let (well, text) = ask(&[
        "eval", "--config", config, "--model", model, "--data", "few.csv",
    ]);
    assert!(
        !well
            && text.contains(
                "evaluated data: found another coding: the column alcohol, a number, mean 1"
            ),
        "{text}"
    );
    assert!(
        text.contains(
            "wanted that of the data that the model was trained on: the column alcohol, a number"
        ),
        "{text}"
    );

    let (well, text) = ask(&["plan", "--config", config]);
    for wanted in [
        "wine, mini-batch",
        "3 replica(s)",
        "train  ",
        "evaluate test",
        "state ",
    ] {
        assert!(well && text.contains(wanted), "{wanted}: {text}");
    }
    let asked = ["bench", "--seconds", "0.02", "--inference", model];
    let (well, text) = ask(&asked);
    assert!(
        well && text.contains("examples/s") && text.contains("\n     128 "),
        "{text}"
    );
}

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
    let page = fs::read_to_string(out.join("report.html")).unwrap();
    for wanted in [
        "<h1>wine</h1>",
        "validation accuracy",
        "class=\"confusion\"",
        "411 parameters",
    ] {
        assert!(page.contains(wanted), "{wanted}");
    }
    asked_of_a_model(config, &out, &report["test_replicas"][0]);
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
    assert!(other.contains("mini-batch 20"), "{other}");
    fs::remove_dir_all(folder.path().join("again/checkpoints")).unwrap();
    let none = text(run(&resumed));
    assert!(
        none.contains("a finished run without a checkpoint"),
        "{none}"
    );
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

/// Arrays by name: trained on, and answered from a file of another name.
#[test]
fn arrays_train_and_are_answered() {
    use safetensors::tensor::{Dtype, TensorView};
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let points: Vec<f32> = (0..80)
        .map(|i| ((i * 37 % 101) as f32 / 50.0) - 1.0)
        .collect();
    let classes: Vec<u8> = points.chunks(2).map(|p| u8::from(p[0] > p[1])).collect();
    let bytes: Vec<u8> = points.iter().flat_map(|x| x.to_le_bytes()).collect();
    let points = TensorView::new(Dtype::F32, vec![40, 2], &bytes).unwrap();
    let classes = TensorView::new(Dtype::U8, vec![40], &classes).unwrap();
    let all =
        safetensors::serialize([("points", points.clone()), ("side", classes)], None).unwrap();
    fs::write(at("all.safetensors"), all).unwrap();
    let new = safetensors::serialize([("others", points)], None).unwrap();
    fs::write(at("new.safetensors"), new).unwrap();
    let config = "[data]\nformat = \"arrays\"\ncolumns = { input = \"points\", target = \"side\" }\n\
                  [[model.layers]]\nkind = \"dense\"\nunits = 2\n[loss]\nkind = \"cross_entropy\"\n\
                  [optimizer]\nkind = \"adamw\"\nrate = 0.1\n[training]\nepochs = 30\nbatch = 8\n\
                  mixup = 0.1\nmetrics = [\"accuracy\"]\n";
    fs::write(at("sides.toml"), config).unwrap();
    let run = |arguments: &[&str]| {
        let output = wgrad()
            .args(arguments)
            .current_dir(folder.path())
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        (
            output.status.success(),
            text,
            String::from_utf8(output.stderr).unwrap(),
        )
    };
    let train = [
        "train",
        "--config",
        "sides.toml",
        "--device",
        "cpu",
        "--out",
        "sides",
    ];
    let (trained, text, errors) = run(&[&train[..], &["--data", "all.safetensors"]].concat());
    assert!(trained, "{errors}");
    for wanted in [
        "floats [2] a row, array points",
        "integers [] a row, array side",
        "test: accuracy ",
    ] {
        assert!(text.contains(wanted), "{wanted}: {text}");
    }
    let predict = [
        "predict",
        "--device",
        "cpu",
        "--model",
        "sides/model.safetensors",
    ];
    let (answered, text, errors) = run(&[&predict[..], &["new.safetensors"]].concat());
    assert!(answered, "{errors}");
    let rows: Vec<&str> = text.lines().collect();
    assert_eq!((rows.len(), rows[0]), (41, "row,class,probability"));
    let (refused, _, errors) = run(&[&predict[..], &["sides.toml"]].concat());
    assert!(!refused && errors.contains("the ending `toml`"), "{errors}");
    let (refused, _, errors) = run(&train);
    assert!(
        !refused && errors.contains("data: found no file"),
        "{errors}"
    );
}

//! Experiments from files: what the configurations beside the examples say, trained, and what is said
//! of those that are wrong.

use std::path::{Path, PathBuf};

use wgrad::data::Table;
use wgrad::exec::{Choice, Device};
use wgrad::fit::{Answers, Experiment, Prepared, Reading, Sample, Trained, Weights};
use wgrad::model::layers::{Dense, Embedding};
use wgrad::model::{Input, Model, Registry};
use wgrad::model_file::ModelFile;

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

/// A trunk from a file stays as it is, and a new head learns.
#[test]
fn a_trunk_is_begun_from_and_frozen() {
    let trained = prepared("wine.toml", |e| e.training.epochs = 3);
    let weights = trained.run(&cpu(), |_| {}).unwrap().weights.remove(0);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("trunk.safetensors");
    // Without the head, whose names another one takes.
    let (first, head) = ("dense.weight", "dense_2.weight");
    assert!(weights.get(head).is_ok());
    let trunk = weights.renamed(|name| (!name.starts_with("dense_2.")).then(|| name.into()));
    let stored = ModelFile {
        tensors: trunk.tensors().to_vec(),
        network_json: "{}".into(),
        extra: Default::default(),
    };
    stored.save(&file).unwrap();
    let tuned = |freeze: &[&str]| {
        prepared("wine.toml", |e| {
            e.training.epochs = 2;
            e.training.from = Some(file.clone());
            e.training.freeze = freeze.iter().map(|name| name.to_string()).collect();
        })
    };
    let run = |freeze: &[&str]| tuned(freeze).run(&cpu(), |_| {}).unwrap().weights.remove(0);
    let frozen = run(&["dense."]);
    assert_eq!(frozen.get(first).unwrap(), weights.get(first).unwrap());
    assert_eq!(
        frozen.get("dense.bias").unwrap(),
        weights.get("dense.bias").unwrap()
    );
    assert_ne!(frozen.get(head).unwrap(), weights.get(head).unwrap());
    assert_ne!(run(&[]).get(first).unwrap(), weights.get(first).unwrap());
    let refused = |change: &dyn Fn(&mut Experiment)| {
        let mut experiment = Experiment::load(&configs().join("wine.toml")).unwrap();
        change(&mut experiment);
        let refused = experiment.prepare(None, &Registry::standard()).unwrap_err();
        refused.to_string()
    };
    let said = refused(&|e| e.training.freeze = vec!["dens_2".into()]);
    assert!(
        said.starts_with("unknown parameter to freeze `dens_2`"),
        "{said}"
    );
    let said = refused(&|e| e.training.freeze = vec!["dense".into()]);
    assert!(said.contains("parameters that are left to train"), "{said}");
    // Beside the configuration.
    let said = refused(&|e| e.training.from = Some("no.safetensors".into()));
    let wanted = configs().join("no.safetensors");
    assert!(said.contains(&wanted.display().to_string()), "{said}");
}

#[test]
fn data_larger_than_the_device_take_turns_on_it() {
    let run = |shard_rows| {
        prepared("wine.toml", |e| {
            e.training.epochs = 4;
            e.training.shard_rows = shard_rows;
        })
    };
    let weights = |shard_rows| run(shard_rows).run(&cpu(), |_| {}).unwrap().weights;
    let whole = weights(None);
    // One shard of all rows is all rows; in several, rows come in another order.
    assert!(whole == weights(Some(1000)));
    assert!(whole != weights(Some(20)));
    let bytes = |shard_rows| {
        let plan = run(shard_rows).plan(&cpu()).unwrap();
        plan.account().state_bytes
    };
    assert!(bytes(Some(20)) < bytes(None));
    let none = told_of_wine(&[("[training]", "[training]\nshard_rows = 0")], &[]);
    assert!(none.contains("rows of a shard"), "{none}");
}

/// An experiment of a text that repeats itself, trained, and what its model says with that text.
fn of_text(name: &str, epochs: usize) -> (f64, Trained) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("text.txt");
    std::fs::write(&path, "the cat sat on the mat. ".repeat(120)).unwrap();
    let mut experiment = Experiment::load(&configs().join(name)).unwrap();
    experiment.data.window = 16;
    experiment.data.apart = Some(4);
    experiment.training.epochs = epochs;
    let run = experiment
        .prepare(Some(&path), &Registry::standard())
        .unwrap();
    let outcome = run.run(&cpu(), |_| {}).unwrap();
    let perplexity = outcome.report.test("perplexity").unwrap();
    let weights = outcome.weights[0].clone();
    let (model, reading) = (run.model, run.reading);
    let trained = Trained {
        output: None,
        model,
        weights,
        reading,
    };
    (perplexity, trained)
}

#[test]
fn a_text_is_foretold_and_gone_on_with() {
    let (perplexity, _) = of_text("char-transformer.toml", 2);
    assert!((1.0..6.0).contains(&perplexity), "{perplexity}");
    let (perplexity, trained) = of_text("char-lstm.toml", 4);
    assert!((1.0..1.2).contains(&perplexity), "{perplexity}");
    let sample = Sample {
        characters: 40,
        temperature: 0.0,
        ..Sample::after("the cat ")
    };
    // Past its window of 16 characters, too.
    let wanted = "the cat sat on the mat. the cat sat on the mat. ";
    assert_eq!(trained.sample(&sample, &cpu()).unwrap(), wanted);
    let drawn = |seed| {
        let temperature = 3.0;
        let sample = Sample {
            temperature,
            seed,
            ..sample.clone()
        };
        trained.sample(&sample, &cpu()).unwrap()
    };
    assert_eq!(drawn(1), drawn(1));
    assert_ne!(drawn(1), drawn(2));
    let refused = |sample: Sample| trained.sample(&sample, &cpu()).unwrap_err().to_string();
    let unknown = refused(Sample::after("the dog"));
    assert!(unknown.contains("beginning: found 'd'"), "{unknown}");
    let nothing = refused(Sample::after(""));
    assert!(nothing.contains("beginning: found nothing"), "{nothing}");
    let cold = refused(Sample {
        temperature: -1.0,
        ..sample.clone()
    });
    assert!(cold.contains("temperature: found -1"), "{cold}");
}

/// A sample is taken from the one output that scores characters, and from nothing else; a model that has none, several or
/// numbers that are not finite is refused, and so is a length that nobody waits for.
#[test]
fn samples_come_from_the_output_that_scores_characters() {
    let trained = |scores: &[&str], width: usize, weight: Option<f32>| {
        let model = Model::build(|m| {
            let x = m.input("input", Input::u32([8]));
            let x = x.layer("embedding", Embedding::new(3, 4));
            // The first by its name, with a number of each place and no score.
            m.output("aux", x.layer("aux", Dense::new(1)));
            for name in scores {
                m.output(name, x.layer(name, Dense::new(width)));
            }
        });
        let model = model.unwrap();
        let mut weights = Weights::initial(&model, 1);
        if let Some(weight) = weight {
            let tensors = weights.tensors().iter().cloned();
            let changed = tensors.map(|(name, values)| (name, values.mapv(|_| weight)));
            weights = Weights::from_tensors(changed.collect());
        }
        let reading = Reading::Text(vec!['a', 'b', 'c']);
        Trained {
            output: None,
            model,
            weights,
            reading,
        }
    };
    let sample = Sample {
        characters: 12,
        ..Sample::after("ab")
    };
    let text = trained(&["scores"], 5, None).sample(&sample, &cpu());
    assert_eq!(text.unwrap().chars().count(), 14);
    let told = |trained: Trained, sample: &Sample| {
        let refused = trained.sample(sample, &cpu());
        refused.unwrap_err().to_string()
    };
    let narrow = told(trained(&["scores"], 2, None), &sample);
    assert!(narrow.contains("found 0 outputs of scores"), "{narrow}");
    let several = told(trained(&["one", "two"], 3, None), &sample);
    assert!(several.contains("found 2 outputs of scores"), "{several}");
    let broken = told(trained(&["scores"], 3, Some(f32::NAN)), &sample);
    assert!(broken.contains("not finite after 2 characters"), "{broken}");
    let endless = Sample {
        characters: usize::MAX,
        ..sample
    };
    let endless = told(trained(&["scores"], 3, None), &endless);
    assert!(endless.contains("at most 1000000"), "{endless}");
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

/// What the loss looks at is what is measured, and what answers.
#[test]
fn of_several_outputs_the_losss_own_is_measured_and_answers() {
    let head = "units = 2\nname = \"head\"\n[[model.layers]]\nkind = \"affine\"\nname = \"turned\"\nscale = [-1.0]\nshift = [0.0]\n\
                [[model.outputs]]\nname = \"aux\"\nfrom = \"turned\"\n[[model.outputs]]\nname = \"main\"\nfrom = \"head\"\n";
    let (run, folder) = line(
        0.0,
        &[
            ("targets = [\"y\"]", "targets = [\"sign\"]\nclasses = true"),
            ("units = 1\nname = \"head\"\n", head),
            (
                "kind = \"mse\"",
                "kind = \"cross_entropy\"\nof = [\"main\"]",
            ),
            ("[\"r2\", \"rmse\"]", "[\"accuracy\"]"),
        ],
    )
    .unwrap();
    let outcome = run.run(&cpu(), |_| {}).unwrap();
    assert!(outcome.report.test("accuracy").unwrap() > 0.9);
    let trained = run.trained(outcome.weights[0].clone());
    let path = folder.path().join("model.safetensors");
    trained.save(&path).unwrap();
    let trained = Trained::load(&path, &Registry::standard()).unwrap();
    let rows = folder.path().join("rows.csv");
    std::fs::write(&rows, "x\n-0.9\n0.9\n").unwrap();
    let Answers::Classes(answers) = trained.answer(&Table::csv(&rows).unwrap(), &cpu()).unwrap()
    else {
        panic!("no classes");
    };
    assert_eq!([&*answers[0].0, &*answers[1].0], ["0", "1"]);
}

#[test]
fn a_schedule_of_no_steps_is_refused() {
    for every in ["0.0", "0.01"] {
        let schedule = format!(
            "rate = 0.05\nschedule = {{ kind = \"step\", every = {every}, factor = 0.5 }}\n"
        );
        let refused = line(0.0, &[("rate = 0.05\n", &schedule)]);
        let refused = refused.and_then(|(run, _folder)| run.run(&cpu(), |_| {}).map(drop));
        let refused = refused.unwrap_err().to_string();
        assert!(refused.contains("every of the schedule"), "{refused}");
    }
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
    // A part that is shorter than a window, by its name.
    let mut experiment = Experiment::load(&configs().join("char-transformer.toml")).unwrap();
    experiment.data.split = vec![0.99, 0.005, 0.005];
    let error = experiment.prepare(Some(&text), &Registry::standard());
    let error = error.map(|_| ()).unwrap_err().to_string();
    assert!(
        error.starts_with("validation part of the text, "),
        "{error}"
    );
    // What belongs to tables says nothing of a text, and the other way round.
    type Change = fn(&mut wgrad::fit::DataSetting);
    let of_tables: [(&str, Change); 6] = [
        ("inputs", |d| d.inputs = vec!["a".into()]),
        ("targets", |d| d.targets = vec!["a".into()]),
        ("words", |d| d.words = vec!["a".into()]),
        ("classes", |d| d.classes = true),
        ("stratified", |d| d.stratified = true),
        ("standardise", |d| d.standardise = false),
    ];
    for (name, change) in of_tables {
        let mut experiment = Experiment::load(&configs().join("char-transformer.toml")).unwrap();
        change(&mut experiment.data);
        let error = experiment.prepare(Some(&text), &Registry::standard());
        let error = error.map(|_| ()).unwrap_err().to_string();
        assert!(error.contains(&format!("data: found `{name}`")), "{error}");
    }
    let windows = told(&[("[data]\n", "[data]\nwindow = 5\n")]);
    assert!(windows.contains("data: found `window`"), "{windows}");
    // Before the first epoch, with what there is.
    let stop = "epochs = 60\nearly_stop = { on = \"validation rmsse\" }";
    let stop = told(&[("epochs = 60", stop)]);
    assert!(stop.contains("validation rmse"), "{stop}");
    let wide = told_of_wine(&[("units = 3", "units = 9")], &[]);
    assert!(
        wide.contains("scores of the model: found 9; wanted 3"),
        "{wide}"
    );
}

#[test]
fn an_experiment_goes_on_from_its_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let kept_in = folder.path().join("checkpoints");
    let run = prepared("wine.toml", |e| e.training.epochs = 4);
    let whole = run.run(&cpu(), |_| {}).unwrap();
    let kept = run.run_kept(&cpu(), (&kept_in, false), |_| {}).unwrap();
    assert_eq!(kept.weights, whole.weights);
    let again = run.run_kept(&cpu(), (&kept_in, true), |_| panic!("done already"));
    assert_eq!(again.unwrap().weights, whole.weights);
    // As a table that was changed meanwhile, or another split of it.
    let other = prepared("wine.toml", |e| {
        e.training.epochs = 4;
        e.training.seed += 1;
    });
    let refused = other
        .run_kept(&cpu(), (&kept_in, true), |_| {})
        .unwrap_err();
    let text = refused.to_string();
    assert!(text.contains("seed") || text.contains("data"), "{text}");
}

/// A PNG of noise around a colour, `size` × `size`.
fn picture(path: &Path, size: usize, colour: [u8; 3], seed: usize) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let file = std::fs::File::create(path).unwrap();
    let mut encoder = png::Encoder::new(file, size as u32, size as u32);
    encoder.set_color(png::ColorType::Rgb);
    let noise = |i: usize| ((i * 7919 + seed * 104_729) % 61) as u8;
    let values: Vec<u8> = (0..size * size * 3)
        .map(|i| colour[i % 3].saturating_add(noise(i)))
        .collect();
    let mut writer = encoder.write_header().unwrap();
    writer.write_image_data(&values).unwrap();
}

const COLOURS: [(&str, [u8; 3]); 3] = [
    ("blue", [0, 0, 190]),
    ("green", [0, 190, 0]),
    ("red", [190, 0, 0]),
];

const PICTURES: &str = "[data]\nformat = \"images\"\npath = \"things\"\nsplit = [0.8, 0.2, 0.1]\nstratified = true\n\
     [model]\nlayers = [{ kind = \"conv2d\", filters = 12, kernel = [3, 3] }, { kind = \"relu\" }, \
     { kind = \"global_mean\" }, { kind = \"dense\", units = 3 }]\n\
     [loss]\nkind = \"cross_entropy\"\n[optimizer]\nkind = \"adamw\"\nrate = 0.05\n\
     [training]\nepochs = 40\nbatch = 6\nmetrics = [\"accuracy\", \"confusion\"]\n";

/// A folder of three colours, ten pictures each for training and two for the test, and an experiment.
fn coloured(change: &[(&str, &str)]) -> (wgrad::Result<Prepared>, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    for (class, colour) in COLOURS {
        for (part, count) in [("train", 10), ("test", 2)] {
            for i in 0..count {
                let place = folder.path().join("things").join(part).join(class);
                picture(&place.join(format!("{i}.png")), 6, colour, i + 10 * count);
            }
        }
    }
    let mut toml = String::from(PICTURES);
    for (from, to) in change {
        assert!(toml.contains(from), "{from}");
        toml = toml.replacen(from, to, 1);
    }
    let path = folder.path().join("colours.toml");
    std::fs::write(&path, toml).unwrap();
    let run = Experiment::load(&path).and_then(|e| e.prepare(None, &Registry::standard()));
    (run, folder)
}

#[test]
fn pictures_of_a_folder_are_learned_and_classes_have_names() {
    let (run, folder) = coloured(&[]);
    let run = run.unwrap();
    let rows = [run.training.rows(), run.validation.rows(), run.test.rows()];
    assert_eq!(rows, [24, 6, 6]);
    let text = run.schema_text();
    for wanted in [
        "3 × 6 × 6",
        "one of 3 classes: blue, green, red",
        "channel 2",
    ] {
        assert!(text.contains(wanted), "{wanted}: {text}");
    }
    let outcome = run.run(&cpu(), |_| {}).unwrap();
    assert!(outcome.report.test("accuracy").unwrap() > 0.99);
    let json = run.report(&outcome.report).unwrap();
    assert_eq!(json["classes"], serde_json::json!(["blue", "green", "red"]));
    // The model goes through a file with names and standardisation, and answers other pictures.
    let trained = run.trained(outcome.weights[0].clone());
    let path = folder.path().join("model.safetensors");
    trained.save(&path).unwrap();
    let trained = Trained::load(&path, &Registry::standard()).unwrap();
    let at = |name: &str| folder.path().join(name);
    picture(&at("green.png"), 6, COLOURS[1].1, 77);
    picture(&at("large.png"), 7, COLOURS[0].1, 78);
    picture(&at("red.png"), 6, COLOURS[2].1, 79);
    let asked = [at("green.png"), at("large.png"), at("red.png")];
    let answers = trained.answer_pictures(&asked, &cpu()).unwrap();
    for (answer, wanted) in [(&answers[0], "green"), (&answers[2], "red")] {
        let (class, sure) = answer.as_ref().unwrap();
        assert!(
            class == wanted && *sure > 0.5 && *sure <= 1.0,
            "{class} {sure}"
        );
    }
    let refused = answers[1].as_ref().unwrap_err().to_string();
    assert!(
        refused.contains("large.png: found a picture of 7 × 7"),
        "{refused}"
    );
}

#[test]
fn channels_are_standardised_by_the_training_pictures_or_as_given() {
    let layer = |run: &Prepared| run.model.describe().unwrap().layers[0].clone();
    let (run, _folder) = coloured(&[]);
    let run = run.unwrap();
    let own = layer(&run);
    assert_eq!((&own["kind"], &own["axis"]), (&"affine".into(), &0.into()));
    let statistics = run.training.channel_statistics("image").unwrap();
    for (channel, (mean, deviation)) in statistics.into_iter().enumerate() {
        let number = |name: &str| own[name][channel].as_f64().unwrap();
        assert!((number("scale") * deviation - 1.0).abs() < 1e-12);
        assert!((number("shift") * deviation + mean).abs() < 1e-12);
    }
    let given = "[data]\nmean = [0.5, 0.25, 0.125]\ndeviation = [0.5, 0.25, 0.25]\n";
    let (run, _folder) = coloured(&[("[data]\n", given)]);
    let given = layer(&run.unwrap());
    assert_eq!(given["scale"], serde_json::json!([2.0, 4.0, 4.0]));
    assert_eq!(given["shift"], serde_json::json!([-1.0, -1.0, -0.5]));
    let (run, _folder) = coloured(&[("[data]\n", "[data]\nstandardise = false\n")]);
    assert_eq!(layer(&run.unwrap())["kind"], "conv2d");
}

/// Pictures are augmented in training alone: the epoch's evaluation of the training rows is that of a model
/// that never augments.
#[test]
fn pictures_are_mirrored_and_moved_while_training_alone() {
    let augment = [
        (
            "stratified = true\n",
            "stratified = true\n[data.augment]\nflip = true\ncrop = 2\n",
        ),
        ("epochs = 40", "epochs = 2"),
    ];
    let (run, _folder) = coloured(&augment);
    let run = run.unwrap();
    let layers = run.model.describe().unwrap().layers;
    assert_eq!(
        (&layers[0]["kind"], &layers[1]["kind"]),
        (&"augment".into(), &"affine".into())
    );
    let (plain, _plain_folder) = coloured(&augment[1..]);
    let plain = plain.unwrap();
    let [with, without] = [&run, &plain].map(|run| run.run(&cpu(), |_| {}).unwrap());
    let losses = |o: &wgrad::fit::Outcome| o.report.epochs[0].training_loss[0];
    assert_ne!(losses(&with), losses(&without));
    let again = run.run(&cpu(), |_| {}).unwrap();
    assert_eq!(losses(&with), losses(&again));
    // The same weights score the same pictures alike, with the layer and without it.
    let scores = |model| {
        let net = wgrad::fit::Inference::new(model, &with.weights[0], 6, &cpu()).unwrap();
        net.run_on(&run.test).unwrap()["output"].clone()
    };
    assert_eq!(scores(&run.model), scores(&plain.model));
}

#[test]
fn what_does_not_fit_a_folder_of_pictures_is_refused() {
    for (change, wanted) in [
        (
            ("[data]\n", "[data]\ntargets = [\"x\"]\n"),
            "data: found `targets`",
        ),
        (
            ("\"images\"", "\"csv\"\nsize = [8, 8]"),
            "data: found `size`",
        ),
        (
            ("[data]\n", "[data]\nmean = [0.5]\ndeviation = [0.5]\n"),
            "found 1 and 1; wanted 3 of both",
        ),
        (
            (
                "stratified = true\n",
                "stratified = true\n[data.augment]\ncrop = 6\n",
            ),
            "crop: found 6",
        ),
        (
            ("units = 3", "units = 4"),
            "scores of the model: found 4; wanted 3",
        ),
        (("things", "nothings"), "nothings"),
        (("[0.8, 0.2, 0.1]", "[0.8, 0.0, 0.1]"), "shares of a split"),
        (
            (
                "[data]\n",
                "[data]\nmean = [0.5, 0.5, 0.5]\ndeviation = [0.5, 0.0, 0.5]\n",
            ),
            "channel 1 of the pictures",
        ),
    ] {
        let error = coloured(&[change]).0.map(|_| ()).unwrap_err().to_string();
        assert!(error.contains(wanted), "{change:?}: {error}");
    }
    // The share of a part that has its folder is not looked at.
    assert!(
        coloured(&[("[0.8, 0.2, 0.1]", "[0.8, 0.2, 0.0]")])
            .0
            .is_ok()
    );
}

#[test]
fn residual_networks_have_the_weights_of_their_papers() {
    let folder = tempfile::tempdir().unwrap();
    for class in 0..10 {
        for i in 0..15 {
            let path = folder.path().join(format!("{class}/{i}.png"));
            picture(&path, 32, [class * 20; 3], i);
        }
    }
    for (config, parameters) in [
        // 432 of the stem, 13,824, 51,200 and 204,800 of the stages, 1,568 of the norms, 650 of the head.
        ("resnet-cifar10.toml", 272_474),
        // As Page says.
        ("resnet9-cifar10.toml", 6_573_120),
    ] {
        let mut experiment = Experiment::load(&configs().join(config)).unwrap();
        experiment.training.batch = 10;
        experiment.data.split = vec![0.8, 0.1, 0.1];
        let run = experiment
            .prepare(Some(folder.path()), &Registry::standard())
            .unwrap();
        assert_eq!(run.model.parameters(), parameters, "{config}");
    }
}

//! Experiments on arrays of NumPy and safetensors.

use std::path::{Path, PathBuf};

use wgrad::exec::{Choice, Device};
use wgrad::fit::{Experiment, Trained};
use wgrad::model::Registry;

fn configs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/configs")
}

fn cpu() -> Device {
    Device::open(Choice::Cpu).unwrap()
}

/// Writes an array as NumPy does: 4-byte floats, or signed integers of 8 bytes.
fn npy(shape: &str, numbers: &[f64], whole: bool) -> Vec<u8> {
    let descr = if whole { "<i8" } else { "<f4" };
    let header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}\n");
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((header.len() as u16).to_le_bytes());
    bytes.extend(header.as_bytes());
    for &x in numbers {
        match whole {
            true => bytes.extend((x as i64).to_le_bytes()),
            false => bytes.extend((x as f32).to_le_bytes()),
        }
    }
    bytes
}

/// Safetensors of 60 points on two rings, their classes, and their radii.
fn rings(path: &Path) -> Vec<f32> {
    use safetensors::tensor::{Dtype, TensorView};
    let points: Vec<f32> = (0..60)
        .flat_map(|i| {
            let (radius, angle) = (1.0 + (i % 2) as f32, i as f32 * 0.7);
            [radius * angle.cos(), radius * angle.sin()]
        })
        .collect();
    let bytes = |all: &[f32]| {
        all.iter()
            .flat_map(|x| x.to_le_bytes())
            .collect::<Vec<u8>>()
    };
    let classes: Vec<u8> = (0..60).map(|i| i % 2).collect();
    let radii: Vec<f32> = (0..60).map(|i| 1.0 + (i % 2) as f32).collect();
    let (of_points, of_radii) = (bytes(&points), bytes(&radii));
    let views = [
        (
            "points",
            TensorView::new(Dtype::F32, vec![60, 2], &of_points).unwrap(),
        ),
        (
            "ring",
            TensorView::new(Dtype::U8, vec![60], &classes).unwrap(),
        ),
        (
            "rings",
            TensorView::new(Dtype::U8, vec![60, 1], &classes).unwrap(),
        ),
        (
            "radius",
            TensorView::new(Dtype::F32, vec![60, 1], &of_radii).unwrap(),
        ),
    ];
    std::fs::write(path, safetensors::serialize(views, None).unwrap()).unwrap();
    points
}

fn of_arrays(columns: &str, loss: &str, units: usize) -> String {
    format!(
        "[data]\npath = \"rings.safetensors\"\nformat = \"arrays\"\nstratified = {}\n{columns}\n\
         [[model.layers]]\nkind = \"dense\"\nunits = 16\n[[model.layers]]\nkind = \"relu\"\n\
         [[model.layers]]\nkind = \"dense\"\nunits = {units}\n[loss]\nkind = \"{loss}\"\n\
         [optimizer]\nkind = \"adamw\"\nrate = 0.02\n[training]\nbatch = 10\nepochs = 60\n{}",
        loss == "cross_entropy",
        match loss {
            "cross_entropy" => "metrics = [\"accuracy\"]\n",
            _ => "metrics = [\"rmse\"]\n",
        }
    )
}

#[test]
fn arrays_are_columns_by_name() {
    use wgrad::data::Arrays;
    use wgrad::fit::Answers;
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name);
    let points = rings(&file("rings.safetensors"));
    let load = |text: &str| {
        std::fs::write(file("rings.toml"), text).unwrap();
        Experiment::load(&file("rings.toml"))
    };
    let prepare = |text: &str| load(text)?.prepare(None, &Registry::standard());
    let classes = "columns = { input = \"points\", target = \"ring\" }";
    let run = prepare(&of_arrays(classes, "cross_entropy", 2)).unwrap();
    let told = run.schema_text();
    for line in [
        "42 rows for training, 9 for validation, 9 for the test",
        "input  input                    floats [2] a row, array points",
        "target target                   integers [] a row, array ring",
    ] {
        assert!(told.contains(line), "{told}");
    }
    let outcome = run.run(&cpu(), |_| {}).unwrap();
    assert_eq!(outcome.report.test("accuracy"), Some(1.0));
    let trained = Trained {
        output: None,
        model: run.model.clone(),
        weights: outcome.weights[0].clone(),
        reading: run.reading.clone(),
    };
    let model = file("model.safetensors");
    trained.save(&model).unwrap();
    let trained = Trained::load(&model, &Registry::standard()).unwrap();
    assert_eq!(trained.reading, run.reading);
    // The file of training, and an array of another name that is alone in its file.
    let numbers: Vec<f64> = points.iter().map(|&x| x.into()).collect();
    std::fs::write(file("new.npy"), npy("(60, 2)", &numbers, false)).unwrap();
    for name in ["rings.safetensors", "new.npy"] {
        let arrays = Arrays::read(file(name)).unwrap();
        let Answers::Classes(rows) = trained.answer_arrays(&arrays, &cpu()).unwrap() else {
            panic!("classes");
        };
        let right = rows
            .iter()
            .enumerate()
            .filter(|(i, row)| row.0 == (i % 2).to_string());
        assert_eq!((rows.len(), right.count()), (60, 60));
    }
    // Two targets, of which the loss takes one; numbers are answered as they are.
    let numbers = "columns = { input = \"points\", target = \"radius\", ring = \"ring\" }";
    let run = prepare(&of_arrays(numbers, "mse", 1)).unwrap();
    let told = run.schema_text();
    for line in [
        "target target                   floats [1] a row, array radius",
        "unused ring                     integers [] a row",
    ] {
        assert!(told.contains(line), "{told}");
    }
    let outcome = run.run(&cpu(), |_| {}).unwrap();
    let found = outcome.report.test("rmse").unwrap();
    assert!(found < 0.35, "{found}");
    let trained = Trained {
        output: None,
        model: run.model.clone(),
        weights: outcome.weights[0].clone(),
        reading: run.reading.clone(),
    };
    let arrays = Arrays::read(file("new.npy")).unwrap();
    let Answers::Numbers { names, rows } = trained.answer_arrays(&arrays, &cpu()).unwrap() else {
        panic!("numbers");
    };
    assert_eq!((names, rows.len()), (vec!["output".to_string()], 60));
    assert!(
        rows.iter()
            .enumerate()
            .all(|(i, row)| (row[0] - 1.0 - (i % 2) as f64).abs() < 0.9)
    );
    // What does not fit is said by name.
    let refused = |name: &str, bytes: Vec<u8>| {
        std::fs::write(file(name), bytes).unwrap();
        let arrays = Arrays::read(file(name)).unwrap();
        trained
            .answer_arrays(&arrays, &cpu())
            .unwrap_err()
            .to_string()
    };
    let wide = refused("wide.npy", npy("(1, 3)", &[0.5; 3], false));
    assert!(
        wide.contains(
            "array wide: found floats [3] a row; wanted floats [2] a row, as in training"
        ),
        "{wide}"
    );
    let table = wgrad::data::Table::csv(configs().join("wine.csv")).unwrap();
    let other = trained.answer(&table, &cpu()).unwrap_err().to_string();
    assert!(other.contains("wanted a model of a table"), "{other}");
    let wrong = |text: &str| prepare(text).map(|_| ()).unwrap_err().to_string();
    let missing = wrong(&of_arrays(
        "columns = { input = \"pints\", target = \"ring\" }",
        "cross_entropy",
        2,
    ));
    assert!(
        missing.contains("unknown array `pints` (did you mean `points`?)"),
        "{missing}"
    );
    // Bytes of several axes become floats from 0 to 1, which nobody means by a target.
    let bytes = "columns = { input = \"points\", target = \"rings\" }";
    let bytes = wrong(&of_arrays(bytes, "mse", 1));
    assert!(
        bytes.contains("array rings: found bytes [1] a row"),
        "{bytes}"
    );
    let none = wrong(&of_arrays("", "cross_entropy", 2));
    assert!(
        none.starts_with("stratified: unknown column `target`"),
        "{none}"
    );
    let classes_of = wrong(&of_arrays(classes, "cross_entropy", 1));
    assert!(
        classes_of.contains("column target: found 1 in row"),
        "{classes_of}"
    );
    let standardise = format!("{classes}\nstandardise = false");
    let standardise = wrong(&of_arrays(&standardise, "cross_entropy", 2));
    assert!(standardise.contains("`standardise`"), "{standardise}");
    let table = of_arrays(classes, "cross_entropy", 2).replace("\"arrays\"", "\"csv\"");
    let table = wrong(&table);
    assert!(
        table.contains("`columns`") && table.contains("arrays"),
        "{table}"
    );
}

/// What NumPy has written, strings among it (`tests/fixtures/arrays.py`).
#[test]
fn arrays_beside_one_that_cannot_be_read_are_read() {
    use wgrad::data::Arrays;
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let arrays = Arrays::read(fixtures.join("arrays.npz")).unwrap();
    assert_eq!(arrays.get("floats").unwrap().0, [3, 2]);
    for (name, found) in [
        ("names", "array `names`: elements of type \"<U1\""),
        ("far", "array `far`: 4294967296"),
    ] {
        let refused = arrays.get(name).unwrap_err().to_string();
        assert!(refused.contains(found), "{refused}");
        let refused = arrays.dataset(&[("input", "floats"), ("target", name)]);
        assert!(refused.unwrap_err().to_string().contains(found));
    }
    // A file of nothing else says so at once.
    let folder = tempfile::tempdir().unwrap();
    let alone = folder.path().join("alone.npy");
    let mut bytes = npy("(2,)", &[0.0, 0.0], false);
    let at = bytes.windows(3).position(|three| three == b"<f4").unwrap();
    bytes[at..at + 3].copy_from_slice(b"<U1");
    std::fs::write(&alone, bytes).unwrap();
    let refused = Arrays::read(&alone).unwrap_err().to_string();
    assert!(
        refused.contains("array `alone`: elements of type"),
        "{refused}"
    );
}

/// A file of integers of 8 bytes, by name, extents and numbers.
fn integers(path: &Path, arrays: &[(&str, &[usize], Vec<i64>)]) {
    use safetensors::tensor::{Dtype, TensorView};
    let bytes: Vec<Vec<u8>> = arrays
        .iter()
        .map(|(.., all)| all.iter().flat_map(|x| x.to_le_bytes()).collect())
        .collect();
    let views = arrays
        .iter()
        .zip(&bytes)
        .map(|((name, extents, _), bytes)| {
            let view = TensorView::new(Dtype::I64, extents.to_vec(), bytes).unwrap();
            (*name, view)
        });
    std::fs::write(path, safetensors::serialize(views, None).unwrap()).unwrap();
}

#[test]
fn integers_are_floats_where_floats_are_wanted() {
    use wgrad::data::Arrays;
    use wgrad::fit::Answers;
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name);
    let write = |lowest: i64, target: &dyn Fn(i64) -> i64| {
        let points: Vec<i64> = (0..120).map(|i| lowest + i * 7 % 5).collect();
        let targets = (0..60).map(target).collect();
        integers(
            &file("rings.safetensors"),
            &[("points", &[60, 2], points), ("target", &[60, 1], targets)],
        );
    };
    let prepare = |text: &str| {
        std::fs::write(file("rings.toml"), text).unwrap();
        let experiment = Experiment::load(&file("rings.toml")).unwrap();
        experiment.prepare(None, &Registry::standard())
    };
    let columns = "columns = { input = \"points\", target = \"target\" }";
    let text = of_arrays(columns, "mse", 1).replace("epochs = 60", "epochs = 1");
    // Whether some are below 0 makes no difference, of inputs and of targets; nor whether the input is
    // declared.
    let declared = text.replacen(
        "[[model.layers]]",
        "[[model.inputs]]\nextents = [2]\n[[model.layers]]",
        1,
    );
    for lowest in [0, -2] {
        write(lowest, &|i| lowest + i % 3);
        for text in [&text, &declared] {
            let run = prepare(text).unwrap();
            let told = run.schema_text();
            for line in ["floats [2] a row, array points", "floats [1] a row"] {
                assert!(told.contains(line), "{told}");
            }
            let trained = Trained {
                output: None,
                model: run.model.clone(),
                weights: run.run(&cpu(), |_| {}).unwrap().weights[0].clone(),
                reading: run.reading.clone(),
            };
            let answer = |numbers: &[f64], whole: bool| -> wgrad::Result<Vec<Vec<f64>>> {
                std::fs::write(file("new.npy"), npy("(1, 2)", numbers, whole)).unwrap();
                let arrays = Arrays::read(file("new.npy")).unwrap();
                match trained.answer_arrays(&arrays, &cpu())? {
                    Answers::Numbers { rows, .. } => Ok(rows),
                    Answers::Classes(_) => panic!("numbers"),
                }
            };
            for point in [[1.0, 2.0], [-1.0, 2.0]] {
                let (whole, floats) = (answer(&point, true), answer(&point, false));
                assert_eq!(whole.unwrap(), floats.unwrap());
            }
            let large = answer(&[16_777_217.0, 0.0], true).unwrap_err().to_string();
            assert!(large.contains("found 16777217 in row 0"), "{large}");
        }
    }
    // A layer that looks up words takes the same numbers as words.
    let embedding =
        "kind = \"embedding\"\nrows = 5\nwidth = 4\n[[model.layers]]\nkind = \"flatten\"";
    let words = text.replacen("kind = \"dense\"\nunits = 16", embedding, 1);
    write(0, &|i| i % 3);
    let run = prepare(&words).unwrap();
    assert!(run.schema_text().contains("integers [2] a row"));
    write(-1, &|i| i % 3);
    let below = prepare(&words).map(drop).unwrap_err().to_string();
    assert!(below.contains("column input: found -1 in row "), "{below}");
    let trained = Trained {
        output: None,
        weights: wgrad::fit::Weights::initial(&run.model, 1),
        model: run.model,
        reading: run.reading,
    };
    std::fs::write(file("new.npy"), npy("(2, 2)", &[1.0, 2.0, 0.0, -3.0], true)).unwrap();
    let arrays = Arrays::read(file("new.npy")).unwrap();
    let below = trained
        .answer_arrays(&arrays, &cpu())
        .unwrap_err()
        .to_string();
    assert!(
        below.contains("array new: found -3 in row 1; wanted integers from 0 on"),
        "{below}"
    );
}

/// Whoever has a file does not see the parts that it is split into.
#[test]
fn rows_are_told_by_their_numbers_in_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name);
    for stratified in ["stratified = true", "stratified = false"] {
        for wrong in [3, 17, 59] {
            let points: Vec<i64> = (0..120).map(|i| i % 5).collect();
            let mut labels: Vec<i64> = (0..60).map(|i| i % 2).collect();
            labels[wrong] = 7;
            integers(
                &file("rings.safetensors"),
                &[("points", &[60, 2], points), ("ring", &[60], labels)],
            );
            let columns = "columns = { input = \"points\", target = \"ring\" }";
            let text =
                of_arrays(columns, "cross_entropy", 2).replace("stratified = true", stratified);
            std::fs::write(file("rings.toml"), text).unwrap();
            let experiment = Experiment::load(&file("rings.toml")).unwrap();
            let told = experiment.prepare(None, &Registry::standard());
            let told = told.map(drop).unwrap_err().to_string();
            let wanted =
                format!("column target: found 7 in row {wrong} of the file; wanted classes");
            assert!(told.contains(&wanted), "{told}");
        }
    }
}

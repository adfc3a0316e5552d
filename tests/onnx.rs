//! ONNX: the models of `tests/pytorch_models.rs` go out, come back and compute the same; files that PyTorch
//! has written come in; onnxruntime computes what this crate does, where a Python with it is named by
//! `WGRAD_PYTHON`.
#![cfg(feature = "onnx")]

mod common;
#[path = "onnx/more.rs"]
mod more;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use common::fixtures::{Tensor, load};
use ndarray::ArrayD;
use safetensors::SafeTensors;
use serde::Deserialize;
use serde_json::json;
use wgrad::exec::{Choice, Device};
use wgrad::fit::{Inference, Loss, TrainStep, Weights};
use wgrad::interchange::{self, Operator};
use wgrad::model::layers::Function;
use wgrad::model::{Model, Registry, Scope};
use wgrad::onnx;
use wgrad::ops::concat::Concat;
use wgrad::ops::lrn::Lrn;
use wgrad::ops::pointwise::pointwise;
use wgrad::ops::slice::Slice;
use wgrad::ops::{Tape, Value};
use wgrad::optim::{Optimizer, Sgd};
use wgrad::tensor::Host;

/// A model of `tests/fixtures/pytorch_models.py`.
#[derive(Deserialize)]
struct Case {
    name: String,
    model: serde_json::Value,
}

/// A model with weights and examples.
struct Example {
    name: String,
    model: Model,
    weights: Weights,
    /// Inputs by name, all examples one after the other.
    inputs: Vec<(String, Host)>,
    rows: usize,
    /// How far two ways to compute its outputs may be apart, as a part of the largest.
    allowed: f64,
}

fn examples() -> Vec<Example> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/models.safetensors");
    let bytes = std::fs::read(path).unwrap();
    let (_, metadata) = SafeTensors::read_metadata(&bytes).unwrap();
    let models = &metadata.metadata().as_ref().unwrap()["models"];
    let cases: Vec<Case> = serde_json::from_str(models).unwrap();
    let fixtures = load("models");
    let cases = cases.into_iter().map(|case| example(case, &fixtures));
    cases.chain(more::examples()).collect()
}

fn example(case: Case, fixtures: &BTreeMap<String, Tensor>) -> Example {
    let text = case.model.to_string();
    let model = Model::from_json(&text, &Registry::standard()).unwrap();
    let prefix = format!("{}/after/", case.name);
    let tensors = fixtures.iter().filter_map(|(name, tensor)| {
        let name = name.strip_prefix(&prefix)?.to_string();
        let values = ArrayD::from_shape_vec(tensor.shape.as_slice(), tensor.floats());
        Some((name, values.unwrap()))
    });
    let weights = Weights::from_tensors(tensors.collect());
    let mut inputs = Vec::new();
    let mut rows = 0;
    for (name, _) in model.inputs() {
        let column = &fixtures[&format!("{}/column/{name}", case.name)];
        rows = column.shape[0] * column.shape[1];
        inputs.push((name.to_string(), column.host.clone()));
    }
    let long = ["attention", "transformer", "lstm", "gru", "rnn"];
    let allowed = match long.iter().any(|kind| text.contains(kind)) {
        true => 1e-4,
        false => 1e-5,
    };
    Example {
        name: case.name,
        model,
        weights,
        inputs,
        rows,
        allowed,
    }
}

impl Example {
    /// The inputs of the first so many examples.
    fn first(&self, rows: usize) -> Vec<(String, Host)> {
        let part = |host: &Host| match host {
            Host::F32(all) => Host::F32(all[..all.len() / self.rows * rows].to_vec()),
            Host::U32(all) => Host::U32(all[..all.len() / self.rows * rows].to_vec()),
        };
        let inputs = self.inputs.iter();
        inputs
            .map(|(name, host)| (name.clone(), part(host)))
            .collect()
    }
}

fn outputs(
    model: &Model,
    weights: &Weights,
    inputs: &[(String, Host)],
    device: &Device,
) -> BTreeMap<String, ArrayD<f32>> {
    let net = Inference::new(model, weights, 4, device).unwrap();
    let views: Vec<_> = inputs
        .iter()
        .map(|(name, host)| (name.as_str(), host.view()))
        .collect();
    net.run(&views).unwrap()
}

/// The largest difference, as a part of the largest value.
fn apart(found: &ArrayD<f32>, wanted: &ArrayD<f32>) -> f64 {
    assert_eq!(found.shape(), wanted.shape());
    assert!(found.iter().all(|x| x.is_finite()));
    let most = wanted
        .iter()
        .fold(0.0f64, |m, &x| m.max(f64::from(x.abs())));
    let pairs = found.iter().zip(wanted);
    let gap = pairs.fold(0.0f64, |m, (&a, &b)| m.max(f64::from((a - b).abs())));
    gap / most.max(1e-3)
}

fn cpu() -> Device {
    Device::open(Choice::Cpu).unwrap()
}

/// A folder of the test's own, empty.
fn folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

/// Models of the fixtures that opset 17 does not have, and why.
const REFUSED: &[(&str, &str)] = &[(
    "triplet",
    "ONNX, output: found a; wanted names of inputs and outputs that differ, as values of ONNX have one",
)];

#[test]
fn models_go_out_and_come_back() {
    let device = cpu();
    let mut refused = Vec::new();
    let mut compared = 0;
    let mut worst = (0.0, String::new());
    for example in examples() {
        let name = &example.name;
        let network = match onnx::network(&example.model, &example.weights) {
            Ok(network) => network,
            Err(e) => {
                refused.push((example.name, e.to_string()));
                continue;
            }
        };
        let bytes = onnx::to_bytes(&network);
        let read = onnx::of_bytes(&bytes).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(read.operators, network.operators, "{name}");
        assert_eq!(read.weights, network.weights, "{name}");
        assert_eq!(read.inputs, network.inputs, "{name}");
        let (model, weights) = onnx::model(&read).unwrap_or_else(|e| panic!("{name}: {e}"));
        // Every weight keeps its name and its values.
        let names = |w: &Weights| {
            let mut names: Vec<String> = w.tensors().iter().map(|(n, _)| n.clone()).collect();
            names.sort();
            names
        };
        assert_eq!(names(&weights), names(&example.weights), "{name}");
        for (weight, values) in weights.tensors() {
            assert_eq!(
                values,
                example.weights.get(weight).unwrap(),
                "{name}, {weight}"
            );
        }
        // It is described, and what is described computes the same.
        let text = model.to_json().unwrap();
        let again = Model::from_json(&text, &onnx::registry()).unwrap();
        let wanted = outputs(&example.model, &example.weights, &example.inputs, &device);
        for model in [&model, &again] {
            let found = outputs(model, &weights, &example.inputs, &device);
            assert_eq!(found.len(), wanted.len(), "{name}");
            for (output, wanted) in &wanted {
                let gap = apart(&found[output], wanted);
                assert!(gap < 1e-5, "{name}, output {output}: {gap:e} apart");
                if gap > worst.0 {
                    worst = (gap, name.clone());
                }
                compared += 1;
            }
        }
    }
    println!("{compared} outputs compared, worst {worst:?}");
    for (name, why) in &refused {
        println!("refused: {name}: {why}");
    }
    let refused: Vec<(&str, &str)> = refused
        .iter()
        .map(|(n, w)| (n.as_str(), w.as_str()))
        .collect();
    assert_eq!(refused, REFUSED);
    common::note("onnx", compared);
}

/// The kinds of the layers of a model.
fn kinds(model: &Model) -> Vec<String> {
    let layers = model.describe().unwrap().layers;
    let kinds = layers
        .iter()
        .map(|layer| layer["kind"].as_str().unwrap().to_string());
    kinds.collect()
}

#[test]
fn files_of_pytorch_come_in() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/onnx");
    let examples = load("onnx/examples");
    let device = cpu();
    for (name, operators, allowed) in [
        ("mlp", 0, 1e-5),
        ("lenet", 0, 1e-5),
        ("resnet20_folded", 0, 1e-5),
        ("resnet20", 0, 1e-5),
        ("words", 1, 1e-4),
        ("attention", 4, 1e-4),
        ("rows", 0, 1e-5),
        ("encoder", 6, 1e-4),
        ("causal", 8, 1e-4),
    ] {
        let path = folder.join(format!("{name}.onnx"));
        let (model, weights) = onnx::import(path).unwrap_or_else(|e| panic!("{name}: {e}"));
        let input = &examples[&format!("{name}/input")];
        let wanted = &examples[&format!("{name}/output")];
        let wanted = ArrayD::from_shape_vec(wanted.shape.as_slice(), wanted.floats()).unwrap();
        let inputs = [("x".to_string(), input.host.clone())];
        let found = outputs(&model, &weights, &inputs, &device);
        let gap = apart(&found["y"], &wanted);
        println!("{name}: {gap:.2e} apart; {}", kinds(&model).join(" "));
        assert!(gap < allowed, "{name}: {gap:e} apart");
        // Layers are this crate's own, but where ONNX has several operators for none of them.
        let left = kinds(&model)
            .iter()
            .filter(|kind| *kind == "operators")
            .count();
        assert_eq!(left, operators, "{name}: {:?}", kinds(&model));
        // And back out.
        let network = onnx::network(&model, &weights).unwrap_or_else(|e| panic!("{name}: {e}"));
        let (again, weights) = onnx::model(&network).unwrap_or_else(|e| panic!("{name}: {e}"));
        let gap = apart(&outputs(&again, &weights, &inputs, &device)["y"], &wanted);
        assert!(gap < allowed, "{name}, out and in again: {gap:e} apart");
    }
}

#[test]
fn onnxruntime_agrees() {
    let Some(python) = std::env::var_os("WGRAD_PYTHON") else {
        println!("not checked: WGRAD_PYTHON names no Python with onnxruntime");
        return;
    };
    let (folder, device) = (folder("onnx"), cpu());
    let mut allowed = BTreeMap::new();
    for example in examples() {
        let path = folder.join(format!("{}.onnx", example.name));
        if let Err(e) = onnx::export(&example.model, &example.weights, &path) {
            println!("refused {}: {e}", example.name);
            continue;
        }
        let mut batches = Vec::new();
        for rows in [1, example.rows] {
            let inputs = example.first(rows);
            let made = outputs(&example.model, &example.weights, &inputs, &device);
            let inputs =
                inputs
                    .iter()
                    .zip(example.model.inputs())
                    .map(|((name, host), (_, input))| {
                        let shape = [&[rows][..], &input.extents].concat();
                        let part = match host {
                            Host::F32(values) => json!({"shape": shape, "values": values}),
                            Host::U32(values) => {
                                json!({"shape": shape, "values": values, "integers": true})
                            }
                        };
                        (name.clone(), part)
                    });
            let made = made.iter().map(|(name, values)| {
                let flat: Vec<f32> = values.iter().copied().collect();
                (
                    name.clone(),
                    json!({"shape": values.shape(), "values": flat}),
                )
            });
            let inputs: serde_json::Map<_, _> = inputs.collect();
            let made: serde_json::Map<_, _> = made.collect();
            batches.push(json!({"inputs": inputs, "outputs": made}));
        }
        let text = serde_json::to_string(&batches).unwrap();
        std::fs::write(path.with_extension("json"), text).unwrap();
        allowed.insert(example.name, example.allowed);
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/onnx_check.py");
    let done = std::process::Command::new(python)
        .args([script.as_os_str(), folder.as_os_str()])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&done.stdout);
    println!("{text}");
    assert!(
        done.status.success(),
        "{}",
        String::from_utf8_lossy(&done.stderr)
    );
    let mut checked = 0;
    for line in text.lines().skip(1) {
        let (gap, name) = line.split_once(' ').unwrap();
        assert!(gap.parse::<f64>().unwrap() < allowed[name], "{line}");
        checked += 1;
    }
    assert_eq!(checked, allowed.len());
    common::note("onnxruntime", 2 * checked);
}

/// Operators that no export here has, beside onnxruntime.
#[test]
fn operators_by_hand_come_in() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/onnx");
    let (model, weights) = onnx::import(folder.join("operators.onnx")).unwrap();
    let examples = load("onnx/examples");
    let inputs = [("x".to_string(), examples["operators/input"].host.clone())];
    let found = outputs(&model, &weights, &inputs, &cpu());
    assert!(found.len() > 50, "{}", found.len());
    let mut wrong = Vec::new();
    for (name, found) in &found {
        let wanted = &examples[&format!("operators/{name}")];
        let wanted = ArrayD::from_shape_vec(wanted.shape.as_slice(), wanted.floats()).unwrap();
        let gap = apart(found, &wanted);
        if gap >= 1e-5 {
            wrong.push(format!("{name}: {gap:e} apart"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:?}");
    common::note("onnx_operators", found.len());
}

/// Every operator that the list has is known, and one that it has not is refused.
#[test]
fn the_list_of_operators_is_true() {
    let refused = |kind: &str| {
        let operator = Operator {
            kind: kind.into(),
            name: "n".into(),
            inputs: vec![],
            outputs: vec!["y".into()],
            attributes: BTreeMap::new(),
        };
        let port = |name: &str| onnx::Port {
            name: name.into(),
            integers: false,
            extents: vec![4],
        };
        let network = onnx::Network {
            inputs: vec![port("x")],
            outputs: vec![port("y")],
            weights: vec![],
            operators: vec![operator],
        };
        onnx::model(&network).unwrap_err().to_string()
    };
    for kind in onnx::READ {
        let message = refused(kind);
        assert!(
            message.starts_with(&format!("node n ({kind})")),
            "{message}"
        );
        assert!(!message.contains("found operator"), "{message}");
    }
    assert!(onnx::READ.is_sorted());
    for kind in ["ReduceLogSum", "Acosh", "relu", ""] {
        assert!(refused(kind).contains(&format!("found operator {kind}; wanted one of Abs")));
    }
}

/// An op that does not say what it is in ONNX's operators.
#[derive(Debug)]
struct Unsaid;

impl wgrad::ops::Op for Unsaid {
    fn name(&self) -> &'static str {
        "unsaid"
    }

    fn infer(&self, inputs: &[wgrad::shape::Type]) -> wgrad::Result<Vec<wgrad::shape::Type>> {
        Ok(inputs.to_vec())
    }
}

#[test]
fn what_onnx_lacks_is_refused_by_name() {
    let refused = |layer: fn(&mut Scope<'_>, &[Value]) -> wgrad::Result<Value>| {
        let model = Model::build(|m| {
            let x = m.input("x", [4, 3, 3]);
            m.output("y", x.layer("odd", Function::new("odd", layer)));
        });
        let model = model.unwrap();
        let weights = Weights::initial(&model, 1);
        onnx::network(&model, &weights).unwrap_err().to_string()
    };
    let message = refused(|scope, x| scope.op1(Arc::new(Unsaid), x));
    assert!(
        message.starts_with("ONNX, layer odd, op unsaid: found an op that does not say"),
        "{message}"
    );
    let message = refused(|scope, x| {
        let (size, alpha, beta, k) = (2, 1e-4, 0.75, 1.0);
        scope.op1(
            Arc::new(Lrn {
                size,
                alpha,
                beta,
                k,
            }),
            x,
        )
    });
    assert!(
        message.starts_with("ONNX, layer odd, op lrn: found over an even number"),
        "{message}"
    );
    // A number that depends on how many examples there are.
    let message = refused(|scope, x| {
        let n = scope.extents(x[0])?[0] as f64;
        pointwise(scope, [x[0]], |[x]| x * n)
    });
    assert!(
        message.contains("settings that depend on the mini-batch"),
        "{message}"
    );
    let message = refused(|scope, x| {
        let n = scope.extents(x[0])?[0];
        let part = Slice {
            axis: 0,
            start: 1,
            extent: n - 1,
            step: 1,
        };
        let part = scope.op1(Arc::new(part), x)?;
        let first = Slice {
            axis: 0,
            start: 0,
            extent: 1,
            step: 1,
        };
        let first = scope.op1(Arc::new(first), x)?;
        scope.op1(Arc::new(Concat { axis: 0 }), &[first, part])
    });
    assert!(
        message.contains("2 of 2 examples") || message.contains("of 3; wanted extents"),
        "{message}"
    );
}

#[test]
fn the_command_exports_a_model_file() {
    let folder = folder("onnx-command");
    let example = examples()
        .into_iter()
        .find(|e| e.name == "residual")
        .unwrap();
    let (file, out) = (folder.join("model.safetensors"), folder.join("model.onnx"));
    example.weights.save(&example.model, &file).unwrap();
    let wgrad = || assert_cmd::Command::cargo_bin("wgrad").unwrap();
    let done = wgrad()
        .arg("export")
        .arg("--model")
        .arg(&file)
        .arg("--onnx")
        .arg(&out)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&done.stdout);
    assert!(
        done.status.success(),
        "{}",
        String::from_utf8_lossy(&done.stderr)
    );
    assert!(text.contains("opset 17") && text.contains(" -> "), "{text}");
    let (model, weights) = onnx::import(&out).unwrap();
    let device = cpu();
    let found = outputs(&model, &weights, &example.inputs, &device);
    let wanted = outputs(&example.model, &example.weights, &example.inputs, &device);
    for (name, wanted) in &wanted {
        assert!(apart(&found[name], wanted) < 1e-6, "{name}");
    }
    // What is no model of the front door is refused, and nothing is written.
    let other = folder.join("none.onnx");
    let refused = wgrad()
        .arg("export")
        .arg("--model")
        .arg(&out)
        .arg("--onnx")
        .arg(&other)
        .output()
        .unwrap();
    assert_eq!(refused.status.code(), Some(2));
    assert!(!other.exists());
}

/// Bounds, exponents and scales are settings, and no parameters that training would move.
#[test]
fn settings_of_operators_are_not_trained() {
    let operator = |kind: &str, inputs: &[&str], output: &str| Operator {
        kind: kind.into(),
        name: kind.into(),
        inputs: inputs.iter().map(|&name| name.into()).collect(),
        outputs: vec![output.into()],
        attributes: BTreeMap::new(),
    };
    let port = |name: &str| onnx::Port {
        name: name.into(),
        integers: false,
        extents: vec![2],
    };
    let network = onnx::Network {
        inputs: vec![port("x")],
        outputs: vec![port("y")],
        weights: vec![
            ("low".into(), interchange::Tensor::floats(&[], vec![-1.0])),
            ("high".into(), interchange::Tensor::floats(&[], vec![1.0])),
            ("power".into(), interchange::Tensor::floats(&[], vec![2.0])),
            (
                "scale".into(),
                interchange::Tensor::floats(&[2], vec![2.0, 3.0]),
            ),
        ],
        operators: vec![
            operator("Mul", &["x", "scale"], "a"),
            operator("Clip", &["a", "low", "high"], "b"),
            operator("Pow", &["b", "power"], "y"),
        ],
    };
    let read = onnx::of_bytes(&onnx::to_bytes(&network)).unwrap();
    let (model, weights) = onnx::model(&read).unwrap();
    let names: Vec<&str> = weights.tensors().iter().map(|(n, _)| n.as_str()).collect();
    assert_eq!(names, ["scale"]);
    let net = Inference::new(&model, &weights, 2, &cpu()).unwrap();
    let y = net
        .run(&[("x", (&[0.25f32, 0.1, -9.0, 9.0][..]).into())])
        .unwrap();
    let wanted = [0.25f32, 0.09, 1.0, 1.0];
    assert!(
        y["y"].iter().zip(wanted).all(|(y, w)| (y - w).abs() < 1e-6),
        "{y:?}"
    );
}

/// PyTorch's exporter writes parameters of equal numbers once and hands them on under their own names; they are trained apart.
#[test]
fn parameters_of_equal_numbers_are_no_shared_ones() {
    let operator = |kind: &str, inputs: &[&str], output: &str| Operator {
        kind: kind.into(),
        name: format!("/{output}/{kind}"),
        inputs: inputs.iter().map(|name| name.to_string()).collect(),
        outputs: vec![output.into()],
        attributes: BTreeMap::new(),
    };
    let port = |name: &str| onnx::Port {
        name: name.into(),
        extents: vec![3],
        integers: false,
    };
    let ones = interchange::Tensor::floats(&[3], vec![1.0; 3]);
    let network = onnx::Network {
        inputs: vec![port("x")],
        outputs: vec![port("y")],
        weights: vec![("last.weight".into(), ones)],
        operators: vec![
            operator("Identity", &["last.weight"], "first.weight"),
            operator("Mul", &["x", "first.weight"], "h"),
            operator("Tanh", &["h"], "g"),
            operator("Mul", &["g", "last.weight"], "y"),
        ],
    };
    let (model, weights) = onnx::model(&network).unwrap();
    assert_eq!(model.parameters(), 6);
    let (loss, optimizer) = (Loss::mse(), Optimizer::new(Sgd::default(), 0.1));
    let step = TrainStep::builder(&model, &loss, &optimizer).batch(1);
    let mut step = step.compile(&cpu()).unwrap();
    step.set_weights(&weights).unwrap();
    step.feed("x", [0.5f32, -1.0, 2.0].as_slice()).unwrap();
    step.feed("target", [0.0f32, 1.0, 1.0].as_slice()).unwrap();
    step.run(1).unwrap();
    let trained = step.weights().unwrap().remove(0);
    let [first, last] = ["first.weight", "last.weight"].map(|name| {
        let (_, own) = trained
            .tensors()
            .iter()
            .find(|(n, _)| n.contains(name))
            .unwrap();
        own.clone()
    });
    for (k, (x, t)) in [(0.5f64, 0.0f64), (-1.0, 1.0), (2.0, 1.0)]
        .into_iter()
        .enumerate()
    {
        let (g, slope) = (x.tanh(), 1.0 - x.tanh().powi(2));
        let off = 2.0 / 3.0 * (g - t);
        assert!((f64::from(last[[k]]) - (1.0 - 0.1 * off * g)).abs() < 1e-6);
        assert!((f64::from(first[[k]]) - (1.0 - 0.1 * off * slope * x)).abs() < 1e-6);
    }
}

/// An imported model is one like any other: it is trained, saved, loaded and exported again.
#[test]
fn an_imported_model_trains() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/onnx");
    let (model, weights) = onnx::import(folder.join("words.onnx")).unwrap();
    let (loss, optimizer) = (Loss::cross_entropy(), Optimizer::new(Sgd::default(), 0.5));
    let step = TrainStep::builder(&model, &loss, &optimizer).batch(3);
    let mut step = step.compile(&cpu()).unwrap();
    step.set_weights(&weights).unwrap();
    let input = &load("onnx/examples")["words/input"];
    let Host::U32(words) = &input.host else {
        panic!("words")
    };
    step.feed("x", words.as_slice()).unwrap();
    step.feed("target", [0u32, 1, 2].as_slice()).unwrap();
    let mut losses = Vec::new();
    for _ in 0..60 {
        step.run(1).unwrap();
        losses.push(step.loss().unwrap()[0]);
    }
    assert!(losses[59] < 0.1 * losses[0], "{losses:?}");
    let trained = step.weights().unwrap().remove(0);
    for (name, values) in trained.tensors() {
        assert_ne!(values, weights.get(name).unwrap(), "{name} stays");
    }
    let path = self::folder("onnx-train").join("words.safetensors");
    trained.save(&model, &path).unwrap();
    let (again, loaded) = Weights::load_model(&path, &onnx::registry()).unwrap();
    assert_eq!(loaded.sha256(), trained.sha256());
    onnx::network(&again, &loaded).unwrap();
}

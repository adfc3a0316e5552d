//! The book's networks at the front door: as models they answer what they answered, are trained further and leave as
//! ONNX; and weights that others have written come in.

mod common;

use std::path::{Path, PathBuf};

use common::fixtures;
use ndarray::ArrayD;
use wgrad::book::nn::{Cost, Init, NAMES, Network, recipe};
use wgrad::book::train::{Predictor, Settings, Trainer};
use wgrad::data::digits::{Part, generate};
use wgrad::data::{Dataset, Images, Split};
use wgrad::exec::{Choice, Device};
use wgrad::fit::{Fit, Inference, Loss, Metric, Weights};
use wgrad::model::{Model, Registry, layers::*};
use wgrad::model_file::ModelFile;
use wgrad::optim::{Optimizer, Sgd};
use wgrad::tensor::View;

fn cpu() -> Device {
    Device::open(Choice::Cpu).unwrap()
}

/// Layers, and the book's networks.
fn known() -> Registry {
    Network::known_to(Registry::standard())
}

fn digits(count: usize) -> Split {
    let set = |part, count| generate(3, part, count).unwrap();
    Split {
        train: set(Part::Train, count),
        validation: set(Part::Validation, 40),
        test: set(Part::Test, 40),
        synthetic: true,
    }
}

/// What a network answers at the front, `[N, 10]`.
fn answers(model: &Model, weights: &Weights, images: &Images) -> ArrayD<f32> {
    let net = Inference::new(model, weights, 16, &cpu()).unwrap();
    let outputs = net.run_on(&images.dataset().unwrap()).unwrap();
    outputs["output"].clone()
}

fn trained(
    network: &Network,
    data: &Split,
    replicas: usize,
    path: &Path,
) -> wgrad::book::train::Model {
    let settings = Settings {
        epochs: 1,
        replicas,
        learning_rates: vec![0.05],
        ..Settings::default()
    };
    let mut trainer = Trainer::new(network, data, &settings, &cpu()).unwrap();
    trainer.run(&mut |_| {}).unwrap();
    let model = trainer.model().unwrap();
    model.save(path).unwrap();
    model
}

/// Every layer that a description knows, the masks of both dropouts among them.
fn networks() -> Vec<Network> {
    let small = Network::new([1, 28, 28])
        .conv2d(4, 5)
        .avg_pool2d(3)
        .tanh()
        .flatten()
        .layer(wgrad::book::nn::Layer::Dropout {
            p: 0.25,
            rescale: true,
        })
        .dense(12)
        .relu()
        .dropout(0.5)
        .dense(10)
        .cost(Cost::Quadratic)
        .init(Init::Glorot);
    let named = NAMES.iter().filter(|name| **name != "conv-dropout");
    let named = named.map(|name| recipe(name, [1, 28, 28], 10).unwrap().network);
    named.chain([small]).collect()
}

#[test]
fn the_books_networks_answer_at_the_front_what_they_answered() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    let data = digits(40);
    for network in networks() {
        let model = trained(&network, &data, 2, &path);
        let mut predictor = Predictor::new(&model, &data.test, &cpu()).unwrap();
        let wanted = predictor.outputs().unwrap();
        let (front, weights) = Weights::load_networks(&path, &known()).unwrap();
        assert_eq!(weights.len(), 2);
        for (weights, wanted) in weights.iter().zip(&wanted) {
            let found = answers(&front, weights, &data.test);
            let wanted: Vec<f32> = wanted.iter().flatten().copied().collect();
            assert_eq!(found.as_slice().unwrap(), wanted);
        }
        assert_ne!(wanted[0], wanted[1]);
        // It is described like any model, and rebuilt from that.
        let again = Model::from_json(&front.to_json().unwrap(), &Registry::standard()).unwrap();
        let last = answers(&again, &weights[1], &data.test);
        assert_eq!(last, answers(&front, &weights[1], &data.test));
    }
}

#[test]
fn one_of_the_books_networks_is_trained_further_at_the_front() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    let data = digits(200);
    let network = recipe("mlp-30", [1, 28, 28], 10).unwrap().network;
    let network = network.cost(Cost::CrossEntropy);
    trained(&network, &data, 1, &path);
    let (model, weights) = Weights::load_model(&path, &known()).unwrap();
    let (training, validation) = (data.train.dataset(), data.validation.dataset());
    let (training, validation) = (training.unwrap(), validation.unwrap());
    let fit = |rate: f64| {
        let fit = Fit::new(&model, Loss::cross_entropy().of("scores"), {
            Optimizer::new(Sgd::default(), rate)
        });
        let fit = fit
            .batch(10)
            .epochs(10)
            .from(&weights)
            .validation(&validation);
        let fit = fit.metric(Metric::accuracy().of("scores"));
        let outcome = fit.run(&training, &cpu()).unwrap();
        let last = outcome.report.epochs.last().unwrap();
        (last.validation[0].loss, outcome.weights[0].clone())
    };
    let ((still, same), (trained, _)) = (fit(0.0), fit(0.5));
    assert_eq!(same, weights);
    assert!(trained < 0.7 * still, "{trained} after {still}");
}

#[test]
fn of_an_ensemble_one_is_chosen() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    let network = recipe("mlp-30", [1, 28, 28], 10).unwrap().network;
    trained(&network, &digits(20), 3, &path);
    let refused = Weights::load_model(&path, &known()).unwrap_err();
    let said = refused.to_string();
    assert!(said.contains("3 networks"), "{said}");
    assert!(said.contains("one network"), "{said}");
}

/// Where PyTorch's `state_dict` stands.
fn state_dict(size: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/state_dict");
    folder.join(format!("{size}.safetensors"))
}

/// Names with dots are those of PyTorch's modules in modules, so weights go over as they are.
#[test]
fn what_pytorch_has_saved_is_loaded_by_its_names() {
    let model = Model::sequential([1, 4, 4])
        .layer("stem.conv", Conv2d::new(3, 3))
        .layer("stem.norm", BatchNorm::new())
        .then(Relu)
        .then(Flatten)
        .layer("head", Dense::new(2))
        .build()
        .unwrap();
    let example = fixtures::load("state_dict/example");
    let input = &example["input"].host;
    for size in ["f32", "f64", "f16", "bf16"] {
        let weights = Weights::load(state_dict(size)).unwrap();
        // The count of mini-batches is no weight.
        let mut names: Vec<&str> = weights.tensors().iter().map(|(n, _)| n.as_str()).collect();
        names.sort_unstable();
        let wanted = [
            "head.bias",
            "head.weight",
            "stem.conv.bias",
            "stem.conv.weight",
            "stem.norm.bias",
            "stem.norm.running_mean",
            "stem.norm.running_var",
            "stem.norm.weight",
        ];
        assert_eq!(names, wanted);
        let net = Inference::new(&model, &weights, 5, &cpu()).unwrap();
        let found = net.run(&[("input", input.view())]).unwrap();
        let wanted = example[size].host.clone().floats().unwrap();
        for (found, wanted) in found["output"].iter().zip(wanted) {
            assert!(
                (found - wanted).abs() < 1e-6,
                "{size}: {found}, PyTorch {wanted}"
            );
        }
    }
}

/// A safetensors file of one tensor.
fn file(folder: &Path, dtype: safetensors::Dtype, bytes: &[u8]) -> PathBuf {
    let size = bytes.len() * 8 / dtype.bitsize();
    let view = safetensors::tensor::TensorView::new(dtype, vec![size], bytes).unwrap();
    let path = folder.join("one.safetensors");
    std::fs::write(&path, safetensors::serialize([("w", view)], None).unwrap()).unwrap();
    path
}

#[test]
fn numbers_that_32_bits_do_not_hold_are_refused_by_their_tensor() {
    use safetensors::Dtype;
    let folder = tempfile::tempdir().unwrap();
    let wide = |values: [f64; 2]| {
        let bytes: Vec<u8> = values.iter().flat_map(|x| x.to_le_bytes()).collect();
        Weights::load(file(folder.path(), Dtype::F64, &bytes))
    };
    let said = wide([1.0, -1e39]).unwrap_err().to_string();
    assert!(said.contains("tensor `w` with -1e39"), "{said}");
    assert!(said.contains("numbers that 32-bit floats hold"), "{said}");
    let held = wide([0.1, f64::INFINITY]).unwrap();
    let values: Vec<f32> = held.get("w").unwrap().iter().copied().collect();
    assert_eq!(values, [0.1f32, f32::INFINITY]);
    let eighth = Weights::load(file(folder.path(), Dtype::F8_E4M3, &[0, 1]));
    let said = eighth.unwrap_err().to_string();
    assert!(said.contains("tensor `w` of type F8_E4M3"), "{said}");
    assert!(said.contains("floats of 16, 32 or 64 bits"), "{said}");
    let integers = Weights::load(file(folder.path(), Dtype::I64, &[1; 16])).unwrap();
    assert!(integers.tensors().is_empty());
}

/// Weights of layers may not stand among those of layers inside another; names without weights are free.
#[test]
fn names_of_which_one_holds_the_others_are_refused() {
    let build = |outer: &str, inner: &str| {
        let model = Model::sequential([4]).layer(outer, Dense::new(4));
        model.layer(inner, Dense::new(4)).build()
    };
    assert!(build("a.b", "a.c").is_ok());
    assert!(build("a", "ab.c").is_ok());
    assert!(build("input.proj", "b").is_ok());
    for (outer, inner) in [("a", "a.b"), ("a.b", "a"), ("a.b", "a.b.c")] {
        let said = build(outer, inner).unwrap_err().to_string();
        let found = format!("`{inner}` beside `{outer}`");
        assert!(said.contains(&found), "{said}");
    }
    for wrong in ["", ".", "a.", ".a", "a..b", "a/b"] {
        let said = build("a", wrong).unwrap_err().to_string();
        assert!(said.contains("in parts with dots between them"), "{said}");
    }
    let model = Model::sequential([4]).layer("relu", Relu);
    let model = model
        .layer("relu.0", Dense::new(4))
        .layer("dense.out", Dense::new(4));
    // A name that nobody has given steps aside.
    let model = model.then(Dense::new(2)).build().unwrap();
    let names: Vec<&str> = model.variables().iter().map(|v| v.name.as_str()).collect();
    assert_eq!(names[4..], ["dense_2.weight", "dense_2.bias"]);
}

/// What lacks weights is not scored by drawn ones, saved in part, or begun from where nothing fits.
#[test]
fn weights_that_are_missing_are_told_of() {
    let model = Model::sequential([3])
        .layer("head", Dense::new(2))
        .build()
        .unwrap();
    let data = Dataset::new().with("input", [3], vec![0.5f32; 12]).unwrap();
    let data = data.with("target", [], vec![1u32; 4]).unwrap();
    let fit = || {
        Fit::new(
            &model,
            Loss::cross_entropy(),
            Optimizer::new(Sgd::default(), 0.1),
        )
    };
    let whole = Weights::initial(&model, 3);
    let alien = whole.renamed(|name| Some(format!("module.{name}")));
    let part = whole.renamed(|name| (name == "head.weight").then(|| name.to_string()));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    for weights in [&alien, &part] {
        let said = fit()
            .test(&data)
            .evaluate(weights, &cpu())
            .unwrap_err()
            .to_string();
        assert!(said.contains("unknown weight `head."), "{said}");
        let said = weights.save(&model, &path).unwrap_err().to_string();
        assert!(
            said.contains("unknown weight `head.") && !path.exists(),
            "{said}"
        );
    }
    assert!(fit().test(&data).evaluate(&whole, &cpu()).is_ok());
    let said = fit()
        .batch(2)
        .from(&alien)
        .run(&data, &cpu())
        .unwrap_err()
        .to_string();
    assert!(
        said.contains("`module.head.weight`") && said.contains("`head.weight`"),
        "{said}"
    );
    // A trunk under a new head is begun from what there is of it.
    assert!(
        fit()
            .batch(2)
            .epochs(1)
            .from(&part)
            .run(&data, &cpu())
            .is_ok()
    );
}

/// The error of one of the book's networks is its own.
#[test]
fn a_broken_description_of_the_books_is_told_as_such() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    let network = recipe("mlp-30", [1, 28, 28], 10).unwrap().network;
    trained(&network, &digits(20), 1, &path);
    let mut file = ModelFile::load(&path).unwrap();
    file.network_json = file.network_json.replace("dense", "dance");
    file.save(&path).unwrap();
    let said = Weights::load_model(&path, &known())
        .unwrap_err()
        .to_string();
    assert!(
        said.contains("dance") && said.contains("network description"),
        "{said}"
    );
}

#[cfg(feature = "onnx")]
#[test]
fn the_books_networks_leave_as_onnx_and_come_back() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    let data = digits(20);
    for network in networks() {
        trained(&network, &data, 1, &path);
        let (model, weights) = Weights::load_model(&path, &known()).unwrap();
        let network = wgrad::onnx::network(&model, &weights).unwrap();
        let bytes = wgrad::onnx::to_bytes(&network);
        let network = wgrad::onnx::of_bytes(&bytes).unwrap();
        let (again, loaded) = wgrad::onnx::model(&network).unwrap();
        let net = Inference::new(&again, &loaded, 16, &cpu()).unwrap();
        let pixels: Vec<f32> = data
            .test
            .pixels
            .iter()
            .map(|&p| f32::from(p) / 255.0)
            .collect();
        let found = net.run(&[("input", View::F32(&pixels))]).unwrap();
        let wanted = answers(&model, &weights, &data.test);
        for (found, wanted) in found["output"].iter().zip(&wanted) {
            assert!((found - wanted).abs() < 1e-6, "{found}, {wanted}");
        }
    }
}

//! Gradients with respect to inputs: beside PyTorch, beside central differences, whatever the number of
//! examples. `tests/fixtures/pytorch_joint.py` makes the fixtures.

mod common;

use common::fixtures::load;
use common::weights::{devices, floats, integers, near, under};
use wgrad::data::Dataset;
use wgrad::exec::{Choice, Device};
use wgrad::fit::{CrossEntropy, Gradients, Inference, InputGradient, Loss, Weights};
use wgrad::model::{Input, Model, layers::*};

fn cpu() -> Device {
    Device::open(Choice::Cpu).unwrap()
}

fn network() -> Model {
    let model = Model::sequential([1, 6, 6]).then(Conv2d::new(3, 3));
    let model = model.then(BatchNorm::new()).then(Gelu).then(Flatten);
    model.then(Dense::new(4)).build().unwrap()
}

#[test]
fn they_are_pytorchs() {
    let fixtures = load("joint");
    let weights = under(&fixtures, "inputs/weights");
    let of = |name: &str| floats(&fixtures, &format!("inputs/{name}"));
    let targets = integers(&fixtures, "inputs/target");
    for device in devices() {
        // Seven examples by up to three: two mini-batches and one that is filled up.
        for batch in [1, 3, 7, 16] {
            let what = format!("{}, by {batch}", device.info().name);
            let net = InputGradient::of_output(&network(), &weights, "output", batch, &device);
            let given = [
                ("input", of("image").into()),
                ("upstream", of("upstream").into()),
            ];
            let found = net.unwrap().run(&given).unwrap();
            assert!(found.losses.is_empty());
            near(&found.outputs["output"], of("outputs"), &what);
            near(&found.gradients["input"], of("of_output"), &what);

            let (model, loss) = (network(), Loss::cross_entropy());
            let net = InputGradient::of_loss(&model, &weights, &loss, batch, &device).unwrap();
            let given = [("input", of("image").into()), ("target", targets.into())];
            let found = net.run(&given).unwrap();
            near(&found.outputs["output"], of("outputs"), &what);
            near(&found.losses, of("losses"), &what);
            near(&found.gradients["input"], of("of_loss"), &what);
            let data = Dataset::new().with("input", [1, 6, 6], of("image").to_vec());
            let data = data.unwrap().with("target", [], targets.to_vec()).unwrap();
            let again = net.run_on(&data).unwrap();
            assert_eq!(again.gradients, found.gradients);
            assert_eq!(again.losses, found.losses);
        }
    }
}

/// Two inputs, one of them through attention, the other one added; two terms of a loss that share a
/// target, classes that weigh.
#[test]
fn they_are_central_differences() {
    let model = Model::build(|m| {
        let (x, y) = (m.input("x", [3, 4]), m.input("y", [2]));
        let h = x.layer("attention", MultiHeadAttention::new(2)).tanh();
        let h = h.flatten().layer("narrow", Dense::new(2));
        m.output("scores", (h + y).layer("head", Dense::new(3)));
        m.output("shift", h * y);
    });
    let model = model.unwrap();
    let weights = Weights::initial(&model, 4);
    let classes = CrossEntropy {
        weights: vec![1.0, 0.5, 2.0],
        ..CrossEntropy::default()
    };
    let loss = Loss::of_criterion(classes).of("scores").against("class")
        + Loss::mse().of("shift").against("y") * 0.7;
    let wave = |n: usize, step: f32| {
        (0..n)
            .map(|i| (i as f32 * step).sin())
            .collect::<Vec<f32>>()
    };
    let (x, y, class) = (
        wave(5 * 12, 0.37),
        wave(5 * 2, 0.91),
        vec![0u32, 1, 2, 2, 1],
    );
    for device in devices() {
        let net = InputGradient::of_loss(&model, &weights, &loss, 4, &device).unwrap();
        let run = |x: &[f32], y: &[f32]| -> Gradients {
            let columns = [
                ("x", x.into()),
                ("y", y.into()),
                ("class", (&class[..]).into()),
            ];
            net.run(&columns).unwrap()
        };
        let found = run(&x, &y);
        let sum = |g: &Gradients| g.losses.iter().map(|&l| f64::from(l)).sum::<f64>();
        let eps = 1e-2f32;
        // The target y of the second term is the input y: the loss is a function of it in both places,
        // and the gradient is with respect to the input, as the values are.
        for k in [0, 7, 12, 35, 59] {
            let moved = |by: f32| {
                let mut x = x.clone();
                x[k] += by;
                sum(&run(&x, &y))
            };
            let slope = (moved(eps) - moved(-eps)) / f64::from(2.0 * eps);
            let own = f64::from(found.gradients["x"].as_slice().unwrap()[k]);
            assert!(
                (own - slope).abs() < 2e-3 * slope.abs().max(0.05),
                "x {k}: {own}, {slope}"
            );
        }
        for k in 0..10 {
            let moved = |by: f32| {
                let mut y = y.clone();
                y[k] += by;
                sum(&run(&x, &y))
            };
            let slope = (moved(eps) - moved(-eps)) / f64::from(2.0 * eps);
            let own = f64::from(found.gradients["y"].as_slice().unwrap()[k]);
            assert!(
                (own - slope).abs() < 2e-3 * slope.abs().max(0.05),
                "y {k}: {own}, {slope}"
            );
        }
    }
}

#[test]
fn inputs_without_influence_have_none_and_integers_no_gradient() {
    let model = Model::build(|m| {
        let (word, x) = (m.input("word", Input::u32([2])), m.input("x", [3]));
        m.output("of x", x.layer("dense", Dense::new(2)));
        m.output(
            "of words",
            word.layer("embedding", Embedding::new(5, 2)).flatten(),
        );
    });
    let model = model.unwrap();
    let weights = Weights::initial(&model, 1);
    let net = InputGradient::of_output(&model, &weights, "of words", 2, &cpu()).unwrap();
    let (words, x, up) = ([1u32, 4], [0.1f32, 0.2, 0.3], [1.0f32; 4]);
    let columns = [("word", (&words[..]).into()), ("x", (&x[..]).into())];
    let given = [&columns[..], &[("upstream", (&up[..]).into())]].concat();
    let found = net.run(&given).unwrap();
    assert_eq!(found.gradients.keys().collect::<Vec<_>>(), ["x"]);
    assert!(found.gradients["x"].iter().all(|&g| g == 0.0));
    assert_eq!(found.outputs.len(), 2);

    let told = |error: wgrad::Error| error.to_string();
    let lost = net.run(&columns).unwrap_err();
    assert!(told(lost).contains("upstream"));
    let unknown = InputGradient::of_output(&model, &weights, "of word", 2, &cpu());
    assert!(told(unknown.unwrap_err()).contains("of words"));
    let words = Model::sequential(Input::u32([2]))
        .then(Embedding::new(5, 2))
        .build()
        .unwrap();
    let weights = Weights::initial(&words, 1);
    let none = InputGradient::of_output(&words, &weights, "output", 2, &cpu());
    assert!(told(none.unwrap_err()).contains("an input of floats"));
    let model = network();
    let weights = Weights::initial(&model, 1);
    let loss = Loss::cross_entropy();
    let net = InputGradient::of_loss(&model, &weights, &loss, 2, &cpu()).unwrap();
    let image = [0.5f32; 36];
    let wrong = net.run(&[
        ("input", (&image[..]).into()),
        ("target", (&[4u32][..]).into()),
    ]);
    assert!(told(wrong.unwrap_err()).contains("classes from 0 to 3"));
    let shares = Loss::of_criterion(CrossEntropy {
        probabilities: true,
        ..CrossEntropy::default()
    });
    let net = InputGradient::of_loss(&model, &weights, &shares, 2, &cpu()).unwrap();
    let run =
        |target: &[f32]| net.run(&[("input", (&image[..]).into()), ("target", target.into())]);
    let wrong = told(run(&[0.5, 0.5, 0.5, 0.0]).unwrap_err());
    assert!(wrong.contains("whose sum is 1.5000, in row 0"), "{wrong}");
    assert!(run(&[0.5, 0.25, 0.25, 0.0]).is_ok());
    // One number that is none must not keep the others from being looked at.
    let wrong = told(run(&[0.5, 0.5, f32::NAN, 0.0]).unwrap_err());
    assert!(wrong.contains("finite numbers"), "{wrong}");
}

/// What it makes of a model is what the model makes alone.
#[test]
fn outputs_are_those_of_inference() {
    let model = network();
    let weights = Weights::initial(&model, 3);
    let image: Vec<f32> = (0..36 * 4).map(|i| (i as f32 * 0.3).cos()).collect();
    let (up, device) = (vec![1.0f32; 16], cpu());
    let net = InputGradient::of_output(&model, &weights, "output", 4, &device).unwrap();
    let found = net.run(&[
        ("input", (&image[..]).into()),
        ("upstream", (&up[..]).into()),
    ]);
    let plain = Inference::new(&model, &weights, 4, &device).unwrap();
    let plain = plain.run(&[("input", (&image[..]).into())]).unwrap();
    near(
        &found.unwrap().outputs["output"],
        &plain["output"],
        "outputs",
    );
}

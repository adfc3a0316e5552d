//! Several models in one training step: beside PyTorch, and what is promised of order, isolation,
//! launches and bits. `tests/fixtures/pytorch_joint.py` makes the fixtures.

mod common;

use common::fixtures::load;
use common::weights::{devices, floats, hold, integers, under};
use wgrad::Result;
use wgrad::data::Dataset;
use wgrad::exec::{Choice, Device};
use wgrad::fit::{
    CrossEntropy, JointScope, JointStep, JointStepBuilder, Loss, Objective, TrainStep,
};
use wgrad::model::{Input, Model, layers::*};
use wgrad::ops::pointwise::pointwise;
use wgrad::optim::{Adam, AdamW, Optimizer, Sgd};

const BATCH: usize = 6;

fn cpu() -> Device {
    Device::open(Choice::Cpu).unwrap()
}

fn generator() -> Model {
    let model = Model::sequential([3]).then(Dense::new(6)).then(Tanh);
    model.then(Dense::new(2)).build().unwrap()
}

fn discriminator() -> Model {
    let model = Model::sequential([2]).then(Dense::new(8)).then(Gelu);
    model.then(Dense::new(1)).build().unwrap()
}

fn optimizers() -> (Optimizer, Optimizer) {
    let sgd = Sgd {
        momentum: 0.9,
        ..Sgd::default()
    };
    let adam = Adam {
        betas: [0.5, 0.999],
        ..Adam::default()
    };
    (Optimizer::new(sgd, 0.1), Optimizer::new(adam, 0.02))
}

/// Generator and discriminator, the one after the other or both from the same weights.
fn adversaries(s: &mut JointScope<'_>, together: bool, drawn: bool) -> Result<()> {
    let (of_d, of_g) = optimizers();
    let g = s.model("generator", &generator())?;
    let d = s.model("discriminator", &discriminator())?;
    let real = s.input("real", [2])?;
    let noise = match drawn {
        true => s.normal([3])?,
        false => s.input("noise", [3])?,
    };
    let (one, zero) = (s.fill([1], 1.0)?, s.fill([1], 0.0)?);
    let bce = Loss::binary_cross_entropy();
    let fake = s.call(g, &[noise])?;
    let (of_real, of_fake) = (s.call(d, &[real])?, s.call(d, &[fake])?);
    let right = s.loss(&bce, &[of_real], &[one])?;
    let wrong = s.loss(&bce, &[of_fake], &[zero])?;
    let both = s.sum(&[right, wrong])?;
    if together {
        let fooled = s.loss(&bce, &[of_fake], &[one])?;
        let objective = |name, loss, net, optimizer| Objective {
            name,
            loss,
            nets: net,
            optimizer,
        };
        return s.minimise_all(&[
            objective("critic", both, &[d], &of_d),
            objective("fooled", fooled, &[g], &of_g),
        ]);
    }
    s.minimise("critic", both, &[d], &of_d)?;
    let judged = s.call(d, &[fake])?;
    let fooled = s.loss(&bce, &[judged], &[one])?;
    s.minimise("fooled", fooled, &[g], &of_g)
}

fn builder() -> JointStepBuilder {
    JointStep::builder().batch(BATCH).seed(3)
}

#[test]
fn adversarial_networks_train_as_pytorchs_do() {
    let fixtures = load("joint");
    let (real, noise) = (
        floats(&fixtures, "gan/real"),
        floats(&fixtures, "gan/noise"),
    );
    for device in devices() {
        for (kind, fused) in [("turns", true), ("turns", false), ("together", true)] {
            let what = format!("{kind} on {}, fused {fused}", device.info().name);
            let how = match fused {
                true => builder(),
                false => builder().without_fusion(),
            };
            let describe = |s: &mut JointScope<'_>| adversaries(s, kind == "together", false);
            let mut step = how.compile(&device, describe).unwrap();
            for model in ["generator", "discriminator"] {
                let before = under(&fixtures, &format!("gan/before/{model}"));
                step.set_weights(model, &before).unwrap();
            }
            let losses = floats(&fixtures, &format!("gan/{kind}/losses"));
            for (k, wanted) in losses.chunks(2).enumerate() {
                step.feed("real", &real[k * 12..][..12]).unwrap();
                step.feed("noise", &noise[k * 18..][..18]).unwrap();
                step.run(1).unwrap();
                let numbers = step.numbers().unwrap();
                for (name, wanted) in ["critic", "fooled"].iter().zip(wanted) {
                    let found = numbers[*name][0];
                    let gap = (found / f64::from(*wanted) - 1.0).abs();
                    assert!(gap < 1e-5, "{what}, {name} of step {k}: {found}, {wanted}");
                }
            }
            for model in ["generator", "discriminator"] {
                let found = step.weights(model).unwrap().remove(0);
                let wanted = under(&fixtures, &format!("gan/{kind}/{model}"));
                hold(&found, &wanted, &format!("{what}, {model}"));
            }
        }
    }
}

#[test]
fn a_student_learns_from_a_teacher_that_stays_as_it_is() {
    let fixtures = load("joint");
    let inputs = floats(&fixtures, "distilled/input");
    let labels = integers(&fixtures, "distilled/target");
    let teacher = Model::sequential([3])
        .then(Dense::new(5))
        .then(BatchNorm::new());
    let teacher = teacher
        .then(Tanh)
        .then(Dropout::new(0.5))
        .then(Dense::new(4));
    let teacher = teacher.build().unwrap();
    let student = Model::sequential([3]).then(Dense::new(4)).build().unwrap();
    let adam = Optimizer::new(AdamW::with_decay(0.1), 0.05);
    for device in devices() {
        let step = builder().compile(&device, |s| {
            let (t, own) = (s.model("teacher", &teacher)?, s.model("student", &student)?);
            let (x, label) = (s.input("input", [3])?, s.input("target", Input::u32([]))?);
            let known = s.evaluate(t, &[x])?;
            let scores = s.call(own, &[x])?;
            let near = s.loss(&Loss::mse(), &[scores], &[known])?;
            let right = s.loss(&(Loss::cross_entropy() * 0.5), &[scores], &[label])?;
            let loss = s.sum(&[near, right])?;
            s.track("near", near)?;
            s.minimise("distilled", loss, &[own], &adam)
        });
        let mut step = step.unwrap();
        let before = under(&fixtures, "distilled/teacher");
        step.set_weights("teacher", &before).unwrap();
        let student = under(&fixtures, "distilled/before");
        step.set_weights("student", &student).unwrap();
        let losses = floats(&fixtures, "distilled/losses");
        for (k, wanted) in losses.iter().enumerate() {
            step.feed("input", &inputs[k * 18..][..18]).unwrap();
            step.feed("target", &labels[k * 6..][..6]).unwrap();
            step.run(1).unwrap();
            let numbers = step.numbers().unwrap();
            let gap = (numbers["distilled"][0] / f64::from(*wanted) - 1.0).abs();
            assert!(gap < 1e-5, "step {k}: {gap:e}");
            assert!(numbers["near"][0] < numbers["distilled"][0]);
        }
        let wanted = under(&fixtures, "distilled/after");
        let found = step.weights("student").unwrap().remove(0);
        hold(&found, &wanted, "student");
        let after = step.weights("teacher").unwrap().remove(0);
        for (name, before) in before.tensors() {
            assert_eq!(after.get(name).unwrap(), before, "{name}");
        }
        let states = step.optimizer_state().unwrap();
        assert!(
            states
                .iter()
                .all(|(name, _)| name.starts_with("distilled: student."))
        );
    }
}

fn points(rows: usize) -> Dataset {
    let real: Vec<f32> = (0..rows * 2).map(|i| (i as f32 * 0.37).sin()).collect();
    Dataset::new().with("real", [2], real).unwrap()
}

#[test]
fn a_step_over_resident_data_with_noise_uploads_nothing_and_repeats_its_bits() {
    let data = points(40);
    for device in devices() {
        let run = |replicas, first| {
            let how = builder().replicas(replicas).first_replica(first);
            let describe = |s: &mut JointScope<'_>| adversaries(s, false, true);
            let mut step = how.compile_over(&data, &device, describe).unwrap();
            let before = step.traffic();
            step.run(20).unwrap();
            let now = step.traffic();
            assert_eq!(now.uploaded, before.uploaded);
            assert_eq!(now.readbacks, before.readbacks);
            let per_step = step.launches().len() as u64;
            // 20 steps of 6 rows from 40 are four epochs, whose orders take a launch each.
            assert_eq!(now.launches - before.launches, 20 * per_step + 4);
            let labels = step.launches().iter().map(|l| l.label.as_str());
            assert_eq!(per_step, LAUNCHES, "{:#?}", labels.collect::<Vec<_>>());
            (step.numbers().unwrap(), step.weights("generator").unwrap())
        };
        let (numbers, weights) = run(3, 0);
        assert_eq!((&numbers, &weights), (&run(3, 0).0, &run(3, 0).1));
        let (alone, of_it) = run(1, 1);
        assert_eq!(of_it[0], weights[1]);
        assert_eq!(alone["fooled"][0], numbers["fooled"][1]);
        assert_ne!(weights[0], weights[1]);
    }
}

/// The launches of a step of two networks of two dense layers each.
const LAUNCHES: u64 = 29;

/// Mean, variance, fourth moment and tails of what is drawn; two draws have nothing in common, and a
/// step draws other numbers than the step before.
#[test]
fn noise_is_normal_or_uniform_and_never_the_same() {
    let (n, nothing) = (4096, Model::sequential([1]).then(Dense::new(1)));
    let nothing = nothing.build().unwrap();
    for device in devices() {
        let mut step = JointStep::builder()
            .batch(n)
            .seed(5)
            .compile(&device, |s| {
                let (a, b, u) = (s.normal([1])?, s.normal([1])?, s.uniform([1])?);
                let powers = [
                    (a, 1, "mean"),
                    (a, 2, "square"),
                    (a, 4, "fourth"),
                    (u, 1, "u"),
                ];
                for (value, power, name) in powers {
                    let raised =
                        pointwise(s, [value], |[x]| (1..power).fold(x.clone(), |y, _| y * &x))?;
                    let mean = s.mean(raised)?;
                    s.track(name, mean)?;
                }
                let (both, far) = (
                    pointwise(s, [a, b], |[a, b]| a * b)?,
                    pointwise(s, [a], |[a]| a.gt(2.0).select(1.0, 0.0))?,
                );
                let (both, far) = (s.mean(both)?, s.mean(far)?);
                s.track("both", both)?;
                s.track("far", far)?;
                let net = s.model("net", &nothing)?;
                let y = s.call(net, &[a])?;
                let loss = s.mean(y)?;
                s.minimise("loss", loss, &[net], &Optimizer::new(Sgd::default(), 0.0))
            })
            .unwrap();
        step.run(1).unwrap();
        let first = step.numbers().unwrap();
        step.run(16).unwrap();
        let numbers = step.numbers().unwrap();
        assert_ne!(first["mean"], numbers["mean"]);
        let wanted = [
            ("mean", 0.0, 1.0),
            ("square", 1.0, 2f64.sqrt()),
            ("fourth", 3.0, 96f64.sqrt()),
            ("u", 0.5, (1.0 / 12f64).sqrt()),
            ("both", 0.0, 1.0),
            ("far", 0.022_750, 0.15),
        ];
        for (name, wanted, deviation) in wanted {
            // Four standard deviations of a mean over 16 steps of 4096.
            let allowed = 4.0 * deviation / (16.0 * n as f64).sqrt();
            let found = numbers[name][0];
            assert!((found - wanted).abs() < allowed, "{name}: {found}");
        }
    }
}

#[test]
fn a_loss_by_weights_that_were_updated_since_is_refused() {
    let bce = Loss::binary_cross_entropy();
    let (sgd, _) = optimizers();
    let refused = builder().compile(&cpu(), |s| {
        let d = s.model("critic", &discriminator())?;
        let g = s.model("generator", &generator())?;
        let (x, z, one) = (s.input("x", [2])?, s.normal([3])?, s.fill([1], 1.0)?);
        let fake = s.call(g, &[z])?;
        let judged = s.call(d, &[fake])?;
        let y = s.call(d, &[x])?;
        let loss = s.loss(&bce, &[y], &[one])?;
        s.minimise("first", loss, &[d], &sgd)?;
        let stale = s.loss(&bce, &[judged], &[one])?;
        s.minimise("second", stale, &[g], &sgd)
    });
    let text = refused.unwrap_err().to_string();
    assert!(
        text.contains("loss second") && text.contains("critic.dense"),
        "{text}"
    );

    let model = discriminator();
    type Describe<'a> = &'a dyn Fn(&mut JointScope<'_>) -> Result<()>;
    let normed = Model::sequential([2]).then(BatchNorm::new());
    let normed = normed.build().unwrap();
    let dense = Model::sequential([2]).then(Dense::new(2)).build().unwrap();
    let refusals: [(Describe<'_>, &str); 9] = [
        // The gradient of an evaluation would be by statistics that another use has moved since.
        (
            &|s| {
                let (g, n) = (s.model("g", &dense)?, s.model("n", &normed)?);
                let x = s.input("x", [2])?;
                let h = s.call(g, &[x])?;
                let y = s.evaluate(n, &[h])?;
                s.call(n, &[x])?;
                let loss = s.mean(y)?;
                s.minimise("l", loss, &[g], &sgd)
            },
            "n.batch_norm.running_",
        ),
        (
            &|s| {
                let (g, x) = (s.model("g", &dense)?, s.input("x", [2])?);
                let y = s.call(g, &[x])?;
                let loss = s.mean(y)?;
                s.minimise("l", loss, &[g, g], &sgd)
            },
            "model g twice",
        ),
        (&|_| Ok(()), "a loss that is minimised"),
        (
            &|s| {
                s.model("a", &model)?;
                s.model("a", &model).map(drop)
            },
            "a name of its own",
        ),
        (
            &|s| {
                let (d, x) = (s.model("a", &model)?, s.input("x", [3])?);
                s.call(d, &[x]).map(drop)
            },
            "model a, input input",
        ),
        (
            &|s| {
                let (d, x) = (s.model("a", &model)?, s.input("x", [2])?);
                let y = s.call(d, &[x])?;
                s.minimise("l", y, &[d], &sgd)
            },
            "loss l",
        ),
        (
            &|s| {
                let (a, b) = (s.model("a", &model)?, s.model("b", &model)?);
                let x = s.input("x", [2])?;
                let (y, _) = (s.call(a, &[x])?, s.call(b, &[x])?);
                let loss = s.mean(y)?;
                s.minimise("l", loss, &[b], &sgd)
            },
            "no influence on the cost",
        ),
        (
            &|s| {
                let x = s.input("x", [2])?;
                s.loss(&Loss::cross_entropy(), &[x], &[x]).map(drop)
            },
            "loss cross_entropy, target",
        ),
        (
            &|s| s.input("x", [2]).and_then(|_| s.input("x", [3]).map(drop)),
            "as where it was asked for first",
        ),
    ];
    for (describe, wanted) in refusals {
        let text = builder().compile(&cpu(), describe).unwrap_err().to_string();
        assert!(text.contains(wanted), "{text}");
    }
}

/// Two uses of a model with dropout, and two models, draw different masks; what is detached trains
/// nothing before it.
#[test]
fn uses_draw_their_own_masks_and_a_detached_value_passes_no_gradient() {
    let dropped = Model::sequential([8])
        .then(Dropout::new(0.5))
        .build()
        .unwrap();
    let dense = Model::sequential([2]).then(Dense::new(2)).build().unwrap();
    let (sgd, _) = optimizers();
    let mut step = builder()
        .compile(&cpu(), |s| {
            let (a, b) = (s.model("a", &dropped)?, s.model("b", &dropped)?);
            let x = s.fill([8], 1.0)?;
            let masks = [s.call(a, &[x])?, s.call(a, &[x])?, s.call(b, &[x])?];
            for (name, i, k) in [("twice", 0, 1), ("two", 0, 2)] {
                let gap = pointwise(s, [masks[i], masks[k]], |[a, b]| (a - b).square())?;
                let gap = s.mean(gap)?;
                s.track(name, gap)?;
            }
            let (first, second) = (s.model("first", &dense)?, s.model("second", &dense)?);
            let x = s.input("x", [2])?;
            let h = s.call(first, &[x])?;
            let (kept, h) = (s.mean(h)?, s.detach(h)?);
            let y = s.call(second, &[h])?;
            let y = s.mean(y)?;
            let loss = s.sum(&[y, kept])?;
            s.minimise("loss", loss, &[first, second], &sgd)
        })
        .unwrap();
    step.feed("x", &[1.0; 12]).unwrap();
    let before = step.weights("first").unwrap().remove(0);
    step.run(1).unwrap();
    let numbers = step.numbers().unwrap();
    assert!(numbers["twice"][0] > 0.5 && numbers["two"][0] > 0.5);
    // Through `kept` alone: the gradient of the mean of h over 6 x 2 elements.
    let after = step.weights("first").unwrap().remove(0);
    let (before, after) = (
        before.get("dense.bias").unwrap(),
        after.get("dense.bias").unwrap(),
    );
    for (before, after) in before.iter().zip(after) {
        assert!(
            (before - after - 0.1 * 0.5).abs() < 1e-6,
            "{before}, {after}"
        );
    }
}

/// A loss whose rate is set to 0, or whose models are frozen, trains no more, and the other one does.
#[test]
fn rates_are_set_and_models_frozen_by_hand() {
    let data = points(40);
    for device in devices() {
        let compile = |by_hand| {
            let how = builder().replicas(2);
            let how = if by_hand { how.by_hand() } else { how };
            let describe = |s: &mut JointScope<'_>| adversaries(s, false, true);
            how.compile_over(&data, &device, describe).unwrap()
        };
        let (mut plain, mut step) = (compile(false), compile(true));
        plain.run(5).unwrap();
        step.run(5).unwrap();
        let models = ["generator", "discriminator"];
        let all = |step: &mut JointStep| models.map(|name| step.weights(name).unwrap());
        let before = all(&mut step);
        // Updates that read a table are fused otherwise: the last bits may differ.
        for (own, plain) in before.iter().zip(all(&mut plain)) {
            for (own, plain) in own.iter().zip(&plain) {
                hold(own, plain, "rates by hand");
            }
        }
        step.freeze(|name| name.starts_with("generator.")).unwrap();
        step.run(3).unwrap();
        let frozen = all(&mut step);
        assert_eq!(frozen[0], before[0]);
        assert_ne!(frozen[1], before[1]);
        step.freeze(|_| false).unwrap();
        step.set_rate("critic", 0.0).unwrap();
        step.run(3).unwrap();
        assert_ne!(all(&mut step)[0], before[0]);
        let error = step.set_rate("criti", 0.1).unwrap_err().to_string();
        assert!(error.contains("critic"), "{error}");
        assert!(plain.set_rate("critic", 0.1).is_err() && plain.freeze(|_| true).is_err());
    }
}

#[test]
fn columns_that_are_no_targets_of_a_loss_are_refused() {
    let data = Dataset::new().with("x", [2], vec![0.5f32; 32]).unwrap();
    let mut labels = vec![0u32; 16];
    labels[9] = 3;
    let data = data.with("label", [], labels).unwrap();
    let mut shares = vec![0.25f32; 64];
    shares[30] = 0.5;
    let data = data.with("shares", [4], shares).unwrap();
    let told = |classes: usize, target: &'static str, probabilities: bool| {
        let model = Model::sequential([2]).then(Dense::new(classes));
        let model = model.build().unwrap();
        let step = builder().compile_over(&data, &cpu(), |s| {
            let net = s.model("net", &model)?;
            let x = s.input("x", [2])?;
            let target = match probabilities {
                true => s.input(target, [classes])?,
                false => s.input(target, Input::u32([]))?,
            };
            let y = s.call(net, &[x])?;
            let loss = Loss::of_criterion(CrossEntropy {
                probabilities,
                ..CrossEntropy::default()
            });
            let loss = s.loss(&loss, &[y], &[target])?;
            s.minimise("loss", loss, &[net], &optimizers().0)
        });
        step.map(drop).map_err(|e| e.to_string())
    };
    let label = told(3, "label", false).unwrap_err();
    assert!(
        label.contains("training data, column label: found 3 in row 9; wanted classes from 0 to 2"),
        "{label}"
    );
    assert_eq!(told(4, "label", false), Ok(()));
    let shares = told(4, "shares", true).unwrap_err();
    assert!(shares.contains("whose sum is 1.2500, in row 7"), "{shares}");
}

#[test]
fn what_is_fed_is_held_to_what_losses_and_embeddings_take() {
    let classes = Model::sequential([2]).then(Dense::new(2)).build().unwrap();
    let shares = Model::sequential([2]).then(Dense::new(1)).build().unwrap();
    let words = Model::sequential(Input::u32([3]))
        .then(Embedding::new(5, 2))
        .then(Flatten)
        .then(Dense::new(2));
    let words = words.build().unwrap();
    let mut step = builder()
        .compile(&cpu(), |s| {
            let x = s.input("x", [2])?;
            let (label, share) = (s.input("label", Input::u32([]))?, s.input("share", [1])?);
            let word = s.input("word", Input::u32([3]))?;
            let (a, b) = (s.model("a", &classes)?, s.model("b", &shares)?);
            let c = s.model("c", &words)?;
            let scores = [s.call(a, &[x])?, s.call(c, &[word])?];
            let of_a = s.loss(&Loss::cross_entropy(), &[scores[0]], &[label])?;
            let of_c = s.loss(&Loss::cross_entropy(), &[scores[1]], &[label])?;
            let y = s.call(b, &[x])?;
            let of_b = s.loss(&Loss::binary_cross_entropy(), &[y], &[share])?;
            let sum = s.sum(&[of_a, of_b, of_c])?;
            s.minimise("loss", sum, &[a, b, c], &optimizers().0)
        })
        .unwrap();
    step.feed("x", &[0.5; 12]).unwrap();
    step.feed("label", &[0u32, 1, 0, 1, 0, 1]).unwrap();
    step.feed("share", &[0.5; 6]).unwrap();
    step.feed("word", &[4u32; 18]).unwrap();
    let label = step.feed("label", &[0u32, 1, 0, 9, 0, 1]).unwrap_err();
    let share = step.feed("share", &[0.5, 0.5, 1.5, 0.5, 0.5, 0.5]);
    let mut far = [4u32; 18];
    far[4] = 5;
    let word = step.feed("word", &far).unwrap_err();
    for (told, wanted) in [
        (
            label,
            "column label: found 9 in row 3; wanted classes from 0 to 1",
        ),
        (
            share.unwrap_err(),
            "column share: found 1.5 in row 2; wanted numbers from 0 to 1",
        ),
        (
            word,
            "column word: found 5 in row 1; wanted integers from 0 to 4",
        ),
    ] {
        assert!(told.to_string().contains(wanted), "{told}");
    }
    // What was fed before has stayed.
    step.run(1).unwrap();
    assert!(step.numbers().unwrap()["loss"][0] > 0.0);
    // A type and a size that do not fit are told of as before.
    let floats = step.feed("label", &[0.0; 6]).unwrap_err().to_string();
    assert!(floats.contains("found floats; wanted integers"), "{floats}");
    let few = step.feed("word", &[9u32; 4]).unwrap_err().to_string();
    assert!(few.contains("word"), "{few}");
}

#[test]
fn resident_words_without_a_row_and_labels_of_which_none_counts_are_refused() {
    let model = Model::sequential(Input::u32([3]))
        .then(Embedding::new(5, 2))
        .then(Flatten)
        .then(Dense::new(2));
    let model = model.build().unwrap();
    let told = |word: u32, label: u32, loss: CrossEntropy| {
        let mut words = vec![4u32; 48];
        words[20] = word;
        let data = Dataset::new().with("word", [3], words).unwrap();
        let data = data.with("label", [], vec![label; 16]).unwrap();
        let step = builder().compile_over(&data, &cpu(), |s| {
            let net = s.model("net", &model)?;
            let (word, label) = (
                s.input("word", Input::u32([3]))?,
                s.input("label", Input::u32([]))?,
            );
            let y = s.call(net, &[word])?;
            let loss = s.loss(&Loss::of_criterion(loss), &[y], &[label])?;
            s.minimise("loss", loss, &[net], &optimizers().0)
        });
        step.map(drop).map_err(|e| e.to_string())
    };
    let plain = CrossEntropy::default;
    assert_eq!(told(4, 1, plain()), Ok(()));
    let word = told(5, 1, plain()).unwrap_err();
    let wanted = "training data, column word: found 5 in row 6; wanted integers from 0 to 4";
    assert!(word.contains(wanted), "{word}");
    let ignoring = |label| CrossEntropy {
        ignored: Some(label),
        ..plain()
    };
    let weighted = CrossEntropy {
        weights: vec![0.0, 1.0],
        ..plain()
    };
    assert_eq!(told(4, 0, ignoring(9)), Ok(()));
    for loss in [told(4, 9, ignoring(9)), told(4, 0, weighted)] {
        let told = loss.unwrap_err();
        assert!(
            told.starts_with("training data, column label: found no label but"),
            "{told}"
        );
    }
}

#[test]
fn data_without_the_column_or_without_rows_are_refused_by_name() {
    let model = Model::sequential([2]).then(Dense::new(2)).build().unwrap();
    let told = |data: &Dataset| {
        let step = builder().compile_over(data, &cpu(), |s| {
            let net = s.model("net", &model)?;
            let x = s.input("pixels", [2])?;
            let y = s.call(net, &[x])?;
            let loss = s.mean(y)?;
            s.minimise("loss", loss, &[net], &optimizers().0)
        });
        step.map(drop).unwrap_err().to_string()
    };
    let none = told(&Dataset::new());
    assert_eq!(
        none,
        "training data, rows: found none; wanted at least one row"
    );
    let missing = told(&Dataset::new().with("x", [2], vec![0.5f32; 32]).unwrap());
    assert_eq!(
        missing,
        "training data, joint step: unknown column `pixels`; known: x"
    );
}

/// Their mean is 0/0, and every weight that it trains would be lost.
#[test]
fn a_fed_mini_batch_of_which_no_label_counts_is_refused() {
    let model = Model::sequential([2]).then(Dense::new(2)).build().unwrap();
    let loss = Loss::of_criterion(CrossEntropy {
        ignored: Some(9),
        ..CrossEntropy::default()
    });
    let (sgd, _) = optimizers();
    let mut joint = builder()
        .compile(&cpu(), |s| {
            let net = s.model("net", &model)?;
            let (x, label) = (s.input("input", [2])?, s.input("target", Input::u32([]))?);
            let y = s.call(net, &[x])?;
            let loss = s.loss(&loss, &[y], &[label])?;
            s.minimise("loss", loss, &[net], &sgd)
        })
        .unwrap();
    let step = TrainStep::builder(&model, &loss, &sgd).batch(BATCH);
    let mut step = step.compile(&cpu()).unwrap();
    let mut feed = |labels: &[u32]| {
        let told = [joint.feed("target", labels), step.feed("target", labels)];
        told.map(|fed| fed.map_err(|e| e.to_string()))
    };
    assert_eq!(feed(&[9, 9, 1, 9, 9, 9]), [Ok(()), Ok(())]);
    for told in feed(&[9; BATCH]) {
        let told = told.unwrap_err();
        assert!(
            told.contains("column target: found no label but of classes that count nothing (9)"),
            "{told}"
        );
    }
}

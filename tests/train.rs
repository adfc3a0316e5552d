//! Whole runs: repeatable, independent of replicas, of fusion and of the device, and as
//! quiet on the bus as the contracts say.

mod common;

use common::gpu;
use wgrad::Error;
use wgrad::book::nn::{Cost, Init, Layer, Network, recipe};
use wgrad::book::train::{Decay, Epoch, Model, Outcome, Predictor, Settings, Trainer};
use wgrad::data::digits::{Part, generate};
use wgrad::data::{Images, Split};
use wgrad::exec::{Choice, Device};
use wgrad::kernel::Target;
use wgrad::model_file::ModelFile;
use wgrad::ops::gather::Expansion;

fn digits(train: usize, held_out: usize) -> Split {
    let part = |part, n| generate(5, part, n).unwrap();
    Split {
        train: part(Part::Train, train),
        validation: part(Part::Validation, held_out),
        test: part(Part::Test, held_out),
        synthetic: true,
    }
}

/// Everything at once, small: convolution, both pools' kin, dropout, expansion, decay.
fn network() -> Network {
    Network::new([1, 28, 28])
        .conv2d(4, 5)
        .max_pool2d(2)
        .relu()
        .conv2d(6, 3)
        .max_pool2d(2)
        .relu()
        .flatten()
        .dropout(0.3)
        .dense(20)
        .relu()
        .dropout(0.5)
        .dense(10)
        .softmax()
        .init(Init::He)
}

fn settings() -> Settings {
    Settings {
        epochs: 2,
        batch: 8,
        learning_rates: vec![0.05, 0.02],
        momentum: 0.5,
        l2: Decay::PerExample(0.1),
        expansion: Expansion::Shifts,
        evaluation_batch: 32,
        ..Settings::default()
    }
}

fn cpu() -> Device {
    Device::open(Choice::Cpu).unwrap()
}

/// The CPU and, where there is one, the GPU.
fn devices() -> Vec<Device> {
    std::iter::once(cpu()).chain(gpu()).collect()
}

fn train(
    network: &Network,
    data: &Split,
    settings: &Settings,
    device: &Device,
) -> (Outcome, Model) {
    let mut trainer = Trainer::new(network, data, settings, device).unwrap();
    let outcome = trainer.run(&mut |_| {}).unwrap();
    (outcome, trainer.model().unwrap())
}

/// The largest difference between two sets of weights, over the largest weight.
fn apart(a: &Model, b: &Model) -> f64 {
    let (mut off, mut scale) = (0.0f64, 0.0f64);
    for (a, b) in a.replicas.iter().flatten().zip(b.replicas.iter().flatten()) {
        assert_eq!(a.0, b.0);
        for (&x, &y) in a.1.iter().zip(&b.1) {
            off = off.max(f64::from((x - y).abs()));
            scale = scale.max(f64::from(x.abs()));
        }
    }
    off / scale
}

#[test]
fn the_same_seed_gives_the_same_bits() {
    let data = digits(60, 20);
    for device in devices() {
        let hash = |seed| {
            let settings = Settings { seed, ..settings() };
            train(&network(), &data, &settings, &device).1.sha256()
        };
        assert_eq!(hash(3), hash(3), "{}", device.info().name);
        assert_ne!(hash(3), hash(4), "{}", device.info().name);
    }
}

#[test]
fn a_member_equals_the_network_trained_alone() {
    let data = digits(60, 20);
    for device in devices() {
        let run = |replicas, first_replica| {
            let settings = Settings {
                replicas,
                first_replica,
                ..settings()
            };
            train(&network(), &data, &settings, &device)
        };
        let (together, five) = run(5, 0);
        let hashes = five.sha256();
        for k in [0, 3] {
            let (alone, one) = run(1, k);
            assert_eq!(
                hashes[k],
                one.sha256()[0],
                "member {k} on {}",
                device.info().name
            );
            let costs = |epochs: &[Epoch], r: usize| -> Vec<f64> {
                epochs.iter().map(|e| e.training_cost[r]).collect()
            };
            assert_eq!(costs(&together.epochs, k), costs(&alone.epochs, 0));
            assert_eq!(together.test.predictions[k], alone.test.predictions[0]);
        }
        let distinct: std::collections::HashSet<_> = hashes.iter().collect();
        assert_eq!(distinct.len(), 5, "members differ from each other");
    }
}

/// Random small networks from their number: layers in an order that fits.
fn random_network(number: u32) -> Network {
    let mut words = common::words(7000 + number, 16).into_iter();
    let mut pick = move |n: u32| words.next().unwrap() % n;
    let activations = [Layer::Sigmoid, Layer::Tanh, Layer::Relu];
    let mut network = Network::new([1, 28, 28]);
    if pick(3) > 0 {
        network = network.layer(Layer::Conv2d {
            filters: 2 + pick(3) as usize,
            kernel: [3 + pick(2) as usize, 3],
            stride: [1 + pick(2) as usize, 2],
            padding: [pick(2) as usize, 1],
            dilation: [1, 1],
            groups: 1,
        });
        if pick(2) == 0 {
            network = network.layer(activations[pick(3) as usize].clone());
        }
        network = match pick(3) {
            0 => network.max_pool2d(2),
            1 => network.avg_pool2d(3),
            _ => network,
        };
        if pick(2) == 0 {
            network = network.layer(activations[pick(3) as usize].clone());
        }
    }
    network = network.flatten();
    if pick(2) == 0 {
        network = network.dropout(0.25);
    }
    network = network
        .dense(7)
        .layer(activations[pick(3) as usize].clone())
        .dense(10);
    network = match pick(3) {
        0 => network.softmax().cost(Cost::LogLikelihood),
        1 => network.sigmoid().cost(Cost::CrossEntropy),
        _ => network.sigmoid().cost(Cost::Quadratic),
    };
    network.init([Init::Scaled, Init::Glorot, Init::He][pick(3) as usize])
}

#[test]
fn fused_equals_unfused() {
    let data = digits(24, 8);
    for device in devices() {
        for number in 0..12 {
            let network = random_network(number);
            let run = |fuse| {
                let settings = Settings {
                    fuse,
                    epochs: 1,
                    batch: 4,
                    momentum: f64::from(number % 2) * 0.5,
                    ..settings()
                };
                train(&network, &data, &settings, &device).1
            };
            // Six steps; each rounds a few sums in another way.
            let off = apart(&run(true), &run(false));
            assert!(off < 1e-5, "{off:e} on {}: {network:?}", device.info().name);
        }
    }
}

#[test]
fn the_gpu_follows_the_cpu() {
    let data = digits(200, 50);
    // Without momentum other ops are fused, and those have kernels of every kind.
    for (momentum, target) in [
        (0.5, Target::Gpu),
        (0.0, Target::Gpu),
        (0.0, Target::Processor),
        (0.0, Target::Lanes),
    ] {
        let Some(Device::Gpu(gpu)) = gpu() else {
            return;
        };
        let gpu = Device::Gpu(gpu.preferring(target));
        let settings = Settings {
            momentum,
            ..settings()
        };
        let (cpu, _) = train(&network(), &data, &settings, &cpu());
        let (gpu, _) = train(&network(), &data, &settings, &gpu);
        for (c, g) in cpu.epochs.iter().zip(&gpu.epochs) {
            let (c, g) = (c.training_cost[0], g.training_cost[0]);
            assert!(
                (c - g).abs() <= 0.01 * c,
                "cost {c} on the CPU, {g} on the GPU by kernels for {target:?}"
            );
        }
    }
}

#[test]
fn a_step_moves_nothing_and_an_epoch_reads_once() {
    let data = digits(60, 20);
    for device in devices() {
        let mut trainer = Trainer::new(&network(), &data, &settings(), &device).unwrap();
        let before = trainer.traffic();
        trainer.epoch(&mut |_| {}).unwrap();
        let after = trainer.traffic();
        assert_eq!(after.uploaded, before.uploaded);
        assert_eq!(after.readbacks, before.readbacks + 1);
        // Metrics and guards of three sets, twenty predictions.
        assert!(
            after.read_back - before.read_back <= 4 * (4 * 4 + 20),
            "{after:?}"
        );
    }
}

/// Launches per training step, counted for the named networks as they are trained.
#[test]
fn launches_per_step() {
    let data = digits(20, 10);
    for (name, wanted) in [("conv-dropout", 13), ("conv-relu", 10), ("mlp-30", 5)] {
        let recipe = recipe(name, [1, 28, 28], 10).unwrap();
        let settings = Settings::from(&recipe);
        let device = cpu();
        let plan = Trainer::plan(&recipe.network, &data, &settings, device.info()).unwrap();
        let launches = plan.account().programs["train"].launches;
        println!("{name}: {launches} launches per step");
        assert_eq!(launches, wanted, "{name}");
        let mut trainer = Trainer::new(&recipe.network, &data, &settings, &device).unwrap();
        let before = trainer.traffic().launches;
        trainer.epoch(&mut |_| {}).unwrap();
        let held_out: usize = ["evaluate validation", "evaluate test", "order", "check"]
            .map(|p| plan.programs[p].len())
            .iter()
            .sum();
        let steps = trainer.steps_per_epoch();
        let launched = trainer.traffic().launches - before;
        assert_eq!(launched as usize, steps * launches + held_out);
    }
}

#[test]
fn a_model_comes_back_as_it_went() {
    let data = digits(60, 37);
    let settings = Settings {
        replicas: 2,
        ..settings()
    };
    let (outcome, model) = train(&network(), &data, &settings, &cpu());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    model.save(&path).unwrap();
    let back = Model::load(&path).unwrap();
    assert_eq!(back, model);
    assert_eq!(back.sha256(), model.sha256());
    let mut predictor = Predictor::new(&back, &data.test, &cpu()).unwrap();
    let evaluation = predictor.evaluate().unwrap();
    assert_eq!(evaluation.predictions, outcome.test.predictions);
    assert_eq!(evaluation.accuracy, outcome.test.accuracy);
    let outputs = predictor.outputs().unwrap();
    assert_eq!(
        (outputs.len(), outputs[0].len(), outputs[0][0].len()),
        (2, 37, 10)
    );
    for (probabilities, &class) in outputs[1].iter().zip(&evaluation.predictions[1]) {
        let sum: f32 = probabilities.iter().sum();
        assert!((sum - 1.0).abs() < 1e-5);
        assert!(
            probabilities
                .iter()
                .all(|p| *p <= probabilities[class as usize])
        );
    }
}

/// Such a network answers nothing: whoever reads, asks or trains it is told which tensor.
#[test]
fn weights_that_are_not_finite_are_refused_by_name() {
    let data = digits(40, 20);
    let settings = Settings {
        replicas: 2,
        ..settings()
    };
    let mut trainer = Trainer::new(&network(), &data, &settings, &cpu()).unwrap();
    let model = trainer.model().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let mut broken = model.clone();
        let (name, tensor) = &mut broken.replicas[1][0];
        tensor.as_slice_mut().unwrap()[3] = value;
        let name = name.clone();
        // Such a model is not saved either; the file is another program's.
        model.save(&path).unwrap();
        let mut file = ModelFile::load(&path).unwrap();
        let stored = file
            .tensors
            .iter_mut()
            .find(|(n, _)| *n == format!("r1.{name}"));
        stored.unwrap().1.as_slice_mut().unwrap()[3] = value;
        file.save(&path).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        let wanted = format!("found {value} at index 3 of tensor `r1.{name}`");
        for loaded in [Model::load(&path), Model::from_bytes(&path, &bytes)] {
            let text = loaded.unwrap_err().to_string();
            assert!(text.contains(&wanted), "{text}");
        }
        let given = format!("{name} of replica 1: found {value}; wanted finite weights");
        let asked = Predictor::new(&broken, &data.test, &cpu()).map(|_| ());
        assert_eq!(asked.unwrap_err().to_string(), given);
        let start = trainer.set_weights(&broken);
        assert_eq!(start.unwrap_err().to_string(), given);
    }
}

/// A network may be asked about images that lack its last classes, and not about others.
#[test]
fn a_network_answers_on_fewer_classes_than_it_knows() {
    let data = digits(40, 20);
    let mut trainer = Trainer::new(&network(), &data, &settings(), &cpu()).unwrap();
    let model = trainer.model().unwrap();
    let ask = |classes: usize| {
        let labels = (0..20).map(|i| (i % classes.min(10)) as u8).collect();
        let pixels = data.test.pixels[..20 * 784].to_vec();
        let images = Images::new("asked", 28, 28, classes, pixels, labels).unwrap();
        Predictor::new(&model, &images, &cpu()).and_then(|mut p| p.evaluate())
    };
    assert_eq!(ask(4).unwrap().predictions, ask(10).unwrap().predictions);
    assert_eq!(
        ask(11).unwrap_err().to_string(),
        "output: found 10 outputs for the 11 classes of asked; wanted one output for each \
         class, labels being 0 to 10"
    );
}

/// The sentinel looks at every launch of the plan in turn and finds nothing, and the run
/// is the run it would have been without.
#[test]
fn the_sentinel_changes_nothing() {
    let data = digits(60, 20);
    for device in devices() {
        let hash = |verify_every| {
            let settings = Settings {
                verify_every,
                replicas: 2,
                ..settings()
            };
            train(&network(), &data, &settings, &device).1.sha256()
        };
        let plain = hash(0);
        for every in [1, 7] {
            assert_eq!(
                hash(every),
                plain,
                "every {every} on {}",
                device.info().name
            );
        }
    }
}

/// A piece of a run.
#[derive(Clone, Copy, Debug)]
enum Piece {
    Prepare,
    Steps(u64),
    Profile(u64),
    Epoch,
}

/// However a run is cut, it trains what epochs alone train and reports what they report.
#[test]
fn steps_and_epochs_in_any_order() {
    use Piece::{Epoch as E, Prepare as P, Profile, Steps as S};
    let data = digits(60, 20);
    let settings = Settings {
        epochs: 5,
        learning_rates: vec![0.05, 0.02, 0.03],
        average_from: Some(3),
        measure_training: true,
        replicas: 2,
        ..settings()
    };
    let own = |mut epoch: Epoch| {
        epoch.seconds = 0.0;
        epoch
    };
    for device in devices() {
        let begin = || Trainer::new(&network(), &data, &settings, &device).unwrap();
        let mut plain = begin();
        let per_epoch = plain.steps_per_epoch() as u64;
        assert_eq!(per_epoch, 37);
        let mut whole = Vec::new();
        for _ in 0..5 {
            let epoch = own(plain.epoch(&mut |_| {}).unwrap().0);
            whole.push((epoch, plain.model().unwrap().sha256()));
        }
        let pieces: [(&[Piece], &[usize]); 7] = [
            (&[P, S(3), E, S(5), E], &[1, 2]),
            (&[S(37), E], &[2]),
            (&[S(36), S(1), P, S(3), E], &[2]),
            (&[S(40), E, P, P, E, S(0), E], &[2, 3, 4]),
            (&[S(100), E, S(10), P, E, S(1), E], &[3, 4, 5]),
            (&[E, S(74), E], &[1, 4]),
            (&[S(3), Profile(70), S(2), E], &[3]),
        ];
        for (pieces, reported) in pieces {
            let what = format!("{pieces:?} on {}", device.info().name);
            let mut trainer = begin();
            let (mut reported, mut uploaded) = (reported.iter(), 0);
            for piece in pieces {
                let before = trainer.traffic();
                match *piece {
                    P => trainer.prepare().unwrap(),
                    S(count) => trainer.steps(count).unwrap(),
                    Profile(count) => drop(trainer.profile(count).unwrap()),
                    E => {
                        let epoch = own(trainer.epoch(&mut |_| {}).unwrap().0);
                        let number = reported.next().unwrap();
                        let (wanted, weights) = &whole[number - 1];
                        assert_eq!(&epoch, wanted, "{what}");
                        assert_eq!(&trainer.model().unwrap().sha256(), weights, "{what}");
                        assert_eq!(trainer.epochs_done(), *number);
                        continue;
                    }
                }
                let after = trainer.traffic();
                uploaded += after.uploaded - before.uploaded;
                assert_eq!(after.readbacks, before.readbacks, "{what}");
            }
            assert!(reported.next().is_none());
            // Nothing but the rates of the second and the third epoch, one for each replica.
            assert!(uploaded <= 2 * 2 * 4, "{what}: {uploaded}");
        }
    }
}

/// A mini-batch may have more images than there are, where each has several views.
#[test]
fn a_mini_batch_may_be_larger_than_the_images_that_are_expanded() {
    let data = digits(20, 10);
    let settings = Settings {
        epochs: 1,
        batch: 61,
        expansion: Expansion::Shifts,
        ..Settings::default()
    };
    let mut trainer = Trainer::new(&network(), &data, &settings, &cpu()).unwrap();
    assert_eq!(trainer.steps_per_epoch(), 1);
    trainer.run(&mut |_| {}).unwrap();
}

/// A run that was begun by steps is finished, kept and resumed like any other.
#[test]
fn a_run_goes_on_after_steps() {
    let data = digits(60, 20);
    let settings = Settings {
        epochs: 4,
        average_from: Some(3),
        ..settings()
    };
    let begin = || Trainer::new(&network(), &data, &settings, &cpu()).unwrap();
    let mut plain = begin();
    let whole = plain.run(&mut |_| {}).unwrap();
    let weights = plain.model().unwrap().sha256();
    for (steps, epochs) in [(3, 4), (37, 3), (100, 2), (4 * 37, 0)] {
        let folder = tempfile::tempdir().unwrap();
        let mut trainer = begin();
        trainer.keep_checkpoints(folder.path(), 9).unwrap();
        trainer.steps(steps).unwrap();
        let outcome = trainer.run(&mut |_| {}).unwrap();
        assert_eq!(outcome.epochs.len(), epochs, "after {steps} steps");
        assert_eq!(outcome.test, whole.test);
        assert_eq!(trainer.model().unwrap().sha256(), weights);
        // From the newest checkpoint, and from the one before it.
        for gone in 0..epochs.min(2) {
            let mut trainer = begin();
            trainer.keep_checkpoints(folder.path(), 9).unwrap();
            assert_eq!(trainer.resume().unwrap(), 4 - gone);
            let again = trainer.run(&mut |_| {}).unwrap();
            let numbers = |o: &Outcome| -> Vec<_> { o.epochs.iter().map(|e| e.epoch).collect() };
            assert_eq!(numbers(&again), numbers(&outcome));
            assert_eq!(trainer.model().unwrap().sha256(), weights);
            let files = std::fs::read_dir(folder.path()).unwrap();
            let newest = files
                .map(|e| e.unwrap().path())
                .filter(|p| p.extension().is_some_and(|e| e == "safetensors"));
            std::fs::remove_file(newest.max().unwrap()).unwrap();
        }
    }
    // Until the first mean is taken, the weights are those of now.
    let mut with = begin();
    with.steps(40).unwrap();
    let without = Settings {
        average_from: None,
        ..settings.clone()
    };
    let mut without = Trainer::new(&network(), &data, &without, &cpu()).unwrap();
    without.steps(40).unwrap();
    assert_eq!(with.model().unwrap(), without.model().unwrap());
    assert_eq!(with.evaluate().unwrap(), without.evaluate().unwrap());
    assert!(with.set_weights(&without.model().unwrap()).is_err());
    assert!(with.steps(u64::from(u32::MAX)).is_err());
}

/// Runs at rates and decays that break them: an epoch that ends well leaves finite weights, also
/// where nothing was evaluated after its last update, and one that does not says so. A sample of
/// the runs; with WGRAD_EXPLOSIONS all 384 on each device.
#[test]
fn no_epoch_ends_well_with_a_weight_that_is_not_finite() {
    const RATES: [f64; 8] = [0.01, 3.0, 1e3, 1e6, 1e10, 1e25, 1e30, 3e38];
    let data = digits(40, 10);
    let network = |init, kind: usize| {
        let start = Network::new([1, 28, 28]);
        let hidden = match kind {
            0 => start.flatten().dense(12).relu(),
            1 => start.flatten().dense(30).relu().dense(30).relu(),
            _ => start.conv2d(3, 5).max_pool2d(2).relu().flatten(),
        };
        hidden.dense(10).softmax().init(init)
    };
    let inits = [Init::Large, Init::He, Init::Scaled, Init::Network3];
    let all = std::env::var_os("WGRAD_EXPLOSIONS").is_some();
    let (mut well, mut lost, mut runs) = (0, 0, 0);
    for device in devices() {
        // 7 and 384 have no common factor, so the sample has some of everything.
        for run in (0..384).step_by(if all { 1 } else { 7 }) {
            let mut choice = run;
            let mut one_of = |n: usize| {
                let k = choice % n;
                choice /= n;
                k
            };
            let rate = RATES[one_of(8)];
            let (init, kind) = (inits[one_of(4)], one_of(3));
            let settings = Settings {
                epochs: 3,
                batch: [10, 40][one_of(2)],
                learning_rates: vec![0.01, rate],
                momentum: [0.0, 0.9][one_of(2)],
                l2: Decay::PerBatch([0.0, 1.0, 1e10][run % 3]),
                replicas: 1 + run / 5 % 2,
                // The second epoch is not evaluated.
                evaluate_every: 3,
                seed: 1 + run as u64,
                ..Settings::default()
            };
            let network = network(init, kind);
            let mut trainer = Trainer::new(&network, &data, &settings, &device).unwrap();
            let what = format!("run {run}, {init:?} at {rate} on {}", device.info().name);
            runs += 1;
            for _ in 0..3 {
                match trainer.epoch(&mut |_| {}) {
                    Ok(_) => {
                        let model = trainer.model().expect(&what);
                        let mut values = model.replicas.iter().flatten().flat_map(|(_, t)| t);
                        assert!(values.all(|w| w.is_finite()), "{what}");
                        well += 1;
                    }
                    Err(Error::NotFinite { place, .. }) => {
                        assert!(place.starts_with("epoch "), "{what}: {place}");
                        lost += 1;
                        break;
                    }
                    Err(e) => panic!("{what}: {e}"),
                }
            }
        }
    }
    println!("{runs} runs, {lost} of them lost; {well} epochs ended well");
    assert!(
        well > runs / 2 && lost > runs / 4,
        "{well} ended well, {lost} did not"
    );
}

/// In the first epoch, and in a later one from its checkpoint, which stays.
#[test]
fn an_explosion_is_named() {
    let data = digits(60, 20);
    for device in devices() {
        for exploding in [0, 1] {
            let mut rates = vec![0.01; exploding];
            rates.push(1e30);
            let settings = Settings {
                learning_rates: rates,
                replicas: 2,
                ..settings()
            };
            let folder = tempfile::tempdir().unwrap();
            let mut trainer = Trainer::new(&network(), &data, &settings, &device).unwrap();
            trainer.keep_checkpoints(folder.path(), 2).unwrap();
            match trainer.run(&mut |_| {}).unwrap_err() {
                Error::NotFinite {
                    place,
                    step,
                    replica: 0,
                    ..
                } => {
                    let epoch = format!("epoch {}, ", exploding + 1);
                    assert!(place.starts_with(&epoch), "{place}");
                    let layer = place.trim_start_matches(&epoch);
                    assert!(
                        layer.contains("conv2d") || layer.contains("dense"),
                        "{place}"
                    );
                    assert!(
                        layer.contains("forward") || layer.contains("backward"),
                        "{place}"
                    );
                    let first = exploding * trainer.steps_per_epoch();
                    assert!(
                        (first as u64..first as u64 + 4).contains(&step),
                        "step {step}"
                    );
                }
                e => panic!("{e}"),
            }
            let kept = std::fs::read_dir(folder.path()).unwrap();
            let kept = kept.map(|e| e.unwrap().file_name().into_string().unwrap());
            let kept = kept.filter(|name| name.ends_with(".safetensors"));
            assert_eq!(kept.count(), exploding);
        }
    }
}

#[test]
fn impossible_sessions_are_refused_with_names() {
    let data = digits(20, 10);
    let refused = |network: &Network, settings: &Settings, data: &Split| match Trainer::new(
        network,
        data,
        settings,
        &cpu(),
    ) {
        Err(e) => e.to_string(),
        Ok(_) => panic!("accepted"),
    };
    let with = |change: fn(&mut Settings)| {
        let mut settings = settings();
        change(&mut settings);
        refused(&network(), &settings, &data)
    };
    assert!(with(|s| s.batch = 0).starts_with("batch: found 0"));
    assert!(with(|s| s.batch = 101).starts_with("batch: found 101"));
    assert!(with(|s| s.epochs = 0).starts_with("epochs: found 0"));
    assert!(with(|s| s.replicas = 0).starts_with("replicas: found 0"));
    assert!(with(|s| s.learning_rates = vec![f64::NAN]).contains("learning rate"));
    assert!(with(|s| s.learning_rates.clear()).contains("learning rate"));
    assert!(with(|s| s.momentum = 1.0).starts_with("momentum: found 1"));
    assert!(with(|s| s.l2 = Decay::PerBatch(-1.0)).starts_with("l2"));
    let shaped = |n: Network| refused(&n, &settings(), &data);
    let new = || Network::new([1, 28, 28]);
    assert!(shaped(new().conv2d(3, 29).flatten().dense(10).softmax()).contains("layer 0 (conv2d)"));
    assert!(shaped(new().dense(10).softmax()).contains("layer 0 (dense)"));
    assert!(shaped(new().flatten().dense(0).softmax()).contains("layer 1 (dense)"));
    assert!(shaped(new().flatten().dense(9).softmax()).contains("9 outputs for the 10 classes"));
    assert!(shaped(new().flatten().dense(11).softmax()).contains("labels being 0 to 9"));
    for p in [1.0, -0.1, 1e-12, 0.999999999999, f64::NAN] {
        let dropped = shaped(new().flatten().dropout(p).dense(10).softmax());
        assert!(dropped.contains("layer 1 (dropout)"), "{dropped}");
    }
    assert!(shaped(new().flatten().softmax().dense(10)).contains("layer 1 (softmax)"));
    assert!(shaped(new()).contains("no layers"));
    assert!(shaped(new().flatten().dense(10)).contains("layer 1 (dense)"));
    let other = Images::new("other", 2, 2, 10, vec![0; 80], vec![0; 20]).unwrap();
    let wrong = Split {
        train: other,
        ..data.clone()
    };
    assert!(refused(&network(), &settings(), &wrong).contains("[1, 2, 2]"));
}

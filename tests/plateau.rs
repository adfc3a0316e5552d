//! Learning rates that callbacks set between epochs: on a plateau, for each replica, over a resume.

mod common;

use std::sync::{Arc, Mutex};

use common::gpu;
use wgrad::data::Dataset;
use wgrad::exec::{Choice, Device};
use wgrad::fit::{Callback, Control, EarlyStop, Epoch, Experiment, Fit, Loss, Plateau};
use wgrad::model::{Model, layers::*};
use wgrad::optim::{Adam, Lamb, Optimizer, Schedule, Sgd};

fn devices() -> Vec<Device> {
    let cpu = Device::open(Choice::Cpu).unwrap();
    [Some(cpu), gpu()].into_iter().flatten().collect()
}

fn curve() -> Dataset {
    let x: Vec<f32> = (0..120)
        .map(|i| (i * 37 % 101) as f32 / 50.0 - 1.0)
        .collect();
    let y: Vec<f32> = x.chunks(3).map(|x| (2.0 * x[0] - x[1]).sin()).collect();
    let data = Dataset::new().with("input", [3], x).unwrap();
    data.with("target", [1], y).unwrap()
}

fn model() -> Model {
    let model = Model::sequential([3]).then(Dense::new(6)).then(Tanh);
    model.then(Dense::new(1)).build().unwrap()
}

/// A plateau on which no number is ever better than the first.
fn never() -> Plateau {
    let plateau = Plateau::on("validation loss").by_at_least(1e9);
    plateau.patience(2).factor(0.5).least_rate(0.015)
}

type Rates = Arc<Mutex<Vec<Vec<f64>>>>;

/// Notes the rates behind each epoch; stands behind the callback that sets them.
#[derive(Debug, Default)]
struct Notes(Rates);

impl Callback for Notes {
    fn epoch(&mut self, _: &Epoch, control: &mut Control<'_>) -> wgrad::Result<()> {
        self.0.lock().unwrap().push(control.rates()?);
        Ok(())
    }
}

#[test]
fn a_rate_falls_as_often_as_it_waited_and_never_below_the_least() {
    let (model, data) = (model(), curve());
    for device in devices() {
        let rates = Rates::default();
        let fit = Fit::new(&model, Loss::mse(), Optimizer::new(Sgd::default(), 0.1));
        let fit = fit.batch(8).epochs(9).validation(&data);
        let fit = fit.with(never()).with(Notes(rates.clone()));
        fit.run(&data, &device).unwrap();
        let found: Vec<f64> = rates.lock().unwrap().iter().map(|r| r[0]).collect();
        // The first epoch is the best.
        let wanted = [0.1, 0.1, 0.05, 0.05, 0.025, 0.025, 0.015, 0.015, 0.015];
        assert_eq!(found, wanted, "{}", device.info().name);
    }
}

/// Halves rates behind one epoch.
#[derive(Debug)]
struct Halve(usize);

impl Callback for Halve {
    fn sets_rates(&self) -> bool {
        true
    }

    fn epoch(&mut self, epoch: &Epoch, control: &mut Control<'_>) -> wgrad::Result<()> {
        if epoch.epoch != self.0 {
            return Ok(());
        }
        let halves: Vec<f64> = control.rates()?.iter().map(|rate| rate / 2.0).collect();
        control.set_rates(&halves)
    }
}

#[test]
fn a_rate_that_has_fallen_trains_like_one_that_was_planned() {
    let (model, data) = (model(), curve());
    for device in devices() {
        let fit = |optimizer: Optimizer| {
            let fit = Fit::new(&model, Loss::mse(), optimizer).batch(8).epochs(6);
            fit.validation(&data).replicas(2).seed(3)
        };
        let adam = || Optimizer::new(Adam::default(), 0.04);
        let run = |fit: Fit<'_>| fit.run(&data, &device).unwrap().weights;
        let plateau = Plateau::on("validation loss").by_at_least(1e9).patience(3);
        let fallen = run(fit(adam()).with(plateau.factor(0.5)));
        assert_eq!(fallen, run(fit(adam()).with(Halve(4))));
        // Five steps an epoch.
        let planned = run(fit(adam().schedule(Schedule::table(20, &[1.0, 0.5]))));
        for (fallen, planned) in fallen.iter().zip(&planned) {
            for ((name, a), (_, b)) in fallen.tensors().iter().zip(planned.tensors()) {
                let mut off = a.iter().zip(b).map(|(a, b)| (a - b).abs());
                assert!(off.all(|off| off < 1e-5), "{}, {name}", device.info().name);
            }
        }
        assert_ne!(fallen, run(fit(adam())));
    }
}

/// Replicas stand by themselves: one that learns nothing waits, the other goes on.
#[test]
fn replicas_fall_by_their_own_numbers() {
    let (model, data) = (model(), curve());
    let rates = Rates::default();
    let optimizers = [1e-30, 0.05].map(|rate| Optimizer::new(Sgd::default(), rate));
    let fit = Fit::new(&model, Loss::mse(), optimizers[0].clone()).sweep(optimizers);
    let fit = fit.batch(8).epochs(4).validation(&data);
    let plateau = Plateau::on("validation loss").patience(1).factor(0.5);
    let fit = fit.with(plateau).with(Notes(rates.clone()));
    fit.run(&data, &devices()[0]).unwrap();
    let found = rates.lock().unwrap();
    let of = |replica: usize| found.iter().map(|r| r[replica]).collect::<Vec<f64>>();
    assert_eq!(of(0), [1e-30, 5e-31, 2.5e-31, 1.25e-31]);
    assert_eq!(of(1), [0.05; 4]);
}

#[test]
fn a_run_that_goes_on_has_the_rates_that_it_had() {
    let (model, data) = (model(), curve());
    let folder = tempfile::tempdir().unwrap();
    for (k, device) in devices().iter().enumerate() {
        let file = folder.path().join(k.to_string());
        let fit = |epochs: usize| {
            let fit = Fit::new(&model, Loss::mse(), Optimizer::new(Adam::default(), 0.1));
            let fit = fit.batch(8).epochs(epochs).validation(&data).replicas(2);
            fit.with(never())
        };
        let whole = fit(8).run(&data, device).unwrap();
        fit(4).checkpoints(&file).run(&data, device).unwrap();
        let rates = Rates::default();
        let rest = fit(8).checkpoints(&file).resume();
        let rest = rest.with(Notes(rates.clone())).run(&data, device);
        // Another number of callbacks is another run.
        assert!(rest.unwrap_err().to_string().contains("callbacks"));
        // So is one with as many others.
        let other = Fit::new(&model, Loss::mse(), Optimizer::new(Adam::default(), 0.1));
        let other = other.batch(8).epochs(8).validation(&data).replicas(2);
        let other = other.with(EarlyStop::on("validation loss"));
        let said = other.checkpoints(&file).resume().run(&data, device);
        let said = said.unwrap_err().to_string();
        assert!(
            said.contains("callbacks") && said.contains("EarlyStop"),
            "{said}"
        );
        let rest = fit(8)
            .checkpoints(&file)
            .resume()
            .run(&data, device)
            .unwrap();
        assert_eq!(rest.weights, whole.weights, "{}", device.info().name);
        assert_eq!(rest.report.epochs.len(), 8);
    }
}

#[test]
fn what_cannot_be_is_refused_before_anything_runs() {
    let (model, data) = (model(), curve());
    let device = &devices()[0];
    let sgd = || Optimizer::new(Sgd::default(), 0.1);
    let told = |optimizer: Optimizer, callback: Box<dyn Callback>| {
        #[derive(Debug)]
        struct Boxed(Box<dyn Callback>);
        impl Callback for Boxed {
            fn epoch(&mut self, epoch: &Epoch, control: &mut Control<'_>) -> wgrad::Result<()> {
                self.0.epoch(epoch, control)
            }

            fn check(&self, numbers: &[String]) -> wgrad::Result<()> {
                self.0.check(numbers)
            }

            fn sets_rates(&self) -> bool {
                self.0.sets_rates()
            }
        }
        let fit = Fit::new(&model, Loss::mse(), optimizer).batch(8).epochs(3);
        let fit = fit.validation(&data).with(Boxed(callback));
        fit.run(&data, device).unwrap_err().to_string()
    };
    let on = || Plateau::on("validation loss");
    for (plateau, wanted) in [
        (on().factor(1.0), "factor of a plateau: found 1"),
        (on().factor(0.0), "factor of a plateau: found 0"),
        (on().factor(f64::NAN), "factor of a plateau: found NaN"),
        (on().patience(0), "patience of a plateau: found 0"),
        (on().least_rate(-1.0), "least rate of a plateau: found -1"),
        (
            Plateau::on("validation los"),
            "did you mean `validation loss`",
        ),
    ] {
        let said = told(sgd(), Box::new(plateau));
        assert!(said.contains(wanted), "{said}");
    }
    // Who sets rates must have said so.
    let said = told(sgd(), Box::<Notes>::default());
    assert!(said.contains("`Callback::sets_rates`"), "{said}");
    // Nor in a sweep, whose numbers stand in a table anyway.
    let sweep = [0.1, 0.2].map(|rate| Optimizer::new(Sgd::default(), rate));
    let fit = Fit::new(&model, Loss::mse(), sgd())
        .sweep(sweep)
        .batch(8)
        .epochs(2);
    let said = fit
        .with(Notes::default())
        .run(&data, device)
        .unwrap_err()
        .to_string();
    assert!(said.contains("`Callback::sets_rates`"), "{said}");
    // What no table holds is said before a device is asked.
    let fit = Fit::new(&model, Loss::mse(), sgd().rates_of_replicas("rates"))
        .batch(8)
        .validation(&data);
    let said = fit.with(on()).check(&data).unwrap_err().to_string();
    assert!(
        said.contains("`Optimizer::rates_of_replicas`") && said.contains("`Plateau`"),
        "{said}"
    );
    // A rule without a table has no rates to set.
    let said = told(Optimizer::new(Lamb::default(), 0.1), Box::new(on()));
    assert!(said.to_lowercase().contains("lamb"), "{said}");
}

#[cfg(feature = "toml")]
#[test]
fn an_experiment_has_a_plateau() {
    let text = include_str!("../examples/configs/diabetes.toml");
    let text = text.replace(
        "[training]\n",
        "[training]\nplateau = { on = \"validation loss\", patience = 3 }\n",
    );
    let folder = tempfile::tempdir().unwrap();
    let load = |text: &str| {
        let path = folder.path().join("experiment.toml");
        std::fs::write(&path, text).unwrap();
        Experiment::load(&path)
    };
    let experiment = load(&text).unwrap();
    let plateau = experiment.training.plateau.unwrap();
    assert_eq!(
        (plateau.factor, plateau.patience, plateau.least_rate),
        (0.1, 3, 0.0)
    );
    let wrong = text.replace("patience = 3", "patient = 3");
    let said = load(&wrong).unwrap_err().to_string();
    assert!(said.contains("patient"), "{said}");
}

//! What a run tells of itself between its steps.

mod common;

use common::gpu;
use wgrad::data::{DataRef, Dataset, Shards};
use wgrad::exec::{Choice, Device};
use wgrad::fit::{Callback, Control, Epoch, EverySteps, Fit, Loss, StepsDone};
use wgrad::model::{Model, layers::*};
use wgrad::optim::{Adam, Optimizer};
use wgrad::{Error, Result};

fn devices() -> Vec<Device> {
    let cpu = Device::open(Choice::Cpu).unwrap();
    std::iter::once(cpu).chain(gpu()).collect()
}

fn model() -> Model {
    let model = Model::sequential([2]).then(Dense::new(5)).then(Tanh);
    model.then(Dense::new(1)).build().unwrap()
}

fn data() -> Dataset {
    let x = (0..60).map(|i| (i as f32 * 0.7).sin()).collect::<Vec<_>>();
    let y = (0..30).map(|i| (i as f32 * 0.3).cos()).collect::<Vec<_>>();
    let data = Dataset::new().with("input", [2], x).unwrap();
    data.with("target", [1], y).unwrap()
}

fn fit(model: &Model, epochs: usize) -> Fit<'_> {
    let fit = Fit::new(model, Loss::mse(), Optimizer::new(Adam::default(), 0.02));
    fit.batch(6).epochs(epochs)
}

/// Epochs of five steps, told after every so many and where they end; what is trained stays the same, and a run that
/// goes on begins where it was.
#[test]
fn steps_are_told_and_stay_what_they_were() {
    let (model, data) = (model(), data());
    let folder = tempfile::tempdir().unwrap();
    for (number, device) in devices().into_iter().enumerate() {
        let plain = fit(&model, 3).run(&data, &device).unwrap();
        for (every, wanted) in [
            (0, (1..=15).collect::<Vec<u64>>()),
            (3, vec![3, 5, 8, 10, 13, 15]),
            (5, vec![5, 10, 15]),
            (100, vec![5, 10, 15]),
        ] {
            let (mut seen, mut also) = (Vec::new(), 0);
            let told = fit(&model, 3)
                .with(EverySteps::new(every, |at| seen.push(*at)))
                .with(EverySteps::new(1000, |_| also += 1));
            assert_eq!(told.run(&data, &device).unwrap().weights, plain.weights);
            let done: Vec<u64> = seen.iter().map(|at| at.done).collect();
            assert_eq!(done, wanted);
            // Each by its own steps.
            assert_eq!(also, 3);
            assert!(seen.iter().all(|at| at.total == 15));
            assert!(seen.iter().all(|at| at.epoch as u64 == at.done.div_ceil(5)));
        }
        let file = folder.path().join(number.to_string());
        fit(&model, 1)
            .with(EverySteps::new(2, |_| {}))
            .checkpoints(&file)
            .run(&data, &device)
            .unwrap();
        let mut seen = Vec::new();
        let on = fit(&model, 3).with(EverySteps::new(2, |at| seen.push(at.done)));
        let on = on.checkpoints(&file).resume().run(&data, &device).unwrap();
        assert_eq!(on.weights, plain.weights);
        assert_eq!(seen, [7, 9, 10, 12, 14, 15]);
    }
}

/// Of data in shards, too.
#[test]
fn steps_over_shards_are_told() {
    let (model, data) = (model(), data());
    for device in devices() {
        let shards = || -> DataRef<'_> { Shards::of(&data, 12).into() };
        let plain = fit(&model, 2).run(shards(), &device).unwrap();
        let mut seen: Vec<StepsDone> = Vec::new();
        let told = fit(&model, 2).with(EverySteps::new(1, |at| seen.push(*at)));
        assert_eq!(told.run(shards(), &device).unwrap().weights, plain.weights);
        let done: Vec<u64> = seen.iter().map(|at| at.done).collect();
        assert_eq!(done, (1..=10).collect::<Vec<u64>>());
        let (mut fives, mut fours) = (Vec::new(), Vec::new());
        let told = fit(&model, 2)
            .with(EverySteps::new(4, |at| fours.push(at.done)))
            .with(EverySteps::new(5, |at| fives.push(at.done)));
        assert_eq!(told.run(shards(), &device).unwrap().weights, plain.weights);
        assert_eq!((fives, fours), (vec![5, 10], vec![4, 5, 9, 10]));
    }
}

/// Ends a run in the middle of an epoch.
#[derive(Debug)]
struct Enough;

impl Callback for Enough {
    fn epoch(&mut self, epoch: &Epoch, _: &mut Control<'_>) -> Result<()> {
        panic!("epoch {} ended", epoch.epoch)
    }

    fn steps(&mut self, done: &StepsDone) -> Result<()> {
        match done.done {
            4 => Err(Error::setting("steps", 4, "fewer")),
            _ => Ok(()),
        }
    }

    fn every(&self) -> Option<u64> {
        Some(2)
    }
}

#[test]
fn what_a_callback_says_ends_the_run_at_once() {
    let (model, data) = (model(), data());
    for device in devices() {
        let error = fit(&model, 3).with(Enough).run(&data, &device).unwrap_err();
        assert_eq!(
            error.to_string(),
            Error::setting("steps", 4, "fewer").to_string()
        );
        let shards = Shards::of(&data, 12);
        assert!(fit(&model, 3).with(Enough).run(shards, &device).is_err());
    }
}

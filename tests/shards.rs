//! Training and evaluation over data in shards.

mod common;

use std::collections::BTreeSet;
use std::ops::Range;
use std::path::Path;

use common::{Kill, gpu};
use wgrad::Error;
use wgrad::data::{DataSource, Dataset, Numbers, Shards};
use wgrad::exec::{Choice, Device};
use wgrad::fit::{Fit, Loss, Metric, Outcome};
use wgrad::model::{Initializer, Input, Model, layers::*};
use wgrad::optim::{AdamW, Optimizer, Schedule, Sgd};

fn cpu() -> Device {
    Device::open(Choice::Cpu).unwrap()
}

fn devices() -> Vec<Device> {
    std::iter::once(cpu()).chain(gpu()).collect()
}

/// Row r has a 1 in place r alone, so a linear model's weights tell which rows were seen.
fn places(rows: usize) -> Dataset {
    let mut ones = vec![0.0f32; rows * rows];
    (0..rows).for_each(|r| ones[r * rows + r] = 1.0);
    let data = Dataset::new().with("input", [rows], ones).unwrap();
    data.with("target", [1], vec![0.0f32; rows]).unwrap()
}

/// The step in which each replica has seen each row, counted from 1; 0 for a row it has not seen. At step
/// s the rate is 2 (s + 1) times the mini-batch, so the weight of a row that is seen then falls by as
/// much, once; two sightings would give another number.
fn steps_of_rows(
    rows: usize,
    batch: usize,
    shard: usize,
    epochs: usize,
    device: &Device,
) -> Vec<Vec<u32>> {
    let data = places(rows);
    let zero = Initializer::Constant(0.0);
    let layer = Dense::new(1).without_bias().weight_start(zero);
    let model = Model::sequential([rows]).then(layer).build().unwrap();
    let loss = Loss::each("output", |y, t| y - t);
    let optimizer = Optimizer::new(Sgd::default(), batch as f64)
        .schedule(Schedule::expression(|step| step + 1.0));
    // The steps of the last epoch: what the run with an epoch less has not.
    let weights = |epochs: usize| -> Vec<Vec<f32>> {
        if epochs == 0 {
            return vec![vec![0.0; rows]; 2];
        }
        let fit = Fit::new(&model, loss.clone(), optimizer.clone())
            .batch(batch)
            .epochs(epochs);
        let fit = fit.replicas(2).seed(5);
        let outcome = fit.run(Shards::of(&data, shard), device).unwrap();
        let all = outcome.weights.iter();
        all.map(|w| w.get("dense.weight").unwrap().iter().copied().collect())
            .collect()
    };
    let (before, after) = (weights(epochs - 1), weights(epochs));
    let pairs = before.iter().zip(&after);
    pairs
        .map(|(before, after)| {
            let fallen = before.iter().zip(after).map(|(b, a)| b - a);
            fallen
                .map(|x| {
                    assert_eq!(x, x.round());
                    x as u32
                })
                .collect()
        })
        .collect()
}

#[test]
fn an_epoch_has_every_row_once_shard_by_shard() {
    for (rows, batch, shard) in [(53, 4, 12), (53, 4, 14), (24, 3, 6), (7, 1, 2), (9, 4, 5)] {
        let steps = rows / batch;
        let mut orders = BTreeSet::new();
        let mut alike = Vec::new();
        for device in devices() {
            for epoch in 1..=3 {
                let seen = steps_of_rows(rows, batch, shard, epoch, &device);
                for seen in &seen {
                    let first = (epoch - 1) * steps;
                    let mut of_step = vec![Vec::new(); steps];
                    for (row, &step) in seen.iter().enumerate().filter(|(_, step)| **step > 0) {
                        of_step[step as usize - 1 - first].push(row);
                    }
                    // Each step has a mini-batch, so no row is seen twice; what is left over is neighbours.
                    assert!(
                        of_step.iter().all(|rows| rows.len() == batch),
                        "{of_step:?}"
                    );
                    let left: Vec<usize> = (0..rows).filter(|&row| seen[row] == 0).collect();
                    assert_eq!(left.len(), rows % batch);
                    assert!(left.windows(2).all(|w| w[1] == w[0] + 1), "{left:?}");
                    // A mini-batch is out of one shard.
                    let wide =
                        |rows: &Vec<usize>| rows.iter().max().unwrap() - rows.iter().min().unwrap();
                    assert!(of_step.iter().all(|rows| wide(rows) < shard), "{of_step:?}");
                    // And the shard's other rows are seen next to it.
                    if shard >= 2 * batch {
                        let apart = |a: &[usize], b: &[usize]| a[0].abs_diff(b[0]) >= shard;
                        let jumps = of_step.windows(2).filter(|w| apart(&w[0], &w[1])).count();
                        assert!(
                            jumps <= rows.div_ceil(shard / batch * batch),
                            "{jumps}: {of_step:?}"
                        );
                    }
                    orders.insert(of_step);
                }
                // Few rows in shards of two or so may come in one order by chance.
                if rows > 20 {
                    assert_ne!(seen[0], seen[1], "replicas have orders of their own");
                }
                alike.push(seen);
            }
        }
        // The same on all devices, another one in each epoch and replica.
        assert!(rows < 20 || orders.len() == 6, "{rows} rows");
        assert!(alike.chunks(3).all(|seen| seen == &alike[..3]));
    }
}

/// Two numbers and bytes; two classes.
fn table(rows: usize) -> Dataset {
    let x: Vec<f32> = (0..2 * rows)
        .map(|i| ((i * 37 % 101) as f32 / 50.0) - 1.0)
        .collect();
    let bytes: Vec<u8> = (0..3 * rows).map(|i| (i * 53 % 256) as u8).collect();
    let classes: Vec<u32> = x
        .chunks(2)
        .map(|x| u32::from(x[0] + 0.5 * x[1] > 0.0))
        .collect();
    let data = Dataset::new().with("input", [2], x).unwrap();
    let data = data.with("bytes", [3], Numbers::bytes(bytes)).unwrap();
    data.with("target", [], classes).unwrap()
}

fn classifier() -> Model {
    Model::build(|m| {
        let x = m.input("input", [2]).layer("a", Dense::new(8));
        let b = m.input("bytes", [3]).layer("b", Dense::new(8));
        let h = (x + b)
            .then(BatchNorm::default())
            .relu()
            .then(Dropout::new(0.2));
        m.output("scores", h.layer("head", Dense::new(2)));
    })
    .unwrap()
}

fn fit(model: &Model) -> Fit<'_> {
    let optimizer = Optimizer::new(AdamW::default(), 0.02).schedule(Schedule::cosine(60));
    let fit = Fit::new(model, Loss::cross_entropy(), optimizer)
        .batch(16)
        .epochs(4);
    fit.seed(3).replicas(2).metric(Metric::accuracy())
}

fn numbers(outcome: &Outcome) -> String {
    let epochs = outcome.report.epochs.iter();
    let epochs = epochs.map(|e| (e.epoch, e.steps, &e.training_loss, &e.validation));
    format!("{:?} {:?}", epochs.collect::<Vec<_>>(), outcome.report.test)
}

fn same(a: &Outcome, b: &Outcome) {
    assert_eq!(numbers(a), numbers(b));
    assert_eq!(a.weights, b.weights);
}

#[test]
fn one_shard_that_holds_all_is_data_as_a_whole() {
    let (model, data) = (classifier(), table(150));
    for device in devices() {
        let whole = fit(&model).validation(&data).run(&data, &device).unwrap();
        for rows in [150, 4000] {
            let shards = Shards::of(&data, rows);
            let one = fit(&model).validation(shards).run(shards, &device).unwrap();
            same(&one, &whole);
        }
        let shards = Shards::of(&data, 149);
        let several = fit(&model).run(shards, &device).unwrap();
        assert_ne!(several.weights, whole.weights);
    }
}

#[test]
fn evaluations_over_shards_are_those_of_the_whole() {
    let (model, data) = (classifier(), table(150));
    let large = table(1100);
    for device in devices() {
        let whole = fit(&model)
            .validation(&large)
            .test(&large)
            .run(&data, &device)
            .unwrap();
        // A shard that is whole mini-batches of the evaluation, and one that has to be shortened to them.
        for rows in [256, 700] {
            let shards = Shards::of(&large, rows);
            let run = fit(&model).validation(shards).test(shards);
            same(&run.run(&data, &device).unwrap(), &whole);
        }
        // Smaller ones add up in another order.
        let small = Shards::of(&large, 90);
        let run = fit(&model)
            .validation(small)
            .test(small)
            .run(&data, &device)
            .unwrap();
        assert_eq!(run.weights, whole.weights);
        let pairs = run.report.test.iter().zip(&whole.report.test);
        for (a, b) in pairs {
            assert!((a.loss - b.loss).abs() < 1e-5 * b.loss, "{a:?} {b:?}");
            assert_eq!(a.get("accuracy"), b.get("accuracy"));
        }
    }
}

#[test]
fn a_replica_alone_is_that_of_several() {
    let (model, data) = (classifier(), table(150));
    for device in devices() {
        let shards = Shards::of(&data, 48);
        let both = fit(&model).run(shards, &device).unwrap();
        let alone = fit(&model)
            .replicas(1)
            .first_replica(1)
            .run(shards, &device)
            .unwrap();
        assert_eq!(alone.weights[0], both.weights[1]);
    }
}

/// Windows of a text share what they overlap in; as columns of their own they are the same rows.
#[test]
fn windows_of_a_text_are_rows_like_others() {
    let text: Vec<u32> = (0..400u32).map(|i| i * i % 7).collect();
    for apart in [1, 3] {
        let windows = Dataset::windows_apart(text.clone(), 6, apart).unwrap();
        let rows: Vec<usize> = (0..windows.rows()).collect();
        let packed = windows.select(&rows).unwrap();
        let input = Input::u32([6]);
        let model = Model::sequential(input)
            .then(Embedding::new(7, 5))
            .then(Dense::new(7));
        let model = model.build().unwrap();
        for device in devices() {
            let run = |data: &Dataset| {
                let optimizer = Optimizer::new(AdamW::default(), 0.02);
                let fit = Fit::new(&model, Loss::cross_entropy(), optimizer)
                    .batch(8)
                    .epochs(3);
                let shards = Shards::of(data, 40);
                fit.validation(shards).run(shards, &device).unwrap()
            };
            same(&run(&windows), &run(&packed));
        }
    }
}

fn resumable(device: &Device, file: &Path, shard: usize, kill: usize) -> wgrad::Result<Outcome> {
    let (model, data) = (classifier(), table(150));
    let shards = Shards::of(&data, shard);
    let fit = fit(&model)
        .validation(shards)
        .with(Kill(kill))
        .checkpoints(file)
        .resume();
    fit.run(shards, device)
}

#[test]
fn a_run_that_was_killed_ends_as_one_that_was_not() {
    for device in devices() {
        let folder = tempfile::tempdir().unwrap();
        let (one, other) = (folder.path().join("one"), folder.path().join("other"));
        let whole = resumable(&device, &one, 48, 0).unwrap();
        assert!(
            resumable(&device, &other, 48, 2)
                .unwrap_err()
                .to_string()
                .contains("power")
        );
        // Shards of another size are another order.
        let refused = resumable(&device, &other, 32, 0).unwrap_err().to_string();
        assert!(refused.contains("training data"), "{refused}");
        same(&resumable(&device, &other, 48, 0).unwrap(), &whole);
    }
}

/// A table that breaks when a row is read.
#[derive(Debug)]
struct Broken {
    data: Dataset,
    row: usize,
    with: fn(Range<usize>, Dataset) -> wgrad::Result<Dataset>,
}

impl DataSource for Broken {
    fn rows(&self) -> usize {
        self.data.rows()
    }

    fn read(&self, rows: Range<usize>) -> wgrad::Result<Dataset> {
        let data = self.data.range(rows.clone())?;
        match rows.contains(&self.row) {
            true => (self.with)(rows, data),
            false => Ok(data),
        }
    }
}

#[test]
fn what_breaks_in_the_middle_is_named_by_shard_and_rows() {
    let model = classifier();
    let told = |with: fn(Range<usize>, Dataset) -> wgrad::Result<Dataset>| {
        let source = Broken {
            data: table(150),
            row: 77,
            with,
        };
        let shards = Shards::of(&source, 32);
        fit(&model).check(shards).unwrap();
        let trained = fit(&model).run(shards, &cpu()).unwrap_err().to_string();
        let data = table(150);
        let evaluated = fit(&model).validation(shards).run(&data, &cpu());
        (trained, evaluated.unwrap_err().to_string())
    };
    let place = |error: &str, set: &str| {
        assert!(error.contains(&format!("{set} data, shard ")), "{error}");
        let rows = error.split("rows ").nth(1).unwrap();
        let mut rows = rows.split(&[' ', ')'][..]);
        let (first, last) = (rows.next().unwrap(), rows.nth(1).unwrap());
        let (first, last): (usize, usize) = (first.parse().unwrap(), last.parse().unwrap());
        assert!((first..=last).contains(&77), "{error}");
    };
    for (with, what) in [
        (
            (|rows: Range<usize>, _| {
                Err(Error::setting(
                    "network",
                    format!("no answer for {rows:?}"),
                    "rows",
                ))
            }) as fn(Range<usize>, Dataset) -> wgrad::Result<Dataset>,
            "no answer",
        ),
        (
            |_, _| {
                Err(Error::io(
                    "read",
                    Path::new("far/away"),
                    std::io::ErrorKind::TimedOut.into(),
                    "Wait.",
                ))
            },
            "far/away",
        ),
        (
            |_, _| {
                Err(Error::file(
                    Path::new("rows.bin"),
                    "half a row",
                    "whole rows",
                    "Copy it anew.",
                ))
            },
            "half a row",
        ),
        (
            |_, data| data.range(0..data.rows() - 1),
            "that were asked for",
        ),
        (
            |rows, data| {
                let mut target = vec![0u32; data.rows()];
                target[77 - rows.start] = 2;
                let numbers = |name: &str| data.column(name).unwrap().numbers.clone();
                let data = Dataset::new().with("input", [2], numbers("input"))?.with(
                    "bytes",
                    [3],
                    numbers("bytes"),
                )?;
                data.with("target", [], target)
            },
            "column target: found 2 in row 77; wanted classes from 0 to 1",
        ),
        (
            |_, data| Dataset::new().with("input", [2], data.column("input")?.numbers.clone()),
            "unknown column `bytes`",
        ),
    ] {
        let (trained, evaluated) = told(with);
        assert!(
            trained.contains(what) && evaluated.contains(what),
            "{trained}\n{evaluated}"
        );
        if !what.starts_with("unknown") {
            place(&trained, "training");
            place(&evaluated, "validation");
        }
    }
}

#[test]
fn what_cannot_be_is_refused_before_it_runs() {
    let (model, data) = (classifier(), table(150));
    let told = |shards: Shards<'_>| {
        let checked = fit(&model).check(shards).unwrap_err().to_string();
        assert_eq!(
            fit(&model).run(shards, &cpu()).unwrap_err().to_string(),
            checked
        );
        checked
    };
    let small = told(Shards::of(&data, 15));
    assert!(
        small.contains("rows of a shard of training data: found 15; wanted at least the 16"),
        "{small}"
    );
    let none = fit(&model).validation(Shards::of(&data, 0)).check(&data);
    let none = none.unwrap_err().to_string();
    assert!(
        none.contains("rows of a shard of validation data: found 0"),
        "{none}"
    );
    let few = table(10);
    let few = told(Shards::of(&few, 5));
    assert!(
        few.contains("mini-batch: found 16; wanted at most the 10 rows"),
        "{few}"
    );
    let empty = Broken {
        data: Dataset::new(),
        row: 0,
        with: |_, data| Ok(data),
    };
    let empty = told(Shards::of(&empty, 40));
    assert!(
        empty.contains("training data, rows of a data source: found none"),
        "{empty}"
    );
    let other = Dataset::new()
        .with("input", [2], vec![0.0f32; 200])
        .unwrap();
    let other = told(Shards::of(&other, 40));
    assert!(other.contains("unknown column `bytes`"), "{other}");
}

#[test]
fn data_that_a_device_has_no_room_for_are_refused_with_the_way_out() {
    let Some(device) = gpu() else { return };
    let most = device.info().limits.binding_bytes;
    // Bytes, so that the host needs a quarter of the limit.
    if most > 1 << 31 {
        return;
    }
    let rows = (most as usize + 4).div_ceil(1 << 12);
    let data = Dataset::new()
        .with("input", [1 << 12], Numbers::bytes(vec![0; rows << 12]))
        .unwrap();
    let data = data.with("target", [1], vec![0.0f32; rows]).unwrap();
    let model = Model::sequential([1 << 12])
        .then(Dense::new(1))
        .build()
        .unwrap();
    let fit = || Fit::new(&model, Loss::mse(), Optimizer::new(Sgd::default(), 0.01)).epochs(1);
    let error = fit().run(&data, &device).unwrap_err().to_string();
    assert!(
        error.contains("for column input of training data") && error.contains("Shards"),
        "{error}"
    );
}

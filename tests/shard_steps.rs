//! Loops of one's own over data in shards: the bits of a `Fit`, in any number of calls.

mod common;

use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use common::gpu;
use wgrad::data::{DataSource, Dataset, Numbers, Shards};
use wgrad::exec::{Choice, Device};
use wgrad::fit::{
    CrossEntropy, Fit, JointScope, JointStep, Loss, OverShards, TrainStep, TrainStepBuilder,
    Weights,
};
use wgrad::model::{Input, Model, layers::*};
use wgrad::optim::{AdamW, Optimizer, Schedule};

fn cpu() -> Device {
    Device::open(Choice::Cpu).unwrap()
}

fn devices() -> Vec<Device> {
    std::iter::once(cpu()).chain(gpu()).collect()
}

/// 150 rows in mini-batches of 16: an epoch has 9 steps and leaves 6 rows out.
const ROWS: usize = 150;
const BATCH: usize = 16;
const EPOCH: u64 = 9;
const SEED: u64 = 3;

/// Two numbers and bytes; two classes.
fn table(rows: usize) -> Dataset {
    let x = (0..2 * rows).map(|i| ((i * 37 % 101) as f32 / 50.0) - 1.0);
    let x: Vec<f32> = x.collect();
    let bytes: Vec<u8> = (0..3 * rows).map(|i| (i * 53 % 256) as u8).collect();
    let classes = x.chunks(2).map(|x| u32::from(x[0] + 0.5 * x[1] > 0.0));
    let classes: Vec<u32> = classes.collect();
    let data = Dataset::new().with("input", [2], x).unwrap();
    let data = data.with("bytes", [3], Numbers::bytes(bytes)).unwrap();
    data.with("target", [], classes).unwrap()
}

fn classifier() -> Model {
    Model::build(|m| {
        let x = m.input("input", [2]).layer("a", Dense::new(8));
        let b = m.input("bytes", [3]).layer("b", Dense::new(8));
        let h = (x + b).then(BatchNorm::default());
        let h = h.relu().then(Dropout::new(0.2));
        m.output("scores", h.layer("head", Dense::new(2)));
    })
    .unwrap()
}

fn optimizer() -> Optimizer {
    Optimizer::new(AdamW::default(), 0.02).schedule(Schedule::cosine(60))
}

/// What training is made of.
struct Made(Model, Loss, Optimizer);

fn made() -> Made {
    Made(classifier(), Loss::cross_entropy(), optimizer())
}

impl Made {
    fn fit(&self) -> Fit<'_> {
        let Self(model, loss, optimizer) = self;
        let fit = Fit::new(model, loss.clone(), optimizer.clone());
        fit.batch(BATCH).seed(SEED).replicas(2)
    }

    fn builder(&self) -> TrainStepBuilder<'_> {
        let step = TrainStep::builder(&self.0, &self.1, &self.2);
        step.batch(BATCH).seed(SEED).replicas(2)
    }

    fn step<'d>(&self, shards: Shards<'d>, device: &Device) -> OverShards<'d, TrainStep> {
        self.builder().compile_over_shards(shards, device).unwrap()
    }
}

#[test]
fn steps_over_shards_are_those_of_a_fit() {
    let (made, data) = (made(), table(ROWS));
    for device in devices() {
        // Whole mini-batches, a few rows more, and shards of one mini-batch.
        for rows in [48, 75, 16] {
            let shards = Shards::of(&data, rows);
            let run = made.fit().epochs(4).run(shards, &device).unwrap();
            let mut step = made.step(shards, &device);
            for epoch in &run.report.epochs {
                step.run(EPOCH).unwrap();
                assert_eq!(step.loss().unwrap(), epoch.training_loss, "{rows} rows");
            }
            assert_eq!(step.steps(), 4 * EPOCH);
            assert_eq!(step.weights().unwrap(), run.weights, "{rows} rows");
        }
    }
}

#[test]
fn one_shard_that_holds_all_is_data_as_a_whole() {
    let (made, data) = (made(), table(ROWS));
    for device in devices() {
        let mut whole = made.builder().compile_over(&data, &device).unwrap();
        let mut one = made.step(Shards::of(&data, ROWS), &device);
        let mut several = made.step(Shards::of(&data, ROWS - 1), &device);
        for steps in [5, 9, 13] {
            whole.run(steps).unwrap();
            one.run(steps).unwrap();
            several.run(steps).unwrap();
            assert_eq!(one.loss().unwrap(), whole.loss().unwrap());
        }
        let weights = whole.weights().unwrap();
        assert_eq!(one.weights().unwrap(), weights);
        assert_ne!(several.weights().unwrap(), weights);
        // Where all is there, a step needs nobody who brings it.
        TrainStep::run(&mut one, 1).unwrap();
        let told = one.profile(2).unwrap();
        assert_eq!(told.launches.len(), one.launches().len());
        assert_eq!(one.steps(), 5 + 9 + 13 + 3);
    }
}

/// Calls of so many steps, again and again, until there are `steps`.
fn calls(of: &[u64], steps: u64) -> Vec<u64> {
    let (mut left, mut calls) = (steps, Vec::new());
    for &now in of.iter().cycle() {
        if left == 0 {
            break;
        }
        calls.push(now.min(left));
        left -= now.min(left);
    }
    calls
}

#[test]
fn steps_in_any_number_of_calls_are_the_same_steps() {
    let (made, data) = (made(), table(ROWS));
    const STEPS: u64 = 40;
    for device in devices() {
        for rows in [70, 32] {
            let run = |calls: &[u64]| {
                let step = made.builder().keep_losses(STEPS as usize);
                let step = step.compile_over_shards(Shards::of(&data, rows), &device);
                let mut step = step.unwrap();
                for &now in calls {
                    step.run(now).unwrap();
                }
                assert_eq!(step.steps(), STEPS);
                (step.losses().unwrap(), step.weights().unwrap())
            };
            let (losses, weights) = run(&[STEPS]);
            assert_eq!(losses.len(), 2);
            assert!(losses.iter().all(|losses| losses.len() == STEPS as usize));
            for of in [&[1][..], &[2, 0, 3], &[7], &[9], &[1, 13, 2]] {
                let (again, trained) = run(&calls(of, STEPS));
                assert_eq!(again, losses, "{of:?} of {rows} rows");
                assert_eq!(trained, weights, "{of:?} of {rows} rows");
            }
        }
    }
}

/// What a source answers to a reading.
type Answer = fn(Range<usize>, Dataset) -> wgrad::Result<Dataset>;

/// A table that counts how often it is read, and answers otherwise so many times when a certain row is asked for.
#[derive(Debug)]
struct Watched {
    data: Dataset,
    row: usize,
    times: AtomicUsize,
    answer: Answer,
    reads: AtomicUsize,
}

fn watched(times: usize, answer: Answer) -> Watched {
    Watched {
        data: table(ROWS),
        row: 77,
        times: AtomicUsize::new(times),
        answer,
        reads: AtomicUsize::new(0),
    }
}

impl DataSource for Watched {
    fn rows(&self) -> usize {
        self.data.rows()
    }

    fn read(&self, rows: Range<usize>) -> wgrad::Result<Dataset> {
        self.reads.fetch_add(1, Relaxed);
        let data = self.data.range(rows.clone())?;
        let fails = |times: usize| times.checked_sub(1);
        match rows.contains(&self.row) && self.times.fetch_update(Relaxed, Relaxed, fails).is_ok() {
            true => (self.answer)(rows, data),
            false => Ok(data),
        }
    }
}

/// No rows.
fn away(rows: Range<usize>, _: Dataset) -> wgrad::Result<Dataset> {
    let found = format!("no answer for {rows:?}");
    Err(wgrad::Error::setting("network", found, "rows"))
}

/// A class that there is not.
fn third_class(rows: Range<usize>, data: Dataset) -> wgrad::Result<Dataset> {
    let mut target = vec![0u32; data.rows()];
    target[77 - rows.start] = 2;
    let numbers = |name: &str| data.column(name).unwrap().numbers.clone();
    let some = Dataset::new().with("input", [2], numbers("input"))?;
    let some = some.with("bytes", [3], numbers("bytes"))?;
    some.with("target", [], target)
}

/// That an error names set, shard and rows, the broken one among them.
fn names_the_shard(error: &str) {
    assert!(error.contains("training data, shard "), "{error}");
    let rows = error.split("(rows ").nth(1).unwrap();
    let rows = rows.split_once(')').unwrap().0;
    let (first, last) = rows.split_once(" to ").unwrap();
    let (first, last): (usize, usize) = (first.parse().unwrap(), last.parse().unwrap());
    assert!((first..=last).contains(&77), "{error}");
}

#[test]
fn a_shard_is_read_once_and_no_sooner_than_one_ahead() {
    let made = made();
    for of in [&[1][..], &[4], &[27]] {
        let source = watched(0, away);
        let mut step = made.step(Shards::of(&source, BATCH), &cpu());
        let before = source.reads.load(Relaxed);
        for now in calls(of, 3 * EPOCH) {
            step.run(now).unwrap();
            let read = (source.reads.load(Relaxed) - before) as u64;
            // A step is a shard, and the next one is there.
            assert_eq!(read, step.steps() + 1, "calls of {of:?}");
        }
    }
}

#[test]
fn a_source_that_breaks_is_named_and_steps_go_on_where_they_ended() {
    let made = made();
    let data = table(ROWS);
    const STEPS: u64 = 4 * EPOCH;
    for (rows, answer, what) in [
        (32, away as Answer, "no answer for "),
        (48, away, "no answer for "),
        (
            48,
            third_class,
            "column target: found 2 in row 77; wanted classes from 0 to 1",
        ),
    ] {
        let mut sound = made.step(Shards::of(&data, rows), &cpu());
        sound.run(STEPS).unwrap();
        let wanted = sound.weights().unwrap();
        for (times, of) in [(1, STEPS), (3, STEPS), (3, 7), (4, 1)] {
            let source = watched(times, answer);
            let mut step = made.step(Shards::of(&source, rows), &cpu());
            let mut broken = 0;
            while step.steps() < STEPS {
                let before = step.steps();
                let now = of.min(STEPS - before);
                match step.run(now) {
                    Ok(()) => assert_eq!(step.steps(), before + now),
                    Err(error) => {
                        let error = error.to_string();
                        names_the_shard(&error);
                        assert!(error.contains(what), "{error}");
                        assert!(step.steps() < before + now, "steps without rows");
                        // What was trained is there.
                        step.weights().unwrap();
                        broken += 1;
                    }
                }
            }
            // One that is read ahead and not needed by the call is read anew without a word.
            let told = [times - 1, times];
            assert!(told.contains(&broken), "{broken} errors of {times}");
            assert!(of < STEPS || broken == times, "{broken} errors of {times}");
            assert_eq!(step.weights().unwrap(), wanted, "{rows} rows, {of} at once");
        }
    }
}

#[test]
fn steps_within_a_shard_upload_nothing_but_parts_of_the_next() {
    let (made, data) = (made(), table(1000));
    let shards = Shards::of(&data, 200);
    let told = made.fit().batch(2).uploads(shards, &cpu()).unwrap();
    let told = told.unwrap();
    let step = made.builder().batch(2);
    let mut step = step.compile_over_shards(shards, &cpu()).unwrap();
    let start = step.traffic();
    assert_eq!(step.traffic(), start);
    let mut uploads = Vec::new();
    for _ in 0..500 {
        let before = step.traffic();
        step.run(1).unwrap();
        let after = step.traffic();
        uploads.push(after.uploaded - before.uploaded);
        assert_eq!(after.readbacks, before.readbacks);
    }
    // All that an epoch uploads, and the first shard of the next.
    let total = step.traffic().uploaded - start.uploaded;
    let ahead = total - told.epoch_bytes;
    assert!(0 < ahead && ahead <= told.shard_bytes, "{ahead} bytes");
    // The first call uploads two shards in part, others a 32nd of one or so.
    let parts = uploads.iter().filter(|&&bytes| bytes > 0).count();
    assert!(parts <= 33 * told.shards, "{parts} uploads");
    assert!(parts >= 16 * told.shards, "{parts} uploads");
    let mut large: Vec<u64> = uploads[1..].to_vec();
    large.sort_unstable();
    let usual = large[large.len() - 2 * told.shards];
    assert!(usual <= told.shard_bytes / 16, "{usual} bytes at once");
}

#[test]
fn a_profile_takes_steps_over_shards() {
    let (made, data) = (made(), table(ROWS));
    for device in devices() {
        let shards = Shards::of(&data, 48);
        let (mut one, mut other) = (made.step(shards, &device), made.step(shards, &device));
        one.run(20).unwrap();
        other.run(2).unwrap();
        let told = other.profile(13).unwrap();
        assert_eq!(told.launches.len(), other.launches().len());
        assert!(told.whole > 0.0);
        other.run(5).unwrap();
        assert_eq!(other.steps(), 20);
        assert_eq!(one.weights().unwrap(), other.weights().unwrap());
    }
}

#[test]
fn a_step_without_its_shards_is_refused() {
    let (made, data) = (made(), table(ROWS));
    let mut step = made.step(Shards::of(&data, 48), &cpu());
    step.run(4).unwrap();
    let by_itself = |step: &mut TrainStep| step.run(1).unwrap_err().to_string();
    let told = by_itself(&mut step);
    assert!(told.contains("`OverShards::run`"), "{told}");
    assert!(TrainStep::profile(&mut step, 1).is_err());
    assert_eq!(step.steps(), 4);
    // Handed the shards of another step, nothing is trained on.
    let mut other = made.step(Shards::of(&data, 32), &cpu());
    std::mem::swap(&mut *step, &mut *other);
    assert!(step.run(1).is_err());
    std::mem::swap(&mut *step, &mut *other);
    step.run(1).unwrap();
}

#[test]
fn what_cannot_be_is_refused_in_the_words_of_a_fit() {
    let (made, data) = (made(), table(ROWS));
    let told = |shards: Shards<'_>| {
        let step = made.builder().compile_over_shards(shards, &cpu());
        let found = step.unwrap_err().to_string();
        let fit = made.fit().check(shards).unwrap_err().to_string();
        assert_eq!(found, fit);
        let joint = JointStep::builder().batch(BATCH);
        let joint = joint.compile_over_shards(shards, &cpu(), |s| alone(s, &made));
        (found, joint.unwrap_err().to_string())
    };
    let both = |shards: Shards<'_>, what: &str| {
        let (step, joint) = told(shards);
        assert!(
            step.contains(what) && joint.contains(what),
            "{step}\n{joint}"
        );
    };
    let small = "rows of a shard of training data: found 15; wanted at least the 16";
    both(Shards::of(&data, 15), small);
    let few = table(10);
    let wanted = "mini-batch: found 16; wanted at most the 10 rows of the training data";
    both(Shards::of(&few, 5), wanted);
    let empty = Dataset::new();
    let wanted = "training data, rows of a data source: found none";
    both(Shards::of(&empty, 40), wanted);
    let other = Dataset::new().with("input", [2], vec![0.0f32; 200]);
    let other = other.unwrap();
    both(Shards::of(&other, 40), "unknown column `bytes`");
}

/// The same training, described as a joint step.
fn alone(s: &mut JointScope<'_>, Made(model, loss, optimizer): &Made) -> wgrad::Result<()> {
    let net = s.model("net", model)?;
    let (x, b) = (s.input("input", [2])?, s.input("bytes", [3])?);
    let scores = s.call(net, &[x, b])?;
    let target = s.input("target", Input::u32([]))?;
    let loss = s.loss(loss, &[scores], &[target])?;
    s.minimise("loss", loss, &[net], optimizer)
}

fn joint<'d>(made: &Made, shards: Shards<'d>, device: &Device) -> OverShards<'d, JointStep> {
    let step = JointStep::builder().batch(BATCH).seed(SEED).replicas(2);
    let step = step.compile_over_shards(shards, device, |s| alone(s, made));
    step.unwrap()
}

/// Whether weights agree but for their last bits: a joint step is another program.
fn close(a: &[Weights], b: &[Weights]) {
    for (a, b) in a.iter().zip(b) {
        for ((name, a), (_, b)) in a.tensors().iter().zip(b.tensors()) {
            let far = a
                .iter()
                .zip(b)
                .map(|(a, b)| (a - b).abs())
                .fold(0.0, f32::max);
            assert!(far < 1e-4, "{name} differs by {far}");
        }
    }
}

#[test]
fn joint_steps_over_shards_see_the_rows_of_a_fit() {
    // Without a normalization, before which gradients of biases are rounding alone.
    let plain = Model::build(|m| {
        let x = m.input("input", [2]).layer("a", Dense::new(8));
        let b = m.input("bytes", [3]).layer("b", Dense::new(8));
        m.output("scores", (x + b).tanh().layer("head", Dense::new(2)));
    });
    let made = Made(plain.unwrap(), Loss::cross_entropy(), optimizer());
    let data = table(ROWS);
    for device in devices() {
        let shards = Shards::of(&data, 48);
        let run = made.fit().epochs(2).run(shards, &device).unwrap();
        let mut at_once = joint(&made, shards, &device);
        at_once.run(2 * EPOCH).unwrap();
        let wanted = at_once.weights("net").unwrap();
        close(&wanted, &run.weights);
        for of in [&[1][..], &[2, 5]] {
            let mut step = joint(&made, shards, &device);
            for now in calls(of, 2 * EPOCH) {
                step.run(now).unwrap();
            }
            assert_eq!(step.steps(), 2 * EPOCH);
            assert_eq!(step.weights("net").unwrap(), wanted, "calls of {of:?}");
            assert_eq!(step.numbers().unwrap()["loss"].len(), 2);
        }
        // One shard is data as a whole.
        let mut one = joint(&made, Shards::of(&data, ROWS), &device);
        let whole = JointStep::builder().batch(BATCH).seed(SEED).replicas(2);
        let whole = whole.compile_over(&data, &device, |s| alone(s, &made));
        let mut whole = whole.unwrap();
        one.run(13).unwrap();
        whole.run(13).unwrap();
        assert_eq!(one.weights("net").unwrap(), whole.weights("net").unwrap());
    }
}

#[test]
fn a_joint_step_names_what_breaks_and_goes_on() {
    let (made, data) = (made(), table(ROWS));
    let mut sound = joint(&made, Shards::of(&data, 48), &cpu());
    sound.run(2 * EPOCH).unwrap();
    for (answer, what) in [
        (away as Answer, "no answer for "),
        (
            third_class,
            "column target: found 2 in row 77; wanted classes from 0 to 1",
        ),
    ] {
        let source = watched(1, answer);
        let mut step = joint(&made, Shards::of(&source, 48), &cpu());
        let error = step.run(2 * EPOCH).unwrap_err().to_string();
        names_the_shard(&error);
        assert!(error.contains(what), "{error}");
        let left = 2 * EPOCH - step.steps();
        step.run(left).unwrap();
        assert_eq!(step.weights("net").unwrap(), sound.weights("net").unwrap());
    }
    let by_itself = |step: &mut JointStep| step.run(1).unwrap_err().to_string();
    let told = by_itself(&mut sound);
    assert!(told.contains("`OverShards::run`"), "{told}");
}

/// Of shards one row alone is known before they are read, and it says nothing of the others.
#[test]
fn a_first_label_that_counts_nothing_is_no_reason_to_refuse() {
    let model = Model::sequential([2]).then(Dense::new(2)).build().unwrap();
    let ignoring = CrossEntropy {
        ignored: Some(9),
        ..CrossEntropy::default()
    };
    let made = Made(model, Loss::of_criterion(ignoring), optimizer());
    let mut labels: Vec<u32> = (0..ROWS as u32).map(|row| row % 2).collect();
    labels[0] = 9;
    let data = Dataset::new().with("input", [2], vec![0.5f32; 2 * ROWS]);
    let data = data.unwrap().with("target", [], labels).unwrap();
    let shards = Shards::of(&data, 48);
    let mut step = made.step(shards, &cpu());
    step.run(EPOCH).unwrap();
    let joint = JointStep::builder().batch(BATCH);
    let joint = joint.compile_over_shards(shards, &cpu(), |s| {
        let net = s.model("net", &made.0)?;
        let (x, target) = (s.input("input", [2])?, s.input("target", Input::u32([]))?);
        let scores = s.call(net, &[x])?;
        let loss = s.loss(&made.1, &[scores], &[target])?;
        s.minimise("loss", loss, &[net], &made.2)
    });
    joint.unwrap().run(EPOCH).unwrap();
}

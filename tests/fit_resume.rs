//! Runs that are killed and go on.

mod common;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use common::{Kill, gpu};
use wgrad::Error;
use wgrad::data::Dataset;
use wgrad::exec::{Choice, Device};
use wgrad::fit::{
    Checkpoints, CrossEntropy, EarlyStop, Fit, Loss, Metric, Outcome, Plateau, Progress,
};
use wgrad::model::{Input, Model, layers::*};
use wgrad::ops::pointwise::pointwise;
use wgrad::optim::{AdamW, Group, Optimizer, Schedule};

fn cpu() -> Device {
    Device::open(Choice::Cpu).unwrap()
}

fn curve() -> Dataset {
    let x: Vec<f32> = (0..309)
        .map(|i| ((i * 37 % 101) as f32 / 50.0) - 1.0)
        .collect();
    let y: Vec<f32> = x.chunks(3).map(|x| (2.0 * x[0] - x[1]).sin()).collect();
    let data = Dataset::new().with("input", [3], x).unwrap();
    data.with("target", [1], y).unwrap()
}

/// Random numbers, running statistics, states of a rule, a rate that depends on the step, an average.
fn model() -> Model {
    let model = Model::sequential(Input::f32([3])).then(Dense::new(12));
    let model = model
        .then(BatchNorm::default())
        .then(Relu)
        .then(Dropout::new(0.3));
    model.then(Dense::new(1)).build().unwrap()
}

fn optimizer() -> Optimizer {
    let rates = Schedule::cosine(40).warm_up(5);
    Optimizer::new(AdamW::default(), 0.02)
        .schedule(rates)
        .clip_norm(1.0)
        .average(0.9)
}

/// The files of a folder, by name.
fn all(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let files = std::fs::read_dir(folder)
        .unwrap()
        .map(|e| e.unwrap().path());
    let named = |path: PathBuf| {
        let name = path.file_name().unwrap().to_str().unwrap().to_string();
        (name, std::fs::read(path).unwrap())
    };
    files.map(named).collect()
}

struct Run<'a> {
    device: &'a Device,
    folder: &'a Path,
    kill: usize,
    epochs: usize,
    seed: u64,
    resume: bool,
}

impl<'a> Run<'a> {
    fn of(device: &'a Device, folder: &'a Path, epochs: usize, resume: bool) -> Self {
        Self {
            device,
            folder,
            kill: 0,
            epochs,
            seed: 3,
            resume,
        }
    }

    fn run(&self) -> wgrad::Result<Outcome> {
        let (model, data) = (model(), curve());
        let parts = data.split(&[0.7, 0.3], 5)?;
        let fit = Fit::new(&model, Loss::mse(), optimizer())
            .batch(16)
            .epochs(self.epochs);
        let fit = fit.seed(self.seed).replicas(2).metric(Metric::mae());
        let fit = fit
            .with(EarlyStop::on("validation loss").patience(3))
            .with(Kill(self.kill));
        let fit = fit
            .validation(&parts[1])
            .test(&parts[1])
            .checkpoints(self.folder);
        let fit = if self.resume { fit.resume() } else { fit };
        fit.run(&parts[0], self.device)
    }
}

fn same(a: &Outcome, b: &Outcome) {
    assert_eq!(a.weights, b.weights);
    assert_eq!(a.report.test, b.report.test);
    assert_eq!(a.report.chosen_epochs, b.report.chosen_epochs);
    let numbers = |o: &Outcome| -> Vec<_> {
        let all = o.report.epochs.iter();
        all.map(|e| {
            (
                e.epoch,
                e.steps,
                e.training_loss.clone(),
                e.validation.clone(),
            )
        })
        .collect()
    };
    assert_eq!(numbers(a), numbers(b));
}

#[test]
fn a_run_that_was_killed_ends_as_one_that_was_not() {
    for device in std::iter::once(cpu()).chain(gpu()) {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("run");
        let mut run = Run::of(&device, &file, 9, false);
        let whole = run.run().unwrap();
        std::fs::remove_dir_all(&file).unwrap();
        run.kill = 4;
        assert!(run.run().unwrap_err().to_string().contains("power"));
        // Killed once more on the way, after the epoch that it goes on with.
        (run.kill, run.resume) = (6, true);
        assert!(run.run().unwrap_err().to_string().contains("power"));
        run.kill = 0;
        let resumed = run.run().unwrap();
        same(&resumed, &whole);
        let seconds: Vec<f64> = resumed.report.epochs.iter().map(|e| e.seconds).collect();
        assert!(seconds.is_sorted(), "{seconds:?}");
        // What is done is not done again, and the best epoch's weights are still known.
        same(&run.run().unwrap(), &whole);
        // Where there is no checkpoint, a run begins anew.
        std::fs::remove_dir_all(&file).unwrap();
        same(&run.run().unwrap(), &whole);
    }
}

#[test]
fn more_epochs_are_trained_and_a_stopped_run_stays_stopped() {
    let device = cpu();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("run");
    let mut run = Run::of(&device, &file, 3, true);
    assert_eq!(run.run().unwrap().report.epochs.len(), 3);
    run.epochs = 60;
    let longer = run.run().unwrap();
    let epochs = longer.report.epochs.len();
    assert!(epochs > 3 && epochs < 60, "{epochs}: early stopping");
    run.epochs = 70;
    same(&run.run().unwrap(), &longer);
    std::fs::remove_dir_all(&file).unwrap();
    run.epochs = 60;
    same(&run.run().unwrap(), &longer);
}

#[test]
fn another_runs_checkpoint_and_a_broken_one_are_refused_and_stay() {
    let device = cpu();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("run");
    let mut run = Run::of(&device, &file, 2, true);
    run.run().unwrap();
    run.seed = 4;
    let refused = run.run().unwrap_err().to_string();
    assert!(
        refused.contains("seed 3") && refused.contains("seed 4"),
        "{refused}"
    );
    run.seed = 3;
    let checkpoint = |epoch: usize| file.join(format!("epoch-{epoch:07}.safetensors"));
    let bytes = std::fs::read(checkpoint(2)).unwrap();
    // The one before goes on where the newest is broken; where none is left, they are refused.
    std::fs::write(checkpoint(2), &bytes[..bytes.len() / 2]).unwrap();
    assert_eq!(run.run().unwrap().report.epochs.len(), 2);
    let bytes = std::fs::read(checkpoint(2)).unwrap();
    std::fs::remove_file(checkpoint(1)).unwrap();
    // A bit of the last tensor, a shorter file, another file.
    let mut flipped = bytes.clone();
    *flipped.last_mut().unwrap() ^= 1;
    let other = b"no safetensors".to_vec();
    for (broken, what) in [
        (flipped, "hash"),
        (bytes[..bytes.len() / 2].into(), ""),
        (other, ""),
    ] {
        std::fs::write(checkpoint(2), &broken).unwrap();
        let refused = run.run().unwrap_err();
        assert!(matches!(refused, Error::File { .. }), "{refused}");
        let text = refused.to_string();
        assert!(
            text.contains(what) && text.contains("Begin the run anew"),
            "{text}"
        );
        assert_eq!(std::fs::read(checkpoint(2)).unwrap(), broken);
    }
    std::fs::write(checkpoint(2), &bytes).unwrap();
    assert_eq!(run.run().unwrap().report.epochs.len(), 2);
    // Without the numbers of its epochs a checkpoint is none.
    std::fs::remove_file(file.join("epochs.jsonl")).unwrap();
    let refused = run.run().unwrap_err().to_string();
    assert!(refused.contains("epochs.jsonl"), "{refused}");
    run.resume = false;
    run.run().unwrap();
    // Other data of the same shape.
    let (model, data) = (model(), curve());
    let fit = Fit::new(&model, Loss::mse(), optimizer())
        .checkpoints(&file)
        .resume();
    let refused = fit.run(&data, &device).unwrap_err().to_string();
    assert!(
        refused.contains("callbacks") || refused.contains("data"),
        "{refused}"
    );
    let fit = Fit::new(&model, Loss::mse(), optimizer()).resume();
    let refused = fit.run(&data, &device).unwrap_err().to_string();
    assert!(refused.contains("checkpoint"), "{refused}");
}

#[test]
fn a_schedule_over_more_epochs_is_refused_with_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("run");
    let (model, data) = (model(), curve());
    let run = |epochs: usize, rate: f64| {
        let steps = epochs as u64 * 6;
        let optimizer = Optimizer::new(AdamW::default(), rate).schedule(Schedule::cosine(steps));
        let fit = Fit::new(&model, Loss::mse(), optimizer).batch(16);
        fit.epochs(epochs)
            .checkpoints(&file)
            .resume()
            .run(&data, &cpu())
    };
    run(2, 0.02).unwrap();
    let refused = run(3, 0.02).unwrap_err().to_string();
    for part in [
        "a run with the schedule to 0 over 12 steps by a cosine, warm-up of 0 steps",
        "with the schedule to 0 over 18 steps",
        "goes over the epochs",
        "the steps already done would have had other rates",
    ] {
        assert!(refused.contains(part), "{refused}");
    }
    // What differs beside the schedule is no matter of epochs.
    let refused = run(3, 0.03).unwrap_err().to_string();
    assert!(
        refused.contains("optimizer") && !refused.contains("epochs"),
        "{refused}"
    );
}

/// What decides a run is more than what has a name: numbers of losses, what functions write, how callbacks act.
#[test]
fn another_loss_group_or_callback_is_another_run() {
    let device = cpu();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("run");
    let regression = (model(), curve());
    let classes: Vec<u32> = (0..103).map(|i| i % 3).collect();
    let classification = {
        let model = Model::sequential([3]).then(Dense::new(3)).build().unwrap();
        let column = &curve().split(&[1.0], 1).unwrap()[0];
        let data = Dataset::new().with("input", [3], vec![0.5; 309]).unwrap();
        assert_eq!(column.rows(), 103);
        (model, data.with("target", [], classes).unwrap())
    };
    fn adam() -> Optimizer {
        Optimizer::new(AdamW::with_decay(0.1), 0.02)
    }
    fn spares(part: &'static str) -> Optimizer {
        let group = Group {
            decays: false,
            ..Group::default()
        };
        adam().group(move |name| name.contains(part), group)
    }
    fn smooth(smoothing: f64) -> Loss {
        Loss::of_criterion(CrossEntropy {
            smoothing,
            ..CrossEntropy::default()
        })
    }
    let own = |by: f64| Loss::each("own", move |y, t| (y - t).square() * by);
    fn weighed(by: f32) -> Loss {
        Loss::new("weighed", move |scope, y, t| {
            let by = scope.constant(&[1], vec![by])?;
            let each = pointwise(scope, [y, t, by], |[y, t, by]| (y - t).square() * by)?;
            let n = scope.extents(each)?[0];
            scope.reshape(each, &[n])
        })
    }
    fn plain(fit: Fit<'_>) -> Fit<'_> {
        fit
    }
    fn by_mean(fit: Fit<'_>, power: f64) -> Fit<'_> {
        let metric = Metric::each("mine", move |y, t| (y - t).abs().pow(power));
        fit.metric(metric).with(EarlyStop::on("validation mine"))
    }
    fn by_root(fit: Fit<'_>) -> Fit<'_> {
        by_mean(fit, 0.5)
    }
    fn by_square(fit: Fit<'_>) -> Fit<'_> {
        by_mean(fit, 2.0)
    }
    fn stops(fit: Fit<'_>) -> Fit<'_> {
        fit.with(EarlyStop::on("training loss").patience(2))
    }
    fn stops_later(fit: Fit<'_>) -> Fit<'_> {
        fit.with(EarlyStop::on("training loss").patience(3))
    }
    fn falls(fit: Fit<'_>) -> Fit<'_> {
        fit.with(Plateau::on("training loss").factor(0.5))
    }
    fn falls_faster(fit: Fit<'_>) -> Fit<'_> {
        fit.with(Plateau::on("training loss").factor(0.25))
    }
    type With = for<'a> fn(Fit<'a>) -> Fit<'a>;
    let run = |(model, data): &(Model, Dataset),
               (loss, optimizer, with): (Loss, Optimizer, With),
               epochs| {
        let fit = Fit::new(model, loss, optimizer).batch(16).epochs(epochs);
        let fit = with(fit.validation(data).checkpoints(&file).resume());
        fit.run(data, &device).map(drop)
    };
    let step = "steps, or whose validation, compute something else";
    type Two = [(Loss, Optimizer, With); 2];
    let both: [(_, Two, &str); 8] = [
        (
            &classification,
            [0.1, 0.2].map(|s| (smooth(s), adam(), plain as With)),
            "loss",
        ),
        (
            &regression,
            [0.7, 7.0].map(|d| (Loss::huber(d), adam(), plain as With)),
            step,
        ),
        (
            &regression,
            [1.0, 2.0].map(|by| (own(by), adam(), plain as With)),
            step,
        ),
        (
            &regression,
            ["bias", "dense"].map(|p| (Loss::mse(), spares(p), plain as With)),
            step,
        ),
        (
            &regression,
            [1.0, 100.0].map(|by| (weighed(by), adam(), plain as With)),
            step,
        ),
        (
            &regression,
            [by_root as With, by_square].map(|w| (Loss::mse(), adam(), w)),
            step,
        ),
        (
            &regression,
            [stops as With, stops_later].map(|w| (Loss::mse(), adam(), w)),
            "patience 3",
        ),
        (
            &regression,
            [falls as With, falls_faster].map(|w| (Loss::mse(), adam(), w)),
            "factor 0.25",
        ),
    ];
    for (job, [one, other], told) in both {
        run(job, one.clone(), 1).unwrap();
        let before = all(&file);
        let refused = run(job, other, 2).unwrap_err();
        assert!(matches!(refused, Error::File { .. }), "{refused}");
        assert!(refused.to_string().contains(told), "{refused}");
        assert_eq!(all(&file), before);
        run(job, one, 2).unwrap();
        std::fs::remove_dir_all(&file).unwrap();
    }
    // Who looks on changes nothing.
    run(&regression, (Loss::mse(), adam(), stops), 1).unwrap();
    let watched: With = |fit| stops(fit.with(Progress::new(|_| {})));
    run(&regression, (Loss::mse(), adam(), watched), 2).unwrap();
}

/// Fewer epochs than there are were another run; and where a longer one was killed, a shorter one ends as if it were alone.
#[test]
fn a_run_of_fewer_epochs_is_not_the_longer_one() {
    let device = cpu();
    let (model, data) = (model(), curve());
    let folder = tempfile::tempdir().unwrap();
    let fit = |epochs| {
        let optimizer = Optimizer::new(AdamW::default(), 0.02);
        let fit = Fit::new(&model, Loss::mse(), optimizer).batch(16);
        fit.epochs(epochs).validation(&data).evaluate_every(2)
    };
    let kept = |epochs| fit(epochs).checkpoints(folder.path()).resume();
    kept(10).with(Kill(4)).run(&data, &device).unwrap_err();
    let refused = kept(2).with(Kill(0)).run(&data, &device).unwrap_err();
    let said = refused.to_string();
    assert!(
        said.starts_with("epochs: found 2; wanted at least the 3"),
        "{said}"
    );
    let short = kept(3).with(Kill(0)).run(&data, &device).unwrap();
    same(&short, &fit(3).run(&data, &device).unwrap());
    assert_eq!(short.report.epochs[2].validation.len(), 1);
    let whole = fit(10).run(&data, &device).unwrap();
    same(&kept(10).with(Kill(0)).run(&data, &device).unwrap(), &whole);
}

/// A folder keeps the last few of every so many epochs, and always the end; a run goes on from whichever is left.
#[test]
fn as_many_are_kept_as_were_asked_for() {
    let device = cpu();
    let (model, data) = (model(), curve());
    let folder = tempfile::tempdir().unwrap();
    let fit = |epochs| {
        let optimizer = Optimizer::new(AdamW::default(), 0.02);
        let fit = Fit::new(&model, Loss::mse(), optimizer).batch(16);
        fit.epochs(epochs)
    };
    let kept = |last, every| Checkpoints::at(folder.path()).keep(last).every(every);
    let names = || -> Vec<String> { all(folder.path()).into_keys().collect() };
    let whole = fit(9).run(&data, &device).unwrap();
    let outcome = fit(9).checkpoints(kept(3, 2)).run(&data, &device).unwrap();
    same(&outcome, &whole);
    let epoch = |n: usize| format!("epoch-{n:07}.safetensors");
    assert_eq!(
        names(),
        [epoch(6), epoch(8), epoch(9), "epochs.jsonl".into()]
    );
    for left in [9, 8, 6] {
        let resumed = fit(9).checkpoints(kept(3, 2)).resume();
        same(&resumed.run(&data, &device).unwrap(), &whole);
        std::fs::remove_file(folder.path().join(epoch(left))).unwrap();
        for other in names().iter().filter(|name| **name > epoch(left)) {
            let path = folder.path().join(other);
            if path.extension().is_some_and(|e| e == "safetensors") {
                std::fs::remove_file(path).unwrap();
            }
        }
    }
    assert!(!kept(1, 1).are_there());
    // A broken one neither counts nor stays where the run has gone on from one before it.
    let begun = fit(8).checkpoints(kept(3, 4)).with(Kill(0));
    begun.run(&data, &device).unwrap();
    std::fs::write(folder.path().join(epoch(8)), "torn").unwrap();
    let killed = fit(9).checkpoints(kept(1, 1)).resume().with(Kill(7));
    killed.run(&data, &device).unwrap_err();
    assert_eq!(names(), [epoch(6), "epochs.jsonl".into()]);
    let resumed = fit(9).checkpoints(kept(1, 1)).resume().with(Kill(0));
    same(&resumed.run(&data, &device).unwrap(), &whole);
    // A run that begins anew leaves none of another one's behind, not even until its first epoch.
    let killed = fit(9).checkpoints(kept(9, 1)).with(Kill(1));
    killed.run(&data, &device).unwrap_err();
    assert_eq!(names(), [] as [String; 0]);
    fit(9).checkpoints(kept(9, 1)).run(&data, &device).unwrap();
    fit(2).checkpoints(kept(9, 1)).run(&data, &device).unwrap();
    assert_eq!(names(), [epoch(1), epoch(2), "epochs.jsonl".into()]);
    let lines = String::from_utf8(all(folder.path())["epochs.jsonl"].clone()).unwrap();
    assert_eq!(lines.lines().count(), 2);
    for (wrong, said) in [
        (kept(0, 1), "checkpoints kept"),
        (kept(1, 0), "epochs to a"),
    ] {
        let refused = fit(2).checkpoints(wrong).check(&data).unwrap_err();
        assert!(refused.to_string().starts_with(said), "{refused}");
    }
}

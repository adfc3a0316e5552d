//! A whole run: epochs, evaluation, callbacks.

use self::guard::On;
use self::identity::Settings;
use self::kept::AtTheEnd;
use self::within::Within;
use super::callback::{Callback, Control};
use super::checkpoint::Checkpoints;
use super::loss::Loss;
use super::metric::Metric;
use super::report::{Epoch, Report, Scores, TRAINING_SET, VALIDATION};
use super::resident::Need;
use super::setup::{Setup, Wishes};
use super::shards::{Epochs, Feed, Given};
use super::training::{Evaluated, Training};
use super::weights::{Chosen, Weights};
use crate::checkpoints::Store;
use crate::clock::Stopwatch;
use crate::data::DataRef;
use crate::error::{Error, Result};
use crate::exec::Device;
use crate::model::Model;
use crate::optim::Optimizer;

/// The name of the training data among those that are evaluated.
pub(super) const MEASURED: &str = "training set";

mod building;
mod guard;
mod identity;
mod kept;
mod over;
mod within;
mod without;

/// Trains a model on a data set.
///
/// ```
/// use wgrad::data::Dataset;
/// use wgrad::exec::{Choice, Device};
/// use wgrad::fit::{EarlyStop, Fit, Loss, Metric};
/// use wgrad::model::{Input, Model, layers::*};
/// use wgrad::optim::{AdamW, Optimizer};
///
/// // Which of two interleaved rings a point is on.
/// let points: Vec<f32> = (0..400).flat_map(|i| {
///     let (radius, angle) = (1.0 + (i % 2) as f32, i as f32 * 0.1);
///     [radius * angle.cos(), radius * angle.sin()]
/// }).collect();
/// let classes: Vec<u32> = (0..400).map(|i| i % 2).collect();
/// let data = Dataset::new().with("input", [2], points)?.with("target", [], classes)?;
/// let parts = data.split(&[0.8, 0.2], 1)?;
///
/// let model = Model::sequential(Input::f32([2])).then(Dense::new(16)).then(Relu).then(Dense::new(2)).build()?;
/// let outcome = Fit::new(&model, Loss::cross_entropy(), Optimizer::new(AdamW::default(), 0.01))
///     .batch(20).epochs(60).metric(Metric::accuracy())
///     .with(EarlyStop::on("validation accuracy").patience(20))
///     .validation(&parts[1]).test(&parts[1])
///     .run(&parts[0], &Device::open(Choice::Cpu)?)?;
/// assert!(outcome.report.test("accuracy").unwrap_or(0.0) > 0.95);
/// # Ok::<(), wgrad::Error>(())
/// ```
#[derive(Debug)]
pub struct Fit<'a> {
    model: &'a Model,
    loss: Loss,
    optimizer: Optimizer,
    sweep: Vec<Optimizer>,
    metrics: Vec<Metric>,
    batch: usize,
    epochs: usize,
    replicas: usize,
    first_replica: u32,
    seed: u64,
    validation: Option<DataRef<'a>>,
    test: Option<DataRef<'a>>,
    callbacks: Vec<Box<dyn Callback + 'a>>,
    mixup: Option<f64>,
    initial: Option<&'a Weights>,
    checkpoints: Option<Checkpoints>,
    resume: bool,
    verify_every: u64,
    mean_from: Option<usize>,
    evaluate_every: usize,
    measure_training: bool,
}

/// What a run leaves: its numbers, and the weights of each replica.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The numbers.
    pub report: Report,
    /// The weights of each replica: the last epoch's, or those that a callback chose; their averages, where the optimizer
    /// keeps them ([`Optimizer::average`]). Of a replica that a sweep has lost ([`Report::lost`]) and for which none were chosen before,
    /// numbers that are not finite.
    pub weights: Vec<Weights>,
}

impl<'a> Fit<'a> {
    /// Data that are evaluated beside the training data, by name.
    fn sets(&self) -> Result<Vec<(&'static str, Given<'a>)>> {
        let validation = self.validation.map(|data| ("validation", data));
        let test = self.test.map(|data| ("test", data));
        let sets = validation.into_iter().chain(test);
        sets.map(|(set, data)| Ok((set, Given::open(set, data)?)))
            .collect()
    }

    /// The same, behind the training data where these are measured.
    fn sets_beside<'s>(&self, given: &'s Given<'_>) -> Result<Vec<(&'static str, Given<'s>)>>
    where
        'a: 's,
    {
        let training = self.measure_training.then(|| (MEASURED, given.again()));
        Ok(training.into_iter().chain(self.sets()?).collect())
    }

    fn setup<'s>(
        &'s self,
        data: Option<&'s Given<'s>>,
        sets: &'s [(&'s str, Given<'s>)],
    ) -> Setup<'s> {
        Setup {
            model: self.model,
            loss: &self.loss,
            optimizer: &self.optimizer,
            metrics: &self.metrics,
            batch: self.batch,
            replicas: self.replicas,
            first_replica: self.first_replica,
            seed: self.seed,
            sweep: &self.sweep,
            wishes: Wishes {
                rates: self.callbacks.iter().any(|c| c.sets_rates()),
                verify: self.verify_every,
                fingerprint: self.checkpoints.is_some(),
                mean_from: self.mean_from,
                ..Wishes::default()
            },
            mixup: self.mixup,
            data,
            evaluated: sets,
        }
    }

    /// Holds data and settings to each other, without a device: what [`Fit::run`] would say before it
    /// trains. Of data in shards this is the first row, of what is one shard all of them.
    ///
    /// # Errors
    /// Columns, sizes and settings that do not fit, by name; what keeps rows from being read.
    pub fn check<'d>(&self, data: impl Into<DataRef<'d>>) -> Result<()> {
        let given = Given::open("training", data.into())?;
        self.held(&given, &self.sets_beside(&given)?)
    }

    /// What is wanted of each column of a data set.
    pub(super) fn needs(&self) -> Result<Vec<Need>> {
        self.setup(None, &[]).needs()
    }

    /// Holds opened data and settings to each other.
    fn held(&self, data: &Given<'_>, sets: &[(&str, Given<'_>)]) -> Result<()> {
        if self.epochs == 0 {
            return Err(Error::setting("epochs", 0, "at least 1"));
        }
        match &self.checkpoints {
            Some(checkpoints) => checkpoints.check()?,
            None if self.resume => {
                let wanted = "a folder of checkpoints (`Fit::checkpoints`)";
                return Err(Error::setting("checkpoints", "none to resume from", wanted));
            }
            None => {}
        }
        if self.evaluate_every == 0 {
            return Err(Error::setting("evaluate every", 0, "at least 1 epoch"));
        }
        if let Some(from) = self
            .mean_from
            .filter(|from| !(1..=self.epochs).contains(from))
        {
            let wanted = format!("1 to {}, the last epoch", self.epochs);
            return Err(Error::setting("first epoch of the mean", from, wanted));
        }
        if let Some(initial) = self.initial {
            initial.check_some(self.model)?;
        }
        let setup = self.setup(Some(data), sets);
        setup.checked()?;
        let metrics = setup.metric_names()?;
        let mut numbers = vec!["training loss".to_string()];
        let evaluated = [
            (TRAINING_SET, self.measure_training),
            (VALIDATION, self.validation.is_some()),
        ];
        for (set, _) in evaluated.iter().filter(|(_, there)| *there) {
            numbers.push(format!("{set}loss"));
            numbers.extend(metrics.iter().map(|name| format!("{set}{name}")));
        }
        for callback in &self.callbacks {
            callback.check(&numbers)?;
            // What it acts on would never be found.
            let never = self.evaluate_every > self.epochs && !callback.observes();
            if never && callback.check(&numbers[..1]).is_err() {
                let wanted = format!(
                    "at most the {} epochs of the run, where a callback acts on what is found",
                    self.epochs
                );
                let found = self.evaluate_every;
                return Err(Error::setting("evaluate every", found, wanted));
            }
        }
        Ok(())
    }

    /// Trains on a [`Dataset`](crate::data::Dataset), which lies on the device as a whole, or on
    /// [`Shards`](crate::data::Shards) of rows that are more than the device has room for: a shard is
    /// trained on while the next one is read and uploaded, and its steps upload nothing. An epoch has every
    /// row once, but for those that fill no mini-batch; which these are is drawn anew for each.
    ///
    /// ```
    /// use wgrad::data::{Dataset, Shards};
    /// # use wgrad::exec::{Choice, Device};
    /// # use wgrad::fit::{Fit, Loss};
    /// # use wgrad::model::{Model, layers::*};
    /// # use wgrad::optim::{AdamW, Optimizer};
    ///
    /// # let x: Vec<f32> = (0..1000).map(|i| i as f32 / 1000.0).collect();
    /// # let model = Model::sequential([1]).then(Dense::new(1)).build()?;
    /// let data = Dataset::new().with("input", [1], x.clone())?.with("target", [1], x)?;
    /// let fit = Fit::new(&model, Loss::mse(), Optimizer::new(AdamW::default(), 0.01));
    /// let fit = fit.batch(10).validation(Shards::of(&data, 300));
    /// fit.run(Shards::of(&data, 200), &Device::open(Choice::Cpu)?)?;
    /// # Ok::<(), wgrad::Error>(())
    /// ```
    ///
    /// # Errors
    /// Before anything runs: columns, sizes and settings that do not fit, by name; checkpoints that are
    /// broken, of another run or of more epochs, where it is to go on from one; data that the device has no room for as a whole. While it runs:
    /// [`Error::NotFinite`] when a loss is not finite any more, that of a step that was skipped too, in the end for
    /// a replica that has skipped every step, and for weights that the last update has made infinite;
    /// [`Error::Disagrees`] for a launch that was found wrong ([`Fit::verify_every`]); what a callback says, what the device
    /// says; of data in shards what keeps rows from being read or does not fit in them, by shard and rows.
    pub fn run<'d>(mut self, data: impl Into<DataRef<'d>>, device: &Device) -> Result<Outcome> {
        let given = Given::open("training", data.into())?;
        let sets = self.sets_beside(&given)?;
        self.held(&given, &sets)?;
        let mut store = self.store(&given)?;
        let earlier = self.earlier(store.as_ref())?;
        let setup = self.setup(Some(&given), &sets);
        let (needs, mut training) = (setup.needs()?, setup.compile(device)?);
        if let Some(store) = &mut store {
            store.run_mut().compiled(&training.fingerprint);
        }
        if let (Some(store), Some(earlier)) = (&store, &earlier) {
            store.check(earlier)?;
        }
        let mut over = self.epochs_over(&given, &training, &needs);
        let feeds = feeds(&sets, &training, &needs);
        let validated = usize::from(self.validation.is_some());
        let watched = validated + usize::from(self.measure_training);
        let test = watched..sets.len();
        if earlier.is_none() && self.initial.is_some() {
            self.begin(&mut training)?;
        }
        let clock = Stopwatch::start();
        let mut course = Course {
            training,
            store,
            report: Report {
                device: device.info().name.clone(),
                loss: self.loss.name(),
                parameters: self.model.parameters(),
                ..Report::default()
            },
            chosen: vec![None; self.replicas],
            stopped: false,
        };
        match (earlier, &mut course.store) {
            (Some(earlier), _) => self.take_up(&mut course, earlier)?,
            // A run that goes on later could take an earlier one's for this one's.
            (None, Some(store)) => store.clear()?,
            (None, None) => {}
        }
        let on = On {
            given: &given,
            needs: &needs,
            device,
            store: None,
        };
        if let Some(mut last) = self.unmeasured(&course) {
            let (_, sets) = course.training.evaluate(0..watched, &feeds)?;
            self.measured(&mut last, sets, &mut course, on)?;
            course.report.epochs.pop();
            course.report.epochs.push(last);
        }
        let before = course.report.epochs.last();
        let before = before.map_or(0.0, |epoch| epoch.seconds);
        let steps = course.training.epoch_steps as u64;
        for epoch in course.report.epochs.len() + 1..=self.epochs {
            if course.stopped {
                break;
            }
            self.train(&mut course.training, over.as_mut(), epoch)?;
            // Whether it is one of those after which it is evaluated, however many follow.
            let regular = epoch.is_multiple_of(self.evaluate_every);
            let due = regular || epoch == self.epochs;
            let found = if due { watched } else { 0 };
            let (losses, sets) = course.training.evaluate(0..found, &feeds)?;
            let losses: Vec<f64> = losses.into_iter().map(|sum| sum / steps as f64).collect();
            self.losses_finite(&losses, &mut course, on)?;
            let mut last = Epoch {
                epoch,
                steps: steps * epoch as u64,
                training_loss: losses,
                lost: course.lost(),
                skipped_steps: course.training.skipped.clone(),
                seconds: before + clock.seconds(),
                training: vec![],
                validation: vec![],
            };
            let unmeasured = last.clone();
            let mut lost = course.report.lost.clone();
            self.measured(&mut last, sets, &mut course, on)?;
            if regular {
                lost.clone_from(&course.report.lost);
            }
            // A run of more epochs would not have been evaluated here, and is to go the same way.
            let known = if regular { &last } else { &unmeasured };
            let mut control = Control::of(&mut course.training, &mut course.chosen);
            for callback in self.callbacks.iter_mut().filter(|c| !c.observes()) {
                callback.epoch(known, &mut control)?;
            }
            let stop = control.stop;
            if stop && !due {
                let (_, sets) = course.training.evaluate(0..watched, &feeds)?;
                self.measured(&mut last, sets, &mut course, on)?;
            }
            let mut control = Control::of(&mut course.training, &mut course.chosen);
            control.stop = stop;
            for callback in self.callbacks.iter_mut().filter(|c| c.observes()) {
                callback.epoch(&last, &mut control)?;
            }
            course.stopped = control.stop;
            let measured = (!regular && last != unmeasured).then(|| last.clone());
            course.report.epochs.push(match measured {
                Some(_) => unmeasured,
                None => last,
            });
            let end = AtTheEnd { measured, lost };
            self.keep(&mut course, &end, on)?;
            if let (Some(measured), Some(last)) = (end.measured, course.report.epochs.last_mut()) {
                *last = measured;
            }
        }
        self.some_taken(&mut course.report)?;
        let mut outcome = finish(&mut course, test, &feeds)?;
        self.finite(&mut outcome, &mut course.training, on.with(&course.store))?;
        Ok(outcome)
    }

    /// Takes the steps of an epoch.
    fn train(
        &mut self,
        training: &mut Training,
        over: Option<&mut Epochs<'_>>,
        epoch: usize,
    ) -> Result<()> {
        let mut pace = Within::new(epoch, training.epoch_steps as u64, self.epochs);
        match over {
            None => {
                training.shuffle()?;
                let mut now = pace.took(0, &mut self.callbacks)?;
                while now > 0 {
                    training.run(now)?;
                    now = pace.took(now, &mut self.callbacks)?;
                }
            }
            Some(over) => {
                let more = epoch < self.epochs;
                let took = &mut |now| pace.took(now, &mut self.callbacks);
                over.train(&mut training.session, epoch - 1, more, took)?;
            }
        }
        training.average()
    }

    /// Takes what an evaluation has found, of the training data if they are measured and of the validation data, into an
    /// epoch.
    fn measured(
        &self,
        epoch: &mut Epoch,
        sets: Vec<Evaluated>,
        course: &mut Course,
        on: On<'_>,
    ) -> Result<()> {
        let mut sets = sets.into_iter().map(scores);
        if self.measure_training {
            epoch.training = sets.next().unwrap_or_default();
        }
        epoch.validation = sets.next().unwrap_or_default();
        self.scored_finite(epoch, course, on)?;
        epoch.lost = course.lost();
        Ok(())
    }
}

/// A run between two epochs.
struct Course {
    training: Training,
    /// Where checkpoints are kept, if they are.
    store: Option<Store<Settings>>,
    report: Report,
    chosen: Chosen,
    stopped: bool,
}

impl Course {
    /// The numbers of the replicas that are lost.
    fn lost(&self) -> Vec<usize> {
        self.report.lost.iter().map(|lost| lost.replica).collect()
    }
}

/// The way of each evaluated set's shards to the device, of those in shards.
fn feeds<'s>(
    sets: &'s [(&'s str, Given<'_>)],
    training: &Training,
    needs: &'s [Need],
) -> Vec<Option<Feed<'s>>> {
    let of_sets = sets.iter().zip(&training.evaluations);
    of_sets
        .map(|((set, data), of)| Feed::of(set, data, needs, &of.pairs))
        .collect()
}

fn finish(
    course: &mut Course,
    test: std::ops::Range<usize>,
    feeds: &[Option<Feed<'_>>],
) -> Result<Outcome> {
    let Course {
        training,
        report,
        chosen,
        ..
    } = course;
    let mut report = std::mem::take(report);
    let last = report.epochs.len();
    let mut weights = training.evaluated()?;
    report.chosen_epochs = vec![last; weights.len()];
    let any = chosen.iter().any(Option::is_some);
    for (replica, chosen) in chosen.drain(..).enumerate() {
        if let Some((epoch, of)) = chosen {
            (report.chosen_epochs[replica], weights[replica]) = (epoch, of);
        }
    }
    if any {
        training.set_each(&weights)?;
    }
    let (_, mut sets) = training.evaluate(test, feeds)?;
    report.test = sets.pop().map(scores).unwrap_or_default();
    Ok(Outcome { report, weights })
}

fn scores(evaluated: Evaluated) -> Vec<Scores> {
    let scores = |(loss, metrics)| Scores { loss, metrics };
    evaluated.into_iter().map(scores).collect()
}

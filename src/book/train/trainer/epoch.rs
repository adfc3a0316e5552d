//! One epoch: its steps, the evaluation behind them, and one readback of all that they came to.

use super::{TEST, TRAINING, Trainer, VALIDATION, no_set};
use crate::book::train::outcome::{Epoch, Evaluation, Event, Metrics, evaluation, metrics};
use crate::clock::Stopwatch;
use crate::error::Result;
use crate::graph::Handle;
use crate::ops::finite::KEPT;
use crate::tensor::Values;

/// Steps between two progress events.
const PROGRESS: u64 = 100;

impl Trainer {
    /// Whether the last epoch's numbers can stand for those of one that is not evaluated.
    fn carries(&self) -> bool {
        let measured = |e: &Epoch| !self.settings.measure_training || !e.set_cost.is_empty();
        self.history.last().is_some_and(measured)
    }

    /// Trains to the end of the epoch under way (a whole one where one is to begin) and
    /// evaluates after it; all results come back in one readback. Metrics of the training are
    /// those of all the epoch's steps, also of those that [`Trainer::steps`] has trained. Where
    /// [`Settings::evaluate_every`](crate::book::train::Settings::evaluate_every) passes the epoch over, the last evaluation is repeated;
    /// if that was before a resume, its predictions are not there.
    ///
    /// # Errors
    /// As [`Trainer::run`].
    pub fn epoch(&mut self, tell: &mut dyn FnMut(&Event<'_>)) -> Result<(Epoch, Evaluation)> {
        let start = Stopwatch::start();
        self.check_room(self.left())?;
        let number = self.epochs_done() + 1;
        let end = (number * self.steps) as u64;
        while self.done < end {
            self.prepare()?;
            let now = PROGRESS.min(end - self.done);
            self.training.run(now)?;
            self.count(now)?;
            tell(&Event::Steps {
                epoch: number,
                done: self.done,
                total: (self.settings.epochs * self.steps) as u64,
            });
        }
        self.training.session.wait()?;
        self.training_seconds += start.seconds();
        let earlier = std::mem::take(&mut self.under_way);
        if let Some(check) = self.training.check {
            self.training.session.run(check, 1)?;
        }
        let due = number.is_multiple_of(self.settings.evaluate_every)
            || number == self.settings.epochs
            || !self.carries();
        if due {
            for set in [TRAINING, VALIDATION, TEST] {
                self.evaluate_set(set)?;
            }
            self.evaluated = true;
        }
        let measured = self.settings.measure_training;
        let mut decayed: Vec<Handle<f32>> = vec![];
        if measured && self.decay != [0.0; 2] {
            // The weights that were evaluated: their mean, where one is kept.
            let evaluated = self.parameters.iter().zip(&self.training.evaluated);
            let evaluated = evaluated.filter(|(p, _)| p.decay);
            decayed = evaluated.map(|(_, saved)| saved.handle).collect();
        }
        let held_out = |set: &str| self.answers(set).ok_or_else(|| no_set(set));
        let (validation, test) = (held_out(VALIDATION)?, held_out(TEST)?);
        let (train, guard, validation, tested, predictions, set, decayed) = {
            let asked = (
                self.training.total.sums,
                self.training.total.guard,
                validation.metrics,
                test.metrics,
                test.predictions,
                self.answers(TRAINING).map(|set| set.metrics),
                decayed,
            );
            self.training.session.read(asked)?
        };
        let guard = guard.ok_or_else(|| no_set(TRAINING))?;
        let [train, validation, test] = [&train, &validation, &tested].map(metrics);
        let set = set.as_ref().map(metrics).unwrap_or_default();
        let mut evaluation = evaluation(&test, &predictions);
        let penalty = match measured {
            true => penalty(self.decay, &decayed, self.settings.replicas),
            false => vec![],
        };
        for (replica, guard) in guard.replicas().enumerate() {
            if guard[0] > 0 {
                return Err(self.not_finite(u64::from(guard[0] - 1), replica, "cost")?);
            }
        }
        for (replica, guard) in guard.replicas().enumerate() {
            if guard[KEPT] > 0 {
                return Err(self.kept_not_finite(replica, guard[KEPT] as usize - 1)?);
            }
        }
        if due {
            // The guard looks at losses before each update, so the last one escapes it.
            for replica in 0..self.settings.replicas {
                let sets = [(TRAINING, &set), (VALIDATION, &validation), (TEST, &test)];
                let bad = |m: &Vec<Metrics>| m.get(replica).is_some_and(|m| !m.cost.is_finite());
                if let Some((name, _)) = sets.into_iter().find(|(_, m)| bad(m)) {
                    let last = end - 1;
                    let place = format!("cost on the {name} images after it");
                    return Err(self.not_finite(last, replica, &place)?);
                }
            }
        }
        let mut epoch = Epoch {
            epoch: number,
            training_cost: train.iter().map(|m| m.cost).collect(),
            training_accuracy: train.iter().map(|m| m.accuracy).collect(),
            validation_accuracy: validation.iter().map(|m| m.accuracy).collect(),
            test_accuracy: test.iter().map(|m| m.accuracy).collect(),
            validation_cost: validation.iter().map(|m| m.cost).collect(),
            test_cost: test.iter().map(|m| m.cost).collect(),
            set_cost: set.iter().map(|m| m.cost).collect(),
            set_accuracy: set.iter().map(|m| m.accuracy).collect(),
            penalty,
            seconds: earlier + start.seconds(),
        };
        if !due && let Some(last) = self.history.last() {
            epoch = repeated(epoch, last, &mut evaluation, self.evaluated);
        }
        self.record(epoch.clone());
        Ok((epoch, evaluation))
    }
}

/// The decay's term of the cost for each replica, from the decayed weights.
fn penalty([l2, l1]: [f64; 2], weights: &[Values<f32>], replicas: usize) -> Vec<f64> {
    let mut terms = vec![0.0; replicas];
    for values in weights {
        for (term, values) in terms.iter_mut().zip(values.replicas()) {
            let values = values.iter().map(|&w| f64::from(w));
            *term += values.map(|w| 0.5 * l2 * w * w + l1 * w.abs()).sum::<f64>();
        }
    }
    terms
}

/// An epoch that was not evaluated with the numbers of the one before; `here` says whether
/// the buffers hold that evaluation's predictions.
fn repeated(epoch: Epoch, last: &Epoch, evaluation: &mut Evaluation, here: bool) -> Epoch {
    evaluation.cost.clone_from(&last.test_cost);
    evaluation.accuracy.clone_from(&last.test_accuracy);
    if !here {
        evaluation.predictions.iter_mut().for_each(Vec::clear);
    }
    let measured = !epoch.set_cost.is_empty();
    let if_measured = |list: &Vec<f64>| if measured { list.clone() } else { vec![] };
    Epoch {
        validation_accuracy: last.validation_accuracy.clone(),
        test_accuracy: last.test_accuracy.clone(),
        validation_cost: last.validation_cost.clone(),
        test_cost: last.test_cost.clone(),
        set_cost: if_measured(&last.set_cost),
        set_accuracy: if_measured(&last.set_accuracy),
        ..epoch
    }
}

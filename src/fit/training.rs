//! A compiled training run: what [`TrainStep`](super::TrainStep) and [`Fit`](super::Fit) have in common.

use std::ops::Range;

use ndarray::ArrayD;

use super::by_hand::{ByHand, none};
use super::checkpoint::{STATES, State, WEIGHTS, put_chosen};
use super::metric::Metric;
use super::resident::LABELS_THAT_COUNT;
use super::saved::{self, Saved, array};
use super::shards::{self, Feed, Pair, Programs};
use super::weights::{Chosen, Weights};
use crate::checkpoints::Entry;
use crate::error::{Error, Result};
use crate::exec::profile::Runs;
use crate::graph::{Graph, Handle, Program};
use crate::model_file::Tensors;
use crate::ops::Value;
use crate::optim::told;
use crate::run::Session;
use crate::run::sentinel::Steps;
use crate::tensor::{Host, Values};

/// A data set that is evaluated.
pub(crate) struct Evaluation {
    /// The set's name.
    pub set: String,
    pub program: Program,
    pub rows: usize,
    pub runs: u64,
    pub counter: Handle<u32>,
    /// Totals of each term of the loss, and what they are divided by where that is not the rows.
    pub terms: Vec<(f64, Handle<f32>, Option<Handle<f32>>)>,
    pub metrics: Vec<(Metric, Handle<f32>)>,
    /// What is kept of each example, in the place of totals.
    #[cfg_attr(
        not(feature = "book"),
        expect(dead_code, reason = "read by sessions of the book")
    )]
    pub answers: Option<Answered>,
    /// Of data in shards.
    pub(super) shards: Option<shards::Evaluated>,
    pub(super) pairs: Vec<Pair>,
}

/// What an evaluation keeps of each example.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(
    not(feature = "book"),
    expect(dead_code, reason = "read by sessions of the book")
)]
pub(crate) struct Answered {
    /// As [`EpochMetrics`](crate::ops::epoch_metrics::EpochMetrics) keeps them.
    pub metrics: Handle<f32>,
    /// The class that is answered.
    pub predictions: Handle<u32>,
    /// What the last run's examples gave, `[N, K]`.
    pub output: Handle<f32>,
}

/// What an evaluation finds, of each replica: its loss and the metrics' values by name.
pub(super) type Evaluated = Vec<(f64, Vec<(String, f64)>)>;

/// Where training steps add up their losses in a graph.
#[derive(Clone, Copy, Debug)]
pub(super) enum Losses {
    /// `[1]`: the means of the mini-batches.
    OfSteps(Value),
    /// As [`EpochMetrics`](crate::ops::epoch_metrics::EpochMetrics) keeps them: the losses of the examples, `[4]`
    /// and `[4]`.
    OfExamples {
        /// The sums.
        totals: Value,
        /// The first step whose loss was not finite.
        guard: Value,
    },
}

impl Losses {
    /// Where sums stand.
    pub fn total(self) -> Value {
        match self {
            Self::OfSteps(total) | Self::OfExamples { totals: total, .. } => total,
        }
    }
}

/// The sum of the losses of training steps, since it was cleared.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Total {
    /// `[1]`, or `[4]` as [`Losses::OfExamples`] has it.
    pub sums: Handle<f32>,
    /// The first step whose loss was not finite, where it is noted.
    pub guard: Option<Handle<u32>>,
    /// What a sum is divided by to be one of means.
    examples: f64,
}

impl Total {
    pub(super) fn new(graph: &Graph, losses: Losses, batch: usize) -> Result<Self> {
        let sums = graph.handle(losses.total())?;
        Ok(match losses {
            Losses::OfSteps(_) => Self {
                sums,
                guard: None,
                examples: 1.0,
            },
            Losses::OfExamples { guard, .. } => Self {
                sums,
                guard: Some(graph.handle(guard)?),
                examples: batch as f64,
            },
        })
    }

    pub fn clear(&self, session: &mut Session) -> Result<()> {
        session.fill(self.sums, 0.0)?;
        match self.guard {
            Some(guard) => session.fill(guard, 0),
            None => Ok(()),
        }
    }

    /// Of each replica, the sum of the steps' means.
    fn of(&self, sums: &Values<f32>) -> Vec<f64> {
        let whole = |sums: &[f32]| match sums {
            // The last is that of the block of steps under way.
            &[sum, _, _, block] => f64::from(sum) + f64::from(block),
            sums => sums.iter().map(|&sum| f64::from(sum)).sum(),
        };
        sums.replicas()
            .map(|sums| whole(sums) / self.examples)
            .collect()
    }
}

/// A compiled training run.
pub(crate) struct Training {
    pub(crate) session: Session,
    /// What a step computes, and how it is validated, as hashes; empty where nobody asks.
    pub(super) fingerprint: String,
    pub(super) order: Option<Program>,
    pub(crate) train: Steps,
    /// Gives what the optimizer keeps its first values.
    pub(super) init: Program,
    pub(super) fed: Vec<(String, Host32)>,
    pub(crate) saved: Vec<Saved>,
    /// The same as they are evaluated: averages, where the optimizer keeps them, in the place of parameters.
    pub(crate) evaluated: Vec<Saved>,
    /// Whether there are averages.
    pub(super) averages: bool,
    pub(super) states: Vec<(String, Handle<f32>)>,
    pub(super) step: Handle<u32>,
    pub(crate) total: Total,
    /// Of each replica, the first step whose loss was not finite, as far as the last evaluation knows.
    pub(super) overflowed: Vec<Option<u64>>,
    /// The loss scale, where there is one.
    pub(super) scale: Option<Handle<f32>>,
    /// How many steps each replica has skipped for its scale, as far as the last evaluation knows.
    pub(super) skipped: Vec<u64>,
    /// Takes the weights into their mean over epochs, where one is kept.
    pub(crate) average: Option<Program>,
    /// Notes in the guard what of `kept` is not finite, where that is looked for.
    #[cfg_attr(
        not(feature = "book"),
        expect(dead_code, reason = "read by sessions of the book")
    )]
    pub(crate) check: Option<Program>,
    /// What lasts from epoch to epoch, in the order in which it is looked at: of each parameter its weight, what the
    /// optimizer keeps, and its mean.
    #[cfg_attr(
        not(feature = "book"),
        expect(dead_code, reason = "read by sessions of the book")
    )]
    pub(crate) kept: Vec<(String, Handle<f32>)>,
    pub(super) by_hand: Option<ByHand>,
    pub(super) gradients: Vec<(String, Handle<f32>)>,
    /// The losses of the last steps.
    pub(super) recorded: Option<Handle<f32>>,
    pub(crate) evaluations: Vec<Evaluation>,
    /// Steps in an epoch of training data.
    pub epoch_steps: usize,
    /// The order of the rows that lie on the device.
    pub(super) rows: Option<Handle<u32>>,
    /// The columns of training data in shards.
    pub(super) pairs: Vec<Pair>,
    pub(super) replicas: usize,
}

/// A column that is fed.
#[derive(Clone, Copy)]
pub(super) enum Host32 {
    F32(Handle<f32>),
    U32(Handle<u32>),
}

/// Writes a fed column: the same for every replica.
pub(super) fn feed(
    session: &mut Session,
    fed: &[(String, Host32)],
    name: &str,
    host: &Host,
) -> Result<()> {
    let Some((_, handle)) = fed.iter().find(|(other, _)| other == name) else {
        let known: Vec<&str> = fed.iter().map(|(n, _)| n.as_str()).collect();
        return Err(Error::unknown("column", name, &known));
    };
    let wrong = |found: &str, wanted: &str| {
        let name = format!("column {name}");
        Error::setting(name, found, wanted)
    };
    match (*handle, host) {
        (Host32::F32(handle), Host::F32(values)) => session.write_each(handle, values),
        (Host32::U32(handle), Host::U32(values)) => session.write_each(handle, values),
        (Host32::F32(_), _) => Err(wrong("integers", "floats")),
        (Host32::U32(_), _) => Err(wrong("floats", "integers")),
    }
}

/// How many steps each replica has skipped.
pub(super) fn skipped(scale: &Values<f32>) -> Vec<u64> {
    scale.replicas().map(|scale| told(scale).1).collect()
}

impl Training {
    pub fn session(&self) -> &Session {
        &self.session
    }

    pub fn train_program(&self) -> Program {
        self.train.program()
    }

    /// Writes a fed column: the same for every replica.
    pub fn feed(&mut self, name: &str, host: &Host) -> Result<()> {
        feed(&mut self.session, &self.fed, name, host)
    }

    /// The gradients of the step before, of each replica.
    pub fn read_gradients(&mut self) -> Result<Vec<Weights>> {
        let handles: Vec<Handle<f32>> = self.gradients.iter().map(|(_, h)| *h).collect();
        let values = self.session.read(handles)?;
        let mut all = Vec::new();
        for replica in 0..self.replicas {
            let tensors = self
                .gradients
                .iter()
                .zip(&values)
                .map(|((name, _), values)| {
                    let saved = self.saved.iter().find(|s| s.name == *name);
                    let extents = saved.map_or(&[][..], |s| &s.extents);
                    let part = values.replica(replica).unwrap_or_default().to_vec();
                    Ok((name.clone(), array(extents, part)?))
                });
            all.push(Weights::from_tensors(tensors.collect::<Result<Vec<_>>>()?));
        }
        Ok(all)
    }

    /// Draws the order of the epoch that the next step belongs to.
    pub fn shuffle(&mut self) -> Result<()> {
        match self.order {
            Some(order) => self.session.run(order, 1),
            None => Ok(()),
        }
    }

    pub fn run(&mut self, steps: u64) -> Result<()> {
        self.train.run(&mut self.session, steps)
    }

    /// What training over shards is made of.
    pub(super) fn over_shards(&self) -> Programs<'_> {
        Programs {
            shuffle: self.order,
            rows: self.rows,
            train: self.train,
            pairs: &self.pairs,
        }
    }

    /// Begins to measure about so many steps, taken by [`Training::run_measured`].
    pub fn measure(&mut self, steps: u64) -> Result<Runs> {
        self.session.measure(self.train.program(), steps)
    }

    pub fn run_measured(&mut self, runs: &mut Runs, steps: u64) -> Result<()> {
        self.train.pass(steps);
        self.session.run_measured(runs, steps)
    }

    /// Begins with these weights of each replica: the first step is the next one.
    pub fn begin(&mut self, weights: &[Weights]) -> Result<()> {
        self.set_each(weights)?;
        self.begin_drawn()
    }

    /// Begins with the weights that there are.
    pub fn begin_drawn(&mut self) -> Result<()> {
        self.session.fill(self.step, 0)?;
        self.train = self.train.from(0);
        self.clear_loss()?;
        self.session.run(self.init, 1)
    }

    /// Forgets the losses since they were asked last.
    pub fn clear_loss(&mut self) -> Result<()> {
        self.total.clear(&mut self.session)
    }

    /// The sum of the losses since it was asked last, of each replica.
    pub fn take_loss(&mut self) -> Result<Vec<f64>> {
        let sums = self.session.read(self.total.sums)?;
        self.clear_loss()?;
        Ok(self.total.of(&sums))
    }

    /// Evaluates some of the sets; with the losses since they were asked last, in one readback. Sets in
    /// shards come by their feeds.
    pub(super) fn evaluate(
        &mut self,
        sets: Range<usize>,
        feeds: &[Option<Feed<'_>>],
    ) -> Result<(Vec<f64>, Vec<Evaluated>)> {
        let feeds = &feeds[sets.clone()];
        let sets = &self.evaluations[sets];
        for (set, feed) in sets.iter().zip(feeds) {
            self.session.fill(set.counter, 0)?;
            for (_, sums, counts) in &set.terms {
                self.session.fill(*sums, 0.0)?;
                if let Some(counts) = counts {
                    self.session.fill(*counts, 0.0)?;
                }
            }
            for (_, totals) in &set.metrics {
                self.session.fill(*totals, 0.0)?;
            }
            match (feed, &set.shards) {
                (Some(feed), Some(shards)) => feed.evaluate(&mut self.session, shards)?,
                _ => self.session.run(set.program, set.runs)?,
            }
        }
        let totals = sets.iter().flat_map(|set| {
            let terms = set.terms.iter().flat_map(|(_, s, c)| [Some(*s), *c]);
            terms.flatten().chain(set.metrics.iter().map(|(_, t)| *t))
        });
        let handles: Vec<Handle<f32>> = totals.collect();
        let (losses, (guard, scale, totals)) = {
            let asked = (self.total.sums, (self.total.guard, self.scale, handles));
            self.session.read(asked)?
        };
        self.overflowed = match guard {
            // One more than the step's number, or 0.
            Some(guard) => guard
                .replicas()
                .map(|g| u64::from(g[0]).checked_sub(1))
                .collect(),
            None => vec![None; self.replicas],
        };
        self.skipped = scale.as_ref().map_or_else(Vec::new, skipped);
        self.total.clear(&mut self.session)?;
        let mut totals = totals.into_iter();
        // The next total, of each replica.
        let mut next = || -> Vec<Vec<f64>> {
            let wide = |part: &[f32]| part.iter().map(|&x| f64::from(x)).collect();
            let values = totals.next();
            values.map_or_else(Vec::new, |v| v.replicas().map(wide).collect())
        };
        let mut evaluated = Vec::new();
        for set in sets {
            // Of data in shards that is known only now.
            let nothing = || {
                let name = format!("{} data", set.set);
                Error::setting(name, "no label of a class that counts", LABELS_THAT_COUNT)
            };
            let mut results: Evaluated = vec![(0.0, vec![]); self.replicas];
            for (weight, _, counts) in &set.terms {
                let sums = next();
                let counts = counts.map(|_| next());
                for (replica, result) in results.iter_mut().enumerate() {
                    let rows = set.rows as f64;
                    let count = counts.as_ref().map_or(rows, |counts| counts[replica][0]);
                    if count == 0.0 {
                        return Err(nothing());
                    }
                    result.0 += weight * sums[replica][0] / count;
                }
            }
            for (metric, _) in &set.metrics {
                let totals = next();
                for (totals, result) in totals.iter().zip(&mut results) {
                    result.1.extend(metric.finish(totals, set.rows));
                }
            }
            evaluated.push(results);
        }
        Ok((self.total.of(&losses), evaluated))
    }

    /// The scale of each replica's next step, and how many steps it has skipped.
    pub fn read_scale(&mut self) -> Result<Vec<(f64, u64)>> {
        let scale = self.scale.ok_or_else(|| {
            let wanted = "an optimizer with one (`Optimizer::loss_scale`)";
            Error::setting("loss scale", "none", wanted)
        })?;
        Ok(self.session.read(scale)?.replicas().map(told).collect())
    }

    /// The learning rate of each replica, where rates may be set.
    pub fn rates(&self) -> Result<Vec<f64>> {
        let by_hand = self.by_hand.as_ref();
        by_hand.ok_or_else(|| none("learning rate"))?.rates()
    }

    /// Gives each replica a learning rate.
    pub fn set_rates(&mut self, rates: &[f64]) -> Result<()> {
        let by_hand = self.by_hand.as_mut().ok_or_else(|| none("learning rate"))?;
        by_hand.set_rates(&mut self.session, rates)
    }

    /// Where the model's weights and statistics stand, as they are trained.
    #[cfg(feature = "book")]
    pub fn weights_handles(&self) -> Vec<Handle<f32>> {
        self.saved.iter().map(|saved| saved.handle).collect()
    }

    /// The model's weights and statistics of each replica, as they are trained.
    pub fn weights(&mut self) -> Result<Vec<Weights>> {
        saved::read(&mut self.session, &self.saved)
    }

    /// The same as they are evaluated, averages where such are kept.
    pub fn evaluated(&mut self) -> Result<Vec<Weights>> {
        saved::read(&mut self.session, &self.evaluated)
    }

    /// Gives each replica a learning rate, and leaves those that have stopped as they are, where rates may be set.
    #[cfg(feature = "book")]
    pub fn set_rates_of(&mut self, rates: &[f64], stopped: &[bool]) -> Result<()> {
        let by_hand = self.by_hand.as_mut().ok_or_else(|| none("learning rate"))?;
        by_hand.set_rates_of(&mut self.session, rates, stopped)
    }

    /// Sets the number of the next training step.
    #[cfg(feature = "book")]
    pub fn begin_at(&mut self, step: u32) -> Result<()> {
        let mut counter = [0; crate::ops::COUNTER];
        counter[crate::ops::NEXT] = step;
        self.session.write_each(self.step, &counter)?;
        self.train = self.train.from(u64::from(step));
        Ok(())
    }

    /// Takes the weights into their mean over epochs, where one is kept.
    pub fn average(&mut self) -> Result<()> {
        match self.average {
            Some(average) => self.session.run(average, 1),
            None => Ok(()),
        }
    }

    /// Gives every replica these weights, from which averages begin.
    pub fn set_weights(&mut self, weights: &Weights) -> Result<()> {
        saved::write(&mut self.session, &self.saved, weights)?;
        match self.averages {
            true => saved::write(&mut self.session, &self.evaluated, weights),
            false => Ok(()),
        }
    }

    /// Each replica's weights, one after the other, likewise.
    pub fn set_each(&mut self, weights: &[Weights]) -> Result<()> {
        saved::write_each(&mut self.session, &self.saved, weights)?;
        match self.averages {
            true => saved::write_each(&mut self.session, &self.evaluated, weights),
            false => Ok(()),
        }
    }

    /// The checkpoint of a run in this state after so many epochs, with the weights that a callback has chosen: the step
    /// counter, weights and what the optimizer keeps, of all replicas, in one readback.
    pub(super) fn checkpoint(
        &mut self,
        epochs: usize,
        state: State,
        chosen: &Chosen,
    ) -> Result<Entry<State>> {
        let names = self.lasting();
        let handles: Vec<Handle<f32>> = names.iter().map(|(_, handle)| *handle).collect();
        let (step, values) = self.session.read((self.step, handles))?;
        let tensors = names.into_iter().zip(values).map(|((name, _), values)| {
            let values = values.into_vec();
            Ok((name, array(&[values.len()], values)?))
        });
        let mut tensors: Tensors = tensors.collect::<Result<_>>()?;
        let chosen = put_chosen(&mut tensors, chosen);
        Ok(Entry {
            epochs,
            state: State {
                step: step.into_vec(),
                chosen,
                ..state
            },
            tensors,
        })
    }

    /// Takes up what [`Training::checkpoint`] kept.
    pub fn restore(&mut self, step: &[u32], tensors: &[(String, ArrayD<f32>)]) -> Result<()> {
        for (name, handle) in self.lasting() {
            let found = tensors.iter().find(|(other, _)| *other == name);
            let values = found.and_then(|(_, tensor)| tensor.as_slice());
            let elements = self.session.elements(handle)?;
            match values {
                Some(values) if values.len() == elements => self.session.write(handle, values)?,
                other => {
                    let found = format!("{} numbers", other.map_or(0, <[f32]>::len));
                    let wanted = format!("the {elements} of all replicas");
                    return Err(Error::shape(format!("checkpoint, {name}"), found, wanted));
                }
            }
        }
        self.session.write(self.step, step)
    }

    /// The variables that a checkpoint keeps, by the names that it has for them.
    fn lasting(&self) -> Vec<(String, Handle<f32>)> {
        let weights = self.saved.iter();
        let weights = weights.map(|s| (format!("{WEIGHTS}{}", s.name), s.handle));
        let states = self.states.iter();
        let states = states.map(|(name, handle)| (format!("{STATES}{name}"), *handle));
        weights.chain(states).collect()
    }

    /// What the optimizer keeps, by name, of all replicas.
    pub fn states(&mut self) -> Result<Vec<(String, Vec<f32>)>> {
        let handles: Vec<Handle<f32>> = self.states.iter().map(|(_, h)| *h).collect();
        let values = self.session.read(handles)?;
        let names = self.states.iter().map(|(name, _)| name.clone());
        Ok(names
            .zip(values.into_iter().map(|v| v.into_vec()))
            .collect())
    }
}

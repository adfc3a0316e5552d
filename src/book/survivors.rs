//! All seeds of a run at once, and what is left of them where some do not train.
//!
//! Replicas share a plan, so an overflow of one ends the others' run too. They lose nothing:
//! a replica is bit for bit the network trained alone, so those before and those behind the
//! lost one are trained again in plans of their own.

use std::ops::Range;

use super::options::{Options, Progress, Tell};
use super::picks::Finished;
use super::{Experiment, Run};
use crate::book::train::{Epoch, Evaluation, Model, Origin, Outcome, Settings, Trainer};
use crate::data::Split;
use crate::error::{Error, Result};

/// Checkpoints kept of a long run.
const CHECKPOINTS: usize = 2;
/// The chapter whose runs are long enough to be worth resuming.
const LONG: u32 = 6;

/// What became of a run's replicas.
pub(super) struct Trained {
    /// Those that finished, in their order; `None` if none did.
    pub finished: Option<Finished>,
    /// Their places among all replicas.
    pub places: Vec<usize>,
    /// Those whose cost overflowed: place and error.
    pub lost: Vec<(usize, Error)>,
    /// What the record should say of how it was run.
    pub notes: Vec<String>,
}

/// Trains all replicas of `settings`; a replica whose cost overflows is a result.
pub(super) fn train(
    experiment: &Experiment,
    run: &Run,
    data: &Split,
    settings: &Settings,
    options: &Options<'_>,
    tell: Tell<'_>,
) -> Result<Trained> {
    let (mut parts, mut places, mut lost, mut notes) = (vec![], vec![], vec![], vec![]);
    // What is still to be trained, the next one last.
    let mut groups: Vec<Range<usize>> = std::iter::once(0..settings.replicas).collect();
    while let Some(group) = groups.pop() {
        let own = part(settings, &group);
        match together(experiment, run, data, &own, options, tell, &mut notes) {
            Ok(finished) => {
                parts.push(finished);
                places.extend(group);
            }
            Err(Error::NotFinite {
                place,
                step,
                replica,
                fix,
            }) => {
                let replica = group.start + replica;
                groups.extend([replica + 1..group.end, group.start..replica]);
                groups.retain(|g| !g.is_empty());
                let error = Error::NotFinite {
                    place,
                    step,
                    replica,
                    fix,
                };
                lost.push((replica, error));
            }
            Err(e) => return Err(e),
        }
    }
    lost.sort_by_key(|(replica, _)| *replica);
    Ok(Trained {
        finished: merged(parts),
        places,
        lost,
        notes,
    })
}

/// The settings of some of the replicas.
fn part(settings: &Settings, group: &Range<usize>) -> Settings {
    let rates = settings.replica_rates.get(group.clone());
    Settings {
        replicas: group.len(),
        first_replica: settings.first_replica + group.start,
        replica_rates: rates.map_or(vec![], <[f64]>::to_vec),
        ..settings.clone()
    }
}

/// Trains replicas in one plan.
fn together(
    experiment: &Experiment,
    run: &Run,
    data: &Split,
    settings: &Settings,
    options: &Options<'_>,
    tell: Tell<'_>,
    notes: &mut Vec<String>,
) -> Result<Finished> {
    let input = [1, data.train.height, data.train.width];
    let network = run.network(input)?;
    let mut trainer = Trainer::new(&network, data, settings, options.device)?;
    if experiment.chapter == LONG {
        let folder = options.folder.join("checkpoints");
        trainer.keep_checkpoints_among(&folder, CHECKPOINTS)?;
        let done = trainer.resume()?;
        notes.extend(went_on(super::rows::shown(run), done, trainer.origins()));
    }
    let outcome = trainer.run(&mut |event| {
        tell(&Progress {
            run: &run.name,
            event,
        });
    })?;
    Ok(Finished {
        outcome,
        model: trainer.model()?,
        standings: trainer.standings(),
    })
}

/// What to say where an earlier run was gone on with; other versions and devices than this
/// one's are named, since they need not give the same bits.
pub(super) fn went_on(what: &str, done: usize, origins: &[Origin]) -> Option<String> {
    if done == 0 {
        return None;
    }
    let (here, earlier) = origins.split_last()?;
    let others: Vec<String> = (earlier.iter())
        .filter(|origin| *origin != here)
        .map(|origin| format!("wgrad {} on {}", origin.version, origin.device))
        .collect();
    let by = match others.is_empty() {
        true => String::new(),
        false => format!(
            " (by {}; its bits need not be ours)",
            others.join(", then ")
        ),
    };
    Some(format!(
        "{what}: went on after epoch {done} of an earlier run{by}; the seconds are those of this one."
    ))
}

/// Runs of the same number of epochs, or fewer where replicas stopped, as one.
fn merged(mut parts: Vec<Finished>) -> Option<Finished> {
    if parts.len() < 2 {
        return parts.pop();
    }
    let longest = parts.iter().map(|p| p.outcome.epochs.len()).max()?;
    // Replicas that have stopped stay as they are, in one plan and in several.
    let epoch = |k: usize| {
        let each = parts.iter().filter_map(|p| {
            let epochs = &p.outcome.epochs;
            epochs.get(k).or(epochs.last())
        });
        let each: Vec<&Epoch> = each.collect();
        let all = |of: fn(&Epoch) -> &[f64]| each.iter().copied().flat_map(of).copied().collect();
        Epoch {
            epoch: k + 1,
            training_cost: all(|e| &e.training_cost),
            training_accuracy: all(|e| &e.training_accuracy),
            validation_accuracy: all(|e| &e.validation_accuracy),
            test_accuracy: all(|e| &e.test_accuracy),
            validation_cost: all(|e| &e.validation_cost),
            test_cost: all(|e| &e.test_cost),
            set_cost: all(|e| &e.set_cost),
            set_accuracy: all(|e| &e.set_accuracy),
            penalty: all(|e| &e.penalty),
            seconds: each
                .iter()
                .filter(|e| e.epoch == k + 1)
                .map(|e| e.seconds)
                .sum(),
        }
    };
    let epochs = (0..longest).map(epoch).collect();
    let network = parts.first()?.model.network.clone();
    let mut all = Finished {
        outcome: Outcome {
            epochs,
            test: Evaluation {
                cost: vec![],
                accuracy: vec![],
                predictions: vec![],
            },
            // Plans that ran one after another have no rate in common.
            steps_per_second: f64::NAN,
            seconds: parts.iter().map(|p| p.outcome.seconds).sum(),
        },
        model: Model {
            network,
            replicas: vec![],
        },
        standings: vec![],
    };
    for part in parts {
        let test = part.outcome.test;
        all.outcome.test.cost.extend(test.cost);
        all.outcome.test.accuracy.extend(test.accuracy);
        all.outcome.test.predictions.extend(test.predictions);
        all.model.replicas.extend(part.model.replicas);
        all.standings.extend(part.standings);
    }
    Some(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_version_or_device_is_named() {
        let origin = |version: &str, device: &str| Origin {
            version: version.into(),
            device: device.into(),
        };
        let (old, gpu, cpu) = (
            origin("0.0.9", "a GPU"),
            origin("0.1.0", "a GPU"),
            origin("0.1.0", "the CPU"),
        );
        let note = |done, origins: &[Origin]| went_on("Seed 3", done, origins);
        assert_eq!(note(0, std::slice::from_ref(&cpu)), None);
        let plain = "Seed 3: went on after epoch 2 of an earlier run; the seconds are those of \
                     this one.";
        assert_eq!(note(2, std::slice::from_ref(&cpu)).unwrap(), plain);
        let other = note(2, &[old, gpu, cpu]).unwrap();
        let by = "(by wgrad 0.0.9 on a GPU, then wgrad 0.1.0 on a GPU; its bits need not be ours)";
        assert!(other.contains(by), "{other}");
    }
}

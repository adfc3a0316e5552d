//! Which variant of a launch is fastest of those that are right: held to the reference and measured once for
//! each adapter, driver, kernel text, constants and grid, on buffers of the right sizes that belong to nobody.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::exec::Cache;
use crate::exec::cache::digits;
use crate::plan::{Buffer, Launch, Plan, Role};

/// Another variant than the one that suits the device must take at most this share of its
/// time: what is within the noise would be decided by it.
const WORTH: f64 = 0.97;

/// What was found of a variant.
#[derive(Debug)]
pub(super) enum Trial {
    /// It computes what the reference does, in so many seconds.
    Right(f64),
    /// It computes something else, and must not be taken.
    Wrong(Error),
}

impl Trial {
    fn seconds(&self) -> Option<f64> {
        match self {
            Self::Right(seconds) => Some(*seconds),
            Self::Wrong(_) => None,
        }
    }
}

/// What was measured for a launch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Measured {
    /// The variant to go.
    variant: usize,
    /// What each variant took; none of one that was wrong, and was not timed.
    microseconds: Vec<Option<f64>>,
    /// What the wrong ones computed, and what the reference does.
    wrong: Vec<String>,
}

/// By everything that a launch's time depends on.
type Table = BTreeMap<String, Measured>;

/// What was measured on a device so far, shared by its copies.
#[derive(Clone, Debug, Default)]
pub(super) struct Tuning(Arc<Mutex<Option<Table>>>);

impl Tuning {
    /// The plan with each launch done in its fastest variant, and a number for the variants that
    /// were chosen, where there was a choice. `suiting` is the variant that is taken where
    /// measuring makes no difference; `measure` gets a plan with a program for each variant
    /// (`"0"`, `"1"`, …) and returns what it finds of each, or nothing where none could be held to the
    /// reference: then none may win.
    ///
    /// # Errors
    /// What `measure` says; [`Error::Disagrees`] where every variant is wrong.
    pub(super) fn choose(
        &self,
        plan: Plan,
        (cache, identity): (&Cache, &str),
        suiting: impl Fn(&Launch) -> usize,
        measure: &mut dyn FnMut(Plan) -> Result<Option<Vec<Trial>>>,
    ) -> Result<(Plan, Option<String>)> {
        let mut table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let name = format!("tuning-{}", digits(identity));
        let table = table.get_or_insert_with(|| {
            let stored = cache.load(&name, identity);
            let parsed = stored.and_then(|bytes| serde_json::from_slice(&bytes).ok());
            parsed.unwrap_or_default()
        });
        let before = table.len();
        let mut chosen = String::new();
        let mut variants = BTreeMap::new();
        let open = plan
            .programs
            .values()
            .flatten()
            .filter(|l| l.variants() > 1);
        for launch in open {
            let key = describe(&plan, launch);
            if !table.contains_key(&key) {
                let suiting = suiting(launch);
                let trials = measure(trial(&plan, launch))?;
                if trials.is_none() {
                    tracing::debug!("{}: too long for the reference to be tuned", launch.label);
                }
                let measured = judged(launch, trials.unwrap_or_default(), suiting)?;
                table.insert(key.clone(), measured);
            }
            let variant = table[&key].variant;
            chosen += &format!("{key}\n{variant}\n");
            variants.insert(key, variant);
        }
        if table.len() > before
            && let Ok(json) = serde_json::to_vec_pretty(table)
        {
            cache.store(&name, identity, &json);
        }
        let original = plan.clone();
        let plan = plan.choose(|launch| match launch.variants() {
            1 => 0,
            _ => variants[&describe(&original, launch)],
        });
        Ok((plan, (!variants.is_empty()).then(|| digits(&chosen))))
    }
}

/// Everything that a launch's time depends on.
fn describe(plan: &Plan, launch: &Launch) -> String {
    let variants = (0..launch.variants()).map(|variant| {
        let launch = launch.done(variant);
        let constants = launch.constants.iter().map(|(n, v)| format!(" {n}={v}"));
        let [x, y, z] = launch.grid;
        format!(
            "{} {}{} grid {x} {y} {z}",
            launch.kernel.name,
            digits(launch.kernel.source),
            constants.collect::<String>(),
        )
    });
    let bindings = launch.bindings.iter().map(|b| {
        let shared = if plan.buffers[b.buffer].shared {
            " shared"
        } else {
            ""
        };
        // Which bindings are one buffer.
        let first = launch.bindings.iter().position(|o| o.buffer == b.buffer);
        format!("{}: {}{shared}", first.unwrap_or(0), b.elements)
    });
    let list = |parts: Vec<String>| parts.join("; ");
    format!(
        "{} | {}",
        list(variants.collect()),
        list(bindings.collect())
    )
}

/// A plan that has nothing but the launch, with a program for each of its variants.
fn trial(plan: &Plan, launch: &Launch) -> Plan {
    let mut buffers: Vec<Buffer> = Vec::new();
    let mut places: BTreeMap<usize, usize> = BTreeMap::new();
    let mut launch = launch.clone();
    for binding in &mut launch.bindings {
        let place = *places.entry(binding.buffer).or_insert(buffers.len());
        match buffers.get_mut(place) {
            Some(buffer) => buffer.elements = buffer.elements.max(binding.elements),
            None => buffers.push(Buffer {
                name: format!("scratch {place}"),
                elements: binding.elements,
                role: Role::State,
                ..plan.buffers[binding.buffer].clone()
            }),
        }
        binding.buffer = place;
    }
    Plan {
        replicas: plan.replicas,
        buffers,
        programs: (0..launch.variants())
            .map(|variant| (variant.to_string(), vec![launch.done(variant)]))
            .collect(),
    }
}

/// What is remembered of a launch's trials.
fn judged(launch: &Launch, trials: Vec<Trial>, suiting: usize) -> Result<Measured> {
    let seconds: Vec<_> = trials.iter().map(Trial::seconds).collect();
    let variant = match fastest(&seconds, suiting) {
        Some(variant) => variant,
        None if trials.is_empty() => suiting,
        None => {
            let mut errors = trials.into_iter();
            let first = errors.find_map(|trial| match trial {
                Trial::Wrong(e) => Some(e),
                Trial::Right(_) => None,
            });
            return first.map_or_else(|| judged(launch, vec![], suiting), Err);
        }
    };
    tracing::debug!("{}: variant {variant} of {seconds:?}", launch.label);
    let mut wrong = Vec::new();
    for trial in &trials {
        if let Trial::Wrong(e) = trial {
            tracing::warn!("a variant is left out: {e}");
            wrong.push(e.to_string());
        }
    }
    let microseconds = seconds.iter().map(|s| s.map(|s| s * 1e6)).collect();
    Ok(Measured {
        variant,
        microseconds,
        wrong,
    })
}

/// The variant that takes least of those that are right; `suiting`, if it is, unless another is worth it.
fn fastest(seconds: &[Option<f64>], suiting: usize) -> Option<usize> {
    let right = seconds.iter().enumerate();
    let right = right.filter_map(|(variant, seconds)| Some((variant, (*seconds)?)));
    let (least, time) = right.min_by(|(_, a), (_, b)| a.total_cmp(b))?;
    match seconds.get(suiting) {
        Some(Some(usual)) if time > WORTH * usual => Some(suiting),
        _ => Some(least),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::harness::plan_of;
    use crate::kernel::{Kernel, Target};
    use crate::ops::TABLE;
    use crate::plan::Alternative;

    /// The first kernel of an op.
    fn case(stem: &str) -> Plan {
        let row = TABLE.iter().find(|row| row.stem == stem).unwrap();
        plan_of(&(row.cases)()[0], 2).unwrap()
    }

    fn kernel(plan: &Plan) -> &'static Kernel {
        plan.programs["run"][0].kernel
    }

    /// A sum by `add`, which `other` claims to do as well.
    fn plan() -> Plan {
        let mut plan = case("add");
        let named = |name| -> &'static Kernel {
            Box::leak(Box::new(Kernel {
                name,
                ..*kernel(&case("add"))
            }))
        };
        let other = named("other");
        let launch = &mut plan.programs.get_mut("run").unwrap()[0];
        launch.kernel = named("add");
        launch.alternatives.push(Alternative {
            kernel: other,
            target: Target::Processor,
            constants: launch.constants.clone(),
            grid: launch.grid,
        });
        plan
    }

    /// The chosen kernel, the variants' number, how often was measured.
    fn chosen(
        tuning: &Tuning,
        plan: Plan,
        files: (&Cache, &str),
        seconds: [f64; 2],
    ) -> (&'static str, Option<String>, usize) {
        let mut count = 0;
        let mut measure = |trial: Plan| {
            trial.check(&crate::plan::Limits::default()).unwrap();
            let variants: Vec<_> = trial.programs.values().map(|l| l[0].kernel.name).collect();
            assert_eq!(variants, ["add", "other"]);
            count += 1;
            Ok(Some(seconds.map(Trial::Right).into()))
        };
        let (plan, variants) = tuning.choose(plan, files, |_| 0, &mut measure).unwrap();
        assert_eq!(plan.programs["run"][0].variants(), 1);
        (kernel(&plan).name, variants, count)
    }

    #[test]
    fn the_fastest_way_is_taken_and_remembered() {
        let off = (&Cache::off(), "device");
        let tuning = Tuning::default();
        let (name, variants, count) = chosen(&tuning, plan(), off, [2.0, 1.0]);
        assert_eq!((name, count), ("other", 1));
        // The answer stays, whatever a second measurement would say.
        assert_eq!(
            chosen(&tuning, plan(), off, [1.0, 2.0]),
            ("other", variants.clone(), 0)
        );
        // Another size is another launch.
        let mut larger = plan();
        larger.programs.get_mut("run").unwrap()[0].grid[0] += 1;
        let (name, other, count) = chosen(&tuning, larger, off, [1.0, 2.0]);
        assert_eq!((name, count), ("add", 1));
        assert!(variants.is_some() && other.is_some() && variants != other);
        // The same launch done otherwise has another number.
        let (_, slower, _) = chosen(&Tuning::default(), plan(), off, [1.0, 2.0]);
        assert_ne!(slower, variants);
    }

    #[test]
    fn what_has_one_way_is_not_measured() {
        let never = &mut |_| unreachable!("nothing to measure");
        let (_, variants) = Tuning::default()
            .choose(case("add"), (&Cache::off(), "device"), |_| 0, never)
            .unwrap();
        assert_eq!(variants, None);
    }

    #[test]
    fn a_difference_within_the_noise_changes_nothing() {
        let of = |seconds: &[f64], suiting| {
            let seconds: Vec<_> = seconds.iter().copied().map(Some).collect();
            fastest(&seconds, suiting).unwrap()
        };
        assert_eq!(of(&[1.0, 0.99], 0), 0);
        assert_eq!(of(&[1.0, 0.9], 0), 1);
        assert_eq!(of(&[0.99, 1.0], 1), 1);
        assert_eq!(of(&[0.9, 1.0], 1), 0);
        assert_eq!(of(&[3.0, 2.0, 1.0], 0), 2);
    }

    #[test]
    fn what_is_wrong_is_not_taken() {
        assert_eq!(fastest(&[None, Some(2.0), Some(1.99)], 0), Some(2));
        assert_eq!(fastest(&[Some(9.0), None], 1), Some(0));
        assert_eq!(fastest(&[None, None], 0), None);
        let off = (&Cache::off(), "device");
        let error = || Error::Disagrees {
            launch: "sum".into(),
            kernel: "add",
            found: "c[0] = 1".into(),
            wanted: "2".into(),
        };
        let choose = |trials: &mut dyn FnMut() -> Option<Vec<Trial>>| {
            let mut measure = |_: Plan| Ok(trials());
            let chosen = Tuning::default().choose(plan(), off, |_| 0, &mut measure);
            chosen.map(|(plan, _)| kernel(&plan).name)
        };
        // However slow what is right.
        let mut trials = || Some(vec![Trial::Right(9.0), Trial::Wrong(error())]);
        assert_eq!(choose(&mut trials).unwrap(), "add");
        let mut trials = || Some(vec![Trial::Wrong(error()), Trial::Right(9.0)]);
        assert_eq!(choose(&mut trials).unwrap(), "other");
        // Nothing was asked, and nothing wins.
        assert_eq!(choose(&mut || None).unwrap(), "add");
        let mut trials = || Some(vec![Trial::Wrong(error()), Trial::Wrong(error())]);
        let said = choose(&mut trials).unwrap_err().to_string();
        assert!(said.contains("sum") && said.contains("c[0] = 1"), "{said}");
    }

    #[test]
    fn the_cache_answers_for_its_device_alone() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::at(folder.path());
        let fresh = |identity, seconds| {
            let (name, _, count) = chosen(&Tuning::default(), plan(), (&cache, identity), seconds);
            (name, count)
        };
        assert_eq!(fresh("device", [2.0, 1.0]), ("other", 1));
        assert_eq!(fresh("device", [1.0, 2.0]), ("other", 0));
        assert_eq!(fresh("another", [1.0, 2.0]), ("add", 1));
        assert_eq!(fresh("device", [1.0, 2.0]), ("other", 0));
        let path = folder.path().join(format!("tuning-{}", digits("device")));
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, text.replace("\"variant\": 1", "\"variant\": 7")).unwrap();
        assert_eq!(fresh("device", [1.0, 2.0]), ("add", 1), "a damaged file");
    }

    #[test]
    fn a_trial_has_buffers_of_its_own() {
        let mut source = plan();
        let launch = &mut source.programs.get_mut("run").unwrap()[0];
        // `add` of a buffer and itself.
        launch.bindings[1] = launch.bindings[0];
        let launch = launch.clone();
        let trial = trial(&source, &launch);
        let at: Vec<_> = trial.programs["1"][0]
            .bindings
            .iter()
            .map(|b| b.buffer)
            .collect();
        assert_eq!(at, [0, 0, 1]);
        assert!(trial.buffers.iter().all(|b| b.role == Role::State));
    }
}

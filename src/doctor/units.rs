//! Adapters whose matrix units compute something else than the reference are refused by name.

use std::collections::{BTreeMap, BTreeSet};

use super::harness::{Prepared, in_f16, inputs};
use super::tolerance::{Side, allowed};
use super::{compare, truth};
use crate::error::{Error, Result};
use crate::exec::{Choice, Device, Executor};
use crate::ops::TABLE;
use crate::plan::Plan;

/// Cases of each kernel: all transposes of a product.
const CASES: usize = 8;

/// [`Device::open_mixed`], unless its matrix units fail: each kernel by them is held to the reference at some sizes, as
/// [`examine`](super::examine) does it with all, which takes about a second on a GPU.
///
/// # Errors
/// As [`Device::open_mixed`]; [`Error::Adapter`] for an adapter that computes something else, with what it was.
pub fn open_mixed(choice: Choice) -> Result<Device> {
    let device = Device::open_mixed(choice)?;
    hold(
        &device.info().name,
        &mut |plan| device.variants(plan),
        &mut |plan| device.executor(plan),
    )?;
    Ok(device)
}

/// Holds kernels by matrix units to the reference: `variants` of a plan on executors that `make` makes.
fn hold(
    adapter: &str,
    variants: &mut dyn FnMut(Plan) -> Vec<Plan>,
    make: &mut dyn FnMut(Plan) -> Result<Box<dyn Executor>>,
) -> Result<()> {
    let by_units = |plan: &Plan| -> BTreeSet<&'static str> {
        let launches = plan.programs.values().flatten();
        let rounding = launches.filter(|launch| !launch.kernel.factors_in_f16().is_empty());
        rounding.map(|launch| launch.kernel.name).collect()
    };
    let mut held: BTreeMap<&str, usize> = BTreeMap::new();
    let rows = TABLE.iter().filter(|row| {
        let mut kernels = row.kernels.iter();
        kernels.any(|kernel| !kernel.factors_in_f16().is_empty())
    });
    for row in rows {
        for case in (row.cases)() {
            let prepared = Prepared::new(&case, 1)?;
            let mut given = None;
            for plan in variants(prepared.plan().clone()) {
                let kernels = by_units(&plan);
                let counts = |name: &&str| held.get(*name).copied().unwrap_or(0);
                if kernels.iter().all(|name| counts(name) >= CASES) {
                    continue;
                }
                for name in kernels {
                    *held.entry(name).or_default() += 1;
                }
                let (inputs, wanted) = match &given {
                    Some(given) => given,
                    None => {
                        let halves: Vec<_> = inputs(&case, 1).iter().map(in_f16).collect();
                        let wanted = truth(&prepared, &halves)?;
                        given.insert((halves, wanted))
                    }
                };
                let found = prepared.run(&mut prepared.session(make(plan)?)?, inputs)?;
                let compared = compare(&case, &found, wanted, allowed(&case, Side::Gpu));
                if let Some(failure) = compared.failure {
                    return Err(Error::Adapter {
                        found: format!("{adapter}, whose matrix units fail: {failure}"),
                        wanted: "products as the reference has them".into(),
                        fix: "Choose another adapter, or train without mixed precision; another driver may be right."
                            .into(),
                    });
                }
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exec::cpu::{Cpu, Implementation};
    use crate::kernel::{Args, Kernel};

    /// A unit that always says the same.
    fn wrong(a: &mut Args<'_, f32>) {
        let binding = a.slots.len() - 1;
        a.f_mut(binding).fill(0.25);
    }

    /// As if the CPU had units, of which one kernel may be wrong.
    fn of_cpu(broken: &str) -> (Result<()>, BTreeSet<String>) {
        let mut seen = BTreeSet::new();
        let held = hold(
            "an adapter",
            &mut |plan| {
                let launches = plan.programs.values().flatten();
                let most = launches.map(|launch| launch.variants()).max().unwrap_or(1);
                (0..most)
                    .map(|variant| plan.clone().choose(|_| variant))
                    .collect()
            },
            &mut |mut plan| {
                for launch in plan.programs.values_mut().flatten() {
                    seen.insert(launch.kernel.name.to_string());
                    if launch.kernel.name == broken {
                        launch.kernel = Box::leak(Box::new(Kernel {
                            optimized: Some(wrong),
                            ..*launch.kernel
                        }));
                    }
                }
                Ok(Box::new(Cpu::<f32>::new(plan, Implementation::Optimized)?))
            },
        );
        (held, seen)
    }

    #[test]
    fn units_that_fail_are_refused_by_name() {
        let (sound, seen) = of_cpu("");
        sound.unwrap();
        for kernel in ["matmul_fragments16", "matmul_parts_fragments8"] {
            assert!(seen.contains(kernel), "{seen:?}");
            let told = of_cpu(kernel).0.unwrap_err().to_string();
            let named = told.contains("an adapter, whose matrix units fail");
            assert!(named && told.contains("output 0[0]"), "{told}");
        }
        // What the units do not do is not theirs.
        of_cpu("matmul_block").0.unwrap();
    }
}

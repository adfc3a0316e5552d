//! The sentinel: one launch of a running plan, computed again by the reference.
//!
//! Everything before the launch runs as usual; its inputs are read back, it runs, its
//! outputs are read back, and the reference computes in f64, from the same inputs, what
//! they should be. The run's own results do not change by it.

use half::f16;

use super::Executor;
use super::tolerance::{Side, allowed};
use crate::error::{Error, Result};
use crate::kernel::{Access, Args, Bind, Slot, Tolerance};
use crate::plan::{Binding, Launch};
use crate::shape::DType;
use crate::tensor::Host;

/// Numbers from which squares and products are beyond f32: what a device makes of them the reference, in f64, does not say.
const BEYOND: f32 = 1e18;

/// What the reference has for a binding of one replica.
enum Store {
    F(Vec<f64>),
    U(Vec<u32>),
}

/// Runs a program once and holds its launch number `index` against the reference, but for replicas whose numbers are so large
/// that a device in f32 loses them: such a run diverges, and the device is right.
///
/// # Errors
/// [`Error::Disagrees`] naming the launch, [`Error::Setting`] for a launch the program
/// lacks, and what the device says.
pub fn run_verified(executor: &mut dyn Executor, program: &str, index: usize) -> Result<()> {
    let launches = super::program(executor.plan(), program)?;
    let count = launches.len();
    let Some(launch) = launches.get(index).cloned() else {
        return Err(Error::setting("launch", index, format!("below {count}")));
    };
    let side = if executor.device().cpu {
        Side::Cpu
    } else {
        Side::Gpu
    };
    executor.run_part(program, 0..index)?;
    let before = before(executor, &launch)?;
    executor.run_part(program, index..index + 1)?;
    let after = executor.read_bindings(&launch.bindings)?;
    executor.run_part(program, index + 1..count)?;
    let copies = launch.grid[2] as usize;
    for replica in 0..copies {
        let large = |(i, host): (usize, &Host)| match host {
            Host::F32(v) => {
                let mut own = part(&launch, i, v, replica).iter();
                own.any(|x| x.is_finite() && x.abs() > BEYOND)
            }
            Host::U32(_) => false,
        };
        if before.iter().enumerate().any(large) {
            continue;
        }
        let of_stem = by_stem(&launch, side);
        let wanted = reference(&launch, &before, replica, (side, of_stem));
        let wanted = wanted.map_err(|found| launch.panicked(index, &found))?;
        compare(&launch, &before, &after, &wanted, replica, of_stem)?;
    }
    Ok(())
}

/// What stands at the bindings before the launch; garbage where it only writes, and nobody may have written yet.
fn before(executor: &mut dyn Executor, launch: &Launch) -> Result<Vec<Host>> {
    let bindings = || launch.bindings.iter().zip(launch.kernel.bindings);
    let read = bindings().filter(|(_, bind)| bind.access != Access::Write);
    let read: Vec<Binding> = read.map(|(binding, _)| *binding).collect();
    let mut read = match read.is_empty() {
        true => vec![],
        false => executor.read_bindings(&read)?,
    }
    .into_iter();
    let copies = launch.grid[2] as usize;
    let of = |(binding, bind): (&Binding, &Bind)| match (bind.access, bind.dtype) {
        (Access::Write, DType::F32) => Some(Host::F32(vec![f32::NAN; binding.elements * copies])),
        (Access::Write, DType::U32) => Some(Host::U32(vec![u32::MAX; binding.elements * copies])),
        _ => read.next(),
    };
    Ok(bindings().filter_map(of).collect())
}

/// One replica's part of what stands at binding `i`.
fn part<'a, T>(launch: &Launch, i: usize, values: &'a [T], replica: usize) -> &'a [T] {
    let n = launch.bindings[i].elements;
    let at = if launch.kernel.bindings[i].shared {
        0
    } else {
        replica * n
    };
    &values[at..at + n]
}

/// What the reference says of one replica.
struct Wanted {
    /// All bindings after it has run.
    stores: Vec<Store>,
    /// What results may be off by, where the kernel itself says it.
    tolerance: Option<Tolerance>,
}

/// What the launch's results may be off by over its largest number, by its kernel's stem.
fn by_stem(launch: &Launch, side: Side) -> f64 {
    let bindings = launch.kernel.bindings.iter().zip(&launch.bindings);
    let written = bindings.filter(|(bind, _)| bind.access != Access::Read);
    let outputs: usize = written.map(|(_, binding)| binding.elements).sum();
    let copies = u64::from(launch.grid[2]);
    // Operations per output: at least as many as terms.
    let terms = (launch.flops / copies).div_ceil(outputs.max(1) as u64) as usize;
    // `ACTIVATION` 2 is tanh.
    let tanh = launch.constants.contains(&("ACTIVATION", 2.0));
    allowed(launch.kernel.stem, terms, tanh, side)
}

fn reference(
    launch: &Launch,
    before: &[Host],
    replica: usize,
    (side, of_stem): (Side, f64),
) -> std::result::Result<Wanted, String> {
    let factors_in_f16 = launch.kernel.factors_in_f16();
    let mut stores: Vec<Store> = before
        .iter()
        .enumerate()
        .map(|(i, host)| {
            // What is only written must not be read: garbage shows if it is.
            let garbage = launch.kernel.bindings[i].access == Access::Write;
            let in_f16 = factors_in_f16.contains(&i);
            match host {
                Host::F32(v) => {
                    let wide = |&x: &f32| match (garbage, in_f16) {
                        (true, _) => f64::NAN,
                        (_, true) => f64::from(f16::from_f32(x)),
                        _ => f64::from(x),
                    };
                    Store::F(part(launch, i, v, replica).iter().map(wide).collect())
                }
                Host::U32(v) => {
                    let word = |&x: &u32| if garbage { u32::MAX } else { x };
                    Store::U(part(launch, i, v, replica).iter().map(word).collect())
                }
            }
        })
        .collect();
    let slots = stores
        .iter_mut()
        .zip(launch.kernel.bindings)
        .map(|(store, bind)| match (store, bind.access) {
            (Store::F(v), Access::Read) => Slot::F(v),
            (Store::F(v), _) => Slot::FMut(v),
            (Store::U(v), Access::Read) => Slot::U(v),
            (Store::U(v), _) => Slot::UMut(v),
        });
    let mut args = Args {
        constants: &launch.constants,
        slots: slots.collect(),
    };
    let kernel = launch.kernel;
    let tolerance = kernel.guarded(|| kernel.reference.tolerance(&args, side, of_stem))?;
    kernel.guarded(|| kernel.reference.f64(&mut args))?;
    drop(args);
    Ok(Wanted { stores, tolerance })
}

fn compare(
    launch: &Launch,
    before: &[Host],
    after: &[Host],
    wanted: &Wanted,
    replica: usize,
    of_stem: f64,
) -> Result<()> {
    let largest = |hosts: &[Host]| {
        let floats = hosts.iter().enumerate().filter_map(|(i, h)| match h {
            Host::F32(v) => Some(part(launch, i, v, replica)),
            Host::U32(_) => None,
        });
        let finite = floats.flatten().filter(|x| x.is_finite());
        finite.fold(0.0f64, |m, x| m.max(f64::from(x.abs())))
    };
    let written = |i: usize| launch.kernel.bindings[i].access != Access::Read;
    let scale = largest(before).max(largest(after)).max(f64::MIN_POSITIVE);
    let by_stem = || Tolerance {
        off: scale * of_stem,
        unknown: vec![],
    };
    let own = wanted.tolerance.clone().unwrap_or_else(by_stem);
    let tolerance = own.off;
    let wanted = &wanted.stores;
    let disagree = |i: usize, e: usize, found: String, wanted: String| Error::Disagrees {
        launch: launch.label.clone(),
        kernel: launch.kernel.name,
        found: format!(
            "{}[{e}] = {found} in replica {replica}",
            launch.kernel.bindings[i].name
        ),
        wanted,
    };
    for i in (0..after.len()).filter(|&i| written(i)) {
        match (&after[i], &wanted[i]) {
            (Host::F32(f), Store::F(w)) => {
                for (e, (&f, &w)) in part(launch, i, f, replica).iter().zip(w).enumerate() {
                    let both_lost = !f.is_finite() && !(w as f32).is_finite();
                    // A difference that is not a number is a disagreement too.
                    let near = (f64::from(f) - w).abs() <= tolerance;
                    if !both_lost && !near && !own.pardons(e) {
                        return Err(disagree(
                            i,
                            e,
                            f.to_string(),
                            format!("{w} ± {tolerance:e}"),
                        ));
                    }
                }
            }
            (Host::U32(f), Store::U(w)) => {
                let f = part(launch, i, f, replica);
                if let Some(e) = f.iter().zip(w).position(|(f, w)| f != w) {
                    return Err(disagree(i, e, f[e].to_string(), w[e].to_string()));
                }
            }
            _ => {
                return Err(disagree(
                    i,
                    0,
                    "another element type".into(),
                    "the plan's".into(),
                ));
            }
        }
    }
    Ok(())
}

//! The tolerance of a case; the derivation is [`crate::exec::tolerance`], or the error bounds of
//! the expression that a kernel was made from.

use super::harness::{inputs, plan_of};
pub use crate::exec::tolerance::{FUNCTIONS, Functions, Side};
use crate::kernel::{Access, Args, Slot};
use crate::ops::Case;
use crate::plan::{Launch, Plan};
use crate::shape::DType;
use crate::tensor::Host;

/// What a case's results may be off by, over the largest number that enters or leaves it.
pub fn allowed(case: &Case, side: Side) -> f64 {
    let tanh = format!("{:?}", case.op).contains("Tanh");
    let of_stem = crate::exec::tolerance::allowed(case.op.name(), case.terms, tanh, side);
    of_expression(case, side, of_stem).unwrap_or(of_stem)
}

/// The same of a case whose launch was made from an expression; its core, where it has one, may be
/// off by `core`.
fn of_expression(case: &Case, side: Side, core: f64) -> Option<f64> {
    let plan = plan_of(case, 1).ok()?;
    let [launch] = &plan.programs.get("run")?[..] else {
        return None;
    };
    // Whoever compares has three replicas at most.
    let all =
        (0..3).map(|replica| of_replica(&plan, launch, &inputs(case, 3), replica, (side, core)));
    let all = all.collect::<Option<Vec<(f64, f64)>>>()?;
    let largest = all.iter().fold(f64::MIN_POSITIVE, |m, (_, x)| m.max(*x));
    let tolerance = all.iter().fold(0.0, |m: f64, (t, _)| m.max(*t));
    Some(tolerance / largest)
}

/// The tolerance of one replica, and its largest number.
fn of_replica(
    plan: &Plan,
    launch: &Launch,
    given: &[Host],
    replica: usize,
    (side, core): (Side, f64),
) -> Option<(f64, f64)> {
    let mut stores: Vec<(Vec<f64>, Vec<u32>)> = (0..launch.bindings.len())
        .map(|at| content(plan, launch, at, given, replica))
        .collect();
    let slots = stores.iter_mut().zip(launch.kernel.bindings);
    let slots = slots.map(|((floats, words), bind)| match (bind.dtype, bind.access) {
        (DType::F32, Access::Read) => Slot::F(floats),
        (DType::F32, _) => Slot::FMut(floats),
        (DType::U32, Access::Read) => Slot::U(words),
        (DType::U32, _) => Slot::UMut(words),
    });
    let mut args = Args {
        constants: &launch.constants,
        slots: slots.collect(),
    };
    let kernel = launch.kernel;
    // What panics here does so again where it is run, which tells.
    let tolerance = kernel.guarded(|| kernel.reference.tolerance(&args, side, core));
    let tolerance = tolerance.ok()??;
    kernel.guarded(|| kernel.reference.f64(&mut args)).ok()?;
    drop(args);
    let largest = |written_only: bool| {
        let all = stores.iter().zip(launch.kernel.bindings);
        let of = all.filter(|(_, bind)| !written_only || bind.access != Access::Read);
        let numbers = of.flat_map(|((floats, _), _)| floats);
        let finite = numbers.filter(|x| x.is_finite());
        finite.fold(0.0, |m: f64, x| m.max(x.abs()))
    };
    // What a result is compared with is the truth rounded to f32.
    let rounding = 0.5 * f64::from(f32::EPSILON) * largest(true);
    Some((tolerance.off + rounding, largest(false)))
}

/// What stands at a binding before the launch: an input of the case, or room for a result.
fn content(
    plan: &Plan,
    launch: &Launch,
    at: usize,
    given: &[Host],
    replica: usize,
) -> (Vec<f64>, Vec<u32>) {
    let binding = launch.bindings[at];
    let shared = launch.kernel.bindings[at].shared;
    let first = if shared {
        0
    } else {
        replica * binding.elements
    };
    let part = first..first + binding.elements;
    let name = &plan.buffers[binding.buffer].name;
    let number = name.strip_prefix("input ").and_then(|k| k.parse().ok());
    match number.and_then(|k: usize| given.get(k)) {
        Some(Host::F32(values)) => (values[part].iter().map(|&x| f64::from(x)).collect(), vec![]),
        Some(Host::U32(values)) => (vec![], values[part].to_vec()),
        None if launch.kernel.bindings[at].dtype == DType::U32 => {
            (vec![], vec![0; binding.elements])
        }
        None => (vec![0.0; binding.elements], vec![]),
    }
}

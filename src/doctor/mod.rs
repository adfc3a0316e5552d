//! The doctor: proves on the machine at hand that every kernel computes what its
//! reference computes.
//!
//! The tests of the crate and `wgrad doctor` run the same code: every op of the table on
//! every one of its cases, buffers filled with garbage beforehand, for one replica and
//! for three, against the reference in f64.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::error::Result;
use crate::exec::cpu::{Cpu, Text};
use crate::kernel::Access;
use crate::ops::{Case, Row};
use crate::plan::Plan;
use crate::tensor::Host;

mod checkup;
pub mod harness;
pub mod tolerance;

pub use checkup::{OpResult, Report, Stage, TRAINING_ALLOWED, TrainingResult, checkup};
use tolerance::Side;

/// Two results side by side.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Comparison {
    /// Results compared.
    pub buffers: usize,
    /// Largest difference of an element over what is allowed: above 1 is a failure.
    pub worst: f64,
    /// ‖found − wanted‖ / ‖wanted‖, the largest of all buffers.
    pub norm: f64,
    /// The first failure: case, buffer, element, what was found and wanted.
    pub failure: Option<String>,
}

impl Comparison {
    /// Adds another one's counts and extremes.
    pub fn merge(&mut self, other: Self) {
        self.buffers += other.buffers;
        self.worst = self.worst.max(other.worst);
        self.norm = self.norm.max(other.norm);
        if self.failure.is_none() {
            self.failure = other.failure;
        }
    }
}

/// Compares a case's results with its true ones.
pub fn compare(
    case: &Case,
    found: &BTreeMap<String, Host>,
    wanted: &BTreeMap<String, Host>,
    allowed: f64,
) -> Comparison {
    let largest = |hosts: &BTreeMap<String, Host>| {
        let floats = hosts.values().filter_map(|h| match h {
            Host::F32(v) => Some(v),
            Host::U32(_) => None,
        });
        let finite = floats.flatten().filter(|x| x.is_finite());
        finite.fold(0.0f64, |m, x| m.max(f64::from(x.abs())))
    };
    let scale = largest(wanted).max(f64::MIN_POSITIVE);
    let mut result = Comparison::default();
    for (name, wanted) in wanted {
        let mut one = Comparison {
            buffers: 1,
            ..Comparison::default()
        };
        let mut fail = |i: usize, f: String, w: String| {
            if one.failure.is_none() {
                one.failure = Some(format!(
                    "{name}[{i}] is {f}, wanted {w}; {:?} on {}",
                    case.op,
                    case.inputs
                        .iter()
                        .map(|g| g.ty.to_string())
                        .collect::<Vec<_>>()
                        .join(", ")
                ));
            }
        };
        match (found.get(name), wanted) {
            (Some(Host::U32(f)), Host::U32(w)) => {
                for (i, (f, w)) in f.iter().zip(w).enumerate().filter(|(_, (f, w))| f != w) {
                    fail(i, f.to_string(), w.to_string());
                    one.worst = f64::INFINITY;
                }
            }
            (Some(Host::F32(f)), Host::F32(w)) => {
                let (mut off2, mut norm2) = (0.0, 0.0);
                for (i, (&f, &w)) in f.iter().zip(w).enumerate() {
                    // Garbage that nobody was to write stays garbage.
                    if f.to_bits() == w.to_bits() || (f.is_nan() && w.is_nan()) {
                        continue;
                    }
                    let off = (f64::from(f) - f64::from(w)).abs();
                    let ratio = if off.is_nan() {
                        f64::INFINITY
                    } else {
                        off / (allowed * scale)
                    };
                    one.worst = one.worst.max(ratio);
                    if ratio > 1.0 {
                        fail(i, f.to_string(), format!("{w} ± {:e}", allowed * scale));
                    }
                    off2 += off * off;
                }
                for w in w.iter().filter(|w| w.is_finite()) {
                    norm2 += f64::from(*w).powi(2);
                }
                one.norm = (off2 / f64::max(norm2, f64::MIN_POSITIVE)).sqrt();
                if norm2 == 0.0 {
                    one.norm = 0.0;
                }
            }
            _ => fail(0, "missing".into(), "a buffer of the same type".into()),
        }
        result.merge(one);
    }
    result
}

/// The true results of a plan: the reference in f64.
///
/// # Errors
/// What the plan's checker says.
pub fn truth(plan: &Plan, inputs: &[Host]) -> Result<BTreeMap<String, Host>> {
    let mut wide = Cpu::<f64>::new(plan.clone(), Text::Reference)?;
    harness::run(&mut wide, inputs)
}

/// Runs every case of an op for each number of replicas, on every executor that `make` makes
/// of its plan, against the truth.
///
/// # Errors
/// What an executor says; a wrong result is no error but a [`Comparison`] that fails.
pub fn examine(
    row: &Row,
    replicas: &[usize],
    side: Side,
    make: &mut dyn FnMut(Plan) -> Result<Vec<Box<dyn crate::exec::Executor>>>,
) -> Result<Comparison> {
    let mut all = Comparison::default();
    for case in (row.cases)() {
        for &replicas in replicas {
            let plan = harness::plan_of(&case, replicas)?;
            let inputs = harness::inputs(&case, replicas);
            let wanted = truth(&plan, &inputs)?;
            // What is only read is compared too, but that it stays as it was is no merit.
            let read_only = |launch: &crate::plan::Launch| {
                let bindings = launch.kernel.bindings.iter();
                bindings.filter(|b| b.access == Access::Read).count()
            };
            let untouched: usize = plan.programs.values().flatten().map(read_only).sum();
            // Where factors are rounded, they are given such as rounding leaves alone: so the
            // same tolerance holds for what is then exact.
            let mut rounded = None;
            let exact = (inputs, wanted);
            for mut executor in make(plan.clone())? {
                if rounded.is_none() && executor.plan().rounds_factors() {
                    let halves: Vec<_> = exact.0.iter().map(harness::in_f16).collect();
                    let wanted = truth(&plan, &halves)?;
                    rounded = Some((halves, wanted));
                }
                let (inputs, wanted) = match &rounded {
                    Some(rounded) if executor.plan().rounds_factors() => rounded,
                    _ => &exact,
                };
                let found = harness::run(executor.as_mut(), inputs)?;
                let mut one = compare(&case, &found, wanted, tolerance::allowed(&case, side));
                one.buffers = one.buffers.saturating_sub(untouched);
                all.merge(one);
            }
        }
    }
    Ok(all)
}

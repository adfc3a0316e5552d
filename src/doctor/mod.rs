//! The doctor: proves on the machine at hand that every kernel computes what its
//! reference computes.
//!
//! The tests of the crate and `wgrad doctor` run the same code: every op of the table on
//! every one of its cases, buffers filled with garbage beforehand, for one replica and
//! for three, against the reference in f64.

use std::collections::{BTreeMap, HashSet};

use serde::Serialize;

use crate::error::Result;
use crate::exec::cpu::{Cpu, Implementation};
use crate::kernel::Access;
use crate::ops::{Case, Row};
use crate::plan::Plan;
use crate::tensor::Host;

mod checkup;
mod gradients;
pub mod harness;
pub mod tolerance;
mod units;

use harness::Prepared;

pub use checkup::{OpResult, Report, Stage, TRAINING_ALLOWED, TrainingResult, checkup};
pub use gradients::gradients;
use tolerance::Side;
pub use units::open_mixed;

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
                one.failure = Some(format!("{name}[{i}] is {f}, wanted {w}; {case}"));
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

/// The true results of a case: the reference in f64.
///
/// # Errors
/// What the plan's checker says.
pub fn truth(case: &Prepared, inputs: &[Host]) -> Result<BTreeMap<String, Host>> {
    let wide = Cpu::<f64>::new(case.plan().clone(), Implementation::Reference)?;
    case.run(&mut case.session(Box::new(wide))?, inputs)
}

/// Runs every case of an op for each number of replicas, on every executor that `make` makes
/// of its plan, against the truth. The crate's own ops are held by it, and so can be one of
/// yours: a shape rule, a kernel in WGSL, the same in Rust, cases that hurt.
///
/// ```
/// use std::sync::Arc;
///
/// use wgrad::Result;
/// use wgrad::doctor::{examine, tolerance::Side};
/// use wgrad::exec::{Choice, Device};
/// use wgrad::kernel::{Args, Bind, Kernel};
/// use wgrad::ops::{Backward, Case, Fill, Lowered, Lowering, Op, Operand, Row, Value};
/// use wgrad::ops::{hadamard::Hadamard, scale::Scale};
/// use wgrad::shape::Type;
/// use wgrad::tensor::Real;
///
/// /// y = x², element by element.
/// #[derive(Debug)]
/// struct Square;
///
/// // One workgroup for 64 elements. The grid's z is the replica, whose elements begin at z · N.
/// static SQUARE: Kernel = Kernel::new(
///     "square",
///     "
///         override N: u32 = 1u;
///         @group(0) @binding(0) var<storage, read> x: array<f32>;
///         @group(0) @binding(1) var<storage, read_write> y: array<f32>;
///
///         @compute @workgroup_size(64)
///         fn square(
///             @builtin(workgroup_id) group: vec3<u32>,
///             @builtin(local_invocation_index) lane: u32,
///         ) {
///             let i = group.x * 64u + lane;
///             if i < N {
///                 let at = group.z * N + i;
///                 y[at] = x[at] * x[at];
///             }
///         }
///     ",
///     // In the order of the bindings, with their elements: the plan's checker holds every launch
///     // to them. What the kernel writes is filled with NaN before.
///     &[Bind::read("x").of("N"), Bind::write("y").of("N")],
///     &["N"],
///     wgrad::reference!(square),
/// );
///
/// /// The same for one replica, in f32 and in f64: the CPU's kernel, and the truth.
/// fn square<T: Real>(args: &mut Args<'_, T>) {
///     let (x, y) = (args.f(0), args.f_mut(1));
///     for (y, &x) in y.iter_mut().zip(x) {
///         *y = x * x;
///     }
/// }
///
/// impl Op for Square {
///     fn name(&self) -> &'static str {
///         "square"
///     }
///
///     fn infer(&self, inputs: &[Type]) -> Result<Vec<Type>> {
///         let [x] = inputs else {
///             let found = format!("{} inputs", inputs.len());
///             return Err(wgrad::Error::shape("square", found, "1: x"));
///         };
///         Ok(vec![x.clone()])
///     }
///
///     fn lower(&self, inputs: &[Type], _: &[Type]) -> Result<Lowering> {
///         let n = inputs[0].elements();
///         Ok(Lowering::Launch(Lowered {
///             kernel: &SQUARE,
///             constants: vec![("N", n as f64)],
///             operands: vec![Operand::In(0), Operand::Out(0)],
///             grid: [n.div_ceil(64) as u32, 1],
///             flops: n as u64,
///             alternatives: vec![],
///         }))
///     }
///
///     /// ∂x = 2 g ⊙ x, by ops that are there.
///     fn gradient(&self, b: &mut Backward<'_>) -> Result<Vec<Option<Value>>> {
///         let product = b.tape.op1(Arc::new(Hadamard), &[b.upstream, b.inputs[0]])?;
///         Ok(vec![Some(b.tape.op1(Arc::new(Scale(2.0)), &[product])?)])
///     }
/// }
///
/// // One element, less than a workgroup, several workgroups.
/// fn cases() -> Vec<Case> {
///     let case = |extents: &[usize]| Case::new(Square, 1).float(extents, Fill::Uniform(-1.0, 1.0));
///     vec![case(&[1]), case(&[7, 9]), case(&[3, 5, 2, 13])]
/// }
///
/// static KERNELS: &[&Kernel] = &[&SQUARE];
/// let row = Row { stem: "square", kernels: KERNELS, cases };
/// for (choice, side) in [(Choice::Cpu, Side::Cpu), (Choice::Gpu, Side::Gpu)] {
///     let Ok(device) = Device::open(choice) else {
///         continue; // no GPU here
///     };
///     let comparison = examine(&row, &[1, 3], side, &mut |plan| {
///         let variants = device.variants(plan).into_iter();
///         variants.map(|plan| device.executor(plan)).collect()
///     })?;
///     assert_eq!(comparison.failure, None);
///     assert_eq!(comparison.buffers, 6);
/// }
/// # Ok::<(), wgrad::Error>(())
/// ```
///
/// On the CPU this holds the CPU functions to each other, and says nothing of the WGSL: that needs
/// an adapter, and a software one will do (`apt-get install mesa-vulkan-drivers`).
///
/// Read `x[i]`, as if there were one replica, and the comparison on a GPU says which element of
/// which case is wrong. Such an op goes into a [`Graph`](crate::graph::Graph) like any other.
/// [`gradients`] holds its gradient rule to central differences.
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
            let prepared = Prepared::new(&case, replicas)?;
            let plan = prepared.plan();
            let inputs = harness::inputs(&case, replicas);
            let wanted = truth(&prepared, &inputs)?;
            // What is only read is compared too, but that it stays as it was is no merit.
            let untouched = untouched(plan);
            // Where factors are rounded, they are given such as rounding leaves alone: so the
            // same tolerance holds for what is then exact.
            let mut rounded = None;
            let exact = (inputs, wanted);
            for executor in make(plan.clone())? {
                let mut session = prepared.session(executor)?;
                if rounded.is_none() && session.plan().rounds_factors() {
                    let halves: Vec<_> = exact.0.iter().map(harness::in_f16).collect();
                    let wanted = truth(&prepared, &halves)?;
                    rounded = Some((halves, wanted));
                }
                let (inputs, wanted) = match &rounded {
                    Some(rounded) if session.plan().rounds_factors() => rounded,
                    _ => &exact,
                };
                let found = prepared.run(&mut session, inputs)?;
                let mut one = compare(&case, &found, wanted, tolerance::allowed(&case, side));
                one.buffers = one.buffers.saturating_sub(untouched);
                all.merge(one);
            }
        }
    }
    Ok(all)
}
/// How many of a plan's lasting buffers are read and never written.
fn untouched(plan: &Plan) -> usize {
    let bound = |written: bool| {
        let launches = plan.programs.values().flatten();
        let bindings = launches.flat_map(|l| l.bindings.iter().zip(l.kernel.bindings));
        let used = bindings.filter(move |(_, bind)| (bind.access != Access::Read) == written);
        used.map(|(binding, _)| binding.buffer)
            .collect::<HashSet<_>>()
    };
    bound(false).difference(&bound(true)).count()
}

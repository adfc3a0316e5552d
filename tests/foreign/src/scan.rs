//! A linear recurrence: hₜ = aₜ ⊙ hₜ₋₁ + bₜ along the second axis of `[N, T, C]`, from h₋₁ = 0. It
//! is the memory of minGRU (Feng et al. 2024) and of state space models.
//!
//! Gradient, with λₜ = gₜ + aₜ₊₁ ⊙ λₜ₊₁ from the last step back: ∂aₜ = λₜ ⊙ hₜ₋₁, ∂bₜ = λₜ.
//! Saved: a and the output h.

use std::sync::Arc;

use wgrad::Result;
use wgrad::expr::Expr;
use wgrad::kernel::{Args, Bind, Kernel, Port, Target};
use wgrad::ops::pointwise::{Pointwise, WithEnding};
use wgrad::ops::{
    Alternative, Backward, Case, Fill, Lowered, Lowering, Op, Operand, Row, Value, arity, floats,
    grid, same,
};
use wgrad::shape::Type;
use wgrad::tensor::Real;

use crate::expressions::serf;

/// Inputs a and b `[N, T, C]`, output h of the same shape.
#[derive(Debug)]
pub struct Scan;

impl Op for Scan {
    fn name(&self) -> &'static str {
        "scan"
    }

    fn infer(&self, inputs: &[Type]) -> Result<Vec<Type>> {
        let [a, b] = arity("scan", inputs, "a, b")?;
        floats("scan", "a", a)?;
        same("scan", "a and b", a, b)?;
        a.shape.axes::<3>("scan", "a as [N, T, C]")?;
        Ok(vec![a.clone()])
    }

    fn lower(&self, inputs: &[Type], _: &[Type]) -> Result<Lowering> {
        let [n, t, c] = inputs[0].shape.axes("scan", "a as [N, T, C]")?;
        let constants = vec![("N", n as f64), ("T", t as f64), ("C", c as f64)];
        let narrow = Alternative {
            target: Target::Processor,
            kernel: &SCAN_NARROW,
            constants: constants.clone(),
            grid: grid(n * c, 8),
        };
        Ok(Lowering::Launch(Lowered {
            kernel: &SCAN,
            constants,
            operands: vec![Operand::In(0), Operand::In(1), Operand::Out(0)],
            grid: grid(n * c, 64),
            flops: 2 * (n * t * c) as u64,
            alternatives: vec![narrow],
        }))
    }

    fn port(&self) -> Option<usize> {
        Some(SCAN.bindings.len())
    }

    fn gradient(&self, b: &mut Backward<'_>) -> Result<Vec<Option<Value>>> {
        let inputs = [b.inputs[0], b.outputs[0], b.upstream];
        let gradients = b.tape.op(Arc::new(ScanGrad), &inputs)?;
        Ok(gradients.into_iter().map(Some).collect())
    }
}

/// The gradient of [`Scan`]: inputs a, h and the gradient g `[N, T, C]`, outputs ∂a and ∂b.
#[derive(Debug)]
pub struct ScanGrad;

impl Op for ScanGrad {
    fn name(&self) -> &'static str {
        "scan_grad"
    }

    fn infer(&self, inputs: &[Type]) -> Result<Vec<Type>> {
        let [a, h, g] = arity("scan_grad", inputs, "a, h, gradient")?;
        floats("scan_grad", "a", a)?;
        same("scan_grad", "a and h", a, h)?;
        same("scan_grad", "a and gradient", a, g)?;
        a.shape.axes::<3>("scan_grad", "a as [N, T, C]")?;
        Ok(vec![a.clone(); 2])
    }

    fn lower(&self, inputs: &[Type], _: &[Type]) -> Result<Lowering> {
        let [n, t, c] = inputs[0].shape.axes("scan_grad", "a as [N, T, C]")?;
        let inputs = (0..3).map(Operand::In);
        Ok(Lowering::Launch(Lowered {
            kernel: &SCAN_GRAD,
            constants: vec![("N", n as f64), ("T", t as f64), ("C", c as f64)],
            operands: inputs.chain((0..2).map(Operand::Out)).collect(),
            grid: grid(n * c, 64),
            flops: 3 * (n * t * c) as u64,
            alternatives: vec![],
        }))
    }
}

/// hₜ = aₜ ⊙ hₜ₋₁ + bₜ.
pub static SCAN: Kernel = Kernel::new(
    "scan",
    concat!(include_str!("scan.wgsl"), wgrad::port!("finish")),
    // In the order of the WGSL's @bindings, with the elements that each has of one replica.
    &[
        Bind::read("a").of("N * T * C"),
        Bind::read("b").of("N * T * C"),
        Bind::write("h").of("N * T * C"),
    ],
    // The WGSL's overrides.
    &["N", "T", "C"],
    wgrad::reference!(scan),
)
.with_turns("T")
.with_ports(&[Port::finish(2, "T")]);

/// [`SCAN`] in workgroups of eight threads, for adapters that are programs on a processor.
pub static SCAN_NARROW: Kernel = Kernel::new(
    "scan_narrow",
    SCAN.source,
    SCAN.bindings,
    SCAN.constants,
    SCAN.reference,
)
.with_turns("T")
.with_ports(SCAN.ports());

/// ∂a and ∂b from a, h and g.
pub static SCAN_GRAD: Kernel = Kernel::new(
    "scan_grad",
    SCAN.source,
    &[
        Bind::read("a").of("N * T * C"),
        Bind::read("saved_h").of("N * T * C"),
        Bind::read("g").of("N * T * C"),
        Bind::write("grad_a").of("N * T * C"),
        Bind::write("grad_b").of("N * T * C"),
    ],
    &["N", "T", "C"],
    wgrad::reference!(scan_grad),
)
.with_turns("T");

/// One replica, in f32 for the CPU and in f64 as the truth.
fn scan<T: Real>(args: &mut Args<'_, T>) {
    let (steps, c) = (args.size("T"), args.size("C"));
    let (a, b, h) = (args.f(0), args.f(1), args.f_mut(2)); // [N, T, C] each
    for i in 0..h.len() {
        let before = match i / c % steps {
            0 => T::ZERO,
            _ => h[i - c],
        };
        h[i] = a[i] * before + b[i];
    }
}

fn scan_grad<T: Real>(args: &mut Args<'_, T>) {
    let (steps, c) = (args.size("T"), args.size("C"));
    let (a, h, g) = (args.f(0), args.f(1), args.f(2)); // [N, T, C] each
    let (grad_a, grad_b) = (args.f_mut(3), args.f_mut(4)); // [N, T, C] each
    for i in (0..g.len()).rev() {
        let t = i / c % steps;
        let later = match t + 1 == steps {
            true => T::ZERO,
            false => a[i + c] * grad_b[i + c],
        };
        grad_b[i] = g[i] + later;
        grad_a[i] = match t {
            0 => T::ZERO,
            _ => grad_b[i] * h[i - c],
        };
    }
}

/// One element, one step, one channel; more threads than a workgroup has, and a long way. With an
/// expression at the end, too.
fn cases() -> Vec<Case> {
    let uniform = Fill::Uniform(-1.0, 1.0);
    let mut cases = Vec::new();
    for extents in [[1, 1, 1], [2, 1, 3], [3, 7, 1], [3, 5, 65], [2, 300, 2]] {
        // A state is a sum of as many terms as there are steps.
        let forward = Case::new(Scan, extents[1]);
        cases.push(forward.float(&extents, uniform).float(&extents, uniform));
        let gated = Pointwise::new(&[serf(&Expr::input(0)) * Expr::input(1)]);
        if let Ok(ended) = WithEnding::new(Scan, gated) {
            let ended = Case::new(ended, extents[1]).fixed(&extents, uniform);
            cases.push(ended.fixed(&extents, uniform).fixed(&extents, uniform));
        }
        let back = Case::new(ScanGrad, extents[1]).fixed(&extents, uniform);
        cases.push(back.fixed(&extents, uniform).fixed(&extents, uniform));
    }
    cases
}

/// What the harness needs to prove both.
pub static ROW: Row = Row {
    stem: "scan",
    kernels: &[&SCAN, &SCAN_NARROW, &SCAN_GRAD],
    cases,
};

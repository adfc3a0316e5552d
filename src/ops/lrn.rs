//! Local response normalization across channels (Krizhevsky et al. 2012, section 3.3):
//! y = x d^(−β) with d = k + α / n Σ x² over the n channels around each one, of which those before
//! it are n / 2 (rounded down) and those outside are 0; as `torch.nn.LocalResponseNorm`.
//!
//! ∂xᵢ = gᵢ dᵢ^(−β) − 2 α β / n xᵢ Σⱼ gⱼ xⱼ dⱼ^(−β − 1) over the channels j that i is around.
//! Saved for the gradient: x and d, which is the second output.

use std::sync::Arc;

use super::checks::around;
use super::{
    Backward, Case, ELEMENTWISE, Fill, Lowered, Lowering, Op, Operand, Value, arity, floats, grid,
    same,
};
use crate::error::{Error, Result};
use crate::interchange::Site;
use crate::kernel::{Args, Bind, Demand, Kernel};
use crate::shape::Type;
use crate::tensor::{HELD, Real, held};

/// y = x d^(−β): input x `[N, C, …]`; outputs y and d of the same type.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Lrn {
    /// n, 1 to 2^20.
    pub size: usize,
    /// α, 0 at least.
    pub alpha: f64,
    /// β, 0 at least.
    pub beta: f64,
    /// k, above 0.
    pub k: f64,
}

/// ∂x: inputs g, x and d of one type, output of the same.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LrnGrad(pub Lrn);

/// More channels around one are a mistake.
const MOST: usize = 1 << 20;

impl Lrn {
    fn check(&self, op: &str, x: &Type) -> Result<[usize; 3]> {
        floats(op, "x", x)?;
        if !(1..=MOST).contains(&self.size) {
            return Err(Error::setting("size of lrn", self.size, "1 to 2^20"));
        }
        for (name, value) in [("alpha", self.alpha), ("beta", self.beta), ("k", self.k)] {
            // The kernels get alpha over the size.
            let sound = value >= 0.0 && held(value) && held(value / self.size as f64);
            if !sound || (name == "k" && value == 0.0) {
                let wanted = if name == "k" { "above 0; " } else { "" };
                return Err(Error::setting(
                    format!("{name} of lrn"),
                    value,
                    format!("{wanted}{HELD}"),
                ));
            }
        }
        around(op, x, Some(1))
    }

    fn launch(
        &self,
        kernel: &'static Kernel,
        operands: Vec<Operand>,
        x: &Type,
    ) -> Result<Lowering> {
        let [n, c, s] = self.check("lrn", x)?;
        Ok(Lowering::Launch(Lowered {
            kernel,
            constants: vec![
                ("N", n as f64),
                ("C", c as f64),
                ("S", s as f64),
                ("SIZE", self.size as f64),
                ("ALPHA", self.alpha / self.size as f64),
                ("BETA", self.beta),
                ("BIAS", self.k),
            ],
            operands,
            grid: grid(x.elements(), ELEMENTWISE),
            flops: (2 * self.size * x.elements()) as u64,
            alternatives: vec![],
        }))
    }
}

impl Op for Lrn {
    fn name(&self) -> &'static str {
        "lrn"
    }

    fn onnx(&self, site: &mut Site<'_>) -> Result<Vec<String>> {
        if self.size.is_multiple_of(2) {
            return Err(site.refused("over an even number of channels, which ONNX shifts by one"));
        }
        let x = site.input(0);
        let attributes = [
            ("size", (self.size as i64).into()),
            ("alpha", self.alpha.into()),
            ("beta", self.beta.into()),
            ("bias", self.k.into()),
        ];
        Ok(vec![site.op("LRN", &[&x], &attributes), String::new()])
    }

    fn infer(&self, inputs: &[Type]) -> Result<Vec<Type>> {
        let [x] = arity("lrn", inputs, "x")?;
        self.check("lrn", x)?;
        Ok(vec![x.clone(); 2])
    }

    fn lower(&self, inputs: &[Type], _: &[Type]) -> Result<Lowering> {
        let operands = vec![Operand::In(0), Operand::Out(0), Operand::Out(1)];
        self.launch(&LRN, operands, &inputs[0])
    }

    fn gradient(&self, b: &mut Backward<'_>) -> Result<Vec<Option<Value>>> {
        let inputs = [b.upstream, b.inputs[0], b.outputs[1]];
        Ok(vec![Some(b.tape.op1(Arc::new(LrnGrad(*self)), &inputs)?)])
    }
}

impl Op for LrnGrad {
    fn name(&self) -> &'static str {
        "lrn"
    }

    fn infer(&self, inputs: &[Type]) -> Result<Vec<Type>> {
        let [g, x, d] = arity("lrn gradient", inputs, "gradient, x, d")?;
        self.0.check("lrn gradient", x)?;
        same("lrn gradient", "gradient and x", g, x)?;
        same("lrn gradient", "x and d", x, d)?;
        Ok(vec![x.clone()])
    }

    fn lower(&self, inputs: &[Type], _: &[Type]) -> Result<Lowering> {
        let mut operands: Vec<_> = (0..3).map(Operand::In).collect();
        operands.push(Operand::Out(0));
        self.0.launch(&LRN_GRAD, operands, &inputs[0])
    }
}

/// y and d.
pub static LRN: Kernel = Kernel {
    name: "lrn",
    turns: "SIZE + 8",
    stem: "lrn",
    source: concat!(
        include_str!("../../shaders/shared/grid.wgsl"),
        include_str!("../../shaders/shared/nan.wgsl"),
        include_str!("../../shaders/lrn.wgsl"),
    ),
    bindings: &[
        Bind::read("x").of("N * C * S"),
        Bind::write("y").of("N * C * S"),
        Bind::write("d").of("N * C * S"),
    ],
    constants: &["N", "C", "S", "SIZE", "ALPHA", "BETA", "BIAS"],
    reference: crate::reference!(lrn),
    optimized: None,
    demand: Demand {
        rounds: "SIZE / 4",
        issue: "SIZE * 12 + 80",
        words: "64 * SIZE + 128",
        ..Demand::UNSTATED
    },
    trusted: true,
    ports: &[],
    finishing: None,
};

/// ∂x.
pub static LRN_GRAD: Kernel = Kernel {
    name: "lrn_grad",
    demand: Demand {
        rounds: "SIZE / 4",
        issue: "SIZE * 60 + 120",
        words: "192 * SIZE + 64",
        ..Demand::UNSTATED
    },
    bindings: &[
        Bind::read("g").of("N * C * S"),
        Bind::read("saved_x").of("N * C * S"),
        Bind::read("saved_d").of("N * C * S"),
        Bind::write("dx").of("N * C * S"),
    ],
    reference: crate::reference!(lrn_grad),
    ..LRN
};

/// The kernels of this file.
pub static KERNELS: &[&Kernel] = &[&LRN, &LRN_GRAD];

/// d^power, which is 0 of an infinite d.
fn raised<T: Real>(d: T, power: T) -> T {
    (power * d.ln()).exp()
}

/// Of element `at`, those of the channels from `before` before its own to `after` after it.
fn neighbours<T: Real>(a: &Args<'_, T>, at: usize, before: usize, after: usize) -> Vec<usize> {
    let (c, s) = (a.size("C"), a.size("S"));
    let channel = at / s % c;
    let channels = channel.saturating_sub(before)..(channel + after + 1).min(c);
    channels.map(|other| at + other * s - channel * s).collect()
}

fn lrn<T: Real>(a: &mut Args<'_, T>) {
    let [alpha, beta, bias] = ["ALPHA", "BETA", "BIAS"].map(|name| T::of(a.number(name)));
    let (before, after) = (a.size("SIZE") / 2, (a.size("SIZE") - 1) / 2);
    let (x, y, d) = (a.f(0), a.f_mut(1), a.f_mut(2)); // [N, C, S] three times
    for at in 0..x.len() {
        let squares = neighbours(a, at, before, after)
            .into_iter()
            .map(|j| x[j] * x[j]);
        d[at] = bias + alpha * squares.sum();
        y[at] = x[at] * raised(d[at], -beta);
    }
}

fn lrn_grad<T: Real>(a: &mut Args<'_, T>) {
    let [alpha, beta] = ["ALPHA", "BETA"].map(|name| T::of(a.number(name)));
    // A channel is around those that are around it, seen from the other side.
    let (before, after) = ((a.size("SIZE") - 1) / 2, a.size("SIZE") / 2);
    let (g, x, d, dx) = (a.f(0), a.f(1), a.f(2), a.f_mut(3)); // [N, C, S] four times
    for at in 0..x.len() {
        let around = neighbours(a, at, before, after).into_iter();
        let sum: T = around
            .map(|j| g[j] * x[j] * (raised(d[j], -beta) / d[j]))
            .sum();
        dx[at] = g[at] * raised(d[at], -beta) - T::of(2.0) * alpha * beta * x[at] * sum;
    }
}

/// One channel, fewer than are around one, more, an even number around one; many places.
pub fn cases() -> Vec<Case> {
    let uniform = Fill::Uniform(-1.0, 1.0);
    let mut cases = Vec::new();
    for (extents, size, alpha, beta, k) in [
        (&[1, 1][..], 1, 0.5, 0.75, 1.0),
        (&[2, 3, 5], 5, 0.7, 0.75, 2.0),
        (&[2, 7, 2, 3], 3, 1.5, 0.5, 1.0),
        (&[1, 6, 4], 4, 0.9, 1.25, 0.5),
        (&[3, 5], 2, 0.0, 0.75, 1.0),
        (&[2, 13, 3, 11], 5, 1e-4, 0.75, 2.0),
    ] {
        let lrn = Lrn {
            size,
            alpha,
            beta,
            k,
        };
        let case = Case::new(lrn, size).float(extents, uniform);
        let small = extents.iter().product::<usize>() < 100;
        cases.push(if small { case } else { case.forward_only() });
        let grad = Case::new(LrnGrad(lrn), size).fixed(extents, uniform);
        let grad = grad.fixed(extents, uniform);
        cases.push(grad.fixed(extents, Fill::Uniform(0.5, 2.0)));
    }
    cases
}

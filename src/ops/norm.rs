//! Normalization: y = (x − mean) · rstd · γ + β, in which mean and rstd = 1 / √(variance + ε) are
//! of x itself, and γ and β are parameters.
//!
//! | | x | statistics over | γ, β |
//! |---|---|---|---|
//! | layer (Ba et al. 2016) | any | the last axes of each place | of these axes |
//! | RMS (Zhang and Sennrich 2019) | any | likewise, mean 0 and no β | of these axes |
//! | group (Wu and He 2018) | `[N, C, …]` | the channels of a group of each example | `[C]` |
//! | instance (Ulyanov et al. 2016) | `[N, C, …]` | each channel of each example | `[C]` |
//! | batch (Ioffe and Szegedy 2015) | `[N, C, …]` | each channel of all examples | `[C]` |
//!
//! With x̂ = (x − mean) · rstd, h = g γ and means over what a statistic is of:
//!
//! - ∂x = rstd (h − mean h − x̂ mean(h x̂)), for RMS without its second term;
//! - ∂γ = Σ g x̂ and ∂β = Σ g over all that a parameter is applied to.
//!
//! Saved for the gradient: x, γ and the statistics, which are outputs. The variance is that of a
//! whole population, and is taken in a second pass over x, so that nothing cancels.
//!
//! All of these are one family of sizes: x as `[N, C, S]` with a parameter for each c and a
//! statistic for each group of channels of each n or, batch, for each c. A layer's C is its
//! axes taken together, in one group, and its S is 1. A workgroup makes what one statistic is of,
//! or the gradient of one c's parameters: its threads add up strided shares, a tree their sums. Where few
//! statistics are of many elements each, these are cut into runs, and there are two launches
//! (`runs.rs`). Batch normalization has all its gradients at once ([`BatchNormGrad`]). y can pass any
//! expression at the end, an activation or a residual.

use std::sync::Arc;

use super::launch::lanes;
use super::pointwise::Pointwise;
use super::{Backward, ELEMENTWISE, Lowered, Lowering, Op, Operand, Value, exactly, floats, grid};
use crate::error::{Error, Result};
use crate::expr::Expr;
use crate::interchange::Site;
use crate::kernel::{Bind, Demand, Kernel, Port};
use crate::shape::Type;
use crate::tensor::held;

mod batch;
mod cases;
mod grads;
mod onnx;
mod optimized;
mod reference;
mod runs;

pub use batch::BatchNormGrad;
pub use cases::cases;
pub use grads::{NormGivenGrad, NormGrad, NormParameters};

/// What the statistics are of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Over {
    /// The last so many axes of each place before them.
    Layer(usize),
    /// The same, with 0 for the mean and no β.
    Rms(usize),
    /// This number of groups of channels, of each example `[C, …]` of x `[N, C, …]`.
    Group(usize),
    /// Each channel of each example of x `[N, C, …]`.
    Instance,
    /// Each channel over all examples of x `[N, C, …]`.
    Batch,
}

/// y = (x − mean) · rstd · γ + β: inputs x, γ and β (RMS: x and γ), the latter of the last axes
/// or `[C]`; outputs y of x's type, mean and rstd (RMS: y and rstd), of the extents before the
/// last axes (`[1]` where there are none), `[N, groups]`, `[N, C]` or `[C]`.
///
/// The variance is 1 / rstd² − ε: what a running average for [`NormGiven`] needs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Norm {
    /// What the statistics are of.
    pub over: Over,
    /// ε, added to the variance.
    pub epsilon: f64,
}

/// y = (x − mean) / √(variance + ε) · γ + β with statistics that are given, as batch
/// normalization has when it evaluates: inputs x, γ, β, mean and variance as of [`Norm`]; output y
/// of x's type.
///
/// Of channels it is an expression too, at another op's end: x · scale + (β − mean · scale), of which what depends on the
/// parameters alone need not be computed again. Where |mean| is much larger than the deviation, both products are
/// rounded by as much as x itself has been.
///
/// Its gradient with respect to x takes the statistics for constants, as a network does whose
/// batch normalization is frozen; γ, β and the statistics have none.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NormGiven(pub Norm);

/// x as `[N, C, S]`.
#[derive(Clone, Debug, PartialEq)]
struct View {
    n: usize,
    c: usize,
    s: usize,
    groups: usize,
    /// γ's and β's extents.
    parameters: Vec<usize>,
    /// The statistics' extents.
    statistics: Vec<usize>,
}

impl View {
    /// How many statistics there are.
    fn rows(&self) -> usize {
        self.statistics.iter().product()
    }

    /// Elements of a statistic.
    fn terms(&self) -> usize {
        self.n * self.c * self.s / self.rows()
    }
}

impl Norm {
    fn is_rms(&self) -> bool {
        matches!(self.over, Over::Rms(_))
    }

    fn view(&self, x: &Type) -> Result<View> {
        floats("norm", "x", x)?;
        if !(self.epsilon >= 0.0 && held(self.epsilon)) {
            let wanted = "0, or a number above it that 32-bit floats have";
            return Err(Error::setting("epsilon of norm", self.epsilon, wanted));
        }
        let extents = x.shape.extents();
        let groups = match self.over {
            Over::Layer(axes) | Over::Rms(axes) => {
                if axes == 0 || axes > extents.len() {
                    let wanted = format!("{axes} last axes, 1 at least");
                    return Err(Error::shape("norm", x.to_string(), wanted));
                }
                let (before, last) = extents.split_at(extents.len() - axes);
                let statistics = if before.is_empty() { &[1] } else { before };
                return Ok(View {
                    n: before.iter().product(),
                    c: last.iter().product(),
                    s: 1,
                    groups: 1,
                    parameters: last.to_vec(),
                    statistics: statistics.to_vec(),
                });
            }
            Over::Group(groups) => Some(groups),
            Over::Instance | Over::Batch => None,
        };
        let [n, c, rest @ ..] = extents else {
            return Err(Error::shape("norm", x.to_string(), "x as [N, C, ..]"));
        };
        let groups = groups.unwrap_or(*c);
        if groups == 0 || !c.is_multiple_of(groups) {
            return Err(Error::shape(
                "norm",
                format!("{c} channels in {groups} groups"),
                "groups that divide the channels",
            ));
        }
        Ok(View {
            n: *n,
            c: *c,
            s: rest.iter().product(),
            groups,
            parameters: vec![*c],
            statistics: match self.over {
                Over::Batch => vec![*c],
                _ => vec![*n, groups],
            },
        })
    }

    /// The constants of a kernel whose workgroups add up so many terms.
    fn constants(&self, view: &View, terms: usize) -> Vec<(&'static str, f64)> {
        vec![
            ("N", view.n as f64),
            ("C", view.c as f64),
            ("S", view.s as f64),
            ("GROUPS", view.groups as f64),
            ("R", view.rows() as f64),
            ("BATCH", f64::from(u8::from(self.over == Over::Batch))),
            ("EPSILON", self.epsilon),
            lanes(terms),
        ]
    }

    /// Checks inputs that follow each other: x, γ, β, mean, variance or rstd; only γ and the
    /// last of RMS. Returns the view.
    fn check(&self, op: &str, given: &[(&str, &Type)]) -> Result<View> {
        let Some((_, x)) = given.iter().find(|(name, _)| *name == "x") else {
            return Err(Error::shape(op, "no x", "x"));
        };
        let view = self.view(x)?;
        let parameters = Type::f32(op, &view.parameters)?;
        let statistics = Type::f32(op, &view.statistics)?;
        for (name, ty) in given {
            let wanted = match *name {
                "x" | "gradient" => x,
                "gamma" | "beta" => &parameters,
                _ => &statistics,
            };
            exactly(op, name, ty, wanted)?;
        }
        Ok(view)
    }

    fn launch(
        &self,
        kernel: &'static Kernel,
        view: &View,
        inputs: usize,
        outputs: usize,
        grid: [u32; 2],
    ) -> Lowering {
        let inputs = (0..inputs).map(Operand::In);
        // What a workgroup adds up: all that a statistic is of, or a parameter.
        let groups = (grid[0] * grid[1]) as usize;
        let terms = view.n * view.c * view.s / groups;
        Lowering::Launch(Lowered {
            kernel,
            constants: self.constants(view, terms),
            operands: inputs.chain((0..outputs).map(Operand::Out)).collect(),
            grid,
            flops: (8 * view.n * view.c * view.s) as u64,
            alternatives: vec![],
        })
    }
}

/// Pairs names with types, if there are as many.
fn named<'a>(op: &str, names: &[&'a str], inputs: &'a [Type]) -> Result<Vec<(&'a str, &'a Type)>> {
    if names.len() != inputs.len() {
        return Err(Error::shape(
            op,
            format!("{} inputs", inputs.len()),
            format!("{}: {}", names.len(), names.join(", ")),
        ));
    }
    Ok(names.iter().copied().zip(inputs).collect())
}

impl Op for Norm {
    fn name(&self) -> &'static str {
        "norm"
    }

    fn onnx(&self, site: &mut Site<'_>) -> Result<Vec<String>> {
        onnx::norm(self, site)
    }

    fn infer(&self, inputs: &[Type]) -> Result<Vec<Type>> {
        let names: &[&str] = match self.is_rms() {
            true => &["x", "gamma"],
            false => &["x", "gamma", "beta"],
        };
        let view = self.check("norm", &named("norm", names, inputs)?)?;
        let mut outputs = vec![inputs[0].clone()];
        let statistic = Type::f32("norm", &view.statistics)?;
        outputs.resize(names.len(), statistic);
        Ok(outputs)
    }

    fn lower(&self, inputs: &[Type], outputs: &[Type]) -> Result<Lowering> {
        let view = self.view(&inputs[0])?;
        let runs = self.runs(&view);
        if runs > 1 {
            return self.in_runs(&view, runs);
        }
        let kernel = if self.is_rms() { &NORM_RMS } else { &NORM };
        let grid = grid(view.rows(), 1);
        Ok(self.launch(kernel, &view, inputs.len(), outputs.len(), grid))
    }

    fn gradient(&self, b: &mut Backward<'_>) -> Result<Vec<Option<Value>>> {
        let (g, x, gamma) = (b.upstream, b.inputs[0], b.inputs[1]);
        let statistics = &b.outputs[1..];
        let mut gradients = vec![None; b.inputs.len()];
        let parameters = b.wanted[1..].contains(&true);
        if self.over == Over::Batch && b.wanted[0] && parameters {
            let inputs = [&[g, x, gamma], statistics].concat();
            let all = b.tape.op(Arc::new(BatchNormGrad(*self)), &inputs)?;
            return Ok(all.into_iter().map(Some).collect());
        }
        if b.wanted[0] {
            let inputs = [&[g, x, gamma], statistics].concat();
            gradients[0] = Some(b.tape.op1(Arc::new(NormGrad(*self)), &inputs)?);
        }
        if parameters {
            let inputs = [&[g, x], statistics].concat();
            let both = b.tape.op(Arc::new(NormParameters(*self)), &inputs)?;
            for (gradient, value) in gradients[1..].iter_mut().zip(both) {
                *gradient = Some(value);
            }
        }
        Ok(gradients)
    }

    fn port(&self) -> Option<usize> {
        // Of the launches that make y, the one that binds most.
        let kernel = if self.is_rms() {
            &NORM_RMS
        } else {
            &runs::NORM_JOINED
        };
        Some(kernel.bindings.len())
    }
}

impl Op for NormGiven {
    fn name(&self) -> &'static str {
        "norm"
    }

    fn onnx(&self, site: &mut Site<'_>) -> Result<Vec<String>> {
        let [x, gamma, beta, mean, variance] = std::array::from_fn(|k| site.input(k));
        if self.0.over != Over::Batch {
            return Err(site.refused("with given statistics of other than channels"));
        }
        let inputs = [&*x, &*gamma, &*beta, &*mean, &*variance];
        let epsilon = ("epsilon", self.0.epsilon.into());
        Ok(vec![site.op("BatchNormalization", &inputs, &[epsilon])])
    }

    /// Of channels: what stands behind a convolution is made at its end.
    fn expression(&self, inputs: &[Type]) -> Option<Pointwise> {
        if self.0.over != Over::Batch {
            return None;
        }
        let [x, gamma, beta, mean, variance] = std::array::from_fn(Expr::input);
        let scale = gamma * (variance + self.0.epsilon).rsqrt();
        let y = x * &scale + (beta - mean * &scale);
        let places = inputs.first()?.shape.rank().saturating_sub(2);
        let of_channels = |op: Pointwise, input| op.with_axes_behind(input, places);
        Some((1..5).fold(Pointwise::new(&[y]), of_channels))
    }

    fn infer(&self, inputs: &[Type]) -> Result<Vec<Type>> {
        let names = ["x", "gamma", "beta", "mean", "variance"];
        self.0.check("norm", &named("norm", &names, inputs)?)?;
        Ok(vec![inputs[0].clone()])
    }

    fn lower(&self, inputs: &[Type], _: &[Type]) -> Result<Lowering> {
        let view = self.0.view(&inputs[0])?;
        let grid = grid(inputs[0].elements(), ELEMENTWISE);
        Ok(self.0.launch(&NORM_GIVEN, &view, 5, 1, grid))
    }

    fn gradient(&self, b: &mut Backward<'_>) -> Result<Vec<Option<Value>>> {
        if b.wanted[1..].contains(&true) {
            return Err(Error::setting(
                "gradient of norm with given statistics",
                "with respect to gamma, beta or a statistic",
                "with respect to x alone",
            ));
        }
        let inputs = [b.upstream, b.inputs[1], b.inputs[4]];
        let dx = b.tape.op1(Arc::new(NormGivenGrad(self.0)), &inputs)?;
        Ok(vec![Some(dx), None, None, None, None])
    }

    fn port(&self) -> Option<usize> {
        Some(NORM_GIVEN.bindings.len())
    }
}

const SOURCE: &str = concat!(
    include_str!("../../shaders/shared/grid.wgsl"),
    include_str!("../../shaders/shared/nan.wgsl"),
    include_str!("../../shaders/shared/tree.wgsl"),
    include_str!("../../shaders/norm.wgsl"),
    crate::port!("finish"),
);

/// y, mean and rstd.
pub static NORM: Kernel = Kernel {
    name: "norm",
    turns: "3 * (N * C * S / R / LANES + 1) + 64",
    stem: "norm",
    source: SOURCE,
    bindings: &[
        Bind::read("x").of("N * C * S"),
        Bind::read("gamma").of("C"),
        Bind::read("beta").of("C"),
        Bind::write("y").of("N * C * S"),
        Bind::write("mean").of("R"),
        Bind::write("rstd").of("R"),
    ],
    constants: &["N", "C", "S", "GROUPS", "R", "BATCH", "EPSILON", "LANES"],
    reference: crate::reference!(reference::norm),
    optimized: Some(optimized::norm),
    demand: Demand {
        rounds: "3 * (N * C * S / R / LANES / 4)",
        barriers: "20",
        issue: "N * C * S / R / LANES * 34 + 200",
        words: "4 * (N * C * S / R)",
        ..Demand::UNSTATED
    },
    trusted: true,
    ports: &[Port::finish(3, "N * C * S / R / LANES + 1")],
    finishing: Some(optimized::norm_finishing),
};

/// y and rstd, mean 0 and no β.
pub static NORM_RMS: Kernel = Kernel {
    name: "norm_rms",
    bindings: &[
        Bind::read("x").of("N * C * S"),
        Bind::read("gamma").of("C"),
        Bind::write("rms_y").of("N * C * S"),
        Bind::write("rms_rstd").of("R"),
    ],
    reference: crate::reference!(reference::rms),
    optimized: Some(optimized::rms),
    ports: &[Port::finish(2, "N * C * S / R / LANES + 1")],
    finishing: Some(optimized::rms_finishing),
    demand: Demand {
        rounds: "2 * (N * C * S / R / LANES / 4)",
        barriers: "10",
        issue: "N * C * S / R / LANES * 24 + 120",
        words: "3 * (N * C * S / R)",
        ..Demand::UNSTATED
    },
    ..NORM
};

/// y with statistics that are given.
pub static NORM_GIVEN: Kernel = Kernel {
    name: "norm_given",
    turns: "0",
    bindings: &[
        Bind::read("x").of("N * C * S"),
        Bind::read("gamma").of("C"),
        Bind::read("beta").of("C"),
        Bind::read("given_mean").of("R"),
        Bind::read("given_variance").of("R"),
        Bind::write("given_y").of("N * C * S"),
    ],
    reference: crate::reference!(reference::given),
    optimized: Some(optimized::given),
    ports: &[Port::finish(5, "1")],
    finishing: Some(optimized::given_finishing),
    demand: Demand {
        rounds: "1",
        issue: "50",
        words: "2 * 64",
        ..Demand::UNSTATED
    },
    ..NORM
};

/// The kernels of this file.
pub static KERNELS: &[&Kernel] = &[
    &NORM,
    &NORM_RMS,
    &NORM_GIVEN,
    &runs::NORM_RUNS,
    &runs::NORM_JOINED,
    &batch::NORM_BATCH_GRAD,
    &batch::NORM_BATCH_GRAD_RUNS,
    &batch::NORM_BATCH_GRAD_JOINED,
    &grads::NORM_GRAD,
    &grads::NORM_GIVEN_GRAD,
    &grads::NORM_RMS_GRAD,
    &grads::NORM_PARAMETERS,
    &grads::NORM_RMS_PARAMETERS,
];

//! A dense layer's way back in one launch (Nielsen, BP2, BP3 and BP4, and the update). For
//! y = x Wᵀ + b over a mini-batch, with upstream gradient g:
//!
//! ∂x = e(g W, x, …),  W ← f(gᵀ x, W, …),  b ← h(Σₙ gₙ, b, …)
//!
//! f and h are what an update rule makes of a gradient and its parameter, e is what follows on the way
//! back: expressions.
//!
//! W is read once for both: a work item that owns a column of W for all rows has what ∂x
//! needs of that column before it changes it, so nobody waits for anybody.
//!
//! Most often e is ⊙ σ′, the slope of the activation that made x, from x itself. Dropout may stand
//! between the two: x = s m ⊙ σ(z), with s = 1/(1 − p) where kept values are scaled and 1
//! otherwise. The mask need not be drawn again: it has left zeros in x, and where an output
//! is 0 the slopes of ReLU and of the sigmoid are 0 ([`InputGradient::sloped`]).
//!
//! For small mini-batches; with many examples ∂x and ∂W are better tiled apart.

use super::activation::Activation;
use super::pointwise::{Ended, Ending, MOST_BINDINGS, Pointwise, finished};
use super::{Case, Fill, Lowered, Lowering, Op, Operand, exactly, floats};
use crate::error::{Error, Result};
use crate::expr::Expr;
use crate::kernel::{Args, Bind, Demand, Kernel, LANES, Port, Target};
use crate::shape::Type;
use crate::tensor::Real;

pub(super) mod optimized;
mod quads;
mod single;

/// The most examples in a mini-batch: each work item keeps one sum for each.
pub const MOST_EXAMPLES: usize = 16;
/// The most columns of W: workgroups stand in one row.
pub const MOST_COLUMNS: usize = COLUMNS * 65_535;
/// Columns of W that one workgroup owns; `COLUMNS` in the shader.
const COLUMNS: usize = 32;
/// The same of the kernels for processors; `WIDE` in the shader.
const WIDE: usize = 64;

/// Inputs x `[N, in]`, g `[N, out]`, W `[out, in]` (updated), b `[out]` (updated), and what the two
/// updates ask for. Output ∂x `[N, in]`, if it is wanted.
#[derive(Clone, Debug, PartialEq)]
pub struct DenseGrad {
    /// What becomes of ∂x.
    pub input_gradient: InputGradient,
    /// The updates of W and of b: of each, an expression of the gradient that is written over its
    /// parameter, and which of the op's inputs its inputs are.
    pub updates: [(Ending, Vec<usize>); 2],
}

/// What becomes of ∂x = g W.
#[derive(Clone, Debug, PartialEq)]
pub enum InputGradient {
    /// Nobody wants it.
    Unwanted,
    /// It is the output.
    Plain,
    /// An expression of it is, with which of the op's inputs its inputs are. Input 0 of these, x, costs
    /// no binding.
    Ended(Ending, Vec<usize>),
}

impl InputGradient {
    /// ∂x behind the activation that made x, and behind dropout that has multiplied x by `scale`
    /// where it has kept it (1 for none).
    pub fn sloped(activation: Activation, scale: f64) -> Self {
        let (mut g, mut y) = (Expr::input(0), Expr::input(1));
        if scale != 1.0 {
            (g, y) = (g * scale, y / scale);
        }
        match (activation, scale == 1.0) {
            (Activation::Linear, true) => Self::Plain,
            (Activation::Linear, false) => Self::ended(g, vec![]),
            _ => Self::ended(activation.sloped_of(&g, &y), vec![0]),
        }
    }

    fn ended(expression: Expr, inputs: Vec<usize>) -> Self {
        Self::Ended(Ending::new(Pointwise::new(&[expression])), inputs)
    }

    fn is_wanted(&self) -> bool {
        *self != Self::Unwanted
    }

    /// Which of the op's inputs its own are.
    fn inputs(&self) -> &[usize] {
        match self {
            Self::Ended(_, inputs) => inputs,
            _ => &[],
        }
    }
}

/// Where the parameters stand among the inputs.
const PARAMETERS: [usize; 2] = [2, 3];

impl DenseGrad {
    /// How many bindings the launch has.
    pub fn bindings(&self) -> usize {
        let inputs = self.updates.iter().flat_map(|(_, inputs)| inputs);
        let inputs = inputs.chain(self.input_gradient.inputs()).max();
        let inputs = inputs.map_or(4, |&last| 4.max(last + 1));
        inputs + usize::from(self.input_gradient.is_wanted())
    }
}

impl Op for DenseGrad {
    fn name(&self) -> &'static str {
        "dense_grad"
    }

    fn infer(&self, inputs: &[Type]) -> Result<Vec<Type>> {
        let [x, g, w, b, ..] = inputs else {
            let found = format!("{} inputs", inputs.len());
            let wanted = "x, g, W, b and those of the updates";
            return Err(Error::shape("dense_grad", found, wanted));
        };
        floats("dense_grad", "x", x)?;
        let [n, n_in] = x.shape.axes("dense_grad", "x [N, in]")?;
        let [_, out] = g.shape.axes("dense_grad", "g [N, out]")?;
        let float = |extents: &[usize]| Type::f32("dense_grad", extents);
        exactly("dense_grad", "g [N, out]", g, &float(&[n, out])?)?;
        exactly("dense_grad", "b [out]", b, &float(&[out])?)?;
        exactly("dense_grad", "W [out, in]", w, &float(&[out, n_in])?)?;
        if n > MOST_EXAMPLES || n_in > MOST_COLUMNS {
            let found = format!("{n} examples of {n_in}");
            let wanted = format!("at most {MOST_EXAMPLES} of {MOST_COLUMNS}");
            return Err(Error::shape("dense_grad", found, wanted));
        }
        for ((update, own), parameter) in self.updates.iter().zip(PARAMETERS) {
            let rest = own.iter().map(|&k| inputs.get(k).cloned());
            let rest = rest.collect::<Option<Vec<Type>>>().unwrap_or_default();
            update.infer(&inputs[parameter], &rest)?;
            let place = update.updates().and_then(|k| own.get(k));
            if !update.is_update() || place != Some(&parameter) {
                let found = format!("an expression that is not written over input {parameter}");
                let wanted = "the update of W, then that of b";
                return Err(Error::shape("dense_grad", found, wanted));
            }
        }
        if self.bindings() > MOST_BINDINGS {
            let found = format!("{} bindings", self.bindings());
            let wanted = format!("at most {MOST_BINDINGS}");
            return Err(Error::shape("dense_grad", found, wanted));
        }
        match &self.input_gradient {
            InputGradient::Unwanted => Ok(vec![]),
            InputGradient::Plain => Ok(vec![x.clone()]),
            InputGradient::Ended(ending, own) => {
                let rest = own.iter().map(|&k| inputs.get(k).cloned());
                let rest = rest.collect::<Option<Vec<Type>>>().unwrap_or_default();
                ending.infer(x, &rest)
            }
        }
    }

    fn lower(&self, inputs: &[Type], _: &[Type]) -> Result<Lowering> {
        let [n, n_in] = inputs[0].shape.axes("dense_grad", "x [N, in]")?;
        let [_, out] = inputs[1].shape.axes("dense_grad", "g [N, out]")?;
        let constants = vec![("N", n as f64), ("IN", n_in as f64), ("OUT", out as f64)];
        let mut operands: Vec<_> = (0..4).map(Operand::In).collect();
        let wanted = self.input_gradient.is_wanted();
        let kernel = if wanted {
            operands.push(Operand::Out(0));
            &DENSE_GRAD
        } else {
            &DENSE_UPDATE
        };
        let products = if wanted { 4 } else { 2 };
        let mut lowered = Lowered {
            kernel,
            constants,
            operands,
            grid: [n_in.div_ceil(COLUMNS) as u32, 1],
            flops: (products * n * n_in * out) as u64,
            alternatives: vec![],
        };
        let (wide, lanes) = match wanted {
            true => (&DENSE_GRAD_WIDE, &DENSE_GRAD_LANES),
            false => (&DENSE_UPDATE_WIDE, &DENSE_UPDATE_LANES),
        };
        let groups = n_in.div_ceil(WIDE) as u32;
        let mut variants = Vec::from_iter(quads::variant(&lowered, n_in, wanted));
        if n_in.is_multiple_of(LANES) {
            variants.push(lowered.otherwise(Target::Lanes, lanes, [groups, 1]));
        }
        // The last workgroup has the biases.
        variants.push(lowered.otherwise(Target::Processor, wide, [groups + 1, 1]));
        variants.extend(single::variants(&lowered, wanted));
        lowered.alternatives = variants;
        let extents: [&[usize]; 3] = [&[out, n_in], &[out], &[n, n_in]];
        let ended = match &self.input_gradient {
            InputGradient::Ended(ending, own) => Some((ending.clone(), own.clone())),
            _ => None,
        };
        let ends = Ended::each(self.updates.iter().chain(&ended).zip(extents));
        Ok(Lowering::Launch(finished(lowered, &ends, inputs)?))
    }
}

/// Where the gradients of W and b meet what updates them, and ∂x what it passes on its way back.
const PORTS: [Port; 3] = [
    Port {
        name: "finish_weight",
        binding: PARAMETERS[0],
        before: Some(PARAMETERS[0]),
        partial: false,
        elements: "8 * (OUT + 8)",
    },
    Port {
        name: "finish_bias",
        binding: PARAMETERS[1],
        before: Some(PARAMETERS[1]),
        partial: false,
        elements: "OUT / 8 + 8",
    },
    Port {
        name: "finish_input",
        binding: 4,
        before: Some(0),
        partial: false,
        elements: "8 * N",
    },
];

/// ∂x and the gradients of W and b, in their places until something updates them.
pub static DENSE_GRAD: Kernel = Kernel {
    name: "dense_grad",
    demand: Demand {
        rounds: "OUT / 64 * 9 + 4",
        barriers: "OUT / 64 * 2 + 2 * N",
        issue: "OUT / 64 * 8 * (N * 3 + 15) + 300",
        words: "OUT * (N + 64) + 64 * N",
        ..Demand::UNSTATED
    },
    turns: "(OUT / 64 + 1) * (10 * N + 24) + 16 * N + 16",
    stem: "dense_grad",
    source: concat!(
        include_str!("../../shaders/dense_grad.wgsl"),
        crate::port!("finish_weight", before),
        crate::port!("finish_bias", before),
        crate::port!("finish_input", before),
    ),
    bindings: &[
        Bind::read("x").of("N * IN"),
        Bind::read("g").of("N * OUT"),
        Bind::update("w").of("IN * OUT"),
        Bind::update("b").of("OUT"),
        Bind::write("dx").of("N * IN"),
    ],
    constants: &["N", "IN", "OUT"],
    reference: crate::reference!(dense_grad),
    optimized: None,
    trusted: true,
    ports: &PORTS,
    finishing: Some(optimized::dense_grad),
};

/// The gradients of W and b alone.
pub static DENSE_UPDATE: Kernel = Kernel {
    name: "dense_update",
    demand: Demand {
        rounds: "OUT / 64 * 9 + 2",
        barriers: "OUT / 64 * 2",
        issue: "OUT / 64 * 8 * (N * 2 + 15) + 150",
        words: "OUT * (N + 64) + 32 * N",
        ..Demand::UNSTATED
    },
    turns: "(OUT / 64 + 1) * (10 * N + 24) + 16 * N + 16",
    bindings: &[
        Bind::read("x").of("N * IN"),
        Bind::read("g").of("N * OUT"),
        Bind::update("w").of("IN * OUT"),
        Bind::update("b").of("OUT"),
    ],
    reference: crate::reference!(dense_update),
    ports: PORTS.first_chunk::<2>().unwrap().as_slice(),
    finishing: Some(optimized::dense_update),
    ..DENSE_GRAD
};

/// [`DENSE_GRAD`] with the columns of a thread in registers.
pub static DENSE_GRAD_WIDE: Kernel = Kernel {
    name: "dense_grad_wide",
    demand: Demand {
        rounds: "OUT * 2 + 4",
        issue: "OUT * (N * 20 + 60)",
        words: "OUT * (N + 128)",
        ..Demand::UNSTATED
    },
    turns: "(OUT + 1) * (N + 20) + 20 * N + 64",
    ..DENSE_GRAD
};

/// [`DENSE_UPDATE`] with the columns of a thread in registers.
pub static DENSE_UPDATE_WIDE: Kernel = Kernel {
    name: "dense_update_wide",
    demand: Demand::UNSTATED,
    turns: "(OUT + 1) * (N + 20) + 20 * N + 64",
    ..DENSE_UPDATE
};

/// A module of its own: not every adapter compiles it.
const LANES_SOURCE: &str = concat!(
    include_str!("../../shaders/dense_grad.wgsl"),
    include_str!("../../shaders/shared/lanes.wgsl"),
    include_str!("../../shaders/dense_grad/lanes.wgsl"),
    crate::port!("finish_weight", before),
    crate::port!("finish_bias", before),
    crate::port!("finish_input", before),
);

/// [`DENSE_GRAD_WIDE`] by lanes of a subgroup.
pub static DENSE_GRAD_LANES: Kernel = Kernel {
    name: "dense_grad_lanes",
    demand: Demand::UNSTATED,
    turns: "(OUT / 8 + 1) * (10 * N + 32) + 8 * N + 128",
    source: LANES_SOURCE,
    ..DENSE_GRAD
};

/// [`DENSE_UPDATE_WIDE`] by lanes of a subgroup.
pub static DENSE_UPDATE_LANES: Kernel = Kernel {
    name: "dense_update_lanes",
    demand: Demand::UNSTATED,
    turns: "(OUT / 8 + 1) * (10 * N + 32) + 8 * N + 128",
    source: LANES_SOURCE,
    ..DENSE_UPDATE
};

/// The kernels of this file.
pub static KERNELS: &[&Kernel] = &[
    &DENSE_GRAD,
    &DENSE_UPDATE,
    &DENSE_GRAD_WIDE,
    &DENSE_UPDATE_WIDE,
    &DENSE_GRAD_LANES,
    &DENSE_UPDATE_LANES,
    &quads::DENSE_GRAD_QUADS,
    &quads::DENSE_UPDATE_QUADS,
    &quads::DENSE_GRAD_QUADS_ANY,
    &quads::DENSE_UPDATE_QUADS_ANY,
    &single::DENSE_GRAD_SINGLE,
    &single::DENSE_UPDATE_SINGLE,
];

fn dense_grad<T: Real>(a: &mut Args<'_, T>) {
    let (n_in, out) = (a.size("IN"), a.size("OUT"));
    let (g, dx) = (a.f(1), a.f_mut(4)); // [N, out], [N, in]
    let w = a.f_mut(2); // [out, in]
    for (i, dx) in dx.iter_mut().enumerate() {
        let (n, j) = (i / n_in, i % n_in);
        let mut sum = T::ZERO;
        for o in 0..out {
            sum += g[n * out + o] * w[o * n_in + j];
        }
        *dx = sum;
    }
    let b = a.f_mut(3);
    gradients(a, w, b);
}

fn dense_update<T: Real>(a: &mut Args<'_, T>) {
    let (w, b) = (a.f_mut(2), a.f_mut(3));
    gradients(a, w, b);
}

/// gᵀ x and Σ g.
fn gradients<T: Real>(a: &Args<'_, T>, dw: &mut [T], db: &mut [T]) {
    let (n, n_in, out) = (a.size("N"), a.size("IN"), a.size("OUT"));
    let (x, g) = (a.f(0), a.f(1)); // [N, in], [N, out]
    for (o, db) in db.iter_mut().enumerate() {
        for j in 0..n_in {
            let mut sum = T::ZERO;
            for n in 0..n {
                sum += g[n * out + o] * x[n * n_in + j];
            }
            dw[o * n_in + j] = sum;
        }
        *db = (0..n).map(|n| g[n * out + o]).sum();
    }
}

/// The updates of a case: W's with decay and a rate from a table by the step, b's without decay; or
/// both by what is remembered of their gradients.
fn updates(remembering: bool) -> [(Ending, Vec<usize>); 2] {
    let (gradient, parameter) = (Expr::input(0), Expr::input(1));
    if remembering {
        let mean = Expr::input(2) * 0.75 + &gradient * 0.25;
        let square = Expr::input(3) * 0.5 + gradient.square() * 0.5;
        let rate = 0.1 / (Expr::step() + 1.0);
        let value = parameter - rate * &mean / (square.sqrt() + 0.5);
        let all = Pointwise::new(&[value, mean, square]);
        let all = (0..3).fold(all, |all, k| all.updating(k, k + 1));
        let update = Ending::new(all.with_planes(2, 2));
        return [(update.clone(), vec![2, 4, 6]), (update, vec![3, 5, 6])];
    }
    let rate = || Expr::at(2, Expr::step() / 3.0 + 1.0);
    let slope = &gradient + &parameter * Expr::at(2, 0.0) + parameter.sign() * 0.125;
    let update = |slope: Expr| {
        let value = &parameter - rate() * slope;
        Ending::new(Pointwise::new(&[value]).updating(0, 1))
    };
    [
        (update(slope), vec![2, 4, 5]),
        (update(gradient), vec![3, 4, 5]),
    ]
}

/// One of each, primes, around the workgroup's columns and rows, the most examples; every
/// activation, dropped values, updates with and without states.
pub fn cases() -> Vec<Case> {
    use Activation::{Linear, Relu, Sigmoid, Tanh};
    let uniform = Fill::Uniform(-1.0, 1.0);
    let mut cases = Vec::new();
    for (activation, scale, [n, n_in, out]) in [
        (Linear, 1.0, [1, 1, 1]),
        (Sigmoid, 1.0, [3, 5, 7]),
        (Tanh, 1.0, [2, 31, 65]),
        (Relu, 1.0, [10, 33, 30]),
        (Relu, 2.0, [16, 64, 129]),
        (Tanh, 1.0, [3, 8, 9]),
        (Sigmoid, 1.25, [10, 40, 8]),
        (Relu, 1.0, [7, 136, 31]),
        (Sigmoid, 1.25, [7, 67, 10]),
        (Relu, 1.0, [5, 130, 257]),
        (Sigmoid, 1.0, [13, 516, 150]),
        (Tanh, 1.0, [4, 515, 131]),
        (Relu, 1.25, [9, 12, 523]),
        (Sigmoid, 1.0, [2, 1029, 3]),
    ] {
        for input_gradient in [true, false] {
            let remembering = input_gradient == cases.len().is_multiple_of(4);
            let op = DenseGrad {
                input_gradient: match input_gradient {
                    true => InputGradient::sloped(activation, scale),
                    false => InputGradient::Unwanted,
                },
                updates: updates(remembering),
            };
            let outputs = if activation == Tanh {
                uniform
            } else {
                Fill::Sparse
            };
            let case = Case::new(op, out.max(n))
                .fixed(&[n, n_in], outputs)
                .fixed(&[n, out], uniform)
                .fixed(&[out, n_in], uniform)
                .fixed(&[out], uniform);
            let positive = Fill::Uniform(0.0, 1.0);
            let case = match remembering {
                true => case
                    .fixed(&[2, out, n_in], positive)
                    .fixed(&[2, out], positive),
                false => case.fixed(&[4], positive),
            };
            cases.push(case.u32(&[2], Fill::Pair(1, 7)));
        }
    }
    cases
}

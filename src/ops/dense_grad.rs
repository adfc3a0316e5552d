//! A dense layer's way back in one launch (Nielsen, BP2, BP3 and BP4, and the update). For
//! y = x Wᵀ + b over a mini-batch, with upstream gradient g:
//!
//! ∂x = (g W) ⊙ σ′,  W ← W − η (gᵀ x + decay),  b ← b − η Σₙ gₙ
//!
//! W is read once for both: a work item that owns a column of W for all rows has what ∂x
//! needs of that column before it changes it, so nobody waits for anybody.
//!
//! σ′ is the slope of the activation that made x, from x itself. Dropout may stand between
//! the two: x = s m ⊙ σ(z), with s = 1/(1 − p) where kept values are scaled and 1
//! otherwise. The mask need not be drawn again: it has left zeros in x, and where an output
//! is 0 the slopes of ReLU and of the sigmoid are 0.
//!
//! For small mini-batches; with many examples ∂x and ∂W are better tiled apart. There is
//! no momentum: it would need more bindings than WebGPU promises.

use super::activation::Activation;
use super::sgd::{self, Rates, Sgd};
use super::{Case, Fill, Lowered, Lowering, Op, Operand, exactly, floats};
use crate::error::{Error, Result};
use crate::kernel::{Args, Bind, Kernel, LANES, Suits};
use crate::shape::Type;
use crate::tensor::Real;

pub(super) mod fast;

/// The most examples in a mini-batch: each work item keeps one sum for each.
pub const MOST_EXAMPLES: usize = 16;
/// The most columns of W: workgroups stand in one row.
pub const MOST_COLUMNS: usize = COLUMNS * 65_535;
/// Columns of W that one workgroup owns; `COLUMNS` in the shader.
const COLUMNS: usize = 32;
/// The same of the kernels for processors; `WIDE` in the shader.
const WIDE: usize = 64;

/// Inputs x `[N, in]`, g `[N, out]`, W `[out, in]` (updated), b `[out]` (updated), hyper and
/// step (see [`Sgd`]). Output ∂x `[N, in]`, if it is wanted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DenseGrad {
    /// The activation that made x; linear for none.
    pub activation: Activation,
    /// What dropout has multiplied x by, 1 for none.
    pub scale: f64,
    /// Whether ∂x is wanted.
    pub input_gradient: bool,
    /// The update of W, without momentum; b is updated alike, without decay.
    pub sgd: Sgd,
}

impl Op for DenseGrad {
    fn name(&self) -> &'static str {
        "dense_grad"
    }

    fn infer(&self, inputs: &[Type]) -> Result<Vec<Type>> {
        let [x, g, w, b, rest @ ..] = inputs else {
            let found = format!("{} inputs", inputs.len());
            return Err(Error::shape("dense_grad", found, "x, g, W, b, hyper, step"));
        };
        floats("dense_grad", "x", x)?;
        let [n, n_in] = x.shape.axes("dense_grad", "x [N, in]")?;
        let [_, out] = g.shape.axes("dense_grad", "g [N, out]")?;
        let float = |extents: &[usize]| Type::f32("dense_grad", extents);
        exactly("dense_grad", "g [N, out]", g, &float(&[n, out])?)?;
        exactly("dense_grad", "b [out]", b, &float(&[out])?)?;
        if n > MOST_EXAMPLES || n_in > MOST_COLUMNS || self.sgd.momentum {
            let momentum = self.sgd.momentum;
            let found = format!("{n} examples of {n_in}, momentum {momentum}");
            let wanted = format!("at most {MOST_EXAMPLES} of {MOST_COLUMNS}, no momentum");
            return Err(Error::shape("dense_grad", found, wanted));
        }
        let rest = [std::slice::from_ref(w), rest].concat();
        self.sgd.check(&float(&[out, n_in])?, &rest)?;
        Ok(if self.input_gradient {
            vec![x.clone()]
        } else {
            vec![]
        })
    }

    fn lower(&self, inputs: &[Type], _: &[Type]) -> Result<Lowering> {
        let [n, n_in] = inputs[0].shape.axes("dense_grad", "x [N, in]")?;
        let [_, out] = inputs[1].shape.axes("dense_grad", "g [N, out]")?;
        let mut constants = vec![("N", n as f64), ("IN", n_in as f64), ("OUT", out as f64)];
        let mut operands: Vec<_> = (0..inputs.len()).map(Operand::In).collect();
        let kernel = if self.input_gradient {
            constants.push(("ACTIVATION", self.activation.constant()));
            constants.push(("SCALE", self.scale));
            operands.push(Operand::Out(0));
            &DENSE_GRAD
        } else {
            &DENSE_UPDATE
        };
        constants.extend(self.sgd.constants());
        let products = if self.input_gradient { 4 } else { 2 };
        let mut lowered = Lowered {
            kernel,
            constants,
            operands,
            grid: [n_in.div_ceil(COLUMNS) as u32, 1],
            flops: (products * n * n_in * out) as u64,
            alternatives: vec![],
        };
        let (wide, lanes) = match self.input_gradient {
            true => (&DENSE_GRAD_WIDE, &DENSE_GRAD_LANES),
            false => (&DENSE_UPDATE_WIDE, &DENSE_UPDATE_LANES),
        };
        let groups = n_in.div_ceil(WIDE) as u32;
        let mut ways = Vec::new();
        if n_in.is_multiple_of(LANES) {
            ways.push(lowered.otherwise(Suits::Lanes, lanes, [groups, 1]));
        }
        // The last workgroup has the biases.
        ways.push(lowered.otherwise(Suits::Processor, wide, [groups + 1, 1]));
        lowered.alternatives = ways;
        Ok(Lowering::Launch(lowered))
    }
}

/// ∂x and the updates.
pub static DENSE_GRAD: Kernel = Kernel {
    name: "dense_grad",
    turns: "(OUT / 64 + 1) * (10 * N + 24) + 16 * N + 16",
    stem: "dense_grad",
    source: concat!(
        include_str!("../../shaders/shared/nan.wgsl"),
        include_str!("../../shaders/shared/activation.wgsl"),
        include_str!("../../shaders/shared/sgd.wgsl"),
        include_str!("../../shaders/dense_grad.wgsl"),
    ),
    bindings: &[
        Bind::read("x").of("N * IN"),
        Bind::read("g").of("N * OUT"),
        Bind::update("w").of("IN * OUT"),
        Bind::update("b").of("OUT"),
        Bind::read("hyper").of("4 + SCHEDULE"),
        Bind::read("step").u32().of("2"),
        Bind::write("dx").of("N * IN"),
    ],
    constants: &[
        "N",
        "IN",
        "OUT",
        "ACTIVATION",
        "SCALE",
        "DECAY",
        "EPOCH_STEPS",
        "SCHEDULE",
    ],
    reference: crate::reference!(dense_grad),
    fast: Some(fast::dense_grad),
    trusted: true,
};

/// The updates alone.
pub static DENSE_UPDATE: Kernel = Kernel {
    name: "dense_update",
    turns: "(OUT / 64 + 1) * (10 * N + 24) + 16 * N + 16",
    bindings: &[
        Bind::read("x").of("N * IN"),
        Bind::read("g").of("N * OUT"),
        Bind::update("w").of("IN * OUT"),
        Bind::update("b").of("OUT"),
        Bind::read("hyper").of("4 + SCHEDULE"),
        Bind::read("step").u32().of("2"),
    ],
    constants: &["N", "IN", "OUT", "DECAY", "EPOCH_STEPS", "SCHEDULE"],
    reference: crate::reference!(dense_update),
    fast: Some(fast::dense_update),
    ..DENSE_GRAD
};

/// [`DENSE_GRAD`] with the columns of a thread in registers.
pub static DENSE_GRAD_WIDE: Kernel = Kernel {
    name: "dense_grad_wide",
    turns: "(OUT + 1) * (N + 20) + 20 * N + 64",
    ..DENSE_GRAD
};

/// [`DENSE_UPDATE`] with the columns of a thread in registers.
pub static DENSE_UPDATE_WIDE: Kernel = Kernel {
    name: "dense_update_wide",
    turns: "(OUT + 1) * (N + 20) + 20 * N + 64",
    ..DENSE_UPDATE
};

/// A module of its own: not every adapter compiles it.
const LANES_SOURCE: &str = concat!(
    include_str!("../../shaders/shared/nan.wgsl"),
    include_str!("../../shaders/shared/activation.wgsl"),
    include_str!("../../shaders/shared/sgd.wgsl"),
    include_str!("../../shaders/dense_grad.wgsl"),
    include_str!("../../shaders/shared/lanes.wgsl"),
    include_str!("../../shaders/dense_grad/lanes.wgsl"),
);

/// [`DENSE_GRAD_WIDE`] by lanes of a subgroup.
pub static DENSE_GRAD_LANES: Kernel = Kernel {
    name: "dense_grad_lanes",
    turns: "(OUT / 8 + 1) * (10 * N + 32) + 8 * N + 128",
    source: LANES_SOURCE,
    ..DENSE_GRAD
};

/// [`DENSE_UPDATE_WIDE`] by lanes of a subgroup.
pub static DENSE_UPDATE_LANES: Kernel = Kernel {
    name: "dense_update_lanes",
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
];

fn dense_grad<T: Real>(a: &mut Args<'_, T>) {
    let (n_in, out) = (a.size("IN"), a.size("OUT"));
    let act = Activation::of_constant(a.size("ACTIVATION"));
    let scale = T::of(a.number("SCALE"));
    let (x, g, dx) = (a.f(0), a.f(1), a.f_mut(6)); // [N, in], [N, out], [N, in]
    let w = a.f_mut(2); // [out, in]
    for (i, dx) in dx.iter_mut().enumerate() {
        let (n, j) = (i / n_in, i % n_in);
        let mut sum = T::ZERO;
        for o in 0..out {
            sum += g[n * out + o] * w[o * n_in + j];
        }
        *dx = act.sloped(sum * scale, x[i] / scale);
    }
    let b = a.f_mut(3);
    update(a, w, b);
}

fn dense_update<T: Real>(a: &mut Args<'_, T>) {
    let (w, b) = (a.f_mut(2), a.f_mut(3));
    update(a, w, b);
}

/// W ← W − η (gᵀ x + decay), b ← b − η Σ g.
fn update<T: Real>(a: &Args<'_, T>, w: &mut [T], b: &mut [T]) {
    let (n, n_in, out) = (a.size("N"), a.size("IN"), a.size("OUT"));
    let rates = Rates::of(a, a.f(4), a.u(5));
    let (x, g) = (a.f(0), a.f(1)); // [N, in], [N, out]
    for (o, b) in b.iter_mut().enumerate() {
        for j in 0..n_in {
            let mut sum = T::ZERO;
            for n in 0..n {
                sum += g[n * out + o] * x[n * n_in + j];
            }
            rates.update(&mut w[o * n_in + j..][..1], None, &[sum]);
        }
        let mut sum = T::ZERO;
        for n in 0..n {
            sum += g[n * out + o];
        }
        *b += rates.without_decay().velocity(*b, T::ZERO, sum);
    }
}

/// One of each, primes, around the workgroup's columns and rows, the most examples; every
/// activation, dropped values, decay on and off.
pub fn cases() -> Vec<Case> {
    use Activation::{Linear, Relu, Sigmoid, Tanh};
    let uniform = Fill::Uniform(-1.0, 1.0);
    let mut cases = Vec::new();
    for (activation, scale, decay, [n, n_in, out]) in [
        (Linear, 1.0, false, [1, 1, 1]),
        (Sigmoid, 1.0, true, [3, 5, 7]),
        (Tanh, 1.0, true, [2, 31, 65]),
        (Relu, 1.0, true, [10, 33, 30]),
        (Relu, 2.0, true, [16, 64, 129]),
        (Tanh, 1.0, false, [3, 8, 9]),
        (Sigmoid, 1.25, true, [10, 40, 8]),
        (Relu, 1.0, true, [7, 136, 31]),
        (Sigmoid, 1.25, false, [7, 67, 10]),
        (Relu, 1.0, true, [5, 130, 257]),
    ] {
        for input_gradient in [true, false] {
            let op = DenseGrad {
                activation,
                scale,
                input_gradient,
                sgd: Sgd {
                    decay,
                    momentum: false,
                    epoch_steps: 3,
                    schedule: 2,
                },
            };
            let outputs = if activation == Tanh {
                uniform
            } else {
                Fill::Sparse
            };
            let case = Case::new(op, out.max(n))
                .fixed(&[n, n_in], outputs)
                .fixed(&[n, out], uniform);
            let mut case = sgd::case_inputs(case, op.sgd, &[out, n_in]);
            case.inputs
                .insert(3, Case::new(op, 1).fixed(&[out], uniform).inputs.remove(0));
            cases.push(case);
        }
    }
    cases
}

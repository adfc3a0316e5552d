//! Matrix product C = op(A) op(B), op(X) = X or Xᵀ; `[M, K] · [K, N] = [M, N]`.
//!
//! A dense layer is a W ᵀ with W `[out, in]`; its gradients are two more products
//! (Nielsen, BP1, BP2 and BP4 over a mini-batch as one matrix):
//!
//! | | dA | dB |
//! |---|---|---|
//! | C = A B | G Bᵀ | Aᵀ G |
//! | C = A Bᵀ | G B | Gᵀ A |
//! | C = Aᵀ B | B Gᵀ | A G |
//! | C = Aᵀ Bᵀ | Bᵀ Gᵀ | Gᵀ Aᵀ |
//!
//! Saved for the gradient: A and B. The kernel can end in a bias and an activation, in
//! the backward Hadamard product, or in the update of a parameter whose gradient C is.

use std::sync::Arc;

use super::activation::Activation;
use super::dropout::{self, Dropout};
use super::sgd::{self, Rates, Sgd};
use super::small_batch::FEW;
use super::{Alternative, Backward, Case, Epilogue, Fill, Lowered, Lowering, Op, Operand, Value};
use super::{exactly, floats};
use crate::error::{Error, Result};
use crate::kernel::{Args, Bind, Kernel, LANES, Suits};
use crate::shape::Type;
use crate::tensor::Real;

mod blocks;
mod fast;
mod fragments;

/// What is done with a result before it is stored.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum End {
    /// Nothing.
    Store,
    /// σ(C + bias), bias `[N]` as input 2.
    Bias(Activation),
    /// σ(C + bias) ⊙ m: bias `[N]` as input 2, then keys and step as [`Dropout`] takes
    /// them, whose mask m is.
    BiasDropout(Activation, Dropout),
    /// C ⊙ σ′(y), y `[M, N]` as input 2.
    Slope(Activation),
    /// C is the gradient of input 2; see [`Sgd`] for the inputs. No output.
    Sgd(Sgd),
}

/// C = op(A) op(B): inputs A, B and what the end asks for; output C `[M, N]`.
#[derive(Clone, Copy, Debug)]
pub struct Matmul {
    /// A is stored `[K, M]`.
    pub trans_a: bool,
    /// B is stored `[N, K]`.
    pub trans_b: bool,
    /// What is done with the result.
    pub end: End,
}

impl Matmul {
    /// A bare product.
    pub fn new(trans_a: bool, trans_b: bool) -> Self {
        Self {
            trans_a,
            trans_b,
            end: End::Store,
        }
    }

    /// M, N and K of two operands.
    fn sizes(&self, a: &Type, b: &Type) -> Result<[usize; 3]> {
        let [a0, a1] = a.shape.axes("matmul", "A as [M, K] (transposed: [K, M])")?;
        let [b0, b1] = b.shape.axes("matmul", "B as [K, N] (transposed: [N, K])")?;
        let (m, ka) = if self.trans_a { (a1, a0) } else { (a0, a1) };
        let (kb, n) = if self.trans_b { (b1, b0) } else { (b0, b1) };
        if ka != kb {
            return Err(Error::shape(
                "matmul",
                format!("A {} with K = {ka}, B {} with K = {kb}", a.shape, b.shape),
                "the same K in both operands",
            ));
        }
        Ok([m, n, ka])
    }

    /// A case of it over random A and B.
    fn case(self, [m, n, k]: [usize; 3]) -> Case {
        let a = if self.trans_a { [k, m] } else { [m, k] };
        let b = if self.trans_b { [n, k] } else { [k, n] };
        let uniform = Fill::Uniform(-1.0, 1.0);
        Case::new(self, k).float(&a, uniform).float(&b, uniform)
    }

    /// Every way, the best for a GPU first.
    fn ways(&self, [m, n, k]: [usize; 3]) -> Vec<Alternative> {
        let mut constants = vec![
            ("M", m as f64),
            ("N", n as f64),
            ("K", k as f64),
            ("TRANS_A", f64::from(u8::from(self.trans_a))),
            ("TRANS_B", f64::from(u8::from(self.trans_b))),
        ];
        match &self.end {
            End::Store => {}
            End::Bias(act) | End::Slope(act) => constants.push(("ACTIVATION", act.constant())),
            End::BiasDropout(act, dropout) => {
                constants.push(("ACTIVATION", act.constant()));
                constants.extend(dropout.constants());
            }
            End::Sgd(sgd) => constants.extend(sgd.constants()),
        }
        let mut ways = blocks::ways(&self.end, [m, n, k], &constants);
        ways.extend(fragments::ways(&self.end, [m, n, k], &constants));
        let (few, wide, lanes) = match self.end {
            End::Bias(_) => (
                &MATMUL_FEW_BIAS,
                &MATMUL_WIDE_BIAS,
                &lanes::MATMUL_LANES_BIAS,
            ),
            End::BiasDropout(..) => (
                &MATMUL_FEW_BIAS_DROPOUT,
                &MATMUL_WIDE_BIAS_DROPOUT,
                &lanes::MATMUL_LANES_BIAS_DROPOUT,
            ),
            _ => return ways,
        };
        let groups = n.div_ceil(TEAMS).max(m.div_ceil(FEW));
        if groups > 65_535 || self.trans_a || !self.trans_b {
            return ways;
        }
        let way = |suits, kernel, columns| Alternative {
            suits,
            kernel,
            constants: constants.clone(),
            grid: [n.div_ceil(columns) as u32, m.div_ceil(FEW) as u32],
        };
        if k.is_multiple_of(LANES) {
            ways.push(way(Suits::Lanes, lanes, LANE_ROWS));
        }
        if m <= FEW {
            ways.splice(
                0..0,
                [
                    way(Suits::Gpu, few, TEAMS),
                    way(Suits::Processor, wide, TEAMS),
                ],
            );
        }
        ways
    }
}

impl Op for Matmul {
    fn name(&self) -> &'static str {
        "matmul"
    }

    fn infer(&self, inputs: &[Type]) -> Result<Vec<Type>> {
        let [a, b, rest @ ..] = inputs else {
            return Err(Error::shape(
                "matmul",
                format!("{} inputs", inputs.len()),
                "A and B",
            ));
        };
        floats("matmul", "A", a)?;
        floats("matmul", "B", b)?;
        let [m, n, _] = self.sizes(a, b)?;
        let c = Type::f32("matmul", &[m, n])?;
        let third = |name, ty: &Type| match rest {
            [one] => exactly("matmul", name, one, ty),
            _ => Err(Error::shape(
                "matmul",
                format!("{} inputs", inputs.len()),
                format!("3: A, B and {name}"),
            )),
        };
        match &self.end {
            End::Store if rest.is_empty() => {}
            End::Store => {
                return Err(Error::shape(
                    "matmul",
                    format!("{} inputs", inputs.len()),
                    "2: A and B",
                ));
            }
            End::Bias(_) => third("bias [N]", &Type::f32("matmul", &[n])?)?,
            End::BiasDropout(_, dropout) => {
                let [bias, keys, step] = rest else {
                    let found = format!("{} inputs", inputs.len());
                    return Err(Error::shape(
                        "matmul",
                        found,
                        "5: A, B, bias, keys and step",
                    ));
                };
                exactly("matmul", "bias [N]", bias, &Type::f32("matmul", &[n])?)?;
                dropout.infer(&[c.clone(), keys.clone(), step.clone()])?;
            }
            End::Slope(_) => third("y [M, N]", &c)?,
            End::Sgd(sgd) => {
                sgd.check(&c, rest)?;
                return Ok(vec![]);
            }
        }
        Ok(vec![c])
    }

    fn lower(&self, inputs: &[Type], _: &[Type]) -> Result<Lowering> {
        let [m, n, k] = self.sizes(&inputs[0], &inputs[1])?;
        let mut ways = self.ways([m, n, k]);
        let best = ways.remove(0);
        let mut operands: Vec<_> = (0..inputs.len()).map(Operand::In).collect();
        if !matches!(self.end, End::Sgd(_)) {
            operands.push(Operand::Out(0));
        }
        Ok(Lowering::Launch(Lowered {
            kernel: best.kernel,
            constants: best.constants,
            operands,
            grid: best.grid,
            flops: 2 * (m * n * k) as u64,
            alternatives: ways,
        }))
    }

    fn gradient(&self, g: &mut Backward<'_>) -> Result<Vec<Option<Value>>> {
        let (a, b, up) = (g.inputs[0], g.inputs[1], g.upstream);
        // (operands, transposes) of dA and dB; the table at the head of the file.
        let (da, db) = match (self.trans_a, self.trans_b) {
            (false, false) => (([up, b], [false, true]), ([a, up], [true, false])),
            (false, true) => (([up, b], [false, false]), ([up, a], [true, false])),
            (true, false) => (([b, up], [false, true]), ([a, up], [false, false])),
            (true, true) => (([b, up], [true, true]), ([up, a], [true, true])),
        };
        let mut product = |wanted: bool, (operands, [ta, tb]): ([Value; 2], [bool; 2])| {
            wanted
                .then(|| g.tape.op1(Arc::new(Self::new(ta, tb)), &operands))
                .transpose()
        };
        Ok(vec![product(g.wanted[0], da)?, product(g.wanted[1], db)?])
    }

    fn with_epilogue(&self, epilogue: &Epilogue) -> Option<Arc<dyn Op>> {
        let end = match (self.end, epilogue) {
            (End::Store, Epilogue::Bias) => End::Bias(Activation::Linear),
            (End::Bias(Activation::Linear), Epilogue::Activation(act)) => End::Bias(*act),
            (End::Bias(act), Epilogue::Dropout(dropout)) => End::BiasDropout(act, *dropout),
            (End::Store, Epilogue::ActivationSlope(act)) => End::Slope(*act),
            (End::Store, Epilogue::Sgd(sgd)) => End::Sgd(*sgd),
            _ => return None,
        };
        Some(Arc::new(Self { end, ..*self }))
    }
}

/// Columns of C that one workgroup makes where A has few rows; `TEAMS` and `WIDE` of the
/// shader.
const TEAMS: usize = 8;
/// The same of the kernels for lanes; `LANE_ROWS` of their shader.
const LANE_ROWS: usize = 16;

/// Kernels for lanes of a subgroup, in a module of their own: not every adapter compiles it.
mod lanes {
    use super::*;

    const SOURCE: &str = concat!(
        include_str!("../../shaders/shared/nan.wgsl"),
        include_str!("../../shaders/shared/activation.wgsl"),
        include_str!("../../shaders/shared/rng.wgsl"),
        include_str!("../../shaders/shared/sgd.wgsl"),
        include_str!("../../shaders/matmul.wgsl"),
        include_str!("../../shaders/shared/lanes.wgsl"),
        include_str!("../../shaders/matmul/lanes.wgsl"),
    );

    /// [`MATMUL_WIDE_BIAS`] where K is a multiple of 8.
    pub static MATMUL_LANES_BIAS: Kernel = Kernel {
        name: "matmul_lanes_bias",
        turns: "(K / 64 + 1) * 8 + 512",
        source: SOURCE,
        ..MATMUL_BIAS
    };

    /// [`MATMUL_WIDE_BIAS_DROPOUT`] where K is a multiple of 8.
    pub static MATMUL_LANES_BIAS_DROPOUT: Kernel = Kernel {
        name: "matmul_lanes_bias_dropout",
        turns: "(K / 64 + 1) * 8 + 512",
        source: SOURCE,
        ..MATMUL_BIAS_DROPOUT
    };
}

const SOURCE: &str = concat!(
    include_str!("../../shaders/shared/nan.wgsl"),
    include_str!("../../shaders/shared/activation.wgsl"),
    include_str!("../../shaders/shared/rng.wgsl"),
    include_str!("../../shaders/shared/sgd.wgsl"),
    include_str!("../../shaders/matmul.wgsl"),
    include_str!("../../shaders/shared/blocks.wgsl"),
    include_str!("../../shaders/matmul/blocks.wgsl"),
);

/// C = op(A) op(B).
pub static MATMUL: Kernel = Kernel {
    name: "matmul",
    turns: "(K / 16 + 1) * 19 + 64",
    stem: "matmul",
    source: SOURCE,
    bindings: &[
        Bind::read("a").of("M * K"),
        Bind::read("b").of("N * K"),
        Bind::write("c").of("M * N"),
    ],
    constants: &["M", "N", "K", "TRANS_A", "TRANS_B"],
    reference: crate::reference!(matmul),
    fast: Some(fast::matmul),
    trusted: true,
};

/// C = σ(op(A) op(B) + bias).
pub static MATMUL_BIAS: Kernel = Kernel {
    name: "matmul_bias",
    turns: "(K / 16 + 1) * 19 + 64",
    bindings: &[
        Bind::read("a").of("M * K"),
        Bind::read("b").of("N * K"),
        Bind::read("bias").of("N"),
        Bind::write("biased").of("M * N"),
    ],
    constants: &["M", "N", "K", "TRANS_A", "TRANS_B", "ACTIVATION"],
    reference: crate::reference!(matmul_bias),
    fast: Some(fast::matmul_bias),
    ..MATMUL
};

/// C = σ(op(A) op(B) + bias) ⊙ m.
pub static MATMUL_BIAS_DROPOUT: Kernel = Kernel {
    name: "matmul_bias_dropout",
    turns: "(K / 16 + 1) * 19 + 64",
    bindings: &[
        Bind::read("a").of("M * K"),
        Bind::read("b").of("N * K"),
        Bind::read("bias").of("N"),
        Bind::read("keys").u32().of("4"),
        Bind::read("step").u32().of("2"),
        Bind::write("dropped").of("M * N"),
    ],
    constants: &[
        "M",
        "N",
        "K",
        "TRANS_A",
        "TRANS_B",
        "ACTIVATION",
        "DROP",
        "STREAM",
        "MASK_SCALE",
    ],
    reference: crate::reference!(matmul_bias_dropout),
    fast: Some(fast::matmul_bias_dropout),
    ..MATMUL
};

/// [`MATMUL_BIAS`] of few rows.
pub static MATMUL_FEW_BIAS: Kernel = Kernel {
    name: "matmul_few_bias",
    turns: "(K / 32 + 1) * (M + 2) + 160",
    ..MATMUL_BIAS
};

/// [`MATMUL_BIAS_DROPOUT`] of few rows.
pub static MATMUL_FEW_BIAS_DROPOUT: Kernel = Kernel {
    name: "matmul_few_bias_dropout",
    turns: "(K / 32 + 1) * (M + 2) + 160",
    ..MATMUL_BIAS_DROPOUT
};

/// [`MATMUL_FEW_BIAS`] with all of a thread's sums in registers.
pub static MATMUL_WIDE_BIAS: Kernel = Kernel {
    name: "matmul_wide_bias",
    turns: "(K / 8 + 1) * (M + 11) + 512",
    ..MATMUL_BIAS
};

/// [`MATMUL_FEW_BIAS_DROPOUT`] with all of a thread's sums in registers.
pub static MATMUL_WIDE_BIAS_DROPOUT: Kernel = Kernel {
    name: "matmul_wide_bias_dropout",
    turns: "(K / 8 + 1) * (M + 11) + 512",
    ..MATMUL_BIAS_DROPOUT
};

/// C = op(A) op(B) ⊙ σ′(y).
pub static MATMUL_SLOPE: Kernel = Kernel {
    name: "matmul_slope",
    turns: "(K / 16 + 1) * 19 + 64",
    bindings: &[
        Bind::read("a").of("M * K"),
        Bind::read("b").of("N * K"),
        Bind::read("y").of("M * N"),
        Bind::write("delta").of("M * N"),
    ],
    constants: &["M", "N", "K", "TRANS_A", "TRANS_B", "ACTIVATION"],
    reference: crate::reference!(matmul_slope),
    fast: Some(fast::matmul_slope),
    ..MATMUL
};

/// op(A) op(B) is the gradient that updates w.
pub static MATMUL_SGD: Kernel = Kernel {
    name: "matmul_sgd",
    turns: "(K / 16 + 1) * 19 + 64",
    bindings: &[
        Bind::read("a").of("M * K"),
        Bind::read("b").of("N * K"),
        Bind::update("w").of("M * N"),
        Bind::read("hyper").of("4 + SCHEDULE"),
        Bind::read("step").u32().of("2"),
    ],
    constants: SGD_CONSTANTS,
    reference: crate::reference!(matmul_sgd),
    fast: Some(fast::matmul_sgd),
    ..MATMUL
};

/// The same with momentum.
pub static MATMUL_SGD_MOMENTUM: Kernel = Kernel {
    name: "matmul_sgd_momentum",
    turns: "(K / 16 + 1) * 19 + 64",
    bindings: &[
        Bind::read("a").of("M * K"),
        Bind::read("b").of("N * K"),
        Bind::update("w").of("M * N"),
        Bind::read("hyper").of("4 + SCHEDULE"),
        Bind::read("step").u32().of("2"),
        Bind::update("v").of("M * N"),
    ],
    constants: SGD_CONSTANTS,
    reference: crate::reference!(matmul_sgd_momentum),
    fast: Some(fast::matmul_sgd_momentum),
    ..MATMUL
};

const SGD_CONSTANTS: &[&str] = &[
    "M",
    "N",
    "K",
    "TRANS_A",
    "TRANS_B",
    "DECAY",
    "EPOCH_STEPS",
    "SCHEDULE",
];

/// The kernels of this file.
pub static KERNELS: &[&Kernel] = &[
    &MATMUL,
    &MATMUL_BIAS,
    &MATMUL_BIAS_DROPOUT,
    &MATMUL_FEW_BIAS,
    &MATMUL_FEW_BIAS_DROPOUT,
    &MATMUL_WIDE_BIAS,
    &MATMUL_WIDE_BIAS_DROPOUT,
    &MATMUL_SLOPE,
    &MATMUL_SGD,
    &MATMUL_SGD_MOMENTUM,
    &fragments::MATMUL_FRAGMENTS16_BIAS,
    &fragments::MATMUL_FRAGMENTS16_BIAS_DROPOUT,
    &fragments::MATMUL_FRAGMENTS8_BIAS,
    &fragments::MATMUL_FRAGMENTS8_BIAS_DROPOUT,
    &lanes::MATMUL_LANES_BIAS,
    &lanes::MATMUL_LANES_BIAS_DROPOUT,
    &blocks::MATMUL_BLOCK,
    &blocks::MATMUL_BLOCK_BIAS,
    &blocks::MATMUL_BLOCK_BIAS_DROPOUT,
    &blocks::MATMUL_BLOCK_SLOPE,
    &blocks::MATMUL_BLOCK_SGD,
    &blocks::MATMUL_BLOCK_SGD_MOMENTUM,
];

/// Calls `store(i, j, C[i, j])` for every element of the product of bindings 0 and 1.
fn product<T: Real>(a: &Args<'_, T>, mut store: impl FnMut(usize, usize, T)) {
    let (m, n, k) = (a.size("M"), a.size("N"), a.size("K"));
    let (trans_a, trans_b) = (a.size("TRANS_A") == 1, a.size("TRANS_B") == 1);
    let (a, b) = (a.f(0), a.f(1)); // [M, K] or [K, M], [K, N] or [N, K]
    for i in 0..m {
        for j in 0..n {
            let mut sum = T::ZERO;
            for p in 0..k {
                let a = if trans_a { a[p * m + i] } else { a[i * k + p] };
                let b = if trans_b { b[j * k + p] } else { b[p * n + j] };
                sum += a * b;
            }
            store(i, j, sum);
        }
    }
}

fn matmul<T: Real>(a: &mut Args<'_, T>) {
    let (n, c) = (a.size("N"), a.f_mut(2)); // [M, N]
    product(a, |i, j, sum| c[i * n + j] = sum);
}

fn matmul_bias<T: Real>(a: &mut Args<'_, T>) {
    let act = Activation::of_constant(a.size("ACTIVATION"));
    let (n, bias, c) = (a.size("N"), a.f(2), a.f_mut(3)); // [N], [M, N]
    product(a, |i, j, sum| c[i * n + j] = act.apply(sum + bias[j]));
}

fn matmul_bias_dropout<T: Real>(a: &mut Args<'_, T>) {
    let act = Activation::of_constant(a.size("ACTIVATION"));
    let (n, bias, c) = (a.size("N"), a.f(2), a.f_mut(5)); // [N], [M, N]
    product(a, |i, j, sum| c[i * n + j] = act.apply(sum + bias[j]));
    dropout::mask_in_place(a, [3, 4], c);
}

fn matmul_slope<T: Real>(a: &mut Args<'_, T>) {
    let act = Activation::of_constant(a.size("ACTIVATION"));
    let (n, y, c) = (a.size("N"), a.f(2), a.f_mut(3)); // [M, N], [M, N]
    product(a, |i, j, sum| c[i * n + j] = act.sloped(sum, y[i * n + j]));
}

fn matmul_sgd<T: Real>(a: &mut Args<'_, T>) {
    let rates = Rates::of(a, a.f(3), a.u(4));
    let (n, w) = (a.size("N"), a.f_mut(2)); // [M, N]
    product(a, |i, j, sum| {
        rates.update(&mut w[i * n + j..][..1], None, &[sum]);
    });
}

fn matmul_sgd_momentum<T: Real>(a: &mut Args<'_, T>) {
    let rates = Rates::of(a, a.f(3), a.u(4));
    let (n, w, v) = (a.size("N"), a.f_mut(2), a.f_mut(5)); // [M, N], [M, N]
    product(a, |i, j, sum| {
        let at = i * n + j;
        rates.update(&mut w[at..=at], Some(&mut v[at..=at]), &[sum]);
    });
}

/// Bare products, all transposes: one, primes, long and thin, around every block's edge and
/// step. Then every end, one transpose per shape.
pub fn cases() -> Vec<Case> {
    let uniform = Fill::Uniform(-1.0, 1.0);
    let mut cases = Vec::new();
    for (trans_a, trans_b) in [(false, false), (false, true), (true, false), (true, true)] {
        let bare = Matmul::new(trans_a, trans_b);
        for sizes in [
            [1, 1, 1],
            [2, 3, 5],
            [7, 13, 11],
            [15, 17, 16],
            [17, 15, 33],
            [1, 130, 3],
            [67, 1, 2],
            [3, 2, 257],
        ] {
            cases.push(bare.case(sizes));
        }
        for sizes in [[65, 63, 17], [129, 131, 7], [31, 33, 65]] {
            cases.push(bare.case(sizes).forward_only());
        }
    }
    let act = Activation::Sigmoid;
    let dropout = Dropout {
        p: 0.3,
        layer: 5,
        rescale: true,
    };
    let sgd = |momentum| Sgd {
        decay: true,
        momentum,
        epoch_steps: 3,
        schedule: 2,
    };
    // Lanes and matrix units do forward products alone.
    let (all, forward) = (false, true);
    for (trans_a, trans_b, [m, n, k], forward_only) in [
        (false, true, [2, 3, 5], all),
        (false, true, [10, 13, 40], all),
        (false, true, [3, 2, 257], all),
        (false, true, [19, 9, 72], forward),
        (false, true, [17, 130, 35], forward),
        (false, false, [17, 15, 33], all),
        (false, false, [66, 16, 64], forward),
        (true, false, [65, 63, 17], all),
        (true, true, [16, 65, 97], forward),
        (true, true, [129, 131, 7], all),
    ] {
        for end in [
            End::Bias(act),
            End::Slope(act),
            End::BiasDropout(act, dropout),
            End::Sgd(sgd(false)),
            End::Sgd(sgd(true)),
        ] {
            if forward_only && !matches!(end, End::Bias(_) | End::BiasDropout(..)) {
                continue;
            }
            let product = Matmul {
                trans_a,
                trans_b,
                end,
            };
            let case = product.case([m, n, k]).forward_only();
            cases.push(match end {
                End::Store => case,
                End::Bias(_) => case.fixed(&[n], uniform),
                End::Slope(_) => case.fixed(&[m, n], uniform),
                End::BiasDropout(..) => case
                    .fixed(&[n], uniform)
                    .u32(&[4], Fill::Keys)
                    .u32(&[2], Fill::Pair(9, 4)),
                End::Sgd(sgd) => sgd::case_inputs(case, sgd, &[m, n]).forward_only(),
            });
        }
    }
    cases
}

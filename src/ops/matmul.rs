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
//! Saved for the gradient: A and B. The kernel can end in a bias and an activation, in the backward
//! Hadamard product, or in any expression of C, such as the update of a parameter whose gradient it
//! is.

use std::sync::Arc;

use super::activation::Activation;
use super::pointwise::{Ended, Ending, Pointwise, ended_case, finished};
use super::small_batch::FEW;
use super::{Alternative, Backward, Case, Fill, Lowered, Lowering, Op, Operand, Value, floats};
use crate::error::{Error, Result};
use crate::expr::Expr;
use crate::interchange::Site;
use crate::kernel::{Args, Bind, Demand, Kernel, LANES, Port, Target};
use crate::shape::Type;
use crate::tensor::Real;

mod blocks;
mod fragments;
mod optimized;
mod parts;
mod single;
mod slices;

/// C = op(A) op(B): inputs A, B and what the ending asks for; output C `[M, N]`, or the ending's.
#[derive(Clone, Debug, PartialEq)]
pub struct Matmul {
    /// A is stored `[K, M]`.
    pub trans_a: bool,
    /// B is stored `[N, K]`.
    pub trans_b: bool,
    /// An expression of C.
    pub ending: Option<Ending>,
}

impl Matmul {
    /// A bare product.
    pub fn new(trans_a: bool, trans_b: bool) -> Self {
        Self {
            trans_a,
            trans_b,
            ending: None,
        }
    }

    /// The same with an expression of C, its input 0, at its end.
    #[must_use]
    pub fn with(self, expression: Pointwise) -> Self {
        Self {
            ending: Some(Ending::new(expression)),
            ..self
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

    /// The extents of C, whatever has become of it at the end.
    pub(crate) fn product(&self, a: &Type, b: &Type) -> Result<[usize; 2]> {
        self.sizes(a, b).map(|[m, n, _]| [m, n])
    }

    /// A case of it over random A and B.
    fn case(self, [m, n, k]: [usize; 3]) -> Case {
        let a = if self.trans_a { [k, m] } else { [m, k] };
        let b = if self.trans_b { [n, k] } else { [k, n] };
        let uniform = Fill::Uniform(-1.0, 1.0);
        Case::new(self, k).float(&a, uniform).float(&b, uniform)
    }

    fn constants(&self, [m, n, k]: [usize; 3]) -> Vec<(&'static str, f64)> {
        vec![
            ("M", m as f64),
            ("N", n as f64),
            ("K", k as f64),
            ("TRANS_A", f64::from(u8::from(self.trans_a))),
            ("TRANS_B", f64::from(u8::from(self.trans_b))),
        ]
    }

    /// Every variant, the best for a GPU first; `biased` if the end adds a bias, as a dense layer's does.
    fn variants(&self, [m, n, k]: [usize; 3], biased: bool) -> Vec<Alternative> {
        let constants = self.constants([m, n, k]);
        let mut variants = blocks::variants([m, n, k], &constants);
        variants.extend(fragments::variants([m, n, k], &constants, biased));
        variants.extend(single::variants([m, n, k], &constants));
        let groups = n.div_ceil(TEAMS).max(m.div_ceil(FEW));
        if groups > 65_535 || self.trans_a || !self.trans_b {
            return variants;
        }
        let variant = |target, kernel, columns| Alternative {
            target,
            kernel,
            constants: constants.clone(),
            grid: [n.div_ceil(columns) as u32, m.div_ceil(FEW) as u32],
        };
        if k.is_multiple_of(LANES) {
            variants.push(variant(Target::Lanes, &lanes::MATMUL_LANES, LANE_ROWS));
        }
        if m <= FEW {
            variants.splice(
                0..0,
                [
                    variant(Target::Gpu, &MATMUL_FEW, TEAMS),
                    variant(Target::Processor, &MATMUL_WIDE, TEAMS),
                ],
            );
        }
        variants.extend(slices::variant([m, n, k], &constants));
        variants
    }
}

impl Op for Matmul {
    fn name(&self) -> &'static str {
        "matmul"
    }

    fn onnx(&self, site: &mut Site<'_>) -> Result<Vec<String>> {
        if self.ending.is_some() {
            return Err(site.refused("with an expression at its end"));
        }
        let (a, b) = (site.input(0), site.input(1));
        let attributes = [
            ("transA", i64::from(self.trans_a).into()),
            ("transB", i64::from(self.trans_b).into()),
        ];
        Ok(vec![site.op("Gemm", &[&a, &b], &attributes)])
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
        match &self.ending {
            None if rest.is_empty() => Ok(vec![c]),
            None => {
                let found = format!("{} inputs", inputs.len());
                Err(Error::shape("matmul", found, "2: A and B"))
            }
            Some(ending) => ending.infer(&c, rest),
        }
    }

    fn lower(&self, inputs: &[Type], _: &[Type]) -> Result<Lowering> {
        let [m, n, k] = self.sizes(&inputs[0], &inputs[1])?;
        let ending = self.ending.as_ref();
        let bias = inputs.get(2).map(|bias| bias.shape.extents());
        // A way back may end in a vector too, such as a layer's scales; it is no x Wᵀ.
        let forward = !self.trans_a && self.trans_b && bias == Some(&[n]);
        let biased = forward && ending.is_some_and(|ending| !ending.is_update());
        let ends = Ended::only(ending, 2, &[m, n]);
        if let Some([rows, count]) = self.parts([m, n, k]) {
            return self.in_parts([m, n, k], [rows, count], &ends, inputs);
        }
        let mut variants = self.variants([m, n, k], biased);
        let best = variants.remove(0);
        let product = Lowered {
            kernel: best.kernel,
            constants: best.constants,
            operands: vec![Operand::In(0), Operand::In(1), Operand::Out(0)],
            grid: best.grid,
            flops: 2 * (m * n * k) as u64,
            alternatives: variants,
        };
        Ok(Lowering::Launch(finished(product, &ends, inputs)?))
    }

    fn ending(&self) -> Option<&Ending> {
        self.ending.as_ref()
    }

    fn with_ending(&self, ending: &Ending) -> Option<Arc<dyn Op>> {
        let ending = ending.beside(MATMUL.bindings.len())?;
        Some(Arc::new(Self {
            ending: Some(ending),
            ..*self
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
        include_str!("../../shaders/matmul.wgsl"),
        include_str!("../../shaders/shared/lanes.wgsl"),
        include_str!("../../shaders/matmul/lanes.wgsl"),
        crate::port!("finish"),
    );

    /// [`MATMUL_WIDE`] where K is a multiple of 8.
    pub static MATMUL_LANES: Kernel = Kernel {
        name: "matmul_lanes",
        demand: Demand::UNSTATED,
        turns: "(K / 64 + 1) * 8 + 512",
        source: SOURCE,
        ports: &[Port::finish(2, "32")],
        ..MATMUL
    };
}

const SOURCE: &str = concat!(
    include_str!("../../shaders/matmul.wgsl"),
    include_str!("../../shaders/shared/blocks.wgsl"),
    include_str!("../../shaders/shared/elements.wgsl"),
    include_str!("../../shaders/matmul/blocks.wgsl"),
    crate::port!("finish"),
);

/// C = op(A) op(B).
pub static MATMUL: Kernel = Kernel {
    name: "matmul",
    demand: Demand {
        rounds: "K / 16 + 2",
        barriers: "K / 16 * 2",
        issue: "K / 16 * 134 + 100",
        words: "K / 16 * 512 + 256",
        ..Demand::UNSTATED
    },
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
    optimized: Some(optimized::matmul),
    trusted: true,
    ports: &[Port::finish(2, "64")],
    finishing: Some(optimized::finishing),
};

/// [`MATMUL`] of few rows of A, rows of B as they lie in memory.
pub static MATMUL_FEW: Kernel = Kernel {
    name: "matmul_few",
    demand: Demand {
        rounds: "K / 32 + 1",
        barriers: "1",
        issue: "K / 32 * (M * 3 + 10) + 150",
        words: "K * (M + 8)",
        ..Demand::UNSTATED
    },
    turns: "(K / 32 + 1) * (M + 2) + 160",
    ports: &[Port::finish(2, "1")],
    ..MATMUL
};

/// [`MATMUL_FEW`] with all of a thread's sums in registers.
pub static MATMUL_WIDE: Kernel = Kernel {
    name: "matmul_wide",
    demand: Demand {
        rounds: "K / 8 + 2",
        barriers: "1",
        issue: "K / 8 * (M * 10 + 30) + 300",
        words: "K * (M + 8)",
        ..Demand::UNSTATED
    },
    turns: "(K / 8 + 1) * (M + 11) + 512",
    ports: &[Port::finish(2, "16")],
    ..MATMUL
};

/// The kernels of this file.
pub static KERNELS: &[&Kernel] = &[
    &MATMUL,
    &MATMUL_FEW,
    &MATMUL_WIDE,
    &fragments::MATMUL_FRAGMENTS16,
    &fragments::MATMUL_FRAGMENTS8,
    &lanes::MATMUL_LANES,
    &blocks::MATMUL_BLOCK,
    &slices::MATMUL_SLICES,
    &slices::MATMUL_SLICES_ANY,
    &single::MATMUL_SINGLE,
    &parts::MATMUL_PARTS,
    &parts::FRAGMENTS16,
    &parts::FRAGMENTS8,
    &parts::MATMUL_PARTS_SUM,
];

fn matmul<T: Real>(a: &mut Args<'_, T>) {
    let (m, n, k) = (a.size("M"), a.size("N"), a.size("K"));
    let (trans_a, trans_b) = (a.size("TRANS_A") == 1, a.size("TRANS_B") == 1);
    let (a, b, c) = (a.f(0), a.f(1), a.f_mut(2)); // [M, K] or [K, M], [K, N] or [N, K], [M, N]
    for i in 0..m {
        for j in 0..n {
            let mut sum = T::ZERO;
            for p in 0..k {
                let a = if trans_a { a[p * m + i] } else { a[i * k + p] };
                let b = if trans_b { b[j * k + p] } else { b[p * n + j] };
                sum += a * b;
            }
            c[i * n + j] = sum;
        }
    }
}

/// σ(C + bias), bias `[N]` as input 2; what follows a dense layer's product.
pub(crate) fn biased(activation: Activation) -> Pointwise {
    let sum = Expr::input(0) + Expr::input(1);
    Pointwise::new(&[activation.of(&sum)])
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
            cases.push(bare.clone().case(sizes));
        }
        for sizes in [[65, 63, 17], [129, 131, 7], [31, 33, 65]] {
            cases.push(bare.clone().case(sizes).forward_only());
        }
    }
    // Parts of the rows; the last has fewer.
    cases.push(Matmul::new(true, false).case([33, 17, 2079]).forward_only());
    // Lanes and slices do forward products alone.
    let (all, forward) = (false, true);
    for (turn, (trans_a, trans_b, [m, n, k], forward_only)) in [
        (false, true, [2, 3, 5], all),
        (false, true, [10, 13, 40], all),
        (false, true, [3, 2, 257], all),
        (false, true, [19, 9, 72], forward),
        (false, true, [17, 130, 35], forward),
        (false, false, [17, 15, 33], all),
        (false, false, [66, 16, 64], forward),
        (true, false, [65, 63, 17], all),
        (true, false, [13, 41, 2053], all),
        (true, true, [16, 65, 97], forward),
        (true, true, [129, 131, 7], all),
        (false, true, [10, 398, 132], forward),
        (false, true, [16, 401, 130], forward),
        (false, true, [13, 7, 1028], forward),
        (false, true, [5, 403, 516], forward),
        (false, true, [1, 3, 140], forward),
        (false, true, [16, 2, 131], forward),
        (false, true, [33, 10, 132], forward),
        (false, true, [19, 3, 133], forward),
        (false, true, [401, 16, 130], forward),
    ]
    .into_iter()
    .enumerate()
    {
        let bare = Matmul::new(trans_a, trans_b);
        let case = bare.clone().case([m, n, k]);
        let biased = bare.clone().with(biased(Activation::Sigmoid));
        let biased = biased.case([m, n, k]).forward_only();
        cases.push(biased.fixed(&[n], uniform));
        if !forward_only {
            cases.push(ended_case(&case, &[m, n], turn, |ending| {
                Arc::new(Matmul {
                    ending: Some(ending),
                    ..bare
                })
            }));
        }
    }
    cases
}

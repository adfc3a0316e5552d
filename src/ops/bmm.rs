//! Products of many matrices at once: C = op(A) op(B), op(X) = X or Xᵀ in the last two axes, for
//! every place of the axes before them, as in attention. Where an operand's extent is 1, its one
//! matrix goes with all of the other's.
//!
//! The gradients are such products too (the table of `matmul.rs`), added up over the axes along
//! which an operand's matrix was used again. Saved for the gradient: A and B.
//!
//! The kernels are those of the matrix product: tiles of 16 x 16, a thread for each element, or
//! blocks (`src/ops/blocks.rs`). Their workgroups go through all matrices in a long row.

use std::sync::Arc;

use crate::threads::prelude::*;

use super::blocks::{Cut, block_demand, cuts};
use super::gemm::{Matrix, gemm, serial};
use super::pointwise::wrapped_case;
use super::reduction::{Kind, Reduction};
use super::{
    Alternative, Backward, Case, Fill, Lowered, Lowering, Op, Operand, Value, arity, floats, grid,
};
use crate::error::{Error, Result};
use crate::interchange::Site;
use crate::kernel::{Args, Bind, Demand, Kernel, Port, Target};
use crate::shape::Type;
use crate::tensor::Real;

/// The most axes before the last two: kernels have constants for so many.
const BATCH_AXES: usize = 4;

/// C = op(A) op(B): inputs A `[…, M, K]` and B `[…, K, N]` (transposed: `[…, K, M]`,
/// `[…, N, K]`) of as many axes, 6 at most, whose extents before the last two are equal or 1;
/// output C `[…, M, N]` of the larger ones.
#[derive(Clone, Copy, Debug)]
pub struct Bmm {
    /// A's matrices are stored `[K, M]`.
    pub trans_a: bool,
    /// B's matrices are stored `[N, K]`.
    pub trans_b: bool,
}

/// The sizes of a launch.
struct Sizes {
    /// M, N and K.
    product: [usize; 3],
    /// C's extents before the last two.
    batch: Vec<usize>,
    /// A's and B's.
    from: [Vec<usize>; 2],
}

impl Bmm {
    fn sizes(&self, a: &Type, b: &Type) -> Result<Sizes> {
        let fail = || {
            Error::shape(
                "bmm",
                format!("A {} and B {}", a.shape, b.shape),
                "A [.., M, K] and B [.., K, N] (transposed: [.., K, M], [.., N, K]) of equally \
                 many axes, 2 to 6, equal or 1 before the last two, and of the same K",
            )
        };
        let (ea, eb) = (a.shape.extents(), b.shape.extents());
        let ([pa @ .., a0, a1], [pb @ .., b0, b1]) = (ea, eb) else {
            return Err(fail());
        };
        let (m, ka) = if self.trans_a { (*a1, a0) } else { (*a0, a1) };
        let (kb, n) = if self.trans_b { (b1, *b0) } else { (b0, *b1) };
        let fit = pa.iter().zip(pb).all(|(&a, &b)| a == b || a == 1 || b == 1);
        if ka != kb || pa.len() != pb.len() || pa.len() > BATCH_AXES || !fit {
            return Err(fail());
        }
        Ok(Sizes {
            product: [m, n, *ka],
            batch: pa.iter().zip(pb).map(|(&a, &b)| a.max(b)).collect(),
            from: [pa.to_vec(), pb.to_vec()],
        })
    }

    fn constants(&self, s: &Sizes) -> Vec<(&'static str, f64)> {
        let [m, n, k] = s.product;
        let count = |extents: &[usize]| extents.iter().product::<usize>();
        let mut constants = vec![
            ("M", m as f64),
            ("N", n as f64),
            ("K", k as f64),
            ("TRANS_A", f64::from(u8::from(self.trans_a))),
            ("TRANS_B", f64::from(u8::from(self.trans_b))),
            ("BATCH", count(&s.batch) as f64),
            ("BATCH_A", count(&s.from[0]) as f64),
            ("BATCH_B", count(&s.from[1]) as f64),
        ];
        let front = BATCH_AXES - s.batch.len();
        let mut extents = [1; BATCH_AXES];
        extents[front..].copy_from_slice(&s.batch);
        for (name, &extent) in EXTENTS.iter().zip(&extents[1..]) {
            constants.push((*name, extent as f64));
        }
        for (names, from) in STRIDES.iter().zip(&s.from) {
            let mut strides = [0; BATCH_AXES];
            for (axis, &extent) in from.iter().enumerate() {
                if extent > 1 {
                    strides[front + axis] = count(&from[axis + 1..]);
                }
            }
            for (name, &stride) in names.iter().zip(&strides) {
                constants.push((*name, stride as f64));
            }
        }
        constants
    }

    /// Every variant, the best for a GPU first.
    fn variants(&self, s: &Sizes) -> Vec<Alternative> {
        let constants = self.constants(s);
        let batch: usize = s.batch.iter().product();
        let [m, n, _] = s.product;
        let variant = |target, cut: &Cut| {
            let [x, y] = cut.grid(s.product);
            let more = [("BLOCK", cut.block as f64), ("SHARES", cut.shares as f64)];
            let (kernel, more) = match cut.shares {
                0 => (&BMM, &more[..0]),
                _ => (&BMM_BLOCK, &more[..]),
            };
            Alternative {
                target,
                kernel,
                constants: [&constants, more].concat(),
                grid: grid(batch * x * y, 1),
            }
        };
        // Of several cuts one for a GPU and one for a processor, the largest that is not mostly
        // outside: they are one shader, which the matrix product tests in all of them.
        let reuse = m.min(n).next_power_of_two().clamp(32, 128);
        let mut variants = Vec::new();
        let mut blocks = 0;
        for cut in cuts(batch, s.product, 0) {
            let first = cut.shares > 0 && blocks == 0;
            blocks += usize::from(cut.shares > 0);
            if cut.block == reuse {
                variants.push(variant(Target::Processor, &cut));
            } else if cut.shares == 0 || first {
                variants.push(variant(Target::Gpu, &cut));
            }
        }
        variants
    }
}

impl Op for Bmm {
    fn name(&self) -> &'static str {
        "bmm"
    }

    fn onnx(&self, site: &mut Site<'_>) -> Result<Vec<String>> {
        let mut operands = [site.input(0), site.input(1)];
        for (k, trans) in [self.trans_a, self.trans_b].into_iter().enumerate() {
            if trans {
                let mut axes: Vec<i64> = (0..site.extents(k).len() as i64).collect();
                let last = axes.len() - 1;
                axes.swap(last - 1, last);
                operands[k] = site.op("Transpose", &[&operands[k]], &[("perm", axes.into())]);
            }
        }
        let [a, b] = &operands;
        Ok(vec![site.op("MatMul", &[a, b], &[])])
    }

    fn infer(&self, inputs: &[Type]) -> Result<Vec<Type>> {
        let [a, b] = arity("bmm", inputs, "A, B")?;
        floats("bmm", "A", a)?;
        floats("bmm", "B", b)?;
        let Sizes { product, batch, .. } = self.sizes(a, b)?;
        Ok(vec![Type::f32(
            "bmm",
            &[&batch[..], &product[..2]].concat(),
        )?])
    }

    fn lower(&self, inputs: &[Type], outputs: &[Type]) -> Result<Lowering> {
        let s = self.sizes(&inputs[0], &inputs[1])?;
        let bare = Lowered {
            kernel: &BMM,
            constants: vec![],
            operands: vec![Operand::In(0), Operand::In(1), Operand::Out(0)],
            grid: [1, 1],
            flops: 2 * (outputs[0].elements() * s.product[2]) as u64,
            alternatives: vec![],
        };
        Ok(Lowering::Launch(bare.by(self.variants(&s))))
    }

    fn gradient(&self, g: &mut Backward<'_>) -> Result<Vec<Option<Value>>> {
        let (a, b, up) = (g.inputs[0], g.inputs[1], g.upstream);
        // (operands, transposes) of dA and dB; the table at the head of matmul.rs.
        let shares = match (self.trans_a, self.trans_b) {
            (false, false) => [([up, b], [false, true]), ([a, up], [true, false])],
            (false, true) => [([up, b], [false, false]), ([up, a], [true, false])],
            (true, false) => [([b, up], [false, true]), ([a, up], [false, false])],
            (true, true) => [([b, up], [true, true]), ([up, a], [true, true])],
        };
        let mut gradients = Vec::new();
        for (i, (operands, [trans_a, trans_b])) in shares.into_iter().enumerate() {
            if !g.wanted[i] {
                gradients.push(None);
                continue;
            }
            let whole = g.tape.op1(Arc::new(Self { trans_a, trans_b }), &operands)?;
            let (used, made) = (g.tape.ty(g.inputs[i])?, g.tape.ty(whole)?);
            let extents = used.shape.extents().iter().zip(made.shape.extents());
            let again = extents.enumerate().filter(|(_, (used, made))| used != made);
            let axes: Vec<_> = again.map(|(axis, _)| axis).collect();
            let sum = Reduction {
                keep: true,
                ..Reduction::new(Kind::Sum, &axes)
            };
            gradients.push(Some(match axes.is_empty() {
                true => whole,
                false => g.tape.op1(Arc::new(sum), &[whole])?,
            }));
        }
        Ok(gradients)
    }

    fn port(&self) -> Option<usize> {
        Some(BMM.bindings.len())
    }
}

const EXTENTS: [&str; BATCH_AXES - 1] = ["E1", "E2", "E3"];
const STRIDES: [[&str; BATCH_AXES]; 2] = [["A0", "A1", "A2", "A3"], ["B0", "B1", "B2", "B3"]];

/// The constants of every kernel here, then `more`.
macro_rules! constants {
    ($($more:literal),*) => {
        &[
            "M", "N", "K", "TRANS_A", "TRANS_B", "BATCH", "BATCH_A", "BATCH_B", "E1", "E2", "E3",
            "A0", "A1", "A2", "A3", "B0", "B1", "B2", "B3", $($more),*
        ]
    };
}

/// C, a thread for each element.
pub static BMM: Kernel = Kernel {
    name: "bmm",
    turns: "(K / 16 + 1) * 19 + 64",
    stem: "bmm",
    source: concat!(
        include_str!("../../shaders/bmm.wgsl"),
        include_str!("../../shaders/shared/blocks.wgsl"),
        include_str!("../../shaders/shared/elements.wgsl"),
        include_str!("../../shaders/bmm/blocks.wgsl"),
        crate::port!("finish"),
    ),
    bindings: &[
        Bind::read("a").of("BATCH_A * M * K"),
        Bind::read("b").of("BATCH_B * N * K"),
        Bind::write("c").of("BATCH * M * N"),
    ],
    constants: constants!(),
    reference: crate::reference!(bmm),
    optimized: Some(optimized),
    demand: Demand {
        rounds: "K / 16 + 2",
        barriers: "K / 16 * 2",
        issue: "K / 16 * 134 + 160",
        words: "K / 16 * 512 + 256",
        ..Demand::UNSTATED
    },
    trusted: true,
    ports: &[Port::finish(2, "1")],
    finishing: None,
};

/// C in blocks.
pub static BMM_BLOCK: Kernel = Kernel {
    name: "bmm_block",
    demand: block_demand!("K", "200"),
    turns: "(K / (1024 / BLOCK) + 1) * (1024 / (BLOCK * SHARES) + 3) + 256",
    constants: constants!("BLOCK", "SHARES"),
    ports: &[Port::finish(2, "64")],
    ..BMM
};

/// The kernels of this file.
pub static KERNELS: &[&Kernel] = &[&BMM, &BMM_BLOCK];

/// Which of A's and B's matrices matrix `i` of C is made of.
fn operands<T: Real>(a: &Args<'_, T>, i: usize) -> [usize; 2] {
    let extents = EXTENTS.map(|name| a.size(name));
    STRIDES.map(|names| {
        let strides = names.map(|name| a.size(name));
        let (mut rest, mut at) = (i, 0);
        for axis in (1..BATCH_AXES).rev() {
            at += rest % extents[axis - 1] * strides[axis];
            rest /= extents[axis - 1];
        }
        at + rest * strides[0]
    })
}

fn bmm<T: Real>(args: &mut Args<'_, T>) {
    let (m, n, k) = (args.size("M"), args.size("N"), args.size("K"));
    let (trans_a, trans_b) = (args.size("TRANS_A") == 1, args.size("TRANS_B") == 1);
    let (a, b, c) = (args.f(0), args.f(1), args.f_mut(2)); // [BATCH_A, M, K], [BATCH_B, K, N], [BATCH, M, N]
    for (matrix, c) in c.chunks_mut(m * n).enumerate() {
        let [of_a, of_b] = operands(args, matrix);
        let (a, b) = (&a[of_a * m * k..][..m * k], &b[of_b * k * n..][..k * n]);
        for (e, c) in c.iter_mut().enumerate() {
            let (i, j) = (e / n, e % n);
            let factors = (0..k).map(|p| {
                let a = a[if trans_a { p * m + i } else { i * k + p }];
                a * b[if trans_b { j * k + p } else { p * n + j }]
            });
            *c = factors.sum();
        }
    }
}

/// Multiply-adds below which matrices are not worth a second thread.
const SPLIT: usize = 1 << 18;

fn optimized(args: &mut Args<'_, f32>) {
    let (m, n, k) = (args.size("M"), args.size("N"), args.size("K"));
    let (trans_a, trans_b) = (args.size("TRANS_A") == 1, args.size("TRANS_B") == 1);
    let (a, b, c) = (args.f(0), args.f(1), args.f_mut(2));
    let many = c.len() > m * n;
    let all: Vec<_> = (0..c.len() / (m * n)).map(|i| operands(args, i)).collect();
    let product = |(c, [of_a, of_b]): (&mut [f32], &[usize; 2])| {
        let a = &a[of_a * m * k..][..m * k];
        let b = &b[of_b * k * n..][..k * n];
        let left = Matrix::of(a, if trans_a { m } else { k }, trans_a);
        let right = Matrix::of(b, if trans_b { k } else { n }, trans_b);
        match many {
            true => serial([m, n, k], left, right, c, false),
            false => gemm([m, n, k], left, right, c, false),
        }
    };
    if many && c.len() * k >= SPLIT {
        c.par_chunks_mut(m * n).zip(&all).share(product);
    } else {
        c.chunks_mut(m * n).zip(&all).for_each(product);
    }
}

/// One matrix and many, used again along the first, the last or several axes; columns, rows,
/// primes, around the tile, long and wide enough for teams and for blocks of 64 and 128.
pub fn cases() -> Vec<Case> {
    let uniform = Fill::Uniform(-1.0, 1.0);
    let case = |pa: &[usize], pb: &[usize], [m, n, k]: [usize; 3], trans_a, trans_b| {
        let a = if trans_a { [k, m] } else { [m, k] };
        let b = if trans_b { [n, k] } else { [k, n] };
        let (a, b) = ([pa, &a].concat(), [pb, &b].concat());
        let case = Case::new(Bmm { trans_a, trans_b }, k);
        case.float(&a, uniform).float(&b, uniform)
    };
    let mut cases = Vec::new();
    for (trans_a, trans_b) in [(false, false), (false, true), (true, false), (true, true)] {
        let case = |pa, pb, sizes| case(pa, pb, sizes, trans_a, trans_b);
        cases.extend([
            case(&[], &[], [3, 2, 5]),
            case(&[3], &[3], [2, 1, 3]),
            case(&[1], &[2], [2, 3, 4]),
            case(&[2, 3, 1, 2], &[1, 3, 2, 1], [1, 2, 3]),
            case(&[3], &[1], [17, 15, 33]).forward_only(),
        ]);
        if trans_a == trans_b {
            cases.push(case(&[2, 1], &[1, 3], [65, 66, 31]).forward_only());
        }
    }
    let case = |pa, pb, sizes| case(pa, pb, sizes, false, true).forward_only();
    cases.extend([
        case(&[5], &[5], [1, 1, 1]),
        case(&[1, 2], &[2, 2], [16, 16, 16]),
        case(&[2], &[2], [130, 129, 10]),
        case(&[3], &[3], [33, 34, 300]),
        case(&[70], &[70], [5, 3, 7]),
    ]);
    // With an ending of each kind: a tile, matrices that are used again, blocks.
    for (turn, (pa, pb, sizes)) in [
        (&[2, 3][..], &[2, 3][..], [5, 7, 3]),
        (&[2, 1], &[1, 3], [17, 15, 9]),
        (&[3], &[3], [33, 34, 300]),
        (&[2], &[2], [130, 129, 10]),
    ]
    .into_iter()
    .enumerate()
    {
        cases.push(wrapped_case(&case(pa, pb, sizes), turn));
    }
    cases
}

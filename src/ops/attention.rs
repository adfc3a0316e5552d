//! Attention of several heads, y = softmax(Q Kᵀ/√d) V of each (Vaswani et al. 2017), without the matrix of shares: in
//! tiles that stay in workgroup memory (Dao et al. 2022, "FlashAttention"), so that memory grows with the places, not
//! with their square, and one launch each way stands for seven.
//!
//! Queries, keys and values are read where a projection has left them, side by side in a row of all heads, and y is
//! what the next projection takes. Saved for the gradient: y, and of each row its level ln Σ e^score. The gradient
//! makes the shares p = e^(score − level) again; ∂score = p (g v − g y), ∂q = Σ ∂score k/√d, ∂k = Σ ∂score q/√d,
//! ∂v = Σ p g.
//!
//! A place that sees nothing takes nothing: y is 0. Scores that are not finite make the rows NaN that see them; what is
//! hidden does nothing, whatever it is (in ONNX, 0 times it). Of scores as large as 10⁶ f32 keeps no level's logarithm to more
//! than two digits, and gradients no more either.

use std::sync::Arc;

use super::{Backward, Lowered, Lowering, Op, Operand, Value, arity, floats, grid};
use crate::error::{Error, Result};
use crate::interchange::{Extent, Site, Tensor};
use crate::kernel::{Bind, Demand, Kernel, Target};
use crate::shape::Type;

mod cases;
mod optimized;
mod reference;

pub use cases::cases;

/// y = softmax(Q Kᵀ/√d) V by heads: input `[N, T, 3 · H · d]`, queries, keys and values side by side, or queries
/// `[N, T, H · d]` and keys and values `[N, S, 2 · H · d]`; if `masked` then a mask `[N, S]`, in which only keys
/// above 0 are seen. Outputs y `[N, T, H · d]` and the levels `[N, T, H]`, which have no gradient. d is
/// [`Attention::MOST`] at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attention {
    /// H.
    pub heads: usize,
    /// A query sees keys up to its own place.
    pub causal: bool,
    /// The last input hides keys.
    pub masked: bool,
}

/// The gradient: inputs those of [`Attention`], y, the levels and g `[N, T, H · d]`; outputs the gradient with respect to
/// each input but the mask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttentionGrad(pub Attention);

/// The sizes of a launch.
#[derive(Clone, Copy, Debug)]
struct Sizes {
    n: usize,
    t: usize,
    s: usize,
    heads: usize,
    d: usize,
    /// Queries, keys and values are one input.
    own: bool,
}

/// Queries, and keys, of a tile; `TILE` of the shader.
const TILE: usize = 32;

impl Attention {
    /// The most numbers of a head that a kernel has room for.
    pub const MOST: usize = 128;

    /// How many inputs precede the mask.
    fn before_mask(&self, inputs: usize) -> usize {
        inputs - usize::from(self.masked)
    }

    fn sizes(&self, inputs: &[Type]) -> Result<Sizes> {
        let refused = |found: String| {
            let wanted = "[N, T, 3 · heads · d], or [N, T, heads · d] and [N, S, 2 · heads · d], \
                          and [N, S] for a mask; d from 1 to 128";
            Error::shape("attention", found, wanted)
        };
        let shapes = || {
            let shapes: Vec<String> = inputs.iter().map(|ty| ty.shape.to_string()).collect();
            refused(format!("{} for {} heads", shapes.join(", "), self.heads))
        };
        for ty in inputs {
            floats("attention", "input", ty)?;
        }
        let (data, mask) = match (self.masked, inputs) {
            (true, [data @ .., mask]) => (data, Some(mask)),
            _ => (inputs, None),
        };
        let rows = |ty: &Type| <[usize; 3]>::try_from(ty.shape.extents()).map_err(|_| shapes());
        let (n, t, s, all, own) = match data {
            [x] => {
                let [n, t, c] = rows(x)?;
                (n, t, t, c.is_multiple_of(3).then_some(c / 3), true)
            }
            [q, kv] => {
                let ([n, t, c], [m, s, two]) = (rows(q)?, rows(kv)?);
                let fit = m == n && two.is_multiple_of(2) && two / 2 == c;
                (n, t, s, fit.then_some(c), false)
            }
            other => return Err(refused(format!("{} inputs", other.len()))),
        };
        let all = all.filter(|all| self.heads > 0 && all.is_multiple_of(self.heads));
        let d = all.map(|all| all / self.heads);
        let d = d
            .filter(|d| (1..=Self::MOST).contains(d))
            .ok_or_else(shapes)?;
        if mask.is_some_and(|mask| mask.shape.extents() != [n, s]) {
            return Err(shapes());
        }
        let heads = self.heads;
        Ok(Sizes {
            n,
            t,
            s,
            heads,
            d,
            own,
        })
    }

    fn constants(&self, z: &Sizes) -> Vec<(&'static str, f64)> {
        let width = z.heads * z.d;
        let (q_row, kv_row, keys) = match z.own {
            true => (3 * width, 3 * width, width),
            false => (width, 2 * width, 0),
        };
        // Without a mask the queries stand at its binding.
        let mask_row = if self.masked { z.s } else { z.t * q_row };
        let sizes = [
            ("N", z.n),
            ("T", z.t),
            ("S", z.s),
            ("HEADS", z.heads),
            ("D", z.d),
            ("Q_ROW", q_row),
            ("KV_ROW", kv_row),
            ("KEYS", keys),
            ("MASK_ROW", mask_row),
            ("MASKED", usize::from(self.masked)),
            ("CAUSAL", usize::from(self.causal)),
        ];
        let sizes = sizes.map(|(name, size)| (name, size as f64));
        let scale = ("SCALE", 1.0 / (z.d as f64).sqrt());
        [&sizes[..], &[scale]].concat()
    }

    /// Queries, keys and values, mask, as the kernels bind them.
    fn operands(&self, z: &Sizes) -> Vec<Operand> {
        let kv = usize::from(!z.own);
        let mask = if self.masked { kv + 1 } else { 0 };
        [0, kv, mask].map(Operand::In).to_vec()
    }

    /// Multiply-adds of all scores, twice; half of them are seen where it is causal.
    fn flops(&self, z: &Sizes, products: usize) -> u64 {
        let all = 2 * products * z.n * z.heads * z.t * z.s * z.d;
        (if self.causal { all / 2 } else { all }) as u64
    }
}

impl Op for Attention {
    fn name(&self) -> &'static str {
        "attention"
    }

    fn onnx(&self, site: &mut Site<'_>) -> Result<Vec<String>> {
        let types = site.types().to_vec();
        let z = self.sizes(&types)?;
        let apart = |site: &mut Site<'_>, input: usize, parts: usize, transposed: [bool; 3]| {
            let (x, from) = (site.input(input), site.extents(input));
            let each = z.heads * z.d;
            let sizes = site.ints(&vec![each as i64; parts]);
            let split = match parts {
                1 => vec![x],
                _ => site.ops("Split", &[&x, &sizes], &[("axis", 2.into())], parts),
            };
            let flat = [from[0], from[1], Extent::Fixed(each)];
            let heads = [from[0], from[1], Extent::Fixed(z.heads), Extent::Fixed(z.d)];
            let parts = split.iter().zip(transposed);
            let parts = parts.map(|(part, transposed)| {
                let part = site.reshape(part, &flat, &heads)?;
                let axes = if transposed {
                    [0, 2, 3, 1]
                } else {
                    [0, 2, 1, 3]
                };
                Ok(site.op("Transpose", &[&part], &[("perm", axes.to_vec().into())]))
            });
            parts.collect::<Result<Vec<String>>>()
        };
        let parts = match z.own {
            true => apart(site, 0, 3, [false, true, false])?,
            false => {
                let mut parts = apart(site, 0, 1, [false; 3])?;
                parts.extend(apart(site, 1, 2, [true, false, false])?);
                parts
            }
        };
        let product = site.op("MatMul", &[&parts[0], &parts[1]], &[]);
        let scale = site.constant(Tensor::float(1.0 / (z.d as f64).sqrt()));
        let scores = site.op("Mul", &[&product, &scale], &[]);
        let seen = self.seen_in_onnx(site, &z)?;
        let shares = match seen {
            None => site.op("Softmax", &[&scores], &[("axis", 3.into())]),
            Some(seen) => {
                let hidden = site.constant(Tensor::float(-1e30));
                let scores = site.op("Where", &[&seen, &scores, &hidden], &[]);
                let shares = site.op("Softmax", &[&scores], &[("axis", 3.into())]);
                let none = site.constant(Tensor::float(0.0));
                site.op("Where", &[&seen, &shares, &none], &[])
            }
        };
        let mixed = site.op("MatMul", &[&shares, &parts[2]], &[]);
        let turned = site.op("Transpose", &[&mixed], &[("perm", vec![0, 2, 1, 3].into())]);
        let from = site.extents(0);
        let heads = [from[0], from[1], Extent::Fixed(z.heads), Extent::Fixed(z.d)];
        let flat = [from[0], from[1], Extent::Fixed(z.heads * z.d)];
        Ok(vec![site.reshape(&turned, &heads, &flat)?, String::new()])
    }

    fn infer(&self, inputs: &[Type]) -> Result<Vec<Type>> {
        let z = self.sizes(inputs)?;
        Ok(vec![
            Type::f32("attention", &[z.n, z.t, z.heads * z.d])?,
            Type::f32("attention", &[z.n, z.t, z.heads])?,
        ])
    }

    fn lower(&self, inputs: &[Type], _: &[Type]) -> Result<Lowering> {
        let z = self.sizes(inputs)?;
        let mut operands = self.operands(&z);
        operands.extend([Operand::Out(0), Operand::Out(1)]);
        let workgroups = grid(z.n * z.heads * z.t.div_ceil(TILE), 1);
        let mut usual = Lowered {
            kernel: &ATTENTION,
            constants: self.constants(&z),
            operands,
            grid: workgroups,
            flops: self.flops(&z, 2),
            alternatives: vec![],
        };
        let other = usual.otherwise(Target::Processor, &ATTENTION_ROWS, workgroups);
        usual.alternatives.push(other);
        Ok(Lowering::Launch(usual))
    }

    fn gradient(&self, b: &mut Backward<'_>) -> Result<Vec<Option<Value>>> {
        let inputs = [b.inputs, b.outputs, &[b.upstream]].concat();
        let made = b.tape.op(Arc::new(AttentionGrad(*self)), &inputs)?;
        let mut made: Vec<Option<Value>> = made.into_iter().map(Some).collect();
        if self.masked {
            made.push(None);
        }
        Ok(made)
    }
}

impl Attention {
    /// Which scores are seen, as ONNX's truth values `[N or 1, 1, T or 1, S]`.
    fn seen_in_onnx(&self, site: &mut Site<'_>, z: &Sizes) -> Result<Option<String>> {
        let zero = site.constant(Tensor::float(0.0));
        let causal = self.causal.then(|| {
            let seen = (0..z.t * z.s).map(|i| f32::from(u8::from(i % z.s <= i / z.s)));
            let seen = site.constant(Tensor::floats(&[1, 1, z.t, z.s], seen.collect()));
            site.op("Greater", &[&seen, &zero], &[])
        });
        let mask = match self.masked {
            false => None,
            true => {
                let last = site.inputs().len() - 1;
                let (mask, from) = (site.input(last), site.extents(last));
                let apart = [from[0], Extent::Fixed(1), Extent::Fixed(1), from[1]];
                let mask = site.reshape(&mask, &from, &apart)?;
                Some(site.op("Greater", &[&mask, &zero], &[]))
            }
        };
        Ok(match (causal, mask) {
            (Some(a), Some(b)) => Some(site.op("And", &[&a, &b], &[])),
            (a, b) => a.or(b),
        })
    }
}

impl AttentionGrad {
    /// The inputs of attention itself.
    fn given<'a>(&self, inputs: &'a [Type]) -> Result<&'a [Type]> {
        match inputs.len() {
            n @ 4.. => Ok(&inputs[..n - 3]),
            _ => Err(Error::shape(
                "attention gradient",
                format!("{} inputs", inputs.len()),
                "the inputs of attention, y, the levels and g",
            )),
        }
    }
}

impl Op for AttentionGrad {
    fn name(&self) -> &'static str {
        "attention"
    }

    fn infer(&self, inputs: &[Type]) -> Result<Vec<Type>> {
        let given = self.given(inputs)?;
        let made = self.0.infer(given)?;
        let [y, levels] = arity("attention", &made, "y, levels")?;
        for (found, wanted) in inputs[given.len()..].iter().zip([y, levels, y]) {
            floats("attention gradient", "input", found)?;
            if found.shape != wanted.shape {
                let found = found.shape.to_string();
                return Err(Error::shape(
                    "attention gradient",
                    found,
                    wanted.shape.to_string(),
                ));
            }
        }
        Ok(given[..self.0.before_mask(given.len())].to_vec())
    }

    fn lower(&self, inputs: &[Type], _: &[Type]) -> Result<Lowering> {
        let given = self.given(inputs)?;
        let z = self.0.sizes(given)?;
        let mut operands = self.0.operands(&z);
        operands.extend((0..3).map(|k| Operand::In(given.len() + k)));
        operands.extend((0..if z.own { 1 } else { 2 }).map(Operand::Out));
        let [kernel, in_turn] = match z.own {
            true => [&ATTENTION_SELF_GRAD, &ATTENTION_SELF_GRAD_IN_TURN],
            false => [&ATTENTION_GRAD, &ATTENTION_GRAD_IN_TURN],
        };
        let tiles = z.t.div_ceil(TILE) + z.s.div_ceil(TILE);
        let mut usual = Lowered {
            kernel,
            constants: self.0.constants(&z),
            operands,
            grid: grid(z.n * z.heads * tiles, 1),
            flops: self.0.flops(&z, 7),
            alternatives: vec![],
        };
        let both = grid(z.n * z.heads * z.t.max(z.s).div_ceil(TILE), 1);
        let other = usual.otherwise(Target::Processor, in_turn, both);
        usual.alternatives.push(other);
        Ok(Lowering::Launch(usual))
    }
}

/// What attention reads: queries, keys and values, mask.
const READ: [Bind; 3] = [
    Bind::read("q").of("N * T * Q_ROW"),
    Bind::read("kv").of("N * S * KV_ROW"),
    Bind::read("mask").of("N * MASK_ROW"),
];

/// And its gradient further.
const SAVED: [Bind; 3] = [
    Bind::read("saved_y").of("N * T * HEADS * D"),
    Bind::read("saved_levels").of("N * T * HEADS"),
    Bind::read("g").of("N * T * HEADS * D"),
];

/// A text whose threads have so many rows.
macro_rules! source {
    ($rows:literal, $file:literal, $entries:expr) => {
        concat!(
            "const ROWS: u32 = ",
            $rows,
            ";\n",
            include_str!("../../shaders/shared/nan.wgsl"),
            include_str!("../../shaders/attention/tiles.wgsl"),
            include_str!(concat!("../../shaders/", $file)),
            $entries
        )
    };
}

/// An entry point of attention itself.
macro_rules! attend {
    ($name:literal) => {
        concat!(
            "
@compute @workgroup_size(THREADS)
fn ",
            $name,
            "(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    attend(group, groups, lane);
}
"
        )
    };
}

/// y and the levels.
pub static ATTENTION: Kernel = Kernel {
    name: "attention",
    turns: "(S / 32) * ((D / 32) * 38 + 30) + (D / 32) * 4 + 20",
    stem: "attention",
    source: source!("1u", "attention.wgsl", attend!("attention")),
    bindings: &[
        READ[0],
        READ[1],
        READ[2],
        Bind::write("y").of("N * T * HEADS * D"),
        Bind::write("levels").of("N * T * HEADS"),
    ],
    constants: &[
        "N", "T", "S", "HEADS", "D", "Q_ROW", "KV_ROW", "KEYS", "MASK_ROW", "MASKED", "CAUSAL",
        "SCALE",
    ],
    reference: crate::reference!(reference::attention),
    optimized: Some(optimized::attention),
    // Of a tile the first chunk of keys and of values are one round, every further chunk of either another one.
    demand: Demand {
        rounds: "1 + (S / 32) * ((D / 32) * 2)",
        barriers: "(S / 32) * ((D / 32) * 4 + 1) + 1",
        issue: "(S / 32) * ((D / 4) * 23 + (D / 32) * 266 + 180) + 100",
        words: "(D * 64) + 2 * S * D",
        ..Demand::UNSTATED
    },
    trusted: true,
    ports: &[],
    finishing: None,
};

/// [`ATTENTION`], four rows a thread.
pub static ATTENTION_ROWS: Kernel = Kernel {
    name: "attention_rows",
    turns: "(S / 32) * ((D / 32) * 80 + 80) + (D / 32) * 16 + 20",
    source: source!("4u", "attention.wgsl", attend!("attention_rows")),
    demand: Demand::UNSTATED,
    ..ATTENTION
};

/// ∂Q, and ∂K and ∂V side by side.
pub static ATTENTION_GRAD: Kernel = Kernel {
    name: "attention_grad",
    turns: "((S + T) / 32) * ((D / 32) * 80 + 30) + (D / 32) * 10 + 20",
    source: source!(
        "1u",
        "attention/grad.wgsl",
        include_str!("../../shaders/attention/entries.wgsl")
    ),
    bindings: &[
        READ[0],
        READ[1],
        READ[2],
        SAVED[0],
        SAVED[1],
        SAVED[2],
        Bind::write("dq").of("N * T * HEADS * D"),
        Bind::write("dkv").of("2 * N * S * HEADS * D"),
    ],
    reference: crate::reference!(reference::attention_grad),
    optimized: Some(optimized::attention_grad),
    // Workgroups with keys have most to do.
    demand: Demand {
        rounds: "1 + (T / 32) * ((D / 32) * 3 + 1)",
        barriers: "(T / 32) * ((D / 32) * 8 + 2) + 1",
        issue: "(T / 32) * ((D / 4) * 46 + (D / 32) * 532 + 160) + 100",
        words: "(D * 128) + 3 * T * D",
        ..Demand::UNSTATED
    },
    ..ATTENTION
};

/// ∂Q, ∂K and ∂V side by side.
pub static ATTENTION_SELF_GRAD: Kernel = Kernel {
    name: "attention_self_grad",
    bindings: &[
        READ[0],
        READ[1],
        READ[2],
        SAVED[0],
        SAVED[1],
        SAVED[2],
        Bind::write("dqkv").of("3 * N * T * HEADS * D"),
    ],
    ..ATTENTION_GRAD
};

/// [`ATTENTION_GRAD`], four rows a thread, of queries and then of keys.
pub static ATTENTION_GRAD_IN_TURN: Kernel = Kernel {
    name: "attention_grad_in_turn",
    turns: "((S + T) / 32) * ((D / 32) * 170 + 80) + (D / 32) * 64 + 80",
    source: source!(
        "4u",
        "attention/grad.wgsl",
        include_str!("../../shaders/attention/in_turn.wgsl")
    ),
    demand: Demand::UNSTATED,
    ..ATTENTION_GRAD
};

/// [`ATTENTION_SELF_GRAD`] likewise.
pub static ATTENTION_SELF_GRAD_IN_TURN: Kernel = Kernel {
    name: "attention_self_grad_in_turn",
    bindings: ATTENTION_SELF_GRAD.bindings,
    ..ATTENTION_GRAD_IN_TURN
};

/// The kernels of this file.
pub static KERNELS: &[&Kernel] = &[
    &ATTENTION,
    &ATTENTION_ROWS,
    &ATTENTION_GRAD,
    &ATTENTION_SELF_GRAD,
    &ATTENTION_GRAD_IN_TURN,
    &ATTENTION_SELF_GRAD_IN_TURN,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_refused() {
        let ty = |extents: &[usize]| Type::f32("x", extents).unwrap();
        let refused = |op: Attention, inputs: &[&[usize]]| {
            let inputs: Vec<Type> = inputs.iter().map(|extents| ty(extents)).collect();
            op.infer(&inputs).unwrap_err().to_string()
        };
        let op = |heads, masked| Attention {
            heads,
            causal: false,
            masked,
        };
        for (op, inputs) in [
            (op(2, false), &[&[1, 2, 15][..]][..]),
            (op(0, false), &[&[1, 2, 12]]),
            (op(1, false), &[&[1, 2, 3 * 129]]),
            (op(1, false), &[&[1, 2, 4], &[2, 2, 8]]),
            (op(1, false), &[&[1, 2, 4], &[1, 2, 4]]),
            (op(1, true), &[&[1, 2, 6], &[1, 3]]),
            (op(1, false), &[&[2, 6]]),
        ] {
            let told = refused(op, inputs);
            assert!(told.contains("heads · d]"), "{told}");
        }
        assert!(refused(op(1, true), &[&[1, 2]]).contains("0 inputs"));
        assert!(refused(op(1, false), &[]).contains("0 inputs"));
    }
}

//! Attention and what is built of it (Vaswani et al. 2017), with PyTorch's names of weights.

use super::*;
use crate::model::{Initializer, Start};
use crate::ops::add_bias::AddBias;
use crate::ops::attention::Attention;
use crate::ops::bmm::Bmm;
use crate::ops::heads::SplitHeads;
use crate::ops::permute::Permute;
use crate::ops::pointwise::pointwise;
use crate::ops::slice::Slice;
use crate::ops::softmax::Softmax as SoftmaxOp;

/// What a masked score becomes: far enough below every other one that its share is 0, and finite.
const MASKED: f64 = -1e30;

/// Attention of several heads: softmax(Q Kᵀ/√d) V of each head, `[N, T, D]` → `[N, T, D]`. Inputs: x
/// alone attends to itself; x and a memory `[N, S, D]` attends to that; with `masked` the last input is
/// `[N, S]`, floats of which only those above 0 show their places; the others are hidden from all. What sees nothing takes
/// nothing: its row is `out_proj.bias`.
///
/// No matrix `[T, S]` is written but where shares are dropped, while training with `dropout`, and for heads of more than 128
/// numbers (`ops::attention`). There what is hidden must be finite.
///
/// Weights `in_proj_weight [3 D, D]`, `in_proj_bias [3 D]` (Q, K and V one after the other),
/// `out_proj.weight [D, D]`, `out_proj.bias [D]`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MultiHeadAttention {
    /// Heads; they divide D.
    pub heads: usize,
    /// A place sees itself and what comes before it.
    #[serde(default)]
    pub causal: bool,
    /// The last input hides places.
    #[serde(default)]
    pub masked: bool,
    /// Probability of dropping a share while training.
    #[serde(default)]
    pub dropout: f64,
}

impl MultiHeadAttention {
    /// Attention of so many heads.
    pub fn new(heads: usize) -> Self {
        Self {
            heads,
            causal: false,
            masked: false,
            dropout: 0.0,
        }
    }

    /// The same in which no place sees those after it.
    #[must_use]
    pub fn causal(self) -> Self {
        Self {
            causal: true,
            ..self
        }
    }

    /// The same with a last input that hides places.
    #[must_use]
    pub fn masked(self) -> Self {
        Self {
            masked: true,
            ..self
        }
    }

    /// The same that drops shares while it trains.
    #[must_use]
    pub fn dropout(self, p: f64) -> Self {
        Self { dropout: p, ..self }
    }

    /// Splits `[N, T, parts · D]` into parts `[N, heads, T, d]`.
    fn split(&self, scope: &mut Scope<'_>, x: Value, parts: usize) -> Result<Vec<Value>> {
        if parts > 1 {
            let heads = self.heads;
            return scope.op(Arc::new(SplitHeads { parts, heads }), &[x]);
        }
        let extents = scope.extents(x)?;
        let (n, t, d) = (extents[0], extents[1], extents[2] / self.heads);
        let apart = scope.reshape(x, &[n, t, self.heads, d])?;
        let axes = vec![0, 2, 1, 3];
        Ok(vec![scope.op1(Arc::new(Permute { axes }), &[apart])?])
    }
}

impl MultiHeadAttention {
    /// What the values of each head are mixed to, `[N, T, D]`, by shares that are written out: where shares are dropped, and
    /// for heads that [`Attention`] has no room for.
    fn with_shares(
        &self,
        scope: &mut Scope<'_>,
        projections: &[Value],
        mask: Option<Value>,
        [n, t, s, d]: [usize; 4],
    ) -> Result<Value> {
        let mut parts = Vec::new();
        for &projection in projections {
            let many = scope.extents(projection)?[2] / d;
            parts.extend(self.split(scope, projection, many)?);
        }
        let [q, k, v] = <[Value; 3]>::try_from(parts).map_err(|_| {
            Error::shape(
                "multi_head_attention",
                "other parts",
                "query, key and value",
            )
        })?;
        let scores = Bmm {
            trans_a: false,
            trans_b: true,
        };
        let scores = scope.op1(Arc::new(scores), &[q, k])?;
        let scale = 1.0 / ((d / self.heads) as f64).sqrt();
        let causal = match self.causal {
            true => {
                let seen = (0..t * s).map(|i| f32::from(u8::from(i % s <= i / s)));
                Some(scope.constant(&[t, s], seen.collect())?)
            }
            false => None,
        };
        let mask = match mask {
            Some(mask) => Some(scope.reshape(mask, &[n, 1, 1, s])?),
            None => None,
        };
        let softmax =
            |scope: &mut Scope<'_>, scores| scope.op1(Arc::new(SoftmaxOp { axis: 3 }), &[scores]);
        let hidden = |seen: &Expr, x: Expr, instead: f64| seen.gt(0.0).select(x, instead);
        // A place that sees nothing has no shares either.
        let mut shares = match (causal, mask) {
            (None, None) => {
                let scores = pointwise(scope, [scores], |[x]| x * scale)?;
                softmax(scope, scores)?
            }
            (Some(a), None) => {
                let scores = pointwise(scope, [scores, a], |[x, a]| hidden(&a, x * scale, MASKED))?;
                softmax(scope, scores)?
            }
            (None, Some(a)) => {
                let scores = pointwise(scope, [scores, a], |[x, a]| hidden(&a, x * scale, MASKED))?;
                let shares = softmax(scope, scores)?;
                pointwise(scope, [shares, a], |[x, a]| hidden(&a, x, 0.0))?
            }
            (Some(a), Some(b)) => {
                let scores = pointwise(scope, [scores, a, b], |[x, a, b]| {
                    hidden(&a, hidden(&b, x * scale, MASKED), MASKED)
                })?;
                let shares = softmax(scope, scores)?;
                pointwise(scope, [shares, a, b], |[x, a, b]| {
                    hidden(&a, hidden(&b, x, 0.0), 0.0)
                })?
            }
        };
        if self.dropout != 0.0 {
            shares = scope.layer("dropout", &Dropout::new(self.dropout), &[shares])?;
        }
        let mixed = Bmm {
            trans_a: false,
            trans_b: false,
        };
        let mixed = scope.op1(Arc::new(mixed), &[shares, v])?;
        let axes = vec![0, 2, 1, 3];
        let mixed = scope.op1(Arc::new(Permute { axes }), &[mixed])?;
        scope.reshape(mixed, &[n, t, d])
    }
}

/// x `[N, T, in]` times the rows of a weight, which are `from` to `from + out`.
fn projected(
    scope: &mut Scope<'_>,
    x: Value,
    [weight, bias]: [Value; 2],
    rows: std::ops::Range<usize>,
) -> Result<Value> {
    let extents = scope.extents(x)?;
    let all = scope.extents(weight)?[0];
    let part = |scope: &mut Scope<'_>, value| {
        let slice = Slice {
            axis: 0,
            start: rows.start,
            extent: rows.len(),
            step: 1,
        };
        match rows.len() == all {
            true => Ok(value),
            false => scope.op1(Arc::new(slice), &[value]),
        }
    };
    let (weight, bias) = (part(scope, weight)?, part(scope, bias)?);
    let flat = scope.reshape(x, &[extents[0] * extents[1], extents[2]])?;
    let product = crate::ops::matmul::Matmul::new(false, true);
    let y = scope.op1(Arc::new(product), &[flat, weight])?;
    let y = scope.op1(Arc::new(AddBias), &[y, bias])?;
    scope.reshape(y, &[extents[0], extents[1], rows.len()])
}

layer!(
    MultiHeadAttention,
    "multi_head_attention",
    |layer, scope, inputs| {
        let kind = "multi_head_attention";
        crate::ops::dropout::check("p", layer.dropout)?;
        let given = inputs.len();
        let (inputs, mask) = match (layer.masked, inputs) {
            (true, [inputs @ .., mask]) => (inputs, Some(*mask)),
            _ => (inputs, None),
        };
        let (x, memory) = match inputs {
            [x] => (*x, None),
            [x, memory] => (*x, Some(*memory)),
            _ => {
                let found = format!("{given} inputs");
                let wanted = match layer.masked {
                    true => "x and perhaps a memory, and then a mask, since it is `masked`",
                    false => "x and perhaps a memory; a mask goes with `masked` alone",
                };
                return Err(Error::shape(kind, found, wanted));
            }
        };
        let wanted = "x as [N, T, D]";
        let [n, t, d] = scope.ty(x)?.shape.axes::<3>(kind, wanted)?;
        of_floats(scope, kind, x)?;
        let [m, s, e] = match memory {
            None => [n, t, d],
            Some(memory) => scope
                .ty(memory)?
                .shape
                .axes::<3>(kind, "a memory [N, S, D]; a mask goes with `masked` alone")?,
        };
        if layer.heads == 0 || d % layer.heads != 0 || [m, e] != [n, d] {
            let found = format!(
                "x [{n}, {t}, {d}], memory [{m}, {s}, {e}], {} heads",
                layer.heads
            );
            let wanted = "x [N, T, D] and a memory [N, S, D], D a multiple of the heads";
            return Err(Error::shape(kind, found, wanted));
        }
        if let Some(mask) = mask {
            let found = scope.ty(mask)?.shape.to_string();
            if scope.extents(mask)? != [n, s] {
                let wanted = format!("[{n}, {s}], a number for each place that is attended to");
                return Err(Error::shape(format!("{kind}, mask"), found, wanted));
            }
        }
        let start = Initializer::GlorotUniform.with_fans(d, 3 * d);
        let weight = scope.parameter("in_proj_weight", &[3 * d, d], start)?;
        let bias = scope.parameter("in_proj_bias", &[3 * d], Start::constant(0.0))?;
        let weights = [weight, bias];
        let projections = match memory {
            None => vec![projected(scope, x, weights, 0..3 * d)?],
            Some(memory) => vec![
                projected(scope, x, weights, 0..d)?,
                projected(scope, memory, weights, d..3 * d)?,
            ],
        };
        let drops = layer.dropout != 0.0 && scope.is_training();
        let mixed = match drops || d / layer.heads > Attention::MOST {
            true => layer.with_shares(scope, &projections, mask, [n, t, s, d])?,
            false => {
                let inputs: Vec<Value> = projections.into_iter().chain(mask).collect();
                let attention = Attention {
                    heads: layer.heads,
                    causal: layer.causal,
                    masked: layer.masked,
                };
                scope.op(Arc::new(attention), &inputs)?[0]
            }
        };
        let out = Dense::new(d).bias_start(Initializer::Constant(0.0));
        scope.layer("out_proj", &out, &[mixed])
    }
);

/// The activation between the two layers of a transformer block.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Between {
    /// max(0, x).
    #[default]
    Relu,
    /// x Φ(x).
    Gelu,
}

/// A block of a transformer: attention, then two dense layers, each added to what comes in and
/// normalized after (or, `norm_first`, before). `[N, T, D]` → `[N, T, D]`; with `cross` a memory
/// `[N, S, D]` is the second input, attended to in between; with `masked` the last input is the mask of
/// the places that x attends to.
///
/// Weights `self_attn.…`, `linear1.…`, `linear2.…`, `norm1.…`, `norm2.…`, as of PyTorch's
/// `TransformerEncoderLayer`; with `cross` also `multihead_attn.…` and `norm3.…`, as of its
/// `TransformerDecoderLayer`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TransformerBlock {
    /// Heads.
    pub heads: usize,
    /// Units between the two dense layers.
    pub feed_forward: usize,
    /// Probability of dropping, at all places where PyTorch's layer drops.
    #[serde(default)]
    pub dropout: f64,
    /// The activation between the dense layers.
    #[serde(default)]
    pub activation: Between,
    /// Normalizes before attention and dense layers, not after.
    #[serde(default)]
    pub norm_first: bool,
    /// A place sees itself and what comes before it.
    #[serde(default)]
    pub causal: bool,
    /// The last input hides places.
    #[serde(default)]
    pub masked: bool,
    /// A second input is attended to.
    #[serde(default)]
    pub cross: bool,
}

impl TransformerBlock {
    /// An encoder's block without dropout.
    pub fn new(heads: usize, feed_forward: usize) -> Self {
        Self {
            heads,
            feed_forward,
            dropout: 0.0,
            activation: Between::Relu,
            norm_first: false,
            causal: false,
            masked: false,
            cross: false,
        }
    }

    /// The same in which no place sees those after it.
    #[must_use]
    pub fn causal(self) -> Self {
        Self {
            causal: true,
            ..self
        }
    }

    /// The same that normalizes first.
    #[must_use]
    pub fn norm_first(self) -> Self {
        Self {
            norm_first: true,
            ..self
        }
    }

    /// The same with x Φ(x) between the dense layers.
    #[must_use]
    pub fn gelu(self) -> Self {
        Self {
            activation: Between::Gelu,
            ..self
        }
    }

    /// The same that drops while it trains.
    #[must_use]
    pub fn dropout(self, p: f64) -> Self {
        Self { dropout: p, ..self }
    }

    /// A decoder's block: causal, with a memory as second input.
    #[must_use]
    pub fn cross(self) -> Self {
        Self {
            causal: true,
            cross: true,
            ..self
        }
    }

    /// One part of the block, with its sum and norm.
    fn part(
        &self,
        scope: &mut Scope<'_>,
        norm: &str,
        x: Value,
        write: impl FnOnce(&mut Scope<'_>, Value) -> Result<Value>,
    ) -> Result<Value> {
        let before = match self.norm_first {
            true => scope.layer(norm, &LayerNorm::new(), &[x])?,
            false => x,
        };
        let mut y = write(scope, before)?;
        if self.dropout != 0.0 {
            y = scope.layer("dropout", &Dropout::new(self.dropout), &[y])?;
        }
        let sum = pointwise(scope, [x, y], |[x, y]| x + y)?;
        match self.norm_first {
            true => Ok(sum),
            false => scope.layer(norm, &LayerNorm::new(), &[sum]),
        }
    }
}

layer!(
    TransformerBlock,
    "transformer_block",
    |layer, scope, inputs| {
        let wanted = 1 + usize::from(layer.cross) + usize::from(layer.masked);
        if inputs.len() != wanted {
            let found = format!("{} inputs", inputs.len());
            return Err(Error::shape("transformer_block", found, wanted.to_string()));
        }
        let attention = MultiHeadAttention {
            heads: layer.heads,
            causal: layer.causal,
            masked: layer.masked,
            dropout: layer.dropout,
        };
        let mask = layer.masked.then(|| inputs[wanted - 1]);
        let mut x = layer.part(scope, "norm1", inputs[0], |scope, x| {
            let inputs: Vec<Value> = [x].into_iter().chain(mask).collect();
            scope.layer("self_attn", &attention, &inputs)
        })?;
        if layer.cross {
            let attention = MultiHeadAttention {
                causal: false,
                masked: false,
                ..attention
            };
            x = layer.part(scope, "norm2", x, |scope, x| {
                scope.layer("multihead_attn", &attention, &[x, inputs[1]])
            })?;
        }
        let last = if layer.cross { "norm3" } else { "norm2" };
        layer.part(scope, last, x, |scope, x| {
            let d = scope.extents(x)?[2];
            let h = scope.layer("linear1", &Dense::new(layer.feed_forward), &[x])?;
            let mut h = match layer.activation {
                Between::Relu => scope.layer("activation", &Relu, &[h])?,
                Between::Gelu => scope.layer("activation", &Gelu, &[h])?,
            };
            if layer.dropout != 0.0 {
                h = scope.layer("dropout", &Dropout::new(layer.dropout), &[h])?;
            }
            scope.layer("linear2", &Dense::new(d), &[h])
        })
    }
);

/// Adds the places' sines and cosines (Vaswani et al. 2017, section 3.5) to `[N, T, D]`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PositionalEncoding;

layer!(
    PositionalEncoding,
    "positional_encoding",
    |_layer, scope, inputs| {
        let [x] = arity("positional_encoding", inputs)?;
        let wanted = "x as [N, T, D]";
        let [_, t, d] = scope
            .ty(x)?
            .shape
            .axes::<3>("positional_encoding", wanted)?;
        let angle = |place: usize, k: usize| {
            let angle = place as f64 / 10_000f64.powf((k / 2 * 2) as f64 / d as f64);
            if k.is_multiple_of(2) {
                angle.sin()
            } else {
                angle.cos()
            }
        };
        let values = (0..t * d).map(|i| angle(i / d, i % d) as f32);
        let places = scope.constant(&[t, d], values.collect())?;
        pointwise(scope, [x, places], |[x, p]| x + p)
    }
);

/// Adds a trained value for each place to `[N, T, D]`. Weight `weight [T, D]`, N(0, 0.02²) at first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LearnedPositions;

layer!(
    LearnedPositions,
    "learned_positions",
    |_layer, scope, inputs| {
        let [x] = arity("learned_positions", inputs)?;
        let wanted = "x as [N, T, D]";
        let [_, t, d] = scope.ty(x)?.shape.axes::<3>("learned_positions", wanted)?;
        let start = Initializer::Normal(0.02).with_fans(t, d);
        let places = scope.parameter("weight", &[t, d], start)?;
        pointwise(scope, [x, places], |[x, p]| x + p)
    }
);

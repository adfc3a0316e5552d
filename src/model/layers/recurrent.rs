//! Recurrent networks over sequences `[N, T, D]`.
//!
//! Sequences of different lengths stand with something behind them, up to T. Forward, what is behind an end
//! changes no state before it: the result is cut off there. In the other direction each sequence is turned
//! round within its length, by a product with a permutation, goes forward, and is turned back. So the op
//! knows no lengths, and whatever stands behind an end, if only it is finite, reaches neither a state nor a
//! gradient.

use super::dense::{fan_in, is_fan_in};
use super::*;
use crate::model::Initializer;
use crate::ops::add_bias::AddBias;
use crate::ops::bmm::Bmm;
use crate::ops::concat::Concat as Join;
use crate::ops::matmul::Matmul;
use crate::ops::pointwise::pointwise;
use crate::ops::recurrent::{Cell, Recurrent};
use crate::ops::reduction::{Kind, Reduction};
use crate::ops::slice::Slice;
use crate::shape::DType;

fn one() -> usize {
    1
}

fn is_one(layers: &usize) -> bool {
    *layers == 1
}

fn is_nothing(p: &f64) -> bool {
    *p == 0.0
}

fn is_no(value: &bool) -> bool {
    !*value
}

/// Layers that differ in their cell, and perhaps in settings of their own.
macro_rules! recurrent {
    ($($(#[$doc:meta])* $name:ident $kind:literal |$layer:ident| $cell:expr
        $(; $(#[$field_doc:meta])* $field:ident)?)*) => {
        $(
            $(#[$doc])*
            ///
            /// `[N, T, D]` → `[N, T, H]`; `[N, T, 2 H]` in both directions, forward first; with `last`
            /// the state after a sequence alone, `[N, H]` or `[N, 2 H]`: of the other direction that
            /// at the first place. Weights of layer k, with G gates of H rows each: `weight_ih_lk
            /// [G H, D]`, `weight_hh_lk [G H, H]`, `bias_ih_lk [G H]`, `bias_hh_lk [G H]`, of the other
            /// direction with `_reverse` behind; all uniform within ±1/√H at first.
            ///
            /// With `lengths` a second input, integers `[N]`, says how long each sequence is, as
            /// `pack_padded_sequence` does: states behind a sequence's end are 0, the other direction begins
            /// at the end, and the state after a sequence is that at its end. A length of 0 leaves nothing
            /// but zeros; one above T counts as T.
            #[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
            #[serde(deny_unknown_fields)]
            pub struct $name {
                /// H: units of a layer and direction, 1024 at most.
                pub units: usize,
                /// Layers, each over the sequence that the one before makes.
                #[serde(default = "one", skip_serializing_if = "is_one")]
                pub layers: usize,
                /// Whether a second set of weights goes from the last step to the first.
                #[serde(default, skip_serializing_if = "is_no")]
                pub bidirectional: bool,
                /// Whether the result is the state after a sequence instead of all states.
                #[serde(default, skip_serializing_if = "is_no")]
                pub last: bool,
                /// Whether a second input has the sequences' lengths.
                #[serde(default, skip_serializing_if = "is_no")]
                pub lengths: bool,
                /// Whether there are biases.
                #[serde(default = "yes", skip_serializing_if = "is_yes")]
                pub bias: bool,
                /// Probability of dropping each state that a layer hands to the next, while training; 0 to below 1.
                #[serde(default, skip_serializing_if = "is_nothing")]
                pub dropout: f64,
                /// How weights and biases start, their connections in being H.
                #[serde(default = "fan_in", skip_serializing_if = "is_fan_in")]
                pub start: Initializer,
                $($(#[$field_doc])*
                #[serde(default, skip_serializing_if = "is_no")]
                pub $field: bool,)?
            }

            impl $name {
                /// One layer of so many units, forward, with biases; all states.
                pub fn new(units: usize) -> Self {
                    Self {
                        units,
                        layers: 1,
                        bidirectional: false,
                        last: false,
                        lengths: false,
                        bias: true,
                        dropout: 0.0,
                        start: Initializer::FanIn,
                        $($field: false,)?
                    }
                }

                /// The same in so many layers.
                #[must_use]
                pub fn layers(self, layers: usize) -> Self {
                    Self { layers, ..self }
                }

                /// The same in both directions.
                #[must_use]
                pub fn bidirectional(self) -> Self {
                    Self { bidirectional: true, ..self }
                }

                /// The same with the state after a sequence as its result.
                #[must_use]
                pub fn last(self) -> Self {
                    Self { last: true, ..self }
                }

                /// The same with a second input that has the sequences' lengths.
                #[must_use]
                pub fn lengths(self) -> Self {
                    Self { lengths: true, ..self }
                }

                /// The same without biases.
                #[must_use]
                pub fn without_bias(self) -> Self {
                    Self { bias: false, ..self }
                }

                /// The same with this probability of dropping a state between layers, of which there are several.
                #[must_use]
                pub fn dropout(self, p: f64) -> Self {
                    Self { dropout: p, ..self }
                }

                /// The same with weights and biases that start so.
                #[must_use]
                pub fn start(self, start: Initializer) -> Self {
                    Self { start, ..self }
                }

                $(/// The same with this setting on.
                #[must_use]
                pub fn $field(self) -> Self {
                    Self { $field: true, ..self }
                })?
            }

            layer!($name, $kind, |$layer, scope, inputs| {
                let (x, lengths) = match $layer.lengths {
                    true => {
                        let [x, lengths] = arity($kind, inputs)?;
                        (x, Some(lengths))
                    }
                    false => {
                        let [x] = arity($kind, inputs)?;
                        (x, None)
                    }
                };
                let net = Net {
                    kind: $kind,
                    cell: $cell,
                    units: $layer.units,
                    layers: $layer.layers,
                    bidirectional: $layer.bidirectional,
                    last: $layer.last,
                    bias: $layer.bias,
                    dropout: $layer.dropout,
                    start: $layer.start,
                };
                net.forward(scope, x, lengths)
            });
        )*
    };
}
recurrent! {
    /// Long short-term memory (Hochreiter and Schmidhuber 1997), gates i, f, g, o.
    Lstm "lstm" |layer| Cell::Lstm
    /// Gated recurrent units (Cho et al. 2014) as PyTorch has them, gates r, z, n: the reset gate
    /// multiplies the candidate's recurrent product, `bias_hh` included.
    Gru "gru" |layer| Cell::Gru
    /// The plain recurrence hₜ = tanh(W_ih xₜ + b_ih + W_hh hₜ₋₁ + b_hh) (Elman 1990).
    Rnn "rnn" |layer| Cell::Plain { relu: layer.relu };
    /// Whether max(0, x) stands in place of the hyperbolic tangent.
    relu
}

/// What the layers of this file have in common.
struct Net {
    kind: &'static str,
    cell: Cell,
    units: usize,
    layers: usize,
    bidirectional: bool,
    last: bool,
    bias: bool,
    dropout: f64,
    start: Initializer,
}

impl Net {
    fn forward(&self, scope: &mut Scope<'_>, x: Value, lengths: Option<Value>) -> Result<Value> {
        let kind = self.kind;
        if self.layers == 0 {
            let name = format!("layers of {kind}");
            return Err(Error::setting(name, 0, "1 or more"));
        }
        if self.dropout != 0.0 && self.layers == 1 {
            let (name, found) = (format!("dropout of {kind}"), self.dropout);
            let wanted = "0 for one layer: states are dropped on their way to the next";
            return Err(Error::setting(name, found, wanted));
        }
        if scope.extents(x)?.len() != 3 {
            let found = scope.ty(x)?.to_string();
            return Err(Error::shape(kind, found, "x as [N, T, D]"));
        }
        of_floats(scope, kind, x)?;
        let ends = match lengths {
            Some(lengths) => Some(Ends::of(scope, kind, x, lengths, self.bidirectional)?),
            None => None,
        };
        let ends = ends.as_ref();
        let mut x = x;
        for number in 0..self.layers {
            let last = self.last && number + 1 == self.layers;
            let forward = self.direction(scope, x, number, (false, last), ends)?;
            x = match self.bidirectional {
                true => {
                    let back = self.direction(scope, x, number, (true, last), ends)?;
                    let axis = if last { 1 } else { 2 };
                    scope.op1(Arc::new(Join { axis }), &[forward, back])?
                }
                false => forward,
            };
            if self.dropout != 0.0 && number + 1 < self.layers {
                x = Dropout::new(self.dropout).forward(scope, &[x])?;
            }
        }
        Ok(x)
    }

    /// One layer in one direction of time: all states, or the one that comes last.
    fn direction(
        &self,
        scope: &mut Scope<'_>,
        x: Value,
        number: usize,
        (reverse, last): (bool, bool),
        ends: Option<&Ends>,
    ) -> Result<Value> {
        let x = match ends {
            Some(ends) if reverse => ends.turned(scope, x)?,
            _ => x,
        };
        let extents = scope.extents(x)?;
        let (n, t, d) = (extents[0], extents[1], extents[2]);
        let (h, width) = (self.units, self.cell.gates().saturating_mul(self.units));
        let end = if reverse { "_reverse" } else { "" };
        let start = self.start.with_fans(h, h);
        let parameter = |scope: &mut Scope<'_>, name: &str, extents: &[usize]| {
            scope.parameter(&format!("{name}_l{number}{end}"), extents, start)
        };
        let w_in = parameter(scope, "weight_ih", &[width, d])?;
        let w = parameter(scope, "weight_hh", &[width, h])?;
        let flat = scope.reshape(x, &[n * t, d])?;
        let mut sums = scope.op1(Arc::new(Matmul::new(false, true)), &[flat, w_in])?;
        let b = match self.bias {
            true => {
                let b_in = parameter(scope, "bias_ih", &[width])?;
                sums = scope.op1(Arc::new(AddBias), &[sums, b_in])?;
                parameter(scope, "bias_hh", &[width])?
            }
            false => scope.constant(&[width], vec![0.0; width])?,
        };
        let sums = scope.reshape(sums, &[n, t, width])?;
        let recurrent = Recurrent {
            cell: self.cell,
            reverse: reverse && ends.is_none(),
        };
        let states = scope.op(Arc::new(recurrent), &[sums, w, b])?[0];
        if let Some(ends) = ends {
            return match (last, reverse) {
                (true, _) => ends.last(scope, states),
                (false, false) => ends.cut(scope, states),
                (false, true) => {
                    let states = ends.cut(scope, states)?;
                    ends.turned(scope, states)
                }
            };
        }
        if !last {
            return Ok(states);
        }
        let slice = Slice {
            axis: 1,
            start: if reverse { 0 } else { t - 1 },
            extent: 1,
            step: 1,
        };
        let state = scope.op1(Arc::new(slice), &[states])?;
        scope.reshape(state, &[n, h])
    }
}

/// Where sequences end.
struct Ends {
    /// `[N, 1, 1]`.
    lengths: Value,
    /// The steps' numbers, `[T, 1]`.
    steps: Value,
    /// Of each sequence the matrix that turns it round within its length, `[N, T, T]`.
    turns: Option<Value>,
}

impl Ends {
    fn of(
        scope: &mut Scope<'_>,
        kind: &'static str,
        x: Value,
        lengths: Value,
        turned: bool,
    ) -> Result<Self> {
        let extents = scope.extents(x)?;
        let (n, t) = (extents[0], extents[1]);
        let ty = scope.ty(lengths)?;
        if ty.dtype != DType::U32 || ty.shape.extents() != [n] {
            let (found, wanted) = (ty.to_string(), format!("lengths as u32 [{n}]"));
            return Err(Error::shape(kind, found, wanted));
        }
        let most = t as f64;
        let lengths = pointwise(scope, [lengths], |[length]| length.min(most))?;
        let lengths = scope.reshape(lengths, &[n, 1, 1])?;
        let counted: Vec<f32> = (0..t).map(|step| step as f32).collect();
        let steps = scope.constant(&[t, 1], counted.clone())?;
        let turns = match turned {
            false => None,
            true => {
                let places = scope.constant(&[t], counted)?;
                Some(pointwise(
                    scope,
                    [lengths, steps, places],
                    |[length, step, place]| {
                        let within = step.lt(&length);
                        let from = within.select(length - 1.0 - &step, step);
                        place.equals(from).select(1.0, 0.0)
                    },
                )?)
            }
        };
        Ok(Self {
            lengths,
            steps,
            turns,
        })
    }

    /// Sequences with zeros behind their ends.
    fn cut(&self, scope: &mut Scope<'_>, x: Value) -> Result<Value> {
        pointwise(scope, [x, self.lengths, self.steps], |[x, length, step]| {
            step.lt(&length).select(x, 0.0)
        })
    }

    /// The states at the ends, `[N, H]`.
    fn last(&self, scope: &mut Scope<'_>, x: Value) -> Result<Value> {
        let only = pointwise(scope, [x, self.lengths, self.steps], |[x, length, step]| {
            step.equals(length - 1.0).select(x, 0.0)
        })?;
        scope.op1(Arc::new(Reduction::new(Kind::Sum, &[1])), &[only])
    }

    /// Sequences the other way round.
    fn turned(&self, scope: &mut Scope<'_>, x: Value) -> Result<Value> {
        let Some(turns) = self.turns else {
            return Ok(x);
        };
        let product = Bmm {
            trans_a: false,
            trans_b: false,
        };
        scope.op1(Arc::new(product), &[turns, x])
    }
}

//! Recurrent networks over sequences `[N, T, D]`.

use super::dense::{fan_in, is_fan_in};
use super::*;
use crate::model::Initializer;
use crate::ops::add_bias::AddBias;
use crate::ops::concat::Concat as Join;
use crate::ops::matmul::Matmul;
use crate::ops::recurrent::{Cell, Recurrent};
use crate::ops::slice::Slice;

fn one() -> usize {
    1
}

fn is_one(layers: &usize) -> bool {
    *layers == 1
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
                /// Whether there are biases.
                #[serde(default = "yes", skip_serializing_if = "is_yes")]
                pub bias: bool,
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
                        bias: true,
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

                /// The same without biases.
                #[must_use]
                pub fn without_bias(self) -> Self {
                    Self { bias: false, ..self }
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
                let [x] = arity($kind, inputs)?;
                let net = Net {
                    kind: $kind,
                    cell: $cell,
                    units: $layer.units,
                    layers: $layer.layers,
                    bidirectional: $layer.bidirectional,
                    last: $layer.last,
                    bias: $layer.bias,
                    start: $layer.start,
                };
                net.forward(scope, x)
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
    start: Initializer,
}

impl Net {
    fn forward(&self, scope: &mut Scope<'_>, x: Value) -> Result<Value> {
        let kind = self.kind;
        if self.layers == 0 {
            let name = format!("layers of {kind}");
            return Err(Error::setting(name, 0, "1 or more"));
        }
        if scope.extents(x)?.len() != 3 {
            let found = scope.ty(x)?.to_string();
            return Err(Error::shape(kind, found, "x as [N, T, D]"));
        }
        let mut x = x;
        for number in 0..self.layers {
            let last = self.last && number + 1 == self.layers;
            let forward = self.direction(scope, x, number, false, last)?;
            x = match self.bidirectional {
                true => {
                    let back = self.direction(scope, x, number, true, last)?;
                    let axis = if last { 1 } else { 2 };
                    scope.op1(Arc::new(Join { axis }), &[forward, back])?
                }
                false => forward,
            };
        }
        Ok(x)
    }

    /// One layer in one direction of time: all states, or the one that comes last.
    fn direction(
        &self,
        scope: &mut Scope<'_>,
        x: Value,
        number: usize,
        reverse: bool,
        last: bool,
    ) -> Result<Value> {
        let extents = scope.extents(x)?;
        let (n, t, d) = (extents[0], extents[1], extents[2]);
        let (h, width) = (self.units, self.cell.gates() * self.units);
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
            reverse,
        };
        let states = scope.op(Arc::new(recurrent), &[sums, w, b])?[0];
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

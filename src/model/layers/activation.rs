//! Activations, each an expression, and dropout.

use super::*;
use crate::expr::activations;
use crate::model::Pass;
use crate::model::Start;
use crate::ops::activation::{Activate, Activation};
use crate::ops::dropout::{self, Dropout as Mask};
use crate::ops::pointwise::pointwise;

/// Layers without settings whose elements are an expression of the input's.
macro_rules! activations {
    ($($(#[$doc:meta])* $name:ident $kind:literal $function:ident)*) => {
        $(
            $(#[$doc])*
            #[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
            pub struct $name;

            layer!($name, $kind, |_layer, scope, inputs| {
                let [x] = arity($kind, inputs)?;
                pointwise(scope, [x], |[x]| activations::$function(&x))
            });
        )*

        pub(super) fn register(registry: Registry) -> Registry {
            let registry = registry$(.with::<$name>())*;
            registry
                .with::<Relu>()
                .with::<Sigmoid>()
                .with::<Tanh>()
                .with::<LeakyRelu>()
                .with::<PRelu>()
                .with::<Elu>()
                .with::<Softmax>()
                .with::<LogSoftmax>()
        }
    };
}
activations! {
    /// min(max(0, x), 6).
    Relu6 "relu6" relu6
    /// Scaled exponential linear units (Klambauer et al. 2017).
    Selu "selu" selu
    /// x Φ(x) (Hendrycks and Gimpel 2016).
    Gelu "gelu" gelu
    /// [`Gelu`] by a hyperbolic tangent.
    GeluTanh "gelu_tanh" gelu_tanh
    /// x σ(x).
    Silu "silu" silu
    /// x tanh(ln(1 + eˣ)).
    Mish "mish" mish
    /// ln(1 + eˣ).
    Softplus "softplus" softplus
    /// x/(1 + |x|).
    Softsign "softsign" softsign
    /// ln σ(x).
    LogSigmoid "log_sigmoid" log_sigmoid
    /// x between −1 and 1.
    HardTanh "hard_tanh" hard_tanh
    /// min(max(0, x + 3), 6)/6.
    HardSigmoid "hard_sigmoid" hard_sigmoid
    /// x times [`HardSigmoid`] of it.
    HardSwish "hard_swish" hard_swish
}

/// The activations that kernels of convolutions know by name.
macro_rules! known {
    ($($(#[$doc:meta])* $name:ident $kind:literal)*) => {
        $(
            $(#[$doc])*
            #[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
            pub struct $name;

            layer!($name, $kind, |_layer, scope, inputs| {
                let [x] = arity($kind, inputs)?;
                scope.op1(Arc::new(Activate(Activation::$name)), &[x])
            });
        )*
    };
}
known! {
    /// max(0, x).
    Relu "relu"
    /// 1/(1 + e⁻ˣ).
    Sigmoid "sigmoid"
    /// Hyperbolic tangent.
    Tanh "tanh"
}

/// x, or slope · x below 0.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LeakyRelu {
    /// The slope below 0.
    pub slope: f64,
}

impl Default for LeakyRelu {
    fn default() -> Self {
        Self { slope: 0.01 }
    }
}

layer!(LeakyRelu, "leaky_relu", |layer, scope, inputs| {
    let [x] = arity("leaky_relu", inputs)?;
    pointwise(scope, [x], |[x]| activations::leaky_relu(&x, layer.slope))
});

/// x, or a x below 0, by slopes that are trained (He et al. 2015): one, or one for each channel.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PRelu {
    /// Where slopes begin.
    pub start: f64,
    /// Whether each channel has its own, along the first axis of an example.
    pub channels: bool,
}

impl Default for PRelu {
    fn default() -> Self {
        Self {
            start: 0.25,
            channels: false,
        }
    }
}

layer!(PRelu, "prelu", |layer, scope, inputs| {
    let [x] = arity("prelu", inputs)?;
    let extents = scope.extents(x)?;
    let slopes = match (layer.channels, extents.get(1)) {
        (true, Some(&channels)) => channels,
        (true, None) => {
            return Err(Error::shape(
                "prelu",
                scope.ty(x)?.to_string(),
                "x as [N, C, …]",
            ));
        }
        (false, _) => 1,
    };
    let weight = scope.parameter("weight", &[slopes], Start::constant(layer.start))?;
    let behind = vec![1; extents.len().saturating_sub(2)];
    let along = match layer.channels {
        true => scope.reshape(weight, &[&[slopes][..], &behind].concat())?,
        false => weight,
    };
    pointwise(scope, [x, along], |[x, a]| x.gt(0.0).select(&x, a * &x))
});

/// x, or α (eˣ − 1) below 0 (Clevert et al. 2016).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Elu {
    /// α.
    pub alpha: f64,
}

impl Default for Elu {
    fn default() -> Self {
        Self { alpha: 1.0 }
    }
}

layer!(Elu, "elu", |layer, scope, inputs| {
    let [x] = arity("elu", inputs)?;
    pointwise(scope, [x], |[x]| activations::elu(&x, layer.alpha))
});

/// The last axis of a value.
fn last_axis(scope: &Scope<'_>, kind: &str, x: Value) -> Result<usize> {
    let ty = scope.ty(x)?;
    match ty.shape.rank() {
        0 | 1 => Err(Error::shape(kind, ty.to_string(), "x as [N, …, K]")),
        rank => Ok(rank - 1),
    }
}

/// Softmax along the last axis. A loss takes scores from before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Softmax;

layer!(Softmax, "softmax", |_layer, scope, inputs| {
    let [x] = arity("softmax", inputs)?;
    let axis = last_axis(scope, "softmax", x)?;
    scope.op1(Arc::new(crate::ops::softmax::Softmax { axis }), &[x])
});

/// The logarithm of [`Softmax`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LogSoftmax;

layer!(LogSoftmax, "log_softmax", |_layer, scope, inputs| {
    let [x] = arity("log_softmax", inputs)?;
    let axis = last_axis(scope, "log_softmax", x)?;
    scope.op1(Arc::new(crate::ops::log_softmax::LogSoftmax { axis }), &[x])
});

/// Drops elements with probability p while training and scales the others by 1/(1 − p) (Srivastava
/// et al. 2014, as PyTorch); with `book` the others stay as they are, and evaluation scales by 1 − p
/// (Nielsen, chapter 3).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dropout {
    /// Probability of dropping an element, from 0 to below 1.
    pub p: f64,
    /// The book's meaning.
    #[serde(default)]
    pub book: bool,
}

impl Dropout {
    /// Dropout that scales while it trains.
    pub fn new(p: f64) -> Self {
        Self { p, book: false }
    }

    /// Dropout that scales when it evaluates.
    pub fn book(p: f64) -> Self {
        Self { p, book: true }
    }
}

layer!(Dropout, "dropout", |layer, scope, inputs| {
    let [x] = arity("dropout", inputs)?;
    dropout::check("p", layer.p)?;
    let number = scope.stream()?;
    match scope.pass() {
        Pass::Training { keys, step } => {
            let mask = Mask {
                p: layer.p,
                layer: number,
                rescale: !layer.book,
            };
            scope.op1(Arc::new(mask), &[x, keys, step])
        }
        Pass::Evaluation if layer.book => pointwise(scope, [x], |[x]| x * (1.0 - layer.p)),
        Pass::Evaluation => Ok(x),
    }
});

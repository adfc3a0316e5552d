//! Activation functions, each a line: a new one is a function of [`Expr`], here or anywhere.
//!
//! ```
//! use wgrad::expr::{Expr, activations::gelu};
//! let y = gelu(&Expr::input(0));
//! assert!((y.value(&[1.0])? - 0.8413447460685429).abs() < 1e-12);
//! # Ok::<(), wgrad::Error>(())
//! ```

use super::Expr;

/// max(x, 0).
pub fn relu(x: &Expr) -> Expr {
    x.relu()
}

/// x where x > 0, else `slope` · x (Maas et al. 2013).
pub fn leaky_relu(x: &Expr, slope: f64) -> Expr {
    x.gt(0.0).select(x, x * slope)
}

/// min(max(x, 0), 6).
pub fn relu6(x: &Expr) -> Expr {
    x.clamp(0.0, 6.0)
}

/// x where x > 0, else `alpha` (eˣ − 1) (Clevert et al. 2016).
pub fn elu(x: &Expr, alpha: f64) -> Expr {
    // Of the branch that is not taken, the exponent stays small.
    x.gt(0.0).select(x, x.min(0.0).expm1() * alpha)
}

/// ELU that keeps mean 0 and variance 1 (Klambauer et al. 2017).
pub fn selu(x: &Expr) -> Expr {
    elu(x, 1.673_263_242_354_377_2) * 1.050_700_987_355_480_5
}

/// x Φ(x), Φ being the normal distribution's (Hendrycks and Gimpel 2016).
pub fn gelu(x: &Expr) -> Expr {
    x * ((x * std::f64::consts::FRAC_1_SQRT_2).erf() + 1.0) * 0.5
}

/// [`gelu`] by ½ x (1 + tanh(√(2/π) (x + 0.044715 x³))).
pub fn gelu_tanh(x: &Expr) -> Expr {
    let root = std::f64::consts::FRAC_2_PI.sqrt();
    let inner = (x + x * x * x * 0.044_715) * root;
    x * (inner.tanh() + 1.0) * 0.5
}

/// x · sigmoid(x), also called Swish (Elfwing et al. 2018).
pub fn silu(x: &Expr) -> Expr {
    x * x.sigmoid()
}

/// x · tanh(softplus(x)) (Misra 2019).
pub fn mish(x: &Expr) -> Expr {
    x * x.softplus().tanh()
}

/// ln(1 + eˣ).
pub fn softplus(x: &Expr) -> Expr {
    x.softplus()
}

/// x/(1 + |x|).
pub fn softsign(x: &Expr) -> Expr {
    x / (x.abs() + 1.0)
}

/// tanh x.
pub fn tanh(x: &Expr) -> Expr {
    x.tanh()
}

/// 1/(1 + e⁻ˣ).
pub fn sigmoid(x: &Expr) -> Expr {
    x.sigmoid()
}

/// ln sigmoid(x).
pub fn log_sigmoid(x: &Expr) -> Expr {
    -(-x).softplus()
}

/// min(max(x, −1), 1).
pub fn hard_tanh(x: &Expr) -> Expr {
    x.clamp(-1.0, 1.0)
}

/// min(max(x/6 + ½, 0), 1) (Courbariaux et al. 2015, as PyTorch's).
pub fn hard_sigmoid(x: &Expr) -> Expr {
    (x * (1.0 / 6.0) + 0.5).clamp(0.0, 1.0)
}

/// x · [`hard_sigmoid`] (Howard et al. 2019).
pub fn hard_swish(x: &Expr) -> Expr {
    x * hard_sigmoid(x)
}

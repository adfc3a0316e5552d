//! How far a kernel's results may lie from the truth, with reasons.
//!
//! Errors are measured against the largest number that enters or leaves the launch. With
//! u = 2⁻²⁴ (half an ulp of f32, ε = 2 u):
//!
//! - **Sums.** n products summed in any order are off by at most n u Σ|aᵢbᵢ| (Higham
//!   2002, §3.1) and, roundings being independent, with overwhelming probability by a
//!   small multiple of √n u Σ|aᵢbᵢ| (Higham and Mary 2019). For factors of mixed sign
//!   Σ|aᵢbᵢ| is about √n times the largest sum, so the error is about n u times it: the
//!   tolerance allows 2 n u = n ε.
//! - **Around the sum** (bias, slope, scaling, the update) at most eight more operations,
//!   each one rounding: 8 ε.
//! - **Functions on a GPU** may be off by what WGSL states ("Floating Point Accuracy");
//!   [`FUNCTIONS`] says which kernel takes which.
//! - **Integers** are equal.

/// What WGSL allows a kernel's functions beyond correct rounding.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Functions {
    /// The op's stem.
    pub stem: &'static str,
    /// In units of ε of the largest number.
    pub epsilons: f64,
    /// Why.
    pub reason: &'static str,
}

/// The table of functions; ops that are not listed only add and multiply.
pub const FUNCTIONS: &[Functions] = &[
    Functions {
        stem: "average",
        epsilons: 5.0,
        reason: "division 2.5 ulp, of a difference up to twice the largest number",
    },
    Functions {
        stem: "adaptive_avg_pool2d",
        epsilons: 2.5,
        reason: "division 2.5 ulp",
    },
    Functions {
        stem: "avg_pool2d",
        epsilons: 2.5,
        reason: "division 2.5 ulp",
    },
    Functions {
        stem: "cross_entropy",
        epsilons: 29.0,
        reason: "exp 23, log 3, division 2.5 ulp",
    },
    Functions {
        stem: "dense_loss",
        epsilons: 55.0,
        reason: "as a cost, after an activation",
    },
    Functions {
        stem: "distort",
        epsilons: 200.0,
        reason: "exp 3 + 2|x| ulp of a weight, one per axis: Σ w (3 + 2|x|) is 4 Σ w ≤ 20, so \
                 2 · 20 · 5 ε of a coordinate and 4 times that of a value; the random signs \
                 of 36 numbers or more leave a quarter at most",
    },
    Functions {
        stem: "init",
        epsilons: 10.0,
        reason: "division 2.5 ulp and square root (inverseSqrt 2 ulp, division 2.5) of Box and \
                 Muller, polynomials of five steps on the CPU and fused ones on the GPU",
    },
    Functions {
        stem: "log_likelihood",
        epsilons: 29.0,
        reason: "exp 23, log 3, division 2.5 ulp",
    },
    Functions {
        stem: "log_softmax",
        epsilons: 29.0,
        reason: "exp 23, log 3 ulp, and one more exp in the gradient",
    },
    Functions {
        stem: "lrn",
        epsilons: 40.0,
        reason: "log 4 (2⁻²¹ near 1) times an exponent up to 1.25, exp 3 + 2|x| ulp where |x| ≤ 3: \
                 9; division 2.5; in the gradient that twice, of a sum that is taken twice",
    },
    Functions {
        stem: "norm",
        epsilons: 14.5,
        reason: "divisions 2.5 ulp: of two means and 1 / √v; half of the mean square's counts; \
                 square root (inverseSqrt 2 ulp, division 2.5)",
    },
    Functions {
        stem: "recurrent",
        epsilons: 26.0,
        reason: "as activation; how it adds up over steps is among the terms of the cases",
    },
    Functions {
        stem: "reduction",
        epsilons: 32.5,
        reason: "exp 23, log 4 (2⁻²¹ near 1), division 2.5, and one more in the norm's slope; \
                 square root (inverseSqrt 2 ulp, division 2.5) instead of these",
    },
    Functions {
        stem: "softmax",
        epsilons: 26.0,
        reason: "exp 23, division 2.5 ulp",
    },
    Functions {
        stem: "upsample",
        epsilons: 5.0,
        reason: "division 2.5 ulp, of each axis",
    },
];

/// WGSL's tanh is off by 10⁻⁵ at most, absolutely.
pub const TANH: f64 = 1e-5;

pub use crate::kernel::Side;

/// What a launch of the op `stem` with sums of `terms` products may be off by, over the
/// largest number that enters or leaves it.
pub fn allowed(stem: &str, terms: usize, tanh: bool, side: Side) -> f64 {
    let epsilon = f64::from(f32::EPSILON);
    let sums = epsilon * (8.0 + terms as f64);
    if side == Side::Cpu {
        return sums;
    }
    let functions = FUNCTIONS.iter().find(|f| f.stem == stem);
    let functions = functions.map_or(0.0, |f| f.epsilons);
    sums + epsilon * functions + if tanh { TANH } else { 0.0 }
}

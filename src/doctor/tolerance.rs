//! How far results may lie apart, with reasons.
//!
//! Errors are measured against the largest number that enters or leaves the op. With
//! u = 2⁻²⁴ (half an ulp of f32):
//!
//! - **Sums.** n products summed in any order are off by at most n u Σ|aᵢbᵢ| (Higham
//!   2002, §3.1) and, roundings being independent, with overwhelming probability by a
//!   small multiple of √n u Σ|aᵢbᵢ| (Higham and Mary 2019). For factors of mixed sign
//!   Σ|aᵢbᵢ| is about √n times the largest sum, so the error is about n u times it: the
//!   tolerance allows 2 n u = n ε.
//! - **Around the sum** (bias, slope, scaling, the update) at most eight more operations,
//!   each one rounding: 8 ε.
//! - **On a GPU** WGSL's stated accuracies come on top: exp 3 + 2|x| ulp (the ops take it
//!   at |x| ≤ 10 after their range reductions: 23), division 2.5 ulp, log 3 ulp: 26 ε in
//!   all; tanh 10⁻⁵ absolute.
//! - **Integers** are equal.

use crate::ops::Case;

/// Which text or device a result comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Rust in f32: reference or CPU executor.
    Cpu,
    /// WGSL.
    Gpu,
}

/// What one op may be off by, over the largest number that enters or leaves it.
pub fn allowed(case: &Case, side: Side) -> f64 {
    let epsilon = f64::from(f32::EPSILON);
    let sums = epsilon * (8.0 + case.terms as f64);
    let tanh = format!("{:?}", case.op).contains("Tanh");
    match side {
        Side::Cpu => sums,
        Side::Gpu if tanh => sums + 1e-5,
        Side::Gpu => sums + 26.0 * epsilon,
    }
}

//! The tolerance of a case; the derivation is [`crate::exec::tolerance`].

pub use crate::exec::tolerance::{FUNCTIONS, Functions, Side};
use crate::ops::Case;

/// What a case's results may be off by, over the largest number that enters or leaves it.
pub fn allowed(case: &Case, side: Side) -> f64 {
    let tanh = format!("{:?}", case.op).contains("Tanh");
    crate::exec::tolerance::allowed(case.op.name(), case.terms, tanh, side)
}

//! Dropout (Nielsen, chapter 3; Srivastava et al. 2014): y = x ⊙ m, where mᵢ is 0 with
//! probability p.
//!
//! In the book's meaning kept values stay as they are and evaluation scales by 1 − p;
//! with `rescale`, kept values are scaled by 1/(1 − p) and evaluation does nothing. What is
//! dropped is 0 whatever it was, NaN too.
//!
//! Saved for the gradient: nothing. mᵢ is a function of (seed, replica, layer, step, i),
//! so the gradient g ⊙ m draws the same mask again: it is this very op. Element i takes
//! word i mod 4 of block ⌊i/4⌋ and is dropped where the word is below p 2³², which are
//! the same bits on every device.

use std::sync::Arc;

use super::pointwise::Pointwise;
use super::{Backward, Case, Fill, Op, Value, arity, counter, floats, key_words, stream_number};
use crate::error::{Error, Result};
use crate::expr::{Condition, Expr};
use crate::kernel::Kernel;
use crate::rng::streams;
use crate::shape::Type;

/// Inputs x, keys `[4]` of the replica, step `[2]`; output y of x's shape.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Dropout {
    /// Probability of dropping an element, from 0 to below 1.
    pub p: f64,
    /// Number of the layer: masks of different layers are independent. Below 65,536.
    pub layer: u32,
    /// Whether kept elements are scaled by 1/(1 − p).
    pub rescale: bool,
}

/// Checks a probability of dropping: what decides are words of 32 bits, which know none between
/// 0 and 2⁻³², nor above 1 − 2⁻³².
pub(crate) fn check(name: &str, p: f64) -> Result<()> {
    let words = (p * 4_294_967_296.0).round();
    if p == 0.0 || (1.0..4_294_967_296.0).contains(&words) {
        return Ok(());
    }
    let wanted = "a probability from 0 to below 1; 0, or 2^-32 to 1 - 2^-32";
    Err(Error::setting(name, p, wanted))
}

impl Dropout {
    /// What kept elements are multiplied by.
    pub fn scale(&self) -> f64 {
        if self.rescale {
            1.0 / (1.0 - self.p)
        } else {
            1.0
        }
    }

    /// x ⊙ m as an expression.
    pub fn of(&self, x: &Expr) -> Expr {
        let drop = (self.p * 4_294_967_296.0).round().min(f64::from(u32::MAX));
        let kept = Condition::at_least(streams::DROPOUT + self.layer, drop as u32);
        kept.select(x * self.scale(), 0.0)
    }
}

impl Op for Dropout {
    fn name(&self) -> &'static str {
        "dropout"
    }

    fn expression(&self, _: &[Type]) -> Option<Pointwise> {
        Some(Pointwise::new(&[self.of(&Expr::input(0))]))
    }

    fn infer(&self, inputs: &[Type]) -> Result<Vec<Type>> {
        let [x, keys, step] = arity("dropout", inputs, "x, keys, step")?;
        floats("dropout", "x", x)?;
        key_words("dropout", keys)?;
        counter("dropout", step)?;
        stream_number("dropout layer", self.layer)?;
        check("dropout p", self.p)?;
        Ok(vec![x.clone()])
    }

    fn gradient(&self, b: &mut Backward<'_>) -> Result<Vec<Option<Value>>> {
        let inputs = [b.upstream, b.inputs[1], b.inputs[2]];
        let x = b.tape.op1(Arc::new(*self), &inputs)?;
        Ok(vec![Some(x), None, None])
    }
}

/// It is composed as an expression.
pub static KERNELS: &[&Kernel] = &[];

/// Nothing dropped, nearly everything dropped, partial blocks; masks seen as they are.
pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (p, layer, rescale) in [
        (0.0, 0, true),
        (0.5, 1, false),
        (0.3, 65_535, true),
        (0.999, 2, true),
    ] {
        for extents in [&[1usize][..], &[7, 9], &[2, 3, 5, 13]] {
            let case = |fill| {
                Case::new(Dropout { p, layer, rescale }, 1)
                    .float(extents, fill)
                    .u32(&[4], Fill::Keys)
                    .u32(&[2], Fill::Pair(99, 12))
            };
            cases.push(case(Fill::Uniform(-1.0, 1.0)));
            cases.push(case(Fill::Number(1.0)).forward_only());
        }
    }
    cases
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::{Args, Slot};
    use crate::ops::Operand;
    use crate::rng::keys;

    fn mask(seed: u64, replica: u32, layer: u32, step: u32, n: usize, p: f64) -> Vec<f32> {
        let op = Dropout {
            p,
            layer,
            rescale: false,
        };
        let x = Type::f32("x", &[n]).unwrap();
        let words = |n| Type::u32("words", &[n]).unwrap();
        let types = [x.clone(), words(4), words(2)];
        let lowered = op.lower(&types, &[x]).unwrap().launch().unwrap();
        let (ones, keys, step) = (vec![1.0; n], keys(seed, replica), [0, step]);
        let mut y = vec![f32::NAN; n];
        let bound = lowered.operands.iter();
        let slots = bound.map(|operand| match operand {
            Operand::In(0) => Slot::F(&ones),
            Operand::In(1) => Slot::U(&keys),
            _ => Slot::U(&step),
        });
        let mut slots: Vec<_> = slots.collect();
        let out = lowered.operands.iter().position(|o| *o == Operand::Out(0));
        slots[out.unwrap()] = Slot::FMut(&mut y);
        lowered.kernel.reference.f32(&mut Args {
            constants: &lowered.constants,
            slots: slots.into_iter().collect(),
        });
        y
    }

    #[test]
    fn the_keep_rate_is_what_was_asked_for() {
        let n = 100_000;
        for p in [0.1, 0.5, 0.9] {
            let kept: f32 = mask(3, 0, 0, 0, n, p).iter().sum();
            let sigma = (n as f64 * p * (1.0 - p)).sqrt();
            let off = (f64::from(kept) - n as f64 * (1.0 - p)).abs();
            assert!(off < 5.0 * sigma, "p = {p}: {kept} of {n} kept");
        }
    }

    #[test]
    fn masks_of_different_places_are_uncorrelated() {
        let n = 100_000;
        let base = mask(3, 0, 0, 0, n, 0.5);
        for other in [
            mask(4, 0, 0, 0, n, 0.5),
            mask(3 + (1 << 32), 0, 0, 0, n, 0.5),
            mask(3, 1, 0, 0, n, 0.5),
            mask(3, 0, 1, 0, n, 0.5),
            mask(3, 0, 0, 1, n, 0.5),
        ] {
            let both: f32 = base.iter().zip(&other).map(|(a, b)| a * b).sum();
            // Both kept: binomial with p = ¼.
            let sigma = (n as f64 * 3.0 / 16.0).sqrt();
            assert!(
                (f64::from(both) - n as f64 / 4.0).abs() < 5.0 * sigma,
                "{both}"
            );
        }
    }
}

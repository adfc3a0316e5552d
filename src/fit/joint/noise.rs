//! Noise that a step draws on the device.

use std::sync::Arc;

use super::scope::JointScope;
use crate::error::{Error, Result};
use crate::expr::Expr;
use crate::model::{Pass, Scope};
use crate::ops::pointwise::Pointwise;
use crate::ops::{Tape, Value};
use crate::rng::streams;

impl JointScope<'_> {
    /// Uniform numbers in `[0, 1)`, `[N, …]`, drawn on the device anew in each step, for each replica.
    ///
    /// # Errors
    /// [`Error::Shape`] for extents that no value can have.
    pub fn uniform(&mut self, extents: impl AsRef<[usize]>) -> Result<Value> {
        let stream = self.noise()?;
        self.drawn(extents.as_ref(), &Expr::uniform(stream))
    }

    /// Standard normal numbers `[N, …]`, drawn on the device anew in each step, for each replica, by Box
    /// and Muller (1958).
    ///
    /// # Errors
    /// [`Error::Shape`] for extents that no value can have.
    pub fn normal(&mut self, extents: impl AsRef<[usize]>) -> Result<Value> {
        let stream = self.noise()?;
        let (u, v) = (Expr::uniform(stream), Expr::uniform(stream + 1));
        // (0, 1]: the logarithm's argument is never zero.
        let radius = ((1.0 - u).log() * -2.0).sqrt();
        self.drawn(extents.as_ref(), &(radius * cosine(&v)))
    }

    /// Two streams that nothing else draws from.
    fn noise(&mut self) -> Result<u32> {
        let (graph, variables) = (&mut self.graph, &mut self.constants);
        let mut scope = Scope::new(graph, variables, self.pass, &mut self.streams);
        Ok(streams::NOISE + 2 * scope.stream()?)
    }

    fn drawn(&mut self, extents: &[usize], expression: &Expr) -> Result<Value> {
        self.graph.label("noise");
        let Pass::Training { keys, step } = self.pass else {
            return Err(Error::setting("noise", "no step", "a training pass"));
        };
        let extents = [&[self.batch][..], extents].concat();
        let op = Pointwise::new(std::slice::from_ref(expression)).with_extents(&extents);
        self.graph.op1(Arc::new(op), &[keys, step])
    }
}

/// cos 2πv for v in `[0, 1)`, by polynomials, so that every device gives the same but for rounding.
fn cosine(v: &Expr) -> Expr {
    // The quadrant, and an angle within ±π/4 of its middle.
    let quadrant = (v * 4.0).floor();
    let x = (v * 4.0 - &quadrant - 0.5) * std::f64::consts::FRAC_PI_2;
    let series = |first: Expr, terms: &[f64]| {
        let square = x.square();
        let last = Expr::constant(0.0);
        let sum = terms.iter().rev().fold(last, |sum, &t| (sum + t) * &square);
        first * (sum + 1.0)
    };
    let sine = series(
        x.clone(),
        &[-1.0 / 6.0, 1.0 / 120.0, -1.0 / 5040.0, 1.0 / 362_880.0],
    );
    let cosine = series(
        Expr::constant(1.0),
        &[-0.5, 1.0 / 24.0, -1.0 / 720.0, 1.0 / 40_320.0],
    );
    // The middles are odd multiples of π/4.
    let half = std::f64::consts::FRAC_1_SQRT_2;
    let (a, b) = ((&cosine - &sine) * half, (&cosine + &sine) * half);
    let first = quadrant.lt(0.5).select(&a, -&b);
    let last = quadrant.lt(2.5).select(-&a, &b);
    quadrant.lt(1.5).select(first, last)
}

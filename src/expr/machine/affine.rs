//! The commonest thing that stands at a core's end, in one loop: y = relu(a · x + b + r), or what there is of it.
//!
//! a and b are the same for a run of elements, such as a convolution's bias or what a batch norm multiplies a channel by;
//! r is an element for each, such as what goes around a residual block. Line by line, each would be a loop of its own over
//! elements that are few, where a core hands them over row by row. Every result is rounded as it would be there.

use std::ops::Range;

use pulp::{Arch, Simd, WithSimd};
use smallvec::SmallVec;

use super::{Launch, Layout, Machine, scalar};
use crate::expr::{Binary, Form, Unary};
use crate::tensor::Real;

/// What there is of it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Affine {
    /// The line of a.
    factor: Option<u32>,
    /// The line of b.
    term: Option<u32>,
    /// The input r.
    residual: Option<u32>,
    relu: bool,
}

impl Affine {
    /// What a machine computes of elements that a core hands over, if it is that.
    pub(super) fn of(machine: &Machine) -> Option<Self> {
        let forms = machine.program.forms();
        let access = |k: u32| &machine.inputs[k as usize].access;
        let along = machine
            .program
            .uniform(|k| matches!(access(k), Layout::One | Layout::Along(_)));
        let form = |line: u32| forms[line as usize];
        let given = |line: u32| matches!(form(line), Form::Input(k) if *access(k) == Layout::Given);
        let residual = |line: u32| match form(line) {
            Form::Input(k) if machine.is_direct(k) && !given(line) => Some(k),
            _ => None,
        };
        let fixed = |line: u32| along[line as usize].then_some(line);
        // One operand that is something, and the other one.
        let operands = |line: u32, op: Binary| match form(line) {
            Form::Binary(found, a, b) if found == op => Some([(a, b), (b, a)]),
            _ => None,
        };
        let updates = machine.inputs.iter().any(|i| i.updated_by.is_some());
        let &[mut line] = machine.program.outputs() else {
            return None;
        };
        if updates {
            return None;
        }
        let mut this = Self::default();
        if let Form::Unary(Unary::Relu, of) = form(line) {
            (this.relu, line) = (true, of);
        }
        let sum = |line: &mut u32, part: &dyn Fn(u32) -> Option<u32>, op| {
            let found = operands(*line, op).into_iter().flatten();
            let (part, rest) = found.into_iter().find_map(|(a, b)| Some((part(a)?, b)))?;
            *line = rest;
            Some(part)
        };
        this.residual = sum(&mut line, &residual, Binary::Add);
        this.term = sum(&mut line, &fixed, Binary::Add);
        this.factor = sum(&mut line, &fixed, Binary::Mul);
        given(line).then_some(this)
    }
}

impl<T: Real> Launch<'_, '_, T> {
    /// Computes elements of the output, which are these places of a replica's, from those that are given.
    pub(super) fn affine(&self, affine: Affine, places: Range<usize>, given: &[T], to: &mut [T]) {
        let residual = match affine.residual {
            Some(k) => &self.floats[k as usize][places.clone()],
            None => &[],
        };
        let mut known: SmallVec<[T; 24]> = SmallVec::new();
        known.extend_from_slice(&self.uniform);
        let mut start = 0;
        while start < to.len() {
            let i = places.start + start;
            let end = (self.runs.end(i) - places.start).min(to.len());
            self.run(i, &mut known);
            let of = |line: Option<u32>, none: T| line.map_or(none, |line| known[line as usize]);
            Arch::new().dispatch(Run {
                // x · 1 and x + −0 are x, whatever x is.
                factor: of(affine.factor, T::ONE),
                term: of(affine.term, T::of(-0.0)),
                relu: affine.relu,
                given: &given[start..end],
                residual: residual.get(start..end),
                to: &mut to[start..end],
            });
            start = end;
        }
    }
}

/// Elements of a run.
struct Run<'a, T> {
    factor: T,
    term: T,
    relu: bool,
    given: &'a [T],
    residual: Option<&'a [T]>,
    to: &'a mut [T],
}

impl<T: Real> WithSimd for Run<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Self { factor, term, .. } = self;
        let relu = |x| scalar::unary(Unary::Relu, x);
        let elements = self.to.iter_mut().zip(self.given);
        match (self.residual, self.relu) {
            (None, false) => elements.for_each(|(to, &x)| *to = x * factor + term),
            (None, true) => elements.for_each(|(to, &x)| *to = relu(x * factor + term)),
            (Some(r), false) => {
                let elements = elements.zip(r);
                elements.for_each(|((to, &x), &r)| *to = x * factor + term + r);
            }
            (Some(r), true) => {
                let elements = elements.zip(r);
                elements.for_each(|((to, &x), &r)| *to = relu(x * factor + term + r));
            }
        }
    }
}

//! Runs of results to which inputs have one element: the places of a channel, which have one bias.
//!
//! What depends on nothing else is computed once for a run, and not for each of its elements: of a batch norm behind a
//! convolution, x · γ / √(variance + ε) + (β − …), there remain a product and a sum.

use smallvec::SmallVec;

use super::{Launch, Layout, Place, Room, scalar, truth};
use crate::expr::Form;
use crate::tensor::Real;

/// Elements of the shortest run: with fewer, the loops over an element's lines end before they are under way.
const SHORTEST: usize = 32;

/// The runs of a launch.
#[derive(Debug, Default)]
pub(super) struct Runs {
    /// Elements of a run; 0 where there are none.
    pub length: usize,
    /// For each line, whether it is the same for all elements of a run, but not for all of the launch.
    alike: SmallVec<[bool; 24]>,
    /// Those lines, in order.
    lines: SmallVec<[usize; 16]>,
    /// Whether every input that stands along axes has one element for a run.
    all: bool,
}

impl Runs {
    pub(super) fn of<T: Real>(launch: &Launch<'_, '_, T>) -> Self {
        let machine = launch.machine;
        // Further axes step over whole blocks of the innermost one.
        let run = |k: usize| match (&machine.inputs[k].access, &launch.axes[k].last()) {
            (Layout::Along(_), Some([length, ..])) => Some(*length).filter(|&l| l >= SHORTEST),
            _ => None,
        };
        let along = |k: &usize| matches!(machine.inputs[*k].access, Layout::Along(_));
        let mut others = (0..machine.inputs.len()).filter(along);
        let all = others.all(|k| run(k).is_some());
        let none = |all| Self {
            all,
            ..Self::default()
        };
        let lengths = (0..machine.inputs.len()).filter_map(run);
        let Some(length) = lengths.reduce(common) else {
            return none(all);
        };
        if length < SHORTEST {
            return none(false);
        }
        let one = |k: u32| machine.inputs[k as usize].access == Layout::One;
        let mut alike = machine
            .program
            .uniform(|k| one(k) || run(k as usize).is_some());
        // Results are written for each element, and what is computed of them is too.
        let uniform = |line: usize| machine.places[line] == Place::Uniform;
        for (line, form) in machine.program.forms().iter().enumerate() {
            let is_result = machine.program.outputs().contains(&(line as u32));
            let operands = form.operands();
            let mut operands = operands.iter().map(|&o| o as usize);
            let of_others = operands.any(|o| !alike[o] && !uniform(o));
            let held = matches!(machine.places[line], Place::Register(_) | Place::Inside);
            alike[line] &= held && !is_result && !of_others;
        }
        let alike: SmallVec<_> = alike.into();
        let lines = (0..alike.len()).filter(|&line| alike[line]).collect();
        Self {
            length,
            alike,
            lines,
            all,
        }
    }

    /// Whether a line is the same for all elements of a run.
    #[inline(always)]
    pub(super) fn has(&self, line: usize) -> bool {
        self.length > 0 && self.alike[line]
    }

    /// Whether every input that stands along axes has one element for a run.
    pub(super) fn are_all(&self) -> bool {
        self.all
    }

    /// Where the run of element `i` ends.
    pub(super) fn end(&self, i: usize) -> usize {
        match self.length {
            0 => usize::MAX,
            length => (i / length + 1) * length,
        }
    }
}

/// The greatest common divisor.
fn common(a: usize, b: usize) -> usize {
    if b == 0 { a } else { common(b, a % b) }
}

impl<T: Real> Launch<'_, '_, T> {
    /// Line `line` of element `i`, where it reads lines of the same kind, whose values are known.
    #[inline(always)]
    pub(super) fn alone(&self, line: usize, i: usize, known: &[T]) -> T {
        let of = |line: u32| known[line as usize];
        match self.machine.program.forms()[line] {
            Form::Constant(bits) => T::of(f64::from_bits(bits)),
            Form::Parameter(k) => T::of(self.parameters[k as usize]),
            Form::Step => T::of(f64::from(self.now)),
            Form::Input(k) => self.element(k, i),
            Form::At(k, index) => self.at(k, of(index).wide()),
            Form::Unary(op, a) => scalar::unary(op, of(a)),
            Form::Binary(op, a, b) => scalar::binary(op, of(a), of(b)),
            Form::Compare(op, a, b) => truth(scalar::compare(op, of(a), of(b))),
            Form::Not(a) => truth(of(a) == T::ZERO),
            Form::And(a, b) => of(a) * of(b),
            Form::Or(a, b) => Real::max(of(a), of(b)),
            Form::Select(c, _, b) if of(c) == T::ZERO => of(b),
            Form::Select(_, a, _) => of(a),
            // Not the same for several elements.
            Form::Uniform(_) | Form::Chance(..) => T::ZERO,
        }
    }

    /// Computes what the lines are in the run of element `i`, given those that are the same for all elements.
    pub(super) fn run(&self, i: usize, known: &mut [T]) {
        for &line in &self.runs.lines {
            known[line] = self.alone(line, i, known);
        }
    }

    /// [`Launch::run`], unless the room knows.
    pub(super) fn enter(&self, i: usize, room: &mut Room<T>) {
        if self.runs.length == 0 || room.run == i / self.runs.length {
            return;
        }
        if room.alike.is_empty() {
            room.alike.extend_from_slice(&self.uniform);
        }
        self.run(i, &mut room.alike);
        room.run = i / self.runs.length;
    }
}

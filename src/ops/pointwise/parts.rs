//! What an expression computes of some of its inputs alone, as expressions of their own.

use super::{Pointwise, Source, common};
use crate::error::Result;
use crate::expr::{Builder, Form};
use crate::shape::Type;

/// An expression of some of an op's inputs.
pub(crate) struct Piece {
    pub op: Pointwise,
    /// The inputs of the whole that it reads.
    pub inputs: Vec<usize>,
}

/// An expression cut where it depends on some inputs alone.
pub(crate) struct Parts {
    /// What depends on these alone, each one value.
    pub pieces: Vec<Piece>,
    /// What is left. Behind inputs of the whole it reads the pieces.
    pub rest: Piece,
}

impl Pointwise {
    /// Cuts off what is computed of inputs alone that are `fixed`. `None` where there is nothing of it, or where
    /// something is drawn, counted, read from a table or written over an input.
    ///
    /// # Errors
    /// What the op's shape rule says.
    pub(crate) fn parts(&self, inputs: &[Type], fixed: &[bool]) -> Result<Option<Parts>> {
        let elsewhere = self.over.iter().any(Option::is_some) || self.tables().contains(&true);
        if elsewhere || self.wants_step() {
            return Ok(None);
        }
        let forms = self.program.forms();
        let fixed = self
            .program
            .uniform(|k| fixed[self.sources[k as usize].value]);
        let computed = |line: u32| {
            let given = matches!(forms[line as usize], Form::Input(_) | Form::Constant(_));
            fixed[line as usize] && !given
        };
        let mut ends: Vec<u32> = Vec::new();
        let mut end = |line: u32| {
            if computed(line) && !ends.contains(&line) {
                ends.push(line);
            }
        };
        for (form, fixed) in forms.iter().zip(&fixed) {
            if !fixed {
                form.operands().iter().copied().for_each(&mut end);
            }
        }
        self.program.outputs().iter().copied().for_each(&mut end);
        if ends.is_empty() {
            return Ok(None);
        }
        let pieces = ends.iter().map(|&line| self.piece(inputs, line));
        let pieces = pieces.collect::<Result<_>>()?;
        let rest = self.rest(&self.results(inputs)?, &ends);
        Ok(Some(Parts { pieces, rest }))
    }

    /// A line by itself.
    fn piece(&self, inputs: &[Type], line: u32) -> Result<Piece> {
        let mut builder = Builder::default();
        let mut lines = Vec::new();
        for &form in self.program.forms() {
            lines.push(builder.push(form.map(|operand| lines[operand as usize])));
        }
        let program = builder.finish(vec![lines[line as usize]]);
        let mut piece = self.reading(program, &[]);
        let read = piece.op.sources.iter().map(|source| {
            let ty = &inputs[piece.inputs[source.value]];
            source.extents(ty)
        });
        let read = read.collect::<Result<Vec<_>>>()?;
        piece.op.extents = Some(common(read.iter().map(Vec::as_slice), None)?);
        Ok(piece)
    }

    /// All of it, with a new input in the place of each of these lines.
    fn rest(&self, extents: &[usize], ends: &[u32]) -> Piece {
        let mut builder = Builder::default();
        let mut lines = Vec::new();
        for (line, &form) in self.program.forms().iter().enumerate() {
            let end = ends.iter().position(|&end| end as usize == line);
            let form = match end {
                Some(end) => Form::Input((self.sources.len() + end) as u32),
                None => form.map(|operand| lines[operand as usize]),
            };
            lines.push(builder.push(form));
        }
        let outputs = self.program.outputs().iter();
        let outputs = outputs.map(|&line| lines[line as usize]).collect();
        let mut rest = self.reading(builder.finish(outputs), ends);
        rest.op.extents = Some(extents.to_vec());
        rest
    }

    /// A program over inputs of this op, numbered as its are, and then as many others as there are `ends`. It reads all of
    /// the latter.
    fn reading(&self, program: crate::expr::Program, ends: &[u32]) -> Piece {
        let own = |k: &u32| (*k as usize) < self.sources.len();
        let read: Vec<u32> = program.inputs().into_iter().filter(own).collect();
        let mut inputs: Vec<usize> = Vec::new();
        let mut sources: Vec<Source> = Vec::new();
        for &k in &read {
            let source = self.sources[k as usize];
            let known = inputs.iter().position(|&value| value == source.value);
            let value = known.unwrap_or_else(|| {
                inputs.push(source.value);
                inputs.len() - 1
            });
            sources.push(Source { value, ..source });
        }
        sources.extend((0..ends.len()).map(|end| Source::whole(inputs.len() + end)));
        let place = |k: u32| match read.iter().position(|&other| other == k) {
            Some(place) => place as u32,
            None => k - self.sources.len() as u32 + read.len() as u32,
        };
        let program = program.renumbered(place);
        let op = Self {
            over: vec![None; program.outputs().len()],
            sources,
            program,
            extents: None,
            most: self.most,
        };
        Piece { op, inputs }
    }
}

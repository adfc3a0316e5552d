//! Two expressions, one of which reads a result of the other, as one: by substitution.

use super::{MOST_BINDINGS, Pointwise, Source};
use crate::expr::{Builder, Form};
use crate::ops::Value;

/// An op and what stands at its inputs, keys and step included.
#[derive(Clone, Copy)]
pub(crate) struct Use<'a> {
    pub op: &'a Pointwise,
    pub inputs: &'a [Value],
}

/// A value and how an input of expressions is read from it.
type Read = (Value, Source);

impl Use<'_> {
    fn own(&self) -> &[Value] {
        &self.inputs[..self.op.inputs()]
    }

    /// Keys and step.
    fn tail(&self) -> &[Value] {
        &self.inputs[self.op.inputs()..]
    }

    /// The inputs that are written over.
    fn updated(&self) -> Vec<Value> {
        let over = self.op.over.iter().flatten();
        over.map(|&k| self.input(k).0).collect()
    }

    /// What an input of the expressions is.
    fn input(&self, k: usize) -> Read {
        let source = self.op.sources[k];
        let how = Source { value: 0, ..source };
        (self.inputs[source.value], how)
    }

    fn all(&self) -> impl Iterator<Item = Read> {
        (0..self.op.sources.len()).map(|k| self.input(k))
    }
}

/// The op that does the work of `first` and then of `second`, whose results have the same extents
/// (`extents`) and which reads `between`, new output `output` of the former, element by element.
/// Returns it with its inputs; its outputs are those of `first` but for `output`, then those of
/// `second`. `None` where they cannot be one: they would bind too much, draw by different keys or
/// steps, or one would read what the other has not written yet. With `keeps` that output stays one.
pub(crate) fn merged(
    first: Use<'_>,
    output: usize,
    between: Value,
    second: Use<'_>,
    extents: &[usize],
    keeps: bool,
) -> Option<(Pointwise, Vec<Value>)> {
    let written = first.updated();
    let reads_update = second.own().iter().any(|v| written.contains(v));
    let table = second.op.tables();
    let mut read_at = second.all().zip(&table);
    if reads_update || read_at.any(|((v, _), table)| v == between && *table) {
        return None;
    }
    let mut read: Vec<Read> = vec![];
    let mut inputs: Vec<Value> = vec![];
    for input in first.all().chain(second.all()) {
        if input.0 != between {
            if !read.contains(&input) {
                read.push(input);
            }
            if !inputs.contains(&input.0) {
                inputs.push(input.0);
            }
        }
    }
    let place = |input: Read| {
        let found = read.iter().position(|other| *other == input);
        found.map(|k| k as u32)
    };
    let mut builder = Builder::default();
    let mut append = |of: Use<'_>, line_between: Option<u32>| -> Option<Vec<u32>> {
        let mut lines: Vec<u32> = vec![];
        for &form in of.op.program.forms() {
            let form = form.map(|operand| lines[operand as usize]);
            lines.push(match form {
                Form::Input(k) if of.input(k as usize).0 == between => line_between?,
                Form::Input(k) => builder.push(Form::Input(place(of.input(k as usize))?)),
                Form::At(k, index) => builder.push(Form::At(place(of.input(k as usize))?, index)),
                other => builder.push(other),
            });
        }
        let outputs = of.op.program.outputs().iter();
        Some(outputs.map(|&line| lines[line as usize]).collect())
    };
    // Outputs in place have no number among the new ones.
    let new = |of: Use<'_>| -> Vec<usize> {
        let over = of.op.over.iter().enumerate();
        over.filter(|(_, over)| over.is_none())
            .map(|(k, _)| k)
            .collect()
    };
    let gone = *new(first).get(output)?;
    let ours = append(first, None)?;
    let theirs = append(second, Some(ours[gone]))?;
    let mut lines = vec![];
    let mut over = vec![];
    for (of, results, left_out) in [
        (first, ours, Some(gone).filter(|_| !keeps)),
        (second, theirs, None),
    ] {
        for (k, line) in results.into_iter().enumerate() {
            if Some(k) != left_out {
                lines.push(line);
                let target = of.op.over[k];
                over.push(match target {
                    Some(k) => Some(place(of.input(k))? as usize),
                    None => None,
                });
            }
        }
    }
    let source = |&(value, how): &Read| {
        let value = inputs.iter().position(|v| *v == value)?;
        Some(Source { value, ..how })
    };
    let op = Pointwise {
        sources: read.iter().map(source).collect::<Option<_>>()?,
        over,
        extents: Some(extents.to_vec()),
        program: builder.finish(lines),
    };
    // Keys before the step; who needs both has both.
    let tails = [first.tail(), second.tail()];
    let step = tails.iter().filter_map(|tail| tail.last()).copied();
    let keys = tails
        .iter()
        .filter(|tail| tail.len() == 2)
        .map(|tail| tail[0]);
    for mut all in [keys.collect::<Vec<_>>(), step.collect()] {
        all.dedup();
        match all[..] {
            [] => {}
            [one] => inputs.push(one),
            _ => return None,
        }
    }
    let new_outputs = op.over.iter().filter(|over| over.is_none()).count();
    let twice = op.over.iter().flatten().count() > {
        let mut targets: Vec<_> = op.over.iter().flatten().collect();
        targets.sort_unstable();
        targets.dedup();
        targets.len()
    };
    // An input that only the value between was made from, and that nobody reads now.
    let read = op.program.inputs();
    let over = |k: usize| op.over.contains(&Some(k));
    let unread = (0..op.sources.len()).any(|k| !read.contains(&(k as u32)) && !over(k));
    // Elements elsewhere may have been written over already.
    let tables = op.tables();
    let elsewhere = (0..op.sources.len()).any(|k| tables[k] && over(k));
    let fits = inputs.len() + new_outputs <= MOST_BINDINGS;
    (fits && !twice && !unread && !elsewhere).then_some((op, inputs))
}

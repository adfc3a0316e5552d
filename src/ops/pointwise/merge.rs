//! Two expressions as one: by substitution, where one reads a result of the other, or side by side.

use super::{Pointwise, Source};
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

/// A result of an expression that another one reads.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Link {
    /// Which of the new outputs.
    pub output: usize,
    /// It.
    pub value: Value,
    /// Whether it stays an output.
    pub keeps: bool,
}

/// The op that does the work of `first` and then of `second`, whose results have the same extents
/// (`extents`) and which reads what is between them, if anything is, element by element.
/// Returns it, which has `most` bindings at most, with its inputs; its outputs are those of `first` but for that one, then those of
/// `second`. `None` where they cannot be one: they would bind too much, draw by different keys or
/// steps, or one would read what the other has not written yet.
pub(crate) fn merged(
    first: Use<'_>,
    between: Option<Link>,
    second: Use<'_>,
    extents: &[usize],
    most: usize,
) -> Option<(Pointwise, Vec<Value>)> {
    let is_between = |value: Value| between.is_some_and(|between| between.value == value);
    let written = first.updated();
    let reads_update = second.own().iter().any(|v| written.contains(v));
    let table = second.op.tables();
    let mut read_at = second.all().zip(&table);
    if reads_update || read_at.any(|((v, _), table)| is_between(v) && *table) {
        return None;
    }
    let mut read: Vec<Read> = vec![];
    let mut inputs: Vec<Value> = vec![];
    for input in first.all().chain(second.all()) {
        if !is_between(input.0) {
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
                Form::Input(k) if is_between(of.input(k as usize).0) => line_between?,
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
    let gone = match between {
        Some(between) => Some(*new(first).get(between.output)?),
        None => None,
    };
    let ours = append(first, None)?;
    let theirs = append(second, gone.map(|gone| ours[gone]))?;
    let left_out = gone.filter(|_| between.is_some_and(|between| !between.keeps));
    let mut lines = vec![];
    let mut over = vec![];
    for (of, results, left_out) in [(first, ours, left_out), (second, theirs, None)] {
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
        most,
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
    let fits = inputs.len() + new_outputs <= most;
    (fits && !twice && !unread && !elsewhere).then_some((op, inputs))
}

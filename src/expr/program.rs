//! Expressions as a list of lines, each made of earlier ones and no two alike.

use std::collections::HashMap;
use std::sync::Arc;

use super::{Binary, Expr, Form, Node, Unary};
use crate::tensor::held;

/// Lines in order, and which of them are the results.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub(crate) struct Program {
    forms: Vec<Form<u32>>,
    outputs: Vec<u32>,
}

impl Program {
    /// The program of these expressions; what several of them need is computed once.
    pub(crate) fn of(outputs: &[Expr]) -> Self {
        let mut builder = Builder::default();
        let mut known = HashMap::new();
        let lines = outputs.iter().map(|e| builder.tree(&e.0, &mut known));
        let lines = lines.collect();
        builder.finish(lines)
    }

    /// The number that its one result is, if it is one.
    pub(crate) fn number(&self) -> Option<f64> {
        match (&self.forms[..], &self.outputs[..]) {
            (&[Form::Constant(bits)], [_]) => Some(f64::from_bits(bits)),
            _ => None,
        }
    }

    /// Whether its numbers are such as devices have, and no line is computed of numbers alone.
    pub(crate) fn is_folded(&self) -> bool {
        let number = |&line: &u32| matches!(self.forms[line as usize], Form::Constant(_));
        let of_numbers = |form: &Form<u32>| {
            let operands = form.operands();
            let reads = matches!(form, Form::At(..));
            !reads && !operands.is_empty() && operands.iter().all(number)
        };
        let lost = |form: &Form<u32>| match form {
            Form::Constant(bits) => !held(f64::from_bits(*bits)),
            _ => false,
        };
        !self.forms.iter().any(|form| of_numbers(form) || lost(form))
    }

    pub(crate) fn forms(&self) -> &[Form<u32>] {
        &self.forms
    }

    pub(crate) fn outputs(&self) -> &[u32] {
        &self.outputs
    }

    /// The same without outputs that are the line of another one, and which of those that are left
    /// each was.
    pub(crate) fn distinct(self) -> (Self, Vec<usize>) {
        let mut outputs: Vec<u32> = Vec::new();
        let place = |line: &u32| {
            let found = outputs.iter().position(|other| other == line);
            found.unwrap_or_else(|| {
                outputs.push(*line);
                outputs.len() - 1
            })
        };
        let places = self.outputs.iter().map(place).collect();
        let forms = self.forms;
        (Self { forms, outputs }, places)
    }

    /// The same with those of its outputs alone that `keep` picks by their places.
    pub(crate) fn only(&self, keep: impl Fn(usize) -> bool) -> Self {
        let mut builder = Builder::default();
        let mut lines: Vec<u32> = Vec::with_capacity(self.forms.len());
        for &form in &self.forms {
            let form = form.map(|line| lines[line as usize]);
            lines.push(builder.push(form));
        }
        let outputs = self.outputs.iter().enumerate();
        let outputs = outputs.filter(|(place, _)| keep(*place));
        let outputs = outputs.map(|(_, &line)| lines[line as usize]);
        let outputs = outputs.collect();
        builder.finish(outputs)
    }

    /// Its first output as an expression, with these in place of its inputs.
    pub(crate) fn over(&self, inputs: &[Expr]) -> Expr {
        let mut trees: Vec<Arc<Node>> = Vec::with_capacity(self.forms.len());
        for &form in &self.forms {
            let tree = match form {
                Form::Input(k) => Arc::clone(&inputs[k as usize].0),
                form => {
                    let operands = form.operands();
                    let operands = operands.iter().map(|&o| Arc::clone(&trees[o as usize]));
                    let mut place = 0;
                    let form = form.map(|_| {
                        place += 1;
                        place - 1
                    });
                    Arc::new(Node(form, operands.collect()))
                }
            };
            trees.push(tree);
        }
        Expr(Arc::clone(&trees[self.outputs[0] as usize]))
    }

    /// For each line, whether it is the same for all elements, where `one` says of which inputs there
    /// is one for all.
    pub(crate) fn uniform(&self, one: impl Fn(u32) -> bool) -> Vec<bool> {
        let mut uniform: Vec<bool> = Vec::with_capacity(self.forms.len());
        for form in &self.forms {
            uniform.push(match *form {
                Form::Input(k) => one(k),
                Form::Uniform(_) | Form::Chance(..) => false,
                other => other.operands().iter().all(|&o| uniform[o as usize]),
            });
        }
        uniform
    }

    /// Whether it computes the same of the same inputs by the same operations, in whatever order its
    /// lines stand.
    pub(crate) fn is_alike(&self, other: &Self) -> bool {
        let mut known: HashMap<Form<u32>, u32> = HashMap::new();
        let mut numbers = |program: &Self| -> Vec<u32> {
            let mut lines: Vec<u32> = Vec::with_capacity(program.forms.len());
            for &form in &program.forms {
                let form = match form.map(|line| lines[line as usize]) {
                    Form::Binary(op @ (Binary::Add | Binary::Mul), a, b) if b < a => {
                        Form::Binary(op, b, a)
                    }
                    other => other,
                };
                let next = known.len() as u32;
                lines.push(*known.entry(form).or_insert(next));
            }
            let outputs = program.outputs.iter();
            outputs.map(|&line| lines[line as usize]).collect()
        };
        numbers(self) == numbers(other)
    }

    /// Whether it needs a replica's keys.
    pub(crate) fn draws(&self) -> bool {
        let mut forms = self.forms.iter();
        forms.any(|f| matches!(f, Form::Uniform(_) | Form::Chance(..)))
    }

    /// Whether it needs the step counter.
    pub(crate) fn reads_step(&self) -> bool {
        self.draws() || self.forms.contains(&Form::Step)
    }

    /// The inputs that it reads, in order.
    pub(crate) fn inputs(&self) -> Vec<u32> {
        let inputs = self.forms.iter().filter_map(|f| match *f {
            Form::Input(k) | Form::At(k, _) => Some(k),
            _ => None,
        });
        let mut inputs: Vec<u32> = inputs.collect();
        inputs.sort_unstable();
        inputs.dedup();
        inputs
    }

    /// The same with its inputs renumbered.
    pub(crate) fn renumbered(&self, of: impl Fn(u32) -> u32) -> Self {
        let mut builder = Builder::default();
        let mut lines: Vec<u32> = Vec::with_capacity(self.forms.len());
        for &form in &self.forms {
            let form = match form.map(|line| lines[line as usize]) {
                Form::Input(k) => Form::Input(of(k)),
                Form::At(k, index) => Form::At(of(k), index),
                other => other,
            };
            lines.push(builder.push(form));
        }
        let outputs = self.outputs.iter().map(|&line| lines[line as usize]);
        let outputs = outputs.collect();
        builder.finish(outputs)
    }

    /// The same with its numbers, streams and thresholds by their places in lists, so that what a
    /// kernel is made of does not depend on them.
    pub(crate) fn parametrised(&self) -> (Self, Values) {
        let mut values = Values::default();
        let forms = self.forms.iter().map(|&form| match form {
            Form::Constant(bits) if !LITERALS.contains(&f64::from_bits(bits)) => {
                Form::Parameter(place(&mut values.numbers, f64::from_bits(bits)))
            }
            Form::Uniform(stream) => Form::Uniform(place(&mut values.streams, stream)),
            Form::Chance(stream, threshold) => Form::Chance(
                place(&mut values.streams, stream),
                place(&mut values.thresholds, threshold),
            ),
            other => other,
        });
        let forms = forms.collect();
        let outputs = self.outputs.clone();
        (Self { forms, outputs }, values)
    }
}

/// What a launch gives to a [`Program::parametrised`] program.
#[derive(Debug, Default)]
pub(crate) struct Values {
    pub numbers: Vec<f64>,
    pub streams: Vec<u32>,
    pub thresholds: Vec<u32>,
}

/// The place of a value in a list, where it is put if it is not there.
fn place<T: PartialEq>(list: &mut Vec<T>, value: T) -> u32 {
    let found = list.iter().position(|other| *other == value);
    found.unwrap_or_else(|| {
        list.push(value);
        list.len() - 1
    }) as u32
}

/// Numbers that stand in a kernel's text, so that a compiler may make less of them.
const LITERALS: [f64; 5] = [0.0, 1.0, -1.0, 0.5, 2.0];

/// Makes a [`Program`] line by line.
#[derive(Debug, Default)]
pub(crate) struct Builder {
    forms: Vec<Form<u32>>,
    lines: HashMap<Form<u32>, u32>,
}

impl Builder {
    pub(crate) fn form(&self, line: u32) -> Form<u32> {
        self.forms[line as usize]
    }

    fn number(&self, line: u32) -> Option<f64> {
        match self.form(line) {
            Form::Constant(bits) => Some(f64::from_bits(bits)),
            _ => None,
        }
    }

    pub(crate) fn constant(&mut self, value: f64) -> u32 {
        self.push(Form::Constant(value.to_bits()))
    }

    pub(crate) fn unary(&mut self, op: Unary, a: u32) -> u32 {
        self.push(Form::Unary(op, a))
    }

    pub(crate) fn binary(&mut self, op: Binary, a: u32, b: u32) -> u32 {
        self.push(Form::Binary(op, a, b))
    }

    /// The line of a form: one that is there, or a simpler one that is equal for every input,
    /// those that are not finite too.
    pub(crate) fn push(&mut self, form: Form<u32>) -> u32 {
        match self.simpler(form) {
            Ok(line) => line,
            Err(form) => {
                let next = self.forms.len() as u32;
                *self.lines.entry(form).or_insert_with(|| {
                    self.forms.push(form);
                    next
                })
            }
        }
    }

    fn simpler(&mut self, form: Form<u32>) -> Result<u32, Form<u32>> {
        let operands = form.operands();
        let numbers: Option<Vec<f64>> = operands.iter().map(|&a| self.number(a)).collect();
        if let Some(numbers) = numbers.filter(|n| !n.is_empty())
            && let Some(value) = super::error::folded(form, &numbers)
        {
            return Ok(self.constant(value));
        }
        match form {
            Form::Unary(Unary::Neg, a) => {
                if let Form::Unary(Unary::Neg, inner) = self.form(a) {
                    return Ok(inner);
                }
            }
            Form::Binary(op, a, b) => return self.simpler_binary(op, a, b),
            Form::Select(_, a, b) if a == b => return Ok(a),
            Form::Not(a) => {
                if let Form::Not(inner) = self.form(a) {
                    return Ok(inner);
                }
            }
            _ => {}
        }
        Err(form)
    }

    fn simpler_binary(&mut self, op: Binary, a: u32, b: u32) -> Result<u32, Form<u32>> {
        let (left, right) = (self.number(a), self.number(b));
        match (op, left, right) {
            (Binary::Add, Some(0.0), _) | (Binary::Mul, Some(1.0), _) => Ok(b),
            (Binary::Add | Binary::Sub, _, Some(0.0))
            | (Binary::Mul | Binary::Div | Binary::Pow, _, Some(1.0)) => Ok(a),
            (Binary::Sub, Some(0.0), _) | (Binary::Mul, Some(-1.0), _) => {
                Ok(self.unary(Unary::Neg, b))
            }
            (Binary::Mul, _, Some(-1.0)) => Ok(self.unary(Unary::Neg, a)),
            (Binary::Pow, _, Some(2.0)) => Ok(self.binary(Binary::Mul, a, a)),
            (Binary::Pow, _, Some(0.5)) => Ok(self.unary(Unary::Sqrt, a)),
            // In one order, so that a + b and b + a are one line; their value is the same.
            (Binary::Add | Binary::Mul, ..) if b < a => Err(Form::Binary(op, b, a)),
            _ => Err(Form::Binary(op, a, b)),
        }
    }

    /// The line of a tree; `known` are the trees that have one.
    fn tree(&mut self, tree: &Arc<Node>, known: &mut HashMap<*const Node, u32>) -> u32 {
        if let Some(&line) = known.get(&Arc::as_ptr(tree)) {
            return line;
        }
        // Depth first without recursion: a loop of a user may have built a tree of any depth.
        let mut stack = vec![(tree, false)];
        while let Some((tree, ready)) = stack.pop() {
            if known.contains_key(&Arc::as_ptr(tree)) {
                continue;
            }
            let Node(form, operands) = &**tree;
            if ready {
                let of = |place: u32| known[&Arc::as_ptr(&operands[place as usize])];
                let line = match form {
                    leaf if operands.is_empty() => self.push(*leaf),
                    form => self.push(form.map(of)),
                };
                known.insert(Arc::as_ptr(tree), line);
            } else {
                stack.push((tree, true));
                stack.extend(operands.iter().map(|operand| (operand, false)));
            }
        }
        known[&Arc::as_ptr(tree)]
    }

    /// The program with these results, without lines that none of them needs.
    pub(crate) fn finish(self, outputs: Vec<u32>) -> Program {
        let mut needed = vec![false; self.forms.len()];
        for &output in &outputs {
            needed[output as usize] = true;
        }
        for (line, form) in self.forms.iter().enumerate().rev() {
            if needed[line] {
                form.map(|operand| needed[operand as usize] = true);
            }
        }
        let mut places = vec![0; self.forms.len()];
        let mut forms = Vec::new();
        for (line, form) in self
            .forms
            .iter()
            .enumerate()
            .filter(|(line, _)| needed[*line])
        {
            places[line] = forms.len() as u32;
            forms.push(form.map(|operand| places[operand as usize]));
        }
        let outputs = outputs.iter().map(|&line| places[line as usize]).collect();
        Program { forms, outputs }
    }
}

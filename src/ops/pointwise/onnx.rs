//! Expressions in ONNX's operators: one for each line, or one for all where ONNX has the function.

use super::{Pointwise, Source};
use crate::error::Result;
use crate::expr::activations as known;
use crate::expr::{Binary, Compare, Expr, Form, Program, Unary};
use crate::interchange::{Attribute, Extent, Site, Tensor};
use crate::shape::DType;

/// What a line is.
#[derive(Clone)]
enum Line {
    Number(f64),
    Value(String, Vec<Extent>),
}

impl Line {
    /// Its name, with a constant written for a number.
    fn name(&self, site: &mut Site<'_>) -> String {
        match self {
            Self::Number(number) => site.constant(Tensor::float(*number)),
            Self::Value(name, _) => name.clone(),
        }
    }

    fn extents(&self) -> &[Extent] {
        match self {
            Self::Number(_) => &[],
            Self::Value(_, extents) => extents,
        }
    }
}

/// Extents that are equal or 1, counted from the last, as those of the result.
fn broadcast(a: &[Extent], b: &[Extent]) -> Vec<Extent> {
    let (long, short) = if a.len() < b.len() { (b, a) } else { (a, b) };
    let mut all = long.to_vec();
    let offset = long.len() - short.len();
    for (extent, &other) in all[offset..].iter_mut().zip(short) {
        if *extent == Extent::Fixed(1) {
            *extent = other;
        }
    }
    all
}

impl Pointwise {
    /// Writes the expressions.
    pub(in crate::ops) fn operators(&self, site: &mut Site<'_>) -> Result<Vec<String>> {
        if self.over.iter().any(Option::is_some) {
            return Err(site.refused("an expression that is written over an input"));
        }
        let mut inputs = Vec::new();
        for source in &self.sources {
            inputs.push(input(site, source)?);
        }
        if let Some(made) = self.function(site, &inputs) {
            return Ok(vec![made]);
        }
        let mut lines: Vec<Line> = Vec::new();
        for &form in self.program.forms() {
            let line = match form {
                Form::Constant(bits) => Line::Number(f64::from_bits(bits)),
                Form::Input(k) => inputs[k as usize].clone(),
                Form::Unary(op, a) => unary(site, op, &lines[a as usize]),
                Form::Binary(op, a, b) => {
                    let kind = match op {
                        Binary::Add => "Add",
                        Binary::Sub => "Sub",
                        Binary::Mul => "Mul",
                        Binary::Div => "Div",
                        Binary::Min => "Min",
                        Binary::Max => "Max",
                        Binary::Pow => "Pow",
                    };
                    several(site, kind, &lines, &[a, b])
                }
                Form::Compare(op, a, b) => {
                    let kind = match op {
                        Compare::Less => "Less",
                        Compare::AtMost => "LessOrEqual",
                        Compare::Equal => "Equal",
                    };
                    several(site, kind, &lines, &[a, b])
                }
                Form::Not(a) => several(site, "Not", &lines, &[a]),
                Form::And(a, b) => several(site, "And", &lines, &[a, b]),
                Form::Or(a, b) => several(site, "Or", &lines, &[a, b]),
                Form::Select(c, a, b) => several(site, "Where", &lines, &[c, a, b]),
                Form::Parameter(_) => return Err(site.refused("a number that a launch gives")),
                Form::At(..) => return Err(site.refused("an element that an index counts to")),
                Form::Step => return Err(site.refused("the step of a training run")),
                Form::Uniform(_) | Form::Chance(..) => return Err(site.refused("a random draw")),
            };
            lines.push(line);
        }
        let mut outputs = Vec::new();
        for (k, &line) in self.program.outputs().iter().enumerate() {
            outputs.push(output(site, k, &lines[line as usize])?);
        }
        Ok(outputs)
    }

    /// The operator that is this function of one input.
    fn function(&self, site: &mut Site<'_>, inputs: &[Line]) -> Option<String> {
        let ([input], [_]) = (inputs, self.program.outputs()) else {
            return None;
        };
        if input.extents() != site.made(0) {
            return None;
        }
        let x = Expr::input(0);
        let is = |expression: Expr| Program::of(&[expression]).is_alike(&self.program);
        let sixth = || ("alpha", (1.0 / 6.0).into());
        let mut found: Option<(&str, Vec<(&str, Attribute)>)> = None;
        for (kind, expression) in [
            ("HardSwish", known::hard_swish(&x)),
            ("HardSigmoid", known::hard_sigmoid(&x)),
            ("Softsign", known::softsign(&x)),
            ("Selu", known::selu(&x)),
        ] {
            if is(expression) {
                let attributes = if kind == "HardSigmoid" {
                    vec![sixth()]
                } else {
                    vec![]
                };
                found = Some((kind, attributes));
            }
        }
        let forms = self.program.forms().iter();
        let numbers = forms.filter_map(|form| match *form {
            Form::Constant(bits) => Some(f64::from_bits(bits)),
            _ => None,
        });
        for number in numbers.chain([1.0]) {
            for (kind, expression) in [
                ("LeakyRelu", known::leaky_relu(&x, number)),
                ("Elu", known::elu(&x, number)),
            ] {
                if is(expression) {
                    found = Some((kind, vec![("alpha", number.into())]));
                }
            }
        }
        let (kind, attributes) = found?;
        let name = input.name(site);
        Some(site.op(kind, &[&name], &attributes))
    }
}

/// An input of the expressions, in floats.
fn input(site: &mut Site<'_>, source: &Source) -> Result<Line> {
    if source.plane.of > 1 {
        return Err(site.refused("an expression of a part of an input"));
    }
    let term = site.inputs()[source.value].clone();
    let (mut name, mut extents) = (term.name, term.extents);
    if term.dtype == DType::U32 {
        name = site.op("Cast", &[&name], &[("to", 1.into())]);
    }
    if source.behind > 0 {
        let rank = extents.len();
        let axes: Vec<i64> = (rank..rank + source.behind)
            .map(|axis| axis as i64)
            .collect();
        let axes = site.ints(&axes);
        name = site.op("Unsqueeze", &[&name, &axes], &[]);
        extents.extend(vec![Extent::Fixed(1); source.behind]);
    }
    Ok(Line::Value(name, extents))
}

fn several(site: &mut Site<'_>, kind: &str, lines: &[Line], operands: &[u32]) -> Line {
    let mut extents = Vec::new();
    let mut names = Vec::new();
    for &operand in operands {
        let line = &lines[operand as usize];
        extents = broadcast(&extents, line.extents());
        names.push(line.name(site));
    }
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    Line::Value(site.op(kind, &names, &[]), extents)
}

fn unary(site: &mut Site<'_>, op: Unary, a: &Line) -> Line {
    let name = a.name(site);
    let one = |site: &mut Site<'_>| site.constant(Tensor::float(1.0));
    let kind = match op {
        Unary::Neg => "Neg",
        Unary::Abs => "Abs",
        Unary::Sign => "Sign",
        Unary::Floor => "Floor",
        Unary::Exp | Unary::Expm1 => "Exp",
        Unary::Log | Unary::Log1p => "Log",
        Unary::Sqrt | Unary::Rsqrt => "Sqrt",
        Unary::Sin => "Sin",
        Unary::Cos => "Cos",
        Unary::Tanh => "Tanh",
        Unary::Sigmoid => "Sigmoid",
        Unary::Erf => "Erf",
        Unary::Softplus => "Softplus",
        Unary::Relu => "Relu",
    };
    let made = match op {
        Unary::Expm1 => {
            let power = site.op(kind, &[&name], &[]);
            let one = one(site);
            site.op("Sub", &[&power, &one], &[])
        }
        Unary::Log1p => {
            let one = one(site);
            let sum = site.op("Add", &[&name, &one], &[]);
            site.op(kind, &[&sum], &[])
        }
        Unary::Rsqrt => {
            let root = site.op(kind, &[&name], &[]);
            site.op("Reciprocal", &[&root], &[])
        }
        _ => site.op(kind, &[&name], &[]),
    };
    Line::Value(made, a.extents().to_vec())
}

/// The name of a result, with elements repeated where its expression has fewer.
fn output(site: &mut Site<'_>, output: usize, line: &Line) -> Result<String> {
    let name = line.name(site);
    let (found, wanted) = (line.extents().to_vec(), site.made(output));
    if found == wanted {
        return Ok(match site.maker(&name) {
            // A constant, a weight or another op's value is to be one of this op's own.
            Some(operator) if operator.kind != "Constant" => name,
            _ => site.op("Identity", &[&name], &[]),
        });
    }
    let offset = wanted.len() - found.len().min(wanted.len());
    let mut extents = Vec::new();
    for (axis, extent) in wanted.iter().enumerate() {
        let own = axis.checked_sub(offset).and_then(|axis| found.get(axis));
        extents.push(match extent {
            Extent::Fixed(extent) => *extent as i64,
            extent if own == Some(extent) => 1,
            Extent::Batch(_) => return Err(site.refused("repeated along the mini-batch")),
        });
    }
    let extents = site.ints(&extents);
    Ok(site.op("Expand", &[&name, &extents], &[]))
}

//! Derivatives of expressions, as expressions: the chain rule from the results back.

use super::{Binary, Builder, Compare, Form, Program, Unary};

/// The gradient of Σₖ gₖ · outputₖ with respect to each of `wanted`, as a program. Its inputs are
/// those of `program` (0 to `inputs` − 1), then the gradients gₖ of the outputs named in
/// `upstream`, then the outputs themselves; one result per wanted input, `None` where none of
/// these outputs depends on it. Elements that [`Form::At`] reads get no gradient.
///
/// A slope that follows from an output and from the inputs alike is written from whichever needs
/// fewer values: ReLU's from its output, SiLU's from its input.
pub(crate) fn reverse(
    program: &Program,
    inputs: usize,
    upstream: &[usize],
    wanted: &[u32],
) -> (Program, Vec<bool>) {
    let from_inputs = written(program, inputs, upstream, wanted, false);
    let from_outputs = written(program, inputs, upstream, wanted, true);
    // Of two that read as many values, the one that computes less.
    let cost =
        |(program, _): &(Program, Vec<bool>)| (program.inputs().len(), program.forms().len());
    if cost(&from_outputs) < cost(&from_inputs) {
        from_outputs
    } else {
        from_inputs
    }
}

fn written(
    program: &Program,
    inputs: usize,
    upstream: &[usize],
    wanted: &[u32],
    from_outputs: bool,
) -> (Program, Vec<bool>) {
    let mut builder = Builder::default();
    let first_output = (inputs + upstream.len()) as u32;
    let mut lines: Vec<u32> = Vec::new();
    for (line, &form) in program.forms().iter().enumerate() {
        let again = builder.push(form.map(|operand| lines[operand as usize]));
        // What is saved anyway need not be computed again.
        let saved = program.outputs().iter().position(|&o| o as usize == line);
        let plain = matches!(form, Form::Input(_) | Form::Constant(_));
        lines.push(match saved {
            Some(k) if from_outputs && !plain => builder.push(Form::Input(first_output + k as u32)),
            _ => again,
        });
    }
    let mut adjoint: Vec<Option<u32>> = vec![None; lines.len()];
    for (k, &output) in upstream.iter().enumerate() {
        let g = builder.push(Form::Input((inputs + k) as u32));
        add(&mut builder, &mut adjoint, program.outputs()[output], g);
    }
    for line in (0..lines.len()).rev() {
        let Some(g) = adjoint[line] else { continue };
        let form = program.forms()[line];
        for (operand, share) in shares(&mut builder, form, &lines, line, g) {
            add(&mut builder, &mut adjoint, operand, share);
        }
    }
    let of = |&k: &u32| {
        let mut forms = program.forms().iter();
        let line = forms.position(|f| *f == Form::Input(k))?;
        adjoint[line]
    };
    let found: Vec<Option<u32>> = wanted.iter().map(of).collect();
    let there = found.iter().map(Option::is_some).collect();
    (builder.finish(found.into_iter().flatten().collect()), there)
}

fn add(builder: &mut Builder, adjoint: &mut [Option<u32>], line: u32, share: u32) {
    let place = &mut adjoint[line as usize];
    *place = Some(match *place {
        Some(before) => builder.binary(Binary::Add, before, share),
        None => share,
    });
}

/// What each operand of a line gets of the gradient `g` of that line.
fn shares(b: &mut Builder, form: Form<u32>, lines: &[u32], line: usize, g: u32) -> Vec<(u32, u32)> {
    use Binary::{Add, Div, Max, Min, Mul, Pow, Sub};
    let at = |operand: u32| lines[operand as usize];
    let y = lines[line];
    match form {
        Form::Unary(op, a) => slope(b, op, at(a), y, g)
            .map(|s| (a, s))
            .into_iter()
            .collect(),
        Form::Binary(Add, a, c) => vec![(a, g), (c, g)],
        Form::Binary(Sub, a, c) => vec![(a, g), (c, b.unary(Unary::Neg, g))],
        Form::Binary(Mul, a, c) => vec![(a, b.binary(Mul, g, at(c))), (c, b.binary(Mul, g, at(a)))],
        Form::Binary(Div, a, c) => {
            let quotient = b.binary(Div, g, at(c));
            let product = b.binary(Mul, quotient, y);
            vec![(a, quotient), (c, b.unary(Unary::Neg, product))]
        }
        Form::Binary(op @ (Min | Max), a, c) => {
            let (low, high) = if op == Max { (a, c) } else { (c, a) };
            // Where the second is beyond the first, it is the result.
            let second = b.push(Form::Compare(Compare::Less, at(low), at(high)));
            let zero = b.constant(0.0);
            vec![
                (a, b.push(Form::Select(second, zero, g))),
                (c, b.push(Form::Select(second, g, zero))),
            ]
        }
        Form::Binary(Pow, a, c) => {
            let one = b.constant(1.0);
            let less = b.binary(Sub, at(c), one);
            let power = b.binary(Pow, at(a), less);
            let slope = b.binary(Mul, at(c), power);
            let log = b.unary(Unary::Log, at(a));
            let by_exponent = b.binary(Mul, y, log);
            vec![
                (a, b.binary(Mul, g, slope)),
                (c, b.binary(Mul, g, by_exponent)),
            ]
        }
        Form::Select(condition, yes, no) => {
            let zero = b.constant(0.0);
            vec![
                (yes, b.push(Form::Select(at(condition), g, zero))),
                (no, b.push(Form::Select(at(condition), zero, g))),
            ]
        }
        _ => vec![],
    }
}

/// g f′(x) for y = f(x); `None` where the slope is 0 everywhere.
fn slope(b: &mut Builder, op: Unary, x: u32, y: u32, g: u32) -> Option<u32> {
    use Binary::{Add, Div, Mul, Sub};
    let one = b.constant(1.0);
    let factor = match op {
        Unary::Sign | Unary::Floor => return None,
        Unary::Neg => return Some(b.unary(Unary::Neg, g)),
        Unary::Relu => {
            // What is held back is 0, whatever the gradient; NaN lets it pass.
            let zero = b.constant(0.0);
            let held = b.push(Form::Compare(Compare::AtMost, y, zero));
            return Some(b.push(Form::Select(held, zero, g)));
        }
        Unary::Log => return Some(b.binary(Div, g, x)),
        Unary::Log1p => {
            let shifted = b.binary(Add, x, one);
            return Some(b.binary(Div, g, shifted));
        }
        Unary::Sqrt => {
            let half = b.constant(0.5);
            let half = b.binary(Mul, g, half);
            return Some(b.binary(Div, half, y));
        }
        Unary::Abs => b.unary(Unary::Sign, x),
        Unary::Exp => y,
        Unary::Expm1 => b.binary(Add, y, one),
        Unary::Rsqrt => {
            let square = b.binary(Mul, y, y);
            let cube = b.binary(Mul, square, y);
            let half = b.constant(-0.5);
            b.binary(Mul, half, cube)
        }
        Unary::Sin => b.unary(Unary::Cos, x),
        Unary::Cos => {
            let sine = b.unary(Unary::Sin, x);
            b.unary(Unary::Neg, sine)
        }
        Unary::Tanh => {
            let square = b.binary(Mul, y, y);
            b.binary(Sub, one, square)
        }
        Unary::Sigmoid => {
            let rest = b.binary(Sub, one, y);
            b.binary(Mul, y, rest)
        }
        Unary::Erf => {
            let square = b.binary(Mul, x, x);
            let square = b.unary(Unary::Neg, square);
            let bell = b.unary(Unary::Exp, square);
            let factor = b.constant(std::f64::consts::FRAC_2_SQRT_PI);
            b.binary(Mul, factor, bell)
        }
        Unary::Softplus => b.unary(Unary::Sigmoid, x),
    };
    Some(b.binary(Mul, g, factor))
}

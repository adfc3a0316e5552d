//! Expressions as WGSL. The text is in terms of the types Float, Word, Whole and Truth, which are one number,
//! word, integer and truth value, or four of them: the same lines serve a kernel that computes one
//! element a thread and one that computes four.

use std::fmt::Write;

use super::{Binary, Compare, Form, Program, Unary};

/// What the lines call (`shaders/shared/functions.wgsl`).
pub(crate) const FUNCTIONS: &str = include_str!("../../shaders/shared/functions.wgsl");

/// What a program's lines find around them.
pub(crate) trait Names {
    /// This element of an input, of type `Float`.
    fn input(&self, k: u32) -> String;
    /// The element of an input that `index` of type `Float` counts to, of type `Float`.
    fn at(&self, k: u32, index: &str) -> String;
    /// This element's random words of a stream, of type `Word`.
    fn words(&self, stream: u32) -> String;
    /// A number that the launch gives, of type `Float`.
    fn parameter(&self, k: u32) -> String;
    /// The threshold of a chance, of type `Word`.
    fn threshold(&self, k: u32) -> String;
}

/// The lines of a program that are `wanted`, `let v<k> = …;`; output k is the variable v with the
/// number of its line.
pub(crate) fn body(
    program: &Program,
    names: &dyn Names,
    indent: &str,
    wanted: impl Fn(usize) -> bool,
) -> String {
    let mut text = String::new();
    for (line, &form) in program.forms().iter().enumerate() {
        if !wanted(line) {
            continue;
        }
        let v = |line: u32| format!("v{line}");
        let value = match form {
            Form::Constant(bits) => format!("Float({:?})", f64::from_bits(bits)),
            Form::Parameter(k) => names.parameter(k),
            Form::Input(k) => names.input(k),
            Form::At(k, index) => names.at(k, &v(index)),
            Form::Step => "Float(f32(now))".into(),
            Form::Uniform(stream) => format!("uniform_in({})", names.words(stream)),
            Form::Chance(stream, threshold) => {
                format!("{} >= {}", names.words(stream), names.threshold(threshold))
            }
            Form::Unary(op, a) => unary(op, a),
            Form::Binary(op, a, b) => match op {
                Binary::Add => format!("v{a} + v{b}"),
                Binary::Sub => format!("v{a} - v{b}"),
                // A compiler makes 0 of 0 x, whatever x is.
                Binary::Mul => match [a, b].map(|k| is_zero(program, k)) {
                    [true, _] => format!("zero_of(v{b})"),
                    [_, true] => format!("zero_of(v{a})"),
                    _ => format!("v{a} * v{b}"),
                },
                Binary::Div => format!("v{a} / v{b}"),
                Binary::Min => format!("smaller_of(v{a}, v{b})"),
                Binary::Max => format!("larger_of(v{a}, v{b})"),
                Binary::Pow => format!("power(v{a}, v{b})"),
            },
            Form::Compare(op, a, b) => {
                let function = match op {
                    Compare::Less => "is_less",
                    Compare::AtMost => "is_at_most",
                    Compare::Equal => "is_equal",
                };
                format!("{function}(v{a}, v{b})")
            }
            Form::Not(a) => format!("!v{a}"),
            Form::And(a, b) => format!("v{a} & v{b}"),
            Form::Or(a, b) => format!("v{a} | v{b}"),
            Form::Select(c, a, b) => format!("select(v{b}, v{a}, v{c})"),
        };
        // Writing to a String does not fail.
        let _ = writeln!(text, "{indent}let v{line} = {value};");
    }
    text
}

fn is_zero(program: &Program, line: u32) -> bool {
    matches!(program.forms()[line as usize], Form::Constant(bits) if f64::from_bits(bits) == 0.0)
}

fn unary(op: Unary, a: u32) -> String {
    let function = match op {
        Unary::Neg => return format!("-v{a}"),
        Unary::Abs => "abs",
        Unary::Sign => "sign_of",
        Unary::Floor => "floor",
        Unary::Exp => "exponential",
        Unary::Expm1 => "exponential_less_one",
        Unary::Log => "logarithm",
        Unary::Log1p => "logarithm_of_one_and",
        Unary::Sqrt => "root",
        Unary::Rsqrt => "inverse_root",
        Unary::Sin => "sine",
        Unary::Cos => "cosine",
        Unary::Tanh => "hyperbolic_tangent",
        Unary::Sigmoid => "logistic",
        Unary::Erf => "error_function",
        Unary::Softplus => "softplus",
        Unary::Relu => "rectify",
    };
    format!("{function}(v{a})")
}

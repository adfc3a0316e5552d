//! How far a device's result of an expression may lie from the truth: each line's own rounding,
//! and what the errors of its operands become on the way through it, element by element.
//!
//! With ε = 2⁻²³. A device rounds once for a line (½ ε of the result) or is off by what WGSL states
//! ("Floating Point Accuracy") and `shaders/shared/functions.wgsl` adds to that; an error e of an
//! operand becomes |∂y/∂x| e. A comparison that these errors could turn makes the results of both
//! branches possible.

use super::{Binary, Compare, Form, Program, Unary, scalar};
use crate::kernel::Side;

/// What an element of an expression is made of.
pub(crate) trait Given {
    /// A parameter of the launch.
    fn parameter(&self, k: u32) -> f64;
    /// This element of an input, and what it may be off by.
    fn input(&self, k: u32) -> (f64, f64);
    /// The element of an input that an index counts to.
    fn at(&self, k: u32, index: f64) -> f64;
    /// The step's number.
    fn step(&self) -> f64;
    /// This element's random word of a stream.
    fn word(&self, stream: u32) -> u32;
    /// The threshold of a chance.
    fn threshold(&self, threshold: u32) -> u32;
}

/// Inputs alone; [`super::Expr::value`] has refused what needs more.
struct Inputs<'a>(&'a [f64]);

impl Given for Inputs<'_> {
    fn parameter(&self, _: u32) -> f64 {
        f64::NAN
    }
    fn input(&self, k: u32) -> (f64, f64) {
        (self.0[k as usize], 0.0)
    }
    fn at(&self, _: u32, _: f64) -> f64 {
        f64::NAN
    }
    fn step(&self) -> f64 {
        f64::NAN
    }
    fn word(&self, _: u32) -> u32 {
        0
    }
    fn threshold(&self, _: u32) -> u32 {
        0
    }
}

/// The results for one element with these inputs.
pub(super) fn values(program: &Program, inputs: &[f64]) -> Vec<f64> {
    let found = bounds(program, &Inputs(inputs), Side::Cpu);
    found.into_iter().map(|(value, _)| value).collect()
}

/// The value of a line whose operands are these numbers, if it is a finite number.
pub(super) fn folded(form: Form<u32>, operands: &[f64]) -> Option<f64> {
    let value = match (form, operands) {
        (Form::Unary(op, _), &[x]) => scalar::unary(op, x),
        (Form::Binary(op, ..), &[a, b]) => scalar::binary(op, a, b),
        _ => return None,
    };
    value.is_finite().then_some(value)
}

const EPSILON: f64 = f32::EPSILON as f64;

/// For each output, its value for one element and what a device may be off by.
pub(crate) fn bounds(program: &Program, given: &dyn Given, side: Side) -> Vec<(f64, f64)> {
    // A condition is 1 or 0; one that errors could turn is off by 1.
    let mut lines: Vec<(f64, f64)> = Vec::with_capacity(program.forms().len());
    let truth = |holds: bool| if holds { 1.0 } else { 0.0 };
    for &form in program.forms() {
        let of = |line: u32| lines[line as usize];
        let exact = |value: f64| (value, 0.0);
        lines.push(match form {
            Form::Constant(bits) => rounded(f64::from_bits(bits), 0.0),
            Form::Parameter(k) => rounded(given.parameter(k), 0.0),
            Form::Input(k) => given.input(k),
            Form::At(k, index) => exact(given.at(k, of(index).0)),
            Form::Step => exact(given.step()),
            Form::Uniform(stream) => exact(f64::from(crate::rng::uniform(given.word(stream)))),
            Form::Chance(stream, threshold) => {
                exact(truth(given.word(stream) >= given.threshold(threshold)))
            }
            Form::Unary(op, a) => unary(op, of(a), side),
            Form::Binary(op, a, b) => binary(op, of(a), of(b), side),
            Form::Compare(op, a, b) => compare(op, of(a), of(b)),
            Form::Not(a) => (1.0 - of(a).0, of(a).1),
            Form::And(a, b) => (of(a).0.min(of(b).0), of(a).1.max(of(b).1)),
            Form::Or(a, b) => (of(a).0.max(of(b).0), of(a).1.max(of(b).1)),
            Form::Select(c, a, b) => {
                let (taken, other) = if of(c).0 != 0.0 {
                    (of(a), of(b))
                } else {
                    (of(b), of(a))
                };
                match of(c).1 > 0.0 {
                    true => (taken.0, taken.1.max(other.1 + (taken.0 - other.0).abs())),
                    false => taken,
                }
            }
        });
    }
    let outputs = program.outputs().iter();
    outputs.map(|&line| lines[line as usize]).collect()
}

/// A value that the device holds as the nearest f32, on top of an error. Below the normal numbers
/// some devices have 0.
fn rounded(value: f64, error: f64) -> (f64, f64) {
    (
        value,
        error + 0.5 * EPSILON * value.abs() + f64::from(f32::MIN_POSITIVE),
    )
}

/// e through a function whose slope at x is `slope`; where there is none, nothing is known.
fn through(slope: f64, error: f64) -> f64 {
    if error == 0.0 {
        0.0
    } else {
        slope.abs() * error
    }
}

fn unary(op: Unary, (x, e): (f64, f64), side: Side) -> (f64, f64) {
    let y = scalar::unary(op, x);
    let slope = match op {
        Unary::Neg | Unary::Abs | Unary::Relu => 1.0,
        // A step within reach.
        Unary::Sign => return (y, if x.abs() <= e && e > 0.0 { 2.0 } else { 0.0 }),
        Unary::Floor => {
            let near = (x - e).floor() != (x + e).floor();
            return (y, if near { 1.0 + e } else { 0.0 });
        }
        Unary::Exp => y,
        Unary::Expm1 => y + 1.0,
        Unary::Log => 1.0 / x,
        Unary::Log1p => 1.0 / (1.0 + x),
        // By both ends of what x may be: the slope at 0 is none.
        Unary::Sqrt if e >= 1e-6 * x => {
            let low = y - (x - e).max(0.0).sqrt();
            match e > 0.0 {
                true => low.max((x + e).sqrt() - y) / e,
                false => 0.0,
            }
        }
        Unary::Sqrt => 0.5 / y,
        Unary::Rsqrt => 0.5 * y.powi(3),
        Unary::Sin | Unary::Cos => 1.0,
        Unary::Tanh => 1.0 - y * y,
        Unary::Sigmoid => y * (1.0 - y),
        Unary::Erf => std::f64::consts::FRAC_2_SQRT_PI * (-x * x).exp(),
        Unary::Softplus => scalar::sigmoid(x),
    };
    let carried = through(slope, e);
    if matches!(op, Unary::Neg | Unary::Abs | Unary::Relu) {
        return (y, carried);
    }
    // exp: 3 + 2|x| ulp; what is smaller than e^-87 counts as 0.
    let exp = |x: f64| 3.0 + 2.0 * x.abs().min(104.0);
    let own = match (side, op) {
        // One ulp of the C library, and a rounding or two around it.
        (Side::Cpu, _) => 2.0 * EPSILON * y.abs(),
        (Side::Gpu, Unary::Exp) => exp(x) * EPSILON * y.abs(),
        // Near 0 a series of nine terms; elsewhere exp and a subtraction.
        (Side::Gpu, Unary::Expm1) => exp(x) * EPSILON * (y + 1.0).min(1.0 + y.abs()) * 2.0,
        // 3 ulp, and 2⁻²¹ between ½ and 2.
        (Side::Gpu, Unary::Log) => 3.0 * EPSILON * y.abs() + 2f64.powi(-21),
        (Side::Gpu, Unary::Log1p) => {
            6.0 * EPSILON * y.abs() + if x.abs() < 0.5 { 0.0 } else { 2f64.powi(-21) }
        }
        // inverseSqrt 2 ulp, division 2.5.
        (Side::Gpu, Unary::Sqrt | Unary::Rsqrt) => 5.0 * EPSILON * y.abs(),
        // Polynomials of what is left of x after multiples of π/2 in three parts, of which the first
        // product is exact and the second below 2⁻¹⁰ |x|.
        (Side::Gpu, Unary::Sin | Unary::Cos) => 4.0 * EPSILON + x.abs() * EPSILON * 2f64.powi(-10),
        // Of e^(-2|x|) − 1 and its quotient.
        (Side::Gpu, Unary::Tanh) => 16.0 * EPSILON * y.abs(),
        // Where e⁻ˣ counts, |x| ≤ 17; a division.
        (Side::Gpu, Unary::Sigmoid) => {
            (exp(x.abs().min(88.0)) * (1.0 - y) + 4.0) * EPSILON * y.abs()
        }
        // The approximation (Abramowitz and Stegun 7.1.26) is off by 1.5e-7.
        (Side::Gpu, Unary::Erf) => 1.5e-7 + 8.0 * EPSILON * y.abs(),
        (Side::Gpu, Unary::Softplus) => {
            exp(x) * EPSILON * (-x.abs()).exp() + 7.0 * EPSILON * y.abs() + 2f64.powi(-21)
        }
        (Side::Gpu, _) => EPSILON * y.abs(),
    };
    let (y, error) = rounded(y, carried + own);
    (y, error)
}

fn binary(op: Binary, (a, ea): (f64, f64), (b, eb): (f64, f64), side: Side) -> (f64, f64) {
    let y = scalar::binary(op, a, b);
    let carried = match op {
        Binary::Add | Binary::Sub => ea + eb,
        Binary::Mul => through(b, ea) + through(a, eb) + ea * eb,
        Binary::Div => through(1.0 / b, ea) + through(y / b, eb),
        // Either may win where they are near.
        Binary::Min | Binary::Max => return (y, ea.max(eb)),
        Binary::Pow => {
            through(b * a.powf(b - 1.0), ea)
                + if a > 0.0 {
                    through(y * a.ln(), eb)
                } else {
                    0.0
                }
        }
    };
    let own = match (side, op) {
        (Side::Gpu, Binary::Div) => 2.5 * EPSILON * y.abs(),
        // exp2(b log2 a): both functions' errors.
        (_, Binary::Pow) => {
            let exponent = if a == 0.0 {
                0.0
            } else {
                (b * a.abs().log2()).abs()
            };
            (4.0 + 2.0 * exponent + 4.0 * b.abs() + 3.0 * exponent) * EPSILON * y.abs()
        }
        _ => 0.0,
    };
    rounded(y, carried + own)
}

fn compare(op: Compare, (a, ea): (f64, f64), (b, eb): (f64, f64)) -> (f64, f64) {
    let error = ea + eb;
    let near = error > 0.0 && (a - b).abs() <= error;
    let value = if scalar::compare(op, a, b) { 1.0 } else { 0.0 };
    (value, if near { 1.0 } else { 0.0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whatever x is within e, its root is within the bound; at 0 too, where the slope is none.
    #[test]
    fn a_root_is_bounded_at_0_and_beside_it() {
        let tiny = f64::from(f32::MIN_POSITIVE);
        for (x, e) in [
            (0.0, tiny),
            (0.0, 1.0),
            (tiny, tiny),
            (4.0, 1.0),
            (4.0, 5.0),
            (4.0, 1e-9),
        ] {
            let (y, bound) = unary(Unary::Sqrt, (x, e), Side::Cpu);
            let ends = [(x - e).max(0.0), x + e].map(|x: f64| (x.sqrt() - y).abs());
            let most = ends[0].max(ends[1]);
            let own = 3.0 * EPSILON * y + 2.0 * tiny;
            assert!(
                most <= bound && bound <= most * 1.001 + own,
                "{x} {e}: {bound}, {most}"
            );
        }
        assert_eq!(unary(Unary::Sqrt, (0.0, 0.0), Side::Cpu).1, tiny);
    }
}

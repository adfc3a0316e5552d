//! Instructions that a thread of a GPU issues for the lines of an expression, about: what the functions of
//! `shaders/shared/functions.wgsl` come to. A division is a reciprocal with its corrections; an exponential, logarithm or
//! root is one of the slow unit with a product for its base; what tells NaN apart is four.

use super::{Binary, Form, Unary};

/// Of a number by Philox: four words for four elements, or for one.
pub(crate) const DRAW: u64 = 360;

/// Of a line for one element. Loads of inputs are not counted here.
pub(crate) fn instructions(form: Form<u32>) -> u64 {
    match form {
        Form::Constant(_) | Form::Parameter(_) | Form::Input(_) => 0,
        // The index is kept within the table, and found in memory.
        Form::At(..) => 12,
        Form::Step | Form::Chance(..) | Form::Not(_) | Form::And(..) | Form::Or(..) => 1,
        Form::Select(..) => 1,
        Form::Uniform(_) => 3,
        Form::Compare(..) => 7,
        Form::Unary(op, _) => unary(op),
        Form::Binary(op, ..) => match op {
            Binary::Add | Binary::Sub | Binary::Mul => 1,
            Binary::Div | Binary::Min | Binary::Max => 8,
            Binary::Pow => 70,
        },
    }
}

fn unary(op: Unary) -> u64 {
    match op {
        Unary::Neg | Unary::Abs | Unary::Floor => 1,
        Unary::Relu => 2,
        Unary::Sign | Unary::Exp => 8,
        Unary::Sqrt | Unary::Rsqrt => 12,
        Unary::Log => 16,
        Unary::Sigmoid => 20,
        Unary::Sin | Unary::Cos => 40,
        Unary::Erf => 45,
        // A series of eight terms.
        Unary::Log1p => 60,
        Unary::Softplus => 75,
        // A division for each of eight terms.
        Unary::Expm1 => 90,
        Unary::Tanh => 110,
    }
}

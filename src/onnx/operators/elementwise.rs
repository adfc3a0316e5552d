//! Operators that compute element by element: expressions.

use super::{Call, Held};
use crate::error::Result;
use crate::expr::{Expr, Form, Program, activations};
use crate::interchange::{Numbers, Tensor};
use crate::ops::pointwise::Pointwise;
use crate::ops::{Tape, Value};
use crate::shape::DType;

/// An expression of so many inputs.
type Function = Box<dyn Fn(&[Expr]) -> Expr>;

fn truth(condition: crate::expr::Condition) -> Expr {
    condition.select(1.0, 0.0)
}

fn fold(values: &[Expr], f: impl Fn(&Expr, &Expr) -> Expr) -> Expr {
    let (first, rest) = (&values[0], &values[1..]);
    rest.iter().fold(first.clone(), |all, value| f(&all, value))
}

impl Call<'_, '_> {
    /// Integers of a graph are floats to an expression, which does not round a quotient towards 0.
    fn no_whole_division(&self) -> Result<()> {
        if self.operator.kind != "Div" {
            return Ok(());
        }
        let (mut whole, mut computed) = (false, false);
        for held in self.inputs.iter().flatten() {
            match held {
                Held::Value(value) => {
                    computed = true;
                    whole |= self.scope.ty(*value)?.dtype == DType::U32;
                }
                Held::Known(tensor) => whole |= matches!(tensor.numbers, Numbers::I64(_)),
                Held::Filled(..) => {}
            }
        }
        match whole && computed {
            true => Err(self.refused("a quotient of integers", "floats")),
            false => Ok(()),
        }
    }

    /// What the operator computes, if it computes element by element.
    pub(super) fn elementwise(&mut self) -> Option<Result<Held>> {
        let function = match self.function() {
            Ok(Some(function)) => function,
            Ok(None) => return None,
            Err(e) => return Some(Err(e)),
        };
        Some(self.apply(function))
    }

    /// The operator's function, and how many inputs it takes at least and at most.
    fn function(&self) -> Result<Option<([usize; 2], Function)>> {
        macro_rules! unary {
            (|$x:ident| $y:expr) => {
                (
                    [1, 1],
                    Box::new(move |v: &[Expr]| {
                        let $x = &v[0];
                        $y
                    }) as Function,
                )
            };
        }
        macro_rules! binary {
            (|$a:ident, $b:ident| $y:expr) => {
                (
                    [2, 2],
                    Box::new(move |v: &[Expr]| {
                        let ($a, $b) = (&v[0], &v[1]);
                        $y
                    }) as Function,
                )
            };
        }
        let mut attributes: &[&str] = &[];
        self.no_whole_division()?;
        let function = match self.operator.kind.as_str() {
            "Add" => binary!(|a, b| a + b),
            "Sub" => binary!(|a, b| a - b),
            "Mul" => binary!(|a, b| a * b),
            "Div" => binary!(|a, b| a / b),
            "Pow" => binary!(|a, b| a.pow(b)),
            "Min" => (
                [1, 7],
                Box::new(|v: &[Expr]| fold(v, |a, b| a.min(b))) as Function,
            ),
            "Max" => (
                [1, 7],
                Box::new(|v: &[Expr]| fold(v, |a, b| a.max(b))) as Function,
            ),
            "Sum" => (
                [1, 7],
                Box::new(|v: &[Expr]| fold(v, |a, b| a + b)) as Function,
            ),
            "Neg" => unary!(|x| -x),
            "Abs" => unary!(|x| x.abs()),
            "Sign" => unary!(|x| x.sign()),
            "Floor" => unary!(|x| x.floor()),
            "Exp" => unary!(|x| x.exp()),
            "Log" => unary!(|x| x.log()),
            "Sqrt" => unary!(|x| x.sqrt()),
            "Reciprocal" => unary!(|x| Expr::constant(1.0) / x),
            "Sin" => unary!(|x| x.sin()),
            "Cos" => unary!(|x| x.cos()),
            "Tanh" => unary!(|x| x.tanh()),
            "Sigmoid" => unary!(|x| x.sigmoid()),
            "Erf" => unary!(|x| x.erf()),
            "Softplus" => unary!(|x| x.softplus()),
            "Softsign" => unary!(|x| activations::softsign(x)),
            "HardSwish" => unary!(|x| activations::hard_swish(x)),
            "Relu" => unary!(|x| x.relu()),
            "LeakyRelu" => {
                attributes = &["alpha"];
                let alpha = self.float("alpha", 0.01)?;
                unary!(|x| activations::leaky_relu(x, alpha))
            }
            "Elu" => {
                attributes = &["alpha"];
                let alpha = self.float("alpha", 1.0)?;
                unary!(|x| activations::elu(x, alpha))
            }
            "Selu" => {
                attributes = &["alpha", "gamma"];
                let alpha = self.float("alpha", 1.673_263_242_354_377_2)?;
                let gamma = self.float("gamma", 1.050_700_987_355_480_5)?;
                unary!(|x| activations::elu(x, alpha) * gamma)
            }
            "HardSigmoid" => {
                attributes = &["alpha", "beta"];
                let (alpha, beta) = (self.float("alpha", 0.2)?, self.float("beta", 0.5)?);
                unary!(|x| (x * alpha + beta).clamp(0.0, 1.0))
            }
            "PRelu" => binary!(|x, slope| x.gt(0.0).select(x, x * slope)),
            "Clip" => {
                let (low, high) = (self.has(1), self.has(2));
                let clip = move |v: &[Expr]| {
                    let mut bounds = v[1..].iter();
                    let mut x = v[0].clone();
                    if low && let Some(low) = bounds.next() {
                        x = x.max(low);
                    }
                    if high && let Some(high) = bounds.next() {
                        x = x.min(high);
                    }
                    x
                };
                ([1, 3], Box::new(clip) as Function)
            }
            "Less" => binary!(|a, b| truth(a.lt(b))),
            "LessOrEqual" => binary!(|a, b| truth(a.le(b))),
            "Greater" => binary!(|a, b| truth(a.gt(b))),
            "GreaterOrEqual" => binary!(|a, b| truth(a.ge(b))),
            "Equal" => binary!(|a, b| truth(a.equals(b))),
            "Not" => unary!(|a| truth(a.equals(0.0))),
            "And" => binary!(|a, b| a * b),
            "Or" => binary!(|a, b| a.max(b)),
            "Where" => {
                let choose = |v: &[Expr]| v[0].equals(0.0).select(&v[2], &v[1]);
                ([3, 3], Box::new(choose) as Function)
            }
            _ => return Ok(None),
        };
        self.allow(attributes)?;
        Ok(Some(function))
    }

    fn apply(&mut self, ([least, most], function): ([usize; 2], Function)) -> Result<Held> {
        let given: Vec<usize> = (0..self.inputs.len()).filter(|&k| self.has(k)).collect();
        if !(least..=most).contains(&given.len()) {
            let found = format!("{} inputs", given.len());
            return Err(self.refused(found, &format!("{least} to {most}")));
        }
        if let Some(held) = self.on_host(&given, &function)? {
            return Ok(held);
        }
        let mut rank = 0;
        for &k in &given {
            if let Held::Value(_) = self.held(k)? {
                rank = rank.max(self.extents(k)?.len());
            }
        }
        let mut operands = Vec::new();
        let mut values: Vec<Value> = Vec::new();
        for &k in &given {
            let one = match self.held(k)? {
                Held::Known(tensor)
                    if tensor.numbers.len() == 1 && tensor.extents.len() <= rank =>
                {
                    Some(numbers(tensor)[0])
                }
                Held::Filled(extents, value)
                    if extents.iter().all(|&e| e == 1) && extents.len() <= rank =>
                {
                    Some(f64::from(*value))
                }
                _ => None,
            };
            if let Some(number) = one.filter(|number| number.is_finite()) {
                operands.push(Expr::constant(number));
                continue;
            }
            if let Held::Known(tensor) = self.held(k)? {
                // Integers beside the graph's own are floats to an expression.
                let floats = numbers(tensor).iter().map(|&x| x as f32).collect();
                let extents = match tensor.extents.as_slice() {
                    [] => vec![1],
                    extents => extents.to_vec(),
                };
                self.inputs[k] = Some(Held::Known(Tensor::floats(&extents, floats)));
            }
            let value = self.value(k)?;
            let place = values.iter().position(|other| *other == value);
            operands.push(Expr::input(place.unwrap_or_else(|| {
                values.push(value);
                values.len() - 1
            })));
        }
        // An operand that the expression does without is none of the op's inputs.
        let read = Program::of(&[function(&operands)]).inputs();
        let values: Vec<Value> = read.iter().map(|&k| values[k as usize]).collect();
        for operand in &mut operands {
            if let Form::Input(k) = operand.0.0 {
                let place = read.iter().position(|&other| other == k);
                *operand = place.map_or(Expr::constant(0.0), Expr::input);
            }
        }
        let op = Pointwise::new(&[function(&operands)]);
        Ok(Held::Value(self.op(op, &values)?))
    }

    /// The result where all inputs are known and few.
    fn on_host(&self, given: &[usize], function: &Function) -> Result<Option<Held>> {
        let mut tensors = Vec::new();
        for &k in given {
            match self.held(k)? {
                Held::Known(tensor) => tensors.push(tensor),
                _ => return Ok(None),
            }
        }
        let Some(longest) = tensors
            .iter()
            .max_by_key(|t| (t.numbers.len(), t.extents.len()))
        else {
            return Ok(None);
        };
        let count = longest.numbers.len();
        let fits = |t: &&Tensor| t.numbers.len() == 1 || t.extents == longest.extents;
        if count > super::MOST_KNOWN || !tensors.iter().all(fits) {
            return Ok(None);
        }
        let integers = |t: &&Tensor| matches!(t.numbers, Numbers::I64(_));
        // A choice has the type of what is chosen.
        let chosen = usize::from(self.operator.kind == "Where");
        let whole = tensors[chosen..].iter().all(integers);
        let operands: Vec<Vec<f64>> = tensors.iter().map(|t| numbers(t)).collect();
        let inputs: Vec<Expr> = (0..tensors.len()).map(Expr::input).collect();
        let expression = function(&inputs);
        let mut made = Vec::new();
        for i in 0..count {
            let at: Vec<f64> = operands.iter().map(|o| o[i.min(o.len() - 1)]).collect();
            made.push(expression.value(&at)?);
        }
        let extents = longest.extents.clone();
        let truth = [
            "Less",
            "LessOrEqual",
            "Greater",
            "GreaterOrEqual",
            "Equal",
            "Not",
            "And",
            "Or",
        ];
        Ok(Some(
            match whole || truth.contains(&self.operator.kind.as_str()) {
                true => self.few(
                    extents,
                    Numbers::I64(made.iter().map(|&x| x.trunc() as i64).collect()),
                )?,
                false => Held::Known(Tensor::floats(
                    &extents,
                    made.iter().map(|&x| x as f32).collect(),
                )),
            },
        ))
    }
}

fn numbers(tensor: &Tensor) -> Vec<f64> {
    match &tensor.numbers {
        Numbers::F32(numbers) => numbers.iter().map(|&x| f64::from(x)).collect(),
        Numbers::I64(numbers) => numbers.iter().map(|&x| x as f64).collect(),
    }
}

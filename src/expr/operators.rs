//! What a user writes: operators and methods of [`Expr`] and [`Condition`].

use super::{Binary, Compare, Condition, Expr, Form, Unary, node};

impl From<f64> for Expr {
    fn from(value: f64) -> Self {
        Self::constant(value)
    }
}

impl From<&Expr> for Expr {
    fn from(expr: &Expr) -> Self {
        expr.clone()
    }
}

fn unary(op: Unary, a: &Expr) -> Expr {
    Expr(node(Form::Unary(op, 0), &[&a.0]))
}

fn binary(op: Binary, a: &Expr, b: &Expr) -> Expr {
    Expr(node(Form::Binary(op, 0, 1), &[&a.0, &b.0]))
}

fn compare(op: Compare, a: &Expr, b: &Expr) -> Condition {
    Condition(node(Form::Compare(op, 0, 1), &[&a.0, &b.0]))
}

macro_rules! operator {
    ($($trait:ident $method:ident),*) => {$(
        impl<R: Into<Expr>> std::ops::$trait<R> for Expr {
            type Output = Expr;
            fn $method(self, right: R) -> Expr {
                binary(Binary::$trait, &self, &right.into())
            }
        }
        impl<R: Into<Expr>> std::ops::$trait<R> for &Expr {
            type Output = Expr;
            fn $method(self, right: R) -> Expr {
                binary(Binary::$trait, self, &right.into())
            }
        }
        impl std::ops::$trait<Expr> for f64 {
            type Output = Expr;
            fn $method(self, right: Expr) -> Expr {
                binary(Binary::$trait, &self.into(), &right)
            }
        }
        impl std::ops::$trait<&Expr> for f64 {
            type Output = Expr;
            fn $method(self, right: &Expr) -> Expr {
                binary(Binary::$trait, &self.into(), right)
            }
        }
    )*};
}
operator!(Add add, Sub sub, Mul mul, Div div);

impl std::ops::Neg for Expr {
    type Output = Expr;
    fn neg(self) -> Expr {
        unary(Unary::Neg, &self)
    }
}

impl std::ops::Neg for &Expr {
    type Output = Expr;
    fn neg(self) -> Expr {
        unary(Unary::Neg, self)
    }
}

macro_rules! unary {
    ($($(#[$doc:meta])* $name:ident $op:ident),* $(,)?) => {
        impl Expr {
            $($(#[$doc])* #[must_use] pub fn $name(&self) -> Self { unary(Unary::$op, self) })*
        }
    };
}
unary! {
    /// |x|.
    abs Abs,
    /// −1, 0 or 1; NaN stays.
    sign Sign,
    /// The largest integer that is not above x. Its slope is 0.
    floor Floor,
    /// eˣ.
    exp Exp,
    /// eˣ − 1, exact near 0.
    expm1 Expm1,
    /// Natural logarithm.
    log Log,
    /// ln(1 + x), exact near 0.
    log1p Log1p,
    /// √x.
    sqrt Sqrt,
    /// 1/√x.
    rsqrt Rsqrt,
    /// Sine of an angle in radians; on a GPU for |x| up to 10⁴.
    sin Sin,
    /// Cosine of an angle in radians; on a GPU for |x| up to 10⁴.
    cos Cos,
    /// Hyperbolic tangent.
    tanh Tanh,
    /// 1/(1 + e⁻ˣ).
    sigmoid Sigmoid,
    /// The error function 2/√π ∫₀ˣ e^(−t²) dt.
    erf Erf,
    /// ln(1 + eˣ), without overflow.
    softplus Softplus,
    /// max(x, 0), slope 0 at 0.
    relu Relu,
}

impl Expr {
    /// The smaller of two; NaN if one of them is. Of equal ones the gradient goes to the first.
    #[must_use]
    pub fn min(&self, other: impl Into<Self>) -> Self {
        binary(Binary::Min, self, &other.into())
    }

    /// The larger of two; NaN if one of them is. Of equal ones the gradient goes to the first.
    #[must_use]
    pub fn max(&self, other: impl Into<Self>) -> Self {
        binary(Binary::Max, self, &other.into())
    }

    /// x to the power of `exponent`.
    #[must_use]
    pub fn pow(&self, exponent: impl Into<Self>) -> Self {
        binary(Binary::Pow, self, &exponent.into())
    }

    /// x².
    #[must_use]
    pub fn square(&self) -> Self {
        self * self
    }

    /// How often `divisor` goes into a whole number, below 2²⁴: exactly, which a device's quotient of
    /// floats need not be.
    #[must_use]
    pub fn quotient(&self, divisor: f64) -> Self {
        // Off by one at most; the rest says which way.
        let near = (self / divisor).floor();
        let rest = self - &near * divisor;
        let near = near + rest.ge(divisor).select(1.0, 0.0);
        near - rest.lt(0.0).select(1.0, 0.0)
    }

    /// x held between two bounds.
    #[must_use]
    pub fn clamp(&self, low: impl Into<Self>, high: impl Into<Self>) -> Self {
        self.max(low).min(high)
    }

    /// x < other.
    pub fn lt(&self, other: impl Into<Self>) -> Condition {
        compare(Compare::Less, self, &other.into())
    }

    /// x ≤ other.
    pub fn le(&self, other: impl Into<Self>) -> Condition {
        compare(Compare::AtMost, self, &other.into())
    }

    /// x > other.
    pub fn gt(&self, other: impl Into<Self>) -> Condition {
        compare(Compare::Less, &other.into(), self)
    }

    /// x ≥ other.
    pub fn ge(&self, other: impl Into<Self>) -> Condition {
        compare(Compare::AtMost, &other.into(), self)
    }

    /// x = other.
    pub fn equals(&self, other: impl Into<Self>) -> Condition {
        compare(Compare::Equal, self, &other.into())
    }
}

impl Condition {
    /// `yes` where the condition holds, else `no`.
    #[must_use]
    pub fn select(&self, yes: impl Into<Expr>, no: impl Into<Expr>) -> Expr {
        let (yes, no) = (yes.into(), no.into());
        Expr(node(Form::Select(0, 1, 2), &[&self.0, &yes.0, &no.0]))
    }

    /// Both.
    #[must_use]
    pub fn and(&self, other: &Self) -> Self {
        Self(node(Form::And(0, 1), &[&self.0, &other.0]))
    }

    /// One or both.
    #[must_use]
    pub fn or(&self, other: &Self) -> Self {
        Self(node(Form::Or(0, 1), &[&self.0, &other.0]))
    }
}

impl std::ops::Not for &Condition {
    type Output = Condition;
    fn not(self) -> Condition {
        Condition(node(Form::Not(0), &[&self.0]))
    }
}

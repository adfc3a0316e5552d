//! Numbers that are known, and what makes values of nothing but extents and a type.

use super::{Call, Held, MOST_KNOWN};
use crate::error::Result;
use crate::expr::Expr;
use crate::interchange::{Attribute, Numbers, Tensor};
use crate::ops::Value;
use crate::ops::pointwise::{Pointwise, pointwise};

/// Elements of a triangle's matrix, at most: its mask is kept.
const MOST_OF_A_TRIANGLE: usize = 1 << 24;

/// ONNX's numbers of types.
const FLOAT: i64 = 1;
const INT32: i64 = 6;
const INT64: i64 = 7;
const BOOL: i64 = 9;

impl Call<'_, '_> {
    pub(super) fn constant(&mut self) -> Result<Held> {
        let mut attributes = self.operator.attributes.iter();
        let (Some(attribute), None) = (attributes.next(), attributes.next()) else {
            return Err(self.refused("other attributes", "one value"));
        };
        Ok(Held::Known(match attribute {
            (name, Attribute::Tensor(tensor)) if name == "value" && tensor.is_whole() => {
                tensor.clone()
            }
            (_, Attribute::Float(value)) => Tensor::floats(&[], vec![*value]),
            (_, Attribute::Floats(values)) => Tensor::floats(&[values.len()], values.clone()),
            (_, Attribute::Ints(values)) => Tensor::ints(values),
            (_, Attribute::Int(value)) => Tensor {
                extents: vec![],
                numbers: Numbers::I64(vec![*value]),
            },
            (name, _) => return Err(self.wrong(name, "numbers")),
        }))
    }

    pub(super) fn constant_of_shape(&mut self) -> Result<Held> {
        self.allow(&["value"])?;
        let extents = self.counts(&self.known_ints(0)?)?;
        let value = match self.operator.attributes.get("value") {
            None => Numbers::F32(vec![0.0]),
            Some(Attribute::Tensor(tensor)) if tensor.numbers.len() == 1 => tensor.numbers.clone(),
            Some(_) => return Err(self.wrong("value", "one number")),
        };
        match value {
            Numbers::F32(value) => Ok(Held::Filled(extents, value[0])),
            Numbers::I64(value) => {
                let count = extents.iter().try_fold(1usize, |n, &e| n.checked_mul(e));
                match count {
                    Some(count) if count <= MOST_KNOWN => {
                        self.few(extents, Numbers::I64(vec![value[0]; count]))
                    }
                    _ => Err(self.refused(format!("{extents:?} integers"), "at most 4,096")),
                }
            }
        }
    }

    /// Extents as they are counted.
    pub(super) fn counts(&self, numbers: &[i64]) -> Result<Vec<usize>> {
        let counts = numbers.iter().map(|&x| usize::try_from(x));
        let counts: Result<Vec<usize>, _> = counts.collect();
        counts.map_err(|_| self.refused(format!("{numbers:?}"), "numbers of 0 or more"))
    }

    pub(super) fn identity(&mut self, known: &[&str]) -> Result<Held> {
        self.allow(known)?;
        if self.has(2) {
            let known =
                matches!(self.held(2)?, Held::Known(t) if t.numbers == Numbers::I64(vec![0]));
            if !known {
                return Err(self.refused("a training mode", "an evaluation"));
            }
        }
        self.held(0).cloned()
    }

    pub(super) fn cast(&mut self) -> Result<Held> {
        self.allow(&["to"])?;
        let to = self.int("to", 0)?;
        if ![FLOAT, INT32, INT64, BOOL].contains(&to) {
            return Err(self.wrong("to", "1 (FLOAT), 6 (INT32), 7 (INT64) or 9 (BOOL)"));
        }
        match self.held(0)?.clone() {
            Held::Known(Tensor { extents, numbers }) => {
                let wide: Vec<f64> = match &numbers {
                    Numbers::F32(all) => all.iter().map(|&x| f64::from(x)).collect(),
                    Numbers::I64(all) => all.iter().map(|&x| x as f64).collect(),
                };
                let numbers = match (to, numbers) {
                    (FLOAT, _) => Numbers::F32(wide.iter().map(|&x| x as f32).collect()),
                    (BOOL, _) => Numbers::I64(wide.iter().map(|&x| i64::from(x != 0.0)).collect()),
                    (_, Numbers::F32(_)) => Numbers::I64(wide.iter().map(|&x| x as i64).collect()),
                    (_, integers) => integers,
                };
                Ok(Held::Known(Tensor { extents, numbers }))
            }
            Held::Filled(extents, value) if to == FLOAT => Ok(Held::Filled(extents, value)),
            Held::Value(x) => match (to, self.is_integers(x)?) {
                (FLOAT, true) => Ok(Held::Value(pointwise(self.scope, [x], |[x]| x)?)),
                (FLOAT, false) | (INT32 | INT64, true) => Ok(Held::Value(x)),
                (BOOL, _) => {
                    let truth = |x: Expr| x.equals(0.0).select(0.0, 1.0);
                    Ok(Held::Value(pointwise(self.scope, [x], |[x]| truth(x))?))
                }
                _ => Err(self.refused("floats", "no cast to integers of what is computed")),
            },
            Held::Filled(..) => Err(self.refused("floats", "no cast of them")),
        }
    }

    /// What is left of known integers, divided by others, with the divisor's sign.
    pub(super) fn modulo(&mut self) -> Result<Held> {
        self.allow(&["fmod"])?;
        self.only("fmod", 0)?;
        let (a, b) = (self.known_ints(0)?, self.known_ints(1)?);
        if ![1, a.len()].contains(&b.len()) || b.contains(&0) {
            let found = format!("{} integers by {b:?}", a.len());
            return Err(self.refused(found, "one divisor, or one for each, and none of them 0"));
        }
        let left = |(&a, &b): (&i64, &i64)| {
            let left = a.wrapping_rem(b);
            if left != 0 && (left < 0) != (b < 0) {
                left + b
            } else {
                left
            }
        };
        let numbers = a.iter().zip(b.iter().cycle()).map(left).collect();
        self.few(self.extents(0)?, Numbers::I64(numbers))
    }

    /// The product of all known integers.
    pub(super) fn product(&mut self) -> Result<Held> {
        self.allow(&["axes", "keepdims", "noop_with_empty_axes"])?;
        let rank = self.extents(0)?.len();
        let mut axes = match self.ints("axes")? {
            Some(axes) => self.axes(&axes, rank)?,
            None => (0..rank).collect(),
        };
        axes.sort_unstable();
        if !axes.into_iter().eq(0..rank) || self.int("noop_with_empty_axes", 0)? != 0 {
            return Err(self.wrong("axes", "all of them"));
        }
        let mut product = self.known_ints(0)?.into_iter();
        let Some(product) = product.try_fold(1i64, i64::checked_mul) else {
            return Err(self.refused("a product beyond 64 bits", "one that is not"));
        };
        let extents = vec![
            1;
            if self.int("keepdims", 1)? != 0 {
                rank
            } else {
                0
            }
        ];
        self.few(extents, Numbers::I64(vec![product]))
    }

    pub(super) fn shape(&mut self) -> Result<Held> {
        self.allow(&["start", "end"])?;
        let extents = self.extents(0)?;
        let rank = extents.len() as i64;
        let bound = |at: i64| (if at < 0 { at + rank } else { at }).clamp(0, rank) as usize;
        let (start, end) = (bound(self.int("start", 0)?), bound(self.int("end", rank)?));
        let part = extents.get(start..end).unwrap_or_default();
        let part: Vec<i64> = part.iter().map(|&extent| extent as i64).collect();
        Ok(Held::Known(Tensor::ints(&part)))
    }

    pub(super) fn expand(&mut self) -> Result<Held> {
        self.allow(&[])?;
        let (own, wanted) = (self.extents(0)?, self.counts(&self.known_ints(1)?)?);
        let rank = own.len().max(wanted.len());
        let raised = |e: &[usize]| [&vec![1; rank - e.len()], e].concat();
        let pairs = raised(&own).into_iter().zip(raised(&wanted));
        let extents: Vec<usize> = pairs.map(|(a, b)| if a == 1 { b } else { a }).collect();
        match self.held(0)? {
            Held::Known(tensor) if tensor.numbers.len() == 1 => {
                let number = match &tensor.numbers {
                    Numbers::F32(number) => number[0],
                    Numbers::I64(number) => {
                        let count = extents.iter().try_fold(1usize, |n, &e| n.checked_mul(e));
                        let count = count.filter(|&count| count <= MOST_KNOWN);
                        let Some(count) = count else {
                            return Err(
                                self.refused(format!("{extents:?} integers"), "at most 4,096")
                            );
                        };
                        let numbers = Numbers::I64(vec![number[0]; count]);
                        return self.few(extents, numbers);
                    }
                };
                Ok(Held::Filled(extents, number))
            }
            Held::Filled(_, value) => Ok(Held::Filled(extents, *value)),
            _ => {
                let x = self.value(0)?;
                let op = Pointwise::new(&[Expr::input(0)]).with_extents(&extents);
                Ok(Held::Value(self.op(op, &[x])?))
            }
        }
    }

    /// The upper or the lower triangle of matrices, zeros beside.
    pub(super) fn trilu(&mut self) -> Result<Value> {
        self.allow(&["upper"])?;
        let upper = self.int("upper", 1)? != 0;
        let k = match self.has(1) {
            false => 0,
            true => match self.known_ints(1)?.as_slice() {
                &[k] => k,
                other => return Err(self.refused(format!("diagonals {other:?}"), "one number")),
            },
        };
        let extents = self.extents(0)?;
        let &[.., m, n] = extents.as_slice() else {
            let found = format!("a value of extents {extents:?}");
            return Err(self.refused(found, "matrices"));
        };
        if m.saturating_mul(n) > MOST_OF_A_TRIANGLE {
            let found = format!("matrices of {m} × {n}");
            return Err(self.refused(found, "at most 2²⁴ elements"));
        }
        let kept = |e: usize| {
            let (row, column) = ((e / n) as i64, (e % n) as i64);
            let beyond = column - row;
            (if upper { beyond >= k } else { beyond <= k }) as u8
        };
        let mask = (0..m * n).map(|e| f32::from(kept(e))).collect();
        let (x, mask) = (self.value(0)?, self.scope.constant(&[m, n], mask)?);
        pointwise(self.scope, [x, mask], |[x, mask]| {
            mask.gt(0.5).select(x, 0.0)
        })
    }
}

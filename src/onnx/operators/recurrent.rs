//! LSTM, GRU and the plain recurrence.

use super::{Call, Held};
use crate::error::Result;
use crate::interchange::{Attribute, Numbers};
use crate::model::Scope;
use crate::ops::add_bias::AddBias;
use crate::ops::concat::cat;
use crate::ops::constant::Constant;
use crate::ops::matmul::Matmul;
use crate::ops::permute::Permute;
use crate::ops::recurrent::{Cell, Recurrent};
use crate::ops::slice::Slice;
use crate::ops::{Tape, Value};

/// `count` places of an axis from one on.
fn part(scope: &mut Scope<'_>, x: Value, axis: usize, start: usize, count: usize) -> Result<Value> {
    let slice = Slice {
        axis,
        start,
        extent: count,
        step: 1,
    };
    scope.op1(std::sync::Arc::new(slice), &[x])
}

impl Call<'_, '_> {
    /// Y `[T, D, N, H]` of D directions and the states Y_h `[D, N, H]` after the sequence.
    pub(super) fn recurrent(&mut self) -> Result<Vec<Option<Held>>> {
        let known = [
            "activations",
            "direction",
            "hidden_size",
            "layout",
            "linear_before_reset",
            "input_forget",
        ];
        self.allow(&known)?;
        self.only("layout", 0)?;
        self.only("input_forget", 0)?;
        let (cell, plain): (Cell, &[&str]) = match self.operator.kind.as_str() {
            "LSTM" => (Cell::Lstm, &["Sigmoid", "Tanh", "Tanh"]),
            "GRU" if self.int("linear_before_reset", 0)? == 0 => {
                return Err(self.wrong("linear_before_reset", "1, as in PyTorch"));
            }
            "GRU" => (Cell::Gru, &["Sigmoid", "Tanh"]),
            _ => (Cell::Plain { relu: false }, &["Tanh"]),
        };
        let directions: &[bool] = match self.text("direction", "forward")? {
            "forward" => &[false],
            "reverse" => &[true],
            "bidirectional" => &[false, true],
            _ => return Err(self.wrong("direction", "forward, reverse or bidirectional")),
        };
        let cell = match self.operator.attributes.get("activations") {
            None => cell,
            Some(Attribute::Texts(names)) if *names == plain.repeat(directions.len()) => cell,
            Some(Attribute::Texts(names))
                if plain.len() == 1
                    && names.len() == directions.len()
                    && names.iter().all(|name| name == "Relu") =>
            {
                Cell::Plain { relu: true }
            }
            Some(_) => return Err(self.wrong("activations", "the default, or Relu of an RNN")),
        };
        for input in 4..self.inputs.len() {
            let zero = match &self.inputs[input] {
                None => true,
                Some(Held::Filled(_, value)) => *value == 0.0 && input > 4,
                Some(Held::Known(tensor)) => match &tensor.numbers {
                    Numbers::F32(numbers) => numbers.iter().all(|&x| x == 0.0),
                    Numbers::I64(_) => false,
                },
                Some(Held::Value(_)) => false,
            };
            if !zero {
                let found = format!("input {input}");
                let wanted = "sequences of equal length and zeros as initial state";
                return Err(self.refused(found, wanted));
            }
        }
        let x = self.value(0)?;
        let (ex, er) = (self.scope.extents(x)?, self.extents(2)?);
        let ([t, n, d], [count, rows, units]) = (ex.as_slice(), er.as_slice()) else {
            let found = format!("x {ex:?}, R {er:?}");
            return Err(self.refused(found, "x as [T, N, D] and R as [directions, gates · H, H]"));
        };
        let (t, n, d, rows, units) = (*t, *n, *d, *rows, *units);
        let hidden = self.int("hidden_size", units as i64)?;
        if *count != directions.len() || rows != cell.gates() * units || hidden != units as i64 {
            let found = format!("R {er:?}, hidden_size {hidden}");
            let wanted = format!("R as [{}, {} · H, H]", directions.len(), cell.gates());
            return Err(self.refused(found, &wanted));
        }
        let swapped = || Permute {
            axes: vec![1, 0, 2],
        };
        let rows_of_x = self.op(swapped(), &[x])?;
        let flat = self.scope.reshape(rows_of_x, &[n * t, d])?;
        let (mut all, mut last) = (Vec::new(), Vec::new());
        for (number, &reverse) in directions.iter().enumerate() {
            let w = self.weight(1, number, &[rows, d], cell)?;
            let r = self.weight(2, number, &[rows, units], cell)?;
            let mut sums = self.op(Matmul::new(false, true), &[flat, w])?;
            let bias = match self.has(3) {
                true => {
                    let both = self.value(3)?;
                    let both = part(self.scope, both, 0, number, 1)?;
                    let both = self.scope.reshape(both, &[2 * rows])?;
                    let bias = part(self.scope, both, 0, 0, rows)?;
                    let bias = self.ordered(bias, cell, units)?;
                    sums = self.op(AddBias, &[sums, bias])?;
                    let bias = part(self.scope, both, 0, rows, rows)?;
                    self.ordered(bias, cell, units)?
                }
                false => {
                    let (extents, value) = (vec![rows], 0.0);
                    self.op(Constant { extents, value }, &[])?
                }
            };
            let sums = self.scope.reshape(sums, &[n, t, rows])?;
            let op = std::sync::Arc::new(Recurrent { cell, reverse });
            let h = self.scope.op(op, &[sums, r, bias])?[0];
            let end = part(self.scope, h, 1, if reverse { 0 } else { t - 1 }, 1)?;
            last.push(self.scope.reshape(end, &[1, n, units])?);
            let h = self.op(swapped(), &[h])?;
            all.push(self.scope.reshape(h, &[t, 1, n, units])?);
        }
        let all = cat(self.scope, &all, 1)?;
        let last = cat(self.scope, &last, 0)?;
        Ok(vec![Some(Held::Value(all)), Some(Held::Value(last)), None])
    }

    /// The weight of a direction with its gates in our order.
    fn weight(
        &mut self,
        input: usize,
        direction: usize,
        extents: &[usize],
        cell: Cell,
    ) -> Result<Value> {
        let all = self.value(input)?;
        let one = part(self.scope, all, 0, direction, 1)?;
        let one = self.scope.reshape(one, extents)?;
        self.ordered(one, cell, extents[0] / cell.gates())
    }

    /// Gates of so many rows each in our order.
    fn ordered(&mut self, weight: Value, cell: Cell, units: usize) -> Result<Value> {
        let (_, order) = cell.onnx();
        if order.len() == 1 {
            return Ok(weight);
        }
        let mut gates = Vec::new();
        for gate in 0..order.len() {
            let place = order.iter().position(|&ours| ours == gate).unwrap_or(gate);
            gates.push(part(self.scope, weight, 0, place * units, units)?);
        }
        cat(self.scope, &gates, 0)
    }
}

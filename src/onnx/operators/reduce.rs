//! Reductions and what runs along an axis.

use super::Call;
use crate::error::Result;
use crate::ops::argmax::Argmax;
use crate::ops::cumsum::Cumsum;
use crate::ops::pointwise::pointwise;
use crate::ops::reduction::{Kind, Reduction};
use crate::ops::{Tape, Value};

impl Call<'_, '_> {
    pub(super) fn reduce(&mut self) -> Result<Value> {
        self.allow(&["axes", "keepdims", "noop_with_empty_axes"])?;
        self.only("noop_with_empty_axes", 0)?;
        let mut x = self.value(0)?;
        let kind = match self.operator.kind.as_str() {
            "ReduceSum" => Kind::Sum,
            "ReduceMean" => Kind::Mean,
            "ReduceMax" => Kind::Max,
            "ReduceMin" => Kind::Min,
            "ReduceL2" => Kind::Norm,
            "ReduceLogSumExp" => Kind::LogSumExp,
            "ReduceSumSquare" => {
                x = pointwise(self.scope, [x], |[x]| x.square())?;
                Kind::Sum
            }
            // ReduceL1: no other is among the operators that are read.
            _ => {
                x = pointwise(self.scope, [x], |[x]| x.abs())?;
                Kind::Sum
            }
        };
        let rank = self.extents(0)?.len();
        let axes = match self.ints_of("axes", 1)? {
            Some(axes) if !axes.is_empty() => self.axes(&axes, rank)?,
            _ => (0..rank).collect(),
        };
        let keep = self.int("keepdims", 1)? != 0;
        Ok(self
            .scope
            .op(std::sync::Arc::new(Reduction { kind, axes, keep }), &[x])?[0])
    }

    pub(super) fn cumsum(&mut self) -> Result<Value> {
        self.allow(&["exclusive", "reverse"])?;
        self.only("exclusive", 0)?;
        let rank = self.extents(0)?.len();
        let axis = match self.known_ints(1)?.as_slice() {
            [axis] => self.axis(*axis, rank)?,
            other => return Err(self.refused(format!("axes {other:?}"), "one axis")),
        };
        let reverse = self.int("reverse", 0)? != 0;
        let x = self.value(0)?;
        self.op(Cumsum { axis, reverse }, &[x])
    }

    pub(super) fn argmax(&mut self) -> Result<Value> {
        self.allow(&["axis", "keepdims", "select_last_index"])?;
        self.only("select_last_index", 0)?;
        let rank = self.extents(0)?.len();
        let axis = self.axis(self.int("axis", 0)?, rank)?;
        if (rank, axis) != (2, 1) || self.int("keepdims", 1)? != 0 {
            let found = format!("axis {axis} of {rank}");
            return Err(self.refused(found, "axis 1 of [N, K], keepdims = 0"));
        }
        let x = self.value(0)?;
        self.op(Argmax, &[x])
    }
}

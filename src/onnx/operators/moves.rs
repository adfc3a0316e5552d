//! Operators that move elements, or say how.

use super::{Call, Held};
use crate::error::Result;
use crate::interchange::{Numbers, Tensor};
use crate::ops::Value;
use crate::ops::concat::cat;
use crate::ops::embedding::Embedding;
use crate::ops::pad::{Edge, Pad, PadEdges};
use crate::ops::permute::Permute;
use crate::ops::slice::Slice;
use crate::ops::split;
use crate::ops::upsample::{Sampling, Upsample};

/// The places along an axis of known numbers.
fn along(tensor: &Tensor, axis: usize, places: &[usize]) -> Tensor {
    let inner: usize = tensor.extents[axis + 1..].iter().product();
    let outer: usize = tensor.extents[..axis].iter().product();
    let whole = tensor.extents[axis];
    let of = |outer: usize| {
        let rows = places
            .iter()
            .map(move |place| (outer * whole + place) * inner);
        rows.flat_map(move |row| row..row + inner)
    };
    let mut extents = tensor.extents.clone();
    extents[axis] = places.len();
    let numbers = picked(
        &tensor.numbers,
        &(0..outer).flat_map(of).collect::<Vec<_>>(),
    );
    Tensor { extents, numbers }
}

/// Known numbers with their axes in another order.
fn transposed(tensor: &Tensor, axes: &[usize]) -> Tensor {
    let own = &tensor.extents;
    let apart = |axis: usize| own[axis + 1..].iter().product::<usize>();
    let extents: Vec<usize> = axes.iter().map(|&axis| own[axis]).collect();
    if tensor.numbers.is_empty() {
        let numbers = tensor.numbers.clone();
        return Tensor { extents, numbers };
    }
    let mut places = vec![0];
    for (&axis, &extent) in axes.iter().zip(&extents) {
        let next = |place: usize| (0..extent).map(move |i| place + i * apart(axis));
        places = places.into_iter().flat_map(next).collect();
    }
    let numbers = picked(&tensor.numbers, &places);
    Tensor { extents, numbers }
}

/// Picks of known numbers, which stay what they are.
fn picked(numbers: &Numbers, places: &[usize]) -> Numbers {
    match numbers {
        Numbers::F32(all) => Numbers::F32(places.iter().map(|&k| all[k]).collect()),
        Numbers::I64(all) => Numbers::I64(places.iter().map(|&k| all[k]).collect()),
    }
}

impl Call<'_, '_> {
    /// An input in other extents, of as many elements.
    fn reshaped(&mut self, extents: &[usize]) -> Result<Held> {
        let held = self.held(0)?.clone();
        let count = |extents: &[usize]| extents.iter().try_fold(1usize, |n, &e| n.checked_mul(e));
        match held {
            Held::Value(x) => Ok(Held::Value(self.scope.reshape(x, extents)?)),
            Held::Known(tensor) if count(extents) == Some(tensor.numbers.len()) => {
                Ok(Held::Known(Tensor {
                    extents: extents.to_vec(),
                    numbers: tensor.numbers,
                }))
            }
            Held::Filled(own, value) if count(extents) == count(&own) => {
                Ok(Held::Filled(extents.to_vec(), value))
            }
            _ => {
                let found = format!("{:?} to {extents:?}", self.extents(0)?);
                Err(self.refused(found, "as many elements after as before"))
            }
        }
    }

    pub(super) fn reshape(&mut self) -> Result<Held> {
        self.allow(&["allowzero"])?;
        self.only("allowzero", 0)?;
        let (own, wanted) = (self.extents(0)?, self.known_ints(1)?);
        let misfit = || {
            let found = format!("{own:?} to {wanted:?}");
            let wanted = "as many elements after as before, for every mini-batch";
            self.refused(found, wanted)
        };
        let mut extents = Vec::new();
        let mut open = None;
        for (axis, &extent) in wanted.iter().enumerate() {
            extents.push(match extent {
                0 => *own.get(axis).ok_or_else(misfit)?,
                -1 if open.is_none() => {
                    open = Some(axis);
                    1
                }
                extent => usize::try_from(extent).map_err(|_| misfit())?,
            });
        }
        let product = |extents: &[usize]| extents.iter().try_fold(1usize, |n, &e| n.checked_mul(e));
        let (all, known) = product(&own).zip(product(&extents)).ok_or_else(misfit)?;
        if let Some(axis) = open {
            extents[axis] = all.checked_div(known).ok_or_else(misfit)?;
        }
        match product(&extents) == Some(all) {
            true => self.reshaped(&extents),
            false => Err(misfit()),
        }
    }

    pub(super) fn flatten(&mut self) -> Result<Value> {
        self.allow(&["axis"])?;
        let extents = self.extents(0)?;
        let axis = self.int("axis", 1)?;
        let axis = match axis == extents.len() as i64 {
            true => extents.len(),
            false => self.axis(axis, extents.len())?,
        };
        let x = self.value(0)?;
        let [before, after] = [&extents[..axis], &extents[axis..]].map(|e| e.iter().product());
        self.scope.reshape(x, &[before, after])
    }

    pub(super) fn squeeze(&mut self) -> Result<Held> {
        self.allow(&["axes"])?;
        let extents = self.extents(0)?;
        let axes = match self.ints_of("axes", 1)? {
            Some(axes) => self.axes(&axes, extents.len())?,
            // The first axis of a value is the mini-batch, which may be of one example.
            None => (usize::from(matches!(self.held(0)?, Held::Value(_)))..extents.len())
                .filter(|&axis| extents[axis] == 1)
                .collect(),
        };
        if let Some(axis) = axes.iter().find(|&&axis| extents[axis] != 1) {
            return Err(self.refused(format!("axis {axis} of {extents:?}"), "axes of extent 1"));
        }
        let left = extents.iter().enumerate();
        let left = left
            .filter(|(axis, _)| !axes.contains(axis))
            .map(|(_, &extent)| extent);
        self.reshaped(&left.collect::<Vec<_>>())
    }

    pub(super) fn unsqueeze(&mut self) -> Result<Held> {
        self.allow(&["axes"])?;
        let extents = self.extents(0)?;
        let axes = self.ints_of("axes", 1)?.unwrap_or_default();
        let rank = extents.len() + axes.len();
        let axes = self.axes(&axes, rank)?;
        let mut own = extents.iter();
        let raised = (0..rank).map(|axis| match axes.contains(&axis) {
            true => 1,
            false => own.next().copied().unwrap_or(1),
        });
        self.reshaped(&raised.collect::<Vec<_>>())
    }

    pub(super) fn transpose(&mut self) -> Result<Held> {
        self.allow(&["perm"])?;
        let rank = self.extents(0)?.len();
        let axes = match self.ints("perm")? {
            Some(axes) => self.axes(&axes, rank)?,
            None => (0..rank).rev().collect(),
        };
        if let Held::Known(tensor) = self.held(0)? {
            let mut sorted = axes.clone();
            sorted.sort_unstable();
            if !sorted.into_iter().eq(0..rank) {
                return Err(self.wrong("perm", "each axis once"));
            }
            return Ok(Held::Known(transposed(tensor, &axes)));
        }
        let x = self.value(0)?;
        Ok(Held::Value(self.op(Permute { axes }, &[x])?))
    }

    pub(super) fn concat(&mut self) -> Result<Held> {
        self.allow(&["axis"])?;
        let rank = self.extents(0)?.len();
        let axis = self.axis(self.int("axis", 0)?, rank)?;
        let mut known = Vec::new();
        for input in 0..self.inputs.len() {
            match self.held(input)? {
                Held::Known(Tensor {
                    numbers: Numbers::I64(numbers),
                    ..
                }) if rank == 1 => known.extend_from_slice(numbers),
                Held::Value(_) | Held::Known(_) | Held::Filled(..) if known.is_empty() => {
                    let values = (0..self.inputs.len()).map(|input| self.value(input));
                    let values = values.collect::<Result<Vec<_>>>()?;
                    return Ok(Held::Value(cat(self.scope, &values, axis)?));
                }
                _ => return Err(self.refused("integers and floats", "one type of elements")),
            }
        }
        self.few(vec![known.len()], Numbers::I64(known))
    }

    pub(super) fn split(&mut self) -> Result<Vec<Option<Held>>> {
        self.allow(&["axis", "split"])?;
        let extents = self.extents(0)?;
        let axis = self.axis(self.int("axis", 0)?, extents.len())?;
        let parts = self.operator.outputs.len();
        let sizes = match self.ints_of("split", 1)? {
            Some(sizes) => self.counts(&sizes)?,
            None if extents[axis].is_multiple_of(parts) => vec![extents[axis] / parts; parts],
            None => {
                let found = format!("{parts} parts of {}", extents[axis]);
                return Err(self.refused(found, "equal parts, or their sizes"));
            }
        };
        if sizes.len() != parts {
            let found = format!("{} sizes of {parts} outputs", sizes.len());
            return Err(self.refused(found, "one of each"));
        }
        let x = self.value(0)?;
        let values = split(self.scope, x, &sizes, axis)?;
        Ok(values
            .into_iter()
            .map(|value| Some(Held::Value(value)))
            .collect())
    }

    pub(super) fn slice(&mut self) -> Result<Held> {
        self.allow(&[])?;
        let extents = self.extents(0)?;
        let (starts, ends) = (self.known_ints(1)?, self.known_ints(2)?);
        let axes = match self.has(3) {
            true => self.axes(&self.known_ints(3)?, extents.len())?,
            false => (0..starts.len()).collect(),
        };
        let steps = match self.has(4) {
            true => self.known_ints(4)?,
            false => vec![1; starts.len()],
        };
        let counts = [ends.len(), axes.len(), steps.len()];
        let wrong = |(k, axis): (usize, &usize)| {
            *axis >= extents.len() || extents[*axis] == 0 || axes[..k].contains(axis)
        };
        if counts != [starts.len(); 3] || axes.iter().enumerate().any(wrong) {
            let found = format!("{} starts, {counts:?} ends, axes and steps", starts.len());
            return Err(self.refused(
                found,
                "a start, an end and a step for each of some axes, none of them twice and none empty",
            ));
        }
        let mut held = self.held(0)?.clone();
        for (k, &axis) in axes.iter().enumerate() {
            let whole = extents[axis] as i64;
            let counted = |at: i64| if at < 0 { at.saturating_add(whole) } else { at };
            let (start, end, step) = (counted(starts[k]), counted(ends[k]), steps[k]);
            // Backward a part begins at its last place and may end before the first one.
            let known = matches!(held, Held::Known(_));
            let (start, end) = match step < 0 {
                true => (start.clamp(0, whole - 1), end.clamp(-1, whole - 1)),
                false => (start.clamp(0, whole), end.clamp(0, whole)),
            };
            let far = (end - start).saturating_mul(step.signum());
            if step == 0 || !known && (step < 0 || far <= 0) {
                let found = format!("{start} to {end} by {step} of {whole}");
                return Err(self.refused(found, "a part that is not empty, forward"));
            }
            // Of extents that are known nothing may be left.
            let step_over = step.saturating_abs();
            let count = far.max(0) / step_over + i64::from(far.max(0) % step_over > 0);
            let places = (0..count).map(|i| (start + i * step) as usize);
            held = match held {
                Held::Known(mut tensor) if tensor.numbers.is_empty() => {
                    tensor.extents[axis] = count as usize;
                    Held::Known(tensor)
                }
                Held::Known(tensor) => {
                    let places: Vec<usize> = places.collect();
                    Held::Known(along(&tensor, axis, &places))
                }
                Held::Filled(mut extents, value) => {
                    extents[axis] = count as usize;
                    Held::Filled(extents, value)
                }
                held => {
                    self.inputs[0] = Some(held);
                    let x = self.value(0)?;
                    let slice = Slice {
                        axis,
                        start: start as usize,
                        extent: count as usize,
                        step: step as usize,
                    };
                    match count == whole {
                        true => Held::Value(x),
                        false => Held::Value(self.op(slice, &[x])?),
                    }
                }
            };
        }
        Ok(held)
    }

    pub(super) fn pad(&mut self) -> Result<Value> {
        self.allow(&["mode"])?;
        let rank = self.extents(0)?.len();
        let pads = self.counts(&self.known_ints(1)?)?;
        let edge = match self.text("mode", "constant")? {
            "constant" => None,
            "reflect" => Some(Edge::Reflect),
            "edge" => Some(Edge::Replicate),
            _ => return Err(self.wrong("mode", "constant, reflect or edge")),
        };
        let zero = match self.inputs.get(2).and_then(Option::as_ref) {
            None => true,
            Some(Held::Known(tensor)) => tensor.numbers == Numbers::F32(vec![0.0]),
            Some(_) => false,
        };
        if pads.len() != 2 * rank || self.has(3) || edge.is_none() && !zero {
            let found = format!("pads {pads:?} of {rank} axes");
            return Err(self.refused(found, "zeros or edges before and behind all axes"));
        }
        let mut y = self.value(0)?;
        for axis in 0..rank {
            let (before, after) = (pads[axis], pads[rank + axis]);
            let part = self.scope.extents(y)?[axis];
            y = match edge {
                _ if (before, after) == (0, 0) => y,
                None => {
                    let extent = part.saturating_add(before).saturating_add(after);
                    let (start, step) = (before, 1);
                    self.op(
                        Pad {
                            axis,
                            start,
                            extent,
                            step,
                        },
                        &[y],
                    )?
                }
                Some(edge) => self.op(
                    PadEdges {
                        axis,
                        before,
                        after,
                        edge,
                    },
                    &[y],
                )?,
            };
        }
        Ok(y)
    }

    pub(super) fn gather(&mut self) -> Result<Held> {
        self.allow(&["axis"])?;
        let extents = self.extents(0)?;
        let axis = self.axis(self.int("axis", 0)?, extents.len())?;
        let index = match self.held(1)? {
            Held::Value(index) => {
                let index = *index;
                let table = self.value(0)?;
                if (axis, extents.len()) != (0, 2) {
                    let found = format!("axis {axis} of {extents:?}");
                    return Err(self.refused(found, "rows of a table [V, D]"));
                }
                return Ok(Held::Value(self.op(Embedding, &[table, index])?));
            }
            Held::Known(tensor) => tensor.clone(),
            Held::Filled(..) => return Err(self.refused("floats", "integers")),
        };
        let Numbers::I64(numbers) = &index.numbers else {
            return Err(self.refused("floats", "integers"));
        };
        let mut places = Vec::new();
        for &number in numbers {
            places.push(self.axis(number, extents[axis])?);
        }
        if let (Held::Known(tensor), 1) = (self.held(0)?, extents.len()) {
            let numbers = picked(&tensor.numbers, &places);
            return self.few(index.extents, numbers);
        }
        let x = self.value(0)?;
        let mut parts = Vec::new();
        for start in places {
            let slice = Slice {
                axis,
                start,
                extent: 1,
                step: 1,
            };
            parts.push(self.op(slice, &[x])?);
        }
        let all = cat(self.scope, &parts, axis)?;
        let made = [&extents[..axis], &index.extents, &extents[axis + 1..]].concat();
        let made = if made.is_empty() { vec![1] } else { made };
        Ok(Held::Value(self.scope.reshape(all, &made)?))
    }

    pub(super) fn resize(&mut self) -> Result<Value> {
        let known = [
            "coordinate_transformation_mode",
            "cubic_coeff_a",
            "mode",
            "nearest_mode",
        ];
        self.allow(&known)?;
        let extents = self.extents(0)?;
        let [_, _, h, w] = extents.as_slice() else {
            return Err(self.refused(format!("x {extents:?}"), "x as [N, C, H, W]"));
        };
        let empty = |held: &Held| matches!(held, Held::Known(tensor) if tensor.numbers.is_empty());
        let scales = self.has(2) && !empty(self.held(2)?);
        let size = match (scales, self.has(3)) {
            (true, _) => {
                let Held::Known(Tensor {
                    numbers: Numbers::F32(scales),
                    ..
                }) = self.held(2)?
                else {
                    return Err(self.refused("scales that are computed", "known ones"));
                };
                let scaled = |(scale, &extent): (&f32, &usize)| f64::from(*scale) * extent as f64;
                let sizes: Vec<f64> = scales.iter().zip(&extents).map(scaled).collect();
                let whole = sizes.iter().all(|size| size.fract() == 0.0 && *size >= 1.0);
                if scales.len() != 4 || scales[..2] != [1.0, 1.0] || !whole {
                    let found = format!("scales {scales:?} of {extents:?}");
                    let wanted = "scales of height and width that give whole sizes";
                    return Err(self.refused(found, wanted));
                }
                [sizes[2] as usize, sizes[3] as usize]
            }
            (false, true) => match self.counts(&self.known_ints(3)?)?.as_slice() {
                [n, c, h, w] if [*n, *c] == extents[..2] => [*h, *w],
                other => {
                    let found = format!("sizes {other:?} of {extents:?}");
                    return Err(self.refused(found, "sizes [N, C, H, W]"));
                }
            },
            (false, false) => return Err(self.refused("neither scales nor sizes", "one of them")),
        };
        let whole = size[0].is_multiple_of(*h) && size[1].is_multiple_of(*w);
        let modes = [
            self.text("mode", "nearest")?,
            self.text("coordinate_transformation_mode", "half_pixel")?,
            self.text("nearest_mode", "round_prefer_floor")?,
        ];
        let sampling = match modes {
            ["nearest", "asymmetric", "floor"] => Sampling::Nearest,
            // A multiple's places are never half way between two pixels.
            [
                "nearest",
                "half_pixel",
                "round_prefer_floor" | "round_prefer_ceil",
            ] if whole => Sampling::Nearest,
            ["linear", "half_pixel", _] if size != [1, 1] => Sampling::Bilinear,
            // An axis that becomes one pixel has the first one, not the middle.
            ["linear", "pytorch_half_pixel", _]
                if !(size[0] == 1 && *h > 1 || size[1] == 1 && *w > 1) =>
            {
                Sampling::Bilinear
            }
            _ => {
                let found = format!("{modes:?}");
                let wanted = "nearest by asymmetric places and floor, or linear by half_pixel";
                return Err(self.refused(found, wanted));
            }
        };
        let x = self.value(0)?;
        self.op(Upsample { sampling, size }, &[x])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers 0, 1, … of these extents.
    fn counted(extents: &[usize]) -> Tensor {
        let count = extents.iter().product::<usize>() as i64;
        Tensor {
            extents: extents.to_vec(),
            numbers: Numbers::I64((0..count).collect()),
        }
    }

    fn known(extents: &[usize], numbers: &[i64]) -> Tensor {
        Tensor {
            extents: extents.to_vec(),
            numbers: Numbers::I64(numbers.to_vec()),
        }
    }

    #[test]
    fn known_numbers_are_turned_and_picked_as_arrays_are() {
        let turned = transposed(&counted(&[2, 3]), &[1, 0]);
        assert_eq!(turned, known(&[3, 2], &[0, 3, 1, 4, 2, 5]));
        let turned = transposed(&counted(&[2, 1, 3]), &[2, 0, 1]);
        assert_eq!(turned, known(&[3, 2, 1], &[0, 3, 1, 4, 2, 5]));
        let picked = along(&counted(&[2, 3]), 1, &[2, 0]);
        assert_eq!(picked, known(&[2, 2], &[2, 0, 5, 3]));
        let picked = along(&counted(&[3, 2]), 0, &[2, 1, 0]);
        assert_eq!(picked, known(&[3, 2], &[4, 5, 2, 3, 0, 1]));
        // Of no numbers, whatever the extents.
        let none = transposed(&known(&[1 << 40, 0], &[]), &[1, 0]);
        assert_eq!(none, known(&[0, 1 << 40], &[]));
    }
}

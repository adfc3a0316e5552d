//! Products, convolutions, normalizations; windows, which pools have too.

use super::Call;
use crate::error::Result;
use crate::ops::add_bias::AddBias;
use crate::ops::bmm::Bmm;
use crate::ops::constant::Constant;
use crate::ops::conv_transpose2d::ConvTranspose2d;
use crate::ops::conv2d::Conv2d;
use crate::ops::log_softmax::LogSoftmax;
use crate::ops::lrn::Lrn;
use crate::ops::matmul::Matmul;
use crate::ops::norm::{Norm, NormGiven, Over};
use crate::ops::pad::Pad;
use crate::ops::pointwise::pointwise;
use crate::ops::softmax::Softmax;
use crate::ops::{Conv1d, ConvTranspose1d, Value, Window, conv_transpose1d, conv1d};

/// What `auto_pad` may be; of a transposed convolution the first two.
const PADDINGS: [&str; 4] = ["NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER"];

impl Call<'_, '_> {
    pub(super) fn gemm(&mut self) -> Result<Value> {
        self.allow(&["alpha", "beta", "transA", "transB"])?;
        let (alpha, beta) = (self.float("alpha", 1.0)?, self.float("beta", 1.0)?);
        let trans = [self.int("transA", 0)? != 0, self.int("transB", 0)? != 0];
        let (a, b) = (self.value(0)?, self.value(1)?);
        let y = self.op(Matmul::new(trans[0], trans[1]), &[a, b])?;
        if !self.has(2) {
            return match alpha == 1.0 {
                true => Ok(y),
                false => pointwise(self.scope, [y], |[y]| y * alpha),
            };
        }
        let c = self.value(2)?;
        let plain = self.extents(2)? == self.scope.extents(y)?[1..] && [alpha, beta] == [1.0, 1.0];
        match plain {
            true => self.op(AddBias, &[y, c]),
            false => pointwise(self.scope, [y, c], |[y, c]| y * alpha + c * beta),
        }
    }

    pub(super) fn matmul(&mut self) -> Result<Value> {
        self.allow(&[])?;
        let (mut a, mut b) = (self.value(0)?, self.value(1)?);
        let (ea, eb) = (self.scope.extents(a)?, self.scope.extents(b)?);
        if ea.len() < 2 || eb.len() < 2 {
            return Err(self.refused(format!("{ea:?} and {eb:?}"), "two axes or more of both"));
        }
        if eb.len() == 2 {
            // All rows of A at once.
            let (rows, k) = (ea[..ea.len() - 1].iter().product(), ea[ea.len() - 1]);
            a = self.scope.reshape(a, &[rows, k])?;
            let y = self.op(Matmul::new(false, false), &[a, b])?;
            return self
                .scope
                .reshape(y, &[&ea[..ea.len() - 1], &eb[1..]].concat());
        }
        let rank = ea.len().max(eb.len());
        let raised = |e: &[usize]| [&vec![1; rank - e.len()], e].concat();
        a = self.scope.reshape(a, &raised(&ea))?;
        b = self.scope.reshape(b, &raised(&eb))?;
        let product = Bmm {
            trans_a: false,
            trans_b: false,
        };
        self.op(product, &[a, b])
    }

    /// Whether x is rows `[N, C, L]`, and no images `[N, C, H, W]`. What does not fit is told of as what it is.
    pub(super) fn is_of_rows(&mut self) -> Result<bool> {
        match *self.extents(0)?.as_slice() {
            [_, _, _, _] => Ok(false),
            [_, _, _] => Ok(true),
            ref other => {
                let found = format!("x {other:?}");
                Err(self.refused(found, "x as [N, C, H, W] or [N, C, L]"))
            }
        }
    }

    /// The weight of windows over images or rows, and the windows' sizes.
    fn filters(&mut self, rows: bool) -> Result<(Value, [usize; 2])> {
        let w = self.value(1)?;
        match (rows, self.scope.extents(w)?.as_slice()) {
            (false, &[_, _, h, v]) => Ok((w, [h, v])),
            (true, &[_, _, l]) => Ok((w, [1, l])),
            (_, other) => {
                let wanted = ["four axes, as x has", "three axes, as x has"];
                let found = format!("weight {other:?}");
                Err(self.refused(found, &format!("a weight of {}", wanted[usize::from(rows)])))
            }
        }
    }

    /// An attribute's number for height and width, those of a row being 1 or `flat` high.
    pub(super) fn both(
        &self,
        name: &str,
        default: usize,
        flat: usize,
        rows: bool,
    ) -> Result<[usize; 2]> {
        let wanted = ["two numbers of 0 or more", "one number of 0 or more"];
        let wrong = || self.wrong(name, wanted[usize::from(rows)]);
        let Some(found) = self.ints(name)? else {
            return Ok(if rows { [flat, default] } else { [default; 2] });
        };
        let counts = found.iter().map(|&x| usize::try_from(x));
        let counts: Vec<usize> = counts.collect::<Result<_, _>>().map_err(|_| wrong())?;
        match (rows, counts.as_slice()) {
            (false, &[h, w]) => Ok([h, w]),
            (true, &[l]) => Ok([flat, l]),
            _ => Err(wrong()),
        }
    }

    /// The window of an operator over images or rows; its padding where that is the same before and behind, else
    /// none and what stands before and behind, `[top, left, bottom, right]`.
    pub(super) fn window(
        &mut self,
        kernel: [usize; 2],
        rows: bool,
    ) -> Result<(Window, Option<[usize; 4]>)> {
        let auto = self.text("auto_pad", "NOTSET")?;
        if !PADDINGS.contains(&auto) {
            let wanted = "NOTSET, with `pads`, VALID, SAME_UPPER or SAME_LOWER";
            return Err(self.wrong("auto_pad", wanted));
        }
        let lower = match auto {
            "SAME_UPPER" => Some(false),
            "SAME_LOWER" => Some(true),
            _ => None,
        };
        let valid = auto == "VALID";
        if self.ints("kernel_shape")?.is_some() && self.both("kernel_shape", 1, 1, rows)? != kernel
        {
            let own = &kernel[usize::from(rows)..];
            return Err(self.wrong("kernel_shape", &format!("{own:?}, the weight's")));
        }
        let wanted = if rows {
            "2 numbers of 0 or more"
        } else {
            "4 numbers of 0 or more"
        };
        let pads = self.ints("pads")?.filter(|_| !valid).unwrap_or_default();
        let pads = pads.iter().map(|&x| usize::try_from(x));
        let pads: Result<Vec<usize>, _> = pads.collect();
        let pads = match (rows, pads.as_deref()) {
            (_, Ok([])) => [0; 4],
            (false, Ok(&[top, left, bottom, right])) => [top, left, bottom, right],
            (true, Ok(&[before, behind])) => [0, before, 0, behind],
            _ => return Err(self.wrong("pads", wanted)),
        };
        let stride = self.both("strides", 1, 1, rows)?;
        let dilation = self.both("dilations", 1, 1, rows)?;
        let pads = match lower {
            None => pads,
            Some(lower) => self.same(lower, kernel, stride, dilation, rows)?,
        };
        let even = pads[..2] == pads[2..];
        let window = Window {
            kernel,
            stride,
            padding: if even { [pads[0], pads[1]] } else { [0, 0] },
            dilation,
        };
        Ok((window, (!even).then_some(pads)))
    }

    /// Height and width of x; of rows 1 and their length.
    pub(super) fn images(&self, rows: bool) -> Result<[usize; 2]> {
        match self.extents(0)?.as_slice() {
            &[_, _, h, w] if !rows => Ok([h, w]),
            &[_, _, l] if rows => Ok([1, l]),
            other => Err(self.refused(format!("x {other:?}"), "images or rows")),
        }
    }

    /// The padding under which a window of stride s makes ⌈extent / s⌉ places of an extent: as much before as behind or,
    /// where that is uneven, one more behind; before, if `lower`.
    fn same(
        &self,
        lower: bool,
        kernel: [usize; 2],
        stride: [usize; 2],
        dilation: [usize; 2],
        rows: bool,
    ) -> Result<[usize; 4]> {
        let images = self.images(rows)?;
        let mut pads = [0; 4];
        for axis in 0..2 {
            let (step, reach) = (stride[axis].max(1), kernel[axis].saturating_sub(1));
            let reach = reach.saturating_mul(dilation[axis]).saturating_add(1);
            let places = images[axis].div_ceil(step).max(1);
            let covered = (places - 1).saturating_mul(step).saturating_add(reach);
            let all = covered.saturating_sub(images[axis]);
            let before = if lower { all.div_ceil(2) } else { all / 2 };
            (pads[axis], pads[axis + 2]) = (before, all - before);
        }
        Ok(pads)
    }

    /// Zeros around images, or at the ends of rows.
    pub(super) fn padded(
        &mut self,
        x: Value,
        [top, left, bottom, right]: [usize; 4],
    ) -> Result<Value> {
        let mut padded = x;
        let last = self.scope.extents(x)?.len() - 1;
        for (axis, start, after) in [(last - 1, top, bottom), (last, left, right)] {
            if start == 0 && after == 0 {
                continue;
            }
            let part = self.scope.extents(padded)?[axis];
            let extent = part.saturating_add(start).saturating_add(after);
            let pad = Pad {
                axis,
                start,
                extent,
                step: 1,
            };
            padded = self.op(pad, &[padded])?;
        }
        Ok(padded)
    }

    fn groups(&self) -> Result<usize> {
        let groups = usize::try_from(self.int("group", 1)?);
        groups.map_err(|_| self.wrong("group", "1 or more"))
    }

    fn bias(&mut self) -> Result<Option<Value>> {
        self.has(2).then(|| self.value(2)).transpose()
    }

    fn biased(&mut self, y: Value) -> Result<Value> {
        match self.bias()? {
            Some(bias) => self.op(AddBias, &[y, bias]),
            None => Ok(y),
        }
    }

    pub(super) fn conv(&mut self) -> Result<Value> {
        self.allow(&[
            "auto_pad",
            "dilations",
            "group",
            "kernel_shape",
            "pads",
            "strides",
        ])?;
        let (rows, mut x) = (self.is_of_rows()?, self.value(0)?);
        let (w, kernel) = self.filters(rows)?;
        let (window, uneven) = self.window(kernel, rows)?;
        if let Some(pads) = uneven {
            x = self.padded(x, pads)?;
        }
        if rows {
            let settings = Conv1d {
                stride: window.stride[1],
                padding: window.padding[1],
                dilation: window.dilation[1],
                groups: self.groups()?,
            };
            let bias = self.bias()?;
            return conv1d(self.scope, x, w, bias, settings);
        }
        let conv = Conv2d {
            stride: window.stride,
            padding: window.padding,
            dilation: window.dilation,
            groups: self.groups()?,
        };
        let y = self.op(conv, &[x, w])?;
        self.biased(y)
    }

    pub(super) fn conv_transpose(&mut self) -> Result<Value> {
        let known = [
            "auto_pad",
            "dilations",
            "group",
            "kernel_shape",
            "output_padding",
            "pads",
            "strides",
        ];
        self.allow(&known)?;
        let (rows, x) = (self.is_of_rows()?, self.value(0)?);
        let (w, kernel) = self.filters(rows)?;
        if !PADDINGS[..2].contains(&self.text("auto_pad", "NOTSET")?) {
            // Of a transposed convolution SAME says how large the result is.
            return Err(self.wrong("auto_pad", "NOTSET, with `pads`, or VALID"));
        }
        let (window, uneven) = self.window(kernel, rows)?;
        if uneven.is_some() {
            return Err(self.wrong("pads", "the same before and behind"));
        }
        let output_padding = self.both("output_padding", 0, 0, rows)?;
        if rows {
            let settings = ConvTranspose1d {
                stride: window.stride[1],
                padding: window.padding[1],
                output_padding: output_padding[1],
                groups: self.groups()?,
                dilation: window.dilation[1],
            };
            let bias = self.bias()?;
            return conv_transpose1d(self.scope, x, w, bias, settings);
        }
        let transpose = ConvTranspose2d {
            stride: window.stride,
            padding: window.padding,
            output_padding,
            dilation: window.dilation,
            groups: self.groups()?,
        };
        let y = self.op(transpose, &[x, w])?;
        self.biased(y)
    }

    pub(super) fn batch_norm(&mut self) -> Result<Value> {
        self.allow(&["epsilon", "momentum", "training_mode"])?;
        self.only("training_mode", 0)?;
        let norm = Norm {
            over: Over::Batch,
            epsilon: self.float("epsilon", 1e-5)?,
        };
        let mut inputs = Vec::new();
        for k in 0..5 {
            inputs.push(self.value(k)?);
        }
        self.op(NormGiven(norm), &inputs)
    }

    pub(super) fn layer_norm(&mut self) -> Result<Value> {
        self.allow(&["axis", "epsilon", "stash_type"])?;
        let rank = self.extents(0)?.len();
        let axis = self.axis(self.int("axis", -1)?, rank)?;
        let norm = Norm {
            over: Over::Layer(rank - axis),
            epsilon: self.float("epsilon", 1e-5)?,
        };
        let (x, gamma) = (self.value(0)?, self.value(1)?);
        let beta = match self.has(2) {
            true => self.value(2)?,
            false => {
                let (extents, value) = (self.extents(1)?, 0.0);
                self.op(Constant { extents, value }, &[])?
            }
        };
        self.op(norm, &[x, gamma, beta])
    }

    pub(super) fn instance_norm(&mut self) -> Result<Value> {
        self.allow(&["epsilon"])?;
        let norm = Norm {
            over: Over::Instance,
            epsilon: self.float("epsilon", 1e-5)?,
        };
        let inputs = [self.value(0)?, self.value(1)?, self.value(2)?];
        self.op(norm, &inputs)
    }

    pub(super) fn lrn(&mut self) -> Result<Value> {
        self.allow(&["alpha", "beta", "bias", "size"])?;
        let size = usize::try_from(self.int("size", 0)?).unwrap_or(0);
        if size.is_multiple_of(2) {
            return Err(self.wrong("size", "an odd number of channels"));
        }
        let lrn = Lrn {
            size,
            alpha: self.float("alpha", 1e-4)?,
            beta: self.float("beta", 0.75)?,
            k: self.float("bias", 1.0)?,
        };
        let x = self.value(0)?;
        self.op(lrn, &[x])
    }

    pub(super) fn softmax(&mut self) -> Result<Value> {
        self.allow(&["axis"])?;
        let rank = self.extents(0)?.len();
        let axis = self.axis(self.int("axis", -1)?, rank)?;
        let x = self.value(0)?;
        match self.operator.kind.as_str() {
            "Softmax" => self.op(Softmax { axis }, &[x]),
            _ => self.op(LogSoftmax { axis }, &[x]),
        }
    }
}

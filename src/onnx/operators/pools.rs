//! Pools of images and rows, of every padding and rounding that ONNX has.

use super::Call;
use crate::error::Result;
use crate::ops::adaptive_avg_pool2d::AdaptiveAvgPool2d;
use crate::ops::adaptive_max_pool2d::AdaptiveMaxPool2d;
use crate::ops::avg_pool2d::AvgPool2d;
use crate::ops::max_pool2d::MaxPool2d;
use crate::ops::pad::{Edge, PadEdges};
use crate::ops::pointwise::pointwise;
use crate::ops::{
    Pool1d, Value, Window, adaptive_avg_pool1d, adaptive_max_pool1d, avg_pool1d, max_pool1d,
};

/// A window over rows as pools of rows have it.
fn of_rows(window: &Window) -> Pool1d {
    Pool1d {
        kernel_size: window.kernel[1],
        stride: Some(window.stride[1]),
        padding: window.padding[1],
    }
}

/// What a pool goes over.
struct Pool {
    /// With padding as it is where that is even.
    window: Window,
    /// Height and width of x.
    images: [usize; 2],
    /// What is around it: top, left, bottom, right.
    pads: [usize; 4],
    /// How far the last windows reach beyond that (`ceil_mode`).
    beyond: [usize; 2],
    /// How many windows there are.
    places: [usize; 2],
}

impl Pool {
    /// Whether the window's own padding says all.
    fn is_even(&self) -> bool {
        self.beyond == [0; 2] && self.pads[..2] == self.pads[2..]
    }

    /// What stands before and behind x along an axis, so that every window has as many elements.
    fn around(&self, axis: usize) -> (usize, usize) {
        (self.pads[axis], self.pads[axis + 2] + self.beyond[axis])
    }

    /// What the mean over each whole window is multiplied by, `[H, W]`: it has elements that do not count, those beyond the
    /// padding, and those in it unless they do.
    fn factors(&self, padding_counts: bool) -> Vec<f32> {
        let counted = |axis: usize, place: usize| {
            let (before, behind) = (self.pads[axis], self.pads[axis + 2]);
            let all = before + self.images[axis] + behind;
            let [from, to] = match padding_counts {
                true => [0, all],
                false => [before, before + self.images[axis]],
            };
            let first = place * self.window.stride[axis];
            let last = (first + self.window.kernel[axis]).min(to);
            last - first.max(from)
        };
        let size = self.window.kernel[0] * self.window.kernel[1];
        let [rows, columns] = self.places.map(|places| 0..places);
        let factor = |h, w| size as f32 / (counted(0, h) * counted(1, w)) as f32;
        rows.flat_map(|h| columns.clone().map(move |w| (h, w)))
            .map(|(h, w)| factor(h, w))
            .collect()
    }
}

impl Call<'_, '_> {
    /// What a pool goes over, which says its window's size itself.
    fn pool(&mut self, rows: bool) -> Result<Pool> {
        if self.ints("kernel_shape")?.is_none() {
            return Err(self.wrong("kernel_shape", "the window's size"));
        }
        let kernel = self.both("kernel_shape", 1, 1, rows)?;
        let ceil = self.int("ceil_mode", 0)? != 0;
        let (window, uneven) = self.window(kernel, rows)?;
        if window.dilation != [1, 1] {
            return Err(self.wrong("dilations", "1"));
        }
        let [down, right] = window.padding;
        let pads = uneven.unwrap_or([down, right, down, right]);
        let images = self.images(rows)?;
        let mut pool = Pool {
            window,
            images,
            pads,
            beyond: [0; 2],
            places: [0; 2],
        };
        for axis in 0..2 {
            let (k, step) = (kernel[axis], pool.window.stride[axis].max(1));
            let (before, behind) = (pads[axis], pads[axis + 2]);
            let all = (images[axis].saturating_add(before)).saturating_add(behind);
            let room = all.checked_sub(k).filter(|_| before.max(behind) < k);
            let Some(room) = room else {
                if pool.is_even() {
                    // The pool itself says what does not fit.
                    return Ok(pool);
                }
                let found = format!(
                    "{before} before and {behind} behind {} places",
                    images[axis]
                );
                let wanted = format!("less padding than a window of {k} has, which fits");
                return Err(self.refused(found, &wanted));
            };
            let mut places = 1 + if ceil {
                room.div_ceil(step)
            } else {
                room / step
            };
            // None that begins in the padding behind (PyTorch's rule, and ONNX's since opset 22).
            if ceil && (places - 1) * step >= images[axis] + before {
                places -= 1;
            }
            pool.places[axis] = places;
            pool.beyond[axis] = ((places - 1) * step + k).saturating_sub(all);
        }
        Ok(pool)
    }

    pub(super) fn max_pool(&mut self) -> Result<Value> {
        let known = [
            "auto_pad",
            "ceil_mode",
            "dilations",
            "kernel_shape",
            "pads",
            "storage_order",
            "strides",
        ];
        self.allow(&known)?;
        self.only("storage_order", 0)?;
        let (rows, mut x) = (self.is_of_rows()?, self.value(0)?);
        let mut pool = self.pool(rows)?;
        if !pool.is_even() {
            // What repeats an edge is in no window without it, so no maximum is another one.
            let last = self.scope.extents(x)?.len() - 1;
            for (axis, of) in [(0, last - 1), (1, last)] {
                let (before, after) = pool.around(axis);
                if before + after > 0 {
                    let pad = PadEdges {
                        axis: of,
                        before,
                        after,
                        edge: Edge::Replicate,
                    };
                    x = self.op(pad, &[x])?;
                }
            }
            pool.window.padding = [0; 2];
        }
        let window = pool.window;
        if rows {
            return max_pool1d(self.scope, x, of_rows(&window));
        }
        let pool = MaxPool2d {
            kernel: window.kernel,
            stride: window.stride,
            padding: window.padding,
        };
        self.op(pool, &[x])
    }

    pub(super) fn average_pool(&mut self) -> Result<Value> {
        let known = [
            "auto_pad",
            "ceil_mode",
            "count_include_pad",
            "kernel_shape",
            "pads",
            "strides",
        ];
        self.allow(&known)?;
        let (rows, mut x) = (self.is_of_rows()?, self.value(0)?);
        let mut pool = self.pool(rows)?;
        let factors = pool.factors(self.int("count_include_pad", 0)? != 0);
        if !pool.is_even() {
            let [(top, bottom), (left, right)] = [pool.around(0), pool.around(1)];
            x = self.padded(x, [top, left, bottom, right])?;
            pool.window.padding = [0; 2];
        }
        let window = pool.window;
        let y = if rows {
            avg_pool1d(self.scope, x, of_rows(&window))?
        } else {
            let pool = AvgPool2d {
                kernel: window.kernel,
                stride: window.stride,
                padding: window.padding,
            };
            self.op(pool, &[x])?
        };
        if factors.iter().all(|&factor| factor == 1.0) {
            return Ok(y);
        }
        let places = &pool.places[usize::from(rows)..];
        let factors = self.scope.constant(places, factors)?;
        pointwise(self.scope, [y, factors], |[y, factor]| y * factor)
    }

    pub(super) fn global_pool(&mut self, mean: bool) -> Result<Value> {
        self.allow(&[])?;
        let (rows, x, size) = (self.is_of_rows()?, self.value(0)?, [1, 1]);
        match (rows, mean) {
            (false, true) => self.op(AdaptiveAvgPool2d { size }, &[x]),
            (false, false) => self.op(AdaptiveMaxPool2d { size }, &[x]),
            (true, true) => adaptive_avg_pool1d(self.scope, x, 1),
            (true, false) => adaptive_max_pool1d(self.scope, x, 1),
        }
    }
}

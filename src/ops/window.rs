//! A window that moves over images: what convolution and pooling have in common.
//!
//! Along each axis, with padding p, dilation d, stride s and window k, the output has
//! ⌊(in + 2 p − d (k − 1) − 1) / s⌋ + 1 places (Dumoulin and Visin 2016, relationship 15).

use crate::error::{Error, Result};
use crate::interchange::Attribute;
use crate::kernel::Args;
use crate::tensor::Real;

/// A window, `[height, width]` each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Window {
    /// Taps.
    pub kernel: [usize; 2],
    /// Step from one output to the next.
    pub stride: [usize; 2],
    /// Padding around the image.
    pub padding: [usize; 2],
    /// Distance between taps.
    pub dilation: [usize; 2],
}

/// Larger settings than this are a mistake, and keep index arithmetic within 32 bits.
pub(super) const MOST: usize = 1 << 15;

impl Window {
    /// The window that makes images of size `to` of those of size `from` without overlap, if there is one.
    pub(super) fn even(from: [usize; 2], to: [usize; 2]) -> Option<Self> {
        let stride = [0, 1].map(|axis| from[axis] / to[axis].max(1));
        let fits = [0, 1].map(|axis| stride[axis] * to[axis]) == from;
        fits.then_some(Self {
            kernel: stride,
            stride,
            padding: [0; 2],
            dilation: [1; 2],
        })
    }

    /// Holds a pool's padding along an axis, which goes by this name in messages, to half its window. Of a window of nothing [`Window::along`] tells.
    pub(super) fn at_most_half(op: &str, name: &str, kernel: usize, padding: usize) -> Result<()> {
        match kernel > 0 && padding > kernel / 2 {
            false => Ok(()),
            true => Err(Error::shape(
                op,
                format!("padding {padding} of a window {kernel} along {name}"),
                "padding of at most half the window",
            )),
        }
    }

    /// It as attributes of ONNX's convolutions and pools.
    pub(super) fn attributes(&self) -> Vec<(&'static str, Attribute)> {
        let ints = |sizes: &[usize]| sizes.iter().map(|&x| x as i64).collect::<Vec<_>>().into();
        let mut attributes = vec![
            ("kernel_shape", ints(&self.kernel)),
            ("strides", ints(&self.stride)),
            ("pads", ints(&[self.padding, self.padding].concat())),
        ];
        // Pools of averages have none in opset 17.
        if self.dilation != [1, 1] {
            attributes.push(("dilations", ints(&self.dilation)));
        }
        attributes
    }

    /// The output's `[height, width]` over images of `input` `[height, width]`.
    ///
    /// # Errors
    /// [`Error::Setting`] for zeros and absurd sizes, [`Error::Shape`] if the window does
    /// not fit.
    pub(crate) fn output(&self, op: &str, input: [usize; 2]) -> Result<[usize; 2]> {
        Ok([
            self.along(op, 0, "height", input[0])?,
            self.along(op, 1, "width", input[1])?,
        ])
    }

    /// The output's size along an axis, which goes by this name in messages.
    ///
    /// # Errors
    /// As [`Window::output`].
    pub(crate) fn along(&self, op: &str, axis: usize, name: &str, size: usize) -> Result<usize> {
        let (k, s) = (self.kernel[axis], self.stride[axis]);
        let (p, d) = (self.padding[axis], self.dilation[axis]);
        for (what, value, least) in [
            ("kernel", k, 1),
            ("stride", s, 1),
            ("padding", p, 0),
            ("dilation", d, 1),
        ] {
            if !(least..=MOST).contains(&value) {
                let name = format!("{op}, {what} along {name}");
                return Err(Error::setting(name, value, format!("{least} to {MOST}")));
            }
        }
        let (room, reach) = (size + 2 * p, d * (k - 1) + 1);
        if reach > room {
            return Err(Error::shape(
                op,
                format!("a window that reaches over {reach}, {name} {size} with padding {p}"),
                format!("dilation · (kernel − 1) + 1 of at most {name} + 2 · padding"),
            ));
        }
        Ok((room - reach) / s + 1)
    }

    /// The constants of `shaders/shared/window.wgsl`.
    pub(crate) fn constants(
        &self,
        input: [usize; 2],
        output: [usize; 2],
    ) -> [(&'static str, f64); 12] {
        let pairs = [
            ("H", input[0]),
            ("W", input[1]),
            ("HO", output[0]),
            ("WO", output[1]),
            ("KH", self.kernel[0]),
            ("KW", self.kernel[1]),
            ("SH", self.stride[0]),
            ("SW", self.stride[1]),
            ("PH", self.padding[0]),
            ("PW", self.padding[1]),
            ("DH", self.dilation[0]),
            ("DW", self.dilation[1]),
        ];
        pairs.map(|(name, value)| (name, value as f64))
    }
}

/// A window with the sizes it was launched on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Placed {
    pub window: Window,
    pub input: [usize; 2],
    pub output: [usize; 2],
}

impl Placed {
    /// From a launch's constants.
    pub(crate) fn of<T: Real>(a: &Args<'_, T>) -> Self {
        let pair = |h: &str, w: &str| [a.size(h), a.size(w)];
        Self {
            window: Window {
                kernel: pair("KH", "KW"),
                stride: pair("SH", "SW"),
                padding: pair("PH", "PW"),
                dilation: pair("DH", "DW"),
            },
            input: pair("H", "W"),
            output: pair("HO", "WO"),
        }
    }

    /// Where tap `k` of output place `o` lies in the image along `axis`, if inside.
    pub(crate) fn place(&self, axis: usize, o: usize, k: usize) -> Option<usize> {
        let w = &self.window;
        (o * w.stride[axis] + k * w.dilation[axis])
            .checked_sub(w.padding[axis])
            .filter(|&i| i < self.input[axis])
    }

    /// The first place under output place `o` inside the image along `axis`, and the end of
    /// these, where there is no dilation.
    pub(crate) fn inside(&self, axis: usize, o: usize) -> (usize, usize) {
        let (w, first) = (&self.window, o * self.window.stride[axis]);
        let end = (first + w.kernel[axis]).saturating_sub(w.padding[axis]);
        (
            first.saturating_sub(w.padding[axis]),
            end.min(self.input[axis]),
        )
    }

    /// Which output place has tap `k` on image place `i` along `axis`, if any.
    pub(crate) fn seen_from(&self, axis: usize, i: usize, k: usize) -> Option<usize> {
        let w = &self.window;
        (i + w.padding[axis])
            .checked_sub(k * w.dilation[axis])
            .filter(|at| at % w.stride[axis] == 0)
            .map(|at| at / w.stride[axis])
            .filter(|&o| o < self.output[axis])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SQUARE: Window = Window {
        kernel: [3, 3],
        stride: [2, 1],
        padding: [1, 0],
        dilation: [1, 2],
    };

    #[test]
    fn sizes_follow_the_rule() {
        assert_eq!(SQUARE.output("x", [7, 9]).unwrap(), [4, 5]);
        let refused = |change: fn(&mut Window)| {
            let mut window = SQUARE;
            change(&mut window);
            window.output("conv2d", [7, 9]).unwrap_err().to_string()
        };
        assert!(refused(|w| w.stride[0] = 0).contains("stride along height: found 0"));
        assert!(refused(|w| w.kernel[1] = 0).contains("kernel along width: found 0"));
        assert!(refused(|w| w.dilation[1] = usize::MAX).contains("dilation along width"));
        assert!(refused(|w| w.kernel[1] = 6).contains("reaches over 11, width 9"));
    }

    #[test]
    fn places_and_views_are_inverse() {
        let placed = Placed {
            window: SQUARE,
            input: [7, 9],
            output: SQUARE.output("x", [7, 9]).unwrap(),
        };
        for axis in [0, 1] {
            for k in 0..3 {
                for o in 0..placed.output[axis] {
                    if let Some(i) = placed.place(axis, o, k) {
                        assert_eq!(placed.seen_from(axis, i, k), Some(o));
                    }
                }
                for i in 0..placed.input[axis] {
                    if let Some(o) = placed.seen_from(axis, i, k) {
                        assert_eq!(placed.place(axis, o, k), Some(i));
                    }
                }
            }
        }
    }
}

//! Random flips and crops of a mini-batch of images, as He et al. (2015, section 4.2) train on CIFAR-10:
//! an image is padded by p zeros on each side, a crop of its own size is taken anywhere, and half of the
//! images are mirrored. Without the padding ever standing in memory, element (r, c) of the result is
//!
//! y\[r, c\] = x\[r + d, s(c) + e\], zero outside,
//!
//! s(c) = c or W − 1 − c, with equal chance; d and e are whole numbers from −p to p. All channels of an
//! image share one draw.
//!
//! Nothing is saved: the draw of example n is block n of (seed, replica, layer, step), so the gradient
//! draws it again and goes the way back, x̄\[r, c\] = ȳ\[r − d, s(c − e)\]. Word 0 mirrors from 2³¹ on;
//! the upper halves of words 1 and 2 make d and e, whose chances so differ by 2⁻¹⁶ at most.

use std::sync::Arc;

use super::{
    Backward, Case, ELEMENTWISE, Fill, Lowered, Lowering, NOW, Op, Operand, Value, arity, counter,
    floats, grid, key_words, stream_number,
};
use crate::error::{Error, Result};
use crate::kernel::{Args, Bind, Demand, Kernel};
use crate::rng::{Stream, streams};
use crate::shape::Type;
use crate::tensor::Real;

/// Inputs x `[N, C, H, W]`, keys `[4]` of the replica, step `[2]`; output y of x's shape.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Augment {
    /// Half of the images are mirrored.
    pub flip: bool,
    /// The largest shift along each axis, p; below H and W.
    pub crop: usize,
    /// Number of the layer: draws of different layers are independent. Below 65,536.
    pub layer: u32,
    /// From result to source: what the gradient does.
    pub back: bool,
}

/// Holds the largest shift to an image's height and width.
pub(crate) fn check(crop: usize, [h, w]: [usize; 2]) -> Result<()> {
    // A half word times the number of shifts has 32 bits.
    if crop >= h.min(w).min(1 << 15) {
        let wanted = format!("below the {h} × {w} pixels of an image, and 32,768");
        return Err(Error::setting("crop", crop, wanted));
    }
    Ok(())
}

impl Op for Augment {
    fn name(&self) -> &'static str {
        "augment"
    }

    fn infer(&self, inputs: &[Type]) -> Result<Vec<Type>> {
        let [x, keys, step] = arity("augment", inputs, "x, keys, step")?;
        floats("augment", "x", x)?;
        key_words("augment", keys)?;
        counter("augment", step)?;
        stream_number("augment layer", self.layer)?;
        let [_, _, h, w] = x.shape.axes::<4>("augment", "[N, C, H, W] images")?;
        check(self.crop, [h, w])?;
        Ok(vec![x.clone()])
    }

    fn lower(&self, inputs: &[Type], outputs: &[Type]) -> Result<Lowering> {
        let e = inputs[0].shape.extents();
        Ok(Lowering::Launch(Lowered {
            kernel: &AUGMENT,
            constants: vec![
                ("N", e[0] as f64),
                ("C", e[1] as f64),
                ("H", e[2] as f64),
                ("W", e[3] as f64),
                ("FLIP", f64::from(u8::from(self.flip))),
                ("CROP", self.crop as f64),
                ("BACK", f64::from(u8::from(self.back))),
                ("STREAM", f64::from(streams::AUGMENT + self.layer)),
            ],
            operands: vec![
                Operand::In(0),
                Operand::In(1),
                Operand::In(2),
                Operand::Out(0),
            ],
            grid: grid(outputs[0].elements(), ELEMENTWISE),
            flops: 0,
            alternatives: vec![],
        }))
    }

    fn gradient(&self, b: &mut Backward<'_>) -> Result<Vec<Option<Value>>> {
        let inputs = [b.upstream, b.inputs[1], b.inputs[2]];
        let back = Self {
            back: !self.back,
            ..*self
        };
        let x = b.tape.op1(Arc::new(back), &inputs)?;
        Ok(vec![Some(x), None, None])
    }
}

/// y = x, moved and perhaps mirrored.
pub static AUGMENT: Kernel = Kernel {
    name: "augment",
    turns: "10",
    stem: "augment",
    source: concat!(
        include_str!("../../shaders/shared/grid.wgsl"),
        include_str!("../../shaders/shared/rng.wgsl"),
        include_str!("../../shaders/augment.wgsl"),
    ),
    bindings: &[
        Bind::read("x").of("N * C * H * W"),
        Bind::read("keys").u32().of("4"),
        Bind::read("step").u32().of("2"),
        Bind::write("y").of("N * C * H * W"),
    ],
    constants: &["N", "C", "H", "W", "FLIP", "CROP", "BACK", "STREAM"],
    reference: crate::reference!(augment),
    optimized: None,
    demand: Demand {
        rounds: "2",
        issue: "430",
        words: "134",
        ..Demand::UNSTATED
    },
    trusted: true,
    ports: &[],
    finishing: None,
};

/// The kernels of this file.
pub static KERNELS: &[&Kernel] = &[&AUGMENT];

/// What is drawn for an image: whether it is mirrored, and its shifts down and right.
fn drawn(words: [u32; 4], flip: bool, crop: usize) -> (bool, [i64; 2]) {
    let shift = |word: u32| i64::from(((word >> 16) * (2 * crop as u32 + 1)) >> 16) - crop as i64;
    (
        flip && words[0] >= 1 << 31,
        [shift(words[1]), shift(words[2])],
    )
}

fn augment<T: Real>(a: &mut Args<'_, T>) {
    let stream = Stream::of_keys(a.u(1), a.size("STREAM") as u32);
    let (flip, back) = (a.size("FLIP") == 1, a.size("BACK") == 1);
    let (crop, c) = (a.size("CROP"), a.size("C"));
    let (h, w) = (a.size("H") as i64, a.size("W") as i64);
    let plane = (h * w) as usize;
    let (step, x, y) = (a.u(2)[NOW], a.f(0), a.f_mut(3)); // [2], [N, C, H, W] twice
    let images = x.chunks(c * plane).zip(y.chunks_mut(c * plane));
    for (n, (x, y)) in (0u32..).zip(images) {
        let (mirror, [down, right]) = drawn(stream.words(step, n), flip, crop);
        let mirrored = |col: i64| if mirror { w - 1 - col } else { col };
        for (x, y) in x.chunks(plane).zip(y.chunks_mut(plane)) {
            for (at, y) in (0i64..).zip(y) {
                let (row, col) = match back {
                    true => (at / w - down, mirrored(at % w - right)),
                    false => (at / w + down, mirrored(at % w) + right),
                };
                let inside = (0..h).contains(&row) && (0..w).contains(&col);
                *y = if inside {
                    x[(row * w + col) as usize]
                } else {
                    T::ZERO
                };
            }
        }
    }
}

/// One pixel, nothing drawn, each alone and both, images of any shape that straddle workgroups.
pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (extents, flip, crop) in [
        ([1, 1, 1, 1], true, 0),
        ([5, 2, 3, 7], false, 0),
        ([11, 3, 5, 7], true, 0),
        ([11, 2, 7, 5], false, 4),
        ([67, 1, 2, 3], true, 1),
        ([3, 3, 32, 31], true, 4),
    ] {
        for back in [false, true] {
            let op = Augment {
                flip,
                crop,
                layer: 65_535,
                back,
            };
            let case = Case::new(op, 1).float(&extents, Fill::Uniform(-1.0, 1.0));
            cases.push(case.u32(&[4], Fill::Keys).u32(&[2], Fill::Pair(99, 12)));
        }
    }
    cases
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::keys;

    /// Every shift and both directions come as often as any other, and steps and examples differ.
    #[test]
    fn draws_are_even_and_independent() {
        let stream = Stream::of_keys(&keys(5, 1), streams::AUGMENT);
        let n = 20_000;
        let mut counts = [[0u32; 9]; 2];
        let (mut mirrored, mut same) = (0, 0);
        for example in 0..n {
            let draw = drawn(stream.words(3, example), true, 4);
            mirrored += u32::from(draw.0);
            for (counts, shift) in counts.iter_mut().zip(draw.1) {
                counts[(shift + 4) as usize] += 1;
            }
            same += u32::from(draw == drawn(stream.words(4, example), true, 4));
        }
        // Deviations: 71 of 10,000 mirrored; 44 of 2,222 at a shift; 11 of 123 alike by chance.
        assert!(mirrored.abs_diff(n / 2) < 5 * 71, "{mirrored}");
        assert!(
            counts
                .as_flattened()
                .iter()
                .all(|c| c.abs_diff(n / 9) < 5 * 44),
            "{counts:?}"
        );
        assert!(same.abs_diff(n / 162) < 5 * 11, "{same}");
        assert_eq!(drawn([u32::MAX; 4], false, 0), (false, [0, 0]));
        assert_eq!(drawn([u32::MAX; 4], true, 4), (true, [4, 4]));
        assert_eq!(drawn([0; 4], true, 4), (false, [-4, -4]));
    }

    #[test]
    fn crops_as_large_as_the_image_are_refused() {
        let op = Augment {
            flip: true,
            crop: 3,
            layer: 0,
            back: false,
        };
        let words = |n| Type::u32("words", &[n]).unwrap();
        let told = |extents: &[usize]| {
            let x = Type::f32("x", extents).unwrap();
            op.infer(&[x, words(4), words(2)])
                .map(|_| ())
                .map_err(|e| e.to_string())
        };
        assert_eq!(told(&[2, 3, 4, 5]), Ok(()));
        assert!(told(&[2, 3, 3, 5]).unwrap_err().contains("crop: found 3"));
        assert!(told(&[2, 3, 3]).unwrap_err().contains("[N, C, H, W]"));
    }
}

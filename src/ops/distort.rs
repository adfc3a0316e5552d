//! Random affine and elastic distortion of a mini-batch: the pixel at p = (x, y) of the
//! result takes the value of the source at
//!
//! q(p) = A (p − c) + c + t + d(p),
//!
//! c the image's centre, read bilinearly between the four pixels around q, zero outside.
//! All channels of an image share one q. Data has no gradient.
//!
//! **Affine.** A = R(θ) · (1 κ; 0 1) · diag(1 + a₁, 1 + a₂), with θ, κ, a₁, a₂ and both
//! parts of t uniform within ± their limits. This is the map from result to source, so
//! 1 + a > 1 makes things smaller; the limits being symmetric, it matters little. Sine and
//! cosine are Taylor series of θ/4 doubled twice, because WGSL's own may be off by 2⁻¹¹.
//!
//! **Elastic** (Simard, Steinkraus and Platt 2003). They draw a displacement uniform in
//! ±1 for each pixel, convolve with the normalised Gaussian G of deviation σ, and multiply
//! by α. A sum of independent numbers of variance ⅓, each part of that displacement has
//!
//! variance α²/3 · Σ G² = α²/3 · 1/(4πσ²), hence deviation α / (σ √(12π)),
//!
//! where the sum over pixels is the integral to within a share of 2 exp(−π²σ²), nothing
//! for σ ≥ 1. A field that smooth does not need a number per pixel. Here the uniform
//! numbers sit on the nodes of a grid of h = ⌊σ⌋ pixels, and
//!
//! d(p) = g Σₖ rₖ exp(−|p − xₖ|²/2σ²).
//!
//! Its variance is g²/3 Σₖ exp(−|p − xₖ|²/σ²) = g²/3 · πσ²/h², and here too the sum is the
//! integral to within 2 exp(−π²σ²/h²) ≤ 10⁻⁴ along each axis, wherever p lies between the
//! nodes. Equal deviations ask for
//!
//! g = α h / (2πσ²),
//!
//! which is α G(0) times h, the deviation of the h² numbers that a node stands for.
//! Covariances agree as well, by the same two integrals. The sum takes the ⌈3σ/h⌉ nodes on
//! either side of p along each axis; those left out are 3σ away or more (a share e⁻⁹ of
//! the variance density). Nodes outside the image take part: unlike a convolution with zero
//! padding the deviation is the same at the border.
//!
//! **Two launches.** [`Draw`] writes each image's A, t and g r once; [`Distort`] reads
//! them at every pixel. Drawing in the pixel's own thread would take 18 blocks of Philox
//! at σ = 4, for the same numbers again and again. The step is used in [`Draw`] alone.
//!
//! Nothing is saved: the numbers are a function of (seed, replica, step, example).

use std::sync::Arc;

use super::{
    Case, ELEMENTWISE, Fill, Lowered, Lowering, NOW, Op, Operand, Tape, Value, arity, counter,
    exactly, floats, grid, key_words,
};
use crate::error::{Error, Result};
use crate::kernel::{Args, Bind, Demand, Kernel};
use crate::rng::{Stream, streams, uniform};
use crate::shape::Type;
use crate::tensor::Real;

mod limits;
#[cfg(test)]
mod tests;
pub use limits::Distortion;

/// Numbers of an image's affine map: A by rows, then t.
const AFFINE: usize = 6;

/// Distorts x `[N, C, H, W]` by numbers drawn from keys `[4]` at step `[2]`, of this random stream; gives x
/// itself, and adds no op, where the distortion is none.
///
/// # Errors
/// What the shape rules of [`Draw`] and [`Distort`] say.
pub fn distort(
    tape: &mut dyn Tape,
    distortion: Distortion,
    stream: u32,
    x: Value,
    [keys, step]: [Value; 2],
) -> Result<Value> {
    if distortion.is_none() {
        return Ok(x);
    }
    let wanted = "[N, C, H, W] images";
    let [batch, _, h, w] = tape.ty(x)?.shape.axes::<4>("distort", wanted)?;
    let draw = Draw {
        distortion,
        batch,
        size: [h, w],
        stream,
    };
    let drawn = tape.op1(Arc::new(draw), &[keys, step])?;
    tape.op1(Arc::new(Distort(distortion)), &[x, drawn])
}

/// Draws the maps of a mini-batch: inputs keys `[4]`, step `[2]`; output `[N, row]` of
/// each image's A, t and, if elastic, both parts of g r of every node, horizontal first.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Draw {
    /// The limits.
    pub distortion: Distortion,
    /// Images in a mini-batch.
    pub batch: usize,
    /// Their height and width.
    pub size: [usize; 2],
    /// The random stream.
    pub stream: u32,
}

impl Draw {
    /// Threads of one image: one for the affine numbers, one per four others.
    fn threads(&self) -> usize {
        1 + (self.distortion.row(self.size) - AFFINE).div_ceil(4)
    }
}

impl Op for Draw {
    fn name(&self) -> &'static str {
        "distort"
    }

    fn infer(&self, inputs: &[Type]) -> Result<Vec<Type>> {
        let [keys, step] = arity("distort", inputs, "keys, step")?;
        key_words("distort", keys)?;
        counter("distort", step)?;
        self.distortion.check()?;
        // The counter of the random numbers has 32 bits.
        if self.batch.saturating_mul(self.threads() + 1) > u32::MAX as usize {
            let found = format!("{} images of {:?} pixels", self.batch, self.size);
            return Err(Error::shape(
                "distort",
                found,
                "fewer than 2^32 random blocks in a step",
            ));
        }
        let row = self.distortion.row(self.size);
        Ok(vec![Type::f32("distort", &[self.batch, row])?])
    }

    fn lower(&self, _: &[Type], outputs: &[Type]) -> Result<Lowering> {
        let d = &self.distortion;
        Ok(Lowering::Launch(Lowered {
            kernel: &DRAW,
            constants: vec![
                ("N", self.batch as f64),
                ("ROW", d.row(self.size) as f64),
                ("ROTATION", d.rotation.to_radians()),
                ("SCALE", d.scale),
                ("SHEAR", d.shear),
                ("SHIFT", d.shift),
                ("GAIN", d.gain()),
                ("STREAM", f64::from(self.stream)),
            ],
            operands: vec![Operand::In(0), Operand::In(1), Operand::Out(0)],
            grid: grid(self.batch * self.threads(), ELEMENTWISE),
            flops: outputs[0].elements() as u64,
            alternatives: vec![],
        }))
    }
}

/// Distorts images by maps drawn before: inputs x `[N, C, H, W]` and what [`Draw`] gave;
/// output of x's shape.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Distort(pub Distortion);

impl Op for Distort {
    fn name(&self) -> &'static str {
        "distort"
    }

    fn infer(&self, inputs: &[Type]) -> Result<Vec<Type>> {
        let [x, drawn] = arity("distort", inputs, "x, maps")?;
        floats("distort", "x", x)?;
        self.0.check()?;
        let [n, _, h, w] = x.shape.axes::<4>("distort", "[N, C, H, W] images")?;
        let maps = Type::f32("distort", &[n, self.0.row([h, w])])?;
        exactly("distort", "maps", drawn, &maps)?;
        Ok(vec![x.clone()])
    }

    fn lower(&self, inputs: &[Type], _: &[Type]) -> Result<Lowering> {
        let e = inputs[0].shape.extents();
        let (n, c, h, w) = (e[0], e[1], e[2], e[3]);
        let reach = self.0.reach();
        let pixels = n * h * w;
        Ok(Lowering::Launch(Lowered {
            kernel: &DISTORT,
            constants: vec![
                ("N", n as f64),
                ("C", c as f64),
                ("H", h as f64),
                ("W", w as f64),
                ("ROW", self.0.row([h, w]) as f64),
                ("NODES", self.0.nodes(w) as f64),
                ("SPACING", self.0.spacing() as f64),
                ("REACH", reach as f64),
                ("FALL", 0.5 / (self.0.sigma * self.0.sigma)),
            ],
            operands: vec![Operand::In(0), Operand::In(1), Operand::Out(0)],
            grid: grid(pixels, ELEMENTWISE),
            flops: (pixels * (10 + 24 * reach * reach + 9 * c)) as u64,
            alternatives: vec![],
        }))
    }
}

const SOURCE: &str = concat!(
    include_str!("../../shaders/shared/grid.wgsl"),
    include_str!("../../shaders/shared/rng.wgsl"),
    include_str!("../../shaders/distort.wgsl"),
);

/// The numbers of each image.
pub static DRAW: Kernel = Kernel {
    name: "distort_draw",
    turns: "128",
    stem: "distort",
    source: SOURCE,
    bindings: &[
        Bind::read("keys").u32().of("4"),
        Bind::read("step").u32().of("2"),
        Bind::write("maps").of("N * ROW"),
    ],
    constants: &[
        "N", "ROW", "ROTATION", "SCALE", "SHEAR", "SHIFT", "GAIN", "STREAM",
    ],
    reference: crate::reference!(draw),
    optimized: None,
    demand: Demand {
        rounds: "1",
        issue: "1200",
        words: "300",
        ..Demand::UNSTATED
    },
    trusted: true,
    ports: &[],
    finishing: None,
};

/// y(p) = x(q(p)).
pub static DISTORT: Kernel = Kernel {
    name: "distort",
    turns: "C + 4 * REACH * REACH + 4 * REACH + 16",
    demand: Demand {
        rounds: "REACH * REACH + C + 1",
        issue: "REACH * REACH * 120 + REACH * 40 + C * 60 + 120",
        words: "C * 192 + 6 + 4 * REACH * (64 / SPACING + 2 * REACH)",
        ..Demand::UNSTATED
    },
    bindings: &[
        Bind::read("x").of("N * C * H * W"),
        Bind::read("drawn").of("N * ROW"),
        Bind::write("y").of("N * C * H * W"),
    ],
    constants: &[
        "N", "C", "H", "W", "ROW", "NODES", "SPACING", "REACH", "FALL",
    ],
    reference: crate::reference!(sample),
    optimized: Some(sample_fast),
    ..DRAW
};

/// The kernels of this file.
pub static KERNELS: &[&Kernel] = &[&DRAW, &DISTORT];

/// Uniform in [-1, 1), exact in f32.
fn signed<T: Real>(bits: u32) -> T {
    T::of(f64::from(2.0 * uniform(bits) - 1.0))
}

/// Sine and cosine of an angle within ±π.
fn sin_cos<T: Real>(angle: T) -> [T; 2] {
    let t = T::of;
    let x = t(0.25) * angle;
    let x2 = x * x;
    let sine = [
        2.755_732e-6,
        -0.000_198_412_7,
        0.008_333_334,
        -0.166_666_67,
        1.0,
    ];
    let cosine = [2.480_158_8e-5, -0.001_388_888_9, 0.041_666_668, -0.5, 1.0];
    let horner = |c: [f64; 5]| c.into_iter().fold(T::ZERO, |sum, c| sum * x2 + t(c));
    let (mut s, mut c) = (x * horner(sine), horner(cosine));
    for _ in 0..2 {
        (s, c) = (t(2.0) * s * c, T::ONE - t(2.0) * s * s);
    }
    [s, c]
}

fn draw<T: Real>(a: &mut Args<'_, T>) {
    let stream = Stream::of_keys(a.u(0), a.size("STREAM") as u32);
    let row = a.size("ROW");
    let threads = 1 + (row - AFFINE).div_ceil(4) as u32;
    let limit = |name: &str| T::of(a.number(name));
    let (rotation, scale, shear) = (limit("ROTATION"), limit("SCALE"), limit("SHEAR"));
    let (shift, gain) = (limit("SHIFT"), limit("GAIN"));
    let (step, maps) = (a.u(1)[NOW], a.f_mut(2)); // [2], [N, ROW]
    for (n, map) in (0u32..).zip(maps.chunks_mut(row)) {
        let words = |block| {
            stream
                .words(step, n * (threads + 1) + block)
                .map(signed::<T>)
        };
        let ([angle, wide, high, slant], [right, down, ..]) = (words(0), words(1));
        let [s, c] = sin_cos(rotation * angle);
        let (wide, high, slant) = (T::ONE + scale * wide, T::ONE + scale * high, shear * slant);
        let (affine, noise) = map.split_at_mut(AFFINE);
        affine.copy_from_slice(&[
            c * wide,
            (c * slant - s) * high,
            s * wide,
            (s * slant + c) * high,
            shift * right,
            shift * down,
        ]);
        for (block, values) in (2u32..).zip(noise.chunks_mut(4)) {
            for (value, word) in values.iter_mut().zip(words(block)) {
                *value = gain * word;
            }
        }
    }
}

/// The constants of [`DISTORT`].
struct Geometry<T> {
    channels: usize,
    height: usize,
    width: usize,
    row: usize,
    nodes: usize,
    spacing: usize,
    reach: usize,
    fall: T,
}

impl<T: Real> Geometry<T> {
    fn of(a: &Args<'_, T>) -> Self {
        Self {
            channels: a.size("C"),
            height: a.size("H"),
            width: a.size("W"),
            row: a.size("ROW"),
            nodes: a.size("NODES"),
            spacing: a.size("SPACING"),
            reach: a.size("REACH"),
            fall: T::of(a.number("FALL")),
        }
    }

    /// Weight along one axis of the node number `tap` of the 2 · reach around `place`.
    fn weight(&self, place: usize, tap: usize) -> T {
        // Node 0 lies reach − 1 spacings before pixel 0.
        let here = place + (self.reach - 1) * self.spacing;
        let node = (place / self.spacing + tap) * self.spacing;
        let distance = T::of(here as f64 - node as f64);
        (-(distance * distance * self.fall)).exp()
    }

    /// d at pixel (x, y).
    fn displacement(&self, noise: &[T], x: usize, y: usize) -> [T; 2] {
        let mut sum = [T::ZERO; 2];
        for j in 0..2 * self.reach {
            for i in 0..2 * self.reach {
                let weight = self.weight(y, j) * self.weight(x, i);
                let node = (y / self.spacing + j) * self.nodes + x / self.spacing + i;
                sum[0] += weight * noise[2 * node];
                sum[1] += weight * noise[2 * node + 1];
            }
        }
        sum
    }

    /// q of pixel (x, y), displaced by `d`.
    fn source(&self, affine: &[T], d: [T; 2], x: usize, y: usize) -> [T; 2] {
        let centre = |extent: usize| (extent as f64 - 1.0) / 2.0;
        let (cx, cy) = (centre(self.width), centre(self.height));
        let (right, down) = (T::of(x as f64 - cx), T::of(y as f64 - cy));
        [
            affine[0] * right + affine[1] * down + T::of(cx) + (affine[4] + d[0]),
            affine[2] * right + affine[3] * down + T::of(cy) + (affine[5] + d[1]),
        ]
    }

    /// The value of one channel at `q`.
    fn bilinear(&self, plane: &[T], q: [T; 2]) -> T {
        let [left, top] = q.map(|q| q.wide().floor());
        let at = |row: i64, col: i64| {
            let inside =
                (0..self.height as i64).contains(&row) && (0..self.width as i64).contains(&col);
            if inside {
                plane[row as usize * self.width + col as usize]
            } else {
                T::ZERO
            }
        };
        let mix = |a: T, b: T, share: T| a + share * (b - a);
        let (col, row, share) = (left as i64, top as i64, q[0] - T::of(left));
        let above = mix(at(row, col), at(row, col + 1), share);
        let below = mix(at(row + 1, col), at(row + 1, col + 1), share);
        mix(above, below, q[1] - T::of(top))
    }

    /// Writes one image, given d at each pixel.
    fn image(&self, x: &[T], affine: &[T], d: &dyn Fn(usize, usize) -> [T; 2], y: &mut [T]) {
        let plane = self.height * self.width;
        for p in 0..plane {
            let (row, col) = (p / self.width, p % self.width);
            let q = self.source(affine, d(col, row), col, row);
            for c in 0..self.channels {
                y[c * plane + p] = self.bilinear(&x[c * plane..][..plane], q);
            }
        }
    }
}

fn sample<T: Real>(a: &mut Args<'_, T>) {
    let g = Geometry::of(a);
    let (x, drawn, y) = (a.f(0), a.f(1), a.f_mut(2)); // [N, C, H, W], [N, ROW], [N, C, H, W]
    let size = g.channels * g.height * g.width;
    for ((x, map), y) in x
        .chunks(size)
        .zip(drawn.chunks(g.row))
        .zip(y.chunks_mut(size))
    {
        let (affine, noise) = map.split_at(AFFINE);
        g.image(x, affine, &|x, y| g.displacement(noise, x, y), y);
    }
}

/// The Gaussian one axis after the other, its weights taken from a table.
fn sample_fast(a: &mut Args<'_, f32>) {
    let g = Geometry::of(a);
    let (x, drawn, y) = (a.f(0), a.f(1), a.f_mut(2)); // [N, C, H, W], [N, ROW], [N, C, H, W]
    let size = g.channels * g.height * g.width;
    let taps = 2 * g.reach;
    // Places one spacing apart have the same weights.
    let weights: Vec<f32> = (0..g.spacing)
        .flat_map(|place| (0..taps).map(move |tap| (place, tap)))
        .map(|(place, tap)| g.weight(place, tap))
        .collect();
    let weights = |place: usize| &weights[place % g.spacing * taps..][..taps];
    let rows = (g.row - AFFINE) / 2 / g.nodes.max(1);
    let mut smooth = vec![[0.0f32; 2]; rows * g.width]; // [node rows, W, 2]
    for ((x, map), y) in x
        .chunks(size)
        .zip(drawn.chunks(g.row))
        .zip(y.chunks_mut(size))
    {
        let (affine, noise) = map.split_at(AFFINE);
        for (at, sum) in smooth.iter_mut().enumerate() {
            let (row, col) = (at / g.width, at % g.width);
            let nodes = &noise[2 * (row * g.nodes + col / g.spacing)..];
            *sum = weighted(weights(col), nodes.chunks_exact(2).map(|r| [r[0], r[1]]));
        }
        let d = |x: usize, y: usize| {
            let column = smooth[y / g.spacing * g.width..].iter().skip(x);
            weighted(weights(y), column.step_by(g.width).copied())
        };
        if g.reach == 0 {
            g.image(x, affine, &|_, _| [0.0; 2], y);
        } else {
            g.image(x, affine, &d, y);
        }
    }
}

fn weighted(weights: &[f32], pairs: impl Iterator<Item = [f32; 2]>) -> [f32; 2] {
    let mut sum = [0.0; 2];
    for (w, [x, y]) in weights.iter().zip(pairs) {
        sum[0] += w * x;
        sum[1] += w * y;
    }
    sum
}

/// A case of [`Distort`] on images of this shape, the maps' numbers uniform in ±1, which
/// turns, folds and shifts them beyond anything that is drawn.
///
/// Where results may differ: a coordinate is a sum of five numbers that reach
/// (H + W)/2 + 1 and, if elastic, one of n = (2 · reach)² numbers within ±1 times weights
/// whose sum is 2π(σ/h)² ≤ 8π. Five roundings are off by half an ε of the largest partial
/// sum each, the elastic sum by √n/2 · 8π ε (tolerance.rs). Neighbours differ by twice the
/// largest value at most, along each of two axes: 4 times a coordinate's error comes out.
pub fn case(distortion: Distortion, shape: [usize; 4]) -> Case {
    let [_, _, h, w] = shape;
    let elastic = 2 * distortion.reach();
    let terms = 4 * (5 * (h + w + 52) / 4 + 13 * elastic);
    let uniform = Fill::Uniform(-1.0, 1.0);
    Case::new(Distort(distortion), terms)
        .fixed(&shape, uniform)
        .fixed(&[shape[0], distortion.row([h, w])], uniform)
}

/// One pixel, lines, primes, several channels, one image and more than a workgroup's;
/// nothing drawn, one limit at a time, all of them; spacings of one pixel and more than
/// the image.
pub fn cases() -> Vec<Case> {
    let none = Distortion::NONE;
    let elastic = |alpha, sigma| Distortion {
        alpha,
        sigma,
        ..none
    };
    let all = Distortion {
        rotation: 180.0,
        scale: 0.99,
        shear: 1.0,
        shift: 3.0,
        ..elastic(34.0, 4.0)
    };
    let mut cases = Vec::new();
    let limits = [
        none,
        Distortion {
            rotation: 180.0,
            ..none
        },
        Distortion { scale: 0.5, ..none },
        Distortion { shear: 1.0, ..none },
        Distortion { shift: 2.5, ..none },
        Distortion::affine(),
        Distortion::elastic(),
        elastic(5.0, 1.0),
        elastic(5.0, 1.99),
        elastic(40.0, 7.3),
        all,
    ];
    for (k, distortion) in limits.into_iter().enumerate() {
        for (batch, size) in [(1, [1, 1]), (3, [13, 7]), (67, [5, 28])] {
            // Both series are off by at most 2 ε at θ/4; each doubling makes 4 times that
            // and one rounding: 37 ε. Shear and scale double it at most, and add three.
            let draw = Draw {
                distortion,
                batch,
                size,
                stream: streams::DISTORT,
            };
            cases.push(
                Case::new(draw, 80)
                    .u32(&[4], Fill::Keys)
                    .u32(&[2], Fill::Pair(99, k as u32 * 7)),
            );
        }
    }
    for distortion in [
        none,
        Distortion::affine(),
        elastic(34.0, 4.0),
        elastic(5.0, 1.0),
        elastic(5.0, 1.99),
        elastic(40.0, 7.3),
    ] {
        for shape in [
            [1, 1, 1, 1],
            [1, 3, 13, 7],
            [3, 1, 1, 17],
            [2, 2, 28, 28],
            [5, 1, 9, 4],
        ] {
            cases.push(case(distortion, shape));
        }
    }
    cases
}

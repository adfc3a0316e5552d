//! Synthetic digits: the data set that is always there.
//!
//! A digit is drawn the way a hand draws it: one of the ways of writing it is chosen,
//! its knots are moved a little, the curve through them is bent, slanted, turned and
//! stretched, and a round pen of varying pressure follows it. The result is framed as
//! MNIST frames its digits: the ink fits a box of about 20 by 20 pixels, and its centre
//! of mass lies near the middle of the 28 by 28 image; white ink on black background.
//!
//! These are *not* scanned digits, and everything that prints a result must say so.
//! They are made to be of use in the same way: a linear classifier is clearly worse at
//! them than a convolutional network.
//!
//! Every number comes from the Philox generator at (sample, draw), and the arithmetic is
//! `+`, `-`, `*`, `/` and square roots of `f32`, which IEEE 754 rounds alike everywhere:
//! sample `i` of a seed is the same bytes on every machine, however many are generated.

use super::Images;
use super::strokes::{GLYPHS, Glyph, Knot, flatten};
use crate::error::{Error, Result};
use crate::rng::{self, Stream, streams};

/// Height and width of a digit in pixels.
pub const SIDE: usize = 28;
/// Digits are of ten classes.
pub const CLASSES: usize = 10;
/// What the data set calls itself.
pub const NAME: &str = "synthetic digits";
/// The side of the box that the ink fills, in pixels.
const BOX: f32 = 20.0;

/// Which part of the synthetic data a digit belongs to; parts share no random numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// What the network learns from.
    Train,
    /// What hyper-parameters are chosen by.
    Validation,
    /// What the network is judged by.
    Test,
}

impl Part {
    /// How many digits the part has by default.
    pub const fn default_len(self) -> usize {
        match self {
            Self::Train => 10_000,
            Self::Validation | Self::Test => 2_000,
        }
    }

    /// The part's own stream of random numbers.
    fn stream(self, seed: u64) -> Stream {
        let offset = match self {
            Self::Train => 0,
            Self::Validation => 1,
            Self::Test => 2,
        };
        Stream {
            seed: rng::key(seed),
            replica: 0,
            stream: streams::DIGITS + offset,
        }
    }
}

/// The first `count` digits of a part: pixels `[N, H, W] = [count, 28, 28]`, labels `[N]`.
///
/// Each run of ten digits, starting at a multiple of ten, holds every class once, in
/// random order. Digit `i` does not depend on `count`.
///
/// # Errors
/// [`Error::Setting`] if `count` is 0 or more than memory can hold.
pub fn generate(seed: u64, part: Part, count: usize) -> Result<Images> {
    let refuse = |wanted: &str| Error::setting("number of synthetic digits", count, wanted);
    if count == 0 {
        return Err(refuse("at least 1"));
    }
    // The sample's number is one 32-bit word of the generator's counter.
    let bytes = u32::try_from(count)
        .ok()
        .and(count.checked_mul(SIDE * SIDE))
        .ok_or_else(|| refuse("at most 4294967295"))?;
    let (mut pixels, mut labels) = (Vec::new(), Vec::new());
    if pixels.try_reserve_exact(bytes).is_err() || labels.try_reserve_exact(count).is_err() {
        return Err(refuse("as many as memory holds, 785 bytes each"));
    }
    let stream = part.stream(seed);
    let mut scratch = Scratch::default();
    let mut order = [0u8; CLASSES];
    for i in 0..count {
        if i % CLASSES == 0 {
            order = class_order(stream, (i / CLASSES) as u32);
        }
        let label = order[i % CLASSES];
        scratch.draw(usize::from(label), &mut Draws::new(stream, i as u32));
        pixels.extend_from_slice(&scratch.ink.map(|v| (v * 255.0 + 0.5) as u8));
        labels.push(label);
    }
    Images::new(NAME, SIDE, SIDE, CLASSES, pixels, labels)
}

/// The classes of ten neighbouring digits: every class once, in random order.
fn class_order(stream: Stream, block: u32) -> [u8; CLASSES] {
    let mut order = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9];
    // The last quarter of the counter; the digits' own draws never get that far.
    let mut draws = Draws::new(stream, block);
    draws.next = 0xC000_0000;
    for i in (1..CLASSES).rev() {
        order.swap(i, draws.below(i as u32 + 1) as usize);
    }
    order
}

/// The random numbers of one sample, drawn one after the other.
struct Draws {
    stream: Stream,
    sample: u32,
    /// Index of the next four words.
    next: u32,
    words: [u32; 4],
    /// How many of `words` are used.
    used: usize,
}

impl Draws {
    fn new(stream: Stream, sample: u32) -> Self {
        Self {
            stream,
            sample,
            next: 0,
            words: [0; 4],
            used: 4,
        }
    }

    fn word(&mut self) -> u32 {
        if self.used == 4 {
            self.words = self.stream.words(self.sample, self.next);
            self.next = self.next.wrapping_add(1);
            self.used = 0;
        }
        self.used += 1;
        self.words[self.used - 1]
    }

    /// Uniform in `0..n`.
    fn below(&mut self, n: u32) -> u32 {
        ((u64::from(self.word()) * u64::from(n)) >> 32) as u32
    }

    /// Uniform in `[low, high)`.
    fn between(&mut self, low: f32, high: f32) -> f32 {
        low + (high - low) * rng::uniform(self.word())
    }

    /// True with probability `p`.
    fn chance(&mut self, p: f32) -> bool {
        rng::uniform(self.word()) < p
    }

    /// About normal with mean 0 and deviation 1, and never beyond ±3.5: the sum of four
    /// uniform numbers. A hand has no wild tails, and the sum needs no logarithm.
    fn spread(&mut self) -> f32 {
        let [a, b, c, d] = [0; 4].map(|_| rng::uniform(self.word()));
        // The sum of four has the variance 4/12.
        (((a + b) + (c + d)) - 2.0) * 1.732_050_8
    }
}

/// A point of the pen's way.
#[derive(Clone, Copy)]
struct Dot {
    x: f32,
    y: f32,
    /// The pen's radius here, in pixels.
    radius: f32,
    /// How much ink the pen leaves here, 0 to 1.
    flow: f32,
    /// Whether the pen comes here in the air.
    lifted: bool,
}

/// Room for one digit, used again for the next.
struct Scratch {
    knots: Vec<Knot>,
    line: Vec<[f32; 2]>,
    dots: Vec<Dot>,
    /// The image `[H, W]`, 0 to 1.
    ink: [f32; SIDE * SIDE],
}

impl Default for Scratch {
    fn default() -> Self {
        Self {
            knots: Vec::new(),
            line: Vec::new(),
            dots: Vec::new(),
            ink: [0.0; SIDE * SIDE],
        }
    }
}

impl Scratch {
    /// Draws one digit of class `label` into `ink`.
    fn draw(&mut self, label: usize, draws: &mut Draws) {
        let glyph = choose(GLYPHS[label], draws);
        self.place(glyph, draws);
        self.bend(draws);
        self.frame(draws);
        self.ink = [0.0; SIDE * SIDE];
        self.rasterise(draws.between(0.5, 0.85));
        self.roughen(draws);
    }

    /// Lays the glyph's strokes down as dots, knots moved at random.
    fn place(&mut self, glyph: &Glyph, draws: &mut Draws) {
        self.dots.clear();
        // Some write carefully, some do not.
        let care = draws.between(0.010, 0.034);
        let radius = (1.36 + 0.32 * draws.spread()).clamp(0.8, 2.0);
        for stroke in glyph.strokes {
            // A stroke is also put down a little beside where it belongs.
            let (ox, oy) = (0.018 * draws.spread(), 0.018 * draws.spread());
            self.knots.clear();
            self.knots.extend(stroke.iter().map(|k| Knot {
                x: k.x + ox + care * draws.spread(),
                y: k.y + oy + care * draws.spread(),
                corner: k.corner,
            }));
            self.reach(draws);
            self.line.clear();
            flatten(&self.knots, &mut self.line);
            self.press(radius, draws);
        }
    }

    /// Lets the stroke's two ends stop short of their knots or go on beyond them.
    fn reach(&mut self, draws: &mut Draws) {
        let n = self.knots.len();
        for (end, next) in [(0, 1), (n - 1, n - 2)] {
            let by = 0.09 * draws.spread();
            let (a, b) = (self.knots[end], self.knots[next]);
            self.knots[end].x = a.x + by * (a.x - b.x);
            self.knots[end].y = a.y + by * (a.y - b.y);
        }
    }

    /// Turns the points of `line` into dots: the pen's pressure along one stroke, and a
    /// place where it may run dry.
    fn press(&mut self, radius: f32, draws: &mut Draws) {
        let (trend, swell) = (0.14 * draws.spread(), 0.10 * draws.spread());
        let dry = if draws.chance(0.18) {
            draws.between(0.3, 0.9)
        } else {
            0.0
        };
        let (dry_at, dry_width) = (draws.between(0.0, 1.0), draws.between(0.04, 0.12));
        let last = self.line.len().saturating_sub(1).max(1) as f32;
        for (i, &[x, y]) in self.line.iter().enumerate() {
            let t = i as f32 / last;
            let u = 2.0 * t - 1.0;
            let pressure = 1.0 + trend * u + swell * (1.0 - 2.0 * u * u);
            let off = (t - dry_at) / dry_width;
            self.dots.push(Dot {
                x,
                y,
                radius: radius * pressure.clamp(0.6, 1.5),
                flow: 1.0 - dry / (1.0 + off * off),
                lifted: i == 0,
            });
        }
    }

    /// Bends the plane smoothly (a random polynomial of the third degree), then
    /// stretches, slants and turns it.
    fn bend(&mut self, draws: &mut Draws) {
        let mut some = |size: f32| [size * draws.spread(), size * draws.spread()];
        let (uu, uv, vv) = (some(0.035), some(0.035), some(0.035));
        let (uuv, uvv, vvv) = (some(0.025), some(0.025), some(0.03));
        let stretch = (1.0 + 0.15 * draws.spread()).max(0.76);
        let slant = (0.12 + 0.20 * draws.spread()).clamp(-0.35, 0.55);
        // The tangent of half the angle gives sine and cosine without a series.
        let half = 0.05 * draws.spread();
        let (cos, sin) = (
            (1.0 - half * half) / (1.0 + half * half),
            2.0 * half / (1.0 + half * half),
        );
        for dot in &mut self.dots {
            let (u, v) = (3.0 * dot.x - 1.0, 2.0 * dot.y - 1.0);
            let [dx, dy] = [0, 1].map(|k| {
                (uu[k] * u * u + uv[k] * u * v + vv[k] * v * v)
                    + (uuv[k] * u * u * v + uvv[k] * u * v * v + vvv[k] * v * v * v)
            });
            let y = dot.y - 0.5 + dy;
            let x = (dot.x - 0.33 + dx) * stretch - slant * y;
            dot.x = cos * x - sin * y;
            dot.y = sin * x + cos * y;
        }
    }

    /// Scales the digit into its box and moves its centre of mass to the image's middle,
    /// both with a little error.
    fn frame(&mut self, draws: &mut Draws) {
        let (mut low, mut high) = ([f32::MAX; 2], [f32::MIN; 2]);
        let mut radius = 0.0f32;
        for dot in &self.dots {
            radius = radius.max(dot.radius);
            for (k, v) in [dot.x, dot.y].into_iter().enumerate() {
                low[k] = low[k].min(v);
                high[k] = high[k].max(v);
            }
        }
        let extent = (high[0] - low[0]).max(high[1] - low[1]).max(0.1);
        let scale = (BOX - 2.0 * radius) / extent * draws.between(0.86, 1.04);
        // Ink has the mass of its length and width.
        let (mut mass, mut moment, mut length) = (1e-6, [0.0; 2], 1e-6);
        for pair in self.dots.windows(2) {
            let (a, b) = (pair[0], pair[1]);
            if !b.lifted {
                let (dx, dy) = (b.x - a.x, b.y - a.y);
                let step = (dx * dx + dy * dy).sqrt();
                let m = step * (a.radius + b.radius);
                length += step * scale;
                mass += m;
                moment[0] += m * (a.x + b.x) * 0.5;
                moment[1] += m * (a.y + b.y) * 0.5;
            }
        }
        // Nobody writes a small or crowded digit with so thick a pen that its loops fill:
        // the pen is made thinner where much way lies in little room.
        let room = (0..2).fold(1.0, |area, k| area * ((high[k] - low[k]) * scale + 4.0));
        let thin = (0.28 * room / (length * radius)).min(1.0);
        let middle = (SIDE as f32 - 1.0) * 0.5;
        let [tx, ty] = [0.75 * draws.spread(), 0.75 * draws.spread()];
        for dot in &mut self.dots {
            dot.x = (dot.x - moment[0] / mass) * scale + middle + tx;
            dot.y = (dot.y - moment[1] / mass) * scale + middle + ty;
            dot.radius *= thin;
        }
    }

    /// Moves a round pen with an edge `soft` pixels wide from dot to dot; where it
    /// passes twice, the darker passage counts.
    fn rasterise(&mut self, soft: f32) {
        let top = SIDE as f32 - 1.0;
        for pair in self.dots.windows(2) {
            let (a, b) = (pair[0], pair[1]);
            if b.lifted {
                continue;
            }
            let reach = a.radius.max(b.radius) + soft;
            // Clamped to the image before the cast, so a digit that leaves it is cut off.
            let from = |v: f32| (v - reach).ceil().clamp(0.0, top + 1.0) as usize;
            let to = |v: f32| ((v + reach).floor().clamp(-1.0, top) + 1.0) as usize;
            let (x0, x1) = (from(a.x.min(b.x)), to(a.x.max(b.x)));
            let (y0, y1) = (from(a.y.min(b.y)), to(a.y.max(b.y)));
            let (dx, dy) = (b.x - a.x, b.y - a.y);
            let scale = 1.0 / (dx * dx + dy * dy).max(1e-9);
            for y in y0..y1 {
                let py = y as f32 - a.y;
                for x in x0..x1 {
                    let px = x as f32 - a.x;
                    let t = ((px * dx + py * dy) * scale).clamp(0.0, 1.0);
                    let (qx, qy) = (px - t * dx, py - t * dy);
                    let square = qx * qx + qy * qy;
                    if square < reach * reach {
                        let radius = a.radius + t * (b.radius - a.radius);
                        let flow = a.flow + t * (b.flow - a.flow);
                        let depth = 0.5 + (radius - square.sqrt()) / (2.0 * soft);
                        let ink = &mut self.ink[y * SIDE + x];
                        *ink = ink.max(flow * depth.clamp(0.0, 1.0));
                    }
                }
            }
        }
    }

    /// Makes the ink uneven; the background stays clean.
    fn roughen(&mut self, draws: &mut Draws) {
        let (strength, grain) = (draws.between(0.92, 1.0), draws.between(0.0, 0.16));
        for ink in self.ink.iter_mut().filter(|v| **v > 0.0) {
            *ink *= strength * (1.0 - grain * rng::uniform(draws.word()));
        }
    }
}

/// One of a digit's glyphs, by weight.
fn choose<'a>(glyphs: &'a [Glyph], draws: &mut Draws) -> &'a Glyph {
    let total = glyphs.iter().map(|g| u32::from(g.weight)).sum();
    let mut left = draws.below(total);
    for glyph in glyphs {
        let weight = u32::from(glyph.weight);
        if left < weight {
            return glyph;
        }
        left -= weight;
    }
    // Not reached: `left` is below the sum of the weights.
    &glyphs[0]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// FNV-1a, 64 bits.
    fn fnv(bytes: &[u8]) -> u64 {
        bytes.iter().fold(0xCBF2_9CE4_8422_2325, |hash, b| {
            (hash ^ u64::from(*b)).wrapping_mul(0x0100_0000_01B3)
        })
    }

    /// The bytes are part of the crate's contract: a change here changes every number
    /// that was ever reported on the synthetic digits.
    #[test]
    fn pixels_are_pinned() {
        let images = generate(28, Part::Train, 100).unwrap();
        assert_eq!(fnv(&images.pixels), 0xA386_1838_92D7_6B3A);
        assert_eq!(images.labels[..10], [3, 2, 4, 5, 6, 7, 9, 0, 1, 8]);
    }

    #[test]
    fn a_digit_does_not_depend_on_how_many_are_generated() {
        let many = generate(5, Part::Test, 1000).unwrap();
        for count in [1, 10, 13] {
            let few = generate(5, Part::Test, count).unwrap();
            assert_eq!(few, many.first(count).unwrap());
        }
    }

    #[test]
    fn seeds_and_parts_differ() {
        let of = |seed, part| generate(seed, part, 20).unwrap().pixels;
        let all = [
            of(1, Part::Train),
            of(1, Part::Validation),
            of(1, Part::Test),
            of(2, Part::Train),
            of(1 << 32, Part::Train),
        ];
        for (i, a) in all.iter().enumerate() {
            assert!(all[..i].iter().all(|b| a != b));
        }
    }

    #[test]
    fn classes_are_balanced_and_mixed() {
        let labels = generate(9, Part::Train, 500).unwrap().labels;
        let mut places = [[0; CLASSES]; CLASSES];
        for block in labels.chunks(CLASSES) {
            let mut sorted = block.to_vec();
            sorted.sort_unstable();
            assert_eq!(sorted, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
            for (place, label) in block.iter().enumerate() {
                places[place][usize::from(*label)] += 1;
            }
        }
        // 50 blocks: each class stands at each place about five times.
        assert!(places.iter().flatten().all(|n| *n <= 17));
    }

    #[test]
    fn digits_are_framed_like_handwriting() {
        let images = generate(11, Part::Train, 500).unwrap();
        let mut filled = 0;
        for i in 0..images.len() {
            let image = images.image(i);
            let (mut mass, mut moment, mut border) = (0.0, [0.0; 2], 0);
            for (at, v) in image.iter().enumerate() {
                let (x, y, v) = (at % SIDE, at / SIDE, f64::from(*v));
                mass += v;
                moment[0] += v * x as f64;
                moment[1] += v * y as f64;
                border += u32::from(v > 0.0 && (x % (SIDE - 1) == 0 || y % (SIDE - 1) == 0));
            }
            filled += image.iter().filter(|v| **v > 0).count();
            assert!(image.iter().any(|v| *v > 150), "{i} is faint");
            assert!(
                moment.iter().all(|m| (m / mass - 13.5).abs() < 3.5),
                "{i} is off"
            );
            assert!(border < 12, "{i} is cut off");
        }
        let share = filled as f64 / images.pixels.len() as f64;
        assert!(
            (0.12..0.25).contains(&share),
            "{share} of the pixels are ink"
        );
    }

    #[test]
    fn absurd_numbers_are_refused() {
        let message = |n| generate(1, Part::Train, n).unwrap_err().to_string();
        let place = "number of synthetic digits: found";
        assert_eq!(message(0), format!("{place} 0; wanted at least 1"));
        let n = usize::MAX;
        let start = format!("{place} {n}; wanted at most ");
        assert!(message(n).starts_with(&start), "{}", message(n));
    }
}

//! Counter-based random numbers: Philox4x32-10.
//!
//! A random number is a pure function of *where it is used*, so nothing has to be
//! saved or uploaded: `(seed, step)` is the whole state, and the same integers come out
//! of this file and of its twin `shaders/shared/rng.wgsl`.
//!
//! Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
//! The 64-bit key is the seed; the 128-bit counter is `(index, step, stream, replica)`.

/// First multiplier of Philox4x32.
const M0: u32 = 0xD251_1F53;
/// Second multiplier of Philox4x32.
const M1: u32 = 0xCD9E_8D57;
/// Weyl constants that advance the key each round.
const W: [u32; 2] = [0x9E37_79B9, 0xBB67_AE85];

/// Philox4x32 with ten rounds.
///
/// ```
/// // A published known answer (Random123's kat_vectors).
/// let zero = wgrad::rng::philox4x32([0; 4], [0; 2]);
/// assert_eq!(zero, [0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8]);
/// ```
pub fn philox4x32(counter: [u32; 4], key: [u32; 2]) -> [u32; 4] {
    let (mut c, mut k) = (counter, key);
    for _ in 0..10 {
        let p0 = u64::from(M0) * u64::from(c[0]);
        let p1 = u64::from(M1) * u64::from(c[2]);
        c = [
            (p1 >> 32) as u32 ^ c[1] ^ k[0],
            p1 as u32,
            (p0 >> 32) as u32 ^ c[3] ^ k[1],
            p0 as u32,
        ];
        k = [k[0].wrapping_add(W[0]), k[1].wrapping_add(W[1])];
    }
    c
}

/// Blocks of four words that [`Stream::many_words`] gives at once.
pub const BLOCKS: usize = 16;

/// [`philox4x32`] of counters that differ in their first word alone, `first` and those
/// after it: the same arithmetic side by side, one block in each lane of a register.
#[inline(always)]
fn philox_blocks(first: u32, [c1, c2, c3]: [u32; 3], key: [u32; 2]) -> [[u32; 4]; BLOCKS] {
    let mut c = [[0; BLOCKS], [c1; BLOCKS], [c2; BLOCKS], [c3; BLOCKS]];
    for (lane, c) in c[0].iter_mut().enumerate() {
        *c = first.wrapping_add(lane as u32);
    }
    let mut k = key;
    for _ in 0..10 {
        let [c0, c1, c2, c3] = &mut c;
        for (((c0, c1), c2), c3) in c0.iter_mut().zip(c1).zip(c2).zip(c3) {
            let p0 = u64::from(M0) * u64::from(*c0);
            let p1 = u64::from(M1) * u64::from(*c2);
            *c0 = (p1 >> 32) as u32 ^ *c1 ^ k[0];
            *c2 = (p0 >> 32) as u32 ^ *c3 ^ k[1];
            *c1 = p1 as u32;
            *c3 = p0 as u32;
        }
        k = [k[0].wrapping_add(W[0]), k[1].wrapping_add(W[1])];
    }
    std::array::from_fn(|lane| c.map(|word| word[lane]))
}

/// [`philox_blocks`] compiled for the registers that the machine has.
struct Blocks {
    first: u32,
    rest: [u32; 3],
    key: [u32; 2],
}

impl pulp::WithSimd for Blocks {
    type Output = [[u32; 4]; BLOCKS];

    #[inline(always)]
    fn with_simd<S: pulp::Simd>(self, _: S) -> Self::Output {
        philox_blocks(self.first, self.rest, self.key)
    }
}

/// A uniform number in `[0, 1)` with 24 random bits: exact in `f32`, so equal everywhere.
pub fn uniform(bits: u32) -> f32 {
    (bits >> 8) as f32 * (1.0 / 16_777_216.0)
}

/// Two independent standard normal numbers from two words, by Box and Muller (1958).
///
/// Logarithm, sine and cosine are polynomials written out here and in the WGSL twin,
/// because WGSL's own `cos` may be wrong by 2⁻¹¹; what remains between devices is the
/// rounding of a handful of multiply-adds (about 1e-6 relative).
pub fn normal_pair(a: u32, b: u32) -> [f32; 2] {
    // (0, 1]: the logarithm's argument is never zero.
    let u = ((a >> 8) + 1) as f32 * (1.0 / 16_777_216.0);
    let radius = (-2.0 * ln_unit(u)).sqrt();
    // The top two bits are the quadrant, the rest an angle within ±π/4 of its middle.
    let quadrant = b >> 30;
    let t = ((b >> 6) & 0x00FF_FFFF) as f32 * (1.0 / 16_777_216.0) - 0.5;
    let (s, c) = sin_cos_half_pi(t);
    let (x, y) = match quadrant {
        0 => (c, s),
        1 => (-s, c),
        2 => (-c, -s),
        _ => (s, -c),
    };
    [radius * x, radius * y]
}

/// `ln u` for `u` in (0, 1]: exponent and mantissa apart, the latter by the series of
/// `2 artanh((m - 1)/(m + 1))` with `m` in [√½, √2).
fn ln_unit(u: f32) -> f32 {
    let bits = u.to_bits();
    let mut e = (bits >> 23) as i32 - 127;
    let mut m = f32::from_bits((bits & 0x007F_FFFF) | 0x3F80_0000);
    if m > std::f32::consts::SQRT_2 {
        m *= 0.5;
        e += 1;
    }
    let r = (m - 1.0) / (m + 1.0);
    let r2 = r * r;
    let series =
        r * (2.0 + r2 * (0.666_666_7 + r2 * (0.4 + r2 * (0.285_714_3 + r2 * 0.222_222_22))));
    series + e as f32 * std::f32::consts::LN_2
}

/// `sin(t π/2)` and `cos(t π/2)` for `t` in [-½, ½), by their Taylor series.
fn sin_cos_half_pi(t: f32) -> (f32, f32) {
    let x = t * std::f32::consts::FRAC_PI_2;
    let x2 = x * x;
    let s = x
        * (1.0
            + x2 * (-0.166_666_67
                + x2 * (0.008_333_334 + x2 * (-0.000_198_412_7 + x2 * 2.755_732e-6))));
    let c =
        1.0 + x2 * (-0.5 + x2 * (0.041_666_668 + x2 * (-0.001_388_888_9 + x2 * 2.480_158_8e-5)));
    (s, c)
}

/// One stream of random words: a seed, a replica and a purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stream {
    /// The run's seed as two words, low first.
    pub seed: [u32; 2],
    /// The replica's identity (not its position in this run).
    pub replica: u32,
    /// What the numbers are for; see [`streams`].
    pub stream: u32,
}

impl Stream {
    /// The stream `stream` of the replica whose key words ([`keys`]) these are.
    pub fn of_keys(keys: &[u32], stream: u32) -> Self {
        Self {
            seed: [keys[0], keys[1]],
            replica: keys[2],
            stream,
        }
    }

    /// The words at `(step, first)` and the indices after it: what [`Stream::words`] gives
    /// one by one.
    pub fn many_words(&self, step: u32, first: u32) -> [[u32; 4]; BLOCKS] {
        pulp::Arch::new().dispatch(Blocks {
            first,
            rest: [step, self.stream, self.replica],
            key: self.seed,
        })
    }

    /// The four words at `(step, index)`.
    pub fn words(&self, step: u32, index: u32) -> [u32; 4] {
        philox4x32([index, step, self.stream, self.replica], self.seed)
    }
}

/// Who draws from which stream. Numbers are spaced so that layers can be added to each.
pub mod streams {
    /// The epoch's permutation; `+ round` of its Feistel network.
    pub const SHUFFLE: u32 = 0x0100;
    /// Initial parameters; `+` the parameter's number in the network.
    pub const INIT: u32 = 0x1_0000;
    /// Dropout masks; `+` the layer's number in the network.
    pub const DROPOUT: u32 = 0x2_0000;
    /// Which launch the sentinel looks at.
    pub const SENTINEL: u32 = 0x0200;
    /// What stands in the buffers that variants are timed on.
    pub const TUNING: u32 = 0x0400;
    /// Which training images are held back for validation.
    pub const SPLIT: u32 = 0x0500;
    /// Where epochs of data in shards begin, and the order of the shards.
    pub const SHARDS: u32 = 0x0700;
    /// How examples of a mini-batch are mixed.
    pub const MIXUP: u32 = 0x0800;
    /// Characters that a model of a text draws, by place.
    pub const SAMPLE: u32 = 0x0600;
    /// Distortion of mini-batches.
    pub const DISTORT: u32 = 0x0300;
    /// Distortion by a layer; `+` the layer's number in the network.
    pub const DISTORTIONS: u32 = 0x8_0000;
    /// Flips and crops of images; `+` the layer's number in the network.
    pub const AUGMENT: u32 = 0x5_0000;
    /// Squares and colours of pictures; `+` four times the layer's number in the network.
    pub const PICTURES: u32 = 0x10_0000;
    /// Noise that a training step draws; `+` twice the draw's number.
    pub const NOISE: u32 = 0x6_0000;
    /// The synthetic digits.
    pub const DIGITS: u32 = 0x3_0000;
    /// From here on every stream is a user's: draws of own expressions.
    pub const USER: u32 = 0x8000_0000;
}

/// Words of a replica's key on the device.
pub const KEYS: usize = 4;

/// A replica's key as it lies on the device: seed low, seed high, identity, unused.
pub fn keys(seed: u64, replica: u32) -> [u32; KEYS] {
    let [low, high] = key(seed);
    [low, high, replica, 0]
}

/// Splits a seed into the two key words.
pub fn key(seed: u64) -> [u32; 2] {
    [seed as u32, (seed >> 32) as u32]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn philox_known_answers() {
        // Random123 1.09, kat_vectors, philox4x32 10.
        let f = u32::MAX;
        assert_eq!(
            philox4x32([f; 4], [f; 2]),
            [0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd]
        );
        assert_eq!(
            philox4x32(
                [0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344],
                [0xa4093822, 0x299f31d0]
            ),
            [0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1]
        );
    }

    #[test]
    fn many_words_are_those_of_each_index() {
        let stream = Stream {
            seed: [0xa409_3822, 0x299f_31d0],
            replica: 3,
            stream: 9,
        };
        for first in [0, 5, u32::MAX - 7] {
            let each = std::array::from_fn(|i| stream.words(77, first.wrapping_add(i as u32)));
            assert_eq!(stream.many_words(77, first), each);
        }
    }

    #[test]
    fn polynomials_match_the_libraries() {
        for i in 1..=4096u32 {
            let u = i as f32 / 4096.0;
            let want = f64::from(u).ln();
            assert!((f64::from(ln_unit(u)) - want).abs() <= 3e-7 * want.abs().max(0.3));
            let t = i as f32 / 4096.0 - 0.5;
            let (s, c) = sin_cos_half_pi(t);
            let angle = f64::from(t) * std::f64::consts::FRAC_PI_2;
            assert!((f64::from(s) - angle.sin()).abs() < 2e-7);
            assert!((f64::from(c) - angle.cos()).abs() < 2e-7);
        }
    }

    #[test]
    fn normal_numbers_have_normal_moments() {
        let stream = Stream {
            seed: key(7),
            replica: 0,
            stream: streams::INIT,
        };
        let n = 100_000;
        let mut moments = [0.0f64; 4];
        for i in 0..n / 4 {
            let w = stream.words(0, i);
            for pair in [normal_pair(w[0], w[1]), normal_pair(w[2], w[3])] {
                for x in pair.map(f64::from) {
                    for (k, m) in moments.iter_mut().enumerate() {
                        *m += x.powi(k as i32 + 1) / f64::from(n);
                    }
                }
            }
        }
        // Five standard errors of each sample moment.
        let se = |var: f64| 5.0 * (var / f64::from(n)).sqrt();
        assert!(moments[0].abs() < se(1.0), "mean {}", moments[0]);
        assert!(
            (moments[1] - 1.0).abs() < se(2.0),
            "variance {}",
            moments[1]
        );
        assert!(moments[2].abs() < se(15.0), "third {}", moments[2]);
        assert!((moments[3] - 3.0).abs() < se(96.0), "fourth {}", moments[3]);
    }
}

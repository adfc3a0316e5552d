//! eˣ, logarithms, tanh and the error function in f32 without a branch or a call, for loops that the
//! compiler makes vector code of. Errors are below 2 units in the last place, sigmoid's below 3, and what
//! lies below the normal numbers counts as 0.
//!
//! Each takes its argument to a short interval and has a polynomial there. How: Cody and Waite (1980) and
//! the Cephes library (Moshier 1989); the error function beyond 1 as 1 − e^(−q) with a polynomial q
//! (Juffa, in NVIDIA's forums). The coefficients were found by Remez's algorithm for this file.
//! Nothing here is a fused multiplication: not every processor has one, and all are to give the same bits.

/// ln 2 in two parts: products of the first with the integers below 256 are exact.
const LN2: [f32; 2] = [0.693_359_4, -2.121_944_4e-4];

/// A polynomial, by Horner's rule; the highest power's coefficient comes first. Where a function waits for
/// it, terms stand in pairs instead (Estrin 1960), which wait for each other half as long.
macro_rules! polynomial {
    ($x:expr, $first:literal $(, $more:literal)*) => {{
        let x: f32 = $x;
        let y: f32 = $first;
        $(let y = y * x + $more;)*
        y
    }};
}

/// r, eʳ − 1 − r and, where an exponent has its bits, k: x = k ln 2 + r with |r| at most about ln √2.
#[inline(always)]
fn reduced(x: f32) -> (f32, f32, u32) {
    // 1.5 · 2²³: of a sum with it the last bits are the nearest integer.
    const SHIFT: f32 = 12_582_912.0;
    let shifted = x * std::f32::consts::LOG2_E + SHIFT;
    let k = shifted - SHIFT;
    let r = (x - k * LN2[0]) - k * LN2[1];
    let r2 = r * r;
    let low = (0.5 + r * 0.166_666_66) + r2 * (4.166_636e-2 + r * 8.333_39e-3);
    let high = 1.394_072e-3 + r * 1.984_588_6e-4;
    (r, r2 * (low + r2 * r2 * high), shifted.to_bits() << 23)
}

/// eˣ where it is a normal number.
#[inline(always)]
fn exp_within(x: f32) -> f32 {
    let (r, tail, k) = reduced(x);
    f32::from_bits((1.0 + (r + tail)).to_bits().wrapping_add(k))
}

/// eˣ.
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    let y = exp_within(x);
    let y = if x > 88.722_83 { f32::INFINITY } else { y };
    let y = if x < -87.336_54 { 0.0 } else { y };
    if x.is_nan() { x } else { y }
}

/// eˣ − 1.
#[inline(always)]
pub(crate) fn exp_m1(x: f32) -> f32 {
    let (r, tail, k) = reduced(x);
    let power = f32::from_bits(1f32.to_bits().wrapping_add(k));
    let y = power * (r + tail) + (power - 1.0);
    let y = if x > 20.0 { exp(x) } else { y };
    let y = if x < -20.0 { -1.0 } else { y };
    if x.is_nan() { x } else { y.copysign(x) }
}

/// The natural logarithm.
#[inline(always)]
pub(crate) fn ln(x: f32) -> f32 {
    const ROOT_HALF: u32 = std::f32::consts::FRAC_1_SQRT_2.to_bits();
    let small = x < f32::MIN_POSITIVE;
    let bits = if small { x * 8_388_608.0 } else { x }.to_bits();
    // x = 2ᵏ (1 + f) with 1 + f between √½ and √2.
    let k = (bits.wrapping_sub(ROOT_HALF) as i32) >> 23;
    let f = f32::from_bits(bits.wrapping_sub((k << 23) as u32)) - 1.0;
    let k = k as f32 - if small { 23.0 } else { 0.0 };
    let f2 = f * f;
    let tail = polynomial!(
        f,
        6.746_634e-2,
        -0.116_756_454,
        0.118_881_62,
        -0.124_055_9,
        0.142_195_53,
        -0.166_679_96,
        0.200_021_19,
        -0.250_000_1,
        0.333_333_13
    );
    let y = f + (f * f2 * tail + k * LN2[1] - 0.5 * f2) + k * LN2[0];
    let y = if x <= 0.0 { f32::NAN } else { y };
    let y = if x == 0.0 { f32::NEG_INFINITY } else { y };
    if x < f32::INFINITY { y } else { x }
}

/// ln(1 + x).
#[inline(always)]
pub(crate) fn ln_1p(x: f32) -> f32 {
    let sum = 1.0 + x;
    // What the sum has lost.
    let (of_x, of_one) = (x - (sum - 1.0), 1.0 - (sum - x));
    let lost = if x < 1.0 { of_x } else { of_one };
    let y = ln(sum) + lost / sum;
    let y = if x == -1.0 { f32::NEG_INFINITY } else { y };
    if x < f32::INFINITY { y.copysign(x) } else { x }
}

/// 1 / (1 + e⁻ˣ).
#[inline(always)]
pub(crate) fn sigmoid(x: f32) -> f32 {
    // e⁻ˣ may become infinite; the quotient is then 0, as it should be.
    1.0 / (1.0 + exp(-x))
}

/// tanh x, near 0 by a polynomial.
#[inline(always)]
pub(crate) fn tanh(x: f32) -> f32 {
    let (size, x2) = (x.abs(), x * x);
    let near = size
        + size
            * x2
            * polynomial!(
                x2,
                -5.660_789e-3,
                2.060_200_8e-2,
                -5.372_923e-2,
                0.133_313_29,
                -0.333_332_78
            );
    let far = 1.0 - 2.0 / (1.0 + exp(2.0 * size));
    if size < 0.625 { near } else { far }.copysign(x)
}

/// The error function.
#[inline(always)]
pub(crate) fn erf(x: f32) -> f32 {
    let (size, x2) = (x.abs(), x * x);
    let x4 = x2 * x2;
    let low = (0.128_379_17 + x2 * -0.376_126_26) + x4 * (0.112_835_85 + x2 * -2.685_381_2e-2);
    let high = (5.188_327_7e-3 + x2 * -8.010_193_5e-4) + x4 * 7.853_861e-5;
    let near = size + size * (low + x4 * x4 * high);
    // Beyond 4 it is 1.
    let held = if size > 4.0 { 4.0 } else { size };
    let h2 = held * held;
    let low = (3.004_400_4e-4 + held * 1.127_251_4) + h2 * (0.637_883_2 + held * 0.103_327_27);
    let high = (-2.194_039_2e-2 + held * 2.972_432e-3) + h2 * -1.888_225_6e-4;
    let far = 1.0 - exp_within(-(low + h2 * h2 * high));
    let y = if size < 1.0 { near } else { far }.copysign(x);
    if x.is_nan() { x } else { y }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Name, function, truth, and the units of the last place that it may be off by.
    type Function = (&'static str, fn(f32) -> f32, fn(f64) -> f64, f64);

    fn wide_sigmoid(x: f64) -> f64 {
        1.0 / (1.0 + (-x).exp())
    }

    const ALL: [Function; 7] = [
        ("exp", exp, f64::exp, 2.0),
        ("exp_m1", exp_m1, f64::exp_m1, 2.0),
        ("ln", ln, f64::ln, 2.0),
        ("ln_1p", ln_1p, f64::ln_1p, 2.0),
        ("sigmoid", sigmoid, wide_sigmoid, 3.0),
        ("tanh", tanh, f64::tanh, 2.0),
        ("erf", erf, libm::erf, 2.0),
    ];

    /// How far a result is from what is wanted, in units of the last place of f32.
    fn off(found: f32, wanted: f64) -> f64 {
        let nearest = wanted as f32;
        if nearest.is_nan() || nearest.is_infinite() {
            // Within an ulp of the largest number either is right.
            let edge = wanted.is_finite() && found.abs() == f32::MAX;
            let same = edge || found == nearest || (found.is_nan() && nearest.is_nan());
            return if same { 0.0 } else { f64::INFINITY };
        }
        if wanted.abs() < f64::from(f32::MIN_POSITIVE) {
            // Below the normal numbers anything is as good as 0.
            let small = found.abs() <= f32::MIN_POSITIVE;
            return if small { 0.0 } else { f64::INFINITY };
        }
        let size = f32::from_bits(nearest.abs().to_bits() & 0xff80_0000);
        (f64::from(found) - wanted).abs() / (f64::from(size) * f64::from(f32::EPSILON))
    }

    #[test]
    fn as_exact_as_f32_allows() {
        // Where sigmoid is off by 2.43 and 2.11.
        let found = [0xc185_1a0e, 0xc185_91f1].map(f32::from_bits);
        for (name, f, truth, most) in ALL {
            let all = (0..=u32::MAX).step_by(9973).map(f32::from_bits);
            let near = (0..400_000).map(|i| (i as f32 - 200_000.0) * 5.1e-5);
            for x in all.chain(near).chain(found) {
                let off = off(f(x), truth(f64::from(x)));
                assert!(off < most, "{name}({x:e}) = {:e}: off by {off} ulp", f(x));
            }
        }
    }

    #[test]
    fn ends_zeros_and_what_is_no_number() {
        let ends = [0.0, 1.0, f32::INFINITY, f32::MAX, f32::MIN_POSITIVE, 1e-40];
        for (name, f, truth, _) in ALL {
            for x in ends.into_iter().flat_map(|x| [x, -x]) {
                let off = off(f(x), truth(f64::from(x)));
                assert!(off < 1.0, "{name}({x:e}) = {:e}: off by {off} ulp", f(x));
            }
            // NaN with any bits.
            for bits in [0x7fc0_0000u32, 0xffff_ffff, 0x7f80_0001, 0xffc0_0155] {
                assert!(f(f32::from_bits(bits)).is_nan(), "{name} of {bits:x}");
            }
            if f(0.0) == 0.0 {
                assert!(f(-0.0).is_sign_negative(), "{name}");
            }
        }
        assert_eq!(
            (exp(0.0), exp(88.722_84), exp(-104.0)),
            (1.0, f32::INFINITY, 0.0)
        );
        assert_eq!((tanh(20.0), erf(-5.0), ln(1.0)), (1.0, -1.0, 0.0));
    }
}

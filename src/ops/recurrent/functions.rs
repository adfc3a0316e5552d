//! σ and tanh without a branch, for loops that the compiler makes vector code of.

/// eˣ for |x| ≤ 87: 2ᵏ eʳ with k the integer nearest to x / ln 2 and a polynomial for eʳ.
#[inline(always)]
fn exponential(x: f32) -> f32 {
    // 1.5 · 2²³: of a sum with it the last bits are the nearest integer.
    const SHIFT: f32 = 12_582_912.0;
    let shifted = x * std::f32::consts::LOG2_E + SHIFT;
    let k = shifted - SHIFT;
    // ln 2 in two parts, the first exact in few bits.
    let r = (x - k * 0.693_359_4) - k * -2.121_944_4e-4;
    let tail = 4.166_579_6e-2 + r * (8.333_452e-3 + r * (1.398_2e-3 + r * 1.987_569_1e-4));
    let p = 1.0 + r + r * r * (0.5 + r * (1.666_666_5e-1 + r * tail));
    f32::from_bits(p.to_bits().wrapping_add(shifted.to_bits() << 23))
}

/// 1/(1 + e⁻ˣ).
#[inline(always)]
pub(super) fn sigmoid(x: f32) -> f32 {
    let y = 1.0 / (1.0 + exponential((-x).clamp(-87.0, 87.0)));
    if x.is_nan() { x } else { y }
}

/// tanh x, near 0 by its series.
#[inline(always)]
pub(super) fn tanh(x: f32) -> f32 {
    let x2 = x * x;
    let tail = -0.053_968_254 + x2 * (0.021_869_49 + x2 * -0.008_863_236);
    let near = x + x * x2 * (-0.333_333_34 + x2 * (0.133_333_34 + x2 * tail));
    let size = x.abs();
    let far = 1.0 - 2.0 / (1.0 + exponential((2.0 * size).clamp(0.0, 40.0)));
    let y = if size < 0.3 { near } else { far }.copysign(x);
    if x.is_nan() { x } else { y }
}

#[cfg(test)]
mod tests {
    #[test]
    fn as_exact_as_f32_allows() {
        for i in -40_000..=40_000 {
            let x = i as f32 * 2.1e-3;
            let wide = f64::from(x);
            for (found, wanted) in [
                (super::sigmoid(x), 1.0 / (1.0 + (-wide).exp())),
                (super::tanh(x), wide.tanh()),
                (super::tanh(x * 1e-2), (f64::from(x * 1e-2)).tanh()),
            ] {
                let off = (f64::from(found) - wanted).abs();
                assert!(
                    off <= 5e-7 * wanted.abs() + 1e-38,
                    "{x}: {found}, not {wanted}"
                );
            }
        }
    }

    #[test]
    fn ends_and_what_is_no_number() {
        let inf = f32::INFINITY;
        assert_eq!((super::tanh(inf), super::tanh(-inf)), (1.0, -1.0));
        assert_eq!(super::sigmoid(inf), 1.0);
        assert!(super::sigmoid(-inf) < 1e-30);
        assert!(super::tanh(-0.0).is_sign_negative());
        assert!(super::tanh(f32::NAN).is_nan() && super::sigmoid(-f32::NAN).is_nan());
    }
}

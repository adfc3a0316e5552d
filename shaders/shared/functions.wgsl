// The functions of expressions (src/expr), over the types Float, Word, Whole and B: f32, u32, i32 and bool, or
// four of each. Twins of src/expr/scalar.rs. WGSL lets a compiler assume that nothing is NaN or
// infinite, so what tells such numbers apart asks for their bits.

fn nan_in(x: Float) -> Truth {
    return (bitcast<Word>(x) << Word(1u)) > Word(0xFF000000u);
}

fn not_a_number(x: Float) -> Float {
    return bitcast<Float>(bitcast<Word>(x) | Word(0x7FC00000u));
}

// `value`, or NaN where x is.
fn keep_nan(value: Float, x: Float) -> Float {
    return select(value, x, nan_in(x));
}

// 0 x: NaN where x is not finite.
fn zero_of(x: Float) -> Float {
    return select(Float(0.0), not_a_number(x), (bitcast<Word>(x) << Word(1u)) >= Word(0xFF000000u));
}

fn is_less(a: Float, b: Float) -> Truth {
    return (a < b) & !(nan_in(a) | nan_in(b));
}

fn is_at_most(a: Float, b: Float) -> Truth {
    return (a <= b) & !(nan_in(a) | nan_in(b));
}

fn is_equal(a: Float, b: Float) -> Truth {
    return (a == b) & !(nan_in(a) | nan_in(b));
}

// NaN counts as the largest number, and as the smallest: it goes on.
fn larger_of(a: Float, b: Float) -> Float {
    return select(a, b, ((b > a) | nan_in(b)) & !nan_in(a));
}

fn smaller_of(a: Float, b: Float) -> Float {
    return select(a, b, ((b < a) | nan_in(b)) & !nan_in(a));
}

fn sign_of(x: Float) -> Float {
    return keep_nan(select(Float(0.0), select(Float(-1.0), Float(1.0), x > Float(0.0)), x != Float(0.0)), x);
}

// max(x, 0). As signed integers all negative numbers down to -inf, 0xFF800000, lie below what is
// NaN with a sign.
fn rectify(x: Float) -> Float {
    let bits = bitcast<Whole>(x);
    return bitcast<Float>(select(Whole(0i), bits, bits > Whole(-8388608i)));
}

fn uniform_in(words: Word) -> Float {
    return Float(words >> Word(8u)) * Float(1.0 / 16777216.0);
}

fn exponential(x: Float) -> Float {
    return keep_nan(exp(x), x);
}

// Near 0 by the series of x/1 (1 + x/2 (1 + x/3 (…))), whose first term left out is below 1e-8.
fn exponential_less_one(x: Float) -> Float {
    var series = Float(1.0);
    for (var n = 9; n > 1; n--) {
        series = Float(1.0) + x * series / Float(f32(n));
    }
    return keep_nan(select(exp(x) - Float(1.0), x * series, abs(x) < Float(0.5)), x);
}

fn logarithm(x: Float) -> Float {
    let negative = select(log(x), not_a_number(x), x < Float(0.0));
    let infinite = bitcast<Float>(bitcast<Word>(x) | Word(0xFF800000u));
    let finite = select(negative, infinite, x == Float(0.0));
    // Infinity stays, and so does NaN.
    return select(finite, x, (bitcast<Word>(x) >= Word(0x7F800000u)) & !(x < Float(0.0)));
}

// ln(1 + x) = 2 artanh(x/(2 + x)); from ½ on, where 1 + x loses nothing that counts, by log.
fn logarithm_of_one_and(x: Float) -> Float {
    let r = x / (Float(2.0) + x);
    let r2 = r * r;
    var series = Float(0.0);
    for (var n = 15; n > 0; n -= 2) {
        series = series * r2 + Float(1.0 / f32(n));
    }
    return keep_nan(select(logarithm(Float(1.0) + x), Float(2.0) * r * series, abs(x) < Float(0.5)), x);
}

fn root(x: Float) -> Float {
    return keep_nan(select(sqrt(x), not_a_number(x), x < Float(0.0)), x);
}

fn inverse_root(x: Float) -> Float {
    return keep_nan(select(inverseSqrt(x), not_a_number(x), x < Float(0.0)), x);
}

fn hyperbolic_tangent(x: Float) -> Float {
    let e = exponential_less_one(Float(-2.0) * min(abs(x), Float(20.0)));
    return keep_nan(sign(x) * (-e / (Float(2.0) + e)), x);
}

// Exponents are kept small; the clamped results round to the same f32 or to a number near its smallest.
fn logistic(x: Float) -> Float {
    return keep_nan(Float(1.0) / (Float(1.0) + exp(-clamp(x, Float(-80.0), Float(80.0)))), x);
}

fn softplus(x: Float) -> Float {
    return keep_nan(logarithm_of_one_and(exp(-min(abs(x), Float(100.0)))) + rectify(x), x);
}

// Near 0 by Taylor's series; elsewhere Abramowitz and Stegun 7.1.26, off by 1.5e-7.
fn error_function(x: Float) -> Float {
    let x2 = x * x;
    let near = x * Float(1.1283792) * (Float(1.0) + x2 * (Float(-0.33333333) + x2 * (Float(0.1) + x2 * (Float(-0.023809524)
        + x2 * (Float(0.0046296296) + x2 * Float(-0.00075757576))))));
    let size = min(abs(x), Float(9.0));
    let t = Float(1.0) / (Float(1.0) + Float(0.3275911) * size);
    let p = t * (Float(0.254829592) + t * (Float(-0.284496736) + t * (Float(1.421413741) + t * (Float(-1.453152027)
        + t * Float(1.061405429)))));
    let far = sign(x) * (Float(1.0) - p * exp(-size * size));
    return keep_nan(select(far, near, size < Float(0.5)), x);
}

// The angle's distance from the nearest multiple of π/2, which is taken off in three parts (Cody
// and Waite), and that multiple.
struct Reduced {
    rest: Float,
    quarter: Whole,
}

fn reduced(x: Float) -> Reduced {
    let k = round(x * Float(0.63661977));
    let rest = ((x - k * Float(1.5703125)) - k * Float(4.8375130e-4)) - k * Float(7.5497899e-8);
    return Reduced(rest, Whole(k) & Whole(3i));
}

fn sine_near(x: Float) -> Float {
    let x2 = x * x;
    return x * (Float(1.0) + x2 * (Float(-0.16666667) + x2 * (Float(0.008333334) + x2 * (Float(-0.0001984127) + x2 * Float(2.755732e-6)))));
}

fn cosine_near(x: Float) -> Float {
    let x2 = x * x;
    return Float(1.0) + x2 * (Float(-0.5) + x2 * (Float(0.041666668) + x2 * (Float(-0.0013888889) + x2 * Float(2.4801588e-5))));
}

fn turned(x: Float, quarters: i32) -> Float {
    let r = reduced(x);
    let quarter = (r.quarter + Whole(quarters)) & Whole(3i);
    let size = select(sine_near(r.rest), cosine_near(r.rest), (quarter & Whole(1i)) == Whole(1i));
    let turn = select(size, -size, quarter >= Whole(2i));
    // No angle is infinite.
    return select(turn, not_a_number(x), (bitcast<Word>(x) << Word(1u)) >= Word(0xFF000000u));
}

fn sine(x: Float) -> Float {
    return turned(x, 0i);
}

fn cosine(x: Float) -> Float {
    return turned(x, 1i);
}

// A negative number has powers by integers alone. Beyond 2^200 a power is infinite or 0.
fn power(x: Float, y: Float) -> Float {
    let size = exp2(clamp(y * (logarithm(abs(x)) * Float(1.44269504)), Float(-200.0), Float(200.0)));
    let whole = floor(y) == y;
    let odd = floor(y * Float(0.5)) * Float(2.0) != y;
    let infinite = (bitcast<Word>(x) << Word(1u)) == Word(0xFF000000u);
    let broken = select(not_a_number(x), size, infinite);
    let negative = select(broken, select(size, -size, odd), whole);
    let zero = select(select(Float(0.0), Float(1.0), y == Float(0.0)), Float(1.0) / abs(x), y < Float(0.0));
    let value = select(select(size, negative, x < Float(0.0)), zero, x == Float(0.0));
    return select(keep_nan(keep_nan(value, x), y), Float(1.0), (y == Float(0.0)) | (x == Float(1.0)));
}

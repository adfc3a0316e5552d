// The functions of expressions (src/expr), over the types F, U, I and B: f32, u32, i32 and bool, or
// four of each. Twins of src/expr/scalar.rs. WGSL lets a compiler assume that nothing is NaN or
// infinite, so what tells such numbers apart asks for their bits.

fn nan_in(x: F) -> B {
    return (bitcast<U>(x) << U(1u)) > U(0xFF000000u);
}

fn not_a_number(x: F) -> F {
    return bitcast<F>(bitcast<U>(x) | U(0x7FC00000u));
}

// `value`, or NaN where x is.
fn keep_nan(value: F, x: F) -> F {
    return select(value, x, nan_in(x));
}

// 0 x: NaN where x is not finite.
fn zero_of(x: F) -> F {
    return select(F(0.0), not_a_number(x), (bitcast<U>(x) << U(1u)) >= U(0xFF000000u));
}

fn is_less(a: F, b: F) -> B {
    return (a < b) & !(nan_in(a) | nan_in(b));
}

fn is_at_most(a: F, b: F) -> B {
    return (a <= b) & !(nan_in(a) | nan_in(b));
}

fn is_equal(a: F, b: F) -> B {
    return (a == b) & !(nan_in(a) | nan_in(b));
}

// NaN counts as the largest number, and as the smallest: it goes on.
fn larger_of(a: F, b: F) -> F {
    return select(a, b, ((b > a) | nan_in(b)) & !nan_in(a));
}

fn smaller_of(a: F, b: F) -> F {
    return select(a, b, ((b < a) | nan_in(b)) & !nan_in(a));
}

fn sign_of(x: F) -> F {
    return keep_nan(select(F(0.0), select(F(-1.0), F(1.0), x > F(0.0)), x != F(0.0)), x);
}

// max(x, 0). As signed integers all negative numbers down to -inf, 0xFF800000, lie below what is
// NaN with a sign.
fn rectify(x: F) -> F {
    let bits = bitcast<I>(x);
    return bitcast<F>(select(I(0i), bits, bits > I(-8388608i)));
}

fn uniform_in(words: U) -> F {
    return F(words >> U(8u)) * F(1.0 / 16777216.0);
}

fn exponential(x: F) -> F {
    return keep_nan(exp(x), x);
}

// Near 0 by the series of x/1 (1 + x/2 (1 + x/3 (…))), whose first term left out is below 1e-8.
fn exponential_less_one(x: F) -> F {
    var series = F(1.0);
    for (var n = 9; n > 1; n--) {
        series = F(1.0) + x * series / F(f32(n));
    }
    return keep_nan(select(exp(x) - F(1.0), x * series, abs(x) < F(0.5)), x);
}

fn logarithm(x: F) -> F {
    let negative = select(log(x), not_a_number(x), x < F(0.0));
    let infinite = bitcast<F>(bitcast<U>(x) | U(0xFF800000u));
    let finite = select(negative, infinite, x == F(0.0));
    // Infinity stays, and so does NaN.
    return select(finite, x, (bitcast<U>(x) >= U(0x7F800000u)) & !(x < F(0.0)));
}

// ln(1 + x) = 2 artanh(x/(2 + x)); from ½ on, where 1 + x loses nothing that counts, by log.
fn logarithm_of_one_and(x: F) -> F {
    let r = x / (F(2.0) + x);
    let r2 = r * r;
    var series = F(0.0);
    for (var n = 15; n > 0; n -= 2) {
        series = series * r2 + F(1.0 / f32(n));
    }
    return keep_nan(select(logarithm(F(1.0) + x), F(2.0) * r * series, abs(x) < F(0.5)), x);
}

fn root(x: F) -> F {
    return keep_nan(select(sqrt(x), not_a_number(x), x < F(0.0)), x);
}

fn inverse_root(x: F) -> F {
    return keep_nan(select(inverseSqrt(x), not_a_number(x), x < F(0.0)), x);
}

fn hyperbolic_tangent(x: F) -> F {
    let e = exponential_less_one(F(-2.0) * min(abs(x), F(20.0)));
    return keep_nan(sign(x) * (-e / (F(2.0) + e)), x);
}

// Exponents are kept small; the clamped results round to the same f32 or to a number near its smallest.
fn logistic(x: F) -> F {
    return keep_nan(F(1.0) / (F(1.0) + exp(-clamp(x, F(-80.0), F(80.0)))), x);
}

fn softplus(x: F) -> F {
    return keep_nan(logarithm_of_one_and(exp(-min(abs(x), F(100.0)))) + rectify(x), x);
}

// Near 0 by Taylor's series; elsewhere Abramowitz and Stegun 7.1.26, off by 1.5e-7.
fn error_function(x: F) -> F {
    let x2 = x * x;
    let near = x * F(1.1283792) * (F(1.0) + x2 * (F(-0.33333333) + x2 * (F(0.1) + x2 * (F(-0.023809524)
        + x2 * (F(0.0046296296) + x2 * F(-0.00075757576))))));
    let size = min(abs(x), F(9.0));
    let t = F(1.0) / (F(1.0) + F(0.3275911) * size);
    let p = t * (F(0.254829592) + t * (F(-0.284496736) + t * (F(1.421413741) + t * (F(-1.453152027)
        + t * F(1.061405429)))));
    let far = sign(x) * (F(1.0) - p * exp(-size * size));
    return keep_nan(select(far, near, size < F(0.5)), x);
}

// The angle's distance from the nearest multiple of π/2, which is taken off in three parts (Cody
// and Waite), and that multiple.
struct Reduced {
    rest: F,
    quarter: I,
}

fn reduced(x: F) -> Reduced {
    let k = round(x * F(0.63661977));
    let rest = ((x - k * F(1.5703125)) - k * F(4.8375130e-4)) - k * F(7.5497899e-8);
    return Reduced(rest, I(k) & I(3i));
}

fn sine_near(x: F) -> F {
    let x2 = x * x;
    return x * (F(1.0) + x2 * (F(-0.16666667) + x2 * (F(0.008333334) + x2 * (F(-0.0001984127) + x2 * F(2.755732e-6)))));
}

fn cosine_near(x: F) -> F {
    let x2 = x * x;
    return F(1.0) + x2 * (F(-0.5) + x2 * (F(0.041666668) + x2 * (F(-0.0013888889) + x2 * F(2.4801588e-5))));
}

fn turned(x: F, quarters: i32) -> F {
    let r = reduced(x);
    let quarter = (r.quarter + I(quarters)) & I(3i);
    let size = select(sine_near(r.rest), cosine_near(r.rest), (quarter & I(1i)) == I(1i));
    let turn = select(size, -size, quarter >= I(2i));
    // No angle is infinite.
    return select(turn, not_a_number(x), (bitcast<U>(x) << U(1u)) >= U(0xFF000000u));
}

fn sine(x: F) -> F {
    return turned(x, 0i);
}

fn cosine(x: F) -> F {
    return turned(x, 1i);
}

// A negative number has powers by integers alone. Beyond 2^200 a power is infinite or 0.
fn power(x: F, y: F) -> F {
    let size = exp2(clamp(y * (logarithm(abs(x)) * F(1.44269504)), F(-200.0), F(200.0)));
    let whole = floor(y) == y;
    let odd = floor(y * F(0.5)) * F(2.0) != y;
    let infinite = (bitcast<U>(x) << U(1u)) == U(0xFF000000u);
    let broken = select(not_a_number(x), size, infinite);
    let negative = select(broken, select(size, -size, odd), whole);
    let zero = select(select(F(0.0), F(1.0), y == F(0.0)), F(1.0) / abs(x), y < F(0.0));
    let value = select(select(size, negative, x < F(0.0)), zero, x == F(0.0));
    return select(keep_nan(keep_nan(value, x), y), F(1.0), (y == F(0.0)) | (x == F(1.0)));
}

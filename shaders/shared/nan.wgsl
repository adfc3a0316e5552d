// What is not a number, by its bits: WGSL lets a compiler assume that nothing is NaN, and then
// max() and clamp() drop it and comparisons are turned round. NaN counts as the largest number,
// the first of several, so that it goes on. Twins of `Real` in src/tensor.rs.

fn is_nan(x: f32) -> bool {
    return (bitcast<u32>(x) << 1u) > 0xFF000000u;
}

fn are_nan(x: vec4<f32>) -> vec4<bool> {
    return (bitcast<vec4<u32>>(x) << vec4(1u)) > vec4(0xFF000000u);
}

// Whether a candidate takes the place of the largest so far; of equal ones the first stays.
fn outdoes(candidate: f32, largest: f32) -> bool {
    return ((candidate > largest) | is_nan(candidate)) & !is_nan(largest);
}

fn outdo(candidates: vec4<f32>, largest: vec4<f32>) -> vec4<bool> {
    return ((candidates > largest) | are_nan(candidates)) & !are_nan(largest);
}

fn larger(a: f32, b: f32) -> f32 {
    return select(a, b, outdoes(b, a));
}

// max(x, 0). As signed integers all negative numbers down to -inf, 0xFF800000, lie below what is
// NaN with a sign.
fn rectified(x: f32) -> f32 {
    let bits = bitcast<i32>(x);
    return bitcast<f32>(select(0i, bits, bits > -8388608i));
}

// `value`, or NaN where x is.
fn unless_nan(value: f32, x: f32) -> f32 {
    return select(value, x, is_nan(x));
}

// `value`, or NaN where x is infinite or NaN.
fn if_finite(value: f32, x: f32) -> f32 {
    let bits = bitcast<u32>(x);
    return select(value, bitcast<f32>(bits | 0x7FC00000u), (bits << 1u) >= 0xFF000000u);
}

// 0 x. A compiler makes 0 of it, whatever x is.
fn zero_times(x: f32) -> f32 {
    return if_finite(0.0, x);
}

fn zero_times_four(x: vec4<f32>) -> vec4<f32> {
    return vec4(zero_times(x.x), zero_times(x.y), zero_times(x.z), zero_times(x.w));
}

// What is multiplied by a factor that is known when the pipeline is made, and may be 0.
fn times(factor: f32, x: f32) -> f32 {
    if factor == 0.0 {
        return zero_times(x);
    }
    return factor * x;
}

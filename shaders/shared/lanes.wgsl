// For kernels whose workgroup is one subgroup of VECTOR lanes (`Target::Lanes`): what one
// lane has loaded reaches the others without memory.
const VECTOR: u32 = 8u;

// Eight neighbours, loaded and stored as four words of 64 bits, since that costs what four
// of 32 do: those at even places and those at odd ones.
struct EightFloats {
    even: vec4<f32>,
    odd: vec4<f32>,
}

fn octet_of(words: vec4<u64>) -> EightFloats {
    return EightFloats(
        bitcast<vec4<f32>>(vec4<u32>(words)),
        bitcast<vec4<f32>>(vec4<u32>(words >> vec4(32u))),
    );
}

fn words_of(octet: EightFloats) -> vec4<u64> {
    return vec4<u64>(bitcast<vec4<u32>>(octet.even)) |
        (vec4<u64>(bitcast<vec4<u32>>(octet.odd)) << vec4(32u));
}

// Adds up two values over pairs of lanes that differ in `bit`: the lane with the bit
// clear gets the sum of the first, the other that of the second.
fn fold(first: f32, second: f32, lane: u32, bit: u32) -> f32 {
    let is_second = (lane & bit) != 0u;
    let kept = select(first, second, is_second);
    return kept + subgroupShuffleXor(select(second, first, is_second), bit);
}

// Lane l gets the sum of the l-th of eight values over all lanes.
fn sum_over_lanes(eight: array<vec4<f32>, 2>, lane: u32) -> f32 {
    let a = fold(eight[0].x, eight[0].y, lane, 1u);
    let b = fold(eight[0].z, eight[0].w, lane, 1u);
    let c = fold(eight[1].x, eight[1].y, lane, 1u);
    let d = fold(eight[1].z, eight[1].w, lane, 1u);
    return fold(fold(a, b, lane, 2u), fold(c, d, lane, 2u), lane, 4u);
}

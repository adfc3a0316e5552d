// Twin of src/rng.rs: Philox4x32-10 and what is made of its words. The kernel's own file
// declares `keys`, each replica's four words.

// The high word of a product, from products of half words.
fn mul_high(a: u32, b: u32) -> u32 {
    let a0 = a & 0xFFFFu;
    let a1 = a >> 16u;
    let b0 = b & 0xFFFFu;
    let b1 = b >> 16u;
    let middle = ((a0 * b0) >> 16u) + ((a0 * b1) & 0xFFFFu) + ((a1 * b0) & 0xFFFFu);
    return a1 * b1 + ((a0 * b1) >> 16u) + ((a1 * b0) >> 16u) + (middle >> 16u);
}

fn philox4x32(counter: vec4<u32>, key: vec2<u32>) -> vec4<u32> {
    var c = counter;
    var k = key;
    for (var round = 0u; round < 10u; round++) {
        c = vec4<u32>(
            mul_high(0xCD9E8D57u, c.z) ^ c.y ^ k.x,
            0xCD9E8D57u * c.z,
            mul_high(0xD2511F53u, c.x) ^ c.w ^ k.y,
            0xD2511F53u * c.x,
        );
        k += vec2<u32>(0x9E3779B9u, 0xBB67AE85u);
    }
    return c;
}

// The four words of a replica's stream at (step, index).
fn random_words(replica: u32, stream: u32, step: u32, index: u32) -> vec4<u32> {
    let at = replica * 4u;
    return philox4x32(
        vec4<u32>(index, step, stream, keys[at + 2u]),
        vec2<u32>(keys[at], keys[at + 1u]),
    );
}

fn uniform_of(bits: u32) -> f32 {
    return f32(bits >> 8u) * (1.0 / 16777216.0);
}

fn ln_unit(u: f32) -> f32 {
    let bits = bitcast<u32>(u);
    var e = i32(bits >> 23u) - 127;
    var m = bitcast<f32>((bits & 0x007FFFFFu) | 0x3F800000u);
    if m > 1.41421356 {
        m *= 0.5;
        e += 1;
    }
    let r = (m - 1.0) / (m + 1.0);
    let r2 = r * r;
    let series = r * (2.0 + r2 * (0.6666667 + r2 * (0.4 + r2 * (0.2857143 + r2 * 0.22222222))));
    return series + f32(e) * 0.69314718;
}

// Box and Muller; the polynomials are those of src/rng.rs.
fn normal_pair(a: u32, b: u32) -> vec2<f32> {
    let u = f32((a >> 8u) + 1u) * (1.0 / 16777216.0);
    let radius = sqrt(-2.0 * ln_unit(u));
    let t = f32((b >> 6u) & 0x00FFFFFFu) * (1.0 / 16777216.0) - 0.5;
    let x = t * 1.57079633;
    let x2 = x * x;
    let s = x * (1.0 + x2 * (-0.16666667 + x2 * (0.008333334 + x2 * (-0.0001984127 + x2 * 2.755732e-6))));
    let c = 1.0 + x2 * (-0.5 + x2 * (0.041666668 + x2 * (-0.0013888889 + x2 * 2.4801588e-5)));
    switch b >> 30u {
        case 0u: { return radius * vec2<f32>(c, s); }
        case 1u: { return radius * vec2<f32>(-s, c); }
        case 2u: { return radius * vec2<f32>(-c, -s); }
        default: { return radius * vec2<f32>(s, -c); }
    }
}

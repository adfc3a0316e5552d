// Random flips and crops of images: src/ops/augment.rs says what is drawn. One thread per element; z is
// the replica.

override N: u32 = 1u;
override C: u32 = 1u;
override H: u32 = 1u;
override W: u32 = 1u;
override FLIP: u32 = 0u;
override CROP: u32 = 0u;
override BACK: u32 = 0u;
override STREAM: u32 = 0u;

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> keys: array<u32>;
@group(0) @binding(2) var<storage, read> step: array<u32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;

// One of the shifts from -CROP to CROP, by the upper half of a word.
fn shift(word: u32) -> i32 {
    return i32(((word >> 16u) * (2u * CROP + 1u)) >> 16u) - i32(CROP);
}

fn mirrored(col: i32, flip: bool) -> i32 {
    return select(col, i32(W) - 1 - col, flip);
}

@compute @workgroup_size(64)
fn augment(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = item(group, groups, lane);
    if i >= N * C * H * W {
        return;
    }
    let now = step[2u * group.z + 1u];
    let words = random_words(group.z, STREAM, now, i / (C * H * W));
    let flip = FLIP == 1u && words.x >= 0x80000000u;
    var row = i32(i / W % H);
    var col = i32(i % W);
    if BACK == 1u {
        row -= shift(words.y);
        col = mirrored(col - shift(words.z), flip);
    } else {
        row += shift(words.y);
        col = mirrored(col, flip) + shift(words.z);
    }
    var value = 0.0;
    if row >= 0 && row < i32(H) && col >= 0 && col < i32(W) {
        let plane = group.z * N * C + i / (H * W);
        value = x[(plane * H + u32(row)) * W + u32(col)];
    }
    y[group.z * N * C * H * W + i] = value;
}

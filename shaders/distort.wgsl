// Random distortion: src/ops/distort.rs has the equations. z is the replica.

override N: u32 = 1u;
override C: u32 = 1u;
override H: u32 = 1u;
override W: u32 = 1u;
override ROW: u32 = 6u;
override NODES: u32 = 0u;
override SPACING: u32 = 1u;
override REACH: u32 = 0u;
override FALL: f32 = 0.0;
override ROTATION: f32 = 0.0;
override SCALE: f32 = 0.0;
override SHEAR: f32 = 0.0;
override SHIFT: f32 = 0.0;
override GAIN: f32 = 0.0;
override STREAM: u32 = 0u;

// Numbers of an image's affine map: the matrix by rows, then the shift.
const AFFINE: u32 = 6u;

@group(0) @binding(0) var<storage, read> keys: array<u32>;
@group(0) @binding(1) var<storage, read> step: array<u32>;
@group(0) @binding(2) var<storage, read_write> maps: array<f32>;

// Four words as numbers in [-1, 1), exact.
fn signed_words(words: vec4<u32>) -> vec4<f32> {
    let u = vec4<f32>(uniform_of(words.x), uniform_of(words.y), uniform_of(words.z), uniform_of(words.w));
    return 2.0 * u - 1.0;
}

// Sine and cosine of an angle within ±π: Taylor series of a quarter of it, doubled twice.
fn sin_cos(angle: f32) -> vec2<f32> {
    let x = 0.25 * angle;
    let x2 = x * x;
    var s = x * (1.0 + x2 * (-0.16666667 + x2 * (0.008333334 + x2 * (-0.0001984127 + x2 * 2.755732e-6))));
    var c = 1.0 + x2 * (-0.5 + x2 * (0.041666668 + x2 * (-0.0013888889 + x2 * 2.4801588e-5)));
    for (var i = 0u; i < 2u; i++) {
        let doubled = 2.0 * s * c;
        c = 1.0 - 2.0 * s * s;
        s = doubled;
    }
    return vec2<f32>(s, c);
}

// One thread for an image's affine numbers, one for every four others.
@compute @workgroup_size(64)
fn distort_draw(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = item(group, groups, lane);
    let threads = 1u + (ROW - AFFINE + 3u) / 4u;
    if i >= N * threads {
        return;
    }
    let now = step[0];
    let n = i / threads;
    let thread = i % threads;
    let first = (group.z * N + n) * ROW;
    // Blocks 0 and 1 of an image are the first thread's.
    let block = n * (threads + 1u) + thread;
    if thread == 0u {
        let r = signed_words(random_words(group.z, STREAM, now, block));
        let t = signed_words(random_words(group.z, STREAM, now, block + 1u));
        let turn = sin_cos(ROTATION * r.x);
        let size = 1.0 + SCALE * r.yz;
        let slant = SHEAR * r.w;
        maps[first] = turn.y * size.x;
        maps[first + 1u] = (turn.y * slant - turn.x) * size.y;
        maps[first + 2u] = turn.x * size.x;
        maps[first + 3u] = (turn.x * slant + turn.y) * size.y;
        maps[first + 4u] = SHIFT * t.x;
        maps[first + 5u] = SHIFT * t.y;
        return;
    }
    let r = signed_words(random_words(group.z, STREAM, now, block + 1u));
    for (var j = 0u; j < 4u; j++) {
        let at = AFFINE + (thread - 1u) * 4u + j;
        if at < ROW {
            maps[first + at] = GAIN * r[j];
        }
    }
}

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> drawn: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;

// Weight along one axis of the node number `tap` of the 2 REACH around `place`.
fn weight(place: u32, tap: u32) -> f32 {
    // Node 0 lies REACH - 1 spacings before pixel 0.
    let here = place + (REACH - 1u) * SPACING;
    let node = (place / SPACING + tap) * SPACING;
    let distance = f32(i32(here) - i32(node));
    return exp(-(distance * distance * FALL));
}

// What the elastic field of the image whose numbers begin at `noise` moves a pixel by.
fn displacement(noise: u32, col: u32, row: u32) -> vec2<f32> {
    var sum = vec2<f32>(0.0);
    for (var j = 0u; j < 2u * REACH; j++) {
        var line = vec2<f32>(0.0);
        let start = noise + 2u * ((row / SPACING + j) * NODES + col / SPACING);
        for (var i = 0u; i < 2u * REACH; i++) {
            line += weight(col, i) * vec2<f32>(drawn[start + 2u * i], drawn[start + 2u * i + 1u]);
        }
        sum += weight(row, j) * line;
    }
    return sum;
}

// A pixel of the channel that begins at `plane`; zero outside.
fn pixel(plane: u32, row: i32, col: i32) -> f32 {
    if row < 0 || row >= i32(H) || col < 0 || col >= i32(W) {
        return 0.0;
    }
    return x[plane + u32(row) * W + u32(col)];
}

// One thread per pixel of an image, for all its channels.
@compute @workgroup_size(64)
fn distort(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = item(group, groups, lane);
    if i >= N * H * W {
        return;
    }
    let n = group.z * N + i / (H * W);
    let p = i % (H * W);
    let row = p / W;
    let col = p % W;
    let map = n * ROW;
    let centre = 0.5 * vec2<f32>(f32(W) - 1.0, f32(H) - 1.0);
    let r = vec2<f32>(f32(col), f32(row)) - centre;
    let moved = vec2<f32>(drawn[map + 4u], drawn[map + 5u]) + displacement(map + AFFINE, col, row);
    let q = vec2<f32>(
        drawn[map] * r.x + drawn[map + 1u] * r.y,
        drawn[map + 2u] * r.x + drawn[map + 3u] * r.y,
    ) + centre + moved;
    let corner = floor(q);
    let share = q - corner;
    let left = i32(corner.x);
    let top = i32(corner.y);
    for (var c = 0u; c < C; c++) {
        let plane = (n * C + c) * H * W;
        let a = pixel(plane, top, left);
        let b = pixel(plane, top + 1, left);
        let above = a + share.x * (pixel(plane, top, left + 1) - a);
        let below = b + share.x * (pixel(plane, top + 1, left + 1) - b);
        y[plane + p] = above + share.y * (below - above);
    }
}

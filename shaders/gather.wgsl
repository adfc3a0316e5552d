// A mini-batch out of resident bytes: x = bytes * SCALE, perhaps shifted by one pixel,
// and its labels. One thread per element of x; z is the replica.

override BATCH: u32 = 1u;
override IMAGES: u32 = 1u;
override C: u32 = 1u;
override H: u32 = 1u;
override W: u32 = 1u;
override EPOCH_STEPS: u32 = 1u;
override SCALE: f32 = 1.0;

@group(0) @binding(0) var<storage, read> images: array<u32>;
@group(0) @binding(1) var<storage, read> labels: array<u32>;
@group(0) @binding(2) var<storage, read_write> step: array<u32>;

// The example's place in the epoch.
fn position(replica: u32, n: u32) -> u32 {
    return (step[2u * replica] % EPOCH_STEPS) * BATCH + n;
}

// The launch's first thread begins the step. Nobody in this launch reads what it writes.
fn begin(replica: u32, i: u32) {
    if i == 0u {
        step[2u * replica + 1u] = step[2u * replica];
    }
}

// Element e of an image that is moved by one pixel: 0 not at all, 1 up, 2 down, 3 left,
// 4 right. What comes in at the edge is 0.
fn pixel(image: u32, e: u32, move_by: u32) -> f32 {
    var row = i32(e / W % H);
    var col = i32(e % W);
    switch move_by {
        case 1u: { row += 1; }
        case 2u: { row -= 1; }
        case 3u: { col += 1; }
        case 4u: { col -= 1; }
        default: {}
    }
    if row < 0 || row >= i32(H) || col < 0 || col >= i32(W) {
        return 0.0;
    }
    let at = ((image * C + e / (W * H)) * H + u32(row)) * W + u32(col);
    return SCALE * f32((images[at / 4u] >> (8u * (at % 4u))) & 255u);
}

@group(0) @binding(3) var<storage, read_write> x: array<f32>;
@group(0) @binding(4) var<storage, read_write> y: array<u32>;

@compute @workgroup_size(64)
fn gather(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let size = C * H * W;
    let i = item(group, groups, lane);
    begin(group.z, i);
    if i < BATCH * size {
        // The last mini-batch may reach past the end; whoever reads it knows.
        let image = min(position(group.z, i / size), IMAGES - 1u);
        x[group.z * BATCH * size + i] = pixel(image, i % size, 0u);
        if i % size == 0u {
            y[group.z * BATCH + i / size] = labels[image];
        }
    }
}

override EXPANSION: u32 = 1u;

@group(0) @binding(3) var<storage, read> order: array<u32>;
@group(0) @binding(4) var<storage, read_write> shuffled_x: array<f32>;
@group(0) @binding(5) var<storage, read_write> shuffled_y: array<u32>;

// The example that stands at mini-batch place n: an image, moved in one of EXPANSION ways.
fn shuffled_example(replica: u32, n: u32) -> u32 {
    let examples = IMAGES * EXPANSION;
    return order[replica * examples + min(position(replica, n), examples - 1u)];
}

@compute @workgroup_size(64)
fn gather_shuffled(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let size = C * H * W;
    let i = item(group, groups, lane);
    begin(group.z, i);
    if i < BATCH * size {
        let example = shuffled_example(group.z, i / size);
        let image = example % IMAGES;
        shuffled_x[group.z * BATCH * size + i] = pixel(image, i % size, example / IMAGES);
        if i % size == 0u {
            shuffled_y[group.z * BATCH + i / size] = labels[image];
        }
    }
}

// The same where a load costs more than arithmetic: a thread takes RUN pixels that follow
// each other and loads four of them at once.
const RUN: u32 = 16u;

// Whether pixel e of an image has something under it once the image is moved.
fn is_inside(e: u32, move_by: u32) -> bool {
    let row = e / W % H;
    let col = e % W;
    switch move_by {
        case 1u: { return row + 1u < H; }
        case 2u: { return row > 0u; }
        case 3u: { return col + 1u < W; }
        case 4u: { return col > 0u; }
        default: { return true; }
    }
}

@compute @workgroup_size(64)
fn gather_shuffled_wide(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let size = C * H * W;
    let runs = (size + RUN - 1u) / RUN;
    let i = item(group, groups, lane);
    begin(group.z, i);
    if i >= BATCH * runs {
        return;
    }
    let n = i / runs;
    let first = i % runs * RUN;
    let example = shuffled_example(group.z, n);
    let image = example % IMAGES;
    let move_by = example / IMAGES;
    if first == 0u {
        shuffled_y[group.z * BATCH + n] = labels[image];
    }
    var start = i32(image * size + first);
    switch move_by {
        case 1u: { start += i32(W); }
        case 2u: { start -= i32(W); }
        case 3u: { start += 1; }
        case 4u: { start -= 1; }
        default: {}
    }
    // What lies before the first image or after the last belongs to no pixel.
    let last = i32(IMAGES * size - 1u) >> 2u;
    let bits = 8u * u32(start & 3);
    var word = images[clamp(start >> 2u, 0, last)];
    for (var k = 0u; k < RUN / 4u; k++) {
        let next = images[clamp((start >> 2u) + i32(k) + 1, 0, last)];
        let four = select((word >> bits) | (next << ((32u - bits) & 31u)), word, bits == 0u);
        word = next;
        for (var b = 0u; b < 4u; b++) {
            let e = first + 4u * k + b;
            if e < size {
                let value = SCALE * f32((four >> (8u * b)) & 255u);
                let inside = EXPANSION == 1u || is_inside(e, move_by);
                shuffled_x[(group.z * BATCH + n) * size + e] = select(0.0, value, inside);
            }
        }
    }
}

// The same for images that are not moved and whose size is a multiple of RUN: a workgroup
// takes an example, a thread a run of its pixels.
const FEW: u32 = 8u;

@group(0) @binding(0) var<storage, read> images_fours: array<vec4<u32>>;
@group(0) @binding(4) var<storage, read_write> shuffled_x_fours: array<vec4<f32>>;

fn four_pixels(word: u32) -> vec4<f32> {
    return SCALE * vec4<f32>((vec4(word) >> vec4(0u, 8u, 16u, 24u)) & vec4(255u));
}

@compute @workgroup_size(FEW)
fn gather_shuffled_runs(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let runs = C * H * W / RUN;
    let n = group.x;
    begin(group.z, n * FEW + thread);
    let image = shuffled_example(group.z, n);
    if thread == 0u {
        shuffled_y[group.z * BATCH + n] = labels[image];
    }
    for (var run = thread; run < runs; run += FEW) {
        let words = images_fours[image * runs + run];
        let at = ((group.z * BATCH + n) * runs + run) * 4u;
        shuffled_x_fours[at] = four_pixels(words.x);
        shuffled_x_fours[at + 1u] = four_pixels(words.y);
        shuffled_x_fours[at + 2u] = four_pixels(words.z);
        shuffled_x_fours[at + 3u] = four_pixels(words.w);
    }
}

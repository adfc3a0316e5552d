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
    if i == 0u {
        // Nobody in this launch reads it.
        step[2u * group.z + 1u] = step[2u * group.z];
    }
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

@compute @workgroup_size(64)
fn gather_shuffled(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let size = C * H * W;
    let i = item(group, groups, lane);
    if i == 0u {
        // Nobody in this launch reads it.
        step[2u * group.z + 1u] = step[2u * group.z];
    }
    if i < BATCH * size {
        let examples = IMAGES * EXPANSION;
        let example = order[group.z * examples + min(position(group.z, i / size), examples - 1u)];
        let image = example % IMAGES;
        shuffled_x[group.z * BATCH * size + i] = pixel(image, i % size, example / IMAGES);
        if i % size == 0u {
            shuffled_y[group.z * BATCH + i / size] = labels[image];
        }
    }
}

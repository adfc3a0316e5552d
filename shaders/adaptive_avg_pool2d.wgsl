// Means of the HO x WO windows that divide planes of H x W, and the gradient, gathered per input;
// z is the replica.

override PLANES: u32 = 1u;
override H: u32 = 1u;
override W: u32 = 1u;
override HO: u32 = 1u;
override WO: u32 = 1u;

const LANES: u32 = 64u;

// Where window i of `output` begins, of `input` places, and how many it has.
fn window(i: u32, input: u32, output: u32) -> vec2<u32> {
    let first = i * input / output;
    return vec2<u32>(first, ((i + 1u) * input + output - 1u) / output - first);
}

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;

// The sum of the elements `start`, `start` + `step`, .. of place i's window.
fn window_share(replica: u32, i: u32, start: u32, step: u32) -> f32 {
    let rows = window(i / WO % HO, H, HO);
    let columns = window(i % WO, W, WO);
    let plane = (replica * PLANES + i / (WO * HO)) * H * W;
    var sum = 0.0;
    for (var p = start; p < rows.y * columns.y; p += step) {
        sum += x[plane + (rows.x + p / columns.y) * W + columns.x + p % columns.y];
    }
    return sum;
}

fn window_size(i: u32) -> f32 {
    return f32(window(i / WO % HO, H, HO).y * window(i % WO, W, WO).y);
}

@compute @workgroup_size(LANES)
fn adaptive_avg_pool2d(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = row_of(group, groups);
    if i >= PLANES * HO * WO {
        return;
    }
    let sum = tree_sum(lane, window_share(group.z, i, lane, LANES));
    if lane == 0u {
        y[group.z * PLANES * HO * WO + i] = sum / window_size(i);
    }
}

@compute @workgroup_size(64)
fn adaptive_avg_pool2d_short(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = item(group, groups, lane);
    if i < PLANES * HO * WO {
        y[group.z * PLANES * HO * WO + i] = window_share(group.z, i, 0u, 1u) / window_size(i);
    }
}

@group(0) @binding(0) var<storage, read> g: array<f32>;
@group(0) @binding(1) var<storage, read_write> dx: array<f32>;

// The first window that covers place i of `input`, and the end of these.
fn covering(i: u32, input: u32, output: u32) -> vec2<u32> {
    return vec2<u32>(i * output / input, ((i + 1u) * output + input - 1u) / input);
}

@compute @workgroup_size(64)
fn adaptive_avg_pool2d_grad(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = item(group, groups, lane);
    if i >= PLANES * H * W {
        return;
    }
    let rows = covering(i / W % H, H, HO);
    let columns = covering(i % W, W, WO);
    let plane = (group.z * PLANES + i / (W * H)) * HO * WO;
    var sum = 0.0;
    for (var h = rows.x; h < rows.y; h++) {
        for (var v = columns.x; v < columns.y; v++) {
            sum += g[plane + h * WO + v] / f32(window(h, H, HO).y * window(v, W, WO).y);
        }
    }
    dx[group.z * PLANES * H * W + i] = sum;
}

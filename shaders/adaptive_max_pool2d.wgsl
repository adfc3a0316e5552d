// The largest of the HO x WO windows that divide planes of H x W with their places, and the gradient,
// gathered per input; z is the replica.

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
@group(0) @binding(2) var<storage, read_write> argmax: array<u32>;

fn plane_of(replica: u32, i: u32) -> u32 {
    return (replica * PLANES + i / (WO * HO)) * H * W;
}

fn window_size(i: u32) -> u32 {
    return window(i / WO % HO, H, HO).y * window(i % WO, W, WO).y;
}

// The first largest of the elements `start`, `start` + `step`, .. of place i's window: its index
// into the plane. `start` is one of them.
fn best_share(replica: u32, i: u32, start: u32, step: u32) -> u32 {
    let rows = window(i / WO % HO, H, HO);
    let columns = window(i % WO, W, WO);
    let plane = plane_of(replica, i);
    var best = (rows.x + start / columns.y) * W + columns.x + start % columns.y;
    var largest = x[plane + best];
    for (var p = start + step; p < rows.y * columns.y; p += step) {
        let pixel = (rows.x + p / columns.y) * W + columns.x + p % columns.y;
        let candidate = x[plane + pixel];
        if outdoes(candidate, largest) {
            best = pixel;
            largest = candidate;
        }
    }
    return best;
}

var<workgroup> places: array<u32, LANES>;

@compute @workgroup_size(LANES)
fn adaptive_max_pool2d(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = row_of(group, groups);
    if i >= PLANES * HO * WO {
        return;
    }
    // Threads without an element of their own repeat the last one.
    let mine = best_share(group.z, i, min(lane, window_size(i) - 1u), LANES);
    places[lane] = mine;
    partial[lane] = x[plane_of(group.z, i) + mine];
    workgroupBarrier();
    for (var half = LANES / 2u; half > 0u; half /= 2u) {
        if lane < half {
            let other = partial[lane + half];
            let largest = partial[lane];
            // Of equal ones, or several NaN, the one that stands first.
            let first_of_equals = !outdoes(largest, other) & (places[lane + half] < places[lane]);
            if outdoes(other, largest) | first_of_equals {
                partial[lane] = other;
                places[lane] = places[lane + half];
            }
        }
        workgroupBarrier();
    }
    if lane == 0u {
        let at = group.z * PLANES * HO * WO + i;
        y[at] = x[plane_of(group.z, i) + places[0]];
        argmax[at] = places[0];
    }
}

@compute @workgroup_size(64)
fn adaptive_max_pool2d_short(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = item(group, groups, lane);
    if i < PLANES * HO * WO {
        let best = best_share(group.z, i, 0u, 1u);
        let at = group.z * PLANES * HO * WO + i;
        y[at] = x[plane_of(group.z, i) + best];
        argmax[at] = best;
    }
}

@group(0) @binding(0) var<storage, read> g: array<f32>;
@group(0) @binding(1) var<storage, read> saved_argmax: array<u32>;
@group(0) @binding(2) var<storage, read_write> dx: array<f32>;

// The first window that covers place i of `input`, and the end of these.
fn covering(i: u32, input: u32, output: u32) -> vec2<u32> {
    return vec2<u32>(i * output / input, ((i + 1u) * output + input - 1u) / input);
}

@compute @workgroup_size(64)
fn adaptive_max_pool2d_grad(
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
            let at = plane + h * WO + v;
            if saved_argmax[at] == i % (W * H) {
                sum += g[at];
            }
        }
    }
    dx[group.z * PLANES * H * W + i] = sum;
}

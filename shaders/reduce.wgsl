// FACTOR times the sum of x over all axes of [OUTER, C, INNER] but the middle one. One
// workgroup per element of the result; z is the replica. The entry points differ in
// what they do with an element.

override OUTER: u32 = 1u;
override C: u32 = 1u;
override INNER: u32 = 1u;
override FACTOR: f32 = 1.0;

const LANES: u32 = 256u;

@group(0) @binding(0) var<storage, read> x: array<f32>;

// Element c of the result. Every thread of the workgroup must call it: it holds barriers.
fn reduced(replica: u32, c: u32, lane: u32) -> f32 {
    var sum = 0.0;
    for (var p = lane; p < OUTER * INNER; p += LANES) {
        sum += x[((replica * OUTER + p / INNER) * C + c) * INNER + p % INNER];
    }
    return times(FACTOR, tree_sum(lane, sum));
}

@group(0) @binding(1) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(LANES)
fn reduce(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let c = row_of(group, groups);
    if c >= C {
        return;
    }
    let sum = reduced(group.z, c, lane);
    if lane == 0u {
        y[group.z * C + c] = sum;
    }
}

@group(0) @binding(1) var<storage, read_write> w: array<f32>;
@group(0) @binding(2) var<storage, read> hyper: array<f32>;
@group(0) @binding(3) var<storage, read> step: array<u32>;
@group(0) @binding(4) var<storage, read_write> v: array<f32>;

@compute @workgroup_size(LANES)
fn reduce_sgd(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let c = row_of(group, groups);
    if c >= C {
        return;
    }
    let sum = reduced(group.z, c, lane);
    if lane == 0u {
        let at = group.z * C + c;
        w[at] += sgd_velocity(w[at], 0.0, sum, sgd_rates(group.z));
    }
}

@compute @workgroup_size(LANES)
fn reduce_sgd_momentum(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let c = row_of(group, groups);
    if c >= C {
        return;
    }
    let sum = reduced(group.z, c, lane);
    if lane == 0u {
        let at = group.z * C + c;
        v[at] = sgd_velocity(w[at], v[at], sum, sgd_rates(group.z));
        w[at] += v[at];
    }
}

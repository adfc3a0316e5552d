// y = softmax of each row of x [N, K], NaN where the row's largest is not finite (inf - inf), and
// its gradient delta = y * (g - sum of g y).
// One workgroup per row; z is the replica.

override N: u32 = 1u;
override K: u32 = 1u;

const LANES: u32 = 64u;

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(LANES)
fn softmax(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = row_of(group, groups);
    if row >= N {
        return;
    }
    let first = (group.z * N + row) * K;
    var largest = x[first];
    for (var k = lane; k < K; k += LANES) {
        largest = larger(largest, x[first + k]);
    }
    largest = tree_max(lane, largest);
    var sum = 0.0;
    for (var k = lane; k < K; k += LANES) {
        sum += exp(x[first + k] - largest);
    }
    sum = tree_sum(lane, sum);
    for (var k = lane; k < K; k += LANES) {
        y[first + k] = if_finite(exp(x[first + k] - largest) / sum, largest);
    }
}

@group(0) @binding(0) var<storage, read> g: array<f32>;
@group(0) @binding(1) var<storage, read> saved_y: array<f32>;
@group(0) @binding(2) var<storage, read_write> delta: array<f32>;

@compute @workgroup_size(LANES)
fn softmax_grad(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = row_of(group, groups);
    if row >= N {
        return;
    }
    let first = (group.z * N + row) * K;
    var sum = 0.0;
    for (var k = lane; k < K; k += LANES) {
        sum += g[first + k] * saved_y[first + k];
    }
    sum = tree_sum(lane, sum);
    for (var k = lane; k < K; k += LANES) {
        delta[first + k] = saved_y[first + k] * (g[first + k] - sum);
    }
}

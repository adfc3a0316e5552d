// y = softmax of x along the middle axis of [outer, K, INNER], NaN where the row's largest is not
// finite (inf - inf), and its gradient delta = y * (g - sum of g y). N rows, one workgroup for
// each or, where they are short and neighbours of different rows, one thread; z is the replica. Needs
// shared/softmax_rows.wgsl.

fn store_share(replica: u32, first: u32, start: u32, step: u32, largest: f32, sum: f32) {
    let scalars = finish_scalars(replica);
    for (var k = start; k < K; k += step) {
        let at = first + k * INNER;
        let share = if_finite(exp(x[at] - largest) / sum, largest);
        y[at] = finish(scalars, replica, at - replica * N * K, share);
    }
}

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
    let first = first_of(group.z, row);
    let largest = tree_max(lane, largest_share(first, lane, LANES));
    let sum = tree_sum(lane, sum_share(first, lane, LANES, largest));
    store_share(group.z, first, lane, LANES, largest, sum);
}

@compute @workgroup_size(64)
fn softmax_across(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = item(group, groups, lane);
    if row < N {
        let first = first_of(group.z, row);
        let largest = largest_share(first, 0u, 1u);
        store_share(group.z, first, 0u, 1u, largest, sum_share(first, 0u, 1u, largest));
    }
}

@group(0) @binding(0) var<storage, read> g: array<f32>;
@group(0) @binding(1) var<storage, read> saved_y: array<f32>;
@group(0) @binding(2) var<storage, read_write> delta: array<f32>;

fn slope_share(first: u32, start: u32, step: u32) -> f32 {
    var sum = 0.0;
    for (var k = start; k < K; k += step) {
        let at = first + k * INNER;
        sum += g[at] * saved_y[at];
    }
    return sum;
}

fn return_share(replica: u32, first: u32, start: u32, step: u32, sum: f32) {
    let scalars = finish_scalars(replica);
    for (var k = start; k < K; k += step) {
        let at = first + k * INNER;
        let slope = saved_y[at] * (g[at] - sum);
        delta[at] = finish(scalars, replica, at - replica * N * K, slope);
    }
}

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
    let first = first_of(group.z, row);
    let sum = tree_sum(lane, slope_share(first, lane, LANES));
    return_share(group.z, first, lane, LANES, sum);
}

@compute @workgroup_size(64)
fn softmax_grad_across(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = item(group, groups, lane);
    if row < N {
        let first = first_of(group.z, row);
        return_share(group.z, first, 0u, 1u, slope_share(first, 0u, 1u));
    }
}

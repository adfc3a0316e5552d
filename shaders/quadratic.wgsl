// Quadratic cost: loss = |a - y|^2 / 2, delta = g (a - y).

// The loss of every `stride`-th output from `first` on.
fn share_of(row: u32, first: u32, stride: u32) -> f32 {
    var sum = 0.0;
    for (var k = first; k < K; k += stride) {
        sum += quadratic_term(scores[row * K + k], target_of(k, labels[row]));
    }
    return sum;
}

fn slope_of(row: u32, k: u32) -> f32 {
    return scores[row * K + k] - target_of(k, labels[row]);
}

@compute @workgroup_size(LANES)
fn quadratic(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    if row_of(group, groups) >= N {
        return;
    }
    let row = group.z * N + row_of(group, groups);
    let sum = tree_sum(lane, share_of(row, lane, LANES));
    if lane == 0u {
        loss[row] = sum;
    }
}

@compute @workgroup_size(LANES)
fn quadratic_grad(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    if row_of(group, groups) >= N {
        return;
    }
    let row = group.z * N + row_of(group, groups);
    for (var k = lane; k < K; k += LANES) {
        delta[row * K + k] = g[row] * slope_of(row, k);
    }
}

@compute @workgroup_size(LANES)
fn quadratic_both(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    if row_of(group, groups) >= N {
        return;
    }
    let row = group.z * N + row_of(group, groups);
    let sum = tree_sum(lane, share_of(row, lane, LANES));
    if lane == 0u {
        losses[row] = sum;
    }
    let scalars = finish_scalars(group.z);
    for (var k = lane; k < K; k += LANES) {
        let i = row * K + k;
        slopes[i] = finish(scalars, group.z, i - group.z * N * K, slope_of(row, k));
    }
}

@compute @workgroup_size(LANES)
fn quadratic_short(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let example = row_of(group, groups) * LANES + lane;
    if example >= N {
        return;
    }
    let row = group.z * N + example;
    losses[row] = share_of(row, 0u, 1u);
    let scalars = finish_scalars(group.z);
    for (var k = 0u; k < K; k++) {
        slopes[row * K + k] = finish(scalars, group.z, example * K + k, slope_of(row, k));
    }
}

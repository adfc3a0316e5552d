// Quadratic cost: loss = |a - y|^2 / 2, delta = g (a - y).

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
    var sum = 0.0;
    for (var k = lane; k < K; k += LANES) {
        sum += quadratic_term(scores[row * K + k], target_of(k, labels[row]));
    }
    sum = tree_sum(lane, sum);
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
        delta[row * K + k] = g[row] * (scores[row * K + k] - target_of(k, labels[row]));
    }
}

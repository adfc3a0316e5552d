// Cross-entropy of sigmoids of the scores z: loss = the sum of
// max(z, 0) - z y + log(1 + exp(-|z|)), delta = g (sigmoid(z) - y).

@compute @workgroup_size(LANES)
fn cross_entropy(
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
        let z = scores[row * K + k];
        sum += cross_entropy_term(z, chosen_of(k, labels[row], z));
    }
    sum = tree_sum(lane, sum);
    if lane == 0u {
        loss[row] = sum;
    }
}

@compute @workgroup_size(LANES)
fn cross_entropy_grad(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    if row_of(group, groups) >= N {
        return;
    }
    let row = group.z * N + row_of(group, groups);
    for (var k = lane; k < K; k += LANES) {
        delta[row * K + k] = g[row] * (sigmoid(scores[row * K + k]) - target_of(k, labels[row]));
    }
}

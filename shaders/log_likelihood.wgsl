// Log-likelihood cost of the softmax of the scores z, with label y:
// loss = log(sum of exp(z)) - z[y], delta = g (softmax(z) - (k == y)); NaN where the largest z is
// not finite (inf - inf).

// The row's largest score and the sum of exp(z - largest). Every thread of the workgroup
// must call it: it holds barriers.
fn exponents(row: u32, lane: u32) -> vec2<f32> {
    var largest = scores[row * K];
    for (var k = lane; k < K; k += LANES) {
        largest = larger(largest, scores[row * K + k]);
    }
    largest = tree_max(lane, largest);
    var sum = 0.0;
    for (var k = lane; k < K; k += LANES) {
        sum += exp(scores[row * K + k] - largest);
    }
    return vec2<f32>(largest, tree_sum(lane, sum));
}

@compute @workgroup_size(LANES)
fn log_likelihood(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    if row_of(group, groups) >= N {
        return;
    }
    let row = group.z * N + row_of(group, groups);
    let e = exponents(row, lane);
    if lane == 0u {
        var right = 0.0;
        if labels[row] < K {
            right = scores[row * K + labels[row]];
        }
        loss[row] = if_finite(log(e.y) + (e.x - right), e.x);
    }
}

@compute @workgroup_size(LANES)
fn log_likelihood_grad(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    if row_of(group, groups) >= N {
        return;
    }
    let row = group.z * N + row_of(group, groups);
    let e = exponents(row, lane);
    for (var k = lane; k < K; k += LANES) {
        let right = select(0.0, 1.0, k == labels[row]);
        let slope = exp(scores[row * K + k] - e.x) / e.y - right;
        delta[row * K + k] = g[row] * if_finite(slope, e.x);
    }
}

// Log-likelihood cost of the softmax of the scores z, with label y:
// loss = log(sum of exp(z)) - z[y], delta = g (softmax(z) - (k == y)); NaN where the largest z is
// not finite (inf - inf). Smoothed, z[y] is the sum of z times the targets, and (k == y) the target.

// Of a row the largest score, the sum of exp(z - largest) and, where it is needed, that of z.
struct Row {
    largest: f32,
    exponents: f32,
    scores: f32,
}

// A thread's share of the sums: every `stride`-th score from `first` on.
fn summed(row: u32, first: u32, stride: u32, largest: f32) -> Row {
    var found = Row(largest, 0.0, 0.0);
    for (var k = first; k < K; k += stride) {
        let z = scores[row * K + k];
        found.exponents += exp(z - largest);
        found.scores += z;
    }
    return found;
}

fn largest_of(row: u32, first: u32, stride: u32) -> f32 {
    var largest = scores[row * K];
    for (var k = first; k < K; k += stride) {
        largest = larger(largest, scores[row * K + k]);
    }
    return largest;
}

// Every thread of the workgroup must call it: it holds barriers.
fn shared_row(row: u32, lane: u32) -> Row {
    let largest = tree_max(lane, largest_of(row, lane, LANES));
    var found = summed(row, lane, LANES, largest);
    found.exponents = tree_sum(lane, found.exponents);
    if SMOOTHING != 0.0 {
        found.scores = tree_sum(lane, found.scores);
    }
    return found;
}

fn loss_of(row: u32, e: Row) -> f32 {
    var right = 0.0;
    if labels[row] < K {
        right = scores[row * K + labels[row]];
    }
    if SMOOTHING != 0.0 {
        right = right * (1.0 - SMOOTHING) + e.scores * (SMOOTHING / f32(K));
    }
    return if_finite(log(e.exponents) + (e.largest - right), e.largest);
}

fn slope_of(row: u32, k: u32, e: Row) -> f32 {
    let right = smoothed(select(0.0, 1.0, k == labels[row]));
    return if_finite(exp(scores[row * K + k] - e.largest) / e.exponents - right, e.largest);
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
    let e = shared_row(row, lane);
    if lane == 0u {
        loss[row] = loss_of(row, e);
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
    let e = shared_row(row, lane);
    for (var k = lane; k < K; k += LANES) {
        delta[row * K + k] = g[row] * slope_of(row, k, e);
    }
}

@compute @workgroup_size(LANES)
fn log_likelihood_both(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    if row_of(group, groups) >= N {
        return;
    }
    let row = group.z * N + row_of(group, groups);
    let e = shared_row(row, lane);
    if lane == 0u {
        losses[row] = loss_of(row, e);
    }
    let scalars = finish_scalars(group.z);
    for (var k = lane; k < K; k += LANES) {
        let i = row * K + k;
        slopes[i] = finish(scalars, group.z, i - group.z * N * K, slope_of(row, k, e));
    }
}

@compute @workgroup_size(LANES)
fn log_likelihood_short(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let example = row_of(group, groups) * LANES + lane;
    if example >= N {
        return;
    }
    let row = group.z * N + example;
    let e = summed(row, 0u, 1u, largest_of(row, 0u, 1u));
    losses[row] = loss_of(row, e);
    let scalars = finish_scalars(group.z);
    for (var k = 0u; k < K; k++) {
        slopes[row * K + k] = finish(scalars, group.z, example * K + k, slope_of(row, k, e));
    }
}

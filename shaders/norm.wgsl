// y = (x - mean) rstd gamma + beta over x [N, C, S], and the gradients; z is the replica. There
// are R statistics: of each of GROUPS groups of channels of each n or, BATCH, of each c. The
// equations stand at the head of src/ops/norm.rs.

override N: u32 = 1u;
override C: u32 = 1u;
override S: u32 = 1u;
override GROUPS: u32 = 1u;
override R: u32 = 1u;
override BATCH: u32 = 0u;
override EPSILON: f32 = 0.0;
// Elements of a statistic.
override K: u32 = N * C * S / R;

// Threads of a workgroup.
override LANES: u32 = 256u;

// Where element k of statistic r stands, and its channel.
fn place(replica: u32, r: u32, k: u32) -> u32 {
    return replica * N * C * S + select(r * K + k, (k / S * C + r) * S + k % S, BATCH == 1u);
}

fn channel(replica: u32, r: u32, k: u32) -> u32 {
    return replica * C + select(r % GROUPS * (C / GROUPS) + k / S, r, BATCH == 1u);
}

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> gamma: array<f32>;

// A thread's share of the sum of the elements before `end`: `mine`, `mine` + LANES, ..
fn share(replica: u32, r: u32, mine: u32, end: u32) -> f32 {
    var sum = 0.0;
    for (var k = mine; k < end; k += LANES) {
        sum += x[place(replica, r, k)];
    }
    return sum;
}

fn square_share(replica: u32, r: u32, mine: u32, end: u32, middle: f32) -> f32 {
    var sum = 0.0;
    for (var k = mine; k < end; k += LANES) {
        let off = x[place(replica, r, k)] - middle;
        sum += off * off;
    }
    return sum;
}

@group(0) @binding(2) var<storage, read> beta: array<f32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;
@group(0) @binding(4) var<storage, read_write> mean: array<f32>;
@group(0) @binding(5) var<storage, read_write> rstd: array<f32>;

@compute @workgroup_size(LANES)
fn norm(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let r = row_of(group, groups);
    if r >= R {
        return;
    }
    let middle = tree_sum(lane, share(group.z, r, lane, K)) / f32(K);
    let variance = tree_sum(lane, square_share(group.z, r, lane, K, middle)) / f32(K);
    let scale = 1.0 / sqrt(variance + EPSILON);
    let scalars = finish_scalars(group.z);
    for (var k = lane; k < K; k += LANES) {
        let i = place(0u, r, k);
        let at = group.z * N * C * S + i;
        let c = channel(group.z, r, k);
        let normalized = (x[at] - middle) * scale * gamma[c] + beta[c];
        y[at] = finish(scalars, group.z, i, normalized);
    }
    if lane == 0u {
        mean[group.z * R + r] = middle;
        rstd[group.z * R + r] = scale;
    }
}

@group(0) @binding(2) var<storage, read_write> rms_y: array<f32>;
@group(0) @binding(3) var<storage, read_write> rms_rstd: array<f32>;

@compute @workgroup_size(LANES)
fn norm_rms(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let r = row_of(group, groups);
    if r >= R {
        return;
    }
    let square = tree_sum(lane, square_share(group.z, r, lane, K, 0.0)) / f32(K);
    let scale = 1.0 / sqrt(square + EPSILON);
    let scalars = finish_scalars(group.z);
    for (var k = lane; k < K; k += LANES) {
        let i = place(0u, r, k);
        let at = group.z * N * C * S + i;
        let normalized = x[at] * scale * gamma[channel(group.z, r, k)];
        rms_y[at] = finish(scalars, group.z, i, normalized);
    }
    if lane == 0u {
        rms_rstd[group.z * R + r] = scale;
    }
}

// The statistic of place (n, c).
fn statistic(replica: u32, n: u32, c: u32) -> u32 {
    return replica * R + select(n * GROUPS + c / (C / GROUPS), c, BATCH == 1u);
}

@group(0) @binding(3) var<storage, read> given_mean: array<f32>;
@group(0) @binding(4) var<storage, read> given_variance: array<f32>;
@group(0) @binding(5) var<storage, read_write> given_y: array<f32>;

// One thread per element.
@compute @workgroup_size(64)
fn norm_given(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = item(group, groups, lane);
    if i >= N * C * S {
        return;
    }
    let at = group.z * N * C * S + i;
    let c = i / S % C;
    let r = statistic(group.z, i / (S * C), c);
    let scale = 1.0 / sqrt(given_variance[r] + EPSILON);
    let centered = (x[at] - given_mean[r]) * scale;
    let normalized = centered * gamma[group.z * C + c] + beta[group.z * C + c];
    given_y[at] = finish(finish_scalars(group.z), group.z, i, normalized);
}

@group(0) @binding(0) var<storage, read> g: array<f32>;
@group(0) @binding(1) var<storage, read> frozen_gamma: array<f32>;
@group(0) @binding(2) var<storage, read> frozen_variance: array<f32>;
@group(0) @binding(3) var<storage, read_write> frozen_dx: array<f32>;

// One thread per element.
@compute @workgroup_size(64)
fn norm_given_grad(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = item(group, groups, lane);
    if i >= N * C * S {
        return;
    }
    let at = group.z * N * C * S + i;
    let c = i / S % C;
    let variance = frozen_variance[statistic(group.z, i / (S * C), c)];
    frozen_dx[at] = 1.0 / sqrt(variance + EPSILON) * frozen_gamma[group.z * C + c] * g[at];
}

@group(0) @binding(1) var<storage, read> saved_x: array<f32>;
@group(0) @binding(2) var<storage, read> saved_gamma: array<f32>;

// A thread's share of the sums of h = g gamma and of h times the normalized x.
fn slope_shares(replica: u32, r: u32, lane: u32, middle: f32, scale: f32) -> vec2<f32> {
    var sums = vec2<f32>();
    for (var k = lane; k < K; k += LANES) {
        let at = place(replica, r, k);
        let h = g[at] * saved_gamma[channel(replica, r, k)];
        sums += vec2<f32>(h, h * ((saved_x[at] - middle) * scale));
    }
    return sums;
}

@group(0) @binding(3) var<storage, read> saved_mean: array<f32>;
@group(0) @binding(4) var<storage, read> saved_rstd: array<f32>;
@group(0) @binding(5) var<storage, read_write> dx: array<f32>;

@compute @workgroup_size(LANES)
fn norm_grad(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let r = row_of(group, groups);
    if r >= R {
        return;
    }
    let middle = saved_mean[group.z * R + r];
    let scale = saved_rstd[group.z * R + r];
    let shares = slope_shares(group.z, r, lane, middle, scale);
    let plain = tree_sum(lane, shares.x) / f32(K);
    let along = tree_sum(lane, shares.y) / f32(K);
    for (var k = lane; k < K; k += LANES) {
        let at = place(group.z, r, k);
        let h = g[at] * saved_gamma[channel(group.z, r, k)];
        dx[at] = scale * (h - plain - (saved_x[at] - middle) * scale * along);
    }
}

@group(0) @binding(3) var<storage, read> saved_rms: array<f32>;
@group(0) @binding(4) var<storage, read_write> rms_dx: array<f32>;

@compute @workgroup_size(LANES)
fn norm_rms_grad(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let r = row_of(group, groups);
    if r >= R {
        return;
    }
    let scale = saved_rms[group.z * R + r];
    let shares = slope_shares(group.z, r, lane, 0.0, scale);
    let along = tree_sum(lane, shares.y) / f32(K);
    for (var k = lane; k < K; k += LANES) {
        let at = place(group.z, r, k);
        let h = g[at] * saved_gamma[channel(group.z, r, k)];
        rms_dx[at] = scale * (h - saved_x[at] * scale * along);
    }
}

@group(0) @binding(2) var<storage, read> kept_mean: array<f32>;
@group(0) @binding(3) var<storage, read> kept_rstd: array<f32>;
@group(0) @binding(4) var<storage, read_write> dgamma: array<f32>;
@group(0) @binding(5) var<storage, read_write> dbeta: array<f32>;

// One workgroup per channel.
@compute @workgroup_size(LANES)
fn norm_parameters(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let c = row_of(group, groups);
    if c >= C {
        return;
    }
    var sums = vec2<f32>();
    for (var p = lane; p < N * S; p += LANES) {
        let at = ((group.z * N + p / S) * C + c) * S + p % S;
        let r = statistic(group.z, p / S, c);
        sums += vec2<f32>(g[at] * ((saved_x[at] - kept_mean[r]) * kept_rstd[r]), g[at]);
    }
    let along = tree_sum(lane, sums.x);
    let plain = tree_sum(lane, sums.y);
    if lane == 0u {
        dgamma[group.z * C + c] = along;
        dbeta[group.z * C + c] = plain;
    }
}

@group(0) @binding(2) var<storage, read> kept_rms: array<f32>;
@group(0) @binding(3) var<storage, read_write> rms_dgamma: array<f32>;

@compute @workgroup_size(LANES)
fn norm_rms_parameters(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let c = row_of(group, groups);
    if c >= C {
        return;
    }
    var sum = 0.0;
    for (var p = lane; p < N * S; p += LANES) {
        let at = ((group.z * N + p / S) * C + c) * S + p % S;
        sum += g[at] * (saved_x[at] * kept_rms[statistic(group.z, p / S, c)]);
    }
    sum = tree_sum(lane, sum);
    if lane == 0u {
        rms_dgamma[group.z * C + c] = sum;
    }
}

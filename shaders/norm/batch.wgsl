
// All gradients of batch normalization at once: the sums that dx needs are those that dgamma and
// dbeta are, and dx = rstd gamma (g - dbeta / K - x^ dgamma / K). There are C statistics.

// A thread's share of the sums of g and of g times the normalized x, of elements `mine`,
// `mine` + LANES, .. before `end`.
fn batch_shares(replica: u32, c: u32, mine: u32, end: u32, middle: f32, scale: f32) -> vec2<f32> {
    var sums = vec2<f32>();
    for (var k = mine; k < end; k += LANES) {
        let at = place(replica, c, k);
        sums += vec2<f32>(g[at], g[at] * ((saved_x[at] - middle) * scale));
    }
    return sums;
}

// dx of an element; `means` are those of g and of g times the normalized x.
fn batch_slope(at: u32, middle: f32, scale: f32, weight: f32, means: vec2<f32>) -> f32 {
    let normalized = (saved_x[at] - middle) * scale;
    return scale * weight * (g[at] - means.x - normalized * means.y);
}

@group(0) @binding(6) var<storage, read_write> batch_dgamma: array<f32>;
@group(0) @binding(7) var<storage, read_write> batch_dbeta: array<f32>;

// One workgroup per channel.
@compute @workgroup_size(LANES)
fn norm_batch_grad(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let c = row_of(group, groups);
    if c >= C {
        return;
    }
    let middle = saved_mean[group.z * C + c];
    let scale = saved_rstd[group.z * C + c];
    let shares = batch_shares(group.z, c, lane, K, middle, scale);
    let plain = tree_sum(lane, shares.x);
    let along = tree_sum(lane, shares.y);
    let means = vec2<f32>(plain, along) / f32(K);
    let weight = saved_gamma[group.z * C + c];
    for (var k = lane; k < K; k += LANES) {
        let at = place(group.z, c, k);
        dx[at] = batch_slope(at, middle, scale, weight, means);
    }
    if lane == 0u {
        batch_dgamma[group.z * C + c] = along;
        batch_dbeta[group.z * C + c] = plain;
    }
}

// Of each run both sums, and the mean and rstd that its statistic has: so the launch that joins the
// runs needs no more buffers than every adapter binds.
@group(0) @binding(4) var<storage, read_write> slopes: array<f32>;

@compute @workgroup_size(LANES)
fn norm_batch_grad_runs(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = row_of(group, groups);
    if i >= C * RUNS {
        return;
    }
    let middle = kept_mean[group.z * C + i / RUNS];
    let scale = kept_rstd[group.z * C + i / RUNS];
    let run = run_of(i % RUNS);
    let shares = batch_shares(group.z, i / RUNS, run.x + lane, run.y, middle, scale);
    let plain = tree_sum(lane, shares.x);
    let along = tree_sum(lane, shares.y);
    if lane == 0u {
        let at = 4u * (group.z * C * RUNS + i);
        slopes[at] = plain;
        slopes[at + 1u] = along;
        slopes[at + 2u] = middle;
        slopes[at + 3u] = scale;
    }
}

@group(0) @binding(3) var<storage, read> made_slopes: array<f32>;
@group(0) @binding(4) var<storage, read_write> joined_dx: array<f32>;
@group(0) @binding(5) var<storage, read_write> joined_dgamma: array<f32>;
@group(0) @binding(6) var<storage, read_write> joined_dbeta: array<f32>;

@compute @workgroup_size(LANES)
fn norm_batch_grad_joined(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = row_of(group, groups);
    if i >= C * RUNS {
        return;
    }
    let c = i / RUNS;
    let first = 4u * (group.z * C + c) * RUNS;
    var shares = vec2<f32>();
    for (var number = lane; number < RUNS; number += LANES) {
        let at = first + 4u * number;
        shares += vec2<f32>(made_slopes[at], made_slopes[at + 1u]);
    }
    let plain = tree_sum(lane, shares.x);
    let along = tree_sum(lane, shares.y);
    let means = vec2<f32>(plain, along) / f32(K);
    let middle = made_slopes[first + 2u];
    let scale = made_slopes[first + 3u];
    let weight = saved_gamma[group.z * C + c];
    let run = run_of(i % RUNS);
    for (var k = run.x + lane; k < run.y; k += LANES) {
        let at = place(group.z, c, k);
        joined_dx[at] = batch_slope(at, middle, scale, weight, means);
    }
    // Every run has the same of these.
    if lane == 0u && i % RUNS == 0u {
        joined_dgamma[group.z * C + c] = along;
        joined_dbeta[group.z * C + c] = plain;
    }
}

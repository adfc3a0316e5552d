// FACTOR times the sum of x over all axes of [OUTER, C, INNER] but the middle one. One
// workgroup per element of the result; z is the replica.

override OUTER: u32 = 1u;
override C: u32 = 1u;
override INNER: u32 = 1u;
override FACTOR: f32 = 1.0;
override RUNS: u32 = 1u;

const LANES: u32 = 256u;

@group(0) @binding(0) var<storage, read> x: array<f32>;

// Element c of the result. Every thread of the workgroup must call it: it holds barriers.
fn sum_of(replica: u32, c: u32, lane: u32) -> f32 {
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
    let sum = sum_of(group.z, c, lane);
    if lane == 0u {
        y[group.z * C + c] = finish(finish_scalars(group.z), group.z, c, sum);
    }
}

// Neighbours in memory that a workgroup has where INNER is 1: a sector of it.
const COLUMNS: u32 = 8u;
// Threads of one of them; each has the shares of eight of `reduce`'s threads, so many apart.
const TEAM: u32 = LANES / COLUMNS;

fn term(first: u32, p: u32) -> f32 {
    if p >= OUTER {
        return 0.0;
    }
    return x[first + p * C];
}

// The same sums in the same order as `reduce`, COLUMNS of them in a workgroup.
@compute @workgroup_size(LANES)
fn reduce_columns(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let block = row_of(group, groups) * COLUMNS;
    if block >= C {
        return;
    }
    let c = block + lane % COLUMNS;
    let member = lane / COLUMNS;
    let first = group.z * OUTER * C + min(c, C - 1u);
    var low = vec4<f32>();
    var high = vec4<f32>();
    for (var p = member; p < OUTER; p += LANES) {
        let q = p + 4u * TEAM;
        low += vec4(term(first, p), term(first, p + TEAM), term(first, p + 2u * TEAM), term(first, p + 3u * TEAM));
        high += vec4(term(first, q), term(first, q + TEAM), term(first, q + 2u * TEAM), term(first, q + 3u * TEAM));
    }
    // The first halves of the tree are a thread's own.
    low += high;
    partial[lane] = (low.x + low.z) + (low.y + low.w);
    workgroupBarrier();
    for (var half = TEAM / 2u; half > 0u; half /= 2u) {
        if member < half {
            partial[lane] += partial[lane + half * COLUMNS];
        }
        workgroupBarrier();
    }
    if member == 0u && c < C {
        let sum = times(FACTOR, partial[lane]);
        y[group.z * C + c] = finish(finish_scalars(group.z), group.z, c, sum);
    }
}

// One thread per element of the result.
@compute @workgroup_size(64)
fn reduce_short(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let c = item(group, groups, lane);
    if c >= C {
        return;
    }
    var sum = 0.0;
    for (var p = 0u; p < OUTER * INNER; p++) {
        sum += x[((group.z * OUTER + p / INNER) * C + c) * INNER + p % INNER];
    }
    let scalars = finish_scalars(group.z);
    y[group.z * C + c] = finish(scalars, group.z, c, times(FACTOR, sum));
}

@group(0) @binding(1) var<storage, read_write> shares: array<f32>;

// The sum of a run of neighbours among the terms of each element of the result.
@compute @workgroup_size(LANES)
fn reduce_shares(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let share = row_of(group, groups);
    if share >= C * RUNS {
        return;
    }
    let c = share / RUNS;
    let run = (OUTER * INNER + RUNS - 1u) / RUNS;
    let first = share % RUNS * run;
    let end = min(first + run, OUTER * INNER);
    var sum = 0.0;
    for (var p = first + lane; p < end; p += LANES) {
        sum += x[((group.z * OUTER + p / INNER) * C + c) * INNER + p % INNER];
    }
    let total = tree_sum(lane, sum);
    if lane == 0u {
        shares[group.z * C * RUNS + share] = total;
    }
}

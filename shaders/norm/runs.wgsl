
// The same in two launches where few statistics are of many elements each: a workgroup makes of
// each run of neighbours what norm makes of all, and one for each run joins them and has its y.

// Into how many runs the elements of a statistic are cut.
override RUNS: u32 = 1u;

// Where run `number` of a statistic's elements begins, and where it ends.
fn run_of(number: u32) -> vec2<u32> {
    let run = (K + RUNS - 1u) / RUNS;
    return vec2<u32>(number * run, min((number + 1u) * run, K));
}

// Of each run its mean and the sum of (x - mean)^2.
@group(0) @binding(1) var<storage, read_write> spreads: array<f32>;

@compute @workgroup_size(LANES)
fn norm_runs(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = row_of(group, groups);
    if i >= R * RUNS {
        return;
    }
    let run = run_of(i % RUNS);
    let mine = run.x + lane;
    let own = tree_sum(lane, share(group.z, i / RUNS, mine, run.y)) / f32(run.y - run.x);
    let squares = tree_sum(lane, square_share(group.z, i / RUNS, mine, run.y, own));
    if lane == 0u {
        let at = 2u * (group.z * R * RUNS + i);
        spreads[at] = own;
        spreads[at + 1u] = squares;
    }
}

@group(0) @binding(6) var<storage, read> made_spreads: array<f32>;

// The squares about the common mean are each run's about its own and those of the runs' means
// (Chan, Golub and LeVeque 1983).
@compute @workgroup_size(LANES)
fn norm_joined(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = row_of(group, groups);
    if i >= R * RUNS {
        return;
    }
    let r = i / RUNS;
    let first = 2u * (group.z * R + r) * RUNS;
    var weighted = 0.0;
    for (var number = lane; number < RUNS; number += LANES) {
        let run = run_of(number);
        weighted += f32(run.y - run.x) * made_spreads[first + 2u * number];
    }
    let middle = tree_sum(lane, weighted) / f32(K);
    var squares = 0.0;
    for (var number = lane; number < RUNS; number += LANES) {
        let run = run_of(number);
        let apart = made_spreads[first + 2u * number] - middle;
        squares += made_spreads[first + 2u * number + 1u] + f32(run.y - run.x) * apart * apart;
    }
    let scale = 1.0 / sqrt(tree_sum(lane, squares) / f32(K) + EPSILON);
    let run = run_of(i % RUNS);
    let scalars = finish_scalars(group.z);
    for (var k = run.x + lane; k < run.y; k += LANES) {
        let i = place(0u, r, k);
        let at = group.z * N * C * S + i;
        let c = channel(group.z, r, k);
        let normalized = (x[at] - middle) * scale * gamma[c] + beta[c];
        y[at] = finish(scalars, group.z, i, normalized);
    }
    // Every run has the same of these.
    if lane == 0u && i % RUNS == 0u {
        mean[group.z * R + r] = middle;
        rstd[group.z * R + r] = scale;
    }
}

// One number for all elements along the reduced axes, and the gradients; z is the replica.
// Result n's element k stands at kept_place(n) + reduced_place(k) of x: twins of
// src/ops/reduction/places.rs. What KIND means: src/ops/reduction.rs.

override N: u32 = 1u;
override K: u32 = 1u;
override N1: u32 = 1u;
override N2: u32 = 1u;
override NS0: u32 = 0u;
override NS1: u32 = 0u;
override NS2: u32 = 0u;
override K1: u32 = 1u;
override K2: u32 = 1u;
override KS0: u32 = 0u;
override KS1: u32 = 0u;
override KS2: u32 = 0u;
// Neighbours in memory are of different results.
override ACROSS: u32 = 0u;
override KIND: u32 = 0u;

const MEAN: u32 = 1u;
const VARIANCE: u32 = 2u;
const LOG_SUM_EXP: u32 = 3u;
const NORM: u32 = 4u;
const MINIMUM: u32 = 1u;

// Into how many runs of neighbours the elements of a result are cut where there are two launches.
override RUNS: u32 = 1u;

// Threads of a workgroup.
override LANES: u32 = 256u;

fn kept_place(n: u32) -> u32 {
    return n % N2 * NS2 + n / N2 % N1 * NS1 + n / (N2 * N1) * NS0;
}

fn reduced_place(k: u32) -> u32 {
    return k % K2 * KS2 + k / K2 % K1 * KS1 + k / (K2 * K1) * KS0;
}

@group(0) @binding(0) var<storage, read> x: array<f32>;

// The largest of the elements `from`, `from` + `step`, .. before `end`, and of element `other`.
fn largest_share(first: u32, from_k: u32, step: u32, end: u32, other: u32) -> f32 {
    var largest = x[first + reduced_place(other)];
    for (var k = from_k; k < end; k += step) {
        largest = larger(largest, x[first + reduced_place(k)]);
    }
    return largest;
}

fn plain_share(first: u32, from_k: u32, step: u32, end: u32) -> f32 {
    var sum = 0.0;
    for (var k = from_k; k < end; k += step) {
        sum += x[first + reduced_place(k)];
    }
    return sum;
}

// The sum of what each element gives. `middle` is the mean for the variance, the largest
// element for the log-sum-exp.
fn share_of(first: u32, from_k: u32, step: u32, end: u32, middle: f32) -> f32 {
    var sum = 0.0;
    for (var k = from_k; k < end; k += step) {
        let value = x[first + reduced_place(k)];
        switch KIND {
            case VARIANCE: { sum += (value - middle) * (value - middle); }
            case LOG_SUM_EXP: { sum += exp(value - middle); }
            case NORM: { sum += value * value; }
            default: { sum += value; }
        }
    }
    return sum;
}

fn finished(sum: f32, middle: f32) -> f32 {
    switch KIND {
        case MEAN, VARIANCE: { return sum / f32(K); }
        // Infinities and NaN are the result themselves.
        case LOG_SUM_EXP: { return select(log(sum) + middle, middle, is_nan(if_finite(0.0, middle))); }
        case NORM: { return sqrt(sum); }
        default: { return sum; }
    }
}

@group(0) @binding(1) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(LANES)
fn reduction(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let n = row_of(group, groups);
    if n >= N {
        return;
    }
    let first = group.z * N * K + kept_place(n);
    var middle = 0.0;
    if KIND == VARIANCE {
        middle = tree_sum(lane, plain_share(first, lane, LANES, K)) / f32(K);
    } else if KIND == LOG_SUM_EXP {
        middle = tree_max(lane, largest_share(first, lane, LANES, K, 0u));
    }
    let sum = tree_sum(lane, share_of(first, lane, LANES, K, middle));
    if lane == 0u {
        y[group.z * N + n] = finished(sum, middle);
    }
}

@compute @workgroup_size(64)
fn reduction_short(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let n = item(group, groups, lane);
    if n >= N {
        return;
    }
    let first = group.z * N * K + kept_place(n);
    var middle = 0.0;
    if KIND == VARIANCE {
        middle = plain_share(first, 0u, 1u, K) / f32(K);
    } else if KIND == LOG_SUM_EXP {
        middle = largest_share(first, 0u, 1u, K, 0u);
    }
    y[group.z * N + n] = finished(share_of(first, 0u, 1u, K, middle), middle);
}

// A maximum is looked for; a minimum is one of what has the other sign.
fn score(value: f32) -> f32 {
    return select(value, -value, KIND == MINIMUM);
}

// The place of the first extreme among the elements `from`, `from` + `step`, .. before `end`.
fn extreme_share(first: u32, from_k: u32, step: u32, end: u32) -> u32 {
    var best = from_k;
    var largest = score(x[first + reduced_place(from_k)]);
    for (var k = from_k + step; k < end; k += step) {
        let candidate = score(x[first + reduced_place(k)]);
        if outdoes(candidate, largest) {
            best = k;
            largest = candidate;
        }
    }
    return best;
}

@group(0) @binding(2) var<storage, read_write> index: array<u32>;

var<workgroup> places: array<u32, LANES>;

// The place of the first extreme among those that the threads have found. Every thread of the
// workgroup must call it: it holds barriers.
fn tree_extreme(lane: u32, first: u32, mine: u32) -> u32 {
    places[lane] = mine;
    partial[lane] = score(x[first + reduced_place(mine)]);
    workgroupBarrier();
    for (var half = LANES / 2u; half > 0u; half /= 2u) {
        if lane < half {
            let other = partial[lane + half];
            let largest = partial[lane];
            // Of equal ones, or several NaN, the one that stands first.
            let first_of_equals = !outdoes(largest, other) & (places[lane + half] < places[lane]);
            if outdoes(other, largest) | first_of_equals {
                partial[lane] = other;
                places[lane] = places[lane + half];
            }
        }
        workgroupBarrier();
    }
    return places[0];
}

@compute @workgroup_size(LANES)
fn reduction_extreme(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let n = row_of(group, groups);
    if n >= N {
        return;
    }
    let first = group.z * N * K + kept_place(n);
    // Threads without an element of their own repeat the last one.
    let mine = extreme_share(first, min(lane, K - 1u), LANES, K);
    let best = tree_extreme(lane, first, mine);
    if lane == 0u {
        y[group.z * N + n] = x[first + reduced_place(best)];
        index[group.z * N + n] = best;
    }
}

@compute @workgroup_size(64)
fn reduction_extreme_short(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let n = item(group, groups, lane);
    if n >= N {
        return;
    }
    let first = group.z * N * K + kept_place(n);
    let best = extreme_share(first, 0u, 1u, K);
    y[group.z * N + n] = x[first + reduced_place(best)];
    index[group.z * N + n] = best;
}

// Where run `number` of the elements begins, and where it ends.
fn run_of(number: u32) -> vec2<u32> {
    let run = (K + RUNS - 1u) / RUNS;
    return vec2<u32>(number * run, min((number + 1u) * run, K));
}

@group(0) @binding(1) var<storage, read_write> sums: array<f32>;
@group(0) @binding(2) var<storage, read_write> middles: array<f32>;

// Of each run what `reduction` has of all elements before it finishes.
@compute @workgroup_size(LANES)
fn reduction_runs(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = row_of(group, groups);
    if i >= N * RUNS {
        return;
    }
    let first = group.z * N * K + kept_place(i / RUNS);
    let run = run_of(i % RUNS);
    let mine = run.x + lane;
    var middle = 0.0;
    if KIND == VARIANCE {
        middle = tree_sum(lane, plain_share(first, mine, LANES, run.y)) / f32(run.y - run.x);
    } else if KIND == LOG_SUM_EXP {
        middle = tree_max(lane, largest_share(first, mine, LANES, run.y, run.x));
    }
    let sum = tree_sum(lane, share_of(first, mine, LANES, run.y, middle));
    if lane == 0u {
        sums[group.z * N * RUNS + i] = sum;
        middles[group.z * N * RUNS + i] = middle;
    }
}

@group(0) @binding(0) var<storage, read> made_sums: array<f32>;
@group(0) @binding(1) var<storage, read> made_middles: array<f32>;
@group(0) @binding(2) var<storage, read_write> joined: array<f32>;

// One result of its runs. The variance about the common mean is each run's about its own and that of
// the runs' means (Chan, Golub and LeVeque 1983).
@compute @workgroup_size(LANES)
fn reduction_joined(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let n = row_of(group, groups);
    if n >= N {
        return;
    }
    let first = (group.z * N + n) * RUNS;
    var middle = 0.0;
    if KIND == VARIANCE {
        var weighted = 0.0;
        for (var r = lane; r < RUNS; r += LANES) {
            let run = run_of(r);
            weighted += f32(run.y - run.x) * made_middles[first + r];
        }
        middle = tree_sum(lane, weighted) / f32(K);
    } else if KIND == LOG_SUM_EXP {
        var largest = made_middles[first];
        for (var r = lane; r < RUNS; r += LANES) {
            largest = larger(largest, made_middles[first + r]);
        }
        middle = tree_max(lane, largest);
    }
    var sum = 0.0;
    for (var r = lane; r < RUNS; r += LANES) {
        let own = made_middles[first + r];
        let made = made_sums[first + r];
        switch KIND {
            case VARIANCE: {
                let run = run_of(r);
                sum += made + f32(run.y - run.x) * (own - middle) * (own - middle);
            }
            case LOG_SUM_EXP: {
                // A run of which the largest is -inf adds nothing; +inf and NaN are the result.
                sum += select(made * exp(own - middle), 0.0, is_nan(if_finite(0.0, own)));
            }
            default: { sum += made; }
        }
    }
    let total = tree_sum(lane, sum);
    if lane == 0u {
        joined[group.z * N + n] = finished(total, middle);
    }
}

@group(0) @binding(1) var<storage, read_write> found: array<u32>;

// The place of each run's first extreme.
@compute @workgroup_size(LANES)
fn reduction_extreme_runs(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = row_of(group, groups);
    if i >= N * RUNS {
        return;
    }
    let first = group.z * N * K + kept_place(i / RUNS);
    let run = run_of(i % RUNS);
    let mine = extreme_share(first, min(run.x + lane, run.y - 1u), LANES, run.y);
    let best = tree_extreme(lane, first, mine);
    if lane == 0u {
        found[group.z * N * RUNS + i] = best;
    }
}

@group(0) @binding(1) var<storage, read> made_found: array<u32>;
@group(0) @binding(2) var<storage, read_write> best_x: array<f32>;
@group(0) @binding(3) var<storage, read_write> best_index: array<u32>;

// The first extreme among those of the runs.
@compute @workgroup_size(LANES)
fn reduction_extreme_joined(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let n = row_of(group, groups);
    if n >= N {
        return;
    }
    let first = group.z * N * K + kept_place(n);
    let runs = (group.z * N + n) * RUNS;
    var mine = made_found[runs + min(lane, RUNS - 1u)];
    for (var r = lane + LANES; r < RUNS; r += LANES) {
        let other = made_found[runs + r];
        if outdoes(score(x[first + reduced_place(other)]), score(x[first + reduced_place(mine)])) {
            mine = other;
        }
    }
    let best = tree_extreme(lane, first, mine);
    if lane == 0u {
        best_x[group.z * N + n] = x[first + reduced_place(best)];
        best_index[group.z * N + n] = best;
    }
}

// The result (x) and its element (y) that thread i of a gradient has; neighbours have
// neighbouring elements of x.
fn result_and_element(i: u32) -> vec2<u32> {
    return select(vec2<u32>(i / K, i % K), vec2<u32>(i % N, i / N), ACROSS == 1u);
}

@group(0) @binding(0) var<storage, read> g: array<f32>;
@group(0) @binding(1) var<storage, read_write> spread: array<f32>;

@compute @workgroup_size(64)
fn reduction_spread(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = item(group, groups, lane);
    if i < N * K {
        let at = result_and_element(i);
        var value = g[group.z * N + at.x];
        if KIND == MEAN {
            value /= f32(K);
        }
        spread[group.z * N * K + kept_place(at.x) + reduced_place(at.y)] = value;
    }
}

@group(0) @binding(1) var<storage, read> saved_x: array<f32>;
@group(0) @binding(2) var<storage, read> saved_y: array<f32>;
@group(0) @binding(3) var<storage, read_write> dx: array<f32>;

@compute @workgroup_size(64)
fn reduction_grad(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = item(group, groups, lane);
    if i >= N * K {
        return;
    }
    let at = result_and_element(i);
    let place = group.z * N * K + kept_place(at.x) + reduced_place(at.y);
    let above = g[group.z * N + at.x];
    let result = saved_y[group.z * N + at.x];
    var slope = 0.0;
    switch KIND {
        case VARIANCE: { slope = 2.0 * above * (saved_x[place] - result) / f32(K); }
        case LOG_SUM_EXP: { slope = above * exp(saved_x[place] - result); }
        default: { slope = select(saved_x[place] * (above / result), 0.0, result == 0.0); }
    }
    dx[place] = slope;
}

@group(0) @binding(1) var<storage, read> saved_index: array<u32>;
@group(0) @binding(2) var<storage, read_write> returned: array<f32>;

@compute @workgroup_size(64)
fn reduction_extreme_grad(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = item(group, groups, lane);
    if i < N * K {
        let at = result_and_element(i);
        let here = saved_index[group.z * N + at.x] == at.y;
        let place = group.z * N * K + kept_place(at.x) + reduced_place(at.y);
        returned[place] = select(0.0, g[group.z * N + at.x], here);
    }
}

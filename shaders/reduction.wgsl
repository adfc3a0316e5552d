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

// Threads of a workgroup.
override LANES: u32 = 256u;

fn kept_place(n: u32) -> u32 {
    return n % N2 * NS2 + n / N2 % N1 * NS1 + n / (N2 * N1) * NS0;
}

fn reduced_place(k: u32) -> u32 {
    return k % K2 * KS2 + k / K2 % K1 * KS1 + k / (K2 * K1) * KS0;
}

@group(0) @binding(0) var<storage, read> x: array<f32>;

// The largest of the elements `from`, `from` + `step`, ..
fn largest_share(first: u32, from_k: u32, step: u32) -> f32 {
    var largest = x[first];
    for (var k = from_k; k < K; k += step) {
        largest = larger(largest, x[first + reduced_place(k)]);
    }
    return largest;
}

fn plain_share(first: u32, from_k: u32, step: u32) -> f32 {
    var sum = 0.0;
    for (var k = from_k; k < K; k += step) {
        sum += x[first + reduced_place(k)];
    }
    return sum;
}

// The sum of what each element gives. `middle` is the mean for the variance, the largest
// element for the log-sum-exp.
fn share_of(first: u32, from_k: u32, step: u32, middle: f32) -> f32 {
    var sum = 0.0;
    for (var k = from_k; k < K; k += step) {
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
        middle = tree_sum(lane, plain_share(first, lane, LANES)) / f32(K);
    } else if KIND == LOG_SUM_EXP {
        middle = tree_max(lane, largest_share(first, lane, LANES));
    }
    let sum = tree_sum(lane, share_of(first, lane, LANES, middle));
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
        middle = plain_share(first, 0u, 1u) / f32(K);
    } else if KIND == LOG_SUM_EXP {
        middle = largest_share(first, 0u, 1u);
    }
    y[group.z * N + n] = finished(share_of(first, 0u, 1u, middle), middle);
}

// A maximum is looked for; a minimum is one of what has the other sign.
fn score(value: f32) -> f32 {
    return select(value, -value, KIND == MINIMUM);
}

// The place of the first extreme among the elements `from`, `from` + `step`, ..
fn extreme_share(first: u32, from_k: u32, step: u32) -> u32 {
    var best = from_k;
    var largest = score(x[first + reduced_place(from_k)]);
    for (var k = from_k + step; k < K; k += step) {
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
    let mine = extreme_share(first, min(lane, K - 1u), LANES);
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
    if lane == 0u {
        y[group.z * N + n] = x[first + reduced_place(places[0])];
        index[group.z * N + n] = places[0];
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
    let best = extreme_share(first, 0u, 1u);
    y[group.z * N + n] = x[first + reduced_place(best)];
    index[group.z * N + n] = best;
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

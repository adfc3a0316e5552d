// C = op(A) op(B) by tiles of 16 x 16 in workgroup memory; one thread per element of
// C; z is the replica. The entry points differ in what they do with an element.

override M: u32 = 1u;
override N: u32 = 1u;
override K: u32 = 1u;
override TRANS_A: u32 = 0u;
override TRANS_B: u32 = 0u;

const TILE: u32 = 16u;

@group(0) @binding(0) var<storage, read> a: array<f32>;
@group(0) @binding(1) var<storage, read> b: array<f32>;

var<workgroup> tile_a: array<array<f32, 16>, 16>;
var<workgroup> tile_b: array<array<f32, 16>, 16>;

fn element_a(replica: u32, i: u32, p: u32) -> f32 {
    if i >= M || p >= K {
        return 0.0;
    }
    return a[replica * M * K + select(i * K + p, p * M + i, TRANS_A == 1u)];
}

fn element_b(replica: u32, p: u32, j: u32) -> f32 {
    if p >= K || j >= N {
        return 0.0;
    }
    return b[replica * K * N + select(p * N + j, j * K + p, TRANS_B == 1u)];
}

// C[i, j] of this thread's place. Every thread of the workgroup must call it: it holds
// barriers.
fn product(replica: u32, first: vec2<u32>, local: vec2<u32>) -> f32 {
    var sum = 0.0;
    for (var p = 0u; p < K; p += TILE) {
        tile_a[local.y][local.x] = element_a(replica, first.y + local.y, p + local.x);
        tile_b[local.y][local.x] = element_b(replica, p + local.y, first.x + local.x);
        workgroupBarrier();
        for (var q = 0u; q < TILE; q++) {
            sum += tile_a[local.y][q] * tile_b[q][local.x];
        }
        // Nobody may load the next tile while somebody still reads this one.
        workgroupBarrier();
    }
    return sum;
}

@group(0) @binding(2) var<storage, read_write> c: array<f32>;

@compute @workgroup_size(16, 16)
fn matmul(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) local: vec3<u32>) {
    let place = group.xy * TILE + local.xy;
    let sum = product(group.z, group.xy * TILE, local.xy);
    if place.y < M && place.x < N {
        let i = place.y * N + place.x;
        c[group.z * M * N + i] = finish(finish_scalars(group.z), group.z, i, sum);
    }
}

// The same products for few rows of A and rows of B that lie in memory as they are
// multiplied (TRANS_A = 0, TRANS_B = 1), as a dense layer has them over a small mini-batch.
// A team of LANES threads takes one row of B against all rows of A, so that B is read once
// and neighbours read neighbouring elements; then each sum adds up its lanes' shares.
const FEW: u32 = 16u;
const TEAMS: u32 = 8u;
const LANES: u32 = 32u;

var<workgroup> shares: array<f32, FEW * TEAMS * LANES>;

// Leaves the products of TEAMS rows of B in `shares`. Every thread of the workgroup must
// call it: it holds barriers.
fn few_products(replica: u32, first: u32, thread: u32) {
    let j = first + thread / LANES;
    var sums: array<f32, FEW>;
    for (var i = 0u; i < M; i++) {
        sums[i] = 0.0;
    }
    if j < N {
        for (var p = thread % LANES; p < K; p += LANES) {
            let weight = b[(replica * N + j) * K + p];
            for (var i = 0u; i < M; i++) {
                sums[i] += a[(replica * M + i) * K + p] * weight;
            }
        }
    }
    for (var i = 0u; i < M; i++) {
        shares[i * TEAMS * LANES + thread] = sums[i];
    }
    workgroupBarrier();
}

// C[i, j] from its lanes' shares.
fn few_sum(i: u32, team: u32) -> f32 {
    var sum = 0.0;
    for (var lane = 0u; lane < LANES; lane++) {
        sum += shares[(i * TEAMS + team) * LANES + lane];
    }
    return sum;
}

@compute @workgroup_size(256)
fn matmul_few(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let first = group.x * TEAMS;
    few_products(group.z, first, thread);
    let i = thread / TEAMS;
    let j = first + thread % TEAMS;
    if i < M && j < N {
        let sum = few_sum(i, thread % TEAMS);
        c[group.z * M * N + i * N + j] = finish(finish_scalars(group.z), group.z, i * N + j, sum);
    }
}

// The same where a load costs more than arithmetic: WIDE threads share the sums of WIDE
// rows of B with all rows of A, each all of them over its share of K, in registers.
const WIDE: u32 = 8u;

alias Eight = array<vec4<f32>, 2>;

var<workgroup> wide_shares: array<f32, FEW * WIDE * WIDE>;

fn wide_products(replica: u32, first: u32, thread: u32) {
    var sums: array<Eight, FEW>;
    for (var i = 0u; i < M; i++) {
        sums[i] = Eight();
    }
    for (var p = thread; p < K; p += WIDE) {
        var weights: Eight;
        for (var t = 0u; t < WIDE; t++) {
            weights[t / 4u][t % 4u] = b[(replica * N + min(first + t, N - 1u)) * K + p];
        }
        for (var i = 0u; i < M; i++) {
            let value = a[(replica * M + i) * K + p];
            sums[i][0] += value * weights[0];
            sums[i][1] += value * weights[1];
        }
    }
    for (var i = 0u; i < M; i++) {
        for (var t = 0u; t < WIDE; t++) {
            wide_shares[(i * WIDE + t) * WIDE + thread] = sums[i][t / 4u][t % 4u];
        }
    }
    workgroupBarrier();
}

// C[i, first + t] from its threads' shares.
fn wide_sum(i: u32, t: u32) -> f32 {
    var sum = 0.0;
    for (var share = 0u; share < WIDE; share++) {
        sum += wide_shares[(i * WIDE + t) * WIDE + share];
    }
    return sum;
}

@compute @workgroup_size(WIDE)
fn matmul_wide(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    wide_products(group.z, group.x * WIDE, thread);
    let j = group.x * WIDE + thread;
    if j < N {
        let scalars = finish_scalars(group.z);
        for (var i = 0u; i < M; i++) {
            c[group.z * M * N + i * N + j] = finish(scalars, group.z, i * N + j, wide_sum(i, thread));
        }
    }
}

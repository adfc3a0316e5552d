// The last dense layer z = activation(a W^T + b), its cost, what the epoch adds up to, the
// output error delta, and the step counter. One workgroup; z is the replica.

override N: u32 = 1u;
override IN: u32 = 1u;
override K: u32 = 1u;
// 0 quadratic, 1 cross-entropy, 2 log-likelihood.
override COST: u32 = 0u;
override UPSTREAM: f32 = 1.0;
// 1 where the step counter is counted up.
override ADVANCE: u32 = 1u;

// A team of LANES threads adds up one product at a time.
const TEAMS: u32 = 16u;
const LANES: u32 = 16u;
const MOST_SCORES: u32 = 1024u;
const MOST_EXAMPLES: u32 = 64u;

@group(0) @binding(0) var<storage, read> a: array<f32>;
@group(0) @binding(1) var<storage, read> w: array<f32>;
@group(0) @binding(2) var<storage, read> b: array<f32>;
@group(0) @binding(3) var<storage, read> labels: array<u32>;
@group(0) @binding(4) var<storage, read_write> step: array<u32>;
@group(0) @binding(5) var<storage, read_write> metrics: array<f32>;
@group(0) @binding(6) var<storage, read_write> guard: array<u32>;
@group(0) @binding(7) var<storage, read_write> delta: array<f32>;

var<workgroup> partial: array<f32, TEAMS * LANES>;
var<workgroup> scores: array<f32, MOST_SCORES>;
var<workgroup> losses: array<f32, MOST_EXAMPLES>;
var<workgroup> right: array<f32, MOST_EXAMPLES>;

// The loss of a row, and its slopes.
fn row_loss(replica: u32, row: u32) -> f32 {
    let first = row * K;
    let label = labels[replica * N + row];
    var largest = scores[first];
    for (var k = 1u; k < K; k++) {
        largest = larger(largest, scores[first + k]);
    }
    var total = 0.0;
    if COST == 2u {
        for (var k = 0u; k < K; k++) {
            total += exp(scores[first + k] - largest);
        }
    }
    var loss = 0.0;
    for (var k = 0u; k < K; k++) {
        let z = scores[first + k];
        var slope = 0.0;
        if COST == 2u {
            slope = exp(z - largest) / total - select(0.0, 1.0, k == label);
            // Of an infinity or NaN nothing is left (inf - inf).
            slope = if_finite(slope, largest);
        } else {
            let t = target_among(K, k, label);
            if COST == 1u {
                loss += cross_entropy_term(z, chosen_among(K, k, label, z));
                slope = sigmoid(z) - t;
            } else {
                loss += quadratic_term(z, t);
                slope = z - t;
            }
        }
        delta[replica * N * K + first + k] = sloped(UPSTREAM * slope, z);
    }
    if COST == 2u {
        var chosen = 0.0;
        if label < K {
            chosen = scores[first + label];
        }
        loss = if_finite(log(total) + (largest - chosen), largest);
    }
    return loss;
}

// What comes after the scores, by a workgroup of `threads`.
fn lose(replica: u32, thread: u32, threads: u32) {
    for (var row = thread; row < N; row += threads) {
        losses[row] = row_loss(replica, row);
        right[row] = select(0.0, 1.0, is_right(answer(row), labels[replica * N + row]));
    }
    workgroupBarrier();
    if thread == 0u {
        let seen = rows_that_count(N, place_of(replica));
        var loss = 0.0;
        var correct = 0.0;
        var bad = N;
        for (var row = 0u; row < seen; row++) {
            loss += losses[row];
            correct += right[row];
            if bad == N && is_bad(losses[row]) {
                bad = row;
            }
        }
        join_epoch(replica, found_by(replica), N, seen, correct, loss, bad);
        if ADVANCE == 1u {
            step[2u * replica] = step[2u * replica + 1u] + 1u;
        }
    }
}

@compute @workgroup_size(256)
fn dense_loss(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let replica = group.z;
    let team = thread / LANES;
    let lane = thread % LANES;
    for (var first = 0u; first < N * K; first += TEAMS) {
        let i = first + team;
        var sum = 0.0;
        if i < N * K {
            let from_a = (replica * N + i / K) * IN;
            let from_w = (replica * K + i % K) * IN;
            for (var j = lane; j < IN; j += LANES) {
                sum += a[from_a + j] * w[from_w + j];
            }
        }
        partial[thread] = sum;
        workgroupBarrier();
        if lane == 0u && i < N * K {
            var product = 0.0;
            for (var l = 0u; l < LANES; l++) {
                product += partial[thread + l];
            }
            scores[i] = activate(product + b[replica * K + i % K]);
        }
        // Nobody may overwrite a share that a team has not added up yet.
        workgroupBarrier();
    }
    lose(replica, thread, TEAMS * LANES);
}

// The same where a load costs more than arithmetic: WIDE threads share the sums of WIDE
// outputs for ROWS examples, each all of them over its share of IN, in registers.
const WIDE: u32 = 8u;
const ROWS: u32 = 16u;

alias Eight = array<vec4<f32>, 2>;

var<workgroup> wide_shares: array<f32, ROWS * WIDE * WIDE>;

@compute @workgroup_size(WIDE)
fn dense_loss_wide(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let replica = group.z;
    for (var block = 0u; block < N; block += ROWS) {
        for (var first = 0u; first < K; first += WIDE) {
            var sums: array<Eight, ROWS>;
            for (var i = 0u; i < min(N, ROWS); i++) {
                sums[i] = Eight();
            }
            for (var j = thread; j < IN; j += WIDE) {
                var weights: Eight;
                for (var t = 0u; t < WIDE; t++) {
                    weights[t / 4u][t % 4u] = w[(replica * K + min(first + t, K - 1u)) * IN + j];
                }
                for (var i = 0u; i < min(N, ROWS); i++) {
                    let value = a[(replica * N + min(block + i, N - 1u)) * IN + j];
                    sums[i][0] += value * weights[0];
                    sums[i][1] += value * weights[1];
                }
            }
            for (var i = 0u; i < min(N, ROWS); i++) {
                for (var t = 0u; t < WIDE; t++) {
                    wide_shares[(i * WIDE + t) * WIDE + thread] = sums[i][t / 4u][t % 4u];
                }
            }
            workgroupBarrier();
            let k = first + thread;
            for (var i = 0u; i < min(ROWS, N - block); i++) {
                if k < K {
                    var sum = 0.0;
                    for (var share = 0u; share < WIDE; share++) {
                        sum += wide_shares[(i * WIDE + thread) * WIDE + share];
                    }
                    scores[(block + i) * K + k] = activate(sum + b[replica * K + k]);
                }
            }
            // Nobody may overwrite a share that somebody has not added up yet.
            workgroupBarrier();
        }
    }
    lose(replica, thread, WIDE);
}

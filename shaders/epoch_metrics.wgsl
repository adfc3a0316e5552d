// Adds a mini-batch's losses and correct answers to the epoch's metrics, and notes the
// first loss that is not finite. One workgroup; z is the replica.

override N: u32 = 1u;
override K: u32 = 1u;
// Its threads, a power of two.
override LANES: u32 = 64u;

@group(0) @binding(0) var<storage, read> scores: array<f32>;
@group(0) @binding(1) var<storage, read> losses: array<f32>;
@group(0) @binding(2) var<storage, read> labels: array<u32>;
@group(0) @binding(3) var<storage, read> step: array<u32>;
@group(0) @binding(4) var<storage, read_write> metrics: array<f32>;
@group(0) @binding(5) var<storage, read_write> guard: array<u32>;

// What each thread has found in its rows: the sum of losses, right answers, the first bad row.
var<workgroup> lost: array<f32, LANES>;
var<workgroup> right: array<f32, LANES>;
var<workgroup> first_bad: array<u32, LANES>;

fn add_up(replica: u32, lane: u32) {
    let found = found_by(replica);
    let seen = rows_that_count(N, found.now % EPOCH_STEPS);
    var loss = 0.0;
    var correct = 0.0;
    var bad = N;
    for (var n = lane; n < seen; n += LANES) {
        let row = replica * N + n;
        let own = losses[row];
        loss += own;
        correct += select(0.0, 1.0, is_right(answer(row), labels[row]));
        if bad == N && is_bad(own) {
            bad = n;
        }
    }
    lost[lane] = loss;
    right[lane] = correct;
    first_bad[lane] = bad;
    workgroupBarrier();
    for (var half = LANES / 2u; half > 0u; half /= 2u) {
        if lane < half {
            lost[lane] += lost[lane + half];
            right[lane] += right[lane + half];
            first_bad[lane] = min(first_bad[lane], first_bad[lane + half]);
        }
        workgroupBarrier();
    }
    if lane == 0u {
        join_epoch(replica, found, N, seen, right[0], lost[0], first_bad[0]);
    }
}

@compute @workgroup_size(LANES)
fn epoch_metrics(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    add_up(group.z, lane);
}

@group(0) @binding(6) var<storage, read_write> predictions: array<u32>;

@compute @workgroup_size(LANES)
fn epoch_metrics_predict(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let place = place_of(group.z);
    for (var n = lane; n < rows_that_count(N, place); n += LANES) {
        predictions[group.z * COUNT + place * N + n] = answer(group.z * N + n).best;
    }
    add_up(group.z, lane);
}

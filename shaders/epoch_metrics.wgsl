// Adds a mini-batch's losses and correct answers to the epoch's metrics, and notes the
// first loss that is not finite. One workgroup; z is the replica.

override N: u32 = 1u;
override K: u32 = 1u;

const LANES: u32 = 64u;

@group(0) @binding(0) var<storage, read> scores: array<f32>;
@group(0) @binding(1) var<storage, read> losses: array<f32>;
@group(0) @binding(2) var<storage, read> labels: array<u32>;
@group(0) @binding(3) var<storage, read> step: array<u32>;
@group(0) @binding(4) var<storage, read_write> metrics: array<f32>;
@group(0) @binding(5) var<storage, read_write> guard: array<u32>;

var<workgroup> first_bad: array<u32, LANES>;

fn add_up(replica: u32, lane: u32) {
    let seen = rows_that_count(N, place_of(replica));
    var loss = 0.0;
    var correct = 0.0;
    var bad = N;
    for (var n = lane; n < seen; n += LANES) {
        let row = replica * N + n;
        loss += losses[row];
        correct += select(0.0, 1.0, is_right(row, labels[row]));
        if bad == N && is_bad(losses[row]) {
            bad = n;
        }
    }
    first_bad[lane] = bad;
    loss = tree_sum(lane, loss);
    correct = tree_sum(lane, correct);
    if lane != 0u {
        return;
    }
    for (var j = 0u; j < LANES; j++) {
        bad = min(bad, first_bad[j]);
    }
    join_epoch(replica, found_by(replica), N, seen, correct, loss, bad);
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
        predictions[group.z * COUNT + place * N + n] = answer(group.z * N + n);
    }
    add_up(group.z, lane);
}

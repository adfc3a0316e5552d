// Adds a mini-batch's losses and correct answers to the epoch's metrics, and notes the
// first loss that is not finite. One workgroup; z is the replica.

override N: u32 = 1u;
override K: u32 = 1u;
override COUNT: u32 = 1u;
override EPOCH_STEPS: u32 = 1u;

const LANES: u32 = 64u;
// Steps summed apart before they join the epoch's sum: short sums round less.
const BLOCK: u32 = 64u;

@group(0) @binding(0) var<storage, read> scores: array<f32>;
@group(0) @binding(1) var<storage, read> losses: array<f32>;
@group(0) @binding(2) var<storage, read> labels: array<u32>;
@group(0) @binding(3) var<storage, read> step: array<u32>;
@group(0) @binding(4) var<storage, read_write> metrics: array<f32>;
@group(0) @binding(5) var<storage, read_write> guard: array<u32>;

var<workgroup> first_bad: array<u32, LANES>;

fn answer(row: u32) -> u32 {
    if K == 1u {
        return select(0u, 1u, scores[row] >= 0.5);
    }
    var best = 0u;
    for (var k = 1u; k < K; k++) {
        if scores[row * K + k] > scores[row * K + best] {
            best = k;
        }
    }
    return best;
}

// Rows of this step that count.
fn rows(place: u32) -> u32 {
    return min(N, COUNT - min(COUNT, place * N));
}

fn add_up(replica: u32, lane: u32) {
    let place = step[2u * replica + 1u] % EPOCH_STEPS;
    let seen = rows(place);
    var loss = 0.0;
    var correct = 0.0;
    var bad = N;
    for (var n = lane; n < seen; n += LANES) {
        let row = replica * N + n;
        loss += losses[row];
        correct += select(0.0, 1.0, answer(row) == labels[row]);
        // By its exponent: WGSL may assume that nothing is infinite.
        if bad == N && (bitcast<u32>(losses[row]) & 0x7F800000u) == 0x7F800000u {
            bad = n;
        }
    }
    first_bad[lane] = bad;
    loss = tree_sum(lane, loss);
    correct = tree_sum(lane, correct);
    if lane != 0u {
        return;
    }
    let at = replica * 4u;
    if place == 0u {
        for (var j = 0u; j < 4u; j++) {
            metrics[at + j] = 0.0;
            guard[at + j] = 0u;
        }
    }
    metrics[at + 1u] += correct;
    metrics[at + 2u] += f32(seen);
    metrics[at + 3u] += loss;
    if place % BLOCK == BLOCK - 1u || place == EPOCH_STEPS - 1u {
        metrics[at] += metrics[at + 3u];
        metrics[at + 3u] = 0.0;
    }
    var row = N;
    for (var j = 0u; j < LANES; j++) {
        row = min(row, first_bad[j]);
    }
    if row < N && guard[at] == 0u {
        guard[at] = step[2u * replica + 1u] + 1u;
        guard[at + 1u] = row;
    }
}

@compute @workgroup_size(LANES)
fn tally(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    add_up(group.z, lane);
}

@group(0) @binding(6) var<storage, read_write> predictions: array<u32>;

@compute @workgroup_size(LANES)
fn tally_predict(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let place = step[2u * group.z + 1u] % EPOCH_STEPS;
    for (var n = lane; n < rows(place); n += LANES) {
        predictions[group.z * COUNT + place * N + n] = answer(group.z * N + n);
    }
    add_up(group.z, lane);
}

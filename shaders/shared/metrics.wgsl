// How a mini-batch joins the epoch's metrics and guard. Twin of `Epoch` in
// src/ops/epoch_metrics.rs. The kernel's own file declares `metrics`, `guard`, `step` and the rows of
// K `scores`. Needs shared/nan.wgsl.

override COUNT: u32 = 1u;
override EPOCH_STEPS: u32 = 1u;
// 1 where totals go on from epoch to epoch.
override KEEPS: u32 = 0u;

// Steps summed apart before they join the epoch's sum: short sums round less.
const BLOCK: u32 = 64u;

fn place_of(replica: u32) -> u32 {
    return step[2u * replica + 1u] % EPOCH_STEPS;
}

// Rows of the step at `place` that count, of a mini-batch of `batch`.
fn rows_that_count(batch: u32, place: u32) -> u32 {
    return min(batch, COUNT - min(COUNT, place * batch));
}

// The class a row of scores answers, and the score of that, or of the only class there is.
struct Answer {
    best: u32,
    score: f32,
}

fn answer(row: u32) -> Answer {
    // The largest stays in a register: loaded again, it would wait for each comparison.
    var largest = scores[row * K];
    if K == 1u {
        return Answer(select(0u, 1u, largest >= 0.5), largest);
    }
    var best = 0u;
    for (var k = 1u; k < K; k++) {
        let score = scores[row * K + k];
        if outdoes(score, largest) {
            largest = score;
            best = k;
        }
    }
    return Answer(best, largest);
}

// Nobody answers rightly with a score that is NaN: it would be the largest.
fn is_right(given: Answer, label: u32) -> bool {
    return (given.best == label) & !is_nan(given.score);
}

// By its exponent: WGSL may assume that nothing is infinite.
fn is_bad(loss: f32) -> bool {
    return (bitcast<u32>(loss) & 0x7F800000u) == 0x7F800000u;
}

// What a step finds of its epoch. Who asks early does not wait for it at the end.
struct Found {
    now: u32,
    metrics: vec4<f32>,
    guarded: u32,
}

fn found_by(replica: u32) -> Found {
    let at = replica * 4u;
    return Found(
        step[2u * replica + 1u],
        vec4(metrics[at], metrics[at + 1u], metrics[at + 2u], metrics[at + 3u]),
        guard[at],
    );
}

// One thread adds what the mini-batch gave; `bad` is the first row whose loss is not
// finite, `batch` if there is none.
fn join_epoch(replica: u32, found: Found, batch: u32, seen: u32, correct: f32, loss: f32, bad: u32) {
    let at = replica * 4u;
    let place = found.now % EPOCH_STEPS;
    var sums = found.metrics;
    var guarded = found.guarded;
    if place == 0u && KEEPS == 0u {
        sums = vec4(0.0);
        guarded = 0u;
        for (var j = 0u; j < 4u; j++) {
            guard[at + j] = 0u;
        }
    }
    sums += vec4(0.0, correct, f32(seen), loss);
    if place % BLOCK == BLOCK - 1u || place == EPOCH_STEPS - 1u {
        sums = vec4(sums.x + sums.w, sums.yz, 0.0);
    }
    for (var j = 0u; j < 4u; j++) {
        metrics[at + j] = sums[j];
    }
    if bad < batch && guarded == 0u {
        guard[at] = found.now + 1u;
        guard[at + 1u] = bad;
    }
}

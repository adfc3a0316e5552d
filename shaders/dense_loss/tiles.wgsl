// dense_loss where a launch takes as long as its loads wait for each other: a thread has a tile of
// 5 examples x 5 outputs over its share of IN, in registers, and then each output has a thread. One
// workgroup; z is the replica. The file that follows says what a piece of IN is.

override N: u32 = 1u;
override IN: u32 = 1u;
override K: u32 = 1u;
// 0 quadratic, 1 cross-entropy, 2 log-likelihood.
override COST: u32 = 0u;
override UPSTREAM: f32 = 1.0;
// 1 where the step counter is counted up.
override ADVANCE: u32 = 1u;

const EDGE: u32 = 5u;
// Tiles at a time, and threads that share the sums of one.
const TEAMS: u32 = 4u;
const SLICES: u32 = 64u;
// Threads that do it; others of a larger workgroup wait with them.
const LIVE: u32 = TEAMS * SLICES;
// Threads that add up the shares of one sum.
const PARTS: u32 = 4u;
// Rows of a tile whose shares stand in workgroup memory at a time, and sums of these.
const ROWS: u32 = 3u;
const VALUES: u32 = ROWS * EDGE;
const MOST_SCORES: u32 = LIVE;

override TILES_ACROSS: u32 = (K + EDGE - 1u) / EDGE;
override TILES: u32 = (N + EDGE - 1u) / EDGE * TILES_ACROSS;

@group(0) @binding(2) var<storage, read> b: array<f32>;
@group(0) @binding(3) var<storage, read> labels: array<u32>;
@group(0) @binding(4) var<storage, read_write> step: array<u32>;
@group(0) @binding(5) var<storage, read_write> metrics: array<f32>;
@group(0) @binding(6) var<storage, read_write> guard: array<u32>;
@group(0) @binding(7) var<storage, read_write> delta: array<f32>;

// `shares`, VALUES * LIVE of them, is declared elsewhere. Later it has the terms of the losses, the losses
// and who answers rightly.
const LOSSES: u32 = MOST_SCORES;
const RIGHT: u32 = LOSSES + MOST_SCORES;

var<workgroup> scores: array<f32, MOST_SCORES>;

struct Five {
    four: vec4<f32>,
    fifth: f32,
}

// What is indexed by numbers stays in registers, so there is no loop over these.
alias Pieces = array<Piece, 5>;

alias Sums = array<Five, 5>;

// Beyond the last example or output stands the last one.
fn examples(replica: u32, first: u32, p: u32) -> Pieces {
    let above = replica * N;
    let last = N - 1u;
    return Pieces(
        piece_of_a(above + min(first, last), p),
        piece_of_a(above + min(first + 1u, last), p),
        piece_of_a(above + min(first + 2u, last), p),
        piece_of_a(above + min(first + 3u, last), p),
        piece_of_a(above + min(first + 4u, last), p),
    );
}

fn outputs(replica: u32, first: u32, p: u32) -> Pieces {
    let above = replica * K;
    let last = K - 1u;
    return Pieces(
        piece_of_w(above + min(first, last), p),
        piece_of_w(above + min(first + 1u, last), p),
        piece_of_w(above + min(first + 2u, last), p),
        piece_of_w(above + min(first + 3u, last), p),
        piece_of_w(above + min(first + 4u, last), p),
    );
}

fn more(sums: Five, a: Piece, w: Pieces) -> Five {
    let four = vec4(product(a, w[0]), product(a, w[1]), product(a, w[2]), product(a, w[3]));
    return Five(sums.four + four, sums.fifth + product(a, w[4]));
}

// Where a thread's share of a value stands: turned, so that threads that read eight values' shares at
// a time read different banks.
fn slot(value: u32, thread: u32) -> u32 {
    return value * LIVE + (thread + PARTS * value) % LIVE;
}

fn share(sums: Five, row: u32, thread: u32) {
    if thread >= LIVE {
        return;
    }
    let value = row * EDGE;
    shares[slot(value, thread)] = sums.four.x;
    shares[slot(value + 1u, thread)] = sums.four.y;
    shares[slot(value + 2u, thread)] = sums.four.z;
    shares[slot(value + 3u, thread)] = sums.four.w;
    shares[slot(value + 4u, thread)] = sums.fifth;
}

// Adds up the shares of the tiles from `first` on: of their rows from `row` on, `rows` of them. Every
// thread must call it: it holds barriers.
fn add_up(first: u32, row: u32, rows: u32, thread: u32) {
    workgroupBarrier();
    var part = 0.0;
    let sum = thread / PARTS;
    if sum < TEAMS * VALUES {
        for (var slice = thread % PARTS; slice < SLICES; slice += PARTS) {
            part += shares[slot(sum % VALUES, sum / VALUES * SLICES + slice)];
        }
    }
    // Nobody may overwrite a share that somebody has not added up yet.
    workgroupBarrier();
    if thread < LIVE {
        shares[thread] = part;
    }
    workgroupBarrier();
    let tile = first + thread / VALUES;
    let place = thread % VALUES;
    let n = tile / TILES_ACROSS * EDGE + row + place / EDGE;
    let k = tile % TILES_ACROSS * EDGE + place % EDGE;
    if thread < TEAMS * VALUES && place < rows * EDGE && n < N && k < K {
        var score = 0.0;
        for (var p = 0u; p < PARTS; p++) {
            score += shares[thread * PARTS + p];
        }
        scores[n * K + k] = score;
    }
    workgroupBarrier();
}

fn multiply(replica: u32, thread: u32) {
    for (var first = 0u; first < TILES; first += TEAMS) {
        let tile = first + thread / SLICES;
        let n = tile / TILES_ACROSS * EDGE;
        let k = tile % TILES_ACROSS * EDGE;
        var sums = Sums();
        if thread < LIVE && tile < TILES {
            for (var p = thread % SLICES; p < PIECES; p += SLICES) {
                let a = examples(replica, n, p);
                let w = outputs(replica, k, p);
                sums[0] = more(sums[0], a[0], w);
                sums[1] = more(sums[1], a[1], w);
                sums[2] = more(sums[2], a[2], w);
                sums[3] = more(sums[3], a[3], w);
                sums[4] = more(sums[4], a[4], w);
            }
        }
        share(sums[0], 0u, thread);
        share(sums[1], 1u, thread);
        share(sums[2], 2u, thread);
        add_up(first, 0u, ROWS, thread);
        share(sums[3], 0u, thread);
        share(sums[4], 1u, thread);
        add_up(first, ROWS, EDGE - ROWS, thread);
    }
}

// One output's part of its row's loss; leaves its slope in delta.
fn lose_one(replica: u32, i: u32, label: u32) -> f32 {
    let k = i % K;
    let first = i - k;
    let z = scores[i];
    var term = 0.0;
    var slope = 0.0;
    if COST == 2u {
        var largest = scores[first];
        for (var j = 1u; j < K; j++) {
            largest = larger(largest, scores[first + j]);
        }
        var total = 0.0;
        for (var j = 0u; j < K; j++) {
            total += exp(scores[first + j] - largest);
        }
        slope = exp(z - largest) / total - select(0.0, 1.0, k == label);
        // Of an infinity or NaN nothing is left (inf - inf).
        slope = if_finite(slope, largest);
        if k == 0u {
            var chosen = 0.0;
            if label < K {
                chosen = scores[first + label];
            }
            term = if_finite(log(total) + (largest - chosen), largest);
        }
    } else {
        let t = target_among(K, k, label);
        if COST == 1u {
            term = cross_entropy_term(z, chosen_among(K, k, label, z));
            slope = sigmoid(z) - t;
        } else {
            term = quadratic_term(z, t);
            slope = z - t;
        }
    }
    delta[replica * N * K + i] = sloped(UPSTREAM * slope, z);
    return term;
}

fn by_tiles(replica: u32, thread: u32) {
    let inside = thread < N * K;
    // Loaded before anything waits: what the end needs.
    var bias = 0.0;
    var label = 0u;
    var found = Found();
    if thread == 0u {
        found = found_by(replica);
    }
    if inside {
        bias = b[replica * K + thread % K];
        label = labels[replica * N + thread / K];
    }
    multiply(replica, thread);
    if inside {
        scores[thread] = activate(scores[thread] + bias);
    }
    workgroupBarrier();
    if inside {
        shares[thread] = lose_one(replica, thread, label);
        if thread % K == 0u {
            let row = thread / K;
            shares[RIGHT + row] = select(0.0, 1.0, is_right(answer(row), label));
        }
    }
    workgroupBarrier();
    if thread < N {
        var loss = 0.0;
        for (var k = 0u; k < K; k++) {
            loss += shares[thread * K + k];
        }
        shares[LOSSES + thread] = loss;
    }
    workgroupBarrier();
    if thread == 0u {
        let seen = rows_that_count(N, found.now % EPOCH_STEPS);
        var loss = 0.0;
        var correct = 0.0;
        var bad = N;
        for (var row = 0u; row < seen; row++) {
            loss += shares[LOSSES + row];
            correct += shares[RIGHT + row];
            if bad == N && is_bad(shares[LOSSES + row]) {
                bad = row;
            }
        }
        join_epoch(replica, found, N, seen, correct, loss, bad);
        if ADVANCE == 1u {
            step[2u * replica] = found.now + 1u;
        }
    }
}

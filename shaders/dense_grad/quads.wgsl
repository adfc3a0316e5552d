// A dense layer's way back where a launch takes as long as its loads wait for each other. A workgroup
// owns 4 QUADS columns of W for all rows, a thread four neighbouring ones of every LANES-th row, with
// their inputs and sums in registers. The last workgroup updates the biases; z is the replica. Behind
// rows.wgsl.

// Fours of columns: 1, 2 or 4.
override QUADS: u32 = 1u;

const THREADS: u32 = 256u;
override LANES: u32 = THREADS / QUADS;
// Sums that a workgroup has of four examples, and threads that add up the shares of one.
override VALUES: u32 = 16u * QUADS;
override PARTS: u32 = THREADS / VALUES;

// Of four examples.
var<workgroup> shares: array<f32, 16u * THREADS>;

fn outer(weights: vec4<f32>, deltas: vec4<f32>) -> mat4x4<f32> {
    return mat4x4(weights * deltas.x, weights * deltas.y, weights * deltas.z, weights * deltas.w);
}

fn add(sums: ptr<function, Examples>, row: Row) {
    (*sums)[0] += outer(row.weights, row.deltas[0]);
    if N > 4u {
        (*sums)[1] += outer(row.weights, row.deltas[1]);
    }
    if N > 8u {
        (*sums)[2] += outer(row.weights, row.deltas[2]);
    }
    if N > 12u {
        (*sums)[3] += outer(row.weights, row.deltas[3]);
    }
}

// Where a thread's share of a value stands: turned, so that threads that read two values' shares at a
// time read different banks.
fn slot(value: u32, thread: u32) -> u32 {
    return value * THREADS + (thread + 16u * value) % THREADS;
}

fn share(sums: vec4<f32>, example: u32, thread: u32) {
    let value = 4u * example;
    shares[slot(value, thread)] = sums.x;
    shares[slot(value + 1u, thread)] = sums.y;
    shares[slot(value + 2u, thread)] = sums.z;
    shares[slot(value + 3u, thread)] = sums.w;
}

// A value's example among four, and its column.
fn place_of(value: u32, first: u32) -> vec2<u32> {
    let place = value / QUADS;
    return vec2(place / 4u, first + value % QUADS * 4u + place % 4u);
}

// The input that a thread's value of the examples from `n` on goes back to.
fn input_behind(replica: u32, n: u32, first: u32, thread: u32) -> f32 {
    let place = place_of(thread, first);
    let example = n + place.x;
    if thread >= VALUES || example >= N || place.y >= IN {
        return 0.0;
    }
    return input_at(replica, example * IN + place.y);
}

// Adds up four examples' shares from `n` on, PARTS threads every PARTS-th share of a value and then one
// theirs. Every thread must call it: it holds barriers.
fn finish_inputs(
    sums: mat4x4<f32>,
    scalars: finish_input_once,
    replica: u32,
    n: u32,
    first: u32,
    thread: u32,
    input: f32,
) {
    share(sums[0], 0u, thread);
    share(sums[1], 1u, thread);
    share(sums[2], 2u, thread);
    share(sums[3], 3u, thread);
    workgroupBarrier();
    let value = thread / PARTS;
    var part = 0.0;
    for (var lane = thread % PARTS; lane < LANES; lane += PARTS) {
        part += shares[slot(value / QUADS, lane * QUADS + value % QUADS)];
    }
    // Nobody may overwrite a share that somebody has not added up yet.
    workgroupBarrier();
    shares[thread] = part;
    workgroupBarrier();
    let place = place_of(thread, first);
    let example = n + place.x;
    if thread < VALUES && example < N && place.y < IN {
        var sum = 0.0;
        for (var p = 0u; p < PARTS; p++) {
            sum += shares[thread * PARTS + p];
        }
        let i = example * IN + place.y;
        dx[replica * N * IN + i] = finish_input(scalars, replica, i, sum, input);
    }
    workgroupBarrier();
}

fn way_back(group: vec3<u32>, thread: u32) {
    let replica = group.z;
    let first = group.x * QUADS * 4u;
    if first >= IN {
        update_biases(replica, thread);
        return;
    }
    let scalars = finish_weight_scalars(replica);
    let column = first + thread % QUADS * 4u;
    var sums = Examples();
    if column < IN {
        let inputs = all_inputs(replica, column);
        // No load passes a store before it, so two rows are loaded before either is stored.
        for (var o = thread / QUADS; o < OUT; o += 2u * LANES) {
            let row = row_of(replica, o, column);
            let next = row_of(replica, o + LANES, column);
            add(&sums, row);
            finish_weights(scalars, replica, o, column, slopes_of(inputs, row), row.weights);
            if o + LANES < OUT {
                add(&sums, next);
                finish_weights(scalars, replica, o + LANES, column, slopes_of(inputs, next), next.weights);
            }
        }
    }
    let behind = vec4(
        input_behind(replica, 0u, first, thread),
        input_behind(replica, 4u, first, thread),
        input_behind(replica, 8u, first, thread),
        input_behind(replica, 12u, first, thread),
    );
    let input_scalars = finish_input_scalars(replica);
    finish_inputs(sums[0], input_scalars, replica, 0u, first, thread, behind.x);
    if N > 4u {
        finish_inputs(sums[1], input_scalars, replica, 4u, first, thread, behind.y);
    }
    if N > 8u {
        finish_inputs(sums[2], input_scalars, replica, 8u, first, thread, behind.z);
    }
    if N > 12u {
        finish_inputs(sums[3], input_scalars, replica, 12u, first, thread, behind.w);
    }
}

fn updates(group: vec3<u32>, thread: u32) {
    let replica = group.z;
    let first = group.x * QUADS * 4u;
    if first >= IN {
        update_biases(replica, thread);
        return;
    }
    let scalars = finish_weight_scalars(replica);
    let column = first + thread % QUADS * 4u;
    if column >= IN {
        return;
    }
    let inputs = all_inputs(replica, column);
    for (var o = thread / QUADS; o < OUT; o += 2u * LANES) {
        let row = row_of(replica, o, column);
        let next = row_of(replica, o + LANES, column);
        finish_weights(scalars, replica, o, column, slopes_of(inputs, row), row.weights);
        if o + LANES < OUT {
            finish_weights(scalars, replica, o + LANES, column, slopes_of(inputs, next), next.weights);
        }
    }
}

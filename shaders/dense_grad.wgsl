// A dense layer's way back: dx = g W passes what follows, together with x; the gradients g^T x of W
// and sum g of b pass what updates these, together with what was there before.
// A workgroup owns COLUMNS columns of W for all its rows; z is the replica. In it a thread
// takes every ROWS-th row of one column, so that neighbours read neighbouring elements.

// At most MOST.
override N: u32 = 1u;
override IN: u32 = 1u;
override OUT: u32 = 1u;

const COLUMNS: u32 = 32u;
const ROWS: u32 = 8u;
// Sums that a thread keeps, one for each example.
const MOST: u32 = 16u;
// Rows of W whose gradients stand in workgroup memory at a time.
const CHUNK: u32 = 64u;

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> g: array<f32>;
@group(0) @binding(2) var<storage, read_write> w: array<f32>;
@group(0) @binding(3) var<storage, read_write> b: array<f32>;
@group(0) @binding(4) var<storage, read_write> dx: array<f32>;

// Gradients of CHUNK rows, those of one row side by side.
var<workgroup> chunk: array<f32, CHUNK * MOST>;
var<workgroup> shares: array<f32, COLUMNS * ROWS>;

// Loads the gradients of the rows from `first` on. Every thread must call it: it holds
// barriers.
fn load(replica: u32, first: u32, lane: u32) {
    // Nobody may load while somebody still reads what was loaded before.
    workgroupBarrier();
    for (var i = lane; i < CHUNK * N; i += COLUMNS * ROWS) {
        let row = i % CHUNK;
        let n = i / CHUNK;
        var value = 0.0;
        if first + row < OUT {
            value = g[(replica * N + n) * OUT + first + row];
        }
        chunk[row * MOST + n] = value;
    }
    workgroupBarrier();
}

fn update_bias(replica: u32, o: u32, sum: f32) {
    let at = replica * OUT + o;
    b[at] = finish_bias(finish_bias_scalars(replica), replica, o, sum, b[at]);
}

// The first workgroup updates the biases of the rows that are loaded.
fn update_biases(replica: u32, first: u32, lane: u32) {
    if lane < CHUNK && first + lane < OUT {
        var sum = 0.0;
        for (var n = 0u; n < N; n++) {
            sum += chunk[lane * MOST + n];
        }
        update_bias(replica, first + lane, sum);
    }
}

@compute @workgroup_size(256)
fn dense_grad(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let replica = group.z;
    let scalars = finish_weight_scalars(replica);
    let column = group.x * COLUMNS + lane % COLUMNS;
    let row = lane / COLUMNS;
    let inside = column < IN;
    var inputs: array<f32, MOST>;
    var sums: array<f32, MOST>;
    for (var n = 0u; n < N; n++) {
        sums[n] = 0.0;
        inputs[n] = 0.0;
        if inside {
            inputs[n] = x[(replica * N + n) * IN + column];
        }
    }
    for (var first = 0u; first < OUT; first += CHUNK) {
        load(replica, first, lane);
        if group.x == 0u {
            update_biases(replica, first, lane);
        }
        for (var o = row; o < CHUNK; o += ROWS) {
            if !inside || first + o >= OUT { break; }
            let at = (replica * OUT + first + o) * IN + column;
            let weight = w[at];
            var slope = 0.0;
            for (var n = 0u; n < N; n++) {
                let delta = chunk[o * MOST + n];
                sums[n] += delta * weight;
                slope += delta * inputs[n];
            }
            w[at] = finish_weight(scalars, replica, (first + o) * IN + column, slope, weight);
        }
    }
    let input_scalars = finish_input_scalars(replica);
    for (var n = 0u; n < N; n++) {
        shares[lane] = sums[n];
        workgroupBarrier();
        if row == 0u && inside {
            var sum = 0.0;
            for (var r = 0u; r < ROWS; r++) {
                sum += shares[r * COLUMNS + lane];
            }
            let i = n * IN + column;
            dx[replica * N * IN + i] = finish_input(input_scalars, replica, i, sum, inputs[n]);
        }
        workgroupBarrier();
    }
}

@compute @workgroup_size(256)
fn dense_update(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let replica = group.z;
    let scalars = finish_weight_scalars(replica);
    let column = group.x * COLUMNS + lane % COLUMNS;
    let row = lane / COLUMNS;
    let inside = column < IN;
    var inputs: array<f32, MOST>;
    for (var n = 0u; n < N; n++) {
        inputs[n] = 0.0;
        if inside {
            inputs[n] = x[(replica * N + n) * IN + column];
        }
    }
    for (var first = 0u; first < OUT; first += CHUNK) {
        load(replica, first, lane);
        if group.x == 0u {
            update_biases(replica, first, lane);
        }
        for (var o = row; o < CHUNK; o += ROWS) {
            if !inside || first + o >= OUT { break; }
            let at = (replica * OUT + first + o) * IN + column;
            var slope = 0.0;
            for (var n = 0u; n < N; n++) {
                slope += chunk[o * MOST + n] * inputs[n];
            }
            w[at] = finish_weight(scalars, replica, (first + o) * IN + column, slope, w[at]);
        }
    }
}

// The same where a load costs more than arithmetic: a thread owns 8 columns for all rows,
// with their inputs and sums in registers, and waits for nobody. The last workgroup updates
// the biases.
const THREADS: u32 = 8u;
const WIDE: u32 = THREADS * 8u;

alias Eight = array<vec4<f32>, 2>;

alias Rows = array<Eight, MOST>;

// Column c of a thread that begins at column `first`: of what it has for each example. A
// compiler unrolls short loops only, and what a longer one indexes leaves the registers:
// hence the calls one by one.
fn load_column(inputs: ptr<function, Rows>, replica: u32, first: u32, c: u32) {
    // Beyond the last column stands the last one.
    let column = min(first + c * THREADS, IN - 1u);
    for (var n = 0u; n < N; n++) {
        (*inputs)[n][c / 4u][c % 4u] = x[(replica * N + n) * IN + column];
    }
}

fn load_columns(inputs: ptr<function, Rows>, replica: u32, first: u32) {
    load_column(inputs, replica, first, 0u);
    load_column(inputs, replica, first, 1u);
    load_column(inputs, replica, first, 2u);
    load_column(inputs, replica, first, 3u);
    load_column(inputs, replica, first, 4u);
    load_column(inputs, replica, first, 5u);
    load_column(inputs, replica, first, 6u);
    load_column(inputs, replica, first, 7u);
}

fn weights_of(row: u32, first: u32) -> Eight {
    var eight: Eight;
    for (var c = 0u; c < 8u; c++) {
        eight[c / 4u][c % 4u] = w[row + min(first + c * THREADS, IN - 1u)];
    }
    return eight;
}

fn update_all_biases(replica: u32, thread: u32) {
    for (var o = thread; o < OUT; o += THREADS) {
        var sum = 0.0;
        for (var n = 0u; n < N; n++) {
            sum += g[(replica * N + n) * OUT + o];
        }
        update_bias(replica, o, sum);
    }
}

fn store_column(
    inputs: ptr<function, Rows>,
    sums: ptr<function, Rows>,
    scalars: finish_input_once,
    replica: u32,
    first: u32,
    c: u32,
) {
    let column = first + c * THREADS;
    for (var n = 0u; n < N; n++) {
        if column < IN {
            let i = n * IN + column;
            let sum = (*sums)[n][c / 4u][c % 4u];
            let x = (*inputs)[n][c / 4u][c % 4u];
            dx[replica * N * IN + i] = finish_input(scalars, replica, i, sum, x);
        }
    }
}

@compute @workgroup_size(8)
fn dense_grad_wide(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let replica = group.z;
    let scalars = finish_weight_scalars(replica);
    if group.x * WIDE >= IN {
        update_all_biases(replica, thread);
        return;
    }
    let first = group.x * WIDE + thread;
    var inputs: Rows;
    var sums: Rows;
    load_columns(&inputs, replica, first);
    for (var n = 0u; n < N; n++) {
        sums[n] = Eight();
    }
    for (var o = 0u; o < OUT; o++) {
        let row = (replica * OUT + o) * IN;
        let weights = weights_of(row, first);
        var slopes = Eight();
        for (var n = 0u; n < N; n++) {
            let delta = g[(replica * N + n) * OUT + o];
            sums[n][0] += delta * weights[0];
            sums[n][1] += delta * weights[1];
            slopes[0] += delta * inputs[n][0];
            slopes[1] += delta * inputs[n][1];
        }
        for (var c = 0u; c < 8u; c++) {
            let column = first + c * THREADS;
            if column < IN {
                let slope = slopes[c / 4u][c % 4u];
                w[row + column] = finish_weight(scalars, replica, o * IN + column, slope, weights[c / 4u][c % 4u]);
            }
        }
    }
    let input_scalars = finish_input_scalars(replica);
    store_column(&inputs, &sums, input_scalars, replica, first, 0u);
    store_column(&inputs, &sums, input_scalars, replica, first, 1u);
    store_column(&inputs, &sums, input_scalars, replica, first, 2u);
    store_column(&inputs, &sums, input_scalars, replica, first, 3u);
    store_column(&inputs, &sums, input_scalars, replica, first, 4u);
    store_column(&inputs, &sums, input_scalars, replica, first, 5u);
    store_column(&inputs, &sums, input_scalars, replica, first, 6u);
    store_column(&inputs, &sums, input_scalars, replica, first, 7u);
}

@compute @workgroup_size(8)
fn dense_update_wide(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let replica = group.z;
    let scalars = finish_weight_scalars(replica);
    if group.x * WIDE >= IN {
        update_all_biases(replica, thread);
        return;
    }
    let first = group.x * WIDE + thread;
    var inputs: Rows;
    load_columns(&inputs, replica, first);
    for (var o = 0u; o < OUT; o++) {
        let row = (replica * OUT + o) * IN;
        let weights = weights_of(row, first);
        var slopes = Eight();
        for (var n = 0u; n < N; n++) {
            let delta = g[(replica * N + n) * OUT + o];
            slopes[0] += delta * inputs[n][0];
            slopes[1] += delta * inputs[n][1];
        }
        for (var c = 0u; c < 8u; c++) {
            let column = first + c * THREADS;
            if column < IN {
                let slope = slopes[c / 4u][c % 4u];
                w[row + column] = finish_weight(scalars, replica, o * IN + column, slope, weights[c / 4u][c % 4u]);
            }
        }
    }
}

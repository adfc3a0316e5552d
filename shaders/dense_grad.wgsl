// A dense layer's way back: dx = (g W) * slope, W -= eta (g^T x + decay), b -= eta sum g.
// A workgroup owns COLUMNS columns of W for all its rows; z is the replica. In it a thread
// takes every ROWS-th row of one column, so that neighbours read neighbouring elements.

// At most MOST.
override N: u32 = 1u;
override IN: u32 = 1u;
override OUT: u32 = 1u;
override SCALE: f32 = 1.0;

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
@group(0) @binding(4) var<storage, read> hyper: array<f32>;
@group(0) @binding(5) var<storage, read> step: array<u32>;
@group(0) @binding(6) var<storage, read_write> dx: array<f32>;

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

// The first workgroup updates the biases of the rows that are loaded.
fn update_biases(replica: u32, first: u32, lane: u32, rates: vec4<f32>) {
    if lane < CHUNK && first + lane < OUT {
        var sum = 0.0;
        for (var n = 0u; n < N; n++) {
            sum += chunk[lane * MOST + n];
        }
        b[replica * OUT + first + lane] -= rates.w * sum;
    }
}

@compute @workgroup_size(256)
fn dense_grad(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let replica = group.z;
    let rates = sgd_rates(replica);
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
            update_biases(replica, first, lane, rates);
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
            w[at] = weight + sgd_velocity(weight, 0.0, slope, rates);
        }
    }
    for (var n = 0u; n < N; n++) {
        shares[lane] = sums[n];
        workgroupBarrier();
        if row == 0u && inside {
            var sum = 0.0;
            for (var r = 0u; r < ROWS; r++) {
                sum += shares[r * COLUMNS + lane];
            }
            let at = (replica * N + n) * IN + column;
            dx[at] = sum * SCALE * activation_slope_of(inputs[n] / SCALE);
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
    let rates = sgd_rates(replica);
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
            update_biases(replica, first, lane, rates);
        }
        for (var o = row; o < CHUNK; o += ROWS) {
            if !inside || first + o >= OUT { break; }
            let at = (replica * OUT + first + o) * IN + column;
            var slope = 0.0;
            for (var n = 0u; n < N; n++) {
                slope += chunk[o * MOST + n] * inputs[n];
            }
            w[at] += sgd_velocity(w[at], 0.0, slope, rates);
        }
    }
}

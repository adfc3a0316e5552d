// What attention and its gradient share: tiles of 32 queries by 32 keys of one head, in workgroup memory, which the
// matrix of all scores never leaves. A row of a head goes through in chunks of 32 numbers. A thread has ROWS rows, a
// constant of what is put before this text: 1 for a GPU, where many threads hide each other's loads, 4 for a processor, where
// every load counts. z is the replica. Needs shared/nan.wgsl.

override N: u32 = 1u;
override T: u32 = 1u;
override S: u32 = 1u;
override HEADS: u32 = 1u;
override D: u32 = 1u;
// Rows of the queries' and of the keys' buffer, and where in a row the keys begin; the values follow them.
override Q_ROW: u32 = 1u;
override KV_ROW: u32 = 1u;
override KEYS: u32 = 0u;
// Rows of the mask, which is any buffer where MASKED is 0.
override MASK_ROW: u32 = 1u;
override MASKED: u32 = 0u;
override CAUSAL: u32 = 0u;
override SCALE: f32 = 1.0;

const TILE: u32 = 32u;
const THREADS: u32 = 256u / ROWS;
// How far a thread's rows are apart.
const APART: u32 = TILE / ROWS;
// vec4s of a row of a chunk, and of scores, and how far rows are apart in workgroup memory. A row has eight threads,
// and each of them one vec4 of it of every kind.
const QUADS: u32 = 8u;
const STRIDE: u32 = 9u;
override CHUNKS: u32 = (D + 31u) / 32u;
// vec4s of a chunk that hold anything.
override USED: u32 = min(QUADS, (D + 3u) / 4u);
override WIDTH: u32 = HEADS * D;
// What a hidden score is: the lowest number there is.
const HIDDEN: f32 = -3.4028234663852886e38;

@group(0) @binding(0) var<storage, read> q: array<f32>;
@group(0) @binding(1) var<storage, read> kv: array<f32>;
@group(0) @binding(2) var<storage, read> mask: array<f32>;

var<workgroup> left: array<vec4<f32>, 288>;
var<workgroup> right: array<vec4<f32>, 288>;
// Number k of a row has its columns k, k + 8, k + 16 and k + 24. So neighbouring threads read neighbouring rows of the
// right side, which lie in different banks.
var<workgroup> scores: array<vec4<f32>, 288>;
// What each of a row's threads gives to all of them.
var<workgroup> shares: array<f32, 256>;
// Whether anything that was loaded is not finite. 0 times that is NaN, so what is hidden has to be passed over.
var<workgroup> spoiled: atomic<u32>;

// Where this workgroup's head begins in the buffers, within and without its replica.
var<private> from_q: u32;
var<private> from_kv: u32;
var<private> from_mask: u32;
var<private> from_y: u32;
var<private> from_levels: u32;

// Finds head `number` of all.
fn find(replica: u32, number: u32) {
    let example = replica * N + number / HEADS;
    let head = number % HEADS;
    from_q = example * T * Q_ROW + head * D;
    from_kv = example * S * KV_ROW + KEYS + head * D;
    from_mask = example * MASK_ROW;
    from_y = example * T * WIDTH + head * D;
    from_levels = example * T * HEADS + head;
}

// Every thread of the workgroup must call it before anything is loaded.
fn begin(lane: u32) {
    if lane == 0u {
        atomicStore(&spoiled, 0u);
    }
    workgroupBarrier();
}

// Numbers from `first` of a head on, 0 where it has none.
fn loaded(four: vec4<f32>, first: u32) -> vec4<f32> {
    let there = select(vec4(0.0), four, first + vec4(0u, 1u, 2u, 3u) < vec4(D));
    if any((bitcast<vec4<u32>>(there) << vec4(1u)) >= vec4(0xFF000000u)) {
        atomicStore(&spoiled, 1u);
    }
    return there;
}

fn query(row: u32, quad: u32) -> vec4<f32> {
    if row >= T || 4u * quad >= D {
        return vec4(0.0);
    }
    let at = min(4u * quad + vec4(0u, 1u, 2u, 3u), vec4(D - 1u)) + from_q + row * Q_ROW;
    return loaded(vec4(q[at.x], q[at.y], q[at.z], q[at.w]), 4u * quad);
}

// Of keys; of values where `values` is 1.
fn key(row: u32, quad: u32, values: u32) -> vec4<f32> {
    if row >= S || 4u * quad >= D {
        return vec4(0.0);
    }
    let first = from_kv + values * WIDTH + row * KV_ROW;
    let at = min(4u * quad + vec4(0u, 1u, 2u, 3u), vec4(D - 1u)) + first;
    return loaded(vec4(kv[at.x], kv[at.y], kv[at.z], kv[at.w]), 4u * quad);
}

// Whether a query sees a key.
fn sees(query: u32, key: u32) -> bool {
    if query >= T || key >= S || (CAUSAL == 1u && key > query) {
        return false;
    }
    if MASKED == 0u {
        return true;
    }
    let shown = mask[from_mask + key];
    return shown > 0.0 && !is_nan(shown);
}

// Which of a thread's scores are seen; keys are rows where `turned`.
fn seen(row: u32, columns: vec4<u32>, turned: bool) -> vec4<bool> {
    if turned {
        return vec4(
            sees(columns.x, row),
            sees(columns.y, row),
            sees(columns.z, row),
            sees(columns.w, row),
        );
    }
    return vec4(
        sees(row, columns.x),
        sees(row, columns.y),
        sees(row, columns.z),
        sees(row, columns.w),
    );
}

fn columns_of(lane: u32) -> vec4<u32> {
    return lane % QUADS + vec4(0u, 8u, 16u, 24u);
}

// A thread's first row, and its vec4 of it.
fn row_of(lane: u32) -> u32 {
    return lane / QUADS;
}

// Adds what a chunk adds to a thread's scores.
fn multiply(lane: u32, sums: ptr<function, array<vec4<f32>, ROWS>>) {
    let row = row_of(lane) * STRIDE;
    let column = columns_of(lane) * STRIDE;
    for (var quad = 0u; quad < USED; quad++) {
        let x = right[column.x + quad];
        let y = right[column.y + quad];
        let z = right[column.z + quad];
        let w = right[column.w + quad];
        for (var r = 0u; r < ROWS; r++) {
            let a = left[row + r * APART * STRIDE + quad];
            (*sums)[r] += vec4(dot(a, x), dot(a, y), dot(a, z), dot(a, w));
        }
    }
}

// Scores of products, NaN where one is not finite.
fn scaled(products: vec4<f32>) -> vec4<f32> {
    let four = products * SCALE;
    return vec4(
        if_finite(four.x, four.x),
        if_finite(four.y, four.y),
        if_finite(four.z, four.z),
        if_finite(four.w, four.w),
    );
}

// A row's scores times the right side: a thread's vec4s of a chunk. Rows are queries or keys from `first` on, columns keys
// or queries from `start` on.
fn mixed_by(lane: u32, first: u32, start: u32, turned: bool) -> array<vec4<f32>, ROWS> {
    var sums: array<vec4<f32>, ROWS>;
    let quad = lane % QUADS;
    let careful = atomicLoad(&spoiled) == 1u;
    for (var k = 0u; k < QUADS; k++) {
        let at = columns_of(k) * STRIDE + quad;
        let a = right[at.x];
        let b = right[at.y];
        let c = right[at.z];
        let d = right[at.w];
        for (var r = 0u; r < ROWS; r++) {
            let row = row_of(lane) + r * APART;
            let four = scores[row * STRIDE + k];
            var x = four.x * a;
            var y = four.y * b;
            var z = four.z * c;
            var w = four.w * d;
            if careful {
                let there = seen(first + row, start + columns_of(k), turned);
                x = select(vec4(0.0), x, there.x);
                y = select(vec4(0.0), y, there.y);
                z = select(vec4(0.0), z, there.z);
                w = select(vec4(0.0), w, there.w);
            }
            sums[r] += x + y + z + w;
        }
    }
    return sums;
}

// The sum over the eight threads of a row, in their order, once all have left their shares.
fn row_sum(row: u32) -> f32 {
    var sum = 0.0;
    for (var k = 0u; k < QUADS; k++) {
        sum += shares[row * QUADS + k];
    }
    return sum;
}

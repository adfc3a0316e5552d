// What attention and its gradient share: tiles of 32 queries by 32 keys of one head, in workgroup memory, which the
// matrix of all scores never leaves. A row of a head goes through in chunks of 32 numbers. 256 threads; z is the replica.
// Needs shared/nan.wgsl.

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

const THREADS: u32 = 256u;
const TILE: u32 = 32u;
// vec4s of a chunk's row, and how far rows are apart in workgroup memory.
const QUADS: u32 = 8u;
const STRIDE: u32 = 9u;
// Likewise of a row of scores.
const ACROSS: u32 = 33u;
override CHUNKS: u32 = (D + 31u) / 32u;
override WIDTH: u32 = HEADS * D;
// What a hidden score is: the lowest number, which no other one is.
const HIDDEN: f32 = -3.4028234663852886e38;

@group(0) @binding(0) var<storage, read> q: array<f32>;
@group(0) @binding(1) var<storage, read> kv: array<f32>;
@group(0) @binding(2) var<storage, read> mask: array<f32>;

var<workgroup> left: array<vec4<f32>, 288>;
var<workgroup> right: array<vec4<f32>, 288>;
var<workgroup> scores: array<f32, 1056>;
var<workgroup> shares: array<f32, THREADS>;
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
    return MASKED == 0u || mask[from_mask + key] > 0.0;
}

// Scores of a thread: two rows of the left side, 16 apart, by two of the right one.
fn row_of(lane: u32) -> u32 {
    return lane / 16u;
}

fn column_of(lane: u32) -> u32 {
    return lane % 16u;
}

// Adds what a chunk adds to these four: left 0 by right 0 and 1, left 1 by right 0 and 1.
fn products(lane: u32) -> vec4<f32> {
    var sums = vec4(0.0);
    let above = row_of(lane) * STRIDE;
    let beside = column_of(lane) * STRIDE;
    for (var quad = 0u; quad < QUADS; quad++) {
        let a = left[above + quad];
        let b = left[above + 16u * STRIDE + quad];
        let c = right[beside + quad];
        let d = right[beside + 16u * STRIDE + quad];
        sums += vec4(dot(a, c), dot(a, d), dot(b, c), dot(b, d));
    }
    return sums;
}

fn keep_scores(lane: u32, four: vec4<f32>) {
    let at = row_of(lane) * ACROSS + column_of(lane);
    scores[at] = four.x;
    scores[at + 16u] = four.y;
    scores[at + 16u * ACROSS] = four.z;
    scores[at + 16u * ACROSS + 16u] = four.w;
}

// Row lane / 8 of the scores times the right side: vec4 lane % 8 of a chunk. Rows of the scores are queries from
// `queries` on, columns keys from `keys` on, or the other way round.
fn mix(lane: u32, queries: u32, keys: u32, turned: bool) -> vec4<f32> {
    var sum = vec4(0.0);
    let row = lane / QUADS;
    let careful = atomicLoad(&spoiled) == 1u;
    for (var j = 0u; j < TILE; j++) {
        if careful {
            let at = select(vec2(row, j), vec2(j, row), turned);
            if !sees(queries + at.x, keys + at.y) {
                continue;
            }
        }
        sum += scores[row * ACROSS + j] * right[j * STRIDE + lane % QUADS];
    }
    return sum;
}

// The sum over the eight threads of a row, in their order, once all have left their shares.
fn row_sum(lane: u32) -> f32 {
    var sum = 0.0;
    for (var k = 0u; k < QUADS; k++) {
        sum += shares[lane / QUADS * QUADS + k];
    }
    return sum;
}

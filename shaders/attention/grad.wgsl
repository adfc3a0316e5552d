// The gradient of attention with respect to queries, keys and values. Scores are made again, tile by tile: a share is
// p = e^(score - level) with the level that attention has saved, and its score's slope p (g v - delta) / sqrt(d) with
// delta = g y of the query's row (Dao 2023). One part of the workgroups has 32 queries each and goes through the keys,
// the other has 32 keys and goes through the queries, so nothing is added up between workgroups.
// Needs attention/tiles.wgsl.

@group(0) @binding(3) var<storage, read> saved_y: array<f32>;
@group(0) @binding(4) var<storage, read> saved_levels: array<f32>;
@group(0) @binding(5) var<storage, read> g: array<f32>;
@group(0) @binding(6) var<storage, read_write> dq: array<f32>;
@group(0) @binding(7) var<storage, read_write> dkv: array<f32>;
// Of queries, keys and values that are one buffer.
@group(0) @binding(6) var<storage, read_write> dqkv: array<f32>;

var<workgroup> levels_of: array<f32, TILE>;
var<workgroup> deltas: array<f32, TILE>;

// What a thread has made of its rows: ∂query, or ∂key and ∂value.
var<private> made: array<vec4<f32>, 4u * ROWS>;
var<private> made_value: array<vec4<f32>, 4u * ROWS>;

fn upstream(row: u32, quad: u32) -> vec4<f32> {
    if row >= T || 4u * quad >= D {
        return vec4(0.0);
    }
    let at = min(4u * quad + vec4(0u, 1u, 2u, 3u), vec4(D - 1u)) + from_y + row * WIDTH;
    return loaded(vec4(g[at.x], g[at.y], g[at.z], g[at.w]), 4u * quad);
}

fn mixture(row: u32, quad: u32) -> vec4<f32> {
    if row >= T || 4u * quad >= D {
        return vec4(0.0);
    }
    let at = min(4u * quad + vec4(0u, 1u, 2u, 3u), vec4(D - 1u)) + from_y + row * WIDTH;
    return loaded(vec4(saved_y[at.x], saved_y[at.y], saved_y[at.z], saved_y[at.w]), 4u * quad);
}

// Levels and deltas of 32 queries from `first` on. Every thread of the workgroup must call it.
fn take_rows(lane: u32, first: u32) {
    let quad = lane % QUADS;
    for (var r = 0u; r < ROWS; r++) {
        let row = row_of(lane) + r * APART;
        var share = 0.0;
        for (var chunk = 0u; chunk < CHUNKS; chunk++) {
            let at = chunk * QUADS + quad;
            share += dot(upstream(first + row, at), mixture(first + row, at));
        }
        shares[row * QUADS + quad] = share;
        if quad == 0u {
            levels_of[row] = saved_levels[from_levels + min(first + row, T - 1u) * HEADS];
        }
    }
    workgroupBarrier();
    if quad == 0u {
        for (var r = 0u; r < ROWS; r++) {
            let row = row_of(lane) + r * APART;
            deltas[row] = row_sum(row);
        }
    }
    workgroupBarrier();
}

// Shares of scores of these levels.
fn shares_of(products: vec4<f32>, levels: vec4<f32>, there: vec4<bool>) -> vec4<f32> {
    return select(vec4(0.0), exp(scaled(products) - levels), there);
}

fn four_levels(at: vec4<u32>) -> vec4<f32> {
    return vec4(levels_of[at.x], levels_of[at.y], levels_of[at.z], levels_of[at.w]);
}

fn four_deltas(at: vec4<u32>) -> vec4<f32> {
    return vec4(deltas[at.x], deltas[at.y], deltas[at.z], deltas[at.w]);
}

fn of_queries(lane: u32, first: u32) {
    let quad = lane % QUADS;
    take_rows(lane, first);
    let seen_keys = select(S, min(S, first + TILE), CAUSAL == 1u);
    // A tile may have keys alone.
    let end = select(seen_keys, 0u, first >= T);
    for (var start = 0u; start < end; start += TILE) {
        var scored: array<vec4<f32>, ROWS>;
        var outer: array<vec4<f32>, ROWS>;
        for (var chunk = 0u; chunk < CHUNKS; chunk++) {
            let at = chunk * QUADS + quad;
            var ups: array<vec4<f32>, ROWS>;
            var values: array<vec4<f32>, ROWS>;
            for (var r = 0u; r < ROWS; r++) {
                let row = row_of(lane) + r * APART;
                values[r] = key(start + row, at, 1u);
                ups[r] = upstream(first + row, at);
                left[row * STRIDE + quad] = query(first + row, at);
                right[row * STRIDE + quad] = key(start + row, at, 0u);
            }
            workgroupBarrier();
            multiply(lane, &scored);
            workgroupBarrier();
            for (var r = 0u; r < ROWS; r++) {
                let to = (row_of(lane) + r * APART) * STRIDE + quad;
                left[to] = ups[r];
                right[to] = values[r];
            }
            workgroupBarrier();
            multiply(lane, &outer);
            workgroupBarrier();
        }
        for (var r = 0u; r < ROWS; r++) {
            let row = row_of(lane) + r * APART;
            let there = seen(first + row, start + columns_of(lane), false);
            let share = shares_of(scored[r], vec4(levels_of[row]), there);
            let slope = share * (outer[r] - deltas[row]);
            scores[row * STRIDE + quad] = select(vec4(0.0), slope, there);
        }
        for (var chunk = 0u; chunk < CHUNKS; chunk++) {
            for (var r = 0u; r < ROWS; r++) {
                let row = row_of(lane) + r * APART;
                right[row * STRIDE + quad] = key(start + row, chunk * QUADS + quad, 0u);
            }
            workgroupBarrier();
            let more = mixed_by(lane, first, start, false);
            for (var r = 0u; r < ROWS; r++) {
                made[chunk * ROWS + r] += more[r] * SCALE;
            }
            workgroupBarrier();
        }
    }
}

fn of_keys(lane: u32, first: u32) {
    let quad = lane % QUADS;
    let columns = columns_of(lane);
    // A key is seen by no query before it. A tile may have queries alone.
    let end = select(T, 0u, first >= S);
    for (var start = select(0u, first, CAUSAL == 1u); start < end; start += TILE) {
        take_rows(lane, start);
        var scored: array<vec4<f32>, ROWS>;
        var outer: array<vec4<f32>, ROWS>;
        for (var chunk = 0u; chunk < CHUNKS; chunk++) {
            let at = chunk * QUADS + quad;
            var ups: array<vec4<f32>, ROWS>;
            var values: array<vec4<f32>, ROWS>;
            for (var r = 0u; r < ROWS; r++) {
                let row = row_of(lane) + r * APART;
                values[r] = key(first + row, at, 1u);
                ups[r] = upstream(start + row, at);
                left[row * STRIDE + quad] = key(first + row, at, 0u);
                right[row * STRIDE + quad] = query(start + row, at);
            }
            workgroupBarrier();
            multiply(lane, &scored);
            workgroupBarrier();
            for (var r = 0u; r < ROWS; r++) {
                let to = (row_of(lane) + r * APART) * STRIDE + quad;
                left[to] = values[r];
                right[to] = ups[r];
            }
            workgroupBarrier();
            multiply(lane, &outer);
            workgroupBarrier();
        }
        let level = four_levels(columns);
        let delta = four_deltas(columns);
        for (var r = 0u; r < ROWS; r++) {
            let row = row_of(lane) + r * APART;
            let there = seen(first + row, start + columns, true);
            let share = shares_of(scored[r], level, there);
            scores[row * STRIDE + quad] = share;
            scored[r] = select(vec4(0.0), share * (outer[r] - delta), there);
        }
        for (var chunk = 0u; chunk < CHUNKS; chunk++) {
            for (var r = 0u; r < ROWS; r++) {
                let row = row_of(lane) + r * APART;
                right[row * STRIDE + quad] = upstream(start + row, chunk * QUADS + quad);
            }
            workgroupBarrier();
            let more = mixed_by(lane, first, start, true);
            for (var r = 0u; r < ROWS; r++) {
                made_value[chunk * ROWS + r] += more[r];
            }
            workgroupBarrier();
        }
        for (var r = 0u; r < ROWS; r++) {
            scores[(row_of(lane) + r * APART) * STRIDE + quad] = scored[r];
        }
        for (var chunk = 0u; chunk < CHUNKS; chunk++) {
            for (var r = 0u; r < ROWS; r++) {
                let row = row_of(lane) + r * APART;
                right[row * STRIDE + quad] = query(start + row, chunk * QUADS + quad);
            }
            workgroupBarrier();
            let more = mixed_by(lane, first, start, true);
            for (var r = 0u; r < ROWS; r++) {
                made[chunk * ROWS + r] += more[r] * SCALE;
            }
            workgroupBarrier();
        }
    }
}

// What a workgroup does: the first row of its tile, the head, and whether its rows are keys.
struct Job {
    none: bool,
    keys: bool,
    first: u32,
    head: u32,
}

fn job_of(group: vec3<u32>, groups: vec3<u32>) -> Job {
    let tiles = (T + TILE - 1u) / TILE;
    let more = (S + TILE - 1u) / TILE;
    let job = group.y * groups.x + group.x;
    let tile = job % (tiles + more);
    let keys = tile >= tiles;
    let first = select(tile, tile - tiles, keys) * TILE;
    return Job(job >= N * HEADS * (tiles + more), keys, first, job / (tiles + more));
}

// The job of a workgroup that has the queries and the keys of a tile.
fn job_of_both(group: vec3<u32>, groups: vec3<u32>) -> Job {
    let tiles = (max(T, S) + TILE - 1u) / TILE;
    let job = group.y * groups.x + group.x;
    return Job(job >= N * HEADS * tiles, false, job % tiles * TILE, job / tiles);
}

// A number that a thread has made, and where it belongs: the row and the place in it.
struct Made {
    there: bool,
    row: u32,
    d: u32,
    value: f32,
    more: f32,
}

fn made_by(lane: u32, job: Job, rows: u32, k: u32) -> Made {
    let r = k / (4u * CHUNKS);
    let chunk = k / 4u % CHUNKS;
    let row = job.first + row_of(lane) + r * APART;
    let d = (chunk * QUADS + lane % QUADS) * 4u + k % 4u;
    let at = chunk * ROWS + r;
    return Made(row < rows && d < D, row, d, made[at][k % 4u], made_value[at][k % 4u]);
}

fn return_queries(lane: u32, job: Job, replica: u32) {
    let first = (replica * N + job.head / HEADS) * T * WIDTH + job.head % HEADS * D;
    for (var k = 0u; k < 4u * CHUNKS * ROWS; k++) {
        let made = made_by(lane, job, T, k);
        if made.there {
            dq[first + made.row * WIDTH + made.d] = made.value;
        }
    }
}

fn return_keys(lane: u32, job: Job, replica: u32) {
    let first = (replica * N + job.head / HEADS) * S * 2u * WIDTH + job.head % HEADS * D;
    for (var k = 0u; k < 4u * CHUNKS * ROWS; k++) {
        let made = made_by(lane, job, S, k);
        if made.there {
            let at = first + made.row * 2u * WIDTH + made.d;
            dkv[at] = made.value;
            dkv[at + WIDTH] = made.more;
        }
    }
}

fn return_own_queries(lane: u32, job: Job, replica: u32) {
    let first = (replica * N + job.head / HEADS) * T * 3u * WIDTH + job.head % HEADS * D;
    for (var k = 0u; k < 4u * CHUNKS * ROWS; k++) {
        let made = made_by(lane, job, T, k);
        if made.there {
            dqkv[first + made.row * 3u * WIDTH + made.d] = made.value;
        }
    }
}

fn return_own_keys(lane: u32, job: Job, replica: u32) {
    let first = (replica * N + job.head / HEADS) * T * 3u * WIDTH + job.head % HEADS * D;
    for (var k = 0u; k < 4u * CHUNKS * ROWS; k++) {
        let made = made_by(lane, job, T, k);
        if made.there {
            let at = first + made.row * 3u * WIDTH + made.d;
            dqkv[at + WIDTH] = made.value;
            dqkv[at + 2u * WIDTH] = made.more;
        }
    }
}

// Forgets what was made of queries.
fn clear() {
    for (var k = 0u; k < 4u * ROWS; k++) {
        made[k] = vec4(0.0);
    }
}

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

// What a thread has made of row lane / 8: ∂query, or ∂key and ∂value.
var<private> made: array<vec4<f32>, 4>;
var<private> made_value: array<vec4<f32>, 4>;

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
    let row = lane / QUADS;
    let quad = lane % QUADS;
    var share = 0.0;
    for (var chunk = 0u; chunk < CHUNKS; chunk++) {
        let at = chunk * QUADS + quad;
        share += dot(upstream(first + row, at), mixture(first + row, at));
    }
    shares[lane] = share;
    let level = saved_levels[from_levels + min(first + row, T - 1u) * HEADS];
    workgroupBarrier();
    if quad == 0u {
        deltas[row] = row_sum(lane);
        levels_of[row] = level;
    }
    workgroupBarrier();
}

// Shares of scores of these levels.
fn shares_of(products: vec4<f32>, levels: vec4<f32>, there: vec4<bool>) -> vec4<f32> {
    return select(vec4(0.0), exp(scaled(products) - levels), there);
}

fn of_queries(lane: u32, first: u32) {
    let row = lane / QUADS;
    let quad = lane % QUADS;
    take_rows(lane, first);
    let end = select(S, min(S, first + TILE), CAUSAL == 1u);
    for (var start = 0u; start < end; start += TILE) {
        let there = seen(first + row, start + columns_of(lane), false);
        var scored = vec4(0.0);
        var outer = vec4(0.0);
        for (var chunk = 0u; chunk < CHUNKS; chunk++) {
            let at = chunk * QUADS + quad;
            let value = key(start + row, at, 1u);
            let up = upstream(first + row, at);
            left[row * STRIDE + quad] = query(first + row, at);
            right[row * STRIDE + quad] = key(start + row, at, 0u);
            workgroupBarrier();
            scored += products(lane);
            workgroupBarrier();
            left[row * STRIDE + quad] = up;
            right[row * STRIDE + quad] = value;
            workgroupBarrier();
            outer += products(lane);
            workgroupBarrier();
        }
        let share = shares_of(scored, vec4(levels_of[row]), there);
        scores[row * STRIDE + quad] = select(vec4(0.0), share * (outer - deltas[row]), there);
        for (var chunk = 0u; chunk < CHUNKS; chunk++) {
            right[row * STRIDE + quad] = key(start + row, chunk * QUADS + quad, 0u);
            workgroupBarrier();
            made[chunk] += mix(lane, first, start, false) * SCALE;
            workgroupBarrier();
        }
    }
}

fn of_keys(lane: u32, first: u32) {
    let row = lane / QUADS;
    let quad = lane % QUADS;
    let columns = columns_of(lane);
    // A key is seen by no query before it.
    for (var start = select(0u, first, CAUSAL == 1u); start < T; start += TILE) {
        let there = seen(first + row, start + columns, true);
        take_rows(lane, start);
        var scored = vec4(0.0);
        var outer = vec4(0.0);
        for (var chunk = 0u; chunk < CHUNKS; chunk++) {
            let at = chunk * QUADS + quad;
            let value = key(first + row, at, 1u);
            let up = upstream(start + row, at);
            left[row * STRIDE + quad] = key(first + row, at, 0u);
            right[row * STRIDE + quad] = query(start + row, at);
            workgroupBarrier();
            scored += products(lane);
            workgroupBarrier();
            left[row * STRIDE + quad] = value;
            right[row * STRIDE + quad] = up;
            workgroupBarrier();
            outer += products(lane);
            workgroupBarrier();
        }
        let at = columns;
        let levels = vec4(levels_of[at.x], levels_of[at.y], levels_of[at.z], levels_of[at.w]);
        let delta = vec4(deltas[at.x], deltas[at.y], deltas[at.z], deltas[at.w]);
        let share = shares_of(scored, levels, there);
        scores[row * STRIDE + quad] = share;
        for (var chunk = 0u; chunk < CHUNKS; chunk++) {
            right[row * STRIDE + quad] = upstream(start + row, chunk * QUADS + quad);
            workgroupBarrier();
            made_value[chunk] += mix(lane, first, start, true);
            workgroupBarrier();
        }
        scores[row * STRIDE + quad] = select(vec4(0.0), share * (outer - delta), there);
        for (var chunk = 0u; chunk < CHUNKS; chunk++) {
            right[row * STRIDE + quad] = query(start + row, chunk * QUADS + quad);
            workgroupBarrier();
            made[chunk] += mix(lane, first, start, true) * SCALE;
            workgroupBarrier();
        }
    }
}

// What a workgroup does: whether it has keys, from which row on, of which head.
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

fn make(group: vec3<u32>, groups: vec3<u32>, lane: u32) -> Job {
    let job = job_of(group, groups);
    if !job.none {
        find(group.z, job.head);
        begin(lane);
        if job.keys {
            of_keys(lane, job.first);
        } else {
            of_queries(lane, job.first);
        }
    }
    return job;
}

@compute @workgroup_size(THREADS)
fn attention_grad(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let job = make(group, groups, lane);
    let row = job.first + lane / QUADS;
    if job.none || row >= select(T, S, job.keys) {
        return;
    }
    let example = group.z * N + job.head / HEADS;
    let head = job.head % HEADS * D;
    for (var k = 0u; k < 4u * CHUNKS; k++) {
        let d = (k / 4u * QUADS + lane % QUADS) * 4u + k % 4u;
        if d >= D {
            continue;
        }
        if job.keys {
            let at = (example * S + row) * 2u * WIDTH + head + d;
            dkv[at] = made[k / 4u][k % 4u];
            dkv[at + WIDTH] = made_value[k / 4u][k % 4u];
        } else {
            dq[(example * T + row) * WIDTH + head + d] = made[k / 4u][k % 4u];
        }
    }
}

@compute @workgroup_size(THREADS)
fn attention_self_grad(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let job = make(group, groups, lane);
    let row = job.first + lane / QUADS;
    if job.none || row >= T {
        return;
    }
    let at = ((group.z * N + job.head / HEADS) * T + row) * 3u * WIDTH + job.head % HEADS * D;
    for (var k = 0u; k < 4u * CHUNKS; k++) {
        let d = (k / 4u * QUADS + lane % QUADS) * 4u + k % 4u;
        if d >= D {
            continue;
        }
        if job.keys {
            dqkv[at + WIDTH + d] = made[k / 4u][k % 4u];
            dqkv[at + 2u * WIDTH + d] = made_value[k / 4u][k % 4u];
        } else {
            dqkv[at + d] = made[k / 4u][k % 4u];
        }
    }
}

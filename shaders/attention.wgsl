// Attention of several heads without the matrix of their scores (Dao et al. 2022): of tiles of keys one after the
// other, a row keeps the largest score so far, and the sum of the exponentials and of the values times these, which it
// scales when a larger score comes. A workgroup has 32 queries of a head; eight threads have a row, a vec4 of each
// chunk each. Needs attention/tiles.wgsl.

@group(0) @binding(3) var<storage, read_write> y: array<f32>;
@group(0) @binding(4) var<storage, read_write> levels: array<f32>;

var<workgroup> totals: array<f32, THREADS>;

@compute @workgroup_size(THREADS)
fn attention(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let tiles = (T + TILE - 1u) / TILE;
    let job = group.y * groups.x + group.x;
    if job >= N * HEADS * tiles {
        return;
    }
    find(group.z, job / tiles);
    begin(lane);
    let first = job % tiles * TILE;
    let row = lane / QUADS;
    let quad = lane % QUADS;
    let end = select(S, min(S, first + TILE), CAUSAL == 1u);
    var most = HIDDEN;
    var total = 0.0;
    var mixed: array<vec4<f32>, 4>;
    for (var start = 0u; start < end; start += TILE) {
        let there = seen(first + row, start + columns_of(lane), false);
        // The first of the values is under way while scores are made.
        let value = key(start + row, quad, 1u);
        var sums = vec4(0.0);
        for (var chunk = 0u; chunk < CHUNKS; chunk++) {
            left[row * STRIDE + quad] = query(first + row, chunk * QUADS + quad);
            right[row * STRIDE + quad] = key(start + row, chunk * QUADS + quad, 0u);
            workgroupBarrier();
            sums += products(lane);
            workgroupBarrier();
        }
        let four = select(vec4(HIDDEN), scaled(sums), there);
        shares[lane] = larger(larger(four.x, four.y), larger(four.z, four.w));
        right[row * STRIDE + quad] = value;
        workgroupBarrier();
        var largest = most;
        for (var k = 0u; k < QUADS; k++) {
            largest = larger(largest, shares[row * QUADS + k]);
        }
        let raised = select(vec4(0.0), exp(four - largest), there);
        scores[row * STRIDE + quad] = raised;
        totals[lane] = raised.x + raised.y + raised.z + raised.w;
        workgroupBarrier();
        let before = exp(most - largest);
        total *= before;
        for (var k = 0u; k < QUADS; k++) {
            total += totals[row * QUADS + k];
        }
        most = largest;
        for (var chunk = 0u; chunk < CHUNKS; chunk++) {
            if chunk > 0u {
                right[row * STRIDE + quad] = key(start + row, chunk * QUADS + quad, 1u);
                workgroupBarrier();
            }
            mixed[chunk] = mixed[chunk] * before + mix(lane, first, start, false);
            // Nobody may store the next while somebody still reads this.
            workgroupBarrier();
        }
    }
    if first + row >= T {
        return;
    }
    // A row that sees nothing takes nothing.
    let none = total == 0.0;
    for (var chunk = 0u; chunk < CHUNKS; chunk++) {
        let share = select(mixed[chunk] / total, vec4(0.0), none);
        for (var e = 0u; e < 4u; e++) {
            let d = (chunk * QUADS + quad) * 4u + e;
            if d < D {
                y[from_y + (first + row) * WIDTH + d] = share[e];
            }
        }
    }
    if quad == 0u {
        levels[from_levels + (first + row) * HEADS] = select(most + log(total), 0.0, none);
    }
}

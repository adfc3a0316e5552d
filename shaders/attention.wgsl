// Attention of several heads without the matrix of their scores (Dao et al. 2022): of tiles of keys one after the
// other, a row keeps the largest score so far, and the sum of the exponentials and of the values times these, which it
// scales when a larger score comes. A workgroup has 32 queries of a head. Needs attention/tiles.wgsl.

@group(0) @binding(3) var<storage, read_write> y: array<f32>;
@group(0) @binding(4) var<storage, read_write> levels: array<f32>;

var<workgroup> totals: array<f32, 256>;

fn attend(group: vec3<u32>, groups: vec3<u32>, lane: u32) {
    let tiles = (T + TILE - 1u) / TILE;
    let job = group.y * groups.x + group.x;
    if job >= N * HEADS * tiles {
        return;
    }
    find(group.z, job / tiles);
    begin(lane);
    let first = job % tiles * TILE;
    let quad = lane % QUADS;
    let end = select(S, min(S, first + TILE), CAUSAL == 1u);
    var most: array<f32, ROWS>;
    var total: array<f32, ROWS>;
    var mixed: array<vec4<f32>, 4u * ROWS>;
    for (var r = 0u; r < ROWS; r++) {
        most[r] = HIDDEN;
    }
    for (var start = 0u; start < end; start += TILE) {
        var there: array<vec4<bool>, ROWS>;
        var values: array<vec4<f32>, ROWS>;
        for (var r = 0u; r < ROWS; r++) {
            let row = row_of(lane) + r * APART;
            there[r] = seen(first + row, start + columns_of(lane), false);
            // The first of the values is under way while scores are made.
            values[r] = key(start + row, quad, 1u);
        }
        var sums: array<vec4<f32>, ROWS>;
        for (var chunk = 0u; chunk < CHUNKS; chunk++) {
            for (var r = 0u; r < ROWS; r++) {
                let row = row_of(lane) + r * APART;
                left[row * STRIDE + quad] = query(first + row, chunk * QUADS + quad);
                right[row * STRIDE + quad] = key(start + row, chunk * QUADS + quad, 0u);
            }
            workgroupBarrier();
            multiply(lane, &sums);
            workgroupBarrier();
        }
        for (var r = 0u; r < ROWS; r++) {
            let row = row_of(lane) + r * APART;
            let four = select(vec4(HIDDEN), scaled(sums[r]), there[r]);
            sums[r] = four;
            shares[row * QUADS + quad] = larger(larger(four.x, four.y), larger(four.z, four.w));
            right[row * STRIDE + quad] = values[r];
        }
        workgroupBarrier();
        var before: array<f32, ROWS>;
        for (var r = 0u; r < ROWS; r++) {
            let row = row_of(lane) + r * APART;
            var largest = most[r];
            for (var k = 0u; k < QUADS; k++) {
                largest = larger(largest, shares[row * QUADS + k]);
            }
            let raised = select(vec4(0.0), exp(sums[r] - largest), there[r]);
            scores[row * STRIDE + quad] = raised;
            totals[row * QUADS + quad] = raised.x + raised.y + raised.z + raised.w;
            before[r] = exp(most[r] - largest);
            most[r] = largest;
        }
        workgroupBarrier();
        for (var r = 0u; r < ROWS; r++) {
            var sum = total[r] * before[r];
            for (var k = 0u; k < QUADS; k++) {
                sum += totals[(row_of(lane) + r * APART) * QUADS + k];
            }
            total[r] = sum;
        }
        for (var chunk = 0u; chunk < CHUNKS; chunk++) {
            if chunk > 0u {
                for (var r = 0u; r < ROWS; r++) {
                    let row = row_of(lane) + r * APART;
                    right[row * STRIDE + quad] = key(start + row, chunk * QUADS + quad, 1u);
                }
                workgroupBarrier();
            }
            let more = mixed_by(lane, first, start, false);
            for (var r = 0u; r < ROWS; r++) {
                mixed[chunk * ROWS + r] = mixed[chunk * ROWS + r] * before[r] + more[r];
            }
            // Nobody may store the next while somebody still reads this.
            workgroupBarrier();
        }
    }
    for (var r = 0u; r < ROWS; r++) {
        let row = first + row_of(lane) + r * APART;
        if row >= T {
            continue;
        }
        // A row that sees nothing takes nothing.
        let none = total[r] == 0.0;
        for (var k = 0u; k < 4u * CHUNKS; k++) {
            let d = (k / 4u * QUADS + quad) * 4u + k % 4u;
            if d < D {
                let share = mixed[k / 4u * ROWS + r][k % 4u] / total[r];
                y[from_y + row * WIDTH + d] = select(share, 0.0, none);
            }
        }
        if quad == 0u {
            levels[from_levels + row * HEADS] = select(most[r] + log(total[r]), 0.0, none);
        }
    }
}

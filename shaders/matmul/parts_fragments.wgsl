// The parts of C = A^T B (matmul/parts.wgsl) by matrix units (shared/fragments.wgsl).
override PARTS: u32 = 1u;
// Rows of A and B in a part: whole steps (src/ops/matmul/parts.rs).
override DEPTH: u32 = K;
override ROWS: u32 = M;
override COLUMNS: u32 = N;
const ACROSS_A: u32 = 1u;
const ACROSS_B: u32 = 1u;

var<private> part: u32;

fn factor_a(replica: u32, i: u32, p: u32) -> f32 {
    return element_a(replica, i, part * DEPTH + p);
}

fn factor_b(replica: u32, p: u32, j: u32) -> f32 {
    return element_b(replica, part * DEPTH + p, j);
}

@group(0) @binding(2) var<storage, read_write> parts: array<f32>;

fn store(group: vec3<u32>, thread: u32) {
    let blocks = (M + SPAN - 1u) / SPAN;
    part = group.y / blocks;
    let block = vec3<u32>(group.x, group.y % blocks, group.z);
    block_product(block, thread);
    for (var r = 0u; r < RESULTS; r++) {
        let e = result(block, thread, r);
        if e.inside {
            parts[((group.z * PARTS + part) * M + e.row) * N + e.column] = e.sum;
        }
    }
}

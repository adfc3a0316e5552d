// C = A^T B of each part of the rows of A [K, M] and B [K, N], in blocks (shared/blocks.wgsl). The workgroups of
// y go through the blocks of rows of C of each part.
override PARTS: u32 = 1u;
// Rows of A and B in a part.
override DEPTH: u32 = K;
override ROWS: u32 = M;
override COLUMNS: u32 = N;
const ACROSS_A: u32 = 1u;
const ACROSS_B: u32 = 1u;

var<private> part: u32;

fn hold(first: vec2<u32>) {}

fn four_of_a(replica: u32, i: u32, p: u32) -> vec4<f32> {
    if p >= DEPTH {
        return vec4(0.0);
    }
    let k = part * DEPTH + p;
    return vec4<f32>(
        element_a(replica, i, k),
        element_a(replica, i + FOURS, k),
        element_a(replica, i + 2u * FOURS, k),
        element_a(replica, i + 3u * FOURS, k),
    );
}

fn four_of_b(replica: u32, p: u32, j: u32) -> vec4<f32> {
    if p >= DEPTH {
        return vec4(0.0);
    }
    let k = part * DEPTH + p;
    return vec4<f32>(
        element_b(replica, k, j),
        element_b(replica, k, j + FOURS),
        element_b(replica, k, j + 2u * FOURS),
        element_b(replica, k, j + 3u * FOURS),
    );
}

@group(0) @binding(2) var<storage, read_write> parts: array<f32>;

@compute @workgroup_size(256)
fn matmul_parts(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let blocks = (M + BLOCK - 1u) / BLOCK;
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

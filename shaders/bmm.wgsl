// C = op(A) op(B) for each of BATCH matrices, by tiles of 16 x 16 in workgroup memory; one
// thread per element of C; z is the replica. One step along axis k of the batch [E0, .., E3] is
// A_k matrices of A and B_k of B, none where one is used again.

override M: u32 = 1u;
override N: u32 = 1u;
override K: u32 = 1u;
override TRANS_A: u32 = 0u;
override TRANS_B: u32 = 0u;
override BATCH: u32 = 1u;
override BATCH_A: u32 = 1u;
override BATCH_B: u32 = 1u;
override E1: u32 = 1u;
override E2: u32 = 1u;
override E3: u32 = 1u;
override A0: u32 = 0u;
override A1: u32 = 0u;
override A2: u32 = 0u;
override A3: u32 = 0u;
override B0: u32 = 0u;
override B1: u32 = 0u;
override B2: u32 = 0u;
override B3: u32 = 0u;

const TILE: u32 = 16u;

@group(0) @binding(0) var<storage, read> a: array<f32>;
@group(0) @binding(1) var<storage, read> b: array<f32>;
@group(0) @binding(2) var<storage, read_write> c: array<f32>;

// Where this workgroup's matrices begin, once `find` has found them; that of C within its replica.
var<private> from_a: u32;
var<private> from_b: u32;
var<private> to_c: u32;

// Workgroups of x and y are one long row: blocks of columns, blocks of rows, matrices. Finds the
// matrices and returns the block; false where the row is longer than there are blocks.
fn find(group: vec3<u32>, groups: vec3<u32>, edge: u32, block: ptr<function, vec3<u32>>) -> bool {
    let columns = (N + edge - 1u) / edge;
    let rows = (M + edge - 1u) / edge;
    let job = group.y * groups.x + group.x;
    let matrix = job / (columns * rows);
    *block = vec3<u32>(job % columns, job / columns % rows, group.z);
    let e1 = matrix / E3 / E2 % E1;
    let e0 = matrix / E3 / E2 / E1;
    from_a = e0 * A0 + e1 * A1 + matrix / E3 % E2 * A2 + matrix % E3 * A3;
    from_b = e0 * B0 + e1 * B1 + matrix / E3 % E2 * B2 + matrix % E3 * B3;
    from_a = (group.z * BATCH_A + from_a) * M * K;
    from_b = (group.z * BATCH_B + from_b) * K * N;
    to_c = matrix * M * N;
    return matrix < BATCH;
}

// The replica, which shared/blocks.wgsl hands over, is in `from_a` and `from_b`.
fn element_a(replica: u32, i: u32, p: u32) -> f32 {
    if i >= M || p >= K {
        return 0.0;
    }
    return a[from_a + select(i * K + p, p * M + i, TRANS_A == 1u)];
}

fn element_b(replica: u32, p: u32, j: u32) -> f32 {
    if p >= K || j >= N {
        return 0.0;
    }
    return b[from_b + select(p * N + j, j * K + p, TRANS_B == 1u)];
}

var<workgroup> tile_a: array<array<f32, 16>, 16>;
var<workgroup> tile_b: array<array<f32, 16>, 16>;

@compute @workgroup_size(16, 16)
fn bmm(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_id) local: vec3<u32>,
) {
    var block: vec3<u32>;
    if !find(group, groups, TILE, &block) {
        return;
    }
    let first = block.xy * TILE;
    var sum = 0.0;
    for (var p = 0u; p < K; p += TILE) {
        tile_a[local.y][local.x] = element_a(group.z, first.y + local.y, p + local.x);
        tile_b[local.y][local.x] = element_b(group.z, p + local.y, first.x + local.x);
        workgroupBarrier();
        for (var q = 0u; q < TILE; q++) {
            sum += tile_a[local.y][q] * tile_b[q][local.x];
        }
        // Nobody may load the next tile while somebody still reads this one.
        workgroupBarrier();
    }
    let place = first + local.xy;
    if place.y < M && place.x < N {
        let i = to_c + place.y * N + place.x;
        c[group.z * BATCH * M * N + i] = finish(finish_scalars(group.z), group.z, i, sum);
    }
}

// C = op(A) op(B) by one workgroup: a thread has a block of 4 x 4 of C over its share of K, in registers.
// SLICES threads share a block where there are fewer blocks than threads. z is the replica.

override M: u32 = 1u;
override N: u32 = 1u;
override K: u32 = 1u;
override TRANS_A: u32 = 0u;
override TRANS_B: u32 = 0u;
// 1, or a multiple of 4 up to THREADS.
override SLICES: u32 = 1u;

override ACROSS: u32 = (N + 3u) / 4u;
override BLOCKS: u32 = (M + 3u) / 4u * ACROSS;
// Blocks at a time.
override TEAMS: u32 = THREADS / SLICES;
// Threads that add up the shares of one sum, four of each.
override PARTS: u32 = max(SLICES / 4u, 1u);

@group(0) @binding(0) var<storage, read> a: array<f32>;
@group(0) @binding(1) var<storage, read> b: array<f32>;
@group(0) @binding(2) var<storage, read_write> c: array<f32>;

fn of_a(replica: u32, i: u32, p: u32) -> f32 {
    // Beyond the last row stands the last one.
    let row = min(i, M - 1u);
    return a[replica * M * K + select(row * K + p, p * M + row, TRANS_A == 1u)];
}

fn of_b(replica: u32, j: u32, p: u32) -> f32 {
    let column = min(j, N - 1u);
    return b[replica * N * K + select(p * N + column, column * K + p, TRANS_B == 1u)];
}

fn finish_one(scalars: finish_once, replica: u32, i: u32, j: u32, sum: f32) {
    if i < M && j < N {
        let element = i * N + j;
        c[replica * M * N + element] = finish(scalars, replica, element, sum);
    }
}

// A row of a thread's block, summed over the threads that share it. Every thread must call it: it holds
// barriers.
fn finish_row(scalars: finish_once, replica: u32, first: u32, row: u32, sums: vec4<f32>, thread: u32) {
    if SLICES == 1u {
        let block = first + thread;
        if block < BLOCKS {
            let i = block / ACROSS * 4u + row;
            let j = block % ACROSS * 4u;
            finish_one(scalars, replica, i, j, sums.x);
            finish_one(scalars, replica, i, j + 1u, sums.y);
            finish_one(scalars, replica, i, j + 2u, sums.z);
            finish_one(scalars, replica, i, j + 3u, sums.w);
        }
        return;
    }
    shares[thread] = sums.x;
    shares[THREADS + thread] = sums.y;
    shares[2u * THREADS + thread] = sums.z;
    shares[3u * THREADS + thread] = sums.w;
    workgroupBarrier();
    // A value is a column of a team's row: SLICES shares, PARTS threads.
    let value = thread / PARTS;
    let begin = value % 4u * THREADS + value / 4u * SLICES;
    var part = 0.0;
    for (var slice = thread % PARTS; slice < SLICES; slice += PARTS) {
        part += shares[begin + slice];
    }
    // Nobody may overwrite a share that somebody has not added up yet. The last column is added up last where
    // threads run in order, so there a missing barrier shows.
    workgroupBarrier();
    shares[3u * THREADS + thread] = part;
    workgroupBarrier();
    let block = first + thread / 4u;
    if thread < 4u * TEAMS && block < BLOCKS {
        var sum = 0.0;
        for (var p = 0u; p < PARTS; p++) {
            sum += shares[3u * THREADS + thread * PARTS + p];
        }
        finish_one(scalars, replica, block / ACROSS * 4u + row, block % ACROSS * 4u + thread % 4u, sum);
    }
    workgroupBarrier();
}

@compute @workgroup_size(THREADS)
fn matmul_single(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let replica = group.z;
    let scalars = finish_scalars(replica);
    for (var first = 0u; first < BLOCKS; first += TEAMS) {
        let block = first + thread / SLICES;
        let i = block / ACROSS * 4u;
        let j = block % ACROSS * 4u;
        var sums = mat4x4<f32>();
        if block < BLOCKS {
            for (var p = thread % SLICES; p < K; p += SLICES) {
                let rows = vec4(
                    of_a(replica, i, p),
                    of_a(replica, i + 1u, p),
                    of_a(replica, i + 2u, p),
                    of_a(replica, i + 3u, p),
                );
                let columns = vec4(
                    of_b(replica, j, p),
                    of_b(replica, j + 1u, p),
                    of_b(replica, j + 2u, p),
                    of_b(replica, j + 3u, p),
                );
                sums += mat4x4(rows.x * columns, rows.y * columns, rows.z * columns, rows.w * columns);
            }
        }
        finish_row(scalars, replica, first, 0u, sums[0], thread);
        finish_row(scalars, replica, first, 1u, sums[1], thread);
        finish_row(scalars, replica, first, 2u, sums[2], thread);
        finish_row(scalars, replica, first, 3u, sums[3], thread);
    }
}

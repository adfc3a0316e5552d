// The end of C = op(A) op(B) by matrix units (shared/fragments.wgsl).
override ROWS: u32 = M;
override COLUMNS: u32 = N;
override DEPTH: u32 = K;
override ACROSS_A: u32 = TRANS_A;
override ACROSS_B: u32 = 1u - TRANS_B;

fn store(group: vec3<u32>, thread: u32, crew: u32) {
    block_product(group, thread, crew);
    let scalars = finish_scalars(group.z);
    for (var r = 0u; r < RESULTS; r++) {
        let e = result(group, thread, crew, r);
        if e.inside {
            let i = e.row * N + e.column;
            c[group.z * M * N + i] = finish(scalars, group.z, i, e.sum);
        }
    }
}

// The ends of C = op(A) op(B) by matrix units (shared/fragments.wgsl).
override ROWS: u32 = M;
override COLUMNS: u32 = N;
override DEPTH: u32 = K;
override ACROSS_A: u32 = TRANS_A;
override ACROSS_B: u32 = 1u - TRANS_B;

fn store_biased(group: vec3<u32>, thread: u32, crew: u32) {
    block_product(group, thread, crew);
    for (var r = 0u; r < RESULTS; r++) {
        let e = result(group, thread, crew, r);
        if e.inside {
            biased[group.z * M * N + e.row * N + e.column] = activate(e.sum + bias[group.z * N + e.column]);
        }
    }
}

fn store_dropped(group: vec3<u32>, thread: u32, crew: u32) {
    block_product(group, thread, crew);
    for (var r = 0u; r < RESULTS; r++) {
        let e = result(group, thread, crew, r);
        if e.inside {
            let value = activate(e.sum + bias[group.z * N + e.column]);
            dropped[group.z * M * N + e.row * N + e.column] = masked(group.z, e.row * N + e.column, value);
        }
    }
}

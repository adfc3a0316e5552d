// The end of C = op(A) op(B) by matrix units (shared/fragments.wgsl).
override ROWS: u32 = M;
override COLUMNS: u32 = N;
override DEPTH: u32 = K;
override ACROSS_A: u32 = TRANS_A;
override ACROSS_B: u32 = 1u - TRANS_B;

fn factor_a(replica: u32, i: u32, p: u32) -> f32 {
    return element_a(replica, i, p);
}

fn factor_b(replica: u32, p: u32, j: u32) -> f32 {
    return element_b(replica, p, j);
}

fn store(group: vec3<u32>, thread: u32) {
    block_product(group, thread);
    let scalars = finish_scalars(group.z);
    for (var r = 0u; r < RESULTS; r++) {
        let e = result(group, thread, r);
        if e.inside {
            let i = e.row * N + e.column;
            c[group.z * M * N + i] = finish(scalars, group.z, i, e.sum);
        }
    }
}

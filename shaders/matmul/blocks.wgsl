// C = op(A) op(B) in blocks (shared/blocks.wgsl).
override ROWS: u32 = M;
override COLUMNS: u32 = N;
override DEPTH: u32 = K;
override ACROSS_A: u32 = TRANS_A;
override ACROSS_B: u32 = 1u - TRANS_B;

@compute @workgroup_size(256)
fn matmul_block(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    block_product(group, thread);
    for (var r = 0u; r < RESULTS; r++) {
        let e = result(group, thread, r);
        if e.inside {
            c[group.z * M * N + e.row * N + e.column] = e.sum;
        }
    }
}

@compute @workgroup_size(256)
fn matmul_block_bias(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    block_product(group, thread);
    for (var r = 0u; r < RESULTS; r++) {
        let e = result(group, thread, r);
        if e.inside {
            biased[group.z * M * N + e.row * N + e.column] = activate(e.sum + bias[group.z * N + e.column]);
        }
    }
}

@compute @workgroup_size(256)
fn matmul_block_bias_dropout(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    block_product(group, thread);
    for (var r = 0u; r < RESULTS; r++) {
        let e = result(group, thread, r);
        if e.inside {
            let value = activate(e.sum + bias[group.z * N + e.column]);
            dropped[group.z * M * N + e.row * N + e.column] = masked(group.z, e.row * N + e.column, value);
        }
    }
}

@compute @workgroup_size(256)
fn matmul_block_slope(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    block_product(group, thread);
    for (var r = 0u; r < RESULTS; r++) {
        let e = result(group, thread, r);
        if e.inside {
            let at = group.z * M * N + e.row * N + e.column;
            delta[at] = sloped(e.sum, y[at]);
        }
    }
}

@compute @workgroup_size(256)
fn matmul_block_sgd(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    block_product(group, thread);
    let rates = sgd_rates(group.z);
    for (var r = 0u; r < RESULTS; r++) {
        let e = result(group, thread, r);
        if e.inside {
            let at = group.z * M * N + e.row * N + e.column;
            w[at] += sgd_velocity(w[at], 0.0, e.sum, rates);
        }
    }
}

@compute @workgroup_size(256)
fn matmul_block_sgd_momentum(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    block_product(group, thread);
    let rates = sgd_rates(group.z);
    for (var r = 0u; r < RESULTS; r++) {
        let e = result(group, thread, r);
        if e.inside {
            let at = group.z * M * N + e.row * N + e.column;
            v[at] = sgd_velocity(w[at], v[at], e.sum, rates);
            w[at] += v[at];
        }
    }
}

// C = op(A) op(B) in blocks (shared/blocks.wgsl).
override ROWS: u32 = M;
override COLUMNS: u32 = N;
override DEPTH: u32 = K;
override ACROSS_A: u32 = TRANS_A;
override ACROSS_B: u32 = 1u - TRANS_B;

@compute @workgroup_size(256)
fn bmm_block(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    var block: vec3<u32>;
    if !find(group, groups, BLOCK, &block) {
        return;
    }
    block_product(block, thread);
    let scalars = finish_scalars(group.z);
    for (var r = 0u; r < RESULTS; r++) {
        let e = result(block, thread, r);
        if e.inside {
            let i = to_c + e.row * N + e.column;
            c[group.z * BATCH * M * N + i] = finish(scalars, group.z, i, e.sum);
        }
    }
}

// Behind quads.wgsl for any IN.

@compute @workgroup_size(THREADS)
fn dense_grad_quads_any(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    way_back(group, thread);
}

@compute @workgroup_size(THREADS)
fn dense_update_quads_any(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    updates(group, thread);
}

// C, the sum of its parts (shared/parts.wgsl).
@compute @workgroup_size(256)
fn matmul_parts_sum(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    add_parts(group, groups, thread);
}

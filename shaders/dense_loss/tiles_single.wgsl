// Behind tiles.wgsl and tiles_ones.wgsl where the workgroup is larger than the tiles need.

@compute @workgroup_size(THREADS)
fn dense_loss_single(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    by_tiles(group.z, thread);
}

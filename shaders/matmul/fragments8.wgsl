// Matrix units of 8 x 8 and subgroups of 8 threads (llvmpipe). These two lines must come
// first in a module.
enable f16;
enable wgpu_cooperative_matrix;

alias FragmentA = coop_mat8x8<f16, A>;
alias FragmentB = coop_mat8x8<f16, B>;
alias FragmentC = coop_mat8x8<f32, C>;
const FRAGMENT: u32 = 8u;

@compute @workgroup_size(THREADS)
fn matmul_fragments8(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
    @builtin(subgroup_id) crew: u32,
) {
    store(group, thread, crew);
}

// Matrix units of 8 x 8 and subgroups of 8 threads (llvmpipe). These two lines must come
// first in a module.
enable f16;
enable wgpu_cooperative_matrix;

alias FragmentA = coop_mat8x8<f16, A>;
alias FragmentB = coop_mat8x8<f16, B>;
alias FragmentC = coop_mat8x8<f32, C>;
const FRAGMENT: u32 = 8u;

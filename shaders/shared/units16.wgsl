// Matrix units of 16 x 16 and subgroups of 32 threads (NVIDIA). These two lines must come
// first in a module.
enable f16;
enable wgpu_cooperative_matrix;

alias FragmentA = coop_mat16x16<f16, A>;
alias FragmentB = coop_mat16x16<f16, B>;
alias FragmentC = coop_mat16x16<f32, C>;
const FRAGMENT: u32 = 16u;

// What kernels of one workgroup share where they follow each other in one launch
// (src/plan/persistent.rs): the number of threads, and the memory, of which each has all.

override THREADS: u32 = 256u;

const SHARED: u32 = 4096u;

var<workgroup> shares: array<f32, SHARED>;

// y = x where a random word is at least DROP, times MASK_SCALE; else 0. One thread per four
// elements, which share a Philox block; z is the replica.

override N: u32 = 1u;
override DROP: u32 = 0u;
override STREAM: u32 = 0u;
override MASK_SCALE: f32 = 1.0;

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> keys: array<u32>;
@group(0) @binding(2) var<storage, read> step: array<u32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(64)
fn dropout(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let block = item(group, groups, lane);
    if block * 4u >= N {
        return;
    }
    let words = random_words(group.z, STREAM, step[2u * group.z + 1u], block);
    for (var j = 0u; j < 4u; j++) {
        let i = block * 4u + j;
        if i < N {
            let at = group.z * N + i;
            y[at] = select(0.0, MASK_SCALE * x[at], words[j] >= DROP);
        }
    }
}
